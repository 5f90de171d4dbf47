//! UDP in IP, as the appliance itself sends it.

use millrace_fastpath::addr::Addr;
use millrace_fastpath::packet::L3;
use millrace_fastpath::wire::{UDP, checksum, ethernet, ipv4, ipv6, udp};

/// Bytes of the longer headers.
pub(crate) const HEADERS_MAX: usize = ipv6::HEADER + udp::HEADER;

/// Bytes of the IP and UDP headers of one family.
pub(crate) fn headers_len(v4: bool) -> usize {
    udp::HEADER + if v4 { ipv4::HEADER } else { ipv6::HEADER }
}

/// An IP packet with these data, which may pass so many hops, in an Ethernet frame to nobody yet. Both addresses are of one
/// family; the data are short enough for a length of 16 bits.
pub(crate) fn packet(from: (Addr, u16), to: (Addr, u16), hops: u8, data: &[u8]) -> Vec<u8> {
    let ((from, from_port), (to, to_port)) = (from, to);
    let len = (udp::HEADER + data.len()) as u16;
    let mut packet = Vec::with_capacity(L3 + HEADERS_MAX + data.len());
    packet.resize(L3, 0);
    let ethertype = if from.is_v4() { ethernet::IPV4 } else { ethernet::IPV6 };
    ethernet::set_ethertype(&mut packet, ethertype);
    if from.is_v4() {
        let mut header = [0; ipv4::HEADER];
        header[0] = 0x45;
        header[2..4].copy_from_slice(&(ipv4::HEADER as u16 + len).to_be_bytes());
        // It mustn't be fragmented, so it needs no identification (RFC 6864 section 4.1).
        (header[6], header[8], header[9]) = (0x40, hops, UDP);
        header[12..16].copy_from_slice(&from.v4_bytes());
        header[16..20].copy_from_slice(&to.v4_bytes());
        ipv4::fill_checksum(&mut header, ipv4::HEADER);
        packet.extend(header);
    } else {
        packet.extend([0x60, 0, 0, 0]);
        packet.extend(len.to_be_bytes());
        packet.extend([UDP, hops]);
        packet.extend(from.v6_bytes());
        packet.extend(to.v6_bytes());
    }
    let start = packet.len();
    for word in [from_port, to_port, len, 0] {
        packet.extend(word.to_be_bytes());
    }
    packet.extend_from_slice(data);
    let (_, datagram) = packet.split_at_mut(start);
    let sum = checksum::sum(datagram) + checksum::pseudo_header(from, to, UDP, usize::from(len));
    // A sum of zero would say that there is none (RFC 768).
    let sum = match !checksum::fold(sum) {
        0 => u16::MAX,
        sum => sum,
    };
    datagram[udp::CHECKSUM..udp::HEADER].copy_from_slice(&sum.to_be_bytes());
    packet
}
