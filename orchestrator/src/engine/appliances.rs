//! What appliances say.

use std::time::Duration;

use millrace_orchestrator_api::{Delta, Down, FirstPacket, Generation, Idle, NoticeId, Up};
use tracing::{debug, info, warn};

use super::{Appliance, ApplianceId, Engine, Output, Phase, Service};

impl Service {
    /// A notice becomes part of the wake that is being carried out.
    fn join(&mut self, notice: NoticeId) {
        match self.wake.iter_mut().find(|one| (&one.site, one.boot) == (&notice.site, notice.boot)) {
            Some(earlier) => earlier.sequence = earlier.sequence.max(notice.sequence),
            None => self.wake.push(notice),
        }
    }
}

impl Engine {
    /// An appliance has come, with this generation applied. It hears nothing before it is told all.
    pub fn appliance_up(&mut self, id: ApplianceId, applied: Generation) {
        self.flush();
        self.appliances.insert(id, Appliance { applied, ..Appliance::default() });
        if self.settled {
            if applied == self.view.generation() {
                self.repeat(id, None);
                self.set_synced(id);
            } else {
                self.send_snapshot(id);
            }
        }
    }

    /// An appliance has gone. Nobody waits for it any more.
    pub fn appliance_down(&mut self, id: ApplianceId, now: Duration) {
        self.appliances.remove(&id);
        for service in self.services.values_mut() {
            service.idle.remove(&id);
        }
        self.drained(now);
        self.flush();
    }

    /// An appliance says something.
    pub fn appliance_says(&mut self, id: ApplianceId, up: Up, now: Duration) {
        if !self.appliances.contains_key(&id) {
            return;
        }
        match up {
            Up::FirstPacket(notice) => self.first_packet(id, notice, now),
            Up::Applied { generation, digest } => self.applied(id, generation, digest, now),
            Up::Idle(idle) => self.idle(id, &idle, now),
            Up::Resync => {
                if self.settled {
                    self.send_snapshot(id);
                }
            }
        }
        self.flush();
    }

    fn first_packet(&mut self, id: ApplianceId, notice: FirstPacket, now: Duration) {
        let sequence = notice.sequence;
        self.outputs.push(Output::Appliance(id, Down::Acknowledge { sequence }));
        if !self.notices.take(&notice.site, notice.boot, sequence) {
            debug!(site = notice.site, sequence, "a notice came again");
            return;
        }
        let name = notice.service;
        let Some(min) = self.config.service(&name).map(|(_, function)| function.instances_min) else {
            warn!(site = notice.site, service = name, "a wake for a service that isn't configured");
            return;
        };
        let pending = self.pending(&name) > 0;
        let ready = self.instances.values().any(|one| one.service == name && one.phase == Phase::Ready);
        let Some(service) = self.services.get_mut(&name) else { return };
        service.idle.clear();
        if ready {
            self.repeat(id, Some(&name));
            return;
        }
        let notice_id = NoticeId { site: notice.site.clone(), boot: notice.boot, sequence };
        if pending || !service.wake.is_empty() {
            service.join(notice_id);
            debug!(site = notice.site, sequence, service = name, "a wake joins the one that is pending");
            return;
        }
        info!(
            site = notice.site,
            sequence,
            service = name,
            trigger = ?notice.trigger,
            function_class = notice.function_class,
            "wake"
        );
        service.attempts = 0;
        service.avoid.clear();
        service.failure = None;
        service.homeless = None;
        service.not_before = None;
        service.desired = service.desired.max(min).max(1);
        self.dirty.insert(name.clone());
        if self.revive(&name, now) {
            return;
        }
        if let Some(service) = self.services.get_mut(&name) {
            service.join(notice_id);
        }
        self.reconcile(&name, now);
    }

    fn applied(&mut self, id: ApplianceId, generation: Generation, digest: u64, now: Duration) {
        let Some(appliance) = self.appliances.get_mut(&id) else { return };
        appliance.applied = generation;
        let ours = self.digests.iter().find(|(known, _)| *known == generation).map(|(_, ours)| *ours);
        if ours.is_some_and(|ours| ours != digest) && appliance.corrected != Some(generation) {
            warn!(%generation, "an appliance's placement has gone astray; it gets a snapshot");
            appliance.corrected = Some(generation);
            self.send_snapshot(id);
        }
        self.drained(now);
    }

    fn idle(&mut self, id: ApplianceId, idle: &Idle, now: Duration) {
        let Some((_, function)) = self.config.service(&idle.service) else { return };
        let min = function.instances_min;
        let Some(service) = self.services.get_mut(&idle.service) else { return };
        // The appliance decided before it knew the present placement.
        if idle.generation < service.changed {
            return;
        }
        service.idle.insert(id);
        if !self.appliances.keys().all(|appliance| service.idle.contains(appliance)) {
            return;
        }
        service.idle.clear();
        service.desired = min;
        service.wake.clear();
        self.reconcile(&idle.service, now);
        self.flush();
        self.drained(now);
    }

    /// Says again what the appliance should know of one service, or only which generation is the present one.
    fn repeat(&mut self, id: ApplianceId, service: Option<&str>) {
        // What has changed meanwhile must not overtake itself.
        self.flush();
        let generation = self.view.generation();
        let changes = service.and_then(|name| self.view.service(name)).cloned().into_iter().collect();
        if self.settled {
            self.outputs.push(Output::Appliance(
                id,
                Down::Delta(Delta { from: generation, to: generation, changes }),
            ));
        }
    }

    pub(super) fn send_snapshot(&mut self, id: ApplianceId) {
        // A snapshot older than the state behind it would be followed by a delta; it is simpler to be current.
        self.flush();
        self.set_synced(id);
        self.outputs.push(Output::Appliance(id, Down::Snapshot(self.view.snapshot())));
    }

    fn set_synced(&mut self, id: ApplianceId) {
        if let Some(appliance) = self.appliances.get_mut(&id) {
            appliance.synced = true;
        }
    }
}
