//! The world: everything in one thread, on a clock that jumps from one thing that happens to the next.
//!
//! ```text
//!  clients ─┐                     ┌─ worker 0 ─┐                   ┌─ serving nodes, instances
//!  hostile ─┼─ wires, weather ────┼─ ...       ┼──── wires ────────┤
//!  upstream ┘                     └─ control ──┘                   └─ backends
//!                                       └── link ── streams ── orchestrator ── streams ── nodes
//! ```
//!
//! First comes a time of faults. Then everything that was broken is whole again, and whoever wants something gets it.

use std::collections::BTreeMap;

use millrace_fastpath::clock::Nanos;
use millrace_fastpath::driver::PortId;
use millrace_orchestrator::engine::{ApplianceId, NodeSession};
use millrace_orchestrator_api::{Down, Generation, NodeDown, NodeUp, Up};

use crate::appliance::{Appliance, LAN, ManualClock, WAN};
use crate::checks::{Checks, Counts};
use crate::client::{Client, Kind, Outcome, Wish};
use crate::control_plane::ControlPlane;
use crate::faults::{self, Fault};
use crate::hostile;
use crate::network::{FINE, Weather};
use crate::random::{Digest, Random};
use crate::scenario::{NODES, Scenario};
use crate::serving::{Manners, Station, Step, stations};
use crate::wire::{WAN_MAC, framed};

/// Something that happens at a time.
#[derive(Debug)]
pub(crate) enum Happening {
    /// A frame arrives at a port of the appliance.
    Arrives(PortId, Vec<u8>),
    /// A frame of the appliance arrives where its link-layer address is.
    Leaves(Vec<u8>),
    Connect,
    Greet(u64, Generation, Vec<Up>),
    Found(u64),
    Quiet(u64),
    Lost,
    Gone(u64),
    Up(u64, Up),
    Down(u64, Down),
    ConnectNode(usize),
    Heartbeat(usize, u64),
    NodeUp(u64, NodeUp),
    NodeDown(u64, NodeDown),
    NodeGone(u64),
    Closed(u64),
    Step(usize, Step),
    Fault(Fault),
    Hostile,
    /// A client wants something.
    Wish(usize, Wish),
}

pub(crate) struct World {
    pub(crate) scenario: Scenario,
    pub(crate) random: Random,
    pub(crate) now: Nanos,
    clock: ManualClock,
    pub(crate) appliance: Appliance,
    pub(crate) plane: ControlPlane,
    pub(crate) stations: Vec<Station>,
    pub(crate) clients: Vec<Client>,
    pub(crate) weather: Weather,
    pub(crate) manners: Manners,
    happenings: BTreeMap<(Nanos, u64), Happening>,
    order: u64,
    /// Before this the control loop doesn't turn, nor a worker poll.
    pub(crate) paused_until: Nanos,
    pub(crate) stalled: Vec<Nanos>,
    pub(crate) checks: Checks,
    pub(crate) digest: Digest,
    traced: bool,
    /// A port doesn't take all that is sent.
    pub(crate) ports_limited: bool,
    /// Wishes that have to come true.
    owed: usize,
    pub(crate) calm: bool,
}

/// The monotonic clock doesn't begin at zero.
const BEGIN: Nanos = Nanos(1_000_000_000_000);
pub(crate) const MS: u64 = 1_000_000;

impl World {
    /// Runs the world of a seed to its end. Gives a digest of all frames that the appliance sent, and when.
    pub(crate) fn run(seed: u64, traced: bool) -> (u64, Counts) {
        let mut random = Random(seed);
        let scenario = Scenario::draw(&mut random);
        if traced {
            println!("{}", scenario.plan.toml());
            println!("{} workers, {} flows, {} clients", scenario.workers, scenario.flows, scenario.clients);
        }
        let clock = ManualClock::default();
        clock.set(BEGIN);
        let appliance = Appliance::start(&scenario, &clock, BEGIN, &mut random);
        let mut world = Self {
            plane: ControlPlane::new(&scenario, BEGIN),
            stations: stations(scenario.node_memory_mib),
            clients: (0..scenario.clients).map(|at| Client::new(at, &mut random)).collect(),
            stalled: vec![Nanos(0); scenario.workers],
            scenario,
            random,
            now: BEGIN,
            clock,
            appliance,
            weather: FINE,
            manners: Manners { fails: 0, slow: 0 },
            happenings: BTreeMap::new(),
            order: 0,
            paused_until: Nanos(0),
            checks: Checks::default(),
            digest: Digest::default(),
            traced,
            ports_limited: false,
            owed: 0,
            calm: false,
        };
        world.note_configuration();
        world.note_allowance();
        world.prepare();
        let end = world.now.plus(world.scenario.chaos_ms * MS);
        while world.now < end {
            world.step();
        }
        world.mend();
        world.come_to_rest();
        world.close_books();
        (world.digest.0, world.checks.counts)
    }

    fn prepare(&mut self) {
        self.at(self.now, Happening::Connect);
        for at in 0..NODES.len() {
            self.at(self.now.plus(self.random.clone().below(200 * MS)), Happening::ConnectNode(at));
        }
        let random = &mut self.random;
        let until = self.scenario.chaos_ms;
        self.manners = Manners { fails: random.one_of(&[0, 8, 30]), slow: random.one_of(&[0, 10]) };
        self.plane.delay_nanos = random.one_of(&[500_000, 5 * MS, 40 * MS]);
        self.plane.twice = random.one_of(&[0, 30]);
        let faults = faults::draw(self.stations.len(), NODES.len(), self.scenario.workers, until, random);
        for (ms, fault) in faults {
            // What begins shortly before the end ends with it.
            self.at(BEGIN.plus(ms * MS), Happening::Fault(fault));
        }
        for at in 0..self.clients.len() {
            for _ in 0..self.random.within(1..=6) {
                let wish = self.any_wish();
                let when = self.now.plus(self.random.below(until * MS));
                self.at(when, Happening::Wish(at, wish));
            }
        }
        for _ in 0..self.random.below(20) {
            let when = self.now.plus(self.random.below(until * MS));
            self.at(when, Happening::Hostile);
        }
    }

    fn any_wish(&mut self) -> Wish {
        let service = self.random.below(self.scenario.services().len() as u64) as usize;
        let facts = &self.scenario.services()[service];
        let v4 = facts.v6.is_none() || self.random.percent(50);
        let kind = match self.random.below(6) {
            0 | 1 if facts.udp => Kind::Udp,
            2 if facts.by_dns => Kind::Name,
            _ => Kind::Tcp,
        };
        Wish { service, v4, kind }
    }

    /// Faults end here. Everybody wants everything once more.
    fn mend(&mut self) {
        self.trace(|| "all is mended".to_owned());
        self.happenings
            .retain(|_, happening| !matches!(happening, Happening::Fault(_) | Happening::Wish(..)));
        self.note_rough();
        self.weather = FINE;
        self.ports_limited = false;
        self.manners = Manners { fails: 0, slow: 0 };
        self.plane.delay_nanos = MS;
        self.plane.cut = false;
        self.paused_until = Nanos(0);
        self.stalled.fill(Nanos(0));
        [WAN, LAN].iter().for_each(|port| self.appliance.net.limit_transmit(*port, usize::MAX));
        self.restart_orchestrator();
        for at in 0..self.stations.len() {
            self.speak_again(at);
            let station = &mut self.stations[at];
            (station.cut, station.refuses) = (false, false);
            if !std::mem::replace(&mut station.up, true) && !station.is_backend() {
                self.connect_node(at);
            }
        }
        self.restore_configuration();
        self.calm = true;
        for service in 0..self.scenario.services().len() {
            let facts = self.scenario.services()[service].clone();
            for v4 in [true, false].into_iter().filter(|v4| *v4 || facts.v6.is_some()) {
                for kind in [Kind::Tcp, Kind::Udp].into_iter().filter(|kind| *kind == Kind::Tcp || facts.udp)
                {
                    let client = self.random.below(self.clients.len() as u64) as usize;
                    self.clients[client].wishes.push_back(Wish { service, v4, kind });
                    self.owed += 1;
                }
            }
        }
    }

    fn come_to_rest(&mut self) {
        let served_by = self.now.plus(SERVED_MS_MAX * MS);
        while self.owed > 0 {
            self.step();
            assert!(self.now < served_by, "{} wishes never come true", self.owed);
        }
        // What is left over from the last wishes goes its way, then nothing may be left.
        let settled_by = self.now.plus(SETTLED_MS_MAX * MS);
        let mut clients_rest = false;
        loop {
            self.step();
            clients_rest |= self.clients.iter().all(Client::is_idle);
            match self.unsettled().filter(|_| clients_rest) {
                None if clients_rest => return,
                Some(what) if self.now >= settled_by => panic!("{what}"),
                _ => assert!(self.now < settled_by, "the clients don't come to rest"),
            }
        }
    }

    pub(crate) fn now_ms(&self) -> u64 {
        self.now.0 / MS
    }

    pub(crate) fn at(&mut self, when: Nanos, happening: Happening) {
        self.order += 1;
        self.happenings.insert((when, self.order), happening);
    }

    pub(crate) fn trace(&self, line: impl FnOnce() -> String) {
        if self.traced {
            let micros = self.now.since(BEGIN) / 1000;
            println!("{:6}.{:03} {}", micros / 1000, micros % 1000, line());
        }
    }

    /// The appliance loses its power and starts anew.
    pub(crate) fn restart_appliance(&mut self) {
        self.close_books();
        if let Some(stream) = self.plane.stream.take() {
            self.at(self.now.plus(self.random.clone().below(2_000 * MS)), Happening::Gone(stream));
        }
        self.appliance = Appliance::start(&self.scenario, &self.clock, self.now, &mut self.random);
        self.note_configuration();
        self.note_allowance();
        self.stalled.fill(Nanos(0));
        self.paused_until = Nanos(0);
        self.at(self.now.plus(5 * MS), Happening::Connect);
    }

    /// Time goes on to the next thing that happens, and everybody does what is due.
    fn step(&mut self) {
        let now = self.next_time();
        self.now = now;
        self.clock.set(now);
        while let Some(entry) = self.happenings.first_entry().filter(|entry| entry.key().0 <= now) {
            let happening = entry.remove();
            self.happens(happening);
        }
        self.poll_workers();
        self.check_due_wakes();
        let turns = now >= self.paused_until;
        if turns {
            self.appliance.control.turn(now);
            self.note_neighbours();
            self.check_notices();
        }
        self.note_health(turns);
        self.forward_ups();
        self.tick_orchestrator();
        self.turn_clients();
        self.poll_servers();
        self.check_step();
    }

    fn next_time(&mut self) -> Nanos {
        let next = self.happenings.first_key_value().map_or(Nanos(u64::MAX), |((at, _), _)| *at);
        let clients = self.clients.iter().map(Client::due).min().unwrap_or(Nanos(u64::MAX));
        let servers = self.stations.iter().filter(|one| one.up).flat_map(|one| one.instances.values());
        let servers =
            servers.filter_map(|one| one.server.due_ms()).min().map_or(u64::MAX, |ms| ms.saturating_mul(MS));
        let sum = self.appliance.sum();
        let moving = sum.still_held > 0 || sum.handed_in != sum.handed_out;
        // Nobody says when the workers or the control loop have something to do: they look.
        let look = match (moving, self.calm) {
            (true, _) => 2 * MS,
            (false, false) => 10 * MS,
            (false, true) => 20 * MS,
        };
        let next = next.min(clients).min(Nanos(servers)).min(self.now.plus(look));
        next.max(self.now.plus(STEP_NANOS_MIN))
    }

    fn happens(&mut self, happening: Happening) {
        match happening {
            Happening::Arrives(port, frame) => self.arrives(port, &frame),
            Happening::Leaves(frame) => self.leaves(&frame),
            Happening::Connect => self.connect_appliance(),
            Happening::Greet(stream, applied, again) => self.engine(|engine, now| {
                engine.appliance_up(ApplianceId(stream), applied);
                again.into_iter().for_each(|up| engine.appliance_says(ApplianceId(stream), up, now));
            }),
            Happening::Found(stream) if self.plane.stream == Some(stream) => {
                self.trace(|| "the link is up".to_owned());
                self.appliance.task.set_up(true);
            }
            Happening::Quiet(stream) if self.plane.stream == Some(stream) => {
                self.trace(|| "the link is silent".to_owned());
                self.appliance.task.set_up(false);
            }
            Happening::Lost if self.plane.stream.is_none() => {
                self.trace(|| "the link is down".to_owned());
                self.appliance.task.set_up(false);
            }
            Happening::Found(_) | Happening::Quiet(_) | Happening::Lost => {}
            Happening::Gone(stream) => {
                self.engine(|engine, now| engine.appliance_down(ApplianceId(stream), now))
            }
            Happening::Up(stream, up) => {
                self.trace(|| format!("the orchestrator is told {up:?}"));
                if self.plane.stream == Some(stream) {
                    self.engine(|engine, now| engine.appliance_says(ApplianceId(stream), up, now));
                }
            }
            Happening::Down(stream, down) => self.appliance_hears(stream, down),
            Happening::ConnectNode(at) => self.connect_node(at),
            Happening::Heartbeat(at, session) => {
                if self.stations[at].session == Some(session) {
                    self.node_says(at, NodeUp::Heartbeat { in_flight: 0, requests: 0 });
                    self.at(self.now.plus(500 * MS), Happening::Heartbeat(at, session));
                }
            }
            Happening::NodeUp(session, up) => {
                // What a stream that has ended still carries is lost.
                if self.stations.iter().any(|one| one.session == Some(session)) {
                    self.trace(|| format!("node {session} says {up:?}"));
                    self.engine(|engine, now| engine.node_says(NodeSession(session), up, now));
                }
            }
            Happening::NodeDown(session, down) => self.node_hears(session, down),
            Happening::NodeGone(session) => {
                self.engine(|engine, now| engine.node_down(NodeSession(session), now))
            }
            Happening::Closed(session) => {
                if let Some(at) = self.stations.iter().position(|one| one.session == Some(session)) {
                    self.lose_node(at, false);
                }
            }
            Happening::Step(at, step) => self.station_steps(at, step),
            Happening::Fault(fault) => self.fault(fault),
            Happening::Hostile => {
                let prefixes = self.scenario.hostile_prefixes;
                let frame = hostile::frame(self.scenario.services(), prefixes, &mut self.random);
                self.send(Happening::Arrives(WAN, frame));
            }
            Happening::Wish(at, wish) => self.clients[at].wishes.push_back(wish),
        }
    }

    fn poll_workers(&mut self) {
        let workers = self.appliance.workers.len();
        let first = self.random.below(workers as u64) as usize;
        for round in 0..ROUNDS_MAX {
            let mut moved = 0;
            for at in 0..workers {
                let worker = (first + at) % workers;
                if self.stalled[worker] > self.now {
                    continue;
                }
                moved += self.appliance.workers[worker].poll();
                self.note_wakes(worker);
                self.check_worker(worker);
                self.collect(WAN);
                self.collect(LAN);
            }
            // At times a worker has more to do than there is time for.
            if moved == 0 || round > 1 && self.random.percent(20) {
                return;
            }
        }
    }

    fn turn_clients(&mut self) {
        let patience = if self.calm { 8_000 * MS } else { 3_000 * MS };
        for at in 0..self.clients.len() {
            if self.clients[at].due() > self.now {
                continue;
            }
            let mut out = Vec::new();
            let client = &mut self.clients[at];
            let outcome =
                client.turn(self.now, self.scenario.services(), patience, &mut self.random, &mut out);
            let mac = client.mac;
            for (others, packet) in out.into_iter().enumerate() {
                self.send_after(others, Happening::Arrives(WAN, framed(mac, WAN_MAC, &packet)));
            }
            if let Some((wish, outcome)) = outcome {
                let since = self.clients[at].answered_since.take();
                self.check_outcome(wish, outcome, since);
                self.came_of(at, wish, outcome);
            }
        }
    }

    fn came_of(&mut self, at: usize, wish: Wish, outcome: Outcome) {
        self.trace(|| format!("client {at}: {wish:?}: {outcome:?}"));
        let counts = &mut self.checks.counts;
        match outcome {
            Outcome::Served => counts.served += 1,
            Outcome::Refused => counts.refused += 1,
            Outcome::TooLate => counts.late += 1,
        }
        let client = &mut self.clients[at];
        if self.calm && outcome == Outcome::Served {
            self.owed = self.owed.saturating_sub(1);
        } else if self.calm {
            client.wishes.push_back(wish);
        }
        let rest = if self.calm && outcome != Outcome::Served { 2_000 } else { self.random.within(5..=200) };
        client.rests_until = self.now.plus(rest * MS);
    }
}

/// Things that happen within this time happen together.
const STEP_NANOS_MIN: u64 = 100_000;
/// How often the workers poll within one step.
const ROUNDS_MAX: usize = 6;
/// By then everybody has been served who asks again: a quarantine of a minute, one more failure, and some patience.
const SERVED_MS_MAX: u64 = 200_000;
/// By then nothing is left of what was: ports of the appliance's are free again two minutes after a conversation, and some
/// clients may still wait for one.
const SETTLED_MS_MAX: u64 = 150_000;
