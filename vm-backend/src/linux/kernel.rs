//! What a kernel file is, read from its first bytes; and putting it into memory.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

use linux_loader::loader::elf::{Elf, PvhBootCapability};
use linux_loader::loader::{BzImage, KernelLoader};
use vm_memory::{Address, GuestAddress, GuestMemoryMmap};

use super::error::KernelError;
use super::layout::HIGH;

/// How a kernel is entered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Kind {
    /// A bzImage: boot parameters with its setup header, the 64-bit entry, and it unpacks itself.
    BzImage {
        /// From byte 0x1f1 on, as long as it says.
        setup_header: Vec<u8>,
        /// Where it unpacks itself to, which is also where the unpacked kernel is entered.
        unpacked: u64,
    },
    /// A vmlinux.
    Vmlinux,
}

/// What was found, before anything is loaded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Kernel {
    /// Which of the two.
    pub kind: Kind,
    /// First address that is free when it runs its first steps: its code, its data and what it needs to unpack.
    pub end: u64,
}

/// A kernel in memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Loaded {
    /// First and last address (exclusive) of what was written.
    pub range: (u64, u64),
    /// Where it begins.
    pub entry: Entry,
}

/// The mode in which a kernel is entered, and where.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Entry {
    /// 64-bit mode, RSI: boot parameters.
    Long(u64),
    /// 32-bit protected mode without paging, EBX: PVH start info.
    Pvh(u64),
}

/// Offsets in a bzImage (Documentation/arch/x86/boot.rst).
mod bz {
    pub const SETUP_HEADER: usize = 0x1f1;
    pub const HEADER: usize = 0x202;
    pub const JUMP_OFFSET: usize = 0x201;
    pub const VERSION: usize = 0x206;
    /// Where its version is as a text, from byte 0x200 on.
    pub const KERNEL_VERSION: usize = 0x20e;
    pub const LOADFLAGS: usize = 0x211;
    pub const KERNEL_ALIGNMENT: usize = 0x230;
    pub const RELOCATABLE: usize = 0x234;
    pub const XLOADFLAGS: usize = 0x236;
    pub const SYSSIZE: usize = 0x1f4;
    pub const PREF_ADDRESS: usize = 0x258;
    pub const INIT_SIZE: usize = 0x260;
    pub const END: usize = 0x268;
}
/// Protocol 2.12: xloadflags, and with them the 64-bit entry.
const PROTOCOL: u16 = 0x20c;
const LOADED_HIGH: u8 = 1;
const XLF_KERNEL_64: u16 = 1;
/// The 64-bit entry, from the start of what is loaded.
const ENTRY_64: u64 = 0x200;
const SECTOR: u64 = 512;

/// "ARM\x64" at byte 56 of an arm64 Image (Documentation/arch/arm64/booting.rst).
const ARM64_MAGIC: (usize, &[u8]) = (56, b"ARM\x64");
/// zImage of 32-bit ARM at byte 36 (arch/arm/boot/compressed/head.S).
const ARM_MAGIC: (usize, &[u8]) = (36, &[0x18, 0x28, 0x6f, 0x01]);
/// "RSC\x05" at byte 56 (Documentation/arch/riscv/boot-image-header.rst).
const RISCV_MAGIC: (usize, &[u8]) = (56, b"RSC\x05");
const FOREIGN: [((usize, &[u8]), &str); 3] =
    [(ARM64_MAGIC, "arm64"), (ARM_MAGIC, "32-bit ARM"), (RISCV_MAGIC, "RISC-V")];

/// Enough for the headers of both kinds.
const HEAD: usize = 4096;

fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_le_bytes(bytes.get(at..at + 2)?.try_into().ok()?))
}
fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_le_bytes(bytes.get(at..at + 4)?.try_into().ok()?))
}
fn u64_at(bytes: &[u8], at: usize) -> Option<u64> {
    Some(u64::from_le_bytes(bytes.get(at..at + 8)?.try_into().ok()?))
}

/// The version that a kernel names in itself, a bzImage in its header and a vmlinux in the banner that it prints; `None` where there
/// is none.
#[must_use]
pub fn version(kernel: &[u8]) -> Option<String> {
    const BANNER: &[u8] = b"Linux version ";
    const TEXTS: usize = 0x200;
    let text = if kernel.get(bz::HEADER..bz::HEADER + 4) == Some(b"HdrS") {
        kernel.get(usize::from(u16_at(kernel, bz::KERNEL_VERSION)?) + TEXTS..)?
    } else {
        let at = kernel.windows(BANNER.len()).position(|window| window == BANNER)?;
        kernel.get(at + BANNER.len()..)?
    };
    // One word, and not a long one: the file is a stranger's.
    let word: String =
        text.iter().take(64).map_while(|b| b.is_ascii_graphic().then_some(char::from(*b))).collect();
    (!word.is_empty()).then_some(word)
}

/// Reads the headers of a file of this size.
///
/// # Errors
/// Outer: it cannot be read. Inner: it is no kernel for this machine.
pub fn inspect(file: &File, size: u64) -> io::Result<Result<Kernel, KernelError>> {
    let mut head = vec![0; HEAD.min(usize::try_from(size).unwrap_or(HEAD))];
    file.read_exact_at(&mut head, 0)?;
    let table = |offset: u64, len: usize| -> io::Result<Vec<u8>> {
        let mut bytes = vec![0; len];
        file.read_exact_at(&mut bytes, offset)?;
        Ok(bytes)
    };
    if head.starts_with(b"\x7fELF") {
        return match elf_header(&head, size) {
            Ok((offset, len)) => Ok(elf_segments(&table(offset, len)?, size)),
            Err(error) => Ok(Err(error)),
        };
    }
    Ok(bzimage(&head, size))
}

/// The headers of a bzImage whose first bytes these are.
pub fn bzimage(head: &[u8], size: u64) -> Result<Kernel, KernelError> {
    for ((at, magic), machine) in FOREIGN {
        if head.get(at..at + magic.len()) == Some(magic) {
            return Err(KernelError::Machine { machine: machine.into() });
        }
    }
    if head.get(bz::HEADER..bz::HEADER + 4) != Some(b"HdrS") {
        return Err(KernelError::NotKernel);
    }
    let truncated = |what, end| KernelError::Truncated { what, end, size };
    if head.len() < bz::END {
        return Err(truncated("the setup header", bz::END as u64));
    }
    let header = || truncated("the setup header", bz::END as u64);
    let version = u16_at(head, bz::VERSION).ok_or_else(header)?;
    if version < PROTOCOL {
        return Err(KernelError::Protocol { version });
    }
    if u16_at(head, bz::XLOADFLAGS).ok_or_else(header)? & XLF_KERNEL_64 == 0 {
        return Err(KernelError::Bits32);
    }
    if head[bz::LOADFLAGS] & LOADED_HIGH == 0 {
        return Err(KernelError::Malformed { what: "it wants to be loaded below 1 MiB" });
    }
    let setup_sectors = match head[bz::SETUP_HEADER] {
        0 => 4,
        n => u64::from(n),
    };
    let setup = (setup_sectors + 1) * SECTOR;
    // In units of 16 bytes.
    let body = u64::from(u32_at(head, bz::SYSSIZE).ok_or_else(header)?) * 16;
    if body <= ENTRY_64 {
        return Err(KernelError::Malformed { what: "it has no code" });
    }
    // The last unit may be incomplete.
    if setup + body > size + 15 {
        return Err(truncated("the kernel proper", setup + body));
    }
    let align = u64::from(u32_at(head, bz::KERNEL_ALIGNMENT).ok_or_else(header)?);
    if !align.is_power_of_two() {
        return Err(KernelError::Malformed { what: "its alignment is not a power of two" });
    }
    let preferred = u64_at(head, bz::PREF_ADDRESS).ok_or_else(header)?;
    let needed = u64::from(u32_at(head, bz::INIT_SIZE).ok_or_else(header)?);
    // As startup_64 of arch/x86/boot/compressed/head_64.S chooses: where it was loaded, aligned, but not below what it
    // prefers, which is the only place for one that cannot be moved.
    let unpacked =
        if head[bz::RELOCATABLE] == 0 { preferred } else { HIGH.next_multiple_of(align).max(preferred) };
    let end = unpacked.checked_add(needed).filter(|end| *end < 1 << 32 && preferred < 1 << 32);
    let end = end.ok_or(KernelError::Malformed { what: "it wants to be unpacked above 4 GiB" })?;
    let header_end = (bz::HEADER + usize::from(head[bz::JUMP_OFFSET])).clamp(bz::END, head.len());
    let setup_header = head[bz::SETUP_HEADER..header_end].to_vec();
    Ok(Kernel { kind: Kind::BzImage { setup_header, unpacked }, end: end.max(HIGH + (size - setup)) })
}

/// Offsets and numbers of ELF (System V ABI, "Object Files"; include/uapi/linux/elf.h).
mod elf {
    pub const CLASS: usize = 4;
    pub const DATA: usize = 5;
    pub const TYPE: usize = 16;
    pub const MACHINE: usize = 18;
    pub const PHOFF: usize = 32;
    pub const PHENTSIZE: usize = 54;
    pub const PHNUM: usize = 56;
    pub const HEADER: usize = 64;
    pub const PHDR: usize = 56;
    pub const CLASS_64: u8 = 2;
    pub const LITTLE_ENDIAN: u8 = 1;
    pub const X86_64: u16 = 62;
    pub const EXEC: u16 = 2;
    pub const LOAD: u32 = 1;
    pub const NOTE: u32 = 4;
}

/// The header of a vmlinux: where its program headers are, and their length.
fn elf_header(head: &[u8], size: u64) -> Result<(u64, usize), KernelError> {
    let truncated = |what, end| KernelError::Truncated { what, end, size };
    if head.len() < elf::HEADER {
        return Err(truncated("the ELF header", elf::HEADER as u64));
    }
    let field = |at| u16_at(head, at).unwrap_or(0);
    if head[elf::DATA] == elf::LITTLE_ENDIAN {
        match field(elf::MACHINE) {
            elf::X86_64 => {}
            3 => return Err(KernelError::Bits32),
            40 => return Err(KernelError::Machine { machine: "32-bit ARM".into() }),
            183 => return Err(KernelError::Machine { machine: "arm64".into() }),
            243 => return Err(KernelError::Machine { machine: "RISC-V".into() }),
            other => return Err(KernelError::Machine { machine: format!("ELF machine {other}") }),
        }
    } else {
        return Err(KernelError::Machine { machine: "a big-endian processor".into() });
    }
    if head[elf::CLASS] != elf::CLASS_64 {
        return Err(KernelError::Bits32);
    }
    if field(elf::TYPE) != elf::EXEC {
        return Err(KernelError::Malformed { what: "it is an ELF file, but not an executable one" });
    }
    let count = usize::from(field(elf::PHNUM));
    if usize::from(field(elf::PHENTSIZE)) != elf::PHDR || count == 0 {
        return Err(KernelError::Malformed { what: "it has no program headers" });
    }
    let offset = u64_at(head, elf::PHOFF).unwrap_or(0);
    let len = count * elf::PHDR;
    match offset.checked_add(len as u64) {
        Some(end) if offset < elf::HEADER as u64 || end > size => Err(truncated("the program headers", end)),
        None => Err(KernelError::Malformed { what: "its program headers are nowhere" }),
        Some(_) => Ok((offset, len)),
    }
}

/// The program headers of a vmlinux.
pub fn elf_segments(headers: &[u8], size: u64) -> Result<Kernel, KernelError> {
    let mut end = 0;
    for header in headers.chunks_exact(elf::PHDR) {
        let field = |at| u64_at(header, at).unwrap_or(0);
        let kind = u32_at(header, 0).unwrap_or(0);
        let (offset, address, in_file, in_memory) = (field(8), field(24), field(32), field(40));
        if kind != elf::LOAD && kind != elf::NOTE {
            continue;
        }
        let file_end = offset.checked_add(in_file);
        let file_end = file_end.ok_or(KernelError::Malformed { what: "a segment has no end" })?;
        if file_end > size {
            return Err(KernelError::Truncated { what: "a segment", end: file_end, size });
        }
        if kind != elf::LOAD {
            continue;
        }
        if in_memory < in_file {
            return Err(KernelError::Malformed { what: "a segment is smaller in memory than in the file" });
        }
        let segment_end = address.checked_add(in_memory).filter(|end| *end < 1 << 32);
        let segment_end = segment_end.ok_or(KernelError::Malformed { what: "a segment lies above 4 GiB" })?;
        if address < HIGH && in_memory > 0 {
            return Err(KernelError::Malformed {
                what: "a segment lies below 1 MiB: it is a program, not a kernel, or a very old one",
            });
        }
        end = end.max(segment_end);
    }
    if end == 0 {
        return Err(KernelError::Malformed { what: "it has nothing to load" });
    }
    Ok(Kernel { kind: Kind::Vmlinux, end })
}

impl Kernel {
    /// Puts the kernel into memory.
    ///
    /// # Errors
    /// What linux-loader says.
    pub fn load(&self, file: &mut File, memory: &GuestMemoryMmap<()>) -> Result<Loaded, KernelError> {
        let failed = |e: linux_loader::loader::Error| KernelError::Loader(e.to_string());
        match self.kind {
            Kind::BzImage { .. } => {
                let start = GuestAddress(HIGH);
                let loaded = BzImage::load(memory, Some(start), file, Some(start)).map_err(failed)?;
                Ok(Loaded { range: (HIGH, loaded.kernel_end), entry: Entry::Long(HIGH + ENTRY_64) })
            }
            Kind::Vmlinux => {
                let loaded = Elf::load(memory, None, file, Some(GuestAddress(HIGH))).map_err(failed)?;
                let entry = match loaded.pvh_boot_cap {
                    PvhBootCapability::PvhEntryPresent(address) => Entry::Pvh(address.raw_value()),
                    _ => Entry::Long(loaded.kernel_load.raw_value()),
                };
                Ok(Loaded { range: (HIGH, loaded.kernel_end), entry })
            }
        }
    }
}

#[cfg(test)]
#[path = "kernel_tests.rs"]
mod tests;
