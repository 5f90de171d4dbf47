//! Ports, routes and neighbours.

use std::fmt;
use std::net::IpAddr;

use super::{Device, InterfaceAddress, MacAddr, Name, PortRange, Prefix};

/// Counts the ports in the order of the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct PortIndex(pub usize);

/// An Ethernet port.
#[derive(Clone, Debug, PartialEq)]
pub struct Port {
    /// What the operator calls it; used once.
    pub name: Name,
    /// The DPDK device behind it; used once.
    pub device: Device,
    /// Longest IP packet, in bytes, without the Ethernet header.
    pub mtu_bytes: u16,
    /// Our addresses on the untagged network.
    pub addresses: Vec<InterfaceAddress>,
    /// Tagged networks (IEEE 802.1Q, 802.1ad).
    pub vlans: Vec<Vlan>,
}

/// A tagged network on a port.
#[derive(Clone, Debug, PartialEq)]
pub struct Vlan {
    /// Its tag, and the one around it.
    pub tag: VlanTag,
    /// Our addresses on it.
    pub addresses: Vec<InterfaceAddress>,
}

/// A VLAN's tag, 1 to 4094 (IEEE 802.1Q section 9.6: 0 and 4095 are reserved).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct VlanId(pub u16);

/// What tells the frames of a tagged network.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct VlanTag {
    /// The outer tag (IEEE 802.1ad), for a network inside a provider's.
    pub outer: Option<VlanId>,
    /// The tag.
    pub id: VlanId,
}

impl fmt::Display for VlanTag {
    /// `20`, or `100.20` inside another.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(outer) = self.outer {
            write!(f, "{}.", outer.0)?;
        }
        write!(f, "{}", self.id.0)
    }
}

/// One network of a port: the untagged one, or a VLAN.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Interface {
    /// The port.
    pub port: PortIndex,
    /// The tag, or none.
    pub vlan: Option<VlanTag>,
}

/// A static route.
#[derive(Clone, Debug, PartialEq)]
pub struct Route {
    /// Where to. No two routes have the same.
    pub to: Prefix,
    /// The next hop: on-link, of the same family, and not ourselves.
    pub via: IpAddr,
    /// The interface that the next hop is on.
    pub interface: Interface,
}

/// A neighbour whose Ethernet address needn't be asked for.
#[derive(Clone, Debug, PartialEq)]
pub struct StaticNeighbour {
    /// Its address, on-link.
    pub address: IpAddr,
    /// Its Ethernet address.
    pub mac: MacAddr,
    /// Where it is.
    pub interface: Interface,
}

/// Port translation, where a service has the instance see the appliance's address.
#[derive(Clone, Debug, PartialEq)]
pub struct Nat {
    /// Source ports that the workers share out among themselves, on the address of the port that a packet leaves by.
    pub port_range: PortRange,
}

impl Port {
    /// The port's networks: the untagged one first, then its VLANs.
    pub fn interfaces(&self, index: PortIndex) -> impl Iterator<Item = (Interface, &[InterfaceAddress])> {
        let untagged = (Interface { port: index, vlan: None }, self.addresses.as_slice());
        let tagged = self
            .vlans
            .iter()
            .map(move |vlan| (Interface { port: index, vlan: Some(vlan.tag) }, vlan.addresses.as_slice()));
        std::iter::once(untagged).chain(tagged)
    }
}

pub(super) fn on_link(ports: &[Port], addr: IpAddr) -> Option<Interface> {
    let all = ports.iter().enumerate().flat_map(|(n, port)| port.interfaces(PortIndex(n)));
    let matching = all.flat_map(|(interface, ours)| {
        let ours = ours.iter().filter(|a| a.network().contains(addr));
        ours.map(move |a| (a.len(), interface))
    });
    matching.max_by_key(|(len, _)| *len).map(|(_, interface)| interface)
}
