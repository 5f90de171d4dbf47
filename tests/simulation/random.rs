//! Everything random comes from here, and so from the seed.

#[path = "../../fastpath/tests/all/common/random.rs"]
mod generator;

pub(crate) use generator::Random;

/// A digest of what happened, and of bytes in tables of the simulation's own (FNV-1a over words).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Digest(pub(crate) u64);

impl Default for Digest {
    fn default() -> Self {
        Self(0xcbf2_9ce4_8422_2325)
    }
}

impl Digest {
    pub(crate) fn number(&mut self, number: u64) {
        self.0 = (self.0 ^ number).wrapping_mul(0x0000_0100_0000_01b3).rotate_left(23);
    }

    pub(crate) fn bytes(&mut self, bytes: &[u8]) {
        self.number(bytes.len() as u64);
        for word in bytes.chunks(8) {
            let mut whole = [0; 8];
            whole[..word.len()].copy_from_slice(word);
            self.number(u64::from_le_bytes(whole));
        }
    }

    pub(crate) fn of(bytes: &[u8]) -> u64 {
        let mut digest = Self::default();
        digest.bytes(bytes);
        digest.0
    }
}

/// Fills `into` with the bytes that connection `id` says from `offset` on.
pub(crate) fn pattern(id: u64, offset: usize, into: &mut [u8]) {
    for (at, byte) in into.iter_mut().enumerate() {
        let at = (offset + at) as u64;
        let word = (id ^ (at / 8)).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        *byte = (word ^ (word >> 29)).to_le_bytes()[(at % 8) as usize];
    }
}
