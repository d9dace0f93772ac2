//! Builds the static programs and hands their bytes to `src/lib.rs`.
//!
//! Each is a separate cargo run with a target folder of its own: the outer cargo holds the lock of its target
//! folder while this script runs, and the programs need flags that nothing else shall get.
//! Whatever the outer run is (`build`, `test`, `clippy`, `doc`, of any profile), they are built the same way, to
//! the same bytes; and each by itself, so that what one of them asks of a library does not change the other.

use std::env;
use std::error::Error;
use std::ffi::OsString;
use std::fs;
use std::hash::{DefaultHasher, Hasher};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// What is measured most, and the real workloads: names of package, executable and file.
const PACKAGES: [&str; 2] = ["workload-program", "workload-real"];
const TARGET: &str = "x86_64-unknown-linux-gnu";
const START_ORDER: &str = "program/start-order.txt";

/// Flags for the compiler.
///
/// - `crt-static`, `relocation-model=static`: no loader and no relocations at start; the plainest case of an
///   ELF file, which every target can run.
/// - `relro-level=off`: saves the call that makes a few pages read-only once relocations are done; there are
///   none.
/// - `build-id=none`: nothing in the file shall depend on anything but the sources.
const RUSTC_FLAGS: [&str; 8] = [
    "-C",
    "target-feature=+crt-static",
    "-C",
    "relocation-model=static",
    "-C",
    "relro-level=off",
    "-C",
    "link-arg=-Wl,--build-id=none",
];

/// Puts what runs before `main` side by side: 23 pages of code are touched instead of 45. Only LLVM's linker,
/// which is rustc's own on this target, knows the option; without it the program is the same, somewhat slower
/// to start. The path is relative to the workspace, where cargo starts the compiler.
const ORDER_FLAGS: [&str; 4] = [
    "-C",
    "link-arg=-Wl,--symbol-ordering-file=workloads/program/start-order.txt",
    "-C",
    "link-arg=-Wl,--no-warn-symbol-ordering",
];

/// The whole profile, so that the workspace's own (debug lines, code units) may change without changing the
/// programs.
const PROFILE: [(&str, &str); 10] = [
    ("OPT_LEVEL", "3"),
    ("LTO", "fat"),
    ("CODEGEN_UNITS", "1"),
    ("PANIC", "abort"),
    ("STRIP", "symbols"),
    ("DEBUG", "false"),
    ("SPLIT_DEBUGINFO", "off"),
    ("DEBUG_ASSERTIONS", "false"),
    ("OVERFLOW_CHECKS", "false"),
    ("INCREMENTAL", "false"),
];

fn main() -> Result<(), Box<dyn Error>> {
    let crate_dir = PathBuf::from(variable("CARGO_MANIFEST_DIR")?);
    let workspace = crate_dir.parent().ok_or("the crate has no parent folder")?;
    for path in ["build.rs", "program/Cargo.toml", "program/src", "real/Cargo.toml", "real/src", START_ORDER]
    {
        println!("cargo::rerun-if-changed={}", crate_dir.join(path).display());
    }
    for path in ["Cargo.toml", "Cargo.lock", ".cargo/config.toml"] {
        println!("cargo::rerun-if-changed={}", workspace.join(path).display());
    }
    if variable("CARGO_CFG_TARGET_ARCH")? != "x86_64" || variable("CARGO_CFG_TARGET_OS")? != "linux" {
        return Err("the workloads are made for x86-64 Linux only".into());
    }

    let out_dir = PathBuf::from(variable("OUT_DIR")?);
    let target_dir = target_dir(&out_dir);
    // Cargo does not know that the linker reads the file: its digest among the flags makes a change of it one
    // of theirs.
    let digest = digest(&crate_dir.join(START_ORDER))?;
    let cfg = format!("start_order=\"{digest:016x}\"");
    let ordered = [&RUSTC_FLAGS[..], &ORDER_FLAGS[..], &["--cfg", &cfg][..]].concat();
    for package in PACKAGES {
        match build(package, workspace, &target_dir, &ordered) {
            Err(Failure::Build(messages)) if messages.contains("--symbol-ordering-file") => {
                println!(
                    "cargo::warning=the linker cannot order functions: {package} starts a little slower"
                );
                build(package, workspace, &target_dir, &RUSTC_FLAGS)
                    .map_err(|failure| failure.of(package))?;
            }
            other => other.map_err(|failure| failure.of(package))?,
        }
        let program = target_dir.join(TARGET).join("release").join(package);
        let bytes =
            fs::read(&program).map_err(|error| format!("cannot read {}: {error}", program.display()))?;
        check_static(&bytes).map_err(|reason| format!("{} {reason}", program.display()))?;
        fs::write(out_dir.join(package), bytes)?;
    }
    Ok(())
}

/// One folder for all profiles of the outer run: what is built is the same, and SQLite takes a while. `OUT_DIR` is
/// `TARGET/PROFILE/build/PACKAGE-HASH/out`; where a cargo lays it out otherwise, each has its own.
fn target_dir(out_dir: &Path) -> PathBuf {
    let mut above = out_dir.ancestors().skip(2);
    match (above.next(), above.nth(1)) {
        (Some(build), Some(target)) if build.ends_with("build") => target.join("workload-programs"),
        _ => out_dir.join("program-target"),
    }
}

fn variable(name: &str) -> Result<OsString, String> {
    env::var_os(name).ok_or_else(|| format!("cargo did not set {name}"))
}

fn digest(path: &Path) -> Result<u64, String> {
    let content = fs::read(path).map_err(|error| format!("cannot read {}: {error}", path.display()))?;
    let mut hasher = DefaultHasher::new();
    hasher.write(&content);
    Ok(hasher.finish())
}

/// Why there is no program.
enum Failure {
    /// It was not even tried.
    Setup(String),
    /// What cargo, the compiler and the linker said.
    Build(String),
}

impl Failure {
    /// What to tell whoever builds.
    fn of(self, package: &str) -> String {
        match self {
            Self::Setup(reason) => reason,
            Self::Build(messages) => {
                let advice = if messages.contains("find -lc") || messages.contains("find library -lc") {
                    "the static C library is missing: it is in libc6-dev (Debian, Ubuntu) or glibc-static (Fedora)"
                } else if messages.contains("can't find crate for `std`") {
                    "the target's standard library is missing: rustup target add x86_64-unknown-linux-gnu"
                } else if messages.contains("failed to find tool") {
                    "a C compiler is missing: it is in gcc (Debian, Ubuntu, Fedora); SQLite is built with it"
                } else {
                    "see the messages above"
                };
                format!("cannot build {package}:\n{messages}\n{advice}")
            }
        }
    }
}

impl From<String> for Failure {
    fn from(reason: String) -> Self {
        Self::Setup(reason)
    }
}

fn build(package: &str, workspace: &Path, target_dir: &Path, rustc_flags: &[&str]) -> Result<(), Failure> {
    let mut command = Command::new(variable("CARGO")?);
    command
        .current_dir(workspace)
        .args(["build", "--release", "--locked", "--quiet"])
        .args(["--package", package, "--bin", package, "--target", TARGET, "--target-dir"])
        .arg(target_dir)
        .stdin(Stdio::null());
    for (name, _) in env::vars_os() {
        if !is_kept(&name.to_string_lossy()) {
            command.env_remove(name);
        }
    }
    // An empty name switches the wrapper off, whether it comes from the environment (clippy's) or from our
    // configuration.
    command.env("RUSTC_WORKSPACE_WRAPPER", "");
    command.env("CARGO_ENCODED_RUSTFLAGS", encoded(rustc_flags, workspace)?);
    for (key, value) in PROFILE {
        command.env(format!("CARGO_PROFILE_RELEASE_{key}"), value);
    }
    let output = command.output().map_err(|error| format!("cannot start cargo: {error}"))?;
    if output.status.success() {
        Ok(())
    } else {
        Err(Failure::Build(String::from_utf8_lossy(&output.stderr).into_owned()))
    }
}

/// Of what cargo and the user set, all that leaves the program's bytes alone: where cargo finds crates and
/// the network, how many jobs it may start, which compiler and linker there are, and everything that is not
/// cargo's.
fn is_kept(name: &str) -> bool {
    const KEPT: [&str; 10] = [
        "CARGO_HOME",
        "CARGO_HTTP_",
        "CARGO_NET_",
        "CARGO_REGISTR",
        "CARGO_SOURCE_",
        "CARGO_MAKEFLAGS",
        "CARGO_BUILD_JOBS",
        "CARGO_TARGET_X86_64_UNKNOWN_LINUX_GNU_LINKER",
        "RUSTC_WRAPPER",
        "RUSTC_BOOTSTRAP",
    ];
    let of_cargo = name.starts_with("CARGO") || name.starts_with("RUSTC_") || name.starts_with("RUSTFLAGS");
    !of_cargo || KEPT.iter().any(|kept| name.starts_with(kept))
}

/// The flags, and names for the two folders whose paths panic messages would otherwise carry into the file.
fn encoded(rustc_flags: &[&str], workspace: &Path) -> Result<OsString, String> {
    let cargo_home = env::var_os("CARGO_HOME")
        .map(PathBuf::from)
        .or_else(|| env::var_os("HOME").map(|home| Path::new(&home).join(".cargo")))
        .ok_or("neither CARGO_HOME nor HOME is set")?;
    let mut flags = OsString::from(rustc_flags.join("\x1f"));
    for (path, name) in [(cargo_home.as_path(), "/cargo"), (workspace, "/workspace")] {
        flags.push("\x1f--remap-path-prefix\x1f");
        flags.push(path);
        flags.push("=");
        flags.push(name);
    }
    Ok(flags)
}

/// Whether the file is an x86-64 executable that needs no loader (System V ABI, "ELF header" and "program
/// header").
fn check_static(elf: &[u8]) -> Result<(), String> {
    const ET_EXEC: u16 = 2;
    const ET_DYN: u16 = 3;
    const EM_X86_64: u16 = 62;
    const PT_INTERP: u32 = 3;
    const HEADER_BYTES: usize = 56;
    let short = || "is cut short".to_owned();
    let half = |at: usize| Some(u16::from_le_bytes(*elf.get(at..)?.first_chunk()?));
    let word = |at: usize| Some(u32::from_le_bytes(*elf.get(at..)?.first_chunk()?));
    if !elf.starts_with(b"\x7fELF\x02\x01") {
        return Err("is no 64-bit little-endian ELF file".to_owned());
    }
    let (kind, machine) = (half(16).ok_or_else(short)?, half(18).ok_or_else(short)?);
    if machine != EM_X86_64 || !(kind == ET_EXEC || kind == ET_DYN) {
        return Err(format!("is of ELF type {kind} for machine {machine}, not an executable for x86-64"));
    }
    let table = word(32).ok_or_else(short)? as usize;
    let count = usize::from(half(56).ok_or_else(short)?);
    for index in 0..count {
        if word(table + index * HEADER_BYTES).ok_or_else(short)? == PT_INTERP {
            return Err("is linked dynamically, though crt-static was asked for".to_owned());
        }
    }
    Ok(())
}
