//! What was seen of a launch that came to its end.

use workloads::protocol::{Line, Parser};

use super::LaunchFailure;
use crate::target::{End, Status};

/// What was seen of one launch, from start to nothing being left.
#[derive(Debug)]
pub struct Observed {
    /// Immediately before the target was asked to start.
    pub start_ns: u64,
    /// When the first byte of output was seen.
    pub ready_ns: Option<u64>,
    /// When the end of its output was seen.
    pub eof_ns: u64,
    /// Consecutive named phases of the start; where there was output, they add up to `ready_ns - start_ns`.
    pub phases: Vec<(&'static str, u64)>,
    /// Its end.
    pub end: End,
    /// All its output.
    pub output: Vec<u8>,
    /// How much of `output` had arrived, and when, for each time that some arrived.
    pub arrivals: Vec<(usize, u64)>,
    /// What it said on standard error, with a separator, or nothing.
    pub stderr: String,
}

impl Observed {
    /// The launch, where it ended with 0; else the failure.
    ///
    /// # Errors
    /// [`LaunchFailure::Ended`].
    pub fn success(self) -> Result<Self, LaunchFailure> {
        match self.end.status {
            Status::Exited(0) => Ok(self),
            status => Err(LaunchFailure::Ended { status, stderr: self.stderr }),
        }
    }

    /// From the start to the first byte of output; 0 where there was none.
    #[must_use]
    pub fn ready(&self) -> u64 {
        self.ready_ns.map_or(0, |ready| ready.saturating_sub(self.start_ns))
    }

    /// From the start to nothing being left.
    #[must_use]
    pub fn exit(&self) -> u64 {
        self.end.gone_ns.saturating_sub(self.start_ns)
    }

    /// The lines of the output, each with the instant at which its end was seen.
    pub fn for_each_line(&self, mut sink: impl FnMut(u64, Line<'_>)) {
        let mut parser = Parser::new();
        let mut from = 0;
        for &(to, at) in &self.arrivals {
            parser.push(self.output.get(from..to).unwrap_or_default(), |line| sink(at, line));
            from = to;
        }
        if let Some(line) = parser.finish() {
            sink(self.eof_ns, line);
        }
    }

    /// The workload's end: as the target saw it, else the end of its output.
    #[must_use]
    pub fn ended_ns(&self) -> u64 {
        self.end.ended_ns.unwrap_or(self.eof_ns)
    }
}

/// The phases of a start with `last`, what was left until the first byte was seen: they add up to `ready` exactly.
///
/// Where a target's own instants reach past that byte (it noted them after handing the byte on), the phases are cut there.
#[must_use]
pub fn phases_until_ready(
    phases: Vec<(&'static str, u64)>,
    last: &'static str,
    ready: u64,
) -> Vec<(&'static str, u64)> {
    let mut left = ready;
    let mut cut: Vec<(&'static str, u64)> = phases
        .into_iter()
        .map(|(name, length)| {
            let length = length.min(left);
            left -= length;
            (name, length)
        })
        .collect();
    match cut.last_mut() {
        Some((name, length)) if *name == last => *length += left,
        _ => cut.push((last, left)),
    }
    cut
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn phases_add_up_to_ready_whatever_they_are() {
        let whole = phases_until_ready(vec![("clone", 10), ("exec", 20)], "ready", 50);
        assert_eq!(whole, [("clone", 10), ("exec", 20), ("ready", 20)]);
        let late = phases_until_ready(vec![("clone", 10), ("exec", 90), ("more", 5)], "ready", 50);
        assert_eq!(late, [("clone", 10), ("exec", 40), ("more", 0), ("ready", 0)]);
        assert_eq!(phases_until_ready(vec![], "ready", 9), [("ready", 9)]);
        assert_eq!(phases_until_ready(vec![("guest_ready", 4)], "guest_ready", 9), [("guest_ready", 9)]);
    }
}
