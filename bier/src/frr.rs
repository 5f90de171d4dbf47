//! Fast reroute: rows that stand ready for the failure of each neighbour, switched to by one flag (see
//! [`Down`](crate::forward::Down)), before any new table could be computed. After the ideas of `draft-ietf-bier-frr`;
//! those who stand in are neighbours (loop-free alternates, RFC 5286), and where there is none and it is wanted, routers
//! further away that a tunnel leads to (remote ones, RFC 7490).
//!
//! ```text
//! link protection         S ──✗── P ── c            what P would have got goes to a neighbour whose own ways don't lead
//!                         └── a ──┘                 back over S; or to P itself, by another link that costs more
//!
//! node protection         S ──── ✗P ── c            to one whose own ways don't lead over P, where there is one; the
//!                         └── a ── b ──┘            bit of P itself goes as if only the link had failed
//!
//! remote                  S ──── ✗P ── c            to one whose own ways don't lead over P, through a tunnel that
//!                         └─ a ══ b ── d ┘          doesn't either: to a alone it would come back
//! ```
//!
//! **Nothing loops.** A repaired packet either goes to a router from where *no* shortest path to its receiver leads
//! over what may have failed, so that it is never repaired again; or to one that is nearer to the receiver than we are
//! (and of equally near ones, one with a lower BFR-prefix), as all other hops are, so that no number of repairs leads
//! around. That holds whether a link has failed or the router behind it, for S can't tell.
//!
//! A tunnel goes by the way of unicast, which is taken to be one of the shortest; all of those avoid what may have failed, so
//! it arrives, and where it ends the same holds as for a neighbour.
//!
//! **At most one more copy.** Each packet that a failure stops puts at most one copy more on any link. Bits that move to
//! one neighbour stay together until their ways part, for they join no way that equal paths could make them meet
//! again; bits that move to different neighbours have no link in common, nor with a tunnel. What is not protected without
//! breaking this is left out: [`Bift::unprotected`] tells which.
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
use crate::spf::{DOWN, Graph, Half, UNREACHED};
use crate::topology::{Domain, RouterIndex};

/// What is assumed to have failed when a neighbour can't be reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Protection {
    /// The link to it.
    Link,
    /// The neighbour.
    Node,
}

/// What is to stand ready.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Repairs {
    /// For what.
    pub protection: Protection,
    /// Routers further away may stand in, through tunnels, where no neighbour can. All routers have to take packets out of
    /// tunnels of any other then.
    pub remote: bool,
}

impl From<Protection> for Repairs {
    /// By neighbours alone.
    fn from(protection: Protection) -> Self {
        Self { protection, remote: false }
    }
}

/// Routers that are looked at for whether they can stand in from afar, the nearest first: each costs as much as a table.
const REMOTE_MAX: usize = 64;
/// Of these, those that are tried beside the neighbours, which costs as much as for neighbours.
const REMOTE_TRIED_MAX: usize = 8;

/// The BIFTs of a router with rows for the failure of each neighbour. They may have more neighbours than before, at the
/// end: the same ones, by links that cost more, and routers behind tunnels. `port` tells which links fail together.
#[must_use]
pub fn protect(
    domain: &Domain,
    computed: &Computed,
    repairs: impl Into<Repairs>,
    port: impl Fn(LinkId) -> u32,
) -> Vec<Arc<Bift>> {
    let repairs = repairs.into();
    let mut plan = Plan::new(domain, computed);
    let failures: Vec<Option<Failure>> = (0..computed.neighbours().len() as u16)
        .map(|at| plan.failure(NeighbourIndex(at), repairs, &port))
        .collect();
    let Additions { neighbours, ends, .. } = plan.additions;
    let neighbours: Arc<[Neighbour]> = neighbours.into();
    let finish = |bift: &Arc<Bift>| {
        let key = bift.key();
        let out: Box<[Option<BiftId>]> = ends.iter().map(|end| domain.get(*end).bift_ids().id(key)).collect();
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

/// The routers that packets come by, each with those before it on any shortest path.
type Paths = BTreeMap<RouterIndex, Vec<RouterIndex>>;

/// A router that could stand in.
struct Via {
    router: RouterIndex,
    /// The way there: the link, or a tunnel's.
    way: Paths,
    is_beside: bool,
}

/// The bits that move to one router.
#[derive(Clone, Default)]
struct Branch {
    /// From there on.
    before: Paths,
    /// To there.
    way: Paths,
}

impl Branch {
    /// Whether a receiver with these paths can join this one of several branches.
    fn takes(&self, paths: &Branch, others: &[(RouterIndex, Branch)], own: RouterIndex) -> bool {
        // What has come through a tunnel doesn't go over a part of it once more.
        let goes_on = !paths.before.keys().any(|router| self.way.contains_key(router));
        let stays_together =
            paths.before.keys().all(|router| !self.before.contains_key(router) || paths.is_single(*router));
        let is_apart =
            |other: &Branch| !paths.meets(other) && (!self.before.is_empty() || !self.meets(other));
        goes_on && stays_together && others.iter().all(|(router, other)| *router == own || is_apart(other))
    }

    /// Whether both go over one link.
    fn meets(&self, other: &Branch) -> bool {
        let share = |one: &Paths, other: &Paths| {
            one.iter().any(|(router, before)| {
                other.get(router).is_some_and(|theirs| theirs.iter().any(|step| before.contains(step)))
            })
        };
        let theirs = [&other.before, &other.way];
        [&self.before, &self.way].iter().any(|one| theirs.iter().any(|two| share(one, two)))
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
    /// How far all are from those routers that were asked for.
    from: Vec<Option<Arc<[u64]>>>,
    additions: Additions,
}

/// The neighbours, and those that repairs add at the end.
#[derive(Clone)]
struct Additions {
    neighbours: Vec<Neighbour>,
    /// The router that each neighbour is.
    ends: Vec<RouterIndex>,
    /// Those that were added, by the links to them.
    others: BTreeMap<Box<[LinkId]>, NeighbourIndex>,
    /// And those behind tunnels.
    remote: BTreeMap<RouterIndex, NeighbourIndex>,
}

impl Additions {
    /// One more; `None` if there are too many.
    fn add(&mut self, neighbour: Neighbour, end: RouterIndex) -> Option<NeighbourIndex> {
        let at = self.neighbours.len();
        (at < NEIGHBOURS_MAX).then(|| {
            self.neighbours.push(neighbour);
            self.ends.push(end);
            NeighbourIndex(at as u16)
        })
    }
}

impl<'a> Plan<'a> {
    fn new(domain: &'a Domain, computed: &'a Computed) -> Self {
        let neighbours = computed.neighbours().to_vec();
        let end = |at| computed.router(NeighbourIndex(at)).expect("every neighbour is a router");
        let ends = (0..neighbours.len() as u16).map(end).collect();
        let from = vec![None; computed.graph().routers()];
        let additions = Additions { neighbours, ends, others: BTreeMap::new(), remote: BTreeMap::new() };
        Self { domain, computed, graph: computed.graph(), from, additions }
    }

    /// What to do when a neighbour goes down; `None` where that is for others to repair.
    fn failure(
        &mut self,
        failing: NeighbourIndex,
        repairs: Repairs,
        port: &impl Fn(LinkId) -> u32,
    ) -> Option<Failure> {
        let ports: BTreeSet<u32> = self.links(failing)?.iter().map(|link| port(*link)).collect();
        let hit = |links: &[LinkId]| links.iter().all(|link| ports.contains(&port(*link)));
        let known = (0..self.computed.neighbours().len() as u16).map(NeighbourIndex);
        let down: BTreeSet<_> = known.filter(|one| self.links(*one).is_some_and(hit)).collect();
        let is_hit = |link| ports.contains(&port(link));
        let mut others = self.beside(&down);
        let (instead, left) = self.repair(repairs.protection, &down, &others, is_hit);
        if !repairs.remote || left.is_empty() {
            return Some(Failure { down, instead });
        }
        // All of them together, for what neighbours have taken alone may be in the way of a tunnel.
        let before = self.additions.clone();
        let far = self.far_away(&down, is_hit);
        others.extend(self.most_useful(far, &left));
        let (by_all, left_by_all) = self.repair(repairs.protection, &down, &others, is_hit);
        let instead = if left_by_all.len() < left.len() {
            by_all
        } else {
            self.additions = before;
            instead
        };
        Some(Failure { down, instead })
    }

    /// Who gets the bits of which router, of these, and whose are left to nobody.
    fn repair(
        &mut self,
        protection: Protection,
        down: &BTreeSet<NeighbourIndex>,
        others: &[Via],
        is_hit: impl Fn(LinkId) -> bool,
    ) -> (BTreeMap<RouterIndex, NeighbourIndex>, Vec<Receiver>) {
        let mut rest = self.receivers(down);
        let mut instead = BTreeMap::new();
        let mut branches = Vec::new();
        if protection == Protection::Node {
            self.branch_out(Safety::Node, others, &mut rest, &mut branches, &mut instead);
        }
        self.take_other_links(down, &mut rest, &mut instead, is_hit);
        self.branch_out(Safety::Link, others, &mut rest, &mut branches, &mut instead);
        (instead, rest)
    }

    /// The neighbours on links that are left.
    fn beside(&self, down: &BTreeSet<NeighbourIndex>) -> Vec<Via> {
        let known = (0..self.computed.neighbours().len() as u16).map(NeighbourIndex);
        let left = known.filter(|one| !down.contains(one) && self.links(*one).is_some());
        let via =
            |router| Via { router, way: [(router, vec![self.computed.root()])].into(), is_beside: true };
        left.map(|one| via(self.end(one))).collect()
    }

    /// Those that can take over most of what is left.
    fn most_useful(&mut self, far: Vec<Via>, left: &[Receiver]) -> impl Iterator<Item = Via> {
        let mut takes = |via: &Via| {
            let mut one = |receiver: &&Receiver| {
                self.reads(via.router, receiver.si) && self.safety(via.router, receiver).is_some()
            };
            left.iter().filter(|receiver| one(receiver)).count()
        };
        let mut ranked: Vec<_> = far.into_iter().map(|via| (takes(&via), via)).collect();
        ranked.retain(|(count, _)| *count > 0);
        // The nearest first, of those that are equal.
        ranked.sort_by_key(|(count, _)| Reverse(*count));
        ranked.into_iter().take(REMOTE_TRIED_MAX).map(|(_, via)| via)
    }

    /// Routers that tunnels lead to, whatever of `down` has failed, the nearest first; neighbours are none.
    fn far_away(&mut self, down: &BTreeSet<NeighbourIndex>, is_hit: impl Fn(LinkId) -> bool) -> Vec<Via> {
        let (root, graph) = (self.computed.root(), self.graph);
        let own = self.distances(root);
        let failed: Vec<_> = down.iter().map(|one| self.end(*one)).collect();
        let from_failed: Vec<_> = failed.iter().map(|one| self.distances(*one)).collect();
        let all = (0..graph.routers() as u32).map(RouterIndex);
        let is_beside = |router| self.computed.neighbour(router).is_some_and(|one| self.links(one).is_some());
        let mut far: Vec<_> =
            all.filter(|one| graph.is_bier(*one) && *one != root && !is_beside(*one)).collect();
        far.retain(|router| {
            let there = own[router.at()];
            let misses = |(failed, from): (&RouterIndex, &Arc<[u64]>)| {
                let (to, onward) = (own[failed.at()], from[router.at()]);
                to == UNREACHED || onward == UNREACHED || to + onward > there
            };
            there != UNREACHED && failed.iter().zip(&from_failed).all(misses)
        });
        far.sort_by_key(|router| (own[router.at()], *router));
        let mut found = Vec::new();
        for router in far {
            let tunnel = self.paths(root, router);
            // No link that is down leads into it, not even to one without BIER.
            let begins = |half: &&Half| {
                let is_first = tunnel.get(&half.other).is_some_and(|before| before.contains(&root));
                is_first && u64::from(graph.cost_out(half)) == own[half.other.at()]
            };
            let is_left = !graph.links_of(root).iter().filter(begins).any(|half| is_hit(half.link));
            if is_left {
                found.push(Via { router, way: tunnel, is_beside: false });
            }
            if found.len() == REMOTE_MAX {
                break;
            }
        }
        found
    }

    /// The router that a neighbour is.
    fn end(&self, neighbour: NeighbourIndex) -> RouterIndex {
        self.additions.ends[usize::from(neighbour.0)]
    }

    /// The links to a neighbour that is beside us.
    fn links(&self, neighbour: NeighbourIndex) -> Option<&[LinkId]> {
        match &self.additions.neighbours[usize::from(neighbour.0)].reach {
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
            let lost: Vec<_> = hops.map(|hop| self.end(hop)).collect();
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
            let end = self.end(*failed);
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
        if let Some(known) = self.additions.others.get(&links) {
            return Some(*known);
        }
        let prefix = self.additions.neighbours[usize::from(neighbour.0)].prefix;
        let end = self.end(neighbour);
        let at = self.additions.add(Neighbour { prefix, reach: Reach::Links(links.clone()) }, end)?;
        self.additions.others.insert(links, at);
        Some(at)
    }

    /// Gives what is left to other routers: each time to the one that can take most, so that branches are few.
    fn branch_out(
        &mut self,
        safety: Safety,
        others: &[Via],
        rest: &mut Vec<Receiver>,
        branches: &mut Vec<(RouterIndex, Branch)>,
        instead: &mut BTreeMap<RouterIndex, NeighbourIndex>,
    ) {
        loop {
            let mut best: Option<(_, RouterIndex, Branch, Vec<RouterIndex>)> = None;
            for one in others {
                let (branch, taken) = self.grow(one, safety, rest, branches);
                let far = self.distances(self.computed.root())[one.router.at()];
                let rank = (taken.len(), one.is_beside, Reverse(far));
                if !taken.is_empty() && best.as_ref().is_none_or(|(least, ..)| rank > *least) {
                    best = Some((rank, one.router, branch, taken));
                }
            }
            let Some((_, router, branch, taken)) = best else { return };
            let Some(neighbour) = self.standing_in(router) else { return };
            branches.retain(|(one, _)| *one != router);
            branches.push((router, branch));
            rest.retain(|receiver| !taken.contains(&receiver.router));
            instead.extend(taken.into_iter().map(|router| (router, neighbour)));
        }
    }

    /// A router that takes over: the neighbour, or a new one behind a tunnel; `None` if there are too many.
    fn standing_in(&mut self, router: RouterIndex) -> Option<NeighbourIndex> {
        let known = || self.additions.remote.get(&router).copied();
        if let Some(known) = self.computed.neighbour(router).or_else(known) {
            return Some(known);
        }
        let prefix = self.domain.get(router).bier()?;
        let at = self.additions.add(Neighbour { prefix, reach: Reach::Tunnel }, router)?;
        self.additions.remote.insert(router, at);
        Some(at)
    }

    /// The branch by a router with all that it can take, and whom it takes.
    fn grow(
        &mut self,
        by: &Via,
        safety: Safety,
        rest: &[Receiver],
        branches: &[(RouterIndex, Branch)],
    ) -> (Branch, Vec<RouterIndex>) {
        let via = by.router;
        let known = branches.iter().find(|(one, _)| *one == via);
        let fresh = || Branch { before: Paths::new(), way: by.way.clone() };
        let mut branch = known.map_or_else(fresh, |(_, branch)| branch.clone());
        let mut taken = Vec::new();
        for receiver in rest {
            if !self.reads(via, receiver.si) || self.safety(via, receiver).is_none_or(|one| one < safety) {
                continue;
            }
            let paths = Branch { before: self.paths(via, receiver.router), way: Paths::new() };
            if branch.takes(&paths, branches, via) {
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

    /// All shortest paths from one router to another.
    fn paths(&mut self, via: RouterIndex, to: RouterIndex) -> Paths {
        let distance = self.distances(via);
        let mut paths = Paths::new();
        let mut open = vec![to];
        while let Some(router) = open.pop() {
            if router == via || paths.contains_key(&router) {
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
            paths.insert(router, before.into_iter().collect());
        }
        paths
    }

    fn distances(&mut self, from: RouterIndex) -> Arc<[u64]> {
        let graph = self.graph;
        Arc::clone(self.from[from.at()].get_or_insert_with(|| graph.distances(from).into()))
    }
}
