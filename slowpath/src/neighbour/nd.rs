//! Neighbour solicitation and advertisement for IPv6 (RFC 4861 §4.3, §4.4), to and from [`Message`].

use smoltcp::phy::ChecksumCapabilities;
use smoltcp::wire::{
    EthernetAddress, EthernetFrame, EthernetProtocol, EthernetRepr, Icmpv6Packet, Icmpv6Repr, IpProtocol,
    Ipv6Address, Ipv6Packet, Ipv6Repr, NdiscNeighborFlags, NdiscRepr, RawHardwareAddress,
};

use millrace_fastpath::addr::Addr;
use millrace_fastpath::tables::interfaces::Mac;

use super::Message;
use super::heard::is_station;

/// All nodes on the link (RFC 4291 §2.7.1).
const ALL_NODES: Ipv6Address = Ipv6Address::new(0xff02, 0, 0, 0, 0, 0, 0, 1);
/// A router would have lowered it: proof that the packet was sent on this link (RFC 4861 §7.1).
const HOP_LIMIT: u8 = 255;
/// ICMPv6 type of a neighbour solicitation.
const SOLICIT: u8 = 135;
/// ICMPv6 type of a neighbour advertisement.
const ADVERTISE: u8 = 136;
/// Type of the option that carries the sender's link-layer address, in a solicitation.
const SOURCE_OPTION: u8 = 1;
/// Type of the option that carries the target's link-layer address, in an advertisement.
const TARGET_OPTION: u8 = 2;

/// Whether an IPv6 packet is a solicitation or advertisement, so that it belongs here and not to the host's stack.
pub(crate) fn is_discovery(ipv6: &[u8]) -> bool {
    ipv6.get(6) == Some(&58) && matches!(ipv6.get(40), Some(133..=137))
}

/// Reads an IPv6 packet; `None` for what isn't a solicitation or advertisement, or fails the checks of RFC 4861 §7.1.
pub(super) fn parse(ipv6: &[u8]) -> Option<Message> {
    let packet = Ipv6Packet::new_checked(ipv6).ok()?;
    if packet.hop_limit() != HOP_LIMIT || packet.next_header() != IpProtocol::Icmpv6 {
        return None;
    }
    let (source, destination) = (packet.src_addr(), packet.dst_addr());
    let payload = packet.payload();
    // The fixed part: type, code, checksum, flags, target.
    let (fixed, options) = payload.split_at_checked(24)?;
    if fixed[1] != 0 || !Icmpv6Packet::new_checked(payload).ok()?.verify_checksum(&source, &destination) {
        return None;
    }
    let target = Ipv6Address::from(<[u8; 16]>::try_from(&fixed[8..24]).ok()?);
    if target.is_multicast() || target.is_unspecified() || source.is_multicast() {
        return None;
    }
    match fixed[0] {
        SOLICIT => {
            let mac = option(options, SOURCE_OPTION)?;
            if source.is_unspecified() {
                // Duplicate address detection (RFC 4862 §5.4.3): nobody to learn from.
                if mac.is_some() || !is_solicited_node(destination) {
                    return None;
                }
                return Some(Message::Solicit { sender: None, mac: None, target: target.into() });
            }
            Some(Message::Solicit { sender: Some(source.into()), mac, target: target.into() })
        }
        ADVERTISE => {
            let flags = fixed[4];
            let solicited = flags & 0x40 != 0;
            if solicited && destination.is_multicast() {
                return None;
            }
            let mac = option(options, TARGET_OPTION)?;
            Some(Message::Advertise { addr: target.into(), mac, solicited, overrides: flags & 0x20 != 0 })
        }
        _ => None,
    }
}

/// The link-layer address in the option of type `kind`, if it is there; `None` outside when the options are malformed
/// (RFC 4861 §4.6: a length of zero is).
fn option(mut options: &[u8], kind: u8) -> Option<Option<Mac>> {
    let mut found = None;
    while !options.is_empty() {
        let len = usize::from(*options.get(1)?) * 8;
        if len == 0 {
            return None;
        }
        let (one, rest) = options.split_at_checked(len)?;
        if one[0] == kind && len == 8 {
            let mac = Mac::try_from(&one[2..8]).ok()?;
            if !is_station(mac) {
                return None;
            }
            found = Some(mac);
        }
        options = rest;
    }
    Some(found)
}

/// Asks for `target`: of its solicited-node group, or of `ask` alone to see whether it is still there.
pub(super) fn solicitation(from: Addr, mac: Mac, target: Addr, ask: Option<Mac>) -> Vec<u8> {
    let target = v6(target);
    let (to_mac, to) = match ask {
        Some(to_mac) => (to_mac, target),
        None => {
            let group = solicited_node(target);
            (multicast_mac(group), group)
        }
    };
    let repr = NdiscRepr::NeighborSolicit { target_addr: target, lladdr: Some(lladdr(mac)) };
    frame(mac, to_mac, v6(from), to, repr)
}

/// Answers that `addr` is at `mac`; to all nodes when the asker has no address yet.
pub(super) fn advertisement(addr: Addr, mac: Mac, to: Option<(Addr, Mac)>) -> Vec<u8> {
    let mut flags = NdiscNeighborFlags::OVERRIDE | NdiscNeighborFlags::ROUTER;
    let (to, to_mac) = match to {
        Some((to, to_mac)) => {
            flags |= NdiscNeighborFlags::SOLICITED;
            (v6(to), to_mac)
        }
        None => (ALL_NODES, multicast_mac(ALL_NODES)),
    };
    let repr = NdiscRepr::NeighborAdvert { flags, target_addr: v6(addr), lladdr: Some(lladdr(mac)) };
    frame(mac, to_mac, v6(addr), to, repr)
}

fn frame(mac: Mac, to_mac: Mac, from: Ipv6Address, to: Ipv6Address, repr: NdiscRepr<'_>) -> Vec<u8> {
    let icmp = Icmpv6Repr::Ndisc(repr);
    let ip = Ipv6Repr {
        src_addr: from,
        dst_addr: to,
        next_header: IpProtocol::Icmpv6,
        payload_len: icmp.buffer_len(),
        hop_limit: HOP_LIMIT,
    };
    let ethernet = EthernetRepr {
        src_addr: EthernetAddress(mac),
        dst_addr: EthernetAddress(to_mac),
        ethertype: EthernetProtocol::Ipv6,
    };
    let mut bytes = vec![0; ethernet.buffer_len() + ip.buffer_len() + icmp.buffer_len()];
    let mut frame = EthernetFrame::new_unchecked(&mut bytes);
    ethernet.emit(&mut frame);
    let mut packet = Ipv6Packet::new_unchecked(frame.payload_mut());
    ip.emit(&mut packet);
    icmp.emit(
        &from,
        &to,
        &mut Icmpv6Packet::new_unchecked(packet.payload_mut()),
        &ChecksumCapabilities::default(),
    );
    bytes
}

fn v6(addr: Addr) -> Ipv6Address {
    Ipv6Address::from(addr.v6_bytes())
}

fn lladdr(mac: Mac) -> RawHardwareAddress {
    RawHardwareAddress::from(EthernetAddress(mac))
}

/// The group that a station with this address listens to (RFC 4291 §2.7.1).
fn solicited_node(addr: Ipv6Address) -> Ipv6Address {
    let [.., a, b, c] = addr.octets();
    Ipv6Address::from([0xff, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0xff, a, b, c])
}

fn is_solicited_node(addr: Ipv6Address) -> bool {
    solicited_node(addr) == addr
}

/// The Ethernet address of an IPv6 group (RFC 2464 §7).
fn multicast_mac(group: Ipv6Address) -> Mac {
    let [.., a, b, c, d] = group.octets();
    [0x33, 0x33, a, b, c, d]
}
