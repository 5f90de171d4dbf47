//! Response rate limiting: how many answers a source prefix is sent.
//!
//! A spoofed query costs its sender a few dozen bytes, and the one whose address it bears an answer. So answers to each
//! prefix are bounded, clients that have shown a valid cookie excepted (RFC 7873 section 5.2.4). Of the answers beyond the bound every
//! n-th is sent truncated instead: it is no larger than the query, and leads a client that exists to TCP.
//!
//! Every worker has a table of its own and its share of the rate. Per prefix it keeps one time, that of the generic cell
//! rate algorithm: when the answers sent so far would have been due at the allowed rate. A bucket whose time has come is as good as
//! none, so nothing has to be filled or expired, and of the buckets of a full set the one that is nearest to that makes room.
//!
//! ```text
//!   hash of the prefix ─► set: 4 buckets of 16 bytes, one cache line ─► tag │ held back │ due
//! ```

use siphasher::sip::SipHasher13;

use crate::addr::Addr;
use crate::clock::Nanos;
use crate::counters::Counter;

/// What the operator allows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RateLimit {
    /// Answers to one prefix in one second, over all workers; at least 1.
    pub responses_per_second: u32,
    /// Length of an IPv4 prefix, in bits.
    pub prefix_v4: u8,
    /// Length of an IPv6 prefix, in bits.
    pub prefix_v6: u8,
    /// Every how many held back answers one is sent truncated; 0 for never.
    pub slip: u8,
}

/// What becomes of an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Admission {
    /// It is sent.
    Whole,
    /// It is sent truncated.
    Truncated,
    /// It isn't sent.
    Withheld,
}

/// The prefixes that one worker has answered lately.
pub struct Limiter {
    hasher: SipHasher13,
    sets: Box<[Set]>,
}

#[derive(Clone, Copy, Default)]
#[repr(align(64))]
struct Set([Bucket; WAYS]);

#[derive(Clone, Copy, Default)]
struct Bucket {
    tag: u32,
    /// Answers held back, since the prefix was last forgotten.
    withheld: u32,
    due: Nanos,
}

/// Buckets of a set: a cache line.
const WAYS: usize = 4;
/// Prefixes that a worker of an appliance tells apart at a time: 1 MiB.
pub const PREFIXES: usize = 1 << 16;
/// How much may be sent at once after a quiet time, as time at the allowed rate, in nanoseconds: resolvers ask in bursts.
const BURST_NANOS: u64 = 1_000_000_000;

const _: () = assert!(size_of::<Set>() == 64);

impl Limiter {
    /// A limiter that nobody has been answered by. Takes all its memory, for at least so many prefixes. `keys` are secret: who
    /// knew them could crowd the buckets of others.
    pub fn new(keys: [u64; 2], prefixes: usize) -> Self {
        let hasher = SipHasher13::new_with_keys(keys[0], keys[1]);
        let sets = prefixes.div_ceil(WAYS).next_power_of_two();
        Self { hasher, sets: vec![Set::default(); sets].into_boxed_slice() }
    }

    /// Whether an answer to `client` may be sent by one of `workers`. A bucket that has to be forgotten before its time is
    /// counted in `evicted`: its prefix starts anew.
    pub fn admit(
        &mut self,
        limit: &RateLimit,
        workers: usize,
        client: Addr,
        now: Nanos,
        evicted: &Counter,
    ) -> Admission {
        let hash = self.hasher.hash(&limit.prefix_of(client).to_le_bytes());
        // 0 stands for no bucket.
        let tag = (hash >> 32) as u32 | 1;
        // There is a power of two of them.
        let set = hash as usize & (self.sets.len() - 1);
        let buckets = &mut self.sets[set].0;
        let at = buckets.iter().position(|bucket| bucket.tag == tag).unwrap_or_else(|| {
            // The one that is due first: none, before any.
            let first = (0..WAYS).min_by_key(|at| buckets[*at].due).unwrap_or(0);
            if buckets[first].due > now {
                evicted.add(1);
            }
            buckets[first] = Bucket { tag, withheld: 0, due: now };
            first
        });
        let bucket = &mut buckets[at];
        let interval = (1_000_000_000 * workers as u64 / u64::from(limit.responses_per_second.max(1))).max(1);
        let due = bucket.due.max(now).plus(interval);
        if due.since(now) <= BURST_NANOS.max(interval) {
            bucket.due = due;
            return Admission::Whole;
        }
        bucket.withheld = bucket.withheld.wrapping_add(1);
        match limit.slip {
            0 => Admission::Withheld,
            slip if bucket.withheld.is_multiple_of(u32::from(slip)) => Admission::Truncated,
            _ => Admission::Withheld,
        }
    }
}

impl RateLimit {
    /// The prefix of an address, as bits; those of the families differ.
    fn prefix_of(&self, client: Addr) -> u128 {
        let host_bits = if client.is_v4() {
            32_u32.saturating_sub(u32::from(self.prefix_v4))
        } else {
            128_u32.saturating_sub(u32::from(self.prefix_v6))
        };
        client.0 & u128::MAX.checked_shl(host_bits).unwrap_or(0)
    }
}

impl std::fmt::Debug for Limiter {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Limiter").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const LIMIT: RateLimit = RateLimit { responses_per_second: 10, prefix_v4: 24, prefix_v6: 56, slip: 2 };

    fn addr(text: &str) -> Addr {
        Addr::from(text.parse::<std::net::IpAddr>().unwrap())
    }

    fn ms(ms: u64) -> Nanos {
        Nanos(1_000_000_000_000 + ms * 1_000_000)
    }

    struct Bench(Limiter, Counter);

    impl Bench {
        fn new() -> Self {
            Self(Limiter::new([1, 2], PREFIXES), Counter::default())
        }

        /// How many of `count` answers at one time are whole, truncated, withheld.
        fn burst(&mut self, limit: &RateLimit, client: Addr, at: Nanos, count: usize) -> [usize; 3] {
            let mut all = [0; 3];
            for _ in 0..count {
                all[self.0.admit(limit, 1, client, at, &self.1) as usize] += 1;
            }
            all
        }
    }

    #[test]
    fn a_burst_is_a_second_and_then_the_rate_holds() {
        let mut bench = Bench::new();
        let client = addr("192.0.2.7");
        assert_eq!(bench.burst(&LIMIT, client, ms(0), 30), [10, 10, 10]);
        assert_eq!(bench.burst(&LIMIT, client, ms(99), 2), [0, 1, 1]);
        assert_eq!(bench.burst(&LIMIT, client, ms(100), 3), [1, 1, 1]);
        assert_eq!(bench.burst(&LIMIT, client, ms(600), 30)[0], 5);
        assert_eq!(bench.burst(&LIMIT, client, ms(1_000_000), 30)[0], 10, "nothing is saved up");
        assert_eq!(bench.1.get(), 0);
    }

    #[test]
    fn prefixes_are_those_of_the_limit_and_apart() {
        let mut bench = Bench::new();
        assert_eq!(bench.burst(&LIMIT, addr("192.0.2.7"), ms(0), 20)[0], 10);
        assert_eq!(bench.burst(&LIMIT, addr("192.0.2.250"), ms(0), 5)[0], 0);
        assert_eq!(bench.burst(&LIMIT, addr("192.0.3.7"), ms(0), 20)[0], 10);
        assert_eq!(bench.burst(&LIMIT, addr("2001:db8:0:100::1"), ms(0), 20)[0], 10);
        assert_eq!(bench.burst(&LIMIT, addr("2001:db8:0:1ff::1"), ms(0), 5)[0], 0);
        assert_eq!(bench.burst(&LIMIT, addr("2001:db8:0:200::1"), ms(0), 5)[0], 5);
        let all = RateLimit { prefix_v4: 0, prefix_v6: 0, ..LIMIT };
        assert_eq!(all.prefix_of(addr("10.0.0.1")), all.prefix_of(addr("203.0.113.9")));
        assert_eq!(all.prefix_of(addr("2001:db8::1")), 0);
        assert_ne!(all.prefix_of(addr("10.0.0.1")), 0);
    }

    #[test]
    fn slip_says_which_are_truncated() {
        for (slip, truncated) in [(0, 0), (1, 90), (2, 45), (3, 30), (100, 0)] {
            let limit = RateLimit { slip, ..LIMIT };
            assert_eq!(
                Bench::new().burst(&limit, addr("192.0.2.7"), ms(0), 100),
                [10, truncated, 90 - truncated]
            );
        }
    }

    #[test]
    fn workers_share_the_rate_and_a_rate_below_theirs_still_answers() {
        let mut bench = Bench::new();
        let mut whole = |rate, workers| {
            let limit = RateLimit { responses_per_second: rate, ..LIMIT };
            let client = addr(&format!("10.{rate}.{workers}.1"));
            (0..1000)
                .filter(|_| bench.0.admit(&limit, workers, client, ms(0), &bench.1) == Admission::Whole)
                .count()
        };
        assert_eq!([whole(100, 1), whole(100, 4), whole(1, 1), whole(1, 4)], [100, 25, 1, 1]);
    }

    /// Far more prefixes than buckets: bounded, counted, and back to normal afterwards.
    #[test]
    fn a_full_table_forgets_who_is_nearest_to_being_forgotten() {
        let mut bench = Bench::new();
        let crowd = |at: u32| Addr::v4((0x0a00_0000 | at << 8).to_be_bytes());
        for at in 0..2 * PREFIXES as u32 {
            assert_eq!(bench.0.admit(&LIMIT, 1, crowd(at), ms(0), &bench.1), Admission::Whole);
        }
        assert!(bench.1.get() >= PREFIXES as u64);
        let evicted = bench.1.get();
        // A second later every bucket is free again.
        assert_eq!(bench.burst(&LIMIT, addr("192.0.2.7"), ms(1000), 30)[0], 10);
        assert_eq!(bench.1.get(), evicted);
        // One that owes much stays when the crowd comes back: those who owe less make room.
        for at in 0..2 * PREFIXES as u32 {
            bench.0.admit(&LIMIT, 1, crowd(at), ms(1000), &bench.1);
        }
        assert_eq!(bench.burst(&LIMIT, addr("192.0.2.7"), ms(1000), 30)[0], 0);
    }

    proptest! {
        /// Over any times, a prefix gets at most a second's worth and what the rate adds to it.
        #[test]
        fn the_rate_is_never_exceeded(gaps in prop::collection::vec(0_u64..300, 1..200), rate in 1_u32..50) {
            let limit = RateLimit { responses_per_second: rate, ..LIMIT };
            let mut bench = Bench::new();
            let (mut at, mut sent) = (0, 0_u64);
            for gap in gaps {
                at += gap;
                sent += u64::from(bench.0.admit(&limit, 1, addr("192.0.2.7"), ms(at), &bench.1) == Admission::Whole);
                prop_assert!(sent * 1000 <= u64::from(rate) * (1000 + at) + 1000, "{sent} in {at} ms");
            }
        }
    }
}
