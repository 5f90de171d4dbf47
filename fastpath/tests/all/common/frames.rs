//! Frames built and read by `smoltcp`, which shares no code with ours.

use smoltcp::phy::ChecksumCapabilities;
use smoltcp::wire::*;

use super::{CLIENT_MAC, HOST_MAC, LAN_MAC, WAN_MAC};

/// One end of a conversation.
pub(crate) type End<'a> = (&'a str, u16);

fn ip(from: &str, to: &str, protocol: IpProtocol, payload: usize) -> IpRepr {
    IpRepr::new(from.parse().unwrap(), to.parse().unwrap(), protocol, payload, 64)
}

fn ethernet(source: [u8; 6], destination: [u8; 6], ip: &IpRepr, fill: impl FnOnce(&mut [u8])) -> Vec<u8> {
    let caps = ChecksumCapabilities::default();
    let repr = EthernetRepr {
        src_addr: EthernetAddress(source),
        dst_addr: EthernetAddress(destination),
        ethertype: match ip {
            IpRepr::Ipv4(_) => EthernetProtocol::Ipv4,
            IpRepr::Ipv6(_) => EthernetProtocol::Ipv6,
        },
    };
    let mut bytes = vec![0; 14 + ip.buffer_len()];
    repr.emit(&mut EthernetFrame::new_unchecked(&mut bytes[..]));
    ip.emit(&mut bytes[14..], &caps);
    fill(&mut bytes[14 + ip.header_len()..]);
    bytes
}

pub(crate) fn tcp_frame(
    macs: ([u8; 6], [u8; 6]),
    from: End<'_>,
    to: End<'_>,
    control: TcpControl,
    ack: Option<i32>,
    seq: i32,
    data: &[u8],
) -> Vec<u8> {
    let repr = TcpRepr {
        src_port: from.1,
        dst_port: to.1,
        control,
        seq_number: TcpSeqNumber(seq),
        ack_number: ack.map(TcpSeqNumber),
        window_len: 64_240,
        window_scale: None,
        max_seg_size: (control == TcpControl::Syn).then_some(1460),
        sack_permitted: false,
        sack_ranges: [None; 3],
        timestamp: None,
        payload: data,
    };
    let ip = ip(from.0, to.0, IpProtocol::Tcp, repr.buffer_len());
    ethernet(macs.0, macs.1, &ip, |bytes| {
        let caps = ChecksumCapabilities::default();
        repr.emit(&mut TcpPacket::new_unchecked(bytes), &ip.src_addr(), &ip.dst_addr(), &caps);
    })
}

/// Client to appliance.
pub(crate) fn syn(from: End<'_>, to: End<'_>, seq: i32) -> Vec<u8> {
    tcp_frame((CLIENT_MAC, WAN_MAC), from, to, TcpControl::Syn, None, seq, b"")
}

/// Client to appliance.
pub(crate) fn segment(from: End<'_>, to: End<'_>, data: &[u8]) -> Vec<u8> {
    tcp_frame((CLIENT_MAC, WAN_MAC), from, to, TcpControl::None, Some(1), 2, data)
}

/// Function host to appliance.
pub(crate) fn host_segment(from: End<'_>, to: End<'_>, control: TcpControl, data: &[u8]) -> Vec<u8> {
    tcp_frame((HOST_MAC, LAN_MAC), from, to, control, Some(1), 2, data)
}

pub(crate) fn udp(macs: ([u8; 6], [u8; 6]), from: End<'_>, to: End<'_>, data: &[u8]) -> Vec<u8> {
    let repr = UdpRepr { src_port: from.1, dst_port: to.1 };
    let ip = ip(from.0, to.0, IpProtocol::Udp, repr.header_len() + data.len());
    ethernet(macs.0, macs.1, &ip, |bytes| {
        let caps = ChecksumCapabilities::default();
        let mut packet = UdpPacket::new_unchecked(bytes);
        repr.emit(
            &mut packet,
            &ip.src_addr(),
            &ip.dst_addr(),
            data.len(),
            |to| to.copy_from_slice(data),
            &caps,
        );
    })
}

/// A TCP or UDP frame, without options and extension headers, whose checksum over that is wrong.
pub(crate) fn with_wrong_checksum(frame: &[u8]) -> Vec<u8> {
    let mut bytes = frame.to_vec();
    let (protocol, l4) = if bytes[14] >> 4 == 4 { (bytes[23], 34) } else { (bytes[20], 54) };
    bytes[l4 + if protocol == 6 { 16 } else { 6 }] ^= 0x55;
    bytes
}

/// Whether the TCP or UDP checksum of such a frame is right, to an independent reader.
pub(crate) fn has_right_checksum(frame: &[u8]) -> bool {
    let frame = EthernetFrame::new_checked(frame).unwrap();
    let (source, destination, protocol, payload) = match frame.ethertype() {
        EthernetProtocol::Ipv4 => {
            let packet = Ipv4Packet::new_checked(frame.payload()).unwrap();
            assert!(packet.verify_checksum(), "IPv4 header checksum");
            let ends = (IpAddress::Ipv4(packet.src_addr()), IpAddress::Ipv4(packet.dst_addr()));
            (ends.0, ends.1, packet.next_header(), packet.payload())
        }
        _ => {
            let packet = Ipv6Packet::new_checked(frame.payload()).unwrap();
            let ends = (IpAddress::Ipv6(packet.src_addr()), IpAddress::Ipv6(packet.dst_addr()));
            (ends.0, ends.1, packet.next_header(), packet.payload())
        }
    };
    match protocol {
        IpProtocol::Tcp => TcpPacket::new_checked(payload).unwrap().verify_checksum(&source, &destination),
        _ => UdpPacket::new_checked(payload).unwrap().verify_checksum(&source, &destination),
    }
}

/// Client to appliance.
pub(crate) fn client_udp(from: End<'_>, to: End<'_>, data: &[u8]) -> Vec<u8> {
    udp((CLIENT_MAC, WAN_MAC), from, to, data)
}

/// Client to appliance, of any protocol.
pub(crate) fn client_ip(from: &str, to: &str, protocol: u8, payload: &[u8]) -> Vec<u8> {
    let ip = ip(from, to, IpProtocol::from(protocol), payload.len());
    ethernet(CLIENT_MAC, WAN_MAC, &ip, |bytes| bytes.copy_from_slice(payload))
}

/// Puts an 802.1Q tag on.
pub(crate) fn tagged(frame: &[u8], vlan: u16) -> Vec<u8> {
    let mut bytes = frame[..12].to_vec();
    bytes.extend_from_slice(&[0x81, 0x00]);
    bytes.extend_from_slice(&vlan.to_be_bytes());
    bytes.extend_from_slice(&frame[12..]);
    bytes
}

/// Puts an 802.1ad tag on, and an 802.1Q tag inside.
pub(crate) fn double_tagged(frame: &[u8], outer: u16, vlan: u16) -> Vec<u8> {
    let mut bytes = tagged(&tagged(frame, vlan), outer);
    bytes[12..14].copy_from_slice(&[0x88, 0xa8]);
    bytes
}

/// A frame's IP packet as it is one hop later.
pub(crate) fn one_hop_later(frame: &[u8]) -> Vec<u8> {
    let mut packet = frame[14..].to_vec();
    if packet[0] >> 4 == 4 {
        packet[8] -= 1;
        Ipv4Packet::new_unchecked(&mut packet[..]).fill_checksum();
    } else {
        packet[7] -= 1;
    }
    packet
}

/// Sets the time to live (hop limit) of a frame's packet.
pub(crate) fn with_ttl(frame: &[u8], ttl: u8) -> Vec<u8> {
    let mut bytes = frame.to_vec();
    if bytes[14] >> 4 == 4 {
        bytes[22] = ttl;
        Ipv4Packet::new_unchecked(&mut bytes[14..]).fill_checksum();
    } else {
        bytes[21] = ttl;
    }
    bytes
}

/// An ICMP or ICMPv6 message with `rest` behind its checksum.
pub(crate) fn icmp(
    macs: ([u8; 6], [u8; 6]),
    from: &str,
    to: &str,
    (kind, code, rest): (u8, u8, u32),
    quoted: &[u8],
) -> Vec<u8> {
    let protocol = if from.contains('.') { IpProtocol::Icmp } else { IpProtocol::Icmpv6 };
    let ip = ip(from, to, protocol, 8 + quoted.len());
    ethernet(macs.0, macs.1, &ip, |bytes| {
        bytes[..2].copy_from_slice(&[kind, code]);
        bytes[4..8].copy_from_slice(&rest.to_be_bytes());
        bytes[8..].copy_from_slice(quoted);
        match (ip.src_addr(), ip.dst_addr()) {
            (IpAddress::Ipv6(source), IpAddress::Ipv6(destination)) => {
                Icmpv6Packet::new_unchecked(bytes).fill_checksum(&source, &destination);
            }
            _ => Icmpv4Packet::new_unchecked(bytes).fill_checksum(),
        }
    })
}

/// What an independent reader finds in an ICMP or ICMPv6 message, checksums verified.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct SeenIcmp {
    pub macs: ([u8; 6], [u8; 6]),
    pub from: String,
    pub to: String,
    /// Type, code, and the four bytes behind the checksum.
    pub says: (u8, u8, u32),
    pub quoted: Vec<u8>,
}

/// Reads an untagged frame with an ICMP message; panics where a receiver would discard it.
pub(crate) fn read_icmp(bytes: &[u8]) -> SeenIcmp {
    let frame = EthernetFrame::new_checked(bytes).unwrap();
    let (from, to, message) = match frame.ethertype() {
        EthernetProtocol::Ipv4 => {
            let packet = Ipv4Packet::new_checked(frame.payload()).unwrap();
            assert!(packet.verify_checksum(), "IPv4 header checksum");
            assert_eq!(packet.next_header(), IpProtocol::Icmp);
            assert!(Icmpv4Packet::new_checked(packet.payload()).unwrap().verify_checksum(), "ICMP checksum");
            (packet.src_addr().to_string(), packet.dst_addr().to_string(), packet.payload().to_vec())
        }
        _ => {
            let packet = Ipv6Packet::new_checked(frame.payload()).unwrap();
            assert_eq!(packet.next_header(), IpProtocol::Icmpv6);
            let (source, destination) = (packet.src_addr(), packet.dst_addr());
            let message = Icmpv6Packet::new_checked(packet.payload()).unwrap();
            assert!(message.verify_checksum(&source, &destination), "ICMPv6 checksum");
            (source.to_string(), destination.to_string(), packet.payload().to_vec())
        }
    };
    SeenIcmp {
        macs: (frame.src_addr().0, frame.dst_addr().0),
        from,
        to,
        says: (message[0], message[1], u32::from_be_bytes([message[4], message[5], message[6], message[7]])),
        quoted: message[8..].to_vec(),
    }
}

/// Cuts a frame's packet into fragments whose payloads begin at 0 and at `cuts`, multiples of eight.
pub(crate) fn fragments(frame: &[u8], id: u32, cuts: &[usize]) -> Vec<Vec<u8>> {
    let v4 = frame[14] >> 4 == 4;
    let (headers, payload) = frame.split_at(14 + if v4 { 20 } else { 40 });
    let starts = [0].into_iter().chain(cuts.iter().copied());
    let ends = cuts.iter().copied().chain([payload.len()]);
    let piece = |(start, end): (usize, usize)| {
        let more = end != payload.len();
        let mut bytes = headers.to_vec();
        if v4 {
            bytes.extend_from_slice(&payload[start..end]);
            let len = bytes.len() as u16 - 14;
            let mut packet = Ipv4Packet::new_unchecked(&mut bytes[14..]);
            packet.set_total_len(len);
            packet.set_ident(id as u16);
            packet.set_dont_frag(false);
            packet.set_more_frags(more);
            packet.set_frag_offset(start as u16);
            packet.fill_checksum();
        } else {
            let header = [frame[14 + 6], 0];
            bytes[14 + 6] = 44;
            bytes.extend_from_slice(&header);
            bytes.extend_from_slice(&(start as u16 | u16::from(more)).to_be_bytes());
            bytes.extend_from_slice(&id.to_be_bytes());
            bytes.extend_from_slice(&payload[start..end]);
            let len = bytes.len() as u16 - 14 - 40;
            Ipv6Packet::new_unchecked(&mut bytes[14..]).set_payload_len(len);
        }
        bytes
    };
    starts.zip(ends).map(piece).collect()
}

/// Puts the fragments of one packet together again, in any order.
pub(crate) fn put_together(fragments: &[Vec<u8>]) -> Vec<u8> {
    let v4 = fragments[0][14] >> 4 == 4;
    let mut headers = fragments[0][..14 + if v4 { 20 } else { 40 }].to_vec();
    let mut pieces: Vec<(usize, &[u8])> = fragments
        .iter()
        .map(|bytes| {
            if v4 {
                let packet = Ipv4Packet::new_checked(&bytes[14..]).unwrap();
                assert!(packet.verify_checksum(), "IPv4 header checksum of a fragment");
                (usize::from(packet.frag_offset()), &bytes[34..])
            } else {
                (usize::from(u16::from_be_bytes([bytes[56], bytes[57]]) & 0xfff8), &bytes[62..])
            }
        })
        .collect();
    pieces.sort_by_key(|(at, _)| *at);
    let mut payload = Vec::new();
    for (at, piece) in pieces {
        assert_eq!(at, payload.len(), "no hole and no overlap");
        payload.extend_from_slice(piece);
    }
    if v4 {
        let mut packet = Ipv4Packet::new_unchecked(&mut headers[14..]);
        packet.set_total_len(20 + payload.len() as u16);
        packet.set_more_frags(false);
        packet.set_frag_offset(0);
        packet.fill_checksum();
    } else {
        headers[14 + 6] = fragments[0][54];
        Ipv6Packet::new_unchecked(&mut headers[14..]).set_payload_len(payload.len() as u16);
    }
    headers.extend_from_slice(&payload);
    headers
}

/// Puts IPv6 extension headers, each a type and its bytes but for the first, behind a frame's IPv6 header.
pub(crate) fn with_extensions(frame: &[u8], extensions: &[(u8, &[u8])]) -> Vec<u8> {
    let mut bytes = frame[..54].to_vec();
    let upper = bytes[20];
    bytes[20] = extensions[0].0;
    let following = extensions[1..].iter().map(|(kind, _)| *kind).chain([upper]);
    for ((_, rest), next) in extensions.iter().zip(following) {
        bytes.push(next);
        bytes.extend_from_slice(rest);
    }
    bytes.extend_from_slice(&frame[54..]);
    let len = bytes.len() as u16 - 54;
    Ipv6Packet::new_unchecked(&mut bytes[14..]).set_payload_len(len);
    bytes
}

/// Puts options, a multiple of four bytes, behind a frame's IPv4 header.
pub(crate) fn with_options(frame: &[u8], options: &[u8]) -> Vec<u8> {
    let mut bytes = frame[..34].to_vec();
    bytes.extend_from_slice(options);
    bytes.extend_from_slice(&frame[34..]);
    let len = bytes.len() as u16 - 14;
    let mut packet = Ipv4Packet::new_unchecked(&mut bytes[14..]);
    packet.set_header_len(20 + options.len() as u8);
    packet.set_total_len(len);
    packet.fill_checksum();
    bytes
}

/// What an independent reader finds in a frame, checksums verified.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Seen {
    pub macs: ([u8; 6], [u8; 6]),
    pub from: (String, u16),
    pub to: (String, u16),
    pub hop_limit: u8,
    pub tcp: Option<(TcpControl, i32, Option<i32>)>,
    pub data: Vec<u8>,
}

/// Reads an untagged frame; panics where a receiver would discard it.
pub(crate) fn read(bytes: &[u8]) -> Seen {
    let caps = ChecksumCapabilities::default();
    let frame = EthernetFrame::new_checked(bytes).unwrap();
    let macs = (frame.src_addr().0, frame.dst_addr().0);
    let (source, destination, protocol, hop_limit, payload) = match frame.ethertype() {
        EthernetProtocol::Ipv4 => {
            let packet = Ipv4Packet::new_checked(frame.payload()).unwrap();
            assert!(packet.verify_checksum(), "IPv4 header checksum");
            let (source, destination) =
                (IpAddress::Ipv4(packet.src_addr()), IpAddress::Ipv4(packet.dst_addr()));
            (source, destination, packet.next_header(), packet.hop_limit(), packet.payload().to_vec())
        }
        EthernetProtocol::Ipv6 => {
            let packet = Ipv6Packet::new_checked(frame.payload()).unwrap();
            let (source, destination) =
                (IpAddress::Ipv6(packet.src_addr()), IpAddress::Ipv6(packet.dst_addr()));
            (source, destination, packet.next_header(), packet.hop_limit(), packet.payload().to_vec())
        }
        other => panic!("unexpected EtherType {other}"),
    };
    match protocol {
        IpProtocol::Tcp => {
            let packet = TcpPacket::new_checked(&payload[..]).unwrap();
            let repr = TcpRepr::parse(&packet, &source, &destination, &caps).expect("TCP checksum");
            Seen {
                macs,
                from: (source.to_string(), repr.src_port),
                to: (destination.to_string(), repr.dst_port),
                hop_limit,
                tcp: Some((repr.control, repr.seq_number.0, repr.ack_number.map(|number| number.0))),
                data: repr.payload.to_vec(),
            }
        }
        IpProtocol::Udp => {
            let packet = UdpPacket::new_checked(&payload[..]).unwrap();
            let repr = UdpRepr::parse(&packet, &source, &destination, &caps).expect("UDP checksum");
            Seen {
                macs,
                from: (source.to_string(), repr.src_port),
                to: (destination.to_string(), repr.dst_port),
                hop_limit,
                tcp: None,
                data: packet.payload().to_vec(),
            }
        }
        other => panic!("unexpected protocol {other}"),
    }
}

/// An end as [`Seen`] shows it.
pub(crate) fn end(at: End<'_>) -> (String, u16) {
    (at.0.to_string(), at.1)
}
