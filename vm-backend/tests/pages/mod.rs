//! Pages of a process, as the kernel shows them.

use std::fs::File;
use std::ops::Range;
use std::os::unix::fs::FileExt;

/// Bytes of these stretches of a process's memory that are there (Documentation/admin-guide/mm/pagemap.rst: bit 63). What smaps says
/// of a mapping may be of its neighbour as well, which the kernel merges with it.
pub fn present(process: &str, stretches: &[Range<u64>]) -> u64 {
    const PAGE: u64 = 4096;
    let map = File::open(format!("/proc/{process}/pagemap")).expect("what the kernel shows");
    let in_stretch = |stretch: &Range<u64>| {
        let mut entries = vec![
            0;
            usize::try_from((stretch.end - stretch.start) / PAGE * 8)
                .expect("what the kernel shows")
        ];
        map.read_exact_at(&mut entries, stretch.start / PAGE * 8).expect("what the kernel shows");
        entries.chunks(8).filter(|entry| entry[7] & 0x80 != 0).map(|_| PAGE).sum::<u64>()
    };
    stretches.iter().map(in_stretch).sum()
}

/// How much of these stretches of a process's memory is in huge pages, by its smaps.
pub fn huge(process: &str, stretches: &[Range<u64>]) -> u64 {
    let smaps = std::fs::read_to_string(format!("/proc/{process}/smaps")).expect("what the kernel shows");
    let (mut within, mut bytes) = (false, 0);
    for line in smaps.lines() {
        let mut words = line.split_ascii_whitespace();
        let (name, value) = (words.next().expect("what the kernel shows"), words.next().unwrap_or(""));
        if let Some((start, _)) = name.split_once('-') {
            let start = u64::from_str_radix(start, 16).expect("what the kernel shows");
            within = stretches.iter().any(|stretch| stretch.contains(&start));
        }
        if within && name == "AnonHugePages:" {
            bytes += value.parse::<u64>().expect("what the kernel shows") * 1024;
        }
    }
    bytes
}
