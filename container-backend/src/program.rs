//! The program of an instance: found, and looked at before any clone.

use std::ffi::OsString;
use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};

use crate::config::Program;
use crate::error::PrepareError;
use crate::isolation::{Isolation, Layer};
use crate::prepare::{above_stdio, c_string};

/// The program, resolved.
pub(crate) enum Found {
    /// On the host.
    Path(PathBuf),
    /// In the instance's own root.
    Inside(PathBuf),
    Fd(OwnedFd),
}

impl Found {
    pub(crate) fn path(&self) -> Option<&Path> {
        match self {
            Self::Path(path) => Some(path),
            Self::Inside(_) | Self::Fd(_) => None,
        }
    }

    pub(crate) fn name(&self) -> OsString {
        match self {
            Self::Path(path) | Self::Inside(path) => path.clone().into_os_string(),
            Self::Fd(_) => OsString::from("program"),
        }
    }
}

/// Resolves and checks the program, so that what can be said about it is said before any clone.
pub(crate) fn find_program(program: &Program, isolation: Isolation) -> Result<Found, PrepareError> {
    let path = match program {
        Program::Sealed(fd) => {
            return Ok(Found::Fd(above_stdio(fd.as_fd().as_raw_fd(), "the program's descriptor")?));
        }
        Program::Inside(path) => return Ok(Found::Inside(path.clone())),
        Program::Path(path) => path,
    };
    let not_found = |source| PrepareError::ProgramNotFound { path: path.clone(), source };
    let path = std::fs::canonicalize(path).map_err(not_found)?;
    let unreadable = |path: &Path, source| PrepareError::ProgramUnreadable { path: path.to_owned(), source };
    let metadata = std::fs::metadata(&path).map_err(|e| unreadable(&path, e))?;
    if !metadata.is_file() {
        return Err(PrepareError::ProgramNotAFile { path });
    }
    let as_c = c_string("the program's path", path.clone().into_os_string())?;
    // SAFETY: faccessat reads one C string. AT_EACCESS: exec goes by the effective user, too.
    if unsafe { libc::faccessat(libc::AT_FDCWD, as_c.as_ptr(), libc::X_OK, libc::AT_EACCESS) } != 0 {
        return Err(PrepareError::ProgramNotExecutable { path, source: io::Error::last_os_error() });
    }
    if isolation.has(Layer::Mount) {
        // A program that can be executed need not be readable; then exec itself must tell.
        match File::open(&path).and_then(|file| interpreter(&file)) {
            Ok(Some(interpreter)) => return Err(PrepareError::ProgramNeedsInterpreter { path, interpreter }),
            Ok(None) => {}
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {}
            Err(error) => return Err(unreadable(&path, error)),
        }
    }
    Ok(Found::Path(path))
}

/// The first bytes of a script's first line that the kernel looks at (`BINPRM_BUF_SIZE`).
const HEAD: usize = 256;
/// Sizes and offsets of ELF64: the header, its `e_phoff`, `e_phnum`; a program header, its `p_type`, `p_offset`, `p_filesz`.
const ELF_HEADER: usize = 64;
const PROGRAM_HEADER: usize = 56;
/// `PT_INTERP`.
const PT_INTERP: u32 = 3;
/// Far more than any linker writes; bounds what a hostile header can make us read.
const MOST_HEADERS: usize = 128;

/// What a script or a dynamic ELF needs beside itself. Anything else, broken files included, is left to exec to judge.
fn interpreter(file: &File) -> io::Result<Option<String>> {
    use std::os::unix::fs::FileExt;
    let mut head = Vec::new();
    let limit = u64::try_from(HEAD).unwrap_or(u64::MAX);
    file.take(limit).read_to_end(&mut head)?;
    if let Some(line) = head.strip_prefix(b"#!") {
        let line = line.split(|&byte| byte == b'\n').next().unwrap_or_default();
        let words = String::from_utf8_lossy(line);
        return Ok(Some(words.split_whitespace().next().unwrap_or_default().to_owned()));
    }
    // ELF, 64 bit, little-endian.
    if !head.starts_with(b"\x7fELF\x02\x01") || head.len() < ELF_HEADER {
        return Ok(None);
    }
    let headers_at = u64_at(&head, 32);
    let count = usize::from(u16_at(&head, 56)).min(MOST_HEADERS);
    let mut headers = vec![0; count * PROGRAM_HEADER];
    if file.read_exact_at(&mut headers, headers_at).is_err() {
        return Ok(None);
    }
    for header in headers.chunks_exact(PROGRAM_HEADER) {
        if u32_at(header, 0) == PT_INTERP {
            let length = usize::try_from(u64_at(header, 32)).unwrap_or(usize::MAX).min(HEAD);
            let mut name = vec![0; length];
            let read = file.read_at(&mut name, u64_at(header, 8))?;
            let name = name.get(..read).unwrap_or_default();
            let name = name.split(|&byte| byte == 0).next().unwrap_or_default();
            return Ok(Some(String::from_utf8_lossy(name).into_owned()));
        }
    }
    Ok(None)
}

fn bytes_at<const N: usize>(bytes: &[u8], at: usize) -> [u8; N] {
    bytes.get(at..).and_then(|rest| rest.first_chunk()).copied().unwrap_or([0; N])
}

fn u16_at(bytes: &[u8], at: usize) -> u16 {
    u16::from_le_bytes(bytes_at(bytes, at))
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(bytes_at(bytes, at))
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(bytes_at(bytes, at))
}
