//! `gate`: has anything got worse since an earlier recording? Also the last step of `compare --baseline`.

use std::path::{Path, PathBuf};

use super::print;
use crate::cli::{GateArgs, GateOptions};
use crate::error::HarnessError;
use crate::gate::{self, Gate, render, same};
use crate::record::{RunInfo, Sample};
use crate::stats::adaptive::Layout;
use crate::store;

/// Reads both recordings, judges, prints and writes the verdict.
///
/// # Errors
/// Where a recording cannot be read, the two must not be compared, or a file cannot be written.
pub fn gate(args: &GateArgs) -> Result<u8, HarnessError> {
    let baseline = Baseline::read(&args.old)?;
    let (info, samples) = store::read(&args.new)?;
    baseline.judge(&args.new, &info, &samples, &args.options)
}

/// Judges a program against the one from before, both measured in turn in one run. The exit code is the verdict.
pub(super) fn judge_in_turn(
    samples: &[Sample],
    new: &str,
    old: &str,
    options: &GateOptions,
) -> Result<u8, HarnessError> {
    let of = |name: &str| -> Vec<Sample> {
        let own = samples.iter().filter(|sample| sample.workload == name);
        own.map(|sample| Sample { workload: new.into(), ..sample.clone() }).collect()
    };
    let judged = Gate::judge_in(Layout::InTurn, &of(old), &of(new), options.allowed(), Vec::new());
    print(&render::for_terminal(&judged, super::width()))?;
    write(&judged, options)?;
    Ok(judged.exit_code())
}

/// The recording from before.
pub(super) struct Baseline {
    dir: PathBuf,
    info: RunInfo,
    samples: Vec<Sample>,
}

impl Baseline {
    pub(super) fn read(dir: &Path) -> Result<Self, HarnessError> {
        let (info, samples) = store::read(dir)?;
        Ok(Self { dir: dir.to_owned(), info, samples })
    }

    /// Refuses what must not be compared: before an hour is spent on measuring it.
    pub(super) fn expect_comparable(
        &self,
        dir: &Path,
        info: &RunInfo,
        options: &GateOptions,
    ) -> Result<(), HarnessError> {
        let differences = same::differences(&self.info, info);
        if differences.is_empty() || options.force {
            Ok(())
        } else {
            Err(self.refused(dir, differences, options))
        }
    }

    /// Judges a recording against this one. The exit code is the verdict.
    pub(super) fn judge(
        &self,
        dir: &Path,
        info: &RunInfo,
        samples: &[Sample],
        options: &GateOptions,
    ) -> Result<u8, HarnessError> {
        let old = (&self.info, &self.samples[..]);
        let judged = gate::of_recordings(old, (info, samples), options.allowed(), options.force)
            .map_err(|differences| self.refused(dir, differences, options))?;
        print(&render::for_terminal(&judged, super::width()))?;
        write(&judged, options)?;
        Ok(judged.exit_code())
    }

    /// Whoever reads only the files that were asked for learns it, too.
    fn refused(&self, dir: &Path, differences: Vec<String>, options: &GateOptions) -> HarnessError {
        let why = HarnessError::NotComparable { old: self.dir.clone(), new: dir.to_owned(), differences };
        let reason = why.to_string();
        let (junit, markdown) = (render::refusal_for_junit(&reason), render::refusal_for_markdown(&reason));
        keep(options, &junit, &markdown).err().unwrap_or(why)
    }
}

fn write(gate: &Gate, options: &GateOptions) -> Result<(), HarnessError> {
    keep(options, &render::for_junit(gate), &render::for_markdown(gate))
}

fn keep(options: &GateOptions, junit: &str, markdown: &str) -> Result<(), HarnessError> {
    if let Some(path) = &options.junit {
        store::write_atomically(path, junit.as_bytes())?;
    }
    if let Some(path) = &options.markdown {
        store::append(path, markdown)?;
    }
    Ok(())
}
