//! Builds the freestanding guest (`guest/`) and hands its ELF file to the crate as `GUEST_ELF`.
//!
//! The guest is no member of the workspace: it needs its own linker script and flags, and neither `cargo test` nor
//! `cargo clippy` of the workspace could link it.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::{env, fs};

fn main() {
    let manifest = PathBuf::from(env::var_os("CARGO_MANIFEST_DIR").expect("cargo sets it"));
    let out = PathBuf::from(env::var_os("OUT_DIR").expect("cargo sets it"));
    let guest = manifest.join("guest");
    for path in ["guest/src", "guest/Cargo.toml", "guest/Cargo.lock", "guest/link.ld", "abi/src", "build.rs"]
    {
        println!("cargo::rerun-if-changed={}", manifest.join(path).display());
    }
    let elf = build(&guest, &out.join("guest-target"));
    let target = out.join("guest.elf");
    fs::copy(&elf, &target).unwrap_or_else(|e| panic!("copying {}: {e}", elf.display()));
    println!("cargo::rustc-env=GUEST_ELF={}", target.display());
}

fn build(guest: &Path, target_dir: &Path) -> PathBuf {
    const TARGET: &str = "x86_64-unknown-linux-gnu";
    let flags = [
        // Position-independent code, though it is linked at a fixed place: that lies above 2 GiB, out of reach of the small
        // code model's absolute addresses.
        "-Crelocation-model=pic".to_owned(),
        "-Clink-arg=-no-pie".to_owned(),
        "-Clink-arg=-nostartfiles".to_owned(),
        "-Clink-arg=-nostdlib".to_owned(),
        "-Clink-arg=-static".to_owned(),
        "-Clink-arg=-Wl,--build-id=none".to_owned(),
        format!("-Clink-arg=-Wl,-T{}", guest.join("link.ld").display()),
        // Two builds of one commit give one digest, wherever they are made.
        format!("--remap-path-prefix={}=guest", guest.display()),
    ];
    let mut cargo = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    cargo
        .args(["build", "--release", "--locked", "--quiet", "--target", TARGET])
        .arg("--manifest-path")
        .arg(guest.join("Cargo.toml"))
        .arg("--target-dir")
        .arg(target_dir)
        .env("CARGO_ENCODED_RUSTFLAGS", flags.join("\x1f"));
    // What the outer cargo, clippy or a profile set for the workspace is not meant for the guest.
    for (name, _) in env::vars_os() {
        let name = name.to_string_lossy().into_owned();
        if name.starts_with("CARGO_PROFILE_")
            || name.starts_with("CARGO_BUILD_")
            || matches!(
                &*name,
                "RUSTFLAGS" | "RUSTC" | "RUSTC_WRAPPER" | "RUSTC_WORKSPACE_WRAPPER" | "CARGO_TARGET_DIR"
            )
        {
            cargo.env_remove(&name);
        }
    }
    // An empty wrapper overrides the one that the workspace's .cargo/config.toml names.
    cargo.env("RUSTC_WORKSPACE_WRAPPER", "");
    let status = cargo.status().expect("cargo can be started");
    assert!(status.success(), "building the guest in {} failed", guest.display());
    target_dir.join(TARGET).join("release/guest")
}
