//! `sha256`: hashing by the `sha2` crate, which picks the processor's SHA instructions at run time where
//! there are any.

use core::hint::black_box;

use sha2::{Digest, Sha256};

use crate::mix::Random;
use crate::work::{PrepareError, Work, filled, iterate};

/// Length of the message.
pub const MESSAGE_BYTES: usize = 64 << 10;
const SEED: u64 = 0x5aa2_5600;

/// The workload `sha256`; one operation is one message of 64 KiB.
pub struct Sha256Work {
    message: Vec<u8>,
}

impl Sha256Work {
    /// Gets the memory and fills the message.
    ///
    /// # Errors
    ///
    /// [`PrepareError::Memory`] where there is none.
    pub fn new() -> Result<Self, PrepareError> {
        let mut message = filled(MESSAGE_BYTES, 0_u8)?;
        let mut random = Random::new(SEED);
        for word in message.as_chunks_mut::<8>().0 {
            *word = random.word().to_le_bytes();
        }
        Ok(Self { message })
    }
}

impl Work for Sha256Work {
    fn operations(&self) -> u64 {
        1
    }

    fn repeat(&mut self, iterations: u64) -> u64 {
        iterate(iterations, || digest_head(black_box(&self.message)))
    }

    fn figures(&self, iterations: u64, elapsed_ns: u64, emit: &mut dyn FnMut(super::work::Figure)) {
        let bytes = MESSAGE_BYTES as f64 * iterations as f64;
        emit(("bandwidth", "bytes/s", bytes * 1e9 / elapsed_ns.max(1) as f64));
    }
}

/// The first eight bytes of the digest of `message`, as they are printed.
pub fn digest_head(message: &[u8]) -> u64 {
    let digest = Sha256::digest(message);
    digest.first_chunk().map_or(0, |head| u64::from_be_bytes(*head))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_digest_is_that_of_the_standard() {
        // FIPS 180-2, appendix B.1.
        assert_eq!(digest_head(b"abc"), 0xba78_16bf_8f01_cfea);
    }
}
