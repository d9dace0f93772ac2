//! `cpu-float`: a blocked matrix product in double precision.
//!
//! IEEE 754 fixes every single result, the source fixes the order of the additions, and nothing lets the
//! compiler fuse or reorder them: the product is the same to the last bit on every machine, however it is
//! vectorised.
//!
//! The matrices are stored block by block, each block without gaps (Lam, Rothberg and Wolf, "The cache performance and optimizations of
//! blocked algorithms", ASPLOS 1991). In row order the rows of a block lie a power of two apart and push each other out of
//! the first-level cache; what is measured then is where the pages happen to lie, and not the arithmetic.

use core::hint::black_box;

use crate::mix::{Random, fold};
use crate::work::{PrepareError, Work, filled, iterate};

/// Rows and columns.
pub const SIZE: usize = 128;
/// Rows and columns of a block: three blocks of 8 KiB stay in a first-level cache of 32 KiB.
const BLOCK: usize = 32;
const _: () = assert!(SIZE.is_multiple_of(BLOCK));
/// Values in a block.
const AREA: usize = BLOCK * BLOCK;
/// Blocks beside each other.
const BLOCKS: usize = SIZE / BLOCK;
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
        for matrix in [&mut work.left, &mut work.right] {
            for place in in_row_order() {
                // 2^-31 times a 32-bit number, minus one: between -1 and 1, most products are rounded.
                matrix[place] = f64::from(random.below(u32::MAX)) / 2_147_483_648.0 - 1.0;
            }
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
            in_row_order().fold(0, |sum, place| fold(sum, self.product[place].to_bits()))
        })
    }
}

/// The places of all values, row by row.
fn in_row_order() -> impl Iterator<Item = usize> {
    (0..SIZE * SIZE).map(|index| place(index / SIZE, index % SIZE))
}

/// Where the value of that row and column is stored.
const fn place(row: usize, column: usize) -> usize {
    (row / BLOCK * BLOCKS + column / BLOCK) * AREA + row % BLOCK * BLOCK + column % BLOCK
}

/// `product` = `left` times `right`, all of them [`SIZE`] x [`SIZE`] and stored block by block.
#[inline(never)]
pub fn multiply(left: &[f64], right: &[f64], product: &mut [f64]) {
    product.fill(0.0);
    for (row_block, targets) in product.chunks_exact_mut(AREA * BLOCKS).enumerate() {
        for inner_block in 0..BLOCKS {
            let factors = block(left, row_block, inner_block);
            for (column_block, target) in targets.chunks_exact_mut(AREA).enumerate() {
                multiply_block(factors, block(right, inner_block, column_block), target);
            }
        }
    }
}

/// The block of that row and column of blocks.
fn block(matrix: &[f64], row: usize, column: usize) -> &[f64] {
    let start = (row * BLOCKS + column) * AREA;
    &matrix[start..start + AREA]
}

/// Adds the product of two blocks to a third.
fn multiply_block(left: &[f64], right: &[f64], product: &mut [f64]) {
    for (factors, sums) in left.chunks_exact(BLOCK).zip(product.chunks_exact_mut(BLOCK)) {
        for (factor, values) in factors.iter().zip(right.chunks_exact(BLOCK)) {
            for (sum, value) in sums.iter_mut().zip(values) {
                *sum += factor * value;
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
                    .map(|inner| work.left[place(row, inner)] * work.right[place(inner, column)])
                    .fold(0.0, |sum, value| sum + value);
                assert_eq!(plain.to_bits(), work.product[place(row, column)].to_bits());
            }
        }
    }

    #[test]
    fn the_identity_changes_nothing() {
        let work = CpuFloat::new().unwrap();
        let mut identity = vec![0.0; SIZE * SIZE];
        (0..SIZE).for_each(|index| identity[place(index, index)] = 1.0);
        let mut product = vec![f64::NAN; SIZE * SIZE];
        multiply(&work.left, &identity, &mut product);
        assert_eq!(product, work.left);
    }
}
