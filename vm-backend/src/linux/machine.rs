//! A prepared machine: everything that is the same for every instance, its memory included.
//!
//! The memory of a machine about to start (kernel, archive, tables) is written once, into an anonymous file. An
//! instance maps that file privately, so that loading a kernel of 14 MB is three mmap(2), and what no instance writes to
//! exists once on the host.

use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, Read, Seek};
use std::os::fd::{AsRawFd, RawFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use nix::sys::memfd::{MFdFlags, memfd_create};
use vm_memory::{Bytes, FileOffset, GuestAddress, GuestMemoryMmap};

use super::cmdline;

use super::config::{LinuxConfig, Root};
use super::console::Log;
use super::cpio::{AddError, Archive};
use super::cpu::{self, Cpu};
use super::error::LinuxError;
use super::kernel::{self, Entry, Kernel, Kind, Loaded};
use super::layout::{
    ACPI, ACPI_SIZE, BOOT_PARAMS, COMMAND_LINE, GDT, HIGH, HOLE, MP_TABLE, MP_TABLE_SIZE, PAGE, PAGE_TABLES,
    START_INFO,
};
use super::params::{self, Initramfs};
use super::virtio::tap::Tap;
use super::{PHASES, acpi, bus, monitor, mptable, rootfs};
use crate::backing::Backing;
use crate::config::Stdio;
use crate::error::{ConfigError, Error};
use crate::probe::{self, Virtualisation};
use crate::report::Report;
use crate::vm::{Monitor, check_host_memory, mapping_failed, open, open_program};

/// Our init, an ELF file that build.rs makes.
const INIT_ELF: &[u8] = include_bytes!(env!("INIT_ELF"));
/// Where the program lies in the guest when nothing else is said.
const DEFAULT_PATH: &[u8] = b"/program";
/// Archives are not put higher: a bzImage says up to where it may be (initrd_addr_max), and all say this.
const ARCHIVE_LIMIT: u64 = 1 << 31;
/// Least memory beside the kernel's own image: its page structures, its first allocations.
const SLACK: u64 = 8 << 20;
/// The size of a machine is a multiple of this.
const GRANULE: u64 = 2 << 20;

/// The program, its arguments and its environment, as init finds them in the mailbox.
#[derive(Debug)]
pub(super) struct Texts {
    pub bytes: Vec<u8>,
    pub argc: u32,
    pub envc: u32,
}

/// Everything that is the same for every instance.
#[derive(Debug)]
pub struct LinuxVm {
    pub(super) image: File,
    /// Stretches of the image that hold something: (address, length), in pages.
    pub(super) parts: Vec<(u64, u64)>,
    pub(super) entry: Entry,
    /// The kernel unpacks itself.
    pub(super) compressed: bool,
    pub(super) memory: u64,
    pub(super) backing: Backing,
    pub(super) vcpus: u8,
    pub(super) cpu: Cpu,
    pub(super) texts: Texts,
    pub(super) console: bool,
    /// See [`vm_abi::linux::root`].
    pub(super) root: u32,
    /// Images, and whether they are read-only.
    pub(super) disks: Vec<(File, bool)>,
    pub(super) network: bool,
    /// Descriptors that a monitor keeps, ascending.
    pub(super) keep: Vec<RawFd>,
    initramfs: Initramfs,
    line: String,
    kind: Virtualisation,
}

fn image_error(step: &'static str) -> impl Fn(io::Error) -> Error {
    move |source| LinuxError::Image { step, source }.into()
}

fn read_all(mut file: &File, size: u64, path: &Path) -> Result<Vec<u8>, Error> {
    let mut bytes = Vec::with_capacity(usize::try_from(size).unwrap_or(0));
    file.rewind().and_then(|()| file.read_to_end(&mut bytes)).map_err(Error::file("read", path))?;
    Ok(bytes)
}

/// The archive: our init, the devices that nearly every program expects, the program, files handed over.
fn archive(config: &LinuxConfig, guest_path: &[u8]) -> Result<Vec<u8>, Error> {
    /// Numbers: Documentation/admin-guide/devices.txt.
    const DEVICES: [(&[u8], u32, u32); 6] = [
        (b"dev/mem", 1, 1),
        (b"dev/null", 1, 3),
        (b"dev/zero", 1, 5),
        (b"dev/full", 1, 7),
        (b"dev/random", 1, 8),
        (b"dev/urandom", 1, 9),
    ];
    let failed = |path| move |error: AddError| error.at(Path::new(OsStr::from_bytes(path)));
    let mut archive = Archive::new();
    for (path, mode) in [(&b"dev"[..], 0o755), (b"proc", 0o555), (b"tmp", 0o1777), (b"root", 0o700)] {
        archive.folder(path, mode).map_err(failed(path))?;
    }
    for (path, major, minor) in DEVICES {
        let mode = if major == 1 && minor == 1 { 0o600 } else { 0o666 };
        archive.device(path, mode, major, minor).map_err(failed(path))?;
    }
    // The kernel opens it for init, and says on its own console where it cannot: two exits a byte. Nobody reads it.
    archive.link(b"dev/console", b"null").map_err(failed(b"dev/console"))?;
    archive.file(cmdline::INIT.as_bytes(), 0o755, INIT_ELF).map_err(failed(cmdline::INIT.as_bytes()))?;
    match &config.root {
        Root::Generated => {
            let (program, size, path) = open_program(&config.common.program)?;
            crate::elf::read(&program, size)
                .map_err(Error::file("read", &path))?
                .map_err(|source| Error::Program { path: path.clone(), source })?;
            let program = read_all(&program, size, &path)?;
            archive.file(guest_path, 0o555, &program).map_err(failed(guest_path))?;
        }
        Root::Folder(folder) => rootfs::add(&mut archive, folder, config.common.memory)?,
        // Where init puts the disk, the layer over it, and both together.
        Root::Disk(_) => {
            for path in [&b"disk"[..], b"layer", b"new"] {
                archive.folder(path, 0o755).map_err(failed(path))?;
            }
        }
    }
    for (host, guest) in &config.common.files {
        let (file, size) = open(host, false)?;
        let contents = read_all(&file, size, host)?;
        archive.file(guest.as_bytes(), 0o444, &contents).map_err(failed(guest.as_bytes()))?;
    }
    Ok(archive.finish())
}

/// Opens the images: that of the root first.
fn disks(config: &LinuxConfig) -> Result<Vec<(File, bool)>, Error> {
    let root = match &config.root {
        Root::Disk(path) => Some((path.clone(), true)),
        _ => None,
    };
    let open = |(path, read_only): &(PathBuf, bool)| Ok((open(path, !read_only)?.0, *read_only));
    root.iter().chain(&config.disks).map(open).collect()
}

fn texts(config: &LinuxConfig, guest_path: &[u8]) -> Result<Texts, Error> {
    let mut bytes = Vec::new();
    let mut add = |text: &[u8]| {
        bytes.extend_from_slice(text);
        bytes.push(0);
    };
    // The path to execute, then argv[0], which is the same.
    add(guest_path);
    add(guest_path);
    let (args, env) = (&config.common.args, &config.common.env);
    args.iter().chain(env).for_each(|text| add(text.to_bytes()));
    let limit = usize::try_from(vm_abi::linux::DATA_SIZE).unwrap_or(0);
    /// What our init has room for (`TEXTS` in init/src/program.rs).
    const MOST: usize = 4000;
    if bytes.len() > limit || args.len() + env.len() > MOST {
        return Err(ConfigError::ArgumentsTooLong { size: bytes.len(), limit }.into());
    }
    let count = |n: usize| u32::try_from(n).unwrap_or(u32::MAX);
    Ok(Texts { bytes, argc: count(args.len() + 1), envc: count(env.len()) })
}

/// Where the archive goes in a machine of this size: at the end of the low memory, clear of the kernel.
fn place_archive(memory: u64, kernel_end: u64, size: u64) -> Result<Initramfs, LinuxError> {
    let mib = |bytes: u64| bytes.div_ceil(1 << 20);
    let top = memory.min(HOLE).min(ARCHIVE_LIMIT);
    if kernel_end + SLACK > top {
        return Err(LinuxError::MemoryTooSmall { asked: memory >> 20, needed: mib(kernel_end + SLACK) });
    }
    // The kernel unpacks it into further memory before it gives this back.
    let needed = kernel_end + SLACK + 2 * size.next_multiple_of(PAGE);
    if needed > top {
        return Err(LinuxError::InitramfsTooLarge {
            size: mib(size),
            asked: memory >> 20,
            needed: mib(needed.next_multiple_of(GRANULE)),
        });
    }
    Ok(Initramfs { start: top - size.next_multiple_of(PAGE), size })
}

impl LinuxVm {
    pub(crate) fn prepare(config: &LinuxConfig) -> Result<Self, Error> {
        config.common.check()?;
        let limit = u32::from(mptable::MAX_VCPUS);
        let vcpus = u8::try_from(config.vcpus).ok().filter(|n| (1..=mptable::MAX_VCPUS).contains(n));
        let vcpus = vcpus.ok_or(LinuxError::Vcpus { asked: config.vcpus, limit })?;
        if let (Root::Disk(_), Some((_, path))) = (&config.root, config.common.files.first()) {
            let path = OsStr::from_bytes(path.to_bytes()).into();
            return Err(LinuxError::FileBesideDisk { path }.into());
        }
        let disks = disks(config)?;
        let devices = disks.len() + usize::from(config.network);
        if devices > bus::MOST {
            return Err(LinuxError::Devices { asked: devices, limit: bus::MOST }.into());
        }
        if config.network {
            // Only to see that it can be done: each machine has its own.
            Tap::new().map_err(LinuxError::Network)?;
        }
        let kvm = probe::open();
        let tsc_khz = kvm.as_ref().ok().and_then(cpu::tsc_khz);
        let line = cmdline::build(
            config.console,
            !matches!(config.root, Root::Folder(_)),
            tsc_khz,
            devices,
            &config.cmdline_extra,
        )?;
        check_host_memory(config.common.memory)?;
        let memory = config.common.memory & !(GRANULE - 1);

        let (mut kernel_file, kernel_size) = open(&config.kernel, false)?;
        let kernel_error = |source| Error::from(LinuxError::Kernel { path: config.kernel.clone(), source });
        let kernel = kernel::inspect(&kernel_file, kernel_size)
            .map_err(Error::file("read", &config.kernel))?
            .map_err(kernel_error)?;

        let guest_path = config.common.guest_path.as_deref().map_or(DEFAULT_PATH, std::ffi::CStr::to_bytes);
        let texts = texts(config, guest_path)?;
        let archive = archive(config, guest_path)?;
        let initramfs = place_archive(memory, kernel.end, archive.len() as u64)?;

        let cpu = cpu::detect(&kvm?, vcpus)?;
        let (signature, features) = cpu.identity();
        // A kernel that has to measure the counter needs the timer chip's interrupt.
        let lines = devices > 0 || tsc_khz.is_none();
        let mp_table = mptable::build(vcpus, lines, signature, features);
        let fd = memfd_create(c"linux-image", MFdFlags::MFD_CLOEXEC)
            .map_err(|e| image_error("memfd_create")(e.into()))?;
        let image = File::from(fd);
        let low = memory.min(HOLE);
        image.set_len(low).map_err(image_error("ftruncate"))?;
        let loaded = {
            let mapped = image.try_clone().map_err(image_error("dup"))?;
            let len = usize::try_from(low).unwrap_or(usize::MAX);
            let range = (GuestAddress(0), len, Some(FileOffset::new(mapped, 0)));
            let guest = GuestMemoryMmap::<()>::from_ranges_with_files([range])
                .map_err(|e| image_error("mapping it")(io::Error::other(e)))?;
            let loaded = kernel.load(&mut kernel_file, &guest).map_err(kernel_error)?;
            write_tables(&guest, &kernel, memory, &line, vcpus, mp_table, initramfs)?;
            put(&guest, initramfs.start, &archive)?;
            loaded
        };
        let Loaded { range, entry } = loaded;
        let pages = |(from, to): (u64, u64)| (from & !(PAGE - 1), to.next_multiple_of(PAGE).min(low));
        let parts = [(0, ACPI + ACPI_SIZE), range, (initramfs.start, initramfs.start + initramfs.size)]
            .map(pages)
            .map(|(from, to)| (from, to - from));
        let compressed = matches!(kernel.kind, Kind::BzImage { .. });
        let mut keep: Vec<RawFd> = disks.iter().map(|(file, _)| file.as_raw_fd()).collect();
        keep.push(image.as_raw_fd());
        keep.sort_unstable();
        let root = match config.root {
            Root::Disk(_) => vm_abi::linux::root::DISK,
            _ => vm_abi::linux::root::INITRAMFS,
        };
        let kind = probe::virtualisation();
        Ok(Self {
            image,
            parts: parts.into(),
            entry,
            compressed,
            memory,
            backing: config.common.backing,
            vcpus,
            cpu,
            texts,
            console: config.console,
            root,
            disks,
            network: config.network,
            keep,
            initramfs,
            line,
            kind,
        })
    }

    /// Kind of virtualisation that instances will use.
    pub fn virtualisation(&self) -> Virtualisation {
        self.kind
    }

    /// The archive that the kernel unpacks, for who wants to boot the same elsewhere.
    ///
    /// # Errors
    /// The image cannot be read.
    pub fn initramfs(&self) -> io::Result<Vec<u8>> {
        let mut bytes = vec![0; usize::try_from(self.initramfs.size).map_err(io::Error::other)?];
        self.image.read_exact_at(&mut bytes, self.initramfs.start)?;
        Ok(bytes)
    }

    /// The kernel's command line.
    pub fn command_line(&self) -> &str {
        &self.line
    }

    /// Memory of an instance in bytes.
    pub fn memory(&self) -> u64 {
        self.memory
    }

    /// What init is told of the disks beside the root's, which comes first.
    pub(super) fn other_disks(&self) -> u32 {
        let roots = usize::from(self.root == vm_abi::linux::root::DISK);
        match self.disks.get(roots..).unwrap_or_default() {
            [] => vm_abi::linux::disks::NONE,
            others if others.iter().all(|(_, read_only)| *read_only) => vm_abi::linux::disks::READ_ONLY,
            _ => vm_abi::linux::disks::WRITABLE,
        }
    }

    /// Starts an instance in a monitor process of its own, which dies with the calling thread.
    ///
    /// # Errors
    /// No process can be made. What fails later, in the monitor or the guest, is the outcome of [`Monitor::wait`].
    pub fn spawn(&self, stdio: Stdio<'_>) -> Result<Monitor, Error> {
        let report = Report::new(&PHASES).map_err(mapping_failed)?;
        let log = Log::new().map_err(mapping_failed)?;
        let parent = nix::unistd::getpid();
        Monitor::start(report, Some(log), |report, log| monitor::run(self, report, log, stdio, parent))
    }
}

fn put(guest: &GuestMemoryMmap<()>, address: u64, bytes: &[u8]) -> Result<(), Error> {
    guest
        .write_slice(bytes, GuestAddress(address))
        .map_err(|e| image_error("writing to it")(io::Error::other(e)))
}

fn write_tables(
    guest: &GuestMemoryMmap<()>,
    kernel: &Kernel,
    memory: u64,
    line: &str,
    vcpus: u8,
    mp_table: Vec<u8>,
    initramfs: Initramfs,
) -> Result<(), Error> {
    let setup_header = match &kernel.kind {
        Kind::BzImage { setup_header, .. } => &setup_header[..],
        Kind::Vmlinux => &[],
    };
    let gdt: Vec<u8> = params::GDT.iter().flat_map(|entry| entry.to_le_bytes()).collect();
    for (address, bytes) in [
        (GDT, gdt),
        (START_INFO, params::start_info(memory, initramfs)),
        (BOOT_PARAMS, params::boot_params(setup_header, memory, initramfs)),
        (PAGE_TABLES, params::page_tables()),
        (COMMAND_LINE, [line.as_bytes(), b"\0"].concat()),
        (MP_TABLE, mp_table),
        (ACPI, acpi::build(vcpus)),
    ] {
        put(guest, address, &bytes)?;
    }
    Ok(())
}

const _: () = assert!(MP_TABLE + MP_TABLE_SIZE <= ACPI && ACPI + ACPI_SIZE <= HIGH);

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: u64 = 1 << 20;

    #[test]
    fn the_archive_is_at_the_end_of_the_low_memory() {
        let place = place_archive(128 * MIB, 40 * MIB, 5000).unwrap();
        assert_eq!(place, Initramfs { start: 128 * MIB - 8192, size: 5000 });
        assert_eq!(place_archive(8192 * MIB, 40 * MIB, 5000).unwrap().start, ARCHIVE_LIMIT - 8192);
    }

    #[test]
    fn a_machine_too_small_for_its_kernel_is_refused_with_what_it_needs() {
        let error = place_archive(32 * MIB, 40 * MIB, 5000).unwrap_err();
        assert_eq!(
            error.to_string(),
            "32 MiB of memory is too little: this kernel needs at least 48 MiB to start"
        );
    }

    #[test]
    fn an_archive_larger_than_memory_is_refused_with_what_it_needs() {
        let error = place_archive(128 * MIB, 40 * MIB, 500 * MIB).unwrap_err();
        assert_eq!(
            error.to_string(),
            "the program and its files take 500 MiB as an initramfs, and do not fit 128 MiB of memory beside the \
             kernel: at least 1048 MiB are needed"
        );
        let needed = place_archive(1048 * MIB, 40 * MIB, 500 * MIB);
        assert!(needed.is_ok(), "{needed:?}");
    }
}
