//! Bounded queues between a worker and the slowpath, without locks, and with all their memory taken at start.
//!
//! Frames cross in [`Parcel`]s, which go round: the slowpath fills the return queues with empty ones, the worker takes an
//! empty one, copies a frame in and sends it up; an injected one comes down full and goes back empty. Nobody allocates or
//! frees on the worker's side.

use crossbeam_queue::ArrayQueue;

use crate::counters::FlowRow;
use crate::event::Event;
use crate::tables::interfaces::InterfaceId;
use crate::trace::TraceBuffer;

/// Events a worker can be ahead of the slowpath by. Wakes are rate-limited far below this per slowpath turn.
pub const EVENTS_MAX: usize = 4096;
/// Parcels per worker and direction: a burst of ARP from a full /24 fits.
pub const PARCELS_MAX: usize = 512;
/// The largest frame that can be punted or injected: a full Ethernet frame with a VLAN tag.
pub const PARCEL_BYTES_MAX: usize = 1522;
/// Commands that wait for a worker.
pub const COMMANDS_MAX: usize = 8;

/// Why a frame was punted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Punt {
    /// It is for the appliance itself (ARP, ND, ICMP, TCP/53, ...).
    #[default]
    Host,
    /// It is to be forwarded, but the next hop's link-layer address isn't known. It is complete but for the Ethernet
    /// header; `interface` is the one it leaves by.
    NeighbourUnknown,
    /// BIER's operation, administration and maintenance, for us or with its time to live used up (draft-ietf-bier-ping-23
    /// section 4.1): the frame as it came.
    BierOam,
    /// What another router says in BIER that is listened to behind it, by IGMP or MLD (draft-ietf-bier-mld): the frame as it came.
    BierMembership,
    /// One of the BIER packets whose time to live was used up here, for the operator to see: the frame as it came.
    BierExpired,
}

/// What an injected frame is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Injected {
    /// A frame to send, complete from the Ethernet header on, untagged.
    #[default]
    Frame,
    /// A BIER packet without MPLS that begins here, in an Ethernet frame to nobody yet. Its BIFT-id is our own, and its TTL that of
    /// its copies.
    Bier,
}

/// One frame in the slowpath's keeping: Ethernet frame without VLAN tag.
#[derive(Clone, Debug)]
pub struct Parcel {
    /// Why it was punted; unused on the way down.
    pub punt: Punt,
    /// What it is on the way down; unused on the way up.
    pub injected: Injected,
    /// The interface it came in by, or is to leave by (see [`Punt`]).
    pub interface: InterfaceId,
    /// For [`Punt::NeighbourUnknown`]: the next hop whose link-layer address is wanted.
    pub next_hop: crate::addr::Addr,
    len: usize,
    bytes: [u8; PARCEL_BYTES_MAX],
}

impl Default for Parcel {
    fn default() -> Self {
        Self {
            punt: Punt::Host,
            injected: Injected::Frame,
            interface: InterfaceId::default(),
            next_hop: crate::addr::Addr::default(),
            len: 0,
            bytes: [0; PARCEL_BYTES_MAX],
        }
    }
}

impl Parcel {
    /// The frame.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes[..self.len]
    }

    /// The frame, to be changed in place.
    pub fn bytes_mut(&mut self) -> &mut [u8] {
        &mut self.bytes[..self.len]
    }

    /// Copies a frame in; false if it is longer than [`PARCEL_BYTES_MAX`].
    pub fn fill(&mut self, frame: &[u8]) -> bool {
        let Some(room) = self.bytes.get_mut(..frame.len()) else { return false };
        room.copy_from_slice(frame);
        self.len = frame.len();
        true
    }
}

/// What the slowpath asks a worker to do between two bursts.
#[derive(Debug)]
pub enum Command {
    /// Trace the next frames, as many as the buffer has room for.
    Trace(Box<TraceBuffer>),
    /// Copy flows into the vector, up to its capacity.
    Flows(Vec<FlowRow>),
}

/// What comes back from a command.
#[derive(Debug)]
pub enum Reply {
    /// The frames traced.
    Trace(Box<TraceBuffer>),
    /// The flows.
    Flows(Vec<FlowRow>),
}

/// The queues of one worker. The worker and the slowpath each hold the set by reference; every queue has one of them at
/// either end.
#[derive(Debug)]
pub struct Queues {
    /// Worker to slowpath.
    pub events: ArrayQueue<Event>,
    /// Worker to slowpath: frames.
    pub punts: ArrayQueue<Box<Parcel>>,
    /// Slowpath to worker: empty parcels for `punts`.
    pub punts_empty: ArrayQueue<Box<Parcel>>,
    /// Slowpath to worker: frames to send by `Parcel::interface`, or what else [`Injected`] says.
    pub injects: ArrayQueue<Box<Parcel>>,
    /// Worker to slowpath: parcels of `injects`, sent.
    pub injects_empty: ArrayQueue<Box<Parcel>>,
    /// Slowpath to worker.
    pub commands: ArrayQueue<Command>,
    /// Worker to slowpath.
    pub replies: ArrayQueue<Reply>,
}

impl Default for Queues {
    fn default() -> Self {
        let queues = Self {
            events: ArrayQueue::new(EVENTS_MAX),
            punts: ArrayQueue::new(PARCELS_MAX),
            punts_empty: ArrayQueue::new(PARCELS_MAX),
            injects: ArrayQueue::new(PARCELS_MAX),
            injects_empty: ArrayQueue::new(PARCELS_MAX),
            commands: ArrayQueue::new(COMMANDS_MAX),
            replies: ArrayQueue::new(COMMANDS_MAX),
        };
        for _ in 0..PARCELS_MAX {
            // The queues have room for exactly these.
            let _ = queues.punts_empty.push(Box::default());
            let _ = queues.injects_empty.push(Box::default());
        }
        queues
    }
}
