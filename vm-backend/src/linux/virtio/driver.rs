//! The driver's side up to the first request, for what stands in for a guest: tests, and the bodies of fuzz targets.

use super::mmio::{Mmio, reg, status};
use super::{Device, VERSION_1};

/// Where a queue is, and its length.
pub struct Place {
    /// Descriptors, the driver's ring, the device's ring.
    pub rings: [u32; 3],
    /// Elements.
    pub length: u32,
}

/// The register's value.
pub fn read<D: Device>(device: &Mmio<'_, D>, register: u64) -> u32 {
    let mut word = [0; 4];
    device.read(register, &mut word);
    u32::from_le_bytes(word)
}

/// Puts a value into a register; whether the guest is to be interrupted.
pub fn write<D: Device>(device: &mut Mmio<'_, D>, register: u64, value: u32) -> bool {
    device.write(register, &value.to_le_bytes())
}

/// Acknowledges the device and agrees on features: those beside [`VERSION_1`], which are below it.
pub fn agree<D: Device>(device: &mut Mmio<'_, D>, features: u32) {
    const _: () = assert!(VERSION_1 == 1 << 32);
    write(device, reg::STATUS, 0);
    write(device, reg::STATUS, status::DRIVER);
    for (select, bits) in [(0, features), (1, 1)] {
        write(device, reg::DRIVER_FEATURES_SEL, select);
        write(device, reg::DRIVER_FEATURES, bits);
    }
    write(device, reg::STATUS, status::DRIVER | status::FEATURES_OK);
}

/// Sets a queue up.
pub fn set_up<D: Device>(device: &mut Mmio<'_, D>, index: u32, place: &Place) {
    write(device, reg::QUEUE_SEL, index);
    write(device, reg::QUEUE_NUM, place.length);
    let halves = [
        (reg::DESC_LOW, reg::DESC_HIGH),
        (reg::DRIVER_LOW, reg::DRIVER_HIGH),
        (reg::DEVICE_LOW, reg::DEVICE_HIGH),
    ];
    for ((low, high), address) in halves.into_iter().zip(place.rings) {
        write(device, low, address);
        write(device, high, 0);
    }
    write(device, reg::QUEUE_READY, 1);
}

/// All of it, with a place for each queue.
pub fn start<D: Device>(device: &mut Mmio<'_, D>, queues: u32, place: impl Fn(u32) -> Place) {
    agree(device, 0);
    for index in 0..queues {
        set_up(device, index, &place(index));
    }
    write(device, reg::STATUS, status::DRIVER | status::FEATURES_OK | status::DRIVER_OK);
}
