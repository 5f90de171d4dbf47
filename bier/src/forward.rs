//! What becomes of a packet: the forwarding procedure of RFC 8279 section 6.5, and a faster one with the same result.
//!
//! The procedure of the RFC goes from set bit to set bit: the lowest one names a neighbour, the neighbour's mask
//! takes all its bits away, and so on. The masks of a table are disjoint, so it is the same to go from neighbour to
//! neighbour: one AND and one test each, without a branch that depends on the one before. Strings with few bits among
//! many neighbours are walked.
//!
//! There is no check where a packet came from, and none that it isn't sent back there: a bit that leads back is sent
//! back (no split horizon, RFC 8279 section 6.5), and loops end by TTL.

mod plain;

use alloc::boxed::Box;
use alloc::vec::Vec;
use core::array;
use core::sync::atomic::{AtomicU64, Ordering};

use crate::bift::{Bift, NULL_ROW, NeighbourIndex, Rows, Table};
use crate::bits;
use crate::id::BitPosition;
pub(crate) use plain::Flat;
pub use plain::{NextHop, Plain};

/// What a decision depends on.
#[derive(Clone, Copy, Debug)]
pub struct Packet<'a> {
    /// The bit string, as many words as those of the BIFT.
    pub bits: &'a [u64],
    /// As it was received. A BFIR, whose packet was received from nobody, says 255, and writes into copies what it wants.
    pub ttl: u8,
    /// 20 bits.
    pub entropy: u32,
}

/// Something to do with a packet. In which order parts come is nobody's promise.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part<'a> {
    /// Give the payload to the overlay: our own bit was set. At most once.
    Local,
    /// Send a copy with this bit string and TTL - 1, or the payload alone where the neighbour is a network of hosts. At most
    /// once for each neighbour.
    Copy {
        /// To whom.
        neighbour: NeighbourIndex,
        /// What the copy carries.
        bits: &'a [u64],
    },
    /// Count: these bits have no way. At most once while all neighbours are up.
    Unroutable(&'a [u64]),
}

/// How a packet fared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub enum Outcome {
    /// All its bits have got their due.
    Forwarded,
    /// The TTL stopped it (RFC 8296 section 2.1.1.1): its own bit may have been served, others weren't. Should be
    /// punted, at a limited rate, for traces to work.
    Expired,
}

impl Outcome {
    /// Whether the TTL stopped the packet.
    #[must_use]
    pub fn expired(self) -> bool {
        self == Self::Expired
    }
}

/// How to find the copies. All ways give the same parts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Procedure {
    /// From bit to bit, as RFC 8279 section 6.5 has it.
    BitWalk,
    /// From neighbour to neighbour.
    NeighbourMajor,
    /// Whichever is faster for this bit string.
    Fastest,
}

/// A walk is faster if each of the set bits stands for this many neighbours or more. Measured with
/// `examples/copy_decision.rs`.
const SPARSE_NEIGHBOURS_PER_BIT: usize = 8;
/// With fewer neighbours than this, counting bits costs more than a walk could save.
const SPARSE_NEIGHBOURS_MIN: usize = 16;

impl Bift {
    /// Finds out what to do with a packet. Allocates nothing.
    ///
    /// # Panics
    /// If the packet has fewer words than this BIFT.
    #[inline]
    pub fn forward(&self, packet: Packet<'_>, down: &Down, visit: impl FnMut(Part<'_>)) -> Outcome {
        self.forward_by(Procedure::Fastest, packet, down, visit)
    }

    /// The same by a chosen procedure.
    ///
    /// # Panics
    /// If the packet has fewer words than this BIFT.
    #[inline]
    pub fn forward_by(
        &self,
        procedure: Procedure,
        packet: Packet<'_>,
        down: &Down,
        visit: impl FnMut(Part<'_>),
    ) -> Outcome {
        match self.key().bsl.words() {
            1 => self.forward_sized::<1>(procedure, packet, down, visit),
            2 => self.forward_sized::<2>(procedure, packet, down, visit),
            4 => self.forward_sized::<4>(procedure, packet, down, visit),
            8 => self.forward_sized::<8>(procedure, packet, down, visit),
            16 => self.forward_sized::<16>(procedure, packet, down, visit),
            32 => self.forward_sized::<32>(procedure, packet, down, visit),
            _ => self.forward_sized::<64>(procedure, packet, down, visit),
        }
    }

    /// The same for who has chosen the code for the length: `W` is the number of words of this BIFT. Loops over words have a
    /// known end then, and what the caller does with the bits of a copy is compiled for that length as well.
    ///
    /// # Panics
    /// If the packet, or this BIFT, has fewer words than `W`.
    #[inline]
    pub fn forward_sized<const W: usize>(
        &self,
        procedure: Procedure,
        packet: Packet<'_>,
        down: &Down,
        mut visit: impl FnMut(Part<'_>),
    ) -> Outcome {
        let bits: &[u64; W] = packet.bits.first_chunk().expect("as many words as the table's");
        if packet.ttl <= 1 {
            return self.last_hop(packet, bits, &mut visit);
        }
        let table = self.table(packet.entropy);
        if down.is_empty() {
            self.run(procedure, table.rows(), bits, &mut visit);
        } else {
            self.run_around(down, procedure, table, bits, &mut visit);
        }
        Outcome::Forwarded
    }

    /// While somebody is down.
    #[inline(never)] // what nobody's failure concerns doesn't carry this along
    fn run_around<const W: usize>(
        &self,
        down: &Down,
        procedure: Procedure,
        table: &Table,
        bits: &[u64; W],
        visit: &mut impl FnMut(Part<'_>),
    ) {
        // Nothing is prepared for neighbours that no bit leads to. Rows prepared for one failure may lead to a neighbour
        // that fails as well.
        let rows = down.iter().find_map(|neighbour| table.on_failure(neighbour)).unwrap_or(table.rows());
        self.run(procedure, rows, bits, &mut |part: Part<'_>| match part {
            Part::Copy { neighbour, bits } if down.is_down(neighbour) => visit(Part::Unroutable(bits)),
            part => visit(part),
        });
    }

    /// TTL 0 and 1: nothing is sent on; with TTL 1 the own bit is served (RFC 8296 section 2.1.1.1), and those of hosts, whose
    /// egress we are.
    #[inline(never)] // as below
    fn last_hop<const W: usize>(
        &self,
        Packet { ttl, entropy, .. }: Packet<'_>,
        bits: &[u64; W],
        visit: &mut impl FnMut(Part<'_>),
    ) -> Outcome {
        let mut others = *bits;
        if ttl == 1 {
            if let Some(local) = self.local().filter(|local| bits::test(bits, *local)) {
                visit(Part::Local);
                bits::clear(&mut others, local);
            }
            for (neighbour, mask) in self.hosts(entropy) {
                let mut theirs = [0; W];
                if bits::and(bits, mask, &mut theirs) {
                    visit(Part::Copy { neighbour, bits: &theirs });
                    bits::and_not(&mut others, &theirs);
                }
            }
        }
        if ttl == 0 || !bits::is_zero(&others) { Outcome::Expired } else { Outcome::Forwarded }
    }

    #[inline]
    fn run<const W: usize>(
        &self,
        procedure: Procedure,
        rows: &Rows,
        bits: &[u64; W],
        visit: &mut impl FnMut(Part<'_>),
    ) {
        let sparse = match procedure {
            Procedure::BitWalk => true,
            Procedure::NeighbourMajor => false,
            Procedure::Fastest => {
                let neighbours = rows.neighbours().len();
                neighbours >= SPARSE_NEIGHBOURS_MIN
                    && bits::popcount(bits) as usize * SPARSE_NEIGHBOURS_PER_BIT <= neighbours
            }
        };
        if sparse {
            bit_walk(rows, self.local(), *bits, visit);
        } else {
            neighbour_major(rows, self.local(), bits, visit);
        }
    }
}

/// RFC 8279 section 6.5, step by step.
#[inline(never)] // few strings are sparse: the others don't carry this along
fn bit_walk<const W: usize>(
    rows: &Rows,
    local: Option<BitPosition>,
    mut bits: [u64; W],
    visit: &mut impl FnMut(Part<'_>),
) {
    let (masks, _) = rows.masks().as_chunks::<W>();
    let mut copy = [0; W];
    // Steps 1 and 2: done if there is none, else the lowest.
    while let Some(bit) = bits::lowest(&bits) {
        // Step 3: it is us.
        if local == Some(bit) {
            visit(Part::Local);
            bits::clear(&mut bits, bit);
            continue;
        }
        // Steps 4 to 7: its row, a copy with what the row's mask leaves, and the rest goes on.
        match rows.row_of()[bit.index()] {
            NULL_ROW => {
                copy = bits;
                bits::and_not(&mut copy, rows.routable());
                if let Some(local) = local {
                    bits::clear(&mut copy, local);
                }
                visit(Part::Unroutable(&copy));
                let unroutable = copy;
                bits::and_not(&mut bits, &unroutable);
            }
            row => {
                let row = usize::from(row);
                bits::and(&bits, &masks[row], &mut copy);
                visit(Part::Copy { neighbour: rows.neighbours()[row], bits: &copy });
                bits::and_not(&mut bits, &masks[row]);
            }
        }
    }
}

/// The same, from neighbour to neighbour.
#[inline]
fn neighbour_major<const W: usize>(
    rows: &Rows,
    local: Option<BitPosition>,
    bits: &[u64; W],
    visit: &mut impl FnMut(Part<'_>),
) {
    // Only without a bit is it another string.
    let mut others;
    let bits = match local.filter(|local| bits::test(bits, *local)) {
        Some(local) => {
            visit(Part::Local);
            others = *bits;
            bits::clear(&mut others, local);
            &others
        }
        None => bits,
    };
    let (masks, _) = rows.masks().as_chunks::<W>();
    for (mask, neighbour) in masks.iter().zip(rows.neighbours()) {
        // A new one each time, which stays in registers: the halves of what was written in quarters can't be read at once.
        let copy: [u64; W] = array::from_fn(|word| bits[word] & mask[word]);
        if !bits::is_zero(&copy) {
            visit(Part::Copy { neighbour: *neighbour, bits: &copy });
        }
    }
    if !bits::is_within(bits, rows.routable()) {
        let mut copy = *bits;
        bits::and_not(&mut copy, rows.routable());
        visit(Part::Unroutable(&copy));
    }
}

/// Which neighbours can't be reached: one flag each, set by whoever notices, read by all workers. While a flag is
/// set, copies go by the rows prepared for that failure, which know of all that fail with it; with others set as well, by
/// those for the first, and bits that lead to another one that is down have no way until tables are computed anew.
#[derive(Debug, Default)]
pub struct Down {
    flags: Box<[AtomicU64]>,
}

impl Down {
    /// All up.
    #[must_use]
    pub fn new(neighbours: usize) -> Self {
        let words: Vec<_> = (0..neighbours.div_ceil(64)).map(|_| AtomicU64::new(0)).collect();
        Self { flags: words.into() }
    }

    /// Sets or clears the flag of one.
    ///
    /// # Panics
    /// If there is no such neighbour.
    pub fn set(&self, neighbour: NeighbourIndex, down: bool) {
        let (word, bit) = (usize::from(neighbour.0) / 64, 1 << (neighbour.0 % 64));
        // The flag stands for itself; nothing else is published with it.
        if down {
            self.flags[word].fetch_or(bit, Ordering::Relaxed);
        } else {
            self.flags[word].fetch_and(!bit, Ordering::Relaxed);
        }
    }

    /// Whether this neighbour is down.
    #[inline]
    #[must_use]
    pub fn is_down(&self, neighbour: NeighbourIndex) -> bool {
        let word = self.flags.get(usize::from(neighbour.0) / 64);
        word.is_some_and(|word| word.load(Ordering::Relaxed) & 1 << (neighbour.0 % 64) != 0)
    }

    /// Whether none is down.
    #[inline]
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.flags.iter().all(|word| word.load(Ordering::Relaxed) == 0)
    }

    /// Those that are down.
    pub fn iter(&self) -> impl Iterator<Item = NeighbourIndex> {
        self.flags.iter().enumerate().flat_map(|(at, word)| {
            let mut word = word.load(Ordering::Relaxed);
            core::iter::from_fn(move || {
                let bit = (word != 0).then(|| word.trailing_zeros())?;
                word &= word - 1;
                Some(NeighbourIndex((at * 64) as u16 + bit as u16))
            })
        })
    }
}

#[cfg(test)]
mod tests;
