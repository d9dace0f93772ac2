//! How long until a program in a target says its first word, and until nothing of it is left?

use std::time::Instant;

use super::{Bench, Experiment, Place, Station, Stop, value};
use crate::plan::{self, Ended, LEAST_BLOCKS};
use crate::record::{Sample, metric};
use crate::runner::Observed;
use crate::workload::Subject;

/// Makes the experiment.
///
/// # Errors
/// Where it ends before its plan does; single failures are rows.
pub fn measure(bench: &mut Bench<'_>, subject: &Subject) -> Result<(), Stop> {
    measure_in(bench, Experiment::Startup, subject)
}

/// The same as a part of `experiment`.
pub(super) fn measure_in(
    bench: &mut Bench<'_>,
    experiment: Experiment,
    subject: &Subject,
) -> Result<(), Stop> {
    let mut stations: Vec<Station> =
        bench.participants.iter().map(|participant| Station::new(bench, participant, subject)).collect();
    let blocks = bench.effort.warmup_blocks + bench.effort.startup_blocks;
    let began = Instant::now();
    let mut cell = plan::Progress::new(bench.participants.len());
    let (mut made, mut why) = (blocks, Ended::Planned);
    for block in 0..blocks {
        if block >= bench.effort.warmup_blocks + LEAST_BLOCKS
            && began.elapsed() > bench.effort.budget_of(experiment)
        {
            (made, why) = (block, Ended::Budget);
            break;
        }
        if cell.is_done(bench.effort.narrow_enough) {
            (made, why) = (block, Ended::Narrow);
            break;
        }
        for slot in plan::block(bench.seed, experiment, block, 1, bench.participants.len()) {
            let participant = &bench.participants[slot.target];
            let place = Place {
                experiment: experiment.name(),
                target: participant.name.clone(),
                workload: subject.name.clone(),
                block,
                order: slot.order,
                warmup: block < bench.effort.warmup_blocks,
            };
            let station = &mut stations[slot.target];
            let rows = match (station.usable(), &station.prepared) {
                (Some(prepared), _) => {
                    let result = bench.observer.whole(prepared).and_then(|seen| subject.judge(seen));
                    match station.note(result)? {
                        Ok(seen) => {
                            if !place.warmup {
                                cell.note(slot.target, value(seen.ready()));
                            }
                            rows(&place, &seen)
                        }
                        Err(why) => vec![place.failed(metric::READY, "ns", why)],
                    }
                }
                (None, Err(why)) if block == 0 => vec![place.failed(metric::READY, "ns", why.clone())],
                (None, _) => Vec::new(),
            };
            bench.sink.keep(rows)?;
        }
        bench.progress.step(experiment.name(), 1.0 / f64::from(blocks));
    }
    bench.progress.step(experiment.name(), f64::from(blocks - made) / f64::from(blocks));
    bench.end(experiment, &subject.name, made, why);
    Ok(())
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
