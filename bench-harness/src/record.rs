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

/// Experiment of many idle instances at the same time.
pub const DENSITY: &str = "density";

/// Metrics that the summary or the reports treat by name. All others are shown as they are.
pub mod metric {
    /// Start to the first byte of output.
    pub const READY: &str = "ready_ns";
    /// Start to the instance being gone and its exit status known.
    pub const EXIT: &str = "exit_ns";
    /// The workload's end to nothing of the instance being left.
    pub const TEARDOWN: &str = "teardown_ns";
    /// What a named phase of the start begins with: `phase.clone_ns`.
    pub const PHASE_PREFIX: &str = "phase.";
    /// Proportional set size of all processes of an instance.
    pub const PSS: &str = "pss_bytes";
    /// Unique set size of all processes of an instance.
    pub const USS: &str = "uss_bytes";
    /// Resident set size of all processes of an instance.
    pub const RSS: &str = "rss_bytes";
    /// Memory charged to an instance's cgroup.
    pub const CGROUP: &str = "cgroup_bytes";
    /// Memory of the host in use while `iteration` instances run (0: none yet): the points of one curve a block.
    ///
    /// The points are the observations; [`MARGINAL`] is computed from them.
    pub const HOST_USED: &str = "host_used_bytes";
    /// Slope of [`HOST_USED`] over the number of running instances.
    pub const MARGINAL: &str = "marginal_bytes";
    /// Memory that the kernel itself keeps (slab, kernel stacks, page tables, per-CPU memory) while `iteration` instances run:
    /// the points of one curve a block, of which [`KERNEL`] is computed.
    pub const KERNEL_USED: &str = "kernel_used_bytes";
    /// Slope of [`KERNEL_USED`] over the number of running instances.
    pub const KERNEL: &str = "kernel_bytes";
    /// Memory of the host in slabs while `iteration` instances run, and its slope.
    pub const SLAB_USED: &str = "slab_used_bytes";
    /// Slope of [`SLAB_USED`].
    pub const SLAB: &str = "slab_bytes";
    /// Memory of the host in page tables while `iteration` instances run.
    pub const PAGE_TABLES_USED: &str = "page_tables_used_bytes";
    /// Slope of [`PAGE_TABLES_USED`].
    pub const PAGE_TABLES: &str = "page_tables_bytes";
    /// Sum of the proportional set sizes of `iteration` instances.
    pub const PSS_TOTAL: &str = "pss_total_bytes";
    /// Slope of [`PSS_TOTAL`].
    pub const PSS_EACH: &str = "pss_each_bytes";
    /// Sum of what is charged to the groups of `iteration` instances.
    pub const CGROUP_TOTAL: &str = "cgroup_total_bytes";
    /// Slope of [`CGROUP_TOTAL`].
    pub const CGROUP_EACH: &str = "cgroup_each_bytes";
    /// Memory that was available before the first instance of a round.
    pub const AVAILABLE: &str = "available_bytes";
    /// Instances of a round; `detail` says why no more.
    pub const REACHED: &str = "reached_instances";
    /// [`AVAILABLE`] over [`MARGINAL`]: how many instances would fill the host. An estimate, and called one.
    pub const FULL_AT: &str = "full_at_estimate";
    /// The most that one instance had resident since its program began.
    pub const PEAK_RSS: &str = "peak_rss_bytes";
    /// The most that was charged to its group.
    pub const PEAK_CGROUP: &str = "peak_cgroup_bytes";
    /// Pages that two instances have in common.
    pub const SHARED: &str = "shared_bytes";
    /// The part of [`SHARED`] that is page cache.
    pub const SHARED_CACHE: &str = "shared_cache_bytes";
    /// Pages of two instances that KSM has merged.
    pub const SHARED_KSM: &str = "shared_ksm_bytes";
    /// CPU time that the kernel's own threads used for so long after an instance was gone.
    pub const DEFERRED: &str = "deferred_cpu_ns";
    /// From an instance being gone until half of [`DEFERRED`] was used.
    pub const DEFERRED_HALF: &str = "deferred_half_ns";
    /// What the metrics of many instances started at once begin with, before their number: `at_once_64.ready_ns`.
    pub const AT_ONCE_PREFIX: &str = "at_once_";
    /// 99th percentile of [`READY`] within one batch.
    pub const READY_P99: &str = "ready_p99_ns";
    /// Instances of a batch over the time until the last of them is gone.
    pub const RATE: &str = "rate";
    /// The time until the last of a batch is gone, over its instances and times the CPUs: what one takes of a CPU.
    pub const SHARE: &str = "share_ns";
    /// What the metrics begin with that are differences of a rung of a ladder to another one: `layer.ready_ns`.
    pub const LAYER_PREFIX: &str = "layer.";
    /// Time of one operation, measured by the workload.
    pub const TIME_PER_OP: &str = "time_per_op_ns";
    /// Time between the workload's begin and end marks, measured by the host.
    pub const HOST_WALL: &str = "host_wall_ns";
    /// In the experiment [`super::HARNESS`]: what the harness itself spends inside one measured window.
    pub const WINDOW_COST: &str = "window_cost_ns";
    /// In the experiment [`super::HARNESS`]: smallest step of the host's clock that was seen.
    pub const CLOCK_STEP: &str = "clock_step_ns";

    /// Metrics that are points of a curve, and those that are its slope.
    pub const CURVES: [(&str, &str); 6] = [
        (HOST_USED, MARGINAL),
        (KERNEL_USED, KERNEL),
        (SLAB_USED, SLAB),
        (PAGE_TABLES_USED, PAGE_TABLES),
        (PSS_TOTAL, PSS_EACH),
        (CGROUP_TOTAL, CGROUP_EACH),
    ];

    /// The name of a metric of so many instances started at once.
    pub fn at_once(instances: u32, name: &str) -> String {
        format!("{AT_ONCE_PREFIX}{instances}.{name}")
    }

    /// The number of instances and the metric of one of them.
    pub fn of_at_once(name: &str) -> Option<(&str, &str)> {
        name.strip_prefix(AT_ONCE_PREFIX)?.split_once('.')
    }

    /// The slope that a metric is a point for.
    pub fn slope_of(name: &str) -> Option<&'static str> {
        CURVES.iter().find(|(points, _)| *points == name).map(|(_, slope)| *slope)
    }

    /// Different system calls of the host that all processes of an instance made.
    pub const SYSTEM_CALLS: &str = "system_calls";
    /// How many calls those were.
    pub const SYSTEM_CALLS_MADE: &str = "system_calls_made";
    /// Those of [`SYSTEM_CALLS`] that were made once the program ran.
    pub const SYSTEM_CALLS_RUNNING: &str = "system_calls_running";
    /// How many calls the process made that started the instance.
    pub const SYSTEM_CALLS_STARTER: &str = "system_calls_starter";
    /// What the number of one system call begins with: `call.mmap`. `iteration` is 0 for those that set the instance up,
    /// 1 for those that were made once the program ran.
    pub const CALL_PREFIX: &str = "call.";
    /// Different functions of the host's kernel that all processes of an instance entered.
    pub const FUNCTIONS: &str = "kernel_functions";
    /// What the number of one function begins with: `function.vfs_read`.
    pub const FUNCTION_PREFIX: &str = "function.";
    /// What a probe from inside begins with: `probe.mount`. 1 where it reaches the host; `detail` says what was seen.
    pub const PROBE_PREFIX: &str = "probe.";

    /// Median over the repetitions of one launch of a victim.
    pub const BESIDE_MEDIAN: &str = "op_median_ns";
    /// 99th percentile over the same.
    pub const BESIDE_P99: &str = "op_p99_ns";
    /// The most memory that one aggressor used at a time.
    pub const AGGRESSOR_MEMORY: &str = "aggressor_memory_bytes";
    /// The most processes that it had.
    pub const AGGRESSOR_PROCESSES: &str = "aggressor_processes";
    /// Its CPU time over elapsed time.
    pub const AGGRESSOR_CPU: &str = "aggressor_cpu";
    /// How often its limits refused what it asked for.
    pub const AGGRESSOR_REFUSED: &str = "aggressor_refused";

    /// Whether it is one of a set, which tables of figures would drown in: it is kept and enters no summary.
    #[must_use]
    pub fn is_of_set(name: &str) -> bool {
        [CALL_PREFIX, FUNCTION_PREFIX, PROBE_PREFIX].iter().any(|prefix| name.starts_with(prefix))
    }

    /// The metric whose row stands for a whole launch that failed or was skipped.
    pub fn main_of(experiment: &str) -> &'static str {
        match experiment {
            "memory" => PSS,
            super::DENSITY => HOST_USED,
            "overhead" => TIME_PER_OP,
            "surface" => SYSTEM_CALLS,
            "neighbours" => BESIDE_MEDIAN,
            super::HARNESS => WINDOW_COST,
            _ => READY,
        }
    }
}

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
