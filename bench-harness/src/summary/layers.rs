//! What one layer costs: the difference of two rungs of a ladder, block by block.
//!
//! The rungs of a block are launched one after another, so what slows the host down for a while is in both of them and leaves
//! their difference. Figure, interval and test are those of [`crate::stats::paired`].

use std::collections::BTreeMap;

use super::{Cell, SummaryRow, Topic, describe, outliers, ratio};
use crate::record::metric;
use crate::stats::Interval;
use crate::stats::paired::{signed_rank_p, walsh_shift};
use crate::target::rung::{Compared, compared};

/// What is looked at of each layer; other metrics are shown of the rungs alone.
const METRICS: [&str; 9] = [
    metric::READY,
    metric::EXIT,
    metric::TEARDOWN,
    metric::DEFERRED,
    metric::PSS,
    metric::CGROUP,
    metric::MARGINAL,
    metric::KERNEL,
    metric::TIME_PER_OP,
];

/// The rows of the layers of one metric: one for each rung that has another one to be compared with.
pub(super) fn rows_of(topic: Topic<'_>, targets: &BTreeMap<(usize, &str), Cell>) -> Vec<SummaryRow> {
    if !METRICS.contains(&topic.2) {
        return Vec::new();
    }
    let cell = |name: &str| targets.iter().find(|((_, target), _)| *target == name).map(|(_, cell)| cell);
    let row = |((_, target), own): (&(usize, &str), &Cell)| {
        let (other, sign) = match compared(target)? {
            Compared::Alone => return None,
            Compared::Over(other) => (other, 1.0),
            Compared::Without(other) => (other, -1.0),
        };
        row_of(topic, target, own, (other, cell(other)?), sign)
    };
    targets.iter().filter_map(row).collect()
}

fn row_of(
    (experiment, workload, name): Topic<'_>,
    target: &str,
    own: &Cell,
    (other, base): (&str, &Cell),
    sign: f64,
) -> Option<SummaryRow> {
    let (values, bases) = (own.by_block(), base.by_block());
    let pairs = values.iter().filter_map(|(block, value)| Some((*value, *bases.get(block)?)));
    let differences: Vec<f64> = pairs.map(|(value, base)| sign * (value - base)).collect();
    let shift = walsh_shift(&differences)?;
    let sorted = describe::sorted(&differences);
    // Of what: of the rung without the layer.
    let without =
        if sign > 0.0 { describe::median(&base.launches()) } else { describe::median(&own.launches()) };
    let part = |cost: f64| without.and_then(|without| ratio(without + cost, without));
    let both = |interval: Interval| Some(Interval { low: part(interval.low)?, high: part(interval.high)? });
    Some(SummaryRow {
        experiment: experiment.to_owned(),
        workload: workload.to_owned(),
        metric: format!("{}{name}", metric::LAYER_PREFIX),
        unit: own.unit.clone(),
        target: target.to_owned(),
        n: differences.len(),
        min: sorted.first().copied(),
        median: Some(shift.by),
        mean: describe::mean(&differences),
        stddev: describe::stddev(&differences),
        max: sorted.last().copied(),
        ci95: shift.interval,
        baseline: Some(other.to_owned()),
        ratio: part(shift.by),
        ratio_ci95: shift.interval.and_then(both),
        shift: Some(shift.by),
        shift_ci95: shift.interval,
        p_value: signed_rank_p(&differences),
        outliers: outliers::count_outside(&differences).0,
        ..SummaryRow::default()
    })
}

#[cfg(test)]
mod tests {
    use super::super::summarise;
    use crate::record::Sample;
    use crate::summary::Verdict;

    fn launch(target: &str, block: u32, value: f64) -> Sample {
        Sample { experiment: "ladder".into(), ..Sample::ready(target, block, value) }
    }

    #[test]
    fn the_cost_of_a_layer_is_its_difference_within_the_blocks_however_these_drift() {
        let samples: Vec<Sample> = (0..20)
            .flat_map(|block| {
                let drift = 1e6 * f64::from(block * block % 11);
                let noise = f64::from(block % 3);
                [
                    launch("container:+ipc+uts", block, 1e5 + drift),
                    launch("container:+net", block, 1.5e5 + drift + noise),
                    launch("container:+limits", block, 2e5 + drift),
                    launch("container:-net", block, 1.6e5 + drift - noise),
                ]
            })
            .collect();
        let rows = summarise(&samples, 1);
        let cost = |target: &str| {
            let row = rows.iter().find(|row| row.metric == "layer.ready_ns" && row.target == target);
            row.unwrap_or_else(|| panic!("{target} has a cost"))
        };
        let added = cost("container:+net");
        assert_eq!((added.n, added.baseline.as_deref()), (20, Some("container:+ipc+uts")));
        assert!(added.ci95.is_some_and(|interval| interval.within(50_000.0, 50_002.0)), "{added:?}");
        let left_out = cost("container:-net");
        assert_eq!(left_out.baseline.as_deref(), Some("container:+limits"));
        assert!(left_out.median.is_some_and(|cost| (cost - 40_001.0).abs() <= 1.0), "{left_out:?}");
        // The layer below the first one was not measured.
        assert!(!rows.iter().any(|row| row.metric == "layer.ready_ns" && row.target == "container:+ipc+uts"));
    }

    #[test]
    fn a_layer_that_costs_nothing_is_called_the_same() {
        let samples: Vec<Sample> = (0..20)
            .flat_map(|block| {
                let noise = f64::from(block * 7 % 5) - 2.0;
                [launch("container:+limits", block, 1e5), launch("container:-uts", block, 1e5 + noise)]
            })
            .collect();
        let row = summarise(&samples, 1).into_iter().find(|row| row.metric == "layer.ready_ns");
        assert_eq!(row.and_then(|row| row.verdict), Some(Verdict::Same));
    }
}
