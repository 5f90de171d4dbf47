//! Two workers on one machine, each with a queue of its own on every port: a flow belongs to one of them, wherever its
//! frames arrive. On `net_af_packet`, where the kernel shares out flows by a hash that isn't ours.

use millrace_hw_tests::edge::client::{curl, dig, wrk};
use millrace_hw_tests::edge::{DNS, Driver, Service, Shape, Site};

use crate::world::{World, functions, hello};

/// A counter of each worker's, first of its row, then of its fates.
fn each(world: &World, counter: &str) -> Vec<u64> {
    let workers = world.appliance.show("workers").unwrap();
    let of = |worker: &serde_json::Value| {
        worker[counter].as_u64().or_else(|| worker["fates"][counter].as_u64()).unwrap()
    };
    workers["workers"].as_array().unwrap().iter().map(of).collect()
}

#[test]
fn two_workers_share_the_flows() {
    let services = vec![
        hello("held", 0),
        hello("ours", 1).set("source", "\"appliance\""),
        Service::new("spliced", 2, "hello").set("trigger", "[\"syn\"]").set("first_packet", "\"splice\""),
    ];
    let site = Site { workers: 2, driver: Driver::AfPacket, ..Site::new(functions(), services.clone()) };
    let world = World::build(Shape::TwoPort, site);
    for port in ["wan", "lan", "upstream"] {
        let row = world.appliance.row("ports", port).unwrap();
        assert_eq!((row["rx_queues"].as_u64(), row["tx_queues"].as_u64()), (Some(2), Some(2)), "{row}");
    }
    let shared = world.appliance.process().stderr().matches("share CPU 0-1").count();
    assert_eq!(shared, 1, "one warning: {}", world.appliance.process().stderr());
    for number in 0..20 {
        let service = &services[number % services.len()];
        let asked =
            dig(&world.edge.client, &format!("@{} {} A", DNS[number % 2], service.dns_name())).unwrap();
        assert_eq!(asked.answers, std::slice::from_ref(&service.v4), "{}", asked.text);
    }
    for service in &services {
        for family in ["-4", "-6"] {
            let times = curl(&world.edge.client, family, &service.url()).unwrap();
            assert_eq!((times.status, times.body.contains("hello from")), (200, true), "{times:?}");
        }
        for url in [format!("http://{}/", service.v4), format!("http://[{}]/", service.v6)] {
            let load = wrk(&world.edge.client, "-c 20 -d 1s", &url).unwrap();
            assert!(load.served > 0 && load.failed == 0, "{}: {load:?}", service.name);
        }
        assert_eq!(world.number_of(&service.name, "wake"), 1);
    }
    // Both queues had frames, both workers have flows, and both gave the other what is its own.
    for counter in ["received", "flows", "handed_out", "handed_in", "answered", "forwarded"] {
        let counted = each(&world, counter);
        assert!(counted.len() == 2 && counted.iter().all(|count| *count > 0), "{counter}: {counted:?}");
    }
    assert_eq!(each(&world, "events_lost"), [0, 0]);
    let fates = world.conclude();
    assert_eq!(fates.get("handed_in"), fates.get("handed_out"), "{fates:?}");
}
