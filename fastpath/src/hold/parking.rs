//! What can be held, what for, and what is said of it.

use std::hash::{Hash, Hasher};

use crate::addr::Addr;
use crate::clock::Nanos;
use crate::dns::Role;
use crate::event::Trigger;
use crate::packet::Meta;
use crate::tables::services::ServiceId;

/// What is released by the same condition, in order. Queries wait for readiness, handshakes for an instance of their
/// family, SYNs for that or, where handshakes are spliced, for the notification, datagrams for that in any case: one that
/// can't leave must not stand in the way of the other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Line {
    /// The service.
    pub service: ServiceId,
    class: u8,
}

/// Lines of a service: queries, and of IPv4 and of IPv6 SYNs, handshakes and datagrams.
pub(super) const CLASSES: usize = 7;

impl Line {
    /// The line that a packet for a service waits in.
    pub fn of(service: ServiceId, held: Held, v4: bool) -> Self {
        let class = match (held, v4) {
            (Held::Query(_), _) => 0,
            (Held::FirstPacket, true) => 1,
            (Held::FirstPacket, false) => 2,
            (Held::Handshake, true) => 3,
            (Held::Handshake, false) => 4,
            (Held::Datagram, true) => 5,
            (Held::Datagram, false) => 6,
        };
        Self { service, class }
    }

    pub(super) fn index(self) -> usize {
        self.service.index() * CLASSES + usize::from(self.class)
    }
}

/// Tells first packets apart: two of the same key are one, repeated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HoldKey {
    /// For whom.
    pub service: ServiceId,
    /// Source address and port.
    pub source: (Addr, u16),
    /// Destination address and port.
    pub destination: (Addr, u16),
    /// IP protocol.
    pub protocol: u8,
    /// The id of a DNS query, for a resolver sends several from one port; [`HANDSHAKE`] for what completes a handshake, for
    /// it may come while its SYN is held again; 0 for everything else.
    pub query_id: u16,
}

impl HoldKey {
    /// The key of a packet for `service`.
    #[inline]
    pub fn of(meta: &Meta, service: ServiceId, query_id: u16) -> Self {
        Self {
            service,
            source: (meta.source, meta.source_port),
            destination: (meta.destination, meta.destination_port),
            protocol: meta.protocol,
            query_id,
        }
    }
}

impl Hash for HoldKey {
    /// Three words instead of seven.
    #[inline]
    fn hash<H: Hasher>(&self, state: &mut H) {
        let ports = u128::from(self.source.1) | u128::from(self.destination.1) << 16;
        let rest =
            u128::from(self.service.0) | u128::from(self.query_id) << 16 | u128::from(self.protocol) << 32;
        state.write_u128(self.source.0.0);
        state.write_u128(self.destination.0.0);
        state.write_u128(ports | rest << 32);
    }
}

/// In the place of a query's id: this is the acknowledgement of a spliced handshake.
pub const HANDSHAKE: u16 = 1;

/// A held packet, for as long as it is held.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HeldId(pub u32);

impl HeldId {
    /// The index into arrays with a place for each packet that can be held.
    #[inline]
    pub fn index(self) -> usize {
        self.0 as usize
    }
}

/// What is held.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Held {
    /// The SYN that opens a flow.
    FirstPacket,
    /// What opens a flow without a handshake that could be answered for its instance.
    Datagram,
    /// A DNS query, by the role in which it will be answered.
    Query(Role),
    /// What a client sent behind the SYN-ACK that we answered it with: see [`crate::splice`].
    Handshake,
}

/// A packet to hold.
#[derive(Clone, Copy, Debug)]
pub struct Parking<'a> {
    /// For whom.
    pub service: ServiceId,
    /// As in its [`HoldKey`].
    pub query_id: u16,
    /// What kind.
    pub held: Held,
    /// What woke, or should wake, the service.
    pub trigger: Trigger,
    /// As it was classified.
    pub meta: &'a Meta,
    /// The frame.
    pub bytes: &'a [u8],
    /// Until when.
    pub deadline: Nanos,
    /// Whether a wake is under way that it waits for.
    pub asked: bool,
    /// How many this worker may hold for the service.
    pub service_max: u32,
}

/// Why a packet can't be held.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(usize)]
pub enum Refusal {
    /// The service's share of this worker is used up.
    ServiceFull,
    /// Its source's neighbourhood has its share.
    PrefixFull,
    /// This worker has no room.
    WorkerFull,
    /// It is longer than any place.
    TooLong,
}

/// How many reasons there are.
pub const REFUSALS: usize = Refusal::TooLong as usize + 1;

impl Refusal {
    /// The names that operators see, in the order of the counters.
    pub const NAMES: [&'static str; REFUSALS] = ["service-full", "prefix-full", "worker-full", "too-long"];
}

/// What became of a packet to hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Parked {
    /// It waits.
    Held,
    /// It waits in the place of the one that it repeats.
    Replaced,
}

/// A held packet as it waits.
#[derive(Clone, Copy, Debug)]
pub struct Waiting {
    /// What kind.
    pub held: Held,
    /// What should wake the service.
    pub trigger: Trigger,
    /// As it was classified; the service is the one that it waits for.
    pub meta: Meta,
    /// Until when.
    pub deadline: Nanos,
    /// Whether a wake was begun that it waits for.
    pub asked: bool,
}
