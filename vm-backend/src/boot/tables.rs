//! The CPU page: GDT, TSS, IDT, and all the code that ever runs in ring 0.
//!
//! ```text
//! 0x000 GDT    0x080 TSS    0x100 system-call stub    0x140 its return frame
//! 0x200 IDT    0x400 exception stubs    ...    0x1000 top of the ring-0 stack
//! ```
//!
//! Ring 0 runs at half a microsecond an instruction where it is emulated, so it holds as little as can be: a system call
//! is three instructions, an exception one before it leaves the machine and one after.

use vm_abi::{CPU_VA, Header, PAGE, port};

use crate::error::Error;

/// Selector of ring-0 code; ring-0 data follows, as STAR wants it.
pub const KERNEL_CODE: u16 = 0x08;
/// Selector of ring-0 data.
pub const KERNEL_DATA: u16 = 0x10;
/// Selector of ring-3 data, as on Linux.
pub const USER_DATA: u16 = 0x2b;
/// Selector of ring-3 code, as on Linux.
pub const USER_CODE: u16 = 0x33;
/// Selector of the task state segment.
pub const TSS: u16 = 0x40;

/// Offset of the task state segment.
pub const TSS_OFFSET: u64 = 0x80;
/// Its last byte (104 bytes; Intel SDM vol. 3, 8.7).
pub const TSS_LIMIT: u32 = 0x67;
/// Last byte of the GDT: eight entries and the TSS's second half.
pub const GDT_LIMIT: u16 = 0x4f;
/// Offset of the IDT.
pub const IDT_OFFSET: u64 = 0x200;
/// Last byte of the IDT: 32 gates of 16 bytes.
pub const IDT_LIMIT: u16 = 0x1ff;
/// Offset of the system-call stub, for LSTAR.
pub const SYSCALL_STUB: u64 = 0x100;
const RETURN_FRAME: u64 = 0x140;
const EXCEPTION_STUBS: u64 = 0x400;
const EXCEPTION_STUB_SIZE: u64 = 8;
/// Top of the ring-0 stack: the end of the page.
pub const RING0_STACK_TOP: u64 = CPU_VA + PAGE;

/// RFLAGS in ring 3: bit 1 is always set; IF as on Linux; IOPL 3, so that `out` is allowed.
pub const USER_RFLAGS: u64 = 0x2 | 1 << 9 | 3 << 12;

/// Descriptors (Intel SDM vol. 3, 3.4.5): present, code or data, long mode for code.
const GDT: [u64; 8] =
    [0, 0x00af_9b00_0000_ffff, 0x00cf_9300_0000_ffff, 0, 0, 0x00cf_f300_0000_ffff, 0x00af_fb00_0000_ffff, 0];

/// [`PAGE`] as a length.
const PAGE_LEN: usize = 4096;
const _: () = assert!(PAGE_LEN as u64 == PAGE);

struct Page([u8; PAGE_LEN]);

impl Page {
    fn put(&mut self, at: u64, bytes: &[u8]) {
        let at = usize::try_from(at).unwrap_or(usize::MAX);
        // All offsets are constants of this module below one page.
        self.0[at..at + bytes.len()].copy_from_slice(bytes);
    }

    fn put_u64(&mut self, at: u64, value: u64) {
        self.put(at, &value.to_le_bytes());
    }
}

/// Distance from the end of an instruction to a target, for RIP-relative addressing.
fn relative(target: u64, end_of_instruction: u64) -> Result<[u8; 4], Error> {
    i32::try_from(target.wrapping_sub(end_of_instruction).cast_signed())
        .map(i32::to_le_bytes)
        .map_err(|_| Error::Guest { what: "a symbol is out of reach of the ring-0 stub" })
}

/// Builds the page.
pub fn cpu_page(guest: &Header) -> Result<Box<[u8]>, Error> {
    let mut page = Page([0; PAGE_LEN]);
    for (i, entry) in (0u64..).zip(GDT) {
        page.put_u64(8 * i, entry);
    }
    let tss = CPU_VA + TSS_OFFSET;
    // Available 64-bit TSS, type 9, present.
    page.put_u64(
        u64::from(TSS),
        u64::from(TSS_LIMIT) | (tss & 0xff_ffff) << 16 | 0x89 << 40 | (tss >> 24 & 0xff) << 56,
    );
    page.put_u64(u64::from(TSS) + 8, tss >> 32);
    page.put_u64(TSS_OFFSET + 4, RING0_STACK_TOP);

    // mov [rip + user_rsp], rsp; lea rsp, [rip + frame]; iretq
    let mut code = vec![0x48, 0x89, 0x25];
    code.extend(relative(guest.user_rsp, CPU_VA + SYSCALL_STUB + 7)?);
    code.extend([0x48, 0x8d, 0x25]);
    code.extend(relative(CPU_VA + RETURN_FRAME, CPU_VA + SYSCALL_STUB + 14)?);
    code.extend([0x48, 0xcf]);
    page.put(SYSCALL_STUB, &code);
    let frame =
        [guest.syscall_entry, u64::from(USER_CODE), USER_RFLAGS, guest.stack_top, u64::from(USER_DATA)];
    for (i, value) in (0u64..).zip(frame) {
        page.put_u64(RETURN_FRAME + 8 * i, value);
    }

    for vector in 0..u64::from(port::EXCEPTIONS) {
        let stub = EXCEPTION_STUBS + EXCEPTION_STUB_SIZE * vector;
        let number = u8::try_from(u64::from(port::EXCEPTION) + vector).unwrap_or(u8::MAX);
        // out imm8, al; iretq
        page.put(stub, &[0xe6, number, 0x48, 0xcf]);
        // Interrupt gate, present; reachable by an instruction of ring 3 only where there is one for it: int3 and into. The
        // others, called by number, would find no error code on the stack.
        let gate: u64 = if matches!(vector, 3 | 4) { 0xee } else { 0x8e };
        let address = CPU_VA + stub;
        let low =
            address & 0xffff | u64::from(KERNEL_CODE) << 16 | gate << 40 | (address >> 16 & 0xffff) << 48;
        page.put_u64(IDT_OFFSET + 16 * vector, low);
        page.put_u64(IDT_OFFSET + 16 * vector + 8, address >> 32);
    }
    Ok(Box::new(page.0))
}

/// Whether an exception pushes an error code (Intel SDM vol. 3, table 6-1).
pub const fn has_error_code(vector: u16) -> bool {
    matches!(vector, 8 | 10..=14 | 17 | 21 | 29 | 30)
}

// The parts of the page do not overlap.
const _: () = {
    assert!((GDT_LIMIT as u64) < TSS_OFFSET);
    assert!(TSS_OFFSET + (TSS_LIMIT as u64) < SYSCALL_STUB);
    assert!(SYSCALL_STUB + 16 <= RETURN_FRAME && RETURN_FRAME + 40 <= IDT_OFFSET);
    assert!(IDT_OFFSET + (IDT_LIMIT as u64) < EXCEPTION_STUBS);
    assert!(EXCEPTION_STUBS + EXCEPTION_STUB_SIZE * (port::EXCEPTIONS as u64) < PAGE - 256);
};

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_symbol_out_of_reach_is_an_error() {
        assert!(relative(CPU_VA + (1 << 32), CPU_VA).is_err());
        assert_eq!(relative(CPU_VA, CPU_VA + 16).unwrap(), (-16i32).to_le_bytes());
    }
}
