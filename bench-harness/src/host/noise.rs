//! What disturbs measurements on a host: conditions as data, their advice is in `warning`.

use crate::record::Host;
use crate::warning::Warning;

/// Less than this part of the memory is little: the kernel begins to reclaim while we measure.
const LITTLE_MEMORY: u64 = 8;

/// All that is known to disturb, in the order of its weight.
#[must_use]
pub fn warnings(host: &Host) -> Vec<Warning> {
    let mut found = Vec::new();
    if cfg!(debug_assertions) {
        found.push(Warning::DebugBuild);
    }
    let cpus = host.cpus_allowed.or(host.cpus_online);
    if let Some(cpus) = cpus.filter(|&cpus| cpus < 2) {
        found.push(Warning::FewCpus { cpus });
    }
    // One runnable task for every two CPUs is enough to be in the way.
    if let Some((load_1m, cpus)) = host.load_1m.zip(cpus).filter(|&(load, cpus)| load > f64::from(cpus) / 2.0)
    {
        found.push(Warning::Load { load_1m, cpus });
    }
    if let Some(governor) = host.governor.clone().filter(|governor| governor != "performance") {
        found.push(Warning::Governor { governor });
    }
    if host.turbo == Some(true) {
        found.push(Warning::Turbo);
    }
    if host.smt == Some(true) {
        found.push(Warning::Smt);
    }
    if let Some(setting) = host.thp.clone().filter(|setting| setting == "always") {
        found.push(Warning::TransparentHugePages { setting });
    }
    if host.ksm == Some(true) {
        found.push(Warning::Ksm);
    }
    if let Some(used_bytes) = host.swap_used_bytes.filter(|&used| used > 0) {
        found.push(Warning::Swap { used_bytes });
    }
    if let Some((total, available_bytes)) = host.memory_bytes.zip(host.memory_available_bytes)
        && available_bytes < total / LITTLE_MEMORY
    {
        found.push(Warning::LowMemory { available_bytes });
    }
    if let Some(source) = host.clock_source.clone().filter(|source| !is_fast_clock(source)) {
        found.push(Warning::ClockSource { source });
    }
    if host.virtualised == Some(true) {
        found.push(Warning::Virtualised { kvm: host.kvm.clone() });
    }
    found
}

/// Clock sources that the vDSO reads without a system call (arch/x86/entry/vdso).
fn is_fast_clock(source: &str) -> bool {
    matches!(source, "tsc" | "kvm-clock" | "hyperv_clocksource_tsc_page")
}

/// The part of the CPU time between two readings of [`super::cpu_ticks`] that went to others, where it matters.
#[must_use]
pub fn steal(before: Option<(u64, u64)>, after: Option<(u64, u64)>) -> Option<Warning> {
    /// From one part in a hundred on: as much as the smallest effect that is looked for.
    const MATTERS: f64 = 0.01;
    let ((all_before, stolen_before), (all_after, stolen_after)) = before.zip(after)?;
    let all = all_after.checked_sub(all_before).filter(|&ticks| ticks > 0)?;
    #[expect(clippy::cast_precision_loss, reason = "ticks of one run: far below 2^53")]
    let share = stolen_after.checked_sub(stolen_before)? as f64 / all as f64;
    (share >= MATTERS).then_some(Warning::Steal { share })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_unknown_is_not_warned_of() {
        let found = warnings(&Host::default());
        assert!(found.iter().all(|warning| *warning == Warning::DebugBuild), "{found:?}");
    }

    #[test]
    fn a_loaded_swapping_host_is_warned_of() {
        let host = Host {
            cpus_allowed: Some(2),
            load_1m: Some(1.5),
            swap_used_bytes: Some(1),
            governor: Some("powersave".into()),
            memory_bytes: Some(800),
            memory_available_bytes: Some(99),
            clock_source: Some("hpet".into()),
            ..Host::default()
        };
        let found = warnings(&host);
        for expected in [
            Warning::Load { load_1m: 1.5, cpus: 2 },
            Warning::Swap { used_bytes: 1 },
            Warning::Governor { governor: "powersave".into() },
            Warning::LowMemory { available_bytes: 99 },
            Warning::ClockSource { source: "hpet".into() },
        ] {
            assert!(found.contains(&expected), "{expected:?} is not in {found:?}");
        }
    }

    #[test]
    fn steal_counts_from_one_percent_on() {
        assert_eq!(steal(Some((1_000, 10)), Some((2_000, 19))), None);
        assert_eq!(steal(Some((1_000, 10)), Some((2_000, 20))), Some(Warning::Steal { share: 0.01 }));
        assert_eq!(steal(None, Some((1, 1))), None);
        assert_eq!(steal(Some((5, 5)), Some((5, 5))), None);
    }
}
