//! Every way of a packet to its instance, and every handling of a first packet, each with dig, kdig, curl and wrk in both
//! families.
//!
//! What leaves here inside another packet is taken out by somebody who isn't ours where there is one: by the kernel where
//! the outer packet is IPv6 (its segment routing ends RFC 2473 tunnels), else by raw sockets and a check of our own in
//! front of the kernel, since kernels are built without the IPv4 tunnels and GUE.

use millrace_hw_tests::edge::client::{curl, dig, kdig, wrk};
use millrace_hw_tests::edge::web::{PAGE, WebServer, own_quietly};
use millrace_hw_tests::edge::{DNS, Decapsulator, Service, Shape, Site};
use millrace_hw_tests::lab::Capture;

use crate::world::{World, functions};

/// A function's service is found, reached and loaded by clients of both families; `page` is in what it answers.
fn is_served(world: &World, service: &Service, page: &str) {
    for (family, kind, address) in [("-4", "A", &service.v4), ("-6", "AAAA", &service.v6)] {
        let asked = dig(&world.edge.client, &format!("@{} {} {kind}", DNS[0], service.dns_name())).unwrap();
        assert_eq!(&asked.answers, std::slice::from_ref(address), "{}", asked.text);
        let asked = kdig(&world.edge.client, &format!("@{} {} {kind}", DNS[1], service.dns_name())).unwrap();
        assert_eq!(&asked, std::slice::from_ref(address));
        let times = curl(&world.edge.client, family, &service.url()).unwrap();
        assert_eq!((times.status, times.body.contains(page)), (200, true), "{}: {times:?}", service.name);
        let literal = if family == "-4" { address.clone() } else { format!("[{address}]") };
        let load = wrk(&world.edge.client, "-c 10 -d 1s", &format!("http://{literal}/")).unwrap();
        assert!(load.served > 0 && load.failed == 0, "{} {family}: {load:?}", service.name);
    }
}

/// Packets that were sent back as too big, and SYNs that were told so before, are how long ones get through.
fn errors_sent(world: &World) -> u64 {
    let workers = world.appliance.show("workers").unwrap();
    workers["workers"].as_array().unwrap().iter().map(|worker| worker["errors_sent"].as_u64().unwrap()).sum()
}

/// Dropped for this reason, by all nodes.
fn dropped(world: &World, reason: &str) -> u64 {
    let nodes = world.appliance.show("nodes").unwrap();
    nodes.as_array().unwrap().iter().filter_map(|node| node["drops"][reason].as_u64()).sum()
}

/// Fixed backends at the function host, reached in this way.
fn backends(name: &str, number: u16, forwarding: &str, list: [&str; 2]) -> Service {
    let list = list.map(|address| format!("{{ address = \"{address}\" }}")).join(", ");
    let service = Service::of_backends(name, number, &format!("[{list}]"));
    service.set("forwarding", &format!("\"{forwarding}\""))
}

/// A world without functions whose function host has the services' addresses itself.
fn direct(site: Site) -> (World, WebServer) {
    let world = World::without_node(Shape::TwoPort, site);
    for service in &world.site.services {
        own_quietly(&world.edge.function, &[&service.v4, &service.v6]).unwrap();
    }
    let web = WebServer::start(&world.edge).unwrap();
    (world, web)
}

/// Every worker has had flows of its own.
fn all_took_part(world: &World, workers: u16) {
    let rows = world.appliance.show("workers").unwrap();
    let rows = rows["workers"].as_array().unwrap();
    let forwarded = |row: &serde_json::Value| row["fates"]["forwarded"].as_u64().unwrap();
    assert!(rows.len() == usize::from(workers) && rows.iter().all(|row| forwarded(row) > 0), "{rows:?}");
}

const INSTANCE: [&str; 2] = ["198.51.100.21", "2001:db8:1::21"];

#[test]
fn each_handling_of_a_first_packet_serves_every_client() {
    each_handling_serves_on(1);
}

#[test]
fn each_handling_serves_every_client_of_two_workers() {
    each_handling_serves_on(2);
}

fn each_handling_serves_on(workers: u16) {
    let kinds = ["hold", "forward", "splice"];
    // A query wakes the first three, wrk's first SYN the others.
    let asked = (0..).zip(kinds).map(|(number, kind)| {
        Service::new(kind, number, "hello").set("first_packet", &format!("\"{kind}\""))
    });
    let loaded = (3..).zip(kinds).map(|(number, kind)| {
        let service = Service::new(&format!("{kind}-load"), number, "hello");
        service.set("first_packet", &format!("\"{kind}\"")).set("trigger", "[\"syn\"]")
    });
    let (asked, loaded): (Vec<_>, Vec<_>) = (asked.collect(), loaded.collect());
    let site = Site::new(functions(), asked.iter().chain(&loaded).cloned().collect());
    let world = World::build(Shape::TwoPort, site.on_workers(workers));
    for service in &asked {
        is_served(&world, service, "hello from");
        assert_eq!(world.number_of(&service.name, "wake"), 1);
    }
    for service in &loaded {
        let load = wrk(&world.edge.client, "-c 10 -d 1s", &format!("http://[{}]/", service.v6)).unwrap();
        assert!(load.served > 0 && load.failed == 0, "{}: {load:?}", service.name);
        assert_eq!(world.number_of(&service.name, "wake"), 1);
    }
    all_took_part(&world, workers);
    world.conclude();
}

/// Translated to fixed backends, over a link that is narrower than the client's: what the instance offers to take doesn't
/// fit it, and the client hears so.
#[test]
fn by_translation_over_a_narrow_link() {
    let service = backends("web", 0, "nat", INSTANCE);
    let site = Site { mtus: vec![("lan", 1400)], ..Site::new(Vec::new(), vec![service.clone()]) };
    let (world, web) = direct(site);
    let function = &world.edge.function;
    function.run("ip link set dev eth0 mtu 1400").unwrap();
    function.run("ip -4 route change default via 198.51.100.1 advmss 1460").unwrap();
    function.run("ip -6 route change default via 2001:db8:1::1 advmss 1440").unwrap();
    is_served(&world, &service, PAGE);
    for family in ["-4", "-6"] {
        let before = errors_sent(&world);
        world.megabyte(family, &service.url());
        assert!(errors_sent(&world) > before, "{family}: nothing was too big");
    }
    drop(web);
    world.conclude();
}

#[test]
fn by_link_layer_address() {
    by_link_layer_address_on(1);
}

#[test]
fn by_link_layer_address_of_two_workers() {
    by_link_layer_address_on(2);
}

/// By the instance's link-layer address; it answers the client itself, from the service's address.
fn by_link_layer_address_on(workers: u16) {
    let service = backends("web", 0, "l2", INSTANCE);
    let (world, web) = direct(Site::new(Vec::new(), vec![service.clone()]).on_workers(workers));
    let capture = Capture::start(world.edge.lab(), &world.edge.function, "eth0", "tcp port 80").unwrap();
    is_served(&world, &service, PAGE);
    for family in ["-4", "-6"] {
        world.megabyte(family, &service.url());
    }
    // As it came, but for the hop: nothing of it is translated.
    let addresses = [&service.v4, &service.v6].map(|address| address.parse().unwrap());
    let frames = capture.finish().unwrap();
    let syns: Vec<_> = frames.iter().filter(|frame| frame.is_syn()).collect();
    assert!(!syns.is_empty() && syns.iter().all(|syn| addresses.contains(&syn.destination().unwrap())));
    all_took_part(&world, workers);
    drop(web);
    world.conclude();
}

/// Through a tunnel: clients of both families, and a megabyte whose segments would be too long with the outer headers.
fn is_served_through_a_tunnel(world: &World, service: &Service) {
    is_served(world, service, PAGE);
    for family in ["-4", "-6"] {
        let before = errors_sent(world);
        world.megabyte(family, &service.url());
        assert!(errors_sent(world) > before, "{} {family}: nothing was too big", service.name);
    }
    for reason in ["no-tunnel-source", "no-headroom", "no-route"] {
        assert_eq!(dropped(world, reason), 0, "{reason}");
    }
}

/// Services whose instances are reached by one outer family alone, and each of both inner ones.
fn by_outer(forwarding: &str) -> [Service; 2] {
    [(0, "outer4", INSTANCE[0]), (1, "outer6", INSTANCE[1])].map(|(number, name, instance)| {
        let list = format!("[{{ address = \"{instance}\" }}]");
        Service::of_backends(name, number, &list).set("forwarding", &format!("\"{forwarding}\""))
    })
}

/// Each inner family in each outer one, taken out in front of the kernel.
fn everything_comes_out_again(forwarding: &str, workers: u16) {
    let services = by_outer(forwarding);
    let (world, web) = direct(Site::new(Vec::new(), services.to_vec()).on_workers(workers));
    let end = Decapsulator::start(&world.edge.function, INSTANCE).unwrap();
    for service in &services {
        let before = end.taken();
        is_served_through_a_tunnel(&world, service);
        assert!(end.taken() > before, "{}: not through the tunnel", service.name);
    }
    assert_eq!(end.refused(), 0);
    // The kernel drops what has a wrong checksum, outside and inside, before anybody sees it.
    for counter in ["UdpInCsumErrors", "Udp6InCsumErrors", "TcpInCsumErrors"] {
        assert_eq!(world.edge.function.kernel_counter(counter).unwrap(), 0, "{counter}");
    }
    all_took_part(&world, workers);
    drop((end, web));
    world.conclude();
}

#[test]
fn inside_ip() {
    everything_comes_out_again("ipip", 1);
}

#[test]
fn inside_ip_of_two_workers() {
    everything_comes_out_again("ipip", 2);
}

/// The kernel ends these tunnels: an address behind the instance's for each inner family, where its segment routing takes
/// the outer header off.
#[test]
fn inside_ipv6_that_the_kernel_ends() {
    let behind = ["2001:db8:9::4", "2001:db8:9::6"];
    let only = |name: &str, number, instance: &str| {
        let list = format!("[{{ address = \"{instance}\" }}]");
        Service::of_backends(name, number, &list).set("forwarding", "\"ipip\"")
    };
    // The inner families are told apart by address, so each service is asked in one of them.
    let services = [only("inner4", 0, behind[0]), only("inner6", 1, behind[1])];
    let site = Site::new(Vec::new(), services.to_vec()).route("2001:db8:9::/64", "2001:db8:1::21");
    let (world, web) = direct(site);
    for (end, how) in behind.iter().zip(["End.DX4 nh4 0.0.0.0", "End.DT6 table 255"]) {
        let route = format!("ip -6 route add {end}/128 encap seg6local action {how} dev eth0");
        world.edge.function.run(&route).unwrap();
    }
    for (service, family) in services.iter().zip(["-4", "-6"]) {
        let times = curl(&world.edge.client, family, &service.url()).unwrap();
        assert_eq!((times.status, times.body.as_str()), (200, PAGE), "{}: {times:?}", service.name);
        let literal = if family == "-4" { service.v4.clone() } else { format!("[{}]", service.v6) };
        let load = wrk(&world.edge.client, "-c 10 -d 1s", &format!("http://{literal}/")).unwrap();
        assert!(load.served > 0 && load.failed == 0, "{}: {load:?}", service.name);
        let before = errors_sent(&world);
        world.megabyte(family, &service.url());
        assert!(errors_sent(&world) > before, "{}: nothing was too big", service.name);
    }
    drop(web);
    world.conclude();
}

#[test]
fn inside_gue() {
    everything_comes_out_again("gue", 1);
}

#[test]
fn inside_gue_of_two_workers() {
    everything_comes_out_again("gue", 2);
}
