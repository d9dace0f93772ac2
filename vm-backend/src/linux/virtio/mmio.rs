//! The registers of a device (virtio 1.2, section 4.2.2): 4 KiB of guest-physical address space each.

use virtio_queue::{Queue, QueueT};
use vm_memory::GuestAddress;

use super::{Device, EVENT_IDX, Memory, QUEUE_SIZE, VERSION_1};

/// Address space of one device.
pub const SIZE: u64 = 0x1000;

/// "virt".
const MAGIC: u32 = 0x7472_6976;
/// Not the legacy interface.
const VERSION: u32 = 2;
/// Any number will do; this one says who ("BNCH").
const VENDOR: u32 = 0x4843_4e42;

/// Offsets.
pub(crate) mod reg {
    pub const MAGIC: u64 = 0x000;
    pub const VERSION: u64 = 0x004;
    pub const DEVICE_ID: u64 = 0x008;
    pub const VENDOR: u64 = 0x00c;
    pub const DEVICE_FEATURES: u64 = 0x010;
    pub const DEVICE_FEATURES_SEL: u64 = 0x014;
    pub const DRIVER_FEATURES: u64 = 0x020;
    pub const DRIVER_FEATURES_SEL: u64 = 0x024;
    pub const QUEUE_SEL: u64 = 0x030;
    pub const QUEUE_NUM_MAX: u64 = 0x034;
    pub const QUEUE_NUM: u64 = 0x038;
    pub const QUEUE_READY: u64 = 0x044;
    pub const QUEUE_NOTIFY: u64 = 0x050;
    pub const INTERRUPT_STATUS: u64 = 0x060;
    pub const INTERRUPT_ACK: u64 = 0x064;
    pub const STATUS: u64 = 0x070;
    pub const DESC_LOW: u64 = 0x080;
    pub const DESC_HIGH: u64 = 0x084;
    pub const DRIVER_LOW: u64 = 0x090;
    pub const DRIVER_HIGH: u64 = 0x094;
    pub const DEVICE_LOW: u64 = 0x0a0;
    pub const DEVICE_HIGH: u64 = 0x0a4;
    pub const CONFIG: u64 = 0x100;
}

/// Bits of the status (virtio 1.2, section 2.1).
pub(crate) mod status {
    /// A driver has seen the device, and knows it.
    pub const DRIVER: u32 = 1 | 2;
    pub const DRIVER_OK: u32 = 4;
    pub const FEATURES_OK: u32 = 8;
    pub const NEEDS_RESET: u32 = 64;
    /// Those that a driver sets.
    pub const DRIVERS: u32 = DRIVER | DRIVER_OK | FEATURES_OK | 128;
}

/// Bits of the interrupt status: a queue has news; so has the configuration (also: the device stopped).
const USED: u32 = 1;
const CHANGED: u32 = 2;

/// A device behind its registers.
#[derive(Debug)]
pub struct Mmio<'m, D> {
    device: D,
    memory: &'m Memory,
    queues: Vec<Queue>,
    status: u32,
    interrupt: u32,
    device_sel: u32,
    driver_sel: u32,
    driver_features: u64,
    queue_sel: u32,
}

impl<'m, D: Device> Mmio<'m, D> {
    /// A device that nobody has looked at yet.
    pub fn new(device: D, memory: &'m Memory) -> Self {
        // The size is a power of two: a queue of it can be made.
        let queues = (0..device.queues()).filter_map(|_| Queue::new(QUEUE_SIZE).ok()).collect();
        Self {
            device,
            memory,
            queues,
            status: 0,
            interrupt: 0,
            device_sel: 0,
            driver_sel: 0,
            driver_features: 0,
            queue_sel: 0,
        }
    }

    /// The device itself.
    pub fn device(&self) -> &D {
        &self.device
    }

    fn features(&self) -> u64 {
        self.device.features() | VERSION_1 | EVENT_IDX
    }

    fn queue(&mut self) -> Option<&mut Queue> {
        self.queues.get_mut(usize::try_from(self.queue_sel).ok()?)
    }

    fn queue_ref(&self) -> Option<&Queue> {
        self.queues.get(usize::try_from(self.queue_sel).ok()?)
    }

    /// A read of this register. All but the configuration is read in whole words.
    pub fn read(&self, offset: u64, data: &mut [u8]) {
        data.fill(0);
        if offset >= reg::CONFIG {
            let from = usize::try_from(offset - reg::CONFIG).unwrap_or(usize::MAX);
            if let Some(rest) = self.device.config().get(from..) {
                let len = rest.len().min(data.len());
                data[..len].copy_from_slice(&rest[..len]);
            }
            return;
        }
        if data.len() == 4 {
            data.copy_from_slice(&self.register(offset).to_le_bytes());
        }
    }

    fn register(&self, offset: u64) -> u32 {
        let half = |value: u64, which: u32| match which {
            0 => low(value),
            1 => low(value >> 32),
            _ => 0,
        };
        match offset {
            reg::MAGIC => MAGIC,
            reg::VERSION => VERSION,
            reg::DEVICE_ID => self.device.id(),
            reg::VENDOR => VENDOR,
            reg::DEVICE_FEATURES => half(self.features(), self.device_sel),
            reg::QUEUE_NUM_MAX => self.queue_ref().map_or(0, |q| q.max_size().into()),
            reg::QUEUE_READY => self.queue_ref().map_or(0, |q| q.ready().into()),
            reg::INTERRUPT_STATUS => self.interrupt,
            reg::STATUS => self.status,
            // The generation of the configuration, too: it never changes.
            _ => 0,
        }
    }

    /// A write to this register; whether the guest is to be interrupted.
    pub fn write(&mut self, offset: u64, data: &[u8]) -> bool {
        // Nothing of a configuration can be changed here; the registers are words.
        let Ok(word) = <[u8; 4]>::try_from(data) else { return false };
        let value = u32::from_le_bytes(word);
        match offset {
            reg::DEVICE_FEATURES_SEL => self.device_sel = value,
            reg::DRIVER_FEATURES_SEL => self.driver_sel = value,
            reg::DRIVER_FEATURES if self.status & status::FEATURES_OK == 0 => {
                let (old, value) = (self.driver_features, u64::from(value));
                match self.driver_sel {
                    0 => self.driver_features = old & !0xffff_ffff | value,
                    1 => self.driver_features = old & 0xffff_ffff | value << 32,
                    _ => {}
                }
            }
            reg::QUEUE_SEL => self.queue_sel = value,
            reg::QUEUE_NOTIFY => {
                return usize::try_from(value).is_ok_and(|index| self.serve(index));
            }
            reg::INTERRUPT_ACK => self.interrupt &= !value,
            reg::STATUS => self.set_status(value),
            _ => return self.set_up_queue(offset, value),
        }
        false
    }

    fn set_status(&mut self, value: u32) {
        if value == 0 {
            self.queues.iter_mut().for_each(Queue::reset);
            (self.status, self.interrupt, self.driver_features) = (0, 0, 0);
            return;
        }
        let mut new = value & status::DRIVERS | self.status & status::NEEDS_RESET;
        let asked = new & !self.status;
        if asked & status::FEATURES_OK != 0 {
            let ours = self.driver_features & !self.features() == 0;
            if !ours || self.driver_features & VERSION_1 == 0 {
                // It reads that the bit is not there, and gives up.
                new &= !status::FEATURES_OK;
            }
        }
        // Setting it without an agreement is no agreement.
        if new & status::FEATURES_OK == 0 {
            new &= !status::DRIVER_OK;
        }
        self.status = new;
    }

    /// Registers of the selected queue: only as long as it is not in use.
    fn set_up_queue(&mut self, offset: u64, value: u32) -> bool {
        let (memory, event_idx) = (self.memory, self.driver_features & EVENT_IDX != 0);
        let Some(queue) = self.queue() else { return false };
        if queue.ready() {
            if offset == reg::QUEUE_READY && value == 0 {
                queue.set_ready(false);
            }
            return false;
        }
        let low = |old: u64| GuestAddress(old & !0xffff_ffff | u64::from(value));
        let high = |old: u64| GuestAddress(old & 0xffff_ffff | u64::from(value) << 32);
        let done = match offset {
            reg::QUEUE_NUM => match u16::try_from(value) {
                Ok(size) => queue.try_set_size(size).is_ok(),
                Err(_) => false,
            },
            reg::DESC_LOW => queue.try_set_desc_table_address(low(queue.desc_table())).is_ok(),
            reg::DESC_HIGH => queue.try_set_desc_table_address(high(queue.desc_table())).is_ok(),
            reg::DRIVER_LOW => queue.try_set_avail_ring_address(low(queue.avail_ring())).is_ok(),
            reg::DRIVER_HIGH => queue.try_set_avail_ring_address(high(queue.avail_ring())).is_ok(),
            reg::DEVICE_LOW => queue.try_set_used_ring_address(low(queue.used_ring())).is_ok(),
            reg::DEVICE_HIGH => queue.try_set_used_ring_address(high(queue.used_ring())).is_ok(),
            reg::QUEUE_READY if value == 1 => {
                queue.set_event_idx(event_idx);
                queue.set_ready(true);
                let valid = queue.is_valid(memory);
                queue.set_ready(valid);
                valid
            }
            _ => true,
        };
        !done && self.stop()
    }

    /// The device works no more until it is reset.
    fn stop(&mut self) -> bool {
        self.status |= status::NEEDS_RESET;
        self.interrupt |= CHANGED;
        true
    }

    /// Serves a queue, because the guest said that there is something in it or because the device has something for it;
    /// whether the guest is to be interrupted.
    pub fn serve(&mut self, index: usize) -> bool {
        if self.status & (status::DRIVER_OK | status::NEEDS_RESET) != status::DRIVER_OK {
            return false;
        }
        let Some(queue) = self.queues.get_mut(index).filter(|queue| queue.ready()) else { return false };
        let wanted = match self.device.serve(index, queue, self.memory) {
            Ok(true) => queue.needs_notification(self.memory).map_err(|_| super::Broken),
            other => other,
        };
        match wanted {
            Ok(true) => {
                self.interrupt |= USED;
                true
            }
            Ok(false) => false,
            Err(super::Broken) => self.stop(),
        }
    }
}

fn low(value: u64) -> u32 {
    u32::try_from(value & 0xffff_ffff).unwrap_or(u32::MAX)
}

#[cfg(test)]
#[path = "mmio_tests.rs"]
mod tests;
