//! What opens a request while nothing runs: wakes, holds, release, and every way out.

use crate::common::frames::*;
use crate::common::*;
use millrace_fastpath::event::{Event, Milestone, Trigger};
use millrace_fastpath::node::NodeId;
use millrace_fastpath::queue::EVENTS_MAX;
use millrace_fastpath::slots::{Escalation, Phase, WakeId};
use millrace_fastpath::tables::services::*;
use millrace_fastpath::worker::WorkerLimits;
use smoltcp::wire::TcpControl;

const CLIENT: End = ("10.9.9.9", 40_000);
const VIP: End = ("203.0.113.10", 80);
const VIP6: End = ("2001:db8:f::10", 80);

fn cold_bench(service: Service) -> Bench {
    let mut bench = Bench::new(1);
    bench.set_service(0, service);
    bench
}

#[test]
fn a_cold_syn_is_held_notified_once_and_released_when_ready() {
    let mut bench = cold_bench(cold_service());
    bench.deliver_and_run(WAN, &syn(CLIENT, VIP, 100));
    bench.deliver_and_run(WAN, &syn(("2001:db8:9::9", 1), VIP6, 100));
    assert!(bench.sent(LAN).is_empty());
    let events = bench.events();
    let Event::FirstPacket { service, wake, trigger, fields, .. } = events[0] else { panic!("{events:?}") };
    assert_eq!((service, wake, trigger), (ServiceId(0), WakeId(1), Trigger::Syn));
    assert_eq!((fields.source, fields.destination, fields.protocol), (addr(CLIENT.0), addr(VIP.0), 6));
    assert_eq!((fields.source_mac, fields.destination_mac, fields.length), (CLIENT_MAC, WAN_MAC, 44));
    assert!(matches!(events[1], Event::Milestone { what: Milestone::Held, .. }));
    assert_eq!(events.len(), 2, "one notification, one milestone, however many packets");

    bench.advance_ms(5);
    bench.make_ready(0);
    bench.run();
    let sent = bench.sent(LAN);
    let seen: Vec<_> = sent.iter().map(|frame| read(frame)).collect();
    assert_eq!(seen[0].from, end(CLIENT), "oldest first");
    assert_eq!(seen[0].tcp, Some((TcpControl::Syn, 100, None)));
    assert_eq!(seen[1].to, end(("2001:db8:1::7", 8080)));
    assert!(matches!(
        bench.events()[..],
        [Event::Milestone { what: Milestone::Released, wake: WakeId(1), .. }]
    ));
    // The connection goes on as any other.
    bench.deliver_and_run(LAN, &host_segment(("198.51.100.7", 8080), CLIENT, TcpControl::Syn, b""));
    assert_eq!(read(&bench.sent(WAN)[0]).from, end(VIP));
    let fates = bench.fates();
    assert_eq!((fates.held, fates.released, fates.still_held, fates.release_sent), (2, 2, 0, 2));
    bench.check_laws();
}

#[test]
fn a_repeated_syn_replaces_the_held_one_and_one_connection_comes_of_it() {
    let mut bench = cold_bench(cold_service());
    for _ in 0..3 {
        bench.deliver_and_run(WAN, &syn(CLIENT, VIP, 100));
    }
    assert_eq!(bench.wakes(), 1);
    bench.make_ready(0);
    bench.run();
    assert_eq!(bench.sent(LAN).len(), 1);
    let fates = bench.fates();
    assert_eq!((fates.held, fates.replaced, fates.released), (3, 2, 1));
    bench.check_laws();
}

#[test]
fn each_overflow_action_takes_effect_at_the_deadline_and_not_before() {
    let fallback =
        Instance { addresses: [Some(addr("198.51.100.7")), None], ..instance(0, InstanceState::Ready) };
    for overflow in [Overflow::Upstream, Overflow::Fallback, Overflow::Rst, Overflow::Drop] {
        let service = Service { overflow, instances: vec![fallback.clone()], ..cold_service() };
        let mut bench = cold_bench(service);
        bench.deliver_and_run(WAN, &syn(CLIENT, VIP, 100));
        bench.advance_ms(899);
        bench.run();
        assert_eq!(bench.fates().still_held, 1, "{overflow:?}");
        bench.advance_ms(1);
        bench.run();
        let (wan, lan) = (bench.sent(WAN), bench.sent(LAN));
        match overflow {
            Overflow::Upstream => {
                let seen = read(&wan[0]);
                assert_eq!((seen.to, seen.tcp), (end(VIP), Some((TcpControl::Syn, 100, None))));
            }
            Overflow::Fallback => assert_eq!(read(&lan[0]).to, end(("198.51.100.7", 8080))),
            Overflow::Rst => {
                let seen = read(&wan[0]);
                assert_eq!((seen.from, seen.to), (end(VIP), end(CLIENT)));
                assert_eq!(seen.tcp, Some((TcpControl::Rst, 0, Some(101))));
                assert_eq!(seen.macs, (WAN_MAC, CLIENT_MAC));
            }
            Overflow::Drop => assert_eq!(bench.drops(NodeId::Service, "hold-expired"), 1),
        }
        assert_eq!(wan.len() + lan.len(), usize::from(overflow != Overflow::Drop), "{overflow:?}");
        assert_eq!(bench.fates().expired, 1);
        bench.check_laws();
    }
}

#[test]
fn no_orchestrator_means_the_overflow_action_at_once() {
    for phase in [Phase::Bypass, Phase::Quarantined] {
        let mut bench = cold_bench(Service { overflow: Overflow::Rst, ..cold_service() });
        bench.set_phase(0, phase);
        bench.deliver_and_run(WAN, &syn(CLIENT, VIP, 7));
        assert_eq!(read(&bench.sent(WAN)[0]).tcp, Some((TcpControl::Rst, 0, Some(8))));
        assert_eq!((bench.wakes(), bench.fates().held, bench.fates().answered), (0, 0, 1));
        bench.check_laws();
    }
}

#[test]
fn forwarding_at_once_waits_for_the_hand_over_and_for_an_address_that_is_bound() {
    let mut bench = cold_bench(Service { handling: Handling::Forward, ..cold_service() });
    bench.deliver_and_run(WAN, &syn(CLIENT, VIP, 100));
    let mut service = (**bench.tables.services.get(ServiceId(0)).unwrap()).clone();
    service.instances.push(instance(1, InstanceState::Starting));
    bench.set_service(0, service);
    bench.run();
    assert!(bench.sent(LAN).is_empty(), "an address, but the notification hasn't been handed over");
    bench.shared.slots.get(ServiceId(0)).set_handed(WakeId(1));
    bench.run();
    assert_eq!(bench.sent(LAN).len(), 1, "handed over and bound: passed on, though nothing is ready");
    bench.deliver_and_run(WAN, &syn(("10.9.9.9", 40_001), VIP, 1));
    assert_eq!(bench.sent(LAN).len(), 1, "and so is what comes next");
    bench.check_laws();
}

#[test]
fn holding_waits_for_readiness_even_when_an_instance_is_bound() {
    let mut bench = cold_bench(cold_service());
    bench.deliver_and_run(WAN, &syn(CLIENT, VIP, 100));
    bench.shared.slots.get(ServiceId(0)).set_handed(WakeId(1));
    let mut service = (**bench.tables.services.get(ServiceId(0)).unwrap()).clone();
    service.instances.push(instance(1, InstanceState::Starting));
    bench.set_service(0, service);
    bench.run();
    assert!(bench.sent(LAN).is_empty());
    bench.check_laws();
}

#[test]
fn release_is_paced_in_order_and_complete() {
    let mut bench = Bench::with_limits(
        1,
        &WorkerLimits { flows: 1024, holds: 1024, holds_per_prefix: 1024, ..WorkerLimits::default() },
    );
    bench.set_service(0, Service { hold_packets_max: 1024, ..cold_service() });
    for port in 0..500u16 {
        bench.deliver(WAN, &syn(("10.9.9.9", 1000 + port), VIP, 1));
    }
    bench.run();
    bench.make_ready(0);
    let mut order = Vec::new();
    let mut turns = 0;
    while order.len() < 500 {
        bench.run();
        let sent = bench.sent(LAN);
        assert!(sent.len() <= 64, "a millisecond's share: {}", sent.len());
        order.extend(sent.iter().map(|frame| read(frame).from.1));
        bench.advance_ms(1);
        turns += 1;
    }
    assert_eq!(turns, 500usize.div_ceil(64));
    assert_eq!(order, (1000..1500).collect::<Vec<u16>>());
    bench.check_laws();
}

#[test]
fn a_release_that_finds_no_frame_costs_nothing_of_the_turn() {
    let mut bench = cold_bench(cold_service());
    for port in 0..200 {
        bench.deliver_and_run(WAN, &syn(("10.9.9.9", 1000 + port), VIP, 1));
    }
    while bench.net.deliver(WAN, 0, &client_udp(CLIENT, ("198.51.100.7", 9), b"")) {
        bench.run();
    }
    bench.make_ready(0);
    for _ in 0..100 {
        bench.workers[0].poll();
    }
    assert_eq!(bench.fates().released, 0, "the pool is empty");
    bench.sent(LAN);
    bench.run();
    assert_eq!(bench.sent(LAN).len(), 64);
    bench.check_laws();
}

#[test]
fn a_service_can_hold_its_share_and_no_more() {
    let mut bench = cold_bench(Service { hold_packets_max: 4, ..cold_service() });
    for port in 0..6 {
        bench.deliver(WAN, &syn(("10.9.9.9", 1000 + port), VIP, 1));
    }
    bench.run();
    assert_eq!((bench.fates().still_held, bench.drops(NodeId::Service, "hold-service-full")), (4, 2));
    bench.check_laws();
}

#[test]
fn a_full_event_queue_never_leaves_a_service_waking() {
    let mut bench = cold_bench(cold_service());
    let fill = Event::Milestone {
        service: ServiceId(9),
        wake: WakeId(1),
        what: Milestone::Held,
        at: Default::default(),
    };
    for _ in 0..EVENTS_MAX {
        bench.shared.workers[0].queues.events.push(fill).unwrap();
    }
    bench.deliver_and_run(WAN, &syn(CLIENT, VIP, 100));
    assert_eq!(bench.shared.slots.get(ServiceId(0)).load().0, Phase::Cold);
    assert!(bench.fates().held == 1 && bench.shared.workers[0].counters.fates.events_lost.get() > 0);
    bench.events();
    bench.advance_ms(1);
    bench.run();
    assert_eq!(bench.wakes(), 1, "the held packet asks again as soon as there is room");
    bench.make_ready(0);
    bench.run();
    assert_eq!(bench.sent(LAN).len(), 1);
    bench.check_laws();
}

#[test]
fn a_wake_that_failed_is_begun_again_for_those_who_wait() {
    let mut bench = cold_bench(cold_service());
    bench.deliver_and_run(WAN, &syn(CLIENT, VIP, 100));
    assert_eq!(bench.wakes(), 1);
    assert!(bench.shared.slots.get(ServiceId(0)).cancel_wake(WakeId(1)));
    bench.advance_ms(1);
    bench.run();
    assert_eq!(bench.wakes(), 1);
    assert_eq!(bench.shared.slots.get(ServiceId(0)).load(), (Phase::Waking, WakeId(2)));
    bench.check_laws();
}

#[test]
fn a_wake_that_was_told_and_failed_is_not_begun_again_by_who_waits() {
    let mut bench = cold_bench(cold_service());
    bench.deliver_and_run(WAN, &syn(CLIENT, VIP, 100));
    let slot = bench.shared.slots.get(ServiceId(0));
    slot.set_handed(WakeId(1));
    assert!(slot.cancel_wake(WakeId(1)));
    bench.events();
    for _ in 0..20 {
        bench.advance_ms(1);
        bench.run();
    }
    assert_eq!(bench.wakes(), 0, "one client's packet doesn't hammer at what has just failed");
    bench.deliver_and_run(WAN, &syn(("10.9.9.9", 40_001), VIP, 1));
    assert_eq!(bench.wakes(), 1, "the next client may ask");
    bench.check_laws();
}

#[test]
fn who_waits_for_what_never_comes_stands_in_nobodys_way() {
    let mut bench = cold_bench(cold_service());
    bench.deliver_and_run(WAN, &syn(("2001:db8:9::9", 1), VIP6, 1));
    bench.deliver_and_run(WAN, &syn(CLIENT, VIP, 1));
    let mut service = (**bench.tables.services.get(ServiceId(0)).unwrap()).clone();
    service.instances.push(Instance {
        addresses: [Some(addr("198.51.100.7")), None],
        ..instance(1, InstanceState::Ready)
    });
    bench.set_service(0, service);
    bench.set_phase(0, Phase::Ready);
    bench.run();
    let sent = bench.sent(LAN);
    assert_eq!(sent.len(), 1, "the one that can go");
    assert_eq!(read(&sent[0]).from, end(CLIENT));
    bench.deliver_and_run(WAN, &syn(("2001:db8:9::9", 2), VIP6, 1));
    assert_eq!(bench.fates().still_held, 1, "the next of that family isn't even held");
    bench.check_laws();
}

#[test]
fn spoofed_floods_buy_one_wake_per_service_and_leave_buffers_free() {
    let limits = WorkerLimits { flows: 64, holds: 128, holds_per_prefix: 32, ..WorkerLimits::default() };
    let mut bench = Bench::with_limits(1, &limits);
    for id in 0..4 {
        bench.set_service(id, cold_service());
    }
    for n in 0..20_000u32 {
        let source = format!("10.{}.{}.{}", n / 40_000 + 1, (n / 200) % 200, n % 200 + 1);
        let vip = ("203.0.113.10", 80 + 1000 * (n % 4) as u16);
        bench.deliver_and_run(WAN, &syn((&source, (n % 60_000) as u16 + 1), vip, n as i32));
        assert!(bench.net.free_frames() > bench.frames / 2);
    }
    assert_eq!(bench.wakes(), 4);
    assert_eq!(bench.fates().still_held, 128);
    bench.check_laws();
}

#[test]
fn at_the_end_everything_held_takes_its_way_out() {
    let mut bench = cold_bench(Service { overflow: Overflow::Rst, ..cold_service() });
    for port in 0..40 {
        bench.deliver(WAN, &syn(("10.9.9.9", 1000 + port), VIP, 1));
    }
    bench.run();
    let stop = std::sync::atomic::AtomicBool::new(true);
    for worker in bench.workers.drain(..) {
        worker.run(&stop);
    }
    assert_eq!(bench.sent(WAN).len(), 40);
    assert_eq!(bench.shared.oldest_epoch().0, u64::MAX, "and no snapshot is held back");
    bench.check_laws();
}

#[test]
fn after_a_strike_a_datagram_has_to_be_repeated_as_well() {
    let udp = ("203.0.113.10", 443);
    let mut bench = cold_bench(cold_service());
    bench.shared.slots.get(ServiceId(0)).set_strikes(1, Escalation::SecondPacket);
    for port in 0..100 {
        bench.deliver_and_run(WAN, &client_udp(("10.9.9.9", 1000 + port), udp, b"hello"));
        bench.deliver_and_run(WAN, &syn(("10.9.9.9", 1000 + port), VIP, 100));
    }
    for _ in 0..20 {
        bench.advance_ms(1);
        bench.run();
    }
    assert_eq!((bench.wakes(), bench.fates().still_held), (0, 200), "who is held doesn't ask by himself");
    bench.deliver_and_run(WAN, &client_udp(("10.9.9.9", 1000), udp, b"hello?"));
    assert_eq!(bench.wakes(), 1);
    bench.check_laws();
    // What the configuration asks for, it asks of SYNs.
    let mut bench = cold_bench(Service { verify: Verify::SecondSyn, ..cold_service() });
    bench.deliver_and_run(WAN, &client_udp(CLIENT, udp, b"hello"));
    assert_eq!(bench.wakes(), 1);
    bench.check_laws();
}

#[test]
fn a_handshake_is_established_when_its_client_has_heard_the_answer() {
    let mut bench = cold_bench(fixed_service());
    let counts = |bench: &Bench| {
        let activity = bench.shared.workers[0].counters.service(ServiceId(0));
        (activity.flows_begun.get(), activity.flows_established.get())
    };
    let answer = host_segment(("198.51.100.7", 8080), CLIENT, TcpControl::Syn, b"");
    bench.deliver_and_run(WAN, &syn(CLIENT, VIP, 1));
    bench.deliver_and_run(LAN, &answer);
    bench.deliver_and_run(LAN, &answer);
    bench.deliver_and_run(WAN, &syn(CLIENT, VIP, 1));
    assert_eq!(counts(&bench), (1, 0), "what a forged source gets as far as");
    for _ in 0..3 {
        bench.deliver_and_run(WAN, &segment(CLIENT, VIP, b""));
        bench.deliver_and_run(LAN, &host_segment(("198.51.100.7", 8080), CLIENT, TcpControl::Psh, b"200 OK"));
    }
    assert_eq!(counts(&bench), (1, 1));
    bench.deliver_and_run(WAN, &client_udp(CLIENT, ("203.0.113.10", 443), b"hello"));
    assert_eq!(counts(&bench), (2, 1));
    for _ in 0..2 {
        let answer = udp((HOST_MAC, LAN_MAC), ("198.51.100.7", 8080), CLIENT, b"hello");
        bench.deliver_and_run(LAN, &answer);
    }
    assert_eq!(counts(&bench), (2, 1), "nor does an answered datagram tell whose it was");
    bench.deliver_and_run(WAN, &client_udp(CLIENT, ("203.0.113.10", 443), b"hello?"));
    assert_eq!(counts(&bench), (2, 2));
    bench.check_laws();
}

/// Clients ask again after a second, which is longer than they are held otherwise.
#[test]
fn who_must_ask_twice_is_held_until_it_does_and_then_as_long_as_everybody() {
    let mut bench = cold_bench(Service { verify: Verify::SecondSyn, ..cold_service() });
    let let_pass = |bench: &mut Bench, ms: u64| {
        for _ in 0..ms {
            bench.advance_ms(1);
            bench.run();
        }
    };
    bench.deliver_and_run(WAN, &syn(CLIENT, VIP, 100));
    let_pass(&mut bench, 1050);
    assert_eq!((bench.wakes(), bench.fates().still_held), (0, 1));
    bench.deliver_and_run(WAN, &syn(CLIENT, VIP, 100));
    assert_eq!(bench.wakes(), 1);
    let_pass(&mut bench, 850);
    assert_eq!((bench.fates().still_held, bench.fates().replaced), (1, 1));
    let_pass(&mut bench, 350);
    assert_eq!((bench.fates().still_held, bench.fates().expired), (0, 1), "but not for ever");
    bench.check_laws();
}

#[test]
fn a_client_that_must_ask_twice_wakes_with_the_second_syn_of_the_same_connection() {
    let mut bench = cold_bench(Service { verify: Verify::SecondSyn, ..cold_service() });
    bench.deliver_and_run(WAN, &syn(CLIENT, VIP, 100));
    for _ in 0..20 {
        bench.advance_ms(1);
        bench.run();
    }
    bench.deliver_and_run(WAN, &syn(("10.9.9.9", 40_001), VIP, 100));
    bench.deliver_and_run(WAN, &syn(CLIENT, VIP, 101));
    assert_eq!(
        (bench.wakes(), bench.fates().still_held),
        (0, 2),
        "each was heard once, as far as anybody can tell"
    );
    bench.deliver_and_run(WAN, &syn(CLIENT, VIP, 101));
    assert_eq!(bench.wakes(), 1);
    bench.make_ready(0);
    bench.run();
    assert_eq!(bench.sent(LAN).len(), 2, "who had asked once profits");
    bench.check_laws();
}
