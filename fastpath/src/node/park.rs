//! What is held of a flow that can't go on yet, and how it is counted.

use super::service::Drop;
use super::{Context, Lanes, NodeId};
use crate::clock::Nanos;
use crate::driver::Frame;
use crate::event::{Milestone, Trigger};
use crate::hold::{HANDSHAKE, Held, HoldKey, Parked, Parking, Refusal};
use crate::packet::{Meta, Packet};
use crate::slots::{Escalation, Phase, ServiceSlot};
use crate::tables::services::{Service, ServiceId, Verify};
use crate::wake::proof;
use crate::wire::{TCP, tcp};

/// How long a client may take to repeat what it opened with, in nanoseconds: a second (RFC 6298 §2.1), and timers are coarse.
const REPEAT_NANOS: u64 = 1_200_000_000;

/// How many packets this worker may hold for a service.
pub(super) fn hold_share(service: &Service, cx: &Context<'_>) -> u32 {
    service.hold_packets_max.div_ceil(cx.workers as u32)
}

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
    let parking = Parking {
        key: hold_key(meta, held),
        held,
        trigger: if service.trigger_flow { Trigger::Flow } else { Trigger::Syn },
        meta,
        bytes: packet.frame.bytes(),
        deadline: Nanos(cx.now.0 + hold_nanos),
        asked,
        service_max: hold_share(service, cx),
    };
    let parked = if packet.frame.segments() > 1 { Err(Refusal::TooLong) } else { cx.holds.park(&parking) };
    note_parked(parked, meta.service, cx)
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
    cx.holds.find(&hold_key(meta, Held::FirstPacket)).is_some_and(|held| {
        let (waiting, bytes) = cx.holds.get(held);
        meta.protocol != TCP || sequence(&waiting.meta, bytes) == sequence(meta, packet.frame.bytes())
    })
}

pub(super) fn hold_key(meta: &Meta, held: Held) -> HoldKey {
    HoldKey {
        service: meta.service,
        source: (meta.source, meta.source_port),
        destination: (meta.destination, meta.destination_port),
        protocol: meta.protocol,
        query_id: if held == Held::Handshake { HANDSHAKE } else { 0 },
    }
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
        }
    }
}
