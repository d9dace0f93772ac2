//! The command line: exit codes and texts.

mod common;

use common::{bench, command, program, run_in, targets};

#[test]
fn without_arguments_it_shows_the_sub_commands_and_the_exit_code_is_2() {
    let ran = bench::<&str>([]).expect_code(2);
    for name in ["compare", "run", "report", "list", "doctor"] {
        assert!(ran.stderr.contains(name), "{name} is missing: {}", ran.stderr);
    }
}

#[test]
fn every_help_has_an_example_and_the_exit_codes() {
    for name in ["compare", "run", "report", "list", "doctor"] {
        let ran = bench([name, "--help"]).expect_code(0);
        assert!(ran.stdout.contains(&format!("bench-harness {name} ")), "{name}: {}", ran.stdout);
        assert!(ran.stdout.contains("Exit codes"), "{name}: {}", ran.stdout);
        assert!(ran.stdout.contains("Example"), "{name}: {}", ran.stdout);
    }
}

#[test]
fn an_unknown_target_lists_the_known_ones() {
    let known = ["native", "container", "microvm", "microvm-linux"];
    bench(["compare", "--targets", "native,docker"])
        .expect_code(2)
        .expect_said(&["docker"])
        .expect_said(&known);
    bench(["run", "--target", "docker", "--", "x"]).expect_code(125).expect_said(&known);
}

#[test]
fn an_unknown_workload_lists_the_known_ones() {
    bench(["compare", "--workloads", "cpu"]).expect_code(2).expect_said(&[
        "noop",
        "cpu-int",
        "mem-latency",
        "alloc",
    ]);
}

#[test]
fn an_unknown_experiment_lists_the_known_ones() {
    bench(["compare", "--experiments", "speed"])
        .expect_code(2)
        .expect_said(&["startup", "memory", "overhead"]);
}

#[test]
fn an_unknown_profile_lists_the_known_ones() {
    bench(["compare", "--profile", "fast"]).expect_code(2).expect_said(&["quick", "standard", "thorough"]);
}

#[test]
fn numbers_that_are_none_are_refused() {
    bench(["compare", "--seed", "-1"]).expect_code(2);
    bench(["compare", "--timeout", "0"]).expect_code(2).expect_said(&["more than 0"]);
    bench(["compare", "--timeout", "NaN"]).expect_code(2);
    bench(["compare", "--mem", "12x"]).expect_code(2);
    bench(["run", "--target", "native", "--timeout", "-3", "--", "x"]).expect_code(125);
    bench(["run", "--target", "native", "--mem", "99999999999999999999", "--", "x"]).expect_code(125);
}

#[test]
fn options_that_exclude_each_other_are_refused() {
    bench(["compare", "--workloads", "noop", "--workload-bin", "/bin/true"])
        .expect_code(2)
        .expect_said(&["--workload-bin"]);
    bench(["compare", "--", "arg"]).expect_code(2).expect_said(&["--workload-bin"]);
}

#[test]
fn an_option_of_an_experiment_that_is_not_made_is_refused_before_anything_is_measured() {
    let dir = tempfile::tempdir().expect("a temporary folder");
    let out = dir.path().join("recording");
    let of_startup: [&[&str]; 3] = [&["--concurrency", "4"], &["--cache", "cold"], &["--cache", "both"]];
    let refused = |experiment: &str, options: &[&str], said: &str| {
        let path = out.to_str().expect("a plain path");
        bench(["compare", "--experiments", experiment, "--out", path].iter().chain(options))
            .expect_code(2)
            .expect_said(&[options[options.len() - 2], said]);
        assert!(!out.exists(), "nothing was measured");
    };
    for options in of_startup {
        refused("memory", options, "--experiments startup");
    }
    refused("startup", &["--density-budget", "64"], "--experiments density");
    let path = program().to_str().expect("a plain path");
    let against = ["--workload-bin", path, "--against", path];
    refused("memory", &against, "--experiments startup,overhead");
    let clash = ["--workload-bin", path, "--against", path, "--cache", "cold"];
    refused("startup", &clash, "--against");
}

#[test]
fn memory_sizes_that_make_no_sense_are_refused_in_every_target() {
    for target in ["native", "container", "microvm"] {
        for (size, why) in [("0", "at least"), ("1", "at least"), ("99999999999", "this host has")] {
            run_in(target, &["--mem", size], program(), &[]).expect_code(125).expect_said(&["--mem", why]);
        }
    }
    bench(["compare", "--mem", "1"]).expect_code(2).expect_said(&["at least"]);
}

#[test]
fn lists_hold_every_name() {
    let ran = bench(["list", "targets"]).expect_code(0);
    assert!(
        ["native ", "container ", "microvm ", "microvm-linux "].iter().all(|name| ran.stdout.contains(name))
    );
    let ran = bench(["list", "workloads"]).expect_code(0);
    assert!(["noop ", "cpu-int ", "page-fault ", "alloc "].iter().all(|name| ran.stdout.contains(name)));
    let ran = bench(["list", "experiments"]).expect_code(0);
    assert!(["startup ", "memory ", "overhead "].iter().all(|name| ran.stdout.contains(name)));
    bench(["list", "everything"]).expect_code(2).expect_said(&["targets", "workloads", "experiments"]);
}

#[test]
fn doctor_says_of_every_target_whether_it_can_run() {
    let ran = bench(["doctor"]).expect_code(0);
    for name in ["native", "container", "microvm", "microvm-linux", "KVM", "Disturbs measurements"] {
        assert!(ran.stdout.contains(name), "{name} is missing: {}", ran.stdout);
    }
    assert!(ran.stdout.contains("Rootless containers\n  users "), "{}", ran.stdout);
    let ran = bench(["doctor", "--json"]).expect_code(0);
    let json: serde_json::Value = serde_json::from_str(&ran.stdout).expect("one JSON object");
    let targets = json["targets"].as_array().expect("a list of targets");
    assert_eq!(targets.len(), 4);
    for target in targets {
        let available = target["available"].as_bool().expect("a truth value");
        assert!(
            available != target["reason"].is_string(),
            "a reason where and only where it cannot: {target}"
        );
    }
    assert!(json["kvm"]["kind"].is_string() && json["host"]["kernel"].is_string());
}

#[test]
fn a_reader_that_goes_away_is_no_error() {
    let mut child =
        command().args(["doctor", "--json"]).stdout(std::process::Stdio::piped()).spawn().expect("it starts");
    drop(child.stdout.take());
    assert_eq!(child.wait().expect("it ends").code(), Some(0));
}

#[test]
fn a_full_disk_behind_standard_output_is_an_error() {
    let full = std::fs::OpenOptions::new().write(true).open("/dev/full").expect("/dev/full");
    let output = command().args(["list", "targets"]).stdout(full).output().expect("it starts");
    assert_eq!(output.status.code(), Some(3), "{}", String::from_utf8_lossy(&output.stderr));
}

#[test]
fn a_report_of_nothing_is_an_error_with_the_folder() {
    let ran = bench(["report", "/nonexistent/recording"]).expect_code(3);
    assert!(ran.stderr.contains("/nonexistent/recording"), "{}", ran.stderr);
}

#[test]
fn a_target_asked_for_by_name_that_cannot_run_is_exit_code_3() {
    if targets().contains(&"microvm-linux") {
        println!("skipped: every target can run here");
        return;
    }
    bench(["compare", "--targets", "native,microvm-linux"])
        .expect_code(3)
        .expect_said(&["microvm-linux", "cannot run on this host"]);
}
