//! Where our tables send a packet: what a worker would do with it as things are, for those who ask.

use std::net::IpAddr;

use millrace_bier::bift::{Bift, LinkId, Reach};
use millrace_bier::bits::{self, BitString};
use millrace_bier::forward::{Down, Packet, Part};
use millrace_bier::id::{BfrId, BiftKey, BitPosition};
use millrace_bier::oam::{Downstream, Mapping, SetBits, SubTlv};
use millrace_bier::plane::AnyBift;
use millrace_bier::te::{Adjacency, TeBift, TeCopy};
use millrace_fastpath::driver::PortsDown;
use millrace_fastpath::tables::bier::Link;
use millrace_fastpath::tables::{Bier, Tables};

/// What becomes of a packet here.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Ways {
    /// Our own bit is set, or one of hosts, for whom we answer. Where bits stand for adjacencies: one that has it delivered here.
    pub local: bool,
    /// Others are.
    pub others: bool,
    /// The copies, but for those of hosts: they see no echo message.
    pub ways: Vec<Way>,
    /// Whose bits end here, ours before those of hosts.
    pub ends: Vec<BfrId>,
}

/// A copy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Way {
    /// BFR-prefix of the router that gets it; where nobody tells that, its address.
    pub prefix: IpAddr,
    /// Its address on the link, and the number of our interface there; `None` if no link leads to it.
    pub link: Option<(IpAddr, u32)>,
    /// The longest packet that the link takes, BIER header included, in bytes; 0 if there is no link.
    pub mtu: u16,
    /// Its bits.
    pub set: SetBits,
}

impl Ways {
    /// Those of a packet with these bits, while these ports are down. `None` if there is no such table.
    pub fn of(
        tables: &Tables,
        ports_down: PortsDown,
        key: BiftKey,
        words: &[u64],
        entropy: u32,
    ) -> Option<Self> {
        let bier = tables.bier.as_ref()?;
        let around = Around { tables, bier, ports_down, key };
        // Where it would go, however many hops it has left.
        let packet = Packet { bits: words, ttl: u8::MAX, entropy };
        let (own, ways) = match bier.plane.get(key)? {
            AnyBift::Bier(bift) => around.by_routers(bift, packet),
            AnyBift::BierTe(bift) => around.by_adjacencies(bift, packet),
        };
        let mut others = words.to_vec();
        own.iter().for_each(|bit| bits::clear(&mut others, *bit));
        let ends = own.iter().filter_map(|bit| BfrId::at(key.si, *bit, key.bsl)).collect();
        Some(Self { local: !own.is_empty(), others: !bits::is_zero(&others), ways, ends })
    }
}

/// What a way depends on.
#[derive(Clone, Copy)]
struct Around<'a> {
    tables: &'a Tables,
    bier: &'a Bier,
    ports_down: PortsDown,
    key: BiftKey,
}

impl Around<'_> {
    /// The bits that are set and end here, and the copies.
    fn by_routers(self, bift: &Bift, packet: Packet<'_>) -> (Vec<BitPosition>, Vec<Way>) {
        let all_up = Down::default();
        let down = self.bier.down(self.key.sub_domain).unwrap_or(&all_up);
        let (mut own, mut hosts, mut ways) = (Vec::new(), Vec::new(), Vec::new());
        let is_up = |link| self.bier.is_up(link, &self.tables.interfaces, self.ports_down);
        let _forwarded = bift.forward(packet, down, |part| match part {
            Part::Local => own.extend(bift.local()),
            Part::Unroutable(_) => {}
            Part::Copy { neighbour, bits } if matches!(bift.neighbour(neighbour).reach, Reach::Hosts(_)) => {
                hosts.extend(bits::ones(bits));
            }
            Part::Copy { neighbour, bits } => {
                let exit = bift.exit(neighbour, packet.entropy, is_up);
                ways.extend(
                    exit.and_then(|(_, link)| self.way(bift.neighbour(neighbour).prefix, link, bits)),
                );
            }
        });
        own.extend(hosts);
        (own, ways)
    }

    /// The same where bits stand for adjacencies.
    fn by_adjacencies(self, bift: &TeBift, packet: Packet<'_>) -> (Vec<BitPosition>, Vec<Way>) {
        let mut ways = Vec::new();
        let _forwarded = bift.forward(packet, |TeCopy { adjacency, bits }| match adjacency {
            Adjacency::LocalDecap { .. } => {}
            Adjacency::ForwardConnected { neighbour, .. } | Adjacency::ForwardRouted { neighbour, .. } => {
                let hop = self.bier.hops.get(neighbour as usize);
                ways.extend(hop.and_then(|hop| self.way(hop.to.to_ip(), hop.link, bits)));
            }
        });
        // One by one, for which bit asks for what is told nobody.
        let delivers = |bit: &BitPosition| {
            let mut one = vec![0; packet.bits.len()];
            bits::set(&mut one, *bit);
            let mut local = false;
            let _forwarded = bift.forward(Packet { bits: &one, ..packet }, |TeCopy { adjacency, .. }| {
                local |= matches!(adjacency, Adjacency::LocalDecap { .. });
            });
            local
        };
        (bits::ones(packet.bits).filter(delivers).collect(), ways)
    }

    /// The copy over a link; `None` while that is down, for then there is none.
    fn way(self, prefix: IpAddr, link: LinkId, bits: &[u64]) -> Option<Way> {
        let Self { tables, bier, ports_down, key } = self;
        if !bier.is_up(link, &tables.interfaces, ports_down) {
            return None;
        }
        let link = bier.link(link);
        let id = link.and_then(|link| link.next(&tables.routes)).map(|(id, _)| id);
        let interface = id.and_then(|id| tables.interfaces.get(id));
        let overhead = link.map_or(0, |link| link.overhead() as u16);
        Some(Way {
            prefix,
            link: link.and_then(Link::to).zip(id).map(|(to, id)| (to.to_ip(), u32::from(id.0))),
            mtu: interface.map_or(0, |interface| interface.mtu.saturating_sub(overhead)),
            set: SetBits::new(key, BitString::from_words(bits)),
        })
    }
}

impl Way {
    /// The routers that it is for.
    pub fn ids(&self) -> impl Iterator<Item = BfrId> {
        super::ids(self.set.key, self.set.bits.words())
    }

    /// It as a reply tells it.
    pub(super) fn mapping(&self) -> Mapping {
        let index = self.link.map_or(0, |(_, index)| index);
        let downstream = match (self.prefix, self.link) {
            (IpAddr::V4(prefix), Some((IpAddr::V4(interface), _))) => Downstream::V4 { prefix, interface },
            (IpAddr::V4(prefix), _) => Downstream::V4Unnumbered { prefix, index },
            (IpAddr::V6(prefix), Some((IpAddr::V6(interface), _))) if !interface.is_unicast_link_local() => {
                Downstream::V6 { prefix, interface }
            }
            (IpAddr::V6(prefix), _) => Downstream::V6LinkLocal { prefix, index },
        };
        let sub_tlvs = vec![SubTlv::Egress(self.set.clone())];
        Mapping { mtu: self.mtu, wants_incoming: false, downstream, sub_tlvs }
    }
}
