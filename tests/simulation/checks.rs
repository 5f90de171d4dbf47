//! What must hold at each step, and what when all is over.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::net::IpAddr;

use millrace_config::model::{FirstPacket, Verify};
use millrace_fastpath::addr::Addr;
use millrace_fastpath::driver::PortId;
use millrace_fastpath::queue::PARCELS_MAX;
use millrace_fastpath::slots::{Escalation, Phase};
use millrace_fastpath::splice::connect::TRIES_MAX;
use millrace_fastpath::tables::InterfaceId;
use millrace_fastpath::tables::services::{Instance, InstanceState, ServiceId};
use millrace_orchestrator_api::InstanceId;
use smoltcp::wire::TcpControl;

use crate::appliance::{FRAMES, LAN, WAN};
use crate::random::Digest;
use crate::scenario::{BACKENDS, Facts, TCP_PORT};
use crate::wire::{Body, End, Read};
use crate::world::World;

/// What the checks remember.
#[derive(Default)]
pub(crate) struct Checks {
    /// How often bytes for an end came in, and how often they left.
    carried: HashMap<(bool, u64), (u32, u32)>,
    /// The same for SYNs of clients, by their number; and of which service they are.
    syns: HashMap<u32, (usize, u32, u32)>,
    /// Frames that can't be read, in and out.
    broken: (u32, u32),
    /// The numbers that servers begin with.
    first: HashSet<u32>,
    /// When the wake began that a slot shows: its number and the time.
    wakes: Vec<(u64, u64)>,
    /// Which instances have flows of a client, or of the appliance's port for it.
    owners: BTreeMap<(End, u8), Vec<Owner>>,
    restarts: u64,
    /// Prefixes of whoever sent something.
    prefixes: BTreeSet<u64>,
    /// Since when the tables have the neighbour at a station's address.
    neighbours: BTreeMap<IpAddr, u64>,
    pub(crate) counts: Counts,
}

/// That the world isn't empty.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Counts {
    pub(crate) served: u64,
    pub(crate) refused: u64,
    pub(crate) late: u64,
    pub(crate) notices: u64,
    pub(crate) handed_over: u64,
    pub(crate) held: u64,
    pub(crate) expired: u64,
    pub(crate) spliced: u64,
    pub(crate) evicted: u64,
    pub(crate) limited: u64,
    pub(crate) steps: u64,
}

impl Counts {
    pub(crate) fn add(&mut self, other: &Self) {
        self.served += other.served;
        self.refused += other.refused;
        self.late += other.late;
        self.notices += other.notices;
        self.handed_over += other.handed_over;
        self.held += other.held;
        self.expired += other.expired;
        self.spliced += other.spliced;
        self.evicted += other.evicted;
        self.limited += other.limited;
        self.steps += other.steps;
    }

    /// Whatever the simulation is there for has happened.
    pub(crate) fn check(&self) {
        let all = [
            self.served,
            self.refused,
            self.late,
            self.notices,
            self.handed_over,
            self.held,
            self.expired,
            self.spliced,
            self.evicted,
            self.limited,
        ];
        assert!(all.iter().all(|count| *count > 0), "something never happened: {self:?}");
    }
}

#[derive(Clone, Copy, Debug)]
struct Owner {
    station: usize,
    instance: InstanceId,
    /// That the client's side begins with.
    number: u32,
    restarts: u64,
    evicted: u64,
    at_ms: u64,
}

fn service_of(services: &[Facts], addr: IpAddr) -> Option<usize> {
    services.iter().position(|service| service.is_at(addr))
}

impl World {
    /// A frame that a port of the appliance took in.
    pub(crate) fn check_in(&mut self, port: PortId, read: Option<&Read<'_>>) {
        let Some(read) = read else {
            self.checks.broken.0 += 1;
            return;
        };
        let from_wan = port == WAN;
        self.checks.prefixes.insert(Addr::from(read.source).source_prefix());
        if from_wan
            && let Some((tcp, _, (addr, _))) = read.tcp()
            && tcp.control == TcpControl::Syn
            && let Some(service) = service_of(&self.scenario.services, addr)
        {
            self.checks.syns.entry(tcp.seq_number.0 as u32).or_insert((service, 0, 0)).1 += 1;
        }
        if !read.payload().is_empty() && !is_dns(read) {
            self.checks.carried.entry((from_wan, Digest::of(read.payload()))).or_default().0 += 1;
        }
    }

    /// A frame that was sent, and that can't be read: it came in like that.
    pub(crate) fn check_broken(&mut self, what: &str, frame: &[u8]) {
        let (came, left) = &mut self.checks.broken;
        *left += 1;
        assert!(*left <= *came, "{what} of a frame that was sent: {frame:02x?}");
    }

    /// A frame that a port of the appliance sent, right after the poll that did so.
    pub(crate) fn check_out(&mut self, port: PortId, read: &Read<'_>) {
        let services = &self.scenario.services;
        let answers = service_of(services, read.source);
        if !read.payload().is_empty() && !is_dns(read) {
            // What a service or an instance says comes from behind the appliance, all else from clients.
            let instance = self.stations.iter().any(|station| station.addresses.contains(&read.source));
            let key = (answers.is_none() && !instance, Digest::of(read.payload()));
            let (came, left) = self.checks.carried.entry(key).or_default();
            *left += 1;
            assert!(*left <= *came, "delivered {left} times what came {came} times: {read:?}");
        }
        let Some((tcp, _, _)) = read.tcp().filter(|(tcp, ..)| tcp.control == TcpControl::Syn) else { return };
        let number = tcp.seq_number.0 as u32;
        if tcp.ack_number.is_none() {
            let syn = self.checks.syns.get_mut(&number);
            let (service, came, left) = syn.unwrap_or_else(|| panic!("a SYN that no client sent: {read:?}"));
            let service = *service;
            *left += 1;
            let own =
                if services[service].handling == FirstPacket::Splice { u32::from(TRIES_MAX) } else { 0 };
            assert!(*left <= *came + own, "left {left} times what came {came} times: {read:?}");
            let is_first = *left == 1;
            let backend =
                BACKENDS.iter().any(|(v4, v6)| [*v4, *v6].contains(&read.destination.to_string().as_str()));
            if port == LAN && services[service].handling == FirstPacket::Forward && !backend {
                self.check_handed(service, "a SYN is passed on");
            }
            if port == LAN && is_first {
                self.check_choice(service, read.destination, tcp.dst_port);
            }
        } else if let Some(service) = answers.filter(|_| !self.checks.first.contains(&number)) {
            assert_eq!(
                services[service].handling,
                FirstPacket::Splice,
                "a handshake that nobody answered: {read:?}"
            );
            self.checks.counts.spliced += 1;
            self.check_handed(service, "a handshake is answered");
        }
    }

    /// A flow begins at an instance that takes new ones. What waited for a neighbour was sent on its way earlier, so only
    /// those are looked at whose neighbour has been known for longer than anything waits.
    fn check_choice(&self, service: usize, addr: IpAddr, port: u16) {
        let Some(since) = self.checks.neighbours.get(&addr) else { return };
        if self.now_ms() - since < NEIGHBOUR_MS_MAX {
            return;
        }
        let tables = self.appliance.shared.tables();
        let entry = tables.services.get(ServiceId(service as u16)).expect("the scenario's services stay");
        let addr = Addr::from(addr);
        let at = |one: &&Instance| one.addresses.contains(&Some(addr)) && one.port_for(TCP_PORT) == port;
        let instance = entry.instances.iter().find(at);
        assert!(
            instance.is_some_and(|one| one.state != InstanceState::Draining),
            "a flow of {} begins at {instance:?}",
            entry.name
        );
    }

    /// After a turn of the control loop.
    pub(crate) fn note_neighbours(&mut self) {
        let now_ms = self.now_ms();
        let tables = self.appliance.shared.tables();
        for addr in self.stations.iter().flat_map(|station| station.addresses) {
            if tables.neighbours.get(InterfaceId(LAN.0), Addr::from(addr)).is_some() {
                self.checks.neighbours.entry(addr).or_insert(now_ms);
            } else {
                self.checks.neighbours.remove(&addr);
            }
        }
    }

    /// The order that a handshake follows: the link has the notice, and only then a client is answered.
    fn check_handed(&self, service: usize, what: &str) {
        let facts = &self.scenario.services[service];
        let slot = self.appliance.shared.slots.get(ServiceId(service as u16));
        let (phase, wake) = slot.load();
        let (seen, began) = self.checks.wakes.get(service).copied().unwrap_or_default();
        // Wakes that led to nothing have the next one ask for a cookie as well.
        let cookie = facts.verify == Verify::Cookie || slot.escalation() == Escalation::Cookie;
        let handed = match phase {
            Phase::Waking if cookie => true,
            Phase::Waking => {
                let taken = &self.appliance.task.queues().taken;
                seen == wake.0 && taken.iter().any(|(name, at)| *name == facts.name && *at == began)
            }
            Phase::Cold => cookie || facts.handling == FirstPacket::Forward,
            Phase::Ready | Phase::Draining => true,
            Phase::Quarantined | Phase::Bypass | Phase::Down => facts.handling == FirstPacket::Forward,
        };
        assert!(handed, "{what} for {} in phase {phase:?} before its notice was handed over", facts.name);
    }

    /// A server begins a connection.
    pub(crate) fn begins(&mut self, number: u32) {
        self.checks.first.insert(number);
    }

    /// A segment or datagram has come to an instance. A flow stays with its own as long as both live.
    pub(crate) fn check_owner(&mut self, station: usize, instance: InstanceId, read: &Read<'_>) {
        let mut ours = self.scenario.config.ports.iter().flat_map(|port| &port.addresses);
        let translated = ours.any(|address| address.addr() == read.source);
        let (client, protocol, number, opens) = match &read.body {
            Body::Tcp(tcp) if tcp.control == TcpControl::Rst => return,
            Body::Tcp(tcp) => {
                let number = tcp.seq_number.0 as u32;
                ((read.source, tcp.src_port), 6, number, tcp.control == TcpControl::Syn)
            }
            // Of a datagram from a port of the appliance's nobody can tell whose it is.
            Body::Udp(source, ..) if !translated => ((read.source, *source), 17, 0, true),
            Body::Udp(..) | Body::Other => return,
        };
        let (at_ms, evicted) = (self.now_ms(), self.appliance.evicted());
        let now = Owner { station, instance, number, restarts: self.checks.restarts, evicted, at_ms };
        let owners = self.checks.owners.entry((client, protocol)).or_default();
        // Ports of the appliance's are another flow's soon, and at the same time with another instance.
        let of_flow = |owner: &&Owner| number.wrapping_sub(owner.number) < NUMBERS_MAX;
        let others = owners.iter().filter(|owner| (owner.station, owner.instance) != (station, instance));
        let moved: Vec<Owner> = others.filter(of_flow).copied().collect();
        if opens {
            owners.retain(|owner| (owner.station, owner.instance) != (station, instance));
            owners.push(now);
        }
        for before in moved.iter().filter(|_| protocol == 17 || !opens) {
            let excused = before.restarts != now.restarts || before.evicted != evicted;
            let lives = self.is_flow_alive(before, client, protocol);
            assert!(excused || !lives, "a flow moved from {before:?} to {now:?}: {read:?}");
        }
    }

    fn is_flow_alive(&self, owner: &Owner, client: End, protocol: u8) -> bool {
        let station = &self.stations[owner.station];
        let Some(instance) = station.instances.get(&owner.instance).filter(|_| station.up) else {
            return false;
        };
        match protocol {
            6 => station.addresses.iter().any(|addr| instance.server.knows(client, (*addr, instance.port))),
            // A conversation is remembered for two minutes; ports are used again after that.
            _ => self.now_ms() - owner.at_ms < 100_000,
        }
    }

    /// Whether the appliance may have forgotten flows.
    pub(crate) fn has_forgotten(&self) -> bool {
        self.checks.restarts > 0 || self.appliance.evicted() > 0
    }

    /// Between two polls.
    pub(crate) fn check_worker(&self, worker: usize) {
        let fates = self.appliance.fates(worker);
        fates.check().unwrap_or_else(|violation| panic!("worker {worker}: {violation:?}: {fates:#?}"));
        let prefixes = self.checks.prefixes.len() as u64 * u64::from(self.scenario.limits().holds_per_prefix);
        let bound = prefixes.min(self.scenario.holds as u64);
        assert!(fates.still_held <= bound, "worker {worker} holds {} of {bound}", fates.still_held);
        assert_eq!(
            fates.released + fates.expired,
            fates.release_sent + fates.release_punted + fates.release_dropped,
            "what left a hold of worker {worker} went somewhere: {fates:#?}"
        );
        let counters = &self.appliance.shared.workers[worker].counters;
        for (at, facts) in self.scenario.services.iter().enumerate() {
            let holds = counters.service(ServiceId(at as u16)).holds.get();
            let share = facts.hold_packets.div_ceil(self.scenario.workers as u32);
            assert!(holds <= u64::from(share), "worker {worker} holds {holds} for {}", facts.name);
        }
    }

    /// After each step.
    pub(crate) fn check_step(&mut self) {
        let appliance = &self.appliance;
        let fates = appliance.sum();
        assert!(fates.handed_out >= fates.handed_in, "more came out of the rings than went in");
        let mut begun = 0;
        for (at, facts) in self.scenario.services.iter().enumerate() {
            let (_, wake) = appliance.shared.slots.get(ServiceId(at as u16)).load();
            begun += wake.0;
            let queues = appliance.task.queues();
            let taken = queues.taken.iter().filter(|(name, _)| *name == facts.name).count() as u64;
            assert!(taken <= wake.0, "{}: {taken} notices of {} wakes", facts.name, wake.0);
        }
        let limits = self.scenario.limits().wakes;
        let workers = appliance.workers.len() as f64;
        let seconds = self.now.since(appliance.began) as f64 / 1e9;
        let returned: u64 = appliance.shared.workers.iter().map(|worker| worker.wakes_returned.get()).sum();
        let allowed = workers * (limits.burst + limits.per_second * seconds) + returned as f64;
        assert!(begun as f64 <= allowed + 1e-6, "{begun} wakes of {allowed}");
        for worker in &appliance.shared.workers {
            let queues = &worker.queues;
            let injects = queues.injects.len() + queues.injects_empty.len();
            assert_eq!(injects, PARCELS_MAX, "parcels to the workers go round");
            assert!(queues.punts.len() + queues.punts_empty.len() <= PARCELS_MAX);
        }
        self.checks.counts.steps += 1;
    }

    /// Notes which wakes are out, after each poll: the clock stands still during one.
    pub(crate) fn note_wakes(&mut self) {
        self.checks.wakes.resize(self.scenario.services.len(), (0, 0));
        for (at, seen) in self.checks.wakes.iter_mut().enumerate() {
            let (_, wake) = self.appliance.shared.slots.get(ServiceId(at as u16)).load();
            if wake.0 != seen.0 {
                *seen = (wake.0, self.now.0);
            }
        }
    }

    /// The appliance ends here, with what it has done so far.
    pub(crate) fn close_books(&mut self) {
        let sum = self.appliance.sum();
        let counts = &mut self.checks.counts;
        counts.notices += self.appliance.task.queues().taken.len() as u64;
        counts.handed_over += sum.handed_out;
        counts.held += sum.held;
        counts.expired += sum.expired;
        counts.evicted += self.appliance.evicted();
        let limited =
            self.appliance.shared.workers.iter().map(|worker| worker.counters.fates.wakes_limited.get());
        counts.limited += limited.sum::<u64>();
        self.checks.restarts += 1;
        self.checks.wakes.clear();
        self.checks.neighbours.clear();
    }

    /// Whether all has come to rest as it should; what hasn't, for who asks why.
    pub(crate) fn unsettled(&self) -> Option<String> {
        let appliance = &self.appliance;
        let sum = appliance.sum();
        if sum.still_held > 0 {
            return Some(format!("{} packets are still held", sum.still_held));
        }
        if sum.handed_in != sum.handed_out {
            return Some("the rings aren't empty".to_owned());
        }
        for (at, facts) in self.scenario.services.iter().enumerate() {
            let (phase, _) = appliance.shared.slots.get(ServiceId(at as u16)).load();
            if !matches!(phase, Phase::Cold | Phase::Ready) {
                return Some(format!("{} is in phase {phase:?}", facts.name));
            }
        }
        let Some(engine) = &self.plane.engine else { return Some("no orchestrator".to_owned()) };
        let ours = Some((engine.view().generation(), engine.view().digest()));
        let theirs = appliance.task.queues().applied;
        if ours != theirs {
            return Some(format!("the orchestrator's placement is {ours:?}, the appliance's {theirs:?}"));
        }
        for worker in &appliance.shared.workers {
            let queues = &worker.queues;
            if queues.punts.len() + queues.punts_empty.len() != PARCELS_MAX {
                return Some("packets wait for neighbours".to_owned());
            }
        }
        if appliance.net.free_frames() != FRAMES {
            return Some(format!("{} of {FRAMES} frames are back", appliance.net.free_frames()));
        }
        None
    }
}

/// More than a client says on one connection.
const NUMBERS_MAX: u32 = 8192;
/// Longer than a packet waits for its neighbour.
const NEIGHBOUR_MS_MAX: u64 = 3000;

fn is_dns(read: &Read<'_>) -> bool {
    matches!(read.body, Body::Udp(53, ..) | Body::Udp(_, 53, _))
}
