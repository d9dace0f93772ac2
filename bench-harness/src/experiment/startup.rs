//! How long until a program in a target says its first word, and until nothing of it is left?

use super::{Bench, Experiment, Place, Station, Stop, at_once, value};
use crate::plan::{self, Ended, LEAST_BLOCKS};
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

/// One subject, in every target.
struct Cell<'a> {
    subject: &'a Subject,
    stations: Vec<Station>,
    progress: plan::Progress,
    /// Blocks that were made of it once it is done.
    done: Option<u32>,
}

/// The same as a part of `experiment`.
pub(super) fn measure_in(
    bench: &mut Bench<'_>,
    experiment: Experiment,
    subjects: &[&Subject],
) -> Result<(), Stop> {
    let mut cells: Vec<Cell<'_>> = subjects
        .iter()
        .map(|subject| Cell {
            subject,
            stations: bench.stations(subject),
            progress: plan::Progress::new(bench.participants.len()),
            done: None,
        })
        .collect();
    let blocks = bench.effort.warmup_blocks + bench.effort.startup_blocks;
    let pace = bench.pace(experiment, bench.effort.warmup_blocks + LEAST_BLOCKS);
    let (mut made, mut why) = (blocks, Ended::Planned);
    for block in 0..blocks {
        if pace.is_over(block) {
            (made, why) = (block, Ended::Budget);
            break;
        }
        for cell in cells.iter_mut().filter(|cell| cell.done.is_none()) {
            cell.done = cell.progress.is_done(bench.effort.narrow_enough).then_some(block);
        }
        if cells.iter().all(|cell| cell.done.is_some()) {
            made = block;
            break;
        }
        for slot in plan::block(bench.seed, experiment, block, cells.len(), bench.participants.len()) {
            let cell = &mut cells[slot.cell];
            if cell.done.is_some() {
                continue;
            }
            let name = &bench.participants[slot.target].name;
            let place = Place {
                warmup: block < bench.effort.warmup_blocks,
                ..Place::new(experiment, name, &cell.subject.name, block, slot.order)
            };
            let rows = launch(bench, cell, slot.target, &place)?;
            bench.sink.keep(rows)?;
        }
        bench.progress.step(experiment.name(), 1.0 / f64::from(blocks));
    }
    bench.progress.step(experiment.name(), f64::from(blocks - made) / f64::from(blocks));
    for cell in &cells {
        let (made, why) = cell.done.map_or((made, why), |blocks| (blocks, Ended::Narrow));
        bench.end(experiment, &cell.subject.name, made, why);
    }
    Ok(())
}

fn launch(
    bench: &mut Bench<'_>,
    cell: &mut Cell<'_>,
    target: usize,
    place: &Place,
) -> Result<Vec<Sample>, Stop> {
    let station = &mut cell.stations[target];
    let Some(prepared) = station.usable() else { return Ok(station.unusable(place, metric::READY, "ns")) };
    let result = cell.subject.launched(bench.observer, prepared);
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
