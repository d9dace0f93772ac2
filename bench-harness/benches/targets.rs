//! Start-up of each target, and the overhead workloads in each, by criterion. `compare` is the instrument for claims; this is
//! for watching a change while working on it: `cargo bench -p bench-harness --bench targets -- startup`.

#![allow(clippy::print_stderr, reason = "what is skipped is said")]
#![allow(missing_docs, reason = "criterion's macros make public items")]

use std::hint::black_box;
use std::time::Duration;

use bench_harness::runner::{Observed, Observer};
use bench_harness::target::{Prepared, Target, TargetKind, target};
use bench_harness::workload::{Image, Subject};
use criterion::{BenchmarkId, Criterion, SamplingMode, criterion_group, criterion_main};
use workloads::protocol::Line;
use workloads::{Invocation, Workload};

const MEM_MIB: u64 = 512;

/// Native length of one repetition: long beside the two marks, short enough for thirty cells in two minutes.
const REPETITION_MS: u64 = 4;

fn available() -> Vec<(TargetKind, Box<dyn Target>)> {
    let all = TargetKind::ALL.into_iter().map(|kind| (kind, target(kind)));
    all.filter(|(_, target)| target.probe().is_ok()).collect()
}

fn say_what_is_skipped(_: &mut Criterion) {
    for kind in TargetKind::ALL {
        if let Err(reason) = target(kind).probe() {
            eprintln!("skipped: {kind}: {reason}");
        }
    }
}

/// One launch from start to end; a failure ends the bench, with its reason.
fn launch(observer: &mut Observer, prepared: &dyn Prepared, subject: &Subject) -> Observed {
    match subject.launched(observer, prepared) {
        Ok(seen) => seen,
        Err(failure) => panic!("{}: {failure}", subject.name),
    }
}

fn observer() -> Observer {
    Observer::new(None, Duration::from_secs(30)).expect("pipes and memory for an observer")
}

fn image() -> Image {
    Image::ours().expect("memory for the program")
}

fn prepared(target: &dyn Target, subject: &Subject) -> Box<dyn Prepared> {
    target.prepare(&subject.launch(MEM_MIB)).expect("an available target can be prepared")
}

fn startup(criterion: &mut Criterion) {
    let (image, mut observer) = (image(), observer());
    let noop = Subject::ours(&image, &Invocation::of(&workloads::catalogue::all()[0]));
    for (metric, until) in [("ready", Observed::ready as fn(&Observed) -> u64), ("exit", Observed::exit)] {
        let mut group = criterion.benchmark_group(format!("startup/{metric}"));
        group
            .sampling_mode(SamplingMode::Flat)
            .warm_up_time(Duration::from_millis(300))
            .measurement_time(Duration::from_secs(2));
        for (kind, target) in available() {
            let prepared = prepared(&*target, &noop);
            group.bench_function(BenchmarkId::from_parameter(kind), |bencher| {
                bencher.iter_custom(|count| {
                    let launches = (0..count).map(|_| until(&launch(&mut observer, &*prepared, &noop)));
                    Duration::from_nanos(black_box(launches.sum()))
                });
            });
        }
        group.finish();
    }
}

/// Iterations that take about [`REPETITION_MS`] natively.
fn iterations(observer: &mut Observer, image: &Image, workload: &'static Workload) -> u64 {
    let calibrate = Invocation { calibrate_ms: Some(REPETITION_MS), ..Invocation::of(workload) };
    let subject = Subject::ours(image, &calibrate);
    let native = target(TargetKind::Native);
    let seen = launch(observer, &*prepared(&*native, &subject), &subject);
    let mut iterations = None;
    seen.for_each_line(|_, line| {
        if let Line::Sample { name: "iters", value, .. } = line {
            iterations = Some(value);
        }
    });
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "a count; the cast saturates"
    )]
    iterations.map_or(1, |value| value as u64)
}

fn overhead(criterion: &mut Criterion) {
    let (image, mut observer) = (image(), observer());
    for workload in workloads::catalogue::usual().filter(|workload| workload.name != "noop") {
        let iters = iterations(&mut observer, &image, workload);
        let mut group = criterion.benchmark_group(format!("overhead/{}", workload.name));
        group
            .sampling_mode(SamplingMode::Flat)
            .sample_size(10)
            .warm_up_time(Duration::from_millis(50))
            .measurement_time(Duration::from_millis(400));
        for (kind, target) in available() {
            if let Some(reason) = workload.needs.unmet_by(&target.capabilities(MEM_MIB)) {
                eprintln!("skipped: {} in {kind}: {reason}", workload.name);
                continue;
            }
            group.bench_function(BenchmarkId::from_parameter(kind), |bencher| {
                bencher.iter_custom(|count| {
                    let invocation =
                        Invocation { iters: Some(iters), reps: count, warmup: 1, ..Invocation::of(workload) };
                    let subject = Subject::ours(&image, &invocation);
                    let seen = launch(&mut observer, &*prepared(&*target, &subject), &subject);
                    measured_windows(&seen)
                });
            });
        }
        group.finish();
    }
}

/// Sum of the times between the begin and end marks of the repetitions that count.
fn measured_windows(seen: &Observed) -> Duration {
    let (mut began, mut sum) = (None, 0);
    seen.for_each_line(|at, line| match line {
        Line::Begin { warmup: false } => began = Some(at),
        Line::End => sum += began.take().map_or(0, |began: u64| at.saturating_sub(began)),
        _ => {}
    });
    Duration::from_nanos(sum)
}

/// Criterion draws with the plotters library, which in this workspace is built to bring its own font instead of searching
/// the machine for one. So one must be given to it, under the name that criterion asks for.
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
    targets = font, say_what_is_skipped, startup, overhead
}
criterion_main!(benches);
