//! System calls without the C library between, and the clock.
//!
//! The start of the program is measured, and each page of code that it touches is a page fault more. A call
//! written here stands beside its caller; the C library's stands on a page of its own.

use core::arch::asm;

/// One system call with up to three arguments; a negative result is `-errno`.
///
/// # Safety
///
/// The arguments must be what the kernel's call `number` expects: pointers valid for what it reads or writes.
#[inline(always)]
pub unsafe fn call(number: i64, a: usize, b: usize, c: usize) -> isize {
    let result: isize;
    // SAFETY: the instruction clobbers rax, rcx and r11 only (System V ABI supplement, A.2.1), all named
    // here; what the kernel does with the arguments is the caller's promise.
    unsafe {
        asm!(
            "syscall",
            inlateout("rax") number => result,
            in("rdi") a,
            in("rsi") b,
            in("rdx") c,
            lateout("rcx") _,
            lateout("r11") _,
            options(nostack),
        );
    }
    result
}

/// Standard output.
pub const STDOUT: usize = 1;
/// Standard error.
pub const STDERR: usize = 2;

/// A write did not succeed; the reader is gone or full, so there is nobody left to tell.
#[derive(Debug)]
pub struct WriteFailed;

const EINTR: isize = -(libc::EINTR as isize);

/// Writes all of `bytes` to `descriptor`, at once where the kernel takes them at once.
///
/// # Errors
///
/// [`WriteFailed`] for any error but an interruption, which is tried again.
#[inline(always)]
pub fn write_all(descriptor: usize, mut bytes: &[u8]) -> Result<(), WriteFailed> {
    while !bytes.is_empty() {
        // SAFETY: write(2) reads `bytes.len()` bytes from `bytes`, a live slice.
        match unsafe { call(libc::SYS_write, descriptor, bytes.as_ptr() as usize, bytes.len()) } {
            EINTR => {}
            written if written > 0 => bytes = bytes.get(written.unsigned_abs()..).unwrap_or_default(),
            _ => return Err(WriteFailed),
        }
    }
    Ok(())
}

/// Reads standard input to its end (or its first error) and throws it away.
pub fn wait_for_end_of_input() {
    let mut scratch = [0_u8; 64];
    loop {
        // SAFETY: read(2) writes at most `scratch.len()` bytes to `scratch`, which is borrowed mutably.
        let read = unsafe { call(libc::SYS_read, 0, scratch.as_mut_ptr() as usize, scratch.len()) };
        if read <= 0 && read != EINTR {
            return;
        }
    }
}

/// Ends the program at once: no exit handlers, nothing is buffered anywhere.
#[inline(always)]
pub fn exit(status: u8) -> ! {
    loop {
        // SAFETY: exit_group(2) takes a number and no pointer; it does not return.
        unsafe { call(libc::SYS_exit_group, usize::from(status), 0, 0) };
    }
}

/// CLOCK_MONOTONIC in nanoseconds; 0 where the target has no such clock (no check depends on it).
#[inline]
pub fn now_ns() -> u64 {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: clock_gettime(3) writes one timespec, to which the pointer is valid; it goes through the vDSO
    // where the kernel offers one, which is why this is not a plain system call.
    unsafe { libc::clock_gettime(libc::CLOCK_MONOTONIC, &raw mut time) };
    let seconds = u64::try_from(time.tv_sec).unwrap_or(0);
    seconds.saturating_mul(1_000_000_000).saturating_add(u64::try_from(time.tv_nsec).unwrap_or(0))
}
