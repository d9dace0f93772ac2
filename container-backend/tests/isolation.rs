//! What a program in a container sees, and what it is refused.

mod common;

use std::collections::BTreeSet;

use common::*;
use container_backend::{Config, Isolation, Layer, Permission, PrepareError, probe};

/// A field of the program's own /proc/self/status.
fn status_of(config: Config) -> Ran {
    run(config.args(["show", "/proc/self/status"]))
}

fn empty_container() -> Option<Config> {
    container(&[])
}

#[test]
fn it_is_process_1_of_its_own_session_on_its_own_host() {
    let Some(config) = container(&["who"]) else { return };
    let ran = run(config.hostname("somewhere"));
    for line in ["pid 1", "ppid 0", "uid 0", "gid 0", "host somewhere", "session 1"] {
        assert!(ran.lines().contains(&line), "{line} in {ran:?}");
    }
}

#[test]
fn its_root_holds_only_what_it_needs() {
    let Some(config) = empty_container() else { return };
    let list = |path: &str| {
        let ran = run(config.clone().args(["list", path]));
        ran.lines().iter().map(ToString::to_string).collect::<Vec<_>>()
    };
    assert_eq!(list("/"), ["dev", "proc", "program", "tmp"]);
    assert_eq!(list("/dev"), ["full", "null", "random", "tty", "urandom", "zero"]);
    assert_eq!(list("/tmp"), [""; 0]);
    assert_eq!(list("/proc/self/fd"), ["0", "1", "2", "3"], "the standard streams, and the listing");
}

#[test]
fn a_sys_that_was_asked_for_is_read_only_covered_and_of_its_own_network() {
    for isolation in [Isolation::container(), Isolation::container().with(Layer::User)] {
        for beside in [true, false] {
            let Some(config) = empty_container() else { return };
            let config = config.isolation(isolation).network_beside(beside).sys(true);
            let ran = |act: [&str; 2]| run(config.clone().args(act)).stdout;
            assert_eq!(ran(["list", "/sys/class/net"]), "lo\n", "{isolation}");
            // Whoever is not root outside does not own the file, which is looked at first.
            let refused =
                if is_root() { "open: Read-only file system\n" } else { "open: Permission denied\n" };
            assert_eq!(ran(["write", "/sys/kernel/profiling"]), refused);
            assert_eq!(ran(["list", "/sys/firmware"]), "");
        }
    }
}

#[test]
fn a_sys_without_a_network_of_its_own_is_refused() {
    let Some(config) = empty_container() else { return };
    let refused = config.isolation(Isolation::container().without(Layer::Net)).sys(true).prepare();
    assert!(matches!(refused, Err(PrepareError::NeedsLayer { what: "a /sys", .. })), "{refused:?}");
}

#[test]
fn its_proc_shows_only_its_own_processes() {
    let Some(config) = container(&["list", "/proc"]) else { return };
    let ran = run(config);
    let pids: Vec<_> = ran.lines().into_iter().filter(|name| name.parse::<u32>().is_ok()).collect();
    assert_eq!(pids, ["1"]);
}

#[test]
fn its_mounts_are_the_root_the_program_proc_and_tmp_and_nothing_of_the_host() {
    let Some(config) = container(&["show", "/proc/self/mountinfo"]) else { return };
    let ran = run(config);
    let points: BTreeSet<_> = ran.lines().into_iter().filter_map(|line| line.split(' ').nth(4)).collect();
    let own: BTreeSet<_> = if is_root() {
        BTreeSet::from(["/", "/program", "/proc", "/tmp"])
    } else {
        let devices = ["/dev/full", "/dev/null", "/dev/random", "/dev/tty", "/dev/urandom", "/dev/zero"];
        ["/", "/program", "/proc", "/tmp"].into_iter().chain(devices).collect()
    };
    assert_eq!(points, own);
    assert!(!ran.stdout.contains("shared:"), "no mount event reaches the host: {ran:?}");
}

#[test]
fn it_can_write_to_tmp_and_to_null_and_nowhere_else() {
    let Some(config) = empty_container() else { return };
    let write = |path: &str| run(config.clone().args(["write", path])).stdout;
    assert_eq!(write("/tmp/file"), "open: done\nwrite: done\n");
    assert_eq!(write("/dev/null"), "open: done\nwrite: done\n");
    assert_eq!(write("/dev/full"), "open: done\nwrite: No space left on device\n");
    for path in ["/file", "/dev/file", "/program", "/proc/sys/kernel/hostname", "/proc/sysrq-trigger"] {
        let refusal = write(path);
        assert!(refusal.starts_with("open: ") && !refusal.contains("done"), "{path}: {refusal}");
    }
}

#[test]
fn its_tmp_is_as_large_as_was_said() {
    let Some(config) = container(&["fill", "/tmp/file"]) else { return };
    let ran = run(config.tmp_bytes(1 << 20));
    let lines = ran.lines();
    assert_eq!(lines.first(), Some(&"write: No space left on device"));
    let written: u64 = lines.last().and_then(|n| n.parse().ok()).expect("a number");
    assert!((1 << 19..=1 << 20).contains(&written), "{written}");
}

#[test]
fn it_has_no_network() {
    let Some(config) = container(&["show", "/proc/self/net/dev"]) else { return };
    let ran = run(config);
    let names: Vec<_> = ran.stdout.lines().filter_map(|line| Some(line.split_once(':')?.0.trim())).collect();
    assert!(names.iter().all(|name| ["lo", "sit0", "tunl0", "ip6tnl0", "gre0"].contains(name)), "{names:?}");
    assert!(names.contains(&"lo"));
}

#[test]
fn it_keeps_the_engines_capabilities_and_no_more() {
    let Some(config) = empty_container() else { return };
    let ran = status_of(config);
    for set in ["CapPrm:", "CapEff:", "CapBnd:"] {
        assert_eq!(ran.field(set), "00000000800405fb", "{set}");
    }
    for set in ["CapInh:", "CapAmb:"] {
        assert_eq!(ran.field(set), "0000000000000000", "{set}");
    }
    assert_eq!(ran.field("NoNewPrivs:"), "1");
    assert_eq!(ran.field("Seccomp:"), "2");
}

#[test]
fn it_starts_with_no_signal_blocked_sigpipe_deadly_and_a_usual_umask() {
    for make in [native, container] {
        let Some(config) = make(&[]) else { return };
        let ran = status_of(config);
        assert_eq!(ran.field("SigBlk:"), "0000000000000000");
        let ignored = u64::from_str_radix(ran.field("SigIgn:"), 16).expect("a mask");
        // Rust's runtime ignores it in the caller.
        assert_eq!(ignored & 1 << (libc::SIGPIPE - 1), 0, "{ignored:x}");
    }
    let Some(config) = empty_container() else { return };
    assert_eq!(status_of(config).field("Umask:"), "0022");
}

#[test]
fn it_inherits_no_descriptor() {
    let inheritable = std::fs::File::open("/proc/version").expect("/proc is there");
    // SAFETY: fcntl with numbers only.
    let cleared = unsafe { libc::fcntl(std::os::fd::AsRawFd::as_raw_fd(&inheritable), libc::F_SETFD, 0) };
    assert_eq!(cleared, 0);
    for make in [native, container] {
        let Some(config) = make(&["open-descriptors"]) else { return };
        assert_eq!(run(config).stdout, "3\n");
    }
}

#[test]
fn what_containers_may_not_do_is_refused() {
    if !alone_as_anyone("what_containers_may_not_do_is_refused") {
        return;
    }
    let before = Traces::now();
    let Some(config) = container(&["refused"]) else { return };
    let ran = run(config);
    succeeded(&ran);
    let not_permitted = [
        "mount", "umount", "unshare", "setns", "clone", "mknod", "clock", "module", "reboot", "keyctl",
        "bpf", "hostname", "vsock",
    ];
    for call in not_permitted {
        assert_eq!(ran.field(&format!("{call}:")), "Operation not permitted", "{call}");
    }
    for call in ["clone3", "x32"] {
        assert_eq!(ran.field(&format!("{call}:")), "Function not implemented", "{call}");
    }
    assert_eq!(ran.field("sysctl:"), "Read-only file system");
    let program = if is_root() { "Text file busy" } else { "Permission denied" };
    assert_eq!(ran.field("program:"), program);
    // Where the kernel has it at all.
    let sysrq = ran.field("sysrq:");
    assert!(["Read-only file system", "No such file or directory"].contains(&sysrq), "{sysrq}");
    nothing_is_left(&before);
}

#[test]
fn each_layer_can_be_left_out() {
    let Some(config) = container(&["ready"]) else { return };
    for layer in Isolation::container().layers() {
        let without = config.clone().isolation(Isolation::container().without(layer));
        let ran = run(without);
        succeeded(&ran);
        assert_eq!(ran.stdout, "ready\n", "without {}", layer.name());
    }
}

#[test]
fn each_layer_can_be_had_by_itself() {
    let Some(config) = container(&["ready"]) else { return };
    for layer in Layer::ALL {
        let config = config.clone().isolation(Isolation::none().with(layer));
        match config.clone().prepare() {
            Err(refused @ PrepareError::TimeNamespace) => println!("skipped: {}: {refused}", layer.name()),
            _ => succeeded(&run(config)),
        }
    }
}

#[test]
fn a_layer_that_is_left_out_is_really_out() {
    let Some(config) = empty_container() else { return };
    let all = Isolation::container();
    let ran = status_of(config.clone().isolation(all.without(Layer::Seccomp)));
    assert_eq!(ran.field("Seccomp:"), "0");
    let ran = status_of(config.clone().isolation(all.without(Layer::NoNewPrivs)));
    assert_eq!(ran.field("NoNewPrivs:"), "0");
    let ran = run(config.isolation(all.without(Layer::Pid)).arg("who"));
    assert!(!ran.lines().contains(&"pid 1"), "{ran:?}");
}

#[test]
fn root_can_ask_for_a_user_namespace_and_is_then_nobody_outside() {
    let Some(config) = container(&["show", "/proc/self/uid_map"]) else { return };
    let ran = run(config.isolation(Isolation::container().with(Layer::User)));
    let map: Vec<_> = ran.stdout.split_whitespace().collect();
    // SAFETY: geteuid takes nothing and cannot fail.
    assert_eq!(map, ["0", &unsafe { libc::geteuid() }.to_string(), "1"]);
}

#[test]
fn no_way_leads_back_to_the_host() {
    if !alone_as_anyone("no_way_leads_back_to_the_host") {
        return;
    }
    let before = Traces::now();
    let Some(config) = container(&["escape"]) else { return };
    let ran = run(config);
    succeeded(&ran);
    let (nobody, nothing, refused) =
        ("No such process", "No such file or directory", "Operation not permitted");
    for (way, answer) in [
        ("ptrace", nobody),
        ("ptrace-init", refused),
        ("setns", refused),
        ("old-root", nothing),
        ("init-root", nothing),
        ("init-cwd", nothing),
        ("chroot-out", nothing),
    ] {
        assert_eq!(ran.field(&format!("{way}:")), answer, "{way}");
    }
    nothing_is_left(&before);
}

#[test]
fn every_namespace_is_its_own_and_only_those_that_were_asked_for() {
    const NAMESPACES: [(&str, Layer); 8] = [
        ("mnt", Layer::Mount),
        ("pid", Layer::Pid),
        ("net", Layer::Net),
        ("ipc", Layer::Ipc),
        ("uts", Layer::Uts),
        ("cgroup", Layer::Cgroup),
        ("user", Layer::User),
        ("time", Layer::Time),
    ];
    let paths = NAMESPACES.map(|(name, _)| format!("/proc/self/ns/{name}"));
    let Some(config) = container(&["links"]) else { return };
    let config = config.args(&paths);
    let outside = paths.each_ref().map(|path| std::fs::read_link(path).expect("a namespace"));
    let all = Isolation::container().with(Layer::User);
    let time =
        probe().layers.into_iter().find(|(layer, _)| *layer == Layer::Time).map(|(_, permission)| permission);
    let all = match time.as_ref().and_then(Permission::reason) {
        None => all.with(Layer::Time),
        Some(reason) => {
            println!("skipped: time namespaces: {reason}");
            all
        }
    };
    for isolation in [all, Isolation::container(), all.without(Layer::Net), all.without(Layer::Uts)] {
        let prepared = config.clone().isolation(isolation).prepare().expect("the config is good");
        let ran = run_prepared(&prepared);
        for (((name, layer), inside), outside) in NAMESPACES.into_iter().zip(ran.lines()).zip(&outside) {
            let own = outside.as_os_str() != inside;
            assert_eq!(own, prepared.isolation().has(layer), "{name}: {inside} of {isolation}");
        }
    }
}
