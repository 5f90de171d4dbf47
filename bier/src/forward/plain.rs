//! Packets of which nothing but copies come: all of their bits lead to neighbours who are up, and they have hops left. Those are
//! most, and what has to be found out about them is so little that it is worth finding out apart.

use alloc::boxed::Box;
use alloc::vec;
use alloc::vec::Vec;

use super::{SPARSE_NEIGHBOURS_MIN, SPARSE_NEIGHBOURS_PER_BIT};
use crate::bift::{Bift, NeighbourIndex, Rows, Table};
use crate::wire::{Wire, turn};

/// The rows of all tables of a BIFT one after the other: as few steps from the BIFT to a mask as there can be, for each is one
/// that has to wait for the one before.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Flat {
    /// Of each table all masks together, and after that the mask of each row, in the order of the wire.
    masks: Box<[u64]>,
    /// The neighbour of each row.
    neighbours: Box<[NeighbourIndex]>,
    /// Where the rows of each table begin, and where those of the last one end.
    starts: Box<[usize]>,
}

impl Flat {
    pub(crate) fn new(tables: &[Table]) -> Self {
        let (mut masks, mut neighbours, mut starts) = (Vec::new(), Vec::new(), vec![0]);
        for rows in tables.iter().map(Table::rows) {
            for mask in [rows.routable()].into_iter().chain(rows.masks().chunks_exact(rows.words())) {
                let from = masks.len();
                masks.resize(from + mask.len(), 0);
                turn(mask, &mut masks[from..]);
            }
            neighbours.extend_from_slice(rows.neighbours());
            starts.push(neighbours.len());
        }
        Self { masks: masks.into(), neighbours: neighbours.into(), starts: starts.into() }
    }

    /// All masks of a table together, and its rows.
    #[inline(always)] // for each packet
    fn table<const W: usize>(&self, table: usize) -> Option<(&[u64; W], Plain<'_, W>)> {
        // Most have one, and then nothing has to be looked up.
        let (from, to) = match self.starts.len() {
            2 => (0, self.neighbours.len()),
            _ => (*self.starts.get(table)?, *self.starts.get(table + 1)?),
        };
        let (routable, masks) = self.masks.as_chunks().0.get(from + table..to + table + 1)?.split_first()?;
        Some((routable, Plain { masks, neighbours: self.neighbours.get(from..to)? }))
    }
}

/// The rows that such a packet goes by.
#[derive(Clone, Copy, Debug)]
pub struct Plain<'a, const W: usize> {
    masks: &'a [[u64; W]],
    neighbours: &'a [NeighbourIndex],
}

impl Bift {
    /// The rows of a packet that becomes copies and nothing else, as long as nobody is down; `None` for any other.
    /// [`Bift::forward`] knows what to do with all of them, and does the same with these. `W` is the number of words of this BIFT.
    #[inline(always)] // for each packet
    #[must_use]
    pub fn plain<const W: usize>(&self, bits: &Wire<W>, ttl: u8, entropy: u32) -> Option<Plain<'_, W>> {
        let (routable, plain) = self.flat().table(self.pick_table(entropy))?;
        // Our own bit is in no mask.
        (ttl > 1 && bits.is_within(routable)).then_some(plain)
    }
}

impl<'a, const W: usize> Plain<'a, W> {
    /// Whether going from bit to bit is faster than from neighbour to neighbour.
    #[inline(always)] // for each packet
    #[must_use]
    pub fn is_sparse(&self, bits: &Wire<W>) -> bool {
        let neighbours = self.masks.len();
        neighbours >= SPARSE_NEIGHBOURS_MIN
            && bits.popcount() as usize * SPARSE_NEIGHBOURS_PER_BIT <= neighbours
    }

    /// Each neighbour that gets a copy, and the mask of those of the packet's bits that it carries: from neighbour to neighbour.
    #[inline(always)] // for each packet
    pub fn copies(self, bits: &Wire<W>) -> impl Iterator<Item = (NeighbourIndex, &'a [u64; W])> {
        let all = self.neighbours.iter().copied().zip(self.masks);
        all.filter(|(_, mask)| !bits.and(mask).is_zero())
    }

    /// The same from bit to bit; `rows` are those of its table.
    #[inline]
    pub fn walk(
        self,
        rows: &'a Rows,
        mut bits: Wire<W>,
    ) -> impl Iterator<Item = (NeighbourIndex, &'a [u64; W])> {
        core::iter::from_fn(move || {
            let row = usize::from(rows.row_of()[bits.any()?.index()]);
            let mask = &self.masks[row];
            bits = bits.without(mask);
            Some((self.neighbours[row], mask))
        })
    }
}
