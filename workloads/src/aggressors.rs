//! Bad neighbours: what each does to the host, and what it needs of a target. They are modes of
//! [`crate::REAL_PROGRAM`].

use crate::needs::Needs;

/// An aggressor.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Aggressor {
    /// Its name, as on the program's command line and in the recordings.
    pub name: &'static str,
    /// What it does, in one line.
    pub summary: &'static str,
    /// Whether one is started for each CPU; else there is one.
    pub one_a_cpu: bool,
    /// Whether it has processes of its own.
    pub forks: bool,
    /// What it needs of a target, its memory apart.
    pub calls: &'static [&'static str],
}

impl Aggressor {
    /// What it needs of a target where it is told to use so many bytes.
    #[must_use]
    pub const fn needs(&self, bytes: u64) -> Needs {
        Needs { memory_bytes: OWN_BYTES + bytes, stdin: true, network: false, calls: self.calls }
    }

    /// The arguments that follow the program's name.
    #[must_use]
    pub fn arguments(&self, bytes: u64, processes: u64) -> Vec<String> {
        vec!["aggressor".into(), self.name.into(), bytes.to_string(), processes.to_string()]
    }
}

/// What each has of its own, besides what it is told to use: the program's pages, stack and heap, and what a kernel keeps for them.
pub const OWN_BYTES: u64 = 12 << 20;

static ALL: [Aggressor; 6] = [
    Aggressor {
        name: "cpu",
        summary: "takes the CPUs: integer arithmetic in ring 3, one for each CPU",
        one_a_cpu: true,
        forks: false,
        calls: &["clock_gettime", "poll"],
    },
    Aggressor {
        name: "bandwidth",
        summary: "copies memory, far more than any cache holds, one for each CPU",
        one_a_cpu: true,
        forks: false,
        calls: &["clock_gettime", "mmap", "poll"],
    },
    Aggressor {
        name: "memory",
        summary: "holds as much memory as it may have, writes to it, gives pieces back and takes them again",
        one_a_cpu: false,
        forks: false,
        calls: &["clock_gettime", "mmap", "munmap", "poll"],
    },
    Aggressor {
        name: "fork",
        summary: "a fork bomb at its limit: as many processes as it may have, ending and beginning without pause",
        one_a_cpu: false,
        forks: true,
        calls: &["clock_gettime", "clone", "poll", "wait4"],
    },
    Aggressor {
        name: "syscall",
        summary: "a storm of system calls, one for each CPU",
        one_a_cpu: true,
        forks: false,
        calls: &["clock_gettime", "close", "getppid", "openat", "poll"],
    },
    Aggressor {
        name: "page-cache",
        summary: "writes a file without a name again and again: page cache, and a disk where there is one",
        one_a_cpu: false,
        forks: false,
        calls: &["clock_gettime", "ftruncate", "lseek", "openat", "poll"],
    },
];

/// All aggressors, in the order in which they are listed.
#[must_use]
pub fn all() -> &'static [Aggressor] {
    &ALL
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_aggressor_needs_what_it_is_told_to_use_and_its_input() {
        let needs = ALL[2].needs(100);
        assert!(needs.memory_bytes > 100 && needs.stdin);
        assert_eq!(ALL[3].arguments(100, 32), ["aggressor", "fork", "100", "32"]);
    }
}
