//! The ladder in tables and words: what each layer costs, and where the network namespace's cost lies.

use super::distinct;
use super::table::{Table, difference, head, value};
use crate::record::{LADDER, metric};
use crate::stats::Interval;
use crate::summary::SummaryRow;
use crate::target::rung::{BACKINGS, Compared, WHOLE, compared};
use crate::units::format_value;

/// The bare process that the container's ladder begins with.
const BARE: &str = "container:spawn";
/// The rung that adds the network namespace, and the one that leaves it out.
const NET: [&str; 2] = ["container:+net", "container:-net"];

/// The rows of layers' costs, by rung, in the order of the ladders.
fn rungs(rows: &[SummaryRow]) -> Vec<&str> {
    let own =
        rows.iter().filter(|row| row.experiment == LADDER && row.metric.starts_with(metric::LAYER_PREFIX));
    distinct(own.map(|row| row.target.as_str()))
}

/// The cost of a rung's layer in one metric.
pub(super) fn cost<'a>(rows: &'a [SummaryRow], rung: &str, name: &str) -> Option<&'a SummaryRow> {
    rows.iter().find(|row| {
        row.experiment == LADDER
            && row.target == rung
            && row.metric.strip_prefix(metric::LAYER_PREFIX) == Some(name)
    })
}

fn of_rung<'a>(rows: &'a [SummaryRow], rung: &str, name: &str) -> Option<&'a SummaryRow> {
    rows.iter().find(|row| row.experiment == LADDER && row.target == rung && row.metric == name)
}

/// The costs as tables: of the layers of a container, and of what differs between virtual machines.
pub(super) fn tables(rows: &[SummaryRow]) -> Vec<Table> {
    let (layers, machines): (Vec<&str>, Vec<&str>) =
        rungs(rows).into_iter().partition(|name| name.starts_with("container:"));
    let columns =
        ["start to first byte [95 %]", "teardown", "CPU afterwards", "PSS", "kernel memory", "a call"];
    let names =
        [metric::READY, metric::TEARDOWN, metric::DEFERRED, metric::PSS, metric::KERNEL, metric::TIME_PER_OP];
    let table = |title: &str, first: &str, rungs: Vec<&str>| {
        let shown: Vec<usize> = (0..names.len())
            .filter(|&column| rungs.iter().any(|rung| cost(rows, rung, names[column]).is_some()))
            .collect();
        let line = |rung: &&str| {
            let cells = shown.iter().map(|&column| {
                let found = cost(rows, rung, names[column]);
                found.map_or_else(|| "-".to_owned(), |row| difference(row, names[column] == metric::READY))
            });
            std::iter::once(short(rung).to_owned()).chain(cells).collect()
        };
        let head_line: Vec<&str> =
            std::iter::once(first).chain(shown.iter().map(|&column| columns[column])).collect();
        (!rungs.is_empty()).then(|| Table {
            title: title.to_owned(),
            head: head(&head_line),
            names: 1,
            rows: rungs.iter().map(line).collect(),
        })
    };
    let layers = table(
        "What each layer of a container costs (+ added to those above, - beside all others)",
        "layer",
        layers,
    );
    let machines = table(
        "What size, backing, kernel and devices of a virtual machine cost, over the plainest of each",
        "machine",
        machines,
    );
    layers.into_iter().chain(machines).collect()
}

/// The name without the kind of target where the table says it.
pub(super) fn short(rung: &str) -> &str {
    rung.strip_prefix("container:").unwrap_or(rung)
}

/// The whole answer, a sentence for each question; none where no ladder was climbed.
pub(super) fn answers(rows: &[SummaryRow]) -> Vec<String> {
    let mut sentences = Vec::new();
    if let (Some(bare), Some(whole)) =
        (of_rung(rows, BARE, metric::READY), of_rung(rows, WHOLE, metric::READY))
    {
        sentences.push(format!(
            "From a bare process to the whole container the time to the first byte goes from {} to {}.",
            value(bare.median, bare),
            value(whole.median, whole)
        ));
    }
    for (name, what) in [
        (metric::READY, "At the start"),
        (metric::TEARDOWN, "At teardown"),
        (metric::PSS, "In the instance's own memory (PSS)"),
        (metric::KERNEL, "In memory of the kernel"),
        (metric::TIME_PER_OP, "Per system call"),
    ] {
        sentences.extend(layers_of(rows, name, what));
    }
    sentences.extend(network(rows));
    sentences.extend(rungs(rows).into_iter().filter_map(|rung| backed(rows, rung)));
    sentences
}

/// `At the start mount costs 1.20 ms [..]; pid, ipc cost nothing that can be seen here (less than 30.0 us each).`
fn layers_of(rows: &[SummaryRow], name: &str, what: &str) -> Option<String> {
    let added = rungs(rows).into_iter().filter(|rung| matches!(compared(rung), Some(Compared::Over(_))));
    let own: Vec<(&str, &SummaryRow)> = added
        .filter_map(|rung| Some((rung.strip_prefix("container:+")?, cost(rows, rung, name)?)))
        .filter(|(_, row)| row.ci95.is_some())
        .collect();
    let (mut sure, lost): (Vec<_>, Vec<_>) =
        own.into_iter().partition(|(_, row)| row.ci95.is_some_and(|interval| !interval.holds(0.0)));
    sure.sort_by(|left, right| {
        right.1.median.unwrap_or(0.0).abs().total_cmp(&left.1.median.unwrap_or(0.0).abs())
    });
    let mut parts: Vec<String> =
        sure.iter().map(|(layer, row)| format!("{layer} {} {}", verb(row), with_interval(row))).collect();
    if !lost.is_empty() {
        let widest = lost.iter().filter_map(|(_, row)| row.ci95).map(reach).fold(0.0, f64::max);
        let unit = lost.first().map_or("", |(_, row)| row.unit.as_str());
        let names: Vec<&str> = lost.iter().map(|(layer, _)| *layer).collect();
        parts.push(format!(
            "{}: nothing that shows here (less than {} each)",
            names.join(", "),
            format_value(widest, unit)
        ));
    }
    (!parts.is_empty()).then(|| format!("{what}: {}.", parts.join("; ")))
}

/// Some layers leave the next ones less to do.
fn verb(row: &SummaryRow) -> &'static str {
    if row.median.is_some_and(|cost| cost < 0.0) { "changes it by" } else { "costs" }
}

/// The farther end of an interval around nought.
pub(super) fn reach(interval: Interval) -> f64 {
    interval.low.abs().max(interval.high.abs())
}

fn with_interval(row: &SummaryRow) -> String {
    let interval = row.ci95.map_or_else(String::new, |interval| {
        format!(" [{}, {}]", format_value(interval.low, &row.unit), format_value(interval.high, &row.unit))
    });
    format!("{}{interval}", value(row.median, row))
}

/// `Memory that is there before the start changes, over microvm:64MiB, the time to the first byte by 15.2 ms and ...`
fn backed(rows: &[SummaryRow], rung: &str) -> Option<String> {
    let (_, kind) = rung.split_once(':')?;
    let what = BACKINGS.iter().find(|(name, ..)| *name == kind)?.2;
    let Compared::Over(other) = compared(rung)? else { return None };
    let change = |name, of: &str| {
        let row = cost(rows, rung, name).filter(|row| row.median.is_some())?;
        let seen = row.ci95.is_none_or(|interval| !interval.holds(0.0));
        let by = if seen { with_interval(row) } else { difference(row, false) };
        Some(format!("{of} by {by}"))
    };
    let changes = [(metric::READY, "the time to the first byte"), (metric::PSS, "the PSS of an instance")];
    let parts: Vec<_> = changes.into_iter().filter_map(|(name, of)| change(name, of)).collect();
    (!parts.is_empty()).then(|| format!("Memory {what} changes, over {other}, {}.", parts.join(" and ")))
}

/// Where the network namespace's cost lies. Said for this host, from these figures.
fn network(rows: &[SummaryRow]) -> Option<String> {
    let [added, left_out] = NET;
    // Beside all other layers where that was measured: that is what a container pays.
    let of = |name: &str| cost(rows, left_out, name).or_else(|| cost(rows, added, name));
    let before = of(metric::READY).filter(|row| row.ci95.is_some())?;
    let seen = |row: &SummaryRow| row.ci95.is_some_and(|interval| interval.low > 0.0);
    let mut parts = vec![if seen(before) {
        format!("before the first byte it costs {}", with_interval(before))
    } else {
        format!("before the first byte nothing of it shows ({})", with_interval(before))
    }];
    let phase = format!("{}network_ns", metric::PHASE_PREFIX);
    if let Some(waited) = of_rung(rows, WHOLE, &phase).and_then(|row| Some((row.median?, row))) {
        parts.push(format!(
            "the start waits {} for the namespace, which a second thread makes beside the rest",
            format_value(waited.0, &waited.1.unit)
        ));
    }
    if let Some(teardown) = of(metric::TEARDOWN) {
        parts.push(if seen(teardown) {
            format!("the teardown that is waited for takes {} longer", with_interval(teardown))
        } else {
            format!("the teardown that is waited for shows nothing of it ({})", with_interval(teardown))
        });
    }
    let deferred = of(metric::DEFERRED);
    if let Some(deferred) = deferred {
        let half = of_rung(rows, WHOLE, metric::DEFERRED_HALF).and_then(|row| Some((row.median?, row)));
        let when = half.map_or_else(String::new, |(half, row)| {
            format!(", half of that in the first {}", format_value(half, &row.unit))
        });
        parts.push(if seen(deferred) {
            format!(
                "after the instance is gone the kernel's threads work {} for it{when}: no window of a launch holds that, \
                 whoever runs next shares a CPU with it",
                with_interval(deferred)
            )
        } else {
            format!("after the instance is gone nothing of it shows ({})", with_interval(deferred))
        });
    }
    let verdict = match (before.median, deferred.and_then(|row| row.median)) {
        (Some(start), Some(end)) if seen(before) || deferred.is_some_and(seen) => {
            if end > start {
                " So most of it lies in the taking down, and is not paid before the first byte."
            } else {
                " So most of it lies in the making, and is paid before the first byte."
            }
        }
        _ => "",
    };
    Some(format!("The network namespace: {}.{verdict}", parts.join("; ")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::Sample;
    use crate::summary::summarise;

    fn samples(rung: &str, name: &str, unit: &str, centre: f64) -> Vec<Sample> {
        (0..12)
            .map(|block| Sample {
                experiment: LADDER.into(),
                metric: name.into(),
                unit: unit.into(),
                ..Sample::ready(rung, block, centre + f64::from(block * 7 % 5))
            })
            .collect()
    }

    fn ladder(before: f64, afterwards: f64) -> Vec<SummaryRow> {
        let mut all = samples("container:+limits", metric::READY, "ns", 1e6);
        all.extend(samples("container:-net", metric::READY, "ns", 1e6 - before));
        all.extend(samples("container:+limits", metric::DEFERRED, "ns", 8e5));
        all.extend(samples("container:-net", metric::DEFERRED, "ns", 8e5 - afterwards));
        summarise(&all, 1)
    }

    #[test]
    fn the_answers_say_whether_the_network_namespace_is_paid_before_or_after() {
        let late = answers(&ladder(1e4, 6e5)).join(" ");
        assert!(late.contains("work 600 us") && late.contains("lies in the taking down"), "{late}");
        let early = answers(&ladder(5e5, 1e4)).join(" ");
        assert!(early.contains("costs 500 us") && early.contains("lies in the making"), "{early}");
    }

    #[test]
    fn what_cannot_be_told_from_nothing_is_a_bound_and_no_figure() {
        let mut all = samples("container:+session", metric::READY, "ns", 1e5);
        all.extend(samples("container:+mount", metric::READY, "ns", 3e5));
        // As often above the rung below as under it.
        all.extend(samples("container:+pid", metric::READY, "ns", 3e5).into_iter().map(|mut row| {
            let noise = f64::from(row.block % 4) * 1e3 - 1.5e3;
            row.value = row.value.map(|value| value + noise);
            row
        }));
        let rows = summarise(&all, 1);
        let text = answers(&rows).join(" ");
        assert!(
            text.contains("mount costs 200 us") && text.contains("pid: nothing that shows here"),
            "{text}"
        );
        let table = &tables(&rows)[0];
        assert_eq!(table.rows[0][..2], ["+mount", "200 [200, 200] us"].map(String::from));
        assert!(table.rows[1][1].starts_with('<'), "{table:?}");
    }

    #[test]
    fn the_answers_say_what_stands_behind_the_memory_of_a_machine_and_what_that_costs() {
        let mut all = samples("microvm:64MiB", metric::READY, "ns", 1e6);
        all.extend(samples("microvm:prefaulted", metric::READY, "ns", 1.6e7));
        all.extend(samples("microvm:huge-pages", metric::READY, "ns", 1e6));
        all.extend(samples("microvm:64MiB", metric::PSS, "bytes", 1_048_576.0));
        all.extend(samples("microvm:prefaulted", metric::PSS, "bytes", 65.0 * 1_048_576.0));
        let text = answers(&summarise(&all, 1)).join("\n");
        let line = |start: &str| text.lines().find(|line| line.starts_with(start)).unwrap_or_default();
        let prefaulted = line("Memory that is there before the start changes, over microvm:64MiB");
        assert!(prefaulted.contains("first byte by 15.0 ms") && prefaulted.contains("by 64.0 MiB"), "{text}");
        let huge = line("Memory in huge pages changes, over microvm:64MiB");
        assert!(huge.contains("first byte by <") && !huge.contains("PSS"), "{text}");
        assert!(!text.contains("over microvm:128MiB"), "{text}");
    }

    #[test]
    fn without_a_ladder_nothing_is_said() {
        assert!(answers(&[]).is_empty());
        assert!(tables(&[]).is_empty());
    }
}
