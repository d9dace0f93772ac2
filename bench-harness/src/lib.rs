//! The library behind the `bench-harness` command.

pub mod record;
