//! What can be wrong with a kernel, or with what it is asked to do.

use std::io;
use std::path::PathBuf;

/// A file that is not a kernel which can run here.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum KernelError {
    /// Neither bzImage nor ELF.
    #[error("it is not a Linux kernel: neither a bzImage (vmlinuz) nor an ELF file (vmlinux)")]
    NotKernel,
    /// Cut off.
    #[error("the kernel is truncated: {what} reaches to byte {end}, the file has {size}")]
    Truncated {
        /// Which part.
        what: &'static str,
        /// Where that should end.
        end: u64,
        /// Size of the file.
        size: u64,
    },
    /// A kernel of another machine.
    #[error("it is a kernel for {machine}; x86-64 is needed")]
    Machine {
        /// Which.
        machine: String,
    },
    /// No 64-bit entry.
    #[error("it is a 32-bit kernel; a 64-bit one is needed")]
    Bits32,
    /// Older than the boot protocol with a 64-bit entry.
    #[error(
        "it is too old: it speaks version {major}.{minor} of the boot protocol, 2.12 (Linux 3.8) is needed",
        major = .version >> 8, minor = .version & 0xff
    )]
    Protocol {
        /// Major number in the upper byte.
        version: u16,
    },
    /// Headers that contradict themselves.
    #[error("its headers are malformed: {what}")]
    Malformed {
        /// How.
        what: &'static str,
    },
    /// linux-loader's own word.
    #[error("it cannot be loaded: {0}")]
    Loader(String),
}

/// What cannot be prepared.
#[derive(Debug, thiserror::Error)]
pub enum LinuxError {
    /// The kernel.
    #[error("{path} cannot be booted", path = .path.display())]
    Kernel {
        /// Its path.
        path: PathBuf,
        /// What is wrong with it.
        #[source]
        source: KernelError,
    },
    /// More than the kernel reads.
    #[error("the kernel's command line takes {size} bytes, at most {limit} fit")]
    CommandLineTooLong {
        /// What it takes.
        size: usize,
        /// What fits.
        limit: usize,
    },
    /// A line of several lines, or worse.
    #[error("the kernel's command line holds the control character {character:?}")]
    CommandLineControl {
        /// Which.
        character: char,
    },
    /// What the kernel reads is bytes, and what they mean beyond ASCII is nobody's agreement.
    #[error("the kernel's command line holds the character {character:?}, which is not ASCII")]
    CommandLineNotAscii {
        /// Which.
        character: char,
    },
    /// The kernel alone does not fit.
    #[error("{asked} MiB of memory is too little: this kernel needs at least {needed} MiB to start")]
    MemoryTooSmall {
        /// What was asked for, MiB.
        asked: u64,
        /// What is needed, MiB.
        needed: u64,
    },
    /// The kernel fits, but not together with the archive.
    #[error(
        "the program and its files take {size} MiB as an initramfs, and do not fit {asked} MiB of memory beside the kernel: at least {needed} MiB are needed"
    )]
    InitramfsTooLarge {
        /// Its size, MiB.
        size: u64,
        /// What was asked for, MiB.
        asked: u64,
        /// What is needed, MiB.
        needed: u64,
    },
    /// No processor, or more than the tables name.
    #[error("a machine has 1 to {limit} vCPUs, not {asked}")]
    Vcpus {
        /// What was asked for.
        asked: u32,
        /// What can be had.
        limit: u32,
    },
    /// Two files at one place.
    #[error("{path} would be in the guest twice", path = .path.display())]
    Twice {
        /// Where.
        path: PathBuf,
    },
    /// A file larger than the archive's format can say.
    #[error("{path} is too large for an initramfs (4 GiB)", path = .path.display())]
    FileTooLarge {
        /// Which.
        path: PathBuf,
    },
    /// A root file system that memory cannot hold.
    #[error("{path} is larger than the machine's memory of {limit} MiB, where it would have to be; --mem makes it larger, an image of a disk needs none", path = .path.display())]
    RootTooLarge {
        /// The folder.
        path: PathBuf,
        /// Memory, MiB.
        limit: u64,
    },
    /// The disk would hide it, and is not changed.
    #[error(
        "{path} cannot be put into a machine whose root is a disk; put it on the disk, or give a folder as the root",
        path = .path.display()
    )]
    FileBesideDisk {
        /// Where the file should have been in the guest.
        path: PathBuf,
    },
    /// More disks and network cards than there are interrupt lines for.
    #[error("a machine has at most {limit} disks and network cards, not {asked}")]
    Devices {
        /// What was asked for.
        asked: usize,
        /// What can be had.
        limit: usize,
    },
    /// There is no network on this host for a machine.
    #[error("the machine cannot have a network card")]
    Network(#[source] super::virtio::tap::TapError),
    /// Making the memory image failed.
    #[error("the image of the machine's memory cannot be made: {step}")]
    Image {
        /// What was tried.
        step: &'static str,
        /// Why.
        #[source]
        source: io::Error,
    },
}
