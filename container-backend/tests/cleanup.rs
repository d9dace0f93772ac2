//! Nothing is left behind, however an instance or its caller ends: counted before and after.
//!
//! The scenarios of this file count the traces of a whole process, so each runs in a process of its own.

#![allow(clippy::print_stdout, reason = "why a test is skipped, and what one process tells another")]

mod common;

use std::io::{BufRead, BufReader, Read};
use std::os::unix::process::CommandExt;
use std::process::{Child, Stdio as StdStdio};

use common::*;
use container_backend::{Config, Isolation, Limits, PrepareError, Program, Stdio};

fn limits() -> Limits {
    Limits::none().memory_bytes(32 << 20).pids(32)
}

fn act(act: &str) -> Config {
    container(&[act]).expect("the first process has looked").limits(limits())
}

#[test]
fn a_thousand_starts_leave_nothing() {
    if !alone("a_thousand_starts_leave_nothing") {
        return;
    }
    // The kernel would put a few pages of the heap together to a huge one some time, which is resident as a whole.
    // SAFETY: prctl with numbers only.
    assert_eq!(unsafe { libc::prctl(libc::PR_SET_THP_DISABLE, 1, 0, 0, 0) }, 0);
    let before = Traces::now();
    let prepared = act("ready").prepare().expect("the config is good");
    let running = Traces::now();
    for _ in 0..100 {
        succeeded(&run_prepared(&prepared));
    }
    let resident = resident_kib();
    for _ in 0..900 {
        succeeded(&run_prepared(&prepared));
    }
    assert_eq!(Traces::now(), running);
    let grown = resident_kib().saturating_sub(resident);
    assert!(grown < 256, "{grown} KiB more than after a hundred");
    drop(prepared);
    assert_eq!(Traces::now(), before);
}

#[test]
fn a_failed_exec_leaves_nothing() {
    if !alone("a_failed_exec_leaves_nothing") {
        return;
    }
    let before = Traces::now();
    let (_dir, broken) = broken_program();
    for isolation in [Isolation::none(), Isolation::container()] {
        let config = Config::new(Program::path(&broken)).isolation(isolation).limits(limits());
        let prepared = config.prepare().expect("it may be a program");
        for _ in 0..10 {
            prepared.spawn(Stdio::null()).expect_err("it is none");
        }
    }
    assert_eq!(Traces::now(), before);
}

#[test]
fn a_dropped_handle_leaves_nothing() {
    if !alone("a_dropped_handle_leaves_nothing") {
        return;
    }
    let before = Traces::now();
    let prepared = act("sleep").prepare().expect("the config is good");
    for _ in 0..10 {
        let (process, _reader) = spawn_until_ready(&prepared);
        let pid = process.pid();
        assert!(runs(pid));
        drop(process);
        assert!(!runs(pid));
    }
    drop(prepared);
    assert_eq!(Traces::now(), before);
}

#[test]
fn a_panic_leaves_nothing() {
    if !alone("a_panic_leaves_nothing") {
        return;
    }
    let before = Traces::now();
    let caught = std::panic::catch_unwind(|| {
        let prepared = act("sleep").prepare().expect("the config is good");
        let _running = spawn_until_ready(&prepared);
        panic!("on purpose");
    });
    caught.expect_err("it panics");
    assert_eq!(Traces::now(), before);
}

#[test]
fn a_daemon_left_behind_by_a_bare_program_is_ended_with_its_group() {
    if !alone("a_daemon_left_behind_by_a_bare_program_is_ended_with_its_group") {
        return;
    }
    let config = native(&["daemon"]).expect("the first process has looked").limits(limits());
    let prepared = config.prepare().expect("the config is good");
    if prepared.limits_unavailable().is_some() {
        return;
    }
    let (mut process, mut reader) = spawn_until_ready(&prepared);
    process.wait(Some(PATIENCE)).expect("it can be waited for").expect("it ends");
    assert_eq!(reader.read(&mut [0]).expect("it can be read"), 0, "the daemon held the other end");
}

/// A caller with two containers, as a process to be killed; its pid and theirs.
fn caller(scenario: &str) -> (Child, Vec<i32>) {
    let mut command = in_part(scenario, "caller");
    command.stdout(StdStdio::piped()).process_group(0);
    let mut child = command.spawn().expect("this test can be started");
    let mut lines = BufReader::new(child.stdout.take().expect("a pipe")).lines().map_while(Result::ok);
    let held = lines.find_map(|line| line.split_once("holding ").map(|(_, pids)| pids.to_owned()));
    let pids =
        held.expect("the caller says what it holds").split(' ').filter_map(|pid| pid.parse().ok()).collect();
    (child, pids)
}

/// What the process does that [`caller`] starts.
fn hold() -> ! {
    let prepared = act("sleep").prepare().expect("the config is good");
    let running: Vec<_> = (0..2).map(|_| spawn_until_ready(&prepared)).collect();
    // Nothing ends this one with its caller but that its group is to be removed.
    let daemon = native(&["daemon"]).expect("the first process has looked").limits(limits());
    let _daemon = spawn_until_ready(&daemon.prepare().expect("the config is good"));
    let pids: Vec<_> = running.iter().map(|(process, _)| process.pid().to_string()).collect();
    println!("holding {}", pids.join(" "));
    loop {
        std::thread::park();
    }
}

#[test]
fn a_caller_killed_by_sigkill_leaves_no_process_and_no_group() {
    let scenario = "a_caller_killed_by_sigkill_leaves_no_process_and_no_group";
    if part().as_deref() == Some("caller") {
        hold();
    }
    if !containers_work() || actor().is_none() {
        return;
    }
    let (mut child, pids) = caller(scenario);
    assert_eq!(pids.len(), 2);
    let groups = groups_of(child.id());
    println!("{} groups", groups.len());
    child.kill().expect("it can be killed");
    child.wait().expect("it can be waited for");
    assert!(eventually(|| pids.iter().all(|&pid| !runs(pid))), "processes are left");
    assert!(eventually(|| groups.iter().all(|group| !group.exists())), "groups are left: {groups:?}");
}

#[test]
fn a_process_that_the_caller_has_forked_does_not_keep_its_groups() {
    let scenario = "a_process_that_the_caller_has_forked_does_not_keep_its_groups";
    if part().as_deref() == Some("caller") {
        let prepared = act("sleep").prepare().expect("the config is good");
        let running = spawn_until_ready(&prepared);
        // SAFETY: the child makes one call, which ends only with it.
        let forked = unsafe { libc::fork() };
        if forked == 0 {
            // SAFETY: takes nothing.
            unsafe { libc::pause() };
        }
        println!("holding {} {forked}", running.0.pid());
        loop {
            std::thread::park();
        }
    }
    if !containers_work() || actor().is_none() {
        return;
    }
    let (mut child, pids) = caller(scenario);
    let groups = groups_of(child.id());
    child.kill().expect("it can be killed");
    child.wait().expect("it can be waited for");
    let gone = eventually(|| groups.iter().all(|group| !group.exists()));
    let &[_, forked] = &pids[..] else { panic!("{pids:?}") };
    assert!(runs(forked), "else this says nothing");
    // SAFETY: takes numbers; the process is there as of the line above.
    unsafe { libc::kill(forked, libc::SIGKILL) };
    assert!(gone, "groups are left: {groups:?}");
}

#[test]
fn a_caller_killed_while_it_starts_containers_leaves_no_process_and_no_group() {
    let scenario = "a_caller_killed_while_it_starts_containers_leaves_no_process_and_no_group";
    if part().as_deref() == Some("caller") {
        let prepared = act("sleep").prepare().expect("the config is good");
        println!("holding 0");
        loop {
            std::mem::forget(prepared.spawn(Stdio::null()).expect("it starts"));
        }
    }
    if !containers_work() || actor().is_none() {
        return;
    }
    for round in 0..10 {
        let (mut child, _) = caller(scenario);
        // Spread over more than the whole length of a start, so that each phase is hit at some time.
        std::thread::sleep(std::time::Duration::from_micros(400 * round));
        let pid = child.id();
        child.kill().expect("it can be killed");
        child.wait().expect("it can be waited for");
        assert!(eventually(|| groups_of(pid).is_empty()), "groups are left: {:?}", groups_of(pid));
        assert!(eventually(|| sleepers().is_empty()), "processes are left: {:?}", sleepers());
    }
}

/// Processes that run the actor's `sleep` as process 1 of some namespace, and whose parent is not a caller of today.
fn sleepers() -> Vec<String> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir("/proc").expect("/proc is there").flatten() {
        let status = std::fs::read_to_string(entry.path().join("status")).unwrap_or_default();
        // Orphans only: the parents of the others are tests that are running.
        let is_ours = status.starts_with("Name:\tprogram\n") && status.contains("PPid:\t1\n");
        if is_ours && !is_zombie(&status) {
            found.push(status);
        }
    }
    found
}

#[test]
fn the_janitor_keeps_no_pipe_of_its_caller_open() {
    if !alone("the_janitor_keeps_no_pipe_of_its_caller_open") {
        return;
    }
    let (mut reader, writer) = std::io::pipe().expect("a pipe");
    let prepared = act("sleep").prepare().expect("the config is good");
    drop(writer);
    assert_eq!(reader.read(&mut [0]).expect("it can be read"), 0, "only a descriptor of ours was open");
    drop(prepared);
    assert_eq!(children_of(std::process::id()), 0, "the janitor ends with the last that needs it");
}

#[test]
fn a_janitor_that_cannot_be_executed_is_an_error_and_leaves_nothing() {
    if !alone("a_janitor_that_cannot_be_executed_is_an_error_and_leaves_nothing") {
        return;
    }
    if act("ready").prepare().expect("the config is good").limits_unavailable().is_some() {
        return;
    }
    let before = Traces::now();
    refuse(libc::SYS_execveat);
    let refused = act("ready").prepare();
    assert!(matches!(refused, Err(PrepareError::Janitor(_))), "{refused:?}");
    assert_eq!(Traces::now(), before);
}

/// Has a system call of this whole process fail with EACCES from now on, as a host's policy might.
fn refuse(call: libc::c_long) {
    let statement = |code, jt, jf, k| libc::sock_filter { code, jt, jf, k };
    let (load, equal, answer) = (0x20, 0x15, 0x06);
    let filter = [
        statement(load, 0, 0, 0),
        statement(equal, 0, 1, u32::try_from(call).expect("a small number")),
        statement(answer, 0, 0, libc::SECCOMP_RET_ERRNO | libc::EACCES.cast_unsigned()),
        statement(answer, 0, 0, libc::SECCOMP_RET_ALLOW),
    ];
    let program = libc::sock_fprog { len: 4, filter: filter.as_ptr().cast_mut() };
    let all_threads = libc::SECCOMP_FILTER_FLAG_TSYNC;
    // SAFETY: numbers, and a program of four instructions that is alive.
    let installed = unsafe {
        libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
        libc::syscall(libc::SYS_seccomp, libc::SECCOMP_SET_MODE_FILTER, all_threads, &raw const program)
    };
    assert_eq!(installed, 0);
}

#[test]
fn a_janitor_that_was_reaped_by_somebody_else_is_not_mistaken_for_who_has_its_number_now() {
    if !alone("a_janitor_that_was_reaped_by_somebody_else_is_not_mistaken_for_who_has_its_number_now") {
        return;
    }
    let mut prepared = Some(act("ready").prepare().expect("the config is good"));
    let own = std::process::id();
    let children = std::fs::read_dir(format!("/proc/{own}/task")).expect("/proc is there").flatten();
    let children = children.filter_map(|task| std::fs::read_to_string(task.path().join("children")).ok());
    let Some(janitor) = children.into_iter().find_map(|list| list.trim().parse::<i32>().ok()) else { return };
    // SAFETY: numbers only; a child that nobody has reaped.
    unsafe {
        libc::kill(janitor, libc::SIGKILL);
        assert_eq!(libc::waitpid(janitor, std::ptr::null_mut(), libc::__WALL), janitor);
    }
    // Others start processes, too: the number is not ours to be had at once.
    for _ in 0..1000 {
        if std::fs::write("/proc/sys/kernel/ns_last_pid", (janitor - 1).to_string()).is_err() {
            println!("skipped: this host does not let us choose a number");
            return;
        }
        let mut other = std::process::Command::new("sleep").arg("60").spawn().expect("it starts");
        let is_namesake = other.id() == janitor.cast_unsigned();
        if is_namesake {
            drop(prepared.take());
            std::thread::sleep(std::time::Duration::from_millis(20));
            assert_eq!(other.try_wait().expect("it is ours"), None, "a stranger was killed");
        }
        other.kill().expect("it can be killed");
        other.wait().expect("it can be waited for");
        if is_namesake {
            return;
        }
    }
    println!("skipped: the number was never free");
}
