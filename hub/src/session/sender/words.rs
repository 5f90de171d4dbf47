//! What a sender is told, and what it says.

use core::time::Duration;

use crate::nodes::{NodeIndex, NodeSet};
use crate::norm::ObjectId;
use crate::segments::SegmentSet;
use crate::shape::Unfit;

/// An object to be sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Offer {
    /// Its length in bytes.
    pub size: u64,
    /// Whether receivers shall take it for a file.
    pub file: bool,
    /// What NORM_INFO says of it, at most a segment long; empty for none.
    pub info: Vec<u8>,
    /// After a restart, with the same instance: its number. Else the next is taken.
    pub number: Option<ObjectId>,
    /// After a restart: how many source segments were sent,
    pub sent: u64,
    /// and who has acknowledged it.
    pub complete: NodeSet,
    /// Who gets it; without, every node. Others aren't sent anything of it, and are told that it is gone if they ask.
    pub nodes: Option<NodeSet>,
    /// So long it is kept for nodes that come late. Until then those that are given up in silence are probed now and then, when
    /// nothing else is sent: a receiver that comes back says nothing before it hears something.
    pub late_until: Duration,
}

impl Offer {
    /// A file that nobody has.
    #[must_use]
    pub fn file(size: u64, info: Vec<u8>) -> Self {
        let (complete, late_until) = (NodeSet::new(), Duration::ZERO);
        Self { size, file: true, info, number: None, sent: 0, complete, nodes: None, late_until }
    }
}

/// Why an object isn't announced.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// It can't be cut.
    #[error(transparent)]
    Unfit(#[from] Unfit),
    /// The info is longer than a segment.
    #[error("the object's info is longer than a segment")]
    Info,
    /// The session keeps 256 already.
    #[error("the session keeps as many objects as it can")]
    Full,
    /// The number is that of another object.
    #[error("another object has this number")]
    Number,
}

/// What happened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// A node acknowledged an object.
    Complete {
        /// The object.
        object: ObjectId,
        /// The node.
        node: NodeIndex,
    },
    /// A node is given up. Nobody waits for it any more; [`join`](super::Sender::join) takes it in again.
    Failed {
        /// The object.
        object: ObjectId,
        /// The node.
        node: NodeIndex,
        /// What it last named, by block; nothing if it was never heard of.
        missing: Vec<(u32, SegmentSet)>,
    },
    /// Every node has acknowledged the object or is given up.
    Finished {
        /// The object.
        object: ObjectId,
    },
    /// A node that an object was given up at has been heard of; see [`join`](super::Sender::join).
    Returned {
        /// The object.
        object: ObjectId,
        /// The node.
        node: NodeIndex,
    },
    /// A node is served apart from now on,
    Apart(NodeIndex),
    /// or with the others again.
    Together(NodeIndex),
}

/// How far an object is at a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Progress {
    /// The node.
    pub node: NodeIndex,
    /// `Some(true)` once it acknowledged the object, `Some(false)` once it is given up.
    pub done: Option<bool>,
    /// Source segments sent to it,
    pub sent: u64,
    /// of so many.
    pub segments: u64,
    /// Segments that it asked for and that aren't sent yet.
    pub owed: u64,
    /// Bytes of repairs sent to it, in NORM messages.
    pub repaired: u64,
    /// Whether it is served apart.
    pub apart: bool,
}
