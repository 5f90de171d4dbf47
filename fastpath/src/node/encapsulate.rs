//! Packets that reach their instance whole: by its link-layer address, or inside another packet. The instance has the
//! service's address itself, on an interface that nobody asks for it, and answers the client past us.
//!
//! ```text
//!  l2     Ethernet │ IP VIP ...                                                the instance's link-layer address
//!  ipip   Ethernet │ IP instance, 4 or 41 │ IP VIP ...                         RFC 2003, RFC 4213 §3, RFC 2473
//!  gue    Ethernet │ IP instance, UDP │ UDP 6080 │ GUE, 4 or 41 │ IP VIP ...   draft-ietf-intarea-gue §3, variant 0
//! ```
//!
//! What leaves here goes to transit, which finds the neighbour and counts the hop.
//!
//! The outer packet is never fragmented (its DF is set, RFC 2003 §3.1 allows it, and its identification is then nothing,
//! RFC 6864 §4.1): nobody would put the pieces together before the instance, and every one of them would be its own flow to
//! the devices between. A packet that is too long with its new headers is refused, and the SYNs that go by say so to the
//! instance before it happens the other way.

use super::Context;
use crate::addr::Addr;
use crate::driver::Frame;
use crate::packet::{Fragment, L3, Network, Packet};
use crate::tables::services::Forwarding;
use crate::wire::{TCP, UDP, be16, checksum, ethernet, ipv4, ipv6, tcp, udp};

/// Why a packet can't be sent to its instance whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Refusal {
    /// No route to the instance.
    NoRoute,
    /// The instance isn't on a network of ours, so it has no link-layer address for us.
    NotOnLink,
    /// The interface towards the instance has no address of the family of the instance's.
    NoSource,
    /// Its time to live (hop limit) is used up.
    TtlExpired,
    /// Longer than this, the most that the outer packet can carry, in bytes.
    TooBig(u16),
    /// No room in front of the frame.
    NoHeadroom,
}

/// The IP protocol number of IPv4 in IP (RFC 2003).
const IPV4_IN_IP: u8 = 4;
/// The IP protocol number of IPv6 in IP (RFC 2473).
const IPV6_IN_IP: u8 = 41;
/// The port that GUE is received on (IANA).
const GUE_PORT: u16 = 6080;
/// Version 0, no control message, no optional fields; the protocol follows in the second byte.
const GUE_HEADER: usize = 4;
/// The first of the source ports that tell flows apart (RFC 6335 §6: the dynamic ones), and their number.
const SOURCE_PORTS: (u16, u16) = (0xc000, 0x4000);
/// Time to live of the outer packet (RFC 1700's default): its way doesn't depend on the inner one's.
const TTL: u8 = 64;
/// Don't fragment.
const DF: u16 = 0x4000;

/// What was prepended, in bytes, by the way and the family of the outer packet.
const fn overhead(forwarding: Forwarding, v4: bool) -> usize {
    let ip = if v4 { ipv4::HEADER } else { ipv6::HEADER };
    match forwarding {
        Forwarding::Gue => ip + udp::HEADER + GUE_HEADER,
        _ => ip,
    }
}

/// Makes a packet one that transit takes to `instance` unchanged inside. `forwarding` isn't [`Forwarding::Nat`].
pub(super) fn encapsulate<F: Frame>(
    packet: &mut Packet<F>,
    forwarding: Forwarding,
    instance: Addr,
    cx: &Context<'_>,
) -> Result<(), Refusal> {
    let hop = cx.tables.routes.lookup(instance).ok_or(Refusal::NoRoute)?;
    if forwarding == Forwarding::L2 {
        if hop.via.is_some() {
            return Err(Refusal::NotOnLink);
        }
        // Transit looks for the neighbour of this address; the packet's own stays as it is.
        packet.meta.destination = instance;
        return Ok(());
    }
    let egress = cx.tables.interfaces.get(hop.interface).ok_or(Refusal::NoRoute)?;
    let source = egress.address_like(instance).ok_or(Refusal::NoSource)?;
    wrap(packet, forwarding, (source, instance), egress.mtu)
}

/// Puts the outer headers on. `mtu` is that of the link towards the instance.
fn wrap<F: Frame>(
    packet: &mut Packet<F>,
    forwarding: Forwarding,
    (source, destination): (Addr, Addr),
    mtu: u16,
) -> Result<(), Refusal> {
    let v4 = destination.is_v4();
    let overhead = overhead(forwarding, v4);
    let room = mtu.saturating_sub(overhead as u16);
    let inner_v4 = packet.meta.network == Network::V4;
    let ip = &mut packet.frame.bytes_mut()[L3..];
    // It is forwarded once, into the tunnel (RFC 2003 §3.1, RFC 2473 §3.1).
    if (if inner_v4 { ipv4::ttl(ip) } else { ipv6::hop_limit(ip) }) <= 1 {
        return Err(Refusal::TtlExpired);
    }
    if packet.meta.ip_len > room {
        return Err(Refusal::TooBig(room));
    }
    if packet.frame.headroom() < overhead {
        return Err(Refusal::NoHeadroom);
    }
    let ip = &mut packet.frame.bytes_mut()[L3..];
    if inner_v4 {
        ipv4::decrement_ttl(ip);
    } else {
        ipv6::decrement_hop_limit(ip);
    }
    // DSCP, and ECN as RFC 6040 §4.1 copies it.
    let class = if inner_v4 { ip[1] } else { (be16(ip, 0) >> 4) as u8 };
    if packet.meta.protocol == TCP && packet.meta.tcp_flags & tcp::SYN != 0 {
        clamp_mss(packet, room);
    }
    let inner_sum = if forwarding == Forwarding::Gue && !v4 { inner_sum(packet) } else { None };
    let inner_len = usize::from(packet.meta.ip_len);
    if !packet.frame.prepend(overhead) {
        return Err(Refusal::NoHeadroom);
    }
    let bytes = packet.frame.bytes_mut();
    bytes.copy_within(overhead..overhead + 12, 0);
    bytes[12..14].copy_from_slice(&(if v4 { ethernet::IPV4 } else { ethernet::IPV6 }).to_be_bytes());
    let inner_protocol = if inner_v4 { IPV4_IN_IP } else { IPV6_IN_IP };
    let protocol = if forwarding == Forwarding::Gue { UDP } else { inner_protocol };
    let hash = packet.meta.flow_hash;
    let total = inner_len + overhead;
    let headers = &mut bytes[L3..L3 + overhead];
    let (outer, behind) = headers.split_at_mut(if v4 { ipv4::HEADER } else { ipv6::HEADER });
    if v4 {
        write_v4(outer, class, total, protocol, source, destination);
    } else {
        write_v6(outer, class, hash, total - ipv6::HEADER, protocol, source, destination);
    }
    if forwarding == Forwarding::Gue {
        let port = SOURCE_PORTS.0 + (hash as u16 & (SOURCE_PORTS.1 - 1));
        let len = inner_len + udp::HEADER + GUE_HEADER;
        behind[0..2].copy_from_slice(&port.to_be_bytes());
        behind[2..4].copy_from_slice(&GUE_PORT.to_be_bytes());
        behind[4..6].copy_from_slice(&(len as u16).to_be_bytes());
        behind[6..8].copy_from_slice(&[0, 0]);
        behind[8..12].copy_from_slice(&[0, inner_protocol, 0, 0]);
        if let Some(inner) = inner_sum {
            let sum = checksum::pseudo_header(source, destination, UDP, len) + checksum::sum(behind) + inner;
            // A sum of zero is sent as its other form (RFC 768).
            let sum = Some(!checksum::fold(sum)).filter(|sum| *sum != 0).unwrap_or(0xffff);
            behind[udp::CHECKSUM..udp::CHECKSUM + 2].copy_from_slice(&sum.to_be_bytes());
        }
    }
    let meta = &mut packet.meta;
    (meta.source, meta.destination) = (source, destination);
    meta.network = if v4 { Network::V4 } else { Network::V6 };
    meta.ip_len = total as u16;
    meta.protocol = protocol;
    meta.l4 = (L3 + if v4 { ipv4::HEADER } else { ipv6::HEADER }) as u8;
    // What is known of ports and flags was the inner packet's.
    meta.has_l4 = false;
    Ok(())
}

fn write_v4(header: &mut [u8], class: u8, total: usize, protocol: u8, source: Addr, destination: Addr) {
    header[0] = 0x45;
    header[1] = class;
    header[2..4].copy_from_slice(&(total as u16).to_be_bytes());
    header[4..6].copy_from_slice(&[0, 0]);
    header[6..8].copy_from_slice(&DF.to_be_bytes());
    header[8] = TTL;
    header[9] = protocol;
    header[12..16].copy_from_slice(&source.v4_bytes());
    header[16..20].copy_from_slice(&destination.v4_bytes());
    ipv4::fill_checksum(header, ipv4::HEADER);
}

/// With a flow label by the flow, so that the routers between share out flows and not tunnels (RFC 6438 §3).
fn write_v6(
    header: &mut [u8],
    class: u8,
    hash: u64,
    payload: usize,
    protocol: u8,
    source: Addr,
    destination: Addr,
) {
    let label = hash as u32 & 0x000f_ffff;
    let first = 6 << 28 | u32::from(class) << 20 | label;
    header[0..4].copy_from_slice(&first.to_be_bytes());
    header[4..6].copy_from_slice(&(payload as u16).to_be_bytes());
    header[6] = protocol;
    header[7] = TTL;
    header[8..24].copy_from_slice(&source.v6_bytes());
    header[24..40].copy_from_slice(&destination.v6_bytes());
}

/// The sum over the inner packet, for the checksum that UDP must have over IPv6 (RFC 8200 §8.1). A transport header whose
/// own checksum is right sums up to the complement of its pseudo header, whatever the payload: nothing of it is read. One
/// that is wrong makes the outer one wrong too. A fragment has no checksum of its own: that of the first is over what
/// comes in the others. `None`, for none (RFC 6935 allows tunnels that), where the inner packet has none and goes on in
/// other segments.
fn inner_sum<F: Frame>(packet: &Packet<F>) -> Option<u64> {
    let meta = &packet.meta;
    let (bytes, l4) = (packet.frame.bytes(), usize::from(meta.l4));
    let end = L3 + usize::from(meta.ip_len);
    let is_part = meta.fragment != Fragment::Whole;
    if is_part || meta.protocol == UDP && be16(bytes, l4 + udp::CHECKSUM) == 0 {
        return Some(checksum::sum(bytes.get(L3..end)?));
    }
    let pseudo = checksum::pseudo_header(meta.source, meta.destination, meta.protocol, end - l4);
    Some(checksum::sum(&bytes[L3..l4]) + u64::from(!checksum::fold(pseudo)))
}

/// Has a SYN ask for segments no longer than what fits into a packet of `room` bytes (RFC 9293 §3.7.1): on a way back that
/// is as narrow as the way there, the instance's would be too long otherwise.
fn clamp_mss<F: Frame>(packet: &mut Packet<F>, room: u16) {
    let l4 = usize::from(packet.meta.l4);
    let most = room.saturating_sub((l4 - L3 + tcp::HEADER) as u16);
    let bytes = &mut packet.frame.bytes_mut()[l4..];
    let end = (usize::from(bytes[12] >> 4) * 4).min(bytes.len());
    let mut at = tcp::HEADER;
    while at < end {
        match bytes[at] {
            END_OF_OPTIONS => return,
            NO_OPERATION => at += 1,
            MSS if at + 4 <= end && bytes[at + 1] == 4 => {
                let (asked, sum) = (be16(bytes, at + 2), be16(bytes, tcp::CHECKSUM));
                if asked > most {
                    bytes[at + 2..at + 4].copy_from_slice(&most.to_be_bytes());
                    let mut delta = checksum::Delta::default();
                    // A word that begins at an odd byte counts with its halves exchanged.
                    match at % 2 {
                        0 => delta.replace16(asked, most),
                        _ => delta.replace16(asked.swap_bytes(), most.swap_bytes()),
                    }
                    bytes[tcp::CHECKSUM..tcp::CHECKSUM + 2].copy_from_slice(&delta.apply(sum).to_be_bytes());
                }
                return;
            }
            // An option without an end has none behind it either.
            _ => match bytes.get(at + 1) {
                Some(len) if *len >= 2 => at += usize::from(*len),
                _ => return,
            },
        }
    }
}

const END_OF_OPTIONS: u8 = 0;
const NO_OPERATION: u8 = 1;
/// Maximum segment size, always four bytes (RFC 9293 §3.2).
const MSS: u8 = 2;

#[cfg(test)]
mod tests;
