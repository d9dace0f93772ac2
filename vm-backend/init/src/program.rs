//! The program: how it is started, what it reads and writes, how it ends.

use core::convert::Infallible;

use vm_abi::linux::{NO_INPUT, op, steps};

use crate::mailbox::{Failure, Mailbox, fail};
use crate::sys::{self, PollFd};
use crate::{disks, net, root};

/// Bytes of path, arguments and environment together: what the mailbox can hold.
const TEXT: usize = Mailbox::room();
/// Number of them, with the null pointers that end both lists.
const TEXTS: usize = 4096;
/// How often standard input is asked for, where it may bring something. It has no interrupt, and asking is an exit.
const INPUT_INTERVAL_MS: i32 = 2;
/// Input on its way to the program.
const INPUT: usize = 4096;

/// Memory of this program that no stack frame should hold.
struct Static<T>(core::cell::UnsafeCell<T>);
// SAFETY: there is one thread, and each is borrowed in one place only.
unsafe impl<T> Sync for Static<T> {}

static TEXT_BYTES: Static<[u8; TEXT]> = Static(core::cell::UnsafeCell::new([0; TEXT]));
static POINTERS: Static<[*const u8; TEXTS]> = Static(core::cell::UnsafeCell::new([core::ptr::null(); TEXTS]));

/// Path, list of arguments, list of variables.
type Texts = (*const u8, *const *const u8, *const *const u8);

/// Copies the texts out of the mailbox, whose room the program's output will need.
fn texts(mailbox: &Mailbox) -> Option<Texts> {
    let page = mailbox.page();
    let (argc, envc, len) = (page.argc as usize, page.envc as usize, page.text_len as usize);
    if len == 0 || len > TEXT || argc.checked_add(envc)?.checked_add(2)? > TEXTS {
        return None;
    }
    let bytes = TEXT_BYTES.0.get().cast::<u8>();
    // SAFETY: both areas have room for `len` (checked) and do not overlap; this is the only use of the static one.
    unsafe { core::ptr::copy_nonoverlapping(mailbox.data().cast_const(), bytes, len) };
    // SAFETY: `len` bytes were just written, and nothing writes to them any more.
    let all = unsafe { core::slice::from_raw_parts(bytes, len) };
    // SAFETY: this is the only use of the list, in the only thread.
    let pointers = unsafe { &mut *POINTERS.0.get() };
    let mut rest = all;
    let mut next = || {
        let end = rest.iter().position(|b| *b == 0)?;
        let text = rest.as_ptr();
        rest = rest.get(end + 1..)?;
        Some(text)
    };
    let path = next()?;
    // The last element of each list stays null.
    for slot in pointers.get_mut(..argc)? {
        *slot = next()?;
    }
    for slot in pointers.get_mut(argc + 1..argc + 1 + envc)? {
        *slot = next()?;
    }
    let list = pointers.as_ptr();
    Some((path, list, list.wrapping_add(argc + 1)))
}

/// Runs the program; the machine ends with it.
pub fn run(mailbox: &Mailbox) -> Result<Infallible, Failure> {
    const SIGCHLD: u64 = 1 << 16;
    const SIGPIPE: u64 = 1 << 12;
    let failed = |step| move |errno| (step, errno);
    let (path, argv, envp) = texts(mailbox).ok_or((steps::MAILBOX, 0))?;
    let page = mailbox.page();
    let has_input = page.stdin != 0;
    if page.root == vm_abi::linux::root::DISK {
        root::enter()?;
    }
    if page.address != 0 {
        net::up(page.address)?;
    }
    // A kernel without it leaves the folder empty.
    const PLAIN: usize = sys::NO_SUID | sys::NO_EXEC | 4;
    sys::ignore(sys::mount(c"proc", c"/proc", c"proc", PLAIN, c""));
    if page.disks != vm_abi::linux::disks::NONE {
        disks::make_nodes()?;
    }
    // A program that does not read its input must not end us; a child's end comes through the descriptor.
    sys::block_signals(SIGCHLD | SIGPIPE);
    let signals = sys::signalfd(SIGCHLD).map_err(failed(steps::PROCESS))? as i32;
    let stdout = sys::pipe(0).map_err(failed(steps::PROCESS))?;
    let stderr = sys::pipe(0).map_err(failed(steps::PROCESS))?;
    let stdin = if has_input {
        sys::pipe(0).map_err(failed(steps::PROCESS))?
    } else {
        (sys::open(c"/dev/null", 0).map_err(failed(steps::PROCESS))? as i32, -1)
    };
    mailbox.request(op::STARTING, 0, 0, 0);
    let child = sys::fork_and_wait_for_exec().map_err(failed(steps::PROCESS))? as i32;
    if child == 0 {
        // Where the kernel opened no console for us, the pipes may have the numbers of the streams. All of them are closed by
        // exec but what stands in the places of the streams.
        for (to, fd) in [(10, stdin.0), (11, stdout.1), (12, stderr.1)] {
            sys::dup2(fd, to).map_err(failed(steps::PROCESS))?;
        }
        for to in 0..3 {
            sys::dup2(to + 10, to).map_err(failed(steps::PROCESS))?;
            sys::close(to + 10);
        }
        sys::set_session();
        sys::unblock_signals();
        let errno = sys::execve(path, argv, envp);
        fail(Some(mailbox), steps::EXEC, errno);
    }
    for fd in [stdin.0, stdout.1, stderr.1] {
        sys::close(fd);
    }
    for fd in [stdout.0, stderr.0] {
        sys::set_flags(fd, sys::NONBLOCK);
    }
    if has_input {
        sys::set_flags(stdin.1, sys::NONBLOCK);
    }
    serve(
        mailbox,
        child,
        signals,
        &mut Streams { out: [stdout.0, stderr.0], input: stdin.1, pending: [0; INPUT], from: 0, to: 0 },
    )
}

struct Streams {
    /// Ends of the program's output and errors; -1: nobody writes any more, or nobody reads.
    out: [i32; 2],
    /// End to write the program's input to; -1: there is none.
    input: i32,
    /// Input that the program has not taken: `pending[from..to]`.
    pending: [u8; INPUT],
    from: usize,
    to: usize,
}

fn serve(mailbox: &Mailbox, child: i32, signals: i32, streams: &mut Streams) -> Result<Infallible, Failure> {
    loop {
        let fd = |fd| PollFd { fd, events: sys::POLLIN, revents: 0 };
        let mut fds = [fd(signals), fd(streams.out[0]), fd(streams.out[1])];
        let timeout = if streams.input < 0 { -1 } else { INPUT_INTERVAL_MS };
        match sys::poll(&mut fds, timeout) {
            Ok(_) | Err(sys::EINTR) => {}
            Err(errno) => return Err((steps::WAIT, errno)),
        }
        for (i, polled) in [fds[1], fds[2]].iter().enumerate() {
            if polled.revents & (sys::POLLIN | sys::POLLGONE) != 0 {
                streams.forward(mailbox, i);
            }
        }
        streams.feed(mailbox);
        if fds[0].revents & sys::POLLIN == 0 {
            continue;
        }
        let mut info = [0u8; 128];
        sys::ignore(sys::read(signals, info.as_mut_ptr(), info.len()));
        // Everyone's orphans are ours.
        while let Some((pid, status)) = sys::wait_any().or_else(no_child).map_err(|e| (steps::WAIT, e))? {
            if pid == child {
                // What it wrote last is still in the pipes.
                for i in 0..2 {
                    while streams.forward(mailbox, i) {}
                }
                // The machine is gone with the next request, and with it what is not on its disks.
                if mailbox.page().disks == vm_abi::linux::disks::WRITABLE {
                    sys::sync();
                }
                mailbox.request(op::ENDED, 0, 0, status);
                sys::exit(0)
            }
        }
    }
}

fn no_child(errno: i32) -> Result<Option<(i32, i32)>, i32> {
    const ECHILD: i32 = 10;
    if errno == ECHILD { Ok(None) } else { Err(errno) }
}

impl Streams {
    /// Hands one piece of output to the monitor; whether there was any.
    fn forward(&mut self, mailbox: &Mailbox, index: usize) -> bool {
        let fd = self.out[index];
        match sys::read(fd, mailbox.data(), Mailbox::room()) {
            Err(sys::EAGAIN | sys::EINTR) => false,
            Ok(0) | Err(_) => {
                sys::close(fd);
                self.out[index] = -1;
                false
            }
            Ok(len) => {
                if mailbox.request(op::OUTPUT, index as u32 + 1, len, 0).result != 0 {
                    // Nobody reads it any more: the program's next write ends it, as everywhere.
                    sys::close(fd);
                    self.out[index] = -1;
                    return false;
                }
                true
            }
        }
    }

    /// Moves input on, as far as there is any and the program takes it.
    fn feed(&mut self, mailbox: &Mailbox) {
        while self.input >= 0 {
            if self.from == self.to {
                let answer = mailbox.request(op::INPUT, 0, INPUT, 0);
                match answer.result {
                    NO_INPUT => return,
                    len if len > 0 && len as usize <= INPUT => {
                        // SAFETY: both areas have room for `len`, and do not overlap.
                        unsafe {
                            core::ptr::copy_nonoverlapping(
                                mailbox.data().cast_const(),
                                self.pending.as_mut_ptr(),
                                len as usize,
                            );
                        }
                        (self.from, self.to) = (0, len as usize);
                    }
                    _ => return self.no_more_input(),
                }
            }
            let rest = self.pending.get(self.from..self.to).unwrap_or_default();
            match sys::write(self.input, rest.as_ptr(), rest.len()) {
                Ok(n) => self.from += n,
                Err(sys::EAGAIN | sys::EINTR) => return,
                Err(_) => self.no_more_input(),
            }
        }
    }

    fn no_more_input(&mut self) {
        sys::close(self.input);
        self.input = -1;
    }
}
