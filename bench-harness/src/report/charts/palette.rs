//! Colours, marks and dashes. A target looks the same in every chart, and is told by shape as well as by colour.

use plotters::style::RGBColor;

use super::picture::Spot;
use crate::summary::TARGETS;

/// The card that every chart stands on: its own background, so that it reads the same on a light and a dark page.
pub const PAGE: RGBColor = RGBColor(255, 255, 255);
/// Texts and axes.
pub const INK: RGBColor = RGBColor(34, 34, 34);
/// Texts of lesser weight.
pub const FAINT_INK: RGBColor = RGBColor(95, 95, 95);
/// Lines of the grid.
pub const GRID: RGBColor = RGBColor(222, 222, 222);
/// Areas that are to be read as one, behind the data.
pub const BAND: RGBColor = RGBColor(238, 238, 238);

/// Colours of Okabe & Ito, *Color Universal Design*, 2008, told apart with every common kind of colour blindness; the
/// yellow, too faint on white, is left out.
const TARGET_COLORS: [RGBColor; 7] = [
    RGBColor(0, 114, 178),
    RGBColor(213, 94, 0),
    RGBColor(0, 158, 115),
    RGBColor(204, 121, 167),
    RGBColor(230, 159, 0),
    RGBColor(86, 180, 233),
    RGBColor(80, 80, 80),
];

/// The muted scheme of Paul Tol, *Colour Schemes*, SRON/EPS/TN/09-002, 2021, in an order in which neighbours differ in
/// lightness too.
const PHASE_COLORS: [RGBColor; 9] = [
    RGBColor(51, 34, 136),
    RGBColor(221, 204, 119),
    RGBColor(17, 119, 51),
    RGBColor(136, 204, 238),
    RGBColor(136, 34, 85),
    RGBColor(68, 170, 153),
    RGBColor(204, 102, 119),
    RGBColor(153, 153, 51),
    RGBColor(170, 68, 153),
];

/// How many phases of one bar can be told apart.
pub const PHASES: usize = PHASE_COLORS.len();

/// The colour of the phase at `place` among all.
pub fn phase_color(place: usize) -> RGBColor {
    PHASE_COLORS[place % PHASE_COLORS.len()]
}

/// The form of a mark.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Marker {
    /// Round.
    Circle,
    /// With level sides.
    Square,
    /// Point up.
    Triangle,
    /// On a corner.
    Diamond,
    /// Point down.
    Wedge,
    /// Five corners.
    Pentagon,
    /// Upright cross.
    Cross,
}

const MARKERS: [Marker; 7] = [
    Marker::Circle,
    Marker::Square,
    Marker::Triangle,
    Marker::Diamond,
    Marker::Wedge,
    Marker::Pentagon,
    Marker::Cross,
];

impl Marker {
    /// The corners around `at`; `None` for what has none. All cover about the same area.
    pub fn outline(self, at: Spot, radius: f64) -> Option<Vec<Spot>> {
        let turned = |corners: u32, start: f64, size: f64| {
            let angle = move |corner| start + std::f64::consts::TAU * f64::from(corner) / f64::from(corners);
            let spot =
                move |angle: f64| (at.0 + radius * size * angle.sin(), at.1 - radius * size * angle.cos());
            Some((0..corners).map(move |corner| spot(angle(corner))).collect())
        };
        let half = std::f64::consts::PI;
        match self {
            Self::Circle => None,
            Self::Square => turned(4, half / 4.0, 1.25),
            Self::Triangle => turned(3, 0.0, 1.4),
            Self::Diamond => turned(4, 0.0, 1.3),
            Self::Wedge => turned(3, half, 1.4),
            Self::Pentagon => turned(5, 0.0, 1.15),
            Self::Cross => {
                let (arm, thick) = (radius * 1.2, radius * 0.45);
                let corners = [(thick, arm), (arm, thick), (arm, -thick), (thick, -arm)];
                let mirrored = corners.iter().map(|(x, y)| (-x, -y));
                Some(corners.iter().copied().chain(mirrored).map(|(x, y)| (at.0 + x, at.1 - y)).collect())
            }
        }
    }
}

/// How a line is broken, in pixels of line and gap; nothing for one that is not.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Dash(&'static [f64]);

const DASHES: [Dash; 7] = [
    Dash(&[]),
    Dash(&[9.0, 3.0]),
    Dash(&[4.0, 3.0]),
    Dash(&[12.0, 3.0, 3.0, 3.0]),
    Dash(&[2.0, 2.0]),
    Dash(&[16.0, 4.0]),
    Dash(&[6.0, 6.0]),
];

impl Dash {
    /// The pieces that a line falls into.
    pub fn pieces(self, points: &[Spot]) -> Vec<Vec<Spot>> {
        if self.0.is_empty() {
            return vec![points.to_vec()];
        }
        let mut pieces = Vec::new();
        let mut piece: Vec<Spot> = points.first().copied().into_iter().collect();
        let (mut part, mut left) = (0, self.0[0]);
        for ends in points.windows(2) {
            let (mut from, to) = (ends[0], ends[1]);
            let mut length = (to.0 - from.0).hypot(to.1 - from.1);
            while length > left {
                let share = left / length;
                from = (from.0 + (to.0 - from.0) * share, from.1 + (to.1 - from.1) * share);
                length -= left;
                if part % 2 == 0 {
                    piece.push(from);
                    pieces.push(std::mem::take(&mut piece));
                } else {
                    piece = vec![from];
                }
                part = (part + 1) % self.0.len();
                left = self.0[part];
            }
            left -= length;
            if part % 2 == 0 {
                piece.push(to);
            }
        }
        if piece.len() > 1 {
            pieces.push(piece);
        }
        pieces
    }
}

/// How a target looks.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Look {
    /// Of lines, bars and marks.
    pub color: RGBColor,
    /// Of single points.
    pub marker: Marker,
    /// Of lines.
    pub dash: Dash,
}

/// The look of a target, where `all` are those of the recording; known ones look the same in every recording.
pub fn look<'a>(target: &str, all: impl IntoIterator<Item = &'a str>) -> Look {
    let known = TARGETS.iter().position(|known| *known == target);
    let place = known.unwrap_or_else(|| {
        let mut others: Vec<_> = all.into_iter().filter(|other| !TARGETS.contains(other)).collect();
        others.sort_unstable();
        others.dedup();
        TARGETS.len() + others.iter().position(|other| *other == target).unwrap_or(0)
    });
    Look {
        color: TARGET_COLORS[place % TARGET_COLORS.len()],
        marker: MARKERS[place % MARKERS.len()],
        dash: DASHES[place % DASHES.len()],
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_targets_look_the_same_whatever_else_there_is() {
        assert_eq!(look("microvm", ["microvm"]), look("microvm", ["a", "b", "microvm"]));
        assert_ne!(look("native", []).marker, look("container", []).marker);
        assert_ne!(look("a", ["a", "b"]).color, look("b", ["a", "b"]).color);
    }

    #[test]
    fn a_dashed_line_keeps_its_parity_around_corners() {
        let dash = Dash(&[4.0, 2.0]);
        let pieces = dash.pieces(&[(0.0, 0.0), (3.0, 0.0), (3.0, 9.0)]);
        assert_eq!(pieces, [vec![(0.0, 0.0), (3.0, 0.0), (3.0, 1.0)], vec![(3.0, 3.0), (3.0, 7.0)],]);
        assert_eq!(Dash(&[]).pieces(&[(0.0, 0.0)]), [[(0.0, 0.0)]]);
        assert!(dash.pieces(&[]).is_empty());
    }
}
