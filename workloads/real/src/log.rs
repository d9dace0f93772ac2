//! A generated log of a web server: the same bytes everywhere.

use std::fmt::Write;

use workload_program::mix::Random;

const SEED: u64 = 0x0010_6f11;
const METHODS: [&str; 4] = ["GET", "POST", "PUT", "DELETE"];
const PATHS: [&str; 8] =
    ["/", "/index.html", "/api/v1/users", "/api/v1/orders", "/static/app.js", "/login", "/search", "/health"];
const STATUSES: [u16; 8] = [200, 200, 200, 204, 301, 404, 500, 503];

/// Whole lines, `bytes` of them at least.
pub fn generate(bytes: usize) -> Vec<u8> {
    let mut random = Random::new(SEED);
    let mut log = String::new();
    let mut second = 0_u32;
    while log.len() < bytes {
        second += random.below(3);
        // Written to memory: it cannot fail.
        writeln!(
            log,
            "10.{}.{}.{} - - [24/Nov/2026:{:02}:{:02}:{:02} +0000] \"{} {}?id={} HTTP/1.1\" {} {} {}ms",
            random.below(4),
            random.below(256),
            random.below(256),
            second / 3600 % 24,
            second / 60 % 60,
            second % 60,
            METHODS[random.below(4) as usize],
            PATHS[random.below(8) as usize],
            random.below(100_000),
            STATUSES[random.below(8) as usize],
            random.below(50_000),
            random.below(900) + 1,
        )
        .unwrap_or_default();
    }
    log.into_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_log_is_the_same_every_time_and_made_of_whole_lines() {
        let log = generate(10_000);
        assert_eq!(log, generate(10_000));
        assert!(log.len() >= 10_000 && log.ends_with(b"ms\n"));
    }
}
