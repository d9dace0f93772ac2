//! The whole command `bench-harness run`, from its launch to its exit, beside what a user would otherwise type: in turn, in
//! one run, the same static program. Prints medians and the ratios that the project promises.
//!
//! Not equal work: the container of `run` has a root of its own, dropped capabilities and a seccomp filter; bwrap and
//! unshare are asked for namespaces only.

#![allow(clippy::print_stdout, clippy::print_stderr, reason = "its output is its purpose")]

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};
use std::time::Instant;

/// Calls of each command.
const ROUNDS: usize = 300;
/// Calls before them that only warm up.
const WARMUP: usize = 10;

struct Contender {
    name: &'static str,
    argv: Vec<String>,
    times_ns: Vec<u64>,
}

fn main() -> ExitCode {
    let folder = std::env::temp_dir().join(format!("bench-harness-whole-command-{}", std::process::id()));
    let outcome = prepare(&folder).and_then(|program| race(&folder, &program));
    drop(fs::remove_dir_all(&folder));
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(problem) => {
            eprintln!("whole_command: {problem}");
            ExitCode::FAILURE
        }
    }
}

/// The program under test, as a file and alone in a root of its own.
fn prepare(folder: &Path) -> Result<PathBuf, String> {
    let root = folder.join("root");
    fs::create_dir_all(&root).map_err(|error| error.to_string())?;
    let program = root.join("noop");
    fs::write(&program, workloads::PROGRAM).map_err(|error| error.to_string())?;
    fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).map_err(|error| error.to_string())?;
    Ok(program)
}

fn contenders(folder: &Path, program: &Path) -> Vec<Contender> {
    let bench = std::env::var("CARGO_BIN_EXE_bench-harness").unwrap_or_else(|_| "bench-harness".into());
    let (program, root) = (program.display().to_string(), folder.join("root").display().to_string());
    let run = |target: &str| [&bench, "run", "--target", target, "--", &program].map(str::to_owned).to_vec();
    let words = |line: &str| line.split(' ').map(str::to_owned).collect::<Vec<_>>();
    [
        ("bare", vec![program.clone()]),
        ("run native", run("native")),
        ("run container", run("container")),
        ("run microvm", run("microvm")),
        ("bwrap", words(&format!("bwrap --unshare-all --ro-bind {root} / /noop"))),
        ("unshare", words(&format!("unshare -m -p -n -i -u -f {program}"))),
    ]
    .map(|(name, argv)| Contender { name, argv, times_ns: Vec::with_capacity(ROUNDS) })
    .into()
}

fn call(argv: &[String]) -> Result<u64, String> {
    let start = Instant::now();
    let status = Command::new(&argv[0])
        .args(&argv[1..])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .map_err(|error| error.to_string())?;
    let elapsed = start.elapsed();
    if !status.success() {
        return Err(status.to_string());
    }
    u64::try_from(elapsed.as_nanos()).map_err(|error| error.to_string())
}

fn race(folder: &Path, program: &Path) -> Result<(), String> {
    let mut contenders = contenders(folder, program);
    contenders.retain(|contender| match call(&contender.argv) {
        Ok(_) => true,
        Err(problem) => {
            println!("skipped: {}: {problem} ({})", contender.name, contender.argv.join(" "));
            false
        }
    });
    for round in 0..WARMUP + ROUNDS {
        // Another one begins each round, so that none always follows the same.
        let count = contenders.len();
        for place in 0..count {
            let contender = &mut contenders[(place + round) % count];
            let time = call(&contender.argv).map_err(|problem| format!("{}: {problem}", contender.name))?;
            if round >= WARMUP {
                contender.times_ns.push(time);
            }
        }
    }
    println!(
        "{:14} {:>9} {:>9} {:>9}   of {ROUNDS} calls in turn, ms",
        "whole command", "min", "median", "p95"
    );
    for contender in &mut contenders {
        contender.times_ns.sort_unstable();
        let at = |part: usize| ms(contender.times_ns[(contender.times_ns.len() - 1) * part / 100]);
        println!("{:14} {:9.3} {:9.3} {:9.3}", contender.name, at(0), at(50), at(95));
    }
    println!();
    for (over, under, promised) in [
        ("run container", "bwrap", 0.7),
        ("run container", "unshare", 1.0),
        ("run microvm", "run container", 2.0),
    ] {
        let median = |name| {
            contenders.iter().find(|one| one.name == name).map(|one| ms(one.times_ns[one.times_ns.len() / 2]))
        };
        match (median(over), median(under)) {
            (Some(one), Some(other)) => {
                println!("{over} over {under}: {:.2} (to reach: at most {promised})", one / other);
            }
            _ => println!("{over} over {under}: one of them cannot run here"),
        }
    }
    Ok(())
}

#[expect(clippy::cast_precision_loss, reason = "milliseconds to be read by people")]
fn ms(nanoseconds: u64) -> f64 {
    nanoseconds as f64 / 1e6
}
