//! What to run, and how isolated.

use std::ffi::{OsStr, OsString};
use std::os::fd::{BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::cgroup::{Figures, IoLimit};
use crate::error::PrepareError;
use crate::isolation::Isolation;
use crate::options::Options;
use crate::prepare::Prepared;

/// The program of an instance.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub enum Program {
    /// A file of the host. Where the instance has a root of its own, the file is bound into it, read-only.
    Path(PathBuf),
    /// A program of the instance's own root, by its path there or, without a slash, by its name along `PATH`. In a generated
    /// root there is none but what is bound into it.
    Inside(PathBuf),
    /// A descriptor of an executable file, executed as it is: no path, no mount. Meant for a sealed memfd.
    Sealed(Arc<OwnedFd>),
}

/// Bounds on what an instance may use, enforced by control groups. `None` sets no bound.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
#[non_exhaustive]
pub struct Limits {
    /// Bytes of memory (and of swap: none beyond it).
    pub memory_bytes: Option<u64>,
    /// Thousandths of one CPU: 1500 is one CPU and a half.
    pub cpu_millis: Option<u64>,
    /// Processes and threads.
    pub pids: Option<u64>,
    /// Bytes of swap beside `memory_bytes`; without this bound, none.
    pub swap_bytes: Option<u64>,
    /// The share of the CPUs where others want them, too: 1 to 10000, 100 being usual.
    pub cpu_weight: Option<u64>,
    /// The CPUs that may be used: bit N stands for CPU N.
    pub cpuset: Option<u128>,
    /// Reading from and writing to one device. (On v1, what is written through the page cache is not counted.)
    pub io: Option<IoLimit>,
}

impl Limits {
    /// No bound at all: no control group is made.
    #[must_use]
    pub const fn none() -> Self {
        Self {
            memory_bytes: None,
            cpu_millis: None,
            pids: None,
            swap_bytes: None,
            cpu_weight: None,
            cpuset: None,
            io: None,
        }
    }

    /// Bounds memory, in bytes.
    #[must_use]
    pub const fn memory_bytes(mut self, bytes: u64) -> Self {
        self.memory_bytes = Some(bytes);
        self
    }

    /// Bounds CPU time, in thousandths of one CPU.
    #[must_use]
    pub const fn cpu_millis(mut self, millis: u64) -> Self {
        self.cpu_millis = Some(millis);
        self
    }

    /// Bounds the number of processes and threads.
    #[must_use]
    pub const fn pids(mut self, count: u64) -> Self {
        self.pids = Some(count);
        self
    }

    /// Lets it have swap, in bytes, beside its memory.
    #[must_use]
    pub const fn swap_bytes(mut self, bytes: u64) -> Self {
        self.swap_bytes = Some(bytes);
        self
    }

    /// Sets its share of the CPUs: 1 to 10000, 100 being usual.
    #[must_use]
    pub const fn cpu_weight(mut self, weight: u64) -> Self {
        self.cpu_weight = Some(weight);
        self
    }

    /// Keeps it to some CPUs: bit N stands for CPU N.
    #[must_use]
    pub const fn cpuset(mut self, cpus: u128) -> Self {
        self.cpuset = Some(cpus);
        self
    }

    /// Bounds reading from and writing to a device.
    #[must_use]
    pub const fn io(mut self, limit: IoLimit) -> Self {
        self.io = Some(limit);
        self
    }

    /// Whether nothing is bounded.
    #[must_use]
    pub const fn is_none(&self) -> bool {
        self.memory_bytes.is_none()
            && self.cpu_millis.is_none()
            && self.pids.is_none()
            && self.swap_bytes.is_none()
            && self.cpu_weight.is_none()
            && self.cpuset.is_none()
            && self.io.is_none()
    }
}

/// One standard stream of an instance.
#[derive(Debug, Clone, Copy, Default)]
pub enum Stream<'a> {
    /// The caller's own.
    #[default]
    Inherit,
    /// The null device.
    Null,
    /// A descriptor of the caller, which stays the caller's.
    Fd(BorrowedFd<'a>),
}

/// The three standard streams of an instance.
#[derive(Debug, Clone, Copy, Default)]
pub struct Stdio<'a> {
    /// Standard input.
    pub stdin: Stream<'a>,
    /// Standard output.
    pub stdout: Stream<'a>,
    /// Standard error.
    pub stderr: Stream<'a>,
}

impl<'a> Stdio<'a> {
    /// The caller's own three streams.
    #[must_use]
    pub const fn inherit() -> Self {
        Self { stdin: Stream::Inherit, stdout: Stream::Inherit, stderr: Stream::Inherit }
    }

    /// The null device three times.
    #[must_use]
    pub const fn null() -> Self {
        Self { stdin: Stream::Null, stdout: Stream::Null, stderr: Stream::Null }
    }

    /// The same with this standard input.
    #[must_use]
    pub const fn stdin(mut self, stream: Stream<'a>) -> Self {
        self.stdin = stream;
        self
    }

    /// The same with this standard output.
    #[must_use]
    pub const fn stdout(mut self, stream: Stream<'a>) -> Self {
        self.stdout = stream;
        self
    }

    /// The same with this standard error.
    #[must_use]
    pub const fn stderr(mut self, stream: Stream<'a>) -> Self {
        self.stderr = stream;
        self
    }
}

/// A program and its isolation, to be [prepared](Config::prepare) once and spawned any number of times.
///
/// The environment is empty unless set, the working directory is `/` in a root of its own and the caller's otherwise.
#[derive(Debug, Clone)]
pub struct Config {
    pub(crate) program: Program,
    pub(crate) arg0: Option<OsString>,
    pub(crate) args: Vec<OsString>,
    pub(crate) env: Vec<(OsString, OsString)>,
    pub(crate) isolation: Isolation,
    pub(crate) limits: Limits,
    pub(crate) hostname: Option<String>,
    pub(crate) tmp_bytes: u64,
    pub(crate) die_with_caller: bool,
    pub(crate) usage: Option<Figures>,
    pub(crate) network_beside: bool,
    pub(crate) start_soon: bool,
    pub(crate) options: Options,
}

/// The default size of an instance's root, which holds its `/tmp`: 64 MiB, as Docker's `/dev/shm`.
const TMP_BYTES: u64 = 64 << 20;

impl Config {
    /// A bare process running `program`; see [`Config::isolation`].
    #[must_use]
    pub fn new(program: Program) -> Self {
        Self {
            program,
            arg0: None,
            args: Vec::new(),
            env: Vec::new(),
            isolation: Isolation::none(),
            limits: Limits::none(),
            hostname: None,
            tmp_bytes: TMP_BYTES,
            die_with_caller: true,
            usage: None,
            network_beside: true,
            start_soon: false,
            options: Options::default(),
        }
    }

    /// The program's name for itself (`argv[0]`); by default its path, or `program` for a descriptor.
    #[must_use]
    pub fn arg0(mut self, arg0: impl AsRef<OsStr>) -> Self {
        self.arg0 = Some(arg0.as_ref().to_owned());
        self
    }

    /// Adds an argument.
    #[must_use]
    pub fn arg(mut self, arg: impl AsRef<OsStr>) -> Self {
        self.args.push(arg.as_ref().to_owned());
        self
    }

    /// Adds arguments.
    #[must_use]
    pub fn args(mut self, args: impl IntoIterator<Item = impl AsRef<OsStr>>) -> Self {
        self.args.extend(args.into_iter().map(|arg| arg.as_ref().to_owned()));
        self
    }

    /// Sets an environment variable, in place of an earlier one of the same name.
    #[must_use]
    pub fn env(mut self, key: impl AsRef<OsStr>, value: impl AsRef<OsStr>) -> Self {
        self.env.retain(|(known, _)| known != key.as_ref());
        self.env.push((key.as_ref().to_owned(), value.as_ref().to_owned()));
        self
    }

    /// Sets environment variables, for example `std::env::vars_os()`.
    #[must_use]
    pub fn envs(self, vars: impl IntoIterator<Item = (impl AsRef<OsStr>, impl AsRef<OsStr>)>) -> Self {
        vars.into_iter().fold(self, |config, (key, value)| config.env(key, value))
    }

    /// Sets the layers of isolation; none by default.
    #[must_use]
    pub fn isolation(mut self, isolation: Isolation) -> Self {
        self.isolation = isolation;
        self
    }

    /// Sets the limits; none by default.
    ///
    /// Where the host does not let the caller have a control group, instances run without, and
    /// [`Prepared::limits_unavailable`] says why.
    #[must_use]
    pub fn limits(mut self, limits: Limits) -> Self {
        self.limits = limits;
        self
    }

    /// Sets the host name seen inside; `container` by default. Needs the layer [`Uts`](crate::Layer::Uts).
    #[must_use]
    pub fn hostname(mut self, hostname: impl Into<String>) -> Self {
        self.hostname = Some(hostname.into());
        self
    }

    /// Sets the size of the instance's file system in memory, which holds its `/tmp`; 64 MiB by default.
    #[must_use]
    pub fn tmp_bytes(mut self, bytes: u64) -> Self {
        self.tmp_bytes = bytes;
        self
    }

    /// Whether an instance is killed when *the thread that spawned it* ends; true by default.
    ///
    /// The kernel ties this to the thread (`PR_SET_PDEATHSIG`): spawn from a thread that outlives the instance.
    #[must_use]
    pub fn die_with_caller(mut self, die: bool) -> Self {
        self.die_with_caller = die;
        self
    }

    /// Whether the control group's figures are read when an instance has ended ([`Exit::usage`](crate::Exit)); false by
    /// default, since reading them is part of what the end then takes.
    #[must_use]
    pub fn read_usage(mut self, read: bool) -> Self {
        self.usage = read.then_some(Figures::All);
        self
    }

    /// As [`Config::read_usage`], but only what tells whether a limit was met: [`Usage::oom_kills`](crate::Usage::oom_kills),
    /// [`throttled_ns`](crate::Usage::throttled_ns) and [`pids_refused`](crate::Usage::pids_refused).
    #[must_use]
    pub fn read_limits_met(mut self, read: bool) -> Self {
        self.usage = read.then_some(Figures::LimitsMet);
        self
    }

    /// Whether a thread makes the network namespace while the child builds the rest (Linux 6.9 and more than one CPU);
    /// true by default.
    ///
    /// It shortens a start by what the network namespace takes and costs a few microseconds of CPU time: leave it out where
    /// many instances are started at once and the CPUs are busy anyway.
    #[must_use]
    pub fn network_beside(mut self, beside: bool) -> Self {
        self.network_beside = beside;
        self
    }

    /// Says that a start follows at once, so that [`Config::prepare`] already begins with the network namespace of the
    /// first instance, and keeps for it the control group by which it has seen that there can be one; false by default. Not
    /// for measuring a start alone, since a part of it is then done before.
    ///
    /// With limits, which take their time, and without binds, the root is built beside them, by a thread that stays until the instance
    /// has ended ([`Process::settle`](crate::Process::settle) ends it before), to take the mount namespace down: that may be gone a
    /// moment later than [`Process::wait`](crate::Process::wait) returns. The C library does not know that thread, so a change of the
    /// caller's user or capabilities is not its own, and the caller cannot make a user namespace meanwhile. What the kernel keeps for
    /// the root's mounts is then charged to the caller's control group, not to the instance's.
    #[must_use]
    pub fn start_soon(mut self, soon: bool) -> Self {
        self.start_soon = soon;
        self
    }

    /// Checks everything, and computes all that can be computed before an instance is asked for.
    ///
    /// # Errors
    ///
    /// A [`PrepareError`] names the value that cannot be used, or what of the host stands in the way.
    pub fn prepare(self) -> Result<Prepared, PrepareError> {
        Prepared::new(self)
    }
}

impl Program {
    /// The program at `path`.
    #[must_use]
    pub fn path(path: impl AsRef<Path>) -> Self {
        Self::Path(path.as_ref().to_owned())
    }

    /// The program at `path` in the instance's own root.
    #[must_use]
    pub fn inside(path: impl AsRef<Path>) -> Self {
        Self::Inside(path.as_ref().to_owned())
    }

    /// The program behind a descriptor.
    #[must_use]
    pub fn sealed(fd: OwnedFd) -> Self {
        Self::Sealed(Arc::new(fd))
    }
}
