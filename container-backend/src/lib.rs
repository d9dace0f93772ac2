//! Runs a program in a namespace container, or as a bare process, and says where the time went.
#![cfg_attr(not(all(target_os = "linux", target_arch = "x86_64")), allow(unused))]

#[cfg(not(all(target_os = "linux", target_arch = "x86_64")))]
compile_error!("container-backend makes Linux system calls by the x86-64 instruction");

mod capabilities;
mod cgroup;
mod child;
mod config;
mod error;
mod idmap;
mod isolation;
mod plan;
mod prepare;
mod probe;
mod process;
mod rootfs;
mod seccomp;
mod spawn;
mod stack;
mod sys;
mod timeline;

pub use cgroup::{Hierarchies, Kind as CgroupKind, Usage};
pub use config::{Config, Limits, Program, Stdio, Stream};
pub use error::{CgroupError, PrepareError, ProcessError, SpawnError};
pub use isolation::{Isolation, Layer};
pub use prepare::Prepared;
pub use probe::{Host, Permission, probe};
pub use process::{Exit, Process, Resources, Status};
pub use sys::monotonic_ns;
pub use timeline::{Phase, Timeline};
