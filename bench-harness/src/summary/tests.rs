use proptest::prelude::*;

use super::*;

fn sample(target: &str, metric: &str, block: u32, value: f64) -> Sample {
    Sample { metric: metric.into(), ..Sample::ready(target, block, value) }
}

fn without_value(status: Status, detail: &str, sample: Sample) -> Sample {
    Sample { value: None, status, detail: detail.into(), ..sample }
}

/// `n` launches around `centre`, one per cent apart. What disturbs them is not what they share with another target's.
fn launches(target: &str, metric: &str, centre: f64, n: u32) -> Vec<Sample> {
    let step = if target == BASELINE { 1 } else { 3 };
    let value = |block: u32| centre * (1.0 + 0.001 * f64::from(step * block % 7));
    (0..n).map(|block| sample(target, metric, block, value(block))).collect()
}

fn verdict_of(native: f64, other: f64, unit: &str) -> Option<Verdict> {
    let mut samples = launches("native", "x", native, 20);
    samples.extend(launches("container", "x", other, 20));
    samples.iter_mut().for_each(|sample| sample.unit = unit.into());
    summarise(&samples, 1)[1].verdict
}

#[test]
fn nothing_has_no_summary() {
    assert_eq!(summarise(&[], 1), []);
}

#[test]
fn one_launch_has_a_median_and_neither_spread_nor_interval() {
    let rows = summarise(&launches("native", "ready_ns", 5.0, 1), 1);
    let row = &rows[0];
    assert_eq!(
        (row.n, row.min, row.median, row.mean, row.max),
        (1, Some(5.0), Some(5.0), Some(5.0), Some(5.0))
    );
    assert_eq!((row.stddev, row.p95, row.ci95), (None, None, None));
    assert_eq!(row.verdict, Some(Verdict::Baseline));
}

#[test]
fn two_launches_a_side_give_a_ratio_without_an_interval_and_no_verdict_but_unclear() {
    let mut samples = launches("native", "ready_ns", 10.0, 2);
    samples.extend(launches("microvm", "ready_ns", 30.0, 2));
    let rows = summarise(&samples, 1);
    assert_eq!(rows[1].ratio.map(f64::round), Some(3.0));
    assert_eq!((rows[1].ratio_ci95, rows[1].verdict), (None, Some(Verdict::Unclear)));
    assert_eq!(rows[1].baseline.as_deref(), Some("native"));
    assert!(rows[1].stddev.is_some());
}

#[test]
fn repetitions_of_one_launch_count_once_by_their_median() {
    let mut samples = Vec::new();
    for (iteration, value) in (0..).zip([1.0, 2.0, 900.0]) {
        samples.push(Sample { iteration, ..sample("native", "time_per_op_ns", 0, value) });
    }
    samples.push(sample("native", "time_per_op_ns", 1, 4.0));
    let rows = summarise(&samples, 1);
    assert_eq!((rows[0].n, rows[0].median, rows[0].max), (2, Some(3.0), Some(4.0)));
}

#[test]
fn warm_up_enters_no_figure() {
    let mut samples = launches("native", "ready_ns", 5.0, 3);
    samples.push(Sample { status: Status::Warmup, ..sample("native", "ready_ns", 9, 1e9) });
    samples.push(Sample { status: Status::Warmup, ..sample("native", "exit_ns", 9, 1e9) });
    let rows = summarise(&samples, 1);
    assert_eq!(rows.len(), 1, "a metric of warm-up alone has no row");
    assert_eq!(rows[0].n, 3);
    assert!(rows[0].max < Some(6.0));
}

#[test]
fn failed_launches_are_counted_and_their_reason_is_kept() {
    let mut samples = launches("container", "ready_ns", 5.0, 8);
    samples.push(without_value(Status::Failed, "killed", sample("container", "ready_ns", 8, 0.0)));
    let rows = summarise(&samples, 1);
    assert_eq!((rows[0].n, rows[0].failed), (8, 1));
    assert_eq!(rows[0].reason.as_deref(), Some("killed"));
    assert_eq!(rows[0].verdict, None, "there is no native row to compare with");
}

#[test]
fn a_target_without_any_value_is_failed_or_skipped_and_has_no_figures() {
    let rows = summarise(
        &[
            without_value(Status::Skipped, "no /dev/kvm", sample("microvm", "ready_ns", 0, 0.0)),
            without_value(Status::Failed, "crashed", sample("container", "ready_ns", 0, 0.0)),
        ],
        1,
    );
    let seen: Vec<_> = rows.iter().map(|row| (row.target.as_str(), row.verdict, row.n, row.median)).collect();
    assert_eq!(
        seen,
        [("container", Some(Verdict::Failed), 0, None), ("microvm", Some(Verdict::Skipped), 0, None)]
    );
}

#[test]
fn a_verdict_needs_significance_and_a_size_that_matters() {
    assert_eq!(verdict_of(100.0, 100.0, "ns"), Some(Verdict::Same));
    assert_eq!(verdict_of(100.0, 102.0, "ns"), Some(Verdict::Same), "significant, and too small to matter");
    assert_eq!(verdict_of(100.0, 102.9, "ns"), Some(Verdict::Unclear), "around the limit");
    assert_eq!(verdict_of(100.0, 150.0, "ns"), Some(Verdict::Slower));
    assert_eq!(verdict_of(100.0, 50.0, "ns/op"), Some(Verdict::Faster));
    assert_eq!(verdict_of(100.0, 50.0, "bytes/s"), Some(Verdict::Slower));
    assert_eq!(verdict_of(100.0, 150.0, "bytes/s"), Some(Verdict::Faster));
    assert_eq!(verdict_of(100.0, 150.0, "bytes"), Some(Verdict::More));
    assert_eq!(verdict_of(100.0, 50.0, "bytes"), Some(Verdict::Less));
    assert_eq!(verdict_of(0.0, 50.0, "bytes"), Some(Verdict::Unclear), "no ratio to nothing");
}

#[test]
fn rows_stand_in_the_order_in_which_people_expect_them() {
    let mut samples = Vec::new();
    for target in ["zeta", "microvm", "container", "alpha", "native"] {
        for metric in ["exit_ns", "phase.clone_ns", "teardown_ns", "ready_ns", "phase.exec_ns"] {
            samples.push(sample(target, metric, 0, 1.0));
        }
    }
    let rows = summarise(&samples, 1);
    let targets: Vec<_> = rows[..5].iter().map(|row| row.target.as_str()).collect();
    assert_eq!(targets, ["native", "container", "microvm", "alpha", "zeta"]);
    let metrics: Vec<_> = rows.iter().step_by(5).map(|row| row.metric.as_str()).collect();
    assert_eq!(metrics, ["ready_ns", "exit_ns", "teardown_ns", "phase.clone_ns", "phase.exec_ns"]);
}

#[test]
fn phases_that_targets_share_stand_in_the_order_of_each_target() {
    let launch = |target: &str, order: u32, names: &[&str]| {
        let made =
            names.iter().map(|name| Sample { order, ..sample(target, &format!("phase.{name}_ns"), 0, 1.0) });
        made.collect::<Vec<_>>()
    };
    let mut samples = launch("container", 0, &["clone", "pivot", "exec", "ready"]);
    samples.extend(launch("native", 1, &["spawn", "exec", "ready"]));
    samples.extend(launch("microvm", 2, &["open", "clone", "enter", "ready"]));
    let rows = summarise(&samples, 1);
    let of = |target: &str| {
        let own = rows.iter().filter(|row| row.target == target);
        own.map(|row| row.metric[6..row.metric.len() - 3].to_owned()).collect::<Vec<_>>()
    };
    assert_eq!(of("container"), ["clone", "pivot", "exec", "ready"]);
    assert_eq!(of("native"), ["spawn", "exec", "ready"]);
    assert_eq!(of("microvm"), ["open", "clone", "enter", "ready"]);
}

#[test]
fn the_curve_of_the_hosts_memory_becomes_a_slope_an_instance() {
    let mut samples = Vec::new();
    for (target, slope) in [("native", 1000.0), ("microvm", 5000.0)] {
        for block in 0..3_u32 {
            for iteration in 0..9_u32 {
                let value = 1e9 + 1e6 * f64::from(block) + slope * f64::from(iteration);
                samples.push(Sample {
                    experiment: "memory".into(),
                    unit: "bytes".into(),
                    iteration,
                    ..sample(target, metric::HOST_USED, block, value)
                });
            }
        }
    }
    let rows = summarise(&samples, 1);
    assert_eq!(rows.len(), 2, "the points themselves have no row");
    assert_eq!((rows[1].metric.as_str(), rows[1].n), (metric::MARGINAL, 3));
    assert_eq!((rows[1].median, rows[1].ratio), (Some(5000.0), Some(5.0)));
    assert_eq!(rows[1].ci95, Some(Interval { low: 5000.0, high: 5000.0 }));
}

#[test]
fn a_row_does_not_depend_on_which_others_were_measured() {
    let alone = summarise(&launches("native", "ready_ns", 7.0, 30), 3);
    let mut samples = launches("container", "exit_ns", 9.0, 30);
    samples.extend(launches("native", "ready_ns", 7.0, 30));
    assert!(summarise(&samples, 3).contains(&alone[0]));
}

proptest! {
    #[test]
    fn any_samples_have_a_summary_whose_figures_are_in_order(
        values in proptest::collection::vec((0..4_usize, 0..3_usize, 0..9_u32, 0..3_u32, 0.0..1e12, 0..9_u8), 0..60),
    ) {
        let samples: Vec<_> = values
            .into_iter()
            .map(|(target, metric, block, iteration, value, status)| {
                let metric = ["ready_ns", metric::HOST_USED, "phase.a_ns"][metric];
                let made = Sample { iteration, ..sample(TARGETS[target], metric, block, value) };
                match status {
                    0 => without_value(Status::Failed, "died", made),
                    1 => without_value(Status::Skipped, "cannot", made),
                    2 => Sample { status: Status::Warmup, ..made },
                    _ => made,
                }
            })
            .collect();
        let rows = summarise(&samples, 4);
        prop_assert_eq!(&rows, &summarise(&samples, 4));
        for row in rows {
            prop_assert_eq!(row.n == 0, row.median.is_none());
            prop_assert!(row.min <= row.median && row.median <= row.max);
            prop_assert!(row.ci95.is_none_or(|interval| row.median.is_some_and(|median| interval.holds(median))));
            prop_assert!(row.ratio.is_none_or(f64::is_finite));
        }
    }
}
