//! `page-fault`: maps anonymous memory, writes to every page of it, unmaps it.

use core::ptr;

use crate::mix::fold;
use crate::work::{Work, iterate};

/// Bytes of a page on x86-64.
const PAGE_BYTES: usize = 4096;
/// Pages of one mapping: 4 MiB, so that the calls that map and unmap do not matter.
pub const PAGES: usize = 1024;

/// The workload `page-fault`; one operation is one page.
pub struct PageFault;

impl Work for PageFault {
    fn operations(&self) -> u64 {
        PAGES as u64
    }

    fn repeat(&mut self, iterations: u64) -> u64 {
        iterate(iterations, || unit(PAGES))
    }
}

/// One iteration over `pages` pages; 0 where the memory cannot be had or given back.
pub fn unit(pages: usize) -> u64 {
    let bytes = pages * PAGE_BYTES;
    // SAFETY: a new anonymous mapping at an address of the kernel's choice touches no memory of ours.
    let mapping = unsafe {
        libc::mmap(
            ptr::null_mut(),
            bytes,
            libc::PROT_READ | libc::PROT_WRITE,
            libc::MAP_PRIVATE | libc::MAP_ANONYMOUS,
            -1,
            0,
        )
    };
    if mapping == libc::MAP_FAILED {
        return 0;
    }
    // Without it one fault would bring in 512 pages on a host with transparent huge pages, and the figure
    // would not be what its name says. A kernel that does not know the advice has no such pages, so the
    // result does not matter. SAFETY: the range is the mapping made above, and the advice does not change its
    // content.
    unsafe { libc::madvise(mapping, bytes, libc::MADV_NOHUGEPAGE) };

    let words = mapping.cast::<u64>();
    let at = |page: usize, word: usize| words.wrapping_add(page * (PAGE_BYTES / size_of::<u64>()) + word);
    for page in 0..pages {
        // SAFETY: `page` < `pages`, so this word lies in the mapping, which is aligned to pages; no reference
        // to it exists. Volatile: the write is the work.
        unsafe { at(page, 0).write_volatile(page as u64 + 1) };
    }
    let mut sum = 0;
    for page in 0..pages {
        // SAFETY: as above, word 256 is in the middle of the same page; both were zero or written by us.
        let (first, middle) = unsafe { (at(page, 0).read_volatile(), at(page, 256).read_volatile()) };
        sum = fold(fold(sum, first), middle);
    }
    // SAFETY: exactly the mapping made above, of which nothing is used afterwards.
    if unsafe { libc::munmap(mapping, bytes) } == 0 { sum } else { 0 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_page_is_its_own_and_otherwise_zero() {
        let expected = (1..=10).fold(0, |sum, page| fold(fold(sum, page), 0));
        assert_eq!(unit(10), expected);
    }

    #[test]
    fn memory_that_cannot_be_had_is_no_success() {
        assert_eq!(unit(usize::MAX / PAGE_BYTES / 2), 0);
    }
}
