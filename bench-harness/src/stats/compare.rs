//! Whether two samples differ: the rank-sum test of Wilcoxon, Mann and Whitney.
//!
//! Exact, ties included, by counting how many ways of dividing the pooled midranks give a sum at least as far from the
//! expected one (Streitberg & Röhmel, "Exact distributions for permutation and rank tests", *Statistical Software
//! Newsletter* 12, 1986); by the normal approximation with correction for ties and continuity where the samples are too
//! large to count (Hollander, Wolfe & Chicken, *Nonparametric Statistical Methods*, 3rd ed., 2014, section 4.1).

use super::count;

/// Largest size of both samples together that is counted exactly.
pub const MAX_EXACT: usize = 60;

/// The two-sided probability of ranks as unequal as these, were both samples from one distribution.
///
/// `None` where a sample is empty.
pub fn rank_sum_p(a: &[f64], b: &[f64]) -> Option<f64> {
    if a.is_empty() || b.is_empty() {
        return None;
    }
    let (ranks, ties) = doubled_midranks(a, b);
    let p =
        if ranks.len() <= MAX_EXACT { exact(&ranks, a.len()) } else { approximate(&ranks, a.len(), &ties) };
    Some(p.clamp(0.0, 1.0))
}

/// Twice the midrank of every value, those of `a` first, and the sizes of the groups of equal values.
///
/// Doubled, a midrank is a whole number.
pub(super) fn doubled_midranks(a: &[f64], b: &[f64]) -> (Vec<usize>, Vec<usize>) {
    let pooled: Vec<f64> = a.iter().chain(b).copied().collect();
    let mut order: Vec<usize> = (0..pooled.len()).collect();
    order.sort_by(|left, right| pooled[*left].total_cmp(&pooled[*right]));
    let mut ranks = vec![0; pooled.len()];
    let mut ties = Vec::new();
    let mut first = 0;
    // `==` and not the order's own equality: 0 and -0 are the same quantity.
    for group in order.chunk_by(|left, right| pooled[*left] == pooled[*right]) {
        for place in group {
            // Ranks first + 1 to first + len, whose mean is first + (len + 1) / 2.
            ranks[*place] = 2 * first + group.len() + 1;
        }
        ties.push(group.len());
        first += group.len();
    }
    (ranks, ties)
}

/// The midrank of every value, from 1.
pub(super) fn midranks(values: &[f64]) -> Vec<f64> {
    doubled_midranks(values, &[]).0.into_iter().map(|doubled| count(doubled) / 2.0).collect()
}

fn exact(ranks: &[usize], size: usize) -> f64 {
    let largest: usize = ranks.iter().sum();
    // ways[k][s]: in how many ways k of the ranks seen so far sum to s. 60 choose 30 is below 2^57, so that an f64
    // loses at most the last digits of a probability.
    let mut ways = vec![vec![0.0_f64; largest + 1]; size + 1];
    ways[0][0] = 1.0;
    for rank in ranks {
        for chosen in (1..=size).rev() {
            let (fewer, more) = ways.split_at_mut(chosen);
            for sum in *rank..=largest {
                more[0][sum] += fewer[chosen - 1][sum - rank];
            }
        }
    }
    let seen: usize = ranks[..size].iter().sum();
    // Expected is size * (N + 1) when doubled, a whole number.
    let expected = size * (ranks.len() + 1);
    let distance = seen.abs_diff(expected);
    let all: f64 = ways[size].iter().sum();
    let as_far = |(sum, _): &(usize, &f64)| sum.abs_diff(expected) >= distance;
    ways[size].iter().enumerate().filter(as_far).map(|(_, ways)| ways).sum::<f64>() / all
}

/// How many of the smallest differences may be cut off at each end, so that an interval between what is left covers all
/// but `tail` on each side: the largest c with P(U < c) at most `tail`, U being the number of pairs in one order.
pub(super) fn rank_sum_cut(here: usize, there: usize, tail: f64) -> usize {
    let mut sum = 0.0;
    pairs_in_order(here, there)
        .iter()
        .take_while(|chance| {
            sum += **chance;
            sum <= tail
        })
        .count()
}

/// The smallest two-sided p that samples of these sizes can have at all.
pub fn smallest_p(here: usize, there: usize) -> f64 {
    // 2 / (N choose here), step by step to stay among small numbers.
    (0..here).fold(2.0, |p, step| p * count(step + 1) / count(there + step + 1)).min(1.0)
}

/// P(U = u) for every u, where no values are equal: the recurrence of Mann & Whitney, *Annals of Mathematical
/// Statistics* 18, 1947, which adds one value of the first sample after the other.
fn pairs_in_order(here: usize, there: usize) -> Vec<f64> {
    // ways[b][u] for as many of the first sample as were taken so far.
    let all = here * there;
    let mut ways = vec![vec![0.0_f64; all + 1]; there + 1];
    for row in &mut ways {
        row[0] = 1.0;
    }
    for _ in 0..here {
        for b in 1..=there {
            let (fewer, more) = ways.split_at_mut(b);
            // The largest value is of the first sample (b pairs more) or of the second.
            let old = std::mem::replace(&mut more[0], fewer[b - 1].clone());
            for (u, times) in old.iter().enumerate().take(all + 1 - b) {
                more[0][u + b] += times;
            }
        }
    }
    let row = ways.pop().unwrap_or_default();
    let sum: f64 = row.iter().sum();
    row.into_iter().map(|times| times / sum).collect()
}

fn approximate(ranks: &[usize], size: usize, ties: &[usize]) -> f64 {
    let (n, a) = (count(ranks.len()), count(size));
    let b = n - a;
    let sum = count(ranks[..size].iter().sum()) / 2.0;
    let expected = a * (n + 1.0) / 2.0;
    let tied: f64 = ties.iter().map(|size| count(*size)).map(|t| t * t * t - t).sum();
    let variance = a * b / 12.0 * (n + 1.0 - tied / (n * (n - 1.0)));
    if variance <= 0.0 {
        return 1.0;
    }
    let distance = ((sum - expected).abs() - 0.5).max(0.0);
    2.0 * upper_tail(distance / variance.sqrt())
}

/// Probability of a standard normal variable beyond `z` >= 0.
///
/// Abramowitz & Stegun, *Handbook of Mathematical Functions*, 1964, 26.2.17: the error is below 7.5e-8.
pub(super) fn upper_tail(z: f64) -> f64 {
    const B: [f64; 5] = [0.319_381_530, -0.356_563_782, 1.781_477_937, -1.821_255_978, 1.330_274_429];
    let t = 1.0 / (1.0 + 0.231_641_9 * z);
    let series = B.iter().rev().fold(0.0, |sum, factor| (sum + factor) * t);
    (-z * z / 2.0).exp() / (2.0 * std::f64::consts::PI).sqrt() * series
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn p(a: &[f64], b: &[f64]) -> f64 {
        rank_sum_p(a, b).expect("two samples")
    }

    #[test]
    fn an_empty_sample_has_no_probability() {
        assert_eq!(rank_sum_p(&[], &[1.0]), None);
        assert_eq!(rank_sum_p(&[1.0], &[]), None);
    }

    #[test]
    fn one_against_one_says_nothing() {
        assert_eq!(p(&[1.0], &[2.0]), 1.0);
    }

    #[test]
    fn exact_probabilities_agree_with_those_counted_by_hand() {
        // 3 against 3, apart: 2 of the 20 divisions are as extreme.
        assert!((p(&[1.0, 2.0, 3.0], &[4.0, 5.0, 6.0]) - 0.1).abs() < 1e-12);
        // 2 against 2, apart: 2 of 6.
        assert!((p(&[1.0, 2.0], &[3.0, 4.0]) - 2.0 / 6.0).abs() < 1e-12);
        // Midranks 1.5 1.5 3 4; the sum of {1, 1} is 3, expected 5: only {1,1} and {2,3} are 2 away, 2 of 6.
        assert!((p(&[1.0, 1.0], &[2.0, 3.0]) - 2.0 / 6.0).abs() < 1e-12);
    }

    #[test]
    fn equal_values_do_not_differ() {
        assert_eq!(p(&[2.0; 4], &[2.0; 5]), 1.0);
        assert_eq!(p(&[2.0; 40], &[2.0; 50]), 1.0);
    }

    #[test]
    fn the_approximation_joins_the_exact_count() {
        let a: Vec<f64> = (0..30_u32).map(|i| f64::from(i * 7 % 31)).collect();
        let b: Vec<f64> = (0..30_u32).map(|i| f64::from(i * 11 % 29) + 4.0).collect();
        let (ranks, ties) = doubled_midranks(&a, &b);
        let (counted, approximated) = (exact(&ranks, 30), approximate(&ranks, 30, &ties));
        assert!((counted - approximated).abs() < 0.005, "{counted} and {approximated}");
    }

    #[test]
    fn the_count_of_pairs_in_order_is_that_of_the_tables() {
        // 3 against 3: 1 1 2 3 3 3 3 2 1 1 of 20.
        let found: Vec<f64> = pairs_in_order(3, 3).iter().map(|p| (p * 20.0).round()).collect();
        assert_eq!(found, [1.0, 1.0, 2.0, 3.0, 3.0, 3.0, 3.0, 2.0, 1.0, 1.0]);
        // Critical values of U at 0.05, two-sided (Mann & Whitney 1947): U at most 2 for 5 and 5, 23 for 10 and 10.
        assert_eq!(rank_sum_cut(5, 5, 0.025), 3);
        assert_eq!(rank_sum_cut(10, 10, 0.025), 24);
        assert_eq!(rank_sum_cut(3, 3, 0.025), 0);
    }

    #[test]
    fn small_samples_cannot_have_a_small_p() {
        assert!((smallest_p(3, 3) - 0.1).abs() < 1e-12);
        assert!((smallest_p(6, 6) - 2.0 / 924.0).abs() < 1e-12);
        assert_eq!(smallest_p(1, 1), 1.0);
        assert!(smallest_p(500, 500) < 1e-100);
    }

    #[test]
    fn the_tail_of_the_normal_distribution_is_that_of_the_tables() {
        assert!((upper_tail(1.959_964) - 0.025).abs() < 1e-6);
        assert!((upper_tail(0.0) - 0.5).abs() < 1e-7);
    }

    proptest! {
        #[test]
        fn a_probability_is_one_whichever_side_comes_first(
            a in proptest::collection::vec(0..9_u8, 1..50), b in proptest::collection::vec(0..9_u8, 1..50),
        ) {
            let (a, b): (Vec<f64>, Vec<f64>) =
                (a.into_iter().map(f64::from).collect(), b.into_iter().map(f64::from).collect());
            prop_assert!((0.0..=1.0).contains(&p(&a, &b)));
            prop_assert!((p(&a, &b) - p(&b, &a)).abs() < 1e-9);
        }
    }
}
