//! `sort`: numbers by the standard library's unstable sort, strings by its stable one.

use core::hint::black_box;

use workload_program::mix::{Random, fold, fold_bytes};
use workload_program::work::{PrepareError, Work, filled, iterate};

const NUMBERS: usize = 16_384;
const STRINGS: usize = 4_096;
const SEED: u64 = 0x5027_0000;
/// Longest string. Many begin alike, as names do, so that comparing them takes more than one byte.
const LONGEST: u32 = 24;

/// The workload `sort`; one operation is one sort of 16 384 numbers and one of 4 096 strings.
pub struct Sort {
    numbers: Vec<u64>,
    sorted_numbers: Vec<u64>,
    strings: Vec<Box<[u8]>>,
    /// Places in `strings`, which are what is sorted: strings themselves would have to be copied each time.
    order: Vec<u32>,
}

impl Sort {
    /// Makes numbers and strings.
    ///
    /// # Errors
    ///
    /// [`PrepareError::Memory`] where there is no memory for them.
    pub fn new() -> Result<Self, PrepareError> {
        let mut random = Random::new(SEED);
        let mut numbers = filled(NUMBERS, 0_u64)?;
        numbers.iter_mut().for_each(|number| *number = random.word());
        let mut strings = Vec::new();
        for _ in 0..STRINGS {
            let length = 4 + random.below(LONGEST - 3) as usize;
            let mut string = filled(length, 0_u8)?;
            for (place, letter) in string.iter_mut().enumerate() {
                let letters = if place < 3 { 2 } else { 26 };
                *letter = b'a' + u8::try_from(random.below(letters)).unwrap_or(0);
            }
            strings.push(string.into_boxed_slice());
        }
        Ok(Self { sorted_numbers: filled(NUMBERS, 0)?, order: filled(STRINGS, 0)?, numbers, strings })
    }

    fn sort(&mut self) -> u64 {
        self.sorted_numbers.copy_from_slice(black_box(&self.numbers));
        self.sorted_numbers.sort_unstable();
        for (place, number) in (0_u32..).zip(&mut self.order) {
            *number = place;
        }
        let strings = black_box(&self.strings);
        self.order.sort_by(|left, right| strings[*left as usize].cmp(&strings[*right as usize]));
        let sum = self.sorted_numbers.iter().fold(0, |sum, number| fold(sum, *number));
        self.order.iter().fold(sum, |sum, place| fold_bytes(sum, &strings[*place as usize]))
    }
}

impl Work for Sort {
    fn operations(&self) -> u64 {
        1
    }

    fn repeat(&mut self, iterations: u64) -> u64 {
        iterate(iterations, || self.sort())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_are_in_order_and_nothing_is_lost() {
        let mut work = Sort::new().unwrap();
        let first = work.sort();
        assert!(work.sorted_numbers.is_sorted() && work.sorted_numbers != work.numbers);
        assert!(work.order.is_sorted_by_key(|place| &work.strings[*place as usize]));
        let mut places = work.order.clone();
        places.sort_unstable();
        assert!((0_u32..).zip(&places).all(|(expected, place)| expected == *place));
        assert_eq!(work.sort(), first);
    }
}
