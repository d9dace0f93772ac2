//! The small file system: devices, the files handed over, and `/tmp` in the guest's memory.
//!
//! One table of nodes with fixed places: no allocation but for the contents of files in `/tmp`, which lie in the region
//! that `mmap` hands out. The tables are small on purpose, the limits say ENOSPC.

pub mod fd;
mod node;

pub use node::{Kind, NodeId};

use crate::boot;
use crate::cell::Global;
use crate::errno::{EACCES, EEXIST, EISDIR, ENAMETOOLONG, ENOENT, ENOTDIR, ENOTEMPTY, EROFS, Result};
use crate::user::{self, PATH_MAX};
use node::{NAME_MAX, Table};
use vm_abi::{FileEntry, TABLES_VA};

/// Directories that always exist, each under an earlier one.
const DIRECTORIES: [(&[u8], usize); 5] = [(b"/", 0), (b"dev", 0), (b"proc", 0), (b"tmp", 0), (b"self", 2)];
/// Node of `/tmp`, the only one under which something can be made.
pub const TMP: NodeId = NodeId(3);

static NODES: Global<Table> = Global::new(Table::new());

/// The node table, filled at first use.
pub fn nodes() -> &'static mut Table {
    let table = NODES.get();
    if table.is_empty() {
        fill(table);
    }
    table
}

fn fill(table: &mut Table) {
    for (name, parent) in DIRECTORIES {
        table.add(NodeId(parent as u16), name, Kind::Directory);
    }
    let dev = NodeId(1);
    let devices: [(&[u8], Kind); 7] = [
        (b"null", Kind::Null),
        (b"zero", Kind::Zero),
        (b"full", Kind::Full),
        (b"random", Kind::Random),
        (b"urandom", Kind::Random),
        (b"stdin", Kind::Stream(0)),
        (b"stdout", Kind::Stream(1)),
    ];
    for (name, kind) in devices {
        table.add(dev, name, kind);
    }
    table.add(dev, b"stderr", Kind::Stream(2));
    table.add(NodeId(4), b"exe", Kind::SelfExe);
    for index in 0..boot!(files) {
        let entry = file_entry(index as u16);
        // SAFETY: the monitor wrote path and length into the constant tables.
        let path = unsafe { core::slice::from_raw_parts(entry.path as *const u8, entry.path_len as usize) };
        let mut parent = NodeId(0);
        let mut parts = path.split(|b| *b == b'/').filter(|p| !p.is_empty()).peekable();
        while let Some(part) = parts.next() {
            let found = table.child(parent, part);
            let kind = if parts.peek().is_some() { Kind::Directory } else { Kind::File(index as u16) };
            match found.or_else(|| table.add(parent, part, kind)) {
                Some(id) => parent = id,
                None => break,
            }
        }
    }
}

/// The monitor's entry for a file handed over; 0 is the program.
pub fn file_entry(index: u16) -> FileEntry {
    user::read(TABLES_VA + u64::from(index) * size_of::<FileEntry>() as u64)
}

/// The path of the program: address and length.
pub fn program_path() -> (u64, u64) {
    let at = vm_abi::BOOT_VA + core::mem::offset_of!(vm_abi::Boot, program_path) as u64;
    (at, boot!(program_path_len))
}

/// A path taken apart: where its last part is or would be.
pub struct Place<'a> {
    /// Directory that holds the last part.
    pub parent: NodeId,
    /// The last part; empty for the directory itself (`/`, `.`).
    pub name: &'a [u8],
    /// The node, if it exists.
    pub node: Option<NodeId>,
}

/// Walks a path from a directory.
pub fn walk(start: NodeId, path: &[u8]) -> Result<Place<'_>> {
    let table = nodes();
    if path.is_empty() {
        return Err(ENOENT);
    }
    let mut at = if path[0] == b'/' { NodeId(0) } else { start };
    let mut place = Place { parent: at, name: b"", node: Some(at) };
    let mut parts = path.split(|b| *b == b'/').filter(|p| !p.is_empty()).peekable();
    while let Some(part) = parts.next() {
        if table.get(at).kind != Kind::Directory {
            return Err(ENOTDIR);
        }
        if part.len() > NAME_MAX {
            return Err(ENAMETOOLONG);
        }
        let next = match part {
            b"." => Some(at),
            b".." => Some(table.get(at).parent),
            _ => table.child(at, part),
        };
        let named = part != b"." && part != b"..";
        place = Place { parent: at, name: if named { part } else { b"" }, node: next };
        match next {
            Some(id) => at = id,
            None if parts.peek().is_none() => break,
            None => return Err(ENOENT),
        }
    }
    Ok(place)
}

/// The node of a path that must exist; symbolic links are followed.
pub fn find(start: NodeId, path: &[u8]) -> Result<NodeId> {
    let id = walk(start, path)?.node.ok_or(ENOENT)?;
    if nodes().get(id).kind == Kind::SelfExe { program_node() } else { Ok(id) }
}

/// The node of the program.
pub fn program_node() -> Result<NodeId> {
    let (path, len) = program_path();
    // SAFETY: constant tables of the monitor.
    let path = unsafe { core::slice::from_raw_parts(path as *const u8, len as usize) };
    walk(NodeId(0), path)?.node.ok_or(ENOENT)
}

/// Makes a file or directory under `/tmp`.
pub fn create(place: &Place<'_>, kind: Kind, mode: u32) -> Result<NodeId> {
    if place.node.is_some() {
        return Err(EEXIST);
    }
    if !nodes().is_below(place.parent, TMP) {
        return Err(EROFS);
    }
    if !nodes().get(place.parent).is_linked() {
        // A directory that was removed while somebody is in it.
        return Err(ENOENT);
    }
    let id = nodes().add(place.parent, place.name, kind).ok_or(crate::errno::ENOSPC)?;
    nodes().get_mut(id).mode = mode & 0o777;
    Ok(id)
}

/// unlink(2) and rmdir(2).
pub fn remove(place: &Place<'_>, directory: bool) -> Result {
    let id = place.node.ok_or(ENOENT)?;
    if !nodes().is_below(id, TMP) || id == TMP {
        return Err(EROFS);
    }
    match (nodes().get(id).kind == Kind::Directory, directory) {
        (true, false) => return Err(EISDIR),
        (false, true) => return Err(ENOTDIR),
        (true, true) if nodes().has_children(id) => return Err(ENOTEMPTY),
        _ => {}
    }
    nodes().unlink(id);
    Ok(0)
}

/// rename(2) within `/tmp`.
pub fn rename(from: &Place<'_>, to: &Place<'_>, no_replace: bool) -> Result {
    let id = from.node.ok_or(ENOENT)?;
    let table = nodes();
    if !table.is_below(id, TMP) || id == TMP || !table.is_below(to.parent, TMP) {
        return Err(EROFS);
    }
    if to.name.is_empty() || to.name.len() > NAME_MAX || table.is_below(to.parent, id) {
        return Err(crate::errno::EINVAL);
    }
    if !table.get(to.parent).is_linked() {
        return Err(ENOENT);
    }
    if to.node == Some(id) {
        return Ok(0);
    }
    if to.node.is_some() {
        if no_replace {
            return Err(EEXIST);
        }
        remove(to, table.get(id).kind == Kind::Directory)?;
    }
    table.get_mut(id).rename(to.parent, to.name);
    Ok(0)
}

/// Whether a node may be opened for writing.
pub fn writable(id: NodeId) -> Result<()> {
    match nodes().get(id).kind {
        Kind::File(_) | Kind::SelfExe => Err(EROFS),
        Kind::Directory => Err(EISDIR),
        Kind::Stream(0) => Err(EACCES),
        _ => Ok(()),
    }
}

/// The absolute path of a directory, written backwards into `buffer`; where it starts.
pub fn path_of(mut id: NodeId, buffer: &mut [u8; PATH_MAX + 1]) -> Result<usize> {
    let mut at = buffer.len();
    while id != NodeId(0) {
        let node = nodes().get(id);
        let name = node.name();
        at = at.checked_sub(name.len() + 1).ok_or(ENAMETOOLONG)?;
        buffer[at] = b'/';
        buffer[at + 1..at + 1 + name.len()].copy_from_slice(name);
        id = node.parent;
    }
    if at == buffer.len() {
        at -= 1;
        buffer[at] = b'/';
    }
    Ok(at)
}
