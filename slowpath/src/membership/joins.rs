//! What we listen to ourselves on our links, and tell the routers and switches there: a host's side of IGMPv3 (RFC 9776 section 5) and
//! of MLDv2 (RFC 9777 section 6).
//!
//! ```text
//!  reload ─► joined ── said twice, unasked ─┐
//!  query ──► answer, within its time ───────┼─► reports ─► Output::Send
//!  leave ─────────── said twice, at once ───┘
//! ```
//!
//! Who asks by an older version is answered by it for a while (RFC 9776 section 7.2.1, RFC 9777 section 8.2.1). Frames and times go
//! in, frames come out; there is no I/O and no clock here.

use std::collections::{BTreeMap, BTreeSet};

use millrace_fastpath::addr::Addr;
use millrace_fastpath::clock::Nanos;
use millrace_fastpath::driver::{PortId, PortsDown};
use millrace_fastpath::tables::interfaces::{Interface, InterfaceId, Interfaces, Mac};
use millrace_fastpath::wire::ethernet;

use super::message::{Message, Query, Record, RecordKind, Version};
use super::signals::chunks;
use super::speaker::SOURCES_PER_RECORD;
use super::{Output, igmp, mld, ours_v4, ours_v6};

/// A group that is listened to on an interface: to one source, or to all.
pub type Join = (InterfaceId, Addr, Option<Addr>);

/// What happened, for the operator.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct JoinCounters {
    /// Questions of routers and switches.
    pub queries: u64,
    /// Messages in which we said what we listen to, or don't any more.
    pub reports: u64,
}

/// What is listened to, on all links.
#[derive(Debug)]
pub struct Joins {
    /// By link and whether it is IPv4's.
    links: BTreeMap<(InterfaceId, bool), Link>,
    down: PortsDown,
    /// Delays are drawn from it.
    dice: u64,
    counters: JoinCounters,
}

/// One link, one family.
#[derive(Debug)]
struct Link {
    port: PortId,
    mac: Mac,
    ours: Addr,
    /// Groups, and the sources that are listened to; `None` for all.
    groups: BTreeMap<Addr, Option<BTreeSet<Addr>>>,
    /// How often what was joined is still to be said unasked, and when.
    unasked: (u8, Nanos),
    /// When everything is to be said, because somebody asked.
    all_due: Option<Nanos>,
    /// When a group is to be said, and which sources of it; all if it is empty.
    asked: BTreeMap<Addr, (Nanos, BTreeSet<Addr>)>,
    /// Until when somebody asks by the first and the second version (Older Version Querier Present).
    older: [Nanos; 2],
}

impl Joins {
    /// Nothing is listened to yet.
    pub fn new(seed: u64) -> Self {
        Self {
            links: BTreeMap::new(),
            down: PortsDown::default(),
            dice: seed,
            counters: JoinCounters::default(),
        }
    }

    /// This is listened to from now on, and nothing else. It is told anew where anything of it changed.
    pub fn reload(&mut self, now: Nanos, interfaces: &Interfaces, wanted: &[Join]) {
        let mut groups = BTreeMap::<_, BTreeMap<Addr, Option<BTreeSet<Addr>>>>::new();
        for (id, group, source) in wanted.iter().filter(|(_, group, _)| is_told(*group)) {
            let on_link = groups.entry((*id, group.is_v4())).or_default();
            let known = on_link.entry(*group).or_insert_with(|| Some(BTreeSet::new()));
            match (source, known.as_mut()) {
                (Some(source), Some(sources)) => drop(sources.insert(*source)),
                _ => *known = None,
            }
        }
        let mut links = BTreeMap::new();
        for ((id, v4), groups) in groups {
            let Some(interface) = interfaces.get(id) else { continue };
            let fresh = Link::new(interface, v4, groups, now);
            let link = match self.links.remove(&(id, v4)) {
                Some(known) if known.is_like(&fresh) => known,
                // Who asks there stays the same (RFC 9776 section 7.2.1).
                Some(known) => Link { older: known.older, ..fresh },
                None => fresh,
            };
            links.insert((id, v4), link);
        }
        self.links = links;
    }

    /// These ports are down now. Who is behind one that is up again may have been told nothing.
    pub fn watch(&mut self, now: Nanos, down: PortsDown) {
        let before = std::mem::replace(&mut self.down, down);
        for link in self.links.values_mut().filter(|link| before.has(link.port) && !down.has(link.port)) {
            link.unasked = (TIMES, now);
        }
    }

    /// Takes an Ethernet frame that came in by an interface, or a question of our own that went out. Whether it was a question
    /// where we listen to something.
    pub fn receive(&mut self, now: Nanos, interface: InterfaceId, frame: &[u8]) -> bool {
        let v4 = frame.get(12..14) == Some(&ethernet::IPV4.to_be_bytes());
        let Some(link) = self.links.get_mut(&(interface, v4)) else { return false };
        let ip = frame.get(ethernet::HEADER..).unwrap_or_default();
        let Ok(heard) = (if v4 { igmp::parse(ip) } else { mld::parse(ip) }) else { return false };
        let Message::Query(query) = heard.message else { return false };
        self.counters.queries += 1;
        let delay = draw(&mut self.dice, u64::from(query.response_ms) * MILLISECOND);
        link.asked(now, &query, now.plus(delay));
        true
    }

    /// Does what has become due.
    pub fn poll(&mut self, now: Nanos, out: &mut Vec<Output>) {
        for ((id, v4), link) in &mut self.links {
            let mut records = Vec::new();
            if link.unasked.0 > 0 && link.unasked.1 <= now {
                records
                    .extend(link.groups.iter().flat_map(|(group, sources)| changed(*group, sources, true)));
                link.unasked = (link.unasked.0 - 1, now.plus(draw(&mut self.dice, AGAIN_NANOS)));
            }
            if link.all_due.take_if(|due| *due <= now).is_some() {
                records
                    .extend(link.groups.iter().flat_map(|(group, sources)| current(*group, sources, None)));
            }
            for (group, (_, asked)) in link.asked.extract_if(.., |_, (due, _)| *due <= now) {
                if let Some(sources) = link.groups.get(&group) {
                    let asked = Some(&asked).filter(|asked| !asked.is_empty());
                    records.extend(current(group, sources, asked));
                }
            }
            let version = link.version(now);
            let frames = link.frames(*v4, version, &records);
            self.counters.reports += frames.len() as u64;
            out.extend(frames.into_iter().map(|frame| Output::Send(*id, frame)));
        }
    }

    /// Nothing is listened to from now on. It is said as often as anything else, and at once: nobody will be there later.
    pub fn leave(&mut self, now: Nanos, out: &mut Vec<Output>) {
        for ((id, v4), link) in std::mem::take(&mut self.links) {
            let records: Vec<_> =
                link.groups.iter().flat_map(|(group, sources)| changed(*group, sources, false)).collect();
            let frames = link.frames(v4, link.version(now), &records);
            for frame in std::iter::repeat_n(frames, usize::from(TIMES)).flatten() {
                self.counters.reports += 1;
                out.push(Output::Send(id, frame));
            }
        }
    }

    /// When [`Self::poll`] has something to do next.
    pub fn next_due(&self) -> Option<Nanos> {
        self.links.values().filter_map(Link::next_due).min()
    }

    /// What happened so far.
    pub fn counters(&self) -> JoinCounters {
        self.counters
    }
}

impl Link {
    fn new(
        interface: &Interface,
        v4: bool,
        groups: BTreeMap<Addr, Option<BTreeSet<Addr>>>,
        now: Nanos,
    ) -> Self {
        // Those without an address speak as well (RFC 9776 section 4.2.13, RFC 9777 section 5.2.13).
        let ours = if v4 {
            ours_v4(interface).unwrap_or(Addr::v4([0; 4]))
        } else {
            ours_v6(interface).unwrap_or_default()
        };
        Self {
            port: interface.port,
            mac: interface.mac,
            ours,
            groups,
            unasked: (TIMES, now),
            all_due: None,
            asked: BTreeMap::new(),
            older: [Nanos(0); 2],
        }
    }

    /// Whether the same was told, from the same address.
    fn is_like(&self, other: &Self) -> bool {
        (self.port, self.mac, self.ours, &self.groups) == (other.port, other.mac, other.ours, &other.groups)
    }

    /// Somebody asks; the answer is due then, or earlier if one was (RFC 9776 section 5.2, RFC 9777 section 6.2).
    fn asked(&mut self, now: Nanos, query: &Query, due: Nanos) {
        if query.version < Version::Third {
            self.older[query.version as usize] =
                now.plus(OLDER_NANOS + u64::from(query.response_ms) * MILLISECOND);
        }
        if self.all_due.is_some_and(|all| all <= due) {
            return;
        }
        let Some(group) = query.group else {
            self.all_due = Some(due);
            return;
        };
        if !self.groups.contains_key(&group) {
            return;
        }
        let sources: BTreeSet<Addr> = query.sources.iter().copied().collect();
        match self.asked.get_mut(&group) {
            // Bounded by what one question asks for, again and again.
            Some((known, of)) if of.len() + sources.len() <= ASKED_SOURCES_MAX => {
                *known = due.min(*known);
                if of.is_empty() || sources.is_empty() { of.clear() } else { of.extend(sources) }
            }
            // More than is kept: everything is the answer.
            Some((known, of)) => {
                *known = due.min(*known);
                of.clear();
            }
            None => drop(self.asked.insert(group, (due, sources))),
        }
    }

    fn version(&self, now: Nanos) -> Version {
        match self.older.map(|until| until > now) {
            [true, _] => Version::First,
            [_, true] => Version::Second,
            _ => Version::Third,
        }
    }

    /// The messages that say this.
    fn frames(&self, v4: bool, version: Version, records: &[Record]) -> Vec<Vec<u8>> {
        if version == Version::Third {
            let packet = if v4 { igmp::report } else { mld::report };
            return chunks(records).map(|records| self.frame(v4, packet(self.ours, records))).collect();
        }
        // Older versions know groups alone, each in a message of its own.
        let said: BTreeMap<Addr, bool> =
            records.iter().map(|record| (record.group, leaves(record))).collect();
        let packet = |(group, leaves)| match v4 {
            true => igmp::old_report(version, self.ours, group, leaves),
            false => Some(mld::old_report(self.ours, group, leaves)),
        };
        said.into_iter().filter_map(packet).map(|packet| self.frame(v4, packet)).collect()
    }

    fn frame(&self, v4: bool, packet: Vec<u8>) -> Vec<u8> {
        if v4 { igmp::frame(self.mac, packet) } else { mld::frame(self.mac, packet) }
    }

    fn next_due(&self) -> Option<Nanos> {
        let unasked = Some(self.unasked.1).filter(|_| self.unasked.0 > 0);
        let asked = self.asked.values().map(|(due, _)| *due);
        asked.chain(unasked).chain(self.all_due).min()
    }
}

/// Whether listening to a group is told at all: everybody listens to some, and others never leave their host (RFC 9776 section 5,
/// RFC 9777 section 6).
fn is_told(group: Addr) -> bool {
    match group.is_v4() {
        true => group != Addr::v4([224, 0, 0, 1]),
        false => group.v6_bytes()[1] & 0xf > 1 && group != Addr(0xff02 << 112 | 1),
    }
}

/// Records of a kind with these sources, as many as it takes.
fn records(kind: RecordKind, group: Addr, sources: &[Addr]) -> impl Iterator<Item = Record> {
    sources.chunks(SOURCES_PER_RECORD).map(move |sources| Record { kind, group, sources: sources.to_vec() })
}

/// What says that a group is joined or left.
fn changed(group: Addr, sources: &Option<BTreeSet<Addr>>, joins: bool) -> Vec<Record> {
    use RecordKind::*;
    match sources {
        None => vec![Record { kind: if joins { ToExclude } else { ToInclude }, group, sources: Vec::new() }],
        Some(sources) => {
            let sources: Vec<_> = sources.iter().copied().collect();
            records(if joins { Allow } else { Block }, group, &sources).collect()
        }
    }
}

/// What says how it is with a group, as far as these sources go if some were asked for (RFC 9776 section 5.2).
fn current(group: Addr, sources: &Option<BTreeSet<Addr>>, asked: Option<&BTreeSet<Addr>>) -> Vec<Record> {
    use RecordKind::*;
    let listened: Vec<Addr> = match (sources, asked) {
        (None, None) => return vec![Record { kind: IsExclude, group, sources: Vec::new() }],
        (None, Some(asked)) => asked.iter().copied().collect(),
        (Some(sources), None) => sources.iter().copied().collect(),
        (Some(sources), Some(asked)) => sources.intersection(asked).copied().collect(),
    };
    records(IsInclude, group, &listened).collect()
}

fn leaves(record: &Record) -> bool {
    let nobody = record.sources.is_empty();
    record.kind == RecordKind::Block || (record.kind == RecordKind::ToInclude && nobody)
}

/// A time below this, and not always the same (SplitMix64).
fn draw(dice: &mut u64, below: u64) -> u64 {
    *dice = dice.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mut word = *dice;
    word = (word ^ (word >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    word = (word ^ (word >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    ((u128::from(word ^ (word >> 31)) * u128::from(below)) >> 64) as u64
}

/// How often a change is said (Robustness Variable), and within how long again (Unsolicited Report Interval).
const TIMES: u8 = 2;
const AGAIN_NANOS: u64 = 1_000_000_000;
/// How long an asker of an older version counts, who doesn't say how often it asks, and its time for answers more: twice the default
/// (RFC 9776 section 8.12).
const OLDER_NANOS: u64 = 2 * 125_000_000_000;
/// Sources that were asked for and are remembered until the answer.
const ASKED_SOURCES_MAX: usize = 512;
const MILLISECOND: u64 = 1_000_000;
