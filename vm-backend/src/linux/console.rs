//! A serial port that only sends, and the log that what it sends goes to.

use std::io;
use std::num::NonZeroUsize;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering::Relaxed};

use nix::sys::mman::{MapFlags, ProtFlags, mmap_anonymous, munmap};

/// What is kept: the last so many bytes.
const SIZE: usize = 32 << 10;

#[repr(C)]
struct Ring {
    /// Bytes ever written.
    count: AtomicU64,
    bytes: [AtomicU8; SIZE],
}

/// The log of a kernel, in memory that the monitor shares with the process that started it.
#[derive(Debug)]
pub(crate) struct Log {
    ring: NonNull<Ring>,
}

// SAFETY: all fields are atomics; the mapping stays until drop.
unsafe impl Send for Log {}
// SAFETY: as above.
unsafe impl Sync for Log {}

impl Log {
    /// An empty one.
    pub fn new() -> io::Result<Self> {
        let len = NonZeroUsize::new(size_of::<Ring>()).ok_or(io::ErrorKind::InvalidInput)?;
        // SAFETY: a new anonymous mapping at an address of the kernel's choice touches nothing of ours.
        let ring = unsafe {
            mmap_anonymous(None, len, ProtFlags::PROT_READ | ProtFlags::PROT_WRITE, MapFlags::MAP_SHARED)
        }?;
        Ok(Self { ring: ring.cast() })
    }

    fn ring(&self) -> &Ring {
        // SAFETY: mapped until drop, large enough, and all-zero bytes are valid atomics.
        unsafe { self.ring.as_ref() }
    }

    /// Adds a byte; the oldest goes.
    pub fn push(&self, byte: u8) {
        let ring = self.ring();
        let count = ring.count.load(Relaxed);
        ring.bytes[usize::try_from(count % SIZE as u64).unwrap_or(0)].store(byte, Relaxed);
        ring.count.store(count + 1, Relaxed);
    }

    /// All that is kept. What a guest prints is not to be trusted: only printable ASCII and line ends are passed on.
    pub fn text(&self) -> String {
        let ring = self.ring();
        let count = ring.count.load(Relaxed);
        let first = count.saturating_sub(SIZE as u64);
        let bytes = (first..count)
            .map(|i| ring.bytes[usize::try_from(i % SIZE as u64).unwrap_or(0)].load(Relaxed))
            .filter(|b| *b != b'\r');
        let text: String = bytes
            .map(|b| match b {
                b'\n' | b'\t' | b' '..=b'~' => char::from(b),
                _ => '?',
            })
            .collect();
        text.trim_end().to_owned()
    }
}

impl Drop for Log {
    fn drop(&mut self) {
        // SAFETY: our own mapping, and `&mut self` says that nobody uses it any more. Failure would leak its pages.
        if unsafe { munmap(self.ring.cast(), size_of::<Ring>()) }.is_err() {
            debug_assert!(false, "munmap of the log");
        }
    }
}

/// First port of the first serial line, and how many it has.
pub(super) const COM1: u16 = 0x3f8;
/// See [`COM1`].
pub(super) const COM1_PORTS: u16 = 8;
const DATA: u16 = 0;
const LINE_CONTROL: u16 = 3;
const LINE_STATUS: u16 = 5;
/// The divisor is at the data port.
const DIVISOR_ACCESS: u8 = 0x80;
/// Nothing waits to be sent.
const EMPTY: u8 = 0x60;

/// A 16550 as far as a kernel's early console needs it (PC16550D datasheet): it is always ready to send.
#[derive(Debug, Default)]
pub(super) struct Serial {
    line_control: u8,
    users: u32,
}

impl Serial {
    /// How often the line's speed was set: everyone who begins to use it does that first.
    pub fn users(&self) -> u32 {
        self.users
    }

    /// A byte written to one of its ports; the byte that it sends then.
    pub fn write(&mut self, offset: u16, value: u8) -> Option<u8> {
        match offset {
            DATA if self.line_control & DIVISOR_ACCESS == 0 => return Some(value),
            LINE_CONTROL => {
                if value & DIVISOR_ACCESS & !self.line_control != 0 {
                    self.users = self.users.saturating_add(1);
                }
                self.line_control = value;
            }
            _ => {}
        }
        None
    }

    /// A byte read from one of its ports.
    pub fn read(&self, offset: u16) -> u8 {
        match offset {
            LINE_CONTROL => self.line_control,
            LINE_STATUS => EMPTY,
            _ => 0,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_sent_comes_out_and_the_divisor_does_not() {
        let mut serial = Serial::default();
        assert_eq!(serial.read(LINE_STATUS), EMPTY);
        serial.write(LINE_CONTROL, 0x83);
        assert_eq!(serial.write(DATA, 1), None);
        serial.write(LINE_CONTROL, 3);
        assert_eq!(serial.write(DATA, b'x'), Some(b'x'));
        assert_eq!(serial.read(LINE_CONTROL), 3);
        assert_eq!(serial.users(), 1);
    }

    #[test]
    fn a_log_keeps_the_end_and_only_what_can_be_printed() {
        let log = Log::new().unwrap();
        for byte in b"\x1b[31mred\r\n" {
            log.push(*byte);
        }
        assert_eq!(log.text(), "?[31mred");
        for i in 0..SIZE {
            log.push(if i % 64 == 63 { b'\n' } else { b'a' });
        }
        let text = log.text();
        assert!(text.starts_with('a') && text.len() == SIZE - 1, "{}", text.len());
    }
}
