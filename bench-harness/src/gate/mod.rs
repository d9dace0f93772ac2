//! The gate: did anything get worse from one recording to the next, by more than is allowed and than the host can resolve?
//!
//! Three things make a regression, and one alone never does: the test ([`adaptive`]) is significant after Holm over all rows of
//! the gate; the shift is larger than what is allowed; and it is larger than the smallest effect that these launches on this host
//! can resolve. A row that is none passes only where the data could have shown one, else they cannot
//! tell: absence of evidence is not evidence of absence (Altman & Bland, *BMJ* 311, 1995).
//!
//! The smallest effect is the larger of two. One is what the test would find in four of five cases, made of the spread of
//! the launches: (z of the level + z of the power) standard errors (Cohen, *Statistical Power Analysis for the Behavioral
//! Sciences*, 2nd ed., 1988, chapter 2; for benchmarks Kalibera & Jones, ISMM 2013). The other is by how much the two halves
//! of one recording differ: a host that moves by so much within a run moves by as much between two, which no number of
//! launches cures (Bulej et al., "Unit testing performance with Stochastic Performance Logic", *Automated Software
//! Engineering* 24, 2017). Launches that were made in turn need neither: the host moved for both sides alike, and what is larger
//! than the test's own interval has been resolved.

use std::collections::BTreeMap;

use crate::record::{HARNESS, RunInfo, Sample, metric};
use crate::stats::adaptive::{self, Layout};
use crate::stats::bootstrap::ratio;
use crate::stats::shift::{Z, hodges_lehmann};
use crate::stats::{Interval, MIN_FOR_INTERVAL, compare, family, median};
use crate::summary::{SIGNIFICANT, launches_by_block};
use crate::units::{Kind, format_percent, kind_of, plural};

pub mod render;
pub mod same;

/// Point of the standard normal distribution for a power of 0.8, the custom since Cohen 1988.
const Z_POWER: f64 = 0.841_621;

/// Fewest launches of a recording whose halves are compared with each other.
const MIN_FOR_HALVES: usize = 2 * MIN_FOR_INTERVAL;

/// How many times as many launches are still named as a remedy.
const MOST_TIMES: f64 = 1_000.0;

/// What is judged. Phases and the other methods for memory explain a change; they do not decide.
const JUDGED: [&str; 5] = [metric::READY, metric::EXIT, metric::PSS, metric::CGROUP, metric::TIME_PER_OP];

/// What became of one metric of one target.
#[derive(Debug, Clone, PartialEq)]
pub enum Outcome {
    /// No regression beyond the limit, and the data could have shown one.
    Fine,
    /// Better by more than the limit, by the same rule.
    Improved,
    /// Worse: significant, beyond the limit, beyond what the host can resolve.
    Regressed,
    /// The data cannot tell.
    Unclear {
        /// Launches a side that would, beyond those that there are; `None` where no number would.
        more: Option<usize>,
        /// Why, one clause.
        why: String,
    },
}

impl Outcome {
    /// One word.
    pub fn word(&self) -> &'static str {
        match self {
            Self::Fine => "fine",
            Self::Improved => "improved",
            Self::Regressed => "REGRESSED",
            Self::Unclear { .. } => "unclear",
        }
    }
}

/// One metric of one target, old and new.
#[derive(Debug, Clone, PartialEq)]
pub struct GateRow {
    /// As in [`Sample`].
    pub experiment: String,
    /// As in [`Sample`].
    pub workload: String,
    /// As in [`Sample`].
    pub metric: String,
    /// As in [`Sample`].
    pub target: String,
    /// Unit of the medians.
    pub unit: String,
    /// Launches.
    pub n: (usize, usize),
    /// Median of the old recording.
    pub old: Option<f64>,
    /// Median of the new one.
    pub new: Option<f64>,
    /// Shift from old to new as part of the old median; more is worse, whatever the unit.
    pub worse: Option<f64>,
    /// 95 % interval of that.
    pub worse_ci95: Option<Interval>,
    /// Probability of ranks as unequal, corrected after Holm for all rows of the gate.
    pub p_holm: Option<f64>,
    /// Smallest effect that these launches on this host can resolve, as part of the old median.
    pub resolves: Option<f64>,
    /// The verdict.
    pub outcome: Outcome,
}

/// The verdict on two recordings.
#[derive(Debug, Clone, PartialEq)]
pub struct Gate {
    /// Largest regression that is allowed, as a part.
    pub allowed: f64,
    /// Why the two should not be compared; not empty only where that was forced.
    pub differences: Vec<String>,
    /// One a metric and target that both have or had.
    pub rows: Vec<GateRow>,
}

impl Gate {
    /// Judges what two recordings have in common.
    ///
    /// Whether they may be compared at all is [`same::differences`]' business.
    pub fn judge(old: &[Sample], new: &[Sample], allowed: f64, differences: Vec<String>) -> Self {
        Self::judge_in(Layout::Apart, old, new, allowed, differences)
    }

    /// The same of launches that were made in this layout; in turn: launches of one block belong together.
    pub fn judge_in(
        layout: Layout,
        old: &[Sample],
        new: &[Sample],
        allowed: f64,
        differences: Vec<String>,
    ) -> Self {
        let mut pairs = pairs(layout, old, new);
        let p: Vec<f64> = pairs.iter().filter_map(|pair| pair.p()).collect();
        let mut adjusted = family::holm(&p).into_iter();
        let rows = pairs
            .iter_mut()
            .map(|pair| {
                let p_holm = pair.p().and_then(|_| adjusted.next());
                pair.row(p_holm, p.len(), allowed)
            })
            .collect();
        Self { allowed, differences, rows }
    }

    /// How many rows came out so.
    pub fn count(&self, is: impl Fn(&Outcome) -> bool) -> usize {
        self.rows.iter().filter(|row| is(&row.outcome)).count()
    }

    /// 0 passed, 1 regressed, 5 cannot tell; 3 where there was nothing to compare.
    pub fn exit_code(&self) -> u8 {
        if self.rows.is_empty() {
            crate::error::HOST
        } else if self.count(|outcome| *outcome == Outcome::Regressed) > 0 {
            crate::error::REGRESSED
        } else if self.count(|outcome| matches!(outcome, Outcome::Unclear { .. })) > 0 {
            crate::error::UNCLEAR
        } else {
            crate::error::DONE
        }
    }

    /// The verdict in one sentence.
    pub fn sentence(&self) -> String {
        let limit = format_percent(self.allowed);
        let rows = plural(self.rows.len(), "figure", "figures");
        let regressed = self.count(|outcome| *outcome == Outcome::Regressed);
        let unclear = self.count(|outcome| matches!(outcome, Outcome::Unclear { .. }));
        match self.exit_code() {
            crate::error::HOST => "Gate: refused, the recordings have no figure in common.".into(),
            crate::error::REGRESSED => {
                format!("Gate: FAILED. {regressed} of {rows} regressed by more than {limit}.")
            }
            crate::error::UNCLEAR => {
                let most = self.rows.iter().filter_map(|row| match row.outcome {
                    Outcome::Unclear { more, .. } => more,
                    _ => None,
                });
                let more = most.max().map_or_else(String::new, |more| {
                    format!(" About {} a side would tell.", plural(more, "more launch", "more launches"))
                });
                format!(
                    "Gate: CANNOT TELL. None of {rows} regressed for sure, and {unclear} may have, by more than {limit}.{more}"
                )
            }
            _ => format!("Gate: passed. None of {rows} regressed by more than {limit}."),
        }
    }
}

/// The launches of one metric of one target, old and new.
struct Pair {
    layout: Layout,
    experiment: String,
    workload: String,
    metric: &'static str,
    target: String,
    unit: String,
    old: Vec<f64>,
    new: Vec<f64>,
    /// What the test says of them.
    found: Option<adaptive::Verdict>,
}

/// Everything that is judged and has launches on at least the old side.
fn pairs(layout: Layout, old: &[Sample], new: &[Sample]) -> Vec<Pair> {
    let mut topics: Vec<(&str, &str, &str)> = Vec::new();
    for sample in old.iter().filter(|sample| sample.experiment != HARNESS && sample.status.has_value()) {
        let topic = (sample.experiment.as_str(), sample.workload.as_str(), sample.unit.as_str());
        if !topics.contains(&topic) {
            topics.push(topic);
        }
    }
    let mut pairs = Vec::new();
    for (experiment, workload, unit) in topics {
        // A program of the user's own has no time of its own; then the time from outside is judged.
        let timed = old.iter().any(|sample| {
            sample.experiment == experiment
                && sample.workload == workload
                && sample.metric == metric::TIME_PER_OP
        });
        let outside = (!timed).then_some(metric::HOST_WALL);
        for name in JUDGED.into_iter().chain(outside) {
            let unit_is_its_own = old.iter().any(|sample| {
                sample.metric == name
                    && (sample.experiment.as_str(), sample.workload.as_str(), sample.unit.as_str())
                        == (experiment, workload, unit)
            });
            if !unit_is_its_own {
                continue;
            }
            let now = launches_by_block(new, experiment, workload, name);
            for (target, launches) in launches_by_block(old, experiment, workload, name) {
                if launches.is_empty() {
                    continue;
                }
                let found = now.iter().find(|(found, _)| *found == target);
                let (old, new) = aligned(layout, &launches, found.map(|(_, launches)| launches));
                pairs.push(Pair {
                    layout,
                    experiment: experiment.into(),
                    workload: workload.into(),
                    metric: name,
                    target: target.into(),
                    unit: unit.into(),
                    found: adaptive::compare(&new, &old, layout),
                    old,
                    new,
                });
            }
        }
    }
    // What was not measured again at all is no question; what was tried again and gave nothing is one.
    pairs.retain(|pair| {
        !pair.new.is_empty()
            || new.iter().any(|sample| {
                (sample.experiment.as_str(), sample.workload.as_str(), sample.target.as_str())
                    == (pair.experiment.as_str(), pair.workload.as_str(), pair.target.as_str())
            })
    });
    pairs
}

/// The launches of both sides; where they were made in turn, those of blocks that have both.
fn aligned(
    layout: Layout,
    old: &BTreeMap<u32, f64>,
    new: Option<&BTreeMap<u32, f64>>,
) -> (Vec<f64>, Vec<f64>) {
    let Some(new) = new else { return (old.values().copied().collect(), Vec::new()) };
    match layout {
        Layout::Apart => (old.values().copied().collect(), new.values().copied().collect()),
        Layout::InTurn => old.iter().filter_map(|(block, value)| Some((*value, *new.get(block)?))).unzip(),
    }
}

impl Pair {
    fn enough(&self) -> bool {
        self.old.len().min(self.new.len()) >= MIN_FOR_INTERVAL
    }

    /// Only what can be judged is a question, and makes the family larger.
    fn p(&self) -> Option<f64> {
        self.found.filter(|_| self.enough()).map(|found| found.p)
    }

    fn row(&self, p_holm: Option<f64>, family: usize, allowed: f64) -> GateRow {
        let (old, new) = (median(&self.old), median(&self.new));
        let mut row = GateRow {
            experiment: self.experiment.clone(),
            workload: self.workload.clone(),
            metric: self.metric.into(),
            target: self.target.clone(),
            unit: self.unit.clone(),
            n: (self.old.len(), self.new.len()),
            old,
            new,
            worse: None,
            worse_ci95: None,
            p_holm,
            resolves: None,
            outcome: Outcome::Fine,
        };
        let sign = if kind_of(&self.unit) == Kind::Rate { -1.0 } else { 1.0 };
        let part = |value: f64| old.and_then(|old| Some(ratio(value.abs(), old)?.copysign(value)));
        let shift = self.found.map(|found| found.shift);
        row.worse = shift.and_then(|shift| part(shift.by * sign));
        row.worse_ci95 = shift.filter(|_| self.enough()).and_then(|shift| shift.interval).and_then(|found| {
            let (one, other) = (part(found.low * sign)?, part(found.high * sign)?);
            Some(Interval { low: one.min(other), high: one.max(other) })
        });
        let moved = match self.layout {
            Layout::Apart => {
                [&self.old, &self.new].into_iter().filter_map(|launches| halves(launches)).fold(0.0, f64::max)
            }
            // It moved for both.
            Layout::InTurn => 0.0,
        };
        let spread = row.worse_ci95.map(|found| (found.high - found.low) / 2.0 / Z * (Z + Z_POWER));
        row.resolves = spread.map(|spread| spread.max(moved));
        row.outcome = self.outcome(&row, family, allowed, spread, moved);
        row
    }

    fn outcome(
        &self,
        row: &GateRow,
        family: usize,
        allowed: f64,
        spread: Option<f64>,
        moved: f64,
    ) -> Outcome {
        let unclear = |more, why: String| Outcome::Unclear { more, why };
        let n = self.old.len().min(self.new.len());
        if self.new.is_empty() {
            return unclear(None, "the new recording has no value for it; see what failed there".into());
        }
        if !self.enough() {
            let more = MIN_FOR_INTERVAL - n;
            return unclear(
                Some(more),
                format!("an interval needs {MIN_FOR_INTERVAL} launches a side, there are {n}"),
            );
        }
        let (Some(worse), Some(interval), Some(p), Some(spread), Some(resolves)) =
            (row.worse, row.worse_ci95, row.p_holm, spread, row.resolves)
        else {
            // Both nothing: nothing changed.
            return match (row.old, row.new) {
                (Some(old), Some(new)) if old == new => Outcome::Fine,
                _ => unclear(None, "the old median is 0, and nothing is a part of that".into()),
            };
        };
        let least = match self.layout {
            Layout::Apart => resolves,
            Layout::InTurn => (interval.high - interval.low) / 2.0,
        };
        let sure = p < SIGNIFICANT && worse.abs() > allowed && worse.abs() > least;
        if sure {
            return if worse > 0.0 { Outcome::Regressed } else { Outcome::Improved };
        }
        // Not even the worse end of the interval is beyond the limit; or it would have been found, and was not.
        if interval.high <= allowed || (worse <= allowed && resolves <= allowed) {
            return Outcome::Fine;
        }
        if moved > allowed && moved >= spread {
            return unclear(
                None,
                format!(
                    "within one recording it moved by {}; more launches do not help there, a quieter host does",
                    format_percent(moved)
                ),
            );
        }
        #[expect(clippy::cast_precision_loss, reason = "a number of launches")]
        let have = n as f64;
        // The spread falls with the square root of the number of launches.
        let to_resolve = (spread / allowed).powi(2);
        let to_part = ((interval.high - worse) / (worse - allowed).abs().max(f64::MIN_POSITIVE)).powi(2);
        let times = if resolves > allowed { to_resolve } else { to_part }.max(1.1);
        let by_family = launches_for(self.layout, family);
        let why = if by_family > n {
            format!(
                "with {}, {n} launches a side cannot become significant",
                plural(family, "figure", "figures")
            )
        } else if resolves > allowed {
            format!("the smallest effect to be seen here is {}", format_percent(resolves))
        } else {
            "it lies too close to the limit".into()
        };
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "at most a thousand times"
        )]
        let more = (times <= MOST_TIMES)
            .then(|| ((have * (times - 1.0)).ceil() as usize).max(by_family.saturating_sub(n)));
        unclear(more, why)
    }
}

/// Launches a side from which the smallest p can be significant in a family of this size.
fn launches_for(layout: Layout, family: usize) -> usize {
    let smallest = |n: usize| match layout {
        Layout::Apart => compare::smallest_p(n, n),
        Layout::InTurn => (0..n).fold(2.0, |p, _| p / 2.0),
    };
    (MIN_FOR_INTERVAL..)
        .find(|&n| smallest(n) * crate::stats::count(family.max(1)) < SIGNIFICANT)
        .unwrap_or(MIN_FOR_INTERVAL)
}

/// By which part of the first half's median the halves of a recording differ.
fn halves(launches: &[f64]) -> Option<f64> {
    if launches.len() < MIN_FOR_HALVES {
        return None;
    }
    let (first, second) = launches.split_at(launches.len() / 2);
    ratio(hodges_lehmann(second, first)?.by.abs(), median(first)?)
}

/// Judges two whole recordings, or says why they must not be compared.
///
/// # Errors
/// The differences, one clause each, unless `force`.
pub fn of_recordings(
    old: (&RunInfo, &[Sample]),
    new: (&RunInfo, &[Sample]),
    allowed: f64,
    force: bool,
) -> Result<Gate, Vec<String>> {
    let differences = same::differences(old.0, new.0);
    if !differences.is_empty() && !force {
        return Err(differences);
    }
    Ok(Gate::judge(old.1, new.1, allowed, differences))
}

#[cfg(test)]
mod tests;
