//! A ring of nodes in memory, to be chased along.
//!
//! A ring joins all its nodes in random order; each step's address comes from the step before, so that neither the
//! compiler nor the processor can run ahead, and no prefetcher knows the next line. (Shuffling the nodes and joining
//! neighbours draws from all single cycles alike, as Sattolo's algorithm does, and knows each node's rank as well.)

use core::hint::black_box;

use crate::mapped::{Mapped, Pages};
use crate::mix::{Random, fold};
use crate::work::{PrepareError, filled};

/// The cache line of every x86-64 processor, and its small page, in words.
const LINE_WORDS: usize = 64 / size_of::<usize>();
const PAGE_WORDS: usize = 4096 / size_of::<usize>();
/// Every so many nodes one counts for the shape.
const SHAPE_STEP: usize = 61;

/// Where the nodes lie. A node has two words: the index of the next node's first, and its own rank.
#[derive(Debug, Clone, Copy)]
pub enum Nodes {
    /// One after another, a cache line each, in large pages.
    Lines,
    /// A small page each, in another line of it from one to the next, so that they do not meet in few sets of a cache.
    Pages,
}

impl Nodes {
    /// The first word of a node.
    fn place(self, node: usize) -> usize {
        match self {
            Self::Lines => node * LINE_WORDS,
            Self::Pages => node * PAGE_WORDS + node * LINE_WORDS % PAGE_WORDS,
        }
    }

    fn mapped(self, count: usize) -> Result<Mapped, PrepareError> {
        match self {
            Self::Lines => Mapped::new(count * LINE_WORDS, Pages::Large),
            Self::Pages => Mapped::new(count * PAGE_WORDS, Pages::Small),
        }
    }
}

/// A ring, and where a chase along it has come to.
pub struct Ring {
    words: Mapped,
    nodes: usize,
    shape: u64,
    position: usize,
}

impl Ring {
    /// `count` nodes, a power of two, in an order that `seed` says.
    ///
    /// # Errors
    ///
    /// [`PrepareError::Memory`] where there is not as much.
    pub fn new(nodes: Nodes, count: u32, seed: u64) -> Result<Self, PrepareError> {
        let mut order = filled(count as usize, 0_u32)?;
        let mut random = Random::new(seed);
        // The "inside-out" shuffle of Durstenfeld and Knuth (TAOCP 2, 3.4.2, algorithm P).
        for place in 0..count {
            let other = random.below(place + 1);
            order[place as usize] = order[other as usize];
            order[other as usize] = place;
        }
        let mut words = nodes.mapped(order.len())?;
        let following = order.iter().cycle().skip(1);
        for (rank, (node, next)) in order.iter().zip(following).enumerate() {
            let place = nodes.place(*node as usize);
            words[place] = nodes.place(*next as usize);
            words[place + 1] = rank;
        }
        let shown = (0..order.len()).step_by(SHAPE_STEP);
        let shape = shown.fold(0, |sum, node| fold(sum, words[nodes.place(node)] as u64));
        Ok(Self { words, nodes: order.len(), shape, position: 0 })
    }

    /// What the order of the nodes comes to: the same for the same ring.
    pub fn shape(&self) -> u64 {
        self.shape
    }

    fn rank(&self) -> usize {
        self.words.get(self.position + 1).copied().unwrap_or(usize::MAX)
    }

    /// Goes `steps` on; the checksum says whether that led where it must.
    pub fn go(&mut self, steps: u64) -> u64 {
        let rank = self.rank();
        let position = self.position;
        self.position = chase(black_box(&self.words), position, steps);
        let walked = self.rank().wrapping_sub(rank) & (self.nodes - 1);
        fold(fold(walked as u64, self.nodes as u64), u64::from(self.position < self.words.len()))
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_ring_visits_every_node_once_before_it_comes_back() {
        for (nodes, words) in [(Nodes::Lines, LINE_WORDS), (Nodes::Pages, PAGE_WORDS)] {
            for count in [1, 2, 16, 256] {
                let ring = Ring::new(nodes, count, 5).unwrap();
                let mut seen = vec![false; ring.nodes];
                let mut position = ring.words[0];
                for _ in 0..seen.len() {
                    assert!(!std::mem::replace(&mut seen[position / words], true));
                    position = chase(&ring.words, position, 1);
                }
                assert_eq!(position, ring.words[0]);
                assert!(seen.iter().all(|seen| *seen));
            }
        }
    }

    #[test]
    fn ranks_count_the_steps() {
        let mut ring = Ring::new(Nodes::Lines, 256, 6).unwrap();
        let start = ring.rank();
        ring.go(100);
        assert_eq!((start + 100) % ring.nodes, ring.rank());
    }

    #[test]
    fn a_ring_that_is_cut_short_is_noticed() {
        for nodes in [Nodes::Lines, Nodes::Pages] {
            let mut ring = Ring::new(nodes, 4096, 7).unwrap();
            let right = ring.go(1 << 16);
            assert_eq!(ring.go(1 << 16), right);
            // Three nodes on from here one link is bent so that it skips some nodes.
            let at = chase(&ring.words, ring.position, 3);
            ring.words[at] = chase(&ring.words, at, 5);
            assert_ne!(ring.go(1 << 16), right);
        }
    }
}
