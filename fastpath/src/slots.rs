//! One word per service beside the snapshot: what changes often.
//!
//! The word of a service holds its phase and the number of its latest wake. Workers move it from `Cold` to `Waking`,
//! by compare-and-swap, so that however many workers see a first packet at once, one of them notifies. Everything else
//! is written by the slowpath.
//!
//! ```text
//!            first packet (one worker wins)          instance published
//!   Cold ─────────────────────────────► Waking ───────────────────────► Ready ──► Draining ──► Cold
//!    ▲  event queue full, or wake failed  │  ▲                             │
//!    └────────────────────────────────────┘  └── first packet ── Quarantined / Bypass (slowpath only)
//! ```

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use crate::clock::Nanos;
use crate::tables::services::{SERVICES_MAX, ServiceId};

/// Where a service is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Phase {
    /// Nothing runs; the next first packet wakes it.
    Cold = 0,
    /// One notification is out.
    Waking = 1,
    /// At least one instance serves.
    Ready = 2,
    /// Instances are on their way out; a first packet still reaches them.
    Draining = 3,
    /// Too many wakes led to nothing: first packets take the overflow action.
    Quarantined = 4,
    /// The orchestrator is gone: first packets take the overflow action.
    Bypass = 5,
}

impl Phase {
    /// The name that operators see.
    pub fn name(self) -> &'static str {
        match self {
            Phase::Cold => "cold",
            Phase::Waking => "waking",
            Phase::Ready => "ready",
            Phase::Draining => "draining",
            Phase::Quarantined => "quarantined",
            Phase::Bypass => "bypass",
        }
    }

    fn from_bits(bits: u64) -> Self {
        match bits & 0xff {
            1 => Phase::Waking,
            2 => Phase::Ready,
            3 => Phase::Draining,
            4 => Phase::Quarantined,
            5 => Phase::Bypass,
            _ => Phase::Cold,
        }
    }
}

/// Numbers the wakes of one service, from 1; 0 is "never".
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Default, Hash)]
pub struct WakeId(pub u64);

/// What the next first packet has to prove for the wakes before it that led to nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Default)]
#[repr(u8)]
pub enum Escalation {
    /// No more than the configuration asks for.
    #[default]
    None = 0,
    /// That its sender repeats it.
    SecondPacket = 1,
    /// That its sender gets what is sent to it, where the service can find that out.
    Cookie = 2,
}

/// One service's slot; a cache line of its own, for several workers read it per packet.
#[derive(Debug, Default)]
#[repr(align(64))]
pub struct ServiceSlot {
    word: AtomicU64,
    handed: AtomicU64,
    /// When an arrival was told of last, in nanoseconds.
    told: AtomicU64,
    /// Wakes in a row that led to nothing, and below them the [`Escalation`] that follows.
    strikes: AtomicU32,
}

const _: () = assert!(size_of::<ServiceSlot>() == 64);

impl ServiceSlot {
    /// Phase and latest wake.
    #[inline]
    pub fn load(&self) -> (Phase, WakeId) {
        let word = self.word.load(Ordering::Acquire);
        (Phase::from_bits(word), WakeId(word >> 8))
    }

    /// `Cold` to `Waking`; the number of the new wake if this caller was first.
    pub fn begin_wake(&self) -> Option<WakeId> {
        let word = self.word.load(Ordering::Acquire);
        if Phase::from_bits(word) != Phase::Cold {
            return None;
        }
        let wake = (word >> 8) + 1;
        let next = (wake << 8) | Phase::Waking as u64;
        self.word.compare_exchange(word, next, Ordering::AcqRel, Ordering::Relaxed).ok().map(|_| WakeId(wake))
    }

    /// `Waking` back to `Cold`, if it is still that wake: its notification couldn't be sent, or it failed.
    pub fn cancel_wake(&self, wake: WakeId) -> bool {
        let from = (wake.0 << 8) | Phase::Waking as u64;
        let to = (wake.0 << 8) | Phase::Cold as u64;
        self.word.compare_exchange(from, to, Ordering::AcqRel, Ordering::Relaxed).is_ok()
    }

    /// Sets the phase and keeps the wake. For the slowpath alone, but for `Cold` → `Waking`, which may race with it:
    /// then this call wins on the newer wake.
    pub fn set_phase(&self, phase: Phase) {
        let mut word = self.word.load(Ordering::Acquire);
        loop {
            let next = (word & !0xff) | phase as u64;
            match self.word.compare_exchange_weak(word, next, Ordering::AcqRel, Ordering::Acquire) {
                Ok(_) => return,
                Err(now) => word = now,
            }
        }
    }

    /// Moves from phase `from` to `to`, if it is there.
    pub fn transition(&self, from: Phase, to: Phase) -> bool {
        let word = self.word.load(Ordering::Acquire);
        Phase::from_bits(word) == from
            && self
                .word
                .compare_exchange(word, (word & !0xff) | to as u64, Ordering::AcqRel, Ordering::Relaxed)
                .is_ok()
    }

    /// The slowpath has handed the notification of `wake` to the orchestrator's link.
    pub fn set_handed(&self, wake: WakeId) {
        self.handed.fetch_max(wake.0, Ordering::AcqRel);
    }

    /// Whether the notification of `wake` has been handed over.
    #[inline]
    pub fn is_handed(&self, wake: WakeId) -> bool {
        self.handed.load(Ordering::Acquire) >= wake.0
    }

    /// Whether this caller, of all workers, may tell of an arrival: at most one in `pause` nanoseconds is told of.
    pub fn may_tell(&self, now: Nanos, pause: u64) -> bool {
        let last = self.told.load(Ordering::Relaxed);
        (last == 0 || now.since(Nanos(last)) >= pause)
            && self.told.compare_exchange(last, now.0.max(1), Ordering::Relaxed, Ordering::Relaxed).is_ok()
    }

    /// Sets how many wakes in a row led to nothing, and what that asks of the next. For the slowpath alone.
    pub fn set_strikes(&self, strikes: u32, escalation: Escalation) {
        let word = (strikes << 8) | escalation as u32;
        // Workers read the line; what is no news doesn't take it from them.
        if self.strikes.load(Ordering::Relaxed) != word {
            self.strikes.store(word, Ordering::Relaxed);
        }
    }

    /// Wakes in a row that led to nothing.
    pub fn strikes(&self) -> u32 {
        self.strikes.load(Ordering::Relaxed) >> 8
    }

    /// What that asks of the next.
    #[inline]
    pub fn escalation(&self) -> Escalation {
        match self.strikes.load(Ordering::Relaxed) & 0xff {
            0 => Escalation::None,
            1 => Escalation::SecondPacket,
            _ => Escalation::Cookie,
        }
    }
}

/// The slots of all services, taken at start.
#[derive(Debug)]
pub struct Slots(Box<[ServiceSlot]>);

impl Default for Slots {
    fn default() -> Self {
        Self((0..SERVICES_MAX).map(|_| ServiceSlot::default()).collect())
    }
}

impl Slots {
    /// The slot of a service.
    #[inline]
    pub fn get(&self, id: ServiceId) -> &ServiceSlot {
        // Ids are below SERVICES_MAX by construction of the table; the modulo spares the panic path.
        &self.0[id.index() % SERVICES_MAX]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_of_many_wakers_wins_and_a_cancelled_wake_can_be_had_again() {
        let slots = Slots::default();
        let slot = slots.get(ServiceId(7));
        let winners: usize = std::thread::scope(|scope| {
            let threads: Vec<_> =
                (0..4).map(|_| scope.spawn(|| usize::from(slot.begin_wake().is_some()))).collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).sum()
        });
        assert_eq!(winners, 1);
        assert_eq!(slot.load(), (Phase::Waking, WakeId(1)));
        assert!(!slot.cancel_wake(WakeId(2)), "another wake's failure changes nothing");
        assert!(slot.cancel_wake(WakeId(1)));
        assert_eq!(slot.begin_wake(), Some(WakeId(2)));
        slot.set_phase(Phase::Ready);
        assert_eq!(slot.load(), (Phase::Ready, WakeId(2)));
        assert!(!slot.cancel_wake(WakeId(2)), "a ready service isn't made cold by a late failure");
        assert_eq!(slot.begin_wake(), None);
    }

    #[test]
    fn of_many_arrivals_at_once_one_is_told_of() {
        let slot = ServiceSlot::default();
        let told = |nanos| (0..5).filter(|_| slot.may_tell(Nanos(nanos), 100)).count();
        assert_eq!([0, 50, 99, 101, 150, 250].map(told), [1, 0, 0, 1, 0, 1]);
    }

    #[test]
    fn strikes_and_what_follows_from_them_are_one_word() {
        let slot = ServiceSlot::default();
        assert_eq!((slot.strikes(), slot.escalation()), (0, Escalation::None));
        for (strikes, escalation) in
            [(1, Escalation::SecondPacket), (700, Escalation::Cookie), (0, Escalation::None)]
        {
            slot.set_strikes(strikes, escalation);
            assert_eq!((slot.strikes(), slot.escalation()), (strikes, escalation));
        }
    }

    #[test]
    fn handing_over_never_goes_back() {
        let slot = ServiceSlot::default();
        slot.set_handed(WakeId(3));
        slot.set_handed(WakeId(2));
        assert!(slot.is_handed(WakeId(3)) && !slot.is_handed(WakeId(4)));
    }
}
