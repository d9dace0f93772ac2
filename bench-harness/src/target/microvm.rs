//! The KVM virtual machine targets, over vm-backend.

use std::ffi::{OsStr, OsString};
use std::ops::Range;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use vm_backend::{Backing, LinuxVm, Monitor, Outcome, Vm, VmConfig};
use workloads::{Calls, Capabilities};

use super::{
    ENVIRONMENT, End, Instance, Launch, LaunchError, Prepared, Program, SkipReason, Status, Stdio, Target,
    TargetKind, calls,
};
use crate::clock::now_ns;
use crate::error::chain;
use crate::memory_size::DEFAULT_MIB;

/// A virtual machine with the built-in guest.
#[derive(Debug, Clone, Copy)]
pub struct Microvm;

/// What the built-in guest keeps of the memory for itself and its tables, generously.
const GUEST_MIB: u64 = 4;

/// What the built-in guest does not serve, of what workloads may need: it has one thread and no sockets.
/// `tests/real.rs` makes sure that it is so.
pub const UNSERVED: &[&str] = &["clone", "execve", "fork", "pipe2", "socket", "socketpair"];

impl Target for Microvm {
    fn kind(&self) -> TargetKind {
        TargetKind::Microvm
    }

    fn probe(&self) -> Result<(), SkipReason> {
        vm_backend::probe().map(drop).map_err(|error| SkipReason(chain(&error)))
    }

    fn capabilities(&self, mem_mib: u64) -> Capabilities {
        let mib = mem_mib.saturating_sub(GUEST_MIB);
        Capabilities {
            memory_bytes: Some(mib << 20),
            stdin: true,
            network: false,
            calls: Calls::Without(UNSERVED),
        }
    }

    fn prepare(&self, launch: &Launch) -> Result<Box<dyn Prepared>, LaunchError> {
        backed(launch, Backing::default())
    }
}

/// A machine whose memory the host backs in this way.
pub(super) fn backed(launch: &Launch, backing: Backing) -> Result<Box<dyn Prepared>, LaunchError> {
    let program = match &launch.program {
        Program::Path(path) => vm_backend::Program::Path(path.clone()),
        Program::Sealed(fd) => vm_backend::Program::Sealed(Arc::clone(fd)),
    };
    let (name, args) = launch.argv.split_first().map_or((OsStr::new("program"), &[][..]), |(n, a)| (n, a));
    let mut config = VmConfig::new(program)
        .mem_mib(launch.mem_mib.unwrap_or(DEFAULT_MIB))
        .backing(backing)
        .guest_path(guest_path(name))
        .args(args.iter().cloned());
    for (key, value) in ENVIRONMENT {
        config = config.env(key, value);
    }
    for (host, guest) in &launch.files {
        config = config.file(host, guest);
    }
    let vm = config.prepare().map_err(|error| LaunchError::Vm(error.into()))?;
    Ok(Box::new(PreparedVm(vm)))
}

/// The program is at one path in the guest, which must be absolute: its own name in the guest's root, else.
pub(super) fn guest_path(name: &OsStr) -> OsString {
    let path = Path::new(name);
    if path.is_absolute() {
        return name.into();
    }
    let mut absolute = OsString::from("/");
    absolute.push(path.file_name().unwrap_or(OsStr::new("program")));
    absolute
}

/// What both kinds of machine have: instances that look the same from outside.
pub(super) trait Spawn: Send + Sync {
    /// Name of the phase that ends with the first byte of output.
    const LAST_PHASE: &'static str;
    fn start(&self, stdio: vm_backend::Stdio<'_>) -> Result<Monitor, vm_backend::Error>;
}

impl Spawn for Vm {
    const LAST_PHASE: &'static str = "guest_ready";
    fn start(&self, stdio: vm_backend::Stdio<'_>) -> Result<Monitor, vm_backend::Error> {
        self.spawn(stdio)
    }
}

impl Spawn for LinuxVm {
    const LAST_PHASE: &'static str = "ready";
    fn start(&self, stdio: vm_backend::Stdio<'_>) -> Result<Monitor, vm_backend::Error> {
        self.spawn(stdio)
    }
}

pub(super) struct PreparedVm<M>(pub(super) M);

impl<M: Spawn> Prepared for PreparedVm<M> {
    fn spawn(&self, stdio: Stdio) -> Result<Box<dyn Instance>, LaunchError> {
        let (stdin, stdout, stderr) = (std::io::stdin(), std::io::stdout(), std::io::stderr());
        let streams = vm_backend::Stdio {
            stdin: either(&stdio.stdin, stdin.as_fd()),
            stdout: either(&stdio.stdout, stdout.as_fd()),
            stderr: either(&stdio.stderr, stderr.as_fd()),
        };
        let monitor = self.0.start(streams).map_err(|error| LaunchError::Vm(error.into()))?;
        Ok(Box::new(VmInstance { monitor, last_phase: M::LAST_PHASE, killed: false }))
    }
}

fn either<'a>(given: &'a Option<OwnedFd>, own: BorrowedFd<'a>) -> BorrowedFd<'a> {
    given.as_ref().map_or(own, |fd| fd.as_fd())
}

struct VmInstance {
    monitor: Monitor,
    last_phase: &'static str,
    killed: bool,
}

impl Instance for VmInstance {
    fn phases(&mut self, start_ns: u64) -> Vec<(&'static str, u64)> {
        let mut before = start_ns;
        self.monitor
            .timeline()
            .into_iter()
            .map(|(name, end)| {
                let length = end.saturating_sub(before);
                before = before.max(end);
                (name, length)
            })
            .collect()
    }

    fn last_phase(&self) -> &'static str {
        self.last_phase
    }

    fn pids(&self) -> Vec<i32> {
        vec![self.monitor.pid()]
    }

    fn guest_memory(&self) -> Vec<Range<u64>> {
        self.monitor.guest_memory()
    }

    fn cgroup_bytes(&self) -> Option<u64> {
        None
    }

    fn wait(&mut self, timeout: Option<Duration>) -> Result<Option<End>, LaunchError> {
        match self.monitor.wait(timeout) {
            Ok(outcome) => Ok(outcome.map(|outcome| end(&outcome))),
            // As we wished.
            Err(vm_backend::Error::MonitorKilled { signal }) if self.killed => Ok(Some(End {
                status: Status::Signaled(signal),
                ended_ns: None,
                gone_ns: now_ns(),
                notes: Vec::new(),
            })),
            Err(error) => Err(LaunchError::Vm(error.into())),
        }
    }

    fn kill(&mut self) {
        self.killed = true;
        // A failure shows when it is waited for.
        drop(self.monitor.kill());
    }
}

fn end(outcome: &Outcome) -> End {
    let mut notes = Vec::new();
    let status = match outcome.status {
        vm_backend::Status::Exited(code) => Status::Exited(code),
        vm_backend::Status::Signaled { signal, address } => {
            let status = Status::Signaled(signal);
            if address != 0 {
                notes.push(format!("the program {status} at address {address:#x}"));
            }
            status
        }
    };
    if status != Status::Exited(0) && !outcome.unserved.is_empty() {
        let calls: Vec<String> = outcome
            .unserved
            .iter()
            .map(|&(number, times)| format!("{} ({times} times)", calls::name(number)))
            .collect();
        notes.push(format!(
            "the guest does not serve these system calls, which it made: {}",
            calls.join(", ")
        ));
    }
    End { status, ended_ns: Some(outcome.ended_ns), gone_ns: outcome.reaped_ns, notes }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_has_an_absolute_path_in_the_guest() {
        assert_eq!(guest_path(OsStr::new("./bin/hello")), "/hello");
        assert_eq!(guest_path(OsStr::new("/usr/bin/hello")), "/usr/bin/hello");
        assert_eq!(guest_path(OsStr::new("..")), "/program");
    }
}
