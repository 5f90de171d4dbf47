//! Spliced first packets: the client's handshake is completed here while its function starts, the instance's follows, and
//! from then on two connections are translated into each other without either end noticing.

use std::net::IpAddr;
use std::process::Command;
use std::time::{Duration, Instant};

use millrace_hw_tests::edge::client::{self, Load, curl, wrk};
use millrace_hw_tests::edge::{Function, Service, Shape, Site};
use millrace_hw_tests::lab::{Capture, Frame, Host, Process, wait_until};

use crate::world::{SOON, World, functions, hello, slow_functions};

/// A service that only a SYN wakes, and that splices; what is held has time.
fn spliced(name: &str, number: u16, function: &str) -> Service {
    let service = Service::new(name, number, function).set("trigger", "[\"syn\"]");
    service.set("first_packet", "\"splice\"").set("hold", "{ deadline_ms = 3000, overflow = \"rst\" }")
}

/// The service's root by address.
fn url_of(service: &Service, family: &str) -> String {
    if family == "-4" { format!("http://{}/", service.v4) } else { format!("http://[{}]/", service.v6) }
}

/// The kernel's count of an event of TCP in a host.
fn counted(host: &Host, counter: &str) -> u64 {
    host.kernel_counter(&format!("TcpExt{counter}")).unwrap()
}

/// Neither end has met a block of another connection's sequence numbers, nor a clock that runs backwards.
fn assert_translated(world: &World) {
    for host in [&world.edge.client, &world.edge.function] {
        for counter in ["TCPSACKDiscard", "PAWSEstab", "PAWSActive"] {
            assert_eq!(counted(host, counter), 0, "{counter} at {}", host.name());
        }
    }
}

/// Has clients begin while the serving node is stopped, so that nothing can be ready before they are accepted: `count` of
/// them, which `command` starts. Waits until they are, and until their first segments are held, and lets the node go on.
fn begin_cold(world: &World, service: &Service, count: u64, command: &mut Command) -> Process {
    let node = world.node.as_ref().unwrap().process();
    let at_client = Capture::start(world.edge.lab(), &world.edge.client, "eth0", "tcp or ip6").unwrap();
    node.freeze();
    let clients = world.edge.client.spawn("clients", command).unwrap();
    let accepted = |frame: &Frame| frame.is_syn_ack() && is_from(frame, service);
    at_client.wait_for("the clients to be accepted", count as usize, SOON, accepted).unwrap();
    // wrk tries whether anybody listens before it begins; that is one more.
    wait_until("what they say to be held", SOON, || world.number_of(&service.name, "held") >= count).unwrap();
    node.thaw();
    clients
}

fn is_from(frame: &Frame, service: &Service) -> bool {
    let addresses: [IpAddr; 2] = [service.v4.parse().unwrap(), service.v6.parse().unwrap()];
    frame.source().is_some_and(|from| addresses.contains(&from))
}

fn curl_command(world: &World, family: &str, service: &Service) -> Command {
    let mut command = world.edge.client.command("curl");
    command.args(["-sS", "--fail", "--max-time", "30", family]).arg(service.url());
    command
}

/// A service of each family and source.
fn of_all_kinds(function: &str) -> Vec<(Service, &'static str)> {
    let kinds = [("-4", "keep"), ("-6", "keep"), ("-4", "appliance"), ("-6", "appliance")];
    let service = |(number, (family, source)): (u16, (&'static str, &str))| {
        let service = spliced(&format!("{function}{number}"), number, function);
        (service.set("source", &format!("\"{source}\"")), family)
    };
    (0..).zip(kinds).map(service).collect()
}

/// The first client of a service, in both families and with either source, is accepted before there is an instance, and
/// the instance is asked for what the client asked for; clients that come later find a service like any other.
#[test]
fn a_cold_client_is_accepted_before_there_is_an_instance() {
    let services = of_all_kinds("hello");
    let world = World::new(services.iter().map(|(service, _)| service.clone()).collect());
    let at_client = Capture::start(world.edge.lab(), &world.edge.client, "eth0", "tcp or ip6").unwrap();
    let at_instance = Capture::start(world.edge.lab(), &world.edge.function, "eth0", "tcp or ip6").unwrap();
    for (service, family) in &services {
        let client = begin_cold(&world, service, 1, &mut curl_command(&world, family, service));
        assert!(client.wait(SOON).unwrap().success(), "{}", client.stderr());
        assert!(client.stdout().contains("hello from"), "{}", client.stdout());
        assert_eq!(world.number_of(&service.name, "wake"), 1);
    }
    let accepted = at_client.wait_for("every client to be accepted", 4, SOON, Frame::is_syn_ack).unwrap();
    let asked = at_instance.wait_for("every instance to be asked", 4, SOON, Frame::is_syn).unwrap();
    for frame in accepted.iter().chain(&asked) {
        let options = frame.tcp_options();
        assert!([2, 3, 4, 8].iter().all(|kind| options.contains(kind)), "{options:?}");
    }
    assert_eq!((accepted.len(), asked.len()), (4, 4));
    // One more client each, now that there is an instance: no wake, and a load of them.
    for (service, family) in &services {
        assert_eq!(curl(&world.edge.client, family, &service.url()).unwrap().status, 200);
        let load = wrk(&world.edge.client, "-c 10 -d 1s", &url_of(service, family)).unwrap();
        assert!(load.served > 0 && load.failed == 0, "{}: {load:?}", service.name);
        assert_eq!(world.number_of(&service.name, "wake"), 1);
    }
    assert_eq!(counted(&world.edge.client, "TCPSynRetrans"), 0, "a SYN was not answered");
    assert_translated(&world);
    world.conclude();
}

/// Twenty clients at once of a service that is cold: all are accepted, all are served, one wake.
#[test]
fn a_load_begins_on_a_cold_service() {
    let services =
        [spliced("load4", 0, "hello"), spliced("load6", 1, "hello").set("source", "\"appliance\"")];
    let world = World::new(services.to_vec());
    for (service, family) in services.iter().zip(["-4", "-6"]) {
        let mut wrk = world.edge.client.command("wrk");
        wrk.args(["-t", "1", "-c", "20", "-d", "2s"]).arg(url_of(service, family));
        let clients = begin_cold(&world, service, 20, &mut wrk);
        assert!(clients.wait(SOON).unwrap().success(), "{}", clients.stderr());
        let load = Load::parse(&clients.stdout()).unwrap();
        assert!(load.served > 0 && load.failed == 0, "{}: {load:?}", service.name);
        assert_eq!(world.number_of(&service.name, "wake"), 1);
    }
    assert_eq!(counted(&world.edge.client, "TCPSynRetrans"), 0, "a SYN was not answered");
    assert_translated(&world);
    world.conclude();
}

/// Four connections that are spliced from their first segment on carry a megabyte each way.
#[test]
fn a_megabyte_goes_each_way_through_a_splice() {
    let services = of_all_kinds("echo");
    let list = services.iter().map(|(service, _)| service.clone()).collect();
    let world = World::build(Shape::TwoPort, Site::new(slow_functions(), list));
    for (service, family) in &services {
        megabyte_from_cold(&world, service, family);
    }
    assert_translated(&world);
    world.conclude();
}

fn megabyte_from_cold(world: &World, service: &Service, family: &str) {
    let (sent, back) = world.megabyte_files();
    let mut post = client::post_command(&world.edge.client, family, &service.url(), &sent, &back);
    let post = begin_cold(world, service, 1, &mut post);
    assert!(post.wait(SOON * 2).unwrap().success(), "{}", post.stderr());
    world.same_megabyte(&sent, &back);
    assert_eq!(world.number_of(&service.name, "wake"), 1);
}

/// Drops a share of a host's TCP, both ways, at random. Loopback and everything else passes.
const LOSS: &str = "table inet loss {
  counter lost { }
  chain in {
    type filter hook input priority 0;
    iifname \"eth0\" meta l4proto tcp numgen random mod 40 0 counter name lost drop
  }
  chain out {
    type filter hook output priority 0;
    oifname \"eth0\" meta l4proto tcp numgen random mod 40 0 counter name lost drop
  }
}";

/// Drops what accepts a host's connections.
const DEAF: &str = "table inet deaf {
  chain in {
    type filter hook input priority 0;
    tcp flags & (syn | ack) == (syn | ack) counter drop
  }
}";

fn load_rules(world: &World, host: &Host, rules: &str) {
    let path = world.edge.lab().write("rules.nft", rules).unwrap();
    host.run(&format!("nft -f {}", path.display())).unwrap();
}

/// What is lost on the client's side is sent again by whoever sent it, across the splice.
#[test]
fn a_megabyte_survives_loss_through_a_splice() {
    let services = [spliced("echo4", 0, "echo"), spliced("echo6", 1, "echo").set("source", "\"appliance\"")];
    let world = World::build(Shape::TwoPort, Site::new(slow_functions(), services.to_vec()));
    load_rules(&world, &world.edge.client, LOSS);
    for (service, family) in services.iter().zip(["-4", "-6"]) {
        megabyte_from_cold(&world, service, family);
    }
    let lost = world.edge.client.run("nft list counter inet loss lost").unwrap();
    assert!(!lost.contains("packets 0 "), "nothing was lost: {lost}");
    let blocks: u64 = [&world.edge.client, &world.edge.function]
        .map(|host| counted(host, "TCPSackRecovery") + counted(host, "TCPSackShiftFallback"))
        .iter()
        .sum();
    assert!(blocks > 0, "nobody repaired by SACK");
    assert_translated(&world);
    world.conclude();
}

/// A SYN alone wakes nothing; who answers the cookie does.
#[test]
fn a_cookie_has_to_come_back_before_anything_starts() {
    let world = World::new(vec![spliced("proven", 0, "hello").set("verify_before_wake", "\"cookie\"")]);
    load_rules(&world, &world.edge.client, DEAF);
    for family in ["-4", "-6"] {
        let silent = curl(&world.edge.client, &format!("{family} --max-time 1"), "http://proven.fn.example/");
        assert!(silent.unwrap_err().to_string().contains("timed out"));
    }
    let deaf = world.edge.client.run("nft list ruleset").unwrap();
    assert!(!deaf.contains("packets 0 "), "no SYN-ACK came: {deaf}");
    let row = world.appliance.row("services", "proven").unwrap();
    assert_eq!((row["phase"].as_str(), row["wake"].as_u64()), (Some("cold"), Some(0)), "{row}");

    world.edge.client.run("nft flush ruleset").unwrap();
    for family in ["-4", "-6"] {
        let times = curl(&world.edge.client, family, "http://proven.fn.example/").unwrap();
        assert_eq!((times.status, times.body.contains("hello from")), (200, true), "{times:?}");
    }
    assert_eq!(world.number_of("proven", "wake"), 1);
    assert_translated(&world);
    world.conclude();
}

/// The first SYN of a client wakes nothing; its repetition does, and nobody but the clock is lost.
#[test]
fn a_second_syn_has_to_come_before_anything_starts() {
    // No longer than by default, which is shorter than the second that a client takes.
    let hold = "{ deadline_ms = 900, overflow = \"rst\" }";
    let twice = |service: Service| service.set("verify_before_wake", "\"second-syn\"").set("hold", hold);
    let held = hello("held", 1).set("trigger", "[\"syn\"]");
    let services = [twice(spliced("spliced", 0, "hello")), twice(held)];
    let world = World::new(services.to_vec());
    for (service, family) in services.iter().zip(["-4", "-6"]) {
        // Gone before its SYN is repeated, after a second.
        let gone = curl(&world.edge.client, &format!("{family} --max-time 0.5"), &service.url());
        assert!(gone.unwrap_err().to_string().contains("timed out"));
        assert_eq!(world.number_of(&service.name, "wake"), 0);
        let before = counted(&world.edge.client, "TCPSynRetrans");
        let times = curl(&world.edge.client, family, &service.url()).unwrap();
        assert_eq!((times.status, times.body.contains("hello from")), (200, true), "{times:?}");
        assert!(counted(&world.edge.client, "TCPSynRetrans") > before);
        assert_eq!(world.number_of(&service.name, "wake"), 1);
    }
    assert_translated(&world);
    world.conclude();
}

/// The function that the serving node has no code for: a wake fails, and who was accepted meanwhile is told at once, long
/// before the hold's deadline.
#[test]
fn a_wake_that_fails_resets_the_client() {
    let deadline = Duration::from_millis(3000);
    let hold = "{ deadline_ms = 3000, overflow = \"drop\" }";
    let ghost = spliced("ghost", 0, "ghost").set("hold", hold);
    let mut all = functions();
    all.push(Function::new("ghost", all[0].component.clone()));
    let mut world = World::without_node(Shape::TwoPort, Site::new(all, vec![ghost.clone()]));
    world.site.functions.retain(|function| function.name != "ghost");
    world.start_node();
    let resets = Capture::start(world.edge.lab(), &world.edge.client, "eth0", "tcp or ip6").unwrap();
    let reset =
        |frame: &Frame| frame.tcp_flags().is_some_and(|flags| flags & 0x04 != 0) && is_from(frame, &ghost);
    for (count, family) in (1..).zip(["-4", "-6"]) {
        let begin = Instant::now();
        let client = begin_cold(&world, &ghost, 1, &mut curl_command(&world, family, &ghost));
        // Accepted, then reset: curl's exit code for a connection that was lost.
        assert_eq!(client.wait(SOON).unwrap().code(), Some(56), "{}", client.stderr());
        assert!(begin.elapsed() < deadline, "the reset came after the deadline");
        resets.wait_for("the reset", count as usize, SOON, reset).unwrap();
        assert_eq!(world.number_of("ghost", "wake"), count);
        world.appliance.wait_for_service("ghost", "cold", SOON).unwrap();
    }
    world.conclude();
}
