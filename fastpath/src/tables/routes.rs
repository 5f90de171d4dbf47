//! Routes: longest prefix match by a trie of eight bits a step.
//!
//! A look-up takes as many steps as the longest prefix around the address has bytes: three for a /24. The tables are
//! rebuilt as a whole; an appliance at the edge has few routes, and they change with its configuration.

use super::interfaces::InterfaceId;
use crate::addr::Addr;

/// Where a packet goes next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NextHop {
    /// The interface it leaves by.
    pub interface: InterfaceId,
    /// The router to hand it to; `None` when the destination is on the link itself.
    pub via: Option<Addr>,
}

/// One route, as the builder is given it. `len` is in bits of the address's own family.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Route {
    /// The prefix; bits beyond `len` are ignored.
    pub prefix: Addr,
    /// 0..=32 for IPv4, 0..=128 for IPv6.
    pub len: u8,
    /// Where it leads.
    pub next_hop: NextHop,
}

/// The forwarding table of both families.
#[derive(Clone, Debug, Default)]
#[repr(align(64))] // see `Tables`
pub struct Routes {
    v4: Trie,
    v6: Trie,
    next_hops: Vec<NextHop>,
}

impl Routes {
    /// Builds the table. Of two routes to the same prefix the later one counts.
    pub fn new(routes: &[Route]) -> Self {
        // Shorter prefixes first, so that longer ones overwrite what they are more specific than.
        let mut sorted: Vec<&Route> = routes.iter().collect();
        sorted.sort_by_key(|route| route.len);
        let mut table = Self::default();
        for route in sorted {
            let index = table.next_hops.len() as u32 + 1;
            table.next_hops.push(route.next_hop);
            if route.prefix.is_v4() {
                table.v4.insert(&route.prefix.v4_bytes(), route.len, index);
            } else {
                table.v6.insert(&route.prefix.v6_bytes(), route.len, index);
            }
        }
        table
    }

    /// The next hop of the longest prefix that holds `addr`.
    #[inline]
    pub fn lookup(&self, addr: Addr) -> Option<&NextHop> {
        let index =
            if addr.is_v4() { self.v4.lookup(&addr.v4_bytes()) } else { self.v6.lookup(&addr.v6_bytes()) };
        // Index 0 is "no route"; the trie holds positions counted from one.
        self.next_hops.get((index as usize).wrapping_sub(1))
    }
}

/// One slot of a trie node: the best route so far, and the node below.
#[derive(Clone, Copy, Debug, Default)]
struct Slot {
    route: u32,
    child: u32,
}

#[derive(Clone, Debug, Default)]
struct Trie {
    nodes: Vec<[Slot; 256]>,
}

impl Trie {
    fn insert(&mut self, bytes: &[u8], len: u8, route: u32) {
        if self.nodes.is_empty() {
            self.nodes.push([Slot::default(); 256]);
        }
        let mut node = 0;
        let mut left = usize::from(len).min(bytes.len() * 8);
        for byte in bytes {
            if left <= 8 {
                // The prefix ends in this byte: it covers a run of slots.
                let span = 1usize << (8 - left);
                let first = usize::from(*byte) & !(span - 1);
                for slot in first..first + span {
                    self.fill(node, slot, route);
                }
                return;
            }
            left -= 8;
            let slot = usize::from(*byte);
            if self.nodes[node][slot].child == 0 {
                // A new node starts from what covered it so far, so that a look-up never has to go back up.
                let inherited = Slot { route: self.nodes[node][slot].route, child: 0 };
                self.nodes.push([inherited; 256]);
                self.nodes[node][slot].child = (self.nodes.len() - 1) as u32;
            }
            node = self.nodes[node][slot].child as usize;
        }
    }

    /// Prefixes arrive by growing length, so nothing below can be more specific than the new route.
    fn fill(&mut self, node: usize, slot: usize, route: u32) {
        self.nodes[node][slot].route = route;
        debug_assert_eq!(self.nodes[node][slot].child, 0, "prefixes arrive by growing length");
    }

    #[inline]
    fn lookup(&self, bytes: &[u8]) -> u32 {
        let Some(mut node) = self.nodes.first() else { return 0 };
        let mut route = 0;
        for byte in bytes {
            let slot = node[usize::from(*byte)];
            route = slot.route;
            match self.nodes.get(slot.child as usize) {
                Some(below) if slot.child != 0 => node = below,
                _ => break,
            }
        }
        route
    }
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;

    use proptest::prelude::*;

    use super::*;

    fn addr(text: &str) -> Addr {
        Addr::from(text.parse::<IpAddr>().unwrap())
    }

    fn hop(interface: u16) -> NextHop {
        NextHop { interface: InterfaceId(interface), via: None }
    }

    #[test]
    fn longest_prefix_wins_in_any_order_of_input() {
        let mut routes = vec![
            Route { prefix: addr("0.0.0.0"), len: 0, next_hop: hop(0) },
            Route { prefix: addr("10.0.0.0"), len: 8, next_hop: hop(1) },
            Route { prefix: addr("10.1.2.0"), len: 24, next_hop: hop(2) },
            Route { prefix: addr("10.1.2.128"), len: 25, next_hop: hop(3) },
            Route { prefix: addr("10.1.2.129"), len: 32, next_hop: hop(4) },
            Route { prefix: addr("2001:db8::"), len: 32, next_hop: hop(5) },
        ];
        for _ in 0..2 {
            let table = Routes::new(&routes);
            for (to, expected) in [
                ("192.0.2.1", Some(0)),
                ("10.9.9.9", Some(1)),
                ("10.1.2.3", Some(2)),
                ("10.1.2.200", Some(3)),
                ("10.1.2.129", Some(4)),
                ("2001:db8::1", Some(5)),
                ("2001:db9::1", None),
            ] {
                assert_eq!(table.lookup(addr(to)).copied(), expected.map(hop), "{to}");
            }
            routes.reverse();
        }
    }

    proptest! {
        #[test]
        fn agrees_with_a_linear_search(
            prefixes in prop::collection::vec((any::<u32>(), 0u8..=32), 0..40),
            probes in prop::collection::vec(any::<u32>(), 1..40),
        ) {
            let routes: Vec<Route> = prefixes.iter().enumerate().map(|(i, (bits, len))| Route {
                prefix: Addr::v4(bits.to_be_bytes()), len: *len, next_hop: hop(i as u16),
            }).collect();
            let table = Routes::new(&routes);
            let mask = |len: u8| if len == 0 { 0 } else { u32::MAX << (32 - len) };
            for probe in probes.iter().copied().chain(prefixes.iter().map(|(bits, _)| *bits)) {
                let best = prefixes.iter().enumerate()
                    .filter(|(_, (bits, len))| (bits ^ probe) & mask(*len) == 0)
                    .max_by_key(|(i, (_, len))| (*len, *i)).map(|(i, _)| hop(i as u16));
                prop_assert_eq!(table.lookup(Addr::v4(probe.to_be_bytes())).copied(), best);
            }
        }
    }
}
