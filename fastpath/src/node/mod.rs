//! The nodes of the packet path; one file each.
//!
//! ```text
//! rx burst ─► classify ─┬─► dns ──────┬─► output (answers)
//!                       │             └─► transit (not ours)
//!                       ├─► service ──┬─► transit (translated)
//!                       │             └─► hold slab
//!                       ├─► aside ────┬─► transit (ICMP errors and later fragments of flows, translated)
//!                       │             ├─► hold slab (later fragments of what is held)
//!                       │             └─► host (ICMP errors of no flow)
//!                       ├─► bier ─────► output (copies)
//!                       ├─► hub ──────► inbox of the hub's thread
//!                       ├─► host ─────► slowpath
//!                       ├─► transit ──┬─► output
//!                       │             └─► slowpath (neighbour unknown)
//!                       └─► hand-over ring of the flow's owner
//! ```
//!
//! A node takes the packets of its lane and puts each into another lane, into a hold, or among those to be freed. It
//! counts frames, vectors, cycles and named drops, and says of a traced frame what it decided. What a node refuses may be
//! worth an ICMP error to its sender: [`icmp`].

pub mod aside;
pub mod bier;
pub mod classify;
pub mod dns;
mod encapsulate;
pub mod fragment;
pub(crate) mod handshake;
pub mod host;
pub mod hub;
pub mod icmp;
pub(crate) mod opening;
pub mod output;
mod park;
mod quic;
mod quote;
mod reply;
mod rewrite;
pub mod service;
pub(crate) mod splice;
pub mod transit;
pub mod triple;
mod verify;

use crate::bucket::TokenBucket;
use crate::clock::Nanos;
use crate::counters::WorkerCounters;
use crate::dns::Limiter;
use crate::driver::{BURST_MAX, Frame, PortId, PortsDown};
use crate::flow::FlowHasher;
use crate::hold::{HeldId, Holds};
use crate::packet::{BierPacket, L3, Metas, NOT_TRACED, Origin, Packet};
use crate::queue::Queues;
use crate::slots::Slots;
use crate::tables::Tables;
use crate::tables::interfaces::InterfaceId;
use crate::trace::{DETAIL_BYTES, TraceBuffer, TraceLine};
use crate::triples::Triples;
use crate::wake::Waker;

/// The nodes, in the order in which a frame meets them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(usize)]
pub enum NodeId {
    /// Reads headers and finds out who is meant.
    Classify = 0,
    /// Answers queries.
    Dns = 1,
    /// First packets, balancing, translation.
    Service = 2,
    /// Multicast by bit string.
    Bier = 3,
    /// Content: what arrives, and what is sent.
    Hub = 4,
    /// What is for the appliance itself.
    Host = 5,
    /// Plain forwarding.
    Transit = 6,
    /// Gives frames to ports.
    Output = 7,
}

/// How many nodes there are.
pub const NODES: usize = 8;
/// Reasons a node can have for a drop; room in its counters, which fill whole cache lines with it.
pub const DROPS_PER_NODE_MAX: usize = 29;

impl NodeId {
    /// All nodes.
    pub const ALL: [NodeId; NODES] = [
        NodeId::Classify,
        NodeId::Dns,
        NodeId::Service,
        NodeId::Bier,
        NodeId::Hub,
        NodeId::Host,
        NodeId::Transit,
        NodeId::Output,
    ];

    /// The name that operators see.
    pub fn name(self) -> &'static str {
        match self {
            NodeId::Classify => "classify",
            NodeId::Dns => "dns",
            NodeId::Service => "service",
            NodeId::Bier => "bier",
            NodeId::Hub => "hub",
            NodeId::Host => "host",
            NodeId::Transit => "transit",
            NodeId::Output => "output",
        }
    }
}

/// The names of a node's drops, in the order of its counters.
pub fn drop_names(node: NodeId) -> &'static [&'static str] {
    match node {
        NodeId::Classify => classify::Drop::NAMES,
        NodeId::Dns => dns::Drop::NAMES,
        NodeId::Service => service::Drop::NAMES,
        NodeId::Bier => bier::Drop::NAMES,
        NodeId::Hub => hub::Drop::NAMES,
        NodeId::Host => host::Drop::NAMES,
        NodeId::Transit => transit::Drop::NAMES,
        NodeId::Output => output::Drop::NAMES,
    }
}

/// Declares a node's drops: one variant, one counter, one name for the operator.
macro_rules! drops {
    ($(#[$doc:meta])* $vis:vis enum Drop { $($(#[$variant_doc:meta])* $variant:ident => $name:literal,)+ }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        #[repr(usize)]
        $vis enum Drop { $($(#[$variant_doc])* $variant,)+ }

        impl Drop {
            /// The names, in the order of the counters.
            pub const NAMES: &'static [&'static str] = &[$($name),+];

            /// The name that operators see.
            pub fn name(self) -> &'static str {
                Self::NAMES[self as usize]
            }
        }

        const _: () = assert!(Drop::NAMES.len() <= $crate::node::DROPS_PER_NODE_MAX);
    };
}
pub(crate) use drops;

/// How a frame that leaves by a port is counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Leaving {
    /// As the packet that arrived.
    Forwarded,
    /// Turned into an answer.
    Answered,
    /// Out of a hold (also when it has become an answer there).
    Released,
    /// From the slowpath.
    Injected,
    /// From the worker itself.
    Originated,
}

/// How many ways there are.
pub const LEAVINGS: usize = Leaving::Originated as usize + 1;

/// A frame on its way out.
#[derive(Debug)]
pub struct Outgoing<F> {
    /// The frame, untagged.
    pub frame: F,
    /// Where it leaves.
    pub interface: InterfaceId,
    /// How it is counted.
    pub leaving: Leaving,
    /// The number of its trace.
    pub trace: u16,
}

/// The lanes between the nodes, with room for a round of frames each, taken at start.
#[derive(Debug)]
pub struct Lanes<F> {
    /// To [`dns`].
    pub dns: Vec<Packet<F>>,
    /// To [`service`].
    pub service: Vec<Packet<F>>,
    /// To [`service`]: packets whose time in a hold is over.
    pub expired: Vec<Packet<F>>,
    /// To [`service`]: handshakes, held, whose instance is to be connected to.
    pub handshakes: Vec<HeldId>,
    /// To [`aside`]: packets that find their flow by another packet's ports.
    pub aside: Vec<Packet<F>>,
    /// To [`bier`]: packets that are BIER's.
    pub bier: Vec<BierPacket<F>>,
    /// To [`bier`]: IP packets that hold one, or that enter BIER here.
    pub into_bier: Vec<Packet<F>>,
    /// To [`hub`].
    pub hub: Vec<Packet<F>>,
    /// To [`icmp`]: packets whose senders may have to be told.
    pub refused: Vec<icmp::Refused<F>>,
    /// To [`host`].
    pub host: Vec<Packet<F>>,
    /// To [`transit`].
    pub transit: Vec<Packet<F>>,
    /// To [`transit`]: SYNs, and the positions of their flows, whose handshakes begin if they leave.
    pub opening: Vec<(Packet<F>, u32)>,
    /// To [`output`].
    pub output: Vec<Outgoing<F>>,
    /// To the owners of their flows: worker and packet.
    pub hand_over: Vec<(usize, Packet<F>)>,
    /// Frames whose way ends here; the worker gives them back to the driver.
    pub free: Vec<F>,
}

impl<F> Default for Lanes<F> {
    fn default() -> Self {
        Self {
            dns: Vec::with_capacity(BURST_MAX),
            service: Vec::with_capacity(BURST_MAX),
            expired: Vec::with_capacity(BURST_MAX),
            handshakes: Vec::with_capacity(BURST_MAX),
            aside: Vec::with_capacity(BURST_MAX),
            bier: Vec::with_capacity(BURST_MAX),
            into_bier: Vec::with_capacity(BURST_MAX),
            hub: Vec::with_capacity(BURST_MAX),
            refused: Vec::with_capacity(BURST_MAX),
            host: Vec::with_capacity(BURST_MAX),
            transit: Vec::with_capacity(BURST_MAX),
            opening: Vec::with_capacity(BURST_MAX),
            output: Vec::with_capacity(BURST_MAX),
            hand_over: Vec::with_capacity(BURST_MAX),
            free: Vec::with_capacity(BURST_MAX * 2),
        }
    }
}

/// What every node sees besides its packets.
pub struct Context<'a> {
    /// The snapshot of this round.
    pub tables: &'a Tables,
    /// Ports whose link is down.
    pub ports_down: PortsDown,
    /// Phases and wakes of the services.
    pub slots: &'a Slots,
    /// This worker's counters.
    pub counters: &'a WorkerCounters,
    /// This worker's queues.
    pub queues: &'a Queues,
    /// The time of this round.
    pub now: Nanos,
    /// This worker's index.
    pub worker: usize,
    /// How many workers there are.
    pub workers: usize,
    /// Computes whose flow it is.
    pub hasher: &'a FlowHasher,
    /// What this worker holds.
    pub holds: &'a mut Holds,
    /// What wakes services.
    pub waker: &'a mut Waker,
    /// What the trigger `flow` has seen lately, of all workers.
    pub triples: &'a Triples,
    /// First fragments seen lately.
    pub fragments: &'a mut fragment::FragmentTable,
    /// How many ICMP errors may be sent.
    pub errors: &'a mut TokenBucket,
    /// How much of BIER may be shown to the slowpath.
    pub bier_punts: &'a mut bier::PuntLimit,
    /// What bounds the answers to each source prefix.
    pub limiter: &'a mut Limiter,
    /// Boxes for what is known of packets.
    pub metas: &'a mut Metas,
    /// The trace that is being taken, if any.
    pub trace: Option<&'a mut TraceBuffer>,
}

impl Context<'_> {
    /// Ends a packet's way at a named drop.
    #[inline]
    pub fn drop<F: Frame>(
        &mut self,
        node: NodeId,
        reason: usize,
        name: &'static str,
        packet: Packet<F>,
        lanes: &mut Lanes<F>,
    ) {
        self.trace(node, name, &packet);
        self.counters.node(node).drops[reason].add(1);
        self.ended(packet.meta.origin, &self.counters.fates.dropped, &self.counters.fates.release_dropped);
        self.free(packet, lanes);
    }

    /// Refuses a packet: its sender is told, or it is dropped for this reason.
    #[cold]
    #[inline(never)]
    pub fn refuse<F: Frame>(
        &mut self,
        error: icmp::Error,
        drop: (NodeId, usize, &'static str),
        packet: Packet<F>,
        lanes: &mut Lanes<F>,
    ) {
        lanes.refused.push(icmp::Refused { packet, error, drop });
    }

    /// Ends a packet's way: its frame goes back to the driver, what was known of it is forgotten.
    #[inline]
    pub fn free<F: Frame>(&mut self, packet: Packet<F>, lanes: &mut Lanes<F>) {
        lanes.free.push(packet.frame);
        self.metas.put(packet.meta);
    }

    /// Sends a packet on to the output.
    #[inline]
    pub fn send<F: Frame>(
        &mut self,
        packet: Packet<F>,
        interface: InterfaceId,
        leaving: Leaving,
        lanes: &mut Lanes<F>,
    ) {
        lanes.output.push(Outgoing { frame: packet.frame, interface, leaving, trace: packet.meta.trace });
        self.metas.put(packet.meta);
    }

    /// Counts the end of a packet's way in one of two ways, by where the way began; one of our own is counted only when
    /// it leaves.
    #[inline]
    pub fn ended(&self, origin: Origin, arrival: &crate::counters::Counter, hold: &crate::counters::Counter) {
        match origin {
            Origin::Arrival => arrival.add(1),
            Origin::Hold => hold.add(1),
            Origin::Own => {}
        }
    }

    /// Notes what a node decided of a traced packet.
    #[inline]
    pub fn trace<F: Frame>(&mut self, node: NodeId, decision: &'static str, packet: &Packet<F>) {
        self.trace_frame(node, decision, packet.meta.trace, &packet.frame);
    }

    /// The same for a frame whose headers aren't kept apart.
    #[inline]
    pub fn trace_frame<F: Frame>(&mut self, node: NodeId, decision: &'static str, trace: u16, frame: &F) {
        if trace != NOT_TRACED {
            self.trace_bytes(node, decision, trace, frame.bytes());
        }
    }

    #[cold]
    fn trace_bytes(&mut self, node: NodeId, decision: &'static str, trace: u16, bytes: &[u8]) {
        let Some(buffer) = self.trace.as_deref_mut() else { return };
        let mut detail = [0; DETAIL_BYTES];
        let from = bytes.get(L3..).unwrap_or(&[]);
        let len = from.len().min(DETAIL_BYTES);
        detail[..len].copy_from_slice(&from[..len]);
        buffer.push(TraceLine { frame: trace, node, decision, detail, detail_len: len as u8 });
    }
}

/// The port of an interface, for frames that leave.
#[inline]
pub(crate) fn port_of(tables: &Tables, interface: InterfaceId) -> Option<PortId> {
    tables.interfaces.get(interface).map(|interface| interface.port)
}
