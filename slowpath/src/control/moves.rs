//! Services on their way from phase to phase: what is looked at each turn, and what now and then.

use std::sync::Arc;

use millrace_fastpath::clock::Nanos;
use millrace_fastpath::slots::Phase;
use millrace_fastpath::tables::services::ServiceId;
use millrace_orchestrator_api::{Link, LinkError, LinkState};
use tracing::info;

use super::Control;
use super::lifecycle::Readying;

impl<L: Link> Control<L> {
    pub(super) fn set_moving(&mut self, id: ServiceId) {
        if !self.moving.contains(&id) {
            self.moving.push(id);
        }
    }

    /// Looks at the services that are on their way.
    pub(super) fn move_services(&mut self, now: Nanos) {
        let mut moving = std::mem::take(&mut self.moving);
        moving.retain(|id| {
            self.move_on(*id, now);
            let lifecycle = &self.lifecycles[id.index()];
            lifecycle.readying.is_some() || lifecycle.notice.is_some()
        });
        // Whatever began to move meanwhile stays in.
        for id in std::mem::replace(&mut self.moving, moving) {
            self.set_moving(id);
        }
    }

    fn move_on(&mut self, id: ServiceId, now: Nanos) {
        if let Some(readying) = self.lifecycles[id.index()].readying {
            let readying = self.readying(id, readying, now);
            self.lifecycles[id.index()].readying = Some(readying);
            let seen = readying.generation.is_some_and(|generation| {
                self.shared.oldest_epoch() >= generation || now.since(readying.published) >= EPOCH_NANOS_MAX
            });
            if seen {
                self.set_ready(id, now);
            }
            return;
        }
        let Some(notice) = self.lifecycles[id.index()].notice else { return };
        let slot = self.shared.slots.get(id);
        if slot.load() != (Phase::Waking, notice.wake) {
            self.lifecycles[id.index()].notice = None;
        } else if self.orchestrator.state() == LinkState::Down {
            let hold = self.builder.specs()[id.index()].hold_nanos_max;
            if now.since(notice.seen) >= hold {
                let entry = self.journal.entry(id, notice.wake);
                entry.failed = Some(now);
                entry.reason = LinkError::Down.to_string();
                self.counters.wakes_cancelled += 1;
                slot.cancel_wake(notice.wake);
                self.lifecycles[id.index()].notice = None;
                self.settle(id);
            }
        } else if now.since(notice.seen) >= WAKE_NANOS_MAX {
            self.fail(id, notice.wake, "nothing came of the notice".to_owned(), now);
        }
    }

    /// Whether the tables that are out have all that the first released packet needs: the instance, and its neighbour,
    /// which is waited for only so long.
    fn readying(&self, id: ServiceId, mut readying: Readying, now: Nanos) -> Readying {
        if readying.generation.is_none() {
            let neighbours = &self.builder.tables().neighbours;
            let mut hops = self.wanted_by[id.index()].iter();
            let known = hops.all(|(interface, addr)| neighbours.get(*interface, *addr).is_some());
            if known || now.since(readying.since) >= NEIGHBOUR_NANOS_MAX {
                readying.generation = Some(self.generation());
                readying.published = now;
            }
        }
        readying
    }

    fn set_ready(&mut self, id: ServiceId, now: Nanos) {
        let slot = self.shared.slots.get(id);
        let (phase, wake) = slot.load();
        self.lifecycles[id.index()].ready(slot, now);
        let name = &self.builder.specs()[id.index()].name;
        info!(service = name, wake = wake.0, "ready");
        if phase == Phase::Waking {
            self.counters.wakes_ready += 1;
            self.journal.entry(id, wake).ready = Some(now);
        }
    }

    /// What needn't be looked at each turn.
    pub(super) fn scan(&mut self, now: Nanos) {
        self.publisher.collect();
        if let Some(keys) = self.cookies.as_mut().and_then(|cookies| cookies.roll(now)) {
            self.builder.set_cookies(keys);
        }
        let oldest = self.shared.oldest_epoch();
        self.builder.collect(oldest, self.shared.workers.iter().map(|worker| &worker.counters));
        self.collect_services(now);
        self.watch_handshakes(now);
        let shared = Arc::clone(&self.shared);
        for id in self.on_demand() {
            let slot = shared.slots.get(id);
            let lifecycle = &mut self.lifecycles[id.index()];
            lifecycle.pardon(slot, now);
            if let Some(wake) = lifecycle.find_orphan(slot, now) {
                slot.cancel_wake(wake);
                self.counters.wakes_cancelled += 1;
            }
            self.settle(id);
            self.judge(id, now);
            self.scan_idle(id, now);
        }
    }

    /// Whether the wake of a service was good for anything.
    fn judge(&mut self, id: ServiceId, now: Nanos) {
        let (established, begun) = (self.flows_established(id), self.flows_begun(id));
        let slot = self.shared.slots.get(id);
        let Some(wake) = self.lifecycles[id.index()].judge(slot, established, begun, now) else { return };
        info!(
            service = self.builder.specs()[id.index()].name,
            wake = wake.0,
            strikes = slot.strikes(),
            "{UNPRODUCTIVE}"
        );
        self.counters.wakes_unproductive += 1;
        let entry = self.journal.entry(id, wake);
        entry.failed = Some(now);
        entry.reason = UNPRODUCTIVE.to_owned();
    }

    /// Reports a service that nobody uses, and takes that back when somebody does, or when the orchestrator keeps it.
    fn scan_idle(&mut self, id: ServiceId, now: Nanos) {
        let activity = || self.shared.workers.iter().map(|worker| worker.counters.service(id));
        let flows: u64 = activity().map(|activity| activity.flows.get() + activity.holds.get()).sum();
        let last = Nanos(activity().map(|activity| activity.last_nanos.get()).max().unwrap_or(0));
        let begun = self.flows_begun(id);
        let spec = &self.builder.specs()[id.index()];
        let lifecycle = &mut self.lifecycles[id.index()];
        let slot = self.shared.slots.get(id);
        match slot.load().0 {
            Phase::Ready => {
                // Asked for and never used: further queries are no use either.
                let unused = spec.unused_nanos.filter(|_| lifecycle.asked == Some(begun));
                let (quiet_since, patience) = match unused {
                    Some(patience) => (lifecycle.busy_since, patience),
                    None => (last.max(lifecycle.busy_since), spec.idle_nanos),
                };
                if flows == 0
                    && now.since(quiet_since) >= patience
                    && self.orchestrator.is_in_step()
                    && self.orchestrator.report_idle(&spec.name)
                    && slot.transition(Phase::Ready, Phase::Draining)
                {
                    info!(service = spec.name, unused = unused.is_some(), "idle");
                    lifecycle.idle_sent = Some(now);
                    self.counters.wakes_unused += u64::from(unused.is_some());
                    // Counted once, also where the orchestrator keeps it.
                    lifecycle.asked = None;
                }
            }
            Phase::Draining => {
                let Some(sent) = lifecycle.idle_sent else { return };
                if flows > 0 || last > sent || now.since(sent) >= IDLE_ANSWER_NANOS_MAX {
                    lifecycle.idle_sent = None;
                    lifecycle.busy_since = now;
                    slot.transition(Phase::Draining, Phase::Ready);
                }
            }
            Phase::Down => {
                let since = *lifecycle.downed.get_or_insert(now);
                if flows == 0
                    && now.since(since) >= DOWN_NANOS_MAX
                    && self.orchestrator.is_in_step()
                    && self.orchestrator.report_idle(&spec.name)
                {
                    info!(service = spec.name, "down and unused: given up, so that another can be woken");
                    // Said again after as long, if nothing comes of it.
                    lifecycle.downed = Some(now);
                }
            }
            _ => {}
        }
    }
}

/// How long what a function's service has may fail its checks before it is reported idle: nothing wakes another as long as
/// it is there.
const DOWN_NANOS_MAX: u64 = 10_000_000_000;
/// What a wake that led to nothing is told with.
const UNPRODUCTIVE: &str = "nobody completed a handshake";
/// How long a wake may be out before it is taken for failed: longer than any instance takes to start.
const WAKE_NANOS_MAX: u64 = 10_000_000_000;
/// How long readiness waits for the instance's neighbour. It was asked for when the instance began to start; what is
/// released without it waits here.
const NEIGHBOUR_NANOS_MAX: u64 = 20_000_000;
/// How long readiness waits for the slowest worker to take up the tables. One that takes longer finds them between its
/// next two bursts.
const EPOCH_NANOS_MAX: u64 = 2_000_000;
/// How long the orchestrator may take to answer a report of idleness; without an answer it keeps the instance.
const IDLE_ANSWER_NANOS_MAX: u64 = 1_000_000_000;
