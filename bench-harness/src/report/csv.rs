//! `summary.csv`.

use serde::Serialize;

use crate::stats::Interval;
use crate::summary::SummaryRow;

/// One line; the order of the fields is that of the columns. What is absent is empty.
#[derive(Debug, Serialize)]
struct Line<'a> {
    experiment: &'a str,
    workload: &'a str,
    metric: &'a str,
    unit: &'a str,
    target: &'a str,
    n: usize,
    failed: usize,
    min: String,
    median: String,
    mean: String,
    stddev: String,
    p95: String,
    p95_ci95_low: String,
    p95_ci95_high: String,
    p99: String,
    p99_ci95_low: String,
    p99_ci95_high: String,
    max: String,
    ci95_low: String,
    ci95_high: String,
    baseline: &'a str,
    ratio: String,
    ratio_ci95_low: String,
    ratio_ci95_high: String,
    shift: String,
    shift_ci95_low: String,
    shift_ci95_high: String,
    p_value: String,
    p_holm: String,
    outliers: usize,
    verdict: &'a str,
}

/// The columns, for a summary without rows.
const COLUMNS: &str = "experiment,workload,metric,unit,target,n,failed,min,median,mean,stddev,p95,p95_ci95_low,\
                       p95_ci95_high,p99,p99_ci95_low,p99_ci95_high,max,ci95_low,ci95_high,baseline,ratio,\
                       ratio_ci95_low,ratio_ci95_high,shift,shift_ci95_low,shift_ci95_high,p_value,p_holm,outliers,\
                       verdict\n";

/// The file's bytes. A number is written in the shortest form that reads back as the very same.
///
/// # Errors
///
/// Where the CSV library refuses a row.
pub fn summary(rows: &[SummaryRow]) -> Result<Vec<u8>, csv::Error> {
    let mut writer = csv::WriterBuilder::new().has_headers(false).from_writer(COLUMNS.as_bytes().to_vec());
    for row in rows {
        writer.serialize(Line::of(row))?;
    }
    writer.into_inner().map_err(|error| std::io::Error::other(error.to_string()).into())
}

impl<'a> Line<'a> {
    fn of(row: &'a SummaryRow) -> Self {
        let text = |value: Option<f64>| value.map(|value| value.to_string()).unwrap_or_default();
        let low = |interval: Option<Interval>| text(interval.map(|interval| interval.low));
        let high = |interval: Option<Interval>| text(interval.map(|interval| interval.high));
        Self {
            experiment: &row.experiment,
            workload: &row.workload,
            metric: &row.metric,
            unit: &row.unit,
            target: &row.target,
            n: row.n,
            failed: row.failed,
            min: text(row.min),
            median: text(row.median),
            mean: text(row.mean),
            stddev: text(row.stddev),
            p95: text(row.p95),
            p95_ci95_low: low(row.p95_ci95),
            p95_ci95_high: high(row.p95_ci95),
            p99: text(row.p99),
            p99_ci95_low: low(row.p99_ci95),
            p99_ci95_high: high(row.p99_ci95),
            max: text(row.max),
            ci95_low: low(row.ci95),
            ci95_high: high(row.ci95),
            baseline: row.baseline.as_deref().unwrap_or_default(),
            ratio: text(row.ratio),
            ratio_ci95_low: low(row.ratio_ci95),
            ratio_ci95_high: high(row.ratio_ci95),
            shift: text(row.shift),
            shift_ci95_low: low(row.shift_ci95),
            shift_ci95_high: high(row.shift_ci95),
            p_value: text(row.p_value),
            p_holm: text(row.p_holm),
            outliers: row.outliers,
            verdict: row.verdict.map(crate::summary::Verdict::word).unwrap_or_default(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::{Sample, Status};

    #[test]
    fn the_columns_are_those_of_the_design_and_absent_figures_are_empty() {
        let sample = Sample {
            experiment: "startup".into(),
            target: "native".into(),
            workload: "noop".into(),
            metric: "ready_ns".into(),
            unit: "ns".into(),
            block: 0,
            order: 0,
            iteration: 0,
            value: Some(1.5),
            status: Status::Ok,
            detail: String::new(),
        };
        let bytes = summary(&crate::summary::summarise(&[sample], 1)).expect("one row");
        let text = String::from_utf8(bytes).expect("ASCII");
        assert_eq!(
            text,
            "experiment,workload,metric,unit,target,n,failed,min,median,mean,stddev,p95,p95_ci95_low,p95_ci95_high,\
             p99,p99_ci95_low,p99_ci95_high,max,ci95_low,ci95_high,baseline,ratio,ratio_ci95_low,ratio_ci95_high,\
             shift,shift_ci95_low,shift_ci95_high,p_value,p_holm,outliers,verdict\n\
             startup,noop,ready_ns,ns,native,1,0,1.5,1.5,1.5,,,,,,,,1.5,,,,,,,,,,,,0,baseline\n"
        );
        assert_eq!(text.lines().next().map(|line| line.split(',').count()), Some(31));
    }
}
