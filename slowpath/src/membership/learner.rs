//! Who of the other routers listens to flows that enter here, as they say in BIER: the state of a group for each of them
//! (draft-ietf-bier-mld).
//!
//! A router speaks for all hosts behind it, so what it says that it doesn't listen to any more is over at once: there is
//! nobody else to ask.

use std::collections::{BTreeMap, BTreeSet};

use millrace_bier::id::BfrId;
use millrace_bier::overlay::Receivers;
use millrace_fastpath::addr::Addr;
use millrace_fastpath::clock::Nanos;

use super::group::Group;
use super::message::Record;

/// Groups of routers that are known in one sub-domain: a thousand routers that listen to 64 flows each.
pub const LEARNT_MAX: usize = 1 << 16;

/// The lowest number of a router.
const FIRST: BfrId = BfrId::new(1).expect("0 alone is none");

/// A flow, and who gets it from now on.
pub(super) type Learnt = ((Addr, Addr), Receivers);

/// A group of a router.
type Key = (Addr, BfrId);

/// What is known of a sub-domain's routers.
#[derive(Debug, Default)]
pub(super) struct Learner {
    /// How long what is said counts.
    hold: u64,
    /// The receivers of the flows that enter here, by group and source.
    flows: BTreeMap<Addr, BTreeMap<Addr, Receivers>>,
    groups: BTreeMap<Key, (Group, Option<Nanos>)>,
    /// Groups by when something of theirs is over.
    schedule: BTreeSet<(Nanos, Key)>,
    /// Flows whose receivers aren't what was told last, by source and group.
    changed: BTreeSet<(Addr, Addr)>,
}

impl Learner {
    /// These flows, by source and group, enter from now on, and what is said counts for `hold` nanoseconds. What is known of
    /// their groups stays.
    pub(super) fn reload(&mut self, hold: u64, flows: impl IntoIterator<Item = (Addr, Addr)>) {
        self.hold = hold;
        let before = std::mem::take(&mut self.flows);
        for (source, group) in flows {
            let known = before.get(&group).and_then(|sources| sources.get(&source)).cloned();
            let receivers = known.unwrap_or_else(|| {
                self.changed.insert((source, group));
                self.listening(source, group)
            });
            self.flows.entry(group).or_default().insert(source, receivers);
        }
        self.groups.retain(|key, (_, at)| {
            let stays = self.flows.contains_key(&key.0);
            if let Some(at) = at.filter(|_| !stays) {
                self.schedule.remove(&(at, *key));
            }
            stays
        });
    }

    /// Takes in what a router says. False if there is no room for it.
    pub(super) fn told(&mut self, now: Nanos, from: BfrId, record: &Record) -> bool {
        let key = (record.group, from);
        if !self.flows.contains_key(&record.group) {
            return true;
        }
        if self.groups.len() >= LEARNT_MAX && !self.groups.contains_key(&key) {
            return false;
        }
        let (state, _) = self.groups.entry(key).or_default();
        state.expire(now);
        let (mut doubts, refused) = state.apply(record.kind, &record.sources, now.plus(self.hold));
        state.lower(&mut doubts, now);
        state.expire(now);
        self.settle(key);
        refused == 0
    }

    /// The flows whose receivers have changed since the last call. Each once: a message may change its mind in every record.
    pub(super) fn changes(&mut self) -> impl Iterator<Item = Learnt> + '_ {
        let flows = &self.flows;
        std::mem::take(&mut self.changed).into_iter().filter_map(|(source, group)| {
            let receivers = flows.get(&group)?.get(&source)?;
            Some(((source, group), receivers.clone()))
        })
    }

    /// Ends what is over.
    pub(super) fn poll(&mut self, now: Nanos) {
        while let Some((_, key)) = self.schedule.first().copied().filter(|(at, _)| *at <= now) {
            if let Some((state, _)) = self.groups.get_mut(&key) {
                state.expire(now);
            }
            self.settle(key);
        }
    }

    /// When [`Self::poll`] has something to do next.
    pub(super) fn next_due(&self) -> Option<Nanos> {
        self.schedule.first().map(|(at, _)| *at)
    }

    /// The routers that listen to a source.
    fn listening(&self, source: Addr, group: Addr) -> Receivers {
        let of_group = self.groups.range((group, FIRST)..).take_while(|((of, _), _)| *of == group);
        let listening = of_group.filter(|(_, (state, _))| state.filter().passes(source));
        Receivers::new(listening.map(|((_, id), _)| *id))
    }

    fn settle(&mut self, key: Key) {
        let Some((state, scheduled)) = self.groups.get_mut(&key) else { return };
        if let Some(at) = scheduled.take() {
            self.schedule.remove(&(at, key));
        }
        let (group, id) = key;
        let filter = state.filter();
        for (source, receivers) in self.flows.get_mut(&group).into_iter().flatten() {
            let changed = match filter.passes(*source) {
                true => receivers.join(id),
                false => receivers.leave(id),
            };
            if changed {
                self.changed.insert((*source, group));
            }
        }
        if state.is_empty() {
            self.groups.remove(&key);
            return;
        }
        *scheduled = state.next_due();
        self.schedule.extend(scheduled.map(|at| (at, key)));
    }
}

#[cfg(test)]
mod tests {
    use super::super::message::RecordKind::{self, *};
    use super::*;

    const HOLD: u64 = 100;

    fn source(number: u8) -> Addr {
        Addr::v4([10, 0, 0, number])
    }

    const GROUP: Addr = Addr(0xffff_e801_0101);

    fn ids(numbers: &[u16]) -> Receivers {
        Receivers::new(numbers.iter().filter_map(|number| BfrId::new(*number)))
    }

    fn learner() -> Learner {
        let mut learner = Learner::default();
        learner.reload(HOLD, [1, 2].map(|number| (source(number), GROUP)));
        assert_eq!(changes(&mut learner), [(source(1), ids(&[])), (source(2), ids(&[]))]);
        learner
    }

    fn changes(learner: &mut Learner) -> Vec<(Addr, Receivers)> {
        learner.changes().map(|((source, _), receivers)| (source, receivers)).collect()
    }

    fn told(
        learner: &mut Learner,
        now: u64,
        from: u16,
        kind: RecordKind,
        sources: &[u8],
    ) -> Vec<(Addr, Receivers)> {
        let sources = sources.iter().map(|number| source(*number)).collect();
        let record = Record { kind, group: GROUP, sources };
        assert!(learner.told(Nanos(now), BfrId::new(from).unwrap(), &record));
        changes(learner)
    }

    #[test]
    fn however_often_a_message_changes_its_mind_a_flow_changes_once() {
        let mut learner = learner();
        let id = BfrId::new(7).unwrap();
        for kind in [ToExclude, ToInclude].into_iter().cycle().take(179) {
            assert!(learner.told(Nanos(0), id, &Record { kind, group: GROUP, sources: vec![] }));
        }
        assert_eq!(changes(&mut learner), [(source(1), ids(&[7])), (source(2), ids(&[7]))]);
        assert_eq!(changes(&mut learner), []);
    }

    #[test]
    fn who_leaves_is_gone_at_once_and_the_others_stay() {
        let mut learner = learner();
        assert_eq!(told(&mut learner, 0, 7, ToInclude, &[1]), [(source(1), ids(&[7]))]);
        assert_eq!(
            told(&mut learner, 1, 70, ToExclude, &[]),
            [(source(1), ids(&[7, 70])), (source(2), ids(&[70]))]
        );
        assert_eq!(told(&mut learner, 2, 70, ToExclude, &[1]), [(source(1), ids(&[7]))]);
        assert_eq!(told(&mut learner, 3, 70, IsExclude, &[1]), []);
        assert_eq!(
            told(&mut learner, 4, 7, ToInclude, &[2]),
            [(source(1), ids(&[])), (source(2), ids(&[7, 70]))]
        );
        assert_eq!(told(&mut learner, 5, 7, Block, &[2]), [(source(2), ids(&[70]))]);
        assert_eq!(told(&mut learner, 6, 70, ToInclude, &[]), [(source(2), ids(&[]))]);
        assert!(learner.groups.is_empty() && learner.schedule.is_empty());
    }

    #[test]
    fn who_falls_silent_is_forgotten() {
        let mut learner = learner();
        told(&mut learner, 0, 7, ToInclude, &[1]);
        told(&mut learner, 10, 8, ToExclude, &[]);
        told(&mut learner, 50, 7, IsInclude, &[1]);
        learner.poll(Nanos(109));
        assert_eq!((changes(&mut learner).len(), learner.next_due()), (0, Some(Nanos(110))));
        learner.poll(Nanos(110));
        assert_eq!(changes(&mut learner), [(source(1), ids(&[7])), (source(2), ids(&[]))]);
        learner.poll(Nanos(150));
        assert_eq!((changes(&mut learner), learner.next_due()), (vec![(source(1), ids(&[]))], None));
    }

    #[test]
    fn flows_come_and_go_with_what_is_known() {
        let mut learner = learner();
        told(&mut learner, 0, 7, ToExclude, &[3]);
        learner.reload(HOLD, [2, 3, 4].map(|number| (source(number), GROUP)));
        assert_eq!(changes(&mut learner), [(source(3), ids(&[])), (source(4), ids(&[7]))]);
        learner.reload(HOLD, []);
        assert!(learner.groups.is_empty() && learner.schedule.is_empty());
        assert_eq!(told(&mut learner, 1, 7, ToExclude, &[]), []);
        assert!(learner.groups.is_empty(), "nothing of groups that don't enter here");
    }

    #[test]
    fn a_flood_of_routers_fills_no_more_than_there_is_room() {
        let mut learner = learner();
        let record = |at: usize| Record {
            kind: ToExclude,
            group: Addr(GROUP.0 + (at as u128 >> 15)),
            sources: vec![],
        };
        let flows = (0..3).map(|at| (source(1), Addr(GROUP.0 + at)));
        learner.reload(HOLD, flows);
        let tell = |learner: &mut Learner, at: usize| {
            let id = BfrId::new((at & 0x7fff) as u16 + 1).unwrap();
            learner.told(Nanos(0), id, &record(at))
        };
        for at in 0..LEARNT_MAX {
            let (state, group) =
                (Group { exclude_until: Some(Nanos(9)), ..Group::default() }, record(at).group);
            let id = BfrId::new((at & 0x7fff) as u16 + 1).unwrap();
            learner.groups.insert((group, id), (state, None));
        }
        assert!(!tell(&mut learner, LEARNT_MAX));
        assert!(tell(&mut learner, 5), "who is known is heard");
    }
}
