//! The same program under a real Linux kernel: the reader's own, unmodified.
//!
//! ```no_run
//! use vm_backend::{LinuxConfig, Program, Stdio};
//!
//! let machine = LinuxConfig::new("/boot/vmlinuz", Program::Path("/usr/bin/busybox".into()))
//!     .guest_path("/bin/busybox")
//!     .args(["echo", "hello"])
//!     .mem_mib(128)
//!     .prepare()?;
//! let (stdin, stdout, stderr) = (std::io::stdin(), std::io::stdout(), std::io::stderr());
//! let mut monitor = machine.spawn(Stdio::new(&stdin, &stdout, &stderr))?;
//! let outcome = monitor.wait(None)?;
//! # Ok::<(), vm_backend::Error>(())
//! ```
//!
//! * [`config`]: what to run, on what kernel, in how large a machine
//! * [`kernel`]: bzImage and vmlinux, and what is neither
//! * [`cmdline`], [`cpio`], [`params`], [`mptable`], [`acpi`], [`layout`]: what a kernel is given, as pure functions
//! * [`rootfs`]: a folder as the guest's root
//! * [`virtio`]: disks and a network card
//! * [`machine`]: a prepared machine; all of its memory that is the same for every instance
//! * [`probe`](mod@probe): whether the host's KVM runs kernels at all
//! * `monitor`, `vcpu`, `mailbox`, `console`, `bus`: the process that holds the machine

pub mod acpi;
mod bus;
pub mod cmdline;
pub mod config;
mod console;
pub mod cpio;
mod cpu;
pub mod error;
pub mod kernel;
pub mod layout;
pub mod machine;
mod mailbox;
mod monitor;
pub mod mptable;
pub mod params;
pub mod probe;
pub mod rootfs;
mod vcpu;
pub mod virtio;

pub use config::{LinuxConfig, Root};
pub(crate) use console::Log;
pub use error::{KernelError, LinuxError};
pub use machine::LinuxVm;
pub(crate) use mailbox::fuzz as fuzz_mailbox;

/// Named phases of a start, in order. `ready` is the reader's: it ends when the first byte of output arrives.
pub const PHASES: [&str; 10] = [
    "monitor",
    "open",
    "create_vm",
    "memory",
    "load",
    "vcpu",
    "enter",
    "kernel_decompress",
    "kernel_init",
    "init",
];
