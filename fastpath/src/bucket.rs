//! Tokens that time gives, for what strangers can ask a worker to do.

use crate::clock::Nanos;

/// A bucket of tokens. It is full at first.
#[derive(Debug)]
pub struct TokenBucket {
    /// What a token costs of the time that has passed, in nanoseconds.
    nanos_each: u64,
    nanos_max: u64,
    nanos: u64,
    filled: Nanos,
}

impl TokenBucket {
    /// So many tokens a second in the long run, and so many at once after a quiet time; neither is 0.
    pub const fn new(per_second: u64, burst: u64) -> Self {
        let nanos_each = 1_000_000_000 / per_second;
        Self { nanos_each, nanos_max: burst * nanos_each, nanos: burst * nanos_each, filled: Nanos(0) }
    }

    /// Takes one, if there is one.
    pub fn take(&mut self, now: Nanos) -> bool {
        self.nanos = (self.nanos + now.since(self.filled)).min(self.nanos_max);
        self.filled = now;
        match self.nanos.checked_sub(self.nanos_each) {
            Some(left) => {
                self.nanos = left;
                true
            }
            None => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bucket_gives_its_burst_and_then_its_rate() {
        let mut bucket = TokenBucket::new(1000, 50);
        let start = Nanos(5_000_000_000);
        assert_eq!((0..200).filter(|_| bucket.take(start)).count(), 50);
        let second = (0..10_000).filter(|n| bucket.take(start.plus(n * 100_000))).count();
        assert_eq!(second, 1000 - 1, "one each millisecond, none at its beginning");
        let later = start.plus(3_600_000_000_000);
        assert_eq!((0..200).filter(|_| bucket.take(later)).count(), 50, "an hour's silence saves no more");
    }
}
