//! The experiments: what is measured, and how one launch becomes rows of the recording.

use std::fmt;
use std::time::{Duration, Instant};

use crate::plan::{Effort, Ended};
use crate::progress::Progress;
use crate::record::{DENSITY, EndedCell, LADDER, NEIGHBOURS, Sample, Status, metric};
use crate::runner::{LaunchFailure, Observer};
use crate::target::{Prepared, Target};
use crate::workload::Subject;
use workloads::Workload;

mod afterwards;
mod at_once;
mod cells;
pub mod density;
pub mod harness;
pub mod ladder;
pub mod memory;
pub mod neighbours;
pub mod overhead;
mod procfs;
pub mod startup;
pub mod surface;

/// The experiments.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Experiment {
    /// From the start to the first byte, and from the end to nothing being left.
    Startup = 0,
    /// What a running, idle instance costs the host.
    Memory = 1,
    /// How much slower the same work is.
    Overhead = 2,
    /// What each layer of isolation costs.
    Ladder = 3,
    /// Many idle instances at the same time.
    Density = 4,
    /// What an instance reaches of the host's kernel, and what its program sees of the host.
    Surface = 5,
    /// How much an aggressor in the same kind of target disturbs.
    Neighbours = 6,
}

impl Experiment {
    /// All of them, in the order in which they are made.
    pub const ALL: [Self; 7] = [
        Self::Startup,
        Self::Memory,
        Self::Overhead,
        Self::Ladder,
        Self::Density,
        Self::Surface,
        Self::Neighbours,
    ];

    /// Those that are made where none is asked for by name.
    pub const DEFAULT: [Self; 3] = [Self::Startup, Self::Memory, Self::Overhead];

    /// The name on the command line and in the recording.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Startup => "startup",
            Self::Memory => "memory",
            Self::Overhead => "overhead",
            Self::Ladder => LADDER,
            Self::Density => DENSITY,
            Self::Surface => "surface",
            Self::Neighbours => NEIGHBOURS,
        }
    }

    /// The experiment of that name.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|experiment| experiment.name() == name)
    }

    /// One line for `list`.
    #[must_use]
    pub const fn about(self) -> &'static str {
        match self {
            Self::Startup => "start to first byte (by phase), start to exit, end to nothing being left",
            Self::Memory => "what one idle instance costs the host, by six methods",
            Self::Overhead => "the same work in every target, timed inside and outside",
            Self::Ladder => {
                "what each layer of isolation, and size, backing and kernel of a machine, cost by themselves"
            }
            Self::Density => "many idle instances at the same time, up to a number or a budget of memory",
            Self::Surface => {
                "system calls and kernel functions of the host that an instance reaches, and what it sees of the host"
            }
            Self::Neighbours => {
                "a workload alone and beside aggressors that keep to limits, in the same kind of target"
            }
        }
    }
}

impl fmt::Display for Experiment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// Where rows go to: the recording in `compare`, or a list.
pub trait Sink {
    /// Keeps the rows, at once: what was measured survives whatever comes next.
    ///
    /// # Errors
    /// Where they cannot be kept.
    fn keep(&mut self, rows: Vec<Sample>) -> Result<(), Stop>;
}

impl Sink for Vec<Sample> {
    fn keep(&mut self, mut rows: Vec<Sample>) -> Result<(), Stop> {
        self.append(&mut rows);
        Ok(())
    }
}

/// Why an experiment ends before its plan does.
#[derive(Debug, thiserror::Error)]
pub enum Stop {
    /// A signal came.
    #[error("interrupted")]
    Interrupted,
    /// The rows cannot be kept.
    #[error("the recording cannot be written")]
    Sink(#[source] Box<dyn std::error::Error + Send + Sync>),
}

/// A target that takes part.
pub struct Participant {
    /// Its name in the recording.
    pub name: String,
    /// How it is started.
    pub target: Box<dyn Target>,
}

/// All that an experiment needs.
pub struct Bench<'a> {
    /// The targets, the baseline first where it takes part.
    pub participants: &'a [Participant],
    /// Seed of the order.
    pub seed: u64,
    /// How much is measured.
    pub effort: Effort,
    /// Memory of an instance.
    pub mem_mib: u64,
    /// Starts and watches.
    pub observer: &'a mut Observer,
    /// Takes the rows.
    pub sink: &'a mut dyn Sink,
    /// Tells the user how far it is.
    pub progress: &'a mut Progress,
    /// Takes down why no more launches of a cell were made.
    pub ended: Vec<EndedCell>,
}

impl Bench<'_> {
    /// What launches of `subject` need, one for each participant.
    fn stations(&self, subject: &Subject) -> Vec<Station> {
        self.participants.iter().map(|participant| Station::new(self, participant, subject)).collect()
    }

    /// Why this host cannot serve `workload` in the target of `participant`, if so.
    fn unmet(&self, participant: &Participant, workload: &Workload) -> Option<String> {
        let target = &participant.target;
        let unmet = workload.needs.unmet_by(&target.capabilities(self.mem_mib));
        let refused = |reason| format!("needs a network, which this host refuses: {reason}");
        unmet.or_else(|| workload.needs.network.then(|| target.network().err().map(refused)).flatten())
    }

    /// The pace of an experiment from now on.
    fn pace(&self, experiment: Experiment, least: u32) -> Pace {
        Pace { least, budget: self.effort.budget_of(experiment), began: Instant::now() }
    }

    fn end(&mut self, experiment: Experiment, workload: &str, blocks: u32, why: Ended) {
        self.ended.push(EndedCell {
            experiment: experiment.name().into(),
            workload: workload.into(),
            blocks,
            why,
        });
    }
}

/// How long blocks are made: until the time is used up, and `least` of them in any case.
struct Pace {
    least: u32,
    budget: Duration,
    began: Instant,
}

impl Pace {
    /// Whether no more are to be made after so many.
    fn is_over(&self, made: u32) -> bool {
        made >= self.least && self.began.elapsed() > self.budget
    }
}

/// Failures in a row after which a cell is given up for a target: a hanging one must not eat the whole run.
const GIVE_UP_AFTER: u32 = 2;

/// One cell and target: what is to be started, and whether that still makes sense.
struct Station {
    prepared: Result<Box<dyn Prepared>, String>,
    failures_in_a_row: u32,
    /// Whether a row says already why it cannot be used.
    explained: bool,
}

impl Station {
    fn new(bench: &Bench<'_>, participant: &Participant, subject: &Subject) -> Self {
        let launch = subject.launch(bench.mem_mib);
        let prepared = participant.target.prepare(&launch).map_err(|error| crate::error::chain(&error));
        Self { prepared, failures_in_a_row: 0, explained: false }
    }

    /// One launch, or the reason why there is none any more.
    fn usable(&self) -> Option<&dyn Prepared> {
        match &self.prepared {
            Ok(prepared) if self.failures_in_a_row < GIVE_UP_AFTER => Some(&**prepared),
            _ => None,
        }
    }

    /// The rows instead of a launch where it is not [`usable`](Self::usable): the first time one with the reason why nothing could
    /// be prepared, so that no target is missing without a word. That it was given up was said when it was.
    fn unusable(&mut self, place: &Place, metric: &str, unit: &str) -> Vec<Sample> {
        match &self.prepared {
            Err(why) if !std::mem::replace(&mut self.explained, true) => {
                vec![place.failed(metric, unit, why.clone())]
            }
            _ => Vec::new(),
        }
    }

    /// Notes how a launch went.
    ///
    /// # Errors
    /// [`Stop::Interrupted`] is passed on: it is nobody's failure.
    fn note<T>(&mut self, result: Result<T, LaunchFailure>) -> Result<Result<T, String>, Stop> {
        match result {
            Ok(value) => {
                self.failures_in_a_row = 0;
                Ok(Ok(value))
            }
            Err(LaunchFailure::Interrupted) => Err(Stop::Interrupted),
            Err(failure) => {
                self.failures_in_a_row += 1;
                let gave_up = if self.failures_in_a_row == GIVE_UP_AFTER {
                    "; failed twice in a row, not tried again"
                } else {
                    ""
                };
                Ok(Err(format!("{failure}{gave_up}")))
            }
        }
    }
}

/// What the rows of one launch have in common.
#[derive(Debug, Clone)]
struct Place {
    experiment: &'static str,
    target: String,
    workload: String,
    block: u32,
    order: u32,
    warmup: bool,
}

impl Place {
    /// Of a launch that counts.
    fn new(experiment: Experiment, target: &str, workload: &str, block: u32, order: u32) -> Self {
        Self {
            experiment: experiment.name(),
            target: target.into(),
            workload: workload.into(),
            block,
            order,
            warmup: false,
        }
    }

    fn row(&self, metric: &str, unit: &str, iteration: u32, value: f64) -> Sample {
        let status = if self.warmup { Status::Warmup } else { Status::Ok };
        self.sample(metric, unit, iteration, Some(value), status, String::new())
    }

    fn failed(&self, metric: &str, unit: &str, detail: String) -> Sample {
        self.sample(metric, unit, 0, None, Status::Failed, detail)
    }

    fn skipped(&self, metric: &str, unit: &str, detail: String) -> Sample {
        self.sample(metric, unit, 0, None, Status::Skipped, detail)
    }

    fn sample(
        &self,
        metric: &str,
        unit: &str,
        iteration: u32,
        value: Option<f64>,
        status: Status,
        detail: String,
    ) -> Sample {
        Sample {
            experiment: self.experiment.into(),
            target: self.target.clone(),
            workload: self.workload.clone(),
            metric: metric.into(),
            unit: unit.into(),
            block: self.block,
            order: self.order,
            iteration,
            value,
            status,
            detail,
        }
    }
}

/// Row that stands for a target that takes no part.
#[must_use]
pub fn skipped_row(experiment: Experiment, target: &str, workload: &str, reason: &str) -> Sample {
    let metric = metric::main_of(experiment.name());
    let place = Place::new(experiment, target, workload, 0, 0);
    place.skipped(metric, main_unit(experiment), reason.into())
}

const fn main_unit(experiment: Experiment) -> &'static str {
    match experiment {
        Experiment::Startup | Experiment::Ladder => "ns",
        Experiment::Memory | Experiment::Density => "bytes",
        Experiment::Overhead => "ns/op",
        Experiment::Surface => "calls",
        Experiment::Neighbours => "ns/op",
    }
}

/// A whole number of nanoseconds or bytes as a value. Exact up to 2^53: 104 days, 8 PiB.
#[expect(clippy::cast_precision_loss, reason = "exact below 2^53, which no measurement here comes near")]
const fn value(number: u64) -> f64 {
    number as f64
}
