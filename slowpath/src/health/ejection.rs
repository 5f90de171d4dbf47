//! Instances of one service that are left out because clients' handshakes with them fail. No clock and no I/O: counters
//! and a time come in.
//!
//! ```text
//!            failures in a row, none of them                  eject_ms × 1, 2, 3 ... 10
//!            further apart than window_ms, and
//!            nothing answered for window_ms
//!     used ─────────────────────────────────────► left out ─────────────────────────────► used
//!      ▲                                             │
//!      └───────── whoever is left fails, too ────────┘   "panic": all are used again, and nobody is left out for a while
//! ```
//!
//! Whether an instance is left out hangs on what it does alone (see `millrace_fastpath::node::handshake` for what counts):
//! one handshake answered, a client's or a probe's of ours, takes back all failures before it. No more than a share of
//! the instances that clients of a family can be sent to are left out at a time, and never the last.
//!
//! A handshake may fail long after its SYN, when the instance is used again already. Of those that were under way at that
//! time, none counts against it: as many failures as there may be of them are let pass.
//!
//! Who the clients are isn't counted: an instance that a single one uses is judged by that one's handshakes.

use std::collections::{HashMap, HashSet};

use millrace_fastpath::clock::Nanos;
use millrace_fastpath::counters::Handshakes;
use millrace_fastpath::tables::services::InstanceSlotId;

/// When instances are left out, and for how long.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rules {
    /// Handshakes in a row that must fail.
    pub failures: u64,
    /// For so long none may have succeeded.
    pub window_nanos: u64,
    /// How long an instance is left out the first time.
    pub eject_nanos: u64,
    /// Share of the instances that may be left out at a time.
    pub share_percent: usize,
}

/// What workers have counted of an instance's handshakes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counted {
    /// SYNs sent on.
    pub begun: u64,
    /// Those that were accepted.
    pub answered: u64,
    /// Those that were refused, or couldn't arrive.
    pub refused: u64,
    /// Those that nothing came back to.
    pub unanswered: u64,
}

impl Counted {
    /// The sum over workers.
    pub fn sum<'a>(workers: impl Iterator<Item = &'a Handshakes>) -> Self {
        workers.fold(Self::default(), |sum, one| Self {
            begun: sum.begun.wrapping_add(one.begun.get()),
            answered: sum.answered.wrapping_add(one.answered.get()),
            refused: sum.refused.wrapping_add(one.refused.get()),
            unanswered: sum.unanswered.wrapping_add(one.unanswered.get()),
        })
    }

    fn since(self, before: Self) -> Self {
        Self {
            begun: self.begun.wrapping_sub(before.begun),
            answered: self.answered.wrapping_sub(before.answered),
            refused: self.refused.wrapping_sub(before.refused),
            unanswered: self.unanswered.wrapping_sub(before.unanswered),
        }
    }
}

/// An instance as it is seen now.
#[derive(Clone, Copy, Debug)]
pub struct Seen {
    /// Which.
    pub slot: InstanceSlotId,
    /// By the counters of all workers.
    pub counted: Counted,
    /// Whether it would be used if it weren't left out, by clients of either family: IPv4, IPv6.
    pub usable: [bool; 2],
    /// When a probe of it succeeded last.
    pub proven: Option<Nanos>,
}

/// One instance's.
#[derive(Clone, Copy, Debug)]
pub struct Member {
    /// When it was first seen; others may have had its slot before.
    first: Counted,
    last: Counted,
    /// Failures in a row.
    streak: u64,
    failed: Nanos,
    /// When it answered last, or was given a new chance.
    answered: Nanos,
    /// The SYNs sent on by a time at which this was looked at, and a time before that.
    begun: [(Nanos, u64); 2],
    /// Failures that may be of handshakes from before its new chance, and until when those can come.
    forgiven: u64,
    forgiven_until: Nanos,
    ejected: Option<Nanos>,
    /// Ejections in a row.
    times: u64,
    /// All ejections.
    ejections: u64,
}

impl Member {
    fn new(counted: Counted, now: Nanos) -> Self {
        Self {
            first: counted,
            last: counted,
            streak: 0,
            failed: now,
            answered: now,
            begun: [(now, counted.begun); 2],
            forgiven: 0,
            forgiven_until: now,
            ejected: None,
            times: 0,
            ejections: 0,
        }
    }

    /// Until when it is left out.
    pub fn ejected(&self) -> Option<Nanos> {
        self.ejected
    }

    /// How often it was left out so far.
    pub fn ejections(&self) -> u64 {
        self.ejections
    }

    /// Its handshakes since it is watched.
    pub fn counted(&self) -> Counted {
        self.last.since(self.first)
    }

    /// Takes what was counted since.
    fn hear(&mut self, now: Nanos, rules: &Rules, seen: &Seen) {
        let new = seen.counted.since(self.last);
        self.last = seen.counted;
        if now.since(self.begun[0].0) >= HANDSHAKE_NANOS_MAX {
            self.begun = [(now, seen.counted.begun), self.begun[0]];
        }
        let mut failed = new.refused + new.unanswered;
        if now < self.forgiven_until {
            let old = failed.min(self.forgiven);
            self.forgiven -= old;
            failed -= old;
        }
        // Which came first isn't known; an instance that answers isn't gone.
        if new.answered > 0 || seen.proven.is_some_and(|proven| proven > self.answered) {
            if self.ejected.is_none() {
                self.times = 0;
            }
            self.answered = now;
            self.streak = 0;
            return;
        }
        if failed > 0 {
            if now.since(self.failed) > rules.window_nanos {
                self.streak = 0;
            }
            self.streak += failed;
            self.failed = now;
        }
    }

    fn fails(&self, now: Nanos, rules: &Rules) -> bool {
        self.ejected.is_none()
            && self.streak >= rules.failures
            && now.since(self.answered) >= rules.window_nanos
    }

    fn use_again(&mut self, now: Nanos) {
        self.ejected = None;
        self.streak = 0;
        self.answered = now;
        self.forgiven = self.under_way();
        self.forgiven_until = now.plus(HANDSHAKE_NANOS_MAX);
    }

    /// Handshakes of which nothing has been heard yet, at most: of those that clients gave up nothing ever is, but they are
    /// old at some time.
    fn under_way(&self) -> u64 {
        let Counted { begun, answered, refused, unanswered } = self.counted();
        let lately = self.last.begun.wrapping_sub(self.begun[1].1);
        begun.saturating_sub(answered + refused + unanswered).min(lately)
    }
}

/// The instances of one service.
#[derive(Clone, Debug, Default)]
pub struct Ejector {
    members: HashMap<InstanceSlotId, Member>,
    /// By family.
    calm_until: [Nanos; 2],
    panics: u64,
}

impl Ejector {
    /// Looks at all instances. Whether others are left out now than before.
    pub fn step(&mut self, now: Nanos, rules: &Rules, seen: &[Seen]) -> bool {
        let before = self.members.len();
        let present: HashSet<InstanceSlotId> = seen.iter().map(|one| one.slot).collect();
        self.members.retain(|slot, _| present.contains(slot));
        let mut changed = self.members.len() != before;
        for one in seen {
            let member = self.members.entry(one.slot).or_insert_with(|| Member::new(one.counted, now));
            // What was counted so far was while it was left out.
            member.hear(now, rules, one);
            if member.ejected.is_some_and(|until| until <= now) {
                member.use_again(now);
                changed = true;
            }
        }
        for family in 0..2 {
            let of_family = seen.iter().filter(|one| one.usable[family]).map(|one| one.slot);
            changed |= self.step_family(now, rules, family, &of_family.collect::<Vec<_>>());
        }
        changed
    }

    /// The same for those that clients of one family can be sent to: they have nobody else.
    fn step_family(&mut self, now: Nanos, rules: &Rules, family: usize, usable: &[InstanceSlotId]) -> bool {
        let out = usable.iter().filter(|slot| self.is_ejected(**slot)).count();
        let mut failing: Vec<InstanceSlotId> =
            usable.iter().copied().filter(|slot| self.members[slot].fails(now, rules)).collect();
        if !usable.is_empty() && out + failing.len() == usable.len() {
            self.panic(now, rules, family, usable);
            return out > 0;
        }
        if failing.is_empty() || now < self.calm_until[family] {
            return false;
        }
        // The worst first.
        failing.sort_by_key(|slot| (std::cmp::Reverse(self.members[slot].streak), *slot));
        let mut changed = false;
        let allowed = (usable.len() * rules.share_percent / 100).clamp(1, (usable.len() - 1).max(1));
        for slot in failing.into_iter().take(allowed.saturating_sub(out)) {
            let Some(member) = self.members.get_mut(&slot) else { continue };
            member.times = (member.times + 1).min(TIMES_MAX);
            member.ejections += 1;
            member.ejected = Some(now.plus(rules.eject_nanos * member.times));
            changed = true;
        }
        changed
    }

    /// Nobody would be left: what looks like the instances' fault is somebody else's, or there is nothing better.
    fn panic(&mut self, now: Nanos, rules: &Rules, family: usize, usable: &[InstanceSlotId]) {
        self.panics += 1;
        self.calm_until[family] = now.plus(rules.eject_nanos);
        for slot in usable {
            if let Some(member) = self.members.get_mut(slot) {
                member.use_again(now);
            }
        }
    }

    /// Whether an instance is left out.
    pub fn is_ejected(&self, slot: InstanceSlotId) -> bool {
        self.members.get(&slot).is_some_and(|member| member.ejected.is_some())
    }

    /// What is known of an instance.
    pub fn member(&self, slot: InstanceSlotId) -> Option<&Member> {
        self.members.get(&slot)
    }

    /// How often all had to be used again.
    pub fn panics(&self) -> u64 {
        self.panics
    }
}

/// How much longer than the first time an instance is left out at most.
const TIMES_MAX: u64 = 10;
/// How long a handshake may take to fail: a client's SYNs are at most so far apart that its flow doesn't expire for a while
/// (Linux sends seven within half a minute before the pauses between them are longer than a flow lives).
const HANDSHAKE_NANOS_MAX: u64 = 30_000_000_000;

#[cfg(test)]
mod tests {
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
            let mut bench =
                Self { ejector: Ejector::default(), seen: seen.collect(), now: Nanos(100 * SECOND) };
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
            let Counted { begun, unanswered, .. } =
                bench.ejector.member(InstanceSlotId(1)).unwrap().counted();
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
}
