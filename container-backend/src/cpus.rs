//! Lists of CPUs as the kernel writes and takes them.

use std::ops::RangeInclusive;

/// The stretches of a list such as `0-3,8`: in its order, an empty list having none. `None` if it is no such list.
///
/// ```
/// use container_backend::cpu_ranges;
///
/// assert_eq!(cpu_ranges("0-3,8"), Some(vec![0..=3, 8..=8]));
/// assert_eq!(cpu_ranges("3-0"), None);
/// ```
#[must_use]
pub fn cpu_ranges(list: &str) -> Option<Vec<RangeInclusive<u32>>> {
    let stretches = list.trim().split(',').filter(|_| !list.trim().is_empty());
    let range = |stretch: &str| {
        let (first, last) = stretch.split_once('-').unwrap_or((stretch, stretch));
        let (first, last): (u32, u32) = (first.parse().ok()?, last.parse().ok()?);
        (first <= last).then_some(first..=last)
    };
    stretches.map(range).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_list_of_cpus_is_none() {
        assert_eq!(cpu_ranges("\n"), Some(vec![]));
        assert_eq!(cpu_ranges("7\n"), Some(vec![7..=7]));
        for wrong in ["one", "1,", ",", "1--2", "-1", "1-", "4294967296"] {
            assert_eq!(cpu_ranges(wrong), None, "{wrong}");
        }
    }
}
