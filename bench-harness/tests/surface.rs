//! The experiment surface, from outside: what a target reaches, and what is said where it cannot be seen.

#![allow(clippy::print_stdout, reason = "what is skipped is said in the test's output")]

mod common;

use std::path::Path;
use std::process::Command;

use bench_harness::record::{Sample, Status};
use bench_harness::store;
use common::{bench, command, executable, processes_with, targets};

fn recorded(out: &Path) -> Vec<Sample> {
    store::read(out).expect("a whole recording").1
}

fn value(samples: &[Sample], target: &str, workload: &str, metric: &str) -> Option<f64> {
    let own = |row: &&Sample| (&*row.target, &*row.workload, &*row.metric) == (target, workload, metric);
    samples.iter().find(own)?.value
}

#[test]
fn what_reaches_the_host_is_counted_by_target_and_told_in_the_report() {
    let dir = tempfile::tempdir().expect("a temporary folder");
    let out = dir.path().join("recording");
    let path = out.to_str().expect("a plain path");
    bench(["compare", "--experiments", "surface", "--workloads", "noop,syscall", "--out", path])
        .expect_code(0);
    let samples = recorded(&out);
    let different = |target: &str| value(&samples, target, "noop", "system_calls");
    let calls = |target: &str, workload| value(&samples, target, workload, "system_calls_made");
    // The workload's 256 calls reach the host's kernel where it is the program's own, and only there.
    assert!(calls("native", "syscall") >= calls("native", "noop").map(|made| made + 256.0));
    assert_eq!(value(&samples, "native", "syscall", "call.getppid"), Some(256.0));
    assert!(different("native").is_some_and(|calls| calls > 10.0));
    for target in targets() {
        match target {
            "container" => {
                assert!(different("container") > different("native"));
                let pivots =
                    samples.iter().filter(|row| &*row.target == target && row.metric == "call.pivot_root");
                assert!(pivots.clone().count() > 0);
                assert!(pivots.clone().all(|row| row.iteration == 0), "it is set up before the program runs");
            }
            "microvm" => {
                // The monitor's own, if it makes one.
                assert!(value(&samples, target, "syscall", "call.getppid").unwrap_or(0.0) <= 1.0);
                assert!(value(&samples, target, "noop", "call.ioctl").is_some());
            }
            _ => {}
        }
        let reach = |probe: &str| value(&samples, target, "probe", &format!("probe.{probe}"));
        assert_eq!(reach("host-file"), Some(f64::from(u8::from(target == "native"))), "{target}");
        assert_eq!(
            reach("kernel-release"),
            Some(f64::from(u8::from(!target.starts_with("micro")))),
            "{target}"
        );
    }
    let report = std::fs::read_to_string(out.join("report.md")).expect("a report");
    for part in ["## Surface", "Fewer is not the same as safer", "| reach the host |", "charts/surface.svg"] {
        assert!(report.contains(part), "{part}");
    }
}

#[test]
fn where_somebody_else_traces_us_calls_are_skipped_with_the_reason() {
    if Command::new("strace").arg("-V").output().is_err() {
        println!("skipped: strace is not installed");
        return;
    }
    let dir = tempfile::tempdir().expect("a temporary folder");
    let out = dir.path().join("recording");
    // Whoever is traced already cannot be traced again.
    let traced = Command::new("strace")
        .args(["-f", "-e", "trace=none", "-o", "/dev/null"])
        .arg(executable())
        .args(["compare", "--experiments", "surface", "--targets", "native", "--workloads", "noop", "--out"])
        .arg(&out)
        .output()
        .expect("strace is installed");
    assert!(traced.status.success(), "{}", String::from_utf8_lossy(&traced.stderr));
    let samples = recorded(&out);
    let row = samples.iter().find(|row| row.metric == "system_calls").expect("a row");
    assert_eq!(row.status, Status::Skipped);
    assert!(row.detail.contains("ptrace cannot be used here"), "{}", row.detail);
    assert_eq!(value(&samples, "native", "probe", "probe.host-process"), Some(1.0), "probes need no tracing");
}

#[test]
fn nothing_is_left_when_it_is_killed_while_it_traces() {
    let dir = tempfile::tempdir().expect("a temporary folder");
    let out = dir.path().join("a-recording-of-a-surface");
    let mut child = command()
        .args([
            "compare",
            "--experiments",
            "surface",
            "--targets",
            "native",
            "--workloads",
            "deflate",
            "--out",
        ])
        .arg(&out)
        .stderr(std::process::Stdio::null())
        .stdout(std::process::Stdio::null())
        .spawn()
        .expect("the command starts");
    let watched = || processes_with("/proc/self/fd/");
    common::eventually("something is traced", || !watched().is_empty());
    child.kill().expect("it is our child");
    child.wait().expect("it is our child");
    common::eventually("nothing of it is left", || watched().is_empty());
    let instance = format!("/sys/kernel/tracing/instances/bench-harness-{}", child.id());
    common::eventually("no instance of tracefs is left", || !Path::new(&instance).exists());
}
