//! Services: finds the flow or begins one, translates both directions, and holds what opens a request while nothing
//! runs yet.
//!
//! ```text
//!   known flow ─────────────────────────► translate or encapsulate ─► transit
//!   to a service, no flow ──────────────► `opening`: begin one, wake and hold (`park`), or the way out
//!   from an instance, no flow of ours ──► transit, untouched (to our own ports: dropped)
//! ```
//!
//! No reply to a client's handshake can leave before its notification: a cold service's SYN stays here until the slowpath
//! has handed the notification over, whatever the handling.

use super::encapsulate::encapsulate;
use super::icmp::Error;
use super::opening::not_carried;
use super::park::{finish_hold, overflow_later};
use super::verify::verify;
use super::{Context, Lanes, Leaving, NodeId, drops, fragment, handshake, rewrite::rewrite};
use crate::clock::Nanos;
use crate::counters::WorkerCounters;
use crate::driver::{BURST_MAX, Frame};
use crate::flow::table::{Candidate, Gone};
use crate::flow::{Direction, FlowState, FlowTable};
use crate::hold::Parked;
use crate::packet::{Kind, Origin, Packet};
use crate::splice::table::Splices;
use crate::tables::Tables;
use crate::tables::services::{INSTANCES_MAX, Instance, ServiceId};
use crate::wire::UDP;

/// How often a service's last activity is noted at most, in nanoseconds; idleness is counted in seconds.
const ACTIVITY_NANOS: u64 = 100_000_000;

drops! {
    /// Why a packet to or from a service goes no further.
    pub enum Drop {
        /// The service is gone from the tables.
        NoService => "no-service",
        /// No instance can take it.
        NoInstance => "no-instance",
        /// Wrong TCP checksum, of what would begin something.
        TcpChecksum => "tcp-checksum",
        /// Wrong UDP checksum, or none in IPv6 (RFC 8200 §8.1), of what would begin something.
        UdpChecksum => "udp-checksum",
        /// It belongs to no flow, opens none, and nothing runs that it could be for.
        NoFlow => "no-flow",
        /// Cut within the QUIC header, to a service whose connection ids are known.
        QuicCut => "quic-cut",
        /// A QUIC version negotiation, which only servers send (RFC 9000 §17.2.1), and of no known flow.
        QuicNegotiation => "quic-negotiation",
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
        /// A later fragment that its first's way out, `rst`, `fallback` or `drop`, isn't open to.
        OverflowFragment => "overflow-fragment",
        /// As many of its flow wait as may, and it is none of them sent again.
        HoldFlowFull => "hold-flow-full",
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
        /// Its TCP header is not in one piece, or it can't be cut to an answer; or it is the first fragment of what completes a
        /// handshake, from whose headers the SYN to the instance is made.
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
    /// The same for a SYN of the flow at this position, whose handshake begins if it leaves.
    Opening(u32),
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
        if !lanes.expired.is_empty() {
            self.expire(cx, lanes);
        }
    }

    /// Handles the packets whose time in a hold is over.
    #[inline(never)]
    fn expire<F: Frame>(&mut self, cx: &mut Context<'_>, lanes: &mut Lanes<F>) {
        // Taken from the end, in the order in which they came.
        lanes.expired.reverse();
        while let Some(mut packet) = lanes.expired.pop() {
            let next = self.way_out(&mut packet, cx);
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
                if self.ends_here(position) {
                    verify(packet)?;
                }
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

    /// Whether what either end of the flow says ends here, while its two handshakes aren't one connection yet: then nobody
    /// else would find out that its checksum is wrong.
    #[inline(always)]
    fn ends_here(&self, position: u32) -> bool {
        self.flows.get(position).is_spliced() && self.splices.is_opening(position)
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
        match self.find(packet, candidate) {
            Some((position, Direction::Forward)) if !packet.meta.is_syn() => self.go_on(position, packet, cx),
            Some((position, Direction::Forward)) => self.on_syn(position, packet, cx),
            _ => self.open(packet, cx),
        }
    }

    /// A client's packet of the flow at `position`.
    #[inline(always)]
    fn go_on<F: Frame>(
        &mut self,
        position: u32,
        packet: &mut Packet<F>,
        cx: &mut Context<'_>,
    ) -> Result<Next, Drop> {
        let flags = packet.meta.tcp_flags;
        note_activity(self.flows.get(position).service, cx);
        if !self.flows.get(position).forwarding().is_two_way() {
            if self.flows.get_mut(position).touch_one_way(flags, cx.now) {
                note_established(self.flows.get(position).service, cx);
            }
            return self.carry(position, packet, cx);
        }
        if self.ends_here(position) {
            verify(packet)?;
        }
        if self.flows.get_mut(position).touch(Direction::Forward, flags, cx.now) {
            note_established(self.flows.get(position).service, cx);
        }
        if self.flows.get(position).is_spliced()
            && let Some(next) = self.splice_forward(position, packet, cx)?
        {
            return Ok(next);
        }
        self.translate(position, packet);
        Ok(Next::Transit)
    }

    /// A SYN of the flow at `position`: it says again what began it, or begins another connection with the same ports.
    #[cold]
    #[inline(never)]
    fn on_syn<F: Frame>(
        &mut self,
        position: u32,
        packet: &mut Packet<F>,
        cx: &mut Context<'_>,
    ) -> Result<Next, Drop> {
        if !self.may_continue(position, cx) {
            // The old flow has ended, or its instance has.
            verify(packet)?;
            forget(self.flows.remove(position), cx.counters);
            return self.open(packet, cx);
        }
        match self.go_on(position, packet, cx)? {
            // None of those before has left for the instance.
            Next::Transit
                if self.flows.get(position).is_unsent()
                    && handshake::may_begin(packet)
                    && verify(packet).is_ok() =>
            {
                Ok(Next::Opening(position))
            }
            next => Ok(next),
        }
    }

    /// A packet whose time in a hold is over.
    fn way_out<F: Frame>(&mut self, packet: &mut Packet<F>, cx: &mut Context<'_>) -> Result<Next, Drop> {
        let tables = cx.tables;
        let service = tables.services.entry(packet.meta.service).ok_or(Drop::NoService)?;
        if packet.meta.kind == Kind::Following {
            return match fragment::follow(packet, &mut self.flows, cx) {
                Ok(true) => Ok(Next::Transit),
                Ok(false) => overflow_later(service, Drop::HoldExpired, &packet.meta, cx),
                Err(refusal) => not_carried(refusal),
            };
        }
        let candidate = self.flows.candidate::<F>(packet.meta.flow_hash);
        match self.find(packet, candidate) {
            // Its sender has said it again, and was let through then.
            Some(_) => self.on_forward(packet, candidate, cx),
            None => self.overflow(packet, service, Drop::HoldExpired, cx),
        }
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

    /// Sends a packet to its instance whole.
    #[inline(never)]
    pub(super) fn carry<F: Frame>(
        &self,
        position: u32,
        packet: &mut Packet<F>,
        cx: &Context<'_>,
    ) -> Result<Next, Drop> {
        let flow = self.flows.get(position);
        encapsulate(packet, flow.forwarding(), flow.instance, cx)
            .map_or_else(not_carried, |()| Ok(Next::Transit))
    }

    #[inline(always)]
    pub(super) fn translate<F: Frame>(&self, position: u32, packet: &mut Packet<F>) {
        let flow = self.flows.get(position);
        rewrite(packet, self.flows.client_seen(position), (flow.instance, flow.instance_port));
    }
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
        Ok(Next::Opening(position)) => {
            cx.trace(NodeId::Service, "to transit", &packet);
            lanes.opening.push((packet, position));
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
pub(super) fn note_activity(service: ServiceId, cx: &Context<'_>) {
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
