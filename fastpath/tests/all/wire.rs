//! Our packet formats against `smoltcp`'s: on packets that it writes, and on those with bytes changed, cut or put right again,
//! both find the same, or both find nothing.

use millrace_fastpath::addr::Addr;
use millrace_fastpath::driver::RxChecksum;
use millrace_fastpath::packet::{Fragment, Meta};
use millrace_fastpath::wire::{checksum, ethernet, icmp, ipv4, ipv6};
use proptest::prelude::*;
use proptest::sample::Index;
use smoltcp::phy::ChecksumCapabilities;
use smoltcp::wire::*;

/// What stands behind the IP header.
#[derive(Clone, Debug)]
enum Payload {
    Tcp { ports: (u16, u16), data: Vec<u8> },
    Udp { ports: (u16, u16), data: Vec<u8> },
    Echo(Vec<u8>),
    Other(u8, Vec<u8>),
}

/// A packet to be written.
#[derive(Clone, Debug)]
struct Packet {
    source: IpAddress,
    destination: IpAddress,
    payload: Payload,
    /// IPv4: a multiple of four bytes of options.
    options: Vec<u8>,
    /// IPv6: types and lengths of extension headers, in units of eight bytes beyond the first.
    extensions: Vec<(u8, u8)>,
    /// Offset in units of eight bytes, and whether more follow.
    fragment: Option<(u16, bool)>,
}

fn any_payload() -> impl Strategy<Value = Payload> {
    let data = || prop::collection::vec(any::<u8>(), 0..40);
    let ports = || (1_u16.., 1_u16..);
    prop_oneof![
        (ports(), data()).prop_map(|(ports, data)| Payload::Tcp { ports, data }),
        (ports(), data()).prop_map(|(ports, data)| Payload::Udp { ports, data }),
        data().prop_map(Payload::Echo),
        (any::<u8>(), data()).prop_map(|(protocol, data)| Payload::Other(protocol, data)),
    ]
}

fn any_packet() -> impl Strategy<Value = Packet> {
    let v4 = any::<[u8; 4]>().prop_map(|octets| IpAddress::Ipv4(octets.into()));
    let v6 = any::<[u8; 16]>().prop_map(|octets| IpAddress::Ipv6(octets.into()));
    let ends = prop_oneof![(v4.clone(), v4), (v6.clone(), v6)];
    let options = (0_usize..=10).prop_flat_map(|words| prop::collection::vec(any::<u8>(), words * 4));
    let extensions = prop::collection::vec((prop::sample::select(vec![0, 43, 60]), 0_u8..6), 0..10);
    let fragment = prop::option::weighted(0.3, (prop_oneof![Just(0), 0_u16..0x2000], any::<bool>()));
    (ends, any_payload(), options, extensions, fragment).prop_map(
        |((source, destination), payload, options, extensions, fragment)| Packet {
            source,
            destination,
            payload,
            options,
            extensions,
            fragment,
        },
    )
}

impl Payload {
    fn protocol(&self, v4: bool) -> u8 {
        match self {
            Payload::Tcp { .. } => 6,
            Payload::Udp { .. } => 17,
            Payload::Echo(_) if v4 => 1,
            Payload::Echo(_) => 58,
            Payload::Other(protocol, _) => *protocol,
        }
    }

    fn bytes(&self, source: &IpAddress, destination: &IpAddress) -> Vec<u8> {
        let checksums = ChecksumCapabilities::default();
        match self {
            Payload::Tcp { ports, data } => {
                let repr = TcpRepr {
                    src_port: ports.0,
                    dst_port: ports.1,
                    control: TcpControl::Syn,
                    seq_number: TcpSeqNumber(7),
                    ack_number: None,
                    window_len: 1000,
                    window_scale: Some(3),
                    max_seg_size: Some(1460),
                    sack_permitted: true,
                    sack_ranges: [None; 3],
                    timestamp: None,
                    payload: data,
                };
                let mut bytes = vec![0; repr.buffer_len()];
                repr.emit(&mut TcpPacket::new_unchecked(&mut bytes), source, destination, &checksums);
                bytes
            }
            Payload::Udp { ports, data } => {
                let repr = UdpRepr { src_port: ports.0, dst_port: ports.1 };
                let mut bytes = vec![0; repr.header_len() + data.len()];
                let mut packet = UdpPacket::new_unchecked(&mut bytes[..]);
                let fill = |to: &mut [u8]| to.copy_from_slice(data);
                repr.emit(&mut packet, source, destination, data.len(), fill, &checksums);
                bytes
            }
            Payload::Echo(data) => match (source, destination) {
                (IpAddress::Ipv6(source), IpAddress::Ipv6(destination)) => {
                    let repr = Icmpv6Repr::EchoRequest { ident: 1, seq_no: 2, data };
                    let mut bytes = vec![0; repr.buffer_len()];
                    let mut packet = Icmpv6Packet::new_unchecked(&mut bytes);
                    repr.emit(source, destination, &mut packet, &checksums);
                    bytes
                }
                _ => {
                    let repr = Icmpv4Repr::EchoRequest { ident: 1, seq_no: 2, data };
                    let mut bytes = vec![0; repr.buffer_len()];
                    repr.emit(&mut Icmpv4Packet::new_unchecked(&mut bytes), &checksums);
                    bytes
                }
            },
            Payload::Other(_, data) => data.clone(),
        }
    }
}

impl Packet {
    /// An Ethernet frame with the packet.
    fn frame(&self) -> Vec<u8> {
        let v4 = matches!(self.source, IpAddress::Ipv4(_));
        let protocol = self.payload.protocol(v4);
        let payload = self.payload.bytes(&self.source, &self.destination);
        let mut bytes = vec![2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2];
        bytes.extend_from_slice(if v4 { &[0x08, 0x00] } else { &[0x86, 0xdd] });
        let (behind, first) = if v4 { (self.options.clone(), protocol) } else { self.chain(protocol) };
        let repr = IpRepr::new(self.source, self.destination, first.into(), behind.len() + payload.len(), 64);
        bytes.resize(14 + repr.header_len(), 0);
        repr.emit(&mut bytes[14..], &ChecksumCapabilities::default());
        bytes.extend(behind);
        bytes.extend(payload);
        if v4 {
            let mut packet = Ipv4Packet::new_unchecked(&mut bytes[14..]);
            packet.set_header_len(20 + self.options.len() as u8);
            if let Some((offset, more)) = self.fragment {
                packet.set_dont_frag(false);
                packet.set_frag_offset(offset * 8);
                packet.set_more_frags(more);
            }
            packet.fill_checksum();
        }
        bytes
    }

    /// The extension headers, and the type of the first.
    fn chain(&self, protocol: u8) -> (Vec<u8>, u8) {
        let mut pieces: Vec<(u8, Vec<u8>)> = Vec::new();
        for (kind, len) in &self.extensions {
            let mut bytes = vec![0; 8 * (usize::from(*len) + 1)];
            bytes[1] = *len;
            pieces.push((*kind, bytes));
        }
        if let Some((offset, more)) = self.fragment {
            let mut bytes = vec![0; 8];
            let mut header = Ipv6FragmentHeader::new_unchecked(&mut bytes[2..]);
            header.set_frag_offset(offset);
            header.set_more_frags(more);
            header.set_ident(77);
            pieces.push((44, bytes));
        }
        let kinds: Vec<u8> = pieces.iter().map(|(kind, _)| *kind).chain([protocol]).collect();
        for ((_, bytes), next) in pieces.iter_mut().zip(&kinds[1..]) {
            bytes[0] = *next;
        }
        (pieces.into_iter().flat_map(|(_, bytes)| bytes).collect(), kinds[0])
    }
}

/// What may happen to a frame on its way: bytes that change, an end that is missing, and then a right IPv4 checksum.
type Changes = (Vec<(Index, u8)>, Option<Index>, bool);

fn any_changes() -> impl Strategy<Value = Changes> {
    let flips = prop::collection::vec((any::<Index>(), any::<u8>()), 0..4);
    (flips, prop::option::weighted(0.3, any::<Index>()), any::<bool>())
}

fn changed(mut frame: Vec<u8>, (flips, cut, repaired): &Changes) -> Vec<u8> {
    for (at, byte) in flips {
        // Headers more than data, and never the EtherType: others aren't compared.
        let at = 14 + at.index((frame.len() - 14).min(80));
        frame[at] = *byte;
    }
    if let Some(cut) = cut {
        frame.truncate(14 + cut.index(frame.len() - 13));
    }
    let header_len = frame.get(14).map_or(0, |first| usize::from(first & 15) * 4);
    if *repaired && header_len >= 20 && frame.len() >= 14 + header_len && frame[12..14] == [8, 0] {
        Ipv4Packet::new_unchecked(&mut frame[14..]).fill_checksum();
    }
    frame
}

/// What an independent reader finds in a frame.
#[derive(Debug, PartialEq, Eq)]
enum Seen {
    Broken,
    /// Addresses, and whether it is the first.
    Fragment(IpAddress, IpAddress, bool),
    /// Addresses, protocol, and ports or zeros.
    Whole(IpAddress, IpAddress, u8, (u16, u16)),
}

fn read(frame: &[u8]) -> Option<Seen> {
    let frame = EthernetFrame::new_checked(frame).ok()?;
    if frame.ethertype() == EthernetProtocol::Ipv4 {
        let packet = Ipv4Packet::new_checked(frame.payload()).ok()?;
        if packet.version() != 4 || packet.header_len() < 20 || !packet.verify_checksum() {
            return None;
        }
        let (source, destination) = (packet.src_addr().into(), packet.dst_addr().into());
        if packet.more_frags() || packet.frag_offset() != 0 {
            return Some(Seen::Fragment(source, destination, packet.frag_offset() == 0));
        }
        let protocol = packet.next_header().into();
        return Some(Seen::Whole(source, destination, protocol, ports(protocol, packet.payload())?));
    }
    let packet = Ipv6Packet::new_checked(frame.payload()).ok()?;
    if packet.version() != 6 {
        return None;
    }
    let (source, destination) = (packet.src_addr().into(), packet.dst_addr().into());
    let whole = &frame.payload()[..packet.total_len()];
    let (protocol, at, fragment) = walk(packet.next_header().into(), whole)?;
    match fragment {
        Some((offset, more)) if offset != 0 || more => Some(Seen::Fragment(source, destination, offset == 0)),
        _ => Some(Seen::Whole(source, destination, protocol, ports(protocol, &whole[at..])?)),
    }
}

/// A fragment's offset in bytes, and whether more follow.
type Piece = (u16, bool);

/// Past the extension headers, by the limits that ours has: protocol, where it begins, and which piece it is.
fn walk(mut kind: u8, whole: &[u8]) -> Option<(u8, usize, Option<Piece>)> {
    let (mut at, mut fragment) = (40, None);
    for _ in 0..ipv6::EXTENSIONS_MAX {
        if !matches!(kind, 0 | 43 | 44 | 51 | 60) {
            break;
        }
        let fixed = whole.get(at..at + 8)?;
        if kind == 43 && fixed[3] != 0 {
            break;
        }
        let len = match kind {
            44 => {
                let header = Ipv6FragmentHeader::new_checked(&fixed[2..]).ok()?;
                fragment = Some((header.frag_offset(), header.more_frags()));
                8
            }
            51 => (usize::from(fixed[1]) + 2) * 4,
            _ => usize::from(Ipv6ExtHeader::new_checked(&whole[at..]).ok()?.header_len()) * 8 + 8,
        };
        if at + len > whole.len() {
            return None;
        }
        if at + len > 40 + ipv6::EXTENSION_BYTES_MAX {
            break;
        }
        (kind, at) = (fixed[0], at + len);
        if fragment.is_some_and(|(offset, _)| offset != 0) {
            break;
        }
    }
    Some((kind, at, fragment))
}

fn ports(protocol: u8, payload: &[u8]) -> Option<(u16, u16)> {
    Some(match protocol {
        6 => {
            let packet = TcpPacket::new_checked(payload).ok()?;
            (packet.src_port(), packet.dst_port())
        }
        17 => {
            let packet = UdpPacket::new_checked(payload).ok()?;
            (packet.src_port(), packet.dst_port())
        }
        1 | 58 => Icmpv4Packet::new_checked(payload.get(..4)?.repeat(2)).ok().map(|_| (0, 0))?,
        _ => (0, 0),
    })
}

fn ours(frame: &[u8]) -> Seen {
    let Ok(meta) = Meta::parse(frame, frame.len(), RxChecksum::Unknown) else { return Seen::Broken };
    let (source, destination) = (meta.source.to_ip().into(), meta.destination.to_ip().into());
    match meta.fragment {
        Fragment::Whole => {
            let ports = (meta.source_port, meta.destination_port);
            Seen::Whole(source, destination, meta.protocol, ports)
        }
        Fragment::First | Fragment::FirstShort => Seen::Fragment(source, destination, true),
        Fragment::Later => Seen::Fragment(source, destination, false),
    }
}

fn addr(address: IpAddress) -> Addr {
    Addr::from(std::net::IpAddr::from(address))
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 4000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn frames_are_read_alike(packet in any_packet(), changes in any_changes()) {
        let frame = changed(packet.frame(), &changes);
        prop_assert_eq!(ours(&frame), read(&frame).unwrap_or(Seen::Broken), "{:02x?}", frame);
    }

    #[test]
    fn ethernet_headers_are_read_and_written_alike(mut bytes in prop::collection::vec(any::<u8>(), 14..20), macs in any::<[[u8; 6]; 2]>()) {
        let theirs = EthernetFrame::new_checked(&bytes[..]).unwrap();
        prop_assert_eq!(ethernet::destination(&bytes), theirs.dst_addr().0);
        prop_assert_eq!(ethernet::source(&bytes), theirs.src_addr().0);
        prop_assert_eq!(ethernet::ethertype(&bytes), u16::from(theirs.ethertype()));
        prop_assert_eq!(ethernet::is_group(theirs.dst_addr().0), theirs.dst_addr().is_multicast() || theirs.dst_addr().is_broadcast());
        let mut same = bytes.clone();
        let mut theirs = EthernetFrame::new_unchecked(&mut same[..]);
        theirs.set_dst_addr(EthernetAddress(macs[0]));
        theirs.set_src_addr(EthernetAddress(macs[1]));
        ethernet::set_addresses(&mut bytes, macs[0], macs[1]);
        prop_assert_eq!(bytes, same);
    }

    /// RFC 1624 against the sum anew, as another writes it.
    #[test]
    fn a_hop_less_has_the_checksum_of_a_header_written_anew(packet in any_packet(), ttl in 1_u8..) {
        let mut frame = packet.frame();
        let ip = &mut frame[14..];
        if ip[0] >> 4 == 6 {
            ip[7] = ttl;
            ipv6::decrement_hop_limit(ip);
            prop_assert_eq!(Ipv6Packet::new_unchecked(&*ip).hop_limit(), ttl - 1);
            return Ok(());
        }
        let mut theirs = Ipv4Packet::new_unchecked(&mut ip[..]);
        theirs.set_hop_limit(ttl);
        theirs.fill_checksum();
        let mut anew = ip.to_vec();
        let mut theirs = Ipv4Packet::new_unchecked(&mut anew[..]);
        theirs.set_hop_limit(ttl - 1);
        theirs.fill_checksum();
        ipv4::decrement_ttl(ip);
        prop_assert_eq!(&*ip, &anew[..]);
        let header_len = usize::from(ip[0] & 15) * 4;
        ipv4::fill_checksum(ip, header_len);
        prop_assert_eq!(&*ip, &anew[..]);
    }

    #[test]
    fn transport_checksums_are_theirs(packet in any_packet()) {
        let (source, destination) = (packet.source, packet.destination);
        let v4 = matches!(source, IpAddress::Ipv4(_));
        let mut bytes = packet.payload.bytes(&source, &destination);
        let (at, pseudo) = match packet.payload {
            Payload::Tcp { .. } => (16, true),
            Payload::Udp { .. } => (6, true),
            Payload::Echo(_) => (2, !v4),
            Payload::Other(..) => return Ok(()),
        };
        let theirs = u16::from_be_bytes([bytes[at], bytes[at + 1]]);
        bytes[at..at + 2].fill(0);
        let mut sum = checksum::sum(&bytes);
        if pseudo {
            let protocol = packet.payload.protocol(v4);
            sum += checksum::pseudo_header(addr(source), addr(destination), protocol, bytes.len());
        }
        let ours = !checksum::fold(sum);
        // In UDP zero means "none" (RFC 768).
        let is_udp = matches!(packet.payload, Payload::Udp { .. });
        prop_assert_eq!(if is_udp && ours == 0 { 0xffff } else { ours }, theirs);
    }

    /// Errors that another host writes, about packets of ours and of others, with as much quoted as there may be, and damaged.
    #[test]
    fn quotes_name_the_ends_that_others_read(
        packet in any_packet(), quoted in 0_usize..40, flips in prop::collection::vec((any::<Index>(), any::<u8>()), 0..3),
    ) {
        let bytes = packet.payload.bytes(&packet.source, &packet.destination);
        let data = &bytes[..quoted.min(bytes.len())];
        let v4 = matches!(packet.source, IpAddress::Ipv4(_));
        let protocol = packet.payload.protocol(v4);
        let repr = IpRepr::new(packet.source, packet.destination, protocol.into(), bytes.len(), 64);
        let checksums = ChecksumCapabilities::default();
        let mut error = match repr {
            IpRepr::Ipv4(header) => {
                let repr = Icmpv4Repr::DstUnreachable { reason: Icmpv4DstUnreachable::HostUnreachable, header, data };
                let mut bytes = vec![0; repr.buffer_len()];
                repr.emit(&mut Icmpv4Packet::new_unchecked(&mut bytes), &checksums);
                bytes
            }
            IpRepr::Ipv6(header) => {
                let repr = Icmpv6Repr::DstUnreachable { reason: Icmpv6DstUnreachable::AddrUnreachable, header, data };
                let mut bytes = vec![0; repr.buffer_len()];
                let (from, to) = (header.dst_addr, header.src_addr);
                repr.emit(&from, &to, &mut Icmpv6Packet::new_unchecked(&mut bytes), &checksums);
                bytes
            }
        };
        let number = if v4 { 1 } else { 58 };
        prop_assert!(icmp::is_error(number, error[0]) && icmp::concerns_a_flow(number, error[0]));
        for (at, byte) in &flips {
            let at = 8 + at.index(error.len() - 8);
            error[at] = *byte;
        }
        let seen = icmp::Quote::parse(&error, 0, v4).map(|quote| (quote.protocol, quote.source, quote.destination));
        prop_assert_eq!(seen, quoted_ends(&error[8..], v4), "{:02x?}", error);
    }
}

type Ends = (u8, (Addr, u16), (Addr, u16));

/// The ends of a packet of which the first bytes are there.
fn quoted_ends(bytes: &[u8], v4: bool) -> Option<Ends> {
    let (source, destination, protocol, at) = if v4 {
        let packet = Ipv4Packet::new_unchecked(bytes.get(..20)?);
        if packet.version() != 4 || packet.header_len() < 20 || packet.frag_offset() != 0 {
            return None;
        }
        let (source, destination) = (packet.src_addr().into(), packet.dst_addr().into());
        (source, destination, packet.next_header().into(), packet.header_len().into())
    } else {
        let packet = Ipv6Packet::new_unchecked(bytes.get(..40)?);
        if packet.version() != 6 {
            return None;
        }
        let (protocol, at, fragment) = walk(packet.next_header().into(), bytes)?;
        if fragment.is_some_and(|(offset, _)| offset != 0) {
            return None;
        }
        (packet.src_addr().into(), packet.dst_addr().into(), protocol, at)
    };
    let ports = UdpPacket::new_unchecked(bytes.get(at..at + 8)?);
    matches!(protocol, 6 | 17)
        .then(|| (protocol, (addr(source), ports.src_port()), (addr(destination), ports.dst_port())))
}
