//! The three laws of fates: sums that hold whenever a worker is between two polls.
//!
//! 1. Whatever came in went somewhere:
//!    received + injected + handed in = forwarded + answered + replicated + held + delivered + punted + dropped + handed out.
//! 2. Whatever was to be sent was taken or refused by a port:
//!    forwarded + answered + copies + frames out of holds + originated = accepted + refused.
//! 3. Whatever was held left the hold or is in it:
//!    held = released + expired + replaced + still held.
//!
//! A frame that leaves a hold starts a second life, which is counted apart so that law 1 counts each arrival once.
//! Handed out and handed in cancel over all workers once the rings between them are empty.

use serde::{Deserialize, Serialize};

use crate::counters::FateCounters;

/// A consistent reading of one worker's fates, or the sum of several; also as operators see them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[allow(missing_docs, reason = "the fields are those of FateCounters, where each is explained")]
pub struct Fates {
    pub received: u64,
    pub injected: u64,
    pub handed_in: u64,
    pub handed_out: u64,
    pub forwarded: u64,
    pub answered: u64,
    pub replicated: u64,
    pub held: u64,
    pub delivered: u64,
    pub punted: u64,
    pub dropped: u64,
    pub copies: u64,
    pub originated: u64,
    pub released: u64,
    pub expired: u64,
    pub replaced: u64,
    pub still_held: u64,
    pub release_sent: u64,
    pub release_punted: u64,
    pub release_dropped: u64,
    pub tx_accepted: u64,
    pub tx_refused: u64,
}

/// A law that doesn't hold: a frame whose fate nobody can tell.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Violation {
    /// Which law, 1 to 3.
    pub law: u8,
    /// What should equal ...
    pub left: u64,
    /// ... this.
    pub right: u64,
}

impl Fates {
    /// Reads the counters.
    pub fn read(from: &FateCounters) -> Self {
        Self {
            received: from.received.get(),
            injected: from.injected.get(),
            handed_in: from.handed_in.get(),
            handed_out: from.handed_out.get(),
            forwarded: from.forwarded.get(),
            answered: from.answered.get(),
            replicated: from.replicated.get(),
            held: from.held.get(),
            delivered: from.delivered.get(),
            punted: from.punted.get(),
            dropped: from.dropped.get(),
            copies: from.copies.get(),
            originated: from.originated.get(),
            released: from.released.get(),
            expired: from.expired.get(),
            replaced: from.replaced.get(),
            still_held: from.still_held.get(),
            release_sent: from.release_sent.get(),
            release_punted: from.release_punted.get(),
            release_dropped: from.release_dropped.get(),
            tx_accepted: from.tx_accepted.get(),
            tx_refused: from.tx_refused.get(),
        }
    }

    /// Adds another worker's.
    pub fn add(&mut self, other: &Self) {
        self.received += other.received;
        self.injected += other.injected;
        self.handed_in += other.handed_in;
        self.handed_out += other.handed_out;
        self.forwarded += other.forwarded;
        self.answered += other.answered;
        self.replicated += other.replicated;
        self.held += other.held;
        self.delivered += other.delivered;
        self.punted += other.punted;
        self.dropped += other.dropped;
        self.copies += other.copies;
        self.originated += other.originated;
        self.released += other.released;
        self.expired += other.expired;
        self.replaced += other.replaced;
        self.still_held += other.still_held;
        self.release_sent += other.release_sent;
        self.release_punted += other.release_punted;
        self.release_dropped += other.release_dropped;
        self.tx_accepted += other.tx_accepted;
        self.tx_refused += other.tx_refused;
    }

    /// Both sides of each law, in order.
    pub fn sides(&self) -> [(u64, u64); 3] {
        [
            (
                self.received + self.injected + self.handed_in,
                self.forwarded
                    + self.answered
                    + self.replicated
                    + self.held
                    + self.delivered
                    + self.punted
                    + self.dropped
                    + self.handed_out,
            ),
            (
                self.forwarded + self.answered + self.copies + self.release_sent + self.originated,
                self.tx_accepted + self.tx_refused,
            ),
            (self.held, self.released + self.expired + self.replaced + self.still_held),
        ]
    }

    /// The first law that doesn't hold.
    ///
    /// # Errors
    /// The law and its two sides.
    pub fn check(&self) -> Result<(), Violation> {
        for (law, (left, right)) in (1..).zip(self.sides()) {
            if left != right {
                return Err(Violation { law, left, right });
            }
        }
        Ok(())
    }

    /// Frames that no law explains: how far the sides are apart, over all laws.
    pub fn unexplained(&self) -> u64 {
        self.sides().iter().map(|(left, right)| left.abs_diff(*right)).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lost_frame_breaks_the_law_it_was_lost_under() {
        let whole = Fates {
            received: 10,
            forwarded: 6,
            held: 3,
            dropped: 1,
            released: 2,
            still_held: 1,
            release_sent: 2,
            tx_accepted: 7,
            tx_refused: 1,
            ..Fates::default()
        };
        assert_eq!(whole.check(), Ok(()));
        let law = |change: fn(&mut Fates)| {
            let mut fates = whole;
            change(&mut fates);
            fates.check().unwrap_err().law
        };
        assert_eq!(law(|f| f.received += 1), 1);
        assert_eq!(law(|f| f.tx_accepted -= 1), 2);
        assert_eq!(law(|f| f.still_held -= 1), 3);
    }
}
