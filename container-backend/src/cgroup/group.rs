//! The control groups of one instance.

use std::ffi::{CStr, CString};
use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::{AsRawFd, FromRawFd, RawFd};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use crate::cgroup::find::Version::{self, V1, V2};
use crate::cgroup::io as device_io;
use crate::cgroup::janitor::Janitor;
use crate::cgroup::plan::Base;
use crate::cgroup::read_whole;
use crate::error::CgroupError;

/// What an instance has used, as its control group tells. A figure that the host does not keep is `None`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Usage {
    /// Memory charged now, page cache and kernel memory included.
    pub memory_bytes: Option<u64>,
    /// The most memory ever charged.
    pub memory_peak_bytes: Option<u64>,
    /// Processes killed because the memory limit was reached.
    pub oom_kills: Option<u64>,
    /// CPU time.
    pub cpu_ns: Option<u64>,
    /// Time for which runnable threads were held back by the CPU limit.
    pub throttled_ns: Option<u64>,
    /// Processes and threads refused by the pids limit.
    pub pids_refused: Option<u64>,
    /// Swap in use now.
    pub swap_bytes: Option<u64>,
    /// Bytes read from devices.
    pub io_read_bytes: Option<u64>,
    /// Bytes written to devices.
    pub io_written_bytes: Option<u64>,
}

/// Which figures are read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Figures {
    /// Those that tell whether a limit was met.
    LimitsMet,
    All,
}

/// One directory of an instance.
#[derive(Debug)]
struct Part {
    base: Arc<Base>,
    dir: File,
}

/// The groups of one instance, one in each hierarchy that serves a limit. Removed on drop.
#[derive(Debug)]
pub(crate) struct Group {
    name: CString,
    parts: Vec<Part>,
    /// Open `tasks` files of v1, for the child to write itself into; closed once it has.
    tasks: Vec<File>,
    /// Removes what this process cannot, because it was killed.
    janitor: Arc<Janitor>,
}

/// How long a group may stay busy after the last of its processes has been reaped.
const REMOVE_PATIENCE: Duration = Duration::from_secs(2);
/// What most files of a group fit into.
const PAGE: usize = 4096;
/// The first wait between two tries to remove a v1 group, which tells nobody that it has become empty.
const FIRST_RETRY: Duration = Duration::from_micros(50);

impl Group {
    pub(crate) fn make(bases: &[Arc<Base>], janitor: &Arc<Janitor>) -> Result<Self, CgroupError> {
        let name = janitor.next_name();
        let parts = Vec::with_capacity(bases.len());
        let mut group = Self { name, parts, tasks: Vec::new(), janitor: Arc::clone(janitor) };
        for base in bases {
            group.add(base)?;
        }
        Ok(group)
    }

    /// Makes the directory under one base and sets its limits. On failure, drop removes what there is by then.
    fn add(&mut self, base: &Arc<Base>) -> Result<(), CgroupError> {
        let fail = |action, file: Option<&CStr>| {
            let mut path = base.path.join(self.name.to_string_lossy().as_ref());
            path.extend(file.map(|file| file.to_string_lossy().into_owned()));
            move |source| CgroupError { action, path, source }
        };
        // SAFETY: mkdirat reads one C string, which `self.name` is; the descriptor is the base's own.
        let made = unsafe { libc::mkdirat(base.dir.as_raw_fd(), self.name.as_ptr(), 0o755) };
        if made != 0 {
            return Err(fail("make the control group", None)(io::Error::last_os_error()));
        }
        let dir = open_at(base.dir.as_raw_fd(), &self.name, libc::O_RDONLY | libc::O_DIRECTORY);
        let dir = dir.map_err(fail("open the control group", None));
        let Ok(dir) = dir else {
            self.janitor.leave();
            remove_at(base, &self.name).map_err(fail("remove the control group", None))?;
            return dir.map(drop);
        };
        self.parts.push(Part { base: Arc::clone(base), dir });
        let Some(Part { dir, .. }) = self.parts.last() else { return Ok(()) };
        for setting in &base.settings {
            let fail = fail("set the limit", Some(setting.file));
            match open_at(dir.as_raw_fd(), setting.file, libc::O_WRONLY) {
                Ok(mut file) => file.write_all(setting.value.as_bytes()).map_err(fail)?,
                Err(error) if setting.optional && error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(fail(error)),
            }
        }
        if base.version == Version::V1 {
            let tasks = open_at(dir.as_raw_fd(), c"tasks", libc::O_WRONLY);
            self.tasks.push(tasks.map_err(fail("open", Some(c"tasks")))?);
        }
        Ok(())
    }

    /// The `tasks` files to write to, for v1.
    pub(crate) fn joins(&self) -> Vec<RawFd> {
        self.tasks.iter().map(AsRawFd::as_raw_fd).collect()
    }

    /// The directory for `CLONE_INTO_CGROUP`, for v2.
    pub(crate) fn clone_into(&self) -> Option<RawFd> {
        self.parts.iter().find(|part| part.base.version == Version::V2).map(|part| part.dir.as_raw_fd())
    }

    /// Closes what only the joining needed.
    pub(crate) fn joined(&mut self) {
        self.tasks.clear();
    }

    /// The directories, for messages and for whoever wants to look.
    pub(crate) fn paths(&self) -> Vec<PathBuf> {
        self.parts.iter().map(|part| part.base.path.join(self.name.to_string_lossy().as_ref())).collect()
    }

    /// Reads the figures that there are, each file once: this is done when an instance ends, too.
    pub(crate) fn usage(&self, figures: Figures) -> Usage {
        let read = |version: Version, file: &CStr| {
            let mut parts =
                self.parts.iter().filter(|part| part.base.version == version && part.base.may_have(file));
            parts.find_map(|part| read_at(part.dir.as_raw_fd(), file))
        };
        let text = |new: &CStr, old: &CStr| read(V2, new).or_else(|| read(V1, old));
        let number = |text: Option<String>| text.and_then(|text| text.trim().parse::<u64>().ok());
        let field = |text: Option<String>, key: &str| text.and_then(|text| keyed(&text, key));
        let us = |us: u64| us.saturating_mul(1000);
        let cpu = text(c"cpu.stat", c"cpu.stat").unwrap_or_default();
        let met = Usage {
            oom_kills: field(text(c"memory.events", c"memory.oom_control"), "oom_kill"),
            throttled_ns: keyed(&cpu, "throttled_usec").map(us).or_else(|| keyed(&cpu, "throttled_time")),
            pids_refused: field(text(c"pids.events", c"pids.events"), "max"),
            ..Usage::default()
        };
        if figures == Figures::LimitsMet {
            return met;
        }
        let memory_bytes = number(text(c"memory.current", c"memory.usage_in_bytes"));
        // v1 knows memory and swap together only.
        let swap_v1 = || number(read(V1, c"memory.memsw.usage_in_bytes"))?.checked_sub(memory_bytes?);
        let io_v2 = |text: String| ["rbytes", "wbytes"].map(|key| device_io::sum_v2(&text, key));
        let io_v1 = |text: String| ["Read", "Write"].map(|key| device_io::sum_v1(&text, key));
        let io = read(V2, c"io.stat").map(io_v2);
        let io = io.or_else(|| read(V1, c"blkio.throttle.io_service_bytes").map(io_v1));
        Usage {
            memory_bytes,
            memory_peak_bytes: number(text(c"memory.peak", c"memory.max_usage_in_bytes")),
            cpu_ns: keyed(&cpu, "usage_usec").map(us).or_else(|| number(read(V1, c"cpuacct.usage"))),
            swap_bytes: number(read(V2, c"memory.swap.current")).or_else(swap_v1),
            io_read_bytes: io.map(|[read, _]| read),
            io_written_bytes: io.map(|[_, written]| written),
            ..met
        }
    }

    /// Kills every process that is in the groups.
    pub(crate) fn kill(&self) {
        for part in &self.parts {
            if let Ok(mut file) = open_at(part.dir.as_raw_fd(), c"cgroup.kill", libc::O_WRONLY)
                && file.write_all(b"1").is_ok()
            {
                continue;
            }
            for pid in self.members(part) {
                // SAFETY: kill takes numbers only. The process is a member of the instance's own group as of the line above.
                unsafe { libc::kill(pid, libc::SIGKILL) };
            }
        }
    }

    fn members(&self, part: &Part) -> Vec<i32> {
        let text = read_at(part.dir.as_raw_fd(), c"cgroup.procs").unwrap_or_default();
        // 0 stands for a process of another PID namespace: not ours to kill by number.
        text.lines().filter_map(|line| line.parse().ok()).filter(|&pid| pid > 0).collect()
    }

    /// Removes the directories, after killing whatever is still in them.
    pub(crate) fn remove(&mut self) -> Result<(), CgroupError> {
        self.tasks.clear();
        while let Some(part) = self.parts.last() {
            self.remove_part(part)?;
            self.parts.pop();
        }
        Ok(())
    }

    fn remove_part(&self, part: &Part) -> Result<(), CgroupError> {
        let started = std::time::Instant::now();
        let mut wait = FIRST_RETRY;
        loop {
            let error = match remove_at(&part.base, &self.name) {
                Ok(()) => return Ok(()),
                Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
                Err(error) => error,
            };
            if error.raw_os_error() != Some(libc::EBUSY) || started.elapsed() > REMOVE_PATIENCE {
                let path = part.base.path.join(self.name.to_string_lossy().as_ref());
                return Err(CgroupError { action: "remove the control group", path, source: error });
            }
            self.kill();
            if part.base.version == Version::V2 {
                wait_until_empty(part.dir.as_raw_fd());
            } else {
                std::thread::sleep(wait);
                wait = (wait * 2).min(Duration::from_millis(10));
            }
        }
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        // There is nobody to tell but the janitor, which tries again when this process ends or has no more groups.
        if self.remove().is_err() {
            self.janitor.leave();
            self.parts.clear();
        }
    }
}

/// Waits until a v2 group tells that no process is left in it.
fn wait_until_empty(dir: RawFd) {
    let Ok(mut events) = open_at(dir, c"cgroup.events", libc::O_RDONLY) else { return };
    let mut text = String::new();
    // Reading arms the notification: what changes between this and the poll is not missed.
    if events.read_to_string(&mut text).is_err() || keyed(&text, "populated") == Some(0) {
        return;
    }
    let mut poll = libc::pollfd { fd: events.as_raw_fd(), events: libc::POLLPRI, revents: 0 };
    // SAFETY: one pollfd, of an open descriptor. The result does not matter: the caller's next rmdir tells.
    unsafe { libc::poll(&raw mut poll, 1, 100) };
}

fn open_at(dir: RawFd, file: &CStr, flags: libc::c_int) -> io::Result<File> {
    // SAFETY: openat reads one C string.
    let fd = unsafe { libc::openat(dir, file.as_ptr(), flags | libc::O_CLOEXEC) };
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: a descriptor that the line above opened and nobody else knows.
    Ok(unsafe { File::from_raw_fd(fd) })
}

fn read_at(dir: RawFd, file: &CStr) -> Option<String> {
    read_whole(open_at(dir, file, libc::O_RDONLY).ok()?, PAGE).ok()
}

fn remove_at(base: &Base, name: &CStr) -> io::Result<()> {
    // SAFETY: unlinkat reads one C string.
    match unsafe { libc::unlinkat(base.dir.as_raw_fd(), name.as_ptr(), libc::AT_REMOVEDIR) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

/// The number behind `key` in a file of `key number` lines.
fn keyed(text: &str, key: &str) -> Option<u64> {
    text.lines().find_map(|line| {
        let (name, value) = line.split_once(' ')?;
        (name == key).then(|| value.trim().parse().ok())?
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_keyed_file_gives_the_number_of_its_key_or_nothing() {
        let text = "low 0\noom_kill 3\nbroken\n";
        assert_eq!(keyed(text, "oom_kill"), Some(3));
        assert_eq!(keyed(text, "oom"), None);
        assert_eq!(keyed(text, "broken"), None);
    }
}
