//! The life of each on-demand service: who may move its slot to which phase, and when.
//!
//! Workers begin a wake; all else is decided here. Every step is one atomic move on the slot, so a worker that wakes a
//! service at the same moment is never overruled by mistake.

use millrace_fastpath::clock::Nanos;
use millrace_fastpath::slots::{Phase, ServiceSlot, WakeId};
use millrace_fastpath::tables::Generation;

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
    strikes: u32,
    struck: Nanos,
    quarantined: Option<Nanos>,
    /// A wake whose notice hasn't come, and since when.
    orphan: Option<(WakeId, Nanos)>,
}

impl Lifecycle {
    /// The wake came to nothing: back to `Cold`, or into quarantine when that happened too often.
    pub(super) fn fail(&mut self, slot: &ServiceSlot, wake: WakeId, now: Nanos) {
        let decayed = now.since(self.struck) / STRIKE_DECAY_NANOS;
        self.strikes = self.strikes.saturating_sub(u32::try_from(decayed).unwrap_or(u32::MAX)) + 1;
        self.struck = now;
        self.notice = None;
        if slot.cancel_wake(wake)
            && self.strikes >= STRIKES_MAX
            && slot.transition(Phase::Cold, Phase::Quarantined)
        {
            self.quarantined = Some(now);
        }
    }

    /// It serves.
    pub(super) fn ready(&mut self, slot: &ServiceSlot, now: Nanos) {
        slot.set_phase(Phase::Ready);
        *self = Self { busy_since: now, asked: self.asked, ..Self::default() };
    }

    /// What there is of it fails its checks. Whether that is news.
    pub(super) fn down(&mut self, slot: &ServiceSlot) -> bool {
        self.readying = None;
        self.idle_sent = None;
        let news = slot.load().0 != Phase::Down;
        if news {
            slot.set_phase(Phase::Down);
        }
        news
    }

    /// Nothing of it serves any more.
    pub(super) fn gone(&mut self, slot: &ServiceSlot) {
        self.readying = None;
        self.idle_sent = None;
        // The instances that drain keep their flows; a new one has to find another instance.
        let _ = [Phase::Ready, Phase::Draining, Phase::Down]
            .iter()
            .any(|phase| slot.transition(*phase, Phase::Cold));
    }

    /// Ends a quarantine that has lasted long enough. One more failure begins the next.
    pub(super) fn pardon(&mut self, slot: &ServiceSlot, now: Nanos) {
        if self.quarantined.is_some_and(|since| now.since(since) >= QUARANTINE_NANOS) {
            self.quarantined = None;
            self.strikes = STRIKES_MAX - 1;
            self.struck = now;
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

/// Wakes in a row that come to nothing before no more are tried for a while.
pub const STRIKES_MAX: u32 = 3;
/// How long none are tried.
pub const QUARANTINE_NANOS: u64 = 60_000_000_000;
/// How long a failure counts.
const STRIKE_DECAY_NANOS: u64 = 60_000_000_000;
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
            lifecycle.ready(&slot, at(second * 2 + 1));
            lifecycle.gone(&slot);
        }
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
