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
    pub(crate) fn distances(&self, root: RouterIndex) -> Vec<u64> {
        self.distances_by(root, |half| self.cost_out(half))
    }

    /// How far all routers are if links cost this.
    pub(crate) fn distances_by(&self, root: RouterIndex, cost: impl Fn(&Half) -> u32) -> Vec<u64> {
        let mut distance = vec![UNREACHED; self.routers()];
        distance[root.at()] = 0;
        let mut next = BinaryHeap::from([Reverse((0, root))]);
        self.settle_by(&mut distance, &mut next, cost, |_| {});
        distance
    }

    /// Takes the nearest of `next` until none is left, and what gets nearer by it; tells all of the latter.
    pub(crate) fn settle(
        &self,
        distance: &mut [u64],
        next: &mut BinaryHeap<Reverse<(u64, RouterIndex)>>,
        nearer: impl FnMut(RouterIndex),
    ) {
        self.settle_by(distance, next, |half| self.cost_out(half), nearer);
    }

    fn settle_by(
        &self,
        distance: &mut [u64],
        next: &mut BinaryHeap<Reverse<(u64, RouterIndex)>>,
        cost: impl Fn(&Half) -> u32,
        mut nearer: impl FnMut(RouterIndex),
    ) {
        while let Some(Reverse((far, router))) = next.pop() {
            if far != distance[router.at()] {
                continue;
            }
            for half in self.links_of(router) {
                let cost = cost(half);
                let far = far + u64::from(cost);
                if cost != DOWN && far < distance[half.other.at()] {
                    distance[half.other.at()] = far;
                    nearer(half.other);
                    next.push(Reverse((far, half.other)));
                }
            }
        }
    }
}
