//! Statistics: pure functions over slices, each with the source of its method.
//!
//! - [`adaptive`]: the gate's test, by ranks whose weights suit the launches
//! - [`describe`]: median, quantiles, mean, deviations
//! - [`outliers`]: labels after Tukey
//! - [`order`]: exact intervals for median, p95 and p99
//! - [`bootstrap`]: seeded interval for a ratio of medians
//! - [`compare`]: exact and approximate rank test of two samples
//! - [`shift`]: by how much two samples differ, after Hodges and Lehmann
//! - [`paired`]: the same of things measured in turn, block by block
//! - [`share`]: interval for a probability, after Clopper and Pearson
//! - [`family`]: many tests at once, after Holm
//! - [`series`]: drift and autocorrelation over the launches of a run
//! - [`modes`]: more than one way of being, by the dip test
//! - [`slope`]: robust slope with interval
//!
//! All expect finite numbers, which the reader of a recording guarantees. `None` says that a figure cannot be given
//! from so few observations; no figure is invented for one that is absent.

pub mod adaptive;
pub mod bootstrap;
pub mod compare;
pub mod describe;
pub mod family;
pub mod modes;
pub mod order;
pub mod outliers;
pub mod paired;
pub mod series;
pub mod share;
pub mod shift;
pub mod slope;

pub use bootstrap::{Interval, Resampler};
pub use describe::{mad, mean, median, quantile, stddev};

/// Coverage of every interval.
pub const CONFIDENCE: f64 = 0.95;

/// Fewest launches from which an interval for a median is given.
///
/// No interval between observations holds the median of an unknown distribution more often than the one from the
/// smallest to the largest, whose coverage is 1 - 2 (1/2)^n: 0.938 at five, 0.969 at six (David & Nagaraja, *Order
/// Statistics*, 3rd ed., 2003, section 7.1). With fewer than six, 95 % cannot be had, and none is given.
pub const MIN_FOR_INTERVAL: usize = 6;

/// A length as a number to reckon with.
#[expect(clippy::cast_precision_loss, reason = "no recording has 2^53 rows")]
pub(crate) fn count(n: usize) -> f64 {
    n as f64
}
