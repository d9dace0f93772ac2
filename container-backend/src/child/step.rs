//! One step of a start, made by the child.

use std::ffi::{CStr, CString, c_void};
use std::os::fd::RawFd;
use std::ptr;
use std::sync::atomic::Ordering::Relaxed;

use super::Start;
use crate::beside::bring_loopback_up;
use crate::capabilities::CapHeader;
use crate::plan::{Op, TREE_SLOTS};
use crate::sys::{self, Ret, call, flags};

/// Runs one step.
///
/// # Safety
///
/// As for [`main`](super::main).
pub(super) unsafe fn run(op: &Op, start: &Start<'_>, trees: &mut [RawFd; TREE_SLOTS]) -> Ret {
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
    let opt = |text: &Option<CString>| text.as_ref().map_or(0, |text| sys::path(text));
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
        Op::MoveMount { slot, target, follow } => place(tree(trees, *slot), target, *follow),
        Op::PlaceImage { target } => place(sys::fd(start.image), target, false),
        Op::Mount { source, target, fstype, flags, data } => {
            let fstype = fstype.map_or(0, sys::path);
            #[expect(
                clippy::cast_possible_truncation,
                reason = "unsigned long is as wide as a register here"
            )]
            let flags = *flags as usize;
            sys!(SYS_mount, opt(source), sys::path(target), fstype, flags, opt(data))
        }
        // SAFETY: this function's contract.
        Op::IfThere(op) => match unsafe { run(op, start, trees) } {
            Err(libc::ENOENT) => Ok(0),
            ret => ret,
        },
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
        Op::Loopback => match start.beside {
            Some(maker) if maker.has_loopback() => Ok(0),
            _ => bring_loopback_up(),
        },
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
        Op::Enter(namespaces) => start.beside.map_or(Ok(0), |maker| maker.enter(*namespaces)),
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

/// Puts a mount at `target`, or at what a link there leads to.
fn place(mount: usize, target: &CStr, follow: bool) -> Ret {
    let links = if follow { libc::MOVE_MOUNT_T_SYMLINKS } else { 0 };
    let (none, how) = (sys::path(c""), (libc::MOVE_MOUNT_F_EMPTY_PATH | links) as usize);
    let (here, target) = (sys::fd(libc::AT_FDCWD), sys::path(target));
    // SAFETY: a number, which may well be no descriptor, and two C strings.
    unsafe { call(libc::SYS_move_mount, [mount, none, here, target, how, 0]) }
}

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

/// The kernel's `struct sigaction` on x86-64 (arch/x86/include/uapi/asm/signal.h); all zero is `SIG_DFL`.
#[repr(C)]
#[derive(Default)]
struct KernelSigaction {
    handler: usize,
    flags: u64,
    restorer: usize,
    mask: u64,
}

/// Lets all signals come.
pub(super) fn empty_mask() -> Ret {
    sys::signal_mask(libc::SIG_SETMASK, 0, None)
}
