//! Requests to a disk, well-meant and not.

use std::io::Write;

use vm_memory::{Bytes, GuestAddress};

use super::super::driver::write;
use super::super::mmio::{Mmio, reg};
use super::super::mock::{self, DATA, Guest, INDIRECT, MEMORY, NEXT, WRITE, start};
use super::*;

const SECTORS: u64 = 8;
const STATUS: u64 = DATA + 0x8000;
const BUFFER: u64 = DATA + 0x1000;

struct Scene {
    memory: Memory,
    file: File,
}

impl Scene {
    fn new() -> Self {
        let mut file = tempfile::tempfile().unwrap();
        // Each sector is full of its own number.
        for sector in 0..SECTORS {
            file.write_all(&[u8::try_from(sector).unwrap(); 512]).unwrap();
        }
        Self { memory: mock::memory(), file }
    }

    fn disk(&self, read_only: bool) -> Mmio<'_, Block<'_>> {
        let block = Block::new(&self.file, read_only).unwrap();
        let mut device = Mmio::new(block, &self.memory);
        start(&mut device);
        device
    }

    fn header(&self, kind: u32, sector: u64) {
        self.memory.write_obj(kind, GuestAddress(DATA)).unwrap();
        self.memory.write_obj(sector, GuestAddress(DATA + 8)).unwrap();
        self.memory.write_obj(0xffu8, GuestAddress(STATUS)).unwrap();
    }

    fn status(&self) -> u8 {
        self.memory.read_obj(GuestAddress(STATUS)).unwrap()
    }

    /// One request with this much data; its status and the bytes that the device says it wrote.
    fn request(&self, read_only: bool, kind: u32, sector: u64, len: u32) -> (u8, u32) {
        let mut device = self.disk(read_only);
        self.header(kind, sector);
        let mut guest = Guest::new(&self.memory, 0);
        // A fresh driver: what was used before is used.
        guest.memory.write_obj(0u16, GuestAddress(mock::QUEUE + 0x3002)).unwrap();
        let writable = kind != kind::WRITE;
        guest.chain(&[(DATA, 16, false), (BUFFER, len, writable), (STATUS, 1, true)]);
        write(&mut device, reg::QUEUE_NOTIFY, 0);
        assert_eq!(guest.used(), 1);
        (self.status(), guest.last_used().1)
    }
}

#[test]
fn sectors_are_read_and_written_and_flushed() {
    let scene = Scene::new();
    assert_eq!(scene.request(false, kind::READ, 3, 1024), (OK, 1025));
    let mut got = [0; 1024];
    scene.memory.read_slice(&mut got, GuestAddress(BUFFER)).unwrap();
    assert_eq!((got[0], got[511], got[512], got[1023]), (3, 3, 4, 4));
    scene.memory.write_slice(&[0xee; 512], GuestAddress(BUFFER)).unwrap();
    assert_eq!(scene.request(false, kind::WRITE, 7, 512), (OK, 1));
    let mut sector = [0; 512];
    scene.file.read_exact_at(&mut sector, 7 * 512).unwrap();
    assert_eq!(sector, [0xee; 512]);
    assert_eq!(scene.request(false, kind::FLUSH, 0, 0), (OK, 1));
    assert_eq!(scene.request(false, kind::GET_ID, 0, 20), (OK, 21));
    assert_eq!(scene.request(false, 99, 0, 512), (UNSUPPORTED, 1));
}

#[test]
fn what_lies_beyond_the_end_is_refused_and_changes_nothing() {
    let scene = Scene::new();
    for (sector, len) in [(8, 512), (7, 1024), (u64::MAX, 512), (u64::MAX / 512, 512), (1 << 55, 512), (9, 0)]
    {
        for kind in [kind::READ, kind::WRITE] {
            assert_eq!(scene.request(false, kind, sector, len), (IO_ERROR, 1), "{sector} {len}");
        }
    }
    assert_eq!(scene.file.metadata().unwrap().len(), SECTORS * 512);
}

#[test]
fn parts_of_sectors_are_refused() {
    let scene = Scene::new();
    for len in [1, 511, 513] {
        assert_eq!(scene.request(false, kind::READ, 0, len), (IO_ERROR, 1));
    }
    assert_eq!(scene.request(false, kind::READ, 0, 0), (OK, 1), "nothing is no part of one");
}

#[test]
fn a_read_only_disk_is_not_written_to() {
    let scene = Scene::new();
    scene.memory.write_slice(&[0xee; 512], GuestAddress(BUFFER)).unwrap();
    assert_eq!(scene.request(true, kind::WRITE, 0, 512), (IO_ERROR, 1));
    assert_eq!(scene.request(true, kind::READ, 0, 512), (OK, 513));
    let zeros: [u8; 4] = scene.memory.read_obj(GuestAddress(BUFFER)).unwrap();
    assert_eq!(zeros, [0; 4]);
    assert_eq!(scene.request(true, kind::FLUSH, 0, 0), (OK, 1));
}

#[test]
fn an_image_that_shrinks_is_an_error_of_the_disk() {
    let scene = Scene::new();
    let mut device = scene.disk(true);
    scene.file.set_len(1000).unwrap();
    let mut guest = Guest::new(&scene.memory, 0);
    for (sector, expected) in [(0, OK), (1, IO_ERROR), (7, IO_ERROR)] {
        scene.header(kind::READ, sector);
        guest.chain(&[(DATA, 16, false), (BUFFER, 512, true), (STATUS, 1, true)]);
        write(&mut device, reg::QUEUE_NOTIFY, 0);
        assert_eq!(scene.status(), expected, "{sector}");
    }
}

#[test]
fn chains_that_are_no_requests_are_given_back_with_nothing() {
    let cases: [&[(u64, u32, bool)]; 8] = [
        // No place for a status, and nothing at all.
        &[(DATA, 16, false)],
        &[(DATA, 0, true)],
        // Outside of memory, over its end, over the end of all addresses, and 4 GiB long.
        &[(MEMORY, 16, false), (STATUS, 1, true)],
        &[(MEMORY - 8, 16, false), (STATUS, 1, true)],
        &[(u64::MAX - 7, 16, false), (STATUS, 1, true)],
        &[(DATA, 16, false), (BUFFER, u32::MAX, true), (STATUS, 1, true)],
        &[(DATA, 16, false), (BUFFER, 512, true), (MEMORY, 1, true)],
        &[(DATA, u32::MAX, false), (STATUS, 1, true)],
    ];
    for parts in cases {
        let scene = Scene::new();
        let mut device = scene.disk(false);
        scene.header(kind::READ, 0);
        let mut guest = Guest::new(&scene.memory, 0);
        guest.chain(parts);
        write(&mut device, reg::QUEUE_NOTIFY, 0);
        assert_eq!((guest.used(), guest.last_used().1), (1, 0), "{parts:x?}");
    }
}

#[test]
fn a_header_that_is_too_short_is_an_error() {
    let scene = Scene::new();
    let mut device = scene.disk(false);
    scene.header(kind::READ, 0);
    Guest::new(&scene.memory, 0).chain(&[(DATA, 15, false), (BUFFER, 512, true), (STATUS, 1, true)]);
    write(&mut device, reg::QUEUE_NOTIFY, 0);
    assert_eq!(scene.status(), IO_ERROR);
}

#[test]
fn a_loop_is_a_request_of_at_most_a_queue_of_descriptors() {
    let scene = Scene::new();
    let mut device = scene.disk(false);
    scene.header(kind::READ, 0);
    let mut guest = Guest::new(&scene.memory, 0);
    guest.descriptor(0, DATA, 16, NEXT, 1);
    guest.descriptor(1, BUFFER, 512, WRITE | NEXT, 1);
    guest.offer(0);
    write(&mut device, reg::QUEUE_NOTIFY, 0);
    // 15 times 512 bytes, the last of them the status: 7679 bytes of data are no whole sectors.
    assert_eq!((guest.used(), guest.last_used().1), (1, 1));
}

#[test]
fn a_table_within_a_table_within_a_table_is_not_followed() {
    let scene = Scene::new();
    let mut device = scene.disk(false);
    let mut guest = Guest::new(&scene.memory, 0);
    // A table of one descriptor, which is a table: itself.
    guest.descriptor(0, mock::QUEUE, 16, INDIRECT, 0);
    guest.offer(0);
    write(&mut device, reg::QUEUE_NOTIFY, 0);
    assert_eq!((guest.used(), guest.last_used()), (1, (0, 0)));
}

#[test]
fn data_over_many_pieces_arrive_whole() {
    let mut file = tempfile::tempfile().unwrap();
    let bytes: Vec<u8> = (0..300u32 * 512).map(|i| (i % 251).to_le_bytes()[0]).collect();
    file.write_all(&bytes).unwrap();
    let memory = mock::memory();
    let mut device = Mmio::new(Block::new(&file, true).unwrap(), &memory);
    start(&mut device);
    let scene = Scene { memory: memory.clone(), file: tempfile::tempfile().unwrap() };
    scene.header(kind::READ, 0);
    let len = u32::try_from(bytes.len()).unwrap();
    Guest::new(&memory, 0).chain(&[(DATA, 16, false), (0x8_0000, len, true), (STATUS, 1, true)]);
    write(&mut device, reg::QUEUE_NOTIFY, 0);
    let mut got = vec![0; bytes.len()];
    memory.read_slice(&mut got, GuestAddress(0x8_0000)).unwrap();
    assert_eq!((scene.status(), got == bytes), (OK, true));
}
