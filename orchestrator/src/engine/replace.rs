//! Another configuration while instances run: what is new is there at once, what is gone drains, what changed holds for
//! the next instance.

use std::time::Duration;

use millrace_orchestrator_api::InstanceId;

use super::{Engine, Phase};
use crate::config::Config;

impl Engine {
    /// Works by `config` from now on. Instances of services that it lacks, or that lead to another function now, drain;
    /// the others stay as they are, up to the new maximum. Serving nodes that it lacks stay until the process ends: nobody
    /// else would stop what they run.
    pub fn replace(&mut self, config: Config, now: Duration) {
        for node in config.nodes() {
            self.nodes.entry(node.name.clone()).or_default();
        }
        let config = config.with_nodes_of(&self.config);
        for service in config.services() {
            let Some((_, function)) = config.service(&service.name) else { continue };
            let (min, max) = (function.instances_min, function.instances_max);
            let entry = self.services.entry(service.name.clone()).or_default();
            entry.desired = entry.desired.clamp(min, max);
            entry.not_before = None;
            self.dirty.insert(service.name.clone());
        }
        for (name, service) in &mut self.services {
            if config.service(name).is_none() {
                service.desired = 0;
                service.wake.clear();
                self.dirty.insert(name.clone());
            }
        }
        self.config = config;
        self.drain_strangers(now);
        self.reconcile_all(now);
        self.forget_services();
        self.flush();
    }

    /// Instances of a function that their service doesn't lead to any more.
    fn drain_strangers(&mut self, now: Duration) {
        let strangers: Vec<(InstanceId, bool)> = self
            .instances
            .iter()
            .filter(|(_, record)| record.phase.is_live())
            .filter(|(_, record)| {
                let leads_to = self.config.service(&record.service).map(|(service, _)| &service.function);
                leads_to.is_some_and(|function| *function != record.function)
            })
            .map(|(id, record)| (*id, record.phase.is_pending()))
            .collect();
        for (id, pending) in strangers {
            if pending {
                self.stop(id, now);
            } else if let Some(record) = self.instances.get_mut(&id) {
                record.phase = Phase::Draining(None);
                record.since = now;
                self.dirty.insert(record.service.clone());
            }
        }
    }

    /// Services that the configuration lacks, when their last instance has gone. Their empty placement stays in the view,
    /// where nobody looks for it.
    pub(super) fn forget_services(&mut self) {
        let Self { services, config, instances, dirty, .. } = self;
        services.retain(|name, _| {
            config.service(name).is_some()
                || dirty.contains(name)
                || instances.values().any(|record| record.service == *name)
        });
    }
}
