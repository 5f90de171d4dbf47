//! Fast reroute: rows that stand ready for the failure of each neighbour, switched to by one flag (see
//! [`Down`](crate::forward::Down)), before any new table could be computed. After the ideas of `draft-ietf-bier-frr`.
//!
//! ```text
//! link protection              S ──✗── P            all that P would have got goes to P, as one copy,
//!                              └─ a ─ b ─┘          along a path that avoids the link; then on as ever
//!
//! node protection              S ──── ✗P ── c       each bit goes to a router whose own shortest paths avoid P: a
//!                              └─ a ── b ──┘        neighbour, merged with what it gets anyway, or one further away
//! ```
//!
//! Why nothing loops: a repaired copy goes along named links to a router from where *no* shortest path to its bits
//! leads over what has failed, so no table on the rest of the way, whatever entropy chooses, brings it back to a
//! repair. Why nothing comes twice: the rows of a failure are disjoint, as all rows are.
//!
//! Link protection puts one more copy on a link at most: that which the failed link would have carried (two, in the
//! rare case that it carried two because equal paths had parted and met again). Node protection can't promise that:
//! there may be no router that is safe for all bits, and then there are several branches, though as few as a greedy
//! choice finds (`tests/frr.rs` counts how seldom they meet on a link). The bit of P itself, and those that only P
//! leads to, are repaired as if only the link had failed, as S can't tell. Neighbours behind a tunnel are repaired by
//! whoever routes the tunnel, unless the neighbour itself is gone.

use alloc::boxed::Box;
use alloc::collections::BTreeMap;
use alloc::sync::Arc;
use alloc::vec;
use alloc::vec::Vec;
use core::cmp::Reverse;
use core::net::IpAddr;

use crate::bift::{Bift, LinkId, NEIGHBOURS_MAX, Neighbour, NeighbourIndex, Reach, Rows, Table};
use crate::bift_id::BiftId;
use crate::compute::Computed;
use crate::spf::{Graph, UNREACHED, Without};
use crate::topology::{Domain, RouterIndex};

/// What is assumed to have failed when a neighbour can't be reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Protection {
    /// The link to it.
    Link,
    /// The neighbour.
    Node,
}

/// The BIFTs of a router with rows for the failure of each neighbour. They have more neighbours than before, at the
/// end: the far ends of repairs.
#[must_use]
pub fn protect(domain: &Domain, computed: &Computed, protection: Protection) -> Vec<Arc<Bift>> {
    let mut plan = Plan::new(domain, computed, protection);
    let mut behind: BTreeMap<NeighbourIndex, Vec<RouterIndex>> = BTreeMap::new();
    for (_, bfer) in computed.sets().values().flatten() {
        for first in computed.first_hops(*bfer) {
            behind.entry(first).or_default().push(*bfer);
        }
    }
    let instead: BTreeMap<_, _> =
        behind.iter().map(|(failing, bfers)| (*failing, plan.instead_of(*failing, bfers))).collect();
    let neighbours: Arc<[Neighbour]> = plan.neighbours.into();
    let finish = |bift: &Arc<Bift>| {
        let key = bift.key();
        let ends = plan.ends.iter().map(|end| domain.get(*end).bift_ids().id(key));
        let out: Box<[Option<BiftId>]> = ends.collect();
        let bfers: BTreeMap<_, _> = computed.sets()[&key.si].iter().copied().collect();
        let tables = bift.tables().iter().map(|table| {
            let rows = table.rows();
            let mut on_failure = vec![None; bift.neighbours().len()];
            for (failing, _) in rows.iter() {
                let bits = rows.bits().filter_map(|(bit, neighbour)| {
                    let moved = neighbour == failing;
                    let to = if moved { *instead[&failing].get(&bfers[&bit])? } else { neighbour };
                    out[usize::from(to.0)].map(|_| (bit, to))
                });
                on_failure[usize::from(failing.0)] = Some(Rows::new(key.bsl.words(), bits));
            }
            Table::new(rows.clone(), on_failure.into())
        });
        let tables = tables.collect();
        Arc::new(bift.with(neighbours.clone(), out, tables))
    };
    computed.bifts().iter().map(finish).collect()
}

/// What is known while repairs are looked for.
struct Plan<'a> {
    computed: &'a Computed,
    graph: &'a Graph,
    protection: Protection,
    neighbours: Vec<Neighbour>,
    /// The router that each neighbour is.
    ends: Vec<RouterIndex>,
    /// By neighbour: the tunnel around the links to it.
    bypass: Vec<Option<NeighbourIndex>>,
    /// By neighbour: how far routers are from us without it.
    without: Vec<Vec<u64>>,
    /// How far all are from those routers that were asked for.
    from: Vec<Option<Vec<u64>>>,
    repairs: BTreeMap<Box<[LinkId]>, NeighbourIndex>,
    prefixes: Vec<Option<IpAddr>>,
}

impl<'a> Plan<'a> {
    fn new(domain: &Domain, computed: &'a Computed, protection: Protection) -> Self {
        let neighbours = computed.neighbours().to_vec();
        let ends = (0..neighbours.len() as u16)
            .map(|at| computed.router(NeighbourIndex(at)).expect("every neighbour is a router"))
            .collect();
        let mut plan = Self {
            computed,
            graph: computed.graph(),
            protection,
            neighbours,
            ends,
            bypass: Vec::new(),
            without: Vec::new(),
            from: vec![None; computed.graph().routers()],
            repairs: BTreeMap::new(),
            prefixes: domain.routers().iter().map(|router| router.bier()).collect(),
        };
        let (graph, root) = (plan.graph, computed.root());
        for at in 0..plan.ends.len() {
            let end = plan.ends[at];
            let bypass = match &plan.neighbours[at].reach {
                Reach::Links(links) => {
                    let links = links.clone();
                    let without = Without::Links(&links);
                    graph.path(&graph.distances(root, without), root, end, without)
                }
                Reach::Tunnel | Reach::Repair(_) => None,
            };
            let bypass = bypass.and_then(|path| plan.repair(&path));
            plan.bypass.push(bypass);
            if protection == Protection::Node {
                plan.without.push(graph.distances(root, Without::Router(end)));
            }
        }
        plan
    }

    /// Who gets the bits of these routers while a neighbour is down.
    fn instead_of(
        &mut self,
        failing: NeighbourIndex,
        bfers: &[RouterIndex],
    ) -> BTreeMap<RouterIndex, NeighbourIndex> {
        let at = usize::from(failing.0);
        let end = self.ends[at];
        let mut instead = BTreeMap::new();
        let mut rest = bfers.to_vec();
        if self.protection == Protection::Node {
            // Few branches, so that few links carry more than they did: each time the one that serves most. The neighbour itself is
            // never served: all ways to it lead to it.
            while let Some((branch, router)) = self.best_branch(failing, &rest) {
                rest.retain(|bfer| {
                    let served = self.is_safe(router, *bfer, end);
                    if served {
                        instead.insert(*bfer, branch);
                    }
                    !served
                });
            }
        }
        // The neighbour itself, and what is behind it alone, is served if only the link has failed.
        let left = bfers.iter().filter(|bfer| !instead.contains_key(bfer)).copied().collect::<Vec<_>>();
        instead.extend(left.into_iter().filter_map(|bfer| Some((bfer, self.bypass[at]?))));
        instead
    }

    /// The router from where most of these are safe. Neighbours before others, then near ones before far ones.
    fn best_branch(
        &mut self,
        failing: NeighbourIndex,
        bfers: &[RouterIndex],
    ) -> Option<(NeighbourIndex, RouterIndex)> {
        let at = usize::from(failing.0);
        let (end, root, graph) = (self.ends[at], self.computed.root(), self.graph);
        let mut best = None;
        for router in (0..graph.routers() as u32).map(RouterIndex) {
            let far = self.without[at][router.at()];
            if router == root || far == UNREACHED || !graph.is_bier(router) {
                continue;
            }
            let serves = bfers.iter().filter(|bfer| self.is_safe(router, **bfer, end)).count();
            let rank = (serves, self.beside(router).is_some(), Reverse(far));
            if serves > 0 && best.is_none_or(|(least, _)| rank > least) {
                best = Some((rank, router));
            }
        }
        let (_, router) = best?;
        let branch = self.beside(router).or_else(|| {
            let without = Without::Router(end);
            let path = graph.path(&self.without[at], root, router, without)?;
            self.repair(&path)
        });
        Some((branch?, router))
    }

    /// The neighbour that a router is, if links lead to it.
    fn beside(&self, router: RouterIndex) -> Option<NeighbourIndex> {
        let at = self.computed.neighbour(router)?;
        let links =
            matches!(&self.neighbours[usize::from(at.0)].reach, Reach::Links(links) if !links.is_empty());
        links.then_some(at)
    }

    /// Whether no shortest path between two routers leads over a third.
    fn is_safe(&mut self, from: RouterIndex, to: RouterIndex, failed: RouterIndex) -> bool {
        if from == failed {
            return false;
        }
        let (to_failed, straight) = (self.distances(from)[failed.at()], self.distances(from)[to.at()]);
        let onward = self.distances(failed)[to.at()];
        straight != UNREACHED
            && (to_failed == UNREACHED || onward == UNREACHED || to_failed + onward > straight)
    }

    fn distances(&mut self, from: RouterIndex) -> &[u64] {
        let graph = self.graph;
        self.from[from.at()].get_or_insert_with(|| graph.distances(from, Without::Nothing))
    }

    /// The neighbour at the end of this path, new if need be; `None` if there are too many.
    fn repair(&mut self, path: &[(LinkId, RouterIndex)]) -> Option<NeighbourIndex> {
        let (_, end) = path.last()?;
        let links: Box<[LinkId]> = path.iter().map(|(link, _)| *link).collect();
        if let Some(at) = self.repairs.get(&links) {
            return Some(*at);
        }
        if self.neighbours.len() >= NEIGHBOURS_MAX {
            return None;
        }
        let at = NeighbourIndex(self.neighbours.len() as u16);
        self.neighbours
            .push(Neighbour { prefix: self.prefixes[end.at()]?, reach: Reach::Repair(links.clone()) });
        self.ends.push(*end);
        self.repairs.insert(links, at);
        Some(at)
    }
}
