//! Errors that the appliance sends: time exceeded, packet too big, unreachable (RFC 792, RFC 1812 §4.3, RFC 4443 §3).
//!
//! ```text
//!   a node refuses a packet ─► may its sender be told? ─┬─ yes ─► the frame becomes the error, and goes back
//!                                                       └─ no ──► dropped, for the node's own reason
//! ```
//!
//! The sender is shown the packet as it sent it: what was translated is translated back before it is quoted. All of this
//! is off the common path, and bounded: a worker sends [`ERRORS_PER_SECOND`] and no more.

use super::quote::original_ends;
use super::{Context, Lanes, Leaving, NodeId, rewrite::rewrite};
use crate::addr::Addr;
use crate::driver::Frame;
use crate::flow::FlowTable;
use crate::packet::{Fragment, L3, Network, Origin, Packet};
use crate::tables::interfaces::Mac;
use crate::wire::{ICMP, ICMPV6, checksum, ethernet, icmp, ipv4, ipv6};

/// Errors that one worker sends in a second, in the long run; Linux allows as many to a machine.
pub const ERRORS_PER_SECOND: u64 = 1000;
/// Errors that it sends at once after a quiet time.
pub const ERRORS_BURST: u64 = 50;

/// Hop limit of what we originate (RFC 1700's default TTL).
const TTL: u8 = 64;
/// Precedence "internetwork control" (RFC 1812 §4.3.2.5).
const PRECEDENCE: u8 = 6 << 5;

/// What a sender is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Error {
    /// The time to live (hop limit) was used up here.
    TimeExceeded,
    /// There is no route.
    NoRoute,
    /// Nobody listens at this port of ours.
    NoPort,
    /// It is longer than this, in bytes, and mustn't be fragmented.
    TooBig(u16),
}

impl Error {
    /// What a trace says of a frame that became this.
    pub fn name(self) -> &'static str {
        match self {
            Error::TimeExceeded => "answered: time exceeded",
            Error::NoRoute => "answered: no route",
            Error::NoPort => "answered: port unreachable",
            Error::TooBig(_) => "answered: too big",
        }
    }

    /// Type, code, and the four bytes behind the checksum.
    fn fields(self, v4: bool) -> (u8, u8, u32) {
        match (self, v4) {
            (Error::TimeExceeded, true) => (11, 0, 0),
            (Error::NoRoute, true) => (3, 0, 0),
            (Error::NoPort, true) => (3, 3, 0),
            (Error::TooBig(mtu), true) => (3, 4, u32::from(mtu)),
            (Error::TimeExceeded, false) => (3, 0, 0),
            (Error::NoRoute, false) => (1, 0, 0),
            (Error::NoPort, false) => (1, 4, 0),
            (Error::TooBig(mtu), false) => (2, 0, u32::from(mtu)),
        }
    }
}

/// A packet that a node refuses, and the drop that it is when nobody may be told.
#[derive(Debug)]
pub struct Refused<F> {
    /// The packet, its Ethernet header still that of its arrival.
    pub packet: Packet<F>,
    /// What its sender is told.
    pub error: Error,
    /// The node that refused it, and its drop.
    pub drop: (NodeId, usize, &'static str),
}

/// Tells the senders of refused packets, or drops them.
#[cold]
#[inline(never)]
pub fn process<F: Frame>(flows: &FlowTable, cx: &mut Context<'_>, lanes: &mut Lanes<F>) {
    while let Some(Refused { mut packet, error, drop: (node, reason, name) }) = lanes.refused.pop() {
        // Nobody is told of what we said ourselves: the splice says it again, or gives up.
        if packet.meta.origin != Origin::Own && tell(&mut packet, error, flows, cx) {
            cx.trace(node, error.name(), &packet);
            cx.counters.fates.errors_sent.add(1);
            let leaving = match packet.meta.origin {
                Origin::Arrival => Leaving::Answered,
                Origin::Hold => Leaving::Released,
                Origin::Own => Leaving::Originated,
            };
            let interface = packet.meta.interface;
            cx.send(packet, interface, leaving, lanes);
        } else {
            cx.drop(node, reason, name, packet, lanes);
        }
    }
}

/// Turns the frame into the error; false, and the packet as it was sent, where that may not be.
fn tell<F: Frame>(packet: &mut Packet<F>, error: Error, flows: &FlowTable, cx: &mut Context<'_>) -> bool {
    translate_back(packet, flows, cx);
    if !may_be_told(packet, error, cx) {
        return false;
    }
    let Some(source) = own_address(packet, error, cx) else { return false };
    if !cx.errors.take(cx.now) {
        cx.counters.fates.errors_limited.add(1);
        return false;
    }
    let Some(ours) = cx.tables.interfaces.get(packet.meta.interface).map(|interface| interface.mac) else {
        return false;
    };
    become_error(packet, error, source, ours)
}

/// Gives a packet of a flow the ends that its sender knows it by.
fn translate_back<F: Frame>(packet: &mut Packet<F>, flows: &FlowTable, cx: &Context<'_>) {
    let meta = &packet.meta;
    // Only the owner of a flow translates, and only what carries its ports.
    if meta.flow_hash == 0 || !matches!(meta.fragment, Fragment::Whole | Fragment::First) {
        return;
    }
    let sent_on = ((meta.source, meta.source_port), (meta.destination, meta.destination_port));
    if let Some((_, _, (source, destination))) = original_ends(flows, cx.hasher, meta.protocol, sent_on) {
        rewrite(packet, source, destination);
    }
}

/// About what nothing may be said: RFC 1122 §3.2.2, RFC 1812 §4.3.2.7, RFC 4443 §2.4 (e).
fn may_be_told<F: Frame>(packet: &Packet<F>, error: Error, cx: &Context<'_>) -> bool {
    let meta = &packet.meta;
    let bytes = packet.frame.bytes();
    let v4 = meta.network == Network::V4;
    let is_group = |addr: Addr| {
        if v4 {
            addr.v4_bytes()[0] >= 224 || cx.tables.interfaces.iter().any(|(_, at)| at.is_broadcast(addr))
        } else {
            addr.0 >> 120 == 0xff
        }
    };
    let is_about_error = || {
        matches!(meta.protocol, ICMP | ICMPV6)
            && bytes.get(usize::from(meta.l4)).is_none_or(|kind| icmp::is_error(meta.protocol, *kind))
    };
    // Senders to groups have to know how long packets may be (RFC 4443 §2.4 (e.3)).
    let may_be_to_group = !v4 && matches!(error, Error::TooBig(_));
    let to_group = ethernet::is_group(ethernet::destination(bytes)) || is_group(meta.destination);
    meta.fragment != Fragment::Later
        && packet.frame.segments() == 1
        && !(v4 && matches!(error, Error::TooBig(_)) && !ipv4::dont_fragment(&bytes[L3..]))
        && (may_be_to_group || !to_group)
        && !is_group(meta.source)
        && !is_about_error()
}

/// Whom the error is from: the address that was spoken to, where it is ours (RFC 4443 §2.2 (a)), or else that of the
/// interface that the packet came in by (RFC 1812 §4.3.2.4).
fn own_address<F: Frame>(packet: &Packet<F>, error: Error, cx: &Context<'_>) -> Option<Addr> {
    match error {
        Error::NoPort => Some(packet.meta.destination),
        _ => cx.tables.interfaces.get(packet.meta.interface)?.address_like(packet.meta.source),
    }
}

/// The frame becomes the error, with as much of the packet as the RFCs allow, and goes back where it came from.
fn become_error<F: Frame>(packet: &mut Packet<F>, error: Error, source: Addr, ours: Mac) -> bool {
    let v4 = packet.meta.network == Network::V4;
    let (ip_header, bytes_max) = match v4 {
        true => (ipv4::HEADER, icmp::V4_BYTES_MAX),
        false => (ipv6::HEADER, icmp::V6_BYTES_MAX),
    };
    let added = ip_header + icmp::HEADER;
    let quoted = usize::from(packet.meta.ip_len).min(bytes_max - added);
    let destination = packet.meta.source;
    let frame = &mut packet.frame;
    let theirs = ethernet::source(frame.bytes());
    let ethertype = ethernet::ethertype(frame.bytes());
    if frame.headroom() < added || !frame.truncate(L3 + quoted) || !frame.prepend(added) {
        return false;
    }
    let bytes = frame.bytes_mut();
    ethernet::set_addresses(bytes, theirs, ours);
    bytes[12..14].copy_from_slice(&ethertype.to_be_bytes());
    let (ip, message) = bytes[L3..].split_at_mut(ip_header);
    let (kind, code, rest) = error.fields(v4);
    message[..4].copy_from_slice(&[kind, code, 0, 0]);
    message[4..8].copy_from_slice(&rest.to_be_bytes());
    let pseudo = match v4 {
        true => 0,
        false => checksum::pseudo_header(source, destination, ICMPV6, message.len()),
    };
    let sum = !checksum::fold(pseudo + checksum::sum(message));
    message[icmp::CHECKSUM..icmp::CHECKSUM + 2].copy_from_slice(&sum.to_be_bytes());
    if v4 {
        let total_len = (ip_header + message.len()) as u16;
        ip[..4].copy_from_slice(&[0x45, PRECEDENCE, (total_len >> 8) as u8, total_len as u8]);
        // Whole and not to be fragmented, so that its identification says nothing (RFC 6864 §4.1).
        ip[4..8].copy_from_slice(&[0, 0, 0x40, 0]);
        ip[8..12].copy_from_slice(&[TTL, ICMP, 0, 0]);
        ip[12..16].copy_from_slice(&source.v4_bytes());
        ip[16..20].copy_from_slice(&destination.v4_bytes());
        ipv4::fill_checksum(ip, ip_header);
    } else {
        ip[..4].copy_from_slice(&[0x60, 0, 0, 0]);
        ip[4..6].copy_from_slice(&(message.len() as u16).to_be_bytes());
        ip[6..8].copy_from_slice(&[ICMPV6, TTL]);
        ip[8..24].copy_from_slice(&source.v6_bytes());
        ip[24..40].copy_from_slice(&destination.v6_bytes());
    }
    true
}
