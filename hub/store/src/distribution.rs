//! Who is owed what: for each content and version, the nodes that it is for, and what became of each. It is on disk, so
//! that after a restart a distribution goes on with those who haven't got everything yet.
//!
//! ```text
//!  owed ──► acked                      the node said that it has all of it
//!   │ ▲
//!   ▼ └──── begun again, or asked for by the node
//!  failed, with what it missed         given up after its rounds, reported, waited for no longer
//! ```

use std::collections::BTreeMap;
use std::ops::Range;

use serde::{Deserialize, Serialize};

use crate::error::Error;
use crate::ledger::{Batch, Rows, Table};
use crate::root::Root;
use crate::state::{Held, State, json};
use crate::store::Store;
use crate::time::Millis;

/// A node's number, as NORM has it (RFC 5740 §4.2).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct NodeId(pub u32);

/// What became of a distribution at one node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Outcome {
    /// It hasn't said that it has everything.
    Owed,
    /// It has said so.
    Acked,
    /// It was given up; these bytes it is known to lack. Empty if it never said.
    Failed(Vec<Range<u64>>),
}

/// A content on its way to nodes, as the store knows it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Distribution {
    /// Each node, and what became of it there.
    pub nodes: BTreeMap<NodeId, Outcome>,
    /// Until when the content is kept for nodes that come late.
    pub late_until: Millis,
}

impl Distribution {
    /// The nodes that it is still owed to.
    pub fn owed(&self) -> impl Iterator<Item = NodeId> {
        self.nodes.iter().filter(|(_, outcome)| **outcome == Outcome::Owed).map(|(node, _)| *node)
    }

    pub(crate) fn pins(&self, now: Millis) -> bool {
        now < self.late_until || self.owed().next().is_some()
    }
}

/// A row of [`Table::Distribution`].
#[derive(Debug, Serialize, Deserialize)]
struct DistributionRow {
    late_until: Millis,
}

impl Store {
    /// Begins a distribution of a complete content, or adds nodes to it. On disk when this returns: a node that is
    /// named here isn't forgotten by a crash. A node that has already acked stays so; one that failed is owed again.
    ///
    /// # Errors
    ///
    /// The content isn't here, or not all of it: nothing is sent before it is cached and verified. Or the ledger can't
    /// be written; the distribution has begun, and a crash before the next checkpoint would forget it.
    pub fn distribute(
        &self,
        root: Root,
        version: u64,
        nodes: impl IntoIterator<Item = NodeId>,
        late_until: Millis,
        now: Millis,
    ) -> Result<(), Error> {
        let mut ledger = self.ledger();
        let mut state = self.state();
        if let Held::Arriving(_) = state.content(root)?.held {
            return Err(Error::Incomplete(root));
        }
        state.touch(root, now);
        let mut batch = Batch::default();
        let one = state.distributions.entry((root, version)).or_default();
        one.late_until = one.late_until.max(late_until);
        batch.put(
            Table::Distribution,
            &key(root, version),
            json(&DistributionRow { late_until: one.late_until }),
        );
        for node in nodes {
            let outcome = one.nodes.entry(node).or_insert(Outcome::Owed);
            if *outcome != Outcome::Acked {
                *outcome = Outcome::Owed;
            }
            batch.put(Table::Node, &node_key(root, version, node), json(outcome));
        }
        drop(state);
        self.commit(&mut ledger, batch)
    }

    /// Notes that a node has all of it; false if it wasn't owed it, which changes nothing. Written with the next
    /// checkpoint: after a crash before that, the node is asked once more.
    pub fn acked(&self, root: Root, version: u64, node: NodeId, now: Millis) -> bool {
        self.outcome(root, version, node, Outcome::Acked, now)
    }

    /// Notes that a node is given up, and what it lacks; false if it wasn't owed it.
    pub fn failed(
        &self,
        root: Root,
        version: u64,
        node: NodeId,
        lacks: Vec<Range<u64>>,
        now: Millis,
    ) -> bool {
        self.outcome(root, version, node, Outcome::Failed(lacks), now)
    }

    fn outcome(&self, root: Root, version: u64, node: NodeId, new: Outcome, now: Millis) -> bool {
        let mut state = self.state();
        let one = state.distributions.get_mut(&(root, version));
        let Some(outcome) = one.and_then(|one| one.nodes.get_mut(&node)) else { return false };
        // Who has failed may still turn up with all of it; who has acked doesn't fail any more.
        let changes = *outcome == Outcome::Owed || (*outcome != Outcome::Acked && new == Outcome::Acked);
        if changes {
            let row = json(&new);
            *outcome = new;
            state.later(now).put(Table::Node, &node_key(root, version, node), row);
        }
        changes
    }

    /// A distribution as it stands.
    pub fn distribution(&self, root: Root, version: u64) -> Option<Distribution> {
        self.state().distributions.get(&(root, version)).cloned()
    }

    /// The distributions that nodes are still owed, to go on with after a restart: root, version and nodes.
    pub fn unfinished(&self) -> Vec<(Root, u64, Vec<NodeId>)> {
        let state = self.state();
        let all =
            state.distributions.iter().map(|((root, version), one)| (*root, *version, one.owed().collect()));
        all.filter(|(_, _, owed): &(_, _, Vec<_>)| !owed.is_empty()).collect()
    }

    /// Ends a distribution: nobody is owed it any more, and what became of its nodes is forgotten.
    pub fn end_distribution(&self, root: Root, version: u64, now: Millis) {
        let mut state = self.state();
        let Some(one) = state.distributions.remove(&(root, version)) else { return };
        remove_rows(root, version, &one, state.later(now));
    }
}

impl State {
    /// Forgets the distributions of a content that is removed.
    pub(crate) fn forget_distributions(&mut self, root: Root, batch: &mut Batch) {
        let versions: Vec<_> =
            self.distributions.range((root, 0)..=(root, u64::MAX)).map(|(key, _)| key.1).collect();
        for version in versions {
            let one = self.distributions.remove(&(root, version)).expect("it was listed just now");
            remove_rows(root, version, &one, batch);
        }
    }
}

/// Reads the distributions out of the ledger. Rows that aren't what this program writes are left aside.
pub(crate) fn recover(rows: &Rows) -> BTreeMap<(Root, u64), Distribution> {
    let mut all = BTreeMap::<_, Distribution>::new();
    for (key, row) in rows.of(Table::Distribution, b"") {
        let (Some((id, [])), Ok(row)) = (read_key(key), serde_json::from_slice::<DistributionRow>(row))
        else {
            continue;
        };
        all.entry(id).or_default().late_until = row.late_until;
    }
    for (key, row) in rows.of(Table::Node, b"") {
        let (Some((id, node)), Ok(outcome)) = (read_key(key), serde_json::from_slice(row)) else { continue };
        let (Some(one), Ok(node)) = (all.get_mut(&id), node.try_into()) else { continue };
        one.nodes.insert(NodeId(u32::from_be_bytes(node)), outcome);
    }
    all
}

fn remove_rows(root: Root, version: u64, one: &Distribution, batch: &mut Batch) {
    batch.remove(Table::Distribution, &key(root, version));
    one.nodes.keys().for_each(|node| batch.remove(Table::Node, &node_key(root, version, *node)));
}

fn key(root: Root, version: u64) -> Vec<u8> {
    [&root.as_bytes()[..], &version.to_be_bytes()].concat()
}

fn node_key(root: Root, version: u64, node: NodeId) -> Vec<u8> {
    [&key(root, version)[..], &node.0.to_be_bytes()].concat()
}

fn read_key(key: &[u8]) -> Option<((Root, u64), &[u8])> {
    let (root, rest) = key.split_first_chunk()?;
    let (version, rest) = rest.split_first_chunk()?;
    Some(((Root::new(*root), u64::from_be_bytes(*version)), rest))
}
