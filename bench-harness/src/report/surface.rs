//! The section of the experiment surface: what is more than one figure a launch.

use std::collections::{BTreeMap, BTreeSet};

use super::table::Table;
use super::{distinct, targets_in_order};
use crate::record::{BASELINE, Sample, Status, metric};
use crate::summary::SummaryRow;
use crate::units::plural;

/// What nobody who reads these tables may forget.
pub const CAVEAT: &str = "**Fewer is not the same as safer.** These figures count what was reached, not what could be: an \
    attacker makes other calls than this workload. One flaw behind one call is enough, and a call such as `ioctl` on \
    `/dev/kvm` has as much code behind it as many others together. That a program can do something in a virtual machine to \
    a kernel of its own says nothing of the host. What a filter forbids, no count shows.";

/// The tables that follow from the summary: calls and functions, a row a workload and a column a target.
pub fn tables(rows: &[SummaryRow]) -> Vec<Table> {
    let calls = table(rows, metric::SYSTEM_CALLS, "Different system calls of the host (calls in all)");
    let running = table(rows, metric::SYSTEM_CALLS_RUNNING, "Of these, made once the program ran");
    let functions = table(rows, metric::FUNCTIONS, "Different functions of the host's kernel");
    calls.into_iter().chain(running).chain(functions).collect()
}

fn table(rows: &[SummaryRow], name: &str, title: &str) -> Option<Table> {
    let of = |name: &str| -> Vec<&SummaryRow> {
        let own =
            |row: &&SummaryRow| row.experiment == "surface" && row.metric == name && row.median.is_some();
        rows.iter().filter(own).collect()
    };
    let (main, made) = (of(name), of(metric::SYSTEM_CALLS_MADE));
    let targets = targets_in_order(main.iter().map(|row| row.target.as_str()));
    let workloads = distinct(main.iter().map(|row| row.workload.as_str()));
    let number = |rows: &[&SummaryRow], workload: &str, target: &str| {
        let row = rows.iter().find(|row| row.workload == workload && row.target == target)?;
        Some(format!("{:.0}", row.median?))
    };
    let cell = |workload: &str, target: &str| match number(&main, workload, target) {
        None => "-".to_owned(),
        Some(count) => match number(&made, workload, target).filter(|_| name == metric::SYSTEM_CALLS) {
            Some(made) => format!("{count} ({made})"),
            None => count,
        },
    };
    let line = |workload: &&str| {
        std::iter::once((*workload).to_owned())
            .chain(targets.iter().map(|target| cell(workload, target)))
            .collect()
    };
    (!main.is_empty()).then(|| Table {
        title: title.to_owned(),
        head: std::iter::once("workload").chain(targets.iter().copied()).map(String::from).collect(),
        names: 1,
        rows: workloads.iter().map(line).collect(),
    })
}

/// What a program inside sees and may do.
pub fn probes(samples: &[Sample]) -> Option<Table> {
    let own: Vec<(&str, &Sample)> = samples
        .iter()
        .filter(|sample| sample.experiment == "surface" && sample.status == Status::Ok)
        .filter_map(|sample| Some((sample.metric.strip_prefix(metric::PROBE_PREFIX)?, sample)))
        .collect();
    let targets = targets_in_order(own.iter().map(|(_, sample)| sample.target.as_str()));
    let names: BTreeSet<&str> = own.iter().map(|(name, _)| *name).collect();
    let found = |name: &str, target: &str| {
        own.iter()
            .find(|(known, sample)| *known == name && sample.target == target)
            .map(|(_, sample)| *sample)
    };
    let line = |name: &&str| {
        let cell =
            |target: &&str| found(name, target).map_or_else(|| "-".into(), |sample| sample.detail.clone());
        std::iter::once((*name).to_owned()).chain(targets.iter().map(cell)).collect()
    };
    let reached = |target: &&str| {
        let of_target = own.iter().filter(|(_, sample)| sample.target == **target);
        of_target.filter(|(_, sample)| sample.value == Some(1.0)).count().to_string()
    };
    let sum = std::iter::once("reach the host".to_owned()).chain(targets.iter().map(reached)).collect();
    (!own.is_empty()).then(|| Table {
        title: "What a program inside sees of the host, and what it may do".to_owned(),
        head: std::iter::once("probe").chain(targets.iter().copied()).map(String::from).collect(),
        names: 1,
        rows: names.iter().map(line).chain(std::iter::once(sum)).collect(),
    })
}

/// Which calls a target makes, and how its functions lie to those of the bare process, one line each.
pub fn sets_in_words(samples: &[Sample]) -> Vec<String> {
    let mut lines = Vec::new();
    for (part, when) in [(0, "to set an instance up"), (1, "once the program runs, all workloads")] {
        let calls = sets(samples, metric::CALL_PREFIX, part);
        for (target, set) in targets_in_order(calls.keys().copied())
            .iter()
            .filter_map(|target| Some((target, calls.get(target)?)))
        {
            lines.push(format!("{target}, {when}: {}", join(set.iter().copied())));
        }
    }
    let functions = sets(samples, metric::FUNCTION_PREFIX, 0);
    if let Some(native) = functions.get(BASELINE) {
        for (target, set) in functions.iter().filter(|(target, _)| **target != BASELINE) {
            let common = set.intersection(native).count();
            lines.push(format!(
                "Of the {} of the kernel that noop enters in {target}, {common} are entered by native, too.",
                plural(set.len(), "function", "functions")
            ));
        }
    }
    lines
}

fn join<'a>(names: impl Iterator<Item = &'a str>) -> String {
    let names: Vec<&str> = names.collect();
    if names.is_empty() { "none".to_owned() } else { names.join(", ") }
}

/// The members of the sets of one kind and part, by target.
fn sets<'a>(samples: &'a [Sample], prefix: &str, part: u32) -> BTreeMap<&'a str, BTreeSet<&'a str>> {
    let mut sets: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    let own = |sample: &&Sample| {
        sample.experiment == "surface" && sample.status == Status::Ok && sample.iteration == part
    };
    for sample in samples.iter().filter(own) {
        if let Some(name) = sample.metric.strip_prefix(prefix) {
            sets.entry(&sample.target).or_default().insert(name);
        }
    }
    sets
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample(target: &str, metric: &str, value: f64, detail: &str) -> Sample {
        Sample {
            experiment: "surface".into(),
            metric: metric.into(),
            unit: "calls".into(),
            detail: detail.into(),
            ..Sample::ready(target, 0, value)
        }
    }

    #[test]
    fn sets_are_told_apart_by_target_and_part() {
        let later = |target: &str, metric: &str| Sample { iteration: 1, ..sample(target, metric, 1.0, "") };
        let samples = [
            sample("container", "call.mount", 3.0, ""),
            later("container", "call.read"),
            later("native", "call.read"),
            later("native", "call.brk"),
        ];
        assert_eq!(
            sets_in_words(&samples),
            [
                "container, to set an instance up: mount",
                "native, once the program runs, all workloads: brk, read",
                "container, once the program runs, all workloads: read",
            ]
        );
    }

    #[test]
    fn probes_are_a_row_each_and_those_that_reach_the_host_are_counted() {
        let samples = [
            sample("microvm", "probe.mount", 0.0, "no: ENOSYS"),
            sample("native", "probe.mount", 1.0, "yes"),
            sample("native", "probe.cpus", 1.0, "2, the host's"),
        ];
        let table = probes(&samples).expect("there are some");
        assert_eq!(table.head, ["probe", "native", "microvm"]);
        assert_eq!(table.rows[0], ["cpus", "2, the host's", "-"]);
        assert_eq!(table.rows[1], ["mount", "yes", "no: ENOSYS"]);
        assert_eq!(table.rows[2], ["reach the host", "2", "0"]);
        assert_eq!(probes(&[]), None);
    }

    #[test]
    fn sets_do_not_fill_the_summary_and_their_sizes_are_a_table() {
        let samples = [
            sample("native", metric::SYSTEM_CALLS, 17.0, ""),
            sample("native", metric::SYSTEM_CALLS_MADE, 60.0, ""),
            sample("native", "call.read", 4.0, ""),
            sample("native", "probe.mount", 1.0, "yes"),
        ];
        let rows = crate::summary::summarise(&samples, 1);
        assert_eq!(rows.len(), 2);
        let tables = tables(&rows);
        assert_eq!(tables.len(), 1);
        assert_eq!(tables[0].rows, [["noop", "17 (60)"]]);
    }
}
