//! How long until a program in a target says its first word, and until nothing of it is left?

use super::cells::{self, Cell};
use super::{Bench, Experiment, Place, Station, Stop, at_once, value};
use crate::plan::Effort;
use crate::record::{Sample, metric};
use crate::runner::Observed;
use crate::workload::Subject;

/// Makes the experiment with several subjects (the same program in a warm and a cold page cache), a cell each, and then with so
/// many instances of the first at once.
///
/// # Errors
/// Where it ends before its plan does; single failures are rows.
pub fn measure(bench: &mut Bench<'_>, subjects: &[&Subject], at_once: Option<u32>) -> Result<(), Stop> {
    measure_in(bench, Experiment::Startup, subjects)?;
    match (at_once, subjects.first()) {
        (Some(instances), Some(subject)) => at_once::measure(bench, subject, instances),
        _ => Ok(()),
    }
}

/// What the launches of a cell need.
struct Start<'a> {
    subject: &'a Subject,
    stations: Vec<Station>,
}

/// The same as a part of `experiment`.
pub(super) fn measure_in(
    bench: &mut Bench<'_>,
    experiment: Experiment,
    subjects: &[&Subject],
) -> Result<(), Stop> {
    let cells = subjects.iter().map(|subject| {
        let stations = bench.stations(subject);
        Cell::new(bench, &subject.name, Start { subject, stations })
    });
    let mut cells: Vec<_> = cells.collect();
    let Effort { warmup_blocks, startup_blocks, .. } = bench.effort;
    cells::blocks(bench, experiment, warmup_blocks, startup_blocks, 1.0, &mut cells, launch)
}

fn launch(
    bench: &mut Bench<'_>,
    cell: &mut Cell<Start<'_>>,
    target: usize,
    place: &Place,
) -> Result<Vec<Sample>, Stop> {
    let Start { subject, stations } = &mut cell.what;
    let station = &mut stations[target];
    let Some(prepared) = station.usable() else { return Ok(station.unusable(place, metric::READY, "ns")) };
    std::thread::sleep(bench.effort.rest);
    let result = subject.launched(bench.observer, prepared);
    Ok(match station.note(result)? {
        Ok(seen) => {
            if !place.warmup {
                cell.progress.note(target, value(seen.ready()));
            }
            rows(place, &seen)
        }
        Err(why) => vec![place.failed(metric::READY, "ns", why)],
    })
}

fn rows(place: &Place, seen: &Observed) -> Vec<Sample> {
    let since_start = |instant: u64| value(instant.saturating_sub(seen.start_ns));
    let mut rows = Vec::with_capacity(3 + seen.phases.len());
    if let Some(ready) = seen.ready_ns {
        rows.push(place.row(metric::READY, "ns", 0, since_start(ready)));
        for (name, length) in &seen.phases {
            let metric = format!("{}{name}_ns", metric::PHASE_PREFIX);
            rows.push(place.row(&metric, "ns", 0, value(*length)));
        }
    }
    rows.push(place.row(metric::EXIT, "ns", 0, since_start(seen.end.gone_ns)));
    let teardown = seen.end.gone_ns.saturating_sub(seen.ended_ns());
    rows.push(place.row(metric::TEARDOWN, "ns", 0, value(teardown)));
    rows
}
