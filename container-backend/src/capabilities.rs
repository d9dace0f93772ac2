//! The capabilities that a container keeps.

/// Numbers of the capabilities that are kept: the default set of Podman (containers/common, `DefaultCapabilities`),
/// which is Docker's without `MKNOD`, `NET_RAW` and `AUDIT_WRITE`. Numbers from include/uapi/linux/capability.h.
pub(crate) const KEPT: [u32; 11] = [
    0,  // CHOWN
    1,  // DAC_OVERRIDE
    3,  // FOWNER
    4,  // FSETID
    5,  // KILL
    6,  // SETGID
    7,  // SETUID
    8,  // SETPCAP
    10, // NET_BIND_SERVICE
    18, // SYS_CHROOT
    31, // SETFCAP
];

/// The highest capability of Linux 5.9 and later (`CAP_CHECKPOINT_RESTORE`), where the kernel does not tell.
const LAST_KNOWN: u32 = 40;

/// [`KEPT`] as a bit mask.
#[must_use]
pub(crate) fn kept_mask() -> u64 {
    KEPT.iter().fold(0, |mask, &cap| mask | 1 << cap)
}

/// Every capability of this kernel that is not kept.
#[must_use]
pub(crate) fn dropped() -> Vec<u32> {
    let last = std::fs::read_to_string("/proc/sys/kernel/cap_last_cap")
        .ok()
        .and_then(|text| text.trim().parse().ok())
        .unwrap_or(LAST_KNOWN);
    (0..=last).filter(|cap| !KEPT.contains(cap)).collect()
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
        assert_eq!(kept_mask(), 0x8004_05fb);
        assert!(dropped().iter().all(|cap| !KEPT.contains(cap)));
        assert!(dropped().contains(&21), "SYS_ADMIN is dropped");
    }
}
