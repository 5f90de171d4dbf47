//! How an object is cut: into blocks, as even as can be (RFC 5052 section 9.1), and those into segments.
//!
//! ```text
//! 10 segments, at most 4 in a block:   [0 1 2 3] [4 5 6] [7 8 9]     the last segment may be cut
//! ```

use crate::norm::{BLOCK_MAX, Fti, PayloadId};
use crate::partition::Partition;
use crate::rs::Code;

/// An object's size and cut, checked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shape {
    fti: Fti,
    code: Code,
    partition: Partition,
}

/// An object that can't be sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unfit {
    /// It has no bytes.
    #[error("the object is empty")]
    Empty,
    /// It is longer than 2^48 - 1 bytes, or has more blocks than have numbers: use longer segments or blocks.
    #[error("the object is too long for its segments and blocks")]
    TooLong,
    /// Its segments have no bytes, its blocks no segments, or more than 255 with parity.
    #[error("the object's FEC parameters are impossible")]
    Parameters,
}

impl Shape {
    /// The cut that EXT_FTI announces.
    ///
    /// # Errors
    /// [`Unfit`].
    pub fn new(fti: Fti) -> Result<Self, Unfit> {
        let code = Code::new(fti.block, fti.parity).map_err(|_| Unfit::Parameters)?;
        if fti.segment == 0 {
            return Err(Unfit::Parameters);
        }
        if fti.size == 0 {
            return Err(Unfit::Empty);
        }
        let segments = fti.size.div_ceil(fti.segment.into());
        let blocks = segments.div_ceil(fti.block.into());
        if fti.size >= 1 << 48 || blocks > u64::from(BLOCK_MAX) + 1 {
            return Err(Unfit::TooLong);
        }
        let partition = Partition::new(segments, blocks).ok_or(Unfit::Empty)?;
        Ok(Self { fti, code, partition })
    }

    /// As it is announced.
    #[must_use]
    pub fn fti(&self) -> Fti {
        self.fti
    }

    /// Bytes of the object.
    #[must_use]
    pub fn size(&self) -> u64 {
        self.fti.size
    }

    /// Bytes of a segment.
    #[must_use]
    pub fn segment_len(&self) -> usize {
        self.fti.segment.into()
    }

    /// Source segments of the object.
    #[must_use]
    pub fn segments(&self) -> u64 {
        self.partition.units()
    }

    /// Blocks of the object.
    #[must_use]
    pub fn blocks(&self) -> u32 {
        // No more than have numbers.
        self.partition.blocks() as u32
    }

    /// Rows of parity of each block.
    #[must_use]
    pub fn parity_rows(&self) -> u8 {
        self.fti.parity
    }

    /// Source segments of a block, 0 if there is no such block.
    #[must_use]
    pub fn block_len(&self, block: u32) -> u8 {
        // At most as many as `fti.block`.
        self.partition.len(block.into()) as u8
    }

    /// Whether there is such a segment, source or parity.
    #[must_use]
    pub fn has(&self, id: PayloadId) -> bool {
        let source = self.block_len(id.block);
        source > 0 && u16::from(id.segment) < u16::from(source) + u16::from(self.fti.parity)
    }

    /// Which row of parity a segment is; `None` for source segments, and for what isn't there.
    #[must_use]
    pub fn row(&self, id: PayloadId) -> Option<u8> {
        if !self.has(id) {
            return None;
        }
        id.segment.checked_sub(self.block_len(id.block))
    }

    /// The number of a block's first source segment, counted through the object.
    #[must_use]
    pub fn block_start(&self, block: u32) -> u64 {
        self.partition.start(block.into())
    }

    /// The number of a source segment, counted through the object; `None` for others.
    #[must_use]
    pub fn index(&self, id: PayloadId) -> Option<u64> {
        (id.segment < self.block_len(id.block)).then(|| self.block_start(id.block) + u64::from(id.segment))
    }

    /// The source segment with this number; `None` beyond the end.
    #[must_use]
    pub fn at(&self, index: u64) -> Option<PayloadId> {
        let (block, segment) = self.partition.at(index)?;
        Some(PayloadId { block: block as u32, segment: segment as u8 })
    }

    /// The last source segment: the watermark of a whole object.
    #[must_use]
    pub fn last(&self) -> PayloadId {
        let block = self.blocks() - 1;
        PayloadId { block, segment: self.block_len(block) - 1 }
    }

    /// Where a source segment lies in the object, and how long it is; `None` for others.
    #[must_use]
    pub fn range(&self, id: PayloadId) -> Option<(u64, usize)> {
        let offset = self.index(id)? * u64::from(self.fti.segment);
        Some((offset, (self.fti.size - offset).min(self.fti.segment.into()) as usize))
    }

    /// Where a block lies in the object, and how long it is.
    #[must_use]
    pub fn block_range(&self, block: u32) -> Option<(u64, usize)> {
        let source = u64::from(self.block_len(block).checked_sub(1)?) + 1;
        let offset = self.block_start(block) * u64::from(self.fti.segment);
        Some((offset, (self.fti.size - offset).min(source * u64::from(self.fti.segment)) as usize))
    }

    /// A parity segment, out of the bytes of its block.
    ///
    /// # Panics
    /// If there is no such row, or more bytes than a block has.
    #[must_use]
    pub fn parity(&self, row: u8, block: &[u8]) -> Vec<u8> {
        let segments: Vec<&[u8]> = block.chunks(self.segment_len()).collect();
        self.code.parity(row, &segments, self.segment_len())
    }

    /// The code of its blocks.
    #[must_use]
    pub fn code(&self) -> Code {
        self.code
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn shape(size: u64, segment: u16, block: u8, parity: u8) -> Result<Shape, Unfit> {
        Shape::new(Fti { size, segment, block, parity })
    }

    #[test]
    fn blocks_are_as_even_as_can_be() {
        let shape = shape(10 * 5 - 2, 5, 4, 2).unwrap();
        assert_eq!((shape.segments(), shape.blocks()), (10, 3));
        assert_eq!([0, 1, 2, 3].map(|block| shape.block_len(block)), [4, 3, 3, 0]);
        assert_eq!(shape.last(), PayloadId { block: 2, segment: 2 });
        assert_eq!(shape.range(shape.last()), Some((45, 3)));
        assert_eq!(shape.block_range(2), Some((35, 13)));
        let id = |block, segment| PayloadId { block, segment };
        assert_eq!((shape.row(id(0, 3)), shape.row(id(0, 4)), shape.row(id(2, 4))), (None, Some(0), Some(1)));
        assert!(shape.has(id(0, 5)) && !shape.has(id(0, 6)) && !shape.has(id(3, 0)));
    }

    #[test]
    fn what_cannot_be_sent_is_refused() {
        assert_eq!(shape(0, 1, 1, 0), Err(Unfit::Empty));
        assert_eq!(shape(1, 0, 1, 0), Err(Unfit::Parameters));
        assert_eq!(shape(1, 1, 0, 0), Err(Unfit::Parameters));
        assert_eq!(shape(1, 1, 200, 56), Err(Unfit::Parameters));
        assert_eq!(shape((1 << 24) + 1, 1, 1, 0), Err(Unfit::TooLong));
        assert_eq!(shape(1 << 48, u16::MAX, 255, 0), Err(Unfit::TooLong));
        assert!(shape(1 << 24, 1, 1, 0).is_ok());
    }

    proptest! {
        #[test]
        fn every_byte_is_in_one_segment(size in 1..3000u64, segment in 1..40u16, block in 1..20u8) {
            let shape = shape(size, segment, block, 3).unwrap();
            let mut next = 0;
            for (index, id) in (0..shape.segments()).map(|index| (index, shape.at(index).unwrap())) {
                prop_assert_eq!(shape.index(id), Some(index));
                let (offset, len) = shape.range(id).unwrap();
                prop_assert!(offset == next && len > 0 && len <= usize::from(segment));
                if id.segment == 0 {
                    prop_assert_eq!(shape.block_range(id.block).unwrap().0, next);
                }
                next += len as u64;
            }
            prop_assert_eq!((next, shape.at(shape.segments())), (size, None));
            prop_assert_eq!(shape.at(shape.segments() - 1), Some(shape.last()));
            let bytes: usize = (0..shape.blocks()).map(|block| shape.block_range(block).unwrap().1).sum();
            prop_assert_eq!(bytes as u64, size);
            prop_assert!((0..shape.blocks()).all(|at| shape.block_len(at) <= block));
        }
    }
}
