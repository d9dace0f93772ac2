//! What does an instance leave for the kernel to do after it is gone?
//!
//! A network namespace, for one, is taken down by a kernel thread some tens of milliseconds after its last process ended. No window of
//! a launch holds that; whoever runs next shares a CPU with it. It is seen in the CPU time of the kernel's worker threads
//! (`/proc/PID/schedstat`, Documentation/scheduler/sched-stats.rst), while nothing of ours runs.

use std::collections::HashMap;
use std::fs;
use std::thread::sleep;
use std::time::{Duration, Instant};

use super::{Bench, Experiment, Place, Stop, value};
use crate::plan;
use crate::record::{Sample, metric};
use crate::workload::Subject;

/// So long is looked after an instance: the grace periods that the kernel waits for are over by then.
const WINDOW: Duration = Duration::from_millis(100);
/// So often is looked within.
const STEP: Duration = Duration::from_millis(5);
/// Less CPU time than this is what the kernel's threads use anyway: when half of it was used says nothing.
const WORTH_A_TIME: u64 = 500_000;

/// Blocks of this are numbered from here, apart from those of the other parts of the ladder.
const BLOCKS: u32 = 2_000;

/// Makes this part of `experiment`, `blocks` times.
///
/// # Errors
/// Where it ends before its plan does; single failures are rows.
pub(super) fn measure_in(
    bench: &mut Bench<'_>,
    experiment: Experiment,
    subject: &Subject,
    blocks: u32,
) -> Result<(), Stop> {
    let mut workers = Workers::default();
    let mut stations = bench.stations(subject);
    let pace = bench.pace(experiment, plan::LEAST_BLOCKS);
    for number in 0..blocks {
        if pace.is_over(number) {
            break;
        }
        let block = BLOCKS + number;
        for slot in plan::block(bench.seed, experiment, block, 1, bench.participants.len()) {
            let name = &bench.participants[slot.target].name;
            let place = Place::new(experiment, name, &subject.name, block, slot.order);
            let station = &mut stations[slot.target];
            let rows = match station.usable() {
                None => station.unusable(&place, metric::DEFERRED, "ns"),
                Some(prepared) => {
                    let result = subject.launched(bench.observer, prepared);
                    match station.note(result)? {
                        Ok(_) => look(&mut workers, &place, number),
                        Err(why) => vec![place.failed(metric::DEFERRED, "ns", why)],
                    }
                }
            };
            bench.sink.keep(rows)?;
        }
        bench.progress.step(experiment.name(), 1.0 / f64::from(blocks));
    }
    Ok(())
}

/// What the kernel's threads do from now on.
fn look(workers: &mut Workers, place: &Place, number: u32) -> Vec<Sample> {
    let began = Instant::now();
    let Some(first) = workers.cpu_ns() else {
        let why = "the kernel's own threads cannot be seen from here (/proc/PID/schedstat)".to_owned();
        return if number == 0 { vec![place.skipped(metric::DEFERRED, "ns", why)] } else { Vec::new() };
    };
    let mut points = Vec::new();
    while began.elapsed() < WINDOW {
        sleep(STEP);
        if let Some(now) = workers.cpu_ns() {
            points.push((began.elapsed(), now.saturating_sub(first)));
        }
    }
    let used = points.last().map_or(0, |(_, used)| *used);
    let mut rows = vec![place.row(metric::DEFERRED, "ns", 0, value(used))];
    let half = points.iter().find(|(_, so_far)| 2 * so_far >= used).filter(|_| used >= WORTH_A_TIME);
    if let Some((at, _)) = half {
        let at = u64::try_from(at.as_nanos()).unwrap_or(u64::MAX);
        rows.push(place.row(metric::DEFERRED_HALF, "ns", 0, value(at)));
    }
    rows
}

/// The threads of the kernel that do what others left: work queues, soft interrupts, RCU. Not those that go through memory
/// (ksmd, khugepaged, kdamond), which have their own reasons.
#[derive(Debug, Default)]
struct Workers {
    /// Every process that was ever met, and whether it is one of them.
    known: HashMap<i32, bool>,
    /// The last that was seen of each, those that are gone included: the sum never falls.
    seen: HashMap<i32, u64>,
}

const NAMES: [&str; 3] = ["kworker/", "ksoftirqd/", "rcu"];

impl Workers {
    /// CPU time of all of them since each began; `None` where none can be seen.
    fn cpu_ns(&mut self) -> Option<u64> {
        for entry in fs::read_dir("/proc").ok()?.flatten() {
            let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse().ok()) else { continue };
            if !*self.known.entry(pid).or_insert_with(|| is_worker(pid)) {
                continue;
            }
            let text = fs::read_to_string(format!("/proc/{pid}/schedstat"));
            if let Some(ns) = text.ok().as_deref().and_then(run_ns) {
                self.seen.insert(pid, ns);
            }
        }
        (!self.seen.is_empty()).then(|| self.seen.values().sum())
    }
}

/// Its first number: time on a CPU.
fn run_ns(schedstat: &str) -> Option<u64> {
    schedstat.split_whitespace().next()?.parse().ok()
}

/// A child of kthreadd, process 2, with a name that is one of [`NAMES`].
fn is_worker(pid: i32) -> bool {
    fs::read_to_string(format!("/proc/{pid}/stat")).is_ok_and(|stat| names_worker(&stat))
}

/// proc_pid_stat(5): number, name in parentheses, state, parent.
fn names_worker(stat: &str) -> bool {
    let Some((before, after)) = stat.rsplit_once(')') else { return false };
    let name = before.split_once('(').map_or("", |(_, name)| name);
    after.split_whitespace().nth(1) == Some("2") && NAMES.iter().any(|known| name.starts_with(known))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn threads_of_the_kernel_are_known_by_their_parent_and_their_name() {
        assert!(names_worker("14 (kworker/u8:0-netns) I 2 0 0 0 -1 69238880 0"));
        assert!(names_worker("18 (rcu_preempt) I 2 0 0"));
        assert!(!names_worker("90 (ksmd) S 2 0 0"));
        assert!(!names_worker("91 (kworker/) fake) S 1 0 0"));
        assert!(!names_worker(""));
        assert_eq!(run_ns("8034525 12705132 156\n"), Some(8_034_525));
        assert_eq!(run_ns(""), None);
    }

    #[test]
    fn the_time_of_the_kernels_threads_never_falls() {
        let mut workers = Workers::default();
        // None in a container, where they cannot be seen.
        let Some(first) = workers.cpu_ns() else { return };
        assert!(workers.cpu_ns().is_some_and(|second| second >= first));
    }
}
