//! Named instants of a start.

/// The phases of a start, in the order in which they end.
///
/// The duration of a phase is the time since the end of the one before it (the first: since the caller's own reading of
/// the clock, immediately before `spawn`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Phase {
    /// The child runs its first instruction.
    Clone,
    /// Identity maps, host name and the other contents of the new namespaces are set.
    Namespaces,
    /// The child is in its control group. (The group is made before the clone; see [`Timeline::phases`].)
    Cgroup,
    /// The new root is built.
    Mounts,
    /// The old root is gone.
    Pivot,
    /// The child is in its network namespace, where that is made beside the other steps: what it still had to wait for it.
    Network,
    /// Privileges are dropped and the program's image has replaced the child's: the caller runs again.
    Exec,
}

impl Phase {
    /// The phase's name in tables and files.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Clone => "clone",
            Self::Namespaces => "namespaces",
            Self::Cgroup => "cgroup",
            Self::Mounts => "mounts",
            Self::Pivot => "pivot",
            Self::Network => "network",
            Self::Exec => "exec",
        }
    }

    /// All phases in order.
    pub const ALL: [Self; 7] =
        [Self::Clone, Self::Namespaces, Self::Cgroup, Self::Mounts, Self::Pivot, Self::Network, Self::Exec];
}

/// When each phase of one start ended, as `CLOCK_MONOTONIC` nanoseconds.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Timeline {
    marks: Vec<(&'static str, u64)>,
    cgroup_made_ns: Option<u64>,
}

impl Timeline {
    pub(crate) fn new(marks: Vec<(&'static str, u64)>, cgroup_made_ns: Option<u64>) -> Self {
        Self { marks, cgroup_made_ns }
    }

    /// `(phase, instant at which it ended)`, consecutive.
    #[must_use]
    pub fn marks(&self) -> &[(&'static str, u64)] {
        &self.marks
    }

    /// When the control group of this instance had been made, before the clone; `None` where none was asked for.
    #[must_use]
    pub fn cgroup_made_ns(&self) -> Option<u64> {
        self.cgroup_made_ns
    }

    /// The instant at which the phase of this name ended.
    #[must_use]
    pub fn end_of(&self, phase: Phase) -> Option<u64> {
        self.marks.iter().find(|(name, _)| *name == phase.name()).map(|&(_, end)| end)
    }

    /// `(phase, nanoseconds)` for a start that began at `start_ns`; they add up to the last mark minus `start_ns`.
    ///
    /// What the control group's creation took before the clone counts as `cgroup`, not as `clone`.
    #[must_use]
    pub fn phases(&self, start_ns: u64) -> Vec<(&'static str, u64)> {
        let made = self.cgroup_made_ns.map_or(0, |made| made.saturating_sub(start_ns));
        let mut before = start_ns;
        let mut phases = Vec::with_capacity(self.marks.len());
        for &(name, end) in &self.marks {
            let mut took = end.saturating_sub(before);
            before = end;
            if name == Phase::Clone.name() {
                took = took.saturating_sub(made);
            } else if name == Phase::Cgroup.name() {
                took += made;
            }
            phases.push((name, took));
        }
        phases
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn phases_add_up_and_the_group_made_before_the_clone_counts_as_cgroup() {
        let marks = vec![("clone", 150), ("namespaces", 160), ("cgroup", 165), ("exec", 200)];
        let timeline = Timeline::new(marks, Some(130));
        let phases = timeline.phases(100);
        assert_eq!(phases, [("clone", 20), ("namespaces", 10), ("cgroup", 35), ("exec", 35)]);
        assert_eq!(phases.iter().map(|p| p.1).sum::<u64>(), 100);
        assert_eq!(timeline.end_of(Phase::Exec), Some(200));
        assert_eq!(timeline.end_of(Phase::Pivot), None);
    }
}
