//! `selftest`: how far the gate can be trusted on this host.

use std::time::Duration;

use workloads::Invocation;

use super::print;
use crate::cli::SelftestArgs;
use crate::error::{DONE, HarnessError, SIGNALED, UNCLEAR};
use crate::memory_size;
use crate::report::{markdown, terminal};
use crate::runner::{LaunchFailure, Observer};
use crate::selftest::{Effort, run};
use crate::signals::Interrupts;
use crate::store;
use crate::target::delayed::Delayed;
use crate::target::{Target, target};
use crate::workload::{Image, Subject};

/// Memory of an instance, as `compare` has it by default.
const MEM_MIB: u64 = memory_size::DEFAULT_MIB;
/// Longest time that one launch may take.
const TIMEOUT: Duration = Duration::from_secs(30);

/// Makes all comparisons and prints how the gate fared.
///
/// # Errors
/// Where the target cannot run here, a launch fails, or a file cannot be written.
pub fn selftest(args: &SelftestArgs) -> Result<u8, HarnessError> {
    target(args.target)
        .probe()
        .map_err(|reason| HarnessError::Unavailable { target: args.target.name(), reason: reason.0 })?;
    let effort = Effort {
        launches: args.launches,
        real: args.real,
        drawn: args.simulated,
        seed: args.seed.unwrap_or_else(crate::clock::now_ns),
        rest: Duration::from_millis(args.rest),
    };
    let image = Image::ours()?;
    let subject = Subject::ours(&image, &Invocation::of(&workloads::catalogue::all()[0]));
    let delayed = |by: Duration| -> Box<dyn Target> {
        let inner = target(args.target);
        if by.is_zero() { inner } else { Box::new(Delayed { inner, by }) }
    };
    let interrupts = Interrupts::install().map_err(HarnessError::Signals)?;
    let mut observer = Observer::new(Some(interrupts), TIMEOUT)?;
    let mem_mib = memory_size::checked(MEM_MIB)?;
    let findings = match run(&delayed, &subject, mem_mib, &mut observer, &effort) {
        Err(LaunchFailure::Interrupted) => {
            let signal = interrupts.caught().unwrap_or(libc::SIGINT);
            return Ok(SIGNALED.wrapping_add(u8::try_from(signal).unwrap_or(0)));
        }
        other => other?,
    };
    let table = findings.table(&effort);
    let mut verdict = if findings.pass() {
        "Selftest: passed. On this host the gate keeps its promises at so many launches in turn.".to_owned()
    } else {
        "Selftest: NOT passed. On this host the gate needs more launches or more quiet; see `bench-harness doctor`."
            .to_owned()
    };
    if !findings.apart_is_as_good() {
        verdict.push_str(
            " Recordings made one after the other give more false alarms than that: measure in turn here (`compare --against`).",
        );
    }
    let width = super::width();
    let (title, words) = (terminal::wrap(&table.title, width), terminal::wrap(&verdict, width));
    print(&format!("{title}\n{}\n\n{words}\n", terminal::lay_out(&table, width)))?;
    if let Some(path) = &args.markdown {
        let text = format!("**{}**\n\n{}\n{verdict}\n", table.title, markdown::lay_out(&table));
        store::append(path, &text)?;
    }
    Ok(if findings.pass() { DONE } else { UNCLEAR })
}
