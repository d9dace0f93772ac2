//! Builds the freestanding guest (`guest/`) and the init of Linux guests (`init/`), and hands their ELF files to the
//! crate as `GUEST_ELF` and `INIT_ELF`.
//!
//! They are no members of the workspace: they need their own flags, and the guest its own linker script; neither `cargo
//! test` nor `cargo clippy` of the workspace could link them.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::{env, fs};

fn main() {
    let manifest = PathBuf::from(env::var_os("CARGO_MANIFEST_DIR").expect("cargo sets it"));
    let out = PathBuf::from(env::var_os("OUT_DIR").expect("cargo sets it"));
    for path in
        ["guest/src", "guest/Cargo.toml", "guest/Cargo.lock", "guest/link.ld", "init/src", "init/Cargo.toml"]
            .into_iter()
            .chain(["init/Cargo.lock", "abi/src", "build.rs"])
    {
        println!("cargo::rerun-if-changed={}", manifest.join(path).display());
    }
    let guest = manifest.join("guest");
    let script = format!("-Clink-arg=-Wl,-T{}", guest.join("link.ld").display());
    for (name, variable, extra) in [("guest", "GUEST_ELF", Some(script)), ("init", "INIT_ELF", None)] {
        let elf = build(name, &manifest.join(name), &out.join(format!("{name}-target")), extra);
        let target = out.join(format!("{name}.elf"));
        fs::copy(&elf, &target).unwrap_or_else(|e| panic!("copying {}: {e}", elf.display()));
        println!("cargo::rustc-env={variable}={}", target.display());
    }
}

fn build(name: &str, source: &Path, target_dir: &Path, extra: Option<String>) -> PathBuf {
    const TARGET: &str = "x86_64-unknown-linux-gnu";
    let mut flags = vec![
        // Position-independent code, though it is linked at a fixed place: the guest's lies above 2 GiB, out of reach of
        // the small code model's absolute addresses.
        "-Crelocation-model=pic".to_owned(),
        "-Clink-arg=-no-pie".to_owned(),
        "-Clink-arg=-nostartfiles".to_owned(),
        "-Clink-arg=-nostdlib".to_owned(),
        "-Clink-arg=-static".to_owned(),
        "-Clink-arg=-Wl,--build-id=none".to_owned(),
        // Two builds of one commit give one digest, wherever they are made.
        format!("--remap-path-prefix={}={name}", source.display()),
    ];
    flags.extend(extra);
    let mut cargo = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    cargo
        .args(["build", "--release", "--locked", "--quiet", "--target", TARGET])
        .arg("--manifest-path")
        .arg(source.join("Cargo.toml"))
        .arg("--target-dir")
        .arg(target_dir)
        .env("CARGO_ENCODED_RUSTFLAGS", flags.join("\x1f"));
    // What the outer cargo, clippy or a profile set for the workspace is not meant for these.
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
    assert!(status.success(), "building {} failed", source.display());
    target_dir.join(TARGET).join("release").join(name)
}
