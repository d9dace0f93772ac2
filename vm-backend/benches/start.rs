//! Start of a machine with the built-in guest, whole and phase by phase: `cargo bench -p vm-backend`.
//!
//! Criterion times start to first byte, and start to gone; the phases of the same starts are printed as medians below.

#![expect(clippy::print_stdout, clippy::print_stderr, reason = "a bench reports on the terminal")]
#![allow(missing_docs, reason = "criterion's macros write undocumented functions")]

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Read;
use std::os::fd::OwnedFd;
use std::process::Command;
use std::time::{Duration, Instant};

use criterion::{Criterion, SamplingMode, criterion_group, criterion_main};
use nix::time::{ClockId, clock_gettime};
use vm_backend::{Program, Stdio, Vm, VmConfig};

fn now() -> u64 {
    clock_gettime(ClockId::CLOCK_MONOTONIC)
        .map_or(0, |t| t.tv_sec().cast_unsigned() * 1_000_000_000 + t.tv_nsec().cast_unsigned())
}

/// A static C program that says "ready" and ends, made with the machine's C compiler.
fn noop(folder: &std::path::Path) -> Option<std::path::PathBuf> {
    let (source, program) = (folder.join("noop.c"), folder.join("noop"));
    std::fs::write(
        &source,
        "#include <unistd.h>\nint main(void) { return write(1, \"ready\\n\", 6) != 6; }\n",
    )
    .ok()?;
    let built = Command::new("cc").args(["-O2", "-static", "-o"]).arg(&program).arg(&source).status().ok()?;
    built.success().then_some(program)
}

#[derive(Default)]
struct Phases {
    order: Vec<&'static str>,
    times: BTreeMap<&'static str, Vec<u64>>,
}

impl Phases {
    fn add(&mut self, name: &'static str, ns: u64) {
        if !self.order.contains(&name) {
            self.order.push(name);
        }
        self.times.entry(name).or_default().push(ns);
    }

    fn print(&mut self) {
        println!("\nmedian (min) of each phase, microseconds:");
        for name in &self.order {
            if let Some(times) = self.times.get_mut(name) {
                times.sort_unstable();
                println!("  {name:<12} {:>8} ({})", times[times.len() / 2] / 1000, times[0] / 1000);
            }
        }
    }
}

/// One start; time to the first byte and until the machine is gone.
fn start(vm: &Vm, null: &File, phases: &mut Phases) -> Option<(Duration, Duration)> {
    let (read, write) = nix::unistd::pipe().ok()?;
    let mut read = File::from(read);
    let begin = now();
    let clock = Instant::now();
    let mut monitor = vm.spawn(Stdio::new(null, &write, null)).ok()?;
    drop::<OwnedFd>(write);
    let mut byte = [0; 16];
    let got = read.read(&mut byte).ok()?;
    let ready = clock.elapsed();
    let ready_at = now();
    let outcome = monitor.wait(None).ok()??;
    let gone = clock.elapsed();
    assert_eq!(&byte[..got], b"ready\n");
    let mut last = begin;
    for (name, end) in monitor.timeline().into_iter().chain([("guest_ready", ready_at)]) {
        phases.add(name, end - last);
        last = end;
    }
    phases.add("= ready", ready_at - begin);
    phases.add("teardown", outcome.reaped_ns - outcome.ended_ns);
    Some((ready, gone))
}

fn bench(c: &mut Criterion) {
    if let Err(reason) = vm_backend::probe() {
        eprintln!("skipped: {reason}");
        return;
    }
    let Ok(folder) = tempfile::tempdir() else { return };
    let Some(program) = noop(folder.path()) else {
        eprintln!("skipped: no C compiler that links statically");
        return;
    };
    let vm = VmConfig::new(Program::Path(program)).prepare().expect("a static program");
    let null = File::options().read(true).write(true).open("/dev/null").expect("/dev/null");
    let mut phases = Phases::default();
    let mut group = c.benchmark_group("vm");
    group.sampling_mode(SamplingMode::Flat).sample_size(50).measurement_time(Duration::from_secs(4));
    for (name, whole) in [("ready", false), ("exit", true)] {
        group.bench_function(name, |b| {
            b.iter_custom(|n| {
                (0..n)
                    .map(|_| start(&vm, &null, &mut phases).expect("a start"))
                    .map(|(ready, gone)| if whole { gone } else { ready })
                    .sum()
            });
        });
    }
    group.finish();
    phases.print();
}

/// Criterion draws with plotters, which in this workspace is built to bring its own font instead of searching the machine
/// for one: it must be given one, under the name that criterion asks for.
fn font(_: &mut Criterion) {
    use plotters::style::{FontStyle, register_font};
    if register_font("sans-serif", FontStyle::Normal, epaint_default_fonts::UBUNTU_LIGHT).is_err() {
        eprintln!("the font for criterion's charts cannot be read");
    }
}

criterion_group! {
    name = benches;
    // Criterion's 100,000 resamples, each of them a point of a density to draw, take ten times as long as these samples do.
    config = Criterion::default().nresamples(5_000);
    targets = font, bench
}
criterion_main!(benches);
