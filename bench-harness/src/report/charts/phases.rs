//! Start-up as stacked bars: what happens between the start and the first byte, one bar a target.

use super::axis::Axis;
use super::frame::{self, BODY, FOOT, HEAD, MARGIN, SMALL, width};
use super::palette::{INK, PHASES, look, phase_color};
use super::picture::{Align, Picture, text_width, tidy};
use crate::record::metric;
use crate::stats::Interval;
use crate::summary::SummaryRow;
use crate::units::format_value;

/// Where the bars begin.
const LEFT: f64 = 158.0;
/// Free space right of the longest bar, for its value.
const RIGHT: f64 = 110.0;
const BAR: f64 = 28.0;
const KEY_LINE: f64 = 21.0;
/// From here on, a bar would be too short to see beside the longest, and gets an axis of its own.
const TOO_SHORT: f64 = 8.0;

struct Bar<'a> {
    target: &'a str,
    /// Name, place among the names of all bars, median.
    phases: Vec<(&'a str, usize, f64)>,
    ready: Option<f64>,
    interval: Option<Interval>,
}

impl Bar<'_> {
    fn length(&self) -> f64 {
        let phases: f64 = self.phases.iter().map(|(_, _, median)| median).sum();
        let high = self.interval.map_or(0.0, |interval| interval.high);
        phases.max(self.ready.unwrap_or(0.0)).max(high)
    }

    /// The key below the bar, in lines that fit.
    fn key(&self) -> Vec<Vec<(String, usize)>> {
        let mut lines: Vec<Vec<(String, usize)>> = vec![Vec::new()];
        let mut used = 0.0;
        for (name, place, median) in &self.phases {
            let text = format!("{} {}", tidy(name, 40), format_value(*median, "ns"));
            let needs = entry_width(&text);
            if used + needs > width() - MARGIN - LEFT && used > 0.0 {
                lines.push(Vec::new());
                used = 0.0;
            }
            used += needs;
            lines.last_mut().into_iter().for_each(|line| line.push((text.clone(), *place)));
        }
        lines
    }

    fn height(&self) -> f64 {
        BAR + 8.0 + KEY_LINE * crate::stats::count(self.key().len()) + 10.0
    }
}

fn entry_width(text: &str) -> f64 {
    15.0 + text_width(text, SMALL) + 12.0
}

/// The chart for one workload; `None` where no target was started.
pub fn draw(rows: &[SummaryRow], workload: &str) -> Option<Picture> {
    let bars = bars_of(rows, workload);
    if bars.is_empty() {
        return None;
    }
    let panels = panels_of(bars);
    let height: f64 = panels.iter().flatten().map(Bar::height).sum();
    let height = HEAD + height + (FOOT + 8.0) * crate::stats::count(panels.len());
    let mut picture = frame::begin(
        height,
        &format!("Start-up of {}, by phase", tidy(workload, 40)),
        "Each bar: medians of the phases from start to first byte. Black mark: median of the whole (ready_ns), 95 % interval.",
    );
    let targets: Vec<_> = panels.iter().flatten().map(|bar| bar.target).collect();
    let mut top = HEAD;
    for (place, panel) in panels.iter().enumerate() {
        let longest = panel.iter().map(Bar::length).fold(0.0, f64::max);
        let axis = Axis::linear(0.0, longest.max(1.0), (LEFT, width() - MARGIN - RIGHT));
        let bottom = top + panel.iter().map(Bar::height).sum::<f64>();
        let name = if place == 0 { "time since start" } else { "time since start (another scale)" };
        frame::axis(&mut picture, &axis, "ns", (top - 6.0, bottom), name);
        for bar in panel {
            draw_bar(&mut picture, bar, &axis, top, &targets);
            top += bar.height();
        }
        top = bottom + FOOT + 8.0;
    }
    Some(picture)
}

fn bars_of<'a>(rows: &'a [SummaryRow], workload: &str) -> Vec<Bar<'a>> {
    let mut bars: Vec<Bar<'a>> = Vec::new();
    let mut names: Vec<&str> = Vec::new();
    let rows = rows.iter().filter(|row| row.experiment == "startup" && row.workload == workload);
    for row in rows {
        let phase = row.metric.strip_prefix(metric::PHASE_PREFIX);
        let (Some(median), true) = (row.median, phase.is_some() || row.metric == metric::READY) else {
            continue;
        };
        let place = bars.iter().position(|bar| bar.target == row.target).unwrap_or_else(|| {
            bars.push(Bar { target: &row.target, phases: Vec::new(), ready: None, interval: None });
            bars.len() - 1
        });
        match phase {
            Some(name) => {
                let name = name.strip_suffix("_ns").unwrap_or(name);
                let color = names.iter().position(|known| *known == name).unwrap_or_else(|| {
                    names.push(name);
                    names.len() - 1
                });
                let color = free_color(&bars[place], color);
                bars[place].phases.push((name, color, median));
            }
            None => {
                bars[place].ready = Some(median);
                bars[place].interval = row.ci95;
            }
        }
    }
    bars
}

/// The colour of its name among all bars, or another one where this bar has that already.
fn free_color(bar: &Bar<'_>, wanted: usize) -> usize {
    let used = |color: usize| bar.phases.iter().any(|(_, other, _)| other % PHASES == color % PHASES);
    (wanted..wanted + PHASES).find(|color| !used(*color)).unwrap_or(wanted)
}

/// Bars of like length share an axis; those that would be too short to read beside the others come first.
fn panels_of(bars: Vec<Bar<'_>>) -> Vec<Vec<Bar<'_>>> {
    let mut lengths: Vec<f64> = bars.iter().map(Bar::length).collect();
    lengths.sort_by(f64::total_cmp);
    let cut = lengths.windows(2).find(|pair| pair[1] > TOO_SHORT * pair[0]).map(|pair| pair[1]);
    let Some(cut) = cut else { return vec![bars] };
    let (long, short): (Vec<_>, Vec<_>) = bars.into_iter().partition(|bar| bar.length() >= cut);
    let mut panels = vec![short];
    panels.extend(panels_of(long));
    panels
}

fn draw_bar(picture: &mut Picture, bar: &Bar<'_>, axis: &Axis, top: f64, targets: &[&str]) {
    let middle = top + BAR / 2.0;
    let own = look(bar.target, targets.iter().copied());
    picture.mark((MARGIN + 7.0, middle), own.marker, own.color, 6.0);
    picture.text((MARGIN + 20.0, middle), &tidy(bar.target, 13), BODY, INK, Align::Left);
    let mut start = 0.0;
    for (_, place, median) in &bar.phases {
        let (from, to) = (axis.at(start), axis.at(start + median));
        picture.rectangle((from, top), (to, top + BAR), phase_color(*place));
        start += median;
    }
    if let Some(ready) = bar.ready {
        let x = axis.at(ready);
        picture.line(&[(x, top - 4.0), (x, top + BAR + 4.0)], INK, 3.0);
        if let Some(interval) = bar.interval {
            frame::interval(picture, axis, interval, middle, 2.0);
        }
        let end = axis.at(bar.length());
        picture.text((end + 12.0, middle), &format_value(ready, "ns"), BODY, INK, Align::Left);
    }
    let mut y = top + BAR + 8.0 + KEY_LINE / 2.0;
    for line in bar.key() {
        let mut x = LEFT;
        for (text, place) in line {
            picture.rectangle((x, y - 5.0), (x + 10.0, y + 5.0), phase_color(place));
            picture.text((x + 15.0, y), &text, SMALL, INK, Align::Left);
            x += entry_width(&text);
        }
        y += KEY_LINE;
    }
}
