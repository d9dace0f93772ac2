//! Starting, waiting, killing, and what bad input does.

#![allow(clippy::print_stdout, reason = "why a test is skipped, and what one process tells another")]

mod common;

use std::fs::File;
use std::io::Write;
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd};
use std::os::unix::fs::PermissionsExt;
use std::time::{Duration, Instant};

use common::*;
use container_backend::{
    Config, Isolation, Phase, PrepareError, Program, SpawnError, Status, Stdio, Stream, monotonic_ns,
};

#[test]
fn a_bare_process_runs_and_its_end_is_told() {
    let Some(config) = native(&["ready"]) else { return };
    let ran = run(config);
    succeeded(&ran);
    assert_eq!(ran.stdout, "ready\n");
}

#[test]
fn a_container_runs_and_its_end_is_told() {
    let Some(config) = container(&["ready"]) else { return };
    let ran = run(config);
    succeeded(&ran);
    assert_eq!(ran.stdout, "ready\n");
}

#[test]
fn exit_codes_and_signals_are_told_apart() {
    for make in [native, container] {
        let Some(config) = make(&["exit", "42"]) else { return };
        assert_eq!(run(config).exit.status, Status::Exited(42));
    }
    let Some(config) = native(&["signal", "11"]) else { return };
    let status = run(config).exit.status;
    assert_eq!(status, Status::Signaled(11));
    assert_eq!(status.code(), 139);
}

#[test]
fn the_phases_of_a_container_are_named_and_in_order() {
    let Some(config) = container(&["ready"]) else { return };
    let prepared = config.prepare().expect("the config is good");
    let before = monotonic_ns();
    let (mut process, _reader) = spawn_piped(&prepared);
    let after = monotonic_ns();
    let marks = process.timeline().marks().to_vec();
    let names: Vec<_> = marks.iter().map(|mark| mark.0).collect();
    // Where there is one processor only, nobody makes the network beside the start.
    let has_network = std::thread::available_parallelism().is_ok_and(|cpus| cpus.get() > 1);
    let expected = Phase::ALL.into_iter().filter(|phase| has_network || *phase != Phase::Network);
    assert_eq!(names, expected.map(Phase::name).collect::<Vec<_>>());
    let instants: Vec<_> =
        [before].into_iter().chain(marks.iter().map(|mark| mark.1)).chain([after]).collect();
    assert!(instants.is_sorted(), "{instants:?}");
    let exit = process.wait(Some(PATIENCE)).expect("it can be waited for").expect("it ends");
    assert!(exit.ended_ns <= exit.reaped_ns && exit.reaped_ns <= exit.gone_ns);
}

#[test]
fn the_phases_of_a_bare_process_are_clone_and_exec() {
    let Some(config) = native(&["ready"]) else { return };
    let prepared = config.prepare().expect("the config is good");
    let (process, _reader) = spawn_piped(&prepared);
    assert_eq!(process.timeline().phases(0).iter().map(|p| p.0).collect::<Vec<_>>(), ["clone", "exec"]);
}

#[test]
fn a_wait_with_a_timeout_gives_up_and_the_program_goes_on() {
    let Some(config) = container(&["sleep"]) else { return };
    let prepared = config.prepare().expect("the config is good");
    let (mut process, _reader) = spawn_until_ready(&prepared);
    let started = Instant::now();
    assert_eq!(process.wait(Some(Duration::from_millis(20))).expect("it can be waited for"), None);
    assert!(started.elapsed() >= Duration::from_millis(20));
    process.kill().expect("it can be killed");
    let exit = process.wait(Some(PATIENCE)).expect("it can be waited for").expect("it ends");
    assert_eq!(exit.status, Status::Signaled(libc::SIGKILL));
    assert_eq!(process.wait(None).expect("asked again").as_ref(), Some(&exit));
    process.kill().expect("killing what has ended is no error");
}

#[test]
fn killing_a_container_ends_its_grandchildren_too() {
    let Some(config) = container(&["daemon", "stay"]) else { return };
    let prepared = config.prepare().expect("the config is good");
    let (mut process, mut reader) = spawn_until_ready(&prepared);
    process.kill().expect("it can be killed");
    process.wait(Some(PATIENCE)).expect("it can be waited for").expect("it ends");
    // End of file: nobody holds the other end any more.
    assert_eq!(std::io::Read::read(&mut reader, &mut [0; 1]).expect("it can be read"), 0);
}

#[test]
fn arguments_environment_and_standard_input_reach_the_program() {
    for make in [native, container] {
        let Some(config) = make(&["args", "two words", ""]) else { return };
        let ran = run(config.arg0("name"));
        assert_eq!(ran.lines(), ["name", "args", "two words", ""]);
        let Some(config) = make(&["env"]) else { return };
        assert_eq!(run(config.clone()).stdout, "", "the environment is empty unless set");
        assert_eq!(run(config.env("A", "b c")).stdout, "A=b c\n");

        let Some(config) = make(&["cat"]) else { return };
        let (input, mut writer) = std::io::pipe().expect("a pipe");
        let (mut reader, output) = std::io::pipe().expect("a pipe");
        writer.write_all(b"hello").expect("the pipe takes it");
        drop(writer);
        let stdio = Stdio::null().stdin(Stream::Fd(input.as_fd())).stdout(Stream::Fd(output.as_fd()));
        let mut process = config.prepare().expect("the config is good").spawn(stdio).expect("it starts");
        drop(output);
        let mut text = String::new();
        std::io::Read::read_to_string(&mut reader, &mut text).expect("text");
        assert_eq!(text, "hello");
        process.wait(Some(PATIENCE)).expect("it can be waited for").expect("it ends");
    }
}

#[test]
fn a_sealed_program_runs_without_any_path() {
    let Some(path) = actor() else { return };
    if !containers_work() {
        return;
    }
    let bytes = std::fs::read(path).expect("the program can be read");
    // SAFETY: memfd_create reads one C string; the descriptor is fresh.
    let fd = unsafe { libc::memfd_create(c"program".as_ptr(), libc::MFD_CLOEXEC | libc::MFD_ALLOW_SEALING) };
    assert!(fd >= 0);
    // SAFETY: the line above made it, nobody else knows it.
    let fd = unsafe { OwnedFd::from_raw_fd(fd) };
    File::from(fd.try_clone().expect("a duplicate")).write_all(&bytes).expect("memory");
    let seals = libc::F_SEAL_WRITE | libc::F_SEAL_GROW | libc::F_SEAL_SHRINK | libc::F_SEAL_SEAL;
    // SAFETY: fcntl with numbers only.
    assert_eq!(unsafe { libc::fcntl(fd.as_raw_fd(), libc::F_ADD_SEALS, seals) }, 0);
    let config = Config::new(Program::sealed(fd));
    for isolation in [Isolation::none(), Isolation::container()] {
        let ran = run(config.clone().isolation(isolation).arg("list").arg("/proc/self/fd"));
        succeeded(&ran);
        assert_eq!(ran.lines().len(), 4, "stdio and the listing itself: {ran:?}");
    }
}

#[test]
fn many_starts_from_many_threads_do_not_disturb_each_other() {
    let Some(config) = container(&["ready"]) else { return };
    let prepared = config.prepare().expect("the config is good");
    std::thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| {
                for _ in 0..5 {
                    let ran = run_prepared(&prepared);
                    succeeded(&ran);
                    assert_eq!(ran.stdout, "ready\n");
                }
            });
        }
    });
}

#[test]
fn a_program_that_cannot_be_run_is_refused_with_its_reason_before_any_clone() {
    let dir = tempfile::tempdir().expect("a folder");
    let file = |name: &str, content: &[u8], mode: u32| {
        let path = dir.path().join(name);
        std::fs::write(&path, content).expect("written");
        std::fs::set_permissions(&path, PermissionsExt::from_mode(mode)).expect("changed");
        path
    };
    let prepare = |path| Config::new(Program::path(path)).isolation(Isolation::container()).prepare();
    let missing = prepare(dir.path().join("missing"));
    assert!(matches!(missing, Err(PrepareError::ProgramNotFound { .. })), "{missing:?}");
    let folder = prepare(dir.path().to_owned());
    assert!(matches!(folder, Err(PrepareError::ProgramNotAFile { .. })), "{folder:?}");
    let plain = prepare(file("plain", b"\x7fELF", 0o644));
    assert!(matches!(plain, Err(PrepareError::ProgramNotExecutable { .. })), "{plain:?}");
    let script = prepare(file("script", b"#! /bin/sh -e\ntrue\n", 0o755));
    assert!(
        matches!(&script, Err(PrepareError::ProgramNeedsInterpreter { interpreter, .. }) if interpreter == "/bin/sh"),
        "{script:?}"
    );
    // The test itself is linked dynamically.
    let dynamic = prepare(std::env::current_exe().expect("this test"));
    assert!(matches!(dynamic, Err(PrepareError::ProgramNeedsInterpreter { .. })), "{dynamic:?}");
}

#[test]
fn a_file_that_is_no_program_fails_at_exec_and_leaves_no_child() {
    if !containers_work() {
        return;
    }
    let dir = tempfile::tempdir().expect("a folder");
    let path = dir.path().join("broken");
    std::fs::write(&path, b"\x7fELF\x02\x01 and no more").expect("written");
    std::fs::set_permissions(&path, PermissionsExt::from_mode(0o755)).expect("changed");
    for isolation in [Isolation::none(), Isolation::container()] {
        let prepared =
            Config::new(Program::path(&path)).isolation(isolation).prepare().expect("it may be a program");
        match prepared.spawn(Stdio::null()) {
            Err(SpawnError::Exec { source, program }) => {
                assert_eq!(source.raw_os_error(), Some(libc::ENOEXEC));
                assert!(program.ends_with("broken"));
            }
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn a_variable_that_is_set_again_has_the_later_value() {
    let Some(config) = native(&["env"]) else { return };
    let ran = run(config.env("A", "1").envs([("B", "2"), ("A", "3")]));
    assert_eq!(ran.lines(), ["B=2", "A=3"]);
}

#[test]
fn values_that_no_kernel_takes_are_refused() {
    let config = || Config::new(Program::path("/proc/self/exe"));
    let zero = config().arg("a\0b").prepare();
    assert!(matches!(zero, Err(PrepareError::ZeroByte { .. })), "{zero:?}");
    if let Some(container) = container(&["ready"]) {
        for name in [String::new(), "x".repeat(65)] {
            let length = container.clone().hostname(name).prepare();
            assert!(matches!(length, Err(PrepareError::HostnameLength { .. })), "{length:?}");
        }
    }
}

#[test]
fn a_detached_instance_runs_on_when_its_caller_has_ended() {
    let scenario = "a_detached_instance_runs_on_when_its_caller_has_ended";
    if part().is_some() {
        let config = container(&["sleep"]).expect("the first process has looked").die_with_caller(false);
        let (process, _reader) = spawn_until_ready(&config.prepare().expect("the config is good"));
        println!("\ndetached {}", process.detach().expect("it has no group"));
        return;
    }
    if !containers_work() || actor().is_none() {
        return;
    }
    // The instance keeps the standard error stream: an end of file there would be waited for in vain.
    let mut command = in_part(scenario, "caller");
    let done = command.stderr(std::process::Stdio::inherit()).output().expect("this test can be started");
    let text = String::from_utf8_lossy(&done.stdout);
    let pid = text.lines().find_map(|line| line.strip_prefix("detached ")).expect("its number");
    let pid: i32 = pid.trim().parse().expect("a number");
    assert!(runs(pid), "its caller has ended");
    // SAFETY: kill takes numbers only; the process runs as of the line above.
    assert_eq!(unsafe { libc::kill(pid, libc::SIGKILL) }, 0);
    assert!(eventually(|| !runs(pid)));
}

#[test]
fn an_instance_with_a_control_group_is_not_left_alone() {
    let Some(config) = container(&["sleep"]) else { return };
    let prepared = config.limits(container_backend::Limits::none().pids(8)).prepare().expect("good");
    let (process, _reader) = spawn_until_ready(&prepared);
    let has_group = !process.cgroup_paths().is_empty();
    let pid = process.pid();
    match process.detach() {
        Err(process) => {
            assert!(has_group);
            drop(process);
            assert!(!runs(pid));
        }
        Ok(pid) => {
            assert!(!has_group);
            // SAFETY: as above.
            assert_eq!(unsafe { libc::kill(pid, libc::SIGKILL) }, 0);
        }
    }
}
