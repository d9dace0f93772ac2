//! Kernel files that are none, read from bytes that are made here.

use std::io::Write;

use super::*;

/// The head of a bzImage that is in order, and a size to go with it.
fn good() -> (Vec<u8>, u64) {
    let mut head = vec![0; HEAD];
    head[bz::SETUP_HEADER] = 27;
    head[bz::SYSSIZE..bz::SYSSIZE + 4].copy_from_slice(&0x1_0000u32.to_le_bytes());
    head[bz::JUMP_OFFSET] = 0x6a;
    head[bz::HEADER..bz::HEADER + 4].copy_from_slice(b"HdrS");
    head[bz::VERSION..bz::VERSION + 2].copy_from_slice(&0x20fu16.to_le_bytes());
    head[bz::LOADFLAGS] = 1;
    head[bz::KERNEL_ALIGNMENT..bz::KERNEL_ALIGNMENT + 4].copy_from_slice(&0x20_0000u32.to_le_bytes());
    head[bz::RELOCATABLE] = 1;
    head[bz::XLOADFLAGS] = 0x7f;
    head[bz::PREF_ADDRESS..bz::PREF_ADDRESS + 8].copy_from_slice(&0x100_0000u64.to_le_bytes());
    head[bz::INIT_SIZE..bz::INIT_SIZE + 4].copy_from_slice(&0x250_0000u32.to_le_bytes());
    (head, 28 * 512 + 0x10_0000)
}

fn file(bytes: &[u8]) -> File {
    let mut file = tempfile::tempfile().unwrap();
    file.write_all(bytes).unwrap();
    file
}

fn inspected(bytes: &[u8]) -> Result<Kernel, KernelError> {
    inspect(&file(bytes), bytes.len() as u64).unwrap()
}

#[test]
fn a_bzimage_says_where_it_unpacks_itself_and_what_it_needs() {
    let (head, size) = good();
    let kernel = bzimage(&head, size).unwrap();
    let Kind::BzImage { setup_header, unpacked } = kernel.kind else { panic!("{kernel:?}") };
    assert_eq!(unpacked, 0x100_0000);
    assert_eq!(kernel.end, 0x350_0000);
    assert_eq!(setup_header.len(), 0x202 + 0x6a - 0x1f1);
}

#[test]
fn a_bzimage_that_cannot_be_moved_unpacks_itself_where_it_was_linked() {
    let (mut head, size) = good();
    head[bz::RELOCATABLE] = 0;
    head[bz::PREF_ADDRESS..bz::PREF_ADDRESS + 8].copy_from_slice(&0x20_0000u64.to_le_bytes());
    assert_eq!(bzimage(&head, size).unwrap().end, 0x20_0000 + 0x250_0000);
}

#[test]
fn a_kernel_names_its_version_itself() {
    let mut bytes = vec![0; 0x400];
    bytes[bz::HEADER..bz::HEADER + 4].copy_from_slice(b"HdrS");
    let at = bz::KERNEL_VERSION..bz::KERNEL_VERSION + 2;
    bytes[at.clone()].copy_from_slice(&0x100u16.to_le_bytes());
    bytes[0x300..0x30c].copy_from_slice(b"6.1.0-56 (x)");
    assert_eq!(version(&bytes).as_deref(), Some("6.1.0-56"));
    assert_eq!(version(b"\x7fELF ... Linux version 6.12.117 (guest@guest)").as_deref(), Some("6.12.117"));
    bytes[at].copy_from_slice(&u16::MAX.to_le_bytes());
    assert_eq!((version(&bytes), version(b"neither"), version(b"")), (None, None, None));
}

#[test]
fn what_is_no_kernel_is_told_so() {
    for bytes in [&b""[..], b"hello", &[0; 5000], b"MZ\x90\0"] {
        assert_eq!(inspected(bytes), Err(KernelError::NotKernel));
    }
}

#[test]
fn a_truncated_bzimage_is_told_so() {
    let (head, size) = good();
    let error = bzimage(&head, size - 16).unwrap_err();
    assert_eq!(
        error.to_string(),
        "the kernel is truncated: the kernel proper reaches to byte 1062912, the file has 1062896"
    );
    assert!(matches!(bzimage(&head[..0x230], 0x230), Err(KernelError::Truncated { .. })));
}

#[test]
fn a_kernel_for_arm_is_told_so() {
    let mut arm64 = vec![0; 4096];
    arm64[..2].copy_from_slice(b"MZ");
    arm64[56..60].copy_from_slice(b"ARM\x64");
    assert_eq!(inspected(&arm64), Err(KernelError::Machine { machine: "arm64".into() }));
    let mut arm = vec![0; 4096];
    arm[36..40].copy_from_slice(&0x016f_2818u32.to_le_bytes());
    assert_eq!(inspected(&arm), Err(KernelError::Machine { machine: "32-bit ARM".into() }));
    let mut vmlinux = elf_file(0x100_0000, 0x1000);
    vmlinux[18..20].copy_from_slice(&183u16.to_le_bytes());
    assert_eq!(inspected(&vmlinux), Err(KernelError::Machine { machine: "arm64".into() }));
}

#[test]
fn a_32_bit_kernel_is_told_so() {
    let (mut head, size) = good();
    head[bz::XLOADFLAGS] = 0;
    assert_eq!(bzimage(&head, size), Err(KernelError::Bits32));
    let mut vmlinux = elf_file(0x100_0000, 0x1000);
    vmlinux[18..20].copy_from_slice(&3u16.to_le_bytes());
    assert_eq!(inspected(&vmlinux), Err(KernelError::Bits32));
}

#[test]
fn a_kernel_of_an_old_protocol_is_told_so() {
    let (mut head, size) = good();
    head[bz::VERSION..bz::VERSION + 2].copy_from_slice(&0x20au16.to_le_bytes());
    let error = bzimage(&head, size).unwrap_err().to_string();
    assert!(error.contains("version 2.10 of the boot protocol"), "{error}");
}

#[test]
fn numbers_that_make_no_sense_are_refused() {
    let (head, size) = good();
    let changed = |at: usize, value: &[u8]| {
        let mut head = head.clone();
        head[at..at + value.len()].copy_from_slice(value);
        bzimage(&head, size)
    };
    for (at, value) in [
        (bz::KERNEL_ALIGNMENT, &0x30_0000u32.to_le_bytes()[..]),
        (bz::PREF_ADDRESS, &u64::MAX.to_le_bytes()),
        (bz::PREF_ADDRESS, &(1u64 << 32).to_le_bytes()),
        (bz::INIT_SIZE, &u32::MAX.to_le_bytes()),
        (bz::SYSSIZE, &0u32.to_le_bytes()),
        (bz::LOADFLAGS, &[0]),
    ] {
        assert!(matches!(changed(at, value), Err(KernelError::Malformed { .. })), "{at:#x}");
    }
}

/// A vmlinux of one segment.
fn elf_file(address: u64, len: u64) -> Vec<u8> {
    let mut bytes = vec![0; 64 + 56];
    bytes[..7].copy_from_slice(b"\x7fELF\x02\x01\x01");
    let mut put = |at: usize, value: &[u8]| bytes[at..at + value.len()].copy_from_slice(value);
    put(16, &2u16.to_le_bytes());
    put(18, &62u16.to_le_bytes());
    put(24, &address.to_le_bytes());
    put(32, &64u64.to_le_bytes());
    put(52, &64u16.to_le_bytes());
    put(54, &56u16.to_le_bytes());
    put(56, &1u16.to_le_bytes());
    put(64, &1u32.to_le_bytes());
    put(64 + 8, &120u64.to_le_bytes());
    put(64 + 24, &address.to_le_bytes());
    put(64 + 32, &len.to_le_bytes());
    put(64 + 40, &len.to_le_bytes());
    bytes.resize(bytes.len() + usize::try_from(len).unwrap(), 0x90);
    bytes
}

#[test]
fn a_vmlinux_is_loaded_where_it_was_linked() {
    let bytes = elf_file(0x100_0000, 0x2000);
    let kernel = inspected(&bytes).unwrap();
    assert_eq!(kernel, Kernel { kind: Kind::Vmlinux, end: 0x100_2000 });
    let memory = GuestMemoryMmap::from_ranges(&[(GuestAddress(0), 32 << 20)]).unwrap();
    let loaded = kernel.load(&mut file(&bytes), &memory).unwrap();
    assert_eq!(loaded.entry, Entry::Long(0x100_0000));
    assert_eq!(loaded.range.1, 0x100_2000);
}

#[test]
fn a_truncated_vmlinux_is_told_so() {
    let bytes = elf_file(0x100_0000, 0x2000);
    for len in [20, 63, 100, bytes.len() - 1] {
        assert!(matches!(inspected(&bytes[..len]), Err(KernelError::Truncated { .. })), "{len}");
    }
}

#[test]
fn a_program_is_not_mistaken_for_a_kernel() {
    assert!(matches!(inspected(&elf_file(0x1000, 0x2000)), Err(KernelError::Malformed { .. })));
    assert!(matches!(inspected(&elf_file(u64::MAX - 5, 0x2000)), Err(KernelError::Malformed { .. })));
}

#[test]
fn no_bytes_make_it_panic() {
    // A cheap relative of the fuzz target: every single byte of good headers changed to extremes.
    let (head, size) = good();
    let vmlinux = elf_file(0x100_0000, 0x100);
    for value in [0, 1, 0x7f, 0x80, 0xff] {
        for at in 0..bz::END + 8 {
            let mut head = head.clone();
            head[at] = value;
            drop(bzimage(&head, size));
        }
        for at in 0..120 {
            let mut bytes = vmlinux.clone();
            bytes[at] = value;
            drop(inspected(&bytes));
        }
    }
}
