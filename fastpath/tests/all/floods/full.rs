//! Each table and queue of a worker, filled: what finds no room is counted by name, nothing grows, and what comes when there
//! is room again fares as if nothing had been.
//!
//! Elsewhere: the limiter of answers in `subdomains`, ICMP errors in `tests/icmp.rs`, the queue of events in
//! `tests/first_packets.rs`, and what waits for a slowpath that has stopped in the slowpath's own tests.

use std::collections::HashMap;

use millrace_fastpath::addr::Addr;
use millrace_fastpath::flow::FlowHasher;
use millrace_fastpath::flow::key::owner;
use millrace_fastpath::hold::Refusal;
use millrace_fastpath::node::NodeId;
use millrace_fastpath::node::fragment::{FRAGMENTED_MAX, REMEMBERED_NANOS};
use millrace_fastpath::queue::PARCELS_MAX;
use millrace_fastpath::slots::{Phase, WakeId};
use millrace_fastpath::tables::InterfaceId;
use millrace_fastpath::tables::policy::NatPorts;
use millrace_fastpath::tables::services::*;
use millrace_fastpath::worker::{RING_MAX, WorkerLimits};
use smoltcp::wire::TcpControl;

use super::traffic::*;
use crate::common::frames::{client_udp, fragments, icmp, read, syn, tcp_frame};
use crate::common::*;

const VIP_AT: At = (VIP, 80);

/// Clients of networks of their own.
fn client(n: usize) -> At {
    ([10, (n >> 8) as u8, n as u8, 9], 30_000)
}

fn from_client(n: usize, flags: u8) -> [u8; 54] {
    tcp(CLIENT_SIDE, client(n), VIP_AT, flags, n as u32)
}

fn refused(bench: &Bench, why: Refusal) -> u64 {
    bench.sum(|of| &of.fates.holds_refused[why as usize])
}

fn overflowed(bench: &Bench) -> u64 {
    bench.sum(|of| &of.service(ServiceId(0)).overflowed)
}

/// Gives the worker back the parcels that it punted; how many.
fn take_punts(bench: &Bench) -> usize {
    let queues = &bench.shared.workers[0].queues;
    let punted: Vec<_> = std::iter::from_fn(|| queues.punts.pop()).collect();
    let count = punted.len();
    punted.into_iter().for_each(|parcel| queues.punts_empty.push(parcel).unwrap());
    count
}

/// Limits: 64 packets held by the worker, 8 of a prefix, 16 for the service.
#[test]
fn full_holds_refuse_by_name_whatever_becomes_of_the_packet_and_take_the_next_when_they_are_empty() {
    for overflow in [Overflow::Drop, Overflow::Upstream, Overflow::Rst] {
        let limits = WorkerLimits { flows: 1024, holds: 64, holds_per_prefix: 8, ..Default::default() };
        let cases = [
            (Refusal::WorkerFull, "hold-worker-full", 1000, 64),
            (Refusal::ServiceFull, "hold-service-full", 16, 16),
            (Refusal::PrefixFull, "hold-prefix-full", 1000, 8),
        ];
        for (why, name, hold_packets_max, room) in cases {
            let mut bench = Bench::with_limits(1, &limits);
            let service = Service { overflow, hold_packets_max, ..cold_service() };
            bench.set_service(0, service);
            for round in 1..=2 {
                for n in 0..100 {
                    let from = match why {
                        Refusal::PrefixFull => ([10, 9, 9, n as u8], 30_000),
                        _ => client(n),
                    };
                    bench.deliver_and_run(WAN, &tcp(CLIENT_SIDE, from, VIP_AT, SYN, 1));
                }
                let beyond = round * (100 - room);
                let counted = [why, Refusal::TooLong].map(|why| refused(&bench, why));
                assert_eq!(counted, [beyond, 0], "{name}, {overflow:?}, round {round}");
                assert_eq!(overflowed(&bench), beyond + (round - 1) * room);
                assert_eq!((bench.fates().still_held, bench.wakes()), (room, usize::from(round == 1)));
                let fates = bench.fates();
                let (forwarded, answered) = match overflow {
                    Overflow::Upstream => (beyond, 0),
                    Overflow::Rst => (0, beyond),
                    _ => (0, 0),
                };
                assert_eq!((fates.forwarded, fates.answered), (forwarded, answered));
                let dropped = if overflow == Overflow::Drop { beyond } else { 0 };
                assert_eq!(bench.drops(NodeId::Service, name), dropped);
                // They have waited enough, and the next find room.
                bench.advance_ms(900);
                bench.run();
                assert_eq!(bench.fates().expired, round * room);
                bench.sent(WAN);
            }
            bench.check_laws();
        }
    }
}

/// Limits: 64 places of 256 bytes and 8 of 1536 in the worker's slab.
#[test]
fn what_is_too_long_to_be_held_or_finds_no_large_place_is_refused_by_name() {
    let limits = WorkerLimits { flows: 1024, holds: 64, holds_per_prefix: 64, ..Default::default() };
    let mut bench = Bench::with_limits(1, &limits);
    bench.set_service(0, cold_service());
    let datagram =
        |n: u16, len: usize| client_udp(("10.9.9.9", 1000 + n), ("203.0.113.10", 443), &vec![7; len]);
    bench.deliver_and_run(WAN, &datagram(0, 1600));
    for n in 0..20 {
        bench.deliver_and_run(WAN, &datagram(n, 1200));
    }
    bench.deliver_and_run(WAN, &datagram(20, 200));
    assert_eq!([Refusal::TooLong, Refusal::WorkerFull].map(|why| refused(&bench, why)), [1, 12]);
    let drops = ["hold-too-long", "hold-worker-full"].map(|name| bench.drops(NodeId::Service, name));
    assert_eq!((drops, bench.fates().still_held), ([1, 12], 9));
    bench.make_ready(0);
    bench.run();
    assert_eq!(bench.sent(LAN).len(), 9);
    bench.set_phase(0, Phase::Cold);
    for n in 0..8 {
        bench.deliver_and_run(WAN, &datagram(100 + n, 1200));
    }
    assert_eq!(bench.fates().still_held, 8);
    bench.check_laws();
}

/// Limits: 64 flows.
fn bench_full_of_connections(service: Service) -> (Bench, Vec<usize>) {
    let limits = WorkerLimits { flows: 64, holds: 64, holds_per_prefix: 64, ..Default::default() };
    let mut bench = Bench::with_limits(1, &limits);
    bench.set_service(0, service);
    let mut connected = Vec::new();
    for n in 0..200 {
        bench.deliver_and_run(WAN, &from_client(n, SYN));
        if bench.sent(LAN).len() == 1 {
            bench.deliver_and_run(LAN, &tcp(HOST_SIDE, (HOST, 8080), client(n), SYN | ACK, 1));
            bench.deliver_and_run(WAN, &from_client(n, ACK));
            assert_eq!((bench.sent(WAN).len(), bench.sent(LAN).len()), (1, 1));
            connected.push(n);
        }
    }
    assert!((60..=64).contains(&connected.len()), "{} connections", connected.len());
    (bench, connected)
}

#[test]
fn a_flow_table_full_of_connections_refuses_new_ones_and_keeps_what_it_has() {
    let (mut bench, connected) = bench_full_of_connections(fixed_service());
    let refused = 200 - connected.len() as u64;
    assert_eq!(bench.drops(NodeId::Service, "flow-table-full"), refused);
    let counted = |bench: &Bench| {
        let [refused, evicted] =
            [bench.sum(|of| &of.fates.flows_refused), bench.sum(|of| &of.fates.flows_evicted)];
        [refused, evicted, bench.sum(|of| &of.fates.flows)]
    };
    assert_eq!(counted(&bench), [refused, 0, connected.len() as u64]);
    for n in &connected {
        bench.deliver_and_run(WAN, &from_client(*n, ACK));
        bench.deliver_and_run(LAN, &tcp(HOST_SIDE, (HOST, 8080), client(*n), ACK, 1));
        assert_eq!((bench.sent(WAN).len(), bench.sent(LAN).len()), (1, 1));
    }
    // Half of them end, and as many others find room at once.
    let half = connected.len() / 2;
    for n in &connected[..half] {
        bench.deliver_and_run(WAN, &from_client(*n, RST));
    }
    bench.sent(LAN);
    let mut begun = 0;
    for n in 300..300 + half {
        for _ in 0..3 {
            // Who found none tries again, as clients do.
            bench.deliver_and_run(WAN, &from_client(n, SYN));
            if bench.sent(LAN).len() == 1 {
                bench.deliver_and_run(LAN, &tcp(HOST_SIDE, (HOST, 8080), client(n), SYN | ACK, 1));
                bench.deliver_and_run(WAN, &from_client(n, ACK));
                begun += 1;
                break;
            }
        }
    }
    assert_eq!(begun, half);
    let answers = bench.sent(WAN).len();
    assert_eq!(answers, half);
    for n in &connected[half..] {
        bench.sent(LAN);
        bench.deliver_and_run(WAN, &from_client(*n, ACK));
        assert_eq!(bench.sent(LAN).len(), 1);
    }
    bench.check_laws();
}

/// An instance that answers its clients itself is found by the hash alone as well.
#[test]
fn where_answers_pass_us_by_a_full_flow_table_costs_no_packet() {
    let (mut bench, connected) = bench_full_of_connections(fixed_service());
    let refused_before = bench.sum(|of| &of.fates.flows_refused);
    let instances =
        [8081, 8082].map(|port| Instance { fixed: true, ..listening(port, 1, InstanceState::Ready) });
    let mut instances = instances.to_vec();
    instances[1].addresses[0] = Some(addr("198.51.100.8"));
    bench.tables.neighbours.insert(InterfaceId(1), addr("198.51.100.8"), [2, 0, 0, 0, 0, 0x22]);
    bench.set_service(1, Service { forwarding: Forwarding::L2, instances, ..fixed_service() });
    let mut to = HashMap::new();
    for flags in [SYN, ACK, ACK] {
        for n in 500..600 {
            bench.deliver_and_run(WAN, &tcp(CLIENT_SIDE, client(n), (VIP, 1080), flags, n as u32));
            let sent = bench.sent(LAN);
            assert_eq!((sent.len(), ends(&sent[0])), (1, (client(n), (VIP, 1080))));
            let mac = sent[0][..6].to_vec();
            assert_eq!(to.entry(n).or_insert_with(|| mac.clone()), &mac, "one instance for all of them");
        }
    }
    let macs: std::collections::HashSet<_> = to.values().collect();
    assert_eq!(macs.len(), 2);
    assert!(bench.sum(|of| &of.fates.flows_refused) > refused_before);
    for n in connected {
        bench.deliver_and_run(LAN, &tcp(HOST_SIDE, (HOST, 8080), client(n), ACK, 1));
        assert_eq!(ends(&bench.sent(WAN)[0]), (VIP_AT, client(n)));
    }
    bench.check_laws();
}

/// A client that is accepted: its SYN is answered with a cookie, and it acknowledges that with data.
fn accept(bench: &mut Bench, from: (&str, u16)) -> i32 {
    let vip = ("203.0.113.10", 80);
    bench.deliver_and_run(WAN, &syn(from, vip, 100));
    bench.shared.slots.get(ServiceId(0)).set_handed(WakeId(1));
    bench.run();
    let Some((TcpControl::Syn, cookie, _)) = read(&bench.sent(WAN)[0]).tcp else { panic!("no SYN-ACK") };
    let ack = Some(cookie.wrapping_add(1));
    let said = tcp_frame((CLIENT_MAC, WAN_MAC), from, vip, TcpControl::Psh, ack, 101, b"hello");
    bench.deliver_and_run(WAN, &said);
    cookie
}

/// Limits: four clients whose handshake is complete wait for an instance.
#[test]
fn who_is_accepted_and_finds_no_room_is_told_and_counted() {
    let mut bench = Bench::new(1);
    let splicing = Service { handling: Handling::Splice, hold_packets_max: 4, ..cold_service() };
    bench.set_service(0, splicing);
    for round in 1..=2 {
        for n in 0..10u16 {
            accept(&mut bench, ("10.9.9.9", 1000 * round + n));
            let resets: Vec<_> = bench.sent(WAN).iter().map(|frame| read(frame).tcp.unwrap().0).collect();
            assert_eq!(resets, if n < 4 { vec![] } else { vec![TcpControl::Rst] }, "client {n}");
        }
        let beyond = u64::from(round) * 6;
        assert_eq!((refused(&bench, Refusal::ServiceFull), bench.fates().still_held), (beyond, 4));
        assert!(overflowed(&bench) >= beyond);
        bench.advance_ms(900);
        bench.run();
        assert_eq!((bench.sent(WAN).len(), bench.fates().still_held), (4, 0), "told that nobody came");
    }
    assert_eq!(bench.wakes(), 1);
    bench.check_laws();
}

/// Limits: 64 flows, all of them connections of another service's.
#[test]
fn who_is_accepted_and_finds_no_place_in_the_flow_table_is_told_and_counted() {
    let (mut bench, connected) = bench_full_of_connections(fixed_service());
    bench.set_service(1, fixed_service());
    let before = bench.sum(|of| &of.fates.flows_refused);
    // The connections are the first service's; it is another one from now on.
    bench.set_service(0, Service { handling: Handling::Splice, ..cold_service() });
    let mut opened = 0;
    for n in 0..20u16 {
        accept(&mut bench, ("10.77.9.9", 1000 + n));
    }
    bench.make_ready(0);
    for _ in 0..20 {
        bench.run();
        bench.advance_ms(1);
        opened += bench.sent(LAN).len();
    }
    let told = bench.sent(WAN).len();
    assert_eq!((opened + told, bench.fates().still_held), (20, opened as u64));
    assert_eq!(bench.sum(|of| &of.fates.flows_refused) - before, told as u64);
    assert!(told >= 16, "{told} were told");
    for n in connected {
        bench.deliver_and_run(LAN, &tcp(HOST_SIDE, (HOST, 8080), client(n), ACK, 1));
        assert_eq!(ends(&bench.sent(WAN)[0]), (VIP_AT, client(n)));
    }
    // Those that are being opened give up, and nothing of them is left.
    bench.advance_ms(20_000);
    bench.run();
    assert_eq!(bench.fates().still_held, 0);
    bench.check_laws();
}

/// Limits: 512 parcels to the slowpath.
#[test]
fn a_full_queue_to_the_slowpath_costs_only_what_is_for_it() {
    let mut bench = Bench::new(1);
    bench.set_service(0, fixed_service());
    let ping = icmp((CLIENT_MAC, WAN_MAC), "10.9.9.9", "192.0.2.1", (8, 0, 7), b"ping");
    let to_stranger = client_udp(("10.9.9.9", 9), ("198.51.100.99", 9), b"x");
    for round in 1..=2 {
        for n in 0..600 {
            bench.deliver_and_run(WAN, if n % 2 == 0 { &ping } else { &to_stranger });
            bench.deliver_and_run(WAN, &from_client(n, SYN));
        }
        let beyond = round * (600 - PARCELS_MAX as u64) / 2;
        let drops = [(NodeId::Host, "queue-full"), (NodeId::Transit, "neighbour-queue-full")];
        assert_eq!(drops.map(|(node, name)| bench.drops(node, name)), [beyond; 2]);
        assert_eq!(bench.fates().punted, round * PARCELS_MAX as u64);
        assert_eq!(bench.sent(LAN).len(), 600, "services don't notice");
        assert_eq!(take_punts(&bench), PARCELS_MAX);
    }
    bench.check_laws();
}

/// Limits: as many frames as the pool has.
#[test]
fn what_the_slowpath_sends_and_finds_no_buffer_is_counted() {
    let mut bench = Bench::new(1);
    let inject = |bench: &mut Bench| {
        let queues = &bench.shared.workers[0].queues;
        for _ in 0..PARCELS_MAX {
            let mut parcel = queues.injects_empty.pop().expect("parcels go round");
            assert!(parcel.fill(&[0; 60]));
            parcel.interface = InterfaceId(1);
            queues.injects.push(parcel).unwrap();
        }
        bench.run();
        bench.workers[0].poll();
    };
    let lost = |bench: &Bench| bench.sum(|of| &of.fates.injects_lost);
    inject(&mut bench);
    assert_eq!((bench.sent(LAN).len(), lost(&bench)), (PARCELS_MAX, 0));
    let passes = client_udp(("10.9.9.9", 9), ("198.51.100.7", 9), b"x");
    while bench.net.deliver(WAN, 0, &passes) {
        bench.run();
    }
    assert_eq!(bench.net.free_frames(), 0);
    for _ in 0..PARCELS_MAX {
        // A turn that finds no buffer moves nothing, so they are counted in turns.
        bench.workers[0].poll();
    }
    inject(&mut bench);
    while !bench.shared.workers[0].queues.injects.is_empty() {
        bench.workers[0].poll();
    }
    assert_eq!((lost(&bench), bench.fates().injected), (PARCELS_MAX as u64, PARCELS_MAX as u64));
    bench.sent(LAN);
    inject(&mut bench);
    assert_eq!((bench.sent(LAN).len(), lost(&bench)), (PARCELS_MAX, PARCELS_MAX as u64));
    bench.check_laws();
}

/// Limits: 1024 packets on the ring from one worker to another.
#[test]
fn a_full_ring_between_workers_loses_what_is_beyond_it_and_no_more() {
    let mut bench = Bench::new(2);
    bench.set_service(0, fixed_service());
    let hasher = FlowHasher::new([7, 11]);
    let of = |worker: usize| {
        (0..).filter(move |n| owner(hasher.hash(Addr::v4(client(*n).0), client(*n).1, 6), 2) == worker)
    };
    for round in 1..=2u64 {
        // Only the first worker turns.
        for n in of(1).take(RING_MAX + 300) {
            bench.deliver(WAN, &from_client(n, SYN));
            bench.workers[0].poll();
        }
        for n in of(0).take(300) {
            bench.deliver(WAN, &from_client(n, SYN));
            bench.workers[0].poll();
        }
        assert_eq!(bench.drops(NodeId::Classify, "owner-behind"), 300 * round);
        assert_eq!(bench.sent(LAN).len(), 300, "its own it lets through");
        bench.run();
        assert_eq!(bench.sent(LAN).len(), RING_MAX);
        assert_eq!(bench.fates().handed_in, RING_MAX as u64 * round);
    }
    bench.check_laws();
}

/// Limits: 1024 fragmented packets that are known at a time.
#[test]
fn a_full_table_of_fragments_forgets_by_name() {
    let mut bench = Bench::new(1);
    bench.set_service(0, fixed_service());
    let datagram = client_udp(("10.9.9.9", 40_000), ("203.0.113.10", 443), &[7; 64]);
    let pieces: Vec<_> = (0..2000).map(|id| fragments(&datagram, id, &[32])).collect();
    let evicted = |bench: &Bench| bench.sum(|of| &of.fates.fragments_evicted);
    let orphans = |bench: &Bench| bench.drops(NodeId::Classify, "fragment-orphan");
    let mut passed = 0;
    for piece in 0..2 {
        for of in &pieces {
            bench.deliver_and_run(WAN, &of[piece]);
            passed += bench.sent(LAN).len() as u64;
        }
    }
    assert!(evicted(&bench) >= 2000 - FRAGMENTED_MAX as u64);
    assert_eq!(orphans(&bench), evicted(&bench), "what was forgotten, and nothing else");
    assert_eq!(passed, 4000 - orphans(&bench));
    // When those are forgotten by time, there is room for others.
    let before = evicted(&bench);
    bench.advance_ms(REMEMBERED_NANOS / 1_000_000);
    for of in &pieces[..4] {
        of.iter().for_each(|piece| bench.deliver_and_run(WAN, piece));
    }
    assert_eq!((bench.sent(LAN).len(), evicted(&bench)), (8, before));
    bench.check_laws();
}

/// Limits: sixteen ports towards an instance.
#[test]
fn when_all_ports_towards_an_instance_are_taken_that_is_counted_until_one_is_free() {
    let mut bench = Bench::new(1);
    bench.tables.policy.nat_ports = NatPorts::new(20_000, 20_015);
    bench.set_service(0, Service { source: SourceAddress::Appliance, ..fixed_service() });
    for round in 1..=2u64 {
        for n in 0..40 {
            bench.deliver_and_run(WAN, &from_client(100 * round as usize + n, SYN));
        }
        assert_eq!(bench.sent(LAN).len(), 16);
        assert_eq!(bench.drops(NodeId::Service, "nat-exhausted"), 24 * round);
        // Nobody answers, so they are forgotten.
        bench.advance_ms(10_000);
        for _ in 0..100 {
            bench.advance_ms(1);
            bench.workers[0].poll();
        }
        assert_eq!(bench.sum(|of| &of.fates.flows), 0);
    }
    bench.check_laws();
}
