//! `probe [HOST_PID FILE NONCE]`: what can a program see and do where it runs?
//!
//! Everything is tried, nothing is guessed, and nothing changes anything: each call is made so that the kernel checks
//! the right first and then finds nothing to do (a file system type that does not exist, a clock rate that is
//! already set). What needs a process of its own is tried in one.
//!
//! One line a probe: `probe NAME yes`, `probe NAME no WHY`, or `probe NAME is TEXT`: a fact, for whoever knows the host
//! to compare with.

use core::ffi::CStr;
use core::fmt;
use std::fs;
use std::io;

use crate::child::reap;
use workload_program::output::Lines;
use workload_program::sys::{self, WriteFailed};

/// What the caller knows of the host.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct Hints<'a> {
    /// A process of the host, which runs.
    pub pid: &'a str,
    /// A file of the host that everybody may read.
    pub file: &'a str,
    /// What is in it.
    pub nonce: &'a str,
}

/// What a probe found.
#[derive(Debug)]
enum Found {
    /// It can be done or seen.
    Yes,
    /// It cannot, for this reason.
    No(String),
    /// A fact.
    Is(String),
}

impl fmt::Display for Found {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Yes => f.write_str("yes"),
            Self::No(text) => write!(f, "no {text}"),
            Self::Is(text) => write!(f, "is {text}"),
        }
    }
}

/// All probes, by name, in the order in which they are made. The names are those of the lines.
pub const NAMES: [&str; 24] = [
    "host-process",
    "host-file",
    "processes",
    "kernel-release",
    "host-name",
    "memory-mib",
    "cpus",
    "block-devices",
    "network-interfaces",
    "kernel-log",
    "kernel-memory",
    "kernel-settings",
    "module-load",
    "clock-set",
    "reboot",
    "raw-socket",
    "mount",
    "new-namespace",
    "new-user-namespace",
    "join-namespace",
    "ptrace",
    "bpf",
    "perf-events",
    "io-uring",
];

/// Makes all probes and prints their lines.
///
/// # Errors
///
/// [`WriteFailed`] where nobody reads.
pub fn run(hints: Hints<'_>) -> Result<(), WriteFailed> {
    let mut lines = Lines::default();
    for name in NAMES {
        lines.line(format_args!("probe {name} {}", probe(name, hints)));
        lines.flush()?;
    }
    Ok(())
}

/// As [`run`], with the hints as arguments; the exit status.
pub fn with_arguments(mut arguments: impl Iterator<Item = &'static [u8]>) -> u8 {
    let mut next = || core::str::from_utf8(arguments.next().unwrap_or_default()).unwrap_or_default();
    let hints = Hints { pid: next(), file: next(), nonce: next() };
    u8::from(run(hints).is_err())
}

fn probe(name: &str, hints: Hints<'_>) -> Found {
    match name {
        "host-process" => host_process(hints.pid),
        "host-file" => match fs::read_to_string(hints.file) {
            Ok(text) if text.trim() == hints.nonce => Found::Yes,
            Ok(_) => Found::No("another file has its name".into()),
            Err(error) => refused(&error),
        },
        "processes" => count("/proc", |name| name.bytes().all(|letter| letter.is_ascii_digit())),
        "kernel-release" => uname(|names| &names.release),
        "host-name" => uname(|names| &names.nodename),
        "memory-mib" => memory(),
        // SAFETY: sysconf(3) takes a number and no pointer.
        "cpus" => Found::Is(unsafe { libc::sysconf(libc::_SC_NPROCESSORS_ONLN) }.to_string()),
        "block-devices" => count("/sys/block", |_| true),
        "network-interfaces" => interfaces(),
        "kernel-log" => kernel_log(),
        "kernel-memory" => opened(c"/dev/mem", libc::O_RDONLY),
        // Opened, and nothing is written.
        "kernel-settings" => opened(c"/proc/sys/kernel/printk", libc::O_WRONLY),
        // SAFETY: of no length and with an empty string for arguments: nothing is read but that. The right is checked
        // first (kernel/module/main.c, may_init_module).
        "module-load" => right(|| unsafe {
            libc::syscall(libc::SYS_init_module, core::ptr::null::<u8>(), 0_usize, c"".as_ptr())
        }),
        "clock-set" => clock_set(),
        // SAFETY: with wrong magic numbers it does nothing; the right is checked first (kernel/reboot.c).
        "reboot" => right(|| unsafe { libc::syscall(libc::SYS_reboot, 0, 0, 0, 0) }),
        "raw-socket" => {
            // SAFETY: socket(2) takes three numbers.
            descriptor(|| unsafe { libc::socket(libc::AF_INET, libc::SOCK_RAW, libc::IPPROTO_ICMP) })
        }
        "mount" => mount(),
        // SAFETY: unshare(2) takes a number; the namespace goes with the child.
        "new-namespace" => in_child(|| unsafe { libc::unshare(libc::CLONE_NEWUTS) } == 0),
        // SAFETY: as above.
        "new-user-namespace" => in_child(|| unsafe { libc::unshare(libc::CLONE_NEWUSER) } == 0),
        "join-namespace" => join(hints.pid),
        "ptrace" => trace_child(),
        "bpf" => bpf(),
        "perf-events" => perf_events(),
        "io-uring" => io_uring(),
        _ => Found::No("no such probe".into()),
    }
}

/// The last error of this thread, as the reason why not.
fn denied() -> Found {
    refused(&io::Error::last_os_error())
}

fn refused(error: &io::Error) -> Found {
    Found::No(error.raw_os_error().map_or_else(|| error.to_string(), name_of))
}

/// The errors that occur here by their names, which are shorter than their texts.
fn name_of(errno: i32) -> String {
    match errno {
        libc::EPERM => "EPERM".into(),
        libc::ENOENT => "ENOENT".into(),
        libc::EACCES => "EACCES".into(),
        libc::ENOSYS => "ENOSYS".into(),
        libc::EINVAL => "EINVAL".into(),
        libc::EROFS => "EROFS".into(),
        libc::ENODEV => "ENODEV".into(),
        libc::EAFNOSUPPORT => "EAFNOSUPPORT".into(),
        libc::ESRCH => "ESRCH".into(),
        libc::ENOTDIR => "ENOTDIR".into(),
        libc::ENXIO => "ENXIO".into(),
        other => format!("errno {other}"),
    }
}

/// A call that cannot succeed: whether it is the right that it fails for, or what comes after.
fn right(call: impl FnOnce() -> libc::c_long) -> Found {
    if call() >= 0 {
        return Found::Yes;
    }
    let error = io::Error::last_os_error();
    match error.raw_os_error() {
        Some(libc::EPERM | libc::EACCES | libc::ENOSYS) => refused(&error),
        _ => Found::Yes,
    }
}

/// A call that gives a descriptor, which is closed again.
fn descriptor(call: impl FnOnce() -> i32) -> Found {
    let descriptor = call();
    if descriptor < 0 {
        return denied();
    }
    // SAFETY: it was given to us just now, and nobody else knows it.
    unsafe { libc::close(descriptor) };
    Found::Yes
}

fn opened(path: &CStr, how: i32) -> Found {
    // SAFETY: the path is a string that ends in a zero byte.
    descriptor(|| unsafe { libc::open(path.as_ptr(), how | libc::O_CLOEXEC) })
}

fn host_process(pid: &str) -> Found {
    let Ok(number) = pid.parse::<i32>() else { return Found::No("no process was named".into()) };
    // The same number may be somebody else's here: the name must be right, too.
    match fs::read_to_string(format!("/proc/{number}/comm")) {
        Ok(name) if name.trim() == "bench-harness" => Found::Yes,
        Ok(name) => Found::No(format!("its number is that of {:.20}", name.trim())),
        Err(error) => refused(&error),
    }
}

fn count(folder: &str, is_one: impl Fn(&str) -> bool) -> Found {
    match fs::read_dir(folder) {
        Ok(entries) => {
            let names = entries.flatten().map(|entry| entry.file_name());
            Found::Is(names.filter(|name| name.to_str().is_some_and(&is_one)).count().to_string())
        }
        Err(error) => refused(&error),
    }
}

fn uname(field: impl Fn(&libc::utsname) -> &[libc::c_char]) -> Found {
    // SAFETY: utsname is arrays of bytes, for which all zeros are valid.
    let mut names: libc::utsname = unsafe { core::mem::zeroed() };
    // SAFETY: uname(2) writes one utsname, to which the pointer is valid.
    if unsafe { libc::uname(&raw mut names) } != 0 {
        return denied();
    }
    let text: String = field(&names)
        .iter()
        .map(|letter| letter.cast_unsigned())
        .take_while(|letter| *letter != 0)
        .map(|letter| if letter.is_ascii_graphic() { char::from(letter) } else { '?' })
        .collect();
    Found::Is(text)
}

fn memory() -> Found {
    // SAFETY: sysinfo is numbers, for which all zeros are valid.
    let mut info: libc::sysinfo = unsafe { core::mem::zeroed() };
    // SAFETY: sysinfo(2) writes one sysinfo, to which the pointer is valid.
    if unsafe { libc::sysinfo(&raw mut info) } != 0 {
        return denied();
    }
    Found::Is((info.totalram.saturating_mul(u64::from(info.mem_unit)) >> 20).to_string())
}

fn interfaces() -> Found {
    // SAFETY: takes nothing and returns an array that is ours until it is freed below, or null.
    let list = unsafe { libc::if_nameindex() };
    if list.is_null() {
        return denied();
    }
    let mut number = 0_usize;
    // SAFETY: the array ends with an entry whose index is 0; no place behind that is read.
    while unsafe { (*list.add(number)).if_index } != 0 {
        number += 1;
    }
    // SAFETY: it came from if_nameindex and is freed once.
    unsafe { libc::if_freenameindex(list) };
    Found::Is(number.to_string())
}

fn kernel_log() -> Found {
    /// Of syslog(2): read what is there, and leave it.
    const READ_ALL: i32 = 3;
    let mut text = [0_u8; 256];
    // SAFETY: at most 256 bytes are written to a buffer of 256.
    let length = unsafe { libc::klogctl(READ_ALL, text.as_mut_ptr().cast(), 256) };
    if length < 0 { denied() } else { Found::Yes }
}

fn clock_set() -> Found {
    // SAFETY: timex is numbers, for which all zeros are valid.
    let mut clock: libc::timex = unsafe { core::mem::zeroed() };
    // SAFETY: without modes, adjtimex(2) only fills the structure, to which the pointer is valid.
    if unsafe { libc::adjtimex(&raw mut clock) } < 0 {
        return denied();
    }
    // The length of a tick that was read just now: setting it needs the right and changes nothing.
    clock.modes = libc::ADJ_TICK;
    // SAFETY: as above; only the tick is taken.
    if unsafe { libc::adjtimex(&raw mut clock) } < 0 { denied() } else { Found::Yes }
}

fn mount() -> Found {
    let type_name = c"no-such-file-system".as_ptr();
    let (source, place) = (c"none".as_ptr(), c"/".as_ptr());
    right(|| {
        // SAFETY: three strings, and no data. There is no such type: the right is checked first (fs/namespace.c,
        // path_mount).
        libc::c_long::from(unsafe { libc::mount(source, place, type_name, 0, core::ptr::null()) })
    })
}

fn join(pid: &str) -> Found {
    let namespace = match fs::File::open(format!("/proc/{pid}/ns/uts")) {
        Ok(namespace) => namespace,
        Err(error) => return refused(&error),
    };
    let number = std::os::fd::AsRawFd::as_raw_fd(&namespace);
    // SAFETY: setns(2) takes two numbers; the descriptor is open.
    in_child(move || unsafe { libc::setns(number, libc::CLONE_NEWUTS) } == 0)
}

/// Tries it in a process of its own, which ends at once.
fn in_child(attempt: impl FnOnce() -> bool) -> Found {
    // SAFETY: fork(2) takes nothing. There is one thread, so that the child finds no lock held by nobody.
    match unsafe { libc::fork() } {
        -1 => Found::No("no second process".into()),
        0 => sys::exit(if attempt() {
            0
        } else {
            u8::try_from(io::Error::last_os_error().raw_os_error().unwrap_or(255)).unwrap_or(255)
        }),
        child => match reap(child) {
            Some(0) => Found::Yes,
            Some(errno) => Found::No(name_of(errno)),
            None => Found::No("its process was killed".into()),
        },
    }
}

/// Whether a child of ours may be traced.
fn trace_child() -> Found {
    // SAFETY: as in `in_child`.
    match unsafe { libc::fork() } {
        -1 => Found::No("no second process".into()),
        0 => loop {
            // SAFETY: pause(2) takes nothing. The parent ends this process.
            unsafe { libc::pause() };
        },
        child => {
            let null = core::ptr::null_mut::<u8>();
            // SAFETY: PTRACE_SEIZE takes no address and, without options, no data.
            let done = unsafe { libc::ptrace(libc::PTRACE_SEIZE, child, null, null) };
            let found = if done == 0 { Found::Yes } else { denied() };
            // SAFETY: the child was not reaped yet, so that the number is still its own.
            unsafe { libc::kill(child, libc::SIGKILL) };
            reap(child);
            found
        }
    }
}

fn bpf() -> Found {
    const MAP_CREATE: i32 = 0;
    const MAP_TYPE_ARRAY: u32 = 2;
    // `union bpf_attr` for BPF_MAP_CREATE begins: type, size of keys, size of values, number of entries, flags.
    let attributes: [u32; 5] = [MAP_TYPE_ARRAY, 4, 4, 1, 0];
    descriptor(|| {
        // SAFETY: it reads as many bytes as are there.
        let map = unsafe { libc::syscall(libc::SYS_bpf, MAP_CREATE, attributes.as_ptr(), 20_usize) };
        i32::try_from(map).unwrap_or(-1)
    })
}

fn perf_events() -> Found {
    const TYPE_SOFTWARE: u32 = 1;
    /// PERF_ATTR_SIZE_VER0 of include/uapi/linux/perf_event.h.
    const SIZE: u32 = 64;
    // `struct perf_event_attr` begins: type, size, configuration (0: the CPU clock).
    let mut attributes = [0_u32; 16];
    attributes[0] = TYPE_SOFTWARE;
    attributes[1] = SIZE;
    descriptor(|| {
        // SAFETY: it reads as many bytes as the structure says it has, 64.
        let event =
            unsafe { libc::syscall(libc::SYS_perf_event_open, attributes.as_ptr(), 0, -1, -1, 0_usize) };
        i32::try_from(event).unwrap_or(-1)
    })
}

fn io_uring() -> Found {
    // `struct io_uring_params`: 120 bytes, all of them 0 for the plainest ring.
    let mut parameters = [0_u32; 30];
    descriptor(|| {
        // SAFETY: it reads and writes as many bytes as are there.
        let ring = unsafe { libc::syscall(libc::SYS_io_uring_setup, 1, parameters.as_mut_ptr()) };
        i32::try_from(ring).unwrap_or(-1)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_needs_no_right_is_found_out_here() {
        for name in ["kernel-release", "host-name", "memory-mib", "cpus", "processes", "network-interfaces"] {
            assert!(matches!(probe(name, Hints::default()), Found::Is(_)), "{name}");
        }
        assert!(matches!(probe("host-process", Hints::default()), Found::No(_)));
        assert!(matches!(probe("no-such", Hints::default()), Found::No(_)));
    }

    #[test]
    fn a_file_counts_as_the_hosts_only_with_what_is_in_it() {
        let hints = Hints { file: "/proc/sys/kernel/ostype", nonce: "Linux", pid: "" };
        assert!(matches!(probe("host-file", hints), Found::Yes));
        assert!(matches!(probe("host-file", Hints { nonce: "other", ..hints }), Found::No(_)));
    }
}
