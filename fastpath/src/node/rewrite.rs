//! Address and port translation in place, with incremental checksums (RFC 1624, RFC 3022 §4.2).

use crate::addr::Addr;
use crate::driver::Frame;
use crate::packet::{L3, Network, Packet};
use crate::wire::checksum::Delta;
use crate::wire::{TCP, be16, ipv4, ipv6, tcp, udp};

/// Gives a TCP or UDP packet other ends. All addresses must be of the packet's own family, and the packet must be
/// unshared, with its ports read: whole, or a first fragment.
#[inline(always)]
pub(super) fn rewrite<F: Frame>(packet: &mut Packet<F>, source: (Addr, u16), destination: (Addr, u16)) {
    let meta = &mut packet.meta;
    let mut delta = Delta::default();
    let bytes = packet.frame.bytes_mut();
    if meta.network == Network::V4 {
        delta.replace_v4(meta.source, source.0);
        delta.replace_v4(meta.destination, destination.0);
        let ip = &mut bytes[L3..L3 + ipv4::HEADER];
        ip[12..16].copy_from_slice(&source.0.v4_bytes());
        ip[16..20].copy_from_slice(&destination.0.v4_bytes());
        patch(ip, 10, delta);
    } else {
        delta.replace_v6(meta.source, source.0);
        delta.replace_v6(meta.destination, destination.0);
        let ip = &mut bytes[L3..L3 + ipv6::HEADER];
        ip[8..24].copy_from_slice(&source.0.v6_bytes());
        ip[24..40].copy_from_slice(&destination.0.v6_bytes());
    }
    delta.replace16(meta.source_port, source.1);
    delta.replace16(meta.destination_port, destination.1);
    let header = &mut bytes[usize::from(meta.l4)..];
    header[0..2].copy_from_slice(&source.1.to_be_bytes());
    header[2..4].copy_from_slice(&destination.1.to_be_bytes());
    if meta.protocol == TCP {
        patch(header, tcp::CHECKSUM, delta);
    } else if be16(header, udp::CHECKSUM) != 0 {
        // Zero means "none" and stays; a computed zero is sent as its other form (RFC 768).
        patch(header, udp::CHECKSUM, delta);
        if be16(header, udp::CHECKSUM) == 0 {
            header[udp::CHECKSUM..udp::CHECKSUM + 2].copy_from_slice(&[0xff, 0xff]);
        }
    }
    (meta.source, meta.source_port) = source;
    (meta.destination, meta.destination_port) = destination;
}

/// Gives a later fragment other addresses. The transport header is in the first one, checksum and all.
pub(super) fn rewrite_addresses<F: Frame>(packet: &mut Packet<F>, source: Addr, destination: Addr) {
    let meta = &mut packet.meta;
    let ip = &mut packet.frame.bytes_mut()[L3..];
    if meta.network == Network::V4 {
        let mut delta = Delta::default();
        delta.replace_v4(meta.source, source);
        delta.replace_v4(meta.destination, destination);
        ip[12..16].copy_from_slice(&source.v4_bytes());
        ip[16..20].copy_from_slice(&destination.v4_bytes());
        patch(ip, 10, delta);
    } else {
        ip[8..24].copy_from_slice(&source.v6_bytes());
        ip[24..40].copy_from_slice(&destination.v6_bytes());
    }
    (meta.source, meta.destination) = (source, destination);
}

#[inline(always)]
fn patch(bytes: &mut [u8], at: usize, delta: Delta) {
    let sum = delta.apply(be16(bytes, at));
    bytes[at..at + 2].copy_from_slice(&sum.to_be_bytes());
}
