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
//! Its image is kept in a sealed memfd, whose one page all instances share.

use std::io;
use std::os::fd::OwnedFd;

use crate::page;

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

fn code() -> &'static [u8] {
    // SAFETY: the two symbols enclose bytes of one read-only section.
    unsafe { page::code(&raw const container_backend_init, &raw const container_backend_init_end) }
}

/// The image, above stderr.
pub(crate) fn sealed() -> io::Result<OwnedFd> {
    page::sealed(page::INIT, code())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_code_is_small_and_begins_where_it_should() {
        let code = code();
        assert!(code.len() < 512, "{}", code.len());
        // mov eax, 157
        assert!(code.starts_with(&[0xb8, 157, 0, 0, 0]));
        assert!(code.ends_with(b"init\0"));
    }
}
