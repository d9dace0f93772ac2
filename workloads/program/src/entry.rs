//! From `main` to a run: what the programs have in common.

use core::ffi::{CStr, c_char, c_int};

use crate::cli::Request;
use crate::output::complain;
use crate::run::{Prepare, run};

/// The arguments that follow the program's name.
///
/// # Safety
///
/// `argv` must hold `argc` pointers to strings that end in a zero byte and live as long as the program, as the C
/// standard promises of `main`.
pub unsafe fn arguments(
    argc: c_int,
    argv: *const *const c_char,
) -> impl Iterator<Item = &'static [u8]> + Clone {
    let count = usize::try_from(argc).unwrap_or(0);
    // SAFETY: `index` is below `argc`, and each of the first `argc` pointers is to a string (our own contract).
    (1..count).map(move |index| unsafe { CStr::from_ptr(*argv.add(index)) }.to_bytes())
}

/// Reads the arguments and does what they ask for; the exit status. Never inlined, so that `main` stays on one
/// page.
#[inline(never)]
pub fn with_arguments(
    names: &'static [&'static str],
    prepare: Prepare,
    arguments: impl Iterator<Item = &'static [u8]>,
) -> u8 {
    // A reader that went away shall be an error of write(2) and not a signal.
    // SAFETY: SIG_IGN is no function of ours; nothing else in the program uses this signal.
    unsafe { libc::signal(libc::SIGPIPE, libc::SIG_IGN) };
    match Request::parse(names, arguments) {
        Ok(request) => run(&request, prepare),
        Err(error) => {
            complain(&error);
            2
        }
    }
}
