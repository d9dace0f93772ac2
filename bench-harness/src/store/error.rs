//! What can go wrong with a recording on disk.

use std::io;
use std::path::PathBuf;

use crate::record::SCHEMA;

/// A recording could not be written or read. Every message names the file and, where there is one, the next step.
#[derive(Debug, thiserror::Error)]
#[expect(missing_docs, reason = "the fields are named and the messages say what they are")]
pub enum StoreError {
    /// The path of the folder is taken by something else.
    #[error("{} is not a folder; name another with --out", path.display())]
    NotAFolder { path: PathBuf },
    /// The folder could not be made.
    #[error("cannot make the folder {}; name one that you may write to with --out", path.display())]
    CreateFolder { path: PathBuf, source: io::Error },
    /// The folder holds an earlier recording.
    #[error("{} holds a recording already ({found}); it is never overwritten, name another folder with --out", path.display())]
    HoldsRecording { path: PathBuf, found: &'static str },
    /// Nothing can be written in the folder.
    #[error("cannot write {}; name a folder that you may write to with --out", path.display())]
    NotWritable { path: PathBuf, source: io::Error },
    /// A write failed, on a full disk for example.
    #[error("cannot write {}; what was measured before is kept in its folder, make room and see `bench-harness report`", path.display())]
    Write { path: PathBuf, source: io::Error },
    /// A finished file could not take its name.
    #[error("cannot rename a finished file to {}", path.display())]
    Rename { path: PathBuf, source: io::Error },
    /// A sample cannot be a line of the file.
    #[error("the sample {name} cannot be recorded: {problem}")]
    BadSample { name: String, problem: Problem },
    /// The samples could not be turned into CSV.
    #[error("cannot turn samples into CSV")]
    Encode(#[source] csv::Error),
    /// The description of the run could not be turned into JSON.
    #[error("cannot turn the description of the run into JSON")]
    EncodeRun(#[source] serde_json::Error),
    /// There is no recording there.
    #[error("{} holds no recording ({missing} is missing); give the folder that `bench-harness compare` named", path.display())]
    NoRecording { path: PathBuf, missing: &'static str },
    /// A file of the recording could not be read.
    #[error("cannot read {}", path.display())]
    Read { path: PathBuf, source: io::Error },
    /// `run.json` is not what its schema says.
    #[error("{} is not a description of a run; restore the file as the run left it", path.display())]
    BadRun { path: PathBuf, source: serde_json::Error },
    /// The recording is of another schema.
    #[error(
        "{} is of schema {found}, and this program reads schema {SCHEMA}; use the version that made it",
        path.display()
    )]
    OtherSchema { path: PathBuf, found: String },
    /// `samples.csv` is not the file that the run left.
    #[error(
        "{} was changed since the run: its SHA-256 is not the one in run.json; restore the file as the run left it",
        path.display()
    )]
    Edited { path: PathBuf },
    /// `samples.csv` does not begin with the columns of its schema.
    #[error(
        "{} line 1: {problem}; restore the file as the run left it",
        path.display()
    )]
    Header { path: PathBuf, problem: String },
    /// A line of `samples.csv` is not what it should be.
    #[error("{} line {line}: {problem}; restore the file as the run left it", path.display())]
    Line { path: PathBuf, line: u64, problem: Problem },
}

/// What is wrong with one line or sample.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Problem {
    /// Fields are missing or too many.
    #[error("{found} fields in place of {expected}")]
    Fields { found: u64, expected: u64 },
    /// Not UTF-8, or quoted wrongly.
    #[error("not readable as CSV ({0})")]
    Csv(String),
    /// The file ends in the middle of a line.
    #[error("the file ends in the middle of this line")]
    CutOff,
    /// Another schema than the file's first line.
    #[error("schema {0:?} in place of {SCHEMA}")]
    Schema(String),
    /// From another run.
    #[error("run {found:?} in place of {expected:?} as in run.json")]
    Run { found: String, expected: String },
    /// Not a whole number where one belongs.
    #[error("{column} is {text:?}, which is no whole number from 0 to 4294967295")]
    Whole { column: &'static str, text: String },
    /// Empty where a name belongs.
    #[error("{column} is empty")]
    Empty { column: &'static str },
    /// The value is not a number.
    #[error("the value {0:?} is no number")]
    Number(String),
    /// The value is NaN, infinite, negative or huge: no quantity here can be.
    #[error("the value {0} cannot be: values are finite, not negative and below 2^53")]
    Range(String),
    /// No value where the status promises one.
    #[error("no value, though the status is {0}")]
    NoValue(&'static str),
    /// A value where the status rules one out.
    #[error("a value, though the status is {0}")]
    Value(&'static str),
    /// An unknown word for the status.
    #[error(transparent)]
    Status(#[from] crate::record::UnknownStatus),
    /// The same observation twice.
    #[error("the same observation as line {0}")]
    Duplicate(u64),
    /// Values of one metric in several units.
    #[error("unit {found:?} in place of {expected:?} as in the lines before")]
    Unit { found: String, expected: String },
}
