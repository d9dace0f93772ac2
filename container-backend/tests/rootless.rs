//! The same as an ordinary user. Where the tests run as root, each scenario runs itself again as `nobody`.

#![allow(clippy::print_stdout, reason = "why a test is skipped, and what one process tells another")]

mod common;

use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::process::Command;

use common::*;
use container_backend::{Layer, Limits, probe};

/// The user and group that own nothing.
const NOBODY: u32 = 65_534;

/// Whether this process is to play the scenario as an ordinary user; if it is root, it starts one that is.
fn as_ordinary_user(scenario: &str) -> bool {
    if !is_root() {
        return containers_work() && actor().is_some();
    }
    let Some(actor) = actor() else { return false };
    // Copies where an ordinary user can reach them: the checkout may lie in root's home.
    let dir = tempfile::tempdir().expect("a folder");
    std::fs::set_permissions(dir.path(), PermissionsExt::from_mode(0o755)).expect("changed");
    let copy = |from: &std::path::Path, name: &str| {
        let to = dir.path().join(name);
        // By another process: a descriptor open for writing here could be inherited by what another test is just
        // starting, and the copy could not be executed until that has closed it.
        assert!(Command::new("cp").arg(from).arg(&to).status().is_ok_and(|status| status.success()));
        std::fs::set_permissions(&to, PermissionsExt::from_mode(0o755)).expect("changed");
        to
    };
    let test = copy(&std::env::current_exe().expect("this test"), "test");
    let actor = copy(actor, "actor");
    let done = Command::new(test)
        .args(["--exact", scenario, "--nocapture"])
        .env(ACTOR_VARIABLE, actor)
        .current_dir("/")
        .gid(NOBODY)
        .uid(NOBODY)
        .output()
        .expect("this test can be started");
    let text = String::from_utf8_lossy(&done.stdout);
    assert!(done.status.success(), "{text}{}", String::from_utf8_lossy(&done.stderr));
    print!("{text}");
    false
}

#[test]
fn an_ordinary_user_gets_a_user_namespace_and_is_root_inside() {
    if !as_ordinary_user("an_ordinary_user_gets_a_user_namespace_and_is_root_inside") {
        return;
    }
    let Some(config) = container(&["who"]) else { return };
    let prepared = config.prepare().expect("the config is good");
    assert!(prepared.isolation().has(Layer::User));
    let ran = run_prepared(&prepared);
    for line in ["pid 1", "uid 0", "gid 0", "host container"] {
        assert!(ran.lines().contains(&line), "{ran:?}");
    }
}

#[test]
fn an_ordinary_users_container_is_as_closed_as_roots() {
    if !as_ordinary_user("an_ordinary_users_container_is_as_closed_as_roots") {
        return;
    }
    let Some(config) = container(&[]) else { return };
    let ran = run(config.clone().args(["list", "/dev"]));
    assert_eq!(ran.lines(), ["full", "null", "random", "tty", "urandom", "zero"]);
    let ran = run(config.clone().args(["write", "/dev/null"]));
    assert_eq!(ran.stdout, "open: done\nwrite: done\n");
    let ran = run(config.clone().args(["show", "/proc/self/status"]));
    assert_eq!(ran.field("CapEff:"), "00000000800405fb");
    assert_eq!(ran.field("Seccomp:"), "2");
    let ran = run(config.args(["refused"]));
    assert_eq!(ran.field("mount:"), "Operation not permitted");
    assert_eq!(ran.field("unshare:"), "Operation not permitted");
}

#[test]
fn without_the_right_to_control_groups_it_runs_and_says_so() {
    if !as_ordinary_user("without_the_right_to_control_groups_it_runs_and_says_so") {
        return;
    }
    let Some(config) = container(&["ready"]) else { return };
    let prepared =
        config.limits(Limits::none().memory_bytes(32 << 20)).prepare().expect("the config is good");
    if let Some(reason) = prepared.limits_unavailable() {
        assert!(!reason.is_empty());
        println!("no limits: {reason}");
    }
    succeeded(&run_prepared(&prepared));
}

#[test]
fn a_filter_alone_works_for_an_ordinary_user_too() {
    if !as_ordinary_user("a_filter_alone_works_for_an_ordinary_user_too") {
        return;
    }
    let host = probe();
    assert!(host.native.is_granted(), "{host:?}");
    let seccomp = host.layers.iter().find(|(layer, _)| *layer == Layer::Seccomp);
    assert!(seccomp.is_some_and(|(_, permission)| permission.is_granted()), "{host:?}");
}
