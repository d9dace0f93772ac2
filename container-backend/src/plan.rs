//! The steps of the child, worked out before any clone.
//!
//! A plan is a list of [`Op`]s with everything they need (C strings, flags, the compiled filter). The child only walks
//! the list. A step that fails is reported by its place in the list, and described here, in the caller.

use std::ffi::{CStr, CString};
use std::fmt;
use std::os::fd::RawFd;

use libc::sock_filter;

use crate::capabilities::CapData;
use crate::options::{Rlimit, User};
use crate::timeline::Phase;
use crate::veth::InnerEnd;

/// The most subtrees that one plan may hold open between [`Op::OpenTree`] and [`Op::MoveMount`].
pub(crate) const TREE_SLOTS: usize = 64;
/// The last one, in which a `/sys` waits for its root.
pub(crate) const SYS_SLOT: usize = TREE_SLOTS - 1;

/// One step of the child.
#[derive(Debug)]
pub(crate) enum Op {
    /// Notes the instant at which a phase has ended.
    Mark(Phase),
    /// Writes a small file of /proc in one write(2).
    WriteFile { path: &'static CStr, content: Vec<u8> },
    /// Moves the child itself into the groups whose `tasks` files the caller has opened for this instance.
    JoinGroups,
    /// unshare(2), for what cannot be asked of clone3 at once.
    Unshare(libc::c_int),
    /// sethostname(2).
    Hostname(Vec<u8>),
    /// open_tree(2) with `OPEN_TREE_CLONE`: a private copy of a mount or of one file of it, to be placed later.
    OpenTree { slot: usize, path: CString, recursive: bool },
    /// mount_setattr(2): adds attributes to the copy in a slot (it never removes one, so nothing locked is in the way).
    TreeAttributes { slot: usize, set: u64 },
    /// move_mount(2): places the copy. `follow` a link at the target only where no link leads outside: after the pivot.
    MoveMount { slot: usize, target: CString, follow: bool },
    /// move_mount(2): places the mount of the image's root that the caller has made for this start.
    PlaceImage { target: CString },
    /// mount(2).
    Mount {
        source: Option<CString>,
        target: CString,
        fstype: Option<&'static CStr>,
        flags: libc::c_ulong,
        data: Option<CString>,
    },
    /// A mount on what the kernel may not have: nothing is done then. What is mounted is there for certain.
    IfThere(Box<Self>),
    /// chdir(2).
    Chdir(CString),
    /// umask(2).
    Umask(libc::mode_t),
    /// mkdir(2). A directory that is there already will do.
    Mkdir { path: CString, mode: libc::mode_t },
    /// mknod(2): a device node, or an empty file to mount on. A file that is there already will do.
    Mknod { path: CString, mode: libc::mode_t, device: u32 },
    /// symlink(2).
    Symlink { target: &'static CStr, path: CString },
    /// Opens a directory of the host by its path (`O_PATH`) at the place of a descriptor that the caller keeps for it: so it can
    /// be named (/proc/self/fd/N) when its path is covered.
    OpenAt { path: CString, place: RawFd },
    /// fsopen(2) and fsmount(2): a new file system, to be placed later. For what may be mounted only while another such is seen.
    NewFileSystem { slot: usize, fstype: &'static CStr, attributes: libc::c_ulong },
    /// Brings the loopback device up.
    Loopback,
    /// Has the identity maps written by the [`aide`](crate::aide), and waits for it.
    AwaitMaps,
    /// Asks the aide for the veth pair, as early as there is a network namespace for it.
    AskLink,
    /// Waits for the veth pair.
    AwaitLink,
    /// Sets the inner end of the pair up.
    InnerEnd(InnerEnd),
    /// setrlimit(2).
    Rlimit(Rlimit),
    /// setgroups(2), setresgid(2), setresuid(2).
    BecomeUser { user: User, set_groups: bool },
    /// pivot_root(".", "."): the working directory becomes the root, the old root is stacked on top of it.
    PivotRoot,
    /// umount2(".", MNT_DETACH): takes the old root off the stack.
    DetachOldRoot,
    /// Enters namespaces that a [`Maker`](crate::beside::Maker) has made, where there is one.
    Enter(libc::c_int),
    /// setsid(2).
    NewSession,
    /// Takes capabilities out of the bounding set, one prctl(2) each.
    DropBounding(Vec<u32>),
    /// capset(2).
    Capabilities([CapData; 2]),
    /// `PR_SET_NO_NEW_PRIVS`.
    NoNewPrivs,
    /// `PR_SET_PDEATHSIG`, after the last change of credentials, which would clear it.
    DieWithCaller(bool),
    /// Ends the child if the caller has died before `DieWithCaller` could see it.
    CallerAlive,
    /// Puts this instance's descriptors in the places of stdin, stdout and stderr.
    Stdio,
    /// Marks every descriptor past stderr to be closed by exec.
    CloseOthers,
    /// Default dispositions and an empty signal mask.
    Signals,
    /// Installs the seccomp filter. Last: it also filters what comes after.
    Seccomp(Vec<sock_filter>),
}

impl fmt::Display for Op {
    /// The step as the end of the sentence "cannot ...".
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let show = |text: &CStr| text.to_string_lossy().into_owned();
        match self {
            Self::Mark(phase) => write!(f, "end the phase {}", phase.name()),
            Self::WriteFile { path, content } => {
                write!(f, "write {:?} to {}", String::from_utf8_lossy(content), show(path))
            }
            Self::JoinGroups => f.write_str("join the control group"),
            Self::Unshare(flags) => write!(f, "unshare (flags {flags:#x})"),
            Self::Hostname(name) => write!(f, "set the host name {:?}", String::from_utf8_lossy(name)),
            Self::OpenTree { path, .. } => write!(f, "clone the mount of {}", show(path)),
            Self::TreeAttributes { set, .. } => write!(f, "set mount attributes {set:#x}"),
            Self::MoveMount { target, .. } => write!(f, "place a mount on {}", show(target)),
            Self::PlaceImage { target } => write!(f, "place the image's root on {}", show(target)),
            Self::Mount { fstype: Some(fstype), target, .. } => {
                write!(f, "mount {} on {}", show(fstype), show(target))
            }
            Self::Mount { source: Some(source), target, .. } => {
                write!(f, "bind {} to {}", show(source), show(target))
            }
            Self::Mount { target, flags, .. } => {
                write!(f, "change the mount {} (flags {flags:#x})", show(target))
            }
            Self::IfThere(op) => op.fmt(f),
            Self::Chdir(path) => write!(f, "change to the directory {}", show(path)),
            Self::Umask(mask) => write!(f, "set the umask {mask:o}"),
            Self::Mkdir { path, .. } => write!(f, "make the directory {}", show(path)),
            Self::Mknod { path, .. } => write!(f, "make the node {}", show(path)),
            Self::Symlink { path, .. } => write!(f, "make the link {}", show(path)),
            Self::OpenAt { path, .. } => write!(f, "open the directory {}", show(path)),
            Self::NewFileSystem { fstype, .. } => write!(f, "make a file system {}", show(fstype)),
            Self::Loopback => f.write_str("bring the loopback device up"),
            Self::AwaitMaps => f.write_str("have the identity maps written"),
            Self::AskLink => f.write_str("ask for a veth pair"),
            Self::AwaitLink => f.write_str("have a veth pair made"),
            Self::InnerEnd(_) => f.write_str("set the inner end of the veth pair up"),
            Self::Rlimit(limit) => {
                let (soft, hard) = (limit_in_words(limit.soft), limit_in_words(limit.hard));
                write!(f, "set the resource limit {} to {soft}:{hard}", limit.name())
            }
            Self::BecomeUser { user, .. } => write!(f, "become user {}:{}", user.uid, user.gid),
            Self::PivotRoot => f.write_str("pivot to the new root"),
            Self::DetachOldRoot => f.write_str("detach the old root"),
            Self::Enter(libc::CLONE_NEWNET) => f.write_str("make a network namespace and enter it"),
            Self::Enter(_) => f.write_str("make a network namespace and one of mounts, and enter them"),
            Self::NewSession => f.write_str("start a new session"),
            Self::DropBounding(_) => f.write_str("drop capabilities from the bounding set"),
            Self::Capabilities(_) => f.write_str("set capabilities"),
            Self::NoNewPrivs => f.write_str("set no_new_privs"),
            Self::DieWithCaller(_) => f.write_str("set the parent death signal"),
            Self::CallerAlive => f.write_str("see whether the caller is alive"),
            Self::Stdio => f.write_str("place the standard streams"),
            Self::CloseOthers => f.write_str("mark descriptors close-on-exec"),
            Self::Signals => f.write_str("reset signals"),
            Self::Seccomp(filter) => write!(f, "install the seccomp filter ({} instructions)", filter.len()),
        }
    }
}

/// The file that says how readily the kernel kills a process when memory is short.
pub(crate) const OOM_SCORE: &CStr = c"/proc/self/oom_score_adj";

impl Op {
    /// For a step that was refused: what it takes, and what can be had without, as far as that can be told.
    pub(crate) fn takes(&self) -> Option<String> {
        const RIGHT: &str = "takes CAP_SYS_RESOURCE, outside of a user namespace: run as root, or ask for";
        let number = |path: &CStr| -> Option<i64> {
            std::fs::read_to_string(path.to_str().ok()?).ok()?.trim().parse().ok()
        };
        match self {
            Self::WriteFile { path, content } if *path == OOM_SCORE => {
                let wanted: i64 = str::from_utf8(content).ok()?.parse().ok()?;
                let present = number(path).filter(|&present| wanted < present)?;
                Some(format!("less than the {present} of now {RIGHT} {present} or more"))
            }
            Self::Rlimit(limit) => {
                let most = number(c"/proc/sys/fs/nr_open").filter(|_| limit.resource == libc::RLIMIT_NOFILE);
                let most = most.and_then(|most| u64::try_from(most).ok()).filter(|&most| limit.hard > most);
                if let Some(most) = most {
                    return Some(format!("fs.nr_open (sysctl) allows nobody more than {most}"));
                }
                let present = limit.present().filter(|present| limit.hard > present.hard)?.hard;
                Some(format!("more than the hard limit of now, {present}, {RIGHT} at most that"))
            }
            _ => None,
        }
    }
}

/// A resource limit's value.
fn limit_in_words(value: libc::rlim_t) -> String {
    if value == libc::RLIM_INFINITY { "unlimited".to_owned() } else { value.to_string() }
}
