//! The engine against simulated nodes and appliances: told scenarios first, then any order of events.

use std::collections::BTreeMap;
use std::time::Duration;

use millrace_orchestrator_api::{
    Down, FirstPacket, Generation, Idle, InstanceId, InstanceState, InstanceStatus, MacAddress, NodeDown,
    NodeHello, NodeKind, NodeUp, Start, Stop, Trigger, Up, View,
};
use proptest::prelude::*;

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

#[test]
fn a_lookup_and_a_syn_start_one_instance() {
    let mut world = settled();
    world.up(1, notice("cold", 9, 1));
    world.up(1, notice("cold", 9, 2));
    assert_eq!(world.engine.pending("cold"), 1);
    assert_eq!(world.states("cold"), [], "it isn't bound yet");
    let node = NODES.into_iter().find(|name| !world.nodes[name].inbox.is_empty()).unwrap();
    world.obey(node);
    assert_eq!(world.states("cold"), [InstanceState::Starting]);
    world.run();
    assert_eq!(world.states("cold"), [InstanceState::Ready]);
    assert_eq!(world.appliances[&ApplianceId(1)].acknowledged, [1, 2]);
}

#[test]
fn a_wake_of_a_ready_service_repeats_its_placement() {
    let mut world = settled();
    world.up(1, notice("floor", 9, 1));
    let inbox = &world.appliances[&ApplianceId(1)].inbox;
    let [Down::Acknowledge { sequence: 1 }, Down::Delta(delta)] = &inbox[..] else { panic!("{inbox:?}") };
    assert_eq!(delta.from, delta.to);
    assert_eq!(delta.changes.len(), 1);
    assert_eq!(delta.changes[0].instances.len(), 2);
}

#[test]
fn an_idle_service_drains_and_its_memory_is_free_only_when_confirmed() {
    let mut world = settled();
    world.up(1, notice("cold", 9, 1));
    world.run();
    let node = world.engine.view().service("cold").unwrap().instances[0].node.clone();
    let free = world.engine.free_bytes(&node);
    world.idle(1, "cold");
    assert_eq!(world.states("cold"), [InstanceState::Draining]);
    assert!(world.nodes[&*node].inbox.is_empty(), "the node isn't told before the appliance has applied it");
    world.read(1);
    assert_eq!(world.nodes[&*node].inbox.len(), 1);
    assert_eq!(world.engine.free_bytes(&node), free);
    world.obey(&node);
    assert_eq!(world.states("cold"), []);
    assert_eq!(world.engine.free_bytes(&node), free + 10 * MIB);
}

#[test]
fn a_wake_while_draining_takes_the_instance_back() {
    let mut world = settled();
    world.up(1, notice("cold", 9, 1));
    world.run();
    let before = world.engine.view().service("cold").unwrap().instances[0].id;
    world.idle(1, "cold");
    world.up(1, notice("cold", 9, 2));
    world.run();
    let after = &world.engine.view().service("cold").unwrap().instances;
    assert_eq!((after.len(), after[0].id, after[0].state), (1, before, InstanceState::Ready));
}

#[test]
fn idleness_decided_before_the_present_placement_is_ignored() {
    let mut world = settled();
    let old = world.engine.view().generation();
    world.up(1, notice("cold", 9, 1));
    world.run();
    world.up(1, Up::Idle(Idle { service: "cold".to_owned(), generation: old }));
    assert_eq!(world.states("cold"), [InstanceState::Ready]);
}

#[test]
fn a_service_is_idle_when_every_appliance_says_so() {
    let mut world = settled();
    world.connect(2);
    world.up(1, notice("cold", 9, 1));
    world.run();
    world.idle(1, "cold");
    assert_eq!(world.states("cold"), [InstanceState::Ready]);
    world.idle(2, "cold");
    assert_eq!(world.states("cold"), [InstanceState::Draining]);
}

#[test]
fn a_start_that_fails_is_tried_elsewhere_and_given_up_after_three() {
    let mut world = settled();
    world.up(1, notice("cold", 9, 7));
    let mut tried = Vec::new();
    for _ in 0..3 {
        let name = NODES.into_iter().find(|name| !world.nodes[name].inbox.is_empty()).unwrap();
        tried.push(name);
        world.obey(name);
        let nth = world.nodes[name].has.len() - 1;
        world.advance(name, nth, InstanceState::Failed);
    }
    assert_ne!(tried[0], tried[1], "the other node comes first");
    let failure = world.engine.view().service("cold").unwrap().failure.clone().unwrap();
    assert!(failure.answers("edge", 9, 7));
    assert_eq!(world.engine.pending("cold"), 0);
    world.up(1, notice("cold", 9, 8));
    assert_eq!(world.engine.view().service("cold").unwrap().failure, None);
    world.run();
    assert_eq!(world.states("cold"), [InstanceState::Ready]);
}

#[test]
fn a_wake_without_room_waits_a_little_and_then_fails_with_the_reason() {
    let mut world = settled();
    world.lose("n0");
    world.lose("n1");
    world.up(1, notice("big", 9, 1));
    world.pass(900);
    assert_eq!(world.engine.view().service("big").unwrap().failure, None);
    world.pass(200);
    let failure = world.engine.view().service("big").unwrap().failure.clone().unwrap();
    assert!(failure.answers("edge", 9, 1));
    assert!(failure.reason.contains("60 MiB"), "{}", failure.reason);
}

#[test]
fn a_failure_answers_the_notices_that_joined_its_wake_and_no_others() {
    let mut world = settled();
    world.connect(2);
    world.lose("n0");
    world.lose("n1");
    world.up(1, notice("big", 9, 3));
    world.up(1, notice("big", 9, 4));
    world.up(2, notice("big", 10, 1));
    world.pass(500);
    world.pass(600);
    let failure = world.engine.view().service("big").unwrap().failure.clone().unwrap();
    assert!(failure.answers("edge", 9, 3) && failure.answers("edge", 9, 4));
    assert!(failure.answers("edge", 10, 1));
    assert!(!failure.answers("edge", 9, 5), "a notice that came later begins anew");
    assert!(!failure.answers("edge", 11, 1), "another boot counts apart");
    assert!(!failure.answers("far", 9, 3), "and so does another site");
}

#[test]
fn a_silent_node_leaves_the_placement_and_comes_back_with_what_it_kept() {
    let mut world = settled();
    let before = world.engine.view().service("floor").unwrap().instances.clone();
    world.now += Duration::from_secs(2);
    world.engine.tick(world.now);
    world.collect();
    assert_eq!(world.states("floor"), []);
    world.greet("n0");
    world.greet("n1");
    assert_eq!(world.engine.view().service("floor").unwrap().instances, before);
}

#[test]
fn a_restarted_orchestrator_says_nothing_until_the_nodes_are_back() {
    let mut world = settled();
    let before = world.engine.view().service("floor").unwrap().instances.clone();
    world.engine = Engine::new(config(), 1_000_000, world.now);
    for node in world.nodes.values_mut() {
        node.session = None;
        node.inbox.clear();
    }
    world.connect(1);
    world.up(1, notice("cold", 9, 1));
    world.greet("n0");
    let sent = |world: &World| {
        let inbox = &world.appliances[&ApplianceId(1)].inbox;
        inbox.iter().filter(|down| !matches!(down, Down::Acknowledge { .. })).count()
    };
    assert_eq!(sent(&world), 0);
    world.greet("n1");
    assert!(matches!(world.appliances[&ApplianceId(1)].inbox[1], Down::Snapshot(_)));
    world.read(1);
    assert_eq!(world.appliances[&ApplianceId(1)].view.service("floor").unwrap().instances, before);
    assert_eq!(world.engine.pending("cold"), 1, "the wake was kept");
}

#[test]
fn a_node_that_never_comes_holds_appliances_up_for_a_bounded_time() {
    let mut world = World::new();
    world.connect(1);
    world.greet("n0");
    assert!(world.appliances[&ApplianceId(1)].inbox.is_empty());
    world.pass(SETTLE.as_millis() as u64);
    assert!(matches!(world.appliances[&ApplianceId(1)].inbox[0], Down::Snapshot(_)));
}

#[test]
fn a_node_going_down_by_itself_gets_no_new_start() {
    let mut world = settled();
    world.up(1, notice("cold", 9, 1));
    world.run();
    let node = world.engine.view().service("cold").unwrap().instances[0].node.clone();
    let (start, _) =
        world.nodes[&*node].has.values().find(|(start, _)| start.service == "cold").unwrap().clone();
    world.say(&node, &start, InstanceState::Draining);
    assert_eq!(world.states("cold"), [InstanceState::Draining]);
    world.up(1, notice("cold", 9, 2));
    let other = NODES.into_iter().find(|name| *name != node).unwrap();
    assert!(matches!(&world.nodes[other].inbox[..], [NodeDown::Start(start)] if start.service == "cold"));
}

#[test]
fn an_unconfirmed_stop_is_asked_for_again() {
    let mut world = settled();
    world.up(1, notice("cold", 9, 1));
    world.run();
    let node = world.engine.view().service("cold").unwrap().instances[0].node.clone();
    world.idle(1, "cold");
    world.read(1);
    world.nodes.get_mut(&*node).unwrap().inbox.clear();
    world.pass(1000);
    assert!(world.nodes[&*node].inbox.is_empty());
    world.pass(1200);
    assert!(matches!(world.nodes[&*node].inbox[..], [NodeDown::Stop(_)]));
}

#[test]
fn strangers_are_refused() {
    let mut world = World::new();
    let hello = NodeHello {
        name: "stranger".to_owned(),
        kind: NodeKind::Wasm,
        version: String::new(),
        ipv4_address: None,
        ipv6_address: None,
        memory_bytes: 0,
        instances: Vec::new(),
    };
    world.engine.node_says(NodeSession(1), NodeUp::Hello(hello.clone()), world.now);
    let homeless = NodeHello { name: "n0".to_owned(), ..hello };
    world.engine.node_says(NodeSession(2), NodeUp::Hello(homeless), world.now);
    world.engine.node_says(NodeSession(3), NodeUp::Heartbeat { in_flight: 0, requests: 0 }, world.now);
    assert_eq!(
        world.engine.outputs(),
        [
            Output::Close(NodeSession(1), super::Closed::UnknownNode("stranger".to_owned())),
            Output::Close(NodeSession(2), super::Closed::NoAddress("n0".to_owned())),
            Output::Close(NodeSession(3), super::Closed::NoGreeting),
        ]
    );
}

#[derive(Debug, Clone)]
enum Event {
    Notice { appliance: u64, service: usize, again: bool },
    Idle { appliance: u64, service: usize },
    Connect(u64),
    Disconnect(u64),
    Read(u64),
    Resync(u64),
    Greet(usize),
    Lose(usize),
    Obey(usize),
    Advance { node: usize, nth: usize, state: InstanceState },
    Pass(u64),
}

fn event() -> impl Strategy<Value = Event> {
    let appliance = 1..3_u64;
    let service = 0..SERVICES.len();
    let node = 0..NODES.len();
    let state = prop_oneof![
        4 => Just(InstanceState::Ready),
        1 => Just(InstanceState::Failed),
        1 => Just(InstanceState::Stopped),
        1 => Just(InstanceState::Draining),
    ];
    prop_oneof![
        4 => (appliance.clone(), service.clone(), any::<bool>())
            .prop_map(|(appliance, service, again)| Event::Notice { appliance, service, again }),
        3 => (appliance.clone(), service).prop_map(|(appliance, service)| Event::Idle { appliance, service }),
        2 => appliance.clone().prop_map(Event::Connect),
        1 => appliance.clone().prop_map(Event::Disconnect),
        4 => appliance.clone().prop_map(Event::Read),
        1 => appliance.prop_map(Event::Resync),
        2 => node.clone().prop_map(Event::Greet),
        1 => node.clone().prop_map(Event::Lose),
        6 => node.clone().prop_map(Event::Obey),
        5 => (node, 0..4_usize, state).prop_map(|(node, nth, state)| Event::Advance { node, nth, state }),
        3 => (0..1500_u64).prop_map(Event::Pass),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn in_any_order_of_events_the_promises_hold(events in prop::collection::vec(event(), 1..120)) {
        let mut world = World::new();
        let mut sequence = 0;
        for event in events {
            // What was free on each node, to see that only the node's own word frees.
            let free = NODES.map(|name| world.engine.free_bytes(name));
            let frees = matches!(
                event,
                Event::Greet(_) | Event::Obey(_) | Event::Advance { .. }
            );
            match event {
                Event::Notice { appliance, service, again } => {
                    if again && sequence > 0 {
                        let before = world.engine.view().clone();
                        let pending = SERVICES.map(|name| world.engine.pending(name));
                        world.engine.appliance_says(
                            ApplianceId(appliance),
                            notice(SERVICES[service], 9, sequence),
                            world.now,
                        );
                        let outputs = world.engine.outputs();
                        if world.engine.appliances.contains_key(&ApplianceId(appliance)) {
                            prop_assert_eq!(
                                outputs,
                                [Output::Appliance(ApplianceId(appliance), Down::Acknowledge { sequence })]
                            );
                        }
                        prop_assert_eq!(world.engine.view(), &before);
                        prop_assert_eq!(SERVICES.map(|name| world.engine.pending(name)), pending);
                    } else if world.engine.appliances.contains_key(&ApplianceId(appliance)) {
                        sequence += 1;
                        world.up(appliance, notice(SERVICES[service], 9, sequence));
                    }
                }
                Event::Idle { appliance, service } => world.idle(appliance, SERVICES[service]),
                Event::Connect(id) => world.connect(id),
                Event::Disconnect(id) => {
                    world.engine.appliance_down(ApplianceId(id), world.now);
                    if let Some(appliance) = world.appliances.get_mut(&ApplianceId(id)) {
                        appliance.inbox.clear();
                    }
                    world.collect();
                }
                Event::Read(id) => world.read(id),
                Event::Resync(id) => world.up(id, Up::Resync),
                Event::Greet(node) => world.greet(NODES[node]),
                Event::Lose(node) => world.lose(NODES[node]),
                Event::Obey(node) => world.obey(NODES[node]),
                Event::Advance { node, nth, state } => world.advance(NODES[node], nth, state),
                Event::Pass(milliseconds) => world.pass(milliseconds),
            }
            if !frees {
                for (name, before) in NODES.into_iter().zip(free) {
                    prop_assert!(world.engine.free_bytes(name) <= before, "{name}: memory came free by itself");
                }
            }
            for service in SERVICES {
                let max = world.engine.config.service(service).unwrap().1.instances_max as usize;
                prop_assert!(world.engine.live(service) <= max);
            }
        }
        // However it went, once everything works again it comes to rest where it should.
        for id in [1, 2] {
            world.connect(id);
        }
        for name in NODES {
            world.greet(name);
        }
        world.pass(SETTLE.as_millis() as u64);
        world.run();
        world.run();
        let ready = world.states("floor");
        prop_assert!(ready.len() >= 2 && ready.iter().all(|state| *state == InstanceState::Ready), "{ready:?}");
        for id in [1, 2] {
            prop_assert_eq!(&world.appliances[&ApplianceId(id)].view, world.engine.view());
        }
        for name in NODES {
            prop_assert_eq!(world.engine.free_bytes(name), 100 * MIB - world.nodes[name].memory_bytes());
        }
    }
}
