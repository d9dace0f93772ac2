//! The charts of a recording, as SVG and PNG.
//!
//! - [`phases`]: start-up as stacked bars
//! - [`ecdf`]: distribution of the start-up times
//! - [`density`]: the host's memory over the number of instances
//! - [`ladder`]: what each layer of isolation costs
//! - [`memory`]: memory of an instance by method
//! - [`ratios`]: overhead as ratios to native
//! - [`surface`]: system calls that reach the host
//! - [`neighbours`]: slow-down beside aggressors, as a heat map
//!
//! Each makes a [`picture::Picture`] from rows of the summary or `None` where it has nothing to show.

mod axis;
pub mod density;
pub mod ecdf;
mod frame;
pub mod ladder;
pub mod memory;
pub mod neighbours;
mod palette;
pub mod phases;
pub mod picture;
pub mod ratios;
pub mod surface;

use picture::Picture;

use crate::record::{DENSITY, LADDER, NEIGHBOURS, Sample, metric};
use crate::summary::{SummaryRow, launches_by_target};

/// A chart, and what its file is called.
#[derive(Debug)]
pub struct Chart {
    /// Name of the file, without an ending.
    pub name: &'static str,
    /// What it shows, for those who cannot see it.
    pub alt: &'static str,
    /// Experiment that it belongs to.
    pub experiment: &'static str,
    /// The drawing.
    pub picture: Picture,
}

/// Every chart that the recording has data for.
pub fn all(rows: &[SummaryRow], samples: &[Sample]) -> Vec<Chart> {
    let startup = workload_of(rows, "startup");
    let memory_of = workload_of(rows, "memory");
    let launches = startup.map(|workload| launches_by_target(samples, "startup", workload, metric::READY));
    let found = [
        (
            "startup-phases",
            "Start-up by phase, stacked, one bar a target",
            "startup",
            startup.and_then(|workload| phases::draw(rows, workload)),
        ),
        (
            "startup-ecdf",
            "Distribution of the time from start to first byte",
            "startup",
            startup.zip(launches).and_then(|(workload, launches)| ecdf::draw(&launches, workload)),
        ),
        (
            "memory",
            "Memory of one idle instance by method and target",
            "memory",
            memory_of.and_then(|workload| memory::draw(rows, workload)),
        ),
        (
            "overhead",
            "Time of the same work over native, by workload and target",
            "overhead",
            ratios::draw(rows),
        ),
        (
            "density",
            "Memory of the host over the number of idle instances, one curve a target",
            DENSITY,
            workload_of(rows, DENSITY).and_then(|workload| density::draw(samples, workload)),
        ),
        (
            "ladder",
            "Time to the first byte and to the end, one bar a rung of the ladder",
            LADDER,
            ladder::climb(rows),
        ),
        (
            "ladder-costs",
            "What each layer of a container costs at the start, afterwards, in memory and per system call",
            LADDER,
            ladder::costs(rows),
        ),
        (
            "surface",
            "Different system calls of the host, by workload and target",
            "surface",
            surface::draw(rows),
        ),
        (
            NEIGHBOURS,
            "Slow-down beside aggressors, by aggressor and target",
            NEIGHBOURS,
            neighbours::draw(rows),
        ),
    ];
    found
        .into_iter()
        .filter_map(|(name, alt, experiment, picture)| {
            picture.map(|picture| Chart { name, alt, experiment, picture })
        })
        .collect()
}

/// The first workload of an experiment that gave a value: charts of one instance show one workload.
fn workload_of<'a>(rows: &'a [SummaryRow], experiment: &str) -> Option<&'a str> {
    let row = rows.iter().find(|row| row.experiment == experiment && row.median.is_some())?;
    Some(&row.workload)
}

#[cfg(test)]
mod tests;
