//! What repairs are judged by: how far all routers are from one, and which are before each on the way.

use alloc::sync::Arc;
use alloc::vec;
use alloc::vec::Vec;

use crate::spf::{DOWN, Graph, UNREACHED};
use crate::topology::RouterIndex;

/// All shortest paths from one router.
pub(super) struct Tree {
    distance: Vec<u64>,
    /// Those that are reached, the nearest first.
    order: Vec<RouterIndex>,
    steps: Arc<Steps>,
}

impl Tree {
    pub(super) fn new(graph: &Graph, from: RouterIndex) -> Self {
        let distance = graph.distances(from);
        let order = nearest_first(&distance);
        let steps = Arc::new(Steps::new(graph, &distance, &order));
        Self { distance, order, steps }
    }

    /// How far a router is.
    pub(super) fn to(&self, router: RouterIndex) -> u64 {
        self.distance[router.at()]
    }

    pub(super) fn order(&self) -> &[RouterIndex] {
        &self.order
    }

    pub(super) fn steps(&self) -> &Arc<Steps> {
        &self.steps
    }
}

/// Those that are reached, the nearest first.
pub(super) fn nearest_first(distance: &[u64]) -> Vec<RouterIndex> {
    let mut order: Vec<_> = (0..distance.len() as u32).map(RouterIndex).collect();
    order.retain(|router| distance[router.at()] != UNREACHED);
    order.sort_unstable_by_key(|router| distance[router.at()]);
    order
}

/// The routers before each, one after the other.
pub(super) struct Steps {
    /// Where those before a router begin; they end where the next one's do.
    starts: Vec<u32>,
    before: Vec<RouterIndex>,
    /// To whom one path alone leads.
    single: Marks,
}

impl Steps {
    fn new(graph: &Graph, distance: &[u64], order: &[RouterIndex]) -> Self {
        let routers = graph.routers();
        let mut before = Vec::with_capacity(routers);
        let mut starts = Vec::with_capacity(routers + 1);
        starts.push(0);
        for router in (0..routers as u32).map(RouterIndex) {
            let first = before.len();
            for half in graph.links_of(router) {
                let (far, cost) = (distance[half.other.at()], graph.cost_in(half));
                let is_tight =
                    far != UNREACHED && cost != DOWN && far + u64::from(cost) == distance[router.at()];
                // Parallel links are one way: a copy takes one of them.
                if is_tight && !before[first..].contains(&half.other) {
                    before.push(half.other);
                }
            }
            starts.push(before.len() as u32);
        }
        let mut steps = Self { starts, before, single: Marks::new(routers) };
        for router in order {
            let is_single = match steps.before(*router) {
                [] => true,
                [one] => steps.single.has(*one),
                _ => false,
            };
            if is_single {
                steps.single.set(*router);
            }
        }
        steps
    }

    /// One link, of so many routers.
    pub(super) fn link(routers: usize, from: RouterIndex, to: RouterIndex) -> Self {
        let starts = (0..=routers).map(|at| u32::from(at > to.at())).collect();
        let mut single = Marks::new(routers);
        single.set(to);
        Self { starts, before: vec![from], single }
    }

    /// Those before a router.
    pub(super) fn before(&self, router: RouterIndex) -> &[RouterIndex] {
        let [from, to] = [0, 1].map(|more| self.starts[router.at() + more] as usize);
        &self.before[from..to]
    }

    /// Whether one path alone leads to a router.
    pub(super) fn is_single(&self, router: RouterIndex) -> bool {
        self.single.has(router)
    }
}

/// Some of the routers.
#[derive(Clone)]
pub(super) struct Marks(Vec<u64>);

impl Marks {
    pub(super) fn new(routers: usize) -> Self {
        Self(vec![0; routers.div_ceil(64)])
    }

    pub(super) fn has(&self, router: RouterIndex) -> bool {
        self.0[router.at() / 64] >> (router.at() % 64) & 1 == 1
    }

    pub(super) fn set(&mut self, router: RouterIndex) {
        self.0[router.at() / 64] |= 1 << (router.at() % 64);
    }

    pub(super) fn clear(&mut self, router: RouterIndex) {
        self.0[router.at() / 64] &= !(1 << (router.at() % 64));
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = RouterIndex> {
        self.0.iter().zip(0..).flat_map(|(word, at)| {
            let rest = |word: &u64| Some(word & (word - 1)).filter(|rest| *rest != 0);
            let ones = core::iter::successors(Some(*word).filter(|word| *word != 0), rest);
            ones.map(move |word| RouterIndex(at * 64 + word.trailing_zeros()))
        })
    }
}
