//! What an instance can be given and denied.

mod common;

use common::*;
use container_backend::{
    Capabilities, IdMaps, Isolation, Layer, Network, PrepareError, Proc, Profile, Rlimit, SpawnError, Stdio,
    User,
};

#[test]
fn a_user_without_rights_has_no_capabilities() {
    let Some(config) = container(&["show", "/proc/self/status"]) else { return };
    let ran = run(config.user(User { uid: 1000, gid: 1001, groups: vec![] }));
    assert!(ran.field("Uid:").starts_with("1000"), "{ran:?}");
    assert!(ran.field("Gid:").starts_with("1001"), "{ran:?}");
    for set in ["CapPrm:", "CapEff:", "CapInh:", "CapAmb:"] {
        assert_eq!(ran.field(set), "0000000000000000", "{set}");
    }
}

#[test]
fn a_number_that_means_as_before_is_nobody() {
    let Some(config) = container(&["who"]) else { return };
    let nobody = u32::MAX;
    for (uid, gid, groups) in [(nobody, 0, vec![]), (0, nobody, vec![]), (0, 0, vec![1, nobody])] {
        let refused = config.clone().user(User { uid, gid, groups }).prepare();
        assert!(matches!(refused, Err(PrepareError::UserNumber { .. })), "{refused:?}");
    }
}

#[test]
fn what_needs_a_layer_is_refused_without_it() {
    let Some(config) = container(&["ready"]) else { return };
    let without = |layer| config.clone().isolation(Isolation::container().without(layer));
    let mut configs = vec![("uts", without(Layer::Uts).hostname("here"))];
    if is_root() {
        configs.push(("user", config.clone().id_maps(IdMaps::Ranges)));
    }
    for (needed, config) in configs {
        let refused = config.prepare();
        assert!(
            matches!(refused, Err(PrepareError::NeedsLayer { layer, .. }) if layer == needed),
            "{needed}: {refused:?}"
        );
    }
    assert!(without(Layer::Uts).prepare().is_ok(), "the default name is nobody's wish");
    let unbounded = config.tmp_bytes(0).prepare();
    assert!(matches!(unbounded, Err(PrepareError::LimitValue { .. })), "{unbounded:?}");
}

#[test]
fn groups_are_those_that_were_given() {
    let Some(config) = container(&["show", "/proc/self/status"]) else { return };
    if is_root() {
        let ran = run(config.user(User { uid: 5, gid: 6, groups: vec![7, 8] }));
        assert_eq!(ran.field("Groups:"), "7 8");
    }
}

#[test]
fn capabilities_can_be_added_and_taken_away() {
    let Some(config) = container(&["show", "/proc/self/status"]) else { return };
    let only = Capabilities::none().changed("CHOWN").expect("known");
    let ran = run(config.clone().capabilities(only));
    for set in ["CapPrm:", "CapEff:", "CapBnd:"] {
        assert_eq!(ran.field(set), "0000000000000001", "{set}");
    }
    let more = Capabilities::default().changed("+NET_RAW").expect("known");
    assert_eq!(run(config.capabilities(more)).field("CapEff:"), "00000000800425fb");
}

#[test]
fn resource_limits_and_the_oom_score_are_set() {
    let Some(config) = container(&["show", "/proc/self/limits"]) else { return };
    let limit = Rlimit::parse("nofile=33:44").expect("a limit");
    let ran = run(config.rlimit(limit));
    let line: Vec<_> = ran.field("Max open files").split_whitespace().collect();
    assert_eq!(line[..2], ["33", "44"]);
    let Some(config) = container(&["show", "/proc/self/oom_score_adj"]) else { return };
    assert_eq!(run(config.oom_score_adj(700)).stdout, "700\n");
}

#[test]
fn the_working_folder_is_the_one_that_was_said() {
    let Some(config) = container(&["list", "."]) else { return };
    assert!(run(config.workdir("/dev")).lines().contains(&"null"));
}

#[test]
fn loopback_is_up_where_it_was_asked_for() {
    let Some(config) = container(&["show", "/proc/self/net/fib_trie"]) else { return };
    for beside in [true, false] {
        let config = config.clone().network_beside(beside);
        assert!(!run(config.clone()).stdout.contains("127.0.0.1"));
        assert!(run(config.network(Network::Loopback)).stdout.contains("127.0.0.1"));
    }
    let without = config.isolation(container_backend::Isolation::container().without(Layer::Net));
    let refused = without.network(Network::Loopback).prepare();
    assert!(
        matches!(refused, Err(PrepareError::NeedsLayer { .. })),
        "the host's is not touched: {refused:?}"
    );
}

#[test]
fn a_generated_root_can_have_terminals_and_a_proc_as_engines_make_it() {
    let Some(config) = container(&["write", "/dev/ptmx"]) else { return };
    assert_eq!(run(config.terminals(true)).lines().first(), Some(&"open: done"));
    let Some(config) = container(&["write", "/proc/self/comm"]) else { return };
    assert_eq!(run(config.proc(Proc::Masked)).lines().first(), Some(&"open: done"));
    let Some(config) = container(&["write", "/proc/sys/kernel/hostname"]) else { return };
    // Whoever is not root outside does not own the file, which is looked at first.
    let refused = if is_root() { "open: Read-only file system" } else { "open: Permission denied" };
    let said = run(config.proc(Proc::Masked)).lines().join("; ");
    assert!(said == refused || said == "open: Read-only file system", "{said}");
}

#[test]
fn a_profile_of_ones_own_takes_the_place_of_the_default() {
    let Some(config) = container(&["refused"]) else { return };
    let text = r#"{"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [
        {"names": ["keyctl", "bpf"], "action": "SCMP_ACT_ERRNO", "errnoRet": 95}]}"#;
    let profile = Profile::from_json(text, Capabilities::default()).expect("a good profile");
    let ran = run(config.seccomp(profile));
    assert_eq!(ran.field("keyctl:"), "Operation not supported");
    assert_eq!(ran.field("bpf:"), "Operation not supported");
    assert_ne!(ran.field("clone3:"), "Function not implemented");
}

#[test]
fn a_profile_that_refuses_everything_is_an_error_of_the_start() {
    let Some(config) = container(&["exit", "0"]) else { return };
    let profile = Profile::from_json(r#"{"defaultAction": "SCMP_ACT_ERRNO"}"#, Capabilities::default());
    let config = config.seccomp(profile.expect("a good profile"));
    for init in [false, true] {
        // The child may not even end itself then: without another way it would try for ever, and the caller wait for it.
        let refused = config.clone().init(init).prepare().expect("good").spawn(Stdio::null());
        match refused {
            Err(SpawnError::Exec { .. } | SpawnError::Setup { .. }) => {}
            other => panic!("with an init {init}: {other:?}"),
        }
    }
}

#[test]
fn a_program_runs_under_a_profile_of_the_engines_shape_as_under_the_default() {
    let Some(config) = container(&["refused"]) else { return };
    let by_default = run(config.clone());
    let text = include_str!("fixtures/engine-seccomp.json");
    let profile = Profile::from_json(text, Capabilities::default()).expect("a good profile");
    let ran = run(config.clone().seccomp(profile.clone()));
    succeeded(&ran);
    // Told in the same words, call by call; but the file has no calls of x32 apart.
    let known = |ran: &Ran| -> Vec<String> {
        ran.lines().into_iter().filter(|line| !line.starts_with("x32")).map(str::to_owned).collect()
    };
    assert_eq!(known(&ran), known(&by_default));
    let Some(config) = container(&["exit", "7"]) else { return };
    let config = config.init(true);
    assert_eq!(run(config.clone().seccomp(profile)).exit.status.code(), 7, "an init does with it, too");
    let without = text.replace("\"rt_sigtimedwait\"", "\"read\"");
    let profile = Profile::from_json(&without, Capabilities::default()).expect("a good profile");
    // The init ends before or after the program is there.
    match config.seccomp(profile).prepare().expect("good").spawn(Stdio::null()) {
        Err(error) => assert!(matches!(error, SpawnError::Killed), "{error:?}"),
        Ok(mut process) => {
            let exit = process.wait(Some(PATIENCE)).expect("it can be waited for").expect("it ends");
            assert!([125, 7].contains(&exit.status.code()), "{exit:?}");
        }
    }
}
