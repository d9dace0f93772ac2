//! Calls that take a path.

use crate::cell::Global;
use crate::errno::{EACCES, EEXIST, EINVAL, EISDIR, ENOENT, ENOTDIR, EPERM, ERANGE, EROFS, Result};
use crate::port;
use crate::user::{self, PATH_MAX};
use crate::vfs::fd::{self, Target};
use crate::vfs::{self, Kind, NodeId, Place, nodes};
use vm_abi::op;

/// "Relative to the working directory".
pub const AT_FDCWD: u64 = -100i64 as u64;
/// unlinkat: a directory.
pub const AT_REMOVEDIR: u64 = 0x200;
const O_ACCMODE: u32 = 3;
const O_CREAT: u32 = 0o100;
const O_EXCL: u32 = 0o200;
const O_TRUNC: u32 = 0o1000;
const O_DIRECTORY: u32 = 0o200_000;

/// The working directory.
static CWD: Global<NodeId> = Global::new(NodeId(0));

/// The working directory.
pub fn working_directory() -> NodeId {
    *CWD.get()
}

/// A path copied from the program.
pub struct Path {
    bytes: [u8; PATH_MAX + 1],
    len: usize,
}

impl Path {
    /// Copies it.
    pub fn read(address: u64) -> Result<Self> {
        let mut path = Self { bytes: [0; PATH_MAX + 1], len: 0 };
        path.len = user::path(address, &mut path.bytes)?;
        Ok(path)
    }

    /// Its bytes.
    pub fn as_slice(&self) -> &[u8] {
        &self.bytes[..self.len]
    }
}

/// Where a path starts when it is relative.
pub fn start(dir: u64, path: &Path) -> Result<NodeId> {
    if dir as i32 == AT_FDCWD as i32 || path.as_slice().first() == Some(&b'/') {
        return Ok(*CWD.get());
    }
    match fd::get(dir)?.target {
        Target::Node(id) if nodes().get(id).kind == Kind::Directory => Ok(id),
        _ => Err(ENOTDIR),
    }
}

fn with_place<T>(dir: u64, address: u64, work: impl FnOnce(&Place<'_>) -> Result<T>) -> Result<T> {
    let path = Path::read(address)?;
    let place = vfs::walk(start(dir, &path)?, path.as_slice())?;
    work(&place)
}

/// The node of a path, links followed.
pub fn node(dir: u64, address: u64) -> Result<NodeId> {
    let path = Path::read(address)?;
    vfs::find(start(dir, &path)?, path.as_slice())
}

/// open(2), openat(2).
pub fn open(dir: u64, address: u64, flags: u64, mode: u64) -> Result {
    let flags = flags as u32;
    let id = with_place(dir, address, |place| match place.node {
        Some(_) if flags & (O_CREAT | O_EXCL) == O_CREAT | O_EXCL => Err(EEXIST),
        Some(id) if nodes().get(id).kind == Kind::SelfExe => vfs::program_node(),
        Some(id) => Ok(id),
        None if flags & O_CREAT != 0 => vfs::create(place, Kind::Memory, mode as u32),
        None => Err(ENOENT),
    })?;
    let kind = nodes().get(id).kind;
    if flags & O_DIRECTORY != 0 && kind != Kind::Directory {
        return Err(ENOTDIR);
    }
    if flags & O_ACCMODE != 0 {
        vfs::writable(id)?;
    }
    match kind {
        Kind::Stream(n) => return fd::open(Target::Stream(n), flags),
        Kind::File(index) => {
            port::call(op::OPEN_FILE, [u64::from(index), 0, 0, 0])?;
        }
        Kind::Memory if flags & O_TRUNC != 0 && flags & O_ACCMODE != 0 => nodes().get_mut(id).resize(0)?,
        Kind::Directory if flags & O_CREAT != 0 => return Err(EISDIR),
        _ => {}
    }
    fd::open(Target::Node(id), flags & !(O_CREAT | O_EXCL | O_TRUNC))
}

/// access(2), faccessat(2).
pub fn access(dir: u64, address: u64, mode: u64) -> Result {
    let id = node(dir, address)?;
    let kind = nodes().get(id).kind;
    if mode & 2 != 0 && kind != Kind::Directory {
        vfs::writable(id)?;
    }
    if mode & 2 != 0 && kind == Kind::Directory && !nodes().is_below(id, vfs::TMP) {
        return Err(EROFS);
    }
    let executable = match kind {
        Kind::Directory => true,
        Kind::File(index) => vfs::file_entry(index).mode & 0o111 != 0,
        _ => nodes().get(id).mode & 0o111 != 0,
    };
    if mode & 1 != 0 && !executable { Err(EACCES) } else { Ok(0) }
}

/// For calls that change what the small file system does not keep (times): the path must exist.
pub fn exists(dir: u64, address: u64) -> Result {
    if address == 0 { fd::get(dir).map(|_| 0) } else { node(dir, address).map(|_| 0) }
}

/// chmod(2).
pub fn chmod(dir: u64, address: u64, mode: u64) -> Result {
    set_mode(node(dir, address)?, mode)
}

/// fchmod(2).
pub fn fchmod(fd: u64, mode: u64) -> Result {
    match fd::get(fd)?.target {
        Target::Node(id) => set_mode(id, mode),
        Target::Stream(_) => Err(EPERM),
    }
}

/// chown(2) and its kin: everything is root's, and can be given to root.
pub fn chown(dir: u64, address: u64, user: u64, group: u64) -> Result {
    node(dir, address)?;
    owner(user, group)
}

/// fchown(2).
pub fn fchown(fd: u64, user: u64, group: u64) -> Result {
    fd::get(fd)?;
    owner(user, group)
}

fn owner(user: u64, group: u64) -> Result {
    // -1: leave as it is.
    if [user, group].into_iter().all(|id| matches!(id as i32, 0 | -1)) { Ok(0) } else { Err(EPERM) }
}

fn set_mode(id: NodeId, mode: u64) -> Result {
    if !nodes().is_below(id, vfs::TMP) {
        return Err(EROFS);
    }
    nodes().get_mut(id).mode = mode as u32 & 0o7777;
    Ok(0)
}

/// truncate(2).
pub fn truncate(address: u64, size: u64) -> Result {
    let id = node(AT_FDCWD, address)?;
    vfs::writable(id)?;
    if nodes().get(id).kind != Kind::Memory || (size as i64) < 0 {
        return Err(EINVAL);
    }
    nodes().get_mut(id).resize(size)?;
    Ok(0)
}

/// mkdir(2).
pub fn mkdir(dir: u64, address: u64, mode: u64) -> Result {
    with_place(dir, address, |place| vfs::create(place, Kind::Directory, mode as u32))?;
    Ok(0)
}

/// unlink(2), rmdir(2), unlinkat(2).
pub fn unlink(dir: u64, address: u64, flags: u64) -> Result {
    with_place(dir, address, |place| vfs::remove(place, flags & AT_REMOVEDIR != 0))
}

/// rename(2) and its kin.
pub fn rename(from_dir: u64, from: u64, to_dir: u64, to: u64, flags: u64) -> Result {
    const RENAME_NOREPLACE: u64 = 1;
    if flags & !RENAME_NOREPLACE != 0 {
        return Err(EINVAL);
    }
    let to = Path::read(to)?;
    let to_start = start(to_dir, &to)?;
    with_place(from_dir, from, |source| {
        vfs::rename(source, &vfs::walk(to_start, to.as_slice())?, flags & RENAME_NOREPLACE != 0)
    })
}

/// readlink(2): the only link is /proc/self/exe.
pub fn readlink(dir: u64, address: u64, to: u64, len: u64) -> Result {
    let path = Path::read(address)?;
    // The one that every C library asks for at its start, without building the tables.
    if path.as_slice() != b"/proc/self/exe" {
        let place = vfs::walk(start(dir, &path)?, path.as_slice())?;
        let id = place.node.ok_or(ENOENT)?;
        if nodes().get(id).kind != Kind::SelfExe {
            return Err(EINVAL);
        }
    }
    if (len as i64) <= 0 {
        return Err(EINVAL);
    }
    let (text, text_len) = vfs::program_path();
    let n = text_len.min(len);
    user::copy(to, text, n);
    Ok(n)
}

/// getcwd(2): the length with the closing zero.
pub fn getcwd(to: u64, len: u64) -> Result {
    let mut buffer = [0; PATH_MAX + 1];
    let at = vfs::path_of(*CWD.get(), &mut buffer)?;
    let n = (buffer.len() - at) as u64;
    if len < n + 1 {
        return Err(ERANGE);
    }
    user::copy(to, buffer[at..].as_ptr() as u64, n);
    user::write(to + n, 0u8);
    Ok(n + 1)
}

/// chdir(2).
pub fn chdir(address: u64) -> Result {
    enter(node(AT_FDCWD, address)?)
}

/// fchdir(2).
pub fn fchdir(fd: u64) -> Result {
    match fd::get(fd)?.target {
        Target::Node(id) => enter(id),
        Target::Stream(_) => Err(ENOTDIR),
    }
}

fn enter(id: NodeId) -> Result {
    if nodes().get(id).kind != Kind::Directory {
        return Err(ENOTDIR);
    }
    // Held like an open one: removed, it keeps its node for as long as somebody is in it.
    nodes().get_mut(id).opens += 1;
    let left = core::mem::replace(CWD.get(), id);
    nodes().close(left);
    Ok(0)
}

/// getdents64(2). An entry's offset follows from its node, so that a program may remove what it has read and read on.
pub fn getdents(fd: u64, to: u64, len: u64) -> Result {
    const DT_CHR: u8 = 2;
    const DT_DIR: u8 = 4;
    const DT_REG: u8 = 8;
    const DT_LNK: u8 = 10;
    /// ino, off, reclen, type.
    const HEAD: u64 = 19;
    let d = fd::get(fd)?;
    let Target::Node(directory) = d.target else { return Err(ENOTDIR) };
    if nodes().get(directory).kind != Kind::Directory {
        return Err(ENOTDIR);
    }
    let parent = nodes().get(directory).parent;
    // Entry 0 and 1 are the dots, entry n + 2 is node n.
    let dots: [(u64, NodeId, &[u8], u8); 2] = [(0, directory, b".", DT_DIR), (1, parent, b"..", DT_DIR)];
    let children = nodes().children(directory).map(|(id, n)| {
        let kind = match n.kind {
            Kind::Directory => DT_DIR,
            Kind::SelfExe => DT_LNK,
            Kind::File(_) | Kind::Memory => DT_REG,
            _ => DT_CHR,
        };
        (u64::from(id.0) + 2, id, n.name(), kind)
    });
    let mut written = 0;
    let offset = d.offset;
    for (i, id, name, kind) in dots.into_iter().chain(children).filter(|entry| entry.0 >= offset) {
        let size = (HEAD + name.len() as u64 + 1).next_multiple_of(8);
        if written + size > len {
            return if written == 0 { Err(EINVAL) } else { Ok(written) };
        }
        let at = to + written;
        user::zero(at, size);
        user::write(at, u64::from(id.0) + 1);
        user::write(at + 8, i + 1);
        user::write(at + 16, size as u16);
        user::write(at + 18, kind);
        user::copy(at + HEAD, name.as_ptr() as u64, name.len() as u64);
        written += size;
        d.offset = i + 1;
    }
    Ok(written)
}
