//! Contents from the network: a thread of its own, because it waits for disks, while what is sent must not.
//!
//! ```text
//!  worker ─► inbox ─► rule ─► TakeIn (hub/node) ─► store ─► board ─► sites
//!                               └── NACK, ACK ─► lane ─► worker ─► to whoever sends
//! ```

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use millrace_config::model::{Config, Hub as HubConfig, HubAccept, HubIntake, HubProfile};
use millrace_fastpath::addr::Addr;
use millrace_fastpath::hub::{Datagram, Inbox, Lane, Way};
use millrace_fastpath::shared::Shared;
use millrace_fastpath::tables::Tables;
use millrace_hub::norm::NodeId;
use millrace_hub_node::{NodeError, Profile, TakeIn, TakeInEvent, TakeInSettings};
use millrace_hub_store::Millis;
use millrace_hub_store::desk::{RuleStatus, Sessions};
use tracing::{info, warn};

use super::board::Board;
use super::network_name;
use super::thread::Means;
use crate::udp;

/// A rule, and what comes by it.
struct Rule {
    name: String,
    group: (Addr, u16),
    source: Option<Addr>,
    by: By,
    /// Whether it is for one sender of NORM or one session of FLUTE.
    names_session: bool,
    /// Where answers come from.
    own: Option<Addr>,
    take_in: TakeIn,
    /// Datagrams of the rule's group that came otherwise than it says.
    strange: u64,
    unsent: u64,
}

/// What a group comes by.
enum By {
    Bier(u8),
    Multicast(String),
}

/// What takes in, before workers run.
pub(super) struct Intake {
    rules: Vec<Rule>,
    inbox: Arc<Inbox>,
    lane: Arc<Lane>,
    board: Arc<Board>,
}

impl Intake {
    /// The rules of a hub. What had begun to arrive goes on.
    pub(super) fn open(
        config: &Config,
        hub: &HubConfig,
        means: &Means<'_>,
        inbox: Arc<Inbox>,
        lane: Arc<Lane>,
        board: Arc<Board>,
    ) -> Result<Self, NodeError> {
        let rules = hub.accept.iter().map(|accept| Rule::open(config, hub.id, accept, means));
        Ok(Self { rules: rules.collect::<Result<_, _>>()?, inbox, lane, board })
    }

    /// Starts the thread, which inherits the CPUs of the caller.
    pub(super) fn start(mut self, shared: Arc<Shared>) -> io::Result<IntakeThread> {
        let stop = Arc::new(AtomicBool::new(false));
        let stopping = Arc::clone(&stop);
        let body = move || {
            let begun = Instant::now();
            let mut tick = Duration::ZERO;
            while !stopping.load(Relaxed) {
                let now = begun.elapsed();
                let busy = self.turn(now, &shared.tables());
                if now >= tick {
                    tick = now + TICK;
                    self.tick(now);
                }
                if !busy {
                    thread::park_timeout(self.rest(begun.elapsed()));
                }
            }
            // So that the next start asks for nothing that is here.
            self.tick(begun.elapsed());
        };
        let thread = thread::Builder::new().name("hub-intake".to_owned()).spawn(body)?;
        Ok(IntakeThread { stop, thread: Some(thread) })
    }

    /// Whether there was anything to do.
    fn turn(&mut self, now: Duration, tables: &Tables) -> bool {
        let mut busy = false;
        for _ in 0..DATAGRAMS_PER_TURN {
            let Some(datagram) = self.inbox.take() else { break };
            busy = true;
            self.hear(now, tables, &datagram);
            self.inbox.give_back(datagram);
        }
        for rule in &mut self.rules {
            rule.answer(now, &self.lane);
            while let Some(event) = rule.take_in.poll_event() {
                note(&rule.name, event, &self.board);
            }
        }
        busy
    }

    fn hear(&mut self, now: Duration, tables: &Tables, datagram: &Datagram) {
        let Some((at, fits)) = choose(&self.rules, datagram, tables) else { return };
        let rule = &mut self.rules[at];
        if fits {
            let from = SocketAddr::new(datagram.source.to_ip(), datagram.source_port);
            rule.take_in.handle(now, from, datagram.bytes());
        } else {
            rule.strange += 1;
        }
    }

    fn tick(&mut self, now: Duration) {
        for rule in &mut self.rules {
            rule.take_in.tick(now, Millis::now());
            while let Some(event) = rule.take_in.poll_event() {
                note(&rule.name, event, &self.board);
            }
        }
        self.board.show_rules(self.rules.iter().map(Rule::status).collect());
    }

    fn rest(&self, now: Duration) -> Duration {
        let due = self.rules.iter().filter_map(|rule| rule.take_in.poll_timeout()).min();
        // Content that comes meanwhile waits in the inbox.
        due.map_or(REST_MAX, |due| due.saturating_sub(now)).clamp(REST_MIN, REST_MAX)
    }
}

/// The thread. Dropping it ends it.
#[derive(Debug)]
pub(super) struct IntakeThread {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Drop for IntakeThread {
    fn drop(&mut self) {
        self.stop.store(true, Relaxed);
        let Some(thread) = self.thread.take() else { return };
        thread.thread().unpark();
        if thread.join().is_err() {
            warn!("the thread that takes contents in had panicked");
        }
    }
}

/// The rule that a datagram is for, and whether it came by the rule's way. Of several that want it, the one that says most of whom
/// it wants; if none does, the first counts why.
fn choose(rules: &[Rule], datagram: &Datagram, tables: &Tables) -> Option<(usize, bool)> {
    let (to, from) = ((datagram.destination, datagram.destination_port), datagram.source);
    // What goes to us alone may come by any way.
    let alone = |rule: &Rule| rule.own == Some(to.0) && rule.group.1 == to.1;
    let of =
        |rule: &Rule| (rule.group == to || alone(rule)) && rule.source.is_none_or(|source| source == from);
    let comes = |rule: &Rule| alone(rule) || rule.by.is_way_of(datagram, tables);
    let rank = |rule: &Rule| {
        let fits = comes(rule);
        // Whoever isn't wanted isn't looked at closely.
        let wanted = fits && rule.take_in.wants(datagram.bytes());
        (!fits, !wanted, rule.source.is_none(), !rule.names_session)
    };
    let ranked = rules.iter().enumerate().filter(|(_, rule)| of(rule)).map(|(at, rule)| (rank(rule), at));
    ranked.min().map(|((strange, ..), at)| (at, !strange))
}

impl Rule {
    fn open(config: &Config, hub: u32, accept: &HubAccept, means: &Means<'_>) -> Result<Self, NodeError> {
        let (by, way) = match accept.by {
            HubIntake::Bier(id) => (By::Bier(id.0), format!("bier-{}", id.0)),
            HubIntake::Multicast(interface) => {
                let name = network_name(config, interface);
                (By::Multicast(name.clone()), name)
            }
        };
        let (profile, word) = match accept.profile {
            HubProfile::Norm => {
                (Profile::Norm { node: NodeId(hub), sender: accept.sender.map(NodeId) }, "norm")
            }
            HubProfile::Flute => (Profile::Flute { tsi: accept.tsi.map(u64::from) }, "flute"),
        };
        let source = accept.source.map_or("any".to_owned(), |source| source.to_string());
        let session = accept.sender.or(accept.tsi).map_or(String::new(), |session| format!(" {session}"));
        let name = format!("{way} {} {source} {word}{session}", accept.group);
        let folder = name.replace([' ', ':'], "_");
        let settings = TakeInSettings {
            profile,
            trust: means.trust.clone(),
            store: Arc::clone(means.store),
            key: means.key.clone(),
            folder: means.folder.join("arriving").join(folder),
        };
        Ok(Self {
            name,
            group: (Addr::from(accept.group.ip()), accept.group.port()),
            source: accept.source.map(Addr::from),
            by,
            names_session: accept.sender.or(accept.tsi).is_some(),
            own: own_address(config, accept).map(Addr::from),
            take_in: TakeIn::open(settings, Millis::now())?,
            strange: 0,
            unsent: 0,
        })
    }

    /// Sends what there is to say, to whoever sends.
    fn answer(&mut self, now: Duration, lane: &Lane) {
        while let Some((to, message)) = self.take_in.poll_transmit(now) {
            let to = (Addr::from(to.ip()), to.port());
            let sent = self.own.filter(|own| own.is_v4() == to.0.is_v4()).is_some_and(|own| {
                let Some(mut segment) = lane.take_empty() else { return false };
                let packet = udp::packet((own, self.group.1), to, HOPS, &message);
                let fits = segment.fill(Way::Routed, &[&packet]);
                if fits {
                    lane.send(segment)
                } else {
                    lane.give_back(segment)
                }
                fits
            });
            // It counts as lost on the way: the session says it again.
            self.unsent += u64::from(!sent);
        }
    }

    fn status(&self) -> RuleStatus {
        let mut counters: std::collections::BTreeMap<_, _> =
            self.take_in.counters().rows().map(|(name, _, count)| (name.to_owned(), count)).collect();
        counters.insert("strange".to_owned(), self.strange);
        counters.insert("unsent".to_owned(), self.unsent);
        RuleStatus { rule: self.name.clone(), senders: self.take_in.senders(), counters }
    }
}

impl By {
    fn is_way_of(&self, datagram: &Datagram, tables: &Tables) -> bool {
        match self {
            Self::Bier(id) => datagram.bier.is_some_and(|(sub_domain, _)| sub_domain.0 == *id),
            Self::Multicast(network) => {
                let by = tables.interfaces.get(datagram.interface);
                datagram.bier.is_none() && by.is_some_and(|by| by.name == *network)
            }
        }
    }
}

/// Our address as senders know it: where answers come from, and repairs for us alone go to.
pub(super) fn own_address(config: &Config, accept: &HubAccept) -> Option<IpAddr> {
    let is_like = |own: &IpAddr| own.is_ipv4() == accept.group.is_ipv4();
    match accept.by {
        HubIntake::Bier(_) => config.bier.as_ref().map(|bier| bier.bfr_prefix).filter(is_like),
        HubIntake::Multicast(interface) => {
            let port = config.port(interface.port);
            let there = port.interfaces(interface.port).find(|(one, _)| *one == interface);
            there.and_then(|(_, addresses)| addresses.iter().map(|own| own.addr()).find(is_like))
        }
    }
}

fn note(rule: &str, event: TakeInEvent, board: &Board) {
    match event {
        TakeInEvent::Taken(manifest) => {
            let what = manifest.description();
            info!(rule, content = %what.name, version = what.version, "is taken in");
            board.arrived(&manifest);
        }
        // After a crash it may be known, and not yet owed to anybody. Else nothing is new: whoever repeats what was sent before
        // has nobody sent it again.
        TakeInEvent::Known(manifest) if !board.is_distributed(&manifest) => board.arrived(&manifest),
        TakeInEvent::Known(_) => {}
        TakeInEvent::Progress { .. } => {}
        TakeInEvent::Refused { from, name, why } => {
            let from: IpAddr = from;
            warn!(rule, %from, content = name.as_deref().unwrap_or("-"), %why, "isn't taken in");
        }
    }
}

/// Datagrams before answers are sent.
const DATAGRAMS_PER_TURN: usize = 64;
/// Between checkpoints, which are what a crash costs.
const TICK: Duration = Duration::from_secs(1);
const REST_MIN: Duration = Duration::from_micros(200);
/// A third of a second fits into the inbox at 100 Mb/s.
const REST_MAX: Duration = Duration::from_millis(5);
/// Of answers, whose way is routed: a hop more than they shall go is taken here.
const HOPS: u8 = 64;

#[cfg(test)]
mod tests;
