//! Routers further away that could stand in (RFC 7490): where to look for them.
//!
//! A tunnel may lead to all whose shortest ways from us avoid what may have failed. Around it leads a detour to each receiver: the
//! further on that a tunnel ends, the less leads back from there. So the last router of a detour that a tunnel may lead to is the
//! one to try; if that won't do, none before it does.

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::vec;
use alloc::vec::Vec;
use core::cmp::Reverse;

use super::branch::Paths;
use super::tree::{Marks, nearest_first};
use super::{Plan, REMOTE_TRIED_MAX, Receiver, Via};
use crate::bift::{LinkId, NeighbourIndex};
use crate::spf::{DOWN, Graph, UNREACHED};
use crate::topology::RouterIndex;

/// The shortest ways around what may have failed.
struct Detours {
    distance: Vec<u64>,
    /// The last router on the way to each that a tunnel may lead to.
    last: Vec<Option<RouterIndex>>,
}

impl Detours {
    fn new(
        graph: &Graph,
        root: RouterIndex,
        ends: &Marks,
        routers: &BTreeSet<RouterIndex>,
        links: &BTreeSet<LinkId>,
    ) -> Self {
        let distance = graph.distances_by(root, |half| {
            let is_out = routers.contains(&half.other) || links.contains(&half.link);
            if is_out { DOWN } else { graph.cost_out(half) }
        });
        let mut last: Vec<Option<RouterIndex>> = vec![None; distance.len()];
        for router in nearest_first(&distance) {
            let before = || {
                let ways = graph.links_of(router).iter().filter_map(|half| {
                    let (far, cost) = (distance[half.other.at()], graph.cost_in(half));
                    let is_there = far != UNREACHED && cost != DOWN && !links.contains(&half.link);
                    let is_tight = is_there && far + u64::from(cost) == distance[router.at()];
                    last[half.other.at()].filter(|_| is_tight)
                });
                // Of equal detours the one by which a tunnel leads furthest.
                ways.max_by_key(|one: &RouterIndex| (distance[one.at()], Reverse(*one)))
            };
            last[router.at()] = if ends.has(router) { Some(router) } else { before() };
        }
        Self { distance, last }
    }

    /// The last router that a tunnel may lead to, and how far the receiver is from there.
    fn last(&self, receiver: RouterIndex) -> Option<(RouterIndex, u64)> {
        let last = self.last[receiver.at()]?;
        Some((last, self.distance[receiver.at()] - self.distance[last.at()]))
    }
}

impl Plan<'_> {
    /// Routers that tunnels lead to, whatever of `down` has failed, and that can take over most of what is left; neighbours are
    /// none.
    pub(super) fn far_away(
        &mut self,
        down: &BTreeSet<NeighbourIndex>,
        left: &[Receiver],
        is_hit: impl Fn(LinkId) -> bool,
    ) -> Vec<Via> {
        let (root, graph) = (self.computed.root(), self.graph);
        let failed: BTreeSet<_> = down.iter().map(|one| self.end(*one)).collect();
        let halves = graph.links_of(root).iter();
        let links: BTreeSet<_> = halves.map(|half| half.link).filter(|link| is_hit(*link)).collect();
        let ends = self.ends(&failed, &links);
        let none = BTreeSet::new();
        let detours = [&failed, &none].map(|routers| Detours::new(graph, root, &ends, routers, &links));
        // From all routers to one is as from one to all, by what it costs to come.
        let to_failed: BTreeMap<_, _> =
            failed.iter().map(|one| (*one, graph.distances_by(*one, |half| graph.cost_in(half)))).collect();
        let mut takes: BTreeMap<RouterIndex, usize> = BTreeMap::new();
        for receiver in left {
            let mut before = None;
            for (last, straight) in detours.iter().filter_map(|one| one.last(receiver.router)) {
                let mut misses = |one: &RouterIndex| {
                    let onward = self.tree(*one).to(receiver.router);
                    to_failed[one][last.at()].saturating_add(onward) > straight
                };
                let is_safe =
                    receiver.lost.iter().all(&mut misses) || self.is_nearer(last, straight, receiver.router);
                if is_safe && before.replace(last) != Some(last) {
                    *takes.entry(last).or_default() += 1;
                }
            }
        }
        let is_beside = |router| self.computed.neighbour(router).is_some_and(|one| self.links(one).is_some());
        takes.retain(|router, _| !is_beside(*router));
        let own = self.tree(root);
        let mut ranked: Vec<_> = takes.into_iter().collect();
        ranked.sort_by_key(|(router, count)| (Reverse(*count), own.to(*router), *router));
        ranked.truncate(REMOTE_TRIED_MAX);
        let via = |(router, _)| Via {
            router,
            way: Paths::to(own.steps(), graph.routers(), router),
            is_beside: false,
            reads: self.reads(router),
        };
        ranked.into_iter().map(via).collect()
    }

    /// The routers that all shortest ways lead to past these routers and links, not even beginning with one of them.
    fn ends(&mut self, failed: &BTreeSet<RouterIndex>, links: &BTreeSet<LinkId>) -> Marks {
        let (root, graph) = (self.computed.root(), self.graph);
        let own = self.tree(root);
        let begins = |router: RouterIndex| {
            let mut halves = graph.links_of(root).iter().filter(|half| half.other == router);
            halves.any(|half| links.contains(&half.link) && u64::from(graph.cost_out(half)) == own.to(router))
        };
        let (mut hit, mut ends) = (Marks::new(graph.routers()), Marks::new(graph.routers()));
        for router in own.order().iter().copied() {
            let mut before = own.steps().before(router).iter();
            let is_hit =
                failed.contains(&router) || before.any(|one| hit.has(*one) || *one == root && begins(router));
            if is_hit {
                hit.set(router);
            } else if router != root && graph.is_bier(router) {
                ends.set(router);
            }
        }
        ends
    }
}
