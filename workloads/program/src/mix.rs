//! A seeded generator and a checksum step, both one line of integer arithmetic: the same on every machine.

/// SplitMix64 (Steele, Lea, Flood: "Fast splittable pseudorandom number generators", OOPSLA 2014).
pub struct Random(u64);

/// 2^64 divided by the golden ratio, the increment of SplitMix64.
const GOLDEN_GAMMA: u64 = 0x9e37_79b9_7f4a_7c15;

impl Random {
    /// A generator that gives the same sequence for the same seed.
    pub const fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// The next 64 bits.
    #[inline]
    pub fn word(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(GOLDEN_GAMMA);
        finish(self.0)
    }

    /// A number below `bound` (0 for the bound 0), by multiplication: the bias is below 2^-32 for bounds up
    /// to 2^32.
    #[inline]
    pub fn below(&mut self, bound: u32) -> u32 {
        let high = ((self.word() >> 32) * u64::from(bound)) >> 32;
        // The product of two 32-bit numbers, shifted right by 32, fits in 32 bits.
        u32::try_from(high).unwrap_or(0)
    }
}

#[inline]
const fn finish(seed: u64) -> u64 {
    let mut z = seed;
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// Takes `value` into the checksum `sum`; the order of the values matters.
#[inline]
pub const fn fold(sum: u64, value: u64) -> u64 {
    finish(sum.rotate_left(25) ^ value.wrapping_add(GOLDEN_GAMMA))
}

/// Takes bytes into the checksum, eight at a time, and their number.
pub fn fold_bytes(sum: u64, bytes: &[u8]) -> u64 {
    let (words, rest) = bytes.as_chunks::<8>();
    let sum = words.iter().fold(sum, |sum, word| fold(sum, u64::from_le_bytes(*word)));
    let sum = rest.iter().fold(sum, |sum, byte| fold(sum, u64::from(*byte)));
    fold(sum, bytes.len() as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_generator_is_splitmix64() {
        // The first outputs for the seed 1234567 as in the reference implementation by Vigna.
        let mut random = Random::new(1_234_567);
        assert_eq!(random.word(), 6_457_827_717_110_365_317);
        assert_eq!(random.word(), 3_203_168_211_198_807_973);
    }

    #[test]
    fn below_stays_below_and_reaches_everything() {
        let mut random = Random::new(1);
        let mut seen = [false; 7];
        for _ in 0..1000 {
            seen[random.below(7) as usize] = true;
        }
        assert_eq!(seen, [true; 7]);
        assert_eq!(random.below(0), 0);
        assert_eq!(random.below(1), 0);
    }

    #[test]
    fn the_checksum_notices_order_length_and_content() {
        assert_ne!(fold(fold(0, 1), 2), fold(fold(0, 2), 1));
        assert_ne!(fold_bytes(0, b"abc"), fold_bytes(0, b"abc\0"));
        assert_ne!(fold_bytes(0, b"12345678"), fold_bytes(0, b"12345679"));
    }
}
