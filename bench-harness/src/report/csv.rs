//! `summary.csv`, whose columns others build on and which never change, and `statistics.csv` beside it with the rest.

use crate::stats::Interval;
use crate::summary::SummaryRow;

/// The columns of `summary.csv`.
const SUMMARY_COLUMNS: &str = "experiment,workload,metric,unit,target,n,failed,min,median,mean,stddev,p95,p99,max,\
                               ci95_low,ci95_high,baseline,ratio,ratio_ci95_low,ratio_ci95_high,p_value,verdict\n";

/// The columns of `statistics.csv`.
const STATISTICS_COLUMNS: &str = "experiment,workload,metric,unit,target,p95_ci95_low,p95_ci95_high,p99_ci95_low,\
                                  p99_ci95_high,shift,shift_ci95_low,shift_ci95_high,p_holm,outliers\n";

fn text(value: Option<f64>) -> String {
    value.map(|value| value.to_string()).unwrap_or_default()
}

fn low(interval: Option<Interval>) -> String {
    text(interval.map(|interval| interval.low))
}

fn high(interval: Option<Interval>) -> String {
    text(interval.map(|interval| interval.high))
}

/// The bytes of `summary.csv`. A number is written in the shortest form that reads back as the very same.
///
/// # Errors
///
/// Where the CSV library refuses a row.
pub fn summary(rows: &[SummaryRow]) -> Result<Vec<u8>, csv::Error> {
    table(SUMMARY_COLUMNS, rows, |row| {
        vec![
            row.n.to_string(),
            row.failed.to_string(),
            text(row.min),
            text(row.median),
            text(row.mean),
            text(row.stddev),
            text(row.p95),
            text(row.p99),
            text(row.max),
            low(row.ci95),
            high(row.ci95),
            row.baseline.clone().unwrap_or_default(),
            text(row.ratio),
            low(row.ratio_ci95),
            high(row.ratio_ci95),
            text(row.p_value),
            row.verdict.map(crate::summary::Verdict::word).unwrap_or_default().to_owned(),
        ]
    })
}

/// The bytes of `statistics.csv`.
///
/// # Errors
///
/// Where the CSV library refuses a row.
pub fn statistics(rows: &[SummaryRow]) -> Result<Vec<u8>, csv::Error> {
    table(STATISTICS_COLUMNS, rows, |row| {
        vec![
            low(row.p95_ci95),
            high(row.p95_ci95),
            low(row.p99_ci95),
            high(row.p99_ci95),
            text(row.shift),
            low(row.shift_ci95),
            high(row.shift_ci95),
            text(row.p_holm),
            row.outliers.to_string(),
        ]
    })
}

/// A table with one line a row: what names the row, then its figures.
fn table(
    columns: &str,
    rows: &[SummaryRow],
    figures: impl Fn(&SummaryRow) -> Vec<String>,
) -> Result<Vec<u8>, csv::Error> {
    let mut writer = csv::WriterBuilder::new().has_headers(false).from_writer(columns.as_bytes().to_vec());
    for row in rows {
        let names = [&row.experiment, &row.workload, &row.metric, &row.unit, &row.target].map(String::as_str);
        let figures = figures(row);
        writer.write_record(names.into_iter().chain(figures.iter().map(String::as_str)))?;
    }
    writer.into_inner().map_err(|error| std::io::Error::other(error.to_string()).into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::Sample;

    #[test]
    fn the_columns_are_those_of_the_design_and_absent_figures_are_empty() {
        let rows = crate::summary::summarise(&[Sample::ready("native", 0, 1.5)], 1);
        let lines = |bytes: Vec<u8>| String::from_utf8(bytes).expect("ASCII");
        assert_eq!(
            lines(summary(&rows).expect("one row")),
            "experiment,workload,metric,unit,target,n,failed,min,median,mean,stddev,p95,p99,max,ci95_low,ci95_high,\
             baseline,ratio,ratio_ci95_low,ratio_ci95_high,p_value,verdict\n\
             startup,noop,ready_ns,ns,native,1,0,1.5,1.5,1.5,,,,1.5,,,,,,,,baseline\n"
        );
        assert_eq!(
            lines(statistics(&rows).expect("one row")),
            format!("{STATISTICS_COLUMNS}startup,noop,ready_ns,ns,native,,,,,,,,,0\n")
        );
    }
}
