//! A ring that loses a link, where nobody beside it can stand in: a router further away does, through a tunnel. See
//! [`millrace_hw_tests::domain`].
//!
//! Nobody computes anything when the link goes down: the tables are still those of before, and lead over it.

use std::collections::BTreeMap;
use std::path::Path;

use millrace_hw_tests::domain::{Backups, Domain, Heard, Listeners, Stream};
use millrace_hw_tests::edge::Driver;
use millrace_hw_tests::lab::{Capture, Frame};
use serde_json::Value;

use crate::world::{BINARY, SOON};

const COUNT: u32 = 200;
/// The link on the way to router 4.
const FAILING: (usize, usize) = (1, 2);

/// Has the source send so many more datagrams, and these routers' hosts are to hear each of them once and in order, and no other to
/// hear anything: `heard` is all that there is to be.
fn carries(domain: &Domain, listeners: &Listeners, to: &[usize], heard: &mut Heard, first: u32) {
    for router in to {
        heard.entry((*router, Stream::V4, 0)).or_default().extend(first..first + COUNT);
    }
    domain.send(Stream::V4, first, COUNT).unwrap();
    let got = listeners.wait_for(heard).unwrap();
    assert!(got == *heard, "{:?}", got.iter().map(|(who, all)| (*who, all.len())).collect::<Vec<_>>());
}

/// What router 1 shows of the neighbour that router `number` is to it.
fn neighbour(domain: &Domain, number: usize) -> Option<Value> {
    let shown = domain.router(1).show("bier").unwrap();
    let rows = shown["neighbours"].as_array().unwrap().clone();
    rows.into_iter().find(|row| row["subdomain"] == 0 && row["neighbour"] == *domain.prefix(number))
}

/// Where router 1's tables lead: the BFR-ids by neighbour.
fn ways(domain: &Domain) -> BTreeMap<String, String> {
    let shown = domain.router(1).show("bier").unwrap();
    let [table] = &shown["bift"].as_array().unwrap()[..] else { panic!("{shown:#}") };
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    let ways = table["ways"].as_array().unwrap().iter();
    ways.map(|way| (text(&way["neighbour"]), text(&way["bfr_ids"]))).collect()
}

fn unroutable(domain: &Domain) -> u64 {
    domain.router(1).show("bier").unwrap()["counters"]["lost"]["unroutable"].as_u64().unwrap()
}

/// `filter` lets through what carries BIER through a tunnel.
fn a_tunnel_carries_on(driver: Driver, backups: Backups, tunnel: &str, filter: &str) {
    let domain = Domain::ring(Path::new(BINARY), driver, backups).unwrap();
    let listeners = domain.listen(1).unwrap();
    let mut heard = Heard::new();
    // Sockets of others see what a device of AF_PACKET reads, and nothing of what one of AF_XDP does.
    let watch = || {
        let start = || Capture::start(domain.lab(), domain.place(5), "r3", filter).unwrap();
        (driver == Driver::AfPacket).then(start)
    };
    let tunnelled = || {
        let row = neighbour(&domain, 5).unwrap();
        assert_eq!((&row["reach"], &row["links"][0]["encapsulation"]), (&"tunnel".into(), &tunnel.into()));
        // The other way around the ring.
        assert_eq!((&row["links"][0]["interface"], &row["down"]), (&"r3".into(), &false.into()), "{row:#}");
        row["copies"].as_u64().unwrap()
    };
    let assert_seen = |watched: Option<Capture>, count: u32| {
        let Some(capture) = watched else { return };
        let all = capture.wait_for("what came through the tunnel", count as usize, SOON, |_| true).unwrap();
        let numbers: Vec<_> = all.iter().map(number).collect();
        assert_eq!(
            numbers,
            (COUNT..COUNT + count).map(Some).collect::<Vec<_>>(),
            "each once, for one receiver"
        );
    };

    let before = ways(&domain);
    assert_eq!(before, [(domain.prefix(2), "2,4".into()), (domain.prefix(3), "3,5".into())].into());
    // Router 2 itself may be what has failed.
    assert_eq!(neighbour(&domain, 2).unwrap()["unprotected"], "2");
    carries(&domain, &listeners, &[4, 5], &mut heard, 0);
    assert_eq!(tunnelled(), 0);

    let watched = watch();
    domain.set_link(FAILING.0, FAILING.1, false).unwrap();
    carries(&domain, &listeners, &[4, 5], &mut heard, COUNT);
    assert_eq!((tunnelled(), unroutable(&domain)), (u64::from(COUNT), 0));
    assert_seen(watched, COUNT);
    assert_eq!(ways(&domain), before, "the tables are those of before");

    domain.set_link(FAILING.0, FAILING.1, true).unwrap();
    carries(&domain, &listeners, &[4, 5], &mut heard, 2 * COUNT);
    assert_eq!(tunnelled(), u64::from(COUNT), "back on the link");
    domain.conclude().unwrap();
}

/// The number of a datagram of the stream, which ends with it and blanks, however it is wrapped up.
fn number(frame: &Frame) -> Option<u32> {
    let payload = frame.bytes.get(frame.bytes.len().checked_sub(PAYLOAD)?..)?;
    std::str::from_utf8(payload).ok()?.trim_end().parse().ok()
}

/// Bytes of each datagram of the stream.
const PAYLOAD: usize = 600;

#[test]
fn a_router_further_away_stands_in_through_a_tunnel_over_udp_by_af_xdp() {
    a_tunnel_carries_on(Driver::AfXdp, Backups::Udp, "udp", "");
}

#[test]
fn a_router_further_away_stands_in_through_a_tunnel_over_udp_by_af_packet() {
    a_tunnel_carries_on(Driver::AfPacket, Backups::Udp, "udp", "udp and dst port 8138");
}

#[test]
fn a_router_further_away_stands_in_through_a_tunnel_over_ipv6() {
    a_tunnel_carries_on(Driver::AfPacket, Backups::Ipv6, "ipv6", "ip6 proto 253");
}

/// The same ring with the same link gone, and nobody to stand in: what is for router 4 is lost and counted, and router 5 served.
#[test]
fn without_routers_further_away_the_ring_loses_the_stream() {
    let domain = Domain::ring(Path::new(BINARY), Driver::AfXdp, Backups::Near).unwrap();
    let listeners = domain.listen(1).unwrap();
    let mut heard = Heard::new();
    carries(&domain, &listeners, &[4, 5], &mut heard, 0);
    assert_eq!(neighbour(&domain, 5), None);
    assert_eq!(neighbour(&domain, 2).unwrap()["unprotected"], "2,4");
    domain.set_link(FAILING.0, FAILING.1, false).unwrap();
    carries(&domain, &listeners, &[5], &mut heard, COUNT);
    assert_eq!(unroutable(&domain), u64::from(COUNT));
    domain.conclude().unwrap();
}
