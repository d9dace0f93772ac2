//! `lz4`: compressing and expanding a log by the `lz4_flex` crate.

use core::hint::black_box;

use lz4_flex::block::{compress_into, decompress_into, get_maximum_output_size};
use workload_program::mix::{fold, fold_bytes};
use workload_program::work::{PrepareError, Work, filled, iterate};

use crate::log;

/// Least length of the log.
const LOG_BYTES: usize = 256 << 10;

/// The workload `lz4`; one operation is one log of 256 KiB compressed and expanded.
pub struct Lz4 {
    log: Vec<u8>,
    packed: Vec<u8>,
    expanded: Vec<u8>,
}

impl Lz4 {
    /// Gets the memory and writes the log.
    ///
    /// # Errors
    ///
    /// [`PrepareError::Memory`] where there is none.
    pub fn new() -> Result<Self, PrepareError> {
        let log = log::generate(LOG_BYTES);
        Ok(Self {
            packed: filled(get_maximum_output_size(log.len()), 0)?,
            expanded: filled(log.len(), 0)?,
            log,
        })
    }

    /// One iteration; 0 where the log that comes back is not the one that went in.
    fn round_trip(&mut self) -> u64 {
        let Ok(length) = compress_into(black_box(&self.log), black_box(&mut self.packed)) else { return 0 };
        let Some(packed) = self.packed.get(..length) else { return 0 };
        match decompress_into(black_box(packed), black_box(&mut self.expanded)) {
            Ok(written) if written == self.log.len() && self.expanded == self.log => {
                fold(fold_bytes(0, packed), fold_bytes(0, &self.expanded))
            }
            _ => 0,
        }
    }
}

impl Work for Lz4 {
    fn operations(&self) -> u64 {
        1
    }

    fn repeat(&mut self, iterations: u64) -> u64 {
        iterate(iterations, || self.round_trip())
    }

    fn figures(
        &self,
        iterations: u64,
        elapsed_ns: u64,
        emit: &mut dyn FnMut(workload_program::work::Figure),
    ) {
        let bytes = self.log.len() as f64 * iterations as f64;
        emit(("bandwidth", "bytes/s", bytes * 1e9 / elapsed_ns.max(1) as f64));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_log_comes_back_and_is_smaller_in_between() {
        let mut work = Lz4::new().unwrap();
        let first = work.round_trip();
        assert_ne!(first, 0);
        assert_eq!(work.round_trip(), first);
        let packed = lz4_flex::block::compress(&work.log);
        assert!(packed.len() * 2 < LOG_BYTES, "{} bytes", packed.len());
    }
}
