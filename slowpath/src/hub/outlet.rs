//! The way out to a site: messages become packets, packets segments on the site's lane.
//!
//! ```text
//!              to everyone                          to some
//!  ethernet    a frame to the group's address       a frame to each node's own, with the same packet (RFC 6085)
//!  ip-multicast  the same, as many hops as it takes   a packet to each node's own IP address, by the routes
//!  bier        a packet for each set of nodes       the same, with their bits alone
//! ```

use std::collections::{HashMap, VecDeque};
use std::net::SocketAddr;
use std::sync::Arc;

use millrace_bier::bits::BitString;
use millrace_bier::header::{Proto, len};
use millrace_bier::id::{BiftKey, Bsl, Si, SubDomain};
use millrace_config::model::MacAddr;
use millrace_fastpath::addr::Addr;
use millrace_fastpath::hub::{Lane, Way};
use millrace_fastpath::packet::L3;
use millrace_fastpath::tables::Tables;
use millrace_fastpath::tables::interfaces::{InterfaceId, Mac};
use millrace_fastpath::wire::ethernet;
use millrace_hub::nodes::{NodeIndex, Roster};
use millrace_hub::session::{Copies, To};

use crate::bier_origin::{self, Origin};
use crate::udp;

/// How packets get to a site's nodes.
#[derive(Clone, Debug)]
pub(super) enum Carriage {
    /// All are on this network.
    Ethernet {
        /// Its name among the interfaces.
        network: String,
        /// Ethernet addresses that are configured.
        macs: HashMap<NodeIndex, MacAddr>,
    },
    /// The group is sent out of this network.
    IpMulticast {
        /// Its name among the interfaces.
        network: String,
    },
    /// In BIER.
    Bier {
        /// Through this sub-domain,
        sub_domain: SubDomain,
        /// whose bit strings are so long.
        bsl: Bsl,
    },
}

/// Why a packet couldn't be sent; it is lost as if on the way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Why {
    /// The network is gone.
    NoNetwork,
    /// The node's Ethernet address isn't known yet.
    NeighbourUnknown,
    /// BIER has no table for it, or we have no number there.
    NoTable,
    /// Longer than a frame.
    TooLong,
    /// The content couldn't be read from the store, or isn't what it was.
    Unreadable,
}

/// How often, by reason.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Unsent([u64; 5]);

impl Unsent {
    /// The reasons as operators see them.
    const NAMES: [&str; 5] = ["no-network", "neighbour-unknown", "no-table", "too-long", "unreadable"];

    pub(super) fn add(&mut self, why: Why) {
        self.0[why as usize] += 1;
    }

    pub(super) fn rows(&self) -> impl Iterator<Item = (&'static str, u64)> {
        Self::NAMES.into_iter().zip(self.0)
    }
}

/// Where one packet goes.
#[derive(Clone, Debug)]
enum Target {
    Group,
    Node(NodeIndex),
    Set(Si, BitString),
}

/// The way out.
#[derive(Debug)]
pub(super) struct Outlet {
    pub(super) carriage: Carriage,
    lane: Arc<Lane>,
    source: (Addr, u16),
    group: (Addr, u16),
    hops: u8,
    /// A message, and where it still has to go: the lane was full.
    message: Vec<u8>,
    waiting: VecDeque<Target>,
    pub(super) unsent: Unsent,
}

impl Outlet {
    pub(super) fn new(
        carriage: Carriage,
        lane: Arc<Lane>,
        source: SocketAddr,
        group: SocketAddr,
        hops: u8,
    ) -> Self {
        let address = |one: SocketAddr| (Addr::from(one.ip()), one.port());
        let (source, group) = (address(source), address(group));
        let (message, waiting) = (Vec::new(), VecDeque::new());
        Self { carriage, lane, source, group, hops, message, waiting, unsent: Unsent::default() }
    }

    /// How many packets leave for some nodes.
    pub(super) fn copies(&self) -> Copies {
        match self.carriage {
            Carriage::Ethernet { .. } | Carriage::IpMulticast { .. } => Copies::Nodes,
            Carriage::Bier { .. } => Copies::Sets,
        }
    }

    /// Bytes that a frame has beside the message, from the Ethernet header on.
    pub(super) fn overhead(&self) -> usize {
        let bier = match self.carriage {
            Carriage::Bier { bsl, .. } => len(bsl),
            Carriage::Ethernet { .. } | Carriage::IpMulticast { .. } => 0,
        };
        L3 + bier + udp::headers_len(self.group.0.is_v4())
    }

    /// Whether a message can be sent now.
    pub(super) fn is_free(&self) -> bool {
        self.waiting.is_empty()
    }

    /// Sends a message; what of it the lane has no room for waits.
    pub(super) fn send(&mut self, tables: &Tables, roster: &Roster, to: &To, message: &[u8]) {
        self.message.clear();
        self.message.extend_from_slice(message);
        match (&self.carriage, to) {
            (Carriage::Bier { .. }, To::Everyone) => {
                let all = roster.indices().collect();
                self.waiting
                    .extend(roster.bit_strings(&all).into_iter().map(|(si, bits)| Target::Set(si, bits)));
            }
            (Carriage::Bier { .. }, To::These(nodes)) => {
                let sets = roster.bit_strings(nodes).into_iter();
                self.waiting.extend(sets.map(|(si, bits)| Target::Set(si, bits)));
            }
            (_, To::Everyone) => self.waiting.push_back(Target::Group),
            (_, To::These(nodes)) => self.waiting.extend(nodes.iter().map(Target::Node)),
        }
        self.go_on(tables, roster);
    }

    /// Puts on the lane what it has room for now. Returns whether that was anything.
    pub(super) fn go_on(&mut self, tables: &Tables, roster: &Roster) -> bool {
        let mut any = false;
        while let Some(target) = self.waiting.front() {
            let Some(mut segment) = self.lane.take_empty() else { break };
            any = true;
            match self.frame(tables, roster, target) {
                Ok((way, frame)) if segment.fill(way, &[&frame]) => self.lane.send(segment),
                refused => {
                    self.unsent.add(refused.err().unwrap_or(Why::TooLong));
                    self.lane.give_back(segment);
                }
            }
            self.waiting.pop_front();
        }
        any
    }

    /// The frame for a target.
    fn frame(&self, tables: &Tables, roster: &Roster, target: &Target) -> Result<(Way, Vec<u8>), Why> {
        let to_group = |hops| udp::packet(self.source, self.group, hops, &self.message);
        match (&self.carriage, target) {
            (Carriage::Ethernet { network, macs }, target) => {
                let (id, own) = interface(tables, network).ok_or(Why::NoNetwork)?;
                let mac = match target {
                    Target::Node(node) => match macs.get(node) {
                        Some(mac) => mac.0,
                        None => {
                            let address = Addr::from(roster.node(*node).address);
                            tables.neighbours.get(id, address).ok_or(Why::NeighbourUnknown)?
                        }
                    },
                    Target::Group | Target::Set(..) => ethernet::of_group(self.group.0),
                };
                Ok((Way::Interface(id), addressed(to_group(self.hops), mac, own)))
            }
            (Carriage::IpMulticast { network }, Target::Group | Target::Set(..)) => {
                let (id, own) = interface(tables, network).ok_or(Why::NoNetwork)?;
                let mac = ethernet::of_group(self.group.0);
                Ok((Way::Interface(id), addressed(to_group(self.hops), mac, own)))
            }
            (Carriage::IpMulticast { .. }, Target::Node(node)) => {
                let to = (Addr::from(roster.node(*node).address), self.group.1);
                // A hop is taken from it here.
                let hops = self.hops.saturating_add(1);
                Ok((Way::Routed, udp::packet(self.source, to, hops, &self.message)))
            }
            (Carriage::Bier { sub_domain, bsl }, Target::Set(si, bits)) => {
                let bier = tables.bier.as_deref().ok_or(Why::NoTable)?;
                let ingress = bier.ingress(*sub_domain).ok_or(Why::NoTable)?;
                let key = BiftKey { sub_domain: *sub_domain, si: *si, bsl: *bsl };
                let v4 = self.group.0.is_v4();
                let origin = Origin {
                    ttl: ingress.ttl,
                    // One flow, one way: nothing overtakes.
                    entropy: u32::from(self.group.1),
                    proto: if v4 { Proto::Ipv4 } else { Proto::Ipv6 },
                    bfir_id: Some(ingress.bfir_id),
                };
                // A hop is taken where it leaves BIER.
                let packet = to_group(self.hops.saturating_add(1));
                let frame = bier_origin::packet(bier, key, bits.words(), origin, &packet[L3..]);
                Ok((Way::Bier, frame.ok_or(Why::NoTable)?))
            }
            // Targets of BIER are sets.
            (Carriage::Bier { .. }, Target::Group | Target::Node(_)) => Err(Why::NoTable),
        }
    }
}

/// The interface of this name, and its Ethernet address.
fn interface(tables: &Tables, name: &str) -> Option<(InterfaceId, Mac)> {
    let found = tables.interfaces.iter().find(|(_, interface)| interface.name == name);
    found.map(|(id, interface)| (id, interface.mac))
}

fn addressed(mut frame: Vec<u8>, to: Mac, from: Mac) -> Vec<u8> {
    ethernet::set_addresses(&mut frame, to, from);
    frame
}
