//! One layer, or one whole archive, unpacked into a root.

use std::collections::HashSet;
use std::ffi::{CString, OsStr};
use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Component, Path, PathBuf};

use tar::EntryType;

use super::agent::{Owner, Owners};
use super::read::{Allowance, Allowed};
use super::{Bounds, Image, ImageError, open_in_root};

/// Marks of the OCI image format for what a layer takes away.
const WHITEOUT: &str = ".wh.";
const OPAQUE: &str = ".wh..wh..opq";

/// Unpacks layers, one after another, and counts.
pub(super) struct Unpacker<'a> {
    root: &'a OwnedFd,
    bounds: Bounds,
    bytes: u64,
    entries: u64,
    left_out: Vec<String>,
    /// For an ordinary user, who may not give files away and needs to get into every folder: what is to be done in the end.
    owners: Option<Owners>,
}

impl<'a> Unpacker<'a> {
    pub(super) fn new(image: &'a Image, bounds: Bounds) -> Self {
        let owners = image.agent.is_some().then(Owners::new);
        Self { root: &image.root, bounds, bytes: 0, entries: 0, left_out: Vec::new(), owners }
    }

    /// Whether no archive had anything in it.
    pub(super) fn is_empty(&self) -> bool {
        self.entries == 0
    }

    /// The names of what was left out, and whose all is to be.
    pub(super) fn finish(self) -> (Vec<String>, Owners) {
        (self.left_out, self.owners.unwrap_or_default())
    }

    /// Applies one layer (a plain tar).
    pub(super) fn layer(&mut self, reader: impl Read, name: &str) -> Result<(), ImageError> {
        let allowance = Allowance::new();
        let mut archive = tar::Archive::new(Allowed { inner: reader, allowance: &allowance });
        let broken = |source| ImageError::Entry { entry: name.to_owned(), source };
        // What this layer made: its own whiteouts are for the layers below.
        let mut own = HashSet::new();
        for entry in archive.entries().map_err(broken)? {
            let mut entry = entry.map_err(broken)?;
            allowance.for_content();
            self.entry(&mut entry, &mut own, name)?;
            io::copy(&mut entry, &mut io::sink()).map_err(broken)?;
            allowance.for_a_header();
        }
        Ok(())
    }

    /// Applies one entry of the layer called `layer`.
    fn entry(
        &mut self,
        entry: &mut tar::Entry<'_, impl Read>,
        own: &mut HashSet<PathBuf>,
        layer: &str,
    ) -> Result<(), ImageError> {
        let path = entry.path();
        let path = path.map_err(|source| ImageError::Entry { entry: layer.to_owned(), source })?.into_owned();
        let shown = shown(&path);
        self.count(entry.size())?;
        let path = plain(&path).ok_or_else(|| ImageError::Escapes { entry: shown.clone() })?;
        let cannot = |source| ImageError::Entry { entry: shown.clone(), source };
        let (Some(parent), Some(last)) = (path.parent(), path.file_name()) else { return Ok(()) };
        if let Some(hidden) = last.to_str().and_then(|last| last.strip_prefix(WHITEOUT)) {
            if last == OPAQUE {
                self.clear(parent, own).map_err(cannot)?;
            } else if !own.contains(&parent.join(hidden)) {
                if plain(Path::new(hidden)).is_none_or(|name| name.components().count() != 1) {
                    return Err(ImageError::Escapes { entry: shown });
                }
                self.remove(parent, OsStr::new(hidden)).map_err(cannot)?;
            }
            return Ok(());
        }
        if !self.place(entry, parent, last).map_err(cannot)? {
            self.left_out.push(shown);
        }
        own.insert(path);
        Ok(())
    }

    /// Keeps in mind what cannot be done yet, for the entry that has just been made as `name` in `dir`; `linked` is the other name
    /// of the same file, and the folder of that.
    fn note(
        &mut self,
        entry: &tar::Entry<'_, impl Read>,
        (dir, name): (&OwnedFd, &OsStr),
        linked: Option<(&OwnedFd, &OsStr)>,
    ) -> io::Result<()> {
        let Some(owners) = &mut self.owners else { return Ok(()) };
        let path = true_path(dir, name)?;
        if let Some((dir, name)) = linked {
            if let Some(&owner) = owners.get(&true_path(dir, name)?) {
                owners.insert(path, owner);
            }
            return Ok(());
        }
        let (uid, gid) = owner(entry);
        let mode = entry.header().mode()? & 0o7777;
        let mode = match entry.header().entry_type() {
            EntryType::Directory => Some(mode),
            // Giving a file away takes these two.
            EntryType::Regular | EntryType::Continuous | EntryType::GNUSparse if mode & 0o6000 != 0 => {
                Some(mode)
            }
            _ => None,
        };
        owners.insert(path, Owner { uid, gid, mode });
        Ok(())
    }

    /// Removes whatever has this name in `dir`, and what was kept in mind of it.
    fn unlink(&mut self, dir: &OwnedFd, name: &OsStr) -> io::Result<()> {
        if let Some(owners) = &mut self.owners {
            let path = true_path(dir, name)?;
            let below = owners.range(path.clone()..).take_while(|(other, _)| other.starts_with(&path));
            for gone in below.map(|(other, _)| other.clone()).collect::<Vec<_>>() {
                owners.remove(&gone);
            }
        }
        unlink(dir, name)
    }

    /// Counts one entry with so many bytes.
    fn count(&mut self, bytes: u64) -> Result<(), ImageError> {
        self.bytes = self.bytes.saturating_add(bytes);
        self.entries += 1;
        if self.bytes > self.bounds.bytes || self.entries > self.bounds.entries {
            return Err(ImageError::TooLarge { limit: self.bounds.bytes, entries: self.bounds.entries });
        }
        Ok(())
    }

    /// Makes one entry; false for one that is left out.
    fn place(
        &mut self,
        entry: &mut tar::Entry<'_, impl Read>,
        parent: &Path,
        last: &OsStr,
    ) -> io::Result<bool> {
        let kind = entry.header().entry_type();
        let mode = entry.header().mode()? & 0o7777;
        let dir = self.folder(parent)?;
        let name = CString::new(last.as_bytes())?;
        let mut linked = None;
        match kind {
            EntryType::Directory => {
                if open_dir(&dir, &name).is_err() {
                    self.unlink(&dir, last)?;
                    // SAFETY: an open descriptor and a C string, here and in the calls below.
                    check(unsafe { libc::mkdirat(dir.as_raw_fd(), name.as_ptr(), 0o755) })?;
                }
                let made = open_dir(&dir, &name)?;
                if self.owners.is_none() {
                    own(&made, entry)?;
                    // SAFETY: as above.
                    check(unsafe { libc::fchmod(made.as_raw_fd(), mode) })?;
                }
            }
            EntryType::Regular | EntryType::Continuous | EntryType::GNUSparse => {
                self.unlink(&dir, last)?;
                let how = libc::O_CREAT | libc::O_EXCL | libc::O_WRONLY | libc::O_NOFOLLOW | libc::O_CLOEXEC;
                // SAFETY: as above.
                let fd = unsafe { libc::openat(dir.as_raw_fd(), name.as_ptr(), how, 0o600) };
                check(fd)?;
                // SAFETY: a descriptor that the call above made and nobody else knows.
                let mut file = File::from(unsafe { OwnedFd::from_raw_fd(fd) });
                io::copy(entry, &mut file)?;
                if self.owners.is_none() {
                    own(&file, entry)?;
                }
                // SAFETY: as above.
                check(unsafe { libc::fchmod(file.as_raw_fd(), mode) })?;
            }
            EntryType::Symlink => {
                let target = entry.link_name_bytes().unwrap_or_default().into_owned();
                self.unlink(&dir, last)?;
                let target = CString::new(target)?;
                // SAFETY: as above, two C strings.
                check(unsafe { libc::symlinkat(target.as_ptr(), dir.as_raw_fd(), name.as_ptr()) })?;
            }
            EntryType::Link => {
                let target = entry.link_name()?.unwrap_or_default().into_owned();
                let outside =
                    || io::Error::new(io::ErrorKind::InvalidData, "it is a link that leads out of the root");
                let target = plain(&target).ok_or_else(outside)?;
                let (Some(from), Some(of)) = (target.parent(), target.file_name()) else {
                    return Err(outside());
                };
                if (from, of) != (parent, last) {
                    self.unlink(&dir, last)?;
                }
                let from = open_in_root(self.root, from, libc::O_PATH | libc::O_DIRECTORY)?;
                let target = CString::new(of.as_bytes())?;
                // SAFETY: as above. Without AT_SYMLINK_FOLLOW: the name itself is linked, wherever it leads.
                check(unsafe {
                    libc::linkat(from.as_raw_fd(), target.as_ptr(), dir.as_raw_fd(), name.as_ptr(), 0)
                })?;
                linked = Some((from, of.to_owned()));
            }
            EntryType::Fifo => {
                self.unlink(&dir, last)?;
                // SAFETY: as above.
                check(unsafe { libc::mkfifoat(dir.as_raw_fd(), name.as_ptr(), mode) })?;
            }
            // Devices: the instance has its own /dev. Global headers say nothing that matters here.
            EntryType::XGlobalHeader => return Ok(true),
            _ => return Ok(false),
        }
        let linked = linked.as_ref().map(|(from, of)| (from, of.as_os_str()));
        self.note(entry, (&dir, last), linked)?;
        Ok(true)
    }

    /// The folder at `path`, made where it is missing.
    fn folder(&self, path: &Path) -> io::Result<OwnedFd> {
        let how = libc::O_PATH | libc::O_DIRECTORY;
        if let Ok(dir) = open_in_root(self.root, path, how) {
            return Ok(dir);
        }
        let mut so_far = PathBuf::new();
        for name in path.components() {
            let dir = open_in_root(self.root, &so_far, how)?;
            so_far.push(name);
            let name = CString::new(name.as_os_str().as_bytes())?;
            // SAFETY: an open descriptor and a C string.
            match check(unsafe { libc::mkdirat(dir.as_raw_fd(), name.as_ptr(), 0o755) }) {
                Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
                _ => {}
            }
        }
        open_in_root(self.root, path, how)
    }

    /// Removes a name, and what is below it.
    fn remove(&mut self, parent: &Path, name: &OsStr) -> io::Result<()> {
        match open_in_root(self.root, parent, libc::O_PATH | libc::O_DIRECTORY) {
            Ok(dir) => self.unlink(&dir, name),
            Err(_) => Ok(()),
        }
    }

    /// Removes everything in a folder but what this layer has made.
    fn clear(&mut self, parent: &Path, own: &HashSet<PathBuf>) -> io::Result<()> {
        let Ok(dir) = open_in_root(self.root, parent, libc::O_RDONLY | libc::O_DIRECTORY) else {
            return Ok(());
        };
        for child in std::fs::read_dir(by_fd(dir.as_raw_fd()))?.flatten() {
            let name = child.file_name();
            if !own.contains(&parent.join(&name)) {
                self.unlink(&dir, &name)?;
            }
        }
        Ok(())
    }
}

/// A name in an archive for people, who need not see all of one that has no end.
fn shown(path: &Path) -> String {
    const MOST: usize = 256;
    let mut shown = path.display().to_string();
    if let Some((end, _)) = shown.char_indices().nth(MOST) {
        shown.truncate(end);
        shown.push_str("...");
    }
    shown
}

/// A name in an archive as a path below the root; `None` if it has a `..` in it.
fn plain(path: &Path) -> Option<PathBuf> {
    let mut plain = PathBuf::new();
    for component in path.components() {
        match component {
            Component::Normal(name) => plain.push(name),
            Component::RootDir | Component::CurDir => {}
            Component::ParentDir | Component::Prefix(_) => return None,
        }
    }
    Some(plain)
}

/// The path of a name in a folder, without any link in it, as the kernel tells it.
fn true_path(dir: &OwnedFd, name: &OsStr) -> io::Result<PathBuf> {
    let dir = std::fs::read_link(by_fd(dir.as_raw_fd()))?;
    Ok(dir.strip_prefix("/").unwrap_or(&dir).join(name))
}

/// A folder by its descriptor, for functions that want a path.
fn by_fd(fd: RawFd) -> PathBuf {
    PathBuf::from(format!("/proc/self/fd/{fd}"))
}

/// Removes whatever has this name in `dir`; nothing there is no error. The name itself, never where it leads.
fn unlink(dir: &OwnedFd, name: &OsStr) -> io::Result<()> {
    let path = by_fd(dir.as_raw_fd()).join(name);
    let removed = match std::fs::symlink_metadata(&path) {
        Ok(metadata) if metadata.is_dir() => std::fs::remove_dir_all(&path),
        Ok(_) => std::fs::remove_file(&path),
        Err(error) => Err(error),
    };
    match removed {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

fn open_dir(dir: &OwnedFd, name: &CString) -> io::Result<OwnedFd> {
    let how = libc::O_RDONLY | libc::O_DIRECTORY | libc::O_NOFOLLOW | libc::O_CLOEXEC;
    // SAFETY: an open descriptor and a C string.
    let fd = unsafe { libc::openat(dir.as_raw_fd(), name.as_ptr(), how) };
    check(fd)?;
    // SAFETY: a descriptor that the call above made and nobody else knows.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// Gives a file to the owner that the archive names.
fn own(file: &impl AsRawFd, entry: &tar::Entry<'_, impl Read>) -> io::Result<()> {
    let (uid, gid) = owner(entry);
    // SAFETY: an open descriptor and numbers.
    check(unsafe { libc::fchown(file.as_raw_fd(), uid, gid) })
}

/// The owner that the archive names. A field that is empty or no number names nobody: root, as tar(1) has it.
fn owner(entry: &tar::Entry<'_, impl Read>) -> (u32, u32) {
    let id = |value: u64| u32::try_from(value).unwrap_or(0);
    (id(entry.header().uid().unwrap_or(0)), id(entry.header().gid().unwrap_or(0)))
}

fn check(ret: libc::c_int) -> io::Result<()> {
    if ret < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}
