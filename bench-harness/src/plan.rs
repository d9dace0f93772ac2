//! What is measured, how often, and in which order. Pure: no clock, no files, no processes.
//!
//! The order is that of a randomised complete block design: a *block* holds every target once for each cell (a cell is
//! one workload of one experiment), cells and targets shuffled by a seeded generator. Whatever changes slowly on the host
//! (heat, neighbours, page cache) then hits all targets alike, and blocks can be compared as pairs.

use std::fmt;
use std::time::Duration;

use clap::ValueEnum;
use rand::SeedableRng;
use rand::seq::SliceRandom;
use rand_chacha::ChaCha8Rng;

use crate::experiment::Experiment;

/// How much is measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Profile {
    /// The whole comparison within a minute on two cores.
    Quick,
    /// Some ten minutes.
    Standard,
    /// For publication: about an hour.
    Thorough,
}

impl fmt::Display for Profile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Quick => "quick",
            Self::Standard => "standard",
            Self::Thorough => "thorough",
        })
    }
}

/// The numbers behind a profile.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Effort {
    /// Blocks of the start-up experiment.
    pub startup_blocks: u32,
    /// Blocks of the memory experiment: idle instances looked at, one by one.
    pub memory_blocks: u32,
    /// Rounds of the marginal memory measurement.
    pub marginal_rounds: u32,
    /// Instances that run at the same time in such a round.
    pub marginal_instances: u32,
    /// Blocks of the overhead experiment.
    pub overhead_blocks: u32,
    /// Launches at the beginning of each cell that are kept and marked, and enter no summary.
    pub warmup_blocks: u32,
    /// Native duration that one repetition of an overhead workload is calibrated to.
    pub overhead_repetition: Duration,
    /// Time for the three experiments together. One starts no new block once its [part](Effort::budget_of) is used up.
    pub budget: Duration,
}

/// Blocks that are made even where the time budget is used up: fewer give no interval.
pub const LEAST_BLOCKS: u32 = 6;
const _: () = assert!(LEAST_BLOCKS as usize >= crate::stats::MIN_FOR_INTERVAL);

impl Effort {
    /// Time for one experiment: most of it goes to the overhead, whose launches are long.
    #[must_use]
    pub fn budget_of(&self, experiment: Experiment) -> Duration {
        self.budget
            * match experiment {
                Experiment::Startup => 2,
                Experiment::Memory => 2,
                Experiment::Overhead => 11,
            }
            / 15
    }
}

impl Profile {
    /// What this profile does.
    #[must_use]
    pub const fn effort(self) -> Effort {
        match self {
            Self::Quick => Effort {
                startup_blocks: 120,
                memory_blocks: 7,
                marginal_rounds: 6,
                marginal_instances: 32,
                overhead_blocks: 10,
                warmup_blocks: 1,
                overhead_repetition: Duration::from_millis(20),
                budget: Duration::from_secs(45),
            },
            Self::Standard => Effort {
                startup_blocks: 500,
                memory_blocks: 10,
                marginal_rounds: 10,
                marginal_instances: 32,
                overhead_blocks: 40,
                warmup_blocks: 2,
                overhead_repetition: Duration::from_millis(50),
                budget: Duration::from_secs(600),
            },
            Self::Thorough => Effort {
                startup_blocks: 3_000,
                memory_blocks: 20,
                marginal_rounds: 20,
                marginal_instances: 64,
                overhead_blocks: 100,
                warmup_blocks: 3,
                overhead_repetition: Duration::from_millis(200),
                budget: Duration::from_secs(3_600),
            },
        }
    }
}

/// One launch of a block.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Slot {
    /// Index of the cell.
    pub cell: usize,
    /// Index of the target.
    pub target: usize,
    /// Place of the target within this block and cell, from 0.
    pub order: u32,
}

/// The launches of one block, in the order in which they are to be made.
///
/// The order of a block depends on seed, experiment and number of the block alone, not on how many blocks were made before it.
#[must_use]
pub fn block(seed: u64, experiment: Experiment, block: u32, cells: usize, targets: usize) -> Vec<Slot> {
    let mut generator = ChaCha8Rng::seed_from_u64(seed);
    // A stream of its own for every experiment and block: 2^32 blocks each.
    generator.set_stream((experiment as u64) << 32 | u64::from(block));
    let mut slots = Vec::with_capacity(cells * targets);
    let mut cell_order: Vec<usize> = (0..cells).collect();
    cell_order.shuffle(&mut generator);
    for cell in cell_order {
        let mut target_order: Vec<usize> = (0..targets).collect();
        target_order.shuffle(&mut generator);
        slots.extend((0_u32..).zip(target_order).map(|(order, target)| Slot { cell, target, order }));
    }
    slots
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn every_block_holds_each_target_of_each_cell_once(
            seed: u64, number: u32, cells in 0_usize..12, targets in 0_usize..5
        ) {
            let slots = block(seed, Experiment::Overhead, number, cells, targets);
            let mut seen: Vec<(usize, usize)> = slots.iter().map(|slot| (slot.cell, slot.target)).collect();
            seen.sort_unstable();
            let all: Vec<(usize, usize)> =
                (0..cells).flat_map(|cell| (0..targets).map(move |target| (cell, target))).collect();
            prop_assert_eq!(seen, all);
        }

        #[test]
        fn the_targets_of_a_cell_follow_each_other_directly(seed: u64, number: u32) {
            let slots = block(seed, Experiment::Overhead, number, 4, 3);
            for cell in slots.chunks(3) {
                prop_assert!(cell.iter().all(|slot| slot.cell == cell[0].cell));
                prop_assert_eq!(cell.iter().map(|slot| slot.order).collect::<Vec<_>>(), vec![0, 1, 2]);
            }
        }

        #[test]
        fn the_same_seed_gives_the_same_order(seed: u64, number: u32) {
            let once = block(seed, Experiment::Startup, number, 3, 3);
            prop_assert_eq!(&once, &block(seed, Experiment::Startup, number, 3, 3));
        }
    }

    #[test]
    fn blocks_and_experiments_differ_in_their_order() {
        let orders =
            |experiment| (0..20).map(|number| block(1, experiment, number, 3, 3)).collect::<Vec<_>>();
        let startup = orders(Experiment::Startup);
        assert!(startup.iter().any(|order| order != &startup[0]));
        assert_ne!(startup, orders(Experiment::Overhead));
    }

    #[test]
    fn every_target_comes_first_about_equally_often() {
        let mut first = [0_u32; 3];
        for number in 0..3_000 {
            first[block(42, Experiment::Startup, number, 1, 3)[0].target] += 1;
        }
        assert!(first.iter().all(|&count| (900..1_100).contains(&count)), "{first:?}");
    }
}
