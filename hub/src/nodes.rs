//! The nodes of a site that share a session: who they are, and sets of them.

use core::net::IpAddr;
use std::collections::BTreeMap;

use millrace_bier::bits::BitString;
use millrace_bier::id::{BfrId, Bsl, Si};
use millrace_bier::overlay::Receivers;

use crate::norm::NodeId;

/// Nodes of one session: what bit strings of one sub-domain reach, and no more than a NACK storm could name.
pub const NODES_MAX: usize = 4096;

/// A registered node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Node {
    /// Its name in NORM.
    pub id: NodeId,
    /// Its bit.
    pub bfr: BfrId,
    /// Where its feedback comes from; feedback in its name from elsewhere is forged.
    pub address: IpAddr,
}

/// The place of a node in a [`Roster`]; it stays.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NodeIndex(pub u16);

/// The nodes of a session.
#[derive(Clone, Debug)]
pub struct Roster {
    bsl: Bsl,
    nodes: Vec<Node>,
    by_id: BTreeMap<NodeId, NodeIndex>,
}

/// Why a node isn't taken into a roster.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NoPlace {
    /// There are [`NODES_MAX`] already.
    #[error("the session has as many nodes as it can have")]
    Full,
    /// Another node has its name, or its bit.
    #[error("another node has the same name or bit")]
    Taken,
    /// Its BFR-id is beyond the sets of the session's bit strings.
    #[error("the BFR-id is beyond the sets of these bit strings")]
    NoBit,
}

impl Roster {
    /// Nobody yet; bit strings are so long.
    #[must_use]
    pub fn new(bsl: Bsl) -> Self {
        Self { bsl, nodes: Vec::new(), by_id: BTreeMap::new() }
    }

    /// Takes a node in.
    ///
    /// # Errors
    /// [`NoPlace`].
    pub fn add(&mut self, node: Node) -> Result<NodeIndex, NoPlace> {
        if self.nodes.len() >= NODES_MAX {
            return Err(NoPlace::Full);
        }
        if self.by_id.contains_key(&node.id) || self.nodes.iter().any(|other| other.bfr == node.bfr) {
            return Err(NoPlace::Taken);
        }
        if node.bfr.position(self.bsl).is_none() {
            return Err(NoPlace::NoBit);
        }
        let index = NodeIndex(self.nodes.len() as u16);
        self.nodes.push(node);
        self.by_id.insert(node.id, index);
        Ok(index)
    }

    /// A node has another bit or address now.
    ///
    /// # Errors
    /// [`NoPlace`]; then nothing is changed.
    pub fn replace(&mut self, index: NodeIndex, node: Node) -> Result<(), NoPlace> {
        let other = |(at, other): (usize, &Node)| {
            at != usize::from(index.0) && (other.bfr == node.bfr || other.id == node.id)
        };
        if self.nodes.iter().enumerate().any(other) {
            return Err(NoPlace::Taken);
        }
        if node.bfr.position(self.bsl).is_none() {
            return Err(NoPlace::NoBit);
        }
        let before = self.node(index).id;
        self.by_id.remove(&before);
        self.by_id.insert(node.id, index);
        self.nodes[usize::from(index.0)] = node;
        Ok(())
    }

    /// The node with this name.
    #[must_use]
    pub fn find(&self, id: NodeId) -> Option<NodeIndex> {
        self.by_id.get(&id).copied()
    }

    /// The node at this place.
    ///
    /// # Panics
    /// If the place is of another roster.
    #[must_use]
    pub fn node(&self, index: NodeIndex) -> &Node {
        &self.nodes[usize::from(index.0)]
    }

    /// How many there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.nodes.len()
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.nodes.is_empty()
    }

    /// Each place.
    pub fn indices(&self) -> impl Iterator<Item = NodeIndex> + use<> {
        (0..self.nodes.len() as u16).map(NodeIndex)
    }

    /// The bit strings for some nodes, one for each set: a packet each.
    #[must_use]
    pub fn bit_strings(&self, nodes: &NodeSet) -> Vec<(Si, BitString)> {
        Receivers::new(nodes.iter().map(|index| self.node(index).bfr)).sets(self.bsl)
    }

    /// How many packets leave the source to reach some nodes: one for each set of bit strings.
    #[must_use]
    pub fn packets(&self, nodes: &NodeSet) -> usize {
        let set = |index| self.node(index).bfr.position(self.bsl).map_or(0, |(si, _)| si.0);
        let mut sets = [0u64; 4];
        for si in nodes.iter().map(set) {
            sets[usize::from(si) / 64] |= 1 << (si % 64);
        }
        sets.iter().map(|word| word.count_ones() as usize).sum()
    }
}

/// Some nodes of a roster.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NodeSet {
    // No zero words at the end, so that equal sets are equal.
    words: Vec<u64>,
}

impl NodeSet {
    /// Nobody.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a node.
    pub fn insert(&mut self, index: NodeIndex) {
        let at = usize::from(index.0) / 64;
        if self.words.len() <= at {
            self.words.resize(at + 1, 0);
        }
        self.words[at] |= 1 << (index.0 % 64);
    }

    /// Takes a node out.
    pub fn remove(&mut self, index: NodeIndex) {
        if let Some(word) = self.words.get_mut(usize::from(index.0) / 64) {
            *word &= !(1 << (index.0 % 64));
        }
        self.trim();
    }

    /// Whether a node is in it.
    #[must_use]
    pub fn contains(&self, index: NodeIndex) -> bool {
        self.words.get(usize::from(index.0) / 64).is_some_and(|word| word >> (index.0 % 64) & 1 == 1)
    }

    /// Keeps only those that are in another set as well.
    pub fn intersect(&mut self, other: &Self) {
        self.words.truncate(other.words.len());
        for (word, other) in self.words.iter_mut().zip(&other.words) {
            *word &= other;
        }
        self.trim();
    }

    /// Adds those of another set.
    pub fn union(&mut self, other: &Self) {
        if self.words.len() < other.words.len() {
            self.words.resize(other.words.len(), 0);
        }
        for (word, other) in self.words.iter_mut().zip(&other.words) {
            *word |= other;
        }
    }

    /// Whether some are in another set as well.
    #[must_use]
    pub fn meets(&self, other: &Self) -> bool {
        self.words.iter().zip(&other.words).any(|(word, other)| word & other != 0)
    }

    /// How many there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.words.iter().map(|word| word.count_ones() as usize).sum()
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.words.is_empty()
    }

    /// Each of them, in order.
    pub fn iter(&self) -> impl Iterator<Item = NodeIndex> + '_ {
        millrace_bier::bits::ones(&self.words).map(|bit| NodeIndex(bit.index() as u16))
    }

    fn trim(&mut self) {
        while self.words.last() == Some(&0) {
            self.words.pop();
        }
    }
}

impl FromIterator<NodeIndex> for NodeSet {
    fn from_iter<I: IntoIterator<Item = NodeIndex>>(nodes: I) -> Self {
        let mut set = Self::new();
        nodes.into_iter().for_each(|index| set.insert(index));
        set
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    fn node(at: u16) -> Node {
        let address = IpAddr::from([10, 0, (at >> 8) as u8, at as u8]);
        Node { id: NodeId(at.into()), bfr: BfrId::new(at).unwrap(), address }
    }

    #[test]
    fn a_roster_knows_each_node_once() {
        let mut roster = Roster::new(Bsl::B64);
        assert_eq!(
            [3, 65, 64].map(|at| roster.add(node(at))),
            [Ok(NodeIndex(0)), Ok(NodeIndex(1)), Ok(NodeIndex(2))]
        );
        assert_eq!(roster.add(node(65)), Err(NoPlace::Taken));
        assert_eq!(roster.add(Node { id: NodeId(9), ..node(3) }), Err(NoPlace::Taken));
        assert_eq!(roster.add(node(u16::MAX)), Err(NoPlace::NoBit));
        assert_eq!((roster.find(NodeId(64)), roster.find(NodeId(1))), (Some(NodeIndex(2)), None));
        assert_eq!(roster.replace(NodeIndex(0), node(65)), Err(NoPlace::Taken));
        assert_eq!(
            roster.replace(NodeIndex(0), Node { bfr: node(u16::MAX).bfr, ..node(3) }),
            Err(NoPlace::NoBit)
        );
        assert_eq!(roster.replace(NodeIndex(0), node(5)), Ok(()));
        assert_eq!((roster.find(NodeId(5)), roster.find(NodeId(3))), (Some(NodeIndex(0)), None));
        let all: NodeSet = roster.indices().collect();
        let sets: Vec<_> =
            roster.bit_strings(&all).iter().map(|(si, bits)| (si.0, bits.ones().count())).collect();
        assert_eq!((sets, roster.packets(&all)), (vec![(0, 2), (1, 1)], 2));
    }

    proptest! {
        #[test]
        fn a_set_is_a_set(a in prop::collection::btree_set(0..300u16, 0..20), b in prop::collection::btree_set(0..300u16, 0..20)) {
            let set = |of: &BTreeSet<u16>| of.iter().copied().map(NodeIndex).collect::<NodeSet>();
            let (left, right) = (set(&a), set(&b));
            prop_assert_eq!(left.meets(&right), !a.is_disjoint(&b));
            let mut both = left.clone();
            both.intersect(&right);
            prop_assert_eq!(&both, &set(&(&a & &b)));
            both.union(&left);
            prop_assert_eq!(&both, &left);
            b.iter().for_each(|at| both.remove(NodeIndex(*at)));
            prop_assert_eq!(&both, &set(&(&a - &b)));
            prop_assert_eq!((left.len(), left.is_empty()), (a.len(), a.is_empty()));
            prop_assert!(left.iter().map(|index| index.0).eq(a.iter().copied()));
            prop_assert!((0..300).all(|at| left.contains(NodeIndex(at)) == a.contains(&at)));
        }
    }
}
