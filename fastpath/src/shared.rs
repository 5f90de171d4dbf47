//! What the workers and the slowpath hold in common.
//!
//! ```text
//!  slowpath ── publish ──► [ Tables ]  ◄── read between two bursts ── worker ── epoch ──► slowpath frees
//!           ◄── events, punts, replies ──  one bounded queue each  ── injects, commands ──►
//! ```
//!
//! Which links are down is told past the tables, by one word and by the flags of BIER neighbours that follow from it:
//! workers see it with their next burst, however long the next tables take.

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use arc_swap::ArcSwap;

use crate::counters::{Counter, WorkerCounters};
use crate::driver::{PortId, PortsDown};
use crate::queue::Queues;
use crate::slots::Slots;
use crate::tables::{Generation, Tables};
use crate::triples::Triples;

/// One worker's share.
#[derive(Debug, Default)]
pub struct WorkerShared {
    /// Its counters.
    pub counters: WorkerCounters,
    /// Its queues.
    pub queues: Queues,
    /// Wakes that the slowpath gave back to the worker's share: they were called off for no fault of whoever asked.
    /// Written by the slowpath alone.
    pub wakes_returned: Counter,
    /// The generation that it works by now; `u64::MAX` once it has ended.
    epoch: AtomicU64,
}

/// Everything shared, taken at start.
#[derive(Debug)]
pub struct Shared {
    tables: ArcSwap<Tables>,
    generation: AtomicU64,
    /// See [`PortsDown`].
    ports_down: AtomicU32,
    /// Held by who publishes tables and by who tells of a link, so that new tables know of all links. Workers don't ask.
    turn: Mutex<()>,
    /// One word per service.
    pub slots: Slots,
    /// What the trigger `flow` has seen.
    pub triples: Triples,
    /// By worker.
    pub workers: Vec<WorkerShared>,
}

impl Shared {
    /// The shared state of `workers` workers, with empty tables.
    pub fn new(workers: usize) -> Arc<Self> {
        Arc::new(Self {
            tables: ArcSwap::from_pointee(Tables::default()),
            generation: AtomicU64::new(0),
            ports_down: AtomicU32::new(0),
            turn: Mutex::new(()),
            slots: Slots::default(),
            triples: Triples::default(),
            workers: (0..workers).map(|_| WorkerShared::default()).collect(),
        })
    }

    /// The current snapshot.
    pub fn tables(&self) -> Arc<Tables> {
        self.tables.load_full()
    }

    /// The ports whose link is down.
    #[inline]
    pub fn ports_down(&self) -> PortsDown {
        PortsDown::from_word(self.ports_down.load(Ordering::Acquire))
    }

    /// Says that a port's link is down, or up again. From their next burst on workers go round what it leads to, where
    /// something stands ready for that. For whoever sees it first; never for workers, for it may have to wait.
    pub fn set_port_down(&self, port: PortId, down: bool) {
        let _turn = self.turn.lock().unwrap_or_else(PoisonError::into_inner);
        let ports_down = self.ports_down().with(port, down);
        let tables = self.tables();
        // Who knows that a port is down finds the flags of its neighbours set.
        if down {
            tables.mark_down(ports_down);
        }
        self.ports_down.store(ports_down.word(), Ordering::Release);
        if !down {
            tables.mark_down(ports_down);
        }
    }

    /// Whether there is a newer snapshot than `generation`: one load, for the worker's loop.
    #[inline]
    pub fn is_newer(&self, generation: Generation) -> bool {
        self.generation.load(Ordering::Acquire) != generation.0
    }

    /// A worker says that it works by `generation` from here on and holds no older snapshot.
    pub fn set_epoch(&self, worker: usize, generation: Generation) {
        self.workers[worker].epoch.store(generation.0, Ordering::Release);
    }

    /// A worker has ended and holds no snapshot.
    pub fn end_epoch(&self, worker: usize) {
        self.workers[worker].epoch.store(u64::MAX, Ordering::Release);
    }

    /// The generation that a worker works by; `None` once it has ended.
    pub fn epoch(&self, worker: usize) -> Option<Generation> {
        let epoch = self.workers[worker].epoch.load(Ordering::Acquire);
        (epoch != u64::MAX).then_some(Generation(epoch))
    }

    /// The oldest generation that any worker may still work by.
    pub fn oldest_epoch(&self) -> Generation {
        let oldest = self.workers.iter().map(|worker| worker.epoch.load(Ordering::Acquire)).min();
        Generation(oldest.unwrap_or(u64::MAX))
    }
}

/// The publishing side: one, in the slowpath. It keeps every snapshot alive until no worker can hold it, so that
/// no worker ever frees one.
#[derive(Debug)]
pub struct Publisher {
    shared: Arc<Shared>,
    retired: Vec<Arc<Tables>>,
}

impl Publisher {
    /// The publisher of `shared`; there must be only one.
    pub fn new(shared: Arc<Shared>) -> Self {
        Self { shared, retired: Vec::new() }
    }

    /// Publishes the next snapshot and returns its generation, which this call gives out.
    pub fn publish(&mut self, mut tables: Tables) -> Generation {
        let turn = self.shared.turn.lock().unwrap_or_else(PoisonError::into_inner);
        tables.mark_down(self.shared.ports_down());
        let generation = Generation(self.shared.generation.load(Ordering::Acquire) + 1);
        tables.generation = generation;
        self.retired.push(self.shared.tables.swap(Arc::new(tables)));
        self.shared.generation.store(generation.0, Ordering::Release);
        drop(turn);
        self.collect();
        generation
    }

    /// Frees the snapshots that every worker has left. Returns how many are still kept.
    pub fn collect(&mut self) -> usize {
        let oldest = self.shared.oldest_epoch();
        self.retired.retain(|tables| tables.generation >= oldest);
        self.retired.len()
    }
}
