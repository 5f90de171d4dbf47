//! Fragments of packets to services and from instances (RFC 791 §3.2, RFC 8200 §4.5). Those in transit pass as they are.
//!
//! ```text
//!   any worker ─► the worker of (source, destination, protocol, id), where all fragments of a packet meet
//!                   first, with ports ─► classified as a whole packet is, and remembered ─► the flow's owner
//!                   later             ─► given the first's ports ─────────────────────────► the flow's owner: translated,
//!                                                                            or held behind its first (`park`)
//!                   later, first unknown, or not to be trusted ─► a named drop
//! ```
//!
//! Nothing is put together and nothing waits for its first: a fragment that overtakes it is lost, as on a network that loses
//! packets. Both steps go by the same rings, so the first stays ahead of the others.

use super::classify::{Drop, Next, past_us_by_port, to_us_by_port};
use super::encapsulate::{self, encapsulate};
use super::{Context, rewrite::rewrite_addresses};
use crate::addr::Addr;
use crate::clock::Nanos;
use crate::dns::Role;
use crate::driver::Frame;
use crate::flow::key::owner;
use crate::flow::{Direction, FlowTable};
use crate::packet::{Fragment, Kind, L3, Meta, Network, Packet};
use crate::tables::interfaces::Local;
use crate::tables::services::ServiceId;
use crate::wire::{TCP, UDP, ipv4, ipv6, tcp, udp};

/// Fragmented packets that a worker knows the flow of at a time.
pub const FRAGMENTED_MAX: usize = 1024;
/// How long one is remembered, in nanoseconds. Fragments follow one another at once; identifications of sixteen bits come
/// round again within seconds at high rates (RFC 4963).
pub const REMEMBERED_NANOS: u64 = 2_000_000_000;
/// Entries looked at for one packet.
const WAYS: usize = 4;

/// What fragments of one packet share. `hash` covers the identification, and is the keyed hash by which they meet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
struct Key {
    source: Addr,
    destination: Addr,
    hash: u64,
    protocol: u8,
}

/// What the first fragment told of its flow, and of what it does to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
struct First {
    flow_hash: u64,
    source_port: u16,
    destination_port: u16,
    tcp_flags: u8,
    owner: u16,
    service: ServiceId,
    is_return: bool,
}

#[derive(Clone, Copy, Debug, Default)]
struct Entry {
    key: Key,
    first: First,
    /// 0 when it was never used.
    deadline: Nanos,
}

/// First fragments that were seen lately, at the worker where their packets' fragments meet. Fixed in size; who comes to
/// a full set takes the place of the oldest.
#[derive(Debug)]
pub struct FragmentTable(Box<[[Entry; WAYS]]>);

impl Default for FragmentTable {
    fn default() -> Self {
        Self(vec![[Entry::default(); WAYS]; FRAGMENTED_MAX / WAYS].into_boxed_slice())
    }
}

impl FragmentTable {
    fn set(&mut self, key: &Key) -> &mut [Entry; WAYS] {
        // The upper half chose the worker.
        let at = key.hash as usize % self.0.len();
        &mut self.0[at]
    }

    /// Remembers a first fragment; whether another had to be forgotten for it before its time.
    fn insert(&mut self, key: Key, first: First, now: Nanos) -> bool {
        let set = self.set(&key);
        let way = match set.iter().position(|entry| entry.key == key) {
            Some(way) => way,
            None => (0..WAYS).min_by_key(|way| set[*way].deadline).unwrap_or(0),
        };
        let evicts = set[way].key != key && set[way].deadline > now;
        set[way] = Entry { key, first, deadline: now.plus(REMEMBERED_NANOS) };
        evicts
    }

    fn get(&mut self, key: &Key, now: Nanos) -> Option<First> {
        let set = self.set(key);
        set.iter().find(|entry| entry.key == *key && entry.deadline > now).map(|entry| entry.first)
    }
}

/// Decides about a fragment where it came in.
pub(super) fn classify(
    meta: &mut Meta,
    bytes: &[u8],
    local: Option<Local>,
    cx: &mut Context<'_>,
) -> Result<Next, Drop> {
    let may_be_of_a_flow =
        matches!(meta.protocol, TCP | UDP) && (local.is_some() || cx.tables.services.may_answer(meta.source));
    match place(meta, bytes) {
        Some((id, _)) if may_be_of_a_flow => {
            meta.kind = Kind::Gathering;
            meta.flow_hash = cx.hasher.hash_fragment(meta.source, meta.destination, meta.protocol, id);
            meta.owner = owner(meta.flow_hash, cx.workers) as u16;
            if usize::from(meta.owner) == cx.worker { gather(meta, bytes, cx) } else { Ok(Next::Aside) }
        }
        _ => apart(local, Drop::Fragment),
    }
}

/// Decides about a fragment where all of its packet's meet.
pub(super) fn gather(meta: &mut Meta, bytes: &[u8], cx: &mut Context<'_>) -> Result<Next, Drop> {
    let key = Key {
        source: meta.source,
        destination: meta.destination,
        hash: meta.flow_hash,
        protocol: meta.protocol,
    };
    let local = cx.tables.interfaces.local(meta.destination);
    (meta.kind, meta.flow_hash) = (Kind::Plain, 0);
    match meta.fragment {
        Fragment::First => {
            let next = match local {
                Some(local) => to_us_by_port(meta, local, cx)?,
                None => past_us_by_port(meta, cx)?,
            };
            match next {
                Next::Service => {
                    let first = First {
                        flow_hash: meta.flow_hash,
                        source_port: meta.source_port,
                        destination_port: meta.destination_port,
                        tcp_flags: meta.tcp_flags,
                        owner: meta.owner,
                        service: meta.service,
                        is_return: meta.is_return,
                    };
                    if cx.fragments.insert(key, first, cx.now) {
                        cx.counters.fates.fragments_evicted.add(1);
                    }
                    Ok(Next::Service)
                }
                // Nobody puts queries together, nor what tunnels bring; those of others aren't ours to refuse.
                Next::Dns(Role::Authoritative) | Next::Bier => Err(Drop::Fragment),
                Next::Dns(Role::Intercept) => Ok(Next::Transit),
                next => Ok(next),
            }
        }
        Fragment::Later => {
            let Some(first) = cx.fragments.get(&key, cx.now) else {
                return apart(local, Drop::FragmentOrphan);
            };
            if place(meta, bytes).is_none_or(|(_, offset)| offset < l4_header(meta.protocol)) {
                return Err(Drop::FragmentOverlap);
            }
            meta.kind = Kind::Following;
            meta.flow_hash = first.flow_hash;
            (meta.source_port, meta.destination_port) = (first.source_port, first.destination_port);
            meta.tcp_flags = first.tcp_flags;
            (meta.owner, meta.service, meta.is_return) = (first.owner, first.service, first.is_return);
            Ok(Next::Aside)
        }
        Fragment::FirstShort | Fragment::Whole => apart(local, Drop::FragmentShort),
    }
}

/// A fragment that no flow has to do with.
fn apart(local: Option<Local>, reason: Drop) -> Result<Next, Drop> {
    match local {
        None => Ok(Next::Transit),
        Some(local) if local.host && !local.service => Ok(Next::Host),
        Some(_) => Err(reason),
    }
}

/// Identification of a fragment's packet, and where the data belongs, in bytes.
pub(super) fn place(meta: &Meta, bytes: &[u8]) -> Option<(u32, usize)> {
    let ip = &bytes[L3..];
    if meta.network == Network::V4 {
        return Some((u32::from(ipv4::identification(ip)), ipv4::fragment_offset(ip)));
    }
    let fragment = ipv6::walk(ip, usize::from(meta.ip_len)).ok()?.fragment?;
    Some((fragment.id, fragment.offset))
}

/// What a later fragment must not write over: the header by which the first was classified (RFC 1858 §4.2).
fn l4_header(protocol: u8) -> usize {
    if protocol == TCP { tcp::HEADER } else { udp::HEADER }
}

/// Sends a later fragment the way of its first: translated, or carried whole. False, and nothing changed, when its flow isn't
/// known (any longer, or not yet: what is held has no flow).
///
/// # Errors
/// It can't be carried.
pub(super) fn follow<F: Frame>(
    packet: &mut Packet<F>,
    flows: &mut FlowTable,
    cx: &Context<'_>,
) -> Result<bool, encapsulate::Refusal> {
    let meta = &packet.meta;
    let source = (meta.source, meta.source_port);
    let destination = (meta.destination, meta.destination_port);
    let Some((position, direction)) = flows.find(meta.flow_hash, meta.protocol, source, destination) else {
        return Ok(false);
    };
    // Its first fragment has told how far the flow is.
    flows.get_mut(position).seen(cx.now);
    let flow = flows.get(position);
    if !flow.forwarding().is_two_way() {
        return encapsulate(packet, flow.forwarding(), flow.instance, cx).map(|()| true);
    }
    let (source, destination) = match direction {
        Direction::Forward => (flows.client_seen(position).0, flow.instance),
        Direction::Return => (flow.vip, flow.client),
    };
    rewrite_addresses(packet, source, destination);
    Ok(true)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(n: u64) -> Key {
        Key { hash: n, protocol: UDP, ..Key::default() }
    }

    fn first(port: u16) -> First {
        First { source_port: port, ..First::default() }
    }

    #[test]
    fn what_is_remembered_is_forgotten_at_its_deadline() {
        let mut table = FragmentTable::default();
        let now = Nanos(1_000_000_000);
        table.insert(key(5), first(7), now);
        assert_eq!(table.get(&key(5), now.plus(REMEMBERED_NANOS - 1)), Some(first(7)));
        assert_eq!(table.get(&key(5), now.plus(REMEMBERED_NANOS)), None);
        assert_eq!(table.get(&Key { protocol: TCP, ..key(5) }, now), None);
    }

    #[test]
    fn a_full_set_gives_up_its_oldest_and_a_repeated_first_takes_its_own_place() {
        let mut table = FragmentTable::default();
        let sets = (FRAGMENTED_MAX / WAYS) as u64;
        let at = |n: u64| Nanos(1_000_000_000 + n);
        for n in 0..WAYS as u64 {
            assert!(!table.insert(key(n * sets), first(n as u16), at(n)));
        }
        assert!(!table.insert(key(0), first(100), at(10)));
        assert!(table.insert(key(9 * sets), first(9), at(11)), "one is forgotten before its time");
        assert_eq!(table.get(&key(0), at(12)), Some(first(100)));
        assert_eq!(table.get(&key(sets), at(12)), None, "the oldest by then");
        for n in [2, 3, 9] {
            assert_eq!(table.get(&key(n * sets), at(12)), Some(first(n as u16)));
        }
    }
}
