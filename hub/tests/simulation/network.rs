//! A hub, its nodes, and the legs between them, on a virtual clock.
//!
//! ```text
//!  Sender ── trunk ──► switch ──┬── leg: delay, loss ──► Receiver
//!     ▲                         └── ...                     │
//!     └──────────────── delay, loss ◄───────────────────────┘
//! ```
//!
//! Segments are short, so that much is sent in little time: what counts are packets. Feedback is counted in bytes.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::rc::Rc;
use std::time::Duration;

use millrace_bier::id::{BfrId, Bsl};
use millrace_hub::nodes::{Node, NodeIndex, Roster};
use millrace_hub::norm::{NodeId, ObjectId};
use millrace_hub::session::{
    Body, Config, Content, DATA_HEADER_LEN, Event, Kind, Offer, Rate, Receiver, ReceiverConfig, Report,
    Sender, Storage, To, Unread, Unstored,
};

pub(crate) const SEGMENT: u16 = 16;
const HUB: NodeId = NodeId(1);
/// A UDP and an IP header.
const UDP: u64 = 28;

/// xorshift64*: a seed replays a run.
#[derive(Clone, Debug)]
pub(crate) struct Random(u64);

impl Random {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    pub(crate) fn next(&mut self) -> f64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 11) as f64 / (1u64 << 53) as f64
    }
}

/// How a leg loses packets.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Loss {
    /// Each with the same probability.
    Random(f64),
    /// In bursts of eight on average (Gilbert's model), so that this share is lost.
    Bursts(f64),
}

struct Leg {
    loss: Loss,
    random: Random,
    in_burst: bool,
}

impl Leg {
    fn loses(&mut self) -> bool {
        match self.loss {
            Loss::Random(share) => self.random.next() < share,
            Loss::Bursts(share) => {
                let (end, begin) = (1.0 / 8.0, share / (1.0 - share) / 8.0);
                self.in_burst =
                    if self.in_burst { self.random.next() >= end } else { self.random.next() < begin };
                self.in_burst
            }
        }
    }
}

/// Content that is computed from where it is, and a storage that accepts nothing else.
pub(crate) struct Pattern;

fn pattern(object: ObjectId, offset: u64) -> u8 {
    let mixed = (offset ^ u64::from(object.0) << 40).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    (mixed >> 56) as u8
}

impl Content for Pattern {
    fn read(&mut self, object: ObjectId, offset: u64, out: &mut [u8]) -> Result<(), Unread> {
        out.iter_mut().zip(offset..).for_each(|(byte, offset)| *byte = pattern(object, offset));
        Ok(())
    }
}

impl Storage for Pattern {
    fn write(&mut self, object: ObjectId, offset: u64, bytes: &[u8]) -> Result<(), Unstored> {
        let right = bytes.iter().zip(offset..).all(|(byte, offset)| *byte == pattern(object, offset));
        assert!(right, "wrong bytes at {offset}");
        Ok(())
    }

    fn read(&mut self, object: ObjectId, offset: u64, out: &mut [u8]) -> Result<(), Unstored> {
        Content::read(self, object, offset, out).map_err(|_| Unstored)
    }
}

/// What is simulated.
#[derive(Clone, Debug)]
pub(crate) struct Setting {
    pub(crate) nodes: usize,
    pub(crate) segments: u64,
    /// Of each node's leg.
    pub(crate) loss: Box<[Loss]>,
    /// Whether feedback is lost as content is.
    pub(crate) feedback_lost: bool,
    /// One way.
    pub(crate) delay: Duration,
    /// What takes packets from the hub, and holds it up when it has enough of them: for how long its queue lasts, and how many
    /// packets of first copies' length it sends in a second.
    pub(crate) outlet: Option<(Duration, f64)>,
    pub(crate) seed: u64,
    pub(crate) change: fn(&mut Config),
}

impl Setting {
    pub(crate) fn new(nodes: usize, loss: Loss) -> Self {
        let loss = vec![loss; nodes].into();
        Self {
            nodes,
            segments: 6400,
            loss,
            feedback_lost: false,
            delay: Duration::from_millis(20),
            outlet: None,
            seed: 1,
            change: |_| {},
        }
    }

    pub(crate) fn config(&self) -> Config {
        // As many packets a second as 1400-byte segments are at 100 Mb/s.
        let overhead = 42;
        let bits_per_second = 8900 * 8 * u64::from(32 + SEGMENT + overhead);
        let mut config =
            Config { segment: SEGMENT, rate: Rate { bits_per_second, overhead }, ..Config::lan(HUB, 7) };
        (self.change)(&mut config);
        config
    }
}

/// What a leg carried.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct LegFigures {
    pub(crate) first: u64,
    pub(crate) repairs: u64,
    /// First copies and repairs that were lost.
    pub(crate) lost: u64,
    pub(crate) control_bytes: u64,
    pub(crate) feedback_bytes: u64,
}

/// What is done at the hub while it runs.
pub(crate) enum Deed {
    Announce,
    /// An object for some of the nodes.
    AnnounceTo(&'static [u16]),
    /// An object for all, that is kept so long for those who come late.
    AnnounceUntil(Duration),
    Join(usize),
    /// A node is switched on, or off.
    Switch(usize, bool),
}

enum Arrival {
    AtNode(usize, Rc<[u8]>),
    AtHub(usize, Vec<u8>),
    WakeNode(usize),
    WakeHub,
    Do(Deed),
    /// Nothing passes to the site or back until then.
    Cut(Duration),
}

struct Queued {
    at: Duration,
    number: u64,
    arrival: Arrival,
}

impl PartialEq for Queued {
    fn eq(&self, other: &Self) -> bool {
        self.number == other.number
    }
}
impl Eq for Queued {}
impl PartialOrd for Queued {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}
impl Ord for Queued {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        (self.at, self.number).cmp(&(other.at, other.number))
    }
}

/// Nothing here takes longer.
pub(crate) const LIMIT: Duration = Duration::from_secs(120);

/// Every node gets the object.
pub(crate) fn transfer(setting: &Setting) -> (Network, Shares) {
    let mut network = Network::new(setting.clone(), setting.nodes);
    network.at(Duration::ZERO, Deed::Announce);
    network.run(LIMIT);
    assert!(network.complete.iter().all(|objects| objects.len() == 1), "{:?}", network.complete);
    let shares = network.shares();
    eprintln!("{} nodes, {:?}: {shares:.4?}, at {:?}", setting.nodes, setting.loss[0], network.finished());
    (network, shares)
}

/// The whole of it.
pub(crate) struct Network {
    pub(crate) now: Duration,
    pub(crate) sender: Sender,
    pub(crate) receivers: Vec<Receiver>,
    pub(crate) legs: Vec<LegFigures>,
    /// Packets that left the hub: first copies, repairs.
    pub(crate) trunk: (u64, u64),
    pub(crate) events: Vec<(Duration, Event)>,
    pub(crate) complete: Vec<Vec<ObjectId>>,
    /// Nodes that are switched off.
    pub(crate) off: Vec<bool>,
    setting: Setting,
    links: Vec<Leg>,
    back: Vec<Leg>,
    queue: BinaryHeap<Reverse<Queued>>,
    number: u64,
    cut_until: Duration,
    /// When the outlet has sent all that it has.
    outlet_until: Duration,
    hub_wake: Option<Duration>,
    node_wakes: Vec<Option<Duration>>,
}

fn node(at: usize) -> Node {
    let address = [10, 0, (at >> 8) as u8, at as u8].into();
    Node { id: NodeId(at as u32 + 2), bfr: BfrId::new(at as u16 + 1).unwrap(), address }
}

impl Network {
    /// All nodes, or the first `registered` of them, are known from the start.
    pub(crate) fn new(setting: Setting, registered: usize) -> Self {
        let mut roster = Roster::new(Bsl::B256);
        for at in 0..registered {
            roster.add(node(at)).unwrap();
        }
        let hub = [10, 1, 0, 1].into();
        let receiver = |at| Receiver::new(ReceiverConfig::new(node(at).id, HUB, hub));
        let legs = |salt: u64| -> Vec<Leg> {
            let leg = |at: usize| {
                let random = Random::new(setting.seed * 1_000_003 + salt * 65_537 + at as u64);
                Leg { loss: setting.loss[at], random, in_burst: false }
            };
            (0..setting.nodes).map(leg).collect()
        };
        Self {
            now: Duration::ZERO,
            sender: Sender::new(setting.config(), roster, Duration::ZERO),
            receivers: (0..setting.nodes).map(receiver).collect(),
            legs: vec![LegFigures::default(); setting.nodes],
            trunk: (0, 0),
            events: Vec::new(),
            complete: vec![Vec::new(); setting.nodes],
            off: vec![false; setting.nodes],
            links: legs(1),
            back: legs(2),
            queue: BinaryHeap::new(),
            number: 0,
            cut_until: Duration::ZERO,
            outlet_until: Duration::ZERO,
            hub_wake: None,
            node_wakes: vec![None; setting.nodes],
            setting,
        }
    }

    fn push(&mut self, at: Duration, arrival: Arrival) {
        self.number += 1;
        self.queue.push(Reverse(Queued { at, number: self.number, arrival }));
    }

    pub(crate) fn at(&mut self, at: Duration, deed: Deed) {
        self.push(at, Arrival::Do(deed));
    }

    pub(crate) fn cut(&mut self, from: Duration, until: Duration) {
        self.push(from, Arrival::Cut(until));
    }

    /// Feedback from anywhere, as if it came in now.
    pub(crate) fn feedback(&mut self, from: std::net::IpAddr, datagram: &[u8]) {
        self.sender.handle(self.now, from, datagram);
        self.poll_sender();
    }

    /// Runs until every object is finished and nothing is on its way; fails after so much time.
    pub(crate) fn run(&mut self, limit: Duration) {
        self.poll_sender();
        while let Some(Reverse(Queued { at, arrival, .. })) = self.queue.pop() {
            assert!(at < limit, "not finished after {limit:?}: {:?}", self.events.last());
            self.now = self.now.max(at);
            match arrival {
                Arrival::AtNode(at, datagram) => {
                    if !self.off[at] {
                        let hub = [10, 1, 0, 1].into();
                        self.receivers[at].handle(self.now, hub, &datagram, &mut Pattern);
                        self.poll_receiver(at);
                    }
                }
                // A wake that an earlier one has replaced comes for nothing.
                Arrival::WakeNode(node) => {
                    if self.node_wakes[node] == Some(at) {
                        self.node_wakes[node] = None;
                        self.poll_receiver(node);
                    }
                }
                Arrival::AtHub(at, datagram) => {
                    self.sender.handle(self.now, node(at).address, &datagram);
                    self.poll_sender();
                }
                Arrival::WakeHub => {
                    if self.hub_wake == Some(at) {
                        self.hub_wake = None;
                        self.poll_sender();
                    }
                }
                Arrival::Do(deed) => {
                    match deed {
                        Deed::Announce => {
                            let size = self.setting.segments * u64::from(SEGMENT) - 3;
                            self.sender.announce(self.now, Offer::file(size, b"a name".to_vec())).unwrap();
                        }
                        Deed::AnnounceTo(nodes) => {
                            let size = self.setting.segments * u64::from(SEGMENT) - 3;
                            let nodes = Some(nodes.iter().map(|at| NodeIndex(*at)).collect());
                            let offer = Offer { nodes, ..Offer::file(size, b"a name".to_vec()) };
                            self.sender.announce(self.now, offer).unwrap();
                        }
                        Deed::AnnounceUntil(late_until) => {
                            let size = self.setting.segments * u64::from(SEGMENT) - 3;
                            let offer = Offer { late_until, ..Offer::file(size, b"a name".to_vec()) };
                            self.sender.announce(self.now, offer).unwrap();
                        }
                        Deed::Switch(at, on) => self.off[at] = !on,
                        Deed::Join(at) => {
                            self.sender.join(self.now, node(at), |_| true).unwrap();
                        }
                    }
                    self.poll_sender();
                }
                Arrival::Cut(until) => self.cut_until = until,
            }
        }
    }

    /// When the outlet takes the next packet.
    fn outlet_free(&self) -> Duration {
        self.setting.outlet.map_or(Duration::ZERO, |(holds, _)| self.outlet_until.saturating_sub(holds))
    }

    fn poll_sender(&mut self) {
        while self.outlet_free() <= self.now
            && let Some(packet) = self.sender.poll_transmit(self.now)
        {
            if let Some((_, per_second)) = self.setting.outlet {
                let left = self.outlet_until.max(self.now);
                self.outlet_until = left + Duration::from_secs_f64(1.0 / per_second);
            }
            let mut datagram = Vec::with_capacity(packet.message_len());
            packet.write(&mut Pattern, &mut datagram).unwrap();
            if !matches!(packet.body, Body::None) {
                assert_eq!(packet.header.len(), DATA_HEADER_LEN);
            }
            let datagram: Rc<[u8]> = datagram.into();
            let nodes: Vec<NodeIndex> = match &packet.to {
                To::Everyone => self.sender.roster().indices().collect(),
                To::These(nodes) => nodes.iter().collect(),
            };
            let packets = self.sender.roster().packets(&nodes.iter().copied().collect()) as u64;
            match packet.kind {
                Kind::First => self.trunk.0 += packets,
                Kind::Repair => self.trunk.1 += packets,
                Kind::Control => {}
            }
            for at in nodes.into_iter().map(|node| usize::from(node.0)) {
                let lost = self.links[at].loses() || self.now < self.cut_until;
                let leg = &mut self.legs[at];
                match packet.kind {
                    Kind::First => leg.first += 1,
                    Kind::Repair => leg.repairs += 1,
                    Kind::Control => leg.control_bytes += datagram.len() as u64 + UDP,
                }
                if lost {
                    leg.lost += u64::from(packet.kind != Kind::Control);
                } else {
                    let at_once = self.outlet_until.max(self.now);
                    self.push(at_once + self.setting.delay, Arrival::AtNode(at, datagram.clone()));
                }
            }
        }
        let mut joined = false;
        while let Some(event) = self.sender.poll_event() {
            // As hubs do.
            if let Event::Returned { node, .. } = event {
                let node = *self.sender.roster().node(node);
                self.sender.join(self.now, node, |_| true).unwrap();
                joined = true;
            }
            self.events.push((self.now, event));
        }
        if joined {
            return self.poll_sender();
        }
        if let Some(at) = self.sender.poll_timeout() {
            // A timeout is for something to come: after everything due was taken, none lies in the past.
            let held_up = self.outlet_free() > self.now;
            assert!(held_up || at > self.now, "a timeout at {at:?} at {:?}: {:?}", self.now, self.sender);
            let at = at.max(self.outlet_free());
            if self.hub_wake.is_none_or(|wake| at < wake) {
                self.hub_wake = Some(at);
                self.push(at, Arrival::WakeHub);
            }
        }
    }

    fn poll_receiver(&mut self, at: usize) {
        while let Some(message) = self.receivers[at].poll_transmit(self.now) {
            self.legs[at].feedback_bytes += message.len() as u64 + UDP;
            let lost = self.setting.feedback_lost && self.back[at].loses();
            if !lost && self.now >= self.cut_until {
                self.push(self.now + self.setting.delay, Arrival::AtHub(at, message));
            }
        }
        while let Some(report) = self.receivers[at].poll_event() {
            if let Report::Complete(object) = report {
                self.complete[at].push(object);
            }
        }
        if let Some(wake) = self.receivers[at].poll_timeout() {
            assert!(wake > self.now, "a timeout at {wake:?} at {:?}", self.now);
            if self.node_wakes[at].is_none_or(|before| wake < before) {
                self.node_wakes[at] = Some(wake);
                self.push(wake, Arrival::WakeNode(at));
            }
        }
    }

    /// When the last node had all.
    pub(crate) fn finished(&self) -> Option<Duration> {
        let finished = |(_, event): &&(Duration, Event)| matches!(event, Event::Finished { .. });
        self.events.iter().rfind(finished).map(|(at, _)| *at)
    }

    /// Of the first copies: trunk repairs; leg repairs, and what the legs lost themselves; feedback in bytes of 1400-byte segments.
    pub(crate) fn shares(&self) -> Shares {
        let first = self.setting.segments as f64;
        let sum = |of: fn(&LegFigures) -> u64| self.legs.iter().map(of).sum::<u64>() as f64;
        let feedback = |leg: &LegFigures| leg.feedback_bytes as f64 / (first * 1400.0);
        Shares {
            trunk: self.trunk.1 as f64 / first,
            leg: sum(|leg| leg.repairs) / first / self.legs.len() as f64,
            over_own_loss: sum(|leg| leg.repairs) / sum(|leg| leg.lost).max(1.0),
            feedback_leg_max: self.legs.iter().map(feedback).fold(0.0, f64::max),
            feedback: self.legs.iter().map(feedback).sum(),
        }
    }
}

#[derive(Clone, Copy, Debug)]
pub(crate) struct Shares {
    pub(crate) trunk: f64,
    pub(crate) leg: f64,
    pub(crate) over_own_loss: f64,
    pub(crate) feedback_leg_max: f64,
    pub(crate) feedback: f64,
}
