//! The sub-commands, one a file, and what they share: printing, and the way from an error to an exit code.

use std::ffi::OsString;
use std::io::{self, Write};
use std::panic::{self, AssertUnwindSafe};

use crate::cli::{self, Command};
use crate::error::{self, HarnessError, chain};

pub mod compare;
pub mod doctor;
pub mod gate;
pub mod list;
pub mod report;
pub mod run;
pub mod selftest;
mod streams;

/// Does what the command line (without the program's own name) says, and returns the exit code.
#[must_use]
pub fn main(args: Vec<OsString>) -> u8 {
    let is_run = args.first().is_some_and(|first| first == "run");
    streams::open_closed();
    if !is_run {
        streams::ignore_sigpipe();
    }
    // A defect of ours must not look like the program's or like a verdict. Unwinding runs the guards that kill and
    // reap the instances; what the standard hook prints says where it was.
    let outcome = panic::catch_unwind(AssertUnwindSafe(|| dispatch(args, is_run)));
    match outcome {
        Ok(code) => code,
        Err(_) if is_run => error::OWN_FAILURE,
        Err(_) => error::FAILED,
    }
}

fn dispatch(args: Vec<OsString>, is_run: bool) -> u8 {
    let command = match cli::parse(args) {
        Ok(command) => command,
        Err(problem) => {
            // Help and version go to standard output and are no failure.
            let code = if !problem.use_stderr() {
                error::DONE
            } else if is_run {
                error::OWN_FAILURE
            } else {
                error::USAGE
            };
            return if problem.print().is_ok() { code } else { code.max(error::HOST) };
        }
    };
    let result = match command {
        Command::Run(args) => run::run(&args),
        Command::Compare(args) => compare::compare(&args),
        Command::Report(args) => report::report(&args),
        Command::Gate(args) => gate::gate(&args),
        Command::Selftest(args) => selftest::selftest(&args),
        Command::List(args) => list::list(&args),
        Command::Doctor(args) => doctor::doctor(&args),
    };
    result.unwrap_or_else(|problem| {
        complain(&chain(&problem));
        if is_run { error::OWN_FAILURE } else { problem.exit_code() }
    })
}

/// Prints to standard output. A reader that has gone away (`| head`) is no error.
///
/// # Errors
/// Any other failure to write, a full disk for example.
pub fn print(text: &str) -> Result<(), HarnessError> {
    let mut out = io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Err(problem) if problem.kind() != io::ErrorKind::BrokenPipe => Err(HarnessError::Output(problem)),
        _ => Ok(()),
    }
}

/// Columns for tables: those of the terminal, and at most 100.
#[must_use]
pub fn width() -> usize {
    const WIDEST: usize = 100;
    // Less than this is no width for a table; a terminal that says 0 does not know.
    const NARROWEST: usize = 60;
    terminal_columns().map_or(WIDEST, |columns| columns.clamp(NARROWEST, WIDEST))
}

fn terminal_columns() -> Option<usize> {
    let mut size = libc::winsize { ws_row: 0, ws_col: 0, ws_xpixel: 0, ws_ypixel: 0 };
    // SAFETY: TIOCGWINSZ writes one winsize through the pointer, which is to `size` above.
    let known = unsafe { libc::ioctl(libc::STDOUT_FILENO, libc::TIOCGWINSZ, &raw mut size) } == 0;
    (known && size.ws_col > 0).then_some(usize::from(size.ws_col))
}

/// Prints a line for the user to standard error.
pub fn complain(text: &str) {
    // Where standard error cannot be written to, there is nobody left to tell; the exit code says it, too.
    drop(writeln!(io::stderr().lock(), "bench-harness: {}", printable(text)));
}

/// The text with its control characters spelt out: it may quote an archive, whose bytes are not to reach the terminal.
fn printable(text: &str) -> String {
    let spell = |c: char| match c {
        '\n' => c.to_string(),
        c if c.is_control() => c.escape_default().to_string(),
        c => c.to_string(),
    };
    text.chars().map(spell).collect()
}
