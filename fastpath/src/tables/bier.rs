//! BIER as workers see it: tables by BIFT-id, the way over each link, and who listens here.

use std::collections::BTreeSet;
use std::sync::Arc;

use arrayvec::ArrayVec;
use millrace_bier::bift::{LinkId, NeighbourIndex, Reach};
use millrace_bier::bift_id::BiftId;
use millrace_bier::forward::Down;
use millrace_bier::header::Carriage;
use millrace_bier::id::{BfrId, SubDomain};
use millrace_bier::overlay::Overlay;
use millrace_bier::plane::{AnyBift, Plane};

use super::interfaces::{InterfaceId, Interfaces, Mac};
use super::listeners::Listeners;
use super::neighbours::Neighbours;
use crate::addr::Addr;
use crate::driver::{PortId, PortsDown};
use crate::wire::ethernet;

/// Links that are counted apart.
pub const LINKS_MAX: usize = 1024;

/// Tables that are counted apart, those that there were once included.
pub const BIFTS_MAX: usize = 1024;
/// Receivers that are counted apart: as many as a sub-domain can have.
pub const RECEIVERS_MAX: usize = 1 << 16;

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

/// All that copies over a link need, so that none of them looks anything up.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Way {
    /// What stands in front of the BIER header: an Ethernet header with the interface's tags.
    pub head: ArrayVec<u8, HEAD_MAX>,
    /// The link's number, by which copies are counted; below [`LINKS_MAX`].
    pub link: u16,
    /// Where copies leave.
    pub port: PortId,
    /// The longest BIER packet, from its header on.
    pub mtu: u16,
    /// What the header is carried in there.
    pub carriage: Carriage,
}

/// Bytes of an Ethernet header with two tags.
pub const HEAD_MAX: usize = ethernet::HEADER + 2 * ethernet::TAG;

/// Why a link has no way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NoWay {
    /// The interface is gone.
    Interface,
    /// The neighbour's link-layer address isn't known.
    Neighbour,
}

impl Link {
    /// How copies go over it as things are.
    fn way(&self, link: u16, interfaces: &Interfaces, neighbours: &Neighbours) -> Result<Way, NoWay> {
        let interface = interfaces.get(self.interface).ok_or(NoWay::Interface)?;
        let mac = neighbours.get(self.interface, self.via).ok_or(NoWay::Neighbour)?;
        let tags = interface.tags();
        let mut bytes = [0; HEAD_MAX];
        let (head, _) = bytes.split_at_mut(ethernet::HEADER + tags.wire_len());
        ethernet::set_addresses(head, mac, interface.mac);
        let (in_front, ethertype) = head.split_at_mut(head.len() - size_of::<u16>());
        tags.write(&mut in_front[size_of::<[Mac; 2]>()..]);
        ethertype.copy_from_slice(&self.carriage.ethertype().to_be_bytes());
        let head = head.iter().copied().collect();
        Ok(Way { head, link, port: interface.port, mtu: interface.mtu, carriage: self.carriage })
    }
}

/// A router that a BIER-TE adjacency leads to, in one table; adjacencies name it by its place (RFC 9262 section 4.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Hop {
    /// Its address: where a tunnel to it would end.
    pub to: Addr,
    /// The link to it; `None` for one further away.
    pub link: Option<LinkId>,
    /// What it calls the table.
    pub id: BiftId,
}

/// What packets say that enter a sub-domain here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ingress {
    /// Who we are in it (BFIR-id, RFC 8296 §2.1.2).
    pub bfir_id: BfrId,
    /// How many hops they may go, 1 to 255.
    pub ttl: u8,
    /// How long they may be, header included; as long as any, where that isn't known.
    pub mtu: u16,
}

/// Who gets what BIER brings in a sub-domain, beside packets to groups that somebody listens to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Behind {
    /// Where Ethernet frames are sent, as they are.
    pub bridged: Vec<InterfaceId>,
    /// The MPLS labels that stand in front of packets to groups: whose label each is, or `None` if it is ours (RFC 8296
    /// section 2.1.2, Proto 2 and 1).
    pub labels: BTreeSet<(Option<BfrId>, u32)>,
}

/// Everything of BIER.
#[derive(Clone, Debug)]
pub struct Bier {
    /// The tables.
    pub plane: Plane,
    /// The links, by [`LinkId`].
    pub links: Vec<Link>,
    /// How copies go over them as things are: see [`Bier::resolve`].
    pub ways: Vec<Result<Way, NoWay>>,
    /// Where adjacencies lead.
    pub hops: Vec<Hop>,
    /// Which neighbours can't be reached, by sub-domain; the same flags in all snapshots. They follow from the ports that are
    /// down, and are written with them: see [`Shared::set_port_down`](crate::shared::Shared::set_port_down).
    pub down: Vec<(SubDomain, Arc<Down>)>,
    /// Which flows enter here, and for whom.
    pub overlay: Overlay,
    /// How, by sub-domain.
    pub ingress: Vec<(SubDomain, Ingress)>,
    /// Who listens behind us.
    pub listeners: Listeners,
    /// Who gets what else BIER brings, by sub-domain; those alone where somebody does.
    pub behind: Vec<(SubDomain, Behind)>,
    /// Where hosts are asked what they listen to, so that the slowpath wants to hear IGMP.
    pub queried: Vec<InterfaceId>,
    /// Routers say in BIER what is listened to behind them, and the slowpath wants to hear it (draft-ietf-bier-mld).
    pub signalled: bool,
    /// Where the counters of a table's receivers begin, by its tag ([`millrace_bier::bift::Bift::tag`]), bit after bit; empty where
    /// receivers aren't counted.
    pub receivers_from: Vec<Option<u32>>,
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

    /// How copies go over a link; `None` if there is no such link.
    #[inline]
    pub fn way(&self, id: LinkId) -> Option<&Result<Way, NoWay>> {
        self.ways.get(id.0 as usize)
    }

    /// Whether the ways are those that there are with these interfaces and neighbours.
    pub fn is_resolved(&self, interfaces: &Interfaces, neighbours: &Neighbours) -> bool {
        self.resolved(interfaces, neighbours).eq(self.ways.iter().cloned())
    }

    /// Works out the ways. To be called whenever interfaces, their neighbours or the links change.
    pub fn resolve(&mut self, interfaces: &Interfaces, neighbours: &Neighbours) {
        self.ways = self.resolved(interfaces, neighbours).collect();
    }

    fn resolved(
        &self,
        interfaces: &Interfaces,
        neighbours: &Neighbours,
    ) -> impl Iterator<Item = Result<Way, NoWay>> {
        let numbered = (0..LINKS_MAX as u16).zip(&self.links);
        numbered.map(|(number, link)| link.way(number, interfaces, neighbours))
    }

    /// Where the counters of this table's receivers begin, if they are counted.
    #[inline]
    pub fn receivers_from(&self, tag: u32) -> Option<usize> {
        self.receivers_from.get(tag as usize).copied().flatten().map(|from| from as usize)
    }

    /// How packets enter a sub-domain here, if they may.
    #[inline]
    pub fn ingress(&self, sub_domain: SubDomain) -> Option<Ingress> {
        self.ingress.iter().find(|(id, _)| *id == sub_domain).map(|(_, ingress)| *ingress)
    }

    /// Who gets what else BIER brings in a sub-domain, if anybody does.
    #[inline]
    pub fn behind(&self, sub_domain: SubDomain) -> Option<&Behind> {
        self.behind.iter().find(|(id, _)| *id == sub_domain).map(|(_, behind)| behind)
    }

    /// Whether a link's port is up.
    #[inline]
    pub fn is_up(&self, id: LinkId, interfaces: &Interfaces, ports_down: PortsDown) -> bool {
        let interface = || interfaces.get(self.link(id)?.interface);
        ports_down.is_empty() || interface().is_none_or(|one| !ports_down.has(one.port))
    }

    /// Raises the flags of neighbours to whom all links are down, and takes those of all others down. Workers see it with
    /// their next packet.
    pub(crate) fn mark_down(&self, interfaces: &Interfaces, ports_down: PortsDown) {
        for bift in self.plane.iter().filter_map(AnyBift::of_routers) {
            // All tables of a sub-domain have the same neighbours, and the same flags.
            let Some(flags) = self.down(bift.key().sub_domain) else { continue };
            for (at, neighbour) in (0..).map(NeighbourIndex).zip(bift.neighbours()) {
                let Reach::Links(links) = &neighbour.reach else { continue };
                let is_up = links.iter().any(|link| self.is_up(*link, interfaces, ports_down));
                flags.set(at, !is_up && !links.is_empty());
            }
        }
    }
}
