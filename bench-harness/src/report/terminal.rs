//! The tables at the end of a run, for a terminal.

use std::collections::{BTreeMap, BTreeSet};

use comfy_table::{CellAlignment, ColumnConstraint, ContentArrangement, TableComponent, Width};

use super::finding;
use super::table::{Table, main_tables};
use crate::record::RunInfo;
use crate::summary::{SummaryRow, Verdict};
use crate::units::plural;
use crate::warning::Warning;

/// Tables, what was left out, and one sentence with what was found, in lines of at most `width` columns.
///
/// `checks` is what speaks against the figures themselves: a reader of the tables must know it.
pub fn render(info: &RunInfo, rows: &[SummaryRow], checks: &[Warning], width: usize) -> String {
    let mut text = String::new();
    for table in main_tables(rows) {
        text.push_str(&format!("{}\n{}\n\n", table.title, lay_out(&table, width)));
    }
    for line in remarks(info, rows) {
        text.push_str(&wrap(&line, width));
        text.push('\n');
    }
    for check in checks {
        text.push_str(&wrap(&format!("Beware: {check}"), width));
        text.push('\n');
    }
    text.push_str(&wrap(&finding::of_recording(rows), width));
    text.push('\n');
    text
}

fn remarks(info: &RunInfo, rows: &[SummaryRow]) -> Vec<String> {
    let mut lines = Vec::new();
    if info.interrupted {
        lines.push("Interrupted: the figures are of what was measured until then.".to_owned());
    }
    lines
        .extend(info.skipped.iter().map(|skipped| format!("Skipped {}: {}", skipped.target, skipped.reason)));
    for row in rows.iter().filter(|row| row.failed > 0) {
        let reason = row.reason.as_deref().unwrap_or("no reason was given");
        lines.push(format!(
            "Failed: {} of {}/{} in {} ({} gave a value): {reason}",
            plural(row.failed, "launch", "launches"),
            row.experiment,
            row.workload,
            row.target,
            row.n
        ));
    }
    // A workload that one target cannot serve; whole targets are named above.
    let skipped = rows.iter().filter(|row| row.verdict == Some(Verdict::Skipped));
    let single = skipped.filter(|row| !info.names_skip(&row.target, row.reason.as_deref()));
    // One line a reason: aggressors that cannot be limited have the same one, and a long one.
    let mut reasons: BTreeMap<[&str; 3], BTreeSet<&str>> = BTreeMap::new();
    for row in single {
        let reason = row.reason.as_deref().unwrap_or("no reason was given");
        reasons.entry([&row.experiment, &row.target, reason]).or_default().insert(&row.workload);
    }
    for ([experiment, target, reason], workloads) in reasons {
        let workloads = workloads.into_iter().collect::<Vec<_>>().join(", ");
        lines.push(format!("Skipped {experiment}/{workloads} in {target}: {reason}"));
    }
    let mut seen = Vec::new();
    lines.retain(|line| {
        let new = !seen.contains(line);
        seen.push(line.clone());
        new
    });
    lines
}

pub(crate) fn lay_out(table: &Table, width: usize) -> String {
    let mut laid = comfy_table::Table::new();
    laid.load_preset(comfy_table::presets::NOTHING)
        .set_style(TableComponent::HeaderLines, '-')
        .set_style(TableComponent::MiddleHeaderIntersections, ' ')
        .set_content_arrangement(ContentArrangement::Dynamic)
        .set_width(u16::try_from(width).unwrap_or(u16::MAX))
        .set_header(&table.head)
        .add_rows(&table.rows);
    for column in laid.column_iter_mut() {
        column.set_padding((0, 1));
        if column.index >= table.names {
            column.set_cell_alignment(CellAlignment::Right);
        } else {
            // Names break at spaces at most, as long as they leave the figures their half.
            let cells =
                table.rows.iter().filter_map(|row| row.get(column.index)).chain(table.head.get(column.index));
            let words = cells.flat_map(|cell| cell.split_whitespace()).map(|word| word.chars().count());
            let longest = (words.max().unwrap_or(0) + 1).min(width / 2 / table.names);
            let longest = Width::Fixed(u16::try_from(longest).unwrap_or(u16::MAX));
            column.set_constraint(ColumnConstraint::LowerBoundary(longest));
        }
    }
    laid.lines().map(|line| line.trim_end().to_owned()).collect::<Vec<_>>().join("\n")
}

/// Breaks a text at spaces; a word that is longer than a line stands alone in one.
pub(crate) fn wrap(text: &str, width: usize) -> String {
    let mut lines = vec![String::new()];
    for word in text.split_whitespace() {
        let last = lines.last().map_or(0, |line| line.chars().count());
        if last > 0 && last + 1 + word.chars().count() > width {
            lines.push(String::new());
        }
        if let Some(line) = lines.last_mut() {
            if !line.is_empty() {
                line.push(' ');
            }
            line.push_str(word);
        }
    }
    lines.join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::{DENSITY, metric};

    #[test]
    fn lines_are_broken_at_spaces() {
        assert_eq!(wrap("one two three", 7), "one two\nthree");
        assert_eq!(wrap("extraordinary a b", 5), "extraordinary\na b");
        assert_eq!(wrap("", 5), "");
    }

    #[test]
    fn names_stay_whole_where_a_table_must_be_narrowed() {
        let wide = "some words that can be broken".to_owned();
        let table = Table {
            title: String::new(),
            head: vec!["target".into(), wide.clone(), wide.clone()],
            names: 1,
            rows: vec![vec!["microvm-linux".into(), wide.clone(), wide]],
        };
        let text = lay_out(&table, 36);
        assert!(text.contains("microvm-linux "), "{text}");
        assert!(text.lines().all(|line| line.chars().count() <= 36), "{text}");
    }

    #[test]
    fn instances_are_counted_without_the_word_in_each_cell() {
        let row = SummaryRow {
            experiment: DENSITY.into(),
            metric: metric::REACHED.into(),
            target: "native".into(),
            unit: "instances".into(),
            median: Some(12.0),
            ..SummaryRow::default()
        };
        let tables = main_tables(&[row]);
        assert_eq!((&tables[0].head[1], &tables[0].rows[0][1]), (&"instances".to_owned(), &"12".to_owned()));
    }

    #[test]
    fn a_reason_for_many_workloads_is_told_once() {
        let row = |workload: &str| SummaryRow {
            experiment: "neighbours".into(),
            workload: workload.into(),
            target: "container".into(),
            verdict: Some(Verdict::Skipped),
            reason: Some("refused".into()),
            ..SummaryRow::default()
        };
        let lines = remarks(&RunInfo::default(), &[row("one"), row("other"), row("one")]);
        assert_eq!(lines, ["Skipped neighbours/one, other in container: refused"]);
    }

    #[test]
    fn a_recording_without_values_says_so() {
        assert!(render(&RunInfo::default(), &[], &[], 100).contains("nothing"));
    }
}
