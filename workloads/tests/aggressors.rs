//! The aggressors as they are: each goes on until its input ends, keeps to its limit, and leaves nothing behind.

mod common;

use std::fs;
use std::io::{BufRead, BufReader};
use std::process::{Child, ChildStdout, Stdio};
use std::time::Duration;

use common::file;
use workloads::{Program, aggressors};

fn start(kind: &str, bytes: u64, processes: u64) -> (Child, BufReader<ChildStdout>) {
    let mut child = file(Program::Real)
        .args(["aggressor", kind, &bytes.to_string(), &processes.to_string()])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("the program starts");
    let mut lines = BufReader::new(child.stdout.take().expect("it is a pipe"));
    for expected in ["ready\n", "go\n"] {
        let mut line = String::new();
        lines.read_line(&mut line).expect("it prints");
        assert_eq!(line, expected, "{kind}");
    }
    (child, lines)
}

fn end(mut child: Child, lines: BufReader<ChildStdout>, kind: &str) -> Vec<(String, u64)> {
    std::thread::sleep(Duration::from_millis(60));
    drop(child.stdin.take());
    let samples = lines
        .lines()
        .map(|line| {
            let line = line.expect("it prints text");
            let words: Vec<&str> = line.split(' ').collect();
            let ["sample", name, _, number] = words[..] else { panic!("{kind}: {line}") };
            (name.to_owned(), number.parse().expect("a whole number"))
        })
        .collect();
    assert_eq!(child.wait().expect("it is our child").code(), Some(0), "{kind}");
    samples
}

fn children(pid: u32) -> Vec<String> {
    let text = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap_or_default();
    text.split_whitespace().map(String::from).collect()
}

#[test]
fn aggressors_say_what_they_used_and_it_is_within_their_limits() {
    const BYTES: u64 = 32 << 20;
    const PROCESSES: u64 = 8;
    for aggressor in aggressors::all() {
        let (child, lines) = start(aggressor.name, BYTES, PROCESSES);
        let seen = end(child, lines, aggressor.name);
        let number = |name: &str| seen.iter().find(|(known, _)| known == name).expect(name).1;
        assert!(number("operations") > 0, "{}: {seen:?}", aggressor.name);
        assert!(number("used") <= BYTES && number("processes") <= PROCESSES, "{}: {seen:?}", aggressor.name);
        match aggressor.name {
            "memory" | "bandwidth" | "page-cache" => assert!(number("used") > BYTES / 2, "{seen:?}"),
            "fork" => assert_eq!(number("processes"), PROCESSES, "{seen:?}"),
            _ => {}
        }
    }
}

#[test]
fn a_fork_bomb_that_may_have_one_process_is_that_one() {
    let (child, lines) = start("fork", 0, 1);
    assert!(children(child.id()).is_empty());
    let seen = end(child, lines, "fork");
    let number = |name: &str| seen.iter().find(|(known, _)| known == name).expect(name).1;
    assert_eq!((number("processes"), number("operations")), (1, 0), "{seen:?}");
}

#[test]
fn the_processes_of_a_fork_bomb_are_no_more_than_it_may_have_and_go_when_it_is_killed() {
    let (mut child, _lines) = start("fork", 0, 8);
    let mut seen = Vec::new();
    for _ in 0..200 {
        let now = children(child.id());
        assert!(now.len() <= 7, "{now:?}");
        seen = if now.is_empty() { seen } else { now };
    }
    assert!(!seen.is_empty());
    child.kill().expect("it is our child");
    child.wait().expect("it is our child");
    let gone = (0..200).any(|_| {
        std::thread::sleep(Duration::from_millis(10));
        // Numbers may come again: ours are those with this name.
        seen.iter().all(|pid| {
            let name = fs::read_to_string(format!("/proc/{pid}/cmdline")).unwrap_or_default();
            !name.contains("aggressor-")
        })
    });
    assert!(gone, "{seen:?}");
}
