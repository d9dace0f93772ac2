//! Giving memory back for a long wait.

use std::ffi::c_void;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::time::Duration;

use crate::sys::{attempt, call, flags, timespec};

/// What the stack may still need below the place that is known here: the rest of this frame, of which [`Code`] is a quarter of a KiB.
const STACK_IN_USE: usize = 2 << 10;
/// How far below that an earlier, deeper call may have gone.
const STACK_TO_LOOK_AT: usize = 1 << 20;
const PAGE: usize = 4096;

/// As many segments as an executable and its few libraries have; what there is beyond stays.
const MOST_SEGMENTS: usize = 16;

/// Gives back to the kernel what the calling process can get again when it needs it, and then waits until `ended` is readable, a
/// signal has come, or time is over: its own and its libraries' code, what of the stack is not in use, and free memory of the C
/// library.
///
/// For a process that does nothing but wait for an instance, possibly for long. It takes some microseconds, and so does what follows
/// the wait, since its code is then mapped anew: not for measuring. Both are one function, because the kernel maps code
/// 64 KiB at a time: what waits must be where the last of it was given back.
pub fn give_back_memory_until(ended: BorrowedFd<'_>, timeout: Option<Duration>) {
    #[cfg(target_env = "gnu")]
    // SAFETY: takes a number.
    unsafe {
        libc::malloc_trim(0);
    }
    let mut code = Code { segments: [(0, 0); MOST_SEGMENTS], count: 0 };
    // SAFETY: the callback is for this function, and its data outlive the call.
    unsafe { libc::dl_iterate_phdr(Some(note_code), (&raw mut code).cast()) };
    let mut poll = libc::pollfd { fd: ended.as_raw_fd(), events: libc::POLLIN, revents: 0 };
    let limit = timeout.map(timespec);
    let limit = limit.as_ref().map_or(0, |limit| std::ptr::from_ref(limit) as usize);
    // Only the main thread's stack has nothing below it.
    // SAFETY: both take nothing.
    if unsafe { libc::gettid() == libc::getpid() } {
        let top = ((&raw const poll) as usize).saturating_sub(STACK_IN_USE) / PAGE * PAGE;
        for page in (top.saturating_sub(STACK_TO_LOOK_AT)..top).step_by(PAGE).rev() {
            // SAFETY: below the frames that are in use, that of a system call by the instruction included; nobody refers to what
            // lies there. Page by page from above, and no further than to the first that is not mapped.
            let given = unsafe { call(libc::SYS_madvise, [page, PAGE, flags(libc::MADV_DONTNEED), 0, 0, 0]) };
            if given.is_err() {
                break;
            }
        }
    }
    // By reference: a copy of them would be in this frame, too.
    for &(start, length) in code.segments.iter().take(code.count) {
        // SAFETY: a private mapping of a file that nobody writes to (what is relocated lies in segments that can be written
        // to): the pages come back from the file as they were. The vDSO refuses.
        unsafe { attempt(libc::SYS_madvise, [start, length, flags(libc::MADV_DONTNEED), 0, 0, 0]) };
    }
    // SAFETY: a descriptor and a limit that outlive the call; no set of signals. Whether it has ended is for the caller to see.
    unsafe { attempt(libc::SYS_ppoll, [(&raw mut poll) as usize, 1, limit, 0, 0, 0]) };
}

/// The segments of a process that cannot be written to: first address and length, whole pages.
struct Code {
    segments: [(usize, usize); MOST_SEGMENTS],
    count: usize,
}

/// Notes an object's segments that cannot be written to: they are those of its file.
unsafe extern "C" fn note_code(
    info: *mut libc::dl_phdr_info,
    _size: usize,
    code: *mut c_void,
) -> libc::c_int {
    // SAFETY: dl_iterate_phdr(3) passes what it was given, and an object's headers, which stay as they are during the call.
    let (code, base, headers) = unsafe {
        let info = &*info;
        let headers: &[libc::Elf64_Phdr] = match info.dlpi_phdr.is_null() {
            true => &[],
            false => std::slice::from_raw_parts(info.dlpi_phdr, usize::from(info.dlpi_phnum)),
        };
        (&mut *code.cast::<Code>(), info.dlpi_addr, headers)
    };
    for header in headers.iter().filter(|h| h.p_type == libc::PT_LOAD && h.p_flags & libc::PF_W == 0) {
        let place = (usize::try_from(base + header.p_vaddr), usize::try_from(header.p_memsz));
        if let ((Ok(start), Ok(length)), Some(segment)) = (place, code.segments.get_mut(code.count)) {
            let aligned = start / PAGE * PAGE;
            *segment = (aligned, start - aligned + length);
            code.count += 1;
        }
    }
    0
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsFd;

    use super::*;

    #[test]
    fn what_was_given_back_is_there_again_when_it_is_needed() {
        let (read, write) = std::io::pipe().unwrap();
        let kept = vec![7_u8; 100_000];
        give_back_memory_until(read.as_fd(), Some(Duration::from_millis(1)));
        drop(write);
        // Without a limit, but for what has ended.
        give_back_memory_until(read.as_fd(), None);
        assert!(kept.iter().all(|&byte| byte == 7));
        assert_eq!(format!("{:?}", [1, 2]), "[1, 2]");
    }
}
