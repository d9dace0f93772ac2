//! Namespaces made beside the rest of a start.
//!
//! On some hosts a network namespace takes longer to make than everything else of a container together (each network
//! module of the kernel sets up its part of it). Nothing else of the start waits for it but the program itself, so a
//! thread makes it while the child builds its root, and the child enters it last. The thread brings the loopback device up, too, where
//! that is wanted: it has the time.
//!
//! Where one start follows at once and the caller is about to make control groups, the thread builds the root, too, in a mount
//! namespace that the child then enters: all of it but proc, which belongs to the child's own processes. It stays until the
//! instance has ended: taking that namespace down takes as long as making it, and whoever is the last to leave it does so. The
//! program's process would, before its end is told; this thread does while the caller sees to the control groups.
//!
//! ```text
//! caller      Maker::start ... clone3 ........................ exec, Maker dropped: the thread has ended
//! thread          unshare(NEWNET), says so ... waits ... ends
//! child                               mounts, pivot ... setns(thread's pidfd), says so, exec
//!
//! caller      Maker::start ... groups ... clone3 ............. exec ........ ended, removes groups, Maker dropped
//! thread          unshare(NEWNET | NEWNS), mounts, pivot, says so ... waits ...... ends
//! child                               proc ... setns(thread's pidfd), places proc, exec ... ends
//! ```
//!
//! The thread is made by the system call, not by the C library: nothing is allocated for it but its stack. It runs on that
//! stack alone and touches nothing of the thread whose storage it shares, as the child does (see [`crate::child`]).

use std::ffi::c_void;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering::Acquire, Ordering::Relaxed, Ordering::Release};
use std::sync::{Arc, OnceLock};

use crate::child;
use crate::futex::{wait, wait_shared, wake};
use crate::isolation::{Isolation, Layer};
use crate::plan::Op;
use crate::spawn::SignalsBlocked;
use crate::stack::{Stack, Stacks};
use crate::sys::{self, CloneArgs, Ret, call, flags};

/// What the two sides tell each other: the namespace is not there yet; it is there; it is no longer needed. Any other value
/// is the errno for which it could not be made.
const MAKING: u32 = 0;
const MADE: u32 = u32::MAX;
const RELEASED: u32 = u32::MAX - 1;

/// What is said of the loopback device: nothing yet; it is up; it is not.
const PENDING: u32 = 0;
const UP: u32 = 1;
const DOWN: u32 = 2;

/// Set where the kernel has refused a descriptor for a thread (before Linux 6.9): no use to ask again.
pub(crate) static UNSUPPORTED: AtomicBool = AtomicBool::new(false);

/// What a thread is to do beside making a network namespace.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Task {
    /// Whether the loopback device is to be brought up.
    pub(crate) loopback: bool,
    /// Whether a root is to be built in a mount namespace of the thread's own, by the steps that [`Maker::build`] will give.
    pub(crate) root: bool,
}

/// The memory that maker, caller and child share.
#[derive(Debug, Default)]
pub(crate) struct State {
    /// One of the values above; a futex.
    said: AtomicU32,
    /// The thread's number, zeroed by the kernel when it has ended; a futex.
    thread: AtomicU32,
    task: Task,
    /// The steps to the root.
    root: OnceLock<Arc<[Op]>>,
    /// 1 when they are there, or will not be; a futex.
    given: AtomicU32,
    /// The CPUs that the caller may use.
    cpus: Option<libc::cpu_set_t>,
    /// Whether the thread has brought the loopback device up, which it does when it has said that the namespaces are there:
    /// [`PENDING`], [`UP`] or [`DOWN`]; a futex.
    loopback: AtomicU32,
    /// The number, from 1, of the step to the root that failed; 0: none. Written before `said`.
    failed: AtomicU32,
}

impl State {
    /// Waits until the namespace is there: the task that is in it, or why there is none.
    pub(crate) fn made(&self) -> Result<i32, i32> {
        loop {
            match self.said.load(Acquire) {
                MAKING => wait(&self.said, MAKING),
                MADE => return Ok(self.thread.load(Acquire).cast_signed()),
                RELEASED => return Err(libc::ESRCH),
                errno => return Err(i32::try_from(errno).unwrap_or(libc::EIO)),
            }
        }
    }

    fn give(&self) {
        self.given.store(1, Release);
        wake(&self.given);
    }

    /// The thread's work.
    fn make(&self) -> Result<(), i32> {
        // SAFETY: a number; what a thread has for itself is no other thread's matter.
        let unshare = |what| unsafe { call(libc::SYS_unshare, [flags(what), 0, 0, 0, 0, 0]) };
        unshare(libc::CLONE_NEWNET | if self.task.root { libc::CLONE_NEWNS } else { 0 })?;
        if self.task.root {
            while self.given.load(Acquire) == 0 {
                wait(&self.given, 0);
            }
            let root = self.root.get().ok_or(libc::ECANCELED)?;
            // They open and close descriptors, beside those that the caller has opened for them: not in its table.
            unshare(libc::CLONE_FILES)?;
            // SAFETY: the steps live as long as this; table of descriptors and working directory are the thread's own by now.
            let made = unsafe { child::make_apart(root) };
            // It stays, and must not keep the caller's pipes open: their readers wait for the end of file.
            // SAFETY: the table is the thread's own.
            unsafe { sys::attempt(libc::SYS_close_range, [0, u32::MAX as usize, 0, 0, 0, 0]) };
            made.map_err(|(index, errno)| {
                self.failed.store(u32::try_from(index).unwrap_or(u32::MAX).saturating_add(1), Release);
                errno
            })?;
        }
        Ok(())
    }
}

/// A thread that makes namespaces for one start and keeps them until the child has entered them.
#[derive(Debug)]
pub(crate) struct Maker {
    state: Box<State>,
    pidfd: OwnedFd,
    stack: Option<Stack>,
    /// The process that has made the thread: one that it forks has a copy of this, and no such thread.
    owner: u32,
}

impl Maker {
    /// Whether a namespace made beside the rest is what these layers need: not in a user namespace, which must be there first
    /// to own it, and not on a single CPU.
    pub(crate) fn is_useful(isolation: Isolation) -> bool {
        isolation.has(Layer::Net) && !isolation.has(Layer::User) && cpus().is_some()
    }

    /// Sets a thread to work; `None` where this cannot be done, and the clone must make the namespace.
    pub(crate) fn start(stacks: &Stacks, task: Task) -> Option<Self> {
        if UNSUPPORTED.load(Relaxed) {
            return None;
        }
        let stack = stacks.take().ok()?;
        let cpus = cpus();
        let all = cpus.as_ref().map(|[all, _]| *all);
        let state = Box::new(State { task, cpus: all, ..State::default() });
        let mut pidfd: RawFd = -1;
        // SAFETY: all zero is a valid clone_args.
        let mut args: CloneArgs = unsafe { std::mem::zeroed() };
        let thread =
            libc::CLONE_VM | libc::CLONE_SIGHAND | libc::CLONE_THREAD | libc::CLONE_FS | libc::CLONE_FILES;
        let known = libc::CLONE_PIDFD | libc::CLONE_PARENT_SETTID | libc::CLONE_CHILD_CLEARTID;
        args.flags = u64::from((thread | known).cast_unsigned());
        args.pidfd = std::ptr::from_mut(&mut pidfd) as u64;
        args.parent_tid = state.thread.as_ptr() as u64;
        args.child_tid = args.parent_tid;
        (args.stack, args.stack_size) = stack.range();
        // A signal for the process must not be taken by a thread that the C library does not know.
        let blocked = SignalsBlocked::new();
        // SAFETY: the stack is this thread's own until `drop` has seen it end; `make` is fit to run so; `state` is on the
        // heap and outlives the thread for the same reason.
        let made = unsafe { sys::clone3(&args, make, std::ptr::from_ref::<State>(&state).cast()) };
        drop(blocked);
        if let Err(errno) = made {
            // EAGAIN (no room for a thread) may pass; EINVAL does not.
            UNSUPPORTED.fetch_or(errno == libc::EINVAL, Relaxed);
            stacks.give_back(stack);
            return None;
        }
        // Some schedulers put a new thread behind its maker on the same CPU, to let the others sleep.
        if let (Some([_, others]), Ok(thread)) = (cpus, made) {
            run_on(thread, &others);
        }
        // SAFETY: CLONE_PIDFD has stored a fresh descriptor, since the clone succeeded.
        let pidfd = unsafe { OwnedFd::from_raw_fd(pidfd) };
        Some(Self { state, pidfd, stack: Some(stack), owner: std::process::id() })
    }

    /// Gives the steps to the root, the thread having begun with the namespace for it.
    pub(crate) fn build(&self, root: Arc<[Op]>) {
        if self.state.root.set(root).is_ok() {
            self.state.give();
        }
    }

    /// Enters these of its namespaces, as soon as they are there. Called by the child.
    pub(crate) fn enter(&self, namespaces: libc::c_int) -> Ret {
        self.state.made()?;
        let fd = sys::fd(self.pidfd.as_raw_fd());
        // SAFETY: setns takes numbers only.
        let entered = unsafe { call(libc::SYS_setns, [fd, flags(namespaces), 0, 0, 0, 0]) };
        if !self.stays() {
            self.release();
        }
        entered
    }

    /// Whether it is to stay until the instance has ended.
    pub(crate) fn stays(&self) -> bool {
        self.state.task.root
    }

    /// The step to the root that failed, if one did.
    pub(crate) fn failed(&self) -> Option<&Op> {
        let number = self.state.failed.load(Acquire) as usize;
        self.state.root.get()?.get(number.checked_sub(1)?)
    }

    /// Whether the thread has brought the loopback device up; waits until it has. Called by the child, when it has entered.
    pub(crate) fn has_loopback(&self) -> bool {
        while self.state.loopback.load(Acquire) == PENDING {
            wait(&self.state.loopback, PENDING);
        }
        self.state.loopback.load(Acquire) == UP
    }

    /// What the thread says, for others that wait for it.
    pub(crate) fn state(&self) -> &State {
        &self.state
    }

    /// Lets the thread end, which says by itself no more.
    pub(crate) fn release(&self) {
        self.state.said.store(RELEASED, Release);
        wake(&self.state.said);
    }

    /// Waits for the thread's end, and gives its stack back.
    pub(crate) fn finish(mut self, stacks: &Stacks) {
        self.end();
        if let Some(stack) = self.stack.take() {
            stacks.give_back(stack);
        }
    }

    fn end(&self) {
        if self.owner != std::process::id() {
            return;
        }
        // It may still wait for what has not been given.
        self.state.give();
        // The thread may not have come to its namespace yet: it may overwrite the word, so it is said until it has ended.
        loop {
            match self.state.thread.load(Acquire) {
                0 => return,
                thread => {
                    if self.state.said.load(Acquire) == MADE {
                        self.release();
                    }
                    if self.state.said.load(Acquire) == MAKING {
                        wait(&self.state.said, MAKING);
                    } else {
                        wait_shared(&self.state.thread, thread);
                    }
                }
            }
        }
    }
}

impl Drop for Maker {
    fn drop(&mut self) {
        self.end();
    }
}

/// The CPUs that the caller may use, and those but for the one that it is on; `None` if there is no other.
fn cpus() -> Option<[libc::cpu_set_t; 2]> {
    // SAFETY: all zero is an empty set.
    let mut cpus: libc::cpu_set_t = unsafe { std::mem::zeroed() };
    // SAFETY: a set to be written to, with its size.
    let known = unsafe { libc::sched_getaffinity(0, size_of::<libc::cpu_set_t>(), &raw mut cpus) } == 0;
    let all = cpus;
    // SAFETY: takes nothing.
    let current = usize::try_from(unsafe { libc::sched_getcpu() }).ok()?;
    // SAFETY: both change and read the set; a number that is out of its bounds is refused by the line before.
    let several = known
        && current < CPUS
        && unsafe {
            libc::CPU_CLR(current, &mut cpus);
            libc::CPU_COUNT(&cpus) > 0
        };
    several.then_some([all, cpus])
}

/// Has a thread, 0 being the calling one, run on these CPUs. Where it is refused, it runs where it is.
fn run_on(thread: usize, cpus: &libc::cpu_set_t) {
    let (size, cpus) = (size_of::<libc::cpu_set_t>(), std::ptr::from_ref(cpus) as usize);
    // SAFETY: a set with its size.
    unsafe { sys::attempt(libc::SYS_sched_setaffinity, [thread, size, cpus, 0, 0, 0]) };
}

/// CPUs in a `cpu_set_t`.
const CPUS: usize = 8 * size_of::<libc::cpu_set_t>();

/// The thread.
unsafe extern "C" fn make(state: *const c_void) -> ! {
    // SAFETY: `Maker::start` passes its `State`, which lives until this thread has ended.
    let state = unsafe { &*state.cast::<State>() };
    let said = state.make().map_or_else(i32::cast_unsigned, |()| MADE);
    state.said.store(said, Release);
    wake(&state.said);
    if said == MADE && state.task.loopback {
        // Why it could not be, the child finds out when it tries again.
        let is_up = bring_loopback_up().is_ok();
        state.loopback.store(if is_up { UP } else { DOWN }, Release);
        wake(&state.loopback);
    }
    if let (true, Some(cpus)) = (state.task.root, &state.cpus) {
        // It will be busy again while its caller is, who may be on any of them by then.
        run_on(0, cpus);
    }
    while state.said.load(Acquire) == MADE {
        wait(&state.said, MADE);
    }
    loop {
        // SAFETY: ends this thread alone and does not return. The kernel zeroes `state.thread` after that.
        unsafe { sys::attempt(libc::SYS_exit, [0; 6]) };
    }
}

/// Brings the loopback device of the calling task's network namespace up. Fit for a child or a thread as above.
pub(crate) fn bring_loopback_up() -> Ret {
    let request = InterfaceFlags::up(b"lo");
    let kind = flags(libc::SOCK_DGRAM | libc::SOCK_CLOEXEC);
    #[expect(clippy::cast_possible_truncation, reason = "a small number")]
    let set_flags = libc::SIOCSIFFLAGS as usize;
    // SAFETY: numbers, and a request that outlives its call; the socket is nobody else's.
    unsafe {
        let socket = call(libc::SYS_socket, [flags(libc::AF_INET), kind, 0, 0, 0, 0])?;
        let up = call(libc::SYS_ioctl, [socket, set_flags, std::ptr::from_ref(&request) as usize, 0, 0, 0]);
        call(libc::SYS_close, [socket, 0, 0, 0, 0, 0])?;
        up
    }
}

/// `struct ifreq` with `ifr_flags`.
#[repr(C)]
struct InterfaceFlags {
    name: [u8; libc::IFNAMSIZ],
    flags: libc::c_short,
    rest: [u8; 22],
}

impl InterfaceFlags {
    fn up<const N: usize>(name: &[u8; N]) -> Self {
        let mut request = Self { name: [0; libc::IFNAMSIZ], flags: 0, rest: [0; 22] };
        #[expect(clippy::cast_possible_truncation, reason = "bit 0")]
        let up = libc::IFF_UP as libc::c_short;
        request.flags = up;
        for (to, from) in request.name.iter_mut().zip(name) {
            *to = *from;
        }
        request
    }
}
