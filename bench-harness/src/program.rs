//! Is this a program that all targets can run? The same check and the same words, whatever the target.
//!
//! The same bytes must run everywhere, so what is asked is the least common ground: a static 64-bit x86-64 Linux ELF.
//! The check reads the file's first page and its program headers, nothing more: it is on the hot path of `run`.

use std::fs::File;
use std::io;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};

/// Why a file is not a program that can be run.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ProgramError {
    /// Nothing of that name.
    #[error("{} does not exist", .0.display())]
    Missing(PathBuf),
    /// A folder.
    #[error("{} is a directory, not a program", .0.display())]
    Directory(PathBuf),
    /// A device, a pipe, a socket.
    #[error("{} is not a regular file", .0.display())]
    NotRegular(PathBuf),
    /// The name is there and cannot be opened.
    #[error("cannot open {}", path.display())]
    Open {
        /// The program.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// It cannot be read.
    #[error("cannot read {}", path.display())]
    Read {
        /// The program.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// No execute bit.
    #[error("{} is not executable; `chmod +x` makes it so", .0.display())]
    NotExecutable(PathBuf),
    /// `#!`
    #[error("{} is a script (it begins with #!); a static x86-64 ELF program is needed, since no interpreter exists inside the targets", .0.display())]
    Script(PathBuf),
    /// Something else entirely.
    #[error("{} is not an ELF program", .0.display())]
    NotElf(PathBuf),
    /// Shorter than its own headers say.
    #[error("{} is truncated: it has {have} bytes, its ELF headers need {need}", path.display())]
    Truncated {
        /// The program.
        path: PathBuf,
        /// The file's size.
        have: u64,
        /// What the headers ask for.
        need: u64,
    },
    /// ELFCLASS32.
    #[error("{} is a 32-bit ELF; a 64-bit x86-64 one is needed", .0.display())]
    Bits32(PathBuf),
    /// Another CPU.
    #[error("{} is an ELF for {machine}; one for x86-64 is needed", path.display())]
    Machine {
        /// The program.
        path: PathBuf,
        /// The machine's name, or its number.
        machine: String,
    },
    /// An object file, a core dump.
    #[error("{} is an ELF {what}, not a program", path.display())]
    Kind {
        /// The program.
        path: PathBuf,
        /// What it is.
        what: &'static str,
    },
    /// Needs a loader and libraries.
    #[error(
        "{} is dynamically linked (it asks for {interpreter}); a static program is needed. Link it so: \
         C: `cc -static`; Rust: `RUSTFLAGS='-C target-feature=+crt-static' cargo build --target x86_64-unknown-linux-gnu`, \
         or `--target x86_64-unknown-linux-musl`; Go: `CGO_ENABLED=0 go build`",
        path.display()
    )]
    Dynamic {
        /// The program.
        path: PathBuf,
        /// The loader it names.
        interpreter: String,
    },
    /// The headers contradict themselves.
    #[error("{} is not a sound ELF program: {what}", path.display())]
    Broken {
        /// The program.
        path: PathBuf,
        /// What is wrong.
        what: &'static str,
    },
    /// Larger than the memory it is to have.
    #[error("{} needs {need_mib} MiB for its segments alone, more than the {mem_mib} MiB of --mem", path.display())]
    TooLarge {
        /// The program.
        path: PathBuf,
        /// Its segments, rounded up.
        need_mib: u64,
        /// The memory given.
        mem_mib: u64,
    },
}

/// What the check learned of a fit program.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Fit {
    /// Size of the file.
    pub file_bytes: u64,
    /// Memory that its segments take when loaded.
    pub memory_bytes: u64,
}

// elf(5): offsets within the 64-bit ELF header and within one of its program headers.
const HEADER_LEN: usize = 64;
const SEGMENT_LEN: usize = 56;
const EI_CLASS: usize = 4;
const EI_DATA: usize = 5;
const CLASS_32: u8 = 1;
const CLASS_64: u8 = 2;
const DATA_LITTLE: u8 = 1;
const MACHINE_X86_64: u16 = 62;
const PT_LOAD: u32 = 1;
const PT_INTERP: u32 = 3;
/// Linux itself refuses more than 64 KiB of program headers (`fs/binfmt_elf.c`, `ELF_MIN_ALIGN` apart).
const MAX_SEGMENTS: usize = 65_536 / SEGMENT_LEN;

/// Looks at the program at `path`; `mem_mib` is the memory that it is to run in, where that is limited.
///
/// # Errors
/// The first reason why it cannot be run.
pub fn check(path: &Path, mem_mib: Option<u64>) -> Result<Fit, ProgramError> {
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            return Err(ProgramError::Missing(path.to_owned()));
        }
        Err(source) => return Err(ProgramError::Open { path: path.to_owned(), source }),
    };
    let meta = file.metadata().map_err(|source| ProgramError::Read { path: path.to_owned(), source })?;
    if meta.is_dir() {
        return Err(ProgramError::Directory(path.to_owned()));
    }
    if !meta.is_file() {
        return Err(ProgramError::NotRegular(path.to_owned()));
    }
    let mut first = [0_u8; 4096];
    let have = read_at(&file, &mut first, 0, path)?;
    if first[..have].starts_with(b"#!") {
        return Err(ProgramError::Script(path.to_owned()));
    }
    let fit = check_elf(&file, &first[..have], meta.len(), path)?;
    if meta.mode() & 0o111 == 0 {
        return Err(ProgramError::NotExecutable(path.to_owned()));
    }
    if let Some(mem_mib) = mem_mib {
        let need_mib = fit.memory_bytes.div_ceil(1 << 20);
        if need_mib > mem_mib {
            return Err(ProgramError::TooLarge { path: path.to_owned(), need_mib, mem_mib });
        }
    }
    Ok(fit)
}

fn check_elf(file: &File, first: &[u8], file_bytes: u64, path: &Path) -> Result<Fit, ProgramError> {
    let broken = |what| ProgramError::Broken { path: path.to_owned(), what };
    let truncated = |need| ProgramError::Truncated { path: path.to_owned(), have: file_bytes, need };
    if first.len() < 4 || !first.starts_with(b"\x7fELF") {
        return Err(ProgramError::NotElf(path.to_owned()));
    }
    if first.get(EI_CLASS) == Some(&CLASS_32) {
        return Err(ProgramError::Bits32(path.to_owned()));
    }
    if first.len() < HEADER_LEN {
        return Err(truncated(HEADER_LEN as u64));
    }
    if first[EI_CLASS] != CLASS_64 {
        return Err(broken("its class is neither 32 nor 64 bits"));
    }
    let machine = u16_at(first, 18);
    if first[EI_DATA] != DATA_LITTLE || machine != MACHINE_X86_64 {
        let machine = if first[EI_DATA] == DATA_LITTLE { machine } else { machine.swap_bytes() };
        return Err(ProgramError::Machine { path: path.to_owned(), machine: machine_name(machine) });
    }
    match u16_at(first, 16) {
        2 | 3 => {}
        1 => return Err(ProgramError::Kind { path: path.to_owned(), what: "object file" }),
        4 => return Err(ProgramError::Kind { path: path.to_owned(), what: "core dump" }),
        _ => return Err(broken("its type is unknown")),
    }
    let entry = u64_at(first, 24);
    let table = u64_at(first, 32);
    let count = usize::from(u16_at(first, 56));
    if usize::from(u16_at(first, 54)) != SEGMENT_LEN {
        return Err(broken("its program headers have an unknown size"));
    }
    if count == 0 || count > MAX_SEGMENTS {
        return Err(broken("it has no program headers, or far too many"));
    }
    let table_len = count * SEGMENT_LEN;
    let table_end = table.checked_add(table_len as u64).ok_or_else(|| broken("its headers overflow"))?;
    if table_end > file_bytes {
        return Err(truncated(table_end));
    }
    let mut headers = vec![0_u8; table_len];
    if read_at(file, &mut headers, table, path)? < table_len {
        return Err(truncated(table_end));
    }

    let (mut memory_bytes, mut loads) = (0_u64, 0);
    for segment in headers.chunks_exact(SEGMENT_LEN) {
        let (offset, in_file, in_memory) = (u64_at(segment, 8), u64_at(segment, 32), u64_at(segment, 40));
        let kind = u32_at(segment, 0);
        if kind == PT_INTERP {
            return Err(ProgramError::Dynamic {
                path: path.to_owned(),
                interpreter: interpreter(file, offset, in_file, path)?,
            });
        }
        if kind != PT_LOAD {
            continue;
        }
        loads += 1;
        let end = offset.checked_add(in_file).ok_or_else(|| broken("a segment overflows"))?;
        if end > file_bytes {
            return Err(truncated(end));
        }
        if in_file > in_memory {
            return Err(broken("a segment is larger in the file than in memory"));
        }
        memory_bytes = memory_bytes
            .checked_add(in_memory)
            .filter(|_| u64_at(segment, 16).checked_add(in_memory).is_some())
            .ok_or_else(|| broken("its segments overflow the address space"))?;
    }
    if loads == 0 {
        return Err(broken("nothing of it would be loaded"));
    }
    if entry == 0 {
        return Err(ProgramError::Kind { path: path.to_owned(), what: "shared library" });
    }
    Ok(Fit { file_bytes, memory_bytes })
}

fn interpreter(file: &File, offset: u64, len: u64, path: &Path) -> Result<String, ProgramError> {
    let mut name = vec![0_u8; usize::try_from(len.min(256)).unwrap_or(256)];
    let have = read_at(file, &mut name, offset, path)?;
    name.truncate(have);
    Ok(String::from_utf8_lossy(&name).trim_end_matches('\0').to_owned())
}

/// Reads until the buffer is full or the file ends.
fn read_at(file: &File, buffer: &mut [u8], offset: u64, path: &Path) -> Result<usize, ProgramError> {
    let mut have = 0;
    while have < buffer.len() {
        match file.read_at(&mut buffer[have..], offset.saturating_add(have as u64)) {
            Ok(0) => break,
            Ok(more) => have += more,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(source) => return Err(ProgramError::Read { path: path.to_owned(), source }),
        }
    }
    Ok(have)
}

fn machine_name(machine: u16) -> String {
    match machine {
        3 => "x86 (32-bit)".into(),
        8 => "MIPS".into(),
        20 | 21 => "PowerPC".into(),
        22 => "IBM S/390".into(),
        40 => "ARM (32-bit)".into(),
        183 => "ARM (AArch64)".into(),
        243 => "RISC-V".into(),
        258 => "LoongArch".into(),
        other => format!("machine number {other}"),
    }
}

// The callers have checked that the slices are long enough: a whole header, a whole program header.
fn u16_at(bytes: &[u8], at: usize) -> u16 {
    u16::from_le_bytes([bytes[at], bytes[at + 1]])
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from(u16_at(bytes, at)) | u32::from(u16_at(bytes, at + 2)) << 16
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    u64::from(u32_at(bytes, at)) | u64::from(u32_at(bytes, at + 4)) << 32
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    /// A well-formed header and one program header, to be spoilt by the tests.
    fn elf() -> Vec<u8> {
        let mut bytes = vec![0_u8; 200];
        bytes[..7].copy_from_slice(b"\x7fELF\x02\x01\x01");
        bytes[16] = 2;
        bytes[18] = 62;
        bytes[24..28].copy_from_slice(&0x40_1000_u32.to_le_bytes());
        bytes[32] = 64;
        bytes[54] = 56;
        bytes[56] = 1;
        bytes[64] = 1;
        bytes[96] = 200;
        bytes[104] = 200;
        bytes
    }

    fn verdict(bytes: &[u8]) -> Result<Fit, String> {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("program");
        std::fs::write(&path, bytes).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
        check(&path, Some(1)).map_err(|error| error.to_string())
    }

    fn spoilt(at: usize, with: &[u8]) -> String {
        let mut bytes = elf();
        bytes[at..at + with.len()].copy_from_slice(with);
        verdict(&bytes).unwrap_err()
    }

    #[test]
    fn a_small_static_elf_is_fit() {
        assert_eq!(verdict(&elf()), Ok(Fit { file_bytes: 200, memory_bytes: 200 }));
    }

    #[test]
    fn other_machines_are_named() {
        assert!(spoilt(18, &[40, 0]).contains("ARM (32-bit)"));
        assert!(spoilt(18, &[183, 0]).contains("AArch64"));
        assert!(spoilt(18, &[0xff, 0xfe]).contains("machine number 65279"));
        assert!(spoilt(4, &[1]).contains("32-bit"));
    }

    #[test]
    fn contradictions_are_found() {
        assert!(spoilt(54, &[1]).contains("unknown size"));
        assert!(spoilt(56, &[0]).contains("no program headers"));
        assert!(spoilt(32, &[0xff; 8]).contains("overflow"));
        assert!(spoilt(72, &[0xff; 8]).contains("overflows"));
        assert!(spoilt(80, &[0xff; 8]).contains("overflow the address space"));
        assert!(spoilt(104, &[1]).contains("larger in the file"));
        assert!(spoilt(64, &[6]).contains("nothing of it"));
        assert!(spoilt(24, &[0; 8]).contains("shared library"));
    }

    #[test]
    fn every_truncation_is_an_error_and_none_a_panic() {
        let whole = elf();
        for len in 0..whole.len() {
            assert!(verdict(&whole[..len]).is_err(), "{len} bytes");
        }
    }

    #[test]
    fn segments_that_do_not_fit_the_memory_are_refused() {
        assert!(spoilt(104, &[0, 0, 0x20, 0]).contains("needs 2 MiB"));
    }
}
