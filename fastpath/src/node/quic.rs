//! QUIC to a service whose connection ids say who made them: which instance a packet of no known flow is for.
//!
//! ```text
//!   flow known ──────────────────────────────────────► as any flow; nothing here is asked
//!   short header, id of an instance's making ────────► that instance, also when it drains: its client has moved
//!   long header, id of a ready instance's making ────► that instance
//!   long header, any other id ───────────────────────► a connection begins: balanced, or held
//!   short header, any other id ──────────────────────► by the hash to somebody who can say that it is over, or dropped
//!   cut within the header, a version negotiation ────► dropped
//! ```
//!
//! A client makes up the id of the first packets that it sends (RFC 9000 §7.2), and only what has a long header can be one of
//! them. It may pass for an instance's by chance, or because the client wants it to, so it begins no connection with one
//! that drains: to that end such an instance isn't among the draft's active servers (§4.1). Who has heard the server's id
//! doesn't move before the handshake is over (RFC 9000 §9), and until then its flow is known.
//!
//! A flow that is known goes on with its instance whatever its ids say. Where a client's old address is a new client's
//! within the time that UDP flows are kept, and that one's connection is another instance's, it loses packets until they
//! come from elsewhere; the draft's §6 knows of it, and what it saves is a look into every packet.

use super::service::Drop;
use crate::driver::Frame;
use crate::packet::{L3, Packet};
use crate::tables::services::{Entry, Instance, InstanceState};
use crate::wire::quic::{Header, VERSION_NEGOTIATION};
use crate::wire::{be16, udp};

/// What a datagram's first packet says.
pub(super) struct Asked<'a> {
    /// Who made its id.
    pub(super) instance: Option<&'a Instance>,
    /// Whether a connection may begin with it.
    pub(super) begins: bool,
}

/// Asks a UDP packet to a service whose ids are known.
///
/// # Errors
/// It is cut within the header, or one that no client sends.
#[inline(never)]
pub(super) fn ask<'a, F: Frame>(service: &'a Entry, packet: &Packet<F>) -> Result<Asked<'a>, Drop> {
    let header = Header::parse(datagram(packet)).ok_or(Drop::QuicCut)?;
    let begins = match header {
        Header::Long { version: VERSION_NEGOTIATION, .. } => return Err(Drop::QuicNegotiation),
        Header::Long { .. } => true,
        Header::Short { .. } => false,
    };
    let made = service.server_ids().and_then(|ids| ids.find(header.destination()));
    let v4 = packet.meta.destination.is_v4();
    let takes = |instance: &&Instance| {
        let state = match instance.state {
            InstanceState::Ready => true,
            InstanceState::Draining => !begins,
            // It hasn't served yet, so it has made no ids.
            InstanceState::Starting => false,
        };
        state && service.address_of(instance, v4).is_some()
    };
    Ok(Asked { instance: made.and_then(|at| service.instances.get(at)).filter(takes), begins })
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
