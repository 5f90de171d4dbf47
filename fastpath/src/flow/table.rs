//! The flow table of one worker: fixed in size, one cache line a flow, no timers.
//!
//! ```text
//!   hash ─► bucket A [8 tags | 8 positions]  ─┐
//!       └─► bucket B [8 tags | 8 positions]  ─┴─► flows[position]   (64 bytes)
//! ```
//!
//! The index is a bucketed table; a bucket is one cache line. An entry stands in its first bucket, or in its second where
//! the first was full: with buckets a quarter full on average few are, so a known flow costs two lines of memory, one for the
//! bucket and one for the flow, and a vector of packets waits for all of its lines at once. A flow has one entry, by its
//! client's side; where the source is translated, a second one, by the appliance's side. Expiry is a slow sweep over the
//! flows.
//!
//! When there is no room, the flow makes it that was silent longest of those within reach with the lowest
//! [`Standing`]. One whose client has shown to be there makes room for nobody: whoever forges addresses can drive out whoever
//! else forges them, and clients who are about to be answered, but no connection. Where all within reach stand too high,
//! the new flow is refused. One whose answers don't come by here can do without an entry, so it drives out less than another.

use std::cmp::Reverse;

use super::entry::{Direction, Flow, Opening, Standing};
use crate::addr::Addr;
use crate::clock::Nanos;
use crate::driver::Frame;
use crate::tables::services::{InstanceSlotId, ServiceId};
use crate::wire::TCP;

const WAYS: usize = 8;
/// Marks an index entry as the appliance's side of a flow.
const NAT_SIDE: u32 = 1 << 31;
/// Flows looked at for one to give up, when those in a new flow's own buckets can't be: a few lines of memory. The next new
/// flow looks further on.
const SEARCH_MAX: usize = 16;
/// From one to the next: the golden ratio, by which any number of them are spread evenly.
const SEARCH_STEP: u64 = 0x9e37_79b9_7f4a_7c15;
/// Flows one worker can be given; positions have to leave a bit for the side.
pub const FLOWS_MAX: usize = 1 << 26;

#[derive(Clone, Copy, Debug, Default)]
#[repr(C, align(64))]
struct Bucket {
    tags: [u16; WAYS],
    entries: [u32; WAYS],
    /// Entries that stand in their second bucket because this one, their first, was full. While there are none, whoever isn't
    /// found here is nowhere: a new flow, or a flood's packet, costs one line of memory and not two.
    elsewhere: u32,
}

const _: () = assert!(size_of::<Bucket>() == 64);

impl Bucket {
    /// The ways that have this tag.
    #[inline(always)]
    fn ways_of(&self, tag: u16) -> impl Iterator<Item = usize> + use<> {
        // All eight compared at once: this becomes one vector instruction and its mask.
        let mut mask = 0u32;
        for way in 0..WAYS {
            mask |= u32::from(self.tags[way] == tag) << way;
        }
        std::iter::from_fn(move || {
            let way = mask.trailing_zeros() as usize;
            mask &= mask.wrapping_sub(1);
            (way < WAYS).then_some(way)
        })
    }
}

/// Where a flow most likely is, as [`FlowTable::candidate`] saw it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Candidate(u32);

impl Candidate {
    /// Nowhere near. No entry: positions stay below [`FLOWS_MAX`].
    pub const NONE: Candidate = Candidate(u32::MAX);
}

/// A flow that left the table, for the counters of its service and instance.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Gone {
    /// Its service.
    pub service: ServiceId,
    /// Its instance.
    pub instance_slot: InstanceSlotId,
}

/// The flows of one worker.
#[derive(Debug)]
pub struct FlowTable {
    buckets: Box<[Bucket]>,
    flows: Box<[Flow]>,
    /// Beside the flows, touched only for those with a translated source.
    nat_addrs: Box<[Addr]>,
    /// Both index hashes of a flow, touched when it leaves.
    hashes: Box<[[u64; 2]]>,
    free: Vec<u32>,
    in_use: usize,
    used_max: usize,
    sweep_at: usize,
    /// As a part of the table's length, in 2⁻⁶⁴.
    search_at: u64,
}

impl FlowTable {
    /// Takes the memory for `flows` flows (at most [`FLOWS_MAX`]).
    pub fn new(flows: usize) -> Self {
        let flows = flows.clamp(1, FLOWS_MAX);
        // Twice as many entries as flows, so that both sides of each fit and buckets stay half empty.
        let buckets = (flows * 4 / WAYS).next_power_of_two().max(2);
        Self {
            buckets: vec![Bucket::default(); buckets].into_boxed_slice(),
            flows: vec![Flow::NONE; flows].into_boxed_slice(),
            nat_addrs: vec![Addr::default(); flows].into_boxed_slice(),
            hashes: vec![[0; 2]; flows].into_boxed_slice(),
            free: Vec::with_capacity(flows),
            in_use: 0,
            used_max: 0,
            sweep_at: 0,
            search_at: 0,
        }
    }

    /// Flows now.
    pub fn len(&self) -> usize {
        self.in_use
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.in_use == 0
    }

    /// Flows that fit.
    pub fn capacity(&self) -> usize {
        self.flows.len()
    }

    /// Asks memory for the bucket that a hash most likely leads to. Three steps over a vector of packets, so that its
    /// lines of memory arrive together: this one, [`FlowTable::candidate`], and [`FlowTable::find_from`].
    #[inline(always)]
    pub fn prefetch_bucket<F: Frame>(&self, hash: u64) {
        F::prefetch(&self.buckets[self.first(hash)]);
    }

    /// The flow that a hash most likely leads to, which memory is asked for.
    #[inline(always)]
    pub fn candidate<F: Frame>(&self, hash: u64) -> Candidate {
        let bucket = &self.buckets[self.first(hash)];
        match bucket.ways_of(tag(hash)).next() {
            Some(way) => {
                let entry = bucket.entries[way];
                F::prefetch(&self.flows[(entry & !NAT_SIDE) as usize]);
                Candidate(entry)
            }
            None => Candidate::NONE,
        }
    }

    /// [`FlowTable::find`], with the likely place looked at first. Whatever happened to the table since the candidate
    /// was taken, what is found is right: the flow itself is compared.
    #[inline(always)]
    pub fn find_from(
        &self,
        candidate: Candidate,
        hash: u64,
        protocol: u8,
        source: (Addr, u16),
        destination: (Addr, u16),
    ) -> Option<(u32, Direction)> {
        if candidate != Candidate::NONE {
            let found = self.compare(candidate.0, protocol, source, destination);
            if found.is_some() {
                return found;
            }
        }
        self.find(hash, protocol, source, destination)
    }

    /// The flow that a packet belongs to. `hash` is that of the packet's source for a packet to a service, that of its
    /// destination for one from an instance; `source` and `destination` are the packet's own.
    pub fn find(
        &self,
        hash: u64,
        protocol: u8,
        source: (Addr, u16),
        destination: (Addr, u16),
    ) -> Option<(u32, Direction)> {
        let [first, second] = self.candidates(hash).map(|bucket| &self.buckets[bucket]);
        let find_in = |bucket: &Bucket| {
            let mut ways = bucket.ways_of(tag(hash));
            ways.find_map(|way| self.compare(bucket.entries[way], protocol, source, destination))
        };
        match find_in(first) {
            None if first.elsewhere > 0 => find_in(second),
            found => found,
        }
    }

    /// Whether an entry leads to the flow of a packet, and which way the packet goes.
    #[inline(always)]
    fn compare(
        &self,
        entry: u32,
        protocol: u8,
        source: (Addr, u16),
        destination: (Addr, u16),
    ) -> Option<(u32, Direction)> {
        let position = entry & !NAT_SIDE;
        let flow = &self.flows[position as usize];
        if !flow.is_of(protocol) {
            return None;
        }
        let client = (flow.client, flow.client_port);
        let instance = (flow.instance, flow.instance_port);
        if entry & NAT_SIDE != 0 {
            let own = (self.nat_addrs[position as usize], flow.nat_port);
            return (source == instance && destination == own).then_some((position, Direction::Return));
        }
        if source == client && destination == (flow.vip, flow.vip_port) {
            Some((position, Direction::Forward))
        } else if flow.nat_port == 0 && destination == client && source == instance {
            Some((position, Direction::Return))
        } else {
            None
        }
    }

    /// A flow by the position that [`FlowTable::find`] gave.
    #[inline]
    pub fn get(&self, position: u32) -> &Flow {
        &self.flows[position as usize]
    }

    /// The appliance's address towards the instance of a flow with a `nat_port`.
    #[inline]
    pub fn nat_addr(&self, position: u32) -> Addr {
        self.nat_addrs[position as usize]
    }

    /// Address and port that the instance sees the client of a flow by.
    #[inline(always)]
    pub fn client_seen(&self, position: u32) -> (Addr, u16) {
        let flow = self.get(position);
        match flow.nat_port {
            0 => (flow.client, flow.client_port),
            port => (self.nat_addr(position), port),
        }
    }

    /// A flow by its position, to note what went by.
    #[inline]
    pub fn get_mut(&mut self, position: u32) -> &mut Flow {
        &mut self.flows[position as usize]
    }

    /// Adds a flow and returns its position; `None` when there is no room for it. Flows that have to leave for it are told
    /// to `on_gone`: at most one for its place and one for each of its sides.
    pub fn insert(
        &mut self,
        hash: u64,
        opening: &Opening,
        now: Nanos,
        mut on_gone: impl FnMut(Gone),
    ) -> Option<u32> {
        let connects = opening.protocol == TCP && opening.forwarding.is_two_way();
        let spared = if connects { Standing::Proven } else { Standing::OneWay };
        let position = self.place(hash, spared, now, &mut on_gone)?;
        self.in_use += 1;
        self.flows[position as usize] = Flow::new(opening, now);
        self.hashes[position as usize] = [hash, 0];
        let mut linked = self.link(hash, position, spared, now, &mut on_gone);
        if let Some((addr, _, nat_hash)) = opening.nat {
            self.nat_addrs[position as usize] = addr;
            self.hashes[position as usize][1] = nat_hash;
            linked = linked && self.link(nat_hash, position | NAT_SIDE, spared, now, &mut on_gone);
        }
        if !linked {
            // It was never there, so nobody is told that it is gone.
            self.remove(position);
            return None;
        }
        Some(position)
    }

    /// A place for a flow of this hash: a free one, a fresh one, or that of one that stands below `spared`, in its buckets
    /// or among the next few that the search has come to.
    fn place(
        &mut self,
        hash: u64,
        spared: Standing,
        now: Nanos,
        on_gone: &mut impl FnMut(Gone),
    ) -> Option<u32> {
        if let Some(position) = self.free.pop() {
            return Some(position);
        }
        if self.used_max < self.flows.len() {
            self.used_max += 1;
            return Some((self.used_max - 1) as u32);
        }
        let given_up = self.least(hash, spared, now, None).or_else(|| self.search(spared, now))?;
        on_gone(self.unlink(given_up));
        Some(given_up)
    }

    /// The lowest of the next [`SEARCH_MAX`] flows in the table, if it stands below `spared`. They lie far apart: those that
    /// were begun together, and are as well proven, lie together.
    fn search(&mut self, spared: Standing, now: Nanos) -> Option<u32> {
        let mut lowest: Option<(Standing, u32)> = None;
        for _ in 0..SEARCH_MAX {
            self.search_at = self.search_at.wrapping_add(SEARCH_STEP);
            let position = ((u128::from(self.search_at) * self.flows.len() as u128) >> 64) as u32;
            let standing = self.flows[position as usize].standing(now);
            if standing < lowest.map_or(spared, |(lowest, _)| lowest) {
                lowest = Some((standing, position));
            }
        }
        lowest.map(|(_, position)| position)
    }

    /// Removes a flow.
    pub fn remove(&mut self, position: u32) -> Gone {
        let gone = self.unlink(position);
        self.free.push(position);
        gone
    }

    /// Looks at the next `budget` flows and removes those that have been silent for too long. `on_gone` is given each as
    /// it was.
    pub fn sweep(&mut self, budget: usize, now: Nanos, mut on_gone: impl FnMut(Flow, Gone)) {
        for _ in 0..budget.min(self.used_max) {
            if self.sweep_at >= self.used_max {
                self.sweep_at = 0;
            }
            let position = self.sweep_at as u32;
            self.sweep_at += 1;
            let flow = &self.flows[position as usize];
            if flow.is_some() && flow.has_expired(now) {
                let flow = *flow;
                on_gone(flow, self.remove(position));
            }
        }
    }

    /// The flows at some of the places, for who looks at all of them step by step.
    pub fn range(&self, places: std::ops::Range<usize>) -> impl Iterator<Item = (u32, &Flow)> {
        let end = places.end.min(self.used_max);
        let start = places.start.min(end);
        (start..end).map(|place| (place as u32, &self.flows[place])).filter(|(_, flow)| flow.is_some())
    }

    /// The place behind the last that was ever in use.
    pub fn places(&self) -> usize {
        self.used_max
    }

    #[inline(always)]
    fn first(&self, hash: u64) -> usize {
        hash as usize & (self.buckets.len() - 1)
    }

    #[inline]
    fn candidates(&self, hash: u64) -> [usize; 2] {
        let mask = self.buckets.len() - 1;
        let first = self.first(hash);
        // The second choice depends on the tag, not on the first bucket, and is never the same bucket.
        let second = (first ^ (1 + (usize::from(tag(hash)).wrapping_mul(0x5bd1) & (mask >> 1)))) & mask;
        [first, second]
    }

    /// Puts an entry into one of its buckets; false when both are full of flows that are spared.
    fn link(
        &mut self,
        hash: u64,
        entry: u32,
        spared: Standing,
        now: Nanos,
        on_gone: &mut impl FnMut(Gone),
    ) -> bool {
        let [first, second] = self.candidates(hash);
        let has_room = |table: &Self, bucket: usize| table.buckets[bucket].tags.contains(&0);
        if !has_room(self, first) && !has_room(self, second) {
            let Some(given_up) = self.least(hash, spared, now, Some(entry & !NAT_SIDE)) else { return false };
            on_gone(self.remove(given_up));
        }
        let target = if has_room(self, first) {
            first
        } else {
            self.buckets[first].elsewhere += 1;
            second
        };
        let bucket = &mut self.buckets[target];
        let way = bucket.tags.iter().position(|tag| *tag == 0).expect("one of the buckets has room by now");
        bucket.tags[way] = tag(hash);
        bucket.entries[way] = entry;
        true
    }

    /// The lowest flow in these buckets that stands below `spared`, other than `except`, and of several the one that was
    /// silent longest.
    fn least(&self, hash: u64, spared: Standing, now: Nanos, except: Option<u32>) -> Option<u32> {
        let mut best: Option<(Standing, Reverse<u16>, u32)> = None;
        for bucket in self.candidates(hash) {
            let bucket = &self.buckets[bucket];
            for way in 0..WAYS {
                let position = bucket.entries[way] & !NAT_SIDE;
                if bucket.tags[way] == 0 || except == Some(position) {
                    continue;
                }
                let flow = &self.flows[position as usize];
                let worth = (flow.standing(now), Reverse(flow.age(now)), position);
                if worth.0 < spared && best.is_none_or(|best| worth < best) {
                    best = Some(worth);
                }
            }
        }
        best.map(|(.., position)| position)
    }

    fn unlink(&mut self, position: u32) -> Gone {
        let flow = self.flows[position as usize];
        let [hash, nat_hash] = self.hashes[position as usize];
        self.clear(hash, position);
        if flow.nat_port != 0 {
            self.clear(nat_hash, position | NAT_SIDE);
        }
        self.flows[position as usize] = Flow::NONE;
        self.in_use -= 1;
        Gone { service: flow.service, instance_slot: flow.instance_slot() }
    }

    fn clear(&mut self, hash: u64, entry: u32) {
        let [first, second] = self.candidates(hash);
        for at in [first, second] {
            let bucket = &mut self.buckets[at];
            for way in 0..WAYS {
                if bucket.tags[way] != 0 && bucket.entries[way] == entry {
                    bucket.tags[way] = 0;
                    if at == second {
                        self.buckets[first].elsewhere -= 1;
                    }
                    return;
                }
            }
        }
    }
}

/// Sixteen bits of the hash that an empty way can't have.
#[inline]
fn tag(hash: u64) -> u16 {
    // Bits that the bucket's position doesn't use, for any table that fits in memory.
    ((hash >> 48) as u16).max(1)
}

#[cfg(test)]
mod tests;
