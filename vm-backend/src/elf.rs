//! Reading a program's headers. Everything in the file is untrusted: all sums are checked.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

use elf::abi;
use elf::endian::LittleEndian;
use elf::file::{Class, FileHeader, parse_ident};
use elf::segment::SegmentTable;
use vm_abi::{PAGE, PIE_BASE, SYSTEM_VA};

use crate::error::ProgramError;

const EHDR_SIZE: usize = 64;
const IDENT_SIZE: usize = 16;
const PHDR_SIZE: u16 = 56;
/// More headers than any linker writes; bounds what a hostile file makes us read.
const MAX_HEADERS: u16 = 512;

/// One loadable segment. Addresses as the program will see them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Segment {
    /// First address.
    pub va: u64,
    /// Bytes in memory.
    pub mem_size: u64,
    /// Where its contents start in the file.
    pub offset: u64,
    /// Bytes in the file.
    pub file_size: u64,
    /// May be written.
    pub write: bool,
    /// May be executed.
    pub execute: bool,
}

impl Segment {
    /// End in memory (exclusive).
    pub fn end(&self) -> u64 {
        self.va + self.mem_size
    }

    /// Whether pages of the file are pages of the segment, so that it need not be copied: a fifth of the cost, and shared
    /// between instances.
    pub fn can_be_mapped(&self) -> bool {
        self.offset % PAGE == self.va % PAGE
    }
}

/// What the loader and the auxiliary vector need.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Image {
    /// Loadable segments, in ascending order, not overlapping.
    pub segments: Vec<Segment>,
    /// First instruction.
    pub entry: u64,
    /// Address of the program headers in memory, 0 where no segment holds them.
    pub phdr: u64,
    /// Number of them.
    pub phnum: u16,
    /// Size of the file.
    pub size: u64,
}

fn malformed(what: &'static str) -> ProgramError {
    ProgramError::Malformed { what }
}

/// Reads and checks the headers of an open file.
pub fn read(file: &File, size: u64) -> io::Result<Result<Image, ProgramError>> {
    let mut head = [0; EHDR_SIZE];
    let have = read_up_to(file, &mut head, 0)?;
    let header = match check_head(&head[..have], size) {
        Ok(header) => header,
        Err(error) => return Ok(Err(error)),
    };
    let len = u64::from(header.e_phnum) * u64::from(PHDR_SIZE);
    let end = header.e_phoff.checked_add(len);
    if end.is_none_or(|end| end > size) {
        return Ok(Err(ProgramError::Truncated { what: "the table of program headers", size }));
    }
    let mut table = vec![0; usize::from(header.e_phnum) * usize::from(PHDR_SIZE)];
    file.read_exact_at(&mut table, header.e_phoff)?;
    Ok(check_segments(&header, &SegmentTable::new(LittleEndian, Class::ELF64, &table), size))
}

fn read_up_to(file: &File, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
    let mut done = 0;
    while done < buffer.len() {
        match file.read_at(&mut buffer[done..], offset + done as u64) {
            Ok(0) => break,
            Ok(n) => done += n,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(done)
}

fn check_head(head: &[u8], size: u64) -> Result<FileHeader<LittleEndian>, ProgramError> {
    if head.starts_with(b"#!") {
        return Err(ProgramError::Script);
    }
    if !head.starts_with(&abi::ELFMAGIC) {
        return Err(ProgramError::NotElf);
    }
    if head.len() < EHDR_SIZE {
        return Err(ProgramError::Truncated { what: "the ELF header", size });
    }
    if head[abi::EI_CLASS] == abi::ELFCLASS32 {
        return Err(ProgramError::Class32);
    }
    if head[abi::EI_DATA] != abi::ELFDATA2LSB {
        // Read the machine the way that byte order has it.
        return Err(ProgramError::Machine { machine: u16::from_be_bytes([head[18], head[19]]) });
    }
    let ident =
        parse_ident::<LittleEndian>(&head[..IDENT_SIZE]).map_err(|_| malformed("its identification"))?;
    let header = FileHeader::parse_tail(ident, &head[IDENT_SIZE..]).map_err(|_| malformed("its header"))?;
    if header.e_machine != abi::EM_X86_64 {
        return Err(ProgramError::Machine { machine: header.e_machine });
    }
    if header.e_type != abi::ET_EXEC && header.e_type != abi::ET_DYN {
        return Err(ProgramError::Type { kind: header.e_type });
    }
    if header.e_phentsize != PHDR_SIZE || header.e_phnum == 0 || header.e_phnum > MAX_HEADERS {
        return Err(malformed("the number or size of its program headers"));
    }
    Ok(header)
}

fn check_segments(
    header: &FileHeader<LittleEndian>,
    table: &SegmentTable<'_, LittleEndian>,
    size: u64,
) -> Result<Image, ProgramError> {
    if table.iter().any(|p| p.p_type == abi::PT_INTERP) {
        return Err(ProgramError::Dynamic);
    }
    let base = if header.e_type == abi::ET_DYN { PIE_BASE } else { 0 };
    let overflow = || ProgramError::TooHigh { end: u64::MAX, limit: SYSTEM_VA };
    let mut segments: Vec<Segment> = Vec::new();
    for p in table.iter().filter(|p| p.p_type == abi::PT_LOAD && p.p_memsz > 0) {
        if p.p_filesz > p.p_memsz {
            return Err(malformed("a segment is larger in the file than in memory"));
        }
        if p.p_offset.checked_add(p.p_filesz).is_none_or(|end| end > size) {
            return Err(ProgramError::Truncated { what: "a segment", size });
        }
        let va = p.p_vaddr.checked_add(base).ok_or_else(overflow)?;
        let end = va.checked_add(p.p_memsz).ok_or_else(overflow)?;
        if end > SYSTEM_VA {
            return Err(ProgramError::TooHigh { end, limit: SYSTEM_VA });
        }
        if va < PAGE {
            return Err(malformed("a segment lies in the first page, where null pointers point"));
        }
        if segments.last().is_some_and(|last| last.end() > va) {
            return Err(malformed("its segments overlap or are not in ascending order"));
        }
        segments.push(Segment {
            va,
            mem_size: p.p_memsz,
            offset: p.p_offset,
            file_size: p.p_filesz,
            write: p.p_flags & abi::PF_W != 0,
            execute: p.p_flags & abi::PF_X != 0,
        });
    }
    let entry = header.e_entry.wrapping_add(base);
    if !segments.iter().any(|s| (s.va..s.end()).contains(&entry)) {
        return Err(malformed("its entry point lies in none of its segments"));
    }
    // Where the kernel looks as well: in the segment that holds that part of the file.
    let phdr = segments
        .iter()
        .find(|s| (s.offset..s.offset + s.file_size).contains(&header.e_phoff))
        .map_or(0, |s| header.e_phoff - s.offset + s.va);
    Ok(Image { segments, entry, phdr, phnum: header.e_phnum, size })
}

#[cfg(test)]
mod tests;
