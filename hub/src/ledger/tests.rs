use super::*;

const A: NodeIndex = NodeIndex(0);
const B: NodeIndex = NodeIndex(1);

fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

fn set(segments: &[u8]) -> SegmentSet {
    segments.iter().copied().collect()
}

fn both() -> NodeSet {
    [A, B].into_iter().collect()
}

#[test]
fn what_is_named_is_wanted_once_and_planned_after_the_window() {
    let mut ledger = Ledger::new();
    assert_eq!(ledger.state(3, A), State::Unknown);
    assert_eq!(ledger.want(A, 3, set(&[1, 2]), ms(0), ms(15)), Noted::New);
    assert_eq!(ledger.want(A, 3, set(&[1]), ms(0), ms(16)), Noted::Duplicate);
    assert_eq!(ledger.want(B, 3, set(&[2]), ms(0), ms(17)), Noted::New);
    assert_eq!((ledger.state(3, A), ledger.owed(A), ledger.next_due()), (State::Missing, 2, Some(ms(15))));
    assert_eq!(ledger.take_due(ms(14)), None);
    let wants = Wants { block: 3, nodes: vec![(A, set(&[1, 2])), (B, set(&[2]))], rows: vec![] };
    assert_eq!(ledger.take_due(ms(15)), Some(wants));
    assert_eq!((ledger.take_due(ms(99)), ledger.owed(A)), (None, 0));
}

#[test]
fn a_repair_on_its_way_is_not_repeated() {
    let mut ledger = Ledger::new();
    ledger.want(A, 3, set(&[1, 2]), ms(0), ms(5));
    ledger.take_due(ms(5));
    ledger.queue(3, 64, Some(0), &both());
    ledger.queue(3, 65, Some(1), &[A].into_iter().collect());
    assert_eq!(ledger.owed(A), 2);
    // Queued ones count as on their way, whatever the NACK has seen.
    assert_eq!(ledger.want(A, 3, set(&[1, 2]), ms(100), ms(105)), Noted::OnTheWay);
    ledger.sent(3, 64, &both(), ms(10), ms(1000));
    ledger.sent(3, 65, &both(), ms(11), ms(1000));
    assert_eq!(ledger.owed(A), 0);
    // It had the time to see the first, not the second.
    assert_eq!(ledger.want(A, 3, set(&[1]), ms(10), ms(20)), Noted::OnTheWay);
    assert_eq!(ledger.want(A, 3, set(&[1, 2]), ms(10), ms(20)), Noted::New);
    assert_eq!(ledger.owed(A), 1);
    assert_eq!(ledger.take_due(ms(20)).unwrap().rows, [both(), [A].into_iter().collect()]);
    assert_eq!(ledger.want(A, 3, set(&[1, 2]), ms(12), ms(30)), Noted::New, "nothing is on its way any more");
}

#[test]
fn only_an_acknowledgement_clears_and_nothing_follows_it() {
    let mut ledger = Ledger::new();
    ledger.want(A, 3, set(&[1]), ms(0), ms(5));
    assert!(ledger.acknowledge(A));
    assert!(!ledger.acknowledge(A));
    assert_eq!(ledger.want(A, 3, set(&[1]), ms(0), ms(5)), Noted::Stale);
    assert_eq!((ledger.state(3, A), ledger.state(3, B), ledger.owed(A)), (State::Acked, State::Unknown, 0));
    assert!(ledger.acked(A) && !ledger.acked(B));
    assert_eq!(ledger.take_due(ms(5)).map(|wants| wants.nodes), Some(vec![]));
}

#[test]
fn what_is_withdrawn_is_wanted_again() {
    let mut ledger = Ledger::new();
    ledger.want(A, 3, set(&[1, 2]), ms(0), ms(5));
    ledger.take_due(ms(5));
    ledger.queue(3, 1, None, &both());
    ledger.queue(3, 2, None, &both());
    ledger.sent(3, 1, &both(), ms(6), ms(1000));
    ledger.withdraw(A, ms(8));
    assert_eq!((ledger.owed(A), ledger.next_due()), (1, Some(ms(8))));
    assert_eq!(ledger.take_due(ms(8)).map(|wants| wants.nodes), Some(vec![(A, set(&[2]))]));
}

#[test]
fn what_was_repaired_and_not_named_again_is_forgotten() {
    let mut ledger = Ledger::new();
    ledger.want(A, 3, set(&[1]), ms(0), ms(5));
    ledger.take_due(ms(5));
    ledger.queue(3, 1, None, &both());
    ledger.sent(3, 1, &both(), ms(6), ms(50));
    assert_eq!(ledger.settle(ms(49)), Some(ms(50)));
    assert_eq!(ledger.missing(A).collect::<Vec<_>>(), [(3, set(&[1]))]);
    assert_eq!(ledger.settle(ms(50)), None);
    assert_eq!((ledger.state(3, A), ledger.missing(A).count()), (State::Unknown, 0));
}
