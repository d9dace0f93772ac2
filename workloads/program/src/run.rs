//! Repetitions, their marks, and the calibration.

use core::fmt::Display;

use crate::sys::{self, WriteFailed, now_ns};
use crate::work::{PrepareError, Work};

use crate::cli::{Mode, Request};
use crate::output::{Lines, complain};

/// What finds a workload by name and prepares it.
pub type Prepare = fn(&str) -> Result<Box<dyn Work>, PrepareError>;

/// Does what was asked for and returns the exit status.
pub fn run(request: &Request, prepare: Prepare) -> u8 {
    let mut work = match prepare(request.workload) {
        Ok(work) => work,
        Err(error) => return fail(&error),
    };
    let written = match request.mode {
        Mode::Repeat { iters, reps, warmup } => repeat(work.as_mut(), iters, reps, warmup),
        Mode::Calibrate { milliseconds } => {
            let iters = calibrate(work.as_mut(), milliseconds.saturating_mul(1_000_000));
            let mut lines = Lines::default();
            lines.line(format_args!("sample iters count {iters}"));
            lines.flush()
        }
    };
    if written.is_err() {
        return 1;
    }
    if request.hold {
        sys::wait_for_end_of_input();
    }
    0
}

fn fail(error: &dyn Display) -> u8 {
    complain(error);
    1
}

/// `begin` and `end` are each the last line of a write, and `end` the only one: the results of a repetition
/// travel with the next `begin`, so that two writes a repetition are enough and no formatting lies between
/// the marks.
fn repeat(work: &mut dyn Work, iters: u64, reps: u64, warmup: u64) -> Result<(), WriteFailed> {
    let mut lines = Lines::default();
    for repetition in 0..warmup.saturating_add(reps) {
        lines.line(format_args!("{}", if repetition < warmup { "begin warmup" } else { "begin" }));
        lines.flush()?;
        let start = now_ns();
        let check = work.repeat(iters);
        let elapsed = now_ns().saturating_sub(start);
        sys::write_all(sys::STDOUT, b"end\n")?;
        let operations = work.operations() as f64 * iters as f64;
        lines.sample("time_per_op", "ns", elapsed as f64 / operations);
        work.figures(iters, elapsed, &mut |(name, unit, value)| lines.sample(name, unit, value));
        lines.line(format_args!("check {check:016x}"));
    }
    lines.flush()
}

/// The number of iterations that last about `wanted_ns`.
///
/// Doubles the number until a repetition takes a quarter of the time wanted, which is long enough to be
/// extrapolated; the first repetitions also serve as a warm-up.
fn calibrate(work: &mut dyn Work, wanted_ns: u64) -> u64 {
    let mut iters: u64 = 1;
    // Caches, page tables and branch predictors are cold in the first one.
    work.repeat(iters);
    loop {
        let start = now_ns();
        work.repeat(iters);
        let elapsed = now_ns().saturating_sub(start);
        if elapsed >= wanted_ns / 4 || iters >= u64::MAX / 2 {
            let ideal = u128::from(iters) * u128::from(wanted_ns) / u128::from(elapsed.max(1));
            return u64::try_from(ideal).unwrap_or(u64::MAX).max(1);
        }
        iters *= 2;
    }
}
