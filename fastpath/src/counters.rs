//! Counters: each belongs to one worker and is read by anyone.
//!
//! A worker adds with a plain load and store (it is the only writer), so counting costs what it costs in a local
//! variable; readers see a recent value. The block of a worker fills cache lines that no other worker writes.

use std::sync::atomic::{AtomicU64, Ordering};

use crate::addr::Addr;
use crate::hold::REFUSALS;
use crate::node::bier::LOSSES;
use crate::node::{DROPS_PER_NODE_MAX, NODES, NodeId};
use crate::tables::bier::{BIFTS_MAX, LINKS_MAX, RECEIVERS_MAX};
use crate::tables::services::{INSTANCES_MAX, SERVICES_MAX, ServiceId};

/// A number that one thread adds to.
#[derive(Debug, Default)]
pub struct Counter(AtomicU64);

impl Counter {
    /// Adds `n`. Only the owning worker may call this.
    #[inline]
    pub fn add(&self, n: u64) {
        self.0.store(self.0.load(Ordering::Relaxed).wrapping_add(n), Ordering::Relaxed);
    }

    /// Takes `n` off. Only the owning worker may call this.
    #[inline]
    pub fn sub(&self, n: u64) {
        self.0.store(self.0.load(Ordering::Relaxed).wrapping_sub(n), Ordering::Relaxed);
    }

    /// Sets the value. Only the owning worker may call this.
    #[inline]
    pub fn set(&self, n: u64) {
        self.0.store(n, Ordering::Relaxed);
    }

    /// The value.
    #[inline]
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// What one node of one worker did.
#[derive(Debug, Default)]
#[repr(align(64))]
pub struct NodeCounters {
    /// Frames that came in.
    pub frames: Counter,
    /// Vectors that they came in.
    pub vectors: Counter,
    /// Cycles spent on them.
    pub cycles: Counter,
    /// Drops, by the node's own list of reasons.
    pub drops: [Counter; DROPS_PER_NODE_MAX],
}

/// The ends that a frame can come to, as counted for the three laws (see [`crate::fates`]).
#[derive(Debug, Default)]
#[repr(align(64))]
pub struct FateCounters {
    /// From ports.
    pub received: Counter,
    /// From the slowpath.
    pub injected: Counter,
    /// From other workers' rings.
    pub handed_in: Counter,
    /// To other workers' rings.
    pub handed_out: Counter,
    /// To a port, as the same packet.
    pub forwarded: Counter,
    /// To a port, turned into an answer.
    pub answered: Counter,
    /// To several ports, as copies.
    pub replicated: Counter,
    /// Into a hold.
    pub held: Counter,
    /// To local consumers.
    pub delivered: Counter,
    /// To the slowpath.
    pub punted: Counter,
    /// Nowhere, for a named reason.
    pub dropped: Counter,
    /// Copies sent for replicated frames.
    pub copies: Counter,
    /// Frames of our own making (SYNs towards instances).
    pub originated: Counter,
    /// Out of a hold because it was ready.
    pub released: Counter,
    /// Out of a hold by deadline or failure, into the overflow action.
    pub expired: Counter,
    /// Out of a hold because a newer first packet of the same flow took its place.
    pub replaced: Counter,
    /// In holds now (a level, not a sum).
    pub still_held: Counter,
    /// Frames out of holds that a port was given.
    pub release_sent: Counter,
    /// Frames out of holds that went to the slowpath to find the neighbour.
    pub release_punted: Counter,
    /// Frames out of holds that were dropped, for a named reason.
    pub release_dropped: Counter,
    /// Taken by a port.
    pub tx_accepted: Counter,
    /// Refused by a port, and freed.
    pub tx_refused: Counter,
    /// Events that found the queue full.
    pub events_lost: Counter,
    /// Wakes that the limiter refused.
    pub wakes_limited: Counter,
    /// ICMP errors sent about packets that were refused.
    pub errors_sent: Counter,
    /// ICMP errors that the limit left unsent.
    pub errors_limited: Counter,
    /// Flows in the table now (a level).
    pub flows: Counter,
    /// Flows begun by what a QUIC connection id says.
    pub flows_by_id: Counter,
    /// Flows evicted for want of room.
    pub flows_evicted: Counter,
    /// Flows refused for want of room: all that could have made some were established.
    pub flows_refused: Counter,
    /// Fragmented packets forgotten before their time, for want of room.
    pub fragments_evicted: Counter,
    /// Triples of the trigger `flow` forgotten before their time, for want of room.
    pub triples_evicted: Counter,
    /// Packets that couldn't be held, by [`crate::hold::Refusal`], whatever became of them instead.
    pub holds_refused: [Counter; REFUSALS],
    /// Frames of the slowpath's that found no buffer.
    pub injects_lost: Counter,
    /// Answers sent truncated to a prefix that had its share.
    pub responses_slipped: Counter,
    /// Prefixes forgotten by the limiter of responses before their time, for want of room.
    pub limits_evicted: Counter,
    /// Polls that found nothing to do.
    pub idle_polls: Counter,
    /// All polls.
    pub polls: Counter,
}

/// One worker's view of one service.
#[derive(Debug, Default)]
pub struct ServiceActivity {
    /// Flows now.
    pub flows: Counter,
    /// The last packet or query, in [`crate::clock::Nanos`], to about a tenth of a second.
    pub last_nanos: Counter,
    /// Packets held now.
    pub holds: Counter,
    /// Flows begun.
    pub flows_begun: Counter,
    /// Flows whose client went on after it was answered: of TCP, whose handshake was completed.
    pub flows_established: Counter,
    /// Triples that the trigger `flow` took for new.
    pub arrivals: Counter,
    /// Packets that took the overflow action, whichever it is.
    pub overflowed: Counter,
}

/// What became of TCP handshakes with one instance, as far as one worker has seen it (see `crate::node::handshake`).
#[derive(Debug, Default)]
#[repr(align(32))]
pub struct Handshakes {
    /// Of flows of which a SYN has been sent on.
    pub begun: Counter,
    /// Those that the instance accepted.
    pub answered: Counter,
    /// Those that it refused, or that couldn't reach it.
    pub refused: Counter,
    /// Those that it said nothing to.
    pub unanswered: Counter,
}

/// What one worker did of BIER, beside the node's drops.
#[derive(Debug)]
pub struct BierCounters {
    /// Copies that weren't made, by [`crate::node::bier::Loss`].
    pub lost: [Counter; LOSSES],
    /// Packets that the slowpath was shown.
    pub punted: Counter,
    /// Copies given to ports, by link.
    pub copies: Box<[Counter]>,
    /// Packets of tables, by their tags: those that came, and those that entered here.
    pub bifts: Box<[Counter]>,
    /// The same by receiver, where they are counted.
    pub receivers: Box<[Counter]>,
}

impl Default for BierCounters {
    fn default() -> Self {
        let counters = |count| (0..count).map(|_| Counter::default()).collect();
        Self {
            lost: Default::default(),
            punted: Counter::default(),
            copies: counters(LINKS_MAX),
            bifts: counters(BIFTS_MAX),
            receivers: counters(RECEIVERS_MAX),
        }
    }
}

/// All counters of one worker.
#[derive(Debug)]
pub struct WorkerCounters {
    /// By [`NodeId`].
    pub nodes: [NodeCounters; NODES],
    /// For the laws.
    pub fates: FateCounters,
    /// By [`ServiceId`].
    pub services: Box<[ServiceActivity]>,
    /// Flows now, by instance slot.
    pub instance_flows: Box<[Counter]>,
    /// By instance slot.
    pub handshakes: Box<[Handshakes]>,
    /// Of BIER.
    pub bier: BierCounters,
}

impl Default for WorkerCounters {
    fn default() -> Self {
        Self {
            nodes: Default::default(),
            fates: FateCounters::default(),
            services: (0..SERVICES_MAX).map(|_| ServiceActivity::default()).collect(),
            instance_flows: (0..INSTANCES_MAX).map(|_| Counter::default()).collect(),
            handshakes: (0..INSTANCES_MAX).map(|_| Handshakes::default()).collect(),
            bier: BierCounters::default(),
        }
    }
}

impl WorkerCounters {
    /// The counters of a node.
    #[inline]
    pub fn node(&self, id: NodeId) -> &NodeCounters {
        &self.nodes[id as usize]
    }

    /// The activity of a service.
    #[inline]
    pub fn service(&self, id: ServiceId) -> &ServiceActivity {
        &self.services[id.index() % SERVICES_MAX]
    }
}

/// A flow, as it is shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FlowRow {
    /// The service.
    pub service: ServiceId,
    /// Transport protocol number.
    pub protocol: u8,
    /// The client.
    pub client: (Addr, u16),
    /// The address that the client used.
    pub vip: (Addr, u16),
    /// The instance.
    pub instance: (Addr, u16),
    /// The appliance's address and port towards the instance, where the source is translated.
    pub nat: Option<(Addr, u16)>,
    /// `new`, `joined`, `answered`, `established`, `half-closed` or `closing`.
    pub state: &'static str,
    /// Seconds since the last packet.
    pub idle_seconds: u32,
}
