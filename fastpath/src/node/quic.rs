//! QUIC to a service whose connection ids say who made them: which instance a packet of no known flow is for.
//!
//! ```text
//!   flow known ──────────────────────────────────────► as any flow; nothing here is asked
//!   id of an instance's making, also one that drains ─► that instance: its client has moved
//!   long header, any other id ────────────────────────► a connection begins: balanced, or held
//!   short header, any other id ───────────────────────► by the hash to somebody who can say that it is over, or dropped
//!   cut within the header ────────────────────────────► dropped
//! ```
//!
//! A flow that is known goes on with its instance whatever its ids say. Where a client's old address is a new client's
//! within the time that UDP flows are kept, and that one's connection is another instance's, it loses packets until they
//! come from elsewhere; the draft's §6 knows of it, and what it saves is a look into every packet.

use crate::driver::Frame;
use crate::packet::{L3, Packet};
use crate::tables::services::{Entry, Instance, InstanceState};
use crate::wire::quic::Header;
use crate::wire::{be16, udp};

/// What a datagram's first packet says.
pub(super) struct Asked<'a> {
    /// Who made its id.
    pub(super) instance: Option<&'a Instance>,
    /// Whether a connection may begin with it.
    pub(super) begins: bool,
}

/// Asks a UDP packet to a service whose ids are known; `None` where it is cut within the header.
#[inline(never)]
pub(super) fn ask<'a, F: Frame>(service: &'a Entry, packet: &Packet<F>) -> Option<Asked<'a>> {
    let header = Header::parse(datagram(packet))?;
    let made = service.server_ids().and_then(|ids| ids.find(header.destination()));
    let v4 = packet.meta.destination.is_v4();
    // One that hasn't served yet has made no ids.
    let serves = |instance: &&Instance| {
        instance.state != InstanceState::Starting && service.address_of(instance, v4).is_some()
    };
    Some(Asked {
        instance: made.and_then(|at| service.instances.get(at)).filter(serves),
        begins: matches!(header, Header::Long { .. }),
    })
}

/// The payload of a UDP packet, as far as it is in the frame's first segment.
#[inline]
fn datagram<F: Frame>(packet: &Packet<F>) -> &[u8] {
    let (bytes, l4) = (packet.frame.bytes(), usize::from(packet.meta.l4));
    // A first fragment has less than its header says.
    let said = l4 + usize::from(be16(bytes, l4 + 4));
    let end = said.min(L3 + usize::from(packet.meta.ip_len)).min(bytes.len());
    bytes.get(l4 + udp::HEADER..end).unwrap_or(&[])
}
