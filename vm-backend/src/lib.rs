//! Runs an unmodified static Linux program in a minimal KVM virtual machine.
//!
//! There is no firmware, no kernel image and no device: a small built-in guest serves the Linux system calls that a
//! static program makes, in ring 3, and leaves the machine only for what it cannot do by itself. One monitor process
//! holds one machine. `DESIGN.md` has the memory map, the way of a system call, and what is left out and why.
//!
//! Needs x86-64 Linux and a usable `/dev/kvm`; [`probe()`] says whether there is one, and of which kind.
//!
//! ```no_run
//! use vm_backend::{Program, Status, Stdio, VmConfig};
//!
//! let vm = VmConfig::new(Program::Path("/usr/bin/busybox".into()))
//!     .guest_path("/bin/busybox")
//!     .args(["echo", "hello"])
//!     .mem_mib(64)
//!     .prepare()?;
//! let (stdin, stdout, stderr) = (std::io::stdin(), std::io::stdout(), std::io::stderr());
//! let mut monitor = vm.spawn(Stdio::new(&stdin, &stdout, &stderr))?;
//! let outcome = monitor.wait(None)?.expect("without a timeout it waits for the end");
//! assert_eq!(outcome.status, Status::Exited(0));
//! # Ok::<(), vm_backend::Error>(())
//! ```
//!
//! * [`config`]: what to run, and in how large a machine
//! * [`vm`]: a prepared machine, and the handle of a running one
//! * [`report`]: how it ended, its timeline, its exits
//! * [`probe`](mod@probe): what stands behind `/dev/kvm`
//! * [`elf`], [`layout`], [`template`], [`boot`]: how a program becomes guest memory and registers
//! * `space`: the address space that instances inherit; `backing`: what stands behind it
//! * `monitor`: the process that holds the machine
//! * [`linux`]: the same program under a real Linux kernel
//! * [`error`]: what can go wrong, by step

#[cfg(not(all(target_arch = "x86_64", target_os = "linux")))]
compile_error!("vm-backend needs x86-64 Linux");

mod backing;
pub mod boot;
mod clock;
pub mod config;
pub mod elf;
pub mod error;
#[doc(hidden)]
pub mod fuzz;
pub mod layout;
pub mod linux;
mod monitor;
mod paths;
pub mod probe;
pub mod report;
mod space;
pub mod template;
pub mod vm;

pub use backing::Backing;
pub use config::{Program, Stdio, VmConfig};
pub use error::{ConfigError, Error, KvmError, ProgramError};
pub use linux::{KernelError, LinuxConfig, LinuxError, LinuxVm, Root};
pub use probe::{Virtualisation, probe};
pub use report::{Exits, Failure, Status};
pub use template::guest_elf;
pub use vm::{Monitor, Outcome, Vm};
