//! From a config to something that can be started at once: checks, C strings, the list of steps.

use std::ffi::{CString, OsStr, OsString, c_char};
use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};
use std::sync::Mutex;

use crate::capabilities::{cap_data, dropped, kept_mask};
use crate::cgroup::GroupPlan;
use crate::child::Exec;
use crate::config::{Config, Program};
use crate::error::PrepareError;
use crate::idmap;
use crate::isolation::{Isolation, Layer};
use crate::network::Maker;
use crate::plan::Op;
use crate::rootfs::{self, PROGRAM};
use crate::seccomp;
use crate::stack::Stacks;
use crate::timeline::Phase;

/// `__NEW_UTS_LEN`: the longest host name.
const HOSTNAME_MAX: usize = 64;

/// Null-terminated pointers to C strings that live as long.
#[derive(Debug)]
pub(crate) struct Strings {
    _owned: Vec<CString>,
    pointers: Vec<*const c_char>,
}

// SAFETY: the pointers point into the heap buffers of `_owned`, which move with it and are never changed.
unsafe impl Send for Strings {}
// SAFETY: as above; reading them from several threads is reading shared immutable memory.
unsafe impl Sync for Strings {}

impl Strings {
    fn new(owned: Vec<CString>) -> Self {
        let pointers = owned.iter().map(|text| text.as_ptr()).chain([std::ptr::null()]).collect();
        Self { _owned: owned, pointers }
    }

    pub(crate) fn as_ptr(&self) -> *const *const c_char {
        self.pointers.as_ptr()
    }
}

/// What is executed in the end.
#[derive(Debug)]
pub(crate) enum Executable {
    Path(CString),
    Fd(OwnedFd),
}

/// A program with its isolation, ready to be [spawned](Prepared::spawn) any number of times, from any thread.
#[derive(Debug)]
pub struct Prepared {
    pub(crate) ops: Vec<Op>,
    pub(crate) isolation: Isolation,
    pub(crate) clone_flags: libc::c_int,
    pub(crate) executable: Executable,
    pub(crate) program_name: String,
    pub(crate) argv: Strings,
    pub(crate) envp: Strings,
    pub(crate) null: OwnedFd,
    pub(crate) caller: OwnedFd,
    pub(crate) stacks: Stacks,
    pub(crate) groups: Option<GroupPlan>,
    pub(crate) usage: bool,
    /// Whether the network namespace is made by a [`Maker`] and not by the clone.
    pub(crate) network_beside: bool,
    /// One that is at work already, for the first start.
    pub(crate) maker: Mutex<Option<Maker>>,
    limits_unavailable: Option<String>,
}

const _: () = {
    const fn may_go_to_other_threads<T: Send + Sync>() {}
    may_go_to_other_threads::<Prepared>();
    may_go_to_other_threads::<crate::process::Process>();
};

impl Prepared {
    pub(crate) fn new(mut config: Config) -> Result<Self, PrepareError> {
        // SAFETY: geteuid takes nothing and cannot fail.
        let is_root = unsafe { libc::geteuid() } == 0;
        let isolation = config.isolation.effective(is_root);
        let stacks = Stacks::default();
        config.network_beside &= Maker::is_useful(isolation);
        let maker = if config.network_beside && config.start_soon { Maker::start(&stacks) } else { None };
        let program = find_program(&config.program, isolation)?;
        let name = config.arg0.clone().unwrap_or_else(|| program.name());
        let mut argv = vec![c_string("the program's name", name)?];
        for arg in &config.args {
            argv.push(c_string("an argument", arg.clone())?);
        }
        let mut envp = Vec::with_capacity(config.env.len());
        for (key, value) in &config.env {
            let mut pair = key.clone();
            pair.push("=");
            pair.push(value);
            envp.push(c_string("an environment variable", pair)?);
        }
        let (groups, limits_unavailable) = if config.limits.is_none() {
            (None, None)
        } else {
            match GroupPlan::new(&config.limits)? {
                Ok(plan) => (Some(plan), None),
                Err(reason) => (None, Some(reason)),
            }
        };
        let ops = steps(&config, isolation, &program, groups.is_some())?;
        let mut clone_flags = clone_flags(isolation, groups.is_some());
        if config.network_beside {
            clone_flags &= !libc::CLONE_NEWNET;
        }
        let executable = match program {
            Found::Path(_) if isolation.has(Layer::Mount) => Executable::Path(CString::from(PROGRAM)),
            Found::Path(path) => Executable::Path(c_string("the program's path", path.into_os_string())?),
            Found::Fd(fd) => Executable::Fd(fd),
        };
        let program_name = match &config.program {
            Program::Path(path) => path.display().to_string(),
            Program::Sealed(_) => "the sealed program".to_owned(),
        };
        Ok(Self {
            ops,
            isolation,
            clone_flags,
            executable,
            program_name,
            argv: Strings::new(argv),
            envp: Strings::new(envp),
            null: open_null()?,
            caller: open_caller()?,
            stacks,
            network_beside: config.network_beside,
            maker: Mutex::new(maker),
            groups,
            usage: config.usage,
            limits_unavailable,
        })
    }

    /// The layers that instances really get: what was asked for, and the user namespace where the caller is not root.
    #[must_use]
    pub fn isolation(&self) -> Isolation {
        self.isolation
    }

    /// Why instances run without the limits that were asked for; `None` if they have them, or none were asked for.
    #[must_use]
    pub fn limits_unavailable(&self) -> Option<&str> {
        self.limits_unavailable.as_deref()
    }

    /// The steps that each instance's child makes between clone and exec, in words and in order.
    #[must_use]
    pub fn steps(&self) -> Vec<String> {
        self.ops.iter().map(ToString::to_string).collect()
    }

    /// Makes the steps and flags anew, for the group plan that a test has put in.
    #[cfg(test)]
    pub(crate) fn in_group(&mut self, config: &Config) -> Result<(), PrepareError> {
        let program = find_program(&config.program, self.isolation)?;
        let config = config.clone().network_beside(self.network_beside);
        self.ops = steps(&config, self.isolation, &program, true)?;
        self.clone_flags = clone_flags(self.isolation, true) & (self.clone_flags | !libc::CLONE_NEWNET);
        Ok(())
    }

    pub(crate) fn exec(&self) -> Exec {
        match &self.executable {
            Executable::Path(path) => Exec::Path(path.as_ptr()),
            Executable::Fd(fd) => Exec::Fd(fd.as_raw_fd()),
        }
    }
}

/// The flag to clone this layer with; `None` for those that are no namespace or are entered later by the child.
///
/// A cgroup namespace has the group of its maker as its root. Where the instance gets a group, the namespace must be made
/// when the child is in it. A time namespace can only be entered by the exec that follows.
fn in_clone(layer: Layer, has_group: bool) -> Option<libc::c_int> {
    match layer {
        Layer::Cgroup if has_group => None,
        Layer::Time => None,
        layer => layer.clone_flag(),
    }
}

/// All flags to clone with.
fn clone_flags(isolation: Isolation, has_group: bool) -> libc::c_int {
    isolation.layers().filter_map(|layer| in_clone(layer, has_group)).fold(0, |flags, flag| flags | flag)
}

/// The list of steps, in the order in which they must be made.
fn steps(
    config: &Config,
    isolation: Isolation,
    program: &Found,
    has_group: bool,
) -> Result<Vec<Op>, PrepareError> {
    let has = |layer| isolation.has(layer);
    let mut ops = vec![Op::Mark(Phase::Clone)];
    let mark = |ops: &mut Vec<Op>, phase| {
        if !isolation.is_none() || (has_group && phase == Phase::Cgroup) {
            ops.push(Op::Mark(phase));
        }
    };
    if has(Layer::User) {
        ops.extend(idmap::single());
    }
    if has(Layer::Uts) {
        let length = config.hostname.len();
        if length == 0 || length > HOSTNAME_MAX {
            return Err(PrepareError::HostnameLength { length, max: HOSTNAME_MAX });
        }
        ops.push(Op::Hostname(config.hostname.clone().into_bytes()));
    }
    if has(Layer::Time) {
        ops.push(Op::Unshare(libc::CLONE_NEWTIME));
    }
    mark(&mut ops, Phase::Namespaces);
    if has_group {
        ops.push(Op::JoinGroups);
        if has(Layer::Cgroup) {
            ops.push(Op::Unshare(libc::CLONE_NEWCGROUP));
        }
    }
    mark(&mut ops, Phase::Cgroup);
    if has(Layer::Mount) {
        let root = rootfs::Root {
            program: program.path(),
            user_namespace: has(Layer::User),
            own_pids: has(Layer::Pid),
            bytes: config.tmp_bytes,
        };
        ops.extend(root.build()?);
        mark(&mut ops, Phase::Mounts);
        ops.extend(rootfs::pivot());
        mark(&mut ops, Phase::Pivot);
    }
    if config.network_beside {
        // Who makes the namespace dies with the caller: so must the child that waits for it.
        ops.extend([Op::DieWithCaller(true), Op::CallerAlive, Op::EnterNetwork]);
        mark(&mut ops, Phase::Network);
    }
    if has(Layer::Session) {
        ops.push(Op::NewSession);
    }
    ops.push(Op::Stdio);
    ops.push(Op::CloseOthers);
    ops.push(Op::Signals);
    let filter = has(Layer::Seccomp).then(|| Op::Seccomp(seccomp::compile()));
    // A filter can be installed under no_new_privs, or by CAP_SYS_ADMIN, which is about to go. It refuses none of the
    // calls that follow either way, but each passes through it: late is better.
    let (early, late) = if has(Layer::NoNewPrivs) { (None, filter) } else { (filter, None) };
    ops.extend(early);
    if has(Layer::Capabilities) {
        ops.push(Op::DropBounding(dropped()));
        ops.push(Op::Capabilities(cap_data(kept_mask() & available(has(Layer::User)))));
    }
    if has(Layer::NoNewPrivs) {
        ops.push(Op::NoNewPrivs);
    }
    if config.die_with_caller {
        ops.extend([Op::DieWithCaller(true), Op::CallerAlive]);
    } else if config.network_beside {
        ops.push(Op::DieWithCaller(false));
    }
    ops.extend(late);
    Ok(ops)
}

/// The capabilities that the child has to choose from: all in a user namespace of its own, the caller's otherwise.
fn available(user_namespace: bool) -> u64 {
    if user_namespace {
        return u64::MAX;
    }
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let permitted = status.lines().find_map(|line| line.strip_prefix("CapPrm:"));
    permitted.and_then(|bits| u64::from_str_radix(bits.trim(), 16).ok()).unwrap_or(u64::MAX)
}

/// The program, resolved.
enum Found {
    Path(PathBuf),
    Fd(OwnedFd),
}

impl Found {
    fn path(&self) -> Option<&Path> {
        match self {
            Self::Path(path) => Some(path),
            Self::Fd(_) => None,
        }
    }

    fn name(&self) -> OsString {
        match self {
            Self::Path(path) => path.clone().into_os_string(),
            Self::Fd(_) => OsString::from("program"),
        }
    }
}

/// Resolves and checks the program, so that what can be said about it is said before any clone.
fn find_program(program: &Program, isolation: Isolation) -> Result<Found, PrepareError> {
    let path = match program {
        Program::Sealed(fd) => {
            return Ok(Found::Fd(above_stdio(fd.as_fd().as_raw_fd(), "the program's descriptor")?));
        }
        Program::Path(path) => path,
    };
    let not_found = |source| PrepareError::ProgramNotFound { path: path.clone(), source };
    let path = std::fs::canonicalize(path).map_err(not_found)?;
    let unreadable = |path: &Path, source| PrepareError::ProgramUnreadable { path: path.to_owned(), source };
    let metadata = std::fs::metadata(&path).map_err(|e| unreadable(&path, e))?;
    if !metadata.is_file() {
        return Err(PrepareError::ProgramNotAFile { path });
    }
    let as_c = c_string("the program's path", path.clone().into_os_string())?;
    // SAFETY: faccessat reads one C string. AT_EACCESS: exec goes by the effective user, too.
    if unsafe { libc::faccessat(libc::AT_FDCWD, as_c.as_ptr(), libc::X_OK, libc::AT_EACCESS) } != 0 {
        return Err(PrepareError::ProgramNotExecutable { path, source: io::Error::last_os_error() });
    }
    if isolation.has(Layer::Mount) {
        // A program that can be executed need not be readable; then exec itself must tell.
        match File::open(&path).and_then(|file| interpreter(&file)) {
            Ok(Some(interpreter)) => return Err(PrepareError::ProgramNeedsInterpreter { path, interpreter }),
            Ok(None) => {}
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {}
            Err(error) => return Err(unreadable(&path, error)),
        }
    }
    Ok(Found::Path(path))
}

/// The first bytes of a script's first line that the kernel looks at (`BINPRM_BUF_SIZE`).
const HEAD: usize = 256;
/// Sizes and offsets of ELF64: the header, its `e_phoff`, `e_phnum`; a program header, its `p_type`, `p_offset`, `p_filesz`.
const ELF_HEADER: usize = 64;
const PROGRAM_HEADER: usize = 56;
/// `PT_INTERP`.
const PT_INTERP: u32 = 3;
/// Far more than any linker writes; bounds what a hostile header can make us read.
const MOST_HEADERS: usize = 128;

/// What a script or a dynamic ELF needs beside itself. Anything else, broken files included, is left to exec to judge.
fn interpreter(file: &File) -> io::Result<Option<String>> {
    use std::os::unix::fs::FileExt;
    let mut head = Vec::new();
    let limit = u64::try_from(HEAD).unwrap_or(u64::MAX);
    file.take(limit).read_to_end(&mut head)?;
    if let Some(line) = head.strip_prefix(b"#!") {
        let line = line.split(|&byte| byte == b'\n').next().unwrap_or_default();
        let words = String::from_utf8_lossy(line);
        return Ok(Some(words.split_whitespace().next().unwrap_or_default().to_owned()));
    }
    // ELF, 64 bit, little-endian.
    if !head.starts_with(b"\x7fELF\x02\x01") || head.len() < ELF_HEADER {
        return Ok(None);
    }
    let headers_at = u64_at(&head, 32);
    let count = usize::from(u16_at(&head, 56)).min(MOST_HEADERS);
    let mut headers = vec![0; count * PROGRAM_HEADER];
    if file.read_exact_at(&mut headers, headers_at).is_err() {
        return Ok(None);
    }
    for header in headers.chunks_exact(PROGRAM_HEADER) {
        if u32_at(header, 0) == PT_INTERP {
            let length = usize::try_from(u64_at(header, 32)).unwrap_or(usize::MAX).min(HEAD);
            let mut name = vec![0; length];
            let read = file.read_at(&mut name, u64_at(header, 8))?;
            let name = name.get(..read).unwrap_or_default();
            let name = name.split(|&byte| byte == 0).next().unwrap_or_default();
            return Ok(Some(String::from_utf8_lossy(name).into_owned()));
        }
    }
    Ok(None)
}

fn bytes_at<const N: usize>(bytes: &[u8], at: usize) -> [u8; N] {
    bytes.get(at..).and_then(|rest| rest.first_chunk()).copied().unwrap_or([0; N])
}

fn u16_at(bytes: &[u8], at: usize) -> u16 {
    u16::from_le_bytes(bytes_at(bytes, at))
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(bytes_at(bytes, at))
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(bytes_at(bytes, at))
}

/// A C string, or an error that says what it was meant to be.
pub(crate) fn c_string(what: &'static str, value: impl AsRef<OsStr>) -> Result<CString, PrepareError> {
    let value = value.as_ref();
    CString::new(value.to_owned().into_vec()).map_err(|_zero| PrepareError::ZeroByte {
        what,
        value: String::from_utf8_lossy(value.as_bytes()).into_owned(),
    })
}

/// A close-on-exec duplicate above stderr, so that placing the standard streams cannot overwrite it.
fn above_stdio(fd: RawFd, what: &'static str) -> Result<OwnedFd, PrepareError> {
    duplicate_above_stdio(fd).map_err(|source| PrepareError::Open { what, source })
}

/// A close-on-exec duplicate above stderr.
pub(crate) fn duplicate_above_stdio(fd: RawFd) -> io::Result<OwnedFd> {
    // SAFETY: fcntl with numbers only.
    let high = unsafe { libc::fcntl(fd, libc::F_DUPFD_CLOEXEC, 3) };
    if high < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: a descriptor that the line above made and nobody else knows.
    Ok(unsafe { OwnedFd::from_raw_fd(high) })
}

fn open_null() -> Result<OwnedFd, PrepareError> {
    let what = "/dev/null";
    let null = File::options().read(true).write(true).open(what);
    let null = null.map_err(|source| PrepareError::Open { what, source })?;
    above_stdio(null.as_raw_fd(), what)
}

/// A pidfd of this very process, by which a child sees whether it is alive.
fn open_caller() -> Result<OwnedFd, PrepareError> {
    let what = "a pidfd of the calling process";
    // SAFETY: getpid and pidfd_open take numbers only.
    let fd = unsafe { libc::syscall(libc::SYS_pidfd_open, libc::getpid(), 0) };
    let fd = RawFd::try_from(fd).unwrap_or(-1);
    if fd < 0 {
        return Err(PrepareError::Open { what, source: io::Error::last_os_error() });
    }
    // SAFETY: a descriptor that the call above made and nobody else knows.
    let fd = unsafe { OwnedFd::from_raw_fd(fd) };
    above_stdio(fd.as_raw_fd(), what)
}
