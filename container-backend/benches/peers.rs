//! Whole commands beside those that people use instead, in turn, and many instances at once.
//!
//! `cargo bench -p container-backend --bench peers`; `bench-harness` is taken from target/release (or `BENCH_HARNESS`). A peer
//! that is not installed is skipped, with the reason. Not equal work: unshare and bwrap have neither capabilities dropped to
//! a set, nor a filter, nor control groups; the OCI runtimes have all of them.
#![allow(clippy::print_stdout, reason = "a bench talks")]

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio as Streams};
use std::time::Instant;

use container_backend::{Config, Isolation, Program, Stdio, probe};

/// Rounds of the table, and those before that are not counted.
const ROUNDS: usize = 100;
const WARM_UP: usize = 5;
/// Instances at once.
const AT_ONCE: usize = 64;

fn main() {
    // `cargo test --benches` only sees that it builds.
    if !std::env::args().any(|arg| arg == "--bench") {
        return;
    }
    if let Some(reason) = probe().container.reason() {
        println!("skipped: no containers here: {reason}");
        return;
    }
    let dir = tempfile::tempdir().expect("a folder");
    let root = dir.path().join("rootfs");
    for name in ["proc", "dev", "tmp", "sys"] {
        std::fs::create_dir_all(root.join(name)).expect("made");
    }
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("benches/noop.c");
    let noop = root.join("noop");
    let built = Command::new("cc").args(["-O1", "-static", "-o"]).arg(&noop).arg(source).status();
    if !built.is_ok_and(|status| status.success()) {
        println!("skipped: no C compiler with a static libc");
        return;
    }
    whole_commands(dir.path(), &root, &noop);
    at_once(&noop);
}

/// The commands, each with its arguments.
fn commands(dir: &Path, root: &Path, noop: &Path) -> Vec<(&'static str, Vec<PathBuf>)> {
    let harness = std::env::var_os("BENCH_HARNESS").map(PathBuf::from);
    let built = || Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/release/bench-harness");
    let harness = harness.unwrap_or_else(built);
    let run = |options: &[&Path], program: &Path| {
        let fixed = ["run", "--target", "container"].map(PathBuf::from);
        let options = options.iter().map(|option| option.to_path_buf());
        let program = [PathBuf::from("--"), program.to_owned()];
        [harness.clone()].into_iter().chain(fixed).chain(options).chain(program).collect()
    };
    let line = |words: &[&str]| words.iter().map(PathBuf::from).collect::<Vec<_>>();
    let shown = root.display().to_string();
    let inside = Path::new("/noop");
    let mut commands = vec![
        ("bare", vec![noop.to_owned()]),
        ("bench-harness run", run(&[], noop)),
        ("bench-harness run --rootfs", run(&[Path::new("--rootfs"), root], inside)),
        (
            "unshare -m -p -n -i -u -f",
            [line(&["unshare", "-m", "-p", "-n", "-i", "-u", "-f"]), vec![noop.into()]].concat(),
        ),
        ("bwrap --unshare-all", line(&["bwrap", "--unshare-all", "--ro-bind", &shown, "/", "/noop"])),
    ];
    for runtime in ["crun", "runc"] {
        if bundle(runtime, dir).is_some() {
            commands.push((runtime, line(&[runtime, "run", "-b", &dir.display().to_string(), "bench-peer"])));
        } else {
            println!("skipped: {runtime} is not installed, or makes no bundle");
        }
    }
    commands
}

/// The runtime's own example configuration, for the program.
fn bundle(runtime: &str, dir: &Path) -> Option<()> {
    let config = dir.join("config.json");
    drop(std::fs::remove_file(&config));
    let made = Command::new(runtime).arg("spec").current_dir(dir).output().ok()?;
    let mut spec: serde_json::Value = serde_json::from_slice(&std::fs::read(&config).ok()?).ok()?;
    spec["process"]["terminal"] = false.into();
    spec["process"]["args"] = serde_json::json!(["/noop"]);
    std::fs::write(&config, spec.to_string()).ok()?;
    made.status.success().then_some(())
}

fn whole_commands(dir: &Path, root: &Path, noop: &Path) {
    let mut commands = commands(dir, root, noop);
    commands.retain(|(name, line)| match once(line) {
        Ok(_) => true,
        Err(reason) => {
            println!("skipped: {name}: {reason}");
            false
        }
    });
    let mut samples = vec![Vec::new(); commands.len()];
    for round in 0..WARM_UP + ROUNDS {
        for ((name, line), samples) in commands.iter().zip(&mut samples) {
            match once(line) {
                Ok(us) if round >= WARM_UP => samples.push(us),
                Ok(_) => {}
                Err(reason) => println!("{name}: {reason}"),
            }
        }
    }
    println!("whole command, {ROUNDS} rounds in turn, microseconds");
    println!("{:30} {:>8} {:>8} {:>8}   run over it (median, min)", "", "min", "median", "p95");
    for samples in &mut samples {
        samples.sort_by(f64::total_cmp);
    }
    let at = |samples: &[f64], percent: usize| {
        samples.get(samples.len() * percent / 100).copied().unwrap_or(f64::NAN)
    };
    let ours = samples.get(1).cloned().unwrap_or_default();
    for ((name, _), samples) in commands.iter().zip(&samples) {
        let (least, median) = (at(samples, 0), at(samples, 50));
        let (ratio, ratio_least) = (at(&ours, 50) / median, at(&ours, 0) / least);
        println!("{name:30} {least:8.0} {median:8.0} {:8.0}   {ratio:.2} {ratio_least:.2}", at(samples, 95));
    }
}

fn once(line: &[PathBuf]) -> Result<f64, String> {
    let (program, args) = line.split_first().ok_or("no command")?;
    let start = Instant::now();
    let status = Command::new(program).args(args).stdin(Streams::null()).stdout(Streams::null()).status();
    let took = start.elapsed().as_secs_f64() * 1e6;
    match status {
        Ok(status) if status.success() => Ok(took),
        Ok(status) => Err(status.to_string()),
        Err(error) => Err(error.to_string()),
    }
}

/// Many at once, per instance and CPU, over one alone; with the network namespace made beside the rest and in turn.
fn at_once(noop: &Path) {
    let cpus = std::thread::available_parallelism().map_or(1, usize::from);
    for beside in [true, false] {
        let config =
            Config::new(Program::path(noop)).isolation(Isolation::container()).network_beside(beside);
        let prepared = config.prepare().expect("the config is good");
        let one = || {
            let start = Instant::now();
            let mut process = prepared.spawn(Stdio::null()).expect("it starts");
            process.wait(None).expect("it can be waited for");
            start.elapsed().as_secs_f64() * 1e6
        };
        let mut alone: Vec<f64> = (0..ROUNDS).map(|_| one()).collect();
        alone.sort_by(f64::total_cmp);
        let alone = alone.get(ROUNDS / 2).copied().unwrap_or(f64::NAN);
        let mut together: Vec<f64> = (0..10)
            .map(|_| {
                let start = Instant::now();
                std::thread::scope(|scope| {
                    for _ in 0..AT_ONCE {
                        scope.spawn(one);
                    }
                });
                start.elapsed().as_secs_f64() * 1e6 / AT_ONCE as f64
            })
            .collect();
        together.sort_by(f64::total_cmp);
        let together = together.get(5).copied().unwrap_or(f64::NAN);
        let per_cpu = together * cpus as f64 / alone;
        println!(
            "{AT_ONCE} at once, network beside {beside}: {together:.0} us each, alone {alone:.0}; per CPU {per_cpu:.2}"
        );
    }
}
