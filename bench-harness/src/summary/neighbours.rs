//! How much slower a victim is beside an aggressor than alone.
//!
//! A block holds the victim alone and beside each aggressor, in each target. The slow-down is the ratio within a block, so that
//! what changes slowly on the host is in both; of the ratios of all blocks the median, with its exact interval.

use std::collections::BTreeMap;

use super::{Cell, SummaryRow, Topic, Verdict, describe, order, outliers, ratio};
use crate::experiment::neighbours::BESIDE;
use crate::record::{NEIGHBOURS, metric};

/// The cells of one topic, by target.
type Targets<'a> = BTreeMap<(usize, &'a str), Cell>;

/// The rows of all victims: for each figure, aggressor and target one. Where there is none, its reason.
pub(super) fn rows_of<'a>(topics: impl Iterator<Item = (Topic<'a>, &'a Targets<'a>)>) -> Vec<SummaryRow> {
    let own: BTreeMap<(&str, &str), &Targets<'_>> = topics
        .filter(|((experiment, ..), _)| *experiment == NEIGHBOURS)
        .map(|((_, workload, name), targets)| ((workload, name), targets))
        .collect();
    let aggressors = workloads::aggressors::all();
    let place = |name: &str| aggressors.iter().position(|one| one.name == name).unwrap_or(aggressors.len());
    // The main figure has a row for every launch, whatever came of it.
    let mut cells: Vec<(&str, &str, &str)> = own
        .keys()
        .filter(|(_, name)| *name == metric::BESIDE_MEDIAN)
        .filter_map(|(workload, _)| {
            let (victim, aggressor) = workload.split_once(BESIDE)?;
            Some((victim, aggressor, *workload))
        })
        .collect();
    cells.sort_by_key(|(victim, aggressor, _)| (*victim, place(aggressor), *aggressor));
    let mut rows = Vec::new();
    for name in [metric::BESIDE_MEDIAN, metric::BESIDE_P99] {
        for (victim, _, workload) in &cells {
            let Some(alone) = own.get(&(*victim, name)) else { continue };
            let Some(main) = own.get(&(*workload, metric::BESIDE_MEDIAN)) else { continue };
            let beside = own.get(&(*workload, name));
            for (target, said) in main.iter() {
                let cells = alone.get(target).zip(beside.and_then(|beside| beside.get(target)));
                rows.push(row_of(workload, name, target.1, cells, said));
            }
        }
    }
    rows
}

fn row_of(
    workload: &str,
    name: &str,
    target: &str,
    cells: Option<(&Cell, &Cell)>,
    said: &Cell,
) -> SummaryRow {
    let ratios: Vec<f64> = cells.map_or_else(Vec::new, |(alone, beside)| {
        let alone = alone.by_block();
        let of = |(block, value): (u32, f64)| ratio(value, *alone.get(&block)?);
        beside.by_block().into_iter().filter_map(of).collect()
    });
    let sorted = describe::sorted(&ratios);
    let skipped = said.skipped && said.failed.is_empty();
    SummaryRow {
        experiment: NEIGHBOURS.to_owned(),
        workload: workload.to_owned(),
        metric: format!("{}{name}", metric::SLOWDOWN_PREFIX),
        unit: "times".to_owned(),
        target: target.to_owned(),
        n: ratios.len(),
        min: sorted.first().copied(),
        median: describe::median(&ratios),
        mean: describe::mean(&ratios),
        stddev: describe::stddev(&ratios),
        max: sorted.last().copied(),
        ci95: order::interval_of_sorted(&sorted, 0.5),
        outliers: outliers::count_outside(&ratios).0,
        verdict: ratios.is_empty().then_some(if skipped { Verdict::Skipped } else { Verdict::Failed }),
        reason: said.reason.clone(),
        ..SummaryRow::default()
    }
}

#[cfg(test)]
mod tests {
    use super::super::summarise;
    use super::*;
    use crate::record::{Sample, Status};
    use crate::stats::Interval;

    fn sample(workload: &str, block: u32, value: Option<f64>) -> Sample {
        Sample {
            experiment: NEIGHBOURS.into(),
            workload: workload.into(),
            metric: metric::BESIDE_MEDIAN.into(),
            unit: "ns/op".into(),
            value,
            status: if value.is_some() { Status::Ok } else { Status::Skipped },
            ..Sample::ready("native", block, 0.0)
        }
    }

    fn slowdowns(samples: &[Sample]) -> Vec<SummaryRow> {
        let own = |row: &SummaryRow| row.metric.starts_with(metric::SLOWDOWN_PREFIX);
        summarise(samples, 1).into_iter().filter(own).collect()
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
        assert_eq!(found.len(), 1, "no 99th percentile was measured: {found:?}");
        assert_eq!((found[0].n, found[0].median, found[0].verdict), (7, Some(1.5), None));
        assert_eq!(found[0].ci95, Some(Interval { low: 1.5, high: 1.5 }));
    }

    #[test]
    fn what_was_refused_or_failed_is_a_row_with_the_reason() {
        let refused = Sample { detail: "refused: no limits".into(), ..sample("sqlite beside fork", 0, None) };
        let failed = Sample {
            detail: "it ended early".into(),
            status: Status::Failed,
            ..sample("sqlite beside cpu", 0, None)
        };
        let found = slowdowns(&[sample("sqlite", 0, Some(1.0)), refused, failed]);
        let said = |row: &SummaryRow| (row.workload.clone(), row.verdict, row.reason.clone());
        assert_eq!(
            found.iter().map(said).collect::<Vec<_>>(),
            [
                ("sqlite beside cpu".into(), Some(Verdict::Failed), Some("it ended early".into())),
                ("sqlite beside fork".into(), Some(Verdict::Skipped), Some("refused: no limits".into())),
            ]
        );
    }
}
