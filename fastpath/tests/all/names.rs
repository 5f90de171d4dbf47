//! Queries through the worker: for us, past us, for cold functions, and for others.

use std::str::FromStr;

use crate::common::frames::*;
use crate::common::zone::names;
use crate::common::*;
use hickory_proto::op::Edns;
use hickory_proto::op::{Message, MessageType, OpCode, Query, ResponseCode};
use hickory_proto::rr::rdata::opt::{EdnsCode, EdnsOption};
use hickory_proto::rr::{Name, RecordType};
use millrace_fastpath::dns::{CookieKeys, RateLimit};
use millrace_fastpath::event::{Event, Trigger};
use millrace_fastpath::node::NodeId;
use millrace_fastpath::slots::{Phase, WakeId};
use millrace_fastpath::tables::services::*;
use millrace_fastpath::tables::{InterfaceId, View, Views};

const CLIENT: End = ("10.9.9.9", 40_000);
const OURS: End = ("192.0.2.53", 53);
const RESOLVER: End = ("198.51.100.7", 53);

fn bench(service: Service) -> Bench {
    let mut bench = Bench::new(1);
    bench.tables.names = names([203, 0, 113, 10]);
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

/// Asks once; what came back, if anything did.
fn ask(bench: &mut Bench, from: End, query: &[u8]) -> Option<Message> {
    bench.deliver_and_run(WAN, &client_udp(from, OURS, query));
    bench.sent(WAN).first().map(|frame| answer(frame).1)
}

fn slipped(bench: &Bench) -> u64 {
    bench.shared.workers.iter().map(|worker| worker.counters.fates.responses_slipped.get()).sum()
}

const LIMIT: RateLimit = RateLimit { responses_per_second: 4, prefix_v4: 24, prefix_v6: 56, slip: 2 };

#[test]
fn answers_to_a_prefix_are_bounded_and_others_are_not() {
    let mut bench = bench(fixed_service());
    bench.tables.policy.rate_limit = Some(LIMIT);
    bench.publish();
    let asked = query(1, "hello.fn.example.", RecordType::A);
    let burst = |bench: &mut Bench, subnet: u8| {
        let mut seen = [0; 3];
        for host in 1..=12 {
            let from = format!("10.9.{subnet}.{host}");
            match ask(bench, (&from, 40_000), &asked) {
                Some(message) if message.metadata.truncation => {
                    seen[1] += usize::from(message.answers.is_empty())
                }
                Some(message) => seen[0] += message.answers.len(),
                None => seen[2] += 1,
            }
        }
        seen
    };
    assert_eq!(burst(&mut bench, 1), [4, 4, 4]);
    assert_eq!((bench.drops(NodeId::Dns, "rate-limited"), slipped(&bench)), (4, 4));
    assert_eq!(burst(&mut bench, 2), [4, 4, 4], "another prefix has its own share");
    bench.advance_ms(1000);
    assert_eq!(burst(&mut bench, 1), [4, 4, 4], "and a second later it is back");
    // In transit the resolver would answer them all.
    for _ in 0..20 {
        bench.deliver_and_run(WAN, &client_udp(("10.9.1.1", 40_000), RESOLVER, &asked));
        assert_eq!(answer(&bench.sent(WAN)[0]).1.answers.len(), 1);
    }
    bench.check_laws();
}

#[test]
fn what_a_rate_limit_cuts_off_wakes_nothing() {
    let mut bench = bench(cold_service());
    bench.tables.policy.rate_limit = Some(LIMIT);
    bench.publish();
    for id in 0..4 {
        ask(&mut bench, CLIENT, &query(id, "nothing.fn.example.", RecordType::A)).expect("within the limit");
    }
    for id in 0..10 {
        ask(&mut bench, CLIENT, &query(id, "hello.fn.example.", RecordType::A));
    }
    assert_eq!((bench.wakes(), slipped(&bench)), (0, 5));
    bench.advance_ms(250);
    assert!(ask(&mut bench, CLIENT, &query(1, "hello.fn.example.", RecordType::A)).is_some());
    assert_eq!(bench.wakes(), 1);
    bench.check_laws();
}

#[test]
fn a_client_that_shows_its_cookie_is_not_limited() {
    let mut bench = bench(fixed_service());
    bench.tables.policy.rate_limit = Some(RateLimit { slip: 1, ..LIMIT });
    bench.tables.policy.cookies = CookieKeys::new(&[[7; 16]], 1_700_000_000_000_000_000);
    bench.publish();
    let with_cookie = |cookie: &[u8]| {
        let bytes = query(1, "hello.fn.example.", RecordType::A);
        let mut message = Message::from_vec(&bytes).unwrap();
        let mut edns = Edns::new();
        edns.options_mut().insert(EdnsOption::Unknown(10, cookie.to_vec()));
        message.set_edns(edns);
        message.to_vec().unwrap()
    };
    let cookie_of = |message: &Message| {
        let edns = message.edns.as_ref().unwrap();
        match edns.option(EdnsCode::Cookie) {
            Some(EdnsOption::Unknown(10, cookie)) => cookie.clone(),
            other => panic!("{other:?}"),
        }
    };
    for _ in 0..6 {
        ask(&mut bench, CLIENT, &query(1, "hello.fn.example.", RecordType::A));
    }
    // Who has a cookie of its own is told to ask again, with ours: that lifts the limit.
    let cut = ask(&mut bench, CLIENT, &with_cookie(&[1; 8])).unwrap();
    assert_eq!((cut.metadata.response_code, cut.metadata.truncation), (ResponseCode::BADCOOKIE, false));
    assert!(cut.answers.is_empty());
    let cookie = cookie_of(&cut);
    assert_eq!(cookie.len(), 24);
    for _ in 0..20 {
        let message = ask(&mut bench, CLIENT, &with_cookie(&cookie)).unwrap();
        assert_eq!((message.metadata.truncation, message.answers.len()), (false, 1));
    }
    let stranger = ask(&mut bench, ("10.9.9.8", 40_000), &with_cookie(&cookie)).unwrap();
    assert_eq!(stranger.metadata.response_code, ResponseCode::BADCOOKIE, "it is another address's");
    let without = ask(&mut bench, CLIENT, &query(1, "hello.fn.example.", RecordType::A)).unwrap();
    assert!(without.metadata.truncation, "who has none comes back over TCP");
    bench.check_laws();
}

#[test]
fn clients_of_a_view_see_its_names() {
    let mut bench = bench(fixed_service());
    let view = |interfaces: &[u16], prefixes: &[(&str, u8)], address| View {
        name: String::new(),
        interfaces: interfaces.iter().map(|id| InterfaceId(*id)).collect(),
        prefixes: prefixes.iter().map(|(text, len)| (addr(text), *len)).collect(),
        names: names(address),
    };
    bench.tables.views = Views::new(vec![
        view(&[], &[("10.9.0.0", 16), ("2001:db8:9::", 48)], [10, 0, 0, 1]),
        view(&[1], &[], [10, 0, 0, 2]),
    ]);
    bench.publish();
    let asked = query(1, "hello.fn.example.", RecordType::A);
    let mut seen = |port, from: End, to: End| {
        let macs = if port == WAN { (CLIENT_MAC, WAN_MAC) } else { (HOST_MAC, LAN_MAC) };
        bench.deliver_and_run(port, &udp(macs, from, to, &asked));
        let frames = [bench.sent(WAN), bench.sent(LAN)].concat();
        answer(&frames[0]).1.answers[0].data.to_string()
    };
    assert_eq!(seen(WAN, CLIENT, OURS), "10.0.0.1");
    assert_eq!(seen(WAN, ("2001:db8:9::1", 40_000), ("2001:db8::53", 53)), "10.0.0.1");
    assert_eq!(seen(WAN, ("192.0.2.77", 40_000), OURS), "203.0.113.10");
    assert_eq!(seen(LAN, ("198.51.100.77", 40_000), OURS), "10.0.0.2");
    assert_eq!(seen(LAN, CLIENT, RESOLVER), "10.0.0.1", "in transit too, and the first view counts");
    bench.check_laws();
}

#[test]
fn names_that_nobody_registered_wake_nothing() {
    let mut bench = bench(cold_service());
    for number in 0..2000_u32 {
        let name = format!("r{number:x}.{:x}.fn.example.", number.wrapping_mul(0x9e37_79b9));
        let from = format!("10.{}.{}.9", number % 200, number / 200);
        let message = ask(&mut bench, (&from, 40_000), &query(number as u16, &name, RecordType::A)).unwrap();
        assert_eq!(message.metadata.response_code, ResponseCode::NXDomain);
    }
    assert_eq!(bench.wakes(), 0);
    bench.check_laws();
}

#[test]
fn query_and_connection_wake_once_whichever_comes_first() {
    for syn_first in [false, true] {
        let mut bench = bench(cold_service());
        for _ in 0..3 {
            let mut frames = [
                client_udp(CLIENT, OURS, &query(1, "hello.fn.example.", RecordType::A)),
                client_udp(CLIENT, RESOLVER, &query(2, "hello.fn.example.", RecordType::AAAA)),
                syn(CLIENT, ("203.0.113.10", 80), 1),
            ];
            if syn_first {
                frames.reverse();
            }
            frames.iter().for_each(|frame| bench.deliver_and_run(WAN, frame));
        }
        assert_eq!(bench.wakes(), 1);
        bench.make_ready(0);
        bench.run();
        assert_eq!(bench.wakes(), 0);
        bench.check_laws();
    }
}
