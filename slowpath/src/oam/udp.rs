//! Echo replies in IP and UDP (section 4.5).

use millrace_bier::oam::UDP_PORT;
use millrace_fastpath::addr::Addr;
use millrace_fastpath::packet::L3;
use millrace_fastpath::wire::{UDP, checksum, ipv4, ipv6};

const UDP_HEADER: usize = 8;
/// Bytes of the longer headers.
pub(super) const HEADERS_MAX: usize = 40 + UDP_HEADER;
/// Hops that a reply may go: as many as those of RFC 8029 section 4.5, whose address nobody else has either.
const HOPS: u8 = 255;

/// An IP packet with this message, behind the room of an Ethernet header. Both addresses are of one family.
pub(super) fn packet(from: Addr, to: Addr, message: &[u8]) -> Vec<u8> {
    let len = (UDP_HEADER + message.len()) as u16;
    let mut udp = Vec::with_capacity(usize::from(len));
    for word in [UDP_PORT, UDP_PORT, len, 0] {
        udp.extend(word.to_be_bytes());
    }
    udp.extend_from_slice(message);
    let sum = checksum::sum(&udp) + checksum::pseudo_header(from, to, UDP, udp.len());
    // A sum of zero would say that there is none (RFC 768).
    let sum = match !checksum::fold(sum) {
        0 => u16::MAX,
        sum => sum,
    };
    udp[6..8].copy_from_slice(&sum.to_be_bytes());
    let mut packet = vec![0; L3];
    if from.is_v4() {
        let mut header = [0; ipv4::HEADER];
        header[0] = 0x45;
        header[2..4].copy_from_slice(&(ipv4::HEADER as u16 + len).to_be_bytes());
        // It mustn't be fragmented, so it needs no identification (RFC 6864 section 4.1).
        (header[6], header[8], header[9]) = (0x40, HOPS, UDP);
        header[12..16].copy_from_slice(&from.v4_bytes());
        header[16..20].copy_from_slice(&to.v4_bytes());
        let sum = !checksum::fold(checksum::sum(&header));
        header[10..12].copy_from_slice(&sum.to_be_bytes());
        packet.extend(header);
    } else {
        packet.extend([0x60, 0, 0, 0]);
        packet.extend(len.to_be_bytes());
        packet.extend([UDP, HOPS]);
        packet.extend(from.v6_bytes());
        packet.extend(to.v6_bytes());
    }
    packet.extend(udp);
    packet
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
