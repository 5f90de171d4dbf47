//! A domain as one knows it: routers, links and their costs, for one sub-domain and one length of bit strings.
//!
//! [`Domain::new`] always makes a domain, of all that doesn't contradict itself, and tells everything that does, each
//! with the place of the offending item. Who reads a configuration refuses it if there is any; who learns a domain
//! from others logs and goes on, as RFC 8279 section 6 wants it: two routers with one BFR-id make both rows invalid,
//! and the others still get their packets.

mod contradiction;
mod spec;

pub use contradiction::Contradiction;
pub use spec::{BiftIdSpec, LinkSpec, RouterSpec};

use alloc::collections::BTreeMap;
use alloc::string::String;
use alloc::vec::Vec;
use core::net::IpAddr;

use crate::bift::LinkId;
use crate::bift_id::BiftIds;
use crate::id::{BfrId, BiftKey, BitPosition, Bsl, Si, SubDomain};

/// The place of a router in a domain: that of its specification.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RouterIndex(pub u32);

impl RouterIndex {
    pub(crate) fn at(self) -> usize {
        self.0 as usize
    }
}

/// A router of a domain.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Router {
    name: String,
    /// Its BFR-prefix, if it forwards BIER packets with bit strings of this length. Others are crossed by tunnels
    /// (RFC 8279 section 6.9, and the third choice of section 6.10.2).
    bier: Option<IpAddr>,
    bfr_id: Option<BfrId>,
    bift_ids: BiftIds,
}

impl Router {
    /// Its name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its BFR-prefix, if it forwards packets of this domain.
    #[must_use]
    pub fn bier(&self) -> Option<IpAddr> {
        self.bier
    }

    /// Its number, if it has one and nothing contradicts it.
    #[must_use]
    pub fn bfr_id(&self) -> Option<BfrId> {
        self.bfr_id
    }

    /// The BIFT-ids that it wants packets to carry.
    #[must_use]
    pub fn bift_ids(&self) -> &BiftIds {
        &self.bift_ids
    }
}

/// A link of a domain.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Link {
    /// Its ends.
    pub ends: [RouterIndex; 2],
    /// What it costs from the first end to the second, and back; `None` while it is down.
    pub costs: Option<[u32; 2]>,
}

/// Routers and links that don't contradict each other.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Domain {
    sub_domain: SubDomain,
    bsl: Bsl,
    routers: Vec<Router>,
    by_name: BTreeMap<String, RouterIndex>,
    /// By the place of their specification; `None` for those that were left out.
    links: Vec<Option<Link>>,
}

impl Domain {
    /// The domain that these make, and all that is wrong with them.
    #[must_use]
    pub fn new(
        sub_domain: SubDomain,
        bsl: Bsl,
        routers: &[RouterSpec],
        links: &[LinkSpec],
    ) -> (Self, Vec<Contradiction>) {
        let mut found = Vec::new();
        let (by_name, routers) = spec::routers(bsl, routers, &mut found);
        let links =
            links.iter().enumerate().map(|(at, link)| spec::link(at, link, &by_name, &mut found)).collect();
        (Self { sub_domain, bsl, routers, by_name, links }, found)
    }

    /// The sub-domain.
    #[must_use]
    pub fn sub_domain(&self) -> SubDomain {
        self.sub_domain
    }

    /// How long bit strings are.
    #[must_use]
    pub fn bsl(&self) -> Bsl {
        self.bsl
    }

    /// What the BIFT of this set is for.
    #[must_use]
    pub fn key(&self, si: Si) -> BiftKey {
        BiftKey { sub_domain: self.sub_domain, si, bsl: self.bsl }
    }

    /// All routers, by [`RouterIndex`].
    #[must_use]
    pub fn routers(&self) -> &[Router] {
        &self.routers
    }

    /// The router at a place.
    ///
    /// # Panics
    /// If it is a place in another domain.
    #[must_use]
    pub fn get(&self, router: RouterIndex) -> &Router {
        &self.routers[router.at()]
    }

    /// The router of this name.
    #[must_use]
    pub fn router(&self, name: &str) -> Option<RouterIndex> {
        self.by_name.get(name).copied()
    }

    /// All links, by the place of their specification; `None` for those left out.
    #[must_use]
    pub fn links(&self) -> &[Option<Link>] {
        &self.links
    }

    /// A link; `None` if it was left out or never there.
    #[must_use]
    pub fn link(&self, link: LinkId) -> Option<&Link> {
        self.links.get(link.0 as usize)?.as_ref()
    }

    /// Takes a link up or down, or changes what it costs (`None`: down; costs of 0 count as 1). Tables follow with
    /// [`Computed::link_changed`](crate::compute::Computed::link_changed).
    pub fn set_link(&mut self, link: LinkId, costs: Option<[u32; 2]>) {
        if let Some(Some(link)) = self.links.get_mut(link.0 as usize) {
            link.costs = costs.map(|costs| costs.map(|cost| cost.max(1)));
        }
    }

    /// The routers that packets can be for, by set: the bit of each.
    #[must_use]
    pub fn bfers(&self) -> BTreeMap<Si, Vec<(BitPosition, RouterIndex)>> {
        let mut sets: BTreeMap<Si, Vec<_>> = BTreeMap::new();
        for (index, router) in (0..).map(RouterIndex).zip(&self.routers) {
            // A BFER that can't read this length gets nothing of it.
            if let (Some(id), Some(_)) = (router.bfr_id, router.bier)
                && let Some((si, bit)) = id.position(self.bsl)
            {
                sets.entry(si).or_default().push((bit, index));
            }
        }
        sets
    }
}

#[cfg(test)]
mod tests;
