//! Several packets of one flow that wait for a function: datagrams, and the later fragments of one; what they may be, in
//! which order they leave, and the way out of those that can't wait.

use crate::common::frames::*;
use crate::common::*;
use millrace_fastpath::hold::{HELD_PER_FLOW_MAX, Refusal};
use millrace_fastpath::node::NodeId;
use millrace_fastpath::slots::Phase;
use millrace_fastpath::tables::services::*;
use millrace_fastpath::worker::WorkerLimits;
use smoltcp::wire::{IpProtocol, Ipv4Packet};

const CLIENT: End = ("10.9.9.9", 40_000);
const CLIENT6: End = ("2001:db8:9::9", 40_000);
const VIP: End = ("203.0.113.10", 443);
const VIP6: End = ("2001:db8:f::10", 443);
const TCP_VIP: End = ("203.0.113.10", 80);
const HOST: End = ("198.51.100.7", 8080);

/// A service at UDP port 443 in both families, and at TCP port 80.
fn set(bench: &mut Bench, service: Service) {
    let endpoints = [(VIP, 17), (VIP6, 17), (TCP_VIP, 6)];
    let endpoints =
        endpoints.map(|((text, port), protocol)| Endpoint { addr: addr(text), port, protocol }).to_vec();
    let mut services = (*bench.tables.services).clone();
    services.insert(ServiceId(0), std::sync::Arc::new(service), &endpoints);
    bench.tables.services = std::sync::Arc::new(services);
    bench.publish();
}

fn bench(workers: usize, service: Service) -> Bench {
    let mut bench = Bench::new(workers);
    set(&mut bench, service);
    bench
}

fn make_ready(bench: &mut Bench) {
    let mut service = (**bench.tables.services.get(ServiceId(0)).unwrap()).clone();
    service.instances.push(instance(1, InstanceState::Ready));
    set(bench, service);
    bench.set_phase(0, Phase::Ready);
    bench.run();
}

fn refused(bench: &Bench) -> u64 {
    bench.sum(|of| &of.fates.holds_refused[Refusal::FlowFull as usize])
}

fn overflowed(bench: &Bench) -> u64 {
    bench.sum(|of| &of.service(ServiceId(0)).overflowed)
}

fn data_of(frames: &[Vec<u8>]) -> Vec<Vec<u8>> {
    frames.iter().map(|frame| read(frame).data).collect()
}

/// The same packet with another identification, as a client's stack sends it again.
fn sent_again(frame: &[u8]) -> Vec<u8> {
    let mut bytes = frame.to_vec();
    let mut packet = Ipv4Packet::new_unchecked(&mut bytes[14..]);
    packet.set_ident(packet.ident().wrapping_add(77));
    packet.fill_checksum();
    bytes
}

#[test]
fn the_datagrams_of_a_flow_wait_side_by_side_and_leave_in_their_order() {
    let mut bench = bench(1, cold_service());
    let say = |bench: &mut Bench, data: &[u8]| bench.deliver_and_run(WAN, &client_udp(CLIENT, VIP, data));
    say(&mut bench, b"one");
    bench.deliver_and_run(WAN, &client_udp((CLIENT.0, 1), VIP, b"another's"));
    say(&mut bench, b"two");
    // Said again it takes its own place; so does what was sent by another route.
    bench.deliver_and_run(WAN, &sent_again(&client_udp(CLIENT, VIP, b"one")));
    bench.deliver_and_run(WAN, &with_ttl(&client_udp(CLIENT, VIP, b"two"), 9));
    // As long, but other words.
    say(&mut bench, b"six");
    let fates = bench.fates();
    assert_eq!((fates.held, fates.replaced, fates.still_held, bench.wakes()), (6, 2, 4, 1));
    make_ready(&mut bench);
    let sent = bench.sent(LAN);
    assert_eq!(data_of(&sent), [&b"one"[..], b"another's", b"two", b"six"]);
    let hops: Vec<u8> = sent.iter().map(|frame| read(frame).hop_limit).collect();
    assert_eq!(hops, [63, 63, 8, 63], "the newer bytes count");
    assert_eq!(bench.sum(|of| &of.fates.flows), 2, "one flow of each client");
    bench.check_laws();
}

#[test]
fn a_flow_has_its_share_of_the_hold_and_what_is_too_much_is_dropped() {
    for overflow in [Overflow::Upstream, Overflow::Drop] {
        let mut bench = bench(1, Service { overflow, ..cold_service() });
        let many = HELD_PER_FLOW_MAX as u8 + 3;
        for n in 0..many {
            bench.deliver_and_run(WAN, &client_udp(CLIENT, VIP, &[n; 9]));
        }
        bench.deliver_and_run(WAN, &client_udp(CLIENT, VIP, &[0; 9]));
        let fates = bench.fates();
        assert_eq!((fates.still_held, fates.replaced, fates.dropped), (4, 1, 3));
        assert_eq!((bench.drops(NodeId::Service, "hold-flow-full"), refused(&bench)), (3, 3));
        assert_eq!(overflowed(&bench), 0, "those that wait decide whose the flow is");
        // Another flow of the same client has its own.
        bench.deliver_and_run(WAN, &client_udp((CLIENT.0, 1), VIP, b"another"));
        assert_eq!(bench.fates().still_held, 5);
        make_ready(&mut bench);
        assert_eq!(data_of(&bench.sent(LAN)[..4]), [[0; 9], [1; 9], [2; 9], [3; 9]]);
        bench.check_laws();
    }
}

#[test]
fn at_the_deadline_the_datagrams_of_a_flow_leave_in_their_order_too() {
    let fallback = Instance { port: 0, ..instance(0, InstanceState::Ready) };
    for (overflow, port) in [(Overflow::Upstream, WAN), (Overflow::Fallback, LAN)] {
        let mut bench = bench(1, Service { overflow, instances: vec![fallback.clone()], ..cold_service() });
        for data in [b"one", b"two", b"six"] {
            bench.deliver_and_run(WAN, &client_udp(CLIENT, VIP, data));
        }
        bench.advance_ms(900);
        bench.run();
        assert_eq!(data_of(&bench.sent(port)), [b"one", b"two", b"six"], "{overflow:?}");
        assert_eq!((bench.fates().expired, bench.fates().release_sent), (3, 3));
        bench.check_laws();
    }
}

#[test]
fn later_fragments_wait_behind_their_first_whatever_queues_they_come_by() {
    for workers in [1, 4] {
        for source in [SourceAddress::Keep, SourceAddress::Appliance] {
            let mut bench = bench(workers, Service { source, ..cold_service() });
            let data: Vec<u8> = (0..3000u16).map(|n| n as u8).collect();
            for (n, (client, vip)) in [(CLIENT, VIP), (CLIENT6, VIP6)].into_iter().enumerate() {
                let parts = fragments(&client_udp(client, vip, &data), 9, &[1400, 2800]);
                for (at, part) in parts.iter().enumerate() {
                    assert!(bench.net.deliver(WAN, ((n + at) % workers) as u16, part));
                    bench.run();
                }
            }
            // One that comes twice takes its own place.
            let again = &fragments(&client_udp(CLIENT, VIP, &data), 9, &[1400, 2800])[1];
            bench.deliver_and_run(WAN, again);
            let fates = bench.fates();
            assert_eq!((fates.held, fates.replaced, fates.still_held, bench.wakes()), (7, 1, 6, 1));
            assert!(bench.sent(LAN).is_empty() && bench.sent(WAN).is_empty());
            make_ready(&mut bench);
            let sent = bench.sent(LAN);
            assert_eq!(sent.len(), 6);
            for (client, kind) in [(CLIENT, [8, 0]), (CLIENT6, [0x86, 0xdd])] {
                let mine: Vec<Vec<u8>> = sent.iter().filter(|frame| frame[12..14] == kind).cloned().collect();
                assert!(mine[0].len() > 1400 && mine[2].len() < 400, "the first first, the last last");
                let got = read(&put_together(&mine));
                assert_eq!(got.data, data);
                assert_eq!(got.from == end(client), source == SourceAddress::Keep);
            }
            let fates = bench.fates();
            assert_eq!((fates.released, fates.release_sent, fates.dropped), (6, 6, 0));
            bench.check_laws();
        }
    }
}

#[test]
fn fragments_wait_behind_their_own_first_alone() {
    let mut bench = bench(1, cold_service());
    let cut = |data: u8, id| fragments(&client_udp(CLIENT, VIP, &[data; 200]), id, &[64, 128]);
    bench.deliver_and_run(WAN, &client_udp(CLIENT, VIP, b"whole"));
    for part in &cut(1, 9)[..2] {
        bench.deliver_and_run(WAN, part);
    }
    for part in &cut(2, 10) {
        bench.deliver_and_run(WAN, part);
    }
    // The flow's share is used up by the second's first: there is no room for the others.
    let names = ["hold-flow-full", "overflow-fragment"];
    let drops = |bench: &Bench| names.map(|name| bench.drops(NodeId::Service, name));
    assert_eq!((bench.fates().still_held, drops(&bench)), (4, [2, 0]));
    // Nor for the last of the one before, and for none of the next, whose first isn't held.
    bench.deliver_and_run(WAN, &cut(1, 9)[2]);
    assert_eq!(drops(&bench), [3, 0]);
    for part in &cut(3, 11) {
        bench.deliver_and_run(WAN, part);
    }
    assert_eq!((bench.fates().still_held, drops(&bench)), (4, [4, 2]));
    make_ready(&mut bench);
    assert_eq!(bench.sent(LAN).len(), 4);
    bench.check_laws();
}

/// A datagram of more fragments than a flow may have waiting isn't parted between two ways: what finds no room is dropped.
#[test]
fn fragments_beyond_a_flows_share_do_not_go_another_way() {
    let mut bench = bench(1, Service { overflow: Overflow::Upstream, ..cold_service() });
    for part in &fragments(&client_udp(CLIENT, VIP, &[7; 400]), 9, &[64, 128, 192, 256, 320]) {
        bench.deliver_and_run(WAN, part);
    }
    assert_eq!((bench.fates().still_held, bench.drops(NodeId::Service, "hold-flow-full")), (4, 2));
    assert!(bench.sent(WAN).is_empty() && bench.sent(LAN).is_empty());
    make_ready(&mut bench);
    assert_eq!(bench.sent(LAN).len(), 4);
    bench.check_laws();
}

/// A flow's second datagram whose turn doesn't come before its deadline: the first has begun the flow, so it goes on, too.
#[test]
fn what_only_waited_for_its_turn_follows_the_flow_that_is_known_by_then() {
    let mut bench = bench(1, Service { overflow: Overflow::Drop, ..cold_service() });
    bench.advance_us(500);
    // As many as are released in a millisecond, the last of them the first of two.
    for port in 0..63 {
        bench.deliver_and_run(WAN, &client_udp((CLIENT.0, 1000 + port), VIP, b"other"));
    }
    for data in [b"first ", b"second"] {
        bench.deliver_and_run(WAN, &client_udp(CLIENT, VIP, data));
    }
    bench.advance_us(899_700);
    make_ready(&mut bench);
    assert_eq!((bench.sent(LAN).len(), bench.fates().still_held), (64, 1));
    bench.advance_us(400);
    bench.run();
    assert_eq!((bench.sent(LAN).len(), bench.fates().expired, bench.fates().dropped), (1, 1, 0));
    bench.check_laws();
}

/// What becomes of a datagram's first fragment and of its two later ones, by the action: how many leave by the WAN and
/// the LAN, and the names of the drops.
fn ways_out() -> [(Overflow, (usize, usize), [&'static str; 2]); 4] {
    [
        (Overflow::Upstream, (3, 0), ["", ""]),
        (Overflow::Fallback, (0, 3), ["", ""]),
        (Overflow::Rst, (0, 0), ["overflow-no-rst", "overflow-fragment"]),
        (Overflow::Drop, (0, 0), ["", "overflow-fragment"]),
    ]
}

#[test]
fn later_fragments_of_what_cannot_be_held_take_its_way_out() {
    let fallback = Instance { port: 0, ..instance(0, InstanceState::Ready) };
    for (overflow, left, [first, later]) in ways_out() {
        for phase in [Phase::Quarantined, Phase::Bypass, Phase::Cold] {
            let mut bench =
                bench(2, Service { overflow, instances: vec![fallback.clone()], ..cold_service() });
            bench.set_phase(0, phase);
            if phase == Phase::Cold {
                // No room for anything.
                let mut service = (**bench.tables.services.get(ServiceId(0)).unwrap()).clone();
                service.hold_packets_max = 0;
                set(&mut bench, service);
            }
            let first = match (first, phase) {
                ("", Phase::Cold) => "hold-service-full",
                ("", _) => "overflow",
                (name, _) => name,
            };
            let whole = client_udp(CLIENT, VIP, &[5; 200]);
            for part in fragments(&whole, 9, &[64, 128]) {
                bench.deliver_and_run(WAN, &part);
            }
            let sent = (bench.sent(WAN), bench.sent(LAN));
            assert_eq!((sent.0.len(), sent.1.len()), left, "{overflow:?} {phase:?}");
            assert_eq!(overflowed(&bench), if overflow == Overflow::Fallback { 1 } else { 3 });
            if left == (0, 0) {
                let drops = [first, later].map(|name| bench.drops(NodeId::Service, name));
                assert_eq!(drops, [1, 2], "{overflow:?} {phase:?}");
            } else {
                let mut sent = sent;
                sent.0.append(&mut sent.1);
                let got = read(&put_together(&sent.0));
                let to = if overflow == Overflow::Upstream { end(VIP) } else { end((HOST.0, 443)) };
                assert_eq!((got.from, got.to, got.data), (end(CLIENT), to, vec![5; 200]));
            }
            bench.check_laws();
        }
    }
}

#[test]
fn later_fragments_that_waited_too_long_take_the_way_out_of_their_first() {
    let fallback = Instance { port: 0, ..instance(0, InstanceState::Ready) };
    for (overflow, left, _) in ways_out() {
        let mut bench = bench(2, Service { overflow, instances: vec![fallback.clone()], ..cold_service() });
        let whole = client_udp(CLIENT, VIP, &[5; 200]);
        for part in fragments(&whole, 9, &[64, 128]) {
            bench.deliver_and_run(WAN, &part);
        }
        assert_eq!(bench.fates().still_held, 3);
        bench.advance_ms(900);
        bench.run();
        let (mut wan, mut lan) = (bench.sent(WAN), bench.sent(LAN));
        assert_eq!((wan.len(), lan.len()), left, "{overflow:?}");
        let drops = ["hold-expired", "overflow-no-rst", "overflow-fragment"];
        let drops = drops.map(|name| bench.drops(NodeId::Service, name));
        match overflow {
            Overflow::Drop => assert_eq!(drops, [3, 0, 0]),
            Overflow::Rst => assert_eq!(drops, [0, 1, 2]),
            Overflow::Upstream | Overflow::Fallback => {
                wan.append(&mut lan);
                assert_eq!(read(&put_together(&wan)).data, [5; 200]);
                assert_eq!(drops, [0; 3]);
            }
        }
        assert_eq!(bench.fates().expired, 3);
        bench.check_laws();
    }
}

/// With room for three packets of all flows, the last fragment of the second datagram finds none.
#[test]
fn later_fragments_that_find_no_room_take_the_overflow_action() {
    let names = ["hold-worker-full", "overflow-fragment"];
    for (overflow, expected) in [
        (Overflow::Upstream, (1, [0, 0])),
        (Overflow::Fallback, (0, [0, 1])),
        (Overflow::Rst, (0, [0, 1])),
        (Overflow::Drop, (0, [1, 0])),
    ] {
        let limits = WorkerLimits { flows: 64, holds: 3, holds_per_prefix: 8, ..WorkerLimits::default() };
        let mut bench = Bench::with_limits(1, &limits);
        set(&mut bench, Service { overflow, ..cold_service() });
        let cut = |port| fragments(&client_udp((CLIENT.0, port), VIP, &[5; 100]), u32::from(port), &[64]);
        for part in cut(1).iter().chain(&cut(2)) {
            bench.deliver_and_run(WAN, part);
        }
        assert_eq!((bench.fates().held, overflowed(&bench)), (3, 1), "{overflow:?}");
        let sent = bench.sent(WAN);
        let drops = names.map(|name| bench.drops(NodeId::Service, name));
        assert_eq!((sent.len(), drops), expected, "{overflow:?}");
        if let [frame] = &sent[..] {
            assert_eq!(frame[14..], one_hop_later(&cut(2)[1]), "untouched but for its hop");
        }
        bench.check_laws();
    }
}

/// Nobody sends such; but what it opens is one connection, and it is held as any SYN.
#[test]
fn a_syn_in_fragments_is_held_and_released_as_it_came() {
    let whole =
        tcp_frame((CLIENT_MAC, WAN_MAC), CLIENT, TCP_VIP, smoltcp::wire::TcpControl::Syn, None, 1, &[7; 200]);
    let mut bench = bench(2, cold_service());
    for part in fragments(&whole, 9, &[64, 128]) {
        bench.deliver_and_run(WAN, &part);
    }
    assert_eq!((bench.fates().still_held, bench.wakes()), (3, 1));
    make_ready(&mut bench);
    let got = read(&put_together(&bench.sent(LAN)));
    assert_eq!((got.to, got.data), (end(HOST), vec![7; 200]));
    bench.check_laws();
}

#[test]
fn later_fragments_of_what_opens_nothing_are_lost_with_it() {
    let mut bench = bench(1, Service { overflow: Overflow::Upstream, ..cold_service() });
    for part in fragments(&segment(CLIENT, TCP_VIP, &[7; 200]), 9, &[64, 128]) {
        bench.deliver_and_run(WAN, &part);
    }
    assert_eq!((bench.drops(NodeId::Service, "no-flow"), overflowed(&bench)), (3, 0));
    // And where an instance serves, but had no room for a flow of its first.
    let full = WorkerLimits { flows: 1, holds: 4, ..WorkerLimits::default() };
    let mut bench = Bench::with_limits(1, &full);
    set(
        &mut bench,
        Service { overflow: Overflow::Upstream, source: SourceAddress::Appliance, ..fixed_service() },
    );
    bench.deliver_and_run(WAN, &client_udp((CLIENT.0, 1), VIP, b"first"));
    bench.deliver_and_run(
        LAN,
        &udp((HOST_MAC, LAN_MAC), HOST, ("198.51.100.1", read(&bench.sent(LAN)[0]).from.1), b"x"),
    );
    bench.deliver_and_run(WAN, &client_udp((CLIENT.0, 1), VIP, b"established"));
    for part in fragments(&client_udp(CLIENT, VIP, &[7; 200]), 9, &[64, 128]) {
        bench.deliver_and_run(WAN, &part);
    }
    assert_eq!(bench.drops(NodeId::Service, "flow-table-full"), 1);
    assert_eq!((bench.drops(NodeId::Service, "no-flow"), overflowed(&bench)), (2, 0));
    bench.check_laws();
}

/// The flags of a SYN are given to its later fragments, which have no options to clamp a segment size in.
#[test]
fn later_fragments_of_a_syn_are_carried_as_they_are() {
    let whole = tcp_frame(
        (CLIENT_MAC, WAN_MAC),
        CLIENT,
        TCP_VIP,
        smoltcp::wire::TcpControl::Syn,
        None,
        1,
        // Where a header would be: one of 36 bytes, and an option for the largest segments in it.
        &[
            &[0; 40][..],
            &[0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x90, 0, 0, 0, 0, 0, 0, 0, 2, 4, 5, 180],
            &[0; 40],
        ]
        .concat(),
    );
    let mut bench = bench(1, Service { forwarding: Forwarding::Ipip, ..fixed_service() });
    let parts = fragments(&whole, 9, &[64]);
    for part in &parts {
        bench.deliver_and_run(WAN, part);
    }
    let sent = bench.sent(LAN);
    assert_eq!(Ipv4Packet::new_checked(&sent[1][14..]).unwrap().next_header(), IpProtocol::from(4));
    assert_eq!(sent[1][14 + 20 + 20..], parts[1][14 + 20..], "its data");
    bench.check_laws();
}
