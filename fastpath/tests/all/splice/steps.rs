//! A worker that splices, one frame at a time.

use millrace_fastpath::event::Event;
use millrace_fastpath::node::NodeId;
use millrace_fastpath::slots::{Phase, WakeId};
use millrace_fastpath::tables::services::*;
use smoltcp::wire::TcpControl;

use crate::common::frames::*;
use crate::common::*;

const CLIENT: End<'static> = ("10.9.9.9", 40_000);
const VIP: End<'static> = ("203.0.113.10", 80);
const INSTANCE: End<'static> = ("198.51.100.7", 8080);
/// The client's initial sequence number, and the instance's.
const ISN: i32 = -2;
const THEIRS: i32 = 7000;

fn splicing() -> Service {
    Service { handling: Handling::Splice, overflow: Overflow::Rst, ..cold_service() }
}

fn bench(service: Service) -> Bench {
    let mut bench = Bench::new(1);
    bench.set_service(0, service);
    bench
}

fn client(control: TcpControl, ack: Option<i32>, seq: i32, data: &[u8]) -> Vec<u8> {
    tcp_frame((CLIENT_MAC, WAN_MAC), CLIENT, VIP, control, ack, seq, data)
}

fn from_instance(control: TcpControl, ack: Option<i32>, seq: i32, data: &[u8]) -> Vec<u8> {
    tcp_frame((HOST_MAC, LAN_MAC), INSTANCE, CLIENT, control, ack, seq, data)
}

/// Hands the notification over.
fn hand(bench: &mut Bench) {
    bench.shared.slots.get(ServiceId(0)).set_handed(WakeId(1));
    bench.run();
}

/// The only frame that left by a port.
fn only(bench: &Bench, port: millrace_fastpath::driver::PortId) -> Seen {
    let sent = bench.sent(port);
    assert_eq!(sent.len(), 1);
    read(&sent[0])
}

/// Answers the client's SYN, and returns what its acknowledgement acknowledges.
fn accept(bench: &mut Bench) -> i32 {
    bench.deliver_and_run(WAN, &client(TcpControl::Syn, None, ISN, b""));
    hand(bench);
    let Some((TcpControl::Syn, cookie, Some(acked))) = only(bench, WAN).tcp else { panic!("no SYN-ACK") };
    assert_eq!(acked, ISN + 1);
    cookie.wrapping_add(1)
}

/// As far as the SYN to the instance, with `data` held.
fn connecting(bench: &mut Bench, data: &[u8]) -> i32 {
    let own = accept(bench);
    bench.deliver_and_run(WAN, &client(TcpControl::None, Some(own), ISN + 1, data));
    bench.make_ready(0);
    bench.run();
    assert_eq!(only(bench, LAN).tcp, Some((TcpControl::Syn, ISN, None)));
    own
}

#[test]
fn no_reply_before_the_notification_is_handed_over_and_no_memory_before_the_acknowledgement() {
    let mut bench = bench(splicing());
    bench.deliver_and_run(WAN, &client(TcpControl::Syn, None, ISN, b""));
    assert_eq!(bench.wakes(), 1);
    assert!(bench.sent(WAN).is_empty(), "notified, but not handed over");
    hand(&mut bench);
    let seen = only(&bench, WAN);
    assert_eq!((seen.from, seen.to, seen.macs), (end(VIP), end(CLIENT), (WAN_MAC, CLIENT_MAC)));
    for port in 0..1000 {
        bench.deliver(WAN, &syn(("10.1.1.1", 1000 + port), VIP, 1));
    }
    bench.run();
    let fates = bench.fates();
    assert_eq!((fates.answered, fates.still_held), (1000, 0));
    assert_eq!(bench.shared.workers[0].counters.fates.flows.get(), 0);
    assert_eq!(bench.wakes(), 0);
    bench.check_laws();
}

#[test]
fn what_the_client_says_waits_unacknowledged_until_the_instance_accepts() {
    let mut bench = bench(splicing());
    let own = accept(&mut bench);
    let say = |seq, data: &[u8]| client(TcpControl::Psh, Some(own), seq, data);
    bench.deliver_and_run(WAN, &say(ISN + 1, b""));
    bench.deliver_and_run(WAN, &say(ISN + 1, b"GET /"));
    bench.deliver_and_run(WAN, &say(ISN + 6, b"more"));
    bench.deliver_and_run(WAN, &say(ISN + 1, b""));
    assert_eq!(bench.drops(NodeId::Service, "splice-surplus"), 2, "the second segment, and a late duplicate");
    assert_eq!(bench.fates().still_held, 1);
    bench.make_ready(0);
    bench.run();
    let seen = only(&bench, LAN);
    assert_eq!((seen.from, seen.to), (end(CLIENT), end(INSTANCE)));
    assert_eq!(seen.tcp, Some((TcpControl::Syn, ISN, None)));
    bench.deliver_and_run(WAN, &say(ISN + 1, b"GET / HTTP"));
    assert_eq!(
        bench.fates().still_held,
        1,
        "held on until the instance accepts, the longer one in its place"
    );

    bench.deliver_and_run(LAN, &from_instance(TcpControl::Syn, Some(ISN + 1), THEIRS, b""));
    let seen = only(&bench, LAN);
    assert_eq!(
        (seen.tcp, &seen.data[..]),
        (Some((TcpControl::Psh, ISN + 1, Some(THEIRS + 1))), &b"GET / HTTP"[..])
    );
    assert!(bench.sent(WAN).is_empty(), "nothing was ever acknowledged to the client");

    bench.deliver_and_run(LAN, &from_instance(TcpControl::Psh, Some(ISN + 11), THEIRS + 1, b"200 OK"));
    let seen = only(&bench, WAN);
    assert_eq!(seen.tcp, Some((TcpControl::Psh, own, Some(ISN + 11))));
    bench.deliver_and_run(WAN, &client(TcpControl::Fin, Some(own.wrapping_add(6)), ISN + 11, b""));
    assert_eq!(only(&bench, LAN).tcp, Some((TcpControl::Fin, ISN + 11, Some(THEIRS + 7))));
    let fates = bench.fates();
    assert_eq!((fates.originated, fates.delivered), (1, 1), "our SYN, and the answer to it");
    let activity = bench.shared.workers[0].counters.service(ServiceId(0));
    assert_eq!((activity.flows_begun.get(), activity.flows_established.get()), (1, 1));
    bench.check_laws();
}

#[test]
fn a_datagram_waits_for_the_instance_and_no_handshake_waits_behind_it() {
    let mut bench = bench(Service { overflow: Overflow::Drop, ..splicing() });
    let datagram = client_udp(("10.9.9.9", 40_001), ("203.0.113.10", 443), b"no handshake");
    bench.deliver_and_run(WAN, &datagram);
    bench.deliver_and_run(WAN, &client(TcpControl::Syn, None, ISN, b""));
    hand(&mut bench);
    assert!(matches!(only(&bench, WAN).tcp, Some((TcpControl::Syn, _, Some(_)))), "the SYN is answered");
    assert_eq!(bench.fates().still_held, 1, "the datagram can't be");
    bench.make_ready(0);
    bench.run();
    assert_eq!(only(&bench, LAN).data, b"no handshake");
    assert_eq!(bench.fates().still_held, 0);
    bench.check_laws();
}

/// It would be what is held, and its headers those of our SYN, which nobody would complete.
#[test]
fn a_fragment_completes_no_handshake() {
    let mut bench = bench(splicing());
    let own = accept(&mut bench);
    let first = |seq| fragments(&client(TcpControl::Psh, Some(own), seq, &[7; 200]), 9, &[64]).swap_remove(0);
    bench.deliver_and_run(WAN, &first(ISN + 1));
    assert_eq!((bench.drops(NodeId::Service, "splice-cut"), bench.fates().still_held), (1, 0));
    bench.deliver_and_run(WAN, &client(TcpControl::Psh, Some(own), ISN + 1, b"GET /"));
    bench.deliver_and_run(WAN, &first(ISN + 1));
    assert_eq!((bench.drops(NodeId::Service, "splice-cut"), bench.fates().replaced), (2, 0));
    bench.make_ready(0);
    bench.run();
    assert_eq!(only(&bench, LAN).tcp, Some((TcpControl::Syn, ISN, None)));
    bench.deliver_and_run(WAN, &first(ISN + 1));
    assert_eq!((bench.drops(NodeId::Service, "splice-cut"), bench.fates().replaced), (3, 0));
    bench.deliver_and_run(LAN, &from_instance(TcpControl::Syn, Some(ISN + 1), THEIRS, b""));
    assert_eq!(only(&bench, LAN).data, b"GET /");
    bench.check_laws();
}

#[test]
fn a_lost_acknowledgement_is_repeated_without_the_client() {
    let mut bench = bench(splicing());
    connecting(&mut bench, b"");
    let syn_ack = from_instance(TcpControl::Syn, Some(ISN + 1), THEIRS, b"");
    for _ in 0..3 {
        bench.deliver_and_run(LAN, &syn_ack);
        assert_eq!(only(&bench, LAN).tcp, Some((TcpControl::None, ISN + 1, Some(THEIRS + 1))));
    }
    assert!(bench.sent(WAN).is_empty());
    bench.check_laws();
}

#[test]
fn an_instance_that_refuses_or_never_answers_resets_the_client() {
    for refuses in [true, false] {
        let mut bench = bench(splicing());
        let own = connecting(&mut bench, b"GET /");
        let mut syns = 1;
        if refuses {
            bench.deliver_and_run(LAN, &from_instance(TcpControl::Rst, Some(99), 0, b""));
            assert!(bench.sent(WAN).is_empty() && bench.fates().still_held == 1, "a blind reset");
            assert_eq!(bench.drops(NodeId::Service, "splice-stray"), 1);
            bench.deliver_and_run(LAN, &from_instance(TcpControl::Rst, Some(ISN + 1), 0, b""));
        } else {
            for _ in 0..7749 {
                bench.advance_ms(1);
                bench.run();
            }
            syns += bench.sent(LAN).len();
            assert!(bench.sent(WAN).is_empty());
            bench.advance_ms(1);
            bench.run();
            assert_eq!(syns, 5);
        }
        let seen = only(&bench, WAN);
        assert_eq!((seen.from, seen.to), (end(VIP), end(CLIENT)));
        assert_eq!(seen.tcp, Some((TcpControl::Rst, own, None)), "in the number that it expects");
        let fates = bench.fates();
        assert_eq!((fates.still_held, fates.expired), (0, 1));
        assert_eq!(bench.shared.workers[0].counters.fates.flows.get(), 0, "the flow is gone");
        bench.check_laws();
    }
}

#[test]
fn a_wake_that_fails_resets_the_client_at_once() {
    for then in [Phase::Cold, Phase::Quarantined, Phase::Bypass] {
        let mut bench = bench(splicing());
        let own = accept(&mut bench);
        bench.deliver_and_run(WAN, &client(TcpControl::Psh, Some(own), ISN + 1, b"GET /"));
        assert!(bench.shared.slots.get(ServiceId(0)).cancel_wake(WakeId(1)));
        bench.set_phase(0, then);
        bench.run();
        assert_eq!(only(&bench, WAN).tcp, Some((TcpControl::Rst, own, None)), "{then:?}");
        assert_eq!((bench.fates().expired, bench.wakes()), (1, 1), "{then:?}");
        bench.check_laws();
    }
}

#[test]
fn a_client_that_answers_after_the_wake_has_failed_is_reset_or_wakes_again() {
    for then in [Phase::Quarantined, Phase::Bypass] {
        let mut bench = bench(splicing());
        let own = accept(&mut bench);
        bench.set_phase(0, then);
        bench.deliver_and_run(WAN, &client(TcpControl::Psh, Some(own), ISN + 1, b"GET /"));
        assert_eq!(only(&bench, WAN).tcp, Some((TcpControl::Rst, own, None)), "{then:?}");
        assert_eq!(bench.fates().held, 1, "{then:?}: no more than its SYN was");
        bench.check_laws();
    }
    let mut bench = bench(splicing());
    let own = accept(&mut bench);
    assert!(bench.shared.slots.get(ServiceId(0)).cancel_wake(WakeId(1)));
    bench.events();
    bench.deliver_and_run(WAN, &client(TcpControl::Psh, Some(own), ISN + 1, b"GET /"));
    assert_eq!((bench.wakes(), bench.fates().still_held), (1, 1));
    let slot = bench.shared.slots.get(ServiceId(0));
    slot.set_handed(WakeId(2));
    assert!(slot.cancel_wake(WakeId(2)));
    bench.run();
    assert_eq!(only(&bench, WAN).tcp, Some((TcpControl::Rst, own, None)), "that one failed, too");
    bench.check_laws();
}

#[test]
fn an_instance_that_is_gone_before_it_was_connected_to_resets_the_client() {
    let mut bench = bench(splicing());
    let own = accept(&mut bench);
    bench.deliver_and_run(WAN, &client(TcpControl::Psh, Some(own), ISN + 1, b"GET /"));
    // Ready by its phase, but the tables have nobody: what is held waits, until the service is cold again.
    bench.set_phase(0, Phase::Ready);
    bench.run();
    assert!(bench.sent(WAN).is_empty() && bench.sent(LAN).is_empty());
    bench.set_phase(0, Phase::Cold);
    bench.run();
    assert_eq!(only(&bench, WAN).tcp, Some((TcpControl::Rst, own, None)));
    assert_eq!(bench.fates().still_held, 0);
    bench.check_laws();
}

#[test]
fn at_the_deadline_the_client_is_reset_whatever_others_would_be() {
    for overflow in [Overflow::Upstream, Overflow::Rst, Overflow::Drop, Overflow::Fallback] {
        let fallback = instance(0, InstanceState::Ready);
        let mut bench = bench(Service { overflow, instances: vec![fallback], ..splicing() });
        let own = accept(&mut bench);
        bench.deliver_and_run(WAN, &client(TcpControl::None, Some(own), ISN + 1, b""));
        bench.advance_ms(899);
        bench.run();
        assert_eq!(bench.fates().still_held, 1);
        bench.advance_ms(1);
        bench.run();
        if overflow == Overflow::Fallback {
            assert_eq!(only(&bench, LAN).tcp, Some((TcpControl::Syn, ISN, None)), "connected to a backend");
            assert!(bench.sent(WAN).is_empty());
        } else {
            assert_eq!(only(&bench, WAN).tcp, Some((TcpControl::Rst, own, None)), "{overflow:?}");
            bench.check_laws();
        }
    }
}

#[test]
fn what_overtook_the_first_segment_begins_no_flow() {
    let mut bench = bench(splicing());
    let own = accept(&mut bench);
    bench.make_ready(0);
    bench.deliver_and_run(WAN, &client(TcpControl::Psh, Some(own), ISN + 6, b"more"));
    assert!(bench.sent(LAN).is_empty() && bench.drops(NodeId::Service, "no-flow") == 1);
    bench.deliver_and_run(WAN, &client(TcpControl::Psh, Some(own), ISN + 1, b"GET /"));
    assert_eq!(only(&bench, LAN).tcp, Some((TcpControl::Syn, ISN, None)));
    bench.check_laws();
}

#[test]
fn an_acknowledgement_of_nothing_is_worth_nothing() {
    let mut bench = bench(splicing());
    let own = accept(&mut bench);
    for (ack, seq) in [(own.wrapping_add(1 << 8), ISN + 1), (own, ISN + 2), (1, 1)] {
        bench.deliver_and_run(WAN, &client(TcpControl::Psh, Some(ack), seq, b"GET /"));
    }
    assert_eq!((bench.fates().still_held, bench.drops(NodeId::Service, "no-flow")), (0, 3));
    bench.check_laws();
}

#[test]
fn a_syn_repeated_soon_after_readiness_has_the_same_answer_and_a_later_one_has_the_instance() {
    let mut bench = bench(splicing());
    let own = accept(&mut bench);
    bench.make_ready(0);
    bench.advance_ms(1000);
    bench.deliver_and_run(WAN, &client(TcpControl::Syn, None, ISN, b""));
    assert_eq!(only(&bench, WAN).tcp, Some((TcpControl::Syn, own.wrapping_sub(1), Some(ISN + 1))));
    bench.advance_ms(2500);
    bench.deliver_and_run(WAN, &client(TcpControl::Syn, None, ISN, b""));
    assert_eq!(only(&bench, LAN).tcp, Some((TcpControl::Syn, ISN, None)));
    bench.check_laws();
}

#[test]
fn for_a_client_that_gave_up_nobody_is_bothered() {
    let mut bench = bench(splicing());
    let own = accept(&mut bench);
    bench.deliver_and_run(WAN, &client(TcpControl::Psh, Some(own), ISN + 1, b"GET /"));
    bench.deliver_and_run(WAN, &client(TcpControl::Rst, None, ISN + 6, b""));
    bench.make_ready(0);
    bench.run();
    assert!(bench.sent(LAN).is_empty() && bench.sent(WAN).is_empty(), "and a reset isn't answered");
    assert_eq!(bench.shared.workers[0].counters.service(ServiceId(0)).flows_begun.get(), 0);
    bench.check_laws();
}

#[test]
fn a_cookie_that_verifies_goes_out_before_anybody_is_notified_and_its_answer_wakes() {
    let mut bench = bench(Service { verify: Verify::Cookie, ..splicing() });
    for port in 0..500 {
        bench.deliver(WAN, &syn(("10.1.1.1", 1000 + port), VIP, 1));
    }
    bench.run();
    assert_eq!((bench.sent(WAN).len(), bench.wakes(), bench.fates().held), (500, 0, 0));
    bench.deliver_and_run(WAN, &client(TcpControl::Syn, None, ISN, b""));
    let Some((_, cookie, _)) = only(&bench, WAN).tcp else { panic!("no SYN-ACK") };
    bench.deliver_and_run(WAN, &client(TcpControl::Psh, Some(cookie.wrapping_add(1)), ISN + 1, b"GET /"));
    let events = bench.events();
    assert!(matches!(events[0], Event::FirstPacket { wake: WakeId(1), .. }), "{events:?}");
    assert_eq!(bench.shared.slots.get(ServiceId(0)).load().0, Phase::Waking);
    bench.make_ready(0);
    bench.run();
    assert_eq!(only(&bench, LAN).tcp, Some((TcpControl::Syn, ISN, None)));
    bench.check_laws();
}

#[test]
fn frames_that_are_short_delay_and_lose_nothing() {
    let mut bench = bench(splicing());
    let own = accept(&mut bench);
    bench.deliver_and_run(WAN, &client(TcpControl::Psh, Some(own), ISN + 1, b"GET /"));
    // Everything that the pool has waits at a port that nobody empties.
    for n in 0..bench.net.free_frames() as u16 {
        bench.deliver(WAN, &client_udp(("10.9.9.9", n + 1), ("198.51.100.7", 9), b"x"));
        bench.run();
    }
    bench.make_ready(0);
    for _ in 0..100 {
        bench.workers[0].poll();
    }
    assert_eq!((bench.fates().still_held, bench.fates().originated), (1, 0), "no frame for a SYN");
    bench.sent(LAN);
    bench.run();
    assert_eq!(only(&bench, LAN).tcp, Some((TcpControl::Syn, ISN, None)));
    bench.check_laws();
}

#[test]
fn splicing_allocates_nothing() {
    let mut bench = bench(splicing());
    let own = accept(&mut bench);
    bench.make_ready(0);
    let frames = [
        (WAN, client(TcpControl::Psh, Some(own), ISN + 1, b"GET /")),
        (LAN, from_instance(TcpControl::Syn, Some(ISN + 1), THEIRS, b"")),
        (LAN, from_instance(TcpControl::Psh, Some(ISN + 6), THEIRS + 1, b"200 OK")),
        (WAN, client(TcpControl::Rst, None, ISN + 6, b"")),
        (WAN, client(TcpControl::Syn, None, ISN, b"")),
    ];
    for (port, frame) in &frames {
        bench.deliver(*port, frame);
        let measured = allocation_counter::measure(|| bench.run());
        assert_eq!((measured.count_total, measured.count_current), (0, 0));
    }
    let fates = bench.fates();
    assert!(fates.originated == 1 && fates.delivered == 1 && fates.release_sent >= 2, "{fates:?}");
    bench.check_laws();
}
