//! What a workload needs of a target, so that one which the target cannot serve becomes a skipped row with a
//! reason.

/// Calls without which no workload runs. A static glibc program makes about ten more before its `main`, and
/// goes on without them where they fail; so does the program itself where it cannot ignore SIGPIPE or refuse
/// huge pages.
pub const BASIC_CALLS: &[&str] = &["arch_prctl", "brk", "exit_group", "write"];

/// What a workload needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Needs {
    /// Memory for the program: its own, and what it asks for; what a system around it takes is not in it.
    pub memory_bytes: u64,
    /// Whether it reads standard input.
    pub stdin: bool,
    /// Whether it talks with a server of the host, of which [`crate::SERVER`] tells it.
    pub network: bool,
    /// System calls beyond [`BASIC_CALLS`].
    pub calls: &'static [&'static str],
}

/// What a target has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Capabilities {
    /// Memory that a program can get, where there is a limit.
    pub memory_bytes: Option<u64>,
    /// Whether standard input reaches the program.
    pub stdin: bool,
    /// Whether a network leads from the program to the host.
    pub network: bool,
    /// The system calls that are served.
    pub calls: Calls,
}

/// The system calls that a target serves.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Calls {
    /// A Linux kernel answers them.
    Linux,
    /// All that programs usually make, but for these.
    Without(&'static [&'static str]),
    /// These and no others.
    Only(Vec<String>),
}

impl Capabilities {
    /// A target in which a Linux kernel serves the program without any limit.
    pub const fn linux() -> Self {
        Self { memory_bytes: None, stdin: true, network: true, calls: Calls::Linux }
    }
}

impl Calls {
    fn serves(&self, call: &str) -> bool {
        match self {
            Self::Linux => true,
            Self::Without(missing) => !missing.contains(&call),
            Self::Only(served) => served.iter().any(|served| served == call),
        }
    }
}

impl Needs {
    /// Why a target with these capabilities cannot serve the workload; `None` where it can.
    pub fn unmet_by(&self, target: &Capabilities) -> Option<String> {
        const MIB: f64 = (1 << 20) as f64;
        if let Some(limit) = target.memory_bytes.filter(|limit| *limit < self.memory_bytes) {
            return Some(format!(
                "needs {:.0} MiB of memory and the target gives {:.0}: raise its limit",
                self.memory_bytes as f64 / MIB,
                limit as f64 / MIB
            ));
        }
        if self.stdin && !target.stdin {
            return Some("reads standard input, which the target does not pass on".to_owned());
        }
        if self.network && !target.network {
            return Some("talks with the host over a network, and the target has none".to_owned());
        }
        let missing: Vec<&str> =
            BASIC_CALLS.iter().chain(self.calls).copied().filter(|call| !target.calls.serves(call)).collect();
        (!missing.is_empty())
            .then(|| format!("needs system calls that the target does not serve: {}", missing.join(", ")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NEEDS: Needs = Needs { memory_bytes: 100 << 20, stdin: false, network: false, calls: &["munmap"] };

    #[test]
    fn a_linux_target_serves_everything() {
        assert_eq!(NEEDS.unmet_by(&Capabilities::linux()), None);
    }

    #[test]
    fn too_little_memory_is_a_reason_with_both_numbers() {
        let mut target = Capabilities { memory_bytes: Some(64 << 20), ..Capabilities::linux() };
        let reason = NEEDS.unmet_by(&target).unwrap();
        assert!(reason.contains("100 MiB") && reason.contains("64"), "{reason}");
        target.memory_bytes = Some(100 << 20);
        assert_eq!(NEEDS.unmet_by(&target), None);
    }

    #[test]
    fn missing_calls_and_input_are_reasons() {
        let basic = BASIC_CALLS.iter().map(|call| (*call).to_owned()).collect();
        let mut target = Capabilities { calls: Calls::Only(basic), ..Capabilities::linux() };
        let expected = Some("needs system calls that the target does not serve: munmap");
        assert_eq!(NEEDS.unmet_by(&target).as_deref(), expected);
        target.calls = Calls::Without(&["clone", "munmap"]);
        assert_eq!(NEEDS.unmet_by(&target).as_deref(), expected);
        target.calls = Calls::Linux;
        target.stdin = false;
        assert_eq!(NEEDS.unmet_by(&target), None);
        target.network = false;
        assert_eq!(NEEDS.unmet_by(&target), None);
        assert!(Needs { network: true, ..NEEDS }.unmet_by(&target).unwrap().contains("over a network"));
        assert!(Needs { stdin: true, ..NEEDS }.unmet_by(&target).unwrap().contains("standard input"));
    }
}
