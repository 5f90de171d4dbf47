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
mod tests;
