//! A row of units cut into blocks as even as can be (RFC 5052 section 9.1): the first ones may have one unit more.

/// The cut. There are no more blocks than units, and at least one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Partition {
    units: u64,
    blocks: u64,
    /// This many blocks have one unit more,
    large: u64,
    /// than this many.
    small: u64,
}

impl Partition {
    /// `None` without a block, or with more blocks than units.
    pub(crate) fn new(units: u64, blocks: u64) -> Option<Self> {
        let small = units.checked_div(blocks).filter(|small| *small > 0)?;
        Some(Self { units, blocks, large: units % blocks, small })
    }

    pub(crate) fn units(&self) -> u64 {
        self.units
    }

    pub(crate) fn blocks(&self) -> u64 {
        self.blocks
    }

    /// Units of a block, 0 if there is no such block.
    pub(crate) fn len(&self, block: u64) -> u64 {
        if block >= self.blocks { 0 } else { self.small + u64::from(block < self.large) }
    }

    /// The first unit of a block.
    pub(crate) fn start(&self, block: u64) -> u64 {
        block * self.small + block.min(self.large)
    }

    /// The block that a unit is in, and which of its units it is.
    pub(crate) fn at(&self, unit: u64) -> Option<(u64, u64)> {
        if unit >= self.units {
            return None;
        }
        let in_large = self.large * (self.small + 1);
        Some(match unit.checked_sub(in_large) {
            Some(after) => (self.large + after / self.small, after % self.small),
            None => (unit / (self.small + 1), unit % (self.small + 1)),
        })
    }
}
