//! The orchestrator as a process of its own: its death in the middle of a wake, and its coming and going.

use std::path::{Path, PathBuf};
use std::time::Duration;

use millrace_hw_tests::edge::client::{Load, curl, dig};
use millrace_hw_tests::edge::{Appliance, DNS, Edge, Link, Orchestrator, ServingNode, Shape, Site};
use millrace_hw_tests::lab::wait_until;

use crate::world::{BINARY, SOON, World, assert_refused, endpoint, functions, hello};

/// How long the return may take: links try again with growing pauses, and a service whose wakes came to nothing
/// several times in a row is left alone for a minute.
const RETURN_MAX: Duration = Duration::from_secs(120);

fn status(world: &World, service: &str) -> Option<u16> {
    curl(&world.edge.client, "-4 --max-time 3", &format!("http://{service}.fn.example/"))
        .ok()
        .map(|it| it.status)
}

/// A world whose orchestrator is a process of its own, with a service that is ready and one that is cold; and the
/// orchestrator's configuration.
fn apart() -> (World, Orchestrator, PathBuf) {
    let hold = "{ deadline_ms = 600, overflow = \"rst\" }";
    let services = vec![hello("warm", 0).set("hold", hold), hello("cold", 1).set("hold", hold)];
    let site = Site::new(functions(), services);
    let mut edge = Edge::new(Shape::TwoPort).unwrap();
    edge.watch().unwrap();
    let binary = Path::new(BINARY);
    let configuration = Appliance::configure(&edge, &site, "orchestrator.toml").unwrap();
    let orchestrator = Orchestrator::start(&edge, binary, &configuration).unwrap();
    let node = ServingNode::start(&edge, binary, &endpoint(), &site.functions).unwrap();
    let site = Site { link: Link::Grpc { endpoint: endpoint() }, ..site };
    let appliance = Appliance::start(&edge, binary, &site).unwrap();
    // A wake that comes before the node does is one that fails, and several of those are a reason to leave it alone.
    appliance.wait_for_node().unwrap();
    let world = World { appliance, node: Some(node), edge, site };
    wait_until("the warm function", SOON, || status(&world, "warm") == Some(200)).unwrap();
    (world, orchestrator, configuration)
}

#[test]
fn killed_in_the_middle_of_a_wake() {
    let (world, orchestrator, configuration) = apart();
    let binary = Path::new(BINARY);

    // It stops reading first, so that the wake is surely under way when it dies.
    orchestrator.process().freeze();
    dig(&world.edge.client, &format!("@{} cold.fn.example. A", DNS[0])).unwrap();
    wait_until("the wake", SOON, || {
        world.appliance.row("services", "cold").is_ok_and(|row| row["wake"] == 1)
    })
    .unwrap();
    orchestrator.process().kill().unwrap();

    // The cold one takes its overflow action; the ready one loses nothing, however often it is asked.
    assert_refused(curl(&world.edge.client, "-4", "http://cold.fn.example/"));
    for _ in 0..50 {
        assert_eq!(status(&world, "warm"), Some(200));
    }

    // Back again: the same appliance and the same serving node find each other, without a restart.
    let orchestrator = Orchestrator::start(&world.edge, binary, &configuration).unwrap();
    wait_until("the cold function after the return", RETURN_MAX, || status(&world, "cold") == Some(200))
        .unwrap();
    assert_eq!(status(&world, "warm"), Some(200));
    drop(orchestrator);
    world.conclude();
}

/// Stopped and continued, ended and started, five times each, under a load on the service that is ready: not one request
/// of it is lost. The cold one takes its overflow action while nobody could start it, and is cold, not forgotten, afterwards.
#[test]
fn it_comes_and_goes_under_a_load() {
    let (world, mut orchestrator, configuration) = apart();
    let snapshots = || world.appliance.show("link").unwrap()["counters"]["snapshots"].as_u64().unwrap();
    let cold_is = |phase: &str| drop(world.appliance.wait_for_service("cold", phase, SOON).unwrap());
    let gone = || {
        cold_is("bypass");
        assert_refused(curl(&world.edge.client, "-4", "http://198.18.0.2/"));
        assert_eq!(world.appliance.row("services", "warm").unwrap()["phase"], "ready");
    };
    let mut wrk = world.edge.client.command("wrk");
    wrk.args(["-t", "1", "-c", "10", "-d", "200s", "http://198.18.0.1/"]);
    let load = world.edge.client.spawn("wrk", &mut wrk).unwrap();
    for _ in 0..5 {
        let before = snapshots();
        orchestrator.process().freeze();
        gone();
        orchestrator.process().thaw();
        cold_is("cold");
        assert!(snapshots() > before, "not resynchronised");
    }
    for _ in 0..5 {
        let before = snapshots();
        orchestrator.process().kill().unwrap();
        gone();
        orchestrator = Orchestrator::start(&world.edge, Path::new(BINARY), &configuration).unwrap();
        cold_is("cold");
        assert!(snapshots() > before, "not resynchronised");
    }
    assert!(load.exited().is_none(), "the load was over before the orchestrator's last return");
    load.interrupt();
    load.wait(SOON).unwrap();
    let done = Load::parse(&load.stdout()).unwrap();
    assert!(done.served > 0 && done.failed == 0, "{done:?}");
    assert_eq!(world.number_of("cold", "wake"), 0, "nobody could have been told of a wake");
    wait_until("the cold function after the return", RETURN_MAX, || status(&world, "cold") == Some(200))
        .unwrap();
    assert_eq!(status(&world, "warm"), Some(200));
    assert_eq!((world.number_of("warm", "wake"), world.number_of("cold", "wake")), (1, 1));
    drop(orchestrator);
    world.conclude();
}

/// A serving node that dies takes its instances with it: the service is cold again, and wakes when the node is back.
#[test]
fn a_serving_node_that_dies_is_noticed() {
    let mut world = World::new(vec![hello("hello", 0)]);
    assert_eq!(status(&world, "hello"), Some(200));
    world.node.take().unwrap().process().kill().unwrap();
    wait_until("the instance to be gone", Duration::from_secs(60), || {
        let row = world.appliance.row("services", "hello").unwrap();
        row["phase"] != "ready"
    })
    .unwrap();
    world.start_node();
    wait_until("the function after the return", SOON, || status(&world, "hello") == Some(200)).unwrap();
    world.conclude();
}
