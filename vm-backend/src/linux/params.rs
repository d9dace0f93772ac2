//! What a kernel finds at its entry: boot parameters (Documentation/arch/x86/boot.rst) or the PVH start info
//! (include/xen/interface/hvm/start_info.h), a GDT and page tables.

use super::layout::{
    self, ACPI, BOOT_PARAMS, COMMAND_LINE, Kind, PAGE, PAGE_DIRECTORIES, PAGE_TABLES, START_INFO,
};

/// Offsets in `struct boot_params`.
mod zero_page {
    pub const ACPI_RSDP: usize = 0x70;
    pub const E820_ENTRIES: usize = 0x1e8;
    pub const SETUP_HEADER: usize = 0x1f1;
    pub const BOOT_FLAG: usize = 0x1fe;
    pub const HEADER: usize = 0x202;
    pub const TYPE_OF_LOADER: usize = 0x210;
    pub const LOADFLAGS: usize = 0x211;
    pub const RAMDISK_IMAGE: usize = 0x218;
    pub const RAMDISK_SIZE: usize = 0x21c;
    pub const CMD_LINE_PTR: usize = 0x228;
    pub const KERNEL_ALIGNMENT: usize = 0x230;
    pub const E820_TABLE: usize = 0x2d0;
}
/// A loader without a number of its own.
const LOADER_UNDEFINED: u8 = 0xff;
/// LOADED_HIGH; KEEP_SEGMENTS is for the 32-bit entry only.
const LOADED_HIGH: u8 = 1;
/// Longest setup header: it ends where the next field of `struct boot_params` begins.
const SETUP_HEADER_END: usize = 0x290;

/// The archive's place and size.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Initramfs {
    /// Guest-physical.
    pub start: u64,
    /// In bytes.
    pub size: u64,
}

fn put(bytes: &mut [u8], offset: usize, value: &[u8]) {
    bytes[offset..offset + value.len()].copy_from_slice(value);
}

/// Everything that is put here lies below 4 GiB.
fn low(value: u64) -> u32 {
    u32::try_from(value).unwrap_or(u32::MAX)
}

/// The page for [`BOOT_PARAMS`]. `setup_header`: that of a bzImage, from its byte 0x1f1 on; empty for a vmlinux.
pub fn boot_params(setup_header: &[u8], memory: u64, initramfs: Initramfs) -> Vec<u8> {
    use zero_page as z;
    let mut page = vec![0; 4096];
    let taken = setup_header.len().min(SETUP_HEADER_END - z::SETUP_HEADER);
    put(&mut page, z::SETUP_HEADER, &setup_header[..taken]);
    if setup_header.is_empty() {
        put(&mut page, z::BOOT_FLAG, &0xaa55u16.to_le_bytes());
        put(&mut page, z::HEADER, b"HdrS");
        put(&mut page, z::KERNEL_ALIGNMENT, &0x100_0000u32.to_le_bytes());
    }
    put(&mut page, z::ACPI_RSDP, &ACPI.to_le_bytes());
    page[z::TYPE_OF_LOADER] = LOADER_UNDEFINED;
    page[z::LOADFLAGS] |= LOADED_HIGH;
    put(&mut page, z::RAMDISK_IMAGE, &low(initramfs.start).to_le_bytes());
    put(&mut page, z::RAMDISK_SIZE, &low(initramfs.size).to_le_bytes());
    put(&mut page, z::CMD_LINE_PTR, &low(COMMAND_LINE).to_le_bytes());
    let map = layout::map(memory);
    for (i, (start, length, kind)) in map.iter().enumerate() {
        let at = z::E820_TABLE + 20 * i;
        put(&mut page, at, &start.to_le_bytes());
        put(&mut page, at + 8, &length.to_le_bytes());
        put(&mut page, at + 16, &(*kind as u32).to_le_bytes());
    }
    page[z::E820_ENTRIES] = u8::try_from(map.len()).unwrap_or(u8::MAX);
    page
}

/// The page for [`START_INFO`]: the structure, the module list, the memory map.
pub fn start_info(memory: u64, initramfs: Initramfs) -> Vec<u8> {
    /// XEN_HVM_START_MAGIC_VALUE.
    const START_MAGIC: u32 = 0x336e_c578;
    /// The version with a memory map.
    const VERSION: u32 = 1;
    const MODULES: usize = 0x40;
    const MAP: usize = 0x80;
    let mut page = vec![0; 4096];
    let map = layout::map(memory);
    let words: [u32; 4] = [START_MAGIC, VERSION, 0, 1];
    for (i, word) in words.iter().enumerate() {
        put(&mut page, 4 * i, &word.to_le_bytes());
    }
    let addresses = [START_INFO + MODULES as u64, COMMAND_LINE, ACPI, START_INFO + MAP as u64];
    for (i, address) in addresses.iter().enumerate() {
        put(&mut page, 16 + 8 * i, &address.to_le_bytes());
    }
    put(&mut page, 48, &u32::try_from(map.len()).unwrap_or(0).to_le_bytes());
    put(&mut page, MODULES, &initramfs.start.to_le_bytes());
    put(&mut page, MODULES + 8, &initramfs.size.to_le_bytes());
    for (i, (start, length, kind)) in map.iter().enumerate() {
        put(&mut page, MAP + 24 * i, &start.to_le_bytes());
        put(&mut page, MAP + 24 * i + 8, &length.to_le_bytes());
        // The numbers of both tables are the same.
        put(&mut page, MAP + 24 * i + 16, &(*kind as u32).to_le_bytes());
    }
    page
}

/// Selectors that the 64-bit entry demands: __BOOT_CS and __BOOT_DS.
pub const BOOT_CS: u16 = 0x10;
/// See [`BOOT_CS`].
pub const BOOT_DS: u16 = 0x18;
/// The table for [`layout::GDT`]: nothing, nothing, flat 64-bit code, flat data (Intel SDM vol. 3, 3.4.5).
pub const GDT: [u64; 4] = [0, 0, 0x00af_9b00_0000_ffff, 0x00cf_9300_0000_ffff];

/// Page tables that map the first 4 GiB to themselves, for [`PAGE_TABLES`].
pub fn page_tables() -> Vec<u8> {
    /// Present, writable, accessed, dirty.
    const TABLE: u64 = 0x23;
    const LARGE: u64 = 0xe3;
    let table = |n: u64| PAGE_TABLES + n * PAGE;
    let mut words = vec![0u64; 512 * 2];
    words[0] = table(1) | TABLE;
    for (i, entry) in (0..PAGE_DIRECTORIES).zip(&mut words[512..]) {
        *entry = table(2 + i) | TABLE;
    }
    words.extend((0..512 * PAGE_DIRECTORIES).map(|i| i << 21 | LARGE));
    words.iter().flat_map(|w| w.to_le_bytes()).collect()
}

const _: () = assert!(BOOT_PARAMS.is_multiple_of(PAGE) && Kind::Ram as u32 == 1);

#[cfg(test)]
mod tests {
    use super::*;

    const INITRAMFS: Initramfs = Initramfs { start: 0x1f00_0000, size: 0x12_3456 };

    fn u32_at(bytes: &[u8], at: usize) -> u32 {
        u32::from_le_bytes(bytes[at..at + 4].try_into().unwrap())
    }
    fn u64_at(bytes: &[u8], at: usize) -> u64 {
        u64::from_le_bytes(bytes[at..at + 8].try_into().unwrap())
    }

    #[test]
    fn boot_parameters_name_command_line_archive_and_memory() {
        let page = boot_params(&[], 512 << 20, INITRAMFS);
        assert_eq!(&page[0x202..0x206], b"HdrS");
        assert_eq!(u32_at(&page, 0x218), 0x1f00_0000);
        assert_eq!(u32_at(&page, 0x21c), 0x12_3456);
        assert_eq!(u32_at(&page, 0x228), 0x2_0000);
        assert_eq!(page[0x1e8], 4);
        assert_eq!((u64_at(&page, 0x2d0), u64_at(&page, 0x2d8), u32_at(&page, 0x2e0)), (0, 0x9_fc00, 1));
    }

    #[test]
    fn the_setup_header_of_a_bzimage_is_kept_but_for_what_a_loader_sets() {
        let header: Vec<u8> = (0..0x9f).collect();
        let page = boot_params(&header, 64 << 20, INITRAMFS);
        assert_eq!(page[0x1f1..0x1fe], header[..0xd]);
        assert_eq!(page[0x210], 0xff);
        assert_eq!(page[0x211], header[0x211 - 0x1f1] | 1);
        // One too long does not reach into what comes behind it.
        let long = vec![0xee; 4096];
        assert_eq!(boot_params(&long, 64 << 20, INITRAMFS)[0x290], 0);
    }

    #[test]
    fn the_start_info_leads_to_archive_and_memory() {
        let page = start_info(6 << 30, INITRAMFS);
        assert_eq!(u32_at(&page, 0), 0x336e_c578);
        let modules = usize::try_from(u64_at(&page, 16) - START_INFO).unwrap();
        assert_eq!((u64_at(&page, modules), u64_at(&page, modules + 8)), (0x1f00_0000, 0x12_3456));
        assert_eq!(u64_at(&page, 24), COMMAND_LINE);
        let map = usize::try_from(u64_at(&page, 40) - START_INFO).unwrap();
        assert_eq!(u32_at(&page, 48), 5);
        assert_eq!(u64_at(&page, map + 4 * 24), 4 << 30);
    }

    #[test]
    fn page_tables_map_four_gib_to_themselves() {
        let bytes = page_tables();
        assert_eq!(bytes.len(), 6 * 4096);
        assert_eq!(u64_at(&bytes, 0), 0xa023);
        assert_eq!(u64_at(&bytes, 4096 + 24), 0xe023);
        assert_eq!(u64_at(&bytes, bytes.len() - 8), 0xffe0_00e3);
    }
}
