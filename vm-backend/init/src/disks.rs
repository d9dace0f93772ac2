//! Disks that the kernel has found, and their nodes in `/dev`.

use core::ffi::CStr;

use vm_abi::linux::steps;

use crate::mailbox::Failure;
use crate::sys;

/// Where nothing is.
const ENOENT: i32 = 2;
/// It is there.
const EEXIST: i32 = 17;
/// A block device, for root alone.
const BLOCK: usize = 0o060_600;
/// Where nodes are.
const FOLDER: &[u8] = b"/dev/";

/// `/proc/partitions`, as much of it as there is room for: a line takes about 30 bytes.
pub struct Partitions {
    text: [u8; 4096],
    len: usize,
}

impl Partitions {
    /// Reads it; `/proc` must be there.
    pub fn read() -> Result<Self, i32> {
        let mut own = Self { text: [0; 4096], len: 0 };
        let fd = sys::open(c"/proc/partitions", 0)? as i32;
        while let Some(rest) = own.text.get_mut(own.len..).filter(|rest| !rest.is_empty()) {
            match sys::read(fd, rest.as_mut_ptr(), rest.len()) {
                Ok(0) | Err(_) => break,
                Ok(n) => own.len += n,
            }
        }
        sys::close(fd);
        Ok(own)
    }

    /// Name, major and minor number of each. The drivers of disks have no numbers that are fixed.
    pub fn all(&self) -> impl Iterator<Item = (&[u8], u32, u32)> {
        // A head, an empty line, then a line each: major, minor, size, name.
        let text = self.text.get(..self.len).unwrap_or_default();
        text.split(|b| *b == b'\n').filter_map(|line| {
            let mut words = line.split(|b| *b == b' ').filter(|word| !word.is_empty());
            let (major, minor) = (number(words.next()?)?, number(words.next()?)?);
            Some((words.nth(1)?, major, minor))
        })
    }
}

/// Makes a node for each disk and each partition. The kernel would do that itself with devtmpfs, which ours is built without.
pub fn make_nodes() -> Result<(), Failure> {
    let failed = |errno| (steps::DISK, errno);
    let partitions = Partitions::read().map_err(failed)?;
    let mut found = false;
    for (name, major, minor) in partitions.all() {
        let mut path = [0; 64];
        // Names are shorter than 32 bytes (DISK_NAME_LEN).
        for (to, from) in path.iter_mut().zip(FOLDER.iter().chain(name)) {
            *to = *from;
        }
        let path = CStr::from_bytes_until_nul(&path).map_err(|_| failed(ENOENT))?;
        match sys::make_device(path, BLOCK, major, minor) {
            // A file of the root's own stays.
            Ok(_) | Err(EEXIST) => found = true,
            Err(errno) => return Err((steps::NODE, errno)),
        }
    }
    if found { Ok(()) } else { Err(failed(ENOENT)) }
}

fn number(digits: &[u8]) -> Option<u32> {
    digits.iter().try_fold(0u32, |n, digit| {
        let value = digit.wrapping_sub(b'0');
        (value < 10).then_some(())?;
        n.checked_mul(10)?.checked_add(value.into())
    })
}
