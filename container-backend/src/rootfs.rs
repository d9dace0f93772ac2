//! The generated root: built by the child in memory, gone with its mount namespace, nothing on the host.
//!
//! ```text
//! /            tmpfs, read-only in the end
//! /program     the program, read-only bind mount (absent for a sealed one)
//! /proc        proc of the instance's own PID namespace
//! /dev/        null zero full random urandom tty
//! /tmp         the same tmpfs, writable, bounded
//! /sys         if asked for: read-only, of the instance's own network namespace
//! ```

use std::ffi::{CStr, CString};
use std::path::Path;

use crate::error::PrepareError;
use crate::options::{Bind, Proc};
use crate::plan::{Op, SYS_SLOT};
use crate::prepare::c_string;
use crate::steps::Mounts;
use crate::timeline::Phase;

/// The program's place in the root.
pub(crate) const PROGRAM: &CStr = c"/program";

/// The device nodes: name, major, minor (Documentation/admin-guide/devices.txt).
pub(crate) const DEVICES: [(&str, u32, u32); 6] =
    [("null", 1, 3), ("zero", 1, 5), ("full", 1, 7), ("random", 1, 8), ("urandom", 1, 9), ("tty", 5, 0)];

/// Directories that may carry the new root for a moment. Never /dev or /proc, which are still needed then.
const MOUNT_POINTS: [&str; 5] = ["/tmp", "/run", "/var/tmp", "/mnt", "/sys"];

/// The file mode of a device node that everyone may use, and of an empty file to mount on.
pub(crate) const NODE_MODE: libc::mode_t = libc::S_IFCHR | 0o666;
pub(crate) const FILE_MODE: libc::mode_t = libc::S_IFREG | 0o444;
/// The umask that the program gets: the usual one, not the caller's.
pub(crate) const UMASK: libc::mode_t = 0o022;
/// Most files in an instance's root: bounds the kernel memory that a program can take by making empty ones.
pub(crate) const FILES: u64 = 65_536;

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
    /// Files and folders of the host.
    pub(crate) binds: &'a [Bind],
    /// How /proc is protected.
    pub(crate) proc: Proc,
    /// Whether there is /dev/pts.
    pub(crate) terminals: bool,
    /// Whether there is a place for /sys.
    pub(crate) sys: bool,
    /// Whether the root is built before there is the child.
    pub(crate) apart: bool,
}

impl Root<'_> {
    /// The steps from the inherited mounts to a finished root.
    pub(crate) fn build(&self) -> Result<Mounts, PrepareError> {
        // Before anything is taken: a copy of a shared mount would be in the same group, and what is mounted over it in both.
        let mut ops = vec![change(c"/", libc::MS_REC | libc::MS_PRIVATE)];
        let mut place = Vec::new();
        // First what is taken from the host, while its paths can be reached: the new root is about to cover one of them.
        let mut slot = 0;
        let mut take = |from: CString, recursive, set: u64, to: CString| {
            ops.push(Op::OpenTree { slot, path: from, recursive });
            if set != 0 {
                ops.push(Op::TreeAttributes { slot, set });
            }
            place.push(Op::MoveMount { slot, target: to, follow: false });
            slot += 1;
        };
        if let Some(program) = self.program {
            let read_only = libc::MOUNT_ATTR_RDONLY | libc::MOUNT_ATTR_NOSUID | libc::MOUNT_ATTR_NODEV;
            take(c_string("the program's path", program)?, false, read_only, relative("program"));
        }
        let bind_proc = self.user_namespace && !self.own_pids;
        let read_only = self.proc == Proc::ReadOnly;
        if bind_proc {
            let set = if read_only { libc::MOUNT_ATTR_RDONLY } else { 0 };
            take(relative("/proc"), true, libc::MOUNT_ATTR_NOSUID | set, relative("proc"));
        }
        let mut points = Vec::new();
        for bind in self.binds {
            let (from, set, to) = bound(bind, &mut points)?;
            take(from, true, set, to);
        }
        if self.user_namespace {
            for (name, ..) in DEVICES {
                take(relative(&format!("/dev/{name}")), false, 0, relative(&format!("dev/{name}")));
            }
        }
        let mount_point = relative(mount_point()?);
        ops.push(Op::Mount {
            source: Some(relative("tmpfs")),
            target: mount_point.clone(),
            fstype: Some(c"tmpfs"),
            flags: libc::MS_NOSUID | libc::MS_NODEV,
            data: Some(relative(&format!("mode=755,size={},nr_inodes={FILES}", self.bytes))),
        });
        ops.extend([Op::Chdir(mount_point), Op::Umask(0)]);
        let sys = self.sys.then_some(("sys", 0o555));
        for (path, mode) in [("proc", 0o555), ("dev", 0o755), ("tmp", 0o1777)].into_iter().chain(sys) {
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
        ops.extend(points);
        if self.terminals {
            ops.extend(terminals_points());
        }
        ops.push(Op::Umask(UMASK));
        ops.extend(place);
        if self.terminals {
            ops.push(terminals(self.user_namespace));
        }
        let mut mounts = Mounts::default();
        if self.apart {
            mounts.early.push(new_proc(self.proc, slot));
            // The umask is not the namespace's: that of who has built the root is not the child's.
            mounts.late.push(Op::Umask(UMASK));
            mounts.late.extend(placed_proc(self.proc, slot));
        } else if !bind_proc {
            ops.push(Op::Mount {
                source: Some(relative("proc")),
                target: relative("proc"),
                fstype: Some(c"proc"),
                // Read-only: root inside is root of the host where there is no user namespace, and /proc/sys and
                // /proc/sysrq-trigger go by the user, not by capabilities.
                flags: PROC_FLAGS | if read_only { libc::MS_RDONLY } else { 0 },
                data: None,
            });
        }
        if !read_only && !self.apart {
            ops.extend(masks());
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
        ops.push(Op::Mark(Phase::Mounts));
        ops.extend(pivot());
        Ok(Mounts { root: ops, ..mounts })
    }
}

/// The steps from a finished root as the working directory to that root alone.
pub(crate) fn pivot() -> [Op; 3] {
    [Op::PivotRoot, Op::DetachOldRoot, Op::Chdir(relative("/"))]
}

/// A change of an existing mount's flags.
pub(crate) fn change(target: &CStr, flags: libc::c_ulong) -> Op {
    Op::Mount { source: None, target: CString::from(target), fstype: None, flags, data: None }
}

/// A C string from a text of ours, which has no zero byte in it.
pub(crate) fn relative(text: &str) -> CString {
    CString::new(text).unwrap_or_default()
}

/// A device number in the old encoding, which is the new one for majors below 4096 and minors below 256.
pub(crate) const fn device(major: u32, minor: u32) -> u32 {
    major << 8 | minor
}

pub(crate) fn mount_point() -> Result<&'static str, PrepareError> {
    MOUNT_POINTS
        .into_iter()
        .find(|path| std::fs::symlink_metadata(path).is_ok_and(|metadata| metadata.is_dir()))
        .ok_or_else(|| PrepareError::NoMountPoint { candidates: MOUNT_POINTS.join(", ") })
}

/// The flags of every mount of proc.
pub(crate) const PROC_FLAGS: libc::c_ulong = libc::MS_NOSUID | libc::MS_NODEV | libc::MS_NOEXEC;

/// A new proc, of the PID namespace of who makes it.
pub(crate) fn new_proc(proc: Proc, slot: usize) -> Op {
    let read_only = if proc == Proc::ReadOnly { libc::MOUNT_ATTR_RDONLY } else { 0 };
    let attributes = libc::MOUNT_ATTR_NOSUID | libc::MOUNT_ATTR_NODEV | libc::MOUNT_ATTR_NOEXEC | read_only;
    Op::NewFileSystem { slot, fstype: c"proc", attributes }
}

/// In the finished root: proc in its place, and protected.
pub(crate) fn placed_proc(proc: Proc, slot: usize) -> Vec<Op> {
    let mut ops = vec![Op::MoveMount { slot, target: relative("proc"), follow: true }];
    if proc == Proc::Masked {
        ops.extend(masks());
    }
    ops
}

/// What engines cover, and what they make read-only, in /proc (containers/common, `DefaultMaskedPaths`, `ReadonlyPaths`).
const MASKED_DIRS: [&str; 2] = ["acpi", "scsi"];
const MASKED_FILES: [&str; 6] =
    ["kcore", "keys", "latency_stats", "sched_debug", "timer_list", "timer_stats"];
const READ_ONLY: [&str; 6] = ["asound", "bus", "fs", "irq", "sys", "sysrq-trigger"];

/// Covers and protects paths of a /proc that can be written to. Which of them there are depends on the
/// kernel, and shows when they are mounted on.
fn masks() -> Vec<Op> {
    let target = |name: &str| relative(&format!("proc/{name}"));
    let mount = |source, target, fstype, flags, data| {
        Op::IfThere(Box::new(Op::Mount { source: Some(source), target, fstype, flags, data }))
    };
    let dirs = MASKED_DIRS.into_iter().map(|name| {
        let data = Some(relative("size=0,mode=555"));
        mount(relative("tmpfs"), target(name), Some(c"tmpfs"), PROC_FLAGS | libc::MS_RDONLY, data)
    });
    let null = relative("dev/null");
    let files =
        MASKED_FILES.into_iter().map(|name| mount(null.clone(), target(name), None, libc::MS_BIND, None));
    let read_only = READ_ONLY.into_iter().flat_map(|name| {
        let target = target(name);
        let read_only = libc::MS_REMOUNT | libc::MS_BIND | libc::MS_RDONLY | PROC_FLAGS;
        [
            mount(target.clone(), target.clone(), None, libc::MS_BIND | libc::MS_REC, None),
            Op::IfThere(Box::new(change(&target, read_only))),
        ]
    });
    dirs.chain(files).chain(read_only).collect()
}

/// What engines cover in /sys (containers/common, `DefaultMaskedPaths`).
const SYS_MASKED: [&str; 4] = ["dev/block", "devices/virtual/powercap", "firmware", "fs/selinux"];

/// Before the root is left in which the host's /sys is seen: a user namespace may make one only then. It shows the network
/// namespace of its maker, which with a user namespace the child is in from its beginning.
pub(crate) fn sys_early() -> Op {
    let attributes =
        libc::MOUNT_ATTR_NOSUID | libc::MOUNT_ATTR_NODEV | libc::MOUNT_ATTR_NOEXEC | libc::MOUNT_ATTR_RDONLY;
    Op::NewFileSystem { slot: SYS_SLOT, fstype: c"sysfs", attributes }
}

/// When the network namespace has been entered, in the finished root: /sys, the one that was made early or a new one.
pub(crate) fn sys(early: bool) -> Vec<Op> {
    let target = relative("/sys");
    let flags = PROC_FLAGS | libc::MS_RDONLY;
    let mount = |fstype: &'static CStr, target, data: Option<&str>| Op::Mount {
        source: Some(CString::from(fstype)),
        target,
        fstype: Some(fstype),
        flags,
        data: data.map(relative),
    };
    let mut ops = vec![if early {
        Op::MoveMount { slot: SYS_SLOT, target, follow: true }
    } else {
        mount(c"sysfs", target, None)
    }];
    // Which of them there are depends on the kernel alone, so the caller's own /sys tells.
    let there = |name: &&str| Path::new("/sys").join(name).is_dir();
    let covered = SYS_MASKED.into_iter().filter(there);
    ops.extend(
        covered.map(|name| mount(c"tmpfs", relative(&format!("/sys/{name}")), Some("size=0,mode=555"))),
    );
    ops
}

/// A bind: what is cloned from the host, with which attributes, and where it goes; the places to mount on join `points`.
/// Paths inside are relative to the root, which is the working directory when they are made.
pub(crate) fn bound(bind: &Bind, points: &mut Vec<Op>) -> Result<(CString, u64, CString), PrepareError> {
    let cannot = |source| PrepareError::Bind { path: bind.host.clone(), source };
    let host = std::fs::canonicalize(&bind.host).map_err(cannot)?;
    let is_dir = std::fs::metadata(&host).map_err(cannot)?.is_dir();
    let mut names = Vec::new();
    for component in bind.inside.components() {
        match component {
            std::path::Component::RootDir => {}
            std::path::Component::Normal(name) => names.push(name),
            _ => return Err(PrepareError::BindPlace { path: bind.inside.clone() }),
        }
    }
    if names.is_empty() {
        return Err(PrepareError::BindPlace { path: bind.inside.clone() });
    }
    let mut path = std::path::PathBuf::new();
    for (index, name) in names.iter().enumerate() {
        path.push(name);
        let path = c_string("a path to bind to", &path)?;
        points.push(if index + 1 < names.len() || is_dir {
            Op::Mkdir { path, mode: 0o755 }
        } else {
            Op::Mknod { path, mode: FILE_MODE, device: 0 }
        });
    }
    let read_only = if bind.read_only { libc::MOUNT_ATTR_RDONLY } else { 0 };
    let set = libc::MOUNT_ATTR_NOSUID | libc::MOUNT_ATTR_NODEV | read_only;
    Ok((c_string("a path to bind", host)?, set, c_string("a path to bind to", path)?))
}

/// The places of terminals below the working directory.
pub(crate) fn terminals_points() -> [Op; 2] {
    [
        Op::Mkdir { path: relative("dev/pts"), mode: 0o755 },
        Op::Symlink { target: c"pts/ptmx", path: relative("dev/ptmx") },
    ]
}

/// The mount of an instance's own terminals; group 5 owns them (tty), where there may be another group than the caller's.
pub(crate) fn terminals(user_namespace: bool) -> Op {
    let group = if user_namespace { "" } else { ",gid=5" };
    Op::Mount {
        source: Some(relative("devpts")),
        target: relative("dev/pts"),
        fstype: Some(c"devpts"),
        flags: libc::MS_NOSUID | libc::MS_NOEXEC,
        data: Some(relative(&format!("newinstance,ptmxmode=0666,mode=0620{group}"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn small(program: Option<&Path>, user_namespace: bool) -> Root<'_> {
        let (own_pids, bytes, binds, proc) = (true, 4096, &[], Proc::ReadOnly);
        let (terminals, sys, apart) = (false, false, false);
        Root { program, user_namespace, own_pids, bytes, binds, proc, terminals, sys, apart }
    }

    #[test]
    fn what_comes_from_the_host_is_taken_before_the_new_root_covers_it() {
        let program = Path::new("/tmp/program");
        let root = small(Some(program), true);
        let ops = root.build().expect("a Linux has a /tmp").root;
        let position = |wanted: fn(&Op) -> bool| ops.iter().position(wanted).expect("the step is there");
        let last_taken =
            ops.iter().rposition(|op| matches!(op, Op::OpenTree { .. })).expect("the program is taken");
        assert!(last_taken < position(|op| matches!(op, Op::Chdir(_))));
        assert!(!ops.iter().any(|op| matches!(op, Op::Mknod { device: 1.., .. })), "no device is made");
    }

    #[test]
    fn root_makes_its_own_device_nodes() {
        let root = small(None, false);
        let ops = root.build().expect("a Linux has a /tmp").root;
        let made = ops.iter().filter(|op| matches!(op, Op::Mknod { device: 1.., .. })).count();
        assert_eq!(made, DEVICES.len());
        assert!(!ops.iter().any(|op| matches!(op, Op::OpenTree { .. })));
    }
}
