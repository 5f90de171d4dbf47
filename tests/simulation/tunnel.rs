//! How packets come whole to a backend that answers past the appliance: by its link-layer address, inside another IP
//! packet (RFC 2003, RFC 4213 §3, RFC 2473), or inside UDP (draft-ietf-intarea-gue §3). Written from those texts.

use std::net::IpAddr;

use smoltcp::wire::{IpProtocol, Ipv4Packet, Ipv6Packet, TcpControl, UdpPacket};

use crate::random::Digest;
use crate::wire::{Body, ETHERNET, IPV4_HEADER, IPV6_HEADER, UDP_HEADER, packet};

/// A packet that was inside another.
#[derive(Debug)]
pub(crate) struct Opened<'a> {
    pub(crate) inner: &'a [u8],
    /// Where the outer one goes.
    pub(crate) to: IpAddr,
    pub(crate) is_gue: bool,
    /// Bytes around it.
    pub(crate) overhead: usize,
}

const GUE_PORT: u16 = 6080;
const GUE_HEADER: usize = 4;
/// What the appliance's own packets have left behind its own hop.
const HOPS_LEFT: u8 = 63;

/// Takes the outer headers of a frame off; `None` where it has none, `Err` says what is wrong with them.
pub(crate) fn open(frame: &[u8]) -> Result<Option<Opened<'_>>, &'static str> {
    let (outer, to, protocol, hops): (_, IpAddr, _, _) = match frame.get(12..ETHERNET) {
        Some([0x08, 0x00]) => {
            let packet = Ipv4Packet::new_checked(&frame[ETHERNET..]).map_err(|_| "outer IPv4 lengths")?;
            if packet.more_frags() || packet.frag_offset() != 0 {
                return Ok(None);
            }
            let end = ETHERNET + usize::from(packet.total_len());
            let data = &frame[ETHERNET + usize::from(packet.header_len())..end];
            (data, packet.dst_addr().into(), packet.next_header(), packet.hop_limit())
        }
        Some([0x86, 0xdd]) => {
            let packet = Ipv6Packet::new_checked(&frame[ETHERNET..]).map_err(|_| "outer IPv6 lengths")?;
            let data = &frame[ETHERNET + IPV6_HEADER..][..usize::from(packet.payload_len())];
            (data, packet.dst_addr().into(), packet.next_header(), packet.hop_limit())
        }
        _ => return Ok(None),
    };
    let outer_header = if to.is_ipv4() { IPV4_HEADER } else { IPV6_HEADER };
    let (inner, version, is_gue, overhead) = match protocol {
        IpProtocol::Unknown(4) => (outer, 4, false, outer_header),
        IpProtocol::Unknown(41) => (outer, 6, false, outer_header),
        IpProtocol::Udp => {
            let Some(inner) = gue(frame, outer)? else { return Ok(None) };
            let version = match outer[UDP_HEADER + 1] {
                4 => 4,
                41 => 6,
                _ => return Err("GUE protocol"),
            };
            (inner, version, true, outer_header + UDP_HEADER + GUE_HEADER)
        }
        _ => return Ok(None),
    };
    if hops != HOPS_LEFT {
        return Err("outer hops");
    }
    if inner.first().is_none_or(|first| first >> 4 != version) {
        return Err("inner version");
    }
    let len = match version {
        4 => inner.get(2..4).map(|len| usize::from(u16::from_be_bytes([len[0], len[1]]))),
        _ => inner.get(4..6).map(|len| IPV6_HEADER + usize::from(u16::from_be_bytes([len[0], len[1]]))),
    };
    // Nothing is missing of it, and nothing comes behind it.
    if len != Some(inner.len()) {
        return Err("inner length");
    }
    Ok(Some(Opened { inner, to, is_gue, overhead }))
}

fn gue<'a>(frame: &[u8], outer: &'a [u8]) -> Result<Option<&'a [u8]>, &'static str> {
    let packet = UdpPacket::new_checked(outer).map_err(|_| "outer UDP lengths")?;
    if packet.dst_port() != GUE_PORT {
        return Ok(None);
    }
    if usize::from(packet.len()) != outer.len() {
        return Err("outer UDP length");
    }
    let read = crate::wire::read(frame)?.ok_or("no IP")?;
    if !matches!(read.body, Body::Udp(..)) {
        return Err("outer UDP");
    }
    // No control message, no optional fields, nothing that a version after this one has.
    if outer.len() < UDP_HEADER + GUE_HEADER
        || outer[UDP_HEADER] != 0
        || outer[UDP_HEADER + 2..][..2] != [0, 0]
    {
        return Err("GUE header");
    }
    Ok(Some(&outer[UDP_HEADER + GUE_HEADER..]))
}

/// What must be the same of a packet before and behind the appliance; `hops` of those that it has are spent on the way.
/// A SYN may ask for shorter segments than it did: how long is left out, and so is the sum over it.
pub(crate) fn unchanged(bytes: &[u8], hops: u8) -> u64 {
    let mut same = bytes.to_vec();
    let header = if same[0] >> 4 == 4 {
        same[8] = same[8].wrapping_sub(hops);
        same[10..12].fill(0);
        usize::from(same[0] & 15) * 4
    } else {
        same[7] = same[7].wrapping_sub(hops);
        IPV6_HEADER
    };
    if let Ok(read) = packet(bytes)
        && let Some((tcp, ..)) = read.tcp()
        && tcp.control == TcpControl::Syn
    {
        same[header + 16..header + 18].fill(0);
        let mut at = header + 20;
        while at + 4 <= same.len() {
            match same[at] {
                0 => break,
                1 => at += 1,
                2 => {
                    same[at + 2..at + 4].fill(0);
                    break;
                }
                _ => at += usize::from(same[at + 1].max(2)),
            }
        }
    }
    Digest::of(&same)
}
