//! The janitor's program: one page that waits for the end of its caller, or a word from it, and removes what the caller has left.
//!
//! Standard input is an event that the caller may send, standard output a pidfd of the caller. The arguments are the beginning of the
//! names of all groups that are its, and the directories to look for them in. A group with processes in it is emptied by killing them, first.

use std::io;
use std::os::fd::OwnedFd;

use crate::page;

/// How often a busy group is tried again, a millisecond apart.
const TRIES: u32 = 5000;
/// Enough for several entries of a directory, and for many process numbers.
const BUFFER: u32 = 4096;

// rsp: two buffers. r12: the prefix; r13: where the next directory's path stands; r14: the directory; r15: tries left; rbx, rbp: an entry
// (struct linux_dirent64: length at 16, name at 19) and the end of them. The kernel preserves all but rax, rcx and r11.
std::arch::global_asm!(
    ".pushsection .rodata.container_backend_sweeper, \"a\"",
    ".hidden container_backend_sweeper",
    ".globl container_backend_sweeper",
    ".hidden container_backend_sweeper_end",
    ".globl container_backend_sweeper_end",
    "container_backend_sweeper:",
    "mov eax, 157", // prctl(PR_SET_NAME, argv[0])
    "mov edi, 15",
    "mov rsi, [rsp + 8]",
    "syscall",
    "mov r12, [rsp + 16]",
    "lea r13, [rsp + 24]",
    "sub rsp, 2 * {buffer}",
    "mov rax, 0x100000000", // struct pollfd: descriptor 0, POLLIN; descriptor 1 beside it
    "mov [rsp], rax",
    "inc rax",
    "mov [rsp + 8], rax",
    "2:", // poll(both, 2, no end)
    "mov eax, 7",
    "mov rdi, rsp",
    "mov esi, 2",
    "mov edx, -1",
    "syscall",
    "cmp eax, -4", // EINTR
    "je 2b",
    "3:", // the next directory: openat(AT_FDCWD, path, O_DIRECTORY)
    "mov rsi, [r13]",
    "add r13, 8",
    "test rsi, rsi",
    "jz 9f",
    "mov edi, -100",
    "mov edx, 0x10000",
    "xor r10d, r10d",
    "mov eax, 257",
    "syscall",
    "test eax, eax",
    "js 3b",
    "mov r14d, eax",
    "4:", // lseek(directory, 0, SEEK_SET): from the start after each removal, which moves the entries under a reader
    "mov eax, 8",
    "mov edi, r14d",
    "xor esi, esi",
    "xor edx, edx",
    "syscall",
    "5:", // getdents64(directory, buffer, size)
    "mov eax, 217",
    "mov edi, r14d",
    "mov rsi, rsp",
    "mov edx, {buffer}",
    "syscall",
    "test eax, eax",
    "jle 3b",
    "mov rbx, rsp",
    "lea rbp, [rsp + rax]",
    "6:", // does this name begin with the prefix?
    "mov rsi, r12",
    "lea rdi, [rbx + 19]",
    "7:",
    "mov al, [rsi]",
    "test al, al",
    "jz 22f",
    "cmp al, [rdi]",
    "jne 8f",
    "inc rsi",
    "inc rdi",
    "jmp 7b",
    "8:", // the next entry
    "movzx eax, word ptr [rbx + 16]",
    "add rbx, rax",
    "cmp rbx, rbp",
    "jb 6b",
    "jmp 5b",
    "9:", // exit_group(0)
    "mov eax, 231",
    "xor edi, edi",
    "syscall",
    "ud2",
    "22:",
    "mov r15d, {tries}",
    "23:", // unlinkat(directory, name, AT_REMOVEDIR)
    "mov eax, 263",
    "mov edi, r14d",
    "lea rsi, [rbx + 19]",
    "mov edx, 0x200",
    "syscall",
    "test eax, eax",
    "jz 4b",
    "cmp eax, -16", // EBUSY; whatever else it is, the group stays
    "jne 8b",
    "mov edi, r14d", // openat(directory, name, O_DIRECTORY)
    "lea rsi, [rbx + 19]",
    "mov edx, 0x10000",
    "xor r10d, r10d",
    "mov eax, 257",
    "syscall",
    "mov r8d, eax",
    "mov edi, eax", // openat(group, "cgroup.procs", O_RDONLY)
    "lea rsi, [rip + 28f]",
    "xor edx, edx",
    "mov eax, 257",
    "syscall",
    "mov r9d, eax",
    "xor eax, eax", // read(processes, second buffer, size)
    "mov edi, r9d",
    "lea rsi, [rsp + {buffer}]",
    "mov edx, {buffer}",
    "syscall",
    "mov r10, rax",
    "mov eax, 3", // close both; what could not be opened cannot be closed, either
    "mov edi, r9d",
    "syscall",
    "mov eax, 3",
    "mov edi, r8d",
    "syscall",
    "lea rdx, [rsp + {buffer}]",
    "test r10, r10",
    "jle 27f",
    "add r10, rdx",
    "xor edi, edi",
    "24:", // a number cut off at the end of the buffer has no line end behind it
    "cmp rdx, r10",
    "jae 27f",
    "movzx eax, byte ptr [rdx]",
    "inc rdx",
    "cmp eax, 10",
    "je 25f",
    "imul edi, edi, 10",
    "lea edi, [rdi + rax - 48]",
    "jmp 24b",
    "25:", // kill(number, SIGKILL); 0 stands for a process of another PID namespace
    "test edi, edi",
    "jz 24b",
    "mov eax, 62",
    "mov esi, 9",
    "syscall",
    "xor edi, edi",
    "jmp 24b",
    "27:", // nanosleep(a millisecond)
    "mov eax, 35",
    "lea rdi, [rip + 29f]",
    "xor esi, esi",
    "syscall",
    "dec r15d",
    "jnz 23b",
    "jmp 8b",
    "28:",
    ".asciz \"cgroup.procs\"",
    ".balign 8",
    "29:",
    ".quad 0, 1000000",
    "container_backend_sweeper_end:",
    ".popsection",
    buffer = const BUFFER,
    tries = const TRIES,
);

unsafe extern "C" {
    static container_backend_sweeper: u8;
    static container_backend_sweeper_end: u8;
}

/// The image, above stderr.
pub(crate) fn sealed() -> io::Result<OwnedFd> {
    // SAFETY: the two symbols enclose bytes of one read-only section.
    let code =
        unsafe { page::code(&raw const container_backend_sweeper, &raw const container_backend_sweeper_end) };
    page::sealed(page::JANITOR, code)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::fs;
    use std::io::PipeWriter;
    use std::os::fd::AsRawFd;
    use std::os::unix::process::CommandExt;
    use std::path::PathBuf;
    use std::process::{Child, Command};

    use super::*;

    /// Empty folders stand for groups: both are removed by the same call.
    struct Folders(PathBuf);

    impl Folders {
        fn new(name: &str) -> Self {
            let path = std::env::temp_dir().join(format!("sweeper-{name}-{}", std::process::id()));
            fs::create_dir(&path).unwrap();
            Self(path)
        }

        fn names(&self) -> BTreeSet<String> {
            fs::read_dir(&self.0).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap()).collect()
        }
    }

    impl Drop for Folders {
        fn drop(&mut self) {
            fs::remove_dir_all(&self.0).unwrap();
        }
    }

    /// With a pipe in the place of the event, and one in that of the pidfd: each is ready when its other end is dropped.
    struct Sweeper {
        process: Child,
        event: Option<PipeWriter>,
        caller: Option<PipeWriter>,
    }

    fn start(prefix: &str, folders: &[&Folders]) -> Sweeper {
        let image = sealed().unwrap();
        let [(event, send), (caller, end)] = [std::io::pipe().unwrap(), std::io::pipe().unwrap()];
        let process = Command::new(format!("/proc/self/fd/{}", image.as_raw_fd()))
            .arg0("cgroup-janitor")
            .arg(prefix)
            .args(folders.iter().map(|folder| &folder.0))
            .env_clear()
            .stdin(event)
            .stdout(caller)
            .spawn()
            .unwrap();
        Sweeper { process, event: Some(send), caller: Some(end) }
    }

    #[test]
    fn all_groups_of_its_caller_go_and_no_other_when_the_caller_has_ended() {
        let [first, second] = ["first", "second"].map(Folders::new);
        // More than one buffer of them.
        (0..500).for_each(|i| fs::create_dir(first.0.join(format!("container-7-0-{i}"))).unwrap());
        for other in ["container-7-1-0", "container-77-0-0", "container-7-", "a", "container-7-0-full"] {
            fs::create_dir(first.0.join(other)).unwrap();
        }
        fs::write(first.0.join("container-7-0-full/file"), "").unwrap();
        fs::create_dir(second.0.join("container-7-0-3")).unwrap();
        let mut sweeper = start("container-7-0-", &[&first, &second]);
        assert!(sweeper.process.try_wait().unwrap().is_none());
        assert!(first.names().len() > 500, "the caller lives");
        drop(sweeper.caller.take());
        assert!(sweeper.process.wait().unwrap().success());
        let left = ["a", "container-7-", "container-7-0-full", "container-7-1-0", "container-77-0-0"];
        assert_eq!(first.names(), left.map(String::from).into());
        assert_eq!(second.names(), BTreeSet::new());
    }

    #[test]
    fn a_directory_that_is_gone_is_passed_over() {
        let [gone, there] = ["gone", "there"].map(Folders::new);
        fs::create_dir(there.0.join("x-1")).unwrap();
        fs::remove_dir(&gone.0).unwrap();
        let mut sweeper = start("x-", &[&gone, &there]);
        drop(sweeper.event.take());
        assert!(sweeper.process.wait().unwrap().success());
        assert_eq!(there.names(), BTreeSet::new());
        fs::create_dir(&gone.0).unwrap();
    }
}
