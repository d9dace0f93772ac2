//! The experiment neighbours, from outside: aggressors keep to their limits, are refused where they cannot be limited, and
//! go with the run, however that ends.

#![allow(clippy::print_stdout, reason = "what is skipped is said in the test's output")]

mod common;

use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::{Mutex, MutexGuard, PoisonError};

use bench_harness::record::{Sample, Status};
use bench_harness::store;
use common::{bench, command, copy_program, eventually, executable, processes_with, targets};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

/// Aggressors are told from others by their command lines: one test at a time.
fn alone() -> MutexGuard<'static, ()> {
    static ONE: Mutex<()> = Mutex::new(());
    ONE.lock().unwrap_or_else(PoisonError::into_inner)
}

fn aggressors() -> Vec<i32> {
    processes_with("workload\0aggressor\0")
}

fn recorded(out: &Path) -> Vec<Sample> {
    store::read(out).expect("a whole recording").1
}

#[test]
fn a_victim_is_measured_alone_and_beside_aggressors_that_keep_to_their_limits() {
    let _alone = alone();
    let dir = tempfile::tempdir().expect("a temporary folder");
    let out = dir.path().join("recording");
    let path = out.to_str().expect("a plain path");
    let options = ["--targets", "native", "--workloads", "cpu-int", "--out", path];
    let ran = bench(["compare", "--experiments", "neighbours"].iter().chain(&options)).expect_code(0);
    let said = ran.stdout.split_whitespace().collect::<Vec<_>>().join(" ");
    for part in [
        "Slow-down of cpu-int beside an aggressor: median",
        "Found: by its medians cpu-int is slowed down most in native by",
    ] {
        assert!(said.contains(part), "{part}: {said}");
    }
    let samples = recorded(&out);
    let of = |workload: &str, metric: &str| -> Vec<f64> {
        let own = |row: &&Sample| (&*row.workload, &*row.metric) == (workload, metric);
        samples.iter().filter(own).filter_map(|row| row.value).collect()
    };
    assert!(of("cpu-int", "op_median_ns").len() >= 6);
    for aggressor in workloads::aggressors::all() {
        let beside = format!("cpu-int beside {}", aggressor.name);
        assert!(of(&beside, "op_p99_ns").len() >= 6, "{beside}");
        let memory = of(&beside, "aggressor_memory_bytes");
        assert!(memory.iter().all(|bytes| *bytes <= f64::from(128 << 20)), "{beside}: {memory:?}");
        let processes = of(&beside, "aggressor_processes");
        assert!(processes.iter().all(|count| *count <= 32.0), "{beside}: {processes:?}");
        match aggressor.name {
            // At the limit, and not only below it.
            "fork" => assert!(processes.contains(&32.0), "{processes:?}"),
            "memory" => assert!(memory.iter().all(|bytes| *bytes > f64::from(100 << 20)), "{memory:?}"),
            _ => {}
        }
    }
    let report = std::fs::read_to_string(out.join("report.md")).expect("a report");
    for part in ["## Neighbours", "Slow-down of cpu-int", "charts/neighbours.svg"] {
        assert!(report.contains(part), "{part}");
    }
    assert!(out.join("charts/neighbours.png").is_file());
    assert_eq!(aggressors(), [0; 0]);
}

#[test]
fn aggressors_in_a_container_without_limits_are_refused_and_the_victim_is_measured_alone() {
    let _alone = alone();
    let dir = tempfile::tempdir().expect("a temporary folder");
    std::fs::set_permissions(dir.path(), std::os::unix::fs::PermissionsExt::from_mode(0o777))
        .expect("it is ours");
    let out = dir.path().join("recording");
    let program = dir.path().join("bench-harness");
    copy_program(&executable(), &program);
    // An ordinary user to whom nobody has delegated a cgroup.
    let ran = Command::new("setpriv")
        .args(["--reuid", "65534", "--regid", "65534", "--clear-groups"])
        .arg(&program)
        .args([
            "compare",
            "--experiments",
            "neighbours",
            "--workloads",
            "cpu-int",
            "--targets",
            "container",
            "--out",
        ])
        .arg(&out)
        .stdin(Stdio::null())
        .output();
    let Some(ran) = ran.ok().filter(|ran| ran.status.code() == Some(0)) else {
        println!("skipped: no container can be had as another user");
        return;
    };
    let samples = recorded(&out);
    let refused: Vec<_> = samples.iter().filter(|row| row.status == Status::Skipped).collect();
    if refused.is_empty() {
        println!("skipped: that user may set limits: {}", String::from_utf8_lossy(&ran.stdout));
        return;
    }
    assert_eq!(refused.len(), workloads::aggressors::all().len());
    for row in refused {
        assert!(row.detail.starts_with("refused: the aggressor cannot be limited"), "{}", row.detail);
    }
    assert!(samples.iter().any(|row| row.workload == "cpu-int" && row.metric == "op_median_ns"));
    assert!(samples.iter().all(|row| !row.workload.contains("beside") || row.value.is_none()));
}

/// Ends a run in the middle, while aggressors are there.
fn ended_by(signal: Signal, target: &str) {
    let dir = tempfile::tempdir().expect("a temporary folder");
    let mut child = command()
        .args([
            "compare",
            "--experiments",
            "neighbours",
            "--workloads",
            "deflate",
            "--targets",
            target,
            "--out",
        ])
        .arg(dir.path().join("recording"))
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("the command starts");
    let own = Pid::from_raw(i32::try_from(child.id()).expect("a process number"));
    // A virtual machine's monitor is a fork of ours, and its command line is ours.
    let seen = || if target == "native" { !aggressors().is_empty() } else { children(own).len() > 2 };
    eventually("an aggressor runs", seen);
    kill(own, signal).expect("it is our child");
    child.wait().expect("it is our child");
    eventually("no aggressor is left", || aggressors().is_empty());
    eventually("no process of it is left", || {
        processes_with(dir.path().to_str().expect("a plain path")).is_empty()
    });
}

fn children(pid: Pid) -> Vec<String> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap_or_default();
    text.split_whitespace().map(String::from).collect()
}

#[test]
fn no_aggressor_is_left_after_an_interruption_or_a_kill() {
    let _alone = alone();
    for target in targets().into_iter().filter(|target| *target != "microvm-linux") {
        for signal in [Signal::SIGINT, Signal::SIGKILL] {
            ended_by(signal, target);
        }
    }
}
