//! Many started at once: how long each takes then, and how many a second there are.
//!
//! As many threads as instances wait for one word, and each starts and observes its own. All times are from that word on, so that
//! the queue for the CPUs is part of them. Figures are of batches: instances of one batch share it and are no replicates.

use std::sync::Barrier;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use super::{Bench, Experiment, Place, Stop, value};
use crate::clock::now_ns;
use crate::plan::{self, Ended, LEAST_BLOCKS};
use crate::record::{Sample, metric};
use crate::runner::{LaunchFailure, Observed, Observer};
use crate::stats::{count, quantile};
use crate::target::Prepared;
use crate::workload::Subject;

/// Blocks of batches are numbered from here, apart from those of single launches.
const BLOCKS: u32 = 10_000;
/// A batch for so many blocks of single launches.
const PART: u32 = 10;

/// Makes the batches of `instances`.
///
/// # Errors
/// Where it ends before its plan does; single failures are rows.
pub(super) fn measure(bench: &mut Bench<'_>, subject: &Subject, instances: u32) -> Result<(), Stop> {
    let mut observers = Vec::new();
    for _ in 0..instances {
        match bench.observer.another() {
            Ok(observer) => observers.push(observer),
            Err(failure) => return skip(bench, subject, instances, &failure.to_string()),
        }
    }
    let mut stations = bench.stations(subject);
    let blocks = bench.effort.warmup_blocks + (bench.effort.startup_blocks / PART).max(LEAST_BLOCKS);
    let pace = bench.pace(Experiment::Startup, bench.effort.warmup_blocks + LEAST_BLOCKS);
    let ready = metric::at_once(instances, metric::READY);
    let (mut made, mut why) = (blocks, Ended::Planned);
    for number in 0..blocks {
        if pace.is_over(number) {
            (made, why) = (number, Ended::Budget);
            break;
        }
        let block = BLOCKS + number;
        for slot in plan::block(bench.seed, Experiment::Startup, block, 1, bench.participants.len()) {
            let name = &bench.participants[slot.target].name;
            let place = Place {
                warmup: number < bench.effort.warmup_blocks,
                ..Place::new(Experiment::Startup, name, &subject.name, block, slot.order)
            };
            let station = &mut stations[slot.target];
            let Some(prepared) = station.usable() else {
                bench.sink.keep(station.unusable(&place, &ready, "ns"))?;
                continue;
            };
            let rows = match station.note(batch(prepared, subject, &mut observers))? {
                Ok((start, seen)) => rows(&place, start, &seen, bench.observer.cpus()),
                Err(why) => vec![place.failed(&ready, "ns", why)],
            };
            bench.sink.keep(rows)?;
            // A network namespace of a batch is taken down later; not into the next batch.
            thread::sleep(SETTLE);
        }
    }
    bench.end(Experiment::Startup, &format!("{} ({instances} at once)", subject.name), made, why);
    Ok(())
}

/// Between two batches.
const SETTLE: Duration = Duration::from_millis(60);

fn skip(bench: &mut Bench<'_>, subject: &Subject, instances: u32, why: &str) -> Result<(), Stop> {
    let row = |(order, target): (u32, &super::Participant)| {
        let place = Place::new(Experiment::Startup, &target.name, &subject.name, BLOCKS, order);
        place.skipped(&metric::at_once(instances, metric::READY), "ns", why.to_owned())
    };
    let rows = (0..).zip(bench.participants).map(row).collect();
    bench.sink.keep(rows)
}

/// One batch: the instant of the word, and what was seen of each instance. One failure is the whole batch's: what the others
/// took then is not what was asked. The program is made ready once: all of a batch start from the same page cache.
fn batch(
    prepared: &dyn Prepared,
    subject: &Subject,
    observers: &mut [Observer],
) -> Result<(u64, Vec<Observed>), LaunchFailure> {
    subject.make_ready()?;
    let word = Barrier::new(observers.len() + 1);
    let there = AtomicUsize::new(0);
    let all = observers.len();
    thread::scope(|scope| {
        let threads: Vec<_> = observers
            .iter_mut()
            .map(|observer| {
                let (word, there) = (&word, &there);
                scope.spawn(move || {
                    there.fetch_add(1, Ordering::SeqCst);
                    word.wait();
                    observer.whole(prepared).and_then(|seen| subject.judge(seen))
                })
            })
            .collect();
        // Nothing is measured yet: until all wait for the word.
        while there.load(Ordering::SeqCst) < all {
            thread::sleep(Duration::from_micros(200));
        }
        thread::sleep(Duration::from_millis(1));
        let start = now_ns();
        word.wait();
        // All are waited for before the first failure is looked at: none is left behind.
        let ended: Vec<_> = threads
            .into_iter()
            .map(|thread| thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)))
            .collect();
        Ok((start, ended.into_iter().collect::<Result<_, _>>()?))
    })
}

fn rows(place: &Place, start: u64, seen: &[Observed], cpus: usize) -> Vec<Sample> {
    let instances = u32::try_from(seen.len()).unwrap_or(u32::MAX);
    let name = |of: &str| metric::at_once(instances, of);
    let since = |instant: u64| value(instant.saturating_sub(start));
    let ready: Vec<f64> = seen.iter().filter_map(|seen| seen.ready_ns).map(since).collect();
    let exit: Vec<f64> = seen.iter().map(|seen| since(seen.end.gone_ns)).collect();
    let mut rows = Vec::new();
    for (of, values) in [(metric::READY, &ready), (metric::EXIT, &exit)] {
        rows.extend((0..).zip(values).map(|(number, value)| place.row(&name(of), "ns", number, *value)));
    }
    if let Some(slow) = quantile(&ready, 0.99) {
        rows.push(place.row(&name(metric::READY_P99), "ns", 0, slow));
    }
    let last = exit.iter().copied().fold(0.0, f64::max);
    if last > 0.0 {
        rows.push(place.row(&name(metric::RATE), "instances/s", 0, count(seen.len()) / last * 1e9));
        rows.push(place.row(&name(metric::SHARE), "ns", 0, last / count(seen.len()) * count(cpus)));
    }
    rows
}
