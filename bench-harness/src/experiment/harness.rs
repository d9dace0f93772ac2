//! What the harness itself costs inside a measured window, so that the report can show it beside the results.

use super::{Bench, Place, Stop, value};
use crate::record::{HARNESS, metric};
use crate::runner::LaunchFailure;

/// Observations of our own cost in one run.
const OBSERVATIONS: u32 = 200;

/// Measures it.
///
/// # Errors
/// Where the rows cannot be kept, or a signal came.
pub fn measure(bench: &mut Bench<'_>, workload: &str) -> Result<(), Stop> {
    let place = |block| Place {
        experiment: HARNESS,
        target: HARNESS.into(),
        workload: workload.into(),
        block,
        order: 0,
        // The first brings code and buffers into the caches, as the warm-up launches do.
        warmup: block == 0,
    };
    let mut rows = Vec::new();
    for block in 0..OBSERVATIONS {
        let place = place(block);
        rows.push(match bench.observer.window_cost_ns() {
            Ok(cost) => place.row(metric::WINDOW_COST, "ns", 0, value(cost)),
            Err(LaunchFailure::Interrupted) => return Err(Stop::Interrupted),
            Err(failure) => place.failed(metric::WINDOW_COST, "ns", failure.to_string()),
        });
    }
    rows.push(place(1).row(metric::CLOCK_STEP, "ns", 0, value(crate::clock::resolution_ns())));
    bench.sink.keep(rows)
}
