//! A target that plays a script: for tests of everything above the targets, which then need neither rights nor luck.
//!
//! It cannot be chosen on the command line; a test makes one and hands it to an experiment.

use std::fs::File;
use std::io::{self, Write};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle, Thread};
use std::time::Duration;

use nix::fcntl::{FcntlArg, OFlag, fcntl};

use super::{End, Instance, Launch, LaunchError, Prepared, SkipReason, Status, Stdio, Target, TargetKind};
use crate::clock::now_ns;

/// One step of a script.
#[derive(Debug, Clone)]
pub enum Act {
    /// Pass some time.
    Wait(Duration),
    /// Print.
    Print(Vec<u8>),
    /// Print so many bytes.
    Flood(usize),
    /// Close standard output and go on.
    Close,
    /// Do nothing until killed.
    Hang,
    /// End with this code.
    Exit(i32),
    /// End by this signal.
    Die(i32),
}

/// What happens at one start.
#[derive(Debug, Clone)]
pub enum Script {
    /// It starts, and does this.
    Play(Vec<Act>),
    /// It does not start, for this reason.
    FailToStart(String),
    /// As the first one of a target: nothing can be prepared, for this reason.
    FailToPrepare(String),
}

/// Everything that fake targets were asked to do, in order: `spawn a`, `gone a`.
#[derive(Debug, Clone, Default)]
pub struct Journal(Arc<Mutex<Vec<String>>>);

impl Journal {
    /// The entries so far.
    #[must_use]
    pub fn entries(&self) -> Vec<String> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn note(&self, entry: String) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push(entry);
    }
}

/// The target. Its scripts are played one a start, the last one again and again.
#[derive(Debug, Clone)]
pub struct Fake {
    /// Its name in the journal.
    pub name: String,
    /// What happens at each start.
    pub scripts: Vec<Script>,
    /// Where its doings are noted.
    pub journal: Journal,
    starts: Arc<AtomicUsize>,
}

impl Fake {
    /// A fake target of this name.
    #[must_use]
    pub fn new(name: &str, scripts: Vec<Script>, journal: &Journal) -> Self {
        Self { name: name.into(), scripts, journal: journal.clone(), starts: Arc::default() }
    }
}

impl Target for Fake {
    fn kind(&self) -> TargetKind {
        TargetKind::Native
    }

    fn probe(&self) -> Result<(), SkipReason> {
        Ok(())
    }

    fn prepare(&self, _launch: &Launch) -> Result<Box<dyn Prepared>, LaunchError> {
        match self.scripts.first() {
            Some(Script::FailToPrepare(why)) => Err(LaunchError::Scripted(why.clone())),
            _ => Ok(Box::new(self.clone())),
        }
    }
}

impl Prepared for Fake {
    fn spawn(&self, stdio: Stdio) -> Result<Box<dyn Instance>, LaunchError> {
        self.journal.note(format!("spawn {}", self.name));
        let number = self.starts.fetch_add(1, Ordering::SeqCst);
        let script = self.scripts.get(number.min(self.scripts.len().saturating_sub(1)));
        let acts = match script {
            Some(Script::Play(acts)) => acts.clone(),
            Some(Script::FailToStart(why) | Script::FailToPrepare(why)) => {
                return Err(LaunchError::Scripted(why.clone()));
            }
            None => Vec::new(),
        };
        let killed = Arc::new(AtomicBool::new(false));
        let stdout = stdio.stdout.map(File::from);
        let actor = thread::spawn({
            let killed = Arc::clone(&killed);
            move || play(acts, stdout, &killed)
        });
        let thread = actor.thread().clone();
        Ok(Box::new(FakeInstance {
            name: self.name.clone(),
            journal: self.journal.clone(),
            actor: Some(actor),
            thread,
            killed,
            spawned_ns: now_ns(),
        }))
    }
}

struct FakeInstance {
    name: String,
    journal: Journal,
    actor: Option<JoinHandle<Status>>,
    thread: Thread,
    killed: Arc<AtomicBool>,
    spawned_ns: u64,
}

impl Instance for FakeInstance {
    fn phases(&mut self, start_ns: u64) -> Vec<(&'static str, u64)> {
        vec![("spawn", self.spawned_ns.saturating_sub(start_ns))]
    }

    fn pids(&self) -> Vec<i32> {
        // Our own: there is no other process, and its memory can be read.
        i32::try_from(std::process::id()).into_iter().collect()
    }

    fn cgroup_bytes(&self) -> Option<u64> {
        None
    }

    fn wait(&mut self, timeout: Option<Duration>) -> Result<Option<End>, LaunchError> {
        let deadline = timeout.map(|timeout| std::time::Instant::now() + timeout);
        let Some(actor) = self.actor.take() else {
            return Err(LaunchError::Scripted("waited for twice".into()));
        };
        while deadline.is_some_and(|deadline| std::time::Instant::now() < deadline) && !actor.is_finished() {
            thread::sleep(Duration::from_micros(100));
        }
        if timeout.is_some() && !actor.is_finished() {
            self.actor = Some(actor);
            return Ok(None);
        }
        let status = actor.join().map_err(|_| LaunchError::Scripted("the actor panicked".into()))?;
        self.journal.note(format!("gone {}", self.name));
        Ok(Some(End { status, ended_ns: None, gone_ns: now_ns(), notes: Vec::new() }))
    }

    fn kill(&mut self) {
        self.killed.store(true, Ordering::SeqCst);
        self.thread.unpark();
    }
}

impl Drop for FakeInstance {
    fn drop(&mut self) {
        self.kill();
        if self.actor.is_some() {
            drop(self.wait(None));
        }
    }
}

fn play(acts: Vec<Act>, mut stdout: Option<File>, killed: &AtomicBool) -> Status {
    const KILLED: Status = Status::Signaled(libc::SIGKILL);
    for act in acts {
        if killed.load(Ordering::SeqCst) {
            return KILLED;
        }
        match act {
            Act::Wait(time) => thread::sleep(time),
            Act::Print(bytes) => {
                if let Some(out) = &mut stdout
                    && out.write_all(&bytes).is_err()
                {
                    return Status::Signaled(libc::SIGPIPE);
                }
            }
            Act::Flood(bytes) => {
                let page = [b'x'; 4096];
                let mut left = bytes;
                // A process that waits for room in a pipe can be killed; a thread can only look now and then.
                let waits = stdout.as_ref().map(|out| fcntl(out, FcntlArg::F_SETFL(OFlag::O_NONBLOCK)));
                while let (Some(out), Some(Ok(_))) = (&mut stdout, waits)
                    && left > 0
                {
                    match out.write(&page) {
                        Ok(written) => left = left.saturating_sub(written),
                        Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                            thread::sleep(Duration::from_millis(1));
                        }
                        Err(_) => return KILLED,
                    }
                    if killed.load(Ordering::SeqCst) {
                        return KILLED;
                    }
                }
            }
            Act::Close => stdout = None,
            Act::Hang => {
                while !killed.load(Ordering::SeqCst) {
                    thread::park();
                }
                return KILLED;
            }
            Act::Exit(code) => return Status::Exited(code),
            Act::Die(signal) => return Status::Signaled(signal),
        }
    }
    Status::Exited(0)
}
