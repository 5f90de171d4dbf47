use super::*;

const A: NodeIndex = NodeIndex(0);
const B: NodeIndex = NodeIndex(1);
const TOGETHER: Lane = Lane::Together;

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
    assert_eq!(ledger.want(A, TOGETHER, 3, set(&[1, 2]), ms(0), ms(15)), Noted::New);
    assert_eq!(ledger.want(A, TOGETHER, 3, set(&[1]), ms(0), ms(16)), Noted::Duplicate);
    assert_eq!(ledger.want(B, TOGETHER, 3, set(&[2]), ms(0), ms(17)), Noted::New);
    assert_eq!(
        (ledger.state(3, A), ledger.owed(A), ledger.next_due(TOGETHER)),
        (State::Missing, 2, Some(ms(15)))
    );
    assert_eq!(ledger.take_due(TOGETHER, ms(14), |_| true), None);
    let wants = Wants { block: 3, nodes: vec![(A, set(&[1, 2])), (B, set(&[2]))], rows: vec![] };
    assert_eq!(ledger.take_due(TOGETHER, ms(15), |_| true), Some(wants));
    assert_eq!((ledger.take_due(TOGETHER, ms(99), |_| true), ledger.owed(A)), (None, 0));
}

#[test]
fn a_repair_on_its_way_is_not_repeated() {
    let mut ledger = Ledger::new();
    ledger.want(A, TOGETHER, 3, set(&[1, 2]), ms(0), ms(5));
    ledger.take_due(TOGETHER, ms(5), |_| true);
    ledger.queue(3, 64, Some(0), &both());
    ledger.queue(3, 65, Some(1), &[A].into_iter().collect());
    assert_eq!(ledger.owed(A), 2);
    // Queued ones count as on their way, whatever the NACK has seen.
    assert_eq!(ledger.want(A, TOGETHER, 3, set(&[1, 2]), ms(100), ms(105)), Noted::OnTheWay);
    ledger.sent(3, 64, &both(), ms(10), ms(1000));
    ledger.sent(3, 65, &both(), ms(11), ms(1000));
    assert_eq!(ledger.owed(A), 0);
    // It had the time to see the first, not the second.
    assert_eq!(ledger.want(A, TOGETHER, 3, set(&[1]), ms(10), ms(20)), Noted::OnTheWay);
    assert_eq!(ledger.want(A, TOGETHER, 3, set(&[1, 2]), ms(10), ms(20)), Noted::New);
    assert_eq!(ledger.owed(A), 1);
    assert_eq!(
        ledger.take_due(TOGETHER, ms(20), |_| true).unwrap().rows,
        [both(), [A].into_iter().collect()]
    );
    assert_eq!(
        ledger.want(A, TOGETHER, 3, set(&[1, 2]), ms(12), ms(30)),
        Noted::New,
        "nothing is on its way any more"
    );
}

#[test]
fn only_an_acknowledgement_clears_and_nothing_follows_it() {
    let mut ledger = Ledger::new();
    ledger.want(A, TOGETHER, 3, set(&[1]), ms(0), ms(5));
    assert!(ledger.acknowledge(A));
    assert!(!ledger.acknowledge(A));
    assert_eq!(ledger.want(A, TOGETHER, 3, set(&[1]), ms(0), ms(5)), Noted::Stale);
    assert_eq!((ledger.state(3, A), ledger.state(3, B), ledger.owed(A)), (State::Acked, State::Unknown, 0));
    assert!(ledger.acked(A) && !ledger.acked(B));
    assert_eq!(ledger.take_due(TOGETHER, ms(5), |_| true).map(|wants| wants.nodes), Some(vec![]));
}

#[test]
fn what_is_withdrawn_is_wanted_again() {
    let mut ledger = Ledger::new();
    ledger.want(A, TOGETHER, 3, set(&[1, 2]), ms(0), ms(5));
    ledger.take_due(TOGETHER, ms(5), |_| true);
    ledger.queue(3, 1, None, &both());
    ledger.queue(3, 2, None, &both());
    ledger.sent(3, 1, &both(), ms(6), ms(1000));
    ledger.withdraw(A, TOGETHER, ms(8));
    assert_eq!((ledger.owed(A), ledger.next_due(TOGETHER)), (1, Some(ms(8))));
    assert_eq!(
        ledger.take_due(TOGETHER, ms(8), |_| true).map(|wants| wants.nodes),
        Some(vec![(A, set(&[2]))])
    );
}

#[test]
fn lanes_are_planned_apart_and_who_changes_takes_along_what_it_waits_for() {
    let mut ledger = Ledger::new();
    ledger.want(A, TOGETHER, 3, set(&[1, 2]), ms(0), ms(5));
    ledger.want(B, Lane::Apart, 3, set(&[2, 7]), ms(0), ms(6));
    ledger.want(B, Lane::Apart, 4, set(&[9]), ms(0), ms(6));
    assert_eq!((ledger.next_due(TOGETHER), ledger.next_due(Lane::Apart)), (Some(ms(5)), Some(ms(6))));
    let group = ledger.take_due(TOGETHER, ms(9), |node| node == A).unwrap();
    assert_eq!((group.nodes, ledger.owed(B)), (vec![(A, set(&[1, 2]))], 3));
    // One of them is planned and waits, the other isn't planned: it gets both in the group.
    assert_eq!(ledger.take_due(Lane::Apart, ms(9), |node| node == B).unwrap().nodes, [(B, set(&[2, 7]))]);
    ledger.queue(3, 2, None, &[B].into_iter().collect());
    ledger.withdraw(B, TOGETHER, ms(10));
    let mut planned = || ledger.take_due(TOGETHER, ms(10), |_| true).map(|wants| (wants.block, wants.nodes));
    assert_eq!(planned(), Some((3, vec![(B, set(&[2]))])));
    assert_eq!(planned(), Some((4, vec![(B, set(&[9]))])));
    assert_eq!(planned(), None);
    // What was due apart has nobody left.
    assert_eq!(ledger.take_due(Lane::Apart, ms(10), |_| false).unwrap().nodes, []);
}

#[test]
fn what_was_repaired_and_not_named_again_is_forgotten() {
    let mut ledger = Ledger::new();
    ledger.want(A, TOGETHER, 3, set(&[1]), ms(0), ms(5));
    ledger.take_due(TOGETHER, ms(5), |_| true);
    ledger.queue(3, 1, None, &both());
    ledger.sent(3, 1, &both(), ms(6), ms(50));
    assert_eq!(ledger.settle(ms(49)), Some(ms(50)));
    assert_eq!(ledger.missing(A).collect::<Vec<_>>(), [(3, set(&[1]))]);
    assert_eq!(ledger.settle(ms(50)), None);
    assert_eq!((ledger.state(3, A), ledger.missing(A).count()), (State::Unknown, 0));
}
