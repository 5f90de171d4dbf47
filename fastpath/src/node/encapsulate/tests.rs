//! The headers, byte by byte, against the RFCs' layouts and `smoltcp::wire`, which shares no code with ours.

use proptest::prelude::*;
use smoltcp::phy::ChecksumCapabilities;
use smoltcp::wire::{
    EthernetAddress, EthernetFrame, EthernetProtocol, EthernetRepr, IpAddress, IpProtocol, IpRepr,
    Ipv4Packet, Ipv6Packet, TcpControl, TcpPacket, TcpRepr, TcpSeqNumber, UdpPacket, UdpRepr,
};

use super::*;
use crate::driver::{Driver, PortId, RxChecksum};
use crate::heap::{HeapDriver, HeapFrame, HeapNet, HeapPlan};
use crate::packet::Meta;

const INNER: [(&str, &str); 2] = [("10.9.9.9", "203.0.113.10"), ("2001:db8:9::9", "2001:db8:f::10")];
const OUTER: [(&str, &str); 2] = [("198.51.100.1", "198.51.100.7"), ("2001:db8:1::1", "2001:db8:1::7")];
const HASH: u64 = 0x0123_4567_89ab_cdef;

fn addr(text: &str) -> Addr {
    Addr::from(text.parse::<std::net::IpAddr>().unwrap())
}

/// An Ethernet frame around an IP packet from the client to the service, with what `fill` puts behind its header.
fn ethernet_frame(
    (from, to): (&str, &str),
    protocol: IpProtocol,
    len: usize,
    fill: impl FnOnce(&mut [u8], &IpRepr),
) -> Vec<u8> {
    let caps = ChecksumCapabilities::default();
    let ip = IpRepr::new(from.parse().unwrap(), to.parse().unwrap(), protocol, len, 64);
    let v4 = matches!(ip, IpRepr::Ipv4(_));
    let mut bytes = vec![0; 14 + ip.buffer_len()];
    EthernetRepr {
        src_addr: EthernetAddress([2, 0, 0, 0, 0, 1]),
        dst_addr: EthernetAddress([2, 0, 0, 0, 0, 2]),
        ethertype: if v4 { EthernetProtocol::Ipv4 } else { EthernetProtocol::Ipv6 },
    }
    .emit(&mut EthernetFrame::new_unchecked(&mut bytes[..]));
    ip.emit(&mut bytes[14..], &caps);
    if v4 {
        bytes[15] = 0xb9; // DSCP EF, ECN ECT(1)
        let mut packet = Ipv4Packet::new_unchecked(&mut bytes[14..]);
        packet.fill_checksum();
    } else {
        bytes[14] = 0x6b;
        bytes[15] = 0x90;
    }
    let header = ip.header_len();
    fill(&mut bytes[14 + header..], &ip);
    bytes
}

fn tcp(ends: (&str, &str), control: TcpControl, data: &[u8]) -> Vec<u8> {
    let repr = TcpRepr {
        src_port: 40_000,
        dst_port: 80,
        control,
        seq_number: TcpSeqNumber(7),
        ack_number: None,
        window_len: 64_000,
        window_scale: Some(7),
        max_seg_size: (control == TcpControl::Syn).then_some(1460),
        sack_permitted: true,
        sack_ranges: [None; 3],
        timestamp: None,
        payload: data,
    };
    ethernet_frame(ends, IpProtocol::Tcp, repr.buffer_len(), |bytes, ip| {
        let caps = ChecksumCapabilities::default();
        repr.emit(&mut TcpPacket::new_unchecked(bytes), &ip.src_addr(), &ip.dst_addr(), &caps);
    })
}

fn udp_frame(ends: (&str, &str), data: &[u8]) -> Vec<u8> {
    let repr = UdpRepr { src_port: 40_000, dst_port: 443 };
    ethernet_frame(ends, IpProtocol::Udp, 8 + data.len(), |bytes, ip| {
        let caps = ChecksumCapabilities::default();
        let (source, destination) = (ip.src_addr(), ip.dst_addr());
        let mut packet = UdpPacket::new_unchecked(bytes);
        let fill = |to: &mut [u8]| to.copy_from_slice(data);
        repr.emit(&mut packet, &source, &destination, data.len(), fill, &caps);
    })
}

fn pool() -> (HeapNet, HeapDriver) {
    let plan = HeapPlan { ports: 1, workers: 1, frames: 4, rx_queue: 1, tx_queue: 1 };
    let (net, mut drivers) = HeapNet::new(&plan);
    (net, drivers.remove(0))
}

/// The packet as classification would pass it on; with `headroom` bytes in front of it.
fn packet(driver: &mut HeapDriver, bytes: &[u8], headroom: usize) -> Packet<HeapFrame> {
    let mut frame = driver.allocate(PortId(0)).unwrap();
    assert!(frame.prepend(frame.headroom() - headroom));
    let len = frame.bytes().len();
    assert!(match len < bytes.len() {
        true => frame.extend(bytes.len() - len),
        false => frame.truncate(bytes.len()),
    });
    frame.bytes_mut().copy_from_slice(bytes);
    let meta = Meta::parse(bytes, bytes.len(), RxChecksum::Unknown).unwrap();
    Packet { frame, meta: Box::new(Meta { flow_hash: HASH, ..meta }) }
}

fn wrapped(
    bytes: &[u8],
    forwarding: Forwarding,
    outer: (&str, &str),
    mtu: u16,
) -> Result<(Vec<u8>, Meta), Refusal> {
    let (_net, mut driver) = pool();
    let mut packet = packet(&mut driver, bytes, 128);
    wrap(&mut packet, forwarding, (addr(outer.0), addr(outer.1)), mtu)?;
    Ok((packet.frame.bytes().to_vec(), *packet.meta))
}

/// The IP packet of a frame after one more hop.
fn hop(frame: &[u8]) -> Vec<u8> {
    let mut ip = frame[14..].to_vec();
    if ip[0] >> 4 == 4 {
        ip[8] -= 1;
        Ipv4Packet::new_unchecked(&mut ip[..]).fill_checksum();
    } else {
        ip[7] -= 1;
    }
    ip
}

#[test]
fn ip_in_ip_in_all_four_ways() {
    for inner in INNER {
        for outer in OUTER {
            let frame = tcp(inner, TcpControl::Psh, b"GET /");
            let (sent, meta) = wrapped(&frame, Forwarding::Ipip, outer, 1500).unwrap();
            let protocol = if inner.0.contains(':') { 41 } else { 4 };
            let payload = match outer.0.contains(':') {
                false => {
                    assert_eq!(sent[12..14], [8, 0]);
                    let ip = Ipv4Packet::new_checked(&sent[14..]).unwrap();
                    assert!(ip.verify_checksum() && ip.dont_frag() && !ip.more_frags());
                    assert_eq!((ip.ident(), ip.hop_limit(), ip.header_len()), (0, 64, 20));
                    assert_eq!((ip.dscp(), ip.ecn()), (46, 1), "as inside");
                    assert_eq!((ip.src_addr().to_string(), ip.dst_addr().to_string()), own(outer));
                    assert_eq!(u8::from(ip.next_header()), protocol);
                    ip.payload().to_vec()
                }
                true => {
                    assert_eq!(sent[12..14], [0x86, 0xdd]);
                    let ip = Ipv6Packet::new_checked(&sent[14..]).unwrap();
                    assert_eq!((ip.hop_limit(), ip.traffic_class()), (64, 0xb9));
                    assert_eq!(ip.flow_label(), HASH as u32 & 0xf_ffff);
                    assert_eq!((ip.src_addr().to_string(), ip.dst_addr().to_string()), own(outer));
                    assert_eq!(u8::from(ip.next_header()), protocol);
                    ip.payload().to_vec()
                }
            };
            assert_eq!(payload, hop(&frame), "{inner:?} in {outer:?}");
            assert_eq!((meta.source, meta.destination), (addr(outer.0), addr(outer.1)));
            assert_eq!((usize::from(meta.ip_len), meta.protocol), (sent.len() - 14, protocol));
            assert!(!meta.has_l4);
            // What classification would read, had it come in so.
            let read = Meta::parse(&sent, sent.len(), RxChecksum::Unknown).unwrap();
            assert_eq!((read.l4, read.network, read.ip_len), (meta.l4, meta.network, meta.ip_len));
        }
    }
}

fn own((source, destination): (&str, &str)) -> (String, String) {
    (source.to_owned(), destination.to_owned())
}

/// The datagram of a GUE frame, and whether its checksum is right or missing.
fn gue(sent: &[u8]) -> (UdpPacket<&[u8]>, bool) {
    let v4 = sent[14] >> 4 == 4;
    let (header, source, destination) = match v4 {
        true => {
            let ip = Ipv4Packet::new_checked(&sent[14..]).unwrap();
            assert_eq!(ip.next_header(), IpProtocol::Udp);
            (20, IpAddress::Ipv4(ip.src_addr()), IpAddress::Ipv4(ip.dst_addr()))
        }
        false => {
            let ip = Ipv6Packet::new_checked(&sent[14..]).unwrap();
            assert_eq!(ip.next_header(), IpProtocol::Udp);
            (40, IpAddress::Ipv6(ip.src_addr()), IpAddress::Ipv6(ip.dst_addr()))
        }
    };
    let udp = UdpPacket::new_checked(&sent[14 + header..]).unwrap();
    let right = udp.verify_checksum(&source, &destination);
    (udp, right)
}

#[test]
fn gue_carries_either_family_over_either_with_the_checksum_that_ipv6_needs() {
    for inner in INNER {
        for outer in OUTER {
            let mut silent = udp_frame(inner, b"no checksum");
            let at = silent.len() - b"no checksum".len() - 2;
            silent[at..at + 2].copy_from_slice(&[0, 0]);
            for frame in [tcp(inner, TcpControl::Psh, b"odd"), udp_frame(inner, b"initial"), silent] {
                let (sent, meta) = wrapped(&frame, Forwarding::Gue, outer, 1500).unwrap();
                let (udp, right) = gue(&sent);
                assert_eq!(udp.dst_port(), 6080);
                assert_eq!(udp.src_port(), 0xc000 | (HASH as u16 & 0x3fff));
                assert!(right, "{inner:?} in {outer:?}");
                assert_eq!(udp.checksum() == 0, !outer.0.contains(':'), "none over IPv4, one over IPv6");
                let protocol = if inner.0.contains(':') { 41 } else { 4 };
                assert_eq!(udp.payload()[..4], [0, protocol, 0, 0]);
                assert_eq!(udp.payload()[4..], hop(&frame));
                assert_eq!((usize::from(meta.ip_len), meta.protocol), (sent.len() - 14, UDP));
            }
        }
    }
}

/// Both fragments of a datagram's frame, the first of which carries 24 bytes.
fn fragments(frame: &[u8]) -> [Vec<u8>; 2] {
    let v4 = frame[14] >> 4 == 4;
    let (head, data) = frame.split_at(if v4 { 34 } else { 54 });
    let (first, last) = data.split_at(24);
    [(0u16, first), (24, last)].map(|(offset, data)| {
        let mut frame = head.to_vec();
        let more = offset == 0;
        if v4 {
            frame.extend_from_slice(data);
            let mut packet = Ipv4Packet::new_unchecked(&mut frame[14..]);
            packet.set_total_len((20 + data.len()) as u16);
            packet.set_ident(7);
            packet.clear_flags();
            packet.set_more_frags(more);
            packet.set_frag_offset(offset);
            packet.fill_checksum();
        } else {
            frame[18..20].copy_from_slice(&((8 + data.len()) as u16).to_be_bytes());
            let protocol = std::mem::replace(&mut frame[20], 44);
            frame.extend_from_slice(&[protocol, 0, 0, offset as u8 | u8::from(more), 0, 0, 0, 7]);
            frame.extend_from_slice(data);
        }
        frame
    })
}

#[test]
fn gue_sums_over_all_of_a_fragment_which_has_no_checksum_of_its_own() {
    for inner in INNER {
        // What the later one has where a UDP header has its checksum isn't zero, and then it is.
        for data in [[0x5a; 47], [0; 47]] {
            for frame in fragments(&udp_frame(inner, &data)) {
                let (sent, _) = wrapped(&frame, Forwarding::Gue, OUTER[1], 1500).unwrap();
                let (udp, right) = gue(&sent);
                assert!(right && udp.checksum() != 0, "{inner:?}");
                assert_eq!(udp.payload()[4..], hop(&frame));
            }
        }
    }
}

#[test]
fn padding_behind_a_short_packet_stays_behind_it() {
    let mut frame = udp_frame(INNER[0], b"x");
    let len = frame.len();
    frame.resize(60, 0xee);
    let (sent, _) = wrapped(&frame, Forwarding::Gue, OUTER[1], 1500).unwrap();
    let (udp, right) = gue(&sent[..sent.len() - (60 - len)]);
    assert!(right);
    assert_eq!(udp.payload()[4..], hop(&frame[..len]));
}

#[test]
fn what_does_not_fit_is_refused_and_stays_as_it_was() {
    for (forwarding, outer, overhead) in [
        (Forwarding::Ipip, OUTER[0], 20),
        (Forwarding::Ipip, OUTER[1], 40),
        (Forwarding::Gue, OUTER[0], 32),
        (Forwarding::Gue, OUTER[1], 52),
    ] {
        let room = 1500 - overhead;
        let exact = udp_frame(INNER[0], &vec![0; usize::from(room) - 28]);
        assert!(wrapped(&exact, forwarding, outer, 1500).is_ok());
        let longer = udp_frame(INNER[0], &vec![0; usize::from(room) - 27]);
        assert_eq!(wrapped(&longer, forwarding, outer, 1500), Err(Refusal::TooBig(room)));

        let (_net, mut driver) = pool();
        let frame = udp_frame(INNER[1], b"x");
        let (source, instance) = (addr(outer.0), addr(outer.1));
        let mut tight = packet(&mut driver, &frame, usize::from(overhead) - 1);
        assert_eq!(wrap(&mut tight, forwarding, (source, instance), 1500), Err(Refusal::NoHeadroom));
        assert_eq!(tight.frame.bytes(), frame);
        let mut enough = packet(&mut driver, &frame, usize::from(overhead));
        assert_eq!(wrap(&mut enough, forwarding, (source, instance), 1500), Ok(()));
    }
    for inner in INNER {
        let mut last = tcp(inner, TcpControl::None, b"");
        if last[14] >> 4 == 4 {
            last[22] = 1;
            Ipv4Packet::new_unchecked(&mut last[14..]).fill_checksum();
        } else {
            last[21] = 1;
        }
        assert_eq!(wrapped(&last, Forwarding::Ipip, OUTER[0], 1500), Err(Refusal::TtlExpired));
    }
}

/// What an independent reader finds of the inner SYN's MSS; panics on a wrong checksum.
fn inner_mss(sent: &[u8], outer_header: usize) -> Option<u16> {
    let inner = &sent[14 + outer_header..];
    let caps = ChecksumCapabilities::default();
    let (source, destination, payload) = match inner[0] >> 4 {
        4 => {
            let ip = Ipv4Packet::new_checked(inner).unwrap();
            (IpAddress::Ipv4(ip.src_addr()), IpAddress::Ipv4(ip.dst_addr()), ip.payload().to_vec())
        }
        _ => {
            let ip = Ipv6Packet::new_checked(inner).unwrap();
            (IpAddress::Ipv6(ip.src_addr()), IpAddress::Ipv6(ip.dst_addr()), ip.payload().to_vec())
        }
    };
    let packet = TcpPacket::new_checked(&payload[..]).unwrap();
    TcpRepr::parse(&packet, &source, &destination, &caps).expect("TCP checksum").max_seg_size
}

#[test]
fn a_syn_asks_for_no_more_than_the_tunnel_leaves() {
    let clamped = |inner, outer, mtu, header| {
        let (sent, _) = wrapped(&tcp(inner, TcpControl::Syn, b""), Forwarding::Ipip, outer, mtu).unwrap();
        inner_mss(&sent, header)
    };
    assert_eq!(clamped(INNER[0], OUTER[0], 1500, 20), Some(1440));
    assert_eq!(clamped(INNER[0], OUTER[1], 1500, 40), Some(1420));
    assert_eq!(clamped(INNER[1], OUTER[0], 1500, 20), Some(1420));
    assert_eq!(clamped(INNER[0], OUTER[0], 1600, 20), Some(1460), "no more than was asked for");
}

proptest! {
    /// Options of any kind and order, sound or not, before the MSS: the checksum stays right, and only the MSS changes.
    #[test]
    fn clamping_keeps_the_checksum_wherever_the_option_stands(
        before in prop::collection::vec((any::<u8>(), 0u8..6), 0..6),
        asked in any::<u16>(),
    ) {
        let mut options = Vec::new();
        let mut sound = true;
        for (kind, len) in before {
            match kind % 8 {
                0 => sound = false,
                1 => options.push(1),
                _ => {
                    sound &= len >= 2;
                    options.push(3 + kind % 8);
                    options.push(len);
                    options.resize(options.len() + usize::from(len.saturating_sub(2)), 1);
                }
            }
            if kind % 8 == 0 {
                options.push(0);
            }
        }
        options.truncate(36);
        sound &= options.len() < 36;
        options.extend_from_slice(&[2, 4, (asked >> 8) as u8, asked as u8]);
        options.resize(options.len().div_ceil(4) * 4, 0);
        let header = 20 + options.len();
        let frame = ethernet_frame(INNER[0], IpProtocol::Tcp, header, |bytes, ip| {
            bytes[..2].copy_from_slice(&40_000u16.to_be_bytes());
            bytes[2..4].copy_from_slice(&80u16.to_be_bytes());
            bytes[12] = ((header / 4) as u8) << 4;
            bytes[13] = 2;
            bytes[20..].copy_from_slice(&options);
            TcpPacket::new_unchecked(bytes).fill_checksum(&ip.src_addr(), &ip.dst_addr());
        });
        let (sent, _) = wrapped(&frame, Forwarding::Ipip, OUTER[0], 1500).unwrap();
        let ip = Ipv4Packet::new_checked(&sent[34..]).unwrap();
        let (source, destination) = (IpAddress::Ipv4(ip.src_addr()), IpAddress::Ipv4(ip.dst_addr()));
        let packet = TcpPacket::new_checked(ip.payload()).unwrap();
        prop_assert!(packet.verify_checksum(&source, &destination));
        let got = &ip.payload()[20..];
        let differs: Vec<usize> = (0..options.len()).filter(|at| got[*at] != options[*at]).collect();
        let bound = 1440;
        if sound {
            let at = options.windows(2).rposition(|pair| pair == [2, 4]).unwrap() + 2;
            let after = u16::from_be_bytes([got[at], got[at + 1]]);
            prop_assert_eq!(after, asked.min(bound));
            prop_assert!(differs.iter().all(|place| [at, at + 1].contains(place)));
        } else {
            prop_assert!(differs.len() <= 2);
        }
    }
}
