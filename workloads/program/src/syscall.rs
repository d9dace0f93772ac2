//! `syscall`: the cheapest call that really enters the kernel.
//!
//! `getppid`, because the kernel only reads one field for it, and because nobody answers it in its place:
//! `clock_gettime`, `time` and `getcpu` are answered by the vDSO without a call, and some C libraries have
//! kept the answer of `getpid`.

use crate::mix::fold;
use crate::sys;
use crate::work::{Work, iterate};

/// Calls in one iteration.
pub const CALLS: u64 = 256;

/// The workload `syscall`; one operation is one call.
pub struct Syscall;

impl Work for Syscall {
    fn operations(&self) -> u64 {
        CALLS
    }

    fn repeat(&mut self, iterations: u64) -> u64 {
        iterate(iterations, unit)
    }
}

/// One iteration: the checksum of the number of calls that succeeded. The parent's number itself differs from
/// target to target and is 0 in a process namespace of its own.
#[inline(never)]
pub fn unit() -> u64 {
    let mut succeeded = 0;
    for _ in 0..CALLS {
        // SAFETY: getppid(2) takes no argument and changes nothing.
        let parent = unsafe { sys::call(libc::SYS_getppid, 0, 0, 0) };
        succeeded += u64::from(parent >= 0);
    }
    fold(CALLS, succeeded)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_call_is_made_and_counted() {
        assert_eq!(unit(), fold(256, 256));
    }
}
