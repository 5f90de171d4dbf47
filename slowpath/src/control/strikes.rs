//! Wakes that led to nothing, counted for each service, and what they ask of its next wake.
//!
//! ```text
//!   a wake failed, or readied an instance to which nobody completed a handshake ─► a strike
//!     1 strike   the next first packet wakes when it is repeated
//!     2          when its sender answers a cookie, where the service splices; else as after one
//!     3          quarantine
//!   somebody completed a handshake ─► none; a minute without one ─► one fewer
//! ```

use millrace_fastpath::clock::Nanos;
use millrace_fastpath::slots::{Escalation, ServiceSlot, WakeId};

/// One service's.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Strikes {
    count: u32,
    since: Nanos,
}

/// What shows that a wake was good for something.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Proof {
    /// The wake.
    pub(super) wake: WakeId,
    /// Flows that had been established before it.
    pub(super) established: u64,
    /// Flows that had begun before it, where any flow is proof: of UDP, whose services needn't answer.
    pub(super) begun: Option<u64>,
    /// A query began it, which says nothing of when somebody comes.
    pub(super) asked: bool,
    /// When it will have led to nothing; set when it is ready.
    pub(super) due: Option<Nanos>,
}

impl Proof {
    /// Whether these sums show that somebody came.
    pub(super) fn is_given(&self, established: u64, begun: u64) -> bool {
        established > self.established || self.begun.is_some_and(|before| begun > before)
    }

    /// The wake led to a ready instance.
    pub(super) fn ready(self, now: Nanos) -> Self {
        Self { due: (!self.asked).then(|| now.plus(PROOF_NANOS)), ..self }
    }
}

impl Strikes {
    /// One more; whether that is enough for a quarantine.
    pub(super) fn strike(&mut self, now: Nanos) -> bool {
        self.decay(now);
        (self.count, self.since) = (self.count + 1, now);
        self.count >= STRIKES_MAX
    }

    /// Forgets as many as the time says.
    pub(super) fn decay(&mut self, now: Nanos) {
        let minutes = now.since(self.since) / STRIKE_DECAY_NANOS;
        if minutes > 0 {
            self.count = self.count.saturating_sub(u32::try_from(minutes).unwrap_or(u32::MAX));
            self.since = self.since.plus(minutes * STRIKE_DECAY_NANOS);
        }
    }

    /// Time that says nothing: an instance runs that nobody needed, and nobody can wake another.
    pub(super) fn pause(&mut self, now: Nanos) {
        self.since = now;
    }

    /// After a quarantine one more begins the next.
    pub(super) fn pardon(&mut self, now: Nanos) {
        *self = Self { count: STRIKES_MAX - 1, since: now };
    }

    /// Tells the workers.
    pub(super) fn show(&self, slot: &ServiceSlot) {
        let escalation = match self.count {
            0 => Escalation::None,
            1 => Escalation::SecondPacket,
            _ => Escalation::Cookie,
        };
        slot.set_strikes(self.count, escalation);
    }
}

/// Wakes in a row that come to nothing before no more are tried for a while.
pub const STRIKES_MAX: u32 = 3;
/// How long a strike counts.
const STRIKE_DECAY_NANOS: u64 = 60_000_000_000;
/// How long after readiness somebody must have completed a handshake. Held first packets are released within this, and so
/// are the repetitions of those that couldn't be held.
pub(super) const PROOF_NANOS: u64 = 2_000_000_000;

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64) -> Nanos {
        Nanos(1_000_000_000_000 + seconds * 1_000_000_000)
    }

    fn level(strikes: &Strikes) -> (u32, Escalation) {
        let slot = ServiceSlot::default();
        strikes.show(&slot);
        (slot.strikes(), slot.escalation())
    }

    #[test]
    fn each_strike_asks_for_more_and_each_minute_for_less() {
        let mut strikes = Strikes::default();
        assert_eq!(level(&strikes), (0, Escalation::None));
        assert!(!strikes.strike(at(0)));
        assert_eq!(level(&strikes), (1, Escalation::SecondPacket));
        assert!(!strikes.strike(at(30)));
        assert_eq!(level(&strikes), (2, Escalation::Cookie));
        strikes.decay(at(89));
        assert_eq!(level(&strikes).0, 2);
        strikes.decay(at(90));
        assert_eq!(level(&strikes).0, 1, "counted from the last");
        strikes.decay(at(149));
        strikes.pause(at(149));
        strikes.decay(at(208));
        assert_eq!(level(&strikes).0, 1);
        strikes.decay(at(209));
        assert_eq!(level(&strikes).0, 0);
        assert!(!strikes.strike(at(210)) && !strikes.strike(at(211)) && strikes.strike(at(212)));
        strikes.pardon(at(272));
        assert_eq!(level(&strikes).0, 2);
        assert!(strikes.strike(at(300)));
    }

    #[test]
    fn an_established_flow_is_proof_and_a_begun_one_only_where_nothing_is_established() {
        let proof = Proof { wake: WakeId(1), established: 7, begun: None, asked: false, due: None };
        assert!(!proof.is_given(7, 100) && proof.is_given(8, 0));
        let datagram = Proof { begun: Some(7), ..proof };
        assert!(!datagram.is_given(7, 7) && datagram.is_given(7, 8));
        assert_eq!(proof.ready(at(0)).due, Some(at(2)));
        assert_eq!(Proof { asked: true, ..proof }.ready(at(0)).due, None);
    }
}
