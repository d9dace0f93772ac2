//! What to run, and in how large a machine.

use std::ffi::{CString, OsString};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::backing::Backing;
use crate::error::ConfigError;

/// Memory of a machine when nothing else is asked for: 512 MiB. It costs nothing until it is touched.
pub const DEFAULT_MEMORY: u64 = 512 << 20;

/// The program to run: a static x86-64 ELF file.
#[derive(Debug, Clone)]
pub enum Program {
    /// A file of the host.
    Path(PathBuf),
    /// An open file, for example a sealed memfd.
    Sealed(Arc<OwnedFd>),
}

/// A machine and the program in it. [`prepare`](Self::prepare) checks everything that can be checked once.
#[derive(Debug, Clone)]
pub struct VmConfig {
    pub(crate) program: Program,
    pub(crate) memory: u64,
    pub(crate) backing: Backing,
    pub(crate) guest_path: Option<CString>,
    pub(crate) args: Vec<CString>,
    pub(crate) env: Vec<CString>,
    pub(crate) files: Vec<(PathBuf, CString)>,
    error: Option<ConfigError>,
}

impl VmConfig {
    /// A machine with [`DEFAULT_MEMORY`] for a program without arguments.
    pub fn new(program: Program) -> Self {
        Self {
            program,
            memory: DEFAULT_MEMORY,
            backing: Backing::default(),
            guest_path: None,
            args: Vec::new(),
            env: Vec::new(),
            files: Vec::new(),
            error: None,
        }
    }

    /// Memory of the machine in MiB.
    pub fn mem_mib(mut self, mib: u64) -> Self {
        match mib.checked_mul(1 << 20) {
            Some(bytes) => self.memory = bytes,
            None => self.error = Some(ConfigError::MemoryAbsurd { mib }),
        }
        self
    }

    /// How the host backs the memory of each instance; [`Backing::Untouched`] by default.
    pub fn backing(mut self, backing: Backing) -> Self {
        self.backing = backing;
        self
    }

    /// The path under which the program finds itself (`/proc/self/exe`, `argv[0]`); `/program` by default.
    pub fn guest_path(mut self, path: impl AsRef<Path>) -> Self {
        let path = path.as_ref();
        if !path.is_absolute() {
            self.error = Some(ConfigError::GuestPathNotAbsolute { path: path.to_owned() });
        }
        self.guest_path = self.text(path.as_os_str().to_owned());
        self
    }

    /// Adds an argument (`argv[1]` and so on).
    pub fn arg(mut self, arg: impl Into<OsString>) -> Self {
        if let Some(arg) = self.text(arg.into()) {
            self.args.push(arg);
        }
        self
    }

    /// Adds arguments.
    pub fn args<I: IntoIterator<Item = S>, S: Into<OsString>>(self, args: I) -> Self {
        args.into_iter().fold(self, Self::arg)
    }

    /// Adds a variable to the environment, which is empty otherwise.
    pub fn env(mut self, name: &str, value: &str) -> Self {
        if let Some(text) = self.text(format!("{name}={value}").into()) {
            self.env.push(text);
        }
        self
    }

    /// Makes a file of the host readable in the guest, at an absolute path.
    pub fn file(mut self, host: impl Into<PathBuf>, guest: impl AsRef<Path>) -> Self {
        let guest = guest.as_ref();
        if !guest.is_absolute() {
            self.error = Some(ConfigError::GuestPathNotAbsolute { path: guest.to_owned() });
        } else if let Some(path) = self.text(guest.as_os_str().to_owned()) {
            self.files.push((host.into(), path));
        }
        self
    }

    /// A C string, or the error that it holds a zero byte, kept for `prepare`.
    fn text(&mut self, text: OsString) -> Option<CString> {
        match CString::new(text.into_vec()) {
            Ok(text) => Some(text),
            Err(error) => {
                let text = OsString::from_vec(error.into_vec());
                self.error = Some(ConfigError::ZeroByte { text: text.as_bytes().escape_ascii().to_string() });
                None
            }
        }
    }

    pub(crate) fn check(&self) -> Result<(), ConfigError> {
        self.error.clone().map_or(Ok(()), Err)?;
        self.backing.check()
    }

    /// Checks program, memory and files, and computes everything that is the same for every instance.
    ///
    /// # Errors
    /// What is wrong with them, or why this host cannot run virtual machines.
    pub fn prepare(&self) -> Result<crate::Vm, crate::Error> {
        crate::Vm::prepare(self)
    }
}

/// The standard streams of an instance: descriptors of the caller, which stay the caller's.
#[derive(Debug, Clone, Copy)]
pub struct Stdio<'a> {
    /// Standard input.
    pub stdin: BorrowedFd<'a>,
    /// Standard output.
    pub stdout: BorrowedFd<'a>,
    /// Standard error.
    pub stderr: BorrowedFd<'a>,
}

impl<'a> Stdio<'a> {
    /// From anything that has descriptors.
    pub fn new(stdin: &'a impl AsFd, stdout: &'a impl AsFd, stderr: &'a impl AsFd) -> Self {
        Self { stdin: stdin.as_fd(), stdout: stdout.as_fd(), stderr: stderr.as_fd() }
    }
}
