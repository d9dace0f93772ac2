//! A process 1 that is not the program: it reaps orphans and passes signals on, and is one page of code.
//!
//! The child makes a child of its own for the program, which shares the caller's memory as it does, and then executes this;
//! only then is the program executed, since process 1 had the caller's memory and descriptors until then. A failed exec of
//! the program is told as ever, and the start is over when the program is in its place.
//!
//! ```text
//! caller    clone3 ............................... runs again, says so ..... runs again
//! child 1           steps ... clone(VM), execveat(init)
//! child 2                                waits ....................... execve(program)
//! ```
//!
//! It is written in assembly, because everything that a compiler and a C library bring along would be the most of it: the
//! image is built here from the code below and kept in a sealed memfd, whose one page all instances share.

use std::fs::File;
use std::io::{self, Write};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};

use crate::prepare::duplicate_above_stdio;

/// The program's number in the instance: the first after process 1.
pub(crate) const PROGRAM_PID: usize = 2;

/// The code with which it ends where a filter of the user's own refuses it `rt_sigtimedwait` or `wait4`: what engines use for failures
/// of their own.
const FAILED: u32 = 125;

// All signals are blocked when it is executed (its caller's doing), so none is lost and none ends it.
std::arch::global_asm!(
    ".pushsection .rodata.container_backend_init, \"a\"",
    ".hidden container_backend_init",
    ".globl container_backend_init",
    ".hidden container_backend_init_end",
    ".globl container_backend_init_end",
    "container_backend_init:",
    "mov eax, 157", // prctl(PR_SET_NAME, "init")
    "mov edi, 15",
    "lea rsi, [rip + 9f]",
    "syscall",
    "sub rsp, 16",
    "mov qword ptr [rsp], -1",
    "2:",
    "mov eax, 128", // rt_sigtimedwait(all, null, null, 8): waits without an end
    "mov rdi, rsp",
    "xor esi, esi",
    "xor edx, edx",
    "mov r10d, 8",
    "syscall",
    "cmp eax, -4", // EINTR
    "je 2b",
    "test eax, eax",
    "jle 6f",
    "cmp eax, 17", // SIGCHLD
    "je 3f",
    "mov esi, eax", // kill(program, the same)
    "mov edi, {program}",
    "mov eax, 62",
    "syscall",
    "jmp 2b",
    "3:",
    "mov eax, 61", // wait4(-1, &status, WNOHANG, null)
    "mov edi, -1",
    "lea rsi, [rsp + 8]",
    "mov edx, 1",
    "xor r10d, r10d",
    "syscall",
    "cmp eax, {program}",
    "je 4f",
    "test eax, eax",
    "jg 3b",
    "jz 2b",
    "6:", // a filter that refuses it what it needs
    "mov edi, {failed}",
    "jmp 5f",
    "4:",
    "mov edi, [rsp + 8]",
    "mov eax, edi",
    "shr edi, 8", // exited: its code
    "and edi, 255",
    "and eax, 127",
    "jz 5f",
    "lea edi, [rax + 128]", // killed: 128 and the signal
    "5:",
    "mov eax, 231", // exit_group
    "syscall",
    "ud2",
    "9:",
    ".asciz \"init\"",
    "container_backend_init_end:",
    ".popsection",
    program = const PROGRAM_PID,
    failed = const FAILED,
);

unsafe extern "C" {
    static container_backend_init: u8;
    static container_backend_init_end: u8;
}

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

/// The code as it stands in this library.
fn code() -> &'static [u8] {
    let (start, end) = (&raw const container_backend_init, &raw const container_backend_init_end);
    let length = (end as usize).saturating_sub(start as usize);
    // SAFETY: the two symbols enclose bytes of one read-only section.
    unsafe { std::slice::from_raw_parts(start, length) }
}

/// An ELF file: two program headers, and the code behind them.
fn image() -> Vec<u8> {
    let code = code();
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

/// The image in a sealed memfd, above stderr.
pub(crate) fn sealed() -> io::Result<OwnedFd> {
    let name = c"init".as_ptr();
    let how = libc::MFD_CLOEXEC | libc::MFD_ALLOW_SEALING;
    // SAFETY: memfd_create reads one C string.
    let mut fd = unsafe { libc::memfd_create(name, how | libc::MFD_EXEC) };
    if fd < 0 && io::Error::last_os_error().raw_os_error() == Some(libc::EINVAL) {
        // Before Linux 6.3 there is no such flag, and every memfd may be executed.
        // SAFETY: as above.
        fd = unsafe { libc::memfd_create(name, how) };
    }
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: a descriptor that the call above made and nobody else knows.
    let mut file = File::from(unsafe { OwnedFd::from_raw_fd(fd) });
    file.write_all(&image())?;
    let seals = libc::F_SEAL_WRITE | libc::F_SEAL_GROW | libc::F_SEAL_SHRINK | libc::F_SEAL_SEAL;
    // SAFETY: fcntl with numbers only.
    if unsafe { libc::fcntl(file.as_raw_fd(), libc::F_ADD_SEALS, seals) } != 0 {
        return Err(io::Error::last_os_error());
    }
    duplicate_above_stdio(file.as_raw_fd())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_image_fits_in_one_page_and_begins_with_its_code() {
        let image = image();
        assert!(image.len() < 1024, "{}", image.len());
        let entry = u64::from_le_bytes(*image[24..32].first_chunk().expect("eight bytes"));
        let at = usize::try_from(entry - ADDRESS).expect("small");
        // mov eax, 157
        assert_eq!(&image[at..at + 5], &[0xb8, 157, 0, 0, 0]);
        assert!(image.ends_with(b"init\0"));
    }
}
