//! One sample, described.

use super::count;

/// A copy in ascending order.
pub fn sorted(values: &[f64]) -> Vec<f64> {
    let mut values = values.to_vec();
    values.sort_by(f64::total_cmp);
    values
}

/// The middle value, or the mean of the two in the middle.
pub fn median(values: &[f64]) -> Option<f64> {
    quantile(values, 0.5)
}

/// The quantile of `part` (0 to 1), linear between observations.
///
/// Definition 7 of Hyndman & Fan, "Sample Quantiles in Statistical Packages", *The American Statistician* 50(4), 1996:
/// the default of R and NumPy.
pub fn quantile(values: &[f64], part: f64) -> Option<f64> {
    quantile_of_sorted(&sorted(values), part)
}

/// The same, of values that are in ascending order already.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "between 0 and the length less one, by the clamp"
)]
pub fn quantile_of_sorted(sorted: &[f64], part: f64) -> Option<f64> {
    let last = sorted.len().checked_sub(1)?;
    let place = count(last) * part.clamp(0.0, 1.0);
    let below = place.floor() as usize;
    let above = (below + 1).min(last);
    let weight = place - place.floor();
    Some(between(sorted[below], sorted[above], weight))
}

/// The point `weight` of the way from `low` to `high`, and never beyond either.
fn between(low: f64, high: f64, weight: f64) -> f64 {
    if low == high { low } else { (low * (1.0 - weight) + high * weight).clamp(low, high) }
}

/// A quantile in the tail, only where at least one observation is expected beyond it.
///
/// With fewer, the figure would be the largest observation under another name: `None` below 20 observations for 0.95
/// and below 100 for 0.99.
pub fn tail_quantile(values: &[f64], part: f64) -> Option<f64> {
    // 20 * (1 - 0.95) is a little more or less than 1 in binary.
    (count(values.len()) * (1.0 - part) > 1.0 - 1e-9).then(|| quantile(values, part)).flatten()
}

/// The arithmetic mean.
pub fn mean(values: &[f64]) -> Option<f64> {
    // From the first value on, and divided first: equal values give themselves, and large ones do not overflow.
    let first = values.first()?;
    Some(first + values.iter().map(|value| (value - first) / count(values.len())).sum::<f64>())
}

/// The standard deviation with n - 1; `None` for fewer than two values.
pub fn stddev(values: &[f64]) -> Option<f64> {
    let mean = mean(values)?;
    let freedom = count(values.len().checked_sub(1)?);
    let spread = values.iter().map(|value| (value - mean).abs()).fold(0.0, f64::max);
    if freedom == 0.0 {
        None
    } else if spread == 0.0 {
        Some(0.0)
    } else {
        // Scaled by the largest deviation, since squares overflow long before the values do.
        let squares: f64 = values.iter().map(|value| ((value - mean) / spread).powi(2)).sum();
        Some(spread * (squares / freedom).sqrt())
    }
}

/// The median absolute deviation from the median, unscaled (Hampel, *JASA* 69, 1974).
pub fn mad(values: &[f64]) -> Option<f64> {
    let centre = median(values)?;
    median(&values.iter().map(|value| (value - centre).abs()).collect::<Vec<_>>())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn close(found: Option<f64>, expected: f64) {
        let found = found.expect("enough values");
        assert!((found - expected).abs() < 1e-12 * expected.abs().max(1.0), "{found} is not {expected}");
    }

    #[test]
    fn nothing_has_no_figures() {
        for figure in [median, mean, stddev, mad] {
            assert_eq!(figure(&[]), None);
        }
    }

    #[test]
    fn one_value_is_its_own_median_and_has_no_deviation() {
        assert_eq!(median(&[3.0]), Some(3.0));
        assert_eq!(mean(&[3.0]), Some(3.0));
        assert_eq!(mad(&[3.0]), Some(0.0));
        assert_eq!(quantile(&[3.0], 0.95), Some(3.0));
        assert_eq!(stddev(&[3.0]), None);
    }

    #[test]
    fn two_values_meet_in_the_middle() {
        assert_eq!(median(&[5.0, 1.0]), Some(3.0));
        assert_eq!(mad(&[5.0, 1.0]), Some(2.0));
        close(stddev(&[5.0, 1.0]), 8.0_f64.sqrt());
    }

    #[test]
    fn figures_agree_with_those_made_by_hand() {
        // Mean 5, squared deviations 9+1+1+1+0+0+4+16 = 32, over 7.
        let values = [2.0, 4.0, 4.0, 4.0, 5.0, 5.0, 7.0, 9.0];
        close(mean(&values), 5.0);
        close(stddev(&values), (32.0_f64 / 7.0).sqrt());
        close(median(&values), 4.5);
        // Deviations from 4.5: .5 .5 .5 .5 .5 2.5 2.5 4.5
        close(mad(&values), 0.5);
        // Place 7 * 0.95 = 6.65 between 7 and 9.
        close(quantile(&values, 0.95), 8.3);
        close(quantile(&values, 0.25), 4.0);
        close(quantile(&[10.0, 20.0, 30.0, 40.0], 0.4), 22.0);
    }

    #[test]
    fn equal_values_have_no_spread() {
        let values = [0.1; 7];
        assert_eq!(stddev(&values), Some(0.0));
        assert_eq!(mad(&values), Some(0.0));
        assert_eq!(quantile(&values, 0.99), Some(0.1));
    }

    #[test]
    fn a_tail_is_told_only_where_something_lies_beyond_it() {
        assert_eq!(tail_quantile(&[1.0; 19], 0.95), None);
        assert_eq!(tail_quantile(&[1.0; 20], 0.95), Some(1.0));
        assert_eq!(tail_quantile(&[1.0; 99], 0.99), None);
        assert_eq!(tail_quantile(&[1.0; 100], 0.99), Some(1.0));
    }

    proptest! {
        #[test]
        fn quantiles_rise_and_stay_among_the_values(
            values in proptest::collection::vec(0.0..1e300, 1..40), a in 0.0..1.0, b in 0.0..1.0,
        ) {
            let order = sorted(&values);
            let (low, high) = (quantile(&values, f64::min(a, b)), quantile(&values, f64::max(a, b)));
            prop_assert!(order.first() <= low.as_ref() && low <= high && high.as_ref() <= order.last());
        }

        #[test]
        fn figures_are_finite_for_any_finite_values(values in proptest::collection::vec(0.0..f64::MAX, 2..40)) {
            for figure in [median, mean, stddev, mad] {
                prop_assert!(figure(&values).is_some_and(f64::is_finite));
            }
        }
    }
}
