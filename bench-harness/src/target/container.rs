//! `container`, over container-backend; and the bare process of `native`, which is the same code with every layer of
//! isolation left out.

use std::ffi::OsStr;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::time::Duration;

use container_backend::{Config, Isolation, Layer, Limits, Process, Status as BackendStatus, Stream};

use super::{
    ENVIRONMENT, End, Instance, Launch, LaunchError, Prepared, Program, SkipReason, Status, Stdio, Target,
    TargetKind,
};

/// A namespace container.
#[derive(Debug, Clone, Copy)]
pub struct Container;

impl Target for Container {
    fn kind(&self) -> TargetKind {
        TargetKind::Container
    }

    fn probe(&self) -> Result<(), SkipReason> {
        match container_backend::probe().container.reason() {
            None => Ok(()),
            Some(reason) => Err(SkipReason(format!("this host does not let us make a container: {reason}"))),
        }
    }

    fn limitation(&self) -> Option<String> {
        let refused: Vec<String> = container_backend::probe()
            .limits
            .iter()
            .filter_map(|(limit, permission)| Some(format!("no {limit} limit ({})", permission.reason()?)))
            .collect();
        (!refused.is_empty()).then(|| format!("without all limits: {}", refused.join(", ")))
    }

    fn prepare(&self, launch: &Launch) -> Result<Box<dyn Prepared>, LaunchError> {
        if !launch.files.is_empty() {
            return Err(LaunchError::Unsupported(
                "a container gets no files of the host in this version; --file is for microvm".into(),
            ));
        }
        let mut limits = Limits::none();
        if let Some(mib) = launch.mem_mib {
            limits = limits.memory_bytes(mib << 20);
        }
        if let Some(pids) = launch.pids {
            limits = limits.pids(pids);
        }
        prepare(config(launch).isolation(Isolation::container()).limits(limits).start_soon(launch.once))
    }
}

/// A bare process. In a session of its own, as instances of every target are: the terminal's Ctrl-C is for us alone.
pub(super) fn bare(launch: &Launch) -> Result<Box<dyn Prepared>, LaunchError> {
    prepare(config(launch).isolation(Isolation::none().with(Layer::Session)))
}

fn config(launch: &Launch) -> Config {
    let program = match &launch.program {
        Program::Path(path) => container_backend::Program::Path(path.clone()),
        Program::Sealed(fd) => container_backend::Program::Sealed(Arc::clone(fd)),
    };
    let (name, args) = launch.argv.split_first().map_or((OsStr::new("program"), &[][..]), |(n, a)| (n, a));
    Config::new(program).arg0(name).args(args).envs(ENVIRONMENT)
}

fn prepare(config: Config) -> Result<Box<dyn Prepared>, LaunchError> {
    let prepared = config.prepare().map_err(|error| LaunchError::Container(error.into()))?;
    Ok(Box::new(PreparedProcess(prepared)))
}

struct PreparedProcess(container_backend::Prepared);

impl Prepared for PreparedProcess {
    fn spawn(&self, stdio: Stdio) -> Result<Box<dyn Instance>, LaunchError> {
        let streams = container_backend::Stdio {
            stdin: stream(&stdio.stdin),
            stdout: stream(&stdio.stdout),
            stderr: stream(&stdio.stderr),
        };
        let process = self.0.spawn(streams).map_err(|error| LaunchError::Container(error.into()))?;
        Ok(Box::new(ProcessInstance(process)))
    }

    fn limitation(&self) -> Option<String> {
        self.0.limits_unavailable().map(|reason| format!("it runs without limits: {reason}"))
    }
}

fn stream(given: &Option<OwnedFd>) -> Stream<'_> {
    given.as_ref().map_or(Stream::Inherit, |fd| Stream::Fd(fd.as_fd()))
}

struct ProcessInstance(Process);

impl Instance for ProcessInstance {
    fn phases(&mut self, start_ns: u64) -> Vec<(&'static str, u64)> {
        self.0.timeline().phases(start_ns)
    }

    fn pids(&self) -> Vec<i32> {
        vec![self.0.pid()]
    }

    fn cgroup_bytes(&self) -> Option<u64> {
        self.0.usage()?.memory_bytes
    }

    fn wait(&mut self, timeout: Option<Duration>) -> Result<Option<End>, LaunchError> {
        let exit = self.0.wait(timeout).map_err(|error| LaunchError::Container(error.into()))?;
        Ok(exit.map(|exit| End {
            status: match exit.status {
                BackendStatus::Exited(code) => Status::Exited(code),
                BackendStatus::Signaled(signal) => Status::Signaled(signal),
            },
            ended_ns: None,
            gone_ns: exit.gone_ns,
            notes: Vec::new(),
        }))
    }

    fn kill(&mut self) {
        // A failure shows when it is waited for.
        drop(self.0.kill());
    }
}
