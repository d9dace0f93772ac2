//! A root that is built beside the rest of a start, where one start follows at once and has limits.

#![allow(clippy::print_stdout, reason = "why a test is skipped")]

mod common;

use common::*;
use container_backend::{Config, Isolation, Limits, Network, PrepareError, Prepared, Program, Rootfs, Stdio};

const LIMITS: Limits = Limits::none().memory_bytes(32 << 20).pids(32);

/// Prepared for one start that follows at once; `None` where there can be no limits.
fn soon(config: Config) -> Option<Prepared> {
    let prepared = config.limits(LIMITS).start_soon(true).prepare().expect("the config is good");
    match prepared.limits_unavailable() {
        None => Some(prepared),
        Some(reason) => {
            println!("skipped: no limits here: {reason}");
            None
        }
    }
}

/// Whether the root is built beside, as root on Linux 6.9 and later with more than one CPU: then it is none of the child's steps.
fn is_beside(prepared: &Prepared) -> bool {
    !prepared.steps().iter().any(|step| step == "pivot to the new root")
}

/// A folder with the actor in it.
fn folder() -> Option<tempfile::TempDir> {
    let dir = tempfile::tempdir().expect("a folder");
    std::fs::set_permissions(dir.path(), std::os::unix::fs::PermissionsExt::from_mode(0o755))
        .expect("changed");
    copy_program(actor()?, &dir.path().join("actor"));
    Some(dir)
}

/// What is mounted where, and how: without numbers, which differ, and in an order of its own. How proc's source is called depends on
/// the way in which it is made, and a layer's descriptor on what else is open.
fn mounts(ran: &Ran) -> Vec<String> {
    let mut lines: Vec<String> = ran
        .lines()
        .iter()
        .map(|line| {
            let line = line.splitn(4, ' ').last().unwrap_or_default();
            let (place, kind) = line.split_once(" - ").expect("a line of mountinfo");
            let kind: Vec<&str> = kind.split([' ', ',']).collect();
            let of_all = |word: &&&str| !word.starts_with("lowerdir=");
            let kind: Vec<&str> = match kind.first() {
                Some(&"proc") => vec!["proc"],
                _ => kind.iter().filter(of_all).copied().collect(),
            };
            format!("{place} {}", kind.join(" "))
        })
        .collect();
    lines.sort();
    lines
}

#[test]
fn it_is_the_same_container_as_one_that_the_child_builds_alone() {
    if !alone("it_is_the_same_container_as_one_that_the_child_builds_alone") {
        return;
    }
    // Not the usual one, which a container gets.
    // SAFETY: takes a number and cannot fail.
    unsafe { libc::umask(0o077) };
    let (Some(plain), Some(dir)) = (container(&[]), folder()) else { return };
    let given = Config::new(Program::inside("/actor"))
        .isolation(Isolation::container())
        .rootfs(Rootfs::Folder(dir.path().to_owned()));
    let full = given.clone().init(true).network(Network::Loopback);
    for config in [plain, given, full] {
        for act in [
            &["show", "/proc/self/mountinfo"][..],
            &["show", "/proc/self/status"],
            &["show", "/proc/self/cgroup"],
            &["show", "/proc/net/if_inet6"],
            &["list", "/proc/self/fd"],
            &["list", "/"],
            &["list", "/dev"],
            &["write", "/proc/sys/kernel/hostname"],
        ] {
            let config = config.clone().args(act);
            let Some(prepared) = soon(config.clone()) else { return };
            let alone = run(config.limits(LIMITS));
            // The second one does not find a thread at work already.
            for ran in [run_prepared(&prepared), run_prepared(&prepared)] {
                assert_eq!(ran.exit.status, alone.exit.status, "{act:?}");
                match act {
                    ["show", "/proc/self/mountinfo"] => assert_eq!(mounts(&ran), mounts(&alone)),
                    ["show", "/proc/self/status"] => {
                        for key in
                            ["Umask:", "CapBnd:", "CapEff:", "NoNewPrivs:", "Seccomp:", "NStgid:", "Uid:"]
                        {
                            assert_eq!(ran.field(key), alone.field(key), "{key}");
                        }
                    }
                    _ => assert_eq!(ran.stdout, alone.stdout, "{act:?}"),
                }
            }
        }
    }
}

#[test]
fn a_step_that_fails_is_named_and_nothing_is_left() {
    if !alone("a_step_that_fails_is_named_and_nothing_is_left") {
        return;
    }
    let before = Traces::now();
    // proc is no lower layer. That its file is no program is never seen.
    let config = Config::new(Program::inside("/hostname")).isolation(Isolation::container());
    let Some(prepared) = soon(config.rootfs(Rootfs::Folder("/proc/sys/kernel".into()))) else { return };
    for _ in 0..3 {
        match prepared.spawn(Stdio::null()) {
            Ok(_) => panic!("there is no such layer"),
            Err(error) if is_root() => {
                assert!(error.to_string().starts_with("cannot mount overlay on "), "{error}");
            }
            // The folder is seen as it is, then, and the file cannot be executed.
            Err(_) => {}
        }
    }
    drop(prepared);
    nothing_is_left(&before);
}

#[test]
fn where_there_can_be_no_limits_the_root_is_not_built_where_the_caller_is() {
    if !alone("where_there_can_be_no_limits_the_root_is_not_built_where_the_caller_is") {
        return;
    }
    let before = Traces::now();
    let mounts = || std::fs::read_to_string("/proc/self/mountinfo").expect("/proc is there");
    let seen = mounts();
    let Some(dir) = folder() else { return };
    let given = Config::new(Program::inside("/actor")).isolation(Isolation::container());
    let given = given.rootfs(Rootfs::Folder(dir.path().to_owned())).arg("ready");
    let could_be_beside = container(&["ready"]).and_then(soon).is_some_and(|prepared| is_beside(&prepared));
    // No host has this CPU.
    let limits = Limits::none().cpuset(1 << 127);
    for config in [container(&["ready"]).expect("as above"), given] {
        let prepared = config.limits(limits).start_soon(true).prepare().expect("it goes without limits");
        assert!(prepared.limits_unavailable().is_some());
        assert_eq!(is_beside(&prepared), could_be_beside, "{:?}", prepared.steps());
        succeeded(&run_prepared(&prepared));
        succeeded(&run_prepared(&prepared));
    }
    assert_eq!(mounts(), seen);
    nothing_is_left(&before);
}

#[test]
fn what_cannot_be_prepared_leaves_no_thread_at_work() {
    if !alone("what_cannot_be_prepared_leaves_no_thread_at_work") {
        return;
    }
    let before = Traces::now();
    let config = Config::new(Program::inside("/missing")).isolation(Isolation::container()).limits(LIMITS);
    for root in ["/missing-folder", "/proc/sys/kernel"] {
        let refused = config.clone().rootfs(Rootfs::Folder(root.into())).start_soon(true).prepare();
        let expected =
            matches!(refused, Err(PrepareError::Rootfs { .. } | PrepareError::ProgramNotInside { .. }));
        assert!(expected, "{root}: {refused:?}");
    }
    nothing_is_left(&before);
}

#[test]
fn a_process_that_the_caller_forks_does_not_wait_for_the_thread() {
    if !alone("a_process_that_the_caller_forks_does_not_wait_for_the_thread") {
        return;
    }
    let Some(prepared) = container(&["ready"]).and_then(soon) else { return };
    // SAFETY: no other thread of this process holds a lock: it runs this test alone, and the thread beside knows none.
    let child = unsafe { libc::fork() };
    if child == 0 {
        drop(prepared);
        // SAFETY: takes a number and does not return.
        unsafe { libc::_exit(0) };
    }
    let mut status = 0;
    // SAFETY: a child of this process, and a number to be written to.
    let has_ended = || unsafe { libc::waitpid(child, &raw mut status, libc::WNOHANG) } == child;
    assert!(eventually(has_ended), "it hangs");
    assert_eq!(status, 0);
}

#[test]
fn the_thread_goes_with_the_instance_or_when_that_stays_for_long() {
    if !alone("the_thread_goes_with_the_instance_or_when_that_stays_for_long") {
        return;
    }
    let before = Traces::now();
    let threads = || Traces::now().threads;
    for settles in [false, true] {
        let Some(prepared) = container(&["sleep"]).and_then(soon) else { return };
        let (mut process, reader) = spawn_until_ready(&prepared);
        assert_eq!(threads() > before.threads, is_beside(&prepared));
        if settles {
            process.settle();
            assert!(eventually(|| threads() == before.threads));
            assert!(runs(process.pid()));
        }
        process.kill().expect("it runs");
        process.wait(Some(PATIENCE)).expect("it can be waited for").expect("it ends");
        drop((process, reader, prepared));
        nothing_is_left(&before);
    }
}
