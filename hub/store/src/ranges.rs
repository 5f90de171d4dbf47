//! A set of byte ranges: which pieces of a group have arrived, what of a content is missing.

use std::ops::Range;

/// Disjoint ranges in growing order with a gap between each two, so that equal sets are equal values.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Ranges(Vec<Range<u64>>);

impl Ranges {
    /// Nothing.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a range; what was in before stays in once.
    pub fn insert(&mut self, new: Range<u64>) {
        if new.is_empty() {
            return;
        }
        // Those that touch the new one become one with it.
        let from = self.0.partition_point(|old| old.end < new.start);
        let to = self.0.partition_point(|old| old.start <= new.end);
        let merged = match self.0.get(from..to) {
            Some([first, .., last]) => first.start.min(new.start)..last.end.max(new.end),
            Some([only]) => only.start.min(new.start)..only.end.max(new.end),
            _ => new,
        };
        self.0.splice(from..to, [merged]);
    }

    /// The parts of a range that aren't in the set.
    pub fn gaps(&self, within: Range<u64>) -> Vec<Range<u64>> {
        let mut gaps = Vec::new();
        let mut at = within.start;
        let from = self.0.partition_point(|old| old.end <= within.start);
        for old in self.0[from..].iter().take_while(|old| old.start < within.end) {
            if at < old.start {
                gaps.push(at..old.start);
            }
            at = old.end;
        }
        if at < within.end {
            gaps.push(at..within.end);
        }
        gaps
    }

    /// The ranges, in growing order.
    pub fn as_slice(&self) -> &[Range<u64>] {
        &self.0
    }

    /// How many bytes are in.
    pub fn total(&self) -> u64 {
        self.0.iter().map(|range| range.end - range.start).sum()
    }

    /// Whether nothing is in.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl FromIterator<Range<u64>> for Ranges {
    fn from_iter<T: IntoIterator<Item = Range<u64>>>(all: T) -> Self {
        let mut set = Self::new();
        all.into_iter().for_each(|range| set.insert(range));
        set
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn it_holds_what_a_row_of_flags_holds(parts in prop::collection::vec((0_u64..60, 0_u64..12), 0..24)) {
            let mut flags = [false; 80];
            let mut set = Ranges::new();
            for (start, length) in parts {
                set.insert(start..start + length);
                flags[start as usize..(start + length) as usize].fill(true);
                let held: Vec<_> = set.as_slice().iter().cloned().flatten().collect();
                let wanted: Vec<_> = (0..80).filter(|at| flags[*at as usize]).collect();
                prop_assert_eq!(held, wanted);
                prop_assert!(set.as_slice().windows(2).all(|two| two[0].end < two[1].start));
                let gaps: Vec<_> = set.gaps(5..70).into_iter().flatten().collect();
                let wanted: Vec<_> = (5..70).filter(|at| !flags[*at as usize]).collect();
                prop_assert_eq!(gaps, wanted);
                prop_assert_eq!(set.total(), flags.iter().filter(|flag| **flag).count() as u64);
            }
        }
    }
}
