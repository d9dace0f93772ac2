//! What does one running, idle instance cost the host? Six methods, since each hides something.
//!
//! `pss`, `uss`, `rss`: sums over the processes of the instance, virtual machine monitor included; blind to what the
//! kernel keeps for it. `cgroup`: what is charged to its own group, page tables and slab included; blind to what was
//! charged elsewhere. Host memory, and the kernel's part of it, over the number of running instances: everything, and everybody else's noise with it;
//! the summary takes the slope.

use std::thread::sleep;
use std::time::Duration;

use super::{Bench, Experiment, Place, Station, Stop, procfs, value};
use crate::plan::{self, Ended, LEAST_BLOCKS};
use crate::record::{Sample, metric};
use crate::runner::Running;
use crate::workload::Subject;

/// Time for an instance to get from its first output to being idle, and for the kernel to settle its books. Nothing
/// is timed here.
const SETTLE: Duration = Duration::from_millis(10);
/// The same between the points of a curve: they are many, and only their trend counts.
pub(super) const SETTLE_POINT: Duration = Duration::from_millis(3);

/// After a curve: network namespaces are taken down some 30 ms after the last of their processes, and their memory with them,
/// which is not to be part of the next curve.
pub(super) const SETTLE_GONE: Duration = Duration::from_millis(60);

/// Blocks of the curves are numbered from here, so that they are not mistaken for those of the single instances.
const CURVES: u32 = 1_000;

/// Makes the experiment.
///
/// # Errors
/// Where it ends before its plan does; single failures are rows.
pub fn measure(bench: &mut Bench<'_>, subject: &Subject) -> Result<(), Stop> {
    measure_in(bench, Experiment::Memory, subject)
}

/// The same as a part of `experiment`.
pub(super) fn measure_in(
    bench: &mut Bench<'_>,
    experiment: Experiment,
    subject: &Subject,
) -> Result<(), Stop> {
    let mut stations = bench.stations(subject);
    let pace = bench.pace(experiment, bench.effort.memory_blocks + LEAST_BLOCKS);
    let rounds = bench.effort.memory_blocks + bench.effort.marginal_rounds;
    let (mut made, mut why) = (rounds, Ended::Planned);
    for round in 0..rounds {
        if pace.is_over(round) {
            (made, why) = (round, Ended::Budget);
            break;
        }
        let is_curve = round >= bench.effort.memory_blocks;
        let block = if is_curve { CURVES + round - bench.effort.memory_blocks } else { round };
        for slot in plan::block(bench.seed, experiment, block, 1, bench.participants.len()) {
            let name = &bench.participants[slot.target].name;
            let place = Place::new(experiment, name, &subject.name, block, slot.order);
            let station = &mut stations[slot.target];
            let rows = if is_curve {
                curve(bench, station, subject, &place)?
            } else {
                single(bench, station, subject, &place)?
            };
            bench.sink.keep(rows)?;
        }
        bench.progress.step(experiment.name(), 1.0 / f64::from(rounds));
    }
    bench.end(experiment, &subject.name, made, why);
    Ok(())
}

/// One instance, looked at while it idles.
fn single(
    bench: &mut Bench<'_>,
    station: &mut Station,
    subject: &Subject,
    place: &Place,
) -> Result<Vec<Sample>, Stop> {
    let Some(prepared) = station.usable() else { return Ok(station.unusable(place, metric::PSS, "bytes")) };
    let result = bench.observer.until_output(prepared);
    let mut running = match station.note(result)? {
        Ok(running) => running,
        // A program of the user's own is not ours to hold: that it ended is no failure.
        Err(why) if !subject.is_ours() => return Ok(vec![place.skipped(metric::PSS, "bytes", why)]),
        Err(why) => return Ok(vec![place.failed(metric::PSS, "bytes", why)]),
    };
    sleep(SETTLE);
    if let Some(why) = ended(&mut running) {
        let row = if subject.is_ours() { Place::failed } else { Place::skipped };
        return Ok(vec![row(place, metric::PSS, "bytes", why)]);
    }
    let mut rows = match procfs::resident(&running.instance.pids()) {
        Ok(resident) => vec![
            place.row(metric::PSS, "bytes", 0, value(resident.pss)),
            place.row(metric::USS, "bytes", 0, value(resident.uss)),
            place.row(metric::RSS, "bytes", 0, value(resident.rss)),
        ],
        Err(why) => vec![place.failed(metric::PSS, "bytes", why)],
    };
    rows.extend(machine(&running, place));
    if let Some(charged) = running.instance.cgroup_bytes() {
        rows.push(place.row(metric::CGROUP, "bytes", 0, value(charged)));
    }
    finish(running);
    Ok(rows)
}

/// A virtual machine in two parts: what its guest has touched, and the monitor. None of other instances.
fn machine(running: &Running, place: &Place) -> Vec<Sample> {
    let guest = running.instance.guest_memory();
    let monitor = running.instance.pids().first().copied().filter(|_| !guest.is_empty());
    match monitor.map(|pid| procfs::machine(pid, &guest)) {
        None => Vec::new(),
        Some(Ok(machine)) => vec![
            place.row(metric::GUEST_RAM, "bytes", 0, value(machine.guest)),
            place.row(metric::MONITOR, "bytes", 0, value(machine.own)),
        ],
        Some(Err(why)) => vec![place.failed(metric::MONITOR, "bytes", why)],
    }
}

/// Memory of the host after each of a number of starts, all instances running.
fn curve(
    bench: &mut Bench<'_>,
    station: &mut Station,
    subject: &Subject,
    place: &Place,
) -> Result<Vec<Sample>, Stop> {
    if station.usable().is_none() {
        return Ok(station.unusable(place, metric::HOST_USED, "bytes"));
    }
    let mut instances: Vec<Running> = Vec::new();
    let mut rows = Vec::new();
    for number in 0..=bench.effort.marginal_instances {
        if number > 0 {
            let Some(prepared) = station.usable() else { break };
            let result = bench.observer.until_output(prepared);
            match station.note(result)? {
                Ok(running) => instances.push(running),
                Err(why) => {
                    let row = if subject.is_ours() { Place::failed } else { Place::skipped };
                    rows.push(row(place, metric::HOST_USED, "bytes", why));
                    break;
                }
            }
        }
        sleep(SETTLE_POINT);
        match procfs::host() {
            Ok(host) => {
                rows.push(place.row(metric::HOST_USED, "bytes", number, value(host.used)));
                rows.push(place.row(metric::KERNEL_USED, "bytes", number, value(host.kernel)));
            }
            Err(error) => rows.push(place.failed(metric::HOST_USED, "bytes", error.to_string())),
        }
    }
    if let Some(why) = instances.iter_mut().find_map(ended) {
        // Then the points do not belong to the numbers they are marked with.
        let row = if subject.is_ours() { Place::failed } else { Place::skipped };
        rows = vec![row(place, metric::HOST_USED, "bytes", why)];
    }
    instances.into_iter().for_each(finish);
    sleep(SETTLE_GONE);
    Ok(rows)
}

/// Why an instance that should be idling is not.
pub(super) fn ended(running: &mut Running) -> Option<String> {
    match running.instance.wait(Some(Duration::ZERO)) {
        Ok(None) => None,
        Ok(Some(end)) => Some(format!("it ended before it could be looked at: {}", end.status)),
        Err(error) => Some(crate::error::chain(&error)),
    }
}

/// Ends an instance. What cannot be ended is killed by its handle, once more, when that goes.
pub(super) fn finish(mut running: Running) {
    running.instance.kill();
    drop(running.instance.wait(Some(Duration::from_secs(10))));
}
