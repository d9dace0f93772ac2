//! Bounds of `--mem`, the same for every command and target.

use crate::error::HarnessError;

/// Memory of an instance where nothing else is said.
pub const DEFAULT_MIB: u64 = 512;

/// Less than this holds no program with its stack, its page tables and the built-in guest.
pub const LEAST_MIB: u64 = 8;

/// Accepts `mib` where an instance of that size makes sense on this host.
///
/// # Errors
/// What is wrong with the number.
pub fn checked(mib: u64) -> Result<u64, HarnessError> {
    checked_against(mib, host_mib())
}

fn checked_against(mib: u64, host_mib: Option<u64>) -> Result<u64, HarnessError> {
    let wrong = |why| Err(HarnessError::Memory { asked: mib, why });
    if mib < LEAST_MIB {
        return wrong(format!("an instance needs at least {LEAST_MIB} MiB"));
    }
    match host_mib {
        Some(host) if mib > host => wrong(format!("this host has {host} MiB of memory")),
        _ => Ok(mib),
    }
}

/// Memory of the host. By sysinfo(2): reading /proc/meminfo costs thirty times as much, and this is on `run`'s way.
fn host_mib() -> Option<u64> {
    let mut info = std::mem::MaybeUninit::<libc::sysinfo>::uninit();
    // SAFETY: sysinfo(2) fills the structure that the pointer leads to, and returns 0 if and only if it did.
    let filled = unsafe { libc::sysinfo(info.as_mut_ptr()) } == 0;
    // SAFETY: `filled` says that the kernel has written the whole structure.
    filled.then(|| unsafe { info.assume_init() }).map(|info| (info.totalram * u64::from(info.mem_unit)) >> 20)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn complaint(mib: u64) -> String {
        checked_against(mib, Some(1_000)).unwrap_err().to_string()
    }

    #[test]
    fn sizes_that_make_no_sense_are_refused_with_the_bound() {
        assert_eq!(complaint(0), "--mem 0: an instance needs at least 8 MiB");
        assert_eq!(complaint(1), "--mem 1: an instance needs at least 8 MiB");
        assert_eq!(complaint(1_001), "--mem 1001: this host has 1000 MiB of memory");
        assert_eq!(complaint(u64::MAX), format!("--mem {}: this host has 1000 MiB of memory", u64::MAX));
        assert_eq!(checked_against(8, Some(1_000)).unwrap(), 8);
        assert_eq!(checked_against(4_096, None).unwrap(), 4_096);
    }

    #[test]
    fn the_host_has_memory() {
        assert!(host_mib().is_some_and(|mib| mib > 16));
    }
}
