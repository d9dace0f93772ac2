//! The memory functions that the compiler calls. In assembly, so that it cannot turn them into calls to themselves.

use core::arch::asm;

/// Copies `n` bytes between areas that do not overlap.
///
/// # Safety
/// As for `memcpy` of C.
#[unsafe(no_mangle)]
unsafe extern "C" fn memcpy(to: *mut u8, from: *const u8, n: usize) -> *mut u8 {
    // SAFETY: the caller vouches for both areas; DF is clear in Rust code (System V ABI).
    unsafe {
        asm!("rep movsb", inout("rcx") n => _, inout("rdi") to => _, inout("rsi") from => _, options(nostack, preserves_flags))
    };
    to
}

/// Fills `n` bytes.
///
/// # Safety
/// As for `memset` of C.
#[unsafe(no_mangle)]
unsafe extern "C" fn memset(to: *mut u8, byte: i32, n: usize) -> *mut u8 {
    let [low, ..] = byte.to_le_bytes();
    // SAFETY: the caller vouches for the area; DF is clear in Rust code (System V ABI).
    unsafe {
        asm!("rep stosb", inout("rcx") n => _, inout("rdi") to => _, in("al") low, options(nostack, preserves_flags))
    };
    to
}
