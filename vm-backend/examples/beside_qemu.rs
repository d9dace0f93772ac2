//! How long until a guest's first mark: our monitor, and QEMU's `microvm` machine with the same kernel, initramfs and command line,
//! in turn. `beside_qemu KERNEL PROGRAM [ROUNDS]`.
//!
//! The mark is the first thing that our init does: it writes to a port. Our monitor notes when; QEMU has a device at that port
//! whose output is a pipe. Each is started anew for every round, and both are measured from before their process is made.

use std::error::Error;
use std::fs::File;
use std::io::Read;
use std::path::Path;
use std::process::{Command, Stdio as Stream};
use std::time::Duration;

use nix::time::{ClockId, clock_gettime};
use vm_backend::{LinuxConfig, LinuxVm, Program, Stdio};

/// MiB.
const MEMORY: u64 = 128;
/// Where our init rings (vm_abi::linux::DOORBELL).
const PORT: u16 = vm_abi::linux::DOORBELL;

fn now_ns() -> u64 {
    clock_gettime(ClockId::CLOCK_MONOTONIC)
        .map_or(0, |t| t.tv_sec().cast_unsigned() * 1_000_000_000 + t.tv_nsec().cast_unsigned())
}

/// Nanoseconds until the kernel has started init.
fn ours(machine: &LinuxVm) -> Result<u64, Box<dyn Error>> {
    let null = File::options().read(true).write(true).open("/dev/null")?;
    let start = now_ns();
    let mut monitor = machine.spawn(Stdio::new(&null, &null, &null))?;
    monitor.wait(Some(Duration::from_secs(120)))?.ok_or("it did not end")?;
    let mark = monitor.timeline().into_iter().find(|(name, _)| *name == "kernel_init");
    Ok(mark.ok_or("no mark")?.1.saturating_sub(start))
}

/// The same for QEMU: everything that its machine can do without is off.
fn qemus(kernel: &Path, initramfs: &Path, line: &str) -> Result<u64, Box<dyn Error>> {
    let (mut reader, writer) = std::io::pipe()?;
    let mut command = Command::new("qemu-system-x86_64");
    command
        .args(["-M", "microvm,accel=kvm,acpi=off,x-option-roms=off,isa-serial=off,pit=off,pic=off,rtc=off"])
        .args(["-cpu", "host", "-m", &MEMORY.to_string(), "-smp", "1"])
        .args(["-nodefaults", "-no-user-config", "-display", "none", "-no-reboot"])
        .arg("-kernel")
        .arg(kernel)
        .arg("-initrd")
        .arg(initramfs)
        .args(["-append", line])
        .args(["-chardev", "stdio,id=mark", "-device"])
        .arg(format!("isa-debugcon,iobase={PORT:#x},chardev=mark"))
        .stdin(Stream::null())
        .stdout(writer)
        .stderr(Stream::inherit());
    let start = now_ns();
    let mut child = command.spawn()?;
    // Its copy of the pipe's end goes with it: then a QEMU that ends without a mark is the end of the pipe.
    drop(command);
    let mut byte = [0];
    let read = reader.read(&mut byte);
    let mark = now_ns();
    child.kill()?;
    child.wait()?;
    match read? {
        1 => Ok(mark.saturating_sub(start)),
        _ => Err("QEMU ended without a mark".into()),
    }
}

fn median(mut times: Vec<u64>) -> f64 {
    times.sort_unstable();
    let at = |i: usize| times.get(i).copied().unwrap_or(0) as f64;
    (at((times.len() - 1) / 2) + at(times.len() / 2)) / 2e6
}

#[expect(clippy::print_stdout, reason = "an example for the terminal")]
fn main() -> Result<(), Box<dyn Error>> {
    let args: Vec<_> = std::env::args_os().skip(1).collect();
    let [kernel, program, rest @ ..] = args.as_slice() else {
        return Err("usage: beside_qemu KERNEL PROGRAM [ROUNDS]".into());
    };
    let rounds: u32 = rest.first().and_then(|n| n.to_str()?.parse().ok()).unwrap_or(10);
    let machine = LinuxConfig::new(kernel, Program::Path(program.into())).mem_mib(MEMORY).prepare()?;
    let initramfs = tempfile::NamedTempFile::new()?;
    std::fs::write(initramfs.path(), machine.initramfs()?)?;
    let line = machine.command_line();
    println!("kernel {}, {MEMORY} MiB, command line: {line}", Path::new(kernel).display());
    // Both once beforehand: what they read from disks is cached then.
    ours(&machine)?;
    qemus(kernel.as_ref(), initramfs.path(), line)?;
    let (mut own, mut other) = (Vec::new(), Vec::new());
    for round in 0..rounds {
        // Who comes first changes with the round.
        for turn in 0..2 {
            match (round + turn) % 2 {
                0 => own.push(ours(&machine)?),
                _ => other.push(qemus(kernel.as_ref(), initramfs.path(), line)?),
            }
        }
    }
    println!(
        "ours: {:.1} ms, QEMU microvm: {:.1} ms (medians of {rounds})",
        median(own.clone()),
        median(other.clone())
    );
    println!("ratio {:.3}", median(own) / median(other));
    Ok(())
}
