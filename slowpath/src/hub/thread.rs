//! The thread around the sites: feedback in, segments out, and a rest when nothing is due.

use std::collections::BTreeMap;
use std::io;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::mpsc::Receiver;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use millrace_config::model::{Config, Hub as HubConfig, HubIntake};
use millrace_fastpath::addr::Addr;
use millrace_fastpath::hub::{Inbox, Inlet, Lane};
use millrace_fastpath::shared::Shared;
use millrace_fastpath::tables::Hub as HubTables;
use millrace_hub::norm::{self, Message};
use millrace_hub_node::NodeError;
use millrace_hub_store::desk::Sessions;
use millrace_hub_store::{Manifest, Millis, SigningKey, Store, Trust};
use tracing::warn;

use super::board::{Board, Shown};
use super::intake::{Intake, IntakeThread, own_address};
use super::network_name;
use super::oneway::OneWay;
use super::saved::{self, Saved, SavedOneWay};
use super::session::{Session, Version};
use super::site::Site;

/// A hub's sessions, before workers run.
pub struct Prepared {
    config: Config,
    store: Arc<Store>,
    /// Where sessions are kept.
    folder: PathBuf,
    tables: Arc<HubTables>,
    board: Arc<Board>,
    arrivals: Receiver<Manifest>,
    /// What had a name before anything could be put in.
    known: Vec<Version>,
    /// Where there are rules.
    intake: Option<Intake>,
}

/// What a hub has.
pub struct Means<'a> {
    /// Its store,
    pub store: &'a Arc<Store>,
    /// and the store's folder.
    pub folder: &'a Path,
    /// Whose manifests are believed.
    pub trust: Trust,
    /// Signs what comes without a manifest.
    pub key: Option<Arc<SigningKey>>,
}

impl Prepared {
    /// Sessions for the sites of a configuration whose hub this is. `folder` is the store's, `workers` is how many there are.
    ///
    /// # Errors
    /// The folders for what is arriving can't be had.
    pub fn new(
        config: &Config,
        hub: &HubConfig,
        means: Means<'_>,
        workers: usize,
    ) -> Result<Self, NodeError> {
        let Means { store, folder, .. } = means;
        let lane = |(at, site): (usize, &millrace_config::model::HubSite)| {
            // What isn't paced by the session, its commands, has to fit in.
            let rate = site.rate_bits_per_second / 100 * 101;
            Arc::new(Lane::new(at % workers.max(1), rate))
        };
        // Who gets FLUTE says nothing.
        let feedback = hub.sites.iter().zip(0..).filter(|(site, _)| site.flute.is_none());
        let feedback = feedback.map(|(site, number)| {
            ((Addr::from(site.source.ip()), site.source.port()), Inlet::Feedback(number))
        });
        let repairs = hub.accept.iter().zip(0..).filter_map(|(rule, number)| {
            Some(((Addr::from(own_address(config, rule)?), rule.group.port()), Inlet::Content(number)))
        });
        let rules = (0..).zip(&hub.accept);
        let accepted = rules.map(|(number, rule)| {
            let anybody = if rule.group.is_ipv4() { Addr::v4([0; 4]) } else { Addr::default() };
            ((rule.source.map_or(anybody, Addr::from), Addr::from(rule.group.ip())), number)
        });
        let mut joins = BTreeMap::<_, Vec<_>>::new();
        for rule in &hub.accept {
            if let HubIntake::Multicast(interface) = rule.by {
                let join = (Addr::from(rule.group.ip()), rule.source.map(Addr::from));
                joins.entry(network_name(config, interface)).or_default().push(join);
            }
        }
        let answers = Arc::new(Lane::new(0, ANSWERS_BITS_PER_SECOND));
        let lanes = hub.sites.iter().enumerate().map(lane).chain([Arc::clone(&answers)]);
        let tables = HubTables {
            lanes: lanes.collect(),
            accepted: accepted.collect(),
            joins,
            // Where both come to one port, the thread tells them apart.
            ports: repairs.chain(feedback).collect(),
            ..HubTables::default()
        };
        let late_join_ms = u64::try_from(hub.late_join.as_millis()).unwrap_or(u64::MAX);
        let (board, arrivals) = Board::new(Arc::clone(store), &hub.sites, late_join_ms);
        let contents = Arc::clone(&tables.contents);
        let intake = Intake::open(config, hub, &means, contents, answers, Arc::clone(&board))?;
        let intake = Some(intake).filter(|_| !hub.accept.is_empty());
        let (config, folder, tables) = (config.clone(), folder.join("sites"), Arc::new(tables));
        let of = |manifest: &Manifest| (manifest.description().root, manifest.description().version);
        let known = store.names().iter().map(of).collect();
        Ok(Self { config, store: Arc::clone(store), folder, tables, board, arrivals, known, intake })
    }

    /// What workers read.
    pub fn tables(&self) -> Arc<HubTables> {
        Arc::clone(&self.tables)
    }

    /// Who answers for the sessions.
    pub fn sessions(&self) -> Arc<dyn Sessions> {
        Arc::clone(&self.board) as Arc<dyn Sessions>
    }

    /// Starts the thread, which inherits the CPUs of the caller. `random` numbers sessions that begin anew.
    ///
    /// # Errors
    /// The system has no room for a thread.
    pub fn start(mut self, shared: Arc<Shared>, random: u64) -> io::Result<HubThread> {
        let intake = self.intake.take().map(|intake| intake.start(Arc::clone(&shared))).transpose()?;
        let stop = Arc::new(AtomicBool::new(false));
        let stopping = Arc::clone(&stop);
        let board = Arc::clone(&self.board);
        let body = move || {
            let mut hub = Running::new(self, shared, random);
            while !stopping.load(Relaxed) {
                hub.turn();
            }
            hub.save_all();
        };
        let thread = thread::Builder::new().name("hub".to_owned()).spawn(body)?;
        board.wakes(thread.thread().clone());
        Ok(HubThread { stop, thread: Some(thread), _intake: intake })
    }
}

/// The hub's threads. Dropping them ends them; what nodes are owed is gone on with at the next start.
#[derive(Debug)]
pub struct HubThread {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
    _intake: Option<IntakeThread>,
}

impl Drop for HubThread {
    fn drop(&mut self) {
        self.stop.store(true, Relaxed);
        let Some(thread) = self.thread.take() else { return };
        thread.thread().unpark();
        if thread.join().is_err() {
            warn!("the hub's thread had panicked");
        }
    }
}

/// What the thread has.
struct Running {
    shared: Arc<Shared>,
    heard: Arc<Inbox>,
    contents: Arc<Inbox>,
    arrivals: Receiver<Manifest>,
    board: Arc<Board>,
    folder: PathBuf,
    sites: Vec<Box<dyn Session>>,
    begun: Instant,
    /// When the board is written next, and where sessions are is saved.
    show_due: Duration,
}

impl Running {
    fn new(prepared: Prepared, shared: Arc<Shared>, random: u64) -> Self {
        let Prepared { config, store, folder, tables, board, arrivals, known, .. } = prepared;
        let hub = config.hub.as_ref();
        let sites = hub.into_iter().flat_map(|hub| hub.sites.iter().map(move |site| (hub.id, site)));
        let sites =
            sites.zip(&tables.lanes).zip(0u16..).map(|(((id, site), lane), at)| -> Box<dyn Session> {
                if let Some(flute) = site.flute {
                    let saved = saved::read(&folder, site.name.as_ref());
                    // What is put in from here on is for it, also before this thread runs.
                    let saved = saved.or_else(|| Some(SavedOneWay::beginning(known.clone())));
                    return Box::new(OneWay::new(
                        &config,
                        site,
                        flute,
                        Arc::clone(lane),
                        Arc::clone(&store),
                        saved,
                    ));
                }
                let saved = saved::read::<Saved>(&folder, site.name.as_ref());
                let new =
                    |instance| Site::new(&config, site, id, instance, Arc::clone(lane), Arc::clone(&store));
                // A run in which nothing is under way isn't gone on with: what nodes know of it would only be in the way.
                if let Some(saved) =
                    saved.filter(|saved| !saved.objects.is_empty() && saved.boot == saved::boot())
                {
                    let mut site = new(saved.instance);
                    if site.saved().segment == saved.segment {
                        site.resume(Duration::ZERO, &saved);
                        return Box::new(site);
                    }
                }
                Box::new(new((random as u16).wrapping_add(at)))
            });
        let mut sites: Vec<Box<dyn Session>> = sites.collect();
        // What was whole just before a crash may be owed to nobody yet.
        for manifest in store.names() {
            let what = manifest.description();
            let whole = store.progress(what.root, Millis::now()).is_some_and(|progress| progress.complete);
            if !whole {
                continue;
            }
            match store.distribution(what.root, what.version) {
                None => {
                    board.owe(&manifest);
                }
                // Nodes that were given up may be there again, and others new.
                Some(known) if Millis::now() < known.late_until => {
                    board.owe_until(&manifest, known.late_until);
                }
                Some(_) => {}
            }
        }
        board.release();
        let unfinished = store.unfinished();
        for manifest in store.names() {
            let what = manifest.description();
            if unfinished.iter().any(|(root, version, _)| (*root, *version) == (what.root, what.version)) {
                announce(&mut sites, Duration::ZERO, &manifest);
            }
        }
        let (heard, contents) = (Arc::clone(&tables.heard), Arc::clone(&tables.contents));
        let (begun, show_due) = (Instant::now(), Duration::ZERO);
        Self { shared, heard, contents, arrivals, board, folder, sites, begun, show_due }
    }

    /// One turn, and the rest after it.
    fn turn(&mut self) {
        let now = self.begun.elapsed();
        let mut busy = self.hear(now);
        while let Ok(manifest) = self.arrivals.try_recv() {
            announce(&mut self.sites, now, &manifest);
            busy = true;
        }
        for site in &mut self.sites {
            if site.has_changed() {
                save(&self.folder, &**site);
                // Whoever waits for the end finds the figures of the end.
                self.show_due = Duration::ZERO;
            }
        }
        let tables = self.shared.tables();
        for site in &mut self.sites {
            busy |= site.turn(now, &tables);
        }
        drop(tables);
        if now >= self.show_due {
            self.show_due = now + SHOW_EVERY;
            self.show(now);
        }
        if !busy {
            self.rest(now);
        }
    }

    /// What nodes say. Whether there was anything.
    fn hear(&mut self, now: Duration) -> bool {
        for heard in 0..DATAGRAMS_PER_TURN {
            let Some(datagram) = self.heard.take() else { return heard > 0 };
            if !is_feedback(datagram.bytes()) {
                // A repair that a sender of ours has sent to us alone. If there is no room, it comes again.
                if let Some(mut copy) = self.contents.take_empty() {
                    *copy = (*datagram).clone();
                    self.contents.put(copy);
                }
            } else if let Inlet::Feedback(number) = datagram.inlet
                && let Some(site) = self.sites.get_mut(usize::from(number))
            {
                let from: IpAddr = datagram.source.to_ip();
                site.hear(now, from, datagram.bytes());
            }
            self.heard.give_back(datagram);
        }
        true
    }

    fn rest(&self, now: Duration) {
        let due = self.sites.iter().filter_map(|site| site.next_due()).min();
        // While nobody is being sent anything, what nodes say can wait a little.
        let under_way = self.sites.iter().any(|site| site.is_under_way());
        let rest_max = if under_way { REST_MAX } else { QUIET_REST };
        let rest = due.map_or(rest_max, |due| due.saturating_sub(now).clamp(REST_MIN, rest_max));
        thread::park_timeout(rest);
    }

    fn show(&mut self, now: Duration) {
        let mut shown = Shown::default();
        for site in &mut self.sites {
            site.measure(now);
            for (of, node, progress) in site.progress() {
                shown.progress.entry(of).or_default().insert(node, progress);
            }
            shown.sites.push(site.status());
            if site.is_under_way() {
                save(&self.folder, &**site);
            }
        }
        self.board.show(shown);
    }

    fn save_all(&self) {
        self.sites.iter().for_each(|site| save(&self.folder, &**site));
    }
}

/// Whether a datagram is what receivers say, and not what senders do. What can't be read is taken for feedback, and counted there.
fn is_feedback(datagram: &[u8]) -> bool {
    let message = norm::parse(datagram).map(|packet| packet.message);
    !matches!(message, Ok(Message::Info { .. } | Message::Data { .. } | Message::Command { .. }))
}

fn announce(sites: &mut [Box<dyn Session>], now: Duration, manifest: &Manifest) {
    sites.iter_mut().for_each(|site| site.announce(now, manifest));
}

fn save(folder: &Path, site: &dyn Session) {
    if let Err(error) = site.save(folder) {
        // Without it a restart begins the session anew.
        warn!(site = site.name(), %error, "where the session is can't be kept");
    }
}

/// What senders are told: a few hundredths of what they send.
const ANSWERS_BITS_PER_SECOND: u64 = 100_000_000;
/// Between two looks of operators at the sessions, and what a crash costs: so much is sent again.
const SHOW_EVERY: Duration = Duration::from_millis(500);
/// Datagrams before sites have their turn.
const DATAGRAMS_PER_TURN: usize = 256;
/// While something is being sent: some segments at once rather than a wake for each.
const REST_MIN: Duration = Duration::from_micros(200);
/// Then feedback waits at most so long.
const REST_MAX: Duration = Duration::from_millis(1);
/// While nothing is.
const QUIET_REST: Duration = Duration::from_millis(10);
