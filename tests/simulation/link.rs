//! The link between appliance and orchestrator, as the one over gRPC is: what it takes it sends until it is acknowledged, over
//! as many streams as that needs. The stream itself is the world's, which delays it, cuts it, and lets it fall silent.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard};

use millrace_orchestrator_api::{Down, FirstPacket, Generation, Link, LinkError, LinkState, Up};

/// A notice that the link took: of which service, and when its first packet was seen.
pub(crate) type Taken = (String, u64);

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

/// The appliance's end.
#[derive(Debug)]
pub(crate) struct SimLink(Arc<Mutex<Queues>>);

/// The other end of it: the task that owns the stream.
#[derive(Debug)]
pub(crate) struct Task {
    queues: Arc<Mutex<Queues>>,
    /// The newest notice of each service that isn't acknowledged.
    pending: BTreeMap<String, FirstPacket>,
    applied: Generation,
}

/// A link for `capacity` messages.
pub(crate) fn link(capacity: usize) -> (SimLink, Task) {
    let queues = Arc::new(Mutex::new(Queues { capacity, ..Queues::default() }));
    let task = Task { queues: Arc::clone(&queues), pending: BTreeMap::new(), applied: Generation(0) };
    (SimLink(queues), task)
}

impl SimLink {
    fn queues(&self) -> MutexGuard<'_, Queues> {
        self.0.lock().expect("one thread, which doesn't panic while it has it")
    }
}

impl Link for SimLink {
    fn send(&mut self, up: Up) -> Result<(), LinkError> {
        let mut queues = self.queues();
        if !queues.up {
            return Err(LinkError::Down);
        }
        if queues.ups.len() >= queues.capacity {
            return Err(LinkError::Full);
        }
        match &up {
            Up::FirstPacket(notice) => {
                let taken = (notice.service.clone(), notice.time_unix_ns);
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
