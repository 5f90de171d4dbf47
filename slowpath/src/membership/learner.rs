//! Who of the other routers listens to flows that enter here, as they say in BIER: the state of a group for each of them
//! (draft-ietf-bier-mld).
//!
//! A router speaks for all hosts behind it, so what it says that it doesn't listen to any more is over at once: there is
//! nobody else to ask.

use std::collections::{BTreeMap, BTreeSet};

use millrace_bier::id::{BfrId, SubDomain};
use millrace_bier::overlay::Receivers;
use millrace_fastpath::addr::Addr;
use millrace_fastpath::clock::Nanos;

use super::group::Group;
use super::message::Record;

/// Groups of routers that are known in one sub-domain: a thousand routers that listen to 64 flows each.
pub const LEARNT_MAX: usize = 1 << 16;

/// Sources that these groups name in one sub-domain, all together: four of each, in some 16 MB.
pub const LEARNT_SOURCES_MAX: usize = 4 * LEARNT_MAX;

/// The lowest number of a router.
const FIRST: BfrId = BfrId::new(1).expect("0 alone is none");

/// A flow, and who gets it from now on.
pub(super) type Learnt = ((Addr, Addr), Receivers);

/// A group that a router listens to, as it is shown.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LearntRow {
    /// The sub-domain.
    pub sub_domain: SubDomain,
    /// The router.
    pub id: BfrId,
    /// The group.
    pub group: Addr,
    /// In EXCLUDE mode, when that ends.
    pub exclude_until: Option<Nanos>,
    /// The sources, and until when each is wanted; `None` for one that it doesn't want.
    pub sources: Vec<(Addr, Option<Nanos>)>,
}

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
    /// Sources in all of them; at most [`LEARNT_SOURCES_MAX`].
    sources: usize,
    /// Groups by when something of theirs is over.
    schedule: BTreeSet<(Nanos, Key)>,
    /// Flows whose receivers aren't what was told last, by source and group.
    changed: BTreeSet<(Addr, Addr)>,
}

impl Learner {
    /// These flows, by source and group, enter from now on, and what is said counts for `hold` nanoseconds. What is known of
    /// their groups stays. Whether there are flows that didn't enter before.
    pub(super) fn reload(&mut self, hold: u64, flows: impl IntoIterator<Item = (Addr, Addr)>) -> bool {
        self.hold = hold;
        let before = std::mem::take(&mut self.flows);
        let mut is_new = false;
        for (source, group) in flows {
            let known = before.get(&group).and_then(|sources| sources.get(&source)).cloned();
            let receivers = known.unwrap_or_else(|| {
                is_new = true;
                self.changed.insert((source, group));
                self.listening(source, group)
            });
            self.flows.entry(group).or_default().insert(source, receivers);
        }
        self.groups.retain(|key, (state, at)| {
            let stays = self.flows.contains_key(&key.0);
            if !stays {
                self.sources -= state.sources.len();
            }
            if let Some(at) = at.filter(|_| !stays) {
                self.schedule.remove(&(at, *key));
            }
            stays
        });
        is_new
    }

    /// The families of the flows: whether there is IPv4's, and IPv6's.
    pub(super) fn families(&self) -> [bool; 2] {
        [true, false].map(|v4| self.flows.keys().any(|group| group.is_v4() == v4))
    }

    /// What is known of each router.
    pub(super) fn rows(&self, sub_domain: SubDomain) -> impl Iterator<Item = LearntRow> {
        self.groups.iter().map(move |((group, id), (state, _))| LearntRow {
            sub_domain,
            id: *id,
            group: *group,
            exclude_until: state.exclude_until,
            sources: state.sources.iter().map(|(source, until)| (*source, *until)).collect(),
        })
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
        let others = self.sources - state.sources.len();
        let room = LEARNT_SOURCES_MAX - others;
        state.expire(now);
        let (mut doubts, refused) =
            state.apply_within(room, record.kind, &record.sources, now.plus(self.hold));
        state.lower(&mut doubts, now);
        state.expire(now);
        self.sources = others + state.sources.len();
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
                self.sources -= state.sources.len();
                state.expire(now);
                self.sources += state.sources.len();
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
    use millrace_fastpath::tables::listeners::Filter;

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

    /// What is named beyond the room is left out, and room that comes free is used again.
    #[test]
    fn sources_of_all_groups_together_are_bounded() {
        let mut learner = learner();
        let per_router = 128;
        let sources: Vec<Addr> = (0..per_router as u32).map(|at| Addr::v4(at.to_be_bytes())).collect();
        let say = |learner: &mut Learner, now: u64, from: usize, kind| {
            let record = Record { kind, group: GROUP, sources: sources.clone() };
            let heard = learner.told(Nanos(now), BfrId::new(from as u16).unwrap(), &record);
            let known: usize = learner.groups.values().map(|(state, _)| state.sources.len()).sum();
            assert_eq!(known, learner.sources);
            heard
        };
        let routers = LEARNT_SOURCES_MAX / per_router;
        for from in 1..=routers {
            assert!(say(&mut learner, 0, from, ToInclude), "{from}");
        }
        assert_eq!(learner.sources, LEARNT_SOURCES_MAX);
        assert!(!say(&mut learner, 0, routers + 1, ToInclude) && say(&mut learner, 0, 3, IsInclude));
        // Who excludes sources that there is no room for gets more than it wants, and never less.
        assert!(!say(&mut learner, 0, routers + 2, ToExclude));
        assert_eq!(
            learner.groups[&(GROUP, BfrId::new(routers as u16 + 2).unwrap())].0.filter(),
            Filter::any()
        );
        told(&mut learner, 0, 9, ToInclude, &[]);
        assert_eq!(learner.sources, LEARNT_SOURCES_MAX - per_router);
        assert!(say(&mut learner, 0, routers + 1, ToInclude));
        learner.poll(Nanos(HOLD));
        assert_eq!((learner.sources, learner.groups.len()), (0, 0));
        assert!(say(&mut learner, HOLD, 1, ToInclude));
        learner.reload(HOLD, []);
        assert_eq!(learner.sources, 0);
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
