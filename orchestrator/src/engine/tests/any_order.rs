//! Any order of events: what holds at all times, and that all comes to rest.

use proptest::prelude::*;

use super::*;

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
