//! `file-io`: writes a file of 4 MiB, has it synced, reads it back, and reads pages of it at random places.
//!
//! The file has no name while it is worked with, so that nothing of it is left however the program ends. It lies in `/tmp`,
//! and which file system that is decides most of the time: see the README.

use core::hint::black_box;
use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::FileExt;

use workload_program::mix::{Random, fold, fold_bytes};
use workload_program::sys::now_ns;
use workload_program::work::{Figure, PrepareError, Work, filled, iterate};

const FILE_BYTES: usize = 4 << 20;
/// One write, one read.
const PIECE_BYTES: usize = 64 << 10;
/// One read at a random place.
const PAGE_BYTES: usize = 4096;
const RANDOM_READS: u32 = 256;
const SEED: u64 = 0xf11e_0000;

/// The workload `file-io`; one operation is one file.
pub struct FileIo {
    file: File,
    contents: Vec<u8>,
    piece: Vec<u8>,
    /// Nanoseconds of the last repetition: writing, syncing, reading, random reads.
    spent: [u64; 4],
}

impl FileIo {
    /// Makes contents and file.
    ///
    /// # Errors
    ///
    /// There is no memory for the contents, or no file can be made in `/tmp`.
    pub fn new() -> Result<Self, PrepareError> {
        let mut contents = filled(FILE_BYTES, 0_u8)?;
        let mut random = Random::new(SEED);
        for word in contents.chunks_exact_mut(8) {
            word.copy_from_slice(&random.word().to_le_bytes());
        }
        // Two instances on one host that have the same number, in namespaces of their own, differ in the time.
        let path = format!("/tmp/file-io-{}-{}", std::process::id(), now_ns());
        let file = OpenOptions::new().read(true).write(true).create_new(true).open(&path);
        let file = file.map_err(PrepareError::step("make a file in /tmp"))?;
        std::fs::remove_file(&path).map_err(PrepareError::step("take away the file's name"))?;
        Ok(Self { file, contents, piece: filled(PIECE_BYTES, 0)?, spent: [0; 4] })
    }

    fn once(&mut self) -> io::Result<u64> {
        let mut before = now_ns();
        let mut spent = |kind: usize, all: &mut [u64; 4]| {
            let now = now_ns();
            all[kind] += now.saturating_sub(before);
            before = now;
        };
        // From nothing each time: space for the file has to be found.
        self.file.set_len(0)?;
        for (number, piece) in (0_u64..).zip(self.contents.chunks(PIECE_BYTES)) {
            self.file.write_all_at(black_box(piece), number * PIECE_BYTES as u64)?;
        }
        spent(0, &mut self.spent);
        self.file.sync_all()?;
        spent(1, &mut self.spent);
        let mut sum = 0;
        for number in 0..FILE_BYTES / PIECE_BYTES {
            self.file.read_exact_at(&mut self.piece, (number * PIECE_BYTES) as u64)?;
            // All of it would be a measurement of the checksum.
            sum = fold_bytes(sum, &self.piece[number * 64..][..64]);
        }
        spent(2, &mut self.spent);
        let mut random = Random::new(SEED);
        let pages = u32::try_from(FILE_BYTES / PAGE_BYTES).unwrap_or(1);
        for _ in 0..RANDOM_READS {
            let page = &mut self.piece[..PAGE_BYTES];
            self.file.read_exact_at(page, u64::from(random.below(pages)) * PAGE_BYTES as u64)?;
            sum = fold(sum, u64::from(page[0]));
        }
        spent(3, &mut self.spent);
        Ok(sum)
    }
}

impl Work for FileIo {
    fn operations(&self) -> u64 {
        1
    }

    fn repeat(&mut self, iterations: u64) -> u64 {
        self.spent = [0; 4];
        // A checksum of 0 is none: the comparison with the catalogue fails, as it should.
        iterate(iterations, || self.once().unwrap_or(0))
    }

    fn figures(&self, iterations: u64, _: u64, emit: &mut dyn FnMut(Figure)) {
        let per = |nanoseconds: u64, count: u64| nanoseconds as f64 / (count * iterations.max(1)) as f64;
        let [write, sync, read, random] = self.spent;
        let bandwidth = |nanoseconds: u64| FILE_BYTES as f64 * 1e9 / per(nanoseconds.max(1), 1);
        emit(("write", "bytes/s", bandwidth(write)));
        emit(("sync", "ns", per(sync, 1)));
        emit(("read", "bytes/s", bandwidth(read)));
        emit(("random_read", "ns", per(random, RANDOM_READS.into())));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_file_holds_what_was_written_and_has_no_name() {
        let mut work = FileIo::new().unwrap();
        let sum = work.once().unwrap();
        assert_eq!(work.once().unwrap(), sum);
        let mut read = vec![0; FILE_BYTES];
        work.file.read_exact_at(&mut read, 0).unwrap();
        assert!(read == work.contents);
        assert_eq!(work.file.metadata().unwrap().len(), FILE_BYTES as u64);
        let mine = format!("file-io-{}-", std::process::id());
        let named = std::fs::read_dir("/tmp").unwrap().filter_map(Result::ok);
        assert_eq!(named.filter(|entry| entry.file_name().to_string_lossy().starts_with(&mine)).count(), 0);
    }
}
