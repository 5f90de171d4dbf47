//! The orchestrator, and the streams between it, the appliance and the serving nodes: each in order, late, and at times cut.

use std::collections::BTreeMap;
use std::time::Duration;

use millrace_fastpath::clock::Nanos;
use millrace_orchestrator::engine::{ApplianceId, Engine, NodeSession, Output};
use millrace_orchestrator_api::{Down, NodeDown, NodeUp, Up};

use crate::scenario::Scenario;
use crate::world::{Happening, World};

/// The orchestrator's process, and which streams lead to it.
pub(crate) struct ControlPlane {
    pub(crate) engine: Option<Engine>,
    /// Grows from one start to the next.
    first: u64,
    /// The appliance's stream.
    pub(crate) stream: Option<u64>,
    /// No stream holds.
    pub(crate) cut: bool,
    next: u64,
    /// When the last message of a stream arrives, by stream and direction.
    latest: BTreeMap<(u64, bool), Nanos>,
    /// How long messages take at most.
    pub(crate) delay_nanos: u64,
    /// Nothing gets through the appliance's stream before this.
    pub(crate) stalled_until: Nanos,
    /// Per cent of notices that arrive twice.
    pub(crate) twice: u64,
    ticked: Nanos,
}

impl ControlPlane {
    pub(crate) fn new(scenario: &Scenario, now: Nanos) -> Self {
        Self {
            engine: Some(Engine::new(scenario.placements(), 1, since(now))),
            first: 1,
            stream: None,
            cut: false,
            next: 1,
            latest: BTreeMap::new(),
            delay_nanos: 1_000_000,
            stalled_until: Nanos(0),
            twice: 0,
            ticked: now,
        }
    }
}

/// The engine counts from any moment.
fn since(now: Nanos) -> Duration {
    Duration::from_nanos(now.0)
}

impl World {
    /// When a message arrives that goes now.
    fn arrival(&mut self, stream: u64, up: bool) -> Nanos {
        let plane = &mut self.plane;
        let mut at = self.now.plus(50_000 + self.random.below(plane.delay_nanos));
        if plane.stream == Some(stream) {
            at = at.max(plane.stalled_until);
        }
        let latest = plane.latest.entry((stream, up)).or_default();
        *latest = at.max(*latest);
        *latest
    }

    /// The appliance's end tries to get a stream.
    pub(crate) fn connect_appliance(&mut self) {
        if self.plane.stream.is_some() {
            return;
        }
        if self.plane.cut || self.plane.engine.is_none() {
            let again = self.now.plus(100_000_000 + self.random.below(200_000_000));
            return self.at(again, Happening::Connect);
        }
        self.plane.next += 1;
        let stream = self.plane.next;
        self.plane.stream = Some(stream);
        let (applied, again) = self.appliance.task.greet();
        let at = self.arrival(stream, true);
        self.at(at, Happening::Greet(stream, applied, again));
        let at = self.arrival(stream, false).max(at.plus(50_000));
        self.at(at, Happening::Found(stream));
    }

    /// The appliance's stream ends; both sides notice in their own time.
    pub(crate) fn lose_appliance(&mut self) {
        let Some(stream) = self.plane.stream.take() else { return };
        let noticed = self.now.plus(self.random.below(250_000_000));
        self.at(noticed, Happening::Lost);
        if self.plane.engine.is_some() {
            let gone = self.now.plus(self.random.below(2_000_000_000));
            self.at(gone, Happening::Gone(stream));
        }
        let again = noticed.plus(10_000_000 + self.random.below(400_000_000));
        self.at(again, Happening::Connect);
    }

    pub(crate) fn connect_node(&mut self, at: usize) {
        if !self.stations[at].up || self.stations[at].session.is_some() {
            return;
        }
        if self.plane.engine.is_none() || self.stations[at].silent {
            let again = self.now.plus(100_000_000 + self.random.below(300_000_000));
            return self.at(again, Happening::ConnectNode(at));
        }
        self.plane.next += 1;
        let session = self.plane.next;
        self.stations[at].session = Some(session);
        let hello = self.stations[at].hello();
        self.node_says(at, hello);
        self.at(self.now.plus(500_000_000), Happening::Heartbeat(at, session));
    }

    /// A node's stream ends. `told`: the orchestrator sees its end, and not only silence.
    pub(crate) fn lose_node(&mut self, at: usize, told: bool) {
        let Some(session) = self.stations[at].session.take() else { return };
        if told {
            let noticed = self.now.plus(self.random.below(100_000_000));
            self.at(noticed, Happening::NodeGone(session));
        }
        let again = self.now.plus(50_000_000 + self.random.below(700_000_000));
        self.at(again, Happening::ConnectNode(at));
    }

    pub(crate) fn node_says(&mut self, at: usize, up: NodeUp) {
        let station = &self.stations[at];
        let Some(session) = station.session.filter(|_| !station.silent) else { return };
        let arrival = self.arrival(session, true);
        self.at(arrival, Happening::NodeUp(session, up));
    }

    pub(crate) fn node_hears(&mut self, session: u64, down: NodeDown) {
        let now_ms = self.now_ms();
        let Some(at) = self.stations.iter().position(|one| one.session == Some(session)) else { return };
        self.trace(|| format!("node {at} is told {down:?}"));
        if matches!(down, NodeDown::Stop(_)) && self.checks.health.shaken {
            self.note_rough();
        }
        let manners = self.manners;
        let (said, steps) = self.stations[at].told(down, now_ms, manners, &mut self.random);
        for up in said {
            self.node_says(at, up);
        }
        for (ms, step) in steps {
            self.at(self.now.plus(ms * 1_000_000), Happening::Step(at, step));
        }
    }

    /// The orchestrator dies, and its streams with it.
    pub(crate) fn crash_orchestrator(&mut self) {
        self.plane.engine = None;
        self.lose_appliance();
        for at in 0..self.stations.len() {
            self.lose_node(at, false);
        }
    }

    pub(crate) fn restart_orchestrator(&mut self) {
        if self.plane.engine.is_none() {
            self.plane.first += 1_000_000;
            let engine = Engine::new(self.scenario.placements(), self.plane.first, since(self.now));
            self.plane.engine = Some(engine);
        }
    }

    /// What the link's task has for the stream.
    pub(crate) fn forward_ups(&mut self) {
        let Some(stream) = self.plane.stream else { return };
        for _ in 0..UPS_PER_STEP {
            let Some(up) = self.appliance.task.next() else { break };
            let twice = matches!(up, Up::FirstPacket(_)) && self.random.percent(self.plane.twice);
            let at = self.arrival(stream, true);
            if twice {
                self.at(at, Happening::Up(stream, up.clone()));
            }
            self.at(at, Happening::Up(stream, up));
        }
    }

    pub(crate) fn tick_orchestrator(&mut self) {
        if self.now.since(self.plane.ticked) >= TICK_NANOS {
            self.plane.ticked = self.now;
            self.engine(|engine, now| engine.tick(now));
        }
    }

    /// Lets the engine do something, and has done what comes of it.
    pub(crate) fn engine(&mut self, act: impl FnOnce(&mut Engine, Duration)) {
        let now = since(self.now);
        let Some(engine) = &mut self.plane.engine else { return };
        act(engine, now);
        for service in self.scenario.services().iter().filter(|service| service.wakes) {
            let pending = engine.pending(&service.name);
            assert!(pending <= 1, "{} has {pending} pending starts", service.name);
        }
        for output in engine.outputs() {
            match output {
                Output::Appliance(ApplianceId(stream), down) => {
                    let at = self.arrival(stream, false);
                    self.at(at, Happening::Down(stream, down));
                }
                Output::Node(NodeSession(session), down) => {
                    let at = self.arrival(session, false);
                    self.at(at, Happening::NodeDown(session, down));
                }
                Output::Close(NodeSession(session), _) => {
                    let at = self.arrival(session, false);
                    self.at(at, Happening::Closed(session));
                }
            }
        }
    }

    pub(crate) fn appliance_hears(&mut self, stream: u64, down: Down) {
        if self.plane.stream == Some(stream) {
            self.trace(|| format!("the appliance is told {down:?}"));
            self.appliance.task.heard(down);
        }
    }
}

/// Messages that the link's task puts on the stream between two turns of the control loop.
const UPS_PER_STEP: usize = 8;
const TICK_NANOS: u64 = 100_000_000;
