//! How many packets are held of each source prefix.
//!
//! A map of its own, for a flood from everywhere goes through it with every packet: the chains and the counts in use are a few
//! cache lines per thousand packets, a removal leaves no mark behind, and who holds a count's place needn't look for it.

use std::hash::BuildHasher;

use hashbrown::DefaultHashBuilder;

use super::NONE;

/// The counts of all prefixes that something is held of.
#[derive(Debug)]
pub(super) struct Prefixes {
    /// The first count of each chain: those whose prefixes' hashes lead to the same place.
    chains: Box<[u32]>,
    counts: Vec<Count>,
    free: Vec<u32>,
    hasher: DefaultHashBuilder,
}

#[derive(Clone, Copy, Debug)]
struct Count {
    prefix: u64,
    held: u32,
    /// The next count of the chain.
    link: u32,
}

/// Where a prefix's count is, or would be.
#[derive(Clone, Copy, Debug)]
pub(super) struct Found {
    chain: u32,
    at: u32,
    /// Packets held of it.
    pub(super) held: u32,
}

impl Prefixes {
    /// Takes the room for `count_max` prefixes.
    pub(super) fn new(count_max: usize) -> Self {
        Self {
            chains: vec![NONE; count_max.next_power_of_two()].into_boxed_slice(),
            counts: Vec::with_capacity(count_max),
            free: Vec::with_capacity(count_max),
            hasher: DefaultHashBuilder::default(),
        }
    }

    #[inline]
    pub(super) fn find(&self, prefix: u64) -> Found {
        let chain = self.chain_of(prefix);
        let mut at = self.chains[chain as usize];
        // NONE is no count's place.
        while let Some(count) = self.counts.get(at as usize) {
            if count.prefix == prefix {
                return Found { chain, at, held: count.held };
            }
            at = count.link;
        }
        Found { chain, at: NONE, held: 0 }
    }

    /// One more of the prefix, which `found` was found for just now. The place of its count.
    #[inline]
    pub(super) fn add(&mut self, prefix: u64, found: Found) -> u32 {
        if let Some(count) = self.counts.get_mut(found.at as usize) {
            count.held += 1;
            return found.at;
        }
        let first = &mut self.chains[found.chain as usize];
        let count = Count { prefix, held: 1, link: *first };
        *first = match self.free.pop() {
            Some(at) => {
                self.counts[at as usize] = count;
                at
            }
            None => {
                self.counts.push(count);
                (self.counts.len() - 1) as u32
            }
        };
        *first
    }

    /// One less, by the place of the count.
    #[inline]
    pub(super) fn remove(&mut self, at: u32) {
        let count = &mut self.counts[at as usize];
        count.held -= 1;
        if count.held > 0 {
            return;
        }
        let Count { prefix, link, .. } = *count;
        let chain = self.chain_of(prefix) as usize;
        let mut before = self.chains[chain];
        if before == at {
            self.chains[chain] = link;
        } else {
            while self.counts[before as usize].link != at {
                before = self.counts[before as usize].link;
            }
            self.counts[before as usize].link = link;
        }
        self.free.push(at);
    }

    #[inline]
    fn chain_of(&self, prefix: u64) -> u32 {
        self.hasher.hash_one(prefix) as u32 & (self.chains.len() - 1) as u32
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        /// Few prefixes over fewer chains, so that chains are long and come and go.
        #[test]
        fn counts_are_those_of_a_map(steps in prop::collection::vec((0..12_u64, any::<bool>()), 0..200)) {
            let mut prefixes = Prefixes::new(12);
            prefixes.chains = vec![NONE; 4].into_boxed_slice();
            let mut model: HashMap<u64, Vec<u32>> = HashMap::new();
            for (prefix, enters) in steps {
                let places = model.entry(prefix).or_default();
                let found = prefixes.find(prefix);
                prop_assert_eq!(found.held as usize, places.len());
                if enters {
                    places.push(prefixes.add(prefix, found));
                } else if let Some(place) = places.pop() {
                    prefixes.remove(place);
                }
                prop_assert_eq!(prefixes.find(prefix).held as usize, model[&prefix].len());
            }
            prop_assert!(prefixes.counts.len() <= 12);
        }
    }
}
