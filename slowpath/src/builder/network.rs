//! Interfaces, routes and our own addresses, from the configuration and what the driver knows of its ports.

use std::collections::HashMap;

use millrace_config::model::{self, Config};
use millrace_fastpath::addr::Addr;
use millrace_fastpath::driver::PortId;
use millrace_fastpath::tables::interfaces::{Interface, InterfaceId, Interfaces, Local, Mac};
use millrace_fastpath::tables::routes::{NextHop, Route, Routes};

use super::{BuildError, PortInfo};

/// Which id an interface of the configuration has.
#[derive(Debug, Default)]
pub(crate) struct InterfaceIds(HashMap<model::Interface, InterfaceId>);

impl InterfaceIds {
    pub(crate) fn get(&self, interface: model::Interface) -> InterfaceId {
        // A checked configuration names no interface that it doesn't have, and all of them were given ids.
        self.0.get(&interface).copied().unwrap_or_default()
    }

    /// The interfaces of a port: its untagged network and its VLANs.
    pub(crate) fn of_port(&self, port: model::PortIndex) -> Vec<InterfaceId> {
        let mut ids: Vec<_> =
            self.0.iter().filter(|(interface, _)| interface.port == port).map(|(_, id)| *id).collect();
        ids.sort_unstable();
        ids
    }
}

/// The interfaces: for each port its untagged network first, then its VLANs; ports in the order of the file.
pub(crate) fn interfaces(
    config: &Config,
    ports: &[PortInfo],
) -> Result<(Interfaces, InterfaceIds), BuildError> {
    let mut ids = InterfaceIds::default();
    let mut list = Vec::new();
    for (at, port) in config.ports.iter().enumerate() {
        let name = port.name.as_str();
        let info = ports
            .iter()
            .find(|info| info.name == name)
            .ok_or_else(|| BuildError::PortMissing { port: name.to_owned() })?;
        for (interface, addresses) in port.interfaces(model::PortIndex(at)) {
            ids.0.insert(interface, InterfaceId(list.len() as u16));
            let mut addresses: Vec<(Addr, u8)> =
                addresses.iter().map(|address| (Addr::from(address.addr()), address.len())).collect();
            addresses.push((link_local(info.mac), 64));
            list.push(Interface {
                name: match interface.vlan {
                    None => name.to_owned(),
                    Some(vlan) => format!("{name}.{}", vlan.0),
                },
                port: PortId(at as u16),
                vlan: interface.vlan.map(|vlan| vlan.0),
                mac: info.mac,
                mtu: port.mtu_bytes.min(info.mtu_bytes),
                addresses,
            });
        }
    }
    if list.len() > INTERFACES_MAX {
        return Err(BuildError::Interfaces { have: list.len() });
    }
    let locals = locals(config, &list);
    Ok((Interfaces::new(list, locals), ids))
}

/// Connected networks, then the static routes.
pub(crate) fn routes(config: &Config, interfaces: &Interfaces, ids: &InterfaceIds) -> Routes {
    let connected =
        interfaces.iter().flat_map(|(id, interface)| {
            // Every link has the link-local prefix, so a route to it would lead to any one of them.
            interface.addresses.iter().filter(|(addr, _)| !is_link_local(*addr)).map(move |(addr, len)| {
                Route { prefix: *addr, len: *len, next_hop: NextHop { interface: id, via: None } }
            })
        });
    let configured = config.routes.iter().map(|route| Route {
        prefix: Addr::from(route.to.addr()),
        len: route.to.len(),
        next_hop: NextHop { interface: ids.get(route.interface), via: Some(Addr::from(route.via)) },
    });
    Routes::new(&connected.chain(configured).collect::<Vec<_>>())
}

/// The address `fe80::/64` with the modified EUI-64 of a link-layer address (RFC 4291 Appendix A).
pub(crate) fn link_local(mac: Mac) -> Addr {
    let [a, b, c, d, e, f] = mac;
    Addr::v6([0xfe, 0x80, 0, 0, 0, 0, 0, 0, a ^ 2, b, c, 0xff, 0xfe, d, e, f])
}

/// Whether the address means something on one link only (RFC 4291 §2.5.6).
pub(crate) fn is_link_local(addr: Addr) -> bool {
    addr.0 >> 118 == 0xfe80 >> 6
}

/// Addresses that belong to no interface: those of services, and those that DNS listens at. They are ours on all.
pub(crate) fn floating(config: &Config) -> impl Iterator<Item = (Addr, Local)> {
    let services = config.services.iter().filter(|_| config.roles.balancer).flat_map(|service| {
        let local = Local { host: true, service: true, ..Local::default() };
        service.address.iter().map(move |addr| (Addr::from(*addr), local))
    });
    let dns = config.dns.iter().filter(|_| config.roles.dns).flat_map(|dns| {
        let local = Local { host: true, dns: true, ..Local::default() };
        dns.listen.iter().map(move |addr| (Addr::from(*addr), local))
    });
    services.chain(dns)
}

fn locals(config: &Config, list: &[Interface]) -> Vec<(Addr, Local)> {
    let host = Local { host: true, ..Local::default() };
    let own = list.iter().flat_map(|interface| interface.addresses.iter().map(|(addr, _)| (*addr, host)));
    own.chain(floating(config)).collect()
}

/// Interfaces that ids can number.
pub const INTERFACES_MAX: usize = u16::MAX as usize;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn link_local_addresses_are_made_of_the_mac_and_known_again() {
        let addr = link_local([0x02, 0, 0, 0, 0, 7]);
        assert_eq!(addr.to_string(), "fe80::ff:fe00:7");
        assert!(is_link_local(addr));
        let other = |text: &str| Addr::from(text.parse::<std::net::IpAddr>().unwrap());
        assert!(!is_link_local(other("2001:db8::1")) && !is_link_local(other("169.254.0.1")));
        assert!(is_link_local(other("febf::1")) && !is_link_local(other("fec0::1")));
    }
}
