//! What bits stand for in a sub-domain of BIER-TE (RFC 9262).

use std::collections::BTreeMap;
use std::net::IpAddr;

use millrace_bier::bift_id::BiftId;
use millrace_bier::id::{BitPosition, Si};
use millrace_bier::te::{self, Adjacencies, TeBift, TeError};

use super::{BierPath, BiftIdForm, Interface, Subdomain};
use crate::grammar::choice;

choice! {
    /// What becomes of a packet that has a bit (RFC 9262 section 4.2).
    pub enum AdjacencyKind {
        /// A copy to a router beside us.
        "connected" => Connected,
        /// A copy to a router that may be further away.
        "routed" => Routed,
        /// The payload to the listeners behind us.
        "decap" => Decap,
    }
}

/// What a bit stands for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Adjacency {
    /// The set of the bit.
    pub si: Si,
    /// The bit.
    pub bit: BitPosition,
    /// Where the packet goes.
    pub to: AdjacencyTo,
    /// Whether entropy picks one of the bit's adjacencies, and with which seed; the same for all of the bit.
    pub ecmp_seed: Option<u32>,
}

/// Where a packet goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AdjacencyTo {
    /// To a router beside us.
    Connected {
        /// Its address.
        address: IpAddr,
        /// The network of ours that it is on.
        interface: Interface,
        /// How copies get there.
        path: BierPath,
        /// What it calls its tables.
        bift_ids: BiftIdForm,
        /// Whether the bit stays.
        do_not_clear: bool,
    },
    /// To a router that may be further away.
    Routed {
        /// Its address.
        address: IpAddr,
        /// How copies get there.
        path: BierPath,
        /// What it calls its tables.
        bift_ids: BiftIdForm,
    },
    /// To listeners behind us.
    Decap,
}

impl Adjacency {
    /// The router that it leads to, and how copies get there.
    pub fn link(&self) -> Option<(BierPath, IpAddr)> {
        match &self.to {
            AdjacencyTo::Connected { address, path, .. } | AdjacencyTo::Routed { address, path, .. } => {
                Some((*path, *address))
            }
            AdjacencyTo::Decap => None,
        }
    }

    /// The router that it leads to.
    pub fn address(&self) -> Option<IpAddr> {
        self.link().map(|(_, address)| address)
    }

    fn bift_ids(&self) -> Option<&BiftIdForm> {
        match &self.to {
            AdjacencyTo::Connected { bift_ids, .. } | AdjacencyTo::Routed { bift_ids, .. } => Some(bift_ids),
            AdjacencyTo::Decap => None,
        }
    }
}

impl Subdomain {
    /// What the router that an adjacency leads to calls its table; `None` also where a copy is sent to nobody.
    pub fn adjacency_id(&self, adjacency: &Adjacency) -> Option<BiftId> {
        self.bift_ids_of(adjacency.bift_ids()?).id(self.key(adjacency.si))
    }

    /// Its tables of adjacencies. `number` gives the number by which workers know the router that the adjacency at a place
    /// leads to.
    ///
    /// # Errors
    /// What is wrong with the bits; nothing in a checked configuration.
    pub fn te_bifts(&self, number: impl Fn(usize) -> u32) -> Result<Vec<TeBift>, Vec<TeError>> {
        let mut sets: BTreeMap<Si, BTreeMap<BitPosition, Adjacencies>> = BTreeMap::new();
        for (at, Adjacency { si, bit, to, ecmp_seed }) in self.adjacencies.iter().enumerate() {
            let adjacency = match to {
                AdjacencyTo::Connected { do_not_clear, interface, .. } => te::Adjacency::ForwardConnected {
                    interface: interface.port.0 as u32,
                    neighbour: number(at),
                    do_not_clear: *do_not_clear,
                },
                AdjacencyTo::Routed { .. } => {
                    te::Adjacency::ForwardRouted { vrf: None, neighbour: number(at) }
                }
                AdjacencyTo::Decap => te::Adjacency::LocalDecap { vrf: None },
            };
            let fresh = || match ecmp_seed {
                Some(seed) => Adjacencies::Ecmp { list: Vec::new(), seed: *seed },
                None => Adjacencies::All(Vec::new()),
            };
            match sets.entry(*si).or_default().entry(*bit).or_insert_with(fresh) {
                Adjacencies::All(list) | Adjacencies::Ecmp { list, .. } => list.push(adjacency),
            }
        }
        let mut wrong = Vec::new();
        let mut bifts = Vec::new();
        for (si, bits) in sets {
            match TeBift::new(self.key(si), bits.into_iter().collect()) {
                Ok(bift) => bifts.push(bift),
                Err(errors) => wrong.extend(errors),
            }
        }
        if wrong.is_empty() { Ok(bifts) } else { Err(wrong) }
    }
}
