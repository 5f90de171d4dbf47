//! One probed address: up or down, by how many probes in a row say otherwise. No clock and no I/O.
//!
//! ```text
//!             down_after failures in a row
//!     Up ───────────────────────────────────► Down
//!      ▲     up_after successes in a row       │
//!      └───────────────────────────────────────┘
//! ```
//!
//! It begins up: a backend that was just configured is used until it is proven down, and an appliance that starts anew
//! doesn't refuse everybody until its first probes have come back.

use millrace_fastpath::clock::Nanos;

/// Why a probe failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Failure {
    /// There is no way to the address, or nobody has it.
    #[error("unreachable")]
    Unreachable,
    /// The handshake was answered with a reset.
    #[error("refused")]
    Refused,
    /// It took too long.
    #[error("timed out")]
    TimedOut,
    /// The connection ended before there was an answer.
    #[error("ended without an answer")]
    Ended,
    /// The answer isn't one of HTTP.
    #[error("not an answer of HTTP")]
    NotHttp,
    /// The answer has a status that isn't good.
    #[error("status {0}")]
    Status(u16),
}

/// How many probes in a row it takes; both are at least 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Thresholds {
    /// Failures, for down.
    pub down_after: u32,
    /// Successes, for up.
    pub up_after: u32,
}

/// The state of one address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Machine {
    thresholds: Thresholds,
    up: bool,
    /// Probes in a row that say the contrary of `up`.
    contrary: u32,
    since: Nanos,
    error: Option<Failure>,
    succeeded: Option<Nanos>,
    probes: u64,
    failures: u64,
}

impl Machine {
    /// Up, until it is proven down.
    pub fn new(thresholds: Thresholds, now: Nanos) -> Self {
        Self {
            thresholds,
            up: true,
            contrary: 0,
            since: now,
            error: None,
            succeeded: None,
            probes: 0,
            failures: 0,
        }
    }

    /// The same address, checked in another way from now on: it stays what it is until the new probes say otherwise.
    pub fn checked_anew(&self, thresholds: Thresholds) -> Self {
        Self { thresholds, contrary: 0, ..*self }
    }

    /// Takes what came of a probe. Whether that changed its state.
    pub fn report(&mut self, now: Nanos, result: Result<(), Failure>) -> bool {
        self.probes += 1;
        match result {
            Ok(()) => self.succeeded = Some(now),
            Err(failure) => {
                self.failures += 1;
                self.error = Some(failure);
            }
        }
        if result.is_ok() == self.up {
            self.contrary = 0;
            return false;
        }
        self.contrary += 1;
        let needed = if self.up { self.thresholds.down_after } else { self.thresholds.up_after };
        if self.contrary < needed {
            return false;
        }
        self.up = !self.up;
        (self.contrary, self.since) = (0, now);
        true
    }

    /// Whether the last probe said what it is taken for. Not before the first one.
    pub fn is_borne_out(&self) -> bool {
        self.probes > 0 && self.contrary == 0
    }

    /// Whether it is up.
    pub fn is_up(&self) -> bool {
        self.up
    }

    /// Since when it is what it is.
    pub fn since(&self) -> Nanos {
        self.since
    }

    /// Why the last probe that failed did.
    pub fn error(&self) -> Option<Failure> {
        self.error
    }

    /// When a probe succeeded last.
    pub fn succeeded(&self) -> Option<Nanos> {
        self.succeeded
    }

    /// Probes that came to an end.
    pub fn probes(&self) -> u64 {
        self.probes
    }

    /// Those of them that failed.
    pub fn failures(&self) -> u64 {
        self.failures
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const REFUSED: Result<(), Failure> = Err(Failure::Refused);

    fn machine(down_after: u32, up_after: u32) -> Machine {
        Machine::new(Thresholds { down_after, up_after }, Nanos(0))
    }

    /// Feeds results a nanosecond apart, and gives the state after each.
    fn feed(machine: &mut Machine, results: &str) -> String {
        results
            .chars()
            .enumerate()
            .map(|(at, result)| {
                let was = machine.is_up();
                let result = if result == '+' { Ok(()) } else { REFUSED };
                assert_eq!(machine.report(Nanos(at as u64 + 1), result), machine.is_up() != was);
                if machine.is_up() { 'U' } else { 'd' }
            })
            .collect()
    }

    #[test]
    fn it_takes_as_many_in_a_row_as_it_says_either_way() {
        assert_eq!(feed(&mut machine(3, 2), "--+--+---+-++"), "UUUUUUUUddddU");
        assert_eq!(feed(&mut machine(3, 2), "---++"), "UUddU");
        assert_eq!(feed(&mut machine(1, 1), "-+-+"), "dUdU");
    }

    #[test]
    fn it_tells_what_was_counted_and_since_when() {
        let mut machine = machine(2, 1);
        assert_eq!(feed(&mut machine, "+--"), "UUd");
        assert_eq!((machine.probes(), machine.failures(), machine.since()), (3, 2, Nanos(3)));
        assert_eq!((machine.error(), machine.succeeded()), (Some(Failure::Refused), Some(Nanos(1))));
    }

    #[test]
    fn another_way_of_checking_keeps_the_state_and_begins_to_count() {
        let mut machine = machine(2, 2);
        feed(&mut machine, "--+");
        let mut other = machine.checked_anew(Thresholds { down_after: 2, up_after: 2 });
        assert!(!other.is_up(), "it is still down");
        assert_eq!(feed(&mut other, "+-++"), "dddU");
    }
}
