//! The `bench-harness` command: hands the command line to the library and ends with its exit code.
//!
//! `main` is called by the C library's start-up code directly. Rust's own would first read `/proc/self/maps` to find the
//! stack's end, make a signal stack and install handlers; that is a tenth of what a whole `run` of a small program takes.

#![no_main]

use std::ffi::{c_char, c_int};

/// Entry from the C library's start-up code. The arguments are taken from where the standard library keeps them: it has
/// them from the same code, before `main` (`.init_array`).
// SAFETY: no other symbol of this name is in the program: there is no Rust main (`no_main`).
#[unsafe(no_mangle)]
pub extern "C" fn main(_argc: c_int, _argv: *const *const c_char) -> c_int {
    c_int::from(bench_harness::cmd::main(std::env::args_os().skip(1).collect()))
}
