//! The program that is measured in every target: all workloads in one static file.
//!
//! `workload-program [WORKLOAD] [--iters N] [--reps R] [--warmup W] [--calibrate MS] [--hold]`
//!
//! It has one thread, and `main` is called by the C library's start-up code directly: Rust's own would first
//! make a signal stack, look at the standard descriptors and install handlers, none of which is needed, and
//! the start is what is measured.

#![no_main]

mod cli;
mod output;
mod run;

use core::ffi::{CStr, c_char, c_int};

use workload_program::sys;

use cli::Request;

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
    let count = usize::try_from(argc).unwrap_or(0);
    // SAFETY: `index` is below `argc`, and each of the first `argc` pointers is to a string (the contract of
    // main).
    let argument = |index: usize| unsafe { CStr::from_ptr(*argv.add(index)) }.to_bytes();
    // This one is started more often than all others together.
    if count == 2 && argument(1) == b"noop" {
        sys::exit(0);
    }
    sys::exit(with_arguments((1..count).map(argument)))
}

/// Everything but the plain `noop`; never inlined, so that `main` stays on one page.
#[inline(never)]
fn with_arguments<'a>(arguments: impl Iterator<Item = &'a [u8]>) -> u8 {
    // A reader that went away shall be an error of write(2) and not a signal.
    // SAFETY: SIG_IGN is no function of ours; nothing else in the program uses this signal.
    unsafe { libc::signal(libc::SIGPIPE, libc::SIG_IGN) };
    match Request::parse(arguments) {
        Ok(request) => run::run(&request),
        Err(error) => {
            output::complain(&error);
            2
        }
    }
}
