//! What one running, idle instance costs the host: one group of bars a method, one bar a target.

use super::axis::Axis;
use super::frame::{self, BODY, FOOT, HEAD, Legend, MARGIN, SMALL, width};
use super::palette::{FAINT_INK, INK, look};
use super::picture::{Align, Picture, tidy};
use crate::record::metric;
use crate::summary::SummaryRow;
use crate::units::format_value;

const LEFT: f64 = 236.0;
const RIGHT: f64 = 100.0;
const BAR: f64 = 18.0;
const STEP: f64 = 23.0;
const GAP: f64 = 22.0;
/// Ratio of the largest to the smallest amount from which steps of the axis are ratios.
const LOG_FROM: f64 = 30.0;

/// Methods in the order in which they are shown, and what each counts.
const METHODS: [(&str, &str, &str); 5] = [
    (metric::PSS, "PSS", "shared pages in parts"),
    (metric::USS, "USS", "its own pages alone"),
    (metric::RSS, "RSS", "shared pages in full"),
    (metric::CGROUP, "cgroup", "charged to its group"),
    (metric::MARGINAL, "marginal", "host, one instance more"),
];

/// The chart for one workload; `None` where no memory was measured.
pub fn draw(rows: &[SummaryRow], workload: &str) -> Option<Picture> {
    let of = |name: &'static str| {
        let own =
            |row: &&SummaryRow| row.experiment == "memory" && row.workload == workload && row.metric == name;
        rows.iter().filter(own).filter(|row| row.median.is_some()).collect::<Vec<_>>()
    };
    let groups: Vec<_> = METHODS
        .into_iter()
        .map(|(name, short, meaning)| (short, meaning, of(name)))
        .filter(|(_, _, rows)| !rows.is_empty())
        .collect();
    let mut targets: Vec<&str> = Vec::new();
    for row in groups.iter().flat_map(|(_, _, rows)| rows) {
        if !targets.contains(&row.target.as_str()) {
            targets.push(&row.target);
        }
    }
    if groups.is_empty() {
        return None;
    }
    let group_height = |rows: &[&SummaryRow]| (STEP * crate::stats::count(rows.len())).max(40.0) + GAP;
    let legend =
        Legend::new(targets.iter().map(|target| (tidy(target, 20), look(target, targets.iter().copied()))));
    let top = HEAD + legend.height();
    let bottom = top + groups.iter().map(|(_, _, rows)| group_height(rows)).sum::<f64>();
    let mut picture = frame::begin(
        bottom + FOOT + 8.0,
        &format!("Memory of one idle instance ({})", tidy(workload, 40)),
        "Each method hides something: read them together. Bars: medians, monitor and helpers included; lines: 95 % intervals.",
    );
    let axis = axis_of(groups.iter().flat_map(|(_, _, rows)| rows.iter().copied()));
    let name = if axis.is_log() { "memory, logarithmic" } else { "memory" };
    frame::axis(&mut picture, &axis, "bytes", (top, bottom), name);
    let mut y = top + GAP / 2.0;
    for (short, meaning, rows) in &groups {
        picture.text((MARGIN, y + 10.0), short, BODY, INK, Align::Left);
        picture.text((MARGIN, y + 30.0), meaning, SMALL, FAINT_INK, Align::Left);
        for (place, row) in rows.iter().enumerate() {
            draw_bar(&mut picture, row, &axis, y + STEP * crate::stats::count(place), &targets);
        }
        y += group_height(rows);
    }
    legend.draw(&mut picture);
    Some(picture)
}

fn axis_of<'a>(rows: impl Iterator<Item = &'a SummaryRow>) -> Axis {
    let ends = rows.flat_map(|row| [row.median, row.ci95.map(|interval| interval.high)]).flatten();
    // A slope may come out at nought or less where the host's noise is larger than an instance.
    let shown: Vec<f64> = ends.filter(|value| *value > 0.0).collect();
    let low = shown.iter().copied().fold(f64::INFINITY, f64::min);
    let high = shown.iter().copied().fold(0.0, f64::max);
    let pixels = (LEFT, width() - MARGIN - RIGHT);
    if high / low > LOG_FROM {
        Axis::logarithmic(low / 3.0, high, pixels)
    } else {
        Axis::linear(0.0, high, pixels)
    }
}

fn draw_bar(picture: &mut Picture, row: &SummaryRow, axis: &Axis, top: f64, targets: &[&str]) {
    let own = look(&row.target, targets.iter().copied());
    let median = row.median.unwrap_or_default();
    let middle = top + BAR / 2.0;
    let mut end = axis.at(median);
    picture.rectangle((LEFT, top), (end, top + BAR), own.color);
    picture.mark((LEFT - 12.0, middle), own.marker, own.color, 5.0);
    if let Some(interval) = row.ci95 {
        frame::interval(picture, axis, interval, middle, 2.0);
        end = end.max(axis.at(interval.high));
    }
    picture.text((end + 10.0, middle), &format_value(median, "bytes"), SMALL, INK, Align::Left);
}
