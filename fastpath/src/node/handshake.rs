//! What became of TCP handshakes with instances, counted by instance: what the slowpath leaves an instance out for, or
//! doesn't.
//!
//! ```text
//!   SYN has left ─┬─ SYN-ACK came back ────────────────► answered, whatever the client does about it, if it is from there
//!                 ├─ RST, or ICMP unreachable ─────────► refused, if it comes from where the instance is
//!                 ├─ silence until the flow expires ───► unanswered, if the answer had to come by here
//!                 └─ the client gave up, the flow made room for another ─► nothing
//! ```
//!
//! Only what the instance does counts: a client chooses its own address, and can say anything about itself. So a handshake
//! begins with the first SYN that transit has sent on, and that an instance could answer: whole, with a right checksum, not
//! used up on its way. One that waits for the instance's link-layer address is sent on; who doesn't answer for its address
//! answers nothing. All of it is beside the way of a packet of an established flow.

use super::Context;
use crate::addr::Addr;
use crate::counters::{Handshakes, WorkerCounters};
use crate::driver::Frame;
use crate::flow::{Flow, FlowState, FlowTable};
use crate::packet::{Fragment, Packet};
use crate::tables::Tables;
use crate::tables::services::{INSTANCES_MAX, InstanceSlotId};
use crate::wire::{ICMP, ICMPV6, TCP, ethernet, tcp};

/// Whether a handshake may begin with a packet: fragments may never be put together, and their checksum can't be verified.
pub(super) fn may_begin<F: Frame>(packet: &Packet<F>) -> bool {
    packet.meta.is_syn() && packet.meta.fragment == Fragment::Whole
}

/// A SYN of the flow at `position`, translated, is on its way to the instance.
pub(super) fn begun<F: Frame>(
    flows: &mut FlowTable,
    position: u32,
    packet: &Packet<F>,
    counters: &WorkerCounters,
) {
    let (meta, flow) = (&packet.meta, flows.get(position));
    let sent = ((meta.source, meta.source_port), (meta.destination, meta.destination_port));
    // Since it was translated, the flow may have made room for another.
    if flow.is_unsent() && sent == (flows.client_seen(position), (flow.instance, flow.instance_port)) {
        of(flow.instance_slot(), counters).begun.add(1);
        flows.get_mut(position).set_sent();
    }
}

/// The instance has said something, on a flow that isn't established: perhaps for the first time.
#[cold]
#[inline(never)]
pub(super) fn heard<F: Frame>(flow: &Flow, packet: &Packet<F>, cx: &Context<'_>) {
    // What wasn't asked isn't answered: a segment of the client's may be, whose SYN never got there.
    if packet.meta.protocol != TCP || flow.state() != FlowState::New || flow.is_unsent() {
        return;
    }
    if !comes_from(flow.instance, packet, cx) {
        return;
    }
    let handshakes = of(flow.instance_slot(), cx.counters);
    if packet.meta.tcp_flags & tcp::RST == 0 {
        handshakes.answered.add(1);
    } else if !flow.is_told() {
        handshakes.refused.add(1);
    }
}

/// An error quotes a packet to the instance of the flow at `position`: `kind` and `code` say which.
pub(super) fn error<F: Frame>(
    flows: &mut FlowTable,
    position: u32,
    (protocol, kind, code): (u8, u8, u8),
    packet: &Packet<F>,
    cx: &Context<'_>,
) {
    // Not that a packet is too big (RFC 1191): whoever isn't there doesn't mind.
    let unreachable = matches!((protocol, kind), (ICMP, 3) if code != 4) || (protocol, kind) == (ICMPV6, 1);
    let flow = flows.get_mut(position);
    // Each SYN that a client repeats may have one.
    if unreachable && flow.is_shaking_hands() && comes_from(flow.instance, packet, cx) {
        flow.set_told();
        of(flow.instance_slot(), cx.counters).refused.add(1);
    }
}

/// A flow has been silent for as long as it may.
pub(crate) fn expired(flow: &Flow, tables: &Tables, counters: &WorkerCounters) {
    if flow.is_shaking_hands() && must_answer_here(flow, tables) {
        of(flow.instance_slot(), counters).unanswered.add(1);
    }
}

/// Whether a packet comes from the station that packets to the instance are sent to. One with a forged source, from
/// elsewhere, doesn't.
fn comes_from<F: Frame>(instance: Addr, packet: &Packet<F>, cx: &Context<'_>) -> bool {
    let Some(hop) = cx.tables.routes.lookup(instance) else { return false };
    let station = cx.tables.neighbours.get(hop.interface, hop.via.unwrap_or(instance));
    packet.meta.interface == hop.interface && station == Some(ethernet::source(packet.frame.bytes()))
}

/// Whether the instance can't have answered past us: a client that says it lives beside the instance may never have been
/// there to ask, and whoever is gets its answer directly.
fn must_answer_here(flow: &Flow, tables: &Tables) -> bool {
    let interface = |addr| tables.routes.lookup(addr).map(|hop| hop.interface);
    flow.nat_port != 0 || interface(flow.client) != interface(flow.instance)
}

fn of(slot: InstanceSlotId, counters: &WorkerCounters) -> &Handshakes {
    &counters.handshakes[slot.index() % INSTANCES_MAX]
}
