//! Checks of backends and instances: probes by the host stack, workers' counts of handshakes, and what comes of both in
//! the tables and in the services' phases.
//!
//! ```text
//!  place, reload ─► what is to be probed ─► due: dial ─► host stack ─► result ─┐
//!  scan ──────────► workers' counters ─► ejector ─────────────────────────────┴─► mark the tables ─► phase
//! ```

use std::collections::HashMap;
use std::sync::Arc;

use millrace_config::model::{Check, CheckKind};
use millrace_fastpath::addr::Addr;
use millrace_fastpath::clock::Nanos;
use millrace_fastpath::node::{NodeId, host};
use millrace_fastpath::slots::Phase;
use millrace_fastpath::tables::balance::Pool;
use millrace_fastpath::tables::services::{Instance, InstanceSlotId, InstanceState, ServiceId};
use millrace_orchestrator_api::Link;
use tracing::{info, warn};

use super::Control;
use crate::builder::ServiceSpec;
use crate::health::checks::{Change, RUNNING_MAX};
use crate::health::{Checks, Counted, Ejector, Failure, ProbeId, Rules, Seen, Target, http};
use crate::host::{DIALS_MAX, Dial, DialId, Dialled};

/// The checks of all services.
#[derive(Default)]
pub(super) struct Health {
    checks: Checks<Running>,
    ejectors: HashMap<ServiceId, Ejector>,
    pub(super) counters: HealthCounters,
}

/// A probe under way.
#[derive(Clone, Copy, Debug)]
struct Running {
    dial: DialId,
    until: Nanos,
    /// Frames for us that were lost before it began.
    losses: u64,
}

/// What happened, for the operator.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct HealthCounters {
    /// Probes that came to an end.
    pub probes: u64,
    /// Those that failed.
    pub failures: u64,
    /// Those that say nothing: they ran out of time while frames for us were being dropped, or couldn't leave because the
    /// neighbour on their way was still looked for.
    pub inconclusive: u64,
    /// Probes that began late because as many as there may be were under way.
    pub put_off: u64,
    /// Addresses that there was no room to probe, counted when they become so many.
    pub unprobed: u64,
}

/// The health of one instance.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InstanceHealth {
    /// Its service.
    pub service: ServiceId,
    /// Its slot.
    pub slot: InstanceSlotId,
    /// Its addresses that are probed.
    pub checks: Vec<AddressHealth>,
    /// What became of clients' handshakes, where those are watched.
    pub handshakes: Option<HandshakeHealth>,
    /// How often all instances of the service had to be used again.
    pub panics: u64,
}

/// The health of an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AddressHealth {
    /// The address and port that are probed.
    pub end: (Addr, u16),
    /// Whether it is up.
    pub up: bool,
    /// Since when.
    pub since: Nanos,
    /// Why the last probe that failed did.
    pub error: Option<Failure>,
    /// Probes so far.
    pub probes: u64,
    /// Those that failed.
    pub failures: u64,
}

/// What became of clients' handshakes with an instance.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct HandshakeHealth {
    /// Since they are watched.
    pub counted: Counted,
    /// Until when the instance is left out, if it is.
    pub ejected_until: Option<Nanos>,
    /// How often it was left out.
    pub ejections: u64,
}

/// A probe that is over: what came of it, if that says anything.
type Ended = (ProbeId, DialId, Option<Result<(), Failure>>);

impl<L: Link> Control<L> {
    /// The instances of a service may have changed, or how they are checked.
    pub(super) fn check_instances(&mut self, id: ServiceId, now: Nanos) {
        let targets = self.targets(id);
        if let Some(refused) = self.health.checks.want(now, id, targets) {
            let service = &self.builder.specs()[id.index()].name;
            match refused {
                0 => info!(service, "there is room for all its probes"),
                _ => warn!(service, refused, "too many addresses are probed already: these are taken for up"),
            }
            self.health.counters.unprobed += refused as u64;
        }
        self.hang_up_abandoned(now);
        match rules(&self.builder.specs()[id.index()]) {
            Some(_) => {
                self.health.ejectors.entry(id).or_default();
            }
            None => {
                self.health.ejectors.remove(&id);
            }
        }
        self.mark(id);
    }

    /// What of a service is probed: backends always, instances while they serve.
    fn targets(&self, id: ServiceId) -> Vec<Target> {
        let spec = &self.builder.specs()[id.index()];
        let service = self.builder.tables().services.get(id);
        let Some(check) = check(spec) else { return Vec::new() };
        let probed = |instance: &&Instance| instance.fixed || instance.state != InstanceState::Starting;
        let instances = service.iter().flat_map(|service| &service.instances).filter(probed);
        instances.flat_map(|instance| targets_of(spec, &check, instance)).map(|(_, target)| target).collect()
    }

    /// Puts what is known into the tables. Whether that is news.
    fn mark(&mut self, id: ServiceId) -> bool {
        let spec = &self.builder.specs()[id.index()];
        let (check, checks) = (check(spec), &self.health.checks);
        let ejector = self.health.ejectors.get(&id);
        let down = |instance: &Instance| {
            let mut down = [ejector.is_some_and(|ejector| ejector.is_ejected(instance.slot)); 2];
            if let Some(check) = &check {
                for (family, target) in targets_of(spec, check, instance) {
                    down[family] |= checks.get(&target).is_some_and(|machine| !machine.is_up());
                }
            }
            // An address that it doesn't have is neither.
            [0, 1].map(|family| down[family] && instance.addresses[family].is_some())
        };
        // The specification is needed beside the builder that has it.
        let marks: HashMap<InstanceSlotId, [bool; 2]> = match self.builder.tables().services.get(id) {
            Some(service) => service.instances.iter().map(|one| (one.slot, down(one))).collect(),
            None => return false,
        };
        let news = self.builder.mark(id, |instance| marks.get(&instance.slot).copied().unwrap_or_default());
        if !self.builder.specs()[id.index()].wakes() {
            self.settle_fixed(id);
        }
        news
    }

    /// A service of backends alone is down when all that may have new flows are.
    fn settle_fixed(&self, id: ServiceId) {
        let slot = self.shared.slots.get(id);
        let Some(service) = self.builder.tables().services.get(id) else { return };
        let may = service.instances.iter().any(|one| one.state == InstanceState::Ready);
        let phase = if may && !self.is_any_up(id, Pool::Fixed) { Phase::Down } else { Phase::Ready };
        if slot.load().0 != phase {
            slot.set_phase(phase);
            match phase {
                Phase::Down => warn!(service = service.name, "all backends are down"),
                _ => info!(service = service.name, "backends are up again"),
            }
        }
    }

    /// Whether a new flow finds anybody.
    pub(super) fn is_any_up(&self, id: ServiceId, pool: Pool) -> bool {
        let entry = self.builder.tables().services.entry(id);
        entry.is_some_and(|entry| entry.has(pool, true) || entry.has(pool, false))
    }

    /// What is known of a service's instances has changed.
    fn apply(&mut self, id: ServiceId, now: Nanos) {
        if self.builder.specs()[id.index()].wakes() {
            self.place(id, now);
        } else {
            self.mark(id);
        }
    }

    /// Takes probes a step further. `heard`: the host stack has run.
    pub(super) fn run_checks(&mut self, now: Nanos, heard: bool) -> bool {
        if self.health.checks.is_empty() {
            return false;
        }
        let busy = (heard || now >= self.health.look_at(now)) && self.end_probes(now);
        busy | self.begin_probes(now)
    }

    fn end_probes(&mut self, now: Nanos) -> bool {
        let losses = self.losses();
        let ended: Vec<Ended> = self
            .health
            .checks
            .running()
            .filter_map(|(id, target, running)| {
                let said = judge(&target.check, self.host.dialled(running.dial));
                // An answer that was lost on its way through here says nothing about whoever gave it: a flood of frames
                // for us must not take backends down.
                let late = if running.losses == losses { Some(Err(Failure::TimedOut)) } else { None };
                let result = said.map(Some).or((now >= running.until).then_some(late))?;
                Some((id, running.dial, result))
            })
            .collect();
        for (id, dial, result) in &ended {
            self.host.hang_up(now, *dial);
            self.ended(*id, *result, now);
        }
        !ended.is_empty()
    }

    fn begin_probes(&mut self, now: Nanos) -> bool {
        let mut begun = 0;
        while begun < PROBES_PER_TURN_MAX
            && let Some((id, target, due)) = self.health.checks.next(now)
        {
            begun += 1;
            let target = target.clone();
            let local = match self.way_to(target.addr) {
                Some(Ok(local)) => local,
                other => {
                    self.ended(id, other.map(|way| way.map(drop)), now);
                    continue;
                }
            };
            let request = match &target.check.kind {
                CheckKind::Tcp => Vec::new(),
                CheckKind::Http { path, .. } => http::request(target.addr, target.port, path.as_str()),
            };
            let dial = Dial { local, remote: (target.addr, target.port), request: &request };
            match self.host.dial(now, &dial) {
                Some(dial) => {
                    let timeout = u64::try_from(target.check.timeout.as_nanos()).unwrap_or(u64::MAX);
                    let until = now.plus(timeout);
                    self.health.counters.put_off += u64::from(now.since(due) >= LATE_NANOS);
                    self.health.checks.started(id, Running { dial, until, losses: self.losses() });
                }
                // Those that have just ended make room when the stack has run.
                None => self.health.checks.put_off(id, now.plus(PUT_OFF_NANOS)),
            }
        }
        begun > 0
    }

    /// Our address towards another, or that packets don't find their way there; `None` while nobody knows.
    fn way_to(&self, addr: Addr) -> Option<Result<Addr, Failure>> {
        let tables = self.builder.tables();
        let Some((interface, hop)) = self.builder.next_hop(addr) else {
            return Some(Err(Failure::Unreachable));
        };
        if tables.neighbours.get(interface, hop).is_none() {
            let sought = self.neighbours.is_sought(interface, hop);
            return (!sought).then_some(Err(Failure::Unreachable));
        }
        let ours = tables.interfaces.get(interface).and_then(|interface| interface.address_like(addr));
        Some(ours.ok_or(Failure::Unreachable))
    }

    fn ended(&mut self, id: ProbeId, result: Option<Result<(), Failure>>, now: Nanos) {
        let counters = &mut self.health.counters;
        match result {
            Some(result) => {
                counters.probes += 1;
                counters.failures += u64::from(result.is_err());
            }
            None => counters.inconclusive += 1,
        }
        let Some(change) = self.health.checks.report(now, id, result) else { return };
        let Change { services, target, machine } = change;
        for id in services {
            let service = &self.builder.specs()[id.index()].name;
            let (address, port) = (target.addr, target.port);
            match machine.error() {
                Some(error) if !machine.is_up() => warn!(service, %address, port, %error, "down"),
                _ => info!(service, %address, port, "up"),
            }
            self.apply(id, now);
        }
    }

    fn hang_up_abandoned(&mut self, now: Nanos) {
        for running in self.health.checks.abandoned() {
            self.host.hang_up(now, running.dial);
        }
    }

    /// Frames for us that didn't get here, so far.
    fn losses(&self) -> u64 {
        let full = host::Drop::QueueFull as usize;
        let workers = self.shared.workers.iter();
        let at_workers: u64 =
            workers.map(|worker| worker.counters.node(NodeId::Host).drops[full].get()).sum();
        at_workers + self.counters.punts_limited + self.host.counters().overflowed + self.parcels.refused
    }

    /// Looks at what workers counted, and leaves instances out or uses them again.
    pub(super) fn watch_handshakes(&mut self, now: Nanos) {
        if self.health.ejectors.is_empty() {
            return;
        }
        let mut watched: Vec<ServiceId> = self.health.ejectors.keys().copied().collect();
        watched.sort_unstable();
        for id in watched {
            let Some(rules) = rules(&self.builder.specs()[id.index()]) else { continue };
            let seen = self.seen(id);
            let Some(ejector) = self.health.ejectors.get_mut(&id) else { continue };
            let panics = ejector.panics();
            let out: Vec<bool> = seen.iter().map(|one| ejector.is_ejected(one.slot)).collect();
            let changed = ejector.step(now, &rules, &seen);
            let panicked = ejector.panics() > panics;
            let turned: Vec<(InstanceSlotId, bool)> = seen
                .iter()
                .zip(out)
                .map(|(one, was)| (one.slot, was, ejector.is_ejected(one.slot)))
                .filter(|(_, was, is)| was != is)
                .map(|(slot, _, is)| (slot, is))
                .collect();
            let service = &self.builder.specs()[id.index()].name;
            for (slot, is_out) in turned {
                let instance = self.name(id, slot);
                match is_out {
                    true => warn!(service, instance, "left out: its handshakes fail"),
                    false => info!(service, instance, "used again"),
                }
            }
            if panicked {
                warn!(service, "handshakes fail everywhere: all instances are used");
            }
            if changed {
                self.apply(id, now);
            }
        }
    }

    fn seen(&self, id: ServiceId) -> Vec<Seen> {
        let spec = &self.builder.specs()[id.index()];
        let (check, checks) = (check(spec), &self.health.checks);
        let Some(service) = self.builder.tables().services.get(id) else { return Vec::new() };
        let served = service.instances.iter().filter(|instance| instance.fixed != spec.wakes());
        let seen = |instance: &Instance| {
            let workers = self.shared.workers.iter();
            let mut machines = Vec::new();
            if let Some(check) = &check {
                machines.extend(
                    targets_of(spec, check, instance).filter_map(|(_, target)| checks.get(&target)).copied(),
                );
            }
            Seen {
                slot: instance.slot,
                counted: Counted::sum(
                    workers.map(|worker| &worker.counters.handshakes[instance.slot.index()]),
                ),
                usable: [true, false].map(|v4| {
                    instance.state == InstanceState::Ready
                        && service.address_of(instance, v4).is_some()
                        && (machines.is_empty() || machines.iter().any(|machine| machine.is_up()))
                }),
                proven: machines.iter().filter_map(|machine| machine.succeeded()).max(),
            }
        };
        served.map(seen).collect()
    }

    /// An instance, for the log.
    fn name(&self, id: ServiceId, slot: InstanceSlotId) -> String {
        let service = self.builder.tables().services.get(id);
        let mut instances = service.iter().flat_map(|service| &service.instances);
        let addresses = instances.find(|one| one.slot == slot).map(|one| one.addresses);
        let texts: Vec<String> = addresses.iter().flatten().flatten().map(ToString::to_string).collect();
        texts.join(" ")
    }

    /// The health of every instance that is checked.
    pub(super) fn healths(&self) -> Vec<InstanceHealth> {
        let mut healths = Vec::new();
        for (id, service) in self.builder.tables().services.iter() {
            let spec = &self.builder.specs()[id.index()];
            if spec.health.is_none() {
                continue;
            }
            let check = check(spec);
            let ejector = self.health.ejectors.get(&id);
            for instance in &service.instances {
                let mut addresses = Vec::new();
                if let Some(check) = &check {
                    for (_, target) in targets_of(spec, check, instance) {
                        let Some(machine) = self.health.checks.get(&target) else { continue };
                        addresses.push(AddressHealth {
                            end: (target.addr, target.port),
                            up: machine.is_up(),
                            since: machine.since(),
                            error: machine.error(),
                            probes: machine.probes(),
                            failures: machine.failures(),
                        });
                    }
                }
                let member = ejector.and_then(|ejector| ejector.member(instance.slot));
                healths.push(InstanceHealth {
                    service: id,
                    slot: instance.slot,
                    checks: addresses,
                    handshakes: member.map(|member| HandshakeHealth {
                        counted: member.counted(),
                        ejected_until: member.ejected(),
                        ejections: member.ejections(),
                    }),
                    panics: ejector.map_or(0, Ejector::panics),
                });
            }
        }
        healths
    }
}

impl Health {
    /// When one of the probes under way has to be looked at though nothing was heard.
    fn look_at(&self, now: Nanos) -> Nanos {
        let until = self.checks.running().map(|(.., running)| running.until).min();
        until.unwrap_or(now.plus(1))
    }
}

/// What a connection says of a probe, if anything yet.
fn judge(check: &Check, dialled: Dialled<'_>) -> Option<Result<(), Failure>> {
    match (&check.kind, dialled) {
        (_, Dialled::Opening) => None,
        (_, Dialled::Refused) => Some(Err(Failure::Refused)),
        (CheckKind::Tcp, Dialled::Open(_) | Dialled::Ended(_)) => Some(Ok(())),
        (CheckKind::Http { status, .. }, Dialled::Open(heard)) => http::judge(heard, *status),
        (CheckKind::Http { status, .. }, Dialled::Ended(heard)) => {
            Some(http::judge(heard, *status).unwrap_or(Err(Failure::Ended)))
        }
    }
}

/// How a service's instances are probed. The port is every target's own.
fn check(spec: &ServiceSpec) -> Option<Arc<Check>> {
    let check = spec.health.as_ref()?.check.as_ref()?;
    Some(Arc::new(Check { port: None, ..check.clone() }))
}

/// The addresses of an instance, and how each is probed.
fn targets_of<'a>(
    spec: &'a ServiceSpec,
    check: &'a Arc<Check>,
    instance: &'a Instance,
) -> impl Iterator<Item = (usize, Target)> + 'a {
    let port = spec.probed_port(instance);
    (0..2).filter_map(move |family| {
        let (addr, port) = (instance.addresses[family]?, port?);
        Some((family, Target { addr, port, check: Arc::clone(check) }))
    })
}

fn rules(spec: &ServiceSpec) -> Option<Rules> {
    let passive = spec.health.as_ref()?.passive?;
    let nanos = |time: std::time::Duration| u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
    Some(Rules {
        failures: u64::from(passive.failures),
        window_nanos: nanos(passive.window),
        eject_nanos: nanos(passive.eject),
        share_percent: passive.share_percent as usize,
    })
}

/// Probes begun in one turn: the frames of all other kinds come in between.
const PROBES_PER_TURN_MAX: usize = 16;
/// How long a probe waits for a connection of the host stack.
const PUT_OFF_NANOS: u64 = 10_000_000;
/// A probe that begins so long after its time is late.
const LATE_NANOS: u64 = 10_000_000;
const _: () = assert!(RUNNING_MAX[2] == DIALS_MAX);
