//! Interruptions and kills: what is kept, what is reported, and that nothing is left behind.

#![allow(clippy::print_stdout, reason = "what is skipped is said in the test's output")]

mod common;

use std::fs;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use bench_harness::record::Status;
use bench_harness::store;
use common::{command, eventually, failures, processes_with, program, targets};

/// Starts a comparison of all targets that would take minutes, and waits until it measures.
fn long_comparison(out: &Path) -> std::process::Child {
    let child = command()
        .args(["compare", "--profile", "thorough", "--seed", "1", "--out"])
        .arg(out)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("it starts");
    let part = out.join(store::SAMPLES_PART);
    eventually("samples are written", || fs::metadata(&part).is_ok_and(|meta| meta.len() > 50_000));
    child
}

fn signal(child: &std::process::Child, signal: nix::sys::signal::Signal) {
    let pid = nix::unistd::Pid::from_raw(i32::try_from(child.id()).expect("a process number"));
    nix::sys::signal::kill(pid, signal).expect("our own child");
}

#[test]
fn an_interruption_keeps_and_reports_what_was_measured() {
    for (which, code) in [(nix::sys::signal::Signal::SIGINT, 130), (nix::sys::signal::Signal::SIGTERM, 143)] {
        let dir = tempfile::tempdir().expect("a temporary folder");
        let out = dir.path().join("recording");
        let child = long_comparison(&out);
        signal(&child, which);
        let output = child.wait_with_output().expect("it ends");
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(code), "{said}");
        assert!(said.contains("interrupted"), "{said}");
        let (info, samples) = store::read(&out).expect("a whole recording");
        assert!(info.interrupted);
        assert!(samples.iter().any(|row| row.metric == "ready_ns" && row.status == Status::Ok));
        assert!(failures(&samples).is_empty(), "an interruption is nobody's failure");
        assert!(
            fs::read_to_string(out.join("report.md"))
                .expect("a report")
                .to_lowercase()
                .contains("interrupted")
        );
    }
}

#[test]
fn an_interruption_ends_a_program_that_has_closed_its_output() {
    let dir = tempfile::tempdir().expect("a temporary folder");
    let mark = format!("closed-{}", std::process::id());
    let child = command()
        .args(["compare", "--targets", "native", "--experiments", "startup", "--timeout", "3600", "--out"])
        .arg(dir.path().join("recording"))
        .arg("--workload-bin")
        .arg(program())
        .args(["--", "hang-closed", &mark])
        .stderr(Stdio::piped())
        .spawn()
        .expect("it starts");
    // The harness, which was given the mark too, and the instance.
    eventually("it runs", || processes_with(&mark).len() == 2);
    signal(&child, nix::sys::signal::Signal::SIGINT);
    let output = child.wait_with_output().expect("it ends");
    assert_eq!(output.status.code(), Some(130), "{}", String::from_utf8_lossy(&output.stderr));
    assert!(processes_with(&mark).is_empty());
}

/// Control groups that a process of ours made: their names hold its number. Looked for by that number, since other tests
/// run at the same time.
fn groups_of(pid: u32) -> Vec<std::path::PathBuf> {
    let mut found = Vec::new();
    let mut folders = vec![std::path::PathBuf::from("/sys/fs/cgroup")];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).into_iter().flatten().flatten() {
            if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                let name = entry.file_name().to_string_lossy().into_owned();
                if name.split(|letter: char| !letter.is_ascii_digit()).any(|number| number == pid.to_string())
                {
                    found.push(entry.path());
                }
                folders.push(entry.path());
            }
        }
    }
    found
}

/// Mounts that a run of ours could have left: it makes all of them in namespaces of its instances.
fn mounts() -> Vec<String> {
    let text = fs::read_to_string("/proc/self/mounts").expect("/proc is mounted");
    text.lines().map(str::to_owned).collect()
}

#[test]
fn nothing_is_left_after_a_kill_in_the_middle() {
    let before = mounts();
    for round in 0..5 {
        let dir = tempfile::tempdir().expect("a temporary folder");
        let out = dir.path().join("recording");
        let mut child = long_comparison(&out);
        std::thread::sleep(Duration::from_millis(7 * round));
        child.kill().expect("our own child");
        child.wait().expect("our own child");
        eventually("no process is left", || processes_with(&out.display().to_string()).is_empty());
        eventually("no control group is left", || groups_of(child.id()).is_empty());
        let (_, samples) = store::read(&out).expect("what was written can be read");
        assert!(samples.iter().any(|row| row.status == Status::Ok));
    }
    assert_eq!(mounts(), before);
}

/// Starts a program in a target, one that has `mark` on its command line and does not end, and waits until it is ready.
fn hanging_run(target: &str, options: &[&str], mark: &str) -> std::process::Child {
    let mut child = command()
        .args(["run", "--target", target])
        .args(options)
        .arg("--")
        .arg(program())
        .args(["hang", mark])
        .stdout(Stdio::piped())
        .spawn()
        .expect("it starts");
    let mut byte = [0];
    std::io::Read::read_exact(child.stdout.as_mut().expect("piped"), &mut byte).expect("it is ready");
    child
}

#[test]
fn nothing_is_left_when_run_is_killed() {
    let before = mounts();
    for target in targets() {
        let mark = format!("mark-{}-{target}", std::process::id());
        let mut child = hanging_run(target, &["--mem", "64"], &mark);
        if target == "container" && groups_of(child.id()).is_empty() {
            println!("skipped for control groups: this host lets us make none");
        }
        child.kill().expect("our own child");
        child.wait().expect("our own child");
        eventually("no process is left", || processes_with(&mark).is_empty());
        eventually("no control group is left", || groups_of(child.id()).is_empty());
    }
    assert_eq!(mounts(), before);
}

#[test]
fn run_passes_an_interruption_on_by_ending_the_program() {
    for target in targets() {
        let mark = format!("interrupted-{}-{target}", std::process::id());
        let mut child = hanging_run(target, &[], &mark);
        signal(&child, nix::sys::signal::Signal::SIGINT);
        assert_eq!(child.wait().expect("it ends").code(), Some(130), "{target}");
        assert!(processes_with(&mark).is_empty(), "{target}");
    }
}
