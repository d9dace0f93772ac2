//! A running instance: waiting for it, ending it, leaving nothing of it.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use crate::beside::Maker;
use crate::cgroup::{Figures, Group, Usage};
use crate::error::ProcessError;
use crate::sys::{monotonic_ns, timespec};
use crate::timeline::Timeline;
use crate::veth::OuterEnd;

/// How a program ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Status {
    /// By itself, with this code.
    Exited(i32),
    /// By this signal.
    Signaled(i32),
}

impl Status {
    /// The code that a shell shows for it: 128 + N for signal N.
    #[must_use]
    pub const fn code(self) -> i32 {
        match self {
            Self::Exited(code) => code,
            Self::Signaled(signal) => 128 + signal,
        }
    }

    /// Whether the program ended by itself with code 0.
    #[must_use]
    pub const fn success(self) -> bool {
        matches!(self, Self::Exited(0))
    }
}

/// What the kernel counted for one child and the descendants it has waited for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Resources {
    /// CPU time in user mode.
    pub user_ns: u64,
    /// CPU time in the kernel.
    pub system_ns: u64,
    /// The largest resident set.
    pub max_rss_bytes: u64,
    /// Page faults served without reading.
    pub minor_faults: u64,
    /// Page faults that read from a device.
    pub major_faults: u64,
    /// Context switches by waiting.
    pub voluntary_switches: u64,
    /// Context switches by being preempted.
    pub involuntary_switches: u64,
}

/// The end of an instance. The instants are `CLOCK_MONOTONIC` nanoseconds.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Exit {
    /// How the program ended.
    pub status: Status,
    /// What it used.
    pub resources: Resources,
    /// What its control group counted; `None` without one, or where
    /// [`Config::read_usage`](crate::Config::read_usage) or [`read_limits_met`](crate::Config::read_limits_met) was not asked for.
    pub usage: Option<Usage>,
    /// When the caller was told that it has ended.
    pub ended_ns: u64,
    /// When it had been reaped.
    pub reaped_ns: u64,
    /// When nothing was left: its control group, if it had one, is removed.
    pub gone_ns: u64,
}

/// What of an instance does not end with its processes.
#[derive(Debug)]
pub(crate) struct Belongings {
    pub(crate) group: Option<Group>,
    pub(crate) end: Option<OuterEnd>,
    /// Who takes its mount namespace down.
    pub(crate) maker: Option<Maker>,
}

/// A running instance. Dropping it kills and reaps it, and removes its control group.
#[derive(Debug)]
pub struct Process {
    pid: i32,
    pidfd: OwnedFd,
    timeline: Timeline,
    group: Option<Group>,
    end: Option<OuterEnd>,
    maker: Option<Maker>,
    read_usage: Option<Figures>,
    /// Whether the first process's death is everyone's (it is process 1 of a PID namespace).
    whole_kill: bool,
    exit: Option<Exit>,
    /// Whether it is to run on when this is dropped.
    detached: bool,
}

impl Process {
    pub(crate) fn new(
        pid: i32,
        pidfd: OwnedFd,
        timeline: Timeline,
        Belongings { group, end, maker }: Belongings,
        read_usage: Option<Figures>,
        whole_kill: bool,
    ) -> Self {
        Self { pid, pidfd, timeline, group, end, maker, read_usage, whole_kill, exit: None, detached: false }
    }

    /// The first process's number, as the caller sees it.
    #[must_use]
    pub fn pid(&self) -> i32 {
        self.pid
    }

    /// The first process's descriptor: readable when it has ended.
    #[must_use]
    pub fn pidfd(&self) -> BorrowedFd<'_> {
        self.pidfd.as_fd()
    }

    /// When each phase of the start ended.
    #[must_use]
    pub fn timeline(&self) -> &Timeline {
        &self.timeline
    }

    /// The instance's control group directories; empty where it has none, or no longer.
    #[must_use]
    pub fn cgroup_paths(&self) -> Vec<PathBuf> {
        self.group.as_ref().map(Group::paths).unwrap_or_default()
    }

    /// The name of the outer end of the instance's veth pair; `None` where it has none, or no longer.
    #[must_use]
    pub fn outer_interface(&self) -> Option<&str> {
        self.end.as_ref().map(OuterEnd::name)
    }

    /// What the instance's control group counts at this moment; `None` where it has none, or no longer.
    #[must_use]
    pub fn usage(&self) -> Option<Usage> {
        self.group.as_ref().map(|group| group.usage(Figures::All))
    }

    /// Waits for the program's end, at most for `timeout`; `None` if it is still running then.
    ///
    /// When this returns an [`Exit`], nothing of the instance is left, but for what
    /// [`Config::start_soon`](crate::Config::start_soon) says. Asked again, it returns the same one.
    ///
    /// # Errors
    ///
    /// If the kernel refuses the wait, or the control group cannot be removed.
    pub fn wait(&mut self, timeout: Option<Duration>) -> Result<Option<Exit>, ProcessError> {
        if self.exit.is_none() {
            if !self.poll(timeout)? {
                return Ok(None);
            }
            self.finish(monotonic_ns())?;
        }
        Ok(self.exit.clone())
    }

    /// Kills the instance. With a PID namespace or a control group, that is every process of it.
    ///
    /// # Errors
    ///
    /// If the kernel refuses to send the signal. An instance that has ended already is no error.
    pub fn kill(&self) -> Result<(), ProcessError> {
        if self.exit.is_some() {
            return Ok(());
        }
        let sent = send_kill(&self.pidfd);
        if let Some(group) = self.group.as_ref().filter(|_| !self.whole_kill) {
            group.kill();
        }
        match sent {
            Err(source) if source.raw_os_error() != Some(libc::ESRCH) => {
                Err(ProcessError::Kill { pid: self.pid, source })
            }
            _ => Ok(()),
        }
    }

    /// Lets the instance run on by itself, whoever ends when: nothing of this crate is left beside it. Its number, for those who
    /// want to find it; it stays a child of the caller until that ends.
    ///
    /// For a [`Config`](crate::Config) without [`die_with_caller`](crate::Config::die_with_caller). A veth pair goes with it.
    ///
    /// # Errors
    ///
    /// The process itself, where it has a control group: somebody must stay who removes that.
    pub fn detach(mut self) -> Result<i32, Box<Self>> {
        if self.group.is_some() {
            return Err(Box::new(self));
        }
        if let Some(end) = self.end.take() {
            end.leave();
        }
        self.settle();
        self.detached = true;
        Ok(self.pid)
    }

    /// Says that the instance stays for long: a thread that would make its end shorter is not kept for that
    /// ([`Config::start_soon`](crate::Config::start_soon) may have left one).
    pub fn settle(&mut self) {
        drop(self.maker.take());
    }

    /// Whether the process has ended, or does so within `timeout`.
    fn poll(&self, timeout: Option<Duration>) -> Result<bool, ProcessError> {
        let deadline = timeout.and_then(|timeout| Instant::now().checked_add(timeout));
        loop {
            let left = deadline.map(|deadline| timespec(deadline.saturating_duration_since(Instant::now())));
            let left = left.as_ref().map_or(std::ptr::null(), std::ptr::from_ref);
            let mut poll = libc::pollfd { fd: self.pidfd.as_raw_fd(), events: libc::POLLIN, revents: 0 };
            // SAFETY: one pollfd of an open descriptor, a timespec or none, no signal mask.
            match unsafe { libc::ppoll(&raw mut poll, 1, left, std::ptr::null()) } {
                0 => return Ok(false),
                1.. => return Ok(true),
                _ => {
                    let source = io::Error::last_os_error();
                    if source.kind() != io::ErrorKind::Interrupted {
                        return Err(ProcessError::Poll { pid: self.pid, source });
                    }
                }
            }
        }
    }

    /// Reaps the ended process and removes what is left of the instance.
    fn finish(&mut self, ended_ns: u64) -> Result<(), ProcessError> {
        if let Some(maker) = &self.maker {
            maker.release();
        }
        let (status, resources) =
            wait_pidfd(&self.pidfd).map_err(|source| ProcessError::Reap { pid: self.pid, source })?;
        let reaped_ns = monotonic_ns();
        let usage = self.group.as_ref().zip(self.read_usage).map(|(group, figures)| group.usage(figures));
        let removed = self.group.as_mut().map_or(Ok(()), Group::remove);
        drop(self.end.take());
        drop(self.maker.take());
        let gone_ns = monotonic_ns();
        self.group = None;
        self.exit = Some(Exit { status, resources, usage, ended_ns, reaped_ns, gone_ns });
        Ok(removed?)
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if !self.detached && self.exit.is_none() && self.kill().is_ok() {
            // Nobody is left to be told of a failure; the group's own drop tries again, and the janitor after it.
            drop(self.finish(0));
        }
    }
}

/// Kills a process.
pub(crate) fn send_kill(pidfd: &OwnedFd) -> io::Result<()> {
    let none = std::ptr::null::<libc::siginfo_t>();
    // SAFETY: pidfd_send_signal with numbers and no siginfo; a pidfd cannot name another process than its own.
    match unsafe { libc::syscall(libc::SYS_pidfd_send_signal, pidfd.as_raw_fd(), libc::SIGKILL, none, 0) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

/// Reaps a child that is known to have ended, or to be about to.
pub(crate) fn reap(pidfd: &OwnedFd) -> Option<Status> {
    wait_pidfd(pidfd).ok().map(|(status, _)| status)
}

/// waitid(2) by pidfd, with the resources that the C library's function leaves out.
fn wait_pidfd(pidfd: &OwnedFd) -> io::Result<(Status, Resources)> {
    // SAFETY: all zero is a valid siginfo_t and a valid rusage.
    let (mut info, mut usage): (libc::siginfo_t, libc::rusage) = unsafe { std::mem::zeroed() };
    loop {
        let (info, usage) = (&raw mut info, &raw mut usage);
        // SAFETY: waitid(2) writes one siginfo and one rusage, which these are.
        let done = unsafe {
            libc::syscall(libc::SYS_waitid, libc::P_PIDFD, pidfd.as_raw_fd(), info, libc::WEXITED, usage)
        };
        if done == 0 {
            break;
        }
        let error = io::Error::last_os_error();
        if error.kind() != io::ErrorKind::Interrupted {
            return Err(error);
        }
    }
    // SAFETY: waitid has filled in a child's siginfo.
    let value = unsafe { info.si_status() };
    let status =
        if info.si_code == libc::CLD_EXITED { Status::Exited(value) } else { Status::Signaled(value) };
    Ok((status, resources(&usage)))
}

fn resources(usage: &libc::rusage) -> Resources {
    let count = |value: libc::c_long| u64::try_from(value).unwrap_or(0);
    let ns = |time: libc::timeval| count(time.tv_sec) * 1_000_000_000 + count(time.tv_usec) * 1000;
    Resources {
        user_ns: ns(usage.ru_utime),
        system_ns: ns(usage.ru_stime),
        max_rss_bytes: count(usage.ru_maxrss) * 1024,
        minor_faults: count(usage.ru_minflt),
        major_faults: count(usage.ru_majflt),
        voluntary_switches: count(usage.ru_nvcsw),
        involuntary_switches: count(usage.ru_nivcsw),
    }
}
