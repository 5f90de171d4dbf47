//! The content hub: its store, what it takes in, and the sites that it sends to.

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use millrace_bier::id::{BfrId, SubDomain};

use super::{Interface, MacAddr, Name, SecretRef};
use crate::grammar::choice;

/// The content hub.
#[derive(Clone, Debug, PartialEq)]
pub struct Hub {
    /// Its name in NORM (NormNodeId), never 0.
    pub id: u32,
    /// The folder that contents are kept in; a relative path begins at the folder of the configuration file.
    pub store_path: PathBuf,
    /// Bytes that contents may take.
    pub budget_bytes: u64,
    /// Bytes of the file system that no content may take.
    pub reserve_bytes: u64,
    /// How long a content is kept for nodes that come late, from when it began to be sent.
    pub late_join: Duration,
    /// Where contents are given out over HTTP, if at all.
    pub http_listen: Option<SocketAddr>,
    /// Public keys of those whose manifests are believed; empty for anybody's.
    pub trusted_keys: Vec<SecretRef>,
    /// The private key that signs the manifests of what is put in here.
    pub signing_key: Option<SecretRef>,
    /// What is taken in from the network; what one says, no other does.
    pub accept: Vec<HubAccept>,
    /// The sites, each name once; each [`HubSite::source`] once of those with NORM, each address and TSI once of those with FLUTE.
    pub sites: Vec<HubSite>,
}

/// A group whose contents are taken in.
#[derive(Clone, Debug, PartialEq)]
pub struct HubAccept {
    /// What it comes by.
    pub by: HubIntake,
    /// The group, and the UDP port that it is sent to.
    pub group: SocketAddr,
    /// Who sends it, if that matters; of the group's family.
    pub source: Option<IpAddr>,
    /// How contents are sent.
    pub profile: HubProfile,
    /// The sender's name in NORM, if that matters. Only with [`HubProfile::Norm`].
    pub sender: Option<u32>,
    /// The session of FLUTE (TSI), if that matters. Only with [`HubProfile::Flute`].
    pub tsi: Option<u32>,
}

/// What a group comes by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HubIntake {
    /// BIER, by a sub-domain that there is and in which we have a number.
    Bier(SubDomain),
    /// Plain multicast, on this network.
    Multicast(Interface),
}

choice! {
    /// How contents are sent.
    pub enum HubProfile {
        /// NORM (RFC 5740): receivers say what they miss.
        "norm" => Norm,
        /// FLUTE (RFC 6726): one way.
        "flute" => Flute,
    }
}

choice! {
    /// How FLUTE makes losses good.
    pub enum HubCode {
        /// With RaptorQ (RFC 6330): any of its symbols stand in for those that were lost.
        "raptorq" => RaptorQ,
        /// By sending again.
        "none" => None,
    }
}

/// How FLUTE sends contents to a site.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HubFlute {
    /// The session (TSI).
    pub tsi: u32,
    /// How often each content is sent, at least once.
    pub passes: u32,
    /// Repair symbols of each pass, in percent of the content; `None` without a code.
    pub overhead_percent: Option<u32>,
}

/// Nodes that share a group and a rate.
#[derive(Clone, Debug, PartialEq)]
pub struct HubSite {
    /// What the operator calls it.
    pub name: Name,
    /// With FLUTE; else contents are sent by NORM.
    pub flute: Option<HubFlute>,
    /// How packets get to its nodes.
    pub carriage: HubCarriage,
    /// The group that contents are sent to, and the UDP port.
    pub group: SocketAddr,
    /// Our address and the UDP port that they are sent from, and that nodes' feedback comes to. Of the group's family.
    pub source: SocketAddr,
    /// Hops that packets may go, or with [`HubCarriage::Ethernet`] 1.
    pub ttl: u8,
    /// Bits per second to the site, all headers included.
    pub rate_bits_per_second: u64,
    /// Bits per second to a node that is served apart; no more than to the site.
    pub straggler_bits_per_second: u64,
    /// The nodes; each address and bit once, and each name once in all sites. At least one, unless it is FLUTE without BIER.
    pub nodes: Vec<HubNode>,
}

/// How packets get to nodes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HubCarriage {
    /// All nodes are on this network: first copies in frames to the group's Ethernet address, repairs as packets to the
    /// group, too, but in frames to the node's own (RFC 6085's idea).
    Ethernet(Interface),
    /// First copies as packets to the group, out of this network; repairs to the node's own IP address.
    IpMulticast(Interface),
    /// Packets to the group, with the bits of those who are to get them, through this sub-domain, in which we have a number.
    /// Each node has a bit, and there is a way to it.
    Bier(SubDomain),
}

choice! {
    /// How packets get to nodes.
    pub enum CarriageWord {
        /// All nodes are on one network: frames to the group's Ethernet address, repairs in frames to the node's own, which
        /// hold a packet to the group (RFC 6085's idea). Unmodified receivers take them.
        "ethernet" => Ethernet,
        /// Packets to the group, through routers if need be; repairs to the node's own IP address.
        "ip-multicast" => IpMulticast,
        /// Packets to the group in BIER, with the bits of those nodes that are to get them.
        "bier" => Bier,
    }
}

/// A node.
#[derive(Clone, Debug, PartialEq)]
pub struct HubNode {
    /// Its name in NORM (NormNodeId), never 0.
    pub id: u32,
    /// Its address; of the group's family, and with [`HubCarriage::Ethernet`] on the site's network.
    pub address: IpAddr,
    /// Its bit.
    pub bfr_id: Option<BfrId>,
    /// Its Ethernet address, where it is given. Only with [`HubCarriage::Ethernet`].
    pub mac: Option<MacAddr>,
    /// The groups that it is in, each once.
    pub groups: Vec<Name>,
}
