//! Exact intervals for quantiles, from the order of the observations alone.
//!
//! How many of n observations lie below the quantile of `part` is binomial, whatever the distribution. So the interval
//! from the l-th to the u-th smallest observation holds the quantile with a probability that can be counted (David &
//! Nagaraja, *Order Statistics*, 3rd ed., 2003, section 7.1; Hahn & Meeker, *Statistical Intervals*, 1991, section 5.2;
//! for measurements of computers Le Boudec, *Performance Evaluation of Computer and Communication Systems*, 2010,
//! theorem 2.1). Each side misses with at most half of what is left of [`CONFIDENCE`]. No resampling, no assumption but
//! independence, and from too few observations no interval at all: a median needs 6, a 95th percentile 72 and a 99th 368.
//! BCa and the plain bootstrap promise as much for tails and do not keep it: no resample holds a value beyond the largest.

use super::bootstrap::Interval;
use super::{CONFIDENCE, count};

/// The interval for the quantile of `part` of values in ascending order; `None` where they are too few for one.
pub fn interval_of_sorted(sorted: &[f64], part: f64) -> Option<Interval> {
    let (low, high) = ranks(sorted.len(), part)?;
    Some(Interval { low: sorted[low - 1], high: sorted[high - 1] })
}

/// Ranks, from 1, of the observations at the ends of the interval.
pub fn ranks(n: usize, part: f64) -> Option<(usize, usize)> {
    let miss = (1.0 - CONFIDENCE) / 2.0;
    let chances = binomial(n, part);
    // Largest l with P(fewer than l below) at most `miss`: as many as can be cut off from below.
    let low = cut(chances.iter(), miss)?;
    // Smallest u with P(u or more below) at most `miss`.
    let high = (n + 1).checked_sub(cut(chances.iter().rev(), miss)?)?;
    (low >= 1 && low <= high && high <= n).then_some((low, high))
}

/// How many chances, from the first on, add up to no more than `miss`.
fn cut<'a>(chances: impl Iterator<Item = &'a f64>, miss: f64) -> Option<usize> {
    let mut sum = 0.0;
    let within = chances
        .take_while(|chance| {
            sum += **chance;
            sum <= miss
        })
        .count();
    (within > 0).then_some(within)
}

/// P(B = k) for k from 0 to n.
pub(super) fn binomial(n: usize, part: f64) -> Vec<f64> {
    let mut log_factorials = vec![0.0];
    let mut sum = 0.0;
    for k in 1..=n {
        sum += count(k).ln();
        log_factorials.push(sum);
    }
    let (below, above) = (part.ln(), (1.0 - part).ln());
    (0..=n)
        .map(|k| {
            let ways = log_factorials[n] - log_factorials[k] - log_factorials[n - k];
            (ways + count(k) * below + count(n - k) * above).exp()
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::stats::MIN_FOR_INTERVAL;
    use crate::stats::describe::{quantile_of_sorted, sorted};

    #[test]
    fn a_quantile_has_an_interval_from_as_many_launches_as_published() {
        for (part, least) in [(0.5, MIN_FOR_INTERVAL), (0.95, 72), (0.99, 368)] {
            assert_eq!(ranks(least - 1, part), None, "{part}");
            let (low, high) = ranks(least, part).expect("just enough");
            assert!(low >= 1 && high == least, "{part}: {low} to {high}");
        }
        assert_eq!(ranks(0, 0.5), None);
        assert_eq!(ranks(1, 0.5), None);
    }

    #[test]
    fn the_ranks_for_a_median_are_those_of_the_published_table() {
        // Le Boudec 2010, appendix A, confidence 0.95.
        for (n, expected) in
            [(6, (1, 6)), (9, (2, 8)), (10, (2, 9)), (20, (6, 15)), (50, (18, 33)), (70, (27, 44))]
        {
            assert_eq!(ranks(n, 0.5), Some(expected), "{n}");
        }
        assert_eq!(ranks(100, 0.5), Some((40, 61)));
    }

    #[test]
    fn equal_values_have_an_interval_without_width() {
        assert_eq!(interval_of_sorted(&[2.0; 9], 0.5), Some(Interval { low: 2.0, high: 2.0 }));
    }

    #[test]
    fn many_thousand_launches_are_no_trouble() {
        let (low, high) = ranks(10_000, 0.5).expect("enough");
        // n/2 -+ 1.96 sqrt(n)/2
        assert!((4_900..=4_904).contains(&low) && (5_097..=5_101).contains(&high), "{low} to {high}");
    }

    proptest! {
        #[test]
        fn the_interval_holds_the_quantile_of_the_sample(
            values in proptest::collection::vec(0.0..1e6, 6..400), part in prop_oneof![Just(0.5), Just(0.95), Just(0.99)],
        ) {
            let order = sorted(&values);
            if let Some(found) = interval_of_sorted(&order, part) {
                prop_assert!(found.holds(quantile_of_sorted(&order, part).expect("not empty")), "{found:?}");
            }
        }
    }
}
