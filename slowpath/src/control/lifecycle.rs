//! The life of each on-demand service: who may move its slot to which phase, and when.
//!
//! Workers begin a wake; all else is decided here. Every step is one atomic move on the slot, so a worker that wakes a
//! service at the same moment is never overruled by mistake.

use millrace_fastpath::clock::Nanos;
use millrace_fastpath::slots::{Phase, ServiceSlot, WakeId};
use millrace_fastpath::tables::Generation;

use super::strikes::{Proof, Strikes};

/// A notice that the link has taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Notice {
    pub(super) wake: WakeId,
    pub(super) sequence: u64,
    /// When a worker saw the first packet.
    pub(super) seen: Nanos,
}

/// On the way to `Ready`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Readying {
    /// When the orchestrator said so.
    pub(super) since: Nanos,
    /// The first published generation with the instance and its neighbour in it.
    pub(super) generation: Option<Generation>,
    /// When that was published.
    pub(super) published: Nanos,
}

/// One service's.
#[derive(Debug, Default)]
pub(super) struct Lifecycle {
    /// The wake that is out.
    pub(super) notice: Option<Notice>,
    /// It has an instance that serves, and waits for tables and neighbours.
    pub(super) readying: Option<Readying>,
    /// When it became ready, or was reported idle to no avail.
    pub(super) busy_since: Nanos,
    /// The flows that it had had when a query woke it; `None` when something else did.
    pub(super) asked: Option<u64>,
    /// When it was reported idle.
    pub(super) idle_sent: Option<Nanos>,
    /// Since when it is down, or when that was reported.
    pub(super) downed: Option<Nanos>,
    /// What its latest wake has to lead to; `None` when it has.
    pub(super) proof: Option<Proof>,
    strikes: Strikes,
    quarantined: Option<Nanos>,
    /// A wake whose notice hasn't come, and since when.
    orphan: Option<(WakeId, Nanos)>,
}

impl Lifecycle {
    /// The wake came to nothing: back to `Cold`, or into quarantine when that happened too often.
    pub(super) fn fail(&mut self, slot: &ServiceSlot, wake: WakeId, now: Nanos) {
        let too_often = self.strikes.strike(now);
        // Before it can be woken again.
        self.strikes.show(slot);
        self.notice = None;
        self.proof = None;
        if slot.cancel_wake(wake) && too_often && slot.transition(Phase::Cold, Phase::Quarantined) {
            self.quarantined = Some(now);
        }
    }

    /// It serves. Whether that was good for anything is seen later.
    pub(super) fn ready(&mut self, slot: &ServiceSlot, now: Nanos) {
        // One that was called off has nothing to prove.
        let proof = self.proof.filter(|proof| slot.load() == (Phase::Waking, proof.wake));
        slot.set_phase(Phase::Ready);
        *self = Self {
            busy_since: now,
            asked: self.asked,
            proof: proof.map(|proof| proof.ready(now)),
            strikes: self.strikes,
            // In force as soon as nothing serves, also where what serves was down for a while.
            quarantined: self.quarantined,
            ..Self::default()
        };
    }

    /// Looks whether somebody has come to the instance that was readied, by the sums of flows; the wake that led to nothing,
    /// if this is when that shows. Who comes later still makes good for it.
    pub(super) fn judge(
        &mut self,
        slot: &ServiceSlot,
        established: u64,
        begun: u64,
        now: Nanos,
    ) -> Option<WakeId> {
        let serves = matches!(slot.load().0, Phase::Ready | Phase::Draining);
        if serves {
            self.strikes.pause(now);
        } else {
            self.strikes.decay(now);
        }
        let mut unproductive = None;
        if let Some(proof) = self.proof.as_mut().filter(|_| serves) {
            if proof.is_given(established, begun) {
                self.proof = None;
                self.strikes = Strikes::default();
                self.quarantined = None;
            } else if proof.due.is_some_and(|due| due <= now) {
                proof.due = None;
                unproductive = Some(proof.wake);
                if self.strikes.strike(now) {
                    self.quarantined = Some(now);
                }
            }
        }
        self.strikes.show(slot);
        unproductive
    }

    /// What there is of it fails its checks. Whether that is news.
    pub(super) fn down(&mut self, slot: &ServiceSlot) -> bool {
        self.readying = None;
        self.idle_sent = None;
        let news = slot.load().0 != Phase::Down;
        if news {
            self.downed = None;
            slot.set_phase(Phase::Down);
        }
        news
    }

    /// Nothing of it serves any more.
    pub(super) fn gone(&mut self, slot: &ServiceSlot) {
        self.readying = None;
        self.idle_sent = None;
        // The instances that drain keep their flows; a new one has to find another instance. A quarantine that began while it
        // served is for whoever would wake it now.
        let next = if self.quarantined.is_some() { Phase::Quarantined } else { Phase::Cold };
        let _ =
            [Phase::Ready, Phase::Draining, Phase::Down].iter().any(|phase| slot.transition(*phase, next));
    }

    /// Ends a quarantine that has lasted long enough. One more failure begins the next.
    pub(super) fn pardon(&mut self, slot: &ServiceSlot, now: Nanos) {
        if self.quarantined.is_some_and(|since| now.since(since) >= QUARANTINE_NANOS) {
            self.quarantined = None;
            self.strikes.pardon(now);
            self.strikes.show(slot);
            slot.transition(Phase::Quarantined, Phase::Cold);
        }
    }

    /// Finds a wake whose notice never came: the worker that began it is the only one who could cancel it, and is gone.
    pub(super) fn find_orphan(&mut self, slot: &ServiceSlot, now: Nanos) -> Option<WakeId> {
        let (phase, wake) = slot.load();
        if phase != Phase::Waking || self.notice.is_some_and(|notice| notice.wake == wake) {
            self.orphan = None;
            return None;
        }
        match self.orphan {
            Some((orphan, since)) if orphan == wake => (now.since(since) >= ORPHAN_NANOS).then_some(wake),
            _ => {
                self.orphan = Some((wake, now));
                None
            }
        }
    }
}

/// How long no wakes are tried after too many came to nothing.
pub const QUARANTINE_NANOS: u64 = 60_000_000_000;
/// How long a wake may be without its notice: far longer than the queue of events takes.
const ORPHAN_NANOS: u64 = 1_000_000_000;

#[cfg(test)]
mod tests {
    use super::*;

    fn fail_once(lifecycle: &mut Lifecycle, slot: &ServiceSlot, now: Nanos) -> bool {
        let Some(wake) = slot.begin_wake() else { return false };
        lifecycle.fail(slot, wake, now);
        true
    }

    #[test]
    fn failures_in_a_row_lead_to_quarantine_and_one_more_after_it() {
        let (mut lifecycle, slot) = (Lifecycle::default(), ServiceSlot::default());
        let at = |seconds: u64| Nanos(1_000_000_000_000 + seconds * 1_000_000_000);
        for second in 0..3 {
            assert!(fail_once(&mut lifecycle, &slot, at(second)));
        }
        assert_eq!(slot.load().0, Phase::Quarantined);
        assert!(!fail_once(&mut lifecycle, &slot, at(4)));
        lifecycle.pardon(&slot, at(61));
        assert_eq!(slot.load().0, Phase::Quarantined);
        lifecycle.pardon(&slot, at(62));
        assert!(fail_once(&mut lifecycle, &slot, at(63)));
        assert_eq!(slot.load().0, Phase::Quarantined);
    }

    #[test]
    fn failures_far_apart_and_before_a_success_are_forgotten() {
        let (mut lifecycle, slot) = (Lifecycle::default(), ServiceSlot::default());
        let at = |seconds: u64| Nanos(1_000_000_000_000 + seconds * 1_000_000_000);
        for minute in 0..10 {
            assert!(fail_once(&mut lifecycle, &slot, at(minute * 61)));
        }
        let (mut lifecycle, slot) = (Lifecycle::default(), ServiceSlot::default());
        for second in 0..10 {
            assert!(fail_once(&mut lifecycle, &slot, at(second * 2)));
            assert_eq!(slot.strikes(), 1);
            let proof = proof(slot.begin_wake().unwrap(), second);
            lifecycle.proof = Some(proof);
            lifecycle.ready(&slot, at(second * 2 + 1));
            assert_eq!(slot.strikes(), 1, "ready isn't needed");
            assert_eq!(lifecycle.judge(&slot, second + 1, 0, at(second * 2 + 1)), None);
            assert_eq!(slot.strikes(), 0);
            lifecycle.gone(&slot);
        }
    }

    fn proof(wake: WakeId, established: u64) -> Proof {
        Proof { wake, established, begun: None, asked: false, due: None }
    }

    /// Wakes it, and nobody comes; it goes after `stays` seconds.
    fn wake_in_vain(lifecycle: &mut Lifecycle, slot: &ServiceSlot, from: u64, stays: u64) -> Vec<u64> {
        let at = |seconds: u64| Nanos(1_000_000_000_000 + seconds * 1_000_000_000);
        let wake = slot.begin_wake().expect("cold");
        lifecycle.proof = Some(proof(wake, 0));
        lifecycle.ready(slot, at(from));
        let judge = |second: &u64| lifecycle.judge(slot, 0, 9, at(from + second)) == Some(wake);
        let struck = (0..=stays).filter(judge).collect();
        lifecycle.gone(slot);
        struck
    }

    #[test]
    fn instances_that_nobody_comes_to_are_strikes_once_and_the_third_quarantines_when_it_goes() {
        let (mut lifecycle, slot) = (Lifecycle::default(), ServiceSlot::default());
        let at = |seconds: u64| Nanos(1_000_000_000_000 + seconds * 1_000_000_000);
        assert_eq!(wake_in_vain(&mut lifecycle, &slot, 0, 500), [2], "once, however long it stays");
        assert_eq!((slot.load().0, slot.strikes()), (Phase::Cold, 1), "nothing is forgotten while it serves");
        assert_eq!(wake_in_vain(&mut lifecycle, &slot, 510, 20), [2]);
        assert_eq!((slot.load().0, slot.strikes()), (Phase::Cold, 2));
        assert_eq!(wake_in_vain(&mut lifecycle, &slot, 535, 10), [2]);
        assert_eq!((slot.load().0, slot.strikes()), (Phase::Quarantined, 3));
        lifecycle.pardon(&slot, at(596));
        assert_eq!(slot.load().0, Phase::Quarantined);
        lifecycle.pardon(&slot, at(597));
        assert_eq!((slot.load().0, slot.strikes()), (Phase::Cold, 2));
    }

    #[test]
    fn a_quarantine_is_kept_over_instances_that_go_down_and_come_up_again() {
        let (mut lifecycle, slot) = (Lifecycle::default(), ServiceSlot::default());
        let at = |seconds: u64| Nanos(1_000_000_000_000 + seconds * 1_000_000_000);
        for _ in 0..2 {
            wake_in_vain(&mut lifecycle, &slot, 0, 3);
        }
        // The third strike while an instance serves; it fails its checks, and comes back.
        lifecycle.proof = Some(proof(slot.begin_wake().unwrap(), 0));
        lifecycle.ready(&slot, at(4));
        assert!(lifecycle.judge(&slot, 0, 0, at(6)).is_some());
        for second in [10, 20] {
            assert!(lifecycle.down(&slot));
            assert_eq!(slot.load().0, Phase::Down);
            lifecycle.ready(&slot, at(second));
            assert_eq!(slot.load().0, Phase::Ready);
        }
        lifecycle.gone(&slot);
        assert_eq!((slot.load().0, slot.begin_wake()), (Phase::Quarantined, None));
        lifecycle.pardon(&slot, at(65));
        assert_eq!(slot.load().0, Phase::Quarantined);
        lifecycle.pardon(&slot, at(66));
        assert_eq!(slot.load().0, Phase::Cold);
        // One that lasted while all were down, with nothing up in between.
        lifecycle.proof = Some(proof(slot.begin_wake().unwrap(), 0));
        lifecycle.ready(&slot, at(67));
        assert!(lifecycle.judge(&slot, 0, 0, at(69)).is_some());
        lifecycle.down(&slot);
        lifecycle.gone(&slot);
        assert_eq!(slot.load().0, Phase::Quarantined);
        lifecycle.pardon(&slot, at(129));
        assert_eq!(slot.load().0, Phase::Cold);
    }

    #[test]
    fn who_comes_late_makes_good_for_the_wake() {
        let (mut lifecycle, slot) = (Lifecycle::default(), ServiceSlot::default());
        let at = |seconds: u64| Nanos(1_000_000_000_000 + seconds * 1_000_000_000);
        for _ in 0..2 {
            wake_in_vain(&mut lifecycle, &slot, 0, 3);
        }
        lifecycle.proof = Some(proof(slot.begin_wake().unwrap(), 0));
        lifecycle.ready(&slot, at(4));
        assert!(lifecycle.judge(&slot, 0, 0, at(6)).is_some());
        assert_eq!(slot.strikes(), 3);
        assert_eq!(lifecycle.judge(&slot, 1, 1, at(50)), None);
        lifecycle.gone(&slot);
        assert_eq!((slot.load().0, slot.strikes()), (Phase::Cold, 0), "and no quarantine is left");
    }

    #[test]
    fn an_orphan_is_found_after_a_while_and_only_then() {
        let (mut lifecycle, slot) = (Lifecycle::default(), ServiceSlot::default());
        let wake = slot.begin_wake().unwrap();
        assert_eq!(lifecycle.find_orphan(&slot, Nanos(0)), None);
        assert_eq!(lifecycle.find_orphan(&slot, Nanos(ORPHAN_NANOS - 1)), None);
        assert_eq!(lifecycle.find_orphan(&slot, Nanos(ORPHAN_NANOS)), Some(wake));
        lifecycle.notice = Some(Notice { wake, sequence: 1, seen: Nanos(0) });
        assert_eq!(lifecycle.find_orphan(&slot, Nanos(2 * ORPHAN_NANOS)), None);
    }
}
