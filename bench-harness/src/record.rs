//! The recording in memory: observations as they are made, before and after they are files.
//!
//! `store` turns these into `samples.csv` and back; everything that is printed or drawn is computed from them.

/// Version of the recording's files. Raised when a column or a key changes its meaning.
pub const SCHEMA: u32 = 1;

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

/// One observation: one row of `samples.csv`.
#[derive(Debug, Clone, PartialEq)]
pub struct Sample {
    /// `startup`, `memory`, `overhead`, ...
    pub experiment: String,
    /// `native`, `container`, `microvm`, ...
    pub target: String,
    /// Name of the workload in the catalogue, or of the user's own program.
    pub workload: String,
    /// For example `ready_ns` or `phase.clone_ns`.
    pub metric: String,
    /// Unit of `value`: `ns`, `bytes`, `ns/op`, ...
    pub unit: String,
    /// Number of the block, from 0: a block holds every target once, in shuffled order.
    pub block: u32,
    /// Place of the target in its block, from 0.
    pub order: u32,
    /// Number of the repetition within one launch, from 0.
    pub iteration: u32,
    /// The value; `None` where `status` is `Failed` or `Skipped`.
    pub value: Option<f64>,
    /// What became of the observation.
    pub status: Status,
    /// Why there is no value, or a warning about one that there is.
    pub detail: String,
}
