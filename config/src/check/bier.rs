//! BIER: sub-domains with their rows.

mod edge;
mod rows;
mod te;

use std::ops::Range;

use millrace_bier::bift::given::RowError;
use millrace_bier::bift::{Bift, LinkId};
use millrace_bier::bift_id::{BiftIdMap, BiftIds, Clash};
use millrace_bier::id::{BfrId, BiftKey, SubDomain};
use millrace_bier::te::TeBift;

pub(super) use edge::interfaces;
use rows::Ways;

use super::network::own;
use super::{Checker, all, items};
use crate::leaf::BiftIdList;
use crate::limits::{BIER_UDP_PORT, MPLS_LABEL_MIN};
use crate::model::{
    self, Adjacency, AdjacencyTo, Bier, BierKind, BierPath, Encapsulation, Subdomain, Topology, TunnelKind,
};
use crate::raw;
use crate::read::At;
use crate::report::{Code, Diagnostic};

impl Checker {
    /// BIER, if the appliance does any; `None` where something of it is wrong.
    pub(super) fn bier(&mut self, file: &raw::File) -> Option<Option<Bier>> {
        let Some(at) = &file.bier else { return self.sound("bier").then_some(None) };
        let raw = &at.value;
        let prefix = raw.bfr_prefix.as_ref();
        let list = items(&raw.subdomains);
        let ids = list.iter().filter_map(|one| one.value.id.as_ref());
        self.unique("the sub-domain", ids.map(|id| (id.value.get(), id.span.clone())));
        let seed = prefix.map_or(0, |prefix| model::bier_seed(prefix.value.0));
        let subdomains = all(list.iter().map(|one| self.subdomain(file, one, seed)));
        if let Some(subdomains) = &subdomains {
            self.our_bift_ids(list, subdomains, seed);
            self.replies(list, subdomains);
        }
        self.port_of_tunnels(file, raw, subdomains.as_deref().unwrap_or_default());
        let overlays = self.overlays(raw, subdomains.as_deref());
        let listeners = self.listeners(file, raw);
        let queriers = self.queriers(file, raw);
        let accept_from = items(&raw.accept_from);
        self.unique("the router", accept_from.iter().map(|at| (at.value.0, at.span.clone())));
        let own = own(file);
        let accept_from = all(accept_from.iter().map(|at| {
            self.not_ours(at.value.0, &own, "the router", &at.span)?;
            Some(at.value.0)
        }));
        let bier = Bier {
            bfr_prefix: prefix?.value.0,
            count_receivers: raw.count_receivers.as_ref()?.value,
            accept_from: accept_from?,
            ipv6_next_header: raw.ipv6_next_header.as_ref()?.value.get() as u8,
            subdomains: subdomains?,
            overlays: overlays?,
            listeners: listeners?,
            queriers: queriers?,
        };
        self.sound("bier").then_some(Some(bier))
    }

    fn subdomain(&mut self, file: &raw::File, at: &At<raw::Subdomain>, seed: u32) -> Option<Subdomain> {
        let raw = &at.value;
        let encapsulation = raw.encapsulation.as_ref().map(|one| one.value);
        let of_rows = items(&raw.table).iter().filter_map(|row| row.value.bift_id.as_ref());
        let of_adjacencies = items(&raw.adjacencies).iter().filter_map(|one| one.value.bift_id.as_ref());
        for ids in raw.bift_id.iter().chain(of_rows).chain(of_adjacencies) {
            self.bift_ids_alone(&ids.value);
        }
        self.our_labels(raw);
        self.of_one_kind(raw);
        let ethernet_ports = self.ethernet_ports(file, raw);
        let labels = self.labels(raw);
        let ways = self.ways(file, raw);
        let adjacencies = self.adjacencies(file, raw);
        let topology = self.topology(at);
        if raw.bfr_id.is_none()
            && raw.table.is_none()
            && raw.topology.is_none()
            && raw.adjacencies.is_none()
            && at.sound
        {
            self.note(
                Diagnostic::new(Code::Conflict, at.span.clone(), "nothing passes or ends in this sub-domain")
                    .label("none of `bfr_id`, `table` and `topology`")
                    .help("give this router a number, rows of ways, or both"),
            );
        }
        let Ways { neighbours, rows } = ways?;
        let subdomain = Subdomain {
            id: SubDomain(raw.id.as_ref()?.value.get() as u8),
            kind: raw.kind.as_ref()?.value,
            bsl: raw.bitstring_bits.as_ref()?.value.0,
            bfr_id: raw.bfr_id.as_ref().and_then(|id| BfrId::new(id.value.get() as u16)),
            ecmp_tables: raw.ecmp_tables.as_ref()?.value.get() as u8,
            encapsulation: encapsulation?,
            tunnel: raw.tunnel.as_ref()?.value,
            bift_ids: raw.bift_id.as_ref()?.value.form(),
            ttl: raw.ttl.as_ref()?.value.get() as u8,
            mtu_bytes: raw.mtu_bytes.as_ref().map(|mtu| mtu.value.get() as u16),
            report_to: raw.report_to.as_ref().map(|at| at.value.clone()),
            report_interval_seconds: raw.report_interval_seconds.as_ref()?.value.get(),
            replies_by: raw.replies_by.as_ref().map(|at| SubDomain(at.value.get() as u8)),
            ethernet_ports: ethernet_ports?,
            labels: labels?,
            neighbours,
            rows,
            topology: topology?,
            protection: raw.protection.as_ref()?.value,
            remote_backups: raw.remote_backups.as_ref()?.value,
            adjacencies: adjacencies?,
        };
        if let (Some(own), Some(at)) = (subdomain.bfr_id, &raw.bfr_id)
            && own.position(subdomain.bsl).is_none()
        {
            self.beyond_sets(own, at.span.clone(), raw);
            return None;
        }
        if let Err(errors) = subdomain.bifts(seed, &links(&subdomain)) {
            for error in errors {
                self.row_error(raw, &subdomain, error);
            }
            return None;
        }
        self.reports(raw, &subdomain);
        self.adjacencies_have_ids(raw, &subdomain).then_some(subdomain)
    }

    /// That all who get copies have a BIFT-id for them.
    fn adjacencies_have_ids(&mut self, raw: &raw::Subdomain, subdomain: &Subdomain) -> bool {
        let mut sound = true;
        for (at, one) in items(&raw.adjacencies).iter().zip(&subdomain.adjacencies) {
            if one.to == AdjacencyTo::Decap || subdomain.adjacency_id(one).is_some() {
                continue;
            }
            let message = format!("there is no BIFT-id of the router for set {}", one.si.0);
            let place = at.value.bift_id.as_ref().map_or(&at.span, |ids| &ids.span).clone();
            self.note(
                Diagnostic::new(Code::Conflict, place, message)
                    .label("copies couldn't be sent")
                    .help(format!("add `\"si {}\"` to the adjacency's `bift_id`", one.si.0)),
            );
            sound = false;
        }
        sound
    }

    /// The topology, if ways are computed from one; `None` where that is wrong.
    fn topology(&mut self, at: &At<raw::Subdomain>) -> Option<Option<Topology>> {
        let raw = &at.value;
        if let (Some(topology), Some(table)) = (&raw.topology, &raw.table) {
            self.note(
                Diagnostic::new(Code::Conflict, topology.span.clone(), "ways are given twice")
                    .label("computed from a topology")
                    .related(table.span.clone(), "and row by row")
                    .help("take one of them out"),
            );
            return None;
        }
        match (&raw.topology, &raw.router) {
            (Some(file), Some(router)) => {
                Some(Some(Topology { file: file.value.0.clone(), router: router.value.clone() }))
            }
            (Some(file), None) => {
                if at.sound {
                    let message = "`bier.subdomain.router` is missing";
                    self.note(
                        Diagnostic::new(Code::MissingKey, file.span.clone(), message)
                            .label("which of its routers is this one?")
                            .help("`router`: Which router of the topology this one is."),
                    );
                }
                None
            }
            (None, Some(router)) => {
                if at.sound {
                    let message = "`router` means something with a `topology` only";
                    self.note(
                        Diagnostic::new(Code::Conflict, router.span.clone(), message)
                            .label("a router of what?"),
                    );
                }
                None
            }
            (None, None) => Some(None),
        }
    }

    /// What is wrong with BIFT-ids whatever they are for.
    fn bift_ids_alone(&mut self, ids: &BiftIdList) {
        let BiftIdList::Map(ids) = ids else { return };
        self.unique("the BIFT-id of set", ids.iter().map(|(si, _, span)| (si.0, span.clone())));
        self.unique("the BIFT-id", ids.iter().map(|(_, id, span)| (id.get(), span.clone())));
    }

    /// What we call our tables, where some neighbour sends to us behind labels: what it is sent is what it sends.
    fn our_labels(&mut self, raw: &raw::Subdomain) {
        let of_rows = items(&raw.table).iter().filter_map(|row| row.value.encapsulation.as_ref());
        let of_rows = of_rows.filter_map(|at| at.value.of_headers());
        let of_adjacencies =
            items(&raw.adjacencies).iter().filter_map(|one| one.value.encapsulation.as_ref());
        let others = raw.encapsulation.iter().chain(of_adjacencies).map(|at| at.value);
        let is_any = others.chain(of_rows).any(|one| one == Encapsulation::Mpls);
        if let Some(ids) = raw.bift_id.as_ref().filter(|_| is_any) {
            self.are_labels(&ids.value);
        }
    }

    /// That BIFT-ids can be MPLS labels.
    fn are_labels(&mut self, ids: &BiftIdList) {
        let BiftIdList::Map(ids) = ids else { return };
        for (_, id, span) in ids.iter().filter(|(_, id, _)| id.get() < MPLS_LABEL_MIN) {
            let message = format!("the MPLS label {id} has a meaning of its own");
            self.note(
                Diagnostic::new(Code::OutOfRange, span.clone(), message)
                    .label("set aside (RFC 7274)")
                    .help(format!("labels begin at {MPLS_LABEL_MIN}")),
            );
        }
    }

    /// That what comes inside UDP isn't taken for translated flows.
    fn port_of_tunnels(&mut self, file: &raw::File, raw: &raw::Bier, subdomains: &[Subdomain]) {
        let Some(range) = file.nat.as_ref().and_then(|nat| nat.value.port_range.as_ref()) else { return };
        if !(range.value.first..=range.value.last).contains(&BIER_UDP_PORT) {
            return;
        }
        let list = items(&raw.subdomains);
        let uses = list.iter().zip(subdomains).find(|(_, one)| is_in_udp(one));
        let Some(at) = uses.map(|(at, _)| at.span.clone()) else { return };
        let message = format!("translated flows would have UDP port {BIER_UDP_PORT}");
        self.note(
            Diagnostic::new(Code::Conflict, range.span.clone(), message)
                .label("has the port of BIER inside UDP")
                .related(at, "has tunnels of UDP")
                .help(format!("begin it above {BIER_UDP_PORT}, or end it below")),
        );
    }

    /// What the rows' makers have against them, at the key that is to blame.
    fn row_error(&mut self, raw: &raw::Subdomain, subdomain: &Subdomain, error: RowError) {
        let table = items(&raw.table);
        let row = |row: usize| table.get(row).map(|at| &at.value);
        let ids = |at: usize| row(at).and_then(|row| row.bfr_ids.as_ref()).map(|ids| ids.span.clone());
        match error {
            // Names have been resolved, so there is no other neighbour.
            RowError::UnknownNeighbour { .. } => {}
            RowError::OwnBackup { row: at } => {
                if let Some(backup) = row(at).and_then(|row| row.backup.as_ref()) {
                    let message = "a neighbour can't be its own backup";
                    self.note(
                        Diagnostic::new(Code::Conflict, backup.span.clone(), message)
                            .label("the neighbour itself")
                            .help("name another neighbour, or take it out"),
                    );
                }
            }
            RowError::OwnId { row: at, id } => {
                let (Some(span), Some(own)) = (ids(at), &raw.bfr_id) else { return };
                self.note(
                    Diagnostic::new(Code::Conflict, span, format!("{id} is this router itself"))
                        .label("leads to ourselves")
                        .related(own.span.clone(), "our own number")
                        .help(format!("take {id} out of the row")),
                );
            }
            RowError::BeyondSets { row: at, id } => {
                if let Some(span) = ids(at) {
                    self.beyond_sets(id, span, raw);
                }
            }
            RowError::Repeated { row: at, first, id } => {
                let (Some(span), Some(first)) = (ids(at), ids(first)) else { return };
                self.duplicate(format!("router {id} already goes to this neighbour"), span, first);
            }
            RowError::MoreWaysThanTables { row: at, id } => {
                let (Some(span), Some(tables)) = (ids(at), &raw.ecmp_tables) else { return };
                let message = format!("router {id} has more equal ways than there are tables");
                let mut conflict = Diagnostic::new(Code::Conflict, span, message)
                    .label("this way would never be used")
                    .help(format!("raise `ecmp_tables` above {}", subdomain.ecmp_tables));
                if tables.given {
                    conflict = conflict.related(tables.span.clone(), "so many tables");
                }
                self.note(conflict);
            }
            RowError::HostsAndOthers { row: at, first, id } => {
                let (Some(span), Some(first)) = (ids(at), ids(first)) else { return };
                self.note(
                    Diagnostic::new(Code::Conflict, span, format!("{id} is a number of hosts and of others"))
                        .label("a number of hosts is theirs alone")
                        .related(first, "also here")
                        .help(format!("take {id} out of one of the rows")),
                );
            }
            RowError::HostsAsBackup { row: at } => {
                if let Some(backup) = row(at).and_then(|row| row.backup.as_ref()) {
                    let message = format!("the hosts `{}` can't be a backup", backup.value);
                    self.note(
                        Diagnostic::new(Code::Conflict, backup.span.clone(), message)
                            .label("they pass nothing on")
                            .help("name a router, or take it out"),
                    );
                }
            }
            RowError::NoBiftId { row: at, neighbour, si } => {
                let Some(span) = ids(at) else { return };
                let name = subdomain.neighbours.get(usize::from(neighbour.0)).map(|one| one.name.as_str());
                let name = name.unwrap_or_default();
                let message = format!("there is no BIFT-id of neighbour `{name}` for set {}", si.0);
                self.note(
                    Diagnostic::new(Code::Conflict, span, message)
                        .label("packets for these couldn't be sent")
                        .help(format!("add `\"si {}\"` to the neighbour's `bift_id`", si.0)),
                );
            }
        }
    }

    fn beyond_sets(&mut self, id: BfrId, span: Range<usize>, raw: &raw::Subdomain) {
        let mut wrong =
            Diagnostic::new(Code::OutOfRange, span, format!("router {id} is beyond the sets that there are"))
                .label("needs a set above 255")
                .help("use longer bit strings, or lower numbers");
        if let Some(bits) = raw.bitstring_bits.as_ref().filter(|bits| bits.given) {
            wrong = wrong.related(bits.span.clone(), "with bit strings of this length");
        }
        self.note(wrong);
    }

    /// That every table of ours has one BIFT-id, and every BIFT-id one table.
    fn our_bift_ids(&mut self, raws: &[At<raw::Subdomain>], subdomains: &[Subdomain], seed: u32) {
        let mut keys: Vec<BiftKey> = Vec::new();
        for one in subdomains {
            match one.kind {
                BierKind::Bier => keys.extend(one.bifts(seed, &links(one)).iter().flatten().map(Bift::key)),
                BierKind::BierTe => keys.extend(one.te_bifts(|_| 0).iter().flatten().map(TeBift::key)),
            }
        }
        let raw_of = |id: SubDomain| {
            let number = |at: &&At<raw::Subdomain>| {
                at.value.id.as_ref().is_some_and(|own| own.value.get() == u32::from(id.0))
            };
            raws.iter().find(number).and_then(|at| at.value.bift_id.as_ref())
        };
        match model::bier_ours(subdomains, &keys) {
            Ok(BiftIds::Static) => {}
            Ok(BiftIds::Map(map)) => self.tables_have_ids(&map, &keys, raw_of),
            Err((id, clash)) => {
                // What one map says twice has been noted with it.
                let Clash::Id { id: value, taken_by } = clash else { return };
                if taken_by.sub_domain == id {
                    return;
                }
                let Some(BiftIdList::Map(list)) = raw_of(id).map(|at| &at.value) else { return };
                let Some((.., span)) = list.iter().find(|(_, id, _)| *id == value) else { return };
                let message = format!("the BIFT-id {value} is that of two tables");
                let other = taken_by.sub_domain.0;
                self.note(
                    Diagnostic::new(Code::Duplicate, span.clone(), message)
                        .label(format!("sub-domain {other} has it, too"))
                        .help("packets carry nothing else that tells tables apart"),
                );
            }
        }
    }

    fn tables_have_ids<'a>(
        &mut self,
        map: &BiftIdMap,
        keys: &[BiftKey],
        raw_of: impl Fn(SubDomain) -> Option<&'a At<BiftIdList>>,
    ) {
        for key in keys.iter().filter(|key| map.id(**key).is_none()) {
            // One that couldn't be read may be the one that is missing.
            let Some(at) = raw_of(key.sub_domain).filter(|at| at.sound) else { continue };
            let message = format!("there is no BIFT-id of ours for set {}", key.si.0);
            self.note(
                Diagnostic::new(Code::Conflict, at.span.clone(), message).label("one is missing").help(
                    format!("add `\"si {}\"`: some of the sub-domain's routers are of that set", key.si.0),
                ),
            );
        }
    }
}

/// Whether some router of the sub-domain is sent to inside UDP, as far as this file tells.
fn is_in_udp(subdomain: &Subdomain) -> bool {
    let udp = BierPath::Tunnel(TunnelKind::Udp);
    let to_all = subdomain.topology.is_some() && subdomain.encapsulation == Encapsulation::Udp;
    let of_rows = subdomain.neighbours.iter().map(|one| one.path);
    let of_adjacencies = subdomain.adjacencies.iter().filter_map(Adjacency::link).map(|(path, _)| path);
    to_all || of_rows.chain(of_adjacencies).any(|path| path == udp)
}

/// Numbers of links, where only their number matters.
fn links(subdomain: &Subdomain) -> Vec<LinkId> {
    (0..subdomain.neighbours.len() as u32).map(LinkId).collect()
}
