//! What runs between clone and exec.
//!
//! The child runs in the caller's memory, on a stack of its own, while the calling thread is suspended (`CLONE_VM |
//! CLONE_VFORK`). Other threads of the caller go on, so nothing here may allocate, lock, format, unwind or use
//! thread-local storage. Everything it needs was prepared by [`crate::plan`]; it makes system calls and stores numbers.

use std::ffi::{c_char, c_void};
use std::os::fd::RawFd;
use std::ptr;
use std::sync::atomic::{
    AtomicI32, AtomicU32, AtomicU64, Ordering::Acquire, Ordering::Relaxed, Ordering::Release,
};

use crate::aide::Requests;
use crate::capabilities::CapHeader;
use crate::futex::{wait, wait_shared, wake};
use crate::init::PROGRAM_PID;
use crate::network::Maker;
use crate::plan::{Op, TREE_SLOTS};
use crate::sys::{self, Ret, call, flags};
use crate::timeline::Phase;

/// What the child leaves in the shared memory for the caller.
#[derive(Debug, Default)]
pub(crate) struct Shared {
    /// End of each phase; 0: not reached.
    marks: [AtomicU64; Phase::ALL.len()],
    /// Index of the failed step, valid where `errno` is not 0.
    failed: AtomicU32,
    /// Why it failed; 0: it did not.
    errno: AtomicI32,
    /// Which exec is being done, when all steps are: [`AT_PROGRAM`], [`AT_INIT`].
    at_exec: AtomicU32,
    /// The number of a program's process that is started beside an init, until it has executed the program or ended.
    program: AtomicU32,
    /// 1 when the init is in its place and the program may be executed.
    go: AtomicU32,
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
const AT_PROGRAM: u32 = 1;
const AT_INIT: u32 = 2;

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
    pub(crate) pause: Option<Pause>,
    /// Who makes the network namespace, if not the clone.
    pub(crate) network: Option<&'a Maker>,
    /// What the child may ask of the caller's aide.
    pub(crate) requests: &'a Requests,
    pub(crate) shared: &'a Shared,
}

/// A step before which a child stops until its caller has died: for tests of what happens then.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Pause {
    pub(crate) step: u32,
    /// Where it says so.
    pub(crate) tell: RawFd,
}

impl Start<'_> {
    fn pause_at(&self, step: u32) {
        let Some(pause) = self.pause.filter(|pause| pause.step == step) else { return };
        let said = c"paused\n";
        let mut poll = libc::pollfd { fd: self.caller, events: libc::POLLIN, revents: 0 };
        let poll = ptr::from_mut(&mut poll) as usize;
        // SAFETY: a string with its length, and one pollfd.
        unsafe {
            let length = said.count_bytes();
            sys::attempt(libc::SYS_write, [sys::fd(pause.tell), sys::path(said), length, 0, 0, 0]);
            sys::attempt(libc::SYS_poll, [poll, 1, usize::MAX, 0, 0, 0]);
        }
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
    let mut index = 0_u32;
    for op in start.ops {
        start.pause_at(index);
        // SAFETY: the plan's strings and buffers live in the caller, which is suspended.
        if let Err(errno) = unsafe { run(op, start, &mut trees) } {
            start.shared.failed.store(index, Relaxed);
            start.shared.errno.store(errno, Relaxed);
            sys::exit(FAILED);
        }
        index = index.wrapping_add(1);
    }
    start.pause_at(index);
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
    let name: [*const c_char; 2] = [c"init".as_ptr(), ptr::null()];
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

/// Lets all signals come.
fn empty_mask() -> Ret {
    sys::signal_mask(libc::SIG_SETMASK, 0, None)
}

/// Runs one step.
///
/// # Safety
///
/// As for [`main`].
unsafe fn run(op: &Op, start: &Start<'_>, trees: &mut [RawFd; TREE_SLOTS]) -> Ret {
    // A macro, not a closure: each use is a system call with its own reason to be sound, given in one place below.
    macro_rules! sys {
        ($nr:ident $(, $arg:expr)*) => {{
            let mut args = [0_usize; 6];
            let given = [$($arg),*];
            args[..given.len()].copy_from_slice(&given);
            // SAFETY: every pointer among the arguments is made, in this same expression, from a live CStr, slice or
            // struct of the plan or of this frame, with its own length where the call takes one; nothing of the
            // caller is unmapped or closed (the descriptor table is the child's own copy).
            unsafe { call(libc::$nr, args) }
        }};
    }
    let opt = |text: &Option<std::ffi::CString>| text.as_ref().map_or(0, |text| sys::path(text));
    match op {
        Op::Mark(phase) => {
            if let Some(mark) = start.shared.marks.get(*phase as usize) {
                mark.store(sys::monotonic_ns(), Relaxed);
            }
            Ok(0)
        }
        Op::WriteFile { path, content } => {
            let open = flags(libc::O_WRONLY | libc::O_CLOEXEC);
            let file = sys!(SYS_openat, sys::fd(libc::AT_FDCWD), sys::path(path), open)?;
            let written = sys!(SYS_write, file, content.as_ptr() as usize, content.len());
            sys!(SYS_close, file)?;
            written
        }
        Op::JoinGroups => {
            for &tasks in start.joins {
                // "0" is the writer itself. The kernel then skips the lock over all thread groups (cgroup_procs_write_start),
                // whose first taking waits for an RCU grace period.
                sys!(SYS_write, sys::fd(tasks), c"0".as_ptr() as usize, 1)?;
            }
            Ok(0)
        }
        Op::Unshare(what) => sys!(SYS_unshare, flags(*what)),
        Op::Hostname(name) => sys!(SYS_sethostname, name.as_ptr() as usize, name.len()),
        Op::OpenTree { slot, path, recursive } => {
            let mut how = libc::OPEN_TREE_CLONE | libc::OPEN_TREE_CLOEXEC;
            if *recursive {
                how |= libc::AT_RECURSIVE.cast_unsigned();
            }
            let tree = sys!(SYS_open_tree, sys::fd(libc::AT_FDCWD), sys::path(path), how as usize)?;
            keep_tree(trees, *slot, tree);
            Ok(0)
        }
        Op::TreeAttributes { slot, set } => {
            let attributes = libc::mount_attr { attr_set: *set, attr_clr: 0, propagation: 0, userns_fd: 0 };
            let (at, size) = (flags(libc::AT_EMPTY_PATH), size_of::<libc::mount_attr>());
            let attributes = ptr::from_ref(&attributes) as usize;
            sys!(SYS_mount_setattr, tree(trees, *slot), sys::path(c""), at, attributes, size)
        }
        Op::MoveMount { slot, target } => {
            let (from, how) = (sys::path(c""), libc::MOVE_MOUNT_F_EMPTY_PATH as usize);
            sys!(SYS_move_mount, tree(trees, *slot), from, sys::fd(libc::AT_FDCWD), sys::path(target), how)
        }
        Op::PlaceImage { target } => {
            let (from, how) = (sys::path(c""), libc::MOVE_MOUNT_F_EMPTY_PATH as usize);
            let image = sys::fd(start.image);
            sys!(SYS_move_mount, image, from, sys::fd(libc::AT_FDCWD), sys::path(target), how)
        }
        Op::Mount { source, target, fstype, flags, data } => {
            let fstype = fstype.map_or(0, sys::path);
            #[expect(
                clippy::cast_possible_truncation,
                reason = "unsigned long is as wide as a register here"
            )]
            let flags = *flags as usize;
            sys!(SYS_mount, opt(source), sys::path(target), fstype, flags, opt(data))
        }
        Op::Chdir(path) => sys!(SYS_chdir, sys::path(path)),
        Op::Umask(mask) => sys!(SYS_umask, *mask as usize),
        Op::Mkdir { path, mode } => there(sys!(SYS_mkdir, sys::path(path), *mode as usize)),
        Op::Mknod { path, mode, device } => {
            there(sys!(SYS_mknod, sys::path(path), *mode as usize, *device as usize))
        }
        Op::Symlink { target, path } => there(sys!(SYS_symlink, sys::path(target), sys::path(path))),
        Op::OpenAt { path, place } => {
            let how = flags(libc::O_PATH | libc::O_DIRECTORY | libc::O_CLOEXEC);
            let fd = sys!(SYS_openat, sys::fd(libc::AT_FDCWD), sys::path(path), how)?;
            sys!(SYS_dup3, fd, sys::fd(*place), flags(libc::O_CLOEXEC))
        }
        Op::NewFileSystem { slot, fstype, attributes } => {
            let context = sys!(SYS_fsopen, sys::path(fstype), FSOPEN_CLOEXEC)?;
            sys!(SYS_fsconfig, context, FSCONFIG_CMD_CREATE, 0, 0, 0)?;
            #[expect(
                clippy::cast_possible_truncation,
                reason = "unsigned long is as wide as a register here"
            )]
            let mount = sys!(SYS_fsmount, context, FSMOUNT_CLOEXEC, *attributes as usize)?;
            keep_tree(trees, *slot, mount);
            Ok(0)
        }
        Op::Loopback => {
            let socket =
                sys!(SYS_socket, flags(libc::AF_INET), flags(libc::SOCK_DGRAM | libc::SOCK_CLOEXEC), 0)?;
            let request = InterfaceFlags::up(b"lo");
            #[expect(clippy::cast_possible_truncation, reason = "a small number")]
            let what = libc::SIOCSIFFLAGS as usize;
            sys!(SYS_ioctl, socket, what, ptr::from_ref(&request) as usize)?;
            sys!(SYS_close, socket)
        }
        Op::AwaitMaps => {
            start.requests.maps.ask();
            start.requests.maps.wait()
        }
        Op::AskLink => {
            start.requests.link.ask();
            Ok(0)
        }
        Op::AwaitLink => {
            // Waiting for what nobody has asked for would be for ever.
            start.requests.link.ask();
            start.requests.link.wait()
        }
        Op::InnerEnd(end) => end.set(),
        Op::Rlimit(limit) => {
            let values = [limit.soft, limit.hard];
            sys!(SYS_prlimit64, 0, limit.resource as usize, values.as_ptr() as usize, 0)
        }
        Op::BecomeUser { user, set_groups } => {
            if *set_groups {
                sys!(SYS_setgroups, user.groups.len(), user.groups.as_ptr() as usize)?;
            }
            let (uid, gid) = (user.uid as usize, user.gid as usize);
            sys!(SYS_setresgid, gid, gid, gid)?;
            sys!(SYS_setresuid, uid, uid, uid)
        }
        Op::PivotRoot => sys!(SYS_pivot_root, sys::path(c"."), sys::path(c".")),
        Op::DetachOldRoot => sys!(SYS_umount2, sys::path(c"."), flags(libc::MNT_DETACH)),
        Op::EnterNetwork => start.network.map_or(Ok(0), Maker::enter),
        Op::NewSession => match sys!(SYS_setsid) {
            // The child of a fresh PID namespace may already be the leader of session 0's group there: it has what it wants.
            Err(libc::EPERM) => Ok(0),
            ret => ret,
        },
        Op::DropBounding(capabilities) => {
            for &capability in capabilities {
                sys!(SYS_prctl, flags(libc::PR_CAPBSET_DROP), capability as usize)?;
            }
            Ok(0)
        }
        Op::Capabilities(data) => {
            let header = ptr::from_ref(&CapHeader::SELF) as usize;
            sys!(SYS_capset, header, data.as_ptr() as usize)
        }
        Op::NoNewPrivs => sys!(SYS_prctl, flags(libc::PR_SET_NO_NEW_PRIVS), 1),
        Op::DieWithCaller(die) => {
            let signal = if *die { libc::SIGKILL } else { 0 };
            sys!(SYS_prctl, flags(libc::PR_SET_PDEATHSIG), flags(signal))
        }
        Op::CallerAlive => {
            let mut poll = libc::pollfd { fd: start.caller, events: libc::POLLIN, revents: 0 };
            // A pidfd is readable when its process has ended.
            match sys!(SYS_poll, ptr::from_mut(&mut poll) as usize, 1, 0)? {
                0 => Ok(0),
                _ => Err(libc::EOWNERDEAD),
            }
        }
        Op::Stdio => {
            for (place, &source) in (0_i32..).zip(&start.stdio) {
                if source != place {
                    sys!(SYS_dup2, sys::fd(source), sys::fd(place))?;
                }
            }
            Ok(0)
        }
        Op::CloseOthers => {
            sys!(SYS_close_range, 3, u32::MAX as usize, libc::CLOSE_RANGE_CLOEXEC as usize)
        }
        Op::Signals => {
            // Caught signals were reset by CLONE_CLEAR_SIGHAND. Rust's runtime ignores SIGPIPE, which exec would pass on.
            let default = KernelSigaction::default();
            let action = ptr::from_ref(&default) as usize;
            sys!(SYS_rt_sigaction, flags(libc::SIGPIPE), action, 0, size_of::<u64>())?;
            if start.init.is_some() {
                // All stay blocked: what comes before the init waits for them would be lost. Nor may children be reaped by
                // the kernel, as they are where SIGCHLD is ignored.
                return sys!(SYS_rt_sigaction, flags(libc::SIGCHLD), action, 0, size_of::<u64>());
            }
            empty_mask()
        }
        Op::Seccomp(filter) => {
            let length = u16::try_from(filter.len()).unwrap_or(u16::MAX);
            let program = FilterProgram { length, filter: filter.as_ptr().cast() };
            let program = ptr::from_ref(&program) as usize;
            // SPEC_ALLOW: the default of Linux 5.16 and later, and of the engines before it. Without, older kernels turn
            // speculation off for the whole program, which costs far more than the filter.
            let (operation, how) = (libc::SECCOMP_SET_MODE_FILTER, libc::SECCOMP_FILTER_FLAG_SPEC_ALLOW);
            #[expect(clippy::cast_possible_truncation, reason = "a small flag")]
            let how = how as usize;
            sys!(SYS_seccomp, operation as usize, how, program)
        }
    }
}

/// `FSOPEN_CLOEXEC`, `FSMOUNT_CLOEXEC`, `FSCONFIG_CMD_CREATE` (include/uapi/linux/mount.h).
const FSOPEN_CLOEXEC: usize = 1;
const FSMOUNT_CLOEXEC: usize = 1;
const FSCONFIG_CMD_CREATE: usize = 6;

/// For what is made only if it is not there yet.
fn there(ret: Ret) -> Ret {
    match ret {
        Err(libc::EEXIST) => Ok(0),
        ret => ret,
    }
}

/// Puts a descriptor into a slot.
fn keep_tree(trees: &mut [RawFd; TREE_SLOTS], slot: usize, fd: usize) {
    if let Some(slot) = trees.get_mut(slot) {
        *slot = RawFd::try_from(fd).unwrap_or(-1);
    }
}

/// The descriptor in a slot as an argument; -1, which no call takes, for a slot outside the plan's bounds.
fn tree(trees: &[RawFd; TREE_SLOTS], slot: usize) -> usize {
    sys::fd(trees.get(slot).copied().unwrap_or(-1))
}

/// `struct sock_fprog`.
#[repr(C)]
struct FilterProgram {
    length: u16,
    filter: *const c_void,
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

/// The kernel's `struct sigaction` on x86-64 (arch/x86/include/uapi/asm/signal.h); all zero is `SIG_DFL`.
#[repr(C)]
#[derive(Default)]
struct KernelSigaction {
    handler: usize,
    flags: u64,
    restorer: usize,
    mask: u64,
}

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
