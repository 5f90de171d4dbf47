//! Fast reroute: rows that stand ready for the failure of each neighbour, switched to by one flag (see
//! [`Down`](crate::forward::Down)), before any new table could be computed. After the ideas of `draft-ietf-bier-frr`;
//! those who stand in are loop-free alternates (RFC 5286), for nothing here goes through a tunnel.
//!
//! ```text
//! link protection         S ──✗── P ── c            what P would have got goes to a neighbour whose own ways don't lead
//!                         └── a ──┘                 back over S; or to P itself, by another link that costs more
//!
//! node protection         S ──── ✗P ── c            to one whose own ways don't lead over P, where there is one; the
//!                         └── a ── b ──┘            bit of P itself goes as if only the link had failed
//! ```
//!
//! **Nothing loops.** A repaired packet either goes to a router from where *no* shortest path to its receiver leads
//! over what may have failed, so that it is never repaired again; or to one that is nearer to the receiver than we are
//! (and of equally near ones, one with a lower BFR-prefix), as all other hops are, so that no number of repairs leads
//! around. That holds whether a link has failed or the router behind it, for S can't tell.
//!
//! **At most one more copy.** Each packet that a failure stops puts at most one copy more on any link. Bits that move to
//! one neighbour stay together until their ways part, for they join no way that equal paths could make them meet
//! again; bits that move to different neighbours have no link in common. What is not protected without breaking this is
//! left out: [`Bift::unprotected`] tells which.
//!
//! Neighbours that are reached over the same ports fail together. Neighbours behind a tunnel are repaired by whoever
//! routes the tunnel.

use alloc::boxed::Box;
use alloc::collections::{BTreeMap, BTreeSet};
use alloc::sync::Arc;
use alloc::vec;
use alloc::vec::Vec;
use core::cmp::Reverse;

use crate::bift::{Bift, LinkId, NEIGHBOURS_MAX, Neighbour, NeighbourIndex, Reach, Rows, Table};
use crate::bift_id::BiftId;
use crate::compute::Computed;
use crate::id::Si;
use crate::spf::{DOWN, Graph, UNREACHED};
use crate::topology::{Domain, RouterIndex};

/// What is assumed to have failed when a neighbour can't be reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Protection {
    /// The link to it.
    Link,
    /// The neighbour.
    Node,
}

/// The BIFTs of a router with rows for the failure of each neighbour. They may have more neighbours than before, at the
/// end: the same ones, by links that cost more. `port` tells which links fail together.
#[must_use]
pub fn protect(
    domain: &Domain,
    computed: &Computed,
    protection: Protection,
    port: impl Fn(LinkId) -> u32,
) -> Vec<Arc<Bift>> {
    let mut plan = Plan::new(domain, computed);
    let failures: Vec<Option<Failure>> = (0..computed.neighbours().len() as u16)
        .map(|at| plan.failure(NeighbourIndex(at), protection, &port))
        .collect();
    let neighbours: Arc<[Neighbour]> = plan.neighbours.into();
    let finish = |bift: &Arc<Bift>| {
        let key = bift.key();
        let out: Box<[Option<BiftId>]> =
            plan.ends.iter().map(|end| domain.get(*end).bift_ids().id(key)).collect();
        let bfers: BTreeMap<_, _> = computed.sets()[&key.si].iter().copied().collect();
        let tables = bift.tables().iter().map(|table| {
            let rows = table.rows();
            let instead = |failure: &Failure| {
                let bits = rows.bits().filter_map(|(bit, neighbour)| {
                    let moved = failure.down.contains(&neighbour);
                    let to = if moved { *failure.instead.get(&bfers[&bit])? } else { neighbour };
                    Some((bit, to))
                });
                Rows::new(key.bsl.words(), bits)
            };
            let used = |at: usize| rows.neighbours().binary_search(&NeighbourIndex(at as u16)).is_ok();
            let failures = failures.iter().enumerate();
            let on_failure = failures.map(|(at, one)| one.as_ref().filter(|_| used(at)).map(instead));
            Table::new(rows.clone(), on_failure.collect())
        });
        let tables = tables.collect();
        Arc::new(bift.with(neighbours.clone(), out, tables))
    };
    computed.bifts().iter().map(finish).collect()
}

/// What is done when a neighbour goes down.
struct Failure {
    /// It, and all that go down with it.
    down: BTreeSet<NeighbourIndex>,
    /// Who gets the bits of which router.
    instead: BTreeMap<RouterIndex, NeighbourIndex>,
}

/// A receiver that loses its way.
struct Receiver {
    router: RouterIndex,
    si: Si,
    /// The neighbours that it was reached by and that are down.
    lost: Vec<RouterIndex>,
}

/// From what somebody who stands in keeps a packet away.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Safety {
    /// The link to the neighbour.
    Link,
    /// The neighbour, and so the link.
    Node,
}

/// The bits that move to one neighbour.
#[derive(Clone, Default)]
struct Branch {
    /// The routers that they come by, each with those before it on any shortest path.
    before: BTreeMap<RouterIndex, Vec<RouterIndex>>,
}

impl Branch {
    /// Whether a receiver with these paths can join this one of several branches.
    fn takes(&self, paths: &Branch, others: &[(NeighbourIndex, Branch)], own: NeighbourIndex) -> bool {
        let meets = |other: &Branch| {
            paths.before.iter().any(|(router, before)| {
                other.before.get(router).is_some_and(|theirs| theirs.iter().any(|one| before.contains(one)))
            })
        };
        let stays_together =
            paths.before.keys().all(|router| !self.before.contains_key(router) || paths.is_single(*router));
        stays_together && !others.iter().any(|(neighbour, other)| *neighbour != own && meets(other))
    }

    /// Whether one path alone leads to a router.
    fn is_single(&self, mut router: RouterIndex) -> bool {
        loop {
            match self.before.get(&router).map(Vec::as_slice) {
                None => return true,
                Some([one]) => router = *one,
                Some(_) => return false,
            }
        }
    }
}

/// What is known while repairs are looked for.
struct Plan<'a> {
    domain: &'a Domain,
    computed: &'a Computed,
    graph: &'a Graph,
    neighbours: Vec<Neighbour>,
    /// The router that each neighbour is.
    ends: Vec<RouterIndex>,
    /// How far all are from those routers that were asked for.
    from: Vec<Option<Arc<[u64]>>>,
    /// The neighbours at the end, by the links to them.
    others: BTreeMap<Box<[LinkId]>, NeighbourIndex>,
}

impl<'a> Plan<'a> {
    fn new(domain: &'a Domain, computed: &'a Computed) -> Self {
        let neighbours = computed.neighbours().to_vec();
        let end = |at| computed.router(NeighbourIndex(at)).expect("every neighbour is a router");
        let ends = (0..neighbours.len() as u16).map(end).collect();
        let from = vec![None; computed.graph().routers()];
        Self { domain, computed, graph: computed.graph(), neighbours, ends, from, others: BTreeMap::new() }
    }

    /// What to do when a neighbour goes down; `None` where that is for others to repair.
    fn failure(
        &mut self,
        failing: NeighbourIndex,
        protection: Protection,
        port: &impl Fn(LinkId) -> u32,
    ) -> Option<Failure> {
        let ports: BTreeSet<u32> = self.links(failing)?.iter().map(|link| port(*link)).collect();
        let hit = |links: &[LinkId]| links.iter().all(|link| ports.contains(&port(*link)));
        let known = (0..self.computed.neighbours().len() as u16).map(NeighbourIndex);
        let down: BTreeSet<_> = known.filter(|one| self.links(*one).is_some_and(hit)).collect();
        let mut rest = self.receivers(&down);
        let mut instead = BTreeMap::new();
        let mut branches = Vec::new();
        if protection == Protection::Node {
            self.branch_out(Safety::Node, &down, &mut rest, &mut branches, &mut instead);
        }
        self.take_other_links(&down, &mut rest, &mut instead, |link| ports.contains(&port(link)));
        self.branch_out(Safety::Link, &down, &mut rest, &mut branches, &mut instead);
        Some(Failure { down, instead })
    }

    /// The links to a neighbour that is beside us.
    fn links(&self, neighbour: NeighbourIndex) -> Option<&[LinkId]> {
        match &self.neighbours[usize::from(neighbour.0)].reach {
            Reach::Links(links) if !links.is_empty() => Some(links),
            _ => None,
        }
    }

    /// All that are reached by these.
    fn receivers(&self, down: &BTreeSet<NeighbourIndex>) -> Vec<Receiver> {
        let sets = self.computed.sets().iter();
        let all = sets.flat_map(|(si, bfers)| bfers.iter().map(move |(_, router)| (*si, *router)));
        let receiver = |(si, router)| {
            let hops = self.computed.first_hops(router).into_iter().filter(|hop| down.contains(hop));
            let lost: Vec<_> = hops.map(|hop| self.ends[usize::from(hop.0)]).collect();
            (!lost.is_empty()).then_some(Receiver { router, si, lost })
        };
        all.filter_map(receiver).collect()
    }

    /// Gives what is left to the neighbours themselves, where other links lead to them: from there it goes on as ever.
    fn take_other_links(
        &mut self,
        down: &BTreeSet<NeighbourIndex>,
        rest: &mut Vec<Receiver>,
        instead: &mut BTreeMap<RouterIndex, NeighbourIndex>,
        is_hit: impl Fn(LinkId) -> bool,
    ) {
        for failed in down {
            let end = self.ends[usize::from(failed.0)];
            let halves = self.graph.links_of(self.computed.root()).iter();
            let left = halves.filter(|half| half.other == end && !is_hit(half.link));
            let left: Vec<_> = left.filter(|half| self.graph.cost_out(half) != DOWN).collect();
            let Some(cheapest) = left.iter().map(|half| self.graph.cost_out(half)).min() else { continue };
            let links = left.iter().filter(|half| self.graph.cost_out(half) == cheapest);
            let Some(by) = self.by_other_links(*failed, links.map(|half| half.link).collect()) else {
                continue;
            };
            rest.retain(|receiver| {
                let served = receiver.lost.contains(&end) && self.reads(end, receiver.si);
                if served {
                    instead.insert(receiver.router, by);
                }
                !served
            });
        }
    }

    /// The same neighbour by these links, new if need be; `None` if there are too many.
    fn by_other_links(&mut self, neighbour: NeighbourIndex, links: Box<[LinkId]>) -> Option<NeighbourIndex> {
        if let Some(known) = self.others.get(&links) {
            return Some(*known);
        }
        if self.neighbours.len() >= NEIGHBOURS_MAX {
            return None;
        }
        let at = NeighbourIndex(self.neighbours.len() as u16);
        let prefix = self.neighbours[usize::from(neighbour.0)].prefix;
        self.neighbours.push(Neighbour { prefix, reach: Reach::Links(links.clone()) });
        self.ends.push(self.ends[usize::from(neighbour.0)]);
        self.others.insert(links, at);
        Some(at)
    }

    /// Gives what is left to other neighbours: each time to the one that can take most, so that branches are few.
    fn branch_out(
        &mut self,
        safety: Safety,
        down: &BTreeSet<NeighbourIndex>,
        rest: &mut Vec<Receiver>,
        branches: &mut Vec<(NeighbourIndex, Branch)>,
        instead: &mut BTreeMap<RouterIndex, NeighbourIndex>,
    ) {
        let beside = (0..self.computed.neighbours().len() as u16).map(NeighbourIndex);
        let beside: Vec<_> = beside.filter(|one| !down.contains(one) && self.links(*one).is_some()).collect();
        loop {
            let mut best: Option<(_, NeighbourIndex, Branch, Vec<RouterIndex>)> = None;
            for one in &beside {
                let (branch, taken) = self.grow(*one, safety, rest, branches);
                let far = self.distances(self.computed.root())[self.ends[usize::from(one.0)].at()];
                let rank = (taken.len(), Reverse(far));
                if !taken.is_empty() && best.as_ref().is_none_or(|(least, ..)| rank > *least) {
                    best = Some((rank, *one, branch, taken));
                }
            }
            let Some((_, neighbour, branch, taken)) = best else { return };
            branches.retain(|(one, _)| *one != neighbour);
            branches.push((neighbour, branch));
            rest.retain(|receiver| !taken.contains(&receiver.router));
            instead.extend(taken.into_iter().map(|router| (router, neighbour)));
        }
    }

    /// The branch by a neighbour with all that it can take, and whom it takes.
    fn grow(
        &mut self,
        neighbour: NeighbourIndex,
        safety: Safety,
        rest: &[Receiver],
        branches: &[(NeighbourIndex, Branch)],
    ) -> (Branch, Vec<RouterIndex>) {
        let via = self.ends[usize::from(neighbour.0)];
        let known = branches.iter().find(|(one, _)| *one == neighbour);
        let mut branch = known.map(|(_, branch)| branch.clone()).unwrap_or_default();
        let mut taken = Vec::new();
        for receiver in rest {
            if !self.reads(via, receiver.si) || self.safety(via, receiver).is_none_or(|one| one < safety) {
                continue;
            }
            let paths = self.paths(via, receiver.router);
            if branch.takes(&paths, branches, neighbour) {
                branch.before.extend(paths.before);
                taken.push(receiver.router);
            }
        }
        (branch, taken)
    }

    /// Whether a router has a table for a set.
    fn reads(&self, router: RouterIndex, si: Si) -> bool {
        self.domain.get(router).bift_ids().id(self.domain.key(si)).is_some()
    }

    /// What a neighbour keeps the packets of a receiver away from; `None` if they could come back.
    fn safety(&mut self, via: RouterIndex, receiver: &Receiver) -> Option<Safety> {
        let from_via = self.distances(via);
        let straight = from_via[receiver.router.at()];
        if straight == UNREACHED {
            return None;
        }
        let mut misses = |failed: &RouterIndex| {
            let (there, onward) = (from_via[failed.at()], self.distances(*failed)[receiver.router.at()]);
            there == UNREACHED || onward == UNREACHED || there + onward > straight
        };
        if receiver.lost.iter().all(&mut misses) {
            return Some(Safety::Node);
        }
        let root = self.computed.root();
        let own = self.distances(root)[receiver.router.at()];
        let prefix = |router: RouterIndex| self.domain.get(router).bier();
        ((straight, prefix(via)) < (own, prefix(root))).then_some(Safety::Link)
    }

    /// All shortest paths from a neighbour to a router.
    fn paths(&mut self, via: RouterIndex, to: RouterIndex) -> Branch {
        let distance = self.distances(via);
        let mut paths = Branch::default();
        let mut open = vec![to];
        while let Some(router) = open.pop() {
            if router == via || paths.before.contains_key(&router) {
                continue;
            }
            let halves = self.graph.links_of(router).iter();
            let tight = halves.filter(|half| {
                let (far, cost) = (distance[half.other.at()], self.graph.cost_in(half));
                far != UNREACHED && cost != DOWN && far + u64::from(cost) == distance[router.at()]
            });
            // Parallel links are one way: a copy takes one of them.
            let before: BTreeSet<_> = tight.map(|half| half.other).collect();
            open.extend(&before);
            paths.before.insert(router, before.into_iter().collect());
        }
        paths
    }

    fn distances(&mut self, from: RouterIndex) -> Arc<[u64]> {
        let graph = self.graph;
        Arc::clone(self.from[from.at()].get_or_insert_with(|| graph.distances(from).into()))
    }
}
