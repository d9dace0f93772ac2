//! What a start takes: bare, in a container, with limits, as a user namespace; and beside it the least C that does it.
//!
//! `cargo bench -p container-backend`. First a table of all of them in turn (so that a disturbance meets each alike) with
//! the phases and the ratio to the floor, then criterion's own figures of each by itself.
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "a bench talks")]
#![allow(missing_docs, reason = "criterion's macros make undocumented functions")]

use std::ffi::{CStr, CString, c_char, c_int, c_void};
use std::io::Read;
use std::os::fd::AsFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use container_backend::{
    Config, Isolation, Layer, Limits, Prepared, Program, Stdio, Stream, monotonic_ns, probe,
};
use criterion::{BatchSize, Criterion, SamplingMode, criterion_group, criterion_main};

/// Starts of each kind in the table.
const ROUNDS: usize = 300;
/// Starts of each kind that are not counted: caches, the first fault of every page.
const WARM_UP: usize = 20;

/// What one start took, from the reading of the clock before it.
#[derive(Clone)]
struct Sample {
    ready_ns: u64,
    gone_ns: u64,
    phases: Vec<(&'static str, u64)>,
}

/// Something that can be started again and again.
struct Subject {
    name: &'static str,
    start: Box<dyn Fn() -> Sample>,
}

/// A prepared instance, from before the pipe is made to the first byte, and to the end.
fn start(prepared: &Prepared) -> Sample {
    let start = monotonic_ns();
    let (mut reader, writer) = std::io::pipe().expect("a pipe");
    let mut process = prepared.spawn(Stdio::null().stdout(Stream::Fd(writer.as_fd()))).expect("it starts");
    drop(writer);
    let mut byte = [0];
    reader.read_exact(&mut byte).expect("the program says ready");
    let ready = monotonic_ns();
    let exit = process.wait(None).expect("it can be waited for").expect("it ends");
    assert!(exit.status.success(), "{exit:?}");
    let mut phases = process.timeline().phases(start);
    let last = process.timeline().marks().last().map_or(start, |mark| mark.1);
    phases.push(("ready", ready.saturating_sub(last)));
    Sample { ready_ns: ready - start, gone_ns: exit.gone_ns - start, phases }
}

type FloorStart =
    unsafe extern "C" fn(*const c_char, *const c_char, c_int, c_int, *mut u64, *mut u64) -> c_int;

/// The C beside which everything here is measured.
#[derive(Clone)]
struct Floor {
    start: FloorStart,
    root: CString,
    program: CString,
}

impl Floor {
    /// Compiles and loads it, with a root folder that holds the program.
    fn new(dir: &Path, noop: &Path) -> Option<Self> {
        let library = dir.join("floor.so");
        compile(&["-O2", "-fPIC", "-shared"], "floor.c", &library)?;
        let root = dir.join("root");
        std::fs::create_dir(&root).ok()?;
        std::fs::copy(noop, root.join("program")).ok()?;
        let library = CString::new(library.as_os_str().as_bytes()).ok()?;
        // SAFETY: a C string; loading runs no code of the library but its empty constructors.
        let handle: *mut c_void = unsafe { libc::dlopen(library.as_ptr(), libc::RTLD_NOW) };
        if handle.is_null() {
            return None;
        }
        // SAFETY: an open library and a C string. It is never closed, so the function stays.
        let function = unsafe { libc::dlsym(handle, c"floor_start".as_ptr()) };
        if function.is_null() {
            return None;
        }
        // SAFETY: floor.c defines `floor_start` with exactly this signature.
        let start = unsafe { std::mem::transmute::<*mut c_void, FloorStart>(function) };
        Some(Self {
            start,
            root: CString::new(root.as_os_str().as_bytes()).ok()?,
            program: c"/program".into(),
        })
    }

    fn start(&self, program: &CStr, flags: c_int, own_root: bool) -> Sample {
        let (mut ready_ns, mut gone_ns) = (0, 0);
        let (ready, ended) = (&raw mut ready_ns, &raw mut gone_ns);
        // SAFETY: two C strings and two places for a number, as the function's comment in floor.c says.
        let error = unsafe {
            (self.start)(self.root.as_ptr(), program.as_ptr(), flags, c_int::from(own_root), ready, ended)
        };
        assert_eq!(error, 0, "the floor fails: {}", std::io::Error::from_raw_os_error(error));
        Sample { ready_ns, gone_ns, phases: Vec::new() }
    }
}

fn compile(flags: &[&str], source: &str, out: &Path) -> Option<()> {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("benches").join(source);
    let done = Command::new("cc").args(flags).arg("-o").arg(out).arg(source).status();
    done.is_ok_and(|status| status.success()).then_some(())
}

/// The namespaces of the container that this caller gets.
fn namespaces(isolation: Isolation) -> c_int {
    let flag = |layer| match layer {
        Layer::Mount => libc::CLONE_NEWNS,
        Layer::Pid => libc::CLONE_NEWPID,
        Layer::Net => libc::CLONE_NEWNET,
        Layer::Ipc => libc::CLONE_NEWIPC,
        Layer::Uts => libc::CLONE_NEWUTS,
        Layer::Cgroup => libc::CLONE_NEWCGROUP,
        Layer::User => libc::CLONE_NEWUSER,
        _ => 0,
    };
    isolation.layers().fold(0, |flags, layer| flags | flag(layer))
}

/// Everything that is measured, and where its files are.
fn subjects(dir: &Path) -> Vec<Subject> {
    let noop = dir.join("noop");
    if compile(&["-O1", "-static"], "noop.c", &noop).is_none() {
        println!("skipped: no C compiler with a static libc");
        return Vec::new();
    }
    std::fs::set_permissions(&noop, PermissionsExt::from_mode(0o755)).expect("changed");
    let prepare = |isolation: Isolation, limits: Limits| {
        let config = Config::new(Program::path(&noop)).isolation(isolation).limits(limits);
        config.prepare().expect("the config is good")
    };
    let mut subjects = Vec::new();
    let mut add = |name, prepared: Prepared| {
        subjects.push(Subject { name, start: Box::new(move || start(&prepared)) });
    };
    let host = probe();
    add("bare", prepare(Isolation::none(), Limits::none()));
    if let Some(reason) = host.container.reason() {
        println!("skipped: no containers here: {reason}");
        return subjects;
    }
    let container = prepare(Isolation::container(), Limits::none());
    let isolation = container.isolation();
    add("container", container);
    let one_by_one =
        Config::new(Program::path(&noop)).isolation(Isolation::container()).network_beside(false);
    add("container, net in turn", one_by_one.prepare().expect("the config is good"));
    let with_sys = Config::new(Program::path(&noop)).isolation(Isolation::container()).sys(true);
    add("container, /sys", with_sys.prepare().expect("the config is good"));
    add("container, no net", prepare(Isolation::container().without(Layer::Net), Limits::none()));
    add("container + user", prepare(Isolation::container().with(Layer::User), Limits::none()));
    let mut limits = Limits::none().memory_bytes(64 << 20).pids(64);
    // SAFETY: takes a number. Under a real-time policy (`chrt -f 50`, against the noise of a busy machine) nothing can join a
    // group with a CPU limit.
    if unsafe { libc::sched_getscheduler(0) } == libc::SCHED_OTHER {
        limits = limits.cpu_millis(1000);
    }
    let limited = prepare(Isolation::container(), limits);
    match limited.limits_unavailable() {
        None => add("container + limits", limited),
        Some(reason) => println!("skipped: no limits here: {reason}"),
    }
    let Some(floor) = Floor::new(dir, &noop) else {
        println!("skipped: the floor could not be built");
        return subjects;
    };
    let vfork = libc::CLONE_VM | libc::CLONE_VFORK;
    let bare = CString::new(noop.as_os_str().as_bytes()).expect("a path of ours");
    let (one, two, three) = (floor.clone(), floor.clone(), floor);
    subjects.push(Subject { name: "floor, bare", start: Box::new(move || one.start(&bare, vfork, false)) });
    let flags = namespaces(isolation);
    let inside = two.program.clone();
    subjects.push(Subject { name: "floor", start: Box::new(move || two.start(&inside, flags, true)) });
    let inside = three.program.clone();
    let start = move || three.start(&inside, flags | vfork, true);
    subjects.push(Subject { name: "floor, shared memory", start: Box::new(start) });
    subjects
}

/// Quantile of sorted values, by the nearest rank.
fn quantile(sorted: &[u64], percent: usize) -> u64 {
    sorted.get((sorted.len() * percent / 100).min(sorted.len().saturating_sub(1))).copied().unwrap_or(0)
}

/// The table: all in turn.
fn table(subjects: &[Subject]) {
    let mut samples: Vec<Vec<Sample>> = vec![Vec::new(); subjects.len()];
    for round in 0..WARM_UP + ROUNDS {
        for (subject, samples) in subjects.iter().zip(&mut samples) {
            let sample = (subject.start)();
            if round >= WARM_UP {
                samples.push(sample);
            }
        }
    }
    let us = |ns: u64| ns as f64 / 1e3;
    let sorted = |values: &dyn Fn(&Sample) -> u64, samples: &[Sample]| {
        let mut values: Vec<u64> = samples.iter().map(values).collect();
        values.sort_unstable();
        values
    };
    println!("{ROUNDS} starts of each in turn, microseconds");
    println!("{:22} {:>8} {:>8} {:>8} {:>8}   phases (median)", "", "min", "ready", "p95", "gone");
    let mut medians = Vec::new();
    for (subject, samples) in subjects.iter().zip(&samples) {
        let ready = sorted(&|sample| sample.ready_ns, samples);
        let gone = quantile(&sorted(&|sample| sample.gone_ns, samples), 50);
        let (least, median, p95) = (quantile(&ready, 0), quantile(&ready, 50), quantile(&ready, 95));
        medians.push((subject.name, median, least));
        let phase = |(index, &(name, _)): (usize, &(&'static str, u64))| {
            let values = sorted(&|sample| sample.phases.get(index).map_or(0, |phase| phase.1), samples);
            format!("{name} {:.0}", us(quantile(&values, 50)))
        };
        let phases =
            samples.first().map(|sample| sample.phases.iter().enumerate().map(phase).collect::<Vec<_>>());
        let phases = phases.unwrap_or_default().join(", ");
        println!(
            "{:22} {:8.0} {:8.0} {:8.0} {:8.0}   {phases}",
            subject.name,
            us(least),
            us(median),
            us(p95),
            us(gone)
        );
    }
    let of = |name: &str| {
        medians.iter().find(|(other, ..)| *other == name).map(|&(_, median, least)| (median, least))
    };
    for (ours, theirs) in [
        ("container", "floor"),
        ("container", "floor, shared memory"),
        ("bare", "floor, bare"),
        ("container + limits", "container"),
    ] {
        if let (Some(a), Some(b)) = (of(ours), of(theirs)) {
            let ratio = |a: u64, b: u64| a as f64 / b as f64;
            println!(
                "ready, {ours} over {theirs}: median {:.2}, min {:.2}",
                ratio(a.0, b.0),
                ratio(a.1, b.1)
            );
        }
    }
}

fn bench(criterion: &mut Criterion) {
    let dir = tempfile::tempdir().expect("a folder");
    std::fs::set_permissions(dir.path(), PermissionsExt::from_mode(0o755)).expect("changed");
    let path: PathBuf = dir.path().to_owned();
    let subjects = subjects(&path);
    // Only `cargo bench` measures; `cargo test --benches` just sees that everything runs.
    if std::env::args().any(|arg| arg == "--bench") {
        table(&subjects);
    }
    let mut group = criterion.benchmark_group("start");
    group.sampling_mode(SamplingMode::Flat).sample_size(50);
    group.warm_up_time(Duration::from_millis(300)).measurement_time(Duration::from_secs(2));
    for subject in &subjects {
        group.bench_function(subject.name, |bencher| {
            bencher.iter_custom(|iterations| {
                (0..iterations).map(|_| Duration::from_nanos((subject.start)().ready_ns)).sum()
            });
        });
    }
    group.finish();
    let mut group = criterion.benchmark_group("prepare");
    group.warm_up_time(Duration::from_millis(300)).measurement_time(Duration::from_secs(1));
    let config = || Config::new(Program::path(path.join("noop"))).isolation(Isolation::container());
    group.bench_function("container", |bencher| {
        bencher.iter_batched(
            config,
            |config| config.prepare().expect("the config is good"),
            BatchSize::SmallInput,
        );
    });
    group.finish();
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
