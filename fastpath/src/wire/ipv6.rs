//! The IPv6 header (RFC 8200 §3), as a view of the bytes from it on.
//!
//! ```text
//!  0  version, class, flow label    4  payload length    6  next header    7  hop limit
//!  8  source                        24 destination       40 next header's bytes ...
//! ```

use super::be16;
use crate::addr::Addr;

/// Length of the header.
pub const HEADER: usize = 40;
/// Next header value of hop-by-hop options (RFC 8200 §4.3).
pub const HOP_BY_HOP: u8 = 0;
/// Next header value of a routing header (RFC 8200 §4.4).
pub const ROUTING: u8 = 43;
/// Next header value of a fragment header (RFC 8200 §4.5).
pub const FRAGMENT: u8 = 44;
/// Next header value of an authentication header (RFC 4302).
pub const AUTHENTICATION: u8 = 51;
/// Next header value of destination options (RFC 8200 §4.6).
pub const DESTINATION_OPTIONS: u8 = 60;
/// Extension headers that are walked over. RFC 8200 §4.1 knows six places, one of them twice.
pub const EXTENSIONS_MAX: usize = 8;
/// Bytes of extension headers that are walked over: enough for what is seen in the wild (RFC 9098 §2), and the transport
/// header's offset still fits in a byte.
pub const EXTENSION_BYTES_MAX: usize = 192;

/// What is wrong with a header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Malformed {
    /// Fewer bytes than the header, or than its own length field says.
    Short,
    /// The version isn't 6.
    Version,
    /// An extension header is longer than the packet.
    ShortExtension,
}

/// The fields that matter on the way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// Bytes of the packet, header included.
    pub total_len: usize,
    /// What follows the header.
    pub next_header: u8,
    /// The flow label (RFC 6437).
    pub flow_label: u32,
    /// Source address.
    pub source: Addr,
    /// Destination address.
    pub destination: Addr,
}

/// Reads and checks the header. `available` is the length of the packet as it was received, over all segments.
#[inline]
pub fn parse(bytes: &[u8], available: usize) -> Result<Header, Malformed> {
    let Some(fixed) = bytes.first_chunk::<HEADER>() else { return Err(Malformed::Short) };
    if fixed[0] >> 4 != 6 {
        return Err(Malformed::Version);
    }
    let total_len = usize::from(be16(fixed, 4)) + HEADER;
    if total_len > available {
        return Err(Malformed::Short);
    }
    let address = |at: usize| {
        let mut octets = [0; 16];
        octets.copy_from_slice(&fixed[at..at + 16]);
        Addr::v6(octets)
    };
    Ok(Header {
        total_len,
        next_header: fixed[6],
        flow_label: u32::from_be_bytes([0, fixed[1] & 0x0f, fixed[2], fixed[3]]),
        source: address(8),
        destination: address(24),
    })
}

/// What a fragment header says (RFC 8200 §4.5).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FragmentHeader {
    /// In bytes, a multiple of eight.
    pub offset: usize,
    /// More fragments follow.
    pub more: bool,
    /// Common to all fragments of a packet.
    pub id: u32,
}

/// Where a chain of extension headers leads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Chain {
    /// What is at the end; the number of an extension header ([`is_extension`]) when the walk stopped there.
    pub protocol: u8,
    /// The offset of it, from the IPv6 header on.
    pub offset: usize,
    /// The fragment header on the way, if there was one.
    pub fragment: Option<FragmentHeader>,
}

/// Whether this next header value is an extension header that [`walk`] knows.
#[inline]
pub fn is_extension(next_header: u8) -> bool {
    matches!(next_header, HOP_BY_HOP | ROUTING | FRAGMENT | AUTHENTICATION | DESTINATION_OPTIONS)
}

/// Walks over the extension headers of a packet of `len` bytes whose fixed header was parsed. It stops at a later
/// fragment's data, at a routing header with segments left (the transport header's addresses are others then), and at a
/// header beyond [`EXTENSIONS_MAX`] or [`EXTENSION_BYTES_MAX`].
///
/// # Errors
/// [`Malformed::ShortExtension`]
pub fn walk(bytes: &[u8], len: usize) -> Result<Chain, Malformed> {
    let end = len.min(bytes.len());
    let mut chain = Chain { protocol: bytes[6], offset: HEADER, fragment: None };
    for _ in 0..EXTENSIONS_MAX {
        if !is_extension(chain.protocol) {
            break;
        }
        let at = chain.offset;
        if at + 8 > end {
            return Err(Malformed::ShortExtension);
        }
        let header = &bytes[at..at + 8];
        let header_len = match chain.protocol {
            ROUTING if header[3] != 0 => break,
            FRAGMENT => {
                let field = be16(header, 2);
                chain.fragment = Some(FragmentHeader {
                    offset: usize::from(field & 0xfff8),
                    more: field & 1 != 0,
                    id: u32::from_be_bytes([header[4], header[5], header[6], header[7]]),
                });
                8
            }
            AUTHENTICATION => (usize::from(header[1]) + 2) * 4,
            _ => (usize::from(header[1]) + 1) * 8,
        };
        if at + header_len > end {
            return Err(Malformed::ShortExtension);
        }
        if at + header_len > HEADER + EXTENSION_BYTES_MAX {
            break;
        }
        chain.protocol = header[0];
        chain.offset += header_len;
        if chain.fragment.is_some_and(|fragment| fragment.offset != 0) {
            break;
        }
    }
    Ok(chain)
}

/// The hop limit of a header.
#[inline]
pub fn hop_limit(bytes: &[u8]) -> u8 {
    bytes[7]
}

/// Takes one off the hop limit, which must not be 0.
#[inline]
pub fn decrement_hop_limit(bytes: &mut [u8]) {
    bytes[7] -= 1;
}

/// Whether a packet may be MLD's (RFC 9777): one of its types behind hop-by-hop options.
#[inline]
pub fn is_mld(bytes: &[u8]) -> bool {
    let behind = || bytes.get(HEADER + (usize::from(*bytes.get(HEADER + 1)?) + 1) * 8);
    bytes.get(6) == Some(&HOP_BY_HOP)
        && bytes.get(HEADER) == Some(&super::ICMPV6)
        && matches!(behind(), Some(130..=132 | 143))
}
