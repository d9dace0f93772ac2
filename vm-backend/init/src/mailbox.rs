//! The memory that is shared with the monitor, and the port that tells it to look.

use core::arch::asm;

use vm_abi::linux::{DATA_OFFSET, DATA_SIZE, DOORBELL, MAGIC, MAILBOX_GPA, MAILBOX_SIZE, VERSION, op, steps};

use crate::sys;

/// Step of this program and errno.
pub type Failure = (u32, i32);

/// Leaves the machine once.
pub fn ring(op: u8) {
    // SAFETY: the port is the monitor's; it may change the mailbox, which is only accessed through raw pointers, so that the
    // default of `asm!`, that memory may change, is what is meant.
    unsafe { asm!("out dx, al", in("dx") DOORBELL, in("al") op, options(nostack, preserves_flags)) };
}

/// The mapped mailbox.
pub struct Mailbox(*mut vm_abi::linux::Mailbox);

impl Mailbox {
    /// Maps it. The node in `/dev` is gone afterwards: the program finds no way to it.
    pub fn open() -> Result<Self, (Option<Self>, Failure)> {
        const READ_WRITE: i32 = 2;
        const CLOSE_ON_EXEC: i32 = 0o2_000_000;
        let fd =
            sys::open(c"/dev/mem", READ_WRITE | CLOSE_ON_EXEC).map_err(|e| (None, (steps::OPEN_MEM, e)))?;
        let place = sys::map_shared(fd as i32, MAILBOX_SIZE as usize, MAILBOX_GPA as usize)
            .map_err(|e| (None, (steps::MAP_MEM, e)))?;
        sys::close(fd as i32);
        sys::unlink(c"/dev/mem");
        let mailbox = Self(place as *mut vm_abi::linux::Mailbox);
        let page = mailbox.page();
        if page.magic != MAGIC || page.version != VERSION {
            return Err((None, (steps::MAILBOX, 0)));
        }
        Ok(mailbox)
    }

    /// What is in the first page now.
    pub fn page(&self) -> vm_abi::linux::Mailbox {
        // SAFETY: mapped for ever, aligned to a page, and any bytes are a valid value.
        unsafe { self.0.read_volatile() }
    }

    /// Where the data are.
    pub fn data(&self) -> *mut u8 {
        self.0.cast::<u8>().wrapping_add(DATA_OFFSET as usize)
    }

    /// Room for them.
    pub const fn room() -> usize {
        DATA_SIZE as usize
    }

    /// Asks for something; the page as it is then.
    pub fn request(&self, operation: u8, stream: u32, len: usize, status: i32) -> vm_abi::linux::Mailbox {
        let page = vm_abi::linux::Mailbox { stream, len: len as u32, status, result: 0, ..self.page() };
        // SAFETY: as in `page`; the monitor reads it only after the bell.
        unsafe { self.0.write_volatile(page) };
        ring(operation);
        self.page()
    }
}

/// Tells the monitor that there is no going on. Without a mailbox it learns only that, not why.
pub fn fail(mailbox: Option<&Mailbox>, step: u32, errno: i32) -> ! {
    match mailbox {
        Some(mailbox) => {
            mailbox.request(op::FAILED, step, 0, errno);
        }
        None => ring(op::FAILED),
    }
    // The monitor ends the machine; if not, the kernel does.
    sys::exit(70)
}
