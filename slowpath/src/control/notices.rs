//! First packets on their way up: what workers saw becomes a notice, and the order of the handshake is kept.

use std::sync::Arc;

use millrace_fastpath::clock::Nanos;
use millrace_fastpath::event::{Event, PacketFields, Trigger};
use millrace_fastpath::slots::{Phase, WakeId};
use millrace_fastpath::tables::services::ServiceId;
use millrace_fastpath::wire::UDP;
use millrace_orchestrator_api as api;
use millrace_orchestrator_api::{Link, LinkError};

use super::Control;
use super::lifecycle::Notice;
use super::strikes::Proof;
use crate::builder::ServiceSpec;

impl<L: Link> Control<L> {
    pub(super) fn drain_events(&mut self, now: Nanos) -> bool {
        let shared = Arc::clone(&self.shared);
        let mut busy = false;
        for worker in &shared.workers {
            for _ in 0..EVENTS_PER_TURN_MAX {
                let Some(event) = worker.queues.events.pop() else { break };
                busy = true;
                // A link that is full is what the limit on wakes is for; one that has just gone is nobody's demand.
                if self.event(event, now) == Err(LinkError::Down) {
                    worker.wakes_returned.add(1);
                }
            }
        }
        busy
    }

    pub(super) fn event(&mut self, event: Event, now: Nanos) -> Result<(), LinkError> {
        match event {
            Event::FirstPacket { service, wake, trigger, at, fields } => {
                self.first_packet(service, wake, trigger, at, &fields, now)
            }
            Event::Arrival { service, trigger, at, fields } => {
                self.arrival(service, trigger, at, &fields, now);
                Ok(())
            }
            Event::Milestone { service, wake, what, at } => {
                self.journal.entry(service, wake).pass(what, at);
                Ok(())
            }
        }
    }

    /// The order that everything else follows: the link has the notice, then the slot says so, then workers may answer.
    /// A notice doesn't wait for a snapshot that is under way: what comes of it follows the snapshot, or is in it.
    ///
    /// # Errors
    /// The link didn't take the notice, and the wake was called off.
    fn first_packet(
        &mut self,
        service: ServiceId,
        wake: WakeId,
        trigger: Trigger,
        at: Nanos,
        fields: &PacketFields,
        now: Nanos,
    ) -> Result<(), LinkError> {
        // It may have been taken out of the configuration, or become one of backends, after a worker woke it.
        if !self.builder.specs().get(service.index()).is_some_and(ServiceSpec::wakes) {
            return Ok(());
        }
        let (begun, asked) = (self.flows_begun(service), matches!(trigger, Trigger::Dns { .. }));
        let established = self.flows_established(service);
        let lifecycle = &mut self.lifecycles[service.index()];
        lifecycle.asked = asked.then_some(begun);
        lifecycle.proof = Some(Proof {
            wake,
            established,
            begun: (fields.protocol == UDP && !asked).then_some(begun),
            asked,
            due: None,
        });
        let notice = self.notice(service, trigger, at, fields);
        let shared = Arc::clone(&self.shared);
        let slot = shared.slots.get(service);
        let entry = self.journal.entry(service, wake);
        entry.seen = Some(at);
        entry.trigger = Some(trigger);
        entry.client = Some(fields.source);
        let result = self.orchestrator.notify(notice);
        let entry = self.journal.entry(service, wake);
        match result {
            Ok(sequence) => {
                slot.set_handed(wake);
                entry.sequence = sequence;
                entry.handed = Some(now.max(at));
                if slot.load() == (Phase::Ready, wake) {
                    // An instance was there before the notice.
                    entry.ready = Some(now.max(at));
                    let lifecycle = &mut self.lifecycles[service.index()];
                    lifecycle.proof = lifecycle.proof.map(|proof| proof.ready(now));
                } else {
                    self.lifecycles[service.index()].notice = Some(Notice { wake, sequence, seen: at });
                    self.set_moving(service);
                }
                Ok(())
            }
            Err(error) => {
                entry.failed = Some(now.max(at));
                entry.reason = error.to_string();
                self.counters.wakes_cancelled += 1;
                slot.cancel_wake(wake);
                self.settle(service);
                Err(error)
            }
        }
    }

    /// Tells the orchestrator of a client that finds an instance there. Nothing waits for that: what the link doesn't take, or
    /// what is too much for it, is lost, and so is what the configuration has left behind.
    fn arrival(
        &mut self,
        service: ServiceId,
        trigger: Trigger,
        at: Nanos,
        fields: &PacketFields,
        now: Nanos,
    ) {
        if self.builder.specs().get(service.index()).is_some_and(ServiceSpec::wakes)
            && self.orchestrator.is_in_step()
            && self.arrival_bucket.take(now)
        {
            let notice = self.notice(service, trigger, at, fields);
            self.counters.arrivals += u64::from(self.orchestrator.notify(notice).is_ok());
        }
    }

    /// Flows that a service has had, over all workers.
    pub(super) fn flows_begun(&self, service: ServiceId) -> u64 {
        let workers = self.shared.workers.iter();
        workers.map(|worker| worker.counters.service(service).flows_begun.get()).sum()
    }

    /// Those of them that got as far as being established.
    pub(super) fn flows_established(&self, service: ServiceId) -> u64 {
        let workers = self.shared.workers.iter();
        workers.map(|worker| worker.counters.service(service).flows_established.get()).sum()
    }

    fn notice(
        &self,
        service: ServiceId,
        trigger: Trigger,
        at: Nanos,
        fields: &PacketFields,
    ) -> api::FirstPacket {
        let spec = &self.builder.specs()[service.index()];
        let interface = self.builder.tables().interfaces.get(fields.interface);
        let port = interface.and_then(|interface| self.builder.port_name(interface.port));
        let (trigger, kind) = match trigger {
            Trigger::Dns { query_type } => (api::Trigger::Dns, Some(query_type)),
            Trigger::Syn => (api::Trigger::Syn, None),
            Trigger::Flow => (api::Trigger::Flow, None),
        };
        api::FirstPacket {
            site: self.site.clone(),
            boot: self.settings.boot,
            sequence: 0,
            service: spec.name.clone(),
            trigger,
            time_unix_ns: at.0.saturating_add(self.settings.unix_offset_nanos),
            ingress_port: port.unwrap_or_default().to_owned(),
            vlan: interface.and_then(|interface| interface.vlan),
            source_mac: api::MacAddress(fields.source_mac),
            destination_mac: api::MacAddress(fields.destination_mac),
            source_address: fields.source.to_ip(),
            destination_address: fields.destination.to_ip(),
            next_header: fields.protocol,
            length_bytes: fields.length,
            flow_label: fields.flow_label,
            dns: kind.map(|kind| api::DnsQuestion { names: spec.dns_names.clone(), kind }),
            function_class: spec.function.clone().unwrap_or_default(),
        }
    }
}

/// Events taken from a worker in one turn: far more than come, and few enough that punts get their turn.
const EVENTS_PER_TURN_MAX: usize = 256;
