//! ICMP (RFC 792) and ICMPv6 (RFC 4443) errors, as far as workers send and read them.
//!
//! ```text
//!  0  type   1  code   2  checksum   4  unused, MTU, pointer   8  the packet that it is about, from its IP header on ...
//! ```

use super::{ICMP, ICMPV6, TCP, UDP, be16, ipv4, ipv6, udp};
use crate::addr::Addr;

/// Length of an error's header.
pub const HEADER: usize = 8;
/// Offset of the checksum.
pub const CHECKSUM: usize = 2;
/// Longest IPv4 error (RFC 1812 §4.3.2.3).
pub const V4_BYTES_MAX: usize = 576;
/// Longest IPv6 error: what every link carries (RFC 4443 §2.4 (c)).
pub const V6_BYTES_MAX: usize = 1280;
/// Redirect of ICMPv6: not an error by its number, but nothing is said about one either (RFC 4443 §2.4 (e)).
const V6_REDIRECT: u8 = 137;

/// Whether a message of this type is an error, of the kinds that quote the packet they are about. Source quench and
/// redirect of IPv4 quote one as well.
#[inline]
pub fn is_error(protocol: u8, kind: u8) -> bool {
    match protocol {
        ICMP => matches!(kind, 3 | 4 | 5 | 11 | 12),
        ICMPV6 => kind < 128 || kind == V6_REDIRECT,
        _ => false,
    }
}

/// What an error says of a packet of ours: the types that a flow's end should hear of. Redirects are for the sender's own
/// link, and source quench is nobody's any more (RFC 6633).
#[inline]
pub fn concerns_a_flow(protocol: u8, kind: u8) -> bool {
    is_error(protocol, kind) && !matches!((protocol, kind), (ICMP, 4 | 5) | (ICMPV6, V6_REDIRECT))
}

/// The packet that an error quotes: its ends, and where its headers begin in the bytes given.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Quote {
    /// Offset of the quoted IP header.
    pub ip: usize,
    /// Offset of the quoted TCP or UDP header, of which eight bytes are there at least.
    pub l4: usize,
    /// TCP or UDP.
    pub protocol: u8,
    /// The end that had sent it.
    pub source: (Addr, u16),
    /// The end that it was for.
    pub destination: (Addr, u16),
}

impl Quote {
    /// Finds the packet quoted by the error whose own header is at `icmp`. `None` when too little is quoted, when it has no
    /// ports, or when it is a later fragment: then nobody can tell the flow.
    pub fn parse(bytes: &[u8], icmp: usize, v4: bool) -> Option<Self> {
        let ip = icmp + HEADER;
        let quoted = bytes.get(ip..)?;
        let (offset, protocol, source, destination) =
            if v4 { Self::parse_v4(quoted) } else { Self::parse_v6(quoted) }?;
        // RFC 792: the first eight bytes of the transport header, and no more may be counted on.
        let ports = quoted.get(offset..offset + 8)?;
        if protocol != TCP && protocol != UDP {
            return None;
        }
        Some(Self {
            ip,
            l4: ip + offset,
            protocol,
            source: (source, be16(ports, 0)),
            destination: (destination, be16(ports, 2)),
        })
    }

    fn parse_v4(quoted: &[u8]) -> Option<(usize, u8, Addr, Addr)> {
        let header = quoted.first_chunk::<{ ipv4::HEADER }>()?;
        let len = usize::from(header[0] & 0x0f) * 4;
        let is_later_fragment = be16(header, 6) & 0x1fff != 0;
        if header[0] >> 4 != 4 || len < ipv4::HEADER || is_later_fragment {
            return None;
        }
        let addr = |at: usize| Addr::v4([header[at], header[at + 1], header[at + 2], header[at + 3]]);
        Some((len, header[9], addr(12), addr(16)))
    }

    fn parse_v6(quoted: &[u8]) -> Option<(usize, u8, Addr, Addr)> {
        // The length is that of the whole packet, of which a part is quoted.
        let header = ipv6::parse(quoted, usize::MAX).ok()?;
        let chain = ipv6::walk(quoted, quoted.len()).ok()?;
        if chain.fragment.is_some_and(|fragment| fragment.offset != 0) {
            return None;
        }
        Some((chain.offset, chain.protocol, header.source, header.destination))
    }

    /// Where the checksum of the quoted transport header is, if that much is quoted of it and it has one.
    pub fn checksum_at(&self, bytes: &[u8]) -> Option<usize> {
        let at = self.l4 + if self.protocol == TCP { super::tcp::CHECKSUM } else { udp::CHECKSUM };
        let there = bytes.get(at..at + 2)?;
        // Zero means "none" in UDP (RFC 768).
        (self.protocol == TCP || there != [0, 0]).then_some(at)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_are_told_from_what_asks_and_answers() {
        for kind in [3, 11, 12] {
            assert!(is_error(ICMP, kind) && concerns_a_flow(ICMP, kind));
        }
        for kind in [0, 8, 13, 14] {
            assert!(!is_error(ICMP, kind), "{kind}");
        }
        assert!(is_error(ICMP, 5) && !concerns_a_flow(ICMP, 5));
        for kind in [1, 2, 3, 4, 100, 127] {
            assert!(is_error(ICMPV6, kind) && concerns_a_flow(ICMPV6, kind), "{kind}");
        }
        assert!(is_error(ICMPV6, 137) && !concerns_a_flow(ICMPV6, 137));
        assert!(!is_error(ICMPV6, 128) && !is_error(ICMPV6, 135) && !is_error(UDP, 3));
    }

    #[test]
    fn eight_bytes_of_transport_header_are_enough_and_seven_are_not() {
        let mut error = vec![3, 1, 0, 0, 0, 0, 0, 0];
        error.extend_from_slice(&[0x45, 0, 5, 0xdc, 0, 0, 0x40, 0, 60, TCP, 0, 0]);
        error.extend_from_slice(&[10, 9, 9, 9, 198, 51, 100, 7]);
        error.extend_from_slice(&[0x9c, 0x40, 0x1f, 0x90, 1, 2, 3, 4]);
        let quote = Quote::parse(&error, 0, true).unwrap();
        assert_eq!((quote.ip, quote.l4, quote.protocol), (8, 28, TCP));
        assert_eq!(quote.source, (Addr::v4([10, 9, 9, 9]), 40_000));
        assert_eq!(quote.destination, (Addr::v4([198, 51, 100, 7]), 8080));
        assert_eq!(quote.checksum_at(&error), None);
        assert_eq!(Quote::parse(&error[..error.len() - 1], 0, true), None);
        error[8 + 7] = 1; // a later fragment's bytes are no header
        assert_eq!(Quote::parse(&error, 0, true), None);
    }
}
