//! Echo messages: what is for us or ends here is shown to the slowpath, within limits, and what the slowpath makes enters here.

use millrace_bier::oam::UDP_PORT;
use millrace_fastpath::queue::{Injected, PARCELS_MAX, Punt};

use super::*;

/// A message's worth of bytes.
const MESSAGE: [u8; 60] = [0x10; 60];

/// The same packet as an echo message.
pub(super) fn echo(ids: &[u16], ttl: u8) -> Vec<u8> {
    let mut frame = packet(Bsl::B64, ids, ttl, &MESSAGE);
    frame[14 + 9] = frame[14 + 9] & 0xc0 | 5;
    frame
}

/// What the slowpath was shown: why, where it came in, and the frame.
pub(super) fn shown(bench: &Bench) -> Vec<(Punt, InterfaceId, Vec<u8>)> {
    let queues = &bench.shared.workers[0].queues;
    let punts: Vec<_> = std::iter::from_fn(|| queues.punts.pop()).collect();
    let read = |parcel: Box<millrace_fastpath::queue::Parcel>| {
        let told = (parcel.punt, parcel.interface, parcel.bytes().to_vec());
        queues.punts_empty.push(parcel).unwrap();
        told
    };
    punts.into_iter().map(read).collect()
}

#[test]
fn the_slowpath_sees_what_is_for_us_and_what_ends_here_once() {
    // TTL in, routers asked for, copies out, whether it is shown.
    for (ttl, ids, out, told) in [
        (9, &[OURS][..], 0, true),
        (9, &[OURS, 1, 2], 2, true),
        (9, &[1], 1, false),
        (1, &[1], 0, true),
        (1, &[OURS], 0, true),
        (1, &[OURS, 1], 0, true),
        (0, &[OURS], 0, true),
        (0, &[1], 0, true),
        (2, &[33], 0, false),
    ] {
        let mut bench = bench(Bsl::B64, &[&[1], &[2]]);
        let frame = echo(ids, ttl);
        bench.deliver_and_run(WAN, &frame);
        let expected: Vec<_> = told.then_some((Punt::BierOam, InterfaceId(0), frame)).into_iter().collect();
        assert_eq!(shown(&bench), expected, "TTL {ttl} to {ids:?}");
        assert_eq!(bench.sent(LAN).len(), out, "TTL {ttl} to {ids:?}");
        let fates = bench.fates();
        assert_eq!((fates.punted, fates.copies), (u64::from(told && out == 0), out as u64));
        assert_eq!(bench.sum(|counters| &counters.bier.punted), u64::from(told));
        assert_eq!(lost(&bench, Loss::Expired), 0, "it did what it was sent for");
        bench.check_laws();
    }
}

/// Copies that share the payload have taken the headers out of the frame by then.
#[test]
fn a_long_message_is_shown_as_it_came() {
    let mut bench = bench(Bsl::B64, &[&[1], &[2], &[3]]);
    let mut frame = packet(Bsl::B64, &[1, OURS, 2, 3], 9, &[0x10; 1200]);
    frame[14 + 9] = frame[14 + 9] & 0xc0 | 5;
    bench.deliver_and_run(WAN, &frame);
    assert_eq!(shown(&bench), [(Punt::BierOam, InterfaceId(0), frame)]);
    assert_eq!(bench.sent(LAN).len(), 3);
    bench.check_laws();
}

#[test]
fn what_comes_too_fast_is_dropped_by_name_and_its_copies_still_go() {
    let mut bench = bench(Bsl::B64, &[&[1]]);
    for _ in 0..300 {
        bench.deliver(WAN, &echo(&[OURS], 9));
    }
    bench.run();
    assert_eq!((shown(&bench).len(), bench.drops(NodeId::Bier, "oam-limited")), (256, 44));
    bench.deliver_and_run(WAN, &echo(&[OURS, 1], 9));
    assert_eq!((bench.sent(LAN).len(), lost(&bench, Loss::OamLimited)), (1, 1));
    bench.advance_ms(10);
    for _ in 0..20 {
        bench.deliver(WAN, &echo(&[OURS], 9));
    }
    bench.run();
    assert_eq!(
        (shown(&bench).len(), bench.drops(NodeId::Bier, "oam-limited")),
        (10, 54),
        "one a millisecond"
    );
    bench.check_laws();
}

#[test]
fn what_the_slowpath_cant_take_is_dropped_by_name() {
    let mut bench = bench(Bsl::B64, &[&[1]]);
    let queues = &bench.shared.workers[0].queues;
    let taken: Vec<_> = std::iter::from_fn(|| queues.punts_empty.pop()).collect();
    assert_eq!(taken.len(), PARCELS_MAX);
    bench.deliver_and_run(WAN, &echo(&[OURS], 9));
    bench.deliver_and_run(WAN, &echo(&[OURS, 1], 9));
    assert_eq!((bench.drops(NodeId::Bier, "oam-unseen"), lost(&bench, Loss::OamUnseen)), (1, 1));
    let queues = &bench.shared.workers[0].queues;
    taken.into_iter().for_each(|parcel| queues.punts_empty.push(parcel).unwrap());
    bench.check_laws();
}

/// Data in circles is dropped as before; an operator sees one of it now and then, and pings still pass.
#[test]
fn of_data_that_expires_a_few_packets_are_shown() {
    let mut bench = bench(Bsl::B64, &[&[1]]);
    let data = packet(Bsl::B64, &[1], 1, &ipv4("232.1.1.1", 9));
    for _ in 0..50 {
        bench.deliver(WAN, &data);
    }
    bench.deliver(WAN, &echo(&[OURS], 9));
    bench.run();
    let told = shown(&bench);
    assert_eq!(told.iter().map(|(why, ..)| *why).collect::<Vec<_>>(), [Punt::BierExpired, Punt::BierOam]);
    assert_eq!(told[0].2, data);
    assert_eq!((bench.drops(NodeId::Bier, "ttl-expired"), lost(&bench, Loss::Expired)), (50, 50));
    bench.advance_ms(100);
    bench.deliver_and_run(WAN, &data);
    assert_eq!(shown(&bench).len(), 1);
    bench.check_laws();
}

/// What the slowpath makes goes through our own tables, and its copies have the TTL that it says.
#[test]
fn what_the_slowpath_makes_enters_here() {
    for (ttl, ids, out) in [(1, &[1_u16][..], 1), (255, &[1, 2], 2), (64, &[OURS, 1], 1), (64, &[OURS], 0)] {
        let mut bench = bench(Bsl::B64, &[&[1], &[2]]);
        let queues = &bench.shared.workers[0].queues;
        let mut parcel = queues.injects_empty.pop().unwrap();
        assert!(parcel.fill(&echo(ids, ttl)));
        parcel.injected = Injected::Bier;
        queues.injects.push(parcel).unwrap();
        bench.run();
        let copies = copies(&bench, Bsl::B64);
        assert_eq!(copies.len(), out);
        assert!(copies.iter().all(|copy| copy.ttl == ttl && copy.payload == MESSAGE), "{copies:?}");
        let told = shown(&bench);
        assert_eq!(told.len(), usize::from(ids.contains(&OURS)));
        let fates = bench.fates();
        assert_eq!((fates.injected, fates.replicated + fates.punted), (1, 1));
        assert_eq!(bench.shared.workers[0].queues.injects_empty.len(), PARCELS_MAX);
        bench.check_laws();
    }
}

/// Replies over UDP come to the slowpath where there is BIER, and nowhere else.
#[test]
fn replies_over_udp_are_for_the_slowpath() {
    let reply = |port| frames::client_udp(("192.0.2.100", port), ("192.0.2.1", port), &MESSAGE);
    let mut with = bench(Bsl::B64, &[&[1]]);
    with.deliver_and_run(WAN, &reply(UDP_PORT));
    let told = shown(&with);
    assert_eq!((told.len(), told[0].0), (1, Punt::Host));
    with.deliver_and_run(WAN, &reply(UDP_PORT + 1));
    let mut without = Bench::new(1);
    without.deliver_and_run(WAN, &reply(UDP_PORT));
    for bench in [with, without] {
        assert_eq!((shown(&bench).len(), bench.fates().answered), (0, 1), "nobody listens there");
        bench.check_laws();
    }
}
