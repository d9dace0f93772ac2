//! By how much two things differ that were measured in turn, block by block: the signed-rank test and its shift.
//!
//! What slows a whole block down is in both of its values and leaves their difference (Montgomery, *Design and Analysis of
//! Experiments*, 8th ed., 2013, section 2.5). The test is Wilcoxon's (*Biometrics Bulletin* 1, 1945), with zeros ranked and then
//! left out after Pratt (*JASA* 54, 1959), exact with ties by counting the ways in which the signs could have fallen; the
//! shift is the median of the Walsh averages and its interval Tukey's (Hollander, Wolfe & Chicken, *Nonparametric
//! Statistical Methods*, 3rd ed., 2014, sections 3.1 to 3.3).

use super::bootstrap::Interval;
use super::compare::{doubled_midranks, upper_tail};
use super::shift::{Shift, rank_below};
use super::{CONFIDENCE, count};

/// Largest number of differences whose signs are counted exactly.
const MAX_EXACT: usize = 60;

/// The two-sided probability of differences as one-sided as these, were their signs a matter of chance.
///
/// `None` where there are none.
pub fn signed_rank_p(differences: &[f64]) -> Option<f64> {
    if differences.is_empty() {
        return None;
    }
    let sizes: Vec<f64> = differences.iter().map(|difference| difference.abs()).collect();
    let (ranks, _) = doubled_midranks(&sizes, &[]);
    // Pratt: zeros take their ranks, and then have no sign to be drawn.
    let signed: Vec<(usize, bool)> = ranks
        .into_iter()
        .zip(differences)
        .filter(|(_, difference)| **difference != 0.0)
        .map(|(rank, difference)| (rank, *difference > 0.0))
        .collect();
    let ranks: Vec<usize> = signed.iter().map(|(rank, _)| *rank).collect();
    let positive: usize = signed.iter().filter(|(_, positive)| *positive).map(|(rank, _)| rank).sum();
    let p = if ranks.len() <= MAX_EXACT { exact(&ranks, positive) } else { approximate(&ranks, positive) };
    Some(p.clamp(0.0, 1.0))
}

/// The share of all ways in which the signs of these ranks could have fallen whose positive ones sum to something as far from the
/// middle as `seen` is.
pub(super) fn exact(ranks: &[usize], seen: usize) -> f64 {
    let all: usize = ranks.iter().sum();
    let ways = ways(ranks);
    // Twice the distance from the middle, a whole number.
    let distance = |sum: usize| (2 * sum).abs_diff(all);
    let as_far: f64 = ways
        .iter()
        .enumerate()
        .filter(|(sum, _)| distance(*sum) >= distance(seen))
        .map(|(_, ways)| ways)
        .sum();
    as_far / ways.iter().sum::<f64>()
}

/// In how many ways signs can fall so that the positive ranks have each sum. Below 2^60, so that an f64 loses at most the
/// last digits of a probability.
fn ways(ranks: &[usize]) -> Vec<f64> {
    let all: usize = ranks.iter().sum();
    let mut ways = vec![0.0_f64; all + 1];
    ways[0] = 1.0;
    let mut reached = 0;
    for rank in ranks {
        reached += rank;
        for sum in (*rank..=reached).rev() {
            ways[sum] += ways[sum - rank];
        }
    }
    ways
}

fn approximate(ranks: &[usize], seen: usize) -> f64 {
    let expected = count(ranks.iter().sum()) / 4.0;
    let variance: f64 = ranks.iter().map(|rank| (count(*rank) / 2.0).powi(2)).sum::<f64>() / 4.0;
    if variance <= 0.0 {
        return 1.0;
    }
    let distance = ((count(seen) / 2.0 - expected).abs() - 0.5).max(0.0);
    2.0 * upper_tail(distance / variance.sqrt())
}

/// The shift that the differences show: the median of the means of all pairs of them, each with itself included.
///
/// `None` where there are none.
pub fn walsh_shift(differences: &[f64]) -> Option<Shift> {
    let n = differences.len();
    let mut means = Vec::with_capacity(n * (n + 1) / 2);
    for (place, one) in differences.iter().enumerate() {
        means.extend(differences[place..].iter().map(|other| (one + other) / 2.0));
    }
    let all = means.len();
    if all == 0 {
        return None;
    }
    let by = (nth(&mut means, (all - 1) / 2) + nth(&mut means, all / 2)) / 2.0;
    let interval =
        cut(n).map(|cut| Interval { low: nth(&mut means, cut - 1), high: nth(&mut means, all - cut) });
    Some(Shift { by, interval })
}

fn nth(values: &mut [f64], place: usize) -> f64 {
    *values.select_nth_unstable_by(place, f64::total_cmp).1
}

/// The rank, from 1, of the Walsh average at the lower end of the interval; `None` where no interval covers enough.
fn cut(n: usize) -> Option<usize> {
    let tail = (1.0 - CONFIDENCE) / 2.0;
    let cut = if n <= MAX_EXACT {
        let ways = ways(&(1..=n).collect::<Vec<_>>());
        let all: f64 = ways.iter().sum();
        let mut sum = 0.0;
        ways.iter()
            .take_while(|ways| {
                sum += **ways / all;
                sum <= tail
            })
            .count()
    } else {
        let n = count(n);
        rank_below(n * (n + 1.0) / 4.0, n * (n + 1.0) * (2.0 * n + 1.0) / 24.0)
    };
    (cut > 0).then_some(cut)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use rand::{Rng as _, SeedableRng};
    use rand_chacha::ChaCha8Rng;

    use super::*;
    use crate::stats::median;

    #[test]
    fn nothing_has_no_probability_and_no_shift() {
        assert_eq!(signed_rank_p(&[]), None);
        assert_eq!(walsh_shift(&[]), None);
    }

    #[test]
    fn differences_of_nought_say_nothing() {
        assert_eq!(signed_rank_p(&[0.0; 9]), Some(1.0));
        let found = walsh_shift(&[0.0; 9]).expect("nine differences");
        assert_eq!(found, Shift { by: 0.0, interval: Some(Interval { low: 0.0, high: 0.0 }) });
    }

    #[test]
    fn the_fewest_differences_that_can_tell_are_six() {
        // 2 / 2^n: 0.0625 at five, 0.03125 at six.
        assert_eq!(signed_rank_p(&[1.0, 2.0, 3.0, 4.0, 5.0]), Some(0.0625));
        assert_eq!(signed_rank_p(&[1.0, 2.0, 3.0, 4.0, 5.0, 6.0]), Some(0.03125));
        assert_eq!(walsh_shift(&[1.0; 5]).and_then(|found| found.interval), None);
        assert!(walsh_shift(&[1.0; 6]).and_then(|found| found.interval).is_some());
    }

    #[test]
    #[expect(clippy::approx_constant, reason = "a patient, not the circle")]
    fn test_and_shift_agree_with_the_published_example() {
        // Hollander & Wolfe, example 3.1 (Hamilton depression scale, 9 patients): T+ = 5, two-sided p = 0.039; the shift is
        // -0.46, and 96.1 % lie within -0.786 and -0.010: the 6th Walsh average from each end.
        let x = [1.83, 0.50, 1.62, 2.48, 1.68, 1.88, 1.55, 3.06, 1.30];
        let y = [0.878, 0.647, 0.598, 2.05, 1.06, 1.29, 1.06, 3.140, 1.29];
        let differences: Vec<f64> = y.iter().zip(x).map(|(y, x)| y - x).collect();
        let p = signed_rank_p(&differences).expect("nine differences");
        assert!((p - 0.039).abs() < 5e-4, "{p}");
        let found = walsh_shift(&differences).expect("nine differences");
        let interval = found.interval.expect("enough");
        assert!((found.by + 0.46).abs() < 5e-4, "{found:?}");
        assert!((interval.low + 0.786).abs() < 5e-4 && (interval.high + 0.010).abs() < 5e-4, "{found:?}");
    }

    #[test]
    fn what_slows_a_whole_block_down_leaves_the_differences() {
        let mut random = ChaCha8Rng::seed_from_u64(3);
        let differences: Vec<f64> = (0..40)
            .map(|block| {
                let common = 1e6 * f64::from(block % 7);
                let mut value = || common + f64::from(random.random_range(0..100_u32));
                let before = value();
                value() + 50.0 - before
            })
            .collect();
        assert!(signed_rank_p(&differences).is_some_and(|p| p < 0.01));
        assert!(walsh_shift(&differences).is_some_and(|found| (found.by - 50.0).abs() < 25.0));
    }

    #[test]
    fn the_normal_approximation_meets_the_exact_count_where_they_part() {
        let differences: Vec<f64> =
            (1..=60).map(|i| if i % 3 == 0 { -f64::from(i) } else { f64::from(i) }).collect();
        let ranks: Vec<usize> = (1..=60).map(|rank| 2 * rank).collect();
        let positive = (1..=60).filter(|i| i % 3 != 0).map(|i| 2 * i).sum();
        let (exact, near) = (signed_rank_p(&differences).expect("60"), approximate(&ranks, positive));
        assert!((exact - near).abs() < 0.002, "{exact} and {near}");
    }

    proptest! {
        #[test]
        fn the_interval_holds_the_shift_and_turning_the_signs_turns_it(
            differences in proptest::collection::vec(-1e6..1e6, 1..90)
        ) {
            let found = walsh_shift(&differences).expect("not empty");
            prop_assert!(found.interval.is_none_or(|interval| interval.holds(found.by)));
            let turned: Vec<f64> = differences.iter().map(|difference| -difference).collect();
            let other = walsh_shift(&turned).expect("not empty");
            prop_assert!((found.by + other.by).abs() <= 1e-6 * found.by.abs().max(1.0));
            let (low, high) = (differences.iter().copied().fold(f64::INFINITY, f64::min), median(&differences));
            prop_assert!(found.by >= low && high.is_some());
            let (p, same) = (signed_rank_p(&differences), signed_rank_p(&turned));
            prop_assert!((p.unwrap_or(2.0) - same.unwrap_or(3.0)).abs() < 1e-9);
        }
    }
}
