//! Destination translation and its way back: over two ports and over one, with the client's address kept or ours in
//! its place, in both families. What an instance sees is what a capture in front of it shows.

use std::time::Duration;

use millrace_hw_tests::edge::client::curl;
use millrace_hw_tests::edge::{CLIENT, Shape, Site, WAN};
use millrace_hw_tests::lab::{Capture, Frame};

use crate::world::{World, functions, hello};

const CAPTURE_MAX: Duration = Duration::from_secs(5);

/// Fetches the page in both families and returns the sources of the SYNs that arrived at the instance.
fn sources(world: &World, curl_args: [&str; 2]) -> Vec<String> {
    let filter = "tcp[tcpflags] & tcp-syn != 0 or (ip6 and tcp)";
    let capture = Capture::start(world.edge.lab(), &world.edge.function, "eth0", filter).unwrap();
    for args in curl_args {
        let times = curl(&world.edge.client, args, "http://hello.fn.example/").unwrap();
        assert_eq!((times.status, times.body.contains("hello from")), (200, true), "{times:?}");
    }
    let instances = world.edge.instances();
    let is_syn = |frame: &Frame| {
        frame.is_syn() && frame.destination().is_some_and(|to| instances.contains(&to.to_string().as_str()))
    };
    let syns = capture.wait_for("a SYN of each family", 2, CAPTURE_MAX, is_syn).unwrap();
    let mut sources: Vec<_> = syns.iter().filter_map(Frame::source).map(|from| from.to_string()).collect();
    sources.dedup();
    sources
}

#[test]
fn over_two_ports_an_instance_sees_the_client() {
    let world = World::new(vec![hello("hello", 0).set("source", "\"keep\"")]);
    assert_eq!(sources(&world, ["-4", "-6"]), CLIENT);
    world.conclude();
}

#[test]
fn over_two_ports_an_instance_sees_the_appliance() {
    let world = World::new(vec![hello("hello", 0).set("source", "\"appliance\"")]);
    assert_eq!(sources(&world, ["-4", "-6"]), ["198.51.100.1", "2001:db8:1::1"]);
    world.conclude();
}

/// Client and instance share a network, so the instance would answer past the appliance if it saw the client's address.
#[test]
fn over_one_port_an_instance_sees_the_appliance() {
    let site = Site::new(functions(), vec![hello("hello", 0).set("source", "\"appliance\"")]);
    let world = World::build(Shape::OnePort, site);
    assert_eq!(sources(&world, ["-4", "-6"]), WAN);
    world.conclude();
}

/// A client from elsewhere can keep its address on one port: the instance's way back leads through the appliance.
#[test]
fn over_one_port_a_client_from_elsewhere_is_seen() {
    let site = Site::new(functions(), vec![hello("hello", 0).set("source", "\"keep\"")]);
    let world = World::build(Shape::OnePort, site);
    let args = ["-4 --interface 10.3.0.10", "-4 --interface 10.4.0.10"];
    assert_eq!(sources(&world, args), ["10.3.0.10", "10.4.0.10"]);
    world.conclude();
}

/// A megabyte up and down again: segments of full size, windows, retransmissions if any, and all checksums.
#[test]
fn a_megabyte_comes_back_as_it_went() {
    let echo = millrace_hw_tests::edge::Service::new("echo", 1, "echo");
    let world = World::new(vec![echo]);
    for family in ["-4", "-6"] {
        world.megabyte(family, "http://echo.fn.example/");
    }
    assert_eq!(world.edge.client.kernel_counter("TcpExtTCPSackFailures").unwrap(), 0);
    world.conclude();
}

/// Thousands of short connections: flows come and go, and ports are used again.
#[test]
fn many_connections_are_served() {
    let world = World::new(vec![hello("hello", 0).set("source", "\"appliance\"")]);
    curl(&world.edge.client, "-4", "http://hello.fn.example/").unwrap();
    let text =
        world.edge.client.run("wrk -t 1 -c 20 -d 3s -H Connection:close http://hello.fn.example/").unwrap();
    assert!(text.contains("Requests/sec"), "{text}");
    assert!(!text.contains("Non-2xx") && !text.contains("Socket errors"), "{text}");
    world.conclude();
}
