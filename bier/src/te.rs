//! Tree Engineering for BIER (BIER-TE, RFC 9262): bits stand for adjacencies instead of routers, so a bit string
//! names the tree itself, branch by branch.
//!
//! A router clears the bits of all its own adjacencies first (section 4.4), so that no packet comes by the same
//! branch twice; a branch whose bit has to survive, as on a ring with one bit for all its links, has "do not clear"
//! (DNC). There is no mask for each neighbour and no rule of one copy for each: a bit is a copy.

use alloc::boxed::Box;
use alloc::vec;
use alloc::vec::Vec;

use crate::bits;
use crate::ecmp::{Choice, pick};
use crate::forward::{Outcome, Packet};
use crate::id::{BiftKey, BitPosition};

/// Where one copy goes (RFC 9262 section 4.2). Interfaces, neighbours and VRFs are numbers of the caller's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Adjacency {
    /// To a neighbour on a link: section 4.2.1.
    ForwardConnected {
        /// The interface.
        interface: u32,
        /// The neighbour on it.
        neighbour: u32,
        /// Whether the bit stays set in the copy.
        do_not_clear: bool,
    },
    /// To a BFR further away, through a tunnel: section 4.2.2.
    ForwardRouted {
        /// In which routing table it is reached.
        vrf: Option<u32>,
        /// The router.
        neighbour: u32,
    },
    /// To the overlay here: section 4.2.4.
    LocalDecap {
        /// For which routing table.
        vrf: Option<u32>,
    },
}

/// What one bit stands for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Adjacencies {
    /// All of these: usually one, for some topologies more.
    All(Vec<Adjacency>),
    /// One of these, by a packet's entropy (section 4.2.3).
    Ecmp {
        /// Between which.
        list: Vec<Adjacency>,
        /// What makes this choice differ from others.
        seed: u32,
    },
}

/// A bit without an adjacency, or a bit twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TeError {
    /// An empty list: leave the bit out instead.
    #[error("item {item}: bit {} has no adjacency", bit.number())]
    NoAdjacency {
        /// Its place among the items.
        item: usize,
        /// The bit.
        bit: BitPosition,
    },
    /// A bit that an earlier item has.
    #[error("item {item}: bit {} is already that of item {first}", bit.number())]
    Repeated {
        /// Its place among the items.
        item: usize,
        /// The earlier item.
        first: usize,
        /// The bit.
        bit: BitPosition,
    },
    /// A bit beyond the length of bit strings.
    #[error("item {item}: there is no bit {}", bit.number())]
    Beyond {
        /// Its place among the items.
        item: usize,
        /// The bit.
        bit: BitPosition,
    },
}

/// The table for one sub-domain, set and length.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TeBift {
    key: BiftKey,
    /// The bits that are adjacencies of this router.
    adjacent: Box<[u64]>,
    by_bit: Box<[Option<Adjacencies>]>,
}

/// What a decision depends on, and what is to be done, as in [`forward`](crate::forward).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TeCopy<'a> {
    /// Where it goes.
    pub adjacency: Adjacency,
    /// What it carries: all that isn't adjacent here, and with DNC its own bit.
    pub bits: &'a [u64],
}

impl TeBift {
    /// The table of these bits.
    ///
    /// # Errors
    /// All that is wrong with the items.
    pub fn new(key: BiftKey, items: Vec<(BitPosition, Adjacencies)>) -> Result<Self, Vec<TeError>> {
        let words = key.bsl.words();
        let mut adjacent = vec![0; words];
        let mut by_bit: Vec<Option<Adjacencies>> = vec![None; words * 64];
        let mut errors = Vec::new();
        let mut first_item = vec![0; words * 64];
        for (item, (bit, adjacencies)) in items.into_iter().enumerate() {
            let (Adjacencies::All(list) | Adjacencies::Ecmp { list, .. }) = &adjacencies;
            if bit.number() > key.bsl.bits() {
                errors.push(TeError::Beyond { item, bit });
            } else if list.is_empty() {
                errors.push(TeError::NoAdjacency { item, bit });
            } else if by_bit[bit.index()].is_some() {
                errors.push(TeError::Repeated { item, first: first_item[bit.index()], bit });
            } else {
                bits::set(&mut adjacent, bit);
                first_item[bit.index()] = item;
                by_bit[bit.index()] = Some(adjacencies);
            }
        }
        if !errors.is_empty() {
            return Err(errors);
        }
        Ok(Self { key, adjacent: adjacent.into(), by_bit: by_bit.into() })
    }

    /// What it is for.
    #[must_use]
    pub fn key(&self) -> BiftKey {
        self.key
    }

    /// The bits that have adjacencies, and what each stands for.
    pub fn iter(&self) -> impl Iterator<Item = (BitPosition, &Adjacencies)> {
        let of = |bit: BitPosition| Some((bit, self.by_bit[bit.index()].as_ref()?));
        bits::ones(&self.adjacent).filter_map(of)
    }

    /// Finds out what to do with a packet (RFC 9262 section 4.4). Allocates nothing. The TTL counts as with BIER (RFC
    /// 8296 section 2.1.1.1): with TTL 1 the overlay is served and nothing is sent on.
    ///
    /// A packet none of whose bits is adjacent is simply not copied.
    ///
    /// # Panics
    /// If the packet has fewer words than this table.
    #[inline]
    pub fn forward(&self, packet: Packet<'_>, visit: impl FnMut(TeCopy<'_>)) -> Outcome {
        match self.key.bsl.words() {
            1 => self.sized::<1>(packet, visit),
            2 => self.sized::<2>(packet, visit),
            4 => self.sized::<4>(packet, visit),
            8 => self.sized::<8>(packet, visit),
            16 => self.sized::<16>(packet, visit),
            32 => self.sized::<32>(packet, visit),
            _ => self.sized::<64>(packet, visit),
        }
    }

    fn sized<const W: usize>(&self, packet: Packet<'_>, mut visit: impl FnMut(TeCopy<'_>)) -> Outcome {
        let bits: &[u64; W] = packet.bits.first_chunk().expect("as many words as the table's");
        let (mut todo, mut base) = ([0; W], *bits);
        bits::and(bits, &self.adjacent, &mut todo);
        bits::and_not(&mut base, &self.adjacent);
        if packet.ttl == 0 {
            return Outcome::Expired;
        }
        let mut outcome = Outcome::Forwarded;
        for bit in bits::ones(&todo) {
            let one;
            let adjacencies = match self.by_bit[bit.index()]
                .as_ref()
                .expect("each bit of `adjacent` has its adjacencies")
            {
                Adjacencies::All(list) => &list[..],
                Adjacencies::Ecmp { list, seed } => {
                    one = pick(packet.entropy, *seed, Choice::Adjacency, list.len());
                    &list[one..=one]
                }
            };
            for adjacency in adjacencies.iter().copied() {
                let leaves = !matches!(adjacency, Adjacency::LocalDecap { .. });
                if leaves && packet.ttl == 1 {
                    outcome = Outcome::Expired;
                    continue;
                }
                let keep = matches!(adjacency, Adjacency::ForwardConnected { do_not_clear: true, .. });
                if keep {
                    bits::set(&mut base, bit);
                }
                visit(TeCopy { adjacency, bits: &base });
                if keep {
                    bits::clear(&mut base, bit);
                }
            }
        }
        outcome
    }
}

#[cfg(test)]
mod tests;
