//! Plain L3 forwarding (RFC 1812 §5.2): time to live, route, neighbour, link-layer header.
//!
//! Who sent a packet that can't go on is told by an ICMP error, where one may be sent. A packet whose next hop has no known link-layer address goes to the slowpath, which asks for it and sends the packet on.

use super::icmp::Error;
use super::{Context, Lanes, Leaving, NodeId, drops, handshake, host};
use crate::addr::Addr;
use crate::driver::Frame;
use crate::flow::FlowTable;
use crate::packet::{L3, Network, Origin, Packet};
use crate::queue::Punt;
use crate::tables::interfaces::{InterfaceId, Mac};
use crate::tables::routes::NextHop;
use crate::wire::{ethernet, ipv4, ipv6};

drops! {
    /// Why a packet isn't forwarded.
    pub enum Drop {
        /// Its time to live (hop limit) is used up.
        TtlExpired => "ttl-expired",
        /// From or to a link-local address: it is never routed off its link (RFC 4291 §2.5.6, RFC 3927 §7).
        LinkLocal => "link-local",
        /// No route to its destination.
        NoRoute => "no-route",
        /// The route's interface is gone.
        NoInterface => "no-interface",
        /// Longer than the MTU of the interface it would leave by. Nothing is fragmented here.
        TooBig => "too-big",
        /// The neighbour isn't known, and the slowpath is behind.
        NeighbourQueueFull => "neighbour-queue-full",
    }
}

/// Forwards the packets of the lanes; those that may begin handshakes first, for what else there is of their flows comes after
/// them.
pub fn process<F: Frame>(
    flows: &mut FlowTable,
    scratch: &mut Vec<Packet<F>>,
    cx: &mut Context<'_>,
    lanes: &mut Lanes<F>,
) {
    if !lanes.opening.is_empty() {
        open(flows, cx, lanes);
    }
    std::mem::swap(scratch, &mut lanes.transit);
    let mut last = None;
    for packet in scratch.drain(..) {
        pass(packet, &mut last, |_, _| {}, cx, lanes);
    }
}

/// Forwards SYNs, and tells of those that leave.
#[inline(never)]
fn open<F: Frame>(flows: &mut FlowTable, cx: &mut Context<'_>, lanes: &mut Lanes<F>) {
    let mut last = None;
    // Taken from the end, in the order in which they came.
    lanes.opening.reverse();
    while let Some((packet, position)) = lanes.opening.pop() {
        let begun = |packet: &Packet<F>, cx: &Context<'_>| {
            handshake::begun(flows, position, packet, cx.counters);
        };
        pass(packet, &mut last, begun, cx, lanes);
    }
}

/// Forwards a packet; `leaves` is told if it is sent on, by us or, once its next hop has answered, by the slowpath.
#[inline(always)]
fn pass<'a, F: Frame>(
    mut packet: Packet<F>,
    last: &mut Option<Last<'a>>,
    leaves: impl FnOnce(&Packet<F>, &Context<'_>),
    cx: &mut Context<'a>,
    lanes: &mut Lanes<F>,
) {
    match forward(&mut packet, last, cx) {
        Ok(Some(interface)) => {
            leaves(&packet, cx);
            cx.trace(NodeId::Transit, "to output", &packet);
            let leaving = match packet.meta.origin {
                Origin::Arrival => Leaving::Forwarded,
                Origin::Hold => Leaving::Released,
                Origin::Own => Leaving::Originated,
            };
            cx.send(packet, interface, leaving, lanes);
        }
        Ok(None) => {
            leaves(&packet, cx);
            host::finish(packet, NodeId::Transit, "punted: neighbour unknown", cx, lanes);
        }
        Err(reason) => refuse(reason, packet, cx, lanes),
    }
}

/// The sender of a packet that can't go on is told where a router tells (RFC 1812 §4.3, RFC 4443 §3).
#[cold]
#[inline(never)]
fn refuse<F: Frame>(reason: Drop, packet: Packet<F>, cx: &mut Context<'_>, lanes: &mut Lanes<F>) {
    let drop = (NodeId::Transit, reason as usize, reason.name());
    let error = match reason {
        Drop::TtlExpired => Error::TimeExceeded,
        Drop::NoRoute => Error::NoRoute,
        Drop::TooBig => {
            let hop = cx.tables.routes.lookup(packet.meta.destination);
            let egress = hop.and_then(|hop| cx.tables.interfaces.get(hop.interface));
            Error::TooBig(egress.map_or(0, |egress| egress.mtu))
        }
        Drop::LinkLocal | Drop::NoInterface | Drop::NeighbourQueueFull => {
            return cx.drop(drop.0, drop.1, drop.2, packet, lanes);
        }
    };
    cx.refuse(error, drop, packet, lanes);
}

/// The way that the last packet went. Most packets of a vector go to the one router or host that the last one went to, many
/// to the same destination: then no table has to be asked. What changes with each destination is kept small, for it is
/// written for each packet.
struct Last<'a> {
    destination: Addr,
    hop: &'a NextHop,
    next: (InterfaceId, Addr),
    mac: Mac,
}

/// Rewrites the headers; the interface to leave by, or `None` when the slowpath has it.
#[inline(always)]
fn forward<'a, F: Frame>(
    packet: &mut Packet<F>,
    last: &mut Option<Last<'a>>,
    cx: &mut Context<'a>,
) -> Result<Option<InterfaceId>, Drop> {
    let v4 = packet.meta.network == Network::V4;
    let ip = &packet.frame.bytes()[L3..];
    let ttl = if v4 { ipv4::ttl(ip) } else { ipv6::hop_limit(ip) };
    if ttl <= 1 {
        return Err(Drop::TtlExpired);
    }
    let tables = cx.tables;
    let destination = packet.meta.destination;
    if packet.meta.source.is_link_local() || destination.is_link_local() {
        return Err(Drop::LinkLocal);
    }
    let hop = match last {
        Some(last) if last.destination == destination => last.hop,
        _ => tables.routes.lookup(destination).ok_or(Drop::NoRoute)?,
    };
    let egress = tables.interfaces.get(hop.interface).ok_or(Drop::NoInterface)?;
    if packet.meta.ip_len > egress.mtu {
        return Err(Drop::TooBig);
    }
    let ip = &mut packet.frame.bytes_mut()[L3..];
    if v4 {
        ipv4::decrement_ttl(ip);
    } else {
        ipv6::decrement_hop_limit(ip);
    }
    let next = hop.via.unwrap_or(destination);
    let known = match last {
        Some(last) if last.next == (hop.interface, next) => {
            (last.destination, last.hop) = (destination, hop);
            Some(last.mac)
        }
        _ => {
            let mac = tables.neighbours.get(hop.interface, next);
            *last = mac.map(|mac| Last { destination, hop, next: (hop.interface, next), mac });
            mac
        }
    };
    match known {
        Some(mac) => {
            ethernet::set_addresses(packet.frame.bytes_mut(), mac, egress.mac);
            Ok(Some(hop.interface))
        }
        None => host::punt(&packet.frame, Punt::NeighbourUnknown, hop.interface, next, cx)
            .map(|()| None)
            .map_err(|_| Drop::NeighbourQueueFull),
    }
}
