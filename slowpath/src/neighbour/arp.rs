//! ARP for IPv4 over Ethernet (RFC 826), to and from [`Message`].

use smoltcp::wire::{
    ArpOperation, ArpPacket, ArpRepr, EthernetAddress, EthernetFrame, EthernetProtocol, EthernetRepr,
};

use millrace_fastpath::addr::Addr;
use millrace_fastpath::tables::interfaces::Mac;

use super::heard::is_station;
use super::{BROADCAST, Message};

/// Reads an ARP packet; `None` for what isn't one that a station may send.
pub(super) fn parse(payload: &[u8]) -> Option<Message> {
    let packet = ArpPacket::new_checked(payload).ok()?;
    let ArpRepr::EthernetIpv4 {
        operation,
        source_hardware_addr,
        source_protocol_addr,
        target_protocol_addr,
        ..
    } = ArpRepr::parse(&packet).ok()?
    else {
        return None;
    };
    let mac = source_hardware_addr.0;
    if !is_station(mac) || source_protocol_addr.is_broadcast() || source_protocol_addr.is_multicast() {
        return None;
    }
    let sender = Addr::from(source_protocol_addr);
    let target = Addr::from(target_protocol_addr);
    match operation {
        // An announcement comes as either kind (RFC 5227 §2.3); as a reply its target means nothing.
        ArpOperation::Request if sender == target => {
            Some(Message::Advertise { addr: sender, mac: Some(mac), solicited: false, overrides: true })
        }
        // All zeros asks without telling: a probe (RFC 5227 §1.1).
        ArpOperation::Request => {
            let sender = (!source_protocol_addr.is_unspecified()).then_some(sender);
            Some(Message::Solicit { sender, mac: Some(mac), target })
        }
        ArpOperation::Reply if source_protocol_addr.is_unspecified() => None,
        ArpOperation::Reply => {
            let solicited = sender != target;
            Some(Message::Advertise { addr: sender, mac: Some(mac), solicited, overrides: true })
        }
        ArpOperation::Unknown(_) => None,
    }
}

/// Asks for `target`: of everyone, or of `ask` alone to see whether it is still there.
pub(super) fn request(from: Addr, mac: Mac, target: Addr, ask: Option<Mac>) -> Vec<u8> {
    frame(mac, ask.unwrap_or(BROADCAST), ArpOperation::Request, from, [0; 6], target)
}

/// Answers `to` that `addr` is at `mac`.
pub(super) fn reply(addr: Addr, mac: Mac, to: Addr, to_mac: Mac) -> Vec<u8> {
    frame(mac, to_mac, ArpOperation::Reply, addr, to_mac, to)
}

/// Tells everyone that `addr` is at `mac` (RFC 5227 §2.3).
pub(super) fn announcement(addr: Addr, mac: Mac) -> Vec<u8> {
    frame(mac, BROADCAST, ArpOperation::Request, addr, [0; 6], addr)
}

fn frame(mac: Mac, to: Mac, operation: ArpOperation, sender: Addr, target_mac: Mac, target: Addr) -> Vec<u8> {
    let arp = ArpRepr::EthernetIpv4 {
        operation,
        source_hardware_addr: EthernetAddress(mac),
        source_protocol_addr: sender.v4_bytes().into(),
        target_hardware_addr: EthernetAddress(target_mac),
        target_protocol_addr: target.v4_bytes().into(),
    };
    let ethernet = EthernetRepr {
        src_addr: EthernetAddress(mac),
        dst_addr: EthernetAddress(to),
        ethertype: EthernetProtocol::Arp,
    };
    let mut bytes = vec![0; ethernet.buffer_len() + arp.buffer_len()];
    let mut frame = EthernetFrame::new_unchecked(&mut bytes);
    ethernet.emit(&mut frame);
    arp.emit(&mut ArpPacket::new_unchecked(frame.payload_mut()));
    bytes
}
