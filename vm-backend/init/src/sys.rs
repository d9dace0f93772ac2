//! System calls, by number (arch/x86/entry/syscalls/syscall_64.tbl). Errors are positive errnos.

use core::arch::asm;

/// Result of a system call.
pub type Answer = Result<usize, i32>;

/// # Safety
/// As the system call demands; pointers among the arguments must be good for what it does with them.
unsafe fn call(number: usize, args: [usize; 6]) -> Answer {
    let result: isize;
    let [a, b, c, d, e, f] = args;
    // SAFETY: the kernel's calling convention: it changes rax, rcx and r11 only, and memory as the caller vouches for.
    unsafe {
        asm!("syscall", inlateout("rax") number => result, in("rdi") a, in("rsi") b, in("rdx") c, in("r10") d, in("r8") e,
            in("r9") f, lateout("rcx") _, lateout("r11") _, options(nostack));
    }
    match result {
        -4095..=-1 => Err(-(result as i32)),
        done => Ok(done as usize),
    }
}

/// With numbers only.
fn plain(number: usize, args: [usize; 6]) -> Answer {
    // SAFETY: callers below pass no address, so that no memory is touched.
    unsafe { call(number, args) }
}

/// For calls whose failure changes nothing.
pub fn ignore(_: Answer) {}

/// A text that ends with a zero byte.
pub type Text = core::ffi::CStr;

/// `struct pollfd`.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct PollFd {
    /// Descriptor; negative ones are not looked at.
    pub fd: i32,
    /// What is asked for.
    pub events: i16,
    /// What there is.
    pub revents: i16,
}

/// Something can be read.
pub const POLLIN: i16 = 1;
/// Nobody can write, or there is an error.
pub const POLLGONE: i16 = 0x8 | 0x10;

pub fn read(fd: i32, to: *mut u8, len: usize) -> Answer {
    // SAFETY: callers own `len` bytes at `to`.
    unsafe { call(0, [fd as usize, to as usize, len, 0, 0, 0]) }
}

pub fn write(fd: i32, from: *const u8, len: usize) -> Answer {
    // SAFETY: reads at most `len` bytes that callers own.
    unsafe { call(1, [fd as usize, from as usize, len, 0, 0, 0]) }
}

pub fn open(path: &Text, flags: i32) -> Answer {
    // SAFETY: a text that outlives the call.
    unsafe { call(2, [path.as_ptr() as usize, flags as usize, 0, 0, 0, 0]) }
}

pub fn close(fd: i32) {
    // What it may say changes nothing.
    ignore(plain(3, [fd as usize, 0, 0, 0, 0, 0]));
}

pub fn poll(fds: &mut [PollFd], timeout_ms: i32) -> Answer {
    // SAFETY: the slice outlives the call.
    unsafe { call(7, [fds.as_mut_ptr() as usize, fds.len(), timeout_ms as usize, 0, 0, 0]) }
}

/// Maps `len` bytes of a descriptor, shared, to be read and written.
pub fn map_shared(fd: i32, len: usize, offset: usize) -> Answer {
    const READ_WRITE: usize = 3;
    const SHARED: usize = 1;
    // SAFETY: a new mapping at an address of the kernel's choice touches nothing of ours.
    unsafe { call(9, [0, len, READ_WRITE, SHARED, fd as usize, offset]) }
}

/// Blocks a set of signals.
pub fn block_signals(set: u64) {
    // SAFETY: reads eight bytes; SIG_BLOCK is 0.
    ignore(unsafe { call(14, [0, &raw const set as usize, 0, 8, 0, 0]) });
}

/// Unblocks all signals.
pub fn unblock_signals() {
    let none = 0u64;
    // SAFETY: reads eight bytes; SIG_SETMASK is 2.
    ignore(unsafe { call(14, [2, &raw const none as usize, 0, 8, 0, 0]) });
}

pub fn dup2(from: i32, to: i32) -> Answer {
    plain(33, [from as usize, to as usize, 0, 0, 0, 0])
}

/// A copy of this process; the parent waits until it executes something or ends.
///
/// Like fork(2), so that what the child does to its memory stays its own.
pub fn fork_and_wait_for_exec() -> Answer {
    const VFORK: usize = 0x4000;
    const SIGCHLD: usize = 17;
    plain(56, [VFORK | SIGCHLD, 0, 0, 0, 0, 0])
}

/// Executes a program; comes back only with an error.
pub fn execve(path: *const u8, argv: *const *const u8, envp: *const *const u8) -> i32 {
    // SAFETY: callers pass a text and two lists of texts that end with a null pointer.
    let result = unsafe { call(59, [path as usize, argv as usize, envp as usize, 0, 0, 0]) };
    result.err().unwrap_or_default()
}

pub fn exit(code: i32) -> ! {
    loop {
        ignore(plain(231, [code as usize, 0, 0, 0, 0, 0]));
    }
}

/// The next child that ended, and its status; `Ok(None)`: all still run.
pub fn wait_any() -> Result<Option<(i32, i32)>, i32> {
    const NO_HANG: usize = 1;
    let mut status = 0i32;
    // SAFETY: writes four bytes that are ours.
    let pid = unsafe { call(61, [usize::MAX, &raw mut status as usize, NO_HANG, 0, 0, 0]) }?;
    Ok(if pid == 0 { None } else { Some((pid as i32, status)) })
}

pub fn unlink(path: &Text) {
    // SAFETY: a text that outlives the call. If it stays, it stays.
    ignore(unsafe { call(87, [path.as_ptr() as usize, 0, 0, 0, 0, 0]) });
}

pub fn set_session() {
    ignore(plain(112, [0; 6]));
}

/// MS_RDONLY, MS_NOSUID, MS_NODEV, MS_NOEXEC, MS_MOVE (include/uapi/linux/mount.h).
pub const READ_ONLY: usize = 1;
/// See [`READ_ONLY`].
pub const NO_SUID: usize = 2;
/// See [`READ_ONLY`].
pub const NO_EXEC: usize = 8;
/// See [`READ_ONLY`].
pub const MOVE: usize = 0x2000;

pub fn mount(what: &Text, at: &Text, kind: &Text, flags: usize, data: &Text) -> Answer {
    let [what, at, kind, data] = [what, at, kind, data].map(|text| text.as_ptr() as usize);
    // SAFETY: texts that outlive the call.
    unsafe { call(165, [what, at, kind, flags, data, 0]) }
}

pub fn make_folder(path: &Text, mode: usize) -> Answer {
    // SAFETY: a text that outlives the call.
    unsafe { call(83, [path.as_ptr() as usize, mode, 0, 0, 0, 0]) }
}

/// Makes a device; `mode` says of which kind.
pub fn make_device(path: &Text, mode: usize, major: u32, minor: u32) -> Answer {
    // As new_encode_dev() of include/linux/kdev_t.h has it.
    let number = (minor & 0xff) | major << 8 | (minor & !0xff) << 12;
    // SAFETY: a text that outlives the call.
    unsafe { call(133, [path.as_ptr() as usize, mode, number as usize, 0, 0, 0]) }
}

pub fn change_folder(path: &Text) -> Answer {
    // SAFETY: a text that outlives the call.
    unsafe { call(80, [path.as_ptr() as usize, 0, 0, 0, 0, 0]) }
}

pub fn change_root(path: &Text) -> Answer {
    // SAFETY: a text that outlives the call.
    unsafe { call(161, [path.as_ptr() as usize, 0, 0, 0, 0, 0]) }
}

/// Writes what the kernel still holds back for any disk, and waits until it is there.
pub fn sync() {
    ignore(plain(162, [0; 6]));
}

/// A socket for datagrams of the internet protocol.
pub fn socket() -> Answer {
    const INET: usize = 2;
    const DATAGRAMS: usize = 2;
    plain(41, [INET, DATAGRAMS, 0, 0, 0, 0])
}

/// A request about a network card; `argument` is a `struct ifreq`.
pub fn card(fd: i32, request: usize, argument: &mut [u8; 40]) -> Answer {
    // SAFETY: those requests read and write a structure of 40 bytes, which is ours.
    unsafe { call(16, [fd as usize, request, argument.as_mut_ptr() as usize, 0, 0, 0]) }
}

pub fn iopl(level: usize) {
    ignore(plain(172, [level, 0, 0, 0, 0, 0]));
}

/// A descriptor that is readable when a blocked signal of the set has come.
pub fn signalfd(set: u64) -> Answer {
    const NONBLOCK_CLOEXEC: usize = 0o4000 | 0o2_000_000;
    // SAFETY: reads eight bytes; a new descriptor is wanted (-1).
    unsafe { call(289, [usize::MAX, &raw const set as usize, 8, NONBLOCK_CLOEXEC, 0, 0]) }
}

/// A pipe: (end to read from, end to write to), both closed by exec.
pub fn pipe(flags: usize) -> Result<(i32, i32), i32> {
    const CLOEXEC: usize = 0o2_000_000;
    let mut ends = [0i32; 2];
    // SAFETY: writes two numbers that are ours.
    unsafe { call(293, [ends.as_mut_ptr() as usize, CLOEXEC | flags, 0, 0, 0, 0]) }?;
    Ok((ends[0], ends[1]))
}

/// Sets a descriptor's flags (F_SETFL).
pub fn set_flags(fd: i32, flags: usize) {
    ignore(plain(72, [fd as usize, 4, flags, 0, 0, 0]));
}

/// Reads and writes never wait.
pub const NONBLOCK: usize = 0o4000;
/// Interrupted.
pub const EINTR: i32 = 4;
/// It would have to wait.
pub const EAGAIN: i32 = 11;
