//! Turning a packet into the answer to it, in place.

use crate::driver::Frame;
use crate::packet::{L3, Network, Packet};
use crate::wire::checksum::{self, Delta};
use crate::wire::{be16, ethernet, ipv6};

/// Hop limit of what we originate (RFC 1700's default TTL).
const TTL: u8 = 64;

/// Makes a packet whose transport header and payload have been rewritten to `l4_len` bytes go back where it came from:
/// link-layer and network addresses trade places, lengths, time to live and header checksum are set. Ports and the
/// transport checksum are the caller's. False if the frame can't be cut to its new length, or has IPv6 extension headers:
/// they are for the way that the packet came.
#[inline]
pub(super) fn turn_around<F: Frame>(packet: &mut Packet<F>, l4_len: usize) -> bool {
    let l4 = usize::from(packet.meta.l4);
    if packet.meta.network == Network::V6 && l4 != L3 + ipv6::HEADER {
        return false;
    }
    if !packet.frame.truncate(l4 + l4_len) {
        return false;
    }
    let bytes = packet.frame.bytes_mut();
    let (ours, theirs) = (ethernet::destination(bytes), ethernet::source(bytes));
    ethernet::set_addresses(bytes, theirs, ours);
    let ip = &mut bytes[L3..];
    if packet.meta.network == Network::V4 {
        let total = (l4 - L3 + l4_len) as u16;
        // Summed before anything is written: read right behind, each word would wait for the pieces that it was written in.
        // Addresses that trade places change nothing.
        let sum = checksum::sum(&ip[..l4 - L3]);
        let mut delta = Delta::default();
        delta.replace16(be16(ip, 2), total);
        delta.replace16(be16(ip, 6), 0);
        delta.replace16(be16(ip, 8), u16::from_be_bytes([TTL, ip[9]]));
        delta.replace16(be16(ip, 10), 0);
        let sum = delta.apply(!checksum::fold(sum));
        ip[2..4].copy_from_slice(&total.to_be_bytes());
        // Not a fragment, may be fragmented; the identification is the asker's.
        ip[6..8].copy_from_slice(&[0, 0]);
        ip[8] = TTL;
        ip[10..12].copy_from_slice(&sum.to_be_bytes());
        swap(ip, 12, 16, 4);
    } else {
        ip[4..6].copy_from_slice(&(l4_len as u16).to_be_bytes());
        ip[7] = TTL;
        swap(ip, 8, 24, 16);
    }
    std::mem::swap(&mut packet.meta.source, &mut packet.meta.destination);
    true
}

fn swap(bytes: &mut [u8], a: usize, b: usize, len: usize) {
    let (left, right) = bytes.split_at_mut(b);
    left[a..a + len].swap_with_slice(&mut right[..len]);
}
