//! The experiment neighbours: how much slower a victim is beside an aggressor than alone.
//!
//! A block holds the victim alone and beside each aggressor, in each target. The slow-down is the ratio within a block, so
//! that what changes slowly on the host is in both; of the ratios of all blocks the median, with its exact interval.

use std::collections::BTreeMap;

use super::table::Table;
use crate::experiment::neighbours::BESIDE;
use crate::record::{Sample, Status, metric};
use crate::stats::{Interval, describe, order};
use crate::summary::TARGETS;
use crate::units::format_ratio;

/// What belongs to these figures.
pub const REMARK: &str = "1 is as fast as alone in the same target; the absolute times are below. Every aggressor kept to its limits, \
    which the run read back (`aggressor_*`): one that went beyond would be a failed row. On a host whose CPUs are fewer than the \
    tasks that want them, most of a slow-down is the CPU's share; it says as much of the scheduler as of the target.";

/// How much slower a victim is.
#[derive(Debug, Clone, PartialEq)]
pub struct Slowdown {
    /// What was disturbed.
    pub victim: String,
    /// By what.
    pub aggressor: String,
    /// Where.
    pub target: String,
    /// [`metric::BESIDE_MEDIAN`] or [`metric::BESIDE_P99`].
    pub metric: &'static str,
    /// Median of the ratios; `None` where there is none, for the reason in `why`.
    pub ratio: Option<f64>,
    /// Its 95 % interval.
    pub interval: Option<Interval>,
    /// One word where there is no ratio.
    pub why: &'static str,
}

/// All slow-downs of a recording: the median's before those of the 99th percentile.
pub fn slowdowns(samples: &[Sample]) -> Vec<Slowdown> {
    let own: Vec<&Sample> = samples.iter().filter(|sample| sample.experiment == "neighbours").collect();
    let mut cells: Vec<(&str, &str, &str)> = Vec::new();
    for sample in &own {
        if let Some((victim, aggressor)) = sample.workload.split_once(BESIDE)
            && !cells.contains(&(victim, aggressor, &sample.target))
        {
            cells.push((victim, aggressor, &sample.target));
        }
    }
    let aggressors = workloads::aggressors::all();
    let place = |name: &str| aggressors.iter().position(|one| one.name == name).unwrap_or(aggressors.len());
    cells.sort_by_key(|(victim, aggressor, target)| {
        (*victim, target_place(target), place(aggressor), *aggressor)
    });
    let of = |workload: &str, target: &str, name: &str| -> BTreeMap<u32, f64> {
        let fits = |sample: &&&Sample| {
            (&*sample.workload, &*sample.target, &*sample.metric) == (workload, target, name)
                && sample.status == Status::Ok
        };
        own.iter().filter(fits).filter_map(|sample| Some((sample.block, sample.value?))).collect()
    };
    let mut found = Vec::new();
    for name in [metric::BESIDE_MEDIAN, metric::BESIDE_P99] {
        for (victim, aggressor, target) in &cells {
            let beside = format!("{victim}{BESIDE}{aggressor}");
            let alone = of(victim, target, name);
            let ratios: Vec<f64> = of(&beside, target, name)
                .into_iter()
                .filter_map(|(block, value)| crate::stats::bootstrap::ratio(value, *alone.get(&block)?))
                .collect();
            let failed = own.iter().any(|sample| {
                (&*sample.workload, &*sample.target) == (&*beside, *target) && sample.status == Status::Failed
            });
            found.push(Slowdown {
                victim: (*victim).into(),
                aggressor: (*aggressor).into(),
                target: (*target).into(),
                metric: name,
                ratio: describe::median(&ratios),
                interval: order::interval_of_sorted(&describe::sorted(&ratios), 0.5),
                why: if failed { "failed" } else { "skipped" },
            });
        }
    }
    found
}

fn target_place(target: &str) -> (usize, String) {
    (TARGETS.iter().position(|known| *known == target).unwrap_or(TARGETS.len()), target.to_owned())
}

/// Names, each once, in the order in which they come.
pub fn distinct<'a>(names: impl Iterator<Item = &'a str>) -> Vec<&'a str> {
    let mut seen = Vec::new();
    for name in names {
        if !seen.contains(&name) {
            seen.push(name);
        }
    }
    seen
}

/// What a metric is called.
pub fn title_of(name: &str) -> &'static str {
    if name == metric::BESIDE_P99 { "99th percentile" } else { "median" }
}

/// One table a victim and metric: targets by aggressor.
pub fn tables(found: &[Slowdown]) -> Vec<Table> {
    let mut tables = Vec::new();
    for victim in distinct(found.iter().map(|one| one.victim.as_str())) {
        for name in [metric::BESIDE_MEDIAN, metric::BESIDE_P99] {
            let own: Vec<&Slowdown> =
                found.iter().filter(|one| one.victim == victim && one.metric == name).collect();
            let aggressors = distinct(own.iter().map(|one| one.aggressor.as_str()));
            let cell = |target: &str, aggressor: &str| {
                let one = own.iter().find(|one| one.target == target && one.aggressor == aggressor);
                match one.map(|one| (one.ratio, one.interval, one.why)) {
                    Some((Some(ratio), Some(interval), _)) => format!(
                        "{} [{}, {}]",
                        format_ratio(ratio),
                        format_ratio(interval.low),
                        format_ratio(interval.high)
                    ),
                    Some((Some(ratio), None, _)) => format_ratio(ratio),
                    Some((None, _, why)) => why.to_owned(),
                    None => "-".to_owned(),
                }
            };
            let line = |target: &&str| {
                let cells = aggressors.iter().map(|aggressor| cell(target, aggressor));
                std::iter::once((*target).to_owned()).chain(cells).collect()
            };
            let targets = distinct(own.iter().map(|one| one.target.as_str()));
            tables.push(Table {
                title: format!("Slow-down of {victim} beside an aggressor: {} [95 %]", title_of(name)),
                head: std::iter::once("target").chain(aggressors.iter().copied()).map(String::from).collect(),
                names: 1,
                rows: targets.iter().map(line).collect(),
            });
        }
    }
    tables
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample(workload: &str, block: u32, value: Option<f64>) -> Sample {
        Sample {
            experiment: "neighbours".into(),
            workload: workload.into(),
            metric: metric::BESIDE_MEDIAN.into(),
            unit: "ns/op".into(),
            value,
            status: if value.is_some() { Status::Ok } else { Status::Skipped },
            ..Sample::ready("native", block, 0.0)
        }
    }

    #[test]
    fn the_slow_down_is_the_median_of_the_ratios_within_blocks() {
        let mut samples = Vec::new();
        for block in 0..7 {
            // The host gets slower from block to block: the ratio stays.
            let drift = f64::from(block + 1);
            samples.push(sample("sqlite", block, Some(10.0 * drift)));
            samples.push(sample("sqlite beside cpu", block, Some(15.0 * drift)));
        }
        samples.push(sample("sqlite beside cpu", 9, Some(1e9)));
        let found = slowdowns(&samples);
        assert_eq!((found[0].ratio, found[0].interval), (Some(1.5), Some(Interval { low: 1.5, high: 1.5 })));
        assert_eq!(found[1].ratio, None, "no 99th percentile was measured");
    }

    #[test]
    fn what_was_refused_is_a_word_in_the_table() {
        let samples = [sample("sqlite", 0, Some(1.0)), sample("sqlite beside fork", 0, None)];
        let tables = tables(&slowdowns(&samples));
        assert_eq!(tables[0].head, ["target", "fork"]);
        assert_eq!(tables[0].rows, [["native", "skipped"]]);
    }
}
