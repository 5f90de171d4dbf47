use millrace_fastpath::tables::services::INSTANCES_MAX;

use super::*;

const RULES: Rules =
    Rules { failures: 5, window_nanos: 5 * SECOND, eject_nanos: 30 * SECOND, share_percent: 50 };
const SECOND: u64 = 1_000_000_000;

/// Instances whose counters and clock the test moves.
struct Bench {
    ejector: Ejector,
    seen: Vec<Seen>,
    now: Nanos,
}

impl Bench {
    fn new(instances: u32) -> Self {
        let seen = (0..instances).map(|slot| Seen {
            slot: InstanceSlotId(slot),
            // Somebody had the slot before.
            counted: Counted { begun: 90, answered: 1, refused: 70, unanswered: 7 },
            usable: [true, false],
            proven: None,
        });
        let mut bench = Self { ejector: Ejector::default(), seen: seen.collect(), now: Nanos(100 * SECOND) };
        assert!(!bench.step(0));
        bench
    }

    fn step(&mut self, seconds: u64) -> bool {
        self.now = self.now.plus(seconds * SECOND);
        self.ejector.step(self.now, &RULES, &self.seen)
    }

    fn refuse(&mut self, slot: usize, times: u64) {
        self.seen[slot].counted.refused += times;
    }

    fn answer(&mut self, slot: usize) {
        self.seen[slot].counted.answered += 1;
    }

    fn out(&self) -> Vec<u32> {
        let slots = self.seen.iter().map(|one| one.slot);
        slots.filter(|slot| self.ejector.is_ejected(*slot)).map(|slot| slot.0).collect()
    }
}

#[test]
fn failures_in_a_row_put_an_instance_out_and_time_brings_it_back() {
    let mut bench = Bench::new(3);
    bench.refuse(1, 3);
    bench.step(1);
    bench.seen[1].counted.unanswered += 2;
    assert!(!bench.step(1), "nothing was answered for two seconds only");
    assert!(bench.step(3));
    assert_eq!(bench.out(), [1]);
    assert!(!bench.step(29));
    assert!(bench.step(1));
    assert_eq!(bench.out(), [0; 0]);
    // The second time is twice as long.
    for _ in 0..5 {
        bench.refuse(1, 1);
        bench.step(1);
    }
    assert_eq!(bench.out(), [1]);
    bench.step(59);
    assert_eq!(bench.out(), [1]);
    bench.step(1);
    assert_eq!(bench.out(), [0; 0]);
    assert_eq!(bench.ejector.member(InstanceSlotId(1)).unwrap().ejections(), 2);
}

/// Whoever is left out for a shorter time than a handshake takes to fail.
#[test]
fn handshakes_from_before_it_was_left_out_do_not_count_when_it_is_used_again() {
    let rules = Rules { eject_nanos: 2 * SECOND, ..RULES };
    let mut bench = Bench::new(3);
    let step = |bench: &mut Bench, seconds: u64| {
        bench.now = bench.now.plus(seconds * SECOND);
        bench.ejector.step(bench.now, &rules, &bench.seen)
    };
    // A hundred SYNs a second; each fails ten seconds later. Those of the first five put it out.
    for second in 0..15 {
        bench.seen[1].counted.begun += 100;
        bench.seen[1].counted.unanswered += if second >= 10 { 100 } else { 0 };
        step(&mut bench, 1);
        if !bench.out().is_empty() {
            break;
        }
    }
    assert_eq!(bench.out(), [1]);
    assert!(!step(&mut bench, 1));
    assert!(step(&mut bench, 1), "it is used again");
    // All that were under way fail now, one after the other, and it answers no one.
    let under_way = {
        let Counted { begun, unanswered, .. } = bench.ejector.member(InstanceSlotId(1)).unwrap().counted();
        begun - unanswered
    };
    assert!(under_way >= 500);
    for _ in 0..10 {
        bench.seen[1].counted.unanswered += under_way / 10;
        assert!(!step(&mut bench, 1), "nothing new has failed");
    }
    // One more than those is of its new chance, and five are enough.
    bench.seen[1].counted.begun += 5;
    bench.seen[1].counted.unanswered += under_way % 10 + 4;
    assert!(!step(&mut bench, 1));
    bench.seen[1].counted.refused += 1;
    assert!(step(&mut bench, 1));
    assert_eq!(bench.out(), [1]);
}

#[test]
fn handshakes_that_clients_gave_up_excuse_no_more_than_were_begun_lately() {
    let mut bench = Bench::new(3);
    bench.seen[1].counted.begun += 100_000;
    for _ in 0..70 {
        bench.step(1);
    }
    bench.seen[1].counted.begun += 10;
    bench.refuse(1, 10);
    assert!(bench.step(1));
    assert!(bench.step(30));
    assert_eq!(bench.out(), [0; 0]);
    // All those of the last minute may be ones that fail only now.
    bench.seen[1].counted.begun += 5;
    bench.refuse(1, 10);
    assert!(!bench.step(5));
    bench.refuse(1, 5);
    assert!(bench.step(0));
    assert_eq!(bench.out(), [1]);
}

/// Were each looked for among all, this would take more than a hundred thousand million comparisons, and the runner would
/// end it.
#[test]
fn one_service_may_have_all_instances_that_there_are() {
    let mut bench = Bench::new(INSTANCES_MAX as u32);
    for _ in 0..16 {
        bench.step(1);
    }
    bench.refuse(7, 5);
    assert!(bench.step(5));
    assert_eq!(bench.out(), [7]);
}

#[test]
fn one_answer_takes_back_whatever_failed_before_it() {
    let mut bench = Bench::new(2);
    for _ in 0..20 {
        bench.refuse(0, 1000);
        bench.answer(0);
        assert!(!bench.step(4));
        bench.refuse(0, 1000);
        assert!(!bench.step(0), "the last answer is too near");
    }
    // Without the answers it is out.
    bench.refuse(0, 1000);
    assert!(bench.step(5));
}

#[test]
fn a_probe_that_succeeds_is_an_answer() {
    let mut bench = Bench::new(2);
    for _ in 0..20 {
        bench.refuse(0, 1000);
        bench.seen[0].proven = Some(bench.now.plus(SECOND));
        assert!(!bench.step(1));
    }
    assert!(!bench.step(6), "and nothing has failed since");
    bench.refuse(0, 1000);
    assert!(bench.step(1), "the last one was long ago");
}

#[test]
fn failures_far_apart_are_not_in_a_row() {
    let mut bench = Bench::new(2);
    for _ in 0..20 {
        bench.refuse(0, 1);
        assert!(!bench.step(6));
    }
    for _ in 0..4 {
        bench.refuse(0, 1);
        bench.step(5);
    }
    assert_eq!(bench.out(), [0]);
}

#[test]
fn a_share_is_out_at_a_time_and_never_the_last() {
    let mut bench = Bench::new(5);
    for slot in 0..4 {
        bench.refuse(slot, 10 + slot as u64);
    }
    assert!(bench.step(5));
    assert_eq!(bench.out(), [2, 3], "half of five, the worst of them");
    bench.refuse(0, 10);
    bench.step(1);
    assert_eq!(bench.out(), [2, 3]);
    let mut bench = Bench::new(2);
    bench.refuse(0, 10);
    bench.step(5);
    assert_eq!(bench.out(), [0], "one of two can be left out, whatever the share");
}

#[test]
fn when_all_fail_all_are_used_again_and_it_is_counted() {
    let mut bench = Bench::new(3);
    bench.refuse(0, 10);
    bench.step(5);
    assert_eq!(bench.out(), [0]);
    (1..3).for_each(|slot| bench.refuse(slot, 10));
    assert!(bench.step(1), "whoever was out is back");
    assert_eq!((bench.out(), bench.ejector.panics()), (vec![], 1));
    // For a while nobody is left out.
    for _ in 0..5 {
        bench.refuse(0, 10);
        bench.answer(1);
        assert!(!bench.step(5));
    }
    bench.refuse(0, 10);
    bench.step(5);
    assert_eq!((bench.out(), bench.ejector.panics()), (vec![0], 1));
}

#[test]
fn a_single_instance_is_never_out() {
    let mut bench = Bench::new(1);
    for _ in 0..10 {
        bench.refuse(0, 100);
        assert!(!bench.step(5));
    }
    assert!(bench.out().is_empty() && bench.ejector.panics() > 0);
}

#[test]
fn whoever_is_out_is_used_when_the_others_are_down() {
    let mut bench = Bench::new(2);
    bench.refuse(0, 10);
    bench.step(5);
    assert_eq!(bench.out(), [0]);
    // The other one fails its probes.
    bench.seen[1].usable = [false, false];
    assert!(bench.step(1));
    assert!(bench.out().is_empty());
}

#[test]
fn an_instance_that_leaves_is_forgotten_and_its_slot_begins_anew() {
    let mut bench = Bench::new(2);
    bench.refuse(0, 10);
    bench.step(5);
    let gone = bench.seen.remove(0);
    assert!(bench.step(1));
    bench.seen.insert(0, gone);
    bench.step(1);
    assert!(bench.out().is_empty());
    assert_eq!(bench.ejector.member(InstanceSlotId(0)).unwrap().counted(), Counted::default());
}

#[test]
fn the_last_of_a_family_stays_though_there_are_others_of_the_other() {
    let mut bench = Bench::new(3);
    bench.seen[1].usable = [false, true];
    bench.seen[2].usable = [false, true];
    bench.step(6);
    bench.refuse(0, 50);
    bench.refuse(1, 50);
    bench.step(1);
    assert_eq!(bench.out(), [1], "of IPv6 there is another, of IPv4 there is none");
    assert_eq!(bench.ejector.panics(), 1);
    bench.refuse(2, 50);
    bench.step(7);
    assert_eq!(bench.out(), [0; 0], "now none of IPv6 is left, and all are used");
}
