//! BIFTs from a domain, as one of its routers sees it (RFC 8279 section 6.4 to 6.9).
//!
//! Table `t` sends each bit by the `t`th of its equal first hops, counted around. With as many tables as the least
//! common multiple of path counts all paths are used alike; with fewer, still none is used by two tables before all
//! are used by one.

use alloc::boxed::Box;
use alloc::collections::{BTreeMap, BTreeSet};
use alloc::sync::Arc;
use alloc::vec;
use alloc::vec::Vec;

use crate::bift::{Bift, LinkId, Neighbour, NeighbourIndex, Reach, Rows, TABLES_MAX, Table};
use crate::id::{BitPosition, Si};
use crate::spf::{DOWN, Graph, Spf};
use crate::topology::{Domain, RouterIndex};

/// How to compute.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Options {
    /// How many tables each BIFT has, 1 to [`TABLES_MAX`].
    pub tables: usize,
    /// What makes choices differ from those of another run; each router's place in the domain is mixed in.
    pub seed: u32,
}

impl Default for Options {
    /// One table: no balancing.
    fn default() -> Self {
        Self { tables: 1, seed: 0 }
    }
}

/// The BIFTs of one router, and what it takes to follow changes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Computed {
    root: RouterIndex,
    options: Options,
    graph: Graph,
    spf: Spf,
    /// The BFERs of each set. Links may change, numbers don't.
    sets: BTreeMap<Si, Vec<(BitPosition, RouterIndex)>>,
    /// Which router each neighbour is, in order.
    routers: Vec<RouterIndex>,
    neighbours: Arc<[Neighbour]>,
    bifts: Vec<Arc<Bift>>,
}

impl Computed {
    /// The BIFTs of a router: one for each set that has a BFER. A router that doesn't speak BIER has none.
    ///
    /// # Panics
    /// If the number of tables isn't 1 to [`TABLES_MAX`], or the router isn't of the domain.
    #[must_use]
    pub fn new(domain: &Domain, root: RouterIndex, options: Options) -> Self {
        assert!((1..=TABLES_MAX).contains(&options.tables), "{} tables", options.tables);
        let graph = Graph::new(domain);
        let spf = Spf::new(&graph, root);
        let sets = if domain.get(root).bier().is_some() { domain.bfers() } else { BTreeMap::new() };
        let (routers, neighbours) = (Vec::new(), Arc::from([]));
        let mut computed = Self { root, options, graph, spf, sets, routers, neighbours, bifts: Vec::new() };
        (computed.routers, computed.neighbours) = computed.find_neighbours(domain);
        computed.bifts = computed.sets.keys().map(|si| computed.build(domain, *si)).collect();
        computed
    }

    /// The router whose BIFTs these are.
    #[must_use]
    pub fn root(&self) -> RouterIndex {
        self.root
    }

    /// The BIFTs, by set.
    #[must_use]
    pub fn bifts(&self) -> &[Arc<Bift>] {
        &self.bifts
    }

    /// The BIFT of a set.
    #[must_use]
    pub fn bift(&self, si: Si) -> Option<&Arc<Bift>> {
        let at = self.bifts.binary_search_by_key(&si, |bift| bift.key().si).ok()?;
        Some(&self.bifts[at])
    }

    /// The router that a neighbour is.
    #[must_use]
    pub fn router(&self, neighbour: NeighbourIndex) -> Option<RouterIndex> {
        self.routers.get(usize::from(neighbour.0)).copied()
    }

    /// The neighbour that a router is.
    #[must_use]
    pub fn neighbour(&self, router: RouterIndex) -> Option<NeighbourIndex> {
        self.routers.binary_search(&router).ok().map(|at| NeighbourIndex(at as u16))
    }

    /// The neighbours that shortest paths to a router begin with.
    #[must_use]
    pub fn first_hops(&self, router: RouterIndex) -> Vec<NeighbourIndex> {
        self.spf.hops(router).iter().filter_map(|hop| self.neighbour(hop.router)).collect()
    }

    pub(crate) fn graph(&self) -> &Graph {
        &self.graph
    }

    pub(crate) fn sets(&self) -> &BTreeMap<Si, Vec<(BitPosition, RouterIndex)>> {
        &self.sets
    }

    /// All that can be first hops, in the order of [`NeighbourIndex`].
    #[must_use]
    pub fn neighbours(&self) -> &Arc<[Neighbour]> {
        &self.neighbours
    }

    /// Follows [`Domain::set_link`]. BIFTs that don't depend on the link stay the very same; returns the sets of the
    /// others.
    pub fn link_changed(&mut self, domain: &Domain, link: LinkId) -> Vec<Si> {
        let Some(state) = domain.link(link) else { return Vec::new() };
        let costs = state.costs.unwrap_or([DOWN; 2]);
        let moved: BTreeSet<_> =
            self.spf.change(&mut self.graph, link, state.ends, costs).into_iter().collect();
        let (routers, neighbours) = self.find_neighbours(domain);
        let others = neighbours[..] != self.neighbours[..];
        if others {
            (self.routers, self.neighbours) = (routers, neighbours);
        }
        let depends =
            |bfers: &[(BitPosition, RouterIndex)]| bfers.iter().any(|(_, router)| moved.contains(router));
        let anew: Vec<_> =
            self.sets.iter().filter(|(_, bfers)| others || depends(bfers)).map(|(si, _)| *si).collect();
        for si in &anew {
            let at = self.bifts.binary_search_by_key(si, |bift| bift.key().si).expect("one for each set");
            self.bifts[at] = self.build(domain, *si);
        }
        anew
    }

    /// All that can be first hops: BIER routers on our links, and the near ends of tunnels. In the order of routers.
    fn find_neighbours(&self, domain: &Domain) -> (Vec<RouterIndex>, Arc<[Neighbour]>) {
        let hops = self.sets.values().flatten().flat_map(|(_, router)| self.spf.hops(*router));
        let mut tunnels = BTreeMap::new();
        for hop in hops {
            tunnels.insert(hop.router, hop.tunnel);
        }
        for half in self.graph.links_of(self.root) {
            tunnels.entry(half.other).or_insert(false);
        }
        let mut routers = Vec::new();
        let mut neighbours = Vec::new();
        for (router, tunnel) in tunnels {
            // BIER stops at routers without it; what lies behind them has a tunnel of its own.
            let Some(prefix) = domain.get(router).bier() else { continue };
            let reach = if tunnel { Reach::Tunnel } else { Reach::Links(self.links_to(router)) };
            routers.push(router);
            neighbours.push(Neighbour { prefix, reach });
        }
        (routers, neighbours.into())
    }

    /// The cheapest links to a router beside us.
    fn links_to(&self, router: RouterIndex) -> Box<[LinkId]> {
        let all = || self.graph.links_of(self.root).iter().filter(|half| half.other == router);
        let cheapest = all().map(|half| self.graph.cost_out(half)).min();
        let equal = all().filter(|half| {
            let cost = self.graph.cost_out(half);
            cost != DOWN && Some(cost) == cheapest
        });
        equal.map(|half| half.link).collect()
    }

    fn build(&self, domain: &Domain, si: Si) -> Arc<Bift> {
        let key = domain.key(si);
        let out: Box<[_]> =
            self.routers.iter().map(|router| domain.get(*router).bift_ids().id(key)).collect();
        let bfers = &self.sets[&si];
        let local = bfers.iter().find(|(_, router)| *router == self.root).map(|(bit, _)| *bit);
        // A neighbour that has no BIFT-id for this set can't be sent any of it.
        let usable = |router: RouterIndex| {
            let at = self.routers.binary_search(&router).expect("all first hops are neighbours");
            out[at].is_some().then_some(NeighbourIndex(at as u16))
        };
        let ways: Vec<(BitPosition, Vec<NeighbourIndex>)> = bfers
            .iter()
            .map(|(bit, router)| {
                (*bit, self.spf.hops(*router).iter().filter_map(|hop| usable(hop.router)).collect())
            })
            .collect();
        let mut tables = vec![];
        for table in 0..self.options.tables {
            let bits = ways.iter().filter(|(_, hops)| !hops.is_empty());
            let rows =
                Rows::new(domain.bsl().words(), bits.map(|(bit, hops)| (*bit, hops[table % hops.len()])));
            tables.push(Table::new(rows, [].into()));
        }
        let seed = self.options.seed ^ self.root.0.wrapping_mul(0x9e37_79b9);
        Arc::new(Bift::new(key, local, self.neighbours.clone(), out, tables.into(), seed))
    }
}
