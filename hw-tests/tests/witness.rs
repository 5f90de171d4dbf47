//! The witnesses are tested before they judge: a kernel router stands in for the appliance, once honest, once changing
//! what passes.

use std::collections::BTreeSet;
use std::io::{Read as _, Write as _};
use std::net::{IpAddr, TcpListener};

use millrace_hw_tests::demo::{burst, transit};
use millrace_hw_tests::edge::client::{curl, dig};
use millrace_hw_tests::edge::{Edge, Shape, WAN};
use millrace_hw_tests::lab::NameServer;

/// Puts the kernel's own forwarding where the appliance will be.
fn kernel_router(edge: &Edge) {
    let router = &edge.appliance;
    for (interface, addresses) in [
        ("wan", ["192.0.2.1/24", "2001:db8::1/64"]),
        ("lan", ["198.51.100.1/24", "2001:db8:1::1/64"]),
        ("upstream", ["172.16.53.1/24", "2001:db8:2::1/64"]),
    ] {
        router.sysctl(&format!("net.ipv6.conf.{interface}.disable_ipv6=0")).unwrap();
        router.run(&format!("ip link set dev {interface} arp on multicast on")).unwrap();
        for address in addresses {
            router.address(interface, address).unwrap();
        }
    }
    router.sysctl("net.ipv4.ip_forward=1").unwrap();
    router.sysctl("net.ipv6.conf.all.forwarding=1").unwrap();
    router.route("10.0.0.0/8", "192.0.2.2").unwrap();
}

#[test]
fn payload_that_changed_on_its_way_is_noticed() {
    let edge = Edge::new(Shape::TwoPort).unwrap();
    kernel_router(&edge);
    let honest = transit::ask(&edge, 10).unwrap();
    assert_eq!(honest, transit::Transit { queries: 10, answered: 10, payload_identical: true });

    // Another source address means another UDP checksum, and that is enough.
    edge.appliance.run("nft add table inet witness").unwrap();
    edge.appliance
        .run("nft add chain inet witness out { type nat hook postrouting priority 100 ; }")
        .unwrap();
    edge.appliance.run("nft add rule inet witness out oifname upstream masquerade").unwrap();
    let changed = transit::ask(&edge, 10).unwrap();
    assert_eq!((changed.answered, changed.payload_identical), (10, false));
}

/// Answers so many requests with a page, one after the other, and tells who asked.
fn serve(listener: &TcpListener, requests: usize) -> BTreeSet<IpAddr> {
    let mut seen = BTreeSet::new();
    for _ in 0..requests {
        let (mut stream, from) = listener.accept().unwrap();
        seen.insert(from.ip());
        let mut request = Vec::new();
        while !request.ends_with(b"\r\n\r\n") {
            let mut bytes = [0; 1024];
            let length = stream.read(&mut bytes).unwrap();
            assert!(length > 0, "{from} left in the middle of its request");
            request.extend_from_slice(&bytes[..length]);
        }
        let page = b"HTTP/1.1 200 OK\r\nContent-Length: 7\r\nConnection: close\r\n\r\na page\n";
        stream.write_all(page).unwrap();
    }
    seen
}

#[test]
fn clients_of_a_burst_are_served_from_their_own_addresses() {
    let edge = Edge::new(Shape::TwoPort).unwrap();
    kernel_router(&edge);
    // A name server and a web server on the function host, where all 200 clients reach them.
    let names = "hello A 198.51.100.21\n";
    let _names =
        NameServer::start(edge.lab(), &edge.function, &["198.51.100.21"], "fn.example.", names).unwrap();
    let listener = edge.function.enter(|| TcpListener::bind(("198.51.100.21", 80))).unwrap().unwrap();
    let server = std::thread::spawn(move || serve(&listener, 201));
    assert_eq!(curl(&edge.client, "-4", "http://198.51.100.21/").unwrap().body, "a page\n");

    let outcomes = burst::run(&edge.client, "198.51.100.21", "hello.fn.example.").unwrap();
    let failed: Vec<_> = outcomes.iter().filter(|outcome| outcome.error.is_some()).collect();
    assert!(failed.is_empty(), "{failed:#?}");
    let seen = server.join().unwrap();
    for client in burst::clients() {
        assert!(seen.contains(&client), "{client} was not seen by the server");
    }

    // Nobody is left out of the count when there is no such name.
    let outcomes = burst::run(&edge.client, "198.51.100.21", "nobody.fn.example.").unwrap();
    assert!(outcomes.iter().all(|outcome| outcome.error.is_some()) && outcomes.len() == 200);
    assert!(dig(&edge.client, &format!("@{} hello.fn.example. A", WAN[0])).is_err(), "nobody answers there");
}
