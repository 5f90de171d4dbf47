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

mod branch;
mod far;
mod tree;

use alloc::boxed::Box;
use alloc::collections::{BTreeMap, BTreeSet};
use alloc::sync::Arc;
use alloc::vec;
use alloc::vec::Vec;
use core::cmp::Reverse;

use crate::bift::{Bift, LinkId, NEIGHBOURS_MAX, Neighbour, NeighbourIndex, Reach, Rows, Table};
use crate::bift_id::BiftId;
use crate::bits;
use crate::compute::Computed;
use crate::id::{BitPosition, Si};
use crate::spf::{DOWN, Graph, UNREACHED};
use crate::topology::{Domain, RouterIndex};
use branch::{Branch, Paths, Scratch};
use tree::Tree;

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

/// Routers further away that are tried beside the neighbours, for each failure: each costs as much as a neighbour.
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
        let words = key.bsl.words();
        let bfers = &computed.sets()[&key.si];
        let moved: Vec<_> = failures.iter().map(|one| Some(one.as_ref()?.masks(words, bfers))).collect();
        let tables = bift.tables().iter().map(|table| {
            let rows = table.rows();
            let used = |at: usize| rows.neighbours().binary_search(&NeighbourIndex(at as u16)).is_ok();
            let instead = |(at, (failure, moved)): (usize, (&Option<Failure>, &Option<Masks>))| {
                let (failure, moved) = (failure.as_ref()?, moved.as_ref()?);
                used(at).then(|| failure.rows(words, rows, moved))
            };
            Table::new(rows.clone(), failures.iter().zip(&moved).enumerate().map(instead).collect())
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

/// Bits of a set, by the neighbour that they move to.
type Masks = BTreeMap<NeighbourIndex, Vec<u64>>;

impl Failure {
    /// The bits of a set that somebody else gets, if they are among those that lose their way.
    fn masks(&self, words: usize, bfers: &[(BitPosition, RouterIndex)]) -> Masks {
        let mut masks = Masks::new();
        for (bit, router) in bfers {
            if let Some(to) = self.instead.get(router) {
                bits::set(masks.entry(*to).or_insert_with(|| vec![0; words]), *bit);
            }
        }
        masks
    }

    /// What becomes of a table's rows.
    fn rows(&self, words: usize, rows: &Rows, moved: &Masks) -> Rows {
        let (down, left): (Vec<_>, Vec<_>) = rows.iter().partition(|(one, _)| self.down.contains(one));
        let mut masks: Vec<_> = left.into_iter().map(|(one, mask)| (one, mask.to_vec())).collect();
        let mut lost = vec![0; words];
        for (_, mask) in down {
            bits::or(&mut lost, mask);
        }
        let mut part = vec![0; words];
        for (to, mask) in moved {
            if bits::and(&lost, mask, &mut part) {
                match masks.binary_search_by_key(to, |(one, _)| *one) {
                    Ok(at) => bits::or(&mut masks[at].1, &part),
                    Err(at) => masks.insert(at, (*to, part.clone())),
                }
            }
        }
        Rows::of_masks(words, &masks)
    }
}

/// A router that others reach, and how we do.
struct Known {
    router: RouterIndex,
    si: Si,
    hops: Vec<NeighbourIndex>,
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

/// A router that could stand in.
struct Via {
    router: RouterIndex,
    /// The way there: the link, or a tunnel's.
    way: Paths,
    is_beside: bool,
    /// The sets that it has tables for.
    reads: BTreeSet<Si>,
}

/// What is known while repairs are looked for.
struct Plan<'a> {
    domain: &'a Domain,
    computed: &'a Computed,
    graph: &'a Graph,
    /// All that can be reached.
    known: Vec<Known>,
    /// The ways from those routers that were asked for.
    trees: Vec<Option<Arc<Tree>>>,
    /// The neighbours on links, those that were asked for.
    beside: Vec<Option<Arc<Via>>>,
    scratch: Scratch,
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
        let graph = computed.graph();
        let (trees, beside) = (vec![None; graph.routers()], vec![None; neighbours.len()]);
        let additions = Additions { neighbours, ends, others: BTreeMap::new(), remote: BTreeMap::new() };
        let all = computed
            .sets()
            .iter()
            .flat_map(|(si, bfers)| bfers.iter().map(move |(_, router)| (*si, *router)));
        let known = all.map(|(si, router)| Known { router, si, hops: computed.first_hops(router) }).collect();
        Self {
            domain,
            computed,
            graph,
            known,
            trees,
            beside,
            scratch: Scratch::new(graph.routers()),
            additions,
        }
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
        let far = self.far_away(&down, &left, is_hit);
        if far.is_empty() {
            return Some(Failure { down, instead });
        }
        let before = self.additions.clone();
        others.extend(far.into_iter().map(Arc::new));
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
        others: &[Arc<Via>],
        is_hit: impl Fn(LinkId) -> bool,
    ) -> (BTreeMap<RouterIndex, NeighbourIndex>, Vec<Receiver>) {
        let mut rest = self.receivers(down);
        let mut instead = BTreeMap::new();
        let mut branches: Vec<Branch> = Vec::new();
        if protection == Protection::Node {
            self.branch_out(Safety::Node, others, &mut rest, &mut branches, &mut instead);
        }
        self.take_other_links(down, &mut rest, &mut instead, is_hit);
        self.branch_out(Safety::Link, others, &mut rest, &mut branches, &mut instead);
        (instead, rest)
    }

    /// The neighbours on links that are left.
    fn beside(&mut self, down: &BTreeSet<NeighbourIndex>) -> Vec<Arc<Via>> {
        let known = (0..self.computed.neighbours().len() as u16).map(NeighbourIndex);
        let left: Vec<_> = known.filter(|one| !down.contains(one) && self.links(*one).is_some()).collect();
        left.into_iter().map(|one| self.via(one)).collect()
    }

    /// A neighbour on a link, made once: it may stand in for all others.
    fn via(&mut self, neighbour: NeighbourIndex) -> Arc<Via> {
        let (at, router) = (usize::from(neighbour.0), self.end(neighbour));
        let made = self.beside[at].take().unwrap_or_else(|| {
            Arc::new(Via {
                router,
                way: Paths::link(self.graph.routers(), self.computed.root(), router),
                is_beside: true,
                reads: self.reads(router),
            })
        });
        Arc::clone(self.beside[at].insert(made))
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
        let receiver = |known: &Known| {
            let hops = known.hops.iter().filter(|hop| down.contains(hop));
            let lost: Vec<_> = hops.map(|hop| self.end(*hop)).collect();
            (!lost.is_empty()).then_some(Receiver { router: known.router, si: known.si, lost })
        };
        self.known.iter().filter_map(receiver).collect()
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
            let reads = self.reads(end);
            rest.retain(|receiver| {
                let served = receiver.lost.contains(&end) && reads.contains(&receiver.si);
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
        others: &[Arc<Via>],
        rest: &mut Vec<Receiver>,
        branches: &mut Vec<Branch>,
        instead: &mut BTreeMap<RouterIndex, NeighbourIndex>,
    ) {
        let own = self.tree(self.computed.root());
        // How many each can take at most, by what is known: one that took fewer before doesn't take more when others have grown.
        let mut most: Vec<_> = others.iter().map(|one| self.suited(one, safety, rest).len()).collect();
        loop {
            let mut best: Option<(_, usize, Branch, Vec<RouterIndex>)> = None;
            let mut order: Vec<_> = (0..others.len()).filter(|at| most[*at] > 0).collect();
            order.sort_by_key(|at| Reverse(most[*at]));
            for at in order {
                let one = &others[at];
                if best.as_ref().is_some_and(|(.., taken)| taken.len() > most[at]) {
                    break;
                }
                let (branch, taken) = self.grow(one, safety, rest, branches);
                most[at] = taken.len();
                let rank = (taken.len(), one.is_beside, Reverse((own.to(one.router), at)));
                if !taken.is_empty() && best.as_ref().is_none_or(|(least, ..)| rank > *least) {
                    best = Some((rank, at, branch, taken));
                }
            }
            let Some((_, at, branch, taken)) = best else { return };
            let router = branch.by;
            let Some(neighbour) = self.standing_in(router) else { return };
            // It has all that it can have.
            most[at] = 0;
            branches.retain(|one| one.by != router);
            branches.push(branch);
            let mut gone = taken.iter().peekable();
            rest.retain(|receiver| gone.next_if(|one| **one == receiver.router).is_none());
            instead.extend(taken.iter().map(|router| (*router, neighbour)));
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

    /// Those that a router is safe for, and reads the packets of.
    fn suited<'r>(&mut self, via: &Via, safety: Safety, rest: &'r [Receiver]) -> Vec<&'r Receiver> {
        let from_via = self.tree(via.router);
        let mut is_suited = |receiver: &&Receiver| {
            via.reads.contains(&receiver.si)
                && self.safety(via.router, &from_via, receiver).is_some_and(|one| one >= safety)
        };
        rest.iter().filter(|receiver| is_suited(receiver)).collect()
    }

    /// The branch by a router with all that it can take, and whom it takes, in their order.
    fn grow(
        &mut self,
        via: &Via,
        safety: Safety,
        rest: &[Receiver],
        branches: &[Branch],
    ) -> (Branch, Vec<RouterIndex>) {
        let from_via = self.tree(via.router);
        let known = branches.iter().find(|one| one.by == via.router);
        let fresh = || Branch::new(via.router, via.way.clone(), from_via.steps(), self.graph.routers());
        let mut branch = known.cloned().unwrap_or_else(fresh);
        if known.is_none() && !branch.is_apart(branches) {
            return (branch, Vec::new());
        }
        let mut taken = Vec::new();
        for receiver in self.suited(via, safety, rest) {
            if branch.take(receiver.router, branches, &mut self.scratch) {
                taken.push(receiver.router);
            }
        }
        (branch, taken)
    }

    /// The sets that a router has tables for.
    fn reads(&self, router: RouterIndex) -> BTreeSet<Si> {
        let ids = self.domain.get(router).bift_ids();
        self.computed.sets().keys().copied().filter(|si| ids.id(self.domain.key(*si)).is_some()).collect()
    }

    /// What a router keeps the packets of a receiver away from; `None` if they could come back.
    fn safety(&mut self, via: RouterIndex, from_via: &Tree, receiver: &Receiver) -> Option<Safety> {
        let straight = from_via.to(receiver.router);
        if straight == UNREACHED {
            return None;
        }
        let mut misses = |failed: &RouterIndex| {
            let onward = self.tree(*failed).to(receiver.router);
            from_via.to(*failed).saturating_add(onward) > straight
        };
        if receiver.lost.iter().all(&mut misses) {
            return Some(Safety::Node);
        }
        self.is_nearer(via, straight, receiver.router).then_some(Safety::Link)
    }

    /// Whether a router that is so far from a receiver is nearer to it than we are.
    fn is_nearer(&mut self, via: RouterIndex, straight: u64, receiver: RouterIndex) -> bool {
        let root = self.computed.root();
        let own = self.tree(root).to(receiver);
        let prefix = |router: RouterIndex| self.domain.get(router).bier();
        (straight, prefix(via)) < (own, prefix(root))
    }

    fn tree(&mut self, from: RouterIndex) -> Arc<Tree> {
        let graph = self.graph;
        Arc::clone(self.trees[from.at()].get_or_insert_with(|| Arc::new(Tree::new(graph, from))))
    }
}
