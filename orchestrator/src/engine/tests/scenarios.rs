//! Told scenarios: what happens, and what must come of it.

use super::super::{Closed, TICK};
use super::*;

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
fn a_minimum_that_cannot_be_had_is_tried_ever_more_rarely() {
    let mut world = World::new();
    world.connect(1);
    world.greet("n0");
    world.greet("n1");
    let mut started = Vec::new();
    for _ in 0..12_000 {
        for name in NODES {
            while let Some(NodeDown::Start(start)) = world.nodes[name].inbox.first().cloned() {
                started.push(world.now);
                world.obey(name);
                let nth = world.nodes[name].has.keys().position(|id| *id == start.instance).unwrap();
                world.advance(name, nth, InstanceState::Failed);
            }
        }
        world.pass(100);
    }
    // The attempts of one round follow each other at once.
    started.dedup_by(|later, first| *later - *first < Duration::from_secs(1));
    let rests: Vec<u64> = started.windows(2).map(|two| (two[1] - two[0]).as_secs()).collect();
    assert_eq!(rests, [5, 10, 20, 40, 80, 160, 300, 300], "{started:?}");
    let before = world.now;
    world.greet("n1");
    assert!(NODES.iter().any(|name| !world.nodes[name].inbox.is_empty()), "a node has come: at once");
    assert_eq!(world.now, before);
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
    for _ in 0..15 {
        assert_eq!(world.states("floor").len(), 2);
        world.now += TICK;
        world.engine.tick(world.now);
        world.collect();
    }
    assert_eq!(world.states("floor"), []);
    world.greet("n0");
    world.greet("n1");
    assert_eq!(world.engine.view().service("floor").unwrap().instances, before);
}

#[test]
fn an_orchestrator_that_did_not_run_for_a_while_loses_no_node_by_it() {
    let mut world = settled();
    world.up(1, notice("cold", 9, 1));
    world.run();
    // The machine was busy elsewhere; what the nodes said meanwhile is read after the clock.
    world.now += Duration::from_secs(5);
    world.engine.tick(world.now);
    world.collect();
    assert_eq!(world.states("cold"), [InstanceState::Ready], "nobody wakes it a second time");
    world.pass(100);
    assert_eq!(world.states("floor"), [InstanceState::Ready; 2]);
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
            Output::Close(NodeSession(1), Closed::UnknownNode("stranger".to_owned())),
            Output::Close(NodeSession(2), Closed::NoAddress("n0".to_owned())),
            Output::Close(NodeSession(3), Closed::NoGreeting),
        ]
    );
}

/// [`config`], with one service less, one more, and other bounds.
fn other_config(floor_leads_to: &str) -> Config {
    let function = |name: &str, min, max| FunctionConfig {
        name: name.to_owned(),
        memory_bytes: 10 * MIB,
        deadline_ms: 100,
        instances_min: min,
        instances_max: max,
        pattern: Pattern::Pack,
    };
    let service = |name: &str, function: &str| ServiceConfig {
        name: name.to_owned(),
        function: function.to_owned(),
        port: 0,
    };
    let node = |name: &str| NodeConfig { name: name.to_owned(), address: None };
    Config::new(
        vec![function("floor", 1, 1), function("new", 1, 2)],
        vec![service("floor", floor_leads_to), service("new", "new")],
        vec![node("n0"), node("n2")],
    )
    .unwrap()
}

#[test]
fn another_configuration_drains_what_is_gone_and_starts_what_is_new() {
    let mut world = settled();
    world.up(1, notice("cold", 9, 1));
    world.run();
    assert_eq!(world.states("cold"), [InstanceState::Ready]);
    world.engine.replace(other_config("floor"), world.now);
    world.collect();
    assert_eq!(world.states("cold"), [InstanceState::Draining], "its requests are waited for");
    assert_eq!(world.engine.pending("new"), 1, "a minimum is kept from the start");
    let draining = world.states("floor").iter().filter(|state| **state == InstanceState::Draining).count();
    assert_eq!(draining, 1, "one more than the new maximum");
    world.read(1);
    let stops: Vec<&NodeDown> = world.nodes.values().flat_map(|node| &node.inbox).collect();
    assert!(
        stops.iter().any(|down| matches!(down, NodeDown::Stop(stop) if stop.drain_ms == 100)),
        "{stops:?}"
    );
    world.run();
    assert_eq!(world.states("cold"), []);
    assert_eq!(world.states("new"), [InstanceState::Ready]);
    assert_eq!(world.states("floor"), [InstanceState::Ready]);
    // Nobody wakes what is gone.
    world.up(1, notice("cold", 9, 2));
    world.run();
    assert_eq!(world.states("cold"), []);
    assert!(world.engine.services.keys().eq(["floor", "new"]), "{:?}", world.engine.services.keys());
    // And back again.
    world.engine.replace(config(), world.now);
    world.collect();
    world.up(1, notice("cold", 9, 3));
    world.run();
    assert_eq!(world.states("cold"), [InstanceState::Ready]);
}

#[test]
fn a_service_that_leads_to_another_function_gets_instances_of_that_one() {
    let mut world = settled();
    world.engine.replace(other_config("new"), world.now);
    world.collect();
    assert!(world.states("floor").iter().all(|state| *state == InstanceState::Draining));
    world.run();
    assert_eq!(
        world.states("floor"),
        [InstanceState::Ready; 2],
        "as many as before, for the new bounds allow it"
    );
    let functions: Vec<&str> = world.engine.of("floor").map(|(_, record)| &*record.function).collect();
    assert_eq!(functions, ["new"; 2]);
}
