//! What passes between child and caller in the memory that both have.

use std::sync::atomic::{
    AtomicI32, AtomicU32, AtomicU64, Ordering::Acquire, Ordering::Relaxed, Ordering::Release,
};

use crate::futex::{wait_shared, wake};
use crate::timeline::Phase;

/// What the child leaves in the shared memory for the caller.
#[derive(Debug, Default)]
pub(crate) struct Shared {
    /// End of each phase; 0: not reached.
    pub(super) marks: [AtomicU64; Phase::ALL.len()],
    /// Index of the failed step, valid where `errno` is not 0.
    pub(super) failed: AtomicU32,
    /// Why it failed; 0: it did not.
    pub(super) errno: AtomicI32,
    /// Which exec is being done, when all steps are: [`AT_PROGRAM`], [`AT_INIT`].
    pub(super) at_exec: AtomicU32,
    /// The number of a program's process that is started beside an init, until it has executed the program or ended.
    pub(super) program: AtomicU32,
    /// 1 when the init is in its place and the program may be executed.
    pub(super) go: AtomicU32,
}

/// What became of a child, as seen by the caller after the clone has returned.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Fate {
    /// It went as far as exec, which did not fail.
    Executed,
    /// A step failed.
    Failed { op: usize, errno: i32 },
    /// exec failed.
    ExecFailed { errno: i32 },
    /// The program could not be started beside an init, or the init not be executed, which ends both.
    InitFailed { errno: i32 },
    /// It ended without a word.
    Killed,
}

impl Shared {
    /// The end of `phase` in nanoseconds, if it was reached.
    pub(crate) fn mark(&self, phase: Phase) -> Option<u64> {
        self.marks.get(phase as usize).map(|mark| mark.load(Relaxed)).filter(|&ns| ns != 0)
    }

    /// Lets a program be executed whose init is in its place, and waits until it is, or is not to be.
    pub(crate) fn let_go(&self) {
        if self.errno.load(Acquire) == 0 {
            self.go.store(1, Release);
            wake(&self.go);
        }
        loop {
            match self.program.load(Acquire) {
                0 => return,
                task => wait_shared(&self.program, task),
            }
        }
    }

    pub(crate) fn fate(&self) -> Fate {
        let errno = self.errno.load(Relaxed);
        match (errno, self.at_exec.load(Relaxed)) {
            // An init alone is no program.
            (0, 0 | AT_INIT) => Fate::Killed,
            (0, _) => Fate::Executed,
            (errno, 0) => Fate::Failed { op: self.failed.load(Relaxed) as usize, errno },
            (errno, AT_INIT) => Fate::InitFailed { errno },
            (errno, _) => Fate::ExecFailed { errno },
        }
    }
}

/// Values of [`Shared::at_exec`].
pub(super) const AT_PROGRAM: u32 = 1;
pub(super) const AT_INIT: u32 = 2;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_fate_is_told_from_what_was_stored() {
        let shared = Shared::default();
        assert_eq!(shared.fate(), Fate::Killed);
        shared.errno.store(libc::EPERM, Relaxed);
        shared.failed.store(3, Relaxed);
        assert_eq!(shared.fate(), Fate::Failed { op: 3, errno: libc::EPERM });
        shared.at_exec.store(AT_PROGRAM, Relaxed);
        assert_eq!(shared.fate(), Fate::ExecFailed { errno: libc::EPERM });
        shared.at_exec.store(AT_INIT, Relaxed);
        assert_eq!(shared.fate(), Fate::InitFailed { errno: libc::EPERM });
        shared.errno.store(0, Relaxed);
        assert_eq!(shared.fate(), Fate::Killed);
        shared.errno.store(libc::EPERM, Relaxed);
        shared.at_exec.store(AT_PROGRAM, Relaxed);
        shared.errno.store(0, Relaxed);
        assert_eq!(shared.fate(), Fate::Executed);
        assert_eq!(shared.mark(Phase::Clone), None);
    }
}
