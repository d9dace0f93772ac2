//! What stays in memory beside an idle instance: by PSS of everything that is not the program, and by the slope over several.

use std::collections::BTreeSet;
use std::path::Path;
use std::process::{Child, Command, Stdio as Streams};
use std::time::{Duration, Instant};

use container_backend::{Config, Isolation, Limits, Program, Stdio};

use super::{NOT_EQUAL, Way, met};

/// Instances, at which the kept memory is read.
const COUNTS: [usize; 3] = [8, 16, 32];
/// The most that one may keep, in KiB.
const MOST: f64 = 100.0;
const PATIENCE: Duration = Duration::from_secs(20);

/// The table: the library in this process, then every command.
pub(crate) fn table(noop: &Path, ways: &[Way]) {
    println!(
        "\nkept beside the program per idle instance, KiB (PSS at {} instances; slope from {})",
        COUNTS[2], COUNTS[0]
    );
    library(noop, "library, no limits", Limits::none(), false);
    library(noop, "library, limits", Limits::none().memory_bytes(64 << 20).pids(64), false);
    library(noop, "library, --init", Limits::none(), true);
    for way in ways.iter().filter(|way| way.name != "bare") {
        command(way);
    }
    println!("detached (Process::detach, --detach): nothing is kept. {NOT_EQUAL}");
}

fn say(name: &str, kept: [f64; 3]) {
    let [few, _, many] = kept;
    let slope = (many - few) / (COUNTS[2] - COUNTS[0]) as f64;
    let each = many / COUNTS[2] as f64;
    let is = met(each <= MOST && slope <= MOST);
    println!("{name:34} {each:8.1} {slope:8.1}   at most {MOST:.0}: {is}");
}

/// Instances of this process: what it and its helpers have more than with none.
fn library(noop: &Path, name: &str, limits: Limits, init: bool) {
    let config = Config::new(Program::path(noop)).arg("idle").isolation(Isolation::container()).init(init);
    let prepared = config.limits(limits).prepare().expect("the config is good");
    // The first brings in what all use.
    drop(prepared.spawn(Stdio::null()));
    let own = || {
        pss(std::process::id())
            + family(std::process::id()).iter().map(|&pid| not_the_program(pid)).sum::<f64>()
    };
    let before = own();
    let mut running = Vec::new();
    let kept = COUNTS.map(|count| {
        while running.len() < count {
            running.push(prepared.spawn(Stdio::null()).expect("it starts"));
        }
        std::thread::sleep(Duration::from_millis(200));
        own() - before
    });
    say(name, kept);
}

/// Instances by a command each.
fn command(way: &Way) {
    let mut running: Vec<Child> = Vec::new();
    let kept = COUNTS.map(|count| {
        while running.len() < count {
            let Some((program, args)) = way.line.split_first() else { return f64::NAN };
            let mut command = Command::new(program);
            command.args(args).stdin(Streams::null()).stdout(Streams::null()).stderr(Streams::null());
            match command.spawn() {
                Ok(child) => running.push(child),
                Err(_) => return f64::NAN,
            }
        }
        let started = Instant::now();
        while running.iter().any(|child| !has_the_program(child.id())) && started.elapsed() < PATIENCE {
            std::thread::sleep(Duration::from_millis(20));
        }
        // Some give memory back when they find that it takes longer.
        std::thread::sleep(Duration::from_millis(300));
        let all: BTreeSet<u32> =
            running.iter().flat_map(|child| [child.id()].into_iter().chain(family(child.id()))).collect();
        if running.iter().all(|child| has_the_program(child.id())) {
            all.into_iter().map(not_the_program).sum()
        } else {
            f64::NAN
        }
    });
    if kept.iter().all(|kept| kept.is_finite()) {
        say(way.name, kept);
    } else {
        println!("skipped: {}: it does not start {} idle instances here", way.name, COUNTS[2]);
    }
    for child in &mut running {
        // The program first: its runtime then ends, and removes what it has made.
        for pid in family(child.id()).into_iter().filter(|&pid| is_the_program(pid)) {
            kill(pid);
        }
        let until = Instant::now() + Duration::from_secs(5);
        while child.try_wait().is_ok_and(|ended| ended.is_none()) && Instant::now() < until {
            std::thread::sleep(Duration::from_millis(5));
        }
        drop(child.kill());
        drop(child.wait());
    }
}

fn kill(pid: u32) {
    // SAFETY: kill takes numbers only; the process was a descendant of a child of ours just now.
    unsafe { libc::kill(pid.cast_signed(), libc::SIGKILL) };
}

/// All that descends from a process.
fn family(pid: u32) -> Vec<u32> {
    let tasks = std::fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten();
    let lists = tasks.filter_map(|task| std::fs::read_to_string(task.path().join("children")).ok());
    let children: Vec<u32> = lists
        .flat_map(|list| list.split_whitespace().filter_map(|n| n.parse().ok()).collect::<Vec<_>>())
        .collect();
    let below: Vec<u32> = children.iter().flat_map(|&child| family(child)).collect();
    children.into_iter().chain(below).collect()
}

fn is_the_program(pid: u32) -> bool {
    let line = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    let exe = std::fs::read_link(format!("/proc/{pid}/exe")).unwrap_or_default();
    line.ends_with(b"\0idle\0") && (exe.ends_with("noop") || exe.ends_with("program"))
}

fn has_the_program(pid: u32) -> bool {
    family(pid).into_iter().any(is_the_program)
}

fn not_the_program(pid: u32) -> f64 {
    if is_the_program(pid) { 0.0 } else { pss(pid) }
}

/// A process's proportional share of memory, in KiB.
fn pss(pid: u32) -> f64 {
    let text = std::fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).unwrap_or_default();
    let line = text.lines().find_map(|line| line.strip_prefix("Pss:"));
    line.and_then(|line| line.trim().trim_end_matches(" kB").parse().ok()).unwrap_or(0.0)
}
