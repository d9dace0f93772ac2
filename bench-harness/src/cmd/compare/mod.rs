//! `compare`: the main job. Every target with the same bytes, in turn; what is left is a recording and its report.

use std::path::PathBuf;
use std::time::Duration;

use super::gate::Baseline;
use super::{complain, print};
use crate::cli::CompareArgs;
use crate::error::{DONE, FAILED, HOST, HarnessError, SIGNALED, chain};
use crate::experiment::ladder::Subjects;
use crate::experiment::{Bench, Experiment, Stop};
use crate::host::{self, noise};
use crate::pinning::Pinning;
use crate::plan::Effort;
use crate::progress::Progress;
use crate::record::{Design, RunInfo};
use crate::report;
use crate::runner::Observer;
use crate::sealed;
use crate::signals::Interrupts;
use crate::store::Recording;
use crate::summary::summarise;
use crate::target::TargetKind;
use crate::utc::Utc;
use crate::warning::Warning;

mod keep;
mod select;

use keep::Keeper;
use select::Selection;

/// Measures, writes the recording and its report, prints the result.
///
/// # Errors
/// Where nothing could be measured at all. Failures of single targets and workloads are rows of the recording and an
/// exit code.
pub fn compare(args: &CompareArgs) -> Result<u8, HarnessError> {
    if args.baseline.is_none() && args.against.is_none() && args.gate.any() {
        return Err(HarnessError::Usage(
            "--max-regression, --force, --junit and --markdown say how to judge against --baseline DIR or --against PATH; give one of these, too"
                .into(),
        ));
    }
    let selection = Selection::of(args)?;
    let mut info = describe(args, &selection);
    let pinning = args
        .pin
        .then(Pinning::install)
        .and_then(|found| found.map_err(|reason| info.warnings.push(Warning::NotPinned { reason })).ok());
    if let Some(design) = &mut info.design {
        design.pinned = pinning.as_ref().map(|pinning| pinning.placement.clone());
    }
    let dir = args.out.clone().unwrap_or_else(|| default_dir(&info));
    let baseline = args.baseline.as_deref().map(Baseline::read).transpose()?;
    if let Some(baseline) = &baseline {
        baseline.expect_comparable(&dir, &info, &args.gate)?;
    }
    let recording = Recording::create(&dir, &info)?;
    let mut keeper = Keeper::new(recording);
    let interrupts = Interrupts::install().map_err(HarnessError::Signals)?;
    let mut observer = Observer::new(Some(interrupts), args.timeout)?.pinned(pinning.clone());
    let mut progress = Progress::new();
    progress.line(&format!("recording to {}", dir.display()));

    let ticks = host::cpu_ticks();
    let stopped = measure(args, &selection, &mut info, &mut observer, &mut keeper, &mut progress).err();
    progress.finish();
    // No instance is alive any more.
    interrupts.last_steps();
    // The host is looked at as it was before. Where the CPUs do not come back, that look says so.
    drop(pinning.map(|pinning| pinning.release()));

    info.finished_utc = Some(Utc::now().text());
    info.interrupted = stopped.is_some();
    let at_end = host::inspect();
    info.warnings.extend(noise::changed(&info.host, &at_end));
    info.host_at_end = Some(at_end);
    info.warnings.extend(noise::steal(ticks, host::cpu_ticks()));
    let (samples, finished) = keeper.finish(&mut info);
    let reported =
        finished.and_then(|()| report::write_all(&dir, &info, &samples).map_err(HarnessError::from));
    // Where they cannot be written, they can still be shown.
    let (rows, problem) = match reported {
        Ok(rows) => (rows, None),
        Err(problem) => (summarise(&samples, info.seed), Some(problem)),
    };
    print(&report::terminal::render(&info, &rows, &crate::checks::of(&samples), super::width()))?;
    if problem.is_none() {
        print(&format!("\nRecording: {}\n", dir.display()))?;
    }

    if let Some(stop) = stopped {
        if let Some(signal) = interrupts.caught() {
            complain("interrupted; what was measured until then is kept");
            if let Some(problem) = problem {
                complain(&chain(&problem));
            }
            return Ok(SIGNALED.wrapping_add(u8::try_from(signal).unwrap_or(0)));
        }
        complain(&format!("stopped early: {}", chain(&stop)));
        if let Some(problem) = problem {
            complain(&chain(&problem));
        }
        return Ok(HOST);
    }
    if let Some(problem) = problem {
        return Err(problem);
    }
    let verdict = match (&baseline, &selection.before) {
        (Some(baseline), _) => {
            print("\n")?;
            baseline.judge(&dir, &info, &samples, &args.gate)?
        }
        (None, Some((before, _))) => {
            print("\n")?;
            super::gate::judge_in_turn(&samples, &selection.startup.name, &before.name, &args.gate)?
        }
        (None, None) => DONE,
    };
    let failed = samples.iter().filter(|sample| sample.status == crate::record::Status::Failed).count();
    if failed > 0 {
        complain(&format!("{failed} observations failed; samples.csv says why"));
        return Ok(FAILED);
    }
    Ok(verdict)
}

fn measure(
    args: &CompareArgs,
    selection: &Selection,
    info: &mut RunInfo,
    observer: &mut Observer,
    keeper: &mut Keeper,
    progress: &mut Progress,
) -> Result<(), Stop> {
    let mut bench = Bench {
        participants: &selection.participants,
        seed: info.seed,
        effort: Effort { rest: Duration::from_millis(args.rest), ..args.profile.effort() },
        mem_mib: args.mem,
        observer,
        sink: keeper,
        progress,
        ended: Vec::new(),
    };
    selection.keep_skipped(&mut *bench.sink)?;
    if bench.participants.is_empty() {
        return Ok(());
    }
    crate::experiment::harness::measure(&mut bench, &selection.startup.name)?;
    let whole: f64 = selection.experiments.iter().map(|&experiment| share(experiment)).sum();
    for &experiment in &selection.experiments {
        bench.progress.next_share(share(experiment) / whole);
        match (experiment, &selection.user) {
            (Experiment::Startup, _) => {
                let subjects: Vec<_> = selection.startups.iter().collect();
                crate::experiment::startup::measure(&mut bench, &subjects, args.concurrency)?;
            }
            (Experiment::Memory, _) => crate::experiment::memory::measure(&mut bench, &selection.idle)?,
            (Experiment::Surface, _) => crate::experiment::surface::measure(
                &mut bench,
                &selection.image,
                &selection.surface,
                &args.guest,
            )?,
            (Experiment::Neighbours, _) => {
                crate::experiment::neighbours::measure(&mut bench, &selection.image, &selection.victims)?;
            }
            (Experiment::Overhead, Some(user)) => {
                let subjects: Vec<_> = std::iter::once(user)
                    .chain(selection.before.iter().map(|(subject, _)| subject))
                    .collect();
                crate::experiment::overhead::measure_user(&mut bench, &subjects)?;
            }
            (Experiment::Overhead, None) => {
                let learned =
                    crate::experiment::overhead::measure(&mut bench, &selection.image, &selection.workloads)?;
                info.repetitions.extend(learned.iterations);
            }
            (Experiment::Density, _) => {
                if let Some(limits) = selection.density {
                    crate::experiment::density::measure(&mut bench, &selection.idle, limits)?;
                }
            }
            (Experiment::Ladder, _) => {
                let subjects =
                    Subjects { image: &selection.image, startup: &selection.startup, idle: &selection.idle };
                let linux = args.guest.target(false);
                let (kinds, absent) = (&selection.kinds, &selection.skipped);
                let learned =
                    crate::experiment::ladder::measure(&mut bench, subjects, kinds, absent, &linux)?;
                // The other experiment's count of the same workload is its own.
                info.repetitions
                    .extend(learned.into_iter().map(|(name, count)| (format!("ladder/{name}"), count)));
            }
        }
        info.ended.append(&mut bench.ended);
    }
    Ok(())
}

/// About which part of a run's time an experiment takes, for the progress bar.
const fn share(experiment: Experiment) -> f64 {
    match experiment {
        Experiment::Startup => 0.08,
        Experiment::Memory => 0.12,
        Experiment::Overhead => 0.8,
        Experiment::Ladder => 1.0,
        Experiment::Density => 0.2,
        Experiment::Surface => 0.1,
        Experiment::Neighbours => 1.0,
    }
}

fn describe(args: &CompareArgs, selection: &Selection) -> RunInfo {
    let host = host::inspect();
    let now = Utc::now();
    let seed = args.seed.unwrap_or_else(crate::clock::now_ns);
    let hash = option_env!("BENCH_HARNESS_COMMIT");
    let mut warnings = noise::warnings(&host);
    warnings.extend(selection.warnings());
    let kernel = selection.takes_part(TargetKind::MicrovmLinux).then(|| args.guest.target(false).describe());
    let kernel = kernel.flatten();
    RunInfo {
        schema: crate::record::SCHEMA,
        run_id: format!("{}-{:04x}", now.compact(), seed & 0xffff),
        command_line: std::env::args_os().map(|argument| argument.to_string_lossy().into_owned()).collect(),
        seed,
        profile: args.profile.to_string(),
        started_utc: now.text(),
        version: env!("CARGO_PKG_VERSION").into(),
        commit: hash.map(|hash| crate::record::Commit {
            hash: hash.into(),
            dirty: option_env!("BENCH_HARNESS_DIRTY") != Some("false"),
        }),
        digests: crate::record::Digests {
            workload: Some(selection.image.digest.clone()),
            real_workloads: selection.runs_real_ones().then(|| sealed::digest(workloads::REAL_PROGRAM)),
            guest: selection.takes_part(TargetKind::Microvm).then(|| sealed::digest(vm_backend::guest_elf())),
            kernel: kernel.as_ref().map(|kernel| kernel.digest.clone()),
            kernel_version: kernel.and_then(|kernel| kernel.version),
            ..crate::record::Digests::default()
        },
        warnings,
        skipped: selection.skipped.clone(),
        design: Some(Design {
            concurrency: args.concurrency,
            pinned: None,
            against: selection.before.as_ref().map(|(_, digest)| digest.clone()),
            rest_ms: args.rest,
            cache: args.cache.name().into(),
            cold_by: selection
                .cold_in
                .as_ref()
                .map(|dir| format!("{} ({})", crate::cold::HOW, dir.display())),
        }),
        host,
        ..RunInfo::default()
    }
}

/// `results/<UTC time>-<host>`
fn default_dir(info: &RunInfo) -> PathBuf {
    let host: String = info
        .host
        .hostname
        .as_deref()
        .unwrap_or("host")
        .chars()
        .map(|letter| if letter.is_ascii_alphanumeric() || "-_".contains(letter) { letter } else { '_' })
        .collect();
    let time = info.run_id.split('-').next().unwrap_or_default();
    PathBuf::from("results").join(format!("{time}-{host}"))
}
