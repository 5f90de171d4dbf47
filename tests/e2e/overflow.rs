//! What cannot wait any longer takes the service's overflow action. The serving node is frozen here: it was asked to
//! start an instance, and neither does nor says that it won't.

use std::time::{Duration, Instant};

use millrace_hw_tests::edge::client::curl;
use millrace_hw_tests::edge::web::serve_files;
use millrace_hw_tests::edge::{Service, Shape, Site};

use crate::world::{World, assert_refused, functions, hello};

/// How long packets are held in these tests.
const HOLD: &str = "{ deadline_ms = 400, overflow = \"ACTION\" }";

fn cold(name: &str, number: u16, action: &str) -> Service {
    hello(name, number).set("hold", &HOLD.replace("ACTION", action))
}

/// A world whose serving node has registered and does nothing from now on.
fn frozen(site: Site) -> World {
    let world = World::build(Shape::TwoPort, site);
    world.node.as_ref().unwrap().process().freeze();
    world
}

#[test]
fn a_held_syn_is_reset_at_its_deadline() {
    let world = frozen(Site::new(functions(), vec![cold("late", 0, "rst")]));
    for family in ["-4", "-6"] {
        let begin = Instant::now();
        assert_refused(curl(&world.edge.client, family, "http://late.fn.example/"));
        let waited = begin.elapsed();
        assert!(
            (Duration::from_millis(400)..Duration::from_secs(5)).contains(&waited),
            "reset after {waited:?}"
        );
    }
    let fates = world.conclude();
    assert!(fates.get("expired") >= 2 && fates.get("release_sent") >= 2, "no reset of ours: {fates:?}");
}

#[test]
fn a_held_syn_is_dropped_at_its_deadline() {
    let world = frozen(Site::new(functions(), vec![cold("late", 0, "drop")]));
    let silent = curl(&world.edge.client, "-4 --max-time 2", "http://late.fn.example/").unwrap_err();
    assert!(silent.to_string().contains("timed out"), "{silent}");
    let fates = world.conclude();
    assert!(fates.get("expired") >= 1 && fates.get("release_sent") == 0, "{fates:?}");
}

/// A fixed backend beside the function serves those that cannot wait.
#[test]
fn a_held_syn_goes_to_the_fallback_at_its_deadline() {
    let site = Site::new(
        functions(),
        vec![
            cold("late", 0, "fallback")
                .set("backends", "[{ address = \"198.51.100.21\" }, { address = \"2001:db8:1::21\" }]"),
        ],
    );
    let world = frozen(site);
    let page = world.edge.lab().write("page.txt", "the fixed backend\n").unwrap();
    let server = serve_files(&world.edge, "198.51.100.21", page.parent().unwrap()).unwrap();
    let times = curl(&world.edge.client, "-4", "http://late.fn.example/page.txt").unwrap();
    assert_eq!((times.status, times.body.as_str()), (200, "the fixed backend\n"));
    drop(server);
    world.conclude();
}

/// More clients than one network may have waiting: the rest takes the overflow action at once, nobody else suffers.
#[test]
fn holds_of_one_network_are_bounded() {
    let site = Site::new(functions(), vec![cold("late", 0, "rst")]).limit("holds_per_prefix", 4);
    let world = frozen(site);
    let script = "for port in $(seq 20); do (exec 3<>/dev/tcp/198.18.0.1/80) 2>/dev/null & done; wait";
    millrace_hw_tests::lab::command::succeed(world.edge.client.command("bash").args(["-c", script])).unwrap();
    let fates = world.conclude();
    assert_eq!(fates.get("held"), 4, "{fates:?}");
    assert!(fates.get("answered") >= 16, "a reset for each of the others: {fates:?}");
}
