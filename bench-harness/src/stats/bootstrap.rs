//! The interval of a ratio of medians, by resampling: there is no exact one. That of a single quantile is in
//! [`super::order`].
//!
//! The percentile bootstrap (Efron & Tibshirani, *An Introduction to the Bootstrap*, 1993, chapter 13). BCa is no
//! choice for a median: its acceleration comes from the jackknife, which is inconsistent there (the same, section
//! 11.6). The ratio of two medians is resampled on both sides independently, since launches of two targets share
//! nothing but their block.

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{RngCore, SeedableRng};
use sha2::{Digest, Sha256};

use super::describe::{quantile_of_sorted, sorted};
use super::{CONFIDENCE, MIN_FOR_INTERVAL};

/// Resamples for one interval. Davison & Hinkley, *Bootstrap Methods and their Application*, 1997, section 5.2, ask
/// for a thousand at least; from 4000 on, the ends move by less than the third digit that is shown.
pub const RESAMPLES: usize = 4000;

/// The ends of an interval that holds the figure at [`CONFIDENCE`].
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Interval {
    /// Lower end.
    pub low: f64,
    /// Upper end.
    pub high: f64,
}

impl Interval {
    /// Whether `value` lies within, ends included.
    pub fn holds(&self, value: f64) -> bool {
        self.low <= value && value <= self.high
    }

    /// Whether the interval lies within `low..=high`.
    pub fn within(&self, low: f64, high: f64) -> bool {
        low <= self.low && self.high <= high
    }
}

/// A source of resamples: the same seed and name give the same intervals, whatever else is computed.
#[derive(Debug, Clone)]
pub struct Resampler {
    random: ChaCha8Rng,
}

impl Resampler {
    /// The source for the figure called `name` in a run of this seed.
    pub fn new(seed: u64, name: &str) -> Self {
        let digest = Sha256::new().chain_update(seed.to_le_bytes()).chain_update(name).finalize();
        Self { random: ChaCha8Rng::from_seed(digest.into()) }
    }

    /// The interval for the median of `values` over that of `base`; `None` where either has too few values, and where
    /// the median of `base` may be zero.
    pub fn ratio_of_medians(&mut self, values: &[f64], base: &[f64]) -> Option<Interval> {
        let (values, base) = (Sample::new(values)?, Sample::new(base)?);
        let resampled = |_| {
            let value = values.resampled_median(&mut self.random);
            ratio(value, base.resampled_median(&mut self.random))
        };
        interval((0..RESAMPLES).map(resampled).collect::<Option<_>>()?)
    }
}

/// A ratio to something that is there: a slope may be nought or less, and nothing is a multiple of that.
pub fn ratio(value: f64, base: f64) -> Option<f64> {
    let ratio = value / base;
    (base > 0.0 && ratio.is_finite()).then_some(ratio)
}

fn interval(figures: Vec<f64>) -> Option<Interval> {
    let figures = sorted(&figures);
    let tail = (1.0 - CONFIDENCE) / 2.0;
    let (low, high) = (quantile_of_sorted(&figures, tail)?, quantile_of_sorted(&figures, 1.0 - tail)?);
    Some(Interval { low, high })
}

/// Values in ascending order, and room to count how often each was drawn.
struct Sample {
    sorted: Vec<f64>,
}

impl Sample {
    fn new(values: &[f64]) -> Option<Self> {
        (values.len() >= MIN_FOR_INTERVAL).then(|| Self { sorted: sorted(values) })
    }

    /// Draws as many values as there are, with replacement, and returns their median: by counting how often each
    /// place in the order was drawn, which saves sorting the drawn values.
    fn resampled_median(&self, random: &mut ChaCha8Rng) -> f64 {
        let n = self.sorted.len();
        let mut drawn = vec![0_usize; n];
        for _ in 0..n {
            drawn[index(random, n)] += 1;
        }
        let (lower, upper) = ((n - 1) / 2, n / 2);
        (self.at(&drawn, lower) + self.at(&drawn, upper)) / 2.0
    }

    /// The value at `place` in the order of the drawn ones.
    fn at(&self, drawn: &[usize], place: usize) -> f64 {
        let mut seen = 0;
        let found = drawn.iter().position(|times| {
            seen += times;
            seen > place
        });
        self.sorted[found.unwrap_or(self.sorted.len() - 1)]
    }
}

/// A number below `n`, by multiplication of a 32-bit draw: the bias is at most n / 2^32, far below what 4000 resamples
/// can show. Unlike a library's own way of drawing it stays the same from version to version, on which the reproducible
/// summary stands.
fn index(random: &mut ChaCha8Rng, n: usize) -> usize {
    let product = u64::from(random.next_u32()) * u64::try_from(n).unwrap_or(u64::MAX >> 32);
    usize::try_from(product >> 32).unwrap_or(0).min(n - 1)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    // Its own name: proptest's prelude brings another one of a later version.
    use rand_chacha::rand_core::RngCore as _;

    use super::*;
    use crate::stats::median;

    fn resampler() -> Resampler {
        Resampler::new(1, "test")
    }

    #[test]
    fn too_few_values_have_no_interval() {
        for n in 0..MIN_FOR_INTERVAL {
            assert_eq!(resampler().ratio_of_medians(&[1.0; 20], &vec![1.0; n]), None);
            assert_eq!(resampler().ratio_of_medians(&vec![1.0; n], &[1.0; 20]), None);
        }
    }

    #[test]
    fn the_fewest_values_are_those_from_which_95_percent_can_be_had() {
        // Coverage from the smallest to the largest of n.
        let coverage = |n: usize| 1.0 - 2.0 / f64::from(1_u32 << n);
        assert!(coverage(MIN_FOR_INTERVAL - 1) < CONFIDENCE);
        assert!(coverage(MIN_FOR_INTERVAL) >= CONFIDENCE);
    }

    #[test]
    fn equal_values_have_an_interval_without_width() {
        assert_eq!(
            resampler().ratio_of_medians(&[3.0; 9], &[2.0; 6]),
            Some(Interval { low: 1.5, high: 1.5 })
        );
    }

    #[test]
    fn a_ratio_to_nothing_is_no_ratio() {
        assert_eq!(ratio(1.0, 0.0), None);
        assert_eq!(ratio(0.0, 0.0), None);
        assert_eq!(ratio(1.0, -1.0), None);
        assert_eq!(ratio(2.0, 4.0), Some(0.5));
        assert_eq!(resampler().ratio_of_medians(&[1.0; 9], &[0.0; 9]), None);
    }

    #[test]
    fn the_same_seed_and_name_give_the_same_interval_and_others_do_not() {
        let values: Vec<f64> = (0..30_u32).map(|i| f64::from(i * i % 37)).collect();
        let of = |seed, name| Resampler::new(seed, name).random.next_u64();
        let interval = |name| Resampler::new(1, name).ratio_of_medians(&values, &[1.0; 9]);
        assert_eq!(interval("a"), interval("a"));
        assert_ne!(of(1, "a"), of(1, "b"));
        assert_ne!(of(1, "a"), of(2, "a"));
    }

    #[test]
    fn over_a_constant_the_interval_is_near_the_exact_one_from_order_statistics() {
        // For 0..=99 the exact 95 % interval runs from the 40th to the 61st value, 39 to 60.
        let values: Vec<f64> = (0..100_u32).map(f64::from).collect();
        let found = resampler().ratio_of_medians(&values, &[1.0; 9]).expect("enough values");
        assert!((39.0..=41.0).contains(&found.low), "{found:?}");
        assert!((58.0..=60.0).contains(&found.high), "{found:?}");
    }

    #[test]
    fn intervals_hold_the_true_ratio_about_as_often_as_they_promise() {
        let mut random = ChaCha8Rng::seed_from_u64(5);
        let mut held = 0_u32;
        let runs = 300;
        for run in 0..runs {
            // Skewed, as start-up times are: the square of a uniform number has the median 0.25.
            let values: Vec<f64> =
                (0..25).map(|_| (f64::from(random.next_u32()) / f64::from(u32::MAX)).powi(2)).collect();
            let interval = Resampler::new(run, "coverage").ratio_of_medians(&values, &[1.0; 9]);
            held += u32::from(interval.is_some_and(|interval| interval.holds(0.25)));
        }
        let share = f64::from(held) / 300.0;
        assert!((0.90..=0.99).contains(&share), "{share} of {runs}");
    }

    proptest! {
        #[test]
        fn an_interval_over_a_constant_lies_among_the_values_and_around_the_median(
            values in proptest::collection::vec(0.0..1e6, MIN_FOR_INTERVAL..30), seed in any::<u64>(),
        ) {
            let order = sorted(&values);
            let found = Resampler::new(seed, "p").ratio_of_medians(&values, &[1.0; 6]).expect("enough values");
            prop_assert!(found.within(order[0], order[order.len() - 1]));
            prop_assert!(found.holds(median(&values).expect("not empty")));
        }
    }
}
