use proptest::prelude::*;

use super::picture::{Align, Shape, text_width};
use super::*;
use crate::record::Status;
use crate::summary::summarise;

/// The box that a text takes: left, right, upper and lower end.
fn extent(shape: &Shape) -> Option<(f64, f64, f64, f64)> {
    let Shape::Text { at, text, size, align, .. } = shape else { return None };
    let width = text_width(text, *size);
    let left = match align {
        Align::Left => at.0,
        Align::Middle => at.0 - width / 2.0,
        Align::Right => at.0 - width,
    };
    Some((left, left + width, at.1 - size * 0.4, at.1 + size * 0.4))
}

/// What is wrong with the texts of a picture: outside of it, or one over the other.
fn muddle(picture: &Picture) -> Option<String> {
    let texts: Vec<_> = picture.shapes.iter().filter_map(|shape| Some((shape, extent(shape)?))).collect();
    let (width, height) = (f64::from(picture.width), f64::from(picture.height));
    for (place, (shape, (left, right, top, bottom))) in texts.iter().enumerate() {
        if *left < 0.0 || *right > width || *top < 0.0 || *bottom > height {
            return Some(format!("outside: {shape:?}"));
        }
        let meets = |other: &(f64, f64, f64, f64)| {
            other.0 < *right && *left < other.1 && other.2 < *bottom && *top < other.3
        };
        if let Some((other, _)) = texts[place + 1..].iter().find(|(_, other)| meets(other)) {
            return Some(format!("over each other: {shape:?} and {other:?}"));
        }
    }
    None
}

fn sample(experiment: &str, workload: &str, target: &str, metric: &str, block: u32, value: f64) -> Sample {
    let unit = if metric.ends_with("_bytes") { "bytes" } else { "ns" };
    Sample {
        experiment: experiment.into(),
        workload: workload.into(),
        metric: metric.into(),
        unit: unit.into(),
        ..Sample::ready(target, block, value)
    }
}

fn charts_of(samples: &[Sample]) -> Vec<Chart> {
    let charts = all(&summarise(samples, 1), samples);
    for chart in &charts {
        assert_eq!(muddle(&chart.picture), None, "{}", chart.name);
        chart.picture.svg().expect("finite shapes");
    }
    charts
}

#[test]
fn nothing_has_no_charts() {
    assert!(charts_of(&[]).is_empty());
}

#[test]
fn one_launch_of_one_target_has_charts_without_intervals() {
    let samples = [
        sample("startup", "noop", "native", "ready_ns", 0, 5e5),
        sample("startup", "noop", "native", "phase.exec_ns", 0, 5e5),
        sample("memory", "noop", "native", "pss_bytes", 0, 1e5),
        sample("overhead", "cpu-int", "native", "time_per_op_ns", 0, 3.0),
    ];
    let names: Vec<_> = charts_of(&samples).iter().map(|chart| chart.name).collect();
    assert_eq!(names, ["startup-phases", "startup-ecdf", "memory"], "native alone has no ratio");
}

#[test]
fn a_target_that_was_skipped_is_named_beside_the_others() {
    let ratio = |target, value| sample("overhead", "cpu-int", target, "time_per_op_ns", 0, value);
    let skipped = |workload: &str| Sample {
        value: None,
        status: Status::Skipped,
        workload: workload.into(),
        ..ratio("microvm", 0.0)
    };
    let mut samples =
        vec![ratio("native", 1.0), ratio("container", 1.0), skipped("cpu-int"), skipped("sha256")];
    let named = |samples: &[Sample]| {
        format!("{:?}", charts_of(samples)[0].picture.shapes).matches("\"microvm: skipped").count()
    };
    assert_eq!(named(&samples), 1, "once where it took part in nothing");
    samples.push(Sample { workload: "syscall".into(), ..ratio("microvm", 2.0) });
    assert_eq!(named(&samples), 2, "in its rows where it took part in others");
}

#[test]
fn many_long_phases_and_names_find_their_place() {
    let mut samples = Vec::new();
    for target in ["native", "container", "a-target-with-a-very-long-name-that-nobody-wants"] {
        samples.push(sample(
            "startup",
            "a-workload-with-a-very-long-name-of-some-user",
            target,
            "ready_ns",
            0,
            9e6,
        ));
        for phase in 0..14 {
            let name = format!("phase.phase_with_a_long_name_{phase}_ns");
            samples.push(sample(
                "startup",
                "a-workload-with-a-very-long-name-of-some-user",
                target,
                &name,
                0,
                5e5,
            ));
        }
    }
    assert_eq!(charts_of(&samples).len(), 2);
}

#[test]
fn every_target_is_named_in_the_legend_however_many_there_are() {
    let targets = ["native", "container", "microvm", "microvm-linux", "one-more", "and-another"];
    let samples: Vec<_> = targets
        .iter()
        .flat_map(|target| {
            let kinds = [("startup", "ready_ns"), ("memory", "pss_bytes"), ("overhead", "time_per_op_ns")];
            kinds.map(|(experiment, name)| sample(experiment, "noop", target, name, 0, 5e5))
        })
        .collect();
    for chart in charts_of(&samples) {
        let texts = format!("{:?}", chart.picture.shapes);
        for target in &targets[1..] {
            assert!(texts.contains(&format!("\"{target}")), "{target} in {}", chart.name);
        }
    }
}

#[test]
fn a_png_is_written_for_every_chart() {
    let samples = [sample("memory", "noop", "native", "pss_bytes", 0, 1e5)];
    let dir = tempfile::tempdir().expect("a temporary folder");
    for chart in charts_of(&samples) {
        let path = dir.path().join("chart.png");
        chart.picture.write_png(&path).expect("a writable folder");
        let head = std::fs::read(path).expect("just written");
        assert_eq!(head[1..4], *b"PNG");
    }
}

fn samples_of(values: Vec<(usize, usize, usize, u32, f64, u8)>) -> Vec<Sample> {
    let targets = ["native", "container", "microvm", "mine"];
    let workloads = ["noop", "sha256", "mem-latency", "x\u{0}y<&>"];
    let metrics = [
        ("startup", "ready_ns"),
        ("startup", "phase.clone_ns"),
        ("startup", "phase.exec_ns"),
        ("memory", "pss_bytes"),
        ("memory", metric::HOST_USED),
        ("overhead", "time_per_op_ns"),
    ];
    let made =
        values.into_iter().zip(0..).map(|((target, kind, workload, block, value, status), iteration)| {
            let (experiment, name) = metrics[kind];
            let made = sample(experiment, workloads[workload], targets[target], name, block, value);
            let made = Sample { iteration, ..made };
            match status {
                0 => Sample { value: None, status: Status::Failed, ..made },
                1 => Sample { value: None, status: Status::Skipped, ..made },
                _ => made,
            }
        });
    made.collect()
}

fn odd_values() -> impl Strategy<Value = Vec<(usize, usize, usize, u32, f64, u8)>> {
    proptest::collection::vec((0..4_usize, 0..6_usize, 0..4_usize, 0..9_u32, odd_value(), 0..6_u8), 1..90)
}

fn odd_value() -> impl Strategy<Value = f64> {
    prop_oneof![
        Just(0.0),
        Just(f64::MIN_POSITIVE),
        Just(1.0),
        1.0..1e3,
        1e3..1e12,
        Just(f64::MAX),
        Just(1e300)
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, ..ProptestConfig::default() })]

    #[test]
    fn charts_of_odd_data_neither_panic_nor_muddle_their_texts(values in odd_values()) {
        let samples = samples_of(values);
        for chart in all(&summarise(&samples, 1), &samples) {
            prop_assert_eq!(muddle(&chart.picture), None, "{}", chart.name);
            chart.picture.svg().expect("finite shapes");
        }
    }
}

proptest! {
    // A picture of some million pixels each.
    #![proptest_config(ProptestConfig { cases: 4, max_shrink_iters: 20, ..ProptestConfig::default() })]

    #[test]
    fn charts_of_odd_data_can_be_painted(values in odd_values()) {
        let samples = samples_of(values);
        let dir = tempfile::tempdir().expect("a temporary folder");
        for chart in all(&summarise(&samples, 1), &samples) {
            chart.picture.write_png(&dir.path().join("chart.png")).expect("finite shapes");
        }
    }
}

#[test]
fn a_ladder_has_a_chart_of_its_rungs_and_one_of_its_layers_costs() {
    let mut samples = Vec::new();
    for block in 0..8 {
        for (place, rung) in (0..).zip(crate::target::rung::names()) {
            let value = 1e5 * f64::from(place + 1) + f64::from(block * 7 % 5) * 9e3;
            samples.push(sample("ladder", "noop", rung, "ready_ns", block, value));
            samples.push(sample("ladder", "noop", rung, "exit_ns", block, value * 1.2));
            samples.push(sample("ladder", "noop", rung, "deferred_cpu_ns", block, -value));
            samples.push(sample("ladder", "syscall", rung, "time_per_op_ns", block, value / 1e6));
        }
    }
    let names: Vec<_> = charts_of(&samples).iter().map(|chart| chart.name).collect();
    assert_eq!(names, ["ladder", "ladder-costs"]);
}

#[test]
fn a_machine_whose_memory_is_filled_in_does_not_press_the_others_together() {
    let mut samples = Vec::new();
    for block in 0..8 {
        for (rung, value) in
            [("microvm:64MiB", 1e6), ("microvm:prefaulted", 3e7), ("microvm:huge-pages", 1.2e6)]
        {
            samples.push(sample("ladder", "noop", rung, "ready_ns", block, value + f64::from(block) * 9e3));
        }
    }
    let charts = charts_of(&samples);
    let has = |text: &str| {
        let shapes = &charts.iter().find(|chart| chart.name == "ladder").expect("a chart").picture.shapes;
        shapes.iter().any(|shape| matches!(shape, Shape::Text { text: found, .. } if found.contains(text)))
    };
    assert!(has("30.0 ms (cut)") && has("1.0 ms") && !has("1.03 ms (cut)") && !has("20 ms"));
}

#[test]
fn density_has_a_chart_of_the_hosts_memory_even_where_it_falls() {
    let mut samples = Vec::new();
    for (place, target) in (0_u32..).zip(["native", "container", "microvm"]) {
        for block in 0..7 {
            for number in [0, 1, 2, 32, 64] {
                let value = 5e8 + 3e5 * f64::from(number) * f64::from(place) - 1e5 * f64::from(block);
                let point = sample("density", "noop", target, "host_used_bytes", block, value);
                samples.push(Sample { iteration: number, ..point });
            }
        }
    }
    let names: Vec<_> = charts_of(&samples).iter().map(|chart| chart.name).collect();
    assert_eq!(names, ["density"]);
    samples.truncate(1);
    assert!(charts_of(&samples).is_empty(), "one point is no curve");
}

fn shapes_of<'a>(charts: &'a [Chart], name: &str) -> &'a [Shape] {
    &charts.iter().find(|chart| chart.name == name).expect("a chart").picture.shapes
}

fn has_text(shapes: &[Shape], text: &str) -> bool {
    shapes.iter().any(|shape| matches!(shape, Shape::Text { text: found, .. } if found.contains(text)))
}

#[test]
fn a_few_wild_launches_do_not_press_the_ladder_together() {
    let mut samples = Vec::new();
    for block in 0..8 {
        for (place, rung) in (0..).zip(crate::target::rung::names()) {
            // Two of eight: the median stays, and the interval, which is as wide as all launches, does not.
            let wild = if place % 2 == 0 && block > 5 { 3e9 } else { 0.0 };
            let value = 1e6 + 1e4 * f64::from(place) + wild;
            samples.push(sample("ladder", "noop", rung, "ready_ns", block, value));
            samples.push(sample("ladder", "noop", rung, "exit_ns", block, value * 1.2));
        }
    }
    let charts = charts_of(&samples);
    for name in ["ladder", "ladder-costs"] {
        let shapes = shapes_of(&charts, name);
        assert!(has_text(shapes, " ms") || has_text(shapes, " us"), "{name}");
        let pressed = [" s", " min"].iter().any(|unit| {
            shapes.iter().any(|shape| {
                matches!(shape, Shape::Text { text, .. } if text.ends_with(unit) && text.starts_with(|c: char| c.is_ascii_digit() || c == '-'))
            })
        });
        assert!(!pressed, "{name} has an axis of seconds");
    }
}

#[test]
fn a_layers_costs_have_a_panel_for_its_teardown_and_scales_that_can_be_read() {
    for scale in [1e4, 1.5e4, 2e4, 2.7e4, 3.5e4, 5e4, 7e4] {
        let mut samples = Vec::new();
        for block in 0..8 {
            for (place, rung) in (0..).zip(crate::target::rung::names()) {
                for name in ["ready_ns", "teardown_ns", "deferred_cpu_ns"] {
                    let value = scale * f64::from(40 + place * 7 % 11) + 1e3 * f64::from(block);
                    samples.push(sample("ladder", "noop", rung, name, block, value));
                }
                // The two panels that are left, for their room.
                let value = f64::from(place * 7 % 11) + f64::from(block);
                samples.push(sample("ladder", "noop", rung, metric::KERNEL, block, value));
                samples.push(sample("ladder", "syscall", rung, metric::TIME_PER_OP, block, value));
            }
        }
        let charts = charts_of(&samples);
        let shapes = shapes_of(&charts, "ladder-costs");
        let texts = |ends: &str| {
            let fits = |shape: &&Shape| matches!(shape, Shape::Text { text, .. } if text.ends_with(ends));
            shapes.iter().filter(fits).count()
        };
        assert_eq!(texts("teardown"), 1);
        assert!(texts(" us") + texts(" ms") >= 6, "{scale}: 0 alone is no scale");
    }
}

#[test]
fn a_ratio_beyond_the_axis_keeps_its_interval() {
    let mut samples = Vec::new();
    for block in 0..8_u32 {
        let slow = if block % 2 == 0 { 0.8 } else { 9.0 };
        for workload in ["near", "near-too", "far"] {
            let value = if workload == "far" { slow } else { 1.0 };
            samples.push(sample("overhead", workload, "native", "time_per_op_ns", block, 1.0));
            samples.push(sample("overhead", workload, "container", "time_per_op_ns", block, value));
        }
    }
    let charts = charts_of(&samples);
    let shapes = shapes_of(&charts, "overhead");
    assert!(has_text(shapes, "[0.800, 9.00]"), "the interval of the test is as meant: {shapes:?}");
    // The line from within the axis to its end, at which the arrow is: it crosses the line at 1.
    let one = shapes.iter().find_map(|shape| match shape {
        Shape::Text { text, at, .. } if text == "1.0" => Some(at.0),
        _ => None,
    });
    let one = one.expect("1 is named at the axis");
    let crosses = shapes.iter().any(|shape| match shape {
        Shape::Line { points, width, .. } => {
            *width == 1.5
                && points.len() == 2
                && points[0].1 == points[1].1
                && points[0].0 < one
                && points[1].0 > one
        }
        _ => false,
    });
    assert!(crosses, "no interval over 1: {shapes:?}");
}

#[test]
fn marks_at_no_instance_keep_clear_of_the_numbers_of_the_axis() {
    let mut samples = Vec::new();
    for target in ["native", "container", "microvm"] {
        for block in 0..7 {
            for number in [0, 1, 2] {
                let point =
                    sample("density", "noop", target, "host_used_bytes", block, 1e6 * f64::from(number));
                samples.push(Sample { iteration: number, ..point });
            }
        }
    }
    let charts = charts_of(&samples);
    let shapes = shapes_of(&charts, "density");
    let numbers = shapes.iter().filter_map(|shape| match shape {
        Shape::Text { text, align: Align::Right, .. } if text.ends_with("iB") => {
            extent(shape).map(|box_of| box_of.1)
        }
        _ => None,
    });
    let numbers_end = numbers.fold(0.0, f64::max);
    let legend_end = 100.0;
    let marks = shapes.iter().filter_map(|shape| match shape {
        Shape::Mark { at, radius, .. } if at.1 > legend_end + 30.0 => Some(at.0 - radius),
        _ => None,
    });
    let first = marks.fold(f64::INFINITY, f64::min);
    assert!(first > numbers_end + 2.0, "marks from {first}, numbers to {numbers_end}");
}
