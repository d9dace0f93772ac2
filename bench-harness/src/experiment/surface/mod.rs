//! What of the host's kernel does an instance reach, and what does its program see of the host?
//!
//! Three views: the system calls that all its processes make ([`trace`]), the kernel's functions that those enter
//! ([`functions`]), and what a program inside can see and do ([`probes`]). None of them is timed. Fewer is not the same as
//! safer: one call with a flaw is enough, and a call is not a path through what is behind it.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::{self, Read, Seek};
use std::os::fd::AsRawFd;
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};
use std::time::Duration;

use nix::fcntl::{FcntlArg, FdFlag, fcntl};
use nix::sys::memfd::{MFdFlags, memfd_create};
use nix::sys::signal::Signal;
use workloads::protocol::{Line, Parser};
use workloads::{Invocation, Workload};

use super::{Bench, Experiment, Participant, Place, Stop, skipped_row, value};
use crate::cli::KernelOptions;
use crate::plan::{self, Ended};
use crate::record::{Sample, metric};
use crate::signals;
use crate::workload::{Image, Subject};

pub mod functions;
pub mod probes;
pub mod trace;

/// Launches of each cell. What they reach differs little: they are there to show how much.
const LAUNCHES: u32 = 3;
/// Longest time of one run; many times slower than one that is not watched.
const TIMEOUT: Duration = Duration::from_secs(60);
/// What is watched where no workload is chosen: the start alone, ring 3 alone, and three that ask the kernel for
/// something, each for another thing.
const USUAL: [&str; 5] = ["noop", "cpu-int", "page-fault", "syscall", "alloc"];

/// The workloads that are watched: the chosen ones, or the usual.
#[must_use]
pub fn subjects(chosen: &[String]) -> Vec<&'static Workload> {
    if chosen.is_empty() {
        return USUAL.iter().filter_map(|name| workloads::catalogue::find(name)).collect();
    }
    crate::workload::chosen(chosen)
}

/// Makes the experiment.
///
/// # Errors
/// Where it ends before its plan does; single failures are rows.
pub fn measure(
    bench: &mut Bench<'_>,
    image: &Image,
    workloads: &[&'static Workload],
    guest: &KernelOptions,
) -> Result<(), Stop> {
    probes::measure(bench, image)?;
    bench.progress.step("surface", 0.1);
    let cells: Vec<Cell> = workloads.iter().map(|workload| Cell::new(bench, image, workload)).collect();
    let rows = cells.iter().flat_map(|cell| cell.skipped.clone()).collect();
    bench.sink.keep(rows)?;
    let runner = Runner { guest, mem_mib: bench.mem_mib };

    blocks(bench, &cells, |cell, participant, place| {
        let row = |error: &trace::TraceError| (metric::SYSTEM_CALLS, "calls", crate::error::chain(error));
        let (command, output) = match runner.command(cell, participant) {
            Ok(pair) => pair,
            Err(error) => return Ok(vec![place.failed(metric::SYSTEM_CALLS, "calls", error.to_string())]),
        };
        Ok(match trace::trace(command) {
            Ok(seen) => calls(place, &seen, judge(cell, seen.code, output)),
            Err(trace::TraceError::Interrupted) => return Err(Stop::Interrupted),
            Err(error @ trace::TraceError::NotAllowed(_)) => {
                let (metric, unit, why) = row(&error);
                vec![place.skipped(metric, unit, why)]
            }
            Err(error) => {
                let (metric, unit, why) = row(&error);
                vec![place.failed(metric, unit, why)]
            }
        })
    })?;

    match functions::Tracer::new() {
        Ok(tracer) => blocks(bench, &cells, |cell, participant, place| {
            let failed = |error: io::Error| {
                vec![place.failed(metric::FUNCTIONS, "functions", crate::error::chain(&error))]
            };
            let (mut command, output) = match runner.command(cell, participant) {
                Ok(pair) => pair,
                Err(error) => return Ok(failed(error)),
            };
            match tracer.watch(&mut command) {
                Ok(None) => Err(Stop::Interrupted),
                Ok(Some(seen)) => Ok(reached(cell, place, &seen, judge(cell, seen.code, output))),
                Err(error) => Ok(failed(error)),
            }
        })?,
        Err(reason) => {
            // Once a target, whatever the workloads.
            let workload = cells.first().map_or("noop", |cell| cell.workload.name);
            let row = |participant: &Participant| Sample {
                metric: metric::FUNCTIONS.into(),
                unit: "functions".into(),
                ..skipped_row(Experiment::Surface, &participant.name, workload, &reason)
            };
            let rows = bench.participants.iter().map(row).collect();
            bench.sink.keep(rows)?;
        }
    }
    for cell in &cells {
        bench.end(Experiment::Surface, cell.workload.name, LAUNCHES, Ended::Planned);
    }
    Ok(())
}

/// One workload.
struct Cell {
    workload: &'static Workload,
    subject: Subject,
    /// Rows for the targets that cannot serve it.
    skipped: Vec<Sample>,
}

impl Cell {
    fn new(bench: &Bench<'_>, image: &Image, workload: &'static Workload) -> Self {
        let skipped = bench.participants.iter().filter_map(|participant| {
            let reason = bench.unmet(participant, workload)?;
            Some(skipped_row(Experiment::Surface, &participant.name, workload.name, &reason))
        });
        Self {
            workload,
            subject: Subject::ours(image, &Invocation { iters: Some(1), ..Invocation::of(workload) }),
            skipped: skipped.collect(),
        }
    }
}

fn blocks(
    bench: &mut Bench<'_>,
    cells: &[Cell],
    watch: impl Fn(&Cell, &Participant, &Place) -> Result<Vec<Sample>, Stop>,
) -> Result<(), Stop> {
    for block in 0..LAUNCHES {
        for slot in plan::block(bench.seed, Experiment::Surface, block, cells.len(), bench.participants.len())
        {
            if signals::caught().is_some() {
                return Err(Stop::Interrupted);
            }
            let (cell, participant) = (&cells[slot.cell], &bench.participants[slot.target]);
            if cell.skipped.iter().any(|row| row.target == participant.name) {
                continue;
            }
            let (target, workload) = (&participant.name, cell.workload.name);
            let place = Place::new(Experiment::Surface, target, workload, block, slot.order);
            let rows = watch(cell, participant, &place)?;
            bench.sink.keep(rows)?;
        }
        bench.progress.step("surface", 0.45 / f64::from(LAUNCHES));
    }
    Ok(())
}

fn calls(place: &Place, seen: &trace::Traced, judged: Result<(), String>) -> Vec<Sample> {
    if let Err(why) = judged {
        return vec![place.failed(metric::SYSTEM_CALLS, "calls", why)];
    }
    let different: BTreeSet<&str> = seen.setup.keys().chain(seen.running.keys()).copied().collect();
    let all: u64 = seen.setup.values().chain(seen.running.values()).sum();
    let mut rows = vec![
        place.row(metric::SYSTEM_CALLS, "calls", 0, crate::stats::count(different.len())),
        place.row(metric::SYSTEM_CALLS_MADE, "calls", 0, value(all)),
        place.row(metric::SYSTEM_CALLS_RUNNING, "calls", 0, crate::stats::count(seen.running.len())),
        place.row(metric::SYSTEM_CALLS_STARTER, "calls", 0, value(seen.starter.values().sum())),
    ];
    for (part, calls) in (0_u32..).zip([&seen.setup, &seen.running]) {
        rows.extend(calls.iter().map(|(name, &times)| {
            place.row(&format!("{}{name}", metric::CALL_PREFIX), "calls", part, value(times))
        }));
    }
    rows
}

fn reached(cell: &Cell, place: &Place, seen: &functions::Reached, judged: Result<(), String>) -> Vec<Sample> {
    if let Err(why) = judged {
        return vec![place.failed(metric::FUNCTIONS, "functions", why)];
    }
    if seen.functions.is_empty() {
        let why = "the function tracer saw nothing of it".to_owned();
        return vec![place.failed(metric::FUNCTIONS, "functions", why)];
    }
    let mut row = place.row(metric::FUNCTIONS, "functions", 0, crate::stats::count(seen.functions.len()));
    if seen.lost > 0 {
        row.detail = format!("at least: {} entries were lost", seen.lost);
    }
    let mut rows = vec![row];
    // The names of one launch of what only starts: those of all would be most of the recording.
    if cell.workload.name == "noop" && place.block == 0 {
        rows.extend(seen.functions.iter().map(|(name, &times)| {
            place.row(&format!("{}{name}", metric::FUNCTION_PREFIX), "entries", 0, value(times))
        }));
    }
    rows
}

/// Starts an instance as a user would: by `bench-harness run`, in a process of its own.
struct Runner<'a> {
    guest: &'a KernelOptions,
    mem_mib: u64,
}

impl Runner<'_> {
    /// The command, and where its output goes: to memory, since nobody reads a pipe meanwhile.
    fn command(&self, cell: &Cell, participant: &Participant) -> io::Result<(Command, Output)> {
        let file = |name| memfd_create(name, MFdFlags::MFD_CLOEXEC).map(File::from);
        let output = Output { stdout: file(c"stdout")?, stderr: file(c"stderr")? };
        let mut command = Command::new("/proc/self/exe");
        command.args(["run", "--target", participant.target.kind().name()]);
        command.args(["--timeout", &TIMEOUT.as_secs().to_string()]);
        // Where there can be no limits, every experiment goes on without and says so; `run` by itself would refuse.
        if participant.target.limitation().is_none() {
            command.args(["--mem", &self.mem_mib.to_string()]);
        }
        if let Some(kernel) = &self.guest.kernel {
            command.arg("--kernel").arg(kernel);
        }
        if !self.guest.cmdline_extra.is_empty() {
            command.arg("--cmdline-extra").arg(&self.guest.cmdline_extra);
        }
        if let Some(vcpus) = self.guest.vcpus {
            command.args(["--vcpus", &vcpus.to_string()]);
        }
        let (program, argv) = cell.subject.program_and_arguments();
        let descriptor = program.as_raw_fd();
        command.arg("--").arg(format!("/proc/self/fd/{descriptor}")).args(argv);
        // SAFETY: between fork and exec only fcntl(2) and prctl(2) are called, which are async-signal-safe. The
        // descriptor stays open: `program` is held by the cell, which outlives the command.
        unsafe {
            command.pre_exec(move || {
                let program = std::os::fd::BorrowedFd::borrow_raw(descriptor);
                fcntl(program, FcntlArg::F_SETFD(FdFlag::empty()))?;
                // We may be ended by force while it runs.
                nix::sys::prctl::set_pdeathsig(Signal::SIGKILL).map_err(io::Error::from)
            })
        };
        command.stdin(Stdio::null()).stdout(output.stdout.try_clone()?).stderr(output.stderr.try_clone()?);
        Ok((command, output))
    }
}

/// What a command writes.
struct Output {
    stdout: File,
    stderr: File,
}

fn written(mut file: File) -> Result<Vec<u8>, String> {
    let mut text = Vec::new();
    file.rewind().and_then(|()| file.read_to_end(&mut text)).map_err(|error| error.to_string())?;
    Ok(text)
}

/// Did the workload do what it should?
fn judge(cell: &Cell, code: Option<i32>, output: Output) -> Result<(), String> {
    if code != Some(0) {
        let how = code.map_or("was ended by a signal".into(), |code| format!("ended with code {code}"));
        let said = written(output.stderr)?;
        let said = String::from_utf8_lossy(&said);
        // The reason comes last.
        let reason = said.lines().last().map(|line| format!(": {line}")).unwrap_or_default();
        return Err(format!("`run` {how}{reason}"));
    }
    let text = written(output.stdout)?;
    let (mut ready, mut wrong, mut checks) = (false, None, 0);
    Parser::new().push(&text, |line| match line {
        Line::Ready => ready = true,
        Line::Check(check) => {
            checks += 1;
            if check != cell.workload.expected_check {
                wrong = Some(check.to_owned());
            }
        }
        _ => {}
    });
    match (ready, wrong) {
        (false, _) => Err("it did not say `ready`".into()),
        (_, Some(check)) => {
            Err(format!("it came to the checksum {check} instead of {}", cell.workload.expected_check))
        }
        _ if checks == 0 && cell.workload.name != "noop" => Err("it has no checksum".into()),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    #[test]
    fn a_launch_that_failed_is_told_with_the_last_line_that_it_wrote() {
        let workload = workloads::catalogue::find("noop").expect("it is listed");
        let subject = Subject::ours(&Image::ours().expect("memory"), &Invocation::of(workload));
        let cell = Cell { workload, subject, skipped: Vec::new() };
        let output = |said: &str| {
            let file = || tempfile::tempfile().expect("a temporary file");
            let mut stderr = file();
            stderr.write_all(said.as_bytes()).expect("room for it");
            Output { stdout: file(), stderr }
        };
        let told = |code, said| judge(&cell, code, output(said)).expect_err("it failed");
        assert_eq!(told(Some(125), "note: a\nno /dev/kvm\n"), "`run` ended with code 125: no /dev/kvm");
        assert_eq!(told(None, ""), "`run` was ended by a signal");
    }
}
