//! One packet after the other, at a rate.

use core::time::Duration;

use super::Rate;

/// When the next packet may be sent.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Pacer {
    rate: Rate,
    catch_up: Duration,
    next: Duration,
}

impl Pacer {
    /// `catch_up` is the time that may be made up for at once, when the caller comes late.
    pub(crate) fn new(rate: Rate, catch_up: Duration, now: Duration) -> Self {
        Self { rate, catch_up, next: now }
    }

    pub(crate) fn set(&mut self, rate: Rate) {
        self.rate = rate;
    }

    pub(crate) fn next(&self) -> Duration {
        self.next
    }

    /// So many packets, each this long, were sent.
    pub(crate) fn spend(&mut self, now: Duration, packets: usize, len: usize) {
        let bits = (packets * (len + usize::from(self.rate.overhead))) as u128 * 8;
        let nanoseconds = bits * 1_000_000_000 / u128::from(self.rate.bits_per_second.max(1));
        let cost = Duration::from_nanos(u64::try_from(nanoseconds).unwrap_or(u64::MAX));
        self.next = self.next.max(now.saturating_sub(self.catch_up)).saturating_add(cost);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keeps_the_rate_and_makes_up_for_little() {
        let catch_up = Duration::from_millis(2);
        let rate = Rate { bits_per_second: 8_000_000, overhead: 100 };
        let mut pacer = Pacer::new(rate, catch_up, Duration::ZERO);
        let mut now = Duration::ZERO;
        for _ in 0..10 {
            pacer.spend(now, 2, 400);
            now = pacer.next();
        }
        assert_eq!(now, Duration::from_millis(10), "20 packets of 500 bytes at 1 byte a microsecond");
        let late = Duration::from_secs(1);
        pacer.spend(late, 1, 900);
        assert_eq!(pacer.next(), late - catch_up + Duration::from_millis(1));
    }
}
