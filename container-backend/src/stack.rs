//! Stacks for children, kept for the next one.

use std::io;
use std::ptr::{self, NonNull};
use std::sync::{Mutex, PoisonError};

/// A child's stack. What runs on it needs less than 2 KiB; unoptimised builds need more, and pages not touched cost nothing.
const SIZE: usize = 64 << 10;
/// The unmapped page below it, so that an overflow is a fault and not a corruption.
const GUARD: usize = 4096;

/// One mapped stack with its guard page.
#[derive(Debug)]
pub(crate) struct Stack {
    base: NonNull<libc::c_void>,
}

// SAFETY: a mapping is not tied to a thread; whoever holds the `Stack` alone uses it.
unsafe impl Send for Stack {}
// SAFETY: a shared `Stack` tells where it is, and no more.
unsafe impl Sync for Stack {}

impl Stack {
    pub(crate) fn new() -> io::Result<Self> {
        // SAFETY: a fresh private mapping at an address of the kernel's choice touches nothing that exists.
        let base = unsafe {
            let (protection, kind) =
                (libc::PROT_READ | libc::PROT_WRITE, libc::MAP_PRIVATE | libc::MAP_ANONYMOUS);
            libc::mmap(ptr::null_mut(), GUARD + SIZE, protection, kind | libc::MAP_STACK, -1, 0)
        };
        let base = NonNull::new(base).filter(|base| base.as_ptr() != libc::MAP_FAILED);
        let stack = Self { base: base.ok_or_else(io::Error::last_os_error)? };
        // SAFETY: the first page of the mapping made above, which nobody uses yet.
        match unsafe { libc::mprotect(stack.base.as_ptr(), GUARD, libc::PROT_NONE) } {
            0 => Ok(stack),
            _ => Err(io::Error::last_os_error()),
        }
    }

    /// Where the usable part begins, and its size, as clone3(2) wants them.
    pub(crate) fn range(&self) -> (u64, u64) {
        ((self.base.as_ptr() as usize + GUARD) as u64, SIZE as u64)
    }

    /// Where it begins: it grows down.
    pub(crate) fn top(&self) -> u64 {
        let (base, size) = self.range();
        base + size
    }
}

impl Drop for Stack {
    fn drop(&mut self) {
        // SAFETY: the mapping that `new` made; no child runs on it, since only a stack that is not in use is dropped.
        unsafe { libc::munmap(self.base.as_ptr(), GUARD + SIZE) };
    }
}

/// Stacks that are not in use.
#[derive(Debug)]
pub(crate) struct Stacks {
    idle: Mutex<Vec<Stack>>,
    most: usize,
}

impl Stacks {
    /// None yet, and never more than `most`.
    pub(crate) const fn keeping(most: usize) -> Self {
        Self { idle: Mutex::new(Vec::new()), most }
    }

    /// A stack, used before or new.
    pub(crate) fn take(&self) -> io::Result<Stack> {
        let used = self.idle.lock().unwrap_or_else(PoisonError::into_inner).pop();
        used.map_or_else(Stack::new, Ok)
    }

    /// Keeps a stack that no child uses any more, if there is room for it.
    pub(crate) fn give_back(&self, stack: Stack) {
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        if idle.len() < self.most {
            idle.push(stack);
        }
    }
}
