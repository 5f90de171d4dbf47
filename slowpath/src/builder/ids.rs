//! Slots for instances: given out, kept while an instance is known, and given out again only when nobody can mean the
//! old holder any more.

use std::collections::{HashMap, VecDeque};

use millrace_fastpath::addr::Addr;
use millrace_fastpath::tables::Generation;
use millrace_fastpath::tables::services::{INSTANCES_MAX, InstanceSlotId, ServiceId};

/// What a slot is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum InstanceKey {
    /// An instance that the orchestrator placed, by its id.
    Placed(ServiceId, u64),
    /// A configured backend, by its address of either family.
    Fixed(ServiceId, [Option<Addr>; 2]),
}

/// The slots of all instances.
#[derive(Debug, Default)]
pub(crate) struct InstanceSlots {
    given: HashMap<InstanceKey, InstanceSlotId>,
    fresh: u32,
    free: VecDeque<InstanceSlotId>,
    /// With the last generation whose snapshot could name the slot.
    retired: VecDeque<(Generation, InstanceSlotId)>,
}

impl InstanceSlots {
    /// The slot of `key`, the same for as long as it isn't released; `None` when all are taken.
    pub(crate) fn take(&mut self, key: InstanceKey) -> Option<InstanceSlotId> {
        if let Some(slot) = self.given.get(&key) {
            return Some(*slot);
        }
        let slot = match self.free.pop_front() {
            Some(slot) => slot,
            None if (self.fresh as usize) < INSTANCES_MAX => {
                self.fresh += 1;
                InstanceSlotId(self.fresh - 1)
            }
            None => return None,
        };
        self.given.insert(key, slot);
        Some(slot)
    }

    /// Gives the slot of `key` up. `published` is the newest generation that workers may have seen it in.
    pub(crate) fn release(&mut self, key: InstanceKey, published: Generation) -> Option<InstanceSlotId> {
        let slot = self.given.remove(&key)?;
        self.retired.push_back((published, slot));
        Some(slot)
    }

    /// Frees what was released before `oldest`, the oldest generation that a worker still works by, and that no flow
    /// counts on any more: a worker takes a flow off its instance's counter when the flow ends, which may be long after.
    pub(crate) fn collect(&mut self, oldest: Generation, in_use: impl Fn(InstanceSlotId) -> bool) {
        for _ in 0..self.retired.len() {
            let Some((until, slot)) = self.retired.pop_front() else { return };
            if until < oldest && !in_use(slot) {
                self.free.push_back(slot);
            } else {
                self.retired.push_back((until, slot));
            }
        }
    }

    /// Whether there is anything to collect.
    pub(crate) fn has_retired(&self) -> bool {
        !self.retired.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: fn(u64) -> InstanceKey = |id| InstanceKey::Placed(ServiceId(1), id);

    #[test]
    fn a_slot_is_given_again_only_after_every_worker_left_and_its_flows_ended() {
        let mut slots = InstanceSlots::default();
        let first = slots.take(KEY(1)).unwrap();
        assert_eq!(slots.take(KEY(1)), Some(first), "the same instance keeps its slot");
        slots.release(KEY(1), Generation(5));
        slots.collect(Generation(5), |_| false);
        assert_ne!(slots.take(KEY(2)), Some(first), "a worker may still work by generation 5");
        slots.collect(Generation(6), |_| true);
        assert_ne!(slots.take(KEY(3)), Some(first), "a flow still counts on it");
        slots.collect(Generation(6), |_| false);
        assert_eq!(slots.take(KEY(4)), Some(first));
    }

    #[test]
    fn slots_run_out_and_come_back() {
        let mut slots = InstanceSlots::default();
        for id in 0..INSTANCES_MAX as u64 {
            assert!(slots.take(KEY(id)).is_some());
        }
        assert_eq!(slots.take(KEY(u64::MAX)), None);
        slots.release(KEY(7), Generation(1));
        slots.collect(Generation(u64::MAX), |_| false);
        assert_eq!(slots.take(KEY(u64::MAX)), Some(InstanceSlotId(7)));
    }
}
