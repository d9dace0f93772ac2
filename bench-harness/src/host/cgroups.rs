//! Which kind of control groups this host has, by looking at what is mounted.

use std::fs;

/// `v1`, `v2` or `hybrid` (v1 controllers beside a mounted v2); `None` where there is none.
#[must_use]
pub fn layout() -> Option<String> {
    layout_in(&fs::read_to_string("/proc/self/mounts").ok()?).map(str::to_owned)
}

/// Whether the mounted v2 hierarchy favours dynamic modifications; `None` where none is mounted.
#[must_use]
pub fn favordynmods() -> Option<bool> {
    favordynmods_in(&fs::read_to_string("/proc/self/mounts").ok()?)
}

fn favordynmods_in(mounts: &str) -> Option<bool> {
    let mount = mounts.lines().find(|line| line.split(' ').nth(2) == Some("cgroup2"))?;
    Some(mount.split(' ').nth(3)?.split(',').any(|option| option == "favordynmods"))
}

fn layout_in(mounts: &str) -> Option<&'static str> {
    let has = |kind: &str| mounts.lines().any(|line| line.split(' ').nth(2) == Some(kind));
    match (has("cgroup"), has("cgroup2")) {
        (true, true) => Some("hybrid"),
        (true, false) => Some("v1"),
        (false, true) => Some("v2"),
        (false, false) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_layout_is_told_from_the_mounts() {
        let (v1, v2) = ("cgroup /sys/fs/cgroup/cpu cgroup rw 0 0\n", "none /sys/fs/cgroup cgroup2 rw 0 0\n");
        assert_eq!(layout_in(v1), Some("v1"));
        assert_eq!(layout_in(v2), Some("v2"));
        assert_eq!(layout_in(&format!("{v1}{v2}")), Some("hybrid"));
        assert_eq!(layout_in("proc /proc proc rw 0 0\n"), None);
        assert_eq!(favordynmods_in(v2), Some(false));
        assert_eq!(favordynmods_in("none /sys/fs/cgroup cgroup2 rw,favordynmods 0 0\n"), Some(true));
        assert_eq!(favordynmods_in(v1), None);
    }
}
