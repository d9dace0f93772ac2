//! `report`: everything that can be computed from a recording, computed again.

use super::print;
use crate::cli::ReportArgs;
use crate::error::{DONE, HarnessError};
use crate::{checks, report, store};

/// Reads the recording and writes summary, report and charts beside it, or prints the tables alone.
///
/// # Errors
/// Where the recording cannot be read, or the files not be written.
pub fn report(args: &ReportArgs) -> Result<u8, HarnessError> {
    let (info, samples) = store::read(&args.dir)?;
    if args.table {
        print(&report::markdown::readme_table(&info, &crate::summary::summarise(&samples, info.seed)))?;
        return Ok(DONE);
    }
    let rows = report::write_all(&args.dir, &info, &samples)?;
    print(&report::terminal::render(&info, &rows, &checks::of(&samples), super::width()))?;
    Ok(DONE)
}
