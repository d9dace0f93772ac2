//! The built-in guest: serves the Linux system calls of one static program from ring 3 of a virtual machine.
//!
//! There is no kernel under it. A system call of the program goes through a ring-0 stub of three instructions, written
//! by the monitor, straight back into ring 3, to [`entry`]; what the guest cannot do by itself leaves by [`port`].
//! Guest and program share one address space: the boundary that protects the host is the virtual machine.
//!
//! * [`entry`]: the way in and out of a system call or a fault
//! * [`port`]: the way out of the machine
//! * [`calls`]: the table of calls; one module a subject below it
//! * [`heap`]: the region that `mmap` and `brk` hand out
//! * [`vfs`]: the small file system: devices, files handed over, `/tmp`
//! * [`signal`]: handlers, and frames on the program's stack
//! * [`fpu`]: floating-point and vector state of such a frame
//! * [`user`]: the program's memory, where a bad address is EFAULT
//! * [`cell`], [`string`], [`errno`]: what a freestanding program lacks
#![no_std]
#![no_main]

mod calls;
mod cell;
mod entry;
mod errno;
mod fpu;
mod heap;
mod port;
mod signal;
mod string;
mod user;
mod vfs;

use core::panic::PanicInfo;

/// A defect of the guest, not of the program: ends the machine with SIGABRT, at the address of the request block,
/// which no program's fault can name.
#[panic_handler]
fn panic(_: &PanicInfo<'_>) -> ! {
    port::killed(signal::SIGABRT, vm_abi::BOOT_VA)
}
