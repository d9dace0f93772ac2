//! `report.md`, and the table of a README.

use std::collections::HashSet;

use super::charts::Chart;
use super::table::{Table, details, experiments, main_tables, of_experiment};
use super::{CHARTS, distinct, finding, ladder, neighbours, surface};
use crate::record::{DENSITY, HARNESS, Host, LADDER, NEIGHBOURS, RunInfo, Sample, metric};
use crate::stats::{MIN_FOR_INTERVAL, outliers};
use crate::summary::{SAME_WITHIN, SummaryRow, Verdict, launches_by_target};
use crate::units::{Bytes, format_percent, format_value, plural, significant};
use crate::warning::condensed;

/// The whole report.
pub fn report(info: &RunInfo, rows: &[SummaryRow], samples: &[Sample], charts: &[Chart]) -> String {
    let mut text = format!("# {}\n\n", title(info));
    text.push_str(&format!("{}\n\n", escape(&finding::of_recording(rows))));
    if info.interrupted {
        text.push_str("**The run was interrupted:** the figures are of what was measured until then.\n\n");
    }
    for experiment in experiments(rows).into_iter().filter(|name| *name != HARNESS) {
        text.push_str(&section(rows, samples, charts, experiment));
    }
    text.push_str(&left_out(info, rows));
    text.push_str(&trust(info, rows, samples));
    text.push_str(&host(&info.host, info.host_at_end.as_ref()));
    text.push_str(&reproduce(info));
    text.push_str(&reading());
    text
}

/// The main tables and where they come from, for a README.
pub fn readme_table(info: &RunInfo, rows: &[SummaryRow]) -> String {
    let mut text = String::new();
    for table in main_tables(rows) {
        text.push_str(&format!("**{}**\n\n{}\n", escape(&table.title), lay_out(&table)));
    }
    text.push_str(&format!("{}\n\n", escape(&finding::of_recording(rows))));
    let host = &info.host;
    let facts = [
        host.cpu_model.clone(),
        host.cpus_online.map(|cpus| format!("{cpus} CPUs")),
        host.kernel.as_ref().map(|kernel| format!("Linux {kernel}")),
        host.kvm.as_ref().map(|kvm| format!("KVM kind {kvm}")),
        Some(format!("profile {}", info.profile)),
        Some(format!("run {}", info.run_id)),
        Some(info.started_utc.clone()),
    ];
    let facts: Vec<_> = facts.into_iter().flatten().filter(|fact| !fact.is_empty()).collect();
    text.push_str(&format!("Measured on: {}.\n", escape(&facts.join(", "))));
    text
}

fn title(info: &RunInfo) -> String {
    match &info.host.hostname {
        Some(name) => format!("Native, container and microVM on {}", escape(name)),
        None => "Native, container and microVM".to_owned(),
    }
}

fn section(rows: &[SummaryRow], samples: &[Sample], charts: &[Chart], experiment: &str) -> String {
    let mut text = format!("## {}\n\n", heading(experiment));
    if let Some(sentence) = finding::of_experiment(rows, experiment) {
        text.push_str(&format!("{}\n\n", escape(&sentence)));
    }
    if experiment == LADDER {
        let answers = ladder::answers(rows);
        text.extend(answers.iter().map(|answer| format!("- {}\n", escape(answer))));
        text.push('\n');
    }
    for chart in charts.iter().filter(|chart| chart.experiment == experiment) {
        text.push_str(&format!("![{}]({CHARTS}/{}.svg)\n\n", chart.alt, chart.name));
    }
    for table in of_experiment(rows, experiment) {
        text.push_str(&format!("**{}**\n\n{}\n", escape(&table.title), lay_out(&table)));
    }
    match experiment {
        "surface" => text.push_str(&reach(samples)),
        NEIGHBOURS => text.push_str(&format!("{}\n\n", neighbours::REMARK)),
        _ => {}
    }
    text.push_str(&outlying(rows, samples, experiment));
    let all = details(rows, experiment);
    text.push_str(&format!("<details><summary>{}</summary>\n\n{}\n</details>\n\n", all.title, lay_out(&all)));
    text
}

/// What only the experiment surface has: a matrix, and sets.
fn reach(samples: &[Sample]) -> String {
    let mut text = String::new();
    if let Some(table) = surface::probes(samples) {
        text.push_str(&format!("**{}**\n\n{}\n", table.title, lay_out(&table)));
    }
    text.push_str("System calls by name:\n\n");
    for line in surface::sets_in_words(samples) {
        text.push_str(&format!("- {}\n", escape(&line)));
    }
    format!("{text}\n{}\n\n", surface::CAVEAT)
}

fn heading(experiment: &str) -> String {
    match experiment {
        "startup" => "Start-up".to_owned(),
        "memory" => "Memory".to_owned(),
        "overhead" => "Overhead".to_owned(),
        LADDER => "Layer by layer".to_owned(),
        DENSITY => "Density".to_owned(),
        "surface" => "Surface".to_owned(),
        NEIGHBOURS => "Neighbours".to_owned(),
        other => escape(other),
    }
}

/// Which targets had launches far from the rest, of the experiment's main metric.
fn outlying(rows: &[SummaryRow], samples: &[Sample], experiment: &str) -> String {
    let name = metric::main_of(experiment);
    let mut parts = Vec::new();
    let own = rows.iter().filter(|row| row.experiment == experiment);
    for workload in distinct(own.map(|row| row.workload.as_str())) {
        for (target, launches) in launches_by_target(samples, experiment, workload, name) {
            let (outside, far) = outliers::count_outside(&launches);
            if outside > 0 {
                parts.push(format!(
                    "{workload} in {target} {outside} of {} ({far} of them far out)",
                    launches.len()
                ));
            }
        }
    }
    if parts.is_empty() {
        return String::new();
    }
    format!(
        "Outliers of {name} (beyond Tukey's fences; kept in all figures): {}.\n\n",
        escape(&parts.join(", "))
    )
}

fn left_out(info: &RunInfo, rows: &[SummaryRow]) -> String {
    let mut lines = Vec::new();
    lines.extend(
        info.skipped
            .iter()
            .map(|skipped| format!("- {} was skipped: {}", escape(&skipped.target), escape(&skipped.reason))),
    );
    for row in rows.iter().filter(|row| row.failed > 0 || row.verdict == Some(Verdict::Skipped)) {
        if row.failed == 0 && info.names_skip(&row.target, row.reason.as_deref()) {
            continue;
        }
        let what = if row.failed > 0 {
            format!("failed in {}", plural(row.failed, "launch", "launches"))
        } else {
            "was skipped".to_owned()
        };
        let reason =
            row.reason.as_deref().filter(|reason| !reason.is_empty()).unwrap_or("no reason was given");
        lines.push(format!(
            "- {} {} in {} {what}: {}",
            escape(&row.experiment),
            escape(&row.workload),
            escape(&row.target),
            escape(reason)
        ));
    }
    // What was skipped is so in each of its figures.
    let mut seen = HashSet::new();
    lines.retain(|line| seen.insert(line.clone()));
    if lines.is_empty() {
        lines.push("Nothing.".to_owned())
    }
    format!("## Skipped and failed\n\n{}\n\n", lines.join("\n"))
}

fn trust(info: &RunInfo, rows: &[SummaryRow], samples: &[Sample]) -> String {
    let mut lines = Vec::new();
    let checked = crate::checks::of(samples);
    lines.extend(
        condensed(info.warnings.iter().chain(&checked))
            .iter()
            .map(|warning| format!("- {}", escape(&warning.to_string()))),
    );
    lines.extend(info.notes.iter().map(|note| format!("- {}: {}", escape(&note.target), escape(&note.note))));
    if lines.is_empty() {
        lines.push("No warnings.".to_owned())
    }
    let cost = match finding::harness_cost(rows) {
        Some(cost) => format!(
            "The harness itself spends {} inside a measured window: {} of the smallest measured median ({}, {}). It is \
             not subtracted from any figure.",
            format_value(cost.cost_ns, "ns"),
            format_percent(cost.share()),
            format_value(cost.smallest_ns, "ns"),
            escape(&cost.smallest)
        ),
        None => "The harness's own cost inside a measured window was not measured in this run.".to_owned(),
    };
    format!("## What disturbs these figures\n\n{}\n\n{cost}\n\n", lines.join("\n"))
}

/// What was read of a host, by name; `None` is unknown.
fn facts(host: &Host) -> Vec<(&'static str, Option<String>)> {
    let flag = |flag: Option<bool>| flag.map(|on| if on { "on" } else { "off" }.to_owned());
    let number = |number: Option<u32>| number.map(|number| number.to_string());
    let bytes = |bytes: Option<u64>| bytes.map(|bytes| Bytes(bytes).to_string());
    let mitigations: Vec<_> =
        host.mitigations.iter().map(|(name, state)| format!("{name}: {state}")).collect();
    let percent = |percent: Option<f64>| percent.map(|percent| format!("{percent} %"));
    vec![
        ("name", host.hostname.clone()),
        ("system", host.os.clone()),
        ("kernel", host.kernel.clone()),
        ("CPU", host.cpu_model.clone()),
        ("CPUs online", number(host.cpus_online)),
        ("CPUs allowed", number(host.cpus_allowed)),
        ("last-level cache", bytes(host.llc_bytes)),
        ("is a virtual machine", host.virtualised.map(|yes| if yes { "yes" } else { "no" }.to_owned())),
        ("KVM stands on", host.kvm.clone()),
        ("cgroups", host.cgroup.clone()),
        ("memory", bytes(host.memory_bytes)),
        ("memory available", bytes(host.memory_available_bytes)),
        ("swap in use", bytes(host.swap_used_bytes)),
        ("load", host.load_1m.map(significant)),
        ("governor", host.governor.clone()),
        ("turbo", flag(host.turbo)),
        ("SMT", flag(host.smt)),
        ("transparent huge pages", host.thp.clone()),
        ("KSM", flag(host.ksm)),
        ("address randomisation", number(host.aslr)),
        ("nx_huge_pages of KVM", host.nx_huge_pages.clone()),
        ("nested virtualisation", host.nested.clone()),
        ("favordynmods", flag(host.favordynmods)),
        ("tasks waiting for a CPU", percent(host.pressure_cpu)),
        ("tasks waiting for memory", percent(host.pressure_memory)),
        ("tasks waiting for a disk", percent(host.pressure_io)),
        ("slowed down for heat", host.throttled.map(|times| format!("{times} times since boot"))),
        ("CPU time taken by others", host.steal.map(|part| format!("{} since boot", format_percent(part)))),
        ("clock source", host.clock_source.clone()),
        ("smallest clock step", host.clock_step_ns.map(|step| format!("{step} ns"))),
        ("user number", number(host.uid)),
        ("mitigations", (!mitigations.is_empty()).then(|| mitigations.join("; "))),
    ]
}

fn host(before: &Host, after: Option<&Host>) -> String {
    let after = after.map(facts);
    let table = Table {
        title: String::new(),
        names: 2,
        head: ["host", "before the run", "after it"].map(String::from).into(),
        rows: facts(before)
            .into_iter()
            .enumerate()
            .map(|(at, (name, fact))| {
                let unknown = || "unknown".to_owned();
                let fact = fact.unwrap_or_else(unknown);
                let later = match &after {
                    None => unknown(),
                    Some(after) => after.get(at).and_then(|(_, fact)| fact.clone()).unwrap_or_else(unknown),
                };
                let later = if later == fact && later != "unknown" { "the same".to_owned() } else { later };
                vec![name.to_owned(), fact, later]
            })
            .collect(),
    };
    format!("## Host\n\n{}\n", lay_out(&table))
}

fn reproduce(info: &RunInfo) -> String {
    let command: Vec<_> = info.command_line.iter().map(|argument| quoted(argument)).collect();
    let commit = info.commit.as_ref().map(|commit| {
        format!("{}{}", commit.hash, if commit.dirty { " with changes that are not committed" } else { "" })
    });
    let unknown = || "unknown".to_owned();
    let digest =
        |digest: &Option<String>| digest.clone().unwrap_or_else(|| "not used or not known".to_owned());
    let repetitions: Vec<_> =
        info.repetitions.iter().map(|(name, times)| format!("{name} {times}")).collect();
    let ended: Vec<_> = info
        .ended
        .iter()
        .map(|cell| {
            format!(
                "{}/{} after {}: {}",
                cell.experiment,
                cell.workload,
                plural_blocks(cell.blocks),
                cell.why
            )
        })
        .collect();
    let mut workload = digest(&info.digests.workload);
    if let Some(real) = &info.digests.real_workloads {
        workload.push_str(&format!("; of the real ones {real}"));
    }
    let design = info.design.as_ref();
    let list = |cpus: &[usize]| cpus.iter().map(ToString::to_string).collect::<Vec<_>>().join(",");
    let at_once = design.map_or_else(unknown, |design| {
        design.concurrency.map_or_else(|| "none".to_owned(), |instances| instances.to_string())
    });
    let against = design.map_or_else(unknown, |design| match &design.against {
        Some(digest) => format!("the program of SHA-256 {digest}"),
        None => "none".to_owned(),
    });
    let pinned = design.map_or_else(unknown, |design| match &design.pinned {
        Some(placement) => format!("{} and {}", list(&placement.harness), list(&placement.instances)),
        None => "any".to_owned(),
    });
    let cache = design.map_or_else(unknown, |design| match &design.cold_by {
        Some(how) => format!("{}; made cold by {how}", design.cache),
        None => design.cache.clone(),
    });
    let rest = design.map_or_else(unknown, |design| format!("{} ms", design.rest_ms));
    let rows = [
        ("profile", info.profile.clone()),
        ("seed", info.seed.to_string()),
        ("run", info.run_id.clone()),
        ("began", info.started_utc.clone()),
        ("ended", info.finished_utc.clone().unwrap_or_else(unknown)),
        ("version", info.version.clone()),
        ("commit", commit.unwrap_or_else(unknown)),
        ("SHA-256 of the workload", workload),
        ("SHA-256 of the built-in guest", digest(&info.digests.guest)),
        ("SHA-256 of the guest kernel", digest(&info.digests.kernel)),
        ("no more launches because", if ended.is_empty() { unknown() } else { ended.join("; ") }),
        ("CPUs of harness and instances", pinned),
        ("rest before each start", rest),
        ("page cache of start-ups", cache),
        ("many at once", at_once),
        ("judged against", against),
        ("repetitions", if repetitions.is_empty() { unknown() } else { repetitions.join(", ") }),
    ];
    let table = Table {
        title: String::new(),
        names: 2,
        head: vec!["run".to_owned(), String::new()],
        rows: rows.into_iter().map(|(name, fact)| vec![name.to_owned(), fact]).collect(),
    };
    format!(
        "## How to reproduce\n\n```sh\n{}\n```\n\nThe figures, tables and charts of this report follow from \
         `samples.csv` and `run.json`: `bench-harness report` on this folder makes them again, bit for bit.\n\n{}\n",
        command.join(" ").replace("```", "` ` `"),
        lay_out(&table)
    )
}

fn plural_blocks(blocks: u32) -> String {
    plural(usize::try_from(blocks).unwrap_or(usize::MAX), "block", "blocks")
}

fn reading() -> String {
    let same = format_percent(SAME_WITHIN).replace(".00", "");
    format!(
        "## How to read this\n\n\
         - `n` counts launches. Repetitions within one launch are reduced to their median first.\n\
         - Brackets hold the 95 % interval: of a median, p95 or p99 the exact one from the order of the launches, of a ratio \
         of medians to `native` of the same workload in this run one by bootstrap. Below {MIN_FOR_INTERVAL} launches none \
         is given; p95 has one from 72 and p99 from 368 launches on.\n\
         - `p95` is given from 20 launches on, `p99` from 100; `-` stands where a figure is absent, which is not zero.\n\
         - `shift` is the median of all differences to `native` (Hodges and Lehmann). `p` is that of the rank test, \
         corrected after Holm for all rows of its metric and experiment; `out` counts launches beyond Tukey's fences.\n\
         - `same`: the whole interval of the ratio lies within {same} of 1. `slower`, `faster`, `more`, `less`: interval and \
         rank test (p < 0.05) both exclude 1, and the ratio is further than {same} from 1. `unclear`: neither; more launches \
         may tell.\n\
         - Ratios compare within this run only. Figures of other hosts, kernels or kinds of KVM may differ by more than the \
         targets do here.\n"
    )
}

/// One argument as a shell reads it.
fn quoted(argument: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_./=,:@%+".contains(c);
    if !argument.is_empty() && argument.chars().all(plain) {
        return argument.to_owned();
    }
    format!("'{}'", argument.replace('\'', r"'\''"))
}

/// Text of others in Markdown: it stays text, in one line.
pub(crate) fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '<' => escaped.push_str("&lt;"),
            '&' => escaped.push_str("&amp;"),
            '|' | '`' | '*' | '\\' => escaped.extend(['\\', c]),
            // Brackets of intervals are followed by no parenthesis; others could make a link.
            c if c.is_control() => escaped.push(' '),
            c => escaped.push(c),
        }
    }
    escaped.replace("](", "]\\(")
}

pub(crate) fn lay_out(table: &Table) -> String {
    let line = |cells: &[String]| {
        let cells: Vec<_> = cells.iter().map(|cell| escape(cell)).collect();
        format!("| {} |\n", cells.join(" | "))
    };
    let side = |column| if column < table.names { "---" } else { "---:" };
    let rule: Vec<_> = (0..table.head.len()).map(side).collect();
    let rows: String = table.rows.iter().map(|row| line(row)).collect();
    format!("{}| {} |\n{rows}", line(&table.head), rule.join(" | "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_of_others_cannot_break_out_of_a_cell() {
        assert_eq!(escape("a|b\n<img>`x`"), "a\\|b &lt;img>\\`x\\`");
        assert_eq!(escape("[x](javascript:y)"), "[x]\\(javascript:y)");
    }

    #[test]
    fn arguments_are_quoted_where_a_shell_would_read_them_otherwise() {
        assert_eq!(quoted("--out"), "--out");
        assert_eq!(quoted("a b"), "'a b'");
        assert_eq!(quoted("it's"), r"'it'\''s'");
        assert_eq!(quoted(""), "''");
    }

    #[test]
    fn a_report_of_nothing_says_what_is_unknown() {
        let text = report(&RunInfo::default(), &[], &[], &[]);
        for expected in ["nothing", "| kernel | unknown |", "No warnings.", "was not measured"] {
            assert!(text.contains(expected), "{expected}: {text}");
        }
    }
}
