//! A disk as the program's root: read-only, under a layer of changes in memory.

use vm_abi::linux::steps;

use crate::disks::Partitions;
use crate::mailbox::Failure;
use crate::sys::{self, Text};

/// What may be on it: the first that the kernel knows, and finds there.
const KINDS: [&Text; 5] = [c"ext4", c"squashfs", c"erofs", c"xfs", c"btrfs"];
/// The kernel does not know that file system; it is another one.
const ENODEV: i32 = 19;
const EINVAL: i32 = 22;
/// Where nothing is.
const ENOENT: i32 = 2;
/// It is there.
const EEXIST: i32 = 17;

/// Goes there. What is below the old root stays below `/`, out of reach.
pub fn enter() -> Result<(), Failure> {
    let failed = |errno| (steps::MOUNT, errno);
    let (major, minor) = disk().ok_or((steps::DISK, ENOENT))?;
    const BLOCK: usize = 0o060_600;
    sys::make_device(c"/dev/disk", BLOCK, major, minor).map_err(|e| (steps::DISK, e))?;
    let mut result = Err(ENODEV);
    for kind in KINDS {
        result = sys::mount(c"/dev/disk", c"/disk", kind, sys::READ_ONLY, c"");
        // Of another file system they say EINVAL, of none that they know of ENODEV: the last word that is neither counts.
        if !matches!(result, Err(ENODEV | EINVAL)) {
            break;
        }
    }
    result.map_err(failed)?;
    sys::mount(c"layer", c"/layer", c"tmpfs", 0, c"mode=755").map_err(failed)?;
    for folder in [c"/layer/changes", c"/layer/work"] {
        sys::make_folder(folder, 0o755).map_err(failed)?;
    }
    let layers = c"lowerdir=/disk,upperdir=/layer/changes,workdir=/layer/work";
    sys::mount(c"overlay", c"/new", c"overlay", 0, layers).map_err(failed)?;
    for (folder, mode) in [(c"/new/dev", 0o755), (c"/new/proc", 0o555), (c"/new/tmp", 0o1777)] {
        match sys::make_folder(folder, mode) {
            Ok(_) | Err(EEXIST) => {}
            Err(errno) => return Err(failed(errno)),
        }
    }
    sys::mount(c"dev", c"/new/dev", c"tmpfs", sys::NO_EXEC, c"mode=755").map_err(failed)?;
    const CHARACTERS: usize = 0o020_666;
    for (path, minor) in [
        (c"/new/dev/null", 3),
        (c"/new/dev/zero", 5),
        (c"/new/dev/full", 7),
        (c"/new/dev/random", 8),
        (c"/new/dev/urandom", 9),
    ] {
        sys::make_device(path, CHARACTERS, 1, minor).map_err(failed)?;
    }
    sys::change_folder(c"/new").map_err(failed)?;
    sys::mount(c".", c"/", c"", sys::MOVE, c"").map_err(failed)?;
    sys::change_root(c".").map_err(failed)?;
    sys::change_folder(c"/").map_err(failed).map(drop)
}

/// The number of the first disk of virtio-blk.
fn disk() -> Option<(u32, u32)> {
    sys::ignore(sys::mount(c"proc", c"/proc", c"proc", sys::NO_SUID | sys::NO_EXEC, c""));
    let partitions = Partitions::read().ok()?;
    partitions.all().find(|(name, ..)| *name == b"vda").map(|(_, major, minor)| (major, minor))
}
