//! A small bit map that says of most addresses at once that a table doesn't hold them.
//!
//! Nearly every packet in transit is asked for twice: is its destination ours, is its source an instance? For nearly all of
//! them the answer is no, and one bit in the first-level cache gives it. A set bit proves nothing: the table itself decides.

use crate::addr::Addr;

/// Bits an entry has of its own on average when the map has just been sized; 1 in 16 strangers then asks the table in vain.
const BITS_PER_ENTRY: usize = 16;
/// The smallest map, in bits: eight cache lines.
const BITS_MIN: usize = 4096;
/// The largest, in bits: 32 KiB. Beyond this the map would cost more cache than it saves look-ups.
const BITS_MAX: usize = 1 << 18;

/// Which addresses a table may hold.
#[derive(Clone, Debug)]
pub struct AddrFilter {
    /// A power of two of them.
    words: Box<[u64]>,
    entries: usize,
}

impl Default for AddrFilter {
    fn default() -> Self {
        Self::with_room(0)
    }
}

impl AddrFilter {
    /// An empty map, sized for that many addresses.
    fn with_room(entries: usize) -> Self {
        let bits = (entries * BITS_PER_ENTRY).next_power_of_two().clamp(BITS_MIN, BITS_MAX);
        Self { words: vec![0; bits / 64].into_boxed_slice(), entries: 0 }
    }

    /// The map of these addresses, with room for as many more.
    pub fn of(addrs: impl Iterator<Item = Addr> + Clone) -> Self {
        let mut filter = Self::with_room(addrs.clone().count() * 2);
        addrs.for_each(|addr| filter.insert(addr));
        filter
    }

    /// Notes an address.
    pub fn insert(&mut self, addr: Addr) {
        let (word, bit) = self.place(addr);
        self.words[word] |= bit;
        self.entries += 1;
    }

    /// Whether more addresses were noted than the map was sized for, so that it is worth making a larger one.
    pub fn is_crowded(&self) -> bool {
        let bits = self.words.len() * 64;
        bits < BITS_MAX && self.entries * BITS_PER_ENTRY > bits
    }

    /// False when the table certainly doesn't hold `addr`.
    #[inline(always)]
    pub fn may_hold(&self, addr: Addr) -> bool {
        let (word, bit) = self.place(addr);
        self.words[word] & bit != 0
    }

    #[inline(always)]
    fn place(&self, addr: Addr) -> (usize, u64) {
        // Multiplication carries the low bits up: the upper half is the mixed one. Whoever picks addresses that meet a set
        // bit gains a look-up, nothing more, so there is no key.
        let mixed = (addr.0 as u64 ^ ((addr.0 >> 64) as u64).rotate_left(29))
            .wrapping_mul(0x9e37_79b9_7f4a_7c15)
            >> 32;
        ((mixed >> 6) as usize & (self.words.len() - 1), 1 << (mixed & 63))
    }
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn holds_whatever_was_noted(addrs in prop::collection::vec(any::<u128>(), 0..300)) {
            let addrs: Vec<Addr> = addrs.into_iter().map(Addr).collect();
            let filter = AddrFilter::of(addrs.iter().copied());
            prop_assert!(addrs.iter().all(|addr| filter.may_hold(*addr)));
            prop_assert!(!filter.is_crowded());
        }
    }

    #[test]
    fn tells_nearly_all_strangers_off() {
        // Neighbouring addresses, as real ones are: 1000 of a site's, and strangers from everywhere and from next door.
        let v4 = |net: u32, host: u32| Addr::v4((net + host).to_be_bytes());
        let v6 = |host: u16| Addr::from(format!("2001:db8::{host:x}").parse::<IpAddr>().unwrap());
        let ours = (0..500).map(|host| v4(0x0a00_0000, host)).chain((0..500).map(v6));
        let filter = AddrFilter::of(ours);
        let strangers = (0..10_000).map(|host| v4(0x0a00_1000, host)).chain((1000..11_000).map(v6));
        let asked = strangers.filter(|addr| filter.may_hold(*addr)).count();
        assert!(asked < 20_000 / 10, "{asked} of 20000 strangers would ask the table");
    }

    #[test]
    fn says_when_it_is_too_small_but_never_grows_without_bound() {
        let mut filter = AddrFilter::default();
        let mut numbers = (0u32..).map(|number| Addr::v4(number.to_be_bytes()));
        while !filter.is_crowded() {
            filter.insert(numbers.next().unwrap());
        }
        assert_eq!(filter.entries, BITS_MIN / BITS_PER_ENTRY + 1);
        let largest = AddrFilter::of(numbers.take(100_000));
        assert_eq!(largest.words.len() * 64, BITS_MAX);
        assert!(!largest.is_crowded(), "there is no larger one to make");
    }
}
