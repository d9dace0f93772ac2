//! Descriptors: reading, writing, seeking, waiting.

use crate::errno::{EAGAIN, EBADF, EINVAL, EISDIR, ENOSPC, ENOTTY, EPIPE, ESPIPE, Result};
use crate::vfs::fd::{self, Description, O_CLOEXEC, Target};
use crate::vfs::{Kind, file_entry, nodes};
use crate::{boot, port, signal, user};
use vm_abi::op;

/// Largest count of one read or write (MAX_RW_COUNT of Linux).
const MAX_COUNT: u64 = 0x7fff_f000;
/// Most parts of one readv or writev (UIO_MAXIOV).
const MAX_PARTS: u64 = 1024;
/// Vectored output up to this size leaves in one piece, as one write(2) of the host: a line stays a line.
const GATHER: usize = 4096;
const O_ACCMODE: u32 = 3;
const O_APPEND: u32 = 0o2000;
const O_NONBLOCK: u32 = 0o4000;

static GATHERED: crate::cell::Global<[u8; GATHER]> = crate::cell::Global::new([0; GATHER]);

/// Reads at an offset of a node; `None` for the descriptor's own, which moves.
fn read_from(d: &mut Description, at: Option<u64>, to: u64, len: u64) -> Result {
    let offset = at.unwrap_or(d.offset);
    if d.flags & O_ACCMODE == 1 {
        return Err(EBADF);
    }
    let n = match fd::kind(d.target) {
        Kind::Stream(n) => {
            if at.is_some() {
                return Err(ESPIPE);
            }
            user::check(to, len)?;
            if d.flags & O_NONBLOCK != 0 && !is_readable(n)? {
                return Err(EAGAIN);
            }
            return port::call(op::READ, [u64::from(n), to, len, 0]);
        }
        Kind::Null => 0,
        Kind::Zero | Kind::Full => {
            user::zero(to, len);
            len
        }
        Kind::Random => super::process::fill_random(to, len)?,
        Kind::File(index) => {
            let entry = file_entry(index);
            let n = entry.size.saturating_sub(offset).min(len);
            user::copy(to, entry.data.wrapping_add(offset), n);
            n
        }
        Kind::Memory => match d.target {
            Target::Node(id) => nodes().get(id).read_at(offset, to, len),
            Target::Stream(_) => 0,
        },
        Kind::Directory => return Err(EISDIR),
        Kind::SelfExe | Kind::Free => return Err(EBADF),
    };
    if at.is_none() {
        d.offset = offset + n;
    }
    Ok(n)
}

/// Whether a read of a stream would not wait.
fn is_readable(stream: u8) -> Result<bool> {
    WAITING.get()[0] = PollFd { fd: i32::from(stream), events: POLLIN, revents: 0 };
    Ok(port::call(op::POLL, [WAITING.as_ptr() as u64, 1, 0, 0])? > 0)
}

fn write_to(d: &mut Description, at: Option<u64>, from: u64, len: u64) -> Result {
    if d.flags & O_ACCMODE == 0 {
        return Err(EBADF);
    }
    match fd::kind(d.target) {
        Kind::Stream(n) => {
            if at.is_some() {
                return Err(ESPIPE);
            }
            write_stream(n, from, len)
        }
        Kind::Null | Kind::Zero | Kind::Random => Ok(len),
        Kind::Full => Err(ENOSPC),
        Kind::Memory => {
            let Target::Node(id) = d.target else { return Err(EBADF) };
            let node = nodes().get_mut(id);
            let offset = if d.flags & O_APPEND != 0 { node.size } else { at.unwrap_or(d.offset) };
            let n = node.write_at(offset, from, len)?;
            if at.is_none() {
                d.offset = offset + n;
            }
            Ok(n)
        }
        Kind::Directory | Kind::SelfExe | Kind::Free | Kind::File(_) => Err(EBADF),
    }
}

fn write_stream(stream: u8, from: u64, len: u64) -> Result {
    user::check(from, len)?;
    let result = port::call(op::WRITE, [u64::from(stream), from, len, 0]);
    if result == Err(EPIPE) {
        signal::raise(signal::SIGPIPE, true)?;
    }
    result
}

/// read(2).
pub fn read(fd: u64, to: u64, len: u64) -> Result {
    read_from(fd::get(fd)?, None, to, len.min(MAX_COUNT))
}

/// write(2).
pub fn write(fd: u64, from: u64, len: u64) -> Result {
    write_to(fd::get(fd)?, None, from, len.min(MAX_COUNT))
}

/// pread64(2).
pub fn pread(fd: u64, to: u64, len: u64, at: u64) -> Result {
    if (at as i64) < 0 {
        return Err(EINVAL);
    }
    read_from(fd::get(fd)?, Some(at), to, len.min(MAX_COUNT))
}

/// pwrite64(2).
pub fn pwrite(fd: u64, from: u64, len: u64, at: u64) -> Result {
    if (at as i64) < 0 {
        return Err(EINVAL);
    }
    write_to(fd::get(fd)?, Some(at), from, len.min(MAX_COUNT))
}

/// Calls `each` for every part of a vector until one is short; the sum.
fn vectored(parts: u64, count: u64, mut each: impl FnMut(u64, u64) -> Result) -> Result {
    if count > MAX_PARTS {
        return Err(EINVAL);
    }
    for i in 0..count {
        if user::read::<i64>(parts + 16 * i + 8) < 0 {
            return Err(EINVAL);
        }
    }
    let mut sum = 0;
    for i in 0..count {
        let [base, len]: [u64; 2] = user::read(parts + 16 * i);
        let len = len.min(MAX_COUNT - sum);
        if len == 0 {
            continue;
        }
        match each(base, len) {
            Ok(n) => {
                sum += n;
                if n < len {
                    break;
                }
            }
            Err(error) if sum == 0 => return Err(error),
            Err(_) => break,
        }
    }
    Ok(sum)
}

/// readv(2).
pub fn readv(fd: u64, parts: u64, count: u64) -> Result {
    let d = fd::get(fd)?;
    let stream = fd::stream(fd)?.is_some();
    let mut first = true;
    vectored(parts, count, |base, len| {
        // A stream is read once: what follows might not come before somebody types.
        if stream && !core::mem::replace(&mut first, false) {
            return Ok(0);
        }
        read_from(d, None, base, len)
    })
}

/// writev(2).
pub fn writev(fd: u64, parts: u64, count: u64) -> Result {
    let d = fd::get(fd)?;
    if let Some(stream) = fd::stream(fd)?
        && count > 1
        && count <= MAX_PARTS
    {
        let total = vectored(parts, count, |_, len| Ok(len))?;
        if total <= GATHER as u64 {
            let buffer = GATHERED.as_ptr() as u64;
            let mut at = 0;
            vectored(parts, count, |base, len| {
                let n = len.min(GATHER as u64 - at);
                user::copy(buffer + at, base, n);
                at += n;
                Ok(len)
            })?;
            return write_stream(stream, buffer, at);
        }
    }
    vectored(parts, count, |base, len| write_to(d, None, base, len))
}

/// lseek(2).
pub fn seek(fd: u64, offset: i64, whence: u64) -> Result {
    let d = fd::get(fd)?;
    let size = match fd::kind(d.target) {
        Kind::Stream(_) => return Err(ESPIPE),
        Kind::File(index) => file_entry(index).size,
        Kind::Memory => match d.target {
            Target::Node(id) => nodes().get(id).size,
            Target::Stream(_) => 0,
        },
        _ => 0,
    };
    let base = match whence {
        0 => 0,
        1 => d.offset as i64,
        2 => size as i64,
        _ => return Err(EINVAL),
    };
    let to = base.checked_add(offset).filter(|to| *to >= 0).ok_or(EINVAL)?;
    d.offset = to as u64;
    Ok(d.offset)
}

/// ftruncate(2).
pub fn ftruncate(fd: u64, size: u64) -> Result {
    let d = fd::get(fd)?;
    let Target::Node(id) = d.target else { return Err(EINVAL) };
    if nodes().get(id).kind != Kind::Memory || d.flags & O_ACCMODE == 0 || (size as i64) < 0 {
        return Err(EINVAL);
    }
    nodes().get_mut(id).resize(size)?;
    Ok(0)
}

/// dup2(2).
pub fn dup2(fd: u64, to: u64) -> Result {
    if fd == to { fd::get(fd).map(|_| to) } else { fd::duplicate(fd, 0, Some(to), false) }
}

/// dup3(2).
pub fn dup3(fd: u64, to: u64, flags: u64) -> Result {
    if fd == to || flags & !u64::from(O_CLOEXEC) != 0 {
        return Err(EINVAL);
    }
    fd::duplicate(fd, 0, Some(to), flags != 0)
}

/// fcntl(2): F_DUPFD, F_DUPFD_CLOEXEC and the flags; locks are granted, since there is nobody else.
pub fn fcntl(fd: u64, command: u64, value: u64) -> Result {
    match command {
        0 | 1030 if value >= fd::FDS as u64 => fd::get(fd).and(Err(EINVAL)),
        0 => fd::duplicate(fd, value, None, false),
        1030 => fd::duplicate(fd, value, None, true),
        6 | 7 => fd::get(fd).map(|_| 0),
        _ => fd::control(fd, command, value),
    }
}

/// ioctl(2): whether a stream is a terminal, and its size.
pub fn ioctl(fd: u64, request: u64, to: u64) -> Result {
    const TCGETS: u64 = 0x5401;
    const TCSETS: core::ops::RangeInclusive<u64> = 0x5402..=0x5404;
    const TIOCGWINSZ: u64 = 0x5413;
    let is_tty = match fd::get(fd)?.target {
        Target::Stream(n) => boot!(stdio_tty)[usize::from(n) % 3] != 0,
        Target::Node(_) => false,
    };
    match request {
        _ if !is_tty => Err(ENOTTY),
        // A terminal in its usual mode (include/uapi/asm-generic/termbits.h): ICRNL|IXON, OPOST|ONLCR, CS8|CREAD|B38400,
        // ISIG|ICANON|ECHO|ECHOE|ECHOK|IEXTEN.
        TCGETS => {
            let mut termios = [0u32; 9];
            termios[..4].copy_from_slice(&[0o2400, 0o5, 0o277, 0o100073]);
            user::write(to, termios);
            Ok(0)
        }
        TIOCGWINSZ => {
            user::write(to, [24u16, 80, 0, 0]);
            Ok(0)
        }
        r if TCSETS.contains(&r) => Ok(0),
        _ => Err(ENOTTY),
    }
}

/// `struct pollfd`.
#[repr(C)]
#[derive(Clone, Copy)]
struct PollFd {
    fd: i32,
    events: i16,
    revents: i16,
}
const POLLIN: i16 = 0x1;
const POLLIN_OUT: i16 = POLLIN | 0x4;
const POLLNVAL: i16 = 0x20;
/// Streams there can be at once in one poll: the three standard ones.
const STREAMS: usize = 3;

static WAITING: crate::cell::Global<[PollFd; STREAMS]> =
    crate::cell::Global::new([PollFd { fd: -1, events: 0, revents: 0 }; STREAMS]);

/// poll(2): nodes are always ready, streams are asked for at the host.
pub fn poll(fds: u64, count: u64, timeout: i32) -> Result {
    if count > fd::FDS as u64 {
        return Err(EINVAL);
    }
    let waiting = WAITING.get();
    let mut asked = [0u64; STREAMS];
    let (mut streams, mut ready) = (0, 0);
    for i in 0..count {
        let at = fds + 8 * i;
        let mut entry: PollFd = user::read(at);
        entry.revents = 0;
        if entry.fd >= 0 {
            match fd::get(entry.fd as u64).map(|d| d.target) {
                Ok(Target::Stream(n)) if streams < STREAMS => {
                    waiting[streams] = PollFd { fd: i32::from(n), events: entry.events, revents: 0 };
                    asked[streams] = at;
                    streams += 1;
                }
                Ok(_) => entry.revents = entry.events & POLLIN_OUT,
                Err(_) => entry.revents = POLLNVAL,
            }
        }
        ready += u64::from(entry.revents != 0);
        user::write(at, entry);
    }
    if streams == 0 && ready == 0 {
        let nanoseconds = if timeout < 0 { u64::MAX } else { timeout as u64 * 1_000_000 };
        return port::call(op::SLEEP, [nanoseconds, 0, 0, 0]);
    }
    if streams > 0 {
        let timeout = if ready > 0 { 0 } else { timeout };
        port::call(op::POLL, [WAITING.as_ptr() as u64, streams as u64, timeout as u32 as u64, 0])?;
        for (entry, at) in waiting.iter().zip(asked).take(streams) {
            user::write(at + 6, entry.revents);
            ready += u64::from(entry.revents != 0);
        }
    }
    Ok(ready)
}

/// ppoll(2), the signal mask apart: no signal can arrive while waiting.
pub fn ppoll(fds: u64, count: u64, timeout: u64) -> Result {
    let ms = if timeout == 0 {
        -1
    } else {
        let [s, ns]: [u64; 2] = user::read(timeout);
        i32::try_from(s.saturating_mul(1000).saturating_add(ns.div_ceil(1_000_000))).unwrap_or(i32::MAX)
    };
    poll(fds, count, ms)
}
