//! Two appliances at one edge location: each with a role of its own, and two that take each other for the way out.

use std::path::Path;
use std::time::Duration;

use millrace_hw_tests::edge::client::{curl, dig, kdig, wrk};
use millrace_hw_tests::edge::{
    Appliance, DNS, Edge, Fates, Link, Orchestrator, Role, ServingNode, Shape, Site,
};
use millrace_hw_tests::lab::{Capture, Frame, Look, wait_until};

use crate::world::{BINARY, SOON, World, endpoint, functions, hello};

const CAPTURE_MAX: Duration = Duration::from_secs(5);

/// Names are answered by one appliance, packets steered by another, and an orchestrator of its own tells the second what
/// the first one woke. Either goes on without the other.
#[test]
fn names_and_packets_are_two_appliances_work() {
    let binary = Path::new(BINARY);
    let mut edge = Edge::new(Shape::TwoPort).unwrap();
    let second = edge.second_beside().unwrap();
    edge.watch().unwrap();
    let site = Site::new(functions(), vec![hello("first", 0), hello("later", 1)]);
    let configuration = Appliance::configure(&edge, &site, "orchestrator.toml").unwrap();
    let orchestrator = Orchestrator::start(&edge, binary, &configuration).unwrap();
    let node = ServingNode::start(&edge, binary, &endpoint(), &site.functions).unwrap();
    let site = Site { link: Link::Grpc { endpoint: endpoint() }, ..site };
    let steers = Site { role: Some(Role::Balancer), ..site.clone() };
    let answers = Site { role: Some(Role::Dns), ..site };
    let balancer = Appliance::start(&edge, binary, &steers).unwrap();
    let dns = Appliance::start_second(&edge, &second, binary, &answers).unwrap();
    balancer.wait_for_node().unwrap();
    dns.wait_for_node().unwrap();
    edge.lab().set_resolver(&edge.client, &second.dns[0]).unwrap();
    let world = World { appliance: balancer, node: Some(node), edge, site: steers };
    let client = &world.edge.client;
    let fetch = |family: &str, url: &str| {
        let times = curl(client, family, url).unwrap();
        assert_eq!((times.status, times.body.contains("hello from")), (200, true), "{times:?}");
    };

    // The query at one wakes it, the other has it, and the connection is the other's alone.
    assert_eq!(
        kdig(client, &format!("@{} first.fn.example. AAAA", second.dns[1])).unwrap(),
        ["2001:db8:f::1"]
    );
    world.appliance.wait_for_service("first", "ready", SOON).unwrap();
    assert_eq!(world.number_of("first", "wake"), 0, "the balancer woke what was ready");
    for family in ["-4", "-6"] {
        fetch(family, "http://first.fn.example/");
    }
    assert_eq!(dns.row("services", "first").unwrap()["flows_begun"], 0);
    assert_eq!(world.number_of("first", "flows_begun"), 2);
    // The balancer answers no queries, and nobody else speaks for it.
    assert!(dig(client, &format!("@{} +time=1 first.fn.example. A", DNS[0])).is_err());

    // Without the one that answers names, packets go on, also those that wake.
    dns.fates().unwrap();
    dns.process().kill().unwrap();
    fetch("-4", "http://198.18.0.1/");
    fetch("-6", "http://[2001:db8:f::2]/");
    let load = wrk(client, "-c 10 -d 1s", "http://198.18.0.2/").unwrap();
    assert!(load.served > 0 && load.failed == 0, "{load:?}");

    // Without the one that steers packets, names go on.
    let dns = Appliance::start_second(&world.edge, &second, binary, &answers).unwrap();
    world.appliance.fates().unwrap();
    world.appliance.process().kill().unwrap();
    for server in &second.dns {
        let asked = dig(client, &format!("@{server} later.fn.example. A")).unwrap();
        assert_eq!(asked.answers, ["198.18.0.2"], "{}", asked.text);
    }
    drop(orchestrator);
    World { appliance: dns, ..world }.conclude();
}

/// What an appliance did between two looks at it, once that is over.
fn since(appliance: &Appliance, before: &Fates, counter: &str) -> u64 {
    appliance.fates().unwrap().get(counter) - before.get(counter)
}

fn drops(appliance: &Appliance, node: &str, reason: &str) -> u64 {
    let nodes = appliance.show("nodes").unwrap();
    let row = nodes.as_array().unwrap().iter().find(|row| row["node"] == node).cloned();
    row.unwrap_or_else(|| panic!("no node {node} in {nodes}"))["drops"][reason].as_u64().unwrap()
}

/// Hops that a packet of the client's has when it comes (Linux's default).
const HOPS: u64 = 64;

/// Each has the same service, nobody to serve it, and the other as its way upstream. A SYN goes back and forth until its
/// hops are used up, and the client hears of it; a query in the name of the other's server goes nowhere.
#[test]
fn two_that_point_at_each_other_make_no_loop() {
    let binary = Path::new(BINARY);
    let mut edge = Edge::new(Shape::TwoPort).unwrap();
    let (port, second) = edge.second_behind().unwrap();
    edge.watch().unwrap();
    let hold = "{ deadline_ms = 3000, overflow = \"upstream\" }";
    // Nobody is at the endpoint, so that nothing is woken: first packets take their overflow action.
    let site = Site {
        link: Link::Grpc { endpoint: endpoint() },
        ..Site::new(functions(), vec![hello("both", 0).set("trigger", "[\"syn\"]").set("hold", hold)])
    };
    let mut ports = site_ports();
    ports.push(port);
    let front = Site { ports: Some(ports), ..site.clone() };
    let front = front.route("198.18.0.0/16", "192.0.3.2").route("2001:db8:f::/64", "2001:db8:3::2");
    let front = front.route("192.0.3.53/32", "192.0.3.2");
    let back = site.route("198.18.0.0/16", "192.0.3.1").route("2001:db8:f::/64", "2001:db8:3::1");
    let back = back.route("192.0.2.0/24", "192.0.3.1").route("2001:db8::/64", "2001:db8:3::1");
    let b = Appliance::start_second(&edge, &second, binary, &back).unwrap();
    let a = Appliance::start(&edge, binary, &front).unwrap();
    for appliance in [&a, &b] {
        appliance.wait_for_service("both", "bypass", SOON).unwrap();
    }
    let world = World { appliance: a, node: None, edge, site: front };
    let (a, client) = (&world.appliance, &world.edge.client);
    // So that everybody knows everybody's link-layer address, and no packet has to wait for one.
    for address in ["192.0.3.2", "2001:db8:3::2"] {
        client.run(&format!("ping -n -c 2 -i 0.2 -W 5 {address}")).unwrap();
    }

    let capture = Capture::start(world.edge.lab(), client, "eth0", "tcp or icmp or ip6").unwrap();
    for (address, told) in [("198.18.0.1", 1), ("[2001:db8:f::1]", 58)] {
        let (before_a, before_b) = (a.fates().unwrap(), b.fates().unwrap());
        let seen = capture.frames().unwrap().len();
        assert!(curl(client, "--max-time 1.5", &format!("http://{address}/")).is_err());
        let is_exceeded = |frame: &&Frame| {
            let kind = frame.ip_payload().and_then(|payload| payload.first().copied());
            frame.protocol() == Some(told) && matches!((told, kind), (1, Some(11)) | (58, Some(3)))
        };
        // The SYN again after a second, and each time the news that it came to nothing.
        let syns = wait_until("every SYN's end to be told", CAPTURE_MAX, || {
            let frames = capture.frames().unwrap().split_off(seen);
            let syns = frames.iter().filter(|frame| frame.is_syn()).count();
            match frames.iter().filter(is_exceeded).count() == syns && syns > 0 {
                true => Look::Done(syns as u64),
                false => Look::NotYet(format!("{syns} SYNs, and fewer ends")),
            }
        })
        .unwrap();
        // Passed on while there was a hop left, and dropped by the one that found none: that one tells, the other passes that on.
        // What the slowpath sends meanwhile, of neighbours, leaves as if it were passed on.
        let passed_by = |appliance: &Appliance, before: &Fates| {
            since(appliance, before, "forwarded") - since(appliance, before, "injected")
        };
        let passed = passed_by(a, &before_a) + passed_by(&b, &before_b);
        assert_eq!(passed, syns * (HOPS - 1) + syns, "{address}");
        assert_eq!(passed_by(a, &before_a), syns * (HOPS / 2 + 1), "{address}");
        assert_eq!(since(&b, &before_b, "answered"), syns, "{address}: by ICMP");
    }

    // A query to the one behind that says it comes from the server of the one in front. Answered, it would be an answer to a
    // server; but the one in front lets nobody through who claims to be itself.
    client.address("lo", &format!("{}/32", DNS[0])).unwrap();
    let forged = drops(a, "classify", "own-source");
    let answered = b.fates().unwrap().get("answered");
    let spoofed = format!("-b {}#53 @{} +time=1 +tries=1 nobody.fn.example. A", DNS[0], second.dns[0]);
    assert!(dig(client, &spoofed).is_err());
    wait_until("the query to be dropped", SOON, || drops(a, "classify", "own-source") > forged).unwrap();
    assert_eq!(drops(a, "classify", "own-source") - forged, 1);
    assert_eq!(b.fates().unwrap().get("answered"), answered, "nobody asked the one behind");

    b.fates().unwrap();
    assert!(b.stop().unwrap().success());
    world.conclude();
}

/// The ports of the edge's own appliance.
fn site_ports() -> Vec<millrace_hw_tests::edge::Port> {
    use millrace_hw_tests::edge::Port;
    vec![
        Port::new("wan", ["192.0.2.1/24", "2001:db8::1/64"]),
        Port::new("lan", ["198.51.100.1/24", "2001:db8:1::1/64"]),
    ]
}
