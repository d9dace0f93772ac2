//! How many instances would fill the host: what was available over what one takes. An estimate, and called one: it draws the
//! slope on, and knows nothing of limits that are not memory.

use super::SummaryRow;
use crate::record::{DENSITY, metric};
use crate::stats::Interval;

/// A row for each target whose slope is above nought, with all of its interval where it has one: one that may as well be nought
/// says nothing of where the host is full.
pub(super) fn rows_of(rows: &[SummaryRow]) -> Vec<SummaryRow> {
    let own = rows.iter().filter(|row| row.experiment == DENSITY);
    own.filter(|row| row.metric == metric::MARGINAL).filter_map(|row| of_slope(rows, row)).collect()
}

fn of_slope(rows: &[SummaryRow], slope: &SummaryRow) -> Option<SummaryRow> {
    let same = |row: &&SummaryRow| {
        row.experiment == DENSITY && row.workload == slope.workload && row.target == slope.target
    };
    let available = rows.iter().filter(same).find(|row| row.metric == metric::AVAILABLE)?.median?;
    let each = slope.median.filter(|each| *each > 0.0)?;
    if slope.ci95.is_some_and(|interval| interval.low <= 0.0) {
        return None;
    }
    Some(SummaryRow {
        experiment: slope.experiment.clone(),
        workload: slope.workload.clone(),
        metric: metric::FULL_AT.to_owned(),
        unit: "instances".to_owned(),
        target: slope.target.clone(),
        n: slope.n,
        median: Some(available / each),
        ci95: slope.ci95.map(|each| Interval { low: available / each.high, high: available / each.low }),
        ..SummaryRow::default()
    })
}

#[cfg(test)]
mod tests {
    use super::super::summarise;
    use crate::record::{DENSITY, Sample, metric};
    use crate::stats::Interval;

    fn point(metric: &str, block: u32, iteration: u32, value: f64) -> Sample {
        Sample {
            experiment: DENSITY.into(),
            metric: metric.into(),
            unit: "bytes".into(),
            iteration,
            ..Sample::ready("native", block, value)
        }
    }

    #[test]
    fn the_host_is_full_where_the_slope_has_used_up_what_was_available() {
        let mut samples = Vec::new();
        for block in 0..6 {
            samples.push(point("available_bytes", block, 0, 1e6));
            let slope = 1e3 * (1.0 + 0.1 * f64::from(block % 3));
            samples.extend(
                (0..9).map(|number| point("host_used_bytes", block, number, 5e6 + slope * f64::from(number))),
            );
        }
        let rows = summarise(&samples, 1);
        let row = rows.iter().find(|row| row.metric == "full_at_estimate").expect("an estimate");
        assert!(row.median.is_some_and(|full| (full - 1e6 / 1.1e3).abs() < 1.0), "{row:?}");
        assert!(row.ci95.is_some_and(|Interval { low, high }| low < 840.0 && high > 990.0), "{row:?}");
        assert_eq!(row.unit, "instances");
    }

    #[test]
    fn a_slope_that_may_as_well_be_nought_fills_no_host() {
        let mut samples = Vec::new();
        for block in 0..7 {
            samples.push(point("available_bytes", block, 0, 1e6));
            let slope = 1e3 * (f64::from(block) - 2.0);
            samples.extend(
                (0..9).map(|number| point("host_used_bytes", block, number, 5e6 + slope * f64::from(number))),
            );
        }
        let rows = summarise(&samples, 1);
        let slope = rows.iter().find(|row| row.metric == metric::MARGINAL).expect("a slope");
        assert!(slope.median > Some(0.0) && slope.ci95.is_some_and(|found| found.low < 0.0), "{slope:?}");
        assert!(!rows.iter().any(|row| row.metric == metric::FULL_AT));
    }

    #[test]
    fn a_slope_of_nought_fills_no_host() {
        let mut samples = vec![point("available_bytes", 0, 0, 1e6)];
        samples.extend((0..9).map(|number| point("host_used_bytes", 0, number, 5e6)));
        assert!(!summarise(&samples, 1).iter().any(|row| row.metric == "full_at_estimate"));
    }
}
