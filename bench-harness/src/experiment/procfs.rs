//! Memory figures of processes and of the host, as the kernel tells them.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::ops::Range;

/// Sums over processes, by `smaps_rollup` (Documentation/filesystems/proc.rst).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Resident {
    /// Proportional: a page shared by n processes counts 1/n.
    pub pss: u64,
    /// Unique: pages that nobody else has.
    pub uss: u64,
    /// Resident: every page that is mapped, shared or not.
    pub rss: u64,
    /// The part of `pss` that is page cache: files, and memory with a name. Since Linux 5.9 or so.
    pub cache: Option<u64>,
    /// Pages that KSM has merged. Since Linux 6.7.
    pub merged: Option<u64>,
}

/// Sum over the processes `pids`. A process that is gone is an error: the sum would lie.
pub(super) fn resident(pids: &[i32]) -> Result<Resident, String> {
    let mut sum = Resident { cache: Some(0), merged: Some(0), ..Resident::default() };
    if pids.is_empty() {
        return Err("the instance has no process on the host".into());
    }
    for pid in pids {
        let file = format!("/proc/{pid}/smaps_rollup");
        let text = fs::read_to_string(&file).map_err(|error| format!("cannot read {file}: {error}"))?;
        let fields = fields_kib(&text);
        let get = |name: &str| fields.get(name).copied().ok_or_else(|| format!("{file} has no {name}"));
        sum.pss += get("Pss")?;
        sum.rss += get("Rss")?;
        let cache = fields.get("Pss_File").zip(fields.get("Pss_Shmem")).map(|(file, shmem)| file + shmem);
        sum.cache = sum.cache.zip(cache).map(|(sum, more)| sum + more);
        sum.merged = sum.merged.zip(fields.get("KSM")).map(|(sum, more)| sum + more);
        sum.uss += get("Private_Clean")? + get("Private_Dirty")?;
        // Huge pages of hugetlbfs are in none of the sums above; absent where the kernel has none.
        sum.uss += fields.get("Private_Hugetlb").copied().unwrap_or(0);
    }
    Ok(sum)
}

/// A virtual machine's monitor, with the memory of its guest told from its own.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Machine {
    /// Resident pages of the guest's memory.
    pub guest: u64,
    /// Proportional set size of all the rest.
    pub own: u64,
}

/// The memory of the process `pid`, whose guest's memory lies in `guest`, by `smaps`.
pub(super) fn machine(pid: i32, guest: &[Range<u64>]) -> Result<Machine, String> {
    let file = format!("/proc/{pid}/smaps");
    let text = fs::read_to_string(&file).map_err(|error| format!("cannot read {file}: {error}"))?;
    machine_of(&text, guest).ok_or_else(|| format!("{file} is not what it should be"))
}

/// The same of the file's text. A mapping's first line begins with its range, and the fields are below.
fn machine_of(smaps: &str, guest: &[Range<u64>]) -> Option<Machine> {
    let range = |line: &str| {
        let (start, end) = line.split_whitespace().next()?.split_once('-')?;
        Some(u64::from_str_radix(start, 16).ok()?..u64::from_str_radix(end, 16).ok()?)
    };
    let kib = |rest: &str| rest.trim().strip_suffix("kB")?.trim().parse::<u64>().ok().map(|kib| kib << 10);
    let mut machine = Machine::default();
    let mut is_guest = None;
    for line in smaps.lines() {
        if let Some(found) = range(line) {
            is_guest = Some(guest.iter().any(|part| part.start < found.end && found.start < part.end));
        } else if let Some(rest) = line.strip_prefix("Rss:") {
            machine.guest += if is_guest? { kib(rest)? } else { 0 };
        } else if let Some(rest) = line.strip_prefix("Pss:") {
            machine.own += if is_guest? { 0 } else { kib(rest)? };
        }
    }
    is_guest.map(|_| machine)
}

/// Memory of the host.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Host {
    /// What the kernel could hand out.
    pub available: u64,
    /// What is in use.
    pub used: u64,
    /// The part of it that the kernel keeps for itself: see [`KERNEL`].
    pub kernel: u64,
    /// The part of that in slabs: dentries, namespaces, task structures.
    pub slab: Option<u64>,
    /// The part of that in page tables, those of virtual machines included.
    pub page_tables: Option<u64>,
}

/// What the kernel could hand out.
pub(super) fn available() -> Option<u64> {
    let text = fs::read_to_string("/proc/meminfo").ok()?;
    fields_kib(&text).get("MemAvailable").copied()
}

/// The most that a process had resident since its program began (`VmHWM`, proc_pid_status(5)).
pub(super) fn peak_resident(pid: i32) -> Option<u64> {
    let text = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    fields_kib(&text).get("VmHWM").copied()
}

/// What of `/proc/meminfo` is the kernel's own and grows with what runs: dentries, namespaces and other objects, stacks, page
/// tables (those of virtual machines by another name), per-CPU memory.
const KERNEL: [&str; 5] = ["Slab", "KernelStack", "PageTables", "SecPageTables", "Percpu"];

/// Memory of the host that is in use: all of it, less what the kernel could hand out.
///
/// That is MemAvailable and the pages that each CPU holds ready, which are free, too, but are counted as used, some
/// hundred KiB at a time: more than an instance takes. The kernel also counts on each CPU apart and adds up when a
/// counter has moved far enough; reading `stat_refresh` adds up now (Documentation/admin-guide/sysctl/vm.rst). Only root
/// may, and where it fails the figure is coarser.
pub(super) fn host() -> io::Result<Host> {
    drop(fs::read("/proc/sys/vm/stat_refresh"));
    let text = fs::read_to_string("/proc/meminfo")?;
    let fields = fields_kib(&text);
    let (Some(total), Some(available)) = (fields.get("MemTotal"), fields.get("MemAvailable")) else {
        return Err(io::Error::other("/proc/meminfo has no MemAvailable"));
    };
    let ready = fs::read_to_string("/proc/zoneinfo").map_or(0, |text| ready_pages(&text)) * page_bytes();
    // What a kernel does not name is part of no sum.
    let kernel = KERNEL.iter().filter_map(|name| fields.get(name)).sum();
    let page_tables = fields.get("PageTables").map(|own| own + fields.get("SecPageTables").unwrap_or(&0));
    Ok(Host {
        available: *available,
        used: total.saturating_sub(*available).saturating_sub(ready),
        kernel,
        slab: fields.get("Slab").copied(),
        page_tables,
    })
}

/// The processes that its first thread has started and that are still there (CONFIG_PROC_CHILDREN).
pub(super) fn children(pid: i32) -> Option<u64> {
    let text = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).ok()?;
    u64::try_from(text.split_whitespace().count()).ok()
}

/// CPU time of a process, in user and kernel mode: fields 14 and 15 of its `stat`, in clock ticks.
pub(super) fn cpu_ns(pid: i32) -> Option<u64> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The second field may hold blanks, and ends with the last bracket.
    let mut fields = stat.rsplit_once(')')?.1.split_whitespace().skip(11);
    let ticks = fields.next()?.parse::<u64>().ok()? + fields.next()?.parse::<u64>().ok()?;
    let a_second = nix::unistd::sysconf(nix::unistd::SysconfVar::CLK_TCK).ok().flatten()?;
    Some(ticks.saturating_mul(1_000_000_000) / u64::try_from(a_second).ok().filter(|ticks| *ticks > 0)?)
}

/// Sum over the per-CPU page sets of all zones: their lines `count: 123`.
fn ready_pages(zoneinfo: &str) -> u64 {
    zoneinfo.lines().filter_map(|line| line.trim().strip_prefix("count:")?.trim().parse::<u64>().ok()).sum()
}

fn page_bytes() -> u64 {
    nix::unistd::sysconf(nix::unistd::SysconfVar::PAGE_SIZE)
        .ok()
        .flatten()
        .and_then(|bytes| u64::try_from(bytes).ok())
        .unwrap_or(4096)
}

/// Lines `Name:   123 kB`, in bytes.
fn fields_kib(text: &str) -> BTreeMap<&str, u64> {
    text.lines()
        .filter_map(|line| {
            let (name, rest) = line.split_once(':')?;
            let kib: u64 = rest.trim().strip_suffix("kB")?.trim().parse().ok()?;
            Some((name, kib << 10))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_read_in_bytes() {
        let text = "5581-7ffe ---p [rollup]\nRss:     884 kB\nPss:  385 kB\nOdd: x kB\n";
        assert_eq!(fields_kib(text), BTreeMap::from([("Rss", 884 << 10), ("Pss", 385 << 10)]));
    }

    #[test]
    fn pages_that_a_cpu_holds_ready_are_added_up() {
        let text = "  pagesets\n    cpu: 0\n              count:    122\n              high:  7\n    cpu: 1\n  count: 4\n";
        assert_eq!(ready_pages(text), 126);
    }

    #[test]
    fn we_ourselves_have_memory_of_which_some_is_ours_alone() {
        let pid = i32::try_from(std::process::id()).unwrap();
        let own = resident(&[pid]).unwrap();
        assert!(own.uss > 0 && own.uss <= own.pss && own.pss <= own.rss, "{own:?}");
        let host = host().unwrap();
        assert!(host.used > own.uss && host.kernel > 0, "{host:?}");
    }

    #[test]
    fn we_ourselves_have_used_memory_and_a_cpu() {
        let pid = i32::try_from(std::process::id()).unwrap();
        assert!(peak_resident(pid).unwrap() > 1 << 20 && available().unwrap() > 0);
        assert!(cpu_ns(pid).is_some());
        assert_eq!((peak_resident(i32::MAX), cpu_ns(i32::MAX), children(i32::MAX)), (None, None, None));
    }

    #[test]
    fn the_memory_of_a_guest_is_told_from_its_monitors() {
        let smaps = "5500-5600 r--p 00000000 fe:00 7   /bin/bench-harness\nRss:  8 kB\nPss:  2 kB\nPss_Dirty:  1 kB\n\
                     7000-8000 rw-p 00000000 00:01 9   /memfd:linux-image (deleted)\nSize: 4 kB\nRss: 4 kB\nPss: 1 kB\n\
                     8000-b000 rw-p 00000000 00:00 0 \nRss:  12 kB\nPss:  12 kB\n\
                     ffffffff000-ffffffff100 rw-p 00000000 00:00 0 [stack]\nRss: 16 kB\nPss: 16 kB\n";
        // A guest's memory may end within a mapping: the rest of that is never touched.
        let machine = machine_of(smaps, &[0x7000..0xa000, 0xc000..0xd000]);
        assert_eq!(machine, Some(Machine { guest: 16 << 10, own: 18 << 10 }));
        assert_eq!((machine_of("", &[]), machine_of("Rss: 4 kB\n", &[])), (None, None));
    }

    #[test]
    fn a_process_that_is_gone_is_an_error_and_not_zero() {
        assert!(resident(&[]).is_err());
        assert!(resident(&[i32::MAX]).unwrap_err().contains("smaps_rollup"));
    }
}
