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

mod parking;
mod places;
mod prefixes;
#[cfg(test)]
mod tests;

use std::hash::BuildHasher;

use hashbrown::DefaultHashBuilder;

pub use parking::{HANDSHAKE, Held, HeldId, HoldKey, Line, Parked, Parking, REFUSALS, Refusal, Waiting};

use crate::packet::Meta;
use crate::tables::services::{SERVICES_MAX, ServiceId};
use parking::CLASSES;
use places::Places;
use prefixes::Prefixes;

/// Bytes of a small place: a SYN with all options, a DNS query, a short datagram.
const SMALL_BYTES: usize = 256;
/// Bytes of a large place: a full frame (a QUIC Initial is at least 1 200 bytes, RFC 9000 §14.1).
const LARGE_BYTES: usize = 1536;
/// One large place for so many small ones.
const SMALL_PER_LARGE: usize = 8;

/// More can't be held, whatever is asked for.
const ENTRIES_MAX: usize = 1 << 28;
/// Chains for each packet that can be held: so many that a new one mostly meets no other, whose key would have to be fetched.
const CHAINS_PER_ENTRY: usize = 4;

const NONE: u32 = u32::MAX;

/// What is known of a held packet, in two cache lines. The rest of its key is in `waiting.meta`.
#[derive(Clone, Copy, Debug)]
#[repr(align(64))]
struct Entry {
    waiting: Waiting,
    /// Where its chain begins in `chains`.
    chain: u32,
    /// The next entry of the chain.
    link: u32,
    next: u32,
    place: u32,
    /// Where its prefix is counted.
    prefix: u32,
    query_id: u16,
    len: u16,
}

const _: () = assert!(size_of::<Entry>() == 128);

impl Entry {
    #[inline]
    fn is_large(&self) -> bool {
        usize::from(self.len) > SMALL_BYTES
    }

    #[inline]
    fn key(&self) -> HoldKey {
        HoldKey::of(&self.waiting.meta, self.waiting.meta.service, self.query_id)
    }
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
    by_prefix: Prefixes,
    entries_max: usize,
    per_prefix_max: u32,
}

impl Holds {
    /// Takes the memory for `entries_max` packets, at most `per_prefix_max` of them from one /24 or /56.
    pub fn new(entries_max: usize, per_prefix_max: u32) -> Self {
        let entries_max = entries_max.clamp(1, ENTRIES_MAX);
        Self {
            entries: Vec::with_capacity(entries_max),
            free: Vec::with_capacity(entries_max),
            small: Places::new(entries_max, SMALL_BYTES),
            large: Places::new(entries_max.div_ceil(SMALL_PER_LARGE), LARGE_BYTES),
            queues: vec![Queue { head: NONE, tail: NONE, len: 0 }; SERVICES_MAX * CLASSES].into_boxed_slice(),
            by_service: vec![0; SERVICES_MAX].into_boxed_slice(),
            active: Vec::with_capacity(SERVICES_MAX * CLASSES),
            chains: vec![NONE; (entries_max * CHAINS_PER_ENTRY).next_power_of_two()].into_boxed_slice(),
            len: 0,
            hasher: DefaultHashBuilder::default(),
            by_prefix: Prefixes::new(entries_max),
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
        if parking.bytes.len() > LARGE_BYTES {
            return Err(Refusal::TooLong);
        }
        let service = parking.service;
        let key = HoldKey::of(parking.meta, service, parking.query_id);
        let chain = self.chain_of(&key);
        if let Some(position) = self.position(chain, &key) {
            return self.replace(position, parking);
        }
        if self.by_service[service.index()] >= parking.service_max {
            return Err(Refusal::ServiceFull);
        }
        let prefix = parking.meta.source.source_prefix();
        let of_prefix = self.by_prefix.find(prefix);
        if of_prefix.held >= self.per_prefix_max {
            return Err(Refusal::PrefixFull);
        }
        if self.len >= self.entries_max {
            return Err(Refusal::WorkerFull);
        }
        let places = self.places(parking.bytes.len());
        let place = places.take().ok_or(Refusal::WorkerFull)?;
        places.write(place, parking.bytes);
        let entry = Entry {
            waiting: Waiting {
                held: parking.held,
                trigger: parking.trigger,
                meta: Meta { service, ..*parking.meta },
                deadline: parking.deadline,
                asked: parking.asked,
            },
            chain,
            link: self.chains[chain as usize],
            next: NONE,
            place,
            prefix: self.by_prefix.add(prefix, of_prefix),
            query_id: parking.query_id,
            len: parking.bytes.len() as u16,
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
        self.head_id(line).map(|id| self.get(id).1)
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
            if entry.key() == *key {
                return Some(position);
            }
            position = entry.link;
        }
        None
    }

    /// A held packet and its bytes. `id` must come from [`Holds::find`] or [`Holds::detach`], and not be taken since.
    pub fn get(&self, id: HeldId) -> (&Waiting, &[u8]) {
        let entry = &self.entries[id.index()];
        let places = if entry.is_large() { &self.large } else { &self.small };
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
        let Entry { waiting, chain, link, place, prefix, len, .. } = self.entries[id.index()];
        self.by_service[waiting.meta.service.index()] -= 1;
        self.len -= 1;
        let chain = chain as usize;
        let mut before = self.chains[chain];
        if before == id.0 {
            self.chains[chain] = link;
        } else {
            while self.entries[before as usize].link != id.0 {
                before = self.entries[before as usize].link;
            }
            self.entries[before as usize].link = link;
        }
        self.by_prefix.remove(prefix);
        self.places(usize::from(len)).give(place);
        self.free.push(id.0);
    }

    /// Packets that can be held.
    pub fn capacity(&self) -> usize {
        self.entries_max
    }

    /// A repeated first packet: the newer bytes count, the place in the queue and the deadline stay.
    fn replace(&mut self, position: u32, parking: &Parking<'_>) -> Result<Parked, Refusal> {
        let Entry { mut place, len, .. } = self.entries[position as usize];
        let (before, now) = (usize::from(len), parking.bytes.len());
        if (before > SMALL_BYTES) != (now > SMALL_BYTES) {
            let larger_or_smaller = self.places(now).take().ok_or(Refusal::WorkerFull)?;
            self.places(before).give(std::mem::replace(&mut place, larger_or_smaller));
        }
        self.places(now).write(place, parking.bytes);
        let entry = &mut self.entries[position as usize];
        entry.place = place;
        entry.len = now as u16;
        entry.waiting.meta = Meta { service: parking.service, ..*parking.meta };
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

    /// The places for packets of that many bytes.
    #[inline]
    fn places(&mut self, len: usize) -> &mut Places {
        if len > SMALL_BYTES { &mut self.large } else { &mut self.small }
    }
}
