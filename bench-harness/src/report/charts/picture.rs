//! A picture as a list of shapes, which the charts make, and its painting as SVG or PNG.
//!
//! Between the two stands plain data, so that tests can ask a chart whether its labels overlap or leave the frame.

use std::path::Path;
use std::sync::Once;

use plotters::backend::{BitMapBackend, SVGBackend};
use plotters::coord::Shift;
use plotters::drawing::{DrawingArea, DrawingAreaErrorKind, IntoDrawingArea};
use plotters::element::{Circle, PathElement, Polygon, Rectangle, Text};
use plotters::prelude::DrawingBackend;
use plotters::style::text_anchor::{HPos, Pos, VPos};
use plotters::style::{Color, FontStyle, IntoFont, RGBColor, ShapeStyle, TextStyle, register_font};

use super::palette::{Dash, Marker, PAGE};

/// The font of all texts: a generic name in the SVG, the embedded font under that name in the PNG.
const FONT: &str = "sans-serif";
/// Pixels of the PNG for one of the picture, so that it is sharp on dense screens.
const PNG_SCALE: u32 = 2;
/// Each of those is the mean of so many squared: lines and edges are smooth without a drawing library that does it.
const OVERSAMPLING: u32 = 2;
/// The bitmap backend centres a text by its line, and its letters come to lie above the middle: by so much of its size.
const PNG_TEXT_LOWER: f64 = 0.13;
/// Mean width of a character over the font size, from above: DejaVu Sans, the widest of the usual fonts, has 0.5.
const CHARACTER_WIDTH: f64 = 0.51;
/// Longest text that is drawn: a name that a user made up must not run through the whole picture.
const LONGEST: usize = 120;

/// Coordinates of a point, in pixels from the upper left corner.
pub type Spot = (f64, f64);

/// Which point of a text lies at its spot; in height it is always the middle.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Align {
    /// Its left end.
    Left,
    /// Its middle.
    Middle,
    /// Its right end.
    Right,
}

/// One shape.
#[derive(Debug, Clone, PartialEq)]
#[expect(missing_docs, reason = "the fields are what their names say")]
pub enum Shape {
    /// A filled rectangle between two corners.
    Box { from: Spot, to: Spot, color: RGBColor },
    /// Straight lines from point to point.
    Line { points: Vec<Spot>, color: RGBColor, width: f64 },
    /// A mark at a point.
    Mark { at: Spot, marker: Marker, color: RGBColor, radius: f64 },
    /// One line of text.
    Text { at: Spot, text: String, size: f64, color: RGBColor, align: Align },
}

/// A picture under construction.
#[derive(Debug, Clone, PartialEq)]
pub struct Picture {
    /// Width in pixels.
    pub width: u32,
    /// Height in pixels.
    pub height: u32,
    /// Later ones cover earlier ones.
    pub shapes: Vec<Shape>,
}

/// Width that a text takes at most.
pub fn text_width(text: &str, size: f64) -> f64 {
    crate::stats::count(text.chars().count()) * size * CHARACTER_WIDTH
}

/// The text without control characters, and shortened to `longest` characters.
pub fn tidy(text: &str, longest: usize) -> String {
    let clean: String = text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    if clean.chars().count() <= longest {
        return clean;
    }
    clean.chars().take(longest.saturating_sub(3)).chain("...".chars()).collect()
}

impl Picture {
    /// An empty one.
    pub fn new(width: u32, height: u32) -> Self {
        Self { width, height, shapes: Vec::new() }
    }

    /// Adds a filled rectangle.
    pub fn rectangle(&mut self, from: Spot, to: Spot, color: RGBColor) {
        self.shapes.push(Shape::Box { from, to, color });
    }

    /// Adds lines from point to point.
    pub fn line(&mut self, points: &[Spot], color: RGBColor, width: f64) {
        self.shapes.push(Shape::Line { points: points.to_vec(), color, width });
    }

    /// Adds lines with gaps in them.
    pub fn dashed(&mut self, points: &[Spot], color: RGBColor, width: f64, dash: Dash) {
        let pieces = dash.pieces(points);
        self.shapes.extend(pieces.into_iter().map(|points| Shape::Line { points, color, width }));
    }

    /// Adds a mark, with a rim in the colour of the page so that it stands out from lines.
    pub fn mark(&mut self, at: Spot, marker: Marker, color: RGBColor, radius: f64) {
        self.shapes.push(Shape::Mark { at, marker, color: PAGE, radius: radius + 1.5 });
        self.shapes.push(Shape::Mark { at, marker, color, radius });
    }

    /// Adds a text.
    pub fn text(&mut self, at: Spot, text: &str, size: f64, color: RGBColor, align: Align) {
        self.shapes.push(Shape::Text { at, text: tidy(text, LONGEST), size, color, align });
    }

    /// The picture as SVG.
    ///
    /// # Errors
    ///
    /// Where the drawing library refuses.
    pub fn svg(&self) -> Result<String, DrawingError> {
        let mut svg = String::new();
        {
            let area = SVGBackend::with_string(&mut svg, (self.width, self.height)).into_drawing_area();
            self.paint(&area, 1, 0.0).map_err(boxed)?;
            area.present().map_err(boxed)?;
        }
        Ok(svg)
    }

    /// Writes the picture as PNG; the name must end in `.png`.
    ///
    /// # Errors
    ///
    /// Where the drawing library refuses or the file cannot be written.
    pub fn write_png(&self, path: &Path) -> Result<(), DrawingError> {
        let large = (self.width * PNG_SCALE * OVERSAMPLING, self.height * PNG_SCALE * OVERSAMPLING);
        let small = (self.width * PNG_SCALE, self.height * PNG_SCALE);
        let mut pixels = vec![0; as_index(large.0) * as_index(large.1) * 3];
        {
            let area = BitMapBackend::with_buffer(&mut pixels, large).into_drawing_area();
            self.paint(&area, PNG_SCALE * OVERSAMPLING, PNG_TEXT_LOWER).map_err(boxed)?;
            area.present().map_err(boxed)?;
        }
        let pixels = shrink(&pixels, as_index(large.0), as_index(OVERSAMPLING));
        let mut file = BitMapBackend::new(path, small);
        file.blit_bitmap((0, 0), small, &pixels)?;
        Ok(file.present()?)
    }

    fn paint<B: DrawingBackend>(
        &self,
        area: &DrawingArea<B, Shift>,
        scale: u32,
        lower: f64,
    ) -> Result<(), DrawingAreaErrorKind<B::ErrorType>> {
        // Once a process; a font that was refused shows itself as an error when the first text is measured.
        static FONT_READY: Once = Once::new();
        FONT_READY.call_once(|| {
            drop(register_font(FONT, FontStyle::Normal, epaint_default_fonts::UBUNTU_LIGHT));
        });
        area.fill(&PAGE)?;
        let scale = f64::from(scale);
        let pixel = |spot: Spot| (to_pixel(spot.0 * scale), to_pixel(spot.1 * scale));
        for shape in &self.shapes {
            match shape {
                Shape::Box { from, to, color } => {
                    area.draw(&Rectangle::new([pixel(*from), pixel(*to)], color.filled()))?;
                }
                Shape::Line { points, color, width } => {
                    let points: Vec<_> = points.iter().map(|spot| pixel(*spot)).collect();
                    area.draw(&PathElement::new(points, stroke(*color, width * scale)))?;
                }
                Shape::Mark { at, marker, color, radius } => match marker.outline(*at, *radius) {
                    Some(outline) => {
                        let outline: Vec<_> = outline.into_iter().map(pixel).collect();
                        area.draw(&Polygon::new(outline, color.filled()))?;
                    }
                    None => area.draw(&Circle::new(pixel(*at), to_pixel(radius * scale), color.filled()))?,
                },
                Shape::Text { at, text, size, color, align } => {
                    let side = match align {
                        Align::Left => HPos::Left,
                        Align::Middle => HPos::Center,
                        Align::Right => HPos::Right,
                    };
                    let font = (FONT, size * scale).into_font();
                    let style = TextStyle::from(font).color(color).pos(Pos::new(side, VPos::Center));
                    let at = (at.0, at.1 + lower * size);
                    area.draw(&Text::new(text.as_str(), pixel(at), style))?;
                }
            }
        }
        Ok(())
    }
}

/// What the drawing library says when it fails; its own types differ from backend to backend.
pub type DrawingError = Box<dyn std::error::Error + Send + Sync>;

fn boxed<E: std::error::Error + Send + Sync + 'static>(error: DrawingAreaErrorKind<E>) -> DrawingError {
    Box::new(error)
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "at least 1, and a cast saturates"
)]
fn stroke(color: RGBColor, width: f64) -> ShapeStyle {
    color.stroke_width(width.round().max(1.0) as u32)
}

#[expect(
    clippy::cast_possible_truncation,
    reason = "a cast saturates, and what is out of the frame is not drawn"
)]
fn to_pixel(place: f64) -> i32 {
    // Far enough out to be off any picture, near enough for the library to reckon with.
    place.round().clamp(-30_000.0, 30_000.0) as i32
}

fn as_index(length: u32) -> usize {
    usize::try_from(length).unwrap_or(usize::MAX)
}

/// Every pixel the mean of `factor` times `factor` of an RGB image `width` pixels wide.
fn shrink(pixels: &[u8], width: usize, factor: usize) -> Vec<u8> {
    let (row, step) = (width * 3, factor * 3);
    let area = u32::try_from(factor * factor).unwrap_or(1);
    let mean = |rows: &[u8], at: usize| {
        let cells = (0..factor).flat_map(|y| (0..factor).map(move |x| y * row + x * 3));
        let sum: u32 = cells.map(|offset| u32::from(rows[at + offset])).sum();
        u8::try_from(sum / area).unwrap_or(u8::MAX)
    };
    let bands = pixels.chunks_exact(row * factor);
    bands
        .flat_map(|rows| {
            (0..row / step).flat_map(move |column| (0..3).map(move |color| mean(rows, column * step + color)))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shrinking_takes_the_mean_of_each_square() {
        let row = |a: u8, b: u8| [a, a, a, b, b, b];
        let pixels: Vec<u8> = [row(0, 100), row(50, 50)].concat();
        assert_eq!(shrink(&pixels, 2, 2), [50, 50, 50]);
    }

    #[test]
    fn the_text_of_a_png_is_really_drawn() {
        let dir = tempfile::tempdir().expect("a temporary folder");
        let size_of = |text: &str| {
            let mut picture = Picture::new(200, 40);
            picture.text((10.0, 20.0), text, 20.0, RGBColor(0, 0, 0), Align::Left);
            let path = dir.path().join("text.png");
            picture.write_png(&path).expect("a writable folder");
            std::fs::metadata(path).expect("just written").len()
        };
        assert!(size_of("ready_ns 1.23 ms") > 2 * size_of(""), "ink takes room");
    }

    #[test]
    fn text_is_escaped_and_shortened() {
        let mut picture = Picture::new(200, 40);
        picture.text((10.0, 20.0), "<a&b>\u{7}", 20.0, RGBColor(0, 0, 0), Align::Left);
        let svg = picture.svg().expect("a small picture");
        assert!(svg.contains("&lt;a&amp;b&gt; "), "{svg}");
        assert_eq!(tidy("abcdefghij", 6), "abc...");
    }
}
