//! Runs a static program once: `run_once [LAYERS|none|container] PROGRAM [ARGS...]`.
#![expect(clippy::print_stderr, reason = "an example that talks")]

use std::process::ExitCode;

use container_backend::{Config, Isolation, Layer, Program, Stdio, monotonic_ns};

fn main() -> ExitCode {
    match run() {
        Ok(code) => ExitCode::from(code),
        Err(error) => {
            let mut text = error.to_string();
            let mut source = error.source();
            while let Some(cause) = source {
                text = format!("{text}: {cause}");
                source = cause.source();
            }
            eprintln!("run_once: {text}");
            ExitCode::from(125)
        }
    }
}

fn run() -> Result<u8, Box<dyn std::error::Error>> {
    let mut args = std::env::args_os().skip(1);
    let layers = args.next().ok_or("usage: run_once none|container|LAYER,LAYER... PROGRAM [ARGS...]")?;
    let program = args.next().ok_or("no program given")?;
    let isolation = match layers.to_string_lossy().as_ref() {
        "none" => Isolation::none(),
        "container" => Isolation::container(),
        list => list.split(',').try_fold(Isolation::none(), |set, name| {
            Layer::from_name(name).map(|layer| set.with(layer)).ok_or(format!("there is no layer {name:?}"))
        })?,
    };
    let config =
        Config::new(Program::path(program)).args(args).envs(std::env::vars_os()).isolation(isolation);
    let prepared = config.prepare()?;
    let start = monotonic_ns();
    let mut process = prepared.spawn(Stdio::inherit())?;
    let exit = process.wait(None)?.ok_or("waited for ever, and yet it runs")?;
    for (phase, ns) in process.timeline().phases(start) {
        eprintln!("{phase:>12} {:8.1} us", ns as f64 / 1e3);
    }
    eprintln!("{:>12} {:8.1} us", "to the end", (exit.gone_ns - start) as f64 / 1e3);
    Ok(u8::try_from(exit.status.code()).unwrap_or(125))
}
