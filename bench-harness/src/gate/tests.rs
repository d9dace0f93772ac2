use super::*;
use crate::record::Status;

/// Launches around `centre`, spread over `spread` of it, without any order, the same for the same `salt`.
fn launches(name: &str, unit: &str, centre: f64, spread: f64, n: u32, salt: u32) -> Vec<Sample> {
    let noise = |i: u32| (f64::from((i + 7 * salt) * (i + 7 * salt)) * 0.618_033_988_75).fract() - 0.5;
    (0..n)
        .map(|block| Sample {
            experiment: if name == metric::TIME_PER_OP { "overhead" } else { "startup" }.into(),
            metric: name.into(),
            unit: unit.into(),
            ..Sample::ready("native", block, centre * (1.0 + spread * noise(block)))
        })
        .collect()
}

fn ready(centre: f64, spread: f64, n: u32, salt: u32) -> Vec<Sample> {
    launches(metric::READY, "ns", centre, spread, n, salt)
}

fn judged(old: &[Sample], new: &[Sample]) -> Gate {
    Gate::judge(old, new, 0.05, Vec::new())
}

fn why(gate: &Gate) -> (Option<usize>, String) {
    match &gate.rows[0].outcome {
        Outcome::Unclear { more, why } => (*more, why.clone()),
        other => panic!("{other:?}"),
    }
}

#[test]
fn the_same_launches_pass() {
    let old = ready(1e6, 0.1, 40, 0);
    let gate = judged(&old, &old);
    assert_eq!((gate.exit_code(), &gate.rows[0].outcome), (0, &Outcome::Fine));
    assert_eq!(gate.rows[0].worse, Some(0.0));
}

#[test]
fn a_clear_slow_down_fails_and_its_size_is_told() {
    let gate = judged(&ready(1e6, 0.1, 40, 0), &ready(1.1e6, 0.1, 40, 1));
    assert_eq!(gate.exit_code(), 1, "{gate:?}");
    assert!(gate.rows[0].worse.is_some_and(|worse| (worse - 0.1).abs() < 0.02), "{gate:?}");
    assert!(gate.sentence().contains("FAILED"), "{}", gate.sentence());
}

#[test]
fn a_slow_down_within_what_is_allowed_passes_however_sure_it_is() {
    let gate = judged(&ready(1e6, 0.02, 200, 0), &ready(1.03e6, 0.02, 200, 1));
    assert!(gate.rows[0].p_holm.is_some_and(|p| p < 0.001));
    assert_eq!(gate.exit_code(), 0, "{gate:?}");
}

#[test]
fn a_speed_up_is_no_failure() {
    let gate = judged(&ready(1e6, 0.1, 40, 0), &ready(0.8e6, 0.1, 40, 1));
    assert_eq!((gate.exit_code(), &gate.rows[0].outcome), (0, &Outcome::Improved));
}

#[test]
fn a_rate_regresses_when_it_falls() {
    let of = |centre, salt| launches(metric::TIME_PER_OP, "bytes/s", centre, 0.05, 40, salt);
    assert_eq!(judged(&of(1e9, 0), &of(0.8e9, 1)).exit_code(), 1);
    assert_eq!(judged(&of(1e9, 0), &of(1.2e9, 1)).exit_code(), 0);
}

#[test]
fn too_much_noise_is_unclear_and_says_how_many_more_launches_would_tell() {
    let gate = judged(&ready(1e6, 1.0, 12, 0), &ready(1.06e6, 1.0, 12, 1));
    assert_eq!(gate.exit_code(), 5, "{gate:?}");
    let (more, why) = why(&gate);
    assert!(more.is_some_and(|more| more > 50) || why.contains("quieter"), "{more:?} {why}");
}

#[test]
fn as_many_more_launches_as_it_says_do_tell() {
    let gate = judged(&ready(1e6, 0.4, 10, 0), &ready(1e6, 0.4, 10, 0));
    let (more, _) = why(&gate);
    let n = 10 + u32::try_from(more.expect("a number")).expect("not many");
    let gate = judged(&ready(1e6, 0.4, n, 0), &ready(1e6, 0.4, n, 0));
    assert_eq!(gate.exit_code(), 0, "{n}: {gate:?}");
}

#[test]
fn too_few_launches_are_unclear_and_get_no_interval() {
    let gate = judged(&ready(1e6, 0.1, 5, 0), &ready(2e6, 0.1, 40, 1));
    assert_eq!(gate.exit_code(), 5);
    assert_eq!((gate.rows[0].p_holm, gate.rows[0].resolves), (None, None));
    assert_eq!(why(&gate), (Some(1), "an interval needs 6 launches a side, there are 5".into()));
}

#[test]
fn a_host_that_moves_by_itself_cannot_be_cured_by_more_launches() {
    let mut moving = ready(1e6, 0.01, 20, 0);
    moving.extend(ready(1.2e6, 0.01, 20, 1).into_iter().map(|row| Sample { block: row.block + 20, ..row }));
    let gate = judged(&moving, &ready(1.2e6, 0.01, 40, 2));
    assert_eq!(gate.exit_code(), 5, "{gate:?}");
    let (more, why) = why(&gate);
    assert!(more.is_none() && why.contains("quieter host"), "{why}");
}

#[test]
fn one_small_p_among_many_rows_is_no_finding() {
    let mut old = Vec::new();
    let mut new = Vec::new();
    for place in 0..60_u32 {
        let rename = |row: Sample| Sample { workload: format!("w{place}"), ..row };
        old.extend(ready(1e6, 0.3, 6, place).into_iter().map(rename));
        new.extend(ready(if place == 0 { 1.5e6 } else { 1e6 }, 0.3, 6, place).into_iter().map(rename));
    }
    let gate = judged(&old, &new);
    assert_eq!(gate.exit_code(), 5, "6 against 6 cannot be significant among 60");
    assert!(why(&gate).1.contains("cannot become significant"), "{:?}", why(&gate));
}

#[test]
fn nothing_in_common_is_refused_and_what_was_not_measured_again_is_left_out() {
    let old = ready(1e6, 0.1, 10, 0);
    assert_eq!(judged(&old, &[]).exit_code(), 3);
    let other = Sample { workload: "other".into(), ..old[0].clone() };
    assert_eq!(judged(&old, &[other]).exit_code(), 3);
}

#[test]
fn what_gave_a_value_before_and_fails_now_is_unclear() {
    let old = ready(1e6, 0.1, 10, 0);
    let failed = Sample { value: None, status: Status::Failed, detail: "died".into(), ..old[0].clone() };
    let gate = judged(&old, &[failed]);
    assert_eq!(gate.exit_code(), 5);
    assert!(why(&gate).1.contains("no value"));
}

#[test]
fn nothing_before_and_nothing_now_is_fine_and_something_now_is_unclear() {
    let none = ready(0.0, 0.0, 10, 0);
    assert_eq!(judged(&none, &none).exit_code(), 0);
    assert_eq!(judged(&none, &ready(5.0, 0.1, 10, 1)).exit_code(), 5);
}

#[test]
fn phases_and_other_methods_do_not_decide() {
    let old = launches("phase.clone_ns", "ns", 1e6, 0.1, 40, 0);
    assert_eq!(judged(&old, &old).rows, []);
}

#[test]
fn a_junit_file_lists_failures_and_what_is_unclear_and_stays_xml_whatever_the_names() {
    let evil = |row: Sample| Sample { workload: "<&\">\u{1}".into(), ..row };
    let old: Vec<_> = ready(1e6, 0.1, 40, 0).into_iter().map(evil).collect();
    let new: Vec<_> = ready(1.5e6, 0.1, 40, 1).into_iter().map(evil).collect();
    let text = render::for_junit(&judged(&old, &new));
    assert!(text.contains("tests=\"1\" failures=\"1\" errors=\"0\" skipped=\"0\""), "{text}");
    assert!(text.contains("classname=\"startup.&lt;&amp;&quot;&gt; .native\""), "{text}");
    assert!(text.contains("<failure message=\"regressed by"), "{text}");
}

#[test]
fn the_table_fits_100_columns_and_the_summary_is_markdown() {
    let gate = judged(&ready(1e6, 0.1, 40, 0), &ready(1.1e6, 0.1, 40, 1));
    let text = render::for_terminal(&gate, 100);
    assert!(text.lines().all(|line| line.chars().count() <= 100), "{text}");
    assert!(text.contains("REGRESSED"), "{text}");
    let text = render::for_markdown(&gate);
    assert!(text.starts_with("## Benchmark gate\n\n**Gate: FAILED."), "{text}");
}
