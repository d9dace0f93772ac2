//! A disk in a file (virtio 1.2, section 5.2).

use std::fs::File;
use std::io::{self, Read, Write};
use std::os::unix::fs::FileExt;

use virtio_queue::{Queue, Reader, Writer};

use super::{Broken, Chain, Device, Memory, QUEUE_SIZE, drain};

/// Bytes that a disk is counted in.
pub const SECTOR: u64 = 512;
const ID: u32 = 2;

// Features.
const SEG_MAX: u64 = 1 << 2;
const READ_ONLY: u64 = 1 << 5;
const FLUSH: u64 = 1 << 9;

/// What a request wants.
mod kind {
    pub const READ: u32 = 0;
    pub const WRITE: u32 = 1;
    pub const FLUSH: u32 = 4;
    pub const GET_ID: u32 = 8;
}

/// How a request ended.
pub const OK: u8 = 0;
/// See [`OK`].
pub const IO_ERROR: u8 = 1;
/// See [`OK`].
pub const UNSUPPORTED: u8 = 2;

/// Kind, a reserved word, first sector.
const HEADER: usize = 16;
/// What a driver gets as the disk's name: 20 bytes.
const NAME: &[u8; 20] = b"bench-harness disk\0\0";
/// Data move in pieces of at most this size.
const PIECE: usize = 64 << 10;

/// A disk.
#[derive(Debug)]
pub struct Block<'m> {
    file: &'m File,
    sectors: u64,
    read_only: bool,
    config: [u8; 16],
    piece: Vec<u8>,
}

impl<'m> Block<'m> {
    /// A disk as large as the file is now, in whole sectors.
    ///
    /// # Errors
    /// Its size cannot be learned.
    pub fn new(file: &'m File, read_only: bool) -> io::Result<Self> {
        let sectors = file.metadata()?.len() / SECTOR;
        let mut config = [0; 16];
        config[..8].copy_from_slice(&sectors.to_le_bytes());
        // Descriptors of data in a request: one is the header's, one the status's.
        config[12..].copy_from_slice(&u32::from(QUEUE_SIZE - 2).to_le_bytes());
        Ok(Self { file, sectors, read_only, config, piece: vec![0; PIECE] })
    }

    /// Serves one request; the bytes written to the guest. A chain that is no request gets nothing back.
    fn request(&mut self, chain: Chain<'_>, memory: &Memory) -> u32 {
        let (Ok(mut reader), Ok(mut writer)) =
            (Reader::new(memory, chain.clone()), Writer::new(memory, chain))
        else {
            return 0;
        };
        // The last byte that can be written is the status.
        let Some(room) = writer.available_bytes().checked_sub(1) else { return 0 };
        let Ok(mut status) = writer.split_at(room) else { return 0 };
        let mut header = [0; HEADER];
        let code = match reader.read_exact(&mut header) {
            Ok(()) => self.perform(&header, &mut reader, &mut writer).err().unwrap_or(OK),
            Err(_) => IO_ERROR,
        };
        let data = writer.bytes_written();
        match status.write_all(&[code]) {
            Ok(()) => u32::try_from(data + 1).unwrap_or(u32::MAX),
            Err(_) => 0,
        }
    }

    fn perform(
        &mut self,
        header: &[u8; HEADER],
        reader: &mut Reader<'_>,
        writer: &mut Writer<'_>,
    ) -> Result<(), u8> {
        let failed = |_: io::Error| IO_ERROR;
        let [a, b, c, d, _, _, _, _, sector @ ..] = *header;
        let sector = u64::from_le_bytes(sector);
        match u32::from_le_bytes([a, b, c, d]) {
            kind::READ => {
                let (mut at, mut left) = self.range(sector, writer.available_bytes())?;
                while left > 0 {
                    let piece = &mut self.piece[..left.min(PIECE)];
                    // An image that has shrunk ends here: an error, as of a disk that is broken.
                    self.file.read_exact_at(piece, at).map_err(failed)?;
                    writer.write_all(piece).map_err(failed)?;
                    at += piece.len() as u64;
                    left -= piece.len();
                }
                Ok(())
            }
            kind::WRITE if self.read_only => Err(IO_ERROR),
            kind::WRITE => {
                let (mut at, mut left) = self.range(sector, reader.available_bytes())?;
                while left > 0 {
                    let piece = &mut self.piece[..left.min(PIECE)];
                    reader.read_exact(piece).map_err(failed)?;
                    self.file.write_all_at(piece, at).map_err(failed)?;
                    at += piece.len() as u64;
                    left -= piece.len();
                }
                Ok(())
            }
            kind::FLUSH if self.read_only => Ok(()),
            kind::FLUSH => self.file.sync_data().map_err(failed),
            kind::GET_ID => {
                let len = writer.available_bytes().min(NAME.len());
                writer.write_all(&NAME[..len]).map_err(failed)
            }
            _ => Err(UNSUPPORTED),
        }
    }

    /// Where in the file so many bytes from a sector on are, if all of them are sectors of this disk.
    fn range(&self, sector: u64, len: usize) -> Result<(u64, usize), u8> {
        let bytes = len as u64;
        let end = sector.checked_add(bytes / SECTOR).ok_or(IO_ERROR)?;
        if !bytes.is_multiple_of(SECTOR) || end > self.sectors {
            return Err(IO_ERROR);
        }
        Ok((sector * SECTOR, len))
    }
}

impl Device for Block<'_> {
    fn id(&self) -> u32 {
        ID
    }

    fn features(&self) -> u64 {
        SEG_MAX | FLUSH | if self.read_only { READ_ONLY } else { 0 }
    }

    fn queues(&self) -> usize {
        1
    }

    fn config(&self) -> &[u8] {
        &self.config
    }

    fn serve(&mut self, _: usize, queue: &mut Queue, memory: &Memory) -> Result<bool, Broken> {
        drain(queue, memory, |chain| Some(self.request(chain, memory)))
    }
}

#[cfg(test)]
#[path = "block_tests.rs"]
mod tests;
