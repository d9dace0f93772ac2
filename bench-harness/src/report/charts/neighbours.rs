//! Neighbours: slow-down beside aggressors as a heat map, a row a target, a column an aggressor, a panel a figure.

use plotters::style::RGBColor;

use super::frame::{self, BODY, HEAD, MARGIN, SMALL, width};
use super::palette::{BAND, FAINT_INK, INK, PAGE};
use super::picture::{Align, Picture, tidy};
use crate::report::neighbours::{Panel, panels};
use crate::report::table;
use crate::summary::SummaryRow;
use crate::units::format_ratio;

const LEFT: f64 = 150.0;
const CELL: f64 = 38.0;
const PANEL_HEAD: f64 = 52.0;
const GAP: f64 = 18.0;
const LEGEND: f64 = 46.0;
/// Between two cells.
const RIM: f64 = 1.5;
/// The darkest colour stands for this slow-down and more.
const MOST: f64 = 16.0;
/// "Blues" of ColorBrewer (Harrower & Brewer, *The Cartographic Journal* 40(1), 2003): one hue that gets darker, so that
/// the order shows without a legend, in grey, and with every kind of colour blindness.
const COLORS: [RGBColor; 9] = [
    RGBColor(247, 251, 255),
    RGBColor(222, 235, 247),
    RGBColor(198, 219, 239),
    RGBColor(158, 202, 225),
    RGBColor(107, 174, 214),
    RGBColor(66, 146, 198),
    RGBColor(33, 113, 181),
    RGBColor(8, 81, 156),
    RGBColor(8, 48, 107),
];
/// From this colour on, white letters stand out more than dark ones.
const DARK: usize = 5;

/// The chart; `None` where no slow-down was found.
pub fn draw(rows: &[SummaryRow]) -> Option<Picture> {
    let has_figure = |panel: &Panel<'_>| {
        let of = |target: &&str| {
            panel.aggressors.iter().any(|aggressor| median(panel, target, aggressor).is_some())
        };
        panel.targets.iter().any(of)
    };
    let panels: Vec<Panel<'_>> = panels(rows).into_iter().filter(has_figure).collect();
    if panels.is_empty() {
        return None;
    }
    let height = |panel: &Panel<'_>| PANEL_HEAD + CELL * crate::stats::count(panel.targets.len()) + GAP;
    let whole = HEAD + panels.iter().map(height).sum::<f64>() + LEGEND;
    let mut picture = frame::begin(
        whole,
        "Neighbours: slow-down beside an aggressor in the same kind of target",
        "How many times as long the same work takes as alone. The darker, the slower; ?: the 95 % interval holds 1.",
    );
    let mut y = HEAD;
    for panel in &panels {
        draw_panel(&mut picture, y, panel);
        y += height(panel);
    }
    legend(&mut picture, y);
    Some(picture)
}

fn median(panel: &Panel<'_>, target: &str, aggressor: &str) -> Option<f64> {
    panel.of(target, aggressor)?.median
}

fn draw_panel(picture: &mut Picture, top: f64, panel: &Panel<'_>) {
    let Panel { victim, figure, aggressors, targets, .. } = panel;
    let title = format!("{}: {figure}", tidy(victim, 30));
    picture.text((MARGIN, top + 12.0), &title, BODY, INK, Align::Left);
    let across = (width() - MARGIN - LEFT) / crate::stats::count(aggressors.len().max(1));
    // As many letters as find room.
    let letters = room(across, SMALL);
    for (place, aggressor) in aggressors.iter().enumerate() {
        let middle = LEFT + across * (crate::stats::count(place) + 0.5);
        picture.text((middle, top + 38.0), &tidy(aggressor, letters), SMALL, FAINT_INK, Align::Middle);
    }
    for (row, target) in targets.iter().enumerate() {
        let y = top + PANEL_HEAD + CELL * crate::stats::count(row);
        picture.text((MARGIN, y + CELL / 2.0), &tidy(target, 14), BODY, INK, Align::Left);
        for (place, aggressor) in aggressors.iter().enumerate() {
            let x = LEFT + across * crate::stats::count(place);
            let one = panel.of(target, aggressor);
            let (color, ink) = match one.and_then(|row| row.median).map(step_of) {
                Some(step) => (COLORS[step], if step >= DARK { PAGE } else { INK }),
                None => (BAND, FAINT_INK),
            };
            let mut text = one.map_or_else(|| "-".to_owned(), |row| table::figure(row, row.median, None));
            if one.and_then(|row| row.ci95).is_some_and(|interval| interval.holds(1.0)) {
                text.push_str(" ?");
            }
            picture.rectangle((x + RIM, y + RIM), (x + across - RIM, y + CELL - RIM), color);
            let at = (x + across / 2.0, y + CELL / 2.0);
            picture.text(at, &tidy(&text, room(across, BODY)), BODY, ink, Align::Middle);
        }
    }
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a small positive number of letters"
)]
fn room(across: f64, size: f64) -> usize {
    (across / size / 0.56).max(3.0) as usize
}

/// The colour of a slow-down: even ratios are even steps.
#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "between 0 and the last colour")]
fn step_of(ratio: f64) -> usize {
    let last = crate::stats::count(COLORS.len() - 1);
    let part = (ratio.max(1.0).ln() / MOST.ln()).clamp(0.0, 1.0);
    (part * last).round() as usize
}

fn legend(picture: &mut Picture, top: f64) {
    let across = 64.0;
    picture.text((MARGIN, top + 10.0), "slow-down", SMALL, FAINT_INK, Align::Left);
    for (step, color) in COLORS.iter().enumerate() {
        let x = LEFT + across * crate::stats::count(step);
        let last = crate::stats::count(COLORS.len() - 1);
        let stands_for = MOST.powf(crate::stats::count(step) / last);
        picture.rectangle((x, top), (x + across, top + 20.0), *color);
        let ink = if step >= DARK { PAGE } else { INK };
        let more = if step + 1 == COLORS.len() { "+" } else { "" };
        let text = format!("{}{more}", format_ratio(stands_for).replace(".000", ""));
        picture.text((x + across / 2.0, top + 10.0), &text, SMALL, ink, Align::Middle);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::{NEIGHBOURS, metric};
    use crate::stats::Interval;
    use crate::summary::Verdict;

    #[test]
    fn slower_is_darker_and_what_is_not_slower_has_no_colour_of_its_own() {
        assert_eq!((step_of(0.5), step_of(1.0), step_of(f64::INFINITY)), (0, 0, 8));
        assert!(step_of(4.0) > step_of(2.0));
        assert_eq!(step_of(f64::NAN), 0);
    }

    #[test]
    fn a_map_has_a_cell_for_each_target_and_aggressor_and_a_word_where_there_is_no_figure() {
        let one = |target: &str, aggressor: &str, median: Option<f64>| SummaryRow {
            experiment: NEIGHBOURS.into(),
            workload: format!("sqlite beside {aggressor}"),
            metric: format!("{}{}", metric::SLOWDOWN_PREFIX, metric::BESIDE_MEDIAN),
            target: target.into(),
            median,
            verdict: median.is_none().then_some(Verdict::Skipped),
            ..SummaryRow::default()
        };
        assert_eq!(draw(&[]), None);
        assert_eq!(draw(&[one("native", "cpu", None)]), None);
        let unsure = SummaryRow {
            ci95: Some(Interval { low: 0.9, high: 30.0 }),
            ..one("container", "cpu", Some(5.6))
        };
        let rows = [one("native", "cpu", Some(1.5)), unsure, one("microvm", "fork", None)];
        let picture = draw(&rows).expect("two figures");
        let svg = picture.svg().expect("a small picture");
        for text in ["1.50", "5.60 ?", "skipped", "native", "microvm", "cpu", "fork", "sqlite: median"] {
            assert!(svg.contains(text), "{text}");
        }
        assert!(!svg.contains("1.50 ?"), "there is no interval that holds 1");
    }
}
