//! What people read: one renderer a form, all from the samples and `run.json` alone.
//!
//! - [`mod@csv`][]: `summary.csv` and `statistics.csv`
//! - [`markdown`]: `report.md`, and the table of a README
//! - [`terminal`]: the tables at the end of a run
//! - [`charts`]: the pictures
//! - [`finding`]: what was found, in words
//! - `ladder`: what each layer costs, in tables and words
//! - [`neighbours`], [`surface`]: what only these experiments have
//! - [`table`]: the tables that Markdown and terminal share

pub mod charts;
pub mod csv;
pub mod finding;
mod ladder;
pub mod markdown;
pub mod neighbours;
pub mod surface;
pub mod table;
pub mod terminal;

use std::fs;
use std::path::{Path, PathBuf};

use crate::record::{RunInfo, Sample};
use crate::store::{StoreError, write_atomically};
use crate::summary::{SummaryRow, summarise, target_place};

/// File of the summary.
pub const SUMMARY: &str = "summary.csv";
/// File of what the summary has no columns for: intervals of percentiles, shifts, corrected p-values.
pub const STATISTICS: &str = "statistics.csv";
/// File of the report.
pub const REPORT: &str = "report.md";
/// Folder of the charts.
pub const CHARTS: &str = "charts";

/// A report could not be made.
#[derive(Debug, thiserror::Error)]
#[expect(missing_docs, reason = "the fields are named and the messages say what they are")]
pub enum ReportError {
    /// The summary could not be turned into CSV.
    #[error("cannot turn the summary into CSV")]
    Summary(#[source] ::csv::Error),
    /// The folder of the charts could not be made.
    #[error("cannot make the folder {}", path.display())]
    Folder { path: PathBuf, source: std::io::Error },
    /// A chart could not be drawn or its file not be written.
    #[error("cannot draw the chart {}", path.display())]
    Chart { path: PathBuf, source: charts::picture::DrawingError },
    /// A chart that was drawn could not take its name.
    #[error("cannot rename a finished chart to {}", path.display())]
    Rename { path: PathBuf, source: std::io::Error },
    /// A file could not be written.
    #[error(transparent)]
    Write(#[from] StoreError),
}

/// Names, each once, in the order in which they come.
fn distinct<'a>(names: impl Iterator<Item = &'a str>) -> Vec<&'a str> {
    let mut seen = Vec::new();
    for name in names {
        if !seen.contains(&name) {
            seen.push(name);
        }
    }
    seen
}

/// Targets, each once, from the barest to the fullest.
fn targets_in_order<'a>(targets: impl Iterator<Item = &'a str>) -> Vec<&'a str> {
    let mut targets = distinct(targets);
    targets.sort_by_key(|&target| target_place(target));
    targets
}

/// Writes `summary.csv`, `statistics.csv`, the charts and `report.md` of a recording beside it, each under a temporary name first.
///
/// The summary comes first and the charts last but one: where the disk is full, the most important file is there.
///
/// # Errors
///
/// Where a file cannot be written. The recording itself is not touched.
pub fn write_all(dir: &Path, info: &RunInfo, samples: &[Sample]) -> Result<Vec<SummaryRow>, ReportError> {
    let rows = summarise(samples, info.seed);
    write_atomically(&dir.join(SUMMARY), &csv::summary(&rows).map_err(ReportError::Summary)?)?;
    write_atomically(&dir.join(STATISTICS), &csv::statistics(&rows).map_err(ReportError::Summary)?)?;
    let charts = charts::all(&rows, samples);
    let folder = dir.join(CHARTS);
    fs::create_dir_all(&folder).map_err(|source| ReportError::Folder { path: folder.clone(), source })?;
    for chart in &charts {
        write_chart(&folder, chart)?;
    }
    write_atomically(&dir.join(REPORT), markdown::report(info, &rows, samples, &charts).as_bytes())?;
    Ok(rows)
}

fn write_chart(folder: &Path, chart: &charts::Chart) -> Result<(), ReportError> {
    let path = folder.join(format!("{}.svg", chart.name));
    let svg = chart.picture.svg().map_err(|source| ReportError::Chart { path: path.clone(), source })?;
    write_atomically(&path, svg.as_bytes())?;
    let path = folder.join(format!("{}.png", chart.name));
    // The library knows the format by the ending.
    let temporary = folder.join(format!(".{}.tmp.png", chart.name));
    let drawn = chart
        .picture
        .write_png(&temporary)
        .map_err(|source| ReportError::Chart { path: path.clone(), source })
        .and_then(|()| fs::rename(&temporary, &path).map_err(|source| ReportError::Rename { path, source }));
    if drawn.is_err() {
        // Best effort: the error above says what is wrong with this folder.
        drop(fs::remove_file(&temporary));
    }
    drawn
}
