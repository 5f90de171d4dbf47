//! Five appliances of a BIER domain, with real streams, pings and traces: see [`millrace_hw_tests::domain`].

use std::path::Path;

use millrace_hw_tests::domain::{Domain, Heard, Stream};
use millrace_hw_tests::edge::Driver;
use millrace_hw_tests::lab::{Look, wait_until};
use serde_json::Value;

use crate::world::{BINARY, SOON};

const COUNT: u32 = 300;

fn domain(driver: Driver) -> Domain {
    Domain::new(Path::new(BINARY), driver).unwrap()
}

/// The right receivers hear each datagram once and in order, and nobody else hears any; each link carries each datagram once.
fn carries_streams(domain: &Domain) {
    let listeners = domain.listen(1).unwrap();
    let expected = listeners.expected(&[(Stream::V4, COUNT), (Stream::V6, COUNT)]);
    domain.send(Stream::V4, 0, COUNT).unwrap();
    domain.send(Stream::V6, 0, COUNT).unwrap();
    let heard = listeners.wait_for(&expected).unwrap();
    assert!(heard == expected, "{:?}", heard.iter().map(|(who, all)| (*who, all.len())).collect::<Vec<_>>());
    let links = domain.link_frames().unwrap();
    let on = |from: &str, to: &str| {
        let link = links.iter().find(|link| link.from == from && link.to == to);
        link.map_or(0, |link| link.frames)
    };
    let (both, one) = (2 * u64::from(COUNT), u64::from(COUNT));
    assert_eq!((on("r1", "r2"), on("r2", "r4")), (one, one), "{links:?}");
    assert_eq!((on("r1", "r3"), on("r3", "r5")), (both, both), "{links:?}");
    assert_eq!(links.iter().map(|link| link.frames).sum::<u64>(), 6 * one, "{links:?}");
}

#[test]
fn streams_reach_the_right_receivers_once_by_af_xdp() {
    let domain = domain(Driver::AfXdp);
    carries_streams(&domain);
    domain.conclude().unwrap();
}

/// Long payloads are shared between copies where a port sends frames of several segments, as this one does.
#[test]
fn streams_reach_the_right_receivers_once_by_af_packet_which_pings_and_traces_follow() {
    let domain = domain(Driver::AfPacket);
    carries_streams(&domain);
    pings(&domain);
    traces(&domain);
    trees_of_adjacencies(&domain);
    domain.conclude().unwrap();
}

/// The receivers of the flows that enter at router 1, as it shows them.
fn wait_for_receivers(domain: &Domain, receivers: &[&str]) {
    wait_until("the receivers to be learnt", SOON, || {
        let shown = domain.router(1).show("bier").unwrap();
        let rows = shown["overlay"].as_array().cloned().unwrap_or_default();
        match rows
            .iter()
            .map(|row| row["receivers"].as_str().unwrap_or_default())
            .eq(receivers.iter().copied())
        {
            true => Look::Done(()),
            false => Look::NotYet(shown["overlay"].to_string()),
        }
    })
    .unwrap();
}

/// No router is told who listens: a host joins, its router says so in BIER, and a flow goes there as long as somebody stays.
#[test]
fn hosts_that_join_and_leave_behind_one_appliance_are_sent_to_by_another() {
    let domain = Domain::learning(Path::new(BINARY), Driver::AfXdp).unwrap();
    let both = |domain: &Domain, first: u32| {
        domain.send(Stream::V4, first, COUNT).unwrap();
        domain.send(Stream::V6, first, COUNT).unwrap();
    };
    let all = |router: usize, first: u32| -> Heard {
        let streams = [Stream::V4, Stream::V6];
        streams.map(|stream| ((router, stream, 0), (first..first + COUNT).collect())).into()
    };
    wait_for_receivers(&domain, &[]);
    let four = domain.listen_behind(&[4], 1).unwrap();
    wait_for_receivers(&domain, &["4", "4"]);
    both(&domain, 0);
    assert_eq!(four.wait_for(&all(4, 0)).unwrap(), all(4, 0));
    let five = domain.listen_behind(&[5], 1).unwrap();
    wait_for_receivers(&domain, &["4,5", "4,5"]);
    // Both routers listen to all sources of both groups.
    let learnt = domain.router(1).show("bier").unwrap()["learnt"].clone();
    let rows = learnt.as_array().unwrap().iter().map(|row| {
        assert!(row["mode"] == "exclude" && row["expires_seconds"].as_f64().unwrap() > 0.0, "{row}");
        (row["bfr_id"].as_u64().unwrap(), row["group"].as_str().unwrap().to_owned())
    });
    let groups = [Stream::V4, Stream::V6].map(|stream| stream.group().to_owned());
    let expected = groups.iter().flat_map(|group| [4, 5].map(|id| (id, group.clone())));
    assert_eq!(rows.collect::<Vec<_>>(), expected.collect::<Vec<_>>(), "{learnt}");
    let text = domain.router(1).ask("show bier overlay").unwrap();
    assert!(text.contains("LISTENS TO"), "{text}");
    drop(four);
    wait_for_receivers(&domain, &["5", "5"]);
    both(&domain, COUNT);
    assert_eq!(five.wait_for(&all(5, COUNT)).unwrap(), all(5, COUNT));
    drop(five);
    wait_for_receivers(&domain, &[]);
    let count = |what: &str| domain.router(1).show("link").unwrap()["counters"][what].as_u64().unwrap();
    assert!(count("signals_reports") >= 6, "two groups: two that join, one or two that leave");
    assert_eq!(count("signals_malformed") + count("signals_unwanted"), 0);
    // The last of a stream that nobody listens to any more stays where it enters: a frame has one fate, and each of these has this
    // one. (Links may carry the router's questions meanwhile.)
    let unwanted = || -> u64 {
        let nodes = domain.router(1).show("nodes").unwrap();
        nodes.as_array().unwrap().iter().filter_map(|node| node["drops"]["multicast"].as_u64()).sum()
    };
    let before = unwanted();
    domain.send(Stream::V4, 2 * COUNT, COUNT).unwrap();
    wait_until("the source's frames to be dropped", SOON, || match unwanted() - before {
        dropped if dropped >= u64::from(COUNT) => Look::Done(()),
        dropped => Look::NotYet(dropped.to_string()),
    })
    .unwrap();
    domain.conclude().unwrap();
}

fn ask(domain: &Domain, args: &str) -> Value {
    let text = domain.router(1).ask(&format!("bier {args} --json")).unwrap();
    serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error}: {text}"))
}

fn pings(domain: &Domain) {
    for reply in ["bier", "udp"] {
        let ping =
            ask(domain, &format!("ping --bits 1-5 --count 2 --interval 0.1 --timeout 20 --reply {reply}"));
        assert_eq!(ping["reports"].as_array().unwrap().len(), 2, "{ping:#}");
        for id in 1..=5 {
            let router = &ping["routers"][id.to_string()];
            assert_eq!((&router["sent"], &router["answered"]), (&2.into(), &2.into()), "{ping:#}");
            assert!(router["min_ms"].as_f64().unwrap() > 0.0, "{ping:#}");
        }
        for answer in ping["reports"][0]["replies"].as_array().unwrap() {
            // Router 2 is only passed through on its way to others.
            let code = if [1, 2, 3].map(Value::from).contains(&answer["bfr_id"]) { 4 } else { 3 };
            assert_eq!((&answer["code"], &answer["by"]), (&code.into(), &reply.into()), "{ping:#}");
        }
    }
    let text = domain.router(1).ask("bier ping --bits 4 --count 1 --timeout 20").unwrap();
    assert!(text.contains("seq 1: 4 10.255.0.4") && text.contains("the only receiver"), "{text}");
    // There is no router 9.
    let nobody = domain.router(1).ask("bier ping --bits 4,9 --count 1 --timeout 1").unwrap_err().to_string();
    assert!(nobody.contains("exit status: 1"), "{nobody}");
    let wrong = domain.router(1).ask("bier ping --bits 0").unwrap_err().to_string();
    assert!(wrong.contains("exit status: 2"), "{wrong}");
    let elsewhere = domain.router(1).ask("bier ping --bits 4 --subdomain 7").unwrap_err().to_string();
    assert!(elsewhere.contains("sub-domain 7 isn't configured"), "{elsewhere}");
}

/// To routers 4 and 5 over 2, as the bits say and no table would have it.
fn trees_of_adjacencies(domain: &Domain) {
    let links = [(1, 2), (2, 3), (2, 4), (3, 5)];
    let bits: Vec<_> = links.iter().map(|(from, to)| Domain::link_bit(*from, *to).to_string()).collect();
    let tree = format!("--subdomain 1 --bits {},4,5 --receivers 4,5 --timeout 20", bits.join(","));
    for reply in ["bier", "udp"] {
        let ping = ask(domain, &format!("ping {tree} --count 2 --interval 0.1 --reply {reply}"));
        for bit in ["4", "5"] {
            let router = &ping["routers"][bit];
            assert_eq!((&router["sent"], &router["answered"]), (&2.into(), &2.into()), "{ping:#}");
        }
    }
    let trace = ask(domain, &format!("trace {tree}"));
    assert_eq!(trace["missing"], "", "{trace:#}");
    let hops = trace["hops"].as_array().unwrap().iter().map(|hop| {
        let replies = hop["replies"].as_array().unwrap().iter();
        let mut names: Vec<_> = replies.map(|one| format!("{} {}", one["prefix"], one["bfr_id"])).collect();
        names.sort();
        assert_eq!(hop["silent"], 0, "{trace:#}");
        names
    });
    let router = |number: u8, bit: &str| format!("\"10.255.0.{number}\" {bit}");
    let expected = [vec![router(2, "null")], vec![router(3, "null"), router(4, "4")], vec![router(5, "5")]];
    assert_eq!(hops.collect::<Vec<_>>(), expected, "{trace:#}");
    let untold = domain.router(1).ask("bier ping --subdomain 1 --bits 4,5").unwrap_err().to_string();
    assert!(untold.contains("say which of them are those of receivers"), "{untold}");
}

fn traces(domain: &Domain) {
    let trace = ask(domain, "trace --bits 3,4,5 --timeout 20");
    assert_eq!(trace["missing"], "", "{trace:#}");
    let hops = trace["hops"].as_array().unwrap();
    let mut seen: Vec<Vec<String>> = Vec::new();
    for hop in hops {
        let replies = hop["replies"].as_array().unwrap();
        let mut row: Vec<_> =
            replies.iter().map(|one| format!("{} {}", one["prefix"], one["code"])).collect();
        row.sort();
        assert_eq!(hop["silent"], 0, "{trace:#}");
        seen.push(row);
    }
    let first = ["\"10.255.0.2\" 5", "\"10.255.0.3\" 4"].map(str::to_owned).to_vec();
    let second = ["\"10.255.0.4\" 3", "\"10.255.0.5\" 3"].map(str::to_owned).to_vec();
    assert_eq!(seen, [first, second], "{trace:#}");
    let two =
        hops[0]["replies"].as_array().unwrap().iter().find(|one| one["prefix"] == "10.255.0.2").unwrap();
    let way = &two["ways"][0];
    assert_eq!((&way["neighbour"], &way["bfr_ids"]), (&"10.255.0.4".into(), &"4".into()), "{trace:#}");
    assert_eq!((&way["address"], &way["mtu_bytes"]), (&"10.0.3.4".into(), &1500.into()), "{trace:#}");
    let text = domain.router(1).ask("bier trace --bits 5 --timeout 20").unwrap();
    assert!(text.contains("to 10.255.0.5 at 10.0.4.5, MTU 1500, for 5"), "{text}");
    let short =
        domain.router(1).ask("bier trace --bits 5 --hops-max 1 --timeout 20").unwrap_err().to_string();
    assert!(short.contains("exit status: 1"), "{short}");
}
