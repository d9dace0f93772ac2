//! Why a launch gave no result.

use std::io;
use std::time::Duration;

use nix::errno::Errno;

use super::{KILL_TIMEOUT, OUTPUT_LIMIT};
use crate::cold::ColdError;
use crate::error::chain;
use crate::target::{LaunchError, Status};

/// Why a launch gave no result.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LaunchFailure {
    /// It did not start.
    #[error("cannot be started: {}", chain(.0))]
    Start(#[source] LaunchError),
    /// Pipes, polls, reads of ours.
    #[error("cannot be observed: {step}: {source}")]
    Observe {
        /// What was tried.
        step: &'static str,
        /// Why it failed.
        #[source]
        source: io::Error,
    },
    /// Its end could not be learned.
    #[error("its end cannot be learned: {}", chain(.0))]
    End(#[source] LaunchError),
    /// Longer than the limit.
    #[error("still running after {} s, ended", .0.as_secs_f64())]
    Timeout(Duration),
    /// It was killed and is still there.
    #[error("killed, and still there after {} s", KILL_TIMEOUT.as_secs())]
    Unkillable,
    /// More output than anything sane.
    #[error("floods its output: more than {} KiB, ended", OUTPUT_LIMIT >> 10)]
    Flood,
    /// Ended without a byte.
    #[error("printed nothing before it {status}{stderr}")]
    Silent {
        /// How it ended.
        status: Status,
        /// What it said on standard error, with a separator, or nothing.
        stderr: String,
    },
    /// Ended otherwise than with 0.
    #[error("{status}{stderr}")]
    Ended {
        /// How it ended.
        status: Status,
        /// What it said on standard error, with a separator, or nothing.
        stderr: String,
    },
    /// What was to run beside it does not do what it should.
    #[error("the aggressor {0}")]
    Aggressor(String),
    /// Its lines are not the protocol's.
    #[error("breaks the protocol: {0}")]
    Protocol(String),
    /// Its bytes stay in the page cache.
    #[error("cannot be started cold: {}", chain(.0))]
    Warm(#[source] ColdError),
    /// A signal came to us.
    #[error("interrupted")]
    Interrupted,
}

pub(super) fn observe(step: &'static str) -> impl Fn(Errno) -> LaunchFailure {
    move |errno| LaunchFailure::Observe { step, source: errno.into() }
}
