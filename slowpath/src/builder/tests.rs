use millrace_fastpath::tables::services::{Endpoint, InstanceState};
use millrace_orchestrator_api::{Instance, InstanceId, InstanceState as Placed};

use super::*;
use crate::testing::{EDGE, LAN, LAN_20, WAN, addr, config, ports};

fn instance(id: u64, state: Placed) -> Instance {
    Instance {
        id: InstanceId(id),
        node: "fn1".into(),
        state,
        ipv4_address: Some("198.51.100.21".parse().unwrap()),
        ipv6_address: None,
        port: 9000 + id as u16,
        weight: 1,
    }
}

fn placement(instances: Vec<Instance>) -> ServicePlacement {
    ServicePlacement { service: "hello".into(), instances, failure: None }
}

#[test]
fn the_configuration_alone_gives_interfaces_routes_locals_and_backends() {
    let builder = TableBuilder::new(&config(), &ports(), TableFiles::default(), HashKey(1, 2)).unwrap();
    let tables = builder.tables();
    let names: Vec<&str> = tables.interfaces.iter().map(|(_, interface)| interface.name.as_str()).collect();
    assert_eq!(names, ["wan", "lan", "lan.20"]);
    assert_eq!(tables.interfaces.get(LAN).unwrap().mtu, 1500, "the smaller of file and device");
    assert_eq!(tables.interfaces.get(LAN_20).unwrap().vlan, Some(20));

    assert_eq!(builder.next_hop(addr("8.8.8.8")), Some((WAN, addr("192.0.2.254"))));
    assert_eq!(builder.next_hop(addr("10.20.0.9")), Some((LAN_20, addr("10.20.0.9"))));
    assert_eq!(builder.next_hop(addr("2001:db8:9::1")), None);
    assert_eq!(tables.neighbours.get(LAN, addr("198.51.100.7")), Some([2, 0, 0, 0, 0, 7]));

    let local = |text: &str| tables.interfaces.local(addr(text));
    assert!(local("192.0.2.1").is_some_and(|local| local.host && !local.service && !local.dns));
    assert!(local("203.0.113.10").is_some_and(|local| local.service));
    assert!(local("2001:db8::53").is_some_and(|local| local.dns));
    assert!(local("fe80::ff:fe00:2").is_some_and(|local| local.host));
    assert_eq!(local("192.0.2.2"), None);

    let web = tables
        .services
        .by_endpoint(&Endpoint { addr: addr("203.0.113.20"), port: 443, protocol: 6 })
        .and_then(|id| tables.services.get(id))
        .unwrap();
    assert!(!web.wakes);
    assert_eq!(
        web.instances.iter().map(|one| one.state).collect::<Vec<_>>(),
        [InstanceState::Ready, InstanceState::Draining]
    );
    for port in [80, 443] {
        let from = Endpoint { addr: addr("198.51.100.7"), port, protocol: 6 };
        assert!(tables.services.is_return(&from), "a backend answers from the port it was addressed at");
    }
}

#[test]
fn a_placement_rebuilds_its_own_service_and_nothing_else() {
    let mut builder = TableBuilder::new(&config(), &ports(), TableFiles::default(), HashKey(1, 2)).unwrap();
    let before = builder.take().unwrap();
    assert!(builder.take().is_none(), "nothing changed since");
    let hello = builder.find("hello").unwrap();
    builder.place(hello, Some(&placement(vec![instance(1, Placed::Starting), instance(2, Placed::Ready)])));
    let after = builder.take().unwrap();
    assert!(Arc::ptr_eq(&before.interfaces, &after.interfaces) && Arc::ptr_eq(&before.routes, &after.routes));
    let web = builder.find("web").unwrap();
    assert!(Arc::ptr_eq(before.services.get(web).unwrap(), after.services.get(web).unwrap()));
    let instances = &after.services.get(hello).unwrap().instances;
    assert_eq!(
        instances.iter().map(|one| (one.id, one.state, one.port)).collect::<Vec<_>>(),
        [(1, InstanceState::Starting, 9001), (2, InstanceState::Ready, 9002)]
    );
    assert_ne!(instances[0].slot, instances[1].slot);
    assert!(before.services.get(hello).unwrap().instances.is_empty(), "the old snapshot is as it was");

    builder.place(hello, Some(&placement(vec![instance(1, Placed::Starting), instance(2, Placed::Ready)])));
    assert!(builder.take().is_none(), "a repeated placement changes nothing");
}

#[test]
fn an_instance_keeps_its_slot_through_its_states_and_leaves_it_for_later() {
    let mut builder = TableBuilder::new(&config(), &ports(), TableFiles::default(), HashKey(1, 2)).unwrap();
    let hello = builder.find("hello").unwrap();
    let slot = |builder: &TableBuilder, id| {
        let service = builder.tables().services.get(hello).unwrap();
        service.instances.iter().find(|one| one.id == id).unwrap().slot
    };
    builder.place(hello, Some(&placement(vec![instance(1, Placed::Starting)])));
    let first = slot(&builder, 1);
    builder.place(hello, Some(&placement(vec![instance(1, Placed::Ready)])));
    assert_eq!(slot(&builder, 1), first);
    builder.published(Generation(3));
    builder.place(hello, Some(&placement(vec![])));
    builder.collect(Generation(3), std::iter::empty());
    builder.place(hello, Some(&placement(vec![instance(2, Placed::Ready)])));
    assert_ne!(slot(&builder, 2), first, "workers may still work by generation 3");
    builder.collect(Generation(4), std::iter::empty());
    builder.place(hello, Some(&placement(vec![instance(2, Placed::Ready), instance(3, Placed::Ready)])));
    assert_eq!(slot(&builder, 3), first);
}

#[test]
fn a_port_that_the_driver_lacks_is_an_error() {
    let wan = ports().remove(0);
    let error = TableBuilder::new(&config(), &[wan], TableFiles::default(), HashKey(1, 2)).unwrap_err();
    assert_eq!(error, BuildError::PortMissing { port: "lan".into() });
}

#[test]
fn roles_that_are_off_leave_nothing_in_the_tables() {
    let mut config = config();
    config.roles.balancer = false;
    config.roles.dns = false;
    let builder = TableBuilder::new(&config, &ports(), TableFiles::default(), HashKey(1, 2)).unwrap();
    assert_eq!(builder.tables().interfaces.local(addr("203.0.113.10")), None);
    assert_eq!(builder.tables().interfaces.local(addr("192.0.2.53")), None);
    let endpoint = Endpoint { addr: addr("203.0.113.10"), port: 80, protocol: 6 };
    assert_eq!(builder.tables().services.by_endpoint(&endpoint), None);
    assert!(builder.tables().names.is_empty() && !builder.tables().policy.dns_intercept);
}

#[test]
fn addresses_that_wake_by_any_packet_lead_to_their_service_and_no_others_do() {
    let text = EDGE.replace("trigger = [\"dns\", \"syn\"]", "trigger = [\"dns\", \"flow\"]");
    let mut config = Config::parse("edge.toml", &text).unwrap_or_else(|report| panic!("{report}"));
    let builder = TableBuilder::new(&config, &ports(), TableFiles::default(), HashKey(1, 2)).unwrap();
    let hello = builder.find("hello");
    let flow =
        |builder: &TableBuilder, text: &str| builder.tables().interfaces.local(addr(text)).unwrap().flow;
    assert!(hello.is_some());
    assert_eq!(["203.0.113.10", "2001:db8:f::10"].map(|text| flow(&builder, text)), [hello; 2]);
    assert_eq!(["203.0.113.20", "192.0.2.1", "192.0.2.53"].map(|text| flow(&builder, text)), [None; 3]);
    let service = builder.tables().services.get(hello.unwrap()).unwrap();
    assert!(service.trigger_flow && service.trigger_dns && !service.trigger_syn);
    // By a reload, and back.
    let mut builder =
        TableBuilder::new(&self::config(), &ports(), TableFiles::default(), HashKey(1, 2)).unwrap();
    assert_eq!(flow(&builder, "203.0.113.10"), None);
    for (next, expected) in [(config.clone(), hello), (self::config(), None)] {
        let draft = builder.draft(&next).unwrap();
        builder.reload(&next, draft, None);
        assert_eq!(flow(&builder, "203.0.113.10"), expected);
    }
    config.roles.balancer = false;
    let builder = TableBuilder::new(&config, &ports(), TableFiles::default(), HashKey(1, 2)).unwrap();
    assert_eq!(builder.tables().interfaces.local(addr("203.0.113.10")), None);
}

#[test]
fn names_lead_to_their_services() {
    let builder = TableBuilder::new(&config(), &ports(), TableFiles::default(), HashKey(1, 2)).unwrap();
    let names = &builder.tables().names;
    assert_eq!(
        names.get(b"\x05hello\x02fn\x07example\0").and_then(|node| node.service()),
        builder.find("hello")
    );
    assert!(names.get(b"\x03ns1\x02fn\x07example\0").is_some_and(|node| node.service().is_none()));
    assert!(builder.tables().policy.dns_intercept);
}
