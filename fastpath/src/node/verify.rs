//! Whether the TCP or UDP checksum of a packet is right (RFC 9293 §3.1, RFC 768, RFC 8200 §8.1).
//!
//! It is asked of what ends here and of what begins something: a query, a packet of no known flow, what is said to us while a
//! handshake is spliced. A packet of a known flow isn't asked: what changes of it is worked into its checksum (RFC 1624),
//! so that a wrong one stays wrong, and its receiver finds it.

use super::service::Drop;
use crate::driver::{Frame, RxChecksum};
use crate::packet::{Fragment, L3, Network, Origin, Packet};
use crate::wire::{TCP, UDP, be16, checksum, udp};

/// Whether the checksum of a whole packet of `protocol`, whose ports were read, is right, as far as that can be told here: a
/// packet that goes on in other segments of its frame is believed where the device says nothing.
#[inline(always)]
pub(super) fn has_right_checksum<F: Frame>(packet: &Packet<F>, protocol: u8) -> bool {
    match packet.frame.l4_checksum() {
        RxChecksum::Good => return true,
        RxChecksum::Bad => return false,
        RxChecksum::Unknown => {}
    }
    let meta = &packet.meta;
    let (bytes, l4) = (packet.frame.bytes(), usize::from(meta.l4));
    let len = match protocol {
        UDP if be16(bytes, l4 + udp::CHECKSUM) == 0 => return meta.network == Network::V4,
        UDP => usize::from(be16(bytes, l4 + udp::LENGTH)),
        _ => L3 + usize::from(meta.ip_len) - l4,
    };
    let Some(transport) = bytes.get(l4..l4 + len) else { return true };
    let pseudo = checksum::pseudo_header(meta.source, meta.destination, protocol, len);
    checksum::fold(pseudo + checksum::sum(transport)) == 0xffff
}

/// Lets pass what may begin something. A first fragment can't be judged: its checksum is over bytes that come later.
///
/// # Errors
/// Its checksum is wrong. What was held was asked when it came.
#[inline(never)]
pub(super) fn verify<F: Frame>(packet: &Packet<F>) -> Result<(), Drop> {
    let meta = &packet.meta;
    let asked = meta.origin == Origin::Arrival && meta.fragment == Fragment::Whole;
    match meta.protocol {
        _ if !asked || has_right_checksum(packet, meta.protocol) => Ok(()),
        TCP => Err(Drop::TcpChecksum),
        _ => Err(Drop::UdpChecksum),
    }
}
