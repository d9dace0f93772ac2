//! Memory figures of processes and of the host, as the kernel tells them.

use std::collections::BTreeMap;
use std::fs;
use std::io;

/// Sums over processes, by `smaps_rollup` (Documentation/filesystems/proc.rst).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Resident {
    /// Proportional: a page shared by n processes counts 1/n.
    pub pss: u64,
    /// Unique: pages that nobody else has.
    pub uss: u64,
    /// Resident: every page that is mapped, shared or not.
    pub rss: u64,
}

/// Sum over the processes `pids`. A process that is gone is an error: the sum would lie.
pub(super) fn resident(pids: &[i32]) -> Result<Resident, String> {
    let mut sum = Resident::default();
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
        sum.uss += get("Private_Clean")? + get("Private_Dirty")?;
        // Huge pages of hugetlbfs are in none of the sums above; absent where the kernel has none.
        sum.uss += fields.get("Private_Hugetlb").copied().unwrap_or(0);
    }
    Ok(sum)
}

/// Memory of the host that is in use: all of it, less what the kernel could hand out (MemAvailable).
pub(super) fn host_used() -> io::Result<u64> {
    let text = fs::read_to_string("/proc/meminfo")?;
    let fields = fields_kib(&text);
    match (fields.get("MemTotal"), fields.get("MemAvailable")) {
        (Some(total), Some(available)) => Ok(total.saturating_sub(*available)),
        _ => Err(io::Error::other("/proc/meminfo has no MemAvailable")),
    }
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
    fn we_ourselves_have_memory_of_which_some_is_ours_alone() {
        let pid = i32::try_from(std::process::id()).unwrap();
        let own = resident(&[pid]).unwrap();
        assert!(own.uss > 0 && own.uss <= own.pss && own.pss <= own.rss, "{own:?}");
        assert!(host_used().unwrap() > own.uss);
    }

    #[test]
    fn a_process_that_is_gone_is_an_error_and_not_zero() {
        assert!(resident(&[]).is_err());
        assert!(resident(&[i32::MAX]).unwrap_err().contains("smaps_rollup"));
    }
}
