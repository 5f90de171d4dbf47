//! ARP and neighbour discovery: who is at which link-layer address on our links, and answers to those who ask for us.
//!
//! Frames and times go in, [`Output`]s come out; there is no I/O and no clock here, so tests drive time by hand. VLAN tags
//! are off before a frame gets here, and an interface stands for port and VLAN.
//!
//! ```text
//!                 demand, want                 answer              30 s
//!   (unknown) ───────────────────► Incomplete ─────────► Reachable ─────► Probing ──answer──► Reachable
//!       │                              │ no answer           ▲               │ no answer
//!       └── a request directed to us ──┼─────────────────────┘               ▼
//!                                      └──► Failed ──► forgotten, or asked again while it is wanted
//! ```
//!
//! What is learnt: the sender of a request for one of our addresses, if it is on-link there; answers to what we asked; and
//! moves of neighbours that are known already. Announcements of strangers are not, so a flood of them fills nothing.

mod arp;
mod heard;
mod nd;
mod reload;
mod search;
mod table;

use std::collections::{BTreeSet, HashSet};

use millrace_fastpath::addr::Addr;
use millrace_fastpath::clock::Nanos;
use millrace_fastpath::tables::interfaces::{InterfaceId, Interfaces, Mac};

pub(crate) use nd::is_discovery;
pub use search::REACHABLE_NANOS;
use table::{Entry, Key, Table};
pub use table::{PARKED_MAX, PARKED_PER_NEIGHBOUR_MAX, State};

/// What is to be done. `P` is a packet that waited for a neighbour.
#[derive(Debug, PartialEq, Eq)]
pub enum Output<P> {
    /// Send this Ethernet frame, untagged, by the interface.
    Send(InterfaceId, Vec<u8>),
    /// The neighbour is at this link-layer address from now on.
    Set(InterfaceId, Addr, Mac),
    /// The neighbour isn't reachable any more.
    Remove(InterfaceId, Addr),
    /// The neighbour that the packet waited for is here.
    Release(InterfaceId, Mac, P),
    /// The packet waited in vain, or had to make room.
    Discard(P),
    /// Another station uses an address of ours (RFC 5227 §2.4, RFC 4862 §5.4).
    Conflict(InterfaceId, Addr, Mac),
}

/// What happened, for the operator.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// Frames that weren't well-formed ARP or ND.
    pub malformed: u64,
    /// Requests for our addresses that were answered.
    pub answered: u64,
    /// Requests of ours.
    pub asked: u64,
    /// Packets that waited in vain or had to make room.
    pub discarded: u64,
    /// Neighbours that there was no room for.
    pub refused: u64,
    /// Sightings of our addresses at other stations.
    pub conflicts: u64,
}

/// A neighbour, as it is shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Row {
    /// The interface that it is on.
    pub interface: InterfaceId,
    /// Its address.
    pub addr: Addr,
    /// Its link-layer address, if known.
    pub mac: Option<Mac>,
    /// What is known of it.
    pub state: State,
    /// When it was last heard of, or came into this state.
    pub since: Nanos,
}

/// What was said on a link, in ARP or ND.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Message {
    /// Somebody asks for `target`.
    Solicit { sender: Option<Addr>, mac: Option<Mac>, target: Addr },
    /// Somebody says where `addr` is.
    Advertise { addr: Addr, mac: Option<Mac>, solicited: bool, overrides: bool },
}

#[derive(Debug)]
struct Link {
    /// False for an interface that is gone.
    present: bool,
    mac: Mac,
    addresses: Vec<(Addr, u8)>,
    defended: Option<Nanos>,
}

/// The machine.
#[derive(Debug)]
pub struct Machine<P> {
    links: Vec<Link>,
    /// In order, for they are announced in it: what is sent doesn't depend on a hasher's key.
    floating: BTreeSet<Addr>,
    /// Addresses that are ours no longer, but have flows: answered for until another station has them.
    lingering: HashSet<Addr>,
    table: Table<P>,
    neighbours_max: usize,
    counters: Counters,
    /// What is to be announced, and when.
    announcements: Vec<(Nanos, InterfaceId, Addr)>,
}

impl<P> Machine<P> {
    /// A machine for these interfaces. `floating` are our addresses that belong to no interface: they are answered for
    /// on all. `neighbours_max` counts static entries too.
    pub fn new(
        interfaces: &Interfaces,
        floating: impl IntoIterator<Item = Addr>,
        statics: &[(InterfaceId, Addr, Mac)],
        neighbours_max: usize,
    ) -> Self {
        let mut table = Table::new(neighbours_max.max(statics.len()));
        for (interface, addr, mac) in statics {
            // There is room for as many as there are static ones.
            let _ = table.insert((*interface, *addr), Entry::new(State::Static, Some(*mac), Nanos(0)));
        }
        Self {
            links: reload::links(interfaces),
            floating: floating.into_iter().collect(),
            lingering: HashSet::new(),
            table,
            neighbours_max,
            counters: Counters::default(),
            announcements: Vec::new(),
        }
    }

    /// Tells the links where our addresses are, now and once more when slow links have come up (RFC 5227 §2.3,
    /// RFC 4861 §7.2.6).
    pub fn start(&mut self, now: Nanos, out: &mut Vec<Output<P>>) {
        let ours = self.announceable();
        self.announce(now, ours, out);
    }

    /// Takes an Ethernet frame that came in by an interface.
    pub fn receive(&mut self, now: Nanos, interface: InterfaceId, frame: &[u8], out: &mut Vec<Output<P>>) {
        let message = match frame.get(12..14) {
            Some([0x08, 0x06]) => arp::parse(&frame[14..]),
            Some([0x86, 0xdd]) => nd::parse(&frame[14..]),
            _ => None,
        };
        let Some(message) = message.filter(|_| self.is_present(interface)) else {
            self.counters.malformed += 1;
            return;
        };
        match message {
            Message::Solicit { sender, mac, target } => {
                let source = Mac::try_from(&frame[6..12]).unwrap_or(BROADCAST);
                self.asked(now, interface, sender, mac.unwrap_or(source), mac.is_some(), target, out);
            }
            Message::Advertise { addr, mac, solicited, overrides } => {
                self.told(now, (interface, addr), mac, solicited, overrides, out);
            }
        }
    }

    /// A packet has to go to a neighbour that workers didn't know. It is released when the neighbour is found, soon at best.
    pub fn resolve(
        &mut self,
        now: Nanos,
        interface: InterfaceId,
        addr: Addr,
        packet: P,
        out: &mut Vec<Output<P>>,
    ) {
        let key = (interface, addr);
        if !self.is_present(interface) || self.is_ours(interface, addr) {
            return self.discard(packet, out);
        }
        if let Some(entry) = self.table.get_mut(key) {
            entry.demanded = true;
            match (entry.state, entry.mac) {
                // The worker's tables were a moment older than ours.
                (State::Static | State::Reachable | State::Probing, Some(mac)) => {
                    return out.push(Output::Release(interface, mac, packet));
                }
                (State::Failed, _) if now.since(entry.since) < FAILED_NANOS => {
                    return self.discard(packet, out);
                }
                (State::Failed, _) => self.search(now, key, out),
                _ => {}
            }
        } else if !self.add_missing(now, key, out) {
            return self.discard(packet, out);
        }
        if let Some(gone) = self.table.park(key, packet) {
            self.discard(gone, out);
        }
    }

    /// A route or an instance leads through this neighbour from now on (or no longer): it is to be found before a packet
    /// needs it, and kept fresh.
    pub fn want(
        &mut self,
        now: Nanos,
        interface: InterfaceId,
        addr: Addr,
        wanted: bool,
        out: &mut Vec<Output<P>>,
    ) {
        let key = (interface, addr);
        if !self.is_present(interface) || self.is_ours(interface, addr) {
            return;
        }
        match self.table.get_mut(key) {
            Some(entry) => {
                entry.wanted = wanted;
                if wanted && entry.state == State::Failed {
                    self.search(now, key, out);
                }
            }
            None if wanted => {
                let mut entry = Entry::new(State::Incomplete, None, now);
                entry.wanted = true;
                if self.insert(key, entry, out) {
                    self.search(now, key, out);
                }
            }
            None => {}
        }
    }

    /// Does what has become due.
    pub fn poll(&mut self, now: Nanos, out: &mut Vec<Output<P>>) {
        self.announce_due(now, out);
        while let Some(key) = self.table.pop_due(now) {
            self.due(now, key, out);
        }
    }

    /// When [`Machine::poll`] has something to do next.
    pub fn next_due(&self) -> Option<Nanos> {
        let announcement = self.announcements.iter().map(|(at, ..)| *at).min();
        [self.table.next_due(), announcement].into_iter().flatten().min()
    }

    /// The link-layer address of a neighbour that is known.
    pub fn get(&self, interface: InterfaceId, addr: Addr) -> Option<Mac> {
        self.table.get((interface, addr)).and_then(|entry| entry.mac)
    }

    /// Whether nobody knows yet whether a neighbour is there: the first search for it goes on. After one in vain it is lost
    /// until it is heard of, however often it is looked for again.
    pub fn is_sought(&self, interface: InterfaceId, addr: Addr) -> bool {
        let entry = self.table.get((interface, addr));
        entry.is_some_and(|entry| entry.state == State::Incomplete && !entry.lost)
    }

    /// All entries, in no order.
    pub fn rows(&self) -> impl Iterator<Item = Row> {
        self.table.iter().map(|((interface, addr), entry)| Row {
            interface,
            addr,
            mac: entry.mac,
            state: entry.state,
            since: entry.since,
        })
    }

    /// What happened so far.
    pub fn counters(&self) -> Counters {
        self.counters
    }

    /// How many packets wait.
    pub fn parked(&self) -> usize {
        self.table.parked()
    }

    /// How many entries there are.
    pub fn len(&self) -> usize {
        self.table.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Adds an entry that a packet needs; false when there is no room.
    fn add_missing(&mut self, now: Nanos, key: Key, out: &mut Vec<Output<P>>) -> bool {
        // A scan of a whole network through us must not push out those who are there.
        let (missing, _) = self.table.oldest(Entry::is_missing);
        if missing * MISSING_SHARE >= self.neighbours_max {
            self.counters.refused += 1;
            return false;
        }
        let mut entry = Entry::new(State::Incomplete, None, now);
        entry.demanded = true;
        if !self.insert(key, entry, out) {
            return false;
        }
        self.search(now, key, out);
        true
    }

    fn insert(&mut self, key: Key, entry: Entry<P>, out: &mut Vec<Output<P>>) -> bool {
        match self.table.insert(key, entry) {
            Ok(None) => true,
            Ok(Some((evicted, entry))) => {
                self.removed(evicted, entry, out);
                true
            }
            Err(table::Full) => {
                self.counters.refused += 1;
                false
            }
        }
    }

    fn forget(&mut self, key: Key, out: &mut Vec<Output<P>>) {
        if let Some(entry) = self.table.remove(key) {
            self.removed(key, entry, out);
        }
    }

    fn removed(&mut self, key: Key, entry: Entry<P>, out: &mut Vec<Output<P>>) {
        if entry.mac.is_some() {
            out.push(Output::Remove(key.0, key.1));
        }
        for packet in entry.into_parked() {
            self.discard(packet, out);
        }
    }

    fn discard(&mut self, packet: P, out: &mut Vec<Output<P>>) {
        self.counters.discarded += 1;
        out.push(Output::Discard(packet));
    }

    fn is_present(&self, interface: InterfaceId) -> bool {
        self.links.get(interface.index()).is_some_and(|link| link.present)
    }

    fn is_ours(&self, interface: InterfaceId, addr: Addr) -> bool {
        self.floating.contains(&addr)
            || self.links[interface.index()].addresses.iter().any(|(ours, _)| *ours == addr)
    }

    fn is_on_link(&self, interface: InterfaceId, addr: Addr) -> bool {
        self.links[interface.index()].addresses.iter().any(|(ours, len)| same_network(*ours, addr, *len))
    }
}

fn same_network(ours: Addr, addr: Addr, len: u8) -> bool {
    let bits = if ours.is_v4() { 32 } else { 128 };
    ours.is_v4() == addr.is_v4() && (ours.0 ^ addr.0).checked_shr(bits - u32::from(len)).unwrap_or(0) == 0
}

const BROADCAST: Mac = [0xff; 6];
const MILLISECOND: u64 = 1_000_000;
/// How long a neighbour that doesn't answer isn't asked again for packets.
pub const FAILED_NANOS: u64 = 1000 * MILLISECOND;
/// The second announcement (ANNOUNCE_INTERVAL, RFC 5227 §1.1).
const ANNOUNCE_AGAIN_NANOS: u64 = 2000 * MILLISECOND;
/// Neighbours that packets look for in vain may fill one in so many entries.
const MISSING_SHARE: usize = 4;

#[cfg(test)]
mod tests;
