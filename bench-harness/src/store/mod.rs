//! The recording on disk: `samples.csv` and `run.json` in a folder of their own.
//!
//! **What exists at any time.** While a run goes on, whole blocks are appended to `samples.csv.part`, each in a single
//! write, and nothing is rewritten: rewriting the file after every block would keep the disk busy while the next block
//! is measured. [`Recording::finish`] syncs the file and renames it to `samples.csv`. `run.json` is there from the
//! first moment and is replaced by rename. [`read`] takes `samples.csv.part` where the run was ended by force: it
//! then leaves out a last line that was cut off, and marks the run as interrupted. A write that fails is undone to the
//! last whole block, so that a full disk costs the last block and nothing else.

mod error;
mod read;

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

pub use error::StoreError;
pub use read::read;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::record::{RunInfo, SCHEMA, Sample};

/// Observations of a finished run.
pub const SAMPLES: &str = "samples.csv";
/// Observations of a run that goes on or was ended by force.
pub const SAMPLES_PART: &str = "samples.csv.part";
/// Everything else about the run.
pub const RUN: &str = "run.json";

/// One line of `samples.csv`; the order of the fields is that of the columns.
///
/// Numbers are text here: a value is written in the shortest form that reads back as the very same number.
#[derive(Debug, Serialize, Deserialize)]
struct Line {
    schema: String,
    run_id: String,
    experiment: String,
    target: String,
    workload: String,
    metric: String,
    unit: String,
    block: String,
    order: String,
    iteration: String,
    value: String,
    status: String,
    detail: String,
}

/// Columns of `samples.csv`.
pub const COLUMNS: [&str; 13] = [
    "schema",
    "run_id",
    "experiment",
    "target",
    "workload",
    "metric",
    "unit",
    "block",
    "order",
    "iteration",
    "value",
    "status",
    "detail",
];

impl Line {
    fn of(sample: &Sample, run_id: &str) -> Self {
        Self {
            schema: SCHEMA.to_string(),
            run_id: run_id.to_owned(),
            experiment: sample.experiment.clone(),
            target: sample.target.clone(),
            workload: sample.workload.clone(),
            metric: sample.metric.clone(),
            unit: sample.unit.clone(),
            block: sample.block.to_string(),
            order: sample.order.to_string(),
            iteration: sample.iteration.to_string(),
            value: sample.value.map(|value| value.to_string()).unwrap_or_default(),
            status: sample.status.word().to_owned(),
            detail: sample.detail.clone(),
        }
    }
}

/// A recording that is being made.
#[derive(Debug)]
pub struct Recording {
    dir: PathBuf,
    run_id: String,
    part: PathBuf,
    file: File,
    /// Length up to and including the last block that was written whole.
    whole: u64,
    /// Of everything up to there.
    digest: Sha256,
}

impl Recording {
    /// Makes the folder, where it is missing, and opens a recording in it.
    ///
    /// # Errors
    ///
    /// Where the folder cannot be made or written to, or holds a recording already. Nothing is overwritten.
    pub fn create(dir: &Path, info: &RunInfo) -> Result<Self, StoreError> {
        if dir.exists() && !dir.is_dir() {
            return Err(StoreError::NotAFolder { path: dir.to_owned() });
        }
        fs::create_dir_all(dir)
            .map_err(|source| StoreError::CreateFolder { path: dir.to_owned(), source })?;
        if let Some(found) = [SAMPLES, SAMPLES_PART, RUN].into_iter().find(|name| dir.join(name).exists()) {
            return Err(StoreError::HoldsRecording { path: dir.to_owned(), found });
        }
        let part = dir.join(SAMPLES_PART);
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create_new(true)
            .open(&part)
            .map_err(|source| StoreError::NotWritable { path: part.clone(), source })?;
        let mut recording = Self {
            dir: dir.to_owned(),
            run_id: info.run_id.clone(),
            part,
            file,
            whole: 0,
            digest: Sha256::new(),
        };
        let header = encode(|writer| writer.write_record(COLUMNS)).map_err(StoreError::Encode)?;
        recording.write_whole(&header)?;
        write_run(dir, info)?;
        Ok(recording)
    }

    /// The folder of the recording.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// Adds a block of samples to what is on disk.
    ///
    /// # Errors
    ///
    /// Where a sample breaks the rules of the file (nothing is written then), and where the write fails: what was
    /// there before is kept whole.
    pub fn append(&mut self, samples: &[Sample]) -> Result<(), StoreError> {
        for sample in samples {
            read::check_value(sample.value, sample.status).map_err(|problem| StoreError::BadSample {
                name: format!("{}/{} of {}", sample.experiment, sample.metric, sample.target),
                problem,
            })?;
        }
        let bytes = encode(|writer| {
            samples.iter().try_for_each(|sample| writer.serialize(Line::of(sample, &self.run_id)))
        })
        .map_err(StoreError::Encode)?;
        self.write_whole(&bytes)
    }

    /// All samples so far, from the disk.
    ///
    /// # Errors
    ///
    /// Where the file cannot be read back, or is not what was written.
    pub fn samples(&mut self) -> Result<Vec<Sample>, StoreError> {
        let mut bytes = Vec::new();
        self.file
            .seek(SeekFrom::Start(0))
            .and_then(|_| (&self.file).take(self.whole).read_to_end(&mut bytes))
            .and_then(|_| self.file.seek(SeekFrom::Start(self.whole)))
            .map_err(|source| StoreError::Read { path: self.part.clone(), source })?;
        read::parse(&self.part, &bytes, &self.run_id)
    }

    /// Gives the files their final names and returns the folder.
    ///
    /// # Errors
    ///
    /// Where a file cannot be written or renamed. `samples.csv.part` then still holds every block.
    pub fn finish(self, info: &RunInfo) -> Result<PathBuf, StoreError> {
        self.file.sync_all().map_err(|source| StoreError::Write { path: self.part.clone(), source })?;
        let samples = self.dir.join(SAMPLES);
        fs::rename(&self.part, &samples).map_err(|source| StoreError::Rename { path: samples, source })?;
        let mut info = info.clone();
        info.digests.samples = Some(hex(&self.digest.finalize()));
        write_run(&self.dir, &info)?;
        Ok(self.dir)
    }

    fn write_whole(&mut self, bytes: &[u8]) -> Result<(), StoreError> {
        match self.file.write_all(bytes) {
            Ok(()) => {
                self.digest.update(bytes);
                self.whole += u64::try_from(bytes.len()).unwrap_or(u64::MAX);
                Ok(())
            }
            Err(source) => {
                // The write's own error is the one to report; a cut that fails leaves a torn line, which `read` drops.
                let cut =
                    self.file.set_len(self.whole).and_then(|()| self.file.seek(SeekFrom::Start(self.whole)));
                drop(cut);
                Err(StoreError::Write { path: self.part.clone(), source })
            }
        }
    }
}

/// Hexadecimal digits.
fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn encode(fill: impl FnOnce(&mut csv::Writer<Vec<u8>>) -> csv::Result<()>) -> Result<Vec<u8>, csv::Error> {
    let mut writer = csv::WriterBuilder::new().has_headers(false).from_writer(Vec::new());
    fill(&mut writer)?;
    writer.into_inner().map_err(|error| io::Error::other(error.to_string()).into())
}

fn write_run(dir: &Path, info: &RunInfo) -> Result<(), StoreError> {
    let mut json = serde_json::to_string_pretty(info).map_err(StoreError::EncodeRun)?;
    json.push('\n');
    write_atomically(&dir.join(RUN), json.as_bytes())
}

/// Writes a file under a temporary name beside it, and renames it: others see the old file or the new one.
///
/// # Errors
///
/// Where the temporary file cannot be written (it is removed again) or not be renamed.
pub fn write_atomically(path: &Path, bytes: &[u8]) -> Result<(), StoreError> {
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(".tmp");
    let temporary = path.with_file_name(name);
    let written =
        fs::write(&temporary, bytes).map_err(|source| StoreError::Write { path: path.to_owned(), source });
    let renamed = written.and_then(|()| {
        fs::rename(&temporary, path).map_err(|source| StoreError::Rename { path: path.to_owned(), source })
    });
    if renamed.is_err() {
        // Best effort: the error above says what is wrong with this folder.
        drop(fs::remove_file(&temporary));
    }
    renamed
}

/// Adds a text to the end of a file, made if it is not there: the summary of a CI job is one file for all its steps.
///
/// # Errors
///
/// Where the file cannot be opened or written.
pub fn append(path: &Path, text: &str) -> Result<(), StoreError> {
    let written = OpenOptions::new()
        .create(true)
        .append(true)
        .open(path)
        .and_then(|mut file| file.write_all(text.as_bytes()));
    written.map_err(|source| StoreError::Write { path: path.to_owned(), source })
}

#[cfg(test)]
mod tests;
