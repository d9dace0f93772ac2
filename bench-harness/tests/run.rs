//! `run`: the program's own streams and exit code, in every target, and what is no program.

mod common;

use std::fs;
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, Instant};

use bench_harness::target::{TargetKind, target};
use common::{bench, command, compile, copy_program, program, run_in, targets};

#[test]
fn the_exit_code_is_the_programs_own_in_every_target() {
    for target in targets() {
        for code in [0, 1, 42, 125, 255] {
            run_in(target, &[], program(), &["exit", &code.to_string()]).expect_code(code);
        }
    }
}

#[test]
fn a_signal_ends_it_with_128_and_its_number_in_every_target() {
    for target in targets() {
        run_in(target, &[], program(), &["segv"]).expect_code(139);
        // As process 1 of its namespace a container's program cannot be ended by a signal that it sends itself;
        // abort(3) then executes a forbidden instruction. The same in every engine without an init process.
        let abort = if target == "container" { 139 } else { 134 };
        run_in(target, &[], program(), &["abort"]).expect_code(abort);
    }
}

#[test]
fn arguments_streams_and_environment_are_the_same_in_every_target() {
    for target in targets() {
        let ran = run_in(target, &[], program(), &["args", "a b", "", "--", "--target"]).expect_code(0);
        assert_eq!(ran.stdout, "a b\n\n--\n--target\n", "{target}");
        let ran = run_in(target, &[], program(), &["stderr"]).expect_code(0);
        assert_eq!((ran.stdout.as_str(), ran.stderr.as_str()), ("to stdout\n", "to stderr\n"), "{target}");
        let ran = run_in(target, &[], program(), &["env"]).expect_code(0);
        assert_eq!(ran.stdout, "PATH=/usr/local/bin:/usr/bin:/bin\nHOME=/\nLANG=C.UTF-8\n", "{target}");
    }
}

#[test]
fn standard_input_reaches_the_program_in_every_target() {
    for target in targets() {
        let mut child = command()
            .args(["run", "--target", target, "--"])
            .arg(program())
            .arg("echo")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("it starts");
        child.stdin.take().expect("piped").write_all(b"round and round").expect("it reads");
        let output = child.wait_with_output().expect("it ends");
        assert_eq!(
            (output.status.code(), output.stdout.as_slice()),
            (Some(0), &b"round and round"[..]),
            "{target}"
        );
    }
}

#[test]
fn a_hanging_program_is_ended_by_the_time_limit_in_every_target() {
    for target in targets() {
        let began = Instant::now();
        run_in(target, &["--timeout", "0.3"], program(), &["hang"])
            .expect_code(124)
            .expect_said(&["--timeout", "0.3 s"]);
        assert!(began.elapsed() < Duration::from_secs(5), "{target}: {:?}", began.elapsed());
    }
}

#[test]
fn a_flood_passes_through_whole_in_every_target() {
    for target in targets() {
        let ran = run_in(target, &[], program(), &["flood"]).expect_code(0);
        assert_eq!(ran.stdout.len(), "ready\n".len() + 25_600 * 4096, "{target}");
    }
}

#[test]
fn closed_standard_streams_are_not_replaced_by_files_of_ours() {
    for target in targets() {
        let shell = format!(
            "exec {} run --target {target} -- {} echo <&-",
            common::executable().display(),
            program().display()
        );
        let output = std::process::Command::new("sh").args(["-c", &shell]).output().expect("sh");
        assert_eq!(output.status.code(), Some(0), "{target}: {output:?}");
    }
}

#[test]
fn timings_are_written_as_json_with_the_phases_of_the_target() {
    let dir = tempfile::tempdir().expect("a temporary folder");
    for target in targets() {
        let file = dir.path().join(target);
        let path = file.to_str().expect("a plain path");
        run_in(target, &["--timings", path], program(), &["exit", "3"]).expect_code(3);
        let text = fs::read_to_string(&file).expect("the file was written");
        let json: serde_json::Value = serde_json::from_str(&text).expect("JSON");
        assert_eq!(json["target"], target);
        let phases = json["phases"].as_array().expect("phases");
        let sum: u64 = phases.iter().map(|phase| phase["ns"].as_u64().expect("a number")).sum();
        assert!(!phases.is_empty() && sum > 0, "{text}");
        assert!(sum <= json["exit_ns"].as_u64().expect("a number"), "{text}");
    }
}

#[test]
fn timings_that_cannot_be_written_are_an_error_of_ours() {
    run_in("native", &["--timings", "/nonexistent/t.json"], program(), &["exit", "0"])
        .expect_code(125)
        .expect_said(&["/nonexistent/t.json"]);
}

#[test]
fn a_file_of_the_host_is_handed_over_where_the_target_can() {
    let dir = tempfile::tempdir().expect("a temporary folder");
    let file = dir.path().join("note");
    fs::write(&file, "from the host").expect("a writable folder");
    let pair = format!("{}:/data/note", file.display());
    if targets().contains(&"microvm") {
        let ran = run_in("microvm", &["--file", &pair], program(), &["cat", "/data/note"]).expect_code(0);
        assert_eq!(ran.stdout, "from the host");
    }
    run_in("native", &["--file", &pair], program(), &["cat", "/data/note"])
        .expect_code(125)
        .expect_said(&["--file"]);
    run_in("microvm", &["--file", "no-colon"], program(), &[]).expect_code(125).expect_said(&["HOST:GUEST"]);
    run_in("microvm", &["--file", "/nonexistent:/x"], program(), &[])
        .expect_code(125)
        .expect_said(&["/nonexistent"]);
    let relative = format!("{}:x", file.display());
    run_in("microvm", &["--file", &relative], program(), &[]).expect_code(125).expect_said(&["begin with /"]);
}

/// Refused with the same words in all targets, whether this host can run them or not.
fn refused(program: &Path, words: &[&str]) {
    for target in ["native", "container", "microvm"] {
        let ran = run_in(target, &[], program, &[]).expect_code(125).expect_said(words);
        assert_eq!(ran.stdout, "", "{target}");
    }
}

fn executable(dir: &Path, name: &str, bytes: &[u8]) -> PathBuf {
    let path = dir.join(name);
    fs::write(&path, bytes).expect("a writable folder");
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).expect("our own file");
    path
}

#[test]
fn what_is_no_program_is_refused_with_the_reason() {
    let dir = tempfile::tempdir().expect("a temporary folder");
    let dir = dir.path();
    let whole = fs::read(program()).expect("our own program");
    refused(&dir.join("nothing"), &["does not exist"]);
    refused(dir, &["is a directory"]);
    refused(Path::new("/dev/null"), &["is not a regular file"]);
    refused(&executable(dir, "script", b"#!/bin/sh\nexit 0\n"), &["is a script"]);
    refused(&executable(dir, "text", b"hello"), &["is not an ELF program"]);
    refused(&executable(dir, "empty", b""), &["is not an ELF program"]);
    refused(&executable(dir, "cut", &whole[..whole.len() / 2]), &["is truncated"]);
    refused(&executable(dir, "stub", &whole[..40]), &["is truncated"]);

    let not_executable = executable(dir, "plain", &whole);
    fs::set_permissions(&not_executable, fs::Permissions::from_mode(0o644)).expect("our own file");
    refused(&not_executable, &["is not executable", "chmod +x"]);

    let mut arm = whole.clone();
    arm[18..20].copy_from_slice(&183_u16.to_le_bytes());
    refused(&executable(dir, "arm", &arm), &["AArch64", "x86-64"]);
    let mut bits32 = whole.clone();
    bits32[4] = 1;
    refused(&executable(dir, "bits32", &bits32), &["32-bit"]);
}

#[test]
fn a_dynamic_program_is_refused_with_how_to_link_it() {
    let dir = tempfile::tempdir().expect("a temporary folder");
    let dynamic = dir.path().join("dynamic");
    compile("int main(void) { return 0; }", &[], &dynamic);
    refused(&dynamic, &["dynamically linked", "cc -static", "crt-static"]);
}

#[test]
fn segments_that_do_not_fit_the_memory_are_refused() {
    let dir = tempfile::tempdir().expect("a temporary folder");
    let large = dir.path().join("large");
    compile("char room[64 << 20]; int main(void) { return room[9]; }", &["-static"], &large);
    for target in ["native", "container", "microvm"] {
        run_in(target, &["--mem", "32"], &large, &[]).expect_code(125).expect_said(&["MiB", "--mem"]);
    }
}

#[test]
fn every_spelling_of_the_options_is_understood() {
    let path = program().to_str().expect("a plain path");
    for args in [
        vec!["run", "--target", "native", "--", path, "exit", "7"],
        vec!["run", "--target=native", "--", path, "exit", "7"],
        vec!["run", "--timeout=5", "--target", "native", "--", path, "exit", "7"],
        vec!["run", "--mem", "64", "--timeout", "5", "--target", "native", "--", path, "exit", "7"],
    ] {
        bench(args).expect_code(7);
    }
    bench(["run", "--target", "native", "--target", "container", "--", path]).expect_code(125);
    bench(["run", "--target", "native"]).expect_code(125);
    bench(["run", "--", path]).expect_code(125).expect_said(&["--target"]);
}

#[test]
fn disks_and_a_card_are_for_the_machine_with_a_kernel_and_others_say_what_they_have_instead() {
    let file = tempfile::NamedTempFile::new().expect("a temporary file");
    let path = file.path().to_str().expect("a plain path");
    let refused = |target: &str, options: &[&str], said: &str| {
        run_in(target, options, program(), &["exit", "0"]).expect_code(125).expect_said(&[said]);
    };
    refused("container", &["--disk", path], "--bind");
    refused("container", &["--network", "tap"], "veth");
    for target in ["native", "microvm"] {
        refused(target, &["--disk", path], "--disk");
        refused(target, &["--network", "tap"], "--network");
    }
    refused("microvm-linux", &["--network", "veth"], "--network none or tap");
    refused("microvm-linux", &["--network", "cable"], "host or tap");
    refused("microvm-linux", &["--disk", ":ro"], "FILE:ro");
    refused("microvm-linux", &["--disk", "/nowhere/disk:ro"], "/nowhere/disk");
    refused("microvm-linux", &["--disk", "/dev/null"], "not a regular file");
    refused(
        "microvm-linux",
        &["--disk", path, "--network", "tap", "--hostname", "x"],
        "does not have the options",
    );
}

#[test]
fn a_machine_with_a_kernel_has_the_disks_and_the_card_that_it_was_given() {
    if !targets().contains(&"microvm-linux") {
        return;
    }
    let written = tempfile::NamedTempFile::new().expect("a temporary file");
    let kept = tempfile::NamedTempFile::new().expect("a temporary file");
    for (file, size) in [(&written, 1 << 20), (&kept, 2 << 20)] {
        file.as_file().set_len(size).expect("a hole");
    }
    let read_only = format!("{}:ro", kept.path().display());
    let writable = written.path().to_str().expect("a plain path");
    let disks = ["--disk", writable, "--disk", &read_only];
    let ran = run_in("microvm-linux", &disks, program(), &["disks"]).expect_code(0);
    assert_eq!(ran.stdout, "vda 1024 KiB\nvdb 2048 KiB\n");
    let ran = run_in("microvm-linux", &[], program(), &["cards"]).expect_code(0);
    assert_eq!(ran.stdout, "");
    if let Err(reason) = target(TargetKind::MicrovmLinux).network() {
        println!("skipped: a network card: {reason}");
        return;
    }
    let ran = run_in("microvm-linux", &["--network", "tap"], program(), &["cards"]).expect_code(0);
    assert_eq!(ran.stdout, "eth0\n");
}

#[test]
fn a_machine_with_a_kernel_takes_a_root_and_an_environment_and_no_other_option_of_containers() {
    let dir = tempfile::tempdir().expect("a temporary folder");
    let root = dir.path().to_str().expect("a plain path");
    for (target, more) in [("microvm-linux", "--hostname=x"), ("microvm", "--env=A=B")] {
        let arguments = ["run", "--target", target, "--rootfs", root, more, "--", "program"];
        let ran = bench(arguments).expect_code(125);
        assert!(ran.stderr.contains("does not have the options of the target container"), "{}", ran.stderr);
    }
    if !targets().contains(&"microvm-linux") {
        return;
    }
    let bin = dir.path().join("bin");
    fs::create_dir(&bin).expect("a folder");
    copy_program(program(), &bin.join("program"));
    let arguments = ["run", "--target", "microvm-linux", "--rootfs", root, "--", "program", "exit", "7"];
    bench(arguments).expect_code(7);
    let ran = bench(["run", "--target", "microvm-linux", "--rootfs", root, "--", "other"]).expect_code(125);
    assert!(ran.stderr.contains("other is not where programs are"), "{}", ran.stderr);
}
