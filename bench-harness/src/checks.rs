//! What of the launches themselves speaks against reading their figures as those of independent, like launches.
//!
//! Computed from the samples, like the summary; a report says it, and what to do. Only times are looked at: amounts of
//! memory move in steps of pages, which look like kinds without being any.

use std::collections::BTreeSet;

use crate::record::{HARNESS, LADDER, Sample, metric};
use crate::stats::{modes, series};
use crate::summary::{SAME_WITHIN, launches_by_target};
use crate::units::{Kind, format_percent, format_value, kind_of};
use crate::warning::Warning;

/// A likeness of neighbours from which intervals are clearly too narrow: 15 independent launches tell as much as 30.
const MUCH_ALIKE: f64 = 1.0 / 3.0;

/// Drift, kinds and likeness of the launches of each experiment's main metric: one warning for each, naming the cells.
pub fn of(samples: &[Sample]) -> Vec<Warning> {
    let (mut drifting, mut parted, mut alike) = (Vec::new(), Vec::new(), Vec::new());
    for (experiment, workload, unit) in topics(samples) {
        for (target, launches) in
            launches_by_target(samples, experiment, workload, metric::main_of(experiment))
        {
            let cell = format!("{experiment}/{workload} in {target}");
            // A drift that is too small to matter is no warning, however sure it is. Nor are kinds.
            if let Some(found) = series::drift(&launches)
                && found.p < series::REMARKABLE
                && found.change.abs() > SAME_WITHIN
            {
                let sign = if found.change > 0.0 { "+" } else { "-" };
                drifting.push(format!("{cell} ({sign}{})", format_percent(found.change.abs())));
            }
            if let Some(found) = series::likeness(&launches)
                && found.p < series::REMARKABLE
                && found.correlation > MUCH_ALIKE
            {
                alike.push(format!(
                    "{cell} ({} launches tell as much as {:.0})",
                    launches.len(),
                    found.worth
                ));
            }
            if let Some(found) = modes::modes(&launches)
                && found.high > found.low * (1.0 + SAME_WITHIN)
            {
                parted.push(format!(
                    "{cell} ({} around {}, the others around {})",
                    format_percent(found.share_high),
                    format_value(found.high, unit),
                    format_value(found.low, unit)
                ));
            }
        }
    }
    let warning =
        |cells: Vec<String>, make: fn(Vec<String>) -> Warning| (!cells.is_empty()).then(|| make(cells));
    [
        warning(drifting, |cells| Warning::Drift { cells }),
        warning(parted, |cells| Warning::TwoKinds { cells }),
        warning(alike, |cells| Warning::Alike { cells }),
    ]
    .into_iter()
    .flatten()
    .collect()
}

/// Experiment, workload and unit of what is looked at.
fn topics(samples: &[Sample]) -> BTreeSet<(&str, &str, &str)> {
    samples
        .iter()
        // The layers of a ladder are compared block by block, which none of this disturbs.
        .filter(|sample| sample.experiment != LADDER)
        .filter(|sample| sample.experiment != HARNESS && sample.metric == metric::main_of(&sample.experiment))
        .filter(|sample| sample.status.has_value() && kind_of(&sample.unit) == Kind::Time)
        .map(|sample| (sample.experiment.as_str(), sample.workload.as_str(), sample.unit.as_str()))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn launches(values: impl Iterator<Item = f64>) -> Vec<Sample> {
        (0_u32..).zip(values).map(|(block, value)| Sample::ready("native", block, value)).collect()
    }

    /// Noise without order: the fractions of the multiples of the golden ratio, shuffled by squaring.
    fn noise(i: u32) -> f64 {
        (f64::from(i * i) * 0.618_033_988_75).fract()
    }

    #[test]
    fn steady_launches_raise_no_warning() {
        assert_eq!(of(&launches((0..120).map(|i| 1e5 + 1e4 * noise(i)))), []);
        assert_eq!(of(&[]), []);
    }

    #[test]
    fn a_host_that_slows_down_is_named_with_the_amount_and_advice() {
        let found = of(&launches((0..120).map(|i| 1e5 + 1e4 * noise(i) + 200.0 * f64::from(i))));
        let text = found.iter().map(Warning::to_string).find(|text| text.contains("drift")).expect("a drift");
        assert!(text.contains("startup/noop in native (+1") && text.contains("run again"), "{text}");
    }

    #[test]
    fn a_drift_too_small_to_matter_is_none() {
        assert_eq!(of(&launches((0..120).map(|i| 1e5 + noise(i) + f64::from(i)))).len(), 1, "only likeness");
    }

    #[test]
    fn two_ways_of_starting_are_described() {
        let found = of(&launches((0..120).map(|i| if i % 4 == 1 { 2e5 } else { 1e5 } + 2e4 * noise(i))));
        let text =
            found.iter().map(Warning::to_string).find(|text| text.contains("kinds")).expect("two kinds");
        assert!(text.contains("25.0 % around 2"), "{text}");
    }
}
