//! What each layer of isolation adds to a start: `ladder PROGRAM [ROUNDS]`, PROGRAM a static one that writes and ends.
//!
//! Every layer is taken away from a whole container in turn, all of them interleaved; medians in microseconds.
#![expect(clippy::print_stdout, reason = "an example that talks")]

use std::io::Read;
use std::os::fd::AsFd;

use container_backend::{Config, Isolation, Prepared, Program, Stdio, Stream, monotonic_ns};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut args = std::env::args_os().skip(1);
    let program = Program::path(args.next().ok_or("usage: ladder PROGRAM [ROUNDS]")?);
    let rounds: usize = args.next().map_or(Ok(200), |n| n.to_string_lossy().parse())?;
    let whole = Isolation::container();
    let mut kinds = vec![("bare".to_owned(), Isolation::none()), ("container".to_owned(), whole)];
    kinds.extend(whole.layers().map(|layer| (format!("without {}", layer.name()), whole.without(layer))));
    let mut subjects = Vec::new();
    for (name, isolation) in kinds {
        let prepared = Config::new(program.clone()).isolation(isolation).prepare()?;
        subjects.push((name, prepared, Vec::new()));
    }
    for _ in 0..rounds {
        for (_, prepared, ready) in &mut subjects {
            ready.push(start(prepared)?);
        }
    }
    for (name, _, ready) in &mut subjects {
        ready.sort_unstable();
        let at = |percent: usize| ready.get(ready.len() * percent / 100).map_or(0.0, |&ns| ns as f64 / 1e3);
        println!("{name:22} min {:7.0}  median {:7.0}  p95 {:7.0}", at(0), at(50), at(95));
    }
    Ok(())
}

fn start(prepared: &Prepared) -> Result<u64, Box<dyn std::error::Error>> {
    let start = monotonic_ns();
    let (mut reader, writer) = std::io::pipe()?;
    let mut process = prepared.spawn(Stdio::null().stdout(Stream::Fd(writer.as_fd())))?;
    drop(writer);
    reader.read_exact(&mut [0])?;
    let ready = monotonic_ns() - start;
    process.wait(None)?;
    Ok(ready)
}
