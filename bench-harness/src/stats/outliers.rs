//! Values far from the rest: labelled, never dropped.

use super::describe::{quantile_of_sorted, sorted};

/// How far out a value lies, by the fences of Tukey, *Exploratory Data Analysis*, 1977, chapter 2: 1.5 and 3 times the
/// distance between the quartiles, beyond the nearer quartile.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Label {
    /// Beyond the outer fence below.
    FarLow,
    /// Between the fences below.
    Low,
    /// Within the inner fences.
    Inside,
    /// Between the fences above.
    High,
    /// Beyond the outer fence above.
    FarHigh,
}

/// Fewest values from which quartiles say anything about a tail.
pub const MIN_FOR_LABELS: usize = 4;

/// A label for each value, in the order given; all inside where there are too few.
pub fn labels(values: &[f64]) -> Vec<Label> {
    let order = sorted(values);
    let quartiles = (order.len() >= MIN_FOR_LABELS)
        .then(|| Some((quantile_of_sorted(&order, 0.25)?, quantile_of_sorted(&order, 0.75)?)))
        .flatten();
    let Some((low, high)) = quartiles else { return vec![Label::Inside; values.len()] };
    let range = high - low;
    let label = |value: f64| match value {
        v if v < low - 3.0 * range => Label::FarLow,
        v if v < low - 1.5 * range => Label::Low,
        v if v > high + 3.0 * range => Label::FarHigh,
        v if v > high + 1.5 * range => Label::High,
        _ => Label::Inside,
    };
    values.iter().map(|value| label(*value)).collect()
}

/// How many values lie beyond the inner fences, and how many of those beyond the outer ones.
pub fn count_outside(values: &[f64]) -> (usize, usize) {
    let labels = labels(values);
    let outside = labels.iter().filter(|label| **label != Label::Inside).count();
    let far = labels.iter().filter(|label| matches!(label, Label::FarLow | Label::FarHigh)).count();
    (outside, far)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn too_few_values_have_no_outliers() {
        assert_eq!(labels(&[]), []);
        assert_eq!(labels(&[1.0, 2.0, 1e9]), [Label::Inside; 3]);
    }

    #[test]
    fn the_fences_are_those_made_by_hand() {
        // Quartiles 2 and 4: inner fences -1 and 7, outer -4 and 10.
        let mut values = vec![1.0, 2.0, 3.0, 4.0, 5.0];
        assert_eq!(labels(&values), [Label::Inside; 5]);
        values = vec![2.0, 2.0, 3.0, 4.0, 4.0, 3.0, 3.0, 2.0, 4.0];
        values.extend([7.5, 10.5, -1.5, -4.5]);
        assert_eq!(
            labels(&values)[9..],
            [Label::High, Label::FarHigh, Label::Low, Label::FarLow],
            "quartiles stay 2 and 4"
        );
        assert_eq!(count_outside(&values), (4, 2));
    }

    #[test]
    fn with_no_spread_every_other_value_is_far_out() {
        let values = [1.0, 1.0, 1.0, 1.0, 1.0, 2.0];
        assert_eq!(labels(&values)[5], Label::FarHigh);
        assert_eq!(labels(&[1.0; 6]), [Label::Inside; 6]);
    }
}
