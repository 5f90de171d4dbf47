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
//! client's side; where the source is translated, a second one, by the appliance's side. When both buckets are full the
//! entry least recently used makes room. Expiry is a slow sweep over the flows.

use crate::addr::Addr;
use crate::clock::Nanos;
use crate::driver::Frame;
use crate::tables::services::{Forwarding, INSTANCES_MAX, InstanceSlotId, ServiceId};
use crate::wire::{TCP, UDP, tcp};

const WAYS: usize = 8;
/// Marks an index entry as the appliance's side of a flow.
const NAT_SIDE: u32 = 1 << 31;
/// Flows one worker can be given; positions have to leave a bit for the side.
pub const FLOWS_MAX: usize = 1 << 26;

/// Seconds without a packet after which a flow is forgotten: a SYN that was never answered,
pub const NEW_SECONDS: u16 = 10;
/// an established TCP connection (idle ones are kept alive by their ends within this, or they are gone),
pub const ESTABLISHED_SECONDS: u16 = 3600;
/// one of which only the client's side comes by (the instance's end of it isn't seen; IPVS gives as much),
pub const ONE_WAY_SECONDS: u16 = 900;
/// one that one side has closed (RFC 5382 §5 asks for four minutes in such a state),
pub const HALF_CLOSED_SECONDS: u16 = 240;
/// one that was closed (RFC 9293 asks two segment lifetimes of the ends; the middle has only to see the last ACK),
pub const CLOSING_SECONDS: u16 = 10;
/// and a UDP conversation (RFC 4787 §4.3 asks for two minutes at least).
pub const UDP_SECONDS: u16 = 120;

/// How far a flow is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
#[repr(u8)]
pub enum FlowState {
    /// Only the client has been heard, opening a connection or sending a datagram.
    #[default]
    New,
    /// Only the client has been heard, in the middle of a connection that isn't known.
    Joined,
    /// Both sides have been heard.
    Established,
    /// The client has sent its FIN; the instance may go on (RFC 9293 §3.6).
    ClientDone,
    /// The instance has sent its FIN; the client may go on.
    InstanceDone,
    /// Both have sent their FIN, or one a RST.
    Closing,
}

impl FlowState {
    /// The name that operators see.
    pub fn name(self) -> &'static str {
        match self {
            FlowState::New => "new",
            FlowState::Joined => "joined",
            FlowState::Established => "established",
            FlowState::ClientDone | FlowState::InstanceDone => "half-closed",
            FlowState::Closing => "closing",
        }
    }
}

/// A flow; one cache line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C, align(64))]
pub struct Flow {
    /// The client's address.
    pub client: Addr,
    /// The service's address.
    pub vip: Addr,
    /// The instance's address.
    pub instance: Addr,
    /// The client's port.
    pub client_port: u16,
    /// The service's port.
    pub vip_port: u16,
    /// The instance's port.
    pub instance_port: u16,
    /// The appliance's port towards the instance; 0 where the client's address is kept.
    pub nat_port: u16,
    /// The service.
    pub service: ServiceId,
    last_seconds: u16,
    /// The instance's slot, for counting, and below it [`PROTOCOL`], [`STATE`], [`FORWARDING`] and [`SPLICED`].
    packed: u32,
}

/// Of `Flow::packed`: which protocol, 0 for a place without a flow.
const PROTOCOL: u32 = 0b11;
/// Of `Flow::packed`: [`FlowState`].
const STATE: u32 = 0b111 << STATE_AT;
const STATE_AT: u32 = 2;
/// Of `Flow::packed`: [`Forwarding`].
const FORWARDING: u32 = 0b11 << FORWARDING_AT;
const FORWARDING_AT: u32 = 5;
/// Of `Flow::packed`: its packets need more than other addresses.
const SPLICED: u32 = 1 << 7;
/// Where the slot begins.
const SLOT_AT: u32 = 8;

const _: () = assert!(size_of::<Flow>() == 64);
const _: () = assert!(INSTANCES_MAX <= 1 << (u32::BITS - SLOT_AT), "a slot fits beside the rest");

/// A transport protocol in two bits; services have no others.
#[inline(always)]
fn code(protocol: u8) -> u32 {
    match protocol {
        TCP => 1,
        UDP => 2,
        _ => 3,
    }
}

/// Which way a packet of a flow goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// Client to instance.
    Forward,
    /// Instance to client.
    Return,
}

/// What a new flow is made of.
#[derive(Clone, Copy, Debug)]
pub struct Opening {
    /// Transport protocol.
    pub protocol: u8,
    /// Client address and port.
    pub client: (Addr, u16),
    /// Service address and port.
    pub vip: (Addr, u16),
    /// Instance address and port.
    pub instance: (Addr, u16),
    /// Appliance address and port, and their hash, where the source is translated.
    pub nat: Option<(Addr, u16, u64)>,
    /// The service.
    pub service: ServiceId,
    /// The instance's slot.
    pub instance_slot: InstanceSlotId,
    /// How packets get to it.
    pub forwarding: Forwarding,
    /// [`FlowState::New`], or [`FlowState::Joined`].
    pub state: FlowState,
}

/// What a packet tells of whether the instance takes connections.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Handshake {
    /// It has answered the first packet of a flow.
    Answered,
    /// It has refused it, with a RST.
    Refused,
}

#[derive(Clone, Copy, Debug, Default)]
#[repr(C, align(64))]
struct Bucket {
    tags: [u16; WAYS],
    entries: [u32; WAYS],
}

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
    /// A connection was asked for, and nothing came back from the instance in all the time that it had.
    pub unanswered: bool,
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
}

impl FlowTable {
    /// Takes the memory for `flows` flows (at most [`FLOWS_MAX`]).
    pub fn new(flows: usize) -> Self {
        let flows = flows.clamp(1, FLOWS_MAX);
        // Twice as many entries as flows, so that both sides of each fit and buckets stay half empty.
        let buckets = (flows * 4 / WAYS).next_power_of_two().max(2);
        Self {
            buckets: vec![Bucket::default(); buckets].into_boxed_slice(),
            flows: vec![EMPTY; flows].into_boxed_slice(),
            nat_addrs: vec![Addr::default(); flows].into_boxed_slice(),
            hashes: vec![[0; 2]; flows].into_boxed_slice(),
            free: Vec::with_capacity(flows),
            in_use: 0,
            used_max: 0,
            sweep_at: 0,
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
        self.candidates(hash).into_iter().find_map(|bucket| {
            let bucket = &self.buckets[bucket];
            bucket
                .ways_of(tag(hash))
                .find_map(|way| self.compare(bucket.entries[way], protocol, source, destination))
        })
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
        if flow.packed & PROTOCOL != code(protocol) {
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

    /// Notes that a packet of the flow went by, and what it tells of the instance.
    #[inline]
    pub fn touch(
        &mut self,
        position: u32,
        direction: Direction,
        tcp_flags: u8,
        now: Nanos,
    ) -> Option<Handshake> {
        let flow = &mut self.flows[position as usize];
        flow.seen(now);
        if flow.packed & PROTOCOL == code(TCP) && tcp_flags & (tcp::FIN | tcp::RST) != 0 {
            return flow.end(direction, tcp_flags & tcp::RST != 0);
        }
        if direction == Direction::Return && flow.packed & STATE <= (FlowState::Joined as u32) << STATE_AT {
            let answered = flow.state() == FlowState::New;
            flow.set_state(FlowState::Established);
            return answered.then_some(Handshake::Answered);
        }
        None
    }

    /// The same for a flow whose instance answers past us: the client's packets alone tell how far it is.
    pub fn touch_one_way(&mut self, position: u32, tcp_flags: u8, now: Nanos) {
        let flow = &mut self.flows[position as usize];
        flow.seen(now);
        if flow.packed & PROTOCOL != code(TCP) {
            return;
        }
        if tcp_flags & (tcp::FIN | tcp::RST) != 0 {
            flow.end(Direction::Forward, tcp_flags & tcp::RST != 0);
        } else if flow.state() == FlowState::New && tcp_flags & tcp::SYN == 0 {
            // The client has something to acknowledge, or to send.
            flow.set_state(FlowState::Established);
        }
    }

    /// Marks a flow as spliced: its packets need more than other addresses. The SYN that opens it towards the instance is still
    /// to come, whatever the client has said already.
    pub fn set_spliced(&mut self, position: u32) {
        let flow = &mut self.flows[position as usize];
        flow.set_state(FlowState::New);
        flow.packed |= SPLICED;
    }

    /// Whether a SYN on this flow begins a new connection rather than repeating the old one's.
    pub fn is_closing(&self, position: u32) -> bool {
        !matches!(self.flows[position as usize].state(), FlowState::New | FlowState::Established)
    }

    /// Adds a flow and returns its position. Flows that have to leave for it are told to `on_gone`: at most one for its
    /// place and one for each of its sides.
    pub fn insert(&mut self, hash: u64, opening: &Opening, now: Nanos, mut on_gone: impl FnMut(Gone)) -> u32 {
        let position = self.place(hash, now, &mut on_gone);
        self.in_use += 1;
        self.flows[position as usize] = Flow {
            client: opening.client.0,
            vip: opening.vip.0,
            instance: opening.instance.0,
            client_port: opening.client.1,
            vip_port: opening.vip.1,
            instance_port: opening.instance.1,
            nat_port: opening.nat.map_or(0, |(_, port, _)| port),
            service: opening.service,
            last_seconds: seconds(now),
            packed: code(opening.protocol)
                | (opening.state as u32) << STATE_AT
                | (opening.forwarding as u32) << FORWARDING_AT
                | opening.instance_slot.0 << SLOT_AT,
        };
        self.hashes[position as usize] = [hash, 0];
        self.link(hash, position, now, &mut on_gone);
        if let Some((addr, _, nat_hash)) = opening.nat {
            self.nat_addrs[position as usize] = addr;
            self.hashes[position as usize][1] = nat_hash;
            self.link(nat_hash, position | NAT_SIDE, now, &mut on_gone);
        }
        position
    }

    /// A place for a flow of this hash: a free one, a fresh one, or that of the oldest flow in its buckets.
    fn place(&mut self, hash: u64, now: Nanos, on_gone: &mut impl FnMut(Gone)) -> u32 {
        if let Some(position) = self.free.pop() {
            return position;
        }
        if self.used_max < self.flows.len() {
            self.used_max += 1;
            return (self.used_max - 1) as u32;
        }
        // Without a flow in its own buckets, whichever the sweep looks at next: every place is in use here.
        let oldest = self.oldest(hash, now, None).unwrap_or((self.sweep_at % self.flows.len()) as u32);
        on_gone(self.unlink(oldest));
        oldest
    }

    /// Removes a flow.
    pub fn remove(&mut self, position: u32) -> Gone {
        let gone = self.unlink(position);
        self.free.push(position);
        gone
    }

    /// Looks at the next `budget` flows and removes those that have been silent for too long.
    pub fn sweep(&mut self, budget: usize, now: Nanos, mut on_gone: impl FnMut(Gone)) {
        for _ in 0..budget.min(self.used_max) {
            if self.sweep_at >= self.used_max {
                self.sweep_at = 0;
            }
            let position = self.sweep_at as u32;
            self.sweep_at += 1;
            let flow = &self.flows[position as usize];
            if flow.is_some() && age(flow, now) >= timeout(flow) {
                let unanswered = flow.is_unanswered();
                on_gone(Gone { unanswered, ..self.remove(position) });
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

    fn link(&mut self, hash: u64, entry: u32, now: Nanos, on_gone: &mut impl FnMut(Gone)) {
        let [first, second] = self.candidates(hash);
        let has_room = |table: &Self, bucket: usize| table.buckets[bucket].tags.contains(&0);
        if !has_room(self, first) && !has_room(self, second) {
            let oldest = self.oldest(hash, now, Some(entry & !NAT_SIDE));
            on_gone(
                self.remove(oldest.expect("a flow fills at most two of sixteen ways, so another is there")),
            );
        }
        let target = if has_room(self, first) { first } else { second };
        let bucket = &mut self.buckets[target];
        let way = bucket.tags.iter().position(|tag| *tag == 0).expect("one of the buckets has room by now");
        bucket.tags[way] = tag(hash);
        bucket.entries[way] = entry;
    }

    /// The flow of these buckets that was silent longest, other than `except`.
    fn oldest(&self, hash: u64, now: Nanos, except: Option<u32>) -> Option<u32> {
        let mut best: Option<(u16, u32)> = None;
        for bucket in self.candidates(hash) {
            let bucket = &self.buckets[bucket];
            for way in 0..WAYS {
                let position = bucket.entries[way] & !NAT_SIDE;
                if bucket.tags[way] == 0 || except == Some(position) {
                    continue;
                }
                let age = age(&self.flows[position as usize], now);
                if best.is_none_or(|(oldest, _)| age > oldest) {
                    best = Some((age, position));
                }
            }
        }
        best.map(|(_, position)| position)
    }

    fn unlink(&mut self, position: u32) -> Gone {
        let flow = self.flows[position as usize];
        let [hash, nat_hash] = self.hashes[position as usize];
        self.clear(hash, position);
        if flow.nat_port != 0 {
            self.clear(nat_hash, position | NAT_SIDE);
        }
        self.flows[position as usize].packed = 0;
        self.in_use -= 1;
        // One that leaves before its time was given no chance.
        Gone { service: flow.service, instance_slot: flow.instance_slot(), unanswered: false }
    }

    fn clear(&mut self, hash: u64, entry: u32) {
        for bucket in self.candidates(hash) {
            let bucket = &mut self.buckets[bucket];
            for way in 0..WAYS {
                if bucket.tags[way] != 0 && bucket.entries[way] == entry {
                    bucket.tags[way] = 0;
                    return;
                }
            }
        }
    }
}

const EMPTY: Flow = Flow {
    client: Addr(0),
    vip: Addr(0),
    instance: Addr(0),
    client_port: 0,
    vip_port: 0,
    instance_port: 0,
    nat_port: 0,
    service: ServiceId(0),
    last_seconds: 0,
    packed: 0,
};

impl Flow {
    /// Transport protocol number.
    #[inline]
    pub fn protocol(&self) -> u8 {
        if self.packed & PROTOCOL == code(TCP) { TCP } else { UDP }
    }

    /// Whether it is [spliced](crate::splice).
    #[inline]
    pub fn is_spliced(&self) -> bool {
        self.packed & SPLICED != 0
    }

    /// How far it is.
    pub fn state(&self) -> FlowState {
        const STATES: [FlowState; 6] = [
            FlowState::New,
            FlowState::Joined,
            FlowState::Established,
            FlowState::ClientDone,
            FlowState::InstanceDone,
            FlowState::Closing,
        ];
        STATES.get(((self.packed & STATE) >> STATE_AT) as usize).copied().unwrap_or_default()
    }

    /// How its packets get to the instance.
    #[inline]
    pub fn forwarding(&self) -> Forwarding {
        match (self.packed & FORWARDING) >> FORWARDING_AT {
            0 => Forwarding::Nat,
            1 => Forwarding::L2,
            2 => Forwarding::Ipip,
            _ => Forwarding::Gue,
        }
    }

    /// The instance's slot, for counting.
    pub fn instance_slot(&self) -> InstanceSlotId {
        InstanceSlotId(self.packed >> SLOT_AT)
    }

    /// Seconds since its last packet.
    pub fn idle_seconds(&self, now: Nanos) -> u32 {
        u32::from(age(self, now))
    }

    fn is_some(&self) -> bool {
        self.packed & PROTOCOL != 0
    }

    /// A connection was asked for, and the instance has said nothing; of one that answers past us nobody can tell.
    fn is_unanswered(&self) -> bool {
        self.protocol() == TCP && self.state() == FlowState::New && self.forwarding().is_two_way()
    }

    fn set_state(&mut self, state: FlowState) {
        self.packed = self.packed & !STATE | (state as u32) << STATE_AT;
    }

    #[inline(always)]
    fn seen(&mut self, now: Nanos) {
        let now = seconds(now);
        if self.last_seconds != now {
            // Once a second and not with each packet: a line that isn't written needn't be written back to memory.
            self.last_seconds = now;
        }
    }

    /// A FIN or a RST went by.
    fn end(&mut self, direction: Direction, reset: bool) -> Option<Handshake> {
        let state = self.state();
        self.set_state(match (state, direction) {
            _ if reset => FlowState::Closing,
            (FlowState::Closing, _)
            | (FlowState::InstanceDone, Direction::Forward)
            | (FlowState::ClientDone, Direction::Return) => FlowState::Closing,
            (_, Direction::Forward) => FlowState::ClientDone,
            (_, Direction::Return) => FlowState::InstanceDone,
        });
        let refused = reset && direction == Direction::Return && state == FlowState::New;
        refused.then_some(Handshake::Refused)
    }
}

/// Sixteen bits of the hash that an empty way can't have.
#[inline]
fn tag(hash: u64) -> u16 {
    // Bits that the bucket's position doesn't use, for any table that fits in memory.
    ((hash >> 48) as u16).max(1)
}

/// Seconds, wrapping after 18 hours; ages stay far below that.
#[inline]
fn seconds(now: Nanos) -> u16 {
    (now.0 / 1_000_000_000) as u16
}

fn age(flow: &Flow, now: Nanos) -> u16 {
    seconds(now).wrapping_sub(flow.last_seconds)
}

fn timeout(flow: &Flow) -> u16 {
    if flow.protocol() != TCP {
        return UDP_SECONDS;
    }
    match flow.state() {
        FlowState::New | FlowState::Joined => NEW_SECONDS,
        FlowState::Established if !flow.forwarding().is_two_way() => ONE_WAY_SECONDS,
        FlowState::Established => ESTABLISHED_SECONDS,
        FlowState::ClientDone | FlowState::InstanceDone => HALF_CLOSED_SECONDS,
        FlowState::Closing => CLOSING_SECONDS,
    }
}

#[cfg(test)]
mod tests;
