//! What was found, in words: computed, never written by hand.

use super::{distinct, neighbours};
use crate::record::{BASELINE, DENSITY, HARNESS, LADDER, NEIGHBOURS, metric};
use crate::stats::Interval;
use crate::summary::{SAME_WITHIN, SummaryRow, Verdict};
use crate::units::{format_percent, format_ratio, format_value};

/// One sentence for an experiment; `None` where it has nothing to tell.
pub fn of_experiment(rows: &[SummaryRow], experiment: &str) -> Option<String> {
    clause(rows, experiment).map(|clause| {
        let mut letters = clause.chars();
        letters
            .next()
            .map(|first| format!("{}{}.", first.to_uppercase(), letters.as_str()))
            .unwrap_or_default()
    })
}

/// One sentence for the whole recording.
pub fn of_recording(rows: &[SummaryRow]) -> String {
    let clauses: Vec<_> = ["startup", "memory", "overhead", LADDER, DENSITY, "surface", NEIGHBOURS]
        .iter()
        .filter_map(|name| clause(rows, name))
        .collect();
    if clauses.is_empty() {
        return "Found: nothing, since no target gave a value.".to_owned();
    }
    format!("Found: {}.", clauses.join("; "))
}

fn clause(rows: &[SummaryRow], experiment: &str) -> Option<String> {
    let own: Vec<_> = rows.iter().filter(|row| row.experiment == experiment).collect();
    match experiment {
        "startup" => medians(&own, metric::READY, "is ready after"),
        "memory" => medians(&own, metric::PSS, "idle costs (PSS)"),
        "overhead" => counts(&own),
        LADDER => dearest(&own),
        DENSITY => full(&own),
        "surface" => reach(&own),
        NEIGHBOURS => disturbed(rows),
        _ => None,
    }
}

/// `noop is ready after 0.45 ms in native, 1.21 ms in container (2.69 times, 2.61 to 2.75) and ...`
fn medians(rows: &[&SummaryRow], name: &str, verb: &str) -> Option<String> {
    let first = rows.iter().find(|row| row.metric == name && row.median.is_some())?;
    let own = rows.iter().filter(|row| row.metric == name && row.workload == first.workload);
    let parts: Vec<_> = own
        .filter_map(|row| {
            let median = format_value(row.median?, &row.unit);
            let ratio = match (row.ratio, row.ratio_ci95) {
                (Some(ratio), Some(interval)) => format!(
                    " ({} times native, {} to {})",
                    format_ratio(ratio),
                    format_ratio(interval.low),
                    format_ratio(interval.high)
                ),
                (Some(ratio), None) => format!(" ({} times native)", format_ratio(ratio)),
                _ => String::new(),
            };
            Some(format!("{median} in {}{ratio}", row.target))
        })
        .collect();
    Some(format!("{} {verb} {}", first.workload, list(&parts)))
}

/// `noop makes 17 different system calls of the host in native, 34 in container and 17 in microvm`.
fn reach(rows: &[&SummaryRow]) -> Option<String> {
    let counted = |row: &&&SummaryRow| row.metric == metric::SYSTEM_CALLS && row.median.is_some();
    let first = rows.iter().find(counted)?;
    let own = rows.iter().filter(counted).filter(|row| row.workload == first.workload);
    let parts: Vec<_> = own.filter_map(|row| Some(format!("{:.0} in {}", row.median?, row.target))).collect();
    Some(format!("of different system calls of the host {} makes {}", first.workload, list(&parts)))
}

/// `at the same work container is within 3 % of native in 7 of 8 and differs in syscall (1.31 times)`.
fn counts(rows: &[&SummaryRow]) -> Option<String> {
    let own: Vec<_> =
        rows.iter().filter(|row| row.metric == metric::TIME_PER_OP && row.target != BASELINE).collect();
    let compared = own.iter().filter(|row| row.ratio.is_some());
    let targets = distinct(compared.map(|row| row.target.as_str()));
    let parts: Vec<_> = targets.iter().map(|target| count_of(&own, target)).collect();
    (!parts.is_empty()).then(|| format!("at the same work {}", parts.join(", ")))
}

/// `each of many idle instances takes 257 KiB of the host in native (full at about 12000 by memory alone, an estimate), ...`.
fn full(rows: &[&SummaryRow]) -> Option<String> {
    let parts: Vec<_> = rows
        .iter()
        .filter(|row| row.metric == metric::MARGINAL)
        .filter_map(|row| {
            let each = format_value(row.median?, &row.unit);
            let full =
                rows.iter().find(|other| other.metric == metric::FULL_AT && other.target == row.target);
            let full = full.and_then(|row| row.median).map_or_else(String::new, |full| {
                format!(" (full at about {full:.0}, an estimate by memory alone)")
            });
            Some(format!("{each} in {}{full}", row.target))
        })
        .collect();
    (!parts.is_empty()).then(|| format!("each of many idle instances takes of the host {}", list(&parts)))
}

/// `by its medians sqlite is slowed down most in native by cpu (1.98 times) and in microvm by nothing that shows`.
fn disturbed(rows: &[SummaryRow]) -> Option<String> {
    let panels = neighbours::panels(rows);
    // The medians of the first victim.
    let panel = panels.first()?;
    let worst = |target: &&str| {
        let own: Vec<_> = panel
            .aggressors
            .iter()
            .filter_map(|aggressor| Some((*aggressor, panel.of(target, aggressor)?)))
            .filter_map(|(aggressor, row)| Some((aggressor, row.median?, row.ci95)))
            .collect();
        let shows = |times: f64, interval: Option<Interval>| interval.map_or(times, |found| found.low) > 1.0;
        let shown = own.iter().filter(|(_, times, interval)| shows(*times, *interval));
        match shown.max_by(|left, right| left.1.total_cmp(&right.1)) {
            Some((aggressor, times, interval)) => {
                let unsure = if interval.is_none() { ", of too few blocks to be sure" } else { "" };
                Some(format!("in {target} by {aggressor} ({} times{unsure})", format_ratio(*times)))
            }
            None if own.is_empty() => None,
            None => Some(format!("in {target} by nothing that shows")),
        }
    };
    let parts: Vec<_> = panel.targets.iter().filter_map(worst).collect();
    (!parts.is_empty())
        .then(|| format!("by its medians {} is slowed down most {}", panel.victim, list(&parts)))
}

/// `of a container's layers mount costs most before the first byte, 1.20 ms, then net, 0.30 ms`.
fn dearest(rows: &[&SummaryRow]) -> Option<String> {
    let ready = format!("{}{}", metric::LAYER_PREFIX, metric::READY);
    let mut sure: Vec<_> = rows
        .iter()
        .filter(|row| row.metric == ready && row.ci95.is_some_and(|interval| interval.low > 0.0))
        .filter_map(|row| Some((row.target.strip_prefix("container:+")?, row.median?)))
        .collect();
    sure.sort_by(|left, right| right.1.total_cmp(&left.1));
    let parts: Vec<_> =
        sure.iter().take(3).map(|(layer, cost)| format!("{layer} {}", format_value(*cost, "ns"))).collect();
    (!parts.is_empty())
        .then(|| format!("of a container's layers these cost most at the start: {}", list(&parts)))
}

fn count_of(rows: &[&&SummaryRow], target: &str) -> String {
    let own: Vec<_> = rows.iter().filter(|row| row.target == target && row.ratio.is_some()).collect();
    let of = |verdict| own.iter().filter(|row| row.verdict == Some(verdict)).count();
    let mut parts = vec![format!(
        "{target} is within {} of native in {} of {}",
        format_percent(SAME_WITHIN).replace(".00", ""),
        of(Verdict::Same),
        own.len()
    )];
    let beyond: Vec<_> = own
        .iter()
        .filter(|row| matches!(row.verdict, Some(Verdict::Slower | Verdict::Faster)))
        .filter_map(|row| Some(format!("{} ({} times)", row.workload, format_ratio(row.ratio?))))
        .collect();
    if !beyond.is_empty() {
        parts.push(format!("differs in {}", list(&beyond)));
    }
    if of(Verdict::Unclear) > 0 {
        parts.push(format!("is unclear in {}", of(Verdict::Unclear)));
    }
    list(&parts)
}

/// `a`, `a and b`, `a, b and c`.
fn list(parts: &[String]) -> String {
    match parts.split_last() {
        None => String::new(),
        Some((only, [])) => only.clone(),
        Some((last, before)) => format!("{} and {last}", before.join(", ")),
    }
}

/// What the harness itself spends inside a measured window: in time, and as part of the smallest measured median.
#[derive(Debug, Clone, PartialEq)]
pub struct HarnessCost {
    /// Median of the observed cost.
    pub cost_ns: f64,
    /// The smallest median that it is part of.
    pub smallest_ns: f64,
    /// Where that was seen: metric, workload and target.
    pub smallest: String,
}

impl HarnessCost {
    /// The cost as part of the smallest median.
    pub fn share(&self) -> f64 {
        self.cost_ns / self.smallest_ns
    }
}

/// The harness's own cost; `None` where it was not measured or there is nothing to compare it with.
pub fn harness_cost(rows: &[SummaryRow]) -> Option<HarnessCost> {
    let cost =
        rows.iter().find(|row| row.experiment == HARNESS && row.metric == metric::WINDOW_COST)?.median?;
    let windows = [metric::READY, metric::EXIT, metric::HOST_WALL];
    let measured =
        rows.iter().filter(|row| row.experiment != HARNESS && windows.contains(&row.metric.as_str()));
    let smallest = measured
        .filter_map(|row| Some((row.median.filter(|median| *median > 0.0)?, row)))
        .min_by(|left, right| left.0.total_cmp(&right.0));
    let (smallest_ns, row) = smallest?;
    Some(HarnessCost {
        cost_ns: cost,
        smallest_ns,
        smallest: format!("{} of {} in {}", row.metric, row.workload, row.target),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_worst_neighbour_is_named_where_it_shows_and_called_unsure_where_blocks_are_few() {
        let row = |aggressor: &str, target: &str, median: f64, ends: Option<(f64, f64)>| SummaryRow {
            experiment: NEIGHBOURS.into(),
            workload: format!("sqlite beside {aggressor}"),
            metric: format!("{}{}", metric::SLOWDOWN_PREFIX, metric::BESIDE_MEDIAN),
            target: target.into(),
            median: Some(median),
            ci95: ends.map(|(low, high)| Interval { low, high }),
            ..SummaryRow::default()
        };
        let rows = [
            row("cpu", "native", 1.5, Some((1.4, 1.6))),
            row("memory", "native", 1.9, Some((0.9, 2.6))),
            row("cpu", "container", 1.01, Some((0.99, 1.02))),
            row("cpu", "microvm", 2.0, None),
        ];
        assert_eq!(
            of_recording(&rows),
            "Found: by its medians sqlite is slowed down most in native by cpu (1.50 times), in container by \
             nothing that shows and in microvm by cpu (2.00 times, of too few blocks to be sure)."
        );
    }
}
