//! How much does a neighbour disturb? A victim is measured alone and beside an aggressor in the same kind of target.
//!
//! The aggressor keeps to limits: those of its target, its own counters, and resource limits of the kernel. The run reads
//! back what it used; one that went beyond is a failure, and what was measured beside it does not count. One that cannot
//! be limited on this host is refused.

use std::time::Duration;

use workloads::aggressors::{self, Aggressor};
use workloads::{Invocation, Workload};

use super::cells::{self, Cell};
use super::{Bench, Experiment, Place, Station, Stop, overhead, skipped_row};
use crate::record::{Sample, metric};
use crate::runner::LaunchFailure;
use crate::stats::describe;
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

/// A victim with its neighbour, or alone: what the launches of a cell need.
struct Pair {
    victim: &'static Workload,
    subject: Subject,
    /// What is launched, by target; `None` where the target cannot serve one of the two.
    stations: Vec<Option<(Station, Option<Gang>)>>,
}

/// Makes the experiment.
///
/// # Errors
/// Where it ends before its plan does; single failures are rows.
pub fn measure(bench: &mut Bench<'_>, image: &Image, victims: &[&'static Workload]) -> Result<(), Stop> {
    let mut cells = Vec::new();
    for victim in victims {
        let iterations = match overhead::native_iterations(bench, image, victim, REPETITION_MS)? {
            Ok(iterations) => iterations,
            Err(why) => {
                let place = |name: &str| Place::new(Experiment::Neighbours, name, victim.name, 0, 0);
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
    // Without blocks that warm up: each launch has repetitions that do.
    cells::blocks(bench, Experiment::Neighbours, 0, bench.effort.memory_blocks, 1.0, &mut cells, launch)
}

fn cell(
    bench: &mut Bench<'_>,
    image: &Image,
    victim: &'static Workload,
    subject: &Subject,
    aggressor: Option<&'static Aggressor>,
) -> Result<Cell<Pair>, Stop> {
    let (mut stations, mut rows) = (Vec::new(), Vec::new());
    // Not our own, which --pin keeps apart from theirs.
    let cpus = bench.observer.cpus();
    let name = cell_name(victim.name, aggressor.map(|aggressor| aggressor.name));
    for participant in bench.participants {
        let gang = match bench.unmet(participant, victim) {
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
    Ok(Cell::new(bench, &name, Pair { victim, subject: subject.clone(), stations }))
}

fn launch(
    bench: &mut Bench<'_>,
    cell: &mut Cell<Pair>,
    target: usize,
    place: &Place,
) -> Result<Vec<Sample>, Stop> {
    let Pair { victim, subject, stations } = &mut cell.what;
    let Some((station, gang)) = &mut stations[target] else { return Ok(Vec::new()) };
    let failed = |why: String| vec![place.failed(metric::BESIDE_MEDIAN, "ns/op", why)];
    let Some(prepared) = station.usable() else {
        return Ok(station.unusable(place, metric::BESIDE_MEDIAN, "ns/op"));
    };
    let mut rows = Vec::new();
    let result = match gang {
        None => subject.launched(bench.observer, prepared),
        Some(gang) => gang.beside(bench.observer, |observer| subject.launched(observer, prepared)).map(
            |(seen, used)| {
                rows = used.rows(place);
                seen
            },
        ),
    };
    let checked = result.and_then(|seen| overhead::checked(&seen, Some(victim.expected_check)));
    let result = checked.and_then(|repetitions| times(&repetitions));
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

/// Times of an operation in the repetitions that count.
fn times(repetitions: &[overhead::Repetition]) -> Result<Vec<f64>, LaunchFailure> {
    let counted = repetitions.iter().filter(|repetition| !repetition.warmup);
    let time = |repetition: &overhead::Repetition| {
        let time = repetition.samples.iter().find(|(name, ..)| name == "time_per_op");
        time.map(|(.., time)| *time).ok_or_else(|| LaunchFailure::Protocol("a repetition has no time".into()))
    };
    counted.map(time).collect()
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
