//! In which order launches are made, shown with targets that play a script and note what is asked of them.

mod common;

use std::time::Duration;

use bench_harness::experiment::{Bench, Participant, Stop, density, memory, overhead, startup};
use bench_harness::plan::Profile;
use bench_harness::progress::Progress;
use bench_harness::record::{Sample, Status};
use bench_harness::runner::Observer;
use bench_harness::target::fake::{Act, Fake, Journal, Script};
use bench_harness::workload::{Image, Subject};

fn startup_alone(bench: &mut Bench<'_>, subject: &Subject) -> Result<(), Stop> {
    startup::measure(bench, &[subject], None)
}

fn well() -> Script {
    Script::Play(vec![Act::Print(b"ready\n".to_vec()), Act::Exit(0)])
}

struct Scenario {
    journal: Journal,
    participants: Vec<Participant>,
    seed: u64,
    blocks: u32,
}

impl Scenario {
    fn new(seed: u64) -> Self {
        Self { journal: Journal::default(), participants: Vec::new(), seed, blocks: 6 }
    }

    fn with(mut self, name: &str, scripts: Vec<Script>) -> Self {
        let target = Box::new(Fake::new(name, scripts, &self.journal));
        self.participants.push(Participant { name: name.into(), target });
        self
    }

    fn run(&self, experiment: fn(&mut Bench<'_>, &Subject) -> Result<(), Stop>) -> Vec<Sample> {
        let mut rows = Vec::new();
        let mut effort = Profile::Quick.effort();
        effort.startup_blocks = self.blocks;
        effort.memory_blocks = 2;
        effort.marginal_rounds = 1;
        effort.marginal_instances = 3;
        let mut bench = Bench {
            participants: &self.participants,
            seed: self.seed,
            effort,
            mem_mib: 64,
            observer: &mut Observer::new(None, Duration::from_secs(2)).expect("an observer"),
            sink: &mut rows,
            progress: &mut Progress::silent(),
            ended: Vec::new(),
        };
        let image = Image::ours().expect("sealed memory");
        let noop = workloads::Invocation::of(&workloads::catalogue::all()[0]);
        experiment(&mut bench, &Subject::ours(&image, &noop)).expect("nothing stops it");
        rows
    }

    fn spawns(&self) -> Vec<String> {
        let entries = self.journal.entries().into_iter();
        entries.filter_map(|entry| entry.strip_prefix("spawn ").map(str::to_owned)).collect()
    }
}

fn three(seed: u64) -> Scenario {
    Scenario::new(seed).with("a", vec![well()]).with("b", vec![well()]).with("c", vec![well()])
}

#[test]
fn every_block_holds_each_target_once_in_shuffled_order() {
    let scenario = three(5);
    scenario.run(startup_alone);
    let spawns = scenario.spawns();
    assert_eq!(spawns.len(), 3 * 7, "six blocks and a warm-up: {spawns:?}");
    let mut orders: Vec<String> = spawns.chunks(3).map(|block| block.concat()).collect();
    for order in &orders {
        let mut names: Vec<char> = order.chars().collect();
        names.sort_unstable();
        assert_eq!(names, ['a', 'b', 'c']);
    }
    orders.dedup();
    assert!(orders.len() > 1, "not always the same order");
}

#[test]
fn the_same_seed_gives_the_same_order_and_another_one_does_not() {
    let spawns = |seed| {
        let scenario = three(seed);
        scenario.run(startup_alone);
        scenario.spawns()
    };
    assert_eq!(spawns(1), spawns(1));
    assert_ne!(spawns(1), spawns(2));
}

#[test]
fn an_instance_is_gone_before_the_next_one_is_started() {
    let scenario = three(9);
    scenario.run(startup_alone);
    let entries = scenario.journal.entries();
    for pair in entries.chunks(2) {
        let (spawned, gone) = (pair[0].strip_prefix("spawn "), pair[1].strip_prefix("gone "));
        assert!(spawned.is_some() && spawned == gone, "{pair:?}");
    }
}

#[test]
fn the_first_launches_are_kept_and_marked_as_warm_up() {
    let rows = three(3).run(startup_alone);
    let ready: Vec<&Sample> = rows.iter().filter(|row| row.metric == "ready_ns").collect();
    assert_eq!(ready.len(), 21);
    for row in ready {
        let expected = if row.block == 0 { Status::Warmup } else { Status::Ok };
        assert_eq!((row.status, row.value.is_some()), (expected, true), "{row:?}");
    }
}

#[test]
fn the_phases_of_every_launch_add_up_to_its_ready_time() {
    let rows = three(4).run(startup_alone);
    for ready in rows.iter().filter(|row| row.metric == "ready_ns") {
        let same = |row: &&Sample| (row.block, row.order) == (ready.block, ready.order);
        let phases: f64 = rows
            .iter()
            .filter(same)
            .filter(|row| row.metric.starts_with("phase."))
            .filter_map(|row| row.value)
            .sum();
        assert_eq!(Some(phases), ready.value);
    }
}

#[test]
fn a_failing_target_leaves_rows_with_the_reason_and_the_others_go_on() {
    let bad: [(Vec<Script>, &str); 6] = [
        (vec![Script::FailToStart("no right".into())], "no right"),
        (vec![Script::Play(vec![Act::Exit(0)])], "printed nothing"),
        (vec![Script::Play(vec![Act::Print(b"hello\n".to_vec())])], "not `ready`"),
        (vec![Script::Play(vec![Act::Print(b"ready\n".to_vec()), Act::Die(11)])], "SIGSEGV"),
        (vec![Script::Play(vec![Act::Print(b"ready\n".to_vec()), Act::Hang])], "still running"),
        (vec![Script::Play(vec![Act::Print(b"ready\n".to_vec()), Act::Flood(100 << 20)])], "floods"),
    ];
    for (scripts, why) in bad {
        let scenario = Scenario::new(1).with("good", vec![well()]).with("bad", scripts);
        let rows = scenario.run(startup_alone);
        let good = rows.iter().filter(|row| row.target == "good" && row.metric == "exit_ns");
        assert_eq!(good.filter(|row| row.status == Status::Ok).count(), 6, "{why}");
        let bad: Vec<&Sample> = rows.iter().filter(|row| row.target == "bad").collect();
        assert!(bad.iter().all(|row| row.status == Status::Failed && row.value.is_none()), "{why}: {bad:?}");
        assert!(bad.iter().all(|row| row.detail.contains(why)), "{why}: {bad:?}");
        assert!(bad.last().is_some_and(|row| row.detail.contains("not tried again")), "{why}: {bad:?}");
        assert_eq!(bad.len(), 2, "given up after the second: {why}");
    }
}

#[test]
fn one_failure_does_not_end_a_targets_part() {
    let once = vec![Script::FailToStart("just now".into()), well()];
    let rows = Scenario::new(1).with("a", once).run(startup_alone);
    assert_eq!(rows.iter().filter(|row| row.status == Status::Failed).count(), 1);
    assert_eq!(rows.iter().filter(|row| row.metric == "ready_ns" && row.status == Status::Ok).count(), 6);
}

#[test]
fn a_curve_has_a_point_for_each_number_of_instances_that_run_at_the_same_time() {
    let idle = Script::Play(vec![Act::Print(b"ready\n".to_vec()), Act::Hang]);
    let scenario = Scenario::new(1).with("a", vec![idle]);
    let rows = scenario.run(memory::measure);
    let points: Vec<u32> =
        rows.iter().filter(|row| row.metric == "host_used_bytes").map(|row| row.iteration).collect();
    assert_eq!(points, [0, 1, 2, 3]);
    let entries = scenario.journal.entries();
    let curve = &entries[entries.len() - 6..];
    assert_eq!(curve, ["spawn a", "spawn a", "spawn a", "gone a", "gone a", "gone a"]);
    assert_eq!(rows.iter().filter(|row| row.metric == "pss_bytes" && row.status == Status::Ok).count(), 2);
}

#[test]
fn what_cannot_be_prepared_is_a_row_with_the_reason_in_every_experiment() {
    type Measure = fn(&mut Bench<'_>, &Subject) -> Result<(), Stop>;
    fn two_at_once(bench: &mut Bench<'_>, subject: &Subject) -> Result<(), Stop> {
        startup::measure(bench, &[subject], Some(2))
    }
    fn dense(bench: &mut Bench<'_>, subject: &Subject) -> Result<(), Stop> {
        density::measure(bench, subject, density::Limits { instances: 2, budget_bytes: 64 << 20 })
    }
    fn of_the_user(bench: &mut Bench<'_>, subject: &Subject) -> Result<(), Stop> {
        overhead::measure_user(bench, &[subject])
    }
    let measures: [(Measure, &[&str]); 4] = [
        (two_at_once, &["ready_ns", "at_once_2.ready_ns"]),
        (memory::measure, &["pss_bytes"]),
        (dense, &["host_used_bytes"]),
        (of_the_user, &["time_per_op_ns"]),
    ];
    for (measure, metrics) in measures {
        let broken = vec![Script::FailToPrepare("no such layer".into())];
        let rows = Scenario::new(1).with("broken", broken).run(measure);
        let said: Vec<&str> = rows.iter().map(|row| row.metric.as_str()).collect();
        assert_eq!(said, metrics, "once, and nothing else");
        for row in rows {
            assert!(row.status != Status::Ok && row.detail.contains("no such layer"), "{row:?}");
        }
    }
}

#[test]
fn a_batch_that_is_called_cold_is_made_cold_or_fails() {
    // Sealed memory cannot be evicted, so that what is made cold from it must fail.
    fn two_at_once(bench: &mut Bench<'_>, subject: &Subject) -> Result<(), Stop> {
        let memory = bench_harness::sealed::seal(&subject.bytes().expect("its own")).expect("memory");
        startup::measure(bench, &[&subject.cold_from_file(&memory)], Some(2))
    }
    let rows = Scenario::new(1).with("a", vec![well()]).run(two_at_once);
    let batches: Vec<&Sample> = rows.iter().filter(|row| row.metric == "at_once_2.ready_ns").collect();
    assert_eq!(batches.len(), 2, "given up after the second: {batches:?}");
    for row in batches {
        assert!(row.status == Status::Failed && row.detail.contains("cannot be started cold"), "{row:?}");
    }
}
