//! Ports, routes and neighbours.

use std::net::IpAddr;
use std::ops::Range;

use super::{Checker, all, items};
use crate::limits::MTU_BYTES_IPV6_MIN;
use crate::model::{
    Interface, InterfaceAddress, Nat, Port, PortIndex, Route, StaticNeighbour, Vlan, VlanId, VlanTag,
};
use crate::raw;
use crate::report::{Code, Diagnostic};

/// An address of ours, where it is and where the file says so.
pub(super) struct Own {
    pub(super) interface: Interface,
    pub(super) address: InterfaceAddress,
    pub(super) span: Range<usize>,
}

impl Checker {
    pub(super) fn ports(&mut self, raw: &raw::File) -> Option<Vec<Port>> {
        let ports = items(&raw.ports);
        self.unique("the port name", names(raw));
        let devices = ports.iter().filter_map(|p| p.value.device.as_ref());
        self.unique("the device", devices.map(|d| (d.value.name().to_owned(), d.span.clone())));
        let own = own(raw);
        // A link-local address belongs to its link alone (RFC 4291 section 2.5.6), so another link may have it too.
        let global = |own: &&Own| !is_link_local(own.address.addr());
        self.unique("the address", own.iter().filter(global).map(|o| (o.address.addr(), o.span.clone())));
        self.overlaps(&own);
        all(ports.iter().map(|port| self.port(&port.value)))
    }

    fn port(&mut self, raw: &raw::Port) -> Option<Port> {
        let vlans = items(&raw.vlans);
        let tags = vlans.iter().filter_map(|vlan| Some((tag(&vlan.value)?, vlan.value.id.as_ref()?)));
        self.unique("the VLAN", tags.map(|(tag, id)| (tag.to_string(), id.span.clone())));
        let tagged = vlans.iter().flat_map(|vlan| items(&vlan.value.addresses));
        let six = items(&raw.addresses).iter().chain(tagged).find(|a| a.value.addr().is_ipv6());
        let mtu = raw.mtu_bytes.as_ref()?;
        let mtu_bytes = mtu.value.get() as u16;
        if let Some(six) = six
            && mtu_bytes < MTU_BYTES_IPV6_MIN
        {
            let message = format!("an MTU of {mtu_bytes} bytes is too small for IPv6");
            self.note(
                Diagnostic::new(Code::Conflict, mtu.span.clone(), message)
                    .label("too small")
                    .related(six.span.clone(), "for this address")
                    .help(format!("IPv6 needs at least {MTU_BYTES_IPV6_MIN} bytes")),
            );
        }
        let addresses = |list: &[crate::read::At<InterfaceAddress>]| list.iter().map(|a| a.value).collect();
        let vlans = vlans.iter().map(|vlan| {
            Some(Vlan { tag: tag(&vlan.value)?, addresses: addresses(items(&vlan.value.addresses)) })
        });
        Some(Port {
            name: raw.name.as_ref()?.value.clone(),
            device: raw.device.as_ref()?.value.clone(),
            mtu_bytes,
            addresses: addresses(items(&raw.addresses)),
            vlans: all(vlans)?,
        })
    }

    /// Notes networks of different interfaces that share addresses: nobody could say where a neighbour is.
    fn overlaps(&mut self, own: &[Own]) {
        for (n, later) in own.iter().enumerate() {
            let overlap = |first: &&Own| {
                first.interface != later.interface
                    && first.address.addr() != later.address.addr()
                    && !(is_link_local(first.address.addr()) && is_link_local(later.address.addr()))
                    && first.address.network().overlaps(&later.address.network())
            };
            if let Some(first) = own[..n].iter().find(overlap) {
                let (a, b) = (first.address.network(), later.address.network());
                self.note(
                    Diagnostic::new(
                        Code::Overlap,
                        later.span.clone(),
                        format!("the networks {a} and {b} overlap"),
                    )
                    .label("overlaps")
                    .related(first.span.clone(), "with this network")
                    .help("give each port and VLAN a network of its own"),
                );
            }
        }
    }

    pub(super) fn routes(&mut self, raw: &raw::File) -> Option<Vec<Route>> {
        let routes = items(&raw.routes);
        let to = routes.iter().filter_map(|route| route.value.to.as_ref());
        self.unique("the route to", to.map(|to| (to.value, to.span.clone())));
        let (own, known) = (own(raw), self.addresses_known(raw));
        all(routes.iter().map(|route| self.route(&route.value, &own, known)))
    }

    fn route(&mut self, raw: &raw::Route, own: &[Own], known: bool) -> Option<Route> {
        let (to, via) = (raw.to.as_ref()?, raw.via.as_ref()?);
        let addr = via.value.0;
        if to.value.addr().is_ipv4() != addr.is_ipv4() {
            self.note(
                Diagnostic::new(
                    Code::Conflict,
                    via.span.clone(),
                    "a route and its next hop are of different families",
                )
                .label("the next hop")
                .related(to.span.clone(), "the route")
                .help("a packet is sent on to a next hop of its own family"),
            );
            return None;
        }
        self.not_ours(addr, own, "the next hop", &via.span)?;
        let near: Vec<_> = own.iter().collect();
        let interface = self.on_link(addr, &near, known, "the next hop", &via.span)?;
        Some(Route { to: to.value, via: addr, interface })
    }

    pub(super) fn neighbours(&mut self, raw: &raw::File) -> Option<Vec<StaticNeighbour>> {
        let neighbours = items(&raw.neighbours);
        let given = neighbours.iter().filter_map(|n| {
            let (address, port) = (n.value.address.as_ref()?, n.value.port.as_ref()?);
            Some((format!("{} on {}", address.value.0, port.value), address.span.clone()))
        });
        self.unique("the neighbour", given);
        let max = raw.limits.as_ref().and_then(|limits| limits.value.neighbours_max.as_ref());
        if let (Some(max), Some(list)) = (max, &raw.neighbours)
            && neighbours.len() > max.value.get() as usize
        {
            let message =
                format!("there are {} static neighbours, but room for {}", neighbours.len(), max.value.get());
            self.note(
                Diagnostic::new(Code::Conflict, list.span.clone(), message)
                    .label("too many")
                    .help("raise `limits.neighbours_max`"),
            );
        }
        let own = own(raw);
        all(neighbours.iter().map(|neighbour| self.neighbour(raw, &neighbour.value, &own)))
    }

    fn neighbour(
        &mut self,
        raw: &raw::File,
        neighbour: &raw::Neighbour,
        own: &[Own],
    ) -> Option<StaticNeighbour> {
        let (address, port) = (neighbour.address.as_ref()?, neighbour.port.as_ref()?);
        let ports = items(&raw.ports);
        let names = || ports.iter().map(|p| p.value.name.as_ref().map(|name| &name.value));
        if !names().any(|name| name == Some(&port.value)) {
            if names().all(|name| name.is_some()) {
                self.unknown(
                    "port",
                    port.value.as_str(),
                    &port.span,
                    names().flatten().map(|name| name.as_str()),
                );
            }
            return None;
        }
        let addr = address.value.0;
        self.not_ours(addr, own, "the neighbour", &address.span)?;
        let there = |own: &&Own| {
            ports[own.interface.port.0].value.name.as_ref().is_some_and(|n| n.value == port.value)
        };
        let near: Vec<_> = own.iter().filter(there).collect();
        let interface =
            self.on_link(addr, &near, self.addresses_known(raw), "the neighbour", &address.span)?;
        Some(StaticNeighbour { address: addr, mac: neighbour.mac.as_ref()?.value, interface })
    }

    /// Notes a next hop or neighbour that is the appliance itself.
    pub(super) fn not_ours(
        &mut self,
        addr: IpAddr,
        own: &[Own],
        what: &str,
        span: &Range<usize>,
    ) -> Option<()> {
        let Some(ours) = own.iter().find(|own| own.address.addr() == addr) else { return Some(()) };
        self.note(
            Diagnostic::new(Code::Conflict, span.clone(), format!("{what} {addr} is the appliance itself"))
                .label("our own address")
                .related(ours.span.clone(), "given here"),
        );
        None
    }

    /// The one interface among `own` that an address is on-link at, by the longest prefix. `known` tells whether all of
    /// them could be read: one that couldn't may be the one that is sought.
    pub(super) fn on_link(
        &mut self,
        addr: IpAddr,
        own: &[&Own],
        known: bool,
        what: &str,
        span: &Range<usize>,
    ) -> Option<Interface> {
        let near: Vec<_> = own.iter().filter(|own| own.address.network().contains(addr)).collect();
        let Some(best) = near.iter().max_by_key(|own| own.address.len()) else {
            if known {
                let family = own.iter().filter(|own| own.address.addr().is_ipv4() == addr.is_ipv4());
                let networks: Vec<_> =
                    family.map(|own| own.address.network().to_string()).take(NAMES_SHOWN_MAX).collect();
                let help = match networks.is_empty() {
                    true => "no network of its family is connected there".into(),
                    false => format!("connected there: {}", networks.join(", ")),
                };
                let message = format!("{what} {addr} isn't on a connected network");
                self.note(
                    Diagnostic::new(Code::NotOnLink, span.clone(), message).label("not on-link").help(help),
                );
            }
            return None;
        };
        // Other networks that overlap have been noted; a link-local one may well be on every link.
        let rival = |own: &&&&Own| {
            is_link_local(addr) && own.interface != best.interface && own.address.len() == best.address.len()
        };
        if let Some(other) = near.iter().find(rival) {
            self.note(
                Diagnostic::new(
                    Code::Conflict,
                    span.clone(),
                    format!("{what} {addr} could be on two networks"),
                )
                .label("on which?")
                .related(best.span.clone(), "here")
                .related(other.span.clone(), "or here")
                .help("use an address that only one port has the network of"),
            );
            return None;
        }
        Some(best.interface)
    }

    /// Whether every address of ours could be read.
    pub(super) fn addresses_known(&self, raw: &raw::File) -> bool {
        let ports = items(&raw.ports);
        raw.ports.is_some()
            && ports.iter().all(|port| match (&port.value.addresses, &port.value.vlans) {
                // A slip in the key's name leaves the list out.
                (None, _) if !port.sound => false,
                (addresses, vlans) => {
                    addresses.as_ref().is_none_or(|at| at.sound) && vlans.as_ref().is_none_or(|at| at.sound)
                }
            })
    }

    pub(super) fn nat(&mut self, raw: &raw::File) -> Option<Nat> {
        Some(Nat { port_range: raw.nat.as_ref()?.value.port_range.as_ref()?.value })
    }

    /// Notes a name that nothing has.
    pub(super) fn unknown<'n>(
        &mut self,
        what: &str,
        name: &str,
        span: &Range<usize>,
        known: impl Iterator<Item = &'n str> + Clone,
    ) {
        let help = match crate::read::similar(name, known.clone()) {
            Some(meant) => format!("did you mean \"{meant}\"?"),
            None => match crate::read::either(known.take(NAMES_SHOWN_MAX)) {
                none if none.is_empty() => format!("the file has no {what} yet"),
                names => format!("there is {names}"),
            },
        };
        let message = format!("there is no {what} `{name}`");
        self.note(Diagnostic::new(Code::UnknownName, span.clone(), message).label("unknown name").help(help));
    }
}

/// Names that a hint lists: more than this is no hint.
const NAMES_SHOWN_MAX: usize = 8;

/// Every address of ours that could be read.
pub(super) fn own(raw: &raw::File) -> Vec<Own> {
    let mut own = Vec::new();
    for (n, port) in items(&raw.ports).iter().enumerate() {
        let mut add = |vlan, addresses: &[crate::read::At<InterfaceAddress>]| {
            let interface = Interface { port: PortIndex(n), vlan };
            own.extend(addresses.iter().map(|a| Own { interface, address: a.value, span: a.span.clone() }));
        };
        add(None, items(&port.value.addresses));
        for vlan in items(&port.value.vlans) {
            if let Some(tag) = tag(&vlan.value) {
                add(Some(tag), items(&vlan.value.addresses));
            }
        }
    }
    own
}

pub(super) fn tag(vlan: &raw::Vlan) -> Option<VlanTag> {
    let id = |value: u32| VlanId(value as u16);
    Some(VlanTag {
        outer: vlan.outer.as_ref().map(|outer| id(outer.value.get())),
        id: id(vlan.id.as_ref()?.value.get()),
    })
}

fn names(raw: &raw::File) -> impl Iterator<Item = (String, Range<usize>)> {
    let names = items(&raw.ports).iter().filter_map(|port| port.value.name.as_ref());
    names.map(|name| (name.value.to_string(), name.span.clone()))
}

fn is_link_local(addr: IpAddr) -> bool {
    match addr {
        IpAddr::V4(v4) => v4.is_link_local(),
        IpAddr::V6(v6) => v6.is_unicast_link_local(),
    }
}
