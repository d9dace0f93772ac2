//! `doctor`: what this host can run, what it cannot and why, and what disturbs measurements.

use serde::Serialize;

use super::print;
use crate::cli::DoctorArgs;
use crate::error::{DONE, HarnessError};
use crate::host::{self, kvm, noise};
use crate::record::Host;
use crate::target::{self, TargetKind};

#[derive(Serialize)]
struct Findings {
    targets: Vec<TargetFinding>,
    kvm: KvmFinding,
    id_maps: IdMapsFinding,
    disturbances: Vec<Disturbance>,
    host: Host,
}

#[derive(Serialize)]
struct TargetFinding {
    name: &'static str,
    available: bool,
    /// Why not.
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<String>,
    /// What it has to do without.
    #[serde(skip_serializing_if = "Option::is_none")]
    limitation: Option<String>,
}

#[derive(Serialize)]
struct KvmFinding {
    kind: String,
    meaning: String,
    /// What a machine showed that was made for it: how its ring 0 runs, and what an exit costs.
    #[serde(skip_serializing_if = "Option::is_none")]
    measured: Option<Measured>,
}

/// Whom there are in a container with a user namespace and a root of its own.
#[derive(Serialize)]
struct IdMapsFinding {
    /// Inside, outside, how many, as newuidmap(1) is told; and so on.
    #[serde(skip_serializing_if = "Option::is_none")]
    users: Option<String>,
    /// Why there is the caller alone.
    #[serde(skip_serializing_if = "Option::is_none")]
    single_because: Option<String>,
}

impl IdMapsFinding {
    fn new(found: Result<String, String>) -> Self {
        Self { users: found.as_ref().ok().cloned(), single_because: found.err() }
    }

    fn text(&self) -> String {
        match (&self.users, &self.single_because) {
            (Some(users), _) => format!("newuidmap maps users (inside, outside, how many): {users}"),
            (None, reason) => {
                let reason = reason.as_deref().unwrap_or("unknown");
                format!("the caller alone, so files of several users are all its own: {reason}")
            }
        }
    }
}

#[derive(Serialize)]
struct Measured {
    /// Whether the processor runs ring 0.
    native: bool,
    /// Of ring 0, a lower bound where the processor runs it.
    million_instructions_per_second: f64,
    exit_ns: u64,
    #[serde(skip)]
    text: String,
}

fn measure_kvm() -> Option<Measured> {
    let found = vm_backend::linux::probe::ring0().ok()?;
    Some(Measured {
        native: found.is_native(),
        million_instructions_per_second: found.rate,
        exit_ns: u64::try_from(found.exit.as_nanos()).ok()?,
        text: found.to_string(),
    })
}

#[derive(Serialize)]
struct Disturbance {
    fact: String,
    advice: String,
}

/// Looks at everything and prints it.
///
/// # Errors
/// Where standard output cannot be written to.
pub fn doctor(args: &DoctorArgs) -> Result<u8, HarnessError> {
    let findings = examine();
    let text = if args.json {
        let mut json =
            serde_json::to_string_pretty(&findings).map_err(|error| HarnessError::Output(error.into()))?;
        json.push('\n');
        json
    } else {
        for_people(&findings)
    };
    print(&text)?;
    Ok(DONE)
}

fn examine() -> Findings {
    let host = host::inspect();
    let kvm = kvm::kind();
    Findings {
        targets: TargetKind::ALL.map(examine_target).into(),
        kvm: KvmFinding { kind: kvm.name(), meaning: kvm.meaning(), measured: measure_kvm() },
        id_maps: IdMapsFinding::new(container_backend::probe().id_ranges),
        disturbances: noise::warnings(&host)
            .into_iter()
            .map(|warning| Disturbance { fact: warning.fact(), advice: warning.advice().to_owned() })
            .collect(),
        host,
    }
}

fn examine_target(kind: TargetKind) -> TargetFinding {
    let target = target::target(kind);
    match target.probe() {
        Ok(()) => TargetFinding {
            name: kind.name(),
            available: true,
            reason: None,
            limitation: target.limitation(),
        },
        Err(reason) => {
            TargetFinding { name: kind.name(), available: false, reason: Some(reason.0), limitation: None }
        }
    }
}

fn for_people(findings: &Findings) -> String {
    let mut text = String::from("Targets\n");
    for target in &findings.targets {
        let state = match (&target.reason, &target.limitation) {
            (Some(reason), _) => format!("no: {reason}"),
            (None, Some(limitation)) => format!("yes, but {limitation}"),
            (None, None) => "yes".into(),
        };
        text += &format!("  {:14} {state}\n", target.name);
    }
    text += &format!("\nKVM\n  {:14} {}\n", findings.kvm.kind, findings.kvm.meaning);

    if let Some(measured) = &findings.kvm.measured {
        text += &format!("  {:14} {}\n", "measured", measured.text);
    }

    text += &format!("\nRootless containers\n  {:14} {}\n", "users", findings.id_maps.text());

    text.push_str("\nHost\n");
    let host = &findings.host;
    let unknown = || "unknown".to_owned();
    let on_off = |value: Option<bool>| value.map_or_else(unknown, |on| if on { "on" } else { "off" }.into());
    let mib = |bytes: Option<u64>| bytes.map_or_else(unknown, |bytes| format!("{} MiB", bytes >> 20));
    let lines = [
        ("cpu", host.cpu_model.clone().unwrap_or_else(unknown)),
        ("cpus", host.cpus_allowed.map_or_else(unknown, |count| format!("{count} to be used"))),
        ("kernel", host.kernel.clone().unwrap_or_else(unknown)),
        ("cgroups", host.cgroup.clone().unwrap_or_else(|| "none".into())),
        ("memory", mib(host.memory_bytes)),
        ("available", mib(host.memory_available_bytes)),
        ("swap used", mib(host.swap_used_bytes)),
        ("load", host.load_1m.map_or_else(unknown, |load| load.to_string())),
        ("governor", host.governor.clone().unwrap_or_else(unknown)),
        ("turbo", on_off(host.turbo)),
        ("smt", on_off(host.smt)),
        ("thp", host.thp.clone().unwrap_or_else(unknown)),
        ("ksm", on_off(host.ksm)),
        ("aslr", host.aslr.map_or_else(unknown, |level| level.to_string())),
        ("nx_huge_pages", host.nx_huge_pages.clone().unwrap_or_else(unknown)),
        ("nested kvm", host.nested.clone().unwrap_or_else(unknown)),
        ("favordynmods", on_off(host.favordynmods)),
        (
            "pressure",
            [("cpu", host.pressure_cpu), ("memory", host.pressure_memory), ("io", host.pressure_io)]
                .map(|(name, percent)| {
                    format!("{name} {}", percent.map_or_else(unknown, |percent| format!("{percent} %")))
                })
                .join(", "),
        ),
        ("throttled", host.throttled.map_or_else(unknown, |times| format!("{times} times since boot"))),
        (
            "steal",
            host.steal
                .map_or_else(unknown, |part| format!("{} since boot", crate::units::format_percent(part))),
        ),
        ("build", if cfg!(debug_assertions) { "debug" } else { "release" }.into()),
        ("clock", host.clock_source.clone().unwrap_or_else(unknown)),
        ("clock step", host.clock_step_ns.map_or_else(unknown, |step| format!("{step} ns"))),
        ("hypervisor", host.virtualised.map_or_else(unknown, |yes| if yes { "yes" } else { "no" }.into())),
    ];
    for (name, value) in lines {
        text += &format!("  {name:14} {value}\n");
    }
    for (name, state) in &host.mitigations {
        if !state.starts_with("Not affected") {
            text += &format!("  {name:14} {state}\n");
        }
    }

    text.push_str("\nDisturbs measurements\n");
    if findings.disturbances.is_empty() {
        text.push_str("  nothing that is known\n");
    }
    for disturbance in &findings.disturbances {
        text += &format!("  {}\n", disturbance.fact);
        if !disturbance.advice.is_empty() {
            text += &format!("      {}\n", disturbance.advice);
        }
    }
    text
}
