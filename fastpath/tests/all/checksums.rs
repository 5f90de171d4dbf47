//! TCP and UDP checksums: what begins something has a right one; what goes on with a flow keeps its own, right or wrong.

use crate::common::frames::*;
use crate::common::*;
use millrace_fastpath::driver::RxChecksum;
use millrace_fastpath::event::Event;
use millrace_fastpath::node::NodeId;
use millrace_fastpath::slots::{Phase, WakeId};
use millrace_fastpath::tables::services::*;
use smoltcp::wire::TcpControl;

const CLIENT: End = ("10.9.9.9", 40_000);
const CLIENT6: End = ("2001:db8:9::9", 40_000);
const VIP: End = ("203.0.113.10", 80);
const VIP6: End = ("2001:db8:f::10", 80);
const UDP_VIP: End = ("203.0.113.10", 443);
const UDP_VIP6: End = ("2001:db8:f::10", 443);
const INSTANCE: End = ("198.51.100.7", 8080);
const INSTANCE6: End = ("2001:db8:1::7", 8080);
const CLIENT_SIDE: ([u8; 6], [u8; 6]) = (CLIENT_MAC, WAN_MAC);

/// A service at TCP port 80 and UDP port 443, in both families.
fn bench(service: Service) -> Bench {
    let mut bench = Bench::new(1);
    set(&mut bench, service);
    bench
}

fn set(bench: &mut Bench, service: Service) {
    let endpoints = [(VIP, 6), (VIP6, 6), (UDP_VIP, 17), (UDP_VIP6, 17)];
    let endpoints =
        endpoints.map(|((text, port), protocol)| Endpoint { addr: addr(text), port, protocol }).to_vec();
    let mut services = (*bench.tables.services).clone();
    services.insert(ServiceId(0), std::sync::Arc::new(service), &endpoints);
    bench.tables.services = std::sync::Arc::new(services);
    bench.publish();
}

fn splicing() -> Service {
    Service { handling: Handling::Splice, overflow: Overflow::Rst, ..cold_service() }
}

fn flows(bench: &Bench) -> u64 {
    bench.sum(|of| &of.fates.flows)
}

/// Dropped for a wrong TCP, and for a wrong UDP checksum.
fn drops(bench: &Bench) -> (u64, u64) {
    (bench.drops(NodeId::Service, "tcp-checksum"), bench.drops(NodeId::Service, "udp-checksum"))
}

fn frames_left(bench: &Bench) -> usize {
    bench.sent(WAN).len() + bench.sent(LAN).len()
}

/// What would begin a flow, wake, be held, be answered with a cookie, by TCP and by UDP, and what would join a connection.
fn beginnings() -> Vec<Vec<u8>> {
    [(CLIENT, VIP, UDP_VIP), (CLIENT6, VIP6, UDP_VIP6)]
        .into_iter()
        .flat_map(|(client, vip, udp_vip)| {
            [
                syn(client, vip, 1),
                client_udp(client, udp_vip, b"hello"),
                client_udp((client.0, 2), udp_vip, b"of odd length, and long enough for words: abcdefg"),
            ]
        })
        .collect()
}

#[test]
fn what_has_a_wrong_checksum_begins_nothing() {
    let verified = Service { verify: Verify::Cookie, ..splicing() };
    let forward = Service { handling: Handling::Forward, overflow: Overflow::Upstream, ..cold_service() };
    for service in [fixed_service(), cold_service(), forward, splicing(), verified] {
        let mut bench = bench(service.clone());
        for frame in beginnings() {
            bench.deliver_and_run(WAN, &with_wrong_checksum(&frame));
        }
        // A service that serves takes in connections that are under way.
        let joins = segment(CLIENT, VIP, b"GET /");
        bench.deliver_and_run(WAN, &with_wrong_checksum(&joins));
        let no_flow = bench.drops(NodeId::Service, "no-flow");
        let (tcp, udp) = drops(&bench);
        assert_eq!((tcp + no_flow, udp), (3, 4), "{service:?}");
        assert_eq!(tcp, if no_flow == 0 { 3 } else { 2 });
        assert_eq!((flows(&bench), bench.wakes(), bench.fates().held, frames_left(&bench)), (0, 0, 0, 0));
        assert_eq!(bench.shared.slots.get(ServiceId(0)).load(), (Phase::Cold, WakeId(0)));
        // The same with right ones.
        for frame in beginnings() {
            bench.deliver_and_run(WAN, &frame);
        }
        let fates = bench.fates();
        assert_eq!(fates.held + fates.forwarded + fates.answered, 6, "{service:?}");
        bench.check_laws();
    }
}

#[test]
fn none_is_as_good_as_right_over_ipv4_and_as_wrong_over_ipv6() {
    for (service, held) in [(fixed_service(), false), (cold_service(), true)] {
        let mut bench = bench(service);
        for (client, vip) in [(CLIENT, UDP_VIP), (CLIENT6, UDP_VIP6)] {
            let mut frame = client_udp(client, vip, b"hello");
            let at = if client == CLIENT { 40 } else { 60 };
            frame[at..at + 2].fill(0);
            bench.deliver_and_run(WAN, &frame);
        }
        assert_eq!(drops(&bench), (0, 1));
        let fates = bench.fates();
        assert_eq!((fates.held, fates.forwarded), if held { (1, 0) } else { (0, 1) });
        bench.check_laws();
    }
}

#[test]
fn what_the_device_has_found_counts() {
    let mut bench = bench(fixed_service());
    let (good, bad) = (beginnings(), beginnings().into_iter().map(|frame| with_wrong_checksum(&frame)));
    for frame in &good {
        assert!(bench.net.deliver_looked_at(WAN, 0, frame, RxChecksum::Bad));
    }
    bench.run();
    assert_eq!((drops(&bench), flows(&bench)), ((2, 4), 0));
    for frame in bad {
        assert!(bench.net.deliver_looked_at(WAN, 0, &frame, RxChecksum::Good));
    }
    bench.run();
    assert_eq!((drops(&bench), flows(&bench)), ((2, 4), 6), "nobody looks again");
    bench.check_laws();
}

#[test]
fn bytes_behind_the_packet_are_no_part_of_it() {
    let mut bench = bench(fixed_service());
    for frame in beginnings() {
        let padded = [&frame[..], &[0xa5; 7]].concat();
        bench.deliver_and_run(WAN, &padded);
    }
    // Behind the datagram, within the IP packet.
    let mut longer = [&client_udp((CLIENT.0, 7), UDP_VIP, b"hello")[..], &[0xa5; 4]].concat();
    let mut packet = smoltcp::wire::Ipv4Packet::new_unchecked(&mut longer[14..]);
    packet.set_total_len(20 + 8 + 5 + 4);
    packet.fill_checksum();
    bench.deliver_and_run(WAN, &longer);
    assert_eq!((drops(&bench), flows(&bench)), ((0, 0), 7));
    bench.check_laws();
}

/// Options and extension headers come between the addresses that the sum is over and what it is of.
#[test]
fn headers_between_are_no_part_of_the_sum() {
    let mut bench = bench(fixed_service());
    let options = [148, 4, 0, 0]; // router alert (RFC 2113)
    let padding: [(u8, &[u8]); 1] = [(60, &[0, 1, 4, 0, 0, 0, 0])];
    for (client, vip, udp_vip) in [(CLIENT, VIP, UDP_VIP), (CLIENT6, VIP6, UDP_VIP6)] {
        let both = |port| [syn((client.0, port), vip, 1), client_udp((client.0, port), udp_vip, b"hello")];
        let wrong = both(2).map(|frame| with_wrong_checksum(&frame));
        for frame in both(1).iter().chain(&wrong) {
            let longer = if client == CLIENT {
                with_options(frame, &options)
            } else {
                with_extensions(frame, &padding)
            };
            bench.deliver_and_run(WAN, &longer);
        }
    }
    assert_eq!((drops(&bench), flows(&bench)), ((2, 2), 4));
    bench.check_laws();
}

#[test]
fn a_flow_is_not_ended_by_a_syn_with_a_wrong_checksum() {
    let mut bench = bench(fixed_service());
    bench.deliver_and_run(WAN, &syn(CLIENT, VIP, 1));
    bench.deliver_and_run(LAN, &host_segment(INSTANCE, CLIENT, TcpControl::Syn, b""));
    bench.deliver_and_run(WAN, &tcp_frame(CLIENT_SIDE, CLIENT, VIP, TcpControl::Fin, Some(1), 2, b""));
    bench.deliver_and_run(LAN, &host_segment(INSTANCE, CLIENT, TcpControl::Fin, b""));
    assert_eq!(frames_left(&bench), 4);
    let begun = |bench: &Bench| bench.sum(|of| &of.service(ServiceId(0)).flows_begun);
    bench.deliver_and_run(WAN, &with_wrong_checksum(&syn(CLIENT, VIP, 9)));
    assert_eq!((drops(&bench), flows(&bench), begun(&bench), frames_left(&bench)), ((1, 0), 1, 1, 0));
    bench.deliver_and_run(LAN, &host_segment(INSTANCE, CLIENT, TcpControl::None, b""));
    assert_eq!(read(&bench.sent(WAN)[0]).from, end(VIP), "the old one's last words pass");
    bench.deliver_and_run(WAN, &syn(CLIENT, VIP, 9));
    assert_eq!((flows(&bench), begun(&bench), frames_left(&bench)), (1, 2, 1));
    bench.check_laws();
}

/// By its Ethernet and IP headers alone it is as good as another; but it isn't one to hold.
#[test]
fn the_trigger_flow_does_not_look_that_far() {
    let by_flow = Service { trigger_dns: false, trigger_syn: false, trigger_flow: true, ..cold_service() };
    let mut bench = Bench::new(1);
    bench.set_service(0, by_flow);
    bench.deliver_and_run(WAN, &with_wrong_checksum(&syn(CLIENT, VIP, 1)));
    assert_eq!((bench.wakes(), drops(&bench), bench.fates().held), (1, (1, 0), 0));
    bench.check_laws();
}

#[test]
fn a_first_fragment_cannot_be_judged_and_passes() {
    let mut bench = bench(fixed_service());
    for port in [1, 2] {
        let from = (CLIENT.0, port);
        for frame in [client_udp(from, UDP_VIP, &[7; 200]), segment(from, VIP, &[7; 200])] {
            let whole = if port == 1 { frame } else { with_wrong_checksum(&frame) };
            for part in fragments(&whole, u32::from(port), &[64]) {
                bench.deliver_and_run(WAN, &part);
            }
            let got = put_together(&bench.sent(LAN));
            assert_eq!(has_right_checksum(&got), port == 1, "its receiver can");
        }
    }
    assert_eq!((flows(&bench), drops(&bench)), (4, (0, 0)));
    bench.check_laws();
}

/// The client's SYN of a service that splices, and what acknowledges our answer to it.
fn acknowledged(bench: &mut Bench, data: &[u8]) -> Vec<u8> {
    bench.deliver_and_run(WAN, &syn(CLIENT, VIP, 100));
    bench.shared.slots.get(ServiceId(0)).set_handed(WakeId(1));
    bench.run();
    let Some((TcpControl::Syn, cookie, Some(101))) = read(&bench.sent(WAN)[0]).tcp else {
        panic!("no SYN-ACK")
    };
    let own = cookie.wrapping_add(1);
    tcp_frame(CLIENT_SIDE, CLIENT, VIP, TcpControl::Psh, Some(own), 101, data)
}

#[test]
fn a_cookie_is_proven_by_a_segment_with_a_right_checksum() {
    let mut bench = bench(Service { verify: Verify::Cookie, ..splicing() });
    let answer = acknowledged(&mut bench, b"GET /");
    bench.deliver_and_run(WAN, &with_wrong_checksum(&answer));
    assert_eq!((drops(&bench), bench.wakes(), bench.fates().held), ((1, 0), 0, 0));
    bench.deliver_and_run(WAN, &answer);
    assert_eq!((drops(&bench), bench.wakes(), bench.fates().held), ((1, 0), 1, 1));
    // What has been held isn't given up for it, whether the instance is being connected to or not.
    let longer = |bench: &mut Bench| {
        let Some((_, _, Some(own))) = read(&answer).tcp else { panic!("an acknowledgement") };
        let longer = tcp_frame(CLIENT_SIDE, CLIENT, VIP, TcpControl::Psh, Some(own), 101, b"GOT TO");
        bench.deliver_and_run(WAN, &with_wrong_checksum(&longer));
        (drops(bench).0, bench.fates().replaced)
    };
    assert_eq!(longer(&mut bench), (2, 0));
    let ready =
        Service { verify: Verify::Cookie, instances: vec![instance(1, InstanceState::Ready)], ..splicing() };
    set(&mut bench, ready);
    bench.set_phase(0, Phase::Ready);
    bench.run();
    assert_eq!(read(&bench.sent(LAN)[0]).tcp, Some((TcpControl::Syn, 100, None)));
    assert_eq!(longer(&mut bench), (3, 0));
    // Nor does either end end it, or refuse it, so.
    let Some((_, _, Some(own))) = read(&answer).tcp else { panic!("an acknowledgement") };
    let ends = [
        (WAN, tcp_frame(CLIENT_SIDE, CLIENT, VIP, TcpControl::Rst, Some(own), 101, b"")),
        (LAN, tcp_frame((HOST_MAC, LAN_MAC), INSTANCE, CLIENT, TcpControl::Rst, Some(101), 7000, b"")),
    ];
    for (port, end) in &ends {
        bench.deliver_and_run(*port, &with_wrong_checksum(end));
    }
    assert_eq!((drops(&bench), bench.fates().still_held), ((5, 0), 1));
    // Nor is an answer of the instance's taken that a wire has changed: nobody else would find out.
    let accepts = tcp_frame((HOST_MAC, LAN_MAC), INSTANCE, CLIENT, TcpControl::Syn, Some(101), 7000, b"");
    bench.deliver_and_run(LAN, &with_wrong_checksum(&accepts));
    assert_eq!((drops(&bench), frames_left(&bench), bench.fates().still_held), ((6, 0), 0, 1));
    let told = |bench: &Bench| {
        let handshakes = &bench.shared.workers[0].counters.handshakes[1];
        [&handshakes.answered, &handshakes.refused].map(|counter| counter.get())
    };
    assert_eq!(told(&bench), [0, 0]);
    bench.deliver_and_run(LAN, &accepts);
    assert_eq!(told(&bench), [1, 0]);
    assert_eq!(read(&bench.sent(LAN)[0]).data, b"GET /");
    // Its repetition would be answered by us.
    bench.deliver_and_run(LAN, &with_wrong_checksum(&accepts));
    assert_eq!((drops(&bench), frames_left(&bench)), ((7, 0), 0));
    bench.check_laws();
}

/// Takes off what was put in front of a client's packet.
fn carried(frame: &[u8], outer: usize, client: End<'_>) -> Vec<u8> {
    let ethertype: [u8; 2] = if client == CLIENT { [8, 0] } else { [0x86, 0xdd] };
    [&frame[..12], &ethertype, &frame[14 + outer..]].concat()
}

#[test]
fn on_a_flow_a_wrong_checksum_stays_wrong_and_a_right_one_right_by_every_way_of_forwarding() {
    let to = |forwarding| Service { forwarding, ..fixed_service() };
    let translated = Service { source: SourceAddress::Appliance, ..fixed_service() };
    for (service, outer) in [
        (to(Forwarding::Nat), 0),
        (translated, 0),
        (to(Forwarding::L2), 0),
        (to(Forwarding::Ipip), 20),
        (to(Forwarding::Gue), 32),
    ] {
        let mut bench = bench(service.clone());
        for (client, vip, udp_vip, instance) in
            [(CLIENT, VIP, UDP_VIP, INSTANCE), (CLIENT6, VIP6, UDP_VIP6, INSTANCE6)]
        {
            bench.deliver_and_run(WAN, &syn(client, vip, 1));
            bench.deliver_and_run(WAN, &client_udp(client, udp_vip, b"first"));
            let first = bench.sent(LAN);
            let outer = if outer > 0 && first[0][12..14] == [0x86, 0xdd] { outer + 20 } else { outer };
            let inner = |frame: &[u8]| carried(frame, outer, client);
            let seen: Vec<Seen> = first.iter().map(|frame| read(&inner(frame))).collect();
            let data = [segment(client, vip, b"GET /"), client_udp(client, udp_vip, b"more")];
            for frame in &data {
                bench.deliver_and_run(WAN, frame);
                bench.deliver_and_run(WAN, &with_wrong_checksum(frame));
                let sent: Vec<bool> =
                    bench.sent(LAN).iter().map(|frame| has_right_checksum(&inner(frame))).collect();
                assert_eq!(sent, [true, false], "{:?} {client:?}", service.forwarding);
            }
            if !service.forwarding.is_two_way() {
                continue;
            }
            let answers = [
                host_segment(instance, (&seen[0].from.0, seen[0].from.1), TcpControl::Syn, b""),
                udp((HOST_MAC, LAN_MAC), instance, (&seen[1].from.0, seen[1].from.1), b"answer"),
            ];
            for frame in &answers {
                bench.deliver_and_run(LAN, frame);
                bench.deliver_and_run(LAN, &with_wrong_checksum(frame));
                let sent: Vec<bool> = bench.sent(WAN).iter().map(|frame| has_right_checksum(frame)).collect();
                assert_eq!(sent, [true, false], "{:?} {client:?}", service.forwarding);
            }
        }
        assert_eq!(drops(&bench), (0, 0));
        bench.check_laws();
    }
}

#[test]
fn on_a_spliced_flow_a_wrong_checksum_stays_wrong() {
    let mut bench = bench(splicing());
    let answer = acknowledged(&mut bench, b"GET /");
    bench.deliver_and_run(WAN, &answer);
    set(&mut bench, Service { instances: vec![instance(1, InstanceState::Ready)], ..splicing() });
    bench.set_phase(0, Phase::Ready);
    bench.run();
    let from_instance = |control, seq, data: &[u8]| {
        tcp_frame((HOST_MAC, LAN_MAC), INSTANCE, CLIENT, control, Some(101), seq, data)
    };
    bench.deliver_and_run(LAN, &from_instance(TcpControl::Syn, 7000, b""));
    assert_eq!(bench.sent(LAN).len(), 2, "our SYN, and what was held");
    let Some((_, _, Some(own))) = read(&answer).tcp else { panic!("an acknowledgement") };
    let more = tcp_frame(CLIENT_SIDE, CLIENT, VIP, TcpControl::Psh, Some(own), 106, b"more");
    let reply = from_instance(TcpControl::Psh, 7001, b"200");
    for (port, out, frame) in [(WAN, LAN, more), (LAN, WAN, reply)] {
        bench.deliver_and_run(port, &frame);
        bench.deliver_and_run(port, &with_wrong_checksum(&frame));
        let sent: Vec<bool> = bench.sent(out).iter().map(|frame| has_right_checksum(frame)).collect();
        assert_eq!(sent, [true, false]);
    }
    let woken = bench.events().iter().filter(|event| matches!(event, Event::FirstPacket { .. })).count();
    assert_eq!(woken, 1);
    bench.check_laws();
}
