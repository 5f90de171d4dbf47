//! Queries through the worker: for us, past us, for cold functions, and for others.

mod common;

use std::net::{Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

use common::frames::*;
use common::*;
use hickory_proto::op::{Message, MessageType, OpCode, Query, ResponseCode};
use hickory_proto::rr::{Name, RecordType};
use millrace_fastpath::event::{Event, Trigger};
use millrace_fastpath::node::NodeId;
use millrace_fastpath::slots::{Phase, WakeId};
use millrace_fastpath::tables::Names;
use millrace_fastpath::tables::names::{HashKey, NameBinding, Soa, WireName, Zone};
use millrace_fastpath::tables::services::*;

const CLIENT: End = ("10.9.9.9", 40_000);
const OURS: End = ("192.0.2.53", 53);
const RESOLVER: End = ("198.51.100.7", 53);

fn wire(text: &str) -> WireName {
    let mut bytes = Vec::new();
    for label in text.split_terminator('.') {
        bytes.push(label.len() as u8);
        bytes.extend_from_slice(label.as_bytes());
    }
    bytes.push(0);
    WireName::from_wire(&bytes).unwrap()
}

fn bench(service: Service) -> Bench {
    let mut bench = Bench::new(1);
    let zone = Zone {
        apex: wire("fn.example."),
        soa: Soa {
            primary: wire("ns1.fn.example."),
            contact: wire("ops.fn.example."),
            serial: 1,
            refresh_seconds: 3600,
            retry_seconds: 600,
            expire_seconds: 86_400,
            minimum_ttl_seconds: 5,
        },
        ttl_seconds: 30,
        cold_ttl_seconds: 1,
        records: Vec::new(),
        bindings: Vec::new(),
    };
    let mut names = Names::build(HashKey(1, 2), &[zone]).unwrap();
    names
        .bind(&NameBinding {
            name: wire("hello.fn.example."),
            service: ServiceId(0),
            v4: vec![Ipv4Addr::new(203, 0, 113, 10)],
            v6: vec![Ipv6Addr::from_str("2001:db8:f::10").unwrap()],
        })
        .unwrap();
    bench.tables.names = names;
    bench.set_service(0, service);
    bench
}

fn query(id: u16, name: &str, kind: RecordType) -> Vec<u8> {
    let mut message = Message::new(id, MessageType::Query, OpCode::Query);
    message.add_query(Query::query(Name::from_str(name).unwrap(), kind));
    message.to_vec().unwrap()
}

fn answer(frame: &[u8]) -> (Seen, Message) {
    let seen = read(frame);
    let message = Message::from_vec(&seen.data).unwrap();
    (seen, message)
}

#[test]
fn a_query_to_us_is_answered_at_once_and_wakes_the_function_once() {
    let mut bench = bench(cold_service());
    for (id, kind) in [(1, RecordType::A), (2, RecordType::AAAA), (3, RecordType::A)] {
        bench.deliver_and_run(WAN, &client_udp(CLIENT, OURS, &query(id, "HeLLo.fn.example.", kind)));
        let (seen, message) = answer(&bench.sent(WAN)[0]);
        assert_eq!((seen.from, seen.to, seen.macs), (end(OURS), end(CLIENT), (WAN_MAC, CLIENT_MAC)));
        assert_eq!(message.metadata.id, id);
        assert_eq!(message.answers.len(), 1);
        assert_eq!(message.answers[0].ttl, 1, "cold");
    }
    let events = bench.events();
    let Event::FirstPacket { wake, trigger, .. } = events[0] else { panic!("{events:?}") };
    assert_eq!((wake, trigger), (WakeId(1), Trigger::Dns { query_type: 1 }));
    assert_eq!(events.iter().filter(|event| matches!(event, Event::FirstPacket { .. })).count(), 1);
    // The SYN that follows joins the same wake.
    bench.deliver_and_run(WAN, &syn(CLIENT, ("203.0.113.10", 80), 1));
    assert_eq!(bench.wakes(), 0);
    bench.make_ready(0);
    bench.run();
    assert_eq!(bench.sent(LAN).len(), 1);
    bench.deliver_and_run(WAN, &client_udp(CLIENT, OURS, &query(4, "hello.fn.example.", RecordType::A)));
    assert_eq!(answer(&bench.sent(WAN)[0]).1.answers[0].ttl, 30, "warm");
    bench.check_laws();
}

#[test]
fn a_query_past_us_is_answered_on_an_exact_hit_and_otherwise_leaves_as_it_came() {
    let mut bench = bench(cold_service());
    bench.deliver_and_run(WAN, &client_udp(CLIENT, RESOLVER, &query(1, "hello.fn.example.", RecordType::A)));
    let (seen, message) = answer(&bench.sent(WAN)[0]);
    assert_eq!(seen.from, end(RESOLVER), "as the resolver would");
    assert!(message.metadata.recursion_available && !message.metadata.authoritative);
    assert_eq!(bench.wakes(), 1);
    let mut garbage = query(2, "www.example.org.", RecordType::A);
    let foreign = [garbage.clone(), vec![0xff; 40], Vec::new(), {
        garbage.extend_from_slice(b"trailing");
        garbage
    }];
    for payload in foreign {
        let frame = client_udp(CLIENT, RESOLVER, &payload);
        bench.deliver_and_run(WAN, &frame);
        let sent = bench.sent(LAN);
        assert_eq!(sent[0][34..], frame[34..], "identical from the IP payload on");
    }
    let mut bad_checksum = client_udp(CLIENT, RESOLVER, &query(3, "hello.fn.example.", RecordType::A));
    bad_checksum[40] ^= 0x55;
    bench.deliver_and_run(WAN, &bad_checksum);
    assert_eq!(bench.sent(LAN).len(), 1, "not ours to judge");
    bench.check_laws();
}

#[test]
fn answering_when_ready_holds_the_query_for_the_wake() {
    let service = Service { dns_answer: DnsAnswer::WhenReady, ..cold_service() };
    let mut bench = bench(service);
    for (id, kind) in [(1, RecordType::A), (2, RecordType::AAAA), (1, RecordType::A)] {
        bench.deliver_and_run(WAN, &client_udp(CLIENT, OURS, &query(id, "hello.fn.example.", kind)));
    }
    assert!(bench.sent(WAN).is_empty());
    assert_eq!(bench.wakes(), 1);
    let fates = bench.fates();
    assert_eq!(
        (fates.held, fates.replaced, fates.still_held),
        (3, 1, 2),
        "the repeated query is one with the first"
    );
    bench.make_ready(0);
    bench.run();
    let answers: Vec<Message> = bench.sent(WAN).iter().map(|frame| answer(frame).1).collect();
    assert_eq!(answers.iter().map(|message| message.metadata.id).collect::<Vec<_>>(), [1, 2]);
    assert!(answers.iter().all(|message| message.answers[0].ttl == 30));
    bench.check_laws();
}

#[test]
fn a_dead_orchestrator_delays_an_answer_no_longer_than_the_deadline() {
    let service = Service { dns_answer: DnsAnswer::WhenReady, ..cold_service() };
    let mut bench = bench(service);
    bench.deliver_and_run(WAN, &client_udp(CLIENT, OURS, &query(1, "hello.fn.example.", RecordType::A)));
    bench.advance_ms(900);
    bench.run();
    let (_, message) = answer(&bench.sent(WAN)[0]);
    assert_eq!((message.metadata.response_code, message.answers[0].ttl), (ResponseCode::NoError, 1));
    assert_eq!(bench.fates().expired, 1);
    bench.set_phase(0, Phase::Bypass);
    bench.deliver_and_run(WAN, &client_udp(CLIENT, OURS, &query(2, "hello.fn.example.", RecordType::A)));
    assert_eq!(bench.sent(WAN).len(), 1, "with the orchestrator gone there is nothing to wait for");
    bench.check_laws();
}

#[test]
fn what_may_not_be_answered_is_dropped_by_name() {
    let mut bench = bench(cold_service());
    let mut response = query(1, "hello.fn.example.", RecordType::A);
    response[2] |= 0x80;
    let mut bad_sum = client_udp(CLIENT, OURS, &query(1, "hello.fn.example.", RecordType::A));
    bad_sum[40] ^= 0x55;
    for (name, frame) in [
        ("response", client_udp(CLIENT, OURS, &response)),
        ("short", client_udp(CLIENT, OURS, b"short")),
        ("source-port", client_udp((CLIENT.0, 0), OURS, &query(1, "hello.fn.example.", RecordType::A))),
        ("udp-checksum", bad_sum),
    ] {
        bench.deliver_and_run(WAN, &frame);
        assert_eq!(bench.drops(NodeId::Dns, name), 1, "{name}");
    }
    assert!(bench.sent(WAN).is_empty());
    assert_eq!(bench.wakes(), 0);
    bench.check_laws();
}
