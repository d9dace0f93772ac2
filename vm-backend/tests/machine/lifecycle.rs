//! Starting, waiting, killing, many at once; and nothing is left behind.

use std::collections::BTreeSet;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Command, Stdio as HostStdio};
use std::time::{Duration, Instant};

use crate::common::{PATIENCE, Running, Scenario, alone};
use vm_backend::report::PHASES;
use vm_backend::{Error, Status};

fn is_alive(pid: i32) -> bool {
    // A zombie that waits for its parent is not alive.
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit(") ").next().is_some_and(|rest| !rest.is_empty() && !rest.starts_with(['Z', 'X']))
}

fn waits_until_gone(pid: i32) -> bool {
    let start = Instant::now();
    while is_alive(pid) && start.elapsed() < PATIENCE {
        std::thread::sleep(Duration::from_millis(2));
    }
    !is_alive(pid)
}

#[test]
fn the_timeline_names_all_phases_in_order() {
    let Some(scenario) = Scenario::c("fault") else { return };
    let mut running = Running::start(&scenario.arg("exit").prepare());
    running.first_line();
    let timeline = running.monitor.timeline();
    assert_eq!(timeline.iter().map(|(name, _)| *name).collect::<Vec<_>>(), PHASES);
    assert!(timeline.is_sorted_by_key(|(_, end)| *end));
    let outcome = running.monitor.wait(None).unwrap().unwrap();
    assert!(timeline.last().unwrap().1 <= outcome.ended_ns && outcome.ended_ns <= outcome.reaped_ns);
    assert_eq!(running.monitor.wait(None).unwrap().unwrap(), outcome, "asked twice, the answer is the same");
    running.monitor.kill().unwrap();
}

#[test]
fn a_program_that_hangs_is_ended_by_kill() {
    for how in ["hang", "hang-in-call", "hang-uninterruptible", "pause", "sleep", "read"] {
        let Some(scenario) = Scenario::c("fault") else { return };
        let mut running = Running::start(&scenario.arg(how).prepare());
        assert_eq!(running.first_line(), how);
        let end = running.monitor.wait(Some(Duration::from_millis(50)));
        if how == "hang-uninterruptible" && !matches!(end, Ok(None)) {
            // Where the program may not switch interrupts off, that is a fault.
            assert!(matches!(end.unwrap().unwrap().status, Status::Signaled { .. }));
            continue;
        }
        assert!(matches!(end, Ok(None)), "{how}: {end:?}");
        running.monitor.kill().unwrap();
        let error = running.monitor.wait(Some(PATIENCE)).unwrap_err();
        assert!(matches!(error, Error::MonitorKilled { signal: 9 }), "{how}: {error}");
        assert!(!is_alive(running.monitor.pid()), "{how}");
    }
}

#[test]
fn dropping_the_handle_leaves_no_process() {
    let Some(scenario) = Scenario::c("fault") else { return };
    let mut running = Running::start(&scenario.arg("hang").prepare());
    running.first_line();
    let pid = running.monitor.pid();
    assert!(is_alive(pid));
    drop(running);
    assert!(!Path::new(&format!("/proc/{pid}")).exists());
}

#[test]
fn sixteen_machines_run_at_once() {
    let Some(scenario) = Scenario::c("fault") else { return };
    let vm = scenario.arg("read").prepare();
    let mut all: Vec<_> = (0..16).map(|_| Running::start(&vm)).collect();
    for running in &mut all {
        assert_eq!(running.first_line(), "read");
    }
    let pids: BTreeSet<_> = all.iter().map(|running| running.monitor.pid()).collect();
    assert_eq!(pids.len(), 16);
    for mut running in all {
        drop(running.stdin.take());
        assert_eq!(running.finish().unwrap().status, Status::Exited(0));
    }
}

#[test]
fn machines_start_from_many_threads_at_once() {
    let Some(scenario) = Scenario::c("files") else { return };
    let vm = scenario.prepare();
    let ends: Vec<_> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..8).map(|_| scope.spawn(|| Running::start(&vm).finish().unwrap())).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    assert!(ends.iter().all(|run| run.status == Status::Exited(0) && run.stdout == ends[0].stdout));
}

#[test]
fn one_instance_does_not_see_what_another_wrote() {
    let Some(scenario) = Scenario::c("files") else { return };
    let vm = scenario.prepare();
    let [first, second] = [0, 1].map(|_| Running::start(&vm).finish().unwrap());
    assert_eq!(first.stdout, second.stdout);
}

#[test]
fn a_hundred_starts_leave_nothing_in_the_caller() {
    let Some(scenario) = Scenario::c("fault") else { return };
    if !alone("lifecycle::a_hundred_starts_leave_nothing_in_the_caller") {
        return;
    }
    let vm = scenario.arg("_exit").prepare();
    let null = std::fs::File::options().read(true).write(true).open("/dev/null").unwrap();
    let start = || {
        let mut monitor = vm.spawn(vm_backend::Stdio::new(&null, &null, &null)).unwrap();
        assert_eq!(monitor.wait(None).unwrap().unwrap().status, Status::Exited(5));
    };
    let count = |folder: &str| std::fs::read_dir(folder).unwrap().count();
    let resources = || {
        let statm = std::fs::read_to_string("/proc/self/statm").unwrap();
        let pages: u64 = statm.split(' ').next().unwrap().parse().unwrap();
        (count("/proc/self/fd"), pages)
    };
    start();
    let before = resources();
    for _ in 0..100 {
        start();
    }
    let after = resources();
    assert_eq!(before.0, after.0, "descriptors");
    assert!(after.1 <= before.1 + 16, "pages of address space: {before:?} {after:?}");
    let children = std::fs::read_to_string("/proc/thread-self/children").unwrap_or_default();
    assert_eq!(children.trim(), "", "children");
}

#[test]
fn killing_the_caller_leaves_no_monitor() {
    const HOLDER: &str = "VM_BACKEND_TEST_HOLDER";
    let Some(scenario) = Scenario::c("fault") else { return };
    if std::env::var_os(HOLDER).is_some() {
        let mut running = Running::start(&scenario.arg("hang").prepare());
        running.first_line();
        println!("\nmonitor {}", running.monitor.pid());
        drop(running.monitor.wait(Some(PATIENCE)));
        return;
    }
    let mut holder = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "lifecycle::killing_the_caller_leaves_no_monitor", "--nocapture"])
        .env(HOLDER, "1")
        .stdout(HostStdio::piped())
        .spawn()
        .unwrap();
    let lines = BufReader::new(holder.stdout.take().unwrap()).lines().map(Result::unwrap);
    let pid = lines.into_iter().find_map(|line| line.strip_prefix("monitor ").map(str::to_owned));
    let pid: i32 = pid.expect("the holder started a machine").parse().unwrap();
    assert!(is_alive(pid));
    holder.kill().unwrap();
    holder.wait().unwrap();
    assert!(waits_until_gone(pid), "monitor {pid} outlives its caller");
}

#[test]
fn a_monitor_keeps_no_descriptor_of_the_caller() {
    let Some(scenario) = Scenario::c("fault") else { return };
    let mut running = Running::start(&scenario.arg("hang").prepare());
    running.first_line();
    let folder = format!("/proc/{}/fd", running.monitor.pid());
    let mut open: Vec<String> = std::fs::read_dir(folder)
        .unwrap()
        .filter_map(|entry| std::fs::read_link(entry.ok()?.path()).ok())
        .map(|target| target.to_string_lossy().into_owned())
        .filter(|target| !target.starts_with("pipe:"))
        .collect();
    open.sort();
    // The machine, its files and its template.
    let program = scenario_program();
    let expected = |t: &String| t.contains("kvm") || t.starts_with("/memfd:vm-template") || *t == program;
    assert!(open.iter().all(expected), "{open:?}");
}

fn scenario_program() -> String {
    Scenario::c("fault").map_or_else(String::new, |s| s.program.to_string_lossy().into_owned())
}

/// Large pages of the host are advised for as many bytes of the monitor's memory as the guest's program asked for.
#[test]
fn advice_for_large_pages_reaches_the_host() {
    let Some(scenario) = Scenario::c("large") else { return };
    let mut running = Running::start(&scenario.prepare());
    let said = running.first_line();
    if said == "Invalid argument" {
        println!("skipped: this kernel has no transparent huge pages");
        return;
    }
    assert_eq!(said, "advised");
    let smaps = std::fs::read_to_string(format!("/proc/{}/smaps", running.monitor.pid())).unwrap();
    let mut size = 0;
    let mut advised = 0;
    for line in smaps.lines() {
        let mut words = line.split_whitespace();
        match words.next() {
            Some("Size:") => size = words.next().and_then(|kib| kib.parse::<u64>().ok()).unwrap(),
            // Documentation/filesystems/proc.rst: hg, the huge page advise flag.
            Some("VmFlags:") if words.any(|flag| flag == "hg") => advised += size,
            _ => {}
        }
    }
    assert_eq!(advised, 16 << 10, "{smaps}");
}
