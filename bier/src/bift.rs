//! The Bit Index Forwarding Table (RFC 8279 section 6.4): which neighbour leads to which bits.
//!
//! A BIFT here has 1 to [`TABLES_MAX`] tables, of which a packet's entropy picks one (section 6.7.2, the
//! deterministic kind of ECMP). Within a table each bit has at most one neighbour, so the masks (F-BMs) of different
//! neighbours are disjoint. That is what allows to look at each neighbour once instead of at each bit: see
//! [`forward`](crate::forward).

pub mod given;

use alloc::boxed::Box;
use alloc::sync::Arc;
use alloc::vec;
use alloc::vec::Vec;
use core::net::IpAddr;

use crate::bift_id::BiftId;
use crate::bits::{self, BitString};
use crate::ecmp::{Choice, pick};
use crate::forward::Flat;
use crate::id::{BiftKey, BitPosition};

/// The most tables that a BIFT may have; perfect balance needs as many as the least common multiple of path counts.
pub const TABLES_MAX: usize = 16;
/// The most neighbours, those that only repairs use included: their numbers have 16 bits, and the last stands for none.
pub const NEIGHBOURS_MAX: usize = u16::MAX as usize;

/// The place of a neighbour in [`Bift::neighbours`]; the same in all BIFTs of a sub-domain.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NeighbourIndex(pub u16);

/// A link, by a number that is the caller's: a port, or a place in a topology.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LinkId(pub u32);

/// Whom copies are sent to: a router (BFR-NBR), or hosts whose bits end at us.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Neighbour {
    /// Its BFR-prefix; unspecified of hosts, who have none.
    pub prefix: IpAddr,
    /// How to reach it.
    pub reach: Reach,
}

/// How copies get to a neighbour.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reach {
    /// Over any one of parallel links.
    Links(Box<[LinkId]>),
    /// Through routers that don't speak BIER, by whatever way unicast goes (RFC 8279 section 6.9). The tunnel's own
    /// TTL is large and never copied to or from that of BIER; the entropy is carried on to the tunnel.
    Tunnel,
    /// A network of hosts that don't speak BIER and have bits all the same: for those we are the egress, as for our own (RFC
    /// 8279 section 4.3), but they say themselves who gets the payload.
    Hosts(LinkId),
}

impl Reach {
    /// The links of it.
    #[must_use]
    pub fn links(&self) -> &[LinkId] {
        match self {
            Self::Links(links) => links,
            Self::Hosts(link) => core::slice::from_ref(link),
            Self::Tunnel => &[],
        }
    }
}

impl Neighbour {
    /// The link for packets of this entropy, of those that `usable` lets pass; `None` if there is none, or if the
    /// neighbour isn't reached over links.
    pub fn link(&self, entropy: u32, seed: u32, usable: impl Fn(LinkId) -> bool) -> Option<LinkId> {
        let links = self.reach.links();
        // Packets that don't use what has failed stay where they are.
        let first = *links.get(pick(entropy, seed, Choice::Link, links.len()))?;
        if usable(first) {
            return Some(first);
        }
        let count = links.iter().filter(|link| usable(**link)).count();
        let chosen = pick(entropy, seed, Choice::Link, count);
        links.iter().copied().filter(|link| usable(*link)).nth(chosen)
    }
}

/// The table for one sub-domain, set and length.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bift {
    key: BiftKey,
    local: Option<BitPosition>,
    neighbours: Arc<[Neighbour]>,
    /// The BIFT-id that each neighbour wants; `None` where it has no such table, and then no row leads to it.
    out: Box<[Option<BiftId>]>,
    /// How copies get to each neighbour that is reached over one link: most are, and then nothing has to be chosen.
    exits: Box<[Option<(BiftId, LinkId)>]>,
    /// Some of them are hosts.
    has_hosts: bool,
    tables: Box<[Table]>,
    /// Their rows, for packets that become copies and nothing else.
    flat: Flat,
    seed: u32,
    /// The caller's: see [`Bift::tag`].
    tag: u32,
}

impl Bift {
    pub(crate) fn new(
        key: BiftKey,
        local: Option<BitPosition>,
        neighbours: Arc<[Neighbour]>,
        out: Box<[Option<BiftId>]>,
        tables: Box<[Table]>,
        seed: u32,
    ) -> Self {
        assert!((1..=TABLES_MAX).contains(&tables.len()) && neighbours.len() == out.len());
        let exits = exits(&neighbours, &out);
        let has_hosts = neighbours.iter().any(|one| matches!(one.reach, Reach::Hosts(_)));
        let flat = Flat::new(&tables, &exits);
        Self { key, local, neighbours, out, exits, has_hosts, tables, flat, seed, tag: 0 }
    }

    /// What it is for.
    #[inline]
    #[must_use]
    pub fn key(&self) -> BiftKey {
        self.key
    }

    /// The bit that stands for this router itself, if it is of this set.
    #[inline]
    #[must_use]
    pub fn local(&self) -> Option<BitPosition> {
        self.local
    }

    /// The bits of hosts who get a copy of this entropy, network by network.
    pub fn hosts(&self, entropy: u32) -> impl Iterator<Item = (NeighbourIndex, &[u64])> {
        let are_hosts = |one: &(NeighbourIndex, _)| matches!(self.neighbour(one.0).reach, Reach::Hosts(_));
        // Nearly all tables have none, and then there is no row to look at.
        self.has_hosts.then(|| self.table(entropy).rows().iter().filter(are_hosts)).into_iter().flatten()
    }

    /// Whether hosts get one of these bits.
    #[must_use]
    pub fn is_for_hosts(&self, bits: &[u64]) -> bool {
        let is_theirs = |mask: &[u64]| mask.iter().zip(bits).any(|(mask, bits)| mask & bits != 0);
        // They are alone on the way to theirs, so that all tables say the same.
        self.hosts(0).any(|(_, mask)| is_theirs(mask))
    }

    /// All neighbours of the sub-domain, whether or not rows lead to them.
    #[must_use]
    pub fn neighbours(&self) -> &[Neighbour] {
        &self.neighbours
    }

    /// The neighbour of a copy.
    ///
    /// # Panics
    /// If the index is that of another sub-domain's neighbour.
    #[inline]
    #[must_use]
    pub fn neighbour(&self, index: NeighbourIndex) -> &Neighbour {
        &self.neighbours[usize::from(index.0)]
    }

    /// The BIFT-id that a copy to this neighbour carries; always there for the neighbours of copies. It means nothing with
    /// hosts.
    #[inline]
    #[must_use]
    pub fn out(&self, index: NeighbourIndex) -> Option<BiftId> {
        self.out[usize::from(index.0)]
    }

    /// How a copy of this entropy gets to a neighbour: the BIFT-id that it carries, and the link, of several one that
    /// `usable` lets pass; `None` if the neighbour has no such table, or isn't reached over links.
    #[must_use]
    #[inline(always)] // two numbers in registers, where a call would write them and wait to read them back
    pub fn exit(
        &self,
        index: NeighbourIndex,
        entropy: u32,
        usable: impl Fn(LinkId) -> bool,
    ) -> Option<(BiftId, LinkId)> {
        let only = self.exits[usize::from(index.0)];
        if only.is_some() { only } else { self.exit_of_several(index, entropy, usable) }
    }

    #[inline(never)] // who has nothing to choose doesn't carry this along
    fn exit_of_several(
        &self,
        index: NeighbourIndex,
        entropy: u32,
        usable: impl Fn(LinkId) -> bool,
    ) -> Option<(BiftId, LinkId)> {
        Some((self.out(index)?, self.neighbour(index).link(entropy, self.seed, usable)?))
    }

    /// Its tables.
    #[inline]
    #[must_use]
    pub fn tables(&self) -> &[Table] {
        &self.tables
    }

    /// What makes this router's choices differ from those of others.
    #[inline]
    #[must_use]
    pub fn seed(&self) -> u32 {
        self.seed
    }

    /// The table for packets of this entropy (RFC 8279 section 6.7.2).
    #[inline]
    #[must_use]
    pub fn table(&self, entropy: u32) -> &Table {
        &self.tables[self.pick_table(entropy)]
    }

    #[inline]
    pub(crate) fn pick_table(&self, entropy: u32) -> usize {
        pick(entropy, self.seed, Choice::Table, self.tables.len())
    }

    #[inline(always)] // one number
    pub(crate) fn flat(&self) -> &Flat {
        &self.flat
    }

    /// The same with the links by other numbers, for who has links of several domains.
    #[must_use]
    pub fn with_links(&self, number: impl Fn(LinkId) -> LinkId) -> Self {
        let renumber = |links: &[LinkId]| links.iter().map(|link| number(*link)).collect();
        let neighbour = |one: &Neighbour| Neighbour {
            prefix: one.prefix,
            reach: match &one.reach {
                Reach::Links(links) => Reach::Links(renumber(links)),
                Reach::Tunnel => Reach::Tunnel,
                Reach::Hosts(link) => Reach::Hosts(number(*link)),
            },
        };
        let neighbours: Arc<[_]> = self.neighbours.iter().map(neighbour).collect();
        self.with(neighbours, self.out.clone(), self.tables.clone())
    }

    /// The same, with a link to each of those neighbours behind tunnels whose BFR-prefix `link` knows one for: who builds
    /// tunnels numbers them as links.
    #[must_use]
    pub fn with_tunnels(&self, link: impl Fn(IpAddr) -> Option<LinkId>) -> Self {
        let neighbour = |one: &Neighbour| {
            let tunnel = if one.reach == Reach::Tunnel { link(one.prefix) } else { None };
            let reach = tunnel.map_or_else(|| one.reach.clone(), |link| Reach::Links([link].into()));
            Neighbour { prefix: one.prefix, reach }
        };
        let neighbours: Arc<[_]> = self.neighbours.iter().map(neighbour).collect();
        self.with(neighbours, self.out.clone(), self.tables.clone())
    }

    /// A number by which the caller knows the table, to count its packets by for example. 0 at first.
    #[inline]
    #[must_use]
    pub fn tag(&self) -> u32 {
        self.tag
    }

    /// The same with another number of the caller's.
    #[must_use]
    pub fn with_tag(self, tag: u32) -> Self {
        Self { tag, ..self }
    }

    /// Bits that lose their way when this neighbour goes down, because no other stands ready for them; of all tables
    /// together.
    #[must_use]
    pub fn unprotected(&self, neighbour: NeighbourIndex) -> BitString {
        let mut bits = BitString::new(self.key.bsl);
        for table in &self.tables {
            let Some((_, mask)) = table.rows.iter().find(|(one, _)| *one == neighbour) else { continue };
            let mut lost = mask.to_vec();
            if let Some(instead) = table.on_failure(neighbour) {
                bits::and_not(&mut lost, instead.routable());
            }
            bits::or(bits.words_mut(), &lost);
        }
        bits
    }

    /// The same with other tables and neighbours, as repairs add them.
    pub(crate) fn with(
        &self,
        neighbours: Arc<[Neighbour]>,
        out: Box<[Option<BiftId>]>,
        tables: Box<[Table]>,
    ) -> Self {
        Self::new(self.key, self.local, neighbours, out, tables, self.seed).with_tag(self.tag)
    }
}

fn exits(neighbours: &[Neighbour], out: &[Option<BiftId>]) -> Box<[Option<(BiftId, LinkId)>]> {
    let exit = |(one, id): (&Neighbour, &Option<BiftId>)| match one.reach.links() {
        [link] => Some(((*id)?, *link)),
        _ => None,
    };
    neighbours.iter().zip(out).map(exit).collect()
}

/// One of a BIFT's tables: its rows, and the rows that stand ready for failures.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Table {
    rows: Rows,
    /// By the neighbour that fails; shorter than the neighbours, or `None`, where nothing is prepared.
    on_failure: Box<[Option<Rows>]>,
}

impl Table {
    pub(crate) fn new(rows: Rows, on_failure: Box<[Option<Rows>]>) -> Self {
        Self { rows, on_failure }
    }

    /// Its rows while nothing fails.
    #[inline]
    #[must_use]
    pub fn rows(&self) -> &Rows {
        &self.rows
    }

    /// Its rows while this neighbour can't be reached, if prepared.
    #[must_use]
    pub fn on_failure(&self, neighbour: NeighbourIndex) -> Option<&Rows> {
        self.on_failure.get(usize::from(neighbour.0))?.as_ref()
    }
}

/// `row_of` of bits without a row.
pub(crate) const NULL_ROW: u16 = u16::MAX;

/// Disjoint masks, side by side, and whom each leads to. Bits in no mask are those of the null row: no such router,
/// or no way.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rows {
    words: usize,
    /// A mask (F-BM) for each row, one after the other.
    masks: Box<[u64]>,
    /// The neighbour of each row.
    neighbours: Box<[NeighbourIndex]>,
    /// The row of each bit.
    row_of: Box<[u16]>,
    /// All masks together.
    routable: Box<[u64]>,
}

impl Rows {
    /// The rows that lead each of these bits to its neighbour.
    pub(crate) fn new(
        words: usize,
        bits: impl Iterator<Item = (BitPosition, NeighbourIndex)> + Clone,
    ) -> Self {
        let mut neighbours: Vec<_> = bits.clone().map(|(_, neighbour)| neighbour).collect();
        neighbours.sort_unstable();
        neighbours.dedup();
        let mut rows = Self {
            words,
            masks: vec![0; words * neighbours.len()].into(),
            neighbours: neighbours.into(),
            row_of: vec![NULL_ROW; words * 64].into(),
            routable: vec![0; words].into(),
        };
        for (bit, neighbour) in bits {
            let row = rows.neighbours.binary_search(&neighbour).expect("all are there");
            assert_eq!(rows.row_of[bit.index()], NULL_ROW, "one row a bit, so that masks are disjoint");
            rows.row_of[bit.index()] = row as u16;
            bits::set(&mut rows.masks[row * words..][..words], bit);
            bits::set(&mut rows.routable, bit);
        }
        rows
    }

    /// The rows of these masks, none of which is empty; in the order of neighbours, each once.
    pub(crate) fn of_masks(words: usize, masks: &[(NeighbourIndex, Vec<u64>)]) -> Self {
        let mut rows = Self {
            words,
            masks: masks.iter().flat_map(|(_, mask)| mask.iter().copied()).collect(),
            neighbours: masks.iter().map(|(neighbour, _)| *neighbour).collect(),
            row_of: vec![NULL_ROW; words * 64].into(),
            routable: vec![0; words].into(),
        };
        for (row, (_, mask)) in (0..).zip(masks) {
            for bit in bits::ones(mask) {
                assert_eq!(rows.row_of[bit.index()], NULL_ROW, "masks are disjoint");
                rows.row_of[bit.index()] = row;
            }
            bits::or(&mut rows.routable, mask);
        }
        rows
    }

    /// The masks, side by side.
    #[inline]
    pub(crate) fn masks(&self) -> &[u64] {
        &self.masks
    }

    /// How many words its masks have.
    pub(crate) fn words(&self) -> usize {
        self.words
    }

    /// The neighbours, in the order of the masks.
    #[inline]
    pub(crate) fn neighbours(&self) -> &[NeighbourIndex] {
        &self.neighbours
    }

    /// The row of each bit, or [`NULL_ROW`].
    #[inline]
    pub(crate) fn row_of(&self) -> &[u16] {
        &self.row_of
    }

    /// The bits that have a row.
    #[inline]
    #[must_use]
    pub fn routable(&self) -> &[u64] {
        &self.routable
    }

    /// Each neighbour that bits lead to, and its mask.
    pub fn iter(&self) -> impl Iterator<Item = (NeighbourIndex, &[u64])> {
        self.neighbours.iter().copied().zip(self.masks.chunks_exact(self.words))
    }

    /// The neighbour that a bit leads to.
    #[must_use]
    pub fn neighbour_of(&self, bit: BitPosition) -> Option<NeighbourIndex> {
        self.neighbours.get(usize::from(self.row_of[bit.index()])).copied()
    }
}
