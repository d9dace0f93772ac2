//! Memory of the host over the number of idle instances, one curve a target.

use std::collections::BTreeMap;

use super::axis::Axis;
use super::frame::{self, FOOT, HEAD, Legend, MARGIN, SMALL, width};
use super::palette::{FAINT_INK, GRID, look};
use super::picture::{Align, Picture, tidy};
use crate::record::{DENSITY, Sample, Status, metric};
use crate::stats::{Interval, count, median, order};
use crate::summary::target_place;

const LEFT: f64 = 104.0;
const PLOT: f64 = 340.0;
/// Marks of one target beside those of another, so that both can be seen where they lie together.
const ASIDE: f64 = 5.0;
/// From the numbers of the axis to the axis: the marks at no instance lie between.
const NUMBERS: f64 = 17.0;

/// What the host's memory grew by since none ran, at each number of instances: a value a round.
type Curve = BTreeMap<u32, Vec<f64>>;

/// A number of instances, the median there, and its interval.
type Point = (u32, f64, Option<Interval>);

/// The chart for one workload; `None` where there are no curves.
pub fn draw(samples: &[Sample], workload: &str) -> Option<Picture> {
    let curves = curves_of(samples, workload);
    let most =
        curves.iter().filter_map(|(_, curve)| curve.keys().last().copied()).max().filter(|&n| n > 0)?;
    let targets: Vec<&str> = curves.iter().map(|(target, _)| *target).collect();
    let legend =
        Legend::new(targets.iter().map(|target| (tidy(target, 20), look(target, targets.iter().copied()))));
    let top = HEAD + legend.height();
    let bottom = top + PLOT;
    let mut picture = frame::begin(
        bottom + FOOT + 8.0,
        &format!("Memory of the host over idle instances ({})", tidy(workload, 32)),
        "Medians of the rounds, above what was used with none running; lines: 95 % intervals. Steeper takes more.",
    );
    let points: Vec<(&str, Vec<Point>)> = curves
        .iter()
        .map(|(target, curve)| {
            let of = |(number, values): (&u32, &Vec<f64>)| {
                let sorted = crate::stats::describe::sorted(values);
                Some((*number, median(values)?, order::interval_of_sorted(&sorted, 0.5)))
            };
            (*target, curve.iter().filter_map(of).collect())
        })
        .collect();
    let all = || points.iter().flat_map(|(_, points)| points);
    let high =
        all().map(|(_, middle, interval)| interval.map_or(*middle, |found| found.high)).fold(1.0, f64::max);
    let low =
        all().map(|(_, middle, interval)| interval.map_or(*middle, |found| found.low)).fold(0.0, f64::min);
    let pixels = (LEFT, width() - MARGIN - 20.0);
    let across = Axis::linear(0.0, f64::from(most), pixels);
    frame::axis(&mut picture, &across, "", (top, bottom), "instances that idle at the same time");
    let up = Axis::linear(low, high * 1.04, (0.0, PLOT));
    let height = |value: f64| bottom - up.at(value);
    for tick in up.ticks("bytes", 56.0) {
        picture.line(&[(LEFT, height(tick.value)), (pixels.1, height(tick.value))], GRID, 1.0);
        picture.text((LEFT - NUMBERS, height(tick.value)), &tick.label, SMALL, FAINT_INK, Align::Right);
    }
    for (place, (target, points)) in points.iter().enumerate() {
        let own = look(target, targets.iter().copied());
        let aside = (count(place) - count(targets.len() - 1) / 2.0) * ASIDE;
        let line: Vec<_> = points
            .iter()
            .map(|(number, middle, _)| (across.at(f64::from(*number)), height(*middle)))
            .collect();
        picture.dashed(&line, own.color, 2.5, own.dash);
        for (number, middle, interval) in points {
            let x = across.at(f64::from(*number)) + aside;
            if let Some(interval) = interval {
                let (from, to) = (height(interval.low), height(interval.high));
                picture.line(&[(x, from), (x, to)], own.color, 1.5);
                for end in [from, to] {
                    picture.line(&[(x - 3.0, end), (x + 3.0, end)], own.color, 1.5);
                }
            }
            picture.mark((x, height(*middle)), own.marker, own.color, 4.0);
        }
    }
    legend.draw(&mut picture);
    Some(picture)
}

fn curves_of<'a>(samples: &'a [Sample], workload: &str) -> Vec<(&'a str, Curve)> {
    let own = |sample: &&Sample| {
        sample.experiment == DENSITY
            && sample.workload == workload
            && sample.metric == metric::HOST_USED
            && sample.status == Status::Ok
    };
    let mut bases = BTreeMap::new();
    for sample in samples.iter().filter(own).filter(|sample| sample.iteration == 0) {
        bases.insert((sample.target.as_str(), sample.block), sample.value);
    }
    let mut curves: Vec<(&str, Curve)> = Vec::new();
    for sample in samples.iter().filter(own) {
        let base = bases.get(&(sample.target.as_str(), sample.block)).copied().flatten();
        let Some((value, base)) = sample.value.zip(base) else { continue };
        let place = curves.iter().position(|(target, _)| *target == sample.target).unwrap_or_else(|| {
            curves.push((&sample.target, Curve::new()));
            curves.len() - 1
        });
        curves[place].1.entry(sample.iteration).or_default().push(value - base);
    }
    curves.sort_by_key(|&(target, _)| target_place(target));
    curves
}
