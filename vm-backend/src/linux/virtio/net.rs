//! A network card whose other end is a TAP device (virtio 1.2, section 5.1): frames as they are, no offloads.

use std::io::{Read, Write};

use virtio_queue::{Queue, Reader, Writer};

use super::{Broken, Chain, Device, Memory, drain};

const ID: u32 = 1;
/// The card says which address it has.
const MAC: u64 = 1 << 5;
/// The queue that frames for the guest go to, and the one that its own come from.
pub const RECEIVE: usize = 0;
/// See [`RECEIVE`].
pub const SEND: usize = 1;
/// Before each frame: flags and fields for offloads, all zero here, and the number of buffers that a frame is spread over.
pub const HEADER: usize = 12;
/// Header, no offload, one buffer.
const PLAIN: [u8; HEADER] = [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0];
/// Two addresses and a type.
const SHORTEST: usize = 14;
/// With the usual MTU, and a tag of a virtual network.
pub const LONGEST: usize = 1500 + SHORTEST + 4;

/// A card. `W` is its wire: what is read from it is a frame, and what is written to it.
#[derive(Debug)]
pub struct Net<W> {
    wire: W,
    mac: [u8; 6],
    frame: Vec<u8>,
}

impl<W: Read + Write> Net<W> {
    /// A card with this address. Reading from the wire must not wait.
    pub fn new(wire: W, mac: [u8; 6]) -> Self {
        Self { wire, mac, frame: vec![0; LONGEST] }
    }

    /// A frame of the guest goes out. One that is none, or that the wire does not take, is lost, as on any network.
    fn send(&mut self, chain: Chain<'_>, memory: &Memory) {
        let Ok(mut reader) = Reader::new(memory, chain) else { return };
        let mut header = [0; HEADER];
        let len = reader.available_bytes().saturating_sub(HEADER);
        if !(SHORTEST..=LONGEST).contains(&len) || reader.read_exact(&mut header).is_err() {
            return;
        }
        let frame = &mut self.frame[..len];
        if reader.read_exact(frame).is_ok() {
            // The number of bytes written says nothing more: a frame is taken or lost.
            drop(self.wire.write(frame));
        }
    }

    /// The next frame of the wire comes in; `None` where there is none.
    fn receive(&mut self, chain: Chain<'_>, memory: &Memory) -> Option<u32> {
        let len = match self.wire.read(&mut self.frame) {
            Ok(0) | Err(_) => return None,
            Ok(len) => len.min(LONGEST),
        };
        let Ok(mut writer) = Writer::new(memory, chain) else { return Some(0) };
        // What has no room is lost.
        if writer.available_bytes() < HEADER + len {
            return Some(0);
        }
        let written = writer.write_all(&PLAIN).and_then(|()| writer.write_all(&self.frame[..len]));
        Some(written.map_or(0, |()| u32::try_from(HEADER + len).unwrap_or(0)))
    }
}

impl<W: Read + Write> Device for Net<W> {
    fn id(&self) -> u32 {
        ID
    }

    fn features(&self) -> u64 {
        MAC
    }

    fn queues(&self) -> usize {
        2
    }

    fn config(&self) -> &[u8] {
        &self.mac
    }

    fn serve(&mut self, index: usize, queue: &mut Queue, memory: &Memory) -> Result<bool, Broken> {
        match index {
            RECEIVE => drain(queue, memory, |chain| self.receive(chain, memory)),
            _ => drain(queue, memory, |chain| {
                self.send(chain, memory);
                Some(0)
            }),
        }
    }
}

#[cfg(test)]
#[path = "net_tests.rs"]
mod tests;
