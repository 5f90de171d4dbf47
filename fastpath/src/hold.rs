//! Packets that wait for a function: copied into a slab taken at start, so that waiting never starves reception.
//!
//! ```text
//!  by line      head ─► entry ─► entry ─► tail     a line is a service's queries, its IPv4 or its IPv6 packets: what is
//!                                                  released together. All of a service have the same patience, so the
//!                                                  head is always the next to run out of time
//!  by flow      key ─► entry                       a repeated first packet takes the place of the one it repeats
//!  by itself    entry                              a spliced handshake whose instance is being connected to: out of its
//!                                                  line, still held
//!  by prefix    /24 or /56 ─► entries              one neighbourhood can't take all the room
//! ```

use std::hash::{BuildHasher, Hash, Hasher};

use hashbrown::hash_map::Entry as MapEntry;
use hashbrown::{DefaultHashBuilder, HashMap};

use crate::addr::Addr;
use crate::clock::Nanos;
use crate::dns::Role;
use crate::event::Trigger;
use crate::packet::Meta;
use crate::tables::services::{SERVICES_MAX, ServiceId};

/// Bytes of a small place: a SYN with all options, a DNS query, a short datagram.
const SMALL_BYTES: usize = 256;
/// Bytes of a large place: a full frame (a QUIC Initial is at least 1 200 bytes, RFC 9000 §14.1).
const LARGE_BYTES: usize = 1536;
/// One large place for so many small ones.
const SMALL_PER_LARGE: usize = 8;

const NONE: u32 = u32::MAX;

/// What is released by the same condition, in order. Queries wait for readiness, handshakes for an instance of their
/// family, SYNs for that or, where handshakes are spliced, for the notification, datagrams for that in any case: one that
/// can't leave must not stand in the way of the other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Line {
    /// The service.
    pub service: ServiceId,
    class: u8,
}

/// Lines of a service: queries, and of IPv4 and of IPv6 SYNs, handshakes and datagrams.
const CLASSES: usize = 7;

impl Line {
    /// The line that a packet for a service waits in.
    pub fn of(service: ServiceId, held: Held, v4: bool) -> Self {
        let class = match (held, v4) {
            (Held::Query(_), _) => 0,
            (Held::FirstPacket, true) => 1,
            (Held::FirstPacket, false) => 2,
            (Held::Handshake, true) => 3,
            (Held::Handshake, false) => 4,
            (Held::Datagram, true) => 5,
            (Held::Datagram, false) => 6,
        };
        Self { service, class }
    }

    fn index(self) -> usize {
        self.service.index() * CLASSES + usize::from(self.class)
    }
}

/// Tells first packets apart: two of the same key are one, repeated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HoldKey {
    /// For whom.
    pub service: ServiceId,
    /// Source address and port.
    pub source: (Addr, u16),
    /// Destination address and port.
    pub destination: (Addr, u16),
    /// IP protocol.
    pub protocol: u8,
    /// The id of a DNS query, for a resolver sends several from one port; [`HANDSHAKE`] for what completes a handshake, for
    /// it may come while its SYN is held again; 0 for a SYN; for what else is held of a flow, which of it that is.
    pub query_id: u16,
}

impl Hash for HoldKey {
    /// Three words instead of seven.
    #[inline]
    fn hash<H: Hasher>(&self, state: &mut H) {
        let ports = u128::from(self.source.1) | u128::from(self.destination.1) << 16;
        let rest =
            u128::from(self.service.0) | u128::from(self.query_id) << 16 | u128::from(self.protocol) << 32;
        state.write_u128(self.source.0.0);
        state.write_u128(self.destination.0.0);
        state.write_u128(ports | rest << 32);
    }
}

/// Packets of one flow that wait: a first flight of two datagrams, as QUIC's often is, and as many once more when they are
/// sent again, which makes other datagrams of them (RFC 9002 §6.2.4).
pub const HELD_PER_FLOW_MAX: u16 = 4;

/// In the place of a query's id: this is the acknowledgement of a spliced handshake.
pub const HANDSHAKE: u16 = u16::MAX;

/// A held packet, for as long as it is held.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HeldId(pub u32);

impl HeldId {
    /// The index into arrays with a place for each packet that can be held.
    #[inline]
    pub fn index(self) -> usize {
        self.0 as usize
    }
}

/// What is held.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Held {
    /// The SYN that opens a flow.
    FirstPacket,
    /// What opens a flow without a handshake that could be answered for its instance.
    Datagram,
    /// A DNS query, by the role in which it will be answered.
    Query(Role),
    /// What a client sent behind the SYN-ACK that we answered it with: see [`crate::splice`].
    Handshake,
}

/// A packet to hold.
#[derive(Clone, Copy, Debug)]
pub struct Parking<'a> {
    /// Which, and for whom.
    pub key: HoldKey,
    /// What kind.
    pub held: Held,
    /// What woke, or should wake, the service.
    pub trigger: Trigger,
    /// As it was classified.
    pub meta: &'a Meta,
    /// The frame.
    pub bytes: &'a [u8],
    /// Until when.
    pub deadline: Nanos,
    /// Whether a wake is under way that it waits for.
    pub asked: bool,
    /// How many this worker may hold for the service.
    pub service_max: u32,
}

/// Why a packet can't be held.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(usize)]
pub enum Refusal {
    /// The service's share of this worker is used up.
    ServiceFull,
    /// Its source's neighbourhood has its share.
    PrefixFull,
    /// This worker has no room.
    WorkerFull,
    /// It is longer than any place.
    TooLong,
    /// Its flow has its share.
    FlowFull,
}

/// How many reasons there are.
pub const REFUSALS: usize = Refusal::FlowFull as usize + 1;

impl Refusal {
    /// The names that operators see, in the order of the counters.
    pub const NAMES: [&'static str; REFUSALS] =
        ["service-full", "prefix-full", "worker-full", "too-long", "flow-full"];
}

/// What became of a packet to hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Parked {
    /// It waits.
    Held,
    /// It waits in the place of the one that it repeats.
    Replaced,
}

/// A held packet as it waits.
#[derive(Clone, Copy, Debug)]
pub struct Waiting {
    /// What kind.
    pub held: Held,
    /// What should wake the service.
    pub trigger: Trigger,
    /// As it was classified.
    pub meta: Meta,
    /// Until when.
    pub deadline: Nanos,
    /// Whether a wake was begun that it waits for.
    pub asked: bool,
}

#[derive(Clone, Copy, Debug)]
struct Entry {
    waiting: Waiting,
    key: HoldKey,
    /// Where its chain begins in `chains`.
    chain: u32,
    /// The next entry of the chain.
    link: u32,
    next: u32,
    place: u32,
    len: u16,
    large: bool,
}

#[derive(Clone, Copy, Debug)]
struct Queue {
    head: u32,
    tail: u32,
    len: u32,
}

/// All that one worker holds.
#[derive(Debug)]
pub struct Holds {
    entries: Vec<Entry>,
    free: Vec<u32>,
    small: Places,
    large: Places,
    queues: Box<[Queue]>,
    by_service: Box<[u32]>,
    /// Lines with something in them, in the order in which they began.
    active: Vec<Line>,
    /// The first entry of each chain: those whose keys' hashes lead to the same place. The links are in the entries, so that
    /// this is small, and what a flood looks up stays in the cache.
    chains: Box<[u32]>,
    len: usize,
    hasher: DefaultHashBuilder,
    by_prefix: HashMap<u64, u32>,
    entries_max: usize,
    per_prefix_max: u32,
}

impl Holds {
    /// Takes the memory for `entries_max` packets, at most `per_prefix_max` of them from one /24 or /56.
    pub fn new(entries_max: usize, per_prefix_max: u32) -> Self {
        let entries_max = entries_max.clamp(1, NONE as usize - 1);
        Self {
            entries: Vec::with_capacity(entries_max),
            free: Vec::with_capacity(entries_max),
            small: Places::new(entries_max, SMALL_BYTES),
            large: Places::new(entries_max.div_ceil(SMALL_PER_LARGE), LARGE_BYTES),
            queues: vec![Queue { head: NONE, tail: NONE, len: 0 }; SERVICES_MAX * CLASSES].into_boxed_slice(),
            by_service: vec![0; SERVICES_MAX].into_boxed_slice(),
            active: Vec::with_capacity(SERVICES_MAX * CLASSES),
            chains: vec![NONE; entries_max.next_power_of_two()].into_boxed_slice(),
            len: 0,
            hasher: DefaultHashBuilder::default(),
            // Twice the room: removals leave marks in the map, which it clears in place as long as it is half empty.
            by_prefix: HashMap::with_capacity(entries_max * 2),
            entries_max,
            per_prefix_max,
        }
    }

    /// Another bound for one /24 or /56 from now on. What is held beyond it stays.
    pub fn set_per_prefix_max(&mut self, per_prefix_max: u32) {
        self.per_prefix_max = per_prefix_max;
    }

    /// Packets held now.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Packets held for a service now.
    pub fn len_of(&self, service: ServiceId) -> u32 {
        self.by_service[service.index()]
    }

    /// How many lines have something in them.
    pub fn active(&self) -> usize {
        self.active.len()
    }

    /// One of the lines with something in them; `index` below [`Holds::active`].
    pub fn active_line(&self, index: usize) -> Line {
        self.active[index]
    }

    /// Copies a packet in.
    ///
    /// # Errors
    /// Why there is no room; nothing has changed.
    pub fn park(&mut self, parking: &Parking<'_>) -> Result<Parked, Refusal> {
        let large = parking.bytes.len() > SMALL_BYTES;
        if parking.bytes.len() > LARGE_BYTES {
            return Err(Refusal::TooLong);
        }
        let chain = self.chain_of(&parking.key);
        if let Some(position) = self.position(chain, &parking.key) {
            return self.replace(position, parking, large);
        }
        let service = parking.key.service;
        if self.by_service[service.index()] >= parking.service_max {
            return Err(Refusal::ServiceFull);
        }
        let of_prefix = self.by_prefix.entry(parking.key.source.0.source_prefix());
        if matches!(&of_prefix, MapEntry::Occupied(held) if *held.get() >= self.per_prefix_max) {
            return Err(Refusal::PrefixFull);
        }
        if self.len >= self.entries_max {
            return Err(Refusal::WorkerFull);
        }
        let places = if large { &mut self.large } else { &mut self.small };
        let place = places.store(parking.bytes).ok_or(Refusal::WorkerFull)?;
        *of_prefix.or_insert(0) += 1;
        let entry = Entry {
            waiting: Waiting {
                held: parking.held,
                trigger: parking.trigger,
                meta: *parking.meta,
                deadline: parking.deadline,
                asked: parking.asked,
            },
            key: parking.key,
            chain,
            link: self.chains[chain as usize],
            next: NONE,
            place,
            len: parking.bytes.len() as u16,
            large,
        };
        let position = match self.free.pop() {
            Some(position) => {
                self.entries[position as usize] = entry;
                position
            }
            None => {
                self.entries.push(entry);
                (self.entries.len() - 1) as u32
            }
        };
        self.chains[chain as usize] = position;
        self.len += 1;
        self.by_service[service.index()] += 1;
        self.append(Line::of(service, parking.held, parking.meta.destination.is_v4()), position);
        Ok(Parked::Held)
    }

    /// The next packet of a line, without taking it.
    pub fn head(&self, line: Line) -> Option<&Waiting> {
        self.entries.get(self.queues[line.index()].head as usize).map(|entry| &entry.waiting)
    }

    /// The id of the next packet of a line.
    pub fn head_id(&self, line: Line) -> Option<HeldId> {
        Some(self.queues[line.index()].head).filter(|head| *head != NONE).map(HeldId)
    }

    /// Notes that a wake was begun for the next packet of a line.
    pub fn set_asked(&mut self, line: Line) {
        if let Some(entry) = self.entries.get_mut(self.queues[line.index()].head as usize) {
            entry.waiting.asked = true;
        }
    }

    /// The bytes of the next packet of a line.
    pub fn head_bytes(&self, line: Line) -> Option<&[u8]> {
        let entry = self.entries.get(self.queues[line.index()].head as usize)?;
        let places = if entry.large { &self.large } else { &self.small };
        Some(places.bytes(entry.place, usize::from(entry.len)))
    }

    /// Takes the next packet of a line out.
    pub fn pop(&mut self, line: Line) -> Option<Waiting> {
        let id = self.detach(line)?;
        Some(self.take(id))
    }

    /// Takes the next packet of a line out of the line; it stays held until it is [taken](Holds::take).
    pub fn detach(&mut self, line: Line) -> Option<HeldId> {
        let id = self.head_id(line)?;
        let next = self.entries[id.index()].next;
        let queue = &mut self.queues[line.index()];
        queue.head = next;
        queue.len -= 1;
        if queue.len == 0 {
            queue.tail = NONE;
            self.active.retain(|active| *active != line);
        }
        Some(id)
    }

    /// The packet that is held under this key.
    pub fn find(&self, key: &HoldKey) -> Option<HeldId> {
        self.position(self.chain_of(key), key).map(HeldId)
    }

    #[inline]
    fn chain_of(&self, key: &HoldKey) -> u32 {
        self.hasher.hash_one(key) as u32 & (self.chains.len() - 1) as u32
    }

    #[inline]
    fn position(&self, chain: u32, key: &HoldKey) -> Option<u32> {
        let mut position = self.chains[chain as usize];
        // NONE is no entry's place.
        while let Some(entry) = self.entries.get(position as usize) {
            if entry.key == *key {
                return Some(position);
            }
            position = entry.link;
        }
        None
    }

    /// A held packet and its bytes. `id` must come from [`Holds::find`] or [`Holds::detach`], and not be taken since.
    pub fn get(&self, id: HeldId) -> (&Waiting, &[u8]) {
        let entry = &self.entries[id.index()];
        let places = if entry.large { &self.large } else { &self.small };
        (&entry.waiting, places.bytes(entry.place, usize::from(entry.len)))
    }

    /// Takes a packet out that is in no line.
    pub fn take(&mut self, id: HeldId) -> Waiting {
        let waiting = self.entries[id.index()].waiting;
        self.forget(id);
        waiting
    }

    /// Drops a packet that is in no line.
    pub fn forget(&mut self, id: HeldId) {
        let entry = &self.entries[id.index()];
        self.by_service[entry.key.service.index()] -= 1;
        self.len -= 1;
        let (chain, link, mut before) = (entry.chain as usize, entry.link, self.chains[entry.chain as usize]);
        if before == id.0 {
            self.chains[chain] = link;
        } else {
            while self.entries[before as usize].link != id.0 {
                before = self.entries[before as usize].link;
            }
            self.entries[before as usize].link = link;
        }
        let entry = &self.entries[id.index()];
        if let MapEntry::Occupied(mut held) = self.by_prefix.entry(entry.key.source.0.source_prefix()) {
            *held.get_mut() -= 1;
            if *held.get() == 0 {
                held.remove();
            }
        }
        let places = if entry.large { &mut self.large } else { &mut self.small };
        places.free.push(entry.place);
        self.free.push(id.0);
    }

    /// Packets that can be held.
    pub fn capacity(&self) -> usize {
        self.entries_max
    }

    /// A repeated first packet: the newer bytes count, the place in the queue and the deadline stay.
    fn replace(&mut self, position: u32, parking: &Parking<'_>, large: bool) -> Result<Parked, Refusal> {
        let entry = self.entries[position as usize];
        let mut place = entry.place;
        if entry.large != large {
            place = self.places(large).take().ok_or(Refusal::WorkerFull)?;
            self.places(entry.large).free.push(entry.place);
        }
        self.places(large).write(place, parking.bytes);
        let entry = &mut self.entries[position as usize];
        entry.place = place;
        entry.large = large;
        entry.len = parking.bytes.len() as u16;
        entry.waiting.meta = *parking.meta;
        Ok(Parked::Replaced)
    }

    fn append(&mut self, line: Line, position: u32) {
        let queue = &mut self.queues[line.index()];
        if queue.len == 0 {
            queue.head = position;
            self.active.push(line);
        } else {
            self.entries[queue.tail as usize].next = position;
        }
        queue.tail = position;
        queue.len += 1;
    }

    fn places(&mut self, large: bool) -> &mut Places {
        if large { &mut self.large } else { &mut self.small }
    }
}

/// Places of one size.
#[derive(Debug)]
struct Places {
    bytes: Box<[u8]>,
    size: usize,
    free: Vec<u32>,
}

impl Places {
    fn new(count: usize, size: usize) -> Self {
        Self {
            bytes: vec![0; count * size].into_boxed_slice(),
            size,
            free: (0..count as u32).rev().collect(),
        }
    }

    fn take(&mut self) -> Option<u32> {
        self.free.pop()
    }

    fn store(&mut self, bytes: &[u8]) -> Option<u32> {
        let place = self.take()?;
        self.write(place, bytes);
        Some(place)
    }

    fn write(&mut self, place: u32, bytes: &[u8]) {
        let at = place as usize * self.size;
        self.bytes[at..at + bytes.len()].copy_from_slice(bytes);
    }

    fn bytes(&self, place: u32, len: usize) -> &[u8] {
        let at = place as usize * self.size;
        &self.bytes[at..at + len]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(service: u16) -> Line {
        Line::of(ServiceId(service), Held::FirstPacket, Meta::default().destination.is_v4())
    }

    fn parking<'a>(source: u32, service: u16, bytes: &'a [u8], meta: &'a Meta) -> Parking<'a> {
        Parking {
            key: HoldKey {
                service: ServiceId(service),
                source: (Addr::v4(source.to_be_bytes()), 1000),
                destination: (Addr::v4([203, 0, 113, 1]), 80),
                protocol: 6,
                query_id: 0,
            },
            held: Held::FirstPacket,
            trigger: Trigger::Syn,
            meta,
            bytes,
            deadline: Nanos(u64::from(source)),
            asked: true,
            service_max: 4,
        }
    }

    #[test]
    fn oldest_first_and_a_repeated_packet_keeps_its_place() {
        let meta = Meta::default();
        let mut holds = Holds::new(8, 8);
        for (source, bytes) in [(1, &b"one"[..]), (2, b"two"), (3, b"three")] {
            assert_eq!(holds.park(&parking(source, 0, bytes, &meta)), Ok(Parked::Held));
        }
        let long = [7u8; 1400];
        assert_eq!(holds.park(&parking(1, 0, &long, &meta)), Ok(Parked::Replaced));
        assert_eq!(holds.len(), 3);
        assert_eq!(holds.head_bytes(line(0)), Some(&long[..]));
        let order: Vec<u64> = std::iter::from_fn(|| holds.pop(line(0))).map(|held| held.deadline.0).collect();
        assert_eq!(order, [1, 2, 3]);
        assert!(holds.is_empty() && holds.active() == 0);
    }

    #[test]
    fn every_bound_refuses_and_comes_back() {
        let meta = Meta::default();
        let mut holds = Holds::new(6, 3);
        let far = |n: u32| n << 8; // one per /24
        for n in 1..=4 {
            assert_eq!(holds.park(&parking(far(n), 0, b"x", &meta)), Ok(Parked::Held));
        }
        assert_eq!(holds.park(&parking(far(5), 0, b"x", &meta)), Err(Refusal::ServiceFull));
        assert_eq!(holds.park(&parking(far(5), 1, b"x", &meta)), Ok(Parked::Held));
        assert_eq!(holds.park(&parking(far(6), 1, b"x", &meta)), Ok(Parked::Held));
        assert_eq!(holds.park(&parking(far(7), 1, b"x", &meta)), Err(Refusal::WorkerFull));
        assert_eq!(holds.park(&parking(far(7), 2, &[0; 1600], &meta)), Err(Refusal::TooLong));
        while holds.pop(line(0)).is_some() || holds.pop(line(1)).is_some() {}
        for n in 0..3 {
            assert_eq!(holds.park(&parking(far(9) + n, 0, b"x", &meta)), Ok(Parked::Held));
        }
        assert_eq!(holds.park(&parking(far(9) + 3, 0, b"x", &meta)), Err(Refusal::PrefixFull));
    }

    #[test]
    fn large_places_run_out_before_small_ones_and_nothing_leaks() {
        let meta = Meta::default();
        let mut holds = Holds::new(16, 16);
        for round in 0..3 {
            assert_eq!(holds.park(&parking(1, 0, &[1; 1000], &meta)), Ok(Parked::Held), "round {round}");
            assert_eq!(holds.park(&parking(2, 0, &[1; 1000], &meta)), Ok(Parked::Held));
            assert_eq!(holds.park(&parking(3, 0, &[1; 1000], &meta)), Err(Refusal::WorkerFull));
            assert_eq!(holds.park(&parking(3, 0, &[1; 100], &meta)), Ok(Parked::Held));
            while holds.pop(line(0)).is_some() {}
        }
    }

    #[test]
    fn holding_and_releasing_allocates_nothing() {
        let meta = Meta::default();
        let mut holds = Holds::new(512, 512);
        let measured = allocation_counter::measure(|| {
            for round in 0..200u32 {
                for n in 0..300 {
                    let mut parking = parking((round * 300 + n) << 8, (n % 100) as u16, b"abc", &meta);
                    parking.service_max = 512;
                    assert_eq!(holds.park(&parking), Ok(Parked::Held));
                }
                for service in 0..100 {
                    while holds.pop(line(service)).is_some() {}
                }
            }
        });
        assert_eq!((measured.count_total, measured.count_current), (0, 0));
    }
}
