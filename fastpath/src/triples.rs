//! Source, destination and protocol of packets seen lately: what the trigger `flow` takes for new.
//!
//! One table for all workers, since a device spreads the packets of one triple over its queues. Who comes first enters
//! the triple by compare-and-swap, so that of several workers one takes it for new. A worker reads one cache line, and
//! writes to it once a second for each triple.
//!
//! ```text
//!   keyed hash ─► set of eight words in one cache line ─► its own word: seen again
//!                                                      └► none: takes the place of the one seen longest ago
//! ```
//!
//! It is a memory, not a proof: two triples in about a million million pass for one another, and a flood of more than
//! [`TRIPLES_MAX`] within a minute makes it forget sooner, which is counted.

use std::sync::atomic::{AtomicU64, Ordering};

use crate::clock::Nanos;
use crate::counters::Counter;

/// Triples remembered at a time, in half a megabyte.
pub const TRIPLES_MAX: usize = 1 << 16;
/// Seconds without a packet after which a triple is new again: longer than a client's pauses between its attempts.
pub const REMEMBERED_SECONDS: u64 = 60;
/// Words of a set: a cache line.
const WAYS: usize = 8;
const SETS: usize = TRIPLES_MAX / WAYS;
/// How often a worker looks again at a set that others are writing to.
const ATTEMPTS_MAX: usize = 4;

/// Of a word: the second in which the triple was last seen; the bits above are of its hash. It comes round after half a
/// year, when a word that old may count as fresh once more.
const SECOND: u64 = (1 << 24) - 1;
const _: () =
    assert!(SETS as u64 <= SECOND + 1, "the bits of the hash that choose the set aren't kept in the word");

/// Whether a triple was seen lately.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sighting {
    /// No.
    New,
    /// Yes, by whichever worker.
    Again,
}

/// The table.
#[derive(Debug)]
pub struct Triples(Box<[Set]>);

#[derive(Debug, Default)]
#[repr(align(64))]
struct Set([AtomicU64; WAYS]);

const _: () = assert!(size_of::<Set>() == 64);

impl Default for Triples {
    fn default() -> Self {
        Self((0..SETS).map(|_| Set::default()).collect())
    }
}

impl Triples {
    /// Forgets all, for who begins anew over the same memory.
    pub fn clear(&self) {
        self.0.iter().flat_map(|set| &set.0).for_each(|word| word.store(0, Ordering::Relaxed));
    }

    /// Notes that a packet of the triple with this hash was seen. `evicted` counts those that are forgotten for it before
    /// their time.
    pub fn see(&self, hash: u64, now: Nanos, evicted: &Counter) -> Sighting {
        let set = &self.0[hash as usize % SETS].0;
        let second = (now.0 / 1_000_000_000) & SECOND;
        let word = hash & !SECOND | second;
        for _ in 0..ATTEMPTS_MAX {
            let mut oldest = (0, 0, 0);
            for (way, entry) in set.iter().enumerate() {
                let known = entry.load(Ordering::Relaxed);
                let age = age(known, second);
                if known & !SECOND == hash & !SECOND && age < REMEMBERED_SECONDS {
                    if age > 0 {
                        // Whoever was quicker has said the same, or needed the place.
                        let _ = entry.compare_exchange(known, word, Ordering::Relaxed, Ordering::Relaxed);
                    }
                    return Sighting::Again;
                }
                if age >= oldest.0 {
                    oldest = (age, way, known);
                }
            }
            let (age, way, known) = oldest;
            if set[way].compare_exchange(known, word, Ordering::Relaxed, Ordering::Relaxed).is_ok() {
                if age < REMEMBERED_SECONDS {
                    evicted.add(1);
                }
                return Sighting::New;
            }
        }
        Sighting::New
    }
}

/// Seconds since a word was written; an empty one is older than any. The clock of another worker's round may be a little
/// ahead.
fn age(word: u64, second: u64) -> u64 {
    match second.wrapping_sub(word) & SECOND {
        _ if word == 0 => SECOND + 1,
        ahead if ahead > SECOND / 2 => 0,
        age => age,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Sees a triple, where nobody asks what is forgotten for it.
    fn see(triples: &Triples, hash: u64, now: Nanos) -> Sighting {
        triples.see(hash, now, &Counter::default())
    }

    fn at(second: u64) -> Nanos {
        Nanos(second * 1_000_000_000)
    }

    /// A hash of set `set` that differs from others of it by `n`.
    fn hash(set: u64, n: u64) -> u64 {
        (n + 1) << 24 | set
    }

    #[test]
    fn a_triple_is_new_once_and_again_when_it_was_silent_for_long() {
        let triples = Triples::default();
        assert_eq!(see(&triples, hash(3, 0), at(10)), Sighting::New);
        assert_eq!(see(&triples, hash(3, 0), at(10)), Sighting::Again);
        assert_eq!(see(&triples, hash(3, 1), at(10)), Sighting::New, "another of the set");
        // Each packet counts anew.
        assert_eq!(see(&triples, hash(3, 0), at(69)), Sighting::Again);
        assert_eq!(see(&triples, hash(3, 0), at(128)), Sighting::Again);
        assert_eq!(see(&triples, hash(3, 0), at(127)), Sighting::Again, "a clock that is a little behind");
        assert_eq!(see(&triples, hash(3, 0), at(188)), Sighting::New);
        assert_eq!(see(&triples, hash(3, 0), at(188)), Sighting::Again);
    }

    #[test]
    fn a_full_set_gives_up_the_one_that_was_silent_longest() {
        let triples = Triples::default();
        for n in 0..WAYS as u64 {
            assert_eq!(see(&triples, hash(5, n), at(100 + n)), Sighting::New);
        }
        assert_eq!(see(&triples, hash(5, 0), at(110)), Sighting::Again);
        assert_eq!(see(&triples, hash(5, 50), at(111)), Sighting::New);
        assert_eq!(see(&triples, hash(5, 0), at(112)), Sighting::Again);
        assert_eq!(see(&triples, hash(5, 1), at(112)), Sighting::New, "the oldest by then");
        assert_eq!(see(&triples, hash(6, 0), at(112)), Sighting::New, "other sets are others' business");
        triples.clear();
        assert_eq!(see(&triples, hash(5, 0), at(112)), Sighting::New);
    }

    #[test]
    fn who_is_forgotten_before_its_time_is_counted_and_who_was_silent_long_enough_is_not() {
        let (triples, evicted) = (Triples::default(), Counter::default());
        let many = 3 * WAYS as u64;
        for n in 0..many {
            assert_eq!(triples.see(hash(7, n), at(100), &evicted), Sighting::New);
        }
        assert_eq!(evicted.get(), many - WAYS as u64);
        for n in many..many + WAYS as u64 {
            assert_eq!(triples.see(hash(7, n), at(100 + REMEMBERED_SECONDS), &evicted), Sighting::New);
        }
        assert_eq!(evicted.get(), many - WAYS as u64, "these would have been new again");
        triples.see(hash(7, many), at(100 + REMEMBERED_SECONDS), &evicted);
        triples.see(hash(8, 0), at(100 + REMEMBERED_SECONDS), &evicted);
        assert_eq!(evicted.get(), many - WAYS as u64);
    }

    #[test]
    fn of_several_workers_one_takes_a_triple_for_new() {
        let triples = Triples::default();
        let rounds = 200;
        let new: u64 = std::thread::scope(|scope| {
            let look = || (0..rounds).filter(|n| see(&triples, hash(*n, 7), at(9)) == Sighting::New).count();
            let threads: Vec<_> = (0..4).map(|_| scope.spawn(look)).collect();
            threads.into_iter().map(|thread| thread.join().unwrap() as u64).sum()
        });
        assert_eq!(new, rounds);
    }
}
