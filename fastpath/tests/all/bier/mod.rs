//! BIER through a whole worker: who gets which copy, what is in it, and what becomes of everything else.

mod behind;
mod buffers;
mod entering;
mod hosts;
mod membership;
mod oam;
mod reroute;
mod tunnel;

use std::sync::Arc;

use crate::common::bier::*;
use crate::common::*;
use millrace_bier::bift_id::{BiftId, BiftIds};
use millrace_bier::bits::BitString;
use millrace_bier::header::{Carriage, ETHERTYPE, ETHERTYPE_MPLS, Header, LEN_MAX, Proto, View, len};
use millrace_bier::id::{BfrId, BiftKey, Bsl, Si, SubDomain};
use millrace_bier::overlay::{Flow, Receivers};
use millrace_fastpath::node::NodeId;
use millrace_fastpath::node::bier::Loss;
use millrace_fastpath::tables::InterfaceId;
use millrace_fastpath::tables::Tables;
use millrace_fastpath::tables::interfaces::Interfaces;
use millrace_fastpath::tables::listeners::{Filter, Listener};
use proptest::prelude::*;

fn key(bsl: Bsl, si: u8) -> BiftKey {
    BiftKey { sub_domain: SubDomain(0), si: Si(si), bsl }
}

/// Neighbours 0.. on the LAN, of which each leads to the routers in its row; listeners to one IPv4 and one IPv6 group on the
/// LAN and a VLAN of it.
fn bench(bsl: Bsl, rows: &[&[u16]]) -> Bench {
    let carriages = vec![Carriage::NonMpls; rows.len()];
    bench_by(bsl, rows, &carriages)
}

fn bench_by(bsl: Bsl, rows: &[&[u16]], carriages: &[Carriage]) -> Bench {
    let mut bench = Bench::new(1);
    install(&mut bench, BiftIds::Static, given(SubDomain(0), bsl, rows, &BiftIds::Static), carriages);
    bench
}

/// A BIER packet in a frame to us.
fn packet(bsl: Bsl, ids: &[u16], ttl: u8, payload: &[u8]) -> Vec<u8> {
    packet_by(Carriage::NonMpls, bsl, ids, ttl, payload)
}

fn packet_by(carriage: Carriage, bsl: Bsl, ids: &[u16], ttl: u8, payload: &[u8]) -> Vec<u8> {
    let proto = if payload.first().is_some_and(|first| first >> 4 == 6) { Proto::Ipv6 } else { Proto::Ipv4 };
    packet_of(carriage, bsl, ids, ttl, proto, payload)
}

fn packet_of(carriage: Carriage, bsl: Bsl, ids: &[u16], ttl: u8, proto: Proto, payload: &[u8]) -> Vec<u8> {
    let position = |id: &u16| BfrId::new(*id).unwrap().position(bsl).unwrap();
    let si = ids.first().map_or(0, |id| position(id).0.0);
    let bits = BitString::of(bsl, ids.iter().map(|id| position(id).1));
    let header = Header {
        carriage,
        bift_id: BiftId::static_form(key(bsl, si)),
        tc: 3,
        ttl,
        entropy: 0x12345,
        oam: 2,
        dscp: 46,
        proto,
        bfir_id: BfrId::new(9),
    };
    let mut frame = [&WAN_MAC[..], &CLIENT_MAC, &carriage.ethertype().to_be_bytes()].concat();
    let mut out = [0; LEN_MAX];
    let written = header.emit(bsl, bits.words(), &mut out).unwrap();
    frame.extend(&out[..written]);
    frame.extend(payload);
    frame
}

/// What a copy says: whom it is for, its TTL, the routers of its bit string, its payload.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Copy {
    to: [u8; 6],
    ttl: u8,
    ids: Vec<u16>,
    payload: Vec<u8>,
}

fn read(frame: &[u8], bsl: Bsl) -> Copy {
    let carriage = match u16::from_be_bytes([frame[12], frame[13]]) {
        ETHERTYPE => Carriage::NonMpls,
        ETHERTYPE_MPLS => Carriage::Mpls,
        other => panic!("EtherType {other:#x}"),
    };
    assert_eq!(frame[6..12], LAN_MAC);
    let (key, view) = View::of(&frame[14..], carriage, &BiftIds::Static).unwrap();
    assert_eq!(view.bfir_id(), BfrId::new(9));
    if view.oam() == 2 {
        assert_eq!(view.entropy(), 0x12345, "as it was sent in");
    }
    let mut words = [0; 64];
    view.load(&mut words[..bsl.words()]);
    let bits = BitString::from_words(&words[..bsl.words()]);
    let ids = bits.ones().map(|bit| BfrId::at(key.si, bit, bsl).unwrap().get()).collect();
    Copy { to: frame[..6].try_into().unwrap(), ttl: view.ttl(), ids, payload: view.payload().to_vec() }
}

fn copies(bench: &Bench, bsl: Bsl) -> Vec<Copy> {
    assert!(bench.sent(WAN).is_empty());
    let mut copies: Vec<_> = bench.sent(LAN).iter().map(|frame| read(frame, bsl)).collect();
    copies.sort();
    copies
}

fn copy(number: u8, ttl: u8, ids: &[u16], payload: &[u8]) -> Copy {
    Copy { to: neighbour_of(number).1, ttl, ids: ids.to_vec(), payload: payload.to_vec() }
}

fn lost(bench: &Bench, loss: Loss) -> u64 {
    bench.sum(|counters| &counters.bier.lost[loss as usize])
}

/// Short ones are copied, long ones share their payload; of neither is a byte lost.
#[test]
fn each_neighbour_gets_one_copy_with_its_bits() {
    for bsl in Bsl::ALL {
        for size in [0, 1, 64, 256, 257, 800] {
            let payload: Vec<u8> = (0..size).map(|n| n as u8 | 0x40).collect();
            let mut bench = bench(bsl, &[&[1, 2], &[3], &[4, 60]]);
            bench.deliver_and_run(WAN, &packet(bsl, &[1, 2, 3, 60], 64, &payload));
            let expected =
                [copy(0, 63, &[1, 2], &payload), copy(1, 63, &[3], &payload), copy(2, 63, &[60], &payload)];
            assert_eq!(copies(&bench, bsl), expected, "{bsl:?}, {size} bytes");
            let fates = bench.fates();
            assert_eq!((fates.replicated, fates.copies, fates.dropped), (1, 3, 0));
            let links: Vec<_> =
                (0..3).map(|link| bench.sum(|counters| &counters.bier.copies[link])).collect();
            assert_eq!(links, [1, 1, 1]);
            bench.check_laws();
        }
    }
}

/// More copies than a box holds, and than a burst has frames.
#[test]
fn sixty_three_neighbours_each_get_their_copy_of_every_frame() {
    let ids: Vec<u16> = (1..=64).filter(|id| *id != OURS).collect();
    let rows: Vec<&[u16]> = ids.chunks(1).collect();
    for size in [100, 1400] {
        let mut bench = bench(Bsl::B256, &rows);
        let payload = vec![0x45; size];
        for _ in 0..20 {
            bench.deliver(WAN, &packet(Bsl::B256, &ids, 9, &payload));
        }
        bench.run();
        let copies = copies(&bench, Bsl::B256);
        assert_eq!(copies.len(), 20 * 63);
        for (number, id) in ids.iter().enumerate() {
            let theirs = copies.iter().filter(|found| **found == copy(number as u8, 8, &[*id], &payload));
            assert_eq!(theirs.count(), 20, "router {id}");
        }
        bench.check_laws();
    }
}

#[test]
fn the_time_to_live_ends_where_the_rfc_says() {
    let payload = ipv4("232.1.1.1", 9);
    // TTL in, router asked for beside us, copies out, listeners served, the drop, and whether it is counted as expired.
    for (ttl, ids, out, served, drop, expired) in [
        (0, &[OURS][..], 0, false, Some("ttl-expired"), true),
        (0, &[1], 0, false, Some("ttl-expired"), true),
        (1, &[OURS], 0, true, None, false),
        (1, &[OURS, 1], 0, true, None, true),
        (1, &[1], 0, false, Some("ttl-expired"), true),
        (2, &[OURS, 1], 1, true, None, false),
        (255, &[1], 1, false, None, false),
    ] {
        let mut bench = bench(Bsl::B64, &[&[1]]);
        bench.deliver_and_run(WAN, &packet(Bsl::B64, ids, ttl, &payload));
        let sent = bench.sent(LAN);
        let bier: Vec<_> = sent.iter().filter(|frame| frame[12..14] == ETHERTYPE.to_be_bytes()).collect();
        assert_eq!(bier.len(), out, "TTL {ttl} to {ids:?}");
        assert!(bier.iter().all(|frame| read(frame, Bsl::B64).ttl == ttl - 1));
        assert_eq!(sent.len() - bier.len(), if served { 2 } else { 0 }, "TTL {ttl} to {ids:?}");
        assert_eq!(drop.map_or(0, |name| bench.drops(NodeId::Bier, name)), u64::from(drop.is_some()));
        assert_eq!(lost(&bench, Loss::Expired), u64::from(expired), "TTL {ttl} to {ids:?}");
        bench.check_laws();
    }
}

fn ipv4(group: &str, ttl: u8) -> Vec<u8> {
    let frame = frames::client_udp(("192.0.2.100", 5000), (group, 6000), b"to a group");
    frames::with_ttl(&frame, ttl)[14..].to_vec()
}

#[test]
fn listeners_behind_us_get_the_payload_by_their_groups_address() {
    let mut bench = bench(Bsl::B256, &[&[1]]);
    let v4 = ipv4("232.1.1.1", 9);
    bench.deliver_and_run(WAN, &packet(Bsl::B256, &[OURS, 1], 9, &v4));
    let sent = bench.sent(LAN);
    assert_eq!(sent.len(), 3);
    let (untagged, tagged) = (ipv4("232.1.1.1", 8), [&[0x81, 0, 0, 20][..], &[8, 0]].concat());
    let group = [0x01, 0x00, 0x5e, 1, 1, 1];
    assert!(sent.contains(&[&group[..], &LAN_MAC, &[8, 0], &untagged].concat()));
    assert!(sent.contains(&[&group[..], &LAN_MAC, &tagged, &untagged].concat()));

    let mut v6 = vec![0x60, 0, 0, 0, 0, 8, 17, 9];
    v6.extend("2001:db8::9".parse::<std::net::Ipv6Addr>().unwrap().octets());
    v6.extend("ff3e::1:2".parse::<std::net::Ipv6Addr>().unwrap().octets());
    v6.extend([0x13, 0x88, 0x17, 0x70, 0, 8, 0, 0]);
    // Padded, as short frames are.
    let padded = [&v6[..], &[0; 20]].concat();
    bench.deliver_and_run(WAN, &packet(Bsl::B256, &[OURS], 1, &padded));
    v6[7] = 8;
    assert_eq!(bench.sent(LAN), [[&[0x33, 0x33, 0, 1, 0, 2][..], &LAN_MAC, &[0x86, 0xdd], &v6].concat()]);

    bench.deliver_and_run(WAN, &packet(Bsl::B256, &[OURS], 1, &ipv4("232.1.1.2", 9)));
    assert_eq!((bench.drops(NodeId::Bier, "no-listener"), lost(&bench, Loss::NoListener)), (1, 0));
    bench.deliver_and_run(WAN, &packet(Bsl::B256, &[OURS, 1], 2, &ipv4("232.1.1.2", 9)));
    assert_eq!((bench.sent(LAN).len(), lost(&bench, Loss::NoListener)), (1, 1));
    for bad in [ipv4("232.1.1.1", 1), ipv4("192.0.2.1", 9), ipv4("232.1.1.1", 9)[..25].to_vec()] {
        bench.deliver_and_run(WAN, &packet(Bsl::B256, &[OURS], 1, &bad));
    }
    assert_eq!((bench.drops(NodeId::Bier, "lost"), lost(&bench, Loss::BadPayload)), (3, 3));
    bench.check_laws();
}

#[test]
fn listeners_get_the_sources_that_they_listen_to() {
    let mut bench = bench(Bsl::B64, &[]);
    let source = [addr("192.0.2.100")];
    let mut tables = (**bench.tables.bier.as_ref().unwrap()).clone();
    let mut serve = |bench: &mut Bench, lan: Filter, vlan: Filter| {
        let listeners = [(LAN_IF, lan), (VLAN_IF, vlan)];
        let listeners = listeners.map(|(interface, filter)| Listener::hosts(interface, filter));
        tables.listeners.set(addr("232.1.1.1"), listeners);
        bench.tables.bier = Some(Arc::new(tables.clone()));
        bench.publish();
        bench.deliver_and_run(WAN, &packet(Bsl::B64, &[OURS], 1, &ipv4("232.1.1.1", 9)));
        bench.sent(LAN).iter().map(|frame| frame[12..14] == [0x81, 0]).collect::<Vec<_>>()
    };
    let other = || Box::from([addr("192.0.2.99")]);
    assert_eq!(serve(&mut bench, Filter::Include(source.into()), Filter::Exclude(other())), [false, true]);
    assert_eq!(serve(&mut bench, Filter::Exclude(source.into()), Filter::Include(source.into())), [true]);
    assert_eq!(serve(&mut bench, Filter::Include(other()), Filter::Include([].into())), []);
    assert_eq!(bench.drops(NodeId::Bier, "no-listener"), 1);
    bench.check_laws();
}

#[test]
fn igmp_is_for_the_slowpath_where_hosts_are_asked() {
    let mut bench = bench(Bsl::B64, &[]);
    let mut report = vec![0x01, 0x00, 0x5e, 0, 0, 22, 2, 0, 0, 0, 0, 9, 8, 0];
    // Without an address of its own, as hosts are at first.
    let mut ip = vec![0x46, 0xc0, 0, 32, 0, 0, 0x40, 0, 1, 2, 0, 0, 0, 0, 0, 0, 224, 0, 0, 22, 0x94, 4, 0, 0];
    millrace_fastpath::wire::ipv4::fill_checksum(&mut ip, 24);
    report.extend(ip);
    report.extend([0x22, 0, 0xdd, 0xff, 0, 0, 0, 0]);
    bench.deliver_and_run(LAN, &report);
    assert_eq!((bench.drops(NodeId::Classify, "multicast"), bench.fates().punted), (1, 0));
    let mut asked = (**bench.tables.bier.as_ref().unwrap()).clone();
    asked.queried = vec![LAN_IF];
    bench.tables.bier = Some(Arc::new(asked));
    bench.publish();
    bench.deliver_and_run(LAN, &report);
    bench.deliver_and_run(WAN, &report);
    assert_eq!((bench.drops(NodeId::Classify, "multicast"), bench.fates().punted), (2, 1));
    bench.check_laws();
}

#[test]
fn a_header_changes_where_the_carriage_does() {
    let carriages = [Carriage::Mpls, Carriage::NonMpls];
    for from in carriages {
        let mut bench = bench_by(Bsl::B128, &[&[1], &[2]], &carriages);
        bench.deliver_and_run(WAN, &packet_by(from, Bsl::B128, &[1, 2], 9, b"payload"));
        let mut sent = bench.sent(LAN);
        sent.sort_by_key(|frame| frame[5]);
        let [mpls, plain] = &sent[..] else { panic!("{sent:?}") };
        for (frame, id) in [(mpls, 1), (plain, 2)] {
            assert_eq!(read(frame, Bsl::B128), copy(id as u8 - 1, 8, &[id], b"payload"));
        }
        let nibbles = [mpls, plain].map(|frame| frame[14 + 4] >> 4);
        let types = [mpls, plain].map(|frame| u16::from_be_bytes([frame[12], frame[13]]));
        assert_eq!((types, nibbles), ([ETHERTYPE_MPLS, ETHERTYPE], [5, 0]));
        bench.check_laws();
    }
}

#[test]
fn what_is_wrong_has_a_name() {
    let good = packet_by(Carriage::Mpls, Bsl::B64, &[1], 9, b"payload");
    type Spoil = fn(&mut Vec<u8>);
    let cases: [(&str, Spoil); 11] = [
        ("fixed-part-cut", |frame| frame.truncate(14 + 11)),
        ("bit-string-cut", |frame| frame.truncate(14 + 19)),
        ("unknown-bift", |frame| frame[14] ^= 0x0f),
        ("not-last-label", |frame| frame[16] &= !1),
        ("nibble", |frame| frame[18] = 0x40),
        ("version", |frame| frame[18] = 0x51),
        ("illegal-bsl", |frame| frame[19] |= 0xf0),
        ("other-bsl", |frame| frame[19] = frame[19] & 0xf | 0x20),
        ("empty", |frame| frame[26..34].fill(0)),
        ("no-route", |frame| frame[26..34].copy_from_slice(&[0x80, 0, 0, 0, 0, 0, 0, 0])),
        ("ttl-expired", |frame| frame[17] = 1),
    ];
    for (name, spoil) in cases {
        let mut bench = bench(Bsl::B64, &[&[1]]);
        let mut frame = good.clone();
        spoil(&mut frame);
        bench.deliver_and_run(WAN, &frame);
        assert!(bench.sent(LAN).is_empty(), "{name}");
        assert_eq!(bench.drops(NodeId::Bier, name), 1, "{name}");
        bench.check_laws();
    }
}

#[test]
fn copies_over_a_vlan_are_tagged() {
    let payload = [0x45; 400];
    let rows: [&[u16]; 2] = [&[1], &[2]];
    // In frames of their own, and in the one that came.
    for ids in [&[1, 2][..], &[1]] {
        let mut bench = bench(Bsl::B64, &rows);
        let (via, mac) = neighbour_of(0);
        bench.tables.neighbours.insert(VLAN_IF, via, mac);
        let mut bier = (**bench.tables.bier.as_ref().unwrap()).clone();
        put_on(&mut bier.links[0], VLAN_IF);
        bier.resolve(&bench.tables);
        bench.tables.bier = Some(Arc::new(bier));
        bench.publish();
        let vlan = bench.tables.interfaces.get(VLAN_IF).and_then(|interface| interface.vlan).unwrap();
        bench.deliver_and_run(WAN, &packet(Bsl::B64, ids, 9, &payload));
        let sent = bench.sent(LAN);
        assert_eq!(sent.len(), ids.len());
        let tagged: Vec<_> = sent.iter().filter(|frame| frame[12..14] == [0x81, 0]).collect();
        assert_eq!(
            (tagged.len(), &tagged[0][..6], &tagged[0][14..16]),
            (1, &mac[..], &vlan.to_be_bytes()[..])
        );
        let untagged = [&tagged[0][..12], &tagged[0][16..]].concat();
        assert_eq!(read(&untagged, Bsl::B64), copy(0, 8, &[1], &payload));
        bench.check_laws();
    }
}

#[test]
fn what_stands_in_the_way_of_one_copy_doesnt_touch_the_others() {
    let payload = [0x45; 400];
    let rows: [&[u16]; 3] = [&[1], &[2], &[3]];
    let all = packet(Bsl::B64, &[1, 2, 3], 9, &payload);
    let left = |numbers: &[u8]| -> Vec<_> {
        numbers.iter().map(|number| copy(*number, 8, &[u16::from(*number) + 1], &payload)).collect()
    };
    // No link-layer address yet.
    let mut unknown = bench(Bsl::B64, &rows);
    unknown.tables.neighbours.remove(LAN_IF, neighbour_of(1).0);
    let mut bier = (**unknown.tables.bier.as_ref().unwrap()).clone();
    assert!(!bier.is_resolved(&unknown.tables));
    bier.resolve(&unknown.tables);
    assert!(bier.is_resolved(&unknown.tables));
    let bare = Tables { interfaces: Arc::new(Interfaces::default()), ..unknown.tables.clone() };
    assert!(!bier.is_resolved(&bare));
    unknown.tables.bier = Some(Arc::new(bier));
    unknown.publish();
    unknown.deliver_and_run(WAN, &all);
    assert_eq!((copies(&unknown, Bsl::B64), lost(&unknown, Loss::NeighbourUnknown)), (left(&[0, 2]), 1));
    unknown.check_laws();
    // Bits that nobody leads to.
    let mut unroutable = bench(Bsl::B64, &rows);
    unroutable.deliver_and_run(WAN, &packet(Bsl::B64, &[1, 33, 34], 9, &payload));
    assert_eq!((copies(&unroutable, Bsl::B64), lost(&unroutable, Loss::Unroutable)), (left(&[0]), 1));
    unroutable.check_laws();
    // Longer than the link takes, by one byte.
    for (over, sent) in [(0, 1), (1, 0)] {
        let mut long = bench(Bsl::B64, &[&[1]]);
        let size = 1500 - len(Bsl::B64) + over;
        // The frame that brings it may be longer: that is the other link's affair.
        long.deliver_and_run(WAN, &packet(Bsl::B64, &[1], 9, &vec![0x45; size]));
        assert_eq!((long.sent(LAN).len(), lost(&long, Loss::TooBig)), (sent, 1 - sent as u64));
        long.check_laws();
    }
}

/// A port that takes less than there is: counted.
#[test]
fn full_ports_are_counted() {
    let ids: Vec<u16> = (10..40).collect();
    let rows: Vec<&[u16]> = ids.chunks(1).collect();
    let mut bench = bench(Bsl::B64, &rows);
    bench.net.limit_transmit(LAN, 7);
    for _ in 0..3 {
        bench.deliver(WAN, &packet(Bsl::B64, &ids, 9, &[0x45; 700]));
    }
    bench.run();
    let fates = bench.fates();
    assert_eq!((fates.replicated, fates.copies, fates.tx_accepted, fates.tx_refused), (3, 90, 7, 83));
    bench.net.limit_transmit(LAN, usize::MAX);
    bench.check_laws();
}

/// The packets of a vector are for tables of two sets and two lengths, in any order.
#[test]
fn each_packet_of_a_vector_goes_by_its_own_table() {
    let rows: [&[u16]; 2] = [&[1, 130], &[2, 70]];
    let of = |bsl| given(SubDomain(0), bsl, &rows, &BiftIds::Static);
    let mut bench = Bench::new(1);
    let tables = [of(Bsl::B64), of(Bsl::B128)].concat();
    install(&mut bench, BiftIds::Static, tables, &[Carriage::NonMpls; 2]);
    // Router 1 and router 130 have bits whose places lead elsewhere in other sets.
    let (short, long) = (Bsl::B64, Bsl::B128);
    let packets = [(short, 1), (short, 2), (short, 130), (long, 130), (long, 2), (short, 70), (short, 1)];
    for (bsl, id) in packets {
        bench.deliver(WAN, &packet(bsl, &[id], 9, b"payload"));
    }
    bench.run();
    let sent: Vec<_> =
        bench.sent(LAN).iter().zip(packets).map(|(frame, (bsl, _))| read(frame, bsl)).collect();
    let expected = packets.map(|(_, id)| copy(u8::from(id == 2 || id == 70), 8, &[id], b"payload"));
    assert_eq!(sent, expected);
    bench.check_laws();
}

#[test]
fn without_tables_it_is_a_type_that_nobody_reads() {
    let mut bench = Bench::new(1);
    for carriage in [Carriage::Mpls, Carriage::NonMpls] {
        bench.deliver_and_run(WAN, &packet_by(carriage, Bsl::B64, &[1], 9, b"payload"));
    }
    assert_eq!(bench.drops(NodeId::Classify, "unknown-ethertype"), 2);
    bench.check_laws();
}

#[test]
fn replicating_allocates_nothing() {
    let ids: Vec<u16> = (10..30).collect();
    let rows: Vec<&[u16]> = ids.chunks(1).collect();
    let mut bench = bench(Bsl::B256, &rows);
    for (size, own) in [(60, &[][..]), (1200, &[]), (60, &[OURS]), (1200, &[OURS])] {
        let payload = [&ipv4("232.1.1.1", 9)[..], &vec![0; size]].concat();
        let frame = packet(Bsl::B256, &[&ids[..], own].concat(), 9, &payload);
        for _ in 0..10 {
            bench.deliver(WAN, &frame);
        }
        let measured = allocation_counter::measure(|| bench.run());
        assert_eq!((measured.count_total, measured.count_current), (0, 0), "{size} bytes");
    }
    bench.check_laws();
}

#[test]
fn packets_are_counted_by_table_and_where_wanted_by_receiver() {
    let mut bench = bench(Bsl::B64, &[&[1, 64], &[2]]);
    let counted = |bench: &Bench, at: usize| bench.sum(|counters| &counters.bier.receivers[at]);
    bench.deliver_and_run(WAN, &packet(Bsl::B64, &[1, 2], 9, b"payload"));
    assert_eq!((bench.sum(|counters| &counters.bier.bifts[0]), counted(&bench, 128)), (1, 0));
    let mut bier = (**bench.tables.bier.as_ref().unwrap()).clone();
    bier.receivers_from = vec![Some(128)];
    bench.tables.bier = Some(Arc::new(bier));
    bench.publish();
    bench.deliver_and_run(WAN, &packet(Bsl::B64, &[1, 2, 64, OURS], 9, &ipv4("232.1.1.1", 9)));
    bench.deliver_and_run(WAN, &packet(Bsl::B64, &[2], 9, b"payload"));
    assert_eq!(bench.sum(|counters| &counters.bier.bifts[0]), 3);
    let by_bit: Vec<_> = (127..193).map(|at| counted(&bench, at)).collect();
    let wanted = |at: usize| match at {
        1 | 64 => 1,
        2 => 2,
        at if at == usize::from(OURS) => 1,
        _ => 0,
    };
    assert_eq!(by_bit, (0..66).map(wanted).collect::<Vec<_>>());
    bench.check_laws();
}

proptest! {
    /// Whatever follows the EtherType, cut anywhere: copies, a named drop, or the slowpath's (echo messages and reports for
    /// us, both by what the header says of its payload), and every frame is accounted for.
    #[test]
    fn any_bytes_have_a_fate(
        mpls in any::<bool>(),
        keep in 0..40_usize,
        noise in prop::collection::vec(any::<u8>(), 0..200),
    ) {
        let mut bench = bench(Bsl::B64, &[&[1, 2], &[3]]);
        let carriage = if mpls { Carriage::Mpls } else { Carriage::NonMpls };
        let mut frame = packet_by(carriage, Bsl::B64, &[1, 3, OURS], 9, &ipv4("232.1.1.1", 9));
        frame.truncate(14 + keep);
        frame.extend(noise);
        bench.deliver_and_run(WAN, &frame);
        let fates = bench.fates();
        prop_assert_eq!(fates.replicated + fates.dropped + fates.punted, 1, "{:?}", fates);
        bench.check_laws();
    }
}
