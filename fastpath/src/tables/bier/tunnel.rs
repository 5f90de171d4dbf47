//! Tunnels: BIER inside IP, between routers that aren't on one link (RFC 8279 §6.9).
//!
//! ```text
//!  udp    Ethernet │ IPv4 or IPv6 │ UDP 8138 │ BIER ...            draft-xu-bier-non-mpls-encap-over-udp
//!  ipv6   Ethernet │ IPv6, next header of BIER │ BIER ...          draft-ietf-bier-bierin6
//! ```
//!
//! The header inside is that of networks without MPLS. Nothing of its time to live is copied to the outer packet or back,
//! and the outer packet is never fragmented: its DF is set, and its identification is then nothing (RFC 6864 §4.1).
//!
//! UDP has no checksum over IPv4 (RFC 7510 §3 for the same with MPLS). Over IPv6 it has one (RFC 8200 §8.1), for the outer
//! addresses and the BIER header have no other; only where the payload isn't in one piece it has none, which RFC 6935 allows
//! tunnels whose ends know of each other, as ours do: see [`Tunnels::peers`].

use arrayvec::ArrayVec;

use crate::addr::Addr;
use crate::wire::{UDP, checksum, ethernet, ipv4, ipv6, udp};

/// The port that BIER in UDP is received on. No registry has it: it is the one that others use.
pub const UDP_PORT: u16 = 8138;
/// Time to live of the outer packet: as much as there is, for its way is nothing to those inside (RFC 8279 §6.9).
const TTL: u8 = u8::MAX;
/// Don't fragment.
const DF: u16 = 0x4000;
/// The first of the source ports that tell flows apart (RFC 6335 §6: the dynamic ones), and their number.
const SOURCE_PORTS: (u16, u16) = (0xc000, 0x4000);
/// Bits of the entropy that a source port takes.
const SOURCE_PORT_BITS: u32 = SOURCE_PORTS.1.ilog2();
/// Bytes of the longest outer headers.
const OUTER_MAX: usize = ipv6::HEADER + udp::HEADER;

/// What a tunnel is made of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tunnel {
    /// UDP to [`UDP_PORT`], over the IP of the far end's address.
    Udp,
    /// IPv6 alone, with [`Tunnels::next_header`].
    Ipv6,
}

/// What all tunnels have in common.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tunnels {
    /// What our packets come from, where it is an address of ours and of the far end's family; otherwise from the interface
    /// that they leave by.
    pub own: Option<Addr>,
    /// Whom we take packets from, in order. Nobody else is believed (RFC 6936 §5).
    pub peers: Vec<Addr>,
    /// The IPv6 next header that stands for BIER.
    pub next_header: u8,
}

impl Tunnels {
    /// Whether we take packets from this router.
    #[inline]
    pub fn has_peer(&self, addr: Addr) -> bool {
        self.peers.binary_search(&addr).is_ok()
    }
}

/// The headers around a BIER packet, but for what differs from copy to copy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outer {
    bytes: ArrayVec<u8, OUTER_MAX>,
    v4: bool,
    udp: bool,
    /// The pseudo header's sum without its length, where UDP has a checksum.
    pseudo: u64,
}

/// What the headers of one copy say of the BIER packet behind them.
#[derive(Clone, Copy, Debug)]
pub struct Inner {
    /// 20 bits, by which routers on the way tell flows apart.
    pub entropy: u32,
    /// 6 bits.
    pub dscp: u8,
    /// Bytes, from the BIER header on; no more than the way's MTU.
    pub len: usize,
}

impl Outer {
    /// Those from `source` to `destination`, which are of one family.
    pub(super) fn new(tunnel: Tunnel, source: Addr, destination: Addr, next_header: u8) -> Self {
        let v4 = destination.is_v4();
        let udp = tunnel == Tunnel::Udp;
        let protocol = if udp { UDP } else { next_header };
        let mut bytes = ArrayVec::from([0; OUTER_MAX]);
        bytes.truncate(overhead(tunnel, v4));
        let (ip, behind) = bytes.split_at_mut(if v4 { ipv4::HEADER } else { ipv6::HEADER });
        if v4 {
            ip[0] = 0x45;
            ip[6..8].copy_from_slice(&DF.to_be_bytes());
            (ip[8], ip[9]) = (TTL, protocol);
            ip[12..16].copy_from_slice(&source.v4_bytes());
            ip[16..20].copy_from_slice(&destination.v4_bytes());
        } else {
            (ip[0], ip[6], ip[7]) = (0x60, protocol, TTL);
            ip[8..24].copy_from_slice(&source.v6_bytes());
            ip[24..40].copy_from_slice(&destination.v6_bytes());
        }
        if udp {
            behind[2..4].copy_from_slice(&UDP_PORT.to_be_bytes());
        }
        Self { bytes, v4, udp, pseudo: checksum::pseudo_header(source, destination, UDP, 0) }
    }

    /// Bytes of the headers.
    #[inline]
    pub fn wire_len(&self) -> usize {
        self.bytes.len()
    }

    /// The EtherType of frames with them.
    pub(super) fn ethertype(&self) -> u16 {
        if self.v4 { ethernet::IPV4 } else { ethernet::IPV6 }
    }

    /// Writes them to `out`, which is as long. `sum` is that of the BIER packet, and asked for only where it is needed; without
    /// it there is no checksum.
    pub fn write(&self, out: &mut [u8], inner: Inner, sum: impl FnOnce() -> Option<u64>) {
        out.copy_from_slice(&self.bytes);
        let (ip, behind) = out.split_at_mut(if self.v4 { ipv4::HEADER } else { ipv6::HEADER });
        let behind_len = behind.len() + inner.len;
        if self.v4 {
            ip[1] = inner.dscp << 2;
            ip[2..4].copy_from_slice(&((ipv4::HEADER + behind_len) as u16).to_be_bytes());
            ipv4::fill_checksum(ip, ipv4::HEADER);
        } else {
            // The entropy as it is: a flow label is as long (RFC 6438 §3).
            let first = 6 << 28 | u32::from(inner.dscp) << 22 | inner.entropy & 0x000f_ffff;
            ip[0..4].copy_from_slice(&first.to_be_bytes());
            ip[4..6].copy_from_slice(&(behind_len as u16).to_be_bytes());
        }
        if !self.udp {
            return;
        }
        let folded = inner.entropy ^ inner.entropy >> SOURCE_PORT_BITS;
        let port = SOURCE_PORTS.0 + (folded as u16 & (SOURCE_PORTS.1 - 1));
        behind[0..2].copy_from_slice(&port.to_be_bytes());
        behind[4..6].copy_from_slice(&(behind_len as u16).to_be_bytes());
        if !self.v4
            && let Some(inner) = sum()
        {
            let sum = self.pseudo + behind_len as u64 + checksum::sum(behind) + inner;
            // A sum of zero is sent as its other form (RFC 768).
            let sum = Some(!checksum::fold(sum)).filter(|sum| *sum != 0).unwrap_or(0xffff);
            behind[udp::CHECKSUM..udp::CHECKSUM + 2].copy_from_slice(&sum.to_be_bytes());
        }
    }
}

/// Bytes that a tunnel to an address of this family puts in front of the BIER header.
pub(super) const fn overhead(tunnel: Tunnel, v4: bool) -> usize {
    let ip = if v4 { ipv4::HEADER } else { ipv6::HEADER };
    match tunnel {
        Tunnel::Udp => ip + udp::HEADER,
        Tunnel::Ipv6 => ip,
    }
}
