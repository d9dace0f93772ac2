//! What disturbs measurements on a host: conditions as data, their advice is in `warning`.

use crate::record::Host;
use crate::warning::Warning;

/// Less than this part of the memory is little: the kernel begins to reclaim while we measure.
const LITTLE_MEMORY: u64 = 8;

/// Percent of the time in which tasks wait from which on it is in the way: as much as the effects that are looked for.
const PRESSURE: f64 = 5.0;

/// All that is known to disturb, in the order of its weight.
#[must_use]
pub fn warnings(host: &Host) -> Vec<Warning> {
    let mut found = Vec::new();
    if cfg!(debug_assertions) {
        found.push(Warning::DebugBuild);
    }
    if host.emulated == Some(true) {
        found.push(Warning::EmulatedHardware);
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
    if let Some(percent) = host.pressure_cpu.filter(|&percent| percent > PRESSURE) {
        found.push(Warning::Pressure { what: "a CPU".into(), percent });
    }
    if let Some(percent) = host.pressure_memory.filter(|&percent| percent > PRESSURE) {
        found.push(Warning::Pressure { what: "memory".into(), percent });
    }
    if let Some(percent) = host.pressure_io.filter(|&percent| percent > PRESSURE) {
        found.push(Warning::Pressure { what: "a disk".into(), percent });
    }
    if host.aslr.is_some_and(|level| level < 2) {
        found.push(Warning::FixedLayout);
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

/// What of the host is no longer as it was when the run began; `None` where all of it is, as far as it can be read.
///
/// Settings count when they differ at all, amounts from where they disturb. That a run loads the host is no change.
#[must_use]
pub fn changed(before: &Host, after: &Host) -> Option<Warning> {
    let mut changes = Vec::new();
    let flag = |flag: Option<bool>| flag.map(|on| if on { "on" } else { "off" }.to_owned());
    let settings = [
        ("governor", before.governor.clone(), after.governor.clone()),
        ("turbo", flag(before.turbo), flag(after.turbo)),
        ("SMT", flag(before.smt), flag(after.smt)),
        ("huge page setting", before.thp.clone(), after.thp.clone()),
        ("KSM", flag(before.ksm), flag(after.ksm)),
        ("nx_huge_pages", before.nx_huge_pages.clone(), after.nx_huge_pages.clone()),
        (
            "address randomisation",
            before.aslr.map(|level| level.to_string()),
            after.aslr.map(|level| level.to_string()),
        ),
        ("clock source", before.clock_source.clone(), after.clock_source.clone()),
        (
            "number of CPUs",
            before.cpus_allowed.map(|count| count.to_string()),
            after.cpus_allowed.map(|count| count.to_string()),
        ),
        ("kind of KVM", before.kvm.clone(), after.kvm.clone()),
    ];
    for (name, before, after) in settings {
        if let (Some(before), Some(after)) = (before, after)
            && before != after
        {
            changes.push(format!("the {name} went from {before} to {after}"));
        }
    }
    if before.mitigations != after.mitigations {
        changes.push("the mitigations are others".into());
    }
    if let (Some(before), Some(after)) = (before.throttled, after.throttled)
        && after > before
    {
        let times = usize::try_from(after - before).unwrap_or(usize::MAX);
        changes.push(format!(
            "the CPUs were slowed down for heat {}",
            crate::units::plural(times, "time", "times")
        ));
    }
    if let (Some(before), Some(after)) = (before.swap_used_bytes, after.swap_used_bytes)
        && after > before
    {
        changes.push(format!("{} more went to swap", crate::units::Bytes(after - before)));
    }
    if let (Some(before), Some(after), Some(all)) =
        (before.memory_available_bytes, after.memory_available_bytes, after.memory_bytes)
        && before.abs_diff(after) > all / LITTLE_MEMORY
    {
        let less = if after < before { "less" } else { "more" };
        changes
            .push(format!("{} of memory {less} are available", crate::units::Bytes(before.abs_diff(after))));
    }
    (!changes.is_empty()).then_some(Warning::HostChanged { changes })
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
            emulated: Some(true),
            ..Host::default()
        };
        let found = warnings(&host);
        for expected in [
            Warning::Load { load_1m: 1.5, cpus: 2 },
            Warning::Swap { used_bytes: 1 },
            Warning::Governor { governor: "powersave".into() },
            Warning::LowMemory { available_bytes: 99 },
            Warning::ClockSource { source: "hpet".into() },
            Warning::EmulatedHardware,
        ] {
            assert!(found.contains(&expected), "{expected:?} is not in {found:?}");
        }
    }

    #[test]
    fn a_host_that_stays_as_it_was_or_is_unknown_did_not_change() {
        let host = Host { governor: Some("performance".into()), throttled: Some(3), ..Host::default() };
        assert_eq!(changed(&host, &host), None);
        assert_eq!(changed(&Host::default(), &host), None);
        let loaded = Host { load_1m: Some(9.0), pressure_cpu: Some(50.0), ..host.clone() };
        assert_eq!(changed(&host, &loaded), None, "the run itself is a load");
    }

    #[test]
    fn what_changed_is_named_with_both_sides() {
        let before = Host {
            governor: Some("performance".into()),
            throttled: Some(3),
            swap_used_bytes: Some(0),
            memory_bytes: Some(800),
            memory_available_bytes: Some(700),
            ..Host::default()
        };
        let after = Host {
            governor: Some("powersave".into()),
            throttled: Some(5),
            swap_used_bytes: Some(1 << 20),
            memory_bytes: Some(800),
            memory_available_bytes: Some(300),
            ..Host::default()
        };
        let text = changed(&before, &after).expect("much changed").to_string();
        for part in [
            "governor went from performance to powersave",
            "heat 2 times",
            "1.00 MiB more",
            "400 B of memory less",
        ] {
            assert!(text.contains(part), "{part}: {text}");
        }
    }

    #[test]
    fn waiting_tasks_and_a_fixed_layout_are_warned_of() {
        let host =
            Host { pressure_cpu: Some(30.0), pressure_io: Some(1.0), aslr: Some(0), ..Host::default() };
        let found = warnings(&host);
        assert!(found.contains(&Warning::Pressure { what: "a CPU".into(), percent: 30.0 }), "{found:?}");
        assert!(found.contains(&Warning::FixedLayout), "{found:?}");
        assert!(
            !found
                .iter()
                .any(|warning| matches!(warning, Warning::Pressure { what, .. } if what == "a disk"))
        );
    }

    #[test]
    fn steal_counts_from_one_percent_on() {
        assert_eq!(steal(Some((1_000, 10)), Some((2_000, 19))), None);
        assert_eq!(steal(Some((1_000, 10)), Some((2_000, 20))), Some(Warning::Steal { share: 0.01 }));
        assert_eq!(steal(None, Some((1, 1))), None);
        assert_eq!(steal(Some((5, 5)), Some((5, 5))), None);
    }
}
