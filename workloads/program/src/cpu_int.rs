//! `cpu-int`: integer arithmetic with branches that depend on the data, and no vectors.
//!
//! Three small programs on 1024 generated numbers: a heap sort (branches and loads that no predictor knows),
//! the lengths of Collatz sequences (long chains of dependent operations) and an interpreter of random
//! instructions (indirect jumps). All of it is one chain of dependencies after another, so that the compiler
//! has nothing to vectorise.

use core::hint::black_box;

use crate::mix::fold;
use crate::work::{PrepareError, Work, filled, iterate};

/// Numbers an iteration works on: 8 KiB, within every first-level cache.
const COUNT: usize = 1024;
const SEED: u64 = 0x0c9d_1e57;

/// The workload `cpu-int`; one operation is one iteration.
pub struct CpuInt {
    numbers: Vec<u64>,
}

impl CpuInt {
    /// Gets the memory.
    ///
    /// # Errors
    ///
    /// [`PrepareError::Memory`] where there is none.
    pub fn new() -> Result<Self, PrepareError> {
        Ok(Self { numbers: filled(COUNT, 0)? })
    }
}

impl Work for CpuInt {
    fn operations(&self) -> u64 {
        1
    }

    fn repeat(&mut self, iterations: u64) -> u64 {
        iterate(iterations, || unit(black_box(&mut self.numbers), black_box(SEED)))
    }
}

/// One iteration: fills `numbers` from `seed`, works on them, and returns the checksum.
#[inline(never)]
pub fn unit(numbers: &mut [u64], seed: u64) -> u64 {
    // Each number is made of the one before it. SplitMix64's could be computed side by side, and the compiler
    // would.
    let mut last = seed;
    for (place, number) in numbers.iter_mut().enumerate() {
        last = fold(last, place as u64);
        *number = last;
    }
    let interpreted = interpret(numbers);
    heap_sort(numbers);
    let mut sum = interpreted;
    for (place, number) in numbers.iter().enumerate() {
        sum = fold(sum, *number);
        // Every 16th number: the chains take about as long as the sort then.
        if place.is_multiple_of(16) {
            sum = fold(sum, collatz_steps(number >> 44));
        }
    }
    sum
}

/// Heap sort, upwards, by Floyd's method.
fn heap_sort(numbers: &mut [u64]) {
    for root in (0..numbers.len() / 2).rev() {
        sift_down(numbers, root);
    }
    for end in (1..numbers.len()).rev() {
        numbers.swap(0, end);
        if let Some(heap) = numbers.get_mut(..end) {
            sift_down(heap, 0);
        }
    }
}

fn sift_down(heap: &mut [u64], mut root: usize) {
    while let Some(&left) = heap.get(2 * root + 1) {
        let mut child = 2 * root + 1;
        if heap.get(child + 1).is_some_and(|&right| right > left) {
            child += 1;
        }
        if heap[root] >= heap[child] {
            return;
        }
        heap.swap(root, child);
        root = child;
    }
}

/// Steps of the Collatz sequence from `number` to 1, counted up to a limit that no number below 2^20 reaches.
fn collatz_steps(number: u64) -> u64 {
    const LIMIT: u64 = 1000;
    let mut number = number.max(1);
    let mut steps = 0;
    while number != 1 && steps < LIMIT {
        number = if number.is_multiple_of(2) { number / 2 } else { 3 * number + 1 };
        steps += 1;
    }
    steps
}

/// Runs the numbers as instructions of a machine with two registers: an indirect jump each.
fn interpret(instructions: &[u64]) -> u64 {
    let (mut a, mut b) = (1_u64, 2_u64);
    for &instruction in instructions {
        let operand = instruction >> 3;
        match instruction & 7 {
            0 => a = a.wrapping_add(operand),
            1 => b ^= a.rotate_left(11),
            2 => a = a.wrapping_mul(b | 1),
            3 if a > b => core::mem::swap(&mut a, &mut b),
            3 => b = b.wrapping_sub(operand),
            4 => b = b.wrapping_add(a >> 7),
            5 if a & 16 == 0 => a ^= operand.swap_bytes(),
            5 => a = !a,
            6 => a = a.wrapping_sub(b),
            _ => b = b.wrapping_add(u64::from((a ^ operand).count_ones())),
        }
    }
    fold(a, b)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mix::Random;

    #[test]
    fn the_heap_sort_sorts() {
        let mut random = Random::new(3);
        for length in 0..70 {
            let mut numbers: Vec<u64> = (0..length).map(|_| random.word() % 50).collect();
            let mut expected = numbers.clone();
            expected.sort_unstable();
            heap_sort(&mut numbers);
            assert_eq!(numbers, expected);
        }
    }

    #[test]
    fn collatz_lengths_are_the_known_ones() {
        // OEIS A006577.
        let lengths: Vec<u64> = (1..=10).map(collatz_steps).collect();
        assert_eq!(lengths, [0, 1, 7, 2, 5, 8, 16, 3, 19, 6]);
        assert_eq!(collatz_steps(837_799), 524, "the longest below a million");
    }

    #[test]
    fn another_seed_gives_another_checksum() {
        let mut numbers = vec![0; COUNT];
        let first = unit(&mut numbers, 1);
        assert_eq!(unit(&mut numbers, 1), first);
        assert_ne!(unit(&mut numbers, 2), first);
    }
}
