//! `aggressor KIND BYTES PROCESSES`: a bad neighbour, who keeps to a limit.
//!
//! Says `ready` when it is about to begin, goes on until standard input ends, then prints what it has done: the most
//! memory and processes that it had at a time, and how much it did. Each keeps to its limit by its own counter, and asks
//! the kernel for the same by resource limits where there are any; whoever starts it sets the outer bound and checks.

use std::fs::File;
use std::io::{self, Seek, SeekFrom, Write};
use std::os::fd::FromRawFd;

use crate::child::{cut_off, reap};
use workload_program::mix::{Random, fold};
use workload_program::output::{Lines, complain};
use workload_program::sys::{self, now_ns};
use workload_program::work::filled;

/// The kinds, in the order in which they are listed.
pub const KINDS: [&str; 6] = ["cpu", "bandwidth", "memory", "fork", "syscall", "page-cache"];

/// Between two looks at standard input.
const TURN_NS: u64 = 5_000_000;
const MIB: usize = 1 << 20;
const PAGE: usize = 4096;

/// What it may use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Limits {
    bytes: usize,
    processes: usize,
}

/// What it has used and done.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
struct Used {
    bytes: usize,
    processes: usize,
    operations: u64,
    /// How often the kernel refused what was asked for.
    refused: u64,
}

/// One kind of aggressor: a turn of some milliseconds at a time.
type Turn = Box<dyn FnMut(&mut Used)>;

/// As the command line has it; the exit status.
pub fn with_arguments(mut arguments: impl Iterator<Item = &'static [u8]>) -> u8 {
    let mut next = || core::str::from_utf8(arguments.next().unwrap_or_default()).unwrap_or_default();
    let (kind, bytes, processes) = (next(), next().parse(), next().parse());
    let (Ok(bytes), Ok(processes)) = (bytes, processes) else {
        complain(&format_args!("usage: aggressor KIND BYTES PROCESSES; kinds: {}", KINDS.join(" ")));
        return 2;
    };
    match prepare(kind, Limits { bytes, processes }) {
        Ok(turn) => u8::from(run(turn).is_err()),
        Err(reason) => {
            complain(&reason);
            1
        }
    }
}

fn run(mut turn: Turn) -> Result<(), sys::WriteFailed> {
    let mut used = Used { processes: 1, ..Used::default() };
    let mut lines = Lines::default();
    // The first turn brings everything up: from `go` on it is what it is.
    turn(&mut used);
    lines.line(format_args!("go"));
    lines.flush()?;
    while !input_has_ended() {
        turn(&mut used);
    }
    // Ends its processes, and gives its memory back.
    drop(turn);
    for (name, unit, number) in [
        ("used", "bytes", used.bytes as u64),
        ("processes", "count", used.processes as u64),
        ("operations", "count", used.operations),
        ("refused", "count", used.refused),
    ] {
        lines.line(format_args!("sample {name} {unit} {number}"));
    }
    lines.flush()
}

fn prepare(kind: &str, limits: Limits) -> Result<Turn, String> {
    let words = |error: &dyn core::fmt::Display| error.to_string();
    Ok(match kind {
        "cpu" => Box::new(|used| {
            let mut sum = 0;
            until_turn_ends(|| {
                (0..10_000).for_each(|number| sum = fold(sum, number));
                used.operations += 10_000;
            });
            core::hint::black_box(sum);
        }),
        "bandwidth" => {
            let count = limits.bytes / 2 / size_of::<u64>();
            let (mut from, mut to) = (
                filled(count, 1_u64).map_err(|error| words(&error))?,
                filled(count, 2_u64).map_err(|error| words(&error))?,
            );
            Box::new(move |used| {
                used.bytes = 2 * count * size_of::<u64>();
                until_turn_ends(|| {
                    to.copy_from_slice(&from);
                    core::mem::swap(&mut from, &mut to);
                    core::hint::black_box(&to);
                    used.operations += count as u64;
                });
            })
        }
        "memory" => memory(limits.bytes),
        "fork" => fork(limits.processes),
        "syscall" => Box::new(|used| {
            until_turn_ends(|| {
                for _ in 0..64 {
                    // SAFETY: getppid(2) takes no argument and changes nothing.
                    unsafe { sys::call(libc::SYS_getppid, 0, 0, 0) };
                }
                // A path, a descriptor and a device, too.
                used.refused += u64::from(File::open("/dev/null").is_err());
                used.operations += 66;
            });
        }),
        "page-cache" => page_cache(limits.bytes).map_err(|error| format!("cannot make a file: {error}"))?,
        _ => return Err(format!("no aggressor {kind:.40?}; known are: {}", KINDS.join(" "))),
    })
}

fn until_turn_ends(mut step: impl FnMut()) {
    let end = now_ns().saturating_add(TURN_NS);
    loop {
        step();
        if now_ns() >= end {
            return;
        }
    }
}

fn input_has_ended() -> bool {
    let mut stdin = libc::pollfd { fd: 0, events: libc::POLLIN, revents: 0 };
    // SAFETY: poll(2) reads and writes one pollfd, to which the pointer is valid.
    if unsafe { libc::poll(&raw mut stdin, 1, 0) } <= 0 {
        return false;
    }
    let mut byte = 0_u8;
    // SAFETY: read(2) writes at most one byte to `byte`.
    let read = unsafe { sys::call(libc::SYS_read, 0, (&raw mut byte) as usize, 1) };
    read <= 0
}

/// As much memory as it may have, all of it written to, and a piece of it returned and taken again in every turn.
fn memory(bytes: usize) -> Turn {
    /// With what `malloc` puts before it a mapping of its own, of the size of a large page.
    const PIECE: usize = 2 * MIB - PAGE;
    limit(libc::RLIMIT_DATA, bytes as u64 + 8 * MIB as u64);
    let mut pieces: Vec<Vec<u8>> = Vec::new();
    let mut random = Random::new(1);
    Box::new(move |used| {
        while (pieces.len() + 1) * PIECE <= bytes {
            match filled(PIECE, 1_u8) {
                Ok(piece) => pieces.push(piece),
                Err(_) => {
                    used.refused += 1;
                    break;
                }
            }
        }
        used.bytes = used.bytes.max(pieces.len() * PIECE);
        until_turn_ends(|| {
            let count = u32::try_from(pieces.len()).unwrap_or(u32::MAX);
            let Some(piece) = pieces.get_mut(random.below(count) as usize) else { return };
            piece.iter_mut().step_by(PAGE).for_each(|byte| *byte = byte.wrapping_add(1));
            used.operations += (PIECE / PAGE) as u64;
        });
        pieces.pop();
    })
}

/// As many processes as it may have, and always one that ends for one that begins.
fn fork(most: usize) -> Turn {
    struct Children(Vec<libc::pid_t>);
    impl Children {
        fn end_one(&mut self) {
            if self.0.is_empty() {
                return;
            }
            let child = self.0.remove(0);
            // SAFETY: the child was not reaped yet, so that the number is still its own.
            unsafe { libc::kill(child, libc::SIGKILL) };
            reap(child);
        }
    }
    impl Drop for Children {
        fn drop(&mut self) {
            while !self.0.is_empty() {
                self.end_one();
            }
        }
    }
    limit(libc::RLIMIT_CORE, 0);
    let mut children = Children(Vec::new());
    // SAFETY: getpid(2) takes nothing.
    let parent = unsafe { libc::getpid() };
    Box::new(move |used| {
        // Itself is one of them.
        used.processes = used.processes.max(children.0.len() + 1);
        until_turn_ends(|| {
            if most < 2 {
                return;
            }
            if children.0.len() + 1 >= most {
                children.end_one();
            }
            // SAFETY: fork(2) takes nothing. There is one thread, so that the child finds no lock held by nobody.
            match unsafe { libc::fork() } {
                -1 => {
                    used.refused += 1;
                    children.end_one();
                }
                0 => stay(parent),
                child => {
                    children.0.push(child);
                    used.operations += 1;
                }
            }
            used.processes = used.processes.max(children.0.len() + 1);
        });
    })
}

/// What a child does: nothing, until it is ended, or its parent is.
fn stay(parent: libc::pid_t) -> ! {
    cut_off();
    // SAFETY: getppid(2) and pause(2) take nothing. A parent that ended before the line above has run is not waited for.
    while unsafe { libc::getppid() } == parent {
        // SAFETY: as above.
        unsafe { libc::pause() };
    }
    sys::exit(0)
}

/// A file as large as it may be, written anew again and again, as fast as the kernel takes it.
fn page_cache(bytes: usize) -> io::Result<Turn> {
    limit(libc::RLIMIT_FSIZE, bytes as u64);
    // Beyond the limit the kernel sends a signal, which would be its end.
    // SAFETY: SIG_IGN is no function of ours.
    unsafe { libc::signal(libc::SIGXFSZ, libc::SIG_IGN) };
    let mut file = nameless()?;
    let piece = filled(MIB / 4, 7_u8).map_err(io::Error::other)?;
    let mut length = 0;
    Ok(Box::new(move |used| {
        until_turn_ends(|| {
            if length + piece.len() > bytes {
                used.refused +=
                    u64::from(file.set_len(0).and_then(|()| file.seek(SeekFrom::Start(0))).is_err());
                length = 0;
            }
            match file.write_all(&piece) {
                Ok(()) => length += piece.len(),
                Err(_) => {
                    used.refused += 1;
                    length = bytes;
                }
            }
            used.bytes = used.bytes.max(length.min(bytes));
            used.operations += (piece.len() / PAGE) as u64;
        });
    }))
}

/// A file without a name, gone with this process: on the disk where there is one, else in memory, else (without either
/// call) one whose name is taken away at once.
fn nameless() -> io::Result<File> {
    let flags = libc::O_TMPFILE | libc::O_RDWR | libc::O_CLOEXEC;
    for path in [c"/var/tmp", c"/tmp"] {
        // SAFETY: the path is a string that ends in a zero byte.
        let descriptor = unsafe { libc::open(path.as_ptr(), flags, 0o600) };
        if descriptor >= 0 {
            // SAFETY: it was given to us just now, and nobody else owns it.
            return Ok(unsafe { File::from_raw_fd(descriptor) });
        }
    }
    // SAFETY: the name is a string that ends in a zero byte.
    let descriptor = unsafe { libc::memfd_create(c"page-cache".as_ptr(), libc::MFD_CLOEXEC) };
    if descriptor >= 0 {
        // SAFETY: as above.
        return Ok(unsafe { File::from_raw_fd(descriptor) });
    }
    let path = "/tmp/page-cache";
    let file = File::options().read(true).write(true).create_new(true).open(path)?;
    std::fs::remove_file(path)?;
    Ok(file)
}

/// Asks the kernel to hold us to it. A target that has no such limits has an outer one.
fn limit(resource: libc::__rlimit_resource_t, most: u64) {
    let limit = libc::rlimit { rlim_cur: most, rlim_max: most };
    // SAFETY: setrlimit(2) reads one rlimit, to which the pointer is valid.
    unsafe { libc::setrlimit(resource, &raw const limit) };
}

#[cfg(test)]
mod tests {
    use super::*;

    fn after_turns(kind: &str, limits: Limits) -> Used {
        let mut turn = prepare(kind, limits).unwrap();
        let mut used = Used::default();
        for _ in 0..5 {
            turn(&mut used);
        }
        used
    }

    #[test]
    fn aggressors_use_what_they_may_and_no_more() {
        let limits = Limits { bytes: 16 * MIB, processes: 1 };
        // The others set limits of the whole process, or make processes: tests/aggressors.rs runs them as they are.
        let used = after_turns("bandwidth", limits);
        assert_eq!(used.bytes, 16 * MIB);
        for kind in ["cpu", "syscall"] {
            let used = after_turns(kind, limits);
            assert!(used.operations > 0 && used.bytes == 0, "{kind}: {used:?}");
        }
    }

    #[test]
    fn an_unknown_kind_is_refused_with_those_that_are_known() {
        let reason = prepare("disk", Limits { bytes: 0, processes: 0 }).err().unwrap();
        assert!(reason.contains("page-cache"), "{reason}");
    }
}
