//! What this host is, as far as it can be read; and what of it disturbs measurements.
//!
//! A figure that cannot be read is `None`: unknown, not off and not zero.

use std::fs;

use crate::clock;
use crate::record::Host;

pub mod cgroups;
pub mod kvm;
pub mod noise;

/// Reads everything. Some milliseconds: never on a measured path.
#[must_use]
pub fn inspect() -> Host {
    let cpuinfo = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let meminfo = fs::read_to_string("/proc/meminfo").unwrap_or_default();
    Host {
        hostname: text("/proc/sys/kernel/hostname"),
        os: fs::read_to_string("/etc/os-release").ok().and_then(|text| os_name(&text)),
        kernel: text("/proc/sys/kernel/osrelease"),
        cpu_model: cpu_field(&cpuinfo, "model name"),
        cpus_online: text("/sys/devices/system/cpu/online").and_then(|list| cpu_count(&list)),
        cpus_allowed: allowed_cpus(),
        llc_bytes: last_level_cache(),
        virtualised: cpu_field(&cpuinfo, "flags").map(|flags| has_word(&flags, "hypervisor")),
        emulated: emulated(&cpuinfo),
        mitigations: mitigations(),
        governor: text("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor"),
        turbo: turbo(),
        smt: text("/sys/devices/system/cpu/smt/active").and_then(|word| on_off(&word)),
        thp: text("/sys/kernel/mm/transparent_hugepage/enabled").and_then(|words| bracketed(&words)),
        ksm: text("/sys/kernel/mm/ksm/run").and_then(|word| on_off(&word)),
        cgroup: cgroups::layout(),
        kvm: Some(kvm::kind().name()),
        aslr: text("/proc/sys/kernel/randomize_va_space").and_then(|level| level.parse().ok()),
        nx_huge_pages: text("/sys/module/kvm/parameters/nx_huge_pages"),
        nested: ["kvm_intel", "kvm_amd"]
            .into_iter()
            .find_map(|module| text(&format!("/sys/module/{module}/parameters/nested"))),
        favordynmods: cgroups::favordynmods(),
        pressure_cpu: pressure("cpu"),
        pressure_memory: pressure("memory"),
        pressure_io: pressure("io"),
        throttled: throttled(),
        steal: steal_since_boot(),
        clock_source: text("/sys/devices/system/clocksource/clocksource0/current_clocksource"),
        clock_step_ns: Some(clock::resolution_ns()),
        memory_bytes: meminfo_bytes(&meminfo, "MemTotal"),
        memory_available_bytes: meminfo_bytes(&meminfo, "MemAvailable"),
        swap_used_bytes: meminfo_bytes(&meminfo, "SwapTotal")
            .zip(meminfo_bytes(&meminfo, "SwapFree"))
            .map(|(total, free)| total.saturating_sub(free)),
        load_1m: text("/proc/loadavg").and_then(|line| line.split(' ').next()?.parse().ok()),
        uid: Some(nix::unistd::geteuid().as_raw()),
    }
}

/// A one-line file of the kernel, trimmed. `None` where it is missing, unreadable or empty.
fn text(path: &str) -> Option<String> {
    let text = fs::read_to_string(path).ok()?;
    let text = text.trim();
    (!text.is_empty()).then(|| text.to_owned())
}

fn os_name(os_release: &str) -> Option<String> {
    let line = os_release.lines().find_map(|line| line.strip_prefix("PRETTY_NAME="))?;
    Some(line.trim_matches('"').to_owned())
}

fn cpu_field(cpuinfo: &str, name: &str) -> Option<String> {
    let line = cpuinfo.lines().find(|line| line.split(':').next().is_some_and(|key| key.trim() == name))?;
    Some(line.split_once(':')?.1.trim().to_owned())
}

fn has_word(words: &str, word: &str) -> bool {
    words.split_whitespace().any(|found| found == word)
}

/// How many CPUs a list has.
fn cpu_count(list: &str) -> Option<u32> {
    let ranges = container_backend::cpu_ranges(list)?;
    ranges.iter().try_fold(0_u32, |sum, range| sum.checked_add((range.end() - range.start()).checked_add(1)?))
}

fn allowed_cpus() -> Option<u32> {
    let set = nix::sched::sched_getaffinity(nix::unistd::Pid::from_raw(0)).ok()?;
    let count = (0..nix::sched::CpuSet::count()).filter(|&cpu| set.is_set(cpu).unwrap_or(false)).count();
    u32::try_from(count).ok()
}

fn last_level_cache() -> Option<u64> {
    (0..8)
        .filter_map(|index| text(&format!("/sys/devices/system/cpu/cpu0/cache/index{index}/size")))
        .filter_map(|size| size_with_suffix(&size))
        .max()
}

/// `32768K`, `32M`
fn size_with_suffix(size: &str) -> Option<u64> {
    let (digits, shift) = match size.as_bytes().last()? {
        b'K' => (&size[..size.len() - 1], 10),
        b'M' => (&size[..size.len() - 1], 20),
        _ => (size, 0),
    };
    digits.parse::<u64>().ok()?.checked_mul(1 << shift)
}

fn mitigations() -> std::collections::BTreeMap<String, String> {
    let Ok(dir) = fs::read_dir("/sys/devices/system/cpu/vulnerabilities") else { return Default::default() };
    dir.flatten()
        .filter_map(|entry| {
            let state = fs::read_to_string(entry.path()).ok()?;
            Some((entry.file_name().to_string_lossy().into_owned(), state.trim().to_owned()))
        })
        .collect()
}

fn turbo() -> Option<bool> {
    // intel_pstate says when it is off, acpi-cpufreq and amd-pstate when it is on.
    let off = text("/sys/devices/system/cpu/intel_pstate/no_turbo").and_then(|word| on_off(&word));
    off.map(|off| !off)
        .or_else(|| text("/sys/devices/system/cpu/cpufreq/boost").and_then(|word| on_off(&word)))
}

/// The ten-second average of some tasks waiting, in percent (Documentation/accounting/psi.rst).
fn pressure(what: &str) -> Option<f64> {
    some_avg10(&fs::read_to_string(format!("/proc/pressure/{what}")).ok()?)
}

fn some_avg10(text: &str) -> Option<f64> {
    let line = text.lines().find_map(|line| line.strip_prefix("some "))?;
    line.split(' ').find_map(|field| field.strip_prefix("avg10="))?.parse().ok()
}

/// Whether the processor is QEMU's own: the name that CPUID has for what runs below (target/i386/cpu.c there, and
/// Documentation/virt/kvm/x86/cpuid.rst for KVM's). `None` where nothing does.
fn emulated(cpuinfo: &str) -> Option<bool> {
    const HYPERVISOR: u32 = 0x4000_0000;
    let below = cpu_field(cpuinfo, "flags").is_some_and(|flags| has_word(&flags, "hypervisor"));
    below.then(|| {
        let leaf = std::arch::x86_64::__cpuid(HYPERVISOR);
        [leaf.ebx, leaf.ecx, leaf.edx].map(u32::to_le_bytes).concat() == b"TCGTCGTCGTCG"
    })
}

/// Thermal throttling events of all cores; `None` where the CPU does not count them, as in most virtual machines.
fn throttled() -> Option<u64> {
    let cpus = fs::read_dir("/sys/devices/system/cpu").ok()?.flatten();
    let counts = cpus.filter_map(|cpu| {
        fs::read_to_string(cpu.path().join("thermal_throttle/core_throttle_count"))
            .ok()?
            .trim()
            .parse::<u64>()
            .ok()
    });
    counts.reduce(u64::saturating_add)
}

#[expect(clippy::cast_precision_loss, reason = "ticks since boot: far below 2^53")]
fn steal_since_boot() -> Option<f64> {
    let (all, stolen) = cpu_ticks()?;
    (all > 0).then(|| stolen as f64 / all as f64)
}

fn on_off(word: &str) -> Option<bool> {
    match word {
        "0" => Some(false),
        // KSM: 2 is "stopped, and what was merged is taken apart".
        "2" => Some(false),
        "1" => Some(true),
        _ => None,
    }
}

/// `always [madvise] never` -> `madvise`
fn bracketed(words: &str) -> Option<String> {
    let word = words.split_whitespace().find_map(|word| word.strip_prefix('[')?.strip_suffix(']'))?;
    Some(word.to_owned())
}

fn meminfo_bytes(meminfo: &str, name: &str) -> Option<u64> {
    let line = meminfo.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))?;
    line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()?.checked_mul(1 << 10)
}

/// Ticks of CPU time since boot: all of them, and those that the hypervisor below gave to others.
#[must_use]
pub fn cpu_ticks() -> Option<(u64, u64)> {
    let stat = fs::read_to_string("/proc/stat").ok()?;
    // proc_stat(5): user nice system idle iowait irq softirq steal; guest times are within user and nice.
    let ticks: Vec<u64> = stat
        .lines()
        .next()?
        .split_whitespace()
        .skip(1)
        .take(8)
        .map(str::parse)
        .collect::<Result<_, _>>()
        .ok()?;
    Some((ticks.iter().sum(), *ticks.get(7)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_and_sizes_of_the_kernel_are_understood() {
        assert_eq!(cpu_count("0-3,8,10-11"), Some(7));
        assert_eq!(cpu_count("0"), Some(1));
        assert_eq!(cpu_count("3-1"), None);
        assert_eq!(cpu_count("x"), None);
        assert_eq!(size_with_suffix("32768K"), Some(32 << 20));
        assert_eq!(size_with_suffix("1M"), Some(1 << 20));
        assert_eq!(size_with_suffix("K"), None);
        assert_eq!(bracketed("always [madvise] never").as_deref(), Some("madvise"));
        assert_eq!(bracketed("always madvise never"), None);
        assert_eq!(meminfo_bytes("MemTotal:  24 kB\nMemFree: 1 kB\n", "MemTotal"), Some(24 << 10));
        let pressure = "some avg10=1.25 avg60=0.50 avg300=0.10 total=9\nfull avg10=0.00 avg60=0.00 total=0\n";
        assert_eq!(some_avg10(pressure), Some(1.25));
        assert_eq!(some_avg10(""), None);
        assert_eq!(os_name("ID=x\nPRETTY_NAME=\"Debian 12\"\n").as_deref(), Some("Debian 12"));
        assert_eq!(cpu_field("flags\t\t: fpu vme\n", "flags").as_deref(), Some("fpu vme"));
    }

    #[test]
    fn this_host_has_a_kernel_a_cpu_and_memory() {
        let host = inspect();
        assert!(host.kernel.is_some() && host.cpu_model.is_some(), "{host:?}");
        assert!(host.memory_bytes > host.memory_available_bytes, "{host:?}");
        assert!(host.cpus_allowed.is_some_and(|count| count >= 1));
        assert!(cpu_ticks().is_some_and(|(all, stolen)| all > stolen));
    }
}
