//! Which notices have been taken already.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

/// Remembers notices by (site, boot, sequence), the last ones of the last boots.
#[derive(Debug, Default)]
pub(super) struct Notices {
    boots: BTreeMap<(String, u64), Taken>,
    order: VecDeque<(String, u64)>,
}

#[derive(Debug, Default)]
struct Taken {
    /// Every sequence up to this one counts as taken.
    floor: u64,
    above: BTreeSet<u64>,
}

impl Notices {
    /// Takes a notice; false when it was taken before.
    pub(super) fn take(&mut self, site: &str, boot: u64, sequence: u64) -> bool {
        let key = (site.to_owned(), boot);
        if !self.boots.contains_key(&key) {
            if self.order.len() == BOOTS_MAX
                && let Some(oldest) = self.order.pop_front()
            {
                self.boots.remove(&oldest);
            }
            self.order.push_back(key.clone());
        }
        let taken = self.boots.entry(key).or_default();
        if sequence <= taken.floor || !taken.above.insert(sequence) {
            return false;
        }
        if taken.above.len() > SEQUENCES_MAX
            && let Some(lowest) = taken.above.pop_first()
        {
            taken.floor = lowest;
        }
        true
    }
}

/// Sequences remembered one by one per boot: more than a link holds, so that what it resends is recognised.
const SEQUENCES_MAX: usize = 2 * millrace_orchestrator_api::link::LINK_QUEUE_MAX;

/// Boots remembered: every site of a large fleet, a few times over.
const BOOTS_MAX: usize = 4096;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_notice_is_taken_once_in_any_order() {
        let mut notices = Notices::default();
        for sequence in [1, 3, 2] {
            assert!(notices.take("a", 1, sequence));
            assert!(!notices.take("a", 1, sequence));
        }
        assert!(notices.take("a", 2, 1), "a new boot counts anew");
        assert!(notices.take("b", 1, 1), "sites count apart");
    }

    #[test]
    fn memory_is_bounded_and_forgets_towards_duplicate() {
        let mut notices = Notices::default();
        let last = SEQUENCES_MAX as u64 + 10;
        for sequence in 1..=last {
            assert!(notices.take("a", 1, sequence));
        }
        assert!(!notices.take("a", 1, 1));
        assert!(notices.boots[&("a".to_owned(), 1)].above.len() <= SEQUENCES_MAX);
        for boot in 0..BOOTS_MAX as u64 + 5 {
            notices.take("b", boot, 1);
        }
        assert_eq!(notices.boots.len(), BOOTS_MAX);
    }
}
