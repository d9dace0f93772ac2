//! Quantities with their unit, and the only place where numbers become text for people.

use std::fmt;

/// A duration or an instant of the host's clock, in nanoseconds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Nanos(pub u64);

/// An amount of memory.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Bytes(pub u64);

#[expect(clippy::cast_precision_loss, reason = "exact up to 2^53: 104 days, 8 PiB; text shows three digits")]
impl fmt::Display for Nanos {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&format_value(self.0 as f64, "ns"))
    }
}

#[expect(clippy::cast_precision_loss, reason = "exact up to 2^53: 104 days, 8 PiB; text shows three digits")]
impl fmt::Display for Bytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&format_value(self.0 as f64, "bytes"))
    }
}

/// What a unit measures, which decides the words for a difference.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Less is faster.
    Time,
    /// More is faster.
    Rate,
    /// Less is less.
    Amount,
}

/// The kind of quantity that a unit of `samples.csv` stands for.
pub fn kind_of(unit: &str) -> Kind {
    match unit.split_once('/') {
        Some((_, "s")) => Kind::Rate,
        Some(("ns", _)) => Kind::Time,
        None if unit == "ns" => Kind::Time,
        _ => Kind::Amount,
    }
}

/// How values of one unit are shown: divided by `divisor`, followed by `label`.
#[derive(Debug, Clone, PartialEq)]
pub struct Scale {
    /// What to divide a value by.
    pub divisor: f64,
    /// The unit after the division: `us`, `MiB`, `GiB/s`.
    pub label: String,
}

const TIME: &[(f64, &str)] = &[(1.0, "ns"), (1e3, "us"), (1e6, "ms"), (1e9, "s")];
const MEMORY: &[(f64, &str)] = &[
    (1.0, "B"),
    (1024.0, "KiB"),
    (1_048_576.0, "MiB"),
    (1_073_741_824.0, "GiB"),
    (1_099_511_627_776.0, "TiB"),
];
const COUNT: &[(f64, &str)] = &[(1.0, ""), (1e3, "k"), (1e6, "M"), (1e9, "G")];

/// The scale in which `largest`, a value of `unit`, has one to three digits before the point.
pub fn scale_for(largest: f64, unit: &str) -> Scale {
    let (base, per) = match unit.split_once('/') {
        Some((base, per)) => (base, format!("/{per}")),
        None => (unit, String::new()),
    };
    let steps = match base {
        "ns" => TIME,
        "bytes" => MEMORY,
        // Things are counted as they are: 61078 instances, and no kinstances.
        _ if is_noun(unit) => &COUNT[..1],
        _ => COUNT,
    };
    let size = largest.abs();
    // 999.5 would be written as 1000 of the smaller unit.
    let step = steps.iter().rev().find(|(factor, _)| size >= 0.9995 * factor).unwrap_or(&steps[0]);
    let label = match base {
        "ns" | "bytes" => format!("{}{per}", step.1),
        _ if step.1.is_empty() || unit.is_empty() => format!("{}{unit}", step.1),
        _ => format!("{} {unit}", step.1),
    };
    Scale { divisor: step.0, label }
}

/// Whether a unit names things that are counted: `calls`, `instances`.
fn is_noun(unit: &str) -> bool {
    !unit.is_empty() && !unit.contains('/') && !matches!(unit, "ns" | "bytes")
}

/// Three significant digits: `0.0123`, `1.23`, `12.3`, `123`, `12300`; with an exponent only far from 1.
pub fn significant(value: f64) -> String {
    if !value.is_finite() {
        return "-".to_owned();
    }
    let size = value.abs();
    let decimals = match size {
        _ if size == 0.0 => 0,
        _ if !(0.000_099_95..9_999_500.0).contains(&size) => return format!("{value:.2e}"),
        _ if size >= 99.95 => 0,
        _ if size >= 9.995 => 1,
        _ if size >= 0.9995 => 2,
        _ if size >= 0.09995 => 3,
        _ if size >= 0.009995 => 4,
        _ => 5,
    };
    format!("{value:.decimals$}")
}

/// A value of a unit of `samples.csv`, as people read it: `1.23 ms`, `4.50 MiB`, `3.21 ns/op`.
pub fn format_value(value: f64, unit: &str) -> String {
    let scale = scale_for(value, unit);
    let number = match significant(value / scale.divisor) {
        _ if is_noun(unit) && value.fract() == 0.0 && value.abs() < 1e6 => format!("{value:.0}"),
        number => number,
    };
    if scale.label.is_empty() { number } else { format!("{number} {}", scale.label) }
}

/// A ratio to the baseline: three decimals near 1, where they tell most, three significant digits elsewhere.
pub fn format_ratio(ratio: f64) -> String {
    match ratio.abs() {
        size if !size.is_finite() => "-".to_owned(),
        size if (0.0995..1.0995).contains(&size) => format!("{ratio:.3}"),
        _ => significant(ratio),
    }
}

/// A probability: three decimals, and a bound where that would read as nought.
pub fn format_p(p: f64) -> String {
    if p < 0.001 { "<0.001".to_owned() } else { format!("{p:.3}") }
}

/// A number with its noun: `1 launch`, `2 launches`.
pub fn plural(n: usize, one: &str, more: &str) -> String {
    format!("{n} {}", if n == 1 { one } else { more })
}

/// A part of a whole in per cent.
pub fn format_percent(part: f64) -> String {
    format!("{} %", significant(part * 100.0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_shown_with_three_digits_in_the_unit_that_fits() {
        for (value, unit, text) in [
            (0.0, "ns", "0 ns"),
            (999.0, "ns", "999 ns"),
            (999.9, "ns", "1.00 us"),
            (1234.0, "ns", "1.23 us"),
            (1_999_600.0, "ns", "2.00 ms"),
            (61e9, "ns", "61.0 s"),
            (512.0, "bytes", "512 B"),
            (1536.0, "bytes", "1.50 KiB"),
            (5_242_880.0, "bytes", "5.00 MiB"),
            (3.214, "ns/op", "3.21 ns/op"),
            (12_884_901_888.0, "bytes/s", "12.0 GiB/s"),
            (12_345.0, "", "12.3 k"),
            (42.0, "calls", "42 calls"),
            (4.25, "calls", "4.25 calls"),
            (61_078.4, "instances", "61078 instances"),
            (4_200.0, "instances/s", "4.20 k instances/s"),
            (f64::MAX, "ns", "1.80e299 s"),
            (0.000_000_1, "", "1.00e-7"),
        ] {
            assert_eq!(format_value(value, unit), text, "{value} {unit}");
        }
    }

    #[test]
    fn what_is_not_a_number_is_a_dash() {
        assert_eq!(significant(f64::NAN), "-");
        assert_eq!(format_ratio(f64::INFINITY), "-");
    }

    #[test]
    fn a_unit_says_whether_more_is_better() {
        assert_eq!(kind_of("ns"), Kind::Time);
        assert_eq!(kind_of("ns/op"), Kind::Time);
        assert_eq!(kind_of("bytes/s"), Kind::Rate);
        assert_eq!(kind_of("bytes"), Kind::Amount);
        assert_eq!(kind_of(""), Kind::Amount);
    }

    #[test]
    fn newtypes_show_themselves_with_their_unit() {
        assert_eq!(Nanos(1_500_000).to_string(), "1.50 ms");
        assert_eq!(Bytes(2_097_152).to_string(), "2.00 MiB");
    }
}
