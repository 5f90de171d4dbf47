//! What operators and the hub's thread tell each other: contents that are here now, and how far they are.

use std::collections::BTreeMap;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::thread::Thread;

use millrace_config::model::HubSite;
use millrace_hub_store::desk::{NodeProgress, RuleStatus, Sessions, SiteStatus};
use millrace_hub_store::{Manifest, Millis, NodeId, Root, Store};
use tracing::warn;

use super::oneway::is_for;
use super::session::Version;

/// Who contents are for.
#[derive(Debug)]
struct Members {
    /// The nodes that say what they have, by what they are called in the ledger, with their groups.
    nodes: Vec<(NodeId, Vec<String>)>,
    /// The sites whose receivers can't: nothing is owed there.
    one_way: Vec<HubSite>,
}

impl Members {
    fn of(sites: &[HubSite]) -> Self {
        let (one_way, norm): (Vec<_>, Vec<_>) = sites.iter().partition(|site| site.flute.is_some());
        let nodes = norm.into_iter().flat_map(|site| &site.nodes);
        let groups =
            |node: &millrace_config::model::HubNode| node.groups.iter().map(ToString::to_string).collect();
        Self {
            nodes: nodes.map(|node| (NodeId(node.id), groups(node))).collect(),
            one_way: one_way.into_iter().cloned().collect(),
        }
    }

    /// The nodes that a content is for.
    fn of_group(&self, group: &str) -> impl Iterator<Item = NodeId> {
        let is_in = move |(_, groups): &&(NodeId, Vec<String>)| {
            group.is_empty() || groups.iter().any(|other| other == group)
        };
        self.nodes.iter().filter(is_in).map(|(node, _)| *node)
    }
}

/// How everything is, as the thread last said.
#[derive(Debug, Default)]
pub(super) struct Shown {
    pub(super) progress: BTreeMap<Version, BTreeMap<NodeId, NodeProgress>>,
    pub(super) sites: Vec<SiteStatus>,
}

/// The board.
pub(super) struct Board {
    store: Arc<Store>,
    members: Members,
    late_join_ms: u64,
    arrived: Mutex<Sender<Manifest>>,
    shown: Mutex<Shown>,
    rules: Mutex<Vec<RuleStatus>>,
    thread: OnceLock<Thread>,
}

impl Board {
    pub(super) fn new(
        store: Arc<Store>,
        sites: &[HubSite],
        late_join_ms: u64,
    ) -> (Arc<Self>, Receiver<Manifest>) {
        let (arrived, arrivals) = channel();
        let board = Self {
            store,
            members: Members::of(sites),
            late_join_ms,
            arrived: Mutex::new(arrived),
            shown: Mutex::default(),
            rules: Mutex::default(),
            thread: OnceLock::new(),
        };
        (Arc::new(board), arrivals)
    }

    /// Who is woken by what arrives.
    pub(super) fn wakes(&self, thread: Thread) {
        // There is one thread.
        let _ = self.thread.set(thread);
    }

    pub(super) fn show(&self, shown: Shown) {
        *self.shown.lock().unwrap_or_else(PoisonError::into_inner) = shown;
    }
}

impl Board {
    /// Whether it is known who is owed a content.
    pub(super) fn is_distributed(&self, manifest: &Manifest) -> bool {
        let what = manifest.description();
        self.store.distribution(what.root, what.version).is_some()
    }

    /// Notes who is owed a content, and that it is kept for a while; false if it is for nobody. On disk before anything is sent, and on the asker's thread: the hub's doesn't
    /// wait for disks to sync.
    pub(super) fn owe(&self, manifest: &Manifest) -> bool {
        self.owe_until(manifest, Millis(Millis::now().0.saturating_add(self.late_join_ms)))
    }

    /// The same; late ones may come until then.
    pub(super) fn owe_until(&self, manifest: &Manifest, late_until: Millis) -> bool {
        let (what, now) = (manifest.description(), Millis::now());
        let nodes: Vec<_> = self.members.of_group(what.group.as_str()).collect();
        let heard = self.members.one_way.iter().any(|site| is_for(site, what.group.as_str()));
        if nodes.is_empty() && !heard {
            return false;
        }
        if let Err(error) = self.store.distribute(what.root, what.version, nodes, late_until, now) {
            warn!(content = %what.name, %error, "what nodes are owed isn't durable");
        }
        true
    }

    /// Lets go of what nobody can be sent any more: contents that a newer one has taken the name of, and nodes that the
    /// configuration doesn't have.
    pub(super) fn release(&self) {
        let (names, now) = (self.store.names(), Millis::now());
        for (root, version, owed) in self.store.unfinished() {
            let is_it = |manifest: &Manifest| {
                let what = manifest.description();
                (what.root, what.version) == (root, version)
            };
            if !names.iter().any(is_it) {
                self.store.end_distribution(root, version, now);
                continue;
            }
            let known = |node: &NodeId| self.members.nodes.iter().any(|(member, _)| member == node);
            for node in owed.into_iter().filter(|node| !known(node)) {
                self.store.failed(root, version, node, Vec::new(), now);
            }
        }
    }

    pub(super) fn show_rules(&self, rules: Vec<RuleStatus>) {
        *self.rules.lock().unwrap_or_else(PoisonError::into_inner) = rules;
    }
}

impl Sessions for Board {
    fn arrived(&self, manifest: &Manifest) {
        if !self.owe(manifest) {
            return warn!(content = %manifest.description().name, "is for nobody: no node is in its group");
        }
        // The thread outlives the askers.
        let _ = self.arrived.lock().unwrap_or_else(PoisonError::into_inner).send(manifest.clone());
        if let Some(thread) = self.thread.get() {
            thread.unpark();
        }
    }

    fn progress(&self, root: Root, version: u64) -> BTreeMap<NodeId, NodeProgress> {
        let shown = self.shown.lock().unwrap_or_else(PoisonError::into_inner);
        shown.progress.get(&(root, version)).cloned().unwrap_or_default()
    }

    fn rules(&self) -> Vec<RuleStatus> {
        self.rules.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn sites(&self) -> Vec<SiteStatus> {
        self.shown.lock().unwrap_or_else(PoisonError::into_inner).sites.clone()
    }
}
