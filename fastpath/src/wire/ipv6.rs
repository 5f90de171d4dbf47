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
/// Next header value of a fragment header (RFC 8200 §4.5).
pub const FRAGMENT: u8 = 44;

/// What is wrong with a header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Malformed {
    /// Fewer bytes than the header, or than its own length field says.
    Short,
    /// The version isn't 6.
    Version,
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
