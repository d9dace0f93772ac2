//! Standard input, output and error.

use std::io::Write;
use std::time::Duration;

use crate::common::{Running, Scenario};
use vm_backend::{Status, Stdio};

#[test]
fn standard_input_is_read_to_its_end() {
    for bytes in [Vec::new(), b"short".to_vec(), (0..1_000_000u32).map(|i| (i * 7 % 251) as u8).collect()] {
        let Some(scenario) = Scenario::c("stdin") else { return };
        scenario.arg("all").stdin(bytes).compare();
    }
}

#[test]
fn the_streams_are_what_the_host_says_they_are() {
    let Some(scenario) = Scenario::c("stdin") else { return };
    let run = scenario.arg("facts").compare();
    assert_eq!(run.stderr, "to stderr\n");
}

#[test]
fn poll_waits_for_input_and_for_its_timeout() {
    let Some(scenario) = Scenario::c("stdin") else { return };
    let mut running = Running::start(&scenario.arg("poll").prepare());
    let mut lines: Vec<String> = (0..5).map(|_| running.first_line()).collect();
    assert_eq!(lines.pop().unwrap(), "read(0, buffer, 10) = -1 errno 11");
    assert_eq!(running.first_line(), "go");
    assert_eq!(lines[0], "poll(&fd, 1, 0) = 0 errno 0");
    assert_eq!(lines[2], "poll(&fd, 1, 30) = 0 errno 0");
    running.stdin.as_mut().unwrap().write_all(b"input").unwrap();
    drop(running.stdin.take());
    let run = running.finish().unwrap();
    assert!(run.stdout.contains("revents 1\nread input\n"), "{}", run.stdout);
    assert!(run.stdout.ends_with("read(0, buffer, sizeof buffer) = 0 errno 0\n"), "{}", run.stdout);
    assert_eq!(run.status, Status::Exited(3));
}

#[test]
fn a_hundred_megabytes_of_output_arrive() {
    let Some(scenario) = Scenario::c("fault") else { return };
    let run = scenario.arg("flood").run();
    assert_eq!(run.stdout.len(), "flood\n".len() + 1600 * 65536);
    assert!(run.stdout.bytes().skip(6).all(|byte| byte == b'x'));
    assert_eq!(run.status, Status::Exited(0));
}

#[test]
fn a_program_that_floods_while_nobody_reads_waits_and_can_be_ended() {
    let Some(scenario) = Scenario::c("fault") else { return };
    let mut running = Running::start(&scenario.arg("flood").prepare());
    assert_eq!(running.first_line(), "flood");
    assert!(running.monitor.wait(Some(Duration::from_millis(200))).unwrap().is_none());
    running.monitor.kill().unwrap();
    let error = running.monitor.wait(None).unwrap_err();
    assert!(matches!(error, vm_backend::Error::MonitorKilled { signal: 9 }), "{error}");
}

#[test]
fn all_three_streams_may_be_one_descriptor_or_swapped() {
    let Some(scenario) = Scenario::c("stdin") else { return };
    let vm = scenario.arg("facts").prepare();
    let null = std::fs::File::options().read(true).write(true).open("/dev/null").unwrap();
    let mut monitor = vm.spawn(Stdio::new(&null, &null, &null)).unwrap();
    let outcome = monitor.wait(None).unwrap().unwrap();
    assert_eq!(outcome.status, Status::Exited(3));
}
