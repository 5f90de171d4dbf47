//! Shortest paths from one router (RFC 8279 section 6.9): how far every other is, and by which neighbours.
//!
//! The neighbours are those of BIER: the first router of a path that speaks it. Where those before it don't, it is
//! reached through a tunnel, as if they had been cut out of the tree and what hung on them had been tied to their
//! parent. All paths of the same length count, so a router may have several first hops.

mod change;
mod graph;

pub(crate) use graph::{DOWN, Graph, Half, UNREACHED};

use alloc::vec::Vec;

use crate::topology::RouterIndex;

/// The first BIER router of a path.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Hop {
    pub(crate) router: RouterIndex,
    /// Whether others, without BIER, are before it.
    pub(crate) tunnel: bool,
}

/// All first hops of the shortest paths to one router.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Hops {
    /// In order, one for each router.
    pub(crate) hops: Vec<Hop>,
    /// There is a path without any BIER router yet; those further on may be the first.
    bare: bool,
}

/// The shortest paths from one router.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Spf {
    root: RouterIndex,
    distance: Vec<u64>,
    hops: Vec<Hops>,
}

impl Spf {
    /// From nothing.
    pub(crate) fn new(graph: &Graph, root: RouterIndex) -> Self {
        let distance = graph.distances(root);
        let mut order: Vec<_> = (0..graph.routers() as u32).map(RouterIndex).collect();
        order.retain(|router| distance[router.at()] != UNREACHED);
        order.sort_unstable_by_key(|router| distance[router.at()]);
        let mut spf = Self { root, hops: alloc::vec![Hops::default(); distance.len()], distance };
        for router in order {
            spf.hops[router.at()] = spf.hops_of(graph, router);
        }
        spf
    }

    /// The first hops to a router.
    pub(crate) fn hops(&self, router: RouterIndex) -> &[Hop] {
        &self.hops[router.at()].hops
    }

    /// Whether the link ends on a shortest path to `router`, coming from its other end.
    fn is_tight(&self, graph: &Graph, half: &Half, router: RouterIndex) -> bool {
        let (from, cost) = (self.distance[half.other.at()], graph.cost_in(half));
        from != UNREACHED && cost != DOWN && from + u64::from(cost) == self.distance[router.at()]
    }

    /// The first hops to a router, from those of the routers before it.
    fn hops_of(&self, graph: &Graph, router: RouterIndex) -> Hops {
        if router == self.root {
            return Hops { hops: Vec::new(), bare: true };
        }
        let mut all = Hops::default();
        if self.distance[router.at()] == UNREACHED {
            return all;
        }
        for half in graph.links_of(router).iter().filter(|half| self.is_tight(graph, half, router)) {
            let before = &self.hops[half.other.at()];
            all.hops.extend_from_slice(&before.hops);
            if before.bare && graph.is_bier(router) {
                all.hops.push(Hop { router, tunnel: half.other != self.root });
            } else {
                all.bare |= before.bare;
            }
        }
        // A router that is reached both ways is reached directly: that sorts first.
        all.hops.sort_unstable();
        all.hops.dedup_by_key(|hop| hop.router);
        all
    }
}
