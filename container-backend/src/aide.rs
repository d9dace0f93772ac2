//! What a child cannot do for itself and its caller, suspended, cannot do for it: a thread beside the two does it.
//!
//! Two such things: identity maps of more than one number, which only a process outside the user namespace may write
//! (newuidmap(1)), and a veth pair, whose outer end is in a network namespace where the child has no rights.
//!
//! ```text
//! caller    Aide::start .. clone3 .......................... exec, Aide::finish: joined
//! thread        waits ... maps ... waits ... veth pair
//! child             asks, waits ... goes on ... asks, waits ... goes on, exec
//! ```
//!
//! An ordinary thread: it may allocate and start programs. Only what the child calls ([`Request::ask`], [`Request::wait`])
//! keeps to what a child may do (see [`crate::child`]).

use std::io;
use std::sync::atomic::{AtomicI32, AtomicU32, Ordering::AcqRel, Ordering::Acquire, Ordering::Release};

use crate::beside::State;
use crate::error::SpawnError;
use crate::futex::{wait, wake};
use crate::idmap::Ranges;
use crate::sys::{self, Ret};
use crate::veth::OuterEnd;

/// What a request's word says: nothing yet; asked for; done; no longer wanted; or, from this on, an errno.
const IDLE: u32 = 0;
const ASKED: u32 = 1;
const DONE: u32 = 2;
const CANCELLED: u32 = 3;
const FAILED: u32 = 0x1_0000;

/// One thing that the child asks for.
#[derive(Debug, Default)]
pub(crate) struct Request(AtomicU32);

impl Request {
    /// Called by the child.
    pub(crate) fn ask(&self) {
        // What has been done without being asked stays done.
        if self.0.compare_exchange(IDLE, ASKED, AcqRel, Acquire).is_ok() {
            wake(&self.0);
        }
    }

    /// Called by the child: waits for the answer.
    pub(crate) fn wait(&self) -> Ret {
        loop {
            match self.0.load(Acquire) {
                DONE => return Ok(0),
                value @ (IDLE | ASKED) => wait(&self.0, value),
                CANCELLED => return Err(libc::ECANCELED),
                value => return Err(i32::try_from(value - FAILED).unwrap_or(libc::EIO)),
            }
        }
    }

    /// Called by the thread: whether it is wanted.
    fn wanted(&self) -> bool {
        loop {
            match self.0.load(Acquire) {
                IDLE => wait(&self.0, IDLE),
                value => return value == ASKED,
            }
        }
    }

    fn answer(&self, done: &io::Result<()>) {
        let value = match done {
            Ok(()) => DONE,
            Err(error) => FAILED + error.raw_os_error().unwrap_or(libc::EIO).cast_unsigned(),
        };
        self.0.store(value, Release);
        wake(&self.0);
    }

    /// Called by the caller when the child needs nothing any more.
    fn cancel(&self) {
        if self.0.compare_exchange(IDLE, CANCELLED, AcqRel, Acquire).is_ok() {
            wake(&self.0);
        }
    }
}

/// The memory that thread and child share.
#[derive(Debug, Default)]
pub(crate) struct Requests {
    /// The child's number, stored by the kernel before the child runs.
    pub(crate) child: AtomicI32,
    pub(crate) maps: Request,
    pub(crate) link: Request,
}

impl Requests {
    fn cancel(&self) {
        self.maps.cancel();
        self.link.cancel();
    }
}

/// What there is to be done for one start.
#[derive(Debug)]
pub(crate) struct Duties<'a> {
    pub(crate) ranges: Option<&'a Ranges>,
    pub(crate) link: Option<&'a OuterEnd>,
    /// Who makes the network namespace, if not the clone: then the pair need not wait for the child.
    pub(crate) maker: Option<&'a State>,
}

/// Why a duty could not be done.
#[derive(Debug)]
pub(crate) enum Failure {
    Maps(io::Error),
    Link(io::Error),
}

impl From<Failure> for SpawnError {
    fn from(failure: Failure) -> Self {
        match failure {
            Failure::Maps(source) => Self::IdMaps(source),
            Failure::Link(source) => Self::Veth(source),
        }
    }
}

impl Duties<'_> {
    /// Makes a start with the thread beside it, if there is anything for it to do; the second result is what came of that.
    pub(crate) fn beside<T>(
        &self,
        requests: &Requests,
        start: impl FnOnce() -> T,
    ) -> Result<(T, Result<(), Failure>), SpawnError> {
        if self.ranges.is_none() && self.link.is_none() {
            return Ok((start(), Ok(())));
        }
        std::thread::scope(|scope| {
            let thread = std::thread::Builder::new().spawn_scoped(scope, || self.run(requests));
            let thread = thread.map_err(SpawnError::Aide)?;
            let started = start();
            requests.cancel();
            Ok((started, thread.join().unwrap_or(Ok(()))))
        })
    }

    /// The thread: does what there is to be done, as it is asked for, until the requests are cancelled.
    fn run(&self, requests: &Requests) -> Result<(), Failure> {
        let child = || requests.child.load(Acquire);
        if let Some(ranges) = self.ranges
            && requests.maps.wanted()
        {
            let done = ranges.write(child());
            requests.maps.answer(&done);
            done.map_err(Failure::Maps)?;
        }
        if let Some(end) = self.link {
            let task = match self.maker {
                Some(maker) => maker.made().map_err(sys::os_error),
                None if requests.link.wanted() => Ok(child()),
                None => return Ok(()),
            };
            let done = task.and_then(|task| end.connect(task));
            requests.link.answer(&done);
            done.map_err(Failure::Link)?;
        }
        Ok(())
    }
}
