//! What does a host that is full of idle instances look like? Many at the same time, up to a number or a budget of memory.
//!
//! Each round begins with none, starts one after another, and reads the host's memory at some points on the way. The slopes over the
//! number of instances are what one instance costs, whoever keeps the books. The budget is never passed: before each start there
//! must be room for twice what the largest one so far took. Whatever the reason, a round ends with nothing left.

use std::thread::sleep;

use nix::sys::resource::{Resource, getrlimit, setrlimit};

use super::memory::{SETTLE_GONE, SETTLE_POINT, ended, finish};
use super::procfs::{self, Resident};
use super::{Bench, Experiment, Place, Station, Stop, value};
use crate::plan::{self, Ended};
use crate::record::{Sample, metric};
use crate::runner::Running;
use crate::workload::Subject;

/// Instances where nothing is said.
pub const DEFAULT_INSTANCES: u32 = 64;
/// Part of the available memory that is the budget where nothing is said.
const DEFAULT_PART: u64 = 4;
/// At least so much stays available for everybody else, and at least one part in [`RESERVE_PART`].
const RESERVE: u64 = 256 << 20;
const RESERVE_PART: u64 = 8;
/// A smaller budget shows nothing above the host's noise.
const LEAST_BUDGET: u64 = 64 << 20;
/// Room that the first start must have, of which nothing is known yet.
const FIRST: u64 = 32 << 20;
/// Points of a round beside none, one and two instances.
const POINTS: u32 = 16;
/// Descriptors that one instance takes of us, generously, and those that we have anyway.
const DESCRIPTORS: u64 = 12;
const DESCRIPTORS_OURS: u64 = 128;

/// How many instances, and how much memory of the host they may take together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Most instances at the same time.
    pub instances: u32,
    /// Most that the host's memory in use may grow by.
    pub budget_bytes: u64,
}

/// Why there can be no such experiment here.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum Refusal {
    /// The host does not say how much memory it has.
    #[error("/proc/meminfo does not say how much memory is available")]
    Unknown,
    /// More than the host can spare.
    #[error(
        "a budget of {asked_mib} MiB is more than this host can spare: {available_mib} MiB are available, of which {most_mib} may be used; give --density-budget {most_mib} or less"
    )]
    Budget {
        /// What was asked for.
        asked_mib: u64,
        /// What is available.
        available_mib: u64,
        /// What may be used of that.
        most_mib: u64,
    },
    /// The host has too little, or too little was given.
    #[error(
        "density needs a budget of at least {} MiB, and {available_mib} MiB are available, of which {most_mib} may be used; {}",
        LEAST_BUDGET >> 20,
        if *most_mib < LEAST_BUDGET >> 20 {
            "free memory first".to_owned()
        } else {
            format!("give --density-budget {} or more", LEAST_BUDGET >> 20)
        }
    )]
    Memory {
        /// What is available.
        available_mib: u64,
        /// What may be used of that.
        most_mib: u64,
    },
    /// The limit of descriptors cannot be raised.
    #[error("the limit of open files cannot be raised: {0}")]
    Limit(&'static str),
    /// More descriptors than the process may have.
    #[error(
        "{instances} instances need {needed} open files, and the limit is {limit}; raise it (`ulimit -Hn`) or give --density {fit} or less"
    )]
    Descriptors {
        /// Instances that were asked for.
        instances: u32,
        /// Descriptors that they need.
        needed: u64,
        /// Most that may be had.
        limit: u64,
        /// Instances for which that is enough.
        fit: u64,
    },
}

impl Limits {
    /// What was asked for, or a part of what is available now; and room for the descriptors.
    ///
    /// # Errors
    /// What the host has not.
    pub fn checked(instances: Option<u32>, budget_mib: Option<u64>) -> Result<Self, Refusal> {
        let available = procfs::available().ok_or(Refusal::Unknown)?;
        let limits = Self::within(instances.unwrap_or(DEFAULT_INSTANCES), budget_mib, available)?;
        let (soft, hard) = getrlimit(Resource::RLIMIT_NOFILE).unwrap_or((1024, 1024));
        let needed = descriptors(limits.instances);
        if needed > hard {
            let fit = hard.saturating_sub(DESCRIPTORS_OURS) / DESCRIPTORS;
            return Err(Refusal::Descriptors { instances: limits.instances, needed, limit: hard, fit });
        }
        if needed > soft {
            setrlimit(Resource::RLIMIT_NOFILE, needed, hard).map_err(|errno| Refusal::Limit(errno.desc()))?;
        }
        Ok(limits)
    }

    fn within(instances: u32, budget_mib: Option<u64>, available: u64) -> Result<Self, Refusal> {
        let most = available.saturating_sub(RESERVE.max(available / RESERVE_PART));
        let (available_mib, most_mib) = (available >> 20, most >> 20);
        let budget_bytes = match budget_mib {
            Some(asked_mib) if asked_mib > most_mib => {
                return Err(Refusal::Budget { asked_mib, available_mib, most_mib });
            }
            Some(mib) => mib << 20,
            None => most.min(available / DEFAULT_PART),
        };
        if budget_bytes < LEAST_BUDGET {
            return Err(Refusal::Memory { available_mib, most_mib });
        }
        Ok(Self { instances, budget_bytes })
    }
}

fn descriptors(instances: u32) -> u64 {
    u64::from(instances) * DESCRIPTORS + DESCRIPTORS_OURS
}

/// Makes the experiment.
///
/// # Errors
/// Where it ends before its plan does; single failures are rows.
pub fn measure(bench: &mut Bench<'_>, subject: &Subject, limits: Limits) -> Result<(), Stop> {
    let mut stations = bench.stations(subject);
    let pace = bench.pace(Experiment::Density, 1);
    let rounds = bench.effort.marginal_rounds;
    let (mut made, mut why) = (rounds, Ended::Planned);
    for round in 0..rounds {
        if pace.is_over(round) {
            (made, why) = (round, Ended::Budget);
            break;
        }
        for slot in plan::block(bench.seed, Experiment::Density, round, 1, bench.participants.len()) {
            let name = &bench.participants[slot.target].name;
            let place = Place::new(Experiment::Density, name, &subject.name, round, slot.order);
            let rows = climb(bench, &mut stations[slot.target], subject, &place, limits)?;
            bench.sink.keep(rows)?;
            #[expect(clippy::cast_precision_loss, reason = "a few targets")]
            let targets = bench.participants.len() as f64;
            bench.progress.step(Experiment::Density.name(), 1.0 / f64::from(rounds) / targets);
        }
    }
    bench.end(Experiment::Density, &subject.name, made, why);
    Ok(())
}

/// Keeps count of the host's memory, so that the budget is not passed.
struct Purse {
    start: u64,
    last: u64,
    largest: u64,
    budget: u64,
}

impl Purse {
    fn new(used: u64, budget: u64) -> Self {
        Self { start: used, last: used, largest: FIRST / 2, budget }
    }

    /// Notes what is used after a start. Others use and free memory, too; what they free is not ours to spend.
    fn note(&mut self, used: u64, first: bool) {
        let grew = used.saturating_sub(self.last);
        self.largest = if first { grew } else { self.largest.max(grew) };
        self.last = used;
    }

    /// Whether there is room for another one, should it take twice what the largest took.
    fn has_room(&self) -> bool {
        self.last.saturating_sub(self.start).saturating_add(2 * self.largest) <= self.budget
    }
}

/// One round of one target.
fn climb(
    bench: &mut Bench<'_>,
    station: &mut Station,
    subject: &Subject,
    place: &Place,
    limits: Limits,
) -> Result<Vec<Sample>, Stop> {
    if station.usable().is_none() {
        return Ok(station.unusable(place, metric::HOST_USED, "bytes"));
    }
    let mut instances: Vec<Running> = Vec::new();
    let result = climb_with(bench, station, subject, place, limits, &mut instances);
    // Whatever came, and before anything else: nothing is left.
    instances.into_iter().for_each(finish);
    sleep(SETTLE_GONE);
    result
}

fn climb_with(
    bench: &mut Bench<'_>,
    station: &mut Station,
    subject: &Subject,
    place: &Place,
    limits: Limits,
    instances: &mut Vec<Running>,
) -> Result<Vec<Sample>, Stop> {
    let bad = if subject.is_ours() { Place::failed } else { Place::skipped };
    let mut rows = Vec::new();
    let step = limits.instances.div_ceil(POINTS);
    let host = match procfs::host() {
        Ok(host) => host,
        Err(error) => return Ok(vec![place.failed(metric::HOST_USED, "bytes", error.to_string())]),
    };
    let mut purse = Purse::new(host.used, limits.budget_bytes);
    rows.push(place.row(metric::AVAILABLE, "bytes", 0, value(host.available)));
    rows.extend(point(place, 0, &host, &[]));
    let mut alone = None;
    let mut reached = 0;
    let mut why = String::new();
    for number in 1..=limits.instances {
        if !purse.has_room() {
            why = format!("the budget of {} MiB has no room for another one", limits.budget_bytes >> 20);
            break;
        }
        let Some(prepared) = station.usable() else { break };
        let result = bench.observer.until_output(prepared);
        match station.note(result)? {
            Ok(running) => instances.push(running),
            Err(reason) => {
                rows.push(bad(place, metric::HOST_USED, "bytes", reason));
                break;
            }
        }
        reached = number;
        let is_point = number <= 2 || number % step == 0 || number == limits.instances;
        if is_point {
            sleep(SETTLE_POINT);
        }
        match procfs::host() {
            Ok(host) => {
                purse.note(host.used, number == 1);
                if is_point {
                    rows.extend(point(place, number, &host, instances));
                }
            }
            // Blind, nothing more is started.
            Err(error) => {
                rows.push(place.failed(metric::HOST_USED, "bytes", error.to_string()));
                break;
            }
        }
        match (number, &alone) {
            (1, _) => {
                alone = resident(instances);
                rows.extend(peak(place, &instances[0]));
            }
            (2, Some(one)) => rows.extend(shared(place, one, resident(instances))),
            _ => {}
        }
    }
    if let Some(reason) = instances.iter_mut().find_map(ended) {
        // Then the points do not belong to the numbers they are marked with.
        return Ok(vec![bad(place, metric::HOST_USED, "bytes", reason)]);
    }
    if reached > 0 {
        rows.push(Sample {
            detail: why,
            ..place.row(metric::REACHED, "instances", 0, value(u64::from(reached)))
        });
    }
    Ok(rows)
}

/// What is in use while so many run.
fn point(place: &Place, number: u32, host: &procfs::Host, instances: &[Running]) -> Vec<Sample> {
    let mut rows = Vec::new();
    for (name, bytes) in [
        (metric::HOST_USED, Some(host.used)),
        (metric::KERNEL_USED, Some(host.kernel)),
        (metric::SLAB_USED, host.slab),
        (metric::PAGE_TABLES_USED, host.page_tables),
    ] {
        rows.extend(bytes.map(|bytes| place.row(name, "bytes", number, value(bytes))));
    }
    let pss = if instances.is_empty() { Some(0) } else { resident(instances).map(|all| all.pss) };
    rows.extend(pss.map(|bytes| place.row(metric::PSS_TOTAL, "bytes", number, value(bytes))));
    if instances.is_empty() {
        // Whether there will be groups is not known yet.
        return rows;
    }
    let charged: Option<u64> = instances.iter().map(|running| running.instance.cgroup_bytes()).sum();
    // Where one of them has no group there is no sum.
    rows.extend(charged.map(|bytes| place.row(metric::CGROUP_TOTAL, "bytes", number, value(bytes))));
    rows
}

fn resident(instances: &[Running]) -> Option<Resident> {
    let pids: Vec<i32> = instances.iter().flat_map(|running| running.instance.pids()).collect();
    procfs::resident(&pids).ok()
}

/// The most that the first instance had in memory since its program began.
fn peak(place: &Place, running: &Running) -> Vec<Sample> {
    let peaks: Option<u64> = running.instance.pids().into_iter().map(procfs::peak_resident).sum();
    let mut rows: Vec<Sample> =
        peaks.map(|bytes| place.row(metric::PEAK_RSS, "bytes", 0, value(bytes))).into_iter().collect();
    let charged = running.instance.cgroup_peak_bytes();
    rows.extend(charged.map(|bytes| place.row(metric::PEAK_CGROUP, "bytes", 0, value(bytes))));
    rows
}

/// What two have in common: a page that both map counts half in the proportional size of each, so that two together are as much
/// smaller than twice one alone as the pages are large.
fn shared(place: &Place, one: &Resident, both: Option<Resident>) -> Vec<Sample> {
    let Some(both) = both else { return Vec::new() };
    let of = |one: u64, both: u64| value((2 * one).saturating_sub(both));
    let mut rows = vec![place.row(metric::SHARED, "bytes", 0, of(one.pss, both.pss))];
    if let (Some(one), Some(both)) = (one.cache, both.cache) {
        rows.push(place.row(metric::SHARED_CACHE, "bytes", 0, of(one, both)));
    }
    if let Some(merged) = both.merged {
        rows.push(place.row(metric::SHARED_KSM, "bytes", 0, value(merged)));
    }
    rows
}

#[cfg(test)]
mod tests {
    use super::*;

    const GIB: u64 = 1 << 30;

    #[test]
    fn the_usual_budget_is_a_part_of_what_is_available() {
        let limits = Limits::within(64, None, 8 * GIB);
        assert_eq!(limits, Ok(Limits { instances: 64, budget_bytes: 2 * GIB }));
    }

    #[test]
    fn more_than_the_host_can_spare_is_refused_with_the_most_that_it_can() {
        let refusal = Limits::within(64, Some(8_000), 8 * GIB).expect_err("it needs some for itself");
        assert!(refusal.to_string().contains("give --density-budget 7168 or less"), "{refusal}");
        assert!(Limits::within(64, Some(7_168), 8 * GIB).is_ok());
        let refusal = Limits::within(64, Some(u64::MAX), 8 * GIB).expect_err("nobody has that");
        assert!(matches!(refusal, Refusal::Budget { .. }));
    }

    #[test]
    fn a_host_without_the_memory_is_refused() {
        let refusal = Limits::within(64, None, 200 << 20).expect_err("it is all reserve");
        assert!(refusal.to_string().contains("free memory first"), "{refusal}");
        let refusal = Limits::within(64, Some(63), 8 * GIB).expect_err("too little was given");
        assert!(refusal.to_string().ends_with("give --density-budget 64 or more"), "{refusal}");
    }

    #[test]
    fn the_budget_has_always_room_for_twice_the_largest() {
        let mut purse = Purse::new(1_000 << 20, 100 << 20);
        assert!(purse.has_room());
        purse.note(1_040 << 20, true);
        assert!(!purse.has_room(), "40 used, and 80 more would pass 100");
        let mut purse = Purse::new(1_000 << 20, 100 << 20);
        let mut started = 0;
        while purse.has_room() {
            started += 1;
            purse.note((1_000 + 4 * started) << 20, started == 1);
        }
        assert_eq!(started, 24, "96 used, and 8 more would pass 100");
        // What others free is not spent: the largest step stays what it was.
        purse.note(900 << 20, false);
        assert!(purse.largest == 4 << 20 && purse.has_room());
    }

    #[test]
    fn pages_of_both_count_once() {
        let resident = |pss, cache| Resident { pss, cache: Some(cache), ..Resident::default() };
        let place = Place {
            experiment: "density",
            target: "a".into(),
            workload: "noop".into(),
            block: 0,
            order: 0,
            warmup: false,
        };
        // 100 each, of which 60 are of the same pages.
        let rows = shared(&place, &resident(100, 70), Some(resident(140, 80)));
        let values: Vec<Option<f64>> = rows.iter().map(|row| row.value).collect();
        assert_eq!(values, [Some(60.0), Some(60.0)]);
    }
}
