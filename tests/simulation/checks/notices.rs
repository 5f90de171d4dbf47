//! What the orchestrator is told: once of each wake, at once of what is seen at an address, and not often of what needs
//! nothing.

use std::collections::{BTreeMap, HashMap};
use std::net::IpAddr;

use millrace_config::model::Verify;
use millrace_fastpath::driver::PortId;
use millrace_fastpath::slots::{Escalation, Phase, WakeId};
use millrace_fastpath::tables::services::ServiceId;
use millrace_fastpath::wake::ARRIVAL_NANOS;
use millrace_orchestrator_api::Trigger;
use smoltcp::wire::IpProtocol;

use super::service_of;
use crate::appliance::WAN;
use crate::link::Taken;
use crate::wire::{Body, Read};
use crate::world::World;

/// Source, destination and protocol.
type Triple = (IpAddr, IpAddr, u8);

/// Of this start of the appliance.
#[derive(Debug, Default)]
pub(super) struct Notices {
    /// The wakes of each service by the time at which they began, and how many notices there were of each.
    wakes: HashMap<(String, u64), u32>,
    /// The number of the latest wake of each id, and when it began.
    latest: BTreeMap<u16, (WakeId, u64)>,
    /// Those of the link that were looked at.
    taken: usize,
    /// When arrivals were told of, by service; workers' queues are looked at one after the other.
    told: BTreeMap<String, Vec<u64>>,
    /// When packets of a triple were looked at.
    seen: HashMap<Triple, Vec<u64>>,
    /// Services that a packet of this step must have woken, and the wakes that weren't begun for reasons of the worker's.
    due: Vec<(ServiceId, WakeId)>,
    excused: u64,
}

impl World {
    /// A packet was given to a worker. One to an address with the trigger `flow` is looked at when that one polls.
    pub(crate) fn note_triple(&mut self, port: PortId, queue: usize, read: Option<&Read<'_>>) {
        let Some(read) = read.filter(|_| port == WAN && self.stalled[queue] <= self.now) else { return };
        let protocol = match &read.body {
            Body::Tcp(_) => IpProtocol::Tcp,
            Body::Udp(..) => IpProtocol::Udp,
            Body::Piece(piece) => piece.protocol,
            Body::Other => return,
        };
        let Some(service) = service_of(self.scenario.services(), read.destination) else { return };
        let (facts, id) = (&self.scenario.services()[service], self.appliance.ids[service]);
        // Whoever else is there may have an address that no sender may have.
        let client = self.clients.iter().any(|one| one.addresses.contains(&read.source));
        let Some(id) = id.filter(|_| facts.by_flow && facts.is_now_at(read.destination) && client) else {
            return;
        };
        let slot = self.appliance.shared.slots.get(id);
        let (phase, wake) = slot.load();
        let notices = &mut self.checks.notices;
        notices.seen.entry((read.source, read.destination, protocol.into())).or_default().push(self.now.0);
        if phase == Phase::Cold && facts.verify == Verify::None && slot.escalation() == Escalation::None {
            notices.due.push((id, wake));
        }
    }

    /// Wakes that workers couldn't begin.
    fn excused(&self) -> u64 {
        let fates = self.appliance.shared.workers.iter().map(|worker| &worker.counters.fates);
        fates.map(|fates| fates.wakes_limited.get() + fates.events_lost.get()).sum()
    }

    /// Other services are there from now on, or the same ones anew.
    pub(crate) fn note_other_services(&mut self) {
        self.checks.notices.due.clear();
        self.checks.notices.told.clear();
    }

    /// All workers have polled: what they had to wake has been woken, whatever it was that came.
    pub(crate) fn check_due_wakes(&mut self) {
        let excused = self.excused();
        let due = std::mem::take(&mut self.checks.notices.due);
        if excused == std::mem::replace(&mut self.checks.notices.excused, excused) {
            for (id, before) in due {
                let (phase, wake) = self.appliance.shared.slots.get(id).load();
                assert!(
                    phase != Phase::Cold || wake != before,
                    "{id:?} isn't woken by what came to its address"
                );
            }
        }
    }

    /// Notes which wakes are out, after each poll: the clock stands still during one.
    pub(crate) fn note_wakes(&mut self, worker: usize) {
        let slots = (0..self.appliance.ids_end)
            .map(|id| (id, self.appliance.shared.slots.get(ServiceId(id)).load().1));
        let notices = &mut self.checks.notices;
        for (id, wake) in slots.filter(|(_, wake)| wake.0 > 0) {
            let latest = notices.latest.entry(id).or_default();
            if latest.0 == wake {
                continue;
            }
            self.checks.allowance.begun[worker] += wake.0 - latest.0.0;
            *latest = (wake, self.now.0);
            let at = self.appliance.ids.iter().position(|known| *known == Some(ServiceId(id)));
            if let Some(at) = at {
                let name = self.scenario.services()[at].name.clone();
                notices.wakes.entry((name, self.now.0)).or_default();
            }
        }
    }

    /// Whether the link has the notice of a service's latest wake.
    pub(super) fn is_latest_wake_taken(&self, service: usize) -> bool {
        let Some(id) = self.appliance.ids[service] else { return true };
        let name = &self.scenario.services()[service].name;
        let (_, wake) = self.appliance.shared.slots.get(id).load();
        let latest = self.checks.notices.latest.get(&id.0).copied().unwrap_or_default();
        let queues = self.appliance.task.queues();
        latest.0 == wake && queues.taken.iter().any(|one| one.service == *name && one.at == latest.1)
    }

    /// After a turn of the control loop: each notice is of a wake, and no other is; or of an arrival, and they come seldom.
    /// What waits for its notice doesn't wait for nothing.
    pub(crate) fn check_notices(&mut self) {
        let new: Vec<Taken> = self.appliance.task.queues().taken[self.checks.notices.taken..].to_vec();
        self.checks.notices.taken += new.len();
        for taken in new {
            if let Some(notices) = self.checks.notices.wakes.get_mut(&(taken.service.clone(), taken.at)) {
                *notices += 1;
                assert_eq!(*notices, 1, "notices of one wake: {taken:?}");
                self.checks.counts.noticed += 1;
            } else {
                self.check_arrival(&taken);
            }
        }
        let drained = self.appliance.shared.workers.iter().all(|worker| worker.queues.events.is_empty());
        for (at, facts) in self.scenario.services().iter().enumerate().filter(|_| drained) {
            let Some(id) = self.appliance.ids[at] else { continue };
            let waits = self.appliance.shared.slots.get(id).load().0 == Phase::Waking;
            assert!(!waits || self.is_latest_wake_taken(at), "{} waits, and nobody was told", facts.name);
        }
    }

    /// A notice that no wake led to: of a triple that wasn't seen for a minute, and of none of the same service within a
    /// second.
    fn check_arrival(&mut self, taken: &Taken) {
        let facts = self.scenario.services().iter().find(|one| one.name == taken.service);
        let may = taken.trigger == Trigger::Flow && facts.is_some_and(|facts| facts.by_flow);
        assert!(may, "a notice of nothing: {taken:?}");
        let told = self.checks.notices.told.entry(taken.service.clone()).or_default();
        let apart = told.iter().all(|at| at.abs_diff(taken.at) >= ARRIVAL_NANOS);
        assert!(apart, "told again so soon: {taken:?} {told:?}");
        told.push(taken.at);
        let seen = self.checks.notices.seen.get(&taken.triple).into_iter().flatten();
        let lately = (taken.at - NEW_AGAIN_NANOS_MIN)..taken.at;
        let seen: Vec<&u64> = seen.filter(|at| lately.contains(at)).collect();
        assert!(seen.is_empty(), "told as new, though seen at {seen:?}: {taken:?}");
        self.checks.counts.arrived += 1;
    }
}

/// A triple is remembered for sixty seconds, of which the first isn't whole.
const NEW_AGAIN_NANOS_MIN: u64 = 58_000_000_000;
