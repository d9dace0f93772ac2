//! Identity, limits, signals to oneself, futex, random numbers.

use super::time;
use crate::errno::{EAGAIN, EINVAL, ENOSYS, EPERM, ESRCH, ETIMEDOUT, Result};
use crate::{boot, heap, port, signal, user};
use core::arch::asm;
use vm_abi::{RANDOM_BYTES, op};

/// The one process.
pub const PID: u64 = 1;
/// Length of one field of `struct utsname`.
const UTS_FIELD: usize = 65;

/// uname(2). The release is the oldest that current C libraries are content with, and says what it is.
pub fn uname(to: u64) -> Result {
    let fields: [&[u8]; 6] = [b"Linux", b"microvm", b"5.10.0-builtin-guest", b"#1", b"x86_64", b"(none)"];
    let mut uts = [[0u8; UTS_FIELD]; 6];
    for (field, text) in uts.iter_mut().zip(fields) {
        field[..text.len()].copy_from_slice(text);
    }
    user::write(to, uts);
    Ok(0)
}

/// sysinfo(2).
pub fn sysinfo(to: u64) -> Result {
    let (total, used) = (boot!(memory), heap::used());
    let mut words = [0u64; 14];
    words[0] = time::uptime()? / 1_000_000_000;
    words[4] = total;
    words[5] = total.saturating_sub(used);
    words[10] = 1; // procs, a u16
    words[13] = 1; // mem_unit, a u32
    user::write(to, words);
    Ok(0)
}

/// A resource limit: the stack's is real, the others are none.
fn limit(resource: u64) -> Result<[u64; 2]> {
    const RLIMIT_STACK: u64 = 3;
    const RLIMIT_NOFILE: u64 = 7;
    const LIMITS: u64 = 16;
    match resource {
        RLIMIT_STACK => Ok([vm_abi::STACK_TOP - boot!(stack_low); 2]),
        RLIMIT_NOFILE => Ok([crate::vfs::fd::FDS as u64; 2]),
        r if r < LIMITS => Ok([u64::MAX; 2]),
        _ => Err(EINVAL),
    }
}

/// getrlimit(2).
pub fn getrlimit(resource: u64, to: u64) -> Result {
    user::write(to, limit(resource)?);
    Ok(0)
}

/// prlimit64(2): limits can be read, and set to what they are.
pub fn prlimit64(pid: u64, resource: u64, new: u64, old: u64) -> Result {
    if pid != 0 && pid != PID {
        return Err(ESRCH);
    }
    let current = limit(resource)?;
    if old != 0 {
        user::write(old, current);
    }
    if new != 0 && user::read::<[u64; 2]>(new)[0] > current[0] {
        return Err(EPERM);
    }
    Ok(0)
}

/// getrusage(2): user time is all time since the first clock was read.
pub fn getrusage(to: u64) -> Result {
    let ns = time::uptime()?;
    let mut words = [0u64; 18];
    (words[0], words[1]) = (ns / 1_000_000_000, ns % 1_000_000_000 / 1000);
    words[4] = heap::used() / 1024;
    user::write(to, words);
    Ok(0)
}

/// prctl(2): naming the thread; nothing else has a meaning here.
pub fn prctl(option: u64) -> Result {
    const PR_SET_NAME: u64 = 15;
    if option == PR_SET_NAME { Ok(0) } else { Err(EINVAL) }
}

/// arch_prctl(2): the base of FS, where a C library keeps its thread.
pub fn arch_prctl(code: u64, value: u64) -> Result {
    const ARCH_SET_GS: u64 = 0x1001;
    const ARCH_SET_FS: u64 = 0x1002;
    const ARCH_GET_FS: u64 = 0x1003;
    const ARCH_GET_GS: u64 = 0x1004;
    // A base that is not canonical faults in the instruction; Linux says EPERM.
    if matches!(code, ARCH_SET_FS | ARCH_SET_GS) && value >> 47 != 0 {
        return Err(EPERM);
    }
    if boot!(has_fsgsbase) == 0 {
        return match code {
            ARCH_SET_FS => port::call(op::SET_BASE, [0, value, 0, 0]),
            ARCH_SET_GS => port::call(op::SET_BASE, [1, value, 0, 0]),
            _ => Err(EINVAL),
        };
    }
    let mut base = value;
    // SAFETY: the monitor set CR4.FSGSBASE; our own code uses neither FS nor GS.
    unsafe {
        match code {
            ARCH_SET_FS => asm!("wrfsbase {}", in(reg) value, options(nostack)),
            ARCH_SET_GS => asm!("wrgsbase {}", in(reg) value, options(nostack)),
            ARCH_GET_FS => asm!("rdfsbase {}", out(reg) base, options(nostack)),
            ARCH_GET_GS => asm!("rdgsbase {}", out(reg) base, options(nostack)),
            _ => return Err(EINVAL),
        }
    }
    if matches!(code, ARCH_GET_FS | ARCH_GET_GS) {
        user::write(value, base);
    }
    Ok(0)
}

/// sched_getaffinity(2): one CPU. The result is the size of the mask that was written.
pub fn sched_getaffinity(size: u64, to: u64) -> Result {
    if size < 8 {
        return Err(EINVAL);
    }
    user::write(to, 1u64);
    Ok(8)
}

/// getcpu(2).
pub fn getcpu(cpu: u64, node: u64) -> Result {
    for to in [cpu, node] {
        if to != 0 {
            user::write(to, 0u32);
        }
    }
    Ok(0)
}

/// rseq(2): the only CPU is number 0, and no sequence is ever interrupted.
pub fn rseq(area: u64, len: u64) -> Result {
    if len < 32 {
        return Err(EINVAL);
    }
    user::write(area, [0u32, 0]);
    Ok(0)
}

/// kill(2), tkill(2): to oneself (or one's group, or everybody) only.
pub fn kill(target: u64, number: u64, thread: bool) -> Result {
    match target as i32 {
        -1..=1 => signal::raise(number, thread),
        _ => Err(ESRCH),
    }
}

/// tgkill(2).
pub fn tgkill(group: u64, thread: u64, number: u64) -> Result {
    match (group as i32, thread as i32) {
        (..=0, _) | (_, ..=0) => Err(EINVAL),
        (1, 1) => signal::raise(number, true),
        _ => Err(ESRCH),
    }
}

/// rt_sigpending(2).
pub fn sigpending(to: u64, size: u64) -> Result {
    if size > 8 {
        return Err(EINVAL);
    }
    user::write(to, signal::pending());
    Ok(0)
}

/// pause(2): nobody can send a signal, so it never ends.
pub fn pause() -> Result {
    port::call(op::SLEEP, [u64::MAX, 0, 0, 0])
}

/// futex(2) for one thread: a wait that nobody can end lasts for its timeout, or for ever.
pub fn futex(word: u64, operation: u64, value: u64, timeout: u64) -> Result {
    /// Without FUTEX_PRIVATE_FLAG and FUTEX_CLOCK_REALTIME.
    const COMMAND: u64 = 0x7f;
    const CLOCK_REALTIME: u64 = 0x100;
    match operation & COMMAND {
        // FUTEX_WAIT takes a duration, FUTEX_WAIT_BITSET a point in time.
        command @ (0 | 9) => {
            if user::read::<u32>(word) != value as u32 {
                return Err(EAGAIN);
            }
            match time::timeout(timeout)? {
                None => pause(),
                Some(_) if command == 9 => {
                    let clock = u64::from(operation & CLOCK_REALTIME == 0);
                    time::clock_nanosleep(clock, 1, timeout)?;
                    Err(ETIMEDOUT)
                }
                Some(ns) => {
                    time::sleep(ns)?;
                    Err(ETIMEDOUT)
                }
            }
        }
        // FUTEX_WAKE, FUTEX_REQUEUE, FUTEX_CMP_REQUEUE, FUTEX_WAKE_OP, FUTEX_WAKE_BITSET: nobody waits.
        1 | 3 | 4 | 5 | 10 => Ok(0),
        _ => Err(ENOSYS),
    }
}

/// The first bytes of `Boot::random` are the program's AT_RANDOM.
const AT_RANDOM_BYTES: usize = 16;
/// Bytes of the others that were used.
static USED: crate::cell::Global<usize> = crate::cell::Global::new(0);

/// Random bytes of the host's, each used once.
pub fn fill_random(to: u64, len: u64) -> Result {
    let used = USED.get();
    let pool = port::boot() as u64 + (core::mem::offset_of!(vm_abi::Boot, random) + AT_RANDOM_BYTES) as u64;
    let mut done = 0;
    while done < len {
        if *used == RANDOM_BYTES - AT_RANDOM_BYTES {
            port::call(op::RANDOM, [0; 4])?;
            *used = 0;
        }
        let n = (len - done).min((RANDOM_BYTES - AT_RANDOM_BYTES - *used) as u64);
        user::copy(to + done, pool + *used as u64, n);
        user::zero(pool + *used as u64, n);
        *used += n as usize;
        done += n;
    }
    Ok(len)
}

/// getrandom(2).
pub fn getrandom(to: u64, len: u64, flags: u64) -> Result {
    if flags > 7 {
        return Err(EINVAL);
    }
    // Linux too returns less than asked for beyond this.
    fill_random(to, len.min(33_554_431))
}
