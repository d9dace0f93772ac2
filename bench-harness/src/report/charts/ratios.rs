//! Overhead: the time of the same work over its time as a bare process, one row a workload.

use super::axis::Axis;
use super::frame::{self, BODY, FOOT, HEAD, Legend, MARGIN, SMALL, width};
use super::palette::{BAND, INK, look};
use super::picture::{Align, Picture, tidy};
use crate::record::{BASELINE, metric};
use crate::summary::{SAME_WITHIN, SummaryRow, Verdict};
use crate::units::format_ratio;

const LEFT: f64 = 150.0;
/// Where the column of figures begins, from the right edge.
const FIGURES: f64 = 232.0;
const STEP: f64 = 21.0;
const GAP: f64 = 14.0;
/// The axis reaches at least so far to both sides of 1, so that noise does not look like a difference.
const REACH: f64 = 1.1;
/// Where most ratios lie near 1, the axis ends here, and what is beyond is an arrow: two per cent stay visible beside
/// a factor of ten.
const NEAR: f64 = 1.5;

/// The chart; `None` where nothing could be compared.
pub fn draw(rows: &[SummaryRow]) -> Option<Picture> {
    let absent = absent_targets(rows);
    let workloads = workloads_of(rows, &absent);
    let shown: Vec<_> = workloads.iter().flat_map(|(_, rows)| rows.iter().copied()).collect();
    if !shown.iter().any(|row| row.ratio.is_some()) {
        return None;
    }
    let mut targets: Vec<&str> = Vec::new();
    for row in &shown {
        if !targets.contains(&row.target.as_str()) {
            targets.push(&row.target);
        }
    }
    let row_height = |rows: &[&SummaryRow]| STEP * crate::stats::count(rows.len()) + GAP;
    let named = targets.iter().map(|target| (tidy(target, 20), *target));
    let named = named.chain(absent.iter().map(|target| (format!("{}: skipped", tidy(target, 20)), *target)));
    let legend = Legend::new(named.map(|(name, target)| (name, look(target, targets.iter().copied()))));
    let top = HEAD + legend.height();
    let bottom = top + workloads.iter().map(|(_, rows)| row_height(rows)).sum::<f64>();
    let mut picture = frame::begin(
        bottom + FOOT + 8.0,
        "Overhead: time of the same work, over native",
        &reading(is_near(&shown)),
    );
    let axis = axis_of(&shown);
    let near = is_near(&shown);
    let right = width() - FIGURES;
    let mut y = top;
    for (_, rows) in workloads.iter().take(workloads.len() - 1) {
        y += row_height(rows);
        picture.line(&[(MARGIN, y), (width() - MARGIN, y)], BAND, 1.0);
    }
    picture.rectangle((axis.at(1.0 - SAME_WITHIN), top), (axis.at(1.0 + SAME_WITHIN), bottom), BAND);
    frame::axis(&mut picture, &axis, "", (top, bottom), "ratio of medians to native, logarithmic");
    picture.line(&[(axis.at(1.0), top), (axis.at(1.0), bottom)], INK, 1.5);
    let mut y = top;
    for (workload, rows) in &workloads {
        let middle = y + row_height(rows) / 2.0;
        picture.text((MARGIN, middle), &tidy(workload, 14), BODY, INK, Align::Left);
        for (lane, row) in rows.iter().enumerate() {
            let at = y + GAP / 2.0 + STEP * (crate::stats::count(lane) + 0.5);
            draw_point(&mut picture, row, &axis, near, at, &targets);
            picture.text((right + 14.0, at), &figures(row), SMALL, INK, Align::Left);
        }
        y += row_height(rows);
    }
    legend.draw(&mut picture);
    Some(picture)
}

/// Targets that took no part in anything: said once in the legend, not in every row.
fn absent_targets(rows: &[SummaryRow]) -> Vec<&str> {
    let own = || rows.iter().filter(|row| row.experiment == "overhead" && row.target != BASELINE);
    let took_part =
        |target: &str| own().any(|row| row.target == target && row.verdict != Some(Verdict::Skipped));
    let mut absent: Vec<&str> =
        own().map(|row| row.target.as_str()).filter(|target| !took_part(target)).collect();
    absent.sort_unstable();
    absent.dedup();
    absent
}

/// Rows by workload: of the time that the workload measured, or of the host's where there is none.
fn workloads_of<'a>(rows: &'a [SummaryRow], absent: &[&str]) -> Vec<(&'a str, Vec<&'a SummaryRow>)> {
    let mut workloads: Vec<(&'a str, Vec<&'a SummaryRow>)> = Vec::new();
    let shown = |row: &&SummaryRow| {
        row.experiment == "overhead" && row.target != BASELINE && !absent.contains(&row.target.as_str())
    };
    for name in [metric::TIME_PER_OP, metric::HOST_WALL] {
        for row in rows.iter().filter(shown).filter(|row| row.metric == name) {
            match workloads.iter_mut().find(|(workload, _)| *workload == row.workload) {
                Some((_, known)) if known[0].metric == row.metric => known.push(row),
                Some(_) => {}
                None => workloads.push((&row.workload, vec![row])),
            }
        }
    }
    workloads
}

fn reading(near: bool) -> String {
    let same = format!(
        "Right of 1: slower than a bare process. Lines: 95 % intervals. Grey: within {:.0} %",
        SAME_WITHIN * 100.0
    );
    if near { format!("{same}. Arrows: beyond the axis.") } else { format!("{same}, called the same.") }
}

/// Whether the axis is kept to the neighbourhood of 1: where some ratios are beyond, and fewer than those within.
fn is_near(rows: &[&SummaryRow]) -> bool {
    let within = |ratio: f64| (1.0 / NEAR..=NEAR).contains(&ratio);
    let ratios: Vec<f64> = rows.iter().filter_map(|row| row.ratio).collect();
    let inside = ratios.iter().filter(|ratio| within(**ratio)).count();
    inside < ratios.len() && 2 * inside >= ratios.len()
}

fn axis_of(rows: &[&SummaryRow]) -> Axis {
    let pixels = (LEFT, width() - FIGURES);
    if is_near(rows) {
        // A little further than the limit, so that what is just within does not touch the arrows.
        return Axis::logarithmic(1.0 / NEAR / 1.04, NEAR * 1.04, pixels);
    }
    let ends = |row: &&SummaryRow| {
        let interval = row.ratio_ci95;
        [row.ratio, interval.map(|interval| interval.low), interval.map(|interval| interval.high)]
    };
    let shown: Vec<f64> = rows.iter().flat_map(ends).flatten().filter(|ratio| *ratio > 0.0).collect();
    let low = shown.iter().copied().fold(1.0 / REACH, f64::min);
    let high = shown.iter().copied().fold(REACH, f64::max);
    let air = (high / low).powf(0.03);
    Axis::logarithmic(low / air, high * air, pixels)
}

fn draw_point(picture: &mut Picture, row: &SummaryRow, axis: &Axis, near: bool, y: f64, targets: &[&str]) {
    let own = look(&row.target, targets.iter().copied());
    let Some(ratio) = row.ratio else { return };
    if near && !(1.0 / NEAR..=NEAR).contains(&ratio) {
        let (way, x) = if ratio > 1.0 { (1.0, axis.at(f64::MAX)) } else { (-1.0, axis.at(0.0)) };
        // As much of it as is on the axis: a ratio far off may still be none.
        if let Some(interval) = row.ratio_ci95 {
            frame::interval(picture, axis, interval, y, 1.5);
        }
        picture.line(&[(x - way * 22.0, y), (x, y)], own.color, 2.0);
        picture.line(&[(x - way * 6.0, y - 5.0), (x, y), (x - way * 6.0, y + 5.0)], own.color, 2.0);
        picture.mark((x - way * 24.0, y), own.marker, own.color, 5.0);
        return;
    }
    picture.mark((axis.at(ratio), y), own.marker, own.color, 6.5);
    // Over the mark, since a good interval is narrower than that.
    if let Some(interval) = row.ratio_ci95 {
        frame::interval(picture, axis, interval, y, 1.5);
    }
}

/// The ratio in figures, or why there is none.
fn figures(row: &SummaryRow) -> String {
    match (row.ratio, row.ratio_ci95, row.verdict) {
        (Some(ratio), Some(interval), _) => format!(
            "{} [{}, {}]",
            format_ratio(ratio),
            format_ratio(interval.low),
            format_ratio(interval.high)
        ),
        (Some(ratio), None, _) => format!("{} (n = {})", format_ratio(ratio), row.n),
        (None, _, Some(verdict @ (Verdict::Skipped | Verdict::Failed))) => {
            format!("{}: {}", tidy(&row.target, 13), verdict.word())
        }
        (None, _, _) => "no ratio".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_axis_holds_the_band_of_the_same_even_where_all_ratios_are_one() {
        let axis = axis_of(&[]);
        assert!(axis.at(1.0 - SAME_WITHIN) > LEFT);
        assert!(axis.at(1.0 + SAME_WITHIN) < width() - FIGURES);
    }
}
