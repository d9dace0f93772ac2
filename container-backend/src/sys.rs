//! System calls by the instruction itself.
//!
//! The child between clone and exec shares the caller's memory, the caller's thread-local storage included, so it must
//! not touch `errno` or anything else that a C library wrapper may keep there. These functions touch nothing but
//! registers: the kernel's own return convention (`-errno`) comes back as a `Result`.

use std::arch::asm;
use std::ffi::CStr;
use std::io;
use std::os::fd::{FromRawFd, OwnedFd, RawFd};
use std::time::Duration;

/// A system call's result: its value, or the positive errno.
pub(crate) type Ret = Result<usize, i32>;

/// The largest errno the kernel returns (`MAX_ERRNO`, include/linux/err.h).
const MAX_ERRNO: isize = 4095;

/// `struct clone_args` of clone3(2), version 2 (88 bytes: with `cgroup`, Linux 5.7).
pub(crate) type CloneArgs = libc::clone_args;

/// `CLONE_CLEAR_SIGHAND` (Linux 5.5): caught signals are default in the child, so no handler of the caller ever runs there.
pub(crate) const CLONE_CLEAR_SIGHAND: u64 = 0x1_0000_0000;
/// `CLONE_INTO_CGROUP` (Linux 5.7).
pub(crate) const CLONE_INTO_CGROUP: u64 = 0x2_0000_0000;

/// Makes system call `nr`.
///
/// # Safety
///
/// What the call reads or writes through its arguments must be valid for that; the call must not break the
/// assumptions of the surrounding Rust code (unmapping its memory, closing descriptors it owns, ...).
#[inline(always)]
pub(crate) unsafe fn call(nr: libc::c_long, args: [usize; 6]) -> Ret {
    let ret: isize;
    let nr = number(nr);
    // SAFETY: the x86-64 calling convention of the kernel: number in rax, arguments in these six registers, rcx and r11
    // overwritten, memory possibly written (no `nomem`). Validity of the arguments is this function's own contract.
    unsafe {
        asm!(
            "syscall",
            inlateout("rax") nr => ret,
            in("rdi") args[0], in("rsi") args[1], in("rdx") args[2],
            in("r10") args[3], in("r8") args[4], in("r9") args[5],
            lateout("rcx") _, lateout("r11") _,
            options(nostack, preserves_flags),
        );
    }
    decode(ret)
}

/// Makes system call `nr` where nothing can be done about a failure.
///
/// # Safety
///
/// As for [`call`].
#[inline(always)]
pub(crate) unsafe fn attempt(nr: libc::c_long, args: [usize; 6]) {
    // SAFETY: this function's contract.
    if unsafe { call(nr, args) }.is_err() {}
}

/// A length of time, as the kernel takes it.
pub(crate) fn timespec(duration: Duration) -> libc::timespec {
    libc::timespec {
        tv_sec: libc::time_t::try_from(duration.as_secs()).unwrap_or(libc::time_t::MAX),
        tv_nsec: duration.subsec_nanos().into(),
    }
}

/// A system call's number as it stands in a register, which on x86-64 is as wide as a `long`.
#[inline(always)]
#[expect(
    clippy::cast_possible_truncation,
    reason = "both have 64 bits: lib.rs refuses any other architecture"
)]
const fn number(nr: libc::c_long) -> isize {
    nr as isize
}

/// Splits a raw return value into value and errno.
#[inline(always)]
fn decode(ret: isize) -> Ret {
    if (-MAX_ERRNO..0).contains(&ret) {
        #[expect(clippy::cast_possible_truncation, reason = "between 1 and 4095 by the line above")]
        Err(-ret as i32)
    } else {
        Ok(ret.cast_unsigned())
    }
}

/// A descriptor as a system-call argument (sign-extended, so that `AT_FDCWD` stays what it is).
#[inline(always)]
pub(crate) const fn fd(fd: RawFd) -> usize {
    (fd as isize).cast_unsigned()
}

/// A C string as a system-call argument.
#[inline(always)]
pub(crate) fn path(path: &CStr) -> usize {
    path.as_ptr() as usize
}

/// The flags of an `int` argument.
#[inline(always)]
pub(crate) const fn flags(flags: libc::c_int) -> usize {
    flags.cast_unsigned() as usize
}

/// Clones, and runs `entry(arg)` in the child on the stack that `args` names.
///
/// With `CLONE_VM | CLONE_VFORK` the call returns when the child has executed a program or ended.
///
/// # Safety
///
/// - With `CLONE_VM`, `args.stack` and `args.stack_size` name writable memory that nobody else uses until the child is
///   through with it, with a top that is a multiple of 16.
/// - `entry` must be fit to run in such a child: with `CLONE_VM` it shares all memory with the caller.
/// - `arg` must stay valid until the child is through with it.
pub(crate) unsafe fn clone3(
    args: &CloneArgs,
    entry: unsafe extern "C" fn(*const libc::c_void) -> !,
    arg: *const libc::c_void,
) -> Ret {
    let args = [std::ptr::from_ref(args) as u64, size_of::<CloneArgs>() as u64, 0, 0];
    // SAFETY: this function's contract; `args` is alive.
    unsafe { fork_by(libc::SYS_clone3, args, entry, arg) }
}

/// Clones a process that shares all memory; `entry(arg)` runs in it on the stack whose top is `stack`. `tid` holds its number until
/// it has executed a program or ended; it is a futex then. By clone(2), which filters let pass where they hide clone3(2).
///
/// # Safety
///
/// As for [`clone3`] with `CLONE_VM`; the caller goes on meanwhile, so `stack` and `arg` must stay valid until `tid` is 0.
pub(crate) unsafe fn clone_beside(
    stack: u64,
    tid: *mut u32,
    entry: unsafe extern "C" fn(*const libc::c_void) -> !,
    arg: *const libc::c_void,
) -> Ret {
    let kind = libc::CLONE_VM | libc::CLONE_PARENT_SETTID | libc::CLONE_CHILD_CLEARTID | libc::SIGCHLD;
    let args = [flags(kind) as u64, stack, tid as u64, tid as u64];
    // SAFETY: this function's contract. The order of the arguments is x86-64's (clone(2)).
    unsafe { fork_by(libc::SYS_clone, args, entry, arg) }
}

/// Makes a system call that returns twice; `entry(arg)` runs in the child, on the stack that the call gives it.
///
/// # Safety
///
/// As for [`clone3`], of whatever the arguments ask for. `r8`, the fifth argument, is 0: no thread-local storage is set.
unsafe fn fork_by(
    nr: libc::c_long,
    args: [u64; 4],
    entry: unsafe extern "C" fn(*const libc::c_void) -> !,
    arg: *const libc::c_void,
) -> Ret {
    let ret: isize;
    // SAFETY: as in `call`; the kernel preserves every register but rax, rcx and r11 in parent and child alike, so the
    // child finds `entry` and `arg` where the parent put them. The child starts on an empty stack whose top is a
    // multiple of 16 (this function's contract), so `call` there gives `entry` the alignment that the C ABI wants; it
    // never returns, `ud2` stands behind it. The parent's path through the
    // block neither pushes nor pops. Without CLONE_VM and a stack, the child calls `entry` on its copy of this stack, below
    // the red zone (no `nostack`).
    unsafe {
        asm!(
            "syscall",
            "test rax, rax",
            "jnz 2f",
            "xor ebp, ebp",
            "mov rdi, r12",
            "call r13",
            "ud2",
            "2:",
            inlateout("rax") number(nr) => ret,
            in("rdi") args[0],
            in("rsi") args[1],
            in("rdx") args[2],
            in("r10") args[3],
            in("r8") 0_usize,
            in("r12") arg,
            in("r13") entry,
            lateout("rcx") _, lateout("r11") _,
        );
    }
    decode(ret)
}

/// Ends the calling process at once: where a filter of the user's own refuses even that, by SIGILL.
pub(crate) fn exit(status: i32) -> ! {
    // SAFETY: exit_group takes a number only. Where it returns, the next instruction is one that there is not, so that nothing
    // goes on: the kernel ends a process for it whatever signals it blocks.
    unsafe {
        attempt(libc::SYS_exit_group, [fd(status), 0, 0, 0, 0, 0]);
        std::arch::asm!("ud2", options(noreturn, nomem, nostack));
    }
}

/// The monotonic clock in nanoseconds.
///
/// Safe in a child that shares the caller's memory: the vDSO's function (or the system call) with no state of its own.
#[must_use]
pub fn monotonic_ns() -> u64 {
    let mut now = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: `now` is a timespec to write to; CLOCK_MONOTONIC exists on every Linux, so the call cannot fail.
    unsafe { libc::clock_gettime(libc::CLOCK_MONOTONIC, &raw mut now) };
    now.tv_sec.cast_unsigned() * 1_000_000_000 + now.tv_nsec.cast_unsigned()
}

/// Changes the calling thread's set of blocked signals.
pub(crate) fn signal_mask(how: libc::c_int, new: u64, old: Option<&mut u64>) -> Ret {
    let new = std::ptr::from_ref(&new) as usize;
    let old = old.map_or(0, |old| std::ptr::from_mut(old) as usize);
    // SAFETY: two masks of 8 bytes, as the size says.
    unsafe { call(libc::SYS_rt_sigprocmask, [flags(how), new, old, size_of::<u64>(), 0, 0]) }
}

/// The descriptor that a call has made.
///
/// # Safety
///
/// `made` is the result of a call that returns a new descriptor, which nobody else knows.
pub(crate) unsafe fn owned(made: Ret) -> io::Result<OwnedFd> {
    let fd = made.map_err(os_error)?;
    let fd = RawFd::try_from(fd).map_err(|_too_large| os_error(libc::EBADF))?;
    // SAFETY: this function's contract.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// An errno as the standard library's error.
pub(crate) fn os_error(errno: i32) -> io::Error {
    io::Error::from_raw_os_error(errno)
}
