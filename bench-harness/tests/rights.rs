//! Hosts that permit less: what is said, and what still works. Made here with namespaces and an ordinary user.

#![allow(clippy::print_stdout, reason = "what is skipped is said in the test's output")]

mod common;

use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::OnceLock;

use common::Ran;

/// The command and a program where an ordinary user can reach them.
fn public() -> &'static (tempfile::TempDir, PathBuf, PathBuf) {
    static PUBLIC: OnceLock<(tempfile::TempDir, PathBuf, PathBuf)> = OnceLock::new();
    PUBLIC.get_or_init(|| {
        let dir = tempfile::tempdir().expect("a temporary folder");
        std::fs::set_permissions(dir.path(), std::fs::Permissions::from_mode(0o755)).expect("our own folder");
        let (bench, program) = (dir.path().join("bench-harness"), dir.path().join("program"));
        common::copy_program(&common::executable(), &bench);
        common::copy_program(common::program(), &program);
        (dir, bench, program)
    })
}

/// Runs a shell script under `wrapper`, with `$BENCH` and `$PROGRAM`; `None` where this host does not let us.
fn under(wrapper: &[&str], script: &str) -> Option<Ran> {
    let (_, bench, program) = public();
    let (first, rest) = wrapper.split_first()?;
    let call = |script: &str| {
        Command::new(first)
            .args(rest)
            .args(["sh", "-c", script])
            .env("BENCH", bench)
            .env("PROGRAM", program)
            .current_dir("/")
            .stdin(Stdio::null())
            .output()
            .ok()
    };
    if !call("true").is_some_and(|output| output.status.success()) {
        println!("skipped: this host does not let us call {wrapper:?}");
        return None;
    }
    call(script).map(Ran::from)
}

const NOBODY: [&str; 4] = ["/usr/bin/setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"];

#[test]
fn without_a_kvm_device_the_reason_is_said_and_compare_goes_on() {
    let hide = "mount -t tmpfs none /dev && : > /dev/null && cd /tmp";
    let wrapper = ["unshare", "-m"];
    let Some(ran) = under(&wrapper, &format!("{hide}; $BENCH run --target microvm -- $PROGRAM")) else {
        return;
    };
    ran.expect_code(125).expect_said(&["/dev/kvm"]);
    let compare = "$BENCH compare --experiments startup --out $(mktemp -d)/r";
    let Some(ran) = under(&wrapper, &format!("{hide}; {compare}")) else { return };
    let ran = ran.expect_code(0);
    assert!(ran.stdout.contains("Skipped microvm") && ran.stdout.contains("/dev/kvm"), "{}", ran.stdout);
    let Some(ran) = under(&wrapper, &format!("{hide}; {compare} --targets microvm")) else { return };
    ran.expect_code(3).expect_said(&["microvm", "/dev/kvm"]);
}

#[test]
fn without_the_right_to_the_kvm_device_the_reason_is_said() {
    let [setpriv, rest @ ..] = NOBODY;
    // A device node of its own, that only root may open.
    let hide = "mount -t tmpfs none /mnt && mknod -m 600 /mnt/kvm c 10 232 && mount --bind /mnt/kvm /dev/kvm";
    let script = format!("{hide} && {setpriv} {} $BENCH run --target microvm -- $PROGRAM", rest.join(" "));
    let Some(ran) = under(&["unshare", "-m"], &script) else { return };
    if ran.stderr.contains("mount:") || ran.stderr.contains("mknod:") {
        println!("skipped: {}", ran.stderr);
        return;
    }
    ran.expect_code(125).expect_said(&["no right to open /dev/kvm"]);
}

#[test]
fn without_the_right_to_make_namespaces_the_reason_is_said() {
    let forbid = "echo 0 > /proc/sys/user/max_mnt_namespaces";
    let wrapper = ["unshare", "-Ur"];
    let script = format!("{forbid} && $BENCH run --target container -- $PROGRAM");
    let Some(ran) = under(&wrapper, &script) else { return };
    ran.expect_code(125).expect_said(&["container"]);
    let script = format!("{forbid} && $BENCH compare --targets container --out $(mktemp -d)/r");
    let Some(ran) = under(&wrapper, &script) else { return };
    ran.expect_code(3).expect_said(&["does not let us make a container"]);
}

#[test]
fn without_control_groups_a_limit_is_refused_and_a_comparison_goes_on() {
    let Some(ran) = under(&NOBODY, "$BENCH run --target container -- $PROGRAM exit 5") else { return };
    if ran.code == 125 {
        println!("skipped: no container for an ordinary user here: {}", ran.stderr);
        return;
    }
    ran.expect_code(5);
    let Some(ran) = under(&NOBODY, "$BENCH run --target container --mem 64 -- $PROGRAM exit 5") else {
        return;
    };
    ran.expect_code(125).expect_said(&["limits cannot be set"]);
    for experiment in ["startup", "surface"] {
        let script = format!(
            "$BENCH compare --targets native,container --experiments {experiment} --workloads noop --out $(mktemp -d)/r"
        );
        let Some(ran) = under(&NOBODY, &script) else { return };
        ran.expect_code(0);
    }
}

#[test]
fn an_ordinary_user_can_ask_the_doctor() {
    let Some(ran) = under(&NOBODY, "$BENCH doctor --json") else { return };
    let ran = ran.expect_code(0);
    let json: serde_json::Value = serde_json::from_str(&ran.stdout).expect("JSON");
    assert_eq!(json["host"]["uid"], 65534);
}

#[test]
fn where_no_program_may_be_executed_from_memory_the_setting_is_named() {
    let forbid = "echo 2 > /proc/sys/vm/memfd_noexec";
    let wrapper = ["unshare", "-pf", "--mount-proc"];
    for options in ["--init", "--pids 5"] {
        let script = format!("{forbid} && $BENCH run --target container {options} -- $PROGRAM; exit $?");
        let Some(ran) = under(&wrapper, &script) else { return };
        if ran.stderr.contains("memfd_noexec: ") || ran.stderr.contains("limits cannot be set") {
            println!("skipped: {}", ran.stderr);
            return;
        }
        ran.expect_code(125).expect_said(&["vm.memfd_noexec"]);
    }
}

#[test]
fn what_takes_a_right_that_an_ordinary_user_lacks_is_refused_with_the_next_step() {
    let Some(ran) = under(&NOBODY, "$BENCH run --target container -- $PROGRAM exit 5") else { return };
    if ran.code == 125 {
        println!("skipped: no container for an ordinary user here: {}", ran.stderr);
        return;
    }
    for (options, said) in [
        ("--oom-score-adj -1000", "ask for 0 or more"),
        ("--ulimit core=7:4097", "hard limit of now, 4096"),
        ("--ulimit core=unlimited", "core to unlimited:unlimited"),
    ] {
        // Of an oom_score_adj and a limit that are known.
        let script = format!("ulimit -c 8; $BENCH run --target container {options} -- $PROGRAM exit 5");
        let set = "echo 0 > /proc/self/oom_score_adj;";
        let Some(ran) = under(&NOBODY, &format!("{set} {script}")) else { return };
        ran.expect_code(125).expect_said(&[said, "CAP_SYS_RESOURCE", "run as root"]);
    }
    let lower = "ulimit -c 8; $BENCH run --target container --ulimit core=6:4096 --oom-score-adj 9 -- $PROGRAM exit 5";
    let Some(ran) = under(&NOBODY, lower) else { return };
    ran.expect_code(5);
}
