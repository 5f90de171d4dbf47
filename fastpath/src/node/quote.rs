//! ICMP errors about packets of our flows: to the flow's owner, translated, and on to whoever sent the packet
//! (RFC 792, RFC 4443; RFC 5508 §4 for the translation).
//!
//! ```text
//!   from the instance's side, quotes  client or appliance -> instance   ─► to the client, quoting  client -> service
//!   from the client's side, quotes    service -> client                 ─► to the instance, quoting  instance -> client or appliance
//! ```
//!
//! A quote is short: eight bytes of the transport header are enough. The ends in it tell the flow as those of a packet do.

use super::{Context, handshake};
use crate::addr::Addr;
use crate::driver::Frame;
use crate::flow::key::owner;
use crate::flow::{Direction, FlowHasher, FlowTable};
use crate::packet::{Kind, L3, Meta, Network, Packet};
use crate::tables::services::Endpoint;
use crate::wire::checksum::{self, Delta};
use crate::wire::icmp::{self, Quote};
use crate::wire::{ICMP, ICMPV6, UDP, be16, ipv6};

/// Source and destination.
pub(super) type Ends = ((Addr, u16), (Addr, u16));

/// Whether this is an error about what may be a flow of ours; then whose flow that is stands in `meta`.
pub(super) fn seek(meta: &mut Meta, bytes: &[u8], cx: &Context<'_>) -> bool {
    let Some(quote) = parse(meta, bytes) else { return false };
    let tables = cx.tables;
    let endpoint = |end: (Addr, u16)| Endpoint { addr: end.0, port: end.1, protocol: quote.protocol };
    let nat_ports = tables.policy.nat_ports;
    let (hash, owner) = if tables.services.is_return(&endpoint(quote.destination)) {
        let (addr, port) = quote.source;
        let hash = cx.hasher.hash(addr, port, quote.protocol);
        match tables.interfaces.local(addr) {
            Some(local) if local.host && nat_ports.contains(port) => {
                (hash, nat_ports.owner(port, cx.workers))
            }
            _ => (hash, owner(hash, cx.workers)),
        }
    } else if tables.services.by_endpoint(&endpoint(quote.source)).is_some() {
        let hash = cx.hasher.hash(quote.destination.0, quote.destination.1, quote.protocol);
        (hash, owner(hash, cx.workers))
    } else {
        return false;
    };
    (meta.kind, meta.flow_hash, meta.owner) = (Kind::Quote, hash, owner as u16);
    true
}

fn parse(meta: &Meta, bytes: &[u8]) -> Option<Quote> {
    let v4 = meta.network == Network::V4;
    let at = usize::from(meta.l4);
    let is_error = meta.has_l4
        && meta.protocol == if v4 { ICMP } else { ICMPV6 }
        && icmp::concerns_a_flow(meta.protocol, bytes[at]);
    if !is_error {
        return None;
    }
    // What pads the frame is nobody's packet.
    let ip_end = bytes.len().min(L3 + usize::from(meta.ip_len));
    Quote::parse(&bytes[..ip_end], at, v4)
}

/// The flow of a packet by the ends that it has once translated: its position, which way the packet goes, and the ends
/// that it had before.
pub(super) fn original_ends(
    flows: &FlowTable,
    hasher: &FlowHasher,
    protocol: u8,
    (source, destination): Ends,
) -> Option<(u32, Direction, Ends)> {
    // What was sent on to the instance is answered from there, and an answer finds the flow.
    let to_instance = hasher.hash(source.0, source.1, protocol);
    if let Some((position, Direction::Return)) = flows.find(to_instance, protocol, destination, source) {
        let flow = flows.get(position);
        let ends = ((flow.client, flow.client_port), (flow.vip, flow.vip_port));
        return Some((position, Direction::Forward, ends));
    }
    let to_client = hasher.hash(destination.0, destination.1, protocol);
    match flows.find(to_client, protocol, destination, source) {
        Some((position, Direction::Forward)) => {
            let flow = flows.get(position);
            let ends = ((flow.instance, flow.instance_port), flows.client_seen(position));
            Some((position, Direction::Return, ends))
        }
        _ => None,
    }
}

/// Translates an error for the sender of the packet that it quotes; false, and not a byte changed, when no flow has it.
pub(super) fn translate<F: Frame>(packet: &mut Packet<F>, flows: &mut FlowTable, cx: &Context<'_>) -> bool {
    let Some(quote) = parse(&packet.meta, packet.frame.bytes()) else { return false };
    let quoted = (quote.source, quote.destination);
    let found = original_ends(flows, cx.hasher, quote.protocol, quoted);
    let Some((position, direction, original)) = found else { return false };
    if direction == Direction::Forward {
        let at = usize::from(packet.meta.l4);
        let [kind, code] = [0, 1].map(|byte| packet.frame.bytes()[at + byte]);
        handshake::error(flows, position, (packet.meta.protocol, kind, code), packet, cx);
    }
    let meta = &mut packet.meta;
    // An error of the other end itself comes from where its packets are seen to come from; a router between keeps its name.
    let source = match direction {
        Direction::Forward if meta.source == flows.get(position).instance => original.1.0,
        Direction::Return if meta.source == flows.get(position).client => original.1.0,
        _ => meta.source,
    };
    let destination = original.0.0;
    let v4 = meta.network == Network::V4;
    let bytes = packet.frame.bytes_mut();
    let mut message = rewrite_quote(bytes, &quote, original, v4);
    let ip = &mut bytes[L3..];
    if v4 {
        let mut header = Delta::default();
        header.replace_v4(meta.source, source);
        header.replace_v4(meta.destination, destination);
        ip[12..16].copy_from_slice(&source.v4_bytes());
        ip[16..20].copy_from_slice(&destination.v4_bytes());
        patch(ip, 10, header);
    } else {
        // The pseudo header is part of the sum (RFC 4443 §2.3).
        message.replace_v6(meta.source, source);
        message.replace_v6(meta.destination, destination);
        ip[8..24].copy_from_slice(&source.v6_bytes());
        ip[24..40].copy_from_slice(&destination.v6_bytes());
    }
    patch(bytes, usize::from(meta.l4) + icmp::CHECKSUM, message);
    (meta.source, meta.destination) = (source, destination);
    true
}

/// Gives the quoted packet its original ends and keeps its own checksums right, as far as they are quoted. Returns what
/// that changes in the sum of the error around it.
fn rewrite_quote(bytes: &mut [u8], quote: &Quote, (source, destination): Ends, v4: bool) -> Delta {
    let checksum_at = quote.checksum_at(bytes);
    // All that changes lies between the IP header's begin and the transport checksum, all even offsets of the message.
    let end = checksum_at.map_or(quote.l4 + 4, |at| at + 2);
    let before = checksum::fold(checksum::sum(&bytes[quote.ip..end]));
    let mut ends = Delta::default();
    ends.replace16(quote.source.1, source.1);
    ends.replace16(quote.destination.1, destination.1);
    let ip = &mut bytes[quote.ip..];
    if v4 {
        let mut header = Delta::default();
        header.replace_v4(quote.source.0, source.0);
        header.replace_v4(quote.destination.0, destination.0);
        ends.add(header);
        ip[12..16].copy_from_slice(&source.0.v4_bytes());
        ip[16..20].copy_from_slice(&destination.0.v4_bytes());
        patch(ip, 10, header);
    } else {
        ends.replace_v6(quote.source.0, source.0);
        ends.replace_v6(quote.destination.0, destination.0);
        let ip = &mut ip[..ipv6::HEADER];
        ip[8..24].copy_from_slice(&source.0.v6_bytes());
        ip[24..40].copy_from_slice(&destination.0.v6_bytes());
    }
    bytes[quote.l4..quote.l4 + 2].copy_from_slice(&source.1.to_be_bytes());
    bytes[quote.l4 + 2..quote.l4 + 4].copy_from_slice(&destination.1.to_be_bytes());
    if let Some(at) = checksum_at {
        patch(bytes, at, ends);
        if quote.protocol == UDP && be16(bytes, at) == 0 {
            bytes[at..at + 2].copy_from_slice(&[0xff, 0xff]);
        }
    }
    let mut message = Delta::default();
    message.replace16(before, checksum::fold(checksum::sum(&bytes[quote.ip..end])));
    message
}

fn patch(bytes: &mut [u8], at: usize, delta: Delta) {
    let sum = delta.apply(be16(bytes, at));
    bytes[at..at + 2].copy_from_slice(&sum.to_be_bytes());
}
