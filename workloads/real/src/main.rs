//! The program of the real workloads: what programs do, by the libraries that they use for it, in one static file.
//!
//! `workload-real [WORKLOAD] [--iters N] [--reps R] [--warmup W] [--calibrate MS] [--hold]`, or
//! `workload-real probe [HOST_PID FILE NONCE]`: what a program can see and do where it runs, or
//! `workload-real aggressor KIND BYTES PROCESSES`: a bad neighbour that keeps to a limit.
//!
//! It is a program of its own so that the other one, whose start is measured, stays as small as it is.

#![no_main]

use core::ffi::{c_char, c_int};

use workload_program::{entry, sys};
use workload_real::{NAMES, aggressor, prepare, probe};

/// Entry from the C library's start-up code.
///
/// # Safety
///
/// `argv` must hold `argc` pointers to strings that end in a zero byte, as the C standard promises of `main`.
// SAFETY: no other symbol of this name is in the program: there is no Rust main (`no_main`).
#[unsafe(no_mangle)]
pub unsafe extern "C" fn main(argc: c_int, argv: *const *const c_char) -> c_int {
    // The first byte of output ends the measured start-up, so nothing comes before it.
    if sys::write_all(sys::STDOUT, b"ready\n").is_err() {
        sys::exit(1);
    }
    // SAFETY: the contract of main is what is asked for.
    let arguments = unsafe { entry::arguments(argc, argv) };
    let mode = arguments.clone().next().unwrap_or_default();
    let rest = arguments.clone().skip(1);
    match mode {
        b"probe" => sys::exit(probe::with_arguments(rest)),
        b"aggressor" => sys::exit(aggressor::with_arguments(rest)),
        _ => {}
    }
    sys::exit(entry::with_arguments(&NAMES, prepare, arguments))
}
