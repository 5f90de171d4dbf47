//! A client that repeats its SYN while it is held, and then begins anew by another sequence number: one connection, the
//! latest, whatever the handling and whichever queues its packets come by.
//!
//! Limits: none but the defaults; the repeated packet keeps the first one's place and deadline.

use millrace_fastpath::node::NodeId;
use millrace_fastpath::slots::WakeId;
use millrace_fastpath::tables::services::*;
use smoltcp::wire::TcpControl;

use super::traffic::scatter;
use crate::common::frames::*;
use crate::common::*;

const CLIENT: End = ("10.9.9.9", 40_000);
const VIP: End = ("203.0.113.10", 80);
const INSTANCE: End = ("198.51.100.7", 8080);
/// The sequence numbers that the client begins with, the second for good.
const FIRST: i32 = 100;
const SECOND: i32 = 2000;

/// Three times the one and twice the other, each by another queue, over half a second.
fn repeat(handling: Handling, workers: usize) -> Bench {
    let mut bench = Bench::new(workers);
    bench.set_service(0, Service { handling, overflow: Overflow::Rst, ..cold_service() });
    for (n, isn) in [FIRST, FIRST, FIRST, SECOND, SECOND].into_iter().enumerate() {
        scatter(&bench, n, WAN, &syn(CLIENT, VIP, isn));
        bench.run();
        bench.advance_ms(100);
    }
    assert_eq!(bench.wakes(), 1);
    let fates = bench.fates();
    assert_eq!((fates.held, fates.replaced, fates.still_held), (5, 4, 1));
    assert!(bench.sent(WAN).is_empty() && bench.sent(LAN).is_empty());
    bench
}

fn begun(bench: &Bench) -> u64 {
    bench.sum(|of| &of.service(ServiceId(0)).flows_begun)
}

/// One SYN has left, the latest; its repetition finds the same instance; the connection opens.
fn check_opened(mut bench: Bench) {
    let sent = bench.sent(LAN);
    assert_eq!(sent.len(), 1);
    let seen = read(&sent[0]);
    assert_eq!((seen.from, seen.to), (end(CLIENT), end(INSTANCE)));
    assert_eq!(seen.tcp, Some((TcpControl::Syn, SECOND, None)));
    for n in 0..3 {
        scatter(&bench, n, WAN, &syn(CLIENT, VIP, SECOND));
        bench.run();
        assert_eq!(read(&bench.sent(LAN)[0]).to, end(INSTANCE));
    }
    scatter(&bench, 1, LAN, &host_segment(INSTANCE, CLIENT, TcpControl::Syn, b""));
    bench.run();
    assert_eq!(read(&bench.sent(WAN)[0]).from, end(VIP));
    assert_eq!((begun(&bench), bench.sum(|of| &of.fates.flows)), (1, 1));
    assert_eq!(bench.fates().expired, 0);
    bench.check_laws();
}

#[test]
fn a_held_client_that_repeats_itself_gets_one_connection() {
    for workers in [1, 4] {
        let mut bench = repeat(Handling::Hold, workers);
        bench.make_ready(0);
        bench.run();
        check_opened(bench);
    }
}

#[test]
fn and_where_first_packets_are_passed_on_at_once() {
    for workers in [1, 4] {
        let mut bench = repeat(Handling::Forward, workers);
        let mut service = (**bench.tables.services.get(ServiceId(0)).unwrap()).clone();
        service.instances.push(instance(1, InstanceState::Starting));
        bench.set_service(0, service);
        bench.shared.slots.get(ServiceId(0)).set_handed(WakeId(1));
        bench.run();
        check_opened(bench);
    }
}

#[test]
fn and_where_handshakes_are_completed_here() {
    const THEIRS: i32 = 7000;
    for workers in [1, 4] {
        let mut bench = repeat(Handling::Splice, workers);
        let client = |control, ack, seq, data: &[u8]| {
            tcp_frame((CLIENT_MAC, WAN_MAC), CLIENT, VIP, control, ack, seq, data)
        };
        bench.shared.slots.get(ServiceId(0)).set_handed(WakeId(1));
        bench.run();
        let mut answers = bench.sent(WAN);
        // Each repetition has the same answer, and nothing is kept of it.
        for n in 0..3 {
            scatter(&bench, n, WAN, &syn(CLIENT, VIP, SECOND));
            bench.run();
            answers.extend(bench.sent(WAN));
        }
        let answers: Vec<_> = answers.iter().map(|frame| read(frame).tcp).collect();
        assert_eq!(answers.len(), 4);
        assert!(answers.iter().all(|answer| *answer == answers[0]), "{answers:?}");
        let Some((TcpControl::Syn, cookie, Some(acked))) = answers[0] else { panic!("{answers:?}") };
        assert_eq!((acked, bench.fates().still_held, begun(&bench)), (SECOND + 1, 0, 0));
        // What the client says behind that, it repeats as well.
        for n in 0..4 {
            let said = client(TcpControl::Psh, Some(cookie.wrapping_add(1)), SECOND + 1, b"hello");
            scatter(&bench, n, WAN, &said);
            bench.run();
        }
        let surplus = bench.drops(NodeId::Service, "splice-surplus");
        assert_eq!(bench.fates().still_held, 1);
        assert_eq!(bench.fates().held - bench.fates().replaced + surplus, 2 + surplus, "one of each");
        bench.make_ready(0);
        bench.run();
        let sent = bench.sent(LAN);
        assert_eq!(sent.len(), 1);
        assert_eq!(read(&sent[0]).tcp, Some((TcpControl::Syn, SECOND, None)));
        let accepts =
            tcp_frame((HOST_MAC, LAN_MAC), INSTANCE, CLIENT, TcpControl::Syn, Some(SECOND + 1), THEIRS, b"");
        for n in 0..2 {
            scatter(&bench, n, LAN, &accepts);
            bench.run();
        }
        let sent: Vec<_> = bench.sent(LAN).iter().map(|frame| read(frame)).collect();
        let said: Vec<_> = sent.iter().filter(|seen| !seen.data.is_empty()).collect();
        assert_eq!(said.len(), 1, "{sent:?}");
        assert_eq!(said[0].data, b"hello");
        assert_eq!((begun(&bench), bench.sum(|of| &of.fates.flows)), (1, 1));
        bench.check_laws();
    }
}
