//! Identity maps of a user namespace.

use crate::plan::Op;

/// The steps by which the child maps itself: the caller's user and group are these inside (0 but where another was asked for), nothing else exists.
///
/// The child writes its own maps (the caller is suspended), which an ordinary user may do for exactly one ID, its own,
/// and for a group only after giving up setgroups(2) (user_namespaces(7)).
pub(crate) fn single(inside_uid: u32, inside_gid: u32) -> [Op; 3] {
    // SAFETY: both take nothing and cannot fail.
    let (uid, gid) = unsafe { (libc::geteuid(), libc::getegid()) };
    [
        Op::WriteFile { path: c"/proc/self/setgroups", content: b"deny".to_vec() },
        Op::WriteFile { path: c"/proc/self/uid_map", content: format!("{inside_uid} {uid} 1").into_bytes() },
        Op::WriteFile { path: c"/proc/self/gid_map", content: format!("{inside_gid} {gid} 1").into_bytes() },
    ]
}
