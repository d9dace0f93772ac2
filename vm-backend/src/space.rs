//! The address space of a machine: a reservation of the host's, laid out once, that every monitor inherits by fork.
//!
//! Nothing is read or written through it before the fork, so there is no page in it: fork copies a list of mappings, which is
//! cheaper than to make it anew, and the monitor's pages are its own from the first.

use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;

use vm_abi::{LARGE_PAGE, PAGE};
use vm_memory::{GuestAddress, GuestMemoryMmap, GuestRegionMmap, MmapRegion};

use crate::elf::Image;
use crate::layout::Layout;
use crate::template::Template;

const READ_WRITE: i32 = libc::PROT_READ | libc::PROT_WRITE;

pub(crate) fn usize_of(value: u64) -> usize {
    // 64-bit only (checked in lib.rs).
    usize::try_from(value).unwrap_or(usize::MAX)
}

/// Maps memory or a file: at a null address where the kernel likes, with MAP_FIXED inside a reservation of the caller's own.
pub(crate) fn map(
    address: *mut u8,
    len: u64,
    prot: i32,
    flags: i32,
    file: Option<(&File, u64)>,
) -> io::Result<*mut u8> {
    let (fd, offset) = file.map_or((-1, 0), |(f, o)| (f.as_raw_fd(), o));
    let offset = libc::off_t::try_from(offset).map_err(|_| io::ErrorKind::InvalidInput)?;
    // SAFETY: callers pass a null address (the kernel chooses), or MAP_FIXED with a range inside their own reservation
    // (`Space::overlay` checks that), so that no other mapping of this process is replaced.
    let got = unsafe { libc::mmap(address.cast(), usize_of(len), prot, flags, fd, offset) };
    if got == libc::MAP_FAILED { Err(io::Error::last_os_error()) } else { Ok(got.cast()) }
}

/// What the host is told about a guest's memory.
#[derive(Debug, Clone, Copy)]
#[repr(i32)]
pub(crate) enum Advice {
    /// The pages are given back; they read as zero afterwards.
    Discard = libc::MADV_DONTNEED,
    /// Large pages are worth their memory here.
    LargePages = libc::MADV_HUGEPAGE,
    /// All pages will be written to.
    Populate = libc::MADV_POPULATE_WRITE,
}

/// Advises about a range of this process that is a guest's memory; where it is not mapped, that is an error.
pub(crate) fn advise(start: *mut u8, len: u64, advice: Advice) -> io::Result<()> {
    // SAFETY: none of these changes a page that something else than a guest uses: of a guest's anonymous memory only the guest
    // asks to discard, and the other two leave the contents as they are.
    let result = unsafe { libc::madvise(start.cast(), usize_of(len), advice as libc::c_int) };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// The memory of machines of one kind, all of it mapped, none of it there.
#[derive(Debug)]
pub(crate) struct Space {
    reservation: MmapRegion<()>,
    /// From the start of the reservation to physical address 0.
    pad: usize,
    /// The memory, for all reading and writing from the monitor.
    pub guest: GuestMemoryMmap<()>,
}

impl Space {
    /// Reserves the memory and maps what is the same for every instance: the template, and the program's segments as far as
    /// they can be mapped.
    pub fn reserve(layout: &Layout, template: &Template, image: &Image, program: &File) -> io::Result<Self> {
        // One large page more, to align: the host can then back guest large pages with its own.
        let reservation = MmapRegion::new(usize_of(layout.memory + LARGE_PAGE)).map_err(io::Error::other)?;
        let pad = reservation.as_ptr().align_offset(usize_of(LARGE_PAGE));
        let base = reservation.as_ptr().wrapping_add(pad);
        let (prot, flags) = (reservation.prot(), reservation.flags());
        // SAFETY: `base` and the length lie inside the mapping just made, which lives as long as `self`.
        let region = unsafe { MmapRegion::build_raw(base, usize_of(layout.memory), prot, flags) };
        let guest = GuestRegionMmap::new(region.map_err(io::Error::other)?, GuestAddress(0))
            .and_then(|region| GuestMemoryMmap::from_regions(vec![region]).ok())
            .ok_or(io::ErrorKind::InvalidInput)?;
        let space = Self { reservation, pad, guest };
        for (gpa, len) in template.parts.into_iter().filter(|(_, len)| *len > 0) {
            space.overlay(gpa, len, &template.file, gpa)?;
        }
        for s in image.segments.iter().filter(|s| s.file_size > 0 && s.can_be_mapped()) {
            let in_page = s.va % PAGE;
            let len = (in_page + s.file_size).next_multiple_of(PAGE);
            space.overlay(layout.window_to_gpa(s.va) - in_page, len, program, s.offset - in_page)?;
        }
        Ok(space)
    }

    /// Host address of a physical address.
    pub fn place(&self, gpa: u64) -> *mut u8 {
        self.reservation.as_ptr().wrapping_add(self.pad + usize_of(gpa))
    }

    /// Maps a piece of a file privately over a part of the memory.
    fn overlay(&self, gpa: u64, len: u64, file: &File, offset: u64) -> io::Result<()> {
        let size = (self.reservation.size() - self.pad) as u64;
        if gpa.checked_add(len).is_none_or(|end| end > size) {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        let flags = libc::MAP_PRIVATE | libc::MAP_FIXED;
        map(self.place(gpa), len, READ_WRITE, flags, Some((file, offset))).map(|_| ())
    }

    /// Lets the host make pages that every start writes to, or runs through, all at once: one call instead of a fault each,
    /// and KVM maps up to eight neighbours with a page that it finds ready. Only advice: an old kernel says no.
    pub fn populate(&self, gpa: u64, len: u64) {
        drop(self.advise(gpa, len, Advice::Populate));
    }

    /// Tells the host about pages. Only those of the anonymous part may be discarded.
    pub fn advise(&self, gpa: u64, len: u64, advice: Advice) -> io::Result<()> {
        advise(self.place(gpa), len, advice)
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::os::unix::fs::FileExt;

    use vm_memory::Bytes;

    use super::*;
    use crate::config::{Program, VmConfig};
    use crate::elf::Segment;

    /// Pages of the memory that exist (Documentation/admin-guide/mm/pagemap.rst: bit 63).
    fn present(space: &Space, memory: u64) -> usize {
        let mut entries = vec![0; usize_of(memory / PAGE) * 8];
        let map = File::open("/proc/self/pagemap").unwrap();
        map.read_exact_at(&mut entries, space.place(0) as u64 / PAGE * 8).unwrap();
        entries.chunks(8).filter(|entry| entry[7] & 0x80 != 0).count()
    }

    #[test]
    fn the_map_shows_the_program_and_has_no_page_until_it_is_looked_at() {
        let mut program = tempfile::tempfile().unwrap();
        program.write_all(&[7; 8192]).unwrap();
        let segment = Segment {
            va: 0x40_0000,
            mem_size: 8192,
            offset: 0,
            file_size: 8192,
            write: false,
            execute: true,
        };
        let image = Image { segments: vec![segment], entry: 0x40_0000, phdr: 0, phnum: 1, size: 8192 };
        let layout = Layout::new(&image, 64 << 20, LARGE_PAGE).unwrap();
        let config = VmConfig::new(Program::Path("program".into()));
        let template = Template::build(&config, &image, &layout, &[], &[]).unwrap();
        let space = Space::reserve(&layout, &template, &image, &program).unwrap();
        assert_eq!(present(&space, layout.memory), 0);
        let mut bytes = [0; 8192];
        space.guest.read_slice(&mut bytes, GuestAddress(layout.window_to_gpa(0x40_0000))).unwrap();
        assert_eq!(bytes, [7; 8192]);
        assert!(present(&space, layout.memory) >= 2);
    }

    #[test]
    fn nothing_is_mapped_beyond_the_memory() {
        let file = tempfile::tempfile().unwrap();
        let reservation = MmapRegion::new(1 << 20).unwrap();
        let space = Space { reservation, pad: 4096, guest: GuestMemoryMmap::new() };
        space.overlay(0, (1 << 20) - 4096, &file, 0).unwrap();
        space.overlay(4096, (1 << 20) - 4096, &file, 0).unwrap_err();
        space.overlay(u64::MAX, 2, &file, 0).unwrap_err();
    }
}
