//! What the monitor and the built-in guest agree on: addresses, ports, and the blocks that they share.
//!
//! `no_std`, no dependency, used by both sides as it stands. [`VERSION`] is the version of this interface, not of a
//! crate: the guest puts it into its [`Header`] and the monitor refuses another one.
//!
//! ```text
//! guest virtual                                          guest physical
//! ─────────────────────────────────────────────────────────────────────────────────────────────
//! 0 .. first segment         not mapped (null pointers fault)
//! segments of the program    as linked (static-PIE: from PIE_BASE)    IMAGE_GPA + (va - window base)
//! brk region                 after the last segment                    │ one linear window
//! mmap region                after that, to the end of memory          ▼ up to the memory's size
//! ─
//! SYSTEM_VA                  the system block: tables of the CPU,      0 ..
//!                            the guest's code, data and stack
//! STACK_TOP - stack .. TOP   the program's stack                       STACK_GPA ..
//! FILES_VA ..                files handed over, read-only              FILES_GPA .. (past the memory)
//! ```
#![no_std]

pub mod linux;

/// Version of this interface.
pub const VERSION: u32 = 1;

/// First bytes of the guest image: "bhguest" and a zero.
pub const MAGIC: u64 = u64::from_le_bytes(*b"bhguest\0");

/// Size of a small page.
pub const PAGE: u64 = 4096;
/// Size of a large page.
pub const LARGE_PAGE: u64 = 2 << 20;

/// Where the system block is mapped: 256 GiB, far above any usual program and still below the first entry's end of
/// the top page table, so that one table of each upper level serves everything.
pub const SYSTEM_VA: u64 = 0x40_0000_0000;
/// The [`Boot`] block and the [`Request`] block, one page. With what follows up to the CPU page it lies in one aligned
/// group of eight pages: KVM maps those that the host has ready together with the one that faults.
pub const BOOT_VA: u64 = SYSTEM_VA;
/// What nearly every system call writes to: the guest's stack for calls, and its commonest data.
pub const HOT_VA: u64 = BOOT_VA + PAGE;
/// Size of that.
pub const HOT_SIZE: u64 = 4 * PAGE;
/// The CPU's own tables: GDT, IDT, TSS, ring-0 stubs. From here on the block is the same for every instance.
pub const CPU_VA: u64 = HOT_VA + HOT_SIZE;
/// Texts and tables of the system: the [`FileEntry`] table and the paths.
pub const TABLES_VA: u64 = CPU_VA + PAGE;
/// Room for them.
pub const TABLES_SIZE: u64 = 4 * PAGE;
/// Page tables, where they fit here. They are not mapped: only the CPU reads them.
pub const PAGE_TABLES_VA: u64 = TABLES_VA + TABLES_SIZE;
/// Where the guest image is linked.
pub const IMAGE_VA: u64 = SYSTEM_VA + 0x4_0000;
/// Room for the guest image, its zeroed data and its stack.
pub const IMAGE_SIZE: u64 = 0xc_0000;

/// End of the program's stack (exclusive); grows down from here.
pub const STACK_TOP: u64 = SYSTEM_VA + 0x2000_0000;
/// Where files handed over appear, one after another, each at a multiple of [`LARGE_PAGE`].
pub const FILES_VA: u64 = SYSTEM_VA + 0x4000_0000;
/// Address space for all of them: 64 GiB.
pub const FILES_SIZE: u64 = 64 << 30;
/// Where a static-PIE program is put (the customary start of a program that is not).
pub const PIE_BASE: u64 = 0x40_0000;

/// I/O ports. Any access leaves the guest.
pub mod port {
    /// A [`super::Request`] is waiting.
    pub const DOORBELL: u16 = 0xf0;
    /// CPU exception `n` writes to `EXCEPTION + n`.
    pub const EXCEPTION: u16 = 0x40;
    /// Number of exception vectors.
    pub const EXCEPTIONS: u16 = 32;
}

/// First thing in the guest image.
#[repr(C)]
#[derive(Debug, Clone, Copy)]
pub struct Header {
    /// [`MAGIC`].
    pub magic: u64,
    /// [`VERSION`].
    pub version: u32,
    /// Size of this structure.
    pub size: u32,
    /// Where a system call of the program continues, in ring 3, on the guest's stack.
    pub syscall_entry: u64,
    /// Where an exception of the program continues, likewise.
    pub fault_entry: u64,
    /// Initial stack pointer of both.
    pub stack_top: u64,
    /// Where the ring-0 stub leaves the program's stack pointer.
    pub user_rsp: u64,
    /// An array of [`UNSERVED_SLOTS`] counters: calls that were not served, by number.
    pub unserved: u64,
}

/// System call numbers that are counted one by one when they are not served; the last slot collects the rest.
pub const UNSERVED_SLOTS: usize = 512;

/// What the guest asks of the monitor. Arguments and results are in [`Request`].
pub mod op {
    /// End of the program: exit code.
    pub const EXIT: u64 = 0;
    /// End of the program by a signal: number, address.
    pub const KILLED: u64 = 1;
    /// Write to a standard stream: descriptor, address, length. Result: bytes written or a negative errno.
    pub const WRITE: u64 = 2;
    /// Read from standard input: descriptor, address, length. Result: as for `WRITE`.
    pub const READ: u64 = 3;
    /// The host's clocks. Result: 0; `args[0]` = CLOCK_MONOTONIC, `args[1]` = CLOCK_REALTIME in ns, `args[2]` = kHz of the
    /// time-stamp counter, or 0 where it cannot be trusted.
    pub const CLOCKS: u64 = 4;
    /// Back the window with memory: new end (guest virtual). Result: the end reached, or a negative errno.
    pub const BACK: u64 = 5;
    /// Give a page range of the window back to the host: address, length. It reads as zero afterwards. Result: 0 or a
    /// negative errno.
    pub const RELEASE: u64 = 6;
    /// Sleep: nanoseconds (`u64::MAX`: for ever). Result: 0.
    pub const SLEEP: u64 = 7;
    /// Wait for standard streams: address of `struct pollfd` (descriptors 0 to 2 only), count, timeout in ms as in poll(2).
    pub const POLL: u64 = 8;
    /// Make a file of the table readable at its address: index. Result: 0 or a negative errno.
    pub const OPEN_FILE: u64 = 9;
    /// Fresh random bytes into [`super::Boot::random`]. Result: 0 or a negative errno.
    pub const RANDOM: u64 = 10;
    /// Set the base of a segment, where the CPU lacks wrfsbase: 0 for FS or 1 for GS, base. Result: 0.
    pub const SET_BASE: u64 = 11;
    /// Advise the host to back a page range of the window by large pages: address, length. Result: 0 or a negative errno.
    pub const LARGE_PAGES: u64 = 12;
}

/// One request, filled in by the guest before it writes to [`port::DOORBELL`], answered in place.
#[repr(C)]
#[derive(Debug, Clone, Copy)]
pub struct Request {
    /// One of [`op`].
    pub op: u64,
    /// As the operation says.
    pub args: [u64; 4],
    /// As the operation says.
    pub result: i64,
}

/// State of the CPU at an exception, filled in by the monitor before the guest continues at [`Header::fault_entry`].
#[repr(C)]
#[derive(Debug, Clone, Copy)]
pub struct Fault {
    /// Exception vector.
    pub vector: u64,
    /// Error code, 0 where the vector has none.
    pub error: u64,
    /// Address that was accessed, for a page fault.
    pub address: u64,
    /// Instruction pointer.
    pub rip: u64,
    /// Flags.
    pub rflags: u64,
    /// Stack pointer.
    pub rsp: u64,
}

/// Names that the guest's file system can hold.
pub const NODES: usize = 512;
/// Names of files handed over, of the folders that they need, and of what is always there; the rest is for `/tmp`.
pub const NAMES_MAX: usize = 384;

/// Longest path in the guest, bytes.
pub const PATH_MAX: usize = 256;

/// Bytes of host entropy that an instance starts with.
pub const RANDOM_BYTES: usize = 256;

/// What differs from instance to instance, and where requests are exchanged. One page at [`BOOT_VA`].
#[repr(C)]
#[derive(Debug, Clone, Copy)]
pub struct Boot {
    /// The request block.
    pub request: Request,
    /// The fault block.
    pub fault: Fault,
    /// `st_mode` of descriptors 0, 1 and 2 as fstat(2) gives it on the host; 0: closed.
    pub stdio_mode: [u32; 3],
    /// 1 where the descriptor is a terminal.
    pub stdio_tty: [u8; 3],
    /// 1 where the CPU and its control registers allow wrfsbase.
    pub has_fsgsbase: u8,
    /// First address of the brk region.
    pub brk_start: u64,
    /// End of it (exclusive).
    pub brk_end: u64,
    /// First address of the mmap region.
    pub mmap_start: u64,
    /// End of it (exclusive): nothing can be mapped beyond.
    pub mmap_end: u64,
    /// The window is backed with memory up to here; more by [`op::BACK`].
    pub backed_end: u64,
    /// Lowest address of the program's stack.
    pub stack_low: u64,
    /// All memory of the machine, bytes.
    pub memory: u64,
    /// Number of [`FileEntry`] at [`TABLES_VA`]; the first is the program itself.
    pub files: u64,
    /// Length of the program's own path.
    pub program_path_len: u64,
    /// The program's own path, for /proc/self/exe.
    pub program_path: [u8; PATH_MAX],
    /// Random bytes; the first 16 are the program's `AT_RANDOM`.
    pub random: [u8; RANDOM_BYTES],
}

/// A file that the guest can open for reading.
#[repr(C)]
#[derive(Debug, Clone, Copy)]
pub struct FileEntry {
    /// Address of its path in the tables.
    pub path: u64,
    /// Length of the path.
    pub path_len: u64,
    /// Size of the contents.
    pub size: u64,
    /// Address of the contents once opened.
    pub data: u64,
    /// Mode bits (0o444 or 0o555).
    pub mode: u64,
}

const _: () = assert!(size_of::<Boot>() as u64 <= PAGE);
const _: () = assert!(size_of::<Header>() == 56);
const _: () = assert!(PAGE_TABLES_VA < IMAGE_VA);
const _: () = assert!(IMAGE_VA + IMAGE_SIZE <= SYSTEM_VA + LARGE_PAGE);
const _: () = assert!(STACK_TOP.is_multiple_of(LARGE_PAGE) && FILES_VA.is_multiple_of(LARGE_PAGE));
