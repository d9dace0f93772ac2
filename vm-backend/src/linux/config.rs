//! What to run, on what kernel, in how large a machine.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use super::machine::LinuxVm;
use crate::backing::Backing;
use crate::config::{Program, VmConfig};
use crate::error::Error;

/// Where the guest's files come from.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Root {
    /// An initramfs with the program, the devices that nearly every program expects, and the files handed over.
    #[default]
    Generated,
    /// The same initramfs, with everything that is in a folder of the host. Changes are made to a copy in memory.
    Folder(PathBuf),
    /// A disk with a file system on it (ext4 for the small kernel of scripts/build-guest-kernel), in a file of the host, which is
    /// not changed: changes go to a layer in memory.
    Disk(PathBuf),
}

/// A Linux machine and the program in it. [`prepare`](Self::prepare) checks everything that can be checked once.
#[derive(Debug, Clone)]
pub struct LinuxConfig {
    pub(crate) kernel: PathBuf,
    /// Program, arguments, environment, files and memory mean the same as for the built-in guest.
    pub(crate) common: VmConfig,
    pub(crate) vcpus: u32,
    pub(crate) cmdline_extra: String,
    pub(crate) console: bool,
    pub(crate) root: Root,
    pub(crate) disks: Vec<(PathBuf, bool)>,
    pub(crate) network: bool,
}

impl LinuxConfig {
    /// One vCPU and [`crate::config::DEFAULT_MEMORY`], for a program without arguments.
    pub fn new(kernel: impl Into<PathBuf>, program: Program) -> Self {
        Self {
            kernel: kernel.into(),
            common: VmConfig::new(program),
            vcpus: 1,
            cmdline_extra: String::new(),
            console: false,
            root: Root::Generated,
            disks: Vec::new(),
            network: false,
        }
    }

    /// As [`new`](Self::new), for a program that is in this root, at an absolute path. It may be of any kind that the guest's
    /// kernel knows: dynamically linked, or a script.
    pub fn inside(kernel: impl Into<PathBuf>, root: Root, program: impl AsRef<Path>) -> Self {
        let path = program.as_ref();
        let config = Self::new(kernel, Program::Path(path.to_owned())).guest_path(path);
        Self { root, ..config }
    }

    /// Adds a disk whose contents are a file of the host: `/dev/vda` and on in the guest. The disk of [`Root::Disk`] comes before all others. A disk that can be
    /// written to is for one machine at a time.
    pub fn disk(mut self, image: impl Into<PathBuf>, read_only: bool) -> Self {
        self.disks.push((image.into(), read_only));
        self
    }

    /// Whether the machine has a network card, whose other end is a TAP device of the host, made for it and gone with it. The
    /// host has the address before the guest's.
    pub fn network(mut self, yes: bool) -> Self {
        self.network = yes;
        self
    }

    fn common(mut self, change: impl FnOnce(VmConfig) -> VmConfig) -> Self {
        self.common = change(self.common);
        self
    }

    /// Memory of the machine in MiB.
    pub fn mem_mib(self, mib: u64) -> Self {
        self.common(|c| c.mem_mib(mib))
    }

    /// How the host backs the memory of each instance; [`Backing::Untouched`] by default.
    pub fn backing(self, backing: Backing) -> Self {
        self.common(|c| c.backing(backing))
    }

    /// Number of processors.
    pub fn vcpus(mut self, count: u32) -> Self {
        self.vcpus = count;
        self
    }

    /// Put behind the kernel's command line; what it says last counts.
    pub fn cmdline_extra(mut self, text: &str) -> Self {
        text.clone_into(&mut self.cmdline_extra);
        self
    }

    /// Whether everything that the kernel prints goes to standard error. It costs an exit a byte.
    pub fn console(mut self, yes: bool) -> Self {
        self.console = yes;
        self
    }

    /// The path of the program in the guest (`argv[0]`); `/program` by default.
    pub fn guest_path(self, path: impl AsRef<Path>) -> Self {
        self.common(|c| c.guest_path(path))
    }

    /// Adds an argument (`argv[1]` and so on).
    pub fn arg(self, arg: impl Into<OsString>) -> Self {
        self.common(|c| c.arg(arg))
    }

    /// Adds arguments.
    pub fn args<I: IntoIterator<Item = S>, S: Into<OsString>>(self, args: I) -> Self {
        self.common(|c| c.args(args))
    }

    /// Adds a variable to the environment, which is empty otherwise.
    pub fn env(self, name: &str, value: &str) -> Self {
        self.common(|c| c.env(name, value))
    }

    /// Puts a copy of a file of the host into the guest, at an absolute path; not where the root is a disk.
    pub fn file(self, host: impl Into<PathBuf>, guest: impl AsRef<Path>) -> Self {
        self.common(|c| c.file(host, guest))
    }

    /// Checks kernel, program, memory and files, and makes the image of the memory that all instances start from.
    ///
    /// # Errors
    /// What is wrong with them, or why this host cannot run virtual machines.
    pub fn prepare(&self) -> Result<LinuxVm, Error> {
        LinuxVm::prepare(self)
    }
}
