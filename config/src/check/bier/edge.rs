//! What enters a BIER domain here, and what leaves it: overlays, listeners, queriers, labels and bridged networks.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

use millrace_bier::header;
use millrace_bier::id::{BfrId, SubDomain};

use crate::check::network::own;
use crate::check::{Checker, all, items};
use crate::limits::MTU_BYTES_IPV6_MIN;
use crate::model::{
    self, BierKind, BierLabel, Interface, Learn, Listener, Overlay, PortIndex, Querier, Subdomain,
};
use crate::raw;
use crate::read::At;
use crate::report::{Code, Diagnostic};

impl Checker {
    pub(super) fn overlays(
        &mut self,
        raw: &raw::Bier,
        subdomains: Option<&[Subdomain]>,
    ) -> Option<Vec<Overlay>> {
        let list = items(&raw.overlays);
        let flows = list.iter().filter_map(|one| {
            let (source, group) = (one.value.source.as_ref()?, one.value.group.as_ref()?);
            Some((format!("{} to {}", source.value.0, group.value.0), group.span.clone()))
        });
        self.unique("the flow from", flows);
        self.ipv6_fits(raw, subdomains.unwrap_or_default());
        all(list.iter().map(|one| self.overlay(one, subdomains)))
    }

    /// That sub-domains by which flows of IPv6 enter carry packets as long as any link of IPv6: no sender makes shorter ones, whatever
    /// it is told (RFC 8200 section 5, RFC 8201 section 4).
    fn ipv6_fits(&mut self, raw: &raw::Bier, subdomains: &[Subdomain]) {
        for (at, one) in items(&raw.subdomains).iter().zip(subdomains) {
            let Some(mtu) = &at.value.mtu_bytes else { continue };
            let header = header::len(one.bsl) as u32;
            let least = u32::from(MTU_BYTES_IPV6_MIN) + header;
            let enters = |flow: &&At<raw::Overlay>| {
                let number = flow.value.subdomain.as_ref().map(|number| number.value.get());
                number == Some(one.id.0.into())
            };
            let groups =
                items(&raw.overlays).iter().filter(enters).filter_map(|flow| flow.value.group.as_ref());
            let of_ipv6 = groups.into_iter().find(|group| group.value.0.is_ipv6());
            let Some(group) = of_ipv6.filter(|_| mtu.value.get() < least) else { continue };
            let message =
                format!("packets of IPv6 may be {MTU_BYTES_IPV6_MIN} bytes long, and {header} of header");
            self.note(
                Diagnostic::new(Code::Conflict, mtu.span.clone(), message)
                    .label("shorter than that")
                    .related(group.span.clone(), "a group of IPv6 that enters by it")
                    .help(format!("{least} at least, with bit strings of {}", one.bsl.bits())),
            );
        }
    }

    fn overlay(&mut self, at: &At<raw::Overlay>, subdomains: Option<&[Subdomain]>) -> Option<Overlay> {
        let raw = &at.value;
        let (source, group) = (raw.source.as_ref()?, raw.group.as_ref()?);
        if source.value.0.is_ipv4() != group.value.0.is_ipv4() {
            self.note(
                Diagnostic::new(
                    Code::Conflict,
                    group.span.clone(),
                    "source and group are of different families",
                )
                .label("the group")
                .related(source.span.clone(), "the source"),
            );
        }
        let number = raw.subdomain.as_ref()?;
        let id = SubDomain(number.value.get() as u8);
        match (&raw.receivers, &raw.learn) {
            (Some(receivers), Some(learn)) => {
                let message = "receivers are given, and are to be learnt";
                self.note(
                    Diagnostic::new(Code::Conflict, learn.span.clone(), message)
                        .label("to be learnt")
                        .related(receivers.span.clone(), "given")
                        .help("take one of them out"),
                );
            }
            (None, None) if at.sound => {
                let message = "nobody gets this flow";
                self.note(
                    Diagnostic::new(Code::MissingKey, at.span.clone(), message)
                        .label("neither `receivers` nor `learn`")
                        .help("`receivers`: The numbers of the routers that get it."),
                );
            }
            (None, Some(learn)) if (learn.value == Learn::Igmp) != group.value.0.is_ipv4() => {
                let message = format!("no router says by \"{}\" that it listens to this group", learn.value);
                self.note(
                    Diagnostic::new(Code::Conflict, learn.span.clone(), message)
                        .label("of the other family")
                        .related(group.span.clone(), "the group"),
                );
            }
            _ => {}
        }
        if let Some(subdomains) = subdomains {
            let enters = self.entered(number.span.clone(), id, subdomains);
            if let (Some(subdomain), Some(receivers)) = (enters, &raw.receivers) {
                self.reached(receivers, subdomain);
            }
            if let (Some(subdomain), Some(learn)) = (enters, &raw.learn)
                && subdomain.kind == BierKind::BierTe
            {
                let message = "receivers can't be learnt where bits stand for adjacencies";
                self.note(
                    Diagnostic::new(Code::Conflict, learn.span.clone(), message)
                        .label("who listens doesn't say by which tree")
                        .help("name the bits of the tree as `receivers`"),
                );
            }
        }
        Some(Overlay {
            source: source.value.0,
            group: group.value.0,
            subdomain: id,
            receivers: raw.receivers.as_ref().map(|at| at.value.clone()),
        })
    }

    /// That a flow can enter by its sub-domain.
    pub(in crate::check) fn entered<'s>(
        &mut self,
        at: Range<usize>,
        id: SubDomain,
        subdomains: &'s [Subdomain],
    ) -> Option<&'s Subdomain> {
        let Some(subdomain) = subdomains.iter().find(|one| one.id == id) else {
            let numbers: Vec<_> = subdomains.iter().map(|one| one.id.0.to_string()).collect();
            self.unknown("sub-domain", &id.0.to_string(), &at, numbers.iter().map(String::as_str));
            return None;
        };
        if subdomain.bfr_id.is_none() {
            let message = format!("this router has no number in sub-domain {}", id.0);
            self.note(
                Diagnostic::new(Code::Conflict, at, message)
                    .label("packets that begin here name who began them")
                    .help("give the sub-domain a `bfr_id`"),
            );
        }
        Some(subdomain)
    }

    /// That what is told can be told: by a router with a number, to routers with numbers that there is a way to.
    pub(super) fn reports(&mut self, raw: &raw::Subdomain, subdomain: &Subdomain) {
        let Some(to) = &raw.report_to else { return };
        if subdomain.kind == BierKind::BierTe || subdomain.bfr_id.is_none() {
            let message = "routers are told by routers that have a number";
            self.note(
                Diagnostic::new(Code::Conflict, to.span.clone(), message)
                    .label("who would say so?")
                    .help("give the sub-domain a `bfr_id`, and kind \"bier\""),
            );
            return;
        }
        self.reached(to, subdomain);
    }

    /// That there is a way to all of them.
    fn reached(&mut self, receivers: &At<model::BfrIds>, subdomain: &Subdomain) {
        self.have_ways(receivers.value.iter(), &receivers.span, subdomain);
    }

    /// That there is a way to each of these.
    pub(in crate::check) fn have_ways(
        &mut self,
        receivers: impl IntoIterator<Item = BfrId>,
        span: &Range<usize>,
        subdomain: &Subdomain,
    ) {
        if subdomain.topology.is_some() || subdomain.kind == BierKind::BierTe {
            // The file knows them; and what bits stand for elsewhere in a tree is for other routers to know.
            return;
        }
        let known: BTreeSet<_> = subdomain
            .rows
            .iter()
            .flat_map(|row| row.bfr_ids.iter().copied())
            .chain(subdomain.bfr_id)
            .collect();
        let strangers: Vec<_> =
            receivers.into_iter().filter(|id| !known.contains(id)).map(|id| id.to_string()).collect();
        if !strangers.is_empty() {
            let message = format!("there is no way to {}", strangers.join(", "));
            self.note(
                Diagnostic::new(Code::UnknownName, span.clone(), message)
                    .label("in no row")
                    .help("add them to the row of the neighbour that leads to them"),
            );
        }
    }

    pub(super) fn listeners(&mut self, file: &raw::File, raw: &raw::Bier) -> Option<Vec<Listener>> {
        let list = items(&raw.listeners);
        let groups = list.iter().filter_map(|one| one.value.group.as_ref());
        self.unique("the group", groups.map(|group| (group.value.0, group.span.clone())));
        let (interfaces, own) = (interfaces(file), own(file));
        let near: Vec<_> = own.iter().collect();
        let known = self.addresses_known(file);
        all(list.iter().map(|at| {
            let raw = &at.value;
            if raw.ports.is_none() && raw.next_hops.is_none() && at.sound {
                self.note(
                    Diagnostic::new(Code::MissingKey, at.span.clone(), "nobody listens here")
                        .label("neither `ports` nor `next_hops`")
                        .help("name networks, neighbours, or both"),
                );
            }
            let ports = items(&raw.ports);
            self.unique("the network", ports.iter().map(|at| (at.value.clone(), at.span.clone())));
            let ports = self.networks(&interfaces, ports);
            let hops = items(&raw.next_hops);
            self.unique("the next hop", hops.iter().map(|at| (at.value.0, at.span.clone())));
            let next_hops = all(hops.iter().map(|hop| {
                self.not_ours(hop.value.0, &own, "the next hop", &hop.span)?;
                let interface = self.on_link(hop.value.0, &near, known, "the next hop", &hop.span)?;
                Some((hop.value.0, interface))
            }));
            Some(Listener { group: raw.group.as_ref()?.value.0, ports: ports?, next_hops: next_hops? })
        }))
    }

    /// Where Ethernet frames go.
    pub(super) fn ethernet_ports(
        &mut self,
        file: &raw::File,
        raw: &raw::Subdomain,
    ) -> Option<Vec<Interface>> {
        let ports = items(&raw.ethernet_ports);
        self.unique("the network", ports.iter().map(|at| (at.value.clone(), at.span.clone())));
        self.networks(&interfaces(file), ports)
    }

    pub(super) fn labels(&mut self, raw: &raw::Subdomain) -> Option<Vec<BierLabel>> {
        let rows = items(&raw.labels);
        let of = |row: &raw::BierLabel| row.bfir_id.as_ref().map_or(0, |id| id.value.get());
        let given = rows.iter().filter_map(|at| {
            let label = at.value.label.as_ref()?;
            Some(((of(&at.value), label.value.get()), label.span.clone()))
        });
        let mut firsts = BTreeMap::new();
        for (key, span) in given {
            match firsts.get(&key) {
                Some(first) => self.duplicate(
                    format!("the label {} of one router is given twice", key.1),
                    span,
                    Range::clone(first),
                ),
                None => _ = firsts.insert(key, span),
            }
        }
        all(rows.iter().map(|at| {
            let bfir_id = BfrId::new(of(&at.value) as u16);
            Some(BierLabel { label: at.value.label.as_ref()?.value.get(), bfir_id })
        }))
    }

    /// The networks of these names; `None` where there is none of a name.
    fn networks(
        &mut self,
        interfaces: &[(String, Interface)],
        names: &[At<model::Name>],
    ) -> Option<Vec<Interface>> {
        all(names.iter().map(|at| self.network(interfaces, at)))
    }

    /// The network of this name.
    pub(in crate::check) fn network(
        &mut self,
        interfaces: &[(String, Interface)],
        at: &At<model::Name>,
    ) -> Option<Interface> {
        let found = interfaces.iter().find(|(name, _)| name == at.value.as_str());
        if found.is_none() && self.sound("port") {
            let names = interfaces.iter().map(|(name, _)| name.as_str());
            self.unknown("network", at.value.as_str(), &at.span, names);
        }
        Some(found?.1)
    }

    pub(super) fn queriers(&mut self, file: &raw::File, raw: &raw::Bier) -> Option<Vec<Querier>> {
        let list = items(&raw.queriers);
        let ports = list.iter().flat_map(|one| items(&one.value.ports));
        self.unique("the querier of", ports.map(|at| (at.value.clone(), at.span.clone())));
        let interfaces = interfaces(file);
        all(list.iter().map(|one| {
            let raw = &one.value;
            let ports = self.networks(&interfaces, items(&raw.ports));
            let (interval, response) = (raw.query_interval_seconds.as_ref()?, raw.response_ms.as_ref()?);
            // RFC 9776 section 8.3.
            if response.value.get() >= interval.value.get().saturating_mul(1000) {
                let (at, other) = if response.given {
                    (response.span.clone(), interval.span.clone())
                } else {
                    (interval.span.clone(), response.span.clone())
                };
                let message = "hosts would still be answering when they are asked again";
                let mut conflict = Diagnostic::new(Code::Conflict, at, message)
                    .label(format!(
                        "{} s to ask, {} ms to answer",
                        interval.value.get(),
                        response.value.get()
                    ))
                    .help("`response_ms` has to be less than `query_interval_seconds`");
                if response.given && interval.given {
                    conflict = conflict.related(other, "the interval");
                }
                self.note(conflict);
            }
            Some(Querier {
                ports: ports?,
                robustness: raw.robustness.as_ref()?.value.get() as u8,
                query_interval_seconds: interval.value.get(),
                response_ms: response.value.get(),
                last_member_ms: raw.last_member_ms.as_ref()?.value.get(),
            })
        }))
    }
}

/// All networks that have a name: `lan`, `lan.20`, `lan.100.20`.
pub(in crate::check) fn interfaces(file: &raw::File) -> Vec<(String, Interface)> {
    let mut list = Vec::new();
    for (at, port) in items(&file.ports).iter().enumerate() {
        let Some(name) = &port.value.name else { continue };
        let port_index = PortIndex(at);
        list.push((name.value.to_string(), Interface { port: port_index, vlan: None }));
        for tag in items(&port.value.vlans).iter().filter_map(|vlan| crate::check::network::tag(&vlan.value))
        {
            let interface = Interface { port: port_index, vlan: Some(tag) };
            list.push((format!("{}.{tag}", name.value), interface));
        }
    }
    list
}
