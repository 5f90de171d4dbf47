//! The greatest round-trip time of a group (RFC 5401 section 3.7.1): grows with the first longer one, falls slowly.

use core::time::Duration;

#[derive(Clone, Copy, Debug)]
pub(super) struct Grtt {
    estimate: Duration,
    min: Duration,
    max: Duration,
    /// The longest since the last probe.
    peak: Option<Duration>,
}

impl Grtt {
    pub(super) fn new(initial: Duration, min: Duration, max: Duration) -> Self {
        Self { estimate: initial.clamp(min, max.max(min)), min, max: max.max(min), peak: None }
    }

    pub(super) fn get(&self) -> Duration {
        self.estimate
    }

    /// A node's round trip took so long.
    pub(super) fn sample(&mut self, rtt: Duration) {
        let rtt = rtt.clamp(self.min, self.max);
        self.peak = Some(self.peak.unwrap_or_default().max(rtt));
        if rtt > self.estimate {
            self.estimate = (self.estimate + 3 * rtt) / 4;
        }
    }

    /// A probe's time is over.
    pub(super) fn end_probe(&mut self) {
        if let Some(peak) = self.peak.take().filter(|peak| *peak < self.estimate) {
            self.estimate = ((3 * self.estimate + peak) / 4).max(peak);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn grows_fast_and_falls_slowly() {
        let ms = Duration::from_millis;
        let mut grtt = Grtt::new(ms(40), ms(10), ms(1000));
        grtt.sample(ms(80));
        assert_eq!(grtt.get(), ms(70));
        grtt.end_probe();
        assert_eq!(grtt.get(), ms(70), "the peak was longer");
        grtt.end_probe();
        assert_eq!(grtt.get(), ms(70), "nobody said anything");
        grtt.sample(ms(30));
        assert_eq!(grtt.get(), ms(70));
        grtt.end_probe();
        assert_eq!(grtt.get(), ms(60));
        for _ in 0..50 {
            grtt.sample(ms(1));
            grtt.end_probe();
        }
        assert!(grtt.get() < ms(11) && grtt.get() >= ms(10));
        for _ in 0..50 {
            grtt.sample(Duration::MAX);
        }
        assert!(grtt.get() <= ms(1000));
    }
}
