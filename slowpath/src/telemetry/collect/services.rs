//! Services, their instances, and what is held for them.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use millrace_fastpath::clock::Nanos;
use millrace_fastpath::tables::services::{
    Instance, InstanceSlotId, InstanceState, Overflow, Service, ServiceId, Verify,
};
use millrace_fastpath::wake::proof;

use super::Sources;
use super::text::*;
use crate::control::{AddressHealth, InstanceHealth, monotonic};
use crate::telemetry::rows::*;

impl Sources {
    /// `show services`
    pub fn services(&self) -> Vec<ServiceRow> {
        let tables = self.shared.tables();
        let mut dns_names: BTreeMap<ServiceId, Vec<String>> = BTreeMap::new();
        let of_views = tables.views.iter().flat_map(|view| view.names.iter());
        for node in tables.names.iter().chain(of_views) {
            if let Some(id) = node.service() {
                dns_names.entry(id).or_default().push(name_text(node.name()));
            }
        }
        let now = monotonic();
        let healths = self.healths();
        let row = |(id, service): (ServiceId, &Arc<Service>)| {
            let panics = service.instances.first().and_then(|one| healths.get(&(id, one.slot)));
            let activity = || self.shared.workers.iter().map(move |worker| worker.counters.service(id));
            let slot = self.shared.slots.get(id);
            let (phase, wake) = slot.load();
            let last = activity().map(|activity| activity.last_nanos.get()).max().filter(|last| *last > 0);
            let mut endpoints: Vec<String> = tables.services.endpoints(id).map(endpoint_text).collect();
            endpoints.sort();
            let mut names = dns_names.remove(&id).unwrap_or_default();
            names.sort();
            names.dedup();
            ServiceRow {
                name: service.name.clone(),
                phase: phase.name().to_owned(),
                wake: wake.0,
                dns_names: names,
                endpoints,
                instances: self.instances(id, service, now, &healths),
                flows: activity().map(|activity| activity.flows.get()).sum(),
                flows_begun: activity().map(|activity| activity.flows_begun.get()).sum(),
                flows_established: activity().map(|activity| activity.flows_established.get()).sum(),
                arrivals: activity().map(|activity| activity.arrivals.get()).sum(),
                strikes: slot.strikes(),
                escalation: slot.escalation() as u8,
                asks: match proof(service, slot) {
                    Verify::None => "none",
                    Verify::SecondSyn => "second-syn",
                    Verify::Cookie => "cookie",
                }
                .to_owned(),
                overflowed: activity().map(|activity| activity.overflowed.get()).sum(),
                held: activity().map(|activity| activity.holds.get()).sum(),
                idle_seconds: last.map(|last| seconds(now.since(Nanos(last)))),
                panics: panics.map_or(0, |health| health.panics),
            }
        };
        tables.services.iter().map(row).collect()
    }

    /// What the control loop knows; nothing when it has ended.
    fn healths(&self) -> HashMap<(ServiceId, InstanceSlotId), InstanceHealth> {
        let (_, healths) = self.asker.health().unwrap_or_default();
        healths.into_iter().map(|health| ((health.service, health.slot), health)).collect()
    }

    fn instances(
        &self,
        id: ServiceId,
        service: &Service,
        now: Nanos,
        healths: &HashMap<(ServiceId, InstanceSlotId), InstanceHealth>,
    ) -> Vec<InstanceRow> {
        let health = |instance: &Instance| healths.get(&(id, instance.slot));
        let row = |instance: &Instance| InstanceRow {
            health: health_text(health(instance)).to_owned(),
            checks: health(instance)
                .iter()
                .flat_map(|one| &one.checks)
                .map(|one| check_row(one, now))
                .collect(),
            handshakes: health(instance).and_then(|one| one.handshakes).map(|one| HandshakeRow {
                begun: one.counted.begun,
                answered: one.counted.answered,
                refused: one.counted.refused,
                unanswered: one.counted.unanswered,
                ejections: one.ejections,
                ejected_seconds: one.ejected_until.map(|until| seconds(until.since(now))),
            }),
            id: instance.id,
            addresses: instance.addresses.iter().flatten().map(ToString::to_string).collect(),
            port: instance.port,
            weight: instance.weight,
            state: match instance.state {
                InstanceState::Starting => "starting",
                InstanceState::Ready => "ready",
                InstanceState::Draining => "draining",
            }
            .to_owned(),
            fixed: instance.fixed,
            flows: self
                .shared
                .workers
                .iter()
                .map(|worker| worker.counters.instance_flows[instance.slot.index()].get())
                .sum(),
        };
        service.instances.iter().map(row).collect()
    }

    /// `show holds`: the services that can hold packets.
    pub fn holds(&self) -> Vec<HoldRow> {
        let tables = self.shared.tables();
        let row = |(id, service): (ServiceId, &Arc<Service>)| {
            let by_worker: Vec<u64> =
                self.shared.workers.iter().map(|worker| worker.counters.service(id).holds.get()).collect();
            HoldRow {
                service: service.name.clone(),
                phase: self.shared.slots.get(id).load().0.name().to_owned(),
                held: by_worker.iter().sum(),
                held_max: service.hold_packets_max,
                deadline_ms: service.hold_nanos_max / 1_000_000,
                overflow: match service.overflow {
                    Overflow::Upstream => "upstream",
                    Overflow::Fallback => "fallback",
                    Overflow::Rst => "rst",
                    Overflow::Drop => "drop",
                }
                .to_owned(),
                by_worker,
            }
        };
        tables.services.iter().filter(|(_, service)| service.wakes).map(row).collect()
    }
}

fn health_text(health: Option<&InstanceHealth>) -> &'static str {
    let Some(health) = health else { return "unchecked" };
    if health.handshakes.is_some_and(|handshakes| handshakes.ejected_until.is_some()) {
        return "ejected";
    }
    match health.checks.iter().filter(|check| !check.up).count() {
        0 if health.checks.is_empty() && health.handshakes.is_none() => "unchecked",
        0 => "up",
        down if down == health.checks.len() => "down",
        _ => "partly",
    }
}

fn check_row(check: &AddressHealth, now: Nanos) -> CheckRow {
    CheckRow {
        address: check.end.0.to_string(),
        port: check.end.1,
        state: if check.up { "up" } else { "down" }.to_owned(),
        seconds: seconds(now.since(check.since)),
        probes: check.probes,
        failures: check.failures,
        error: check.error.map(|error| error.to_string()),
    }
}
