//! A randomised block design over cells: in every block each cell once in every target, until a cell is narrow enough, the budget is
//! spent, or the plan is made.

use super::{Bench, Experiment, Place, Stop};
use crate::plan::{self, Ended, LEAST_BLOCKS, Progress};
use crate::record::Sample;

/// One subject, in every target.
pub(super) struct Cell<T> {
    /// What its launches need.
    pub(super) what: T,
    workload: String,
    /// Its launches so far.
    pub(super) progress: Progress,
    /// Blocks that were made of it once it is done.
    done: Option<u32>,
}

impl<T> Cell<T> {
    /// A cell without launches, of the workload of that name.
    pub(super) fn new(bench: &Bench<'_>, workload: &str, what: T) -> Self {
        let progress = Progress::new(bench.participants.len());
        Self { what, workload: workload.into(), progress, done: None }
    }
}

/// Makes `warmup` blocks and then up to `count` that count, each launch by `launch`, whose rows are kept at once. `part` of the
/// experiment's progress is this.
///
/// # Errors
/// Where it ends before its plan does.
pub(super) fn blocks<T>(
    bench: &mut Bench<'_>,
    experiment: Experiment,
    warmup: u32,
    count: u32,
    part: f64,
    cells: &mut [Cell<T>],
    mut launch: impl FnMut(&mut Bench<'_>, &mut Cell<T>, usize, &Place) -> Result<Vec<Sample>, Stop>,
) -> Result<(), Stop> {
    let blocks = warmup + count;
    let pace = bench.pace(experiment, warmup + LEAST_BLOCKS);
    let (mut made, mut why) = (blocks, Ended::Planned);
    for block in 0..blocks {
        if pace.is_over(block) {
            (made, why) = (block, Ended::Budget);
            break;
        }
        for cell in cells.iter_mut().filter(|cell| cell.done.is_none()) {
            cell.done = cell.progress.is_done(bench.effort.narrow_enough).then_some(block);
        }
        if cells.iter().all(|cell| cell.done.is_some()) {
            made = block;
            break;
        }
        let slots = plan::block(bench.seed, experiment, block, cells.len(), bench.participants.len());
        #[expect(clippy::cast_precision_loss, reason = "a few hundred launches")]
        let step = part / f64::from(blocks) / slots.len() as f64;
        for slot in slots {
            let cell = &mut cells[slot.cell];
            if cell.done.is_none() {
                let name = &bench.participants[slot.target].name;
                let place = Place {
                    warmup: block < warmup,
                    ..Place::new(experiment, name, &cell.workload, block, slot.order)
                };
                let rows = launch(bench, cell, slot.target, &place)?;
                bench.sink.keep(rows)?;
            }
            bench.progress.step(experiment.name(), step);
        }
    }
    bench.progress.step(experiment.name(), part * f64::from(blocks - made) / f64::from(blocks));
    for cell in cells.iter() {
        let (made, why) = cell.done.map_or((made, why), |blocks| (blocks, Ended::Narrow));
        bench.end(experiment, &cell.workload, made, why);
    }
    Ok(())
}
