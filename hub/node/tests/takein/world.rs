//! Senders, a network, and a hub: time goes as far as each next thing that is to happen.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use millrace_bier::id::{BfrId, Bsl};
use millrace_hub::nodes::{Node, Roster};
use millrace_hub::norm::{self, Level, Message, NodeId, ObjectId};
use millrace_hub::session::{Config, Content, Event, Offer, Sender, Unread};
use millrace_hub_node::{Profile, TakeIn, TakeInEvent, TakeInSettings};
use millrace_hub_store::{Manifest, Millis, SigningKey, Store, Trust};

pub(crate) const WALL: Millis = Millis(1_700_000_000_000);
const HUB: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 0, 0, 99));
pub(crate) const HUB_ID: NodeId = NodeId(99);
pub(crate) const SEGMENT: usize = 1400;

/// The address of a sender.
pub(crate) fn address(number: u8) -> SocketAddr {
    SocketAddr::from(([10, 0, 0, number], 6000 + u16::from(number)))
}

/// What the objects of a sender are.
#[derive(Default)]
pub(crate) struct Contents(BTreeMap<ObjectId, Vec<u8>>);

impl Content for Contents {
    fn read(&mut self, object: ObjectId, offset: u64, out: &mut [u8]) -> Result<(), Unread> {
        let bytes = self.0.get(&object).ok_or(Unread)?;
        let part = bytes.get(offset as usize..).and_then(|rest| rest.get(..out.len())).ok_or(Unread)?;
        out.copy_from_slice(part);
        Ok(())
    }
}

/// A sender at its address.
pub(crate) struct Source {
    pub(crate) sender: Sender,
    contents: Contents,
    pub(crate) address: SocketAddr,
    /// Objects that the hub acknowledged.
    pub(crate) acknowledged: Vec<ObjectId>,
}

impl Source {
    /// One with this number in its name and its address.
    pub(crate) fn new(number: u8, now: Duration) -> Self {
        Self::run(number, 1, now)
    }

    /// A run of it.
    pub(crate) fn run(number: u8, instance: u16, now: Duration) -> Self {
        let mut roster = Roster::new(Bsl::B256);
        roster.add(Node { id: HUB_ID, bfr: BfrId::new(1).unwrap(), address: HUB }).unwrap();
        let config = Config { block: 64, parity: 32, ..Config::lan(NodeId(number.into()), instance) };
        let sender = Sender::new(config, roster, now);
        Self { sender, contents: Contents::default(), address: address(number), acknowledged: Vec::new() }
    }

    pub(crate) fn offer(&mut self, now: Duration, bytes: &[u8], info: &[u8]) -> ObjectId {
        self.offer_as(None, now, bytes, info)
    }

    /// The same by a number.
    pub(crate) fn offer_as(
        &mut self,
        number: Option<ObjectId>,
        now: Duration,
        bytes: &[u8],
        info: &[u8],
    ) -> ObjectId {
        let offer = Offer { number, ..Offer::file(bytes.len() as u64, info.to_vec()) };
        let object = self.sender.announce(now, offer).unwrap();
        self.contents.0.insert(object, bytes.to_vec());
        object
    }
}

impl Source {
    /// All that it sends until then, to nobody.
    pub(crate) fn datagrams(&mut self, until: Duration) -> Vec<Vec<u8>> {
        let (mut now, mut all) = (Duration::ZERO, Vec::new());
        while now < until {
            while let Some(transmit) = self.sender.poll_transmit(now) {
                let mut datagram = Vec::new();
                transmit.write(&mut self.contents, &mut datagram).unwrap();
                all.push(datagram);
            }
            now = self.sender.poll_timeout().unwrap_or(until).max(now + Duration::from_micros(10));
        }
        all
    }
}

/// Small numbers from a seed.
pub(crate) struct Dice(blake3::OutputReader);

impl Dice {
    pub(crate) fn new(seed: u64) -> Self {
        Self(blake3::Hasher::new().update(b"dice").update(&seed.to_le_bytes()).finalize_xof())
    }

    pub(crate) fn below(&mut self, limit: u64) -> u64 {
        let mut bytes = [0; 8];
        self.0.fill(&mut bytes);
        u64::from_le_bytes(bytes) % limit
    }

    pub(crate) fn bytes(&mut self, len: usize) -> Vec<u8> {
        let mut bytes = vec![0; len];
        self.0.fill(&mut bytes);
        bytes
    }
}

/// A segment: the object, the block, and its number there.
pub(crate) type Hole = (ObjectId, u32, u8);

/// The network, the time, and what was seen.
pub(crate) struct World {
    pub(crate) now: Duration,
    pub(crate) dice: Dice,
    /// Of a hundred segments to the hub, so many are lost,
    pub(crate) lose: u64,
    /// so many come twice,
    pub(crate) repeat: u64,
    /// and so many come after the next ones.
    pub(crate) reorder: u64,
    pub(crate) late: Vec<(SocketAddr, Vec<u8>)>,
    pub(crate) tick: Duration,
    /// Segments that were lost, as often as they were,
    pub(crate) lost: Vec<Hole>,
    /// and those that the hub asked for.
    pub(crate) asked: Vec<Hole>,
    /// Datagrams that came to the hub.
    pub(crate) delivered: u64,
    pub(crate) events: Vec<TakeInEvent>,
}

impl World {
    pub(crate) fn new(seed: u64) -> Self {
        Self {
            now: Duration::ZERO,
            dice: Dice::new(seed),
            lose: 0,
            repeat: 0,
            reorder: 0,
            late: Vec::new(),
            tick: Duration::ZERO,
            lost: Vec::new(),
            asked: Vec::new(),
            delivered: 0,
            events: Vec::new(),
        }
    }

    /// Goes on until the world is as wanted.
    pub(crate) fn run(
        &mut self,
        hub: &mut TakeIn,
        sources: &mut [Source],
        wanted: impl Fn(&Self, &[Source]) -> bool,
    ) {
        let end = self.now + Duration::from_secs(300);
        while !wanted(self, sources) {
            assert!(self.now < end, "it doesn't come about: {:?}", hub.counters());
            if self.now >= self.tick {
                self.tick = self.now + Duration::from_secs(1);
                hub.tick(self.now, self.wall());
            }
            for at in 0..sources.len() {
                while let Some(datagram) = self.next(&mut sources[at]) {
                    self.carry(hub, sources[at].address, datagram);
                    self.answers(hub, sources);
                    if wanted(self, sources) {
                        return;
                    }
                }
            }
            self.answers(hub, sources);
            for source in &mut *sources {
                while let Some(event) = source.sender.poll_event() {
                    if let Event::Complete { object, .. } = event {
                        source.acknowledged.push(object);
                    }
                }
            }
            let timeouts = sources.iter().filter_map(|source| source.sender.poll_timeout());
            let next = timeouts.chain(hub.poll_timeout()).chain([self.tick]).min().unwrap_or(self.tick);
            self.now = next.max(self.now + Duration::from_micros(10));
        }
    }

    /// Runs until each source's objects are acknowledged.
    pub(crate) fn settle(&mut self, hub: &mut TakeIn, sources: &mut [Source]) {
        self.run(hub, sources, |_, sources| {
            sources.iter().all(|source| source.acknowledged.len() >= source.contents.0.len())
        });
    }

    pub(crate) fn wall(&self) -> Millis {
        Millis(WALL.0 + self.now.as_millis() as u64)
    }

    fn next(&mut self, source: &mut Source) -> Option<Vec<u8>> {
        let transmit = source.sender.poll_transmit(self.now)?;
        let mut datagram = Vec::new();
        transmit.write(&mut source.contents, &mut datagram).unwrap();
        Some(datagram)
    }

    fn carry(&mut self, hub: &mut TakeIn, from: SocketAddr, datagram: Vec<u8>) {
        if let Message::Data { head, id, .. } = norm::parse(&datagram).unwrap().message
            && self.dice.below(100) < self.lose
        {
            self.lost.push((head.object, id.block, id.segment));
            return;
        }
        if self.dice.below(100) < self.reorder {
            self.late.push((from, datagram));
            return;
        }
        if self.dice.below(100) < self.repeat {
            self.deliver(hub, from, &datagram);
        }
        self.deliver(hub, from, &datagram);
        for (from, datagram) in std::mem::take(&mut self.late) {
            self.deliver(hub, from, &datagram);
        }
    }

    pub(crate) fn deliver(&mut self, hub: &mut TakeIn, from: SocketAddr, datagram: &[u8]) {
        self.delivered += 1;
        hub.handle(self.now, from, datagram);
        self.hear(hub);
    }

    pub(crate) fn hear(&mut self, hub: &mut TakeIn) {
        self.events.extend(std::iter::from_fn(|| hub.poll_event()));
    }

    fn answers(&mut self, hub: &mut TakeIn, sources: &mut [Source]) {
        while let Some((to, message)) = hub.poll_transmit(self.now) {
            self.asked.extend(asked(&message));
            // Answers to forgers go elsewhere.
            if let Some(source) = sources.iter_mut().find(|source| source.address == to) {
                source.sender.handle(self.now, HUB, &message);
            }
        }
        self.hear(hub);
    }

    /// The manifests of what was taken in, in its order.
    pub(crate) fn taken(&self) -> Vec<&Manifest> {
        let taken = |event: &'_ TakeInEvent| matches!(event, TakeInEvent::Taken(_));
        self.events.iter().filter(|event| taken(event)).map(manifest_of).collect()
    }

    /// Names of what was refused, and why.
    pub(crate) fn refused(&self) -> Vec<(Option<&str>, String)> {
        let mut refused = Vec::new();
        for event in &self.events {
            if let TakeInEvent::Refused { name, why, .. } = event {
                refused.push((name.as_deref(), why.to_string()));
            }
        }
        refused
    }
}

fn manifest_of(event: &TakeInEvent) -> &Manifest {
    match event {
        TakeInEvent::Taken(manifest) | TakeInEvent::Known(manifest) => manifest,
        other => panic!("{other:?}"),
    }
}

/// Segments that a message asks for by number.
fn asked(message: &[u8]) -> Vec<Hole> {
    let Message::Nack { requests, .. } = norm::parse(message).unwrap().message else { return Vec::new() };
    let spans = requests.iter().filter(|request| request.level == Level::Segment);
    let spans = spans.flat_map(|request| request.spans().collect::<Vec<_>>());
    spans
        .flat_map(|span| {
            let (object, block) = (span.first.object, span.first.id.block);
            (span.first.id.segment..=span.last.id.segment).map(move |segment| (object, block, segment))
        })
        .collect()
}

/// A hub that takes in by NORM whatever a rule lets in.
pub(crate) struct Rule<'a> {
    pub(crate) sender: Option<NodeId>,
    pub(crate) trust: Trust,
    pub(crate) key: Option<SigningKey>,
    pub(crate) store: &'a Arc<Store>,
    pub(crate) folder: &'a Path,
}

impl Rule<'_> {
    pub(crate) fn open(self) -> TakeIn {
        let settings = TakeInSettings {
            profile: Profile::Norm { node: HUB_ID, sender: self.sender },
            trust: self.trust,
            store: Arc::clone(self.store),
            key: self.key.map(Arc::new),
            folder: self.folder.join("arriving/0"),
        };
        TakeIn::open(settings, WALL).unwrap()
    }
}

/// Any sender, anybody's manifests, no key.
pub(crate) fn open<'a>(folder: &'a Path, store: &'a Arc<Store>, trust: Trust) -> TakeIn {
    Rule { sender: None, trust, key: None, store, folder }.open()
}

/// Files that are still arriving in a folder.
pub(crate) fn parts(folder: &Path) -> usize {
    let files = |folder: &Path| {
        let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
        entries.map(|entry| entry.path()).collect::<Vec<_>>()
    };
    let senders = files(&folder.join("arriving/0"));
    let all = senders.iter().flat_map(|sender| files(&sender.join(".millrace")));
    all.filter(|path| path.extension().is_some_and(|ending| ending == "part")).count()
}
