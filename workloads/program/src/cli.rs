//! The command line.

use core::fmt;

/// What is asked for.
#[derive(Debug, PartialEq, Eq)]
pub struct Request {
    /// One of the names that were known.
    pub workload: &'static str,
    /// What to do with it.
    pub mode: Mode,
    /// Whether to stay, idle, until standard input ends.
    pub hold: bool,
}

/// What to do with the workload.
#[derive(Debug, PartialEq, Eq)]
pub enum Mode {
    /// `warmup` repetitions, then `reps`, of `iters` iterations each.
    Repeat {
        /// Iterations in a repetition.
        iters: u64,
        /// Repetitions that count.
        reps: u64,
        /// Repetitions before them that do not.
        warmup: u64,
    },
    /// Find the number of iterations that last about so many milliseconds.
    Calibrate {
        /// The milliseconds.
        milliseconds: u64,
    },
}

/// Why the command line is refused.
#[derive(Debug, PartialEq, Eq)]
pub enum UsageError<'a> {
    /// No workload of that name.
    Workload {
        /// What was asked for.
        name: &'a [u8],
        /// What could have been.
        known: &'static [&'static str],
    },
    /// No option of that name, or a second workload.
    Option(&'a [u8]),
    /// The option needs a number, and nothing follows it.
    Missing(&'static str),
    /// The option needs a number from `lowest` on, and something else follows it.
    Number {
        /// The option.
        option: &'static str,
        /// What followed it.
        value: &'a [u8],
        /// The smallest number that it takes.
        lowest: u64,
    },
}

impl<'a> Request {
    /// Reads the arguments that follow the program's name; `names` are the workloads, the default first.
    ///
    /// # Errors
    ///
    /// [`UsageError`] for the first argument that is not understood.
    pub fn parse(
        names: &'static [&'static str],
        mut arguments: impl Iterator<Item = &'a [u8]>,
    ) -> Result<Self, UsageError<'a>> {
        let (mut workload, mut iters, mut reps, mut warmup) = (None, None, None, 0);
        let (mut calibrate, mut hold) = (None, false);
        while let Some(argument) = arguments.next() {
            match argument {
                b"--iters" => iters = Some(number("--iters", 1, arguments.next())?),
                b"--reps" => reps = Some(number("--reps", 0, arguments.next())?),
                b"--warmup" => warmup = number("--warmup", 0, arguments.next())?,
                b"--calibrate" => calibrate = Some(number("--calibrate", 1, arguments.next())?),
                b"--hold" => hold = true,
                _ if argument.starts_with(b"-") || workload.is_some() => {
                    return Err(UsageError::Option(argument));
                }
                _ => match names.iter().find(|name| name.as_bytes() == argument) {
                    Some(name) => workload = Some(*name),
                    None => return Err(UsageError::Workload { name: argument, known: names }),
                },
            }
        }
        let workload = workload.or(names.first().copied()).unwrap_or("noop");
        // `noop --hold` alone is the idle instance whose memory is looked at: it does not even measure its
        // marks.
        let reps = reps.unwrap_or(u64::from(workload != "noop"));
        let mode = match calibrate {
            Some(milliseconds) => Mode::Calibrate { milliseconds },
            None => Mode::Repeat { iters: iters.unwrap_or(1), reps, warmup },
        };
        Ok(Self { workload, mode, hold })
    }
}

fn number<'a>(option: &'static str, lowest: u64, value: Option<&'a [u8]>) -> Result<u64, UsageError<'a>> {
    let value = value.ok_or(UsageError::Missing(option))?;
    let refused = UsageError::Number { option, value, lowest };
    // Digits only: the standard library's parser would also take a plus sign.
    if !value.iter().all(u8::is_ascii_digit) {
        return Err(refused);
    }
    match core::str::from_utf8(value).ok().and_then(|digits| digits.parse().ok()) {
        Some(number) if number >= lowest => Ok(number),
        _ => Err(refused),
    }
}

impl fmt::Display for UsageError<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Workload { name, known } => {
                write!(f, "unknown workload '{}'; known are:", Printable(name))?;
                known.iter().try_for_each(|name| write!(f, " {name}"))
            }
            Self::Option(option) => write!(
                f,
                "unexpected argument '{}'; usage: [WORKLOAD] [--iters N] [--reps R] [--warmup W] [--calibrate MS] [--hold]",
                Printable(option)
            ),
            Self::Missing(option) => write!(f, "{option} needs a number after it"),
            Self::Number { option, value, lowest } => {
                write!(f, "{option} needs a whole number from {lowest} on, not '{}'", Printable(value))
            }
        }
    }
}

/// The first part of an argument, without anything that a terminal could take as a command.
struct Printable<'a>(&'a [u8]);

impl fmt::Display for Printable<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const LONGEST: usize = 60;
        write!(f, "{}", self.0.get(..LONGEST).unwrap_or(self.0).escape_ascii())
    }
}
