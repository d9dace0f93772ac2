//! The one clock of all measurements: the host's `CLOCK_MONOTONIC`, in nanoseconds.

/// Now, in nanoseconds of `CLOCK_MONOTONIC`.
///
/// Read through the vDSO: no system call, some 20 to 40 ns.
#[must_use]
pub fn now_ns() -> u64 {
    let mut now = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: clock_gettime(2) writes one timespec through the pointer, which is to `now` above, alive and aligned.
    // It cannot fail: the clock exists on every Linux and the pointer is valid.
    unsafe { libc::clock_gettime(libc::CLOCK_MONOTONIC, &raw mut now) };
    // Both fields are never negative on this clock: it starts at boot.
    now.tv_sec.unsigned_abs() * 1_000_000_000 + now.tv_nsec.unsigned_abs()
}

/// Smallest step between two different readings, over a number of tries: what the clock can resolve here.
#[must_use]
pub fn resolution_ns() -> u64 {
    (0..1_000)
        .map(|_| {
            let before = now_ns();
            loop {
                let step = now_ns() - before;
                if step > 0 {
                    break step;
                }
            }
        })
        .min()
        .unwrap_or(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_clock_never_goes_back() {
        let readings: Vec<u64> = (0..1_000).map(|_| now_ns()).collect();
        assert!(readings.is_sorted());
    }

    #[test]
    fn the_resolution_is_finer_than_a_microsecond() {
        let step = resolution_ns();
        assert!((1..1_000).contains(&step), "{step} ns");
    }
}
