//! Bit strings of 64 to 4096 bits as words.
//!
//! On the wire bit 1 is the least significant bit of the last byte (RFC 8296 section 2.1.2). In memory it is the
//! least significant bit of the first word, so that the walk of RFC 8279 section 6.5 from the lowest bit up is a walk
//! through memory. The bytes are turned around once, by [`load`], and once for each copy, by [`store`].
//!
//! The functions take slices, so that a table's masks can lie side by side; [`BitString`] owns one, for the control
//! plane. The `bitvec` crate does the same with the same layout (`BitVec<u64, Lsb0>`; a test compares them). Its
//! slices carry a bit offset, so that ANDs go through chunks rather than words: see `examples/copy_decision.rs` for
//! what that costs.

use alloc::boxed::Box;
use alloc::vec;
use core::fmt;

use crate::id::{BitPosition, Bsl};

/// Reads a bit string as it is on the wire.
///
/// # Panics
/// If the wire isn't as long as the words.
#[inline]
pub fn load(wire: &[u8], words: &mut [u64]) {
    let (chunks, rest) = wire.as_chunks::<8>();
    assert!(rest.is_empty() && chunks.len() == words.len(), "as many bytes as words");
    for (word, bytes) in words.iter_mut().zip(chunks.iter().rev()) {
        *word = u64::from_be_bytes(*bytes);
    }
}

/// Writes a bit string as it is on the wire.
///
/// # Panics
/// If the wire isn't as long as the words.
#[inline]
pub fn store(words: &[u64], wire: &mut [u8]) {
    let (chunks, rest) = wire.as_chunks_mut::<8>();
    assert!(rest.is_empty() && chunks.len() == words.len(), "as many bytes as words");
    // Four at a time, without a loop: most are that long, and the longer ones are multiples of it.
    let (fours, words) = words.as_chunks::<4>();
    let (rest, behind) = chunks.split_at_mut(words.len());
    for (four, out) in fours.iter().zip(behind.as_chunks_mut::<4>().0.iter_mut().rev()) {
        let [a, b, c, d] = four.map(u64::to_be_bytes);
        *out = [d, c, b, a];
    }
    for (word, bytes) in words.iter().zip(rest.iter_mut().rev()) {
        *bytes = word.to_be_bytes();
    }
}

/// Whether the bit is set.
#[inline]
#[must_use]
pub fn test(words: &[u64], bit: BitPosition) -> bool {
    words[bit.index() / 64] & (1 << (bit.index() % 64)) != 0
}

/// Sets the bit.
#[inline]
pub fn set(words: &mut [u64], bit: BitPosition) {
    words[bit.index() / 64] |= 1 << (bit.index() % 64);
}

/// Clears the bit.
#[inline]
pub fn clear(words: &mut [u64], bit: BitPosition) {
    words[bit.index() / 64] &= !(1 << (bit.index() % 64));
}

/// `words & mask` into `out`; whether any bit is left.
#[inline]
pub fn and(words: &[u64], mask: &[u64], out: &mut [u64]) -> bool {
    let mut any = 0;
    for ((out, word), mask) in out.iter_mut().zip(words).zip(mask) {
        *out = word & mask;
        any |= *out;
    }
    any != 0
}

/// `words &= !mask`; whether any bit is left.
#[inline]
pub fn and_not(words: &mut [u64], mask: &[u64]) -> bool {
    let mut any = 0;
    for (word, mask) in words.iter_mut().zip(mask) {
        *word &= !mask;
        any |= *word;
    }
    any != 0
}

/// Whether all set bits are set in `mask`, too.
#[inline]
#[must_use]
pub fn is_within(words: &[u64], mask: &[u64]) -> bool {
    words.iter().zip(mask).fold(0, |any, (word, mask)| any | word & !mask) == 0
}

/// `words |= other`.
#[inline]
pub fn or(words: &mut [u64], other: &[u64]) {
    for (word, other) in words.iter_mut().zip(other) {
        *word |= other;
    }
}

/// Whether no bit is set.
#[inline]
#[must_use]
pub fn is_zero(words: &[u64]) -> bool {
    words.iter().fold(0, |any, word| any | word) == 0
}

/// How many bits are set.
#[inline]
#[must_use]
pub fn popcount(words: &[u64]) -> u32 {
    words.iter().map(|word| word.count_ones()).sum()
}

/// The lowest set bit.
#[inline]
#[must_use]
pub fn lowest(words: &[u64]) -> Option<BitPosition> {
    let at = words.iter().position(|word| *word != 0)?;
    Some(BitPosition::at(at * 64 + words[at].trailing_zeros() as usize))
}

/// The set bits, lowest first.
#[inline]
#[must_use]
pub fn ones(words: &[u64]) -> Ones<'_> {
    Ones { words, at: 0, left: words.first().copied().unwrap_or(0) }
}

/// Iterator over set bits; see [`ones`].
#[derive(Clone, Debug)]
pub struct Ones<'a> {
    words: &'a [u64],
    at: usize,
    left: u64,
}

impl Iterator for Ones<'_> {
    type Item = BitPosition;

    #[inline]
    fn next(&mut self) -> Option<BitPosition> {
        while self.left == 0 {
            self.at += 1;
            self.left = *self.words.get(self.at)?;
        }
        let bit = self.left.trailing_zeros() as usize;
        self.left &= self.left - 1;
        Some(BitPosition::at(self.at * 64 + bit))
    }
}

/// A bit string that owns its words.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct BitString {
    words: Box<[u64]>,
}

impl BitString {
    /// One with no bit set.
    #[must_use]
    pub fn new(bsl: Bsl) -> Self {
        Self { words: vec![0; bsl.words()].into_boxed_slice() }
    }

    /// One with these bits set.
    #[must_use]
    pub fn of(bsl: Bsl, bits: impl IntoIterator<Item = BitPosition>) -> Self {
        let mut string = Self::new(bsl);
        bits.into_iter().for_each(|bit| string.set(bit));
        string
    }

    /// One of these words.
    ///
    /// # Panics
    /// If their number is that of no [`Bsl`].
    #[must_use]
    pub fn from_words(words: &[u64]) -> Self {
        assert!(Bsl::from_bits(words.len() as u32 * 64).is_some(), "{} words", words.len());
        Self { words: words.into() }
    }

    /// Sets a bit.
    ///
    /// # Panics
    /// If the bit lies beyond the string.
    pub fn set(&mut self, bit: BitPosition) {
        set(&mut self.words, bit);
    }

    /// Clears a bit.
    ///
    /// # Panics
    /// If the bit lies beyond the string.
    pub fn clear(&mut self, bit: BitPosition) {
        clear(&mut self.words, bit);
    }

    /// Its words, lowest first.
    #[must_use]
    pub fn words(&self) -> &[u64] {
        &self.words
    }

    /// Its words, lowest first.
    #[must_use]
    pub fn words_mut(&mut self) -> &mut [u64] {
        &mut self.words
    }

    /// The set bits, lowest first.
    #[must_use]
    pub fn ones(&self) -> Ones<'_> {
        ones(&self.words)
    }
}

impl fmt::Debug for BitString {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.ones().map(BitPosition::number)).finish()
    }
}

#[cfg(test)]
mod tests {
    use alloc::vec::Vec;

    use bitvec::prelude::{BitVec, Lsb0};
    use proptest::prelude::*;

    use super::*;

    fn bit(number: u16) -> BitPosition {
        BitPosition::new(number, Bsl::B4096).unwrap()
    }

    #[test]
    fn bit_1_is_in_the_last_byte() {
        for bsl in Bsl::ALL {
            let mut wire = vec![0; bsl.bytes()];
            store(BitString::of(bsl, [bit(1)]).words(), &mut wire);
            assert_eq!(wire.iter().position(|byte| *byte != 0), Some(bsl.bytes() - 1));
            assert_eq!(wire[bsl.bytes() - 1], 1);
            store(BitString::of(bsl, [bit(bsl.bits()), bit(9)]).words(), &mut wire);
            assert_eq!((wire[0], wire[bsl.bytes() - 2], wire[bsl.bytes() - 1]), (0x80, 1, 0));
        }
    }

    fn words(bsl: Bsl) -> impl Strategy<Value = Vec<u64>> {
        // Dense and sparse ones.
        let word = prop_oneof![any::<u64>(), Just(0), (0..64u32).prop_map(|bit| 1 << bit)];
        prop::collection::vec(word, bsl.words())
    }

    fn pairs() -> impl Strategy<Value = (Vec<u64>, Vec<u64>)> {
        // Under Miri making long ones takes minutes.
        let lengths = if cfg!(miri) { &Bsl::ALL[..3] } else { &Bsl::ALL[..] };
        prop::sample::select(lengths.to_vec()).prop_flat_map(|bsl| (words(bsl), words(bsl)))
    }

    proptest! {
        #[test]
        fn does_what_bitvec_does((a, b) in pairs()) {
            let (left, right) = (BitVec::<u64, Lsb0>::from_vec(a.clone()), BitVec::<u64, Lsb0>::from_vec(b.clone()));
            let numbers = |bits: &BitVec<u64, Lsb0>| bits.iter_ones().collect::<Vec<_>>();
            let mut out = vec![0; a.len()];
            let both = left.clone() & right.clone();
            prop_assert_eq!(and(&a, &b, &mut out), both.any());
            prop_assert_eq!(ones(&out).map(BitPosition::index).collect::<Vec<_>>(), numbers(&both));
            prop_assert_eq!(lowest(&out).map(BitPosition::index), both.first_one());
            out.copy_from_slice(&a);
            let rest = left.clone() & !right.clone();
            prop_assert_eq!(is_within(&a, &b), rest.not_any());
            prop_assert_eq!(and_not(&mut out, &b), rest.any());
            prop_assert_eq!(&out[..], rest.as_raw_slice());
            prop_assert_eq!((popcount(&out) as usize, is_zero(&out)), (rest.count_ones(), rest.not_any()));
            or(&mut out, &b);
            let all = left | right;
            prop_assert_eq!(&out[..], all.as_raw_slice());
            prop_assert!((0..all.len()).all(|index| test(&out, BitPosition::at(index)) == all[index]));
        }

        #[test]
        fn what_is_stored_is_loaded_again((a, mut b) in pairs()) {
            let mut wire = vec![0; a.len() * 8];
            store(&a, &mut wire);
            load(&wire, &mut b);
            prop_assert_eq!(&a, &b);
            // As one number, most significant byte first: bit 1 has the value 1.
            let value = |number: usize| wire[wire.len() - 1 - (number - 1) / 8] >> ((number - 1) % 8) & 1 == 1;
            prop_assert!((1..=a.len() * 64).all(|number| value(number) == test(&a, bit(number as u16))));
        }
    }
}
