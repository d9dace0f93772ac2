//! Devices of a Linux guest: virtio 1.2 over MMIO (section 4.2), split queues only.
//!
//! Everything that the guest writes, into registers or into its memory, is a stranger's word: addresses and lengths go
//! through vm-memory and virtio-queue, which refuse what is not in the guest's memory; whatever makes no sense stops the device
//! (DEVICE_NEEDS_RESET), never the monitor.
//!
//! * [`mmio`]: the registers
//! * [`block`]: a disk in a file
//! * `driver`: the other side, for tests and fuzz targets
//! * [`net`], [`tap`]: a network card whose other end is a TAP device of the host

pub mod block;
pub(crate) mod driver;
pub mod mmio;
pub mod net;
pub mod tap;

use virtio_queue::{DescriptorChain, Queue, QueueOwnedT, QueueT};
use vm_memory::GuestMemoryMmap;

/// The guest's memory.
pub type Memory = GuestMemoryMmap<()>;
/// A chain of descriptors in it.
pub type Chain<'m> = DescriptorChain<&'m Memory>;

/// Longest queue: what Linux drivers use at most by themselves.
pub const QUEUE_SIZE: u16 = 256;

// Feature bits (virtio 1.2, section 6).
/// The device follows virtio 1.0 or later: without it nothing is negotiated.
pub const VERSION_1: u64 = 1 << 32;
/// Each side says from which element on it wants to be told of new ones.
pub const EVENT_IDX: u64 = 1 << 29;

/// The driver broke the rules of its queue: the device stops until it is reset.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the guest's queue makes no sense")]
pub struct Broken;

/// What a device is behind its registers.
pub trait Device {
    /// Its number (virtio 1.2, section 5).
    fn id(&self) -> u32;
    /// Features beyond those that every device here has.
    fn features(&self) -> u64;
    /// Number of queues.
    fn queues(&self) -> usize;
    /// The configuration space.
    fn config(&self) -> &[u8];
    /// Serves what is in this queue; whether anything was given back.
    ///
    /// # Errors
    /// The queue itself makes no sense.
    fn serve(&mut self, index: usize, queue: &mut Queue, memory: &Memory) -> Result<bool, Broken>;
}

/// Takes the next chain of a queue.
fn next<'m>(queue: &mut Queue, memory: &'m Memory) -> Result<Option<Chain<'m>>, Broken> {
    Ok(queue.iter(memory).map_err(|_| Broken)?.next())
}

/// Serves chains until there are none, each by `one`: the bytes that it wrote, or `None` to leave that chain and all later ones
/// for another time.
fn drain(
    queue: &mut Queue,
    memory: &Memory,
    mut one: impl FnMut(Chain<'_>) -> Option<u32>,
) -> Result<bool, Broken> {
    let mut any = false;
    loop {
        while let Some(chain) = next(queue, memory)? {
            let head = chain.head_index();
            let Some(written) = one(chain) else {
                queue.go_to_previous_position();
                return Ok(any);
            };
            queue.add_used(memory, head, written).map_err(|_| Broken)?;
            any = true;
        }
        if !queue.enable_notification(memory).map_err(|_| Broken)? {
            return Ok(any);
        }
    }
}

#[cfg(test)]
pub(super) mod mock;
