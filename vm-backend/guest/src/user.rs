//! The program's memory. An address that is not mapped faults, and [`crate::entry`] turns a fault in here into EFAULT:
//! the call is abandoned where it stands, so callers read and write the program's memory *before* they change state of
//! their own, or leave that state consistent at each access.

use crate::errno::{EFAULT, ENAMETOOLONG, Result};

/// Longest path of a call, without its end (PATH_MAX of Linux less one would be 4095; ours are short).
pub const PATH_MAX: usize = 255;

/// Reads a value.
pub fn read<T: Copy>(address: u64) -> T {
    // SAFETY: an address outside the program's memory faults and the call ends with EFAULT; `T` is plain data.
    unsafe { (address as *const T).read_unaligned() }
}

/// Writes a value.
pub fn write<T: Copy>(address: u64, value: T) {
    // SAFETY: as for `read`.
    unsafe { (address as *mut T).write_unaligned(value) };
}

/// Copies between two places of the address space.
pub fn copy(to: u64, from: u64, len: u64) {
    // SAFETY: as for `read`; `copy` allows an overlap.
    unsafe { core::ptr::copy(from as *const u8, to as *mut u8, len as usize) };
}

/// Fills with zeros.
pub fn zero(at: u64, len: u64) {
    // SAFETY: as for `read`.
    unsafe { core::ptr::write_bytes(at as *mut u8, 0, len as usize) };
}

/// Touches the first and last byte of an area that the monitor is about to write, so that a bad one is EFAULT.
pub fn check(at: u64, len: u64) -> Result<()> {
    if len == 0 {
        return Ok(());
    }
    let last = at.checked_add(len - 1).ok_or(EFAULT)?;
    for address in [at, last] {
        // SAFETY: as for `read`; volatile, since the access itself is the purpose.
        unsafe { (address as *const u8).read_volatile() };
    }
    Ok(())
}

/// Copies a path out of the program's memory; its length.
pub fn path(address: u64, buffer: &mut [u8; PATH_MAX + 1]) -> Result<usize> {
    for (i, byte) in buffer.iter_mut().enumerate() {
        *byte = read(address.wrapping_add(i as u64));
        if *byte == 0 {
            return Ok(i);
        }
    }
    Err(ENAMETOOLONG)
}
