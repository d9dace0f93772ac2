//! How much slower is the same work? Timed inside by the workload and outside by the host, both kept.
//!
//! The number of iterations is calibrated natively, once, and is then the same for every target of the run. Where the
//! slowest target would take many times as long (a system call in a virtual machine), it is cut, for all of them alike.

use std::collections::BTreeMap;

use workloads::protocol::Line;
use workloads::{Invocation, Workload};

use super::cells::{self, Cell};
use super::{Bench, Experiment, Place, Station, Stop, skipped_row, value};
use crate::plan::Effort;
use crate::record::{Sample, Status, metric};
use crate::runner::{LaunchFailure, Observed};
use crate::stats::median;
use crate::workload::{Image, Subject};

/// Repetitions in a launch that count. They show the spread within a launch; the launch is what is replicated.
const REPETITIONS: u64 = 2;
/// Repetitions before them that bring caches and page tables up, and do not count.
const WARMUP_REPETITIONS: u64 = 1;
/// A target may take so many times the native time before the work is cut.
const SLOWEST: f64 = 4.0;
/// The work is cut to this part at most: below, the host's view of the marks would tell more of the marks than of
/// the work.
const LEAST_PART: f64 = 0.4;
/// Part of the experiment's time that finding the iterations is taken for, in what the user is told of the progress.
const CALIBRATION: f64 = 0.05;
/// Inner and outer time must agree as well as this, or the sample carries a warning.
const AGREEMENT: f64 = 0.01;

/// One repetition, as it was seen and as it was told.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Repetition {
    pub(super) warmup: bool,
    begin_ns: u64,
    end_ns: Option<u64>,
    /// Name, unit, value.
    pub(super) samples: Vec<(String, String, f64)>,
    check: Option<String>,
}

/// What the launches of a cell need.
struct Work {
    subject: Subject,
    /// Operations in one repetition, for the comparison of the clocks.
    operations: Option<f64>,
    stations: Vec<Option<Station>>,
}

/// What the experiment learned besides its rows.
#[derive(Debug, Default)]
pub struct Learned {
    /// Iterations in a repetition, by workload.
    pub iterations: BTreeMap<String, u64>,
}

/// Makes the experiment with workloads of the catalogue.
///
/// # Errors
/// Where it ends before its plan does; single failures are rows.
pub fn measure(bench: &mut Bench<'_>, image: &Image, chosen: &[&'static Workload]) -> Result<Learned, Stop> {
    measure_in(bench, Experiment::Overhead, image, chosen)
}

/// The same as a part of `experiment`.
pub(super) fn measure_in(
    bench: &mut Bench<'_>,
    experiment: Experiment,
    image: &Image,
    chosen: &[&'static Workload],
) -> Result<Learned, Stop> {
    let mut learned = Learned::default();
    let mut cells = Vec::new();
    for workload in chosen {
        // Nothing is repeated in it: what is left would be the cost of the marks.
        if workload.name == "noop" {
            continue;
        }
        let iterations = match calibrated(bench, image, workload)? {
            Ok(iterations) => iterations,
            Err(why) => {
                let row = |name: &str| Sample {
                    status: Status::Failed,
                    ..skipped_row(experiment, name, workload.name, &why)
                };
                let rows = bench.participants.iter().map(|participant| row(&participant.name)).collect();
                bench.sink.keep(rows)?;
                continue;
            }
        };
        learned.iterations.insert(workload.name.into(), iterations);
        let invocation = Invocation {
            iters: Some(iterations),
            reps: REPETITIONS,
            warmup: WARMUP_REPETITIONS,
            ..Invocation::of(workload)
        };
        #[expect(
            clippy::cast_precision_loss,
            reason = "a factor of a quotient that is judged to one percent"
        )]
        let operations = workload.operations_per_iteration as f64 * iterations as f64;
        cells.push(cell(bench, experiment, Subject::ours(image, &invocation), Some(operations))?);
        bench.progress.step(experiment.name(), CALIBRATION / chosen.len() as f64);
    }
    blocks(bench, experiment, &mut cells)?;
    Ok(learned)
}

/// Makes the experiment with a program of the user's own, and with it from before, where the first speaks the protocol.
///
/// # Errors
/// Where it ends before its plan does; single failures are rows.
pub fn measure_user(bench: &mut Bench<'_>, subjects: &[&Subject]) -> Result<(), Stop> {
    let Some(&subject) = subjects.first() else { return Ok(()) };
    let Some(baseline) = bench.participants.first() else { return Ok(()) };
    let why = match one_launch(bench, &*baseline.target, subject)? {
        Ok(seen) if !repetitions(&seen).is_empty() => {
            let cells = subjects.iter().map(|&one| cell(bench, Experiment::Overhead, one.clone(), None));
            let mut cells = cells.collect::<Result<Vec<_>, Stop>>()?;
            return blocks(bench, Experiment::Overhead, &mut cells);
        }
        Ok(_) => "it prints no `begin` and `end` marks, so there is no window to measure".to_owned(),
        Err(why) => why,
    };
    let rows = bench.participants.iter();
    let rows =
        rows.map(|participant| skipped_row(Experiment::Overhead, &participant.name, &subject.name, &why));
    bench.sink.keep(rows.collect())
}

fn cell(
    bench: &mut Bench<'_>,
    experiment: Experiment,
    subject: Subject,
    operations: Option<f64>,
) -> Result<Cell<Work>, Stop> {
    let mut stations = Vec::new();
    let mut rows = Vec::new();
    for participant in bench.participants {
        match subject.catalogued.and_then(|workload| bench.unmet(participant, workload)) {
            Some(reason) => {
                rows.push(skipped_row(experiment, &participant.name, &subject.name, &reason));
                stations.push(None);
            }
            None => stations.push(Some(Station::new(bench, participant, &subject))),
        }
    }
    bench.sink.keep(rows)?;
    let workload = subject.name.clone();
    Ok(Cell::new(bench, &workload, Work { subject, operations, stations }))
}

fn blocks(bench: &mut Bench<'_>, experiment: Experiment, cells: &mut [Cell<Work>]) -> Result<(), Stop> {
    let Effort { warmup_blocks, overhead_blocks, .. } = bench.effort;
    cells::blocks(bench, experiment, warmup_blocks, overhead_blocks, 1.0 - CALIBRATION, cells, launch)
}

fn launch(
    bench: &mut Bench<'_>,
    cell: &mut Cell<Work>,
    target: usize,
    place: &Place,
) -> Result<Vec<Sample>, Stop> {
    let Work { subject, operations, stations } = &mut cell.what;
    let Some(station) = &mut stations[target] else { return Ok(Vec::new()) };
    let Some(prepared) = station.usable() else {
        return Ok(station.unusable(place, metric::TIME_PER_OP, "ns/op"));
    };
    let expected = subject.catalogued.map(|workload| workload.expected_check);
    let result = subject.launched(bench.observer, prepared).and_then(|seen| checked(&seen, expected));
    Ok(match station.note(result)? {
        Ok(repetitions) => {
            let rows = rows(place, &repetitions, *operations);
            if !place.warmup {
                let walls: Vec<f64> = rows
                    .iter()
                    .filter(|row| row.metric == metric::HOST_WALL)
                    .filter_map(|row| row.value)
                    .collect();
                if let Some(wall) = median(&walls) {
                    cell.progress.note(target, wall);
                }
            }
            rows
        }
        Err(why) => vec![place.failed(metric::TIME_PER_OP, "ns/op", why)],
    })
}

/// The repetitions, where all of them are whole and right.
pub(super) fn checked(seen: &Observed, expected: Option<&str>) -> Result<Vec<Repetition>, LaunchFailure> {
    let broken = |what: String| Err(LaunchFailure::Protocol(what));
    let repetitions = repetitions(seen);
    if repetitions.iter().all(|repetition| repetition.warmup) {
        return broken("it prints no `begin`".into());
    }
    for (number, repetition) in repetitions.iter().enumerate() {
        if repetition.end_ns.is_none() {
            return broken(format!("repetition {number} has no `end`"));
        }
        match (expected, &repetition.check) {
            (Some(expected), Some(check)) if check != expected => {
                return broken(format!(
                    "repetition {number} came to the checksum {check} instead of {expected}"
                ));
            }
            (Some(_), None) => return broken(format!("repetition {number} has no checksum")),
            _ => {}
        }
    }
    let mut malformed = None;
    seen.for_each_line(|_, line| {
        if let Line::Malformed { reason, .. } = line {
            malformed.get_or_insert_with(|| reason.to_string());
        }
    });
    malformed.map_or(Ok(repetitions), |reason| Err(LaunchFailure::Protocol(reason)))
}

fn repetitions(seen: &Observed) -> Vec<Repetition> {
    let mut all: Vec<Repetition> = Vec::new();
    seen.for_each_line(|at, line| match (line, all.last_mut()) {
        (Line::Begin { warmup }, _) => all.push(Repetition { warmup, begin_ns: at, ..Repetition::default() }),
        (Line::End, Some(last)) => {
            last.end_ns.get_or_insert(at);
        }
        (Line::Sample { name, unit, value }, Some(last)) => {
            last.samples.push((name.into(), unit.into(), value))
        }
        (Line::Check(check), Some(last)) => last.check = Some(check.into()),
        _ => {}
    });
    all
}

fn rows(place: &Place, repetitions: &[Repetition], operations: Option<f64>) -> Vec<Sample> {
    let mut rows = Vec::new();
    let counted = repetitions.iter().filter(|repetition| !repetition.warmup);
    for (iteration, repetition) in (0_u32..).zip(counted) {
        let end = repetition.end_ns.unwrap_or(repetition.begin_ns);
        let outside = value(end.saturating_sub(repetition.begin_ns));
        let inside = repetition
            .samples
            .iter()
            .find(|(name, unit, _)| name == "time_per_op" && unit == "ns")
            .zip(operations)
            .map(|((_, _, time), operations)| time * operations);
        let detail = inside.and_then(|inside| disagreement(inside, outside)).unwrap_or_default();
        for (name, unit, value) in &repetition.samples {
            let (metric, unit) = match (name.as_str(), unit.as_str()) {
                ("time_per_op", "ns") => (metric::TIME_PER_OP, "ns/op"),
                other => other,
            };
            rows.push(Sample { detail: detail.clone(), ..place.row(metric, unit, iteration, *value) });
        }
        rows.push(Sample { detail, ..place.row(metric::HOST_WALL, "ns", iteration, outside) });
    }
    rows
}

/// Beginning of the detail of a sample whose clocks disagree; the share follows.
pub const DISAGREEMENT: &str = "inner and outer time differ by ";

fn disagreement(inside: f64, outside: f64) -> Option<String> {
    // Of the longer one: on a busy host both marks may be read at once, and nothing is a part of an outer time of 0.
    let share = (outside - inside).abs() / outside.max(inside);
    // Written so that a NaN (both 0) is a disagreement, too.
    let agree = share <= AGREEMENT;
    (!agree).then(|| format!("{DISAGREEMENT}{:.2} % of the longer one", share * 100.0))
}

/// The number of iterations, from a native launch; then cut where the slowest target makes that necessary.
fn calibrated(
    bench: &mut Bench<'_>,
    image: &Image,
    workload: &'static Workload,
) -> Result<Result<u64, String>, Stop> {
    let wanted_ms = u64::try_from(bench.effort.overhead_repetition.as_millis()).unwrap_or(u64::MAX);
    let iterations = match native_iterations(bench, image, workload, wanted_ms)? {
        Ok(iterations) => iterations,
        Err(why) => return Ok(Err(why)),
    };

    // A pilot in every target, a tenth of the work.
    let pilot_iterations = (iterations / 10).max(1);
    let pilot = Invocation { iters: Some(pilot_iterations), reps: 1, ..Invocation::of(workload) };
    let subject = Subject::ours(image, &pilot);
    let mut slowest: f64 = 1.0;
    let wanted = value(wanted_ms * 1_000_000);
    for participant in bench.participants {
        // Failures here will be seen, and recorded, again.
        let Ok(seen) = one_launch(bench, &*participant.target, &subject)? else { continue };
        let window =
            repetitions(&seen).first().and_then(|one| Some(one.end_ns?.saturating_sub(one.begin_ns)));
        if let Some(window) = window {
            slowest = slowest.max(value(window) * value(iterations) / value(pilot_iterations) / wanted);
        }
    }
    let part = (SLOWEST / slowest).clamp(LEAST_PART, 1.0);
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "at most `iterations`")]
    let cut = (value(iterations) * part) as u64;
    Ok(Ok(cut.max(1)))
}

/// Iterations of a repetition that takes so long natively and alone, or why there is no such number.
pub(super) fn native_iterations(
    bench: &mut Bench<'_>,
    image: &Image,
    workload: &'static Workload,
    wanted_ms: u64,
) -> Result<Result<u64, String>, Stop> {
    let calibration = Invocation { calibrate_ms: Some(wanted_ms), ..Invocation::of(workload) };
    let found = one_launch(bench, &crate::target::native::Native, &Subject::ours(image, &calibration))?;
    Ok(match found {
        Ok(seen) => calibrated_iterations(&seen)
            .ok_or_else(|| "its calibration gave no number of iterations".to_owned()),
        Err(why) => Err(format!("its calibration failed: {why}")),
    })
}

/// What a calibration found.
fn calibrated_iterations(seen: &Observed) -> Option<u64> {
    let mut count = None;
    seen.for_each_line(|_, line| {
        if let Line::Sample { name: "iters", value, .. } = line {
            count = Some(value);
        }
    });
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "not negative by the protocol, and a cast saturates"
    )]
    count.map(|count| count as u64)
}

/// One launch of its own, outside of the blocks; a failure is its reason.
pub(super) fn one_launch(
    bench: &mut Bench<'_>,
    target: &dyn crate::target::Target,
    subject: &Subject,
) -> Result<Result<Observed, String>, Stop> {
    let prepared = match target.prepare(&subject.launch(bench.mem_mib)) {
        Ok(prepared) => prepared,
        Err(error) => return Ok(Err(crate::error::chain(&error))),
    };
    match subject.launched(bench.observer, &*prepared) {
        Ok(seen) => Ok(Ok(seen)),
        Err(LaunchFailure::Interrupted) => Err(Stop::Interrupted),
        Err(failure) => Ok(Err(failure.to_string())),
    }
}
