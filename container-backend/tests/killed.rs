//! The caller is killed at each step of a start in turn, from the making of the control group to the exec and beyond, and
//! nothing is left: no process, control group, mount or interface; nor does the program run.
//!
//! The child stops before the step, so that nothing is left to chance, and goes on when the caller is dead.

#![allow(clippy::print_stdout, reason = "why a test is skipped, and what one process tells another")]

mod common;

use std::io::{BufRead, BufReader, Read};
use std::os::fd::AsFd;
use std::process::Stdio as StdStdio;

use common::*;
use container_backend::{Config, IdMaps, Isolation, Layer, Limits, Network, Stdio, Stream, Veth};

/// A container with everything that this caller may have; `kind` says of which sort.
fn everything(kind: &str) -> Config {
    let config = container(&["ready"]).expect("the first process has looked");
    let config = config.limits(Limits::none().memory_bytes(32 << 20).pids(32));
    let config = match kind {
        "beside" => config,
        "init" => config.init(true).network_beside(false),
        _ => config.isolation(Isolation::container().with(Layer::User)).id_maps(IdMaps::Auto),
    };
    if is_root() { config.network(Network::Veth(Veth::new())) } else { config }
}

/// The process that is killed: stops where its part says, "KIND STEP", STEP being a number, "group", or "end".
fn be_killed(kind: &str, step: &str) -> ! {
    let prepared = everything(kind).prepare().expect("the config is good");
    println!("\nsteps {}", prepared.steps().len());
    let out = std::io::stdout().as_fd().try_clone_to_owned().expect("a duplicate");
    let stdio = Stdio::null().stdout(Stream::Fd(out.as_fd()));
    let step = match step {
        "group" => None,
        // Past all of them: it never stops.
        "end" => Some(u32::MAX - 1),
        number => Some(number.parse().expect("a number")),
    };
    let running = prepared.spawn_to_be_killed(stdio, step, out.as_fd());
    println!("spawned {}", running.is_ok());
    // Neither waited for nor dropped.
    loop {
        std::thread::park();
    }
}

/// Kills one caller; how many steps there are, and what came out after its death.
fn kill_one(scenario: &str, kind: &str, step: &str, until: &str) -> (usize, String) {
    let mounts = || std::fs::read_to_string("/proc/self/mountinfo").expect("/proc is there").lines().count();
    let before = mounts();
    let mut child = in_part(scenario, &format!("{kind} {step}"))
        .stdout(StdStdio::piped())
        .spawn()
        .expect("this test can be started");
    let mut out = BufReader::new(child.stdout.take().expect("a pipe"));
    let (mut steps, mut line) = (0, String::new());
    while !line.starts_with(until) {
        line.clear();
        assert_ne!(out.read_line(&mut line).expect("text"), 0, "{kind} {step}: it ended too early");
        if let Some(number) = line.strip_prefix("steps ") {
            steps = number.trim().parse().expect("a number");
        }
    }
    let pid = child.id();
    let family = family_of(pid);
    assert!(step == "group" || !family.is_empty(), "{kind} {step}");
    child.kill().expect("it can be killed");
    child.wait().expect("it can be waited for");
    let is_there = |pid: &i32| runs(*pid);
    assert!(eventually(|| !family.iter().any(is_there)), "{kind} {step}: a process is left of {family:?}");
    // The end of file comes when nobody is left who has the other end: neither the child nor the program.
    let mut rest = String::new();
    out.read_to_string(&mut rest).expect("text");
    assert!(eventually(|| groups_of(pid).is_empty()), "{kind} {step}: groups are left: {:?}", groups_of(pid));
    assert!(eventually(|| !interface_of(pid)), "{kind} {step}: an interface is left");
    assert_eq!(mounts(), before, "{kind} {step}");
    (steps, rest)
}

/// All that descends from a process.
fn family_of(pid: u32) -> Vec<i32> {
    let tasks = std::fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten();
    let children = tasks.filter_map(|task| std::fs::read_to_string(task.path().join("children")).ok());
    let children: Vec<i32> = children
        .flat_map(|list| list.split_whitespace().filter_map(|n| n.parse().ok()).collect::<Vec<_>>())
        .collect();
    let below = children.iter().flat_map(|&child| family_of(child.cast_unsigned()));
    below.chain(children.iter().copied()).collect()
}

/// Whether there is an outer end of a veth pair of this process.
fn interface_of(pid: u32) -> bool {
    let text = std::fs::read_to_string("/proc/thread-self/net/dev").expect("/proc is there");
    text.lines().any(|line| line.trim_start().starts_with(&format!("v{pid:x}-")))
}

fn each_step(scenario: &str, kind: &str) {
    if let Some(part) = part() {
        let (kind, step) = part.split_once(' ').expect("two words");
        be_killed(kind, step);
    }
    if !containers_work() || actor().is_none() {
        return;
    }
    let (steps, rest) = kill_one(scenario, kind, "group", "paused");
    assert!(steps > 20, "{steps}");
    assert_eq!(rest, "");
    // One more than the steps: before the exec.
    for step in 0..=steps {
        let (_, rest) = kill_one(scenario, kind, &step.to_string(), "paused");
        assert_eq!(rest, "", "{kind} {step}: the program has run");
    }
    // When it has ended, and nobody has asked.
    let (_, rest) = kill_one(scenario, kind, "end", "spawned true");
    assert!(["", "ready\n"].contains(&rest.as_str()), "{rest}");
}

#[test]
fn a_caller_killed_at_any_step_leaves_nothing() {
    each_step("a_caller_killed_at_any_step_leaves_nothing", "beside");
}

#[test]
fn a_caller_killed_at_any_step_of_a_start_with_an_init_leaves_nothing() {
    each_step("a_caller_killed_at_any_step_of_a_start_with_an_init_leaves_nothing", "init");
}

#[test]
fn a_caller_killed_at_any_step_of_a_start_with_a_user_namespace_leaves_nothing() {
    each_step("a_caller_killed_at_any_step_of_a_start_with_a_user_namespace_leaves_nothing", "user");
}
