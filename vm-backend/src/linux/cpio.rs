//! A writer of the archive format that initramfs is (Documentation/driver-api/early-userspace/buffer-format.rst: "newc").

use std::collections::BTreeSet;
use std::path::Path;

use super::error::LinuxError;

const MAGIC: &[u8] = b"070701";
const TRAILER: &[u8] = b"TRAILER!!!";
/// Header, name and data each begin at a multiple of this.
const ALIGN: usize = 4;
const S_IFDIR: u32 = 0o040_000;
const S_IFREG: u32 = 0o100_000;
const S_IFCHR: u32 = 0o020_000;
const S_IFLNK: u32 = 0o120_000;

/// An archive under construction. All files belong to root and are as old as the epoch, so that the same contents give the
/// same bytes.
#[derive(Debug, Default)]
pub struct Archive {
    bytes: Vec<u8>,
    inode: u32,
    names: BTreeSet<Vec<u8>>,
}

/// Why something cannot be added.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AddError {
    /// There is something of that name.
    Twice,
    /// More than 4 GiB.
    TooLarge,
}

impl AddError {
    /// What cannot be added is this.
    pub(super) fn at(self, path: &Path) -> LinuxError {
        let path = path.to_owned();
        match self {
            Self::Twice => LinuxError::Twice { path },
            Self::TooLarge => LinuxError::FileTooLarge { path },
        }
    }
}

impl Archive {
    /// Nothing in it.
    pub fn new() -> Self {
        Self::default()
    }

    fn entry(&mut self, name: &[u8], mode: u32, device: (u32, u32), size: u32) {
        self.inode += 1;
        let name_size = u32::try_from(name.len() + 1).unwrap_or(u32::MAX);
        // ino mode uid gid nlink mtime filesize devmajor devminor rdevmajor rdevminor namesize check
        let fields = [self.inode, mode, 0, 0, 1, 0, size, 0, 0, device.0, device.1, name_size, 0];
        self.bytes.extend_from_slice(MAGIC);
        for field in fields {
            self.bytes.extend_from_slice(format!("{field:08x}").as_bytes());
        }
        self.bytes.extend_from_slice(name);
        self.bytes.push(0);
        self.pad();
    }

    fn pad(&mut self) {
        self.bytes.resize(self.bytes.len().next_multiple_of(ALIGN), 0);
    }

    /// The name as the archive has it, and the folders above it, made where they are missing.
    fn place(&mut self, path: &[u8]) -> Result<Vec<u8>, AddError> {
        let parts: Vec<&[u8]> = path.split(|b| *b == b'/').filter(|p| !p.is_empty() && *p != b".").collect();
        let name = parts.join(&b'/');
        if self.names.contains(&name) {
            return Err(AddError::Twice);
        }
        for depth in 1..parts.len() {
            let folder = parts[..depth].join(&b'/');
            if self.names.insert(folder.clone()) {
                self.entry(&folder, S_IFDIR | 0o755, (0, 0), 0);
            }
        }
        self.names.insert(name.clone());
        Ok(name)
    }

    /// Adds a folder.
    ///
    /// # Errors
    /// There is something of that name.
    pub fn folder(&mut self, path: &[u8], mode: u32) -> Result<(), AddError> {
        let name = self.place(path)?;
        self.entry(&name, S_IFDIR | mode, (0, 0), 0);
        Ok(())
    }

    /// Adds a character device.
    ///
    /// # Errors
    /// There is something of that name.
    pub fn device(&mut self, path: &[u8], mode: u32, major: u32, minor: u32) -> Result<(), AddError> {
        let name = self.place(path)?;
        self.entry(&name, S_IFCHR | mode, (major, minor), 0);
        Ok(())
    }

    /// Adds a file.
    ///
    /// # Errors
    /// There is something of that name, or the contents are too large.
    pub fn file(&mut self, path: &[u8], mode: u32, contents: &[u8]) -> Result<(), AddError> {
        let size = u32::try_from(contents.len()).map_err(|_| AddError::TooLarge)?;
        let name = self.place(path)?;
        self.entry(&name, S_IFREG | mode, (0, 0), size);
        self.bytes.extend_from_slice(contents);
        self.pad();
        Ok(())
    }

    /// Adds a symbolic link.
    ///
    /// # Errors
    /// There is something of that name.
    pub fn link(&mut self, path: &[u8], target: &[u8]) -> Result<(), AddError> {
        let size = u32::try_from(target.len()).map_err(|_| AddError::TooLarge)?;
        let name = self.place(path)?;
        self.entry(&name, S_IFLNK | 0o777, (0, 0), size);
        self.bytes.extend_from_slice(target);
        self.pad();
        Ok(())
    }

    /// Whether there is something of that name, without a slash at either end.
    pub fn has(&self, name: &[u8]) -> bool {
        self.names.contains(name)
    }

    /// Bytes so far.
    pub fn size(&self) -> u64 {
        self.bytes.len() as u64
    }

    /// The whole archive.
    pub fn finish(mut self) -> Vec<u8> {
        self.entry(TRAILER, 0, (0, 0), 0);
        self.bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_archive_is_what_the_format_says() {
        let mut archive = Archive::new();
        archive.file(b"/a", 0o644, b"xyz").unwrap();
        let bytes = archive.finish();
        let head = "07070100000001000081a4000000000000000000000001000000000000000300000000000000000000000000000000\
                    0000000200000000a\0";
        // 110 bytes of header and 2 of name: a multiple of 4 already.
        assert_eq!(std::str::from_utf8(&bytes[..112]).unwrap(), head);
        assert_eq!(&bytes[112..116], b"xyz\0");
        assert!(bytes[116..].starts_with(MAGIC) && bytes.ends_with(b"TRAILER!!!\0\0\0\0"));
        assert_eq!(bytes.len() % ALIGN, 0);
    }

    #[test]
    fn folders_on_the_way_are_made_once() {
        let mut archive = Archive::new();
        archive.file(b"/usr/bin/a", 0o755, b"").unwrap();
        archive.file(b"usr//bin/./b", 0o755, b"").unwrap();
        let text = String::from_utf8(archive.finish()).unwrap();
        assert_eq!(text.matches("usr\0").count(), 1);
        assert_eq!(text.matches("usr/bin\0").count(), 1);
        assert_eq!(text.matches("usr/bin/b\0").count(), 1);
    }

    #[test]
    fn nothing_is_there_twice() {
        let mut archive = Archive::new();
        archive.file(b"/a", 0o755, b"").unwrap();
        assert_eq!(archive.file(b"a", 0o755, b""), Err(AddError::Twice));
    }
}
