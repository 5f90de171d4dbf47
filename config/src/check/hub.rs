//! The content hub: that what it names is there, and that feedback can be told apart.

use std::net::{IpAddr, SocketAddr};
use std::ops::Range;

use millrace_bier::id::{BfrId, SubDomain};

use super::bier::interfaces;
use super::network::{Own, own};
use super::{Checker, all, items};
use crate::leaf::Group;
use crate::model::{
    Bier, BierKind, CarriageWord, Hub, HubAccept, HubCarriage, HubCode, HubFlute, HubIntake, HubNode,
    HubProfile, HubSite, Interface, Name, Subdomain,
};
use crate::raw;
use crate::read::At;
use crate::report::{Code, Diagnostic};

/// What the hub's keys are held against.
struct Ground<'a> {
    own: Vec<Own>,
    /// Whether all addresses of ours could be read.
    known: bool,
    interfaces: Vec<(String, Interface)>,
    /// BIER; `None` where it couldn't be read.
    bier: Option<Option<&'a Bier>>,
}

impl Checker {
    /// The hub, if there is one; `None` where something of it is wrong. `bier` is `None` where that is.
    pub(super) fn hub(&mut self, file: &raw::File, bier: Option<&Option<Bier>>) -> Option<Option<Hub>> {
        let Some(at) = &file.hub else { return self.sound("hub").then_some(None) };
        let raw = &at.value;
        let ground = Ground {
            own: own(file),
            known: self.addresses_known(file),
            interfaces: interfaces(file),
            bier: bier.map(Option::as_ref),
        };
        let keys = items(&raw.trusted_keys);
        let path = |key: &At<crate::model::SecretRef>| (key.value.to_string(), key.span.clone());
        self.unique("the key", keys.iter().map(path));
        let accept = self.accept(raw, &ground);
        let sites = self.hub_sites(raw, &ground);
        let hub = Hub {
            id: raw.id.as_ref()?.value.get(),
            store_path: raw.store_path.as_ref()?.value.0.clone(),
            budget_bytes: raw.budget_bytes.as_ref()?.value.wide(),
            reserve_bytes: raw.reserve_bytes.as_ref()?.value.wide(),
            late_join: raw.late_join_seconds.as_ref()?.value.seconds(),
            http_listen: raw.http_listen.as_ref().map(|at| at.value.0),
            trusted_keys: keys.iter().map(|key| key.value.clone()).collect(),
            signing_key: raw.signing_key.as_ref().map(|key| key.value.clone()),
            accept: accept?,
            sites: sites?,
        };
        self.sound("hub").then_some(Some(hub))
    }

    fn accept(&mut self, raw: &raw::Hub, ground: &Ground<'_>) -> Option<Vec<HubAccept>> {
        let list = items(&raw.accept);
        let accept = all(list.iter().map(|one| self.accept_one(one, ground)))?;
        let what = |(one, at): (&HubAccept, &At<raw::HubAccept>)| {
            let source = one.source.map_or("anybody".to_owned(), |source| source.to_string());
            // A sender and a session of the same number are two.
            let session = one
                .sender
                .or(one.tsi)
                .map_or("any".to_owned(), |session| format!("{session} of \"{}\"", one.profile));
            (format!("{} from {source}, session {session}", one.group), at.span.clone())
        };
        // A packet is for one of them.
        self.unique("what is accepted,", accept.iter().zip(list).map(what));
        for (one, at) in accept.iter().zip(list).filter(|(one, _)| one.profile == HubProfile::Flute) {
            self.unsigned(one, at, raw);
        }
        Some(accept)
    }

    /// That what comes by FLUTE, which nobody signs, may be taken in.
    fn unsigned(&mut self, accept: &HubAccept, at: &At<raw::HubAccept>, hub: &raw::Hub) {
        let (Some(keys), Some(profile)) = (&hub.trusted_keys, &at.value.profile) else { return };
        let message =
            format!("files that come by FLUTE to {} aren't signed, and none would be taken", accept.group);
        self.note(
            Diagnostic::new(Code::Conflict, profile.span.clone(), message)
                .label("carries no signatures")
                .related(keys.span.clone(), "only what these keys signed is taken")
                .help("have it sent by NORM, or take out `trusted_keys`"),
        );
    }

    fn accept_one(&mut self, at: &At<raw::HubAccept>, ground: &Ground<'_>) -> Option<HubAccept> {
        let raw = &at.value;
        let by = match (&raw.subdomain, &raw.port) {
            (Some(number), None) => {
                let id = SubDomain(number.value.get() as u8);
                self.hub_subdomain(id, &number.span, ground).map(|_| HubIntake::Bier(id))
            }
            (None, Some(port)) => self.network(&ground.interfaces, port).map(HubIntake::Multicast),
            // One that couldn't be read has been reported.
            (None, None) if !at.sound => None,
            (both, _) => {
                let label = if both.is_some() { "both are here" } else { "neither is here" };
                let message = "`hub.accept` takes either `subdomain` or `port`";
                self.note(
                    Diagnostic::new(Code::Conflict, at.span.clone(), message)
                        .label(label)
                        .help("`subdomain` for what comes by BIER, `port` for plain multicast"),
                );
                None
            }
        };
        let profile = raw.profile.as_ref();
        if let (Some(sender), Some(HubProfile::Flute)) = (&raw.sender, profile.map(|at| at.value)) {
            self.of_profile("hub.accept.sender", HubProfile::Norm, &sender.span);
        }
        if let (Some(tsi), Some(HubProfile::Norm)) = (&raw.tsi, profile.map(|at| at.value)) {
            self.of_profile("hub.accept.tsi", HubProfile::Flute, &tsi.span);
        }
        let group = raw.group.as_ref()?;
        if let Some(source) = &raw.source {
            self.one_family(group.value.0, "the source", source.value.0, &source.span);
            self.not_ours(source.value.0, &ground.own, "the source", &source.span)?;
        }
        if profile.is_some_and(|at| at.value == HubProfile::Norm) {
            self.can_answer(by?, group, ground);
        }
        Some(HubAccept {
            by: by?,
            group: SocketAddr::new(group.value.0, raw.udp_port.as_ref()?.value.get() as u16),
            source: raw.source.as_ref().map(|source| source.value.0),
            profile: profile?.value,
            sender: raw.sender.as_ref().map(|sender| sender.value.get()),
            tsi: raw.tsi.as_ref().map(|tsi| tsi.value.get()),
        })
    }

    /// That we have an address to ask from for what is missing.
    fn can_answer(&mut self, by: HubIntake, group: &At<Group>, ground: &Ground<'_>) {
        let is_like = |address: IpAddr| address.is_ipv4() == group.value.0.is_ipv4();
        let (has, what) = match by {
            HubIntake::Bier(_) => {
                let prefix = ground.bier.flatten().map(|bier| bier.bfr_prefix);
                (prefix.is_none_or(is_like), "`bier.bfr_prefix` is of the other family")
            }
            HubIntake::Multicast(interface) => {
                let mut there = ground.own.iter().filter(|own| own.interface == interface);
                let has = there.any(|own| is_like(own.address.addr()));
                (has || !ground.known, "that network has no address of ours of its family")
            }
        };
        if !has {
            let message = format!("what is lost on the way to {} couldn't be asked for", group.value.0);
            self.note(Diagnostic::new(Code::Conflict, group.span.clone(), message).label(what));
        }
    }

    fn of_profile(&mut self, key: &str, profile: HubProfile, span: &Range<usize>) {
        let message = format!("`{key}` belongs to another profile");
        self.note(
            Diagnostic::new(Code::Conflict, span.clone(), message)
                .label(format!("only with \"{profile}\""))
                .help("take it out"),
        );
    }

    fn one_family(&mut self, group: IpAddr, what: &str, address: IpAddr, span: &Range<usize>) {
        if group.is_ipv4() != address.is_ipv4() {
            let message = format!("{what} {address} and the group {group} are of different families");
            self.note(Diagnostic::new(Code::Conflict, span.clone(), message).label("of the other family"));
        }
    }

    /// The sub-domain of this number, if the hub can use it.
    fn hub_subdomain<'a>(
        &mut self,
        id: SubDomain,
        span: &Range<usize>,
        ground: &Ground<'a>,
    ) -> Option<&'a Subdomain> {
        let subdomains = ground.bier?.map_or(&[][..], |bier| &bier.subdomains);
        let subdomain = self.entered(span.clone(), id, subdomains)?;
        if subdomain.kind == BierKind::BierTe {
            let message = format!("the bits of sub-domain {} aren't routers", id.0);
            self.note(
                Diagnostic::new(Code::Conflict, span.clone(), message)
                    .label("of kind \"bier-te\"")
                    .help("the hub needs a sub-domain of kind \"bier\""),
            );
            return None;
        }
        Some(subdomain)
    }

    fn hub_sites(&mut self, raw: &raw::Hub, ground: &Ground<'_>) -> Option<Vec<HubSite>> {
        let list = items(&raw.sites);
        let name = |site: &At<raw::HubSite>| {
            site.value.name.as_ref().map(|name| (name.value.clone(), name.span.clone()))
        };
        self.unique("the site", list.iter().filter_map(name));
        let nodes = list.iter().flat_map(|site| items(&site.value.nodes));
        let ids = nodes.filter_map(|node| node.value.id.as_ref());
        // The ledger knows nodes by nothing else.
        self.unique("the node", ids.map(|id| (id.value.get(), id.span.clone())));
        let sites = all(list.iter().map(|one| self.hub_site(one, ground)))?;
        let source = |(one, at): (&HubSite, &At<raw::HubSite>)| {
            let span = at.value.feedback_port.as_ref().map_or(&at.span, |port| &port.span);
            (one.source, span.clone())
        };
        // Nothing else tells whose feedback it is.
        let (norm, flute): (Vec<_>, Vec<_>) =
            sites.iter().zip(list).partition(|(site, _)| site.flute.is_none());
        self.unique("the feedback's way to", norm.into_iter().map(source));
        let session = |(one, at): (&HubSite, &At<raw::HubSite>)| {
            let tsi = one.flute.map_or(0, |flute| flute.tsi);
            let span = at.value.tsi.as_ref().filter(|tsi| tsi.given).map_or(&at.span, |tsi| &tsi.span);
            (format!("{tsi} from {}", one.source.ip()), span.clone())
        };
        // Receivers tell sessions apart by nothing else (RFC 5651 section 4).
        self.unique("the session", flute.into_iter().map(session));
        self.apart(&sites, list);
        Some(sites)
    }

    /// That no two sites send to one group and port where both are heard: receivers would get the packets of both, at the sum
    /// of their rates.
    fn apart(&mut self, sites: &[HubSite], list: &[At<raw::HubSite>]) {
        let span = |at: usize| list[at].value.group.as_ref().map_or(&list[at].span, |group| &group.span);
        for (at, site) in sites.iter().enumerate() {
            if let Some(first) = sites[..at].iter().position(|other| is_heard_with(other, site)) {
                let message = format!(
                    "the site `{}` sends to {} where `{}` does",
                    site.name, site.group, sites[first].name
                );
                self.duplicate(message, span(at).clone(), span(first).clone());
            }
        }
    }

    fn hub_site(&mut self, at: &At<raw::HubSite>, ground: &Ground<'_>) -> Option<HubSite> {
        let raw = &at.value;
        let carriage = self.hub_carriage(at, ground);
        let word = raw.carriage.as_ref().map(|at| at.value);
        if let Some(ttl) = raw.ttl.as_ref().filter(|ttl| ttl.given)
            && word == Some(CarriageWord::Ethernet)
        {
            let message = "`hub.site.ttl` belongs to another carriage";
            self.note(
                Diagnostic::new(Code::Conflict, ttl.span.clone(), message)
                    .label("frames pass no router")
                    .help("take it out"),
            );
        }
        let group = raw.group.as_ref();
        let source = group.and_then(|group| self.hub_address(at, group.value.0, carriage, ground));
        let nodes = self.hub_nodes(raw, carriage, ground);
        let flute = self.hub_flute(at, word);
        let rate = raw.rate_bits_per_second.as_ref()?;
        let straggler = match &raw.straggler_bits_per_second {
            None => rate.value.wide().div_ceil(10),
            Some(straggler) => {
                if straggler.value.wide() > rate.value.wide() {
                    let message = "a node that can't keep up would get more than all others";
                    self.note(
                        Diagnostic::new(Code::Conflict, straggler.span.clone(), message)
                            .label("more than the site's rate")
                            .related(rate.span.clone(), "the site's rate"),
                    );
                }
                straggler.value.wide()
            }
        };
        let port = |at: &Option<At<crate::leaf::Int<1, 65535>>>| Some(at.as_ref()?.value.get() as u16);
        Some(HubSite {
            name: raw.name.as_ref()?.value.clone(),
            flute: flute?,
            carriage: carriage?,
            group: SocketAddr::new(group?.value.0, port(&raw.udp_port)?),
            source: SocketAddr::new(source?, port(&raw.feedback_port)?),
            ttl: if word == Some(CarriageWord::Ethernet) { 1 } else { raw.ttl.as_ref()?.value.get() as u8 },
            rate_bits_per_second: rate.value.wide(),
            straggler_bits_per_second: straggler,
            nodes: nodes?,
        })
    }

    /// How FLUTE sends to a site; `Some(None)` if it is NORM.
    fn hub_flute(
        &mut self,
        at: &At<raw::HubSite>,
        carriage: Option<CarriageWord>,
    ) -> Option<Option<HubFlute>> {
        let raw = &at.value;
        let profile = raw.profile.as_ref()?.value;
        let named = !items(&raw.nodes).is_empty();
        if !named && (profile == HubProfile::Norm || carriage == Some(CarriageWord::Bier)) {
            self.missing_for(at, "nodes", "those that contents are sent to");
        }
        let (code, overhead) = (raw.code.as_ref()?, raw.overhead_percent.as_ref()?);
        let (tsi, passes) = (raw.tsi.as_ref()?, raw.passes.as_ref()?);
        if profile == HubProfile::Norm {
            let given = [
                ("tsi", tsi.given, &tsi.span),
                ("code", code.given, &code.span),
                ("passes", passes.given, &passes.span),
                ("overhead_percent", overhead.given, &overhead.span),
            ];
            for (key, _, span) in given.into_iter().filter(|(_, given, _)| *given) {
                self.of_profile(&format!("hub.site.{key}"), HubProfile::Flute, span);
            }
            return Some(None);
        }
        if let Some(straggler) = &raw.straggler_bits_per_second {
            self.of_profile("hub.site.straggler_bits_per_second", HubProfile::Norm, &straggler.span);
        }
        if overhead.given && code.value == HubCode::None {
            self.note(
                Diagnostic::new(
                    Code::Conflict,
                    overhead.span.clone(),
                    "`hub.site.overhead_percent` belongs to another code",
                )
                .label("only with \"raptorq\"")
                .help("take it out"),
            );
        }
        let overhead_percent = (code.value == HubCode::RaptorQ).then(|| overhead.value.get());
        Some(Some(HubFlute { tsi: tsi.value.get(), passes: passes.value.get(), overhead_percent }))
    }

    fn hub_carriage(&mut self, at: &At<raw::HubSite>, ground: &Ground<'_>) -> Option<HubCarriage> {
        let raw = &at.value;
        let word = raw.carriage.as_ref()?.value;
        if word == CarriageWord::Bier {
            if let Some(port) = &raw.port {
                let message = "`hub.site.port` belongs to another carriage";
                self.note(
                    Diagnostic::new(Code::Conflict, port.span.clone(), message)
                        .label("BIER finds its ways itself")
                        .help("take it out"),
                );
            }
            let Some(number) = &raw.subdomain else {
                self.missing_for(at, "subdomain", "carriage \"bier\" needs it: the sub-domain of the nodes");
                return None;
            };
            let id = SubDomain(number.value.get() as u8);
            return self.hub_subdomain(id, &number.span, ground).map(|_| HubCarriage::Bier(id));
        }
        if let Some(number) = &raw.subdomain {
            self.of_carriage("subdomain", CarriageWord::Bier, &number.span);
        }
        let Some(port) = &raw.port else {
            self.missing_for(at, "port", "the network of the nodes, as in `port = \"lan\"`");
            return None;
        };
        let interface = self.network(&ground.interfaces, port)?;
        Some(match word {
            CarriageWord::Ethernet => HubCarriage::Ethernet(interface),
            CarriageWord::IpMulticast | CarriageWord::Bier => HubCarriage::IpMulticast(interface),
        })
    }

    fn missing_for(&mut self, at: &At<raw::HubSite>, key: &str, help: &str) {
        if at.sound {
            let message = format!("`hub.site.{key}` is missing");
            self.note(
                Diagnostic::new(Code::MissingKey, at.span.clone(), message)
                    .label("should be in here")
                    .help(help),
            );
        }
    }

    fn of_carriage(&mut self, key: &str, carriage: CarriageWord, span: &Range<usize>) {
        let message = format!("`{key}` belongs to another carriage");
        self.note(
            Diagnostic::new(Code::Conflict, span.clone(), message)
                .label(format!("only with \"{carriage}\""))
                .help("take it out"),
        );
    }

    /// The address of ours that a site's packets come from.
    fn hub_address(
        &mut self,
        at: &At<raw::HubSite>,
        group: IpAddr,
        carriage: Option<HubCarriage>,
        ground: &Ground<'_>,
    ) -> Option<IpAddr> {
        let prefix = ground.bier.flatten().map(|bier| bier.bfr_prefix);
        if let Some(given) = &at.value.address {
            let address = given.value.0;
            self.one_family(group, "the address", address, &given.span);
            let ours = ground.own.iter().any(|own| own.address.addr() == address) || prefix == Some(address);
            if !ours && ground.known && ground.bier.is_some() {
                let message = format!("{address} isn't an address of ours");
                self.note(
                    Diagnostic::new(Code::UnknownName, given.span.clone(), message)
                        .label("no port has it")
                        .help("nodes' feedback comes to it: use one of a port's `addresses`"),
                );
            }
            return Some(address);
        }
        let family = |address: &IpAddr| address.is_ipv4() == group.is_ipv4();
        let found = match carriage? {
            HubCarriage::Bier(_) => prefix.filter(family),
            HubCarriage::Ethernet(interface) | HubCarriage::IpMulticast(interface) => {
                let there = ground.own.iter().filter(|own| own.interface == interface);
                there.map(|own| own.address.addr()).find(family)
            }
        };
        if found.is_none() && ground.known {
            self.missing_for(at, "address", "no address of ours there is of the group's family");
        }
        found
    }

    fn hub_nodes(
        &mut self,
        raw: &raw::HubSite,
        carriage: Option<HubCarriage>,
        ground: &Ground<'_>,
    ) -> Option<Vec<HubNode>> {
        let list = items(&raw.nodes);
        let addresses = list.iter().filter_map(|node| node.value.address.as_ref());
        self.unique("the node's address", addresses.map(|at| (at.value.0, at.span.clone())));
        let bits = list.iter().filter_map(|node| node.value.bfr_id.as_ref());
        self.unique("the node's bit", bits.map(|id| (id.value.get(), id.span.clone())));
        all(list.iter().map(|node| self.hub_node(node, raw, carriage, ground)))
    }

    fn hub_node(
        &mut self,
        at: &At<raw::HubNode>,
        site: &raw::HubSite,
        carriage: Option<HubCarriage>,
        ground: &Ground<'_>,
    ) -> Option<HubNode> {
        let raw = &at.value;
        let groups = items(&raw.groups);
        self.unique("the group", groups.iter().map(|at| (at.value.clone(), at.span.clone())));
        let bfr_id = raw.bfr_id.as_ref().and_then(|id| BfrId::new(id.value.get() as u16));
        let word = site.carriage.as_ref().map(|at| at.value);
        if let Some(mac) = raw.mac.as_ref().filter(|_| word.is_some_and(|it| it != CarriageWord::Ethernet)) {
            self.of_carriage("mac", CarriageWord::Ethernet, &mac.span);
        }
        if let Some(HubCarriage::Bier(id)) = carriage {
            self.hub_bit(at, bfr_id, id, ground);
        }
        let address = raw.address.as_ref()?;
        if let Some(group) = &site.group {
            self.one_family(group.value.0, "the node", address.value.0, &address.span);
        }
        self.not_ours(address.value.0, &ground.own, "the node", &address.span)?;
        if let Some(HubCarriage::Ethernet(interface)) = carriage {
            let there: Vec<_> = ground.own.iter().filter(|own| own.interface == interface).collect();
            self.on_link(address.value.0, &there, ground.known, "the node", &address.span)?;
        }
        Some(HubNode {
            id: raw.id.as_ref()?.value.get(),
            address: address.value.0,
            bfr_id,
            mac: raw.mac.as_ref().map(|mac| mac.value),
            groups: groups.iter().map(|at| at.value.clone()).collect::<Vec<Name>>(),
        })
    }

    /// That a node has a bit, and that there is a way to it.
    fn hub_bit(&mut self, at: &At<raw::HubNode>, bfr_id: Option<BfrId>, id: SubDomain, ground: &Ground<'_>) {
        let subdomains = ground.bier.flatten().map_or(&[][..], |bier| &bier.subdomains);
        let Some(subdomain) = subdomains.iter().find(|one| one.id == id) else { return };
        match (bfr_id, &at.value.bfr_id) {
            (Some(bfr), Some(given)) => self.have_ways([bfr], &given.span, subdomain),
            _ if at.sound => self.note(
                Diagnostic::new(Code::MissingKey, at.span.clone(), "`hub.site.nodes.bfr_id` is missing")
                    .label("should be in here")
                    .help("carriage \"bier\" needs it: the node's bit"),
            ),
            _ => {}
        }
    }
}

/// Whether what one site sends is heard where another's is, by the same sockets.
fn is_heard_with(one: &HubSite, other: &HubSite) -> bool {
    let network = |site: &HubSite| match site.carriage {
        HubCarriage::Ethernet(interface) | HubCarriage::IpMulticast(interface) => Some(interface),
        HubCarriage::Bier(_) => None,
    };
    let shares = |node: &HubNode| other.nodes.iter().any(|known| known.bfr_id == node.bfr_id);
    let meets = match (one.carriage, other.carriage) {
        // Copies go to bits: those without one in common have none of the other's.
        (HubCarriage::Bier(id), HubCarriage::Bier(same)) => id == same && one.nodes.iter().any(shares),
        _ => network(one).is_some_and(|interface| network(other) == Some(interface)),
    };
    meets && one.group == other.group
}
