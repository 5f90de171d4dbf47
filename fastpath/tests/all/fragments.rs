//! Fragments, IPv4 options and IPv6 extension headers: read over, kept, followed; and what is too odd has a name.

use crate::common::frames::*;
use crate::common::*;
use millrace_fastpath::driver::PortId;
use millrace_fastpath::node::NodeId;
use millrace_fastpath::node::fragment::{FRAGMENTED_MAX, REMEMBERED_NANOS};
use millrace_fastpath::tables::services::*;
use millrace_fastpath::wire::ipv6::EXTENSIONS_MAX;
use smoltcp::wire::TcpControl;

const CLIENT: End = ("10.9.9.9", 40_000);
const CLIENT6: End = ("2001:db8:9::9", 40_000);
const VIP: End = ("203.0.113.10", 80);
const VIP6: End = ("2001:db8:f::10", 80);
const INSTANCE: End = ("198.51.100.7", 8080);
const INSTANCE6: End = ("2001:db8:1::7", 8080);
const SIDES: [(End, End, End); 2] = [(CLIENT, VIP, INSTANCE), (CLIENT6, VIP6, INSTANCE6)];
const UDP_VIP: End = ("203.0.113.10", 443);

fn fixed_bench(workers: usize) -> Bench {
    let mut bench = Bench::new(workers);
    bench.set_service(0, fixed_service());
    bench
}

/// Delivers to any of the queues, as a device that spreads without regard for flows would.
fn scatter(bench: &mut Bench, n: usize, port: PortId, frame: &[u8]) {
    assert!(bench.net.deliver(port, (n % bench.workers.len()) as u16, frame));
}

fn classify_drops(bench: &Bench, names: &[&str]) -> Vec<u64> {
    names.iter().map(|name| bench.drops(NodeId::Classify, name)).collect()
}

#[test]
fn fragments_follow_their_first_both_ways_whatever_queues_they_come_by() {
    for source in [SourceAddress::Keep, SourceAddress::Appliance] {
        let mut bench = Bench::new(4);
        bench.set_service(0, Service { source, ..fixed_service() });
        let data: Vec<u8> = (0..3000u16).map(|n| n as u8).collect();
        for n in 0..40u16 {
            let (client, vip, instance) = SIDES[usize::from(n % 2)];
            let client = (client.0, client.1 + n);
            scatter(&mut bench, usize::from(n), WAN, &syn(client, vip, 1));
            bench.run();
            let seen = read(&bench.sent(LAN)[0]).from;
            let request = fragments(&segment(client, vip, &data), u32::from(n), &[1400, 2800]);
            for (at, fragment) in request.iter().enumerate() {
                scatter(&mut bench, usize::from(n) + at, WAN, fragment);
                bench.run();
            }
            let got = read(&put_together(&bench.sent(LAN)));
            assert_eq!((&got.from, got.to, got.hop_limit), (&seen, end(instance), 63));
            assert_eq!(got.data, data);
            let answer = host_segment(instance, (&seen.0, seen.1), TcpControl::Psh, &data);
            for (at, fragment) in fragments(&answer, u32::from(n), &[8, 1408, 2808]).iter().enumerate() {
                // TCP's header is longer than eight bytes: the first fragment is too short to be classified.
                assert_eq!(fragment.len() < 100, at == 0);
            }
            for (at, fragment) in fragments(&answer, u32::from(n), &[64, 1464, 2864]).iter().enumerate() {
                scatter(&mut bench, usize::from(n) + 3 * at, LAN, fragment);
                bench.run();
            }
            let got = read(&put_together(&bench.sent(WAN)));
            assert_eq!((got.from, got.to, got.data), (end(vip), end(client), data.clone()));
        }
        let fates = bench.fates();
        assert_eq!((fates.received, fates.forwarded), (40 * 8, 40 * 8));
        assert!(fates.handed_in > 300, "most crossed once or twice: {}", fates.handed_in);
        bench.check_laws();
    }
}

#[test]
fn fragments_of_one_burst_stay_in_their_order() {
    let mut bench = fixed_bench(4);
    let data = [7; 1200];
    for n in 0..50u16 {
        for fragment in
            fragments(&client_udp((CLIENT.0, 1000 + n), UDP_VIP, &data), u32::from(n), &[400, 800])
        {
            bench.deliver(WAN, &fragment);
        }
    }
    bench.run();
    let sent = bench.sent(LAN);
    assert_eq!(sent.len(), 150, "none lost its first: it came first");
    for n in 0..50u16 {
        let of_one = |bytes: &&Vec<u8>| bytes[18..20] == n.to_be_bytes();
        let mine: Vec<Vec<u8>> = sent.iter().filter(of_one).cloned().collect();
        let got = read(&put_together(&mine));
        assert_eq!((got.from, got.to), (end((CLIENT.0, 1000 + n)), end(("198.51.100.7", 8080))));
    }
    bench.check_laws();
}

#[test]
fn fragments_to_who_answers_past_us_are_carried_as_their_first_was() {
    // What goes before the packet: nothing; IPv4; IPv4, UDP and the header of GUE.
    for (forwarding, outer) in [(Forwarding::L2, 0), (Forwarding::Ipip, 20), (Forwarding::Gue, 32)] {
        let mut bench = Bench::new(1);
        bench.set_service(0, Service { forwarding, ..fixed_service() });
        let data = [7; 1200];
        for fragment in fragments(&client_udp(CLIENT, UDP_VIP, &data), 5, &[400, 800]) {
            bench.deliver_and_run(WAN, &fragment);
        }
        let inner = |frame: &Vec<u8>| [&frame[..14], &frame[14 + outer..]].concat();
        let got = read(&put_together(&bench.sent(LAN).iter().map(inner).collect::<Vec<_>>()));
        assert_eq!(
            (got.from, got.to, got.data),
            (end(CLIENT), end(UDP_VIP), data.to_vec()),
            "{forwarding:?}"
        );
        bench.check_laws();
    }
}

#[test]
fn a_fragment_without_its_first_has_its_name_and_so_have_those_that_lie() {
    let mut bench = fixed_bench(4);
    let names = ["fragment-orphan", "fragment-short", "fragment-overlap", "fragment"];
    bench.deliver_and_run(WAN, &syn(CLIENT, VIP, 1));
    bench.deliver_and_run(WAN, &syn(CLIENT6, VIP6, 1));
    assert_eq!(bench.sent(LAN).len(), 2);
    for (n, (client, vip, _)) in SIDES.into_iter().enumerate() {
        let n = n as u64;
        let parts = fragments(&segment(client, vip, &[1; 200]), 9, &[64, 128]);
        // Overtaken: lost, and the first passes.
        bench.deliver_and_run(WAN, &parts[1]);
        assert_eq!(classify_drops(&bench, &names), [2 * n + 1, n, n, n]);
        bench.deliver_and_run(WAN, &parts[0]);
        bench.deliver_and_run(WAN, &parts[1]);
        assert_eq!(bench.sent(LAN).len(), 2);
        // RFC 1858: eight bytes that would replace a part of the TCP header.
        let overlapping = &fragments(&segment(client, vip, &[1; 200]), 9, &[8, 128])[1];
        bench.deliver_and_run(WAN, overlapping);
        assert_eq!(classify_drops(&bench, &names), [2 * n + 1, n, n + 1, n]);
        // Another identification is another packet.
        bench.deliver_and_run(WAN, &fragments(&segment(client, vip, &[1; 200]), 10, &[64, 128])[2]);
        assert_eq!(classify_drops(&bench, &names), [2 * n + 2, n, n + 1, n]);
        let tiny = &fragments(&segment(client, vip, &[1; 200]), 11, &[16, 128])[0];
        bench.deliver_and_run(WAN, tiny);
        assert_eq!(classify_drops(&bench, &names), [2 * n + 2, n + 1, n + 1, n]);
        // Neither TCP nor UDP: nobody here puts it together.
        let says = if n == 0 { (8, 0, 0) } else { (128, 0, 0) };
        let ping = icmp((CLIENT_MAC, WAN_MAC), client.0, vip.0, says, &[1; 64]);
        bench.deliver_and_run(WAN, &fragments(&ping, 12, &[32])[0]);
        assert_eq!(classify_drops(&bench, &names), [2 * n + 2, n + 1, n + 1, n + 1]);
    }
    let query = client_udp(CLIENT, ("192.0.2.53", 53), &[0; 64]);
    bench.deliver_and_run(WAN, &fragments(&query, 13, &[32])[0]);
    assert_eq!(bench.drops(NodeId::Classify, "fragment"), 3);
    assert_eq!(bench.fates().dropped, 4 + 2 + 2 + 3);
    assert!(bench.sent(LAN).is_empty() && bench.sent(WAN).is_empty());
    bench.check_laws();
}

#[test]
fn a_first_is_remembered_for_its_time_and_a_flood_of_firsts_is_bounded() {
    let mut bench =
        Bench::with_limits(2, &millrace_fastpath::worker::WorkerLimits { flows: 8192, ..Default::default() });
    bench.set_service(0, fixed_service());
    let parts = fragments(&client_udp(CLIENT, UDP_VIP, &[1; 200]), 9, &[64, 128]);
    bench.deliver_and_run(WAN, &parts[0]);
    bench.advance_ms(REMEMBERED_NANOS / 1_000_000 - 1);
    bench.deliver_and_run(WAN, &parts[1]);
    assert_eq!(bench.sent(LAN).len(), 2);
    bench.advance_ms(1);
    bench.deliver_and_run(WAN, &parts[2]);
    assert_eq!(bench.drops(NodeId::Classify, "fragment-orphan"), 1);
    // More firsts than both workers remember, then their second fragments: what was pushed out is lost, no more.
    let many = 4 * FRAGMENTED_MAX as u32;
    for id in 0..many {
        bench.deliver_and_run(WAN, &fragments(&client_udp(CLIENT, UDP_VIP, &[1; 200]), id, &[64])[0]);
        bench.sent(LAN);
    }
    for id in 0..many {
        bench.deliver_and_run(WAN, &fragments(&client_udp(CLIENT, UDP_VIP, &[1; 200]), id, &[64])[1]);
    }
    let followed = bench.sent(LAN).len() as u64;
    assert_eq!(followed + bench.drops(NodeId::Classify, "fragment-orphan"), u64::from(many) + 1);
    let places = 2 * FRAGMENTED_MAX as u64;
    assert!(
        (places * 9 / 10..=places).contains(&followed),
        "nearly all places hold one of the latest: {followed}"
    );
    bench.check_laws();
}

#[test]
fn fragments_in_transit_pass_in_any_order() {
    let mut bench = fixed_bench(4);
    let macs = (CLIENT_MAC, WAN_MAC);
    for (from, to) in [(CLIENT, ("198.51.100.7", 9)), (CLIENT6, ("2001:db8:1::7", 9))] {
        let parts = fragments(&udp(macs, from, to, &[3; 500]), 77, &[8, 16, 256]);
        for (n, part) in parts.iter().rev().enumerate() {
            scatter(&mut bench, n, WAN, part);
            bench.run();
            assert_eq!(bench.sent(LAN)[0][14..], one_hop_later(part));
        }
    }
    // From an instance, too, when it isn't of a flow of ours; its fragments meet, and pass.
    for (n, part) in
        fragments(&udp((HOST_MAC, LAN_MAC), INSTANCE, CLIENT, &[3; 500]), 78, &[8, 16]).iter().enumerate()
    {
        scatter(&mut bench, n, LAN, part);
        bench.run();
        assert_eq!(bench.sent(WAN)[0][14..], one_hop_later(part));
    }
    let fates = bench.fates();
    assert_eq!((fates.received, fates.forwarded), (11, 11));
    bench.check_laws();
}

#[test]
fn options_are_read_over_and_kept() {
    let mut bench = fixed_bench(2);
    let options = [7, 7, 4, 0, 0, 0, 0, 0, 148, 4, 0, 0]; // record route, router alert (RFC 2113)
    for frame in [syn(CLIENT, VIP, 5), segment(CLIENT, VIP, b"GET /")] {
        bench.deliver_and_run(WAN, &with_options(&frame, &options));
        let sent = bench.sent(LAN).remove(0);
        assert_eq!(sent[34..46], options);
        let seen = read(&sent);
        assert_eq!((seen.from, seen.to), (end(CLIENT), end(INSTANCE)));
    }
    let answer = with_options(&host_segment(INSTANCE, CLIENT, TcpControl::Syn, b""), &options);
    bench.deliver_and_run(LAN, &answer);
    let sent = bench.sent(WAN).remove(0);
    assert_eq!((read(&sent).from, &sent[34..46]), (end(VIP), &options[..]));
    // And quoted with the rest, when the packet can't go on.
    let expired = with_ttl(&with_options(&segment(CLIENT, VIP, b"far"), &options), 1);
    bench.deliver_and_run(WAN, &expired);
    assert_eq!(read_icmp(&bench.sent(WAN)[0]).quoted, expired[14..]);
    bench.check_laws();
}

/// Types and bytes of extension headers.
type Extensions<'a> = &'a [(u8, &'a [u8])];

/// Padding of hop-by-hop and destination options, an ended routing header, an authentication header of 24 bytes, and a
/// fragment header around a whole packet (RFC 6946); each but for its first byte.
const PADDING: &[u8] = &[0, 1, 4, 0, 0, 0, 0];
const ROUTING_ENDED: &[u8] = &[2, 4, 0, 0, 0, 0, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16];
const AUTHENTICATION: &[u8] = &[4, 0, 0, 0, 0, 0, 1, 0, 0, 0, 2, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12];
const ATOMIC: &[u8] = &[0, 0, 0, 1, 2, 3, 4];

#[test]
fn extension_headers_are_read_over_and_kept() {
    let mut bench = fixed_bench(2);
    let chains: [Extensions<'_>; 6] = [
        &[(0, PADDING)],
        &[(60, PADDING)],
        &[(43, ROUTING_ENDED)],
        &[(51, AUTHENTICATION)],
        &[(44, ATOMIC)],
        &[(0, PADDING), (60, PADDING), (43, ROUTING_ENDED), (51, AUTHENTICATION), (60, PADDING)],
    ];
    for (n, chain) in chains.into_iter().enumerate() {
        let client = (CLIENT6.0, 50_000 + n as u16);
        let plain = syn(client, VIP6, 5);
        bench.deliver_and_run(WAN, &with_extensions(&plain, chain));
        let mut sent = bench.sent(LAN).remove(0);
        let len: usize = chain.iter().map(|(_, rest)| 1 + rest.len()).sum();
        let headers: Vec<u8> = sent.drain(54..54 + len).collect();
        assert_eq!(headers, with_extensions(&plain, chain)[54..54 + len], "chain {n}");
        // Without them it is the packet that it would have been without them.
        sent[20] = 6;
        let payload = sent.len() as u16 - 54;
        sent[18..20].copy_from_slice(&payload.to_be_bytes());
        let seen = read(&sent);
        assert_eq!((seen.from, seen.to), (end(client), end(INSTANCE6)));
        // The instance's answer, with the same headers.
        let answer = host_segment(INSTANCE6, client, TcpControl::Syn, b"");
        bench.deliver_and_run(LAN, &with_extensions(&answer, chain));
        let sent = bench.sent(WAN).remove(0);
        assert_eq!(sent[22..38], addr(VIP6.0).v6_bytes());
    }
    assert_eq!(bench.fates().forwarded, 12);
    bench.check_laws();
}

#[test]
fn extension_headers_that_lead_nowhere_have_names_and_pass_in_transit() {
    let mut bench = fixed_bench(1);
    let padding: Vec<(u8, &[u8])> = vec![(60, PADDING); EXTENSIONS_MAX + 1];
    let long = [&[24u8, 1, 198][..], &[0; 196]].concat(); // 200 bytes in one header
    let to_us = |extensions: &[(u8, &[u8])]| with_extensions(&syn(CLIENT6, VIP6, 5), extensions);
    let mut source_route = ROUTING_ENDED.to_vec();
    source_route[2] = 1;
    let cases: [(&str, Extensions<'_>); 5] = [
        ("extension-limit", &padding),
        ("extension-limit", &[(60, &long)]),
        ("source-route", &[(43, &source_route)]),
        ("unknown-next-header", &[(135, PADDING)]),
        ("unknown-next-header", &[(60, PADDING), (50, PADDING)]),
    ];
    for (name, chain) in cases {
        let before = bench.drops(NodeId::Classify, name);
        bench.deliver_and_run(WAN, &to_us(chain));
        assert_eq!(bench.drops(NodeId::Classify, name), before + 1, "{name}");
        let passing = with_extensions(&client_udp(CLIENT6, ("2001:db8:1::7", 9), b"x"), chain);
        bench.deliver_and_run(WAN, &passing);
        assert_eq!(bench.sent(LAN)[0][14..], one_hop_later(&passing), "{name}");
    }
    assert_eq!(bench.fates().forwarded, 5);
    // As many as are walked over are no reason.
    bench.deliver_and_run(WAN, &to_us(&padding[1..]));
    assert_eq!(bench.sent(LAN).len(), 1);
    bench.check_laws();
}

#[test]
fn cut_headers_have_names() {
    let mut bench = fixed_bench(1);
    let chain: Extensions<'_> = &[(0, PADDING), (43, ROUTING_ENDED), (51, AUTHENTICATION)];
    let whole = with_extensions(&syn(CLIENT6, VIP6, 5), chain);
    let l4 = 54 + 8 + 24 + 24;
    for len in 54..l4 + 20 {
        // The packet says itself that it ends there.
        let mut cut = whole[..len].to_vec();
        cut[18..20].copy_from_slice(&(len as u16 - 54).to_be_bytes());
        bench.deliver_and_run(WAN, &cut);
    }
    // And here the frame ends before the packet.
    for len in 54..l4 + 20 {
        bench.deliver_and_run(WAN, &whole[..len]);
    }
    let extensions = (l4 - 54) as u64;
    assert_eq!(bench.drops(NodeId::Classify, "short-extension"), extensions);
    assert_eq!(bench.drops(NodeId::Classify, "short-l4"), 20);
    assert_eq!(bench.drops(NodeId::Classify, "short-ip"), extensions + 20);
    assert!(bench.sent(LAN).is_empty());
    let options = with_options(&syn(CLIENT, VIP, 5), &[1; 8]);
    for len in 14..42 {
        bench.deliver_and_run(WAN, &options[..len]);
    }
    assert_eq!(bench.drops(NodeId::Classify, "short-ip"), extensions + 20 + 28);
    bench.check_laws();
}
