//! From a config to something that can be started at once: checks, C strings, the list of steps.

use std::ffi::{CString, OsStr, c_char};
use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use crate::beside::{Maker, Task};
use crate::capabilities::{SYS_ADMIN, SYS_CHROOT, of_caller};
use crate::cgroup::{Figures, GroupPlan};
use crate::child::Exec;
use crate::config::{Config, Program};
use crate::error::{PrepareError, SpawnError};
use crate::given::{Lower, find_inside};
use crate::idmap::{IdMaps, Ranges};
use crate::image::{Image, open_in_root};
use crate::init;
use crate::isolation::{Isolation, Layer};
use crate::options::{Network, Rootfs};
use crate::plan::Op;
use crate::program::{Found, find_program};
use crate::rootfs::PROGRAM;
use crate::stack::Stacks;
use crate::steps::{Granted, Mounts, clone_flags, steps};
use crate::sys;
use crate::veth::Outside;

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
    pub(crate) fn new(owned: Vec<CString>) -> Self {
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

/// The root that was given, opened.
#[derive(Debug)]
pub(crate) struct Root {
    folder: Option<PathBuf>,
    fd: OwnedFd,
    image: Option<Arc<Image>>,
    /// Whether overlayfs takes the changes.
    pub(crate) overlay: bool,
}

impl Root {
    fn new(config: &Config, isolation: Isolation) -> Result<Option<Self>, PrepareError> {
        if config.options.root_is_given() && !isolation.has(Layer::Mount) {
            return Err(PrepareError::NeedsLayer { what: "a root", layer: Layer::Mount.name() });
        }
        let (folder, fd, image) = match &config.options.rootfs {
            Rootfs::Generated => return Ok(None),
            Rootfs::Folder(path) => {
                let cannot = |source| PrepareError::Rootfs { path: path.clone(), source };
                let folder = std::fs::canonicalize(path).map_err(cannot)?;
                let mut how = File::options();
                how.read(true).custom_flags(libc::O_DIRECTORY | libc::O_PATH);
                let fd = how.open(&folder).map_err(cannot)?;
                (Some(folder), above_stdio(fd.as_raw_fd(), "the root's folder")?, None)
            }
            Rootfs::Image(image) => {
                let fd = above_stdio(image.root().as_raw_fd(), "the image's root")?;
                (None, fd, Some(Arc::clone(image)))
            }
        };
        Ok(Some(Self { folder, fd, image, overlay: true }))
    }

    pub(crate) fn lower(&self) -> Lower<'_> {
        match (&self.folder, &self.image) {
            (Some(path), _) => Lower::Folder(path, &self.fd),
            (None, Some(image)) if image.needs_mount() => Lower::Mounted,
            (None, _) => Lower::Image(&self.fd),
        }
    }

    /// A mount for one start, where it takes one.
    pub(crate) fn mount(&self) -> io::Result<Option<OwnedFd>> {
        self.image.as_ref().map_or(Ok(None), |image| image.mount())
    }

    /// Whether there is such a folder in it, as seen from inside.
    pub(crate) fn has_folder(&self, path: &Path) -> bool {
        open_in_root(&self.fd, path, libc::O_PATH | libc::O_DIRECTORY).is_ok()
    }

    fn find(&self, config: &Config, program: &Path) -> Option<PathBuf> {
        let path = config.env.iter().find(|(key, _)| key == "PATH");
        let path = path.and_then(|(_, value)| value.to_str()).unwrap_or(DEFAULT_PATH);
        let workdir = config.options.workdir.as_deref().unwrap_or(Path::new("/"));
        find_inside(&self.fd, &config.options.binds, program, path, workdir)
    }
}

/// Where a program's name is looked for in a given root without a `PATH`: as the engines, whose images have tools in `sbin`, too.
pub const DEFAULT_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

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
    pub(crate) usage: Option<Figures>,
    /// Whether the network namespace is made by a [`Maker`] and not by the clone.
    pub(crate) network_beside: bool,
    /// What else that one does.
    pub(crate) beside: Task,
    /// The steps to the root, where it is that one who makes them.
    pub(crate) root_beside: Option<Arc<[Op]>>,
    /// One that is at work already, for the first start.
    pub(crate) maker: Mutex<Option<Maker>>,
    /// The image of an init, where process 1 is not to be the program.
    pub(crate) init: Option<OwnedFd>,
    /// The outer side of veth pairs.
    pub(crate) outside: Option<Arc<Outside>>,
    pub(crate) ranges: Option<Ranges>,
    id_maps: Option<String>,
    limits_unavailable: Option<String>,
    pub(crate) root: Option<Root>,
    overlay_unavailable: Option<String>,
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
        // Who starts one at once starts no other, most often, and then waits.
        let stacks = Stacks::keeping(if config.start_soon { 0 } else { usize::MAX });
        config.complete()?;
        config.network_beside &= Maker::is_useful(isolation);
        let loopback = config.options.network != Network::None;
        let begins = config.network_beside && config.start_soon;
        let mut beside = Task { loopback, root: begins && root_may_be_apart(&config, isolation) };
        let maker = if begins { Maker::start(&stacks, beside) } else { None };
        // On an older kernel, the child does it all.
        beside.root &= maker.is_some();
        let program = find_program(&config.program, isolation)?;
        let root = Root::new(&config, isolation)?;
        let mut mounts = Mounts::new(&config, isolation, &program, root.as_ref(), beside.root)?;
        let root_beside = beside.root.then(|| Arc::from(std::mem::take(&mut mounts.root)));
        if let (Some(maker), Some(steps)) = (&maker, &root_beside) {
            maker.build(Arc::clone(steps));
        }
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
        let outside = match &config.options.network {
            Network::Veth(veth) => Some(Outside::new(veth)?),
            _ => None,
        };
        if config.options.init && !isolation.has(Layer::Pid) {
            return Err(PrepareError::NeedsLayer { what: "an init", layer: Layer::Pid.name() });
        }
        let init = config.options.init.then(init::sealed).transpose();
        let init = init.map_err(|source| PrepareError::Open { what: "a memfd for the init", source })?;
        let (ranges, id_maps) = id_maps(&config, isolation)?;
        let executable = match program {
            Found::Path(_) if isolation.has(Layer::Mount) => Executable::Path(CString::from(PROGRAM)),
            Found::Path(path) => Executable::Path(c_string("the program's path", path.into_os_string())?),
            Found::Inside(path) => {
                let found = root.as_ref().map_or(Some(path.clone()), |root| root.find(&config, &path));
                let found = found.ok_or(PrepareError::ProgramNotInside { path })?;
                Executable::Path(c_string("the program's path", found)?)
            }
            Found::Fd(fd) => Executable::Fd(fd),
        };
        let program_name = match &config.program {
            Program::Path(path) | Program::Inside(path) => path.display().to_string(),
            Program::Sealed(_) => "the sealed program".to_owned(),
        };
        let what = "a pidfd of the calling process";
        let caller = open_caller().map_err(|source| PrepareError::Open { what, source })?;
        let mut prepared = Self {
            ops: Vec::new(),
            isolation,
            clone_flags: 0,
            executable,
            program_name,
            argv: Strings::new(argv),
            envp: Strings::new(envp),
            null: open_null()?,
            caller,
            stacks,
            network_beside: config.network_beside,
            beside,
            root_beside,
            maker: Mutex::new(maker),
            groups: None,
            usage: config.usage,
            init,
            outside,
            ranges,
            id_maps,
            limits_unavailable: None,
            root,
            overlay_unavailable: None,
        };
        prepared.set_steps(&config, mounts, !config.limits.is_none())?;
        // Last: a root that is built beside this has the lock of all mounts at its beginning.
        if !config.limits.is_none() {
            match GroupPlan::new(&config.limits, config.start_soon)? {
                Ok(plan) => prepared.groups = Some(plan),
                Err(reason) => {
                    prepared.limits_unavailable = Some(reason);
                    prepared.work_out(&config)?;
                }
            }
        }
        if isolation.has(Layer::User) && prepared.root.is_some() {
            prepared.fall_back(&config)?;
        }
        Ok(prepared)
    }

    /// What an ordinary user may not have here is done without, if it need not be there; what else is wrong, a start will say.
    fn fall_back(&mut self, config: &Config) -> Result<(), PrepareError> {
        for _ in 0..2 {
            match self.rehearse() {
                Err(SpawnError::IdMaps(reason)) if config.options.id_maps == IdMaps::Auto => {
                    self.ranges = None;
                    self.id_maps = Some(single_because(&reason.to_string()));
                }
                // The root is the folder as it is, read-only.
                Err(SpawnError::Setup { step, source }) if step.starts_with("mount overlay") => {
                    if let Some(root) = &mut self.root {
                        root.overlay = false;
                    }
                    self.overlay_unavailable = Some(format!("cannot {step}: {source}"));
                }
                _ => return Ok(()),
            }
            self.work_out(config)?;
        }
        Ok(())
    }

    /// Works the steps out anew, for what there is now.
    fn work_out(&mut self, config: &Config) -> Result<(), PrepareError> {
        let program = find_program(&config.program, self.isolation)?;
        let apart = self.beside.root;
        let mounts = Mounts::new(config, self.isolation, &program, self.root.as_ref(), apart)?;
        self.set_steps(config, mounts, self.groups.is_some())
    }

    fn set_steps(
        &mut self,
        config: &Config,
        mut mounts: Mounts,
        has_group: bool,
    ) -> Result<(), PrepareError> {
        let apart = self.beside.root;
        if apart {
            // The thread has these. The child, which is not cloned into a mount namespace then, would make them in the caller's.
            mounts.root.clear();
        }
        let granted = Granted { has_group, ranges: self.ranges.is_some(), apart };
        self.ops = steps(config, self.isolation, mounts, self.root.as_ref(), granted)?;
        let beside = [(self.network_beside, libc::CLONE_NEWNET), (apart, libc::CLONE_NEWNS)];
        let beside = beside.into_iter().filter_map(|(is, flag)| is.then_some(flag));
        self.clone_flags = beside.fold(clone_flags(self.isolation, has_group), |flags, flag| flags & !flag);
        Ok(())
    }

    /// Whether the root is one that was given, not the generated one.
    #[must_use]
    pub fn root_is_given(&self) -> bool {
        self.root.is_some()
    }

    /// Which users and groups there are inside, in words; `None` without a user namespace.
    #[must_use]
    pub fn id_maps(&self) -> Option<&str> {
        self.id_maps.as_deref()
    }

    /// Why a given root is seen read-only, without a layer that takes changes; `None` if it has one.
    #[must_use]
    pub fn overlay_unavailable(&self) -> Option<&str> {
        self.overlay_unavailable.as_deref()
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
        self.work_out(&config.clone().network_beside(self.network_beside))
    }

    pub(crate) fn exec(&self) -> Exec {
        match &self.executable {
            Executable::Path(path) => Exec::Path(path.as_ptr()),
            Executable::Fd(fd) => Exec::Fd(fd.as_raw_fd()),
        }
    }
}

/// Whether a root can be built [beside](crate::beside) the rest, and is to be: only where the caller has something else to do
/// meanwhile, for where it has not, the child is as fast. What is bound may lie in proc, which comes later.
fn root_may_be_apart(config: &Config, isolation: Isolation) -> bool {
    // What setns(2) asks of who enters a mount namespace.
    let enters = 1 << SYS_ADMIN | 1 << SYS_CHROOT;
    // A mount for each start is the child's to place.
    let is_placed = matches!(&config.options.rootfs, Rootfs::Image(image) if image.needs_mount());
    isolation.has(Layer::Mount)
        && !config.limits.is_none()
        && config.options.binds.is_empty()
        && !is_placed
        && of_caller().is_some_and(|own| own.effective & enters == enters)
}

/// The identity maps that are to be had, and what is to be said about them.
fn id_maps(config: &Config, isolation: Isolation) -> Result<(Option<Ranges>, Option<String>), PrepareError> {
    if !isolation.has(Layer::User) {
        return match config.options.id_maps {
            IdMaps::Ranges => {
                Err(PrepareError::NeedsLayer { what: "a range of users", layer: Layer::User.name() })
            }
            _ => Ok((None, None)),
        };
    }
    let wanted = match config.options.id_maps {
        IdMaps::Single => false,
        IdMaps::Ranges => true,
        IdMaps::Auto => config.options.root_is_given(),
    };
    if !wanted {
        return Ok((None, Some("the caller alone".to_owned())));
    }
    match Ranges::find() {
        Ok(ranges) => {
            let users = format!("users (inside, outside, how many): {}", ranges.users());
            Ok((Some(ranges), Some(users)))
        }
        Err(reason) if config.options.id_maps == IdMaps::Ranges => Err(PrepareError::IdRanges { reason }),
        Err(reason) => Ok((None, Some(single_because(&reason)))),
    }
}

fn single_because(reason: &str) -> String {
    format!("the caller alone, since there can be no ranges: {reason}")
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
pub(crate) fn above_stdio(fd: RawFd, what: &'static str) -> Result<OwnedFd, PrepareError> {
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
pub(crate) fn open_caller() -> io::Result<OwnedFd> {
    let own = std::process::id() as usize;
    // SAFETY: a call that takes numbers only and makes a descriptor.
    let fd = unsafe { sys::owned(sys::call(libc::SYS_pidfd_open, [own, 0, 0, 0, 0, 0])) }?;
    duplicate_above_stdio(fd.as_raw_fd())
}
