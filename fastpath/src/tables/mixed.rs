//! The hash of tables that only the operator puts keys into: our own addresses, and the endpoints of services.
//!
//! Nobody gains by choosing addresses that meet others here, for what is asked after isn't put in. So there is no key,
//! and a look-up costs a few multiplications; every packet has one or two.

use std::hash::{BuildHasherDefault, Hasher};

use hashbrown::HashMap;

/// A map whose keys are the operator's.
pub(crate) type MixedMap<K, V> = HashMap<K, V, BuildHasherDefault<Mixer>>;

/// Mixes words by multiplication, both halves of whose products count.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Mixer(u64);

/// Odd, with its bits spread: the golden ratio.
const MIX: u64 = 0x9e37_79b9_7f4a_7c15;

/// One step.
#[inline(always)]
pub(crate) fn mix(word: u64) -> u64 {
    let product = u128::from(word) * u128::from(MIX);
    product as u64 ^ (product >> 64) as u64
}

impl Hasher for Mixer {
    #[inline]
    fn write(&mut self, bytes: &[u8]) {
        bytes.iter().for_each(|byte| self.write_u64(u64::from(*byte)));
    }

    #[inline(always)]
    fn write_u64(&mut self, word: u64) {
        self.0 = mix(self.0 ^ word);
    }

    #[inline(always)]
    fn write_u128(&mut self, word: u128) {
        self.write_u64(word as u64 ^ ((word >> 64) as u64).rotate_left(29));
    }

    #[inline(always)]
    fn finish(&self) -> u64 {
        self.0
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;
    use std::hash::Hash;

    use super::*;
    use crate::addr::Addr;

    #[test]
    fn neighbouring_addresses_spread() {
        let hash = |addr: Addr| {
            let mut mixer = Mixer::default();
            addr.hash(&mut mixer);
            mixer.finish()
        };
        let v4 = (0..4096u32).map(|host| Addr::v4((0xc000_0200 + host).to_be_bytes()));
        let v6 = (0..4096u128).map(|host| Addr(0x2001_0db8 << 96 | host << 64 | 1));
        // Buckets and tags come from the two ends of the hash.
        for addrs in [v4.collect::<Vec<_>>(), v6.collect()] {
            let low: HashSet<u64> = addrs.iter().map(|addr| hash(*addr) & 0xfff).collect();
            assert!(low.len() > 2300, "{} of 4096 places, where chance gives 2589", low.len());
            let high: HashSet<u64> = addrs.iter().map(|addr| hash(*addr) >> 57).collect();
            assert_eq!(high.len(), 128);
        }
    }
}
