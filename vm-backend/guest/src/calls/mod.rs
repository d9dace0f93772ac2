//! The table of system calls (numbers: arch/x86/entry/syscalls/syscall_64.tbl of Linux).
//!
//! * [`file`]: descriptors, reading and writing
//! * [`path`]: what takes a path
//! * [`stat`]: what describes files
//! * [`memory`]: brk, mmap and their kin
//! * [`time`]: clocks and sleeping
//! * [`process`]: identity, limits, signals to oneself, futex

mod file;
mod memory;
mod path;
pub mod process;
mod stat;
mod time;

use crate::entry::Frame;
use crate::errno::{ENOSYS, EPERM, Result};
use crate::{port, signal};

/// Serves one call; `None` where the frame already holds everything (a return from a signal handler).
pub fn dispatch(frame: &mut Frame) -> Option<Result> {
    let (a, b, c, d, e) = (frame.rdi, frame.rsi, frame.rdx, frame.r10, frame.r8);
    Some(match frame.rax {
        0 => file::read(a, b, c),
        1 => file::write(a, b, c),
        2 => path::open(path::AT_FDCWD, a, b, c),
        3 => crate::vfs::fd::close(a),
        4 => stat::at(path::AT_FDCWD, a, b, 0),
        5 => stat::of_fd(a, b),
        6 => stat::at(path::AT_FDCWD, a, b, stat::AT_SYMLINK_NOFOLLOW),
        7 => file::poll(a, b, c as i32),
        8 => file::seek(a, b as i64, c),
        9 => memory::mmap(a, b, c, d, e, frame.r9),
        10 => memory::mprotect(a, b, c),
        11 => crate::heap::unmap(a, b),
        12 => Ok(crate::heap::brk(a)),
        13 => signal::action(a, b, c, d),
        14 => signal::mask(a, b, c, d),
        15 => {
            signal::sigreturn(frame);
            return None;
        }
        16 => file::ioctl(a, b, c),
        17 => file::pread(a, b, c, d),
        18 => file::pwrite(a, b, c, d),
        19 => file::readv(a, b, c),
        20 => file::writev(a, b, c),
        21 => path::access(path::AT_FDCWD, a, b),
        24 => Ok(0),
        25 => memory::mremap(a, b, c, d),
        26 | 28 => memory::madvise(frame.rax, a, b, c),
        32 => crate::vfs::fd::duplicate(a, 0, None, false),
        33 => file::dup2(a, b),
        34 => process::pause(),
        35 => time::nanosleep(a),
        39 | 186 => Ok(process::PID),
        60 | 231 => port::exit(a & 0xff),
        61 => Err(crate::errno::ECHILD),
        62 => process::kill(a, b, false),
        63 => process::uname(a),
        72 => file::fcntl(a, b, c),
        73..=75 => crate::vfs::fd::get(a).map(|_| 0),
        76 => path::truncate(a, b),
        77 => file::ftruncate(a, b),
        79 => path::getcwd(a, b),
        80 => path::chdir(a),
        81 => path::fchdir(a),
        82 => path::rename(path::AT_FDCWD, a, path::AT_FDCWD, b, 0),
        83 => path::mkdir(path::AT_FDCWD, a, b),
        84 => path::unlink(path::AT_FDCWD, a, path::AT_REMOVEDIR),
        85 => path::open(path::AT_FDCWD, a, 0o1101, b),
        87 => path::unlink(path::AT_FDCWD, a, 0),
        89 => path::readlink(path::AT_FDCWD, a, b, c),
        90 => path::chmod(path::AT_FDCWD, a, b),
        91 => path::fchmod(a, b),
        92 | 94 => path::chown(path::AT_FDCWD, a, b, c),
        93 => path::fchown(a, b, c),
        95 => Ok(0o022),
        96 => time::gettimeofday(a),
        97 => process::getrlimit(a, b),
        98 => process::getrusage(b),
        99 => process::sysinfo(a),
        100 => time::times(a),
        102 | 104 | 107 | 108 => Ok(0),
        110 => Ok(0),
        111 | 112 | 124 => Ok(process::PID),
        115 => Ok(0),
        127 => process::sigpending(a, b),
        130 => signal::suspend(a, b),
        131 => signal::alt_stack(a, b, frame.rsp),
        149..=152 => Ok(0),
        157 => process::prctl(a),
        158 => process::arch_prctl(a, b),
        200 => process::kill(a, b, true),
        234 => process::tgkill(a, b, c),
        201 => time::time(a),
        202 => process::futex(a, b, c, d),
        203 => Ok(0),
        204 => process::sched_getaffinity(b, c),
        217 => path::getdents(a, b, c),
        218 => Ok(process::PID),
        221 => crate::vfs::fd::get(a).map(|_| 0),
        228 => time::clock_gettime(a, b),
        229 => time::clock_getres(a, b),
        230 => time::clock_nanosleep(a, b, c),
        257 => path::open(a, b, c, d),
        258 => path::mkdir(a, b, c),
        260 => path::chown(a, b, c, d),
        262 => stat::at(a, b, c, d),
        263 => path::unlink(a, b, c),
        264 => path::rename(a, b, c, d, 0),
        267 => path::readlink(a, b, c, d),
        268 => path::chmod(a, b, c),
        269 | 439 => path::access(a, b, c),
        271 => file::ppoll(a, b, c),
        273 => Ok(0),
        280 => path::exists(a, b),
        292 => file::dup3(a, b, c),
        302 => process::prlimit64(a, b, c, d),
        309 => process::getcpu(a, b),
        316 => path::rename(a, b, c, d, e),
        318 => process::getrandom(a, b, c),
        332 => stat::statx(a, b, c, e),
        334 => process::rseq(a, b),
        // setuid and its kin: there is one user, root, who may become nobody else.
        105 | 106 | 113 | 114 | 117 | 119 => Err(EPERM),
        _ => Err(ENOSYS),
    })
}
