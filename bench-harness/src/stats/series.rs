//! Whether launches that follow each other are independent: drift over the run, and likeness of neighbours.

use super::describe::median;
use super::{compare, count};

/// Fewest launches from which anything is said about their order.
pub const MIN_FOR_SERIES: usize = 20;

/// Probability below which an order is called remarkable. Smaller than that of a verdict: many series are looked at.
pub const REMARKABLE: f64 = 0.01;

/// A trend over the launches of a run.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Drift {
    /// Median of the last third over that of the first, less one.
    pub change: f64,
    /// Probability of a trend as clear as this one, were there none.
    pub p: f64,
}

/// The trend of values in the order of their launches, by the rank test of Mann ("Nonparametric tests against trend",
/// *Econometrica* 13, 1945) and Kendall (*Rank Correlation Methods*, 4th ed., 1975), with the correction for ties.
///
/// `None` for fewer than [`MIN_FOR_SERIES`] values, and where the first third has no size to compare with.
pub fn drift(values: &[f64]) -> Option<Drift> {
    let n = values.len();
    if n < MIN_FOR_SERIES {
        return None;
    }
    let (first, last) = (median(&values[..n / 3])?, median(&values[n - n / 3..])?);
    let change = super::bootstrap::ratio(last, first)? - 1.0;
    let order = |(left, right): (&f64, &f64)| match right.total_cmp(left) {
        std::cmp::Ordering::Less => -1.0,
        std::cmp::Ordering::Equal => 0.0,
        std::cmp::Ordering::Greater => 1.0,
    };
    let pairs = values
        .iter()
        .enumerate()
        .flat_map(|(at, left)| values[at + 1..].iter().map(move |right| (left, right)));
    let sum: f64 = pairs.map(order).sum();
    let term = |t: f64| t * (t - 1.0) * (2.0 * t + 5.0) / 18.0;
    let tied: f64 = tie_sizes(values).into_iter().map(|size| term(count(size))).sum();
    let variance = term(count(n)) - tied;
    let p = if variance > 0.0 {
        // One less for continuity.
        (2.0 * compare::upper_tail((sum.abs() - 1.0).max(0.0) / variance.sqrt())).min(1.0)
    } else {
        1.0
    };
    Some(Drift { change, p })
}

fn tie_sizes(values: &[f64]) -> Vec<usize> {
    super::describe::sorted(values).chunk_by(|left, right| left == right).map(<[f64]>::len).collect()
}

/// How much a launch is like the one before it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Likeness {
    /// Correlation of the ranks of neighbours, -1 to 1.
    pub correlation: f64,
    /// How many independent launches tell as much (Bayley & Hammersley, *Supplement to the JRSS* 8, 1946).
    pub worth: f64,
    /// Probability of a likeness as strong as this one, were there none.
    pub p: f64,
}

/// The serial correlation of the ranks (Wald & Wolfowitz, *Annals of Mathematical Statistics* 14, 1943), judged by
/// its normal approximation for independent launches: mean -1/n, variance 1/n (Box & Jenkins, *Time Series Analysis*, 1970,
/// section 2.1.6, after Bartlett). Ranks, so that one slow launch does not decide.
///
/// `None` for fewer than [`MIN_FOR_SERIES`] values, and where all are equal.
pub fn likeness(values: &[f64]) -> Option<Likeness> {
    let n = count(values.len());
    if values.len() < MIN_FOR_SERIES {
        return None;
    }
    let ranks = compare::midranks(values);
    let middle = (n + 1.0) / 2.0;
    let spread: f64 = ranks.iter().map(|rank| (rank - middle).powi(2)).sum();
    if spread <= 0.0 {
        return None;
    }
    let together: f64 = ranks.windows(2).map(|pair| (pair[0] - middle) * (pair[1] - middle)).sum();
    let correlation = together / spread;
    let p = (2.0 * compare::upper_tail((correlation + 1.0 / n).abs() * n.sqrt())).min(1.0);
    // Negative correlation makes means better than independent launches; no credit is taken for that.
    let positive = correlation.clamp(0.0, 0.99);
    Some(Likeness { correlation, worth: n * (1.0 - positive) / (1.0 + positive), p })
}

#[cfg(test)]
mod tests {
    use rand_chacha::ChaCha8Rng;
    use rand_chacha::rand_core::{RngCore, SeedableRng};

    use super::*;

    fn noise(random: &mut ChaCha8Rng) -> f64 {
        f64::from(random.next_u32()) / f64::from(u32::MAX)
    }

    #[test]
    fn few_launches_and_equal_ones_have_no_order() {
        assert_eq!(drift(&[1.0; 19]), None);
        assert_eq!(likeness(&[1.0; 19]), None);
        assert_eq!(drift(&[0.0; 30]), None, "no size to compare with");
        assert_eq!(drift(&[1.0; 30]), Some(Drift { change: 0.0, p: 1.0 }));
        assert_eq!(likeness(&[1.0; 30]), None);
    }

    #[test]
    fn a_rising_series_drifts_by_as_much_as_it_rises() {
        let values: Vec<f64> = (0..30_u32).map(|i| 100.0 + f64::from(i)).collect();
        let found = drift(&values).expect("enough");
        // The middle of 120..=129 over that of 100..=109.
        assert!((found.change - (124.5 / 104.5 - 1.0)).abs() < 1e-12 && found.p < 1e-9, "{found:?}");
    }

    #[test]
    fn the_trend_test_agrees_with_the_one_by_hand() {
        // 20 values, the last two exchanged with the first two: S = 190 - 2 * (discordant pairs).
        let mut values: Vec<f64> = (1..=20_u32).map(f64::from).collect();
        values.reverse();
        let found = drift(&values).expect("enough");
        // S = -190, variance 20 * 19 * 45 / 18 = 950, z = 189 / 30.82 = 6.13.
        assert!(
            (found.p / (2.0 * compare::upper_tail(189.0 / 950.0_f64.sqrt())) - 1.0).abs() < 1e-9,
            "{found:?}"
        );
    }

    #[test]
    fn blocks_of_like_launches_are_worth_fewer() {
        let mut random = ChaCha8Rng::seed_from_u64(1);
        let values: Vec<f64> = (0..10)
            .flat_map(|_| std::iter::repeat_n(noise(&mut random), 10))
            .map(|level| level + 1.0)
            .collect();
        let found = likeness(&values).expect("enough");
        assert!(found.correlation > 0.8 && found.worth < 15.0 && found.p < 1e-9, "{found:?}");
    }

    #[test]
    fn independent_launches_are_remarkable_about_as_seldom_as_promised() {
        let mut random = ChaCha8Rng::seed_from_u64(2);
        let (mut drifting, mut alike) = (0, 0);
        for _ in 0..1_000 {
            let values: Vec<f64> = (0..60).map(|_| 1.0 + noise(&mut random).powi(3)).collect();
            drifting += u32::from(drift(&values).is_some_and(|found| found.p < REMARKABLE));
            alike += u32::from(likeness(&values).is_some_and(|found| found.p < REMARKABLE));
        }
        // Ten each are expected; 22 or more come once in a thousand times.
        assert!(drifting <= 22 && alike <= 22, "{drifting} and {alike}");
    }
}
