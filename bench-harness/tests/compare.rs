//! `compare`: what it leaves, and what becomes of programs and folders that are not as they should be.

#![allow(clippy::print_stdout, reason = "what is skipped is said in the test's output")]

mod common;

use std::fs;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use bench_harness::record::Status;
use bench_harness::store;
use common::{bench, compare_with, compile, details, failures, program, targets};

const STARTUP: [&str; 2] = ["--experiments", "startup"];

#[test]
fn a_comparison_leaves_a_recording_from_which_the_report_can_be_made_again() {
    let dir = tempfile::tempdir().expect("a temporary folder");
    let out = dir.path().join("recording");
    let path = out.to_str().expect("a plain path");
    let ran =
        bench(["compare", "--experiments", "startup,memory", "--seed", "7", "--out", path]).expect_code(0);
    assert!(
        ran.stdout.contains("noop") && ran.stdout.lines().all(|line| line.chars().count() <= 100),
        "{}",
        ran.stdout
    );
    for name in ["samples.csv", "summary.csv", "run.json", "report.md", "charts"] {
        assert!(out.join(name).exists(), "{name} is missing");
    }
    let (info, samples) = store::read(&out).expect("a whole recording");
    assert_eq!((info.seed, info.interrupted), (7, false));
    assert_eq!(info.digests.workload.as_deref().map(str::len), Some(64));
    for target in targets() {
        for metric in
            ["ready_ns", "exit_ns", "teardown_ns", "pss_bytes", "uss_bytes", "rss_bytes", "host_used_bytes"]
        {
            let found =
                samples.iter().any(|row| row.target == target && row.metric == metric && row.value.is_some());
            assert!(found, "no {metric} of {target}");
        }
    }
    for skipped in &info.skipped {
        assert!(samples.iter().any(|row| row.target == skipped.target && row.status == Status::Skipped));
    }
    // Phases add up, exactly, launch by launch.
    for ready in samples.iter().filter(|row| row.metric == "ready_ns" && row.value.is_some()) {
        let same = |row: &&bench_harness::record::Sample| {
            (&row.target, row.block, row.order) == (&ready.target, ready.block, ready.order)
        };
        let phases = samples.iter().filter(same).filter(|row| row.metric.starts_with("phase."));
        assert_eq!(Some(phases.filter_map(|row| row.value).sum::<f64>()), ready.value);
    }

    let before = fs::read(out.join("summary.csv")).expect("a summary");
    fs::remove_file(out.join("summary.csv")).expect("our own file");
    fs::remove_dir_all(out.join("charts")).expect("our own folder");
    bench(["report", path]).expect_code(0);
    assert_eq!(fs::read(out.join("summary.csv")).expect("it is there again"), before);
    bench(["compare", "--out", path]).expect_code(3).expect_said(&["holds"]);
}

#[test]
fn the_same_work_has_the_same_checksum_and_two_clocks_in_every_target() {
    let dir = tempfile::tempdir().expect("a temporary folder");
    let out = dir.path().join("recording");
    let path = out.to_str().expect("a plain path");
    bench(["compare", "--experiments", "overhead", "--workloads", "cpu-int,sha256", "--out", path])
        .expect_code(0);
    let (info, samples) = store::read(&out).expect("a whole recording");
    for workload in ["cpu-int", "sha256"] {
        assert!(info.repetitions.get(workload).is_some_and(|&count| count > 0));
        for target in targets() {
            let value = |metric: &str| {
                samples.iter().find(|row| {
                    (row.target.as_str(), row.workload.as_str(), row.metric.as_str())
                        == (target, workload, metric)
                        && row.status == Status::Ok
                })
            };
            assert!(
                value("time_per_op_ns").is_some() && value("host_wall_ns").is_some(),
                "{workload} in {target}"
            );
        }
    }
}

#[test]
fn a_program_of_the_users_own_is_measured_and_its_arguments_reach_it() {
    let (ran, info, samples) = compare_with(program(), &["--experiments", "startup,overhead"], &["protocol"]);
    ran.expect_code(0);
    assert_eq!(
        info.digests.workload,
        Some(bench_harness::sealed::digest(&fs::read(program()).expect("it is there")))
    );
    let metrics = ["ready_ns", "exit_ns", "time_per_op_ns", "host_wall_ns", "bandwidth"];
    for metric in metrics {
        let row = samples.iter().find(|row| row.metric == metric && row.status == Status::Ok);
        assert!(row.is_some_and(|row| row.workload == "program"), "no {metric}");
    }
}

#[test]
fn a_program_without_marks_has_no_overhead_and_one_that_ends_has_no_memory() {
    let (ran, _, samples) = compare_with(program(), &["--experiments", "memory,overhead"], &["exit", "0"]);
    ran.expect_code(0);
    let skipped = details(&samples, Status::Skipped);
    assert!(skipped.iter().any(|why| why.contains("printed nothing")), "{skipped:?}");
    let (ran, _, samples) = compare_with(program(), &["--experiments", "memory,overhead"], &["hello"]);
    ran.expect_code(0);
    let skipped = details(&samples, Status::Skipped);
    assert!(skipped.iter().any(|why| why.contains("`begin`")), "{skipped:?}");
    assert!(skipped.iter().any(|why| why.contains("ended before it could be looked at")), "{skipped:?}");
}

#[test]
fn misbehaving_programs_are_failed_rows_with_the_reason_and_exit_code_4() {
    for (what, why) in [
        ("segv", "SIGSEGV"),
        ("segv-silently", "SIGSEGV"),
        ("abort", "SIGABRT"),
        ("complain", "exited with code 3; it went wrong"),
        ("silent", "printed nothing"),
        ("flood", "floods its output"),
        ("hang", "still running after 1 s"),
        ("hang-silently", "still running after 1 s"),
    ] {
        let (ran, info, samples) =
            compare_with(program(), &[&STARTUP[..], &["--timeout", "1"]].concat(), &[what]);
        ran.expect_code(4);
        assert!(!info.interrupted);
        let failed = failures(&samples);
        assert!(failed.iter().any(|detail| detail.contains(why)), "{what}: {failed:?}");
        assert!(failed.len() <= 4, "given up early: {what}: {failed:?}");
    }
}

#[test]
fn broken_protocol_lines_fail_the_overhead_of_a_users_program() {
    for (what, why) in [("malformed", "value is a decimal number"), ("no-end", "has no `end`")] {
        let (ran, _, samples) = compare_with(program(), &["--experiments", "overhead"], &[what]);
        ran.expect_code(4);
        let failed = failures(&samples);
        assert!(failed.iter().any(|detail| detail.contains(why)), "{what}: {failed:?}");
    }
}

#[test]
fn an_unfit_program_is_refused_before_anything_is_measured() {
    bench(["compare", "--workload-bin", "/nonexistent/program"])
        .expect_code(2)
        .expect_said(&["does not exist"]);
    bench(["compare", "--workload-bin", "/etc"]).expect_code(2).expect_said(&["is a directory"]);
}

#[test]
fn an_output_folder_that_cannot_be_written_to_fails_before_anything_is_measured() {
    let began = Instant::now();
    bench(["compare", "--out", "/proc/nothing/here"]).expect_code(3).expect_said(&["/proc/nothing/here"]);
    let dir = tempfile::tempdir().expect("a temporary folder");
    let file = dir.path().join("file");
    fs::write(&file, "").expect("a writable folder");
    bench(["compare", "--out", file.to_str().expect("a plain path")]).expect_code(3);
    assert!(began.elapsed() < Duration::from_secs(5));
}

#[test]
fn a_full_disk_ends_the_run_with_what_fitted() {
    let dir = tempfile::tempdir().expect("a temporary folder");
    let mounted = Command::new("mount")
        .args(["-t", "tmpfs", "-o", "size=64k", "tmpfs"])
        .arg(dir.path())
        .stderr(Stdio::null())
        .status()
        .is_ok_and(|status| status.success());
    if !mounted {
        println!("skipped: no right to mount a small file system");
        return;
    }
    let out = dir.path().join("recording");
    let ran = bench(["compare", "--experiments", "startup", "--out", out.to_str().expect("a plain path")]);
    let kept = store::read(&out);
    let unmounted = Command::new("umount").arg(dir.path()).status().expect("umount is installed");
    assert!(unmounted.success(), "nothing of the run is left in it");
    ran.expect_code(3).expect_said(&["No space left on device"]);
    let (_, samples) = kept.expect("what fitted can be read");
    assert!(samples.iter().any(|row| row.metric == "ready_ns" && row.status == Status::Ok));
}

#[test]
fn many_at_once_are_rows_of_each_instance_and_of_each_batch() {
    let dir = tempfile::tempdir().expect("a temporary folder");
    let out = dir.path().join("recording");
    let path = out.to_str().expect("a plain path");
    let ran =
        bench(["compare", "--experiments", "startup", "--concurrency", "8", "--out", path]).expect_code(0);
    assert!(ran.stdout.contains("8 of noop started at once"), "{}", ran.stdout);
    let (info, samples) = store::read(&out).expect("a whole recording");
    assert_eq!(info.design.and_then(|design| design.concurrency), Some(8));
    for target in targets() {
        let of = |metric: &str| {
            let own = samples.iter().filter(|row| row.target == target && row.metric == metric);
            own.filter(|row| row.status == Status::Ok).collect::<Vec<_>>()
        };
        let (ready, exit) = (of("at_once_8.ready_ns"), of("at_once_8.exit_ns"));
        assert!(!ready.is_empty() && ready.len() == exit.len() && ready.len().is_multiple_of(8), "{target}");
        for (ready, exit) in ready.iter().zip(&exit) {
            assert!(ready.value < exit.value, "{ready:?} {exit:?}");
        }
        assert_eq!(of("at_once_8.rate").len() * 8, ready.len(), "one figure a batch");
        assert!(of("at_once_8.rate").iter().all(|row| row.value > Some(0.0)));
    }
    bench(["compare", "--concurrency", "65"]).expect_code(2).expect_said(&["65", "64"]);
}

#[test]
fn a_cold_start_is_a_workload_of_its_own_or_is_refused() {
    let dir = tempfile::tempdir().expect("a temporary folder");
    let out = dir.path().join("recording");
    let path = out.to_str().expect("a plain path");
    let ran = bench(["compare", "--experiments", "startup", "--cache", "both", "--out", path]);
    if ran.code == 3 {
        assert!(ran.stderr.contains("no start can be made cold here"), "{}", ran.stderr);
        println!("skipped: {}", ran.stderr);
        return;
    }
    ran.expect_code(0);
    let (info, samples) = store::read(&out).expect("a whole recording");
    let design = info.design.expect("it is recorded");
    assert_eq!(design.cache, "both");
    assert!(design.cold_by.is_some_and(|how| how.contains("posix_fadvise")));
    for target in targets() {
        for workload in ["noop", "noop-cold"] {
            let found = samples.iter().any(|row| {
                row.target == target
                    && row.workload == workload
                    && row.metric == "ready_ns"
                    && row.value.is_some()
            });
            assert!(found, "{workload} in {target}");
        }
    }
}

#[test]
fn a_folder_where_nothing_may_be_executed_is_no_place_for_the_cold_copy() {
    let dir = tempfile::tempdir().expect("a temporary folder");
    let noexec = dir.path().join("noexec");
    fs::create_dir(&noexec).expect("a writable folder");
    let (folder, out) = (noexec.to_str().expect("a plain path"), dir.path().join("recording"));
    let mount = "mount --bind \"$0\" \"$0\" && mount -o remount,bind,noexec \"$0\" && exec \"$@\"";
    let inside = |program: &std::ffi::OsStr, args: &[&str]| {
        let mut command = Command::new("unshare");
        command.args(["--mount", "sh", "-c", mount, folder]).arg(program).args(args).env("TMPDIR", folder);
        command.output().expect("util-linux is installed")
    };
    let tried = inside("true".as_ref(), &[]);
    if !tried.status.success() {
        println!("skipped: nothing can be mounted: {}", String::from_utf8_lossy(&tried.stderr));
        return;
    }
    let path = out.to_str().expect("a plain path");
    let options =
        ["compare", "--targets", "native", "--experiments", "startup", "--cache", "cold", "--out", path];
    let ran = common::Ran::from(inside(common::executable().as_os_str(), &options));
    if ran.code == 3 {
        // No other folder will do on this host; of this one it says why.
        ran.expect_said(&["noexec"]);
        return;
    }
    ran.expect_code(0);
    let design = store::read(&out).expect("a whole recording").0.design.expect("it is recorded");
    assert!(design.cold_by.is_some_and(|how| !how.contains(folder)));
}

#[test]
fn pinning_gives_instances_cpus_of_their_own_or_says_why_not() {
    let source = "#define _GNU_SOURCE\n#include <sched.h>\n#include <stdio.h>\n#include <stdlib.h>\n\
        int main(int n, char **arg) { cpu_set_t own; sched_getaffinity(0, sizeof own, &own); puts(\"ready\"); \
        return n > 1 && CPU_ISSET(atoi(arg[1]), &own) ? 3 : 0; }";
    let dir = tempfile::tempdir().expect("a temporary folder");
    let program = dir.path().join("where");
    compile(source, &["-static"], &program);
    let allowed = nix::sched::sched_getaffinity(nix::unistd::Pid::from_raw(0)).expect("our own");
    let first = (0..nix::sched::CpuSet::count()).find(|&cpu| allowed.is_set(cpu) == Ok(true));
    let first = first.expect("we run somewhere").to_string();
    let (_, info, samples) = compare_with(&program, &["--experiments", "startup", "--pin"], &[&first]);
    let pinned = info.design.clone().and_then(|design| design.pinned);
    match pinned {
        Some(placement) => {
            // It ends with 3 where it may run on the harness's CPU.
            assert_eq!(failures(&samples), [""; 0]);
            assert!(!placement.harness.is_empty() && !placement.instances.is_empty());
            assert!(placement.harness.iter().all(|cpu| !placement.instances.contains(cpu)));
            let at_end = info.host_at_end.expect("it was looked at");
            assert_eq!(info.host.cpus_allowed, at_end.cpus_allowed, "pinning is no change of the host");
        }
        None => {
            let said = info.warnings.iter().any(|warning| warning.to_string().contains("separate cores"));
            assert!(said, "{:?}", info.warnings);
        }
    }
}

#[test]
fn a_dense_host_is_measured_up_to_the_number_and_nothing_is_left() {
    let dir = tempfile::tempdir().expect("a temporary folder");
    let out = dir.path().join("recording");
    let path = out.to_str().expect("a plain path");
    let ran = bench(["compare", "--experiments", "density", "--density", "12", "--out", path]);
    if ran.code == 3 {
        println!("skipped: {}", ran.stderr);
        return;
    }
    ran.expect_code(0);
    let (_, samples) = store::read(&out).expect("a whole recording");
    for target in targets() {
        let of = |metric: &str| {
            let own = samples.iter().filter(|row| row.target == target && row.metric == metric);
            own.filter(|row| row.status == Status::Ok).collect::<Vec<_>>()
        };
        assert!(of("reached_instances").iter().all(|row| row.value == Some(12.0)), "{target}");
        let points: Vec<u32> =
            of("host_used_bytes").iter().filter(|row| row.block == 0).map(|row| row.iteration).collect();
        assert_eq!(points, (0..=12).collect::<Vec<_>>(), "{target}");
        for metric in
            ["slab_used_bytes", "page_tables_used_bytes", "pss_total_bytes", "peak_rss_bytes", "shared_bytes"]
        {
            assert!(!of(metric).is_empty(), "{metric} of {target}");
        }
    }
    let summary = fs::read_to_string(out.join("summary.csv")).expect("a summary");
    assert!(
        summary.lines().any(|line| line.starts_with("density,noop,slab_bytes,bytes,native,")),
        "{summary}"
    );
}

#[test]
fn a_dense_host_stops_at_its_budget() {
    let dir = tempfile::tempdir().expect("a temporary folder");
    let out = dir.path().join("recording");
    let path = out.to_str().expect("a plain path");
    let options = ["--targets", "native", "--density", "1000", "--density-budget", "64", "--out", path];
    let ran = bench(["compare", "--experiments", "density"].iter().chain(&options));
    if ran.code == 3 {
        println!("skipped: {}", ran.stderr);
        return;
    }
    ran.expect_code(0);
    let (_, samples) = store::read(&out).expect("a whole recording");
    let reached: Vec<_> = samples.iter().filter(|row| row.metric == "reached_instances").collect();
    assert!(!reached.is_empty());
    for row in reached {
        assert!(row.value < Some(1_000.0) && row.detail.contains("budget of 64 MiB"), "{row:?}");
    }
}

#[test]
fn a_host_without_the_memory_for_density_is_told_before_anything_is_started() {
    let dir = tempfile::tempdir().expect("a temporary folder");
    let out = dir.path().join("recording");
    let path = out.to_str().expect("a plain path");
    bench(["compare", "--experiments", "density", "--density-budget", "999999999", "--out", path])
        .expect_code(3)
        .expect_said(&["more than this host can spare", "--density-budget"]);
    assert!(!out.exists(), "no recording of nothing");
    bench(["compare", "--density", "9"]).expect_code(2).expect_said(&["--experiments density"]);
}

#[test]
fn the_memory_of_a_virtual_machine_is_also_told_in_two_parts() {
    if !targets().contains(&"microvm") {
        return;
    }
    let options = ["--targets", "microvm", "--experiments", "memory"];
    let (ran, _, samples) = compare_with(program(), &options, &["hang"]);
    let ran = ran.expect_code(0);
    let of = |target: &str, metric: &str| {
        let own = samples.iter().filter(|row| row.target == target && row.metric == metric);
        own.filter_map(|row| row.value).next()
    };
    let (guest, monitor) = (of("microvm", "guest_ram_bytes"), of("microvm", "monitor_bytes"));
    let (Some(guest), Some(monitor), Some(rss)) = (guest, monitor, of("microvm", "rss_bytes")) else {
        panic!("{guest:?} {monitor:?}: {ran:?}");
    };
    assert!(guest > 0.0 && monitor > 0.0 && guest + monitor <= rss, "{guest} {monitor} of {rss}");
    assert_eq!((of("native", "guest_ram_bytes"), of("native", "monitor_bytes")), (None, None));
    assert!(ran.stdout.contains("guest RAM touched at ready"), "{}", ran.stdout);
}
