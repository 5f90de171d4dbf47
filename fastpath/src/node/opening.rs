//! Packets of no known flow: which of them begin one, and with whom, which wake and are held, and the way out of the rest.
//!
//! ```text
//!   wrong checksum ───────────────────────────► dropped, before anything begins
//!   an instance serves ───────────────────────► choose, remember, translate or encapsulate
//!   cold ─► wake once ─┬──────────────────────► hold
//!   waking ────────────┘
//!   quarantined, bypass, down, no room ───────► overflow: upstream, fallback, rst, drop
//! ```

use super::encapsulate::{self, encapsulate};
use super::icmp::Error;
use super::park::{is_repeated, park};
use super::service::{Drop, Next, ServiceNode, forget, note_activity};
use super::splice::refuse;
use super::verify::verify;
use super::{Context, handshake, quic};
use crate::addr::Addr;
use crate::driver::Frame;
use crate::event::Trigger;
use crate::flow::{FlowHasher, FlowState, Opening};
use crate::hold::{Held, Refusal};
use crate::packet::{Meta, Origin, Packet};
use crate::slots::{Phase, ServiceSlot};
use crate::tables::balance::Pool;
use crate::tables::services::{
    Entry, Handling, INSTANCES_MAX, Instance, Overflow, Service, SourceAddress, Verify,
};
use crate::wake::proof;
use crate::wire::{TCP, UDP, tcp};

/// Ports tried for a flow with a translated source before it is given up: with a part of the range half used,
/// as many misses in a row don't happen.
const NAT_PROBES_MAX: usize = 64;

/// What an instance was chosen by.
#[derive(Clone, Copy, PartialEq, Eq)]
enum By {
    /// The client's address and port.
    Hash,
    /// A QUIC connection id of its making.
    Id,
}

impl ServiceNode {
    /// A packet of no known flow.
    #[inline(never)]
    pub(super) fn open<F: Frame>(
        &mut self,
        packet: &mut Packet<F>,
        cx: &mut Context<'_>,
    ) -> Result<Next, Drop> {
        let tables = cx.tables;
        let service = tables.services.entry(packet.meta.service).ok_or(Drop::NoService)?;
        if packet.meta.origin == Origin::Own {
            // The flow that it was made for has gone.
            return Err(Drop::NoFlow);
        }
        let slot = cx.slots.get(packet.meta.service);
        let pool = admits(service, slot);
        let is_tcp = packet.meta.protocol == TCP;
        let mut opens = !is_tcp || packet.meta.is_syn();
        if !opens && pool.is_none() && service.handling != Handling::Splice {
            return Err(Drop::NoFlow);
        }
        verify(packet)?;
        if service.handling == Handling::Splice
            && is_tcp
            && let Some(next) = self.first_of_splice(packet, service, cx)?
        {
            return Ok(next);
        }
        if packet.meta.tcp_flags & tcp::RST != 0 {
            // It ends something that isn't here; a flow for it would only take somebody's place.
            return Err(Drop::NoFlow);
        }
        if packet.meta.protocol == UDP && service.server_ids().is_some() {
            let asked = quic::ask(service, packet)?;
            if let Some(instance) = asked.instance {
                return self.begin_with(packet, service, (instance, By::Id), cx);
            }
            opens = asked.begins;
        }
        if let Some(pool) = pool
            && let Some(instance) = choose(service, pool, &packet.meta, cx)
        {
            return self.begin_with(packet, service, (instance, By::Hash), cx);
        }
        if !opens {
            return Err(if is_tcp { Drop::NoFlow } else { Drop::QuicStray });
        }
        if !service.wakes {
            return self.overflow(packet, service, Drop::NoInstance, cx);
        }
        let phase = slot.load().0;
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
        let held = if is_tcp { Held::FirstPacket } else { Held::Datagram };
        match park(packet, held, service, cx) {
            Ok(parked) => Ok(Next::Hold(parked)),
            // Those that wait of its flow decide whose that is.
            Err(Refusal::FlowFull) => Err(Drop::HoldFlowFull),
            Err(refusal) => self.overflow(packet, service, refusal.into(), cx),
        }
    }

    /// Begins a flow to an instance and translates its first packet.
    fn begin_with<F: Frame>(
        &mut self,
        packet: &mut Packet<F>,
        service: &Service,
        (instance, by): (&Instance, By),
        cx: &mut Context<'_>,
    ) -> Result<Next, Drop> {
        match self.begin(&packet.meta, service, instance, cx) {
            Ok(position) => {
                if by == By::Id {
                    cx.counters.fates.flows_by_id.add(1);
                }
                if !service.forwarding.is_two_way() {
                    return self.carry(position, packet, cx);
                }
                self.translate(position, packet);
                Ok(if handshake::may_begin(packet) { Next::Opening(position) } else { Next::Transit })
            }
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
        cx.counters.fates.flows.set(self.flows.len() as u64);
        Ok(position)
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

    /// The service's way out for a packet that can't be held (any longer).
    pub(super) fn overflow<F: Frame>(
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
                Some(backend) => self.begin_with(packet, service, (backend, By::Hash), cx),
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
