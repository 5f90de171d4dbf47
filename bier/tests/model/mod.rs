//! BIER from the text of RFC 8279 and 8296, slowly, with sets of numbers. Nothing here is shared with the crate.

#![allow(dead_code, unreachable_pub, reason = "each test binary uses its own part of this")]

use std::collections::{BTreeMap, BTreeSet};

pub type Bits = BTreeSet<u32>;

/// A network: who speaks BIER, and what it costs to go from one router to another by each link.
pub struct Network {
    pub speaks: Vec<bool>,
    pub links: Vec<(usize, usize, u64)>,
}

impl Network {
    /// Distances from one router, by trying all links until nothing gets shorter.
    pub fn distances(&self, from: usize) -> Vec<Option<u64>> {
        let mut distance = vec![None; self.speaks.len()];
        distance[from] = Some(0);
        loop {
            let mut shorter = false;
            for (tail, head, cost) in &self.links {
                let Some(through) = distance[*tail].map(|far: u64| far + cost) else { continue };
                if distance[*head].is_none_or(|far| through < far) {
                    distance[*head] = Some(through);
                    shorter = true;
                }
            }
            if !shorter {
                return distance;
            }
        }
    }

    /// Section 6.9: for each router, the BIER routers that may be the next hop to it. Those without BIER are taken
    /// out of the tree of shortest paths and their children tied to their parent.
    pub fn next_hops(&self, from: usize) -> Vec<BTreeSet<usize>> {
        let distance = self.distances(from);
        let mut children = vec![BTreeSet::new(); self.speaks.len()];
        for (tail, head, cost) in &self.links {
            if let (Some(far), Some(to)) = (distance[*tail], distance[*head])
                && far + cost == to
            {
                children[*tail].insert(*head);
            }
        }
        let (mut open, mut tied) = (children[from].clone(), BTreeSet::new());
        let mut seen = BTreeSet::new();
        while let Some(router) = open.pop_first() {
            if !seen.insert(router) {
                continue;
            }
            if self.speaks[router] {
                tied.insert(router);
            } else {
                open.extend(&children[router]);
            }
        }
        let mut hops = vec![BTreeSet::new(); self.speaks.len()];
        for hop in tied {
            let (mut open, mut below) = (BTreeSet::from([hop]), BTreeSet::new());
            while let Some(router) = open.pop_first() {
                if below.insert(router) {
                    open.extend(&children[router]);
                }
            }
            for router in below {
                hops[router].insert(hop);
            }
        }
        hops
    }
}

/// Section 6.4: bits, and for each its F-BM and its BFR-NBR. Bits that aren't there have the null row.
pub struct Table {
    pub own: Option<u32>,
    pub rows: BTreeMap<u32, (Bits, usize)>,
}

impl Table {
    /// The table that sends each bit to a neighbour: the F-BM is the OR of all bits of one neighbour.
    pub fn new(own: Option<u32>, neighbours: &BTreeMap<u32, usize>) -> Self {
        let rows = neighbours.iter().map(|(bit, neighbour)| {
            let mask = neighbours.iter().filter(|(_, other)| *other == neighbour).map(|(bit, _)| *bit);
            (*bit, (mask.collect(), *neighbour))
        });
        Self { own, rows: rows.collect() }
    }
}

/// What was done with a packet.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Done {
    pub delivered: u32,
    pub copies: Vec<(usize, Bits, u8)>,
    pub without_way: Bits,
    pub expired: bool,
}

/// RFC 8279 section 6.5, and for TTL RFC 8296 section 2.1.1.1.
pub fn forward(table: &Table, mut bits: Bits, ttl: u8) -> Done {
    let mut done = Done::default();
    if ttl == 0 {
        return Done { expired: true, ..done };
    }
    while let Some(k) = bits.first().copied() {
        if table.own == Some(k) {
            done.delivered += 1;
            bits.remove(&k);
        } else if ttl == 1 {
            return Done {
                expired: true,
                delivered: u32::from(table.own.is_some_and(|own| done.delivered == 1 || bits.contains(&own))),
                ..done
            };
        } else if let Some((mask, neighbour)) = table.rows.get(&k) {
            done.copies.push((*neighbour, bits.intersection(mask).copied().collect(), ttl - 1));
            bits = bits.difference(mask).copied().collect();
        } else {
            done.without_way.insert(k);
            bits.remove(&k);
        }
    }
    done
}

/// A header, read bit by bit from the picture in RFC 8296 section 2.1.
#[derive(Debug, PartialEq, Eq)]
pub struct Header {
    pub bift_id: u32,
    pub ttl: u32,
    pub nibble: u32,
    pub version: u32,
    pub bsl: u32,
    pub entropy: u32,
    pub proto: u32,
    pub bfir_id: u32,
    pub bits: Bits,
}

pub fn read(packet: &[u8], bits: u32) -> Header {
    let mut at = 0;
    let mut take = |count: u32| {
        let value = (at..at + count)
            .fold(0, |value, at| value << 1 | u32::from(packet[at as usize / 8]) >> (7 - at % 8) & 1);
        at += count;
        value
    };
    let (bift_id, _tc_s, ttl) = (take(20), take(4), take(8));
    let (nibble, version, bsl, entropy) = (take(4), take(4), take(4), take(20));
    let (_oam_rsv_dscp, proto, bfir_id) = (take(10), take(6), take(16));
    // The leftmost bit on the wire has the highest number.
    let set = (1..=bits).rev().filter(|_| take(1) == 1).collect();
    Header { bift_id, ttl, nibble, version, bsl, entropy, proto, bfir_id, bits: set }
}
