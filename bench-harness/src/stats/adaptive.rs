//! The gate's test: by ranks whose weights suit the launches at hand.
//!
//! Start-up times have a sharp lower edge and a long tail to the right, in which interference lies, not the program. The ranks of the
//! rank-sum test weigh both ends alike; scores that rise only in the lower half find the same shift with far fewer such launches,
//! and drop none. Which scores are used is decided by the skewness of both samples *pooled*. That is independent of which launch
//! is whose when nothing differs, so that the test keeps its level exactly (Hogg, Fisher & Randles, "A two-sample adaptive
//! distribution-free test", *JASA* 70, 1975, whose measure of skewness, limit and scores these are; their third choice, for heavy
//! tails on both sides, is left out: the tails here are on one).
//!
//! Up to sixty launches of both sides together it is the exact rank-sum test.
//!
//! Measured in turn, block by block, the scores are compared within the blocks: the test is the randomisation test of the paired
//! design on these scores, in which the sign of each difference could as well have been the other one (Fisher, *The Design of
//! Experiments*, 1935, section 21; Lehmann, *Nonparametrics*, 1975, section 3.2), counted exactly. What disturbs one block weighs no
//! more than its ranks say.
//!
//! Shift and interval are those that the test does not reject, found by halving (Hodges & Lehmann 1963).

use super::bootstrap::Interval;
use super::compare::{doubled_midranks, rank_sum_p, upper_tail};
use super::describe::sorted;
use super::shift::{Shift, Z, hodges_lehmann};
use super::{count, paired};

/// From this skewness on, the scores for distributions that are skewed to the right (Hogg, Fisher & Randles).
const SKEWED: f64 = 2.0;
/// Largest number of blocks whose signs, and of launches of both sides whose ranks are counted exactly.
const MAX_EXACT: usize = 60;
/// Halvings of the range of shifts: to less than a part in 10^9 of it.
const HALVINGS: u32 = 34;

/// How the launches were made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Layout {
    /// One side and then the other.
    Apart,
    /// Block by block: equal places in both samples are of one block.
    InTurn,
}

/// What the test says.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Verdict {
    /// Two-sided probability of differences as large, were there none.
    pub p: f64,
    /// How much larger the values are than those of the base, with the interval that belongs to the test.
    pub shift: Shift,
}

/// Compares two samples; `None` where one is empty, or where blocks were asked for and the samples are not of one length.
pub fn compare(values: &[f64], base: &[f64], layout: Layout) -> Option<Verdict> {
    let unfit = layout == Layout::InTurn && values.len() != base.len();
    if values.is_empty() || base.is_empty() || unfit {
        return None;
    }
    if layout == Layout::Apart && values.len() + base.len() <= MAX_EXACT {
        // Counted exactly, and too few to know their skewness by.
        let (p, shift) = (rank_sum_p(values, base)?, hodges_lehmann(values, base)?);
        return Some(Verdict { p, shift });
    }
    let skewed = is_skewed(values, base);
    let z = |by: f64| z(values, base, by, skewed, layout);
    let p = match (layout, values.len() <= MAX_EXACT) {
        (Layout::InTurn, true) => exact(&differences(values, base, 0.0, skewed)),
        _ => (2.0 * upper_tail(z(0.0).abs())).min(1.0),
    };
    let enough = values.len().min(base.len()) >= super::MIN_FOR_INTERVAL;
    let interval =
        enough.then(|| Interval { low: shift_at(values, base, Z, &z), high: shift_at(values, base, -Z, &z) });
    let by = shift_at(values, base, 0.0, &z);
    // Where many shifts fit as well, halving ends at one of them; it shall not lie beside its own interval.
    let by = interval.map_or(by, |interval| by.clamp(interval.low, interval.high.max(interval.low)));
    Some(Verdict { p, shift: Shift { by, interval } })
}

/// Means of the upper and lower twentieth and of the middle half: how much further the upper end lies from the middle.
fn is_skewed(values: &[f64], base: &[f64]) -> bool {
    let pooled = sorted(&[values, base].concat());
    let n = pooled.len();
    let mean = |part: &[f64]| part.iter().sum::<f64>() / count(part.len());
    let end = n.div_ceil(20);
    let middle = mean(&pooled[n / 4..n - n / 4]);
    let (low, high) = (mean(&pooled[..end]), mean(&pooled[n - end..]));
    high - middle > SKEWED * (middle - low)
}

/// The doubled scores of both samples, those of `values` less `by` first: midranks less their middle, and with `skewed` none above it.
fn scores(values: &[f64], base: &[f64], by: f64, skewed: bool) -> Vec<i64> {
    let moved: Vec<f64> = values.iter().map(|value| value - by).collect();
    let (ranks, _) = doubled_midranks(&moved, base);
    let middle = i64::try_from(ranks.len() + 1).unwrap_or(i64::MAX);
    let score = |rank: usize| i64::try_from(rank).unwrap_or(i64::MAX) - middle;
    ranks.into_iter().map(|rank| if skewed { score(rank).min(0) } else { score(rank) }).collect()
}

/// The differences of the scores within the blocks.
fn differences(values: &[f64], base: &[f64], by: f64, skewed: bool) -> Vec<i64> {
    let scores = scores(values, base, by, skewed);
    let (own, other) = scores.split_at(values.len());
    own.iter().zip(other).map(|(own, other)| own - other).collect()
}

/// The statistic over its deviation.
fn z(values: &[f64], base: &[f64], by: f64, skewed: bool, layout: Layout) -> f64 {
    #[expect(clippy::cast_precision_loss, reason = "scores of some thousand launches")]
    let float = |score: i64| score as f64;
    let (sum, variance) = match layout {
        Layout::InTurn => {
            let differences = differences(values, base, by, skewed);
            let squares = differences.iter().map(|difference| float(*difference).powi(2)).sum::<f64>();
            (differences.iter().map(|difference| float(*difference)).sum::<f64>(), squares)
        }
        Layout::Apart => {
            let scores: Vec<f64> = scores(values, base, by, skewed).into_iter().map(float).collect();
            let (here, all) = (count(values.len()), count(scores.len()));
            let mean = scores.iter().sum::<f64>() / all;
            let squares = scores.iter().map(|score| (score - mean).powi(2)).sum::<f64>();
            let sum = scores[..values.len()].iter().map(|score| score - mean).sum::<f64>();
            (sum, here * (all - here) / (all * (all - 1.0)) * squares)
        }
    };
    if variance > 0.0 { sum / variance.sqrt() } else { 0.0 }
}

/// The probability of signs whose sum is as far from nought.
fn exact(differences: &[i64]) -> f64 {
    let size = |difference: &i64| usize::try_from(difference.unsigned_abs()).unwrap_or(usize::MAX);
    let sizes: Vec<usize> = differences.iter().map(size).collect();
    let positive = differences.iter().filter(|difference| **difference > 0).map(size).sum();
    paired::exact(&sizes, positive)
}

/// The shift after which the statistic is `target`: the larger the shift that is taken off, the smaller the statistic.
fn shift_at(values: &[f64], base: &[f64], target: f64, z: &impl Fn(f64) -> f64) -> f64 {
    let ends = |values: &[f64]| {
        values.iter().fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), value| {
            (low.min(*value), high.max(*value))
        })
    };
    let ((least, most), (base_least, base_most)) = (ends(values), ends(base));
    let (mut low, mut high) = (least - base_most, most - base_least);
    for _ in 0..HALVINGS {
        let middle = low + (high - low) / 2.0;
        if z(middle) > target { low = middle } else { high = middle }
    }
    // The statistic changes at differences of two launches only: the one that the halving has closed in on, if there is one.
    let found = low + (high - low) / 2.0;
    let base = sorted(base);
    let nearest = values
        .iter()
        .flat_map(|value| {
            let place = base.partition_point(|base| value - base > found);
            [place.checked_sub(1), Some(place)]
                .map(|place| place.and_then(|place| base.get(place)).map(|base| value - base))
        })
        .flatten()
        .min_by(|one, other| (one - found).abs().total_cmp(&(other - found).abs()));
    nearest.filter(|nearest| (nearest - found).abs() <= 2.0 * (high - low)).unwrap_or(found)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use rand::{Rng as _, SeedableRng};
    use rand_chacha::ChaCha8Rng;

    use super::*;

    /// A launch as this kind of host makes them: an edge, a skewed spread, and one in ten disturbed by a lot.
    fn launch(random: &mut ChaCha8Rng) -> f64 {
        let mut even = || f64::from(random.random::<u32>()) / f64::from(u32::MAX);
        let disturbed = if even() < 0.1 { 2e5 + 1e6 * even() } else { 0.0 };
        3e5 + 6e4 * even().powi(2) + disturbed
    }

    #[test]
    fn nothing_and_unequal_blocks_are_not_compared() {
        assert_eq!(compare(&[], &[1.0], Layout::Apart), None);
        assert_eq!(compare(&[1.0, 2.0], &[1.0], Layout::InTurn), None);
        assert!(
            compare(&[1.0, 2.0], &[1.0], Layout::Apart).is_some_and(|found| found.shift.interval.is_none())
        );
    }

    #[test]
    fn without_skewness_it_is_the_rank_sum_test() {
        let a: Vec<f64> = (0..40_u32).map(|i| f64::from(i * 17 % 41)).collect();
        let b: Vec<f64> = (0..40_u32).map(|i| f64::from(i * 23 % 43) + 4.0).collect();
        let found = compare(&a, &b, Layout::Apart).expect("two samples");
        let plain = rank_sum_p(&a, &b).expect("two samples");
        // The other one corrects for continuity.
        assert!((found.p - plain).abs() < 0.01, "{} and {plain}", found.p);
    }

    #[test]
    fn six_blocks_of_one_kind_are_as_sure_as_six_can_be() {
        let found = compare(&[2.0; 6], &[1.0; 6], Layout::InTurn).expect("six blocks");
        assert_eq!(found.p, 2.0 / 64.0);
        assert_eq!(compare(&[1.0; 6], &[1.0; 6], Layout::InTurn).map(|found| found.p), Some(1.0));
    }

    #[test]
    fn it_calls_a_difference_where_there_is_none_as_seldom_as_it_promises_and_finds_more_than_the_rank_sum_test()
     {
        let mut random = ChaCha8Rng::seed_from_u64(9);
        let (mut alarms, mut found, mut plain) = ([0; 2], [0; 2], 0);
        for _ in 0..400 {
            let mut side = || (0..40).map(|_| launch(&mut random)).collect::<Vec<f64>>();
            let (base, same) = (side(), side());
            let slower: Vec<f64> = same.iter().map(|value| value + 1.2e4).collect();
            for (place, layout) in [Layout::Apart, Layout::InTurn].into_iter().enumerate() {
                let p = |values: &[f64]| compare(values, &base, layout).map_or(1.0, |found| found.p);
                alarms[place] += i32::from(p(&same) < 0.05);
                found[place] += i32::from(p(&slower) < 0.05);
            }
            plain += i32::from(rank_sum_p(&slower, &base).is_some_and(|p| p < 0.05));
        }
        // 20 expected of 400; more than 33 has a chance below one in five hundred.
        assert!(alarms.iter().all(|alarms| *alarms <= 33), "{alarms:?}");
        assert!(found.iter().all(|found| *found > plain + 30), "{found:?}, the rank-sum test {plain}");
    }

    #[test]
    fn the_interval_holds_the_true_shift_about_as_often_as_it_promises() {
        let mut random = ChaCha8Rng::seed_from_u64(10);
        let mut held = [0; 2];
        for _ in 0..300 {
            let base: Vec<f64> = (0..40).map(|_| launch(&mut random)).collect();
            let values: Vec<f64> = (0..40).map(|_| launch(&mut random) + 3e4).collect();
            for (place, layout) in [Layout::Apart, Layout::InTurn].into_iter().enumerate() {
                let interval = compare(&values, &base, layout).and_then(|found| found.shift.interval);
                held[place] += i32::from(interval.is_some_and(|interval| interval.holds(3e4)));
            }
        }
        assert!(held.iter().all(|held| (273..=298).contains(held)), "{held:?} of 300");
    }

    proptest! {
        #[test]
        fn any_samples_have_a_probability_and_a_shift_within_its_interval(
            values in proptest::collection::vec(0.0..1e6, 1..50), base in proptest::collection::vec(0.0..1e6, 1..50),
        ) {
            let found = compare(&values, &base, Layout::Apart).expect("not empty");
            prop_assert!((0.0..=1.0).contains(&found.p));
            prop_assert!(found.shift.interval.is_none_or(|interval| interval.low <= interval.high && interval.holds(found.shift.by)));
        }
    }
}
