//! Bounds on what is read from and written to a device.

use std::io;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::Path;

/// A bound on the use of one block device. `None` sets no bound.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct IoLimit {
    /// The device's major and minor number; a whole device, not a part of one.
    pub device: (u32, u32),
    /// Bytes read, a second.
    pub read_bytes: Option<u64>,
    /// Bytes written, a second.
    pub written_bytes: Option<u64>,
    /// Reads, a second.
    pub reads: Option<u64>,
    /// Writes, a second.
    pub writes: Option<u64>,
}

impl IoLimit {
    /// No bound yet on the device at `path`, or on the one that holds the file at `path`.
    ///
    /// # Errors
    ///
    /// If there is nothing at `path`, or it is on no block device.
    pub fn of(path: impl AsRef<Path>) -> io::Result<Self> {
        let metadata = std::fs::metadata(path)?;
        let number = if metadata.file_type().is_block_device() { metadata.rdev() } else { metadata.dev() };
        let (major, minor) = (libc::major(number), libc::minor(number));
        let device = whole(major, minor)
            .ok_or_else(|| io::Error::new(io::ErrorKind::NotFound, "it is on no block device"))?;
        Ok(Self { device, read_bytes: None, written_bytes: None, reads: None, writes: None })
    }

    /// `PATH:WHAT=N[,WHAT=N...]`, WHAT being `rbps`, `wbps`, `riops` or `wiops` as in cgroup v2's `io.max`.
    ///
    /// # Errors
    ///
    /// Says what is wrong with it.
    pub fn parse(text: &str) -> Result<Self, String> {
        let (path, bounds) =
            text.rsplit_once(':').ok_or("PATH:WHAT=N is needed, WHAT being rbps, wbps, riops or wiops")?;
        let mut limit = Self::of(path).map_err(|error| format!("{path}: {error}"))?;
        for bound in bounds.split(',') {
            let (what, number) = bound.split_once('=').ok_or_else(|| format!("{bound:?} is no WHAT=N"))?;
            let place = match what {
                "rbps" => &mut limit.read_bytes,
                "wbps" => &mut limit.written_bytes,
                "riops" => &mut limit.reads,
                "wiops" => &mut limit.writes,
                _ => return Err(format!("{what:?} is none of rbps, wbps, riops, wiops")),
            };
            *place = Some(
                number.parse().ok().filter(|&n| n > 0).ok_or_else(|| format!("{number:?} is no number"))?,
            );
        }
        Ok(limit)
    }

    /// The bounds that are set: their names in v2's `io.max` and v1's files, and values.
    pub(crate) fn bounds(&self) -> impl Iterator<Item = (&'static str, &'static std::ffi::CStr, u64)> {
        [
            ("rbps", c"blkio.throttle.read_bps_device", self.read_bytes),
            ("wbps", c"blkio.throttle.write_bps_device", self.written_bytes),
            ("riops", c"blkio.throttle.read_iops_device", self.reads),
            ("wiops", c"blkio.throttle.write_iops_device", self.writes),
        ]
        .into_iter()
        .filter_map(|(v2, v1, value)| Some((v2, v1, value?)))
    }
}

/// The device that this one is, or is a part of; `None` if it is no block device (as those of file systems in memory).
fn whole(major: u32, minor: u32) -> Option<(u32, u32)> {
    let path = Path::new("/sys/dev/block").join(format!("{major}:{minor}"));
    if !path.exists() {
        return None;
    }
    if !path.join("partition").exists() {
        return Some((major, minor));
    }
    let number = std::fs::read_to_string(path.canonicalize().ok()?.parent()?.join("dev")).ok()?;
    let (major, minor) = number.trim().split_once(':')?;
    Some((major.parse().ok()?, minor.parse().ok()?))
}

/// The sum over all devices of what v2's `io.stat` says of `key`: lines like `8:0 rbytes=1 wbytes=2`.
pub(crate) fn sum_v2(text: &str, key: &str) -> u64 {
    let value = |word: &str| word.split_once('=').filter(|(name, _)| *name == key)?.1.parse::<u64>().ok();
    text.split_whitespace().filter_map(value).sum()
}

/// The same of v1's `blkio.throttle.io_service_bytes`: lines like `8:0 Read 1`.
pub(crate) fn sum_v1(text: &str, key: &str) -> u64 {
    let value = |line: &str| {
        let mut words = line.split_whitespace().skip(1);
        (words.next() == Some(key)).then(|| words.next()?.parse::<u64>().ok())?
    };
    text.lines().filter_map(value).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_read_and_written_is_summed_over_devices() {
        let v2 = "8:0 rbytes=10 wbytes=1 rios=1\n254:0 rbytes=5 wbytes=2\n";
        assert_eq!((sum_v2(v2, "rbytes"), sum_v2(v2, "wbytes")), (15, 3));
        let v1 = "8:0 Read 10\n8:0 Write 1\n254:0 Read 5\nTotal 16\n";
        assert_eq!((sum_v1(v1, "Read"), sum_v1(v1, "Write"), sum_v1("", "Read")), (15, 1, 0));
    }

    #[test]
    fn a_bound_is_of_a_device() {
        assert!(IoLimit::parse("/proc:rbps=1").is_err(), "it is in memory");
        assert!(IoLimit::parse("/nowhere:rbps=1").is_err());
        assert!(IoLimit::parse("rbps=1").is_err());
        let Ok(limit) = IoLimit::parse("/usr:rbps=1000,wiops=7") else { return };
        assert_eq!((limit.read_bytes, limit.written_bytes, limit.writes), (Some(1000), None, Some(7)));
        assert_eq!(limit.bounds().map(|bound| bound.0).collect::<Vec<_>>(), ["rbps", "wiops"]);
        for wrong in ["/usr:x=1", "/usr:rbps=0", "/usr:rbps", "/usr:"] {
            assert!(IoLimit::parse(wrong).is_err(), "{wrong}");
        }
    }
}
