//! BIER: what the tables say, and what workers counted.

use std::sync::Arc;

use millrace_bier::bift::{Bift, LinkId, Neighbour, NeighbourIndex, Reach};
use millrace_bier::bits::ones;
use millrace_bier::header::Carriage;
use millrace_bier::id::{BfrId, BiftKey, BitPosition, SubDomain};
use millrace_bier::plane::AnyBift;
use millrace_bier::te::{Adjacencies, Adjacency, TeBift};
use millrace_config::model::BfrIds;
use millrace_fastpath::addr::Addr;
use millrace_fastpath::clock::Nanos;
use millrace_fastpath::node::bier::Loss;
use millrace_fastpath::node::{NodeId, drop_names};
use millrace_fastpath::shared::WorkerShared;
use millrace_fastpath::tables::bier::{Link, Tunnel};
use millrace_fastpath::tables::interfaces::InterfaceId;
use millrace_fastpath::tables::{Bier, Tables};

use super::text::{mac_text, seconds};
use super::{CollectError, Sources};
use crate::control::Members;
use crate::membership::{LearntRow, MemberRow, QuerierRow, Version};
use crate::oam::Expired;
use crate::telemetry::rows::*;

impl Sources {
    /// `show bier`
    ///
    /// # Errors
    /// The control loop has ended.
    pub fn bier(&self) -> Result<BierReport, CollectError> {
        let Members { now, queriers, members, learnt } =
            self.asker.members().ok_or(CollectError::NoControl)?;
        let tables = self.shared.tables();
        let since = |at: Nanos| seconds(at.since(now));
        let querier = |row: QuerierRow| BierQuerierRow {
            interface: interface(&tables, row.interface),
            protocol: if row.v4 { "igmp" } else { "mld" }.to_owned(),
            querier: row.querier.to_string(),
            ours: row.ours,
            due_seconds: since(row.due),
            groups: row.groups,
        };
        let source = |(source, until): (Addr, Option<Nanos>)| BierSourceRow {
            source: source.to_string(),
            expires_seconds: until.map(since),
        };
        let sources = |named: Vec<_>| named.into_iter().map(source).collect::<Vec<_>>();
        let mode = |exclude: Option<Nanos>| if exclude.is_some() { "exclude" } else { "include" };
        let member = |row: MemberRow| BierMemberRow {
            interface: interface(&tables, row.interface),
            group: row.group.to_string(),
            mode: mode(row.exclude_until).to_owned(),
            expires_seconds: row.exclude_until.map(since),
            sources: sources(row.sources),
            version: version(row.version, row.group.is_v4()).to_owned(),
        };
        let learnt_row = |row: LearntRow| BierLearntRow {
            subdomain: row.sub_domain.0,
            bfr_id: row.id.get(),
            group: row.group.to_string(),
            mode: mode(row.exclude_until).to_owned(),
            expires_seconds: row.exclude_until.map(since),
            sources: sources(row.sources),
        };
        Ok(BierReport {
            queriers: queriers.into_iter().map(querier).collect(),
            members: members.into_iter().map(member).collect(),
            learnt: learnt.into_iter().map(learnt_row).collect(),
            ..self.bier_tables()
        })
    }

    /// What the tables say, and what workers counted: all but what only the control loop knows.
    pub(in crate::telemetry) fn bier_tables(&self) -> BierReport {
        let tables = self.shared.tables();
        let Some(bier) = &tables.bier else {
            return BierReport { counters: self.bier_counters(&tables, None), ..BierReport::default() };
        };
        let bifts: Vec<&Arc<Bift>> = bier.plane.iter().filter_map(AnyBift::of_routers).collect();
        // All tables of a sub-domain have the same neighbours.
        let mut firsts = bifts.clone();
        firsts.dedup_by_key(|bift| bift.key().sub_domain);
        let mut listeners: Vec<ListenerRow> = bier
            .listeners
            .iter()
            .map(|(group, listeners)| ListenerRow {
                group: group.to_string(),
                interfaces: listeners
                    .iter()
                    .filter(|one| one.next_hop.is_none())
                    .map(|one| interface(&tables, one.interface))
                    .collect(),
                next_hops: listeners
                    .iter()
                    .filter_map(|one| one.next_hop)
                    .map(|hop| hop.to_string())
                    .collect(),
            })
            .collect();
        listeners.sort_by(|one, other| one.group.cmp(&other.group));
        BierReport {
            bift: bifts.iter().flat_map(|bift| self.tables_of(&tables, bier, bift)).collect(),
            adjacencies: bier
                .plane
                .iter()
                .filter_map(AnyBift::of_adjacencies)
                .flat_map(|bift| adjacencies(&tables, bier, bift))
                .collect(),
            neighbours: firsts
                .iter()
                .flat_map(|bift| self.neighbours_of(&tables, bier, bift, &bifts))
                .collect(),
            overlay: bier
                .overlay
                .iter()
                .filter_map(|(flow, impose)| {
                    let packets: Vec<_> = impose.packets().collect();
                    let ids = packets.iter().flat_map(|(key, words)| ids(*key, words));
                    Some(OverlayRow {
                        source: flow.source.to_string(),
                        group: flow.group.to_string(),
                        subdomain: packets.first()?.0.sub_domain.0,
                        receivers: BfrIds::from_iter(ids).to_string(),
                        packets: packets.len(),
                    })
                })
                .collect(),
            listeners,
            queriers: Vec::new(),
            members: Vec::new(),
            learnt: Vec::new(),
            counters: self.bier_counters(&tables, Some(bier)),
        }
    }

    fn bier_counters(&self, tables: &Tables, bier: Option<&Arc<Bier>>) -> BierCountersReport {
        let workers = || self.shared.workers.iter().map(|worker| &worker.counters.bier);
        let links = bier.map_or(&[][..], |bier| &bier.links);
        let leaves = |link: &Link| link.interface(&tables.routes);
        let in_use = |link: &Link| leaves(link).is_some_and(|id| tables.interfaces.get(id).is_some());
        let copies = links.iter().enumerate().map(|(at, link)| {
            let copies = self.copies_over(at);
            let row = LinkCopiesRow {
                interface: leaves(link).map(|id| interface(tables, id)).unwrap_or_default(),
                address: address(link),
                encapsulation: encapsulation(link).to_owned(),
                copies,
            };
            (in_use(link) || copies > 0).then_some(row)
        });
        let lost = Loss::NAMES
            .iter()
            .enumerate()
            .map(|(at, name)| ((*name).to_owned(), workers().map(|bier| bier.lost[at].get()).sum()));
        let drops = |worker: &WorkerShared, at: usize| worker.counters.node(NodeId::Bier).drops[at].get();
        let dropped = drop_names(NodeId::Bier).iter().enumerate().map(|(at, name)| {
            ((*name).to_owned(), self.shared.workers.iter().map(|worker| drops(worker, at)).sum())
        });
        BierCountersReport {
            copies: copies.flatten().collect(),
            lost: lost.collect(),
            dropped: dropped.collect(),
            punted: workers().map(|bier| bier.punted.get()).sum(),
            receivers: bier.map(|bier| self.receivers(bier)).unwrap_or_default(),
            expired: self
                .asker
                .expired()
                .and_then(|(now, expired)| Some(expired_row(tables, now, &expired?))),
        }
    }

    fn copies_over(&self, link: usize) -> u64 {
        let workers = self.shared.workers.iter().map(|worker| &worker.counters.bier);
        workers.filter_map(|bier| bier.copies.get(link)).map(|one| one.get()).sum()
    }

    /// Packets by receiver, of those that had some.
    fn receivers(&self, bier: &Bier) -> Vec<ReceiverRow> {
        let counted = |at: usize| {
            let workers = self.shared.workers.iter().map(|worker| &worker.counters.bier.receivers);
            workers.filter_map(|counters| counters.get(at)).map(|one| one.get()).sum::<u64>()
        };
        let of_table = |bift: &Arc<Bift>| {
            let key = bift.key();
            let from = bier.receivers_from(bift.tag())?;
            let bits = (0..usize::from(key.bsl.bits())).map(move |bit| (bit, counted(from + bit)));
            let row = move |(bit, packets)| {
                let id = u32::from(key.si.0) * u32::from(key.bsl.bits()) + bit as u32 + 1;
                (packets > 0).then_some(ReceiverRow {
                    subdomain: key.sub_domain.0,
                    bfr_id: id as u16,
                    packets,
                })
            };
            Some(bits.filter_map(row).collect::<Vec<_>>())
        };
        bier.plane.iter().filter_map(AnyBift::of_routers).filter_map(of_table).flatten().collect()
    }
}

fn expired_row(tables: &Tables, now: Nanos, expired: &Expired) -> ExpiredRow {
    ExpiredRow {
        seconds: seconds(now.since(expired.at)),
        interface: interface(tables, expired.interface),
        subdomain: expired.key.sub_domain.0,
        bfir_id: expired.bfir_id.map(BfrId::get),
        entropy: expired.entropy,
        bfr_ids: BfrIds::from_iter(expired.ids.iter().copied()).to_string(),
    }
}

impl Sources {
    fn tables_of(&self, tables: &Tables, bier: &Bier, bift: &Bift) -> Vec<BiftRow> {
        let key = bift.key();
        let counters =
            || self.shared.workers.iter().map(|worker| worker.counters.bier.bifts.get(bift.tag() as usize));
        let packets: Option<u64> = counters().map(|counter| Some(counter?.get())).sum();
        let way = |(neighbour, mask): (NeighbourIndex, &[u64])| {
            let (index, neighbour) = (neighbour, bift.neighbour(neighbour));
            let are_hosts = matches!(neighbour.reach, Reach::Hosts(_));
            BiftWayRow {
                bfr_ids: BfrIds::from_iter(ids(key, mask)).to_string(),
                neighbour: name(tables, bier, neighbour),
                bift_id: bift.out(index).filter(|_| !are_hosts).map(|id| id.get()),
            }
        };
        let row = |(at, table): (usize, &millrace_bier::bift::Table)| BiftRow {
            subdomain: key.sub_domain.0,
            si: key.si.0,
            bitstring_bits: key.bsl.bits(),
            bift_id: bier.plane.ours().id(key).map(|id| id.get()),
            local: bift.local().and_then(|bit| BfrId::at(key.si, bit, key.bsl)).map(BfrId::get),
            packets,
            table: at,
            ways: table.rows().iter().map(way).collect(),
        };
        bift.tables().iter().enumerate().map(row).collect()
    }

    /// The neighbours of a sub-domain, of whose tables this is one of all.
    fn neighbours_of(
        &self,
        tables: &Tables,
        bier: &Bier,
        bift: &Bift,
        all: &[&Arc<Bift>],
    ) -> Vec<BfrNeighbourRow> {
        let id: SubDomain = bift.key().sub_domain;
        let down = |at: usize| bier.down(id).is_some_and(|flags| flags.is_down(NeighbourIndex(at as u16)));
        let unprotected = |at: usize| {
            let of_all = all.iter().filter(|one| one.key().sub_domain == id).flat_map(|one| {
                let bits = one.unprotected(NeighbourIndex(at as u16));
                ids(one.key(), bits.words()).collect::<Vec<_>>()
            });
            BfrIds::from_iter(of_all).to_string()
        };
        let row = |(at, neighbour): (usize, &Neighbour)| {
            let links = neighbour.reach.links();
            let reach = match &neighbour.reach {
                Reach::Links(_) if links.iter().all(|id| is_tunnel(bier, *id)) && !links.is_empty() => {
                    "tunnel"
                }
                Reach::Links(_) => "link",
                Reach::Tunnel => "tunnel",
                Reach::Hosts(_) => "hosts",
            };
            BfrNeighbourRow {
                subdomain: id.0,
                neighbour: name(tables, bier, neighbour),
                copies: links.iter().map(|link| self.copies_over(link.0 as usize)).sum(),
                down: down(at),
                reach: reach.to_owned(),
                unprotected: unprotected(at),
                links: links.iter().filter_map(|id| link(tables, bier, *id)).collect(),
            }
        };
        bift.neighbours().iter().enumerate().map(row).collect()
    }
}

fn adjacencies(tables: &Tables, bier: &Bier, bift: &TeBift) -> Vec<AdjacencyRow> {
    let key = bift.key();
    let row = |bit: BitPosition, ecmp_seed, adjacency: &Adjacency| {
        let (kind, hop, do_not_clear) = match *adjacency {
            Adjacency::ForwardConnected { neighbour, do_not_clear, .. } => {
                ("connected", Some(neighbour), do_not_clear)
            }
            Adjacency::ForwardRouted { neighbour, .. } => ("routed", Some(neighbour), false),
            Adjacency::LocalDecap { .. } => ("decap", None, false),
        };
        let hop = hop.and_then(|hop| bier.hops.get(hop as usize));
        AdjacencyRow {
            subdomain: key.sub_domain.0,
            si: key.si.0,
            bitstring_bits: key.bsl.bits(),
            bift_id: bier.plane.ours().id(key).map(|id| id.get()),
            bit: bit.number(),
            kind: kind.to_owned(),
            do_not_clear,
            ecmp_seed,
            address: hop.map(|hop| hop.to.to_string()),
            link: hop.and_then(|hop| link(tables, bier, hop.link)),
            out: hop.map(|hop| hop.id.get()),
        }
    };
    let rows = bift.iter().flat_map(|(bit, adjacencies)| {
        let (list, seed) = match adjacencies {
            Adjacencies::All(list) => (list, None),
            Adjacencies::Ecmp { list, seed } => (list, Some(*seed)),
        };
        list.iter().map(move |one| row(bit, seed, one))
    });
    rows.collect()
}

fn link(tables: &Tables, bier: &Bier, id: LinkId) -> Option<BierLinkRow> {
    let link = bier.link(id)?;
    let next = link.next(&tables.routes);
    Some(BierLinkRow {
        interface: link.interface(&tables.routes).map(|id| interface(tables, id)).unwrap_or_default(),
        address: address(link),
        encapsulation: encapsulation(link).to_owned(),
        mac: next.and_then(|(id, next)| tables.neighbours.get(id, next)).map(mac_text),
    })
}

fn address(link: &Link) -> String {
    link.to().map_or_else(|| "-".to_owned(), |to| to.to_string())
}

/// What a neighbour goes by: hosts by their network.
fn name(tables: &Tables, bier: &Bier, neighbour: &Neighbour) -> String {
    let hosts = match neighbour.reach {
        Reach::Hosts(id) => bier.link(id).and_then(|link| link.interface(&tables.routes)),
        _ => None,
    };
    hosts.map_or_else(|| neighbour.prefix.to_string(), |id| interface(tables, id))
}

fn is_tunnel(bier: &Bier, id: LinkId) -> bool {
    matches!(bier.link(id), Some(Link::Tunnel { .. }))
}

fn ids(key: BiftKey, words: &[u64]) -> impl Iterator<Item = BfrId> {
    ones(words).filter_map(move |bit| BfrId::at(key.si, bit, key.bsl))
}

fn interface(tables: &Tables, id: InterfaceId) -> String {
    tables.interfaces.get(id).map(|one| one.name.clone()).unwrap_or_default()
}

fn version(version: Version, v4: bool) -> &'static str {
    match (version, v4) {
        (Version::First, _) => "igmpv1",
        (Version::Second, true) => "igmpv2",
        (Version::Third, true) => "igmpv3",
        (Version::Second, false) => "mldv1",
        (Version::Third, false) => "mldv2",
    }
}

fn encapsulation(link: &Link) -> &'static str {
    match link {
        Link::Beside { carriage: Carriage::NonMpls, .. } => "ethernet",
        Link::Beside { carriage: Carriage::Mpls, .. } => "mpls",
        Link::Tunnel { tunnel: Tunnel::Udp, .. } => "udp",
        Link::Tunnel { tunnel: Tunnel::Ipv6, .. } => "ipv6",
        Link::Hosts { .. } => "none",
    }
}
