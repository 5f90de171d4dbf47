//! Address and port translation in place, with incremental checksums (RFC 1624, RFC 3022 §4.2).

use crate::addr::Addr;
use crate::driver::Frame;
use crate::packet::{L3, Network, Packet};
use crate::wire::checksum::Delta;
use crate::wire::{TCP, be16, tcp, udp};

/// Gives a TCP or UDP packet other ends. All addresses must be of the packet's own family, and the packet must be
/// unshared, not a fragment, with its ports read.
#[inline]
pub(super) fn rewrite<F: Frame>(packet: &mut Packet<F>, source: (Addr, u16), destination: (Addr, u16)) {
    let meta = &mut packet.meta;
    let l4 = usize::from(meta.l4);
    let mut addresses = Delta::default();
    addresses.replace_addr(meta.source, source.0);
    addresses.replace_addr(meta.destination, destination.0);
    let mut transport = addresses;
    transport.replace16(meta.source_port, source.1);
    transport.replace16(meta.destination_port, destination.1);

    let bytes = packet.frame.bytes_mut();
    if meta.network == Network::V4 {
        let ip = &mut bytes[L3..];
        ip[12..16].copy_from_slice(&source.0.v4_bytes());
        ip[16..20].copy_from_slice(&destination.0.v4_bytes());
        patch(ip, 10, addresses);
    } else {
        let ip = &mut bytes[L3..];
        ip[8..24].copy_from_slice(&source.0.v6_bytes());
        ip[24..40].copy_from_slice(&destination.0.v6_bytes());
    }
    let header = &mut bytes[l4..];
    header[0..2].copy_from_slice(&source.1.to_be_bytes());
    header[2..4].copy_from_slice(&destination.1.to_be_bytes());
    if meta.protocol == TCP {
        patch(header, tcp::CHECKSUM, transport);
    } else if be16(header, udp::CHECKSUM) != 0 {
        // Zero means "none" and stays; a computed zero is sent as its other form (RFC 768).
        patch(header, udp::CHECKSUM, transport);
        if be16(header, udp::CHECKSUM) == 0 {
            header[udp::CHECKSUM..udp::CHECKSUM + 2].copy_from_slice(&[0xff, 0xff]);
        }
    }
    (meta.source, meta.source_port) = source;
    (meta.destination, meta.destination_port) = destination;
}

#[inline]
fn patch(bytes: &mut [u8], at: usize, delta: Delta) {
    let sum = delta.apply(be16(bytes, at));
    bytes[at..at + 2].copy_from_slice(&sum.to_be_bytes());
}
