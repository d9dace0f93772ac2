//! Where everything lies in the guest. `vm-abi` has the picture; this computes it for one program and memory size.

use std::path::PathBuf;

use vm_abi::{FILES_SIZE, FILES_VA, LARGE_PAGE, PAGE, STACK_TOP};

use crate::elf::Image;
use crate::error::ConfigError;

/// Physical address of the CPU page; the system block is mapped as it lies, from physical 0.
pub const CPU_GPA: u64 = vm_abi::CPU_VA - vm_abi::SYSTEM_VA;
/// Physical address of the boot block.
pub const BOOT_GPA: u64 = vm_abi::BOOT_VA - vm_abi::SYSTEM_VA;
/// Physical address of the guest's hot data.
pub const HOT_GPA: u64 = vm_abi::HOT_VA - vm_abi::SYSTEM_VA;
/// Physical address of the constant tables.
pub const TABLES_GPA: u64 = vm_abi::TABLES_VA - vm_abi::SYSTEM_VA;
/// Physical address of the guest image.
pub const IMAGE_GPA: u64 = vm_abi::IMAGE_VA - vm_abi::SYSTEM_VA;
/// Physical address of the page tables, between the constant tables and the guest image.
pub const PAGE_TABLES_GPA: u64 = vm_abi::PAGE_TABLES_VA - vm_abi::SYSTEM_VA;
/// Room for them there; those of a very large machine or program lie after the image.
pub const PAGE_TABLES_ROOM: u64 = IMAGE_GPA - PAGE_TABLES_GPA;
/// End of the guest image.
pub const IMAGE_END_GPA: u64 = IMAGE_GPA + vm_abi::IMAGE_SIZE;

/// The program's stack, where memory allows: RLIMIT_STACK's usual 8 MiB.
const STACK: u64 = 8 << 20;
/// The stack of a small machine.
const SMALL_STACK: u64 = LARGE_PAGE;
/// Below this much memory a machine is small.
const SMALL: u64 = 64 << 20;
/// What `brk` can reach. Allocators go on with `mmap` where it ends.
const BRK: u64 = 4 << 20;
/// Memory that is backed from the start, beyond the brk region. More is added as it is mapped; the cost of a memory
/// slot grows with its size on hosts that shadow page tables.
const FIRST_MMAP: u64 = 4 << 20;
/// Least memory for brk and mmap together.
const MIN_HEAP: u64 = 2 * LARGE_PAGE;

/// A file that can be opened in the guest.
#[derive(Debug, Clone)]
pub struct FilePlace {
    /// Path on the host, for messages.
    pub host: PathBuf,
    /// Guest virtual address.
    pub va: u64,
    /// Guest physical address.
    pub gpa: u64,
    /// Size in bytes.
    pub size: u64,
}

/// All addresses of one machine.
#[derive(Debug, Clone)]
pub struct Layout {
    /// All memory, bytes.
    pub memory: u64,
    /// Size of the system block.
    pub system_size: u64,
    /// Physical address of the program's stack.
    pub stack_gpa: u64,
    /// Size of the program's stack.
    pub stack_size: u64,
    /// Physical address of the window.
    pub window_gpa: u64,
    /// Virtual address of the window.
    pub window_va: u64,
    /// End of the program's segments, whole pages (virtual); the brk region starts here.
    pub brk_start: u64,
    /// End of the brk region and start of the mmap region (virtual).
    pub mmap_start: u64,
    /// End of the window (virtual).
    pub window_end: u64,
    /// The window is backed up to here at the start (virtual).
    pub first_backed: u64,
}

const fn up(value: u64, to: u64) -> u64 {
    value.next_multiple_of(to)
}

impl Layout {
    /// Lays out a machine.
    pub fn new(image: &Image, memory: u64, system_size: u64) -> Result<Self, ConfigError> {
        let first = image.segments.first().map_or(vm_abi::PIE_BASE, |s| s.va);
        let last = image.segments.last().map_or(first, |s| s.end());
        let window_va = first & !(LARGE_PAGE - 1);
        let stack_size = if memory < SMALL { SMALL_STACK } else { STACK };
        let window_gpa = system_size + stack_size;
        let brk_start = up(last, PAGE);
        let needed = up(window_gpa + (brk_start - window_va) + MIN_HEAP, LARGE_PAGE);
        if memory < needed {
            return Err(ConfigError::MemoryTooSmall { asked: memory >> 20, needed: needed >> 20 });
        }
        let memory = memory & !(LARGE_PAGE - 1);
        let window_end = window_va + (memory - window_gpa);
        let heap = window_end - brk_start;
        let mmap_start = up(brk_start + BRK.min(heap / 4), PAGE);
        let first_backed = up(mmap_start + FIRST_MMAP, LARGE_PAGE).min(window_end);
        Ok(Self {
            memory,
            system_size,
            stack_gpa: system_size,
            stack_size,
            window_gpa,
            window_va,
            brk_start,
            mmap_start,
            window_end,
            first_backed,
        })
    }

    /// Physical address of an address in the window.
    pub fn window_to_gpa(&self, va: u64) -> u64 {
        va - self.window_va + self.window_gpa
    }

    /// Lowest address of the program's stack.
    pub fn stack_low(&self) -> u64 {
        STACK_TOP - self.stack_size
    }

    /// Where files go: after the memory, each on a large page of its own.
    pub fn place_files(
        &self,
        sizes: impl IntoIterator<Item = (PathBuf, u64)>,
    ) -> Result<Vec<FilePlace>, ConfigError> {
        let mut offset = 0u64;
        let gpa = up(self.memory, 1 << 30);
        let mut places = Vec::new();
        for (host, size) in sizes {
            let next =
                offset.checked_add(up(size.clamp(1, FILES_SIZE), LARGE_PAGE)).filter(|n| *n <= FILES_SIZE);
            let next = next.ok_or(ConfigError::FilesTooLarge { limit: FILES_SIZE >> 30 })?;
            places.push(FilePlace { host, va: FILES_VA + offset, gpa: gpa + offset, size });
            offset = next;
        }
        Ok(places)
    }

    /// Physical address of a range of virtual addresses that lies in one piece of the machine's memory.
    pub fn to_gpa(&self, va: u64, len: u64, backed_end: u64) -> Option<u64> {
        let end = va.checked_add(len)?;
        let pieces = [
            (vm_abi::SYSTEM_VA, vm_abi::CPU_VA, 0),
            (vm_abi::IMAGE_VA, vm_abi::IMAGE_VA + vm_abi::IMAGE_SIZE, IMAGE_GPA),
            (self.stack_low(), STACK_TOP, self.stack_gpa),
            (self.window_va, backed_end, self.window_gpa),
        ];
        pieces
            .into_iter()
            .find(|(start, stop, _)| va >= *start && end <= *stop)
            .map(|(start, _, gpa)| va - start + gpa)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::elf::Segment;

    fn image(va: u64, size: u64) -> Image {
        let segment = Segment { va, mem_size: size, offset: 0, file_size: size, write: false, execute: true };
        Image { segments: vec![segment], entry: va, phdr: 0, phnum: 1, size }
    }

    #[test]
    fn the_window_is_linear_and_its_parts_follow_each_other() {
        let l = Layout::new(&image(0x40_0000, 0x12_3456), 512 << 20, LARGE_PAGE).unwrap();
        assert_eq!(l.window_to_gpa(0x40_0000), LARGE_PAGE + STACK);
        assert!(l.brk_start < l.mmap_start && l.mmap_start < l.first_backed && l.first_backed < l.window_end);
        assert_eq!(l.window_to_gpa(l.window_end), 512 << 20);
    }

    #[test]
    fn a_machine_too_small_for_its_program_says_what_it_needs() {
        let error = Layout::new(&image(0x40_0000, 10 << 20), 16 << 20, LARGE_PAGE).unwrap_err();
        let ConfigError::MemoryTooSmall { asked: 16, needed } = error else { panic!("{error}") };
        assert!(Layout::new(&image(0x40_0000, 10 << 20), needed << 20, LARGE_PAGE).is_ok());
    }

    #[test]
    fn only_ranges_inside_one_piece_of_memory_have_a_physical_address() {
        let l = Layout::new(&image(0x40_0000, 0x1000), 64 << 20, LARGE_PAGE).unwrap();
        assert_eq!(l.to_gpa(STACK_TOP - 8, 8, l.first_backed), Some(l.stack_gpa + l.stack_size - 8));
        assert_eq!(l.to_gpa(STACK_TOP - 8, 9, l.first_backed), None);
        assert_eq!(l.to_gpa(l.first_backed, 1, l.first_backed), None);
        assert_eq!(l.to_gpa(u64::MAX, 2, l.first_backed), None);
        assert_eq!(l.to_gpa(0, 1, l.first_backed), None);
    }
}
