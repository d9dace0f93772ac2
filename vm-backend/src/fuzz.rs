//! Bodies of the fuzz targets (`fuzz/`), as plain functions, so that the tests can replay the corpus on a stable compiler.
//!
//! None may panic, whatever the bytes: what they do with them is what a stranger's file or a stranger's guest can do. What
//! must hold is asserted.

use std::collections::VecDeque;
use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::AsFd;

use nix::sys::memfd::{MFdFlags, memfd_create};
use vm_abi::linux::{MAILBOX_GPA, MAILBOX_SIZE};
use vm_memory::{Bytes, GuestAddress, GuestMemoryMmap};

use crate::linux::fuzz_mailbox;
use crate::linux::kernel;
use crate::linux::virtio::block::Block;
use crate::linux::virtio::driver::{self, Place};
use crate::linux::virtio::mmio::{Mmio, reg};
use crate::linux::virtio::net::{Net, RECEIVE, SEND};
use crate::linux::virtio::{Device, Memory};

/// Memory of a machine that a kernel is loaded into.
const MACHINE: u64 = 32 << 20;
/// Memory of a guest with devices.
const GUEST: usize = 64 << 10;
/// Sectors of its disk.
const SECTORS: u64 = 16;

fn file(bytes: &[u8]) -> io::Result<File> {
    let mut file = File::from(memfd_create(c"fuzz", MFdFlags::MFD_CLOEXEC)?);
    file.write_all(bytes)?;
    Ok(file)
}

/// A kernel file: its headers are read, and if it would fit it is loaded.
pub fn boot_file(bytes: &[u8]) {
    let Ok(mut image) = file(bytes) else { return };
    let size = bytes.len() as u64;
    let Ok(Ok(kernel)) = kernel::inspect(&image, size) else { return };
    if kernel.end > MACHINE {
        return;
    }
    let Ok(machine) = usize::try_from(MACHINE) else { return };
    let Ok(memory) = GuestMemoryMmap::<()>::from_ranges(&[(GuestAddress(0), machine)]) else { return };
    if let Ok(loaded) = kernel.load(&mut image, &memory) {
        assert!(loaded.range.1 <= MACHINE, "loaded to {:#x}", loaded.range.1);
    }
}

/// Takes one number off the front.
fn take<const N: usize>(bytes: &mut &[u8]) -> Option<[u8; N]> {
    let (number, rest) = bytes.split_first_chunk()?;
    *bytes = rest;
    Some(*number)
}

/// A driver of this device: the bytes are writes to registers, and the guest's memory from 0 on, where the queues are.
fn drive<D: Device>(device: D, memory: &Memory, mut bytes: &[u8]) {
    let queues = u32::try_from(device.queues()).unwrap_or(0);
    let mut device = Mmio::new(device, memory);
    let count = take::<1>(&mut bytes).map_or(0, |[n]| n % 16);
    let writes: Vec<(u64, u32)> = (0..count)
        .map_while(|_| {
            let register = u16::from_le_bytes(take(&mut bytes)?) % 0x120;
            Some((register.into(), u32::from_le_bytes(take(&mut bytes)?)))
        })
        .collect();
    let rest = &bytes[..bytes.len().min(GUEST)];
    if memory.write_slice(rest, GuestAddress(0)).is_err() {
        return;
    }
    // A driver that knows its business, up to here: each queue has 0x400 bytes.
    driver::start(&mut device, queues, |index| {
        let base = index * 0x400;
        Place { rings: [base, base + 0x100, base + 0x200], length: 16 }
    });
    for queue in 0..queues {
        driver::write(&mut device, reg::QUEUE_NOTIFY, queue);
    }
    for (register, value) in writes {
        driver::write(&mut device, register, value);
        driver::read(&device, register);
    }
    for queue in 0..queues {
        driver::write(&mut device, reg::QUEUE_NOTIFY, queue);
        device.serve(usize::try_from(queue).unwrap_or(0));
    }
}

fn guest() -> Option<Memory> {
    GuestMemoryMmap::from_ranges(&[(GuestAddress(0), GUEST)]).ok()
}

/// Requests to a disk.
pub fn block(bytes: &[u8]) {
    let (Some(memory), Ok(disk)) = (guest(), file(&[])) else { return };
    if disk.set_len(SECTORS * 512).is_err() {
        return;
    }
    if let Ok(device) = Block::new(&disk, bytes.len().is_multiple_of(5)) {
        drive(device, &memory, bytes);
    }
    let size = disk.metadata().map_or(0, |meta| meta.len());
    assert_eq!(size, SECTORS * 512, "the disk has another size");
}

/// A wire with a few frames on it.
struct Wire(VecDeque<Vec<u8>>);

impl Read for Wire {
    fn read(&mut self, to: &mut [u8]) -> io::Result<usize> {
        let frame = self.0.pop_front().ok_or(io::ErrorKind::WouldBlock)?;
        let len = frame.len().min(to.len());
        to[..len].copy_from_slice(&frame[..len]);
        Ok(len)
    }
}

impl Write for Wire {
    fn write(&mut self, from: &[u8]) -> io::Result<usize> {
        assert!((14..=1518).contains(&from.len()), "{} bytes are no frame", from.len());
        Ok(from.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Frames of a guest, and places for frames.
pub fn net(bytes: &[u8]) {
    const _: () = assert!(RECEIVE == 0 && SEND == 1);
    let Some(memory) = guest() else { return };
    let frames = [1, 60, 1518, 2000].map(|len| vec![0x55; len]);
    drive(Net::new(Wire(frames.into()), [2, 0, 0, 0, 0, 1]), &memory, bytes);
}

/// Bytes at the doorbell with whatever is in the mailbox: the first byte is rung, the others are the mailbox from its start.
pub fn marks(bytes: &[u8]) {
    let Some((operation, rest)) = bytes.split_first() else { return };
    let Ok(size) = usize::try_from(MAILBOX_SIZE) else { return };
    let Ok(memory) = GuestMemoryMmap::<()>::from_ranges(&[(GuestAddress(MAILBOX_GPA), size)]) else { return };
    let (Ok(input), Ok(out)) = (File::open("/dev/zero"), File::options().write(true).open("/dev/null"))
    else {
        return;
    };
    fuzz_mailbox(&memory, &rest[..rest.len().min(size)], *operation, input.as_fd(), out.as_fd());
}
