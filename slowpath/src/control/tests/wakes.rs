//! From a first packet to an instance, and to its end.

use super::*;

#[test]
fn a_first_packet_is_handed_over_before_its_slot_says_so() {
    let mut bench = Bench::new();
    let wake = bench.first_packet(1).unwrap();
    assert!(!bench.slot().is_handed(wake));
    bench.turn();
    assert!(bench.slot().is_handed(wake));
    let notices = bench.notices();
    let [notice] = &notices[..] else { panic!("{notices:?}") };
    assert_eq!((notice.site.as_str(), notice.boot, notice.sequence), ("edge-42", 7, 1));
    assert_eq!((notice.service.as_str(), notice.function_class.as_str()), ("hello", "hello"));
    assert_eq!((notice.ingress_port.as_str(), notice.vlan), ("wan", None));
    let dns = notice.dns.as_ref().unwrap();
    assert_eq!(dns.kind, 28);
    assert_eq!(dns.names, ["hello.fn.example.", "hi.fn.example."], "all names lead to the one function");
    assert_eq!(bench.phase(), Phase::Waking);
}

#[test]
fn readiness_comes_after_tables_and_neighbour() {
    let mut bench = Bench::new();
    bench.follow = false;
    bench.first_packet(0).unwrap();
    bench.turn();
    bench.sent();
    bench.delta(vec![instance(1, InstanceState::Ready)], None);
    bench.turn();
    let tables = bench.shared.tables();
    assert_eq!(tables.services.get(HELLO).unwrap().instances.len(), 1, "published at once");
    assert_eq!(bench.phase(), Phase::Waking, "the neighbour isn't known");
    assert_eq!(bench.sent().len(), 1, "it is asked for");
    bench.node_answers();
    bench.turn();
    assert_eq!(bench.shared.tables().neighbours.get(LAN, addr(NODE)), Some(PEER_MAC));
    bench.shared.set_epoch(0, bench.shared.tables().generation);
    bench.turn();
    assert_eq!(bench.phase(), Phase::Waking, "worker 1 still works by older tables");
    bench.take_up();
    bench.turn();
    assert_eq!(bench.phase(), Phase::Ready);
    assert_eq!(bench.control.counters().wakes_ready, 1);
}

#[test]
fn readiness_waits_for_a_silent_neighbour_or_a_stuck_worker_only_so_long() {
    let mut bench = Bench::new();
    bench.follow = false;
    bench.first_packet(0).unwrap();
    bench.turn();
    bench.delta(vec![instance(1, InstanceState::Ready)], None);
    bench.turn();
    bench.turn_at(19);
    assert_eq!(bench.phase(), Phase::Waking);
    bench.turn_at(1);
    assert_eq!(bench.phase(), Phase::Waking);
    bench.turn_at(2);
    assert_eq!(bench.phase(), Phase::Ready);
}

#[test]
fn an_instance_that_starts_is_in_the_tables_and_its_neighbour_asked_for() {
    let mut bench = Bench::new();
    bench.first_packet(0).unwrap();
    bench.turn();
    bench.sent();
    bench.delta(vec![instance(1, InstanceState::Starting)], None);
    bench.turn();
    assert_eq!(bench.shared.tables().services.get(HELLO).unwrap().instances.len(), 1);
    assert_eq!(bench.sent().len(), 1);
    assert_eq!(bench.phase(), Phase::Waking);
    bench.node_answers();
    bench.delta(vec![instance(1, InstanceState::Ready)], None);
    bench.turn();
    bench.turn();
    assert_eq!(bench.phase(), Phase::Ready, "nothing to wait for any more");
}

#[test]
fn a_failed_wake_can_be_tried_again_until_there_were_too_many() {
    let mut bench = Bench::new();
    for strike in 1..=STRIKES_MAX {
        bench.first_packet(0).expect("cold");
        bench.turn();
        let sequence = bench.notices()[0].sequence;
        bench.delta(vec![], Some(failure(sequence)));
        bench.turn();
        let expected = if strike < STRIKES_MAX { Phase::Cold } else { Phase::Quarantined };
        assert_eq!(bench.phase(), expected, "strike {strike}");
    }
    assert_eq!(bench.control.journal().iter().last().unwrap().reason, "no room");
    bench.turn_at(60_000);
    bench.turn_at(200);
    assert_eq!(bench.phase(), Phase::Cold);
}

#[test]
fn an_old_failure_does_not_end_a_new_wake() {
    let mut bench = Bench::new();
    bench.delta(vec![], Some(ServiceFailure { notices: vec![], reason: "no room".into() }));
    bench.turn();
    bench.first_packet(0).unwrap();
    bench.turn();
    bench.delta(vec![], Some(ServiceFailure { notices: vec![], reason: "still no room".into() }));
    bench.turn();
    assert_eq!(bench.phase(), Phase::Waking);
}

#[test]
fn a_late_failure_ends_only_the_wake_whose_notice_it_answers() {
    let mut bench = Bench::new();
    bench.first_packet(0).unwrap();
    bench.turn();
    bench.turn_at(10_000);
    assert_eq!(bench.phase(), Phase::Cold, "given up here, not yet there");
    let wake = bench.first_packet(0).unwrap();
    bench.turn();
    bench.delta(vec![], Some(failure(1)));
    bench.turn();
    assert_eq!(bench.slot().load(), (Phase::Waking, wake), "of the first wake");
    let foreign = NoticeId { site: "edge-7".into(), boot: 7, sequence: 2 };
    bench.delta(vec![], Some(ServiceFailure { notices: vec![foreign], reason: "no room".into() }));
    bench.turn();
    assert_eq!(bench.slot().load(), (Phase::Waking, wake), "of another site's");
    bench.delta(vec![], Some(failure(2)));
    bench.turn();
    assert_eq!(bench.slot().load(), (Phase::Cold, wake));
    assert_eq!(bench.control.counters().wakes_failed, 2);
}

#[test]
fn a_notice_that_nothing_comes_of_is_given_up() {
    let mut bench = Bench::new();
    bench.first_packet(0).unwrap();
    bench.turn();
    bench.turn_at(9990);
    assert_eq!(bench.phase(), Phase::Waking);
    bench.turn_at(20);
    assert_eq!(bench.phase(), Phase::Cold);
}

#[test]
fn a_service_whose_instances_are_gone_is_cold_again() {
    let mut bench = Bench::new();
    bench.ready();
    bench.delta(vec![instance(1, InstanceState::Draining)], None);
    bench.turn();
    assert_eq!(bench.phase(), Phase::Cold, "a new flow needs a new instance");
    assert_eq!(
        bench.shared.tables().services.get(HELLO).unwrap().instances.len(),
        1,
        "old flows keep theirs"
    );
    bench.delta(vec![], None);
    bench.turn();
    assert!(bench.shared.tables().services.get(HELLO).unwrap().instances.is_empty());
}

#[test]
fn an_unused_service_is_reported_idle_and_one_in_use_is_not() {
    let mut bench = Bench::new();
    bench.ready();
    let flows = |bench: &Bench, count| bench.shared.workers[1].counters.service(HELLO).flows.set(count);
    flows(&bench, 1);
    bench.turn_at(200_000);
    assert_eq!(bench.phase(), Phase::Ready);
    flows(&bench, 0);
    let activity = bench.shared.workers[0].counters.service(HELLO);
    activity.last_nanos.set(bench.now.0);
    bench.turn_at(119_000);
    assert_eq!(bench.phase(), Phase::Ready);
    bench.turn_at(1000);
    assert_eq!(bench.phase(), Phase::Draining);
    let generation = Placed(bench.generation);
    assert_eq!(bench.ups().last(), Some(&Up::Idle(Idle { service: "hello".into(), generation })));

    flows(&bench, 1);
    bench.turn_at(100);
    assert_eq!(bench.phase(), Phase::Ready, "somebody came");
    flows(&bench, 0);
    bench.turn_at(120_000);
    assert_eq!(bench.phase(), Phase::Draining);
    bench.turn_at(1000);
    assert_eq!(bench.phase(), Phase::Ready, "the orchestrator keeps it");
    bench.turn_at(120_000);
    bench.delta(vec![], None);
    bench.turn();
    assert_eq!(bench.phase(), Phase::Cold);
}

#[test]
fn the_journal_has_every_point_of_a_wake() {
    let mut bench = Bench::new();
    let wake = bench.first_packet(0).unwrap();
    let seen = bench.now;
    let point = |bench: &Bench, what| {
        let event = Event::Milestone { service: HELLO, wake, what, at: bench.now };
        bench.shared.workers[1].queues.events.push(event).unwrap();
    };
    bench.turn();
    let handed = bench.now;
    point(&bench, Milestone::Answered);
    point(&bench, Milestone::Held);
    bench.down(Down::Acknowledge { sequence: 1 });
    bench.turn_at(1);
    let acknowledged = bench.now;
    bench.delta(vec![instance(1, InstanceState::Ready)], None);
    bench.turn_at(5);
    bench.node_answers();
    bench.turn();
    bench.turn();
    let ready = bench.now;
    point(&bench, Milestone::Released);
    bench.turn();
    let entry = bench.control.journal().iter().last().unwrap();
    assert_eq!((entry.service, entry.wake, entry.sequence), (HELLO, wake, 1));
    assert_eq!(
        (entry.seen, entry.handed, entry.acknowledged),
        (Some(seen), Some(handed), Some(acknowledged))
    );
    assert_eq!((entry.answered, entry.held), (Some(handed), Some(handed)));
    assert_eq!((entry.ready, entry.released), (Some(ready), Some(ready)));
    assert_eq!((entry.expired, entry.failed), (None, None));
}

/// Seconds after readiness at which the service is reported idle, and how many wakes were unused by then.
fn idle_after(trigger: Trigger, mut each_second: impl FnMut(&Bench, u64)) -> (u64, u64) {
    let mut bench = Bench::new();
    bench.ready_by(trigger);
    for second in 1..=400 {
        each_second(&bench, second);
        bench.turn_at(1000);
        if bench.ups().iter().any(|up| matches!(up, Up::Idle(_))) {
            return (second, bench.control.counters().wakes_unused);
        }
    }
    panic!("never");
}

#[test]
fn a_query_that_no_connection_follows_is_a_false_start_and_reaped_sooner() {
    let query = Trigger::Dns { query_type: 1 };
    // Twice the zone's time to live, where `idle_reap_seconds` is 120.
    assert_eq!(idle_after(query, |_, _| {}), (60, 1));
    assert_eq!(idle_after(Trigger::Syn, |_, _| {}), (120, 0));
    let counters = |bench: &Bench| bench.shared.workers[1].counters.service(HELLO).last_nanos.get();
    // More queries are no use.
    let again = |bench: &Bench, _| {
        bench.shared.workers[1].counters.service(HELLO).last_nanos.set(bench.now.0);
        assert!(counters(bench) > 0);
    };
    assert_eq!(idle_after(query, again), (60, 1));
    // One flow is, also one that is over.
    let used = |bench: &Bench, second| {
        let activity = bench.shared.workers[1].counters.service(HELLO);
        if second == 30 {
            activity.flows_begun.add(1);
            activity.last_nanos.set(bench.now.0);
        }
    };
    assert_eq!(idle_after(query, used), (149, 0));
}
