//! Interfaces: a port, or a VLAN on one, with its addresses; and which addresses are ours.

use super::filter::AddrFilter;
use super::mixed::MixedMap;
use crate::addr::Addr;
use crate::driver::PortId;
use crate::tables::services::ServiceId;
use crate::wire::ethernet::Tags;

/// A link-layer address.
pub type Mac = [u8; 6];

/// An interface: a port's untagged traffic or one of its VLANs. An index into [`Interfaces`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub struct InterfaceId(pub u16);

impl InterfaceId {
    /// The index into per-interface arrays.
    #[inline]
    pub fn index(self) -> usize {
        usize::from(self.0)
    }
}

/// One interface.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Interface {
    /// `lan`, `lan.20` for a VLAN, `lan.100.20` for one inside another.
    pub name: String,
    /// The port that carries it.
    pub port: PortId,
    /// The 802.1Q VLAN id, 1..=4094; `None` for untagged traffic.
    pub vlan: Option<u16>,
    /// The id of the outer tag around it (IEEE 802.1ad), 1..=4094; `None` where there is only one.
    pub outer: Option<u16>,
    /// Our link-layer address on it.
    pub mac: Mac,
    /// The largest IP packet it carries, in bytes.
    pub mtu: u16,
    /// Our addresses on it, with prefix lengths.
    pub addresses: Vec<(Addr, u8)>,
}

impl Interface {
    /// The tags that its frames carry.
    #[inline]
    pub fn tags(&self) -> Tags {
        Tags::new(self.outer, self.vlan)
    }

    /// Our first address of the family of `like`.
    pub fn address_like(&self, like: Addr) -> Option<Addr> {
        self.addresses.iter().map(|(addr, _)| *addr).find(|addr| addr.is_v4() == like.is_v4())
    }

    /// Whether an IPv4 address stands for all hosts of a network here (RFC 919 §7; a /31 has none, RFC 3021).
    pub fn is_broadcast(&self, addr: Addr) -> bool {
        let bits = |addr: Addr| u32::from_be_bytes(addr.v4_bytes());
        addr.is_v4()
            && self.addresses.iter().any(|(own, len)| {
                let hosts = u32::MAX.checked_shr(u32::from(*len)).unwrap_or(0);
                own.is_v4() && *len < 31 && bits(addr) == bits(*own) | hosts
            })
    }
}

/// What one of our own addresses is for; an address can serve several ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Local {
    /// The appliance itself answers here: ICMP, management, return traffic of translated flows.
    pub host: bool,
    /// DNS is answered here by the authoritative rules.
    pub dns: bool,
    /// Services have ports here.
    pub service: bool,
    /// The one service that any packet to here may wake, whatever follows its IP header.
    pub flow: Option<ServiceId>,
}

/// All interfaces and our own addresses.
#[derive(Clone, Debug, Default)]
#[repr(align(64))] // see `Tables`
pub struct Interfaces {
    /// By id. Ids of interfaces that are gone stay empty: frames that wait somewhere may still name them.
    list: Vec<Option<Interface>>,
    ports: Vec<PortInterfaces>,
    locals: MixedMap<Addr, Local>,
    /// Of the keys of `locals`.
    ours: AddrFilter,
}

#[derive(Clone, Debug, Default)]
struct PortInterfaces {
    untagged: Option<InterfaceId>,
    tagged: Vec<(Tags, InterfaceId)>,
}

impl Interfaces {
    /// Builds the table of interfaces that are numbered as they come; `locals` names our addresses and what each is for
    /// (entries for one address are merged).
    pub fn new(list: Vec<Interface>, locals: impl IntoIterator<Item = (Addr, Local)>) -> Self {
        Self::with_ids(list.into_iter().enumerate().map(|(at, one)| (InterfaceId(at as u16), one)), locals)
    }

    /// The same, of interfaces that have their ids.
    pub fn with_ids(
        interfaces: impl IntoIterator<Item = (InterfaceId, Interface)>,
        locals: impl IntoIterator<Item = (Addr, Local)>,
    ) -> Self {
        let mut list: Vec<Option<Interface>> = Vec::new();
        let mut ports: Vec<PortInterfaces> = Vec::new();
        for (id, interface) in interfaces {
            let at = interface.port.index();
            if ports.len() <= at {
                ports.resize_with(at + 1, PortInterfaces::default);
            }
            match interface.tags() {
                tags if tags.is_none() => ports[at].untagged = Some(id),
                tags => ports[at].tagged.push((tags, id)),
            }
            if list.len() <= id.index() {
                list.resize(id.index() + 1, None);
            }
            list[id.index()] = Some(interface);
        }
        let mut merged: MixedMap<Addr, Local> = MixedMap::default();
        for (addr, local) in locals {
            let entry = merged.entry(addr).or_default();
            entry.host |= local.host;
            entry.dns |= local.dns;
            entry.service |= local.service;
            entry.flow = entry.flow.or(local.flow);
        }
        let ours = AddrFilter::of(merged.keys().copied());
        Self { list, ports, locals: merged, ours }
    }

    /// The interface that a frame with these tags belongs to, and its link-layer address; `None` for a VLAN that isn't configured.
    #[inline(always)]
    pub fn find(&self, port: PortId, tags: Tags) -> Option<(InterfaceId, Mac)> {
        let on_port = self.ports.get(port.index())?;
        let id = if tags.is_none() {
            on_port.untagged
        } else {
            on_port.tagged.iter().find(|(has, _)| *has == tags).map(|(_, interface)| *interface)
        };
        id.and_then(|id| Some((id, self.get(id)?.mac)))
    }

    /// The interface of this id.
    #[inline(always)]
    pub fn get(&self, id: InterfaceId) -> Option<&Interface> {
        self.list.get(id.index())?.as_ref()
    }

    /// What `addr` is to us; `None` when it isn't ours.
    #[inline(always)]
    pub fn local(&self, addr: Addr) -> Option<Local> {
        if self.ours.may_hold(addr) { self.locals.get(&addr).copied() } else { None }
    }

    /// Whether only we may send from `addr`: it is ours, and no service's, from which an instance that answers past us
    /// sends, too. For addresses that mostly aren't, such as every packet's source: then it costs a few instructions.
    #[inline(always)]
    pub fn is_ours_alone(&self, addr: Addr) -> bool {
        self.ours.may_hold(addr) && self.locals.get(&addr).is_some_and(|local| !local.service)
    }

    /// All interfaces, in the order of their ids.
    pub fn iter(&self) -> impl Iterator<Item = (InterfaceId, &Interface)> {
        let numbered = self.list.iter().enumerate();
        numbered.filter_map(|(index, interface)| Some((InterfaceId(index as u16), interface.as_ref()?)))
    }

    /// All our own addresses.
    pub fn locals(&self) -> impl Iterator<Item = (Addr, Local)> {
        self.locals.iter().map(|(addr, local)| (*addr, *local))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ours_are_known_and_few_others_are_looked_for() {
        let ours: Vec<Addr> = (0..100u8)
            .map(|n| Addr::v4([192, 0, 2, n]))
            .chain((0..10).map(|n| Addr(0x2001_0db8 << 96 | n)))
            .collect();
        let host = Local { host: true, ..Local::default() };
        let interfaces = Interfaces::new(Vec::new(), ours.iter().map(|addr| (*addr, host)));
        assert!(ours.iter().all(|addr| interfaces.is_ours_alone(*addr)));
        let others: Vec<Addr> =
            (0..10_000u32).map(|n| Addr::v4((0x0a00_0000 + n * 77).to_be_bytes())).collect();
        assert!(!others.iter().any(|addr| interfaces.is_ours_alone(*addr)));
        let looked_for = others.iter().filter(|addr| interfaces.ours.may_hold(**addr)).count();
        assert!(looked_for < 2000, "{looked_for} of 10 000");
    }
}
