//! Frames built and read by `smoltcp`, which shares no code with ours.

use std::net::IpAddr;
use std::result::Result;

use smoltcp::phy::ChecksumCapabilities;
use smoltcp::wire::*;

pub(crate) type Mac = [u8; 6];
/// An address and a port.
pub(crate) type End = (IpAddr, u16);

pub(crate) const WAN_MAC: Mac = [2, 0, 0, 0, 0, 0x10];
pub(crate) const LAN_MAC: Mac = [2, 0, 0, 0, 0, 0x20];

pub(crate) const ETHERNET: usize = 14;
pub(crate) const IPV4_HEADER: usize = 20;
pub(crate) const IPV6_HEADER: usize = 40;
/// The extension header of a fragment (RFC 8200 §4.5).
pub(crate) const IPV6_FRAGMENT: usize = 8;
pub(crate) const UDP_HEADER: usize = 8;

/// What a frame carries.
#[derive(Debug)]
pub(crate) enum Body<'a> {
    Tcp(TcpRepr<'a>),
    Udp(u16, u16, &'a [u8]),
    Piece(Piece<'a>),
    Other,
}

/// A fragment of an IP packet.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Piece<'a> {
    pub(crate) id: u32,
    /// Where it belongs, in bytes, and whether others follow.
    pub(crate) offset: usize,
    pub(crate) more: bool,
    pub(crate) protocol: IpProtocol,
    pub(crate) data: &'a [u8],
}

/// A frame with an IP packet in it.
#[derive(Debug)]
pub(crate) struct Read<'a> {
    pub(crate) source: IpAddr,
    pub(crate) destination: IpAddr,
    pub(crate) body: Body<'a>,
}

impl Read<'_> {
    pub(crate) fn tcp(&self) -> Option<(&TcpRepr<'_>, End, End)> {
        let Body::Tcp(tcp) = &self.body else { return None };
        Some((tcp, (self.source, tcp.src_port), (self.destination, tcp.dst_port)))
    }

    /// What is carried for the ends, if there is anything; of what is cut in pieces, only datagrams' own bytes.
    pub(crate) fn payload(&self) -> &[u8] {
        match &self.body {
            Body::Tcp(tcp) => tcp.payload,
            Body::Udp(_, _, payload) => payload,
            Body::Piece(piece) if piece.protocol == IpProtocol::Udp => match piece.offset {
                0 => piece.data.get(UDP_HEADER..).unwrap_or(&[]),
                _ => piece.data,
            },
            Body::Piece(_) | Body::Other => &[],
        }
    }
}

/// Reads a frame; `Err` says what is wrong with it. `None` for what isn't IP.
pub(crate) fn read(frame: &[u8]) -> Result<Option<Read<'_>>, &'static str> {
    match frame.get(12..ETHERNET).ok_or("short")? {
        [0x08, 0x00] | [0x86, 0xdd] => packet(&frame[ETHERNET..]).map(Some),
        _ => Ok(None),
    }
}

/// Reads an IP packet.
pub(crate) fn packet(bytes: &[u8]) -> Result<Read<'_>, &'static str> {
    if bytes.first().is_some_and(|first| first >> 4 == 4) {
        let packet = Ipv4Packet::new_checked(bytes).map_err(|_| "IPv4 lengths")?;
        if !packet.verify_checksum() {
            return Err("IPv4 checksum");
        }
        let (source, destination) = (packet.src_addr().into(), packet.dst_addr().into());
        let data = &bytes[usize::from(packet.header_len())..usize::from(packet.total_len())];
        let (more, offset) = (packet.more_frags(), usize::from(packet.frag_offset()));
        let protocol = packet.next_header();
        let body = match more || offset != 0 {
            true => Body::Piece(Piece { id: u32::from(packet.ident()), offset, more, protocol, data }),
            false => body(source, destination, protocol, data)?,
        };
        return Ok(Read { source, destination, body });
    }
    let packet = Ipv6Packet::new_checked(bytes).map_err(|_| "IPv6 lengths")?;
    let (source, destination) = (packet.src_addr().into(), packet.dst_addr().into());
    let data = &bytes[IPV6_HEADER..IPV6_HEADER + usize::from(packet.payload_len())];
    let body = match (packet.next_header(), data.split_first_chunk::<IPV6_FRAGMENT>()) {
        (IpProtocol::Ipv6Frag, Some((header, data))) => {
            let word = u16::from_be_bytes([header[2], header[3]]);
            Body::Piece(Piece {
                id: u32::from_be_bytes([header[4], header[5], header[6], header[7]]),
                offset: usize::from(word & !7),
                more: word & 1 != 0,
                protocol: header[0].into(),
                data,
            })
        }
        (protocol, _) => body(source, destination, protocol, data)?,
    };
    Ok(Read { source, destination, body })
}

/// Reads what an IP packet carries.
pub(crate) fn body(
    source: IpAddr,
    destination: IpAddr,
    protocol: IpProtocol,
    data: &[u8],
) -> Result<Body<'_>, &'static str> {
    let caps = ChecksumCapabilities::default();
    Ok(match protocol {
        IpProtocol::Tcp => {
            let packet = TcpPacket::new_checked(data).map_err(|_| "TCP lengths")?;
            let repr = TcpRepr::parse(&packet, &source.into(), &destination.into(), &caps);
            Body::Tcp(repr.map_err(|_| "TCP checksum or options")?)
        }
        IpProtocol::Udp => {
            let packet = UdpPacket::new_checked(data).map_err(|_| "UDP lengths")?;
            let repr = UdpRepr::parse(&packet, &source.into(), &destination.into(), &caps);
            let repr = repr.map_err(|_| "UDP checksum")?;
            Body::Udp(repr.src_port, repr.dst_port, packet.payload())
        }
        _ => Body::Other,
    })
}

/// An Ethernet header in front of an IP packet.
pub(crate) fn framed(from: Mac, to: Mac, packet: &[u8]) -> Vec<u8> {
    let ethertype: [u8; 2] = if packet[0] >> 4 == 4 { [0x08, 0x00] } else { [0x86, 0xdd] };
    [&to[..], &from, &ethertype, packet].concat()
}

fn ip(from: IpAddr, to: IpAddr, protocol: IpProtocol, len: usize, fill: impl FnOnce(&mut [u8])) -> Vec<u8> {
    let ip = IpRepr::new(from.into(), to.into(), protocol, len, 64);
    let mut packet = vec![0; ip.buffer_len()];
    ip.emit(&mut packet[..], &ChecksumCapabilities::default());
    fill(&mut packet[ip.header_len()..]);
    packet
}

/// An IP packet with a TCP segment; the ports are those of the ends.
pub(crate) fn tcp(from: End, to: End, repr: TcpRepr<'_>) -> Vec<u8> {
    let repr = TcpRepr { src_port: from.1, dst_port: to.1, ..repr };
    ip(from.0, to.0, IpProtocol::Tcp, repr.buffer_len(), |bytes| {
        let mut packet = TcpPacket::new_unchecked(bytes);
        repr.emit(&mut packet, &from.0.into(), &to.0.into(), &ChecksumCapabilities::default());
    })
}

/// A segment without options or data.
pub(crate) fn bare(control: TcpControl, sequence: u32, acknowledgement: Option<u32>) -> TcpRepr<'static> {
    TcpRepr {
        src_port: 0,
        dst_port: 0,
        control,
        seq_number: TcpSeqNumber(sequence as i32),
        ack_number: acknowledgement.map(|number| TcpSeqNumber(number as i32)),
        window_len: 60_000,
        window_scale: None,
        max_seg_size: None,
        sack_permitted: false,
        sack_ranges: [None; 3],
        timestamp: None,
        payload: &[],
    }
}

/// The reset that answers a segment for which nobody is there (RFC 9293 §3.10.7.1); none to a reset.
pub(crate) fn reset(from: End, to: End, heard: &TcpRepr<'_>) -> Option<Vec<u8>> {
    let repr = match (heard.control, heard.ack_number) {
        (TcpControl::Rst, _) => return None,
        (_, Some(number)) => bare(TcpControl::Rst, number.0 as u32, None),
        (_, None) => {
            let end = (heard.seq_number.0 as u32).wrapping_add(heard.segment_len() as u32);
            bare(TcpControl::Rst, 0, Some(end))
        }
    };
    Some(tcp(from, to, repr))
}

/// An IP packet with a datagram.
pub(crate) fn udp(from: End, to: End, data: &[u8]) -> Vec<u8> {
    let repr = UdpRepr { src_port: from.1, dst_port: to.1 };
    ip(from.0, to.0, IpProtocol::Udp, repr.header_len() + data.len(), |bytes| {
        let mut packet = UdpPacket::new_unchecked(bytes);
        let caps = ChecksumCapabilities::default();
        let fill = |into: &mut [u8]| into.copy_from_slice(data);
        repr.emit(&mut packet, &from.0.into(), &to.0.into(), data.len(), fill, &caps);
    })
}

/// A query for the address of `name`.
pub(crate) fn query(id: u16, name: &str, v4: bool) -> Vec<u8> {
    let mut message = [&id.to_be_bytes()[..], &[1, 0, 0, 1, 0, 0, 0, 0, 0, 0]].concat();
    for label in name.trim_end_matches('.').split('.') {
        message.push(label.len() as u8);
        message.extend_from_slice(label.as_bytes());
    }
    message.extend_from_slice(&[0, 0, if v4 { 1 } else { 28 }, 0, 1]);
    message
}

/// Whom an ARP request or a neighbour solicitation of the appliance asks for, and from which address.
pub(crate) fn asked(frame: &[u8]) -> Option<(IpAddr, IpAddr)> {
    let frame = EthernetFrame::new_checked(frame).ok()?;
    match frame.ethertype() {
        EthernetProtocol::Arp => {
            let packet = ArpPacket::new_checked(frame.payload()).ok()?;
            match ArpRepr::parse(&packet).ok()? {
                ArpRepr::EthernetIpv4 {
                    operation: ArpOperation::Request,
                    source_protocol_addr,
                    target_protocol_addr,
                    ..
                } => Some((target_protocol_addr.into(), source_protocol_addr.into())),
                _ => None,
            }
        }
        EthernetProtocol::Ipv6 => {
            let packet = Ipv6Packet::new_checked(frame.payload()).ok()?;
            let icmp = Icmpv6Packet::new_checked(packet.payload()).ok()?;
            if packet.next_header() != IpProtocol::Icmpv6 || icmp.msg_type() != Icmpv6Message::NeighborSolicit
            {
                return None;
            }
            Some((icmp.target_addr().into(), packet.src_addr().into()))
        }
        _ => None,
    }
}

/// The answer of the station at `mac` which has `addr`.
pub(crate) fn here(mac: Mac, addr: IpAddr, to_mac: Mac, to: IpAddr) -> Vec<u8> {
    let caps = ChecksumCapabilities::default();
    let header = |ethertype, len: usize| {
        let mut frame = vec![0; ETHERNET + len];
        let repr =
            EthernetRepr { src_addr: EthernetAddress(mac), dst_addr: EthernetAddress(to_mac), ethertype };
        repr.emit(&mut EthernetFrame::new_unchecked(&mut frame[..]));
        frame
    };
    match (addr, to) {
        (IpAddr::V4(addr), IpAddr::V4(to)) => {
            let arp = ArpRepr::EthernetIpv4 {
                operation: ArpOperation::Reply,
                source_hardware_addr: EthernetAddress(mac),
                source_protocol_addr: addr,
                target_hardware_addr: EthernetAddress(to_mac),
                target_protocol_addr: to,
            };
            let mut frame = header(EthernetProtocol::Arp, arp.buffer_len());
            arp.emit(&mut ArpPacket::new_unchecked(&mut frame[ETHERNET..]));
            frame
        }
        (IpAddr::V6(addr), IpAddr::V6(to)) => {
            let advert = Icmpv6Repr::Ndisc(NdiscRepr::NeighborAdvert {
                flags: NdiscNeighborFlags::SOLICITED | NdiscNeighborFlags::OVERRIDE,
                target_addr: addr,
                lladdr: Some(EthernetAddress(mac).into()),
            });
            let ip = Ipv6Repr {
                src_addr: addr,
                dst_addr: to,
                next_header: IpProtocol::Icmpv6,
                payload_len: advert.buffer_len(),
                hop_limit: 255,
            };
            let mut frame = header(EthernetProtocol::Ipv6, ip.buffer_len() + advert.buffer_len());
            ip.emit(&mut Ipv6Packet::new_unchecked(&mut frame[ETHERNET..]));
            let body = &mut frame[ETHERNET + ip.buffer_len()..];
            advert.emit(&addr, &to, &mut Icmpv6Packet::new_unchecked(body), &caps);
            frame
        }
        _ => unreachable!("who asks and who is asked for are of one family"),
    }
}
