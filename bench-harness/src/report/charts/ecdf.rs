//! The distribution of start-up times: for every time, the share of launches that were ready by then.

use super::axis::Axis;
use super::frame::{self, FOOT, HEAD, Legend, MARGIN, SMALL, width};
use super::palette::{FAINT_INK, GRID, look};
use super::picture::{Align, Picture, Spot, tidy};
use crate::stats::{count, describe};
use crate::units::format_value;

const LEFT: f64 = 84.0;
const PLOT: f64 = 330.0;
/// Ratio of the longest to the shortest time from which steps of the axis are ratios.
const LOG_FROM: f64 = 8.0;

/// The chart of the launches' values by target; `None` where there are none.
pub fn draw(launches: &[(&str, Vec<f64>)], workload: &str) -> Option<Picture> {
    let curves: Vec<_> = launches
        .iter()
        .filter(|(_, values)| !values.is_empty())
        .map(|(target, values)| (*target, describe::sorted(values)))
        .collect();
    let low = curves.iter().map(|(_, values)| values[0]).fold(f64::INFINITY, f64::min);
    let high = curves.iter().filter_map(|(_, values)| values.last().copied()).fold(0.0, f64::max);
    if curves.is_empty() {
        return None;
    }
    let targets: Vec<_> = curves.iter().map(|(target, _)| *target).collect();
    let legend = Legend::new(curves.iter().map(|(target, values)| {
        let median = format_value(describe::median(values).unwrap_or_default(), "ns");
        let name = format!("{} {median} (n = {})", tidy(target, 20), values.len());
        (name, look(target, targets.iter().copied()))
    }));
    let top = HEAD + legend.height();
    let bottom = top + PLOT;
    let mut picture = frame::begin(
        bottom + FOOT + 8.0,
        &format!("Start-up of {}: time to the first byte", tidy(workload, 32)),
        "Height: share of launches whose first byte had come by then. Steeper is steadier, further left is faster.",
    );
    let pixels = (LEFT, width() - MARGIN - 20.0);
    let axis = if high / low > LOG_FROM {
        Axis::logarithmic(low / 1.1, high * 1.1, pixels)
    } else {
        let air = ((high - low) * 0.05).max(high * 0.01).max(0.5);
        Axis::linear((low - air).max(0.0), high + air, pixels)
    };
    let name = if axis.is_log() { "ready_ns, logarithmic" } else { "ready_ns" };
    frame::axis(&mut picture, &axis, "ns", (top, bottom), name);
    let height = |share: f64| bottom - share * PLOT;
    for share in [0.0, 0.25, 0.5, 0.75, 1.0] {
        picture.line(&[(LEFT, height(share)), (pixels.1, height(share))], GRID, 1.0);
        let text = format!("{:.0} %", share * 100.0);
        picture.text((LEFT - 8.0, height(share)), &text, SMALL, FAINT_INK, Align::Right);
    }
    for (target, values) in &curves {
        let own = look(target, targets.iter().copied());
        picture.dashed(&steps(values, &axis, height), own.color, 2.5, own.dash);
        let median = describe::median(values).unwrap_or_default();
        picture.mark((axis.at(median), height(0.5)), own.marker, own.color, 6.0);
    }
    legend.draw(&mut picture);
    Some(picture)
}

/// The corners of the curve: up by one launch at every value.
fn steps(values: &[f64], axis: &Axis, height: impl Fn(f64) -> f64) -> Vec<Spot> {
    let total = count(values.len());
    let mut spots = vec![(axis.at(values[0]), height(0.0))];
    for (place, value) in values.iter().enumerate() {
        let x = axis.at(*value);
        spots.push((x, height(count(place) / total)));
        spots.push((x, height(count(place + 1) / total)));
    }
    spots
}
