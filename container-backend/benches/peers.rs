//! Whole commands beside those that people use instead, in turn; many instances at once; and what stays beside an idle one.
//!
//! `cargo bench -p container-backend --bench peers`; `bench-harness` is taken from target/release (or `BENCH_HARNESS`). A peer
//! that is not installed is skipped, with the reason. Not equal work, as each table says again.
#![allow(clippy::print_stdout, reason = "a bench talks")]

#[path = "peers/memory.rs"]
mod memory;

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio as Streams};
use std::sync::Barrier;
use std::time::Instant;

use container_backend::{Config, Isolation, Program, Stdio, probe};

/// Rounds of the table, and those before that are not counted.
const ROUNDS: usize = 100;
const WARM_UP: usize = 5;
/// Instances at once.
const AT_ONCE: usize = 64;
/// The way that stands for everything at once, and the most that it is to take of each peer.
const EVERYTHING: &str = "the same, all limits, --init";
const FLOOR: &str = "floor: minimal C";
/// Stands beside every ratio.
const NOT_EQUAL: &str = "Not equal work: the OCI runtimes (crun, runc) also read a bundle, keep a state that other commands can ask for, and \
    make control groups; bwrap, unshare and the floor have no filter and no control groups, the floor not even /proc and /dev.";

/// One way to start the program, as a command.
pub(crate) struct Way {
    pub(crate) name: &'static str,
    pub(crate) line: Vec<PathBuf>,
    /// The most that ours is to take of it: the defaults of the floor, [`EVERYTHING`] of the others.
    goal: Option<f64>,
}

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
    let noop = root.join("noop");
    if !compile("noop.c", &noop) || !compile("floor.c", &dir.path().join("floor")) {
        println!("skipped: no C compiler with a static libc");
        return;
    }
    let ways: Vec<Way> = ways(dir.path(), &root, &noop, false)
        .into_iter()
        .filter(|way| match once(&way.line) {
            Ok(_) => true,
            Err(reason) => {
                println!("skipped: {}: {reason}", way.name);
                false
            }
        })
        .collect();
    whole_commands(&ways);
    at_once(&noop);
    memory::table(&noop, &self::ways(dir.path(), &root, &noop, true));
}

fn compile(source: &str, to: &Path) -> bool {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("benches").join(source);
    let built = Command::new("cc").args(["-O2", "-static", "-DCOMMAND", "-o"]).arg(to).arg(source).status();
    built.is_ok_and(|status| status.success())
}

/// The commands, each with its arguments; `idle`: the program stays.
fn ways(dir: &Path, root: &Path, noop: &Path, idle: bool) -> Vec<Way> {
    let harness = std::env::var_os("BENCH_HARNESS").map(PathBuf::from);
    let built = || Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/release/bench-harness");
    let harness = harness.unwrap_or_else(built).display().to_string();
    let (shown, outside) = (root.display().to_string(), noop.display().to_string());
    let floor = dir.join("floor").display().to_string();
    let way = |name, goal, words: &[&str]| {
        let words = words.iter().copied().chain(idle.then_some("idle"));
        Way { name, line: words.map(PathBuf::from).collect(), goal }
    };
    let run = [harness.as_str(), "run", "--target", "container"];
    let mut ways = vec![
        way("bench-harness run", None, &[&run[..], &["--", &outside]].concat()),
        way("bare", None, &[&outside]),
        way("the same, --rootfs", None, &[&run[..], &["--rootfs", &shown, "--", "/noop"]].concat()),
        way(
            EVERYTHING,
            None,
            &[
                &run[..],
                &["--rootfs", &shown, "--init", "--mem", "64", "--cpus", "1", "--pids", "64"],
                &["--network", "loopback", "--", "/noop"],
            ]
            .concat(),
        ),
        way(FLOOR, Some(1.3), &[&floor, &shown, "/noop"]),
        way("unshare -m -p -n -i -u -f", None, &["unshare", "-m", "-p", "-n", "-i", "-u", "-f", &outside]),
        way(
            "bwrap --unshare-all",
            Some(0.7),
            &["bwrap", "--unshare-all", "--die-with-parent", "--ro-bind", &shown, "/", "/noop"],
        ),
        way(
            "bwrap, --proc /proc --dev /dev",
            Some(0.7),
            &[
                &["bwrap", "--unshare-all", "--die-with-parent", "--ro-bind", &shown, "/"][..],
                &["--proc", "/proc", "--dev", "/dev", "/noop"],
            ]
            .concat(),
        ),
    ];
    for (runtime, goal) in [("crun", 0.3), ("runc", 0.1)] {
        let bundle = dir.join(runtime);
        if bundle_for(runtime, &bundle, root, idle).is_none() {
            println!("skipped: {runtime} is not installed, or makes no bundle");
            continue;
        }
        // crun refuses a host that has both versions of control groups mounted; hidden from it, the old ones do. Its own
        // number tells instances apart.
        let script = "umount /sys/fs/cgroup/unified 2>/dev/null; exec \"$0\" run -b \"$1\" bench-$$";
        let bundle = bundle.display().to_string();
        let line = ["unshare", "-m", "sh", "-c", script, runtime, &bundle];
        ways.push(Way { name: runtime, line: line.iter().map(PathBuf::from).collect(), goal: Some(goal) });
    }
    ways
}

/// The runtime's own example configuration, for the program.
fn bundle_for(runtime: &str, dir: &Path, root: &Path, idle: bool) -> Option<()> {
    std::fs::create_dir_all(dir).ok()?;
    let config = dir.join("config.json");
    drop(std::fs::remove_file(&config));
    let made = Command::new(runtime).arg("spec").current_dir(dir).output().ok()?;
    let mut spec: serde_json::Value = serde_json::from_slice(&std::fs::read(&config).ok()?).ok()?;
    spec["process"]["terminal"] = false.into();
    spec["process"]["args"] =
        if idle { serde_json::json!(["/noop", "idle"]) } else { serde_json::json!(["/noop"]) };
    spec["root"]["path"] = root.display().to_string().into();
    std::fs::write(&config, spec.to_string()).ok()?;
    made.status.success().then_some(())
}

fn whole_commands(ways: &[Way]) {
    let mut samples = vec![Vec::new(); ways.len()];
    for round in 0..WARM_UP + ROUNDS {
        for (way, samples) in ways.iter().zip(&mut samples) {
            match once(&way.line) {
                Ok(us) if round >= WARM_UP => samples.push(us),
                Ok(_) => {}
                Err(reason) => println!("{}: {reason}", way.name),
            }
        }
    }
    println!(
        "\nwhole command, start to exit of a static program that does nothing; {ROUNDS} rounds in turn, microseconds"
    );
    println!(
        "{:34} {:>8} {:>8} {:>8}   over it (median, min): bench-harness run, and with everything",
        "", "min", "median", "p95"
    );
    for samples in &mut samples {
        samples.sort_by(f64::total_cmp);
    }
    let at = |samples: &[f64], percent: usize| {
        samples.get(samples.len() * percent / 100).copied().unwrap_or(f64::NAN)
    };
    let ours = samples.first().cloned().unwrap_or_default();
    let everything = ways.iter().position(|way| way.name == EVERYTHING);
    let everything = everything.and_then(|place| samples.get(place)).cloned().unwrap_or_default();
    for (way, samples) in ways.iter().zip(&samples) {
        let (least, median) = (at(samples, 0), at(samples, 50));
        let over = |ours: &[f64]| (at(ours, 50) / median, at(ours, 0) / least);
        let ((plain, plain_least), (full, full_least)) = (over(&ours), over(&everything));
        let judged = if way.name == FLOOR { plain } else { full };
        let goal =
            way.goal.map(|goal| format!(", {judged:.2} to be at most {goal}: {}", met(judged <= goal)));
        let (name, p95, goal) = (way.name, at(samples, 95), goal.unwrap_or_default());
        print!("{name:34} {least:8.0} {median:8.0} {p95:8.0}   ");
        println!("{plain:.2} {plain_least:.2}, {full:.2} {full_least:.2}{goal}");
    }
    println!(
        "{NOT_EQUAL} (crun and runc: with the start of the shell that hides a hierarchy from crun, about as long as bare twice)"
    );
}

pub(crate) fn met(is: bool) -> &'static str {
    if is { "reached" } else { "not reached" }
}

fn once(line: &[PathBuf]) -> Result<f64, String> {
    let (program, args) = line.split_first().ok_or("no command")?;
    let mut command = Command::new(program);
    command.args(args).stdin(Streams::null()).stdout(Streams::null()).stderr(Streams::null());
    let start = Instant::now();
    let status = command.status();
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
    println!();
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
                // The threads are there before: they are the bench's, not the containers'.
                let word = Barrier::new(AT_ONCE + 1);
                let start = std::thread::scope(|scope| {
                    for _ in 0..AT_ONCE {
                        scope.spawn(|| {
                            word.wait();
                            one()
                        });
                    }
                    word.wait();
                    Instant::now()
                });
                start.elapsed().as_secs_f64() * 1e6 / AT_ONCE as f64
            })
            .collect();
        together.sort_by(f64::total_cmp);
        let together = together.get(5).copied().unwrap_or(f64::NAN);
        let per_cpu = together * cpus as f64 / alone;
        println!(
            "{AT_ONCE} at once, network beside {beside}: {together:.0} us each, alone {alone:.0}; per CPU {per_cpu:.2}, to be at \
             most 1.5: {}",
            met(per_cpu <= 1.5)
        );
    }
}
