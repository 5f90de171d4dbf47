//! One site: a NORM session to its nodes, with the store behind it.

use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::net::IpAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use millrace_bier::id::{BfrId, Bsl};
use millrace_config::model::{Config as Configuration, HubCarriage, HubNode, HubSite, Interface};
use millrace_fastpath::hub::Lane;
use millrace_fastpath::packet::L3;
use millrace_fastpath::tables::Tables;
use millrace_hub::nodes::{Node, NodeIndex, NodeSet, Roster};
use millrace_hub::norm::{self, ObjectId, PayloadId};
use millrace_hub::segments::SegmentSet;
use millrace_hub::session::{self, Config, DATA_HEADER_LEN, Event, Offer, Rate, Refused, Sender};
use millrace_hub::shape::Shape;
use millrace_hub_node::Meter;
use millrace_hub_store::desk::{NodeProgress, SiteStatus};
use millrace_hub_store::{Description, Manifest, Millis, NodeId, Outcome, Ranges, Store};
use tracing::{debug, info, warn};

use super::cache::BlockCache;
use super::network_name;
use super::outlet::{Carriage, Outlet, Why};
use super::saved::{self, Saved, SavedObject};
use super::session::{Session, Version};
use super::status;

/// An object of the session.
#[derive(Debug)]
struct Sent {
    of: Version,
    what: Description,
    shape: Shape,
    finished: bool,
}

/// A site.
pub(super) struct Site {
    pub(super) name: String,
    store: Arc<Store>,
    sender: Sender,
    outlet: Outlet,
    cache: BlockCache,
    sent: BTreeMap<ObjectId, Sent>,
    /// How fast each object gets to each node that isn't done with it.
    meters: BTreeMap<(ObjectId, NodeIndex), Meter>,
    /// Contents for which the session has no room until others are done.
    waiting: VecDeque<Manifest>,
    instance: u16,
    /// The next object's number.
    next: ObjectId,
    /// What a restart would go on with isn't what was last saved.
    changed: bool,
    /// Bytes of a segment.
    segment: u16,
    message: Vec<u8>,
}

impl Site {
    /// A site without contents, in this run of its session.
    pub(super) fn new(
        config: &Configuration,
        site: &HubSite,
        hub: u32,
        instance: u16,
        lane: Arc<Lane>,
        store: Arc<Store>,
    ) -> Self {
        let (carriage, mtu, bsl) = carriage(config, site);
        let outlet = Outlet::new(carriage, lane, site.source, site.group, site.ttl);
        let overhead = outlet.overhead();
        let rate = |bits_per_second| Rate { bits_per_second, overhead: overhead as u16 };
        // From the Ethernet header on; the link's MTU is without it.
        let room = (usize::from(mtu) + L3).saturating_sub(overhead + DATA_HEADER_LEN);
        // Where a link carries next to nothing, packets are too long for it, and counted.
        let segment = (room.clamp(SEGMENT_MIN, SEGMENT_MAX) & !3) as u16;
        let mut session = Config::lan(norm::NodeId(hub), instance);
        session.segment = segment;
        session.copies = outlet.copies();
        session.rate = rate(site.rate_bits_per_second);
        session.straggler.rate = rate(site.straggler_bits_per_second);
        session.catch_up = CATCH_UP;
        let roster = roster(&site.nodes, bsl);
        Self {
            name: site.name.to_string(),
            cache: BlockCache::new(Arc::clone(&store)),
            store,
            sender: Sender::new(session, roster, Duration::ZERO),
            outlet,
            sent: BTreeMap::new(),
            meters: BTreeMap::new(),
            waiting: VecDeque::new(),
            instance,
            next: ObjectId(0),
            changed: false,
            segment,
            message: Vec::new(),
        }
    }

    /// Begins to send a content to those of its nodes that the ledger says are owed it, or has noted as done. `at` is where an
    /// earlier run of the appliance was with it.
    fn begin(&mut self, now: Duration, manifest: Manifest, at: Option<SavedObject>) {
        let what = manifest.description().clone();
        let of = (what.root, what.version);
        if self.sent.values().any(|sent| sent.of == of) {
            return self.take_in_again(now, of);
        }
        let Some(distribution) = self.store.distribution(what.root, what.version) else { return };
        let outcome = |node: &NodeIndex| distribution.nodes.get(&self.node_id(*node));
        let is = |node: &NodeIndex, wanted: fn(&Outcome) -> bool| outcome(node).is_some_and(wanted);
        let roster = self.sender.roster();
        let nodes: NodeSet =
            roster.indices().filter(|node| is(node, |it| !matches!(it, Outcome::Failed(_)))).collect();
        let complete: NodeSet =
            roster.indices().filter(|node| is(node, |it| *it == Outcome::Acked)).collect();
        if nodes == complete {
            return;
        }
        let offer = Offer {
            number: Some(at.map_or(self.next, |at| ObjectId(at.number))),
            sent: at.map_or(0, |at| at.sent),
            complete,
            nodes: Some(nodes),
            late_until: now.saturating_add(until(distribution.late_until)),
            ..Offer::file(what.size, manifest.as_bytes().to_vec())
        };
        let announced = self.sender.announce(now, offer.clone()).or_else(|refused| match refused {
            Refused::Full if self.make_room() => self.sender.announce(now, offer),
            other => Err(other),
        });
        match announced {
            Ok(object) => {
                if at.is_none() {
                    self.next = ObjectId(object.0.wrapping_add(1));
                }
                self.changed = true;
                info!(site = self.name, content = %what.name, version = what.version, "is being sent");
                self.cache.insert(object, what.root);
                let fti = norm::Fti { size: what.size, ..self.fti() };
                // It was announced with the same.
                let Ok(shape) = Shape::new(fti) else { return };
                self.sent.insert(object, Sent { of, what, shape, finished: false });
            }
            Err(Refused::Full) => self.waiting.push_back(manifest),
            Err(error) => {
                warn!(site = self.name, content = %what.name, %error, "can't be sent");
                // Other sites have nodes that are owed it, too.
                let ours = self.sender.roster().indices().map(|index| self.node_id(index));
                for node in ours.filter(|node| distribution.nodes.get(node) == Some(&Outcome::Owed)) {
                    self.store.failed(what.root, what.version, node, Vec::new(), Millis::now());
                }
            }
        }
    }

    fn note(&mut self, now: Duration, event: Event) {
        let wall = Millis::now();
        match event {
            Event::Complete { object, node } => {
                let Some(sent) = self.sent.get(&object) else { return };
                self.store.acked(sent.of.0, sent.of.1, self.node_id(node), wall);
                debug!(site = self.name, content = %sent.what.name, node = self.node_id(node).0, "has all of it");
            }
            Event::Failed { object, node, missing } => {
                let Some(sent) = self.sent.get(&object) else { return };
                let lacks = ranges(&sent.shape, &missing);
                let bytes = lacks.total();
                warn!(site = self.name, content = %sent.what.name, node = self.node_id(node).0, bytes, "is given up");
                self.store.failed(sent.of.0, sent.of.1, self.node_id(node), lacks.as_slice().to_vec(), wall);
            }
            Event::Finished { object } => {
                let Some(sent) = self.sent.get_mut(&object) else { return };
                sent.finished = true;
                self.changed = true;
                info!(site = self.name, content = %sent.what.name, version = sent.what.version, "is done");
                self.begin_waiting(now);
            }
            Event::Returned { object, node } => {
                let Some(sent) = self.sent.get(&object) else { return };
                let (of, name) = (sent.of, self.node_id(node));
                let known = self.store.distribution(of.0, of.1).and_then(|mut one| one.nodes.remove(&name));
                if !matches!(known, Some(Outcome::Failed(_))) {
                    return;
                }
                info!(site = self.name, content = %sent.what.name, node = name.0, "is heard of again");
                let late_until = Millis::default();
                if let Err(error) = self.store.distribute(of.0, of.1, [name], late_until, wall) {
                    // Disks get room again.
                    self.sender.still_missed(object, node);
                    return warn!(site = self.name, %error, "a node that came back isn't served");
                }
                self.take_in_again(now, of);
            }
            Event::Apart(node) => {
                info!(site = self.name, node = self.node_id(node).0, "can't keep up, and is served apart");
            }
            Event::Together(node) => {
                info!(site = self.name, node = self.node_id(node).0, "has caught up");
            }
        }
    }

    /// Begins what waited, until there is no room again.
    fn begin_waiting(&mut self, now: Duration) {
        for _ in 0..self.waiting.len() {
            let Some(manifest) = self.waiting.pop_front() else { return };
            let left = self.waiting.len();
            self.begin(now, manifest, None);
            if self.waiting.len() > left {
                // It went to the end; it was the first.
                self.waiting.rotate_right(1);
                return;
            }
        }
    }

    /// Nodes that the ledger says are owed a content of the session, though it has done with them, are served from the cache, alone.
    fn take_in_again(&mut self, now: Duration, of: Version) {
        let Some(distribution) = self.store.distribution(of.0, of.1) else { return };
        let owed: Vec<NodeId> = distribution.owed().collect();
        let Some((object, _)) = self.sent.iter().find(|(_, sent)| sent.of == of) else { return };
        self.sender.keep_until(*object, now.saturating_add(until(distribution.late_until)));
        let progress: Vec<_> = self.sender.progress(*object).collect();
        let done = |node| progress.iter().any(|one| one.node == node && one.done.is_none());
        let again: Vec<NodeIndex> = self
            .sender
            .roster()
            .indices()
            .filter(|node| owed.contains(&self.node_id(*node)) && !done(*node))
            .collect();
        for index in again {
            let (node, id) = (*self.sender.roster().node(index), self.node_id(index));
            let owes = |of: Version| {
                let distribution = self.store.distribution(of.0, of.1);
                distribution.is_some_and(|one| one.nodes.get(&id) == Some(&Outcome::Owed))
            };
            let sent = &self.sent;
            let gets = |object: ObjectId| sent.get(&object).is_some_and(|sent| owes(sent.of));
            // It has its place already.
            if self.sender.join(now, node, gets).is_ok() {
                self.sent.values_mut().filter(|sent| sent.of == of).for_each(|sent| sent.finished = false);
            }
        }
    }

    /// Gives up the oldest object that is done; whether there was one.
    fn make_room(&mut self) -> bool {
        let done = self.sent.iter().find(|(_, sent)| sent.finished).map(|(object, _)| *object);
        let Some(object) = done else { return false };
        self.sender.retire(object);
        self.cache.remove(object);
        self.sent.remove(&object);
        true
    }

    /// Goes on with a run of the session that an earlier run of the appliance began.
    pub(super) fn resume(&mut self, now: Duration, saved: &Saved) {
        self.next = ObjectId(saved.next);
        let names = self.store.names();
        for object in &saved.objects {
            let of = |manifest: &&Manifest| {
                let what = manifest.description();
                (what.root, what.version) == (object.root, object.version)
            };
            if let Some(manifest) = names.iter().find(of) {
                self.begin(now, manifest.clone(), Some(*object));
            }
        }
    }

    /// What a restart goes on with.
    pub(super) fn saved(&self) -> Saved {
        let object = |(object, sent): (&ObjectId, &Sent)| {
            // Those that are served apart begin again where the group is.
            let segments = self.sender.progress(*object).filter(|one| !one.apart).map(|one| one.sent).max();
            let (root, version) = sent.of;
            SavedObject { number: object.0, root, version, sent: segments.unwrap_or(0) }
        };
        let unfinished = self.sent.iter().filter(|(_, sent)| !sent.finished);
        let (instance, next, segment) = (self.instance, self.next.0, self.segment);
        Saved { boot: saved::boot(), instance, next, segment, objects: unfinished.map(object).collect() }
    }

    /// The session, for those who count.
    pub(super) fn sender(&self) -> &Sender {
        &self.sender
    }

    /// What couldn't be sent, by reason.
    pub(super) fn unsent(&self) -> impl Iterator<Item = (&'static str, u64)> {
        self.outlet.unsent.rows()
    }

    /// How fast each node that isn't done gets what it is sent, in bytes per second.
    pub(super) fn rates(&self) -> BTreeMap<u32, f64> {
        let mut rates = BTreeMap::new();
        for ((_, node), meter) in &self.meters {
            *rates.entry(self.node_id(*node).0).or_default() += meter.per_second().unwrap_or_default();
        }
        rates
    }

    /// Bytes of first copies that a node was sent of an object.
    fn sent_bytes(&self, object: ObjectId, one: &session::Progress) -> u64 {
        let size = self.sent.get(&object).map_or(0, |sent| sent.what.size);
        (one.sent * u64::from(self.segment)).min(size)
    }

    fn node_id(&self, node: NodeIndex) -> NodeId {
        NodeId(self.sender.roster().node(node).id.0)
    }

    fn fti(&self) -> norm::Fti {
        let Config { block, parity, .. } = Config::lan(norm::NodeId(0), 0);
        norm::Fti { size: 0, segment: self.segment, block, parity }
    }
}

impl Session for Site {
    fn announce(&mut self, now: Duration, manifest: &Manifest) {
        self.begin(now, manifest.clone(), None);
    }

    fn hear(&mut self, now: Duration, from: IpAddr, datagram: &[u8]) {
        self.sender.handle(now, from, datagram);
    }

    fn turn(&mut self, now: Duration, tables: &Tables) -> bool {
        let mut any = self.outlet.go_on(tables, self.sender.roster());
        for _ in 0..MESSAGES_PER_TURN {
            if !self.outlet.is_free() {
                break;
            }
            let Some(packet) = self.sender.poll_transmit(now) else { break };
            any = true;
            self.message.clear();
            match packet.write(&mut self.cache, &mut self.message) {
                Ok(()) => self.outlet.send(tables, self.sender.roster(), &packet.to, &self.message),
                // Nodes ask for it again; meanwhile the store may have got it back.
                Err(_) => self.outlet.unsent.add(Why::Unreadable),
            }
        }
        while let Some(event) = self.sender.poll_event() {
            self.note(now, event);
        }
        any
    }

    fn next_due(&self) -> Option<Duration> {
        if self.outlet.is_free() { self.sender.poll_timeout() } else { Some(Duration::ZERO) }
    }

    fn is_under_way(&self) -> bool {
        self.sent.values().any(|sent| !sent.finished)
    }

    fn has_changed(&mut self) -> bool {
        std::mem::take(&mut self.changed)
    }

    fn save(&self, folder: &Path) -> io::Result<()> {
        saved::write(&self.saved(), folder, &self.name)
    }

    fn name(&self) -> &str {
        &self.name
    }

    fn measure(&mut self, now: Duration) {
        let mut before = std::mem::take(&mut self.meters);
        for object in self.sent.keys() {
            for one in self.sender.progress(*object).filter(|one| one.done.is_none()) {
                let key = (*object, one.node);
                let mut meter = before.remove(&key).unwrap_or_default();
                meter.note(now, self.sent_bytes(*object, &one) + one.repaired);
                self.meters.insert(key, meter);
            }
        }
    }

    fn progress(&self) -> Vec<(Version, NodeId, NodeProgress)> {
        let of = |(object, sent): (&ObjectId, &Sent)| {
            let row = |one: session::Progress| {
                let sent_bytes = self.sent_bytes(*object, &one);
                let (owed_bytes, repair_bytes) = (one.owed * u64::from(self.segment), one.repaired);
                // What is to come beside all that was sent.
                let whole = sent.what.size + repair_bytes + owed_bytes;
                let meter = self.meters.get(&(*object, one.node));
                let progress = NodeProgress {
                    site: self.name.clone(),
                    sent_bytes,
                    repair_bytes,
                    owed_bytes,
                    apart: one.apart,
                    bytes_per_second: meter.and_then(Meter::per_second),
                    seconds_left: meter.and_then(|meter| meter.left(whole)).map(|left| left.as_secs_f64()),
                };
                (sent.of, self.node_id(one.node), progress)
            };
            self.sender.progress(*object).map(row).collect::<Vec<_>>()
        };
        self.sent.iter().flat_map(of).collect()
    }

    fn status(&self) -> SiteStatus {
        status::of_norm(self)
    }
}

/// The carriage, the MTU of packets from the IP or BIER header on, and the length of bit strings.
pub(super) fn carriage(config: &Configuration, site: &HubSite) -> (Carriage, u16, Bsl) {
    let network =
        |interface: Interface| (network_name(config, interface), config.port(interface.port).mtu_bytes);
    // Where there are no bit strings nodes need places all the same.
    let places = Bsl::B256;
    match site.carriage {
        HubCarriage::Ethernet(interface) => {
            let (network, mtu) = network(interface);
            let macs =
                (0..).zip(&site.nodes).filter_map(|(at, node)| Some((NodeIndex(at), node.mac?))).collect();
            (Carriage::Ethernet { network, macs }, mtu, places)
        }
        HubCarriage::IpMulticast(interface) => {
            let (network, mtu) = network(interface);
            (Carriage::IpMulticast { network }, mtu, places)
        }
        HubCarriage::Bier(sub_domain) => {
            let one = config.bier.as_ref().and_then(|bier| bier.subdomain(sub_domain));
            let bsl = one.map_or(places, |one| one.bsl);
            let least = config.ports.iter().map(|port| port.mtu_bytes).min().unwrap_or(MTU);
            let mtu = one.and_then(|one| one.mtu_bytes).unwrap_or(least);
            (Carriage::Bier { sub_domain, bsl }, mtu.min(MTU), bsl)
        }
    }
}

pub(super) fn roster(nodes: &[HubNode], bsl: Bsl) -> Roster {
    let mut roster = Roster::new(bsl);
    for (place, node) in (1..).zip(nodes) {
        // In BIER each has a bit of its own, as the configuration was checked for; elsewhere bits only tell nodes apart.
        let Some(bfr) = node.bfr_id.or_else(|| BfrId::new(place)) else { continue };
        let node = Node { id: norm::NodeId(node.id), bfr, address: node.address };
        if let Err(error) = roster.add(node) {
            warn!(node = node.id.0, %error, "isn't served");
        }
    }
    roster
}

/// How long it is until then.
fn until(then: Millis) -> Duration {
    Duration::from_millis(then.0.saturating_sub(Millis::now().0))
}

/// Byte ranges of missing segments.
fn ranges(shape: &Shape, missing: &[(u32, SegmentSet)]) -> Ranges {
    let mut ranges = Ranges::new();
    let ids = missing
        .iter()
        .flat_map(|(block, set)| set.iter().map(|segment| PayloadId { block: *block, segment }));
    for (offset, len) in ids.filter_map(|id| shape.range(id)) {
        ranges.insert(offset..offset + len as u64);
    }
    ranges
}

/// The shortest: a manifest has to fit.
const SEGMENT_MIN: usize = (millrace_hub_store::MANIFEST_LEN_MAX + 3) & !3;
/// The longest segment: round, and with all headers within an Ethernet frame.
pub(super) const SEGMENT_MAX: usize = 1400;
/// Of a link that says nothing else.
const MTU: u16 = 1500;
/// The lane smooths what the thread sends, so that it may come late.
pub(super) const CATCH_UP: Duration = Duration::from_millis(20);
/// Messages before other sites have their turn.
pub(super) const MESSAGES_PER_TURN: usize = 64;
