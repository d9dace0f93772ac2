//! The program under test as bytes in memory that nobody can change: the same for every launch, nothing on disk, and
//! nothing to clean up, however we end. Its digest is that of the very bytes that run.

use std::fs::{File, OpenOptions};
use std::io::Write;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::OpenOptionsExt;
use std::sync::Arc;

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, SealFlag, fcntl};
use nix::sys::memfd::{MFdFlags, memfd_create};
use sha2::{Digest, Sha256};

use crate::error::HarnessError;

/// `MFD_EXEC` of include/uapi/linux/memfd.h, since Linux 6.3: says that it is meant to be executed. Older kernels
/// refuse the flag and need no such word.
const MFD_EXEC: MFdFlags = MFdFlags::from_bits_retain(0x10);

/// Puts `program` into sealed memory.
///
/// Where the host allows no execution from memory (`vm.memfd_noexec = 2`), into a file without a name, which is gone
/// with its last descriptor, too.
///
/// # Errors
/// The step that failed.
pub fn seal(program: &[u8]) -> Result<Arc<OwnedFd>, HarnessError> {
    let flags = MFdFlags::MFD_CLOEXEC | MFdFlags::MFD_ALLOW_SEALING;
    let created = match memfd_create(c"workload", flags | MFD_EXEC) {
        Err(Errno::EINVAL) => memfd_create(c"workload", flags),
        other => other,
    };
    match created {
        Ok(memory) => sealed(memory, program),
        Err(Errno::EACCES) => nameless(program),
        Err(errno) => Err(HarnessError::Seal { step: "memfd_create", source: errno.into() }),
    }
    .map(Arc::new)
}

fn sealed(memory: OwnedFd, program: &[u8]) -> Result<OwnedFd, HarnessError> {
    let mut file = File::from(memory);
    file.write_all(program).map_err(|source| HarnessError::Seal { step: "write", source })?;
    let seals =
        SealFlag::F_SEAL_SEAL | SealFlag::F_SEAL_SHRINK | SealFlag::F_SEAL_GROW | SealFlag::F_SEAL_WRITE;
    fcntl(&file, FcntlArg::F_ADD_SEALS(seals))
        .map_err(|errno| HarnessError::Seal { step: "seal", source: errno.into() })?;
    Ok(file.into())
}

fn nameless(program: &[u8]) -> Result<OwnedFd, HarnessError> {
    let failed = |step| move |source| HarnessError::Seal { step, source };
    let mut file = OpenOptions::new()
        .read(true)
        .write(true)
        .custom_flags(libc::O_TMPFILE | libc::O_CLOEXEC)
        .mode(0o500)
        .open(std::env::temp_dir())
        .map_err(failed("open a nameless file"))?;
    file.write_all(program).map_err(failed("write"))?;
    // Reopened for reading only: what is open for writing cannot be executed (ETXTBSY).
    let reopened = File::open(format!("/proc/self/fd/{}", file.as_raw_fd())).map_err(failed("reopen"))?;
    Ok(reopened.into())
}

/// SHA-256 in hexadecimal.
#[must_use]
pub fn digest(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::FileExt;

    use super::*;

    #[test]
    fn sealed_bytes_are_the_given_ones_and_cannot_be_changed() {
        let fd = seal(b"program").unwrap();
        let file = File::from(fd.try_clone().unwrap());
        let mut bytes = [0; 7];
        file.read_exact_at(&mut bytes, 0).unwrap();
        assert_eq!(&bytes, b"program");
        assert!(file.write_at(b"x", 0).is_err());
        assert!(file.set_len(0).is_err());
    }

    #[test]
    fn the_nameless_file_holds_the_same_bytes_and_is_read_only() {
        let file = File::from(nameless(b"program").unwrap());
        let mut bytes = [0; 7];
        file.read_exact_at(&mut bytes, 0).unwrap();
        assert_eq!(&bytes, b"program");
        assert!(file.write_at(b"x", 0).is_err());
    }

    #[test]
    fn the_digest_is_the_published_one() {
        // FIPS 180-4, the message "abc"
        assert_eq!(digest(b"abc"), "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
    }
}
