//! What enters here: a header for each set, and nothing else.

use super::*;
use millrace_fastpath::driver::{BURST_MAX, Driver};

/// A multicast packet of `size` bytes of data as a host sends it, with bytes behind it that links pad with.
fn multicast(group: &str, ttl: u8, size: usize) -> Vec<u8> {
    let frame = frames::client_udp(("192.0.2.100", 5000), (group, 6000), &vec![7; size]);
    let mut frame = frames::with_ttl(&frame, ttl);
    frame[..6].copy_from_slice(&[0x01, 0x00, 0x5e, 1, 1, 1]);
    frame.extend([0; 5]);
    frame
}

/// Lets a flow to 232.1.1.1 enter for these routers.
fn enter(bench: &mut Bench, bsl: Bsl, ids: &[u16]) {
    let flow = Flow { source: [192, 0, 2, 100].into(), group: [232, 1, 1, 1].into() };
    let receivers = Receivers::new(ids.iter().filter_map(|id| BfrId::new(*id)));
    let mut bier = (**bench.tables.bier.as_ref().unwrap()).clone();
    bier.overlay.set(flow, SubDomain(0), bsl, &receivers);
    bench.tables.bier = Some(Arc::new(bier));
    bench.publish();
}

#[test]
fn what_would_be_too_long_doesnt_enter_and_over_ipv6_its_sender_is_told() {
    let mut bench = bench(Bsl::B64, &[&[1]]);
    enter(&mut bench, Bsl::B64, &[1]);
    let mut bier = (**bench.tables.bier.as_ref().unwrap()).clone();
    let flow = Flow { source: addr("2001:db8::9").to_ip(), group: addr("ff3e::1:2").to_ip() };
    bier.overlay.set(flow, SubDomain(0), Bsl::B64, &Receivers::new(BfrId::new(1)));
    bier.ingress[0].1.mtu = 1400;
    bench.tables.bier = Some(Arc::new(bier));
    bench.publish();
    // Headers of IP and UDP, and twenty bytes of BIER's.
    let v4 = |len: usize| {
        let mut frame = multicast("232.1.1.1", 9, len - 28 - 20);
        // Not to be fragmented: a packet to a host would be told of.
        frame[20] |= 0x40;
        millrace_fastpath::wire::ipv4::fill_checksum(&mut frame[14..], 20);
        frame
    };
    let v6 = |len: usize| {
        let payload = len - 20 - 40;
        let mut frame = [&[0x33, 0x33, 0, 1, 0, 2][..], &CLIENT_MAC, &[0x86, 0xdd, 0x60, 0, 0, 0]].concat();
        frame.extend((payload as u16).to_be_bytes());
        frame.extend([17, 9]);
        frame.extend([addr("2001:db8::9"), addr("ff3e::1:2")].map(|one| one.0.to_be_bytes()).concat());
        frame.extend([0x13, 0x88, 0x17, 0x70]);
        frame.extend([(payload as u16).to_be_bytes(), [0, 0]].concat());
        frame.resize(14 + 40 + payload, 7);
        frame
    };
    for fits in [v4(1400), v6(1400)] {
        bench.deliver_and_run(WAN, &fits);
        assert_eq!(bench.sent(LAN).len(), 1);
    }
    bench.deliver_and_run(WAN, &v4(1401));
    // Nobody is told over IPv4 (RFC 1122 section 3.2.2).
    assert_eq!((bench.sent(WAN), bench.drops(NodeId::Bier, "payload-too-big")), (vec![], 1));
    let long = v6(1401);
    bench.deliver_and_run(WAN, &long);
    let told = bench.sent(WAN);
    let [told] = &told[..] else { panic!("{told:?}") };
    assert_eq!((&told[..6], &told[6..12]), (&CLIENT_MAC[..], &WAN_MAC[..]));
    assert_eq!((told[20], &told[38..54]), (58, &addr("2001:db8::9").v6_bytes()[..]));
    assert_eq!(told[54..56], [2, 0]);
    // The longest payload that fits, and the packet as it was sent.
    assert_eq!((&told[58..62], &told[62..]), (&1380_u32.to_be_bytes()[..], &long[14..14 + told.len() - 62]));
    assert_eq!((bench.sent(LAN).len(), bench.drops(NodeId::Bier, "payload-too-big")), (0, 1));
    bench.check_laws();
}

/// One packet for each set, through our own tables; headers longer than what is free in front of a frame, too.
#[test]
fn what_enters_here_gets_a_header_for_each_set() {
    for bsl in Bsl::ALL {
        for size in [10, 600] {
            let beyond = bsl.bits() + 1;
            let mut bench = bench(bsl, &[&[1, 2, beyond], &[3]]);
            enter(&mut bench, bsl, &[1, 3, beyond]);
            bench.deliver_and_run(WAN, &multicast("232.1.1.1", 9, size));
            let mut inner = multicast("232.1.1.1", 8, size).split_off(14);
            inner.truncate(inner.len() - 5);
            let expected =
                [copy(0, 30, &[1], &inner), copy(0, 30, &[beyond], &inner), copy(1, 30, &[3], &inner)];
            assert_eq!(copies(&bench, bsl), expected, "{bsl:?}, {size} bytes");
            let fates = bench.fates();
            assert_eq!((fates.replicated, fates.copies), (1, 3));
            bench.check_laws();
        }
    }
}

#[test]
fn what_enters_here_may_be_for_us_too_and_nothing_else_enters() {
    let mut bench = bench(Bsl::B64, &[&[1]]);
    enter(&mut bench, Bsl::B64, &[1, OURS]);
    bench.deliver_and_run(WAN, &multicast("232.1.1.1", 9, 10));
    let mut sent = bench.sent(LAN);
    sent.sort_by_key(|frame| frame[0]);
    let [listener, tagged, out] = &sent[..] else { panic!("{sent:?}") };
    assert!(listener[0] == 1 && tagged[0] == 1 && out[0] == 2);
    // One hop to enter, one to leave.
    assert_eq!(listener[14..], multicast("232.1.1.1", 7, 10)[14..listener.len()]);
    assert_eq!(read(out, Bsl::B64).ids, [1], "our own bit doesn't go out");
    for (frame, node, name) in [
        (multicast("232.1.1.1", 1, 10), NodeId::Bier, "payload-ttl"),
        (multicast("232.1.1.2", 9, 10), NodeId::Classify, "multicast"),
    ] {
        bench.deliver_and_run(WAN, &frame);
        assert_eq!((bench.sent(LAN).len(), bench.drops(node, name)), (0, 1), "{name}");
    }
    // The way to its source is another.
    bench.deliver_and_run(LAN, &multicast("232.1.1.1", 9, 10));
    assert_eq!((bench.sent(LAN).len(), bench.drops(NodeId::Bier, "wrong-interface")), (0, 1));
    // Its own link has heard it from its source.
    let mut own_link = (**bench.tables.bier.as_ref().unwrap()).clone();
    own_link.listeners.set(addr("232.1.1.1"), [InterfaceId(0), LAN_IF].map(Listener::any));
    bench.tables.bier = Some(Arc::new(own_link));
    bench.publish();
    bench.deliver_and_run(WAN, &multicast("232.1.1.1", 9, 10));
    assert_eq!((bench.sent(WAN).len(), bench.sent(LAN).len()), (0, 2));
    let mut nowhere = (**bench.tables.bier.as_ref().unwrap()).clone();
    nowhere.ingress.clear();
    bench.tables.bier = Some(Arc::new(nowhere));
    bench.publish();
    bench.deliver_and_run(WAN, &multicast("232.1.1.1", 9, 10));
    assert_eq!(bench.drops(NodeId::Bier, "no-ingress"), 1);
    bench.check_laws();
}

/// No buffer for the only copy, of a whole vector of packets whose frames have too little room for its header.
#[test]
fn a_vector_that_enters_and_finds_no_buffer_is_lost_by_name() {
    let mut bench = bench(Bsl::B1024, &[&[1]]);
    enter(&mut bench, Bsl::B1024, &[1]);
    for _ in 0..BURST_MAX {
        bench.deliver(WAN, &multicast("232.1.1.1", 9, 10));
    }
    let (mut driver, taken) = bench.leave(0);
    bench.run();
    let all = BURST_MAX as u64;
    assert_eq!((bench.drops(NodeId::Bier, "lost"), lost(&bench, Loss::NoBuffer)), (all, all));
    assert_eq!((bench.fates().replicated, bench.fates().copies), (0, 0));
    taken.into_iter().for_each(|frame| driver.free(frame));
    bench.check_laws();
}
