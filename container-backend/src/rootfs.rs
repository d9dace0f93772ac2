//! The generated root: built by the child in memory, gone with its mount namespace, nothing on the host.
//!
//! ```text
//! /            tmpfs, read-only in the end
//! /program     the program, read-only bind mount (absent for a sealed one)
//! /proc        proc of the instance's own PID namespace
//! /dev/        null zero full random urandom tty
//! /tmp         the same tmpfs, writable, bounded
//! ```

use std::ffi::{CStr, CString};
use std::path::Path;

use crate::error::PrepareError;
use crate::plan::Op;
use crate::prepare::c_string;

/// The program's place in the root.
pub(crate) const PROGRAM: &CStr = c"/program";

/// The device nodes: name, major, minor (Documentation/admin-guide/devices.txt).
const DEVICES: [(&str, u32, u32); 6] =
    [("null", 1, 3), ("zero", 1, 5), ("full", 1, 7), ("random", 1, 8), ("urandom", 1, 9), ("tty", 5, 0)];

/// Directories that may carry the new root for a moment. Never /dev or /proc, which are still needed then.
const MOUNT_POINTS: [&str; 5] = ["/tmp", "/run", "/var/tmp", "/mnt", "/sys"];

/// The file mode of a device node that everyone may use, and of an empty file to mount on.
const NODE_MODE: libc::mode_t = libc::S_IFCHR | 0o666;
const FILE_MODE: libc::mode_t = libc::S_IFREG | 0o444;
/// The umask that the program gets: the usual one, not the caller's.
const UMASK: libc::mode_t = 0o022;
/// Most files in an instance's root: bounds the kernel memory that a program can take by making empty ones.
const FILES: u64 = 65_536;

/// What the root depends on.
pub(crate) struct Root<'a> {
    /// The program to bind, if it has a path.
    pub(crate) program: Option<&'a Path>,
    /// In a user namespace mknod(2) is refused: the host's nodes are bound instead.
    pub(crate) user_namespace: bool,
    /// Without a PID namespace of its own, an ordinary user may not mount proc: the host's is bound.
    pub(crate) own_pids: bool,
    /// The file system's size.
    pub(crate) bytes: u64,
}

impl Root<'_> {
    /// The steps from the inherited mounts to a finished root as the working directory.
    pub(crate) fn build(&self) -> Result<Vec<Op>, PrepareError> {
        let mut ops = Vec::new();
        let mut place = Vec::new();
        // First what is taken from the host, while its paths can be reached: the new root is about to cover one of them.
        let mut slot = 0;
        let mut take = |from: CString, recursive, set: u64, to: CString| {
            ops.push(Op::OpenTree { slot, path: from, recursive });
            if set != 0 {
                ops.push(Op::TreeAttributes { slot, set });
            }
            place.push(Op::MoveMount { slot, target: to });
            slot += 1;
        };
        if let Some(program) = self.program {
            let read_only = libc::MOUNT_ATTR_RDONLY | libc::MOUNT_ATTR_NOSUID | libc::MOUNT_ATTR_NODEV;
            take(c_string("the program's path", program)?, false, read_only, relative("program"));
        }
        let bind_proc = self.user_namespace && !self.own_pids;
        if bind_proc {
            take(
                relative("/proc"),
                true,
                libc::MOUNT_ATTR_NOSUID | libc::MOUNT_ATTR_RDONLY,
                relative("proc"),
            );
        }
        if self.user_namespace {
            for (name, ..) in DEVICES {
                take(relative(&format!("/dev/{name}")), false, 0, relative(&format!("dev/{name}")));
            }
        }
        let mount_point = relative(mount_point()?);
        ops.push(change(c"/", libc::MS_REC | libc::MS_PRIVATE));
        ops.push(Op::Mount {
            source: Some(relative("tmpfs")),
            target: mount_point.clone(),
            fstype: Some(c"tmpfs"),
            flags: libc::MS_NOSUID | libc::MS_NODEV,
            data: Some(relative(&format!("mode=755,size={},nr_inodes={FILES}", self.bytes))),
        });
        ops.extend([Op::Chdir(mount_point), Op::Umask(0)]);
        for (path, mode) in [("proc", 0o555), ("dev", 0o755), ("tmp", 0o1777)] {
            ops.push(Op::Mkdir { path: relative(path), mode });
        }
        for (name, major, minor) in DEVICES {
            let path = relative(&format!("dev/{name}"));
            ops.push(if self.user_namespace {
                Op::Mknod { path, mode: FILE_MODE, device: 0 }
            } else {
                Op::Mknod { path, mode: NODE_MODE, device: device(major, minor) }
            });
        }
        if self.program.is_some() {
            ops.push(Op::Mknod { path: relative("program"), mode: FILE_MODE, device: 0 });
        }
        ops.push(Op::Umask(UMASK));
        ops.extend(place);
        if !bind_proc {
            ops.push(Op::Mount {
                source: Some(relative("proc")),
                target: relative("proc"),
                fstype: Some(c"proc"),
                // Read-only: root inside is root of the host where there is no user namespace, and /proc/sys and
                // /proc/sysrq-trigger go by the user, not by capabilities.
                flags: libc::MS_NOSUID | libc::MS_NODEV | libc::MS_NOEXEC | libc::MS_RDONLY,
                data: None,
            });
        }
        // /tmp is a part of the same file system, mounted once more: it stays writable (and without devices) when the mount
        // of the root is made read-only.
        ops.push(Op::Mount {
            source: Some(relative("tmp")),
            target: relative("tmp"),
            fstype: None,
            flags: libc::MS_BIND,
            data: None,
        });
        // Without MS_NODEV from here on, so that the nodes in /dev work. Nobody can make one on a read-only mount.
        let nodev = if self.user_namespace { libc::MS_NODEV } else { 0 };
        ops.push(change(c".", libc::MS_REMOUNT | libc::MS_BIND | libc::MS_RDONLY | libc::MS_NOSUID | nodev));
        Ok(ops)
    }
}

/// The steps from a finished root as the working directory to that root alone.
pub(crate) fn pivot() -> [Op; 3] {
    [Op::PivotRoot, Op::DetachOldRoot, Op::Chdir(relative("/"))]
}

/// A change of an existing mount's flags.
fn change(target: &CStr, flags: libc::c_ulong) -> Op {
    Op::Mount { source: None, target: CString::from(target), fstype: None, flags, data: None }
}

/// A C string from a text of ours, which has no zero byte in it.
fn relative(text: &str) -> CString {
    CString::new(text).unwrap_or_default()
}

/// A device number in the old encoding, which is the new one for majors below 4096 and minors below 256.
const fn device(major: u32, minor: u32) -> u32 {
    major << 8 | minor
}

fn mount_point() -> Result<&'static str, PrepareError> {
    MOUNT_POINTS
        .into_iter()
        .find(|path| std::fs::symlink_metadata(path).is_ok_and(|metadata| metadata.is_dir()))
        .ok_or_else(|| PrepareError::NoMountPoint { candidates: MOUNT_POINTS.join(", ") })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_comes_from_the_host_is_taken_before_the_new_root_covers_it() {
        let program = Path::new("/tmp/program");
        let root = Root { program: Some(program), user_namespace: true, own_pids: true, bytes: 4096 };
        let ops = root.build().expect("a Linux has a /tmp");
        let position = |wanted: fn(&Op) -> bool| ops.iter().position(wanted).expect("the step is there");
        let last_taken =
            ops.iter().rposition(|op| matches!(op, Op::OpenTree { .. })).expect("the program is taken");
        assert!(last_taken < position(|op| matches!(op, Op::Chdir(_))));
        assert!(!ops.iter().any(|op| matches!(op, Op::Mknod { device: 1.., .. })), "no device is made");
    }

    #[test]
    fn root_makes_its_own_device_nodes() {
        let root = Root { program: None, user_namespace: false, own_pids: true, bytes: 4096 };
        let ops = root.build().expect("a Linux has a /tmp");
        let made = ops.iter().filter(|op| matches!(op, Op::Mknod { device: 1.., .. })).count();
        assert_eq!(made, DEVICES.len());
        assert!(!ops.iter().any(|op| matches!(op, Op::OpenTree { .. })));
    }
}
