//! What can go wrong in the command itself, and with which exit code it ends.

use std::io;
use std::path::PathBuf;

use crate::program::ProgramError;
use crate::runner::LaunchFailure;
use crate::store::StoreError;

/// Done.
pub const DONE: u8 = 0;
/// Gating found a regression.
pub const REGRESSED: u8 = 1;
/// Wrong usage.
pub const USAGE: u8 = 2;
/// The host cannot do what was asked.
pub const HOST: u8 = 3;
/// A target or a workload failed.
pub const FAILED: u8 = 4;
/// Gating could not tell.
pub const UNCLEAR: u8 = 5;
/// `run`: the time limit ended the program, as coreutils' timeout(1) says it.
pub const TIMED_OUT: u8 = 124;
/// `run`: our own failure, as `docker run` says it.
pub const OWN_FAILURE: u8 = 125;
/// Added to the number of a signal that ended the program, or us, as shells say it.
pub const SIGNALED: u8 = 128;

/// A failure that ends the command.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum HarnessError {
    /// Options that contradict each other, or a value out of range.
    #[error("{0}")]
    Usage(String),
    /// The program to run is not fit.
    #[error(transparent)]
    Program(#[from] ProgramError),
    /// Memory size out of range.
    #[error("--mem {asked}: {why}")]
    Memory {
        /// What was asked for, in MiB.
        asked: u64,
        /// What is wrong with it.
        why: String,
    },
    /// A target that was asked for by name cannot run here.
    #[error("target {target} cannot run on this host: {reason}")]
    Unavailable {
        /// The target.
        target: &'static str,
        /// Why.
        reason: String,
    },
    /// The experiment density cannot be made.
    #[error(transparent)]
    Density(#[from] crate::experiment::density::Refusal),
    /// The page cache cannot be made cold.
    #[error(
        "--cache cold: no start can be made cold here: {}; set TMPDIR to a folder on a disk, or leave the option out",
        problems.iter().map(|problem| chain(problem)).collect::<Vec<_>>().join("; ")
    )]
    Cold {
        /// What was in the way, a folder each.
        problems: Vec<crate::cold::ColdError>,
    },
    /// Two recordings that must not be compared.
    #[error(
        "refused to compare {} with {}: {}; measure both in the same way on one host, or give --force and judge for yourself",
        old.display(), new.display(), differences.join("; ")
    )]
    NotComparable {
        /// Folder of the old one.
        old: PathBuf,
        /// Folder of the new one.
        new: PathBuf,
        /// What differs.
        differences: Vec<String>,
    },
    /// A target could not be started.
    #[error("cannot start the program in target {target}")]
    Launch {
        /// The target.
        target: &'static str,
        /// Why.
        #[source]
        source: crate::target::LaunchError,
    },
    /// A file of ours.
    #[error("cannot {action} {}", path.display())]
    File {
        /// What was tried.
        action: &'static str,
        /// With which file.
        path: PathBuf,
        /// Why it failed.
        #[source]
        source: io::Error,
    },
    /// The program's bytes could not be put in memory.
    #[error("cannot hold the workload in memory: {step}")]
    Seal {
        /// Which step.
        step: &'static str,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// Standard output.
    #[error("cannot write to standard output")]
    Output(#[source] io::Error),
    /// A signal disposition.
    #[error("cannot set up signal handling")]
    Signals(#[source] io::Error),
    /// The recording.
    #[error(transparent)]
    Recording(#[from] StoreError),
    /// What is made from the recording.
    #[error(transparent)]
    Report(#[from] crate::report::ReportError),
    /// The buffers for observing.
    #[error(transparent)]
    Observe(#[from] LaunchFailure),
}

impl HarnessError {
    /// Exit code of every command but `run`, which always says 125.
    #[must_use]
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::Usage(_) | Self::Program(_) | Self::Memory { .. } => USAGE,
            Self::Unavailable { .. }
            | Self::Cold { .. }
            | Self::Density(_)
            | Self::NotComparable { .. }
            | Self::File { .. }
            | Self::Output(_)
            | Self::Recording(_)
            | Self::Report(_) => HOST,
            Self::Launch { .. } | Self::Seal { .. } | Self::Signals(_) | Self::Observe(_) => FAILED,
        }
    }
}

/// An error and everything that caused it, on one line: `what: why: why that`.
#[must_use]
pub fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        next = cause.source();
    }
    text
}
