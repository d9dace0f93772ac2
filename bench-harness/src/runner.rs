//! One launch, observed from outside: the only code that runs inside a measured window.
//!
//! What it does there is one `poll`, one reading of the clock and one `read` for each time that output arrives. Nothing
//! is parsed, allocated or printed until the instance is gone. What that costs is measured by [`Observer::window_cost_ns`]
//! and recorded beside the results. With `--pin` there is one `sched_setaffinity` more, after the start: the one back to
//! the harness's own CPUs, while the instance already runs.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::FileExt;
use std::time::Duration;

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, OFlag, SealFlag, fcntl};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::memfd::{MFdFlags, memfd_create};
use nix::unistd::{Whence, ftruncate, lseek, pipe2, read, write};

mod failure;
mod observed;

pub use failure::LaunchFailure;
use failure::observe;
pub use observed::{Observed, phases_until_ready};

use crate::clock::now_ns;
use crate::pinning::Pinning;
use crate::signals::Interrupts;
use crate::target::{End, Instance, Prepared, Stdio};

/// Output that one launch may print; more is a failure of the workload, and ends it.
pub const OUTPUT_LIMIT: usize = 1 << 20;
/// What is kept ready for it, touched beforehand: a pipe's capacity.
const OUTPUT_USUAL: usize = 64 << 10;
/// The same for each of many observers: what a launch says that does nothing.
const OUTPUT_LITTLE: usize = 4 << 10;
/// What is kept of standard error; more is refused to the program, as a full disk would.
const STDERR_LIMIT: i64 = 16 << 10;
/// Part of standard error that is quoted.
const STDERR_QUOTE: usize = 200;
/// Longest time to wait for an instance that was killed. Nothing is faster than SIGKILL; a process that is stuck in the
/// kernel must not take the whole run with it.
const KILL_TIMEOUT: Duration = Duration::from_secs(10);

/// How often it is looked whether a signal came to us, while an instance that has closed its output does not end. Others are gone
/// long before.
const SIGNAL_LOOK: Duration = Duration::from_millis(100);

/// An instance that is past its first output and was not ended.
pub struct Running {
    /// It.
    pub instance: Box<dyn Instance>,
    /// Keeps its standard input open: end of file would end it.
    stdin: OwnedFd,
    /// Keeps its standard output open: a write after this would end it.
    stdout: OwnedFd,
    /// What it has said so far.
    said: Vec<u8>,
}

/// Waits until `since` and `patience` for output and adds it to `said`; `false` at its end. Not for measured windows.
fn more(
    stdout: &OwnedFd,
    said: &mut Vec<u8>,
    since: u64,
    patience: Duration,
    interrupts: Option<Interrupts>,
) -> Result<bool, LaunchFailure> {
    let mut piece = [0; 4096];
    let deadline = since.saturating_add(nanos(patience));
    loop {
        let left = Duration::from_nanos(deadline.saturating_sub(now_ns()));
        if left.is_zero() {
            return Err(LaunchFailure::Timeout(patience));
        }
        let interrupt = interrupts.map(|interrupts| interrupts.fd());
        let mut fds = [
            PollFd::new(stdout.as_fd(), PollFlags::POLLIN),
            PollFd::new(interrupt.unwrap_or(stdout.as_fd()), PollFlags::POLLIN),
        ];
        let millis = i32::try_from(left.as_millis().saturating_add(1)).unwrap_or(i32::MAX);
        match poll(&mut fds, PollTimeout::try_from(millis).unwrap_or(PollTimeout::MAX)) {
            Ok(_) if interrupt.is_some() && fds[1].any().unwrap_or(false) => {
                return Err(LaunchFailure::Interrupted);
            }
            Ok(_) if !fds[0].any().unwrap_or(false) => continue,
            Ok(_) => {}
            Err(Errno::EINTR) => continue,
            Err(errno) => return Err(observe("wait for output")(errno)),
        }
        match read(stdout, &mut piece) {
            Err(Errno::EINTR) => {}
            Err(errno) => return Err(observe("read output")(errno)),
            Ok(count) if said.len() + count > OUTPUT_LIMIT => return Err(LaunchFailure::Flood),
            Ok(count) => {
                said.extend_from_slice(piece.get(..count).unwrap_or_default());
                return Ok(count > 0);
            }
        }
    }
}

/// Starts instances and observes them. One for a whole run: its buffers are touched once.
#[derive(Debug)]
pub struct Observer {
    interrupts: Option<Interrupts>,
    pinning: Option<Pinning>,
    timeout: Duration,
    stderr: File,
    output: Vec<u8>,
    /// How much of `output` holds this launch's data.
    have: usize,
    /// `have` after each read, and when that read's data was seen.
    arrivals: Vec<(usize, u64)>,
}

/// What was waited for.
enum Seen {
    Output,
    Eof,
}

impl Observer {
    /// Prepares buffers. `timeout` is the longest time that one launch may take.
    ///
    /// # Errors
    /// The step that failed.
    pub fn new(interrupts: Option<Interrupts>, timeout: Duration) -> Result<Self, LaunchFailure> {
        Self::with_buffer(interrupts, timeout, OUTPUT_USUAL)
    }

    /// Starts instances on CPUs of their own from now on, and watches from others.
    #[must_use]
    pub fn pinned(self, pinning: Option<Pinning>) -> Self {
        Self { pinning, ..self }
    }

    /// Another one like this, for another thread: with little room, since there are many of it.
    ///
    /// # Errors
    /// The step that failed.
    pub fn another(&self) -> Result<Self, LaunchFailure> {
        let other = Self::with_buffer(self.interrupts, self.timeout, OUTPUT_LITTLE)?;
        Ok(other.pinned(self.pinning.clone()))
    }

    /// How many CPUs its instances have.
    #[must_use]
    pub fn cpus(&self) -> usize {
        match &self.pinning {
            Some(pinning) => pinning.placement.instances.len(),
            None => std::thread::available_parallelism().map_or(1, usize::from),
        }
    }

    fn with_buffer(
        interrupts: Option<Interrupts>,
        timeout: Duration,
        room: usize,
    ) -> Result<Self, LaunchFailure> {
        let stderr = memfd_create(c"stderr", MFdFlags::MFD_CLOEXEC | MFdFlags::MFD_ALLOW_SEALING)
            .map_err(observe("memory for standard error"))?;
        ftruncate(&stderr, STDERR_LIMIT).map_err(observe("memory for standard error"))?;
        let seals = SealFlag::F_SEAL_GROW | SealFlag::F_SEAL_SHRINK;
        fcntl(&stderr, FcntlArg::F_ADD_SEALS(seals)).map_err(observe("limit for standard error"))?;
        // Not zeros: those would be pages that are made only when first written, inside a measured window. No larger than
        // what any workload says: a target that forks copies the entries of all our pages, and shares in their memory.
        let output = vec![1; room];
        Ok(Self {
            interrupts,
            pinning: None,
            timeout,
            stderr: stderr.into(),
            output,
            have: 0,
            arrivals: Vec::with_capacity(room / 16),
        })
    }

    /// One launch from start until nothing is left of it.
    ///
    /// # Errors
    /// Whatever kept it from ending by itself. How it ended is for the caller to judge.
    pub fn whole(&mut self, prepared: &dyn Prepared) -> Result<Observed, LaunchFailure> {
        let (mut instance, stdin, stdout, start_ns) = self.start(prepared)?;
        // A workload that reads finds the end of file at once.
        drop(stdin);
        let deadline = start_ns.saturating_add(nanos(self.timeout));
        let eof_ns = loop {
            match self.next(&stdout, deadline) {
                Ok((Seen::Output, _)) => {}
                Ok((Seen::Eof, at)) => break at,
                Err(failure) => return Err(give_up(&mut *instance, failure)),
            }
        };
        let left = Duration::from_nanos(deadline.saturating_sub(eof_ns)).max(Duration::from_millis(1));
        let end = self.end(&mut *instance, left, self.timeout)?;
        // The window is closed; from here on nothing is measured.
        let ready_ns = self.arrivals.first().map(|&(_, at)| at);
        let mut phases = instance.phases(start_ns);
        if let Some(ready) = ready_ns {
            phases = phases_until_ready(phases, instance.last_phase(), ready.saturating_sub(start_ns));
        }
        Ok(Observed {
            start_ns,
            ready_ns,
            eof_ns,
            phases,
            output: self.output[..self.have].to_vec(),
            arrivals: self.arrivals.clone(),
            stderr: self.complaints(&end.notes),
            end,
        })
    }

    /// One launch until its first output. The instance is handed over, running.
    ///
    /// # Errors
    /// Where it ended before, or printed nothing in time.
    pub fn until_output(&mut self, prepared: &dyn Prepared) -> Result<Running, LaunchFailure> {
        let (mut instance, stdin, stdout, start_ns) = self.start(prepared)?;
        let deadline = start_ns.saturating_add(nanos(self.timeout));
        match self.next(&stdout, deadline) {
            Ok((Seen::Output, _)) => {
                let said = self.output[..self.have].to_vec();
                Ok(Running { instance, stdin, stdout, said })
            }
            Ok((Seen::Eof, _)) => Err(match instance.wait(Some(KILL_TIMEOUT)) {
                Ok(Some(end)) => {
                    let stderr = self.complaints(&end.notes);
                    LaunchFailure::Silent { status: end.status, stderr }
                }
                Ok(None) => give_up(&mut *instance, LaunchFailure::Timeout(KILL_TIMEOUT)),
                Err(error) => give_up(&mut *instance, LaunchFailure::End(error)),
            }),
            Err(failure) => Err(give_up(&mut *instance, failure)),
        }
    }

    /// Waits until a running one has said this line, for as long as `patience`.
    ///
    /// # Errors
    /// Where it ended before, took longer, or a signal came to us.
    pub fn wait_for(
        &self,
        running: &mut Running,
        line: &[u8],
        patience: Duration,
    ) -> Result<(), LaunchFailure> {
        let since = now_ns();
        while !running.said.windows(line.len()).any(|part| part == line) {
            match more(&running.stdout, &mut running.said, since, patience, self.interrupts) {
                Ok(true) => {}
                Ok(false) => {
                    return Err(LaunchFailure::Protocol(format!("it ended early{}", self.complaints(&[]))));
                }
                Err(failure) => return Err(failure),
            }
        }
        Ok(())
    }

    /// Ends a running one's standard input, and returns what it says from then on and how it ends. Must do so within `patience`.
    ///
    /// # Errors
    /// What kept it from ending, or a signal that came to us; it is killed then.
    pub fn finish(&self, running: Running, patience: Duration) -> Result<(Vec<u8>, End), LaunchFailure> {
        let Running { mut instance, stdin, stdout, mut said } = running;
        drop(stdin);
        said.clear();
        let since = now_ns();
        loop {
            match more(&stdout, &mut said, since, patience, self.interrupts) {
                Ok(true) => {}
                Ok(false) => break,
                Err(failure) => return Err(give_up(&mut *instance, failure)),
            }
        }
        Ok((said, self.end(&mut *instance, patience, patience)?))
    }

    /// Waits for the end of one that says nothing any more for as long as `left`, of `patience` in all; kills it then, or when a
    /// signal comes to us.
    fn end(
        &self,
        instance: &mut dyn Instance,
        mut left: Duration,
        patience: Duration,
    ) -> Result<End, LaunchFailure> {
        loop {
            let piece = left.min(SIGNAL_LOOK);
            match instance.wait(Some(piece)) {
                Ok(Some(end)) => return Ok(end),
                Ok(None) => {}
                Err(error) => return Err(give_up(instance, LaunchFailure::End(error))),
            }
            left -= piece;
            if self.interrupts.is_some_and(|interrupts| interrupts.caught().is_some()) {
                return Err(give_up(instance, LaunchFailure::Interrupted));
            }
            if left.is_zero() {
                return Err(give_up(instance, LaunchFailure::Timeout(patience)));
            }
        }
    }

    /// What one observation costs: from data being there to its instant being known, on a pipe of our own.
    ///
    /// # Errors
    /// The step that failed.
    pub fn window_cost_ns(&mut self) -> Result<u64, LaunchFailure> {
        let (reader, writer) = pipe2(OFlag::O_CLOEXEC).map_err(observe("make a pipe"))?;
        write(&writer, b"x").map_err(observe("write to a pipe"))?;
        self.have = 0;
        self.arrivals.clear();
        let before = now_ns();
        let (_, at) = self.next(&reader, u64::MAX)?;
        Ok(at.saturating_sub(before))
    }

    fn start(
        &mut self,
        prepared: &dyn Prepared,
    ) -> Result<(Box<dyn Instance>, OwnedFd, OwnedFd, u64), LaunchFailure> {
        if self.interrupts.is_some_and(|interrupts| interrupts.caught().is_some()) {
            return Err(LaunchFailure::Interrupted);
        }
        self.have = 0;
        self.arrivals.clear();
        lseek(&self.stderr, 0, Whence::SeekSet).map_err(observe("rewind standard error"))?;
        let (stdin_read, stdin) = pipe2(OFlag::O_CLOEXEC).map_err(observe("make a pipe"))?;
        let (stdout, stdout_write) = pipe2(OFlag::O_CLOEXEC).map_err(observe("make a pipe"))?;
        let stderr =
            self.stderr.try_clone().map_err(|source| LaunchFailure::Observe { step: "dup", source })?;
        let stdio =
            Stdio { stdin: Some(stdin_read), stdout: Some(stdout_write), stderr: Some(stderr.into()) };
        let move_to = |place: fn(&Pinning) -> io::Result<()>, step| {
            let moved = self.pinning.as_ref().map_or(Ok(()), place);
            moved.map_err(|source| LaunchFailure::Observe { step, source })
        };
        move_to(Pinning::to_instances, "go to the instances' CPUs")?;
        let start_ns = now_ns();
        let started = prepared.spawn(stdio).map_err(LaunchFailure::Start);
        move_to(Pinning::to_harness, "go back to the harness's CPUs")?;
        let instance = started?;
        Ok((instance, stdin, stdout, start_ns))
    }

    /// Sleeps until output, its end, a signal or the deadline.
    fn next(&mut self, stdout: &OwnedFd, deadline: u64) -> Result<(Seen, u64), LaunchFailure> {
        loop {
            let left = Duration::from_nanos(deadline.saturating_sub(now_ns()));
            // Rounded up: a poll that returns too early would be made again and again.
            let millis = i32::try_from(left.as_millis().saturating_add(1)).unwrap_or(i32::MAX);
            let interrupt = self.interrupts.map(|interrupts| interrupts.fd());
            let watched = 1 + usize::from(interrupt.is_some());
            let mut fds = [
                PollFd::new(stdout.as_fd(), PollFlags::POLLIN),
                PollFd::new(interrupt.unwrap_or(stdout.as_fd()), PollFlags::POLLIN),
            ];
            let ready = poll(&mut fds[..watched], PollTimeout::try_from(millis).unwrap_or(PollTimeout::MAX));
            let at = now_ns();
            match ready {
                Err(Errno::EINTR) => continue,
                Err(errno) => return Err(observe("wait for output")(errno)),
                Ok(_) => {}
            }
            if watched == 2 && fds[1].any().unwrap_or(false) {
                return Err(LaunchFailure::Interrupted);
            }
            if !fds[0].any().unwrap_or(false) {
                if at >= deadline {
                    return Err(LaunchFailure::Timeout(self.timeout));
                }
                continue;
            }
            if self.have > OUTPUT_LIMIT {
                return Err(LaunchFailure::Flood);
            }
            if self.have == self.output.len() {
                // More than any workload of ours says; at most twice the limit.
                self.output.resize(2 * self.have, 1);
            }
            match read(stdout, &mut self.output[self.have..]) {
                Err(Errno::EINTR) => {}
                Err(errno) => return Err(observe("read output")(errno)),
                Ok(0) => return Ok((Seen::Eof, at)),
                Ok(count) => {
                    self.have += count;
                    self.arrivals.push((self.have, at));
                    return Ok((Seen::Output, at));
                }
            }
        }
    }

    /// What the program said on standard error, and the target about it.
    fn complaints(&self, notes: &[String]) -> String {
        let written = lseek(&self.stderr, 0, Whence::SeekCur).unwrap_or(0).clamp(0, STDERR_LIMIT);
        let mut text = vec![0; usize::try_from(written).unwrap_or(0)];
        let have = self.stderr.read_at(&mut text, 0).unwrap_or(0);
        text.truncate(have.min(STDERR_QUOTE));
        let mut parts: Vec<String> = notes.to_vec();
        parts.extend(String::from_utf8_lossy(&text).lines().map(|line| line.trim().to_owned()));
        parts.retain(|part| !part.is_empty());
        if parts.is_empty() { String::new() } else { format!("; {}", parts.join("; ")) }
    }
}

/// Kills and reaps; the failure stays what it was, unless even that fails.
fn give_up(instance: &mut dyn Instance, failure: LaunchFailure) -> LaunchFailure {
    instance.kill();
    match instance.wait(Some(KILL_TIMEOUT)) {
        Ok(None) => LaunchFailure::Unkillable,
        Ok(Some(_)) | Err(_) => failure,
    }
}

fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::target::fake::{Act, Fake, Journal, Script};

    #[test]
    fn what_does_not_end_when_it_is_asked_to_is_ended_after_the_patience_that_it_is_blamed_for() {
        let acts = vec![Act::Print(b"ready\n".to_vec()), Act::Hang];
        let journal = Journal::default();
        let target = Fake::new("deaf", vec![Script::Play(acts)], &journal);
        let mut observer = Observer::new(None, Duration::from_secs(1)).unwrap();
        let running = observer.until_output(&target).unwrap();
        let patience = Duration::from_millis(50);
        let failure = observer.finish(running, patience).map(|(said, _)| said).unwrap_err();
        assert!(matches!(failure, LaunchFailure::Timeout(blamed) if blamed == patience), "{failure}");
        assert_eq!(journal.entries(), ["spawn deaf", "gone deaf"]);
    }

    #[test]
    fn observing_costs_microseconds() {
        let mut observer = Observer::new(None, Duration::from_secs(1)).unwrap();
        let least = (0..100).map(|_| observer.window_cost_ns().unwrap()).min().unwrap();
        assert!(least < 1_000_000, "{least} ns");
    }
}
