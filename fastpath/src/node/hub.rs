//! Hands to the hub's thread what is for it: content that came as plain multicast, and what nodes say of what they were sent.
//! Content that came as BIER goes the same way, from `bier`.
//!
//! The datagram's data is copied into a box of the inbox, and the frame's buffer freed. What is sent for the hub doesn't come
//! by here; its cost is counted as this node's (see `worker`).

use millrace_bier::id::{BfrId, SubDomain};

use super::verify::has_right_checksum;
use super::{Context, Lanes, NodeId, drops};
use crate::driver::Frame;
use crate::hub::Inlet;
use crate::packet::{Meta, Origin, Packet};
use crate::tables::Tables;
use crate::wire::{UDP, be16, udp};

drops! {
    /// Why a datagram doesn't reach the hub's thread.
    pub enum Drop {
        /// The thread is behind: no empty box.
        InboxFull => "inbox-full",
        /// Longer than a box.
        TooLong => "too-long",
        /// Not all of it is in the frame's first segment, or it is shorter than its header says.
        Cut => "cut",
        /// Wrong UDP checksum.
        Checksum => "checksum",
        /// The tables have changed meanwhile, and nobody wants it any more.
        Unwanted => "unwanted",
    }
}

/// What a packet is to the hub, if it is anything: a whole UDP datagram of content that is accepted, or to where nodes answer.
#[inline]
pub(super) fn inlet_of(meta: &Meta, tables: &Tables) -> Option<Inlet> {
    let hub = tables.hub.as_ref()?;
    if meta.protocol != UDP || !meta.has_ports() {
        return None;
    }
    hub.content(meta.source, meta.destination).or_else(|| hub.port(meta.destination, meta.destination_port))
}

/// Hands over the datagrams of the lane.
pub fn process<F: Frame>(scratch: &mut Vec<Packet<F>>, cx: &mut Context<'_>, lanes: &mut Lanes<F>) {
    std::mem::swap(scratch, &mut lanes.hub);
    for packet in scratch.drain(..) {
        match hand_over(&packet, cx) {
            Ok(()) => finish(packet, NodeId::Hub, cx, lanes),
            Err(reason) => cx.drop(NodeId::Hub, reason as usize, reason.name(), packet, lanes),
        }
    }
}

fn hand_over<F: Frame>(packet: &Packet<F>, cx: &Context<'_>) -> Result<(), Drop> {
    let inlet = inlet_of(&packet.meta, cx.tables).ok_or(Drop::Unwanted)?;
    let (bytes, l4) = (packet.frame.bytes(), usize::from(packet.meta.l4));
    let len = bytes.get(l4..l4 + udp::HEADER).map_or(0, |header| usize::from(be16(header, udp::LENGTH)));
    let data = bytes.get(l4 + udp::HEADER..l4 + len).ok_or(Drop::Cut)?;
    if !has_right_checksum(packet, UDP) {
        return Err(Drop::Checksum);
    }
    put(inlet, &packet.meta, None, data, cx)
}

/// Puts a datagram, whose addresses and ports are these, into the inbox.
pub(super) fn put(
    inlet: Inlet,
    meta: &Meta,
    bier: Option<(SubDomain, Option<BfrId>)>,
    data: &[u8],
    cx: &Context<'_>,
) -> Result<(), Drop> {
    let inbox = cx.tables.hub.as_ref().ok_or(Drop::Unwanted)?.inbox(inlet);
    let mut datagram = inbox.take_empty().ok_or(Drop::InboxFull)?;
    if !datagram.fill(data) {
        inbox.give_back(datagram);
        return Err(Drop::TooLong);
    }
    (datagram.inlet, datagram.bier, datagram.interface) = (inlet, bier, meta.interface);
    (datagram.source, datagram.source_port) = (meta.source, meta.source_port);
    (datagram.destination, datagram.destination_port) = (meta.destination, meta.destination_port);
    inbox.put(datagram);
    Ok(())
}

/// Counts a packet that the hub's thread has, and ends its way here.
pub(super) fn finish<F: Frame>(packet: Packet<F>, node: NodeId, cx: &mut Context<'_>, lanes: &mut Lanes<F>) {
    cx.trace(node, "to the hub's thread", &packet);
    if packet.meta.origin == Origin::Arrival {
        cx.counters.fates.delivered.add(1);
    }
    cx.free(packet, lanes);
}
