//! The guest's only way out: fill in the request block, write to the doorbell, read the answer.

use crate::errno::{Result, from_monitor};
use core::arch::asm;
use vm_abi::{BOOT_VA, Boot, Request, op, port};

/// The boot block, shared with the monitor.
pub fn boot() -> *mut Boot {
    BOOT_VA as *mut Boot
}

/// One field of the boot block.
#[macro_export]
macro_rules! boot {
    ($field:ident) => {
        // SAFETY: the monitor mapped the block before the machine started, and writes to it only during `call`.
        unsafe { (&raw const (*$crate::port::boot()).$field).read_volatile() }
    };
}

/// Asks the monitor and waits for its answer; the raw result.
pub fn call_raw(op: u64, args: [u64; 4]) -> i64 {
    let request = boot().cast::<Request>();
    // SAFETY: the request block is the first field of the boot block, which is mapped for as long as the machine runs;
    // the `out` leaves the machine, the monitor reads and answers the block, and only then does the guest go on.
    unsafe {
        request.write_volatile(Request { op, args, result: 0 });
        asm!("out {port}, al", port = const port::DOORBELL, in("al") 0u8, options(nostack, preserves_flags));
        (&raw const (*request).result).read_volatile()
    }
}

/// Asks the monitor; a negative result is an error number.
pub fn call(op: u64, args: [u64; 4]) -> Result {
    from_monitor(call_raw(op, args))
}

/// The arguments as the monitor left them.
pub fn answer() -> [u64; 4] {
    // SAFETY: as in `call_raw`.
    unsafe { (&raw const (*boot()).request.args).read_volatile() }
}

/// Ends the program.
pub fn exit(code: u64) -> ! {
    loop {
        call_raw(op::EXIT, [code, 0, 0, 0]);
    }
}

/// Ends the program as by a signal.
pub fn killed(signal: u64, address: u64) -> ! {
    loop {
        call_raw(op::KILLED, [signal, address, 0, 0]);
    }
}
