//! Memory, processes and CPU time within bounds.

#![allow(clippy::print_stdout, reason = "why a test is skipped, and what one process tells another")]

mod common;

use std::time::Duration;

use common::*;
use container_backend::{Bind, Config, IoLimit, Limits, PrepareError, Prepared, SpawnError, Status, Stdio};

/// Prepared with `limits`; `None`, with the reason printed, where the host lets us have no control group.
fn limited(config: Option<Config>, limits: Limits) -> Option<Prepared> {
    let prepared = config?.limits(limits).read_usage(true).prepare().expect("the config is good");
    match prepared.limits_unavailable() {
        None => Some(prepared),
        Some(reason) => {
            println!("skipped: no limits here: {reason}");
            None
        }
    }
}

const MEMORY: Limits = Limits::none().memory_bytes(16 << 20);

#[test]
fn a_memory_hog_is_killed_and_the_outcome_says_why() {
    if !alone("a_memory_hog_is_killed_and_the_outcome_says_why") {
        return;
    }
    let before = Traces::now();
    for make in [native, container] {
        let Some(prepared) = limited(make(&["hog", "64"]), MEMORY) else { return };
        let ran = run_prepared(&prepared);
        assert_eq!(ran.exit.status, Status::Signaled(libc::SIGKILL));
        let usage = ran.exit.usage.expect("it was asked for");
        assert!(usage.oom_kills.is_none_or(|kills| kills > 0), "{usage:?}");
        assert!(usage.memory_peak_bytes.is_none_or(|peak| (8 << 20..=16 << 20).contains(&peak)), "{usage:?}");
    }
    nothing_is_left(&before);
}

#[test]
fn a_program_within_its_memory_is_left_alone() {
    let Some(prepared) = limited(container(&["hog", "4"]), MEMORY) else { return };
    let ran = run_prepared(&prepared);
    succeeded(&ran);
    let usage = ran.exit.usage.expect("it was asked for");
    assert!(usage.oom_kills.is_none_or(|kills| kills == 0), "{usage:?}");
    assert!(usage.memory_peak_bytes.is_none_or(|peak| peak >= 4 << 20), "{usage:?}");
}

#[test]
fn a_fork_bomb_ends_at_its_limit_and_all_of_it_is_gone_afterwards() {
    if !alone("a_fork_bomb_ends_at_its_limit_and_all_of_it_is_gone_afterwards") {
        return;
    }
    let before = Traces::now();
    for make in [native, container] {
        let Some(prepared) = limited(make(&["forks", "100"]), Limits::none().pids(8)) else { return };
        let (mut process, mut reader) = spawn_piped(&prepared);
        let groups = process.cgroup_paths();
        let exit = process.wait(Some(PATIENCE)).expect("it can be waited for").expect("it ends");
        let mut text = String::new();
        std::io::Read::read_to_string(&mut reader, &mut text)
            .expect("every holder of the pipe has been killed");
        assert!(text.contains("Resource temporarily unavailable") && text.contains('7'), "{text}");
        assert!(exit.usage.expect("it was asked for").pids_refused.is_none_or(|refused| refused > 0));
        assert!(groups.iter().all(|group| !group.exists()), "{groups:?}");
    }
    nothing_is_left(&before);
}

#[test]
fn what_was_met_is_read_without_the_rest() {
    let limits = MEMORY.pids(8);
    let Some(config) = container(&["forks", "100"]) else { return };
    if limited(Some(config.clone()), limits).is_none() {
        return;
    }
    let ran = run(config.limits(limits).read_limits_met(true));
    let usage = ran.exit.usage.expect("it was asked for");
    assert!(usage.pids_refused.is_none_or(|refused| refused > 0), "{usage:?}");
    assert_eq!((usage.memory_bytes, usage.memory_peak_bytes, usage.cpu_ns), (None, None, None));
}

#[test]
fn a_program_that_burns_gets_the_cpu_time_that_it_was_given() {
    let Some(prepared) = limited(container(&["burn", "500"]), Limits::none().cpu_millis(100)) else { return };
    let ran = run_prepared(&prepared);
    succeeded(&ran);
    let used = ran.exit.resources.user_ns + ran.exit.resources.system_ns;
    // A tenth of half a second, with the last period's share on top; never half of it.
    assert!(used < 250_000_000, "{used}");
    assert!(ran.exit.usage.expect("it was asked for").throttled_ns.is_none_or(|held| held > 0));
}

#[test]
fn usage_can_be_read_while_it_runs() {
    let Some(prepared) = limited(container(&["sleep"]), MEMORY) else { return };
    let (process, _reader) = spawn_until_ready(&prepared);
    let usage = process.usage().expect("it has a group");
    assert!(usage.memory_bytes.is_none_or(|bytes| bytes > 0 && bytes < 16 << 20), "{usage:?}");
    assert!(!process.cgroup_paths().is_empty());
    assert!(process.cgroup_paths().iter().all(|path| path.is_dir()));
}

#[test]
fn all_limits_at_once_and_many_at_a_time() {
    let limits = MEMORY.pids(16).cpu_millis(1000);
    let Some(prepared) = limited(container(&["sleep"]), limits) else { return };
    let running: Vec<_> = (0..8).map(|_| spawn_until_ready(&prepared)).collect();
    let groups = groups_of(std::process::id());
    assert!(groups.len() >= running.len(), "{groups:?}");
    let own: Vec<_> = running.iter().flat_map(|(process, _)| process.cgroup_paths()).collect();
    drop(running);
    assert!(own.iter().all(|path| !path.exists()));
}

#[test]
fn no_limit_makes_no_group() {
    let Some(config) = container(&["sleep"]) else { return };
    let prepared = config.prepare().expect("the config is good");
    let (process, _reader) = spawn_until_ready(&prepared);
    assert!(process.cgroup_paths().is_empty());
    assert_eq!(process.usage(), None);
}

#[test]
fn the_smallest_limit_harms_nobody_but_the_instance_and_leaves_nothing() {
    if !alone("the_smallest_limit_harms_nobody_but_the_instance_and_leaves_nothing") {
        return;
    }
    let Some(prepared) = limited(container(&["ready"]), Limits::none().memory_bytes(1 << 20)) else {
        return;
    };
    let before = Traces::now();
    match prepared.spawn(Stdio::null()) {
        // Killed by the kernel at one step or another, or even not at all: kernels differ in what they charge.
        Err(SpawnError::Killed | SpawnError::Exec { .. } | SpawnError::Setup { .. }) => {}
        Ok(mut process) => {
            process.wait(Some(Duration::from_secs(10))).expect("it can be waited for").expect("it ends");
        }
        Err(other) => panic!("{other:?}"),
    }
    assert_eq!(Traces::now(), before);
}

#[test]
fn limits_that_no_kernel_takes_are_refused() {
    let Some(config) = native(&["ready"]) else { return };
    for limits in [
        Limits::none().memory_bytes(0),
        Limits::none().memory_bytes((1 << 20) - 1),
        Limits::none().memory_bytes(u64::MAX),
        Limits::none().cpu_millis(1),
        Limits::none().pids(0),
    ] {
        let refused = config.clone().limits(limits).prepare();
        assert!(matches!(refused, Err(PrepareError::LimitValue { .. })), "{refused:?}");
    }
}

#[test]
fn it_is_kept_to_its_cpus_and_gets_its_share() {
    let act = ["show", "/proc/self/status"];
    if let Some(prepared) = limited(container(&act), Limits::none().cpuset(1)) {
        assert_eq!(run_prepared(&prepared).field("Cpus_allowed_list:"), "0");
    }
    let Some(prepared) = limited(container(&["sleep"]), Limits::none().cpu_weight(50)) else { return };
    let (process, _reader) = spawn_until_ready(&prepared);
    let paths = process.cgroup_paths();
    let read = |file: &str| paths.iter().find_map(|path| std::fs::read_to_string(path.join(file)).ok());
    let weight = read("cpu.weight").or_else(|| read("cpu.shares")).expect("one of the two");
    assert!(["50\n", "512\n"].contains(&weight.as_str()), "{weight}");
}

#[test]
fn limits_that_make_no_sense_are_refused() {
    for limits in [
        Limits::none().cpu_weight(0),
        Limits::none().cpu_weight(10_001),
        Limits::none().cpuset(0),
        Limits::none().swap_bytes(1),
    ] {
        let Some(config) = container(&[]) else { return };
        assert!(
            matches!(config.limits(limits).prepare(), Err(PrepareError::LimitValue { .. })),
            "{limits:?}"
        );
    }
}

#[test]
fn which_limit_was_met_is_told_apart() {
    // Less of a CPU than a busy machine leaves to anyone.
    let limits = Limits::none().memory_bytes(16 << 20).pids(8).cpu_millis(50);
    let met = |act: &[&str]| {
        let prepared = limited(container(act), limits)?;
        let usage = run_prepared(&prepared).exit.usage.expect("it was asked for");
        let some = |count: Option<u64>| count.map(|count| count > 0);
        Some([some(usage.oom_kills), some(usage.pids_refused), some(usage.throttled_ns)])
    };
    for (act, expected) in [
        (&["ready"][..], [false, false, false]),
        (&["hog", "64"], [true, false, false]),
        (&["forks", "100"], [false, true, false]),
        (&["burn", "150"], [false, false, true]),
    ] {
        let Some(met) = met(act) else { return };
        // A kernel that does not count one of them says nothing about it; the CPU may hold anyone back on a busy machine.
        for (index, (met, expected)) in met.into_iter().zip(expected).enumerate() {
            assert!(
                met.is_none_or(|met| met == expected || (index == 2 && met)),
                "{act:?}: {index}, {met:?}"
            );
        }
    }
}

#[test]
fn what_is_read_and_written_is_counted_and_bounded() {
    // A folder on a device: temporary ones may be in memory.
    let dir = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("a folder");
    let Ok(mut limit) = IoLimit::of(dir.path()) else {
        println!("skipped: {} is on no block device", dir.path().display());
        return;
    };
    const RATE: u64 = 1 << 20;
    (limit.read_bytes, limit.written_bytes) = (Some(RATE), Some(RATE));
    let bind = Bind { host: dir.path().to_owned(), inside: "/data".into(), read_only: false };
    for act in ["direct-write", "direct-read"] {
        let Some(config) = container(&[act, "/data/file", "1536"]) else { return };
        let Some(prepared) = limited(Some(config.bind(bind.clone())), Limits::none().io(limit)) else {
            return;
        };
        let ran = run_prepared(&prepared);
        succeeded(&ran);
        let took: u64 = ran.stdout.trim().parse().expect("a number");
        // A second and a half at this rate. A kernel may let a burst pass, but never half of it.
        assert!(took > 750, "{act}: {took} ms");
        let usage = ran.exit.usage.expect("it was asked for");
        let counted = if act == "direct-read" { usage.io_read_bytes } else { usage.io_written_bytes };
        assert!(counted.is_none_or(|bytes| bytes >= 1536 << 10), "{act}: {usage:?}");
    }
}

#[test]
fn a_limit_that_the_host_refuses_is_said_and_leaves_nothing() {
    if !alone("a_limit_that_the_host_refuses_is_said_and_leaves_nothing") {
        return;
    }
    let before = Traces::now();
    let dir = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("a folder");
    // More CPUs than any host has, and a device that is none.
    let mut refused = vec![Limits::none().cpuset(1 << 127)];
    if let Ok(mut limit) = IoLimit::of(dir.path()) {
        (limit.device, limit.reads) = ((4095, 77), Some(1));
        refused.push(Limits::none().io(limit));
    }
    for limits in refused {
        let config = container(&["ready"]).expect("containers work").limits(limits);
        let prepared = config.prepare().expect("the host is asked, not the config");
        let reason = prepared.limits_unavailable().expect("no host has that").to_owned();
        assert!(!reason.is_empty());
        println!("{reason}");
        succeeded(&run_prepared(&prepared));
    }
    assert_eq!(Traces::now(), before);
}

#[test]
fn memory_and_swap_are_read_back_where_the_host_counts_them() {
    let limits = MEMORY.swap_bytes(1 << 20);
    let Some(prepared) = limited(container(&["sleep"]), limits) else { return };
    let (process, _reader) = spawn_until_ready(&prepared);
    let read = |file: &str| {
        process.cgroup_paths().iter().find_map(|path| std::fs::read_to_string(path.join(file)).ok())
    };
    let swap =
        read("memory.swap.max").or_else(|| read("memory.memsw.limit_in_bytes")).expect("swap is bounded");
    assert!([1 << 20, 17 << 20].contains(&swap.trim().parse::<u64>().expect("a number")), "{swap}");
    let usage = process.usage().expect("it has a group");
    assert!(usage.swap_bytes.is_none_or(|bytes| bytes <= 1 << 20), "{usage:?}");
}

#[test]
fn a_start_that_follows_at_once_has_the_group_that_was_tried_and_nothing_is_left_of_it() {
    let scenario = "a_start_that_follows_at_once_has_the_group_that_was_tried_and_nothing_is_left_of_it";
    if !alone(scenario) {
        return;
    }
    let pid = std::process::id();
    let config = container(&["ready"]).map(|config| config.start_soon(true));
    let Some(prepared) = limited(config.clone(), MEMORY) else { return };
    let mut tried = groups_of(pid);
    assert!(!tried.is_empty());
    let start = || prepared.spawn(Stdio::null()).expect("it starts");
    let (mut first, mut second) = (start(), start());
    let mut its_own = first.cgroup_paths();
    for paths in [&mut tried, &mut its_own] {
        paths.sort();
    }
    assert_eq!(its_own, tried);
    assert!(second.cgroup_paths().iter().all(|path| !tried.contains(path)));
    for process in [&mut first, &mut second] {
        process.wait(Some(PATIENCE)).expect("it can be waited for").expect("it ends");
    }
    assert!(groups_of(pid).is_empty());
    let never_started = limited(config, MEMORY).expect("as above");
    assert!(!groups_of(pid).is_empty());
    drop((prepared, never_started));
    assert!(groups_of(pid).is_empty());
    let children =
        std::fs::read_to_string(format!("/proc/self/task/{pid}/children")).expect("/proc is there");
    assert_eq!(children, "", "the janitor has ended");
}
