//! BIER-TE through a whole worker: each bit of ours is a copy, against a model written from RFC 9262 section 4.4.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::common::*;
use millrace_bier::bift::LinkId;
use millrace_bier::bift_id::{BiftId, BiftIds};
use millrace_bier::bits::BitString;
use millrace_bier::header::{Carriage, ETHERTYPE, FIXED_LEN, Header, LEN_MAX, Proto, View};
use millrace_bier::id::{BfrId, BiftKey, BitPosition, Bsl, Si, SubDomain};
use millrace_bier::overlay::Overlay;
use millrace_bier::plane::{AnyBift, Plane};
use millrace_bier::te::{Adjacencies, Adjacency, TeBift};
use millrace_fastpath::driver::PortId;
use millrace_fastpath::node::NodeId;
use millrace_fastpath::node::bier::Loss;
use millrace_fastpath::queue::{Parcel, Punt};
use millrace_fastpath::tables::InterfaceId;
use millrace_fastpath::tables::bier::{Bier, Hop, Link, Tunnel, Tunnels};
use millrace_fastpath::tables::listeners::{Listener, Listeners};
use proptest::prelude::*;

const BSL: Bsl = Bsl::B64;
const KEY: BiftKey = BiftKey { sub_domain: SubDomain(3), si: Si(0), bsl: BSL };
/// Routers 0 and 1 are on the LAN, 2 on the WAN, 3 further away, behind the gateway of the WAN.
const FAR: u32 = 3;

fn port_of(router: u32) -> PortId {
    if router >= 2 { WAN } else { LAN }
}

fn mac_of(router: u32) -> [u8; 6] {
    [2, 0, 0, 0, 2, router as u8]
}

fn id_of(router: u32) -> BiftId {
    BiftId::new(700 + router).unwrap()
}

fn bit(number: u16) -> BitPosition {
    BitPosition::new(number, BSL).unwrap()
}

fn connected(router: u32) -> Adjacency {
    Adjacency::ForwardConnected { interface: 0, neighbour: router, do_not_clear: false }
}

fn keeping(router: u32) -> Adjacency {
    Adjacency::ForwardConnected { interface: 0, neighbour: router, do_not_clear: true }
}

const fn routed(router: u32) -> Adjacency {
    Adjacency::ForwardRouted { vrf: None, neighbour: router }
}

const DECAP: Adjacency = Adjacency::LocalDecap { vrf: None };

fn bench(items: &[(u16, Adjacencies)]) -> Bench {
    let mut bench = Bench::new(1);
    let items = items.iter().map(|(number, adjacencies)| (bit(*number), adjacencies.clone())).collect();
    let bift = Arc::new(TeBift::new(KEY, items).unwrap());
    let interface = |router| InterfaceId(port_of(router).0);
    let via = |router: u32| match router {
        FAR => addr("203.0.113.77"),
        _ => addr(&format!("198.51.100.{}", 200 + router)),
    };
    for router in 0..FAR {
        bench.tables.neighbours.insert(interface(router), via(router), mac_of(router));
    }
    let link = |router| match router {
        FAR => Link::Tunnel { to: via(router), tunnel: Tunnel::Udp },
        _ => Link::Beside { interface: interface(router), via: via(router), carriage: Carriage::NonMpls },
    };
    let hop = |router| Hop { to: via(router), link: LinkId(router), id: id_of(router) };
    let mut bier = Bier {
        plane: Plane::new(BiftIds::Static, vec![AnyBift::BierTe(bift)]).unwrap(),
        links: (0..=FAR).map(link).collect(),
        tunnels: Tunnels::default(),
        ways: Vec::new(),
        hops: (0..=FAR).map(hop).collect(),
        down: Vec::new(),
        overlay: Overlay::default(),
        ingress: Vec::new(),
        listeners: Listeners::default(),
        behind: Vec::new(),
        signalled: false,
        queried: Vec::new(),
        within: Vec::new(),
        receivers_from: Vec::new(),
    };
    bier.listeners.set(addr("232.1.1.1"), [Listener::any(InterfaceId(1))]);
    bier.resolve(&bench.tables);
    bench.tables.bier = Some(Arc::new(bier));
    bench.publish();
    bench
}

fn packet(bits: u64, ttl: u8, entropy: u32) -> Vec<u8> {
    let header = Header {
        carriage: Carriage::NonMpls,
        bift_id: BiftId::static_form(KEY),
        tc: 0,
        ttl,
        entropy,
        oam: 0,
        dscp: 0,
        proto: Proto::Ipv4,
        bfir_id: BfrId::new(9),
    };
    let mut frame = [&WAN_MAC[..], &CLIENT_MAC, &ETHERTYPE.to_be_bytes()].concat();
    let mut out = [0; LEN_MAX];
    let written = header.emit(BSL, &[bits], &mut out).unwrap();
    frame.extend(&out[..written]);
    frame.extend(payload());
    frame
}

fn payload() -> Vec<u8> {
    let frame = frames::client_udp(("192.0.2.100", 5000), ("232.1.1.1", 6000), b"to a group");
    frames::with_ttl(&frame, 9)[14..].to_vec()
}

/// The copies that left, by router: the bits of each; and how often listeners were served.
fn sent(bench: &Bench, ttl: u8) -> (BTreeMap<u32, Vec<u64>>, usize) {
    let (mut copies, mut served) = (BTreeMap::<u32, Vec<u64>>::new(), 0);
    for port in [WAN, LAN] {
        for frame in bench.sent(port) {
            // Router 3 is reached inside UDP over IPv4.
            let is_far = frame[12..14] == [8, 0] && frame[30..34] == [203, 0, 113, 77];
            if frame[12..14] != ETHERTYPE.to_be_bytes() && !is_far {
                served += 1;
                continue;
            }
            let router = if is_far { FAR } else { u32::from(frame[5]) };
            let mac = if is_far { CLIENT_MAC } else { mac_of(router) };
            assert_eq!((frame[..6].to_vec(), port), (mac.to_vec(), port_of(router)));
            // A string without bits is refused by readers, and what else the header says is as right.
            let mut header = frame[if is_far { 42 } else { 14 }..].to_vec();
            let word = u64::from_be_bytes(*header[FIXED_LEN..].first_chunk().unwrap());
            header[FIXED_LEN] |= u8::from(word == 0);
            let view = View::parse(&header, Carriage::NonMpls, BSL).unwrap();
            assert_eq!(
                (view.bift_id(), view.ttl(), view.payload()),
                (id_of(router), ttl - 1, &payload()[..])
            );
            copies.entry(router).or_default().push(word);
        }
    }
    copies.values_mut().for_each(|list| list.sort_unstable());
    (copies, served)
}

fn lost(bench: &Bench, loss: Loss) -> u64 {
    bench.sum(|counters| &counters.bier.lost[loss as usize])
}

#[test]
fn each_adjacency_makes_its_copy() {
    let all = |list: &[Adjacency]| Adjacencies::All(list.to_vec());
    let mut bench = bench(&[
        (1, all(&[connected(0)])),
        (2, all(&[keeping(1)])),
        (3, all(&[connected(1), routed(2)])),
        (4, all(&[DECAP])),
    ]);
    // Bit 60 is somebody else's, and goes along everywhere; ours don't, save one in its own copy.
    let rest = 1 << 59;
    bench.deliver_and_run(WAN, &packet(0b1111 | rest, 9, 0));
    let copies = [(0, vec![rest]), (1, vec![rest, 0b10 | rest]), (2, vec![rest])];
    assert_eq!(sent(&bench, 9), (BTreeMap::from(copies), 1));
    let fates = bench.fates();
    assert_eq!((fates.replicated, fates.copies), (1, 5));
    // With TTL 1 the listeners alone are served.
    bench.deliver_and_run(WAN, &packet(0b1001, 1, 0));
    assert_eq!((sent(&bench, 1), lost(&bench, Loss::Expired)), ((BTreeMap::new(), 1), 1));
    for (bits, ttl, name) in [(rest, 9, "no-route"), (0b1, 1, "ttl-expired"), (0b1000, 0, "ttl-expired")] {
        bench.deliver_and_run(WAN, &packet(bits, ttl, 0));
        assert_eq!((sent(&bench, 9).1, bench.drops(NodeId::Bier, name) > 0), (0, true), "{name}");
    }
    bench.check_laws();
}

/// What the slowpath was shown, and as what.
fn shown(bench: &Bench) -> Vec<(Punt, Vec<u8>)> {
    let queues = &bench.shared.workers[0].queues;
    let punts: Vec<_> = std::iter::from_fn(|| queues.punts.pop()).collect();
    let read = |parcel: Box<Parcel>| {
        let told = (parcel.punt, parcel.bytes().to_vec());
        queues.punts_empty.push(parcel).unwrap();
        told
    };
    punts.into_iter().map(read).collect()
}

#[test]
fn the_slowpath_sees_echo_messages_that_are_delivered_or_end_here() {
    // Bits, TTL, copies out, whether it is shown. Bit 60 is another router's.
    for (bits, ttl, out, told) in [
        (0b1000, 9, 0, true),
        (0b1001, 9, 1, true),
        (0b0001, 9, 1, false),
        (0b0001, 1, 0, true),
        (0b1001, 1, 0, true),
        (1 << 59, 1, 0, true),
        (1 << 59, 9, 0, false),
    ] {
        let items = [(1, connected(0)), (4, DECAP)];
        let mut bench = bench(&items.map(|(bit, one)| (bit, Adjacencies::All(vec![one]))));
        let mut frame = packet(bits, ttl, 0);
        frame[14 + 9] = frame[14 + 9] & 0xc0 | 5;
        bench.deliver_and_run(WAN, &frame);
        let expected: Vec<_> = told.then_some((Punt::BierOam, frame)).into_iter().collect();
        assert_eq!(shown(&bench), expected, "TTL {ttl}, {bits:b}");
        assert_eq!(bench.sent(LAN).len(), out, "TTL {ttl}, {bits:b}: nothing of it to listeners");
        assert_eq!(bench.sum(|counters| &counters.bier.punted), u64::from(told));
        bench.check_laws();
    }
}

#[test]
fn entropy_picks_one_of_equal_ways() {
    let list = vec![connected(0), connected(1), connected(2)];
    let mut bench = bench(&[(7, Adjacencies::Ecmp { list, seed: 5 })]);
    let mut used = BTreeMap::<u32, u32>::new();
    for entropy in 0..300 {
        for _ in 0..2 {
            bench.deliver_and_run(WAN, &packet(1 << 6, 9, entropy));
        }
        let (copies, _) = sent(&bench, 9);
        let [(router, twice)] = &copies.into_iter().collect::<Vec<_>>()[..] else { panic!("one way a flow") };
        assert_eq!(twice, &[0, 0]);
        *used.entry(*router).or_default() += 1;
    }
    assert!(used.len() == 3 && used.values().all(|count| *count > 60), "{used:?}");
    bench.check_laws();
}

#[test]
fn what_stands_in_the_way_of_one_copy_has_a_name_and_the_others_go() {
    let one = |adjacency| Adjacencies::All(vec![adjacency]);
    let items = [(1, one(connected(0))), (2, one(connected(2))), (3, one(routed(FAR)))];
    let mut bench = bench(&items);
    bench.tables.routes = Arc::default();
    let mut bier = (**bench.tables.bier.as_ref().unwrap()).clone();
    bier.resolve(&bench.tables);
    bench.tables.bier = Some(Arc::new(bier));
    bench.publish();
    bench.deliver_and_run(WAN, &packet(0b111, 9, 0));
    assert_eq!(sent(&bench, 9).0, BTreeMap::from([(0, vec![0]), (2, vec![0])]));
    assert_eq!(lost(&bench, Loss::NoTunnel), 1);
    bench.shared.set_port_down(WAN, true);
    bench.deliver_and_run(WAN, &packet(0b011, 9, 0));
    assert_eq!((sent(&bench, 9).0, lost(&bench, Loss::LinkDown)), (BTreeMap::from([(0, vec![0])]), 1));
    bench.shared.set_port_down(WAN, false);
    bench.deliver_and_run(WAN, &packet(0b010, 9, 0));
    assert_eq!(sent(&bench, 9).0, BTreeMap::from([(2, vec![0])]));
    bench.deliver_and_run(WAN, &packet(0b100, 9, 0));
    assert_eq!(bench.drops(NodeId::Bier, "lost"), 1);
    bench.check_laws();
}

fn adjacency() -> impl Strategy<Value = Adjacency> {
    (0..4_u32, 0..FAR + 1).prop_map(|(kind, router)| match kind {
        0 => connected(router),
        1 => keeping(router),
        2 => routed(router),
        _ => DECAP,
    })
}

/// RFC 9262 section 4.4, without ECMP: the string of each copy, by router, and whether the payload is ours.
fn model(items: &BTreeMap<u16, Vec<Adjacency>>, bits: u64) -> (BTreeMap<u32, Vec<u64>>, bool) {
    let ours: u64 = items.keys().map(|number| 1 << (number - 1)).sum();
    let (mut copies, mut local) = (BTreeMap::<u32, Vec<u64>>::new(), false);
    for (number, list) in items {
        let own = 1 << (number - 1);
        if bits & own == 0 {
            continue;
        }
        for adjacency in list {
            let (router, string) = match adjacency {
                Adjacency::LocalDecap { .. } => {
                    local = true;
                    continue;
                }
                Adjacency::ForwardRouted { neighbour, .. } => (neighbour, bits & !ours),
                Adjacency::ForwardConnected { neighbour, do_not_clear, .. } => {
                    (neighbour, bits & !ours | if *do_not_clear { own } else { 0 })
                }
            };
            copies.entry(*router).or_default().push(string);
        }
    }
    copies.values_mut().for_each(|list| list.sort_unstable());
    (copies, local)
}

proptest! {
    #[test]
    fn copies_are_those_of_the_model(
        items in prop::collection::btree_map(1..=64_u16, prop::collection::vec(adjacency(), 1..4), 0..20),
        bits in 1..=u64::MAX,
    ) {
        let list: Vec<_> =
            items.iter().map(|(number, list)| (*number, Adjacencies::All(list.clone()))).collect();
        let mut bench = bench(&list);
        bench.deliver_and_run(WAN, &packet(bits, 9, 0));
        let (copies, served) = sent(&bench, 9);
        let (expected, local) = model(&items, bits);
        prop_assert_eq!((copies, served), (expected, usize::from(local)));
        bench.check_laws();
    }
}

#[test]
fn copying_allocates_nothing() {
    let items: Vec<_> =
        (1..=20).map(|number| (number, Adjacencies::All(vec![keeping(u32::from(number) % 3)]))).collect();
    let mut bench = bench(&items);
    let string = BitString::of(BSL, (1..=40).map(bit));
    for _ in 0..20 {
        bench.deliver(WAN, &packet(string.words()[0], 9, 1));
    }
    let measured = allocation_counter::measure(|| bench.run());
    assert_eq!((measured.count_total, measured.count_current), (0, 0));
    assert_eq!(sent(&bench, 9).0.values().map(Vec::len).sum::<usize>(), 400);
    bench.check_laws();
}
