//! The standard streams, as Rust's own start-up code would leave them (it does not run, see `main.rs`).

/// Opens `/dev/null` in place of standard streams that the caller closed. Otherwise the next file that is opened, a
/// virtual machine's for example, would become the program's input or output.
pub(super) fn open_closed() {
    let mut streams = [0, 1, 2].map(|fd| libc::pollfd { fd, events: 0, revents: 0 });
    // SAFETY: poll(2) writes into the three structures of the array, whose length is given; it does not wait.
    if unsafe { libc::poll(streams.as_mut_ptr(), 3, 0) } <= 0 {
        return;
    }
    for _ in streams.iter().filter(|stream| stream.revents & libc::POLLNVAL != 0) {
        // The lowest closed number is what open(2) takes, and the streams are the lowest. Left open on purpose.
        // SAFETY: the path is a C string that lives for the whole program.
        unsafe { libc::open(c"/dev/null".as_ptr(), libc::O_RDWR) };
    }
}

/// A reader of ours that goes away is an error of a write, and not the end of us.
///
/// Not for `run`: there the program inherits what we set, and writes to the same reader.
pub(super) fn ignore_sigpipe() {
    // SAFETY: SIG_IGN is no function of ours, and no thread exists yet that could expect something else.
    unsafe { libc::signal(libc::SIGPIPE, libc::SIG_IGN) };
}
