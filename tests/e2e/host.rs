//! The appliance as a host: found by ARP and neighbour discovery, answers pings, from every network it is on.

use millrace_hw_tests::edge::{DNS, RESOLVER, Shape, Site, WAN};

use crate::world::{World, functions, hello};

#[test]
fn it_is_found_and_answers_pings_on_every_port() {
    let world = World::without_node(Shape::TwoPort, Site::new(functions(), vec![hello("hello", 0)]));
    let from_function = ["198.51.100.1", "2001:db8:1::1"];
    let from_resolver = ["172.16.53.1", "2001:db8:2::1"];
    for (host, addresses) in [
        (&world.edge.client, WAN),
        (&world.edge.function, from_function),
        (&world.edge.resolver, from_resolver),
    ] {
        for address in addresses {
            host.run(&format!("ping -n -c 3 -i 0.2 -W 5 {address}")).unwrap();
            let neighbours = host.run(&format!("ip neighbour show {address}")).unwrap();
            assert!(neighbours.contains("lladdr"), "{neighbours}");
        }
    }
    world.conclude();
}

#[test]
fn large_pings_come_back_whole() {
    let world = World::without_node(Shape::TwoPort, Site::new(functions(), vec![hello("hello", 0)]));
    // 1472 and 1452 bytes fill an MTU of 1500 to the last byte.
    for (address, size) in [(WAN[0], 1472), (WAN[1], 1452)] {
        let text =
            world.edge.client.run(&format!("ping -n -c 2 -i 0.2 -W 5 -M do -s {size} {address}")).unwrap();
        assert!(text.contains(" 0% packet loss"), "{text}");
    }
    world.conclude();
}

#[test]
fn addresses_that_only_dns_listens_at_are_found_too() {
    let world = World::without_node(Shape::TwoPort, Site::new(functions(), vec![hello("hello", 0)]));
    for server in DNS {
        let text = world.edge.client.run(&format!("dig +short +time=5 @{server} ns1.fn.example. A")).unwrap();
        assert_eq!(text.trim(), "192.0.2.53");
        let neighbours = world.edge.client.run(&format!("ip neighbour show {server}")).unwrap();
        assert!(neighbours.contains("lladdr"), "{neighbours}");
    }
    world.conclude();
}

#[test]
fn neighbours_that_it_learns_are_shown() {
    let world = World::without_node(Shape::TwoPort, Site::new(functions(), vec![hello("hello", 0)]));
    world.edge.client.run(&format!("ping -n -c 1 -W 5 {}", RESOLVER[0])).unwrap();
    let shown = world.appliance.show("neighbours").unwrap().to_string();
    for (host, address) in [(&world.edge.client, "192.0.2.2"), (&world.edge.resolver, RESOLVER[0])] {
        assert!(shown.contains(address), "{address} is not in {shown}");
        assert!(shown.contains(&host.mac("eth0").unwrap()), "its address is not in {shown}");
    }
    world.conclude();
}
