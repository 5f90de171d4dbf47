//! The engine against simulated nodes and appliances: the world they live in.

mod any_order;
mod scenarios;

use std::collections::BTreeMap;
use std::time::Duration;

use millrace_orchestrator_api::{
    Down, FirstPacket, Generation, Idle, InstanceId, InstanceState, InstanceStatus, MacAddress, NodeDown,
    NodeHello, NodeKind, NodeUp, Start, Stop, Trigger, Up, View,
};

use super::{ApplianceId, Engine, NodeSession, Output, SETTLE};
use crate::config::{Config, FunctionConfig, NodeConfig, Pattern, ServiceConfig};

const MIB: u64 = 1 << 20;
const NODES: [&str; 2] = ["n0", "n1"];
const SERVICES: [&str; 3] = ["cold", "floor", "big"];

fn config() -> Config {
    let function = |name: &str, memory_mib: u64, min, max| FunctionConfig {
        name: name.to_owned(),
        memory_bytes: memory_mib * MIB,
        deadline_ms: 100,
        instances_min: min,
        instances_max: max,
        pattern: Pattern::Pack,
    };
    Config::new(
        vec![function("cold", 10, 0, 1), function("floor", 20, 2, 3), function("big", 60, 0, 1)],
        SERVICES
            .map(|name| ServiceConfig { name: name.to_owned(), function: name.to_owned(), port: 0 })
            .to_vec(),
        NODES.map(|name| NodeConfig { name: name.to_owned(), address: None }).to_vec(),
    )
    .unwrap()
}

fn notice(service: &str, boot: u64, sequence: u64) -> Up {
    Up::FirstPacket(FirstPacket {
        site: "edge".to_owned(),
        boot,
        sequence,
        service: service.to_owned(),
        trigger: Trigger::Syn,
        time_unix_ns: 0,
        ingress_port: "wan".to_owned(),
        vlan: None,
        source_mac: MacAddress::default(),
        destination_mac: MacAddress::default(),
        source_address: "192.0.2.1".parse().unwrap(),
        destination_address: "203.0.113.10".parse().unwrap(),
        next_header: 6,
        length_bytes: 60,
        flow_label: 0,
        dns: None,
        function_class: service.to_owned(),
    })
}

/// A serving node that does what it is told, when it is told to do it.
#[derive(Default)]
struct SimNode {
    session: Option<NodeSession>,
    inbox: Vec<NodeDown>,
    has: BTreeMap<InstanceId, (Start, InstanceState)>,
}

impl SimNode {
    fn status(start: &Start, state: InstanceState) -> InstanceStatus {
        InstanceStatus {
            instance: start.instance,
            service: start.service.clone(),
            function: start.function.clone(),
            state,
            port: 8000 + (start.instance.0 % 1000) as u16,
            memory_bytes: start.memory_bytes,
            reason: String::new(),
        }
    }

    fn memory_bytes(&self) -> u64 {
        self.has.values().map(|(start, _)| start.memory_bytes).sum()
    }
}

/// An appliance that may be slow.
#[derive(Default)]
struct SimAppliance {
    view: View,
    inbox: Vec<Down>,
    acknowledged: Vec<u64>,
}

struct World {
    engine: Engine,
    now: Duration,
    nodes: BTreeMap<&'static str, SimNode>,
    appliances: BTreeMap<ApplianceId, SimAppliance>,
    sessions: u64,
    generation: Generation,
}

impl World {
    fn new() -> Self {
        let engine = Engine::new(config(), 1, Duration::ZERO);
        let generation = engine.view().generation();
        World {
            engine,
            now: Duration::ZERO,
            nodes: NODES.map(|name| (name, SimNode::default())).into(),
            appliances: BTreeMap::new(),
            sessions: 0,
            generation,
        }
    }

    /// Delivers what the engine wants, and checks what must hold at all times.
    fn collect(&mut self) {
        for output in self.engine.outputs() {
            match output {
                Output::Appliance(id, down) => {
                    if let Some(appliance) = self.appliances.get_mut(&id) {
                        appliance.inbox.push(down);
                    }
                }
                Output::Node(session, down) => {
                    let node = self.nodes.values_mut().find(|node| node.session == Some(session));
                    node.expect("commands go to streams that are open").inbox.push(down);
                }
                Output::Close(session, _) => {
                    for node in self.nodes.values_mut().filter(|node| node.session == Some(session)) {
                        node.session = None;
                        node.inbox.clear();
                    }
                }
            }
        }
        for service in SERVICES {
            assert!(self.engine.pending(service) <= 1, "{service}: two pending starts");
        }
        assert!(self.engine.view().generation() >= self.generation, "generations grow");
        self.generation = self.engine.view().generation();
        for (name, node) in &self.nodes {
            assert!(node.memory_bytes() <= 100 * MIB, "{name} is overcommitted");
        }
    }

    fn greet(&mut self, name: &'static str) {
        self.sessions += 1;
        let session = NodeSession(self.sessions);
        let node = self.nodes.get_mut(name).unwrap();
        node.inbox.clear();
        node.session = Some(session);
        let hello = NodeHello {
            name: name.to_owned(),
            kind: NodeKind::Wasm,
            version: "0".to_owned(),
            ipv4_address: Some("198.51.100.21".parse().unwrap()),
            ipv6_address: None,
            memory_bytes: 100 * MIB,
            instances: node.has.values().map(|(start, state)| SimNode::status(start, *state)).collect(),
        };
        self.engine.node_says(session, NodeUp::Hello(hello), self.now);
        self.collect();
    }

    fn lose(&mut self, name: &str) {
        let node = self.nodes.get_mut(name).unwrap();
        node.inbox.clear();
        if let Some(session) = node.session.take() {
            self.engine.node_down(session, self.now);
            self.collect();
            let shown =
                self.engine.view().services().flat_map(|one| &one.instances).any(|one| one.node == name);
            assert!(!shown, "{name} is lost and still in the placement");
        }
    }

    fn say(&mut self, name: &str, start: &Start, state: InstanceState) {
        if let Some(session) = self.nodes[name].session {
            self.engine.node_says(session, NodeUp::Status(SimNode::status(start, state)), self.now);
            self.collect();
        }
    }

    /// The node obeys its oldest command. Nothing that a node was only told changes what is free there.
    fn obey(&mut self, name: &str) {
        let node = self.nodes.get_mut(name).unwrap();
        if node.inbox.is_empty() {
            return;
        }
        match node.inbox.remove(0) {
            NodeDown::Start(start) => {
                let state = InstanceState::Starting;
                node.has.insert(start.instance, (start.clone(), state));
                self.say(name, &start, state);
            }
            NodeDown::Stop(Stop { instance, .. }) => {
                let Some((start, _)) = node.has.remove(&instance) else { return };
                self.say(name, &start, InstanceState::Stopped);
            }
        }
    }

    /// The nth instance of the node goes on to a state by itself.
    fn advance(&mut self, name: &str, nth: usize, state: InstanceState) {
        let node = self.nodes.get_mut(name).unwrap();
        let Some(id) = node.has.keys().copied().nth(nth) else { return };
        let (start, was) = node.has.get_mut(&id).unwrap();
        let start = start.clone();
        match state {
            InstanceState::Failed | InstanceState::Stopped => {
                node.has.remove(&id);
            }
            _ if *was == InstanceState::Starting => *was = state,
            _ => return,
        }
        self.say(name, &start, state);
    }

    fn connect(&mut self, id: u64) {
        let id = ApplianceId(id);
        self.engine.appliance_down(id, self.now);
        let appliance = self.appliances.entry(id).or_default();
        appliance.inbox.clear();
        let applied = appliance.view.generation();
        self.engine.appliance_up(id, applied);
        self.collect();
    }

    fn up(&mut self, id: u64, up: Up) {
        self.engine.appliance_says(ApplianceId(id), up, self.now);
        self.collect();
    }

    /// The appliance reads what it was sent, and says what it applied.
    fn read(&mut self, id: u64) {
        let Some(appliance) = self.appliances.get_mut(&ApplianceId(id)) else { return };
        let mut applied = false;
        for down in std::mem::take(&mut appliance.inbox) {
            match down {
                Down::Snapshot(snapshot) => {
                    appliance.view.replace(snapshot);
                    applied = true;
                }
                Down::Delta(delta) => {
                    appliance.view.apply(delta).expect("nothing was lost on this stream");
                    applied = true;
                }
                Down::Acknowledge { sequence } => appliance.acknowledged.push(sequence),
            }
        }
        if applied {
            let (generation, digest) = (appliance.view.generation(), appliance.view.digest());
            self.up(id, Up::Applied { generation, digest });
        }
    }

    fn idle(&mut self, id: u64, service: &str) {
        let Some(appliance) = self.appliances.get(&ApplianceId(id)) else { return };
        let generation = appliance.view.generation();
        self.up(id, Up::Idle(Idle { service: service.to_owned(), generation }));
    }

    fn pass(&mut self, milliseconds: u64) {
        self.now += Duration::from_millis(milliseconds);
        for name in NODES {
            if let Some(session) = self.nodes[name].session {
                self.engine.node_says(session, NodeUp::Heartbeat { in_flight: 0, requests: 0 }, self.now);
            }
        }
        self.engine.tick(self.now);
        self.collect();
    }

    fn states(&self, service: &str) -> Vec<InstanceState> {
        self.engine.view().service(service).unwrap().instances.iter().map(|one| one.state).collect()
    }

    /// Nodes and appliances do all they are asked to.
    fn run(&mut self) {
        for _ in 0..64 {
            for name in NODES {
                while !self.nodes[name].inbox.is_empty() {
                    self.obey(name);
                }
                for nth in 0..self.nodes[name].has.len() {
                    self.advance(name, nth, InstanceState::Ready);
                }
            }
            let ids: Vec<ApplianceId> = self.appliances.keys().copied().collect();
            for id in ids {
                self.read(id.0);
            }
            self.pass(100);
        }
    }
}

/// Two nodes are up, an appliance is, and nothing is cold that shouldn't be.
fn settled() -> World {
    let mut world = World::new();
    world.connect(1);
    world.greet("n0");
    world.greet("n1");
    world.run();
    assert_eq!(world.states("floor"), [InstanceState::Ready; 2]);
    assert_eq!(world.states("cold"), []);
    world
}
