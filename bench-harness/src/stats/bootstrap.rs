//! The interval of a ratio of medians, by resampling: there is no exact one. That of a single quantile is in
//! [`super::order`].
//!
//! The percentile bootstrap (Efron & Tibshirani, *An Introduction to the Bootstrap*, 1993, chapter 13). BCa is no
//! choice for a median: its acceleration comes from the jackknife, which is inconsistent there (the same, section
//! 11.6). What is drawn is blocks, with what both sides have in them: in a randomised block design the block is what is
//! exchangeable, and what disturbs a block disturbs both sides (Davison & Hinkley, *Bootstrap Methods and their Application*,
//! 1997, section 3.8).

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

    /// The interval for the median of `values` over that of `base`, each with the block that it was measured in; `None` where
    /// either has too few values, and where the median of `base` may be zero.
    pub fn ratio_of_medians(&mut self, values: &[(u32, f64)], base: &[(u32, f64)]) -> Option<Interval> {
        let mut blocks: Vec<u32> = values.iter().chain(base).map(|(block, _)| *block).collect();
        blocks.sort_unstable();
        blocks.dedup();
        let (values, base) = (Sample::new(values, &blocks)?, Sample::new(base, &blocks)?);
        let mut figures = Vec::with_capacity(RESAMPLES);
        let mut drawn = vec![0; blocks.len()];
        while figures.len() < RESAMPLES {
            drawn.fill(0);
            for _ in 0..blocks.len() {
                drawn[index(&mut self.random, blocks.len())] += 1;
            }
            // A side that is missing in many blocks may be missing in all that were drawn: such a draw says nothing.
            if let Some((value, base)) = values.median(&drawn).zip(base.median(&drawn)) {
                figures.push(ratio(value, base)?);
            }
        }
        interval(&figures)
    }
}

/// A ratio to something that is there: a slope may be nought or less, and nothing is a multiple of that.
pub fn ratio(value: f64, base: f64) -> Option<f64> {
    let ratio = value / base;
    (base > 0.0 && ratio.is_finite()).then_some(ratio)
}

fn interval(figures: &[f64]) -> Option<Interval> {
    let figures = sorted(figures);
    let tail = (1.0 - CONFIDENCE) / 2.0;
    let (low, high) = (quantile_of_sorted(&figures, tail)?, quantile_of_sorted(&figures, 1.0 - tail)?);
    Some(Interval { low, high })
}

/// Values in ascending order, each with the place of its block among all.
struct Sample(Vec<(f64, usize)>);

impl Sample {
    fn new(values: &[(u32, f64)], blocks: &[u32]) -> Option<Self> {
        let placed = values.iter().map(|&(block, value)| Some((value, blocks.binary_search(&block).ok()?)));
        let mut placed: Vec<_> = placed.collect::<Option<_>>()?;
        placed.sort_by(|a, b| a.0.total_cmp(&b.0));
        (placed.len() >= MIN_FOR_INTERVAL).then_some(Self(placed))
    }

    /// The median of the values in the blocks drawn, each as often as its block was: by counting along the order, which saves
    /// sorting what was drawn. `None` where nothing was.
    fn median(&self, drawn: &[usize]) -> Option<f64> {
        let n: usize = self.0.iter().map(|(_, block)| drawn[*block]).sum();
        let last = n.checked_sub(1)?;
        Some((self.at(drawn, last / 2)? + self.at(drawn, n / 2)?) / 2.0)
    }

    /// The value at `place` in the order of the drawn ones.
    fn at(&self, drawn: &[usize], place: usize) -> Option<f64> {
        let mut seen = 0;
        let found = self.0.iter().find(|(_, block)| {
            seen += drawn[*block];
            seen > place
        });
        found.map(|(value, _)| *value)
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

    /// One value a block.
    fn blocks(values: &[f64]) -> Vec<(u32, f64)> {
        (0..).zip(values.iter().copied()).collect()
    }

    #[test]
    fn too_few_values_have_no_interval() {
        for n in 0..MIN_FOR_INTERVAL {
            assert_eq!(resampler().ratio_of_medians(&blocks(&[1.0; 20]), &blocks(&vec![1.0; n])), None);
            assert_eq!(resampler().ratio_of_medians(&blocks(&vec![1.0; n]), &blocks(&[1.0; 20])), None);
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
            resampler().ratio_of_medians(&blocks(&[3.0; 9]), &blocks(&[2.0; 6])),
            Some(Interval { low: 1.5, high: 1.5 })
        );
    }

    #[test]
    fn a_ratio_to_nothing_is_no_ratio() {
        assert_eq!(ratio(1.0, 0.0), None);
        assert_eq!(ratio(0.0, 0.0), None);
        assert_eq!(ratio(1.0, -1.0), None);
        assert_eq!(ratio(2.0, 4.0), Some(0.5));
        assert_eq!(resampler().ratio_of_medians(&blocks(&[1.0; 9]), &blocks(&[0.0; 9])), None);
    }

    #[test]
    fn the_same_seed_and_name_give_the_same_interval_and_others_do_not() {
        let values: Vec<f64> = (0..30_u32).map(|i| f64::from(i * i % 37)).collect();
        let of = |seed, name| Resampler::new(seed, name).random.next_u64();
        let interval = |name| {
            Resampler::new(1, name).ratio_of_medians(&blocks(&values), &blocks(&vec![1.0; values.len()]))
        };
        assert_eq!(interval("a"), interval("a"));
        assert_ne!(of(1, "a"), of(1, "b"));
        assert_ne!(of(1, "a"), of(2, "a"));
    }

    #[test]
    fn what_both_sides_share_in_a_block_does_not_widen_the_interval() {
        // Blocks of very different speed, in which one side always takes twice as long.
        let base: Vec<f64> = (0..40_u32).map(|i| f64::from(100 + i * i % 97)).collect();
        let values: Vec<f64> = base.iter().map(|value| 2.0 * value).collect();
        let found = resampler().ratio_of_medians(&blocks(&values), &blocks(&base));
        assert_eq!(found, Some(Interval { low: 2.0, high: 2.0 }));
        let elsewhere: Vec<(u32, f64)> = (100..).zip(values).collect();
        let apart = resampler().ratio_of_medians(&elsewhere, &blocks(&base)).expect("enough values");
        assert!(apart.high - apart.low > 0.1, "{apart:?}");
    }

    #[test]
    fn a_side_that_is_missing_in_most_blocks_has_an_interval_from_the_others() {
        let found = resampler().ratio_of_medians(&blocks(&[3.0; 6]), &blocks(&[2.0; 60]));
        assert_eq!(found, Some(Interval { low: 1.5, high: 1.5 }));
    }

    #[test]
    fn over_a_constant_the_interval_is_near_the_exact_one_from_order_statistics() {
        // For 0..=99 the exact 95 % interval runs from the 40th to the 61st value, 39 to 60.
        let values: Vec<f64> = (0..100_u32).map(f64::from).collect();
        let found = resampler()
            .ratio_of_medians(&blocks(&values), &blocks(&vec![1.0; values.len()]))
            .expect("enough values");
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
            let interval = Resampler::new(run, "coverage")
                .ratio_of_medians(&blocks(&values), &blocks(&vec![1.0; values.len()]));
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
            let found = Resampler::new(seed, "p").ratio_of_medians(&blocks(&values), &blocks(&vec![1.0; values.len()])).expect("enough values");
            prop_assert!(found.within(order[0], order[order.len() - 1]));
            prop_assert!(found.holds(median(&values).expect("not empty")));
        }
    }
}
