//! `cpu-float`: a blocked matrix product in double precision.
//!
//! IEEE 754 fixes every single result, the source fixes the order of the additions, and nothing lets the
//! compiler fuse or reorder them: the product is the same to the last bit on every machine, however it is
//! vectorised.

use core::hint::black_box;

use crate::mix::{Random, fold};
use crate::work::{PrepareError, Work, filled, iterate};

/// Rows and columns.
pub const SIZE: usize = 128;
/// Rows and columns of a block: three blocks of 8 KiB stay in the first-level cache.
const BLOCK: usize = 32;
const _: () = assert!(SIZE.is_multiple_of(BLOCK));
const SEED: u64 = 0xf10a_7000;

/// The workload `cpu-float`; one operation is one product of two 128 x 128 matrices.
pub struct CpuFloat {
    left: Vec<f64>,
    right: Vec<f64>,
    product: Vec<f64>,
}

impl CpuFloat {
    /// Gets the memory and fills the two factors.
    ///
    /// # Errors
    ///
    /// [`PrepareError::Memory`] where there is none.
    pub fn new() -> Result<Self, PrepareError> {
        let mut work = Self {
            left: filled(SIZE * SIZE, 0.0)?,
            right: filled(SIZE * SIZE, 0.0)?,
            product: filled(SIZE * SIZE, 0.0)?,
        };
        let mut random = Random::new(SEED);
        for value in work.left.iter_mut().chain(work.right.iter_mut()) {
            // 2^-31 times a 32-bit number, minus one: between -1 and 1, most products are rounded.
            *value = f64::from(random.below(u32::MAX)) / 2_147_483_648.0 - 1.0;
        }
        Ok(work)
    }
}

impl Work for CpuFloat {
    fn operations(&self) -> u64 {
        1
    }

    fn repeat(&mut self, iterations: u64) -> u64 {
        iterate(iterations, || {
            multiply(black_box(&self.left), black_box(&self.right), black_box(&mut self.product));
            self.product.iter().fold(0, |sum, value| fold(sum, value.to_bits()))
        })
    }
}

/// `product` = `left` times `right`, all of them [`SIZE`] x [`SIZE`] in row order, block by block.
#[inline(never)]
pub fn multiply(left: &[f64], right: &[f64], product: &mut [f64]) {
    product.fill(0.0);
    for row_block in (0..SIZE).step_by(BLOCK) {
        for inner_block in (0..SIZE).step_by(BLOCK) {
            for column_block in (0..SIZE).step_by(BLOCK) {
                for row in row_block..row_block + BLOCK {
                    let start = row * SIZE + column_block;
                    let target = &mut product[start..start + BLOCK];
                    for inner in inner_block..inner_block + BLOCK {
                        let factor = left[row * SIZE + inner];
                        let start = inner * SIZE + column_block;
                        let source = &right[start..start + BLOCK];
                        for (sum, value) in target.iter_mut().zip(source) {
                            *sum += factor * value;
                        }
                    }
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_blocked_product_is_the_plain_one_to_the_last_bit() {
        let mut work = CpuFloat::new().unwrap();
        work.repeat(1);
        for row in (0..SIZE).step_by(17) {
            for column in 0..SIZE {
                let plain = (0..SIZE)
                    .map(|inner| work.left[row * SIZE + inner] * work.right[inner * SIZE + column])
                    .fold(0.0, |sum, value| sum + value);
                assert_eq!(plain.to_bits(), work.product[row * SIZE + column].to_bits());
            }
        }
    }

    #[test]
    fn the_identity_changes_nothing() {
        let work = CpuFloat::new().unwrap();
        let mut identity = vec![0.0; SIZE * SIZE];
        identity.iter_mut().step_by(SIZE + 1).for_each(|value| *value = 1.0);
        let mut product = vec![f64::NAN; SIZE * SIZE];
        multiply(&work.left, &identity, &mut product);
        assert_eq!(product, work.left);
    }
}
