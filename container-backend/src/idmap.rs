//! Identity maps of a user namespace: one number, or the ranges that /etc/subuid and /etc/subgid give the caller.

use std::io;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::plan::Op;

/// Which users and groups there are in a user namespace.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum IdMaps {
    /// [`IdMaps::Ranges`] where the root is given, whose files may belong to several users, and the host has what that takes;
    /// [`IdMaps::Single`] otherwise. [`Prepared::id_maps`](crate::Prepared::id_maps) says what was taken, and why.
    #[default]
    Auto,
    /// The caller alone, as 0 or as whom the program runs. Costs three writes.
    Single,
    /// The caller as 0, and from 1 on the numbers that /etc/subuid and /etc/subgid give it, by newuidmap(1) and newgidmap(1).
    /// Costs the run of two programs at each start.
    Ranges,
}

/// The steps by which the child maps itself: the caller's user and group are these inside (0 but where another was asked for), nothing else exists.
///
/// The child writes its own maps (the caller is suspended), which an ordinary user may do for exactly one ID, its own,
/// and for a group only after giving up setgroups(2) (user_namespaces(7)).
pub(crate) fn single(inside_uid: u32, inside_gid: u32) -> [Op; 3] {
    let (uid, gid) = caller();
    [
        Op::WriteFile { path: c"/proc/self/setgroups", content: b"deny".to_vec() },
        Op::WriteFile { path: c"/proc/self/uid_map", content: format!("{inside_uid} {uid} 1").into_bytes() },
        Op::WriteFile { path: c"/proc/self/gid_map", content: format!("{inside_gid} {gid} 1").into_bytes() },
    ]
}

/// The caller's user and group.
pub(crate) fn caller() -> (u32, u32) {
    // SAFETY: both take nothing and cannot fail.
    unsafe { (libc::geteuid(), libc::getegid()) }
}

/// The maps of several numbers, which a program of the host writes that may do so.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Ranges {
    users: (PathBuf, Vec<String>),
    groups: (PathBuf, Vec<String>),
}

impl Ranges {
    /// What the host gives the caller, or why it gives nothing.
    pub(crate) fn find() -> Result<Self, String> {
        let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
        let (uid, gid) = caller();
        let name = name_of(uid, &read("/etc/passwd"));
        let one = |program: &str, file: &str, own: u32| {
            let found = find_program(program).ok_or_else(|| format!("{program} is not installed"))?;
            let ranges = ranges_of(uid, name.as_deref(), &read(file));
            if ranges.is_empty() {
                let name = name.clone().unwrap_or_else(|| uid.to_string());
                return Err(format!("{file} gives {name} nothing"));
            }
            Ok((found, arguments(own, &ranges)))
        };
        Ok(Self {
            users: one("newuidmap", "/etc/subuid", uid)?,
            groups: one("newgidmap", "/etc/subgid", gid)?,
        })
    }

    /// Writes the maps of the user namespace that `child` is in.
    pub(crate) fn write(&self, child: i32) -> io::Result<()> {
        for (program, arguments) in [&self.users, &self.groups] {
            let done =
                Command::new(program).arg(child.to_string()).args(arguments).stdin(Stdio::null()).output()?;
            if !done.status.success() {
                let said = String::from_utf8_lossy(&done.stderr);
                return Err(io::Error::other(format!("{}: {}", program.display(), said.trim())));
            }
        }
        Ok(())
    }

    /// The users, as newuidmap(1) is told: inside, outside, how many; and so on.
    pub(crate) fn users(&self) -> String {
        let threes = self.users.1.chunks(3).map(|three| three.join(" "));
        threes.collect::<Vec<_>>().join(", ")
    }
}

/// The caller as 0, the ranges from 1 on.
fn arguments(own: u32, ranges: &[(u32, u32)]) -> Vec<String> {
    let mut arguments = vec![(0, own, 1)];
    let mut next = 1_u32;
    for &(start, count) in ranges {
        arguments.push((next, start, count));
        next = next.saturating_add(count);
    }
    arguments
        .into_iter()
        .flat_map(|(inside, outside, count)| [inside, outside, count])
        .map(|n| n.to_string())
        .collect()
}

/// The lines of a file like /etc/subuid (`name-or-number:start:count`) that are for this user.
fn ranges_of(uid: u32, name: Option<&str>, text: &str) -> Vec<(u32, u32)> {
    let number = uid.to_string();
    let own = |line: &str| {
        let mut fields = line.trim().split(':');
        let owner = fields.next()?;
        let (start, count) = (fields.next()?.parse().ok()?, fields.next()?.parse().ok()?);
        ((owner == number || Some(owner) == name) && count > 0).then_some((start, count))
    };
    text.lines().filter_map(own).collect()
}

fn name_of(uid: u32, passwd: &str) -> Option<String> {
    passwd.lines().find_map(|line| {
        let mut fields = line.split(':');
        let name = fields.next()?;
        (fields.nth(1)?.parse() == Ok(uid)).then(|| name.to_owned())
    })
}

fn find_program(name: &str) -> Option<PathBuf> {
    let path = std::env::var("PATH").unwrap_or_default();
    let usual = ["/usr/local/bin", "/usr/bin", "/bin"];
    path.split(':')
        .chain(usual)
        .map(|dir| Path::new(dir).join(name))
        .find(|path| path.is_absolute() && path.is_file())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_ranges_of_a_user_are_found_by_name_and_by_number() {
        let text = "other:1:2\nme:100000:65536\n1000:300000:10\nbroken\nme:x:1\nme:5:0\n";
        assert_eq!(ranges_of(1000, Some("me"), text), [(100_000, 65_536), (300_000, 10)]);
        assert_eq!(ranges_of(1001, None, text), []);
        assert_eq!(name_of(1000, "root:x:0:0::/:\nme:x:1000:1000::/:/bin/sh\n").as_deref(), Some("me"));
        assert_eq!(name_of(7, "root:x:0:0::/:\n"), None);
    }

    #[test]
    fn the_caller_is_0_and_the_ranges_follow() {
        let arguments = arguments(1000, &[(100_000, 65_536), (300_000, 10)]);
        assert_eq!(arguments.join(" "), "0 1000 1 1 100000 65536 65537 300000 10");
    }
}
