//! What is not ours passes: unchanged from the IP payload on, both ways, with intercept on.

use millrace_hw_tests::demo::transit;
use millrace_hw_tests::edge::client::dig;
use millrace_hw_tests::edge::{RESOLVER, Shape, Site};

use crate::world::{World, functions, hello};

fn world() -> World {
    World::without_node(Shape::TwoPort, Site::new(functions(), vec![hello("hello", 0)]))
}

#[test]
fn queries_for_others_arrive_as_they_left() {
    let world = world();
    let seen = transit::ask(&world.edge, 20).unwrap();
    assert_eq!(seen, transit::Transit { queries: 20, answered: 20, payload_identical: true });
    let fates = world.conclude();
    assert!(fates.get("forwarded") >= 40, "{fates:?}");
}

#[test]
fn a_query_in_transit_for_a_name_of_ours_is_answered_here() {
    let world = world();
    for server in RESOLVER {
        let answer = dig(&world.edge.client, &format!("@{server} hello.fn.example. A")).unwrap();
        assert_eq!(answer.answers, ["198.18.0.1"], "{}", answer.text);
        // No exact hit, so it is not ours to answer: the upstream does.
        let answer = dig(&world.edge.client, &format!("@{server} nobody.fn.example. A")).unwrap();
        assert_eq!(answer.status, "NXDOMAIN", "{}", answer.text);
        assert!(answer.text.contains("hostmaster.example."), "not the upstream's SOA: {}", answer.text);
    }
    world.conclude();
}

#[test]
fn other_traffic_is_forwarded_in_both_families() {
    let world = world();
    for server in RESOLVER {
        world.edge.client.run(&format!("ping -n -c 3 -i 0.2 -W 5 {server}")).unwrap();
        let text =
            world.edge.client.run(&format!("dig +tcp +short +time=5 @{server} www.example. A")).unwrap();
        assert_eq!(text.trim(), "198.51.100.80");
    }
    // One hop more: the appliance takes one off the hop limit, and says so when none is left.
    let [v4, v6] = RESOLVER;
    for (server, too_short) in [(v4, "-4"), (v6, "-6")] {
        let tried = world.edge.client.run(&format!("ping {too_short} -n -c 1 -W 1 -t 1 {server}"));
        assert!(tried.is_err(), "a packet without a hop left came through to {server}");
        world.edge.client.run(&format!("ping {too_short} -n -c 1 -W 5 -t 2 {server}")).unwrap();
    }
    world.conclude();
}
