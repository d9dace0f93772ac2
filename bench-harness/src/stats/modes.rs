//! Whether launches come in two kinds: then a median may lie where there is no launch at all.
//!
//! The dip test (Hartigan & Hartigan, "The dip test of unimodality", *Annals of Statistics* 13, 1985): how far is the
//! distribution from the nearest one with a single mode? Judged against uniform samples, as they propose. Unlike measures
//! made of moments it is not misled by long tails, which start-up times have.

use super::count;
use super::describe::{median, quantile_of_sorted, sorted};

/// Fewest launches from which two kinds are told apart.
pub const MIN_FOR_MODES: usize = 40;

/// The dip times the square root of n that one in a hundred uniform samples exceeds, from [`MIN_FOR_MODES`] values on.
/// Found by simulation, which a test repeats; the table of Hartigan & Hartigan agrees. It hardly depends on n from there on.
pub const DIP_LIMIT: f64 = 0.62;

/// Two kinds of launches.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Modes {
    /// Median of the lower kind.
    pub low: f64,
    /// Median of the upper kind.
    pub high: f64,
    /// Part of the launches that are of the upper kind.
    pub share_high: f64,
}

/// The two kinds that values fall into; `None` where the dip test sees one, or the values are too few.
pub fn modes(values: &[f64]) -> Option<Modes> {
    let order = sorted(values);
    if order.len() < MIN_FOR_MODES || dip(&order) * count(order.len()).sqrt() <= DIP_LIMIT {
        return None;
    }
    let at = split(&order)?;
    let (low, high) = order.split_at(at);
    Some(Modes { low: median(low)?, high: median(high)?, share_high: count(high.len()) / count(order.len()) })
}

/// Where to part values into two groups that are each as close as can be (Fisher, "On grouping for maximum homogeneity",
/// *JASA* 53, 1958). What lies beyond Tukey's outer fences counts as being there: a single slow launch is no kind.
fn split(order: &[f64]) -> Option<usize> {
    let (lower, upper) = (quantile_of_sorted(order, 0.25)?, quantile_of_sorted(order, 0.75)?);
    let fence = 3.0 * (upper - lower);
    let values: Vec<f64> = order.iter().map(|value| value.clamp(lower - fence, upper + fence)).collect();
    let all: f64 = values.iter().sum();
    let mut below = 0.0;
    let mut best = None;
    for at in 1..values.len() {
        below += values[at - 1];
        let (here, there) = (count(at), count(values.len() - at));
        // The sum of squares between the groups.
        let between = here * there * (below / here - (all - below) / there).powi(2);
        if best.is_none_or(|(most, _)| between > most) {
            best = Some((between, at));
        }
    }
    best.map(|(_, at)| at)
}

/// The dip of values in ascending order: between 1/(2n) and 1/4.
///
/// Hartigan, "Algorithm AS 217", *Applied Statistics* 34, 1985: narrows an interval around the mode until the greatest convex
/// minorant at its left and the least concave majorant at its right are further from the distribution than from each other
/// within it.
pub fn dip(order: &[f64]) -> f64 {
    let n = count(order.len());
    let groups: Vec<(f64, f64)> =
        order.chunk_by(|left, right| left == right).map(|group| (group[0], count(group.len()) / n)).collect();
    let mut height = 0.0;
    let steps: Vec<Step> = groups
        .iter()
        .map(|&(at, size)| {
            let below = height;
            height += size;
            Step { at, below, above: height }
        })
        .collect();
    let (mut first, mut last) = match steps.len() {
        0 => return 0.0,
        // A single value: a mode of its own.
        1 => return 1.0 / (2.0 * n),
        length => (0, length - 1),
    };
    // Largest distance from the distribution, left of `first` and right of `last`.
    let mut most: f64 = 1.0 / n;
    loop {
        let part = &steps[first..=last];
        let (minorant, left_touch) = hull(part, |step| step.below, 1.0);
        let (majorant, right_touch) = hull(part, |step| step.above, -1.0);
        let gap = |at: usize| majorant[at] - minorant[at];
        let widest = |touch: &[usize]| touch.iter().map(|&at| gap(at)).fold(0.0, f64::max);
        let (left, right) = (widest(&left_touch), widest(&right_touch));
        let (low, high) = if right > left {
            let high = right_touch.iter().copied().rfind(|&at| gap(at) == right).unwrap_or(0);
            (left_touch.iter().copied().rfind(|&at| at <= high).unwrap_or(0), high)
        } else {
            let low = left_touch.iter().copied().find(|&at| gap(at) == left).unwrap_or(0);
            (low, right_touch.iter().copied().find(|&at| at >= low).unwrap_or(part.len() - 1))
        };
        if left.max(right) <= most {
            return most / 2.0;
        }
        // The edges themselves belong to the mode, which may have a step.
        let at_left = (0..low).map(|at| part[at].above - minorant[at]).fold(0.0, f64::max);
        let at_right = (high + 1..part.len()).map(|at| majorant[at] - part[at].below).fold(0.0, f64::max);
        most = most.max(at_left).max(at_right);
        if low == 0 && high == part.len() - 1 || low >= high {
            return most / 2.0;
        }
        (first, last) = (first + low, first + high);
    }
}

/// One step of the distribution.
struct Step {
    at: f64,
    below: f64,
    above: f64,
}

/// The greatest convex minorant (`side` 1) or least concave majorant (-1) at each step, and where it touches.
fn hull(steps: &[Step], height: impl Fn(&Step) -> f64, side: f64) -> (Vec<f64>, Vec<usize>) {
    let mut touch: Vec<usize> = Vec::new();
    let slope = |from: usize, to: usize| {
        (height(&steps[to]) - height(&steps[from])) / (steps[to].at - steps[from].at) * side
    };
    for at in 0..steps.len() {
        while let [.., before, last] = touch[..] {
            if slope(before, last) < slope(last, at) {
                break;
            }
            touch.pop();
        }
        touch.push(at);
    }
    let mut heights = vec![0.0; steps.len()];
    for pair in touch.windows(2) {
        let (from, to) = (&steps[pair[0]], &steps[pair[1]]);
        for at in pair[0]..=pair[1] {
            let weight = (steps[at].at - from.at) / (to.at - from.at);
            heights[at] = height(from) * (1.0 - weight) + height(to) * weight;
        }
    }
    if let [only] = touch[..] {
        heights[only] = height(&steps[only]);
    }
    (heights, touch)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use rand_chacha::ChaCha8Rng;
    use rand_chacha::rand_core::{RngCore as _, SeedableRng};

    use super::*;

    fn uniform(random: &mut ChaCha8Rng) -> f64 {
        f64::from(random.next_u32()) / f64::from(u32::MAX)
    }

    #[test]
    fn the_dip_of_an_even_grid_is_the_least_and_that_of_two_points_the_most() {
        let grid: Vec<f64> = (0..50_u32).map(f64::from).collect();
        assert!((dip(&grid) - 0.01).abs() < 1e-9, "{}", dip(&grid));
        let two = [vec![0.0; 50], vec![1.0; 50]].concat();
        assert!((dip(&two) - 0.25).abs() < 1e-9, "{}", dip(&two));
        assert_eq!(dip(&[]), 0.0);
        assert_eq!(dip(&[3.0; 10]), 0.05);
    }

    #[test]
    fn one_in_a_hundred_uniform_samples_exceeds_the_limit() {
        let mut random = ChaCha8Rng::seed_from_u64(3);
        for n in [MIN_FOR_MODES, 200, 1_000] {
            let dips: Vec<f64> = (0..1_000)
                .map(|_| {
                    dip(&sorted(&(0..n).map(|_| uniform(&mut random)).collect::<Vec<_>>())) * count(n).sqrt()
                })
                .collect();
            let order = sorted(&dips);
            eprintln!("n {n}: 90 % {:.3}, 95 % {:.3}, 99 % {:.3}", order[899], order[949], order[989]);
            let beyond = dips.iter().filter(|dip| **dip > DIP_LIMIT).count();
            // Ten are expected; 22 or more come once in a thousand times.
            assert!(beyond <= 22, "{beyond} of 1000 at n = {n}");
        }
    }

    #[test]
    fn two_ways_of_starting_are_seen_and_described() {
        let mut random = ChaCha8Rng::seed_from_u64(4);
        let values: Vec<f64> =
            (0..120).map(|i| if i % 3 == 0 { 600.0 } else { 450.0 } + 40.0 * uniform(&mut random)).collect();
        let found = modes(&values).expect("two kinds");
        assert!((found.low - 470.0).abs() < 10.0 && (found.high - 620.0).abs() < 10.0, "{found:?}");
        assert!((found.share_high - 1.0 / 3.0).abs() < 1e-9, "{found:?}");
    }

    #[test]
    fn a_long_tail_is_not_a_second_kind() {
        let mut random = ChaCha8Rng::seed_from_u64(5);
        let mut seen = 0;
        for _ in 0..100 {
            let values: Vec<f64> = (0..100).map(|_| 1.0 - uniform(&mut random).max(1e-9).ln()).collect();
            seen += u32::from(modes(&values).is_some());
        }
        assert!(seen <= 3, "{seen} of 100");
    }

    #[test]
    fn few_values_have_no_kinds() {
        assert_eq!(modes(&[]), None);
        assert_eq!(modes(&[vec![1.0; 10], vec![2.0; 10]].concat()), None);
    }

    proptest! {
        #[test]
        fn the_dip_lies_between_its_least_and_its_most(values in proptest::collection::vec(0..30_u8, 1..80)) {
            let order = sorted(&values.into_iter().map(f64::from).collect::<Vec<_>>());
            let found = dip(&order);
            prop_assert!(found >= 0.5 / count(order.len()) - 1e-12 && found <= 0.25 + 1e-12 || order.len() == 1, "{found}");
        }
    }
}
