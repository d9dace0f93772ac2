//! How programs end: exit codes, signals, and the address that faulted.

use crate::common::Scenario;
use vm_backend::Status;

/// Ends natively and in the machine by the same signal; the address that the machine names.
fn signal(how: &str) -> Option<(i32, u64)> {
    let run = Scenario::c("fault")?.arg(how).compare();
    match run.status {
        Status::Signaled { signal, address } => Some((signal, address)),
        status => panic!("{how}: {status:?}"),
    }
}

#[test]
fn exit_codes_are_those_of_the_program() {
    for (how, code) in [("exit", 44), ("_exit", 5), ("thread-exit", 6), ("none of all", 99)] {
        let Some(scenario) = Scenario::c("fault") else { return };
        assert_eq!(scenario.arg(how).compare().status, Status::Exited(code), "{how}");
    }
}

#[test]
fn a_fault_ends_the_program_with_its_signal_and_address() {
    let Some(null) = signal("null") else { return };
    assert_eq!(null, (libc::SIGSEGV, 0x1234));
    assert_eq!(signal("call-null"), Some((libc::SIGSEGV, 0)));
    assert_eq!(signal("blocked-fault"), Some((libc::SIGSEGV, 0x10)));
    for how in ["constant", "not-canonical", "execute-data"] {
        assert_eq!(signal(how).unwrap().0, libc::SIGSEGV, "{how}");
    }
    for (how, number) in [("divide", libc::SIGFPE), ("illegal", libc::SIGILL), ("breakpoint", libc::SIGTRAP)]
    {
        assert_eq!(signal(how).unwrap().0, number, "{how}");
    }
}

#[test]
fn a_stack_that_overflows_is_a_segmentation_fault() {
    for how in ["stack", "stack-handler-without-stack"] {
        let Some((number, address)) = signal(how) else { return };
        assert_eq!(number, libc::SIGSEGV, "{how}");
        assert!(address > 1 << 20, "{how} at {address:#x}");
    }
}

#[test]
fn a_signal_that_is_sent_ends_the_program_by_its_default() {
    for (how, number) in [
        ("abort", libc::SIGABRT),
        ("kill", libc::SIGKILL),
        ("term", libc::SIGTERM),
        ("real-time", libc::SIGRTMIN() + 3),
    ] {
        let Some(end) = signal(how) else { return };
        assert_eq!(end, (number, 0), "{how}");
    }
}

#[test]
fn output_that_nobody_reads_is_sigpipe_or_an_error_where_that_is_ignored() {
    for (how, expected) in [
        ("pipe", Status::Signaled { signal: libc::SIGPIPE, address: 0 }),
        ("pipe-ignored", Status::Exited(7)),
    ] {
        let Some(scenario) = Scenario::c("fault") else { return };
        let mut running = crate::common::Running::start(&scenario.arg(how).prepare());
        assert_eq!(running.first_line(), how);
        drop(running.stdout.take());
        let outcome = running.monitor.wait(Some(crate::common::PATIENCE)).unwrap().expect("it ends");
        assert_eq!(outcome.status, expected);
    }
}
