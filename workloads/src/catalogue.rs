//! The workloads: what each does, what one operation is, and which checksum it must come to.

use crate::needs::Needs;

/// The program that a workload is part of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Program {
    /// The small one, [`crate::PROGRAM`].
    Core,
    /// That of the real workloads, [`crate::REAL_PROGRAM`].
    Real,
}

impl Program {
    /// The file: a static x86-64 Linux ELF.
    #[must_use]
    pub const fn bytes(self) -> &'static [u8] {
        match self {
            Self::Core => crate::PROGRAM,
            Self::Real => crate::REAL_PROGRAM,
        }
    }
}

/// A workload of one of the programs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Workload {
    /// Which of them.
    pub program: Program,
    /// Its name, as on the command line and in the recordings.
    pub name: &'static str,
    /// What it stresses, in one line.
    pub summary: &'static str,
    /// What one operation is: the `op` of `time_per_op`.
    pub operation: &'static str,
    /// Operations in one iteration: a repetition of `iters` iterations does `iters` times as many.
    pub operations_per_iteration: u64,
    /// What it prints after `check` where all went right, whatever the number of iterations.
    pub expected_check: &'static str,
    /// Figures beside `time_per_op`: name and unit.
    pub figures: &'static [(&'static str, &'static str)],
    /// What it needs of a target.
    pub needs: Needs,
}

/// Of those that need no more memory than the heap has.
const HEAP: &[&str] = &["clock_gettime"];
/// Of those that need large pieces, which the allocator maps.
const MAPPING: &[&str] = &["clock_gettime", "mmap", "munmap"];

const MIB: u64 = 1 << 20;
/// The program's own pages, its stack and a small heap, generously.
const OWN_BYTES: u64 = 4 * MIB;

/// The larger program's pages.
const REAL_BYTES: u64 = 4 * MIB;

const fn needs(memory_bytes: u64, calls: &'static [&'static str]) -> Needs {
    Needs { memory_bytes: OWN_BYTES + memory_bytes, stdin: false, network: false, calls }
}

static ALL: [Workload; 19] = [
    Workload {
        program: Program::Core,
        name: "noop",
        summary: "nothing: prints `ready` and ends; what is measured is the target",
        operation: "an empty iteration",
        operations_per_iteration: 1,
        expected_check: "0000000000000000",
        figures: &[],
        needs: needs(0, &[]),
    },
    Workload {
        program: Program::Core,
        name: "cpu-int",
        summary: "integer arithmetic with unpredictable branches: a sort, Collatz sequences, an interpreter",
        operation: "one pass over 1024 numbers",
        operations_per_iteration: 1,
        expected_check: "294e61b229b0297f",
        figures: &[],
        needs: needs(0, HEAP),
    },
    Workload {
        program: Program::Core,
        name: "cpu-float",
        summary: "blocked matrix product in double precision",
        operation: "one product of two 128 x 128 matrices",
        operations_per_iteration: 1,
        expected_check: "69ff15d63a61065e",
        figures: &[],
        needs: needs(MIB, MAPPING),
    },
    Workload {
        program: Program::Core,
        name: "sha256",
        summary: "SHA-256 by the sha2 crate, with the processor's SHA instructions where it has them",
        operation: "one message of 64 KiB",
        operations_per_iteration: 1,
        expected_check: "06b3e82edd4c105a",
        figures: &[("bandwidth", "bytes/s")],
        needs: needs(MIB, MAPPING),
    },
    Workload {
        program: Program::Core,
        name: "deflate",
        summary: "compressing and expanding a generated text by the miniz_oxide crate",
        operation: "one text of 64 KiB there and back",
        operations_per_iteration: 1,
        expected_check: "8ed8f3891c2c06d5",
        figures: &[],
        needs: needs(2 * MIB, MAPPING),
    },
    Workload {
        program: Program::Core,
        name: "mem-stream",
        summary: "memory bandwidth: a triad over three arrays of 64 MiB",
        operation: "one pass over the arrays",
        operations_per_iteration: 1,
        expected_check: "d1b7a903798996bf",
        figures: &[("bandwidth", "bytes/s")],
        needs: needs(192 * MIB, MAPPING),
    },
    Workload {
        program: Program::Core,
        name: "mem-latency",
        summary: "memory latency: a random pointer chase through 16 KiB, 256 KiB, 2 MiB and 128 MiB",
        operation: "one step, the four sizes alike",
        operations_per_iteration: 4 * 65_536,
        expected_check: "7af08f53197188af",
        figures: &[("step_16kib", "ns"), ("step_256kib", "ns"), ("step_2mib", "ns"), ("step_128mib", "ns")],
        needs: needs(150 * MIB, MAPPING),
    },
    Workload {
        program: Program::Core,
        name: "page-walk",
        summary: "page-table walks: a random pointer chase through 8192 pages of 4 KiB",
        operation: "one step, which no TLB knows the page of",
        operations_per_iteration: 4 * 8192,
        expected_check: "5398c5be11a318f9",
        figures: &[],
        needs: needs(36 * MIB, MAPPING),
    },
    Workload {
        program: Program::Core,
        name: "page-fault",
        summary: "the first touch of memory: maps 4 MiB, writes to every page, unmaps",
        operation: "one page of 4 KiB",
        operations_per_iteration: 1024,
        expected_check: "924252db003eba5b",
        figures: &[],
        needs: needs(4 * MIB, MAPPING),
    },
    Workload {
        program: Program::Core,
        name: "syscall",
        summary: "the cheapest real system call: getppid",
        operation: "one call",
        operations_per_iteration: 256,
        expected_check: "a658d3d8632bb946",
        figures: &[],
        needs: needs(0, &["clock_gettime", "getppid"]),
    },
    Workload {
        program: Program::Core,
        name: "alloc",
        summary: "malloc and free in turn, 17 bytes to 64 KiB, 512 blocks alive",
        operation: "one malloc and one free",
        operations_per_iteration: 4096,
        expected_check: "22504b1da6d6c641",
        figures: &[],
        needs: needs(16 * MIB, HEAP),
    },
    Workload {
        program: Program::Real,
        name: "sqlite",
        summary: "SQLite in memory: insert, indexed select and update in turn, in a transaction",
        operation: "one statement",
        operations_per_iteration: 385,
        expected_check: "f6e339b56bc142ad",
        figures: &[],
        needs: needs(REAL_BYTES + 4 * MIB, MAPPING),
    },
    Workload {
        program: Program::Real,
        name: "json",
        summary: "parsing a generated document by the serde_json crate, and a query over it",
        operation: "one document of 68 KiB",
        operations_per_iteration: 1,
        expected_check: "b8a7b76b43201bf1",
        figures: &[],
        needs: needs(REAL_BYTES + 2 * MIB, HEAP),
    },
    Workload {
        program: Program::Real,
        name: "lz4",
        summary: "compressing and expanding a generated log by the lz4_flex crate",
        operation: "one log of 256 KiB there and back",
        operations_per_iteration: 1,
        expected_check: "8b892ab6398b3e19",
        figures: &[("bandwidth", "bytes/s")],
        needs: needs(REAL_BYTES + 2 * MIB, MAPPING),
    },
    Workload {
        program: Program::Real,
        name: "regex",
        summary: "scanning a generated log for two patterns by the regex crate",
        operation: "one log of 128 KiB",
        operations_per_iteration: 1,
        expected_check: "3005b4e5846bc143",
        figures: &[],
        needs: needs(REAL_BYTES + 2 * MIB, HEAP),
    },
    Workload {
        program: Program::Real,
        name: "sort",
        summary: "sorting numbers and strings by the standard library",
        operation: "16384 numbers and 4096 strings",
        operations_per_iteration: 1,
        expected_check: "a01a5683ebd4856d",
        figures: &[],
        needs: needs(REAL_BYTES + MIB, MAPPING),
    },
    Workload {
        program: Program::Real,
        name: "key-value",
        summary: "a small server in a process of its own answers a client over a socket pair",
        operation: "one request and its answer",
        operations_per_iteration: 256,
        expected_check: "bc612adc3b2e3e15",
        figures: &[("latency_p50", "ns"), ("latency_p99", "ns"), ("latency_max", "ns")],
        needs: needs(2 * REAL_BYTES + MIB, &["clock_gettime", "clone", "read", "socketpair", "wait4"]),
    },
    Workload {
        program: Program::Real,
        name: "file-io",
        summary: "writing a file in /tmp, having it synced, reading it back, and random reads",
        operation: "one file of 4 MiB, and 256 pages of it",
        operations_per_iteration: 1,
        expected_check: "1ae2e3f93853eee1",
        figures: &[("write", "bytes/s"), ("sync", "ns"), ("read", "bytes/s"), ("random_read", "ns")],
        needs: needs(
            REAL_BYTES + 10 * MIB,
            &["clock_gettime", "fsync", "ftruncate", "openat", "pread64", "pwrite64", "unlink"],
        ),
    },
    Workload {
        program: Program::Real,
        name: "net-echo",
        summary: "round trips and a stream over TCP to a server of the host that sends everything back",
        operation: "one round trip of 64 bytes, and 8 KiB of the stream",
        operations_per_iteration: 16,
        expected_check: "2152a68a40f34247",
        figures: &[("round_trip_p50", "ns"), ("round_trip_p99", "ns"), ("throughput", "bytes/s")],
        needs: Needs {
            network: true,
            ..needs(
                REAL_BYTES + 2 * MIB,
                &["clock_gettime", "connect", "ioctl", "recvfrom", "sendto", "socket"],
            )
        },
    },
];

/// All workloads, in the order in which they are listed.
pub fn all() -> &'static [Workload] {
    &ALL
}

/// The workload of that name.
pub fn find(name: &str) -> Option<&'static Workload> {
    ALL.iter().find(|workload| workload.name == name)
}

/// Those that are measured where none is chosen: the small ones. The others are asked for by name, or by `real` or
/// `all`.
pub fn usual() -> impl Iterator<Item = &'static Workload> {
    ALL.iter().filter(|workload| workload.program == Program::Core)
}

/// How the program is called.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Invocation {
    /// Which workload.
    pub workload: &'static Workload,
    /// Iterations a repetition; the program's default is one.
    pub iters: Option<u64>,
    /// Repetitions that count.
    pub reps: u64,
    /// Repetitions before them that do not.
    pub warmup: u64,
    /// Instead of repetitions: find how many iterations last about so many milliseconds, print it as the
    /// sample `iters` (unit `count`), and end.
    pub calibrate_ms: Option<u64>,
    /// Stay, idle, until standard input ends.
    pub hold: bool,
}

impl Invocation {
    /// One repetition of one iteration; none for `noop`, which then ends as soon as it is ready.
    pub fn of(workload: &'static Workload) -> Self {
        let reps = u64::from(workload.name != "noop");
        Self { workload, iters: None, reps, warmup: 0, calibrate_ms: None, hold: false }
    }

    /// The arguments that follow the program's name.
    pub fn arguments(&self) -> Vec<String> {
        let mut arguments = vec![self.workload.name.to_owned()];
        let mut add = |option: &str, value: u64| arguments.extend([option.to_owned(), value.to_string()]);
        match self.calibrate_ms {
            Some(milliseconds) => add("--calibrate", milliseconds),
            None => {
                if let Some(iters) = self.iters {
                    add("--iters", iters);
                }
                // A plain `noop` then has no options, and ends without even looking for any.
                let default = Self::of(self.workload);
                if (self.reps, self.warmup) != (default.reps, default.warmup) {
                    add("--reps", self.reps);
                    add("--warmup", self.warmup);
                }
            }
        }
        if self.hold {
            arguments.push("--hold".to_owned());
        }
        arguments
    }

    /// What it needs of a target: the workload's needs, and standard input where it is to be held.
    pub fn needs(&self) -> Needs {
        Needs { stdin: self.hold || self.workload.needs.stdin, ..self.workload.needs }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_found_and_are_unique() {
        for workload in all() {
            assert_eq!(find(workload.name), Some(workload));
            assert_eq!(all().iter().filter(|other| other.name == workload.name).count(), 1);
        }
        assert_eq!(find("cpu"), None);
    }

    #[test]
    fn no_workload_needs_more_than_256_mib() {
        assert!(all().iter().all(|workload| workload.needs.memory_bytes <= 256 * MIB));
    }

    #[test]
    fn a_plain_noop_has_no_options() {
        assert_eq!(Invocation::of(&ALL[0]).arguments(), ["noop"]);
        assert_eq!(Invocation { hold: true, ..Invocation::of(&ALL[0]) }.arguments(), ["noop", "--hold"]);
    }

    #[test]
    fn no_repetitions_at_all_are_asked_for_in_so_many_words() {
        let invocation = Invocation { reps: 0, ..Invocation::of(&ALL[1]) };
        assert_eq!(invocation.arguments(), ["cpu-int", "--reps", "0", "--warmup", "0"]);
    }

    #[test]
    fn calibration_takes_the_place_of_repetitions() {
        let invocation = Invocation { calibrate_ms: Some(20), reps: 5, ..Invocation::of(&ALL[1]) };
        assert_eq!(invocation.arguments(), ["cpu-int", "--calibrate", "20"]);
    }
}
