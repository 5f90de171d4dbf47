//! Functions, and the services that lead to them.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::num::NonZeroU16;
use std::ops::Range;

use super::network::{Own, own};
use super::{Checker, all, items};
use crate::model::{
    Backend, DnsAnswer, FirstPacket, Forwarding, Function, FunctionIndex, Hold, Instances, OnDemand,
    Overflow, Protocol, Service, ServicePort, SourceMode, Target, Trigger, Triggers, Verify,
};
use crate::raw;
use crate::read::At;
use crate::report::{Code, Diagnostic};

impl Checker {
    pub(super) fn functions(&mut self, raw: &raw::File) -> Option<Vec<Function>> {
        let functions = items(&raw.functions);
        let names = functions.iter().filter_map(|function| function.value.name.as_ref());
        self.unique("the function", names.map(|name| (name.value.clone(), name.span.clone())));
        let functions = all(functions.iter().map(|function| self.function(&function.value)));
        if self.sound("function") { functions } else { None }
    }

    fn function(&mut self, raw: &raw::Function) -> Option<Function> {
        let instances = &raw.instances.as_ref()?.value;
        let (min, max) = (instances.min.as_ref()?, instances.max.as_ref()?);
        if min.value.get() > max.value.get() {
            let (min_at, max_at) = ((min.span.clone(), min.given), (max.span.clone(), max.given));
            let (at, other) = if min.given { (min_at, max_at) } else { (max_at, min_at) };
            let mut conflict =
                Diagnostic::new(Code::Conflict, at.0, "`instances.min` is above `instances.max`")
                    .label(format!("{} at least, but {} at most", min.value.get(), max.value.get()));
            if other.1 {
                conflict = conflict.related(other.0, "and this");
            }
            self.note(conflict);
        }
        Some(Function {
            name: raw.name.as_ref()?.value.clone(),
            component: raw.component.as_ref()?.value.0.clone(),
            lifecycle: raw.lifecycle.as_ref()?.value,
            memory_mib: raw.memory_mib.as_ref()?.value.get(),
            deadline: raw.deadline_ms.as_ref()?.value.millis(),
            instances: Instances { min: min.value.get(), max: max.value.get() },
            placement: raw.placement.as_ref()?.value,
        })
    }

    pub(super) fn services(&mut self, raw: &raw::File) -> Option<Vec<Service>> {
        let services = items(&raw.services);
        let names = services.iter().filter_map(|service| service.value.name.as_ref());
        self.unique("the service", names.map(|name| (name.value.clone(), name.span.clone())));
        let bound = services.iter().flat_map(|service| items(&service.value.names));
        self.unique("the DNS name", bound.map(|name| (name.value.clone(), name.span.clone())));
        self.sockets_used_once(raw);
        self.addresses_are_free(raw);
        self.flows_are_told_apart(raw);
        self.names_are_free(raw);
        all(services.iter().map(|service| self.service(raw, service)))
    }

    /// An address may belong to several services, as long as their ports differ.
    fn sockets_used_once(&mut self, raw: &raw::File) {
        let mut seen: BTreeMap<(IpAddr, ServicePort), Range<usize>> = BTreeMap::new();
        for service in items(&raw.services) {
            let ports = items(&service.value.ports);
            self.unique("the port", ports.iter().map(|port| (port.value, port.span.clone())));
            let distinct: BTreeSet<_> = ports.iter().map(|port| port.value).collect();
            for address in items(&service.value.address) {
                let clash = distinct
                    .iter()
                    .find_map(|port| Some((port, seen.get(&(address.value.0, *port))?.clone())));
                if let Some((port, first)) = clash {
                    let message = format!("the address {} with {port} is used twice", address.value.0);
                    self.duplicate(message, address.span.clone(), first);
                    continue;
                }
                seen.extend(distinct.iter().map(|port| ((address.value.0, *port), address.span.clone())));
            }
        }
    }

    /// A service's address must be neither the appliance's own, nor one that DNS answers on at port 53.
    fn addresses_are_free(&mut self, raw: &raw::File) {
        let own = own(raw);
        let listen = raw.dns.as_ref().map_or(&[][..], |dns| items(&dns.value.listen));
        for service in items(&raw.services) {
            let takes_dns = items(&service.value.ports).iter().any(|port| port.value.port.get() == DNS_PORT);
            for address in items(&service.value.address) {
                let addr = address.value.0;
                let clash = match own.iter().find(|own| own.address.addr() == addr) {
                    Some(own) => Some((own.span.clone(), "a port's address")),
                    None => listen
                        .iter()
                        .find(|at| takes_dns && at.value.0 == addr)
                        .map(|at| (at.span.clone(), "DNS listens here")),
                };
                if let Some((first, what)) = clash {
                    self.note(
                        Diagnostic::new(
                            Code::Duplicate,
                            address.span.clone(),
                            format!("the service's address {addr} is taken"),
                        )
                        .label("used again here")
                        .related(first, what)
                        .help("give the service an address of its own"),
                    );
                }
            }
        }
    }

    /// The trigger "flow" doesn't look at ports: its service's addresses must not lead anywhere else.
    fn flows_are_told_apart(&mut self, raw: &raw::File) {
        let listen = raw.dns.as_ref().map_or(&[][..], |dns| items(&dns.value.listen));
        let services = items(&raw.services);
        for (at, service) in services.iter().enumerate() {
            let triggers = items(&service.value.trigger);
            let Some(flow) = triggers.iter().find(|trigger| trigger.value == Trigger::Flow) else { continue };
            let others = services.iter().enumerate().filter(|(other, _)| *other != at);
            let others: Vec<_> = others.flat_map(|(_, other)| items(&other.value.address)).collect();
            for address in items(&service.value.address) {
                let other = others.iter().copied().find(|other| other.value.0 == address.value.0);
                let dns = listen.iter().find(|at| at.value.0 == address.value.0);
                let shared = other
                    .map(|at| (at, "another service has it, too"))
                    .or(dns.map(|at| (at, "DNS listens here")));
                if let Some((first, what)) = shared {
                    let message = format!("by {} alone nobody can tell which is meant", address.value.0);
                    self.note(
                        Diagnostic::new(Code::Conflict, address.span.clone(), message)
                            .label("used again here")
                            .related(first.span.clone(), what)
                            .related(flow.span.clone(), "which looks at no ports")
                            .help("give the service an address of its own, or wake it by \"syn\""),
                    );
                }
            }
        }
    }

    /// Each bound name must lie in a zone, and have no addresses there already.
    fn names_are_free(&mut self, raw: &raw::File) {
        let zones = raw.dns.as_ref().map_or(&[][..], |dns| items(&dns.value.zones));
        let zone_names: Vec<_> =
            zones.iter().filter_map(|zone| Some(&zone.value.name.as_ref()?.value)).collect();
        for name in items(&raw.services).iter().flat_map(|service| items(&service.value.names)) {
            if !zone_names.iter().any(|zone| name.value.is_in(zone)) {
                if self.sound("dns") {
                    let list: Vec<_> = zone_names.iter().map(|zone| format!("`{zone}`")).collect();
                    let help = match list.is_empty() {
                        true => "add a `[dns]` with a zone that contains it".into(),
                        false => format!("zones: {}", list.join(", ")),
                    };
                    let message = format!("`{}` lies in none of the zones", name.value);
                    self.note(
                        Diagnostic::new(Code::OutsideZone, name.span.clone(), message)
                            .label("outside")
                            .help(help),
                    );
                }
                continue;
            }
            let records = zones
                .iter()
                .filter_map(|zone| Some((&zone.value.name.as_ref()?.value, items(&zone.value.records))));
            let taken = records
                .flat_map(|(zone, records)| records.iter().map(move |record| (zone, record)))
                .find(|(zone, record)| {
                    let kind = record.value.kind.as_ref().map(|kind| kind.value);
                    let owner = record.value.name.as_ref();
                    matches!(kind, Some(raw::RecordType::A | raw::RecordType::Aaaa | raw::RecordType::Cname))
                        && owner.is_some_and(|owner| {
                            crate::model::DnsName::parse_in(&owner.value, zone).as_ref() == Ok(&name.value)
                        })
                });
            if let Some((_, record)) = taken {
                self.note(
                    Diagnostic::new(
                        Code::Conflict,
                        name.span.clone(),
                        format!("`{}` has addresses of two kinds", name.value),
                    )
                    .label("bound to a service")
                    .related(record.span.clone(), "has a static address, or is an alias")
                    .help("a name leads either to a service or to fixed addresses"),
                );
            }
        }
    }

    fn service(&mut self, file: &raw::File, at: &At<raw::Service>) -> Option<Service> {
        let raw = &at.value;
        let address = items(&raw.address);
        self.unique("the address", address.iter().map(|at| (at.value.0, at.span.clone())));
        let target = match &raw.function {
            Some(function) => self.on_demand(file, at, function).map(Target::Function),
            None => self.fixed(at).map(Target::Backends),
        };
        self.forwarding(file, raw);
        let quic = self.quic(at);
        Some(Service {
            name: raw.name.as_ref()?.value.clone(),
            names: items(&raw.names).iter().map(|at| at.value.clone()).collect(),
            address: address.iter().map(|at| at.value.0).collect(),
            ports: items(&raw.ports).iter().map(|at| at.value).collect(),
            forwarding: raw.forwarding.as_ref()?.value,
            source: raw.source.as_ref()?.value,
            target: target?,
            quic: quic?,
        })
    }

    /// What packets that reach their instance unchanged ask of it: the service's own address and ports, and, by its
    /// Ethernet address, a place on a network of ours.
    fn forwarding(&mut self, file: &raw::File, raw: &raw::Service) {
        let Some(forwarding) = raw.forwarding.as_ref().filter(|at| at.value != Forwarding::Nat) else {
            return;
        };
        if let Some(function) = &raw.function {
            self.note(
                Diagnostic::new(
                    Code::Conflict,
                    forwarding.span.clone(),
                    "instances of a function listen at ports of their own",
                )
                .label("leaves the port as it is")
                .related(function.span.clone(), "the function")
                .help("write `forwarding = \"nat\"`, or list `backends` that have the service's address"),
            );
        }
        if let Some(source) = raw.source.as_ref().filter(|at| at.value == SourceMode::Appliance) {
            self.note(
                Diagnostic::new(
                    Code::Conflict,
                    source.span.clone(),
                    "answers to the appliance's own address would never reach the client",
                )
                .label("translates the source")
                .related(forwarding.span.clone(), "leaves the packet as it is")
                .help("write `source = \"keep\"`: the instance answers the client itself"),
            );
        }
        if forwarding.value == Forwarding::L2 {
            let own = own(file);
            let own: Vec<&Own> = own.iter().collect();
            let known = self.addresses_known(file);
            for backend in items(&raw.backends).iter().filter_map(|backend| backend.value.address.as_ref()) {
                self.on_link(backend.value.0, &own, known, "the backend", &backend.span);
            }
        }
    }

    /// A service without a function: it needs backends, and nothing that speaks of waking.
    fn fixed(&mut self, at: &At<raw::Service>) -> Option<Vec<Backend>> {
        let raw = &at.value;
        if raw.backends.is_none() && at.sound {
            self.note(
                Diagnostic::new(Code::Conflict, at.span.clone(), "the service leads nowhere")
                    .label("neither `function` nor `backends`")
                    .help("name a function, or list backends"),
            );
        }
        let waking = [
            raw.trigger.as_ref().map(|at| ("trigger", &at.span, at.given)),
            raw.first_packet.as_ref().map(|at| ("first_packet", &at.span, at.given)),
            raw.dns_answer.as_ref().map(|at| ("dns_answer", &at.span, at.given)),
            raw.hold.as_ref().map(|at| ("hold", &at.span, at.given)),
            raw.verify_before_wake.as_ref().map(|at| ("verify_before_wake", &at.span, at.given)),
            raw.idle_reap_seconds.as_ref().map(|at| ("idle_reap_seconds", &at.span, at.given)),
        ];
        for (key, span, _) in
            waking.into_iter().flatten().filter(|(_, _, given)| *given && raw.backends.is_some())
        {
            self.note(
                Diagnostic::new(Code::Conflict, span.clone(), format!("`{key}` needs a function to wake"))
                    .label("the service has none")
                    .help("name a `function`, or take the key out"),
            );
        }
        self.backends(at)
    }

    fn on_demand(
        &mut self,
        file: &raw::File,
        at: &At<raw::Service>,
        function: &At<crate::model::Name>,
    ) -> Option<OnDemand> {
        let raw = &at.value;
        let known = || items(&file.functions).iter().map(|f| f.value.name.as_ref().map(|name| &name.value));
        let index = known().position(|name| name == Some(&function.value));
        if index.is_none() && known().all(|name| name.is_some()) {
            self.unknown(
                "function",
                function.value.as_str(),
                &function.span,
                known().flatten().map(|name| name.as_str()),
            );
        }
        let trigger = self.triggers(at);
        let overflow = self.overflow(at);
        let fallback = match &raw.backends {
            Some(_) => self.backends(at),
            None => Some(Vec::new()),
        };
        if let (Some(answer), Some(trigger)) = (&raw.dns_answer, trigger)
            && answer.value == DnsAnswer::WhenReady
            && !trigger.dns
        {
            self.note(
                Diagnostic::new(
                    Code::Conflict,
                    answer.span.clone(),
                    "an answer can't wait for a query that wakes nothing",
                )
                .label("\"when-ready\" needs the trigger \"dns\""),
            );
        }
        let (first_packet, verify) = (raw.first_packet.as_ref()?, raw.verify_before_wake.as_ref()?);
        if first_packet.value == FirstPacket::Splice && !self.has_tcp(at) && at.sound {
            self.note(
                Diagnostic::new(Code::Conflict, first_packet.span.clone(), "there is nothing to splice")
                    .label("the service has no TCP port"),
            );
        }
        if let Some((needs, help)) = match verify.value {
            Verify::Cookie if first_packet.value != FirstPacket::Splice => Some((
                "\"cookie\" needs `first_packet = \"splice\"`",
                "who was sent a cookie has to be spliced",
            )),
            Verify::Cookie if trigger.is_some_and(|trigger| trigger.flow) => Some((
                "the trigger \"flow\" wakes before a cookie can be answered",
                "write \"second-syn\" to wake for packets that are repeated, or take the trigger out",
            )),
            Verify::SecondSyn | Verify::Cookie
                if trigger.is_some_and(|trigger| !trigger.syn && !trigger.flow) =>
            {
                Some(("this needs the trigger \"syn\" or \"flow\"", "queries prove nothing"))
            }
            _ => None,
        } {
            self.note(
                Diagnostic::new(Code::Conflict, verify.span.clone(), "nothing can be verified")
                    .label(needs)
                    .help(help),
            );
        }
        let hold = &raw.hold.as_ref()?.value;
        Some(OnDemand {
            function: FunctionIndex(index?),
            trigger: trigger?,
            first_packet: first_packet.value,
            verify: verify.value,
            dns_answer: raw.dns_answer.as_ref()?.value,
            hold: Hold {
                packets: hold.packets.as_ref()?.value.get(),
                deadline: hold.deadline_ms.as_ref()?.value.millis(),
                overflow: overflow?,
            },
            idle_reap: raw.idle_reap_seconds.as_ref()?.value.seconds(),
            fallback: fallback?,
        })
    }

    fn has_tcp(&self, at: &At<raw::Service>) -> bool {
        items(&at.value.ports).iter().any(|port| port.value.protocol == Protocol::Tcp)
    }

    fn triggers(&mut self, at: &At<raw::Service>) -> Option<Triggers> {
        let raw = &at.value;
        let named = !items(&raw.names).is_empty();
        let ports = raw.ports.as_ref()?;
        let tcp = self.has_tcp(at);
        let Some(given) = &raw.trigger else {
            if !named && !tcp && at.sound {
                self.note(
                    Diagnostic::new(Code::Conflict, ports.span.clone(), "nothing could wake the function")
                        .label("no TCP port")
                        .help("bind a DNS name with `names`, or add a TCP port"),
                );
            }
            return Some(Triggers { dns: named, syn: tcp, flow: false });
        };
        self.unique("the trigger", given.value.iter().map(|at| (at.value, at.span.clone())));
        let mut triggers = Triggers::default();
        for trigger in given.value.iter() {
            let (able, needs) = match trigger.value {
                Trigger::Dns => (named, "`names`"),
                Trigger::Syn => (tcp, "a TCP port"),
                // Every service has addresses.
                Trigger::Flow => (true, "addresses"),
            };
            if !able && at.sound {
                let message = format!("the trigger \"{}\" can't fire", trigger.value);
                self.note(
                    Diagnostic::new(Code::Conflict, trigger.span.clone(), message)
                        .label(format!("the service has no {}", needs.trim_start_matches("a "))),
                );
            }
            match trigger.value {
                Trigger::Dns => triggers.dns = true,
                Trigger::Syn => triggers.syn = true,
                Trigger::Flow => triggers.flow = true,
            }
        }
        Some(triggers)
    }

    fn overflow(&mut self, at: &At<raw::Service>) -> Option<Overflow> {
        let raw = &at.value;
        let overflow = raw.hold.as_ref()?.value.overflow.as_ref()?;
        let udp = items(&raw.ports).iter().find(|port| port.value.protocol == Protocol::Udp);
        match (overflow.value, &raw.backends) {
            (Overflow::Fallback, None) if at.sound => self.note(
                Diagnostic::new(Code::Conflict, overflow.span.clone(), "there is nothing to fall back to")
                    .label("the service has no `backends`")
                    .help("list `backends` that take the traffic, or choose another overflow action"),
            ),
            (Overflow::Fallback, _) => {}
            (_, Some(backends)) => self.note(
                Diagnostic::new(Code::Conflict, backends.span.clone(), "these backends would never be used")
                    .label("beside a function")
                    .help("write `hold = { overflow = \"fallback\" }`, or take out one of the two"),
            ),
            (Overflow::Rst, None) => {
                if let Some(udp) = udp {
                    self.note(
                        Diagnostic::new(Code::Conflict, overflow.span.clone(), "a RST can only answer TCP")
                            .label("for every port of the service")
                            .related(udp.span.clone(), "which has this one"),
                    );
                }
            }
            (Overflow::Upstream | Overflow::Drop, None) => {}
        }
        Some(overflow.value)
    }

    fn backends(&mut self, at: &At<raw::Service>) -> Option<Vec<Backend>> {
        let raw = &at.value;
        let list = raw.backends.as_ref()?;
        let given = || list.value.iter().filter_map(|backend| backend.value.address.as_ref());
        self.unique("the backend", given().map(|at| (at.value.0, at.span.clone())));
        let address = items(&raw.address);
        for at in given() {
            if let Some(own) = address.iter().find(|own| own.value.0 == at.value.0) {
                self.note(
                    Diagnostic::new(Code::Conflict, at.span.clone(), "the service would lead to itself")
                        .label("a backend")
                        .related(own.span.clone(), "and the service's own address"),
                );
            }
        }
        let translated = raw.forwarding.as_ref().is_some_and(|at| at.value == Forwarding::Nat);
        let alone = |v4: bool| {
            address
                .iter()
                .filter(|_| translated)
                .find(|at| at.value.0.is_ipv4() == v4 && !given().any(|b| b.value.0.is_ipv4() == v4))
        };
        for (lonely, family) in [(alone(true), "IPv4"), (alone(false), "IPv6")] {
            if let Some(lonely) = lonely
                && at.sound
            {
                self.note(
                    Diagnostic::new(
                        Code::Conflict,
                        lonely.span.clone(),
                        format!("no backend takes {family}"),
                    )
                    .label("this address")
                    .related(list.span.clone(), format!("none of these is {family}"))
                    .help("translation keeps the family of a packet"),
                );
            }
        }
        all(list.value.iter().map(|backend| {
            Some(Backend {
                address: backend.value.address.as_ref()?.value.0,
                weight: NonZeroU16::new(backend.value.weight.as_ref()?.value.get() as u16)?,
                drain: backend.value.drain.as_ref()?.value,
                server_id: backend.value.server_id.as_ref().map(|id| id.value),
            })
        }))
    }
}

/// The port of DNS, over UDP and TCP (RFC 1035 section 4.2).
const DNS_PORT: u16 = 53;
