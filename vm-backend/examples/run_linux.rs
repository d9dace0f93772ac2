//! Runs a static program once under a Linux kernel: `run_linux KERNEL PROGRAM [ARGS...]`, and prints the timeline.
//!
//! `VCPUS`, `MEM` (MiB), `CMDLINE` and `CONSOLE` in the environment change the machine.

use std::process::ExitCode;

use vm_backend::{LinuxConfig, Program, Status, Stdio};

fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok()
}

#[expect(clippy::print_stderr, reason = "an example for the terminal")]
fn main() -> ExitCode {
    let mut args = std::env::args_os().skip(1);
    let (Some(kernel), Some(program)) = (args.next(), args.next()) else {
        eprintln!("usage: run_linux KERNEL PROGRAM [ARGS...]");
        return ExitCode::from(2);
    };
    let config = LinuxConfig::new(kernel, Program::Path(program.into()))
        .args(args)
        .env("PATH", "/bin")
        .mem_mib(variable("MEM").and_then(|m| m.parse().ok()).unwrap_or(256))
        .vcpus(variable("VCPUS").and_then(|m| m.parse().ok()).unwrap_or(1))
        .cmdline_extra(&variable("CMDLINE").unwrap_or_default())
        .console(variable("CONSOLE").is_some());
    let outcome = config.prepare().and_then(|machine| {
        let start = nix::time::clock_gettime(nix::time::ClockId::CLOCK_MONOTONIC)
            .map_or(0, |t| t.tv_sec().cast_unsigned() * 1_000_000_000 + t.tv_nsec().cast_unsigned());
        let (stdin, stdout, stderr) = (std::io::stdin(), std::io::stdout(), std::io::stderr());
        let mut monitor = machine.spawn(Stdio::new(&stdin, &stdout, &stderr))?;
        let timeout = variable("TIMEOUT").and_then(|t| t.parse().ok()).unwrap_or(60);
        let outcome = monitor.wait(Some(std::time::Duration::from_secs(timeout)));
        let mut before = start;
        for (name, end) in monitor.timeline() {
            eprintln!("{name:18} {:10} us", end.saturating_sub(before) / 1000);
            before = end;
        }
        eprintln!("exits: {:?}", monitor.exits());
        if let Ok(None) = outcome {
            eprintln!("it still runs; its log: {}", monitor.kernel_log().unwrap_or_default());
        }
        outcome
    });
    match outcome {
        Ok(Some(outcome)) => match outcome.status {
            Status::Exited(code) => ExitCode::from(u8::try_from(code).unwrap_or(255)),
            Status::Signaled { .. } => ExitCode::from(128),
        },
        Ok(None) => ExitCode::from(124),
        Err(error) => {
            let mut next: Option<&dyn std::error::Error> = Some(&error);
            while let Some(error) = next {
                eprintln!("{error}");
                next = error.source();
            }
            ExitCode::from(125)
        }
    }
}
