//! Services: finds the flow or begins one, translates both directions, and holds what opens a request while nothing
//! runs yet.
//!
//! ```text
//!   known flow ───────────────────────────────► translate or encapsulate ─► transit
//!   QUIC, by an id of an instance's making ───► remember, translate or encapsulate ─► transit
//!   opens a flow ─┬─ an instance serves ──────► choose, remember, translate or encapsulate ─► transit
//!                 ├─ cold ─► wake once ─┬─────► hold
//!                 ├─ waking ────────────┘
//!                 └─ quarantined, bypass, no room ─► overflow: upstream, fallback, rst, drop
//!   from an instance, no flow of ours ────────► transit, untouched (to our own ports: dropped)
//! ```
//!
//! No reply to a client's handshake can leave before its notification: a cold service's SYN stays here until the slowpath
//! has handed the notification over, whatever the handling.

use super::encapsulate::{self, encapsulate};
use super::icmp::Error;
use super::splice::refuse;
pub(crate) use super::splice::{answers, falls_back, into_syn};
use super::{Context, Lanes, Leaving, NodeId, drops, handshake, quic, rewrite::rewrite};
use crate::addr::Addr;
use crate::clock::Nanos;
use crate::counters::WorkerCounters;
use crate::driver::{BURST_MAX, Frame};
use crate::event::{Milestone, Trigger};
use crate::flow::table::{Candidate, Gone};
use crate::flow::{Direction, FlowHasher, FlowState, FlowTable, Opening};
use crate::hold::{HANDSHAKE, Held, HoldKey, Parked, Parking, Refusal};
use crate::packet::{Meta, Origin, Packet};
use crate::slots::{Escalation, Phase, ServiceSlot};
use crate::splice::table::Splices;
use crate::tables::Tables;
use crate::tables::balance::Pool;
use crate::tables::services::{
    Entry, Handling, INSTANCES_MAX, Instance, Overflow, Service, ServiceId, SourceAddress, Verify,
};
use crate::wake::proof;
use crate::wire::{TCP, UDP, tcp};

/// Ports tried for a flow with a translated source before it is given up: with a part of the range half used,
/// as many misses in a row don't happen.
const NAT_PROBES_MAX: usize = 64;
/// How often a service's last activity is noted at most, in nanoseconds; idleness is counted in seconds.
const ACTIVITY_NANOS: u64 = 100_000_000;

/// How long a client may take to repeat what it opened with, in nanoseconds: a second (RFC 6298 §2.1), and timers are coarse.
const REPEAT_NANOS: u64 = 1_200_000_000;

drops! {
    /// Why a packet to or from a service goes no further.
    pub enum Drop {
        /// The service is gone from the tables.
        NoService => "no-service",
        /// No instance can take it.
        NoInstance => "no-instance",
        /// It belongs to no flow, opens none, and nothing runs that it could be for.
        NoFlow => "no-flow",
        /// Cut within the QUIC header, to a service whose connection ids are known.
        QuicCut => "quic-cut",
        /// Of a QUIC connection that nobody here has, while nothing runs that could say so.
        QuicStray => "quic-stray",
        /// The flow table has no room: all flows that could make some are established.
        FlowTableFull => "flow-table-full",
        /// Every port towards the instance that was tried is taken, or there is no address to translate to.
        NatExhausted => "nat-exhausted",
        /// The service's overflow action is `drop`.
        Overflow => "overflow",
        /// The overflow action is `rst`, but the packet isn't a SYN.
        OverflowNoRst => "overflow-no-rst",
        /// The service holds as many as it may, and the overflow action is `drop`.
        HoldServiceFull => "hold-service-full",
        /// The source's prefix holds as many as it may, and the overflow action is `drop`.
        HoldPrefixFull => "hold-prefix-full",
        /// This worker holds as many as it may, and the overflow action is `drop`.
        HoldWorkerFull => "hold-worker-full",
        /// It is longer than what can be held, and the overflow action is `drop`.
        HoldTooLong => "hold-too-long",
        /// It was held until its deadline, and the overflow action is `drop`.
        HoldExpired => "hold-expired",
        /// More than a client whose instance isn't there yet may say, or what it has said already; it sends it again.
        SpliceSurplus => "splice-surplus",
        /// From an instance that is being connected to, but no answer to our SYN.
        SpliceStray => "splice-stray",
        /// Its TCP header is not in one piece, or it can't be cut to an answer.
        SpliceCut => "splice-cut",
        /// There is no route to the instance that it would be carried to.
        NoRoute => "no-route",
        /// The instance isn't on a network of ours, which forwarding by link-layer address needs.
        NotOnLink => "not-on-link",
        /// The interface towards the instance has no address for the outer packet to come from.
        NoTunnelSource => "no-tunnel-source",
        /// Its time to live (hop limit) is used up on the way into the tunnel.
        TtlExpired => "ttl-expired",
        /// With its outer headers it would be longer than the MTU towards the instance.
        TooBig => "too-big",
        /// No room in front of the frame for the outer headers.
        NoHeadroom => "no-headroom",
    }
}

/// What is to become of a packet.
pub(super) enum Next {
    Transit,
    Reply,
    Hold(Parked),
    /// It was for us, and has been heard.
    Consumed,
    /// It can't go on; its sender is told, where it may be, and else it is this drop.
    Refused(Error, Drop),
}

/// The service node of one worker.
#[derive(Debug)]
pub struct ServiceNode {
    /// The flows that this worker owns.
    pub flows: FlowTable,
    /// What those of them need that are spliced.
    pub splices: Splices,
}

impl ServiceNode {
    /// Handles the packets of the lane, and those whose time in a hold is over.
    pub fn process<F: Frame>(
        &mut self,
        scratch: &mut Vec<Packet<F>>,
        cx: &mut Context<'_>,
        lanes: &mut Lanes<F>,
    ) {
        std::mem::swap(scratch, &mut lanes.service);
        debug_assert!(scratch.len() <= BURST_MAX, "a round has no more packets");
        // All buckets have been asked for, most of them by `classify`; then all flows are, then each packet finds its own:
        // memory is waited for once.
        let mut candidates = [Candidate::NONE; BURST_MAX];
        for (packet, candidate) in scratch.iter().zip(&mut candidates) {
            *candidate = self.flows.candidate::<F>(packet.meta.flow_hash);
        }
        for (mut packet, candidate) in scratch.drain(..).zip(candidates) {
            let next = match packet.meta.is_return {
                true => self.on_return(&mut packet, candidate, cx),
                false => self.on_forward(&mut packet, candidate, cx),
            };
            finish(next, packet, cx, lanes);
        }
        for held in lanes.handshakes.drain(..) {
            self.connect(held, cx);
        }
        while let Some(mut packet) = lanes.expired.pop() {
            let tables = cx.tables;
            let candidate = self.flows.candidate::<F>(packet.meta.flow_hash);
            let next = match tables.services.entry(packet.meta.service) {
                // Its sender has said it again, and was let through then.
                Some(_) if self.find(&packet, candidate).is_some() => {
                    self.on_forward(&mut packet, candidate, cx)
                }
                Some(service) => self.overflow(&mut packet, service, Drop::HoldExpired, cx),
                None => Err(Drop::NoService),
            };
            finish(next, packet, cx, lanes);
        }
    }

    /// Forgets flows that have been silent for too long, looking at `budget` of them.
    pub fn sweep(&mut self, budget: usize, now: Nanos, tables: &Tables, counters: &WorkerCounters) {
        self.flows.sweep(budget, now, |flow, gone| {
            handshake::expired(&flow, tables, counters);
            forget(gone, counters);
        });
        counters.fates.flows.set(self.flows.len() as u64);
    }

    #[inline(always)]
    fn on_return<F: Frame>(
        &mut self,
        packet: &mut Packet<F>,
        candidate: Candidate,
        cx: &mut Context<'_>,
    ) -> Result<Next, Drop> {
        match self.find(packet, candidate) {
            Some((position, Direction::Return)) => {
                let flow = self.flows.get_mut(position);
                if flow.is_opening() {
                    handshake::heard(flow, packet, cx);
                }
                if flow.touch(Direction::Return, packet.meta.tcp_flags, cx.now) {
                    note_established(self.flows.get(position).service, cx);
                }
                if self.flows.get(position).is_spliced()
                    && let Some(next) = self.splice_return(position, packet, cx)?
                {
                    return Ok(next);
                }
                let flow = self.flows.get(position);
                let (vip, client) = ((flow.vip, flow.vip_port), (flow.client, flow.client_port));
                note_activity(flow.service, cx);
                rewrite(packet, vip, client);
                Ok(Next::Transit)
            }
            // To one of our own ports, but no flow has it (any longer).
            _ if cx.tables.interfaces.local(packet.meta.destination).is_some() => Err(Drop::NoFlow),
            // The instance talks on its own account.
            _ => Ok(Next::Transit),
        }
    }

    #[inline(always)]
    fn find<F: Frame>(&self, packet: &Packet<F>, candidate: Candidate) -> Option<(u32, Direction)> {
        let meta = &packet.meta;
        let source = (meta.source, meta.source_port);
        let destination = (meta.destination, meta.destination_port);
        self.flows.find_from(candidate, meta.flow_hash, meta.protocol, source, destination)
    }

    #[inline(always)]
    fn on_forward<F: Frame>(
        &mut self,
        packet: &mut Packet<F>,
        candidate: Candidate,
        cx: &mut Context<'_>,
    ) -> Result<Next, Drop> {
        if let Some((position, Direction::Forward)) = self.find(packet, candidate) {
            let meta = &packet.meta;
            if !meta.is_syn() || self.may_continue(position, cx) {
                note_activity(self.flows.get(position).service, cx);
                if !self.flows.get(position).forwarding().is_two_way() {
                    if self.flows.get_mut(position).touch_one_way(meta.tcp_flags, cx.now) {
                        note_established(self.flows.get(position).service, cx);
                    }
                    return self.carry(position, packet, cx);
                }
                if self.flows.get_mut(position).touch(Direction::Forward, meta.tcp_flags, cx.now) {
                    note_established(self.flows.get(position).service, cx);
                }
                if self.flows.get(position).is_spliced()
                    && let Some(next) = self.splice_forward(position, packet, cx)?
                {
                    return Ok(next);
                }
                self.translate(position, packet);
                return Ok(Next::Transit);
            }
            // The same ports, another connection: the old flow has ended, or its instance has.
            forget(self.flows.remove(position), cx.counters);
        }
        self.open(packet, cx)
    }

    /// Whether a SYN on a known flow repeats the one that began it.
    #[cold]
    fn may_continue(&self, position: u32, cx: &Context<'_>) -> bool {
        let flow = self.flows.get(position);
        let Some(service) = cx.tables.services.get(flow.service) else { return false };
        // One that is down may go on with whom it has answered; who still waits for that finds another.
        let unanswered = flow.state() == FlowState::New;
        let serves = |instance: &Instance| {
            service.port_of(instance, flow.vip_port) == flow.instance_port
                && instance.addresses.contains(&Some(flow.instance))
                && !(unanswered && instance.is_down_at(flow.instance))
        };
        !self.flows.get(position).is_closing() && service.instances.iter().any(serves)
    }

    /// A packet of no known flow.
    #[inline(never)]
    fn open<F: Frame>(&mut self, packet: &mut Packet<F>, cx: &mut Context<'_>) -> Result<Next, Drop> {
        let tables = cx.tables;
        let service = tables.services.entry(packet.meta.service).ok_or(Drop::NoService)?;
        let mut opens = packet.meta.protocol != TCP || packet.meta.is_syn();
        if packet.meta.origin == Origin::Own {
            // The flow that it was made for has gone.
            return Err(Drop::NoFlow);
        }
        if service.handling == Handling::Splice
            && packet.meta.protocol == TCP
            && let Some(next) = self.first_of_splice(packet, service, cx)?
        {
            return Ok(next);
        }
        if packet.meta.protocol == TCP && packet.meta.tcp_flags & tcp::RST != 0 {
            // It ends something that isn't here; a flow for it would only take somebody's place.
            return Err(Drop::NoFlow);
        }
        if packet.meta.protocol == UDP && service.server_ids().is_some() {
            let asked = quic::ask(service, packet).ok_or(Drop::QuicCut)?;
            if let Some(instance) = asked.instance {
                cx.counters.fates.flows_by_id.add(1);
                return self.begin_with(packet, service, instance, cx);
            }
            opens = asked.begins;
        }
        let slot = cx.slots.get(packet.meta.service);
        let phase = slot.load().0;
        if let Some(pool) = admits(service, slot)
            && let Some(instance) = choose(service, pool, &packet.meta, cx)
        {
            return self.begin_with(packet, service, instance, cx);
        }
        if !opens {
            return Err(if packet.meta.protocol == TCP { Drop::NoFlow } else { Drop::QuicStray });
        }
        if !service.wakes {
            return self.overflow(packet, service, Drop::NoInstance, cx);
        }
        if !(service.trigger_syn || service.trigger_flow) && phase == Phase::Cold
            || phase.refuses()
            || packet.meta.origin == Origin::Hold
            || phase == Phase::Ready && !has_family(service, packet.meta.destination.is_v4())
        {
            return self.overflow(packet, service, Drop::Overflow, cx);
        }
        note_activity(packet.meta.service, cx);
        // Once it is waking, the notice needn't be put together for each packet that comes after.
        if phase == Phase::Cold
            && service.trigger_syn
            && (proof(service, slot) == Verify::None || is_repeated(packet, slot, cx))
        {
            let fields = packet.meta.fields(packet.frame.bytes());
            cx.waker.wake(packet.meta.service, Trigger::Syn, fields, cx.now);
        }
        let held = if packet.meta.protocol == TCP { Held::FirstPacket } else { Held::Datagram };
        match park(packet, held, service, cx) {
            Ok(parked) => Ok(Next::Hold(parked)),
            Err(refusal) => self.overflow(packet, service, refusal.into(), cx),
        }
    }

    /// Begins a flow to `instance` and translates its first packet.
    fn begin_with<F: Frame>(
        &mut self,
        packet: &mut Packet<F>,
        service: &Service,
        instance: &Instance,
        cx: &mut Context<'_>,
    ) -> Result<Next, Drop> {
        match self.begin(&packet.meta, service, instance, cx) {
            Ok(position) if service.forwarding.is_two_way() => {
                self.translate(position, packet);
                Ok(Next::Transit)
            }
            Ok(position) => self.carry(position, packet, cx),
            Err(Drop::FlowTableFull) if !service.forwarding.is_two_way() => {
                // The next packet comes here again, and the hash leads it to the same instance.
                let to = service.address_of(instance, packet.meta.destination.is_v4());
                encapsulate(packet, service.forwarding, to.ok_or(Drop::NoInstance)?, cx)
                    .map_or_else(not_carried, |()| Ok(Next::Transit))
            }
            Err(reason) => Err(reason),
        }
    }

    /// Begins the flow of a packet, to `instance`; its position.
    pub(super) fn begin(
        &mut self,
        meta: &Meta,
        service: &Service,
        instance: &Instance,
        cx: &mut Context<'_>,
    ) -> Result<u32, Drop> {
        let addr = service.address_of(instance, meta.destination.is_v4()).ok_or(Drop::NoInstance)?;
        let to = (addr, service.port_of(instance, meta.destination_port));
        let nat = match service.source {
            SourceAddress::Appliance if service.forwarding.is_two_way() => {
                Some(self.translated_source(meta.protocol, to, meta.flow_hash, cx)?)
            }
            SourceAddress::Appliance | SourceAddress::Keep => None,
        };
        let joins = meta.protocol == TCP && !meta.is_syn();
        let opening = Opening {
            protocol: meta.protocol,
            client: (meta.source, meta.source_port),
            vip: (meta.destination, meta.destination_port),
            instance: to,
            nat,
            service: meta.service,
            instance_slot: instance.slot,
            forwarding: service.forwarding,
            state: if joins { FlowState::Joined } else { FlowState::New },
        };
        let inserted = self.flows.insert(meta.flow_hash, &opening, cx.now, |gone| {
            cx.counters.fates.flows_evicted.add(1);
            forget(gone, cx.counters);
        });
        let Some(position) = inserted else {
            cx.counters.fates.flows_refused.add(1);
            return Err(Drop::FlowTableFull);
        };
        let activity = cx.counters.service(meta.service);
        activity.flows.add(1);
        activity.flows_begun.add(1);
        activity.last_nanos.set(cx.now.0);
        cx.counters.instance_flows[instance.slot.index() % INSTANCES_MAX].add(1);
        if meta.is_syn() && service.forwarding.is_two_way() {
            handshake::begun(instance.slot, cx.counters);
        }
        cx.counters.fates.flows.set(self.flows.len() as u64);
        Ok(position)
    }

    /// Sends a packet to its instance whole.
    #[inline(never)]
    fn carry<F: Frame>(&self, position: u32, packet: &mut Packet<F>, cx: &Context<'_>) -> Result<Next, Drop> {
        let flow = self.flows.get(position);
        encapsulate(packet, flow.forwarding(), flow.instance, cx)
            .map_or_else(not_carried, |()| Ok(Next::Transit))
    }

    /// An address and port of the appliance towards `instance` that no other flow to it uses.
    fn translated_source(
        &self,
        protocol: u8,
        instance: (Addr, u16),
        hash: u64,
        cx: &Context<'_>,
    ) -> Result<(Addr, u16, u64), Drop> {
        let tables = cx.tables;
        let own = tables
            .routes
            .lookup(instance.0)
            .and_then(|hop| tables.interfaces.get(hop.interface))
            .and_then(|interface| interface.address_like(instance.0))
            .ok_or(Drop::NatExhausted)?;
        (0..NAT_PROBES_MAX)
            .map(|probe| tables.policy.nat_ports.nth(cx.worker, cx.workers, hash as u32 as usize + probe))
            .map(|port| (own, port, cx.hasher.hash(own, port, protocol)))
            .find(|(own, port, hash)| self.flows.find(*hash, protocol, instance, (*own, *port)).is_none())
            .ok_or(Drop::NatExhausted)
    }

    #[inline(always)]
    fn translate<F: Frame>(&self, position: u32, packet: &mut Packet<F>) {
        let flow = self.flows.get(position);
        let source = match flow.nat_port {
            0 => (flow.client, flow.client_port),
            port => (self.flows.nat_addr(position), port),
        };
        rewrite(packet, source, (flow.instance, flow.instance_port));
    }

    /// The service's way out for a packet that can't be held (any longer).
    fn overflow<F: Frame>(
        &mut self,
        packet: &mut Packet<F>,
        service: &Entry,
        reason: Drop,
        cx: &mut Context<'_>,
    ) -> Result<Next, Drop> {
        cx.counters.service(packet.meta.service).overflowed.add(1);
        if service.handling == Handling::Splice && packet.meta.protocol == TCP && !packet.meta.is_syn() {
            return refuse(packet);
        }
        match service.overflow {
            Overflow::Upstream => Ok(Next::Transit),
            Overflow::Fallback => match choose(service, Pool::Fixed, &packet.meta, cx) {
                Some(backend) => self.begin_with(packet, service, backend, cx),
                None => Err(Drop::NoInstance),
            },
            Overflow::Rst if packet.meta.is_syn() => refuse(packet).map_err(|_| Drop::OverflowNoRst),
            Overflow::Rst => Err(Drop::OverflowNoRst),
            Overflow::Drop => Err(reason),
        }
    }
}

/// Whether what is held for the service would only be dropped at its deadline: then it needs no buffer for that.
pub(crate) fn drops_at_deadline(service: &Service, meta: &Meta) -> bool {
    let is_refused = service.handling == Handling::Splice && meta.protocol == TCP && !meta.is_syn();
    service.overflow == Overflow::Drop && !is_refused
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

/// What becomes of a packet that can't be sent to its instance whole: its sender is told what a router tells it.
pub(super) fn not_carried(refusal: encapsulate::Refusal) -> Result<Next, Drop> {
    use encapsulate::Refusal;
    match refusal {
        Refusal::NoRoute => Ok(Next::Refused(Error::NoRoute, Drop::NoRoute)),
        Refusal::TtlExpired => Ok(Next::Refused(Error::TimeExceeded, Drop::TtlExpired)),
        Refusal::TooBig(room) => Ok(Next::Refused(Error::TooBig(room), Drop::TooBig)),
        Refusal::NotOnLink => Err(Drop::NotOnLink),
        Refusal::NoSource => Err(Drop::NoTunnelSource),
        Refusal::NoHeadroom => Err(Drop::NoHeadroom),
    }
}

/// The instance for a new flow of a packet's. Its hash isn't the one that the flow's owner is known by, but one that all
/// appliances of the site share: a client whose packets are routed to another of them finds the same instance.
pub(super) fn choose<'a>(
    service: &'a Entry,
    pool: Pool,
    meta: &Meta,
    cx: &Context<'_>,
) -> Option<&'a Instance> {
    let hasher = FlowHasher::new(cx.tables.policy.balance_key);
    let hash = hasher.hash_shared(meta.source, meta.source_port, meta.protocol);
    service.choose(pool, meta.destination.is_v4(), hash)
}

/// Which of the service's instances may be given new flows now, if any: among them those that are only bound, when the
/// serving node is to queue what comes for them.
pub(crate) fn admits(service: &Service, slot: &ServiceSlot) -> Option<Pool> {
    match slot.load() {
        _ if !service.wakes => Some(Pool::Fixed),
        (Phase::Ready | Phase::Draining, _) => Some(Pool::Ready),
        (Phase::Waking, wake) if service.handling == Handling::Forward && slot.is_handed(wake) => {
            Some(Pool::Bound)
        }
        _ => None,
    }
}

/// Whether any instance has an address of the packet's family that isn't down; without one, waiting leads nowhere.
fn has_family(service: &Service, v4: bool) -> bool {
    let family = usize::from(!v4);
    service.instances.iter().any(|instance| !instance.fixed && instance.address_up(family).is_some())
}

/// Whether a held first packet could be passed on now, or what is held for an instance.
pub(crate) fn can_open(service: &Entry, slot: &ServiceSlot, v4: bool) -> bool {
    admits(service, slot).is_some_and(|pool| service.has(pool, v4))
}

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
        service: meta.service,
        query_id: query_id(held),
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
fn is_repeated<F: Frame>(packet: &Packet<F>, slot: &ServiceSlot, cx: &Context<'_>) -> bool {
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
    HoldKey::of(meta, meta.service, query_id(held))
}

/// What stands in a hold's key for the id of a query.
fn query_id(held: Held) -> u16 {
    if held == Held::Handshake { HANDSHAKE } else { 0 }
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

pub(super) fn finish<F: Frame>(
    next: Result<Next, Drop>,
    packet: Packet<F>,
    cx: &mut Context<'_>,
    lanes: &mut Lanes<F>,
) {
    match next {
        Ok(Next::Transit) => {
            cx.trace(NodeId::Service, "to transit", &packet);
            lanes.transit.push(packet);
        }
        Ok(Next::Reply) => {
            cx.trace(NodeId::Service, "reset", &packet);
            let leaving = match packet.meta.origin {
                Origin::Arrival => Leaving::Answered,
                Origin::Hold => Leaving::Released,
                Origin::Own => Leaving::Originated,
            };
            let interface = packet.meta.interface;
            cx.send(packet, interface, leaving, lanes);
        }
        Ok(Next::Consumed) => {
            cx.trace(NodeId::Service, "heard", &packet);
            cx.ended(packet.meta.origin, &cx.counters.fates.delivered, &cx.counters.fates.release_dropped);
            cx.free(packet, lanes);
        }
        Ok(Next::Hold(parked)) => finish_hold(parked, NodeId::Service, packet, cx, lanes),
        // Behind a translated port without a flow nobody listens.
        Err(Drop::NoFlow) if packet.meta.protocol == UDP => {
            let drop = (NodeId::Service, Drop::NoFlow as usize, Drop::NoFlow.name());
            cx.refuse(Error::NoPort, drop, packet, lanes);
        }
        Ok(Next::Refused(error, reason)) => {
            cx.refuse(error, (NodeId::Service, reason as usize, reason.name()), packet, lanes);
        }
        Err(reason) => cx.drop(NodeId::Service, reason as usize, reason.name(), packet, lanes),
    }
}

#[inline]
fn note_activity(service: ServiceId, cx: &Context<'_>) {
    let last = &cx.counters.service(service).last_nanos;
    if cx.now.0.wrapping_sub(last.get()) > ACTIVITY_NANOS {
        last.set(cx.now.0);
    }
}

/// A flow's client has gone on after it was answered.
#[inline(never)]
fn note_established(service: ServiceId, cx: &Context<'_>) {
    cx.counters.service(service).flows_established.add(1);
}

pub(super) fn forget(gone: Gone, counters: &WorkerCounters) {
    counters.service(gone.service).flows.sub(1);
    counters.instance_flows[gone.instance_slot.index() % INSTANCES_MAX].sub(1);
}
