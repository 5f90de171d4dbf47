//! One site whose receivers can't answer: a FLUTE session, with the store behind it.
//!
//! ```text
//!  announce ─► waiting ─► hashed, a piece each turn ─► sent, in its passes ─► done: saved, never owed
//! ```
//!
//! Tables of FLUTE name files by MD5, which the store doesn't have: each content is read once more before it is sent.

use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::net::IpAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use millrace_config::model::{Config as Configuration, HubFlute, HubSite};
use millrace_fastpath::hub::Lane;
use millrace_fastpath::tables::Tables;
use millrace_hub::flute::{Code, Coder, Config, Event, HEADER_LEN, Offer, Sender};
use millrace_hub::nodes::{NodeIndex, NodeSet, Roster};
use millrace_hub::session::{Content as _, Copies, Rate, To};
use millrace_hub_node::{FileDigest, location_of};
use millrace_hub_store::desk::{NodeProgress, SiteStatus};
use millrace_hub_store::{Description, Manifest, Millis, NodeId, Store};
use tracing::{info, warn};

use super::cache::Cache;
use super::outlet::{Outlet, Why};
use super::saved::{self, SavedOneWay};
use super::session::{Session, Version};
use super::site::{CATCH_UP, MESSAGES_PER_TURN, SEGMENT_MAX, carriage, roster};
use super::status::leg_status;

/// Whether a content is for somebody at a site whose receivers can't answer: one that is for a group needs a node that is in it.
pub(super) fn is_for(site: &HubSite, group: &str) -> bool {
    group.is_empty() || site.nodes.iter().any(|node| node.groups.iter().any(|other| other.as_str() == group))
}

/// A content on its way.
#[derive(Debug)]
struct File {
    toi: u64,
    what: Description,
}

impl File {
    fn of(&self) -> Version {
        (self.what.root, self.what.version)
    }
}

/// A site.
pub(super) struct OneWay {
    site: HubSite,
    name: String,
    store: Arc<Store>,
    sender: Sender,
    coder: Coder,
    outlet: Outlet,
    roster: Roster,
    cache: Cache<u64>,
    waiting: VecDeque<File>,
    /// What is being hashed, and how far that is.
    hashed: Option<(File, u64, FileDigest)>,
    sent: BTreeMap<u64, File>,
    done: Vec<Version>,
    /// The next object's number.
    next: u64,
    /// Bytes of a symbol, and whether there is a code.
    cut: (u16, bool),
    /// What a restart would go on with isn't what was last saved.
    changed: bool,
    message: Vec<u8>,
}

impl OneWay {
    /// A site where an earlier run of the appliance left it. A new one begins with what comes from now on.
    pub(super) fn new(
        config: &Configuration,
        site: &HubSite,
        flute: HubFlute,
        lane: Arc<Lane>,
        store: Arc<Store>,
        saved: Option<SavedOneWay>,
    ) -> Self {
        let (carriage, mtu, bsl) = carriage(config, site);
        let outlet = Outlet::new(carriage, lane, site.source, site.group, site.ttl);
        let overhead = outlet.overhead();
        // From the Ethernet header on; the link's MTU is without it.
        let room = (usize::from(mtu) + millrace_fastpath::packet::L3).saturating_sub(overhead + HEADER_LEN);
        let symbol = (room.clamp(SYMBOL_MIN, SEGMENT_MAX) & !3) as u16;
        let code =
            flute.overhead_percent.map_or(Code::None, |overhead_percent| Code::RaptorQ { overhead_percent });
        let session = Config {
            tsi: flute.tsi.into(),
            symbol,
            code,
            passes: flute.passes,
            rate: Rate { bits_per_second: site.rate_bits_per_second, overhead: overhead as u16 },
            catch_up: CATCH_UP,
            expires: NEVER,
        };
        let mut one = Self {
            site: site.clone(),
            name: site.name.to_string(),
            cache: Cache::new(Arc::clone(&store)),
            sender: Sender::new(session, Duration::ZERO),
            coder: Coder::default(),
            outlet,
            roster: roster(&site.nodes, bsl),
            store,
            waiting: VecDeque::new(),
            hashed: None,
            sent: BTreeMap::new(),
            done: Vec::new(),
            next: 1,
            cut: (symbol, flute.overhead_percent.is_some()),
            changed: true,
            message: Vec::new(),
        };
        one.resume(saved);
        one
    }

    /// Goes on with what an earlier run left, in the order in which it came; and takes up what was put in just before a crash.
    fn resume(&mut self, saved: Option<SavedOneWay>) {
        let names = self.store.names();
        let version = |manifest: &Manifest| (manifest.description().root, manifest.description().version);
        let Some(saved) = saved else {
            self.done = names.iter().map(version).collect();
            return;
        };
        (self.next, self.done) = (saved.next, saved.done);
        for (toi, root, of) in saved.objects {
            let known = names.iter().find(|manifest| version(manifest) == (root, of));
            if let Some(manifest) = known {
                self.take(manifest, (saved.cut == self.cut).then_some(toi));
            }
        }
        for manifest in &names {
            let whole = self.store.progress(manifest.description().root, Millis::now());
            if whole.is_some_and(|progress| progress.complete) {
                self.take(manifest, None);
            }
        }
        self.forget_old();
    }

    /// Takes a content in, unless it is done, under way, or for nobody here.
    fn take(&mut self, manifest: &Manifest, toi: Option<u64>) {
        let what = manifest.description().clone();
        let of = (what.root, what.version);
        let known = self.done.contains(&of) || self.under_way().any(|file| file.of() == of);
        if known || !is_for(&self.site, what.group.as_str()) {
            return;
        }
        let toi = toi.unwrap_or_else(|| {
            self.next += 1;
            self.next - 1
        });
        self.cache.insert(toi, what.root);
        self.waiting.push_back(File { toi, what });
        self.changed = true;
    }

    /// What isn't done, the first ones first.
    fn under_way(&self) -> impl Iterator<Item = &File> {
        let hashed = self.hashed.iter().map(|(file, ..)| file);
        self.sent.values().chain(hashed).chain(&self.waiting)
    }

    /// What has no name any more needn't be remembered.
    fn forget_old(&mut self) {
        let names = self.store.names();
        let is_named = |of: &Version| {
            names.iter().any(|manifest| {
                let what = manifest.description();
                (what.root, what.version) == *of
            })
        };
        self.done.retain(is_named);
    }

    /// Hashes a piece of what comes next. Returns whether there was anything to hash.
    fn hash(&mut self) -> bool {
        if self.hashed.is_none() && self.sent.len() < SENT_MAX {
            let file = self.waiting.pop_front();
            self.hashed = file.map(|file| (file, 0, FileDigest::default()));
        }
        let Some((file, mut at, mut digest)) = self.hashed.take() else { return false };
        let mut piece = vec![0; (file.what.size - at).min(PIECE) as usize];
        if self.cache.read(file.toi, at, &mut piece).is_err() {
            // It is begun anew when it is put in again, or at the next start.
            self.outlet.unsent.add(Why::Unreadable);
            warn!(site = self.name, content = %file.what.name, "can't be read, and isn't sent");
            self.cache.remove(file.toi);
            self.changed = true;
            return true;
        }
        digest.update(&piece);
        at += piece.len() as u64;
        if at < file.what.size {
            self.hashed = Some((file, at, digest));
        } else {
            self.send(file, digest.finish());
        }
        true
    }

    fn send(&mut self, file: File, md5: String) {
        let (to, copies) = self.whom(file.what.group.as_str());
        let offer = Offer {
            size: file.what.size,
            location: location_of(file.what.name.as_str()),
            md5: Some(md5),
            toi: Some(file.toi),
            to,
            copies,
        };
        match self.sender.announce(offer) {
            Ok(toi) => {
                info!(site = self.name, content = %file.what.name, version = file.what.version, "is being sent");
                self.sent.insert(toi, file);
            }
            Err(error) => {
                warn!(site = self.name, content = %file.what.name, %error, "can't be sent");
                self.end(file);
            }
        }
    }

    /// Who gets what is for a group, and how many packets that makes of one. Without BIER all who listen do.
    fn whom(&self, group: &str) -> (To, usize) {
        let Copies::Sets = self.outlet.copies() else { return (To::Everyone, 1) };
        let is_in = |index: &NodeIndex| {
            let id = self.roster.node(*index).id.0;
            let node = self.site.nodes.iter().find(|node| node.id == id);
            group.is_empty() || node.is_some_and(|node| node.groups.iter().any(|one| one.as_str() == group))
        };
        let nodes: NodeSet = self.roster.indices().filter(is_in).collect();
        let copies = self.roster.packets(&nodes);
        (To::These(nodes), copies)
    }

    /// Nothing more is sent of it.
    fn end(&mut self, file: File) {
        self.cache.remove(file.toi);
        self.done.push(file.of());
        self.forget_old();
        self.changed = true;
    }

    fn saved(&self) -> SavedOneWay {
        let object = |file: &File| (file.toi, file.what.root, file.what.version);
        let objects = self.under_way().map(object).collect();
        SavedOneWay { next: self.next, cut: self.cut, objects, done: self.done.clone() }
    }
}

impl Session for OneWay {
    fn name(&self) -> &str {
        &self.name
    }

    fn announce(&mut self, _: Duration, manifest: &Manifest) {
        self.take(manifest, None);
    }

    /// Nobody there says anything.
    fn hear(&mut self, _: Duration, _: IpAddr, _: &[u8]) {}

    fn turn(&mut self, now: Duration, tables: &Tables) -> bool {
        let mut any = self.hash();
        any |= self.outlet.go_on(tables, &self.roster);
        for _ in 0..MESSAGES_PER_TURN {
            if !self.outlet.is_free() {
                break;
            }
            let Some(packet) = self.sender.poll_transmit(now) else { break };
            any = true;
            self.message.clear();
            match packet.write(&mut self.cache, &mut self.coder, &mut self.message) {
                Ok(()) => self.outlet.send(tables, &self.roster, &packet.to, &self.message),
                // Another pass, or the code, makes it good.
                Err(_) => self.outlet.unsent.add(Why::Unreadable),
            }
        }
        while let Some(event) = self.sender.poll_event() {
            if let Event::Finished { toi } = event
                && let Some(file) = self.sent.remove(&toi)
            {
                info!(site = self.name, content = %file.what.name, version = file.what.version, "was sent");
                self.end(file);
            }
        }
        any
    }

    fn next_due(&self) -> Option<Duration> {
        let hashes = self.hashed.is_some() || (!self.waiting.is_empty() && self.sent.len() < SENT_MAX);
        if hashes || !self.outlet.is_free() { Some(Duration::ZERO) } else { self.sender.poll_timeout() }
    }

    fn is_under_way(&self) -> bool {
        // Where a pass is isn't kept: all that is was kept as it began.
        false
    }

    fn has_changed(&mut self) -> bool {
        std::mem::take(&mut self.changed)
    }

    fn save(&self, folder: &Path) -> io::Result<()> {
        saved::write(&self.saved(), folder, &self.name)
    }

    /// Who can't answer has no progress.
    fn measure(&mut self, _: Duration) {}

    fn progress(&self) -> Vec<(Version, NodeId, NodeProgress)> {
        Vec::new()
    }

    fn status(&self) -> SiteStatus {
        SiteStatus {
            site: self.name.clone(),
            trunk: leg_status(self.sender.counters()),
            unsent: self.outlet.unsent.rows().map(|(why, count)| (why.to_owned(), count)).collect(),
            ..SiteStatus::default()
        }
    }
}

/// When tables expire: at the end of NTP's era.
const NEVER: u32 = u32::MAX;
/// Contents that are hashed and wait for those before them.
const SENT_MAX: usize = 64;
/// Bytes that are hashed in a turn: a moment's work, which the lane smooths.
const PIECE: u64 = 1 << 18;

/// The shortest symbol, where a link carries next to nothing: packets are too long for it then, and counted.
const SYMBOL_MIN: usize = 64;

#[cfg(test)]
mod tests;
