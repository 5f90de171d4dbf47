//! BIER as workers see it: tables by BIFT-id, the way over each link, and who listens here.

mod tunnel;

use std::collections::BTreeSet;
use std::sync::Arc;

use arrayvec::ArrayVec;
use millrace_bier::bift::{LinkId, NeighbourIndex};
use millrace_bier::bift_id::BiftId;
use millrace_bier::forward::Down;
use millrace_bier::header::Carriage;
use millrace_bier::id::{BfrId, SubDomain};
use millrace_bier::overlay::Overlay;
use millrace_bier::plane::{AnyBift, Plane};

use super::Tables;
use super::interfaces::{InterfaceId, Interfaces, Mac};
use super::listeners::Listeners;
use super::routes::Routes;
use crate::addr::Addr;
use crate::driver::{PortId, PortsDown};
use crate::wire::ethernet;
pub use tunnel::{Inner, Outer, Tunnel, Tunnels, UDP_PORT};

/// Links that are counted apart.
pub const LINKS_MAX: usize = 1024;

/// Tables that are counted apart, those that there were once included.
pub const BIFTS_MAX: usize = 1024;
/// Receivers that are counted apart: as many as a sub-domain can have.
pub const RECEIVERS_MAX: usize = 1 << 16;

/// A link to a BIER neighbour or to hosts, by its [`LinkId`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Link {
    /// The neighbour is on a network of ours.
    Beside {
        /// Where copies leave.
        interface: InterfaceId,
        /// The neighbour's address on it; frames go to its link-layer address (RFC 8296 §3).
        via: Addr,
        /// What the header is carried in there.
        carriage: Carriage,
    },
    /// Wherever the neighbour is, by the way of unicast to it.
    Tunnel {
        /// The neighbour's address.
        to: Addr,
        /// What carries packets there.
        tunnel: Tunnel,
    },
    /// A network of hosts that have bits of their own, as legs of an access switch have: they get payloads, without a header.
    Hosts {
        /// Where payloads leave.
        interface: InterfaceId,
    },
}

/// All that copies over a link need, so that none of them looks anything up.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Way {
    /// An Ethernet header with the interface's tags.
    pub head: ArrayVec<u8, HEAD_MAX>,
    /// The same where there are no tags and no tunnel, as an array whose length the compiler knows.
    pub plain: [u8; ethernet::HEADER],
    /// What follows it where the link is a tunnel.
    pub outer: Option<Box<Outer>>,
    /// Bytes of all that stands in front of the BIER header.
    pub front_len: u8,
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
    /// No route leads to the far end of the tunnel.
    Route,
    /// We have no address that packets to the far end could come from.
    Source,
    /// The interface is gone.
    Interface,
    /// The neighbour's link-layer address isn't known, or that of the router on the way to it.
    Neighbour,
    /// Hosts are there, to whom no header goes.
    Hosts,
}

impl Link {
    /// The neighbour's address; hosts have none.
    pub fn to(&self) -> Option<Addr> {
        match self {
            Self::Beside { via, .. } => Some(*via),
            Self::Tunnel { to, .. } => Some(*to),
            Self::Hosts { .. } => None,
        }
    }

    /// Where copies leave; `None` if no route leads to the far end of the tunnel.
    pub fn interface(&self, routes: &Routes) -> Option<InterfaceId> {
        match self {
            Self::Hosts { interface } => Some(*interface),
            _ => self.next(routes).map(|(interface, _)| interface),
        }
    }

    /// Where copies leave, and to whose link-layer address there; `None` if no route leads to the far end of the tunnel, and of
    /// hosts, who are reached by that of their group.
    pub fn next(&self, routes: &Routes) -> Option<(InterfaceId, Addr)> {
        match self {
            Self::Beside { interface, via, .. } => Some((*interface, *via)),
            Self::Tunnel { to, .. } => routes.lookup(*to).map(|hop| (hop.interface, hop.via.unwrap_or(*to))),
            Self::Hosts { .. } => None,
        }
    }

    /// Bytes that stand in front of a BIER header in addition to those of an Ethernet frame: so much shorter than the MTU are
    /// the longest packets.
    pub fn overhead(&self) -> usize {
        match self {
            Self::Beside { .. } | Self::Hosts { .. } => 0,
            Self::Tunnel { to, tunnel } => tunnel::overhead(*tunnel, to.is_v4()),
        }
    }

    /// How copies go over it as things are.
    fn way(&self, link: u16, tunnels: &Tunnels, around: &Tables) -> Result<Way, NoWay> {
        let interfaces = &around.interfaces;
        let (carriage, end) = match *self {
            Self::Beside { carriage, .. } => (carriage, None),
            Self::Tunnel { to, tunnel } => (Carriage::NonMpls, Some((to, tunnel))),
            Self::Hosts { .. } => return Err(NoWay::Hosts),
        };
        let (id, next) = self.next(&around.routes).ok_or(NoWay::Route)?;
        let interface = interfaces.get(id).ok_or(NoWay::Interface)?;
        let outer = match end {
            None => None,
            Some((to, tunnel)) => {
                let is_ours = |own: &Addr| {
                    own.is_v4() == to.is_v4() && interfaces.local(*own).is_some_and(|local| local.host)
                };
                let source = tunnels.own.filter(is_ours).or_else(|| interface.address_like(to));
                let source = source.ok_or(NoWay::Source)?;
                Some(Box::new(Outer::new(tunnel, source, to, tunnels.next_header)))
            }
        };
        let mac = around.neighbours.get(id, next).ok_or(NoWay::Neighbour)?;
        let tags = interface.tags();
        let mut bytes = [0; HEAD_MAX];
        let (head, _) = bytes.split_at_mut(ethernet::HEADER + tags.wire_len());
        ethernet::set_addresses(head, mac, interface.mac);
        let (in_front, ethertype) = head.split_at_mut(head.len() - size_of::<u16>());
        tags.write(&mut in_front[size_of::<[Mac; 2]>()..]);
        let inside = outer.as_ref().map_or(carriage.ethertype(), |outer| outer.ethertype());
        ethertype.copy_from_slice(&inside.to_be_bytes());
        let plain = head.first_chunk().copied().unwrap_or_default();
        let head: ArrayVec<u8, HEAD_MAX> = head.iter().copied().collect();
        let front_len = (head.len() + self.overhead()) as u8;
        let mtu = interface.mtu.saturating_sub(self.overhead() as u16);
        Ok(Way { head, plain, outer, front_len, link, port: interface.port, mtu, carriage })
    }
}

/// A router that a BIER-TE adjacency leads to, in one table; adjacencies name it by its place (RFC 9262 section 4.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Hop {
    /// Its address.
    pub to: Addr,
    /// The link to it; a tunnel to one further away.
    pub link: LinkId,
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
    /// What those of them have in common that are tunnels.
    pub tunnels: Tunnels,
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
    /// On which interfaces a sub-domain's links are, in order, each once: who is there is believed what is listened to behind it.
    pub within: Vec<(SubDomain, Vec<InterfaceId>)>,
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

    /// Whether the ways are those that there are with the interfaces, neighbours and routes of these tables.
    pub fn is_resolved(&self, around: &Tables) -> bool {
        self.resolved(around).eq(self.ways.iter().cloned())
    }

    /// Works out the ways. To be called whenever interfaces, their neighbours, routes or the links change.
    pub fn resolve(&mut self, around: &Tables) {
        self.ways = self.resolved(around).collect();
    }

    fn resolved(&self, around: &Tables) -> impl Iterator<Item = Result<Way, NoWay>> {
        let numbered = (0..LINKS_MAX as u16).zip(&self.links);
        numbered.map(|(number, link)| link.way(number, &self.tunnels, around))
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

    /// Whether a link of the sub-domain is on this interface.
    pub fn is_within(&self, sub_domain: SubDomain, interface: InterfaceId) -> bool {
        let of = self.within.iter().find(|(id, _)| *id == sub_domain);
        of.is_some_and(|(_, interfaces)| interfaces.binary_search(&interface).is_ok())
    }

    /// Whether a link's port is up.
    #[inline]
    pub fn is_up(&self, id: LinkId, interfaces: &Interfaces, ports_down: PortsDown) -> bool {
        ports_down.is_empty() || self.port(id, interfaces).is_none_or(|port| !ports_down.has(port))
    }

    /// The port that copies over a link leave by, if it is known.
    fn port(&self, id: LinkId, interfaces: &Interfaces) -> Option<PortId> {
        match self.link(id)? {
            Link::Beside { interface, .. } | Link::Hosts { interface } => {
                Some(interfaces.get(*interface)?.port)
            }
            Link::Tunnel { .. } => Some(self.way(id)?.as_ref().ok()?.port),
        }
    }

    /// Raises the flags of neighbours to whom all links are down, and takes those of all others down. Workers look at them as long
    /// as they know of a port that is down.
    pub(crate) fn mark_down(&self, interfaces: &Interfaces, ports_down: PortsDown) {
        for bift in self.plane.iter().filter_map(AnyBift::of_routers) {
            // All tables of a sub-domain have the same neighbours, and the same flags.
            let Some(flags) = self.down(bift.key().sub_domain) else { continue };
            for (at, neighbour) in (0..).map(NeighbourIndex).zip(bift.neighbours()) {
                let links = neighbour.reach.links();
                let is_up = links.iter().any(|link| self.is_up(*link, interfaces, ports_down));
                flags.set(at, !is_up && !links.is_empty());
            }
        }
    }
}
