//! How much does a neighbour disturb? A victim is measured alone and beside an aggressor in the same kind of target.
//!
//! The aggressor keeps to limits: those of its target, its own counters, and resource limits of the kernel. The run reads
//! back what it used; one that went beyond is a failure, and what was measured beside it does not count. One that cannot
//! be limited on this host is refused.

use std::time::{Duration, Instant};

use workloads::aggressors::{self, Aggressor};
use workloads::protocol::Line;
use workloads::{Invocation, Workload};

use super::{Bench, Experiment, Place, Station, Stop, overhead, skipped_row};
use crate::plan::{self, Ended, LEAST_BLOCKS};
use crate::record::{Sample, metric};
use crate::runner::{LaunchFailure, Observed};
use crate::stats::describe;
use crate::target::native::Native;
use crate::workload::{Image, Subject};

pub mod gang;

use gang::Gang;

/// Repetitions in a launch: enough for a 99th percentile within it.
const REPETITIONS: u64 = 120;
/// Repetitions before them that do not count.
const WARMUP_REPETITIONS: u64 = 5;
/// Native duration of a repetition: about what the scheduler lets a task run before another's turn comes, so that a turn
/// that was lost shows.
const REPETITION_MS: u64 = 1;
/// What is disturbed where no workload is chosen: a program's mix of work.
const USUAL: [&str; 1] = ["sqlite"];
/// Between the victim's name and the aggressor's in the recording.
pub const BESIDE: &str = " beside ";

/// The victims: the chosen workloads, or the usual. `noop` does nothing that could be slowed down.
#[must_use]
pub fn victims(chosen: &[String]) -> Vec<&'static Workload> {
    if chosen.is_empty() {
        return USUAL.iter().filter_map(|name| workloads::catalogue::find(name)).collect();
    }
    crate::workload::chosen(chosen).into_iter().filter(|workload| workload.name != "noop").collect()
}

/// Name of a cell in the recording.
#[must_use]
pub fn cell_name(victim: &str, aggressor: Option<&str>) -> String {
    aggressor.map_or_else(|| victim.to_owned(), |aggressor| format!("{victim}{BESIDE}{aggressor}"))
}

/// A victim with its neighbour, or alone.
struct Cell {
    victim: &'static Workload,
    aggressor: Option<&'static Aggressor>,
    /// What is launched, by target; `None` where the target cannot serve one of the two.
    stations: Vec<Option<(Station, Option<Gang>)>>,
}

impl Cell {
    fn name(&self) -> String {
        cell_name(self.victim.name, self.aggressor.map(|aggressor| aggressor.name))
    }
}

/// Makes the experiment.
///
/// # Errors
/// Where it ends before its plan does; single failures are rows.
pub fn measure(bench: &mut Bench<'_>, image: &Image, victims: &[&'static Workload]) -> Result<(), Stop> {
    let mut cells = Vec::new();
    for victim in victims {
        let iterations = match calibrated(bench, image, victim)? {
            Ok(iterations) => iterations,
            Err(why) => {
                let place = |name: &str| place(name, victim.name, 0, 0);
                let failed = |name: &str| place(name).failed(metric::BESIDE_MEDIAN, "ns/op", why.clone());
                let rows = bench.participants.iter().map(|participant| failed(&participant.name)).collect();
                bench.sink.keep(rows)?;
                continue;
            }
        };
        let invocation = Invocation {
            iters: Some(iterations),
            reps: REPETITIONS,
            warmup: WARMUP_REPETITIONS,
            ..Invocation::of(victim)
        };
        let subject = Subject::ours(image, &invocation);
        for aggressor in std::iter::once(None).chain(aggressors::all().iter().map(Some)) {
            cells.push(cell(bench, image, victim, &subject, aggressor)?);
        }
    }
    let blocks = bench.effort.memory_blocks;
    let began = Instant::now();
    let (mut made, mut why) = (blocks, Ended::Planned);
    for block in 0..blocks {
        if block >= LEAST_BLOCKS && began.elapsed() > bench.effort.budget_of(Experiment::Neighbours) {
            (made, why) = (block, Ended::Budget);
            break;
        }
        let launches = cells.len() * bench.participants.len();
        for slot in
            plan::block(bench.seed, Experiment::Neighbours, block, cells.len(), bench.participants.len())
        {
            let cell = &mut cells[slot.cell];
            let name = cell.name();
            let place = place(&bench.participants[slot.target].name, &name, block, slot.order);
            let rows = launch(bench, cell, slot.target, &place)?;
            bench.sink.keep(rows)?;
            #[expect(clippy::cast_precision_loss, reason = "a few hundred launches")]
            bench.progress.step("neighbours", 1.0 / f64::from(blocks) / launches as f64);
        }
    }
    for cell in &cells {
        bench.end(Experiment::Neighbours, &cell.name(), made, why);
    }
    Ok(())
}

fn place(target: &str, workload: &str, block: u32, order: u32) -> Place {
    Place {
        experiment: Experiment::Neighbours.name(),
        target: target.into(),
        workload: workload.into(),
        block,
        order,
        warmup: false,
    }
}

fn cell(
    bench: &mut Bench<'_>,
    image: &Image,
    victim: &'static Workload,
    subject: &Subject,
    aggressor: Option<&'static Aggressor>,
) -> Result<Cell, Stop> {
    let (mut stations, mut rows) = (Vec::new(), Vec::new());
    // Not our own, which --pin keeps apart from theirs.
    let cpus = bench.observer.cpus();
    let name = cell_name(victim.name, aggressor.map(|aggressor| aggressor.name));
    for participant in bench.participants {
        let capabilities = participant.target.capabilities(bench.mem_mib);
        let gang = match victim.needs.unmet_by(&capabilities) {
            Some(reason) => Err(reason),
            None => aggressor
                .map(|aggressor| Gang::prepare(image, &*participant.target, aggressor, victim, cpus))
                .transpose(),
        };
        match gang {
            Ok(gang) => stations.push(Some((Station::new(bench, participant, subject), gang))),
            Err(reason) => {
                rows.push(skipped_row(Experiment::Neighbours, &participant.name, &name, &reason));
                stations.push(None);
            }
        }
    }
    bench.sink.keep(rows)?;
    Ok(Cell { victim, aggressor, stations })
}

fn launch(bench: &mut Bench<'_>, cell: &mut Cell, target: usize, place: &Place) -> Result<Vec<Sample>, Stop> {
    let expected = cell.victim.expected_check;
    let Some((station, gang)) = &mut cell.stations[target] else { return Ok(Vec::new()) };
    let failed = |why: String| vec![place.failed(metric::BESIDE_MEDIAN, "ns/op", why)];
    let Some(prepared) = station.usable() else {
        return Ok(match &station.prepared {
            Err(why) if place.block == 0 => failed(why.clone()),
            _ => Vec::new(),
        });
    };
    let mut rows = Vec::new();
    let result = match gang {
        None => bench.observer.whole(prepared),
        Some(gang) => gang.beside(bench.observer, |observer| observer.whole(prepared)).map(|(seen, used)| {
            rows = used.rows(place);
            seen
        }),
    };
    let result = result.and_then(Observed::success).and_then(|seen| times(&seen, expected));
    Ok(match station.note(result)? {
        Ok(times) => {
            let figures = [
                (metric::BESIDE_MEDIAN, describe::median(&times)),
                (metric::BESIDE_P99, describe::tail_quantile(&times, 0.99)),
            ];
            let figure = |(name, value): (&str, Option<f64>)| Some(place.row(name, "ns/op", 0, value?));
            figures.into_iter().filter_map(figure).chain(rows).collect()
        }
        Err(why) => failed(why),
    })
}

/// Times of an operation in the repetitions that count, where all of those are right.
fn times(seen: &Observed, expected: &str) -> Result<Vec<f64>, LaunchFailure> {
    let (mut times, mut counts, mut wrong) = (Vec::new(), false, None);
    seen.for_each_line(|_, line| match line {
        Line::Begin { warmup } => counts = !warmup,
        Line::Sample { name: "time_per_op", value, .. } if counts => times.push(value),
        Line::Check(check) if check != expected => {
            wrong.get_or_insert_with(|| check.to_owned());
        }
        _ => {}
    });
    match wrong {
        Some(check) => {
            Err(LaunchFailure::Protocol(format!("it came to the checksum {check} instead of {expected}")))
        }
        None if times.is_empty() => Err(LaunchFailure::Protocol("it gave no times".into())),
        None => Ok(times),
    }
}

/// Iterations of a repetition, found natively and alone.
fn calibrated(
    bench: &mut Bench<'_>,
    image: &Image,
    victim: &'static Workload,
) -> Result<Result<u64, String>, Stop> {
    let calibration = Invocation { calibrate_ms: Some(REPETITION_MS), ..Invocation::of(victim) };
    let subject = Subject::ours(image, &calibration);
    let seen = match overhead::one_launch(bench, &Native, &subject)? {
        Ok(seen) => seen,
        Err(why) => return Ok(Err(format!("its calibration failed: {why}"))),
    };
    let found = overhead::calibrated_iterations(&seen);
    Ok(found.ok_or_else(|| "its calibration gave no number of iterations".into()))
}

/// Time for aggressors to come up, and to end when they are asked to.
const PATIENCE: Duration = Duration::from_secs(10);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn victims_are_the_usual_or_the_chosen_ones_without_noop() {
        let names = |chosen: &[&str]| -> Vec<&str> {
            let chosen: Vec<String> = chosen.iter().map(|name| (*name).to_owned()).collect();
            victims(&chosen).iter().map(|workload| workload.name).collect()
        };
        assert_eq!(names(&[]), USUAL);
        assert_eq!(names(&["noop", "syscall"]), ["syscall"]);
    }

    #[test]
    fn a_cell_is_named_after_both() {
        assert_eq!(cell_name("sqlite", None), "sqlite");
        assert_eq!(cell_name("sqlite", Some("cpu")), "sqlite beside cpu");
    }
}
