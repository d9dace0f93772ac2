//! The embedded program, run natively: what it is, what it prints, how it ends.

mod common;

use std::fs;
use std::io::{Read, Write};
use std::os::unix::process::ExitStatusExt;
use std::path::PathBuf;
use std::process::{Command, Output, Stdio};

use common::{echoing, file};
use workloads::protocol::{Line, Parser};
use workloads::{Invocation, PROGRAM, Program, REAL_PROGRAM, catalogue};

fn program() -> Command {
    file(Program::Core)
}

fn run(arguments: &[&str]) -> Output {
    program().args(arguments).stdin(Stdio::null()).output().expect("the program starts")
}

fn text(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).expect("the program prints ASCII")
}

#[test]
fn they_are_static_executables_that_need_no_loader() {
    for (program, most) in [(PROGRAM, 2 << 20), (REAL_PROGRAM, 6 << 20)] {
        assert_eq!(&program[..6], b"\x7fELF\x02\x01");
        assert_eq!(program[16..18], 2_u16.to_le_bytes(), "ET_EXEC");
        assert!(!program.windows(10).any(|window| window == b"/lib64/ld-"), "names a loader");
        assert!(program.len() < most, "{} bytes", program.len());
    }
}

#[test]
fn they_carry_no_path_of_the_machine_that_built_them() {
    let home = env!("CARGO_MANIFEST_DIR");
    for program in [PROGRAM, REAL_PROGRAM] {
        assert!(!program.windows(home.len()).any(|window| window == home.as_bytes()), "contains {home}");
        assert!(!program.windows(10).any(|window| window == b".cargo/reg"), "contains cargo's folder");
    }
}

#[test]
fn without_arguments_it_is_ready_and_ends() {
    for arguments in [&[][..], &["noop"]] {
        let output = run(arguments);
        assert_eq!((text(&output.stdout), text(&output.stderr)), ("ready\n", ""));
        assert_eq!(output.status.code(), Some(0));
    }
}

#[test]
fn every_workload_prints_its_repetitions_and_the_expected_checks() {
    for workload in catalogue::all() {
        let invocation = Invocation { iters: Some(2), reps: 2, warmup: 1, ..Invocation::of(workload) };
        let output = file(workload.program)
            .args(invocation.arguments())
            .env(workloads::SERVER, echoing())
            .stdin(Stdio::null())
            .output()
            .expect("the program starts");
        assert_eq!(output.status.code(), Some(0), "{}: {}", workload.name, text(&output.stderr));

        let mut expected = vec!["ready".to_owned()];
        for begin in ["begin warmup", "begin", "begin"] {
            expected.extend([begin.to_owned(), "end".to_owned(), "sample time_per_op ns".to_owned()]);
            expected.extend(workload.figures.iter().map(|(name, unit)| format!("sample {name} {unit}")));
            expected.push(format!("check {}", workload.expected_check));
        }
        let mut seen = Vec::new();
        Parser::new().push(&output.stdout, |line| {
            seen.push(match line {
                Line::Ready => "ready".to_owned(),
                Line::Begin { warmup: true } => "begin warmup".to_owned(),
                Line::Begin { warmup: false } => "begin".to_owned(),
                Line::End => "end".to_owned(),
                Line::Sample { name, unit, value } => {
                    assert!(value > 0.0, "{} {name} {value}", workload.name);
                    format!("sample {name} {unit}")
                }
                Line::Check(check) => format!("check {check}"),
                unexpected => panic!("{}: {unexpected:?}", workload.name),
            });
        });
        assert_eq!(seen, expected, "{}", workload.name);
    }
}

#[test]
fn a_workload_without_its_server_says_what_it_looks_for() {
    let output = file(Program::Real).arg("net-echo").env_remove(workloads::SERVER).output();
    let output = output.expect("the program starts");
    assert_eq!((text(&output.stdout), output.status.code()), ("ready\n", Some(1)));
    assert!(text(&output.stderr).contains("NET_ECHO"), "{}", text(&output.stderr));
}

#[test]
fn calibration_prints_a_number_of_iterations_and_measures_nothing() {
    let output = run(&["sha256", "--calibrate", "5"]);
    let mut seen = Vec::new();
    Parser::new().push(&output.stdout, |line| {
        if let Line::Sample { name, unit, value } = line {
            seen.push((name.to_owned(), unit.to_owned(), value));
        } else {
            assert_eq!(line, Line::Ready);
        }
    });
    let [(name, unit, iters)] = seen.as_slice() else { panic!("{seen:?}") };
    assert_eq!((name.as_str(), unit.as_str()), ("iters", "count"));
    assert!(*iters >= 1.0 && iters.fract() == 0.0, "{iters}");
}

#[test]
fn an_instance_that_is_held_stays_until_its_input_ends() {
    let mut child = program()
        .args(["noop", "--hold"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("the program starts");
    let mut output = child.stdout.take().expect("it is a pipe");
    let mut ready = [0; 6];
    output.read_exact(&mut ready).expect("it says that it is ready");
    assert_eq!(&ready, b"ready\n");

    let mut input = child.stdin.take().expect("it is a pipe");
    input.write_all(&[b'x'; 1000]).expect("it still reads");
    assert_eq!(child.try_wait().expect("it is our child"), None);
    drop(input);
    assert_eq!(child.wait().expect("it is our child").code(), Some(0));
}

#[test]
fn a_wrong_command_line_is_refused_with_advice_and_status_2() {
    for (arguments, said) in [
        (&["nop"][..], "unknown workload 'nop'; known are: noop cpu-int cpu-float"),
        (&["noop", "sha256"], "unexpected argument 'sha256'"),
        (&["--fast"], "unexpected argument '--fast'; usage:"),
        (&["sha256", "--iters"], "--iters needs a number after it"),
        (&["sha256", "--iters", "0"], "from 1 on, not '0'"),
        (&["sha256", "--reps", "-1"], "from 0 on, not '-1'"),
        (&["sha256", "--reps", "+1"], "not '+1'"),
        (&["sha256", "--warmup", "99999999999999999999"], "not '99999999999999999999'"),
        (&["sha256", "--calibrate", ""], "not ''"),
        (&["a\x1b[2Jb"], "unknown workload 'a\\x1b[2Jb'"),
    ] {
        let output = run(arguments);
        assert!(text(&output.stderr).contains(said), "{arguments:?}: {}", text(&output.stderr));
        assert_eq!(output.status.code(), Some(2), "{arguments:?}");
        assert_eq!(text(&output.stdout), "ready\n");
    }
}

#[test]
fn a_reader_that_goes_away_ends_it_quietly_with_status_1() {
    let mut child = program()
        .args(["sha256", "--reps", "1000000000"])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the program starts");
    let mut output = child.stdout.take().expect("it is a pipe");
    output.read_exact(&mut [0; 100]).expect("it prints");
    drop(output);
    let output = child.wait_with_output().expect("it is our child");
    assert_eq!((output.status.code(), output.status.signal()), (Some(1), None));
    assert_eq!(text(&output.stderr), "");
}

#[test]
fn the_server_of_key_value_is_gone_when_the_program_is_even_if_it_is_killed() {
    let mut child = file(Program::Real)
        .args(["key-value", "--hold"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("the program starts");
    let mut output = child.stdout.take().expect("it is a pipe");
    let mut said = Vec::new();
    while !said.windows(6).any(|window| window == b"check ") {
        let mut piece = [0; 256];
        let length = output.read(&mut piece).expect("it prints");
        assert!(length > 0, "it ended: {}", text(&said));
        said.extend_from_slice(&piece[..length]);
    }
    let children = format!("/proc/{0}/task/{0}/children", child.id());
    let server = fs::read_to_string(children).expect("it is there").trim().to_owned();
    assert!(PathBuf::from(format!("/proc/{server}")).exists(), "server {server}");
    child.kill().expect("it is our child");
    child.wait().expect("it is our child");
    let gone = (0..100).any(|_| {
        std::thread::sleep(std::time::Duration::from_millis(10));
        // As a zombie it waits for nobody of ours.
        let stat = fs::read_to_string(format!("/proc/{server}/stat")).unwrap_or_default();
        stat.is_empty() || stat.contains(") Z ")
    });
    assert!(gone, "the server {server} is still there");
}

#[test]
fn memory_that_it_cannot_get_is_said_and_status_1() {
    let output = Command::new("sh")
        .args(["-c", "ulimit -v 65536; exec \"$0\" mem-stream"])
        .arg(program().get_program())
        .stdin(Stdio::null())
        .output()
        .expect("there is a shell");
    assert!(text(&output.stderr).contains("cannot get 67108864 bytes of memory"), "{}", text(&output.stderr));
    assert_eq!(output.status.code(), Some(1));
}
