//! The library behind the `bench-harness` command.

pub mod record;
pub mod report;
pub mod stats;
pub mod store;
pub mod summary;
pub mod units;
pub mod warning;
