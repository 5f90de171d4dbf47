//! Who missed what of one object: for each block and node unknown, missing or acknowledged.
//!
//! ```text
//!   unknown ── NACK names it ──► wanted ── a repair is planned ──► queued ── it is sent ──► in flight
//!      ▲                           ▲                                                           │
//!      │                           └────────── named again by a NACK that could have seen it ──┤
//!      └────────────────────────────── not named for a long time ──────────────────────────────┘
//!   any of these ── watermark ACK ──► acknowledged, and nothing said later changes that
//! ```
//!
//! A NACK only ever adds. What it doesn't name isn't there for that: NACKs get lost, are cut, and suppress each
//! other. Only the acknowledgement of a watermark says that a node has all.
//!
//! A repair that may still be on its way isn't repeated. Whether it may be, a NACK tells itself: it echoes the sender's
//! clock, so that what was sent before that is known to have come or to be lost. Without an echo, a repair counts as
//! on its way for one GRTT.

use core::time::Duration;
use std::collections::{BTreeMap, BTreeSet, VecDeque};

use crate::nodes::{NodeIndex, NodeSet};
use crate::segments::SegmentSet;

/// What is known of a block at a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// Nothing: it may have the block or not.
    Unknown,
    /// It named segments of the block, and hasn't been silent about them for long.
    Missing,
    /// It acknowledged the whole object.
    Acked,
}

/// What became of segments that a NACK named.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Noted {
    /// At least one is new.
    New,
    /// All are noted already.
    Duplicate,
    /// Repairs for all of them are on their way.
    OnTheWay,
    /// The node has acknowledged the object.
    Stale,
}

#[derive(Clone, Debug, Default)]
struct Entry {
    wanted: SegmentSet,
    repairs: Vec<Repair>,
}

/// A repair for one node.
#[derive(Clone, Copy, Debug)]
struct Repair {
    segment: u8,
    /// `None` while it waits to be sent.
    sent: Option<Duration>,
}

/// Nodes that share repairs. What those of one lane want of a block is planned together, whatever the others wait for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lane {
    /// The group.
    Together,
    /// Stragglers and late joiners.
    Apart,
}

impl Lane {
    /// Each of them.
    pub const ALL: [Self; 2] = [Self::Together, Self::Apart];

    /// The one that this isn't.
    #[must_use]
    pub fn other(self) -> Self {
        match self {
            Self::Together => Self::Apart,
            Self::Apart => Self::Together,
        }
    }
}

#[derive(Clone, Debug, Default)]
struct Block {
    entries: BTreeMap<NodeIndex, Entry>,
    /// When its repairs are to be planned, by lane.
    due: [Option<Duration>; 2],
    /// For each row of parity, who it was sent to, or will be.
    rows: Vec<NodeSet>,
    /// The latest time at which repairs of it are to be forgotten.
    settle: Duration,
}

#[derive(Clone, Copy, Debug, Default)]
struct Account {
    acked: bool,
    owed: u64,
}

/// The ledger of one object.
#[derive(Clone, Debug, Default)]
pub struct Ledger {
    nodes: Vec<Account>,
    blocks: BTreeMap<u32, Block>,
    /// Blocks whose repairs are to be planned, by lane.
    due: [BTreeSet<(Duration, u32)>; 2],
    /// When to forget repairs that were sent and not named again, in order.
    settle: VecDeque<(Duration, u32)>,
}

impl Ledger {
    /// Nobody named anything.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    fn account(&mut self, node: NodeIndex) -> &mut Account {
        let at = usize::from(node.0);
        if self.nodes.len() <= at {
            self.nodes.resize(at + 1, Account::default());
        }
        &mut self.nodes[at]
    }

    /// Notes what a NACK named of a block. Repairs that were sent after `seen`, a time of the sender's, may still be on
    /// their way. The block's repairs for the node's lane are planned from `due` on, unless that is settled already.
    pub fn want(
        &mut self,
        node: NodeIndex,
        lane: Lane,
        block: u32,
        named: SegmentSet,
        seen: Duration,
        due: Duration,
    ) -> Noted {
        if self.account(node).acked {
            return Noted::Stale;
        }
        let at = self.blocks.entry(block).or_default();
        let entry = at.entries.entry(node).or_default();
        entry.repairs.retain(|repair| repair.sent.is_none_or(|sent| sent > seen));
        let on_the_way: SegmentSet = entry.repairs.iter().map(|repair| repair.segment).collect();
        // Parity on its way makes up for a segment of another name. So does anything for a node that names parity alone,
        // as NRL's receivers do: they count what they lack and name that many.
        let other = usize::from(on_the_way.without(named).len());
        let new = named.without(on_the_way);
        let kept = usize::from(new.len()).saturating_sub(other);
        let new: SegmentSet = new.iter().take(kept).collect();
        if new.is_empty() {
            return Noted::OnTheWay;
        }
        let added = new.without(entry.wanted);
        if added.is_empty() {
            return Noted::Duplicate;
        }
        entry.wanted = entry.wanted.or(added);
        if at.due[lane as usize].is_none() {
            at.due[lane as usize] = Some(due);
            self.due[lane as usize].insert((due, block));
        }
        self.account(node).owed += u64::from(added.len());
        Noted::New
    }

    /// A node has everything. Whether that is news.
    pub fn acknowledge(&mut self, node: NodeIndex) -> bool {
        let account = self.account(node);
        let news = !account.acked;
        *account = Account { acked: true, owed: 0 };
        if news {
            for block in self.blocks.values_mut() {
                block.entries.remove(&node);
            }
        }
        news
    }

    /// A node begins anew: nothing is known of it.
    pub fn forget(&mut self, node: NodeIndex) {
        self.acknowledge(node);
        *self.account(node) = Account::default();
        self.blocks.values_mut().flat_map(|block| &mut block.rows).for_each(|row| row.remove(node));
    }

    /// What is known of a block at a node.
    #[must_use]
    pub fn state(&self, block: u32, node: NodeIndex) -> State {
        if self.acked(node) {
            return State::Acked;
        }
        let known = self.blocks.get(&block).is_some_and(|block| block.entries.contains_key(&node));
        if known { State::Missing } else { State::Unknown }
    }

    /// Whether a node has acknowledged the object.
    #[must_use]
    pub fn acked(&self, node: NodeIndex) -> bool {
        self.nodes.get(usize::from(node.0)).is_some_and(|account| account.acked)
    }

    /// How many segments a node waits for that aren't sent yet.
    #[must_use]
    pub fn owed(&self, node: NodeIndex) -> u64 {
        self.nodes.get(usize::from(node.0)).map_or(0, |account| account.owed)
    }

    /// What a node named and hasn't been silent about for long, block by block.
    pub fn missing(&self, node: NodeIndex) -> impl Iterator<Item = (u32, SegmentSet)> + '_ {
        self.blocks.iter().filter_map(move |(number, block)| {
            let entry = block.entries.get(&node)?;
            let on_the_way = entry.repairs.iter().map(|repair| repair.segment).collect();
            Some((*number, entry.wanted.or(on_the_way)))
        })
    }

    /// When the next block's repairs are to be planned for a lane.
    #[must_use]
    pub fn next_due(&self, lane: Lane) -> Option<Duration> {
        self.due[lane as usize].first().map(|(due, _)| *due)
    }

    /// A block whose window is over for a lane: who of that lane wants what of it. The caller plans repairs, and gives them
    /// to [`Ledger::queue`]. As long as it has no room for them, they wait here, where what is asked meanwhile joins them.
    pub fn take_due(
        &mut self,
        lane: Lane,
        now: Duration,
        is_in_lane: impl Fn(NodeIndex) -> bool,
    ) -> Option<Wants> {
        let due = &mut self.due[lane as usize];
        let number = due.first().filter(|(at, _)| *at <= now)?.1;
        due.pop_first();
        let block = self.blocks.get_mut(&number).expect("a block that is due was named");
        block.due[lane as usize] = None;
        let mut nodes = Vec::new();
        for (node, entry) in &mut block.entries {
            if !entry.wanted.is_empty() && is_in_lane(*node) {
                nodes.push((*node, entry.wanted));
                self.nodes[usize::from(node.0)].owed -= u64::from(entry.wanted.len());
                entry.wanted = SegmentSet::EMPTY;
            }
        }
        Some(Wants { block: number, nodes, rows: block.rows.clone() })
    }

    /// A repair was planned for these nodes: a source segment, or a row of parity.
    pub fn queue(&mut self, block: u32, segment: u8, row: Option<u8>, nodes: &NodeSet) {
        let Some(block) = self.blocks.get_mut(&block) else { return };
        if let Some(row) = row.map(usize::from) {
            if block.rows.len() <= row {
                block.rows.resize(row + 1, NodeSet::new());
            }
            block.rows[row].union(nodes);
        }
        for node in nodes.iter() {
            if let Some(entry) = block.entries.get_mut(&node) {
                entry.repairs.push(Repair { segment, sent: None });
                self.nodes[usize::from(node.0)].owed += 1;
            }
        }
    }

    /// A repair was sent to these nodes. It is forgotten at `settle` if they don't name the block again.
    pub fn sent(&mut self, block: u32, segment: u8, nodes: &NodeSet, now: Duration, settle: Duration) {
        self.settle.push_back((settle, block));
        let Some(block) = self.blocks.get_mut(&block) else { return };
        block.settle = settle;
        for node in nodes.iter() {
            let Some(entry) = block.entries.get_mut(&node) else { continue };
            let waiting =
                entry.repairs.iter_mut().find(|repair| repair.segment == segment && repair.sent.is_none());
            if let Some(repair) = waiting {
                repair.sent = Some(now);
                self.nodes[usize::from(node.0)].owed -= 1;
            }
        }
    }

    /// A node is in another lane from now on. Repairs for it that wait to be sent won't be: they are wanted again, and
    /// planned in this lane at `due`, as is what it waits for beside them.
    pub fn withdraw(&mut self, node: NodeIndex, lane: Lane, due: Duration) {
        for (number, block) in &mut self.blocks {
            let Some(entry) = block.entries.get_mut(&node) else { continue };
            let mut back: SegmentSet = SegmentSet::EMPTY;
            entry.repairs.retain(|repair| {
                if repair.sent.is_none() {
                    back.insert(repair.segment);
                }
                repair.sent.is_some()
            });
            let dropped = self.nodes[usize::from(node.0)].owed;
            let (before, after) = (entry.wanted.len(), entry.wanted.or(back).len());
            self.nodes[usize::from(node.0)].owed = dropped - u64::from(before + back.len() - after);
            entry.wanted = entry.wanted.or(back);
            if !entry.wanted.is_empty() && block.due[lane as usize].is_none() {
                block.due[lane as usize] = Some(due);
                self.due[lane as usize].insert((due, *number));
            }
        }
    }

    /// Forgets repairs that were sent long ago and weren't named again. Returns when to come back.
    pub fn settle(&mut self, now: Duration) -> Option<Duration> {
        while let Some(&(at, number)) = self.settle.front() {
            if at > now {
                return Some(at);
            }
            self.settle.pop_front();
            let Some(block) = self.blocks.get_mut(&number).filter(|block| block.settle <= now) else {
                continue;
            };
            block.entries.retain(|_, entry| {
                !entry.wanted.is_empty() || entry.repairs.iter().any(|repair| repair.sent.is_none())
            });
        }
        None
    }
}

/// Who wants what of a block.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wants {
    /// The block.
    pub block: u32,
    /// Each node, with the segments it named: at least one.
    pub nodes: Vec<(NodeIndex, SegmentSet)>,
    /// For each row of parity, who it was sent to before; beyond the end, nobody.
    pub rows: Vec<NodeSet>,
}

#[cfg(test)]
mod tests;
