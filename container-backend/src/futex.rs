//! Words of memory that threads and children of this process sleep on.
//!
//! Made by the system call, without a C library: what runs between clone and exec uses them, too (see [`crate::child`]).

use std::sync::atomic::AtomicU32;
use std::time::Duration;

use crate::sys::{self, flags};

/// Sleeps until the word is woken, unless it is no longer `value`.
pub(crate) fn wait(word: &AtomicU32, value: u32) {
    futex(word, libc::FUTEX_WAIT | libc::FUTEX_PRIVATE_FLAG, value, None);
}

/// As [`wait`], but for `most` at most: for a word whose other side may have been killed.
pub(crate) fn wait_for(word: &AtomicU32, value: u32, most: Duration) {
    futex(word, libc::FUTEX_WAIT | libc::FUTEX_PRIVATE_FLAG, value, Some(&sys::timespec(most)));
}

/// As [`wait`], for the word that the kernel itself wakes, which it does for all processes.
pub(crate) fn wait_shared(word: &AtomicU32, value: u32) {
    futex(word, libc::FUTEX_WAIT, value, None);
}

/// Wakes all that sleep on the word.
pub(crate) fn wake(word: &AtomicU32) {
    futex(word, libc::FUTEX_WAKE | libc::FUTEX_PRIVATE_FLAG, i32::MAX.cast_unsigned(), None);
}

fn futex(word: &AtomicU32, operation: libc::c_int, value: u32, most: Option<&libc::timespec>) {
    let most = most.map_or(0, |most| std::ptr::from_ref(most) as usize);
    // SAFETY: a live word of 4 bytes; a timespec or none; no second word. An interrupted or needless wait is seen by the
    // callers' loops.
    unsafe {
        let word = word.as_ptr() as usize;
        sys::attempt(libc::SYS_futex, [word, flags(operation), value as usize, most, 0, 0]);
    }
}
