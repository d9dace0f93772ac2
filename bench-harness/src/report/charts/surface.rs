//! Surface: how many different system calls of the host an instance makes, one group of bars a workload.

use super::axis::Axis;
use super::frame::{self, BODY, FOOT, HEAD, Legend, MARGIN, SMALL, width};
use super::palette::{INK, look};
use super::picture::{Align, Picture, tidy};
use crate::record::metric;
use crate::report::distinct;
use crate::summary::SummaryRow;

const LEFT: f64 = 170.0;
const RIGHT: f64 = 150.0;
const BAR: f64 = 18.0;
const STEP: f64 = 23.0;
const GAP: f64 = 22.0;

/// The chart; `None` where no calls were counted.
pub fn draw(rows: &[SummaryRow]) -> Option<Picture> {
    let own = |row: &&SummaryRow| row.experiment == "surface" && row.median.is_some();
    let mut groups: Vec<(&str, Vec<&SummaryRow>)> = Vec::new();
    for row in rows.iter().filter(own).filter(|row| row.metric == metric::SYSTEM_CALLS) {
        match groups.iter_mut().find(|(workload, _)| *workload == row.workload) {
            Some((_, group)) => group.push(row),
            None => groups.push((&row.workload, vec![row])),
        }
    }
    let targets = distinct(groups.iter().flat_map(|(_, rows)| rows).map(|row| row.target.as_str()));
    if groups.is_empty() {
        return None;
    }
    let made = |row: &SummaryRow| {
        let same = |other: &&SummaryRow| {
            other.metric == metric::SYSTEM_CALLS_MADE
                && (&other.workload, &other.target) == (&row.workload, &row.target)
        };
        rows.iter().filter(own).find(same).and_then(|row| row.median)
    };
    let height = |rows: &[&SummaryRow]| STEP * crate::stats::count(rows.len()) + GAP;
    let legend =
        Legend::new(targets.iter().map(|target| (tidy(target, 20), look(target, targets.iter().copied()))));
    let top = HEAD + legend.height();
    let bottom = top + groups.iter().map(|(_, rows)| height(rows)).sum::<f64>();
    let mut picture = frame::begin(
        bottom + FOOT + 8.0,
        "Surface: different system calls that reach the host",
        "All processes of an instance, from their first call to their last. In brackets: calls in all. Fewer is not safer.",
    );
    let most = groups.iter().flat_map(|(_, rows)| rows).filter_map(|row| row.median).fold(0.0, f64::max);
    let axis = Axis::linear(0.0, most, (LEFT, width() - MARGIN - RIGHT));
    frame::axis(&mut picture, &axis, "", (top, bottom), "different system calls");
    let mut y = top + GAP / 2.0;
    for (workload, rows) in &groups {
        let middle = y + STEP * crate::stats::count(rows.len()) / 2.0;
        picture.text((MARGIN, middle), &tidy(workload, 14), BODY, INK, Align::Left);
        for (place, row) in rows.iter().enumerate() {
            let own = look(&row.target, targets.iter().copied());
            let at = y + STEP * crate::stats::count(place);
            let median = row.median.unwrap_or_default();
            let end = axis.at(median);
            picture.rectangle((LEFT, at), (end, at + BAR), own.color);
            picture.mark((LEFT - 12.0, at + BAR / 2.0), own.marker, own.color, 5.0);
            let text = match made(row) {
                Some(made) => format!("{median:.0} ({made:.0})"),
                None => format!("{median:.0}"),
            };
            picture.text((end + 10.0, at + BAR / 2.0), &tidy(&text, 18), SMALL, INK, Align::Left);
        }
        y += height(rows);
    }
    legend.draw(&mut picture);
    Some(picture)
}
