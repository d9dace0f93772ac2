//! From samples to the rows of `summary.csv`: one a metric and target.
//!
//! Computed from the samples and the run's seed alone, so that a recording always gives the same summary.
//!
//! The unit of replication is the launch. Repetitions within one launch share its address layout, its place on the
//! host and its neighbours, so they are first reduced to their median: `n` counts launches, and every figure and
//! interval is over launches (Georges, Buytaert & Eeckhout, "Statistically Rigorous Java Performance Evaluation",
//! OOPSLA 2007; Kalibera & Jones, "Rigorous Benchmarking in Reasonable Time", ISMM 2013).

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::fmt;

use crate::record::{BASELINE, DENSITY, HARNESS, LADDER, NEIGHBOURS, Sample, Status, metric};
use crate::stats::bootstrap::{Interval, Resampler, ratio};
use crate::stats::shift::hodges_lehmann;
use crate::stats::{MIN_FOR_INTERVAL, compare, describe, family, order, outliers, slope};
use crate::target::rung;
use crate::units::{Kind, kind_of};

mod density;
mod layers;
mod neighbours;

/// Largest difference from the baseline that still is called `same`.
///
/// The project promises computing in a container or a virtual machine within 3 % of native; below that, the placement of
/// code and stack alone moves results (Mytkowicz et al., "Producing Wrong Data Without Doing Anything Obviously
/// Wrong!", ASPLOS 2009).
pub const SAME_WITHIN: f64 = 0.03;

/// Probability below which a difference counts as significant.
pub const SIGNIFICANT: f64 = 0.05;

/// What a row says about its target, in one word.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Verdict {
    /// The target that the others are compared to.
    Baseline,
    /// The whole interval of the ratio lies within [`SAME_WITHIN`] of 1.
    Same,
    /// A time is longer, or a rate lower: interval and test exclude 1, and the ratio is beyond [`SAME_WITHIN`].
    Slower,
    /// A time is shorter, or a rate higher, by the same rule.
    Faster,
    /// An amount is larger, by the same rule.
    More,
    /// An amount is smaller, by the same rule.
    Less,
    /// The data tell neither a difference nor its absence, or are too few for an interval.
    Unclear,
    /// The target was not tried.
    Skipped,
    /// The target was tried, and no value came of it.
    Failed,
}

impl Verdict {
    /// The word that stands for it in `summary.csv`.
    pub fn word(self) -> &'static str {
        match self {
            Self::Baseline => "baseline",
            Self::Same => "same",
            Self::Slower => "slower",
            Self::Faster => "faster",
            Self::More => "more",
            Self::Less => "less",
            Self::Unclear => "unclear",
            Self::Skipped => "skipped",
            Self::Failed => "failed",
        }
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.word())
    }
}

/// One row of `summary.csv`. A figure that the launches are too few for is `None`.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct SummaryRow {
    /// As in [`Sample`].
    pub experiment: String,
    /// As in [`Sample`].
    pub workload: String,
    /// As in [`Sample`], or [`metric::MARGINAL`].
    pub metric: String,
    /// Unit of every figure but the ratios.
    pub unit: String,
    /// As in [`Sample`].
    pub target: String,
    /// Launches that gave a value.
    pub n: usize,
    /// Launches that gave none, or not all of their repetitions.
    pub failed: usize,
    /// Smallest value.
    pub min: Option<f64>,
    /// Median; of [`metric::MARGINAL`] with few curves, the slope common to all.
    pub median: Option<f64>,
    /// Mean.
    pub mean: Option<f64>,
    /// Standard deviation, n - 1.
    pub stddev: Option<f64>,
    /// 95th percentile, from 20 launches on.
    pub p95: Option<f64>,
    /// 95 % interval of that, from 72 launches on.
    pub p95_ci95: Option<Interval>,
    /// 99th percentile, from 100 launches on.
    pub p99: Option<f64>,
    /// 95 % interval of that, from 368 launches on.
    pub p99_ci95: Option<Interval>,
    /// Largest value.
    pub max: Option<f64>,
    /// 95 % interval of the median, from [`crate::stats::MIN_FOR_INTERVAL`] launches on.
    pub ci95: Option<Interval>,
    /// Target that the ratio is to; `None` where that has no value, and for itself.
    pub baseline: Option<String>,
    /// Median over the baseline's median.
    pub ratio: Option<f64>,
    /// 95 % interval of the ratio.
    pub ratio_ci95: Option<Interval>,
    /// How much larger the values are than the baseline's: the shift of Hodges and Lehmann, in `unit`.
    pub shift: Option<f64>,
    /// 95 % interval of the shift.
    pub shift_ci95: Option<Interval>,
    /// Probability of ranks as unequal, were both targets alike.
    pub p_value: Option<f64>,
    /// The same after Holm, over all rows of this metric and experiment: what the verdict goes by.
    pub p_holm: Option<f64>,
    /// Launches beyond Tukey's inner fences; they are part of all figures.
    pub outliers: usize,
    /// `None` where there is nothing to compare with.
    pub verdict: Option<Verdict>,
    /// Why there is no value; not a column.
    pub reason: Option<String>,
}

/// The observations of one metric of one target.
#[derive(Debug, Default)]
struct Cell {
    unit: String,
    /// Values by launch (block and place in it).
    values: BTreeMap<(u32, u32), Vec<f64>>,
    /// Points by launch, of a metric that is the slope of a curve.
    curves: BTreeMap<(u32, u32), Vec<slope::Point>>,
    failed: BTreeSet<(u32, u32)>,
    skipped: bool,
    reason: Option<String>,
}

impl Cell {
    fn add(&mut self, sample: &Sample) {
        let launch = (sample.block, sample.order);
        if self.unit.is_empty() {
            self.unit.clone_from(&sample.unit);
        }
        match (sample.status, sample.value) {
            (Status::Ok, Some(value)) if metric::slope_of(&sample.metric).is_some() => {
                self.curves.entry(launch).or_default().push((f64::from(sample.iteration), value));
            }
            (Status::Ok, Some(value)) => self.values.entry(launch).or_default().push(value),
            (Status::Ok | Status::Warmup, _) => {}
            (Status::Failed, _) => {
                self.failed.insert(launch);
                self.reason.get_or_insert_with(|| sample.detail.clone());
            }
            (Status::Skipped, _) => {
                self.skipped = true;
                self.reason.get_or_insert_with(|| sample.detail.clone());
            }
        }
    }

    /// One value a launch.
    fn launches(&self) -> Vec<f64> {
        self.launches_in_blocks().into_iter().map(|(_, value)| value).collect()
    }

    /// The same, each with its block.
    fn launches_in_blocks(&self) -> Vec<(u32, f64)> {
        let values =
            self.values.iter().filter_map(|((block, _), values)| Some((*block, describe::median(values)?)));
        let slopes = self.curves.iter().filter_map(|((block, _), curve)| {
            Some((*block, slope::theil_sen(std::slice::from_ref(curve))?.slope))
        });
        values.chain(slopes).collect()
    }

    /// One value a block, of metrics that a block holds once for each target.
    fn by_block(&self) -> BTreeMap<u32, f64> {
        self.launches_in_blocks().into_iter().collect()
    }

    /// The slope common to all curves, where there are curves and they are too few to resample.
    fn common_slope(&self) -> Option<slope::Slope> {
        let few = (1..MIN_FOR_INTERVAL).contains(&self.curves.len());
        few.then(|| slope::theil_sen(&self.curves.values().cloned().collect::<Vec<_>>())).flatten()
    }

    /// The figure that stands for all launches: their median, or the slope common to few curves.
    fn centre(&self) -> Option<f64> {
        self.common_slope().map(|found| found.slope).or_else(|| describe::median(&self.launches()))
    }

    /// Whether there is no figure and no reason for its absence either. A curve of one point has no slope: so a target without
    /// a cgroup, for which only the nothing of no instance was read.
    fn says_nothing(&self) -> bool {
        let no_curve = self.curves.values().all(|curve| curve.len() < 2);
        self.values.is_empty() && no_curve && self.failed.is_empty() && !self.skipped
    }
}

/// Experiment, workload and metric.
type Topic<'a> = (&'a str, &'a str, &'a str);

/// The summary of a recording.
pub fn summarise(samples: &[Sample], seed: u64) -> Vec<SummaryRow> {
    let places = Places::of(samples);
    let mut cells: BTreeMap<_, (Topic<'_>, BTreeMap<_, Cell>)> = BTreeMap::new();
    let figures = |sample: &&Sample| !metric::is_of_set(&sample.metric) || !sample.status.has_value();
    for sample in samples.iter().filter(figures) {
        let topic = (sample.experiment.as_str(), sample.workload.as_str(), shown_metric(sample));
        let (_, targets) = cells.entry(places.of_topic(topic)).or_insert_with(|| (topic, BTreeMap::new()));
        targets.entry(target_place(&sample.target)).or_default().add(sample);
    }
    let mut rows =
        cells.values().flat_map(|(topic, targets)| rows_of(*topic, targets, seed)).collect::<Vec<_>>();
    let ladders = cells.values().filter(|(topic, _)| topic.0 == LADDER);
    rows.extend(ladders.flat_map(|(topic, targets)| layers::rows_of(*topic, targets)));
    rows.extend(density::rows_of(&rows));
    rows.extend(neighbours::rows_of(cells.values().map(|(topic, targets)| (*topic, targets))));
    correct(&mut rows);
    rows
}

/// Corrects the probabilities for their number, then judges. One metric of one experiment, in all targets and workloads,
/// is a family: the answers to one question.
fn correct(rows: &mut [SummaryRow]) {
    let mut families: BTreeMap<(String, String), Vec<usize>> = BTreeMap::new();
    for (place, row) in rows.iter().enumerate().filter(|(_, row)| row.p_value.is_some()) {
        families.entry((row.experiment.clone(), row.metric.clone())).or_default().push(place);
    }
    for places in families.into_values() {
        let p: Vec<f64> = places.iter().filter_map(|&place| rows[place].p_value).collect();
        for (place, adjusted) in places.into_iter().zip(family::holm(&p)) {
            rows[place].p_holm = Some(adjusted);
        }
    }
    for row in rows.iter_mut().filter(|row| row.baseline.is_some()) {
        row.verdict = Some(judge(kind_of(&row.unit), row));
    }
}

/// The values of one metric, one a launch, by target in the order of the summary.
pub fn launches_by_target<'a>(
    samples: &'a [Sample],
    experiment: &str,
    workload: &str,
    name: &str,
) -> Vec<(&'a str, Vec<f64>)> {
    cells_by_target(samples, experiment, workload, name)
        .into_iter()
        .map(|((_, target), cell)| (target, cell.launches()))
        .collect()
}

/// The same, each by its block.
pub fn launches_by_block<'a>(
    samples: &'a [Sample],
    experiment: &str,
    workload: &str,
    name: &str,
) -> Vec<(&'a str, BTreeMap<u32, f64>)> {
    cells_by_target(samples, experiment, workload, name)
        .into_iter()
        .map(|((_, target), cell)| (target, cell.by_block()))
        .collect()
}

fn cells_by_target<'a>(
    samples: &'a [Sample],
    experiment: &str,
    workload: &str,
    name: &str,
) -> BTreeMap<(usize, &'a str), Cell> {
    let mut cells: BTreeMap<_, Cell> = BTreeMap::new();
    let own = |sample: &&Sample| {
        sample.experiment == experiment && sample.workload == workload && shown_metric(sample) == name
    };
    for sample in samples.iter().filter(own) {
        cells.entry(target_place(&sample.target)).or_default().add(sample);
    }
    cells
}

/// The metric that a sample counts for: the points of a curve count for its slope.
fn shown_metric(sample: &Sample) -> &str {
    metric::slope_of(&sample.metric).unwrap_or(&sample.metric)
}

fn rows_of(topic: Topic<'_>, targets: &BTreeMap<(usize, &str), Cell>, seed: u64) -> Vec<SummaryRow> {
    let base = targets.iter().find(|((_, target), _)| *target == BASELINE).map(|(_, cell)| cell);
    let base = base.filter(|cell| cell.centre().is_some());
    let rows = targets.iter().filter(|(_, cell)| !cell.says_nothing());
    rows.map(|((_, target), cell)| row_of(topic, target, cell, base, seed)).collect()
}

fn row_of(topic: Topic<'_>, target: &str, cell: &Cell, base: Option<&Cell>, seed: u64) -> SummaryRow {
    let launches = cell.launches();
    let sorted = describe::sorted(&launches);
    let (experiment, workload, name) = topic;
    let mut resampler = Resampler::new(seed, &[experiment, workload, name, target].join("/"));
    let mut row = SummaryRow {
        experiment: experiment.to_owned(),
        workload: workload.to_owned(),
        metric: name.to_owned(),
        unit: cell.unit.clone(),
        target: target.to_owned(),
        n: launches.len(),
        failed: cell.failed.len(),
        min: sorted.first().copied(),
        median: cell.centre(),
        mean: describe::mean(&launches),
        stddev: describe::stddev(&launches),
        p95: describe::tail_quantile(&launches, 0.95),
        p95_ci95: order::interval_of_sorted(&sorted, 0.95),
        p99: describe::tail_quantile(&launches, 0.99),
        p99_ci95: order::interval_of_sorted(&sorted, 0.99),
        max: sorted.last().copied(),
        ci95: cell
            .common_slope()
            .map_or_else(|| order::interval_of_sorted(&sorted, 0.5), |found| found.interval),
        outliers: outliers::count_outside(&launches).0,
        reason: cell.reason.clone(),
        ..SummaryRow::default()
    };
    if launches.is_empty() {
        row.verdict = Some(if cell.failed.is_empty() { Verdict::Skipped } else { Verdict::Failed });
    } else if target == BASELINE {
        row.verdict = Some(Verdict::Baseline);
    } else if let Some(base) = base {
        row.baseline = Some(BASELINE.to_owned());
        let base_launches = base.launches();
        row.ratio = row.median.zip(base.centre()).and_then(|(median, base)| ratio(median, base));
        row.ratio_ci95 = resampler.ratio_of_medians(&cell.launches_in_blocks(), &base.launches_in_blocks());
        let shift = hodges_lehmann(&launches, &base_launches);
        row.shift = shift.map(|shift| shift.by);
        row.shift_ci95 = shift.and_then(|shift| shift.interval);
        row.p_value = compare::rank_sum_p(&launches, &base_launches);
    }
    row
}

/// A difference needs significance *and* a size that matters; sameness needs an interval that rules such a size out.
fn judge(kind: Kind, row: &SummaryRow) -> Verdict {
    let (Some(ratio), Some(interval), Some(p)) = (row.ratio, row.ratio_ci95, row.p_holm) else {
        return Verdict::Unclear;
    };
    if interval.within(1.0 - SAME_WITHIN, 1.0 + SAME_WITHIN) {
        return Verdict::Same;
    }
    if interval.holds(1.0) || p >= SIGNIFICANT || (ratio - 1.0).abs() <= SAME_WITHIN {
        return Verdict::Unclear;
    }
    match (kind, ratio > 1.0) {
        (Kind::Time, true) | (Kind::Rate, false) => Verdict::Slower,
        (Kind::Time, false) | (Kind::Rate, true) => Verdict::Faster,
        (Kind::Amount, true) => Verdict::More,
        (Kind::Amount, false) => Verdict::Less,
    }
}

/// Where things stand: known ones in the order in which people expect them, others after those.
struct Places<'a> {
    metrics: HashMap<(&'a str, &'a str), usize>,
}

/// The metrics of all experiments in one order that agrees with that of every single target, as far as there is one.
///
/// Two targets have phases of the same name among others of their own; by first occurrence alone, those of the second
/// target would come after the shared ones, even where they come before them in time. So a new name goes behind the one
/// that it followed, or else before the next one that is known.
fn order_metrics(samples: &[Sample]) -> HashMap<(&str, &str), usize> {
    let mut order: Vec<(&str, &str)> = Vec::new();
    let mut known = HashSet::new();
    for launch in samples.chunk_by(same_launch) {
        let names: Vec<_> =
            launch.iter().map(|sample| (sample.experiment.as_str(), shown_metric(sample))).collect();
        for (at, name) in names.iter().enumerate() {
            if known.contains(name) {
                continue;
            }
            let place_of = |name: &(&str, &str)| order.iter().position(|known| known == name);
            let behind = at.checked_sub(1).and_then(|before| place_of(&names[before])).map(|place| place + 1);
            let place = behind.or_else(|| names[at..].iter().find_map(place_of));
            order.insert(place.unwrap_or(order.len()), *name);
            known.insert(*name);
        }
    }
    order.into_iter().enumerate().map(|(place, name)| (name, place)).collect()
}

fn same_launch(left: &Sample, right: &Sample) -> bool {
    let launch = |sample: &Sample| (sample.block, sample.order);
    (&left.experiment, &left.target, &left.workload, launch(left))
        == (&right.experiment, &right.target, &right.workload, launch(right))
}

impl<'a> Places<'a> {
    fn of(samples: &'a [Sample]) -> Self {
        Self { metrics: order_metrics(samples) }
    }

    fn of_topic(&self, topic: Topic<'a>) -> impl Ord + use<'a> {
        let (experiment, workload, name) = topic;
        let known = match experiment {
            "startup" => 0,
            "memory" => 1,
            "overhead" => 2,
            LADDER => 3,
            DENSITY => 4,
            "surface" => 5,
            NEIGHBOURS => 6,
            HARNESS => 9,
            _ => 8,
        };
        let main = usize::from(name != metric::main_of(experiment));
        let phase = usize::from(name.starts_with(metric::PHASE_PREFIX));
        let name = self.metrics.get(&(experiment, name)).copied().unwrap_or(usize::MAX);
        let listed = workloads::catalogue::all().iter().position(|listed| listed.name == workload);
        (known, experiment, listed.unwrap_or(usize::MAX), workload, main, phase, name)
    }
}

/// Targets from the barest to the fullest.
pub const TARGETS: [&str; 4] = [BASELINE, "container", "microvm", "microvm-linux"];

/// Where a target stands among others: the known ones, the rungs of the ladder, then all others by name.
#[must_use]
pub fn target_place(target: &str) -> (usize, &str) {
    let known = TARGETS.iter().position(|known| *known == target);
    let rung = || Some(TARGETS.len() + rung::names().position(|name| name == target)?);
    (known.or_else(rung).unwrap_or(usize::MAX), target)
}

#[cfg(test)]
mod tests;
