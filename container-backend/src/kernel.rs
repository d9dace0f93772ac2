//! The running kernel's version, for what cannot be found out by doing it.

/// Whether the running kernel is this one (`4.8`) or a newer one; one that does not tell is.
pub(crate) fn is_at_least(version: &str) -> bool {
    let numbers = |text: &str| -> Vec<u32> {
        text.split(['.', '-', '\n']).map_while(|part| part.parse().ok()).take(2).collect()
    };
    let running = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    running.is_empty() || numbers(&running) >= numbers(version)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_compared_by_number() {
        for (version, expected) in [("2.6", true), ("3", true), ("4.9", true), ("1000.0", false)] {
            assert_eq!(is_at_least(version), expected, "{version}");
        }
    }
}
