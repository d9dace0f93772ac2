//! What these tests share: a kernel, a shell in a machine, and running it.

use std::fs::File;
use std::io::{Read, Seek, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::time::Duration;

use vm_backend::{Error, LinuxConfig, Outcome, Program, Stdio};

/// Long: the processor itself may be emulated.
pub const PATIENCE: Duration = Duration::from_secs(120);
/// A static program that every host of these tests has: our own init would be one, a shell says more.
pub const BUSYBOX: [&str; 3] = ["/bin/busybox", "/usr/bin/busybox", "/busybox"];

pub fn kernel() -> Option<PathBuf> {
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

/// Why a test does not run.
pub fn skip<T>(why: impl std::fmt::Display) -> Option<T> {
    println!("skipped: {why}");
    None
}

/// A kernel and a busybox for tests that boot, or `None` once it is said why not.
pub fn machine() -> Option<(PathBuf, PathBuf)> {
    match vm_backend::linux::probe::ring0() {
        Err(error) => return skip(error),
        Ok(found) => {
            if let Err(reason) = found.supports_linux() {
                return skip(reason);
            }
        }
    }
    if delivers_interrupts_twice() {
        return skip(
            "QEMU's emulated SVM with several CPUs delivers interrupts of a guest twice (DESIGN.md)",
        );
    }
    let Some(kernel) = kernel() else {
        return skip("no guest kernel; scripts/fetch-guest-kernel gets one");
    };
    let busybox = BUSYBOX.iter().map(PathBuf::from).find(|path| path.exists());
    let Some(busybox) = busybox else { return skip("no static busybox") };
    Some((kernel, busybox))
}

/// A shell in a machine.
pub fn shell(script: &str) -> Option<LinuxConfig> {
    let (kernel, busybox) = machine()?;
    let config = LinuxConfig::new(kernel, Program::Path(busybox))
        .guest_path("/bin/busybox")
        .args(["sh", "-c", script])
        .env("PATH", "/bin")
        .mem_mib(256);
    Some(config)
}

/// Runs it to its end: outcome, output and errors.
pub fn run(config: &LinuxConfig, input: &[u8]) -> (Result<Outcome, Error>, String, String) {
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

/// An executable ELF file that consists of this code, to be loaded at 1 MiB and entered at its start: a kernel for its
/// 64-bit entry, and a program, too.
pub fn elf(code: &[u8]) -> Vec<u8> {
    const BASE: u64 = 0x10_0000;
    const CODE: u64 = 0x1000;
    let mut bytes = Vec::new();
    bytes.extend(b"\x7fELF\x02\x01\x01\0\0\0\0\0\0\0\0\0");
    // Executable, x86-64, version 1.
    bytes.extend([2, 0, 62, 0, 1, 0, 0, 0]);
    bytes.extend((BASE + CODE).to_le_bytes());
    // Program headers come at once, there are no sections.
    bytes.extend(64u64.to_le_bytes());
    bytes.extend([0; 12]);
    bytes.extend([64, 0, 56, 0, 1, 0, 64, 0, 0, 0, 0, 0]);
    // One segment: load, readable and executable.
    bytes.extend([1, 0, 0, 0, 5, 0, 0, 0]);
    let len = code.len() as u64;
    for field in [CODE, BASE + CODE, BASE + CODE, len, len, 0x1000] {
        bytes.extend(field.to_le_bytes());
    }
    bytes.resize(0x1000, 0);
    bytes.extend(code);
    bytes
}

/// An executable file with these bytes, kept as long as the result.
pub fn executable(bytes: &[u8]) -> tempfile::NamedTempFile {
    let mut file = tempfile::NamedTempFile::new().expect("a temporary file");
    file.write_all(bytes).expect("room for it");
    file.as_file().set_permissions(std::fs::Permissions::from_mode(0o755)).expect("it is ours");
    file
}
