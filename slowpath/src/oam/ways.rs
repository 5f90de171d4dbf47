//! Where our tables send a packet: what a worker would do with it, for those who ask.

use std::net::IpAddr;

use millrace_bier::bift::Reach;
use millrace_bier::bits::{self, BitString};
use millrace_bier::forward::{Down, Packet, Part};
use millrace_bier::id::{BfrId, BiftKey};
use millrace_bier::oam::{Downstream, Mapping, SetBits, SubTlv};
use millrace_bier::plane::AnyBift;
use millrace_fastpath::tables::Tables;
use millrace_fastpath::tables::bier::Link;

/// What becomes of a packet here.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Ways {
    /// Our own bit is set, or one of hosts, for whom we answer.
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
    /// BFR-prefix of the router that gets it.
    pub prefix: IpAddr,
    /// Its address on the link, and the number of our interface there; `None` if no link leads to it.
    pub link: Option<(IpAddr, u32)>,
    /// The longest packet that the link takes, BIER header included, in bytes; 0 if there is no link.
    pub mtu: u16,
    /// Its bits.
    pub set: SetBits,
}

impl Ways {
    /// Those of a packet with these bits. `None` if there is no such table, or its bits don't stand for routers.
    pub fn of(tables: &Tables, key: BiftKey, words: &[u64], entropy: u32) -> Option<Self> {
        let bier = tables.bier.as_ref()?;
        let Some(AnyBift::Bier(bift)) = bier.plane.get(key) else { return None };
        let all_up = Down::default();
        let down = bier.down(key.sub_domain).unwrap_or(&all_up);
        let mut found = Self::default();
        // Where it would go, however many hops it has left.
        let packet = Packet { bits: words, ttl: u8::MAX, entropy };
        let mut others = words.to_vec();
        let _forwarded = bift.forward(packet, down, |part| match part {
            Part::Local => found.local = true,
            Part::Unroutable(_) => {}
            Part::Copy { neighbour, bits } if matches!(bift.neighbour(neighbour).reach, Reach::Hosts(_)) => {
                found.local = true;
                found.ends.extend(super::ids(key, bits));
                bits::and_not(&mut others, bits);
            }
            Part::Copy { neighbour, bits } => {
                let neighbour = bift.neighbour(neighbour);
                let link = neighbour.link(entropy, bift.seed(), |_| true).and_then(|link| bier.link(link));
                let id = link.and_then(|link| link.next(&tables.routes)).map(|(id, _)| id);
                let interface = id.and_then(|id| tables.interfaces.get(id));
                let overhead = link.map_or(0, |link| link.overhead() as u16);
                found.ways.push(Way {
                    prefix: neighbour.prefix,
                    link: link.and_then(Link::to).zip(id).map(|(to, id)| (to.to_ip(), u32::from(id.0))),
                    mtu: interface.map_or(0, |interface| interface.mtu.saturating_sub(overhead)),
                    set: SetBits::new(key, BitString::from_words(bits)),
                });
            }
        });
        if let Some(local) = bift.local() {
            bits::clear(&mut others, local);
            let own = BfrId::at(key.si, local, key.bsl).filter(|_| bits::test(words, local));
            found.ends.splice(..0, own);
        }
        found.others = !bits::is_zero(&others);
        Some(found)
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
