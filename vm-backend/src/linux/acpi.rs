//! The least ACPI that tells a kernel of its processors: Debian's kernels do not read an MP table. "Hardware-reduced":
//! no port, no timer and no event of ACPI exists, and the flags say that other parts of a PC are missing, too, so that
//! nobody looks for them (ACPI Specification 6.5, chapter 5).

use super::layout::{ACPI, ACPI_SIZE, IO_APIC, LOCAL_APIC};

/// Length of the header that all tables but the root pointer have.
const HEADER: usize = 36;
const OEM: &[u8; 6] = b"BENCH ";
/// The root pointer is at the start, the tables behind it, each at a multiple of this.
const ALIGN: usize = 64;

fn table(signature: [u8; 4], revision: u8, body: &[u8]) -> Vec<u8> {
    let length = u32::try_from(HEADER + body.len()).unwrap_or(u32::MAX);
    let mut bytes = Vec::new();
    bytes.extend(signature);
    bytes.extend(length.to_le_bytes());
    bytes.extend([revision, 0]);
    bytes.extend(OEM);
    bytes.extend(b"HARNESS ");
    bytes.extend(1u32.to_le_bytes());
    bytes.extend(b"BNCH");
    bytes.extend(1u32.to_le_bytes());
    bytes.extend(body);
    bytes[9] = checksum(&bytes);
    bytes
}

/// What makes the sum of all bytes zero.
fn checksum(bytes: &[u8]) -> u8 {
    bytes.iter().fold(0u8, |sum, b| sum.wrapping_sub(*b))
}

/// Processors and interrupt controllers (MADT, 5.2.12).
fn madt(vcpus: u8) -> Vec<u8> {
    /// There is a pair of 8259, too (KVM has it): PCAT_COMPAT.
    const FLAGS: u32 = 1;
    const ENABLED: u32 = 1;
    let mut body = Vec::new();
    body.extend(LOCAL_APIC.to_le_bytes());
    body.extend(FLAGS.to_le_bytes());
    for id in 0..vcpus {
        body.extend([0, 8, id, id]);
        body.extend(ENABLED.to_le_bytes());
    }
    body.extend([1, 12, vcpus, 0]);
    body.extend(IO_APIC.to_le_bytes());
    body.extend(0u32.to_le_bytes());
    // No line is another pin of the I/O APIC: in KVM's default routing even the timer's, which is 2 on a PC, is pin 0.
    // NMI at input 1 of every local APIC.
    body.extend([4, 6, 0xff, 0, 0, 1]);
    table(*b"APIC", 5, &body)
}

/// The fixed description (FADT, 5.2.9), version 6.
fn fadt(dsdt: u64) -> Vec<u8> {
    /// Length of that version.
    const LENGTH: usize = 276;
    /// IAPC_BOOT_ARCH: no VGA, no ASPM to be touched, no CMOS clock. The keyboard controller is missing by absence.
    const BOOT_ARCH: u16 = 1 << 2 | 1 << 4 | 1 << 5;
    /// WBINVD works, no power and no sleep button, hardware-reduced.
    const FLAGS: u32 = 1 | 1 << 4 | 1 << 5 | 1 << 20;
    let mut body = vec![0; LENGTH - HEADER];
    let mut put = |offset: usize, value: &[u8]| {
        body[offset - HEADER..offset - HEADER + value.len()].copy_from_slice(value);
    };
    put(109, &BOOT_ARCH.to_le_bytes());
    put(112, &FLAGS.to_le_bytes());
    put(131, &[5]);
    put(140, &dsdt.to_le_bytes());
    table(*b"FACP", 6, &body)
}

/// The bytes for [`ACPI`], the root pointer first.
pub fn build(vcpus: u8) -> Vec<u8> {
    /// Of version 2, with a 64-bit address.
    const RSDP: usize = 36;
    let mut all = vec![0; RSDP.next_multiple_of(ALIGN)];
    let mut add = |bytes: Vec<u8>| {
        let address = ACPI + all.len() as u64;
        all.extend(bytes);
        all.resize(all.len().next_multiple_of(ALIGN), 0);
        address
    };
    let dsdt = add(table(*b"DSDT", 2, &[]));
    let tables = [add(fadt(dsdt)), add(madt(vcpus))];
    let list: Vec<u8> = tables.iter().flat_map(|address| address.to_le_bytes()).collect();
    let root = add(table(*b"XSDT", 1, &list));
    let mut pointer = Vec::new();
    pointer.extend(b"RSD PTR ");
    pointer.push(0);
    pointer.extend(OEM);
    pointer.push(2);
    pointer.extend(0u32.to_le_bytes());
    pointer[8] = checksum(&pointer);
    pointer.extend(36u32.to_le_bytes());
    pointer.extend(root.to_le_bytes());
    pointer.extend([0; 4]);
    pointer[32] = checksum(&pointer);
    all[..RSDP].copy_from_slice(&pointer);
    debug_assert!(all.len() as u64 <= ACPI_SIZE);
    all
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::linux::mptable::MAX_VCPUS;

    fn sum(bytes: &[u8]) -> u8 {
        bytes.iter().fold(0, |sum, b| sum.wrapping_add(*b))
    }

    fn at(all: &[u8], address: u64) -> &[u8] {
        let start = usize::try_from(address - ACPI).unwrap();
        let length = u32::from_le_bytes(all[start + 4..start + 8].try_into().unwrap());
        &all[start..start + usize::try_from(length).unwrap()]
    }

    fn tables(all: &[u8]) -> Vec<&[u8]> {
        let root = at(all, u64::from_le_bytes(all[24..32].try_into().unwrap()));
        assert_eq!(&root[..4], b"XSDT");
        root[36..].chunks(8).map(|a| at(all, u64::from_le_bytes(a.try_into().unwrap()))).collect()
    }

    #[test]
    fn every_sum_is_zero_and_every_table_is_found() {
        for vcpus in [1, MAX_VCPUS] {
            let all = build(vcpus);
            assert!(all.len() as u64 <= ACPI_SIZE);
            assert_eq!((sum(&all[..20]), sum(&all[..36])), (0, 0));
            let tables = tables(&all);
            let names: Vec<_> = tables.iter().map(|t| &t[..4]).collect();
            assert_eq!(names, [b"FACP", b"APIC"]);
            for table in &tables {
                assert_eq!(sum(table), 0);
            }
            let dsdt = at(&all, u64::from_le_bytes(tables[0][140..148].try_into().unwrap()));
            assert_eq!((&dsdt[..4], dsdt.len(), sum(dsdt)), (&b"DSDT"[..], 36, 0));
        }
    }

    #[test]
    fn every_processor_is_named() {
        let all = build(3);
        let madt = tables(&all)[1];
        let processors: Vec<_> = madt[44..].chunks(8).take(3).map(|c| (c[0], c[3], c[4])).collect();
        assert_eq!(processors, [(0, 0, 1), (0, 1, 1), (0, 2, 1)]);
    }
}
