//! Processes that a program starts for itself.

use std::io;

/// Waits for the end of a child: its exit code; `None` where it was ended by a signal, or is no child that can be waited for.
pub(crate) fn reap(child: libc::pid_t) -> Option<i32> {
    let mut status = 0;
    // SAFETY: waitpid(2) writes one number, to which the pointer is valid.
    while unsafe { libc::waitpid(child, &raw mut status, 0) } == -1 {
        if io::Error::last_os_error().kind() != io::ErrorKind::Interrupted {
            return None;
        }
    }
    libc::WIFEXITED(status).then(|| libc::WEXITSTATUS(status))
}

/// Called by a child that goes on for long: it is ended where its parent is, and has nothing of the standard streams, for whose
/// end others wait.
pub(crate) fn cut_off() {
    // SAFETY: PR_SET_PDEATHSIG takes a signal's number and no pointer.
    unsafe { libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL) };
    for descriptor in 0..3 {
        // SAFETY: nothing in such a process uses the standard streams.
        unsafe { libc::close(descriptor) };
    }
}
