//! Frames, and what is none.

use std::collections::VecDeque;
use std::io;

use vm_memory::{Bytes, GuestAddress};

use super::super::driver::write;
use super::super::mmio::{Mmio, reg};
use super::super::mock::{self, DATA, Guest, MEMORY, start};
use super::*;

#[derive(Default)]
struct Wire {
    sent: Vec<Vec<u8>>,
    incoming: VecDeque<Vec<u8>>,
}

impl Read for Wire {
    fn read(&mut self, to: &mut [u8]) -> io::Result<usize> {
        let frame = self.incoming.pop_front().ok_or(io::ErrorKind::WouldBlock)?;
        let len = frame.len().min(to.len());
        to[..len].copy_from_slice(&frame[..len]);
        Ok(len)
    }
}

impl Write for Wire {
    fn write(&mut self, from: &[u8]) -> io::Result<usize> {
        self.sent.push(from.to_vec());
        Ok(from.len())
    }
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn card(memory: &Memory, incoming: &[&[u8]]) -> Mmio<'static, Net<Wire>> {
    let wire = Wire { incoming: incoming.iter().map(|f| f.to_vec()).collect(), ..Wire::default() };
    // The memory is shared by reference count; the device of a test may keep its own for ever.
    let memory: &'static Memory = Box::leak(Box::new(memory.clone()));
    let mut device = Mmio::new(Net::new(wire, [2, 0, 0, 0, 0, 1]), memory);
    start(&mut device);
    device
}

#[test]
fn frames_go_out_without_their_header() {
    let memory = mock::memory();
    let mut device = card(&memory, &[]);
    memory.write_slice(&[7; 60], GuestAddress(DATA + 12)).unwrap();
    let mut guest = Guest::new(&memory, 1);
    guest.chain(&[(DATA, 12, false), (DATA + 12, 60, false)]);
    // All in one, and the header in pieces.
    guest.chain(&[(DATA, 72, false)]);
    guest.chain(&[(DATA, 5, false), (DATA + 5, 67, false)]);
    assert!(write(&mut device, reg::QUEUE_NOTIFY, 1));
    assert_eq!((guest.used(), guest.last_used().1), (3, 0));
    assert_eq!(device.device().wire.sent, vec![vec![7; 60]; 3]);
}

#[test]
fn what_is_no_frame_is_lost_and_given_back() {
    let memory = mock::memory();
    let mut device = card(&memory, &[]);
    let mut guest = Guest::new(&memory, 1);
    let cases: [&[(u64, u32, bool)]; 7] = [
        &[(DATA, 0, false)],
        &[(DATA, 11, false)],
        &[(DATA, 12 + 13, false)],
        &[(DATA, 12 + 1519, false)],
        &[(DATA, u32::MAX, false)],
        &[(MEMORY - 4, 60, false)],
        // To be written to: nothing is sent from there.
        &[(DATA, 72, true)],
    ];
    for parts in cases {
        guest.chain(parts);
    }
    write(&mut device, reg::QUEUE_NOTIFY, 1);
    assert_eq!(usize::from(guest.used()), cases.len());
    assert!(device.device().wire.sent.is_empty());
}

#[test]
fn frames_come_in_behind_a_header_until_there_are_no_more() {
    let memory = mock::memory();
    let mut device = card(&memory, &[&[1; 60], &[2; 70]]);
    let mut guest = Guest::new(&memory, 0);
    for i in 0..3 {
        guest.chain(&[(DATA + 0x1000 * i, 1530, true)]);
    }
    assert!(device.serve(RECEIVE));
    assert_eq!((guest.used(), guest.last_used()), (2, (1, 82)));
    let mut got = [0; 13];
    memory.read_slice(&mut got, GuestAddress(DATA)).unwrap();
    assert_eq!(got, [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 1]);
    // The third place is still there for the next frame.
    assert!(!device.serve(RECEIVE));
    assert_eq!(guest.used(), 2);
}

#[test]
fn a_frame_without_a_place_waits_and_one_in_too_small_a_place_is_lost() {
    let memory = mock::memory();
    let mut device = card(&memory, &[&[1; 60], &[2; 60], &[3; 60]]);
    assert!(!device.serve(RECEIVE));
    let mut guest = Guest::new(&memory, 0);
    guest.chain(&[(DATA, 71, true)]);
    guest.chain(&[(MEMORY - 10, 1530, true)]);
    guest.chain(&[(DATA, 72, true)]);
    assert!(write(&mut device, reg::QUEUE_NOTIFY, 0));
    assert_eq!((guest.used(), guest.last_used()), (3, (2, 72)));
    assert_eq!(memory.read_obj::<u8>(GuestAddress(DATA + 12)).unwrap(), 3);
}
