//! A Linux guest from outside: programs, their ends, devices, and kernels that do not come to an end of their own.
//!
//! Most need a KVM that runs kernels and one of the kernels that scripts/fetch-guest-kernel and
//! scripts/build-guest-kernel leave in the cache (or `GUEST_KERNEL`); without them they say so and skip. Those of `hostile` bring kernels
//! of a few bytes, which any KVM runs.

#![expect(clippy::print_stdout, reason = "says why a test skips")]

mod backing;
mod common;
mod devices;
mod hostile;
#[path = "../pages/mod.rs"]
mod pages;
mod programs;
mod refused;
