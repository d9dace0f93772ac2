//! Archives and images as roots: unpacked into a file system in memory that no namespace has and no path leads to.
//!
//! Everything in an archive is taken for hostile. Its names are looked up by openat2(2) with the root as the root, so no
//! link, `..` or absolute path leads outside; every name is made anew, never followed; devices are left out; sizes are
//! bounded; what is named by a digest is checked. When the [`Image`] is dropped, or the process killed, nothing is left.

mod agent;
mod layer;
mod layout;
mod read;

use std::ffi::{CString, OsString};
use std::fs::File;
use std::io;
use std::os::fd::AsFd;
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use crate::kernel;
use crate::options::User;
use crate::sys::{self, call, owned};
use agent::Agent;

/// Why an archive or image cannot be used as a root. Nothing of it is left.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ImageError {
    /// A file of it cannot be read.
    #[error("cannot read {what} of {}", path.display())]
    Read {
        /// The archive or folder.
        path: PathBuf,
        /// What of it.
        what: String,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// The file system in memory cannot be made: that needs root, or a user namespace.
    #[error("cannot make a file system in memory for the image ({step}); unpack it and give the folder")]
    Memory {
        /// The system call.
        step: &'static str,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// An entry cannot be unpacked.
    #[error("cannot unpack {entry:?}")]
    Entry {
        /// Its name in the archive.
        entry: String,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// An entry cannot be given to its owner.
    #[error("cannot give {entry:?} to its owner (do /etc/subuid and /etc/subgid give enough numbers?)")]
    Owner {
        /// Its name in the archive.
        entry: String,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// An entry's name leads outside the root.
    #[error("the archive names {entry:?}, which leads out of its root")]
    Escapes {
        /// Its name in the archive.
        entry: String,
    },
    /// It holds more than was allowed.
    #[error(
        "the archive unpacks to more than {limit} bytes or {entries} entries; unpack it and give the folder"
    )]
    TooLarge {
        /// Bytes allowed.
        limit: u64,
        /// Entries allowed.
        entries: u64,
    },
    /// The bytes are not those that the digest names.
    #[error("{name} does not have the digest {expected} but {found}")]
    Digest {
        /// Which part.
        name: String,
        /// What it should be.
        expected: String,
        /// What it is.
        found: String,
    },
    /// It is no image that is known here.
    #[error("{what} of the image: {problem}")]
    Format {
        /// Which part.
        what: String,
        /// What is wrong.
        problem: String,
    },
}

/// What an image may unpack to.
#[derive(Debug, Clone, Copy)]
pub struct Bounds {
    /// Bytes of all files together.
    pub bytes: u64,
    /// Files, folders and links together.
    pub entries: u64,
}

impl Default for Bounds {
    /// 2 GiB in 500,000 entries.
    fn default() -> Self {
        Self { bytes: 2 << 30, entries: 500_000 }
    }
}

/// Since when an overlay may have a layer that is mounted nowhere: "fs: allow creating detached mounts from detached mounts" and its
/// neighbours.
const OVERLAY_OVER_DETACHED: &str = "6.15";

/// An unpacked image: a root, and what its maker says about running it.
#[derive(Debug)]
#[non_exhaustive]
pub struct Image {
    root: OwnedFd,
    /// The beginning of the command line.
    pub entrypoint: Vec<OsString>,
    /// The rest of it, unless the user gives one.
    pub command: Vec<OsString>,
    /// Environment.
    pub env: Vec<(OsString, OsString)>,
    /// Working directory.
    pub workdir: Option<PathBuf>,
    /// Whom it runs as.
    pub user: Option<User>,
    /// Whom it runs as, where it does not say who that is.
    pub(crate) unknown_user: Option<String>,
    /// Names of entries that were left out (devices).
    pub left_out: Vec<String>,
    /// In whose namespace the root is, for an ordinary user and where the kernel is old.
    agent: Option<Agent>,
}

impl Image {
    /// Unpacks what is at `path`: a tar as `docker export` writes it, an OCI image layout (a folder or a tar), or a tar as
    /// `docker save` writes it; each tar plain or compressed by gzip or zstd.
    ///
    /// # Errors
    ///
    /// An [`ImageError`] names what is wrong with it.
    pub fn open(path: impl AsRef<Path>, bounds: Bounds) -> Result<Self, ImageError> {
        let path = path.as_ref();
        // SAFETY: geteuid takes nothing and cannot fail.
        let is_root = unsafe { libc::geteuid() } == 0;
        let agent = match is_root {
            true => None,
            false => Some(
                Agent::start().map_err(|source| ImageError::Memory { step: "a user namespace", source })?,
            ),
        };
        let image = Self {
            root: memory(bounds, agent.as_ref())?,
            entrypoint: vec![],
            command: vec![],
            env: vec![],
            workdir: None,
            user: None,
            unknown_user: None,
            left_out: vec![],
            agent,
        };
        let (mut image, owners) = layout::unpack(path, bounds, image)?;
        let memory = |step| move |source| ImageError::Memory { step, source };
        if is_root && !kernel::is_at_least(OVERLAY_OVER_DETACHED) {
            let agent = Agent::of_root().map_err(memory("a mount namespace"))?;
            agent.keep(&image.root).map_err(memory("move_mount"))?;
            image.agent = Some(agent);
        } else if let Some(agent) = &image.agent {
            // What is mounted on in every instance, also in one without a layer of changes.
            for name in [c"dev", c"proc"] {
                // SAFETY: an open descriptor and a C string. What is there already, will do.
                unsafe { libc::mkdirat(image.root.as_raw_fd(), name.as_ptr(), 0o755) };
            }
            agent.give(&image.root, &owners)?;
            agent.keep(&image.root).map_err(memory("move_mount"))?;
        }
        Ok(image)
    }

    /// A mount of the root for one start; `None` where the root itself will do.
    pub(crate) fn mount(&self) -> io::Result<Option<OwnedFd>> {
        self.agent.as_ref().map(|agent| agent.clone_mount(&self.root)).transpose()
    }

    /// Whether each start needs a mount of its own.
    pub(crate) fn needs_mount(&self) -> bool {
        self.agent.is_some()
    }

    /// Whether `path` is an OCI image layout folder, and not a folder to be used as it is.
    #[must_use]
    pub fn is_layout(path: impl AsRef<Path>) -> bool {
        path.as_ref().join("oci-layout").is_file() && path.as_ref().join("index.json").is_file()
    }

    /// The command line for arguments given by the user: with none, the image's own.
    #[must_use]
    pub fn command_line(&self, args: &[OsString]) -> Vec<OsString> {
        let rest = if args.is_empty() { &self.command } else { args };
        self.entrypoint.iter().chain(rest).cloned().collect()
    }

    /// The root's folder.
    #[must_use]
    pub fn root(&self) -> BorrowedFd<'_> {
        self.root.as_fd()
    }
}

/// `FSCONFIG_SET_STRING`, `FSCONFIG_CMD_CREATE`, `FSOPEN_CLOEXEC`, `FSMOUNT_CLOEXEC` (include/uapi/linux/mount.h).
const SET_STRING: usize = 1;
const CREATE: usize = 6;
const CLOEXEC: usize = 1;

/// A file system in memory, mounted nowhere; made by the agent, where there is one.
fn memory(bounds: Bounds, agent: Option<&Agent>) -> Result<OwnedFd, ImageError> {
    let failed = |step| move |source| ImageError::Memory { step, source };
    let checked = |step, number, arguments| {
        // SAFETY: descriptors that are open, C strings that live until it returns, and numbers, in each use below.
        let done = unsafe {
            match agent {
                Some(agent) => agent.call(number, arguments),
                None => call(number, arguments).map_err(sys::os_error),
            }
        };
        done.map_err(failed(step))
    };
    let opened = |step, number, arguments| {
        let made = checked(step, number, arguments)?;
        // SAFETY: both uses below are calls that make a descriptor, in the table that an agent shares.
        unsafe { owned(Ok(made)) }.map_err(failed(step))
    };
    let tmpfs = sys::path(c"tmpfs");
    let opened_context = opened("fsopen", libc::SYS_fsopen, [tmpfs, CLOEXEC, 0, 0, 0, 0])?;
    let context = sys::fd(opened_context.as_raw_fd());
    let options = [
        ("mode", "755".to_owned()),
        ("size", bounds.bytes.to_string()),
        ("nr_inodes", bounds.entries.to_string()),
    ];
    for (key, value) in options {
        let (key, value) = (CString::new(key).unwrap_or_default(), CString::new(value).unwrap_or_default());
        let set = [context, SET_STRING, sys::path(&key), sys::path(&value), 0, 0];
        checked("fsconfig", libc::SYS_fsconfig, set)?;
    }
    checked("fsconfig", libc::SYS_fsconfig, [context, CREATE, 0, 0, 0, 0])?;
    #[expect(clippy::cast_possible_truncation, reason = "unsigned long is as wide as a register here")]
    let attributes = libc::MOUNT_ATTR_NODEV as usize;
    opened("fsmount", libc::SYS_fsmount, [context, CLOEXEC, attributes, 0, 0, 0])
}

/// Opens a path below `root` as if `root` were "/", a path that begins with it, too: links and `..` lead nowhere but within it.
pub(crate) fn open_in_root(root: &impl AsRawFd, path: &Path, flags: libc::c_int) -> io::Result<OwnedFd> {
    let (path, how) = how_in_root(path, flags)?;
    let (root, how) = (sys::fd(root.as_raw_fd()), std::ptr::from_ref(&how) as usize);
    let size = size_of::<libc::open_how>();
    // SAFETY: an open descriptor, a C string, an open_how with its size; the call makes a descriptor.
    unsafe { owned(call(libc::SYS_openat2, [root, sys::path(&path), how, size, 0, 0])) }
}

/// What openat2(2) takes to open a path below a root as if that were "/".
fn how_in_root(path: &Path, flags: libc::c_int) -> io::Result<(CString, libc::open_how)> {
    let path = if path.as_os_str().is_empty() { Path::new(".") } else { path };
    // SAFETY: all zero is a valid open_how.
    let mut how: libc::open_how = unsafe { std::mem::zeroed() };
    how.flags = u64::from((flags | libc::O_CLOEXEC).cast_unsigned());
    how.resolve = libc::RESOLVE_IN_ROOT | libc::RESOLVE_NO_MAGICLINKS;
    Ok((CString::new(path.as_os_str().as_bytes())?, how))
}

/// A file's text out of the root, as far as it is of use.
fn text_in_root(root: &OwnedFd, path: &str) -> Option<String> {
    let file = File::from(open_in_root(root, Path::new(path), libc::O_RDONLY | libc::O_NONBLOCK).ok()?);
    let mut text = String::new();
    io::Read::read_to_string(&mut io::Read::take(file, 1 << 20), &mut text).ok()?;
    Some(text)
}
