//! How fast something grows, and how long the rest takes.

use std::collections::VecDeque;
use std::time::Duration;

use millrace_hub_store::BUSY_MILLIS;

/// A rate over the last few seconds.
#[derive(Debug, Default)]
pub struct Meter {
    /// Times, and what there was then.
    samples: VecDeque<(Duration, u64)>,
    /// When it grew last.
    grew: Duration,
}

impl Meter {
    /// Notes how much there is now.
    pub fn note(&mut self, now: Duration, amount: u64) {
        // What has shrunk begins anew: it was found to be wrong.
        if self.samples.back().is_some_and(|(_, before)| amount < *before) {
            self.samples.clear();
        }
        if self.samples.back().is_none_or(|(_, before)| amount > *before) {
            self.grew = now;
        }
        self.samples.push_back((now, amount));
        while self.samples.len() > 2 && self.samples[1].0 + SPAN <= now {
            self.samples.pop_front();
        }
    }

    /// How much is added in a second; `None` before that is known.
    pub fn per_second(&self) -> Option<f64> {
        let ((from, before), (to, after)) = (self.samples.front()?, self.samples.back()?);
        let time = to.saturating_sub(*from).as_secs_f64();
        (time > 0.0).then(|| (after - before) as f64 / time)
    }

    /// Whether nothing has been added for so long that it can't be told whether anything will.
    pub fn is_stalled(&self, now: Duration) -> bool {
        now.saturating_sub(self.grew) >= STALLED
    }

    /// How long it takes to get from here to so much; `None` if nothing moves.
    pub fn left(&self, whole: u64) -> Option<Duration> {
        let (_, now) = self.samples.back()?;
        let rate = self.per_second().filter(|rate| *rate > 0.0)?;
        Duration::try_from_secs_f64(whole.saturating_sub(*now) as f64 / rate).ok()
    }
}

/// Long enough to be steady, short enough to follow a change.
const SPAN: Duration = Duration::from_secs(5);
/// As for contents that go to the store, which judges by itself.
const STALLED: Duration = Duration::from_millis(BUSY_MILLIS);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn follows_the_last_seconds() {
        let seconds = Duration::from_secs;
        let mut meter = Meter::default();
        assert_eq!((meter.per_second(), meter.left(5)), (None, None));
        (0..=10).for_each(|at| meter.note(seconds(at), at * 100));
        assert_eq!((meter.per_second(), meter.left(1500)), (Some(100.0), Some(seconds(5))));
        (11..=20).for_each(|at| meter.note(seconds(at), 1000));
        assert_eq!((meter.per_second(), meter.left(1500)), (Some(0.0), None));
        assert_eq!((meter.is_stalled(seconds(69)), meter.is_stalled(seconds(70))), (false, true));
        meter.note(seconds(21), 10);
        assert_eq!(meter.per_second(), None, "it began anew");
    }
}
