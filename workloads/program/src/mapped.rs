//! Memory in pages of a size that matters.

use core::ops::{Deref, DerefMut};
use core::ptr::{self, NonNull};
use core::slice;

use crate::work::PrepareError;

/// A large page of x86-64.
const LARGE_PAGE: usize = 2 << 20;

/// How large the pages of a mapping shall be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pages {
    /// 4 KiB, also where larger ones are given to everybody.
    Small,
    /// 2 MiB, where the kernel has them. Where small pages happen to lie decides how many of their lines a cache can hold at once,
    /// and differs from launch to launch.
    Large,
}

/// Words that are zero at first, from the start of a large page on.
pub struct Mapped {
    start: NonNull<usize>,
    len: usize,
    /// Of the whole mapping, which begins somewhere before `start`.
    mapping: (*mut libc::c_void, usize),
}

impl Mapped {
    /// Memory of `len` words.
    ///
    /// # Errors
    ///
    /// [`PrepareError::Memory`] where there is not as much.
    pub fn new(len: usize, pages: Pages) -> Result<Self, PrepareError> {
        let bytes = len.saturating_mul(size_of::<usize>());
        let refused = || PrepareError::Memory(bytes);
        let whole = bytes.checked_next_multiple_of(LARGE_PAGE).ok_or_else(refused)?;
        // One more to align by: not every kernel starts large mappings on a large page.
        let mapped = whole.checked_add(LARGE_PAGE).ok_or_else(refused)?;
        let (prot, flags) = (libc::PROT_READ | libc::PROT_WRITE, libc::MAP_PRIVATE | libc::MAP_ANONYMOUS);
        // SAFETY: a new anonymous mapping at an address of the kernel's choice touches no memory of ours.
        let mapping = unsafe { libc::mmap(ptr::null_mut(), mapped, prot, flags, -1, 0) };
        if mapping == libc::MAP_FAILED {
            return Err(refused());
        }
        let start = mapping.map_addr(|address| address.next_multiple_of(LARGE_PAGE));
        let advice = match pages {
            Pages::Small => libc::MADV_NOHUGEPAGE,
            Pages::Large => libc::MADV_HUGEPAGE,
        };
        // SAFETY: the range lies in the mapping, and the advice does not change what it holds. A kernel without
        // large pages refuses it, and then there is nothing to advise.
        unsafe { libc::madvise(start, whole, advice) };
        Ok(Self { start: NonNull::new(start.cast()).ok_or_else(refused)?, len, mapping: (mapping, mapped) })
    }
}

impl Deref for Mapped {
    type Target = [usize];

    fn deref(&self) -> &[usize] {
        // SAFETY: `len` words from `start` on lie in the mapping, which is aligned to pages, zero or written by us, and
        // lives as long as `self`; only `deref_mut`, by exclusive borrow, gives out write access.
        unsafe { slice::from_raw_parts(self.start.as_ptr(), self.len) }
    }
}

impl DerefMut for Mapped {
    fn deref_mut(&mut self) -> &mut [usize] {
        // SAFETY: as above, and `self` is borrowed exclusively.
        unsafe { slice::from_raw_parts_mut(self.start.as_ptr(), self.len) }
    }
}

impl Drop for Mapped {
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
        for pages in [Pages::Small, Pages::Large] {
            let mut words = Mapped::new(LARGE_PAGE / 4, pages).unwrap();
            assert_eq!(words.as_ptr().addr() % LARGE_PAGE, 0);
            assert!(words.iter().all(|word| *word == 0));
            words.fill(7);
            assert_eq!(words.len(), LARGE_PAGE / 4);
            assert!(words.iter().all(|word| *word == 7));
        }
    }

    #[test]
    fn memory_that_cannot_be_had_is_refused() {
        for len in [usize::MAX, usize::MAX / 8 - (1 << 18), 1 << 50] {
            assert!(matches!(Mapped::new(len, Pages::Large), Err(PrepareError::Memory(_))), "{len}");
        }
    }

    #[test]
    fn the_kernel_is_told_how_large_the_pages_shall_be() {
        let setting = std::fs::read_to_string("/sys/kernel/mm/transparent_hugepage/enabled");
        if setting.is_err() {
            println!("skipped: this kernel has no transparent huge pages: {setting:?}");
            return;
        }
        // Documentation/filesystems/proc.rst: the flags for the two kinds of advice.
        for (pages, expected) in [(Pages::Small, "nh"), (Pages::Large, "hg")] {
            let words = Mapped::new(LARGE_PAGE / 2, pages).unwrap();
            let smaps = std::fs::read_to_string("/proc/self/smaps").unwrap();
            // The advice makes an area of its own, or the mapping was aligned as it is.
            let area = format!("{:x}-", words.as_ptr().addr());
            let mut lines = smaps.lines().skip_while(|line| !line.starts_with(&area));
            let flags = lines.find(|line| line.starts_with("VmFlags:"));
            assert!(flags.is_some_and(|flags| flags.split(' ').any(|flag| flag == expected)), "{flags:?}");
        }
    }
}
