//! A machine that is ready to be started, any number of times, and the handle of one that runs.

use std::fs::File;
use std::io;
use std::ops::Range;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use kvm_bindings::Msrs;
use nix::sys::wait::{Id, WaitPidFlag, WaitStatus, waitid};
use nix::unistd::Pid;
use vm_abi::{BOOT_VA, Boot, LARGE_PAGE};

use crate::backing::Backing;
use crate::boot::cpuid::{self, Cpu};
use crate::boot::regs;
use crate::clock::monotonic_ns;
use crate::config::{Program, Stdio, VmConfig};
use crate::elf::{self, Image};
use crate::error::{ConfigError, Error, ProgramError};
use crate::layout::{FilePlace, Layout};
use crate::linux::Log;
use crate::monitor;
use crate::paths;
use crate::probe::{self, Virtualisation};
use crate::report::{Exits, Failure, PHASES, Report, Status};
use crate::space::Space;
use crate::template::{Template, initial_stack};

/// Where the program lies in the guest when nothing else is said.
const DEFAULT_PATH: &str = "/program";

/// Everything that is the same for every instance.
#[derive(Debug)]
pub struct Vm {
    pub(crate) program: File,
    pub(crate) image: Image,
    pub(crate) layout: Layout,
    pub(crate) template: Template,
    pub(crate) space: Space,
    pub(crate) backing: Backing,
    pub(crate) cpu: Cpu,
    pub(crate) msrs: Msrs,
    pub(crate) stack: Vec<u8>,
    pub(crate) stack_start: u64,
    /// Files handed over; the first is the program itself.
    pub(crate) files: Vec<(File, FilePlace)>,
    /// Where the program finds itself.
    pub(crate) guest_path: Vec<u8>,
    /// Descriptors that a monitor keeps, ascending.
    pub(crate) keep: Vec<RawFd>,
    kind: Virtualisation,
}

/// A regular file, to be read and perhaps written, and its size.
pub(crate) fn open(path: &Path, write: bool) -> Result<(File, u64), Error> {
    // Without waiting: what is no regular file is refused below, a pipe without a writer as well.
    let file = File::options()
        .read(true)
        .write(write)
        .custom_flags(libc::O_NONBLOCK | libc::O_NOCTTY)
        .open(path)
        .map_err(Error::file("opened", path))?;
    let metadata = file.metadata().map_err(Error::file("examined", path))?;
    if !metadata.is_file() {
        let refused = Error::file("used: it is not a regular file", path);
        return Err(refused(io::ErrorKind::InvalidInput.into()));
    }
    Ok((file, metadata.len()))
}

/// The program, its size, and what it is called.
pub(crate) fn open_program(program: &Program) -> Result<(File, u64, PathBuf), Error> {
    match program {
        Program::Path(path) => {
            let (file, size) = open(path, false)?;
            if file.metadata().map_err(Error::file("examined", path))?.mode() & 0o111 == 0 {
                return Err(Error::Program { path: path.clone(), source: ProgramError::NotExecutable });
            }
            Ok((file, size, path.clone()))
        }
        Program::Sealed(fd) => {
            let path = PathBuf::from("(sealed program)");
            let file = File::from(fd.try_clone().map_err(Error::file("duplicated", &path))?);
            let size = file.metadata().map_err(Error::file("examined", &path))?.len();
            Ok((file, size, path))
        }
    }
}

/// Refuses more memory than the host has.
pub(crate) fn check_host_memory(memory: u64) -> Result<(), ConfigError> {
    match nix::sys::sysinfo::sysinfo() {
        Ok(info) if memory > info.ram_total() => {
            Err(ConfigError::MemoryBeyondHost { asked: memory >> 20, host: info.ram_total() >> 20 })
        }
        _ => Ok(()),
    }
}

impl Vm {
    pub(crate) fn prepare(config: &VmConfig) -> Result<Self, Error> {
        config.check()?;
        let (program, size, path) = open_program(&config.program)?;
        let image = elf::read(&program, size)
            .map_err(Error::file("read", &path))?
            .map_err(|source| Error::Program { path: path.clone(), source })?;
        check_host_memory(config.memory)?;

        let guest_path =
            config.guest_path.as_deref().map_or(DEFAULT_PATH.as_bytes(), std::ffi::CStr::to_bytes);
        let mut files = vec![(program.try_clone().map_err(Error::file("duplicated", &path))?, path, size)];
        let mut paths: Vec<(&[u8], u64)> = vec![(guest_path, 0o555)];
        for (host, guest) in &config.files {
            let (file, size) = open(host, false)?;
            files.push((file, host.clone(), size));
            paths.push((guest.as_bytes(), 0o444));
        }
        paths::check(&paths.iter().map(|(path, _)| *path).collect::<Vec<_>>())?;

        let (layout, template, places) = Self::lay_out(config, &image, &files, &paths)?;
        let space = Space::reserve(&layout, &template, &image, &program)
            .map_err(|source| Error::Host { step: "reserving the guest's memory", source })?;
        let (stack, stack_start) = initial_stack(config, guest_path, &auxv(&image), template.path_va)?;
        let kvm = probe::open()?;
        let kind = probe::virtualisation();
        let cpu = cpuid::detect(&kvm, kind)?;
        let msrs = regs::msrs()
            .ok_or(Error::Host { step: "listing registers", source: io::ErrorKind::InvalidInput.into() })?;
        let files = files.into_iter().map(|(file, _, _)| file).zip(places).collect();
        let guest_path = guest_path.to_vec();
        let mut vm = Self {
            program,
            image,
            layout,
            template,
            space,
            backing: config.backing,
            cpu,
            msrs,
            stack,
            stack_start,
            files,
            guest_path,
            keep: Vec::new(),
            kind,
        };
        vm.keep = vm.files.iter().map(|(file, _)| file.as_raw_fd()).collect();
        vm.keep.push(vm.program.as_raw_fd());
        vm.keep.sort_unstable();
        Ok(vm)
    }

    /// Layout and template; the page tables of a very large machine need a larger system block than the usual one.
    fn lay_out(
        config: &VmConfig,
        image: &Image,
        files: &[(File, PathBuf, u64)],
        paths: &[(&[u8], u64)],
    ) -> Result<(Layout, Template, Vec<FilePlace>), Error> {
        let mut system_size = LARGE_PAGE;
        loop {
            let layout = Layout::new(image, config.memory, system_size)?;
            let places = layout.place_files(files.iter().map(|(_, path, size)| (path.clone(), *size)))?;
            let template = Template::build(config, image, &layout, paths, &places)?;
            let needed = template.end();
            if needed <= system_size {
                return Ok((layout, template, places));
            }
            system_size = needed.next_multiple_of(LARGE_PAGE);
        }
    }

    /// Kind of virtualisation that instances will use.
    pub fn virtualisation(&self) -> Virtualisation {
        self.kind
    }

    /// Memory of an instance in bytes, as it was rounded down to large pages.
    pub fn memory(&self) -> u64 {
        self.layout.memory
    }

    /// Starts an instance in a monitor process of its own, which dies with the calling thread.
    ///
    /// The child keeps the three standard descriptors and closes all others. The calling process may have other
    /// threads: the child only ever runs code of this crate.
    ///
    /// # Errors
    /// No process can be made. What fails later, in the monitor, is the outcome of [`Monitor::wait`].
    pub fn spawn(&self, stdio: Stdio<'_>) -> Result<Monitor, Error> {
        let report = Report::new(&PHASES).map_err(mapping_failed)?;
        let parent = nix::unistd::getpid();
        Monitor::start(report, None, |report, _| monitor::run(self, report, stdio, parent))
    }
}

/// The report, or the log, cannot be shared with a monitor.
pub(crate) fn mapping_failed(source: io::Error) -> Error {
    Error::Host { step: "mapping the report", source }
}

/// The auxiliary vector but for AT_EXECFN (include/uapi/linux/auxvec.h).
fn auxv(image: &Image) -> Vec<(u64, u64)> {
    /// HWCAP2_FSGSBASE (arch/x86/include/uapi/asm/hwcap2.h).
    const HWCAP2_FSGSBASE: u64 = 2;
    const PHENT: u64 = 56;
    let random = BOOT_VA + std::mem::offset_of!(Boot, random) as u64;
    let hwcap = u64::from(std::arch::x86_64::__cpuid(1).edx);
    let fsgsbase = std::arch::x86_64::__cpuid_count(7, 0).ebx & 1 != 0;
    vec![
        (libc::AT_PHDR, image.phdr),
        (libc::AT_PHENT, PHENT),
        (libc::AT_PHNUM, image.phnum.into()),
        (libc::AT_PAGESZ, vm_abi::PAGE),
        (libc::AT_BASE, 0),
        (libc::AT_FLAGS, 0),
        (libc::AT_ENTRY, image.entry),
        (libc::AT_UID, 0),
        (libc::AT_EUID, 0),
        (libc::AT_GID, 0),
        (libc::AT_EGID, 0),
        (libc::AT_SECURE, 0),
        (libc::AT_HWCAP, hwcap),
        (libc::AT_HWCAP2, if fsgsbase { HWCAP2_FSGSBASE } else { 0 }),
        (libc::AT_CLKTCK, 100),
        (libc::AT_RANDOM, random),
    ]
}

fn pidfd_open(pid: Pid) -> io::Result<OwnedFd> {
    // SAFETY: takes two numbers. The process is our child and not reaped, so the number still means it.
    let fd = unsafe { libc::syscall(libc::SYS_pidfd_open, pid.as_raw(), 0) };
    match i32::try_from(fd) {
        // SAFETY: a descriptor that the kernel just made for us (close-on-exec by definition).
        Ok(fd) if fd >= 0 => Ok(unsafe { OwnedFd::from_raw_fd(fd) }),
        _ => Err(io::Error::last_os_error()),
    }
}

fn kill_and_reap(pid: Pid) {
    // Both can only fail where the child is gone already, which is what is wanted.
    if nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGKILL).is_ok() {
        while let Err(nix::errno::Errno::EINTR) = nix::sys::wait::waitpid(pid, None) {}
    }
}

/// How an instance ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outcome {
    /// Exit code or signal of the program.
    pub status: Status,
    /// How often the guest left the machine.
    pub exits: Exits,
    /// System calls that the guest does not serve: number and how often.
    pub unserved: Vec<(usize, u32)>,
    /// Memory slots in use at the end.
    pub slots: u32,
    /// When the program ended, CLOCK_MONOTONIC ns, by the monitor's reading.
    pub ended_ns: u64,
    /// When the monitor was gone, by the caller's reading.
    pub reaped_ns: u64,
}

/// A running instance. Dropped, it is killed and reaped.
#[derive(Debug)]
pub struct Monitor {
    pid: Pid,
    pidfd: OwnedFd,
    report: Report,
    log: Option<Log>,
    reaped: Option<(u64, WaitStatus)>,
}

impl Monitor {
    /// Forks a monitor, whose whole life is `body`.
    pub(crate) fn start(
        report: Report,
        log: Option<Log>,
        body: impl FnOnce(&Report, Option<&Log>) -> Result<i32, Failure>,
    ) -> Result<Self, Error> {
        let host = |step| move |source| Error::Host { step, source };
        // SAFETY: the child continues only in `monitor::main`, which ends the process; libc's fork keeps the allocator
        // usable in the child of a process with threads, and no other lock of this process is taken there.
        let pid = unsafe { libc::fork() };
        match pid {
            -1 => Err(host("fork")(io::Error::last_os_error())),
            0 => monitor::main(&report, || body(&report, log.as_ref())),
            pid => {
                let pid = Pid::from_raw(pid);
                match pidfd_open(pid) {
                    Ok(pidfd) => Ok(Self { pid, pidfd, report, log, reaped: None }),
                    Err(source) => {
                        // Without the descriptor nothing can be waited for: end the child by its number, which is ours
                        // until it is reaped.
                        kill_and_reap(pid);
                        Err(host("pidfd_open")(source))
                    }
                }
            }
        }
    }

    /// What a Linux guest's kernel has printed so far, the last 32 KiB of it; `None` for the built-in guest, which has no
    /// kernel.
    pub fn kernel_log(&self) -> Option<String> {
        self.log.as_ref().map(Log::text)
    }

    /// Process id of the monitor.
    pub fn pid(&self) -> i32 {
        self.pid.as_raw()
    }

    /// A descriptor that becomes readable when the monitor ends.
    pub fn pidfd(&self) -> BorrowedFd<'_> {
        self.pidfd.as_fd()
    }

    /// The phases that ended so far: name and CLOCK_MONOTONIC ns. The last one, `guest_ready`, is the caller's: it ends
    /// with the first byte that arrives.
    pub fn timeline(&self) -> Vec<(&'static str, u64)> {
        self.report.timeline()
    }

    /// Where the guest's memory is in the address space of the monitor, which is how to tell it from the monitor's own in
    /// `/proc/PID/smaps`. Empty until the monitor has mapped it.
    pub fn guest_memory(&self) -> Vec<Range<u64>> {
        self.report.memory()
    }

    /// Exits so far.
    pub fn exits(&self) -> Exits {
        self.report.exits()
    }

    /// Waits for the end, at most so long; `None`: it still runs. Can be called again.
    ///
    /// # Errors
    /// The monitor failed or was killed.
    pub fn wait(&mut self, timeout: Option<Duration>) -> Result<Option<Outcome>, Error> {
        if self.reaped.is_none() && !self.wait_readable(timeout)? {
            return Ok(None);
        }
        let (reaped_ns, end) = self.reap()?;
        let status = self.report.status();
        match (end, status) {
            (WaitStatus::Signaled(_, signal, _), Err(_)) if !self.report.is_finished() => {
                Err(Error::MonitorKilled { signal: signal as i32 })
            }
            (_, Err(failure)) => Err(match self.kernel_log() {
                Some(log) if !log.is_empty() => Error::LinuxGuest { failure, log },
                _ => Error::Monitor { failure },
            }),
            (_, Ok(status)) => Ok(Some(Outcome {
                status,
                exits: self.report.exits(),
                unserved: self.report.unserved(),
                slots: self.report.slots(),
                ended_ns: self.report.ended_ns().unwrap_or(reaped_ns),
                reaped_ns,
            })),
        }
    }

    fn wait_readable(&self, timeout: Option<Duration>) -> Result<bool, Error> {
        use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
        let deadline = timeout.and_then(|t| Instant::now().checked_add(t));
        loop {
            let left = deadline.map(|d| d.saturating_duration_since(Instant::now()));
            // Rounded up: a timeout of half a millisecond must not spin.
            let left = left.map_or(PollTimeout::NONE, |l| {
                PollTimeout::try_from(l.as_micros().div_ceil(1000)).unwrap_or(PollTimeout::MAX)
            });
            let mut fds = [PollFd::new(self.pidfd.as_fd(), PollFlags::POLLIN)];
            match poll(&mut fds, left) {
                Ok(0) if deadline.is_some_and(|d| Instant::now() >= d) => return Ok(false),
                Ok(0) | Err(nix::errno::Errno::EINTR) => {}
                Ok(_) => return Ok(true),
                Err(source) => return Err(Error::Host { step: "poll", source: source.into() }),
            }
        }
    }

    fn reap(&mut self) -> Result<(u64, WaitStatus), Error> {
        if let Some(done) = self.reaped {
            return Ok(done);
        }
        loop {
            match waitid(Id::PIDFd(self.pidfd.as_fd()), WaitPidFlag::WEXITED) {
                Ok(status) => {
                    let done = (monotonic_ns(), status);
                    self.reaped = Some(done);
                    return Ok(done);
                }
                Err(nix::errno::Errno::EINTR) => {}
                Err(source) => return Err(Error::Host { step: "waitid", source: source.into() }),
            }
        }
    }

    /// Ends the instance at once. Waiting for it is still needed (or dropping it).
    ///
    /// # Errors
    /// The signal cannot be sent.
    pub fn kill(&self) -> io::Result<()> {
        if self.reaped.is_some() {
            return Ok(());
        }
        // SAFETY: takes numbers and a null pointer; the descriptor is ours.
        let result = unsafe {
            libc::syscall(
                libc::SYS_pidfd_send_signal,
                self.pidfd.as_raw_fd(),
                libc::SIGKILL,
                std::ptr::null::<u8>(),
                0,
            )
        };
        let error = io::Error::last_os_error();
        if result == 0 || error.raw_os_error() == Some(libc::ESRCH) { Ok(()) } else { Err(error) }
    }
}

impl Drop for Monitor {
    fn drop(&mut self) {
        if self.reaped.is_none() && self.kill().is_ok() {
            // The error was that it is gone, or there is nobody left to tell.
            drop(self.reap());
        }
    }
}
