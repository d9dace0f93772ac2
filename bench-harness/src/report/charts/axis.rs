//! Axes: where a value lies, and which values are named.

use crate::units::{scale_for, significant};

/// A horizontal axis between two pixels.
#[derive(Debug, Clone, PartialEq)]
pub struct Axis {
    low: f64,
    high: f64,
    log: bool,
    from: f64,
    to: f64,
}

/// A value that is named at an axis.
#[derive(Debug, Clone, PartialEq)]
pub struct Tick {
    /// Which.
    pub value: f64,
    /// Its name, with the unit.
    pub label: String,
}

/// Smallest ratio of two ends of a logarithmic axis that is labelled as such.
const LOG_LABELS_FROM: f64 = 4.0;

impl Axis {
    /// An axis of even steps.
    pub fn linear(low: f64, high: f64, pixels: (f64, f64)) -> Self {
        let high = if high > low { high } else { low + low.abs().max(1.0) };
        Self { low, high, log: false, from: pixels.0, to: pixels.1 }
    }

    /// An axis of even ratios; both ends must be above zero, or it is linear.
    pub fn logarithmic(low: f64, high: f64, pixels: (f64, f64)) -> Self {
        if low <= 0.0 || !(high / low).is_finite() {
            return Self::linear(low, high, pixels);
        }
        let high = if high > low { high } else { low * 2.0 };
        Self { low, high, log: true, from: pixels.0, to: pixels.1 }
    }

    /// Where `value` lies; ends of the axis for what is beyond them.
    pub fn at(&self, value: f64) -> f64 {
        let part = if self.log {
            (value.max(self.low) / self.low).ln() / (self.high / self.low).ln()
        } else {
            (value - self.low) / (self.high - self.low)
        };
        self.from + part.clamp(0.0, 1.0) * (self.to - self.from)
    }

    /// Whether `value` lies on the axis and not beyond its ends.
    pub fn holds(&self, value: f64) -> bool {
        (self.low..=self.high).contains(&value)
    }

    /// Whether steps are ratios.
    pub fn is_log(&self) -> bool {
        self.log
    }

    /// The values to name and their names, about `apart` pixels or more from each other.
    pub fn ticks(&self, unit: &str, apart: f64) -> Vec<Tick> {
        let most = ((self.to - self.from) / apart).max(2.0);
        let mut ticks = if self.log && self.high / self.low >= LOG_LABELS_FROM {
            self.powers_and_between(unit, apart, most)
        } else {
            self.even_ticks(unit, most)
        };
        // Where the range is too narrow for the digits that are shown, a name may come twice.
        ticks.dedup_by(|later, earlier| later.label == earlier.label);
        ticks
    }

    /// Whole powers, and between them two values or one where they fit; each with its own unit.
    fn powers_and_between(&self, unit: &str, apart: f64, most: f64) -> Vec<Tick> {
        let powers = self.multiples(unit, &[1.0]);
        let fits = |ticks: &[f64]| ticks.windows(2).all(|pair| self.at(pair[1]) - self.at(pair[0]) >= apart);
        let finer =
            [[1.0, 2.0, 5.0].as_slice(), &[1.0, 3.0], &[1.0]].map(|steps| self.multiples(unit, steps));
        let chosen = finer.into_iter().find(|ticks| fits(ticks)).unwrap_or_else(|| {
            // More powers than there is room for: every second, third, ...
            let stride = (1..).find(|stride| crate::stats::count(powers.len().div_ceil(*stride)) <= most);
            powers.iter().copied().step_by(stride.unwrap_or(1)).collect()
        });
        chosen.into_iter().map(|value| Tick { value, label: label(value, value, unit, None) }).collect()
    }

    /// Multiples of the powers of ten, or of 1024 and ten for memory.
    fn multiples(&self, unit: &str, steps: &[f64]) -> Vec<f64> {
        let power = |exponent: i32| {
            if unit == "bytes" && exponent >= 0 {
                1024_f64.powi(exponent / 3) * 10_f64.powi(exponent % 3)
            } else {
                10_f64.powi(exponent)
            }
        };
        let values = (-307..=307).flat_map(|exponent| steps.iter().map(move |step| step * power(exponent)));
        values.filter(|value| (self.low..=self.high).contains(value)).collect()
    }

    fn even_ticks(&self, unit: &str, most: f64) -> Vec<Tick> {
        let largest = self.high.abs().max(self.low.abs());
        let divisor = scale_for(largest, unit).divisor;
        let (low, high) = (self.low / divisor, self.high / divisor);
        let rough = (high - low) / most;
        let power = 10_f64.powf(rough.log10().floor());
        let step = [1.0, 2.0, 5.0, 10.0].into_iter().map(|factor| factor * power).find(|step| *step >= rough);
        let step = step.unwrap_or(10.0 * power);
        let first = (low / step - 1e-9).ceil();
        let ticks =
            (0..40_u32).map(|i| (first + f64::from(i)) * step).take_while(|tick| *tick <= high + step * 1e-9);
        let ticks = ticks.map(|tick| tick * divisor);
        ticks.map(|value| Tick { value, label: label(value, largest, unit, Some(step)) }).collect()
    }
}

/// The name of a value, in the unit that suits `largest`, with the digits that steps of `step` need.
fn label(value: f64, largest: f64, unit: &str, step: Option<f64>) -> String {
    let scale = scale_for(largest, unit);
    let number = value / scale.divisor;
    let text = match step {
        Some(step) if number.abs() < 1e6 => {
            let decimals =
                (0..7_usize).find(|digits| step * 10_f64.powf(crate::stats::count(*digits)) > 0.999);
            format!("{number:.*}", decimals.unwrap_or(6))
        }
        _ => trimmed(&significant(number)),
    };
    if scale.label.is_empty() { text } else { format!("{text} {}", scale.label) }
}

/// A number without zeros at its end that say nothing.
fn trimmed(number: &str) -> String {
    if !number.contains('.') || number.contains('e') {
        return number.to_owned();
    }
    number.trim_end_matches('0').trim_end_matches('.').to_owned()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn labels(axis: &Axis, unit: &str) -> Vec<String> {
        axis.ticks(unit, 60.0).into_iter().map(|tick| tick.label).collect()
    }

    #[test]
    fn even_axes_have_round_steps_in_one_unit() {
        assert_eq!(
            labels(&Axis::linear(0.0, 2_300_000.0, (0.0, 600.0)), "ns"),
            ["0.0 ms", "0.5 ms", "1.0 ms", "1.5 ms", "2.0 ms"]
        );
        assert_eq!(
            labels(&Axis::linear(0.0, 3_145_728.0, (0.0, 300.0)), "bytes"),
            ["0 MiB", "1 MiB", "2 MiB", "3 MiB"]
        );
    }

    #[test]
    fn logarithmic_axes_name_powers_each_in_its_own_unit() {
        assert_eq!(labels(&Axis::logarithmic(5e4, 2e7, (0.0, 300.0)), "ns"), ["100 us", "1 ms", "10 ms"]);
        assert_eq!(
            labels(&Axis::logarithmic(5e4, 2e7, (0.0, 900.0)), "ns"),
            ["50 us", "100 us", "200 us", "500 us", "1 ms", "2 ms", "5 ms", "10 ms", "20 ms"]
        );
        assert_eq!(
            labels(&Axis::logarithmic(20_000.0, 2e7, (0.0, 300.0)), "bytes"),
            ["100 KiB", "1 MiB", "10 MiB"]
        );
    }

    #[test]
    fn a_logarithmic_axis_of_a_small_range_has_even_steps() {
        assert_eq!(labels(&Axis::logarithmic(0.95, 1.06, (0.0, 300.0)), ""), ["0.95", "1.00", "1.05"]);
    }

    #[test]
    fn an_axis_without_extent_still_places_its_value() {
        assert!(Axis::linear(5.0, 5.0, (10.0, 20.0)).at(5.0).is_finite());
        assert!(Axis::logarithmic(5.0, 5.0, (10.0, 20.0)).at(5.0).is_finite());
        assert!(!Axis::logarithmic(0.0, 5.0, (10.0, 20.0)).is_log());
    }

    proptest! {
        #[test]
        fn ticks_lie_on_the_axis_and_apart(
            low in 1e-3..1e12, factor in 1.0..1e9, log in any::<bool>(), memory in any::<bool>(),
        ) {
            let make = if log { Axis::logarithmic } else { Axis::linear };
            let axis = make(low, low * factor, (100.0, 800.0));
            let unit = if memory { "bytes" } else { "ns" };
            let ticks = axis.ticks(unit, 60.0);
            prop_assert!(ticks.len() <= 13);
            for pair in ticks.windows(2) {
                prop_assert!(axis.at(pair[1].value) - axis.at(pair[0].value) > 40.0, "{ticks:?}");
            }
            for tick in ticks {
                prop_assert!((99.0..=801.0).contains(&axis.at(tick.value)));
                prop_assert!(tick.label.len() < 14, "{tick:?}");
            }
        }
    }
}
