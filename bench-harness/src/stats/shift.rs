//! By how much two samples differ: the shift of Hodges and Lehmann, and its interval.
//!
//! The median of all differences between a value here and a value there (Hodges & Lehmann, "Estimates of location based
//! on rank tests", *Annals of Mathematical Statistics* 34, 1963). It belongs to the rank-sum test: the interval after
//! Moses holds exactly the shifts that the test would not reject (Hollander, Wolfe & Chicken, *Nonparametric Statistical
//! Methods*, 3rd ed., 2014, sections 4.2 and 4.3).
//!
//! All differences are never written down: the k-th smallest is found by halving the range of numbers and counting how
//! many differences lie below, which takes one pass over both sorted samples each time.

use super::bootstrap::Interval;
use super::compare::{self, MAX_EXACT};
use super::describe::sorted;
use super::{CONFIDENCE, count};

/// A shift, and its interval where there are enough values.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Shift {
    /// How much larger the values are than those of the base.
    pub by: f64,
    /// Interval at [`CONFIDENCE`].
    pub interval: Option<Interval>,
}

/// Two-sided point of the standard normal distribution at [`CONFIDENCE`].
pub const Z: f64 = 1.959_964;
const _: () = assert!(CONFIDENCE == 0.95);

/// The shift from `base` to `values`; `None` where one of them is empty.
pub fn hodges_lehmann(values: &[f64], base: &[f64]) -> Option<Shift> {
    let differences = Differences { values: sorted(values), base: sorted(base) };
    let all = values.len().checked_mul(base.len()).filter(|&all| all > 0)?;
    let by = (differences.smallest((all - 1) / 2) + differences.smallest(all / 2)) / 2.0;
    let interval = cut(values.len(), base.len())
        .map(|cut| Interval { low: differences.smallest(cut - 1), high: differences.smallest(all - cut) });
    Some(Shift { by, interval })
}

/// The rank, from 1, of the difference at the lower end of the interval; `None` where no interval covers enough.
fn cut(here: usize, there: usize) -> Option<usize> {
    let tail = (1.0 - CONFIDENCE) / 2.0;
    let cut = if here + there <= MAX_EXACT {
        compare::rank_sum_cut(here, there, tail)
    } else {
        let (a, b) = (count(here), count(there));
        rank_below(a * b / 2.0, a * b * (a + b + 1.0) / 12.0)
    };
    (cut > 0).then_some(cut)
}

/// The rank at the lower point of the normal distribution with that mean and variance at [`CONFIDENCE`], rounded down.
pub(super) fn rank_below(mean: f64, variance: f64) -> usize {
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "not negative, below 2^53")]
    let rank = (mean - Z * variance.sqrt()).max(0.0).floor() as usize;
    rank
}

/// All differences of two samples in ascending order, without writing them down.
struct Differences {
    values: Vec<f64>,
    base: Vec<f64>,
}

impl Differences {
    /// How many are at most `limit`.
    fn at_most(&self, limit: f64) -> usize {
        // The larger the value, the more of the base must be taken to stay below the limit.
        let mut first = 0;
        let mut sum = 0;
        for value in &self.values {
            while first < self.base.len() && value - self.base[first] > limit {
                first += 1;
            }
            sum += self.base.len() - first;
        }
        sum
    }

    /// The one at `place`, from 0.
    fn smallest(&self, place: usize) -> f64 {
        let (Some(least), Some(most)) = (self.values.first(), self.values.last()) else { return 0.0 };
        let (Some(base_least), Some(base_most)) = (self.base.first(), self.base.last()) else { return 0.0 };
        // The smallest number with more than `place` differences at or below it: one of the differences.
        let (mut low, mut high) = (in_order(least - base_most), in_order(most - base_least));
        while low < high {
            let middle = low + (high - low) / 2;
            if self.at_most(number(middle)) > place { high = middle } else { low = middle + 1 }
        }
        number(low)
    }
}

/// A whole number for each floating-point number, in the same order.
fn in_order(value: f64) -> i128 {
    let bits = i128::from(value.to_bits() & !SIGN);
    if value.is_sign_negative() { -bits } else { bits }
}

const SIGN: u64 = 1 << 63;

fn number(order: i128) -> f64 {
    let bits = u64::try_from(order.unsigned_abs()).unwrap_or(0);
    if order < 0 { -f64::from_bits(bits) } else { f64::from_bits(bits) }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::stats::median;

    fn all_differences(values: &[f64], base: &[f64]) -> Vec<f64> {
        sorted(&values.iter().flat_map(|value| base.iter().map(move |base| value - base)).collect::<Vec<_>>())
    }

    #[test]
    fn nothing_has_no_shift_and_few_values_have_no_interval() {
        assert_eq!(hodges_lehmann(&[], &[1.0]), None);
        assert_eq!(hodges_lehmann(&[1.0], &[]), None);
        assert_eq!(hodges_lehmann(&[5.0], &[1.0]), Some(Shift { by: 4.0, interval: None }));
        assert_eq!(hodges_lehmann(&[5.0, 6.0, 7.0], &[1.0, 2.0, 3.0]).and_then(|found| found.interval), None);
    }

    #[test]
    fn the_shift_and_its_interval_agree_with_the_published_example() {
        // Hollander & Wolfe, example 4.1 and its continuations (permeability of the chorioamnion): the estimate is
        // -0.305, and 95.2 % of the mass lies within -0.76 and 0.15: the 9th difference from each end.
        let x = [0.80, 0.83, 1.89, 1.04, 1.45, 1.38, 1.91, 1.64, 0.73, 1.46];
        let y = [1.15, 0.88, 0.90, 0.74, 1.21];
        let found = hodges_lehmann(&y, &x).expect("two samples");
        let interval = found.interval.expect("enough values");
        assert!((found.by + 0.305).abs() < 1e-9, "{found:?}");
        assert!((interval.low + 0.76).abs() < 1e-9 && (interval.high - 0.15).abs() < 1e-9, "{found:?}");
    }

    #[test]
    fn equal_values_have_a_shift_without_width() {
        let found = hodges_lehmann(&[3.0; 40], &[2.0; 40]);
        assert_eq!(found, Some(Shift { by: 1.0, interval: Some(Interval { low: 1.0, high: 1.0 }) }));
    }

    #[test]
    fn a_few_wild_values_do_not_move_it() {
        let base: Vec<f64> = (0..50_u32).map(|i| 100.0 + f64::from(i % 7)).collect();
        let mut values: Vec<f64> = base.iter().map(|value| value + 10.0).collect();
        values[3] = 1e9;
        let found = hodges_lehmann(&values, &base).expect("two samples");
        assert!((found.by - 10.0).abs() <= 1.0, "{found:?}");
    }

    proptest! {
        #[test]
        fn it_is_the_median_of_all_differences_and_the_interval_holds_it(
            values in proptest::collection::vec(-1e6..1e6, 1..60), base in proptest::collection::vec(-1e6..1e6, 1..60),
        ) {
            let found = hodges_lehmann(&values, &base).expect("not empty");
            let expected = median(&all_differences(&values, &base)).expect("not empty");
            prop_assert!((found.by - expected).abs() <= 1e-9 * expected.abs(), "{found:?}, not {expected}");
            prop_assert!(found.interval.is_none_or(|interval| interval.holds(found.by)));
        }
    }
}
