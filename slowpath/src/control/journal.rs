//! The latest wakes, with the time of each point on their way: what `show wakes` tells, and what the demo's timeline is
//! drawn from.

use std::collections::{HashMap, VecDeque};

use millrace_fastpath::addr::Addr;
use millrace_fastpath::clock::Nanos;
use millrace_fastpath::event::{Milestone, Trigger};
use millrace_fastpath::slots::WakeId;
use millrace_fastpath::tables::services::ServiceId;

/// Wakes that are remembered. At the default rate limit these are the last three minutes of a flood.
pub const WAKES_MAX: usize = 4096;

/// One wake. Times are of the monotonic clock.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wake {
    /// The service that it is of.
    pub service: ServiceId,
    /// Its number among the service's.
    pub wake: WakeId,
    /// What began it.
    pub trigger: Option<Trigger>,
    /// Who sent the first packet.
    pub client: Option<Addr>,
    /// The notice's sequence at the orchestrator; 0 before it was handed over.
    pub sequence: u64,
    /// A worker saw the first packet.
    pub seen: Option<Nanos>,
    /// The orchestrator's link took the notice.
    pub handed: Option<Nanos>,
    /// The orchestrator confirmed the notice.
    pub acknowledged: Option<Nanos>,
    /// The first DNS answer left.
    pub answered: Option<Nanos>,
    /// The first packet was held.
    pub held: Option<Nanos>,
    /// The service was made ready.
    pub ready: Option<Nanos>,
    /// The first held packet left.
    pub released: Option<Nanos>,
    /// The first held packet ran into its deadline.
    pub expired: Option<Nanos>,
    /// It came to nothing.
    pub failed: Option<Nanos>,
    /// Why it came to nothing.
    pub reason: String,
}

impl Wake {
    fn new(service: ServiceId, wake: WakeId) -> Self {
        Self {
            service,
            wake,
            trigger: None,
            client: None,
            sequence: 0,
            seen: None,
            handed: None,
            acknowledged: None,
            answered: None,
            held: None,
            ready: None,
            released: None,
            expired: None,
            failed: None,
            reason: String::new(),
        }
    }

    /// Notes a point that a worker passed; of several workers the first one counts.
    pub(super) fn pass(&mut self, what: Milestone, at: Nanos) {
        let point = match what {
            Milestone::Answered => &mut self.answered,
            Milestone::Held => &mut self.held,
            Milestone::Released => &mut self.released,
            Milestone::Expired => &mut self.expired,
        };
        *point = Some(point.map_or(at, |earlier| earlier.min(at)));
    }
}

/// The last [`WAKES_MAX`] wakes.
#[derive(Debug, Default)]
pub struct Journal {
    wakes: VecDeque<Wake>,
    /// Position of each, counted since the beginning.
    index: HashMap<(ServiceId, WakeId), u64>,
    forgotten: u64,
}

impl Journal {
    /// The entry of a wake; a new one if it isn't known. Queues of several workers are read one after the other, so any
    /// point may be told first.
    pub(super) fn entry(&mut self, service: ServiceId, wake: WakeId) -> &mut Wake {
        let at = match self.index.get(&(service, wake)) {
            Some(at) => *at,
            None => {
                if self.wakes.len() >= WAKES_MAX
                    && let Some(oldest) = self.wakes.pop_front()
                {
                    self.index.remove(&(oldest.service, oldest.wake));
                    self.forgotten += 1;
                }
                let at = self.forgotten + self.wakes.len() as u64;
                self.index.insert((service, wake), at);
                self.wakes.push_back(Wake::new(service, wake));
                at
            }
        };
        // The index holds exactly what the queue holds.
        &mut self.wakes[(at - self.forgotten) as usize]
    }

    /// The orchestrator confirmed a notice.
    pub(super) fn acknowledge(&mut self, sequence: u64, now: Nanos) {
        let recent = self.wakes.iter_mut().rev();
        if let Some(wake) = recent.take(ACKNOWLEDGE_SEARCH_MAX).find(|wake| wake.sequence == sequence) {
            wake.acknowledged.get_or_insert(now);
        }
    }

    /// Another service has the id from now on.
    pub(super) fn forget(&mut self, service: ServiceId) {
        if self.wakes.iter().all(|wake| wake.service != service) {
            return;
        }
        self.wakes.retain(|wake| wake.service != service);
        let places = self.wakes.iter().zip(self.forgotten..);
        self.index = places.map(|(wake, at)| ((wake.service, wake.wake), at)).collect();
    }

    /// The wakes, oldest first.
    pub fn iter(&self) -> impl DoubleEndedIterator<Item = &Wake> {
        self.wakes.iter()
    }
}

/// How far back a confirmed notice is looked for: it is one of the last few, and if it isn't, only a time is missing.
const ACKNOWLEDGE_SEARCH_MAX: usize = 64;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_oldest_wake_is_forgotten_and_the_others_still_found() {
        let mut journal = Journal::default();
        for wake in 0..WAKES_MAX as u64 + 10 {
            journal.entry(ServiceId((wake % 3) as u16), WakeId(wake)).seen = Some(Nanos(wake));
        }
        assert_eq!(journal.iter().count(), WAKES_MAX);
        assert_eq!(journal.iter().next().unwrap().wake, WakeId(10));
        assert_eq!(journal.entry(ServiceId(11 % 3), WakeId(11)).seen, Some(Nanos(11)));
        assert_eq!(journal.iter().count(), WAKES_MAX, "a known wake takes no room");
    }

    #[test]
    fn a_forgotten_service_leaves_the_others_where_they_are_found() {
        let mut journal = Journal::default();
        for wake in 0..WAKES_MAX as u64 + 10 {
            journal.entry(ServiceId((wake % 3) as u16), WakeId(wake)).seen = Some(Nanos(wake));
        }
        let before = journal.iter().filter(|wake| wake.service != ServiceId(1)).count();
        journal.forget(ServiceId(1));
        assert_eq!(journal.iter().count(), before);
        let last = WAKES_MAX as u64 + 9;
        for wake in [last, last - 1, last - 2] {
            let service = ServiceId((wake % 3) as u16);
            if service != ServiceId(1) {
                assert_eq!(journal.entry(service, WakeId(wake)).seen, Some(Nanos(wake)));
            }
        }
        assert_eq!(journal.iter().count(), before, "none was made anew");
    }

    #[test]
    fn of_two_workers_the_earlier_point_counts() {
        let mut journal = Journal::default();
        let wake = journal.entry(ServiceId(1), WakeId(1));
        wake.pass(Milestone::Held, Nanos(7));
        wake.pass(Milestone::Held, Nanos(5));
        wake.pass(Milestone::Held, Nanos(9));
        assert_eq!(wake.held, Some(Nanos(5)));
    }
}
