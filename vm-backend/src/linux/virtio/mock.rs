//! The driver's side, for tests: guest memory, a queue in it, and a device that goes through the usual steps.

use virtio_queue::desc::RawDescriptor;
use virtio_queue::desc::split::Descriptor;
use vm_memory::{Bytes, GuestAddress};

use super::driver::{self, Place};
use super::mmio::{Mmio, reg};
use super::{Device, Memory};

/// Size of the guest's memory.
pub const MEMORY: u64 = 1 << 20;
/// Where queue `n` is: descriptors, the driver's ring, the device's ring.
pub const QUEUE: u64 = 0x1_0000;
const AVAIL: u64 = 0x2000;
const USED: u64 = 0x3000;
/// Elements of it.
pub const LENGTH: u16 = 16;
/// Free for data.
pub const DATA: u64 = 0x4_0000;

/// Flags of descriptors.
pub const NEXT: u16 = 1;
pub const WRITE: u16 = 2;
pub const INDIRECT: u16 = 4;

/// The guest's memory.
pub fn memory() -> Memory {
    Memory::from_ranges(&[(GuestAddress(0), usize::try_from(MEMORY).unwrap())]).unwrap()
}

/// Where [`Guest`] has a queue.
fn place(index: u32) -> Place {
    let base = QUEUE * (u64::from(index) + 1);
    let rings = [base, base + AVAIL, base + USED].map(|at| u32::try_from(at).unwrap());
    Place { rings, length: LENGTH.into() }
}

/// Sets a queue up where [`Guest`] has it.
pub fn set_up<D: Device>(device: &mut Mmio<'_, D>, index: u32) {
    driver::set_up(device, index, &place(index));
}

/// All of it, up to DRIVER_OK.
pub fn start<D: Device>(device: &mut Mmio<'_, D>) {
    let queues = u32::try_from(device.device().queues()).unwrap();
    driver::start(device, queues, place);
    assert_eq!(driver::read(device, reg::STATUS), 15);
}

/// The driver of one queue.
pub struct Guest<'m> {
    pub memory: &'m Memory,
    base: u64,
    free: u16,
    offered: u16,
}

impl<'m> Guest<'m> {
    pub fn new(memory: &'m Memory, index: u64) -> Self {
        Self { memory, base: QUEUE * (index + 1), free: 0, offered: 0 }
    }

    /// Writes one descriptor.
    pub fn descriptor(&self, at: u16, address: u64, len: u32, flags: u16, next: u16) {
        let raw = RawDescriptor::from(Descriptor::new(address, len, flags, next));
        self.memory.write_obj(raw, GuestAddress(self.base + 16 * u64::from(at))).unwrap();
    }

    /// Offers the chain that begins at this descriptor.
    pub fn offer(&mut self, head: u16) {
        let slot = self.base + AVAIL + 4 + 2 * u64::from(self.offered % LENGTH);
        self.memory.write_obj(head, GuestAddress(slot)).unwrap();
        self.offered = self.offered.wrapping_add(1);
        self.set_offered(self.offered);
    }

    /// Says how many chains were ever offered.
    pub fn set_offered(&self, count: u16) {
        self.memory.write_obj(count, GuestAddress(self.base + AVAIL + 2)).unwrap();
    }

    /// Writes a chain of (address, length, whether the device writes) and offers it.
    pub fn chain(&mut self, parts: &[(u64, u32, bool)]) -> u16 {
        let head = self.free;
        for (i, (address, len, writable)) in parts.iter().enumerate() {
            let last = i + 1 == parts.len();
            let flags = if last { 0 } else { NEXT } | if *writable { WRITE } else { 0 };
            self.descriptor(self.free, *address, *len, flags, self.free + 1);
            self.free += 1;
        }
        self.offer(head);
        head
    }

    /// How many chains were given back.
    pub fn used(&self) -> u16 {
        self.memory.read_obj(GuestAddress(self.base + USED + 2)).unwrap()
    }

    /// The last one: head, bytes written.
    pub fn last_used(&self) -> (u32, u32) {
        let slot = self.base + USED + 4 + 8 * u64::from(self.used().wrapping_sub(1) % LENGTH);
        self.memory.read_obj::<[u32; 2]>(GuestAddress(slot)).unwrap().into()
    }
}
