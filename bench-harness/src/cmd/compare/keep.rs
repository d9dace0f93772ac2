//! Where the rows of a run go: to the disk at once, and into memory for the report.

use std::collections::BTreeMap;

use crate::error::HarnessError;
use crate::experiment::{Sink, Stop, overhead};
use crate::record::{RunInfo, Sample};
use crate::store::Recording;
use crate::warning::Warning;

/// Rows in memory before they are written: few, so that little is lost, and not one, so that the disk does not
/// wake between two launches.
const BATCH: usize = 64;

/// A recording and a copy of what is in it.
pub(super) struct Keeper {
    recording: Recording,
    samples: Vec<Sample>,
    written: usize,
}

impl Keeper {
    pub(super) fn new(recording: Recording) -> Self {
        Self { recording, samples: Vec::new(), written: 0 }
    }

    fn write(&mut self) -> Result<(), crate::store::StoreError> {
        self.recording.append(&self.samples[self.written..])?;
        self.written = self.samples.len();
        Ok(())
    }

    /// Completes the recording. The samples are returned in any case; those that could not be written are not among
    /// them: a report shall say nothing that the recording does not hold.
    pub(super) fn finish(mut self, info: &mut RunInfo) -> (Vec<Sample>, Result<(), HarnessError>) {
        let written = self.write();
        self.samples.truncate(self.written);
        info.warnings.extend(disagreements(&self.samples));
        let finished = written.and_then(|()| self.recording.finish(info).map(drop));
        (self.samples, finished.map_err(HarnessError::from))
    }
}

impl Sink for Keeper {
    fn keep(&mut self, mut rows: Vec<Sample>) -> Result<(), Stop> {
        self.samples.append(&mut rows);
        if self.samples.len() - self.written >= BATCH {
            self.write().map_err(|error| Stop::Sink(error.into()))?;
        }
        Ok(())
    }
}

/// One warning for each cell of which samples have clocks that disagree.
fn disagreements(samples: &[Sample]) -> Vec<Warning> {
    let mut cells: BTreeMap<(&str, &str), (u64, f64)> = BTreeMap::new();
    for sample in samples.iter().filter(|sample| sample.metric == crate::record::metric::TIME_PER_OP) {
        let percent = sample
            .detail
            .strip_prefix(overhead::DISAGREEMENT)
            .and_then(|rest| rest.split(' ').next()?.parse::<f64>().ok())
            // JSON has no number for what is none.
            .filter(|percent| percent.is_finite());
        if let (Some(percent), crate::record::Status::Ok) = (percent, sample.status) {
            let cell = cells.entry((&sample.target, &sample.workload)).or_default();
            cell.0 += 1;
            cell.1 = cell.1.max(percent / 100.0);
        }
    }
    cells
        .into_iter()
        .map(|((target, workload), (samples, worst))| Warning::ClocksDisagree {
            target: target.into(),
            workload: workload.into(),
            samples,
            worst,
        })
        .collect()
}
