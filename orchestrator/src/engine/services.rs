//! How many instances a service has, and how they come and go.

use std::time::Duration;

use millrace_orchestrator_api::{InstanceId, NodeDown, ServiceFailure, Start, Stop};
use tracing::{debug, error, info, warn};

use super::place::{Candidate, choose};
use super::{
    DRAIN_APPLY_MAX, Engine, FAILURE_REST, FAILURE_REST_MAX, HOMELESS_MAX, Output, Phase, READY_WAIT_MAX,
    Record, START_ATTEMPTS_MAX, START_WAIT_MAX, STOP_CONFIRM_MAX,
};

impl Engine {
    pub(super) fn reconcile_all(&mut self, now: Duration) {
        let names: Vec<String> = self.services.keys().cloned().collect();
        for name in names {
            self.reconcile(&name, now);
        }
    }

    /// Brings a service nearer to what it shall have: one start at a time, or the surplus away.
    pub(super) fn reconcile(&mut self, name: &str, now: Duration) {
        if !self.settled {
            return;
        }
        let Some(service) = self.services.get(name) else { return };
        let live = self.live(name);
        let desired = service.desired as usize;
        if live > desired {
            self.reduce(name, live - desired, now);
        } else if live < desired
            && self.pending(name) == 0
            && service.not_before.is_none_or(|earliest| now >= earliest)
        {
            self.start(name, now);
        }
    }

    pub(super) fn live(&self, name: &str) -> usize {
        self.of(name).filter(|(_, record)| record.phase.is_live()).count()
    }

    fn start(&mut self, name: &str, now: Duration) {
        let Some((configured, function)) = self.config.service(name) else { return };
        let Some(service) = self.services.get(name) else { return };
        let candidates =
            self.nodes.iter().filter(|(_, node)| node.session.is_some() && !node.leaving).map(|(node, _)| {
                Candidate {
                    name: node,
                    free_bytes: self.free_bytes(node),
                    avoid: service.avoid.contains(node),
                }
            });
        let Some(node) = choose(function.pattern, function.memory_bytes, candidates).map(str::to_owned)
        else {
            let mib = function.memory_bytes >> 20;
            self.homeless(name, &format!("no serving node has {mib} MiB free"), now);
            return;
        };
        let id = InstanceId(self.next_instance);
        self.next_instance += 1;
        let start = Start {
            instance: id,
            service: name.to_owned(),
            function: function.name.clone(),
            memory_bytes: function.memory_bytes,
            deadline_ms: function.deadline_ms,
            port: configured.port,
        };
        let record = Record {
            service: name.to_owned(),
            function: function.name.clone(),
            node: node.clone(),
            memory_bytes: function.memory_bytes,
            deadline_ms: function.deadline_ms,
            phase: Phase::Requested,
            port: 0,
            since: now,
        };
        if let Some(session) = self.nodes.get(&node).and_then(|node| node.session) {
            self.outputs.push(Output::Node(session, NodeDown::Start(start)));
        }
        info!(instance = %id, service = name, node, "start");
        self.instances.insert(id, record);
        if let Some(service) = self.services.get_mut(name) {
            service.homeless = None;
        }
    }

    /// No node has room: waits a little, then gives the wake up.
    fn homeless(&mut self, name: &str, reason: &str, now: Duration) {
        let Some(service) = self.services.get_mut(name) else { return };
        let since = *service.homeless.get_or_insert(now);
        if now.saturating_sub(since) >= HOMELESS_MAX {
            self.give_up(name, reason, now);
        }
    }

    /// A start came to nothing: tries again, elsewhere if it can, or gives the wake up.
    pub(super) fn start_failed(&mut self, name: &str, node: &str, reason: &str, now: Duration) {
        let Some(service) = self.services.get_mut(name) else { return };
        if service.given_up == 0 {
            warn!(service = name, node, reason, "a start failed");
        } else {
            debug!(service = name, node, reason, "a start failed, as before");
        }
        service.attempts += 1;
        service.avoid.insert(node.to_owned());
        if service.attempts >= START_ATTEMPTS_MAX {
            self.give_up(name, reason, now);
        } else {
            self.reconcile(name, now);
        }
    }

    fn give_up(&mut self, name: &str, reason: &str, now: Duration) {
        let Some((_, function)) = self.config.service(name) else { return };
        let min = function.instances_min;
        let live = self.live(name) as u32;
        let Some(service) = self.services.get_mut(name) else { return };
        let failure =
            ServiceFailure { notices: std::mem::take(&mut service.wake), reason: reason.to_owned() };
        if service.failure.as_ref() != Some(&failure) {
            error!(service = name, notices = failure.notices.len(), reason, "a wake came to nothing");
        }
        service.failure = Some(failure);
        service.desired = live.max(min);
        service.attempts = 0;
        service.avoid.clear();
        service.homeless = None;
        service.not_before = Some(now + rest(service.given_up));
        service.given_up = service.given_up.saturating_add(1);
        self.dirty.insert(name.to_owned());
    }

    /// An instance answers: whatever was wrong before is over.
    pub(super) fn became_ready(&mut self, name: &str) {
        let Some(service) = self.services.get_mut(name) else { return };
        service.wake.clear();
        service.attempts = 0;
        service.avoid.clear();
        service.failure = None;
        service.not_before = None;
        service.given_up = 0;
    }

    /// A node has registered: what was given up may succeed there.
    pub(super) fn hope(&mut self) {
        for service in self.services.values_mut().filter(|service| service.given_up > 0) {
            service.given_up = 0;
            service.not_before = None;
        }
    }

    /// An instance that had been ready is gone. The next first packet brings another; a minimum is kept up, but not
    /// in a tight loop.
    pub(super) fn lost_ready(&mut self, name: &str, now: Duration) {
        let Some((_, function)) = self.config.service(name) else { return };
        let min = function.instances_min;
        let live = self.live(name) as u32;
        let Some(service) = self.services.get_mut(name) else { return };
        service.desired = live.max(min);
        if live < min && service.not_before.is_none() {
            service.not_before = Some(now + STOP_CONFIRM_MAX);
        }
    }

    /// Takes away what is too much: starts first, then the newest.
    fn reduce(&mut self, name: &str, surplus: usize, now: Duration) {
        let mut live: Vec<(bool, InstanceId)> = self
            .of(name)
            .filter(|(_, record)| record.phase.is_live())
            .map(|(id, record)| (record.phase.is_pending(), id))
            .collect();
        live.sort_unstable();
        for (pending, id) in live.into_iter().rev().take(surplus) {
            if pending {
                self.stop(id, now);
            } else if let Some(record) = self.instances.get_mut(&id) {
                info!(instance = %id, service = name, node = record.node, "drain");
                record.phase = Phase::Draining(None);
                record.since = now;
            }
        }
        self.dirty.insert(name.to_owned());
    }

    /// An instance that drains and whose node doesn't know it yet is ready again.
    pub(super) fn revive(&mut self, name: &str, now: Duration) -> bool {
        let found = self
            .of(name)
            .filter(|(_, record)| matches!(record.phase, Phase::Draining(_)))
            .map(|(id, _)| id)
            .last();
        let Some(record) = found.and_then(|id| self.instances.get_mut(&id)) else { return false };
        record.phase = Phase::Ready;
        record.since = now;
        self.dirty.insert(name.to_owned());
        true
    }

    /// Tells nodes to stop what every appliance has taken out, or has had time to.
    pub(super) fn drained(&mut self, now: Duration) {
        let due: Vec<InstanceId> = self
            .instances
            .iter()
            .filter(|(_, record)| match record.phase {
                Phase::Draining(Some(generation)) => {
                    now.saturating_sub(record.since) >= DRAIN_APPLY_MAX
                        || self.appliances.values().all(|appliance| appliance.applied >= generation)
                }
                _ => false,
            })
            .map(|(id, _)| *id)
            .collect();
        for id in due {
            self.stop(id, now);
        }
    }

    /// Tells a node to stop an instance, for the first time or again.
    pub(super) fn stop(&mut self, id: InstanceId, now: Duration) {
        let Some(record) = self.instances.get_mut(&id) else { return };
        let asked = match record.phase {
            Phase::Stopping { asked } => asked + 1,
            _ => 1,
        };
        if asked > 1 {
            warn!(instance = %id, node = record.node, asked, "a stop isn't confirmed; asking again");
        }
        // What only starts has no requests worth waiting for.
        let ready = !record.phase.is_pending();
        record.phase = Phase::Stopping { asked };
        record.since = now;
        let stop = Stop { instance: id, drain_ms: if ready { record.deadline_ms } else { 0 } };
        if let Some(session) = self.nodes.get(&record.node).and_then(|node| node.session) {
            self.outputs.push(Output::Node(session, NodeDown::Stop(stop)));
        }
        self.dirty.insert(record.service.clone());
    }

    /// Starts that took too long, and stops that weren't confirmed.
    pub(super) fn overdue(&mut self, now: Duration) {
        let mut late = Vec::new();
        for (&id, record) in &self.instances {
            let age = now.saturating_sub(record.since);
            match record.phase {
                Phase::Requested if age >= START_WAIT_MAX => {
                    late.push((id, Some("the node didn't start it in time")))
                }
                Phase::Starting if age >= READY_WAIT_MAX => {
                    late.push((id, Some("it didn't become ready in time")))
                }
                Phase::Stopping { .. }
                    if age >= Duration::from_millis(record.deadline_ms) + STOP_CONFIRM_MAX =>
                {
                    late.push((id, None));
                }
                _ => {}
            }
        }
        for (id, failed) in late {
            let names = self.instances.get(&id).map(|record| (record.service.clone(), record.node.clone()));
            self.stop(id, now);
            if let (Some(reason), Some((service, node))) = (failed, names) {
                self.start_failed(&service, &node, reason, now);
            }
        }
    }
}

/// How long a service rests after all attempts failed, `given_up` times before.
fn rest(given_up: u32) -> Duration {
    FAILURE_REST.saturating_mul(1u32.checked_shl(given_up).unwrap_or(u32::MAX)).min(FAILURE_REST_MAX)
}
