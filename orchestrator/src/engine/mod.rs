//! Every decision of the orchestrator, without I/O and without a clock: messages and a time come in, messages go out.
//!
//! Per service: at most one start is pending at a time; a wake of a service that starts already adds nothing; a
//! wake of a ready one repeats its placement. Per node: the memory of an instance counts as taken from the moment
//! it is chosen until the node itself says that the instance is gone.
//!
//! ```text
//!  Requested ──► Starting ──► Ready ──► Draining ──► Stopping ──► gone
//!      │  (sockets bound)       │      (appliances    (node has     ▲
//!      └────── failed ──────────┘       still apply)   been told)   │ the node's own word
//!                               └──► Away (its node is lost) ───────┘
//! ```
//!
//! In the placement that appliances see, Starting and Ready are what they are, Draining and Stopping are draining,
//! and the others don't show.

mod appliances;
mod nodes;
mod notices;
mod place;
mod replace;
mod services;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use millrace_orchestrator_api::{
    Delta, Down, Generation, Instance, InstanceId, InstanceState, NodeDown, NoticeId, ServiceFailure,
    ServicePlacement, Snapshot, View,
};
use thiserror::Error;

use crate::config::Config;
use notices::Notices;

/// The orchestrator's state. Each input is a method that takes the time, counted from any fixed moment; what comes of
/// it is fetched with [`Engine::outputs`].
#[derive(Debug)]
pub struct Engine {
    config: Config,
    started: Duration,
    /// The last tick.
    ticked: Duration,
    settled: bool,
    next_instance: u64,
    /// What appliances have been told.
    view: View,
    digests: VecDeque<(Generation, u64)>,
    services: BTreeMap<String, Service>,
    instances: BTreeMap<InstanceId, Record>,
    nodes: BTreeMap<String, Node>,
    appliances: BTreeMap<ApplianceId, Appliance>,
    notices: Notices,
    /// Services whose placement may differ from what appliances have been told.
    dirty: BTreeSet<String>,
    outputs: Vec<Output>,
}

/// What the engine wants done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Output {
    /// Tell an appliance.
    Appliance(ApplianceId, Down),
    /// Tell a serving node.
    Node(NodeSession, NodeDown),
    /// End a serving node's stream.
    Close(NodeSession, Closed),
}

/// Why a serving node's stream ends.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum Closed {
    /// Nobody configured it.
    #[error("no serving node {0:?} is configured")]
    UnknownNode(String),
    /// It isn't where it should be.
    #[error("serving node {0:?} is configured with an address that it doesn't have")]
    WrongAddress(String),
    /// It has nowhere to listen.
    #[error("serving node {0:?} has no address")]
    NoAddress(String),
    /// It speaks before it has introduced itself.
    #[error("the first message must be a greeting")]
    NoGreeting,
    /// It came by another stream.
    #[error("serving node {0:?} has registered by another stream")]
    Replaced(String),
    /// It missed its heartbeats.
    #[error("serving node {0:?} was silent for too long")]
    Silent(String),
}

/// One appliance's stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ApplianceId(pub u64);

/// One serving node's stream; a node that comes again has another.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NodeSession(pub u64);

#[derive(Debug, Default)]
struct Service {
    /// How many instances it shall have.
    desired: u32,
    /// The notices of the wake that is being carried out: of each boot the last one. None when there is no wake.
    wake: Vec<NoticeId>,
    /// Starts that failed since the wake.
    attempts: u32,
    /// Nodes they failed on.
    avoid: BTreeSet<String>,
    failure: Option<ServiceFailure>,
    /// Since when no node has had room.
    homeless: Option<Duration>,
    /// No start before this.
    not_before: Option<Duration>,
    /// How often in a row all attempts failed.
    given_up: u32,
    /// Appliances that have said it is idle since its last wake.
    idle: BTreeSet<ApplianceId>,
    /// The generation that changed it last.
    changed: Generation,
}

#[derive(Debug)]
struct Record {
    service: String,
    function: String,
    node: String,
    memory_bytes: u64,
    /// Longest time for one of its requests: it may outlive its service's configuration.
    deadline_ms: u64,
    phase: Phase,
    port: u16,
    /// When the phase began.
    since: Duration,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    /// The node has been told to start it.
    Requested,
    Starting,
    Ready,
    /// Appliances are being told; the node hasn't been. The generation is the one that tells them.
    Draining(Option<Generation>),
    /// The node has been told to stop it.
    Stopping {
        /// How often.
        asked: u32,
    },
    /// Its node is lost; its memory stays taken until the node says more.
    Away,
}

#[derive(Debug, Default)]
struct Node {
    session: Option<NodeSession>,
    heard: Duration,
    ipv4_address: Option<std::net::Ipv4Addr>,
    ipv6_address: Option<std::net::Ipv6Addr>,
    memory_bytes: u64,
    /// It is going down by itself and takes no more.
    leaving: bool,
}

#[derive(Debug, Default)]
struct Appliance {
    /// Has had its first snapshot.
    synced: bool,
    applied: Generation,
    /// The generation it was last put right at, so that it isn't twice.
    corrected: Option<Generation>,
}

impl Engine {
    /// An engine that knows no nodes and no appliances yet.
    ///
    /// `first` is where generations and instance identities start. It must grow from one start of the orchestrator
    /// to the next: the time since 1970 in microseconds does.
    #[must_use]
    pub fn new(config: Config, first: u64, now: Duration) -> Self {
        let mut services = BTreeMap::new();
        let mut placements = Vec::new();
        for service in config.services() {
            let min = config.service(&service.name).map_or(0, |(_, function)| function.instances_min);
            services.insert(service.name.clone(), Service { desired: min, ..Service::default() });
            placements.push(ServicePlacement {
                service: service.name.clone(),
                instances: Vec::new(),
                failure: None,
            });
        }
        let nodes = config.nodes().map(|node| (node.name.clone(), Node::default())).collect();
        let mut view = View::default();
        view.replace(Snapshot { generation: Generation(first.max(1)), services: placements });
        let mut engine = Engine {
            config,
            started: now,
            ticked: now,
            settled: false,
            next_instance: first.max(1),
            view,
            digests: VecDeque::new(),
            services,
            instances: BTreeMap::new(),
            nodes,
            appliances: BTreeMap::new(),
            notices: Notices::default(),
            dirty: BTreeSet::new(),
            outputs: Vec::new(),
        };
        engine.remember_digest();
        engine.settle(now);
        engine
    }

    /// What appliances have been told.
    #[must_use]
    pub fn view(&self) -> &View {
        &self.view
    }

    /// Takes what has to be done since the last call, in order.
    pub fn outputs(&mut self) -> Vec<Output> {
        std::mem::take(&mut self.outputs)
    }

    /// Starts pending for a service; never more than one.
    #[must_use]
    pub fn pending(&self, service: &str) -> usize {
        self.of(service).filter(|(_, record)| record.phase.is_pending()).count()
    }

    /// A node's memory that no instance has, bytes; zero for a node that never registered.
    #[must_use]
    pub fn free_bytes(&self, node: &str) -> u64 {
        let taken: u64 = self
            .instances
            .values()
            .filter(|record| record.node == node)
            .map(|record| record.memory_bytes)
            .sum();
        self.nodes.get(node).map_or(0, |node| node.memory_bytes.saturating_sub(taken))
    }

    /// Time passes. Call it at least every [`TICK`].
    pub fn tick(&mut self, now: Duration) {
        self.settle(now);
        // Who didn't listen can't call others silent: what they said meanwhile is still under way.
        if now.saturating_sub(self.ticked) > NODE_HEARTBEAT {
            self.nodes.values_mut().for_each(|node| node.heard = now);
        }
        self.ticked = now;
        self.silent_nodes(now);
        self.overdue(now);
        self.drained(now);
        self.reconcile_all(now);
        self.flush();
        self.forget_services();
    }

    fn of(&self, service: &str) -> impl Iterator<Item = (InstanceId, &Record)> {
        self.instances
            .iter()
            .filter(move |(_, record)| record.service == service)
            .map(|(id, record)| (*id, record))
    }

    /// After a restart, appliances hear nothing until every configured node has come back, or had time to: an early
    /// snapshot would take ready services from them.
    fn settle(&mut self, now: Duration) {
        if self.settled {
            return;
        }
        let all = self.nodes.values().all(|node| node.session.is_some());
        if !all && now.saturating_sub(self.started) < SETTLE {
            return;
        }
        self.settled = true;
        self.reconcile_all(now);
        self.flush();
        let waiting: Vec<ApplianceId> =
            self.appliances.iter().filter(|(_, one)| !one.synced).map(|(id, _)| *id).collect();
        for id in waiting {
            self.send_snapshot(id);
        }
    }

    /// Tells appliances what has changed, in one delta.
    fn flush(&mut self) {
        let dirty = std::mem::take(&mut self.dirty);
        let changes: Vec<ServicePlacement> = dirty
            .iter()
            .filter(|name| self.services.contains_key(*name))
            .map(|name| self.placement(name))
            .filter(|placement| self.view.service(&placement.service) != Some(placement))
            .collect();
        if !changes.is_empty() {
            let from = self.view.generation();
            let to = Generation(from.0 + 1);
            for change in &changes {
                if let Some(service) = self.services.get_mut(&change.service) {
                    service.changed = to;
                }
            }
            let delta = Delta { from, to, changes };
            let applied = self.view.apply(delta.clone());
            debug_assert!(applied.is_ok(), "the delta starts at the view's own generation");
            self.remember_digest();
            for (&id, appliance) in &self.appliances {
                if appliance.synced {
                    self.outputs.push(Output::Appliance(id, Down::Delta(delta.clone())));
                }
            }
        }
        let told = self.view.generation();
        for record in self.instances.values_mut() {
            if record.phase == Phase::Draining(None) {
                record.phase = Phase::Draining(Some(told));
            }
        }
    }

    fn placement(&self, service: &str) -> ServicePlacement {
        let instances = self
            .of(service)
            .filter_map(|(id, record)| {
                let state = record.shown()?;
                // Nobody steers to a node that can't be reached.
                let node = self.nodes.get(&record.node).filter(|node| node.session.is_some())?;
                Some(Instance {
                    id,
                    node: record.node.clone(),
                    state,
                    ipv4_address: node.ipv4_address,
                    ipv6_address: node.ipv6_address,
                    port: record.port,
                    weight: 1,
                })
            })
            .collect();
        let failure = self.services.get(service).and_then(|service| service.failure.clone());
        ServicePlacement { service: service.to_owned(), instances, failure }
    }

    fn remember_digest(&mut self) {
        if self.digests.len() == DIGESTS_MAX {
            self.digests.pop_front();
        }
        self.digests.push_back((self.view.generation(), self.view.digest()));
    }
}

impl Record {
    /// How appliances see it.
    fn shown(&self) -> Option<InstanceState> {
        let state = match self.phase {
            Phase::Starting => InstanceState::Starting,
            Phase::Ready => InstanceState::Ready,
            Phase::Draining(_) | Phase::Stopping { .. } => InstanceState::Draining,
            Phase::Requested | Phase::Away => return None,
        };
        (self.port != 0).then_some(state)
    }
}

impl Phase {
    fn is_pending(self) -> bool {
        matches!(self, Phase::Requested | Phase::Starting)
    }

    /// Counts towards what the service shall have.
    fn is_live(self) -> bool {
        self.is_pending() || self == Phase::Ready
    }
}

/// How often the engine wants to know the time: a fifth of the shortest wait it keeps.
pub const TICK: Duration = Duration::from_millis(100);

/// How often a serving node says that it is there.
pub const NODE_HEARTBEAT: Duration = Duration::from_millis(500);

/// A node that missed three heartbeats is lost.
pub const NODE_SILENCE_MAX: Duration = Duration::from_millis(1500);

/// Time for serving nodes to come back after a restart of the orchestrator: their longest wait between attempts, and
/// the greeting.
pub const SETTLE: Duration = Duration::from_millis(2500);

/// Starts tried for one wake.
pub const START_ATTEMPTS_MAX: u32 = 3;

/// A node that was told to start has bound its sockets by then.
pub const START_WAIT_MAX: Duration = Duration::from_secs(10);

/// A component that had to be compiled first answers by then.
pub const READY_WAIT_MAX: Duration = Duration::from_secs(60);

/// A wake waits this long for a node with room, so that one that just reconnects can take it.
pub const HOMELESS_MAX: Duration = Duration::from_secs(1);

/// After the last attempt failed, a minimum of instances is tried again this much later; twice as long each time.
pub const FAILURE_REST: Duration = Duration::from_secs(5);

/// The longest of these rests. What is missing may also come with a node that registers: then it is tried at once.
pub const FAILURE_REST_MAX: Duration = Duration::from_secs(300);

/// An appliance that hasn't applied a draining by then doesn't hold it up.
pub const DRAIN_APPLY_MAX: Duration = Duration::from_secs(1);

/// A stop that isn't confirmed this long after its drain time is asked for again.
pub const STOP_CONFIRM_MAX: Duration = Duration::from_secs(2);

/// Digests kept to compare with what appliances applied: far more than are under way at a time.
const DIGESTS_MAX: usize = 64;
