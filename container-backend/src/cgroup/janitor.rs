//! The process that removes the control groups of a caller that was killed.
//!
//! Processes die with their caller (`PR_SET_PDEATHSIG`), directories do not. So a process that makes control groups has
//! one small process beside it, which holds nothing but a pidfd of the caller and an event, and sleeps in poll(2). When the caller
//! ends, in whatever way, or sends the event, the janitor removes the groups whose names begin with the caller's prefix, and ends.
//! (Not a pipe whose other end the caller holds: a process that the caller forks would hold it, too.) It is a program of one page
//! ([`sweeper`]): a fork would cost the caller a copy of its page tables and a fault for every page written to afterwards, and a
//! process that went on sharing its memory would be killed with it by the kernel's OOM killer.

use std::ffi::{CString, c_char, c_void};
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::ptr;
use std::sync::atomic::{AtomicBool, AtomicI32, AtomicU32, AtomicU64, Ordering::Acquire, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError, Weak};

use crate::cgroup::plan::name;
use crate::cgroup::sweeper;
use crate::futex::wait_shared;
use crate::prepare::{Strings, duplicate_above_stdio, open_caller};
use crate::process;
use crate::spawn::SignalsBlocked;
use crate::stack::Stack;
use crate::sys::{self, CloneArgs, attempt, call, flags};

/// A running janitor; it ends when this is dropped.
#[derive(Debug)]
pub(crate) struct Janitor {
    /// The beginning of the names of all groups that it removes.
    prefix: String,
    bases: Vec<CString>,
    next: AtomicU64,
    /// Whether a group could not be removed, and is left to it.
    owes: AtomicBool,
    /// Not its number: the exec has made it a child like any other, which the caller's own wait for any may reap.
    pidfd: OwnedFd,
    /// What the child needs until it has executed.
    duty: Box<Duty>,
    _stack: Stack,
}

/// The janitor that is running, if any group plan of this process is in use.
static RUNNING: Mutex<Weak<Janitor>> = Mutex::new(Weak::new());
/// Numbers janitors, so that one that ends does not remove another's groups.
static NUMBER: AtomicU64 = AtomicU64::new(0);

impl Janitor {
    /// The janitor for groups under `bases`: the one that is running, if it serves these, or a new one.
    pub(crate) fn shared(bases: &[&Path]) -> io::Result<Arc<Self>> {
        let mut running = RUNNING.lock().unwrap_or_else(PoisonError::into_inner);
        let bases: Vec<CString> =
            bases.iter().map(|base| CString::new(base.as_os_str().as_bytes()).unwrap_or_default()).collect();
        let own_pid = std::process::id();
        if let Some(janitor) = running.upgrade()
            && bases.iter().all(|base| janitor.bases.contains(base))
            && janitor.prefix.starts_with(&prefix_of(own_pid))
        {
            return Ok(janitor);
        }
        let prefix = format!("{}{}-", prefix_of(own_pid), NUMBER.fetch_add(1, Relaxed));
        let janitor = Arc::new(Self::start(prefix, bases)?);
        *running = Arc::downgrade(&janitor);
        Ok(janitor)
    }

    /// A name for a group that no other has.
    pub(crate) fn next_name(&self) -> CString {
        name(format!("{}{}", self.prefix, self.next.fetch_add(1, Relaxed)))
    }

    /// Leaves a group to it that could not be removed: it tries again when all others are gone.
    pub(crate) fn leave(&self) {
        self.owes.store(true, Relaxed);
    }

    fn start(prefix: String, bases: Vec<CString>) -> io::Result<Self> {
        // SAFETY: a call that takes numbers only and makes a descriptor.
        let event =
            unsafe { sys::owned(call(libc::SYS_eventfd2, [0, flags(libc::EFD_CLOEXEC), 0, 0, 0, 0])) }?;
        let (event, caller) = (duplicate_above_stdio(event.as_raw_fd())?, open_caller()?);
        let mut argv = vec![crate::page::JANITOR.to_owned(), name(prefix.clone())];
        argv.extend(bases.iter().cloned());
        let image = sweeper::sealed()?;
        let duty = Box::new(Duty {
            event,
            caller,
            image,
            argv: Strings::new(argv),
            at_it: AtomicU32::new(1),
            errno: AtomicI32::new(0),
        });
        let stack = Stack::new()?;
        // SAFETY: all zero is a valid clone_args.
        let mut args: CloneArgs = unsafe { std::mem::zeroed() };
        let mut pidfd: RawFd = -1;
        let shared = libc::CLONE_VM | libc::CLONE_PIDFD | libc::CLONE_CHILD_CLEARTID;
        args.flags = flags(shared) as u64 | sys::CLONE_CLEAR_SIGHAND;
        args.pidfd = ptr::from_mut(&mut pidfd) as u64;
        args.child_tid = duty.at_it.as_ptr() as u64;
        args.exit_signal = u64::from(libc::SIGCHLD.cast_unsigned());
        (args.stack, args.stack_size) = stack.range();
        let blocked = SignalsBlocked::new();
        // SAFETY: the stack is fresh; it and what the child reads are kept until the child has been reaped, by which time it has
        // executed or ended. `execute` makes system calls only.
        let pid = unsafe { sys::clone3(&args, execute, ptr::from_ref(&*duty).cast()) };
        drop(blocked);
        pid.map_err(sys::os_error)?;
        // SAFETY: CLONE_PIDFD has stored a fresh descriptor, since the clone succeeded.
        let pidfd = unsafe { OwnedFd::from_raw_fd(pidfd) };
        Ok(Self {
            prefix,
            bases,
            next: AtomicU64::new(0),
            owes: AtomicBool::new(false),
            pidfd,
            duty,
            _stack: stack,
        })
    }

    /// Waits until it has executed its program, which it does beside what its caller does meanwhile; why not, if it could not.
    pub(crate) fn executed(&self) -> io::Result<()> {
        loop {
            match self.duty.at_it.load(Acquire) {
                0 => break,
                task => wait_shared(&self.duty.at_it, task),
            }
        }
        self.failed().map_or(Ok(()), Err)
    }

    /// Why it could not execute its program, as far as that is known by now.
    pub(crate) fn failed(&self) -> Option<io::Error> {
        match self.duty.errno.load(Relaxed) {
            0 => None,
            errno => Some(sys::os_error(errno)),
        }
    }
}

impl Drop for Janitor {
    fn drop(&mut self) {
        // In a process forked from the one that started it, it is not ours to end.
        if self.prefix.starts_with(&prefix_of(std::process::id())) {
            // Every group holds it, so all are gone by now: it need not look for them, unless one is owed.
            if self.owes.load(Relaxed) {
                let one = 1_u64.to_ne_bytes();
                let event = sys::fd(self.duty.event.as_raw_fd());
                // SAFETY: eight bytes that are there.
                unsafe { attempt(libc::SYS_write, [event, one.as_ptr() as usize, one.len(), 0, 0, 0]) };
            } else {
                drop(process::send_kill(&self.pidfd));
            }
        }
        // In a process forked from the one that started the janitor, this fails at once (not a child), which is right.
        process::reap(&self.pidfd);
    }
}

/// How the names of all groups of process `pid` begin.
fn prefix_of(pid: u32) -> String {
    format!("container-{pid}-")
}

/// What a janitor needs until it has executed its program.
#[derive(Debug)]
struct Duty {
    /// These three are above the standard streams.
    event: OwnedFd,
    caller: OwnedFd,
    image: OwnedFd,
    argv: Strings,
    /// 0 when the child has executed its program or ended.
    at_it: AtomicU32,
    /// Why it could not execute it; 0: it could.
    errno: AtomicI32,
}

/// Becomes the program.
///
/// # Safety
///
/// `arg` points to a [`Duty`]; the calling process shares all memory and no descriptors with the one that made it.
unsafe extern "C" fn execute(arg: *const c_void) -> ! {
    // SAFETY: this function's contract.
    let duty = unsafe { &*arg.cast::<Duty>() };
    let [event, caller] = [&duty.event, &duty.caller].map(|fd| sys::fd(fd.as_raw_fd()));
    let (argv, envp) = (duty.argv.as_ptr() as usize, [ptr::null::<c_char>()]);
    let last = u32::MAX as usize;
    let exec = [sys::fd(duty.image.as_raw_fd()), sys::path(c""), argv, envp.as_ptr() as usize];
    // SAFETY: pointers to live C strings and arrays of them. The descriptors are this process's own copies.
    unsafe {
        // Not even a hang-up ends it before its work is done: it has its own session, and all signals are blocked.
        attempt(libc::SYS_setsid, [0; 6]);
        attempt(libc::SYS_chdir, [sys::path(c"/"), 0, 0, 0, 0, 0]);
        // It must not keep the caller's pipes open: their readers wait for the end of file.
        attempt(libc::SYS_dup2, [event, 0, 0, 0, 0, 0]);
        attempt(libc::SYS_dup2, [caller, 1, 0, 0, 0, 0]);
        attempt(libc::SYS_close_range, [2, last, libc::CLOSE_RANGE_CLOEXEC as usize, 0, 0, 0]);
        let how = flags(libc::AT_EMPTY_PATH);
        if let Err(errno) = call(libc::SYS_execveat, [exec[0], exec[1], exec[2], exec[3], how, 0]) {
            duty.errno.store(errno, Relaxed);
        }
    }
    sys::exit(1)
}
