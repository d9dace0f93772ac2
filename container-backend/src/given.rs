//! A root that somebody has given: a folder or an unpacked image, under a layer in memory that takes all changes.
//!
//! ```text
//! a moment's tmpfs     up/ work/ root/        on a directory of the host, gone with the pivot
//! root/                overlay: lower = the folder or image, upper = up/
//! then, inside         /dev (tmpfs: nodes, pts/, shm/), /proc, binds
//! ```
//!
//! Unlike the generated root, this one may hold anything, symbolic links at every place included. So nothing is mounted
//! below it before it is the root: a link then leads nowhere but inside.

use std::ffi::CString;
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};

use crate::error::PrepareError;
use crate::options::{Bind, Proc};
use crate::plan::Op;
use crate::prepare::c_string;
use crate::rootfs::{
    DEVICES, FILE_MODE, FILES, NODE_MODE, UMASK, bound, change, device, mount_point, new_proc, pivot,
    placed_proc, relative, terminals, terminals_points,
};
use crate::steps::Mounts;
use crate::timeline::Phase;

/// What lies below the layer of changes.
#[derive(Debug)]
pub(crate) enum Lower<'a> {
    /// A folder of the host, and a descriptor of it, whose place the child gives to its own.
    Folder(&'a Path, &'a OwnedFd),
    /// A file system in memory that no namespace has.
    Image(&'a OwnedFd),
    /// A file system in memory of which each start gets a mount.
    Mounted,
}

impl Lower<'_> {
    /// By which path it can be named when its own is covered.
    fn path(&self) -> String {
        match self {
            // The thread's own: that of one who builds the root beside the rest is not the process's.
            Self::Folder(_, fd) | Self::Image(fd) => format!("/proc/thread-self/fd/{}", fd.as_raw_fd()),
            Self::Mounted => "lower".to_owned(),
        }
    }
}

/// What the steps depend on.
#[derive(Debug)]
pub(crate) struct Given<'a> {
    pub(crate) lower: Lower<'a>,
    pub(crate) user_namespace: bool,
    pub(crate) own_pids: bool,
    pub(crate) bytes: u64,
    pub(crate) binds: &'a [Bind],
    pub(crate) proc: Proc,
    pub(crate) terminals: bool,
    /// Whether there are changes at all: without overlayfs the folder is seen as it is, read-only.
    pub(crate) overlay: bool,
    /// Whether there is to be a place for /sys.
    pub(crate) sys: bool,
}

impl Given<'_> {
    /// The steps from the inherited mounts to the finished root.
    pub(crate) fn build(&self) -> Result<Mounts, PrepareError> {
        // Private before anything is taken: a copy of a shared mount would be in the same group, and what is mounted over it in both.
        let mut root = vec![change(c"/", libc::MS_REC | libc::MS_PRIVATE)];
        let mut slot = 0;
        let mut place = Vec::new();
        let mut take = |root: &mut Vec<Op>, from: CString, recursive, set: u64, to: CString| {
            root.push(Op::OpenTree { slot, path: from, recursive });
            if set != 0 {
                root.push(Op::TreeAttributes { slot, set });
            }
            place.push(Op::MoveMount { slot, target: to, follow: true });
            slot += 1;
        };
        let mut points = Vec::new();
        for bind in self.binds {
            let (from, set, to) = bound(bind, &mut points)?;
            take(&mut root, from, true, set, to);
        }
        if self.user_namespace {
            for (name, ..) in DEVICES {
                take(
                    &mut root,
                    relative(&format!("/dev/{name}")),
                    false,
                    0,
                    relative(&format!("dev/{name}")),
                );
            }
        }
        let proc_slot = slot;
        // proc is made while the host's is seen, and placed when links cannot lead outside.
        let mut early = Vec::new();
        if self.user_namespace && !self.own_pids {
            let read_only = if self.proc == Proc::ReadOnly { libc::MOUNT_ATTR_RDONLY } else { 0 };
            root.push(Op::OpenTree { slot: proc_slot, path: relative("/proc"), recursive: true });
            root.push(Op::TreeAttributes { slot: proc_slot, set: libc::MOUNT_ATTR_NOSUID | read_only });
        } else {
            early.push(new_proc(self.proc, proc_slot));
        }
        self.root(&mut root)?;
        root.push(Op::Mark(Phase::Mounts));
        root.extend(pivot());
        let mut late = vec![Op::Umask(0)];
        self.devices(&mut late);
        late.extend(points);
        late.extend([Op::Mkdir { path: relative("proc"), mode: 0o555 }]);
        if self.sys {
            late.push(Op::Mkdir { path: relative("sys"), mode: 0o555 });
        }
        late.push(Op::Umask(UMASK));
        // proc before the binds, one of which may lie in it.
        late.extend(placed_proc(self.proc, proc_slot));
        late.extend(place);
        if self.terminals {
            late.push(terminals(self.user_namespace));
        }
        Ok(Mounts { early, root, late })
    }

    /// From the host's mounts to the new root as the working directory.
    fn root(&self, ops: &mut Vec<Op>) -> Result<(), PrepareError> {
        if let Lower::Folder(path, fd) = self.lower {
            ops.push(Op::OpenAt { path: c_string("the root's path", path)?, place: fd.as_raw_fd() });
        }
        let lower = self.lower.path();
        let mount_point = relative(mount_point()?);
        if !self.overlay {
            let flags = libc::MS_BIND | libc::MS_REC;
            let (source, target) = (Some(relative(&lower)), mount_point.clone());
            ops.extend([
                match self.lower {
                    Lower::Mounted => Op::PlaceImage { target },
                    _ => Op::Mount { source, target, fstype: None, flags, data: None },
                },
                change(
                    &mount_point,
                    libc::MS_REMOUNT | libc::MS_BIND | libc::MS_RDONLY | libc::MS_NOSUID | libc::MS_NODEV,
                ),
                Op::Chdir(mount_point),
            ]);
            return Ok(());
        }
        ops.extend([
            Op::Mount {
                source: Some(relative("tmpfs")),
                target: mount_point.clone(),
                fstype: Some(c"tmpfs"),
                flags: libc::MS_NOSUID | libc::MS_NODEV,
                data: Some(relative(&format!("mode=755,size={},nr_inodes={FILES}", self.bytes))),
            },
            Op::Chdir(mount_point),
        ]);
        ops.extend(["up", "work", "root"].map(|name| Op::Mkdir { path: relative(name), mode: 0o755 }));
        if matches!(self.lower, Lower::Mounted) {
            ops.push(Op::Mkdir { path: relative("lower"), mode: 0o755 });
            ops.push(Op::PlaceImage { target: relative("lower") });
        }
        let user = if self.user_namespace { ",userxattr" } else { "" };
        ops.extend([
            Op::Mount {
                source: Some(relative("overlay")),
                target: relative("root"),
                fstype: Some(c"overlay"),
                flags: libc::MS_NODEV,
                data: Some(relative(&format!("lowerdir={lower},upperdir=up,workdir=work{user}"))),
            },
            Op::Chdir(relative("root")),
        ]);
        Ok(())
    }

    /// /dev, whatever the given root holds there.
    fn devices(&self, ops: &mut Vec<Op>) {
        ops.push(Op::Mkdir { path: relative("dev"), mode: 0o755 });
        ops.push(Op::Mount {
            source: Some(relative("tmpfs")),
            target: relative("dev"),
            fstype: Some(c"tmpfs"),
            flags: libc::MS_NOSUID | libc::MS_NOEXEC,
            data: Some(relative(&format!("mode=755,size={},nr_inodes={FILES}", self.bytes))),
        });
        for (name, major, minor) in DEVICES {
            let path = relative(&format!("dev/{name}"));
            ops.push(if self.user_namespace {
                Op::Mknod { path, mode: FILE_MODE, device: 0 }
            } else {
                Op::Mknod { path, mode: NODE_MODE, device: device(major, minor) }
            });
        }
        ops.push(Op::Mkdir { path: relative("dev/shm"), mode: 0o1777 });
        for (target, path) in [
            (c"/proc/self/fd", "dev/fd"),
            (c"/proc/self/fd/0", "dev/stdin"),
            (c"/proc/self/fd/1", "dev/stdout"),
            (c"/proc/self/fd/2", "dev/stderr"),
        ] {
            ops.push(Op::Symlink { target, path: relative(path) });
        }
        if self.terminals {
            ops.extend(terminals_points());
        }
    }
}

/// Finds a program in a root that somebody has given, as the kernel will from inside: links lead nowhere but within it, and what is
/// bound covers what was there.
pub(crate) fn find_inside(
    root: &OwnedFd,
    binds: &[Bind],
    program: &Path,
    path: &str,
    workdir: &Path,
) -> Option<PathBuf> {
    let workdir = Path::new("/").join(workdir);
    let is_there = |candidate: &Path| {
        let bound =
            binds.iter().rev().find_map(|bind| Some((bind, candidate.strip_prefix(&bind.inside).ok()?)));
        if let Some((bind, rest)) = bound {
            // Joined to nothing, the path of a file would end with a slash.
            return bind.host.components().chain(rest.components()).collect::<PathBuf>().exists();
        }
        crate::image::open_in_root(root, candidate, libc::O_PATH).is_ok()
    };
    if program.components().count() > 1 || program.is_absolute() {
        let full = workdir.join(program);
        return is_there(&full).then_some(full);
    }
    path.split(':').map(|dir| workdir.join(dir).join(program)).find(|candidate| is_there(candidate))
}
