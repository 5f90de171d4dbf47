//! A set of segments of one block.

/// Some of the 256 numbers that a segment of a block can have.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct SegmentSet([u64; 4]);

impl SegmentSet {
    /// None.
    pub const EMPTY: Self = Self([0; 4]);

    /// From `first` up to, and not with, `end`, at most 256.
    #[must_use]
    pub fn range(first: u16, end: u16) -> Self {
        let below = |end: u16, at: u16| match end.saturating_sub(at * 64) {
            64.. => u64::MAX,
            bits => (1 << bits) - 1,
        };
        Self([0, 1, 2, 3].map(|at| below(end, at) & !below(first, at)))
    }

    /// Adds one.
    pub fn insert(&mut self, segment: u8) {
        self.0[usize::from(segment) / 64] |= 1 << (segment % 64);
    }

    /// Takes one out.
    pub fn remove(&mut self, segment: u8) {
        self.0[usize::from(segment) / 64] &= !(1 << (segment % 64));
    }

    /// Whether one is in it.
    #[must_use]
    pub fn contains(self, segment: u8) -> bool {
        self.0[usize::from(segment) / 64] >> (segment % 64) & 1 == 1
    }

    /// Those of both.
    #[must_use]
    pub fn and(self, other: Self) -> Self {
        Self([0, 1, 2, 3].map(|at| self.0[at] & other.0[at]))
    }

    /// Those of either.
    #[must_use]
    pub fn or(self, other: Self) -> Self {
        Self([0, 1, 2, 3].map(|at| self.0[at] | other.0[at]))
    }

    /// Those that aren't in the other.
    #[must_use]
    pub fn without(self, other: Self) -> Self {
        Self([0, 1, 2, 3].map(|at| self.0[at] & !other.0[at]))
    }

    /// How many.
    #[must_use]
    pub fn len(self) -> u16 {
        self.0.iter().map(|word| word.count_ones() as u16).sum()
    }

    /// Whether it has none.
    #[must_use]
    pub fn is_empty(self) -> bool {
        self == Self::EMPTY
    }

    /// Each of them, in order.
    pub fn iter(self) -> impl Iterator<Item = u8> {
        (0..4u8).flat_map(move |at| {
            let mut left = self.0[usize::from(at)];
            core::iter::from_fn(move || {
                let bit = left.trailing_zeros() as u8;
                (left != 0).then(|| {
                    left &= left - 1;
                    at * 64 + bit
                })
            })
        })
    }

    /// Each stretch of them without a gap: first and last.
    pub fn stretches(self) -> impl Iterator<Item = (u8, u8)> {
        let mut segments = self.iter().peekable();
        core::iter::from_fn(move || {
            let first = segments.next()?;
            let mut last = first;
            while let Some(next) = segments.next_if(|next| *next == last + 1) {
                last = next;
            }
            Some((first, last))
        })
    }
}

impl FromIterator<u8> for SegmentSet {
    fn from_iter<I: IntoIterator<Item = u8>>(segments: I) -> Self {
        let mut set = Self::EMPTY;
        segments.into_iter().for_each(|segment| set.insert(segment));
        set
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_set_is_a_set(a in prop::collection::btree_set(any::<u8>(), 0..20), b in prop::collection::btree_set(any::<u8>(), 0..20), first in 0..=256u16, end in 0..=256u16) {
            let set = |of: &BTreeSet<u8>| of.iter().copied().collect::<SegmentSet>();
            let (left, right) = (set(&a), set(&b));
            prop_assert_eq!(left.and(right), set(&(&a & &b)));
            prop_assert_eq!(left.or(right), set(&(&a | &b)));
            prop_assert_eq!(left.without(right), set(&(&a - &b)));
            prop_assert_eq!(usize::from(left.len()), a.len());
            prop_assert!(left.iter().eq(a.iter().copied()));
            let back: SegmentSet = left.stretches().flat_map(|(first, last)| first..=last).collect();
            prop_assert_eq!(back, left);
            prop_assert!(left.stretches().zip(left.stretches().skip(1)).all(|(one, two)| one.1 + 1 < two.0));
            let range = (first..end).map(|segment| segment as u8).collect();
            prop_assert_eq!(SegmentSet::range(first, end), range);
        }
    }
}
