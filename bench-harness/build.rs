//! Tells the program which commit it is built from, where that is known.

use std::process::Command;

fn git(args: &[&str]) -> Option<String> {
    let output = Command::new("git").args(args).output().ok().filter(|output| output.status.success())?;
    Some(String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

fn main() {
    // Without these lines cargo runs this for every change of the crate, which is what keeps `dirty` true to the
    // source; with them it runs for commits that touch nothing here, too.
    println!("cargo:rerun-if-changed=src");
    println!("cargo:rerun-if-changed=build.rs");
    for name in ["HEAD", "index"] {
        if let Some(path) = git(&["rev-parse", "--git-path", name]) {
            println!("cargo:rerun-if-changed={path}");
        }
    }
    if let Some(hash) = git(&["rev-parse", "HEAD"]) {
        println!("cargo:rustc-env=BENCH_HARNESS_COMMIT={hash}");
        let dirty =
            git(&["status", "--porcelain", "--untracked-files=no"]).is_none_or(|text| !text.is_empty());
        println!("cargo:rustc-env=BENCH_HARNESS_DIRTY={dirty}");
    }
}
