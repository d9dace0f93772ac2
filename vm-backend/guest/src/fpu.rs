//! Floating-point and vector state in a signal frame, laid out as Linux does (arch/x86/kernel/fpu/signal.c): the FXSAVE
//! area, and where the CPU has XSAVE the extended area after it, between two magic numbers.
//!
//! The guest's own code never touches more than the lower halves of the vector registers, which every [`Frame`] keeps. A
//! handler may touch all of them, and must find them restored after it.
//!
//! [`Frame`]: crate::entry::Frame

use crate::cell::Global;
use crate::user;
use core::arch::asm;
use core::arch::x86_64::{__cpuid, __cpuid_count};

/// Size of the FXSAVE area (Intel SDM vol. 1, 10.5.1).
const LEGACY: u64 = 512;
/// Its XMM registers.
const XMM: u64 = 160;
/// Its bytes left to software, where Linux describes the extended area (`struct _fpx_sw_bytes`).
const SOFTWARE: u64 = 464;
/// Size of the XSAVE header, of which only XSTATE_BV is not zero in the standard format.
const HEADER: u64 = 64;
const MAGIC1: u32 = 0x4650_5853;
const MAGIC2: u32 = 0x4650_5845;
/// x87, SSE, AVX and the three parts of AVX-512; protection keys and tiles are not the program's to keep here.
const PARTS: u64 = 0xe7;
const SSE: u64 = 2;

/// What is saved, found out at the first signal.
#[derive(Clone, Copy)]
struct Area {
    /// Bytes; 0 until it is known.
    size: u64,
    /// Parts as XCR0 counts them; 0 where only FXSAVE can be used.
    parts: u64,
}

static AREA: Global<Area> = Global::new(Area { size: 0, parts: 0 });

fn area() -> Area {
    const OSXSAVE: u32 = 1 << 27;
    const XSAVE_LEAF: u32 = 0xd;
    let area = AREA.get();
    if area.size == 0 {
        *area = Area { size: LEGACY, parts: 0 };
        if __cpuid(1).ecx & OSXSAVE != 0 {
            let (low, high): (u32, u32);
            // SAFETY: OSXSAVE says that xgetbv may be used; register 0 always exists.
            unsafe { asm!("xgetbv", in("ecx") 0, out("eax") low, out("edx") high, options(nomem, nostack)) };
            let parts = (u64::from(high) << 32 | u64::from(low)) & PARTS;
            let ends = (2..8u32).filter(|part| parts & 1 << part != 0).map(|part| {
                let leaf = __cpuid_count(XSAVE_LEAF, part);
                u64::from(leaf.eax) + u64::from(leaf.ebx)
            });
            *area = Area { size: ends.fold(LEGACY + HEADER, u64::max), parts };
        }
    }
    *area
}

/// Bytes that [`save`] needs, at a multiple of 64.
pub fn size() -> u64 {
    let area = area();
    area.size + if area.parts != 0 { size_of_val(&MAGIC2) as u64 } else { 0 }
}

/// Whether there is an extended area (UC_FP_XSTATE).
pub fn is_extended() -> bool {
    area().parts != 0
}

/// Saves everything to the program's memory; `xmm`: the registers that the way in has kept.
pub fn save(at: u64, xmm: &[u128; 16]) {
    let Area { size, parts } = area();
    user::zero(at, size);
    if parts == 0 {
        // SAFETY: 512 bytes at a multiple of 64; if the program's memory does not hold them, the line above has faulted.
        unsafe { asm!("fxsave64 [{}]", in(reg) at, options(nostack)) };
    } else {
        // SAFETY: `size` bytes at a multiple of 64, all zero as the header must be; XCR0 has these parts.
        unsafe {
            asm!("xsave64 [{}]", in(reg) at, in("eax") parts as u32, in("edx") (parts >> 32) as u32, options(nostack));
        }
        user::write(at + LEGACY, user::read::<u64>(at + LEGACY) | SSE);
        user::write(at + SOFTWARE, [MAGIC1, (size + 4) as u32]);
        user::write(at + SOFTWARE + 8, parts);
        user::write(at + SOFTWARE + 16, size as u32);
        user::write(at + size, MAGIC2);
    }
    for (i, value) in xmm.iter().enumerate() {
        user::write(at + XMM + 16 * i as u64, *value);
    }
}

/// Restores what [`save`] or a handler left there. What a handler left may be refused by the CPU, which is a fault.
pub fn restore(at: u64, xmm: &mut [u128; 16]) {
    let Area { size, parts } = area();
    let extended = parts != 0
        && user::read::<u32>(at + SOFTWARE) == MAGIC1
        && user::read::<u32>(at + SOFTWARE + 16) == size as u32
        && user::read::<u32>(at + size) == MAGIC2;
    // SAFETY: reads the program's memory into registers that the guest's own code does not rely on. An address that is
    // misaligned or not mapped, or contents that are reserved, fault.
    unsafe {
        if extended {
            asm!("xrstor64 [{}]", in(reg) at, in("eax") parts as u32, in("edx") (parts >> 32) as u32,
                 options(nostack, readonly));
        } else {
            asm!("fxrstor64 [{}]", in(reg) at, options(nostack, readonly));
        }
    }
    for (i, value) in xmm.iter_mut().enumerate() {
        *value = user::read(at + XMM + 16 * i as u64);
    }
}

/// `si_code` of a floating-point exception (`fpu__exception_code` of Linux), `vector`: 16 for x87, 19 for SSE.
pub fn exception_code(vector: u64) -> u32 {
    const FLTDIV: u32 = 3;
    const FLTOVF: u32 = 4;
    const FLTUND: u32 = 5;
    const FLTRES: u32 = 6;
    const FLTINV: u32 = 7;
    // Raised and not masked. Bits: invalid, denormal, zero divide, overflow, underflow, precision.
    let raised = if vector == 16 {
        let (mut control, mut status) = (0u16, 0u16);
        // SAFETY: both store 16 bits and neither waits for the exception that is pending.
        unsafe {
            asm!("fnstcw [{}]", "fnstsw [{}]", in(reg) &raw mut control, in(reg) &raw mut status, options(nostack));
        }
        u32::from(status & !control)
    } else {
        let mut mxcsr = 0u32;
        // SAFETY: stores 32 bits.
        unsafe { asm!("stmxcsr [{}]", in(reg) &raw mut mxcsr, options(nostack)) };
        mxcsr & !(mxcsr >> 7)
    };
    match raised {
        r if r & 1 != 0 => FLTINV,
        r if r & 4 != 0 => FLTDIV,
        r if r & 8 != 0 => FLTOVF,
        r if r & 0x12 != 0 => FLTUND,
        r if r & 0x20 != 0 => FLTRES,
        _ => 0,
    }
}
