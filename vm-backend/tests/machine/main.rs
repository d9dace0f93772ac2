//! Programs in machines, through the public interface: what a program sees must be what Linux shows it natively.

#![expect(
    clippy::unwrap_used,
    clippy::print_stderr,
    reason = "a test stops at what it did not expect, and says why it was skipped"
)]

mod backing;
mod calls;
mod common;
mod config;
mod endings;
mod hostile;
mod lifecycle;
#[path = "../pages/mod.rs"]
mod pages;
mod real_programs;
mod streams;
