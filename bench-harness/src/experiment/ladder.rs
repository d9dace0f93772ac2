//! What does each layer of isolation cost by itself: at the start, at the end, in memory, per system call?
//!
//! The targets here are the rungs of [`crate::target::rung`]: the same program with one layer more each, then the whole without each
//! layer in turn, and virtual machines that differ in one thing. They are measured by the code of the other experiments, in
//! blocks that hold every rung once, and the cost of a layer is a difference within a block (see `summary::layers`). What a
//! layer leaves for the kernel to do after the instance is gone is measured, too.

use std::collections::BTreeMap;

use super::{Bench, Experiment, Participant, Stop, afterwards, memory, overhead, skipped_row, startup};
use crate::record::{BASELINE, SkippedTarget};
use crate::target::native::Native;
use crate::target::{SkipReason, Target as _, TargetKind, microvm_linux, rung};
use crate::workload::{Image, Subject};

/// What is launched.
#[derive(Debug, Clone, Copy)]
pub struct Subjects<'a> {
    /// The program's bytes.
    pub image: &'a Image,
    /// What ends at once.
    pub startup: &'a Subject,
    /// What idles.
    pub idle: &'a Subject,
}

/// Makes the experiment with the rungs of these kinds of target, of which `absent` cannot run here; returns the iterations of the
/// workload of its last part.
///
/// # Errors
/// Where it ends before its plan does; single failures are rows.
pub fn measure(
    bench: &mut Bench<'_>,
    subjects: Subjects<'_>,
    kinds: &[TargetKind],
    absent: &[SkippedTarget],
    linux: &microvm_linux::Options,
) -> Result<BTreeMap<String, u64>, Stop> {
    let mut participants = vec![Participant { name: BASELINE.into(), target: Box::new(Native) }];
    let mut calls = vec![Participant { name: BASELINE.into(), target: Box::new(Native) }];
    let mut skipped = Vec::new();
    for rung in rung::all(linux).into_iter().filter(|rung| kinds.contains(&rung.kind())) {
        // What the host cannot run at all was tried once, and has its reason.
        let absent = absent.iter().find(|absent| absent.target == rung.kind().name());
        match absent.map_or_else(|| rung.probe(), |absent| Err(SkipReason(absent.reason.clone()))) {
            Ok(()) => {
                let participant = || Participant { name: rung.name.clone(), target: Box::new(rung.clone()) };
                participants.push(participant());
                if rung.changes_calls() {
                    calls.push(participant());
                }
            }
            Err(reason) => {
                let name = &subjects.startup.name;
                skipped.push(skipped_row(Experiment::Ladder, &rung.name, name, &reason.0));
            }
        }
    }
    bench.sink.keep(skipped)?;

    let whole = bench.progress.share();
    let ladder = Experiment::Ladder;
    part(bench, &participants, 0.1 * whole, |own| startup::measure_in(own, ladder, &[subjects.startup]))?;
    part(bench, &participants, 0.35 * whole, |own| memory::measure_in(own, ladder, subjects.idle))?;
    part(bench, &participants, 0.3 * whole, |own| {
        afterwards::measure_in(own, ladder, subjects.startup, own.effort.overhead_blocks)
    })?;
    // A user's own program makes the calls that it makes; these are ours.
    if !subjects.startup.is_ours() {
        return Ok(BTreeMap::new());
    }
    let chosen: Vec<_> = workloads::catalogue::find("syscall").into_iter().collect();
    let found =
        part(bench, &calls, 0.25 * whole, |own| overhead::measure_in(own, ladder, subjects.image, &chosen))?;
    Ok(found.iterations)
}

/// Makes a part of it with these participants, which takes about this share of the run's time.
fn part<T>(
    bench: &mut Bench<'_>,
    participants: &[Participant],
    share: f64,
    measure: impl FnOnce(&mut Bench<'_>) -> Result<T, Stop>,
) -> Result<T, Stop> {
    bench.progress.next_share(share);
    let mut own = Bench {
        participants,
        seed: bench.seed,
        effort: bench.effort.of_ladder(),
        mem_mib: bench.mem_mib,
        observer: &mut *bench.observer,
        sink: &mut *bench.sink,
        progress: &mut *bench.progress,
        ended: Vec::new(),
    };
    let found = measure(&mut own);
    let ended = own.ended;
    bench.ended.extend(ended);
    found
}
