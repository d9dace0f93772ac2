//! How often something happens, from how often it did.

use super::bootstrap::Interval;
use super::{CONFIDENCE, order};

/// The interval for a probability after `hits` of `tries`: exact, by the binomial distribution itself (Clopper & Pearson,
/// *Biometrika* 26, 1934). `None` where nothing was tried.
pub fn clopper_pearson(hits: usize, tries: usize) -> Option<Interval> {
    if tries == 0 || hits > tries {
        return None;
    }
    let miss = (1.0 - CONFIDENCE) / 2.0;
    let at_least = |p: f64| order::binomial(tries, p)[hits..].iter().sum::<f64>();
    let at_most = |p: f64| order::binomial(tries, p)[..=hits].iter().sum::<f64>();
    // At the lower end so many hits or more are just as unlikely as is missed on that side, at the upper end so few.
    let low = if hits == 0 { 0.0 } else { halve(|p| at_least(p) < miss) };
    let high = if hits == tries { 1.0 } else { halve(|p| at_most(p) >= miss) };
    Some(Interval { low, high })
}

/// The probability up to which `below` holds.
fn halve(below: impl Fn(f64) -> bool) -> f64 {
    let (mut low, mut high) = (0.0, 1.0);
    // Far below what is shown.
    for _ in 0..40 {
        let middle = (low + high) / 2.0;
        if below(middle) { low = middle } else { high = middle }
    }
    (low + high) / 2.0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_interval_is_that_of_the_published_tables() {
        let close = |hits, tries, low: f64, high: f64| {
            let found = clopper_pearson(hits, tries).expect("something was tried");
            assert!((found.low - low).abs() < 5e-4 && (found.high - high).abs() < 5e-4, "{found:?}");
        };
        close(0, 20, 0.0, 0.1684);
        close(1, 20, 0.0013, 0.2487);
        close(20, 20, 0.8316, 1.0);
        close(10, 200, 0.0242, 0.0900);
    }

    #[test]
    fn nothing_tried_says_nothing() {
        assert_eq!(clopper_pearson(0, 0), None);
        assert_eq!(clopper_pearson(2, 1), None);
    }
}
