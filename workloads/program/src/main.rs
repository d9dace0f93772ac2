//! The program that is measured in every target: all workloads in one static file.
//!
//! `workload-program [WORKLOAD] [--iters N] [--reps R] [--warmup W] [--calibrate MS] [--hold]`
//!
//! It has one thread, and `main` is called by the C library's start-up code directly: Rust's own would first
//! make a signal stack, look at the standard descriptors and install handlers, none of which is needed, and
//! the start is what is measured.

#![no_main]

use core::ffi::{c_char, c_int};

use workload_program::{NAMES, entry, prepare, sys};

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
    if argc <= 1 {
        sys::exit(0);
    }
    // SAFETY: the contract of main is what is asked for.
    let arguments = unsafe { entry::arguments(argc, argv) };
    // This one is started more often than all others together.
    if argc == 2 && arguments.clone().next() == Some(b"noop".as_slice()) {
        sys::exit(0);
    }
    sys::exit(entry::with_arguments(&NAMES, prepare, arguments))
}
