//! Interfaces, routes and our own addresses, from the configuration and what the driver knows of its ports.

use std::collections::HashMap;

use millrace_config::model::{self, Config};
use millrace_fastpath::addr::Addr;
use millrace_fastpath::driver::PortId;
use millrace_fastpath::tables::interfaces::{Interface, InterfaceId, Local, Mac};
use millrace_fastpath::tables::routes::{NextHop, Route, Routes};
use millrace_fastpath::tables::services::ServiceId;

use super::{BuildError, PortInfo};

/// Which id an interface has: by its port, in the driver's order, and its VLAN. An id is kept for its interface also
/// while the configuration lacks it, for frames that wait somewhere may still name it.
#[derive(Clone, Debug, Default)]
pub(crate) struct InterfaceIds(HashMap<(PortId, Option<model::VlanTag>), InterfaceId>);

impl InterfaceIds {
    pub(crate) fn get(
        &self,
        config: &Config,
        ports: &[PortInfo],
        interface: model::Interface,
    ) -> InterfaceId {
        // A checked configuration names no interface that it doesn't have, and all of them were given ids.
        let port = port_id(ports, config.port(interface.port).name.as_str());
        let key = port.map(|port| (port, interface.vlan));
        key.and_then(|key| self.0.get(&key)).copied().unwrap_or_default()
    }

    fn give(&mut self, port: PortId, vlan: Option<model::VlanTag>) -> Option<InterfaceId> {
        let next = InterfaceId(u16::try_from(self.0.len()).ok().filter(|next| *next < u16::MAX)?);
        Some(*self.0.entry((port, vlan)).or_insert(next))
    }
}

/// A port's place in the driver's order.
fn port_id(ports: &[PortInfo], name: &str) -> Option<PortId> {
    ports.iter().position(|info| info.name == name).map(|at| PortId(at as u16))
}

/// The interfaces: for each port its untagged network first, then its VLANs; ports in the order of the file. Those that
/// `ids` knows keep their ids.
pub(crate) fn interfaces(
    config: &Config,
    ports: &[PortInfo],
    ids: &mut InterfaceIds,
) -> Result<Vec<(InterfaceId, Interface)>, BuildError> {
    let mut list = Vec::new();
    for (at, port) in config.ports.iter().enumerate() {
        let name = port.name.as_str();
        let missing = || BuildError::PortMissing { port: name.to_owned() };
        let id = port_id(ports, name).ok_or_else(missing)?;
        let info = &ports[id.index()];
        for (interface, addresses) in port.interfaces(model::PortIndex(at)) {
            let vlan = interface.vlan;
            let given = ids.give(id, vlan).ok_or(BuildError::Interfaces)?;
            let mut addresses: Vec<(Addr, u8)> =
                addresses.iter().map(|address| (Addr::from(address.addr()), address.len())).collect();
            addresses.push((link_local(info.mac), 64));
            let interface = Interface {
                name: match vlan {
                    None => name.to_owned(),
                    Some(tag) => format!("{name}.{tag}"),
                },
                port: id,
                vlan: vlan.map(|tag| tag.id.0),
                outer: vlan.and_then(|tag| tag.outer).map(|outer| outer.0),
                mac: info.mac,
                mtu: port.mtu_bytes.min(info.mtu_bytes),
                addresses,
            };
            list.push((given, interface));
        }
    }
    Ok(list)
}

/// The interfaces of a port among those of `list`: its untagged network and its VLANs.
pub(crate) fn of_port(
    config: &Config,
    list: &[(InterfaceId, Interface)],
    port: model::PortIndex,
) -> Vec<InterfaceId> {
    // The untagged network has the port's name.
    let name = config.port(port).name.as_str();
    let id = list.iter().find(|(_, one)| one.vlan.is_none() && one.name == name).map(|(_, one)| one.port);
    list.iter().filter(|(_, one)| Some(one.port) == id).map(|(id, _)| *id).collect()
}

/// Connected networks, then the static routes.
pub(crate) fn routes(
    config: &Config,
    ports: &[PortInfo],
    list: &[(InterfaceId, Interface)],
    ids: &InterfaceIds,
) -> Routes {
    let connected =
        list.iter().flat_map(|(id, interface)| {
            // Every link has the link-local prefix, so a route to it would lead to any one of them.
            interface.addresses.iter().filter(|(addr, _)| !is_link_local(*addr)).map(move |(addr, len)| {
                Route { prefix: *addr, len: *len, next_hop: NextHop { interface: *id, via: None } }
            })
        });
    let configured = config.routes.iter().map(|route| Route {
        prefix: Addr::from(route.to.addr()),
        len: route.to.len(),
        next_hop: NextHop {
            interface: ids.get(config, ports, route.interface),
            via: Some(Addr::from(route.via)),
        },
    });
    Routes::new(&connected.chain(configured).collect::<Vec<_>>())
}

/// The address `fe80::/64` with the modified EUI-64 of a link-layer address (RFC 4291 Appendix A).
pub(crate) fn link_local(mac: Mac) -> Addr {
    let [a, b, c, d, e, f] = mac;
    Addr::v6([0xfe, 0x80, 0, 0, 0, 0, 0, 0, a ^ 2, b, c, 0xff, 0xfe, d, e, f])
}

/// Whether it is an IPv6 address of every link (RFC 4291 §2.5.6).
pub(crate) fn is_link_local(addr: Addr) -> bool {
    !addr.is_v4() && addr.is_link_local()
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

/// All our addresses, and what each is for; `ids` are those of the services, in the order of the file.
pub(crate) fn locals(
    config: &Config,
    list: &[(InterfaceId, Interface)],
    ids: &[ServiceId],
) -> Vec<(Addr, Local)> {
    let host = Local { host: true, ..Local::default() };
    let own =
        list.iter().flat_map(|(_, interface)| interface.addresses.iter().map(|(addr, _)| (*addr, host)));
    let by_flow = config.services.iter().zip(ids).filter(|(service, _)| {
        config.roles.balancer && service.on_demand().is_some_and(|on_demand| on_demand.trigger.flow)
    });
    let flow = by_flow.flat_map(|(service, id)| {
        let local = Local { flow: Some(*id), ..Local::default() };
        service.address.iter().map(move |addr| (Addr::from(*addr), local))
    });
    own.chain(floating(config)).chain(flow).collect()
}

/// Interfaces that ids can number, those that were once configured included.
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
