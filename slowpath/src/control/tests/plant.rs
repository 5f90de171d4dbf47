//! The control loop with two workers on the heap driver, two ports, and a clock that the test moves.

use std::sync::atomic::{AtomicU64, Ordering};

use millrace_config::Config;
use millrace_fastpath::clock::Clock;
use millrace_fastpath::heap::{HeapDriver, HeapNet, HeapPlan};
use millrace_fastpath::worker::{Rings, Worker, WorkerLimits};

use super::*;

/// The workers' clock, in nanoseconds.
#[derive(Clone)]
pub(super) struct Manual(pub(super) Arc<AtomicU64>);

impl Clock for Manual {
    fn now(&self) -> Nanos {
        Nanos(self.0.load(Ordering::Relaxed))
    }

    fn cycles(&self) -> u64 {
        0
    }
}

/// Frames that there are in all.
pub(super) const FRAMES: usize = 4096;

pub(super) struct Plant {
    pub(super) net: HeapNet,
    pub(super) workers: Vec<Worker<HeapDriver, Manual>>,
    pub(super) control: Control<MemoryLink>,
    pub(super) shared: Arc<Shared>,
    pub(super) orchestrator: OrchestratorEnd,
    pub(super) clock: Manual,
}

impl Plant {
    /// Each worker has room for `flows`.
    pub(super) fn new(config: &Config, flows: usize) -> Self {
        let plan = HeapPlan { ports: 2, workers: 2, frames: FRAMES, rx_queue: 1024, tx_queue: 2048 };
        let (net, drivers) = HeapNet::new(&plan);
        let shared = Shared::new(2);
        let (link, orchestrator) = memory_link(16);
        let settings =
            Settings { boot: 7, names_key: HashKey(1, 2), unix_offset_nanos: 5, ..Settings::default() };
        let host = Box::new(SmolStack::new(config, 1));
        let control =
            Control::new(config, &ports(), Arc::clone(&shared), link, host, settings, ms(0)).unwrap();
        let rings = Rings::new(2);
        let clock = Manual(Arc::new(AtomicU64::new(ms(0).0)));
        let limits = WorkerLimits { flows, holds: 64, ..WorkerLimits::default() };
        let worker = |(index, driver)| {
            Worker::new(index, driver, clock.clone(), shared.clone(), Arc::clone(&rings), [7, 11], &limits)
        };
        let workers = drivers.into_iter().enumerate().map(worker).collect();
        Self { net, workers, control, shared, orchestrator, clock }
    }
}
