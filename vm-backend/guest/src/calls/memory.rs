//! Memory: mmap and its kin over [`crate::heap`].
//!
//! Protection is accepted and not enforced: all memory of the regions can be read, written and executed by the one
//! program there is. The program's own segments do have the rights that they were linked with.

use crate::errno::{EBADF, EEXIST, EINVAL, ENODEV, ENOMEM, Result};
use crate::vfs::fd::{self, Target};
use crate::vfs::{Kind, file_entry, nodes};
use crate::{heap, port, user};
use vm_abi::{PAGE, op};

const PROT_NONE: u64 = 0;
const MAP_SHARED: u64 = 1;
const MAP_PRIVATE: u64 = 2;
const MAP_FIXED: u64 = 0x10;
const MAP_ANONYMOUS: u64 = 0x20;
const MAP_FIXED_NOREPLACE: u64 = 0x10_0000;

/// mmap(2): anonymous memory, and private copies of files.
pub fn mmap(at: u64, len: u64, prot: u64, flags: u64, file: u64, offset: u64) -> Result {
    if len == 0 || !offset.is_multiple_of(PAGE) || flags & (MAP_SHARED | MAP_PRIVATE) == 0 {
        return Err(EINVAL);
    }
    let len = heap::pages(len)?;
    let contents = if flags & MAP_ANONYMOUS == 0 { Some(contents(file, flags, prot)?) } else { None };
    let backed = prot != PROT_NONE || contents.is_some();
    let start = if flags & (MAP_FIXED | MAP_FIXED_NOREPLACE) != 0 {
        if flags & MAP_FIXED_NOREPLACE != 0 && !heap::is_free(at, len) {
            return Err(EEXIST);
        }
        heap::map_fixed(at, len, backed)?
    } else {
        heap::map(len, backed)?
    };
    if let Some((data, size)) = contents {
        let n = size.saturating_sub(offset).min(len);
        user::copy(start, data.wrapping_add(offset), n);
    }
    Ok(start)
}

/// Address and size of what a file holds.
fn contents(file: u64, flags: u64, prot: u64) -> Result<(u64, u64)> {
    const PROT_WRITE: u64 = 2;
    let d = fd::get(file).map_err(|_| EBADF)?;
    match fd::kind(d.target) {
        // Written back to nowhere: a shared writable mapping cannot be honest here.
        Kind::File(index) if flags & MAP_SHARED == 0 || prot & PROT_WRITE == 0 => {
            let entry = file_entry(index);
            Ok((entry.data, entry.size))
        }
        Kind::Memory if flags & MAP_SHARED == 0 || prot & PROT_WRITE == 0 => match d.target {
            Target::Node(id) => Ok(nodes().get(id).contents()),
            Target::Stream(_) => Err(ENODEV),
        },
        Kind::Zero => Ok((0, 0)),
        _ => Err(ENODEV),
    }
}

/// mprotect(2).
pub fn mprotect(at: u64, len: u64, prot: u64) -> Result {
    if !at.is_multiple_of(PAGE) {
        return Err(EINVAL);
    }
    if prot == PROT_NONE { Ok(0) } else { heap::make_accessible(at, len) }
}

/// mremap(2).
pub fn mremap(at: u64, old: u64, new: u64, flags: u64) -> Result {
    const MREMAP_MAYMOVE: u64 = 1;
    if flags & !MREMAP_MAYMOVE != 0 {
        return Err(EINVAL);
    }
    heap::remap(at, old, new, flags & MREMAP_MAYMOVE != 0)
}

/// madvise(2) and msync(2): MADV_DONTNEED empties, MADV_HUGEPAGE is passed on to the host, everything else is advice.
pub fn madvise(number: u64, at: u64, len: u64, advice: u64) -> Result {
    const MSYNC: u64 = 26;
    const MADV_DONTNEED: u64 = 4;
    const MADV_HUGEPAGE: u64 = 14;
    if !at.is_multiple_of(PAGE) {
        return Err(EINVAL);
    }
    if number == MSYNC || !matches!(advice, MADV_DONTNEED | MADV_HUGEPAGE) {
        return Ok(0);
    }
    let end = at.checked_add(heap::pages(len)?).ok_or(EINVAL)?;
    if !heap::holds(at, end) {
        return Err(ENOMEM);
    }
    if advice == MADV_HUGEPAGE {
        // The guest's own pages are large here, and count for nothing where the host's below them are small.
        return port::call(op::LARGE_PAGES, [at, end - at, 0, 0]);
    }
    heap::clear(at, end);
    Ok(0)
}
