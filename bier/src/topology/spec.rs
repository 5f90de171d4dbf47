//! A domain as it is written down, and the checks that make it one.

use alloc::borrow::ToOwned;
use alloc::collections::BTreeMap;
use alloc::collections::btree_map::Entry;
use alloc::string::String;
use alloc::vec;
use alloc::vec::Vec;
use core::net::IpAddr;

use super::{Contradiction, Link, Router, RouterIndex};
use crate::bift_id::{BiftId, BiftIdMap, BiftIds};
use crate::id::{BfrId, BiftKey, Bsl};

/// A router, as written down.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RouterSpec {
    /// By which links name it.
    pub name: String,
    /// Its BFR-prefix; needed with BIER.
    pub prefix: Option<IpAddr>,
    /// Its number, unless it only passes packets on.
    pub bfr_id: Option<BfrId>,
    /// Whether it speaks BIER at all.
    pub speaks_bier: bool,
    /// The lengths of bit strings that it can forward.
    pub bsls: Vec<Bsl>,
    /// The BIFT-ids that it wants packets to carry.
    pub bift_ids: BiftIdSpec,
}

/// A router's BIFT-ids, as written down.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum BiftIdSpec {
    /// The static form.
    Static,
    /// One by one.
    Map(Vec<(BiftKey, BiftId)>),
}

impl RouterSpec {
    /// A router that speaks BIER with bit strings of 256 bits and BIFT-ids of the static form; without prefix and number.
    #[must_use]
    pub fn bier(name: &str) -> Self {
        Self { speaks_bier: true, bsls: vec![Bsl::B256], ..Self::plain(name) }
    }

    /// A router that doesn't speak BIER.
    #[must_use]
    pub fn plain(name: &str) -> Self {
        Self {
            name: name.to_owned(),
            prefix: None,
            bfr_id: None,
            speaks_bier: false,
            bsls: Vec::new(),
            bift_ids: BiftIdSpec::Static,
        }
    }
}

/// A link, as written down.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LinkSpec {
    /// The names of its ends.
    pub ends: [String; 2],
    /// What it costs from the first end to the second, and back.
    pub costs: [u32; 2],
}

impl LinkSpec {
    /// A link that costs the same both ways.
    #[must_use]
    pub fn new(one: &str, other: &str, cost: u32) -> Self {
        Self { ends: [one.to_owned(), other.to_owned()], costs: [cost, cost] }
    }
}

/// The routers, and where each name is.
pub(super) fn routers(
    bsl: Bsl,
    specs: &[RouterSpec],
    found: &mut Vec<Contradiction>,
) -> (BTreeMap<String, RouterIndex>, Vec<Router>) {
    let (mut names, mut prefixes, mut ids) = (BTreeMap::new(), BTreeMap::new(), BTreeMap::new());
    let mut routers: Vec<Router> = Vec::new();
    for (router, spec) in specs.iter().enumerate() {
        match names.entry(spec.name.clone()) {
            Entry::Vacant(entry) => _ = entry.insert(RouterIndex(router as u32)),
            Entry::Occupied(entry) => found.push(Contradiction::RepeatedName {
                router,
                first: entry.get().at(),
                name: spec.name.clone(),
            }),
        }
        let mut bfr_id = spec.bfr_id;
        if let Some(id) = spec.bfr_id {
            if !spec.speaks_bier {
                found.push(Contradiction::BfrIdWithoutBier { router, id });
                bfr_id = None;
            } else if !spec.bsls.is_empty() && !spec.bsls.contains(&bsl) {
                found.push(Contradiction::OtherBsl { router, id, bsl });
                bfr_id = None;
            } else if id.position(bsl).is_none() {
                found.push(Contradiction::BeyondSets { router, id });
                bfr_id = None;
            }
            let first = *ids.entry(id).or_insert(router);
            if first != router {
                found.push(Contradiction::RepeatedBfrId { router, first, id });
                (bfr_id, routers[first].bfr_id) = (None, None);
            }
        }
        if let Some(prefix) = spec.prefix {
            let first = *prefixes.entry(prefix).or_insert(router);
            if first != router {
                found.push(Contradiction::RepeatedPrefix { router, first, prefix });
                (bfr_id, routers[first].bfr_id) = (None, None);
            }
        }
        if spec.speaks_bier && spec.prefix.is_none() {
            found.push(Contradiction::NoPrefix { router });
        }
        if spec.speaks_bier && spec.bsls.is_empty() {
            found.push(Contradiction::NoBsl { router });
        }
        routers.push(Router {
            name: spec.name.clone(),
            bier: spec.prefix.filter(|_| spec.speaks_bier && spec.bsls.contains(&bsl)),
            bfr_id,
            bift_ids: bift_ids(router, &spec.bift_ids, found),
        });
    }
    (names, routers)
}

fn bift_ids(router: usize, spec: &BiftIdSpec, found: &mut Vec<Contradiction>) -> BiftIds {
    let BiftIdSpec::Map(items) = spec else { return BiftIds::Static };
    let mut map = BiftIdMap::default();
    for (item, (key, id)) in items.iter().enumerate() {
        if let Err(clash) = map.insert(*key, *id) {
            found.push(Contradiction::BiftId { router, item, clash });
        }
    }
    BiftIds::Map(map)
}

/// A link, if nothing is wrong with it.
pub(super) fn link(
    link: usize,
    spec: &LinkSpec,
    names: &BTreeMap<String, RouterIndex>,
    found: &mut Vec<Contradiction>,
) -> Option<Link> {
    let before = found.len();
    let ends = [0, 1].map(|end| {
        let name = &spec.ends[end];
        let router = names.get(name).copied();
        if router.is_none() {
            found.push(Contradiction::UnknownRouter { link, end, name: name.clone() });
        }
        router
    });
    if spec.ends[0] == spec.ends[1] {
        found.push(Contradiction::SelfLink { link, name: spec.ends[0].clone() });
    }
    if spec.costs.contains(&0) {
        found.push(Contradiction::NoCost { link });
    }
    let [Some(one), Some(other)] = ends else { return None };
    (found.len() == before).then_some(Link { ends: [one, other], costs: Some(spec.costs) })
}
