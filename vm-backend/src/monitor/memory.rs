//! The guest's memory: the address space that was reserved for it, registered with KVM piece by piece, and filled.

use std::fs::File;
use std::io;
use std::ptr;

use kvm_bindings::kvm_userspace_memory_region;
use kvm_ioctls::VmFd;
use vm_abi::{Boot, HOT_SIZE, LARGE_PAGE, PAGE, PATH_MAX, RANDOM_BYTES, STACK_TOP};
use vm_memory::{Bytes, GuestAddress, GuestMemoryMmap};

use super::at;
use crate::boot::paging::large_entry;
use crate::elf::{Image, Segment};
use crate::layout::{BOOT_GPA, FilePlace, HOT_GPA, IMAGE_GPA, Layout};
use crate::probe::Virtualisation;
use crate::report::{Failure, Report, Step};
use crate::space::{Advice, Space, map, usize_of};
use crate::vm::Vm;

/// Memory is added in pieces of at least this size: a slot costs an exit and an ioctl.
const GROW: u64 = 32 << 20;
/// KVM_MEM_READONLY (include/uapi/linux/kvm.h).
const MEM_READONLY: u32 = 2;

/// The memory of one machine.
pub(super) struct Memory<'v> {
    space: &'v Space,
    /// The same memory, for all reading and writing from here.
    pub guest: &'v GuestMemoryMmap<()>,
    /// The window is backed up to here (virtual).
    pub backed_end: u64,
    next_slot: u32,
    /// Indices of the files that were opened. Empty at the start: an allocation is a copied page or three.
    files_open: Vec<u64>,
}

/// KVM maps pages in aligned groups of eight (PTE_PREFETCH_NUM in arch/x86/kvm/mmu/mmu.c), from the first of them up to the
/// first that the host could not write to. One page of a file at a group's start therefore spoils the whole group.
const GROUP: u64 = 8 * PAGE;

/// Where the group of that address begins, or the program if it begins within.
fn start_of_group(image: &Image, va: u64) -> u64 {
    let first = image.segments.first().map_or(va, |s| s.va & !(PAGE - 1));
    (va & !(GROUP - 1)).max(first)
}

impl<'v> Memory<'v> {
    /// The memory as it was laid out for all instances. KVM has no part in it yet.
    pub fn new(vm: &'v Vm) -> Self {
        Self {
            space: &vm.space,
            guest: &vm.space.guest,
            backed_end: vm.layout.first_backed,
            next_slot: 0,
            files_open: Vec::new(),
        }
    }

    /// Registers what is backed from the start; the host's side of it is as the configuration says.
    pub fn register(&mut self, vm: &Vm, fd: &VmFd, report: &Report) -> Result<(), Failure> {
        report.memory_at(self.space.place(0), vm.layout.memory);
        let first = vm.layout.window_to_gpa(vm.layout.first_backed);
        self.add_slot(fd, report, 0, first, self.space.place(0) as u64, 0)?;
        // All of it: what is registered later is the guest's memory as well.
        vm.backing.apply(self.space.place(0), vm.layout.memory)
    }

    /// The pages that nearly every program needs before its first output.
    fn populate_start(&self, vm: &Vm) {
        let (layout, image) = (&vm.layout, &vm.image);
        let shadowed = vm.virtualisation() == Virtualisation::Pvm;
        // The boot block, the guest's stack for calls, and its data, side by side.
        self.space.populate(BOOT_GPA, HOT_GPA + HOT_SIZE - BOOT_GPA);
        // The program's data as far as it comes from the file, and the first pages of what is zero and of the brk region.
        const ZERO: u64 = 6 * PAGE;
        const MOST: u64 = 24 * PAGE;
        for s in image.segments.iter().filter(|s| s.write) {
            let start = if shadowed { start_of_group(image, s.va) } else { s.va & !(PAGE - 1) };
            let end = (s.va + s.file_size).next_multiple_of(PAGE) + ZERO;
            self.space.populate(layout.window_to_gpa(start), (end - start).min(MOST));
        }
        if shadowed {
            self.space.populate(IMAGE_GPA, vm.template.file_end() - IMAGE_GPA);
            self.copy_start_of_code(layout, image);
        }
    }

    /// Private copies of the pages that a static program runs through before `main`: the start of the file, where its
    /// relocations are, and the code around its entry. Only where KVM shadows the page tables: it maps the pages of a file
    /// one by one, an exit each, but eight at once where the host could write to them.
    fn copy_start_of_code(&self, layout: &Layout, image: &Image) {
        const RELOCATIONS: u64 = GROUP;
        // A static glibc program runs through some 45 KiB of functions before `main`, with what lies between them 25 pages.
        const CODE: u64 = 25 * PAGE;
        let first = image.segments.first().map_or(0, |s| s.va);
        for (from, len) in [(first, RELOCATIONS), (image.entry, CODE)] {
            let Some(s) = image.segments.iter().find(|s| (s.va..s.va + s.file_size).contains(&from)) else {
                continue;
            };
            let start = start_of_group(image, from);
            let end = ((from & !(PAGE - 1)) + len).min((s.va + s.file_size) & !(PAGE - 1));
            if start < end {
                self.space.populate(layout.window_to_gpa(start), end - start);
            }
        }
    }

    /// Completes a segment: what cannot be mapped is copied, and what lies behind the contents is made zero.
    fn complete_segment(&self, layout: &Layout, s: &Segment, program: &File) -> Result<(), Failure> {
        let failed = at(Step::Load);
        let gpa = layout.window_to_gpa(s.va);
        if s.file_size == 0 {
            return Ok(());
        }
        if !s.can_be_mapped() {
            let mut file = program.try_clone().map_err(&failed)?;
            io::Seek::seek(&mut file, io::SeekFrom::Start(s.offset)).map_err(&failed)?;
            return self
                .guest
                .read_exact_volatile_from(GuestAddress(gpa), &mut file, usize_of(s.file_size))
                .map_err(|e| failed(io::Error::other(e)));
        }
        // Beyond its contents a writable segment is zero, also in the page that they end in.
        let end = gpa + s.file_size;
        let rest = end.next_multiple_of(PAGE).min(gpa + s.mem_size).saturating_sub(end);
        if !s.write {
            return Ok(());
        }
        // In small pieces, since a whole page of zeros on the stack is one more page of it.
        let zeros = [0; 256];
        for at in (end..end + rest).step_by(zeros.len()) {
            self.write(at, &zeros[..usize_of((end + rest - at).min(zeros.len() as u64))])?;
        }
        Ok(())
    }

    fn add_slot(
        &mut self,
        fd: &VmFd,
        report: &Report,
        gpa: u64,
        size: u64,
        host: u64,
        flags: u32,
    ) -> Result<(), Failure> {
        let region = kvm_userspace_memory_region {
            slot: self.next_slot,
            flags,
            guest_phys_addr: gpa,
            memory_size: size,
            userspace_addr: host,
        };
        // SAFETY: the range is mapped in this process until it ends: the reservation, or a file's mapping that is never
        // undone; slots do not overlap (each starts where the last ended, files beyond the memory).
        unsafe { fd.set_user_memory_region(region) }.map_err(|e| at(Step::MemorySlot)(e.into()))?;
        self.next_slot += 1;
        report.slot_added();
        Ok(())
    }

    /// Writes to guest memory.
    pub fn write(&self, gpa: u64, bytes: &[u8]) -> Result<(), Failure> {
        self.guest.write_slice(bytes, GuestAddress(gpa)).map_err(|e| at(Step::Load)(io::Error::other(e)))
    }

    /// Puts the program into place, and what is this instance's own: the boot block and the stack.
    pub fn load(&self, vm: &Vm) -> Result<(), Failure> {
        let layout = &vm.layout;
        for segment in &vm.image.segments {
            self.complete_segment(layout, segment, &vm.program)?;
        }
        self.populate_start(vm);
        let stack_gpa = vm.stack_start - (STACK_TOP - layout.stack_size) + layout.stack_gpa;
        self.write(stack_gpa, &vm.stack)?;
        self.write(BOOT_GPA, bytes_of(&boot_block(vm)?))
    }

    /// Backs the window up to an address; how far it now is.
    pub fn back(
        &mut self,
        vm: &Vm,
        fd: &VmFd,
        report: &Report,
        end: u64,
    ) -> Result<Result<u64, i32>, Failure> {
        let layout = &vm.layout;
        if end <= self.backed_end {
            return Ok(Ok(self.backed_end));
        }
        if end > layout.window_end {
            return Ok(Err(libc::ENOMEM));
        }
        let old = self.backed_end;
        // Doubling, so that a program which grows in small steps needs few slots.
        let backed = old - layout.window_va;
        let new = end.max(old + GROW.max(backed)).next_multiple_of(LARGE_PAGE).min(layout.window_end);
        let (from, to) = (layout.window_to_gpa(old), layout.window_to_gpa(new));
        self.add_slot(fd, report, from, to - from, self.space.place(from) as u64, 0)?;
        let first = usize_of((old - layout.first_backed) / LARGE_PAGE);
        for (i, va) in (old..new).step_by(2 << 20).enumerate() {
            // Made for the whole window in the template.
            if let Some(entry) = vm.template.entries.get(first + i) {
                self.write(*entry, &large_entry(layout.window_to_gpa(va)).to_le_bytes())?;
            }
        }
        self.backed_end = new;
        let field = BOOT_GPA + std::mem::offset_of!(Boot, backed_end) as u64;
        self.write(field, &new.to_le_bytes())?;
        Ok(Ok(new))
    }

    /// Gives pages of the window back to the host; they read as zero afterwards.
    pub fn release(&self, layout: &Layout, va: u64, len: u64) -> Result<(), i32> {
        self.advise(layout, va, len, Advice::Discard)
    }

    /// Has the host back pages of the window by large ones. An error where it has none, as without a guest between.
    pub fn large_pages(&self, layout: &Layout, va: u64, len: u64) -> Result<(), i32> {
        self.advise(layout, va, len, Advice::LargePages)
    }

    /// As far as the window is backed.
    fn advise(&self, layout: &Layout, va: u64, len: u64, advice: Advice) -> Result<(), i32> {
        let end = va.checked_add(len).ok_or(libc::EINVAL)?.min(self.backed_end);
        if va < layout.brk_start || !va.is_multiple_of(PAGE) {
            return Err(libc::EINVAL);
        }
        if va >= end {
            return Ok(());
        }
        let advised = self.space.advise(layout.window_to_gpa(va), end - va, advice);
        advised.map_err(|error| error.raw_os_error().unwrap_or(libc::EIO))
    }

    /// Maps a file that was handed over to where the guest expects it.
    pub fn open_file(
        &mut self,
        vm: &Vm,
        fd: &VmFd,
        report: &Report,
        index: u64,
    ) -> Result<Result<(), i32>, Failure> {
        let Some((file, place)) = vm.files.get(usize_of(index)) else { return Ok(Err(libc::EINVAL)) };
        if self.files_open.contains(&index) || place.size == 0 {
            return Ok(Ok(()));
        }
        self.files_open.push(index);
        self.map_file(fd, report, file, place)
    }

    fn map_file(
        &mut self,
        fd: &VmFd,
        report: &Report,
        file: &File,
        place: &FilePlace,
    ) -> Result<Result<(), i32>, Failure> {
        let len = place.size.next_multiple_of(PAGE);
        match map(ptr::null_mut(), len, libc::PROT_READ, libc::MAP_PRIVATE, Some((file, 0))) {
            Ok(host) => self.add_slot(fd, report, place.gpa, len, host as u64, MEM_READONLY).map(Ok),
            Err(error) => Ok(Err(error.raw_os_error().unwrap_or(libc::EIO))),
        }
    }

    /// Fresh random bytes into the boot block, all but the program's AT_RANDOM.
    pub fn refill_random(&self) -> Result<Result<(), i32>, Failure> {
        const KEPT: usize = 16;
        match random::<{ RANDOM_BYTES - KEPT }>() {
            Ok(bytes) => {
                let field = BOOT_GPA + (std::mem::offset_of!(Boot, random) + KEPT) as u64;
                self.write(field, &bytes).map(Ok)
            }
            Err(error) => Ok(Err(error.raw_os_error().unwrap_or(libc::EIO))),
        }
    }
}

fn random<const N: usize>() -> io::Result<[u8; N]> {
    let mut bytes = [0u8; N];
    // SAFETY: the kernel writes at most N bytes into an array of N bytes. Up to 256 bytes are never cut short.
    let got = unsafe { libc::getrandom(bytes.as_mut_ptr().cast(), N, 0) };
    if usize::try_from(got) == Ok(N) { Ok(bytes) } else { Err(io::Error::last_os_error()) }
}

/// `st_mode` of a descriptor, 0 where it is closed, and whether it is a terminal.
fn stream(fd: i32) -> (u32, u8) {
    // SAFETY: fstat fills the structure or fails; a number that is no descriptor is EBADF.
    let mode = unsafe {
        let mut stat: libc::stat = std::mem::zeroed();
        if libc::fstat(fd, &raw mut stat) == 0 { stat.st_mode } else { 0 }
    };
    // SAFETY: asks about a number.
    let tty = mode & libc::S_IFMT == libc::S_IFCHR && unsafe { libc::isatty(fd) } == 1;
    (mode, u8::from(tty))
}

fn boot_block(vm: &Vm) -> Result<Boot, Failure> {
    let layout = &vm.layout;
    let streams = [0, 1, 2].map(stream);
    let mut program_path = [0; PATH_MAX];
    for (to, from) in program_path.iter_mut().zip(&vm.guest_path) {
        *to = *from;
    }
    Ok(Boot {
        request: vm_abi::Request { op: 0, args: [0; 4], result: 0 },
        fault: vm_abi::Fault { vector: 0, error: 0, address: 0, rip: 0, rflags: 0, rsp: 0 },
        stdio_mode: streams.map(|s| s.0),
        stdio_tty: streams.map(|s| s.1),
        has_fsgsbase: u8::from(vm.cpu.features.fsgsbase),
        brk_start: layout.brk_start,
        brk_end: layout.mmap_start,
        mmap_start: layout.mmap_start,
        mmap_end: layout.window_end,
        backed_end: layout.first_backed,
        stack_low: layout.stack_low(),
        memory: layout.memory,
        files: vm.files.len() as u64,
        program_path_len: vm.guest_path.len() as u64,
        program_path,
        random: random().map_err(at(Step::Load))?,
    })
}

fn bytes_of(boot: &Boot) -> &[u8] {
    // SAFETY: `Boot` is repr(C) and every byte of it is a field (its size is the sum of its fields, asserted below), so
    // all bytes are initialised.
    unsafe { std::slice::from_raw_parts((&raw const *boot).cast::<u8>(), size_of::<Boot>()) }
}

const _: () = assert!(size_of::<Boot>() == 6 * 8 + 6 * 8 + 3 * 4 + 3 + 1 + 9 * 8 + PATH_MAX + RANDOM_BYTES);
