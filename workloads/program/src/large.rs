//! Memory in large pages, where the target has them.

use core::ops::{Deref, DerefMut};
use core::ptr::{self, NonNull};
use core::slice;

use crate::work::PrepareError;

/// A large page of x86-64.
const LARGE_PAGE: usize = 2 << 20;

/// Words that are zero at first, in large pages from their start to their end if the kernel follows the advice.
///
/// Where the pages of 4 KiB happen to lie decides how many of their lines a cache can hold at once, which made a third of
/// the time of a chase through 256 KiB; a large page lies in one piece.
pub struct LargeWords {
    start: NonNull<usize>,
    len: usize,
    /// Of the whole mapping, which begins somewhere before `start`.
    mapping: (*mut libc::c_void, usize),
}

impl LargeWords {
    /// At least `len` words' worth of memory.
    ///
    /// # Errors
    ///
    /// [`PrepareError::Memory`] where there is not as much.
    pub fn new(len: usize) -> Result<Self, PrepareError> {
        let bytes = len.saturating_mul(size_of::<usize>());
        let refused = || PrepareError::Memory(bytes);
        let large = bytes.checked_next_multiple_of(LARGE_PAGE).ok_or_else(refused)?;
        // One more to align by: not every kernel starts large mappings on a large page.
        let mapped = large.checked_add(LARGE_PAGE).ok_or_else(refused)?;
        let (prot, flags) = (libc::PROT_READ | libc::PROT_WRITE, libc::MAP_PRIVATE | libc::MAP_ANONYMOUS);
        // SAFETY: a new anonymous mapping at an address of the kernel's choice touches no memory of ours.
        let mapping = unsafe { libc::mmap(ptr::null_mut(), mapped, prot, flags, -1, 0) };
        if mapping == libc::MAP_FAILED {
            return Err(refused());
        }
        let start = mapping.map_addr(|address| address.next_multiple_of(LARGE_PAGE));
        // SAFETY: the range lies in the mapping, and the advice does not change what it holds. A kernel without
        // large pages refuses it, and then there is nothing to advise.
        unsafe { libc::madvise(start, large, libc::MADV_HUGEPAGE) };
        Ok(Self { start: NonNull::new(start.cast()).ok_or_else(refused)?, len, mapping: (mapping, mapped) })
    }
}

impl Deref for LargeWords {
    type Target = [usize];

    fn deref(&self) -> &[usize] {
        // SAFETY: `len` words from `start` on lie in the mapping, which is aligned to pages, zero or written by us, and
        // lives as long as `self`; only `deref_mut`, by exclusive borrow, gives out write access.
        unsafe { slice::from_raw_parts(self.start.as_ptr(), self.len) }
    }
}

impl DerefMut for LargeWords {
    fn deref_mut(&mut self) -> &mut [usize] {
        // SAFETY: as above, and `self` is borrowed exclusively.
        unsafe { slice::from_raw_parts_mut(self.start.as_ptr(), self.len) }
    }
}

impl Drop for LargeWords {
    fn drop(&mut self) {
        // SAFETY: exactly the mapping that was made; no reference into it outlives `self`.
        unsafe { libc::munmap(self.mapping.0, self.mapping.1) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_zero_writable_and_on_a_large_page() {
        let mut words = LargeWords::new(LARGE_PAGE / 4).unwrap();
        assert_eq!(words.as_ptr().addr() % LARGE_PAGE, 0);
        assert!(words.iter().all(|word| *word == 0));
        words.fill(7);
        assert_eq!(words.len(), LARGE_PAGE / 4);
        assert!(words.iter().all(|word| *word == 7));
    }

    #[test]
    fn memory_that_cannot_be_had_is_refused() {
        for len in [usize::MAX, usize::MAX / 8 - (1 << 18), 1 << 50] {
            assert!(matches!(LargeWords::new(len), Err(PrepareError::Memory(_))), "{len}");
        }
    }

    #[test]
    fn the_kernel_is_asked_for_large_pages() {
        let setting = std::fs::read_to_string("/sys/kernel/mm/transparent_hugepage/enabled");
        if !setting.as_ref().is_ok_and(|setting| !setting.contains("[never]")) {
            println!("skipped: this kernel has no transparent huge pages: {setting:?}");
            return;
        }
        let words = LargeWords::new(LARGE_PAGE / 2).unwrap();
        let smaps = std::fs::read_to_string("/proc/self/smaps").unwrap();
        // The advice makes an area of its own, or the mapping was aligned as it is.
        let area = format!("{:x}-", words.as_ptr().addr());
        let flags =
            smaps.lines().skip_while(|line| !line.starts_with(&area)).find(|l| l.starts_with("VmFlags:"));
        assert!(flags.is_some_and(|flags| flags.split(' ').any(|flag| flag == "hg")), "{flags:?}");
    }
}
