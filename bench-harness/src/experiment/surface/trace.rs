//! Which system calls do the processes of an instance make? Seen by ptrace, from their first to their last.
//!
//! What is traced is `bench-harness run`: it starts the instance as anybody would, and every process that comes of it is
//! followed from its birth. Its own calls are counted apart: they are made by whoever starts, not by what is started.
//! Such a run is many times slower than one that is not traced. Nothing of it is timed.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io;
use std::os::unix::process::CommandExt;
use std::process::Command;

use nix::errno::Errno;
use nix::sys::ptrace::{self, Options};
use nix::sys::signal::Signal;
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;
use syscalls::Sysno;

use crate::signals;

/// Calls by name, and how often each was made.
pub type Calls = BTreeMap<&'static str, u64>;

/// What was seen of one run.
#[derive(Debug, Default)]
pub struct Traced {
    /// Of all processes of the instance, before the program runs: what it takes to set the instance up.
    pub setup: Calls,
    /// The same from the program's first instruction on: a successful exec, or the first KVM_RUN.
    pub running: Calls,
    /// Of the first thread of the process that started it. Its other threads have been made to set the instance up.
    pub starter: Calls,
    /// Exit code of the starter, which is that of the program; `None` where a signal ended it.
    pub code: Option<i32>,
}

/// Why nothing was seen.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TraceError {
    /// Not even started: mostly since tracing is not allowed.
    #[error("ptrace cannot be used here")]
    NotAllowed(#[source] io::Error),
    /// A step of the tracing failed.
    #[error("cannot {step}")]
    Step {
        /// What was tried.
        step: &'static str,
        /// Why it failed.
        #[source]
        source: Errno,
    },
    /// A signal came to us.
    #[error("interrupted")]
    Interrupted,
}

fn failed(step: &'static str) -> impl Fn(Errno) -> TraceError {
    move |source| TraceError::Step { step, source }
}

/// Runs `command` and follows it and all that it starts, to their end.
///
/// # Errors
/// The step that failed, or that we were interrupted; nothing of it is left then.
pub fn trace(mut command: Command) -> Result<Traced, TraceError> {
    // SAFETY: between fork and exec only ptrace(2) is called, which is async-signal-safe and touches no memory of ours.
    unsafe { command.pre_exec(|| ptrace::traceme().map_err(io::Error::from)) };
    let mut child = command.spawn().map_err(TraceError::NotAllowed)?;
    let starter = Pid::from_raw(i32::try_from(child.id()).unwrap_or(i32::MAX));
    let seen = follow(starter);
    if seen.is_err() {
        // With EXITKILL not set yet, or not allowed, its death takes what it has started along, as any death of it does.
        drop(child.kill());
        drain();
    }
    // Reaped by `follow`: this only tells the handle.
    drop(child.try_wait());
    seen
}

fn follow(starter: Pid) -> Result<Traced, TraceError> {
    let mut seen = Traced::default();
    // It stops itself when its program is in place.
    match waitpid(starter, None).map_err(failed("wait for the start"))? {
        WaitStatus::Stopped(..) => {}
        WaitStatus::Exited(_, code) => {
            seen.code = Some(code);
            return Ok(seen);
        }
        _ => return Ok(seen),
    }
    let options = Options::PTRACE_O_TRACESYSGOOD
        | Options::PTRACE_O_TRACEFORK
        | Options::PTRACE_O_TRACEVFORK
        | Options::PTRACE_O_TRACECLONE
        | Options::PTRACE_O_TRACEEXEC
        | Options::PTRACE_O_EXITKILL;
    ptrace::setoptions(starter, options).map_err(failed("set the options of ptrace"))?;
    let mut known = BTreeSet::from([starter]);
    let mut runs = false;
    resume(starter, None)?;
    loop {
        let status = match waitpid(None, Some(WaitPidFlag::__WALL | WaitPidFlag::__WNOTHREAD)) {
            Err(Errno::ECHILD) => return Ok(seen),
            Err(Errno::EINTR) if signals::caught().is_some() => return Err(TraceError::Interrupted),
            Err(Errno::EINTR) => continue,
            other => other.map_err(failed("wait for what is traced"))?,
        };
        match status {
            WaitStatus::Exited(pid, code) if pid == starter => seen.code = Some(code),
            WaitStatus::PtraceSyscall(pid) => {
                if let Some((name, request)) = entered(pid) {
                    let is_starter = pid == starter;
                    runs |= !is_starter && (name, request) == ("ioctl", KVM_RUN);
                    let calls = match (is_starter, runs) {
                        (true, _) => &mut seen.starter,
                        (false, true) => &mut seen.running,
                        (false, false) => &mut seen.setup,
                    };
                    *calls.entry(name).or_default() += 1;
                }
                resume(pid, None)?;
            }
            // The first stop of a new one is ours; later ones are somebody's signals.
            WaitStatus::Stopped(pid, Signal::SIGSTOP) if known.insert(pid) => resume(pid, None)?,
            WaitStatus::Stopped(pid, signal) => resume(pid, Some(signal))?,
            WaitStatus::PtraceEvent(pid, _, event) => {
                runs |= event == libc::PTRACE_EVENT_EXEC && pid != starter && !is_helper(pid);
                resume(pid, None)?;
            }
            _ => {}
        }
    }
}

/// Whether it is executing a program of container-backend's own, which is there before the instance's.
fn is_helper(pid: Pid) -> bool {
    let program = fs::read_link(format!("/proc/{pid}/exe")).unwrap_or_default();
    let name = program.to_str().and_then(|name| name.strip_prefix("/memfd:")).unwrap_or_default();
    let name = name.trim_end_matches(" (deleted)").as_bytes();
    container_backend::OWN_PROGRAMS.iter().any(|own| own.to_bytes() == name)
}

/// `_IO(0xae, 0x80)` of include/uapi/linux/kvm.h.
const KVM_RUN: u64 = 0xae80;

/// The name of the call that it is about to make, and its second argument; `None` at the end of one.
fn entered(pid: Pid) -> Option<(&'static str, u64)> {
    let info = ptrace::syscall_info(pid).ok().filter(|info| info.op == libc::PTRACE_SYSCALL_INFO_ENTRY)?;
    // SAFETY: the kernel filled in the part of the union that `op` names.
    let call = unsafe { info.u.entry };
    let number = usize::try_from(call.nr).ok().and_then(Sysno::new);
    Some((number.map_or("unknown", |number| number.name()), call.args[1]))
}

/// One that was killed meanwhile is nothing to resume, and no error.
fn resume(pid: Pid, signal: Option<Signal>) -> Result<(), TraceError> {
    match ptrace::syscall(pid, signal) {
        Ok(()) | Err(Errno::ESRCH) => Ok(()),
        Err(errno) => Err(failed("resume what is traced")(errno)),
    }
}

/// Kills and reaps whatever is still traced.
fn drain() {
    loop {
        match waitpid(None, Some(WaitPidFlag::__WALL | WaitPidFlag::__WNOTHREAD)) {
            Ok(
                WaitStatus::Stopped(pid, _)
                | WaitStatus::PtraceSyscall(pid)
                | WaitStatus::PtraceEvent(pid, ..),
            ) => drop(nix::sys::signal::kill(pid, Signal::SIGKILL)),
            Ok(_) | Err(Errno::EINTR) => {}
            Err(_) => return,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of_shell(script: &str) -> Traced {
        let mut command = Command::new("sh");
        command.args(["-c", script]);
        // On a thread of its own: other tests have children, too, and a tracer waits for all of its thread's.
        std::thread::spawn(|| trace(command)).join().expect("no panic").expect("sh can be traced")
    }

    #[test]
    fn a_child_is_followed_from_its_birth_and_counted_apart_from_its_parent() {
        let seen = of_shell("/bin/true; exit 3");
        assert_eq!(seen.code, Some(3));
        // The exec itself belongs to what comes before; it counts as the program's from its success on.
        assert_eq!(seen.setup.get("execve"), Some(&1), "{:?}", seen.setup);
        assert_eq!(seen.running.get("exit_group"), Some(&1), "{:?}", seen.running);
        assert!(seen.starter.contains_key("wait4"), "{:?}", seen.starter);
    }

    #[test]
    fn signals_reach_what_they_are_meant_for() {
        let seen = of_shell("trap 'exit 7' TERM; kill -TERM $$; sleep 5");
        assert_eq!(seen.code, Some(7));
        let seen = of_shell("(kill -STOP $(sh -c 'echo $PPID') & ) ; kill -KILL $$");
        assert_eq!(seen.code, None);
    }

    #[test]
    fn a_program_that_does_not_exist_is_an_error_of_the_start() {
        let error = trace(Command::new("/no/such/program")).expect_err("there is none");
        assert!(error.to_string().contains("ptrace cannot be used here"), "{error}");
    }
}
