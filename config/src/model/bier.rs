//! Bit index explicit replication: sub-domains and their tables, what enters here, and who listens behind us.

mod te;

use std::net::{IpAddr, Ipv4Addr};
use std::path::PathBuf;

use millrace_bier::bift::given::{self, Given, Row, RowError};
use millrace_bier::bift::{Bift, LinkId, Neighbour, NeighbourIndex, Reach};
use millrace_bier::bift_id::{BiftId, BiftIdMap, BiftIds, Clash};
use millrace_bier::id::{BfrId, BiftKey, Bsl, Si, SubDomain};

use super::{BfrIds, Interface, Name};
use crate::grammar::choice;
pub use te::{Adjacency, AdjacencyKind, AdjacencyTo};

/// Bit index explicit replication (RFC 8279).
#[derive(Clone, Debug, PartialEq)]
pub struct Bier {
    /// By which other routers know this one.
    pub bfr_prefix: IpAddr,
    /// Packets are counted by receiver.
    pub count_receivers: bool,
    /// Other routers than neighbours that may send to us inside UDP or IPv6.
    pub accept_from: Vec<IpAddr>,
    /// The IPv6 next header that stands for BIER.
    pub ipv6_next_header: u8,
    /// In the order of the file, each number once. At least one.
    pub subdomains: Vec<Subdomain>,
    /// Flows that enter here, each once, through sub-domains in which we have a number.
    pub overlays: Vec<Overlay>,
    /// Groups that somebody behind us listens to, each once.
    pub listeners: Vec<Listener>,
    /// Networks whose hosts are asked, each in one of them.
    pub queriers: Vec<Querier>,
}

/// A sub-domain.
#[derive(Clone, Debug, PartialEq)]
pub struct Subdomain {
    /// Its number.
    pub id: SubDomain,
    /// What bits stand for.
    pub kind: BierKind,
    /// How long bit strings are.
    pub bsl: Bsl,
    /// This router's own number.
    pub bfr_id: Option<BfrId>,
    /// Between how many tables entropy chooses, 1 to 16.
    pub ecmp_tables: u8,
    /// What headers are carried in.
    pub encapsulation: Encapsulation,
    /// What carries them to routers that aren't beside us, where nothing else is said of those.
    pub tunnel: TunnelKind,
    /// The BIFT-ids that packets to us carry; one for each table that there is.
    pub bift_ids: BiftIdForm,
    /// Time to live of packets that begin here.
    pub ttl: u8,
    /// Longest packet that every link carries, BIER header included, if that is known.
    pub mtu_bytes: Option<u16>,
    /// Who is told what is listened to behind us; there is a way to each.
    pub report_to: Option<BfrIds>,
    /// How often everything is told.
    pub report_interval_seconds: u32,
    /// Where bits stand for adjacencies: the sub-domain by which replies to pings and traces go. Its bits stand for routers, and
    /// we have the same number there.
    pub replies_by: Option<SubDomain>,
    /// Where Ethernet frames are sent, each network once.
    pub ethernet_ports: Vec<Interface>,
    /// Labels in front of packets to groups, each once.
    pub labels: Vec<BierLabel>,
    /// The neighbours, in the order of their first rows; each name once.
    pub neighbours: Vec<BierNeighbour>,
    /// The rows; their neighbours are places in `neighbours`.
    pub rows: Vec<Row>,
    /// The topology that the ways are computed from, instead of rows.
    pub topology: Option<Topology>,
    /// What stands ready for failures, where there is a topology.
    pub protection: Protection,
    /// Routers further away may stand ready, through tunnels; none where nothing does.
    pub remote_backups: bool,
    /// What bits stand for where the kind is BIER-TE, in the order of the file; empty with the other.
    pub adjacencies: Vec<Adjacency>,
}

/// A topology, and this router's place in it.
#[derive(Clone, Debug, PartialEq)]
pub struct Topology {
    /// The file; see [`crate::domainfile`].
    pub file: PathBuf,
    /// What the file calls this router.
    pub router: Name,
}

choice! {
    /// The protocol by which routers say in BIER what is listened to behind them.
    pub enum Learn {
        /// IGMPv3, for groups of IPv4.
        "igmp" => Igmp,
        /// MLDv2, for groups of IPv6.
        "mld" => Mld,
    }
}

choice! {
    /// What the bits of a bit string stand for.
    pub enum BierKind {
        /// Routers (RFC 8279).
        "bier" => Bier,
        /// Adjacencies (RFC 9262).
        "bier-te" => BierTe,
    }
}

choice! {
    /// What neighbours stand ready for.
    pub enum Protection {
        /// Nothing: what a port that is down led to is lost until there are other tables.
        "none" => None,
        /// The failure of a link: whoever doesn't send it back.
        "link" => Link,
        /// The failure of a neighbour: whoever doesn't send it through that neighbour, where there is one.
        "node" => Node,
    }
}

choice! {
    /// What BIER headers are carried in.
    pub enum Encapsulation {
        /// Ethernet frames of type 0xAB37 (RFC 8296 section 2.2).
        "ethernet" => Ethernet,
        /// The same behind an MPLS label, which is the BIFT-id (RFC 8296 section 2.1).
        "mpls" => Mpls,
        /// The first inside UDP, to wherever the router is (port 8138, draft-xu-bier-non-mpls-encap-over-udp).
        "udp" => Udp,
        /// The first inside IPv6, to wherever the router is (draft-ietf-bier-bierin6).
        "ipv6" => Ipv6,
    }
}

choice! {
    /// What BIER headers are carried in to the neighbour of a row.
    pub enum RowEncapsulation {
        /// Ethernet frames of type 0xAB37 (RFC 8296 section 2.2).
        "ethernet" => Ethernet,
        /// The same behind an MPLS label, which is the BIFT-id (RFC 8296 section 2.1).
        "mpls" => Mpls,
        /// The first inside UDP, to wherever the router is (port 8138, draft-xu-bier-non-mpls-encap-over-udp).
        "udp" => Udp,
        /// The first inside IPv6, to wherever the router is (draft-ietf-bier-bierin6).
        "ipv6" => Ipv6,
        /// Nothing: no header. The row is that of a network of hosts without BIER that have numbers of their own. They get the
        /// IPv4 or IPv6 packets to groups that BIER brings for those, without asking for the groups.
        "none" => None,
    }
}

choice! {
    /// What carries BIER to routers that aren't beside us.
    pub enum TunnelKind {
        /// UDP (port 8138, draft-xu-bier-non-mpls-encap-over-udp).
        "udp" => Udp,
        /// IPv6 (draft-ietf-bier-bierin6).
        "ipv6" => Ipv6,
    }
}

/// How copies get to a router, or payloads to hosts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BierPath {
    /// Over a network of ours.
    Ethernet(Interface),
    /// The same, behind a label.
    Mpls(Interface),
    /// By the way of unicast, wherever the router is.
    Tunnel(TunnelKind),
    /// To the hosts on a network of ours, without a header.
    Hosts(Interface),
}

impl BierPath {
    /// The network of ours that they are on, if copies go over that.
    pub fn interface(self) -> Option<Interface> {
        match self {
            Self::Ethernet(interface) | Self::Mpls(interface) | Self::Hosts(interface) => Some(interface),
            Self::Tunnel(_) => None,
        }
    }

    /// What headers are carried in.
    pub fn encapsulation(self) -> RowEncapsulation {
        match self {
            Self::Ethernet(_) => RowEncapsulation::Ethernet,
            Self::Mpls(_) => RowEncapsulation::Mpls,
            Self::Tunnel(TunnelKind::Udp) => RowEncapsulation::Udp,
            Self::Tunnel(TunnelKind::Ipv6) => RowEncapsulation::Ipv6,
            Self::Hosts(_) => RowEncapsulation::None,
        }
    }
}

impl RowEncapsulation {
    /// The same of headers; `None` where there are none.
    pub fn of_headers(self) -> Option<Encapsulation> {
        match self {
            Self::Ethernet => Some(Encapsulation::Ethernet),
            Self::Mpls => Some(Encapsulation::Mpls),
            Self::Udp => Some(Encapsulation::Udp),
            Self::Ipv6 => Some(Encapsulation::Ipv6),
            Self::None => None,
        }
    }
}

impl Encapsulation {
    /// The tunnel that it is, if it is one.
    pub fn tunnel(self) -> Option<TunnelKind> {
        match self {
            Self::Ethernet | Self::Mpls => None,
            Self::Udp => Some(TunnelKind::Udp),
            Self::Ipv6 => Some(TunnelKind::Ipv6),
        }
    }

    /// How copies get to a router beside us.
    pub fn path(self, interface: Interface) -> BierPath {
        match self {
            Self::Ethernet => BierPath::Ethernet(interface),
            Self::Mpls => BierPath::Mpls(interface),
            Self::Udp => BierPath::Tunnel(TunnelKind::Udp),
            Self::Ipv6 => BierPath::Tunnel(TunnelKind::Ipv6),
        }
    }
}

/// BIFT-ids of one router in one sub-domain.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum BiftIdForm {
    /// The static form.
    Static,
    /// One for each of these sets, in order; each value once.
    Map(Vec<(Si, BiftId)>),
}

/// A BIER router that copies are sent to, or a network of hosts that payloads are.
#[derive(Clone, Debug, PartialEq)]
pub struct BierNeighbour {
    /// What the operator calls it.
    pub name: Name,
    /// Its address: not ourselves, and of IPv6 where the tunnel is. `None` of hosts.
    pub address: Option<IpAddr>,
    /// How copies get there.
    pub path: BierPath,
    /// What it calls its tables; static of hosts, who have none.
    pub bift_ids: BiftIdForm,
}

impl BierNeighbour {
    /// What stands for it in tables: its address, or the unspecified one for hosts.
    pub fn prefix(&self) -> IpAddr {
        self.address.unwrap_or(Ipv4Addr::UNSPECIFIED.into())
    }
}

/// A flow that enters here.
#[derive(Clone, Debug, PartialEq)]
pub struct Overlay {
    /// Where it comes from; of the group's family.
    pub source: IpAddr,
    /// The group.
    pub group: IpAddr,
    /// The sub-domain that it goes through.
    pub subdomain: SubDomain,
    /// Who gets it, and there is a way to each; `None` for those who say so in BIER, by the protocol of the group's family.
    pub receivers: Option<BfrIds>,
}

/// An MPLS label in front of packets to groups.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BierLabel {
    /// The label.
    pub label: u32,
    /// Who has given it, if that wasn't us.
    pub bfir_id: Option<BfrId>,
}

/// Who listens to a group behind us: on one network, or as one neighbour at least.
#[derive(Clone, Debug, PartialEq)]
pub struct Listener {
    /// The group.
    pub group: IpAddr,
    /// The networks, each once.
    pub ports: Vec<Interface>,
    /// Neighbours, each once, and the networks that they are on.
    pub next_hops: Vec<(IpAddr, Interface)>,
}

/// How hosts are asked what they listen to.
#[derive(Clone, Debug, PartialEq)]
pub struct Querier {
    /// On which networks, each once.
    pub ports: Vec<Interface>,
    /// Robustness Variable, 2 to 7.
    pub robustness: u8,
    /// Query Interval.
    pub query_interval_seconds: u32,
    /// Query Response Interval, less than the Query Interval.
    pub response_ms: u32,
    /// Last Member Query Interval.
    pub last_member_ms: u32,
}

impl Bier {
    /// The sub-domain of this number.
    pub fn subdomain(&self, id: SubDomain) -> Option<&Subdomain> {
        self.subdomains.iter().find(|one| one.id == id)
    }

    /// What makes this router's choices between equal ways differ from those of others: FNV-1a of its prefix.
    pub fn seed(&self) -> u32 {
        bier_seed(self.bfr_prefix)
    }

    /// The BIFT-ids by which others name our tables, of which these are the keys.
    ///
    /// # Errors
    /// Which sub-domain has a BIFT-id that contradicts another, and how. Not in a checked configuration.
    pub fn ours(&self, keys: &[BiftKey]) -> Result<BiftIds, (SubDomain, Clash)> {
        bier_ours(&self.subdomains, keys)
    }
}

pub(crate) fn bier_seed(prefix: IpAddr) -> u32 {
    let fnv = |hash: u32, byte: &u8| (hash ^ u32::from(*byte)).wrapping_mul(0x0100_0193);
    match prefix {
        IpAddr::V4(prefix) => prefix.octets().iter().fold(0x811c_9dc5, fnv),
        IpAddr::V6(prefix) => prefix.octets().iter().fold(0x811c_9dc5, fnv),
    }
}

pub(crate) fn bier_ours(subdomains: &[Subdomain], keys: &[BiftKey]) -> Result<BiftIds, (SubDomain, Clash)> {
    if subdomains.iter().all(|one| one.bift_ids == BiftIdForm::Static) {
        return Ok(BiftIds::Static);
    }
    let mut map = BiftIdMap::default();
    // The static ones first: their numbers can't be chosen.
    let of = |form: fn(&BiftIdForm) -> bool| subdomains.iter().filter(move |one| form(&one.bift_ids));
    let ordered = of(|ids| *ids == BiftIdForm::Static).chain(of(|ids| *ids != BiftIdForm::Static));
    for one in ordered {
        let mut put = |key, id| map.insert(key, id).map_err(|clash| (one.id, clash));
        match &one.bift_ids {
            BiftIdForm::Static => {
                for key in keys.iter().filter(|key| key.sub_domain == one.id) {
                    put(*key, BiftId::static_form(*key))?;
                }
            }
            BiftIdForm::Map(ids) => {
                for (si, id) in ids {
                    put(one.key(*si), *id)?;
                }
            }
        }
    }
    Ok(BiftIds::Map(map))
}

impl Subdomain {
    /// What the table of a set is for.
    pub fn key(&self, si: Si) -> BiftKey {
        BiftKey { sub_domain: self.id, si, bsl: self.bsl }
    }

    /// Its tables, where they are given row by row. `links` are the numbers of the links to the neighbours, in their order.
    ///
    /// # Errors
    /// What is wrong with the rows; nothing in a checked configuration.
    ///
    /// # Panics
    /// If there are fewer links than neighbours.
    pub fn bifts(&self, seed: u32, links: &[LinkId]) -> Result<Vec<Bift>, Vec<RowError>> {
        let neighbour = |(one, link): (&BierNeighbour, &LinkId)| {
            let reach = match one.path {
                BierPath::Hosts(_) => Reach::Hosts(*link),
                _ => Reach::Links([*link].into()),
            };
            (Neighbour { prefix: one.prefix(), reach }, self.bift_ids_of(&one.bift_ids))
        };
        assert!(links.len() >= self.neighbours.len(), "a link to each neighbour");
        let neighbours: Vec<_> = self.neighbours.iter().zip(links).map(neighbour).collect();
        let given = Given {
            sub_domain: self.id,
            bsl: self.bsl,
            own: self.bfr_id,
            tables: self.ecmp_tables.into(),
            seed,
            neighbours: &neighbours,
            rows: &self.rows,
        };
        // Which port a tunnel leaves by is for the routes to say.
        let port = |one: NeighbourIndex| {
            let interface = self.neighbours[usize::from(one.0)].path.interface();
            interface.map_or(u32::MAX - u32::from(one.0), |interface| interface.port.0 as u32)
        };
        given::build_on_ports(&given, port)
    }

    fn bift_ids_of(&self, form: &BiftIdForm) -> BiftIds {
        let BiftIdForm::Map(ids) = form else { return BiftIds::Static };
        let mut map = BiftIdMap::default();
        for (si, id) in ids {
            // Of two that contradict each other, which has been noted, the first counts.
            let _ = map.insert(self.key(*si), *id);
        }
        BiftIds::Map(map)
    }
}
