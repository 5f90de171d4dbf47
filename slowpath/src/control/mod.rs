//! The control loop: one plain thread that looks at everything in turn and never waits for anything.
//!
//! One [`Control::turn`], in this order, because the first things are waited for by clients:
//!
//! ```text
//!  events ─► notices handed to the link, and only then marked in the slots
//!  link   ─► placements into the builder, instances' neighbours asked for
//!  punts  ─► ARP and ND ─► neighbours into the builder, frames that waited sent
//!         └► host stack
//!  publish ─► slots to Ready ─► Applied
//!  now and then: idle services, quarantines, deadlines, retired snapshots
//! ```

mod ask;
mod cookies;
mod journal;
mod lifecycle;
mod orchestrator;
mod parcels;
mod thread;

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::mpsc::Receiver;

use millrace_config::model::Config;
use millrace_fastpath::addr::Addr;
use millrace_fastpath::clock::Nanos;
use millrace_fastpath::event::{Event, PacketFields, Trigger};
use millrace_fastpath::queue::Punt;
use millrace_fastpath::shared::{Publisher, Shared};
use millrace_fastpath::slots::{Phase, WakeId};
use millrace_fastpath::tables::Generation;
use millrace_fastpath::tables::interfaces::InterfaceId;
use millrace_fastpath::tables::names::HashKey;
use millrace_fastpath::tables::services::ServiceId;
use millrace_orchestrator_api as api;
use millrace_orchestrator_api::{InstanceState, Link, LinkError, LinkState, ServicePlacement};
use tracing::{debug, info, warn};

use crate::builder::{BuildError, DnsFiles, PortInfo, TableBuilder, addresses, floating};
use crate::host::{HostContext, HostStack};
use crate::neighbour::{Machine, Output, is_discovery};
use ask::Ask;
pub use ask::{Asker, Status};
use cookies::CookieRoll;
pub use journal::{Journal, WAKES_MAX, Wake};
use lifecycle::{Lifecycle, Notice, Readying};
pub use lifecycle::{QUARANTINE_NANOS, STRIKES_MAX};
pub use orchestrator::LinkCounters;
use orchestrator::{Change, News, Orchestrator};
pub(crate) use parcels::Bucket;
use parcels::{Kept, Parcels};
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
    pub dns_files: DnsFiles,
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
    /// Wakes that led to a ready service.
    pub wakes_ready: u64,
    /// Frames for the host stack or the neighbours that came faster than their limit.
    pub punts_limited: u64,
    /// Frames taken from workers.
    pub punts: u64,
    /// Snapshots published.
    pub published: u64,
}

/// The control loop.
pub struct Control<L> {
    shared: Arc<Shared>,
    publisher: Publisher,
    builder: TableBuilder,
    neighbours: Machine<Kept>,
    host: Box<dyn HostStack>,
    orchestrator: Orchestrator<L>,
    parcels: Parcels,
    lifecycles: Vec<Lifecycle>,
    journal: Journal,
    cookies: Option<CookieRoll>,
    settings: Settings,
    site: String,
    ports: Vec<String>,
    /// Next hops that instances and routes need, by how many need them.
    wanted: HashMap<(InterfaceId, Addr), usize>,
    wanted_by: Vec<Vec<(InterfaceId, Addr)>>,
    neighbour_bucket: Bucket,
    host_bucket: Bucket,
    /// Services with a notice out or on the way to ready: looked at each turn.
    moving: Vec<ServiceId>,
    next_scan: Nanos,
    counters: ControlCounters,
    outputs: Vec<Output<Kept>>,
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
        let files = std::mem::take(&mut settings.dns_files);
        let cookies = CookieRoll::start(config, &files.cookie_secrets, settings.unix_offset_nanos, now);
        let mut builder = TableBuilder::new(config, ports, files, settings.names_key)?;
        if let Some(cookies) = &cookies {
            builder.set_cookies(cookies.keys());
        }
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
            shared,
            builder,
            neighbours,
            host,
            orchestrator: Orchestrator::new(link),
            lifecycles: (0..services).map(|_| Lifecycle::default()).collect(),
            journal: Journal::default(),
            cookies,
            settings,
            site: config.site.name.as_str().to_owned(),
            ports: config.ports.iter().map(|port| port.name.as_str().to_owned()).collect(),
            wanted: HashMap::new(),
            wanted_by: vec![Vec::new(); services],
            neighbour_bucket: Bucket::new(NEIGHBOUR_FRAMES_PER_SECOND, NEIGHBOUR_FRAMES_PER_SECOND / 10),
            host_bucket: Bucket::new(HOST_FRAMES_PER_SECOND, HOST_FRAMES_PER_SECOND / 10),
            moving: Vec::new(),
            next_scan: now,
            counters: ControlCounters::default(),
            outputs: Vec::new(),
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
        for route in &config.routes {
            if let Some(hop) = control.builder.next_hop(Addr::from(route.via)) {
                control.want(hop, now);
            }
        }
        for id in 0..services {
            control.want_instances(ServiceId(id as u16), now);
        }
        control.carry_out();
        control.publish();
        Ok(control)
    }

    /// One turn. Whether there was anything to do, so that the next one should follow at once.
    pub fn turn(&mut self, now: Nanos) -> bool {
        let mut busy = self.watch_link(now);
        busy |= self.drain_events(now);
        busy |= self.receive_placements(now);
        busy |= self.receive_punts(now);
        busy |= self.run_host(now);
        if self.neighbours.next_due().is_some_and(|due| due <= now) {
            self.neighbours.poll(now, &mut self.outputs);
            busy = true;
        }
        self.carry_out();
        self.publish();
        self.move_services(now);
        self.orchestrator.report_applied(&self.shared);
        if now >= self.next_scan {
            self.next_scan = now.plus(SCAN_NANOS);
            self.scan(now);
        }
        self.answer(now);
        busy
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
                    host: self.host.counters(),
                    injects_refused: self.parcels.refused,
                });
            }
            Ok(Ask::Neighbours(to)) => {
                let _ = to.try_send((now, self.neighbours.rows().collect()));
            }
            Ok(Ask::Wakes(to)) => {
                let _ = to.try_send(self.journal.iter().cloned().collect());
            }
            // We hold a sender ourselves, so it is never disconnected.
            Err(_) => {}
        }
    }

    fn watch_link(&mut self, now: Nanos) -> bool {
        let change = self.orchestrator.watch(now);
        if change == Some(Change::Lost) {
            for id in self.on_demand() {
                self.settle(id);
            }
        }
        change.is_some()
    }

    fn drain_events(&mut self, now: Nanos) -> bool {
        let shared = Arc::clone(&self.shared);
        let mut busy = false;
        for worker in &shared.workers {
            for _ in 0..EVENTS_PER_TURN_MAX {
                let Some(event) = worker.queues.events.pop() else { break };
                busy = true;
                self.event(event, now);
            }
        }
        busy
    }

    fn event(&mut self, event: Event, now: Nanos) {
        match event {
            Event::FirstPacket { service, wake, trigger, at, fields } => {
                self.first_packet(service, wake, trigger, at, &fields, now);
            }
            Event::Milestone { service, wake, what, at } => {
                self.journal.entry(service, wake).pass(what, at);
            }
        }
    }

    /// The order that everything else follows: the link has the notice, then the slot says so, then workers may answer.
    fn first_packet(
        &mut self,
        service: ServiceId,
        wake: WakeId,
        trigger: Trigger,
        at: Nanos,
        fields: &PacketFields,
        now: Nanos,
    ) {
        if self.builder.specs().get(service.index()).is_none() {
            return;
        }
        let begun = self.flows_begun(service);
        self.lifecycles[service.index()].asked = matches!(trigger, Trigger::Dns { .. }).then_some(begun);
        let notice = self.notice(service, trigger, at, fields);
        let shared = Arc::clone(&self.shared);
        let slot = shared.slots.get(service);
        let entry = self.journal.entry(service, wake);
        entry.seen = Some(at);
        entry.trigger = Some(trigger);
        entry.client = Some(fields.source);
        let result = if self.orchestrator.is_in_step() {
            self.orchestrator.notify(notice)
        } else {
            self.orchestrator.counters.refused_down += 1;
            Err(LinkError::Down)
        };
        let entry = self.journal.entry(service, wake);
        match result {
            Ok(sequence) => {
                slot.set_handed(wake);
                entry.sequence = sequence;
                entry.handed = Some(now.max(at));
                if slot.load() == (Phase::Ready, wake) {
                    // An instance was there before the notice.
                    entry.ready = Some(now.max(at));
                } else {
                    self.lifecycles[service.index()].notice = Some(Notice { wake, sequence, seen: at });
                    self.set_moving(service);
                }
            }
            Err(error) => {
                entry.failed = Some(now.max(at));
                entry.reason = error.to_string();
                self.counters.wakes_cancelled += 1;
                slot.cancel_wake(wake);
                self.settle(service);
            }
        }
    }

    /// Flows that a service has had, over all workers.
    fn flows_begun(&self, service: ServiceId) -> u64 {
        let workers = self.shared.workers.iter();
        workers.map(|worker| worker.counters.service(service).flows_begun.get()).sum()
    }

    fn notice(
        &self,
        service: ServiceId,
        trigger: Trigger,
        at: Nanos,
        fields: &PacketFields,
    ) -> api::FirstPacket {
        let spec = &self.builder.specs()[service.index()];
        let interface = self.builder.tables().interfaces.get(fields.interface);
        let port = interface.and_then(|interface| self.ports.get(interface.port.index()));
        let (trigger, kind) = match trigger {
            Trigger::Dns { query_type } => (api::Trigger::Dns, Some(query_type)),
            Trigger::Syn => (api::Trigger::Syn, None),
        };
        api::FirstPacket {
            site: self.site.clone(),
            boot: self.settings.boot,
            sequence: 0,
            service: spec.name.clone(),
            trigger,
            time_unix_ns: at.0.saturating_add(self.settings.unix_offset_nanos),
            ingress_port: port.cloned().unwrap_or_default(),
            vlan: interface.and_then(|interface| interface.vlan),
            source_mac: api::MacAddress(fields.source_mac),
            destination_mac: api::MacAddress(fields.destination_mac),
            source_address: fields.source.to_ip(),
            destination_address: fields.destination.to_ip(),
            next_header: fields.protocol,
            length_bytes: fields.length,
            flow_label: fields.flow_label,
            dns: kind.and_then(|kind| Some(api::DnsQuestion { name: spec.dns_names.first()?.clone(), kind })),
            function_class: spec.function.clone().unwrap_or_default(),
        }
    }

    fn receive_placements(&mut self, now: Nanos) -> bool {
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
    fn place(&mut self, id: ServiceId, now: Nanos) {
        let spec = &self.builder.specs()[id.index()];
        if !spec.wakes() {
            return;
        }
        let placement = self.orchestrator.view().service(&spec.name).cloned();
        self.builder.place(id, placement.as_ref());
        self.want_instances(id, now);
        let serves = placement.as_ref().is_some_and(serves);
        let shared = Arc::clone(&self.shared);
        let slot = shared.slots.get(id);
        let (phase, wake) = slot.load();
        let failure = placement.and_then(|placement| placement.failure);
        let lifecycle = &mut self.lifecycles[id.index()];
        let failed = failure.is_some() && failure != lifecycle.failure;
        lifecycle.failure = failure;
        if serves {
            if phase != Phase::Ready && lifecycle.readying.is_none() && lifecycle.idle_sent.is_none() {
                lifecycle.readying = Some(Readying { since: now, generation: None, published: now });
                self.set_moving(id);
            }
            return;
        }
        lifecycle.gone(slot);
        if phase == Phase::Waking && failed {
            let reason = lifecycle.failure.as_ref().map(|failure| failure.reason.clone()).unwrap_or_default();
            self.fail(id, wake, reason, now);
        }
        self.settle(id);
    }

    fn fail(&mut self, id: ServiceId, wake: WakeId, reason: String, now: Nanos) {
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
    fn settle(&mut self, id: ServiceId) {
        let slot = self.shared.slots.get(id);
        if self.lifecycles[id.index()].readying.is_some() {
            // It is about to be ready, and needs no wake.
        } else if self.orchestrator.is_in_step() {
            slot.transition(Phase::Bypass, Phase::Cold);
        } else if self.orchestrator.state() == LinkState::Down {
            slot.transition(Phase::Cold, Phase::Bypass);
        }
    }

    fn on_demand(&self) -> Vec<ServiceId> {
        self.builder.specs().iter().filter(|spec| spec.wakes()).map(|spec| spec.id).collect()
    }

    fn set_moving(&mut self, id: ServiceId) {
        if !self.moving.contains(&id) {
            self.moving.push(id);
        }
    }

    /// Has the next hops of a service's instances looked for, and no longer those that it had before.
    fn want_instances(&mut self, id: ServiceId, now: Nanos) {
        let Some(service) = self.builder.tables().services.get(id) else { return };
        let all = service.instances.iter().flat_map(|instance| instance.addresses.iter().flatten());
        let mut hops: Vec<_> = all.filter_map(|addr| self.builder.next_hop(*addr)).collect();
        hops.sort_unstable();
        hops.dedup();
        let before = std::mem::replace(&mut self.wanted_by[id.index()], hops.clone());
        for hop in hops {
            self.want(hop, now);
        }
        for hop in before {
            if let Some(count) = self.wanted.get_mut(&hop) {
                *count -= 1;
                if *count == 0 {
                    self.wanted.remove(&hop);
                    self.neighbours.want(now, hop.0, hop.1, false, &mut self.outputs);
                }
            }
        }
    }

    fn want(&mut self, hop: (InterfaceId, Addr), now: Nanos) {
        let count = self.wanted.entry(hop).or_default();
        *count += 1;
        if *count == 1 {
            self.neighbours.want(now, hop.0, hop.1, true, &mut self.outputs);
        }
    }

    fn receive_punts(&mut self, now: Nanos) -> bool {
        let mut busy = false;
        for worker in 0..self.shared.workers.len() {
            for _ in 0..PUNTS_PER_TURN_MAX {
                let Some(kept) = self.parcels.receive(worker) else { break };
                busy = true;
                self.counters.punts += 1;
                self.punt(kept, now);
            }
        }
        busy
    }

    fn punt(&mut self, kept: Kept, now: Nanos) {
        let interface = kept.parcel.interface;
        if kept.parcel.punt == Punt::NeighbourUnknown {
            let next_hop = kept.parcel.next_hop;
            return self.neighbours.resolve(now, interface, next_hop, kept, &mut self.outputs);
        }
        let frame = kept.parcel.bytes();
        let is_neighbour = match frame.get(12..14) {
            Some([0x08, 0x06]) => true,
            Some([0x86, 0xdd]) => is_discovery(&frame[14..]),
            _ => false,
        };
        let bucket = if is_neighbour { &mut self.neighbour_bucket } else { &mut self.host_bucket };
        if !bucket.take(now) {
            self.counters.punts_limited += 1;
        } else if is_neighbour {
            self.neighbours.receive(now, interface, frame, &mut self.outputs);
        } else {
            self.host.receive(now, interface, frame);
        }
        self.parcels.give_back(kept);
    }

    fn run_host(&mut self, now: Nanos) -> bool {
        if self.host.next_due().is_none_or(|due| due > now) {
            return false;
        }
        let mut context = HostContext {
            tables: self.builder.tables(),
            slots: &self.shared.slots,
            frames: &mut self.host_frames,
            events: &mut self.host_events,
        };
        self.host.poll(now, &mut context);
        for event in std::mem::take(&mut self.host_events) {
            self.event(event, now);
        }
        let frames = std::mem::take(&mut self.host_frames);
        for (interface, frame) in &frames {
            self.parcels.send(*interface, frame);
        }
        true
    }

    /// Does what the neighbours asked for.
    fn carry_out(&mut self) {
        for output in std::mem::take(&mut self.outputs) {
            match output {
                Output::Send(interface, frame) => self.parcels.send(interface, &frame),
                Output::Set(interface, addr, mac) => {
                    debug!(interface = interface.0, %addr, "neighbour found");
                    self.builder.set_neighbour(interface, addr, mac);
                }
                Output::Remove(interface, addr) => {
                    debug!(interface = interface.0, %addr, "neighbour gone");
                    self.builder.remove_neighbour(interface, addr);
                }
                Output::Release(interface, mac, kept) => {
                    match self.builder.tables().interfaces.get(interface) {
                        Some(ours) => self.parcels.forward(interface, ours.mac, mac, kept),
                        None => self.parcels.give_back(kept),
                    }
                }
                Output::Discard(kept) => self.parcels.give_back(kept),
                Output::Conflict(interface, addr, mac) => {
                    let interface = self.builder.tables().interfaces.get(interface);
                    let interface = interface.map_or("", |interface| interface.name.as_str());
                    warn!(interface, %addr, station = %Hex(mac), "another station uses an address of ours");
                }
            }
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

    /// Looks at the services that are on their way.
    fn move_services(&mut self, now: Nanos) {
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
    fn scan(&mut self, now: Nanos) {
        self.publisher.collect();
        if let Some(keys) = self.cookies.as_mut().and_then(|cookies| cookies.roll(now)) {
            self.builder.set_cookies(keys);
        }
        let oldest = self.shared.oldest_epoch();
        self.builder.collect(oldest, self.shared.workers.iter().map(|worker| &worker.counters));
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
            self.scan_idle(id, now);
        }
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
            _ => {}
        }
    }
}

/// Whether an instance answers.
fn serves(placement: &ServicePlacement) -> bool {
    placement.instances.iter().any(|instance| {
        instance.state == InstanceState::Ready && addresses(instance).iter().any(Option::is_some)
    })
}

struct Hex([u8; 6]);

impl std::fmt::Display for Hex {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let [a, b, c, d, e, g] = self.0;
        write!(f, "{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{g:02x}")
    }
}

/// Events taken from a worker in one turn: far more than come, and few enough that punts get their turn.
const EVENTS_PER_TURN_MAX: usize = 256;
/// Frames taken from a worker in one turn: handling them takes some tens of microseconds.
const PUNTS_PER_TURN_MAX: usize = 32;
/// Messages taken from the link in one turn.
const PLACEMENTS_PER_TURN_MAX: usize = 64;
/// ARP and ND frames that are looked at per second: several hosts' worth of scans.
const NEIGHBOUR_FRAMES_PER_SECOND: u64 = 20_000;
/// Other frames for us per second: echo requests and TCP/53.
const HOST_FRAMES_PER_SECOND: u64 = 20_000;
/// How often services are looked at for idleness and such.
const SCAN_NANOS: u64 = 100_000_000;
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

#[cfg(test)]
mod tests;
