//! Questions to the control loop from the threads that serve operators. It answers between two turns, by a copy.

use std::sync::Arc;
use std::sync::mpsc::{self, Receiver, Sender, SyncSender};
use std::time::Duration;

use millrace_config::model::Config;
use millrace_fastpath::clock::Nanos;
use millrace_fastpath::dns::CookieSecret;
use millrace_fastpath::tables;
use millrace_orchestrator_api::{Generation, LinkState};

use super::reload::Reload;
use super::{ControlCounters, HealthCounters, InstanceHealth, LinkCounters, Wake};
use crate::builder::{BuildError, DnsNames, Draft, PortInfo};
use crate::host::HostCounters;
use crate::oam::{AskError, Asked, Expired, OamCounters, Question};
use crate::{membership, neighbour};

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
    /// What was counted of listeners.
    pub memberships: membership::Counters,
    /// What was counted of what we listen to ourselves.
    pub joins: membership::JoinCounters,
    /// Of what BIER routers tell each other of listeners.
    pub signals: membership::SignalCounters,
    /// What the host stack counted.
    pub host: HostCounters,
    /// What was counted of probes.
    pub health: HealthCounters,
    /// What was counted of BIER ping and trace.
    pub oam: OamCounters,
    /// Frames that found no room on their way to the workers.
    pub injects_refused: u64,
    /// Endpoints of instances that left so many departures ago that their answers aren't translated any more.
    pub answers_forgotten: u64,
}

/// Who asks for listeners, and who listens, at one moment.
#[derive(Clone, Debug, Default)]
pub struct Members {
    /// What time it is.
    pub now: Nanos,
    /// Who asks on each link.
    pub queriers: Vec<membership::QuerierRow>,
    /// Groups with listeners on each link.
    pub members: Vec<membership::MemberRow>,
    /// What other routers listen to, as they say in BIER.
    pub learnt: Vec<membership::LearntRow>,
}

/// A question, with the way for its answer.
#[derive(Debug)]
pub(super) enum Ask {
    Status(SyncSender<Status>),
    Neighbours(SyncSender<(Nanos, Vec<neighbour::Row>)>),
    Members(SyncSender<Members>),
    Wakes(SyncSender<Vec<Wake>>),
    Health(SyncSender<(Nanos, Vec<InstanceHealth>)>),
    Echo(Box<Question>, SyncSender<Result<Asked, AskError>>),
    Expired(SyncSender<(Nanos, Option<Expired>)>),
    Draft(Arc<Config>, Option<Vec<PortInfo>>, SyncSender<Result<Draft, BuildError>>),
    Reload(Box<Reload>, SyncSender<tables::Generation>),
}

/// Why another configuration isn't carried out.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ReloadError {
    /// The appliance can't carry it out as it runs.
    #[error(transparent)]
    Build(#[from] BuildError),
    /// The control loop has ended.
    #[error("the control thread has ended")]
    NoControl,
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
        self.ask(Ask::Status, ANSWER_MAX)
    }

    /// The neighbours, and what time it is.
    pub fn neighbours(&self) -> Option<(Nanos, Vec<neighbour::Row>)> {
        self.ask(Ask::Neighbours, ANSWER_MAX)
    }

    /// What hosts listen to.
    pub fn members(&self) -> Option<Members> {
        self.ask(Ask::Members, ANSWER_MAX)
    }

    /// The latest wakes, oldest first.
    pub fn wakes(&self) -> Option<Vec<Wake>> {
        self.ask(Ask::Wakes, ANSWER_MAX)
    }

    /// The health of every instance that is checked, and what time it is.
    pub fn health(&self) -> Option<(Nanos, Vec<InstanceHealth>)> {
        self.ask(Ask::Health, ANSWER_MAX)
    }

    /// Asks routers of a BIER domain for echo replies. `None` when the loop has ended.
    ///
    /// # Errors
    /// [`AskError`]
    pub fn echo(&self, question: Question) -> Option<Result<Asked, AskError>> {
        self.ask(|to| Ask::Echo(Box::new(question), to), ANSWER_MAX)
    }

    /// The latest BIER data packet whose time to live was used up here, and what time it is.
    pub fn expired(&self) -> Option<(Nanos, Option<Expired>)> {
        self.ask(Ask::Expired, ANSWER_MAX)
    }

    /// Whether the appliance could carry a configuration out as it runs; `ports` are those that its driver has by then, by
    /// their ids, where they are others.
    ///
    /// # Errors
    /// [`ReloadError`]
    pub fn draft(&self, config: &Arc<Config>, ports: Option<Vec<PortInfo>>) -> Result<Draft, ReloadError> {
        let draft = self.ask(|to| Ask::Draft(Arc::clone(config), ports, to), RELOAD_MAX);
        Ok(draft.ok_or(ReloadError::NoControl)??)
    }

    /// Has a configuration carried out whose `draft` is the last one asked for; one at a time. `names` are made of the
    /// draft, and not in the loop, for a million take seconds; without them, those that are out must be the configuration's.
    /// `cookie_secrets` are those that it shares with other servers.
    ///
    /// # Errors
    /// [`ReloadError`]; then nothing has changed.
    pub fn reload(
        &self,
        config: &Arc<Config>,
        draft: Draft,
        names: Option<DnsNames>,
        cookie_secrets: Vec<CookieSecret>,
    ) -> Result<tables::Generation, ReloadError> {
        let reload = Box::new(Reload { config: Arc::clone(config), draft, names, cookie_secrets });
        self.ask(|to| Ask::Reload(reload, to), RELOAD_MAX).ok_or(ReloadError::NoControl)
    }

    fn ask<T>(&self, question: impl FnOnce(SyncSender<T>) -> Ask, patience: Duration) -> Option<T> {
        let (sender, answer) = mpsc::sync_channel(1);
        self.0.send(question(sender)).ok()?;
        answer.recv_timeout(patience).ok()
    }
}

/// How long an answer may take: a turn takes some tens of microseconds, so that long means that there is no loop.
const ANSWER_MAX: Duration = Duration::from_secs(1);
/// The same for what all services and routes have to be looked at for. A loop that takes longer has ended: it must not be
/// thought that nothing changed when something does a moment later.
const RELOAD_MAX: Duration = Duration::from_secs(60);
