//! Runs a static program once and says on standard error how it went:
//! `cargo run --release -p vm-backend --example run_in_vm -- PROGRAM [ARGS...]`.

#![expect(clippy::print_stderr, reason = "an example for a terminal")]

use nix::time::{ClockId, clock_gettime};
use vm_backend::{Program, Status, Stdio, VmConfig};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut args = std::env::args_os().skip(1);
    let program = args.next().ok_or("usage: run_in_vm PROGRAM [ARGS...]")?;
    let vm = VmConfig::new(Program::Path(program.into())).args(args).prepare()?;
    let (stdin, stdout, stderr) = (std::io::stdin(), std::io::stdout(), std::io::stderr());
    let start = clock_gettime(ClockId::CLOCK_MONOTONIC)?;
    let mut last = u64::try_from(start.tv_sec() * 1_000_000_000 + start.tv_nsec())?;
    let mut monitor = vm.spawn(Stdio::new(&stdin, &stdout, &stderr))?;
    let outcome = monitor.wait(None)?.ok_or("it ended")?;
    for (phase, end) in monitor.timeline() {
        eprintln!("{phase:>10} {:>8} ns", end.saturating_sub(last));
        last = end;
    }
    eprintln!("{:>10} {:>8} ns", "run", outcome.ended_ns.saturating_sub(last));
    eprintln!("{:>10} {:>8} ns", "teardown", outcome.reaped_ns.saturating_sub(outcome.ended_ns));
    eprintln!(
        "{} exits: {:?}; {} slots; not served: {:?}",
        outcome.exits.total(),
        outcome.exits,
        outcome.slots,
        outcome.unserved
    );
    match outcome.status {
        Status::Exited(code) => std::process::exit(code),
        Status::Signaled { signal, address } => {
            eprintln!("signal {signal} at {address:#x}");
            std::process::exit(128 + signal)
        }
    }
}
