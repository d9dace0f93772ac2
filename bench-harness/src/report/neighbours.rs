//! The experiment neighbours: how much slower a victim is beside an aggressor than alone, as tables and for the chart.

use super::table::{Table, figure};
use super::{distinct, targets_in_order};
use crate::experiment::neighbours::BESIDE;
use crate::record::{NEIGHBOURS, metric};
use crate::summary::SummaryRow;

/// What belongs to these figures.
pub const REMARK: &str = "1 is as fast as alone in the same target; the absolute times are below. Every aggressor kept to its limits, \
    which the run read back (`aggressor_*`): one that went beyond would be a failed row. On a host whose CPUs are fewer than the \
    tasks that want them, most of a slow-down is the CPU's share; it says as much of the scheduler as of the target.";

/// A row of a slow-down, and whose it is.
#[derive(Debug, Clone, Copy)]
struct Slowdown<'a> {
    victim: &'a str,
    aggressor: &'a str,
    /// Of what: [`metric::BESIDE_MEDIAN`] or [`metric::BESIDE_P99`].
    metric: &'a str,
    row: &'a SummaryRow,
}

impl<'a> Slowdown<'a> {
    fn of(row: &'a SummaryRow) -> Option<Self> {
        let metric = row.metric.strip_prefix(metric::SLOWDOWN_PREFIX);
        let metric = metric.filter(|_| row.experiment == NEIGHBOURS)?;
        let (victim, aggressor) = row.workload.split_once(BESIDE)?;
        Some(Self { victim, aggressor, metric, row })
    }
}

/// The slow-downs of one victim in one figure.
#[derive(Debug)]
pub struct Panel<'a> {
    /// What was disturbed.
    pub victim: &'a str,
    /// What the figure is called.
    pub figure: &'static str,
    /// By what it was disturbed.
    pub aggressors: Vec<&'a str>,
    /// Where, from the barest to the fullest.
    pub targets: Vec<&'a str>,
    own: Vec<Slowdown<'a>>,
}

impl<'a> Panel<'a> {
    /// The row of a target and an aggressor.
    #[must_use]
    pub fn of(&self, target: &str, aggressor: &str) -> Option<&'a SummaryRow> {
        let fits = |one: &&Slowdown<'_>| one.aggressor == aggressor && one.row.target == target;
        self.own.iter().find(fits).map(|one| one.row)
    }
}

/// All slow-downs of a recording: of each victim those of the median before those of the 99th percentile.
#[must_use]
pub fn panels(rows: &[SummaryRow]) -> Vec<Panel<'_>> {
    let all: Vec<Slowdown<'_>> = rows.iter().filter_map(Slowdown::of).collect();
    let mut panels = Vec::new();
    for victim in distinct(all.iter().map(|one| one.victim)) {
        for (name, figure) in [(metric::BESIDE_MEDIAN, "median"), (metric::BESIDE_P99, "99th percentile")] {
            let own: Vec<_> =
                all.iter().filter(|one| one.victim == victim && one.metric == name).copied().collect();
            let aggressors = distinct(own.iter().map(|one| one.aggressor));
            let targets = targets_in_order(own.iter().map(|one| one.row.target.as_str()));
            if !own.is_empty() {
                panels.push(Panel { victim, figure, aggressors, targets, own });
            }
        }
    }
    panels
}

/// One table a victim and figure: aggressors by target.
#[must_use]
pub fn tables(rows: &[SummaryRow]) -> Vec<Table> {
    let table = |panel: &Panel<'_>| {
        let line = |aggressor: &&str| {
            let cell = |target: &&str| {
                let row = panel.of(target, aggressor);
                row.map_or_else(|| "-".to_owned(), |row| figure(row, row.median, row.ci95))
            };
            std::iter::once((*aggressor).to_owned()).chain(panel.targets.iter().map(cell)).collect()
        };
        Table {
            title: format!("Slow-down of {} beside an aggressor: {} [95 %]", panel.victim, panel.figure),
            head: std::iter::once("aggressor")
                .chain(panel.targets.iter().copied())
                .map(String::from)
                .collect(),
            names: 1,
            rows: panel.aggressors.iter().map(line).collect(),
        }
    };
    panels(rows).iter().map(table).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stats::Interval;
    use crate::summary::Verdict;

    #[test]
    fn a_table_has_a_word_where_there_is_no_figure_and_the_targets_in_their_order() {
        let row = |aggressor: &str, target: &str, median: Option<f64>| SummaryRow {
            experiment: NEIGHBOURS.into(),
            workload: format!("sqlite{BESIDE}{aggressor}"),
            metric: format!("{}{}", metric::SLOWDOWN_PREFIX, metric::BESIDE_MEDIAN),
            target: target.into(),
            median,
            ci95: median.map(|middle| Interval { low: middle - 0.5, high: middle + 0.5 }),
            verdict: median.is_none().then_some(Verdict::Skipped),
            ..SummaryRow::default()
        };
        let rows =
            [row("cpu", "microvm", Some(2.0)), row("cpu", "native", Some(1.5)), row("fork", "microvm", None)];
        let tables = tables(&rows);
        assert_eq!(tables.len(), 1);
        assert_eq!(tables[0].head, ["aggressor", "native", "microvm"]);
        assert_eq!(tables[0].rows[0], ["cpu", "1.50 [1.000, 2.00]", "2.00 [1.50, 2.50]"]);
        assert_eq!(tables[0].rows[1], ["fork", "-", "skipped"]);
    }
}
