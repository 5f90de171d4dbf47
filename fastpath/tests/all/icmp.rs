//! ICMP errors: those that the appliance sends, those about flows that it passes on, and those that it must not send.

use std::sync::Arc;

use crate::common::frames::*;
use crate::common::*;
use millrace_fastpath::driver::PortId;
use millrace_fastpath::node::NodeId;
use millrace_fastpath::node::icmp::{ERRORS_BURST, ERRORS_PER_SECOND};
use millrace_fastpath::tables::InterfaceId;
use millrace_fastpath::tables::interfaces::Interfaces;
use millrace_fastpath::tables::routes::{NextHop, Route, Routes};
use millrace_fastpath::tables::services::*;
use proptest::prelude::*;
use smoltcp::wire::TcpControl;

const CLIENT: End = ("10.9.9.9", 40_000);
const CLIENT6: End = ("2001:db8:9::9", 40_000);
const VIP: End = ("203.0.113.10", 80);
const VIP6: End = ("2001:db8:f::10", 80);
const INSTANCE: End = ("198.51.100.7", 8080);
const INSTANCE6: End = ("2001:db8:1::7", 8080);
const CLIENT_SIDE: ([u8; 6], [u8; 6]) = (CLIENT_MAC, WAN_MAC);
const HOST_SIDE: ([u8; 6], [u8; 6]) = (HOST_MAC, LAN_MAC);

fn only_connected_routes() -> Arc<Routes> {
    let route = |prefix, len, interface| Route {
        prefix: addr(prefix),
        len,
        next_hop: NextHop { interface: InterfaceId(interface), via: None },
    };
    Arc::new(Routes::new(&[route("198.51.100.0", 24, 1), route("2001:db8:1::", 64, 1)]))
}

/// Delivers to any of the queues, as a device that spreads without regard for flows would.
fn scatter(bench: &mut Bench, n: usize, port: PortId, frame: &[u8]) {
    assert!(bench.net.deliver(port, (n % bench.workers.len()) as u16, frame));
    bench.run();
}

#[test]
fn senders_are_told_what_a_router_tells() {
    let mut bench = Bench::new(4);
    bench.set_service(0, fixed_service());
    bench.tables.routes = only_connected_routes();
    let mut interfaces: Vec<_> =
        bench.tables.interfaces.iter().map(|(_, interface)| interface.clone()).collect();
    interfaces[1].mtu = 1400;
    bench.tables.interfaces = Arc::new(Interfaces::new(interfaces, bench.tables.interfaces.locals()));
    bench.publish();
    let echo = |from, to, kind| icmp(CLIENT_SIDE, from, to, (kind, 0, 7), b"ping");
    let (to, to6) = (("198.51.100.7", 9), ("2001:db8:1::7", 9));
    let (wan, wan6) = ("192.0.2.1", "2001:db8::1");
    let cases = [
        (with_ttl(&client_udp(CLIENT, to, b"x"), 1), wan, (11, 0, 0)),
        (with_ttl(&client_udp(CLIENT, to, b"x"), 0), wan, (11, 0, 0)),
        (with_ttl(&client_udp(CLIENT6, to6, b"x"), 1), wan6, (3, 0, 0)),
        (with_ttl(&echo(CLIENT.0, to.0, 8), 1), wan, (11, 0, 0)),
        (with_ttl(&echo(CLIENT6.0, to6.0, 128), 1), wan6, (3, 0, 0)),
        (client_udp(CLIENT, ("172.16.1.1", 9), b"x"), wan, (3, 0, 0)),
        (client_udp(CLIENT6, ("2001:db8:77::1", 9), b"x"), wan6, (1, 0, 0)),
        (client_udp(CLIENT, to, &[7; 1373]), wan, (3, 4, 1400)),
        (client_udp(CLIENT6, to6, &[7; 1353]), wan6, (2, 0, 1400)),
        // Whoever was spoken to answers: RFC 4443 §2.2 (a).
        (client_udp(CLIENT, ("192.0.2.1", 9), b"x"), "192.0.2.1", (3, 3, 0)),
        (client_udp(CLIENT, ("192.0.2.1", 33_434), b"x"), "192.0.2.1", (3, 3, 0)),
        (client_udp(CLIENT, ("198.51.100.1", 9), b"x"), "198.51.100.1", (3, 3, 0)),
        (client_udp(CLIENT, ("203.0.113.10", 9), b"x"), "203.0.113.10", (3, 3, 0)),
        (client_udp(CLIENT6, ("2001:db8:f::10", 9), b"x"), "2001:db8:f::10", (1, 4, 0)),
        (fragments(&with_ttl(&client_udp(CLIENT, to, &[1; 64]), 1), 7, &[32])[0].clone(), wan, (11, 0, 0)),
    ];
    for (n, (frame, from, says)) in cases.iter().enumerate() {
        scatter(&mut bench, n, WAN, frame);
        let sent = bench.sent(WAN);
        assert_eq!(sent.len(), 1, "case {n}");
        let seen = read_icmp(&sent[0]);
        assert_eq!((seen.from.as_str(), seen.says), (*from, *says), "case {n}");
        assert_eq!(seen.macs, (WAN_MAC, CLIENT_MAC));
        assert_eq!(seen.to, if from.contains('.') { CLIENT.0 } else { CLIENT6.0 });
        let most = if from.contains('.') { 576 - 28 } else { 1280 - 48 };
        assert_eq!(seen.quoted, frame[14..][..(frame.len() - 14).min(most)], "as it was sent, case {n}");
    }
    // One byte less passes.
    bench.deliver_and_run(WAN, &client_udp(CLIENT, to, &[7; 1372]));
    bench.deliver_and_run(WAN, &client_udp(CLIENT6, to6, &[7; 1352]));
    let fates = bench.fates();
    let told = cases.len() as u64;
    assert_eq!((fates.received, fates.answered, fates.forwarded, fates.dropped), (told + 2, told, 2, 0));
    let sent: u64 = bench.shared.workers.iter().map(|w| w.counters.fates.errors_sent.get()).sum();
    assert_eq!(sent, told);
    bench.check_laws();
}

#[test]
fn what_pads_a_frame_is_not_quoted() {
    let mut bench = Bench::new(1);
    let packet = with_ttl(&client_udp(CLIENT, ("198.51.100.7", 9), b"x"), 1);
    let mut padded = packet.clone();
    padded.resize(60, 0xaa);
    bench.deliver_and_run(WAN, &padded);
    assert_eq!(read_icmp(&bench.sent(WAN)[0]).quoted, packet[14..]);
    bench.check_laws();
}

#[test]
fn nothing_is_said_about_what_nothing_may_be_said_about() {
    let mut bench = Bench::new(1);
    let to = ("198.51.100.7", 9);
    let inner = &client_udp(("198.51.100.7", 9), CLIENT, b"x")[14..];
    let inner6 = &client_udp(("2001:db8:1::7", 9), CLIENT6, b"x")[14..];
    let expired = |frame: &[u8]| with_ttl(frame, 1);
    let error = |says| icmp(CLIENT_SIDE, CLIENT.0, to.0, says, inner);
    let error6 = |says| icmp(CLIENT_SIDE, CLIENT6.0, "2001:db8:1::7", says, inner6);
    let first_bytes_of_error = {
        // The first fragment of an error is one, too.
        let whole = error((3, 1, 0));
        fragments(&whole, 1, &[16])[0].clone()
    };
    let cases = [
        expired(&error((3, 1, 0))),
        expired(&error((11, 0, 0))),
        expired(&error((12, 0, 0))),
        expired(&error((5, 0, 0))),
        expired(&error6((1, 0, 0))),
        expired(&error6((2, 0, 1280))),
        expired(&error6((127, 0, 0))),
        expired(&error6((137, 0, 0))),
        expired(&first_bytes_of_error),
        expired(&fragments(&client_udp(CLIENT, to, &[0; 64]), 1, &[32])[1]),
        expired(&fragments(&client_udp(CLIENT6, ("2001:db8:1::7", 9), &[0; 64]), 1, &[32])[1]),
        expired(&client_udp(("192.0.2.255", 9), to, b"x")),
        expired(&client_udp(CLIENT, ("198.51.100.255", 9), b"x")),
        expired(&client_udp(CLIENT, ("232.1.1.1", 9), b"x")),
        expired(&client_udp(CLIENT6, ("ff3e::1", 9), b"x")),
    ];
    for (n, frame) in cases.iter().enumerate() {
        bench.deliver_and_run(WAN, frame);
        assert_eq!(bench.drops(NodeId::Transit, "ttl-expired"), n as u64 + 1, "case {n}");
        assert!(bench.sent(WAN).is_empty() && bench.sent(LAN).is_empty(), "case {n}");
    }
    assert_eq!(bench.fates().dropped, cases.len() as u64);
    assert_eq!(bench.shared.workers[0].counters.fates.errors_limited.get(), 0);
    bench.check_laws();
}

#[test]
fn errors_are_limited_and_what_the_limit_left_unsent_is_counted() {
    let mut bench = Bench::new(4);
    let expired = with_ttl(&client_udp(CLIENT, ("198.51.100.7", 9), b"x"), 1);
    let flood = |bench: &mut Bench, each: usize| {
        for n in 0..4 * each {
            assert!(bench.net.deliver(WAN, (n % 4) as u16, &expired));
        }
        bench.run();
        bench.sent(WAN).len() as u64
    };
    assert_eq!(flood(&mut bench, 100), 4 * ERRORS_BURST);
    bench.advance_ms(10);
    assert_eq!(flood(&mut bench, 100), 4 * 10 * ERRORS_PER_SECOND / 1000);
    bench.advance_ms(60_000);
    assert_eq!(flood(&mut bench, 100), 4 * ERRORS_BURST);
    let told = 8 * ERRORS_BURST + 40 * ERRORS_PER_SECOND / 1000;
    let fates = bench.fates();
    assert_eq!((fates.answered, fates.dropped), (told, 1200 - told));
    assert_eq!(bench.drops(NodeId::Transit, "ttl-expired"), 1200 - told);
    let limited: u64 = bench.shared.workers.iter().map(|w| w.counters.fates.errors_limited.get()).sum();
    assert_eq!(limited, 1200 - told);
    bench.check_laws();
}

/// A flow through a service: what the instance got, and how the client is seen there.
fn open(bench: &mut Bench, n: usize, client: End, vip: End) -> (Vec<u8>, (String, u16)) {
    scatter(bench, n, WAN, &syn(client, vip, 100));
    let out = bench.sent(LAN).remove(0);
    let seen = read(&out).from;
    (out, seen)
}

const SIDES: [(End, End, End, &str, &str); 2] = [
    (CLIENT, VIP, INSTANCE, "192.0.2.1", "198.51.100.1"),
    (CLIENT6, VIP6, INSTANCE6, "2001:db8::1", "2001:db8:1::1"),
];

#[test]
fn the_sender_of_a_translated_packet_is_shown_it_as_it_was_sent() {
    for source in [SourceAddress::Keep, SourceAddress::Appliance] {
        let mut bench = Bench::new(4);
        bench.set_service(0, Service { source, ..fixed_service() });
        for n in 0..40u16 {
            let (client, vip, instance, wan, lan) = SIDES[usize::from(n % 2)];
            let client = (client.0, client.1 + n);
            let (_, seen) = open(&mut bench, usize::from(n), client, vip);
            let request = with_ttl(&segment(client, vip, b"too far"), 1);
            scatter(&mut bench, usize::from(n) + 1, WAN, &request);
            let told = read_icmp(&bench.sent(WAN)[0]);
            assert_eq!(
                (told.from.as_str(), told.to.as_str(), told.macs),
                (wan, client.0, (WAN_MAC, CLIENT_MAC))
            );
            assert_eq!(told.quoted, request[14..]);
            let answer = host_segment(instance, (&seen.0, seen.1), TcpControl::Psh, b"too far");
            let answer = with_ttl(&answer, 1);
            scatter(&mut bench, usize::from(n) + 2, LAN, &answer);
            let told = read_icmp(&bench.sent(LAN)[0]);
            assert_eq!((told.from.as_str(), told.to.as_str()), (lan, instance.0));
            assert_eq!((told.macs, told.quoted), ((LAN_MAC, HOST_MAC), answer[14..].to_vec()));
        }
        let fates = bench.fates();
        assert_eq!((fates.received, fates.forwarded, fates.answered), (120, 40, 80));
        assert!(fates.handed_in > 50, "frames did cross");
        bench.check_laws();
    }
}

#[test]
fn errors_about_what_clients_sent_reach_them_as_if_nothing_had_been_translated() {
    for source in [SourceAddress::Keep, SourceAddress::Appliance] {
        let mut bench = Bench::new(4);
        bench.set_service(0, Service { source, ..fixed_service() });
        let mut count = 0;
        for (n, whole) in (0..40u16).flat_map(|n| [(n, true), (n, false)]) {
            let (client, vip, instance, ..) = SIDES[usize::from(n % 2)];
            let client = (client.0, client.1 + n);
            let v4 = n % 2 == 0;
            let original = one_hop_later(&syn(client, vip, 100));
            let (out, seen) = open(&mut bench, usize::from(n), client, vip);
            let quoted = if whole { out.len() - 14 } else { (if v4 { 20 } else { 40 }) + 8 };
            // From the instance itself, or from a router before it.
            let router = if v4 { "198.51.100.99" } else { "2001:db8:1::99" };
            let (from, from_seen) = if n % 3 == 0 { (instance.0, vip.0) } else { (router, router) };
            let says = if v4 { (3, 4, 1400) } else { (2, 0, 1400) };
            let error = icmp(HOST_SIDE, from, &seen.0, says, &out[14..][..quoted]);
            scatter(&mut bench, usize::from(n) + 1, LAN, &error);
            let sent = bench.sent(WAN);
            assert_eq!(sent.len(), 1);
            let told = read_icmp(&sent[0]);
            assert_eq!((told.from.as_str(), told.to.as_str(), told.says), (from_seen, client.0, says));
            assert_eq!(told.macs, (WAN_MAC, CLIENT_MAC));
            assert_eq!(told.quoted, original[..quoted], "{source:?}, {n}, {whole}");
            count += 1;
        }
        let fates = bench.fates();
        assert_eq!((fates.received, fates.forwarded), (2 * count, 2 * count));
        bench.check_laws();
    }
}

#[test]
fn errors_about_what_instances_sent_reach_them_as_if_nothing_had_been_translated() {
    for source in [SourceAddress::Keep, SourceAddress::Appliance] {
        let mut bench = Bench::new(4);
        bench.set_service(0, Service { source, ..fixed_service() });
        for (n, whole) in (0..40u16).flat_map(|n| [(n, true), (n, false)]) {
            let (client, vip, instance, ..) = SIDES[usize::from(n % 2)];
            let client = (client.0, client.1 + n);
            let v4 = n % 2 == 0;
            let (_, seen) = open(&mut bench, usize::from(n), client, vip);
            let answer = host_segment(instance, (&seen.0, seen.1), TcpControl::Psh, b"200 OK");
            let original = one_hop_later(&answer);
            scatter(&mut bench, usize::from(n) + 1, LAN, &answer);
            let out = bench.sent(WAN).remove(0);
            let quoted = if whole { out.len() - 14 } else { (if v4 { 20 } else { 40 }) + 8 };
            let router = if v4 { "10.1.1.1" } else { "2001:db8:7::1" };
            let (from, from_seen) = if n % 3 == 0 { (client.0, seen.0.as_str()) } else { (router, router) };
            let says = if v4 { (3, 1, 0) } else { (1, 3, 0) };
            let error = icmp(CLIENT_SIDE, from, vip.0, says, &out[14..][..quoted]);
            scatter(&mut bench, usize::from(n) + 2, WAN, &error);
            let sent = bench.sent(LAN);
            assert_eq!(sent.len(), 1);
            let told = read_icmp(&sent[0]);
            assert_eq!((told.from.as_str(), told.to.as_str(), told.says), (from_seen, instance.0, says));
            assert_eq!(told.quoted, original[..quoted], "{source:?}, {n}, {whole}");
        }
        bench.check_laws();
    }
}

#[test]
fn errors_about_no_flow_of_ours_go_where_they_are_addressed() {
    let mut bench = Bench::new(4);
    bench.set_service(0, fixed_service());
    let stranger =
        tcp_frame(CLIENT_SIDE, ("10.9.9.9", 5), ("198.51.100.7", 8080), TcpControl::None, Some(1), 1, b"");
    let passing = icmp(HOST_SIDE, "198.51.100.7", "10.9.9.9", (3, 1, 0), &stranger[14..]);
    let answer = host_segment(VIP, ("10.9.9.9", 5), TcpControl::None, b"");
    let to_us = icmp(CLIENT_SIDE, "10.1.1.1", "203.0.113.10", (3, 1, 0), &answer[14..]);
    // Too short to be about anything, and not about TCP or UDP.
    let cut = icmp(HOST_SIDE, "198.51.100.7", "10.9.9.9", (3, 1, 0), &stranger[14..41]);
    for n in 0..4 {
        scatter(&mut bench, n, LAN, &passing);
        let sent = bench.sent(WAN);
        assert_eq!(sent[0][14..], one_hop_later(&passing), "not a byte changed");
        scatter(&mut bench, n, LAN, &cut);
        assert_eq!(bench.sent(WAN)[0][14..], one_hop_later(&cut));
        scatter(&mut bench, n, WAN, &to_us);
    }
    let fates = bench.fates();
    assert_eq!((fates.forwarded, fates.punted, fates.dropped), (8, 4, 0));
    bench.check_laws();
}

proptest! {
    /// Whatever of a packet is quoted, its sender reads there what it had sent.
    #[test]
    fn a_quote_of_any_length_is_what_was_sent(
        port in 1u16.., data in prop::collection::vec(any::<u8>(), 0..40), cut in any::<prop::sample::Index>(),
        appliance in any::<bool>(), v4 in any::<bool>(), seq in any::<i32>(),
    ) {
        let mut bench = Bench::new(2);
        let source = if appliance { SourceAddress::Appliance } else { SourceAddress::Keep };
        bench.set_service(0, Service { source, ..fixed_service() });
        let (client, vip, ..) = SIDES[usize::from(!v4)];
        let client = (client.0, port);
        let request = tcp_frame(CLIENT_SIDE, client, vip, TcpControl::Syn, None, seq, &data);
        bench.deliver_and_run(WAN, &request);
        let out = bench.sent(LAN).remove(0);
        let seen = read(&out).from.0;
        let least = if v4 { 28 } else { 48 };
        let quoted = least + cut.index(out.len() - 14 - least + 1);
        // Half a checksum says nothing, and can't be kept right.
        prop_assume!(quoted != least - 8 + 17);
        let router = if v4 { "198.51.100.99" } else { "2001:db8:1::99" };
        let says = if v4 { (11, 0, 0) } else { (3, 0, 0) };
        bench.deliver_and_run(LAN, &icmp(HOST_SIDE, router, &seen, says, &out[14..][..quoted]));
        let told = read_icmp(&bench.sent(WAN)[0]);
        prop_assert_eq!(&told.to, client.0);
        prop_assert_eq!(&told.quoted[..], &one_hop_later(&request)[..quoted]);
        bench.check_laws();
    }
}
