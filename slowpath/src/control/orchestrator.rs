//! The orchestrator's link: notices up, placements down, and what to do when it is gone and comes back.
//!
//! A placement is applied as a whole or not at all: a delta that doesn't follow, and every return of the link, asks for a
//! snapshot, and until it is here no cold service is woken.

use millrace_fastpath::clock::Nanos;
use millrace_fastpath::shared::Shared;
use millrace_fastpath::tables::Generation;
use millrace_orchestrator_api as api;
use millrace_orchestrator_api::{Down, Link, LinkError, LinkState, Up, View};
use tracing::{info, warn};

/// What a message from the orchestrator changed.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum News {
    /// The placements of these services.
    Changed(Vec<String>),
    /// Everything: the whole view is new, and in step with the orchestrator.
    Snapshot,
    /// A notice was confirmed.
    Acknowledged(u64),
}

/// A change of the link.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Change {
    /// It is gone.
    Lost,
    /// It is there; a snapshot has been asked for or will be.
    Found,
}

/// What happened on the link, for the operator.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LinkCounters {
    /// Notices that the link took.
    pub notices: u64,
    /// Notices that it refused because it was full.
    pub refused_full: u64,
    /// Notices that it refused because it was down.
    pub refused_down: u64,
    /// Deltas that didn't follow.
    pub gaps: u64,
    /// Snapshots applied.
    pub snapshots: u64,
    /// Deltas applied.
    pub deltas: u64,
    /// Times that the link was lost.
    pub losses: u64,
}

#[derive(Clone, Copy, Debug)]
struct Applying {
    /// Published when every worker works by this one.
    tables: Generation,
    placement: api::Generation,
    digest: u64,
}

/// Our side of the link.
#[derive(Debug)]
pub(super) struct Orchestrator<L> {
    link: L,
    view: View,
    state: LinkState,
    /// The view is what the orchestrator has, as far as we know.
    in_step: bool,
    resync: Option<Nanos>,
    applying: Option<Applying>,
    changed: bool,
    sequence: u64,
    pub(super) counters: LinkCounters,
}

impl<L: Link> Orchestrator<L> {
    pub(super) fn new(link: L) -> Self {
        Self {
            link,
            view: View::default(),
            state: LinkState::Down,
            in_step: false,
            resync: None,
            applying: None,
            changed: false,
            sequence: 0,
            counters: LinkCounters::default(),
        }
    }

    /// Whether the link is there and the view in step, so that what isn't in the view can be taken for cold.
    pub(super) fn is_in_step(&self) -> bool {
        self.state == LinkState::Up && self.in_step
    }

    pub(super) fn state(&self) -> LinkState {
        self.state
    }

    pub(super) fn view(&self) -> &View {
        &self.view
    }

    /// Looks at the link.
    pub(super) fn watch(&mut self, now: Nanos) -> Option<Change> {
        let state = self.link.state();
        let change = match (self.state, state) {
            (LinkState::Up, LinkState::Down) => {
                self.in_step = false;
                self.resync = None;
                self.counters.losses += 1;
                warn!("the orchestrator is gone: cold services take their overflow action");
                Some(Change::Lost)
            }
            (LinkState::Down, LinkState::Up) => {
                self.resync = Some(now);
                info!("the orchestrator is there; asking for the placement");
                Some(Change::Found)
            }
            _ => None,
        };
        self.state = state;
        if state == LinkState::Up && self.resync.is_some_and(|due| due <= now) {
            // A full link is asked again soon, an unanswered question later.
            let wait = if self.link.send(Up::Resync).is_ok() { RESYNC_NANOS } else { FULL_NANOS };
            self.resync = Some(now.plus(wait));
        }
        change
    }

    /// Hands a notice over. Gives its sequence.
    ///
    /// # Errors
    /// The link didn't take it.
    pub(super) fn notify(&mut self, mut notice: api::FirstPacket) -> Result<u64, LinkError> {
        self.sequence += 1;
        notice.sequence = self.sequence;
        let result = self.link.send(Up::FirstPacket(notice));
        match result {
            Ok(()) => self.counters.notices += 1,
            Err(LinkError::Full) => self.counters.refused_full += 1,
            Err(LinkError::Down) => self.counters.refused_down += 1,
        }
        result.map(|()| self.sequence)
    }

    /// Reports a service idle; false when it couldn't be.
    pub(super) fn report_idle(&mut self, service: &str) -> bool {
        let idle = api::Idle { service: service.to_owned(), generation: self.view.generation() };
        self.link.send(Up::Idle(idle)).is_ok()
    }

    /// The next news.
    pub(super) fn receive(&mut self, now: Nanos) -> Option<News> {
        loop {
            match self.link.receive()? {
                Down::Acknowledge { sequence } => return Some(News::Acknowledged(sequence)),
                Down::Snapshot(snapshot) => {
                    self.view.replace(snapshot);
                    self.in_step = true;
                    self.resync = None;
                    self.changed = true;
                    self.counters.snapshots += 1;
                    return Some(News::Snapshot);
                }
                // What follows a gap is part of it; the snapshot that was asked for covers all.
                Down::Delta(_) if !self.in_step => {}
                Down::Delta(delta) => {
                    let names = delta.changes.iter().map(|change| change.service.clone()).collect();
                    match self.view.apply(delta) {
                        Ok(()) => {
                            self.changed = true;
                            self.counters.deltas += 1;
                            return Some(News::Changed(names));
                        }
                        Err(gap) => {
                            warn!(%gap, "asking for the whole placement");
                            self.counters.gaps += 1;
                            self.in_step = false;
                            self.resync = Some(now);
                        }
                    }
                }
            }
        }
    }

    /// The tables of generation `published` show the view as it is now.
    pub(super) fn published(&mut self, published: Generation) {
        if std::mem::take(&mut self.changed) {
            let (placement, digest) = (self.view.generation(), self.view.digest());
            self.applying = Some(Applying { tables: published, placement, digest });
        }
    }

    /// Tells the orchestrator what every worker works by.
    pub(super) fn report_applied(&mut self, shared: &Shared) {
        let Some(applying) = self.applying else { return };
        if shared.oldest_epoch() < applying.tables || self.state == LinkState::Down {
            return;
        }
        let Applying { placement, digest, .. } = applying;
        if self.link.send(Up::Applied { generation: placement, digest }).is_ok() {
            self.applying = None;
        }
    }
}

/// How long a snapshot may take before it is asked for again.
const RESYNC_NANOS: u64 = 1_000_000_000;
/// How long a full link is left alone.
const FULL_NANOS: u64 = 10_000_000;
