//! `run --target container`: options that are wrong or mean nothing, and images that are, each with words that help.

mod common;

use std::fs;
use std::path::Path;
use std::time::Duration;

use common::{bench, copy_program, program, run_in, targets};

/// Refused with these words, and with nothing of the program's.
fn refused(options: &[&str], said: &[&str]) {
    let ran =
        run_in("container", options, program(), &["args", "it", "ran"]).expect_code(125).expect_said(said);
    assert_eq!(ran.stdout, "", "{options:?}");
}

#[test]
fn options_that_cannot_be_are_refused_by_name_whatever_the_host() {
    refused(&["--user", "4294967295"], &["--user", "numbers below 4294967295"]);
    refused(&["--user", "0:4294967295"], &["--user", "numbers below 4294967295"]);
    refused(&["--tmp-size", "0"], &["--tmp-size"]);
    refused(&["--cpuset", "5-2"], &["--cpuset", "5-2"]);
    refused(&["--ulimit", "files=5"], &["--ulimit", "nofile", "SOFT[:HARD]"]);
    refused(&["--ulimit", "nofile=5:4"], &["--ulimit", "not above HARD"]);
    refused(&["--detach", "--timeout", "5"], &["--detach", "--timeout"]);
}

#[test]
fn options_that_would_mean_nothing_are_refused_with_what_they_need() {
    if !targets().contains(&"container") {
        return;
    }
    refused(&["--ns", "mnt", "--hostname", "x"], &["host name", "layer uts"]);
    refused(&["--ns", "mnt", "--init"], &["init", "layer pid"]);
    refused(&["--ns", "mnt", "--network", "loopback"], &["network", "layer net"]);
    refused(&["--ulimit", "nofile=1:18446744073709551614"], &["nofile"]);
}

#[test]
fn the_last_of_several_values_of_a_variable_is_the_one() {
    if !targets().contains(&"container") {
        return;
    }
    let ran = run_in("container", &["--env", "A=1", "--env", "HOME=/x", "--env", "A=2"], program(), &["env"]);
    let ran = ran.expect_code(0);
    let mut lines: Vec<_> = ran.stdout.lines().collect();
    lines.sort_unstable();
    assert_eq!(lines, ["A=2", "HOME=/x", "LANG=C.UTF-8", "PATH=/usr/local/bin:/usr/bin:/bin"]);
}

#[test]
fn a_profile_under_which_nothing_can_start_is_an_error_and_does_not_hang() {
    if !targets().contains(&"container") {
        return;
    }
    let dir = tempfile::tempdir().expect("a temporary folder");
    let file = dir.path().join("profile.json");
    fs::write(&file, r#"{"defaultAction": "SCMP_ACT_ERRNO"}"#).expect("a writable folder");
    let path = file.to_str().expect("a plain path").to_owned();
    let (tell, told) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        refused(&["--seccomp", &path], &["cannot execute"]);
        tell.send(())
    });
    told.recv_timeout(Duration::from_secs(20)).expect("it was refused, and did not hang");
}

#[test]
fn a_profile_that_kills_is_named() {
    if !targets().contains(&"container") {
        return;
    }
    let dir = tempfile::tempdir().expect("a temporary folder");
    let file = dir.path().join("deadly.json");
    let path = file.to_str().expect("a plain path");
    for (call, init) in [("execve", false), ("execve", true), ("write", false), ("write", true)] {
        let rule = format!(
            r#"{{"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{{"names": ["{call}"], "action": "SCMP_ACT_KILL"}}]}}"#
        );
        fs::write(&file, rule).expect("a writable folder");
        let mut options = vec!["--seccomp", path];
        options.extend(init.then_some("--init"));
        let ran = run_in("container", &options, program(), &["env"]);
        assert_eq!(ran.expect_code(159).expect_said(&["SIGSYS", "deadly.json"]).stdout, "", "{options:?}");
    }
    // Before there is a program at all.
    fs::write(&file, r#"{"defaultAction": "SCMP_ACT_KILL_PROCESS"}"#).expect("a writable folder");
    run_in("container", &["--seccomp", path, "--init"], program(), &["env"])
        .expect_code(125)
        .expect_said(&["seccomp filter killed", "execve"]);
}

#[test]
fn a_limit_above_what_a_kernel_allows_is_refused_with_the_most_that_it_does() {
    if !targets().contains(&"container") {
        return;
    }
    refused(&["--ulimit", "nofile=5:18446744073709551614"], &["nofile", "fs.nr_open", "nobody more than"]);
}

#[test]
fn what_an_archive_says_does_not_reach_the_terminal_as_it_is() {
    if !targets().contains(&"container") {
        return;
    }
    let dir = tempfile::tempdir().expect("a temporary folder");
    let rootfs = |name: &str, content: &[u8]| {
        let file = dir.path().join(name);
        fs::write(&file, content).expect("a writable folder");
        let ran = bench([
            Path::new("run"),
            Path::new("--target=container"),
            Path::new("--rootfs"),
            &file,
            Path::new("--"),
            Path::new("x"),
        ]);
        ran.expect_code(125).expect_said(&[name])
    };
    let ran = rootfs("escapes.tar", &b"\x1b[31mred\x07 ".repeat(200));
    assert!(!ran.stderr.contains(['\x1b', '\x07']), "{:?}", ran.stderr);
    rootfs("empty.tar", b"").expect_said(&["nothing in it"]);
}

#[test]
fn the_tools_in_the_sbin_of_a_root_are_found() {
    if !targets().contains(&"container") {
        return;
    }
    let root = tempfile::tempdir().expect("a temporary folder");
    for folder in ["sbin", "dev", "proc"] {
        fs::create_dir(root.path().join(folder)).expect("a writable folder");
    }
    copy_program(program(), &root.path().join("sbin/tool"));
    let path = root.path().to_str().expect("a plain path");
    let ran = bench(["run", "--target", "container", "--rootfs", path, "--", "tool", "env"]).expect_code(0);
    assert!(ran.stdout.contains("PATH=/usr/local/sbin:"), "{}", ran.stdout);
    let given = ["run", "--target", "container", "--rootfs", path, "--env", "PATH=/bin", "--", "tool", "env"];
    bench(given).expect_code(125).expect_said(&["tool"]);
}
