//! SipHash-1-3 of words that are in registers already.
//!
//! Flows and names are hashed once a packet, with a key, for strangers choose both. The `siphasher` crate takes bytes in
//! memory; what is hashed here is put together from header fields, or folded eight bytes at a time on its way from the
//! packet, so that writing it down first costs as much as the hash itself. The result is the same, which a test holds.

/// The state of a hash with its key.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Sip([u64; 4]);

impl Sip {
    /// Nothing is hashed yet.
    #[inline(always)]
    pub(crate) fn new(keys: [u64; 2]) -> Self {
        let [k0, k1] = keys;
        Self([
            k0 ^ 0x736f_6d65_7073_6575,
            k1 ^ 0x646f_7261_6e64_6f6d,
            k0 ^ 0x6c79_6765_6e65_7261,
            k1 ^ 0x7465_6462_7974_6573,
        ])
    }

    /// Hashes eight bytes, the first in the lowest byte of `word`.
    #[inline(always)]
    pub(crate) fn word(self, word: u64) -> Self {
        let [v0, v1, v2, v3] = self.0;
        let Sip([v0, v1, v2, v3]) = Sip([v0, v1, v2, v3 ^ word]).round();
        Self([v0 ^ word, v1, v2, v3])
    }

    /// The hash of `len` bytes, of which the last `len % 8` are in the lowest bytes of `rest`, whose others are 0.
    #[inline(always)]
    pub(crate) fn finish(self, rest: u64, len: usize) -> u64 {
        let Sip([v0, v1, v2, v3]) = self.word((len as u64) << 56 | rest);
        let Sip([v0, v1, v2, v3]) = Sip([v0, v1, v2 ^ 0xff, v3]).round().round().round();
        v0 ^ v1 ^ v2 ^ v3
    }

    #[inline(always)]
    fn round(self) -> Self {
        let [mut v0, mut v1, mut v2, mut v3] = self.0;
        v0 = v0.wrapping_add(v1);
        v2 = v2.wrapping_add(v3);
        v1 = v1.rotate_left(13) ^ v0;
        v3 = v3.rotate_left(16) ^ v2;
        v0 = v0.rotate_left(32);
        v2 = v2.wrapping_add(v1);
        v0 = v0.wrapping_add(v3);
        v1 = v1.rotate_left(17) ^ v2;
        v3 = v3.rotate_left(21) ^ v0;
        v2 = v2.rotate_left(32);
        Self([v0, v1, v2, v3])
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use siphasher::sip::SipHasher13;

    use super::*;

    proptest! {
        #[test]
        fn agrees_with_the_crate(keys in any::<[u64; 2]>(), bytes in prop::collection::vec(any::<u8>(), 0..300)) {
            let (words, rest) = bytes.as_chunks::<8>();
            let sip = words.iter().fold(Sip::new(keys), |sip, word| sip.word(u64::from_le_bytes(*word)));
            let mut last = [0; 8];
            last[..rest.len()].copy_from_slice(rest);
            prop_assert_eq!(
                sip.finish(u64::from_le_bytes(last), bytes.len()),
                SipHasher13::new_with_keys(keys[0], keys[1]).hash(&bytes)
            );
        }
    }
}
