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

use serde::{Deserialize, Serialize};

use crate::experiment::Experiment;
use crate::stats::bootstrap::ratio;
use crate::stats::{describe, order};

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
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Effort {
    /// Blocks of the start-up experiment.
    pub startup_blocks: u32,
    /// Blocks of the memory experiment: idle instances looked at, one by one; and blocks of neighbours.
    pub memory_blocks: u32,
    /// Rounds of the marginal memory measurement, and of density.
    pub marginal_rounds: u32,
    /// Instances that run at the same time in such a round.
    pub marginal_instances: u32,
    /// Blocks of the overhead experiment.
    pub overhead_blocks: u32,
    /// Launches at the beginning of each cell that are kept and marked, and enter no summary.
    pub warmup_blocks: u32,
    /// Native duration that one repetition of an overhead workload is calibrated to. Short, for more launches in the same time: the
    /// repetitions of a launch differ far less than launches do.
    pub overhead_repetition: Duration,
    /// A cell of start-up or overhead is done when the intervals of its medians are this narrow: half of the interval as a
    /// part of the median, in every target.
    pub narrow_enough: f64,
    /// How long the host rests before each launch of start-up.
    pub rest: Duration,
    /// Time for the usual three experiments together; the others take [theirs](Effort::budget_of) beside it. One starts no new
    /// block once its part is used up.
    pub budget: Duration,
}

/// How long the host rests before each launch of start-up, in milliseconds. The kernel takes an instance down for some time after its
/// end (a network namespace for tens of milliseconds), which would be in the next one's times: a carry-over effect, against which a
/// washout period is the remedy (Senn, *Cross-over Trials in Clinical Research*, 2nd ed., 2002, section 1.4).
pub const REST_MS: u64 = 10;

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
                // Made by name only, and large numbers take their time.
                Experiment::Density => 15,
                Experiment::Overhead => 11,
                // Each of its four parts by itself.
                Experiment::Ladder => 6,
                // As many launches as they plan.
                Experiment::Surface | Experiment::Neighbours => 15,
            }
            / 15
    }

    /// What the ladder makes of it: many rungs, and their differences block by block, which need fewer blocks.
    #[must_use]
    pub fn of_ladder(self) -> Self {
        Self {
            startup_blocks: self.startup_blocks.div_ceil(3),
            memory_blocks: self.memory_blocks,
            marginal_instances: self.marginal_instances.div_ceil(4),
            // A block is whole or nothing: no rung is done before the others.
            narrow_enough: 0.0,
            ..self
        }
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
                overhead_blocks: 20,
                warmup_blocks: 1,
                overhead_repetition: Duration::from_millis(10),
                narrow_enough: 0.01,
                rest: Duration::from_millis(REST_MS),
                budget: Duration::from_secs(45),
            },
            Self::Standard => Effort {
                startup_blocks: 500,
                memory_blocks: 10,
                marginal_rounds: 10,
                marginal_instances: 32,
                overhead_blocks: 100,
                warmup_blocks: 2,
                overhead_repetition: Duration::from_millis(20),
                narrow_enough: 0.005,
                rest: Duration::from_millis(REST_MS),
                budget: Duration::from_secs(600),
            },
            Self::Thorough => Effort {
                startup_blocks: 3_000,
                memory_blocks: 20,
                marginal_rounds: 20,
                marginal_instances: 64,
                overhead_blocks: 400,
                warmup_blocks: 3,
                overhead_repetition: Duration::from_millis(50),
                narrow_enough: 0.0025,
                rest: Duration::from_millis(REST_MS),
                budget: Duration::from_secs(3_600),
            },
        }
    }
}

/// Launches of a cell in each target before it may be done early: as many as the gate promises its power for.
pub const LEAST_BEFORE_DONE: usize = 40;

/// Why no more launches of a cell were made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Ended {
    /// The intervals of the medians were narrow enough in every target.
    Narrow,
    /// As many launches as the profile plans were made.
    Planned,
    /// The time was used up.
    Budget,
}

impl fmt::Display for Ended {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Narrow => "its intervals were narrow enough",
            Self::Planned => "the profile plans no more",
            Self::Budget => "its time was used up",
        })
    }
}

/// The launches of one cell so far, by target: decides whether it is done.
///
/// To look at the data again and again and stop when they please makes a *test* find too much. What is looked at here is the
/// width of the intervals of single medians, which says nothing about the direction in which targets differ (Kalibera &
/// Jones, ISMM 2013, section 9; Kelley, Maxwell & Rausch, "Obtaining power or obtaining precision", *Evaluation & the Health
/// Professions* 26, 2003, call it accuracy in parameter estimation). It is looked at only every [`Progress::EVERY`] launches.
#[derive(Debug, Clone, Default)]
pub struct Progress {
    launches: Vec<Vec<f64>>,
    done: bool,
}

impl Progress {
    /// How many launches are made between two looks.
    pub const EVERY: usize = 10;

    /// Of a cell in so many targets, those left out that cannot run it.
    #[must_use]
    pub fn new(targets: usize) -> Self {
        Self { launches: vec![Vec::new(); targets], done: false }
    }

    /// Notes the figure of one launch.
    pub fn note(&mut self, target: usize, value: f64) {
        if let Some(launches) = self.launches.get_mut(target) {
            launches.push(value);
        }
    }

    /// Whether the cell is done: once it is, it stays so. Targets without any launch do not hold it up.
    pub fn is_done(&mut self, narrow_enough: f64) -> bool {
        let made: Vec<&Vec<f64>> = self.launches.iter().filter(|launches| !launches.is_empty()).collect();
        let least = made.iter().map(|launches| launches.len()).min().unwrap_or(0);
        if !self.done && least >= LEAST_BEFORE_DONE && least.is_multiple_of(Self::EVERY) {
            self.done =
                made.iter().all(|launches| half_width(launches).is_some_and(|part| part <= narrow_enough));
        }
        self.done
    }
}

/// Half of the interval of the median, as a part of the median.
fn half_width(launches: &[f64]) -> Option<f64> {
    let sorted = describe::sorted(launches);
    let interval = order::interval_of_sorted(&sorted, 0.5)?;
    ratio((interval.high - interval.low) / 2.0, describe::quantile_of_sorted(&sorted, 0.5)?)
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
    fn a_cell_is_done_when_every_target_is_narrow_enough_and_not_before() {
        let mut cell = Progress::new(3);
        for launch in 0..100_u32 {
            assert_eq!(cell.is_done(0.01), launch >= 40, "{launch}");
            cell.note(0, 100.0 + f64::from(launch % 2));
            cell.note(1, 100.0);
        }
        // The third target never ran; a fourth is none of this cell.
        cell.note(3, 1.0);
        assert!(cell.is_done(0.0), "it stays done");
    }

    #[test]
    fn a_noisy_target_or_one_without_a_size_holds_its_cell_up() {
        let (mut noisy, mut empty) = (Progress::new(1), Progress::new(1));
        for launch in 0..100_u32 {
            noisy.note(0, f64::from(1 + launch * launch % 101));
            empty.note(0, 0.0);
        }
        assert!(!noisy.is_done(0.01) && !empty.is_done(0.01) && !Progress::new(2).is_done(0.01));
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
