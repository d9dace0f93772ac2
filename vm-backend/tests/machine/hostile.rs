//! Programs that do what no program should. They may end as they like, but they end, the monitor says how, and it never
//! panics.

use std::time::Duration;

use crate::common::{PATIENCE, Running, Scenario};
use vm_backend::report::Step;
use vm_backend::{Error, Status};

/// Some of them can only be ended from outside, as by `--timeout`.
const LONG_ENOUGH: Duration = Duration::from_secs(3);

fn end_of(how: &str) -> Option<Result<Status, Error>> {
    end_within(LONG_ENOUGH, how)
}

fn end_within(patience: Duration, how: &str) -> Option<Result<Status, Error>> {
    let places = [
        ("BOOT", vm_abi::BOOT_VA),
        ("HOT", vm_abi::HOT_VA),
        ("CPU", vm_abi::CPU_VA),
        ("STUB", vm_abi::CPU_VA + vm_backend::boot::tables::SYSCALL_STUB),
        ("TABLES", vm_abi::TABLES_VA),
        ("PAGE_TABLES", vm_abi::PAGE_TABLES_VA),
        ("IMAGE", vm_abi::IMAGE_VA),
        ("STACK_TOP", vm_abi::STACK_TOP),
        ("FILES", vm_abi::FILES_VA),
    ];
    let scenario = Scenario::c("hostile")?.arg(how);
    let scenario = places.into_iter().fold(scenario, |s, (name, at)| s.env(name, &at.to_string()));
    let mut running = Running::start(&scenario.prepare());
    // A request may be one to read.
    drop(running.stdin.take());
    assert_eq!(running.first_line(), how);
    if let Some(end) = running.monitor.wait(Some(patience)).transpose() {
        return Some(end.map(|outcome| outcome.status));
    }
    running.monitor.kill().unwrap();
    Some(running.monitor.wait(None).map(|outcome| outcome.expect("it was ended").status))
}

fn assert_contained(how: &str) -> bool {
    let Some(end) = end_of(how) else { return false };
    eprintln!("{how}: {end:?}");
    match end {
        // 77: it does not know where to aim.
        Ok(status) => assert_ne!(status, Status::Exited(77)),
        Err(Error::MonitorKilled { signal: libc::SIGKILL }) => {}
        Err(Error::Monitor { failure }) => {
            assert!(failure.step.is_some_and(|step| step != Step::Panic), "{how}: {failure}");
        }
        Err(error) => panic!("{how}: {error:?}"),
    }
    true
}

fn assert_signal(how: &str, signals: &[i32]) -> bool {
    match end_of(how) {
        None => false,
        Some(Ok(Status::Signaled { signal, .. })) if signals.contains(&signal) => true,
        Some(end) => panic!("{how}: {end:?}"),
    }
}

#[test]
fn privileged_instructions_are_signals() {
    for how in
        ["hlt", "lgdt", "lidt", "wrmsr", "cr3", "iretq", "sysret", "swapgs", "ring0-segment", "far-jump"]
    {
        if !assert_signal(how, &[libc::SIGSEGV, libc::SIGILL]) {
            return;
        }
    }
}

#[test]
fn interrupts_by_number_and_ports_do_not_reach_the_monitor() {
    for how in [
        "cli",
        "vmcall",
        "vmmcall",
        "int80",
        "interrupts",
        "int8",
        "int13",
        "int255",
        "in",
        "out",
        "exception-port",
        "string-out",
        "32-bit",
    ] {
        if !assert_contained(how) {
            return;
        }
    }
}

#[test]
fn flags_and_segments_of_the_program_do_not_reach_the_guest() {
    assert!(assert_signal("single-step", &[libc::SIGTRAP]) || Scenario::c("hostile").is_none());
    for how in ["nested-task", "alignment", "segments"] {
        if !assert_contained(how) {
            return;
        }
    }
}

#[test]
fn a_system_call_does_not_use_the_programs_stack() {
    let Some(end) = end_of("stack-pointer") else { return };
    assert_eq!(end.unwrap(), Status::Exited(0));
    assert!(assert_signal("stack-pointer-fault", &[libc::SIGBUS, libc::SIGSEGV]));
    assert!(assert_signal("stack-pointer-handler", &[libc::SIGSEGV]));
    assert!(assert_contained("stack-in-guest"));
}

#[test]
fn what_the_cpu_needs_can_be_destroyed_without_harm_to_the_monitor() {
    for how in ["zero-cpu-page", "zero-stub", "spin-in-ring0", "halt-in-ring0", "cr3-in-ring0"] {
        if !assert_contained(how) {
            return;
        }
    }
}

#[test]
fn the_guests_own_memory_can_be_destroyed_without_harm_to_the_monitor() {
    for how in [
        "zero-boot",
        "page-tables",
        "zero-hot",
        "guest-code",
        "jump-into-guest",
        "jump-into-tables",
        "unopened-file",
        "execute-unopened-file",
        "beyond-files",
        "release-everything",
    ] {
        if !assert_contained(how) {
            return;
        }
    }
}

#[test]
fn requests_that_make_no_sense_are_refused() {
    let Some(end) = end_of("bad-operation") else { return };
    let Err(Error::Monitor { failure }) = end else { panic!("{end:?}") };
    assert_eq!((failure.step, failure.detail), (Some(Step::BadRequest), 0x1234));
    assert_eq!(end_within(PATIENCE, "requests").unwrap().unwrap(), Status::Exited(55));
    assert!(assert_signal("unknown-signal", &[64]));
}
