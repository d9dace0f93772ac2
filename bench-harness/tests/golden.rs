//! A fixed recording gives the expected summary and report, byte for byte.
//!
//! `BLESS=1 cargo test -p bench-harness --test golden` writes the expectations anew; look at the difference then.

use std::fs;
use std::path::{Path, PathBuf};

use bench_harness::{report, store};

fn golden() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden")
}

/// A copy of the recording, so that nothing is written among the sources.
fn copied() -> tempfile::TempDir {
    let dir = tempfile::tempdir().expect("a temporary folder");
    for name in [store::SAMPLES, store::RUN] {
        fs::copy(golden().join(name), dir.path().join(name)).expect("the recording of the test");
    }
    dir
}

fn expect_same(name: &str, found: &str) {
    let path = golden().join(name);
    if std::env::var_os("BLESS").is_some() {
        fs::write(&path, found).expect("the sources are writable");
    }
    let expected = fs::read_to_string(&path).unwrap_or_default();
    for (line, (found, expected)) in found.lines().zip(expected.lines()).enumerate() {
        assert_eq!(found, expected, "{name} line {}", line + 1);
    }
    assert_eq!(found, expected, "{name}");
}

#[test]
fn a_recording_always_gives_the_same_summary_report_and_table() {
    let dir = copied();
    let (info, samples) = store::read(dir.path()).expect("a good recording");
    let rows = report::write_all(dir.path(), &info, &samples).expect("a writable folder");
    for name in [report::SUMMARY, report::STATISTICS, report::REPORT] {
        expect_same(name, &fs::read_to_string(dir.path().join(name)).expect("just written"));
    }
    expect_same(
        "terminal.txt",
        &report::terminal::render(&info, &rows, &bench_harness::checks::of(&samples), 100),
    );
    expect_same("readme.md", &report::markdown::readme_table(&info, &rows));
}

#[test]
fn the_report_embeds_charts_that_are_there_and_leaves_no_temporary_file() {
    let dir = copied();
    let (info, samples) = store::read(dir.path()).expect("a good recording");
    report::write_all(dir.path(), &info, &samples).expect("a writable folder");
    let text = fs::read_to_string(dir.path().join(report::REPORT)).expect("just written");
    for name in ["startup-phases", "startup-ecdf", "memory", "overhead"] {
        assert!(text.contains(&format!("(charts/{name}.svg)")), "{name}");
        for ending in ["svg", "png"] {
            assert!(dir.path().join(format!("charts/{name}.{ending}")).is_file(), "{name}.{ending}");
        }
    }
    let left =
        |folder: &Path| fs::read_dir(folder).expect("own folder").flatten().map(|entry| entry.file_name());
    let names: Vec<_> = left(dir.path()).chain(left(&dir.path().join("charts"))).collect();
    assert!(!names.iter().any(|name| name.to_string_lossy().contains("tmp")), "{names:?}");
    assert_eq!(names.len(), 14, "{names:?}");
}

#[test]
fn the_table_of_the_terminal_fits_100_columns() {
    let (info, samples) = store::read(&golden()).expect("a good recording");
    let rows = bench_harness::summary::summarise(&samples, info.seed);
    for width in [60, 80, 100] {
        let text = report::terminal::render(&info, &rows, &bench_harness::checks::of(&samples), width);
        for line in text.lines() {
            assert!(line.chars().count() <= width, "{width}: {line}");
        }
    }
}
