//! First process of a Linux guest: runs one unmodified program, and hands its output and its end to the monitor.
//!
//! It needs a kernel with `/dev/mem` and iopl(2), no driver and no libc. What goes to the monitor lies in the
//! [`mailbox`], and one byte to a port says that it is there: one exit for up to 64 KiB.
//!
//! * [`sys`]: system calls
//! * [`mailbox`]: the way out of the machine
//! * [`root`], [`disks`], [`net`]: a disk as the program's root, nodes of other disks, a network card
//! * [`program`]: starting the program, its streams, its end
#![no_std]
#![no_main]

mod disks;
mod mailbox;
mod net;
mod program;
mod root;
mod string;
mod sys;

use core::panic::PanicInfo;

use mailbox::Mailbox;

core::arch::global_asm!(".globl _start", "_start:", "xor ebp, ebp", "and rsp, -16", "call {}", "ud2", sym start);

/// Entered once, with an empty stack.
extern "C" fn start() -> ! {
    // Without the right to use ports there is no way to say so: the instruction then faults, and the kernel's panic, which
    // names init, is in the log.
    sys::iopl(3);
    mailbox::ring(vm_abi::linux::op::ENTERED);
    let end = Mailbox::open()
        .and_then(|mailbox| program::run(&mailbox).map_err(|failure| (Some(mailbox), failure)));
    match end {
        Ok(never) => match never {},
        Err((mailbox, (step, errno))) => mailbox::fail(mailbox.as_ref(), step, errno),
    }
}

/// A defect of this program. The kernel panics when its init ends, and the monitor reports that.
#[panic_handler]
fn panic(_: &PanicInfo<'_>) -> ! {
    sys::exit(70)
}
