//! The processors and interrupts, as the Intel MultiProcessor Specification 1.4 describes them: a table that a
//! kernel without ACPI finds at the end of the conventional memory; the small kernel of scripts/build-guest-kernel is one.

use super::layout::{IO_APIC, LOCAL_APIC, MP_TABLE, MP_TABLE_SIZE};

/// Most vCPUs of a machine: what has room in the table, rounded down.
pub const MAX_VCPUS: u8 = 16;
/// Version 1.4.
const SPECIFICATION: u8 = 4;
/// [`MP_TABLE_SIZE`] as a length.
const MP_TABLE_ROOM: usize = 0x400;
const _: () = assert!(MP_TABLE_ROOM as u64 == MP_TABLE_SIZE);
/// The floating pointer, then the table.
const POINTER_SIZE: usize = 16;
const HEADER_SIZE: usize = 44;
const PROCESSOR: u8 = 0;
const BUS: u8 = 1;
const IO_APIC_ENTRY: u8 = 2;
const INTERRUPT: u8 = 3;
const LOCAL_INTERRUPT: u8 = 4;
/// Interrupt types: vectored, NMI, through the 8259.
const INT: u8 = 0;
const NMI: u8 = 1;
const EXT_INT: u8 = 3;
/// Version of the local APIC: integrated.
const APIC_VERSION: u8 = 0x14;
const IO_APIC_VERSION: u8 = 0x11;
const ENABLED: u8 = 1;
const BOOT_PROCESSOR: u8 = 2;
const ALL: u8 = 0xff;
/// Interrupt lines of the ISA bus, one to one on the I/O APIC but for line 2, by which the second 8259 speaks.
const LINES: u8 = 16;

/// The bytes for [`MP_TABLE`]. `lines`: whether anything interrupts, a device or the timer chip; without them no I/O APIC is named, which a
/// kernel would go through pin by pin, some 600 exits. `signature`: what CPUID.1:EAX says, `features`: its EDX.
pub fn build(vcpus: u8, lines: bool, signature: u32, features: u32) -> Vec<u8> {
    let mut entries = Vec::new();
    let mut count = 0u16;
    let mut add = |bytes: &[u8]| {
        entries.extend_from_slice(bytes);
        count += 1;
    };
    for id in 0..vcpus {
        let flags = ENABLED | if id == 0 { BOOT_PROCESSOR } else { 0 };
        let mut entry = vec![PROCESSOR, id, APIC_VERSION, flags];
        entry.extend(signature.to_le_bytes());
        entry.extend(features.to_le_bytes());
        entry.extend([0; 8]);
        add(&entry);
    }
    add(&[&[BUS, 0][..], b"ISA   "].concat());
    // The I/O APIC's number comes after those of the processors.
    if lines {
        add(&[&[IO_APIC_ENTRY, vcpus, IO_APIC_VERSION, ENABLED][..], &IO_APIC.to_le_bytes()].concat());
    }
    // Without it the lines go to every one that there is: a kernel that finds no line takes the table for a mistake, and makes its own.
    let destination = if lines { vcpus } else { ALL };
    for line in (0..LINES).filter(|line| *line != 2) {
        // In KVM's default routing the timer's line is pin 0, unlike on a PC, where it is pin 2.
        add(&[INTERRUPT, INT, 0, 0, 0, line, destination, line]);
    }
    add(&[LOCAL_INTERRUPT, EXT_INT, 0, 0, 0, 0, 0, 0]);
    add(&[LOCAL_INTERRUPT, NMI, 0, 0, 0, 0, ALL, 1]);

    let length = u16::try_from(HEADER_SIZE + entries.len()).unwrap_or(u16::MAX);
    let mut header = Vec::with_capacity(HEADER_SIZE);
    header.extend(b"PCMP");
    header.extend(length.to_le_bytes());
    header.extend([SPECIFICATION, 0]);
    header.extend(b"BENCH   HARNESS     ");
    header.extend([0; 6]);
    header.extend(count.to_le_bytes());
    header.extend(LOCAL_APIC.to_le_bytes());
    header.extend([0; 4]);
    let mut table = [header, entries].concat();
    table[7] = checksum(&table);

    // Below 4 GiB by far (layout).
    let address = u32::try_from(MP_TABLE + POINTER_SIZE as u64).unwrap_or(0);
    let mut pointer = Vec::with_capacity(POINTER_SIZE);
    pointer.extend(b"_MP_");
    pointer.extend(address.to_le_bytes());
    pointer.extend([1, SPECIFICATION, 0, 0, 0, 0, 0, 0]);
    pointer[10] = checksum(&pointer);
    [pointer, table].concat()
}

/// What makes the sum of all bytes zero.
fn checksum(bytes: &[u8]) -> u8 {
    bytes.iter().fold(0u8, |sum, b| sum.wrapping_sub(*b))
}

const _: () = assert!(
    POINTER_SIZE + HEADER_SIZE + 20 * MAX_VCPUS as usize + 8 * (2 + LINES as usize - 1 + 2) <= MP_TABLE_ROOM
);

#[cfg(test)]
mod tests {
    use super::*;

    fn sum(bytes: &[u8]) -> u8 {
        bytes.iter().fold(0, |sum, b| sum.wrapping_add(*b))
    }

    #[test]
    fn both_parts_are_found_and_their_sums_are_zero() {
        for vcpus in [1, 2, MAX_VCPUS] {
            let bytes = build(vcpus, true, 0x0080_0f12, 0x0781_abfd);
            assert!(bytes.len() <= MP_TABLE_ROOM);
            assert_eq!(&bytes[..4], b"_MP_");
            assert_eq!(sum(&bytes[..16]), 0);
            assert_eq!(&bytes[16..20], b"PCMP");
            assert_eq!(usize::from(u16::from_le_bytes([bytes[20], bytes[21]])), bytes.len() - 16);
            assert_eq!(sum(&bytes[16..]), 0);
        }
    }

    #[test]
    fn every_processor_is_named_and_the_first_is_the_boot_processor() {
        let bytes = build(3, true, 1, 2);
        let processors: Vec<_> = bytes[60..].chunks(20).take(3).map(|c| (c[0], c[1], c[3])).collect();
        assert_eq!(processors, [(0, 0, 3), (0, 1, 1), (0, 2, 1)]);
        let io_apic = &bytes[60 + 60 + 8..][..8];
        assert_eq!(io_apic, [2, 3, 0x11, 1, 0, 0, 0xc0, 0xfe]);
    }

    #[test]
    fn the_number_of_entries_is_that_of_the_header() {
        let bytes = build(2, true, 0, 0);
        assert_eq!(u16::from_le_bytes([bytes[16 + 34], bytes[16 + 35]]), 2 + 1 + 1 + 15 + 2);
    }

    #[test]
    fn every_line_is_the_pin_of_its_number_as_in_the_default_routing_of_kvm() {
        let bytes = build(1, true, 0, 0);
        let pins: Vec<_> = bytes[60 + 20 + 16..].chunks(8).take(15).map(|c| (c[5], c[7])).collect();
        assert!(pins[0] == (0, 0) && pins.iter().all(|(line, pin)| line == pin), "{pins:?}");
    }

    #[test]
    fn where_nothing_interrupts_there_is_no_io_apic() {
        let bytes = build(2, false, 0, 0);
        assert_eq!(u16::from_le_bytes([bytes[16 + 34], bytes[16 + 35]]), 2 + 1 + 15 + 2);
        let entries: Vec<_> = bytes[60 + 40..].chunks(8).map(|c| (c[0], c[6])).collect();
        assert_eq!(entries[0].0, BUS);
        assert!(entries[1..16].iter().all(|entry| *entry == (INTERRUPT, ALL)), "{entries:?}");
        assert!(entries[16..].iter().all(|(kind, _)| *kind == LOCAL_INTERRUPT), "{entries:?}");
    }
}
