//! `mem-latency`: a chase along pointers through rings of several sizes, from the first-level cache to
//! memory.
//!
//! A ring joins all its nodes, a cache line each, in random order; each step's address comes from the step
//! before, so that neither the compiler nor the processor can run ahead, and no prefetcher knows the next
//! line. (Shuffling the nodes and joining neighbours draws from all single cycles alike, as Sattolo's
//! algorithm does, and knows each node's rank as well.)

use core::hint::black_box;

use crate::large::LargeWords;
use crate::mix::{Random, fold};
use crate::sys::now_ns;
use crate::work::{Figure, PrepareError, Work, filled, iterate};

/// The rings: what their figure is called, and their size in bytes. A last-level cache keeps the third after some laps; one of
/// 4 MiB needed a dozen, and then came and went.
pub const RINGS: [(&str, usize); 4] = [
    ("step_16kib", 16 << 10),
    ("step_256kib", 256 << 10),
    ("step_2mib", 2 << 20),
    ("step_128mib", 128 << 20),
];
/// Steps in each ring an iteration: whole laps of all rings but the largest, which is too large to go round
/// each time.
pub const STEPS: u64 = 1 << 16;
/// The cache line of every x86-64 processor.
const NODE_BYTES: usize = 64;
const NODE_WORDS: usize = NODE_BYTES / size_of::<usize>();
const SEED: u64 = 0x1a7e_0c1e;

/// Nodes in the order of memory, [`NODE_WORDS`] words each: first the index of the next node's first word,
/// then the rank.
struct Ring {
    words: LargeWords,
    position: usize,
    elapsed_ns: u64,
}

impl Ring {
    fn new(bytes: usize, seed: u64) -> Result<Self, PrepareError> {
        let nodes = u32::try_from(bytes / NODE_BYTES).unwrap_or(u32::MAX);
        let mut order = filled(nodes as usize, 0_u32)?;
        let mut random = Random::new(seed);
        // The "inside-out" shuffle of Durstenfeld and Knuth (TAOCP 2, 3.4.2, algorithm P).
        for place in 0..nodes {
            let other = random.below(place + 1);
            order[place as usize] = order[other as usize];
            order[other as usize] = place;
        }
        let mut words = LargeWords::new(order.len() * NODE_WORDS)?;
        let following = order.iter().cycle().skip(1);
        for (rank, (node, next)) in order.iter().zip(following).enumerate() {
            words[*node as usize * NODE_WORDS] = *next as usize * NODE_WORDS;
            words[*node as usize * NODE_WORDS + 1] = rank;
        }
        Ok(Self { words, position: 0, elapsed_ns: 0 })
    }

    fn nodes(&self) -> usize {
        self.words.len() / NODE_WORDS
    }

    fn rank(&self) -> usize {
        self.words.get(self.position + 1).copied().unwrap_or(usize::MAX)
    }

    /// Goes [`STEPS`] on; the checksum says whether that led where it must.
    fn iteration(&mut self) -> u64 {
        let rank = self.rank();
        let position = self.position;
        self.position = chase(black_box(&self.words), position, STEPS);
        let walked = self.rank().wrapping_sub(rank) & (self.nodes() - 1);
        fold(fold(walked as u64, self.nodes() as u64), u64::from(self.position < self.words.len()))
    }
}

/// Where `steps` steps lead to from `position`.
#[inline(never)]
fn chase(words: &[usize], mut position: usize, steps: u64) -> usize {
    assert!(position < words.len());
    for _ in 0..steps {
        // SAFETY: `get_unchecked` wants an index below the length. The first is checked above; every further
        // one was read from the first word of a node, where `Ring::new` stored the index of a node of the
        // same ring. A check here would put a comparison beside each load that is timed.
        position = unsafe { *words.get_unchecked(position) };
    }
    position
}

/// The workload `mem-latency`; one operation is one step, in any of the rings.
pub struct MemLatency {
    rings: Vec<Ring>,
    /// What the order of the nodes comes to: the same for the same ring.
    shape: u64,
}

impl MemLatency {
    /// Gets the memory and joins the rings.
    ///
    /// # Errors
    ///
    /// [`PrepareError::Memory`] where there is not as much.
    pub fn new() -> Result<Self, PrepareError> {
        let mut rings = Vec::new();
        let mut shape = 0;
        for (_, bytes) in RINGS {
            let ring = Ring::new(bytes, SEED + bytes as u64)?;
            shape =
                ring.words.iter().step_by(NODE_WORDS * 61).fold(shape, |sum, next| fold(sum, *next as u64));
            rings.push(ring);
        }
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
        for ring in &mut self.rings {
            let start = now_ns();
            check = fold(check, iterate(iterations, || ring.iteration()));
            ring.elapsed_ns = now_ns().saturating_sub(start);
        }
        check
    }

    fn figures(&self, iterations: u64, _elapsed_ns: u64, emit: &mut dyn FnMut(Figure)) {
        let steps = STEPS as f64 * iterations.max(1) as f64;
        for ((name, _), ring) in RINGS.iter().zip(&self.rings) {
            emit((name, "ns", ring.elapsed_ns as f64 / steps));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_ring_visits_every_node_once_before_it_comes_back() {
        for bytes in [64, 128, 1024, 16 << 10] {
            let ring = Ring::new(bytes, 5).unwrap();
            let mut seen = vec![false; bytes / NODE_BYTES];
            let mut position = 0;
            for _ in 0..seen.len() {
                assert!(!std::mem::replace(&mut seen[position / NODE_WORDS], true));
                position = chase(&ring.words, position, 1);
            }
            assert_eq!(position, 0);
            assert!(seen.iter().all(|seen| *seen));
        }
    }

    #[test]
    fn ranks_count_the_steps() {
        let mut ring = Ring::new(16 << 10, 6).unwrap();
        let start = ring.rank();
        ring.position = chase(&ring.words, ring.position, 100);
        assert_eq!((start + 100) % ring.nodes(), ring.rank());
    }

    #[test]
    fn a_ring_that_is_cut_short_is_noticed() {
        let mut ring = Ring::new(256 << 10, 7).unwrap();
        let right = ring.iteration();
        assert_eq!(ring.iteration(), right);
        // Three nodes on from here one link is bent so that it skips some nodes.
        let at = chase(&ring.words, ring.position, 3);
        ring.words[at] = chase(&ring.words, at, 5);
        assert_ne!(ring.iteration(), right);
    }
}
