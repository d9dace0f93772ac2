//! The ladder: how far each rung's start reaches, and what each layer costs in several respects.

use super::axis::Axis;
use super::frame::{self, BODY, FOOT, HEAD, Legend, MARGIN, SMALL, width};
use super::palette::{BAND, FAINT_INK, GRID, INK, Look, look};
use super::picture::{Align, Picture, text_width, tidy};
use crate::record::{BASELINE, LADDER, metric};
use crate::report::distinct;
use crate::report::ladder::{reach, short};
use crate::summary::SummaryRow;
use crate::target::rung::fills_memory;
use crate::units::format_value;

/// Where the bars and the first panel begin.
const LEFT: f64 = 218.0;
const RIGHT: f64 = 92.0;
const STEP: f64 = 26.0;
const BAR: f64 = 16.0;
/// Free space between two panels.
const BETWEEN: f64 = 26.0;
/// Panels of the costs: what each shows.
const PANELS: [(&str, &str); 5] = [
    (metric::READY, "start"),
    (metric::TEARDOWN, "teardown"),
    (metric::DEFERRED, "CPU afterwards"),
    (metric::KERNEL, "kernel memory"),
    (metric::TIME_PER_OP, "a system call"),
];
/// Steps of the axis of a panel, at least so far apart: those with room for their name are drawn.
const TICK_DISTANCE: f64 = 16.0;
/// An axis reaches at most so many times as far as the largest median, however far the intervals do: a disturbed host must not
/// press all rows together.
const REACH: f64 = 4.0;

/// The kind of target that a rung belongs to, which gives it its look.
fn kind_of(rung: &str) -> &str {
    rung.split(':').next().unwrap_or(rung)
}

/// How far each rung's start reaches, and its whole life; `None` where no ladder was climbed.
pub fn climb(rows: &[SummaryRow]) -> Option<Picture> {
    let own = |name: &'static str| {
        rows.iter()
            .filter(move |row| row.experiment == LADDER && row.metric == name && row.median.is_some())
            .collect::<Vec<_>>()
    };
    let (ready, exit) = (own(metric::READY), own(metric::EXIT));
    if ready.is_empty() {
        return None;
    }
    let kinds = distinct(ready.iter().map(|row| kind_of(&row.target)));
    let legend = Legend::new(kinds.iter().map(|kind| (tidy(kind, 20), look(kind, kinds.iter().copied()))));
    let top = HEAD + legend.height();
    let bottom = top + STEP * crate::stats::count(ready.len());
    let mut picture = frame::begin(
        bottom + FOOT + 8.0,
        "The ladder: start and whole life, layer by layer",
        "Bars: median from start to first byte, 95 % interval. Open ends: until nothing is left. + adds to the rung above.",
    );
    // To fill in a machine's memory takes as long as its size says; it must not press all others together.
    let usual = || ready.iter().chain(&exit).filter(|row| !fills_memory(&row.target));
    let longest = usual().filter_map(|row| row.median).fold(1.0, f64::max);
    let ends = usual().filter_map(|row| row.ci95).map(|found| found.high.min(REACH * longest));
    let longest = ends.fold(longest, f64::max);
    let axis = Axis::linear(0.0, longest, (LEFT, width() - MARGIN - RIGHT));
    frame::axis(&mut picture, &axis, "ns", (top - 4.0, bottom), "time since start");
    for (place, row) in ready.iter().enumerate() {
        let y = top + STEP * (crate::stats::count(place) + 0.5);
        let own = look(kind_of(&row.target), kinds.iter().copied());
        picture.text((MARGIN, y), &tidy(short(&row.target), 22), SMALL, INK, Align::Left);
        let median = row.median.unwrap_or_default();
        let mut end = axis.at(median);
        picture.rectangle((LEFT, y - BAR / 2.0), (end, y + BAR / 2.0), own.color);
        if let Some(gone) = exit.iter().find(|other| other.target == row.target).and_then(|row| row.median) {
            let to = axis.at(gone);
            let (over, under) = (y - BAR / 2.0, y + BAR / 2.0);
            picture.line(&[(end, over), (to, over), (to, under), (end, under)], own.color, 1.5);
            end = end.max(to);
        }
        if let Some(interval) = row.ci95 {
            frame::interval(&mut picture, &axis, interval, y, 2.0);
            end = end.max(axis.at(interval.high));
        }
        let mut figure = format_value(median, "ns");
        if !axis.holds(median) {
            figure.push_str(" (cut)");
        }
        picture.text((end + 8.0, y), &figure, SMALL, INK, Align::Left);
    }
    legend.draw(&mut picture);
    Some(picture)
}

/// What each layer of a container costs, added and left out; `None` where that was not measured.
pub fn costs(rows: &[SummaryRow]) -> Option<Picture> {
    let own = |row: &&SummaryRow| {
        row.experiment == LADDER && row.metric.starts_with(metric::LAYER_PREFIX) && row.median.is_some()
    };
    let layers: Vec<&SummaryRow> =
        rows.iter().filter(own).filter(|row| kind_of(&row.target) == "container").collect();
    let rungs = distinct(layers.iter().map(|row| row.target.as_str()));
    let of = |rung: &str, name: &str| {
        layers
            .iter()
            .find(|row| row.target == rung && row.metric.strip_prefix(metric::LAYER_PREFIX) == Some(name))
    };
    let panels: Vec<_> =
        PANELS.into_iter().filter(|(name, _)| rungs.iter().any(|rung| of(rung, name).is_some())).collect();
    if rungs.is_empty() || panels.is_empty() {
        return None;
    }
    let looks = [look(BASELINE, []), look("container", [])];
    let legend = Legend::new([
        ("added to the layers above (+)".to_owned(), looks[0]),
        ("beside all others (-): whole less this".to_owned(), looks[1]),
    ]);
    let top = HEAD + legend.height() + 22.0;
    let bottom = top + STEP * crate::stats::count(rungs.len());
    let mut picture = frame::begin(
        bottom + FOOT,
        "What each layer of a container costs",
        "Differences within blocks, with their 95 % intervals. An interval that crosses the line at 0 shows no cost.",
    );
    let span = (width() - MARGIN - LEFT) / crate::stats::count(panels.len());
    for place in (0..rungs.len()).step_by(2) {
        let y = top + STEP * crate::stats::count(place);
        picture.rectangle((MARGIN, y), (width() - MARGIN, y + STEP), BAND);
    }
    for (place, rung) in rungs.iter().enumerate() {
        let y = top + STEP * (crate::stats::count(place) + 0.5);
        picture.text((MARGIN + 4.0, y), &tidy(short(rung), 22), SMALL, INK, Align::Left);
    }
    for (place, (name, title)) in panels.iter().enumerate() {
        let from = LEFT + span * crate::stats::count(place);
        let costs: Vec<_> = rungs.iter().map(|rung| of(rung, name).copied()).collect();
        panel(&mut picture, &costs, (from, from + span - BETWEEN), (top, bottom), title, looks);
    }
    legend.draw(&mut picture);
    Some(picture)
}

fn panel(
    picture: &mut Picture,
    costs: &[Option<&SummaryRow>],
    pixels: (f64, f64),
    (top, bottom): (f64, f64),
    title: &str,
    looks: [Look; 2],
) {
    let shown = || costs.iter().flatten();
    let unit = shown().next().map_or("", |row| row.unit.as_str());
    // By the figures and the intervals of most: one wild interval must not press all others together.
    let mut ends: Vec<f64> = shown().filter_map(|row| row.ci95.map(reach)).collect();
    ends.sort_by(f64::total_cmp);
    let medians = || shown().filter_map(|row| row.median);
    let largest = medians().map(f64::abs).fold(0.0, f64::max);
    let usual = ends.get(ends.len() * 3 / 4).copied().unwrap_or(0.0);
    let usual = if largest > 0.0 { usual.min(REACH * largest) } else { usual };
    let high = medians().fold(usual, f64::max) * 1.08;
    let low = medians().fold(-usual.min(high * 0.5), f64::min) * 1.08;
    let axis = Axis::linear(low.min(0.0), high.max(low.abs() * 0.1).max(1.0), pixels);
    // The title says what is one: `ns` will do for `ns/op`.
    let mut ticks = axis.ticks(unit.trim_end_matches("/op"), TICK_DISTANCE);
    // Nought is named first, the others where they find room beside it and keep clear of the next panel.
    ticks.sort_by(|one, other| one.value.abs().total_cmp(&other.value.abs()));
    let mut named: Vec<(f64, f64)> = Vec::new();
    for tick in ticks {
        let x = axis.at(tick.value);
        let half = text_width(&tick.label, SMALL) / 2.0;
        let own = x - half > pixels.0 - BETWEEN / 2.0 && x + half < pixels.1 + BETWEEN / 2.0;
        let free = named.iter().all(|(other, other_half)| (x - other).abs() > half + other_half + 4.0);
        if tick.value == 0.0 || (own && free) {
            picture.line(&[(x, top), (x, bottom)], GRID, 1.0);
            picture.text((x, bottom + 13.0), &tick.label, SMALL, FAINT_INK, Align::Middle);
            named.push((x, half));
        }
    }
    picture.line(&[(axis.at(0.0), top), (axis.at(0.0), bottom)], INK, 1.5);
    picture.text(((pixels.0 + pixels.1) / 2.0, top - 12.0), title, BODY, INK, Align::Middle);
    for (place, row) in costs.iter().enumerate().filter_map(|(place, row)| Some((place, (*row)?))) {
        let y = top + STEP * (crate::stats::count(place) + 0.5);
        let own = looks[usize::from(short(&row.target).starts_with('-'))];
        picture.mark((axis.at(row.median.unwrap_or_default()), y), own.marker, own.color, 5.0);
        if let Some(interval) = row.ci95 {
            frame::interval(picture, &axis, interval, y, 1.5);
        }
    }
}
