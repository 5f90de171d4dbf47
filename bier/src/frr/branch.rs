//! What moves to one router, and by which links: branches may not come together where equal paths could make them.

use alloc::sync::Arc;
use alloc::vec::Vec;

use super::tree::{Marks, Steps};
use crate::topology::RouterIndex;

/// Some of the routers that shortest paths lead by, with those before each.
#[derive(Clone)]
pub(super) struct Paths {
    steps: Arc<Steps>,
    on: Marks,
}

impl Paths {
    /// None yet.
    fn new(steps: &Arc<Steps>, routers: usize) -> Self {
        Self { steps: Arc::clone(steps), on: Marks::new(routers) }
    }

    /// One link.
    pub(super) fn link(routers: usize, from: RouterIndex, to: RouterIndex) -> Self {
        let mut paths = Self::new(&Arc::new(Steps::link(routers, from, to)), routers);
        paths.on.set(to);
        paths
    }

    /// All of them that lead to one router.
    pub(super) fn to(steps: &Arc<Steps>, routers: usize, to: RouterIndex) -> Self {
        let mut paths = Self::new(steps, routers);
        let mut open = Vec::from([to]);
        while let Some(router) = open.pop() {
            // Where they begin nobody is before.
            if !paths.on.has(router) && !steps.before(router).is_empty() {
                paths.on.set(router);
                open.extend(steps.before(router));
            }
        }
        paths
    }

    /// Whether one of these steps is one of ours.
    fn has_step(&self, before: &[RouterIndex], router: RouterIndex) -> bool {
        self.on.has(router) && self.steps.before(router).iter().any(|step| before.contains(step))
    }

    /// Whether both go over one link.
    fn meets(&self, other: &Paths) -> bool {
        self.on.iter().any(|router| other.has_step(self.steps.before(router), router))
    }
}

/// The bits that move to one router.
#[derive(Clone)]
pub(super) struct Branch {
    pub(super) by: RouterIndex,
    /// From there on.
    onward: Paths,
    /// To there.
    way: Paths,
}

/// What taking a receiver needs for a while.
pub(super) struct Scratch {
    open: Vec<RouterIndex>,
    fresh: Vec<RouterIndex>,
    seen: Marks,
}

impl Scratch {
    pub(super) fn new(routers: usize) -> Self {
        Self { open: Vec::new(), fresh: Vec::new(), seen: Marks::new(routers) }
    }
}

impl Branch {
    /// One without a receiver, by a router from where these steps lead on.
    pub(super) fn new(by: RouterIndex, way: Paths, steps: &Arc<Steps>, routers: usize) -> Self {
        Self { by, onward: Paths::new(steps, routers), way }
    }

    /// Whether the way to where it begins is beside the others.
    pub(super) fn is_apart(&self, others: &[Branch]) -> bool {
        let meets = |other: &Branch| self.way.meets(&other.onward) || self.way.meets(&other.way);
        !others.iter().any(|other| other.by != self.by && meets(other))
    }

    /// Takes a receiver, if it can join this one of several branches. Only what is new on the way to it is looked at: the rest was
    /// when that was.
    pub(super) fn take(&mut self, to: RouterIndex, others: &[Branch], scratch: &mut Scratch) -> bool {
        let Scratch { open, fresh, seen } = scratch;
        open.clear();
        open.push(to);
        let is_taken = loop {
            let Some(router) = open.pop() else { break true };
            if router == self.by || seen.has(router) {
                continue;
            }
            let steps = &self.onward.steps;
            if self.onward.on.has(router) {
                // Whoever goes there stays together.
                if steps.is_single(router) {
                    continue;
                }
                break false;
            }
            let before = steps.before(router);
            let meets = |other: &Branch| {
                other.by != self.by
                    && (other.onward.has_step(before, router) || other.way.has_step(before, router))
            };
            // What has come through a tunnel doesn't go over a part of it once more.
            if self.way.on.has(router) || others.iter().any(meets) {
                break false;
            }
            seen.set(router);
            fresh.push(router);
            open.extend(before);
        };
        for router in fresh.drain(..) {
            seen.clear(router);
            if is_taken {
                self.onward.on.set(router);
            }
        }
        is_taken
    }
}
