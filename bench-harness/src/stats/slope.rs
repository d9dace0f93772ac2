//! A robust slope over several curves, as of the host's memory over the number of running instances.
//!
//! Theil's estimate, the median of the slopes of all pairs of points, with Sen's interval (Sen, *JASA* 63, 1968), over
//! pairs of the same curve only: each curve begins where the host happens to be (Hirsch, Slack & Smith, *Water Resources
//! Research* 18, 1982; interval after Gilbert, *Statistical Methods for Environmental Pollution Monitoring*, 1987,
//! sections 16.4 and 17.3).

use super::bootstrap::Interval;
use super::count;
use super::describe::{quantile_of_sorted, sorted};

/// One point: where, and what was seen there.
pub type Point = (f64, f64);

/// A slope, and its interval where there are enough points.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Slope {
    /// Growth of the second coordinate over one unit of the first.
    pub slope: f64,
    /// Interval at [`super::CONFIDENCE`].
    pub interval: Option<Interval>,
}

/// Two-sided 95 % point of the normal distribution.
const Z: f64 = 1.959_964;
/// Fewest points of all curves from which the normal approximation of the interval is used (Gilbert, section 16.4.2).
const MIN_POINTS: usize = 10;

/// The slope common to all curves; `None` where no curve has two points apart.
pub fn theil_sen(curves: &[Vec<Point>]) -> Option<Slope> {
    let slopes = sorted(&curves.iter().flat_map(|curve| pair_slopes(curve)).collect::<Vec<_>>());
    let slope = quantile_of_sorted(&slopes, 0.5)?;
    let points: usize = curves.iter().map(Vec::len).sum();
    let interval = (points >= MIN_POINTS).then(|| interval(&slopes, curves)).flatten();
    Some(Slope { slope, interval })
}

fn pair_slopes(curve: &[Point]) -> impl Iterator<Item = f64> {
    let pairs = curve
        .iter()
        .enumerate()
        .flat_map(|(place, from)| curve[place + 1..].iter().map(move |to| (from, to)));
    pairs.filter(|(from, to)| from.0 != to.0).map(|(from, to)| (to.1 - from.1) / (to.0 - from.0))
}

/// The slopes at whose ranks Kendall's sum over the curves would be at the ends of its own interval.
fn interval(slopes: &[f64], curves: &[Vec<Point>]) -> Option<Interval> {
    // Var S = n (n - 1) (2 n + 5) / 18 for each curve; the curves are independent.
    let variance: f64 =
        curves.iter().map(|curve| count(curve.len())).map(|n| n * (n - 1.0) * (2.0 * n + 5.0) / 18.0).sum();
    let all = count(slopes.len());
    let width = Z * variance.sqrt();
    let last = all - 1.0;
    if last <= 0.0 || width >= all {
        return None;
    }
    // Ranks (all - width) / 2 and (all + width) / 2 + 1, counted from 1, as parts of the way from first to last.
    let (low, high) = ((all - width) / 2.0 - 1.0, (all + width) / 2.0);
    Some(Interval {
        low: quantile_of_sorted(slopes, low / last)?,
        high: quantile_of_sorted(slopes, high / last)?,
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn line(slope: f64, start: f64, points: u32) -> Vec<Point> {
        (0..points).map(f64::from).map(|x| (x, start + slope * x)).collect()
    }

    #[test]
    fn no_two_points_apart_have_no_slope() {
        assert_eq!(theil_sen(&[]), None);
        assert_eq!(theil_sen(&[vec![], vec![(1.0, 1.0)]]), None);
        assert_eq!(theil_sen(&[vec![(1.0, 1.0), (1.0, 2.0)]]), None);
    }

    #[test]
    fn two_points_have_a_slope_without_an_interval() {
        assert_eq!(theil_sen(&[line(3.0, 1.0, 2)]), Some(Slope { slope: 3.0, interval: None }));
    }

    #[test]
    fn curves_that_begin_apart_share_their_slope() {
        let found = theil_sen(&[line(2.0, 0.0, 6), line(2.0, 1e6, 6)]).expect("many points");
        assert_eq!(found, Slope { slope: 2.0, interval: Some(Interval { low: 2.0, high: 2.0 }) });
    }

    #[test]
    fn the_slope_agrees_with_the_one_made_by_hand() {
        // Pairs: 1/1, 3/2, 2/1 -> 1, 1.5, 2.
        assert_eq!(
            theil_sen(&[vec![(0.0, 0.0), (1.0, 1.0), (2.0, 3.0)]]).map(|found| found.slope),
            Some(1.5)
        );
    }

    #[test]
    fn the_interval_agrees_with_the_one_of_gilbert_by_hand() {
        // 10 points: 45 pairs, Var S = 10 * 9 * 25 / 18 = 125, width 21.91; ranks 11.5 and 34.5 counted from 1.
        let curve: Vec<Point> = line(1.0, 0.0, 10).into_iter().map(|(x, y)| (x, y * y)).collect();
        let slopes = sorted(&pair_slopes(&curve).collect::<Vec<_>>());
        let found = theil_sen(&[curve]).and_then(|found| found.interval).expect("ten points");
        assert!(slopes[10] <= found.low && found.low <= slopes[11], "{found:?}");
        assert!(slopes[33] <= found.high && found.high <= slopes[34], "{found:?}");
    }

    #[test]
    fn a_wild_point_moves_the_slope_little() {
        let mut curve = line(5.0, 100.0, 12);
        curve[4].1 = 1e9;
        assert_eq!(theil_sen(&[curve]).map(|found| found.slope), Some(5.0));
    }

    proptest! {
        #[test]
        fn the_interval_holds_the_slope(values in proptest::collection::vec(0.0..1e6, 0..30)) {
            let curve: Vec<Point> = values.iter().enumerate().map(|(x, y)| (count(x), *y)).collect();
            if let Some(Slope { slope, interval: Some(interval) }) = theil_sen(&[curve]) {
                prop_assert!(interval.holds(slope));
            }
        }
    }
}
