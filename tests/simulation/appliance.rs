//! The appliance under test: real workers on the heap driver, the real control loop with its neighbours and host stack, on a
//! clock that the world moves.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use millrace_fastpath::clock::{Clock, Nanos};
use millrace_fastpath::driver::PortId;
use millrace_fastpath::fates::Fates;
use millrace_fastpath::heap::{HeapDriver, HeapNet, HeapPlan};
use millrace_fastpath::shared::Shared;
use millrace_fastpath::tables::names::HashKey;
use millrace_fastpath::worker::{Rings, Worker};
use millrace_slowpath::PortInfo;
use millrace_slowpath::control::{Control, Settings};
use millrace_slowpath::host::SmolStack;

use crate::link::{SimLink, Task, link};
use crate::random::Random;
use crate::scenario::Scenario;
use crate::wire::{LAN_MAC, WAN_MAC};

pub(crate) const WAN: PortId = PortId(0);
pub(crate) const LAN: PortId = PortId(1);
/// The pool: more than all holds, queues and rings that a world of this size fills.
pub(crate) const FRAMES: usize = 512;

#[derive(Clone, Default)]
pub(crate) struct ManualClock(Arc<AtomicU64>);

impl ManualClock {
    pub(crate) fn set(&self, now: Nanos) {
        self.0.store(now.0, Ordering::Relaxed);
    }
}

impl Clock for ManualClock {
    fn now(&self) -> Nanos {
        Nanos(self.0.load(Ordering::Relaxed))
    }

    fn cycles(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

pub(crate) struct Appliance {
    pub(crate) net: HeapNet,
    pub(crate) shared: Arc<Shared>,
    pub(crate) workers: Vec<Worker<HeapDriver, ManualClock>>,
    pub(crate) control: Control<SimLink>,
    pub(crate) task: Task,
    pub(crate) began: Nanos,
}

impl Appliance {
    /// A cold start.
    pub(crate) fn start(scenario: &Scenario, clock: &ManualClock, now: Nanos, random: &mut Random) -> Self {
        let workers = scenario.workers;
        let plan = HeapPlan { ports: 2, workers, frames: FRAMES, rx_queue: 64, tx_queue: FRAMES };
        let (net, drivers) = HeapNet::new(&plan);
        let shared = Shared::new(workers);
        let (link, task) = link(random.one_of(&[2, 64, 4096]));
        let settings = Settings {
            boot: random.next(),
            names_key: HashKey(random.next(), random.next()),
            unix_offset_nanos: 0,
            ..Settings::default()
        };
        let ports = [("wan", WAN_MAC), ("lan", LAN_MAC)].map(|(name, mac)| PortInfo {
            name: name.to_owned(),
            mac,
            mtu_bytes: 1500,
        });
        let host = Box::new(SmolStack::new(&scenario.config, random.next()));
        let control = Control::new(&scenario.config, &ports, Arc::clone(&shared), link, host, settings, now)
            .expect("the scenario's configuration can be built");
        let rings = Rings::new(workers);
        let (keys, limits) = ([random.next(), random.next()], scenario.limits());
        let workers = drivers.into_iter().enumerate().map(|(at, driver)| {
            Worker::new(at, driver, clock.clone(), Arc::clone(&shared), Arc::clone(&rings), keys, &limits)
        });
        Self { net, workers: workers.collect(), shared, control, task, began: now }
    }

    /// One worker's fates.
    pub(crate) fn fates(&self, worker: usize) -> Fates {
        Fates::read(&self.shared.workers[worker].counters.fates)
    }

    pub(crate) fn sum(&self) -> Fates {
        let mut sum = Fates::default();
        (0..self.workers.len()).for_each(|worker| sum.add(&self.fates(worker)));
        sum
    }

    /// Flows that had to make room for others.
    pub(crate) fn evicted(&self) -> u64 {
        self.shared.workers.iter().map(|worker| worker.counters.fates.flows_evicted.get()).sum()
    }
}
