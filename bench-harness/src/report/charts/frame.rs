//! What all charts have in common: title, axis lines and legend.

use super::axis::Axis;
use super::palette::{FAINT_INK, GRID, INK, Look};
use super::picture::{Align, Picture, text_width, tidy};

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

/// Names with their marks in one line from `x` on, and no further than the right margin.
pub fn legend(picture: &mut Picture, entries: &[(String, Look)], mut x: f64, y: f64) {
    for (name, look) in entries {
        let name = tidy(name, 60);
        let room = text_width(&name, BODY);
        if x + 22.0 + room > width() - MARGIN {
            break;
        }
        picture.mark((x + 7.0, y), look.marker, look.color, 6.0);
        picture.text((x + 20.0, y), &name, BODY, INK, Align::Left);
        x += 20.0 + room + 22.0;
    }
}
