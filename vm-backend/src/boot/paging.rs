//! Page tables, built outside the guest (Intel SDM vol. 3, 4.5).
//!
//! Accessed and dirty bits are set beforehand: the CPU, or KVM where it shadows the tables, then never writes to them,
//! and all instances share the pages of the tables.

use vm_abi::{BOOT_VA, CPU_VA, LARGE_PAGE, PAGE, STACK_TOP, SYSTEM_VA, TABLES_SIZE, TABLES_VA};

use crate::elf::Image;
use crate::layout::{FilePlace, Layout};

const PRESENT: u64 = 1;
const WRITE: u64 = 1 << 1;
const USER: u64 = 1 << 2;
const ACCESSED: u64 = 1 << 5;
const DIRTY: u64 = 1 << 6;
const LARGE: u64 = 1 << 7;
const NO_EXECUTE: u64 = 1 << 63;
const ADDRESS: u64 = 0x000f_ffff_ffff_f000;
const ENTRIES: usize = 512;
const TABLE: u64 = PRESENT | WRITE | USER | ACCESSED;

/// Rights of a mapping.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rights {
    user: bool,
    write: bool,
    execute: bool,
}

impl Rights {
    /// Reachable from ring 3, though only ring 0 uses it: where ring 0 is emulated (PVM), a system call's entry is fetched
    /// with user rights. Nothing is lost: the program can harm only its own machine.
    const CPU: Self = Self { user: true, write: true, execute: true };
    const CODE: Self = Self { user: true, write: false, execute: true };
    const DATA: Self = Self { user: true, write: true, execute: false };
    const CONSTANT: Self = Self { user: true, write: false, execute: false };
    /// What `mmap` hands out: protection is not enforced inside the one program's memory.
    const ALL: Self = Self { user: true, write: true, execute: true };

    fn bits(self) -> u64 {
        let mut bits = PRESENT | ACCESSED | DIRTY;
        if self.user {
            bits |= USER;
        }
        if self.write {
            bits |= WRITE;
        }
        if !self.execute {
            bits |= NO_EXECUTE;
        }
        bits
    }
}

/// Entry that maps a large page of the mmap region, for memory that is added while the machine runs.
pub fn large_entry(gpa: u64) -> u64 {
    gpa | Rights::ALL.bits() | LARGE
}

/// The tables of one machine; the first is the root.
pub struct PageTables {
    /// Physical address of the first.
    base: u64,
    tables: Vec<[u64; ENTRIES]>,
}

fn index(va: u64, level: u32) -> usize {
    usize::try_from(va >> (12 + 9 * level) & 0x1ff).unwrap_or_default()
}

impl PageTables {
    fn address(&self, table: usize) -> u64 {
        self.base + PAGE * table as u64
    }

    /// The table that an entry refers to, made where it is missing.
    fn next(&mut self, table: usize, entry: usize) -> usize {
        let value = self.tables[table][entry];
        if value & PRESENT != 0 {
            return usize::try_from(((value & ADDRESS) - self.base) / PAGE).unwrap_or_default();
        }
        self.tables.push([0; ENTRIES]);
        let new = self.tables.len() - 1;
        self.tables[table][entry] = self.address(new) | TABLE;
        new
    }

    /// The page directory of an address, and the index in it.
    fn directory(&mut self, va: u64) -> (usize, usize) {
        let pdpt = self.next(0, index(va, 3));
        (self.next(pdpt, index(va, 2)), index(va, 1))
    }

    fn map_small(&mut self, va: u64, gpa: u64, rights: Rights) {
        let (directory, entry) = self.directory(va);
        let table = self.next(directory, entry);
        self.tables[table][index(va, 0)] = gpa | rights.bits();
    }

    fn map_pages(&mut self, va: u64, end: u64, gpa: u64, rights: Rights) {
        for at in (va..end).step_by(4096) {
            self.map_small(at, gpa + (at - va), rights);
        }
    }

    fn map_large(&mut self, va: u64, end: u64, gpa: u64, rights: Rights) {
        for at in (va..end).step_by(2 << 20) {
            let (directory, entry) = self.directory(at);
            self.tables[directory][entry] = (gpa + (at - va)) | rights.bits() | LARGE;
        }
    }

    /// Builds the tables of a machine, to lie at `base`. `guest_image`: parts of the system block by virtual range and whether writable.
    pub fn build(
        base: u64,
        layout: &Layout,
        image: &Image,
        guest_image: &[(u64, u64, bool)],
        files: &[FilePlace],
    ) -> Self {
        let mut tables = Self { base, tables: vec![[0; ENTRIES]] };
        let system = |va: u64| va - SYSTEM_VA;
        tables.map_small(CPU_VA, system(CPU_VA), Rights::CPU);
        tables.map_small(BOOT_VA, system(BOOT_VA), Rights::DATA);
        tables.map_pages(TABLES_VA, TABLES_VA + TABLES_SIZE, system(TABLES_VA), Rights::CONSTANT);
        for (start, end, write) in guest_image {
            let rights = if *write { Rights::DATA } else { Rights::CODE };
            tables.map_pages(*start, *end, system(*start), rights);
        }
        tables.map_large(layout.stack_low(), STACK_TOP, layout.stack_gpa, Rights::ALL);

        for segment in &image.segments {
            let start = segment.va & !(PAGE - 1);
            let end = segment.end().next_multiple_of(PAGE);
            let rights = Rights { user: true, write: segment.write, execute: segment.execute };
            tables.map_pages(start, end, layout.window_to_gpa(start), rights);
        }
        // The rest of the large page that the segments end in, then large pages.
        let large = layout.brk_start.next_multiple_of(LARGE_PAGE);
        tables.map_pages(layout.brk_start, large, layout.window_to_gpa(layout.brk_start), Rights::ALL);
        tables.map_large(large, layout.first_backed, layout.window_to_gpa(large), Rights::ALL);
        // Directories for what is backed later: filling in an entry needs no new table, and no flush.
        for va in (layout.first_backed..layout.window_end).step_by(1 << 30) {
            tables.directory(va);
        }
        tables.directory(layout.window_end - 1);
        for file in files {
            tables.map_large(file.va, file.va + file.size.max(1), file.gpa, Rights::CONSTANT);
        }
        tables
    }

    /// Physical address of the entry that maps the large page at an address of the window.
    pub fn entry_gpa(&mut self, va: u64) -> u64 {
        let (directory, entry) = self.directory(va);
        self.address(directory) + 8 * entry as u64
    }

    /// Physical address of the root.
    pub fn root(&self) -> u64 {
        self.base
    }

    /// Size in memory.
    pub fn size(&self) -> u64 {
        PAGE * self.tables.len() as u64
    }

    /// The tables as bytes.
    pub fn bytes(&self) -> impl Iterator<Item = Vec<u8>> {
        self.tables.iter().map(|t| t.iter().flat_map(|e| e.to_le_bytes()).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::elf::Segment;

    /// Walks the tables as the CPU does.
    fn walk(tables: &PageTables, va: u64) -> Option<(u64, u64)> {
        let mut table = 0;
        for level in [3, 2, 1, 0] {
            let entry = tables.tables[table][index(va, level)];
            if entry & PRESENT == 0 {
                return None;
            }
            if level == 0 {
                return Some(((entry & ADDRESS) + va % PAGE, entry));
            }
            if entry & LARGE != 0 {
                return Some(((entry & ADDRESS) + va % LARGE_PAGE, entry));
            }
            table = usize::try_from(((entry & ADDRESS) - tables.base) / PAGE).unwrap();
        }
        None
    }

    fn tables() -> (Layout, PageTables) {
        let text = Segment {
            va: 0x40_0000,
            mem_size: 0x1800,
            offset: 0,
            file_size: 0x1800,
            write: false,
            execute: true,
        };
        let data = Segment {
            va: 0x40_3000,
            mem_size: 0x10,
            offset: 0x2000,
            file_size: 0x10,
            write: true,
            execute: false,
        };
        let image = Image { segments: vec![text, data], entry: 0x40_0000, phdr: 0, phnum: 2, size: 0x3000 };
        let layout = Layout::new(&image, 256 << 20, LARGE_PAGE).unwrap();
        let tables = PageTables::build(crate::layout::PAGE_TABLES_GPA, &layout, &image, &[], &[]);
        (layout, tables)
    }

    #[test]
    fn segments_have_the_rights_they_were_linked_with() {
        let (layout, tables) = tables();
        let (gpa, text) = walk(&tables, 0x40_1234).unwrap();
        assert_eq!(gpa, layout.window_gpa + 0x1234);
        assert_eq!(text & (WRITE | USER | NO_EXECUTE), USER);
        let (_, data) = walk(&tables, 0x40_3000).unwrap();
        assert_eq!(data & (WRITE | USER | NO_EXECUTE), WRITE | USER | NO_EXECUTE);
    }

    #[test]
    fn null_and_gaps_and_the_unbacked_are_not_mapped() {
        let (layout, mut tables) = tables();
        for va in [0, 8, 0x3f_ffff, 0x40_2000, layout.first_backed, layout.stack_low() - 1, STACK_TOP] {
            assert_eq!(walk(&tables, va), None, "{va:#x}");
        }
        let before = tables.tables.len();
        tables.entry_gpa(layout.first_backed);
        tables.entry_gpa(layout.window_end - 1);
        assert_eq!(tables.tables.len(), before, "backing memory later needs no new table");
    }

    #[test]
    fn no_entry_lacks_its_accessed_bit() {
        let (_, tables) = tables();
        assert!(tables.tables.iter().flatten().all(|e| e & PRESENT == 0 || e & ACCESSED != 0));
    }
}
