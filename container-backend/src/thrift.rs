//! Giving memory back before a long wait.

use std::ffi::c_void;

use crate::sys::{call, flags};

/// What the stack may still need below the place that is known here: the rest of this frame, and a system call's.
const STACK_IN_USE: usize = 2 << 10;
/// How far below that an earlier, deeper call may have gone.
const STACK_TO_LOOK_AT: usize = 1 << 20;
const PAGE: usize = 4096;

/// Gives back to the kernel what the calling process can get again when it needs it: its own and its libraries' code, what of the
/// stack is not in use, and free memory of the C library.
///
/// For a process that does nothing but wait for an instance, possibly for long. It takes some microseconds, and so does what follows
/// the wait, since its code is then mapped anew: not for measuring.
pub fn give_back_memory() {
    #[cfg(target_env = "gnu")]
    // SAFETY: takes a number.
    unsafe {
        libc::malloc_trim(0);
    }
    // SAFETY: the callback is for this function, and is given no data.
    unsafe { libc::dl_iterate_phdr(Some(give_back_code), std::ptr::null_mut()) };
    // Only the main thread's stack has nothing below it.
    // SAFETY: both take nothing.
    if unsafe { libc::gettid() != libc::getpid() } {
        return;
    }
    // Last, since the calls above use it.
    let here = 0_u8;
    let top = (std::ptr::from_ref(&here) as usize).saturating_sub(STACK_IN_USE) / PAGE * PAGE;
    for page in (top.saturating_sub(STACK_TO_LOOK_AT)..top).step_by(PAGE).rev() {
        // SAFETY: below the frames that are in use, that of a system call by the instruction included; nobody refers to what lies
        // there. Page by page from above, and no further than to the first that is not mapped.
        let given = unsafe { call(libc::SYS_madvise, [page, PAGE, flags(libc::MADV_DONTNEED), 0, 0, 0]) };
        if given.is_err() {
            break;
        }
    }
}

/// Drops the pages of an object's segments that cannot be written to: they are those of its file.
unsafe extern "C" fn give_back_code(
    info: *mut libc::dl_phdr_info,
    _size: usize,
    _data: *mut c_void,
) -> libc::c_int {
    // SAFETY: dl_iterate_phdr(3) passes an object's headers, which stay as they are during the call.
    let (base, headers) = unsafe {
        let info = &*info;
        let headers: &[libc::Elf64_Phdr] = match info.dlpi_phdr.is_null() {
            true => &[],
            false => std::slice::from_raw_parts(info.dlpi_phdr, usize::from(info.dlpi_phnum)),
        };
        (info.dlpi_addr, headers)
    };
    let code =
        |header: &&libc::Elf64_Phdr| header.p_type == libc::PT_LOAD && header.p_flags & libc::PF_W == 0;
    for header in headers.iter().filter(code) {
        let (Ok(start), Ok(length)) =
            (usize::try_from(base + header.p_vaddr), usize::try_from(header.p_memsz))
        else {
            continue;
        };
        let aligned = start / PAGE * PAGE;
        // SAFETY: a private mapping of a file that nobody writes to (what is relocated lies in segments that can be written
        // to): the pages come back from the file as they were. The vDSO refuses.
        unsafe { libc::madvise(aligned as *mut c_void, start - aligned + length, libc::MADV_DONTNEED) };
    }
    0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_given_back_is_there_again_when_it_is_needed() {
        let kept = vec![7_u8; 100_000];
        give_back_memory();
        assert!(kept.iter().all(|&byte| byte == 7));
        assert_eq!(format!("{:?}", [1, 2]), "[1, 2]");
    }
}
