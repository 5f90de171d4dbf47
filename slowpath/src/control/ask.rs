//! Questions to the control loop from the threads that serve operators. It answers between two turns, by a copy.

use std::sync::mpsc::{self, Receiver, Sender, SyncSender};
use std::time::Duration;

use millrace_fastpath::clock::Nanos;
use millrace_orchestrator_api::{Generation, LinkState};

use super::{ControlCounters, LinkCounters, Wake};
use crate::host::HostCounters;
use crate::neighbour;

/// The control loop at one moment.
#[derive(Clone, Copy, Debug)]
pub struct Status {
    /// Whether the orchestrator is there.
    pub link: LinkState,
    /// The placement that is in the tables.
    pub placement: Generation,
    /// What the loop counted.
    pub control: ControlCounters,
    /// What it counted on the link.
    pub links: LinkCounters,
    /// What the neighbours counted.
    pub neighbours: neighbour::Counters,
    /// Neighbours known or looked for.
    pub neighbours_len: usize,
    /// Packets that wait for neighbours.
    pub neighbours_parked: usize,
    /// What the host stack counted.
    pub host: HostCounters,
    /// Frames that found no room on their way to the workers.
    pub injects_refused: u64,
}

/// A question, with the way for its answer.
#[derive(Debug)]
pub(super) enum Ask {
    Status(SyncSender<Status>),
    Neighbours(SyncSender<(Nanos, Vec<neighbour::Row>)>),
    Wakes(SyncSender<Vec<Wake>>),
}

/// Asks the control loop; clones ask the same one.
#[derive(Clone, Debug)]
pub struct Asker(Sender<Ask>);

/// A pair for one control loop.
pub(super) fn channel() -> (Asker, Receiver<Ask>) {
    let (sender, receiver) = mpsc::channel();
    (Asker(sender), receiver)
}

impl Asker {
    /// How things are. `None` when the loop has ended.
    pub fn status(&self) -> Option<Status> {
        self.ask(Ask::Status)
    }

    /// The neighbours, and what time it is.
    pub fn neighbours(&self) -> Option<(Nanos, Vec<neighbour::Row>)> {
        self.ask(Ask::Neighbours)
    }

    /// The latest wakes, oldest first.
    pub fn wakes(&self) -> Option<Vec<Wake>> {
        self.ask(Ask::Wakes)
    }

    fn ask<T>(&self, question: fn(SyncSender<T>) -> Ask) -> Option<T> {
        let (sender, answer) = mpsc::sync_channel(1);
        self.0.send(question(sender)).ok()?;
        answer.recv_timeout(ANSWER_MAX).ok()
    }
}

/// How long an answer may take: a turn takes some tens of microseconds, so that long means that there is no loop.
const ANSWER_MAX: Duration = Duration::from_secs(1);
