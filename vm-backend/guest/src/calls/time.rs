//! Clocks. The time-stamp counter runs on from one reading of the host's clocks, so that asking costs no exit.

use crate::cell::Global;
use crate::errno::{EINVAL, Result};
use crate::{port, user};
use core::arch::x86_64::_rdtsc;
use vm_abi::op;

const NANOS: u64 = 1_000_000_000;
/// CLOCK_REALTIME, its coarse and its alarm kind, CLOCK_TAI.
const REALTIME: [u64; 4] = [0, 5, 8, 11];
/// A number that was given up (CLOCK_SGI_CYCLE).
const GONE: u64 = 10;
/// Nothing can sleep by the thread's CPU time.
const THREAD_CPU_TIME: u64 = 3;
const CPU_TIME: [u64; 2] = [2, 3];
/// CLOCK_REALTIME to CLOCK_TAI, the coarse ones among them.
const CLOCKS: u64 = 12;
const TIMER_ABSTIME: u64 = 1;

#[derive(Clone, Copy)]
struct Base {
    tsc: u64,
    monotonic: u64,
    realtime: u64,
    /// 0: the counter cannot be trusted, the host is asked each time.
    khz: u64,
    /// Monotonic time when the first clock was read; where the CPU-time clocks begin.
    started: u64,
}

static BASE: Global<Option<Base>> = Global::new(None);

fn tsc() -> u64 {
    // SAFETY: unprivileged; the guest never sets CR4.TSD.
    unsafe { _rdtsc() }
}

/// CLOCK_MONOTONIC and CLOCK_REALTIME now, and where the former was at the first reading.
fn now() -> Result<(u64, u64, u64)> {
    let base = BASE.get();
    if let Some(b) = base
        && b.khz != 0
    {
        let cycles = tsc().wrapping_sub(b.tsc);
        // ns = cycles * 10^6 / kHz, in 128 bits: 64 would overflow after seconds.
        let passed = (u128::from(cycles) * 1_000_000 / u128::from(b.khz)) as u64;
        return Ok((b.monotonic + passed, b.realtime + passed, b.started));
    }
    let before = tsc();
    port::call(op::CLOCKS, [0; 4])?;
    let after = tsc();
    let [monotonic, realtime, khz, _] = port::answer();
    let started = base.map_or(monotonic, |b| b.started);
    // The host read its clocks somewhere between the two.
    *base = Some(Base { tsc: before + after.wrapping_sub(before) / 2, monotonic, realtime, khz, started });
    Ok((monotonic, realtime, started))
}

fn is_clock(clock: u64) -> bool {
    clock < CLOCKS && clock != GONE
}

fn read_clock(clock: u64) -> Result {
    let (monotonic, realtime, started) = now()?;
    match clock {
        c if REALTIME.contains(&c) => Ok(realtime),
        c if CPU_TIME.contains(&c) => Ok(monotonic - started),
        c if is_clock(c) => Ok(monotonic),
        _ => Err(EINVAL),
    }
}

/// clock_gettime(2).
pub fn clock_gettime(clock: u64, to: u64) -> Result {
    let ns = read_clock(clock)?;
    user::write(to, [ns / NANOS, ns % NANOS]);
    Ok(0)
}

/// clock_getres(2).
pub fn clock_getres(clock: u64, to: u64) -> Result {
    if !is_clock(clock) {
        return Err(EINVAL);
    }
    if to != 0 {
        user::write(to, [0u64, 1]);
    }
    Ok(0)
}

/// gettimeofday(2).
pub fn gettimeofday(to: u64) -> Result {
    let (_, realtime, _) = now()?;
    if to != 0 {
        user::write(to, [realtime / NANOS, realtime % NANOS / 1000]);
    }
    Ok(0)
}

/// time(2).
pub fn time(to: u64) -> Result {
    let (_, realtime, _) = now()?;
    if to != 0 {
        user::write(to, realtime / NANOS);
    }
    Ok(realtime / NANOS)
}

/// times(2), in ticks of 10 ms.
pub fn times(to: u64) -> Result {
    let (monotonic, _, started) = now()?;
    if to != 0 {
        user::write(to, [(monotonic - started) / 10_000_000, 0, 0, 0]);
    }
    Ok(monotonic / 10_000_000)
}

fn read_duration(at: u64) -> Result {
    let [s, ns]: [u64; 2] = user::read(at);
    if ns >= NANOS || (s as i64) < 0 { Err(EINVAL) } else { Ok(s.saturating_mul(NANOS).saturating_add(ns)) }
}

/// Sleeps for a while; nothing can interrupt it.
pub fn sleep(ns: u64) -> Result {
    port::call(op::SLEEP, [ns.min(u64::MAX - 1), 0, 0, 0])
}

/// nanosleep(2).
pub fn nanosleep(request: u64) -> Result {
    sleep(read_duration(request)?)
}

/// clock_nanosleep(2).
pub fn clock_nanosleep(clock: u64, flags: u64, request: u64) -> Result {
    if !is_clock(clock) || clock == THREAD_CPU_TIME {
        return Err(EINVAL);
    }
    let ns = read_duration(request)?;
    let ns = if flags & TIMER_ABSTIME != 0 { ns.saturating_sub(read_clock(clock)?) } else { ns };
    sleep(ns)
}

/// A relative timeout at an address, in ns; `None` for "for ever".
pub fn timeout(at: u64) -> Result<Option<u64>> {
    if at == 0 { Ok(None) } else { read_duration(at).map(Some) }
}

/// Time since the first reading of a clock.
pub fn uptime() -> Result {
    let (monotonic, _, started) = now()?;
    Ok(monotonic - started)
}
