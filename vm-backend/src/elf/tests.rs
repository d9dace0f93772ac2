//! Programs made byte by byte: each way to be wrong has its error, and no bytes at all make the reader panic.

use std::fs::File;
use std::io::Write;

use proptest::prelude::*;

use super::*;

/// One program header.
#[derive(Debug, Clone, Copy)]
struct Load {
    kind: u32,
    flags: u32,
    offset: u64,
    va: u64,
    file_size: u64,
    mem_size: u64,
}

const TEXT: Load =
    Load { kind: abi::PT_LOAD, flags: 5, offset: 0, va: 0x40_0000, file_size: 0x1000, mem_size: 0x1000 };
const DATA: Load =
    Load { kind: abi::PT_LOAD, flags: 6, offset: 0x800, va: 0x40_1800, file_size: 0x100, mem_size: 0x2000 };

/// A program of one page with these headers.
fn program(headers: &[Load]) -> Vec<u8> {
    let mut bytes = vec![0; 64];
    bytes[..7].copy_from_slice(b"\x7fELF\x02\x01\x01");
    let mut put = |at: usize, value: &[u8]| bytes[at..at + value.len()].copy_from_slice(value);
    put(16, &abi::ET_EXEC.to_le_bytes());
    put(18, &abi::EM_X86_64.to_le_bytes());
    put(20, &1u32.to_le_bytes());
    put(24, &0x40_0400u64.to_le_bytes());
    put(32, &64u64.to_le_bytes());
    put(52, &64u16.to_le_bytes());
    put(54, &PHDR_SIZE.to_le_bytes());
    put(56, &u16::try_from(headers.len()).unwrap().to_le_bytes());
    for h in headers {
        bytes.extend(h.kind.to_le_bytes());
        bytes.extend(h.flags.to_le_bytes());
        for value in [h.offset, h.va, h.va, h.file_size, h.mem_size, 0x1000] {
            bytes.extend(value.to_le_bytes());
        }
    }
    bytes.resize(bytes.len().max(0x1000), 0);
    bytes
}

fn read_bytes(bytes: &[u8]) -> Result<Image, ProgramError> {
    let mut file: File = tempfile::tempfile().unwrap();
    file.write_all(bytes).unwrap();
    read(&file, bytes.len() as u64).unwrap()
}

/// A valid program with some bytes changed.
fn changed(at: usize, with: &[u8]) -> Result<Image, ProgramError> {
    let mut bytes = program(&[TEXT, DATA]);
    bytes[at..at + with.len()].copy_from_slice(with);
    read_bytes(&bytes)
}

fn of(headers: &[Load]) -> Result<Image, ProgramError> {
    read_bytes(&program(headers))
}

#[test]
fn a_valid_program_is_read_as_it_is() {
    let image = of(&[TEXT, DATA]).unwrap();
    assert_eq!((image.entry, image.phdr, image.phnum, image.size), (0x40_0400, 0x40_0040, 2, 0x1000));
    assert_eq!(image.segments.len(), 2);
    assert!(image.segments[0].execute && !image.segments[0].write);
    assert!(!image.segments[1].execute && image.segments[1].write);
    assert_eq!(image.segments[1].end(), 0x40_3800);
}

#[test]
fn a_position_independent_program_is_put_where_others_start() {
    let (mut text, mut data) = (TEXT, DATA);
    (text.va, data.va) = (0, 0x1800);
    let mut bytes = program(&[text, data]);
    bytes[16..18].copy_from_slice(&abi::ET_DYN.to_le_bytes());
    bytes[24..32].copy_from_slice(&0x400u64.to_le_bytes());
    let image = read_bytes(&bytes).unwrap();
    assert_eq!((image.entry, image.segments[0].va, image.phdr), (PIE_BASE + 0x400, PIE_BASE, PIE_BASE + 64));
}

#[test]
fn what_is_no_elf_file_is_a_script_or_something_else() {
    assert_eq!(read_bytes(b""), Err(ProgramError::NotElf));
    assert_eq!(read_bytes(b"\x7fEL"), Err(ProgramError::NotElf));
    assert_eq!(read_bytes(b"MZ and more"), Err(ProgramError::NotElf));
    assert_eq!(read_bytes(b"#!/bin/sh\n"), Err(ProgramError::Script));
}

#[test]
fn a_program_that_is_cut_off_says_where() {
    let whole = program(&[TEXT, DATA]);
    for (len, part) in [
        (4, "the ELF header"),
        (63, "the ELF header"),
        (64, "the table of program headers"),
        (0xfff, "a segment"),
    ] {
        let error = read_bytes(&whole[..len]).unwrap_err();
        assert_eq!(error, ProgramError::Truncated { what: part, size: len as u64 });
    }
    let error = changed(32, &u64::MAX.to_le_bytes()).unwrap_err();
    assert!(matches!(error, ProgramError::Truncated { .. }), "{error}");
    let error = of(&[Load { offset: u64::MAX, ..TEXT }]).unwrap_err();
    assert!(matches!(error, ProgramError::Truncated { .. }), "{error}");
}

#[test]
fn programs_of_other_machines_are_named() {
    assert_eq!(changed(4, &[1]), Err(ProgramError::Class32));
    assert_eq!(changed(18, &183u16.to_le_bytes()), Err(ProgramError::Machine { machine: 183 }));
    // Big-endian: the machine number is read that way round.
    let mut bytes = program(&[TEXT]);
    bytes[5] = 2;
    bytes[18..20].copy_from_slice(&22u16.to_be_bytes());
    assert_eq!(read_bytes(&bytes), Err(ProgramError::Machine { machine: 22 }));
}

#[test]
fn objects_libraries_and_core_files_are_no_programs() {
    for kind in [abi::ET_NONE, abi::ET_REL, abi::ET_CORE] {
        assert_eq!(changed(16, &kind.to_le_bytes()), Err(ProgramError::Type { kind }));
    }
}

#[test]
fn a_dynamic_program_is_told_apart() {
    let interpreter = Load { kind: abi::PT_INTERP, ..TEXT };
    assert_eq!(of(&[interpreter, TEXT]), Err(ProgramError::Dynamic));
    let text = ProgramError::Dynamic.to_string();
    assert!(text.contains("-static") && text.contains("crt-static"), "{text}");
}

#[test]
fn headers_that_contradict_themselves_are_malformed() {
    let malformed = |result: Result<Image, ProgramError>| {
        assert!(matches!(result, Err(ProgramError::Malformed { .. })), "{result:?}");
    };
    malformed(changed(4, &[9]));
    malformed(changed(6, &[9]));
    malformed(changed(54, &[0, 0]));
    malformed(changed(54, &[57, 0]));
    malformed(changed(56, &[0, 0]));
    malformed(changed(56, &[0xff, 0xff]));
    malformed(changed(24, &0u64.to_le_bytes()));
    malformed(of(&[Load { file_size: 0x1000, mem_size: 0xfff, ..TEXT }]));
    malformed(of(&[Load { va: 0, ..TEXT }]));
    malformed(of(&[Load { va: 0xfff, ..TEXT }]));
    malformed(of(&[DATA, TEXT]));
    malformed(of(&[TEXT, Load { va: TEXT.va + 0xfff, ..DATA }]));
    malformed(of(&[Load { kind: abi::PT_NOTE, ..TEXT }]));
    malformed(of(&[Load { file_size: 0, mem_size: 0, ..TEXT }]));
}

#[test]
fn segments_beyond_what_can_be_mapped_are_too_high() {
    for va in [SYSTEM_VA, SYSTEM_VA - 0xfff, 1 << 47, u64::MAX - 0x1000, u64::MAX] {
        let error = of(&[Load { va, ..TEXT }]).unwrap_err();
        assert!(matches!(error, ProgramError::TooHigh { limit: SYSTEM_VA, .. }), "{va:#x}: {error}");
    }
    let error = of(&[Load { mem_size: u64::MAX, ..TEXT }]).unwrap_err();
    assert!(matches!(error, ProgramError::TooHigh { .. }), "{error}");
    let mut bytes = program(&[Load { va: u64::MAX - PIE_BASE + 1, ..TEXT }]);
    bytes[16..18].copy_from_slice(&abi::ET_DYN.to_le_bytes());
    assert!(matches!(read_bytes(&bytes), Err(ProgramError::TooHigh { .. })));
}

/// What later steps rely on.
fn holds_together(image: &Image) -> bool {
    image.segments.is_sorted_by(|a, b| a.end() <= b.va)
        && image.segments.iter().all(|s| {
            s.va >= PAGE
                && s.end() <= SYSTEM_VA
                && s.file_size <= s.mem_size
                && s.offset + s.file_size <= image.size
        })
        && image.segments.iter().any(|s| (s.va..s.end()).contains(&image.entry))
}

fn lays_out(image: &Image) -> bool {
    use crate::layout::Layout;
    match Layout::new(image, 256 << 20, vm_abi::LARGE_PAGE) {
        Ok(layout) => {
            layout.brk_start >= image.segments.last().map_or(0, Segment::end)
                && layout.window_end > layout.brk_start
        }
        Err(error) => matches!(error, crate::ConfigError::MemoryTooSmall { .. }),
    }
}

proptest! {
    #[test]
    fn no_change_to_the_headers_makes_the_reader_panic(changes in prop::collection::vec((0usize..184, any::<u8>()), 1..8)) {
        let mut bytes = program(&[TEXT, DATA]);
        for (at, value) in changes {
            bytes[at] = value;
        }
        if let Ok(image) = read_bytes(&bytes) {
            prop_assert!(holds_together(&image) && lays_out(&image), "{image:?}");
        }
    }

    #[test]
    fn no_numbers_in_the_headers_make_the_reader_panic(
        numbers in prop::collection::vec((0usize..12, prop_oneof![any::<u64>(), 0u64..0x3000, Just(u64::MAX), Just(SYSTEM_VA)]), 1..5),
        length in 0usize..0x1200,
    ) {
        let mut bytes = program(&[TEXT, DATA]);
        for (field, value) in numbers {
            let at = 64 + 8 + 56 * (field / 6) + 8 * (field % 6);
            bytes[at..at + 8].copy_from_slice(&value.to_le_bytes());
        }
        bytes.resize(length.max(64), 0);
        if let Ok(image) = read_bytes(&bytes) {
            prop_assert!(holds_together(&image) && lays_out(&image), "{image:?}");
        }
    }

    #[test]
    fn no_bytes_make_the_reader_panic(bytes in prop::collection::vec(any::<u8>(), 0..300), magic in any::<bool>()) {
        let mut bytes = bytes;
        if magic && bytes.len() >= 7 {
            bytes[..7].copy_from_slice(b"\x7fELF\x02\x01\x01");
        }
        if let Ok(image) = read_bytes(&bytes) {
            prop_assert!(holds_together(&image));
        }
    }
}
