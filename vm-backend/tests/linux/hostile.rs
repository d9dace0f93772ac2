//! Kernels of a few bytes that do what a kernel should not. They run in ring 0 without Linux, so that any KVM will do.

use std::fs::File;
use std::process::Command;
use std::time::{Duration, Instant};

use nix::sys::resource::{Resource, setrlimit};
use vm_backend::{Error, LinuxConfig, Monitor, Program, Stdio};

use crate::common::{elf, executable, skip};

/// How long a guest that does not end is watched.
const WATCHED: Duration = Duration::from_millis(300);

/// Starts it, or says why that cannot be done here.
fn start(code: &[u8]) -> Option<Monitor> {
    start_with(code, |config| config)
}

/// The same with another machine.
fn start_with(code: &[u8], change: impl FnOnce(LinuxConfig) -> LinuxConfig) -> Option<Monitor> {
    if !std::path::Path::new("/dev/kvm").exists() {
        return skip("no /dev/kvm");
    }
    let file = executable(&elf(code));
    let config = LinuxConfig::new(file.path(), Program::Path(file.path().to_owned())).mem_mib(32);
    let machine = match change(config).prepare() {
        Ok(machine) => machine,
        Err(Error::Kvm(error)) => return skip(error),
        Err(error) => panic!("{error:?}"),
    };
    let null = File::options().read(true).write(true).open("/dev/null").expect("it is everywhere");
    Some(machine.spawn(Stdio::new(&null, &null, &null)).expect("a monitor"))
}

/// What the end of one that ends by itself says.
fn failure(code: &[u8]) -> Option<String> {
    let mut monitor = start(code)?;
    let error = monitor.wait(Some(Duration::from_secs(20))).expect_err("the program did not end");
    Some(error.to_string())
}

/// Watches one that does not end, at least until it has left the machine so often, and ends it; the exits until then.
fn watched(code: &[u8], least: u64) -> Option<u64> {
    let mut monitor = start(code)?;
    let begun = Instant::now();
    loop {
        assert!(monitor.wait(Some(WATCHED)).expect("no failure").is_none(), "it ended");
        // A busy host, or one whose processor is software, may take its time.
        if monitor.exits().total() >= least || begun.elapsed() > Duration::from_secs(20) {
            break;
        }
    }
    let (exits, pid) = (monitor.exits().total(), monitor.pid());
    let begun = Instant::now();
    drop(monitor);
    assert!(begun.elapsed() < Duration::from_secs(10), "{:?}", begun.elapsed());
    assert!(!std::path::Path::new(&format!("/proc/{pid}")).exists(), "the monitor is still there");
    Some(exits)
}

#[test]
fn every_kind_of_reset_is_an_end_so_that_no_guest_reboots_for_ever() {
    let cases: [(&str, &[u8]); 3] = [
        // mov al, 0xfe; out 0x64, al; hlt
        ("keyboard controller", &[0xb0, 0xfe, 0xe6, 0x64, 0xf4]),
        // mov dx, 0xcf9; mov al, 6; out dx, al; hlt
        ("chip set", &[0x66, 0xba, 0xf9, 0x0c, 0xb0, 0x06, 0xee, 0xf4]),
        // ud2, with no table of exceptions
        ("triple fault", &[0x0f, 0x0b]),
    ];
    for (name, code) in cases {
        let Some(said) = failure(code) else { return };
        assert!(said.contains("reset") || said.contains("no meaning here"), "{name}: {said}");
    }
}

#[test]
fn a_guest_that_hangs_is_ended_with_its_monitor() {
    // cli; hlt; and jmp to itself.
    for code in [&[0xfa, 0xf4][..], &[0xeb, 0xfe]] {
        let Some(exits) = watched(code, 0) else { return };
        assert!(exits < 100, "{exits}");
    }
}

#[test]
fn a_machine_that_gets_only_some_of_its_threads_is_a_failure_and_does_not_wait_for_them() {
    /// Set for the test that this one starts: the limit holds for a whole process.
    const LIMITED: &str = "VM_BACKEND_TEST_LIMITED";
    const STACK: u64 = 128 << 20;
    if std::env::var_os(LIMITED).is_some() {
        let size = std::fs::read_to_string("/proc/self/statm").expect("our own size");
        let pages: u64 = size.split(' ').next().and_then(|pages| pages.parse().ok()).expect("a number");
        // Room for the machine and for the stacks of a few threads, but not of fifteen.
        let limit = pages * 4096 + 5 * STACK;
        setrlimit(Resource::RLIMIT_AS, limit, limit).expect("a lower limit");
        // cli; hlt: none of them comes to an end of its own.
        let Some(mut monitor) = start_with(&[0xfa, 0xf4], |config| config.vcpus(16)) else { return };
        let ended = monitor.wait(Some(Duration::from_secs(20))).expect_err("it runs, or waits for ever");
        assert!(ended.to_string().contains("starting the thread of a vCPU"), "{ended}");
        println!("refused");
        return;
    }
    let name =
        "hostile::a_machine_that_gets_only_some_of_its_threads_is_a_failure_and_does_not_wait_for_them";
    let output = Command::new(std::env::current_exe().expect("it runs"))
        .args(["--exact", name, "--nocapture", "--test-threads", "1"])
        .env(LIMITED, "1")
        .env("RUST_MIN_STACK", STACK.to_string())
        .output()
        .expect("it can be started again");
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{said}{}", String::from_utf8_lossy(&output.stderr));
    assert!(said.contains("refused") || said.contains("skipped: "), "{said}");
}

#[test]
fn a_flood_of_marks_changes_nothing_and_ends_with_the_monitor() {
    // mov dx, 0x5e0; again: mov al, N; out dx, al; jmp again
    for mark in [1, 2, 3, 4, 99] {
        let Some(exits) = watched(&[0x66, 0xba, 0xe0, 0x05, 0xb0, mark, 0xee, 0xeb, 0xfb], 11) else {
            return;
        };
        assert!(exits > 10, "{mark}: {exits}");
    }
}

#[test]
fn marks_of_an_end_that_never_was_are_taken_at_their_word() {
    // mov dx, 0x5e0; mov al, 5 (ended), status 0; out dx, al
    let Some(mut monitor) = start(&[0x66, 0xba, 0xe0, 0x05, 0xb0, 5, 0xee, 0xf4]) else { return };
    let outcome = monitor.wait(Some(Duration::from_secs(20))).expect("an outcome").expect("in time");
    assert_eq!(outcome.status, vm_backend::Status::Exited(0));
    // The same with 6 (failed): a step that has no name.
    let Some(said) = failure(&[0x66, 0xba, 0xe0, 0x05, 0xb0, 6, 0xee, 0xf4]) else { return };
    assert!(said.contains("could not name"), "{said}");
}

#[test]
fn a_flood_on_the_console_keeps_its_end_only() {
    // mov dx, 0x3f8; mov al, 'x'; again: out dx, al; jmp again
    let Some(mut monitor) = start(&[0x66, 0xba, 0xf8, 0x03, 0xb0, b'x', 0xee, 0xeb, 0xfd]) else { return };
    let begun = Instant::now();
    while monitor.exits().total() < 20 && begun.elapsed() < Duration::from_secs(20) {
        assert!(monitor.wait(Some(WATCHED)).expect("no failure").is_none());
    }
    let log = monitor.kernel_log().expect("a log");
    assert!(log.len() <= 32 << 10 && log.len() > 10, "{}", log.len());
    assert!(log.bytes().all(|b| b == b'x'));
}

#[test]
fn registers_of_devices_that_are_not_there_read_as_an_empty_bus() {
    // mov ebx, 0xd0100000; mov eax, [rbx]; inc eax; jnz +7; mov dx, 0x5e0; mov al, 5; out dx, al; hlt
    let code = [
        0xbb, 0x00, 0x00, 0x10, 0xd0, 0x8b, 0x03, 0xff, 0xc0, 0x75, 0x07, 0x66, 0xba, 0xe0, 0x05, 0xb0, 5,
        0xee, 0xf4,
    ];
    let Some(mut monitor) = start(&code) else { return };
    let outcome = monitor.wait(Some(Duration::from_secs(20))).expect("an outcome").expect("in time");
    assert_eq!(outcome.status, vm_backend::Status::Exited(0));
}
