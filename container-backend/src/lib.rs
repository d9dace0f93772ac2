//! Runs a program in a namespace container, or as a bare process, and says where the time went.
//!
//! A [`Config`] names the program and its [`Isolation`]; [`Config::prepare`] checks it and computes everything that can
//! be computed beforehand; [`Prepared::spawn`] starts an instance, as often as wanted, and returns when the program's
//! image is in place; the [`Process`] waits, kills, and leaves nothing behind, even when it is just dropped. A bare
//! process is the same thing with no layer of isolation, started in the same way, so that the two can be compared.
//!
//! ```
//! use container_backend::{Config, Isolation, Limits, Program, Stdio, probe};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # let dir = tempfile::tempdir()?;
//! # let Some(program) = static_program(dir.path()) else { return Ok(()) };
//! if let Some(reason) = probe().container.reason() {
//!     println!("no containers on this host: {reason}");
//!     return Ok(());
//! }
//! let prepared = Config::new(Program::path(program))
//!     .args(["one", "two"])
//!     .isolation(Isolation::container())
//!     .limits(Limits::none().memory_bytes(64 << 20).pids(32))
//!     .prepare()?;
//! let mut process = prepared.spawn(Stdio::inherit())?;
//! let exit = process.wait(None)?.expect("without a timeout it waits for the end");
//! assert!(exit.status.success());
//! # Ok(())
//! # }
//! # fn static_program(dir: &std::path::Path) -> Option<std::path::PathBuf> {
//! #     let (source, out) = (dir.join("program.c"), dir.join("program"));
//! #     std::fs::write(&source, "int main(void) { return 0; }").ok()?;
//! #     let done = std::process::Command::new("cc").arg("-static").arg("-o").arg(&out).arg(&source).status().ok()?;
//! #     done.success().then_some(out)
//! # }
//! ```
//!
//! # What a container is here
//!
//! Its own mount, PID, network, IPC, UTS and cgroup namespaces; a root in memory that holds the program, `/proc`, a
//! minimal `/dev` and `/tmp`, entered by `pivot_root`; a session of its own; the capabilities that engines leave by
//! default; `no_new_privs`; a seccomp filter that refuses what the engines' default profile refuses; memory, CPU time and
//! processes bounded by control groups of either version. Each [`Layer`] can be left out or had by itself. For a caller
//! who is not root, a user namespace is added, in which the caller's user is root. See `DESIGN.md` for how and why.
//!
//! The program must be static, since the root holds nothing else.
//!
//! # What it needs
//!
//! Linux 5.12 on x86-64, and for everything but a bare process either root or the right to make user namespaces.
//! [`probe`] tells what a host permits, and why not.
//!
//! # To know before use
//!
//! - An instance is killed when the *thread* that spawned it ends ([`Config::die_with_caller`]).
//! - Instances are children of the calling process: one that ignores `SIGCHLD`, or waits for any child, takes their ends
//!   away from [`Process::wait`], which then says so.
//! - While an instance has limits, or a [`Prepared`] with limits exists, the caller has a small child process that removes
//!   the control groups should the caller be killed. A caller that waits for any child meets it, too.
//!
//! # Modules
//!
//! `config`, `isolation`, `error`, `timeline`: what a user meets. `prepare`: from a config to a list of steps (`plan`), made
//! by `rootfs`, `idmap`, `capabilities`, `seccomp`. `spawn`: one start, from the caller's side. `child`: the same from the
//! child's side. `process`: the running instance. `cgroup`: limits. `probe`: what the host permits. `sys`, `kernel`, `futex`,
//! `stack`: the ground floor. `network`, `veth`, `netlink`: what is in the network namespace. `aide`: what is done beside a
//! start. `init`: a process 1 that is not the program. `image`, `given`: archives, and roots that were given. `thrift`: what
//! an idle caller gives back.
#![cfg_attr(not(all(target_os = "linux", target_arch = "x86_64")), allow(unused))]

#[cfg(not(all(target_os = "linux", target_arch = "x86_64")))]
compile_error!("container-backend makes Linux system calls by the x86-64 instruction");

mod aide;
mod beside;
mod capabilities;
mod cgroup;
mod child;
mod config;
mod cpus;
mod error;
mod futex;
mod given;
mod idmap;
mod image;
mod init;
mod isolation;
mod kernel;
mod netlink;
mod options;
mod page;
mod plan;
mod prepare;
mod probe;
mod process;
mod program;
mod rootfs;
mod seccomp;
mod spawn;
mod stack;
mod steps;
mod sys;
mod thrift;
mod timeline;
mod veth;

pub use capabilities::Capabilities;
pub use cgroup::{Hierarchies, IoLimit, Kind as CgroupKind, Usage};
pub use config::{Config, Limits, Program, Stdio, Stream};
pub use cpus::cpu_ranges;
pub use error::{CgroupError, PrepareError, ProcessError, SpawnError};
pub use idmap::IdMaps;
pub use image::{Bounds, Image, ImageError};
pub use isolation::{Isolation, Layer};
pub use netlink::Address;
pub use options::{Bind, Network, Proc, Rlimit, Rootfs, User};
pub use page::OWN_PROGRAMS;
pub use prepare::{DEFAULT_PATH, Prepared};
pub use probe::{Host, Permission, probe};
pub use process::{Exit, Process, Resources, Status};
pub use seccomp::{Profile, ProfileError};
pub use sys::monotonic_ns;
pub use thrift::give_back_memory_until;
pub use timeline::{Phase, Timeline};
pub use veth::Veth;
