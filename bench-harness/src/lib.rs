//! The library behind the `bench-harness` command.

pub mod checks;
pub mod cli;
pub mod clock;
pub mod cmd;
pub mod container_options;
pub mod error;
pub mod experiment;
pub mod gate;
pub mod host;
pub mod memory_size;
pub mod plan;
pub mod program;
pub mod progress;
pub mod record;
pub mod report;
pub mod runner;
pub mod sealed;
pub mod signals;
pub mod stats;
pub mod store;
pub mod summary;
pub mod target;
pub mod units;
pub mod utc;
pub mod warning;
pub mod workload;
