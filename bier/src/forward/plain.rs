//! Packets of which nothing but copies come: all of their bits lead to neighbours who are up, and they have hops left. Those are
//! most, and what has to be found out about them is so little that it is worth finding out apart.

use alloc::boxed::Box;
use alloc::vec;
use alloc::vec::Vec;

use super::{SPARSE_NEIGHBOURS_MIN, SPARSE_NEIGHBOURS_PER_BIT};
use crate::bift::{Bift, LinkId, NeighbourIndex, Rows, Table};
use crate::bift_id::BiftId;
use crate::wire::{OnWire, Wire, turn};

/// To whom a row leads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NextHop {
    /// The BIFT-id that copies carry, and their link; `None` if [`Bift::exit`] has to choose one of several.
    pub exit: Option<(BiftId, LinkId)>,
    /// The neighbour.
    pub neighbour: NeighbourIndex,
}

/// The rows of all tables of a BIFT one after the other: as few steps from the BIFT to a mask as there can be, for each is one
/// that has to wait for the one before.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Flat {
    /// Of each table all masks together, and after that the mask of each row, in the order of the wire.
    masks: Box<[u64]>,
    /// To whom each row leads.
    hops: Box<[NextHop]>,
    /// Where the rows of each table begin, and where those of the last one end.
    starts: Box<[usize]>,
}

impl Flat {
    /// Those of these tables. `exits` are by neighbour.
    pub(crate) fn new(tables: &[Table], exits: &[Option<(BiftId, LinkId)>]) -> Self {
        let (mut masks, mut hops, mut starts) = (Vec::new(), Vec::new(), vec![0]);
        for rows in tables.iter().map(Table::rows) {
            for mask in [rows.routable()].into_iter().chain(rows.masks().chunks_exact(rows.words())) {
                let from = masks.len();
                masks.resize(from + mask.len(), 0);
                turn(mask, &mut masks[from..]);
            }
            let hop = |neighbour: &NeighbourIndex| NextHop {
                exit: exits[usize::from(neighbour.0)],
                neighbour: *neighbour,
            };
            hops.extend(rows.neighbours().iter().map(hop));
            starts.push(hops.len());
        }
        Self { masks: masks.into(), hops: hops.into(), starts: starts.into() }
    }

    #[inline(always)] // for each packet
    fn table<const W: usize>(&self, table: usize) -> Option<Plain<'_, W>> {
        let (from, to) = (*self.starts.get(table)?, *self.starts.get(table + 1)?);
        Plain::of(self.masks.as_chunks().0.get(from + table..)?, self.hops.get(from..to)?)
    }
}

/// The rows of a table for such packets.
#[derive(Clone, Copy, Debug)]
pub struct Plain<'a, const W: usize> {
    /// All masks together.
    routable: &'a [u64; W],
    masks: &'a [[u64; W]],
    hops: &'a [NextHop],
}

impl Bift {
    /// The rows by which packets of this entropy go that become copies and nothing else, as long as nobody is down.
    /// [`Bift::forward`] knows what to do with all packets, and does the same with these. `W` is the number of words of this BIFT.
    #[inline]
    #[must_use]
    pub fn plain<const W: usize>(&self, entropy: u32) -> Option<Plain<'_, W>> {
        self.flat().table(self.pick_table(entropy))
    }

    /// The same of a BIFT with one table, whatever the entropy.
    #[inline(always)] // packets of many tables need one each
    #[must_use]
    pub fn only<const W: usize>(&self) -> Option<Plain<'_, W>> {
        let Flat { masks, hops, starts } = self.flat();
        // Where the one table begins, and where it ends.
        if starts.len() == 2 { Plain::of(masks.as_chunks().0, hops) } else { None }
    }
}

impl<'a, const W: usize> Plain<'a, W> {
    /// Rows that lead there, from their masks: that of all together, and then their own.
    #[inline(always)] // for each packet
    fn of(masks: &'a [[u64; W]], hops: &'a [NextHop]) -> Option<Self> {
        let (routable, masks) = masks.split_first()?;
        Some(Self { routable, masks: masks.get(..hops.len())?, hops })
    }

    /// Whether a packet becomes copies and nothing else.
    #[inline(always)] // for each packet
    #[must_use]
    pub fn takes(&self, bits: OnWire<'_, W>, ttl: u8) -> bool {
        // Our own bit is in no mask.
        ttl > 1 && bits.is_within(self.routable)
    }

    /// Whether going from bit to bit is faster than from neighbour to neighbour.
    #[inline(always)] // for each packet
    #[must_use]
    pub fn is_sparse(&self, bits: OnWire<'_, W>) -> bool {
        let neighbours = self.masks.len();
        neighbours >= SPARSE_NEIGHBOURS_MIN
            && bits.popcount() as usize * SPARSE_NEIGHBOURS_PER_BIT <= neighbours
    }

    /// Each neighbour that gets a copy, and the mask of those of the packet's bits that it carries: from neighbour to neighbour.
    #[inline(always)] // for each packet
    pub fn copies(self, bits: OnWire<'_, W>) -> impl Iterator<Item = (&'a NextHop, &'a [u64; W])> {
        self.hops.iter().zip(self.masks).filter(move |(_, mask)| bits.meets(mask))
    }

    /// The same from bit to bit; `rows` are those of its table.
    #[inline]
    pub fn walk(
        self,
        rows: &'a Rows,
        mut bits: Wire<W>,
    ) -> impl Iterator<Item = (&'a NextHop, &'a [u64; W])> {
        core::iter::from_fn(move || {
            let row = usize::from(rows.row_of()[bits.any()?.index()]);
            let mask = &self.masks[row];
            bits = bits.without(mask);
            Some((&self.hops[row], mask))
        })
    }
}
