//! `container`, over container-backend; and the bare process of `native`, which is the same code with every layer of
//! isolation left out.

use std::ffi::OsStr;
use std::os::fd::{AsFd, OwnedFd};
use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use container_backend::{
    Address, Bind, Config, Exit, Isolation, Layer, Limits, Network, Process, ProcessError,
    Status as BackendStatus, Stream, Usage, Veth,
};

use super::{
    ENVIRONMENT, End, Instance, Launch, LaunchError, Prepared, Program, SkipReason, Spent, Status, Stdio,
    Target, TargetKind,
};
use crate::container_options::ContainerOptions;
use crate::echo::{Echo, Reach};

/// What this host lets us do, tried once: that is a container and several cgroups.
fn probed() -> &'static container_backend::Host {
    static PROBED: OnceLock<container_backend::Host> = OnceLock::new();
    PROBED.get_or_init(container_backend::probe)
}

/// A namespace container.
#[derive(Debug, Clone, Copy)]
pub struct Container;

impl Target for Container {
    fn kind(&self) -> TargetKind {
        TargetKind::Container
    }

    fn probe(&self) -> Result<(), SkipReason> {
        match probed().container.reason() {
            None => Ok(()),
            Some(reason) => Err(SkipReason(format!("this host does not let us make a container: {reason}"))),
        }
    }

    fn limitation(&self) -> Option<String> {
        let refused: Vec<String> = probed()
            .limits
            .iter()
            .filter_map(|(limit, permission)| Some(format!("no {limit} limit ({})", permission.reason()?)))
            .collect();
        (!refused.is_empty()).then(|| format!("without all limits: {}", refused.join(", ")))
    }

    fn network(&self) -> Result<(), SkipReason> {
        let config = Config::new(container_backend::Program::Path("/proc/self/exe".into()));
        let config = config.isolation(Isolation::container()).network(Network::Veth(pair(0)));
        let reason = |error: &dyn std::error::Error| SkipReason(crate::error::chain(error));
        // Whether the kernel has such pairs shows only where one is made.
        config.prepare().map_err(|error| reason(&error))?.rehearse().map_err(|error| reason(&error))
    }

    fn prepare(&self, launch: &Launch) -> Result<Box<dyn Prepared>, LaunchError> {
        let mut limits = limits(launch);
        let config = match &launch.container {
            None => config(launch).envs(ENVIRONMENT).isolation(Isolation::container()),
            Some(options) => {
                limits = options.limits(limits);
                options.config(config(launch), &launch.argv, &ENVIRONMENT)?
            }
        };
        let echo = launch.network.then(|| Echo::start(Reach::Link)).transpose()?;
        let config = match &echo {
            Some(echo) => config
                .envs([(workloads::SERVER, format!("{CARD}:{}", echo.port()))])
                .network(Network::Veth(pair(NUMBER.fetch_add(1, Ordering::Relaxed)))),
            None => config,
        };
        let files = launch.files.iter().map(|(host, inside)| Bind {
            host: host.clone(),
            inside: inside.clone(),
            read_only: true,
        });
        let config = files.fold(config, Config::bind);
        // What a run met of its limits is said at its end; where many are compared, reading it would be part of each.
        let said = launch.once && !limits.is_none();
        let prepared = prepare(config.limits(limits).start_soon(launch.once).read_limits_met(said))?;
        // One run by itself has what was asked for or is no run; a comparison goes on, and says what is missing.
        match prepared.prepared.limits_unavailable().filter(|_| launch.once) {
            Some(reason) => {
                Err(LaunchError::Unsupported(format!("the limits cannot be set on this host: {reason}")))
            }
            None => {
                let options = launch.container.as_deref();
                let detach = options.is_some_and(|options| options.detach);
                let profile = options.and_then(Profile::of);
                let prepared = Box::new(PreparedProcess { detach, profile, once: launch.once, ..prepared });
                Ok(match echo {
                    Some(echo) => echo.beside(prepared),
                    None => prepared,
                })
            }
        }
    }
}

/// The inner end of a pair of network interfaces.
const CARD: &str = "eth0";

/// Numbers the pairs of this process.
static NUMBER: AtomicU32 = AtomicU32::new(0);

/// A pair of network interfaces in a network of four addresses like that of a TAP device. Those are numbered from the lower end; pairs
/// begin in the middle, each process somewhere else.
fn pair(number: u32) -> Veth {
    const MIDDLE: u32 = 8_192;
    let number = MIDDLE + std::process::id().wrapping_add(number) % MIDDLE / 2;
    let (outside, inside) = vm_backend::linux::virtio::tap::addresses(number);
    let address = |address: std::net::Ipv4Addr| Address::new(address.into(), 30);
    let addresses = address(inside).zip(address(outside));
    addresses.map_or_else(Veth::new, |(inside, outside)| Veth::new().addresses(inside, outside))
}

/// A bare process. In a session of its own, as instances of every target are: the terminal's Ctrl-C is for us alone.
pub(super) fn bare(launch: &Launch, more: &[(&str, &str)]) -> Result<Box<dyn Prepared>, LaunchError> {
    let environment = ENVIRONMENT.into_iter().chain(more.iter().copied());
    let config = config(launch).envs(environment).isolation(Isolation::none().with(Layer::Session));
    Ok(Box::new(prepare(config)?))
}

/// A process with these layers of isolation, and with the launch's limits or without: a rung of a ladder.
pub(super) fn layered(
    launch: &Launch,
    isolation: Isolation,
    limited: bool,
) -> Result<Box<dyn Prepared>, LaunchError> {
    let limits = if limited { limits(launch) } else { Limits::none() };
    let config = config(launch).envs(ENVIRONMENT).isolation(isolation);
    Ok(Box::new(prepare(config.limits(limits).read_usage(false))?))
}

/// What the launch allows in memory and processes.
fn limits(launch: &Launch) -> Limits {
    let mut limits = Limits::none();
    if let Some(mib) = launch.mem_mib {
        limits = limits.memory_bytes(mib << 20);
    }
    if let Some(pids) = launch.pids {
        limits = limits.pids(pids);
    }
    limits
}

fn config(launch: &Launch) -> Config {
    let program = match &launch.program {
        Program::Path(path) => container_backend::Program::Path(path.clone()),
        Program::Sealed(fd) => container_backend::Program::Sealed(Arc::clone(fd)),
    };
    let (name, args) = launch.argv.split_first().map_or((OsStr::new("program"), &[][..]), |(n, a)| (n, a));
    Config::new(program).arg0(name).args(args)
}

fn prepare(config: Config) -> Result<PreparedProcess, LaunchError> {
    let prepared = config.prepare().map_err(|error| LaunchError::Container(error.into()))?;
    Ok(PreparedProcess { prepared, once: false, detach: false, profile: None })
}

struct PreparedProcess {
    prepared: container_backend::Prepared,
    /// Whether it is one run by itself, of which nothing is measured but perhaps its start.
    once: bool,
    /// Whether it is left alone when it has started.
    detach: bool,
    /// The seccomp profile, where it is not the default.
    profile: Option<Profile>,
}

/// A seccomp profile that somebody gave. The default kills nobody.
#[derive(Debug, Clone)]
struct Profile {
    file: PathBuf,
    /// Whether an init tells the program's end by its code.
    init: bool,
}

impl Profile {
    fn of(options: &ContainerOptions) -> Option<Self> {
        let file = options.seccomp.clone().filter(|file| file.as_os_str() != "none")?;
        Some(Self { file, init: options.init })
    }

    /// What is to be said where it has killed the program, at its exec or later.
    fn killed(&self, status: BackendStatus) -> Option<String> {
        let is_killed = match status {
            BackendStatus::Signaled(signal) => signal == libc::SIGSYS,
            BackendStatus::Exited(code) => self.init && code == BackendStatus::Signaled(libc::SIGSYS).code(),
        };
        let file = self.file.display();
        is_killed.then(|| {
            format!("SIGSYS ended it: the seccomp profile {file} kills for a system call that it or its start (execve) makes")
        })
    }
}

impl Prepared for PreparedProcess {
    fn spawn(&self, stdio: Stdio) -> Result<Box<dyn Instance>, LaunchError> {
        let streams = container_backend::Stdio {
            stdin: stream(&stdio.stdin),
            stdout: stream(&stdio.stdout),
            stderr: stream(&stdio.stderr),
        };
        let process = self.prepared.spawn(streams).map_err(|error| LaunchError::Container(error.into()))?;
        let overlay = self.prepared.overlay_unavailable().map(|reason| {
            format!("the root is read-only, since there can be no layer of changes on this host: {reason}")
        });
        // A root that was given may hold files of others: then it matters who there is inside.
        let maps = self.prepared.id_maps().filter(|_| self.prepared.root_is_given());
        let maps = maps.map(|maps| format!("users and groups inside: {maps}"));
        let mut notes: Vec<String> = overlay.into_iter().chain(maps).collect();
        if self.detach {
            let refused =
                || LaunchError::Unsupported("--detach goes with no limits: somebody must remove them".into());
            let pid = process.detach().map_err(|_process| refused())?;
            notes.push(format!("it runs on as process {pid}"));
            return Ok(Box::new(Detached { pid, notes }));
        }
        Ok(Box::new(ProcessInstance { process, notes, once: self.once, profile: self.profile.clone() }))
    }

    fn limitation(&self) -> Option<String> {
        self.prepared.limits_unavailable().map(|reason| format!("it runs without limits: {reason}"))
    }
}

/// Which of its limits an instance has met, in words.
fn met(usage: &Usage) -> Vec<String> {
    let some = |count: Option<u64>| count.filter(|&count| count > 0);
    let mut met = Vec::new();
    if let Some(kills) = some(usage.oom_kills) {
        met.push(format!("the memory limit was reached: {kills} of its processes were killed for it"));
    }
    if let Some(refused) = some(usage.pids_refused) {
        met.push(format!("the limit of processes was reached: {refused} were refused"));
    }
    if let Some(held) = some(usage.throttled_ns) {
        met.push(format!("the CPU limit held it back for {:.3} s", Duration::from_nanos(held).as_secs_f64()));
    }
    met
}

fn stream(given: &Option<OwnedFd>) -> Stream<'_> {
    given.as_ref().map_or(Stream::Inherit, |fd| Stream::Fd(fd.as_fd()))
}

/// One that runs on by itself: for us, it ends at once.
struct Detached {
    pid: i32,
    notes: Vec<String>,
}

impl Instance for Detached {
    fn phases(&mut self, _start_ns: u64) -> Vec<(&'static str, u64)> {
        Vec::new()
    }

    fn pids(&self) -> Vec<i32> {
        vec![self.pid]
    }

    fn cgroup_bytes(&self) -> Option<u64> {
        None
    }

    fn wait(&mut self, _timeout: Option<Duration>) -> Result<Option<End>, LaunchError> {
        let gone_ns = container_backend::monotonic_ns();
        Ok(Some(End {
            status: Status::Exited(0),
            ended_ns: None,
            gone_ns,
            notes: std::mem::take(&mut self.notes),
        }))
    }

    fn kill(&mut self) {}
}

/// An instance, and what is to be said about how it was started.
struct ProcessInstance {
    process: Process,
    notes: Vec<String>,
    once: bool,
    profile: Option<Profile>,
}

/// For how long a single run is expected to be a short one, whose end is not to wait for our code.
const SHORT: Duration = Duration::from_millis(50);

impl ProcessInstance {
    fn wait_long(&mut self, timeout: Option<Duration>) -> Result<Option<Exit>, ProcessError> {
        if !self.once || timeout.is_some_and(|timeout| timeout <= SHORT) {
            return self.process.wait(timeout);
        }
        let exit = self.process.wait(Some(SHORT))?;
        if exit.is_some() {
            return Ok(exit);
        }
        let end = timeout.and_then(|timeout| Instant::now().checked_add(timeout - SHORT));
        let left = |end: Instant| end.saturating_duration_since(Instant::now());
        self.process.settle();
        container_backend::give_back_memory_until(self.process.pidfd(), end.map(left));
        self.process.wait(end.map(left))
    }
}

impl Instance for ProcessInstance {
    fn phases(&mut self, start_ns: u64) -> Vec<(&'static str, u64)> {
        self.process.timeline().phases(start_ns)
    }

    fn pids(&self) -> Vec<i32> {
        vec![self.process.pid()]
    }

    fn cgroup_bytes(&self) -> Option<u64> {
        self.process.usage()?.memory_bytes
    }

    fn cgroup_peak_bytes(&self) -> Option<u64> {
        self.process.usage()?.memory_peak_bytes
    }

    fn spent(&self) -> Spent {
        let usage = self.process.usage().unwrap_or_default();
        Spent { cpu_ns: usage.cpu_ns, pids_refused: usage.pids_refused }
    }

    fn wait(&mut self, timeout: Option<Duration>) -> Result<Option<End>, LaunchError> {
        let exit = self.wait_long(timeout).map_err(|error| LaunchError::Container(error.into()))?;
        let killed = |exit: &Exit| self.profile.as_ref()?.killed(exit.status);
        let killed = exit.as_ref().and_then(killed);
        Ok(exit.map(|exit| End {
            status: match exit.status {
                BackendStatus::Exited(code) => Status::Exited(code),
                BackendStatus::Signaled(signal) => Status::Signaled(signal),
            },
            ended_ns: None,
            gone_ns: exit.gone_ns,
            notes: self.notes.iter().cloned().chain(exit.usage.iter().flat_map(met)).chain(killed).collect(),
        }))
    }

    fn kill(&mut self) {
        // A failure shows when it is waited for.
        drop(self.process.kill());
    }
}
