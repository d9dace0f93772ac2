//! `page-walk`: a chase along pointers through 8192 small pages, one line of each.
//!
//! The lines fit a second- or third-level cache and the pages no TLB, so that a step is a walk along the page tables and little
//! else: where memory is virtualised by nested page tables, a walk in two dimensions.

use crate::ring::{Nodes, Ring};
use crate::work::{PrepareError, Work, iterate};

/// Pages of the ring: more than twice what the second-level TLBs of today hold (2048 on Intel's Golden Cove, 3072 on AMD's
/// Zen 4), and their lines are half a MiB.
const PAGES: u32 = 8192;
/// Steps of an iteration: four laps.
pub const STEPS: u64 = 4 * PAGES as u64;
const SEED: u64 = 0x9a6e_3a1c;

/// The workload `page-walk`; one operation is one step.
pub struct PageWalk(Ring);

impl PageWalk {
    /// Gets the memory and joins the ring.
    ///
    /// # Errors
    ///
    /// [`PrepareError::Memory`] where there is not as much.
    pub fn new() -> Result<Self, PrepareError> {
        Ok(Self(Ring::new(Nodes::Pages, PAGES, SEED)?))
    }
}

impl Work for PageWalk {
    fn operations(&self) -> u64 {
        STEPS
    }

    fn repeat(&mut self, iterations: u64) -> u64 {
        self.0.shape() ^ iterate(iterations, || self.0.go(STEPS))
    }
}
