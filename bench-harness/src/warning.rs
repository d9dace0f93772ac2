//! Conditions that disturb a measurement or its reading: data here, advice in the text.
//!
//! A warning is kept in `run.json` with the facts it was made from, so that a report can word it anew.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::units::{Bytes, format_percent, plural, significant};

/// One condition, with the facts that it was seen by.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case", deny_unknown_fields)]
pub enum Warning {
    /// The harness was built without optimisation.
    DebugBuild,
    /// The CPU frequency may fall while measuring.
    Governor {
        /// The governor in force.
        governor: String,
    },
    /// The CPU frequency may rise by itself.
    Turbo,
    /// Two threads share a core.
    Smt,
    /// Huge pages come and go by themselves.
    TransparentHugePages {
        /// The setting in force.
        setting: String,
    },
    /// Equal pages of virtual machines are merged, which costs time and hides memory.
    Ksm,
    /// Others were running when the run began.
    Load {
        /// One-minute load average.
        load_1m: f64,
        /// CPUs that this process may use.
        cpus: u32,
    },
    /// The hypervisor below took CPU time away during the run.
    Steal {
        /// Part of the CPU time that was taken, 0 to 1.
        share: f64,
    },
    /// Memory was on swap when the run began.
    Swap {
        /// How much.
        used_bytes: u64,
    },
    /// Little memory was left when the run began.
    LowMemory {
        /// What was available.
        available_bytes: u64,
    },
    /// One CPU has to serve harness and instance.
    FewCpus {
        /// CPUs that this process may use.
        cpus: u32,
    },
    /// The host is a virtual machine itself.
    Virtualised {
        /// What KVM stands on here, where known.
        kvm: Option<String>,
    },
    /// The kernel reads its time from a slow clock.
    ClockSource {
        /// The clock source in force.
        source: String,
    },
    /// The container ran without limits.
    NoCgroup {
        /// Why no cgroup could be used.
        reason: String,
    },
    /// Time inside and time outside differ for some samples.
    ClocksDisagree {
        /// Target of the samples.
        target: String,
        /// Workload of the samples.
        workload: String,
        /// How many samples.
        samples: u64,
        /// Largest difference, as part of the longer of the two.
        worst: f64,
    },
    /// Tasks of the host waited before the run began (pressure stall information).
    Pressure {
        /// What they waited for.
        what: String,
        /// In how many percent of the time.
        percent: f64,
    },
    /// Address space layout randomisation is not on.
    FixedLayout,
    /// The host at the end was not as it was at the beginning.
    HostChanged {
        /// What changed, one clause each.
        changes: Vec<String>,
    },
    /// Launches became slower or faster over the run.
    Drift {
        /// Which, and by how much.
        cells: Vec<String>,
    },
    /// Launches came in two kinds.
    TwoKinds {
        /// Which, and how the kinds differ.
        cells: Vec<String>,
    },
    /// Launches were like the ones before them.
    Alike {
        /// Which, and how many independent launches tell as much.
        cells: Vec<String>,
    },
    /// Harness and instances were to be on separate cores, and are not.
    NotPinned {
        /// Why not.
        reason: String,
    },
    /// Hardware was emulated: no time means anything.
    EmulatedHardware,
    /// Something to know that no other variant is for.
    Remark {
        /// What was seen.
        fact: String,
        /// What to do about it; may be empty.
        advice: String,
    },
}

impl Warning {
    /// What was seen, one clause without a full stop.
    pub fn fact(&self) -> String {
        match self {
            Self::DebugBuild => "this is a debug build".into(),
            Self::Governor { governor } => format!("the CPU governor is {governor}"),
            Self::Turbo => "turbo is on, so the frequency depends on temperature and neighbours".into(),
            Self::Smt => "two hardware threads share each core".into(),
            Self::TransparentHugePages { setting } => format!("transparent huge pages are set to {setting}"),
            Self::Ksm => "KSM merges equal pages, which costs time and hides memory".into(),
            Self::Load { load_1m, cpus } => {
                format!("the load was {} on {cpus} CPUs before the run began", significant(*load_1m))
            }
            Self::Steal { share } => {
                format!("the hypervisor below took {} of the CPU time", format_percent(*share))
            }
            Self::Swap { used_bytes } => format!("{} were on swap", Bytes(*used_bytes)),
            Self::LowMemory { available_bytes } => {
                format!("only {} of memory were available", Bytes(*available_bytes))
            }
            Self::FewCpus { cpus } => format!("harness and instances share {cpus} CPU"),
            Self::Virtualised { kvm: Some(kvm) } => {
                format!("the host is a virtual machine itself, and its KVM is of the kind {kvm}")
            }
            Self::Virtualised { kvm: None } => "the host is a virtual machine itself".into(),
            Self::ClockSource { source } => format!("the kernel's clock source is {source}"),
            Self::NoCgroup { reason } => format!("the container ran without cgroup limits: {reason}"),
            Self::ClocksDisagree { target, workload, samples, worst } => format!(
                "the inner and the outer clock differ in {} of {workload} in {target}, by up to {}",
                plural(usize::try_from(*samples).unwrap_or(usize::MAX), "sample", "samples"),
                format_percent(*worst)
            ),
            Self::Pressure { what, percent } => {
                format!(
                    "tasks waited for {what} in {} % of the time before the run began",
                    significant(*percent)
                )
            }
            Self::FixedLayout => {
                "address space layout randomisation is off, so every launch has the same layout".into()
            }
            Self::HostChanged { changes } => {
                format!("the host changed during the run: {}", changes.join(", "))
            }
            Self::Drift { cells } => {
                format!("times drifted from the first to the last third of {}", cells.join(", "))
            }
            Self::TwoKinds { cells } => format!("launches came in two kinds in {}", cells.join(", ")),
            Self::Alike { cells } => {
                format!("launches resembled the ones before them in {}", cells.join(", "))
            }
            Self::NotPinned { reason } => {
                format!("harness and instances are not on separate cores: {reason}")
            }
            Self::EmulatedHardware => "the hardware was emulated, so no time here means anything".into(),
            Self::Remark { fact, .. } => fact.clone(),
        }
    }

    /// What to do about it, one clause; empty where nothing can be done.
    pub fn advice(&self) -> &str {
        match self {
            Self::DebugBuild => "build with `cargo build --release`",
            Self::Governor { .. } => "set it with `cpupower frequency-set -g performance`",
            Self::Turbo => "switch it off where the spread matters more than the speed",
            Self::Smt => {
                "switch it off with `echo off > /sys/devices/system/cpu/smt/control`, or compare medians only"
            }
            Self::TransparentHugePages { .. } => {
                "set /sys/kernel/mm/transparent_hugepage/enabled to madvise for steadier memory figures"
            }
            Self::Ksm => "stop it with `echo 0 > /sys/kernel/mm/ksm/run`",
            Self::Load { .. } => "stop other work and run again",
            Self::Steal { .. } => "run at another hour or on another host, and compare only within one run",
            Self::Swap { .. } => "free memory and run `swapoff -a` before measuring memory",
            Self::LowMemory { .. } => "free memory before measuring it",
            Self::FewCpus { .. } => {
                "give it at least two, so that the harness does not compete with what it measures"
            }
            Self::Virtualised { .. } => {
                "the costs of virtual machines here are those of nested ones; measure on bare metal for a general claim"
            }
            Self::ClockSource { .. } => {
                "reading it costs a system call; prefer tsc or kvm-clock where they are stable"
            }
            Self::NoCgroup { .. } => "run as root, or have a cgroup delegated, to measure with limits",
            Self::ClocksDisagree { .. } => {
                "prefer the outer figure (host_wall_ns) for these, or raise the work of a repetition"
            }
            Self::Pressure { .. } => "stop other work and run again",
            Self::FixedLayout => {
                "one layout may be a lucky one: set /proc/sys/kernel/randomize_va_space to 2, so that launches sample them"
            }
            Self::HostChanged { .. } => "the launches before and after are of two hosts; run again",
            Self::Drift { .. } => {
                "targets are compared block by block and stay comparable, but do not compare these with another run; let \
                 the host come to rest and run again"
            }
            Self::TwoKinds { .. } => {
                "a median says little there: look at the distribution, and for what alternates (CPU placement, huge pages, \
                 a neighbour)"
            }
            Self::Alike { .. } => {
                "the intervals are narrower than they should be; stop other work, or spread the launches over more blocks \
                 with a longer profile"
            }
            Self::NotPinned { .. } => "run on a host with at least two cores, or leave --pin out",
            Self::EmulatedHardware => "run on real hardware for times",
            Self::Remark { advice, .. } => advice,
        }
    }
}

impl fmt::Display for Warning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.fact())?;
        match self.advice() {
            "" => Ok(()),
            advice => write!(f, "; {advice}"),
        }
    }
}

/// As many as tell something of their own: where clocks disagree for several workloads of a target, one warning tells of all.
pub fn condensed<'a>(warnings: impl IntoIterator<Item = &'a Warning>) -> Vec<Warning> {
    let mut told: Vec<(Warning, usize)> = Vec::new();
    for warning in warnings {
        let Warning::ClocksDisagree { target, samples, worst, .. } = warning else {
            told.push((warning.clone(), 1));
            continue;
        };
        let of_target = told.iter_mut().find_map(|(told, workloads)| match told {
            Warning::ClocksDisagree { target: other, workload, samples, worst } if other == target => {
                Some((workload, samples, worst, workloads))
            }
            _ => None,
        });
        let Some((of, so_far, worst_yet, workloads)) = of_target else {
            told.push((warning.clone(), 1));
            continue;
        };
        *workloads += 1;
        *of = plural(*workloads, "workload", "workloads");
        *so_far = so_far.saturating_add(*samples);
        *worst_yet = worst_yet.max(*worst);
    }
    told.into_iter().map(|(warning, _)| warning).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_warning_keeps_its_facts_in_json_and_words_them_with_advice() {
        let load = Warning::Load { load_1m: 3.5, cpus: 2 };
        let json = serde_json::to_string(&load).expect("plain data");
        assert_eq!(json, r#"{"kind":"load","load_1m":3.5,"cpus":2}"#);
        assert_eq!(serde_json::from_str::<Warning>(&json).expect("its own text"), load);
        assert_eq!(
            load.to_string(),
            "the load was 3.50 on 2 CPUs before the run began; stop other work and run again"
        );
    }

    #[test]
    fn clocks_that_disagree_in_several_workloads_of_a_target_are_one_warning() {
        let clocks = |target: &str, workload: &str, samples, worst| Warning::ClocksDisagree {
            target: target.into(),
            workload: workload.into(),
            samples,
            worst,
        };
        let all = [
            clocks("native", "alloc", 2, 0.1),
            Warning::FixedLayout,
            clocks("native", "sha256", 3, 0.4),
            clocks("microvm", "alloc", 1, 0.2),
            clocks("native", "syscall", 1, 0.3),
        ];
        let told = condensed(&all);
        let expected = [
            clocks("native", "3 workloads", 6, 0.4),
            Warning::FixedLayout,
            clocks("microvm", "alloc", 1, 0.2),
        ];
        assert_eq!(told, expected);
        let text = told[0].to_string();
        assert!(
            text.starts_with("the inner and the outer clock differ in 6 samples of 3 workloads in native"),
            "{text}"
        );
    }

    #[test]
    fn a_remark_without_advice_ends_with_the_fact() {
        let remark = Warning::Remark { fact: "seen".into(), advice: String::new() };
        assert_eq!(remark.to_string(), "seen");
    }
}
