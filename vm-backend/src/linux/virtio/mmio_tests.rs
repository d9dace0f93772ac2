//! Registers in the hands of drivers that know them, and of those that do not.

use super::super::driver::{agree, read, write};
use super::super::mock::{self, DATA, Guest, LENGTH, MEMORY, NEXT, set_up, start};
use super::super::{Broken, drain};
use super::*;

/// Gives every chain back, and counts them and their bytes.
#[derive(Default)]
struct Sink {
    chains: usize,
    descriptors: usize,
}

impl Device for Sink {
    fn id(&self) -> u32 {
        42
    }
    fn features(&self) -> u64 {
        1 << 3
    }
    fn queues(&self) -> usize {
        2
    }
    fn config(&self) -> &[u8] {
        &[1, 2, 3, 4, 5]
    }
    fn serve(&mut self, _: usize, queue: &mut Queue, memory: &Memory) -> Result<bool, Broken> {
        drain(queue, memory, |chain| {
            self.chains += 1;
            self.descriptors += chain.count();
            Some(0)
        })
    }
}

#[test]
fn a_driver_finds_a_device_agrees_and_is_served() {
    let memory = mock::memory();
    let mut device = Mmio::new(Sink::default(), &memory);
    assert_eq!([reg::MAGIC, reg::VERSION, reg::DEVICE_ID].map(|r| read(&device, r)), [MAGIC, VERSION, 42]);
    start(&mut device);
    let mut guest = Guest::new(&memory, 0);
    guest.chain(&[(DATA, 16, false), (DATA, 1, true)]);
    assert!(write(&mut device, reg::QUEUE_NOTIFY, 0));
    assert_eq!((device.device().chains, device.device().descriptors, guest.used()), (1, 2, 1));
    assert_eq!(read(&device, reg::INTERRUPT_STATUS), USED);
    write(&mut device, reg::INTERRUPT_ACK, USED);
    assert_eq!(read(&device, reg::INTERRUPT_STATUS), 0);
}

#[test]
fn features_that_were_not_offered_are_no_agreement_and_neither_is_the_legacy_interface() {
    let memory = mock::memory();
    let mut device = Mmio::new(Sink::default(), &memory);
    agree(&mut device, 1 << 3);
    assert_eq!(read(&device, reg::STATUS), 11);
    agree(&mut device, 1 << 4);
    assert_eq!(read(&device, reg::STATUS), 3);
    write(&mut device, reg::STATUS, 0);
    write(&mut device, reg::STATUS, 3 | 8 | 4);
    assert_eq!(read(&device, reg::STATUS), 3, "without VERSION_1, and so without DRIVER_OK");
}

#[test]
fn features_that_nobody_has_numbers_for_are_none() {
    let memory = mock::memory();
    let mut device = Mmio::new(Sink::default(), &memory);
    agree(&mut device, 0);
    write(&mut device, reg::STATUS, 0);
    write(&mut device, reg::STATUS, 3);
    for select in [2, 1 << 27, u32::MAX] {
        write(&mut device, reg::DEVICE_FEATURES_SEL, select);
        assert_eq!(read(&device, reg::DEVICE_FEATURES), 0);
        write(&mut device, reg::DRIVER_FEATURES_SEL, select);
        write(&mut device, reg::DRIVER_FEATURES, u32::MAX);
    }
    write(&mut device, reg::STATUS, 11);
    assert_eq!(read(&device, reg::STATUS), 3, "without VERSION_1");
}

#[test]
fn nothing_is_served_before_the_driver_is_ready() {
    let memory = mock::memory();
    let mut device = Mmio::new(Sink::default(), &memory);
    agree(&mut device, 0);
    set_up(&mut device, 0);
    Guest::new(&memory, 0).chain(&[(DATA, 16, false)]);
    assert!(!write(&mut device, reg::QUEUE_NOTIFY, 0));
    assert_eq!(device.device().chains, 0);
}

#[test]
fn a_queue_size_that_is_no_power_of_two_or_too_large_stops_the_device() {
    let memory = mock::memory();
    for size in [0, 3, 100, 255, 257, 512, 0x1_0000, u32::MAX] {
        let mut device = Mmio::new(Sink::default(), &memory);
        agree(&mut device, 0);
        assert!(write(&mut device, reg::QUEUE_NUM, size), "{size}");
        assert_eq!(read(&device, reg::STATUS) & status::NEEDS_RESET, status::NEEDS_RESET, "{size}");
        write(&mut device, reg::STATUS, 0);
        assert_eq!(read(&device, reg::STATUS), 0);
    }
}

#[test]
fn a_queue_outside_of_memory_or_askew_is_never_ready() {
    let memory = mock::memory();
    let end = u32::try_from(MEMORY).unwrap();
    for (register, value) in [
        (reg::DESC_LOW, end),
        (reg::DESC_LOW, end - 16),
        (reg::DESC_HIGH, u32::MAX),
        (reg::DRIVER_LOW, end - 2),
        (reg::DEVICE_LOW, end - 8),
        (reg::DEVICE_HIGH, 1),
        (reg::DESC_LOW, 0x1008),
    ] {
        let mut device = Mmio::new(Sink::default(), &memory);
        agree(&mut device, 0);
        set_up(&mut device, 0);
        write(&mut device, reg::QUEUE_READY, 0);
        write(&mut device, register, value);
        write(&mut device, reg::QUEUE_READY, 1);
        assert_eq!(
            read(&device, reg::STATUS) & status::NEEDS_RESET,
            status::NEEDS_RESET,
            "{register:#x} {value:#x}"
        );
        write(&mut device, reg::STATUS, 15 | status::NEEDS_RESET);
        assert!(!write(&mut device, reg::QUEUE_NOTIFY, 0));
    }
}

#[test]
fn a_ready_queue_cannot_be_moved_away_under_the_device() {
    let memory = mock::memory();
    let mut device = Mmio::new(Sink::default(), &memory);
    start(&mut device);
    write(&mut device, reg::QUEUE_SEL, 0);
    for register in [reg::DESC_LOW, reg::DESC_HIGH, reg::DRIVER_LOW, reg::DEVICE_LOW, reg::QUEUE_NUM] {
        write(&mut device, register, 0xffff_fff0);
    }
    Guest::new(&memory, 0).chain(&[(DATA, 16, false)]);
    assert!(write(&mut device, reg::QUEUE_NOTIFY, 0));
    assert_eq!(device.device().chains, 1);
}

#[test]
fn more_chains_than_the_queue_has_stop_the_device() {
    let memory = mock::memory();
    let mut device = Mmio::new(Sink::default(), &memory);
    start(&mut device);
    Guest::new(&memory, 0).set_offered(LENGTH + 1);
    assert!(write(&mut device, reg::QUEUE_NOTIFY, 0));
    assert_eq!(read(&device, reg::STATUS) & status::NEEDS_RESET, status::NEEDS_RESET);
    assert_eq!(device.device().chains, 0);
}

#[test]
fn a_head_beyond_the_queue_stops_the_device() {
    let memory = mock::memory();
    let mut device = Mmio::new(Sink::default(), &memory);
    start(&mut device);
    Guest::new(&memory, 0).offer(LENGTH);
    assert!(write(&mut device, reg::QUEUE_NOTIFY, 0));
    assert_eq!(read(&device, reg::STATUS) & status::NEEDS_RESET, status::NEEDS_RESET);
}

#[test]
fn a_loop_of_descriptors_ends() {
    let memory = mock::memory();
    let mut device = Mmio::new(Sink::default(), &memory);
    start(&mut device);
    let mut guest = Guest::new(&memory, 0);
    guest.descriptor(0, DATA, 1, NEXT, 1);
    guest.descriptor(1, DATA, 1, NEXT, 0);
    guest.offer(0);
    write(&mut device, reg::QUEUE_NOTIFY, 0);
    assert_eq!(device.device().descriptors, usize::from(LENGTH));
}

#[test]
fn registers_and_queues_that_do_not_exist_do_nothing() {
    let memory = mock::memory();
    let mut device = Mmio::new(Sink::default(), &memory);
    start(&mut device);
    for offset in (0..SIZE).chain([u64::MAX - 8]) {
        for len in [0, 1, 2, 3, 4, 8] {
            device.read(offset, &mut vec![0xaa; len]);
            if ![reg::STATUS, reg::DESC_LOW, reg::DESC_HIGH, reg::QUEUE_NUM].contains(&offset) {
                device.write(offset, &vec![0xff; len]);
            }
        }
    }
    write(&mut device, reg::QUEUE_SEL, 7);
    assert_eq!(read(&device, reg::QUEUE_NUM_MAX), 0);
    assert!(!write(&mut device, reg::QUEUE_NOTIFY, 7) && !write(&mut device, reg::QUEUE_NOTIFY, u32::MAX));
    let mut tail = [9; 4];
    device.read(0x103, &mut tail);
    assert_eq!(tail, [4, 5, 0, 0]);
}
