//! What runs between clone and exec.
//!
//! The child runs in the caller's memory, on a stack of its own, while the calling thread is suspended (`CLONE_VM |
//! CLONE_VFORK`). Other threads of the caller go on, so nothing here may allocate, lock, format, unwind or use
//! thread-local storage. Everything it needs was prepared by [`crate::plan`]; it makes system calls and stores numbers.

mod shared;
mod step;

use std::ffi::{c_char, c_void};
use std::os::fd::RawFd;
use std::ptr;
use std::sync::atomic::{Ordering::Acquire, Ordering::Relaxed};

use crate::aide::Requests;
use crate::beside::Maker;
use crate::futex::wait;
use crate::init::PROGRAM_PID;
use crate::page;
use crate::plan::{Op, TREE_SLOTS};
use crate::sys::{self, call, flags};
use shared::{AT_INIT, AT_PROGRAM};
pub(crate) use shared::{Fate, Shared};
use step::{empty_mask, run};

/// How the program is executed.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Exec {
    /// By this path, as seen from inside.
    Path(*const c_char),
    /// By this descriptor.
    Fd(RawFd),
    /// Not at all: the child ends with status 0. For probing.
    DryRun,
}

/// What an init takes: the image, and the top of a stack for the program's start.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Init {
    pub(crate) image: RawFd,
    pub(crate) stack: u64,
}

/// Everything a child works with.
#[derive(Debug)]
pub(crate) struct Start<'a> {
    pub(crate) ops: &'a [Op],
    pub(crate) exec: Exec,
    /// Where process 1 is not to be the program.
    pub(crate) init: Option<Init>,
    /// Null-terminated, as execve(2) wants it.
    pub(crate) argv: *const *const c_char,
    /// Null-terminated, as execve(2) wants it.
    pub(crate) envp: *const *const c_char,
    /// Descriptors for 0, 1 and 2; each is above 2 or already in its place.
    pub(crate) stdio: [RawFd; 3],
    /// Open `tasks` files of the groups to join.
    pub(crate) joins: &'a [RawFd],
    /// A mount of the image's root, where each start needs its own; else -1.
    pub(crate) image: RawFd,
    /// A pidfd of the caller.
    pub(crate) caller: RawFd,
    pub(crate) pause: Option<Told>,
    /// Who makes namespaces beside this start.
    pub(crate) beside: Option<&'a Maker>,
    /// What the child may ask of the caller's aide.
    pub(crate) requests: &'a Requests,
    pub(crate) shared: &'a Shared,
}

/// Where a start stops until its caller has died: for tests of what happens then.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Pause {
    /// When everything is made that is made before the clone. It is the caller itself that stops.
    BeforeClone,
    /// The child, before the step of this index; before the exec where that is one more than the last. Else nobody stops.
    Before(usize),
}

/// A [`Pause`], and where it is told that it has begun.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Told {
    pub(crate) pause: Pause,
    pub(crate) tell: RawFd,
}

impl Told {
    pub(crate) fn say(self) {
        let said = c"paused\n";
        // SAFETY: a string with its length.
        unsafe {
            let length = said.count_bytes();
            sys::attempt(libc::SYS_write, [sys::fd(self.tell), sys::path(said), length, 0, 0, 0]);
        }
    }
}

impl Start<'_> {
    /// The pause that the child is to make, with the steps before it and those behind it.
    fn pause(&self) -> Option<(Told, &[Op], &[Op])> {
        let told = self.pause?;
        let Pause::Before(step) = told.pause else { return None };
        let (before, after) = self.ops.split_at_checked(step)?;
        Some((told, before, after))
    }

    /// Stops until the caller has died.
    fn wait_for_its_end(&self) {
        let mut poll = libc::pollfd { fd: self.caller, events: libc::POLLIN, revents: 0 };
        let poll = ptr::from_mut(&mut poll) as usize;
        // SAFETY: one pollfd.
        unsafe { sys::attempt(libc::SYS_poll, [poll, 1, usize::MAX, 0, 0, 0]) };
    }
}

/// The child's exit status where a step failed; the caller reads the reason from [`Shared`].
const FAILED: i32 = 127;

/// The child's first function.
///
/// # Safety
///
/// `arg` points to a [`Start`] that outlives the child's use of this memory, and all of whose pointers are valid for the
/// calls they are made for.
pub(crate) unsafe extern "C" fn main(arg: *const c_void) -> ! {
    // SAFETY: `arg` is the `Start` of the suspended caller (this function's contract).
    let start = unsafe { &*arg.cast::<Start<'_>>() };
    let mut trees: [RawFd; TREE_SLOTS] = [-1; TREE_SLOTS];
    // SAFETY (of each block): the plan's strings and buffers live in the caller, which is suspended.
    match start.pause() {
        // SAFETY: see above.
        None => unsafe { run_all(start.ops, 0, start, &mut trees) },
        Some((told, before, after)) => {
            // SAFETY: see above.
            unsafe { run_all(before, 0, start, &mut trees) };
            told.say();
            start.wait_for_its_end();
            // SAFETY: see above.
            unsafe { run_all(after, before.len(), start, &mut trees) };
        }
    }
    if matches!(start.exec, Exec::DryRun) {
        start.shared.at_exec.store(AT_PROGRAM, Relaxed);
        sys::exit(0);
    }
    let failed = match start.init {
        // SAFETY: this function's contract.
        None => unsafe { execute(start) },
        // SAFETY: as above.
        Some(init) => unsafe { execute_beside(start, arg, init) },
    };
    start.shared.errno.store(failed, Relaxed);
    sys::exit(FAILED)
}

/// Runs steps, the first of which has the index `first`; does not return where one fails.
///
/// # Safety
///
/// As for [`main`].
unsafe fn run_all(ops: &[Op], first: usize, start: &Start<'_>, trees: &mut [RawFd; TREE_SLOTS]) {
    // SAFETY: this function's contract.
    if let Err((index, errno)) = unsafe { walk(ops, start, trees) } {
        start.shared.failed.store(u32::try_from(first + index).unwrap_or(u32::MAX), Relaxed);
        start.shared.errno.store(errno, Relaxed);
        sys::exit(FAILED);
    }
}

/// Makes steps up to the first that fails: which one that is, and its errno.
///
/// # Safety
///
/// As for [`main`].
unsafe fn walk(ops: &[Op], start: &Start<'_>, trees: &mut [RawFd; TREE_SLOTS]) -> Result<(), (usize, i32)> {
    for (index, op) in ops.iter().enumerate() {
        // SAFETY: this function's contract.
        unsafe { run(op, start, trees) }.map_err(|errno| (index, errno))?;
    }
    Ok(())
}

/// Makes steps that need nothing of an instance, in a thread that makes no other; which one failed, and its errno.
///
/// # Safety
///
/// What the steps change must be the calling thread's own.
pub(crate) unsafe fn make_apart(ops: &[Op]) -> Result<(), (usize, i32)> {
    let (requests, shared) = (Requests::default(), Shared::default());
    let nothing = Start {
        ops,
        exec: Exec::DryRun,
        init: None,
        argv: ptr::null(),
        envp: ptr::null(),
        stdio: [0, 1, 2],
        joins: &[],
        image: -1,
        caller: -1,
        pause: None,
        beside: None,
        requests: &requests,
        shared: &shared,
    };
    // SAFETY: this function's contract; the steps' strings live as long as they do.
    unsafe { walk(ops, &nothing, &mut [-1; TREE_SLOTS]) }
}

/// Executes the program; returns why it could not.
///
/// # Safety
///
/// As for [`main`].
unsafe fn execute(start: &Start<'_>) -> i32 {
    start.shared.at_exec.store(AT_PROGRAM, Relaxed);
    let (argv, envp) = (start.argv as usize, start.envp as usize);
    let ret = match start.exec {
        // SAFETY: a C string and two null-terminated arrays of C strings, all in the suspended caller.
        Exec::Path(path) => unsafe { call(libc::SYS_execve, [path as usize, argv, envp, 0, 0, 0]) },
        // SAFETY: as above; the empty path is a C string.
        Exec::Fd(fd) => unsafe {
            let empty = sys::path(c"");
            call(libc::SYS_execveat, [sys::fd(fd), empty, argv, envp, flags(libc::AT_EMPTY_PATH), 0])
        },
        Exec::DryRun => sys::exit(0),
    };
    ret.err().unwrap_or(libc::EIO)
}

/// Starts the program as a child and executes the init; returns why one of the two could not be done.
///
/// # Safety
///
/// As for [`main`], `arg` being its own; `init.stack` is the top of a stack that nobody else uses.
unsafe fn execute_beside(start: &Start<'_>, arg: *const c_void, init: Init) -> i32 {
    start.shared.at_exec.store(AT_INIT, Relaxed);
    let tid = start.shared.program.as_ptr();
    // SAFETY: this function's contract; `program` is made for running so; the caller waits until it does so no more.
    match unsafe { sys::clone_beside(init.stack, tid, program, arg) } {
        Ok(PROGRAM_PID) => {}
        // The init knows it by this number.
        Ok(_) => return libc::EPROTO,
        Err(errno) => return errno,
    }
    let none: [*const c_char; 1] = [ptr::null()];
    let name: [*const c_char; 2] = [page::INIT.as_ptr(), ptr::null()];
    // SAFETY: C strings and null-terminated arrays of them; the table of descriptors is this process's own, and it needs none
    // but the image, which is above stderr.
    unsafe {
        let (image, empty) = (sys::fd(init.image), sys::path(c""));
        // By hand: what is to be closed by exec is closed only when the caller already runs again.
        sys::attempt(libc::SYS_close_range, [0, image - 1, 0, 0, 0, 0]);
        sys::attempt(libc::SYS_close_range, [image + 1, u32::MAX as usize, 0, 0, 0, 0]);
        let (argv, envp) = (name.as_ptr() as usize, none.as_ptr() as usize);
        let ret = call(libc::SYS_execveat, [image, empty, argv, envp, flags(libc::AT_EMPTY_PATH), 0]);
        ret.err().unwrap_or(libc::EIO)
    }
}

/// The first function of a program that is started beside an init.
///
/// It waits for the caller's word that the init is executed. Until then process 1 has the caller's memory and descriptors,
/// which nothing that runs in the container may see.
///
/// # Safety
///
/// As for [`main`].
unsafe extern "C" fn program(arg: *const c_void) -> ! {
    // SAFETY: this function's contract.
    let start = unsafe { &*arg.cast::<Start<'_>>() };
    while start.shared.go.load(Acquire) == 0 {
        wait(&start.shared.go, 0);
    }
    // SAFETY: as above.
    let failed = unsafe { empty_mask().err().unwrap_or_else(|| execute(start)) };
    start.shared.errno.store(failed, Relaxed);
    sys::exit(FAILED)
}
