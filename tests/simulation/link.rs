//! The link between appliance and orchestrator, as the one over gRPC is: what it takes it sends until it is acknowledged, over
//! as many streams as that needs. The stream itself is the world's, which delays it, cuts it, and lets it fall silent.

use std::collections::{BTreeMap, VecDeque};
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard};

use millrace_fastpath::shared::Shared;
use millrace_fastpath::slots::Phase;
use millrace_fastpath::tables::services::ServiceId;
use millrace_orchestrator_api::{Down, FirstPacket, Generation, Link, LinkError, LinkState, Trigger, Up};

use crate::appliance::IDS_MAX;

/// A notice that the link took.
#[derive(Clone, Debug)]
pub(crate) struct Taken {
    pub(crate) service: String,
    /// When its first packet was seen.
    pub(crate) at: u64,
    pub(crate) trigger: Trigger,
    /// Source, destination and protocol of that packet.
    pub(crate) triple: (IpAddr, IpAddr, u8),
}

#[derive(Debug, Default)]
pub(crate) struct Queues {
    up: bool,
    capacity: usize,
    pub(crate) ups: VecDeque<Up>,
    pub(crate) downs: VecDeque<Down>,
    /// Of this start of the appliance.
    pub(crate) taken: Vec<Taken>,
    /// What was said to be applied last.
    pub(crate) applied: Option<(Generation, u64)>,
}

/// The appliance's end. It looks at the slots, as workers may while a notice is handed over.
#[derive(Debug)]
pub(crate) struct SimLink(Arc<Mutex<Queues>>, Arc<Shared>);

/// The other end of it: the task that owns the stream.
#[derive(Debug)]
pub(crate) struct Task {
    queues: Arc<Mutex<Queues>>,
    /// The newest notice of each service that isn't acknowledged.
    pending: BTreeMap<String, FirstPacket>,
    applied: Generation,
}

/// A link for `capacity` messages, of an appliance that shares `shared`.
pub(crate) fn link(capacity: usize, shared: Arc<Shared>) -> (SimLink, Task) {
    let queues = Arc::new(Mutex::new(Queues { capacity, ..Queues::default() }));
    let task = Task { queues: Arc::clone(&queues), pending: BTreeMap::new(), applied: Generation(0) };
    (SimLink(queues, shared), task)
}

impl SimLink {
    fn queues(&self) -> MutexGuard<'_, Queues> {
        self.0.lock().expect("one thread, which doesn't panic while it has it")
    }

    /// Nothing says that a notice has been handed over before it has been.
    fn check_order(&self, notice: &FirstPacket) {
        let tables = self.1.tables();
        let is = |id: &ServiceId| tables.services.get(*id).is_some_and(|one| one.name == notice.service);
        let Some(id) = (0..IDS_MAX).map(ServiceId).find(is) else { return };
        let slot = self.1.slots.get(id);
        let (phase, wake) = slot.load();
        let early = phase == Phase::Waking && slot.is_handed(wake);
        assert!(!early, "{} is marked as handed over before the link has it", notice.service);
    }
}

impl Link for SimLink {
    fn send(&mut self, up: Up) -> Result<(), LinkError> {
        if let Up::FirstPacket(notice) = &up {
            self.check_order(notice);
        }
        let mut queues = self.queues();
        if !queues.up {
            return Err(LinkError::Down);
        }
        if queues.ups.len() >= queues.capacity {
            return Err(LinkError::Full);
        }
        match &up {
            Up::FirstPacket(notice) => {
                let taken = Taken {
                    service: notice.service.clone(),
                    at: notice.time_unix_ns,
                    trigger: notice.trigger,
                    triple: (notice.source_address, notice.destination_address, notice.next_header),
                };
                queues.taken.push(taken);
            }
            Up::Applied { generation, digest } => queues.applied = Some((*generation, *digest)),
            Up::Idle(_) | Up::Resync => {}
        }
        queues.ups.push_back(up);
        Ok(())
    }

    fn receive(&mut self) -> Option<Down> {
        self.queues().downs.pop_front()
    }

    fn state(&self) -> LinkState {
        if self.queues().up { LinkState::Up } else { LinkState::Down }
    }
}

impl Task {
    pub(crate) fn queues(&self) -> MutexGuard<'_, Queues> {
        self.queues.lock().expect("one thread, which doesn't panic while it has it")
    }

    pub(crate) fn set_up(&self, up: bool) {
        self.queues().up = up;
    }

    /// What a new stream begins with: the generation that is applied, and what wasn't acknowledged, oldest first.
    pub(crate) fn greet(&self) -> (Generation, Vec<Up>) {
        let mut again: Vec<&FirstPacket> = self.pending.values().collect();
        again.sort_by_key(|notice| notice.sequence);
        (self.applied, again.into_iter().cloned().map(Up::FirstPacket).collect())
    }

    /// The next message for the stream.
    pub(crate) fn next(&mut self) -> Option<Up> {
        let up = self.queues().ups.pop_front()?;
        match &up {
            Up::FirstPacket(notice) => {
                self.pending.insert(notice.service.clone(), notice.clone());
            }
            Up::Applied { generation, .. } => self.applied = *generation,
            Up::Idle(_) | Up::Resync => {}
        }
        Some(up)
    }

    /// A message came by the stream.
    pub(crate) fn heard(&mut self, down: Down) {
        if let Down::Acknowledge { sequence } = down {
            self.pending.retain(|_, notice| notice.sequence != sequence);
        }
        self.queues().downs.push_back(down);
    }
}
