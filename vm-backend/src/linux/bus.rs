//! The devices of a machine: where their registers are, and how they interrupt.

use std::fs::File;
use std::io;

use kvm_ioctls::VmFd;

use super::layout::{DEVICES, LINES};
use super::virtio::Memory;
use super::virtio::block::Block;
use super::virtio::mmio::{self, Mmio};
use super::virtio::net::{Net, RECEIVE};
use super::virtio::tap::Tap;

/// Most devices of a machine.
pub(super) const MOST: usize = LINES.len();

enum Card<'m> {
    Disk(Mmio<'m, Block<'m>>),
    Net(Mmio<'m, Net<Tap>>),
}

/// All of them: the disks in their order, then the network card.
pub(super) struct Bus<'m> {
    vm: &'m VmFd,
    cards: Vec<Card<'m>>,
}

impl<'m> Bus<'m> {
    /// Devices at their places.
    pub fn new(
        vm: &'m VmFd,
        memory: &'m Memory,
        disks: &'m [(File, bool)],
        tap: Option<Tap>,
    ) -> io::Result<Self> {
        let mut cards = Vec::new();
        for (file, read_only) in disks {
            cards.push(Card::Disk(Mmio::new(Block::new(file, *read_only)?, memory)));
        }
        if let Some(tap) = tap {
            let mac = tap.mac();
            cards.push(Card::Net(Mmio::new(Net::new(tap, mac), memory)));
        }
        Ok(Self { vm, cards })
    }

    /// The device at an address, and the offset in its registers.
    fn find(&self, address: u64) -> Option<(usize, u64)> {
        let offset = address.checked_sub(DEVICES)?;
        let slot = usize::try_from(offset / mmio::SIZE).ok()?;
        (slot < self.cards.len()).then_some((slot, offset % mmio::SIZE))
    }

    /// A read of an address that is not memory.
    pub fn read(&self, address: u64, data: &mut [u8]) {
        // As where nothing is.
        data.fill(0xff);
        let Some((slot, offset)) = self.find(address) else { return };
        match &self.cards[slot] {
            Card::Disk(disk) => disk.read(offset, data),
            Card::Net(net) => net.read(offset, data),
        }
    }

    /// A write to an address that is not memory.
    pub fn write(&mut self, address: u64, data: &[u8]) {
        let Some((slot, offset)) = self.find(address) else { return };
        let interrupt = match &mut self.cards[slot] {
            Card::Disk(disk) => disk.write(offset, data),
            Card::Net(net) => net.write(offset, data),
        };
        self.interrupt(slot, interrupt);
    }

    /// What came in from the network goes to the guest.
    pub fn receive(&mut self) {
        for slot in 0..self.cards.len() {
            let interrupt = match &mut self.cards[slot] {
                Card::Net(net) => net.serve(RECEIVE),
                Card::Disk(_) => false,
            };
            self.interrupt(slot, interrupt);
        }
    }

    /// The lines are edge-triggered, as the tables say: up and down is one interrupt. KVM refuses only what is no line.
    fn interrupt(&self, slot: usize, wanted: bool) {
        let Some(line) = LINES.get(slot).filter(|_| wanted) else { return };
        let raised = self.vm.set_irq_line(*line, true).and_then(|()| self.vm.set_irq_line(*line, false));
        debug_assert!(raised.is_ok(), "{raised:?}");
    }
}
