//! The gate, tested on this host: how often does it see a difference that is not there, and how often does it find one
//! that is?
//!
//! A target is compared with itself under two names (A/A), and with itself and a known delay (A/B). *Measured* comparisons
//! make every launch anew, shuffled as in `compare`, or one recording after the other, as two jobs of a CI system do.
//! *Drawn* ones draw blocks, with replacement, from all measured comparisons of the target with itself in turn, and toss which of a block's
//! two launches is old: many comparisons for no launch more. A block keeps what neighbours in time have in common
//! (Künsch, *Annals of Statistics* 17, 1989); single launches would not, and the test would look weaker than it is wherever the host
//! moves. So would a pool of its own: it is measured within a second, which is a good one or a bad one.

use std::time::Duration;

use rand::{Rng as _, SeedableRng};
use rand_chacha::ChaCha8Rng;

use crate::experiment::Experiment;
use crate::gate::{Gate, Outcome};
use crate::plan;
use crate::record::Sample;
use crate::report::table::Table;
use crate::runner::{LaunchFailure, Observer};
use crate::stats::adaptive::Layout;
use crate::stats::share::clopper_pearson;
use crate::stats::{Interval, count, median};
use crate::summary::SAME_WITHIN;
use crate::target::{Prepared, Target};
use crate::units::{format_percent, format_value};
use crate::workload::Subject;

/// Delays that are injected, as parts of the median.
pub const INJECTED: [f64; 3] = [0.05, 0.10, 0.20];

/// Most that may be called a difference although there is none.
pub const MOST_FALSE: f64 = 0.05;

/// Least of the injected tenths that must be found.
pub const LEAST_FOUND: f64 = 0.90;

/// The regression that the gate allows here: what is still called the same in a comparison.
pub const ALLOWED: f64 = SAME_WITHIN;

/// How the launches of a comparison come about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Way {
    /// Blocks drawn from those that were measured in turn.
    Drawn,
    /// Both sides measured in shuffled turns.
    InTurn,
    /// One side after the other.
    OneAfterTheOther,
}

/// What the gate said to comparisons of one kind.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Tally {
    /// How the launches came about.
    pub way: Way,
    /// The delay on the second side, as a part of the median; 0: none.
    pub injected: f64,
    /// Comparisons.
    pub tries: usize,
    /// Called regressed.
    pub worse: usize,
    /// Called improved.
    pub better: usize,
    /// Called unclear.
    pub unclear: usize,
}

impl Tally {
    /// Of no comparison yet.
    fn none(way: Way, injected: f64) -> Self {
        Self { way, injected, tries: 0, worse: 0, better: 0, unclear: 0 }
    }

    /// How many the gate would have failed. Where nothing was injected, that is a false alarm; that something is called an
    /// improvement fails no gate, and is counted apart.
    pub fn called(&self) -> usize {
        self.worse
    }

    /// The same as a part.
    pub fn share(&self) -> f64 {
        count(self.called()) / count(self.tries.max(1))
    }

    /// The interval of that.
    pub fn interval(&self) -> Option<Interval> {
        clopper_pearson(self.called(), self.tries)
    }

    /// Whether it is as it should be; `None` where nothing is asked of it: of two recordings, between which the host may move by what
    /// no test of their launches can tell.
    pub fn passes(&self) -> Option<bool> {
        if self.way == Way::OneAfterTheOther {
            return None;
        }
        if self.injected == 0.0 {
            Some(self.share() <= MOST_FALSE)
        } else {
            // The middle one is the promise; the smallest shows where it ends, and the largest is easier.
            (self.injected >= INJECTED[1]).then(|| self.share() >= LEAST_FOUND)
        }
    }

    fn add(&mut self, outcome: &Outcome) {
        self.tries += 1;
        match outcome {
            Outcome::Fine => {}
            Outcome::Regressed => self.worse += 1,
            Outcome::Improved => self.better += 1,
            Outcome::Unclear { .. } => self.unclear += 1,
        }
    }
}

/// How much is tested.
#[derive(Debug, Clone, Copy)]
pub struct Effort {
    /// Launches on each side of a comparison.
    pub launches: u32,
    /// Comparisons of each kind that are measured.
    pub real: u32,
    /// Comparisons of each kind that are drawn.
    pub drawn: u32,
    /// Seed of order and draws.
    pub seed: u64,
    /// How long the host rests before each launch.
    pub rest: Duration,
}

/// What came of it.
#[derive(Debug, Clone, PartialEq)]
pub struct Findings {
    /// Median time to the first byte, which the delays are parts of.
    pub median_ns: f64,
    /// One a kind of comparison.
    pub tallies: Vec<Tally>,
}

impl Findings {
    /// Whether the gate keeps its promises here.
    pub fn pass(&self) -> bool {
        self.tallies.iter().all(|tally| tally.passes().unwrap_or(true))
    }

    /// Whether recordings that were made one after the other give no more false alarms than are promised in turn.
    pub fn apart_is_as_good(&self) -> bool {
        let apart = self.tallies.iter().filter(|tally| tally.way == Way::OneAfterTheOther);
        apart.filter(|tally| tally.injected == 0.0).all(|tally| tally.share() <= MOST_FALSE)
    }

    /// The result as a table.
    pub fn table(&self, effort: &Effort) -> Table {
        let line = |tally: &Tally| {
            let way = match tally.way {
                Way::Drawn => "drawn",
                Way::InTurn => "in turn",
                Way::OneAfterTheOther => "one by one",
            };
            let what = if tally.injected == 0.0 {
                "false alarms".to_owned()
            } else {
                format!("{:.0} %: found", tally.injected * 100.0)
            };
            let interval = tally.interval().map_or_else(String::new, |found| {
                format!(" [{}, {}]", percent(found.low), percent(found.high))
            });
            vec![
                way.to_owned(),
                what,
                format!("{} of {}", tally.called(), tally.tries),
                format!("{} %{interval}", percent(tally.share())),
                tally.better.to_string(),
                tally.unclear.to_string(),
                tally.passes().map_or("-", |pass| if pass { "yes" } else { "NO" }).to_owned(),
            ]
        };
        Table {
            title: format!(
                "The gate at {} launches a side, {} allowed, of a start that takes {} (seed {})",
                effort.launches,
                format_percent(ALLOWED),
                format_value(self.median_ns, "ns"),
                effort.seed
            ),
            head: ["launches", "injected", "failed", "share [95 %]", "better", "unclear", "promise"]
                .map(String::from)
                .into(),
            names: 2,
            rows: self.tallies.iter().map(line).collect(),
        }
    }
}

fn percent(part: f64) -> String {
    format!("{:.1}", part * 100.0)
}

/// Makes all comparisons. `target` gives the target with a delay, 0 for none.
///
/// # Errors
/// The first launch that fails: a target that does not start reliably cannot be timed.
pub fn run(
    target: &dyn Fn(Duration) -> Box<dyn Target>,
    subject: &Subject,
    mem_mib: u64,
    observer: &mut Observer,
    effort: &Effort,
) -> Result<Findings, LaunchFailure> {
    let prepare =
        |delay: Duration| target(delay).prepare(&subject.launch(mem_mib)).map_err(LaunchFailure::Start);
    let plain = prepare(Duration::ZERO)?;
    let mut bench = Measuring { subject, observer, seed: effort.seed, block: 0, rest: effort.rest };
    // Brings code and files into memory; not counted.
    bench.one_after_the_other(&*plain, 5)?;
    let mut same = Vec::new();
    for _ in 0..effort.real {
        same.push(bench.in_turn([&*plain, &*plain], effort.launches)?);
    }
    let blocks: Vec<[f64; 2]> =
        same.iter().flat_map(|(old, new)| old.iter().zip(new)).map(|(old, new)| [*old, *new]).collect();
    let median_ns = median(blocks.as_flattened()).unwrap_or(0.0);

    let mut tallies = Vec::new();
    let mut random = ChaCha8Rng::seed_from_u64(effort.seed);
    for injected in std::iter::once(0.0).chain(INJECTED) {
        let mut tally = Tally::none(Way::Drawn, injected);
        for _ in 0..effort.drawn {
            let (old, new) = draw(&blocks, effort.launches, injected * median_ns, &mut random);
            tally.add(&judge(tally.way, &old, &new));
        }
        tallies.push(tally);
    }
    let mut tally = Tally::none(Way::InTurn, 0.0);
    same.iter().for_each(|(old, new)| tally.add(&judge(tally.way, old, new)));
    tallies.push(tally);
    for injected in INJECTED {
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a fraction of a second")]
        let delayed = prepare(Duration::from_nanos((injected * median_ns) as u64))?;
        let mut tally = Tally::none(Way::InTurn, injected);
        for _ in 0..effort.real {
            let (old, new) = bench.in_turn([&*plain, &*delayed], effort.launches)?;
            tally.add(&judge(tally.way, &old, &new));
        }
        tallies.push(tally);
    }
    let mut tally = Tally::none(Way::OneAfterTheOther, 0.0);
    for _ in 0..effort.real {
        let old = bench.one_after_the_other(&*plain, effort.launches)?;
        let new = bench.one_after_the_other(&*plain, effort.launches)?;
        tally.add(&judge(tally.way, &old, &new));
    }
    tallies.push(tally);
    Ok(Findings { median_ns, tallies })
}

/// Both sides of a comparison, block by block, the second one with a delay.
fn draw(blocks: &[[f64; 2]], launches: u32, delay: f64, random: &mut ChaCha8Rng) -> (Vec<f64>, Vec<f64>) {
    let one = |_| {
        let [mut old, mut new] = blocks[random.random_range(0..blocks.len())];
        if random.random() {
            std::mem::swap(&mut old, &mut new);
        }
        (old, new + delay)
    };
    (0..launches).map(one).unzip()
}

/// What the gate says to these launches: the very code that `gate` runs.
fn judge(way: Way, old: &[f64], new: &[f64]) -> Outcome {
    let layout = match way {
        Way::Drawn | Way::InTurn => Layout::InTurn,
        Way::OneAfterTheOther => Layout::Apart,
    };
    let gate = Gate::judge_in(layout, &samples(old), &samples(new), ALLOWED, Vec::new());
    gate.rows.into_iter().next().map_or(Outcome::Fine, |row| row.outcome)
}

fn samples(launches: &[f64]) -> Vec<Sample> {
    (0_u32..).zip(launches).map(|(block, &value)| Sample::ready("itself", block, value)).collect()
}

struct Measuring<'a> {
    subject: &'a Subject,
    observer: &'a mut Observer,
    seed: u64,
    block: u32,
    rest: Duration,
}

impl Measuring<'_> {
    fn launch(&mut self, prepared: &dyn Prepared) -> Result<f64, LaunchFailure> {
        std::thread::sleep(self.rest);
        let seen = self.subject.launched(self.observer, prepared)?;
        #[expect(clippy::cast_precision_loss, reason = "nanoseconds of one start: far below 2^53")]
        let ready = seen.ready() as f64;
        Ok(ready)
    }

    fn one_after_the_other(
        &mut self,
        prepared: &dyn Prepared,
        launches: u32,
    ) -> Result<Vec<f64>, LaunchFailure> {
        (0..launches).map(|_| self.launch(prepared)).collect()
    }

    fn in_turn(
        &mut self,
        both: [&dyn Prepared; 2],
        launches: u32,
    ) -> Result<(Vec<f64>, Vec<f64>), LaunchFailure> {
        let mut values = [Vec::new(), Vec::new()];
        for _ in 0..launches {
            for slot in plan::block(self.seed, Experiment::Startup, self.block, 1, 2) {
                let value = self.launch(both[slot.target])?;
                values[slot.target].push(value);
            }
            self.block += 1;
        }
        let [old, new] = values;
        Ok((old, new))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tally_counts_what_it_is_looked_at_for() {
        let tally = |injected, worse, better| Tally {
            way: Way::Drawn,
            injected,
            tries: 20,
            worse,
            better,
            unclear: 0,
        };
        assert_eq!(tally(0.0, 2, 0).passes(), Some(false));
        assert_eq!(tally(0.0, 1, 5).passes(), Some(true));
        assert_eq!(tally(0.05, 0, 0).passes(), None);
        assert_eq!(tally(0.10, 18, 0).passes(), Some(true));
        assert_eq!(tally(0.10, 17, 3).passes(), Some(false));
        let apart = Tally { way: Way::OneAfterTheOther, ..tally(0.0, 2, 0) };
        assert_eq!(apart.passes(), None);
        let findings = |tallies| Findings { median_ns: 1.0, tallies };
        assert!(!findings(vec![apart]).apart_is_as_good());
        assert!(findings(vec![apart, tally(0.0, 1, 0)]).pass());
        assert_eq!(tally(0.0, 0, 0).interval().map(|found| found.low), Some(0.0));
    }

    #[test]
    fn what_is_drawn_is_blocks_and_either_of_the_two_may_be_the_old_one() {
        // A host that moves, and launches that differ by one within a block.
        let blocks: Vec<[f64; 2]> =
            (0..50).map(|block| [f64::from(block) * 1e3, f64::from(block) * 1e3 + 1.0]).collect();
        let (old, new) = draw(&blocks, 400, 10.0, &mut ChaCha8Rng::seed_from_u64(3));
        let by: Vec<f64> = old.iter().zip(&new).map(|(old, new)| new - old).collect();
        assert!(by.contains(&11.0) && by.contains(&9.0), "{by:?}");
        assert!(by.iter().all(|by| [9.0, 11.0].contains(by)), "{by:?}");
        assert!(old.iter().any(|old| *old < 5e3) && old.iter().any(|old| *old > 45e3), "from everywhere");
    }

    #[test]
    fn over_two_hundred_drawn_comparisons_of_skewed_launches_the_gate_keeps_its_promises() {
        let mut random = ChaCha8Rng::seed_from_u64(11);
        // Spread of a tenth, skewed to the right, and one in fifty far out: as start-up times here are.
        let mut launch = || {
            let even = |random: &mut ChaCha8Rng| f64::from(random.random::<u32>()) / f64::from(u32::MAX);
            let tail = if even(&mut random) < 0.02 { 3e5 } else { 0.0 };
            4e5 + 1e5 * even(&mut random).powi(2) + tail
        };
        let (mut false_alarms, mut found) = ([0; 2], [0; 2]);
        for _ in 0..200 {
            let old: Vec<f64> = (0..40).map(|_| launch()).collect();
            let new: Vec<f64> = (0..40).map(|_| launch()).collect();
            let slower: Vec<f64> = new.iter().map(|value| value + 4.3e4).collect();
            for (place, way) in [Way::InTurn, Way::OneAfterTheOther].into_iter().enumerate() {
                false_alarms[place] += u32::from(judge(way, &old, &new) == Outcome::Regressed);
                found[place] += u32::from(judge(way, &old, &slower) == Outcome::Regressed);
            }
        }
        let good = false_alarms.iter().all(|alarms| *alarms <= 10) && found.iter().all(|found| *found >= 180);
        assert!(good, "{false_alarms:?} false alarms, {found:?} found, of 200");
    }
}
