//! The control loop: one plain thread that looks at everything in turn and never waits for anything.
//!
//! One [`Control::turn`], in this order, because the first things are waited for by clients:
//!
//! ```text
//!  events ─► notices handed to the link, and only then marked in the slots
//!  link   ─► placements into the builder, instances' neighbours asked for
//!  punts  ─► ARP and ND ─► neighbours into the builder, frames that waited sent
//!         ├► IGMP and MLD ─► listeners into the builder, questions sent
//!         └► host stack ─► probes of backends and instances
//!  publish ─► slots to Ready ─► Applied
//!  now and then: idle services, quarantines, deadlines, retired snapshots
//! ```

mod ask;
mod cookies;
mod frames;
mod health;
mod journal;
mod lifecycle;
mod moves;
mod notices;
mod orchestrator;
mod parcels;
mod placements;
mod reload;
mod server_ids;
mod strikes;
mod thread;

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::sync::mpsc::Receiver;

use millrace_config::model::Config;
use millrace_fastpath::addr::Addr;
use millrace_fastpath::clock::Nanos;
use millrace_fastpath::event::Event;
use millrace_fastpath::shared::{Publisher, Shared};
use millrace_fastpath::slots::Phase;
use millrace_fastpath::tables::interfaces::InterfaceId;
use millrace_fastpath::tables::names::HashKey;
use millrace_fastpath::tables::services::ServiceId;
use millrace_fastpath::tables::{Generation, Hub};
use millrace_fastpath::wire::quic_lb::ServerId;
use millrace_orchestrator_api::Link;

use crate::builder::{BuildError, PortInfo, TableBuilder, TableFiles, floating};
use crate::host::HostStack;
use crate::membership;
use crate::neighbour::{Machine, Output};
use crate::oam::Oam;
use ask::Ask;
pub use ask::{Asker, Members, ReloadError, Status};
use cookies::CookieRoll;
pub use health::{AddressHealth, HandshakeHealth, HealthCounters, InstanceHealth};
pub use journal::{Journal, WAKES_MAX, Wake};
use lifecycle::Lifecycle;
pub use lifecycle::QUARANTINE_NANOS;
pub use orchestrator::LinkCounters;
use orchestrator::Orchestrator;
pub(crate) use parcels::Bucket;
use parcels::{Kept, Parcels};
pub use strikes::STRIKES_MAX;
pub use thread::{ControlThread, monotonic};

/// What the control loop can't find in the configuration.
#[derive(Clone, Debug, Default)]
pub struct Settings {
    /// Chosen anew at each start; with the sequence it makes a notice's identity.
    pub boot: u64,
    /// Secret of the hash that names are found by.
    pub names_key: HashKey,
    /// The wall clock minus the monotonic clock, in nanoseconds since 1970-01-01 UTC.
    pub unix_offset_nanos: u64,
    /// The files that the configuration names for DNS.
    pub table_files: TableFiles,
    /// What workers are told of the content hub, where there is one.
    pub hub: Option<Arc<Hub>>,
}

/// What the control loop counted, for the operator.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ControlCounters {
    /// First packets whose wake was called off because the link wouldn't take the notice.
    pub wakes_cancelled: u64,
    /// Wakes that came to nothing.
    pub wakes_failed: u64,
    /// Wakes by a query that no flow followed.
    pub wakes_unused: u64,
    /// Wakes by a packet that readied an instance to which nobody completed a handshake.
    pub wakes_unproductive: u64,
    /// Notices of new triples for services that had an instance already.
    pub arrivals: u64,
    /// Wakes that led to a ready service.
    pub wakes_ready: u64,
    /// Frames for the host stack, the neighbours or the listeners that came faster than their limit.
    pub punts_limited: u64,
    /// Frames taken from workers.
    pub punts: u64,
    /// QUIC server ids that several instances of a service came to share.
    pub server_ids_shared: u64,
    /// Snapshots published.
    pub published: u64,
}

/// The control loop.
pub struct Control<L> {
    shared: Arc<Shared>,
    publisher: Publisher,
    builder: TableBuilder,
    neighbours: Machine<Kept>,
    memberships: membership::Machine,
    joins: membership::Joins,
    signals: membership::Signals,
    host: Box<dyn HostStack>,
    health: health::Health,
    orchestrator: Orchestrator<L>,
    oam: Oam,
    parcels: Parcels,
    lifecycles: Vec<Lifecycle>,
    journal: Journal,
    cookies: Option<CookieRoll>,
    settings: Settings,
    site: String,
    /// Next hops that instances and routes need, by how many need them.
    wanted: HashMap<(InterfaceId, Addr), usize>,
    wanted_by: Vec<Vec<(InterfaceId, Addr)>>,
    wanted_by_routes: Vec<(InterfaceId, Addr)>,
    neighbour_bucket: Bucket,
    membership_bucket: Bucket,
    host_bucket: Bucket,
    arrival_bucket: Bucket,
    /// Services with a notice out or on the way to ready: looked at each turn.
    moving: Vec<ServiceId>,
    next_scan: Nanos,
    shared_server_ids: HashMap<ServiceId, HashSet<ServerId>>,
    /// A ping or trace is under way.
    oam_waits: bool,
    counters: ControlCounters,
    outputs: Vec<Output<Kept>>,
    membership_outputs: Vec<membership::Output>,
    signal_outputs: Vec<membership::Signal>,
    host_frames: Vec<(InterfaceId, Vec<u8>)>,
    host_events: Vec<Event>,
    asker: Asker,
    asks: Receiver<Ask>,
}

impl<L: Link> Control<L> {
    /// A control loop over `shared`, which nobody has published to yet. Publishes the first tables, in which nothing is
    /// placed, and keeps on-demand services from being woken until the orchestrator has told its placement.
    ///
    /// # Errors
    /// The configuration and the ports don't fit together.
    pub fn new(
        config: &Config,
        ports: &[PortInfo],
        shared: Arc<Shared>,
        link: L,
        host: Box<dyn HostStack>,
        mut settings: Settings,
        now: Nanos,
    ) -> Result<Self, BuildError> {
        // Taken, so that records don't stay in memory beside the tables.
        let files = std::mem::take(&mut settings.table_files);
        let cookies = CookieRoll::start(config, &files.cookie_secrets, settings.unix_offset_nanos, now);
        let mut builder = TableBuilder::new(config, ports, files, settings.names_key)?;
        if let Some(cookies) = &cookies {
            builder.set_cookies(cookies.keys());
        }
        builder.set_hub(settings.hub.take());
        let neighbours = Machine::new(
            &builder.tables().interfaces,
            floating(config).map(|(addr, _)| addr),
            builder.static_neighbours(),
            usize::try_from(config.limits.neighbours_max).unwrap_or(usize::MAX),
        );
        let services = builder.specs().len();
        let (asker, asks) = ask::channel();
        let mut control = Self {
            publisher: Publisher::new(Arc::clone(&shared)),
            parcels: Parcels::new(Arc::clone(&shared)),
            oam: Oam::new(settings.boot),
            shared,
            builder,
            neighbours,
            memberships: membership::Machine::default(),
            joins: membership::Joins::new(settings.boot),
            signals: membership::Signals::default(),
            host,
            health: health::Health::default(),
            orchestrator: Orchestrator::new(link),
            lifecycles: (0..services).map(|_| Lifecycle::default()).collect(),
            journal: Journal::default(),
            cookies,
            settings,
            site: config.site.name.as_str().to_owned(),
            wanted: HashMap::new(),
            wanted_by: vec![Vec::new(); services],
            wanted_by_routes: Vec::new(),
            neighbour_bucket: Bucket::new(NEIGHBOUR_FRAMES_PER_SECOND, NEIGHBOUR_FRAMES_PER_SECOND / 10),
            membership_bucket: Bucket::new(MEMBERSHIP_FRAMES_PER_SECOND, MEMBERSHIP_FRAMES_PER_SECOND / 10),
            host_bucket: Bucket::new(HOST_FRAMES_PER_SECOND, HOST_FRAMES_PER_SECOND / 10),
            arrival_bucket: Bucket::new(ARRIVALS_PER_SECOND, ARRIVALS_PER_SECOND),
            moving: Vec::new(),
            next_scan: now,
            shared_server_ids: HashMap::new(),
            oam_waits: false,
            counters: ControlCounters::default(),
            outputs: Vec::new(),
            membership_outputs: Vec::new(),
            signal_outputs: Vec::new(),
            host_frames: Vec::new(),
            host_events: Vec::new(),
            asker,
            asks,
        };
        for spec in control.builder.specs() {
            let phase = if spec.wakes() { Phase::Bypass } else { Phase::Ready };
            control.shared.slots.get(spec.id).set_phase(phase);
        }
        control.neighbours.start(now, &mut control.outputs);
        control.want_routes(config, now);
        control.ask_listeners(now);
        for id in 0..services {
            control.want_instances(ServiceId(id as u16), now);
            control.check_instances(ServiceId(id as u16), now);
        }
        control.carry_out(now);
        control.publish();
        Ok(control)
    }

    /// One turn. Whether there was anything to do, so that the next one should follow at once.
    pub fn turn(&mut self, now: Nanos) -> bool {
        let mut busy = self.watch_link(now);
        busy |= self.drain_events(now);
        busy |= self.receive_placements(now);
        busy |= self.receive_punts(now);
        let heard = self.run_host(now);
        busy |= heard | self.run_checks(now, heard);
        if self.neighbours.next_due().is_some_and(|due| due <= now) {
            self.neighbours.poll(now, &mut self.outputs);
            busy = true;
        }
        if self.memberships.next_due().is_some_and(|due| due <= now) {
            self.memberships.poll(now, &mut self.membership_outputs);
            busy = true;
        }
        self.joins.watch(now, self.shared.ports_down());
        if self.joins.next_due().is_some_and(|due| due <= now) {
            self.joins.poll(now, &mut self.membership_outputs);
            busy = true;
        }
        if self.signals.next_due().is_some_and(|due| due <= now) {
            self.signals.poll(now, self.builder.tables(), &mut self.signal_outputs);
            busy = true;
        }
        self.carry_out(now);
        self.publish();
        self.move_services(now);
        self.orchestrator.report_applied(&self.shared);
        if now >= self.next_scan {
            self.next_scan = now.plus(SCAN_NANOS);
            self.scan(now);
        }
        self.oam_waits = self.oam.is_waiting(now);
        self.answer(now);
        busy
    }

    /// The last turn: says what is to be said before nobody is here any more. Workers that end still send it.
    pub fn leave(&mut self, now: Nanos) {
        self.joins.leave(now, &mut self.membership_outputs);
        self.carry_out(now);
    }

    /// Whether a service is on its way to ready, and its clients wait for this loop, or an operator does for replies to a ping.
    pub fn is_waited_for(&self) -> bool {
        !self.moving.is_empty() || self.oam_waits
    }

    /// Who asks this loop how it is.
    pub fn asker(&self) -> Asker {
        self.asker.clone()
    }

    /// The wakes so far.
    pub fn journal(&self) -> &Journal {
        &self.journal
    }

    /// What was counted.
    pub fn counters(&self) -> ControlCounters {
        self.counters
    }

    /// What was counted on the link.
    pub fn link_counters(&self) -> LinkCounters {
        self.orchestrator.counters
    }

    /// Answers a question, if one has come; who doesn't wait for the answer any more gets none.
    fn answer(&mut self, now: Nanos) {
        match self.asks.try_recv() {
            Ok(Ask::Status(to)) => {
                let _ = to.try_send(Status {
                    link: self.orchestrator.state(),
                    placement: self.orchestrator.view().generation(),
                    control: self.counters,
                    links: self.orchestrator.counters,
                    neighbours: self.neighbours.counters(),
                    neighbours_len: self.neighbours.len(),
                    neighbours_parked: self.neighbours.parked(),
                    memberships: self.memberships.counters(),
                    joins: self.joins.counters(),
                    signals: self.signals.counters(),
                    host: self.host.counters(),
                    health: self.health.counters,
                    oam: self.oam.counters(),
                    injects_refused: self.parcels.refused,
                    answers_forgotten: self.builder.tables().services.forgotten(),
                });
            }
            Ok(Ask::Neighbours(to)) => {
                let _ = to.try_send((now, self.neighbours.rows().collect()));
            }
            Ok(Ask::Members(to)) => {
                let _ = to.try_send(Members {
                    now,
                    queriers: self.memberships.queriers().collect(),
                    members: self.memberships.members(now).collect(),
                    learnt: self.signals.learnt().collect(),
                });
            }
            Ok(Ask::Wakes(to)) => {
                let _ = to.try_send(self.journal.iter().cloned().collect());
            }
            Ok(Ask::Health(to)) => {
                let _ = to.try_send((now, self.healths()));
            }
            Ok(Ask::Echo(question, to)) => {
                let _ = to.try_send(self.ask_echo(*question, now));
            }
            Ok(Ask::Expired(to)) => {
                let _ = to.try_send((now, self.oam.expired().cloned()));
            }
            Ok(Ask::Draft(config, ports, to)) => {
                let draft = match ports {
                    Some(ports) => self.builder.draft_on(&config, ports),
                    None => self.builder.draft(&config),
                };
                let _ = to.try_send(draft);
            }
            Ok(Ask::Reload(reload, to)) => {
                let _ = to.try_send(self.reload(*reload, now));
            }
            // We hold a sender ourselves, so it is never disconnected.
            Err(_) => {}
        }
    }

    fn publish(&mut self) {
        if let Some(tables) = self.builder.take() {
            let generation = self.publisher.publish(tables);
            self.builder.published(generation);
            self.counters.published += 1;
        }
        self.orchestrator.published(self.generation());
    }

    /// The generation of the tables that are out.
    fn generation(&self) -> Generation {
        self.builder.generation()
    }
}

/// ARP and ND frames that are looked at per second: several hosts' worth of scans.
const NEIGHBOUR_FRAMES_PER_SECOND: u64 = 20_000;
/// IGMP and MLD frames that are looked at per second: a whole network's hosts that answer at once.
const MEMBERSHIP_FRAMES_PER_SECOND: u64 = 10_000;
/// Other frames for us per second: echo requests and TCP/53.
const HOST_FRAMES_PER_SECOND: u64 = 20_000;
/// Arrivals at services that have an instance already that the orchestrator is told of per second, over all services: a flood over
/// many of them must leave the link to wakes.
const ARRIVALS_PER_SECOND: u64 = 20;
/// How often services are looked at for idleness and such.
const SCAN_NANOS: u64 = 100_000_000;

#[cfg(test)]
mod tests;
