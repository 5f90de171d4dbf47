//! From what the threads share to the rows that operators see.

mod asked;
mod bier;
mod echo;
mod services;
mod text;

use std::sync::{Arc, Mutex};
use std::thread;

use millrace_fastpath::clock::Nanos;
use millrace_fastpath::event::Trigger;
use millrace_fastpath::fates::Fates;
use millrace_fastpath::hold::Refusal;
use millrace_fastpath::node::{NodeId, drop_names};
use millrace_fastpath::shared::Shared;
use millrace_fastpath::tables::Names;
use millrace_fastpath::tables::names::Node;
use millrace_hub_store::desk::{self, Desk};
use millrace_orchestrator_api::LinkState;
use serde_json::Value;

use super::rows::*;
use crate::control::{Asker, Status};
use crate::oam::AskError;
use crate::reload::{ReloadReport, Reloader};
pub use asked::FLOWS_SHOWN_MAX;
pub use echo::ECHO_MS_MAX;
pub(super) use echo::{name, neighbours};
pub use text::mac_text;
use text::*;

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
    /// Answers for the content hub.
    pub(super) desk: Option<Desk>,
    /// Replies of workers tell nobody whose question they answer, so one is asked at a time.
    pub(super) asking: Arc<Mutex<()>>,
}

/// Why there are no rows.
#[derive(Debug, thiserror::Error)]
pub enum CollectError {
    /// The control thread doesn't answer.
    #[error("the control thread has ended")]
    NoControl,
    /// Nobody can be asked for replies.
    #[error(transparent)]
    Echo(#[from] AskError),
    /// Not a list of routers.
    #[error("routers are numbers, as in 1,2,66-70")]
    BfrIds,
    /// There is no file to read.
    #[error("this appliance can't read its configuration again")]
    NoReloader,
    /// There is no hub.
    #[error("this appliance is no content hub: its configuration has no `[hub]`")]
    NoHub,
    /// The hub doesn't do it.
    #[error(transparent)]
    Hub(#[from] desk::Refusal),
}

impl Sources {
    /// Sources over the shared state of running workers.
    pub fn new(
        shared: Arc<Shared>,
        asker: Asker,
        ports: Arc<dyn Fn() -> Vec<PortRow> + Send + Sync>,
        cpus: Vec<usize>,
    ) -> Self {
        Self { shared, asker, ports, cpus, reloader: None, desk: None, asking: Arc::default() }
    }

    /// The same, where operators can have the configuration read again.
    pub fn with_reloader(self, reloader: Arc<Reloader>) -> Self {
        Self { reloader: Some(reloader), ..self }
    }

    /// The same, for a content hub.
    pub fn with_hub(self, desk: Desk) -> Self {
        Self { desk: Some(desk), ..self }
    }

    /// How the content hub is, if there is one.
    pub(super) fn hub_totals(&self) -> Option<desk::Status> {
        self.desk.as_ref().map(Desk::totals)
    }

    /// `hub`
    ///
    /// # Errors
    /// [`CollectError::NoHub`], [`CollectError::Hub`]
    pub fn hub(&self, ask: desk::Ask) -> Result<Value, CollectError> {
        Ok(self.desk.as_ref().ok_or(CollectError::NoHub)?.answer(ask)?)
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
}

/// The counters of the control loop, by name.
pub(super) fn counters(status: &Status) -> Vec<(&'static str, u64)> {
    let Status { control, links, neighbours, host, health, oam, .. } = status;
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
        ("membership_reports", status.memberships.reports),
        ("membership_queries_heard", status.memberships.queries_heard),
        ("membership_queries_sent", status.memberships.queries_sent),
        ("membership_malformed", status.memberships.malformed),
        ("membership_unwanted", status.memberships.unwanted),
        ("membership_groups_refused", status.memberships.groups_refused),
        ("membership_sources_refused", status.memberships.sources_refused),
        ("joins_queries", status.joins.queries),
        ("joins_reports", status.joins.reports),
        ("signals_reports", status.signals.reports),
        ("signals_queries", status.signals.queries),
        ("signals_sent", status.signals.sent),
        ("signals_asked", status.signals.asked),
        ("signals_unsent", status.signals.unsent),
        ("signals_malformed", status.signals.malformed),
        ("signals_unwanted", status.signals.unwanted),
        ("signals_refused", status.signals.refused),
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
        ("server_ids_shared", control.server_ids_shared),
        ("probes_inconclusive", health.inconclusive),
        ("probes_put_off", health.put_off),
        ("addresses_unprobed", health.unprobed),
        ("bier_echo_requests", oam.requests),
        ("bier_echo_replies_sent", oam.replies_sent),
        ("bier_echo_replies_unsent", oam.replies_unsent),
        ("bier_echo_asked", oam.asked),
        ("bier_echo_replies", oam.replies),
        ("bier_echo_replies_strange", oam.replies_strange),
        ("bier_echo_malformed", oam.malformed),
        ("bier_expired_shown", oam.expired),
    ]
}

fn ratio(of: u64, whole: u64) -> f64 {
    if whole == 0 { 0.0 } else { of as f64 / whole as f64 }
}

/// Readings of the fates, of which the best counts.
const READINGS_MAX: usize = 100;
