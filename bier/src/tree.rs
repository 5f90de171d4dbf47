//! What a domain makes of a packet: the tree of its copies, hop by hop, as every router's tables have it. For
//! operators who want to see what they have configured, as text and as a picture.

mod svg;
mod text;

use alloc::borrow::ToOwned;
use alloc::collections::{BTreeMap, VecDeque};
use alloc::string::String;
use alloc::vec;
use alloc::vec::Vec;

use crate::bift::{LinkId, Reach};
use crate::bits;
use crate::compute::{Computed, Options};
use crate::forward::{Down, Packet, Part};
use crate::id::{BfrId, Bsl, Si};
use crate::overlay::Receivers;
use crate::topology::{Domain, RouterIndex};

/// The packets that a BFIR makes for some receivers, and what becomes of them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tree {
    /// The BFIR's own packets come first, one for each set; copies after what they are copies of.
    visits: Vec<Visit>,
}

/// A packet at a router.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Visit {
    /// Where.
    pub router: RouterIndex,
    /// Its name.
    pub name: String,
    /// The visit that sent it, and how; `None` at the BFIR.
    pub from: Option<(usize, Way)>,
    /// Which set its bits are of.
    pub si: Si,
    /// As it comes; at the BFIR, as its copies leave.
    pub ttl: u8,
    /// Whom it is for.
    pub receivers: Vec<BfrId>,
    /// The payload leaves the domain here.
    pub delivered: bool,
    /// Whom there was no way to.
    pub unroutable: Vec<BfrId>,
    /// The TTL ended it here.
    pub expired: bool,
}

/// How a copy got to a router.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// Over a link.
    Link(LinkId),
    /// Through routers without BIER.
    Tunnel,
}

impl Tree {
    /// What becomes of packets of this entropy that `bfir` sends to some routers, in a domain where all compute with
    /// these options. `ttl` is that of the first copies.
    #[must_use]
    pub fn new(
        domain: &Domain,
        options: Options,
        bfir: RouterIndex,
        receivers: &Receivers,
        ttl: u8,
        entropy: u32,
    ) -> Self {
        let mut computed = BTreeMap::new();
        let mut visits = Vec::new();
        let mut queue = VecDeque::new();
        for (si, string) in receivers.sets(domain.bsl()) {
            visits.push(visit(domain, bfir, None, si, ttl, string.words()));
            queue.push_back((visits.len() - 1, string.words().to_vec()));
        }
        // Each copy has fewer hops left than its original, so this ends.
        while let Some((at, words)) = queue.pop_front() {
            let (router, si, ttl) = (visits[at].router, visits[at].si, visits[at].ttl);
            let tables = computed.entry(router).or_insert_with(|| Computed::new(domain, router, options));
            let Some(bift) = tables.bift(si) else {
                visits[at].unroutable = ids(si, &words, domain.bsl());
                continue;
            };
            let mut copies = vec![];
            // The BFIR writes the TTL, others take one off.
            let (ttl, sent) =
                if visits[at].from.is_none() { (u8::MAX, ttl) } else { (ttl, ttl.saturating_sub(1)) };
            let packet = Packet { bits: &words, ttl, entropy };
            let outcome = bift.forward(packet, &Down::default(), |part| match part {
                Part::Local => visits[at].delivered = true,
                Part::Copy { neighbour, bits } => copies.push((neighbour, bits.to_vec())),
                Part::Unroutable(bits) => visits[at].unroutable = ids(si, bits, domain.bsl()),
            });
            visits[at].expired = outcome.expired();
            for (neighbour, words) in copies {
                let to = tables.router(neighbour).expect("copies go to routers of the domain");
                let neighbour = bift.neighbour(neighbour);
                let way = match neighbour.link(entropy, bift.seed(), |_| true) {
                    Some(link) => Way::Link(link),
                    None => {
                        debug_assert_eq!(neighbour.reach, Reach::Tunnel);
                        Way::Tunnel
                    }
                };
                visits.push(visit(domain, to, Some((at, way)), si, sent, &words));
                queue.push_back((visits.len() - 1, words));
            }
        }
        Self { visits }
    }

    /// All visits: those of the BFIR first, and each after the one that sent it.
    #[must_use]
    pub fn visits(&self) -> &[Visit] {
        &self.visits
    }

    /// The visits that a visit sent, in order.
    fn children(&self, of: usize) -> impl DoubleEndedIterator<Item = usize> {
        let sent = move |visit: &Visit| visit.from.is_some_and(|(from, _)| from == of);
        (0..self.visits.len()).filter(move |at| sent(&self.visits[*at]))
    }

    /// The visits that nobody sent.
    fn roots(&self) -> impl DoubleEndedIterator<Item = usize> {
        (0..self.visits.len()).filter(|at| self.visits[*at].from.is_none())
    }
}

fn visit(
    domain: &Domain,
    router: RouterIndex,
    from: Option<(usize, Way)>,
    si: Si,
    ttl: u8,
    words: &[u64],
) -> Visit {
    Visit {
        router,
        name: domain.get(router).name().to_owned(),
        from,
        si,
        ttl,
        receivers: ids(si, words, domain.bsl()),
        delivered: false,
        unroutable: Vec::new(),
        expired: false,
    }
}

/// The routers that bits stand for.
fn ids(si: Si, words: &[u64], bsl: Bsl) -> Vec<BfrId> {
    bits::ones(words).filter_map(|bit| BfrId::at(si, bit, bsl)).collect()
}

#[cfg(test)]
mod tests;
