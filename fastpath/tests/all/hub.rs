//! The hub's side of a worker: segments that it sends at their rate, and datagrams that it hands over.

use std::sync::Arc;

use crate::common::bier::*;
use crate::common::frames::*;
use crate::common::*;
use millrace_bier::bift_id::{BiftId, BiftIds};
use millrace_bier::bits::BitString;
use millrace_bier::header::{Carriage, Header, LEN_MAX, Proto, View};
use millrace_bier::id::{BfrId, BiftKey, Bsl, Si, SubDomain};
use millrace_bier::overlay::{Flow, Receivers};
use millrace_fastpath::driver::{BURST_MAX, Driver};
use millrace_fastpath::hub::{DATAGRAMS_MAX, Datagram, Inbox, Inlet, LANE_SEGMENTS_MAX, Lane, Way};
use millrace_fastpath::node::NodeId;
use millrace_fastpath::node::bier::Loss;
use millrace_fastpath::queue::Punt;
use millrace_fastpath::tables::Hub;

const SOURCE: &str = "10.9.9.9";
const GROUP: &str = "232.7.7.7";
const HUB: (&str, u16) = ("198.51.100.1", 6003);
const GROUP_MAC: [u8; 6] = [0x01, 0x00, 0x5e, 7, 7, 7];

/// A worker with a lane of this rate, and a hub that accepts one flow and has nodes to hear from.
fn bench(bits_per_second: u64) -> (Bench, Arc<Lane>) {
    let mut bench = Bench::new(1);
    let rows: &[&[u16]] = &[&[1, 2], &[3]];
    let tables = given(SubDomain(0), Bsl::B256, rows, &BiftIds::Static);
    install(&mut bench, BiftIds::Static, tables, &[Carriage::NonMpls; 2]);
    let lane = Arc::new(Lane::new(0, bits_per_second));
    let mut hub = Hub { lanes: vec![Arc::clone(&lane)], ..Hub::default() };
    hub.accepted.insert((addr(SOURCE), addr(GROUP)), 3);
    hub.ports.insert((addr(HUB.0), HUB.1), Inlet::Feedback(1));
    bench.tables.hub = Some(Arc::new(hub));
    bench.publish();
    // The worker lends its frames.
    bench.run();
    (bench, lane)
}

fn send(lane: &Lane, way: Way, parts: &[&[u8]]) -> bool {
    let Some(mut segment) = lane.take_empty() else { return false };
    assert!(segment.fill(way, parts));
    lane.send(segment);
    true
}

fn bier_header(ids: &[u16], bift_id: BiftId) -> Vec<u8> {
    let bits = BitString::of(
        Bsl::B256,
        ids.iter().map(|id| BfrId::new(*id).unwrap().position(Bsl::B256).unwrap().1),
    );
    let header = Header {
        carriage: Carriage::NonMpls,
        bift_id,
        tc: 0,
        ttl: 30,
        entropy: 7,
        oam: 0,
        dscp: 0,
        proto: Proto::Ipv4,
        bfir_id: BfrId::new(INGRESS),
    };
    let mut out = [0; LEN_MAX];
    let len = header.emit(Bsl::B256, bits.words(), &mut out).unwrap();
    out[..len].to_vec()
}

fn ours() -> BiftId {
    BiftId::static_form(BiftKey { sub_domain: SubDomain(0), si: Si(0), bsl: Bsl::B256 })
}

fn datagrams(bench: &Bench) -> Vec<Datagram> {
    let hub = bench.tables.hub.as_ref().unwrap();
    let all = |inbox: &Inbox| {
        let take = || {
            let datagram = inbox.take()?;
            let copy = (*datagram).clone();
            inbox.give_back(datagram);
            Some(copy)
        };
        std::iter::from_fn(take).collect::<Vec<_>>()
    };
    [all(&hub.contents), all(&hub.heard)].concat()
}

/// A datagram of content, in a frame to its group.
fn content(data: &[u8]) -> Vec<u8> {
    udp((CLIENT_MAC, GROUP_MAC), (SOURCE, 9), (GROUP, 6003), data)
}

#[test]
fn segments_leave_as_they_are_in_order_and_as_frames_that_began_here() {
    let (mut bench, lane) = bench(1_000_000_000);
    let to_all = udp((LAN_MAC, GROUP_MAC), HUB, (GROUP, 6003), &[1; 1400]);
    let to_one = udp((LAN_MAC, HOST_MAC), HUB, (GROUP, 6003), &[2; 1400]);
    assert!(send(&lane, Way::Interface(LAN_IF), &[&to_all[..42], &to_all[42..]]));
    assert!(send(&lane, Way::Interface(LAN_IF), &[&to_one]));
    assert!(send(&lane, Way::Interface(VLAN_IF), &[&to_all]));
    for _ in 0..40 {
        bench.run();
        bench.advance_us(1);
    }
    assert_eq!(bench.sent(LAN), [to_all.clone(), to_one, tagged(&to_all, 20)]);
    assert_eq!((bench.fates().originated, lane.sent.get(), lane.waiting()), (3, 3, 0));
    assert_eq!(bench.sum(|counters| &counters.node(NodeId::Hub).frames), 3);
    bench.check_laws();
}

#[test]
fn segments_to_one_address_go_where_routes_lead() {
    let (mut bench, lane) = bench(1_000_000_000);
    let packet = |to| udp(([0; 6], [0; 6]), HUB, (to, 6003), &[2; 1200]);
    // To somebody beside us, to somebody whose link-layer address isn't known, to somebody beyond, and something that isn't IP.
    for frame in [packet("198.51.100.7"), packet("198.51.100.99"), packet("100.64.0.1"), vec![0; 60]] {
        assert!(send(&lane, Way::Routed, &[&frame]));
    }
    for _ in 0..60 {
        bench.run();
        bench.advance_us(1);
    }
    let beside = [&HOST_MAC[..], &LAN_MAC, &[8, 0], &one_hop_later(&packet("198.51.100.7"))].concat();
    let beyond = [&CLIENT_MAC[..], &WAN_MAC, &[8, 0], &one_hop_later(&packet("100.64.0.1"))].concat();
    assert!(bench.sent(LAN) == [beside] && bench.sent(WAN) == [beyond]);
    let waiting = bench.shared.workers[0].queues.punts.pop().expect("the slowpath asks for the neighbour");
    assert_eq!((waiting.punt, waiting.next_hop), (Punt::NeighbourUnknown, addr("198.51.100.99")));
    assert_eq!((bench.fates().originated, lane.sent.get()), (2, 4));
    bench.check_laws();
}

#[test]
fn content_of_anybody_is_taken_in_where_a_rule_says_so() {
    let (mut bench, _) = bench(1);
    let mut hub = (**bench.tables.hub.as_ref().unwrap()).clone();
    hub.accepted.insert((addr("0.0.0.0"), addr("232.8.8.8")), 4);
    bench.tables.hub = Some(Arc::new(hub));
    bench.publish();
    for source in [SOURCE, "10.9.9.8"] {
        bench.deliver_and_run(WAN, &udp((CLIENT_MAC, GROUP_MAC), (source, 9), ("232.8.8.8", 6003), b"x"));
    }
    let inlets: Vec<_> = datagrams(&bench).iter().map(|datagram| datagram.inlet).collect();
    assert_eq!(inlets, [Inlet::Content(4), Inlet::Content(4)]);
    bench.check_laws();
}

#[test]
fn segments_into_bier_go_to_their_bits_alone() {
    let (mut bench, lane) = bench(1_000_000_000);
    let ip = &content(&[3; 1200])[14..];
    let ethernet = [0; 12].into_iter().chain([0xab, 0x37]).collect::<Vec<u8>>();
    for ids in [&[1, 2, 3][..], &[3], &[60]] {
        assert!(send(&lane, Way::Bier, &[&ethernet, &bier_header(ids, ours()), ip]));
    }
    for _ in 0..40 {
        bench.run();
        bench.advance_us(1);
    }
    let mut copies: Vec<_> = bench
        .sent(LAN)
        .iter()
        .map(|frame| {
            let (_, view) = View::of(&frame[14..], Carriage::NonMpls, &BiftIds::Static).unwrap();
            assert_eq!((view.ttl(), view.payload()), (30, ip));
            let mut words = [0; 4];
            view.load(&mut words);
            (frame[5], BitString::from_words(&words).ones().count())
        })
        .collect();
    copies.sort_unstable();
    assert_eq!(copies, [(0, 2), (1, 1), (1, 1)], "by neighbour, with so many bits");
    let fates = bench.fates();
    assert_eq!((fates.copies, fates.replicated, fates.dropped), (3, 0, 0), "nothing had arrived");
    assert_eq!(bench.drops(NodeId::Bier, "no-route"), 1);
    bench.check_laws();
}

#[test]
fn a_full_lane_holds_up_who_fills_it_and_loses_nothing() {
    let (mut bench, lane) = bench(100_000_000);
    let frame = udp((LAN_MAC, GROUP_MAC), HUB, (GROUP, 6003), &[1; 1208]);
    let mut put = 0;
    while send(&lane, Way::Interface(LAN_IF), &[&frame]) {
        put += 1;
    }
    assert_eq!(put, LANE_SEGMENTS_MAX);
    // 1250 bytes are a tenth of a millisecond; ten more may be made up for.
    for _ in 0..10_000 {
        bench.run();
        bench.advance_us(1);
    }
    let sent = bench.sent(LAN).len();
    assert!((200..=202).contains(&sent), "{sent} in 10 ms");
    assert_eq!(lane.waiting(), LANE_SEGMENTS_MAX - sent);
    while send(&lane, Way::Interface(LAN_IF), &[&frame]) {
        put += 1;
    }
    for _ in 0..40_000 {
        bench.run();
        bench.advance_us(1);
    }
    assert_eq!((sent + bench.sent(LAN).len(), lane.waiting()), (put, 0));
    bench.check_laws();
}

#[test]
fn without_buffers_segments_wait() {
    let (mut bench, lane) = bench(10_000_000_000);
    // What is sent keeps its buffer until it is taken off the wire.
    let mut put = 0u64;
    while lane.starved.get() == 0 {
        while send(&lane, Way::Interface(LAN_IF), &[&put.to_be_bytes()[..], &[0; 60]]) {
            put += 1;
        }
        bench.advance_us(100);
        bench.workers[0].poll();
        assert!(put < 10_000, "there are 2048 buffers");
    }
    assert_eq!(bench.net.free_frames(), 0);
    let mut sent = bench.sent(LAN);
    let left = bench.frames - LANE_SEGMENTS_MAX;
    assert_eq!((sent.len(), lane.waiting()), (left, put as usize - left), "none is lost");
    for _ in 0..100 {
        bench.advance_us(100);
        bench.run();
    }
    sent.extend(bench.sent(LAN));
    let numbers: Vec<_> =
        sent.iter().map(|frame| u64::from_be_bytes(*frame.first_chunk().unwrap())).collect();
    assert_eq!(numbers, (0..put).collect::<Vec<_>>());
    bench.check_laws();
}

#[test]
fn only_the_lanes_own_worker_sends() {
    let mut bench = Bench::new(2);
    let lane = Arc::new(Lane::new(1, 1_000_000_000));
    bench.tables.hub = Some(Arc::new(Hub { lanes: vec![Arc::clone(&lane)], ..Hub::default() }));
    bench.publish();
    bench.workers[0].poll();
    assert!(lane.take_empty().is_none(), "who sends lends");
    bench.workers[1].poll();
    assert!(send(&lane, Way::Interface(LAN_IF), &[&[0; 60]]));
    bench.workers[0].poll();
    assert_eq!(lane.waiting(), 1);
    bench.workers[1].poll();
    assert_eq!(lane.waiting(), 0);
    bench.check_laws();
}

#[test]
fn accepted_content_and_feedback_reach_the_hub() {
    let (mut bench, _) = bench(1);
    bench.deliver_and_run(WAN, &content(b"plain"));
    let said = udp((HOST_MAC, LAN_MAC), ("198.51.100.7", 77), HUB, b"nack");
    bench.deliver_and_run(LAN, &said);
    let in_bier =
        [&WAN_MAC[..], &CLIENT_MAC, &[0xab, 0x37], &bier_header(&[OURS], ours()), &content(b"bier")[14..]]
            .concat();
    bench.deliver_and_run(WAN, &in_bier);
    let seen = datagrams(&bench);
    let rows: Vec<_> = seen
        .iter()
        .map(|one| (one.inlet, one.source, one.source_port, one.destination_port, one.bytes()))
        .collect();
    assert_eq!(
        rows,
        [
            (Inlet::Content(3), addr(SOURCE), 9, 6003, &b"plain"[..]),
            (Inlet::Content(3), addr(SOURCE), 9, 6003, b"bier"),
            (Inlet::Feedback(1), addr("198.51.100.7"), 77, 6003, b"nack"),
        ]
    );
    let bier: Vec<_> = seen.iter().map(|one| one.bier).collect();
    assert_eq!(bier, [None, Some((SubDomain(0), BfrId::new(INGRESS))), None]);
    assert_eq!(seen.iter().map(|one| one.interface).collect::<Vec<_>>(), [WAN_IF, WAN_IF, LAN_IF]);
    assert_eq!(bench.fates().delivered, 3);
    bench.check_laws();
}

/// A whole vector of content that enters BIER here and is for nobody but us.
#[test]
fn a_vector_of_content_that_enters_for_us_alone_reaches_the_hub() {
    let (mut bench, _) = bench(1);
    let mut bier = (**bench.tables.bier.as_ref().unwrap()).clone();
    let flow = Flow { source: addr(SOURCE).to_ip(), group: addr(GROUP).to_ip() };
    bier.overlay.set(flow, SubDomain(0), Bsl::B256, &Receivers::new(BfrId::new(OURS)));
    bench.tables.bier = Some(Arc::new(bier));
    bench.publish();
    for _ in 0..BURST_MAX {
        bench.deliver(WAN, &content(b"enters"));
    }
    bench.run();
    let seen = datagrams(&bench);
    assert!(seen.iter().all(|one| one.bytes() == b"enters" && one.bier.is_some()));
    assert_eq!((seen.len(), bench.fates().delivered), (BURST_MAX, BURST_MAX as u64));
    bench.check_laws();
}

/// Content for us and for others: they get their copies, and the hub its own.
#[test]
fn content_goes_on_to_others_in_bier() {
    let (mut bench, _) = bench(1);
    let frame = [
        &WAN_MAC[..],
        &CLIENT_MAC,
        &[0xab, 0x37],
        &bier_header(&[OURS, 3], ours()),
        &content(&[5; 900])[14..],
    ]
    .concat();
    bench.deliver_and_run(WAN, &frame);
    assert_eq!((bench.sent(LAN).len(), datagrams(&bench).len()), (1, 1));
    assert_eq!((bench.fates().replicated, bench.fates().delivered), (1, 0));
    bench.check_laws();
}

#[test]
fn what_is_nobodys_or_damaged_is_dropped_by_name() {
    let (mut bench, _) = bench(1);
    let other_source = udp((CLIENT_MAC, GROUP_MAC), ("10.9.9.8", 9), (GROUP, 6003), b"x");
    let other_port = udp((HOST_MAC, LAN_MAC), ("198.51.100.7", 77), (HUB.0, 6004), b"x");
    bench.deliver_and_run(WAN, &other_source);
    bench.deliver_and_run(LAN, &other_port);
    assert_eq!(bench.drops(NodeId::Classify, "multicast"), 1);
    assert_eq!(bench.sum(|counters| &counters.fates.errors_sent), 1, "nobody listens at the other port");
    bench.deliver_and_run(WAN, &with_wrong_checksum(&content(b"plain")));
    assert_eq!(bench.drops(NodeId::Hub, "checksum"), 1);
    let damaged = with_wrong_checksum(&content(b"bier"));
    let header = bier_header(&[OURS, 3], ours());
    bench.deliver_and_run(WAN, &[&WAN_MAC[..], &CLIENT_MAC, &[0xab, 0x37], &header, &damaged[14..]].concat());
    assert_eq!(bench.sum(|counters| &counters.bier.lost[Loss::HubUnseen as usize]), 1, "the copy is made");
    let header = bier_header(&[OURS], ours());
    bench.deliver_and_run(WAN, &[&WAN_MAC[..], &CLIENT_MAC, &[0xab, 0x37], &header, &damaged[14..]].concat());
    assert_eq!(bench.drops(NodeId::Bier, "hub-unseen"), 1);
    assert!(datagrams(&bench).is_empty());
    bench.check_laws();
}

#[test]
fn a_thread_that_is_behind_loses_by_name() {
    let (mut bench, _) = bench(1);
    for _ in 0..DATAGRAMS_MAX + 5 {
        bench.deliver_and_run(WAN, &content(b"plain"));
    }
    assert_eq!(bench.drops(NodeId::Hub, "inbox-full"), 5);
    assert_eq!(datagrams(&bench).len(), DATAGRAMS_MAX);
    bench.deliver_and_run(WAN, &content(b"again"));
    assert_eq!(datagrams(&bench).len(), 1);
    bench.check_laws();
}

#[test]
fn questions_are_for_the_slowpath_where_something_is_listened_to() {
    let (mut bench, _) = bench(1_000_000);
    let mut query = vec![0x01, 0x00, 0x5e, 0, 0, 1, 2, 0, 0, 0, 0, 9, 8, 0];
    // From a switch without an address of its own.
    let mut ip = vec![0x46, 0xc0, 0, 36, 0, 0, 0x40, 0, 1, 2, 0, 0, 0, 0, 0, 0, 224, 0, 0, 1, 0x94, 4, 0, 0];
    millrace_fastpath::wire::ipv4::fill_checksum(&mut ip, 24);
    query.extend(ip);
    query.extend([0x11, 10, 0xec, 0x78, 0, 0, 0, 0, 2, 125, 0, 0]);
    bench.deliver_and_run(LAN, &query);
    assert_eq!((bench.drops(NodeId::Classify, "multicast"), bench.fates().punted), (1, 0));
    let mut hub = (**bench.tables.hub.as_ref().unwrap()).clone();
    let lan = bench.tables.interfaces.get(LAN_IF).unwrap().name.clone();
    hub.joins.insert(lan, vec![(addr(GROUP), None)]);
    bench.tables.hub = Some(Arc::new(hub));
    bench.publish();
    bench.deliver_and_run(LAN, &query);
    bench.deliver_and_run(WAN, &query);
    assert_eq!((bench.drops(NodeId::Classify, "multicast"), bench.fates().punted), (2, 1));
    bench.check_laws();
}

/// Whoever finds no frame to lend at first, does later.
#[test]
fn a_lane_gets_its_frames_when_there_are_some() {
    let mut bench = Bench::new(1);
    let mut other = bench.net.drivers().remove(0);
    let held: Vec<_> = std::iter::from_fn(|| other.allocate(WAN)).collect();
    let lane = Arc::new(Lane::new(0, 1_000_000_000));
    bench.tables.hub = Some(Arc::new(Hub { lanes: vec![Arc::clone(&lane)], ..Hub::default() }));
    bench.publish();
    bench.run();
    assert_eq!((lane.lent(), lane.take_empty().is_none()), (0, true));
    assert!(lane.starved.get() > 0, "it shows");
    held.into_iter().for_each(|frame| other.free(frame));
    bench.run();
    assert_eq!(lane.lent(), LANE_SEGMENTS_MAX);
    assert!(send(&lane, Way::Interface(LAN_IF), &[&[0; 60]]));
    bench.check_laws();
}
