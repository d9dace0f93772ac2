//! For an ordinary user: a process in a user namespace that makes system calls on our behalf; for root on an old kernel, one in a
//! mount namespace.
//!
//! A file system in memory needs a right that an ordinary user has only in a user namespace of its own, and so does
//! giving files to the users of /etc/subuid. The agent shares our memory and our descriptors, so it need not be told anything but
//! which call to make, and what it opens is open here.
//!
//! It lives as long as the image, whose mount is in its namespace: for each start it clones that mount, since the overlay
//! of an instance takes only what is in the instance's own mount namespace, and a mount can be moved there but once.

use std::collections::BTreeMap;
use std::ffi::{CString, c_void};
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::path::{Path, PathBuf};
use std::sync::atomic::{
    AtomicI32, AtomicI64, AtomicU32, AtomicUsize, Ordering::Acquire, Ordering::Relaxed, Ordering::Release,
};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use super::{ImageError, how_in_root};
use crate::futex::{wait_for, wake};
use crate::idmap::{Ranges, caller};
use crate::prepare::open_caller;
use crate::spawn::SignalsBlocked;
use crate::stack::Stack;
use crate::sys::{self, CLONE_CLEAR_SIGHAND, CloneArgs, attempt, call, flags, owned};

/// What the word says, unless there is nothing to do: a call is to be made; it has been made; the end.
const ASKED: u32 = 1;
const DONE: u32 = 2;
const OVER: u32 = 3;

/// How long an answer is waited for before it is asked whether the agent is still there: it may have been killed.
const PATIENCE: Duration = Duration::from_millis(100);

/// The memory that both work with.
#[derive(Debug, Default)]
struct State {
    /// A pidfd of ours, and an eventfd by which the agent is woken.
    caller: RawFd,
    bell: RawFd,
    /// One of the values above; a futex.
    word: AtomicU32,
    number: AtomicI64,
    arguments: [AtomicUsize; 6],
    value: AtomicUsize,
    /// 0 where the call succeeded.
    errno: AtomicI32,
}

/// Whose an entry is, and its mode where that is to be set when all is unpacked.
#[derive(Debug, Clone, Copy)]
pub(super) struct Owner {
    pub(super) uid: u32,
    pub(super) gid: u32,
    pub(super) mode: Option<u32>,
}

/// The same of all entries, by their paths without any link in them.
pub(super) type Owners = BTreeMap<PathBuf, Owner>;

/// The agent; it ends on drop.
#[derive(Debug)]
pub(super) struct Agent {
    state: Box<State>,
    pid: usize,
    pidfd: OwnedFd,
    _caller: OwnedFd,
    _bell: OwnedFd,
    /// One call at a time.
    turn: Mutex<()>,
    /// Whether there are other users in its namespace than the caller.
    ranges: bool,
    _stack: Stack,
}

impl Agent {
    /// In a namespace with the ranges of users that the caller has, or with the caller alone.
    pub(super) fn start() -> io::Result<Self> {
        if let Ok(ranges) = Ranges::find() {
            let mut agent = Self::clone(libc::CLONE_NEWUSER)?;
            if ranges.write(i32::try_from(agent.pid).unwrap_or(-1)).is_ok() {
                agent.ranges = true;
                return Ok(agent);
            }
            // Maps can be written once: again, without.
        }
        let agent = Self::clone(libc::CLONE_NEWUSER)?;
        agent.map_caller()?;
        Ok(agent)
    }

    /// Root's own, in a mount namespace only, for kernels on which an overlay takes nothing from outside of its namespace.
    pub(super) fn of_root() -> io::Result<Self> {
        Self::clone(0)
    }

    fn clone(user_namespace: libc::c_int) -> io::Result<Self> {
        let stack = Stack::new()?;
        let caller = open_caller()?;
        // SAFETY: a call that takes numbers only and makes a descriptor.
        let bell = unsafe { owned(call(libc::SYS_eventfd2, [0, flags(libc::EFD_CLOEXEC), 0, 0, 0, 0])) }?;
        let state = State { caller: caller.as_raw_fd(), bell: bell.as_raw_fd(), ..State::default() };
        let state = Box::new(state);
        let mut pidfd: RawFd = -1;
        // SAFETY: all zero is a valid clone_args.
        let mut args: CloneArgs = unsafe { std::mem::zeroed() };
        // Not CLONE_FS, nor the signal handlers: a process of its own in all but memory and descriptors.
        let kind = libc::CLONE_VM | libc::CLONE_FILES | libc::CLONE_PIDFD;
        let kind = kind | user_namespace | libc::CLONE_NEWNS;
        args.flags = u64::from(kind.cast_unsigned()) | CLONE_CLEAR_SIGHAND;
        args.pidfd = std::ptr::from_mut(&mut pidfd) as u64;
        (args.stack, args.stack_size) = stack.range();
        // No handler of ours may run there.
        let blocked = SignalsBlocked::new();
        // SAFETY: the stack is the agent's own until `drop` has seen it end; `serve` is fit to run so; `state` is on the heap
        // and outlives it for the same reason.
        let made = unsafe { sys::clone3(&args, serve, std::ptr::from_ref::<State>(&state).cast()) };
        drop(blocked);
        let pid = made.map_err(sys::os_error)?;
        // SAFETY: CLONE_PIDFD has stored a fresh descriptor, since the clone succeeded.
        let pidfd = unsafe { OwnedFd::from_raw_fd(pidfd) };
        let turn = Mutex::default();
        Ok(Self { state, pid, pidfd, _caller: caller, _bell: bell, turn, ranges: false, _stack: stack })
    }

    fn map_caller(&self) -> io::Result<()> {
        let (pid, (uid, gid)) = (self.pid, caller());
        std::fs::write(format!("/proc/{pid}/setgroups"), "deny")?;
        std::fs::write(format!("/proc/{pid}/uid_map"), format!("0 {uid} 1"))?;
        std::fs::write(format!("/proc/{pid}/gid_map"), format!("0 {gid} 1"))
    }

    /// Has a system call made.
    ///
    /// # Safety
    ///
    /// As for [`sys::call`]: whatever it points to stays valid until this returns.
    pub(super) unsafe fn call(&self, number: libc::c_long, arguments: [usize; 6]) -> io::Result<usize> {
        let _turn = self.turn.lock().unwrap_or_else(PoisonError::into_inner);
        self.state.number.store(number, Relaxed);
        for (to, from) in self.state.arguments.iter().zip(arguments) {
            to.store(from, Relaxed);
        }
        self.say(ASKED);
        while self.state.word.load(Acquire) == ASKED {
            wait_for(&self.state.word, ASKED, PATIENCE);
            if self.state.word.load(Acquire) == ASKED && self.has_ended() {
                return Err(sys::os_error(libc::ESRCH));
            }
        }
        match self.state.errno.load(Relaxed) {
            0 => Ok(self.state.value.load(Relaxed)),
            errno => Err(sys::os_error(errno)),
        }
    }

    fn say(&self, what: u32) {
        self.state.word.store(what, Release);
        let one = 1_u64;
        let (bell, one) = (sys::fd(self.state.bell), std::ptr::from_ref(&one) as usize);
        // SAFETY: the eight bytes that an eventfd takes.
        unsafe { attempt(libc::SYS_write, [bell, one, 8, 0, 0, 0]) };
    }

    /// Puts a mount into the agent's own mount namespace, where it can be cloned from.
    pub(super) fn keep(&self, mount: &OwnedFd) -> io::Result<()> {
        let root = sys::path(c"/");
        let private = usize::try_from(libc::MS_REC | libc::MS_PRIVATE).unwrap_or(0);
        let place = CString::new(crate::rootfs::mount_point().unwrap_or("/tmp"))?;
        let (here, how) = (sys::fd(libc::AT_FDCWD), libc::MOVE_MOUNT_F_EMPTY_PATH as usize);
        let (mount, empty) = (sys::fd(mount.as_raw_fd()), sys::path(c""));
        // SAFETY: C strings, an open descriptor and numbers.
        unsafe {
            self.call(libc::SYS_mount, [0, root, 0, private, 0, 0])?;
            self.call(libc::SYS_move_mount, [mount, empty, here, sys::path(&place), how, 0])?;
        }
        Ok(())
    }

    /// A clone of a mount that is kept, in no namespace.
    pub(super) fn clone_mount(&self, mount: &OwnedFd) -> io::Result<OwnedFd> {
        let how = libc::OPEN_TREE_CLONE | libc::OPEN_TREE_CLOEXEC | libc::AT_EMPTY_PATH.cast_unsigned();
        let mount = sys::fd(mount.as_raw_fd());
        // SAFETY: an open descriptor, a C string and numbers.
        unsafe { self.open_by(libc::SYS_open_tree, [mount, sys::path(c""), how as usize, 0, 0, 0]) }
    }

    /// Has a system call made that makes a descriptor, in the table that both share.
    ///
    /// # Safety
    ///
    /// As for [`Agent::call`] and [`owned`].
    pub(super) unsafe fn open_by(&self, number: libc::c_long, arguments: [usize; 6]) -> io::Result<OwnedFd> {
        // SAFETY: this function's contract.
        unsafe { owned(Ok(self.call(number, arguments)?)) }
    }

    fn has_ended(&self) -> bool {
        let mut poll = libc::pollfd { fd: self.pidfd.as_raw_fd(), events: libc::POLLIN, revents: 0 };
        // SAFETY: one pollfd of an open descriptor.
        unsafe { libc::poll(&raw mut poll, 1, 0) == 1 }
    }

    /// Gives entries to their owners, as far as there are other users than the caller, and sets the modes that had to wait.
    pub(super) fn give(&self, root: &OwnedFd, owners: &Owners) -> Result<(), ImageError> {
        // What is deeper first: a folder may lose the modes by which it can be entered.
        for (path, owner) in owners.iter().rev() {
            let cannot = |source| ImageError::Owner { entry: path.display().to_string(), source };
            self.give_one(root, path, *owner).map_err(cannot)?;
        }
        Ok(())
    }

    fn give_one(&self, root: &OwnedFd, path: &Path, owner: Owner) -> io::Result<()> {
        let kind = match owner.mode {
            Some(_) => libc::O_RDONLY | libc::O_NONBLOCK,
            None => libc::O_PATH,
        };
        let file = self.open(root, path, kind | libc::O_NOFOLLOW)?;
        let fd = sys::fd(file.as_raw_fd());
        if self.ranges {
            let (uid, gid) = (owner.uid as usize, owner.gid as usize);
            let how = flags(libc::AT_EMPTY_PATH);
            // SAFETY: an open descriptor, a C string and numbers.
            unsafe { self.call(libc::SYS_fchownat, [fd, sys::path(c""), uid, gid, how, 0]) }?;
        }
        if let Some(mode) = owner.mode {
            // SAFETY: an open descriptor and a number.
            unsafe { self.call(libc::SYS_fchmod, [fd, mode as usize, 0, 0, 0, 0]) }?;
        }
        Ok(())
    }

    fn open(&self, root: &OwnedFd, path: &Path, how: libc::c_int) -> io::Result<OwnedFd> {
        let (path, how) = how_in_root(path, how)?;
        let (root, how) = (sys::fd(root.as_raw_fd()), std::ptr::from_ref(&how) as usize);
        let size = size_of::<libc::open_how>();
        // SAFETY: an open descriptor, a C string, an open_how with its size.
        unsafe { self.open_by(libc::SYS_openat2, [root, sys::path(&path), how, size, 0, 0]) }
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        self.say(OVER);
        // `__WALL`: a child without an exit signal is not seen otherwise.
        let how = flags(libc::WEXITED | libc::__WALL);
        let fd = sys::fd(self.pidfd.as_raw_fd());
        // SAFETY: waitid by an open descriptor, with nothing to be written.
        while unsafe { call(libc::SYS_waitid, [libc::P_PIDFD as usize, fd, 0, how, 0, 0]) }
            == Err(libc::EINTR)
        {}
    }
}

/// The agent's whole life. It touches nothing but its state and what it is told to.
///
/// # Safety
///
/// `arg` points to a [`State`] that outlives the agent.
unsafe extern "C" fn serve(arg: *const c_void) -> ! {
    // SAFETY: this function's contract.
    let state = unsafe { &*arg.cast::<State>() };
    loop {
        match state.word.load(Acquire) {
            ASKED => {
                let mut arguments = [0; 6];
                for (to, from) in arguments.iter_mut().zip(&state.arguments) {
                    *to = from.load(Relaxed);
                }
                // SAFETY: `Agent::call`'s contract, whose caller waits.
                let done = unsafe { call(state.number.load(Relaxed), arguments) };
                state.value.store(done.unwrap_or(0), Relaxed);
                state.errno.store(done.err().unwrap_or(0), Relaxed);
                state.word.store(DONE, Release);
                wake(&state.word);
            }
            OVER => sys::exit(0),
            _ => {
                let mut polls = [state.caller, state.bell].map(|fd| libc::pollfd {
                    fd,
                    events: libc::POLLIN,
                    revents: 0,
                });
                let mut rung = 0_u64;
                let (bell, rung) = (sys::fd(state.bell), std::ptr::from_mut(&mut rung) as usize);
                // SAFETY: two pollfds, and room for eight bytes.
                unsafe {
                    attempt(libc::SYS_poll, [polls.as_mut_ptr() as usize, 2, usize::MAX, 0, 0, 0]);
                    // It is not to outlive who it works for.
                    if polls[0].revents != 0 {
                        sys::exit(0);
                    }
                    if polls[1].revents != 0 {
                        attempt(libc::SYS_read, [bell, rung, 8, 0, 0, 0]);
                    }
                }
            }
        }
    }
}
