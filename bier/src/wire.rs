//! Bit strings in the order of the wire.
//!
//! An AND takes bits by place, so it is the same whatever the places stand for: a string that only passes is compared with
//! masks that were turned around once, when the table was made, and is never turned around itself. What has to know which bit
//! is which reads it by [`bits::load`].

use core::array;

use crate::bits;
use crate::id::BitPosition;

/// A bit string of `W` words, which are in memory as they are on the wire.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Wire<const W: usize>(pub [u64; W]);

impl<const W: usize> Wire<W> {
    /// To the wire.
    ///
    /// # Panics
    /// If that isn't `W * 8` bytes.
    #[inline(always)] // a few stores
    pub fn write(&self, bytes: &mut [u8]) {
        let (words, rest) = bytes.as_chunks_mut::<8>();
        assert!(rest.is_empty() && words.len() == W, "as many bytes as words");
        for (bytes, word) in words.iter_mut().zip(self.0) {
            *bytes = word.to_ne_bytes();
        }
    }

    /// The string of these words, which are in the order of [`bits`].
    #[inline]
    #[must_use]
    pub fn of(words: &[u64; W]) -> Self {
        let mut wire = Self([0; W]);
        turn(words, &mut wire.0);
        wire
    }

    /// Its words in the order of [`bits`].
    #[inline]
    #[must_use]
    pub fn words(&self) -> [u64; W] {
        let mut words = [0; W];
        turn(&self.0, &mut words);
        words
    }

    /// The bits that are in both.
    #[inline(always)] // one instruction or two
    #[must_use]
    pub fn and(&self, mask: &[u64; W]) -> Self {
        // A new one each time, which stays in registers: the halves of what was written in quarters can't be read at once.
        Self(array::from_fn(|word| self.0[word] & mask[word]))
    }

    /// The bits that aren't in `mask`.
    #[inline(always)] // as above
    #[must_use]
    pub fn without(&self, mask: &[u64; W]) -> Self {
        Self(array::from_fn(|word| self.0[word] & !mask[word]))
    }

    /// One of the bits that are set; which of them is nobody's promise.
    #[inline]
    #[must_use]
    pub fn any(&self) -> Option<BitPosition> {
        let (word, set) = self.0.iter().enumerate().find(|(_, word)| **word != 0)?;
        // The words stand in reverse, and so do the bytes of each.
        let bit = u64::from_be(*set).trailing_zeros() as usize;
        Some(BitPosition::at((W - 1 - word) * 64 + bit))
    }

    /// Whether no bit is set.
    #[inline(always)] // as above
    #[must_use]
    pub fn is_zero(&self) -> bool {
        bits::is_zero(&self.0)
    }

    /// How many bits are set.
    #[inline]
    #[must_use]
    pub fn popcount(&self) -> u32 {
        bits::popcount(&self.0)
    }
}

/// A bit string of `W` words where it lies in a packet, at whatever address. What is asked of it reads it there: long ones are
/// copied only where a copy is wanted.
#[derive(Clone, Copy, Debug)]
pub struct OnWire<'a, const W: usize>(&'a [[u8; 8]; W]);

impl<'a, const W: usize> OnWire<'a, W> {
    /// That of these bytes.
    ///
    /// # Panics
    /// If there aren't `W * 8`.
    #[inline(always)] // a pointer
    #[must_use]
    pub fn of(bytes: &'a [u8]) -> Self {
        let (words, rest) = bytes.as_chunks();
        assert!(rest.is_empty(), "as many bytes as words");
        Self(words.try_into().expect("as many bytes as words"))
    }

    #[inline(always)] // one load
    fn word(&self, at: usize) -> u64 {
        u64::from_ne_bytes(self.0[at])
    }

    /// A copy.
    #[inline(always)] // a few loads
    #[must_use]
    pub fn read(&self) -> Wire<W> {
        Wire(array::from_fn(|at| self.word(at)))
    }

    /// The bits that are in both.
    #[inline(always)] // as above
    #[must_use]
    pub fn and(&self, mask: &[u64; W]) -> Wire<W> {
        Wire(array::from_fn(|at| self.word(at) & mask[at]))
    }

    /// Whether any bit is in both.
    #[inline(always)] // as above
    #[must_use]
    pub fn meets(&self, mask: &[u64; W]) -> bool {
        (0..W).fold(0, |both, at| both | self.word(at) & mask[at]) != 0
    }

    /// Whether all set bits are set in `mask`, too.
    #[inline(always)] // as above
    #[must_use]
    pub fn is_within(&self, mask: &[u64; W]) -> bool {
        (0..W).fold(0, |beyond, at| beyond | self.word(at) & !mask[at]) == 0
    }

    /// How many bits are set.
    #[inline]
    #[must_use]
    pub fn popcount(&self) -> u32 {
        (0..W).map(|at| self.word(at).count_ones()).sum()
    }
}

/// Clears the bits of a string on the wire that aren't in `mask`.
///
/// # Panics
/// If that isn't `W * 8` bytes.
#[inline(always)] // a few loads and stores
pub fn clear_others<const W: usize>(string: &mut [u8], mask: &[u64; W]) {
    let (words, rest) = string.as_chunks_mut::<8>();
    assert!(rest.is_empty() && words.len() == W, "as many bytes as words");
    for (word, mask) in words.iter_mut().zip(mask) {
        *word = (u64::from_ne_bytes(*word) & mask).to_ne_bytes();
    }
}

/// Turns a string from the order of [`bits`] into that of the wire, or back. As many words there as here.
#[inline]
pub(crate) fn turn(words: &[u64], turned: &mut [u64]) {
    for (turned, word) in turned.iter_mut().zip(words.iter().rev()) {
        *turned = u64::from_ne_bytes(word.to_be_bytes());
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const W: usize = 4;

    proptest! {
        #[test]
        fn order_makes_no_difference(words: [u64; W], mask: [u64; W]) {
            let mut bytes = [0; W * 8];
            bits::store(&words, &mut bytes);
            let string = OnWire::<W>::of(&bytes);
            let wire = string.read();
            prop_assert_eq!(wire, Wire::of(&words));
            prop_assert_eq!(wire.words(), words);
            let mut written = [0; W * 8];
            wire.write(&mut written);
            prop_assert_eq!(written, bytes);
            let (turned, both) = (Wire::of(&mask).0, array::from_fn(|word| words[word] & mask[word]));
            prop_assert_eq!(wire.and(&turned), Wire::of(&both));
            prop_assert_eq!((string.and(&turned), string.popcount()), (wire.and(&turned), wire.popcount()));
            prop_assert_eq!(string.is_within(&turned), bits::is_within(&words, &mask));
            prop_assert_eq!(string.meets(&turned), !bits::is_zero(&both));
            prop_assert!(wire.without(&turned).and(&turned).is_zero());
            prop_assert_eq!(wire.without(&turned).popcount() + wire.and(&turned).popcount(), wire.popcount());
            clear_others(&mut written, &turned);
            prop_assert_eq!(OnWire::<W>::of(&written).read(), wire.and(&turned));
            prop_assert!(OnWire::<W>::of(&written).is_within(&turned));
            prop_assert!(wire.any().is_none_or(|bit| bits::test(&words, bit)) && wire.any().is_some() != wire.is_zero());
            prop_assert_eq!((wire.is_zero(), wire.popcount()), (bits::is_zero(&words), bits::popcount(&words)));
        }
    }
}
