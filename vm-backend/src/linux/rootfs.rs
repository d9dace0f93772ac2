//! The user's own root: what it is, and a folder of the host copied into the initramfs.

use std::ffi::OsStr;
use std::fs::{self, File, FileType};
use std::io::{self, Read};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileExt, FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

use super::config::Root;
use super::cpio::{AddError, Archive};
use super::error::LinuxError;
use crate::error::Error;
use crate::vm::open;

/// What marks a file system: offset, bytes (the superblocks in Documentation/filesystems and the kernel's own sources).
const FILE_SYSTEMS: [(u64, &[u8]); 5] = [
    // ext2 to ext4, squashfs, erofs, xfs, btrfs
    (0x438, &[0x53, 0xef]),
    (0, b"hsqs"),
    (1024, &[0xe2, 0xe1, 0xf5, 0xe0]),
    (0, b"XFSB"),
    (0x1_0040, b"_BHRfS_M"),
];

impl Root {
    /// The root that this path of the host is: a folder, or an image of a disk with a file system on it; `None` for other files.
    ///
    /// # Errors
    /// It cannot be looked at.
    pub fn of(path: &Path) -> io::Result<Option<Self>> {
        let meta = fs::metadata(path)?;
        if meta.is_dir() {
            return Ok(Some(Self::Folder(path.to_owned())));
        }
        // Opening a pipe would wait for whoever writes to it.
        if !meta.is_file() {
            return Ok(None);
        }
        let file = File::open(path)?;
        let marked = FILE_SYSTEMS.iter().any(|(offset, mark)| {
            let mut bytes = vec![0; mark.len()];
            file.read_exact_at(&mut bytes, *offset).is_ok() && bytes == *mark
        });
        Ok(marked.then(|| Self::Disk(path.to_owned())))
    }

    /// The absolute path of a program that is called by this name in the root: a path is taken from `/` on, a mere name is looked for
    /// in the folders of `search`, which are parted by colons as in PATH. What is on a disk cannot be seen from here, and neither can a name in a folder that does not have it:
    /// `None`.
    #[must_use]
    pub fn find(&self, name: &OsStr, search: &str) -> Option<PathBuf> {
        if name.as_bytes().contains(&b'/') {
            return Some(Path::new("/").join(name));
        }
        let Self::Folder(folder) = self else { return None };
        search.split(':').map(|place| Path::new("/").join(place).join(name)).find(|path| {
            let inside = path.strip_prefix("/").unwrap_or(path);
            // Links may lead to places that exist only inside.
            folder.join(inside).symlink_metadata().is_ok()
        })
    }
}

/// Adds everything in a folder, in the order of its names. What is in the archive already stays as it is; devices, sockets
/// and pipes of the host are left out, as is what is mounted below the folder, and every file belongs to root.
///
/// # Errors
/// A file cannot be read or is too large, or all of them together are larger than `limit` bytes.
pub fn add(archive: &mut Archive, folder: &Path, limit: u64) -> Result<(), Error> {
    let failed = Error::file("read", folder);
    let top = fs::metadata(folder).map_err(&failed)?;
    if !top.is_dir() {
        return Err(failed(io::ErrorKind::NotADirectory.into()));
    }
    let mut pending = vec![folder.to_owned()];
    while let Some(path) = pending.pop() {
        let inside = path.strip_prefix(folder).unwrap_or(Path::new("")).as_os_str().as_bytes().to_vec();
        let failed = Error::file("read", &path);
        let not_added = |error: AddError| error.at(&path);
        let meta = fs::symlink_metadata(&path).map_err(&failed)?;
        let (kind, mode) = (meta.file_type(), meta.mode() & 0o7777);
        if path == folder || kind.is_dir() {
            if !inside.is_empty() && !archive.has(&inside) {
                archive.folder(&inside, mode).map_err(not_added)?;
            }
            // Another file system's (/proc, a home) is not this root's; a container sees the empty folder, too.
            if meta.dev() != top.dev() && path != folder {
                continue;
            }
            // Taken from the end.
            let mut entries = fs::read_dir(&path)
                .and_then(|entries| entries.map(|e| Ok(e?.path())).collect::<io::Result<Vec<PathBuf>>>())
                .map_err(failed)?;
            entries.sort_unstable_by(|a, b| b.cmp(a));
            pending.append(&mut entries);
            continue;
        }
        if left_out(kind) || archive.has(&inside) {
            continue;
        }
        if archive.size().saturating_add(meta.len()) > limit {
            return Err(LinuxError::RootTooLarge { path: folder.to_owned(), limit: limit >> 20 }.into());
        }
        if kind.is_symlink() {
            let target = fs::read_link(&path).map_err(failed)?;
            archive.link(&inside, target.as_os_str().as_bytes()).map_err(not_added)?;
        } else {
            // What a file says to be its size is read of it, however much a log of the kernel, or one that grows, has for more.
            let (file, size) = open(&path, false)?;
            let mut contents = Vec::new();
            file.take(size).read_to_end(&mut contents).map_err(failed)?;
            archive.file(&inside, mode, &contents).map_err(not_added)?;
        }
    }
    Ok(())
}

fn left_out(kind: FileType) -> bool {
    kind.is_block_device() || kind.is_char_device() || kind.is_socket() || kind.is_fifo()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn folders_files_and_links_are_copied_and_nothing_is_followed() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        fs::create_dir_all(path("usr/bin")).unwrap();
        fs::write(path("usr/bin/tool"), "contents").unwrap();
        std::os::unix::fs::symlink("usr/bin", path("bin")).unwrap();
        std::os::unix::fs::symlink("/etc/shadow", path("secret")).unwrap();
        drop(std::os::unix::net::UnixListener::bind(path("socket")).unwrap());
        fs::create_dir(path("dev")).unwrap();
        fs::write(path("dev/null"), "not a device").unwrap();
        let mut archive = Archive::new();
        archive.folder(b"dev", 0o755).unwrap();
        archive.device(b"dev/null", 0o666, 1, 3).unwrap();
        add(&mut archive, folder.path(), 1 << 20).unwrap();
        let text = String::from_utf8_lossy(&archive.finish()).into_owned();
        for there in ["usr/bin/tool\0", "contents", "bin\0", "secret\0", "/etc/shadow"] {
            assert!(text.contains(there), "{there}");
        }
        for not_there in ["socket\0", "not a device", "root:"] {
            assert!(!text.contains(not_there), "{not_there}");
        }
    }

    #[test]
    fn a_root_is_a_folder_or_a_file_system_and_nothing_else() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("image");
        assert_eq!(Root::of(folder.path()).unwrap(), Some(Root::Folder(folder.path().to_owned())));
        assert!(Root::of(&path).is_err());
        for (contents, expected) in [
            (&b""[..], None),
            (b"a tar, perhaps", None),
            (b"hsqs....", Some(Root::Disk(path.clone()))),
            (&[&[0; 0x438][..], &[0x53, 0xef]].concat(), Some(Root::Disk(path.clone()))),
        ] {
            fs::write(&path, contents).unwrap();
            assert_eq!(Root::of(&path).unwrap(), expected);
        }
        let pipe = folder.path().join("pipe");
        nix::unistd::mkfifo(&pipe, nix::sys::stat::Mode::S_IRWXU).unwrap();
        assert_eq!(Root::of(&pipe).unwrap(), None);
    }

    #[test]
    fn a_program_is_found_by_name_in_a_folder_and_by_path_everywhere() {
        const PATH: &str = "/bin:/usr/bin";
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir_all(folder.path().join("usr/bin")).unwrap();
        std::os::unix::fs::symlink("/nowhere/here", folder.path().join("usr/bin/tool")).unwrap();
        let (inside, disk) = (Root::Folder(folder.path().to_owned()), Root::Disk("image".into()));
        assert_eq!(inside.find(OsStr::new("tool"), PATH), Some("/usr/bin/tool".into()));
        assert_eq!(inside.find(OsStr::new("tool"), "/bin:/opt"), None);
        assert_eq!(inside.find(OsStr::new("other"), PATH), None);
        assert_eq!(disk.find(OsStr::new("tool"), PATH), None);
        assert_eq!(disk.find(OsStr::new("bin/tool"), PATH), Some("/bin/tool".into()));
    }

    #[test]
    fn a_folder_larger_than_the_machine_is_refused_before_it_is_read() {
        let folder = tempfile::tempdir().unwrap();
        let large = fs::File::create(folder.path().join("large")).unwrap();
        large.set_len(1 << 40).unwrap();
        let error = add(&mut Archive::new(), folder.path(), 64 << 20).unwrap_err();
        assert!(matches!(error, Error::Linux(LinuxError::RootTooLarge { limit: 64, .. })), "{error:?}");
    }

    #[test]
    fn files_that_are_larger_than_the_machine_together_are_refused() {
        let folder = tempfile::tempdir().unwrap();
        for name in ["a", "b"] {
            fs::File::create(folder.path().join(name)).unwrap().set_len(5 << 20).unwrap();
        }
        add(&mut Archive::new(), folder.path(), 11 << 20).unwrap();
        let error = add(&mut Archive::new(), folder.path(), 9 << 20).unwrap_err();
        assert!(matches!(error, Error::Linux(LinuxError::RootTooLarge { limit: 9, .. })), "{error:?}");
    }

    #[test]
    fn a_file_is_read_as_far_as_it_says_that_it_is_long() {
        // Each has text, and says that it has none; /proc/kmsg is of that kind, and has no end.
        let folder = Path::new("/proc/sys/kernel/random");
        let id = fs::read_to_string(folder.join("boot_id")).unwrap();
        assert!(!id.trim().is_empty());
        let mut archive = Archive::new();
        add(&mut archive, folder, 1 << 20).unwrap();
        assert!(archive.has(b"boot_id"));
        assert!(!String::from_utf8_lossy(&archive.finish()).contains(id.trim()));
    }

    #[test]
    fn what_is_mounted_below_a_folder_is_left_out() {
        let device = |path| fs::metadata(path).map(|meta| meta.dev()).ok();
        let Ok(file) = tempfile::NamedTempFile::new_in("/dev/shm") else {
            println!("skipped: nothing can be put into /dev/shm");
            return;
        };
        if device("/dev") == device("/dev/shm") {
            println!("skipped: /dev/shm is no mount of its own");
            return;
        }
        let mut archive = Archive::new();
        add(&mut archive, Path::new("/dev"), 64 << 20).unwrap();
        let inside = Path::new("shm").join(file.path().file_name().unwrap());
        assert_eq!((archive.has(b"shm"), archive.has(inside.as_os_str().as_bytes())), (true, false));
    }

    #[test]
    fn what_is_no_folder_is_an_error_that_names_it() {
        let file = tempfile::NamedTempFile::new().unwrap();
        for path in [file.path(), Path::new("/nowhere/at/all")] {
            let error = add(&mut Archive::new(), path, 1 << 20).unwrap_err();
            assert!(error.to_string().contains(&*path.to_string_lossy()), "{error}");
        }
    }
}
