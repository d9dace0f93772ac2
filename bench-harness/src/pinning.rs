//! Harness and instances on separate cores (`--pin`).
//!
//! The thread that starts an instance goes to the instances' CPUs just before the window opens, so that the instance inherits
//! them from its first instruction on, in every target alike, and back to the harness's own as soon as the instance is started:
//! from then on the instance has its CPUs to itself, and we wait on ours. Migrating back is one system call inside the window,
//! made while the instance already runs.

use std::fs;
use std::io;

use container_backend::cpu_ranges;
use nix::sched::{CpuSet, sched_getaffinity, sched_setaffinity};
use nix::unistd::Pid;
use serde::{Deserialize, Serialize};

/// Who runs where, for the recording.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Placement {
    /// CPUs of the harness.
    pub harness: Vec<usize>,
    /// CPUs of the instances.
    pub instances: Vec<usize>,
}

/// The same, ready to be used.
#[derive(Debug, Clone)]
pub struct Pinning {
    /// Who runs where.
    pub placement: Placement,
    /// What the harness might use before.
    whole: CpuSet,
    harness: CpuSet,
    instances: CpuSet,
}

impl Pinning {
    /// Divides the CPUs that we may use, and goes to the harness's own.
    ///
    /// # Errors
    /// Why they cannot be divided.
    pub fn install() -> Result<Self, String> {
        let whole = sched_getaffinity(Pid::from_raw(0))
            .map_err(|error| format!("the CPUs that may be used cannot be read: {error}"))?;
        let allowed: Vec<usize> =
            (0..CpuSet::count()).filter(|&cpu| whole.is_set(cpu).unwrap_or(false)).collect();
        let placement = divide(&allowed, siblings)?;
        let set = |cpus: &[usize]| {
            let mut set = CpuSet::new();
            cpus.iter()
                .try_for_each(|&cpu| set.set(cpu))
                .map(|()| set)
                .map_err(|error| format!("a CPU has no place in a set: {error}"))
        };
        let (harness, instances) = (set(&placement.harness)?, set(&placement.instances)?);
        let pinning = Self { placement, whole, harness, instances };
        pinning.to_harness().map_err(|error| format!("the harness cannot be moved: {error}"))?;
        Ok(pinning)
    }

    /// Moves the calling thread, and what it starts from now on, to the instances' CPUs.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn to_instances(&self) -> io::Result<()> {
        Ok(sched_setaffinity(Pid::from_raw(0), &self.instances)?)
    }

    /// Moves the calling thread to the harness's CPUs.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn to_harness(&self) -> io::Result<()> {
        Ok(sched_setaffinity(Pid::from_raw(0), &self.harness)?)
    }

    /// Gives the calling thread all CPUs back that it had before.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn release(&self) -> io::Result<()> {
        Ok(sched_setaffinity(Pid::from_raw(0), &self.whole)?)
    }
}

/// The first core for the harness, all others for the instances. Two threads of one core are no two cores: they share what is
/// measured.
fn divide(allowed: &[usize], siblings: impl Fn(usize) -> Vec<usize>) -> Result<Placement, String> {
    let Some(&first) = allowed.first() else { return Err("no CPU may be used".into()) };
    let core = siblings(first);
    let (harness, instances): (Vec<usize>, Vec<usize>) =
        allowed.iter().partition(|&cpu| *cpu == first || core.contains(cpu));
    if !instances.is_empty() {
        return Ok(Placement { harness, instances });
    }
    Err(match harness.len() {
        1 => "only one CPU may be used".into(),
        threads => format!("the {threads} CPUs that may be used are threads of one core"),
    })
}

/// The CPUs of the same core; none where the kernel does not say.
fn siblings(cpu: usize) -> Vec<usize> {
    let file = format!("/sys/devices/system/cpu/cpu{cpu}/topology/thread_siblings_list");
    let ranges = fs::read_to_string(file).ok().and_then(|list| cpu_ranges(&list)).unwrap_or_default();
    let cpus = ranges.into_iter().flatten().filter_map(|cpu| usize::try_from(cpu).ok());
    cpus.take_while(|&cpu| cpu < CpuSet::count()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn two_threads_a_core(cpu: usize) -> Vec<usize> {
        vec![cpu & !1, cpu | 1]
    }

    #[test]
    fn the_first_core_is_the_harnesss_with_all_its_threads() {
        let found = divide(&[0, 1, 2, 3], two_threads_a_core);
        assert_eq!(found, Ok(Placement { harness: vec![0, 1], instances: vec![2, 3] }));
        let found = divide(&[3, 5], |_| Vec::new());
        assert_eq!(found, Ok(Placement { harness: vec![3], instances: vec![5] }));
    }

    #[test]
    fn one_core_cannot_be_divided_and_says_why() {
        assert!(divide(&[4], |_| Vec::new()).is_err_and(|why| why.contains("only one CPU")));
        assert!(divide(&[4, 5], two_threads_a_core).is_err_and(|why| why.contains("threads of one core")));
        assert!(divide(&[], two_threads_a_core).is_err());
    }

    #[test]
    fn what_was_divided_is_whole_again_after_its_release() {
        // Affinity is a thread's own, and a test's is not shared.
        let own = || sched_getaffinity(Pid::from_raw(0)).expect("our own");
        let before = own();
        match Pinning::install() {
            Ok(pinning) => {
                assert_ne!(own(), before);
                pinning.release().expect("they were ours");
            }
            Err(why) => assert!(why.contains("one C") || why.contains("one core"), "{why}"),
        }
        assert_eq!(own(), before);
    }
}
