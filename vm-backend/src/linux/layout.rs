//! Where everything lies in the guest's physical memory.
//!
//! ```text
//! 0x500      GDT of the 64-bit entry           ┐
//! 0x6000     PVH start info, map, module list  │
//! 0x7000     boot parameters ("zero page")     │ written once into the image,
//! 0x9000     page tables of the 64-bit entry   │ mapped privately by every instance
//! 0x20000    command line                      │
//! 0x9fc00    MP table                          │
//! 0xe0000    ACPI tables                       ┘
//! 1 MiB      bzImage as it is; unpacked to 16 MiB (its own choice)
//! 16 MiB     vmlinux, where it was linked
//!   ...
//! top        initramfs, at the end of the memory below the hole
//! 0xd0000000 hole: mailbox, devices (0xd0100000), interrupt controllers
//! 4 GiB      the rest of the memory
//! ```

use vm_abi::linux::{MAILBOX_GPA, MAILBOX_SIZE};

/// GDT of the 64-bit entry.
pub const GDT: u64 = 0x500;
/// PVH `hvm_start_info`, the memory map and the module list behind it.
pub const START_INFO: u64 = 0x6000;
/// `struct boot_params`.
pub const BOOT_PARAMS: u64 = 0x7000;
/// Page tables: one PML4, one PDPT, [`PAGE_DIRECTORIES`] directories.
pub const PAGE_TABLES: u64 = 0x9000;
/// One a GiB: all that is mapped lies below 4 GiB.
pub const PAGE_DIRECTORIES: u64 = 4;
/// The command line.
pub const COMMAND_LINE: u64 = 0x2_0000;
/// End of the conventional memory, where a kernel looks for the MP table (default_find_smp_config in
/// arch/x86/kernel/mpparse.c).
pub const MP_TABLE: u64 = 0x9_fc00;
/// Room for it.
pub const MP_TABLE_SIZE: u64 = 0x400;
/// ACPI tables, where a PC's firmware has them.
pub const ACPI: u64 = 0xe_0000;
/// Room for them.
pub const ACPI_SIZE: u64 = 0x1000;
/// Where RAM goes on.
pub const HIGH: u64 = 0x10_0000;
/// First address of the hole below 4 GiB.
pub const HOLE: u64 = MAILBOX_GPA;
/// Registers of the first virtio device, and those of the others behind it.
pub const DEVICES: u64 = 0xd010_0000;
/// Interrupt lines of the devices: those of the ISA bus that nothing of a PC has which is here.
pub const LINES: [u32; 5] = [5, 6, 7, 10, 11];
/// First address after it.
pub const HOLE_END: u64 = 1 << 32;
/// Local APICs and the I/O APIC (Intel SDM vol. 3, 11.4.1; 82093AA datasheet).
pub const LOCAL_APIC: u32 = 0xfee0_0000;
/// See [`LOCAL_APIC`].
pub const IO_APIC: u32 = 0xfec0_0000;
/// Three pages that KVM needs on Intel (KVM_SET_TSS_ADDR): where QEMU and others put them.
pub const KVM_TSS: u64 = 0xfffb_d000;

/// Smallest page.
pub const PAGE: u64 = 4096;

/// RAM: (start, length) below and above the hole.
pub fn ram(memory: u64) -> Vec<(u64, u64)> {
    let low = memory.min(HOLE);
    let mut parts = vec![(0, low)];
    if memory > low {
        parts.push((HOLE_END, memory - low));
    }
    parts
}

/// What a stretch of memory is, by its number in the tables.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u32)]
pub enum Kind {
    /// E820_TYPE_RAM.
    Ram = 1,
    /// E820_TYPE_RESERVED.
    Reserved = 2,
}

/// The memory map that the kernel gets: start, length, kind.
pub fn map(memory: u64) -> Vec<(u64, u64, Kind)> {
    let mut map = vec![(0, MP_TABLE, Kind::Ram), (MP_TABLE, HIGH - MP_TABLE, Kind::Reserved)];
    for (start, length) in ram(memory) {
        let from = start.max(HIGH);
        if start + length > from {
            map.push((from, start + length - from, Kind::Ram));
        }
        if start == 0 {
            map.push((MAILBOX_GPA, MAILBOX_SIZE, Kind::Reserved));
        }
    }
    map
}

const _: () = assert!(PAGE_TABLES + (2 + PAGE_DIRECTORIES) * PAGE <= COMMAND_LINE);
const _: () = assert!(START_INFO + PAGE <= BOOT_PARAMS && BOOT_PARAMS + PAGE <= PAGE_TABLES);
const _: () = assert!(COMMAND_LINE + super::cmdline::LIMIT as u64 <= MP_TABLE);
const _: () = assert!(MAILBOX_GPA + MAILBOX_SIZE <= DEVICES && DEVICES + 16 * PAGE <= IO_APIC as u64);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_below_the_hole_is_one_piece() {
        let mib = 1 << 20;
        assert_eq!(ram(512 * mib), [(0, 512 * mib)]);
        assert_eq!(
            map(512 * mib),
            [
                (0, 0x9_fc00, Kind::Ram),
                (0x9_fc00, 0x6_0400, Kind::Reserved),
                (mib, 511 * mib, Kind::Ram),
                (0xd000_0000, 0x1_1000, Kind::Reserved),
            ]
        );
    }

    #[test]
    fn what_the_hole_hides_continues_at_4_gib() {
        let gib = 1 << 30;
        assert_eq!(ram(6 * gib), [(0, HOLE), (4 * gib, 6 * gib - HOLE)]);
        let map = map(6 * gib);
        let usable: u64 = map.iter().filter(|(_, _, k)| *k == Kind::Ram).map(|(_, l, _)| l).sum();
        assert_eq!(usable, 6 * gib - (HIGH - MP_TABLE));
        assert!(map.windows(2).all(|w| w[0].0 + w[0].1 <= w[1].0), "{map:x?}");
    }
}
