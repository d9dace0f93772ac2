//! Tables as plain text cells, which Markdown and terminal lay out each in its own way.

use super::distinct;
use crate::record::{BASELINE, DENSITY, LADDER, NEIGHBOURS, metric};
use crate::stats::Interval;
use crate::summary::{SummaryRow, Verdict};
use crate::units::{format_p, format_ratio, format_value, scale_for, significant};

/// What stands where there is no figure.
const ABSENT: &str = "-";

/// A table: columns of names, then columns of figures.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Table {
    /// What it shows.
    pub title: String,
    /// Names of the columns.
    pub head: Vec<String>,
    /// How many of them hold names, which stand at the left.
    pub names: usize,
    /// As many cells each as there are columns.
    pub rows: Vec<Vec<String>>,
}

/// The main tables of a recording: few columns, one table an experiment and workload.
pub fn main_tables(rows: &[SummaryRow]) -> Vec<Table> {
    let mut tables = Vec::new();
    for experiment in experiments(rows) {
        tables.extend(of_experiment(rows, experiment));
    }
    tables
}

/// The main tables of one experiment.
pub fn of_experiment(rows: &[SummaryRow], experiment: &str) -> Vec<Table> {
    match experiment {
        "startup" => by_workload(rows, experiment)
            .into_iter()
            .flat_map(|(workload, own)| {
                let together = at_once(workload, &own);
                std::iter::once(startup((workload, own))).chain(together)
            })
            .collect(),
        "memory" => by_workload(rows, experiment)
            .into_iter()
            .flat_map(|(workload, own)| {
                let machines = machines(workload, &own);
                std::iter::once(memory((workload, own))).chain(machines)
            })
            .collect(),
        "overhead" => overhead(rows).into_iter().collect(),
        LADDER => super::ladder::tables(rows),
        DENSITY => by_workload(rows, experiment).into_iter().flat_map(density).collect(),
        "surface" => super::surface::tables(rows),
        NEIGHBOURS => super::neighbours::tables(rows),
        _ => Vec::new(),
    }
}

/// Names of the experiments, in the order of the rows.
pub fn experiments(rows: &[SummaryRow]) -> Vec<&str> {
    distinct(rows.iter().map(|row| row.experiment.as_str()))
}

fn by_workload<'a>(rows: &'a [SummaryRow], experiment: &str) -> Vec<(&'a str, Vec<&'a SummaryRow>)> {
    let own: Vec<_> = rows.iter().filter(|row| row.experiment == experiment).collect();
    let workloads = distinct(own.iter().map(|row| row.workload.as_str()));
    let of = |workload: &str| own.iter().copied().filter(|row| row.workload == workload).collect();
    workloads.into_iter().map(|workload| (workload, of(workload))).collect()
}

fn find<'a>(rows: &[&'a SummaryRow], target: &str, name: &str) -> Option<&'a SummaryRow> {
    rows.iter().copied().find(|row| row.target == target && row.metric == name)
}

pub(super) fn head(names: &[&str]) -> Vec<String> {
    names.iter().map(|name| (*name).to_owned()).collect()
}

fn startup((workload, rows): (&str, Vec<&SummaryRow>)) -> Table {
    let targets = distinct(rows.iter().map(|row| row.target.as_str()));
    let line = |target: &&str| {
        let ready = find(&rows, target, metric::READY);
        let median = |name| find(&rows, target, name).map_or_else(|| ABSENT.into(), median);
        vec![
            (*target).to_owned(),
            ready.map_or_else(|| ABSENT.into(), median_and_interval),
            ready.map_or_else(|| ABSENT.into(), |row| value(row.p95, row)),
            median(metric::EXIT),
            median(metric::TEARDOWN),
            ready.map_or_else(|| ABSENT.into(), ratio_and_interval),
            ready.map_or_else(|| ABSENT.into(), verdict),
        ]
    };
    Table {
        title: format!("Start-up of {workload}"),
        head: head(&["target", "ready [95 %]", "p95", "exit", "teardown", "ready over native", "verdict"]),
        names: 1,
        rows: targets.iter().map(line).collect(),
    }
}

/// Many at once beside one alone; none where that was not measured.
fn at_once(workload: &str, rows: &[&SummaryRow]) -> Option<Table> {
    let (instances, _) = rows.iter().find_map(|row| metric::of_at_once(&row.metric))?;
    let find = |target: &str, name: &str| {
        rows.iter()
            .copied()
            .find(|row| row.target == target && metric::of_at_once(&row.metric) == Some((instances, name)))
    };
    let targets = distinct(
        rows.iter().filter(|row| metric::of_at_once(&row.metric).is_some()).map(|row| row.target.as_str()),
    );
    let line = |target: &&str| {
        let shown = |name| find(target, name).map_or_else(|| ABSENT.into(), median_and_interval);
        let alone = rows.iter().find(|row| row.target == *target && row.metric == metric::EXIT);
        let part =
            find(target, metric::SHARE).and_then(|row| row.median).zip(alone.and_then(|row| row.median));
        vec![
            (*target).to_owned(),
            shown(metric::READY),
            find(target, metric::READY_P99).map_or_else(|| ABSENT.into(), median),
            find(target, metric::EXIT).map_or_else(|| ABSENT.into(), median),
            shown(metric::RATE),
            part.filter(|(_, alone)| *alone > 0.0)
                .map_or_else(|| ABSENT.into(), |(share, alone)| format_ratio(share / alone)),
        ]
    };
    Some(Table {
        title: format!("{instances} of {workload} started at once"),
        head: head(&[
            "target",
            "ready [95 %]",
            "ready p99",
            "exit",
            "rate [95 %]",
            "CPU share over one alone",
        ]),
        names: 1,
        rows: targets.iter().map(line).collect(),
    })
}

fn memory((workload, rows): (&str, Vec<&SummaryRow>)) -> Table {
    let targets = distinct(rows.iter().map(|row| row.target.as_str()));
    let line = |target: &&str| {
        let median = |name| find(&rows, target, name).map_or_else(|| ABSENT.into(), median);
        let marginal = find(&rows, target, metric::MARGINAL);
        let pss = find(&rows, target, metric::PSS);
        vec![
            (*target).to_owned(),
            median(metric::PSS),
            median(metric::USS),
            median(metric::RSS),
            median(metric::CGROUP),
            marginal.map_or_else(|| ABSENT.into(), median_and_interval),
            pss.map_or_else(|| ABSENT.into(), ratio_or_verdict),
        ]
    };
    Table {
        title: format!("Memory of one idle instance ({workload})"),
        head: head(&["target", "PSS", "USS", "RSS", "cgroup", "marginal [95 %]", "PSS over native"]),
        names: 1,
        rows: targets.iter().map(line).collect(),
    }
}

/// A virtual machine's memory in its parts; none where there was no such machine.
fn machines(workload: &str, rows: &[&SummaryRow]) -> Option<Table> {
    let measured = |name| rows.iter().filter(move |row| row.metric == name && row.median.is_some());
    let targets =
        distinct(measured(metric::GUEST_RAM).chain(measured(metric::MONITOR)).map(|row| row.target.as_str()));
    let line = |target: &&str| {
        let shown = |name| find(rows, target, name).map_or_else(|| ABSENT.into(), median_and_interval);
        vec![(*target).to_owned(), shown(metric::GUEST_RAM), shown(metric::MONITOR)]
    };
    (!targets.is_empty()).then(|| Table {
        title: format!("Of that in a virtual machine ({workload})"),
        head: head(&["target", "guest RAM touched at ready [95 %]", "monitor beyond guest RAM, PSS [95 %]"]),
        names: 1,
        rows: targets.iter().map(line).collect(),
    })
}

/// What one more of many idle instances costs by each book, and what two share.
fn density((workload, rows): (&str, Vec<&SummaryRow>)) -> Vec<Table> {
    let targets = distinct(rows.iter().map(|row| row.target.as_str()));
    let table = |title: String, columns: &[(&str, &str)], with_interval: &[&str]| {
        let shown: Vec<_> = columns
            .iter()
            .filter(|(_, name)| rows.iter().any(|row| row.metric == *name && row.median.is_some()))
            .collect();
        let line = |target: &&str| {
            let cell = |(_, name): &&(&str, &str)| match find(&rows, target, name) {
                Some(row) if with_interval.contains(name) => median_and_interval(row),
                // Counted by the head of the column; the word in each cell would take the room of the intervals.
                Some(row) => median(row).trim_end_matches(" instances").to_owned(),
                None => ABSENT.into(),
            };
            std::iter::once((*target).to_owned()).chain(shown.iter().map(cell)).collect()
        };
        let names = std::iter::once("target").chain(shown.iter().map(|(title, _)| *title));
        (!shown.is_empty()).then(|| Table {
            title,
            head: head(&names.collect::<Vec<_>>()),
            names: 1,
            rows: targets.iter().map(line).collect(),
        })
    };
    let slopes = table(
        format!("Each idle instance ({workload}), as a slope over many"),
        &[
            ("instances", metric::REACHED),
            ("host [95 %]", metric::MARGINAL),
            ("kernel", metric::KERNEL),
            ("slab", metric::SLAB),
            ("page tables", metric::PAGE_TABLES),
            ("PSS", metric::PSS_EACH),
            ("cgroup", metric::CGROUP_EACH),
            ("full at (estimate)", metric::FULL_AT),
        ],
        &[metric::MARGINAL],
    );
    let shared = table(
        format!("At the start of one, and what two share ({workload})"),
        &[
            ("peak RSS", metric::PEAK_RSS),
            ("peak of cgroup", metric::PEAK_CGROUP),
            ("two share", metric::SHARED),
            ("of that page cache", metric::SHARED_CACHE),
            ("merged by KSM", metric::SHARED_KSM),
        ],
        &[],
    );
    slopes.into_iter().chain(shared).collect()
}

fn overhead(rows: &[SummaryRow]) -> Option<Table> {
    let own: Vec<_> = rows.iter().filter(|row| row.experiment == "overhead").collect();
    let targets = distinct(own.iter().map(|row| row.target.as_str()));
    // A target that took no part in anything is named below the tables; here it would only take room.
    let took_part =
        |target: &&str| own.iter().any(|row| row.target == *target && row.verdict != Some(Verdict::Skipped));
    let others: Vec<_> =
        targets.into_iter().filter(|target| *target != BASELINE && took_part(target)).collect();
    let line = |(workload, rows): (&str, Vec<&SummaryRow>)| {
        let name = if rows.iter().any(|row| row.metric == metric::TIME_PER_OP) {
            metric::TIME_PER_OP
        } else {
            metric::HOST_WALL
        };
        let native = find(&rows, BASELINE, name).map_or_else(|| ABSENT.into(), median);
        let ratio = |target: &&str| {
            find(&rows, target, name).map_or_else(
                || ABSENT.into(),
                |row| match row.ratio {
                    // With more targets there is no room for the word, and it follows from the interval.
                    Some(_) if others.len() > 2 => ratio_and_interval(row),
                    Some(_) => format!("{} {}", ratio_and_interval(row), verdict(row)),
                    None => verdict(row),
                },
            )
        };
        [workload.to_owned(), native].into_iter().chain(others.iter().map(ratio)).collect()
    };
    let rows: Vec<Vec<String>> = by_workload(rows, "overhead").into_iter().map(line).collect();
    let names = ["workload".to_owned(), "native".to_owned()];
    (!rows.is_empty()).then(|| Table {
        title: "Time of the same work, over native [95 %]".to_owned(),
        names: 1,
        head: names.into_iter().chain(others.iter().map(|target| (*target).to_owned())).collect(),
        rows,
    })
}

/// Every figure of an experiment, one row a metric and target.
pub fn details(rows: &[SummaryRow], experiment: &str) -> Table {
    let line = |row: &SummaryRow| {
        vec![
            row.workload.clone(),
            row.metric.clone(),
            row.target.clone(),
            row.n.to_string(),
            row.failed.to_string(),
            value(row.min, row),
            median_and_interval(row),
            value(row.mean, row),
            value(row.stddev, row),
            figure_and_interval(row.p95, row.p95_ci95, row),
            figure_and_interval(row.p99, row.p99_ci95, row),
            value(row.max, row),
            row.outliers.to_string(),
            ratio_and_interval(row),
            figure_and_interval(row.shift, row.shift_ci95, row),
            row.p_holm.map_or_else(|| ABSENT.to_owned(), format_p),
            verdict(row),
        ]
    };
    Table {
        title: "All figures".to_owned(),
        head: head(&[
            "workload",
            "metric",
            "target",
            "n",
            "failed",
            "min",
            "median [95 %]",
            "mean",
            "sd",
            "p95 [95 %]",
            "p99 [95 %]",
            "max",
            "out",
            "over native [95 %]",
            "shift [95 %]",
            "p",
            "verdict",
        ]),
        names: 3,
        rows: rows.iter().filter(|row| row.experiment == experiment).map(line).collect(),
    }
}

pub(super) fn value(value: Option<f64>, row: &SummaryRow) -> String {
    value.map_or_else(|| ABSENT.to_owned(), |value| format_value(value, &row.unit))
}

fn verdict(row: &SummaryRow) -> String {
    row.verdict.map_or_else(|| ABSENT.to_owned(), |verdict| verdict.word().to_owned())
}

fn median(row: &SummaryRow) -> String {
    match row.verdict {
        Some(verdict @ (Verdict::Skipped | Verdict::Failed)) => verdict.word().to_owned(),
        _ => value(row.median, row),
    }
}

fn median_and_interval(row: &SummaryRow) -> String {
    match (row.median, row.ci95) {
        (Some(_), Some(_)) => figure_and_interval(row.median, row.ci95, row),
        _ => median(row),
    }
}

/// `1.23 [1.20, 1.26] ms`: the unit once, so that it fits a table.
fn figure_and_interval(figure: Option<f64>, interval: Option<Interval>, row: &SummaryRow) -> String {
    let (Some(centre), Some(Interval { low, high })) = (figure, interval) else { return value(figure, row) };
    let scale = scale_for(centre, &row.unit);
    let number = |value: f64| significant(value / scale.divisor);
    format!("{} [{}, {}] {}", number(centre), number(low), number(high), scale.label).trim_end().to_owned()
}

/// A difference of two targets: with its interval or without, and where that holds nought the bound that it gives.
pub(super) fn difference(row: &SummaryRow, with_interval: bool) -> String {
    match row.ci95 {
        Some(interval) if interval.holds(0.0) => {
            format!("<{}", format_value(super::ladder::reach(interval), &row.unit))
        }
        Some(interval) if with_interval => figure_and_interval(row.median, Some(interval), row),
        _ => value(row.median, row),
    }
}

fn ratio_and_interval(row: &SummaryRow) -> String {
    match row.ratio {
        Some(_) => figure(row, row.ratio, row.ratio_ci95),
        None => ABSENT.to_owned(),
    }
}

/// A ratio of a row with its interval, `2.45 [2.40, 2.51]`, or the word for its absence.
pub(super) fn figure(row: &SummaryRow, ratio: Option<f64>, interval: Option<Interval>) -> String {
    match (ratio, interval) {
        (Some(ratio), Some(Interval { low, high })) => {
            format!("{} [{}, {}]", format_ratio(ratio), format_ratio(low), format_ratio(high))
        }
        (Some(ratio), None) => format_ratio(ratio),
        (None, _) => verdict(row),
    }
}

fn ratio_or_verdict(row: &SummaryRow) -> String {
    figure(row, row.ratio, row.ratio_ci95)
}
