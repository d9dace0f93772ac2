//! What the scenarios share: calling the command, and programs that misbehave in known ways.

#![allow(dead_code, reason = "each test file uses a part of it")]
#![allow(clippy::print_stdout, reason = "what is skipped is said in the test's output")]

use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::OnceLock;

use bench_harness::record::{RunInfo, Sample, Status};
use bench_harness::store;

/// Where the command under test is. Asked at run time: `scripts/rustc-static` is a shell script, and shells drop
/// variables with a hyphen in their name, so that `env!` would not find it.
pub fn executable() -> PathBuf {
    std::env::var_os("CARGO_BIN_EXE_bench-harness").expect("cargo names the programs of the package").into()
}

/// The command under test.
pub fn command() -> Command {
    let mut command = Command::new(executable());
    command.stdin(Stdio::null());
    command
}

/// What it printed and how it ended.
#[derive(Debug)]
pub struct Ran {
    pub code: i32,
    pub stdout: String,
    pub stderr: String,
}

impl Ran {
    /// Fails with everything that was said, unless the exit code is this one.
    #[track_caller]
    pub fn expect_code(self, code: i32) -> Self {
        assert_eq!(self.code, code, "stdout: {}\nstderr: {}", self.stdout, self.stderr);
        self
    }

    /// Fails unless standard error holds all of these.
    #[track_caller]
    pub fn expect_said(self, parts: &[&str]) -> Self {
        for part in parts {
            assert!(self.stderr.contains(part), "{part:?} is not in: {}", self.stderr);
        }
        self
    }
}

impl From<Output> for Ran {
    fn from(output: Output) -> Self {
        Self {
            code: output.status.code().expect("it was not ended by a signal"),
            stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }
}

/// Calls it with these arguments.
pub fn bench<S: AsRef<OsStr>>(args: impl IntoIterator<Item = S>) -> Ran {
    command().args(args).output().expect("the command starts").into()
}

/// `run` of a program in a target.
pub fn run_in(target: &str, options: &[&str], program: &Path, args: &[&str]) -> Ran {
    command()
        .args(["run", "--target", target])
        .args(options)
        .arg("--")
        .arg(program)
        .args(args)
        .output()
        .expect("the command starts")
        .into()
}

/// The targets that this host can run; the others are named on standard output, so that a log shows what was left out.
pub fn targets() -> Vec<&'static str> {
    use bench_harness::target::{TargetKind, target};
    TargetKind::ALL
        .into_iter()
        .filter(|&kind| match target(kind).probe() {
            Ok(()) => true,
            Err(reason) => {
                println!("skipped: {kind}: {reason}");
                false
            }
        })
        .map(TargetKind::name)
        .collect()
}

/// A program that does what its first argument says. Static, made once by the C compiler.
pub fn program() -> &'static Path {
    static PROGRAM: OnceLock<(tempfile::TempDir, PathBuf)> = OnceLock::new();
    let (_, path) = PROGRAM.get_or_init(|| {
        let dir = tempfile::tempdir().expect("a temporary folder");
        let path = dir.path().join("program");
        compile(include_str!("program.c"), &["-static"], &path);
        (dir, path)
    });
    path
}

/// Compiles C.
pub fn compile(source: &str, options: &[&str], to: &Path) {
    let file = to.with_extension("c");
    fs::write(&file, source).expect("a writable folder");
    let made = Command::new("cc")
        .args(["-O1", "-w", "-o"])
        .arg(to)
        .args(options)
        .arg(&file)
        .output()
        .expect("cc is installed");
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
}

/// Copies a program by cp(1): were it written from here, a child that another thread forks meanwhile would hold it open until its
/// exec, and the kernel starts no file that somebody writes to (ETXTBSY).
pub fn copy_program(from: &Path, to: &Path) {
    let copied = Command::new("cp").arg(from).arg(to).status().expect("cp is everywhere");
    assert!(copied.success(), "{} cannot be copied", from.display());
}

/// A short comparison with a program of our own as the workload; returns what was recorded as well.
pub fn compare_with(program: &Path, options: &[&str], args: &[&str]) -> (Ran, RunInfo, Vec<Sample>) {
    let dir = tempfile::tempdir().expect("a temporary folder");
    let out = dir.path().join("recording");
    let ran: Ran = command()
        .args(["compare", "--targets", "native", "--out"])
        .arg(&out)
        .arg("--workload-bin")
        .arg(program)
        .args(options)
        .arg("--")
        .args(args)
        .output()
        .expect("the command starts")
        .into();
    let (info, samples) = store::read(&out).unwrap_or_else(|error| panic!("{error}: {ran:?}"));
    (ran, info, samples)
}

/// The details of the failed rows.
pub fn failures(samples: &[Sample]) -> Vec<&str> {
    details(samples, Status::Failed)
}

/// The details of the rows of a status.
pub fn details(samples: &[Sample], status: Status) -> Vec<&str> {
    samples.iter().filter(|sample| sample.status == status).map(|sample| sample.detail.as_str()).collect()
}

/// Processes whose command line holds this text, but for the calling one.
pub fn processes_with(text: &str) -> Vec<i32> {
    fs::read_dir("/proc")
        .expect("/proc is mounted")
        .flatten()
        .filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok())
        .filter(|&pid| pid.unsigned_abs() != std::process::id())
        .filter(|pid| {
            fs::read(format!("/proc/{pid}/cmdline"))
                .is_ok_and(|line| String::from_utf8_lossy(&line).contains(text))
        })
        .collect()
}

/// Waits until `done`, at most ten seconds.
#[track_caller]
pub fn eventually(what: &str, done: impl Fn() -> bool) {
    for _ in 0..1_000 {
        if done() {
            return;
        }
        std::thread::sleep(std::time::Duration::from_millis(10));
    }
    panic!("not within ten seconds: {what}");
}
