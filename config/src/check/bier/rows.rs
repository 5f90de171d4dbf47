//! The rows of a sub-domain's table: who its neighbours are, how they are reached, and who stands in for them.

use std::collections::BTreeMap;
use std::ops::Range;

use millrace_bier::bift::NeighbourIndex;
use millrace_bier::bift::given::Row;

use super::interfaces;
use crate::check::network::own;
use crate::check::{Checker, all, items};
use crate::leaf::{BiftIdList, HostAddr};
use crate::model::{self, BierNeighbour, BierPath, BiftIdForm, Encapsulation, RowEncapsulation, TunnelKind};
use crate::raw;
use crate::read::At;
use crate::report::{Code, Diagnostic};

/// What the rows of a table come to.
pub(super) struct Ways {
    pub(super) neighbours: Vec<BierNeighbour>,
    pub(super) rows: Vec<Row>,
}

impl Checker {
    /// The neighbours that rows name, and what is sent to each.
    pub(super) fn ways(&mut self, file: &raw::File, raw: &raw::Subdomain) -> Option<Ways> {
        let own = own(file);
        let near: Vec<_> = own.iter().collect();
        let known = self.addresses_known(file);
        let table = items(&raw.table);
        // A neighbour is known by its name; what a row says of it is what its first row says.
        let mut firsts: BTreeMap<&str, (&raw::BierRow, Option<&At<BiftIdList>>)> = BTreeMap::new();
        let mut order: Vec<&raw::BierRow> = Vec::new();
        let mut places: BTreeMap<&str, u16> = BTreeMap::new();
        let mut over: BTreeMap<&str, &At<RowEncapsulation>> = BTreeMap::new();
        let mut ports: BTreeMap<&str, &At<model::Name>> = BTreeMap::new();
        for row in table.iter().map(|row| &row.value) {
            let Some(name) = &row.neighbour else { continue };
            if let Some(port) = &row.port {
                match ports.get(name.value.as_str()) {
                    Some(first) => {
                        let message = format!("the network of `{}` is said twice", name.value);
                        self.duplicate(message, port.span.clone(), first.span.clone());
                    }
                    None => _ = ports.insert(name.value.as_str(), port),
                }
            }
            let Some((first, ids)) = firsts.get_mut(name.value.as_str()) else {
                firsts.insert(name.value.as_str(), (row, row.bift_id.as_ref()));
                places.insert(name.value.as_str(), order.len() as u16);
                over.extend(row.encapsulation.as_ref().map(|said| (name.value.as_str(), said)));
                order.push(row);
                continue;
            };
            if let (Some(one), Some(other)) = (&first.address, &row.address)
                && one.value.0 != other.value.0
            {
                let message = format!("the neighbour `{}` has two addresses", name.value);
                self.note(
                    Diagnostic::new(Code::Conflict, other.span.clone(), message)
                        .label("another address")
                        .related(one.span.clone(), "its first")
                        .help("give a router that is reached by two links a name for each"),
                );
            }
            match (&ids, &row.bift_id) {
                (Some(first), Some(again)) => {
                    let message = format!("the BIFT-ids of `{}` are given twice", name.value);
                    self.duplicate(message, again.span.clone(), first.span.clone());
                }
                (None, Some(only)) => *ids = Some(only),
                _ => {}
            }
            if let Some(said) = &row.encapsulation {
                match over.get(name.value.as_str()) {
                    Some(first) => {
                        let message = format!("what carries headers to `{}` is said twice", name.value);
                        self.duplicate(message, said.span.clone(), first.span.clone());
                    }
                    None => _ = over.insert(name.value.as_str(), said),
                }
            }
        }
        for name in order.iter().filter_map(|row| row.neighbour.as_ref()) {
            let name = name.value.as_str();
            let of_all = || raw.encapsulation.as_ref().map(|at| at.value);
            let said = over.get(name).map_or_else(of_all, |at| at.value.of_headers());
            if let (Some(Encapsulation::Mpls), Some((_, Some(ids)))) = (said, firsts.get(name)) {
                self.are_labels(&ids.value);
            }
        }
        let addresses = order.iter().filter_map(|row| row.address.as_ref());
        self.unique("the neighbour at", addresses.map(|at| (at.value.0, at.span.clone())));
        let without = |name: &str| over.get(name).filter(|at| at.value == RowEncapsulation::None).copied();
        self.hosts_or_routers(table, without, &ports)?;
        let of_hosts = ports.iter().filter(|(name, _)| without(name).is_some());
        self.unique("the hosts on", of_hosts.map(|(_, at)| (at.value.clone(), at.span.clone())));
        let interfaces = interfaces(file);
        let neighbours = all(order.iter().map(|row| {
            let name = row.neighbour.as_ref()?;
            if without(name.value.as_str()).is_some() {
                let path = BierPath::Hosts(self.network(&interfaces, ports.get(name.value.as_str())?)?);
                let (name, bift_ids) = (name.value.clone(), BiftIdForm::Static);
                return Some(BierNeighbour { name, address: None, path, bift_ids });
            }
            let address = row.address.as_ref()?;
            self.not_ours(address.value.0, &own, "the neighbour", &address.span)?;
            let (over, said) = match over.get(name.value.as_str()) {
                Some(at) => (at.value.of_headers()?, &at.span),
                None => raw.encapsulation.as_ref().map(|at| (at.value, &at.span))?,
            };
            let path = match over.tunnel() {
                Some(kind) => self.tunnel(kind, address, said)?,
                None => {
                    let found = self.on_link(address.value.0, &near, known, "the neighbour", &address.span);
                    over.path(found?)
                }
            };
            let ids = firsts.get(name.value.as_str()).and_then(|(_, ids)| *ids).or(raw.bift_id.as_ref())?;
            let (name, bift_ids) = (name.value.clone(), ids.value.form());
            Some(BierNeighbour { name, address: Some(address.value.0), path, bift_ids })
        }));
        let rows = all(table.iter().map(|row| {
            let backup = match &row.value.backup {
                Some(at) => Some(self.backup(at, &places, table)?),
                None => None,
            };
            let neighbour = *places.get(row.value.neighbour.as_ref()?.value.as_str())?;
            let bfr_ids = row.value.bfr_ids.as_ref()?.value.iter().collect();
            Some(Row { neighbour: NeighbourIndex(neighbour), bfr_ids, backup })
        }));
        let ways = Ways { neighbours: neighbours?, rows: rows? };
        self.backups_are_elsewhere(table, &ways).then_some(ways)
    }

    /// That rows of hosts say where those are, and nothing that only routers have; and the others the other way round. `without`
    /// knows where the rows of hosts say what they are.
    fn hosts_or_routers<'a>(
        &mut self,
        table: &[At<raw::BierRow>],
        without: impl Fn(&str) -> Option<&'a At<RowEncapsulation>>,
        ports: &BTreeMap<&str, &At<model::Name>>,
    ) -> Option<()> {
        let mut sound = Some(());
        for at in table {
            let row = &at.value;
            let Some(name) = &row.neighbour else { continue };
            let hosts = without(name.value.as_str());
            let mut note = |diagnostic| {
                self.note(diagnostic);
                sound = None;
            };
            let missing = match hosts {
                Some(_) => {
                    ("port", "the hosts are on which network?", !ports.contains_key(name.value.as_str()))
                }
                None => ("address", "a copy to whom?", row.address.is_none()),
            };
            if let (key, label, true) = missing
                && at.sound
            {
                let message = format!("`bier.subdomain.table.{key}` is missing");
                let help = match hosts {
                    Some(_) => "`port`: The network of the hosts.",
                    None => "`address`: Its address. Hosts have none, with `encapsulation = \"none\"`.",
                };
                note(Diagnostic::new(Code::MissingKey, at.span.clone(), message).label(label).help(help));
            }
            let strange = match hosts {
                Some(_) => [
                    ("address", row.address.as_ref().map(|at| &at.span)),
                    ("bift_id", row.bift_id.as_ref().map(|at| &at.span)),
                ],
                None => [("port", row.port.as_ref().map(|at| &at.span)), ("", None)],
            };
            for (key, span) in strange {
                let Some(span) = span else { continue };
                let message = format!("`{key}` means nothing here");
                let wrong = Diagnostic::new(Code::Conflict, span.clone(), message);
                note(match hosts {
                    Some(said) => wrong
                        .label("hosts are sent to by the addresses of groups, without a header")
                        .related(said.span.clone(), "the row is one of hosts"),
                    None => wrong.label("of hosts").help(
                        "say `encapsulation = \"none\"`, or take it out: the address tells the network",
                    ),
                });
            }
        }
        sound
    }

    /// A tunnel to a router; `None` if it has no such address. `said` is what asks for that kind.
    pub(super) fn tunnel(
        &mut self,
        kind: TunnelKind,
        to: &At<HostAddr>,
        said: &Range<usize>,
    ) -> Option<BierPath> {
        if kind == TunnelKind::Ipv6 && to.value.0.is_ipv4() {
            let message = format!("{} isn't an IPv6 address", to.value.0);
            self.note(
                Diagnostic::new(Code::Conflict, to.span.clone(), message)
                    .label("the far end of a tunnel")
                    .related(said.clone(), "which is of IPv6")
                    .help("give the router's IPv6 address, or write \"udp\""),
            );
            return None;
        }
        Some(BierPath::Tunnel(kind))
    }

    /// That nobody stands in for a neighbour on the same port, which would go down with it.
    fn backups_are_elsewhere(&mut self, table: &[At<raw::BierRow>], ways: &Ways) -> bool {
        let mut sound = true;
        for (at, row) in table.iter().zip(&ways.rows) {
            let port = |one: NeighbourIndex| {
                ways.neighbours[usize::from(one.0)].path.interface().map(|interface| interface.port)
            };
            let (Some(backup), Some(place)) = (row.backup, &at.value.backup) else { continue };
            let address = |one: NeighbourIndex| ways.neighbours[usize::from(one.0)].address;
            // Which port a tunnel leaves by is for the routes to say; two of one address have been noted.
            if port(backup).is_none()
                || port(backup) != port(row.neighbour)
                || address(backup) == address(row.neighbour)
            {
                continue;
            }
            let message = format!("the backup `{}` is on the same port", place.value);
            let mut wrong = Diagnostic::new(Code::Conflict, place.span.clone(), message)
                .label("goes down with it")
                .help("name a neighbour on another port");
            if let Some(address) = &at.value.address {
                wrong = wrong.related(address.span.clone(), "the neighbour that it would stand in for");
            }
            self.note(wrong);
            sound = false;
        }
        sound
    }

    fn backup(
        &mut self,
        at: &At<model::Name>,
        places: &BTreeMap<&str, u16>,
        table: &[At<raw::BierRow>],
    ) -> Option<NeighbourIndex> {
        let place = places.get(at.value.as_str());
        if place.is_none() && table.iter().all(|row| row.value.neighbour.is_some()) {
            self.unknown("BIER neighbour", at.value.as_str(), &at.span, places.keys().copied());
        }
        place.copied().map(NeighbourIndex)
    }
}
