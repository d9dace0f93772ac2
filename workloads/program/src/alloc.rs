//! `alloc`: the C library's `malloc` and `free` in turn, mixed sizes, with several hundred blocks alive.

use core::ptr;

use crate::mix::{Random, fold};
use crate::work::{PrepareError, Work, iterate};

/// Blocks alive at any time, 4 MiB in all.
const SLOTS: u32 = 512;
/// One `free` and one `malloc` each.
pub const OPERATIONS: u64 = 4096;
/// Sizes run from 2^4 to 2^16 bytes, every power of two as often as every other: small ones are frequent, as
/// in programs.
const SMALLEST_LOG2: u32 = 4;
const LARGEST_LOG2: u32 = 16;
const SEED: u64 = 0x0a11_0c00;
const STAMP_BYTES: usize = size_of::<u64>();
const _: () = assert!(1 << SMALLEST_LOG2 >= 2 * STAMP_BYTES);

/// The workload `alloc`; one operation is one `malloc` with one `free`.
pub struct Alloc {
    blocks: Vec<Option<Block>>,
}

impl Alloc {
    /// Makes the blocks. It does so by one iteration, which leaves them as every iteration finds and leaves
    /// them.
    ///
    /// # Errors
    ///
    /// [`PrepareError::Memory`] where there is no memory for the table of blocks.
    pub fn new() -> Result<Self, PrepareError> {
        let mut blocks = Vec::new();
        blocks
            .try_reserve_exact(SLOTS as usize)
            .map_err(|_| PrepareError::Memory(SLOTS as usize * size_of::<Option<Block>>()))?;
        blocks.resize_with(SLOTS as usize, || None);
        let mut work = Self { blocks };
        work.churn();
        Ok(work)
    }

    /// One iteration: the same slots and sizes each time. Each block that is freed gives its stamps to the
    /// checksum.
    fn churn(&mut self) -> u64 {
        let mut random = Random::new(SEED);
        let mut sum = 0;
        for stamp in 0..OPERATIONS {
            let slot = random.below(SLOTS) as usize;
            let bytes = size(&mut random);
            let Some(block) = self.blocks.get_mut(slot) else { continue };
            let freed = block.take().map_or(0, Block::free);
            sum = fold(sum, freed);
            *block = Block::new(bytes, stamp);
            sum = fold(sum, block.as_ref().map_or(0, |block| block.bytes as u64));
        }
        sum
    }
}

impl Work for Alloc {
    fn operations(&self) -> u64 {
        OPERATIONS
    }

    fn repeat(&mut self, iterations: u64) -> u64 {
        iterate(iterations, || self.churn())
    }
}

fn size(random: &mut Random) -> usize {
    let log2 = SMALLEST_LOG2 + random.below(LARGEST_LOG2 - SMALLEST_LOG2);
    (1 << log2) + random.below(1 << log2) as usize + 1
}

/// Memory of the C library's allocator, with a stamp in its first and its last word.
struct Block {
    start: ptr::NonNull<u8>,
    bytes: usize,
}

impl Block {
    /// `None` where there is no memory.
    fn new(bytes: usize, stamp: u64) -> Option<Self> {
        // SAFETY: malloc(3) accepts any size; the result is used only where it is not null.
        let start = ptr::NonNull::new(unsafe { libc::malloc(bytes) }.cast::<u8>())?;
        let block = Self { start, bytes };
        // SAFETY: see `stamps`; both words belong to this block alone, and unaligned writes need no
        // alignment.
        unsafe {
            let (first, last) = block.stamps();
            first.write_unaligned(stamp);
            last.write_unaligned(!stamp);
        }
        Some(block)
    }

    /// The first and the last eight bytes. They do not overlap: no block is smaller than two stamps.
    fn stamps(&self) -> (*mut u64, *mut u64) {
        let last = self.start.as_ptr().wrapping_add(self.bytes - STAMP_BYTES);
        (self.start.as_ptr().cast(), last.cast())
    }

    /// Gives the memory back and returns what the stamps say.
    fn free(self) -> u64 {
        let (first, last) = self.stamps();
        // SAFETY: both were written by `new` within the `bytes` that malloc gave.
        let (first, last) = unsafe { (first.read_unaligned(), last.read_unaligned()) };
        // SAFETY: `start` came from malloc in `new`, and `self` is consumed: it is freed once.
        unsafe { libc::free(self.start.as_ptr().cast()) };
        fold(first, last)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_stay_within_their_bounds_and_reach_both_ends() {
        let mut random = Random::new(9);
        let sizes: Vec<usize> = (0..100_000).map(|_| size(&mut random)).collect();
        assert!(sizes.iter().all(|bytes| (17..=65_536).contains(bytes)));
        assert!(sizes.contains(&17) && sizes.iter().any(|bytes| *bytes > 60_000));
    }

    #[test]
    fn every_iteration_finds_the_blocks_as_the_one_before_left_them() {
        let mut work = Alloc::new().unwrap();
        let first = work.churn();
        assert_eq!(work.churn(), first);
        assert!(work.blocks.iter().filter(|block| block.is_some()).count() > 500);
    }

    #[test]
    fn a_block_that_was_overwritten_is_noticed() {
        let mut work = Alloc::new().unwrap();
        let right = work.churn();
        let block = work.blocks.iter().flatten().next().unwrap();
        // SAFETY: the first word of a live block, which holds at least two.
        unsafe { block.stamps().0.write_unaligned(0xbad) };
        assert_ne!(work.churn(), right);
    }
}
