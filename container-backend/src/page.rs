//! Programs of one page: code in assembly that stands in this library, as a file to execute.
//!
//! For processes that live as long as an instance or a caller and do next to nothing: everything that a compiler and a C library
//! bring along would be the most of them, and a fork would keep the caller's memory.

use std::ffi::CStr;
use std::fs::File;
use std::io::{self, Write};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};

use crate::prepare::duplicate_above_stdio;

/// The names of the two programs: the process that removes control groups, and an init.
pub(crate) const JANITOR: &CStr = c"cgroup-janitor";
pub(crate) const INIT: &CStr = c"init";

/// The names of this crate's own small programs, which are executed out of memory (`/memfd:NAME`).
pub const OWN_PROGRAMS: [&CStr; 2] = [JANITOR, INIT];

/// Where the image is loaded.
const ADDRESS: u64 = 0x1_0000;
/// Sizes of ELF64's header and of its program header.
const ELF_HEADER: usize = 64;
const PROGRAM_HEADER: usize = 56;
/// `PT_LOAD`, `PT_GNU_STACK`; `PF_X`, `PF_W`, `PF_R`.
const LOAD: u32 = 1;
const STACK: u32 = 0x6474_e551;
const EXECUTE: u32 = 1;
const WRITE: u32 = 2;
const READ: u32 = 4;

/// What stands between two symbols.
///
/// # Safety
///
/// The two enclose bytes of one read-only section.
pub(crate) unsafe fn code(start: *const u8, end: *const u8) -> &'static [u8] {
    let length = (end as usize).saturating_sub(start as usize);
    // SAFETY: this function's contract.
    unsafe { std::slice::from_raw_parts(start, length) }
}

/// An ELF file: two program headers, and the code behind them.
fn image(code: &[u8]) -> Vec<u8> {
    let start = ELF_HEADER + 2 * PROGRAM_HEADER;
    let size = (start + code.len()) as u64;
    let mut image = b"\x7fELF\x02\x01\x01".to_vec();
    image.resize(16, 0);
    let half = |image: &mut Vec<u8>, value: u16| image.extend(value.to_le_bytes());
    let word = |image: &mut Vec<u8>, value: u32| image.extend(value.to_le_bytes());
    let long = |image: &mut Vec<u8>, value: u64| image.extend(value.to_le_bytes());
    // ET_EXEC, EM_X86_64, version 1.
    half(&mut image, 2);
    half(&mut image, 62);
    word(&mut image, 1);
    for value in [ADDRESS + start as u64, ELF_HEADER as u64, 0] {
        long(&mut image, value);
    }
    word(&mut image, 0);
    #[expect(clippy::cast_possible_truncation, reason = "small constants")]
    for value in [ELF_HEADER as u16, PROGRAM_HEADER as u16, 2, 0, 0, 0] {
        half(&mut image, value);
    }
    for (kind, how, address, size) in [(LOAD, READ | EXECUTE, ADDRESS, size), (STACK, READ | WRITE, 0, 0)] {
        word(&mut image, kind);
        word(&mut image, how);
        // Offset, two addresses, two sizes, alignment.
        for value in [0, address, address, size, size, 0x1000] {
            long(&mut image, value);
        }
    }
    image.extend_from_slice(code);
    image
}

/// A program of this code in a sealed memfd, above stderr.
pub(crate) fn sealed(name: &CStr, code: &[u8]) -> io::Result<OwnedFd> {
    let name = name.as_ptr();
    let how = libc::MFD_CLOEXEC | libc::MFD_ALLOW_SEALING;
    // SAFETY: memfd_create reads one C string.
    let mut fd = unsafe { libc::memfd_create(name, how | libc::MFD_EXEC) };
    if fd < 0 && io::Error::last_os_error().raw_os_error() == Some(libc::EINVAL) {
        // Before Linux 6.3 there is no such flag, and every memfd may be executed.
        // SAFETY: as above.
        fd = unsafe { libc::memfd_create(name, how) };
    }
    if fd < 0 {
        return Err(refused(io::Error::last_os_error()));
    }
    // SAFETY: a descriptor that the call above made and nobody else knows.
    let mut file = File::from(unsafe { OwnedFd::from_raw_fd(fd) });
    file.write_all(&image(code))?;
    let seals = libc::F_SEAL_WRITE | libc::F_SEAL_GROW | libc::F_SEAL_SHRINK | libc::F_SEAL_SEAL;
    // SAFETY: fcntl with numbers only.
    if unsafe { libc::fcntl(file.as_raw_fd(), libc::F_ADD_SEALS, seals) } != 0 {
        return Err(io::Error::last_os_error());
    }
    duplicate_above_stdio(file.as_raw_fd())
}

/// Why there can be no such file, with the setting that forbids it, where it is that.
fn refused(error: io::Error) -> io::Error {
    let setting = std::fs::read_to_string("/proc/sys/vm/memfd_noexec").unwrap_or_default();
    if error.kind() != io::ErrorKind::PermissionDenied || setting.trim() != "2" {
        return error;
    }
    let said = "no program may be executed from memory here: vm.memfd_noexec is 2, and would have to be 1 or 0 (sysctl)";
    io::Error::new(io::ErrorKind::PermissionDenied, said)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_image_begins_with_its_code() {
        let image = image(b"code");
        let entry = u64::from_le_bytes(*image[24..32].first_chunk().expect("eight bytes"));
        let at = usize::try_from(entry - ADDRESS).expect("small");
        assert_eq!(&image[at..], b"code");
    }
}
