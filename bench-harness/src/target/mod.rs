//! Where a program can be run: the trait that all targets implement, and one adapter a target.
//!
//! The shape is that of the backends: a [`Launch`] is *prepared* once a run (everything that is not this very
//! instance's own), then every instance is one [`Prepared::spawn`]. The caller reads the clock immediately before
//! that call; all instants are readings of [`crate::clock`].

use std::ffi::OsString;
use std::fmt;
use std::ops::Range;
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use workloads::Capabilities;

use crate::container_options::ContainerOptions;

mod calls;
pub mod container;
pub mod delayed;
pub mod fake;
pub mod microvm;
pub mod microvm_linux;
pub mod native;
pub mod rung;

/// The targets.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum TargetKind {
    /// A bare process: the baseline.
    Native,
    /// A process in namespaces, with its own root and limits.
    Container,
    /// A KVM virtual machine with our built-in guest.
    Microvm,
    /// The same virtual machine under a Linux kernel.
    MicrovmLinux,
}

impl TargetKind {
    /// All of them, the baseline first.
    pub const ALL: [Self; 4] = [Self::Native, Self::Container, Self::Microvm, Self::MicrovmLinux];

    /// The name on the command line and in the recording.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Native => "native",
            Self::Container => "container",
            Self::Microvm => "microvm",
            Self::MicrovmLinux => "microvm-linux",
        }
    }

    /// The target of that name.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.name() == name)
    }

    /// One line for `list`.
    #[must_use]
    pub const fn about(self) -> &'static str {
        match self {
            Self::Native => "a bare process, the baseline of every ratio",
            Self::Container => {
                "namespaces, a root of its own, cgroup limits, no capabilities, a seccomp filter"
            }
            Self::Microvm => {
                "a KVM virtual machine with a tiny built-in guest that serves Linux system calls"
            }
            Self::MicrovmLinux => "the same virtual machine under a real Linux kernel",
        }
    }
}

impl fmt::Display for TargetKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// Why a target cannot run on this host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SkipReason(pub String);

impl fmt::Display for SkipReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Why an instance could not be started, or what happened to it not be learned.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LaunchError {
    /// The target cannot do something that the launch asks for.
    #[error("{0}")]
    Unsupported(String),
    /// The container backend's own error.
    #[error(transparent)]
    Container(Box<dyn std::error::Error + Send + Sync>),
    /// The virtual machine backend's own error.
    #[error(transparent)]
    Vm(Box<dyn std::error::Error + Send + Sync>),
    /// The server for a workload that needs a network.
    #[error("the server for the workload cannot {step}")]
    Echo {
        /// What it cannot do.
        step: &'static str,
        /// Why not.
        #[source]
        source: std::io::Error,
    },
    /// The disk of a machine that is measured with one.
    #[error("a disk cannot be made in memory")]
    Disk {
        /// Why not.
        #[source]
        source: std::io::Error,
    },
    /// A scripted failure of the fake target.
    #[error("{0}")]
    Scripted(String),
}

/// The program to run.
#[derive(Debug, Clone)]
pub enum Program {
    /// A file of the host.
    Path(PathBuf),
    /// Bytes in sealed memory: nothing on disk, and surely the same in every launch.
    Sealed(Arc<OwnedFd>),
}

/// What to run, and with what.
#[derive(Debug, Clone)]
pub struct Launch {
    /// The program.
    pub program: Program,
    /// All arguments, the program's own name first.
    pub argv: Vec<OsString>,
    /// Memory limit (container) or size (virtual machine), in MiB.
    pub mem_mib: Option<u64>,
    /// Highest number of processes, where a target limits it.
    pub pids: Option<u64>,
    /// Files of the host to be seen by the program: (path on the host, absolute path for the program).
    pub files: Vec<(PathBuf, PathBuf)>,
    /// Whether it is started once and at once, as by `run`: what an instance needs first may then begin with `prepare`.
    pub once: bool,
    /// Whether it talks with a server of ours over a network: then [`workloads::SERVER`] tells it where.
    pub network: bool,
    /// What a container is given or denied; of it, a microvm-linux machine takes the root and the environment.
    pub container: Option<Box<ContainerOptions>>,
}

/// Environment of the program, the same in every target: its size moves the stack, and with it the timings
/// (Mytkowicz et al., "Producing wrong data without doing anything obviously wrong", ASPLOS 2009).
pub const ENVIRONMENT: [(&str, &str); 3] =
    [("PATH", "/usr/local/bin:/usr/bin:/bin"), ("HOME", "/"), ("LANG", "C.UTF-8")];

/// Descriptors of one instance; `None` hands on our own.
#[derive(Debug, Default)]
pub struct Stdio {
    /// Standard input.
    pub stdin: Option<OwnedFd>,
    /// Standard output.
    pub stdout: Option<OwnedFd>,
    /// Standard error.
    pub stderr: Option<OwnedFd>,
}

/// How a program ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Status {
    /// By itself, with this code.
    Exited(i32),
    /// By this signal.
    Signaled(i32),
}

impl Status {
    /// As shells say it.
    #[must_use]
    pub fn code(self) -> u8 {
        match self {
            Self::Exited(code) => u8::try_from(code & 0xff).unwrap_or(u8::MAX),
            Self::Signaled(signal) => {
                crate::error::SIGNALED.wrapping_add(u8::try_from(signal & 0x7f).unwrap_or(0))
            }
        }
    }
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Exited(code) => write!(f, "exited with code {code}"),
            Self::Signaled(signal) => match nix::sys::signal::Signal::try_from(*signal) {
                Ok(name) => write!(f, "was ended by {name}"),
                Err(_) => write!(f, "was ended by signal {signal}"),
            },
        }
    }
}

/// The end of an instance: nothing of it is left.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct End {
    /// How the program ended.
    pub status: Status,
    /// When the target saw the program end, where it sees that before it knows that nothing is left.
    pub ended_ns: Option<u64>,
    /// When nothing of the instance was left and its status was known.
    pub gone_ns: u64,
    /// What the target has to say about it: the address of a fault, system calls that it does not serve.
    pub notes: Vec<String>,
}

/// Somewhere that a program can be run.
pub trait Target {
    /// Which one.
    fn kind(&self) -> TargetKind;

    /// Can it run here? Tried, not guessed; called once a run.
    ///
    /// # Errors
    /// The reason, in words for the user.
    fn probe(&self) -> Result<(), SkipReason>;

    /// What it can give to a program, with instances of this size.
    fn capabilities(&self, mem_mib: u64) -> Capabilities {
        Capabilities { memory_bytes: Some(mem_mib << 20), ..Capabilities::linux() }
    }

    /// What it has to do without on this host although it runs: one clause, for example why it cannot set limits.
    fn limitation(&self) -> Option<String> {
        None
    }

    /// Whether this host lets it give a program a network that leads to the host. Tried, where a workload needs one.
    ///
    /// # Errors
    /// The reason why not.
    fn network(&self) -> Result<(), SkipReason> {
        Ok(())
    }

    /// Computes all that is not one instance's own.
    ///
    /// # Errors
    /// Where the target cannot do what the launch asks for.
    fn prepare(&self, launch: &Launch) -> Result<Box<dyn Prepared>, LaunchError>;
}

/// A launch that is ready to be made, any number of times.
pub trait Prepared: Send + Sync {
    /// Starts one instance. It is in a session of its own: the terminal's Ctrl-C does not reach it.
    ///
    /// # Errors
    /// The step that failed; nothing of the instance is left then.
    fn spawn(&self, stdio: Stdio) -> Result<Box<dyn Instance>, LaunchError>;

    /// What of the launch its instances have to do without on this host: one clause.
    fn limitation(&self) -> Option<String> {
        None
    }
}

/// What an instance has used, as its cgroup counts. A figure that nobody keeps is `None`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Spent {
    /// CPU time.
    pub cpu_ns: Option<u64>,
    /// Processes that its limit refused.
    pub pids_refused: Option<u64>,
}

/// One running instance. Dropping it kills and reaps it, and leaves nothing.
pub trait Instance {
    /// Named, consecutive phases of a start that began at `start_ns`, with their lengths in nanoseconds.
    ///
    /// Complete once the first byte of output has arrived. What then is left until that byte was seen is
    /// [`Instance::last_phase`], which is the caller's to add.
    fn phases(&mut self, start_ns: u64) -> Vec<(&'static str, u64)>;

    /// Name of the phase that ends with the first byte of output.
    fn last_phase(&self) -> &'static str {
        "ready"
    }

    /// All processes that exist on the host because of this instance.
    fn pids(&self) -> Vec<i32>;

    /// Where the memory of a guest is in the address space of the first of [`Instance::pids`]; nowhere, where there is no guest.
    fn guest_memory(&self) -> Vec<Range<u64>> {
        Vec::new()
    }

    /// Memory charged to the instance's own cgroup, where it has one.
    fn cgroup_bytes(&self) -> Option<u64>;

    /// The most that was charged to it since it began.
    fn cgroup_peak_bytes(&self) -> Option<u64> {
        None
    }

    /// What it has used so far, where somebody counts: its own cgroup.
    fn spent(&self) -> Spent {
        Spent::default()
    }

    /// Waits until nothing is left; `Ok(None)` when the time is over first.
    ///
    /// # Errors
    /// Where the end cannot be learned.
    fn wait(&mut self, timeout: Option<Duration>) -> Result<Option<End>, LaunchError>;

    /// Ends it at once. Needs a [`Instance::wait`] afterwards.
    fn kill(&mut self);
}

/// The implementation of a target.
#[must_use]
pub fn target(kind: TargetKind) -> Box<dyn Target> {
    match kind {
        TargetKind::Native => Box::new(native::Native),
        TargetKind::Container => Box::new(container::Container),
        TargetKind::Microvm => Box::new(microvm::Microvm),
        TargetKind::MicrovmLinux => Box::new(microvm_linux::MicrovmLinux::default()),
    }
}

/// The implementation of a target, with these options for the one that has a kernel.
#[must_use]
pub fn with_kernel(kind: TargetKind, options: microvm_linux::Options) -> Box<dyn Target> {
    match kind {
        TargetKind::MicrovmLinux => Box::new(microvm_linux::MicrovmLinux(options)),
        other => target(other),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_target_is_found_by_its_own_name() {
        for kind in TargetKind::ALL {
            assert_eq!(TargetKind::from_name(kind.name()), Some(kind));
        }
        assert_eq!(TargetKind::from_name("Native"), None);
    }

    #[test]
    fn exit_codes_are_those_of_a_shell() {
        assert_eq!(Status::Exited(0).code(), 0);
        assert_eq!(Status::Exited(255).code(), 255);
        assert_eq!(Status::Signaled(11).code(), 139);
    }
}
