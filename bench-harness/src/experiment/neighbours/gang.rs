//! The aggressors of one launch: started, watched, asked to end, and held to their limits.

use std::time::{Duration, Instant};

use workloads::Workload;
use workloads::aggressors::Aggressor;
use workloads::protocol::{Line, Parser};

use super::super::{Place, procfs, value};
use super::PATIENCE;
use crate::record::{Sample, metric};
use crate::runner::{LaunchFailure, Observed, Observer};
use crate::target::{Instance, Launch, Prepared, Target, TargetKind};
use crate::units::Bytes;
use crate::workload::{Image, Subject};

/// Memory that an aggressor may use, its own pages and the kernel's for it included.
const MEMORY_MIB: u64 = 128;
/// What one that needs no more is told to use.
const SOME_BYTES: u64 = 64 << 20;
/// Processes that it may have at a time, itself one of them.
const PROCESSES: u64 = 32;
/// What it is told instead where the target refuses more than that: so that it meets the limit.
const MANY_PROCESSES: u64 = 256;
/// What a virtual machine's monitor takes beside the guest's memory, generously.
const MONITOR_BYTES: u64 = 48 << 20;
/// A task may use one CPU; the clocks that say so tick a hundred times a second, and are read one after the other.
const CPU_PART: f64 = 1.1;
const CPU_SLACK: Duration = Duration::from_millis(40);
/// Memory that must stay to the host.
const SPARE_PART: u64 = 4;

/// One kind of aggressor in one kind of target.
pub struct Gang {
    aggressor: &'static Aggressor,
    kind: TargetKind,
    prepared: Box<dyn Prepared>,
    count: usize,
    /// Memory that one may take of the host.
    most_bytes: u64,
}

impl Gang {
    /// Prepares the aggressors, where all instances share `cpus`, or says why there are none: what the target lacks, or why
    /// they cannot be limited.
    ///
    /// # Errors
    /// That reason.
    pub fn prepare(
        image: &Image,
        target: &dyn Target,
        aggressor: &'static Aggressor,
        victim: &Workload,
        cpus: usize,
    ) -> Result<Self, String> {
        let kind = target.kind();
        let refused =
            |why: &str| Err(format!("refused: the aggressor cannot be limited on this host: {why}"));
        // What a target keeps of its memory for itself is not the aggressor's to use.
        let whole = 1 << 12;
        let kept = target.capabilities(whole).memory_bytes.map_or(0, |left| whole.saturating_sub(left >> 20));
        let mem_mib = MEMORY_MIB + kept;
        let capabilities = target.capabilities(mem_mib);
        let bytes = match aggressor.name {
            "memory" => (MEMORY_MIB << 20) - workloads::aggressors::OWN_BYTES,
            _ => SOME_BYTES,
        };
        if let Some(reason) = aggressor.needs(bytes).unmet_by(&capabilities) {
            return Err(format!("the aggressor {reason}"));
        }
        if let Some(reason) = target.limitation() {
            return refused(&reason);
        }
        let count = if aggressor.one_a_cpu { cpus } else { 1 };
        let own = if kind == TargetKind::Native || kind == TargetKind::Container { 0 } else { MONITOR_BYTES };
        let most_bytes = (mem_mib << 20) + own;
        enough_memory(most_bytes * count as u64 + victim.needs.memory_bytes)?;
        let processes = if kind == TargetKind::Container { MANY_PROCESSES } else { PROCESSES };
        let subject = Subject::of_real(image, aggressor.name, &aggressor.arguments(bytes, processes));
        let launch = Launch { pids: Some(PROCESSES), ..subject.launch(mem_mib) };
        let prepared = target.prepare(&launch).map_err(|error| crate::error::chain(&error))?;
        if let Some(reason) = prepared.limitation() {
            return refused(&reason);
        }
        Ok(Self { aggressor, kind, prepared, count, most_bytes })
    }

    /// Starts the aggressors, makes `measure`, and ends them. Whatever happens, none of them is left.
    ///
    /// # Errors
    /// Why there is no result: an aggressor that does not start, that ends too soon, or that went beyond its limits.
    pub fn beside(
        &self,
        observer: &mut Observer,
        measure: impl FnOnce(&mut Observer) -> Result<Observed, LaunchFailure>,
    ) -> Result<(Observed, Used), LaunchFailure> {
        // Dropped, and so killed, on every way out.
        let mut running = Vec::new();
        for _ in 0..self.count {
            let mut one = observer.until_output(&*self.prepared).map_err(|failure| self.failed(failure))?;
            observer.wait_for(&mut one, b"go\n", PATIENCE).map_err(|failure| self.failed(failure))?;
            let cpu = cpu_ns(&*one.instance);
            running.push((one, Instant::now(), cpu));
        }
        let seen = measure(observer)?;
        let mut used = Used::default();
        for (one, since, cpu_before) in &mut running {
            if let Ok(Some(end)) = one.instance.wait(Some(Duration::ZERO)) {
                let how =
                    std::iter::once(end.status.to_string()).chain(end.notes).collect::<Vec<_>>().join(", ");
                return Err(self.broken(&format!("it ended before the victim did: it {how}")));
            }
            let elapsed = since.elapsed();
            used.take(&look(&*one.instance, *cpu_before, elapsed));
        }
        for (one, ..) in running {
            let (output, end) = observer.finish(one, PATIENCE).map_err(|failure| self.failed(failure))?;
            if end.status != crate::target::Status::Exited(0) {
                return Err(self.broken(&format!("it {}", end.status)));
            }
            used.take_own(&output);
        }
        match self.beyond(&used) {
            Some(what) => Err(self.broken(&what)),
            None => Ok((seen, used)),
        }
    }

    /// What went beyond its limit, if anything.
    fn beyond(&self, used: &Used) -> Option<String> {
        let bytes = |bytes: u64| Bytes(bytes).to_string();
        let over = |what: &str, used: String, most: String| {
            Some(format!("it went beyond its limit: {used} of {what}, where {most} are allowed"))
        };
        let memory = used.memory_bytes.max(used.own_bytes);
        if let Some(memory) = memory.filter(|memory| *memory > self.most_bytes) {
            return over("memory", bytes(memory), bytes(self.most_bytes));
        }
        let processes = used.processes.max(used.own_processes);
        if let Some(processes) = processes.filter(|processes| *processes > PROCESSES) {
            return over("processes", processes.to_string(), PROCESSES.to_string());
        }
        // A fork bomb is not limited to a CPU, only in number.
        let share = used.cpu_share.filter(|share| *share > CPU_PART && !self.aggressor.forks);
        share.and_then(|share| over("a CPU", format!("{share:.2}"), "1".into()))
    }

    fn failed(&self, failure: LaunchFailure) -> LaunchFailure {
        match failure {
            LaunchFailure::Interrupted => LaunchFailure::Interrupted,
            other => self.broken(&other.to_string()),
        }
    }

    fn broken(&self, what: &str) -> LaunchFailure {
        LaunchFailure::Aggressor(format!("{} in {}: {what}", self.aggressor.name, self.kind))
    }
}

/// A host without the memory is no place for this.
fn enough_memory(needed: u64) -> Result<(), String> {
    let Some(available) = procfs::available() else {
        return Err("refused: it cannot be read how much memory the host has left".into());
    };
    if available - available / SPARE_PART >= needed {
        return Ok(());
    }
    Err(format!(
        "refused: aggressor and victim may use {}, and the host has {} left, of which a quarter shall stay free",
        Bytes(needed),
        Bytes(available)
    ))
}

/// What the aggressors of one launch used, each figure of the one that used most.
#[derive(Debug, Default, Clone, PartialEq)]
pub struct Used {
    /// The most memory at a time, as the host counts it: charged to the group, or resident.
    memory_bytes: Option<u64>,
    /// Processes at the end of the launch, as the host counts them.
    processes: Option<u64>,
    /// CPU time over elapsed time.
    cpu_share: Option<f64>,
    /// What it says itself.
    own_bytes: Option<u64>,
    own_processes: Option<u64>,
    /// How often it was refused what it asked for, by its own count and by its group's.
    refused: Option<u64>,
}

impl Used {
    fn take(&mut self, other: &Self) {
        self.memory_bytes = self.memory_bytes.max(other.memory_bytes);
        self.processes = self.processes.max(other.processes);
        self.refused = self.refused.max(other.refused);
        self.cpu_share = match (self.cpu_share, other.cpu_share) {
            (Some(one), Some(other)) => Some(one.max(other)),
            (one, other) => one.or(other),
        };
    }

    fn take_own(&mut self, output: &[u8]) {
        Parser::new().push(output, |line| {
            let Line::Sample { name, value, .. } = line else { return };
            #[expect(
                clippy::cast_possible_truncation,
                clippy::cast_sign_loss,
                reason = "not negative by the protocol, and a cast saturates"
            )]
            let number = Some(value as u64);
            match name {
                "used" => self.own_bytes = self.own_bytes.max(number),
                "processes" => self.own_processes = self.own_processes.max(number),
                "refused" => self.refused = self.refused.max(number),
                _ => {}
            }
        });
    }

    /// Rows that show that the limits held.
    pub(super) fn rows(&self, place: &Place) -> Vec<Sample> {
        let row = |name: &str, unit: &str, number: Option<f64>| Some(place.row(name, unit, 0, number?));
        [
            row(metric::AGGRESSOR_MEMORY, "bytes", self.memory_bytes.max(self.own_bytes).map(value)),
            row(metric::AGGRESSOR_PROCESSES, "processes", self.processes.max(self.own_processes).map(value)),
            row(metric::AGGRESSOR_CPU, "CPUs", self.cpu_share),
            row(metric::AGGRESSOR_REFUSED, "times", self.refused.map(value)),
        ]
        .into_iter()
        .flatten()
        .collect()
    }
}

/// What the host says of a running one.
fn look(instance: &dyn Instance, cpu_before: Option<u64>, elapsed: Duration) -> Used {
    let spent = instance.spent();
    let pids = instance.pids();
    let resident = pids.iter().filter_map(|pid| procfs::peak_resident(*pid)).max();
    let own = pids.len() as u64;
    let cpu = cpu_ns(instance).zip(cpu_before).map(|(now, before)| now.saturating_sub(before));
    Used {
        memory_bytes: instance.cgroup_peak_bytes().or(resident),
        processes: pids.iter().filter_map(|pid| procfs::children(*pid)).max().map(|children| own + children),
        cpu_share: cpu.map(|cpu| {
            Duration::from_nanos(cpu).saturating_sub(CPU_SLACK).as_secs_f64()
                / elapsed.as_secs_f64().max(1e-9)
        }),
        refused: spent.pids_refused,
        ..Used::default()
    }
}

/// CPU time of an instance so far.
fn cpu_ns(instance: &dyn Instance) -> Option<u64> {
    let of_tasks = || Some(instance.pids().iter().filter_map(|pid| procfs::cpu_ns(*pid)).sum());
    instance.spent().cpu_ns.or_else(of_tasks)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::target::native::Native;

    fn gang(name: &str) -> Gang {
        let aggressor =
            workloads::aggressors::all().iter().find(|one| one.name == name).expect("it is listed");
        let prepared = Native.prepare(&Subject::of_real(&Image::ours().expect("memory"), "", &[]).launch(64));
        Gang {
            aggressor,
            kind: TargetKind::Native,
            prepared: prepared.expect("a bare process can be prepared anywhere"),
            count: 1,
            most_bytes: 1 << 20,
        }
    }

    #[test]
    fn what_goes_beyond_a_limit_is_named_with_both_numbers() {
        let within = Used {
            memory_bytes: Some(1 << 20),
            processes: Some(PROCESSES),
            cpu_share: Some(1.0),
            ..Used::default()
        };
        assert_eq!(gang("cpu").beyond(&within), None);
        let memory = Used { own_bytes: Some(3 << 20), ..within.clone() };
        let said = gang("memory").beyond(&memory).expect("it is beyond");
        assert!(said.contains("3.00 MiB of memory, where 1.00 MiB"), "{said}");
        let processes = Used { processes: Some(PROCESSES + 1), ..within.clone() };
        assert!(gang("fork").beyond(&processes).is_some_and(|said| said.contains("33 of processes")));
        let cpu = Used { cpu_share: Some(1.5), ..within };
        assert!(gang("cpu").beyond(&cpu).is_some());
        assert_eq!(gang("fork").beyond(&cpu), None, "its number is what is limited");
    }

    #[test]
    fn one_comes_to_each_cpu_of_the_instances_however_few_our_own_are() {
        let image = Image::ours().expect("memory");
        let victim = workloads::catalogue::find("syscall").expect("it is listed");
        for (name, expected) in [("cpu", 3), ("fork", 1)] {
            let aggressor = workloads::aggressors::all().iter().find(|one| one.name == name).expect("listed");
            match Gang::prepare(&image, &Native, aggressor, victim, 3) {
                Ok(gang) => assert_eq!(gang.count, expected, "{name}"),
                Err(why) => assert!(why.contains("the host has"), "only too little memory refuses it: {why}"),
            }
        }
    }

    #[test]
    fn the_figures_are_those_of_the_one_that_used_most() {
        let mut used = Used::default();
        used.take(&Used { memory_bytes: Some(5), cpu_share: Some(0.5), ..Used::default() });
        used.take(&Used { memory_bytes: Some(3), cpu_share: Some(0.9), ..Used::default() });
        used.take_own(b"sample used bytes 7\nsample refused count 2\nsample processes count 1\n");
        assert_eq!(
            used,
            Used {
                memory_bytes: Some(5),
                cpu_share: Some(0.9),
                own_bytes: Some(7),
                own_processes: Some(1),
                refused: Some(2),
                processes: None
            }
        );
    }

    #[test]
    fn more_memory_than_the_host_has_is_refused_with_both_numbers() {
        let said = enough_memory(u64::MAX / 2).expect_err("no host has so much");
        assert!(said.starts_with("refused: ") && said.contains("the host has"), "{said}");
        assert_eq!(enough_memory(1), Ok(()));
    }
}
