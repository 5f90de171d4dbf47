//! The IPv4 header (RFC 791), as a view of the bytes from it on.
//!
//! ```text
//!  0  version, IHL     2  total length    6  flags, offset    8  TTL    9  protocol    10  checksum
//!  12 source           16 destination     20 options ...
//! ```

use super::{be16, checksum};
use crate::addr::Addr;

/// Length of the header without options.
pub const HEADER: usize = 20;

/// What is wrong with a header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Malformed {
    /// Fewer bytes than the header, or than its own length field says.
    Short,
    /// The version isn't 4.
    Version,
    /// The header length is below 20, or the total length below the header's.
    Length,
    /// The header checksum is wrong.
    Checksum,
}

/// The fields that matter on the way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// Bytes of the header, options included.
    pub header_len: usize,
    /// Bytes of the packet, header included.
    pub total_len: usize,
    /// The protocol of the payload.
    pub protocol: u8,
    /// True for every fragment but a whole packet.
    pub fragment: bool,
    /// Source address.
    pub source: Addr,
    /// Destination address.
    pub destination: Addr,
}

/// Reads and checks the header. `available` is the length of the packet as it was received, over all segments.
#[inline(always)]
pub fn parse(bytes: &[u8], available: usize, verify_checksum: bool) -> Result<Header, Malformed> {
    let Some(fixed) = bytes.first_chunk::<HEADER>() else { return Err(Malformed::Short) };
    if fixed[0] >> 4 != 4 {
        return Err(Malformed::Version);
    }
    let header_len = usize::from(fixed[0] & 0x0f) * 4;
    let total_len = usize::from(be16(fixed, 2));
    if header_len < HEADER || total_len < header_len {
        return Err(Malformed::Length);
    }
    if total_len > available || header_len > bytes.len() {
        return Err(Malformed::Short);
    }
    if verify_checksum && !is_right(bytes, fixed, header_len) {
        return Err(Malformed::Checksum);
    }
    Ok(Header {
        header_len,
        total_len,
        protocol: fixed[9],
        fragment: be16(fixed, 6) & 0x3fff != 0,
        source: Addr::v4([fixed[12], fixed[13], fixed[14], fixed[15]]),
        destination: Addr::v4([fixed[16], fixed[17], fixed[18], fixed[19]]),
    })
}

/// The header's sum: nearly all have no options, and then its length needn't be asked.
#[inline(always)]
fn is_right(bytes: &[u8], fixed: &[u8; HEADER], header_len: usize) -> bool {
    if header_len == HEADER { checksum::is_right(fixed) } else { checksum::is_right(&bytes[..header_len]) }
}

/// Where a fragment's data belongs in its packet's, in bytes.
#[inline]
pub fn fragment_offset(bytes: &[u8]) -> usize {
    usize::from(be16(bytes, 6) & 0x1fff) * 8
}

/// Whether nobody on the way may fragment the packet (RFC 791 §3.1).
#[inline]
pub fn dont_fragment(bytes: &[u8]) -> bool {
    bytes[6] & 0x40 != 0
}

/// What fragments of one packet have in common, besides addresses and protocol.
#[inline]
pub fn identification(bytes: &[u8]) -> u16 {
    be16(bytes, 4)
}

/// The time to live of a header.
#[inline]
pub fn ttl(bytes: &[u8]) -> u8 {
    bytes[8]
}

/// Takes one off the time to live and keeps the checksum right. The TTL must not be 0.
#[inline(always)]
pub fn decrement_ttl(bytes: &mut [u8]) {
    bytes[8] -= 1;
    // The TTL is the upper byte of its word: that one is 0x0100 less, so its complement is as much more, with the carry
    // brought round (RFC 1624 §4).
    let sum = u32::from(be16(bytes, 10)) + 0x0100;
    let sum = (sum + (sum >> 16)) as u16;
    // 0xffff says the same as 0, which is what RFC 1624's equation 3 gives.
    let sum = if sum == 0xffff { 0 } else { sum };
    bytes[10..12].copy_from_slice(&sum.to_be_bytes());
}

/// Writes the checksum of a header of `header_len` bytes anew.
#[inline(always)]
pub fn fill_checksum(bytes: &mut [u8], header_len: usize) {
    bytes[10..12].copy_from_slice(&[0, 0]);
    let sum = !checksum::fold(checksum::sum(&bytes[..header_len]));
    bytes[10..12].copy_from_slice(&sum.to_be_bytes());
}

/// Whether a packet is IGMP's (RFC 9776).
#[inline]
pub fn is_igmp(bytes: &[u8]) -> bool {
    bytes.get(9) == Some(&super::IGMP)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_hop_less_keeps_every_checksum_right() {
        for (ttl, checksum) in
            [1, 2, 64, 255].into_iter().flat_map(|ttl| (0..=u16::MAX).map(move |sum| (ttl, sum)))
        {
            let mut header = [0; HEADER];
            header[8] = ttl;
            header[10..12].copy_from_slice(&checksum.to_be_bytes());
            let mut delta = checksum::Delta::default();
            delta.replace16(u16::from(ttl) << 8, u16::from(ttl - 1) << 8);
            decrement_ttl(&mut header);
            assert_eq!((header[8], be16(&header, 10)), (ttl - 1, delta.apply(checksum)));
        }
    }
}
