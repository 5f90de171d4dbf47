//! Who listens to which groups on our links: IGMPv3 (RFC 9776) and MLDv2 (RFC 9777), a router's side of them; and a host's, where we
//! listen ourselves ([`Joins`]).
//!
//! Frames and times go in, [`Output`]s come out; there is no I/O and no clock here, so tests drive time by hand.
//!
//! ```text
//!  frame ─► igmp, mld ─► message ─┬► network (one link, one family) ─┬─► group: mode, sources, timers
//!                                 │  asker's election, questions     └─► Changed: who listens now
//!                                 └► signals: the same between routers, in BIER
//! ```
//!
//! Hosts of older versions are heard: IGMPv1, IGMPv2 and MLDv1. We always ask by the latest version, which they understand
//! as their own. Groups that never leave their link aren't kept. What is kept is bounded: [`GROUPS_MAX`] groups of a link
//! and family, [`SOURCES_MAX`] sources of a group.

mod group;
mod igmp;
mod joins;
mod learner;
mod message;
mod mld;
mod network;
mod signals;
mod speaker;
mod timers;

use std::collections::BTreeMap;

use millrace_fastpath::addr::Addr;
use millrace_fastpath::clock::Nanos;
use millrace_fastpath::tables::interfaces::{Interface, InterfaceId, Interfaces, Mac};
use millrace_fastpath::tables::listeners::Filter;
use millrace_fastpath::wire::{ethernet, ipv4, ipv6};

use crate::builder::is_link_local;
pub use group::SOURCES_MAX;
pub use joins::{Join, JoinCounters, Joins};
pub use learner::{LEARNT_MAX, LEARNT_SOURCES_MAX, LearntRow};
use message::Refused;
pub use message::Version;
pub use network::GROUPS_MAX;
use network::{Network, Said};
pub use signals::{Signal, SignalCounters, Signalling, Signals};
pub use timers::Timers;

/// What is to be done.
#[derive(Debug, PartialEq, Eq)]
pub enum Output {
    /// Send this Ethernet frame, untagged, by the interface.
    Send(InterfaceId, Vec<u8>),
    /// Who listens to a group on the interface from now on; `None` for nobody.
    Changed(InterfaceId, Addr, Option<Filter>),
}

/// What happened, for the operator.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// Messages in which hosts said what they listen to.
    pub reports: u64,
    /// Questions of other routers.
    pub queries_heard: u64,
    /// Questions of ours.
    pub queries_sent: u64,
    /// Messages that weren't well-formed, or can't have come from the link.
    pub malformed: u64,
    /// Messages of types that routers don't read, or on links where nobody is asked.
    pub unwanted: u64,
    /// Groups that there was no room for.
    pub groups_refused: u64,
    /// Sources that there was no room for.
    pub sources_refused: u64,
}

/// The asker of a link, as it is shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct QuerierRow {
    /// The link.
    pub interface: InterfaceId,
    /// IGMP, or MLD.
    pub v4: bool,
    /// Who asks.
    pub querier: Addr,
    /// Whether that is us.
    pub ours: bool,
    /// When we ask next, or when the other one counts as gone.
    pub due: Nanos,
    /// Groups with listeners.
    pub groups: usize,
}

/// A group with listeners on a link, as it is shown.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MemberRow {
    /// The link.
    pub interface: InterfaceId,
    /// The group.
    pub group: Addr,
    /// In EXCLUDE mode, when that ends.
    pub exclude_until: Option<Nanos>,
    /// The sources, and until when each is wanted; `None` for one that nobody wants.
    pub sources: Vec<(Addr, Option<Nanos>)>,
    /// The oldest version that some host speaks.
    pub version: Version,
}

/// The machine.
#[derive(Debug, Default)]
pub struct Machine {
    links: BTreeMap<InterfaceId, Mac>,
    /// By link and whether it is IPv4's.
    networks: BTreeMap<(InterfaceId, bool), Network>,
    /// The earliest of what is due.
    next: Option<Nanos>,
    counters: Counters,
    said: Vec<Said>,
}

/// Whether an Ethernet frame is IGMP's or MLD's, so that it belongs here and not to the host's stack.
pub(crate) fn is_membership(frame: &[u8]) -> bool {
    match frame.get(12..14).map(|bytes| u16::from_be_bytes([bytes[0], bytes[1]])) {
        Some(ethernet::IPV4) => ipv4::is_igmp(&frame[14..]),
        Some(ethernet::IPV6) => ipv6::is_mld(&frame[14..]),
        _ => false,
    }
}

impl Machine {
    /// Hosts are asked on these links from now on, and not on others. What is known of those that stay, stays.
    pub fn reload(
        &mut self,
        now: Nanos,
        interfaces: &Interfaces,
        queriers: &[(InterfaceId, Timers)],
        out: &mut Vec<Output>,
    ) {
        let wanted = queriers.iter().filter_map(|(id, timers)| Some((*id, interfaces.get(*id)?, *timers)));
        let wanted: BTreeMap<_, _> = wanted
            .flat_map(|(id, interface, timers)| {
                let ours = [(true, ours_v4(interface)), (false, ours_v6(interface))];
                ours.into_iter().filter_map(move |(v4, ours)| Some(((id, v4), (ours?, timers))))
            })
            .collect();
        let gone: Vec<_> = self.networks.keys().filter(|key| !wanted.contains_key(key)).copied().collect();
        for key in gone {
            let groups = self.networks.remove(&key);
            let groups = groups.iter().flat_map(Network::groups);
            out.extend(groups.map(|(group, _)| Output::Changed(key.0, group, None)));
        }
        for (key, (ours, timers)) in wanted {
            match self.networks.get_mut(&key) {
                Some(network) => network.reload(ours, timers, now),
                None => {
                    self.networks.insert(key, Network::new(ours, timers, now));
                }
            }
        }
        let macs = interfaces.iter().map(|(id, interface)| (id, interface.mac));
        self.links = macs.filter(|(id, _)| queriers.iter().any(|(querier, _)| querier == id)).collect();
        self.note_due();
    }

    /// Takes an Ethernet frame that came in by an interface.
    pub fn receive(&mut self, now: Nanos, interface: InterfaceId, frame: &[u8], out: &mut Vec<Output>) {
        let v4 = frame.get(12..14) == Some(&ethernet::IPV4.to_be_bytes());
        let Some(network) = self.networks.get_mut(&(interface, v4)) else {
            self.counters.unwanted += 1;
            return;
        };
        let ip = frame.get(ethernet::HEADER..).unwrap_or_default();
        match if v4 { igmp::parse(ip) } else { mld::parse(ip) } {
            Ok(heard) => network.receive(now, heard, &mut self.counters, &mut self.said),
            Err(Refused::Malformed) => self.counters.malformed += 1,
            Err(Refused::Unknown) => self.counters.unwanted += 1,
        }
        // Too early at worst.
        self.next = self.next.into_iter().chain([network.next_due()]).min();
        self.say((interface, v4), out);
    }

    /// Whether hosts are asked on a link.
    pub fn asks_on(&self, interface: InterfaceId) -> bool {
        self.links.contains_key(&interface)
    }

    /// Does what has become due.
    pub fn poll(&mut self, now: Nanos, out: &mut Vec<Output>) {
        let due = self.networks.iter().filter(|(_, network)| network.next_due() <= now);
        let due: Vec<_> = due.map(|(key, _)| *key).collect();
        for key in due {
            if let Some(network) = self.networks.get_mut(&key) {
                network.poll(now, &mut self.said);
            }
            self.say(key, out);
        }
        self.note_due();
    }

    /// When [`Machine::poll`] has something to do next.
    pub fn next_due(&self) -> Option<Nanos> {
        self.next
    }

    /// The askers of all links.
    pub fn queriers(&self) -> impl Iterator<Item = QuerierRow> {
        self.networks.iter().map(|((interface, v4), network)| {
            let elected = network.elected();
            QuerierRow {
                interface: *interface,
                v4: *v4,
                querier: elected.map_or(network.ours, |elected| elected.addr),
                ours: elected.is_none(),
                due: elected.map_or_else(|| network.next_query(), |elected| elected.until()),
                groups: network.groups().count(),
            }
        })
    }

    /// All groups with listeners.
    pub fn members(&self, now: Nanos) -> impl Iterator<Item = MemberRow> {
        self.networks.iter().flat_map(move |((interface, _), network)| {
            network.groups().map(move |(group, member)| MemberRow {
                interface: *interface,
                group,
                exclude_until: member.state.exclude_until,
                sources: member.state.sources.iter().map(|(source, until)| (*source, *until)).collect(),
                version: member.version(now),
            })
        })
    }

    /// What happened so far.
    pub fn counters(&self) -> Counters {
        self.counters
    }

    fn say(&mut self, (interface, v4): (InterfaceId, bool), out: &mut Vec<Output>) {
        for said in std::mem::take(&mut self.said) {
            match said {
                Said::Changed(group, filter) => out.push(Output::Changed(interface, group, filter)),
                Said::Ask(query) => {
                    let (Some(network), Some(mac)) =
                        (self.networks.get(&(interface, v4)), self.links.get(&interface))
                    else {
                        continue;
                    };
                    let frame = if v4 { igmp::query_frame } else { mld::query_frame };
                    self.counters.queries_sent += 1;
                    out.push(Output::Send(interface, frame(network.ours, *mac, &query)));
                }
            }
        }
    }

    fn note_due(&mut self) {
        self.next = self.networks.values().map(Network::next_due).min();
    }
}

fn ours_v4(interface: &Interface) -> Option<Addr> {
    interface.address_like(Addr::v4([0; 4]))
}

/// Questions come from a link-local address (RFC 9777 section 5.1.14).
fn ours_v6(interface: &Interface) -> Option<Addr> {
    interface.addresses.iter().map(|(addr, _)| *addr).find(|addr| is_link_local(*addr))
}

#[cfg(test)]
mod joins_tests;
#[cfg(test)]
mod tests;
