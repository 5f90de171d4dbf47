//! Reload: what a running loop does with another configuration, and what it leaves alone.

use millrace_config::Config;

use millrace_fastpath::tables::services::Endpoint;

use super::*;
use crate::builder::BuildError;
use crate::testing::{EDGE, LAN_20};

/// [`EDGE`] with edits.
fn edited(edits: &[(&str, &str)]) -> Arc<Config> {
    let mut text = EDGE.to_owned();
    for (from, to) in edits {
        assert!(text.contains(from), "{from}");
        text = text.replacen(from, to, 1);
    }
    Arc::new(Config::parse("edge.toml", &text).unwrap_or_else(|report| panic!("{report}")))
}

/// A second service of the function.
const SECOND: (&str, &str) = (
    "[limits]",
    "[[service]]\nname = \"second\"\nnames = [\"second.fn.example.\"]\naddress = [\"203.0.113.30\"]\n\
     ports = [\"tcp/80\"]\nfunction = \"hello\"\ntrigger = [\"syn\"]\n\n[limits]",
);
/// No service `hello`.
fn without_hello() -> Arc<Config> {
    let start = EDGE.find("[[service]]\nname = \"hello\"").unwrap();
    let end = EDGE.find("[[service]]\nname = \"web\"").unwrap();
    Arc::new(Config::parse("edge.toml", &EDGE.replace(&EDGE[start..end], "")).unwrap())
}

impl Bench {
    fn reload(&mut self, config: &Arc<Config>) {
        let reload = drafted(&self.control, config);
        self.control.reload(reload, self.now);
        if self.follow {
            self.take_up();
        }
    }

    fn id(&self, name: &str) -> ServiceId {
        self.control.builder.find(name).unwrap()
    }
}

#[test]
fn the_same_configuration_changes_nothing_that_runs() {
    let mut bench = Bench::new();
    bench.ready();
    bench.sent();
    let before = bench.shared.tables();
    bench.reload(&edited(&[]));
    let after = bench.shared.tables();
    assert!(Arc::ptr_eq(&before.services, &after.services));
    assert_eq!(after.neighbours.get(LAN, addr(NODE)), Some(PEER_MAC));
    assert_eq!(bench.phase(), Phase::Ready);
    assert_eq!(bench.sent(), [], "nothing is announced or asked for again");
}

#[test]
fn a_new_service_is_cold_at_once_and_its_address_is_ours() {
    let mut bench = Bench::new();
    bench.ready();
    bench.reload(&edited(&[SECOND]));
    let id = bench.id("second");
    assert_eq!(bench.shared.slots.get(id).load().0, Phase::Cold);
    assert_eq!(bench.phase(), Phase::Ready, "the other one goes on");
    let tables = bench.shared.tables();
    assert!(tables.interfaces.local(addr("203.0.113.30")).is_some_and(|local| local.service));
    let name = tables.names.get(b"\x06second\x02fn\x07example\0").unwrap();
    assert_eq!(name.service(), Some(id));
}

#[test]
fn addresses_and_ports_alone_may_change() {
    let mut bench = Bench::new();
    bench.ready();
    let web = bench.id("web");
    let led = |bench: &Bench, text: &str, port| {
        let endpoint = Endpoint { addr: addr(text), port, protocol: 6 };
        bench.shared.tables().services.by_endpoint(&endpoint)
    };
    let (hello_v6, web_v4) = ("2001:db8:f::10", "203.0.113.20");
    bench.reload(&edited(&[
        ("\"203.0.113.10\", \"2001:db8:f::10\"", "\"203.0.113.10\""),
        ("address = [\"203.0.113.20\"]", "address = [\"203.0.113.20\", \"203.0.113.21\"]"),
        ("\"tcp/443\"", "\"tcp/8443\""),
    ]));
    // Of what is gone, flows that began before go on, and nothing begins.
    let gone = [led(&bench, hello_v6, 80), led(&bench, web_v4, 443)];
    assert!(gone.iter().all(|id| [None, Some(ServiceId::GONE)].contains(id)), "{gone:?}");
    assert_eq!([led(&bench, web_v4, 8443), led(&bench, "203.0.113.21", 80)], [Some(web); 2]);
    bench.reload(&edited(&[]));
    assert_eq!([led(&bench, hello_v6, 80), led(&bench, web_v4, 443)], [Some(HELLO), Some(web)]);
    assert_eq!(bench.phase(), Phase::Ready);
}

#[test]
fn a_service_whose_placement_came_first_is_made_ready() {
    let mut bench = Bench::new();
    bench.generation += 1;
    let (from, to) = (Placed(bench.generation - 1), Placed(bench.generation));
    let change = ServicePlacement {
        service: "second".into(),
        ..placement(vec![instance(5, InstanceState::Ready)], None)
    };
    bench.down(Down::Delta(Delta { from, to, changes: vec![change] }));
    bench.turn();
    bench.reload(&edited(&[SECOND]));
    bench.node_answers();
    bench.turn();
    bench.turn();
    assert_eq!(bench.shared.slots.get(bench.id("second")).load().0, Phase::Ready);
}

#[test]
fn a_service_that_changes_its_kind_changes_its_phase() {
    let mut bench = Bench::new();
    bench.ready();
    bench.reload(&edited(&[("function = \"hello\"\ntrigger = [\"dns\", \"syn\"]\nhold = { packets = 512, deadline_ms = 900, overflow = \"upstream\" }\nidle_reap_seconds = 120", "backends = [{ address = \"198.51.100.9\" }, { address = \"2001:db8:1::9\" }]")]));
    assert_eq!(bench.id("hello"), HELLO, "a service keeps its id by its name");
    assert_eq!(bench.phase(), Phase::Ready);
    let hello = bench.shared.tables().services.get(HELLO).unwrap().clone();
    assert!(!hello.wakes && hello.instances.iter().all(|one| one.fixed), "{hello:?}");
    // And back again: the instance is still placed.
    bench.reload(&edited(&[]));
    bench.turn();
    bench.turn();
    assert_eq!(bench.phase(), Phase::Ready);
    assert!(!bench.shared.tables().services.get(HELLO).unwrap().instances[0].fixed);
}

#[test]
fn the_id_of_a_service_is_given_again_only_when_nobody_means_it() {
    let mut bench = Bench::new();
    let old = bench.id("hello");
    bench.shared.workers[1].counters.service(old).flows.add(1);
    bench.follow = false;
    bench.reload(&without_hello());
    let tables = bench.shared.tables();
    assert!(tables.services.get(old).is_none());
    let endpoint = Endpoint { addr: addr("203.0.113.10"), port: 80, protocol: 6 };
    assert_eq!(tables.services.by_endpoint(&endpoint), Some(ServiceId::GONE), "its flow goes on");
    assert!(tables.interfaces.local(endpoint.addr).is_some_and(|local| local.service && !local.host));
    // Not while a worker works by the old tables, and not while there is a flow.
    let lingers = |bench: &mut Bench| {
        bench.turn_at(200);
        // What a scan found is published by the next turn.
        bench.turn();
        bench.shared.tables().services.by_endpoint(&endpoint).is_some()
    };
    bench.take_up();
    assert!(lingers(&mut bench), "there is a flow");
    bench.shared.workers[1].counters.service(old).flows.sub(1);
    bench.shared.set_epoch(0, Generation(1));
    assert!(lingers(&mut bench), "a worker has the old tables");
    bench.take_up();
    assert!(!lingers(&mut bench));
    assert!(bench.shared.tables().interfaces.local(endpoint.addr).is_none());
    // Ids that nobody ever had come first.
    bench.take_up();
    bench.reload(&edited(&[]));
    assert_ne!(bench.id("hello"), old);
}

#[test]
fn ids_come_round() {
    let mut bench = Bench::new();
    let mut seen = std::collections::BTreeSet::new();
    for _ in 0..millrace_fastpath::tables::services::SERVICES_MAX + 10 {
        bench.reload(&without_hello());
        bench.take_up();
        bench.control.collect_services(bench.now);
        bench.control.publish();
        bench.take_up();
        bench.reload(&edited(&[]));
        seen.insert(bench.id("hello"));
    }
    assert_eq!(seen.len(), millrace_fastpath::tables::services::SERVICES_MAX - 1, "all but that of web");
    assert_eq!(bench.shared.slots.get(bench.id("hello")).load().0, Phase::Cold);
}

#[test]
fn a_wake_of_a_service_that_is_gone_is_nobodys() {
    let mut bench = Bench::new();
    bench.first_packet(0).unwrap();
    bench.reload(&without_hello());
    bench.turn();
    assert_eq!(bench.notices(), []);
    bench.turn_at(20_000);
    assert_eq!(bench.control.counters().wakes_failed, 0);
}

#[test]
fn interfaces_keep_their_ids_and_new_addresses_are_announced() {
    let mut bench = Bench::new();
    bench.sent();
    let vlans = "vlans = [{ id = 20, addresses = [\"10.20.0.1/24\"] }]";
    bench.reload(&edited(&[(
        vlans,
        "vlans = [{ id = 10, addresses = [\"10.10.0.1/24\"] }, { id = 20, addresses = [\"10.20.0.1/24\"] }]",
    )]));
    let tables = bench.shared.tables();
    assert_eq!(tables.interfaces.get(LAN_20).unwrap().name, "lan.20");
    let new = tables.interfaces.iter().find(|(_, one)| one.name == "lan.10").unwrap().0;
    assert_eq!(bench.control.builder.next_hop(addr("10.10.0.9")), Some((new, addr("10.10.0.9"))));
    let announced: Vec<_> = bench.sent().into_iter().map(|(interface, _)| interface).collect();
    assert_eq!(announced, [new, new], "its address, and its link-local one; nothing of the other interfaces");

    bench.reload(&edited(&[(vlans, "")]));
    let tables = bench.shared.tables();
    assert!(tables.interfaces.get(LAN_20).is_none() && tables.interfaces.get(new).is_none());
    let tags = millrace_fastpath::wire::ethernet::Tags::new(None, Some(20));
    assert_eq!(tables.interfaces.find(millrace_fastpath::driver::PortId(1), tags), None);
    bench.reload(&edited(&[]));
    assert_eq!(bench.shared.tables().interfaces.get(LAN_20).unwrap().name, "lan.20", "the same id as before");
}

#[test]
fn routes_and_static_neighbours_follow_the_file() {
    let mut bench = Bench::new();
    bench.sent();
    bench.reload(&edited(&[
        ("via = \"192.0.2.254\"", "via = \"192.0.2.253\""),
        (
            "address = \"198.51.100.7\"\nmac = \"02:00:00:00:00:07\"",
            "address = \"198.51.100.6\"\nmac = \"02:00:00:00:00:06\"",
        ),
    ]));
    let tables = bench.shared.tables();
    assert_eq!(bench.control.builder.next_hop(addr("8.8.8.8")), Some((WAN, addr("192.0.2.253"))));
    assert_eq!(tables.neighbours.get(LAN, addr("198.51.100.6")), Some([2, 0, 0, 0, 0, 6]));
    assert_eq!(tables.neighbours.get(LAN, addr("198.51.100.7")), None);
    let asked: Vec<_> = bench.sent().into_iter().filter(|(_, frame)| frame[12..14] == [8, 6]).collect();
    let targets: Vec<_> =
        asked.iter().map(|(_, frame)| Addr::v4(frame[38..42].try_into().unwrap())).collect();
    // The new router; and the backend that was static, which is still a backend.
    assert!(targets.contains(&addr("192.0.2.253")) && targets.contains(&addr("198.51.100.7")), "{targets:?}");
}

#[test]
fn limits_reach_the_workers_with_the_tables() {
    let mut bench = Bench::new();
    bench.reload(&edited(&[(
        "neighbours_max = 64",
        "neighbours_max = 64\nholds_per_prefix = 7\nwakes_per_second = 9\nwakes_burst = 11",
    )]));
    let bounds = bench.shared.tables().policy.bounds.unwrap();
    assert_eq!((bounds.holds_per_prefix, bounds.wakes_per_second, bounds.wakes_burst), (7, 9, 11));
}

#[test]
fn what_a_port_was_not_opened_for_is_refused_and_changes_nothing() {
    let bench = Bench::new();
    let before = bench.shared.tables().generation;
    let config = edited(&[("mtu_bytes = 1500", "mtu_bytes = 4000")]);
    let refused = bench.control.builder.draft(&config).unwrap_err();
    assert_eq!(refused, BuildError::Mtu { port: "wan".into(), wanted: 4000, opened: 1500 });
    let config = edited(&[("name = \"wan\"", "name = \"out\"")]);
    let refused = bench.control.builder.draft(&config).unwrap_err();
    assert_eq!(refused, BuildError::PortMissing { port: "out".into() });
    assert_eq!(bench.shared.tables().generation, before);
}

/// Workers ask nobody for a BIER neighbour's link-layer address, so it is looked for as soon as it is configured.
#[test]
fn bier_neighbours_are_looked_for_from_the_start_and_after_a_reload() {
    let bier = "[bier]\nbfr_prefix = \"192.0.2.1\"\n[[bier.subdomain]]\nid = 0\n\
        table = [{ neighbour = \"p\", address = \"198.51.100.33\", bfr_ids = \"1\" }]\n";
    let config = Config::parse("edge.toml", &format!("{EDGE}{bier}")).unwrap();
    let neighbour = (LAN, addr("198.51.100.33"));
    let bench = Bench::of(&config, 16);
    assert!(bench.control.neighbours.is_sought(neighbour.0, neighbour.1), "from the start");
    let mut bench = Bench::new();
    assert!(!bench.control.neighbours.is_sought(neighbour.0, neighbour.1));
    bench.reload(&Arc::new(config));
    assert!(bench.control.neighbours.is_sought(neighbour.0, neighbour.1), "by a reload");
    assert!(bench.shared.tables().bier.is_some());
    assert!(bench.control.wanted.contains_key(&neighbour));
    bench.reload(&edited(&[]));
    assert!(!bench.control.wanted.contains_key(&neighbour) && bench.shared.tables().bier.is_none());
}
