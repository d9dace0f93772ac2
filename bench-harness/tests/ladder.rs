//! The ladder: what it leaves in the recording, and that it leaves nothing else.

#![allow(clippy::print_stdout, reason = "what is skipped is said in the test's output")]

mod common;

use std::time::Duration;

use bench_harness::experiment::Bench;
use bench_harness::experiment::ladder::{Subjects, measure};
use bench_harness::plan::Profile;
use bench_harness::progress::Progress;
use bench_harness::record::{Sample, SkippedTarget, Status};
use bench_harness::runner::Observer;
use bench_harness::summary::summarise;
use bench_harness::target::{TargetKind, rung, target};
use bench_harness::workload::{Image, Subject};
use workloads::Invocation;

/// Long: the processor itself may be emulated.
const PATIENCE: Duration = Duration::from_secs(120);

fn climb(kinds: &[TargetKind], absent: &[SkippedTarget]) -> Vec<Sample> {
    climb_in(3, kinds, absent)
}

/// In so many blocks.
fn climb_in(blocks: u32, kinds: &[TargetKind], absent: &[SkippedTarget]) -> Vec<Sample> {
    let mut rows = Vec::new();
    let mut effort = Profile::Quick.effort();
    // The ladder makes a third of it, and a quarter of the instances.
    effort.startup_blocks = 3 * blocks;
    effort.marginal_instances = 4 * blocks;
    effort.memory_blocks = 1;
    effort.marginal_rounds = 1;
    effort.overhead_blocks = 1;
    effort.overhead_repetition = Duration::from_millis(5);
    let image = Image::ours().expect("sealed memory");
    let once = Invocation::of(&workloads::catalogue::all()[0]);
    let (startup, idle) =
        (Subject::ours(&image, &once), Subject::ours(&image, &Invocation { hold: true, ..once }));
    let mut bench = Bench {
        participants: &[],
        seed: 3,
        effort,
        mem_mib: 64,
        observer: &mut Observer::new(None, PATIENCE).expect("an observer"),
        sink: &mut rows,
        progress: &mut Progress::silent(),
        ended: Vec::new(),
    };
    let subjects = Subjects { image: &image, startup: &startup, idle: &idle };
    measure(&mut bench, subjects, kinds, absent, &Default::default()).expect("nothing stops it");
    rows
}

#[test]
fn every_rung_of_the_container_is_measured_in_every_respect() {
    if let Err(reason) = target(TargetKind::Container).probe() {
        println!("skipped: {reason}");
        return;
    }
    let rows = climb(&[TargetKind::Container], &[]);
    let failed: Vec<&Sample> = rows.iter().filter(|row| row.status == Status::Failed).collect();
    assert!(failed.is_empty(), "{failed:?}");
    let has = |rung: &str, metric: &str| {
        rows.iter().any(|row| row.target == rung && row.metric == metric && row.status != Status::Failed)
    };
    let skipped = |rung: &str| rows.iter().any(|row| row.target == rung && row.status == Status::Skipped);
    for rung in rung::names().filter(|name| name.starts_with("container:")) {
        let metrics =
            ["ready_ns", "exit_ns", "teardown_ns", "pss_bytes", "kernel_used_bytes", "deferred_cpu_ns"];
        for metric in metrics {
            assert!(has(rung, metric) || skipped(rung), "{metric} of {rung}");
        }
        assert!(has(rung, "time_per_op_ns") || skipped(rung), "system calls of {rung}");
    }
    let rows = summarise(&rows, 1);
    let cost = rows.iter().find(|row| row.metric == "layer.ready_ns" && row.target == "container:+mount");
    let cost = cost.expect("the cost of a root of its own");
    assert_eq!((cost.baseline.as_deref(), cost.n), (Some("container:+session"), 3));
}

#[test]
fn rungs_of_a_target_that_the_host_cannot_run_are_skipped_with_its_reason() {
    let absent = [SkippedTarget { target: "microvm-linux".into(), reason: "no such processor".into() }];
    let rows = climb(&[TargetKind::MicrovmLinux], &absent);
    let skipped: Vec<&str> = rows
        .iter()
        .filter(|row| row.status == Status::Skipped && row.detail == "no such processor")
        .map(|row| row.target.as_str())
        .collect();
    let expected: Vec<&str> = rung::names().filter(|name| name.starts_with("microvm-linux:")).collect();
    assert_eq!(skipped, expected);
    assert!(rows.iter().any(|row| row.target == "native" && row.metric == "ready_ns"));
}

/// The rungs of this kind of machine, of which the smallest has so much memory.
fn backings_show(kind: TargetKind, mib: u64) {
    let least = (mib << 20) as f64;
    if let Err(reason) = target(kind).probe() {
        println!("skipped: {reason}");
        return;
    }
    let rows = climb_in(1, &[kind], &[]);
    let failed: Vec<&Sample> = rows.iter().filter(|row| row.status == Status::Failed).collect();
    assert!(failed.is_empty(), "{failed:?}");
    let all_of = |rung: &str, metric: &str, holds: &dyn Fn(f64) -> bool| {
        let rung = format!("{}:{rung}", kind.name());
        let own = |row: &&Sample| row.target == rung && row.metric == metric && row.status == Status::Ok;
        let values: Vec<f64> = rows.iter().filter(own).filter_map(|row| row.value).collect();
        let right = !values.is_empty() && values.iter().all(|value| holds(*value));
        assert!(right, "{metric} of {rung}: {values:?}");
    };
    all_of(&format!("{mib}MiB"), "guest_ram_bytes", &|bytes| bytes < least);
    all_of("prefaulted", "guest_ram_bytes", &|bytes| bytes >= least);
    all_of("prefaulted", "pss_bytes", &|bytes| bytes >= least);
    all_of("prefaulted", "ready_ns", &|ns| ns > 0.0);
    let huge = |row: &&Sample| row.target.ends_with(":huge-pages") && row.status == Status::Skipped;
    match rows.iter().find(huge) {
        Some(row) => assert!(row.detail.contains("huge pages"), "{}", row.detail),
        None => {
            // One of them, at least.
            all_of("huge-pages", "guest_ram_bytes", &|bytes| bytes >= f64::from(2 << 20) && bytes < least);
            all_of("huge-pages", "ready_ns", &|ns| ns > 0.0);
        }
    }
}

#[test]
fn what_stands_behind_the_memory_of_a_machine_shows_in_what_it_takes() {
    backings_show(TargetKind::Microvm, 64);
}

#[test]
fn what_stands_behind_the_memory_of_a_linux_machine_shows_in_what_it_takes() {
    backings_show(TargetKind::MicrovmLinux, 128);
}
