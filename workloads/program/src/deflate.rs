//! `deflate`: compresses and expands a generated text by the `miniz_oxide` crate.
//!
//! Compressor, expander and buffers are made once. The crate's one-call functions get them from the allocator
//! every time, several hundred KiB, and what would be measured then is page faults.

use core::hint::black_box;

use miniz_oxide::deflate::core::{
    CompressorOxide, TDEFLFlush, TDEFLStatus, compress, create_comp_flags_from_zip_params,
};
use miniz_oxide::inflate::TINFLStatus;
use miniz_oxide::inflate::core::inflate_flags::TINFL_FLAG_USING_NON_WRAPPING_OUTPUT_BUF;
use miniz_oxide::inflate::core::{DecompressorOxide, decompress};

use crate::mix::{Random, fold, fold_bytes};
use crate::work::{PrepareError, Work, filled, iterate};

/// Length of the text.
pub const TEXT_BYTES: usize = 64 << 10;
/// The default of zlib and gzip.
const LEVEL: i32 = 6;
/// Raw deflate: no zlib header, no Adler checksum.
const WINDOW_BITS: i32 = -15;
const STRATEGY: i32 = 0;
const SEED: u64 = 0xdef1_a7e0;

/// The workload `deflate`; one operation is one text of 64 KiB compressed and expanded.
pub struct Deflate {
    text: Vec<u8>,
    packed: Vec<u8>,
    expanded: Vec<u8>,
    compressor: CompressorOxide,
    expander: DecompressorOxide,
}

impl Deflate {
    /// Gets the memory and writes the text.
    ///
    /// # Errors
    ///
    /// [`PrepareError::Memory`] where there is none.
    pub fn new() -> Result<Self, PrepareError> {
        let mut text = filled(TEXT_BYTES, 0)?;
        write_text(&mut text);
        Ok(Self {
            text,
            packed: filled(TEXT_BYTES, 0)?,
            expanded: filled(TEXT_BYTES, 0)?,
            compressor: CompressorOxide::new(create_comp_flags_from_zip_params(LEVEL, WINDOW_BITS, STRATEGY)),
            expander: DecompressorOxide::new(),
        })
    }

    /// One iteration; 0 where the text that comes back is not the one that went in.
    fn round_trip(&mut self) -> u64 {
        self.compressor.reset();
        let (status, read, written) = compress(
            &mut self.compressor,
            black_box(&self.text),
            black_box(&mut self.packed),
            TDEFLFlush::Finish,
        );
        let Some(packed) = self.packed.get(..written) else { return 0 };
        if status != TDEFLStatus::Done || read != self.text.len() {
            return 0;
        }
        self.expander.init();
        let (status, _, written) = decompress(
            &mut self.expander,
            black_box(packed),
            black_box(&mut self.expanded),
            0,
            TINFL_FLAG_USING_NON_WRAPPING_OUTPUT_BUF,
        );
        if status != TINFLStatus::Done || written != self.text.len() || self.expanded != self.text {
            return 0;
        }
        fold(fold_bytes(0, packed), fold_bytes(0, &self.expanded))
    }
}

impl Work for Deflate {
    fn operations(&self) -> u64 {
        1
    }

    fn repeat(&mut self, iterations: u64) -> u64 {
        iterate(iterations, || self.round_trip())
    }
}

/// Fills `text` with sentences of words whose frequency falls with their place in the list, as in a language
/// (Zipf).
fn write_text(text: &mut [u8]) {
    const WORDS: [&str; 48] = [
        "the",
        "of",
        "and",
        "to",
        "a",
        "in",
        "is",
        "that",
        "it",
        "was",
        "for",
        "on",
        "are",
        "with",
        "as",
        "be",
        "machine",
        "process",
        "memory",
        "kernel",
        "page",
        "number",
        "container",
        "virtual",
        "measure",
        "between",
        "guest",
        "system",
        "because",
        "namespace",
        "nothing",
        "instruction",
        "boundary",
        "scheduler",
        "interval",
        "median",
        "hardware",
        "isolation",
        "address",
        "register",
        "overhead",
        "latency",
        "bandwidth",
        "translation",
        "privilege",
        "hypervisor",
        "descriptor",
        "checkpoint",
    ];
    let mut random = Random::new(SEED);
    let mut place = 0;
    let mut words_left = 0;
    while place < text.len() {
        if words_left == 0 {
            words_left = 4 + random.below(12);
        }
        // The product of two uniform numbers is small more often than large.
        let pick = (random.below(48) * random.below(48) / 48) as usize;
        words_left -= 1;
        let end = if words_left == 0 { ".\n" } else { " " };
        for &byte in WORDS[pick % WORDS.len()].as_bytes().iter().chain(end.as_bytes()) {
            if let Some(slot) = text.get_mut(place) {
                *slot = byte;
            }
            place += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_text_comes_back_and_is_smaller_in_between() {
        let mut work = Deflate::new().unwrap();
        assert_ne!(work.round_trip(), 0);
        let packed = miniz_oxide::deflate::compress_to_vec(&work.text, 6);
        assert!(packed.len() * 2 < TEXT_BYTES && packed.len() * 8 > TEXT_BYTES, "{} bytes", packed.len());
        assert_eq!(work.packed[..packed.len()], packed, "the same as by the crate's one call");
        assert_eq!(miniz_oxide::inflate::decompress_to_vec(&packed).unwrap(), work.text);
    }
}
