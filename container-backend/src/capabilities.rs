//! The capabilities that a container keeps.

use std::ptr;

use crate::sys::{call, flags};

/// Names by number (include/uapi/linux/capability.h), without `CAP_`.
const NAMES: [&str; 41] = [
    "CHOWN",
    "DAC_OVERRIDE",
    "DAC_READ_SEARCH",
    "FOWNER",
    "FSETID",
    "KILL",
    "SETGID",
    "SETUID",
    "SETPCAP",
    "LINUX_IMMUTABLE",
    "NET_BIND_SERVICE",
    "NET_BROADCAST",
    "NET_ADMIN",
    "NET_RAW",
    "IPC_LOCK",
    "IPC_OWNER",
    "SYS_MODULE",
    "SYS_RAWIO",
    "SYS_CHROOT",
    "SYS_PTRACE",
    "SYS_PACCT",
    "SYS_ADMIN",
    "SYS_BOOT",
    "SYS_NICE",
    "SYS_RESOURCE",
    "SYS_TIME",
    "SYS_TTY_CONFIG",
    "MKNOD",
    "LEASE",
    "AUDIT_WRITE",
    "AUDIT_CONTROL",
    "SETFCAP",
    "MAC_OVERRIDE",
    "MAC_ADMIN",
    "SYSLOG",
    "WAKE_ALARM",
    "BLOCK_SUSPEND",
    "AUDIT_READ",
    "PERFMON",
    "BPF",
    "CHECKPOINT_RESTORE",
];

/// What is kept by default: Podman's set (containers/common, `DefaultCapabilities`), which is Docker's without `MKNOD`,
/// `NET_RAW` and `AUDIT_WRITE`.
const KEPT: [&str; 11] = [
    "CHOWN",
    "DAC_OVERRIDE",
    "FOWNER",
    "FSETID",
    "KILL",
    "SETGID",
    "SETUID",
    "SETPCAP",
    "NET_BIND_SERVICE",
    "SYS_CHROOT",
    "SETFCAP",
];

/// A set of capabilities.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Capabilities(u64);

impl Default for Capabilities {
    /// What engines leave by default (Podman's set).
    fn default() -> Self {
        KEPT.iter().filter_map(|name| Self::number(name)).fold(Self(0), |set, cap| Self(set.0 | 1 << cap))
    }
}

impl Capabilities {
    /// None at all.
    #[must_use]
    pub const fn none() -> Self {
        Self(0)
    }

    /// Changes the set as the engines' `--cap-add` and `--cap-drop` would: `NAME` or `+NAME` adds, `-NAME` takes away, `all`
    /// means every one. `None` where there is no capability of this name.
    #[must_use]
    pub fn changed(self, text: &str) -> Option<Self> {
        let (take_away, name) = match text.strip_prefix('-') {
            Some(name) => (true, name),
            None => (false, text.strip_prefix('+').unwrap_or(text)),
        };
        let bits = if name.eq_ignore_ascii_case("all") { u64::MAX } else { 1 << Self::number(name)? };
        Some(if take_away { Self(self.0 & !bits) } else { Self(self.0 | bits) })
    }

    /// The number of the capability of this name, with or without `CAP_`, in capitals or not.
    #[must_use]
    pub fn number(name: &str) -> Option<u32> {
        let name = name.to_ascii_uppercase();
        let name = name.strip_prefix("CAP_").unwrap_or(&name);
        NAMES.iter().position(|known| *known == name).and_then(|at| u32::try_from(at).ok())
    }

    /// Bit N stands for capability N.
    #[must_use]
    pub const fn bits(self) -> u64 {
        self.0
    }

    /// Every capability of this kernel that is not in the set.
    #[must_use]
    pub(crate) fn missing(self) -> Vec<u32> {
        // A capability that the running kernel does not have cannot be asked for; newer ones are dropped, too.
        (0..u64::BITS).filter(|cap| self.0 & 1 << cap == 0).take_while(|&cap| is_known(cap)).collect()
    }
}

/// Whether the running kernel has the capability of this number, all of whose numbers follow one another.
fn is_known(capability: u32) -> bool {
    // SAFETY: numbers only.
    let read =
        unsafe { call(libc::SYS_prctl, [flags(libc::PR_CAPBSET_READ), capability as usize, 0, 0, 0, 0]) };
    // Where it cannot be asked, dropping it will fail, and be told.
    read != Err(libc::EINVAL)
}

/// Capabilities by their numbers (include/uapi/linux/capability.h).
pub(crate) const NET_ADMIN: u32 = 12;
pub(crate) const SYS_CHROOT: u32 = 18;
pub(crate) const SYS_ADMIN: u32 = 21;

/// Sets of the calling thread.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Own {
    pub(crate) effective: u64,
    pub(crate) permitted: u64,
}

/// What the calling thread has; `None` where the kernel does not tell.
pub(crate) fn of_caller() -> Option<Own> {
    let (header, mut sets) = (CapHeader::SELF, [CapData { effective: 0, permitted: 0, inheritable: 0 }; 2]);
    let places = [ptr::from_ref(&header) as usize, ptr::from_mut(&mut sets) as usize, 0, 0, 0, 0];
    // SAFETY: a header, and two structures to be written to, which is what its version means.
    unsafe { call(libc::SYS_capget, places) }.ok()?;
    let [low, high] = sets;
    let both = |low: u32, high: u32| u64::from(high) << 32 | u64::from(low);
    Some(Own {
        effective: both(low.effective, high.effective),
        permitted: both(low.permitted, high.permitted),
    })
}

/// The two words per set that capset(2) takes with `_LINUX_CAPABILITY_VERSION_3`.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct CapData {
    effective: u32,
    permitted: u32,
    inheritable: u32,
}

/// `struct __user_cap_header_struct`.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct CapHeader {
    version: u32,
    pid: i32,
}

/// `_LINUX_CAPABILITY_VERSION_3`.
const VERSION_3: u32 = 0x2008_0522;

impl CapHeader {
    /// The header that means the calling thread.
    pub(crate) const SELF: Self = Self { version: VERSION_3, pid: 0 };
}

/// The argument of capset(2) that leaves exactly `permitted`, and nothing inheritable (which empties the ambient set).
#[must_use]
pub(crate) fn cap_data(permitted: u64) -> [CapData; 2] {
    #[expect(clippy::cast_possible_truncation, reason = "the two halves of the mask")]
    let word = |bits: u64| CapData { effective: bits as u32, permitted: bits as u32, inheritable: 0 };
    [word(permitted), word(permitted >> 32)]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_kept_is_not_dropped() {
        let kept = Capabilities::default();
        assert_eq!(kept.bits(), 0x8004_05fb);
        assert!(kept.missing().iter().all(|cap| kept.bits() & 1 << cap == 0));
        assert!(kept.missing().contains(&21), "SYS_ADMIN is dropped");
    }

    #[test]
    fn a_set_is_changed_by_names() {
        let none = Capabilities::default().changed("-all").expect("known");
        assert_eq!(none, Capabilities::none());
        assert_eq!(none.changed("cap_chown").map(Capabilities::bits), Some(1));
        assert_eq!(none.changed("+NET_RAW").map(Capabilities::bits), Some(1 << 13));
        assert_eq!(none.changed("nonsense"), None);
        assert_eq!(NAMES.len(), 41);
    }
}
