//! What else than packets to listening hosts is handed on behind us: Ethernet frames, packets behind labels, and what goes to one
//! neighbour.

use millrace_fastpath::tables::bier::{Behind, Bier};

use super::*;

/// Changes the tables.
fn change(bench: &mut Bench, change: impl FnOnce(&mut Bier)) {
    let mut bier = (**bench.tables.bier.as_ref().unwrap()).clone();
    change(&mut bier);
    bench.tables.bier = Some(Arc::new(bier));
    bench.publish();
}

/// To us, and to one more router.
fn carrying(ids: &[u16], proto: Proto, payload: &[u8]) -> Vec<u8> {
    packet_of(Carriage::NonMpls, Bsl::B64, ids, 9, proto, payload)
}

fn ethernet(to: [u8; 6], from: [u8; 6], len: usize) -> Vec<u8> {
    let mut frame = [&to[..], &from, &[0x88, 0xb5]].concat();
    frame.extend((0..len).map(|at| at as u8));
    frame
}

const STATION: [u8; 6] = [2, 0, 0, 0, 0, 0x31];
const GROUP_MAC: [u8; 6] = [0x01, 0x00, 0x5e, 1, 1, 1];

#[test]
fn frames_are_sent_as_they_are_to_the_networks_of_their_sub_domain() {
    let mut bench = bench(Bsl::B64, &[&[1]]);
    let inner = ethernet([2, 0, 0, 0, 0, 0x32], STATION, 60);
    bench.deliver_and_run(WAN, &carrying(&[OURS], Proto::Ethernet, &inner));
    assert_eq!((bench.sent(LAN).len(), bench.drops(NodeId::Bier, "no-listener")), (0, 1));
    let bridged = |sub_domain| {
        vec![(SubDomain(sub_domain), Behind { bridged: vec![LAN_IF, VLAN_IF], ..Behind::default() })]
    };
    change(&mut bench, |bier| bier.behind = bridged(1));
    bench.deliver_and_run(WAN, &carrying(&[OURS], Proto::Ethernet, &inner));
    assert_eq!((bench.sent(LAN).len(), bench.drops(NodeId::Bier, "no-listener")), (0, 2));
    change(&mut bench, |bier| bier.behind = bridged(0));
    // Short ones are copied, and longer ones shared with the other router.
    for len in [60, 1000] {
        let inner = ethernet(GROUP_MAC, STATION, len);
        bench.deliver_and_run(WAN, &carrying(&[1, OURS], Proto::Ethernet, &inner));
        let sent = bench.sent(LAN);
        let tagged = [&inner[..12], &[0x81, 0, 0, 20], &inner[12..]].concat();
        assert_eq!(sent.len(), 3);
        assert!(sent.contains(&inner) && sent.contains(&tagged), "{len} bytes");
        let onward = sent.iter().find(|frame| frame[12..14] == ETHERTYPE.to_be_bytes()).unwrap();
        assert!(onward.ends_with(&inner));
    }
    let bad = [
        // Bridges don't pass these on, and no station has the address of a group.
        ethernet([0x01, 0x80, 0xc2, 0, 0, 0x0e], STATION, 60),
        ethernet(STATION, GROUP_MAC, 60),
        ethernet(STATION, STATION, 60)[..14].to_vec(),
    ];
    for bad in &bad {
        bench.deliver_and_run(WAN, &carrying(&[OURS], Proto::Ethernet, bad));
    }
    let counted = |bench: &Bench| [Loss::BadPayload, Loss::TooBig].map(|loss| lost(bench, loss));
    assert_eq!((bench.sent(LAN).len(), counted(&bench)), (0, [3, 0]));
    bench.deliver_and_run(WAN, &carrying(&[OURS], Proto::Ethernet, &ethernet(STATION, STATION, 1501)));
    assert_eq!((bench.sent(LAN).len(), counted(&bench)), (0, [3, 2]));
    bench.deliver_and_run(
        WAN,
        &carrying(&[OURS], Proto::Ethernet, &ethernet([1, 0x80, 0xc2, 0, 0, 0x10], STATION, 60)),
    );
    assert_eq!(bench.sent(LAN).len(), 2, "an address beyond those set aside");
    bench.check_laws();
}

#[test]
fn labels_that_are_known_are_taken_off() {
    let mut bench = bench(Bsl::B64, &[&[1]]);
    // Label, traffic class 0, last or not, time to live.
    let behind = |label: u32, last: u32, payload: &[u8]| {
        [&(label << 12 | last << 8 | 1).to_be_bytes()[..], payload].concat()
    };
    let v4 = ipv4("232.1.1.1", 9);
    let (upstream, downstream) = (Proto::MplsUpstream, Proto::MplsDownstream);
    bench.deliver_and_run(WAN, &carrying(&[OURS], downstream, &behind(77, 1, &v4)));
    assert_eq!((bench.sent(LAN).len(), bench.drops(NodeId::Bier, "unknown-label")), (0, 1));
    let labels = [(BfrId::new(9), 77), (None, 78), (BfrId::new(8), 79)];
    change(&mut bench, |bier| {
        bier.behind = vec![(SubDomain(0), Behind { labels: labels.into(), ..Behind::default() })];
    });
    for (proto, label, copies) in [
        (upstream, 77, 2),
        (downstream, 77, 0),
        (downstream, 78, 2),
        (upstream, 78, 0),
        // Another router's, which means something else with this one.
        (upstream, 79, 0),
    ] {
        bench.deliver_and_run(WAN, &carrying(&[OURS], proto, &behind(label, 1, &v4)));
        let sent = bench.sent(LAN);
        assert_eq!(sent.len(), copies, "{proto:?} {label}");
        assert!(sent.iter().all(|frame| frame.ends_with(&ipv4("232.1.1.1", 8)) && frame[..6] == GROUP_MAC));
    }
    assert_eq!(bench.drops(NodeId::Bier, "unknown-label"), 4);
    bench.deliver_and_run(WAN, &carrying(&[1, OURS], downstream, &behind(80, 1, &v4)));
    assert_eq!((bench.sent(LAN).len(), lost(&bench, Loss::UnknownLabel)), (1, 1));
    for bad in [behind(78, 0, &v4), behind(78, 1, &[]), behind(78, 1, &[0x50; 40]), vec![0; 3]] {
        bench.deliver_and_run(WAN, &carrying(&[OURS], downstream, &bad));
        assert_eq!(bench.sent(LAN).len(), 0);
    }
    assert_eq!(lost(&bench, Loss::BadPayload), 4);
    bench.check_laws();
}

#[test]
fn a_neighbour_gets_its_copy_by_its_own_address() {
    let mut bench = bench(Bsl::B64, &[&[1]]);
    let (hop, mac) = neighbour_of(40);
    change(&mut bench, |bier| {
        let listeners = [Listener::any(LAN_IF), Listener::neighbour(LAN_IF, hop)];
        bier.listeners.set(addr("232.1.1.1"), listeners);
    });
    let frame = packet(Bsl::B64, &[OURS], 9, &ipv4("232.1.1.1", 9));
    bench.deliver_and_run(WAN, &frame);
    assert_eq!((bench.sent(LAN).len(), lost(&bench, Loss::NeighbourUnknown)), (1, 1));
    bench.tables.neighbours.insert(LAN_IF, hop, mac);
    bench.publish();
    bench.deliver_and_run(WAN, &frame);
    let ip = ipv4("232.1.1.1", 8);
    let expected = [GROUP_MAC, mac].map(|to| [&to[..], &LAN_MAC, &[8, 0], &ip].concat());
    assert_eq!(bench.sent(LAN), expected);
    bench.check_laws();
}
