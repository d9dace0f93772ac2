//! The process that removes the control groups of a caller that was killed.
//!
//! Processes die with their caller (`PR_SET_PDEATHSIG`), directories do not. So a process that makes control groups has
//! one small process beside it, which holds nothing but the read end of a pipe whose write end only the caller holds, and
//! sleeps in read(2). When the caller ends, in whatever way, the read returns; the janitor removes the groups whose names
//! begin with the caller's prefix, and ends. It is a fork (no exec: there is no second program to execute), it costs a
//! few pages, and it runs only system calls.

use std::ffi::{CStr, CString, c_void};
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError, Weak};

use crate::cgroup::plan::name;
use crate::sys::{self, CloneArgs, attempt, call, flags};

/// A running janitor; it ends when this is dropped.
#[derive(Debug)]
pub(crate) struct Janitor {
    /// The beginning of the names of all groups that it removes.
    prefix: String,
    bases: Vec<CString>,
    next: AtomicU64,
    /// Whether a group could not be removed, and is left to it.
    owes: AtomicBool,
    pid: libc::pid_t,
    /// Its life line: closing this end is what it waits for.
    pipe: Option<OwnedFd>,
}

/// The janitor that is running, if any group plan of this process is in use.
static RUNNING: Mutex<Weak<Janitor>> = Mutex::new(Weak::new());
/// Numbers janitors, so that one that ends does not remove another's groups.
static NUMBER: AtomicU64 = AtomicU64::new(0);

/// How often a busy group is tried again, a millisecond apart.
const TRIES: u32 = 5000;
/// Enough for several entries of a directory (`struct linux_dirent64`) or many process numbers at a time.
const BUFFER: usize = 4096;

impl Janitor {
    /// The janitor for groups under `bases`: the one that is running, if it serves these, or a new one.
    pub(crate) fn shared(bases: &[&Path]) -> io::Result<Arc<Self>> {
        let mut running = RUNNING.lock().unwrap_or_else(PoisonError::into_inner);
        let bases: Vec<CString> =
            bases.iter().map(|base| CString::new(base.as_os_str().as_bytes()).unwrap_or_default()).collect();
        let own_pid = std::process::id();
        if let Some(janitor) = running.upgrade()
            && bases.iter().all(|base| janitor.bases.contains(base))
            && janitor.prefix.starts_with(&prefix_of(own_pid))
        {
            return Ok(janitor);
        }
        let prefix = format!("{}{}-", prefix_of(own_pid), NUMBER.fetch_add(1, Relaxed));
        let janitor = Arc::new(Self::start(prefix, bases)?);
        *running = Arc::downgrade(&janitor);
        Ok(janitor)
    }

    /// A name for a group that no other has.
    pub(crate) fn next_name(&self) -> CString {
        name(format!("{}{}", self.prefix, self.next.fetch_add(1, Relaxed)))
    }

    /// Leaves a group to it that could not be removed: it tries again when all others are gone.
    pub(crate) fn leave(&self) {
        self.owes.store(true, Relaxed);
    }

    fn start(prefix: String, bases: Vec<CString>) -> io::Result<Self> {
        let mut ends = [-1; 2];
        // SAFETY: pipe2 writes two descriptors to an array of two.
        if unsafe { libc::pipe2(ends.as_mut_ptr(), libc::O_CLOEXEC) } != 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: two fresh descriptors that nobody else knows.
        let [read, write] = ends.map(|fd| unsafe { OwnedFd::from_raw_fd(fd) });
        let duty = Duty { read: read.as_raw_fd(), prefix: prefix.as_bytes(), bases: &bases };
        // No exit signal: the caller's SIGCHLD handler and its waits for any child do not meet the janitor.
        // SAFETY: all zero is a valid clone_args (a plain fork).
        let args: CloneArgs = unsafe { std::mem::zeroed() };
        // SAFETY: without CLONE_VM the child has a copy of this memory and stack, in which `duty` stays valid for ever;
        // `run` makes system calls only, so that locks held by other threads at this moment do not matter.
        let pid =
            unsafe { sys::clone3(&args, run, std::ptr::from_ref(&duty).cast()) }.map_err(sys::os_error)?;
        let pid = libc::pid_t::try_from(pid).unwrap_or(-1);
        Ok(Self {
            prefix,
            bases,
            next: AtomicU64::new(0),
            owes: AtomicBool::new(false),
            pid,
            pipe: Some(write),
        })
    }
}

impl Drop for Janitor {
    fn drop(&mut self) {
        // Every group holds it, so all are gone by now: it need not look for them, unless one is owed. In a process forked from
        // the one that started it, it is not ours to end.
        if !self.owes.load(Relaxed) && self.prefix.starts_with(&prefix_of(std::process::id())) {
            // SAFETY: kill takes numbers only. A child that has not been reaped, so the number is its own.
            unsafe { libc::kill(self.pid, libc::SIGKILL) };
        }
        drop(self.pipe.take());
        // SAFETY: waitpid with no status to write. `__WALL`: a child without an exit signal is not seen otherwise. In a
        // process forked from the one that started the janitor, this fails at once (not a child), which is right.
        while unsafe { libc::waitpid(self.pid, std::ptr::null_mut(), libc::__WALL) } < 0
            && io::Error::last_os_error().kind() == io::ErrorKind::Interrupted
        {}
    }
}

/// How the names of all groups of process `pid` begin.
fn prefix_of(pid: u32) -> String {
    format!("container-{pid}-")
}

/// What a janitor needs.
struct Duty<'a> {
    read: RawFd,
    prefix: &'a [u8],
    bases: &'a [CString],
}

/// The janitor's whole life.
///
/// # Safety
///
/// `arg` points to a [`Duty`]; the calling process has no other thread and shares no memory.
unsafe extern "C" fn run(arg: *const c_void) -> ! {
    // SAFETY: this function's contract.
    let duty = unsafe { &*arg.cast::<Duty<'_>>() };
    let all = u64::MAX;
    let (all, one) = (std::ptr::from_ref(&all) as usize, [0_u8; 1]);
    let last = u32::MAX as usize;
    // SAFETY: pointers to live locals and C strings with their sizes. Closing every descriptor but the pipe's end is safe
    // because this process uses no other from here on.
    unsafe {
        // Nothing but SIGKILL ends it before its work is done. Not even a hang-up: it has its own session.
        attempt(libc::SYS_rt_sigprocmask, [flags(libc::SIG_BLOCK), all, 0, size_of::<u64>(), 0, 0]);
        attempt(libc::SYS_setsid, [0; 6]);
        attempt(libc::SYS_chdir, [sys::path(c"/"), 0, 0, 0, 0, 0]);
        attempt(libc::SYS_prctl, [flags(libc::PR_SET_NAME), sys::path(c"cgroup-janitor"), 0, 0, 0, 0]);
        // It must not keep the caller's pipes open: their readers wait for the end of file.
        let read = sys::fd(duty.read);
        if read > 0 {
            attempt(libc::SYS_close_range, [0, read - 1, 0, 0, 0, 0]);
        }
        attempt(libc::SYS_close_range, [read + 1, last, 0, 0, 0, 0]);
        while call(libc::SYS_read, [read, one.as_ptr() as usize, 1, 0, 0, 0]) == Err(libc::EINTR) {}
        for base in duty.bases {
            sweep(base, duty.prefix);
        }
    }
    sys::exit(0)
}

/// Removes the groups under `base` whose names begin with `prefix`.
///
/// # Safety
///
/// Only for a process that has nothing else to lose: see [`run`].
unsafe fn sweep(base: &CStr, prefix: &[u8]) {
    let how = flags(libc::O_RDONLY | libc::O_DIRECTORY);
    let mut buffer = [0_u8; BUFFER];
    // SAFETY: C strings, and a buffer with its size.
    unsafe {
        let Ok(dir) = call(libc::SYS_openat, [sys::fd(libc::AT_FDCWD), sys::path(base), how, 0, 0, 0]) else {
            return;
        };
        // From the start again after each removal, since removing moves the entries under a reader.
        'again: loop {
            attempt(libc::SYS_lseek, [dir, 0, flags(libc::SEEK_SET), 0, 0, 0]);
            while let Ok(read @ 1..) =
                call(libc::SYS_getdents64, [dir, buffer.as_mut_ptr() as usize, BUFFER, 0, 0, 0])
            {
                let entries = Entries(buffer.get(..read).unwrap_or_default());
                for entry in entries.filter(|entry| entry.to_bytes().starts_with(prefix)) {
                    if remove(dir, entry) {
                        continue 'again;
                    }
                }
            }
            break;
        }
    }
}

/// Removes one group, killing what is in it; whether it is gone.
///
/// # Safety
///
/// As for [`sweep`].
unsafe fn remove(dir: usize, group: &CStr) -> bool {
    let nap = libc::timespec { tv_sec: 0, tv_nsec: 1_000_000 };
    for _ in 0..TRIES {
        // SAFETY: C strings and a timespec.
        unsafe {
            let removed =
                call(libc::SYS_unlinkat, [dir, sys::path(group), flags(libc::AT_REMOVEDIR), 0, 0, 0]);
            match removed {
                Err(libc::EBUSY) => {}
                other => return other.is_ok(),
            }
            kill_members(dir, group);
            attempt(libc::SYS_nanosleep, [std::ptr::from_ref(&nap) as usize, 0, 0, 0, 0, 0]);
        }
    }
    false
}

/// Kills the processes of a group.
///
/// # Safety
///
/// As for [`sweep`].
unsafe fn kill_members(dir: usize, group: &CStr) {
    let mut buffer = [0_u8; BUFFER];
    // SAFETY: C strings, and a buffer with its size; kill takes numbers.
    unsafe {
        let how = flags(libc::O_RDONLY | libc::O_DIRECTORY);
        let Ok(group) = call(libc::SYS_openat, [dir, sys::path(group), how, 0, 0, 0]) else { return };
        if let Ok(procs) = call(libc::SYS_openat, [group, sys::path(c"cgroup.procs"), 0, 0, 0, 0]) {
            let read = call(libc::SYS_read, [procs, buffer.as_mut_ptr() as usize, BUFFER, 0, 0, 0]);
            let text = buffer.get(..read.unwrap_or(0)).unwrap_or_default();
            // A number cut off at the end of the buffer has no line end behind it.
            for line in
                text.split_inclusive(|&byte| byte == b'\n').filter_map(|line| line.strip_suffix(b"\n"))
            {
                let pid = line.iter().fold(0_usize, |n, &digit| {
                    n.wrapping_mul(10).wrapping_add(usize::from(digit.wrapping_sub(b'0')))
                });
                if pid > 0 {
                    attempt(libc::SYS_kill, [pid, flags(libc::SIGKILL), 0, 0, 0, 0]);
                }
            }
            attempt(libc::SYS_close, [procs, 0, 0, 0, 0, 0]);
        }
        attempt(libc::SYS_close, [group, 0, 0, 0, 0, 0]);
    }
}

/// The names in a buffer that getdents64(2) has filled.
struct Entries<'a>(&'a [u8]);

/// Offset of the record length and of the name in `struct linux_dirent64`.
const RECORD_LENGTH_OFFSET: usize = 16;
const NAME_OFFSET: usize = 19;

impl<'a> Iterator for Entries<'a> {
    type Item = &'a CStr;

    fn next(&mut self) -> Option<&'a CStr> {
        let length = self.0.get(RECORD_LENGTH_OFFSET..RECORD_LENGTH_OFFSET + 2)?;
        let length = usize::from(u16::from_ne_bytes([*length.first()?, *length.get(1)?]));
        let name = CStr::from_bytes_until_nul(self.0.get(NAME_OFFSET..length)?).ok();
        self.0 = self.0.get(length..)?;
        name
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn directory_entries_are_read_from_the_kernels_records() {
        let mut buffer = vec![0_u8; 24];
        buffer[RECORD_LENGTH_OFFSET] = 24;
        buffer[NAME_OFFSET..NAME_OFFSET + 3].copy_from_slice(b"abc");
        buffer.extend_from_slice(&[0; 10]);
        let names: Vec<_> = Entries(&buffer).collect();
        assert_eq!(names, [c"abc"]);
        assert_eq!(Entries(&[]).count(), 0);
    }
}
