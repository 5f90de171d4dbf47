//! An object that is being received.

use core::time::Duration;
use std::collections::BTreeMap;

use super::{Storage, Unstored};
use crate::norm::{ObjectId, PayloadId};
use crate::segments::SegmentSet;
use crate::shape::Shape;

/// A block that isn't whole.
#[derive(Debug, Default)]
pub(super) struct Open {
    /// Source segments that are stored.
    pub(super) have: SegmentSet,
    /// Parity, by segment number.
    parity: Vec<(u8, Vec<u8>)>,
    /// When it was asked for, and how long to wait before that is done again.
    pub(super) asked: Option<(Duration, Duration)>,
}

impl Open {
    /// Nothing of it came.
    pub(super) fn is_bare(&self) -> bool {
        self.have.is_empty() && self.parity.is_empty()
    }

    /// Segments that would make the block whole, whichever.
    pub(super) fn deficit(&self, source: u8) -> usize {
        usize::from(source).saturating_sub(usize::from(self.have.len()) + self.parity.len())
    }
}

/// An object that was seen or heard of.
#[derive(Debug)]
pub(super) struct Incoming {
    /// Unknown until the first of its messages comes.
    pub(super) shape: Option<Shape>,
    needs_info: bool,
    pub(super) info: Option<Vec<u8>>,
    /// Blocks that are whole, a bit each,
    whole: Vec<u64>,
    /// and all of those below this one are.
    low: u32,
    pub(super) open: BTreeMap<u32, Open>,
    /// Blocks below this are asked for if they aren't whole.
    pub(super) boundary: u32,
    pub(super) complete: bool,
    pub(super) gone: bool,
    /// As in [`Open`], for the object or its info.
    pub(super) asked: Option<(Duration, Duration)>,
}

impl Incoming {
    pub(super) fn new() -> Self {
        Self {
            shape: None,
            needs_info: false,
            info: None,
            whole: Vec::new(),
            low: 0,
            open: BTreeMap::new(),
            boundary: 0,
            complete: false,
            gone: false,
            asked: None,
        }
    }

    pub(super) fn begin(&mut self, shape: Shape, needs_info: bool) {
        self.whole = vec![0; (shape.blocks() as usize).div_ceil(64)];
        (self.shape, self.needs_info, self.asked) = (Some(shape), needs_info, None);
    }

    pub(super) fn is_block_whole(&self, block: u32) -> bool {
        self.whole.get(block as usize / 64).is_some_and(|word| word >> (block % 64) & 1 == 1)
    }

    fn set_whole(&mut self, block: u32) -> usize {
        self.whole[block as usize / 64] |= 1 << (block % 64);
        while self.is_block_whole(self.low) {
            self.low += 1;
        }
        self.open.remove(&block).map_or(0, |open| open.parity.iter().map(|(_, bytes)| bytes.len()).sum())
    }

    pub(super) fn lacks_info(&self) -> bool {
        self.needs_info && self.info.is_none()
    }

    pub(super) fn is_whole(&self) -> bool {
        self.shape.is_some_and(|shape| self.low == shape.blocks()) && !self.lacks_info()
    }

    /// Whether a segment is of use.
    pub(super) fn lacks(&self, id: PayloadId) -> bool {
        let there = |open: &Open| {
            open.have.contains(id.segment) || open.parity.iter().any(|(at, _)| *at == id.segment)
        };
        !self.is_block_whole(id.block) && !self.open.get(&id.block).is_some_and(there)
    }

    /// A source segment is stored. Returns how many bytes of parity aren't needed any more.
    pub(super) fn stored(&mut self, id: PayloadId) -> usize {
        let source = self.shape.map_or(0, |shape| shape.block_len(id.block));
        if id.segment >= source || self.is_block_whole(id.block) {
            return 0;
        }
        let open = self.open.entry(id.block).or_default();
        open.have.insert(id.segment);
        open.asked = open.asked.map(|(at, _)| (at, Duration::ZERO));
        if open.have.len() == u16::from(source) { self.set_whole(id.block) } else { 0 }
    }

    /// Parity came.
    pub(super) fn keep(&mut self, id: PayloadId, content: &[u8]) {
        let open = self.open.entry(id.block).or_default();
        open.parity.push((id.segment, content.to_vec()));
        open.asked = open.asked.map(|(at, _)| (at, Duration::ZERO));
    }

    pub(super) fn decodable(&self, block: u32) -> bool {
        let source = self.shape.map_or(0, |shape| shape.block_len(block));
        self.open.get(&block).is_some_and(|open| open.deficit(source) == 0)
    }

    /// Decodes a block. Returns how many segments that gave, and how many bytes of parity aren't needed any more.
    pub(super) fn decode(
        &mut self,
        object: ObjectId,
        block: u32,
        storage: &mut impl Storage,
    ) -> Result<(u64, usize), Unstored> {
        let shape = self.shape.ok_or(Unstored)?;
        let open = self.open.get(&block).ok_or(Unstored)?;
        let stored = open.have.iter().map(|segment| {
            let (offset, len) = shape.range(PayloadId { block, segment }).ok_or(Unstored)?;
            let mut bytes = vec![0; len];
            storage.read(object, offset, &mut bytes)?;
            Ok((segment, bytes))
        });
        let stored = stored.collect::<Result<Vec<_>, Unstored>>()?;
        let all: Vec<_> =
            stored.iter().chain(&open.parity).map(|(segment, bytes)| (*segment, &bytes[..])).collect();
        let recovered =
            shape.code().recover(shape.block_len(block), &all, shape.segment_len()).map_err(|_| Unstored)?;
        for (segment, bytes) in &recovered {
            let (offset, len) = shape.range(PayloadId { block, segment: *segment }).ok_or(Unstored)?;
            storage.write(object, offset, &bytes[..len])?;
        }
        Ok((recovered.len() as u64, self.set_whole(block)))
    }

    /// Frees all parity; returns how many bytes that was.
    pub(super) fn drop_parity(&mut self) -> usize {
        self.open.values_mut().flat_map(|open| open.parity.drain(..)).map(|(_, bytes)| bytes.len()).sum()
    }

    /// A segment of this block came: those before it are to be whole. Whether one of them isn't.
    pub(super) fn pass(&mut self, block: u32) -> bool {
        let news = block > self.boundary;
        self.boundary = self.boundary.max(block);
        news && self.low < self.boundary
    }

    /// The sender has sent everything up to here; of the whole object if no place is given. Whether something is missing.
    pub(super) fn flush(&mut self, now: Duration, grtt: Duration, to: Option<PayloadId>) -> bool {
        let Some(shape) = self.shape else { return self.may_ask_again(now, grtt) };
        let end = to.map_or(shape.blocks(), |id| id.block.saturating_add(1).min(shape.blocks()));
        self.boundary = self.boundary.max(end);
        let missing = self.low < end || self.lacks_info();
        missing && self.may_ask_again(now, grtt)
    }

    /// What was asked for a round trip ago was sent before a flush, or is lost: it may be asked for again.
    fn may_ask_again(&mut self, now: Duration, grtt: Duration) -> bool {
        let all = self.open.values_mut().map(|open| &mut open.asked).chain([&mut self.asked]);
        for asked in all {
            *asked = asked.filter(|(at, _)| *at + grtt > now);
        }
        true
    }

    /// Blocks that are to be asked for, lowest first.
    pub(super) fn holes(&self) -> impl Iterator<Item = u32> + '_ {
        (self.low..self.boundary).filter(|block| !self.is_block_whole(*block))
    }

    /// What isn't there, by block; `None` as long as nothing is known of the object.
    pub(super) fn missing(&self) -> Option<Vec<(u32, SegmentSet)>> {
        let shape = self.shape?;
        let blocks = (self.low..shape.blocks()).filter(|block| !self.is_block_whole(*block)).map(|block| {
            let all = SegmentSet::range(0, shape.block_len(block).into());
            (block, self.open.get(&block).map_or(all, |open| all.without(open.have)))
        });
        Some(blocks.collect())
    }
}
