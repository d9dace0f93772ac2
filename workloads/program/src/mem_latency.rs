//! `mem-latency`: a chase along pointers through rings of several sizes, from the first-level cache to
//! memory.
//!
//! A node is a cache line, and pages are large: `page-walk` is about small ones.

use crate::mix::fold;
use crate::ring::{Nodes, Ring};
use crate::sys::now_ns;
use crate::work::{Figure, PrepareError, Work, iterate};

/// The rings: what their figure is called, and their size in bytes. A last-level cache that others
/// use, too, keeps the third after a few laps, where it would not always keep a larger one.
pub const RINGS: [(&str, u32); 4] = [
    ("step_16kib", 16 << 10),
    ("step_256kib", 256 << 10),
    ("step_2mib", 2 << 20),
    ("step_128mib", 128 << 20),
];
/// A node is a cache line.
const NODE_BYTES: u32 = 64;
/// Steps in each ring an iteration: whole laps of all rings but the largest, which is too large to go round
/// each time.
pub const STEPS: u64 = 1 << 16;
const SEED: u64 = 0x1a7e_0c1e;

/// The workload `mem-latency`; one operation is one step, in any of the rings.
pub struct MemLatency {
    /// And how long the last repetition was in each.
    rings: Vec<(Ring, u64)>,
    shape: u64,
}

impl MemLatency {
    /// Gets the memory and joins the rings.
    ///
    /// # Errors
    ///
    /// [`PrepareError::Memory`] where there is not as much.
    pub fn new() -> Result<Self, PrepareError> {
        let ring = |bytes| Ring::new(Nodes::Lines, bytes / NODE_BYTES, SEED + u64::from(bytes));
        let rings = RINGS.iter().map(|(_, bytes)| Ok((ring(*bytes)?, 0)));
        let rings = rings.collect::<Result<Vec<_>, PrepareError>>()?;
        let shape = rings.iter().fold(0, |sum, (ring, _)| fold(sum, ring.shape()));
        Ok(Self { rings, shape })
    }
}

impl Work for MemLatency {
    fn operations(&self) -> u64 {
        STEPS * RINGS.len() as u64
    }

    /// All iterations of one ring, then all of the next: the laps that find the caches filled with another
    /// ring's lines are few then.
    fn repeat(&mut self, iterations: u64) -> u64 {
        let mut check = self.shape;
        for (ring, elapsed_ns) in &mut self.rings {
            let start = now_ns();
            check = fold(check, iterate(iterations, || ring.go(STEPS)));
            *elapsed_ns = now_ns().saturating_sub(start);
        }
        check
    }

    fn figures(&self, iterations: u64, _elapsed_ns: u64, emit: &mut dyn FnMut(Figure)) {
        let steps = STEPS as f64 * iterations.max(1) as f64;
        for ((name, _), (_, elapsed_ns)) in RINGS.iter().zip(&self.rings) {
            emit((name, "ns", *elapsed_ns as f64 / steps));
        }
    }
}
