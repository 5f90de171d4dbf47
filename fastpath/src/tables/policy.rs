//! What the configuration says of all traffic.

use crate::dns::{CookieKeys, RateLimit};
use crate::wake::WakeLimit;

/// Settings that every node may need.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Policy {
    /// Queries on their way to other resolvers are answered when they hit one of our names exactly.
    pub dns_intercept: bool,
    /// DNS cookies are answered and trusted, with these secrets.
    pub cookies: Option<CookieKeys>,
    /// Answers to one source prefix are bounded.
    pub rate_limit: Option<RateLimit>,
    /// The ports that flows with a translated source are told apart by.
    pub nat_ports: NatPorts,
    /// Key of the hash by which new flows find their instance, the same for all appliances of a site.
    pub balance_key: [u64; 2],
    /// Bounds that may change while the workers run; without them those that the workers began with hold.
    pub bounds: Option<Bounds>,
}

/// Bounds of the whole appliance that its workers share out among themselves.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Bounds {
    /// Packets held of one source prefix.
    pub holds_per_prefix: u32,
    /// Wakes in one second.
    pub wakes_per_second: u32,
    /// Wakes at once after a quiet time.
    pub wakes_burst: u32,
}

impl Bounds {
    /// One worker's share of what is held of one source prefix.
    pub fn prefix_share(self, workers: usize) -> u32 {
        self.holds_per_prefix.div_ceil(workers as u32)
    }

    /// One worker's share of the wakes; each may begin one.
    pub fn wake_share(self, workers: usize) -> WakeLimit {
        WakeLimit {
            per_second: f64::from(self.wakes_per_second) / workers as f64,
            burst: (f64::from(self.wakes_burst) / workers as f64).max(1.0),
        }
    }
}

/// A range of ports, shared out among the workers in equal parts: the port of an answer names the flow's worker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NatPorts {
    first: u16,
    last: u16,
}

impl Default for NatPorts {
    /// Above the ports that servers of the appliance itself listen at.
    fn default() -> Self {
        Self { first: 16_384, last: 65_535 }
    }
}

impl NatPorts {
    /// The ports from `first` to `last`, both included; swapped if they come the other way round.
    pub fn new(first: u16, last: u16) -> Self {
        Self { first: first.min(last), last: first.max(last) }
    }

    /// Whether `port` is one of them.
    #[inline]
    pub fn contains(self, port: u16) -> bool {
        (self.first..=self.last).contains(&port)
    }

    /// The worker, of `workers`, that gives out `port`. Ports beyond the last equal part belong to the last worker,
    /// which doesn't use them.
    #[inline]
    pub fn owner(self, port: u16, workers: usize) -> usize {
        let share = self.share(workers);
        (usize::from(port.saturating_sub(self.first)) / share).min(workers - 1)
    }

    /// The `n`th port of a worker's part; `n` counts round.
    #[inline]
    pub fn nth(self, worker: usize, workers: usize, n: usize) -> u16 {
        let share = self.share(workers);
        self.first + (worker * share + n % share) as u16
    }

    fn share(self, workers: usize) -> usize {
        ((usize::from(self.last - self.first) + 1) / workers).max(1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_port_that_a_worker_gives_out_names_it() {
        for (first, last) in [(16_384, 65_535), (1024, 1033), (40_000, 40_006)] {
            let ports = NatPorts::new(first, last);
            for workers in 1..=7 {
                for worker in 0..workers {
                    for n in [0, 1, 2, 1000, 70_000] {
                        let port = ports.nth(worker, workers, n);
                        assert!(ports.contains(port));
                        assert_eq!(ports.owner(port, workers), worker);
                    }
                }
            }
        }
    }
}
