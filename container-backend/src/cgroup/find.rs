//! Which control group hierarchies the host has, and where the caller is in each.

use std::borrow::Cow;
use std::fs;
use std::path::{Path, PathBuf};

use crate::cgroup::read_whole;

/// Which version of control groups a hierarchy is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Version {
    V1,
    V2,
}

/// What a host's control groups look like as a whole.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Kind {
    /// None mounted.
    None,
    /// Only the old hierarchies, one for some controllers each.
    V1,
    /// Only the one new hierarchy.
    V2,
    /// The old ones for (some) controllers, and the new one beside them.
    Hybrid,
}

impl Kind {
    /// The name in tables.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::V1 => "v1",
            Self::V2 => "v2",
            Self::Hybrid => "hybrid",
        }
    }
}

/// One mounted hierarchy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Hierarchy {
    pub(crate) version: Version,
    /// Where its root (or the part of it that is visible) is mounted.
    pub(crate) mount: PathBuf,
    /// The caller's own group.
    pub(crate) own: PathBuf,
    /// Of v1, by mount option; of v2, by `cgroup.controllers` of the caller's group.
    pub(crate) controllers: Vec<String>,
}

/// The control group hierarchies of the host, as the calling process sees them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Hierarchies {
    pub(crate) all: Vec<Hierarchy>,
}

impl Hierarchies {
    /// Looks at `/proc/self/mountinfo` and `/proc/self/cgroup`.
    ///
    /// # Errors
    ///
    /// If one of the two cannot be read.
    pub fn find() -> std::io::Result<Self> {
        let mountinfo = read("/proc/self/mountinfo")?;
        let own = read("/proc/self/cgroup")?;
        let mut found = Self::parse(&mountinfo, &own);
        for hierarchy in found.all.iter_mut().filter(|h| h.version == Version::V2) {
            hierarchy.controllers = words(&hierarchy.own.join("cgroup.controllers"));
        }
        Ok(found)
    }

    /// What the hierarchies are together.
    #[must_use]
    pub fn kind(&self) -> Kind {
        let has = |version| self.all.iter().any(|h| h.version == version);
        match (has(Version::V1), has(Version::V2)) {
            (false, false) => Kind::None,
            (true, false) => Kind::V1,
            (false, true) => Kind::V2,
            (true, true) => Kind::Hybrid,
        }
    }

    /// The hierarchy that has `controller`; each controller is in one at most.
    pub(crate) fn with_controller(&self, controller: &str) -> Option<&Hierarchy> {
        self.all.iter().find(|h| h.controllers.iter().any(|c| c == controller))
    }

    fn parse(mountinfo: &str, own: &str) -> Self {
        let mut all: Vec<Hierarchy> = Vec::new();
        for line in mountinfo.lines() {
            // 31 23 0:28 ROOT MOUNTPOINT OPTIONS [TAGS...] - FSTYPE SOURCE SUPER_OPTIONS (proc_pid_mountinfo(5))
            let Some((left, right)) = line.split_once(" - ") else { continue };
            let mut right = right.split(' ');
            let Some(fstype @ ("cgroup" | "cgroup2")) = right.next() else { continue };
            let mut left = left.split(' ').skip(3);
            let (Some(root), Some(mount)) = (left.next(), left.next()) else { continue };
            let (version, controllers, path) = match fstype {
                "cgroup2" => (Version::V2, Vec::new(), own_path(own, "")),
                _ => {
                    // Among the mount options, the controllers are those that /proc/self/cgroup knows.
                    let options: Vec<&str> = right.nth(1).map(|o| o.split(',').collect()).unwrap_or_default();
                    let Some((names, path)) = own_v1(own, &options) else { continue };
                    (Version::V1, names, Some(path))
                }
            };
            let (Some(path), mount) = (path, unescape(mount)) else { continue };
            // A mount may show only a part of the hierarchy; the own group must lie within it.
            let root = unescape(root);
            let Ok(inside) = Path::new(&path).strip_prefix(&*root) else { continue };
            let mount = PathBuf::from(&*mount);
            let own = mount.join(inside);
            if !all.iter().any(|h| h.version == version && h.controllers == controllers) {
                all.push(Hierarchy { version, mount, own, controllers });
            }
        }
        Self { all }
    }
}

/// Reads a file that the kernel writes as it is read, with room for all of it at once: each call would wait anew for who
/// is mounting.
fn read(path: &str) -> std::io::Result<String> {
    const ROOM: usize = 16 << 10;
    read_whole(fs::File::open(path)?, ROOM)
}

/// The caller's path in the hierarchy with this controller list (empty: v2), from lines like `4:memory:/path`.
fn own_path(own: &str, controllers: &str) -> Option<String> {
    own.lines().find_map(|line| {
        let mut parts = line.splitn(3, ':');
        let (_id, names, path) = (parts.next()?, parts.next()?, parts.next()?);
        (names == controllers).then(|| path.to_owned())
    })
}

/// Controllers and path of the v1 hierarchy that is mounted with these options.
fn own_v1(own: &str, options: &[&str]) -> Option<(Vec<String>, String)> {
    own.lines().find_map(|line| {
        let mut parts = line.splitn(3, ':');
        let (_id, names, path) = (parts.next()?, parts.next()?, parts.next()?);
        let all_there = !names.is_empty() && names.split(',').all(|name| options.contains(&name));
        all_there.then(|| (names.split(',').map(str::to_owned).collect(), path.to_owned()))
    })
}

/// Undoes the octal escapes of mountinfo (`\040` for a space).
fn unescape(text: &str) -> Cow<'_, str> {
    if !text.contains('\\') {
        return text.into();
    }
    ["\\040", "\\011", "\\012", "\\134"]
        .into_iter()
        .zip([" ", "\t", "\n", "\\"])
        .fold(text.to_owned(), |text, (escaped, plain)| text.replace(escaped, plain))
        .into()
}

/// The words of a small file; none if it cannot be read.
pub(crate) fn words(path: &Path) -> Vec<String> {
    fs::read_to_string(path)
        .map(|text| text.split_whitespace().map(str::to_owned).collect())
        .unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    const HYBRID: &str = "\
27 1 254:0 / / rw - ext4 /dev/vda rw
31 23 0:28 / /sys/fs/cgroup rw,relatime - tmpfs tmpfs rw,mode=755
32 31 0:29 / /sys/fs/cgroup/cpu rw,relatime - cgroup cgroup rw,cpu,cpuacct
35 31 0:32 / /sys/fs/cgroup/memory rw shared:9 - cgroup cgroup rw,memory
41 31 0:38 / /sys/fs/cgroup/unified rw,relatime - cgroup2 cgroup2 rw
";

    #[test]
    fn a_hybrid_host_shows_each_hierarchy_with_the_callers_own_group() {
        let found = Hierarchies::parse(HYBRID, "4:memory:/a/b\n1:cpu,cpuacct:/\n0::/session\n");
        assert_eq!(found.kind(), Kind::Hybrid);
        assert_eq!(
            found.with_controller("memory").map(|h| h.own.clone()),
            Some("/sys/fs/cgroup/memory/a/b".into())
        );
        assert_eq!(found.with_controller("cpu").map(|h| h.own.clone()), Some("/sys/fs/cgroup/cpu/".into()));
        assert!(found.with_controller("pids").is_none());
        assert_eq!(found.all.last().map(|h| h.own.clone()), Some("/sys/fs/cgroup/unified/session".into()));
    }

    #[test]
    fn a_mount_that_shows_a_part_of_the_hierarchy_is_seen_through() {
        let mountinfo = "50 40 0:38 /docker/x /sys/fs/cgroup ro - cgroup2 cgroup rw\n";
        let found = Hierarchies::parse(mountinfo, "0::/docker/x/leaf\n");
        assert_eq!(found.kind(), Kind::V2);
        assert_eq!(found.all.first().map(|h| h.own.clone()), Some("/sys/fs/cgroup/leaf".into()));
        assert_eq!(Hierarchies::parse(mountinfo, "0::/elsewhere\n").kind(), Kind::None);
    }

    #[test]
    fn no_groups_and_broken_lines_are_no_error() {
        assert_eq!(Hierarchies::parse("", "").kind(), Kind::None);
        assert_eq!(Hierarchies::parse("1 2\n - \nx - cgroup\n", "::\n4\n").kind(), Kind::None);
    }
}
