//! What all charts have in common: title, axis lines and legend.

use super::axis::Axis;
use super::palette::{FAINT_INK, GRID, INK, Look};
use super::picture::{Align, Picture, text_width, tidy};
use crate::stats::Interval;

/// Width of every chart.
pub const WIDTH: u32 = 920;
/// Free space at the edges.
pub const MARGIN: f64 = 24.0;
/// Height that the title and the line below it take.
pub const HEAD: f64 = 78.0;
/// Height that an axis with its numbers and its name takes.
pub const FOOT: f64 = 48.0;
/// Size of the title.
pub const TITLE: f64 = 23.0;
/// Size of names and values.
pub const BODY: f64 = 16.0;
/// Size of numbers at an axis and remarks.
pub const SMALL: f64 = 14.0;
/// Least distance of numbers at an axis.
pub const TICK_DISTANCE: f64 = 88.0;

/// The width as a number to reckon with.
pub fn width() -> f64 {
    f64::from(WIDTH)
}

/// A picture so high, with what it shows and how to read it.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a height of some hundred pixels"
)]
pub fn begin(height: f64, title: &str, reading: &str) -> Picture {
    let mut picture = Picture::new(WIDTH, height.round().clamp(100.0, 8000.0) as u32);
    picture.text((MARGIN, 28.0), title, TITLE, INK, Align::Left);
    picture.text((MARGIN, 54.0), reading, SMALL, FAINT_INK, Align::Left);
    picture
}

/// Vertical lines at the ticks from `top` to `bottom`, their names and the axis' own name below.
pub fn axis(picture: &mut Picture, axis: &Axis, unit: &str, (top, bottom): (f64, f64), name: &str) {
    let ticks = axis.ticks(unit, TICK_DISTANCE);
    for tick in ticks {
        let x = axis.at(tick.value);
        picture.line(&[(x, top), (x, bottom)], GRID, 1.0);
        picture.text((x, bottom + 13.0), &tick.label, SMALL, FAINT_INK, Align::Middle);
    }
    picture.text((width() - MARGIN, bottom + 33.0), name, SMALL, INK, Align::Right);
}

/// An interval as a line with ends; an end beyond the axis is left open.
pub fn interval(picture: &mut Picture, axis: &Axis, interval: Interval, y: f64, width: f64) {
    let cap = 3.0 + width;
    picture.line(&[(axis.at(interval.low), y), (axis.at(interval.high), y)], INK, width);
    for end in [interval.low, interval.high].into_iter().filter(|end| axis.holds(*end)) {
        picture.line(&[(axis.at(end), y - cap), (axis.at(end), y + cap)], INK, width);
    }
}

/// Height of one line of a legend.
const LEGEND_LINE: f64 = 26.0;

/// Names with their marks, in as many lines as they need.
#[derive(Debug)]
pub struct Legend {
    lines: Vec<Vec<(String, Look)>>,
}

impl Legend {
    /// The legend of these names.
    pub fn new(entries: impl IntoIterator<Item = (String, Look)>) -> Self {
        let mut lines: Vec<Vec<(String, Look)>> = Vec::new();
        let mut used = f64::INFINITY;
        for (name, look) in entries {
            let name = tidy(&name, 60);
            if used + entry_width(&name) > width() - MARGIN {
                lines.push(Vec::new());
                used = MARGIN;
            }
            used += entry_width(&name);
            lines.last_mut().into_iter().for_each(|line| line.push((name.clone(), look)));
        }
        Self { lines }
    }

    /// The height that it takes, with the space below it.
    pub fn height(&self) -> f64 {
        4.0 + LEGEND_LINE * crate::stats::count(self.lines.len())
    }

    /// Draws it below the head.
    pub fn draw(&self, picture: &mut Picture) {
        let mut y = HEAD + 6.0;
        for line in &self.lines {
            let mut x = MARGIN;
            for (name, look) in line {
                picture.mark((x + 7.0, y), look.marker, look.color, 6.0);
                picture.text((x + 20.0, y), name, BODY, INK, Align::Left);
                x += entry_width(name);
            }
            y += LEGEND_LINE;
        }
    }
}

fn entry_width(name: &str) -> f64 {
    20.0 + text_width(name, BODY) + 22.0
}
