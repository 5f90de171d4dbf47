//! Echo replies in IP and UDP (section 4.5).

use millrace_bier::oam::UDP_PORT;
use millrace_fastpath::addr::Addr;
use millrace_fastpath::packet::L3;
use millrace_fastpath::wire::{UDP, checksum, ipv4, ipv6};

const UDP_HEADER: usize = 8;
/// Hops that a reply may go: as many as those of RFC 8029 section 4.5, whose address nobody else has either.
const HOPS: u8 = 255;

/// An IP packet with this message, behind the room of an Ethernet header. Both addresses are of one family.
pub(super) fn packet(from: Addr, to: Addr, message: &[u8]) -> Vec<u8> {
    crate::udp::packet((from, UDP_PORT), (to, UDP_PORT), HOPS, message)
}

/// Whether a frame is UDP to the port of echo replies, so that [`payload`] is its business.
pub(crate) fn is_echo(frame: &[u8]) -> bool {
    udp_of(frame).is_some_and(|(.., udp)| udp.get(2..4) == Some(&UDP_PORT.to_be_bytes()))
}

/// The message in a frame; `None` if it is cut, or its checksum wrong.
pub(super) fn payload(frame: &[u8]) -> Option<&[u8]> {
    let (from, to, udp) = udp_of(frame)?;
    let len = usize::from(u16::from_be_bytes([*udp.get(4)?, *udp.get(5)?]));
    let udp = udp.get(..len).filter(|udp| udp.len() >= UDP_HEADER)?;
    let sum = checksum::sum(udp) + checksum::pseudo_header(from, to, UDP, len);
    // Over IPv4 there needn't be one (RFC 768).
    let is_right = checksum::fold(sum) == u16::MAX || from.is_v4() && udp[6..8] == [0, 0];
    is_right.then(|| &udp[UDP_HEADER..])
}

/// Source, destination, and what follows the IP header.
fn udp_of(frame: &[u8]) -> Option<(Addr, Addr, &[u8])> {
    let ip = frame.get(L3..)?;
    match frame.get(12..14)? {
        [0x08, 0x00] => {
            let header = ipv4::parse(ip, ip.len(), true).ok()?;
            let is_whole = header.protocol == UDP && !header.fragment;
            is_whole.then(|| (header.source, header.destination, &ip[header.header_len..header.total_len]))
        }
        [0x86, 0xdd] => {
            let header = ipv6::parse(ip, ip.len()).ok()?;
            // Extension headers have no business here.
            (ip[6] == UDP).then(|| (header.source, header.destination, &ip[40..header.total_len]))
        }
        _ => None,
    }
}
