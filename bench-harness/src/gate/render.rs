//! The verdict as text: for a terminal, for a job summary (Markdown), and for a CI system's list of tests (JUnit).

use super::{Gate, GateRow, Outcome};
use crate::record::metric;
use crate::report::table::Table;
use crate::report::{markdown, terminal};
use crate::units::{format_p, format_percent, format_value};

const ABSENT: &str = "-";

/// Rows that fit a screen; where there are more, the fine ones are only counted.
const ON_A_SCREEN: usize = 24;

/// Table and verdict, in lines of at most `width` columns.
pub fn for_terminal(gate: &Gate, width: usize) -> String {
    let mut text = String::new();
    let all = gate.rows.len() <= ON_A_SCREEN;
    let shown: Vec<_> = gate.rows.iter().filter(|row| all || row.outcome != Outcome::Fine).collect();
    if !shown.is_empty() {
        let table = table(&shown);
        text.push_str(&format!("{}\n{}\n\n", table.title, terminal::lay_out(&table, width)));
    }
    let mut lines = Vec::new();
    if shown.len() < gate.rows.len() {
        lines.push(format!("{} more are fine.", gate.rows.len() - shown.len()));
    }
    lines.extend(gate.differences.iter().map(|difference| format!("Forced although {difference}.")));
    lines.extend(reasons(gate));
    lines.push(gate.sentence());
    for line in lines {
        text.push_str(&terminal::wrap(&line, width));
        text.push('\n');
    }
    text
}

/// The whole verdict for a job summary.
pub fn for_markdown(gate: &Gate) -> String {
    let mut text = format!("## Benchmark gate\n\n**{}**\n\n", markdown::escape(&gate.sentence()));
    for difference in &gate.differences {
        text.push_str(&format!("- forced although {}\n", markdown::escape(difference)));
    }
    for reason in reasons(gate) {
        text.push_str(&format!("- {}\n", markdown::escape(&reason)));
    }
    if !gate.differences.is_empty() || reasons(gate).next().is_some() {
        text.push('\n');
    }
    let (fine, others): (Vec<_>, Vec<_>) = gate.rows.iter().partition(|row| row.outcome == Outcome::Fine);
    if !others.is_empty() {
        text.push_str(&format!("{}\n", markdown::lay_out(&table(&others))));
    }
    if !fine.is_empty() {
        let folded = markdown::lay_out(&table(&fine));
        text.push_str(&format!(
            "<details><summary>{} fine</summary>\n\n{folded}\n</details>\n\n",
            fine.len()
        ));
    }
    text.push_str(
        "A figure regressed when the rank test is significant after Holm, and the shift (Hodges and Lehmann, with its 95 % \
         interval) is larger than what is allowed and larger than the smallest effect that the launches can resolve.\n",
    );
    text
}

/// One test a figure: regressed ones failed, unclear ones were skipped.
pub fn for_junit(gate: &Gate) -> String {
    let regressed = gate.count(|outcome| *outcome == Outcome::Regressed);
    let unclear = gate.count(|outcome| matches!(outcome, Outcome::Unclear { .. }));
    let mut text = String::from("<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n");
    let counts =
        format!("tests=\"{}\" failures=\"{regressed}\" errors=\"0\" skipped=\"{unclear}\"", gate.rows.len());
    text.push_str(&format!("<testsuites {counts}>\n  <testsuite name=\"bench-harness gate\" {counts}>\n"));
    for row in &gate.rows {
        let name = format!("{}.{}.{}", row.experiment, row.workload, row.target);
        let head = format!("    <testcase classname=\"{}\" name=\"{}\"", xml(&name), xml(&row.metric));
        let told = format!(
            "{} before, {} now: {} [{}], p {}, smallest effect {}",
            value(row, row.old),
            value(row, row.new),
            row.worse.map_or_else(|| ABSENT.into(), signed),
            interval(row),
            row.p_holm.map_or_else(|| ABSENT.into(), format_p),
            row.resolves.map_or_else(|| ABSENT.into(), format_percent)
        );
        text.push_str(&match &row.outcome {
            Outcome::Fine | Outcome::Improved => format!("{head}/>\n"),
            Outcome::Regressed => format!(
                "{head}>\n      <failure message=\"regressed by {}\">{}</failure>\n    </testcase>\n",
                row.worse.map_or_else(|| ABSENT.into(), |worse| xml(&format_percent(worse))),
                xml(&told)
            ),
            Outcome::Unclear { .. } => format!(
                "{head}>\n      <skipped message=\"{}\"/>\n    </testcase>\n",
                xml(&format!("cannot tell: {}; {told}", remedy(&row.outcome).unwrap_or_default()))
            ),
        });
    }
    text.push_str("  </testsuite>\n</testsuites>\n");
    text
}

/// The same where nothing was judged: one error, with the reason.
pub fn refusal_for_junit(reason: &str) -> String {
    let counts = "tests=\"1\" failures=\"0\" errors=\"1\" skipped=\"0\"";
    format!(
        "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<testsuites {counts}>\n  <testsuite name=\"bench-harness gate\" {counts}>\n    \
         <testcase classname=\"gate\" name=\"comparable\">\n      <error message=\"{}\"/>\n    </testcase>\n  \
         </testsuite>\n</testsuites>\n",
        xml(reason)
    )
}

/// The same for a job summary.
pub fn refusal_for_markdown(reason: &str) -> String {
    format!("## Benchmark gate\n\n**Gate: {}.**\n\n", markdown::escape(reason))
}

fn table(rows: &[&GateRow]) -> Table {
    let line = |row: &&GateRow| {
        vec![
            format!("{} {}", row.workload, short(&row.metric)),
            row.target.clone(),
            value(row, row.old),
            value(row, row.new),
            match row.worse {
                Some(worse) if row.worse_ci95.is_some() => format!("{} [{}]", signed(worse), interval(row)),
                Some(worse) => signed(worse),
                None => ABSENT.into(),
            },
            row.resolves.map_or_else(|| ABSENT.into(), format_percent),
            row.p_holm.map_or_else(|| ABSENT.into(), format_p),
            row.outcome.word().into(),
        ]
    };
    let head = ["figure", "target", "old", "new", "worse by [95 %]", "resolves", "p", "verdict"];
    Table {
        title: "New against old".into(),
        head: head.map(String::from).into(),
        names: 2,
        rows: rows.iter().map(line).collect(),
    }
}

/// What is said of the rows that are unclear: why, and what would help. The same reason once.
fn reasons(gate: &Gate) -> impl Iterator<Item = String> {
    gate.rows.iter().filter_map(|row| {
        Some(format!(
            "Unclear: {} {} in {}: {}.",
            row.workload,
            short(&row.metric),
            row.target,
            remedy(&row.outcome)?
        ))
    })
}

fn remedy(outcome: &Outcome) -> Option<String> {
    match outcome {
        Outcome::Unclear { more: Some(more), why } => Some(format!(
            "{why}; about {} a side would tell",
            crate::units::plural(*more, "more launch", "more launches")
        )),
        Outcome::Unclear { more: None, why } => Some(why.clone()),
        _ => None,
    }
}

fn short(name: &str) -> &str {
    match name {
        metric::TIME_PER_OP => "time/op",
        metric::HOST_WALL => "time",
        metric::PSS => "PSS",
        metric::CGROUP => "cgroup",
        other => other.trim_end_matches("_ns"),
    }
}

fn value(row: &GateRow, value: Option<f64>) -> String {
    value.map_or_else(|| ABSENT.into(), |value| format_value(value, &row.unit))
}

fn interval(row: &GateRow) -> String {
    row.worse_ci95.map_or_else(
        || ABSENT.into(),
        |found| format!("{}, {}", signed(found.low).replace(" %", ""), signed(found.high).replace(" %", "")),
    )
}

/// `+10.2 %`
fn signed(part: f64) -> String {
    let sign = if part < 0.0 { "-" } else { "+" };
    format!("{sign}{}", format_percent(part.abs()))
}

fn xml(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '&' => escaped.push_str("&amp;"),
            '"' => escaped.push_str("&quot;"),
            // No control character but these may stand in XML 1.0 at all.
            c if c.is_control() => escaped.push(' '),
            c => escaped.push(c),
        }
    }
    escaped
}
