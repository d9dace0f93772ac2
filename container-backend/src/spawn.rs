//! One start: from the caller's side.

use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::sync::{Arc, PoisonError};

use crate::aide::{Duties, Requests};
use crate::beside::Maker;
use crate::child::{self, Exec, Fate, Init, Pause, Shared, Start, Told};
use crate::config::{Stdio, Stream};
use crate::error::SpawnError;
use crate::isolation::Layer;
use crate::plan::Op;
use crate::prepare::{Prepared, Root, duplicate_above_stdio};
use crate::process::{self, Belongings, Process, Status};
use crate::sys::{self, CLONE_CLEAR_SIGHAND, CLONE_INTO_CGROUP, CloneArgs, monotonic_ns};
use crate::timeline::{Phase, Timeline};
use crate::veth::OuterEnd;

impl Prepared {
    /// Starts one instance; returns as soon as its program is being executed.
    ///
    /// The instance is killed when the calling thread ends; see [`Config::die_with_caller`](crate::Config).
    ///
    /// # Errors
    ///
    /// A [`SpawnError`] names the step that failed. Nothing is left of the instance then.
    pub fn spawn(&self, stdio: Stdio<'_>) -> Result<Process, SpawnError> {
        self.start(stdio, self.exec(), None)
    }

    /// As [`Prepared::spawn`], but the child stops before step `step` of [`Prepared::steps`], or before the exec, which comes after
    /// the last, says so on `tell`, and goes on when the caller has died. `None`: the caller itself stops for ever, when
    /// everything is made that is made before the clone. For tests of what is left behind by a caller that is killed.
    ///
    /// # Errors
    ///
    /// As for [`Prepared::spawn`].
    #[doc(hidden)]
    pub fn spawn_to_be_killed(
        &self,
        stdio: Stdio<'_>,
        step: Option<u32>,
        tell: BorrowedFd<'_>,
    ) -> Result<Process, SpawnError> {
        let pause = step.map_or(Pause::BeforeClone, |step| Pause::Before(step as usize));
        self.start(stdio, self.exec(), Some(Told { pause, tell: tell.as_raw_fd() }))
    }

    /// Goes through all steps of a start but the last: no program is executed.
    ///
    /// # Errors
    ///
    /// As for [`Prepared::spawn`].
    pub fn rehearse(&self) -> Result<(), SpawnError> {
        self.start(Stdio::null(), Exec::DryRun, None).map(drop)
    }

    fn start(&self, stdio: Stdio<'_>, exec: Exec, pause: Option<Told>) -> Result<Process, SpawnError> {
        let maker = self.maker()?;
        let mut group = self.groups.as_ref().map(|plan| plan.make()).transpose()?;
        let cgroup_made_ns = group.as_ref().map(|_| monotonic_ns());
        let end = self.outside.as_ref().map(OuterEnd::new);
        let requests = Requests::default();
        let init = self.init.as_ref().map(|image| Ok((image.as_raw_fd(), self.stacks.take()?)));
        let init = init.transpose().map_err(SpawnError::Stack)?;
        let image = self.root.as_ref().map_or(Ok(None), Root::mount).map_err(SpawnError::Image)?;
        let streams = Streams::new(self, stdio)?;
        let joins = group.as_ref().map(|group| group.joins()).unwrap_or_default();
        let shared = Shared::default();
        let start = Start {
            ops: &self.ops,
            exec,
            init: init.as_ref().map(|(image, stack)| Init { image: *image, stack: stack.top() }),
            argv: self.argv.as_ptr(),
            envp: self.envp.as_ptr(),
            stdio: streams.fds,
            joins: &joins,
            image: image.as_ref().map_or(-1, AsRawFd::as_raw_fd),
            caller: self.caller.as_raw_fd(),
            pause,
            beside: maker.as_ref(),
            requests: &requests,
            shared: &shared,
        };
        let clone_into = group.as_ref().and_then(|group| group.clone_into());
        if let Some(told) = pause.filter(|told| matches!(told.pause, Pause::BeforeClone)) {
            told.say();
            loop {
                std::thread::park();
            }
        }
        let duties = Duties {
            ranges: self.ranges.as_ref(),
            link: end.as_ref(),
            maker: maker.as_ref().map(Maker::state),
        };
        let (cloned, helped) = duties.beside(&requests, || self.clone_child(&start, clone_into))?;
        let not_built = maker.as_ref().and_then(|maker| maker.failed().map(Op::to_string));
        let staying = match maker {
            Some(maker) if !maker.stays() => {
                maker.finish(&self.stacks);
                None
            }
            maker => maker,
        };
        let (pid, pidfd, executed_ns) = cloned?;
        if let Some((_, stack)) = init {
            self.stacks.give_back(stack);
        }
        let fate = shared.fate();
        if fate != Fate::Executed {
            let filtered = matches!(process::reap(&pidfd), Some(Status::Signaled(libc::SIGSYS)));
            // Without a root, whoever makes the veth pair was not helped either.
            let is_built = not_built.is_none();
            let error = if filtered { SpawnError::Filtered } else { self.failure(fate, not_built) };
            return Err(helped.err().filter(|_| is_built).map_or(error, SpawnError::from));
        }
        if let Some(group) = &mut group {
            group.joined();
        }
        let timeline = Timeline::new(marks(&shared, executed_ns), cgroup_made_ns);
        let whole_kill = self.isolation.has(Layer::Pid);
        Ok(Process::new(
            pid,
            pidfd,
            timeline,
            Belongings { group, end, maker: staying },
            self.usage,
            whole_kill,
        ))
    }

    /// Whoever makes namespaces beside this start; `None` where the clone does it, or there are none.
    fn maker(&self) -> Result<Option<Maker>, SpawnError> {
        if !self.network_beside {
            return Ok(None);
        }
        let early = self.maker.lock().unwrap_or_else(PoisonError::into_inner).take();
        let maker = early.or_else(|| Maker::start(&self.stacks, self.beside));
        if let Some(root) = &self.root_beside {
            // One has been started before: what would be missing now is room for another.
            let maker = maker.as_ref().ok_or_else(|| SpawnError::Aide(sys::os_error(libc::EAGAIN)))?;
            maker.build(Arc::clone(root));
        }
        Ok(maker)
    }

    /// The clone itself, with all signals blocked. Returns when the child executes, or has ended.
    fn clone_child(
        &self,
        start: &Start<'_>,
        clone_into: Option<RawFd>,
    ) -> Result<(i32, OwnedFd, u64), SpawnError> {
        let stack = self.stacks.take().map_err(SpawnError::Stack)?;
        let mut pidfd: RawFd = -1;
        // SAFETY: all zero is a valid clone_args.
        let mut args: CloneArgs = unsafe { std::mem::zeroed() };
        let mut shared = libc::CLONE_VM | libc::CLONE_VFORK | libc::CLONE_PIDFD | self.clone_flags;
        if self.network_beside && start.beside.is_none() {
            shared |= libc::CLONE_NEWNET;
        }
        args.pidfd = std::ptr::from_mut(&mut pidfd) as u64;
        shared |= libc::CLONE_PARENT_SETTID;
        args.flags = u64::from(shared.cast_unsigned()) | CLONE_CLEAR_SIGHAND;
        args.parent_tid = start.requests.child.as_ptr() as u64;
        args.exit_signal = u64::from(libc::SIGCHLD.cast_unsigned());
        (args.stack, args.stack_size) = stack.range();
        if let Some(group) = clone_into {
            args.flags |= CLONE_INTO_CGROUP;
            args.cgroup = u64::from(group.cast_unsigned());
        }
        // SAFETY: numbers only.
        let dumpable = unsafe { libc::prctl(libc::PR_GET_DUMPABLE) };
        let blocked = SignalsBlocked::new();
        // SAFETY: the stack is this start's own until it is given back below, when the child (CLONE_VFORK) has left it;
        // `child::main` is made for running so; `start` outlives the call, during which this thread is suspended.
        let pid = unsafe { sys::clone3(&args, child::main, std::ptr::from_ref(start).cast()) };
        if pid.is_ok() && start.init.is_some() {
            // Before anything is tidied up: so far, only the init has been executed.
            start.shared.let_go();
        }
        let executed_ns = monotonic_ns();
        drop(blocked);
        // A child that becomes somebody else takes that from the memory that we share, and with it our own /proc/self, through
        // which an ordinary user's next start maps its users. The child has left that memory.
        if dumpable == 1 {
            // SAFETY: numbers only.
            unsafe { libc::prctl(libc::PR_SET_DUMPABLE, 1, 0, 0, 0) };
        }
        self.stacks.give_back(stack);
        let pid = pid.map_err(|errno| SpawnError::Clone {
            isolation: self.isolation.to_string(),
            source: sys::os_error(errno),
        })?;
        // SAFETY: CLONE_PIDFD has stored a fresh descriptor, since the clone succeeded.
        let pidfd = unsafe { OwnedFd::from_raw_fd(pidfd) };
        Ok((i32::try_from(pid).unwrap_or(-1), pidfd, executed_ns))
    }

    /// `not_built`: the step that failed of a root built beside the start.
    fn failure(&self, fate: Fate, not_built: Option<String>) -> SpawnError {
        match fate {
            Fate::Failed { op, errno } => {
                let source = sys::os_error(errno);
                let op = self.ops.get(op);
                let waited = not_built.filter(|_| matches!(op, Some(Op::Enter(_))));
                let step = waited.or_else(|| op.map(Op::to_string)).unwrap_or_default();
                let is_refused = source.kind() == std::io::ErrorKind::PermissionDenied;
                match op.filter(|_| is_refused).and_then(Op::takes) {
                    Some(takes) => SpawnError::Right { step, takes, source },
                    None => SpawnError::Setup { step, source },
                }
            }
            Fate::ExecFailed { errno } => {
                let (program, source) = (self.program_name.clone(), sys::os_error(errno));
                // In a root that was given, the program itself has been looked for.
                match errno {
                    libc::ENOENT if self.root_is_given() => SpawnError::Interpreter { program, source },
                    _ => SpawnError::Exec { program, source },
                }
            }
            Fate::InitFailed { errno } => SpawnError::Setup {
                step: "start the program beside an init".to_owned(),
                source: sys::os_error(errno),
            },
            Fate::Executed | Fate::Killed => SpawnError::Killed,
        }
    }
}

/// The phases that were reached, with the caller's own reading as the last.
fn marks(shared: &Shared, executed_ns: u64) -> Vec<(&'static str, u64)> {
    let reached = |phase: Phase| Some((phase.name(), shared.mark(phase)?));
    let mut marks: Vec<_> = Phase::ALL.into_iter().filter_map(reached).collect();
    marks.push((Phase::Exec.name(), executed_ns));
    marks
}

/// The descriptors that the child puts in places 0, 1 and 2.
struct Streams {
    fds: [RawFd; 3],
    /// Duplicates of sources that stood in one another's places.
    _moved: Vec<OwnedFd>,
}

impl Streams {
    fn new(prepared: &Prepared, stdio: Stdio<'_>) -> Result<Self, SpawnError> {
        let mut streams = Self { fds: [0, 1, 2], _moved: Vec::new() };
        for (place, stream) in streams.fds.iter_mut().zip([stdio.stdin, stdio.stdout, stdio.stderr]) {
            let source = match stream {
                Stream::Inherit => continue,
                Stream::Null => prepared.null.as_raw_fd(),
                Stream::Fd(fd) => fd.as_raw_fd(),
            };
            *place = source;
            if source <= libc::STDERR_FILENO {
                let high =
                    duplicate_above_stdio(source).map_err(|e| SpawnError::Stdio { fd: source, source: e })?;
                *place = high.as_raw_fd();
                streams._moved.push(high);
            }
        }
        Ok(streams)
    }
}

/// All signals blocked in this thread until dropped, those that the C library keeps for itself included.
pub(crate) struct SignalsBlocked {
    before: u64,
}

impl SignalsBlocked {
    pub(crate) fn new() -> Self {
        let mut blocked = Self { before: 0 };
        let done = sys::signal_mask(libc::SIG_BLOCK, u64::MAX, Some(&mut blocked.before));
        debug_assert!(done.is_ok(), "rt_sigprocmask: {done:?}");
        blocked
    }
}

impl Drop for SignalsBlocked {
    fn drop(&mut self) {
        let done = sys::signal_mask(libc::SIG_SETMASK, self.before, None);
        debug_assert!(done.is_ok(), "rt_sigprocmask: {done:?}");
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read;
    use std::os::fd::AsFd;
    use std::path::Path;
    use std::sync::{atomic::Ordering::Relaxed, mpsc};
    use std::time::Duration;

    use crate::beside::UNSUPPORTED;
    use crate::cgroup::GroupPlan;
    use crate::config::{Config, Program};
    use crate::error::PrepareError;
    use crate::isolation::{Isolation, Layer};
    use crate::options::Network;
    use crate::probe::probe;
    use crate::veth::Veth;

    use super::*;

    /// Hosts whose controllers are all in v1 hierarchies cannot show a v2 limit, but being placed in a v2 group can be seen
    /// on every host that has one.
    #[test]
    fn in_v2_the_child_is_born_in_its_group_which_is_the_root_of_its_namespace() {
        let Ok(Some(plan)) = GroupPlan::without_limits_in_v2() else {
            return;
        };
        if !probe().container.is_granted() {
            return;
        }
        // A dynamic program does where the root is the host's.
        let isolation = Isolation::container().without(Layer::Mount);
        let cat = Path::new("/bin/cat");
        let config = Config::new(Program::path(cat)).arg("/proc/self/cgroup").isolation(isolation);
        let mut prepared = config.clone().prepare().expect("cat is there");
        prepared.groups = Some(plan);
        prepared.in_group(&config).expect("the same steps, and those of the group");
        let (mut reader, writer) = std::io::pipe().expect("a pipe");
        let stdio = Stdio::null().stdout(Stream::Fd(writer.as_fd()));
        let mut process = prepared.spawn(stdio).expect("it starts");
        let paths = process.cgroup_paths();
        drop(writer);
        let mut text = String::new();
        reader.read_to_string(&mut text).expect("text");
        let line = text.lines().find(|line| line.starts_with("0::"));
        assert_eq!(line, Some("0::/"), "{text}");
        let exit = process.wait(None).expect("it can be waited for").expect("it ends");
        assert!(exit.status.success());
        assert!(!paths.is_empty() && paths.iter().all(|path| !path.exists()), "{paths:?}");
    }

    /// As before Linux 6.9, where `prepare` cannot know yet that the clone will have to make the namespace.
    #[test]
    fn a_veth_pair_is_made_where_no_thread_can_make_the_namespace() {
        if !probe().container.is_granted() {
            return;
        }
        // A dynamic program does where the root is the host's.
        let isolation = Isolation::container().without(Layer::Mount);
        let config = Config::new(Program::path("/bin/true")).isolation(isolation);
        let prepared = match config.network(Network::Veth(Veth::new())).prepare() {
            Err(PrepareError::VethRights) => return,
            prepared => prepared.expect("true is there"),
        };
        let before = UNSUPPORTED.swap(true, Relaxed);
        let (done, waited) = mpsc::channel();
        std::thread::spawn(move || {
            let mut process = prepared.spawn(Stdio::null()).expect("it starts");
            let exit = process.wait(None).expect("it can be waited for").expect("it ends");
            done.send(exit.status)
        });
        let ended = waited.recv_timeout(Duration::from_secs(20));
        UNSUPPORTED.store(before, Relaxed);
        assert!(ended.expect("it neither hangs nor fails").success());
    }
}
