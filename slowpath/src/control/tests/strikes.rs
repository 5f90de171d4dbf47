//! What wakes led to, and what the next ones are asked for.

use millrace_fastpath::slots::Escalation;
use millrace_orchestrator_api as api;

use super::*;

impl Bench {
    /// Time passes in steps as the loop's scans come.
    fn pass_ms(&mut self, ms: u64) {
        for _ in 0..ms.div_ceil(100) {
            self.turn_at(100);
        }
    }

    fn strikes(&self) -> (u32, Escalation) {
        (self.slot().strikes(), self.slot().escalation())
    }

    fn activity(&self) -> &millrace_fastpath::counters::ServiceActivity {
        self.shared.workers[1].counters.service(HELLO)
    }

    /// The instance goes.
    fn gone(&mut self) {
        self.delta(vec![], None);
        self.turn();
    }

    /// A worker saw a new triple while an instance served.
    fn arrival(&mut self) {
        let fields = PacketFields { protocol: 253, length: 50, ..first_fields() };
        self.tell(0, Event::Arrival { service: HELLO, trigger: Trigger::Flow, at: self.now, fields });
        self.turn();
    }
}

#[test]
fn an_instance_that_nobody_shakes_hands_with_is_a_strike_after_two_seconds() {
    for trigger in [Trigger::Syn, Trigger::Flow] {
        let mut bench = Bench::new();
        bench.ready_by(trigger);
        // Forged sources begin flows, and get no further.
        bench.activity().flows_begun.add(100);
        bench.pass_ms(1900);
        assert_eq!(
            (bench.strikes(), bench.control.counters().wakes_unproductive),
            ((0, Escalation::None), 0)
        );
        bench.pass_ms(300);
        assert_eq!(bench.strikes(), (1, Escalation::SecondPacket), "{trigger:?}");
        bench.pass_ms(10_000);
        assert_eq!((bench.strikes().0, bench.control.counters().wakes_unproductive), (1, 1), "once");
        let wake = bench.control.journal().iter().last().unwrap();
        assert_eq!((wake.reason.as_str(), wake.trigger), ("nobody completed a handshake", Some(trigger)));
        assert!(wake.ready < wake.failed);
        assert_eq!(bench.phase(), Phase::Ready, "it serves whoever comes");
        bench.activity().flows_established.add(1);
        bench.pass_ms(100);
        assert_eq!(bench.strikes(), (0, Escalation::None), "and who comes makes good for it");
    }
}

#[test]
fn a_wake_that_somebody_came_of_is_none() {
    let mut bench = Bench::new();
    // Those of earlier wakes prove nothing.
    bench.activity().flows_established.add(7);
    bench.ready();
    bench.pass_ms(1500);
    bench.activity().flows_established.add(1);
    bench.pass_ms(10_000);
    assert_eq!((bench.strikes().0, bench.control.counters().wakes_unproductive), (0, 0));
    bench.gone();
    bench.ready();
    bench.pass_ms(10_000);
    assert_eq!(bench.control.counters().wakes_unproductive, 1, "the next one is judged by itself");
}

#[test]
fn each_strike_asks_for_more_until_none_is_woken_for_a_minute() {
    let mut bench = Bench::new();
    for (strikes, escalation) in
        [(1, Escalation::SecondPacket), (2, Escalation::Cookie), (3, Escalation::Cookie)]
    {
        bench.ready();
        bench.pass_ms(2200);
        assert_eq!(bench.strikes(), (strikes, escalation));
        bench.gone();
    }
    assert_eq!(bench.phase(), Phase::Quarantined);
    assert_eq!(bench.first_packet(0), None);
    bench.pass_ms(59_000);
    assert_eq!(bench.phase(), Phase::Quarantined);
    bench.pass_ms(1000);
    assert_eq!((bench.phase(), bench.strikes()), (Phase::Cold, (2, Escalation::Cookie)));
    // Forgotten, one a minute.
    bench.pass_ms(60_000);
    assert_eq!(bench.strikes(), (1, Escalation::SecondPacket));
    bench.pass_ms(60_000);
    assert_eq!(bench.strikes(), (0, Escalation::None));
}

#[test]
fn a_failed_wake_asks_for_more_at_once() {
    let mut bench = Bench::new();
    bench.first_packet(0).unwrap();
    bench.turn();
    let sequence = bench.notices()[0].sequence;
    bench.delta(vec![], Some(failure(sequence)));
    bench.turn();
    assert_eq!((bench.phase(), bench.strikes()), (Phase::Cold, (1, Escalation::SecondPacket)));
    bench.ready();
    assert_eq!(bench.strikes().0, 1, "an instance alone proves nothing");
    bench.activity().flows_established.add(1);
    bench.pass_ms(100);
    assert_eq!(bench.strikes().0, 0);
}

#[test]
fn a_query_promises_nothing_and_is_judged_by_its_own_measure() {
    let mut bench = Bench::new();
    bench.ready_by(Trigger::Dns { query_type: 1 });
    bench.pass_ms(30_000);
    assert_eq!((bench.strikes().0, bench.control.counters().wakes_unproductive), (0, 0));
    bench.pass_ms(31_000);
    assert_eq!(bench.control.counters().wakes_unused, 1);
}

#[test]
fn a_datagram_that_began_a_flow_was_worth_it() {
    let fields = PacketFields { protocol: 17, ..first_fields() };
    for (flows, strikes) in [(1, 0), (0, 1)] {
        let mut bench = Bench::new();
        let wake = bench.slot().begin_wake().unwrap();
        let trigger = Trigger::Syn;
        bench.tell(0, Event::FirstPacket { service: HELLO, wake, trigger, at: bench.now, fields });
        bench.turn();
        bench.delta(vec![instance(1, InstanceState::Ready)], None);
        bench.turn();
        bench.node_answers();
        bench.turn();
        bench.turn();
        assert_eq!(bench.phase(), Phase::Ready);
        bench.activity().flows_begun.add(flows);
        bench.pass_ms(3000);
        assert_eq!(bench.strikes().0, strikes);
    }
}

#[test]
fn a_wake_that_was_called_off_is_not_judged_when_another_appliance_wakes_the_service() {
    let mut bench = Bench::new();
    let wake = bench.first_packet_by(0, Trigger::Syn).unwrap();
    bench.turn();
    assert!(bench.slot().cancel_wake(wake));
    bench.delta(vec![instance(1, InstanceState::Ready)], None);
    bench.turn();
    bench.node_answers();
    bench.turn();
    bench.turn();
    assert_eq!(bench.phase(), Phase::Ready);
    bench.pass_ms(5000);
    assert_eq!(bench.strikes().0, 0);
}

#[test]
fn any_packet_is_told_of_by_its_own_word() {
    let mut bench = Bench::new();
    bench.first_packet_by(0, Trigger::Flow).unwrap();
    bench.turn();
    let notices = bench.notices();
    assert_eq!((notices.len(), notices[0].trigger, &notices[0].dns), (1, api::Trigger::Flow, &None));
    assert_eq!(bench.control.journal().iter().last().unwrap().trigger, Some(Trigger::Flow));
}

#[test]
fn who_finds_an_instance_there_is_told_of_and_changes_nothing_here() {
    let mut bench = Bench::new();
    bench.ready();
    let before = (bench.slot().load(), bench.control.journal().iter().count());
    bench.arrival();
    let notices = bench.notices();
    let [notice] = &notices[..] else { panic!("{notices:?}") };
    assert_eq!((notice.trigger, notice.next_header, notice.length_bytes), (api::Trigger::Flow, 253, 50));
    assert!(notice.sequence > 1, "a notice of its own");
    assert_eq!((bench.slot().load(), bench.control.journal().iter().count()), before);
    assert_eq!(bench.control.counters().arrivals, 1);
    // A flood over many services leaves the link to wakes.
    for _ in 0..50 {
        bench.arrival();
        bench.ups();
    }
    assert_eq!(bench.control.counters().arrivals, 20);
    // Nobody is there to be told; nothing is kept for later.
    bench.turn_at(1000);
    bench.orchestrator = None;
    bench.turn();
    bench.arrival();
    assert_eq!(bench.control.counters().arrivals, 20);
    assert_eq!(bench.shared.workers[0].wakes_returned.get(), 0);
}
