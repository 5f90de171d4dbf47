//! Shortest paths after a link has changed, without looking at what stays: only routers whose distance or first hops depend
//! on the link are visited.

use alloc::collections::{BTreeSet, BinaryHeap};
use alloc::vec::Vec;
use core::cmp::Reverse;

use super::{DOWN, Graph, Spf, UNREACHED};
use crate::bift::LinkId;
use crate::topology::RouterIndex;

/// Routers to look at, nearest first.
type Queue = BinaryHeap<Reverse<(u64, RouterIndex)>>;

impl Spf {
    /// Gives a link other costs; returns the routers whose first hops have changed.
    pub(crate) fn change(
        &mut self,
        graph: &mut Graph,
        link: LinkId,
        ends: [RouterIndex; 2],
        costs: [u32; 2],
    ) -> Vec<RouterIndex> {
        let before = graph.costs(link);
        // What gets dearer first, then what gets cheaper: each step is of one kind.
        let between = [before[0].max(costs[0]), before[1].max(costs[1])];
        let mut moved = BTreeSet::new();
        // The head of a changed link may have gained or lost a path of the same length.
        let mut look = BTreeSet::from(ends);
        if between != before {
            let tight = [0, 1].map(|out| {
                let (tail, head) = (self.distance[ends[out].at()], self.distance[ends[1 - out].at()]);
                let used = before[out] != DOWN && tail != UNREACHED && tail + u64::from(before[out]) == head;
                (used && between[out] > before[out]).then_some(ends[1 - out])
            });
            graph.set_costs(link, between);
            self.farther(graph, tight.into_iter().flatten(), &mut moved);
        }
        if costs != between {
            graph.set_costs(link, costs);
            self.nearer(graph, ends, costs, &mut moved);
        }
        for router in &moved {
            look.insert(*router);
            look.extend(graph.links_of(*router).iter().map(|half| half.other));
        }
        self.hops_after(graph, look)
    }

    /// Routers that lose a path: those that have no other of the same length, and who depends on them, are placed anew.
    fn farther(
        &mut self,
        graph: &Graph,
        heads: impl Iterator<Item = RouterIndex>,
        moved: &mut BTreeSet<RouterIndex>,
    ) {
        let mut lost = BTreeSet::new();
        let mut queue: Queue = heads.map(|head| Reverse((self.distance[head.at()], head))).collect();
        while let Some(Reverse((_, router))) = queue.pop() {
            let holds =
                |half: &&super::Half| self.is_tight(graph, half, router) && !lost.contains(&half.other);
            if router == self.root
                || lost.contains(&router)
                || graph.links_of(router).iter().any(|half| holds(&half))
            {
                continue;
            }
            lost.insert(router);
            // Nearest first, and no link is free: all before it have been judged.
            for half in graph.links_of(router) {
                let (far, cost) = (self.distance[router.at()], graph.cost_out(half));
                if cost != DOWN && far + u64::from(cost) == self.distance[half.other.at()] {
                    queue.push(Reverse((self.distance[half.other.at()], half.other)));
                }
            }
        }
        for router in &lost {
            self.distance[router.at()] = UNREACHED;
        }
        let mut queue = Queue::new();
        for router in &lost {
            let reached = graph.links_of(*router).iter().filter_map(|half| {
                let (from, cost) = (self.distance[half.other.at()], graph.cost_in(half));
                (from != UNREACHED && cost != DOWN && !lost.contains(&half.other))
                    .then(|| from + u64::from(cost))
            });
            if let Some(distance) = reached.min() {
                queue.push(Reverse((distance, *router)));
            }
        }
        for Reverse((distance, router)) in &queue {
            self.distance[router.at()] = *distance;
        }
        graph.settle(&mut self.distance, &mut queue, |_| {});
        moved.extend(lost);
    }

    /// Routers that gain a shorter path.
    fn nearer(
        &mut self,
        graph: &Graph,
        ends: [RouterIndex; 2],
        costs: [u32; 2],
        moved: &mut BTreeSet<RouterIndex>,
    ) {
        let mut queue = Queue::new();
        for out in [0, 1] {
            let (tail, head) = (self.distance[ends[out].at()], ends[1 - out]);
            let through = tail.saturating_add(u64::from(costs[out]));
            if costs[out] != DOWN && through < self.distance[head.at()] {
                self.distance[head.at()] = through;
                moved.insert(head);
                queue.push(Reverse((through, head)));
            }
        }
        graph.settle(&mut self.distance, &mut queue, |router| _ = moved.insert(router));
    }

    /// First hops anew, nearest first: a router's depend only on those of nearer ones.
    fn hops_after(&mut self, graph: &Graph, look: BTreeSet<RouterIndex>) -> Vec<RouterIndex> {
        let mut changed = BTreeSet::new();
        let mut queue: Queue =
            look.iter().map(|router| Reverse((self.distance[router.at()], *router))).collect();
        let mut last = None;
        while let Some(Reverse((far, router))) = queue.pop() {
            if last.replace(router) == Some(router) {
                continue;
            }
            let hops = self.hops_of(graph, router);
            if hops == self.hops[router.at()] {
                continue;
            }
            self.hops[router.at()] = hops;
            changed.insert(router);
            if far == UNREACHED {
                continue;
            }
            for half in graph.links_of(router) {
                let cost = graph.cost_out(half);
                if cost != DOWN && far + u64::from(cost) == self.distance[half.other.at()] {
                    queue.push(Reverse((self.distance[half.other.at()], half.other)));
                }
            }
        }
        changed.into_iter().collect()
    }
}
