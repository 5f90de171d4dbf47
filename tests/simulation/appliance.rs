//! The appliance under test: real workers on the heap driver, the real control loop with its neighbours and host stack, on a
//! clock that the world moves.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use millrace_fastpath::clock::{Clock, Nanos};
use millrace_fastpath::driver::PortId;
use millrace_fastpath::fates::Fates;
use millrace_fastpath::flow::FlowHasher;
use millrace_fastpath::flow::key::owner;
use millrace_fastpath::heap::{HeapDriver, HeapNet, HeapPlan};
use millrace_fastpath::shared::Shared;
use millrace_fastpath::tables::names::HashKey;
use millrace_fastpath::tables::services::ServiceId;
use millrace_fastpath::worker::{Rings, Worker};
use millrace_slowpath::PortInfo;
use millrace_slowpath::control::{Control, Settings};
use millrace_slowpath::host::SmolStack;

use crate::link::{SimLink, Task, link};
use crate::random::Random;
use crate::scenario::Scenario;
use crate::services::Facts;
use crate::wire::{End, LAN_MAC, WAN_MAC};

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
    /// The services' ids, in the order of the scenario.
    pub(crate) ids: Vec<Option<ServiceId>>,
    /// All ids below this one may have been given out.
    pub(crate) ids_end: u16,
    hasher: FlowHasher,
}

impl Appliance {
    /// A cold start.
    pub(crate) fn start(scenario: &Scenario, clock: &ManualClock, now: Nanos, random: &mut Random) -> Self {
        let workers = scenario.workers;
        let plan = HeapPlan { ports: 2, workers, frames: FRAMES, rx_queue: 64, tx_queue: FRAMES };
        let (net, drivers) = HeapNet::new(&plan);
        let shared = Shared::new(workers);
        let (link, task) = link(random.one_of(&[2, 64, 4096]), Arc::clone(&shared));
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
        let workers = workers.collect();
        let hasher = FlowHasher::new(keys);
        let mut appliance = Self { net, workers, shared, control, task, ids: Vec::new(), ids_end: 0, hasher };
        appliance.find_services(scenario.services());
        appliance
    }

    /// Notes the ids of the services that the configuration has now.
    pub(crate) fn find_services(&mut self, services: &[Facts]) {
        let tables = self.shared.tables();
        let is = |id: &ServiceId, name: &str| tables.services.get(*id).is_some_and(|one| one.name == name);
        let id = |one: &Facts| (0..IDS_MAX).map(ServiceId).find(|id| is(id, &one.name));
        self.ids = services.iter().map(id).collect();
        let last = self.ids.iter().flatten().map(|id| id.0 + 1).max();
        self.ids_end = self.ids_end.max(last.unwrap_or(0));
    }

    /// The worker that owns a flow.
    pub(crate) fn owner(&self, client: End, protocol: u8) -> usize {
        owner(self.hasher.hash(client.0.into(), client.1, protocol), self.workers.len())
    }

    /// Flows that a worker has forgotten, or never had room for.
    pub(crate) fn forgotten(&self, worker: usize) -> u64 {
        let fates = &self.shared.workers[worker].counters.fates;
        fates.flows_evicted.get() + fates.flows_refused.get()
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
}

/// More ids than a seed's reloads give out.
pub(crate) const IDS_MAX: u16 = 64;
