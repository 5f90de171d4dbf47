//! An object on its way to the nodes of a session.

use core::time::Duration;

use crate::ledger::Ledger;
use crate::nodes::{NodeIndex, NodeSet};
use crate::norm::{ObjectId, PayloadId};
use crate::shape::Shape;

/// How an object stands with a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    Pending,
    Complete,
    Failed,
    /// The object isn't for it.
    Excluded,
}

/// An object and a node.
#[derive(Clone, Copy, Debug)]
pub(super) struct Share {
    pub(super) outcome: Outcome,
    /// For nodes served apart: the source segment they get next. Others are where the object is.
    pub(super) cursor: Option<u64>,
    /// Acknowledgements asked for since the node was last heard of,
    pub(super) silent: u16,
    /// and all of them.
    pub(super) rounds: u16,
    /// Bytes of repairs sent to it: whole messages.
    pub(super) repaired: u64,
    /// It was given up, and has been heard of since.
    pub(super) returned: bool,
    /// When it was last heard of, or first asked.
    pub(super) heard: Option<Duration>,
}

impl Share {
    pub(super) fn new(cursor: Option<u64>) -> Self {
        Self {
            outcome: Outcome::Pending,
            cursor,
            silent: 0,
            rounds: 0,
            repaired: 0,
            returned: false,
            heard: None,
        }
    }
}

/// An object that was announced and isn't retired.
#[derive(Clone, Debug)]
pub(super) struct Outgoing {
    pub(super) id: ObjectId,
    pub(super) shape: Shape,
    pub(super) file: bool,
    pub(super) info: Vec<u8>,
    pub(super) ledger: Ledger,
    /// The source segment that the group gets next.
    pub(super) position: u64,
    pub(super) info_sent: bool,
    /// Who misses the info, and when they get it.
    pub(super) info_wanted: NodeSet,
    pub(super) info_due: Option<Duration>,
    pub(super) shares: Vec<Share>,
    /// When the next acknowledgements are asked for, once all was sent.
    pub(super) flush_due: Option<Duration>,
    /// How long after that the next ones are, if nothing happens.
    pub(super) flush_pause: Duration,
    pub(super) reported: bool,
    /// Until when it is kept for those that come late.
    pub(super) late_until: Duration,
}

impl Outgoing {
    pub(super) fn share(&self, node: NodeIndex) -> &Share {
        &self.shares[usize::from(node.0)]
    }

    pub(super) fn share_mut(&mut self, node: NodeIndex) -> &mut Share {
        &mut self.shares[usize::from(node.0)]
    }

    /// How many source segments were sent to a node.
    pub(super) fn sent_to(&self, node: NodeIndex) -> u64 {
        self.share(node).cursor.unwrap_or(self.position)
    }

    /// Whether a segment that the node names was sent to it; parity, whether its block was.
    pub(super) fn was_sent(&self, node: NodeIndex, id: PayloadId) -> bool {
        let end = self.shape.block_start(id.block) + u64::from(self.shape.block_len(id.block));
        self.shape.index(id).unwrap_or(end - 1) < self.sent_to(node)
    }

    pub(super) fn all_sent(&self, node: NodeIndex) -> bool {
        self.sent_to(node) == self.shape.segments()
    }

    /// Nodes that were given up in silence, while it is kept for them at this time.
    pub(super) fn missed(&self, at: Duration) -> impl Iterator<Item = NodeIndex> + '_ {
        let shares = if self.late_until > at { &self.shares[..] } else { &[] };
        let missed = |(_, share): &(usize, &Share)| share.outcome == Outcome::Failed && !share.returned;
        shares.iter().enumerate().filter(missed).map(|(at, _)| NodeIndex(at as u16))
    }

    pub(super) fn pending(&self) -> impl Iterator<Item = NodeIndex> + '_ {
        let pending = |(_, share): &(usize, &Share)| share.outcome == Outcome::Pending;
        self.shares.iter().enumerate().filter(pending).map(|(at, _)| NodeIndex(at as u16))
    }
}
