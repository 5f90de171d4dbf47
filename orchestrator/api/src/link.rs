//! The seam between the slowpath and its orchestrator: never blocks, knows no runtime.
//!
//! [`memory_link`] joins the two within one process; [`crate::client::GrpcLink`] does it over the network.

use std::time::Duration;

use thiserror::Error;
use tokio::sync::mpsc;
use tokio::sync::mpsc::error::TrySendError;

use crate::message::{Down, Up};

/// An appliance's way to its orchestrator.
pub trait Link: Send {
    /// Hands a message over. `Ok` means that the link has it, and, for a first packet, that it will be sent until
    /// it is acknowledged or a newer one for the same service takes its place.
    ///
    /// # Errors
    /// The link is down or full; the message was not taken.
    fn send(&mut self, up: Up) -> Result<(), LinkError>;

    /// The next message from the orchestrator, if there is one now.
    fn receive(&mut self) -> Option<Down>;

    /// Whether the orchestrator is there.
    fn state(&self) -> LinkState;
}

impl<L: Link + ?Sized> Link for Box<L> {
    fn send(&mut self, up: Up) -> Result<(), LinkError> {
        (**self).send(up)
    }

    fn receive(&mut self) -> Option<Down> {
        (**self).receive()
    }

    fn state(&self) -> LinkState {
        (**self).state()
    }
}

/// Whether an orchestrator is at the other end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum LinkState {
    /// It is, and was heard of lately.
    Up,
    /// It is gone, or silent for too long.
    Down,
}

/// Why a message was not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum LinkError {
    /// The orchestrator is slower than the appliance.
    #[error("the orchestrator link is full")]
    Full,
    /// There is no orchestrator.
    #[error("the orchestrator link is down")]
    Down,
}

/// Joins an appliance and an orchestrator in one process; each direction holds up to `capacity` messages.
///
/// # Panics
/// When `capacity` is zero.
#[must_use]
pub fn memory_link(capacity: usize) -> (MemoryLink, OrchestratorEnd) {
    let (up, ups) = mpsc::channel(capacity);
    let (down, downs) = mpsc::channel(capacity);
    (MemoryLink { up, downs }, OrchestratorEnd { ups, down })
}

/// The appliance's end of [`memory_link`].
#[derive(Debug)]
pub struct MemoryLink {
    up: mpsc::Sender<Up>,
    downs: mpsc::Receiver<Down>,
}

impl Link for MemoryLink {
    fn send(&mut self, up: Up) -> Result<(), LinkError> {
        self.up.try_send(up).map_err(LinkError::from)
    }

    fn receive(&mut self) -> Option<Down> {
        self.downs.try_recv().ok()
    }

    fn state(&self) -> LinkState {
        if self.up.is_closed() { LinkState::Down } else { LinkState::Up }
    }
}

/// The orchestrator's end of [`memory_link`].
#[derive(Debug)]
pub struct OrchestratorEnd {
    ups: mpsc::Receiver<Up>,
    down: mpsc::Sender<Down>,
}

impl OrchestratorEnd {
    /// Hands a message to the appliance.
    ///
    /// # Errors
    /// The appliance is gone, or reads too slowly; the message was not taken.
    pub fn send(&mut self, down: Down) -> Result<(), LinkError> {
        self.down.try_send(down).map_err(LinkError::from)
    }

    /// The next message from the appliance, if there is one now.
    pub fn try_receive(&mut self) -> Option<Up> {
        self.ups.try_recv().ok()
    }

    /// The next message from the appliance; `None` when the appliance is gone.
    pub async fn receive(&mut self) -> Option<Up> {
        self.ups.recv().await
    }

    /// The two channels by themselves, for a task of its own per direction.
    #[must_use]
    pub fn split(self) -> (mpsc::Receiver<Up>, mpsc::Sender<Down>) {
        (self.ups, self.down)
    }
}

impl<T> From<TrySendError<T>> for LinkError {
    fn from(error: TrySendError<T>) -> Self {
        match error {
            TrySendError::Full(_) => LinkError::Full,
            TrySendError::Closed(_) => LinkError::Down,
        }
    }
}

/// Messages that a link holds in each direction: a burst of first packets of every service of a large site.
pub const LINK_QUEUE_MAX: usize = 4096;

/// An end that has been silent for this long counts as gone; a cold service then takes its overflow action.
pub const LINK_SILENCE_MAX: Duration = Duration::from_millis(250);

/// How often each end of a link speaks when it has nothing to say: one lost turn doesn't bring the link down.
pub const LINK_HEARTBEAT: Duration = Duration::from_millis(80);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_link_refuses_and_takes_again_when_read() {
        let (mut link, mut end) = memory_link(1);
        assert_eq!(link.send(Up::Resync), Ok(()));
        assert_eq!(link.send(Up::Resync), Err(LinkError::Full));
        assert_eq!(end.try_receive(), Some(Up::Resync));
        assert_eq!(link.send(Up::Resync), Ok(()));
    }

    #[test]
    fn a_link_without_orchestrator_is_down_but_still_gives_what_had_arrived() {
        let (mut link, mut end) = memory_link(4);
        end.send(Down::Acknowledge { sequence: 7 }).unwrap();
        drop(end);
        assert_eq!(link.state(), LinkState::Down);
        assert_eq!(link.send(Up::Resync), Err(LinkError::Down));
        assert_eq!(link.receive(), Some(Down::Acknowledge { sequence: 7 }));
        assert_eq!(link.receive(), None);
    }
}
