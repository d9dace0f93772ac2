//! A Linux guest from outside: programs, their ends, and kernels that do not come to them.
//!
//! They need a KVM that runs kernels and one of the kernels that scripts/fetch-guest-kernel and
//! scripts/build-guest-kernel leave in the cache (or `GUEST_KERNEL`); without them they say so and skip.

#![expect(clippy::print_stdout, reason = "says why a test skips")]

use std::fs::File;
use std::io::{Read, Seek, Write};
use std::path::PathBuf;
use std::time::Duration;

use vm_backend::{Error, LinuxConfig, LinuxError, Outcome, Program, Status, Stdio};

/// Long: the processor itself may be emulated.
const PATIENCE: Duration = Duration::from_secs(120);
/// A static program that every host of these tests has: our own init would be one, a shell says more.
const BUSYBOX: [&str; 3] = ["/bin/busybox", "/usr/bin/busybox", "/busybox"];

fn kernel() -> Option<PathBuf> {
    if let Some(path) = std::env::var_os("GUEST_KERNEL") {
        return Some(path.into());
    }
    let base = std::env::var_os("XDG_CACHE_HOME").map(PathBuf::from);
    let base = base.or_else(|| Some(PathBuf::from(std::env::var_os("HOME")?).join(".cache")))?;
    ["small/vmlinux", "stock/vmlinuz"]
        .iter()
        .map(|name| base.join("bench-harness/kernels").join(name))
        .find(|path| path.exists())
}

/// Whether this host is QEMU without KVM, with several CPUs in turn: see "Hosts" in DESIGN.md.
fn delivers_interrupts_twice() -> bool {
    let leaf = std::arch::x86_64::__cpuid(0x4000_0000);
    let signature = [leaf.ebx, leaf.ecx, leaf.edx].map(u32::to_le_bytes).concat();
    signature == b"TCGTCGTCGTCG" && std::thread::available_parallelism().is_ok_and(|n| n.get() > 1)
}

/// A shell in a machine, or why there is none.
fn shell(script: &str) -> Option<LinuxConfig> {
    let skip = |why: String| {
        println!("skipped: {why}");
        None
    };
    match vm_backend::linux::probe::ring0() {
        Err(error) => return skip(error.to_string()),
        Ok(found) => {
            if let Err(reason) = found.supports_linux() {
                return skip(reason.to_string());
            }
        }
    }
    if delivers_interrupts_twice() {
        return skip(
            "QEMU's emulated SVM with several CPUs delivers interrupts of a guest twice (DESIGN.md)".into(),
        );
    }
    let Some(kernel) = kernel() else {
        return skip("no guest kernel; scripts/fetch-guest-kernel gets one".into());
    };
    let busybox = BUSYBOX.iter().map(PathBuf::from).find(|path| path.exists());
    let Some(busybox) = busybox else { return skip("no static busybox".into()) };
    let config = LinuxConfig::new(kernel, Program::Path(busybox))
        .guest_path("/bin/busybox")
        .args(["sh", "-c", script])
        .env("PATH", "/bin")
        .mem_mib(256);
    Some(config)
}

/// Runs it to its end: outcome, output and errors.
fn run(config: &LinuxConfig, input: &[u8]) -> (Result<Outcome, Error>, String, String) {
    let mut stdin = tempfile::tempfile().expect("a temporary file");
    stdin.write_all(input).and_then(|()| stdin.rewind()).expect("room for the input");
    let stdin = if input.is_empty() { File::open("/dev/null").expect("it is everywhere") } else { stdin };
    let (mut stdout, mut stderr) =
        (tempfile::tempfile().expect("a temporary file"), tempfile::tempfile().expect("a temporary file"));
    let machine = config.prepare().expect("a machine");
    let mut monitor = machine.spawn(Stdio::new(&stdin, &stdout, &stderr)).expect("a monitor");
    let outcome = monitor.wait(Some(PATIENCE)).map(|outcome| outcome.expect("it ends in time"));
    let read = |file: &mut File| {
        let mut text = String::new();
        file.rewind().and_then(|()| file.read_to_string(&mut text)).expect("what it wrote");
        text
    };
    (outcome, read(&mut stdout), read(&mut stderr))
}

#[test]
fn output_errors_and_exit_code_are_those_of_the_program() {
    let Some(config) = shell("echo out; echo err >&2; exit 7") else { return };
    let (outcome, stdout, stderr) = run(&config, b"");
    assert_eq!(outcome.expect("an outcome").status, Status::Exited(7));
    assert_eq!((stdout.as_str(), stderr.as_str()), ("out\n", "err\n"));
}

#[test]
fn input_arrives_to_its_end() {
    let Some(config) = shell("read a; read b; echo $b $a; read c || echo end") else { return };
    let (outcome, stdout, _) = run(&config, b"one\ntwo\n");
    assert_eq!(outcome.expect("an outcome").status, Status::Exited(0));
    assert_eq!(stdout, "two one\nend\n");
}

#[test]
fn a_signal_ends_the_program_as_everywhere() {
    let Some(config) = shell("kill -9 $$") else { return };
    let (outcome, ..) = run(&config, b"");
    assert_eq!(outcome.expect("an outcome").status, Status::Signaled { signal: 9, address: 0 });
}

#[test]
fn two_vcpus_are_two_processors() {
    let Some(config) = shell("while read a b; do case $a in processor) echo $a;; esac; done < /proc/cpuinfo")
    else {
        return;
    };
    let (outcome, stdout, _) = run(&config.vcpus(2), b"");
    assert_eq!(outcome.expect("an outcome").status, Status::Exited(0));
    assert_eq!(stdout, "processor\nprocessor\n");
}

#[test]
fn a_kernel_that_panics_is_an_error_with_its_last_words() {
    let Some(config) = shell("true") else { return };
    let (outcome, ..) = run(&config.cmdline_extra("rdinit=/nothing"), b"");
    let Err(Error::LinuxGuest { failure, log }) = outcome else { panic!("{outcome:?}") };
    assert!(failure.to_string().contains("panicked or reset"), "{failure}");
    assert!(log.contains("Kernel panic"), "{log}");
}

#[test]
fn what_is_no_kernel_is_refused_before_anything_runs() {
    let mut file = tempfile::NamedTempFile::new().expect("a temporary file");
    file.write_all(b"not a kernel").expect("room for it");
    let program = std::env::current_exe().expect("it runs");
    let error = LinuxConfig::new(file.path(), Program::Path(program)).prepare().expect_err("it is refused");
    assert!(matches!(error, Error::Linux(LinuxError::Kernel { .. })), "{error:?}");
}

#[test]
fn a_machine_has_at_least_one_vcpu_and_at_most_what_its_tables_name() {
    for asked in [0, 17, u32::MAX] {
        let config = LinuxConfig::new("/dev/null", Program::Path("/dev/null".into())).vcpus(asked);
        let error = config.prepare().expect_err("it is refused");
        assert!(matches!(error, Error::Linux(LinuxError::Vcpus { .. })), "{error:?}");
    }
}
