//! `list`: what can be chosen.

use super::print;
use crate::cli::{ListArgs, Listing};
use crate::error::{DONE, HarnessError};
use crate::experiment::Experiment;
use crate::target::TargetKind;

/// Prints one line for each choice.
///
/// # Errors
/// Where standard output cannot be written to.
pub fn list(args: &ListArgs) -> Result<u8, HarnessError> {
    let entries: Vec<(&str, String)> = match args.what {
        Listing::Targets => TargetKind::ALL.map(|kind| (kind.name(), kind.about().to_owned())).into(),
        Listing::Experiments => Experiment::ALL
            .map(|one| {
                let asked = if Experiment::DEFAULT.contains(&one) { "" } else { " (by name only)" };
                (one.name(), format!("{}{asked}", one.about()))
            })
            .into(),
        Listing::Workloads => workloads::catalogue::all()
            .iter()
            .map(|workload| (workload.name, workload.summary.to_owned()))
            .collect(),
    };
    let width = entries.iter().map(|(name, _)| name.len()).max().unwrap_or(0);
    let mut text = String::new();
    for (name, about) in entries {
        text += &format!("{name:width$}  {about}\n");
    }
    print(&text)?;
    Ok(DONE)
}
