//! Ctrl-C and SIGTERM: noticed, never ignored, and never the end of us before the instances are gone.
//!
//! The handler only stores and wakes: an event descriptor that stands in every `poll` of the measured path, so that no
//! signal falls between a check and a sleep. `run`, which sleeps inside a backend, names a victim that the handler kills.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::sync::atomic::{AtomicBool, AtomicI32, Ordering};

use nix::sys::eventfd::{EfdFlags, EventFd};
use nix::sys::signal::{SaFlags, SigAction, SigHandler, SigSet, Signal, sigaction};

/// The first signal that came, or 0.
static CAUGHT: AtomicI32 = AtomicI32::new(0);
/// The event descriptor, or -1.
static WAKE: AtomicI32 = AtomicI32::new(-1);
/// A process that dies with us, or 0.
static VICTIM: AtomicI32 = AtomicI32::new(0);
/// No instance is alive any more: a further signal ends us at once.
static LAST_STEPS: AtomicBool = AtomicBool::new(false);

extern "C" fn handler(signal: libc::c_int) {
    let first = CAUGHT.compare_exchange(0, signal, Ordering::SeqCst, Ordering::SeqCst).is_ok();
    if !first && LAST_STEPS.load(Ordering::SeqCst) {
        // SAFETY: _exit(2) is async-signal-safe and takes any number; nothing of ours needs to be unwound, that is
        // what LAST_STEPS promises.
        unsafe { libc::_exit(128 + signal) };
    }
    let victim = VICTIM.load(Ordering::SeqCst);
    if victim > 0 {
        // SAFETY: kill(2) is async-signal-safe and touches no memory; `victim` is a child that is not yet reaped,
        // since `release` is called before its handle goes.
        unsafe { libc::kill(victim, libc::SIGKILL) };
    }
    let wake = WAKE.load(Ordering::SeqCst);
    if wake >= 0 {
        let one = 1_u64;
        // SAFETY: write(2) is async-signal-safe; it reads the eight bytes of `one`, which lives until it returns. The
        // descriptor is that of an `Interrupts` that is never dropped while handlers are in place (it is leaked).
        unsafe { libc::write(wake, (&raw const one).cast(), 8) };
    }
}

fn install_handlers() -> io::Result<()> {
    // No SA_RESTART: a blocking call shall return.
    let action = SigAction::new(SigHandler::Handler(handler), SaFlags::empty(), SigSet::empty());
    for signal in [Signal::SIGINT, Signal::SIGTERM] {
        // SAFETY: the handler calls only async-signal-safe functions and touches only atomics.
        unsafe { sigaction(signal, &action) }?;
    }
    Ok(())
}

/// Signal handling of a long command.
#[derive(Debug, Clone, Copy)]
pub struct Interrupts {
    wake: &'static EventFd,
}

impl Interrupts {
    /// Puts the handlers in place; once a process.
    ///
    /// # Errors
    /// The system call that failed.
    pub fn install() -> io::Result<Self> {
        let wake = EventFd::from_value_and_flags(0, EfdFlags::EFD_CLOEXEC | EfdFlags::EFD_NONBLOCK)?;
        // Leaked on purpose: the handler may run until the very end of the process.
        let wake: &'static EventFd = Box::leak(Box::new(wake));
        WAKE.store(wake.as_fd().as_raw_fd(), Ordering::SeqCst);
        install_handlers()?;
        Ok(Self { wake })
    }

    /// Becomes and stays readable when a signal came.
    #[must_use]
    pub fn fd(&self) -> BorrowedFd<'static> {
        self.wake.as_fd()
    }

    /// The signal that came first, if any.
    #[must_use]
    pub fn caught(&self) -> Option<i32> {
        caught()
    }

    /// Says that no instance is alive and none will be started: from now on a second signal ends the process at once.
    pub fn last_steps(&self) {
        LAST_STEPS.store(true, Ordering::SeqCst);
    }
}

/// The signal that came first, if any.
#[must_use]
pub fn caught() -> Option<i32> {
    match CAUGHT.load(Ordering::SeqCst) {
        0 => None,
        signal => Some(signal),
    }
}

/// Signal handling of `run`: two system calls, and the one child dies with us.
///
/// # Errors
/// The system call that failed.
pub fn kill_child_on_interrupt() -> io::Result<()> {
    install_handlers()
}

/// Names the child that a signal shall kill; one that came before is caught up with.
pub fn guard(pid: i32) {
    VICTIM.store(pid, Ordering::SeqCst);
    if caught().is_some() && pid > 0 {
        // SAFETY: kill(2) touches no memory; `pid` is the caller's own child, not yet reaped.
        unsafe { libc::kill(pid, libc::SIGKILL) };
    }
}

/// Takes the name back: the child is about to be reaped, its number may be another's soon.
pub fn release() {
    VICTIM.store(0, Ordering::SeqCst);
}
