//! Hands what is for the appliance itself to the slowpath: ARP, neighbour discovery, ICMP, TCP/53, management.
//!
//! The frame is copied into a parcel and its buffer freed. When the slowpath is behind, the frame is dropped and counted;
//! whoever sent it repeats it.

use super::{Context, Lanes, NodeId, drops};
use crate::driver::Frame;
use crate::packet::{Origin, Packet};
use crate::queue::Punt;

drops! {
    /// Why a frame doesn't reach the slowpath.
    pub enum Drop {
        /// The slowpath is behind: no empty parcel.
        QueueFull => "queue-full",
        /// Longer than a parcel.
        TooLong => "too-long",
        /// Of several segments.
        Segmented => "segmented",
    }
}

/// Punts the packets of the lane.
pub fn process<F: Frame>(scratch: &mut Vec<Packet<F>>, cx: &mut Context<'_>, lanes: &mut Lanes<F>) {
    std::mem::swap(scratch, &mut lanes.host);
    for packet in scratch.drain(..) {
        let (interface, next_hop) = (packet.meta.interface, packet.meta.destination);
        match punt(&packet.frame, Punt::Host, interface, next_hop, cx) {
            Ok(()) => finish(packet, NodeId::Host, "punted", cx, lanes),
            Err(reason) => cx.drop(NodeId::Host, reason as usize, reason.name(), packet, lanes),
        }
    }
}

/// Copies a frame to the slowpath.
pub(super) fn punt<F: Frame>(
    frame: &F,
    why: Punt,
    interface: crate::tables::interfaces::InterfaceId,
    next_hop: crate::addr::Addr,
    cx: &Context<'_>,
) -> Result<(), Drop> {
    if frame.segments() > 1 {
        return Err(Drop::Segmented);
    }
    let mut parcel = cx.queues.punts_empty.pop().ok_or(Drop::QueueFull)?;
    let fits = parcel.fill(frame.bytes());
    parcel.punt = why;
    parcel.interface = interface;
    parcel.next_hop = next_hop;
    let back = if fits { &cx.queues.punts } else { &cx.queues.punts_empty };
    // Parcels go round between queues that have room for all of them.
    let _ = back.push(parcel);
    if fits { Ok(()) } else { Err(Drop::TooLong) }
}

/// Counts a punted packet and ends its way here.
pub(super) fn finish<F: Frame>(
    packet: Packet<F>,
    node: NodeId,
    decision: &'static str,
    cx: &mut Context<'_>,
    lanes: &mut Lanes<F>,
) {
    cx.trace(node, decision, &packet);
    let fates = &cx.counters.fates;
    match packet.meta.origin {
        Origin::Arrival => fates.punted.add(1),
        Origin::Hold => fates.release_punted.add(1),
        Origin::Own => {}
    }
    cx.free(packet, lanes);
}
