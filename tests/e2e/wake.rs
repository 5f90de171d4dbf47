//! First packets: a query or a SYN wakes a function once, what must wait is held, and the client sees an ordinary answer.

use millrace_hw_tests::demo::burst;
use millrace_hw_tests::edge::client::{curl, dig};
use millrace_hw_tests::edge::{self, DNS, Shape, Site};
use millrace_hw_tests::lab::{Capture, command, wait_until};

use crate::world::{SOON, World, assert_refused, functions, hello};

fn wakes(world: &World, service: &str) -> u64 {
    world.appliance.row("services", service).unwrap()["wake"].as_u64().unwrap()
}

#[test]
fn a_query_wakes_and_the_page_comes() {
    let world = World::new(vec![hello("cold4", 0), hello("cold6", 1)]);
    for (service, family) in [("cold4", "-4"), ("cold6", "-6")] {
        assert_eq!(world.appliance.row("services", service).unwrap()["phase"], "cold");
        let times = curl(&world.edge.client, family, &format!("http://{service}.fn.example/")).unwrap();
        assert_eq!((times.status, times.body.contains("hello from")), (200, true), "{times:?}");
        world.appliance.wait_for_service(service, "ready", SOON).unwrap();
        assert_eq!(wakes(&world, service), 1);
        // Warm now: no further wake.
        curl(&world.edge.client, family, &format!("http://{service}.fn.example/")).unwrap();
        assert_eq!(wakes(&world, service), 1);
    }
    world.conclude();
}

#[test]
fn a_syn_alone_wakes_and_is_held() {
    let world = World::new(vec![hello("cold", 0).set("trigger", "[\"syn\"]")]);
    // The name is answered and wakes nothing.
    let asked = dig(&world.edge.client, &format!("@{} cold.fn.example. A", DNS[0])).unwrap();
    assert_eq!(asked.answers, ["198.18.0.1"]);
    assert_eq!(world.appliance.row("services", "cold").unwrap()["phase"], "cold");
    let times = curl(&world.edge.client, "-4", "http://198.18.0.1/").unwrap();
    assert_eq!(times.status, 200);
    assert_eq!(world.edge.client.kernel_counter("TcpExtTCPSynRetrans").unwrap(), 0, "the SYN was not held");
    assert_eq!(wakes(&world, "cold"), 1);
    let fates = world.conclude();
    assert!(fates.get("held") >= 1 && fates.get("released") >= 1, "{fates:?}");
}

/// By its Ethernet and IP headers alone: a ping, and a datagram to a port that nobody has, wake; the page that is asked for
/// afterwards comes from a warm instance. What opens a connection wakes as well, and is held.
#[test]
fn any_packet_wakes_and_the_page_is_warm() {
    let flow = |name: &str, number| hello(name, number).set("trigger", "[\"flow\"]");
    let world = World::new(vec![flow("any4", 0), flow("any6", 1), flow("direct", 2)]);
    let client = &world.edge.client;
    // The name is answered and wakes nothing.
    dig(client, &format!("@{} any4.fn.example. A", DNS[0])).unwrap();
    assert_eq!(world.appliance.row("services", "any4").unwrap()["phase"], "cold");
    client.run("ping -n -c 1 -W 5 198.18.0.1").unwrap();
    command::succeed(client.command("bash").args(["-c", "echo rubbish > /dev/udp/2001:db8:f::2/4711"]))
        .unwrap();
    for (service, url) in [("any4", "http://198.18.0.1/"), ("any6", "http://[2001:db8:f::2]/")] {
        world.appliance.wait_for_service(service, "ready", SOON).unwrap();
        let times = curl(client, "", url).unwrap();
        assert_eq!((times.status, times.body.contains("hello from")), (200, true), "{times:?}");
        let row = world.appliance.row("services", service).unwrap();
        assert_eq!((row["wake"].as_u64(), row["held"].as_u64()), (Some(1), Some(0)), "{row}");
    }
    assert_eq!(curl(client, "-4", "http://direct.fn.example/").unwrap().status, 200);
    assert_eq!(client.kernel_counter("TcpExtTCPSynRetrans").unwrap(), 0, "the SYN was not held");
    let told: Vec<edge::Wake> = world.appliance.wakes().unwrap();
    let mut told: Vec<_> = told.iter().map(|wake| (wake.service.as_str(), wake.trigger.as_str())).collect();
    told.sort_unstable();
    assert_eq!(told, [("any4", "flow"), ("any6", "flow"), ("direct", "flow")]);
    let fates = world.conclude();
    assert!(fates.get("punted") >= 1 && fates.get("released") >= 1, "{fates:?}");
}

/// A wake that nobody's connection follows is a strike, and the next first packet has to be repeated; a connection clears it.
#[test]
fn a_ping_that_nobody_follows_is_a_strike_until_somebody_comes() {
    let world = World::new(vec![hello("any", 0).set("trigger", "[\"flow\"]")]);
    let shown = |strikes: u64, asks: &str| {
        wait_until(&format!("{strikes} strikes, and {asks} to be asked for"), SOON, || {
            let row = world.appliance.row("services", "any").unwrap();
            row["strikes"] == strikes && row["asks"] == asks
        })
        .unwrap();
    };
    world.edge.client.run("ping -n -c 1 -W 5 198.18.0.1").unwrap();
    world.appliance.wait_for_service("any", "ready", SOON).unwrap();
    shown(1, "second-syn");
    assert!(world.appliance.ask("show wakes").unwrap().contains("nobody completed a handshake"));
    assert_eq!(curl(&world.edge.client, "", "http://198.18.0.1/").unwrap().status, 200);
    shown(0, "none");
    assert_eq!(wakes(&world, "any"), 1);
    world.conclude();
}

/// Three wakes that nobody's connection follows: then the service is left alone, and what comes for it goes its overflow's
/// way, until the quarantine is over.
#[test]
fn a_service_that_is_woken_for_nothing_is_left_alone() {
    // Nothing can be ready: each wake fails at its deadline.
    let site = Site::new(
        functions(),
        vec![
            hello("any", 0)
                .set("trigger", "[\"flow\"]")
                .set("hold", "{ deadline_ms = 300, overflow = \"rst\" }"),
        ],
    );
    let world = World::without_node(Shape::TwoPort, site);
    let quarantined =
        || world.appliance.row("services", "any").is_ok_and(|row| row["phase"] == "quarantined");
    wait_until("the quarantine", SOON * 2, || {
        // Twice, for after a strike the second packet counts.
        for _ in 0..2 {
            let _nobody_answers = world.edge.client.run("ping -n -c 2 -i 0.2 -W 1 198.18.0.1");
        }
        quarantined()
    })
    .unwrap();
    let wakes_before = wakes(&world, "any");
    assert_refused(curl(&world.edge.client, "-4", "http://any.fn.example/"));
    assert_eq!((wakes(&world, "any"), quarantined()), (wakes_before, true));
    let text = world.appliance.ask("show services").unwrap();
    assert!(text.contains("quarantined"), "{text}");
    world.conclude();
}

#[test]
fn an_answer_can_wait_for_the_instance() {
    let world = World::new(vec![hello("cold", 0).set("dns_answer", "\"when-ready\"")]);
    let asked = dig(&world.edge.client, &format!("@{} cold.fn.example. A", DNS[0])).unwrap();
    assert_eq!(asked.answers, ["198.18.0.1"], "{}", asked.text);
    assert_eq!(world.appliance.row("services", "cold").unwrap()["phase"], "ready");
    assert_eq!(curl(&world.edge.client, "-4", "http://cold.fn.example/").unwrap().status, 200);
    assert_eq!(wakes(&world, "cold"), 1);
    world.conclude();
}

#[test]
fn two_hundred_clients_of_eight_networks_wake_once() {
    let world = World::new(vec![hello("burst", 0)]);
    let outcomes = burst::run(&world.edge.client, DNS[0], "burst.fn.example.").unwrap();
    assert_eq!(outcomes.len(), burst::clients().count());
    let failed: Vec<_> = outcomes.iter().filter(|outcome| outcome.error.is_some()).collect();
    assert!(failed.is_empty(), "{failed:#?}");
    assert_eq!(wakes(&world, "burst"), 1);
    world.conclude();
}

/// The serving node is stopped until the client has lost patience and sent its SYN again: what is held is still one
/// connection, and one arrives.
#[test]
fn a_syn_that_is_sent_again_while_held_is_one_connection() {
    let hold = "{ deadline_ms = 3000, overflow = \"rst\" }";
    let service = |name: &str, number| hello(name, number).set("trigger", "[\"syn\"]").set("hold", hold);
    let world = World::new(vec![service("slow4", 0), service("slow6", 1)]);
    let node = world.node.as_ref().unwrap().process();
    let retransmitted = || world.edge.client.kernel_counter("TcpExtTCPSynRetrans").unwrap();
    let capture = Capture::start(world.edge.lab(), &world.edge.function, "eth0", "tcp or ip6").unwrap();
    for (service, family) in [("slow4", "-4"), ("slow6", "-6")] {
        let before = retransmitted();
        node.freeze();
        let mut fetch = world.edge.client.command("curl");
        fetch
            .args(["-sS", "--fail", "--max-time", "10", family])
            .arg(format!("http://{service}.fn.example/"));
        let fetch = world.edge.client.spawn("curl", &mut fetch).unwrap();
        wait_until("the SYN to be sent again", SOON, || retransmitted() > before).unwrap();
        node.thaw();
        assert!(fetch.wait(SOON).unwrap().success(), "{}", fetch.stderr());
        assert!(fetch.stdout().contains("hello from"), "{}", fetch.stdout());
        assert_eq!(wakes(&world, service), 1);
    }
    let arrived = capture.finish().unwrap();
    assert_eq!(arrived.iter().filter(|frame| frame.is_syn()).count(), 2, "one SYN of each connection");
    assert_eq!(arrived.iter().filter(|frame| frame.is_syn_ack()).count(), 2, "accepted once");
    let fates = world.conclude();
    assert_eq!((fates.get("replaced"), fates.get("released")), (2, 2), "{fates:?}");
}

/// An idle function is stopped and costs nothing; the next packet wakes it again.
#[test]
fn an_idle_function_goes_and_comes_again() {
    let world = World::new(vec![hello("nap", 0).set("idle_reap_seconds", "1")]);
    assert_eq!(curl(&world.edge.client, "-4", "http://nap.fn.example/").unwrap().status, 200);
    world.appliance.wait_for_service("nap", "cold", SOON).unwrap();
    assert_eq!(curl(&world.edge.client, "-4", "http://nap.fn.example/").unwrap().status, 200);
    assert_eq!(wakes(&world, "nap"), 2);
    world.conclude();
}

/// The wake's own story: every point in its place, the notification before anything that answers.
#[test]
fn a_wake_is_told_in_order() {
    let world = World::new(vec![hello("cold", 0)]);
    curl(&world.edge.client, "-4", "http://cold.fn.example/").unwrap();
    let told: Vec<edge::Wake> = world.appliance.wakes().unwrap();
    let [wake] = &told[..] else { panic!("not one wake, though only one service was asked: {told:?}") };
    assert_eq!(wake.service, "cold");
    let (notified, ready) = (wake.notified_ms.unwrap(), wake.ready_ms.unwrap());
    assert!(0.0 <= notified && notified <= ready, "{wake:?}");
    if let Some(released) = wake.released_ms {
        assert!(ready <= released, "{wake:?}");
    }
    world.conclude();
}
