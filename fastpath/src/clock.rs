//! Time as workers see it.

/// Nanoseconds of the machine's monotonic clock. The slowpath reads the same clock, so that times compare.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Default, Hash)]
pub struct Nanos(pub u64);

impl Nanos {
    /// Nanoseconds from `earlier` to here; 0 if it isn't earlier.
    #[inline]
    pub fn since(self, earlier: Nanos) -> u64 {
        self.0.saturating_sub(earlier.0)
    }

    /// This time and `nanos` more.
    #[inline]
    pub fn plus(self, nanos: u64) -> Nanos {
        Nanos(self.0.saturating_add(nanos))
    }
}

/// Where a worker reads the time. `now` is read once a burst, `cycles` at the edges of each node. Neither makes a system call.
pub trait Clock: Send {
    /// The monotonic time.
    fn now(&self) -> Nanos;
    /// A free-running cycle counter (the TSC), for costs only.
    fn cycles(&self) -> u64;
}
