//! BIER as workers see it: tables by BIFT-id, where each link leads, and who listens here.

use std::sync::Arc;

use hashbrown::HashMap;
use millrace_bier::bift::{LinkId, NeighbourIndex};
use millrace_bier::forward::Down;
use millrace_bier::header::Carriage;
use millrace_bier::id::{BfrId, SubDomain};
use millrace_bier::overlay::Overlay;
use millrace_bier::plane::Plane;

use super::interfaces::InterfaceId;
use crate::addr::Addr;

/// Links that are counted apart.
pub const LINKS_MAX: usize = 1024;

/// A link to a BIER neighbour, by its [`LinkId`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Link {
    /// Where copies leave.
    pub interface: InterfaceId,
    /// The neighbour's address on it; frames go to its link-layer address (RFC 8296 §3).
    pub via: Addr,
    /// What the header is carried in there.
    pub carriage: Carriage,
}

/// What packets that begin here are given (RFC 8279 §4.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ingress {
    /// Our number in the sub-domain.
    pub bfir_id: BfrId,
    /// Their time to live, in hops between BIER routers.
    pub ttl: u8,
}

/// Everything of BIER.
#[derive(Clone, Debug)]
pub struct Bier {
    /// The tables.
    pub plane: Plane,
    /// The links, by [`LinkId`].
    pub links: Vec<Link>,
    /// Which neighbours can't be reached, by sub-domain; the same flags in all snapshots.
    pub down: Vec<(SubDomain, Arc<Down>)>,
    /// Interfaces with listeners, by the group that they listen to.
    pub listeners: HashMap<Addr, Vec<InterfaceId>>,
    /// Flows that enter here, and who gets them.
    pub overlay: Overlay,
    /// What packets that begin here are given, by sub-domain.
    pub ingress: Vec<(SubDomain, Ingress)>,
}

impl Bier {
    /// Where a link leads.
    #[inline]
    pub fn link(&self, id: LinkId) -> Option<&Link> {
        self.links.get(id.0 as usize)
    }

    /// The flags of a sub-domain's neighbours; none of them is set where there are no flags.
    #[inline]
    pub fn down(&self, sub_domain: SubDomain) -> Option<&Down> {
        self.down.iter().find(|(id, _)| *id == sub_domain).map(|(_, down)| down.as_ref())
    }

    /// Says that a neighbour can't be reached, or can be again. Workers see it with their next packet.
    pub fn set_down(&self, sub_domain: SubDomain, neighbour: NeighbourIndex, down: bool) {
        if let Some(flags) = self.down(sub_domain) {
            flags.set(neighbour, down);
        }
    }
}
