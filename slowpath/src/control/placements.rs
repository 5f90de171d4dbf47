//! What the orchestrator places, on its way into the tables: instances, their neighbours, and what a failure ends.

use std::sync::Arc;

use millrace_fastpath::addr::Addr;
use millrace_fastpath::clock::Nanos;
use millrace_fastpath::slots::{Phase, WakeId};
use millrace_fastpath::tables::balance::Pool;
use millrace_fastpath::tables::interfaces::InterfaceId;
use millrace_fastpath::tables::services::ServiceId;
use millrace_orchestrator_api::{InstanceState, Link, LinkState, ServicePlacement};
use tracing::{info, warn};

use super::Control;
use super::lifecycle::Readying;
use super::orchestrator::{Change, News};
use crate::builder::addresses;

impl<L: Link> Control<L> {
    pub(super) fn watch_link(&mut self, now: Nanos) -> bool {
        let change = self.orchestrator.watch(now);
        if change == Some(Change::Lost) {
            for id in self.on_demand() {
                self.settle(id);
            }
        }
        change.is_some()
    }

    pub(super) fn receive_placements(&mut self, now: Nanos) -> bool {
        let mut busy = false;
        for _ in 0..PLACEMENTS_PER_TURN_MAX {
            let Some(news) = self.orchestrator.receive(now) else { break };
            busy = true;
            match news {
                News::Acknowledged(sequence) => self.journal.acknowledge(sequence, now),
                News::Changed(names) => {
                    for id in names.iter().filter_map(|name| self.builder.find(name)).collect::<Vec<_>>() {
                        self.place(id, now);
                    }
                }
                News::Snapshot => {
                    info!(generation = %self.orchestrator.view().generation(), "placement applied");
                    for id in self.on_demand() {
                        self.place(id, now);
                        self.settle(id);
                    }
                }
            }
        }
        busy
    }

    /// A service's placement may have changed.
    pub(super) fn place(&mut self, id: ServiceId, now: Nanos) {
        let spec = &self.builder.specs()[id.index()];
        if !spec.wakes() {
            return;
        }
        let placement = self.orchestrator.view().service(&spec.name).cloned();
        self.builder.place(id, placement.as_ref());
        self.tell_shared_server_ids(id);
        self.want_instances(id, now);
        self.check_instances(id, now);
        let placed = placement.as_ref().is_some_and(serves);
        let serves = placed && self.is_any_up(id, Pool::Ready);
        let shared = Arc::clone(&self.shared);
        let slot = shared.slots.get(id);
        let phase = slot.load().0;
        let failure = placement.and_then(|placement| placement.failure);
        let lifecycle = &mut self.lifecycles[id.index()];
        if serves {
            if phase != Phase::Ready && lifecycle.readying.is_none() && lifecycle.idle_sent.is_none() {
                lifecycle.readying = Some(Readying { since: now, generation: None, published: now });
                self.set_moving(id);
            }
            return;
        }
        if placed {
            // To the orchestrator it serves; to us it doesn't.
            if lifecycle.down(slot) {
                warn!(service = self.builder.specs()[id.index()].name, "all instances are down");
            }
            return;
        }
        lifecycle.gone(slot);
        // A failure may be late: of a wake that was given up here, or of another appliance's. It ends only the wake whose
        // notice it answers.
        let pending = lifecycle.notice.filter(|notice| slot.load() == (Phase::Waking, notice.wake));
        if let (Some(notice), Some(failure)) = (pending, failure)
            && failure.answers(&self.site, self.settings.boot, notice.sequence)
        {
            self.fail(id, notice.wake, failure.reason, now);
        }
        self.settle(id);
    }

    pub(super) fn fail(&mut self, id: ServiceId, wake: WakeId, reason: String, now: Nanos) {
        let name = &self.builder.specs()[id.index()].name;
        warn!(service = name, wake = wake.0, reason, "a wake came to nothing");
        self.counters.wakes_failed += 1;
        let entry = self.journal.entry(id, wake);
        entry.failed = Some(now);
        entry.reason = reason;
        let shared = Arc::clone(&self.shared);
        self.lifecycles[id.index()].fail(shared.slots.get(id), wake, now);
        self.settle(id);
    }

    /// While the orchestrator is gone, what would be cold is in bypass, and the other way round.
    pub(super) fn settle(&mut self, id: ServiceId) {
        let slot = self.shared.slots.get(id);
        if self.lifecycles[id.index()].readying.is_some() {
            // It is about to be ready, and needs no wake.
        } else if self.orchestrator.is_in_step() {
            slot.transition(Phase::Bypass, Phase::Cold);
        } else if self.orchestrator.state() == LinkState::Down {
            slot.transition(Phase::Cold, Phase::Bypass);
        }
    }

    pub(super) fn on_demand(&self) -> Vec<ServiceId> {
        self.builder.specs().iter().filter(|spec| spec.wakes()).map(|spec| spec.id).collect()
    }

    /// Has the next hops of a service's instances looked for, and no longer those that it had before.
    pub(super) fn want_instances(&mut self, id: ServiceId, now: Nanos) {
        let service = self.builder.tables().services.get(id);
        let instances = service.iter().flat_map(|service| &service.instances);
        let all = instances.flat_map(|instance| instance.addresses.iter().flatten());
        let mut hops: Vec<_> = all.filter_map(|addr| self.builder.next_hop(*addr)).collect();
        hops.sort_unstable();
        hops.dedup();
        let before = std::mem::replace(&mut self.wanted_by[id.index()], hops.clone());
        for hop in hops {
            self.want(hop, now);
        }
        for hop in before {
            self.unwant(hop, now);
        }
    }

    pub(super) fn unwant(&mut self, hop: (InterfaceId, Addr), now: Nanos) {
        if let Some(count) = self.wanted.get_mut(&hop) {
            *count -= 1;
            if *count == 0 {
                self.wanted.remove(&hop);
                self.neighbours.want(now, hop.0, hop.1, false, &mut self.outputs);
            }
        }
    }

    pub(super) fn want(&mut self, hop: (InterfaceId, Addr), now: Nanos) {
        let count = self.wanted.entry(hop).or_default();
        *count += 1;
        if *count == 1 {
            self.neighbours.want(now, hop.0, hop.1, true, &mut self.outputs);
        }
    }
}

/// Whether an instance answers.
fn serves(placement: &ServicePlacement) -> bool {
    placement.instances.iter().any(|instance| {
        instance.state == InstanceState::Ready && addresses(instance).iter().any(Option::is_some)
    })
}

/// Messages taken from the link in one turn.
const PLACEMENTS_PER_TURN_MAX: usize = 64;
