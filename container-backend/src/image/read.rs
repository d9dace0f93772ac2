//! Readers: decompressing, counting, hashing.

use std::cell::Cell;
use std::fmt::Write as _;
use std::io::{self, BufRead, BufReader, Read, Seek, SeekFrom};

use sha2::{Digest as _, Sha256};

/// A reader that hashes what passes through it.
pub(super) struct Hashed<R> {
    inner: R,
    hash: Sha256,
}

impl<R: Read> Hashed<R> {
    pub(super) fn new(inner: R) -> Self {
        Self { inner, hash: Sha256::new() }
    }

    /// Reads what is left, and returns the digest of everything as `sha256:...`.
    pub(super) fn finish(mut self) -> io::Result<String> {
        io::copy(&mut self, &mut io::sink())?;
        Ok(text(&self.hash.finalize()))
    }
}

impl<R: Read> Read for Hashed<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.inner.read(buffer)?;
        self.hash.update(buffer.get(..read).unwrap_or_default());
        Ok(read)
    }
}

/// The most that stands in an archive before an entry: its header, and what the formats put before that for long names and for
/// attributes, which the `tar` crate reads into memory however much it is.
const HEADER_BYTES: u64 = 1 << 20;

/// How much may be read at the moment.
pub(super) struct Allowance(Cell<u64>);

impl Allowance {
    pub(super) fn new() -> Self {
        Self(Cell::new(HEADER_BYTES))
    }

    /// Before the next entry is looked for; all of the last one has been read.
    pub(super) fn for_a_header(&self) {
        self.0.set(HEADER_BYTES);
    }

    /// For the entry itself, whose size is known.
    pub(super) fn for_content(&self) {
        self.0.set(u64::MAX);
    }
}

/// A reader that fails where more is read than is allowed.
pub(super) struct Allowed<'a, R> {
    pub(super) inner: R,
    pub(super) allowance: &'a Allowance,
}

impl<R: Read> Read for Allowed<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let left = self.allowance.0.get();
        if left == 0 && !buffer.is_empty() {
            let said = format!("a header has more than {HEADER_BYTES} bytes");
            return Err(io::Error::new(io::ErrorKind::FileTooLarge, said));
        }
        let most = buffer.len().min(usize::try_from(left).unwrap_or(usize::MAX));
        let read = self.inner.read(buffer.get_mut(..most).unwrap_or_default())?;
        self.allowance.0.set(left.saturating_sub(read as u64));
        Ok(read)
    }
}

impl<R: Seek> Seek for Allowed<'_, R> {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        self.inner.seek(to)
    }
}

/// The digest of some bytes.
pub(super) fn digest(bytes: &[u8]) -> String {
    text(&Sha256::digest(bytes))
}

fn text(hash: &[u8]) -> String {
    let mut text = String::from("sha256:");
    for byte in hash {
        // Writing to a string cannot fail.
        let _ok = write!(text, "{byte:02x}");
    }
    text
}

/// The bytes without their compression, which is told from their beginning: gzip, zstd or none.
pub(super) fn decompressed<'a>(reader: impl Read + 'a) -> io::Result<Box<dyn Read + 'a>> {
    let mut reader = BufReader::with_capacity(1 << 16, reader);
    let head = reader.fill_buf()?;
    if head.starts_with(&[0x1f, 0x8b]) {
        Ok(Box::new(flate2::bufread::MultiGzDecoder::new(reader)))
    } else if head.starts_with(&[0x28, 0xb5, 0x2f, 0xfd]) {
        let decoder = ruzstd::decoding::StreamingDecoder::new(reader);
        Ok(Box::new(decoder.map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error.to_string()))?))
    } else {
        Ok(Box::new(reader))
    }
}
