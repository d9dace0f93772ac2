//! The gate: two recordings in, a verdict and an exit code out.

mod common;

use std::fs;
use std::path::{Path, PathBuf};

use bench_harness::record::{Digests, Host, RunInfo, SCHEMA, Sample, Status};
use bench_harness::store::{self, Recording};
use common::{Ran, bench};

fn info() -> RunInfo {
    RunInfo {
        schema: SCHEMA,
        run_id: "r".into(),
        host: Host { hostname: Some("here".into()), kvm: Some("vmx".into()), ..Host::default() },
        digests: Digests { workload: Some("0123456789abcdef".into()), ..Digests::default() },
        ..RunInfo::default()
    }
}

/// Launches around a median, with a spread of a tenth and no order.
fn launches(workload: &str, centre: f64, n: u32) -> Vec<Sample> {
    (0..n)
        .map(|block| Sample {
            experiment: "startup".into(),
            target: "native".into(),
            workload: workload.into(),
            metric: "ready_ns".into(),
            unit: "ns".into(),
            block,
            order: 0,
            iteration: 0,
            value: Some(centre * (0.95 + 0.1 * (f64::from(block * block) * 0.618_033_988_75).fract())),
            status: Status::Ok,
            detail: String::new(),
        })
        .collect()
}

struct Folder(tempfile::TempDir);

impl Folder {
    fn new() -> Self {
        Self(tempfile::tempdir().expect("a temporary folder"))
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn record(&self, name: &str, info: &RunInfo, samples: &[Sample]) -> PathBuf {
        let mut recording = Recording::create(&self.path(name), info).expect("an empty folder");
        recording.append(samples).expect("good samples");
        recording.finish(info).expect("a writable folder")
    }
}

fn gate(old: &Path, new: &Path, options: &[&str]) -> Ran {
    bench([&["gate", old.to_str().expect("plain"), new.to_str().expect("plain")], options].concat())
}

#[test]
fn a_recording_passes_against_itself() {
    let folder = Folder::new();
    let old = folder.record("old", &info(), &launches("noop", 1e6, 40));
    let ran = gate(&old, &old, &[]).expect_code(0);
    assert!(ran.stdout.contains("Gate: passed"), "{}", ran.stdout);
}

#[test]
fn a_regression_ends_with_1_and_is_written_for_ci() {
    let folder = Folder::new();
    let old = folder.record("old", &info(), &launches("noop", 1e6, 40));
    let new = folder.record("new", &info(), &launches("noop", 1.2e6, 40));
    let (junit, markdown) = (folder.path("gate.xml"), folder.path("summary.md"));
    fs::write(&markdown, "of an earlier step\n").expect("own folder");
    let options =
        ["--junit", junit.to_str().expect("plain"), "--markdown", markdown.to_str().expect("plain")];
    let ran = gate(&old, &new, &options).expect_code(1);
    assert!(ran.stdout.contains("FAILED") && ran.stdout.contains("+19.9 %"), "{}", ran.stdout);
    assert!(ran.stdout.lines().all(|line| line.chars().count() <= 100), "{}", ran.stdout);
    let xml = fs::read_to_string(&junit).expect("just written");
    assert!(xml.contains("failures=\"1\"") && xml.contains("startup.noop.native"), "{xml}");
    let summary = fs::read_to_string(&markdown).expect("just written");
    assert!(summary.starts_with("of an earlier step\n") && summary.contains("FAILED"), "{summary}");
    gate(&old, &new, &["--max-regression", "25"]).expect_code(0);
    gate(&new, &old, &[]).expect_code(0);
}

#[test]
fn too_few_launches_cannot_tell() {
    let folder = Folder::new();
    let old = folder.record("old", &info(), &launches("noop", 1e6, 5));
    let ran = gate(&old, &old, &[]).expect_code(5);
    assert!(ran.stdout.contains("about 1 more launch"), "{}", ran.stdout);
}

#[test]
fn another_host_kvm_or_workload_is_refused_unless_forced() {
    let folder = Folder::new();
    let samples = launches("noop", 1e6, 40);
    let old = folder.record("old", &info(), &samples);
    let other = RunInfo {
        host: Host { hostname: Some("there".into()), kvm: Some("pvm".into()), ..Host::default() },
        digests: Digests { workload: Some("other".into()), ..Digests::default() },
        ..info()
    };
    let new = folder.record("new", &other, &samples);
    let (junit, markdown) = (folder.path("gate.xml"), folder.path("summary.md"));
    let options =
        ["--junit", junit.to_str().expect("plain"), "--markdown", markdown.to_str().expect("plain")];
    gate(&old, &new, &options).expect_code(3).expect_said(&[
        "host was here and is there",
        "KVM was vmx and is pvm",
        "digest",
        "--force",
    ]);
    let xml = fs::read_to_string(&junit).expect("just written");
    assert!(xml.contains("errors=\"1\"") && xml.contains("host was here and is there"), "{xml}");
    let summary = fs::read_to_string(&markdown).expect("just written");
    assert!(summary.contains("Gate: refused") && summary.contains("host was here"), "{summary}");
    let ran = gate(&old, &new, &["--force"]).expect_code(0);
    assert!(ran.stdout.contains("Forced although"), "{}", ran.stdout);
}

#[test]
fn recordings_without_a_common_row_are_refused() {
    let folder = Folder::new();
    let old = folder.record("old", &info(), &launches("noop", 1e6, 40));
    let new = folder.record("new", &info(), &launches("another", 1e6, 40));
    let ran = gate(&old, &new, &[]).expect_code(3);
    assert!(ran.stdout.contains("no figure in common"), "{}", ran.stdout);
}

#[test]
fn a_baseline_that_is_truncated_edited_or_of_another_schema_is_refused_by_name() {
    let folder = Folder::new();
    let samples = launches("noop", 1e6, 40);
    let good = folder.record("good", &info(), &samples);
    let damaged = |name: &str, file: &str, change: &dyn Fn(String) -> String| {
        let dir = folder.record(name, &info(), &samples);
        let path = dir.join(file);
        let text = fs::read_to_string(&path).expect("just written");
        fs::write(&path, change(text)).expect("own file");
        gate(&dir, &good, &[]).expect_code(3)
    };
    let cut = |text: String| text[..text.len() / 2].to_owned();
    damaged("cut", store::SAMPLES, &cut).expect_said(&["samples.csv line"]);
    damaged("cut-run", store::RUN, &cut).expect_said(&["run.json"]);
    let edited = |text: String| text.replacen(",ok,", ",warmup,", 1);
    damaged("edited", store::SAMPLES, &edited).expect_said(&["was changed since the run"]);
    let removed = |text: String| text.lines().take(20).map(|line| format!("{line}\n")).collect();
    damaged("removed", store::SAMPLES, &removed).expect_said(&["was changed since the run"]);
    let newer = |text: String| text.replace("\"schema\": 1", "\"schema\": 2");
    damaged("newer", store::RUN, &newer).expect_said(&["is of schema 2"]);
    gate(&folder.path("nowhere"), &good, &[]).expect_code(3).expect_said(&["holds no recording"]);
}

#[test]
fn a_report_refuses_what_is_no_quantity_and_takes_zeros() {
    let folder = Folder::new();
    for (name, value) in [("nan", "NaN"), ("negative", "-1")] {
        let dir = folder.record(name, &info(), &launches("noop", 1e6, 8));
        let text = fs::read_to_string(dir.join(store::SAMPLES)).expect("just written");
        let line = text.lines().nth(1).expect("a sample").to_owned();
        let mut fields: Vec<&str> = line.split(',').collect();
        fields[10] = value;
        fs::write(dir.join(store::SAMPLES), text.replace(&line, &fields.join(","))).expect("own file");
        let ran = bench(["report", dir.to_str().expect("plain")]).expect_code(3);
        assert!(ran.stderr.contains("line 2") && ran.stderr.contains(value), "{}", ran.stderr);
    }
    let zeros = folder.record("zeros", &info(), &launches("noop", 0.0, 40));
    bench(["report", zeros.to_str().expect("plain")]).expect_code(0);
}

#[test]
fn limits_that_are_none_and_options_without_a_baseline_are_wrong_usage() {
    for value in ["0", "-1", "NaN", "inf", "many"] {
        bench(["gate", "a", "b", &format!("--max-regression={value}")]).expect_code(2);
    }
    bench(["compare", "--max-regression", "5"]).expect_code(2).expect_said(&["--baseline"]);
}

#[test]
fn compare_refuses_a_baseline_of_another_host_before_it_measures() {
    let folder = Folder::new();
    let old = folder.record("old", &info(), &launches("noop", 1e6, 40));
    let out = folder.path("new");
    let began = std::time::Instant::now();
    bench(["compare", "--out", out.to_str().expect("plain"), "--baseline", old.to_str().expect("plain")])
        .expect_code(3)
        .expect_said(&["refused to compare"]);
    assert!(!out.exists() && began.elapsed().as_secs() < 20, "nothing was measured");
}

#[test]
fn compare_judges_against_a_baseline_of_its_own() {
    let folder = Folder::new();
    let (old, new) = (folder.path("old"), folder.path("new"));
    let options = ["compare", "--targets", "native", "--experiments", "startup", "--out"];
    bench([&options[..], &[old.to_str().expect("plain")]].concat()).expect_code(0);
    let judged = ["--baseline", old.to_str().expect("plain"), "--max-regression", "1000"];
    let ran = bench([&options[..], &[new.to_str().expect("plain")], &judged].concat());
    // Which of the two it is depends on who else is on this host; a timing is no pass mark.
    assert!([0, 5].contains(&ran.code) && ran.stdout.contains("Gate: "), "{ran:?}");
    let pinned = folder.path("pinned");
    let ran = bench([&options[..], &[pinned.to_str().expect("plain"), "--pin"], &judged].concat());
    if ran.stdout.contains("--pin") {
        return eprintln!("skipped: the CPUs of this host cannot be divided");
    }
    ran.expect_code(3).expect_said(&["refused to compare", "--pin"]);
    assert!(!pinned.exists(), "refused before it was measured");
}

#[test]
fn a_selftest_ends_with_a_table_of_what_was_called() {
    let ran = bench(["selftest", "--launches", "10", "--real", "2", "--simulated", "10", "--seed", "1"]);
    assert!([0, 5].contains(&ran.code), "{ran:?}");
    for part in ["false alarms", "10 %: found", "in turn", "one by one", "Selftest: "] {
        assert!(ran.stdout.contains(part), "{part}: {}", ran.stdout);
    }
    assert!(ran.stdout.lines().all(|line| line.chars().count() <= 100), "{}", ran.stdout);
}

#[test]
fn a_program_is_judged_against_the_one_from_before_in_turn() {
    let dir = tempfile::tempdir().expect("a temporary folder");
    let program = |name: &str, micros: u32| {
        let path = dir.path().join(name);
        let source = format!(
            "#include <stdio.h>\n#include <time.h>\n\
             int main(void) {{ struct timespec a, b; clock_gettime(CLOCK_MONOTONIC, &a); \
             do clock_gettime(CLOCK_MONOTONIC, &b); \
             while ((b.tv_sec - a.tv_sec) * 1000000L + (b.tv_nsec - a.tv_nsec) / 1000 < {micros}); puts(\"ready\"); }}"
        );
        common::compile(&source, &["-static"], &path);
        path
    };
    let (old, slow) = (program("old", 0), program("slow", 20_000));
    let compare = |new: &std::path::Path, out: &str| {
        bench([
            "compare".as_ref(),
            "--targets".as_ref(),
            "native".as_ref(),
            "--experiments".as_ref(),
            "startup".as_ref(),
            "--workload-bin".as_ref(),
            new.as_os_str(),
            "--against".as_ref(),
            old.as_os_str(),
            "--out".as_ref(),
            dir.path().join(out).as_os_str(),
        ])
    };
    // Twenty milliseconds are no matter of noise; how sure it is of no difference is.
    let ran = compare(&slow, "one");
    assert!(ran.code == 1 && ran.stdout.contains("REGRESSED"), "{ran:?}");
    let (info, samples) = bench_harness::store::read(&dir.path().join("one")).expect("a recording");
    assert!(info.design.is_some_and(|design| design.against.is_some_and(|digest| digest.len() == 64)));
    for name in ["slow", "slow-before"] {
        assert!(samples.iter().any(|row| row.workload == name && row.value.is_some()), "{name}");
    }
    let ran = compare(&old, "two");
    assert!([0, 5].contains(&ran.code) && ran.stdout.contains("Gate: "), "{ran:?}");
    bench(["compare", "--against", "/bin/true"]).expect_code(2).expect_said(&["--workload-bin"]);
}
