//! From what the threads share to the rows that operators see.

use std::collections::{BTreeMap, HashMap};
use std::fmt::Write;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use millrace_fastpath::addr::Addr;
use millrace_fastpath::clock::Nanos;
use millrace_fastpath::event::Trigger;
use millrace_fastpath::fates::Fates;
use millrace_fastpath::hold::Refusal;
use millrace_fastpath::node::{NodeId, drop_names};
use millrace_fastpath::queue::{Command, Reply};
use millrace_fastpath::shared::Shared;
use millrace_fastpath::tables::Names;
use millrace_fastpath::tables::interfaces::Mac;
use millrace_fastpath::tables::names::{Node, WireName};
use millrace_fastpath::tables::services::{
    Endpoint, Instance, InstanceSlotId, InstanceState, Overflow, Service, ServiceId, Verify,
};
use millrace_fastpath::trace::TraceBuffer;
use millrace_fastpath::wake::proof;
use millrace_orchestrator_api::LinkState;

use super::rows::*;
use crate::control::{AddressHealth, Asker, InstanceHealth, Status, monotonic};
use crate::reload::{ReloadReport, Reloader};

/// Where rows come from.
#[derive(Clone)]
pub struct Sources {
    /// What the workers share with us.
    pub shared: Arc<Shared>,
    /// The control loop.
    pub asker: Asker,
    /// The ports, as the driver sees them now.
    pub ports: Arc<dyn Fn() -> Vec<PortRow> + Send + Sync>,
    /// The CPU of each worker.
    pub cpus: Vec<usize>,
    /// Reads the configuration again.
    pub(super) reloader: Option<Arc<Reloader>>,
    /// Replies of workers tell nobody whose question they answer, so one is asked at a time.
    pub(super) asking: Arc<Mutex<()>>,
}

/// Why there are no rows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CollectError {
    /// The control thread doesn't answer.
    #[error("the control thread has ended")]
    NoControl,
    /// There is no file to read.
    #[error("this appliance can't read its configuration again")]
    NoReloader,
}

impl Sources {
    /// Sources over the shared state of running workers.
    pub fn new(
        shared: Arc<Shared>,
        asker: Asker,
        ports: Arc<dyn Fn() -> Vec<PortRow> + Send + Sync>,
        cpus: Vec<usize>,
    ) -> Self {
        Self { shared, asker, ports, cpus, reloader: None, asking: Arc::default() }
    }

    /// The same, where operators can have the configuration read again.
    pub fn with_reloader(self, reloader: Arc<Reloader>) -> Self {
        Self { reloader: Some(reloader), ..self }
    }

    /// `reload`
    ///
    /// # Errors
    /// [`CollectError::NoReloader`]
    pub fn reload(&self, dry_run: bool) -> Result<ReloadReport, CollectError> {
        Ok(self.reloader.as_ref().ok_or(CollectError::NoReloader)?.reload(dry_run))
    }

    /// `show config`
    ///
    /// # Errors
    /// [`CollectError::NoReloader`]
    pub fn config(&self) -> Result<ConfigReport, CollectError> {
        let reloader = self.reloader.as_ref().ok_or(CollectError::NoReloader)?;
        let status = reloader.status();
        Ok(ConfigReport {
            file: reloader.file().display().to_string(),
            loaded_unix_seconds: status.loaded_unix_seconds,
            reloads_applied: status.applied,
            reloads_refused: status.refused,
            refusal: status.refusal,
        })
    }

    /// `show ports`
    pub fn ports(&self) -> Vec<PortRow> {
        (self.ports)()
    }

    /// `show workers`
    pub fn workers(&self) -> WorkersReport {
        // A worker counts a frame's arrival and its end some nanoseconds apart: of several readings the one counts that
        // explains most.
        let readings = (0..READINGS_MAX).map(|_| {
            thread::yield_now();
            self.shared.workers.iter().map(|worker| Fates::read(&worker.counters.fates)).collect::<Vec<_>>()
        });
        let mut best: Option<(u64, Vec<Fates>)> = None;
        for reading in readings {
            let unexplained = reading.iter().map(Fates::unexplained).sum();
            if best.as_ref().is_none_or(|(least, _)| unexplained < *least) {
                best = Some((unexplained, reading));
            }
            if unexplained == 0 {
                break;
            }
        }
        let fates = best.map(|(_, fates)| fates).unwrap_or_default();
        let mut total = Fates::default();
        let mut workers = Vec::new();
        for (at, (worker, fates)) in self.shared.workers.iter().zip(&fates).enumerate() {
            total.add(fates);
            let counters = &worker.counters.fates;
            let (idle, polls) = (counters.idle_polls.get(), counters.polls.get());
            workers.push(WorkerRow {
                worker: at,
                cpu: self.cpus.get(at).copied(),
                idle_share: ratio(idle, polls),
                generation: self.shared.epoch(at).map(|generation| generation.0),
                flows: counters.flows.get(),
                flows_by_id: counters.flows_by_id.get(),
                flows_evicted: counters.flows_evicted.get(),
                flows_refused: counters.flows_refused.get(),
                fragments_evicted: counters.fragments_evicted.get(),
                triples_evicted: counters.triples_evicted.get(),
                holds_refused: Refusal::NAMES
                    .iter()
                    .zip(&counters.holds_refused)
                    .map(|(reason, count)| ((*reason).to_owned(), count.get()))
                    .collect(),
                injects_lost: counters.injects_lost.get(),
                events_lost: counters.events_lost.get(),
                wakes_limited: counters.wakes_limited.get(),
                responses_slipped: counters.responses_slipped.get(),
                limits_evicted: counters.limits_evicted.get(),
                fates: *fates,
                errors_sent: counters.errors_sent.get(),
                errors_limited: counters.errors_limited.get(),
                unexplained: fates.unexplained(),
            });
        }
        WorkersReport { workers, total, unexplained: total.unexplained() }
    }

    /// `show nodes`
    pub fn nodes(&self) -> Vec<NodeRow> {
        let node = |id: NodeId| {
            let counters = || self.shared.workers.iter().map(move |worker| worker.counters.node(id));
            let frames = counters().map(|node| node.frames.get()).sum();
            let vectors = counters().map(|node| node.vectors.get()).sum();
            let cycles = counters().map(|node| node.cycles.get()).sum();
            let drops = drop_names(id)
                .iter()
                .enumerate()
                .map(|(at, name)| ((*name).to_owned(), counters().map(|node| node.drops[at].get()).sum()));
            NodeRow {
                node: id.name().to_owned(),
                frames,
                vectors,
                cycles,
                frames_per_vector: ratio(frames, vectors),
                cycles_per_frame: ratio(cycles, frames),
                drops: drops.collect(),
            }
        };
        NodeId::ALL.into_iter().map(node).collect()
    }

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

    /// `show flows`: at most [`FLOWS_SHOWN_MAX`] of each worker.
    pub fn flows(&self) -> Vec<FlowRow> {
        let _asking = self.ask_workers(|| Command::Flows(Vec::with_capacity(FLOWS_SHOWN_MAX)));
        let tables = self.shared.tables();
        let mut rows = Vec::new();
        let everybody: Vec<usize> = (0..self.shared.workers.len()).collect();
        for (worker, reply) in self.replies(&everybody, REPLY_MAX) {
            let Reply::Flows(flows) = reply else { continue };
            rows.extend(flows.iter().map(|flow| FlowRow {
                worker,
                service:
                    tables.services.get(flow.service).map(|service| service.name.clone()).unwrap_or_default(),
                protocol: protocol_text(flow.protocol),
                client: socket_text(flow.client),
                address: socket_text(flow.vip),
                instance: socket_text(flow.instance),
                nat: flow.nat.map(socket_text),
                state: flow.state.to_owned(),
                idle_seconds: flow.idle_seconds,
            }));
        }
        rows
    }

    /// `show names`
    pub fn names(&self) -> Vec<NameRow> {
        let tables = self.shared.tables();
        let seen = |names: &Names, view: Option<&str>| -> Vec<NameRow> {
            let nodes = names.iter().filter(|node| !node.is_empty_non_terminal());
            let row = |node: Node<'_>| NameRow {
                name: name_text(node.name()),
                view: view.map(str::to_owned),
                zone: names.zone(node).map(|zone| zone.apex().to_string()).unwrap_or_default(),
                service: node.service().and_then(|id| Some(tables.services.get(id)?.name.clone())),
                types: node.sets().map(|(kind, _)| format!("{kind:?}")).collect(),
            };
            nodes.map(row).collect()
        };
        let mut rows = seen(&tables.names, None);
        rows.extend(tables.views.iter().flat_map(|view| seen(&view.names, Some(&view.name))));
        rows.sort_by(|a, b| (&a.view, &a.zone, &a.name).cmp(&(&b.view, &b.zone, &b.name)));
        rows
    }

    /// `show neighbours`
    ///
    /// # Errors
    /// The control loop has ended.
    pub fn neighbours(&self) -> Result<Vec<NeighbourRow>, CollectError> {
        let (now, mut rows) = self.asker.neighbours().ok_or(CollectError::NoControl)?;
        rows.sort_by_key(|row| (row.interface, row.addr));
        let tables = self.shared.tables();
        let row = |row: crate::neighbour::Row| NeighbourRow {
            interface: tables.interfaces.get(row.interface).map(|one| one.name.clone()).unwrap_or_default(),
            address: row.addr.to_string(),
            mac: row.mac.map(mac_text),
            state: row.state.name().to_owned(),
            seconds: (row.state != crate::neighbour::State::Static).then(|| seconds(now.since(row.since))),
        };
        Ok(rows.into_iter().map(row).collect())
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

    /// `show wakes`
    ///
    /// # Errors
    /// The control loop has ended.
    pub fn wakes(&self) -> Result<Vec<WakeRow>, CollectError> {
        let wakes = self.asker.wakes().ok_or(CollectError::NoControl)?;
        let tables = self.shared.tables();
        let nanos = |at: Option<Nanos>| at.map(|at| at.0);
        let row = |wake: crate::control::Wake| WakeRow {
            service: tables
                .services
                .get(wake.service)
                .map(|service| service.name.clone())
                .unwrap_or_default(),
            wake: wake.wake.0,
            trigger: wake.trigger.map(|trigger| match trigger {
                Trigger::Dns { .. } => "dns".to_owned(),
                Trigger::Syn => "syn".to_owned(),
                Trigger::Flow => "flow".to_owned(),
            }),
            client: wake.client.map(|client| client.to_string()),
            sequence: wake.sequence,
            seen_nanos: nanos(wake.seen),
            handed_nanos: nanos(wake.handed),
            acknowledged_nanos: nanos(wake.acknowledged),
            answered_nanos: nanos(wake.answered),
            held_nanos: nanos(wake.held),
            ready_nanos: nanos(wake.ready),
            released_nanos: nanos(wake.released),
            expired_nanos: nanos(wake.expired),
            failed_nanos: nanos(wake.failed),
            reason: wake.reason,
        };
        Ok(wakes.into_iter().map(row).collect())
    }

    /// `show link`
    ///
    /// # Errors
    /// The control loop has ended.
    pub fn link(&self) -> Result<LinkReport, CollectError> {
        let status = self.asker.status().ok_or(CollectError::NoControl)?;
        Ok(LinkReport {
            up: status.link == LinkState::Up,
            placement: status.placement.0,
            counters: counters(&status).into_iter().map(|(name, value)| (name.to_owned(), value)).collect(),
        })
    }

    /// `trace`: the next `frames` frames, or as many as come within `patience`.
    pub fn trace(&self, frames: u16, patience: Duration) -> Vec<TraceRow> {
        let _asking = self.ask_workers(|| Command::Trace(Box::new(TraceBuffer::new(frames))));
        let everybody: Vec<usize> = (0..self.shared.workers.len()).collect();
        let mut replies = self.replies(&everybody, patience);
        let late: Vec<usize> =
            everybody.into_iter().filter(|at| replies.iter().all(|(worker, _)| worker != at)).collect();
        if !late.is_empty() {
            // A newer request ends the older one with what it has, and one for no frame ends at once: two replies.
            for worker in &late {
                let end = Command::Trace(Box::new(TraceBuffer::new(0)));
                let _ = self.shared.workers[*worker].queues.commands.push(end);
            }
            replies.extend(self.replies(&late, REPLY_MAX));
            self.replies(&late, REPLY_MAX);
        }
        let mut rows = Vec::new();
        let mut first = 0;
        for (worker, reply) in replies {
            let Reply::Trace(buffer) = reply else { continue };
            let lines = buffer.lines();
            rows.extend(lines.iter().map(|line| {
                let detail = &line.detail[..usize::from(line.detail_len).min(line.detail.len())];
                TraceRow {
                    frame: first + usize::from(line.frame),
                    worker,
                    node: line.node.name().to_owned(),
                    decision: line.decision.to_owned(),
                    summary: summary(detail),
                    bytes: detail.iter().fold(String::new(), |mut text, byte| {
                        // Writing to a string can't fail.
                        let _ = write!(text, "{byte:02x}");
                        text
                    }),
                }
            }));
            first = rows.last().map_or(first, |row| row.frame + 1);
        }
        rows.sort_by_key(|row| row.frame);
        rows.retain(|row| row.frame < usize::from(frames));
        rows
    }

    /// Sends a command to every worker. While the guard lives, no other question is asked.
    fn ask_workers(&self, command: impl Fn() -> Command) -> MutexGuard<'_, ()> {
        // Nothing is behind the lock that a panic could leave in disorder.
        let guard = self.asking.lock().unwrap_or_else(PoisonError::into_inner);
        for worker in &self.shared.workers {
            // What came too late for its question.
            while worker.queues.replies.pop().is_some() {}
            // A worker that doesn't take commands doesn't reply either.
            let _ = worker.queues.commands.push(command());
        }
        guard
    }

    /// One reply of each of these workers that gives one within `patience`.
    fn replies(&self, of: &[usize], patience: Duration) -> Vec<(usize, Reply)> {
        let until = Instant::now() + patience;
        let mut replies: Vec<(usize, Option<Reply>)> = of.iter().map(|worker| (*worker, None)).collect();
        loop {
            for (worker, reply) in replies.iter_mut().filter(|(_, reply)| reply.is_none()) {
                *reply = self.shared.workers[*worker].queues.replies.pop();
            }
            if replies.iter().all(|(_, reply)| reply.is_some()) || Instant::now() >= until {
                return replies.into_iter().filter_map(|(worker, reply)| Some((worker, reply?))).collect();
            }
            thread::park_timeout(REPLY_POLL);
        }
    }
}

/// The counters of the control loop, by name.
pub(super) fn counters(status: &Status) -> Vec<(&'static str, u64)> {
    let Status { control, links, neighbours, host, health, .. } = status;
    vec![
        ("notices", links.notices),
        ("notices_refused_full", links.refused_full),
        ("notices_refused_down", links.refused_down),
        ("link_losses", links.losses),
        ("snapshots", links.snapshots),
        ("deltas", links.deltas),
        ("gaps", links.gaps),
        ("wakes_ready", control.wakes_ready),
        ("wakes_failed", control.wakes_failed),
        ("wakes_unused", control.wakes_unused),
        ("wakes_unproductive", control.wakes_unproductive),
        ("arrivals", control.arrivals),
        ("wakes_cancelled", control.wakes_cancelled),
        ("tables_published", control.published),
        ("punts", control.punts),
        ("punts_limited", control.punts_limited),
        ("injects_refused", status.injects_refused),
        ("answers_forgotten", status.answers_forgotten),
        ("neighbour_malformed", neighbours.malformed),
        ("neighbour_answered", neighbours.answered),
        ("neighbour_asked", neighbours.asked),
        ("neighbour_discarded", neighbours.discarded),
        ("neighbour_refused", neighbours.refused),
        ("neighbour_conflicts", neighbours.conflicts),
        ("host_received", host.received),
        ("host_unwanted", host.unwanted),
        ("host_overflowed", host.overflowed),
        ("host_unreachable", host.unreachable),
        ("host_sent", host.sent),
        ("tcp_connections", host.tcp_connections),
        ("tcp_aborted", host.tcp_aborted),
        ("tcp_queries", host.tcp_queries),
        ("tcp_dials", host.dials),
        ("probes", health.probes),
        ("probes_failed", health.failures),
        ("probes_inconclusive", health.inconclusive),
        ("probes_put_off", health.put_off),
        ("addresses_unprobed", health.unprobed),
    ]
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

fn ratio(of: u64, whole: u64) -> f64 {
    if whole == 0 { 0.0 } else { of as f64 / whole as f64 }
}

fn seconds(nanos: u64) -> f64 {
    nanos as f64 / 1e9
}

fn name_text(wire: &[u8]) -> String {
    WireName::from_wire(wire).map(|name| name.to_string()).unwrap_or_default()
}

/// A link-layer address as operators write it.
pub fn mac_text(mac: Mac) -> String {
    let [a, b, c, d, e, f] = mac;
    format!("{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{f:02x}")
}

fn socket_text((addr, port): (Addr, u16)) -> String {
    SocketAddr::new(addr.to_ip(), port).to_string()
}

fn endpoint_text(endpoint: &Endpoint) -> String {
    format!("{} {}", protocol_text(endpoint.protocol), socket_text((endpoint.addr, endpoint.port)))
}

fn protocol_text(protocol: u8) -> String {
    match protocol {
        1 => "icmp".to_owned(),
        6 => "tcp".to_owned(),
        17 => "udp".to_owned(),
        58 => "icmpv6".to_owned(),
        other => other.to_string(),
    }
}

/// The headers of a packet in short: `tcp 192.0.2.7:40000 > 203.0.113.10:80 syn`.
fn summary(ip: &[u8]) -> String {
    let (protocol, source, destination, l4) = match (ip.first().map(|byte| byte >> 4), ip) {
        (Some(4), ip) if ip.len() >= 20 => {
            let addr = |at: usize| Addr::v4([ip[at], ip[at + 1], ip[at + 2], ip[at + 3]]);
            (ip[9], addr(12), addr(16), ip.get(usize::from(ip[0] & 15) * 4..).unwrap_or(&[]))
        }
        (Some(6), ip) if ip.len() >= 40 => {
            let addr = |at: usize| Addr::v6(std::array::from_fn(|byte| ip[at + byte]));
            (ip[6], addr(8), addr(24), &ip[40..])
        }
        _ => return String::new(),
    };
    let name = protocol_text(protocol);
    let (6 | 17, [a, b, c, d, rest @ ..]) = (protocol, l4) else {
        return format!("{name} {source} > {destination}");
    };
    let (from, to) = (u16::from_be_bytes([*a, *b]), u16::from_be_bytes([*c, *d]));
    let mut text = format!("{name} {} > {}", socket_text((source, from)), socket_text((destination, to)));
    if let (6, Some(flags)) = (protocol, rest.get(9)) {
        for (bit, flag) in ["fin", "syn", "rst", "psh", "ack", "urg"].iter().enumerate() {
            if flags >> bit & 1 == 1 {
                text.push(' ');
                text.push_str(flag);
            }
        }
    }
    text
}

/// Flows that are shown of each worker: what an operator can look through, and a copy that costs the worker some tens of
/// microseconds.
pub const FLOWS_SHOWN_MAX: usize = 2048;
/// Readings of the fates, of which the best counts.
const READINGS_MAX: usize = 100;
/// How long a worker may take to reply: it looks at its commands between two bursts.
const REPLY_MAX: Duration = Duration::from_millis(500);
/// How often replies are looked for.
const REPLY_POLL: Duration = Duration::from_millis(1);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn packets_are_told_in_short() {
        let mut syn = vec![0x45, 0, 0, 60, 0, 0, 0, 0, 64, 6, 0, 0, 192, 0, 2, 7, 203, 0, 113, 10];
        syn.extend([0x9c, 0x40, 0, 80, 0, 0, 0, 0, 0, 0, 0, 0, 0xa0, 0x12]);
        assert_eq!(summary(&syn), "tcp 192.0.2.7:40000 > 203.0.113.10:80 syn ack");
        assert_eq!(summary(&syn[..22]), "tcp 192.0.2.7 > 203.0.113.10");
        assert_eq!(summary(&syn[..19]), "");
        let mut v6 = vec![0x60, 0, 0, 0, 0, 8, 58, 64];
        v6.extend([0; 15]);
        v6.push(1);
        v6.extend([0; 15]);
        v6.push(2);
        assert_eq!(summary(&v6), "icmpv6 ::1 > ::2");
    }
}
