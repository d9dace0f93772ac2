//! Where the rows of a run go: to the disk at once, and from there into the report.
//!
//! They are not kept in memory meanwhile. A virtual machine's monitor begins as a fork of this process, which copies the
//! entry of every page: a heap that grows with the run would make every start slower than the one before.

use std::collections::BTreeMap;

use crate::error::HarnessError;
use crate::experiment::{Sink, Stop, overhead};
use crate::record::{RunInfo, Sample};
use crate::store::Recording;
use crate::warning::Warning;

/// Rows in memory before they are written: few, so that little is lost, and not one, so that the disk does not
/// wake between two launches.
const BATCH: usize = 64;

/// A recording, and what is not in it yet.
pub(super) struct Keeper {
    recording: Recording,
    waiting: Vec<Sample>,
}

impl Keeper {
    pub(super) fn new(recording: Recording) -> Self {
        Self { recording, waiting: Vec::new() }
    }

    fn write(&mut self) -> Result<(), crate::store::StoreError> {
        self.recording.append(&self.waiting)?;
        self.waiting.clear();
        Ok(())
    }

    /// Completes the recording. The samples are returned in any case, as far as they are written: a report shall say
    /// nothing that the recording does not hold.
    pub(super) fn finish(mut self, info: &mut RunInfo) -> (Vec<Sample>, Result<(), HarnessError>) {
        let written = self.write();
        let (samples, read) = match self.recording.samples() {
            Ok(samples) => (samples, Ok(())),
            Err(error) => (Vec::new(), Err(error)),
        };
        info.warnings.extend(disagreements(&samples));
        let finished = written.and(read).and_then(|()| self.recording.finish(info).map(drop));
        (samples, finished.map_err(HarnessError::from))
    }
}

impl Sink for Keeper {
    fn keep(&mut self, mut rows: Vec<Sample>) -> Result<(), Stop> {
        self.waiting.append(&mut rows);
        if self.waiting.len() >= BATCH {
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
