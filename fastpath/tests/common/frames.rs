//! Frames built and read by `smoltcp`, which shares no code with ours.

use smoltcp::phy::ChecksumCapabilities;
use smoltcp::wire::*;

use super::{CLIENT_MAC, HOST_MAC, LAN_MAC, WAN_MAC};

/// One end of a conversation.
pub type End<'a> = (&'a str, u16);

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

pub fn tcp_frame(
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
pub fn syn(from: End<'_>, to: End<'_>, seq: i32) -> Vec<u8> {
    tcp_frame((CLIENT_MAC, WAN_MAC), from, to, TcpControl::Syn, None, seq, b"")
}

/// Client to appliance.
pub fn segment(from: End<'_>, to: End<'_>, data: &[u8]) -> Vec<u8> {
    tcp_frame((CLIENT_MAC, WAN_MAC), from, to, TcpControl::None, Some(1), 2, data)
}

/// Function host to appliance.
pub fn host_segment(from: End<'_>, to: End<'_>, control: TcpControl, data: &[u8]) -> Vec<u8> {
    tcp_frame((HOST_MAC, LAN_MAC), from, to, control, Some(1), 2, data)
}

pub fn udp(macs: ([u8; 6], [u8; 6]), from: End<'_>, to: End<'_>, data: &[u8]) -> Vec<u8> {
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

/// Client to appliance.
pub fn client_udp(from: End<'_>, to: End<'_>, data: &[u8]) -> Vec<u8> {
    udp((CLIENT_MAC, WAN_MAC), from, to, data)
}

/// Puts an 802.1Q tag on.
pub fn tagged(frame: &[u8], vlan: u16) -> Vec<u8> {
    let mut bytes = frame[..12].to_vec();
    bytes.extend_from_slice(&[0x81, 0x00]);
    bytes.extend_from_slice(&vlan.to_be_bytes());
    bytes.extend_from_slice(&frame[12..]);
    bytes
}

/// What an independent reader finds in a frame, checksums verified.
#[derive(Debug, PartialEq, Eq)]
pub struct Seen {
    pub macs: ([u8; 6], [u8; 6]),
    pub from: (String, u16),
    pub to: (String, u16),
    pub hop_limit: u8,
    pub tcp: Option<(TcpControl, i32, Option<i32>)>,
    pub data: Vec<u8>,
}

/// Reads an untagged frame; panics where a receiver would discard it.
pub fn read(bytes: &[u8]) -> Seen {
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
pub fn end(at: End<'_>) -> (String, u16) {
    (at.0.to_string(), at.1)
}
