//! `regex`: scanning a log by the `regex` crate.

use core::hint::black_box;

use regex::bytes::Regex;
use workload_program::mix::{fold, fold_bytes};
use workload_program::work::{PrepareError, Work, iterate};

use crate::log;

/// Least length of the log.
const LOG_BYTES: usize = 128 << 10;
/// Requests that failed, with what is to be known of them.
const FAILED: &str = r#"(?m-u)^(\d+\.\d+\.\d+\.\d+) .*"(\w+) ([^ ?]+)\S* HTTP/1\.1" (5\d\d) \d+ (\d+)ms$"#;
/// An alternation without a common beginning, which no search for one string can answer.
const NOTABLE: &str = r"(?-u)/(?:login|search|api/v1/(?:users|orders))\?id=\d*7\b";

/// The workload `regex`; one operation is one log of 128 KiB scanned for two patterns.
pub struct Scan {
    log: Vec<u8>,
    failed: Regex,
    notable: Regex,
}

impl Scan {
    /// Writes the log and compiles the patterns.
    ///
    /// # Errors
    ///
    /// [`PrepareError::Step`] where a pattern cannot be compiled.
    pub fn new() -> Result<Self, PrepareError> {
        let compile = |pattern| Regex::new(pattern).map_err(PrepareError::step("compile a pattern"));
        Ok(Self { log: log::generate(LOG_BYTES), failed: compile(FAILED)?, notable: compile(NOTABLE)? })
    }

    fn scan(&self) -> u64 {
        let log = black_box(&self.log[..]);
        let mut sum = 0;
        for found in self.failed.captures_iter(log) {
            for group in found.iter().skip(1).flatten() {
                sum = fold_bytes(sum, group.as_bytes());
            }
        }
        self.notable
            .find_iter(log)
            .fold(sum, |sum, found| fold(fold(sum, found.start() as u64), found.end() as u64))
    }
}

impl Work for Scan {
    fn operations(&self) -> u64 {
        1
    }

    fn repeat(&mut self, iterations: u64) -> u64 {
        iterate(iterations, || self.scan())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_found_is_what_a_plain_search_by_lines_finds() {
        let work = Scan::new().unwrap();
        let text = String::from_utf8(work.log.clone()).unwrap();
        let failed = text.lines().filter(|line| line.contains("HTTP/1.1\" 5")).count();
        assert!(failed > 100);
        assert_eq!(work.failed.find_iter(&work.log).count(), failed);
        let notable = text
            .lines()
            .filter(|line| line.contains("7 HTTP/1.1"))
            .filter(|line| {
                ["/login?", "/search?", "/users?", "/orders?"].iter().any(|path| line.contains(path))
            })
            .count();
        assert!(notable > 10);
        assert_eq!(work.notable.find_iter(&work.log).count(), notable);
        assert_eq!(work.scan(), work.scan());
    }
}
