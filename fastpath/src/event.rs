//! What workers tell the slowpath.

use crate::addr::Addr;
use crate::clock::Nanos;
use crate::slots::WakeId;
use crate::tables::interfaces::{InterfaceId, Mac};
use crate::tables::services::ServiceId;

/// What woke a service.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trigger {
    /// A DNS query of this type for one of its names.
    Dns {
        /// QTYPE (RFC 1035 §3.2.3).
        query_type: u16,
    },
    /// A packet to its address that opens a flow.
    Syn,
    /// A packet to its address, whatever follows its IP header.
    Flow,
}

/// The header fields of the packet that opened a request; no payload.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PacketFields {
    /// The interface it came in by (port and VLAN).
    pub interface: InterfaceId,
    /// Ethernet source.
    pub source_mac: Mac,
    /// Ethernet destination.
    pub destination_mac: Mac,
    /// IP source.
    pub source: Addr,
    /// IP destination.
    pub destination: Addr,
    /// IPv4 protocol, or IPv6 next header.
    pub protocol: u8,
    /// The IP packet's length in bytes.
    pub length: u16,
    /// IPv6 flow label (RFC 8200 §3); 0 for IPv4.
    pub flow_label: u32,
}

/// A point in the life of one wake that a worker passed first; each is told at most once per wake and worker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Milestone {
    /// The first DNS answer for the service left.
    Answered,
    /// The first packet was held.
    Held,
    /// The first held packet was handed to the port.
    Released,
    /// The first held packet ran into its deadline.
    Expired,
}

/// One message from a worker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    /// A cold service's first packet: the orchestrator is to be notified.
    FirstPacket {
        /// The service.
        service: ServiceId,
        /// Which wake this begins.
        wake: WakeId,
        /// What did it.
        trigger: Trigger,
        /// When the worker saw it.
        at: Nanos,
        /// The packet's header fields.
        fields: PacketFields,
    },
    /// A new triple for a service that has an instance already: told, but there is nothing to wake.
    Arrival {
        /// The service.
        service: ServiceId,
        /// What made it known.
        trigger: Trigger,
        /// When the worker saw it.
        at: Nanos,
        /// The packet's header fields.
        fields: PacketFields,
    },
    /// A point on the way of a wake.
    Milestone {
        /// The service.
        service: ServiceId,
        /// Which wake.
        wake: WakeId,
        /// Which point.
        what: Milestone,
        /// When.
        at: Nanos,
    },
}
