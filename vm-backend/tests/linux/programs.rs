//! Programs under a Linux kernel, and how they end.

use std::fs::File;

use vm_backend::{Error, Status, Stdio};

use crate::common::{PATIENCE, run, shell};

#[test]
fn output_errors_and_exit_code_are_those_of_the_program() {
    let Some(config) = shell("echo out; echo err >&2; exit 7") else { return };
    let (outcome, stdout, stderr) = run(&config, b"");
    assert_eq!(outcome.expect("an outcome").status, Status::Exited(7));
    assert_eq!((stdout.as_str(), stderr.as_str()), ("out\n", "err\n"));
}

#[test]
fn input_arrives_to_its_end() {
    let Some(config) = shell("read a; read b; echo $b $a; read c || echo end") else { return };
    let (outcome, stdout, _) = run(&config, b"one\ntwo\n");
    assert_eq!(outcome.expect("an outcome").status, Status::Exited(0));
    assert_eq!(stdout, "two one\nend\n");
}

#[test]
fn a_signal_ends_the_program_as_everywhere() {
    let Some(config) = shell("kill -9 $$") else { return };
    let (outcome, ..) = run(&config, b"");
    assert_eq!(outcome.expect("an outcome").status, Status::Signaled { signal: 9, address: 0 });
}

#[test]
fn so_many_vcpus_are_so_many_processors_with_the_clock_of_kvm_and_without() {
    let Some(config) = shell("while read a b; do case $a in processor) echo $a;; esac; done < /proc/cpuinfo")
    else {
        return;
    };
    for (vcpus, extra) in [(1, "no-kvmclock"), (2, ""), (4, "no-kvmclock")] {
        let (outcome, stdout, _) = run(&config.clone().vcpus(vcpus).cmdline_extra(extra), b"");
        assert_eq!(outcome.expect("an outcome").status, Status::Exited(0), "{vcpus} {extra}");
        assert_eq!(stdout, "processor\n".repeat(vcpus as usize), "{extra}");
    }
}

#[test]
fn a_quiet_boot_complains_of_no_console_and_no_table() {
    let Some(config) = shell("true") else { return };
    let machine = config.prepare().expect("a machine");
    let null = File::options().read(true).write(true).open("/dev/null").expect("it is everywhere");
    let mut monitor = machine.spawn(Stdio::new(&null, &null, &null)).expect("a monitor");
    let outcome = monitor.wait(Some(PATIENCE)).expect("an outcome").expect("in time");
    assert_eq!(outcome.status, Status::Exited(0));
    // Kernels have other things to say, each of them others; a message is an exit or two for each of its bytes.
    let log = monitor.kernel_log().expect("a log");
    assert!(!log.contains("initial console") && !log.contains("mptable"), "{log}");
}

#[test]
fn a_kernel_that_panics_is_an_error_with_its_last_words() {
    let Some(config) = shell("true") else { return };
    let (outcome, ..) = run(&config.cmdline_extra("rdinit=/nothing"), b"");
    let Err(Error::LinuxGuest { failure, log }) = outcome else { panic!("{outcome:?}") };
    assert!(failure.to_string().contains("panicked or reset"), "{failure}");
    assert!(log.contains("Kernel panic"), "{log}");
}
