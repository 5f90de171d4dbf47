//! The operator's surface: every `show`, with and without `--json`, a trace, and the metrics.

use millrace_hw_tests::edge::client::curl;

use crate::world::{World, hello};

const SHOWN: [&str; 9] =
    ["ports", "workers", "nodes", "services", "flows", "names", "neighbours", "holds", "wakes"];

#[test]
fn everything_can_be_shown() {
    let world = World::new(vec![hello("hello", 0)]);
    assert_eq!(curl(&world.edge.client, "-4", "http://hello.fn.example/").unwrap().status, 200);
    for what in SHOWN {
        let shown = world.appliance.show(what).unwrap();
        let empty = shown.as_array().is_some_and(Vec::is_empty);
        assert!(!empty || what == "holds", "show {what} has nothing to say");
        let text = world.appliance.ask(&format!("show {what}")).unwrap();
        assert!(!text.trim_start().starts_with(['[', '{']), "show {what} is not for a person: {text}");
    }
    assert_eq!(world.appliance.show("link").unwrap()["up"], true);
    let ports = world.appliance.show("ports").unwrap().to_string();
    for port in ["wan", "lan", "upstream"] {
        assert!(ports.contains(port), "{ports}");
    }
    world.conclude();
}

#[test]
fn a_traced_frame_tells_its_way() {
    let world = World::new(vec![hello("hello", 0)]);
    // The trace waits for frames: pings give it some.
    let mut ping = world.edge.client.command("ping");
    let ping = world.edge.client.spawn("ping", ping.args(["-n", "-i", "0.1", "172.16.53.53"])).unwrap();
    let told = world.appliance.ask("trace 5").unwrap();
    drop(ping);
    for node in ["classify", "transit"] {
        assert!(told.contains(node), "{told}");
    }
    world.conclude();
}

#[test]
fn metrics_are_openmetrics() {
    let world = World::new(vec![hello("hello", 0)]);
    assert_eq!(curl(&world.edge.client, "-4", "http://hello.fn.example/").unwrap().status, 200);
    let text = world.appliance.metrics().unwrap();
    assert!(text.ends_with("# EOF\n"), "{text}");
    for line in text.lines().filter(|line| !line.starts_with('#')) {
        let value = line.rsplit(' ').next().unwrap();
        assert!(value.parse::<f64>().is_ok(), "no number in {line}");
    }
    assert!(text.contains("# TYPE millrace_"), "{text}");
    world.conclude();
}
