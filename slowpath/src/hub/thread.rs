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

use millrace_config::model::{Config, Hub as HubConfig};
use millrace_fastpath::addr::Addr;
use millrace_fastpath::hub::{Inbox, Inlet, Lane};
use millrace_fastpath::shared::Shared;
use millrace_fastpath::tables::Hub as HubTables;
use millrace_hub::session::{Counters, Ignored, LegCounters};
use millrace_hub_store::desk::{LegStatus, Sessions, SiteStatus};
use millrace_hub_store::{Manifest, Store};
use tracing::warn;

use super::board::{Board, Shown};
use super::saved::Saved;
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
}

impl Prepared {
    /// Sessions for the sites of a configuration whose hub this is. `folder` is the store's, `workers` is how many there are.
    pub fn new(config: &Config, hub: &HubConfig, store: Arc<Store>, folder: &Path, workers: usize) -> Self {
        let lane = |(at, site): (usize, &millrace_config::model::HubSite)| {
            // What isn't paced by the session, its commands, has to fit in.
            let rate = site.rate_bits_per_second / 100 * 101;
            Arc::new(Lane::new(at % workers.max(1), rate))
        };
        let feedback = hub
            .sites
            .iter()
            .zip(0u16..)
            .map(|(site, number)| ((Addr::from(site.source.ip()), site.source.port()), number));
        let tables = HubTables {
            lanes: hub.sites.iter().enumerate().map(lane).collect(),
            feedback: feedback.collect(),
            ..HubTables::default()
        };
        let late_join_ms = u64::try_from(hub.late_join.as_millis()).unwrap_or(u64::MAX);
        let (board, arrivals) = Board::new(Arc::clone(&store), &hub.sites, late_join_ms);
        let (config, folder, tables) = (config.clone(), folder.join("sites"), Arc::new(tables));
        Self { config, store, folder, tables, board, arrivals }
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
    pub fn start(self, shared: Arc<Shared>, random: u64) -> io::Result<HubThread> {
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
        Ok(HubThread { stop, thread: Some(thread) })
    }
}

/// The hub's thread. Dropping it ends it; what nodes are owed is gone on with at the next start.
#[derive(Debug)]
pub struct HubThread {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
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
    inbox: Arc<Inbox>,
    arrivals: Receiver<Manifest>,
    board: Arc<Board>,
    folder: PathBuf,
    sites: Vec<Site>,
    begun: Instant,
    /// When the board is written next, and where sessions are is saved.
    show_due: Duration,
}

impl Running {
    fn new(prepared: Prepared, shared: Arc<Shared>, random: u64) -> Self {
        let Prepared { config, store, folder, tables, board, arrivals } = prepared;
        let hub = config.hub.as_ref();
        let sites = hub.into_iter().flat_map(|hub| hub.sites.iter().map(move |site| (hub.id, site)));
        let sites = sites.zip(&tables.lanes).zip(0u16..).map(|(((id, site), lane), at)| {
            let saved = Saved::read(&folder, site.name.as_ref());
            let new = |instance| Site::new(&config, site, id, instance, Arc::clone(lane), Arc::clone(&store));
            // A run in which nothing is under way isn't gone on with: what nodes know of it would only be in the way.
            if let Some(saved) = saved.filter(|saved| !saved.objects.is_empty()) {
                let mut site = new(saved.instance);
                if site.saved().segment == saved.segment {
                    site.resume(Duration::ZERO, &saved);
                    return site;
                }
            }
            new((random as u16).wrapping_add(at))
        });
        let mut sites: Vec<Site> = sites.collect();
        let unfinished = store.unfinished();
        for manifest in store.names() {
            let what = manifest.description();
            if unfinished.iter().any(|(root, version, _)| (*root, *version) == (what.root, what.version)) {
                announce(&mut sites, Duration::ZERO, &manifest);
            }
        }
        let inbox = Arc::clone(&tables.inbox);
        Self {
            shared,
            inbox,
            arrivals,
            board,
            folder,
            sites,
            begun: Instant::now(),
            show_due: Duration::ZERO,
        }
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
                save(&self.folder, site);
            }
        }
        let tables = self.shared.tables();
        for site in &mut self.sites {
            busy |= site.turn(now, &tables);
        }
        drop(tables);
        if now >= self.show_due {
            self.show_due = now + SHOW_EVERY;
            self.show();
        }
        if !busy {
            self.rest(now);
        }
    }

    /// What nodes say. Whether there was anything.
    fn hear(&mut self, now: Duration) -> bool {
        for heard in 0..DATAGRAMS_PER_TURN {
            let Some(datagram) = self.inbox.take() else { return heard > 0 };
            if let Inlet::Feedback(number) = datagram.inlet
                && let Some(site) = self.sites.get_mut(usize::from(number))
            {
                let from: IpAddr = datagram.source.to_ip();
                site.hear(now, from, datagram.bytes());
            }
            self.inbox.give_back(datagram);
        }
        true
    }

    fn rest(&self, now: Duration) {
        let due = self.sites.iter().filter_map(Site::next_due).min();
        let rest = match due {
            // Nobody is being sent anything: what nodes say late can wait a little.
            None => QUIET_REST,
            Some(due) => due.saturating_sub(now).clamp(REST_MIN, REST_MAX),
        };
        thread::park_timeout(rest);
    }

    fn show(&self) {
        let mut shown = Shown::default();
        for site in &self.sites {
            for (of, node, progress) in site.progress() {
                shown.progress.entry(of).or_default().insert(node, progress);
            }
            shown.sites.push(status(site));
            if !site.saved().objects.is_empty() {
                save(&self.folder, site);
            }
        }
        self.board.show(shown);
    }

    fn save_all(&self) {
        self.sites.iter().for_each(|site| save(&self.folder, site));
    }
}

fn announce(sites: &mut [Site], now: Duration, manifest: &Manifest) {
    sites.iter_mut().for_each(|site| site.announce(now, manifest.clone(), None));
}

fn save(folder: &Path, site: &Site) {
    if let Err(error) = site.saved().write(folder, &site.name) {
        // Without it a restart begins the session anew.
        warn!(site = site.name, %error, "where the session is can't be kept");
    }
}

fn status(site: &Site) -> SiteStatus {
    let sender = site.sender();
    let counters: &Counters = sender.counters();
    let leg = |node| {
        let name = sender.roster().node(node).id.0;
        (name, leg_status(&sender.leg(node)))
    };
    let mut ignored = BTreeMap::<_, u64>::new();
    for reason in Ignored::all() {
        *ignored.entry(reason.name().to_owned()).or_default() += counters.ignored(reason);
    }
    SiteStatus {
        site: site.name.clone(),
        trunk: leg_status(&counters.trunk),
        legs: sender.roster().indices().map(leg).collect(),
        nacks: counters.nacks,
        acks: counters.acks,
        feedback_bytes: counters.feedback_bytes,
        grtt_seconds: sender.grtt().as_secs_f64(),
        ignored,
        unsent: site.unsent().map(|(why, count)| (why.to_owned(), count)).collect(),
    }
}

fn leg_status(leg: &LegCounters) -> LegStatus {
    LegStatus {
        first_packets: leg.first_packets,
        first_bytes: leg.first_bytes,
        repair_packets: leg.repair_packets,
        repair_bytes: leg.repair_bytes,
        control_packets: leg.control_packets,
        control_bytes: leg.control_bytes,
    }
}

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
