//! A domain for those who walk through it: numbers instead of names.

use alloc::collections::BinaryHeap;
use alloc::vec;
use alloc::vec::Vec;
use core::cmp::Reverse;

use crate::bift::LinkId;
use crate::topology::{Domain, RouterIndex};

/// The cost of a link that is down.
pub(crate) const DOWN: u32 = u32::MAX;
/// The distance of what can't be reached.
pub(crate) const UNREACHED: u64 = u64::MAX;

/// A link as seen from one end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Half {
    pub(crate) link: LinkId,
    pub(crate) other: RouterIndex,
    /// Which of the link's costs is that of leaving.
    out: u8,
}

/// Routers and links.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Graph {
    links_of: Vec<Vec<Half>>,
    costs: Vec<[u32; 2]>,
    bier: Vec<bool>,
}

/// What a search does as if it weren't there.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Without<'a> {
    Nothing,
    Links(&'a [LinkId]),
    Router(RouterIndex),
}

impl Without<'_> {
    fn passes(&self, half: &Half) -> bool {
        match self {
            Self::Nothing => true,
            Self::Links(links) => !links.contains(&half.link),
            Self::Router(router) => half.other != *router,
        }
    }
}

impl Graph {
    pub(crate) fn new(domain: &Domain) -> Self {
        let mut links_of = vec![Vec::new(); domain.routers().len()];
        let mut costs = vec![[DOWN; 2]; domain.links().len()];
        for (at, link) in domain.links().iter().enumerate() {
            let Some(link) = link else { continue };
            costs[at] = link.costs.unwrap_or([DOWN; 2]);
            for out in [0, 1] {
                let half = Half { link: LinkId(at as u32), other: link.ends[1 - out], out: out as u8 };
                links_of[link.ends[out].at()].push(half);
            }
        }
        let bier = domain.routers().iter().map(|router| router.bier().is_some()).collect();
        Self { links_of, costs, bier }
    }

    pub(crate) fn routers(&self) -> usize {
        self.bier.len()
    }

    pub(crate) fn is_bier(&self, router: RouterIndex) -> bool {
        self.bier[router.at()]
    }

    pub(crate) fn links_of(&self, router: RouterIndex) -> &[Half] {
        &self.links_of[router.at()]
    }

    /// What it costs to leave by this link.
    pub(crate) fn cost_out(&self, half: &Half) -> u32 {
        self.costs[half.link.0 as usize][usize::from(half.out)]
    }

    /// What it costs to come by this link.
    pub(crate) fn cost_in(&self, half: &Half) -> u32 {
        self.costs[half.link.0 as usize][usize::from(1 - half.out)]
    }

    pub(crate) fn costs(&self, link: LinkId) -> [u32; 2] {
        self.costs[link.0 as usize]
    }

    pub(crate) fn set_costs(&mut self, link: LinkId, costs: [u32; 2]) {
        self.costs[link.0 as usize] = costs;
    }

    /// How far all routers are (Dijkstra).
    pub(crate) fn distances(&self, root: RouterIndex, without: Without<'_>) -> Vec<u64> {
        let mut distance = vec![UNREACHED; self.routers()];
        distance[root.at()] = 0;
        let mut next = BinaryHeap::from([Reverse((0, root))]);
        self.settle(&mut distance, &mut next, without, |_| {});
        distance
    }

    /// Takes the nearest of `next` until none is left, and what gets nearer by it; tells all of the latter.
    pub(crate) fn settle(
        &self,
        distance: &mut [u64],
        next: &mut BinaryHeap<Reverse<(u64, RouterIndex)>>,
        without: Without<'_>,
        mut nearer: impl FnMut(RouterIndex),
    ) {
        while let Some(Reverse((far, router))) = next.pop() {
            if far != distance[router.at()] {
                continue;
            }
            for half in self.links_of(router).iter().filter(|half| without.passes(half)) {
                let cost = self.cost_out(half);
                let far = far + u64::from(cost);
                if cost != DOWN && far < distance[half.other.at()] {
                    distance[half.other.at()] = far;
                    nearer(half.other);
                    next.push(Reverse((far, half.other)));
                }
            }
        }
    }

    /// One shortest path between two routers, from distances of the search without the same: the links, and the
    /// router after each.
    pub(crate) fn path(
        &self,
        distance: &[u64],
        from: RouterIndex,
        to: RouterIndex,
        without: Without<'_>,
    ) -> Option<Vec<(LinkId, RouterIndex)>> {
        if distance[to.at()] == UNREACHED {
            return None;
        }
        let mut path = Vec::new();
        let mut at = to;
        while at != from {
            let half = self.links_of(at).iter().find(|half| {
                let (before, cost) = (distance[half.other.at()], self.cost_in(half));
                without.passes(half)
                    && cost != DOWN
                    && before != UNREACHED
                    && before + u64::from(cost) == distance[at.at()]
            })?;
            path.push((half.link, at));
            at = half.other;
        }
        path.reverse();
        Some(path)
    }
}
