//! Wakes: how a worker asks, once, for a cold service to be started.

use std::sync::Arc;

use crate::clock::Nanos;
use crate::event::{Event, Milestone, PacketFields, Trigger};
use crate::shared::{Shared, WorkerShared};
use crate::slots::{Escalation, Phase, ServiceSlot, WakeId};
use crate::tables::services::{Handling, SERVICES_MAX, Service, ServiceId, Verify};

/// This worker's share of the appliance's wakes.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct WakeLimit {
    /// Wakes a second, in the long run.
    pub per_second: f64,
    /// Wakes at once after a quiet time.
    pub burst: f64,
}

/// What came of the wish to wake a service.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wake {
    /// This call sent the notification.
    Begun(WakeId),
    /// One is out already, or nothing has to be woken.
    NotNeeded,
    /// The share of wakes is used up; a later packet, or the hold's next turn, tries again.
    Limited,
    /// The event queue is full; the service is cold again, and whoever holds a packet for it tries again.
    QueueFull,
}

/// An arrival at a ready service is told of at most so often, in nanoseconds, over all workers: a flood of new triples is
/// one message a second.
pub const ARRIVAL_NANOS: u64 = 1_000_000_000;

/// What a client must prove now to wake the service: what its configuration asks for, or more, after wakes that led to
/// nothing.
#[inline]
pub fn proof(service: &Service, slot: &ServiceSlot) -> Verify {
    match (slot.escalation(), service.verify) {
        (Escalation::None, configured) => configured,
        (_, Verify::Cookie) => Verify::Cookie,
        // Who was sent a cookie has to be spliced, and wakes by what its answer says behind the IP header.
        (Escalation::Cookie, _) if service.handling == Handling::Splice && service.trigger_syn => {
            Verify::Cookie
        }
        (Escalation::SecondPacket | Escalation::Cookie, _) => Verify::SecondSyn,
    }
}

/// Decides which packets wake a service and tells of each wake's course.
#[derive(Debug)]
pub struct Waker {
    shared: Arc<Shared>,
    worker: usize,
    limit: WakeLimit,
    tokens: f64,
    filled: Nanos,
    /// How many of the returned wakes are in `tokens` again.
    returned: u64,
    told: Box<[Told]>,
}

/// Which milestones of which wake were told.
#[derive(Clone, Copy, Debug, Default)]
struct Told {
    wake: WakeId,
    mask: u8,
}

impl Waker {
    /// The waker of one worker with its limit; the burst is there from the start.
    pub fn new(limit: WakeLimit, shared: Arc<Shared>, worker: usize) -> Self {
        let told = vec![Told::default(); SERVICES_MAX].into_boxed_slice();
        Self { shared, worker, limit, tokens: limit.burst, filled: Nanos::default(), returned: 0, told }
    }

    /// Another limit from now on. What is saved up stays, up to the new burst.
    pub fn set_limit(&mut self, limit: WakeLimit) {
        self.tokens = self.tokens.min(limit.burst);
        self.limit = limit;
    }

    /// Wakes `service` if it is cold. The notification is in the queue when this returns [`Wake::Begun`].
    pub fn wake(&mut self, service: ServiceId, trigger: Trigger, fields: PacketFields, now: Nanos) -> Wake {
        if self.shared.slots.get(service).load().0 != Phase::Cold {
            return Wake::NotNeeded;
        }
        self.fill(now);
        if self.tokens < 1.0 {
            self.own().counters.fates.wakes_limited.add(1);
            return Wake::Limited;
        }
        let slot = self.shared.slots.get(service);
        let Some(wake) = slot.begin_wake() else { return Wake::NotNeeded };
        let event = Event::FirstPacket { service, wake, trigger, at: now, fields };
        if self.own().queues.events.push(event).is_err() {
            // Nobody was told, so nobody may wait for it.
            slot.cancel_wake(wake);
            self.own().counters.fates.events_lost.add(1);
            return Wake::QueueFull;
        }
        self.tokens -= 1.0;
        Wake::Begun(wake)
    }

    /// Tells the slowpath of a new triple for a service that serves already, if none was told of just now. The next one is
    /// told of soon enough, so a full queue is only counted.
    pub fn arrived(
        &mut self,
        service: ServiceId,
        trigger: Trigger,
        fields: impl FnOnce() -> PacketFields,
        now: Nanos,
    ) {
        if !self.shared.slots.get(service).may_tell(now, ARRIVAL_NANOS) {
            return;
        }
        let event = Event::Arrival { service, trigger, at: now, fields: fields() };
        if self.own().queues.events.push(event).is_err() {
            self.own().counters.fates.events_lost.add(1);
        }
    }

    /// Tells the slowpath of a point that the latest wake of `service` passed, if it is the first time. Losing one
    /// costs a line in the journal, so a full queue is only counted.
    pub fn milestone(&mut self, service: ServiceId, what: Milestone, at: Nanos) {
        let wake = self.shared.slots.get(service).load().1;
        let told = &mut self.told[service.index()];
        if told.wake != wake {
            *told = Told { wake, mask: 0 };
        }
        let bit = 1 << what as u8;
        if wake == WakeId::default() || told.mask & bit != 0 {
            return;
        }
        told.mask |= bit;
        if self.own().queues.events.push(Event::Milestone { service, wake, what, at }).is_err() {
            self.own().counters.fates.events_lost.add(1);
        }
    }

    fn own(&self) -> &WorkerShared {
        &self.shared.workers[self.worker]
    }

    fn fill(&mut self, now: Nanos) {
        let seconds = now.since(self.filled) as f64 / 1e9;
        self.filled = now;
        let returned = self.own().wakes_returned.get();
        let back = returned.wrapping_sub(std::mem::replace(&mut self.returned, returned)) as f64;
        self.tokens = (self.tokens + seconds * self.limit.per_second + back).min(self.limit.burst);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::queue::EVENTS_MAX;
    use crate::tables::services::tests::service_of;

    struct Bench {
        waker: Waker,
        shared: Arc<Shared>,
    }

    impl Bench {
        fn new(per_second: f64, burst: f64) -> Self {
            let shared = Shared::new(1);
            Self { waker: Waker::new(WakeLimit { per_second, burst }, shared.clone(), 0), shared }
        }

        fn wake(&mut self, service: u16, seconds: f64) -> Wake {
            let fields = crate::packet::Meta::default().fields(&[0; 64]);
            self.waker.wake(ServiceId(service), Trigger::Syn, fields, Nanos((seconds * 1e9) as u64))
        }

        fn events(&self) -> &crossbeam_queue::ArrayQueue<Event> {
            &self.shared.workers[0].queues.events
        }
    }

    #[test]
    fn one_wake_is_pending_per_service_however_many_ask() {
        let mut bench = Bench::new(1000.0, 1000.0);
        assert_eq!(bench.wake(1, 0.0), Wake::Begun(WakeId(1)));
        for _ in 0..100 {
            assert_eq!(bench.wake(1, 0.0), Wake::NotNeeded);
        }
        assert_eq!(bench.events().len(), 1);
    }

    #[test]
    fn wakes_are_limited_and_the_limit_refills() {
        let mut bench = Bench::new(2.0, 3.0);
        let begun = |bench: &mut Bench, from: u16, seconds| {
            (from..from + 10).filter(|id| matches!(bench.wake(*id, seconds), Wake::Begun(_))).count()
        };
        assert_eq!(begun(&mut bench, 0, 0.0), 3);
        assert_eq!(begun(&mut bench, 10, 1.0), 2);
        assert_eq!(begun(&mut bench, 20, 100.0), 3, "never more than the burst");
        assert_eq!(bench.shared.workers[0].counters.fates.wakes_limited.get(), 22);
    }

    #[test]
    fn another_limit_holds_from_the_next_wake_on() {
        let mut bench = Bench::new(0.0, 5.0);
        assert!(matches!(bench.wake(0, 0.0), Wake::Begun(_)));
        bench.waker.set_limit(WakeLimit { per_second: 1.0, burst: 2.0 });
        let begun = (1..10).filter(|id| matches!(bench.wake(*id, 0.0), Wake::Begun(_))).count();
        assert_eq!(begun, 2, "what was saved up beyond the new burst is gone");
        assert!(matches!(bench.wake(20, 1.0), Wake::Begun(_)));
    }

    #[test]
    fn a_wake_that_was_given_back_can_be_had_again_and_once() {
        let mut bench = Bench::new(0.0, 2.0);
        assert!(matches!(bench.wake(1, 0.0), Wake::Begun(_)));
        assert!(matches!(bench.wake(2, 0.0), Wake::Begun(_)));
        assert_eq!(bench.wake(3, 0.0), Wake::Limited);
        bench.shared.workers[0].wakes_returned.add(1);
        assert!(matches!(bench.wake(3, 0.0), Wake::Begun(_)));
        assert_eq!(bench.wake(4, 0.0), Wake::Limited);
    }

    #[test]
    fn a_full_queue_leaves_no_service_waking() {
        let mut bench = Bench::new(1e6, 1e6);
        let fill =
            Event::Milestone { service: ServiceId(0), wake: WakeId(1), what: Milestone::Held, at: Nanos(0) };
        for _ in 0..EVENTS_MAX {
            bench.events().push(fill).unwrap();
        }
        assert_eq!(bench.wake(5, 0.0), Wake::QueueFull);
        assert_eq!(bench.shared.slots.get(ServiceId(5)).load().0, Phase::Cold);
        bench.events().pop();
        assert_eq!(bench.wake(5, 0.0), Wake::Begun(WakeId(2)), "and it can be had again");
    }

    #[test]
    fn what_has_to_be_proven_grows_with_the_strikes_as_far_as_the_service_can_ask() {
        use Verify::{Cookie, None, SecondSyn};
        let slot = ServiceSlot::default();
        let asked = |level, service: &Service| {
            slot.set_strikes(1, level);
            proof(service, &slot)
        };
        let levels = [Escalation::None, Escalation::SecondPacket, Escalation::Cookie];
        for (handling, verify, trigger_syn, expected) in [
            (Handling::Hold, None, true, [None, SecondSyn, SecondSyn]),
            (Handling::Forward, SecondSyn, true, [SecondSyn, SecondSyn, SecondSyn]),
            (Handling::Splice, None, true, [None, SecondSyn, Cookie]),
            (Handling::Splice, None, false, [None, SecondSyn, SecondSyn]),
            (Handling::Splice, Cookie, true, [Cookie, Cookie, Cookie]),
        ] {
            let service = Service { handling, verify, trigger_syn, ..service_of(Vec::new()) };
            assert_eq!(levels.map(|level| asked(level, &service)), expected, "{handling:?} {verify:?}");
        }
    }

    #[test]
    fn each_milestone_is_told_once_per_wake() {
        let mut bench = Bench::new(1.0, 1.0);
        let service = ServiceId(3);
        for _ in 0..2 {
            bench.shared.slots.get(service).begin_wake().unwrap();
            for what in [Milestone::Held, Milestone::Released, Milestone::Held] {
                bench.waker.milestone(service, what, Nanos(0));
            }
            bench.shared.slots.get(service).set_phase(Phase::Cold);
        }
        assert_eq!(bench.events().len(), 4);
    }
}
