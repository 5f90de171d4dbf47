//! The link to the orchestrator: before it, with it, after it.

use super::*;

#[test]
fn nothing_can_be_woken_before_the_placement_is_known() {
    let mut bench = Bench::cold(16);
    assert_eq!(bench.phase(), Phase::Bypass);
    assert_eq!(bench.shared.slots.get(ServiceId(1)).load().0, Phase::Ready, "backends need no orchestrator");
    bench.turn();
    assert_eq!(bench.phase(), Phase::Bypass);
    assert_eq!(bench.ups(), [Up::Resync]);
    bench.snapshot(vec![]);
    bench.turn();
    assert_eq!(bench.phase(), Phase::Cold);
}

#[test]
fn what_was_applied_is_reported_when_every_worker_works_by_it() {
    let mut bench = Bench::new();
    bench.follow = false;
    bench.delta(vec![instance(1, InstanceState::Starting)], None);
    bench.turn();
    bench.turn();
    assert_eq!(bench.ups(), []);
    bench.take_up();
    bench.turn();
    let digest = bench.control.orchestrator.view().digest();
    assert_eq!(bench.ups(), [Up::Applied { generation: Placed(2), digest }]);
    bench.turn();
    assert_eq!(bench.ups(), [], "once");
}

#[test]
fn a_gap_changes_nothing_and_asks_for_a_snapshot() {
    let mut bench = Bench::new();
    bench.generation += 1;
    bench.delta(vec![instance(1, InstanceState::Ready)], None);
    bench.delta(vec![instance(2, InstanceState::Ready)], None);
    let before = bench.shared.tables().generation;
    bench.turn();
    bench.turn();
    assert_eq!(bench.ups(), [Up::Resync]);
    assert_eq!(bench.shared.tables().generation, before);
    assert_eq!(bench.control.link_counters().gaps, 1);
    bench.snapshot(vec![instance(3, InstanceState::Ready)]);
    bench.turn();
    let instances = bench.shared.tables().services.get(HELLO).unwrap().instances.clone();
    assert_eq!(instances.iter().map(|one| one.id).collect::<Vec<_>>(), [3]);
}

#[test]
fn an_unanswered_question_for_a_snapshot_is_asked_again() {
    let mut bench = Bench::cold(16);
    bench.turn();
    bench.turn_at(500);
    assert_eq!(bench.ups().len(), 1);
    bench.turn_at(500);
    assert_eq!(bench.ups(), [Up::Resync]);
}

#[test]
fn without_the_orchestrator_ready_services_stay_and_cold_ones_are_passed_by() {
    let mut bench = Bench::new();
    bench.ready();
    bench.orchestrator = None;
    bench.turn_at(5000);
    assert_eq!(bench.phase(), Phase::Ready);

    let mut bench = Bench::new();
    bench.orchestrator = None;
    bench.turn();
    assert_eq!(bench.phase(), Phase::Bypass);
    assert_eq!(bench.first_packet(0), None);
}

#[test]
fn a_wake_that_the_orchestrator_took_with_it_ends_when_its_packets_have() {
    let mut bench = Bench::new();
    bench.first_packet(0).unwrap();
    bench.turn();
    bench.orchestrator = None;
    bench.turn_at(898);
    assert_eq!(bench.phase(), Phase::Waking);
    bench.turn_at(2);
    assert_eq!(bench.phase(), Phase::Bypass);
    let wake = bench.control.journal().iter().last().unwrap().clone();
    assert_eq!(wake.reason, "the orchestrator link is down");
}

#[test]
fn a_first_packet_in_the_queue_when_the_link_goes_is_called_off() {
    let mut bench = Bench::new();
    let wake = bench.first_packet(0).unwrap();
    bench.orchestrator = None;
    bench.turn();
    assert!(!bench.slot().is_handed(wake));
    assert_eq!(bench.phase(), Phase::Bypass);
    assert_eq!(bench.shared.workers[0].wakes_returned.get(), 1, "it costs the worker nothing");
}

#[test]
fn a_first_packet_is_handed_over_while_a_snapshot_is_under_way() {
    let mut bench = Bench::new();
    bench.generation += 1;
    bench.delta(vec![], None);
    bench.turn();
    assert!(!bench.control.orchestrator.is_in_step());
    let wake = bench.first_packet(0).unwrap();
    bench.turn();
    assert!(bench.slot().is_handed(wake));
    assert_eq!(bench.notices().len(), 1);
    assert_eq!(bench.control.counters().wakes_cancelled, 0);
    bench.snapshot(vec![instance(1, InstanceState::Ready)]);
    bench.turn();
    bench.node_answers();
    bench.turn();
    bench.turn();
    assert_eq!(bench.slot().load(), (Phase::Ready, wake));
}

#[test]
fn a_full_link_calls_the_wake_off_and_never_leaves_it_waking() {
    let mut bench = Bench::cold(1);
    bench.turn();
    bench.ups();
    bench.snapshot(vec![]);
    bench.turn();
    // The report of what was applied fills the link.
    let wake = bench.first_packet(0).unwrap();
    bench.turn();
    assert!(!bench.slot().is_handed(wake));
    assert_eq!(bench.phase(), Phase::Cold);
    assert_eq!(bench.control.link_counters().refused_full, 1);
    bench.ups();
    let wake = bench.first_packet(0).expect("it can be had again");
    bench.turn();
    assert!(bench.slot().is_handed(wake));
    assert_eq!(bench.notices().len(), 1);
}
