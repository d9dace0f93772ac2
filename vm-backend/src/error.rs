//! What can go wrong, by the step at which it does.

use std::io;
use std::path::{Path, PathBuf};

/// A request that cannot be met as it is worded.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ConfigError {
    /// Memory in bytes does not fit 64 bits.
    #[error("{mib} MiB of memory is more than any machine has")]
    MemoryAbsurd {
        /// What was asked for.
        mib: u64,
    },
    /// The program and the machine's own tables need more.
    #[error("{asked} MiB of memory is too little: this program needs at least {needed} MiB")]
    MemoryTooSmall {
        /// What was asked for, MiB.
        asked: u64,
        /// What is needed, MiB.
        needed: u64,
    },
    /// The host has less.
    #[error("{asked} MiB of memory is more than this host has ({host} MiB)")]
    MemoryBeyondHost {
        /// What was asked for, MiB.
        asked: u64,
        /// What the host has, MiB.
        host: u64,
    },
    /// Transparent huge pages are switched off.
    #[error("this host gives no huge pages: {file} says \"never\"; as root, write \"madvise\" to it")]
    HugePagesOff {
        /// What says so.
        file: &'static str,
    },
    /// The kernel was built without them.
    #[error("this host's kernel has no transparent huge pages (CONFIG_TRANSPARENT_HUGEPAGE)")]
    NoHugePages,
    /// A path in the guest must say where it starts.
    #[error("the path {path} in the guest is not absolute", path = .path.display())]
    GuestPathNotAbsolute {
        /// The path.
        path: PathBuf,
    },
    /// C strings end at a zero byte.
    #[error("\"{text}\" holds a zero byte")]
    ZeroByte {
        /// The text, escaped.
        text: String,
    },
    /// Arguments and environment do not fit the pages at the stack's top.
    #[error("arguments and environment take {size} bytes, at most {limit} fit")]
    ArgumentsTooLong {
        /// What they take.
        size: usize,
        /// What fits.
        limit: usize,
    },
    /// The tables of files handed over are full.
    #[error(
        "too many files are handed over, or their paths are too long: {size} bytes of tables, at most {limit} fit"
    )]
    TooManyFiles {
        /// What they take.
        size: usize,
        /// What fits.
        limit: u64,
    },
    /// The address space for files is used up.
    #[error("the files handed over are larger than {limit} GiB together")]
    FilesTooLarge {
        /// What fits, GiB.
        limit: u64,
    },
    /// Each file needs a path of its own, in a folder.
    #[error("the path {path} in the guest cannot be a file: it is taken, or leads through a file or through a dot", path = .path.display())]
    GuestPathTaken {
        /// The path.
        path: PathBuf,
    },
    /// The guest's table of names has a fixed size.
    #[error("the files handed over and the folders that they need are {count} names, at most {limit} fit")]
    TooManyNames {
        /// How many.
        count: usize,
        /// How many fit, with those that are always there.
        limit: usize,
    },
    /// A name longer than the guest's file system keeps.
    #[error("the path {path} in the guest has a part of more than 63 bytes, or more than 255 bytes in all", path = .path.display())]
    GuestPathTooLong {
        /// The path.
        path: PathBuf,
    },
}

/// A file that is not a program which can run here.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ProgramError {
    /// No ELF magic.
    #[error("it is not an ELF file")]
    NotElf,
    /// Nobody may execute it.
    #[error("it is not executable (chmod +x)")]
    NotExecutable,
    /// `#!`.
    #[error("it is a script; run its interpreter, if that is a static program, with the script as a file")]
    Script,
    /// Cut off.
    #[error("the ELF file is truncated: {what} reaches beyond its {size} bytes")]
    Truncated {
        /// Which part.
        what: &'static str,
        /// Size of the file.
        size: u64,
    },
    /// ELFCLASS32.
    #[error("it is a 32-bit program; x86-64 is needed")]
    Class32,
    /// Another CPU's, or another byte order.
    #[error("it is a program for another machine (ELF machine {machine}); x86-64 is needed")]
    Machine {
        /// `e_machine`.
        machine: u16,
    },
    /// Neither ET_EXEC nor ET_DYN.
    #[error("it is no executable (ELF type {kind})")]
    Type {
        /// `e_type`.
        kind: u16,
    },
    /// PT_INTERP.
    #[error(
        "it is dynamically linked; a static program is needed (C: -static, Rust: -C target-feature=+crt-static)"
    )]
    Dynamic,
    /// Headers that contradict themselves.
    #[error("its ELF headers are malformed: {what}")]
    Malformed {
        /// How.
        what: &'static str,
    },
    /// Addresses the machine has not.
    #[error("its segments reach to address {end:#x}; at most {limit:#x} can be used")]
    TooHigh {
        /// End of the last segment.
        end: u64,
        /// First address that is not usable.
        limit: u64,
    },
}

/// Why `/dev/kvm` cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum KvmError {
    /// No device.
    #[error("there is no /dev/kvm: load the kvm module, or enable (nested) virtualisation for this machine")]
    Missing,
    /// No right to it.
    #[error("no right to open /dev/kvm: join the group that owns it (often kvm), or run as root")]
    Denied,
    /// Another error of open(2).
    #[error("/dev/kvm cannot be opened")]
    Open(#[source] io::Error),
    /// Not the one stable version of the interface.
    #[error("/dev/kvm speaks version {version} of its interface, 12 is needed")]
    Version {
        /// What it said.
        version: i32,
    },
    /// No machine can be made.
    #[error("KVM cannot create a virtual machine")]
    CreateVm(#[source] io::Error),
    /// A machine was made, but not even a few instructions could be tried in it.
    #[error("KVM cannot run a first piece of code")]
    Probe(#[source] io::Error),
}

/// Any failure of this crate.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The request cannot be met.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The program cannot run.
    #[error("{path} cannot run", path = .path.display())]
    Program {
        /// Its path.
        path: PathBuf,
        /// What is wrong with it.
        #[source]
        source: ProgramError,
    },
    /// A file cannot be read.
    #[error("{path} cannot be {operation}", path = .path.display())]
    File {
        /// What was tried.
        operation: &'static str,
        /// Its path.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// KVM cannot be used.
    #[error(transparent)]
    Kvm(#[from] KvmError),
    /// The built-in guest is not what this monitor was made for.
    #[error("the built-in guest is unusable: {what}")]
    Guest {
        /// Why.
        what: &'static str,
    },
    /// A system call of the calling process failed.
    #[error("{step} failed")]
    Host {
        /// What was tried.
        step: &'static str,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The monitor process failed at a step; the program did not run to its end.
    #[error("the virtual machine monitor failed: {failure}")]
    Monitor {
        /// Where and why.
        failure: crate::report::Failure,
    },
    /// A Linux guest did not come to its program's end, and its kernel said something.
    #[error("the virtual machine monitor failed: {failure}; the end of the guest's kernel log:\n{log}")]
    LinuxGuest {
        /// Where and why.
        failure: crate::report::Failure,
        /// Its last lines.
        log: String,
    },
    /// A Linux guest cannot be prepared.
    #[error(transparent)]
    Linux(#[from] crate::linux::LinuxError),
    /// The monitor process was ended from outside.
    #[error("the virtual machine monitor was ended by signal {signal}")]
    MonitorKilled {
        /// Which.
        signal: i32,
    },
}

impl Error {
    /// What was tried with a file, and failed.
    pub(crate) fn file(operation: &'static str, path: &Path) -> impl Fn(io::Error) -> Self {
        move |source| Self::File { operation, path: path.to_owned(), source }
    }
}
