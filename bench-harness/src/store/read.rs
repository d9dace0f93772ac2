//! The strict reader: what is read is what a run wrote, or nothing.

use std::collections::HashMap;
use std::fs;
use std::io;
use std::path::Path;

use sha2::{Digest, Sha256};

use super::error::{Problem, StoreError};
use super::{COLUMNS, Line, RUN, SAMPLES, SAMPLES_PART};
use crate::record::{RunInfo, SCHEMA, Sample, Status};

/// Reads the recording in a folder.
///
/// # Errors
///
/// Where the folder holds none, and where anything in it is not as a run writes it; the message names file and line.
pub fn read(dir: &Path) -> Result<(RunInfo, Vec<Sample>), StoreError> {
    let missing = |missing| StoreError::NoRecording { path: dir.to_owned(), missing };
    let mut info = read_run(&dir.join(RUN))?.ok_or_else(|| missing(RUN))?;
    let path = dir.join(SAMPLES);
    if let Some(bytes) = read_file(&path)? {
        let samples = parse(&path, &bytes, &info.run_id)?;
        // Last: what can be said of a single line helps more.
        match &info.digests.samples {
            Some(digest) if *digest != super::hex(&Sha256::digest(&bytes)) => {
                return Err(StoreError::Edited { path });
            }
            _ => return Ok((info, samples)),
        }
    }
    let path = dir.join(SAMPLES_PART);
    let mut bytes = read_file(&path)?.ok_or_else(|| missing(SAMPLES))?;
    // Ended by force: a line that was being written is no observation.
    let whole = bytes.iter().rposition(|byte| *byte == b'\n').map_or(0, |at| at + 1);
    bytes.truncate(whole);
    info.interrupted = true;
    let samples = parse(&path, &bytes, &info.run_id)?;
    Ok((info, samples))
}

fn read_file(path: &Path) -> Result<Option<Vec<u8>>, StoreError> {
    match fs::read(path) {
        Ok(bytes) => Ok(Some(bytes)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(source) => Err(StoreError::Read { path: path.to_owned(), source }),
    }
}

fn read_run(path: &Path) -> Result<Option<RunInfo>, StoreError> {
    let Some(bytes) = read_file(path)? else { return Ok(None) };
    let bad = |source| StoreError::BadRun { path: path.to_owned(), source };
    // The schema first: a later one may well have other keys, and that is the better message.
    let json: serde_json::Value = serde_json::from_slice(&bytes).map_err(bad)?;
    match json.get("schema") {
        Some(schema) if schema.as_u64() != Some(u64::from(SCHEMA)) => {
            Err(StoreError::OtherSchema { path: path.to_owned(), found: schema.to_string() })
        }
        _ => serde_json::from_value(json).map(Some).map_err(bad),
    }
}

pub(super) fn parse(path: &Path, bytes: &[u8], run_id: &str) -> Result<Vec<Sample>, StoreError> {
    let mut reader = csv::ReaderBuilder::new().has_headers(false).from_reader(bytes);
    let mut records = reader.records();
    let header = |problem| StoreError::Header { path: path.to_owned(), problem };
    match records.next() {
        None => return Err(header("the file is empty".to_owned())),
        Some(Err(error)) => return Err(header(format!("not readable as CSV ({error})"))),
        Some(Ok(found)) => check_header(&found).map_err(header)?,
    }
    let mut samples = Vec::new();
    let mut seen = HashMap::new();
    let mut units = HashMap::new();
    let mut last_line = 1;
    for record in records {
        let at = |line, problem| StoreError::Line { path: path.to_owned(), line, problem };
        let record = record.map_err(|error| {
            let line = error.position().map_or(last_line + 1, csv::Position::line);
            at(line, csv_problem(&error))
        })?;
        let line = record.position().map_or(0, csv::Position::line);
        last_line = line;
        let wire: Line =
            record.deserialize(None).map_err(|error| at(line, Problem::Csv(error.to_string())))?;
        let sample = sample_of(wire, run_id).map_err(|problem| at(line, problem))?;
        check_against(&sample, line, &mut seen, &mut units).map_err(|problem| at(line, problem))?;
        samples.push(sample);
    }
    if bytes.last() != Some(&b'\n') {
        return Err(StoreError::Line { path: path.to_owned(), line: last_line, problem: Problem::CutOff });
    }
    Ok(samples)
}

fn check_header(found: &csv::StringRecord) -> Result<(), String> {
    if let Some(unknown) = found.iter().find(|name| !COLUMNS.contains(name)) {
        return Err(format!("unknown column {unknown:?}"));
    }
    if let Some(missing) = COLUMNS.iter().find(|name| !found.iter().any(|found| found == **name)) {
        return Err(format!("column {missing} is missing"));
    }
    if found.len() != COLUMNS.len() || found.iter().zip(COLUMNS).any(|(found, column)| found != column) {
        return Err(format!("the columns are not {} in this order", COLUMNS.join(",")));
    }
    Ok(())
}

fn csv_problem(error: &csv::Error) -> Problem {
    match error.kind() {
        csv::ErrorKind::UnequalLengths { expected_len, len, .. } => {
            Problem::Fields { found: *len, expected: *expected_len }
        }
        _ => Problem::Csv(error.to_string()),
    }
}

fn sample_of(line: Line, run_id: &str) -> Result<Sample, Problem> {
    if line.schema != SCHEMA.to_string() {
        return Err(Problem::Schema(line.schema));
    }
    if line.run_id != run_id {
        return Err(Problem::Run { found: line.run_id, expected: run_id.to_owned() });
    }
    let names = [("experiment", &line.experiment), ("target", &line.target), ("metric", &line.metric)];
    if let Some((column, _)) = names.into_iter().find(|(_, text)| text.is_empty()) {
        return Err(Problem::Empty { column });
    }
    let whole =
        |column, text: &str| text.parse().map_err(|_| Problem::Whole { column, text: text.to_owned() });
    let value = match line.value.as_str() {
        "" => None,
        text => Some(text.parse::<f64>().map_err(|_| Problem::Number(text.to_owned()))?),
    };
    let status: Status = line.status.parse()?;
    check_value(value, status)?;
    Ok(Sample {
        block: whole("block", &line.block)?,
        order: whole("order", &line.order)?,
        iteration: whole("iteration", &line.iteration)?,
        experiment: line.experiment,
        target: line.target,
        workload: line.workload,
        metric: line.metric,
        unit: line.unit,
        value,
        status,
        detail: line.detail,
    })
}

/// 2^53: more than three months in nanoseconds, or 8 PiB. Nothing here takes so much, and from there on an `f64` skips whole numbers.
const TOO_LARGE: f64 = 9_007_199_254_740_992.0;

/// A value is there exactly where the status says so, and is a quantity.
pub(super) fn check_value(value: Option<f64>, status: Status) -> Result<(), Problem> {
    match value {
        None if status.has_value() => Err(Problem::NoValue(status.word())),
        Some(_) if !status.has_value() => Err(Problem::Value(status.word())),
        Some(value) if !(0.0..TOO_LARGE).contains(&value) => Err(Problem::Range(format!("{value:?}"))),
        _ => Ok(()),
    }
}

/// One metric of one target, as far as units go.
type UnitKey = [String; 4];
/// What makes two lines the same observation.
type Key = (UnitKey, [u32; 3], Status);

fn check_against(
    sample: &Sample,
    line: u64,
    seen: &mut HashMap<Key, u64>,
    units: &mut HashMap<UnitKey, String>,
) -> Result<(), Problem> {
    let name = [&sample.experiment, &sample.target, &sample.workload, &sample.metric].map(String::clone);
    // By status too: a launch may fail after it gave some of its values.
    let key = (name.clone(), [sample.block, sample.order, sample.iteration], sample.status);
    if let Some(earlier) = seen.insert(key, line) {
        return Err(Problem::Duplicate(earlier));
    }
    if sample.value.is_some() {
        let unit = units.entry(name).or_insert_with(|| sample.unit.clone());
        if *unit != sample.unit {
            return Err(Problem::Unit { found: sample.unit.clone(), expected: unit.clone() });
        }
    }
    Ok(())
}
