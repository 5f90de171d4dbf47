//! Waiting between attempts to connect.

use std::time::Duration;

/// Doubles from [`BACKOFF_MIN`] to [`BACKOFF_MAX`], and starts again after a success.
#[derive(Debug, Clone)]
pub struct Backoff {
    next: Duration,
}

impl Default for Backoff {
    fn default() -> Self {
        Backoff { next: BACKOFF_MIN }
    }
}

impl Backoff {
    /// How long to wait this time.
    pub fn step(&mut self) -> Duration {
        let now = self.next;
        self.next = (now * 2).min(BACKOFF_MAX);
        now
    }

    /// The last attempt succeeded.
    pub fn reset(&mut self) {
        *self = Backoff::default();
    }
}

/// First wait: an orchestrator that restarts in place is back within one.
pub const BACKOFF_MIN: Duration = Duration::from_millis(50);

/// Longest wait: an appliance finds an orchestrator that came back within this time.
pub const BACKOFF_MAX: Duration = Duration::from_secs(2);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_up_to_a_bound() {
        let mut backoff = Backoff::default();
        let waits: Vec<u128> = (0..8).map(|_| backoff.step().as_millis()).collect();
        assert_eq!(waits, [50, 100, 200, 400, 800, 1600, 2000, 2000]);
        backoff.reset();
        assert_eq!(backoff.step(), BACKOFF_MIN);
    }
}
