//! stat(2) and its kin.

use super::path;
use crate::errno::Result;
use crate::vfs::fd::{self, Target};
use crate::vfs::{Kind, NodeId, file_entry, nodes};
use crate::{boot, user};

/// Do not follow a link at the end.
pub const AT_SYMLINK_NOFOLLOW: u64 = 0x100;
const AT_EMPTY_PATH: u64 = 0x1000;
const S_IFCHR: u32 = 0o020_000;
const S_IFDIR: u32 = 0o040_000;
const S_IFREG: u32 = 0o100_000;
const S_IFLNK: u32 = 0o120_000;

/// What both structures tell.
struct Attributes {
    inode: u64,
    mode: u32,
    size: u64,
    /// Major and minor number of a device.
    device: (u32, u32),
}

/// A stream cannot be sought in, so a file of the host behind it is a pipe to the program.
fn stream_mode(stream: u8) -> u32 {
    const S_IFMT: u32 = 0o170_000;
    const S_IFIFO: u32 = 0o010_000;
    let mode = boot!(stdio_mode)[usize::from(stream) % 3];
    if mode & S_IFMT == S_IFREG { mode & !S_IFMT | S_IFIFO } else { mode }
}

fn of_target(target: Target) -> Attributes {
    let inode = match target {
        Target::Stream(n) => 0x1_0000 + u64::from(n),
        Target::Node(id) => u64::from(id.0) + 1,
    };
    // Device numbers: Documentation/admin-guide/devices.txt of Linux.
    let (mode, size, device) = match fd::kind(target) {
        Kind::Stream(n) => {
            (stream_mode(n), 0, if boot!(stdio_tty)[usize::from(n) % 3] != 0 { (136, 0) } else { (0, 0) })
        }
        Kind::Null => (S_IFCHR | 0o666, 0, (1, 3)),
        Kind::Zero => (S_IFCHR | 0o666, 0, (1, 5)),
        Kind::Full => (S_IFCHR | 0o666, 0, (1, 7)),
        Kind::Random => (S_IFCHR | 0o666, 0, (1, 9)),
        Kind::SelfExe => (S_IFLNK | 0o777, 0, (0, 0)),
        Kind::File(index) => {
            let entry = file_entry(index);
            (S_IFREG | entry.mode as u32, entry.size, (0, 0))
        }
        Kind::Directory | Kind::Memory | Kind::Free => match target {
            Target::Node(id) => {
                let node = nodes().get(id);
                let kind = if node.kind == Kind::Directory { S_IFDIR } else { S_IFREG };
                (kind | node.mode, node.size, (0, 0))
            }
            Target::Stream(_) => (0, 0, (0, 0)),
        },
    };
    Attributes { inode, mode, size, device }
}

/// `struct stat` of x86-64 (arch/x86/include/uapi/asm/stat.h); times are zero, they are not kept.
fn write_stat(to: u64, a: &Attributes) {
    let rdev = u64::from(a.device.0) << 8 | u64::from(a.device.1);
    let mut words = [0u64; 18];
    words[0] = 1;
    words[1] = a.inode;
    words[2] = 1;
    words[3] = u64::from(a.mode);
    words[5] = rdev;
    words[6] = a.size;
    words[7] = 4096;
    words[8] = a.size.div_ceil(512);
    user::write(to, words);
}

/// fstat(2).
pub fn of_fd(fd: u64, to: u64) -> Result {
    write_stat(to, &of_target(fd::get(fd)?.target));
    Ok(0)
}

fn target_at(dir: u64, address: u64, flags: u64) -> Result<Target> {
    if flags & AT_EMPTY_PATH != 0 && (address == 0 || user::read::<u8>(address) == 0) {
        return Ok(if dir as i32 == path::AT_FDCWD as i32 {
            Target::Node(path::working_directory())
        } else {
            fd::get(dir)?.target
        });
    }
    let id: NodeId = if flags & AT_SYMLINK_NOFOLLOW != 0 {
        let path = path::Path::read(address)?;
        crate::vfs::walk(path::start(dir, &path)?, path.as_slice())?.node.ok_or(crate::errno::ENOENT)?
    } else {
        path::node(dir, address)?
    };
    Ok(Target::Node(id))
}

/// stat(2), lstat(2), newfstatat(2).
pub fn at(dir: u64, address: u64, to: u64, flags: u64) -> Result {
    write_stat(to, &of_target(target_at(dir, address, flags)?));
    Ok(0)
}

/// statx(2): the basic fields (include/uapi/linux/stat.h).
pub fn statx(dir: u64, address: u64, flags: u64, to: u64) -> Result {
    const STATX_BASIC: u32 = 0x7ff;
    let a = of_target(target_at(dir, address, flags)?);
    let mut words = [0u32; 64];
    words[0] = STATX_BASIC;
    words[1] = 4096;
    words[4] = 1;
    words[7] = a.mode & 0xffff;
    words[8] = a.inode as u32;
    words[10] = a.size as u32;
    words[11] = (a.size >> 32) as u32;
    words[12] = a.size.div_ceil(512) as u32;
    (words[32], words[33]) = a.device;
    user::write(to, words);
    Ok(0)
}
