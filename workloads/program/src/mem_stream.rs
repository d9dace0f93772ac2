//! `mem-stream`: the triad of STREAM (McCalpin 1995), `a[i] = b[i] + s * c[i]`, over arrays well past the
//! last-level cache.

use core::hint::black_box;

use crate::mix::fold;
use crate::work::{Figure, PrepareError, Work, filled, iterate};

/// Bytes of one of the three arrays.
pub const ARRAY_BYTES: usize = 64 << 20;
/// Every so many elements one is looked at: a cache line in 64 KiB, too few to be noticed in the time.
const STRIDE: usize = 8192;
const SCALAR: f64 = 3.0;

/// The workload `mem-stream`; one operation is one pass over the three arrays.
pub struct MemStream {
    a: Vec<f64>,
    b: Vec<f64>,
    c: Vec<f64>,
}

impl MemStream {
    /// Gets three arrays of `array_bytes` and fills them.
    ///
    /// # Errors
    ///
    /// [`PrepareError::Memory`] where there is not as much.
    pub fn new(array_bytes: usize) -> Result<Self, PrepareError> {
        let count = array_bytes / size_of::<f64>();
        let mut work = Self { a: filled(count, 0.0)?, b: filled(count, 0.0)?, c: filled(count, 0.0)? };
        // Small whole numbers that differ from one looked-at element to the next; all sums are exact.
        for (block, values) in work.b.chunks_mut(STRIDE).enumerate() {
            values.fill((block % 251) as f64);
        }
        for (block, values) in work.c.chunks_mut(STRIDE).enumerate() {
            values.fill((block % 241) as f64);
        }
        Ok(work)
    }

    fn pass(&mut self) -> u64 {
        // A pass that left an element alone would leave the poison there.
        self.a.iter_mut().skip(STRIDE - 1).step_by(STRIDE).for_each(|value| *value = f64::INFINITY);
        triad(black_box(&mut self.a), black_box(&self.b), black_box(&self.c), SCALAR);
        self.a.iter().skip(STRIDE - 1).step_by(STRIDE).fold(0, |sum, value| fold(sum, value.to_bits()))
    }
}

impl Work for MemStream {
    fn operations(&self) -> u64 {
        1
    }

    fn repeat(&mut self, iterations: u64) -> u64 {
        iterate(iterations, || self.pass())
    }

    fn figures(&self, iterations: u64, elapsed_ns: u64, emit: &mut dyn FnMut(Figure)) {
        // As STREAM counts: two arrays read, one written; the lines that the caches fetch before a write are
        // not counted.
        let bytes = size_of_val(&self.a[..]) as f64 * 3.0 * iterations as f64;
        emit(("bandwidth", "bytes/s", bytes * 1e9 / elapsed_ns.max(1) as f64));
    }
}

#[inline(never)]
fn triad(a: &mut [f64], b: &[f64], c: &[f64], scalar: f64) {
    for ((a, b), c) in a.iter_mut().zip(b).zip(c) {
        *a = *b + scalar * *c;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_element_is_the_sum() {
        let mut work = MemStream::new(1 << 20).unwrap();
        work.repeat(2);
        assert_eq!(work.a.len(), 131_072);
        assert!(work.a.iter().zip(&work.b).zip(&work.c).all(|((a, b), c)| *a == b + 3.0 * c));
        assert_eq!(work.a[3 * STRIDE], 3.0 + 9.0);
    }

    #[test]
    fn an_element_left_out_is_noticed() {
        let mut work = MemStream::new(1 << 20).unwrap();
        let right = work.pass();
        work.b.truncate(100_000);
        assert_ne!(work.pass(), right);
    }
}
