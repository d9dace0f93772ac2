//! The part of guest memory that is the same for every instance, made once and mapped privately by each: the CPU page,
//! the constant tables, the guest's code, the page tables. An instance copies only the pages that it writes to.

use std::fs::File;
use std::io::Cursor;
use std::mem::offset_of;

use linux_loader::loader::KernelLoader;
use linux_loader::loader::elf::Elf;
use nix::sys::memfd::{MFdFlags, memfd_create};
use vm_abi::{HOT_SIZE, HOT_VA, Header, IMAGE_SIZE, IMAGE_VA, PAGE, SYSTEM_VA, TABLES_SIZE, TABLES_VA};
use vm_memory::{Bytes, FileOffset, GuestAddress, GuestMemoryMmap};

use crate::boot::paging::PageTables;
use crate::boot::tables;
use crate::config::VmConfig;
use crate::elf::Image;
use crate::error::{ConfigError, Error};
use crate::layout::{
    CPU_GPA, FilePlace, IMAGE_END_GPA, IMAGE_GPA, Layout, PAGE_TABLES_GPA, PAGE_TABLES_ROOM, TABLES_GPA,
};

/// The freestanding guest, built by build.rs.
static GUEST_ELF: &[u8] = include_bytes!(env!("GUEST_ELF"));

/// The digestible bytes of the guest, for provenance.
pub fn guest_elf() -> &'static [u8] {
    GUEST_ELF
}

/// The template and what the monitor must know of it.
#[derive(Debug)]
pub struct Template {
    /// The contents, from physical address 0.
    pub file: File,
    /// Parts to map: physical address and length; the second is empty where the page tables fit into the first.
    pub parts: [(u64, u64); 2],
    /// Physical address of the root of the page tables.
    pub root: u64,
    /// The guest's header.
    pub header: Header,
    /// Address of the program's path in the tables.
    pub path_va: u64,
    /// Physical addresses of the page-table entries of the window, from `Layout::first_backed` on, one a large page.
    pub entries: Vec<u64>,
}

/// Virtual ranges of the guest image: start, end, whether writable, whether it comes from the file.
struct GuestParts {
    ranges: Vec<(u64, u64, bool)>,
    file_end: u64,
}

fn guest_parts() -> Result<GuestParts, Error> {
    let unusable = |what| Error::Guest { what };
    let bytes = elf::ElfBytes::<elf::endian::LittleEndian>::minimal_parse(GUEST_ELF)
        .map_err(|_| unusable("its headers do not parse"))?;
    let segments = bytes.segments().ok_or_else(|| unusable("it has no segments"))?;
    let mut parts = GuestParts { ranges: Vec::new(), file_end: IMAGE_VA };
    for s in segments.iter().filter(|s| s.p_type == elf::abi::PT_LOAD) {
        let end = s.p_vaddr + s.p_memsz;
        let inside = |start, size| s.p_vaddr >= start && end <= start + size;
        if !(inside(IMAGE_VA, IMAGE_SIZE) || inside(HOT_VA, HOT_SIZE)) || s.p_paddr != s.p_vaddr - SYSTEM_VA {
            return Err(unusable("a segment lies outside its place"));
        }
        let write = s.p_flags & elf::abi::PF_W != 0;
        parts.ranges.push((s.p_vaddr & !(PAGE - 1), end.next_multiple_of(PAGE), write));
        if s.p_filesz > 0 {
            parts.file_end = parts.file_end.max((s.p_vaddr + s.p_filesz).next_multiple_of(PAGE));
        }
    }
    Ok(parts)
}

/// Reads the header out of the loaded image.
fn header(memory: &GuestMemoryMmap<()>) -> Result<Header, Error> {
    let at = |offset: usize| {
        memory
            .read_obj::<u64>(GuestAddress(IMAGE_GPA + offset as u64))
            .map_err(|_| Error::Guest { what: "its header cannot be read" })
    };
    let versions = at(offset_of!(Header, version))?;
    let header = Header {
        magic: at(offset_of!(Header, magic))?,
        version: u32::try_from(versions & 0xffff_ffff).unwrap_or_default(),
        size: u32::try_from(versions >> 32).unwrap_or_default(),
        syscall_entry: at(offset_of!(Header, syscall_entry))?,
        fault_entry: at(offset_of!(Header, fault_entry))?,
        stack_top: at(offset_of!(Header, stack_top))?,
        user_rsp: at(offset_of!(Header, user_rsp))?,
        unserved: at(offset_of!(Header, unserved))?,
    };
    if header.magic != vm_abi::MAGIC
        || header.version != vm_abi::VERSION
        || header.size as usize != size_of::<Header>()
    {
        return Err(Error::Guest { what: "it speaks another version of the interface" });
    }
    Ok(header)
}

/// The table of files and their paths as the guest reads it, and the address of the first path.
fn constant_tables(paths: &[(&[u8], u64)], places: &[FilePlace]) -> Result<(Vec<u8>, u64), ConfigError> {
    let entry_size = size_of::<vm_abi::FileEntry>();
    let first_path = TABLES_VA + (entry_size * places.len()) as u64;
    let (mut table, mut texts) = (Vec::new(), Vec::new());
    for ((path, mode), place) in paths.iter().zip(places) {
        let va = first_path + texts.len() as u64;
        for value in [va, path.len() as u64, place.size, place.va, *mode] {
            table.extend(value.to_le_bytes());
        }
        texts.extend_from_slice(path);
        texts.push(0);
    }
    table.extend(texts);
    if table.len() as u64 > TABLES_SIZE {
        return Err(ConfigError::TooManyFiles { size: table.len(), limit: TABLES_SIZE });
    }
    Ok((table, first_path))
}

impl Template {
    /// Builds it.
    pub fn build(
        config: &VmConfig,
        image: &Image,
        layout: &Layout,
        paths: &[(&[u8], u64)],
        files: &[FilePlace],
    ) -> Result<Self, Error> {
        config.check()?;
        let host = |step| move |source| Error::Host { step, source };
        let parts = guest_parts()?;
        let build = |base| PageTables::build(base, layout, image, &parts.ranges, files);
        let mut page_tables = build(PAGE_TABLES_GPA);
        if page_tables.size() > PAGE_TABLES_ROOM {
            page_tables = build(IMAGE_END_GPA);
        }
        let root = page_tables.root();
        let image_end = parts.file_end - SYSTEM_VA;
        let tables_end = root + page_tables.size();
        let size = image_end.max(tables_end);

        let fd = memfd_create(c"vm-template", MFdFlags::MFD_CLOEXEC)
            .map_err(|e| host("memfd_create")(e.into()))?;
        let file = File::from(fd);
        file.set_len(size).map_err(host("ftruncate of the template"))?;
        let mapped = file.try_clone().map_err(host("dup of the template"))?;
        let len = usize::try_from(size).unwrap_or(usize::MAX);
        let memory = GuestMemoryMmap::<()>::from_ranges_with_files([(
            GuestAddress(0),
            len,
            Some(FileOffset::new(mapped, 0)),
        )])
        .map_err(|e| host("mapping the template")(std::io::Error::other(e)))?;

        Elf::load(&memory, None, &mut Cursor::new(GUEST_ELF), None)
            .map_err(|_| Error::Guest { what: "it cannot be loaded" })?;
        let header = header(&memory)?;
        let (table, path_va) = constant_tables(paths, files)?;
        let write = |at: u64, bytes: &[u8]| {
            memory
                .write_slice(bytes, GuestAddress(at))
                .map_err(|_| Error::Guest { what: "the template is too small" })
        };
        write(CPU_GPA, &tables::cpu_page(&header)?)?;
        write(TABLES_GPA, &table)?;
        let large_pages = (layout.first_backed..layout.window_end).step_by(2 << 20);
        let entries = large_pages.map(|va| page_tables.entry_gpa(va)).collect();
        for (i, bytes) in (0u64..).zip(page_tables.bytes()) {
            write(root + PAGE * i, &bytes)?;
        }
        let far = if root == IMAGE_END_GPA { page_tables.size() } else { 0 };
        let parts = [(CPU_GPA, image_end - CPU_GPA), (root, far)];
        Ok(Self { file, parts, root, header, path_va, entries })
    }

    /// Physical address of the end of the guest's code and data as they come from its file.
    pub fn file_end(&self) -> u64 {
        let (start, len) = self.parts[0];
        start + len
    }

    /// Bytes of the system block that it needs.
    pub fn end(&self) -> u64 {
        self.parts.iter().map(|(start, len)| start + len).max().unwrap_or(0).max(IMAGE_END_GPA)
    }
}

/// The program's initial stack (System V ABI, 3.4.1), as bytes that end at `STACK_TOP`, and where it starts.
pub fn initial_stack(
    config: &VmConfig,
    argv0: &[u8],
    auxv: &[(u64, u64)],
    path_va: u64,
) -> Result<(Vec<u8>, u64), ConfigError> {
    /// Strings and tables together; the kernel's own limit is a quarter of the stack.
    const LIMIT: usize = 512 << 10;
    let strings: Vec<&[u8]> = std::iter::once(argv0)
        .chain(config.args.iter().map(|a| a.as_bytes()))
        .chain(config.env.iter().map(|e| e.as_bytes()))
        .collect();
    let text_len: usize = strings.iter().map(|s| s.len() + 1).sum();
    let words = 1 + strings.len() + 2 + 2 * (auxv.len() + 2);
    let size = (words * 8 + text_len).next_multiple_of(16);
    if size > LIMIT {
        return Err(ConfigError::ArgumentsTooLong { size, limit: LIMIT });
    }
    let start = vm_abi::STACK_TOP - size as u64;
    let mut text_at = vm_abi::STACK_TOP - text_len as u64;
    let mut stack = Vec::with_capacity(size);
    let mut push = |value: u64| stack.extend(value.to_le_bytes());
    let argc = 1 + config.args.len();
    push(argc as u64);
    for (i, string) in strings.iter().enumerate() {
        if i == argc {
            push(0);
        }
        push(text_at);
        text_at += string.len() as u64 + 1;
    }
    if config.env.is_empty() {
        push(0);
    }
    push(0);
    for (kind, value) in auxv.iter().chain(&[(libc::AT_EXECFN, path_va), (libc::AT_NULL, 0)]) {
        push(*kind);
        push(*value);
    }
    stack.resize(size - text_len, 0);
    for string in strings {
        stack.extend_from_slice(string);
        stack.push(0);
    }
    Ok((stack, start))
}
