//! The recording in memory: observations as they are made, before and after they are files.
//!
//! `store` turns these into `samples.csv` and `run.json` and back; everything that is printed or drawn is computed
//! from them.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::pinning::Placement;
use crate::plan::Ended;
use crate::warning::Warning;

/// Version of the recording's files. Raised when a column or a key changes its meaning.
pub const SCHEMA: u32 = 1;

/// The target that every ratio is to.
pub const BASELINE: &str = "native";

/// Experiment of the rows that tell what the harness itself costs: no target is compared there.
pub const HARNESS: &str = "harness";

/// Experiment whose targets are rungs, each with one layer more or less than another.
pub const LADDER: &str = "ladder";

/// Experiment of a workload beside others that disturb it.
pub const NEIGHBOURS: &str = "neighbours";

/// Experiment of many idle instances at the same time.
pub const DENSITY: &str = "density";

pub mod metric;

/// What became of one observation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Status {
    /// Counted.
    Ok,
    /// Kept, and left out of every summary.
    Warmup,
    /// Tried, and no value came of it: `detail` says why.
    Failed,
    /// Not tried, since the host or the target cannot: `detail` says why.
    Skipped,
}

impl Status {
    /// The word that stands for it in `samples.csv`.
    pub fn word(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Warmup => "warmup",
            Self::Failed => "failed",
            Self::Skipped => "skipped",
        }
    }

    /// Whether a row of this status carries a value.
    pub fn has_value(self) -> bool {
        matches!(self, Self::Ok | Self::Warmup)
    }
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.word())
    }
}

/// A word that is not a [`Status`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no status; known are ok, warmup, failed and skipped")]
pub struct UnknownStatus(pub String);

impl FromStr for Status {
    type Err = UnknownStatus;

    fn from_str(word: &str) -> Result<Self, UnknownStatus> {
        [Self::Ok, Self::Warmup, Self::Failed, Self::Skipped]
            .into_iter()
            .find(|status| status.word() == word)
            .ok_or_else(|| UnknownStatus(word.to_owned()))
    }
}

/// One observation: one row of `samples.csv`.
#[derive(Debug, Clone, PartialEq)]
pub struct Sample {
    /// `startup`, `memory`, `overhead`, ...
    pub experiment: String,
    /// `native`, `container`, `microvm`, ...
    pub target: String,
    /// Name of the workload in the catalogue, or of the user's own program.
    pub workload: String,
    /// For example `ready_ns` or `phase.clone_ns`; [`metric::main_of`] for a launch of which nothing came.
    pub metric: String,
    /// Unit of `value`: `ns`, `bytes`, `ns/op`, ...
    pub unit: String,
    /// Number of the block, from 0: a block holds every target once, in shuffled order.
    pub block: u32,
    /// Place of the target in its block, from 0.
    pub order: u32,
    /// Number of the repetition within one launch, from 0; of [`metric::HOST_USED`], how many instances run.
    pub iteration: u32,
    /// The value; `None` where `status` is `Failed` or `Skipped`.
    pub value: Option<f64>,
    /// What became of the observation.
    pub status: Status,
    /// Why there is no value, or a warning about one that there is; of a probe, what was seen.
    pub detail: String,
}

impl Sample {
    /// That the workload `noop` was ready so many nanoseconds after its start: the plainest observation, and what others are
    /// written down as a change of.
    pub(crate) fn ready(target: &str, block: u32, nanoseconds: f64) -> Self {
        Self {
            experiment: "startup".into(),
            target: target.into(),
            workload: "noop".into(),
            metric: metric::READY.into(),
            unit: "ns".into(),
            block,
            order: 0,
            iteration: 0,
            value: Some(nanoseconds),
            status: Status::Ok,
            detail: String::new(),
        }
    }
}

/// The state of the program's source when it was built.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Commit {
    /// Hash of the commit.
    pub hash: String,
    /// Whether files differed from it.
    pub dirty: bool,
}

/// SHA-256 digests, in hexadecimal, of what ran.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Digests {
    /// The program under test, the very bytes that every target ran.
    pub workload: Option<String>,
    /// The program of the real workloads, where one of them was chosen.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub real_workloads: Option<String>,
    /// The built-in guest of `microvm`.
    pub guest: Option<String>,
    /// The kernel of `microvm-linux`.
    pub kernel: Option<String>,
    /// What that kernel calls itself; not a digest, but the name that goes with one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kernel_version: Option<String>,
    /// `samples.csv` as the run left it; `None` where it was ended by force, and from versions that did not say.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub samples: Option<String>,
}

/// What was read of the host. `None`: it could not be read, which is never the same as off or zero.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Host {
    /// Name of the host.
    pub hostname: Option<String>,
    /// Name and version of the distribution.
    pub os: Option<String>,
    /// Release of the running kernel.
    pub kernel: Option<String>,
    /// Model name of the first CPU.
    pub cpu_model: Option<String>,
    /// Logical CPUs that are online.
    pub cpus_online: Option<u32>,
    /// Logical CPUs that this process may run on.
    pub cpus_allowed: Option<u32>,
    /// Size of the last-level cache.
    pub llc_bytes: Option<u64>,
    /// Whether the CPU says that it runs under a hypervisor.
    pub virtualised: Option<bool>,
    /// Whether its processor is software (QEMU without KVM), so that no time means anything.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub emulated: Option<bool>,
    /// Kernel mitigations, by vulnerability, as the kernel words them.
    pub mitigations: BTreeMap<String, String>,
    /// Scaling governor.
    pub governor: Option<String>,
    /// Whether the CPU may raise its frequency by itself.
    pub turbo: Option<bool>,
    /// Whether two threads share a core.
    pub smt: Option<bool>,
    /// Transparent huge pages: `always`, `madvise` or `never`.
    pub thp: Option<String>,
    /// Whether KSM merges equal pages.
    pub ksm: Option<bool>,
    /// `v1`, `v2` or `hybrid`.
    pub cgroup: Option<String>,
    /// What KVM stands on: `vmx`, `svm`, `pvm`, ...
    pub kvm: Option<String>,
    /// Address space layout randomisation, as the kernel numbers it: 0 off, 1 without the heap, 2 whole.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub aslr: Option<u32>,
    /// Whether KVM breaks up executable huge pages of guests (the cure for itlb_multihit).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub nx_huge_pages: Option<String>,
    /// Whether KVM offers virtualisation to its guests.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub nested: Option<String>,
    /// Whether the v2 cgroups are mounted with `favordynmods`, which makes starting and ending groups cheap.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub favordynmods: Option<bool>,
    /// Part of the last ten seconds in which some task waited for a CPU, in percent (pressure stall information).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pressure_cpu: Option<f64>,
    /// The same for memory.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pressure_memory: Option<f64>,
    /// The same for disks.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pressure_io: Option<f64>,
    /// How often the CPUs were slowed down for heat since boot, all of them together.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub throttled: Option<u64>,
    /// Part of the CPU time since boot that the hypervisor below gave to others.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub steal: Option<f64>,
    /// Clock source of the kernel.
    pub clock_source: Option<String>,
    /// Smallest step of CLOCK_MONOTONIC that was seen.
    pub clock_step_ns: Option<u64>,
    /// Memory of the host.
    pub memory_bytes: Option<u64>,
    /// Memory that was available when the run began.
    pub memory_available_bytes: Option<u64>,
    /// Swap in use when the run began.
    pub swap_used_bytes: Option<u64>,
    /// One-minute load average when the run began.
    pub load_1m: Option<f64>,
    /// Effective user number of the harness.
    pub uid: Option<u32>,
}

/// A target that was left out, and why.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SkippedTarget {
    /// Name of the target.
    pub target: String,
    /// Why the host cannot run it.
    pub reason: String,
}

/// A remark on how one target ran, for example without cgroup limits.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TargetNote {
    /// Name of the target.
    pub target: String,
    /// The remark, one sentence.
    pub note: String,
}

/// Why no more launches of a workload in an experiment were made.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EndedCell {
    /// Name of the experiment.
    pub experiment: String,
    /// Name of the workload.
    pub workload: String,
    /// Blocks that were made of it, warm-up included.
    pub blocks: u32,
    /// Why it ended there.
    pub why: Ended,
}

/// How a run was laid out where that can be chosen.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Design {
    /// How many instances were started at once, beside single ones.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub concurrency: Option<u32>,
    /// CPUs of harness and instances where they were parted.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pinned: Option<Placement>,
    /// How long the host rested before each launch of start-up, in milliseconds; 0 in recordings of versions that let it not.
    pub rest_ms: u64,
    /// Page cache of the start-ups: `warm`, `cold` or `both`.
    pub cache: String,
    /// SHA-256 of the program from before that the other was measured in turn with.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub against: Option<String>,
    /// How it was made cold, where it was.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cold_by: Option<String>,
}

/// `run.json`: everything about a run that is not an observation.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RunInfo {
    /// Schema number of the recording: [`SCHEMA`].
    pub schema: u32,
    /// Identifies the run; the same in every row of `samples.csv`.
    pub run_id: String,
    /// Arguments, the program's name first.
    pub command_line: Vec<String>,
    /// Seed of the order and of every resampling.
    pub seed: u64,
    /// `quick`, `standard` or `thorough`.
    pub profile: String,
    /// UTC, as `2026-01-31T12:00:00Z`.
    pub started_utc: String,
    /// UTC; `None` while it runs and where it was ended by force.
    pub finished_utc: Option<String>,
    /// Whether it ended before the plan did.
    pub interrupted: bool,
    /// Version of the harness.
    pub version: String,
    /// Source that it was built from, where known.
    pub commit: Option<Commit>,
    /// Digests of what ran.
    pub digests: Digests,
    /// The host when the run began.
    pub host: Host,
    /// The host when the run ended; `None` where it was ended by force, and from versions that did not look.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub host_at_end: Option<Host>,
    /// What disturbs the measurement or its reading.
    pub warnings: Vec<Warning>,
    /// Targets that were left out.
    pub skipped: Vec<SkippedTarget>,
    /// Remarks on single targets.
    pub notes: Vec<TargetNote>,
    /// Why no more launches were made, a cell each.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub ended: Vec<EndedCell>,
    /// What was asked for beside the usual; `None` from versions that had no such options.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub design: Option<Design>,
    /// Repetition counts by workload, calibrated natively once and then the same for every target.
    pub repetitions: BTreeMap<String, u64>,
}

impl RunInfo {
    /// Whether what was skipped in this target, for this reason, is named among the targets that were left out. A rung of a
    /// ladder stands for its target, and has the same reason.
    #[must_use]
    pub fn names_skip(&self, target: &str, reason: Option<&str>) -> bool {
        self.skipped.iter().any(|skipped| skipped.target == target || reason == Some(&skipped.reason))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_status_is_read_back_from_its_word() {
        for status in [Status::Ok, Status::Warmup, Status::Failed, Status::Skipped] {
            assert_eq!(status.word().parse(), Ok(status));
        }
        assert_eq!("OK".parse::<Status>(), Err(UnknownStatus("OK".into())));
    }

    #[test]
    fn a_host_of_which_nothing_is_known_survives_json() {
        let host: Host = serde_json::from_str("{}").expect("all fields are optional");
        assert_eq!(host, Host::default());
    }
}
