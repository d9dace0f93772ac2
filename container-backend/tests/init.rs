//! A process 1 that is not the program.

#![allow(clippy::print_stdout, reason = "why a test is skipped, and what one process tells another")]

mod common;

use std::io::Read;

use common::*;
use container_backend::{Config, Isolation, Layer, Limits, PrepareError, Program, SpawnError, Status, Stdio};

fn with_init(act: &[&str]) -> Option<Config> {
    Some(container(act)?.init(true))
}

#[test]
fn the_program_is_process_2_of_an_init_that_holds_nothing() {
    let Some(config) = with_init(&["who"]) else { return };
    let ran = run(config.clone());
    succeeded(&ran);
    for line in ["pid 2", "ppid 1", "session 1"] {
        assert!(ran.lines().contains(&line), "{line} in {ran:?}");
    }
    let Some(config) = with_init(&["list", "/proc/1/fd"]) else { return };
    assert_eq!(run(config).stdout, "", "not even while it starts is there anything of the caller to be seen");
}

#[test]
fn orphans_are_reaped_by_the_init_and_by_nobody_without_one() {
    let Some(config) = container(&["orphans", "20"]) else { return };
    assert_eq!(run(config.clone().init(true)).stdout, "left 0\n");
    assert_eq!(run(config).stdout, "left 20\n", "the program is process 1, and does not care");
}

#[test]
fn signals_are_passed_on_to_the_program() {
    let Some(config) = with_init(&["signals"]) else { return };
    let prepared = config.prepare().expect("the config is good");
    let (mut process, mut reader) = spawn_until_ready(&prepared);
    for signal in [libc::SIGUSR1, libc::SIGHUP, libc::SIGTERM] {
        let mut said = [0; 3];
        // SAFETY: kill takes numbers only; the process has not been reaped yet.
        assert_eq!(unsafe { libc::kill(process.pid(), signal) }, 0);
        let line = format!("{signal}\n");
        reader.read_exact(&mut said[..line.len()]).expect("it says so");
        assert_eq!(&said[..line.len()], line.as_bytes());
    }
    let exit = process.wait(Some(PATIENCE)).expect("it can be waited for").expect("it ends");
    assert_eq!(exit.status, Status::Exited(7), "the program's own code");
}

#[test]
fn a_program_killed_by_a_signal_ends_the_instance_with_its_code() {
    let Some(config) = with_init(&["signal", "11"]) else { return };
    assert_eq!(run(config).exit.status, Status::Exited(128 + 11));
    // Process 1 itself is spared by signals from within; the program now is not process 1.
    let Some(config) = with_init(&["signal", "15"]) else { return };
    assert_eq!(run(config).exit.status, Status::Exited(128 + 15));
}

#[test]
fn killing_it_ends_the_program_and_all_of_its_children() {
    let Some(config) = with_init(&["daemon", "stay"]) else { return };
    let prepared = config.prepare().expect("the config is good");
    let (mut process, mut reader) = spawn_until_ready(&prepared);
    process.kill().expect("it can be killed");
    process.wait(Some(PATIENCE)).expect("it can be waited for").expect("it ends");
    assert_eq!(reader.read(&mut [0; 1]).expect("it can be read"), 0);
    // When the program ends, what it left behind ends with it.
    let Some(config) = with_init(&["daemon"]) else { return };
    let prepared = config.prepare().expect("the config is good");
    let (mut process, mut reader) = spawn_piped(&prepared);
    process.wait(Some(PATIENCE)).expect("it can be waited for").expect("it ends");
    reader.read_to_string(&mut String::new()).expect("nobody holds the other end any more");
}

#[test]
fn the_init_is_as_closed_as_the_program() {
    let Some(config) = with_init(&["show", "/proc/1/status"]) else { return };
    for isolation in [Isolation::container(), Isolation::container().with(Layer::User)] {
        let ran = run(config.clone().isolation(isolation));
        assert_eq!(ran.field("CapEff:"), "00000000800405fb");
        assert_eq!(ran.field("NoNewPrivs:"), "1");
        assert_eq!(ran.field("Seccomp:"), "2");
        assert_eq!(ran.field("Threads:"), "1");
        let vm: u64 = ran.field("VmSize:").trim_end_matches(" kB").parse().expect("a number");
        assert!(vm < 1024, "it has nothing of the caller's memory: {vm} KiB");
    }
}

#[test]
fn it_takes_next_to_no_memory() {
    let Some(config) = with_init(&["sleep"]) else { return };
    let prepared = config.prepare().expect("the config is good");
    let running: Vec<_> = (0..4).map(|_| spawn_until_ready(&prepared)).collect();
    for (process, _) in &running {
        let text = std::fs::read_to_string(format!("/proc/{}/smaps_rollup", process.pid()));
        let text = text.expect("its figures can be read");
        let pss = text.lines().find_map(|line| line.strip_prefix("Pss:")).expect("a field");
        let pss: u64 = pss.trim().trim_end_matches(" kB").parse().expect("a number");
        println!("init: {pss} KiB");
        assert!(pss <= 32, "{pss} KiB");
    }
}

#[test]
fn a_program_that_cannot_be_executed_is_told_as_without_an_init() {
    if !alone("a_program_that_cannot_be_executed_is_told_as_without_an_init") {
        return;
    }
    let before = Traces::now();
    let (_dir, broken) = broken_program();
    let config = Config::new(Program::path(&broken)).isolation(Isolation::container()).init(true);
    let prepared = config.limits(Limits::none().pids(8)).prepare().expect("it may be a program");
    for _ in 0..10 {
        let refused = prepared.spawn(Stdio::null());
        assert!(matches!(refused, Err(SpawnError::Exec { .. })), "{refused:?}");
    }
    drop(prepared);
    // Where one process is all that is allowed, there is no room for the program.
    let config = container(&["ready"]).expect("containers work").init(true);
    let prepared = config.limits(Limits::none().pids(1)).prepare().expect("good");
    if prepared.limits_unavailable().is_none() {
        let refused = prepared.spawn(Stdio::null());
        assert!(
            matches!(refused, Err(SpawnError::Setup { ref step, .. }) if step.contains("init")),
            "{refused:?}"
        );
    }
    drop(prepared);
    assert_eq!(Traces::now(), before);
}

#[test]
fn without_a_pid_namespace_there_is_no_process_1_to_be() {
    let Some(config) = with_init(&["ready"]) else { return };
    let refused = config.isolation(Isolation::container().without(Layer::Pid)).prepare();
    assert!(matches!(refused, Err(PrepareError::NeedsLayer { .. })), "{refused:?}");
}
