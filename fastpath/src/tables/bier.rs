//! BIER as workers see it: tables by BIFT-id, where each link leads, and who listens here.

use std::sync::Arc;

use hashbrown::HashMap;
use millrace_bier::bift::{LinkId, NeighbourIndex};
use millrace_bier::forward::Down;
use millrace_bier::header::Carriage;
use millrace_bier::id::{BfrId, SubDomain};
use millrace_bier::overlay::Overlay;
use millrace_bier::plane::Plane;

use super::interfaces::{InterfaceId, Mac};
use super::neighbours::Neighbours;
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

/// What packets say that enter a sub-domain here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ingress {
    /// Who we are in it (BFIR-id, RFC 8296 §2.1.2).
    pub bfir_id: BfrId,
    /// How many hops they may go, 1 to 255.
    pub ttl: u8,
}

/// Everything of BIER.
#[derive(Clone, Debug)]
pub struct Bier {
    /// The tables.
    pub plane: Plane,
    /// The links, by [`LinkId`].
    pub links: Vec<Link>,
    /// Their neighbours' link-layer addresses, as far as they are known: see [`Bier::resolve`].
    pub macs: Vec<Option<Mac>>,
    /// Which neighbours can't be reached, by sub-domain; the same flags in all snapshots.
    pub down: Vec<(SubDomain, Arc<Down>)>,
    /// Which flows enter here, and for whom.
    pub overlay: Overlay,
    /// How, by sub-domain.
    pub ingress: Vec<(SubDomain, Ingress)>,
    /// Interfaces with listeners, by the group that they listen to.
    pub listeners: HashMap<Addr, Vec<InterfaceId>>,
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

    /// Whether the links' neighbours have the link-layer addresses that were noted.
    pub fn is_resolved(&self, neighbours: &Neighbours) -> bool {
        self.resolved(neighbours).eq(self.macs.iter().copied())
    }

    /// Notes the link-layer addresses of the links' neighbours, so that a copy needs no look-up. To be called whenever those
    /// or the links change.
    pub fn resolve(&mut self, neighbours: &Neighbours) {
        self.macs = self.resolved(neighbours).collect();
    }

    fn resolved(&self, neighbours: &Neighbours) -> impl Iterator<Item = Option<Mac>> {
        self.links.iter().map(|link| neighbours.get(link.interface, link.via))
    }

    /// How packets enter a sub-domain here, if they may.
    #[inline]
    pub fn ingress(&self, sub_domain: SubDomain) -> Option<Ingress> {
        self.ingress.iter().find(|(id, _)| *id == sub_domain).map(|(_, ingress)| *ingress)
    }

    /// Says that a neighbour can't be reached, or can be again. Workers see it with their next packet.
    pub fn set_down(&self, sub_domain: SubDomain, neighbour: NeighbourIndex, down: bool) {
        if let Some(flags) = self.down(sub_domain) {
            flags.set(neighbour, down);
        }
    }
}
