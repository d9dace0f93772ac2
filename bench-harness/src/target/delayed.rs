//! A target that takes a known time longer: for testing whether the statistics find it.
//!
//! It cannot be chosen on the command line; `selftest` makes one. The delay is spent inside the measured window, before
//! the wrapped target is asked to start, and awake: a sleep would add the scheduler's own spread to it.

use std::time::Duration;

use super::{Instance, Launch, LaunchError, Prepared, SkipReason, Stdio, Target, TargetKind};
use crate::clock::now_ns;

/// A target, and how much longer every start of it takes.
pub struct Delayed {
    /// What is started after the delay.
    pub inner: Box<dyn Target>,
    /// The delay.
    pub by: Duration,
}

impl Target for Delayed {
    fn kind(&self) -> TargetKind {
        self.inner.kind()
    }

    fn probe(&self) -> Result<(), SkipReason> {
        self.inner.probe()
    }

    fn prepare(&self, launch: &Launch) -> Result<Box<dyn Prepared>, LaunchError> {
        Ok(Box::new(DelayedLaunch { inner: self.inner.prepare(launch)?, by: self.by }))
    }
}

struct DelayedLaunch {
    inner: Box<dyn Prepared>,
    by: Duration,
}

impl Prepared for DelayedLaunch {
    fn spawn(&self, stdio: Stdio) -> Result<Box<dyn Instance>, LaunchError> {
        let until = now_ns().saturating_add(u64::try_from(self.by.as_nanos()).unwrap_or(u64::MAX));
        while now_ns() < until {
            std::hint::spin_loop();
        }
        self.inner.spawn(stdio)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::target::fake::{Fake, Journal, Script};

    #[test]
    fn every_start_takes_as_much_longer_as_asked() {
        let inner = Fake::new("a", vec![Script::Play(Vec::new())], &Journal::default());
        let launch = Launch {
            program: crate::target::Program::Path("/".into()),
            argv: Vec::new(),
            mem_mib: None,
            pids: None,
            files: Vec::new(),
            once: false,
            network: false,
            container: None,
        };
        let delayed = Delayed { inner: Box::new(inner), by: Duration::from_millis(3) };
        let prepared = delayed.prepare(&launch).expect("a fake");
        let start = now_ns();
        let mut instance = prepared.spawn(Stdio::default()).expect("a fake");
        assert!(now_ns() - start >= 3_000_000);
        assert!(instance.wait(None).expect("it ends").is_some());
    }
}
