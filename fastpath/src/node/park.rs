//! What is held of a flow that can't go on yet, and under which number.
//!
//! ```text
//!   SYN ──────────────────────────────► one a flow: a repeated one takes its place
//!   acknowledgement of a cookie ──────► one a flow, judged by the splice
//!   datagram, first fragment ─────────► up to HELD_PER_FLOW_MAX a flow; one that says the same as one of them takes its place
//!   later fragment of one of these ───► as a datagram
//! ```
//!
//! All of a flow wait in one line and leave in the order in which they came. What a flow has too many of is dropped
//! and doesn't take the overflow action: those that wait decide whose the flow is.

use super::opening::can_open;
use super::service::{Drop, Next};
use super::{Context, Lanes, NodeId, fragment};
use crate::clock::Nanos;
use crate::driver::Frame;
use crate::event::{Milestone, Trigger};
use crate::hold::{HANDSHAKE, HELD_PER_FLOW_MAX, Held, HoldKey, Parked, Parking, Refusal};
use crate::packet::{Fragment, L3, Meta, Origin, Packet};
use crate::slots::{Escalation, Phase, ServiceSlot};
use crate::tables::services::{Overflow, Service, ServiceId, Verify};
use crate::wake::proof;
use crate::wire::{TCP, tcp};

/// How long a client may take to repeat what it opened with, in nanoseconds: a second (RFC 6298 §2.1), and timers are coarse.
const REPEAT_NANOS: u64 = 1_200_000_000;

/// Copies a packet in, to wait for an instance.
///
/// # Errors
/// Why it can't wait; nothing has changed.
pub(super) fn park<F: Frame>(
    packet: &Packet<F>,
    held: Held,
    service: &Service,
    cx: &mut Context<'_>,
) -> Result<Parked, Refusal> {
    let meta = &packet.meta;
    let slot = cx.slots.get(meta.service);
    let asked = slot.load().0 != Phase::Cold;
    // Who has to say it again first is held until then, and from then on as long as everybody.
    let again = held == Held::FirstPacket && !asked && proof(service, slot) == Verify::SecondSyn;
    let hold_nanos = service.hold_nanos_max + if again { REPEAT_NANOS } else { 0 };
    let number = match held {
        Held::Handshake => Some(HANDSHAKE),
        Held::FirstPacket if meta.fragment != Fragment::Later => Some(0),
        _ => free_number(packet, cx),
    };
    let parked = match number {
        _ if packet.frame.segments() > 1 => Err(Refusal::TooLong),
        None => Err(Refusal::FlowFull),
        Some(number) => cx.holds.park(&Parking {
            service: meta.service,
            query_id: number,
            held,
            trigger: if service.trigger_flow { Trigger::Flow } else { Trigger::Syn },
            meta,
            bytes: packet.frame.bytes(),
            deadline: Nanos(cx.now.0 + hold_nanos),
            asked,
            service_max: hold_share(service, cx),
        }),
    };
    note_parked(parked, meta.service, cx)
}

/// How many packets this worker may hold for a service.
pub(super) fn hold_share(service: &Service, cx: &Context<'_>) -> u32 {
    service.hold_packets_max.div_ceil(cx.workers as u32)
}

/// By what a held packet of a flow is found.
pub(super) fn hold_key(meta: &Meta, number: u16) -> HoldKey {
    HoldKey::of(meta, meta.service, number)
}

/// The number of the packet of this flow that is held and says the same, or one that none has.
fn free_number<F: Frame>(packet: &Packet<F>, cx: &Context<'_>) -> Option<u16> {
    (0..HELD_PER_FLOW_MAX).find(|number| match cx.holds.find(&hold_key(&packet.meta, *number)) {
        Some(held) => {
            let (waiting, bytes) = cx.holds.get(held);
            says_the_same((&waiting.meta, bytes), (&packet.meta, packet.frame.bytes()))
        }
        None => true,
    })
}

/// Whether two packets of a flow are the same, or the same part of one: their identification may be another when they are
/// whole.
fn says_the_same(one: (&Meta, &[u8]), other: (&Meta, &[u8])) -> bool {
    fn payload<'a>((meta, bytes): (&Meta, &'a [u8])) -> Option<&'a [u8]> {
        bytes.get(usize::from(meta.l4)..L3 + usize::from(meta.ip_len))
    }
    let same_part = one.0.fragment == other.0.fragment
        && (one.0.fragment == Fragment::Whole
            || fragment::place(one.0, one.1) == fragment::place(other.0, other.1));
    same_part && payload(one) == payload(other)
}

/// Whether a packet says again what is held of its flow. The configuration asks that of SYNs only; after wakes that led to
/// nothing, of other packets, too.
pub(super) fn is_repeated<F: Frame>(packet: &Packet<F>, slot: &ServiceSlot, cx: &Context<'_>) -> bool {
    fn sequence<'a>(meta: &Meta, bytes: &'a [u8]) -> Option<&'a [u8]> {
        let at = usize::from(meta.l4) + tcp::SEQUENCE;
        bytes.get(at..at + 4)
    }
    let meta = &packet.meta;
    if meta.protocol != TCP && slot.escalation() == Escalation::None {
        return true;
    }
    cx.holds.find(&hold_key(meta, 0)).is_some_and(|held| {
        let (waiting, bytes) = cx.holds.get(held);
        meta.protocol != TCP || sequence(&waiting.meta, bytes) == sequence(meta, packet.frame.bytes())
    })
}

/// What becomes of a later fragment whose flow isn't known: it waits behind its first, if that waits, and else takes the way
/// out that its first has taken. Where its first opened nothing, or found no room for a flow, it is lost with it.
pub(super) fn later_fragment<F: Frame>(packet: &Packet<F>, cx: &mut Context<'_>) -> Result<Next, Drop> {
    let meta = &packet.meta;
    let tables = cx.tables;
    let opens = !meta.is_return && (meta.protocol != TCP || meta.is_syn());
    let service = tables.services.entry(meta.service).filter(|_| opens).ok_or(Drop::NoFlow)?;
    if meta.origin != Origin::Arrival {
        return Err(Drop::NoFlow);
    }
    if is_behind_held(packet, cx) {
        let held = if meta.protocol == TCP { Held::FirstPacket } else { Held::Datagram };
        return match park(packet, held, service, cx) {
            Ok(parked) => Ok(Next::Hold(parked)),
            // As with whole packets: what waits already mustn't be parted from it.
            Err(Refusal::FlowFull) => Err(Drop::HoldFlowFull),
            Err(refusal) => overflow_later(service, refusal.into(), meta, cx),
        };
    }
    if can_open(service, cx.slots.get(meta.service), meta.destination.is_v4()) {
        return Err(Drop::NoFlow);
    }
    overflow_later(service, Drop::OverflowFragment, meta, cx)
}

/// Whether the first fragment of the same packet waits.
fn is_behind_held<F: Frame>(packet: &Packet<F>, cx: &Context<'_>) -> bool {
    let id = |meta: &Meta, bytes: &[u8]| fragment::place(meta, bytes).map(|(id, _)| id);
    let own = id(&packet.meta, packet.frame.bytes());
    let numbers = 0..HELD_PER_FLOW_MAX;
    numbers.filter_map(|number| cx.holds.find(&hold_key(&packet.meta, number))).any(|held| {
        let (waiting, bytes) = cx.holds.get(held);
        waiting.meta.fragment == Fragment::First && id(&waiting.meta, bytes) == own
    })
}

/// The service's way out for a later fragment that can't be held (any longer): nothing can be answered to it, and a backend
/// that was given its first has a flow for it.
pub(super) fn overflow_later(
    service: &Service,
    reason: Drop,
    meta: &Meta,
    cx: &Context<'_>,
) -> Result<Next, Drop> {
    cx.counters.service(meta.service).overflowed.add(1);
    match service.overflow {
        Overflow::Upstream => Ok(Next::Transit),
        Overflow::Fallback | Overflow::Rst => Err(Drop::OverflowFragment),
        Overflow::Drop => Err(reason),
    }
}

/// Counts that a packet couldn't be held, or tells that the first one is.
pub(super) fn note_parked(
    parked: Result<Parked, Refusal>,
    service: ServiceId,
    cx: &mut Context<'_>,
) -> Result<Parked, Refusal> {
    match parked {
        Ok(_) => cx.waker.milestone(service, Milestone::Held, cx.now),
        Err(refusal) => cx.counters.fates.holds_refused[refusal as usize].add(1),
    }
    parked
}

/// Counts a held packet; the frame is free, for the slab has its bytes.
pub(super) fn finish_hold<F: Frame>(
    parked: Parked,
    node: NodeId,
    packet: Packet<F>,
    cx: &mut Context<'_>,
    lanes: &mut Lanes<F>,
) {
    let decision = match parked {
        Parked::Held => "held",
        Parked::Replaced => "held, in place of an earlier one",
    };
    cx.trace(node, decision, &packet);
    let fates = &cx.counters.fates;
    fates.held.add(1);
    if parked == Parked::Replaced {
        fates.replaced.add(1);
    }
    fates.still_held.set(cx.holds.len() as u64);
    cx.counters.service(packet.meta.service).holds.set(u64::from(cx.holds.len_of(packet.meta.service)));
    cx.free(packet, lanes);
}

impl From<Refusal> for Drop {
    fn from(refusal: Refusal) -> Self {
        match refusal {
            Refusal::ServiceFull => Drop::HoldServiceFull,
            Refusal::PrefixFull => Drop::HoldPrefixFull,
            Refusal::WorkerFull => Drop::HoldWorkerFull,
            Refusal::TooLong => Drop::HoldTooLong,
            Refusal::FlowFull => Drop::HoldFlowFull,
        }
    }
}
