//! What a comparison consists of: options and this host, made into a selection before anything is measured.

use std::path::PathBuf;

use workloads::{Invocation, Workload};

use crate::cli::{Cache, CompareArgs, KernelOptions};
use crate::cold;
use crate::error::HarnessError;
use crate::experiment::{Experiment, Participant, Sink, Stop, density, skipped_row};
use crate::experiment::{neighbours, surface};
use crate::memory_size;
use crate::record::SkippedTarget;
use crate::target::{self, TargetKind};
use crate::warning::Warning;
use crate::workload::{Image, Subject};

pub(super) struct Selection {
    pub(super) participants: Vec<Participant>,
    pub(super) skipped: Vec<SkippedTarget>,
    pub(super) experiments: Vec<Experiment>,
    /// Kinds of target that were asked for, or all: what the rungs of a ladder are chosen by.
    pub(super) kinds: Vec<TargetKind>,
    /// Workloads of the overhead experiment.
    pub(super) workloads: Vec<&'static Workload>,
    /// Workloads of the experiment surface.
    pub(super) surface: Vec<&'static Workload>,
    /// Workloads that are disturbed.
    pub(super) victims: Vec<&'static Workload>,
    pub(super) image: Image,
    /// What is launched and ends at once.
    pub(super) startup: Subject,
    /// The same as the start-up experiment launches it: from a warm or a cold page cache, or both.
    pub(super) startups: Vec<Subject>,
    /// How far the experiment density goes, where it is made.
    pub(super) density: Option<density::Limits>,
    /// The program from before, and its digest.
    pub(super) before: Option<(Subject, String)>,
    /// Where the copy is that is made cold.
    pub(super) cold_in: Option<PathBuf>,
    /// What the memory experiment launches.
    pub(super) idle: Subject,
    /// The user's own program, where there is one.
    pub(super) user: Option<Subject>,
}

impl Selection {
    pub(super) fn of(args: &CompareArgs) -> Result<Self, HarnessError> {
        let mem_mib = memory_size::checked(args.mem)?;
        let experiments = if args.experiments.is_empty() {
            Experiment::DEFAULT.to_vec()
        } else {
            chosen(&args.experiments, &Experiment::ALL)
        };
        // All that can be said before anything is tried, copied or measured.
        consistent(args, &experiments)?;
        let density = experiments
            .contains(&Experiment::Density)
            .then(|| density::Limits::checked(args.density, args.density_budget))
            .transpose()?;
        let workloads = crate::workload::chosen(&args.workloads);
        let surface = surface::subjects(&args.workloads);
        let victims = neighbours::victims(&args.workloads);
        let (participants, skipped) = targets(&args.targets, &args.guest)?;

        let (image, startup, idle, user) = match &args.workload_bin {
            Some(path) => {
                let image = Image::of_file(path, mem_mib)?;
                let subject = Subject::of_user(&image, path, &args.args);
                (image, subject.clone(), subject.clone(), Some(subject))
            }
            None => {
                let image = Image::ours()?;
                let noop = &workloads::catalogue::all()[0];
                let once = Invocation::of(noop);
                let startup = Subject::ours(&image, &once);
                let idle = Subject::ours(&image, &Invocation { hold: true, ..once });
                (image, startup, idle, None)
            }
        };
        let (mut startups, cold_in) = startups(&startup, args.cache)?;
        let before = before(args, mem_mib, &startup)?;
        startups.extend(before.iter().map(|(subject, _)| subject.clone()));
        let kinds = chosen(&args.targets, &TargetKind::ALL);
        Ok(Self {
            participants,
            skipped,
            experiments,
            kinds,
            startups,
            before,
            density,
            cold_in,
            workloads,
            surface,
            victims,
            image,
            startup,
            idle,
            user,
        })
    }

    pub(super) fn takes_part(&self, kind: TargetKind) -> bool {
        self.participants.iter().any(|participant| participant.target.kind() == kind)
    }

    pub(super) fn runs_real_ones(&self) -> bool {
        let real = |workload: &&Workload| workload.program == workloads::Program::Real;
        self.user.is_none()
            && (self.workloads.iter().any(real)
                || [Experiment::Surface, Experiment::Neighbours]
                    .iter()
                    .any(|one| self.experiments.contains(one)))
    }

    /// Rows for the targets that take no part, so that a recording has no silent gaps.
    pub(super) fn keep_skipped(&self, sink: &mut dyn Sink) -> Result<(), Stop> {
        let mut rows = Vec::new();
        for SkippedTarget { target, reason } in &self.skipped {
            for &experiment in &self.experiments {
                let subjects: Vec<&str> = match (experiment, &self.user) {
                    (Experiment::Startup, _) => self.startups.iter().map(|one| one.name.as_str()).collect(),
                    // Its rungs say it themselves.
                    (Experiment::Ladder, _) => Vec::new(),
                    (Experiment::Memory | Experiment::Density, _) => vec![&self.idle.name],
                    (Experiment::Overhead, Some(user)) => vec![&user.name],
                    (Experiment::Surface, _) => self.surface.iter().map(|workload| workload.name).collect(),
                    (Experiment::Neighbours, _) => {
                        self.victims.iter().map(|workload| workload.name).collect()
                    }
                    (Experiment::Overhead, None) => self
                        .workloads
                        .iter()
                        .map(|workload| workload.name)
                        .filter(|&name| name != "noop")
                        .collect(),
                };
                rows.extend(subjects.iter().map(|subject| skipped_row(experiment, target, subject, reason)));
            }
        }
        sink.keep(rows)
    }

    /// What the targets have to do without.
    pub(super) fn warnings(&self) -> Vec<Warning> {
        self.participants
            .iter()
            .filter_map(|participant| participant.target.limitation())
            .map(|reason| Warning::NoCgroup { reason })
            .collect()
    }
}

/// Whether the options say one thing only, and none of them is for an experiment that is not made.
fn consistent(args: &CompareArgs, experiments: &[Experiment]) -> Result<(), HarnessError> {
    let refused = |why: String| Err(HarnessError::Usage(why));
    if args.workload_bin.is_some() && !args.workloads.is_empty() {
        return refused(
            "--workloads chooses from the catalogue, --workload-bin replaces it; give one of the two".into(),
        );
    }
    if args.against.is_some() && args.cache != Cache::Warm {
        return refused(
            "--against compares two programs, --cache two ways of starting one; give one of the two".into(),
        );
    }
    let of_catalogue = [Experiment::Surface, Experiment::Neighbours];
    if let Some(one) =
        of_catalogue.iter().find(|one| args.workload_bin.is_some() && experiments.contains(one))
    {
        return refused(format!(
            "the experiment {one} runs workloads of the catalogue; leave --workload-bin out"
        ));
    }
    let heeded: [(&str, bool, &[Experiment]); 5] = [
        ("--concurrency", args.concurrency.is_some(), &[Experiment::Startup]),
        ("--cache", args.cache != Cache::Warm, &[Experiment::Startup]),
        ("--density", args.density.is_some(), &[Experiment::Density]),
        ("--density-budget", args.density_budget.is_some(), &[Experiment::Density]),
        // What it is judged by.
        ("--against", args.against.is_some(), &[Experiment::Startup, Experiment::Overhead]),
    ];
    for (option, given, by) in heeded {
        if given && !by.iter().any(|one| experiments.contains(one)) {
            let names: Vec<_> = by.iter().map(|one| one.name()).collect();
            return refused(format!(
                "{option} is for the experiment {}, which is not among those of this run; give --experiments {}, too",
                names.join(" or "),
                names.join(",")
            ));
        }
    }
    Ok(())
}

/// The program that the user's own is judged against.
fn before(
    args: &CompareArgs,
    mem_mib: u64,
    startup: &Subject,
) -> Result<Option<(Subject, String)>, HarnessError> {
    let Some(path) = &args.against else { return Ok(None) };
    let image = Image::of_file(path, mem_mib)?;
    Ok(Some((startup.before(&image), image.digest)))
}

/// What the start-up experiment launches, and where the copy of the program is that is made cold.
fn startups(startup: &Subject, cache: Cache) -> Result<(Vec<Subject>, Option<PathBuf>), HarnessError> {
    if cache == Cache::Warm {
        return Ok((vec![startup.clone()], None));
    }
    let bytes = startup.bytes().map_err(|source| HarnessError::Seal { step: "read it back", source })?;
    // Temporary files are often in memory; where the user works is more often a disk.
    let dirs = [std::env::temp_dir(), PathBuf::from("/var/tmp"), PathBuf::from(".")];
    let (file, dir) = cold::copy(&bytes, &dirs).map_err(|problems| HarnessError::Cold { problems })?;
    let cold = startup.cold_from_file(&file);
    // The warm ones are of the same file, so that nothing else differs.
    let subjects = if cache == Cache::Cold { vec![cold] } else { vec![startup.from_file(&file), cold] };
    Ok((subjects, Some(dir)))
}

/// What was chosen, each once, in the order of the list of all; all of it where nothing was chosen.
fn chosen<T: PartialEq + Clone>(chosen: &[T], all: &[T]) -> Vec<T> {
    all.iter().filter(|one| chosen.is_empty() || chosen.contains(one)).cloned().collect()
}

/// The targets that take part, and those that cannot, where they were not asked for by name.
fn targets(
    asked: &[TargetKind],
    guest: &KernelOptions,
) -> Result<(Vec<Participant>, Vec<SkippedTarget>), HarnessError> {
    let (mut participants, mut skipped) = (Vec::new(), Vec::new());
    for kind in chosen(asked, &TargetKind::ALL) {
        let target = target::with_kernel(kind, guest.target(false));
        match target.probe() {
            Ok(()) => participants.push(Participant { name: kind.name().into(), target }),
            Err(reason) if asked.is_empty() => {
                skipped.push(SkippedTarget { target: kind.name().into(), reason: reason.0 });
            }
            Err(reason) => return Err(HarnessError::Unavailable { target: kind.name(), reason: reason.0 }),
        }
    }
    Ok((participants, skipped))
}
