//! A configuration as things with facts: each key of the file stands here once, with whether it can change while the
//! appliance runs.
//!
//! Every struct of the model is taken apart field by field, so that a new key that nobody has thought about here doesn't
//! compile.

mod bier;
mod hub;

use std::fmt::Display;

use domain::base::iana::Rtype;

use super::What;
use crate::model::*;

/// Something that the configuration says.
pub(super) struct Thing {
    pub(super) facts: Vec<Fact>,
    /// Whether it can't come while the appliance runs.
    pub(super) add_restarts: bool,
    /// Whether it can't go while the appliance runs.
    pub(super) remove_restarts: bool,
}

/// The value of one key.
pub(super) struct Fact {
    pub(super) key: &'static str,
    pub(super) value: String,
    /// Whether it can't change while the appliance runs.
    pub(super) restarts: bool,
}

/// Tells `each` of all things. Zones that `other` has in the same words are told without their records: there may be a
/// million.
pub(super) fn things(config: &Config, other: &Config, each: &mut dyn FnMut(What, String, Thing)) {
    let Config {
        site,
        cores,
        memory,
        ports,
        routes,
        neighbours,
        roles,
        dns,
        functions,
        services,
        nat,
        limits,
        bier,
        hub,
        orchestrator,
        telemetry,
    } = config;
    let one = String::new;
    let Site { name } = site;
    each(What::Site, one(), live([]).fixed([("name", text(name))]));
    each(What::Cores, one(), cores_of(cores));
    let Memory { hugepages, frames_per_port } = memory;
    let facts = [("hugepages", text(hugepages)), ("frames_per_port", text(frames_per_port))];
    each(What::Memory, one(), live([]).fixed(facts));
    ports.iter().for_each(|port| port_of(port, each));
    for Route { to, via, interface } in routes {
        each(What::Route, text(to), live([("via", text(via)), ("port", interface_of(config, *interface))]));
    }
    for StaticNeighbour { address, mac, interface } in neighbours {
        let facts = [("mac", text(mac)), ("port", interface_of(config, *interface))];
        each(What::Neighbour, text(address), live(facts));
    }
    let Roles { dns: answers, balancer } = roles;
    each(What::Roles, one(), live([("dns", text(answers)), ("balancer", text(balancer))]));
    if let Some(dns) = dns {
        dns_of(config, dns, other.dns.as_ref(), each);
    }
    functions.iter().for_each(|function| function_of(function, each));
    services.iter().for_each(|service| each(What::Service, text(&service.name), service_of(config, service)));
    // The port of an answer names the worker that has its flow: another range would send answers to the wrong one.
    let Nat { port_range } = nat;
    each(What::Nat, one(), live([]).fixed([("port_range", text(port_range))]));
    each(What::Limits, one(), limits_of(*limits));
    if let Some(bier) = bier {
        bier::bier_of(config, bier, each);
    }
    if let Some(hub) = hub {
        hub::hub_of(config, other, hub, each);
    }
    orchestrator_of(orchestrator, each);
    each(What::Telemetry, one(), telemetry_of(telemetry));
}

fn cores_of(cores: &Cores) -> Thing {
    let Cores { controller, dataplane, sibling } = cores;
    let set = |CoreRequest { cores, origin: _ }: &CoreRequest| match cores {
        CoreSet::Count(count) => text(count),
        CoreSet::Rest => "rest".to_owned(),
        CoreSet::Cpus(cpus) => format!("cpus {cpus}"),
    };
    let facts = [("controller", set(controller)), ("dataplane", set(dataplane)), ("sibling", text(sibling))];
    live([]).fixed(facts)
}

fn port_of(port: &Port, each: &mut dyn FnMut(What, String, Thing)) {
    let Port { name, device, mtu_bytes, addresses, vlans } = port;
    let facts = [("mtu_bytes", text(mtu_bytes)), ("addresses", list(addresses))];
    each(What::Port, text(name), live(facts).fixed([("device", text(device))]));
    for Vlan { tag, addresses } in vlans {
        each(What::Vlan, format!("{name}.{tag}"), live([("addresses", list(addresses))]));
    }
}

fn interface_of(config: &Config, interface: Interface) -> String {
    let port = &config.port(interface.port).name;
    match interface.vlan {
        None => text(port),
        Some(tag) => format!("{port}.{tag}"),
    }
}

fn dns_of(config: &Config, dns: &Dns, other: Option<&Dns>, each: &mut dyn FnMut(What, String, Thing)) {
    let Dns { listen, intercept, cookies, rate_limit, views, zones } = dns;
    let mut thing = live([("listen", list(listen)), ("intercept", text(intercept))]);
    thing = match cookies {
        None => thing.and([("cookies", text(false))]),
        Some(Cookies::Own) => thing.and([("cookies", text(true))]),
        Some(Cookies::Shared(secrets)) => {
            thing.and([("cookies", text(true)), ("cookie_secrets", text(secrets))])
        }
    };
    if let Some(RateLimit { responses_per_second, prefix_v4, prefix_v6, slip }) = rate_limit {
        thing = thing.and([
            ("rate_limit.responses_per_second", text(responses_per_second)),
            ("rate_limit.per_prefix.v4", text(prefix_v4)),
            ("rate_limit.per_prefix.v6", text(prefix_v6)),
            ("rate_limit.slip", text(slip)),
        ]);
    }
    if !views.is_empty() {
        // Their order, for a client belongs to the first that it fits.
        let names: Vec<_> = views.iter().map(|view| &view.name).collect();
        thing = thing.and([("view", list(&names))]);
    }
    each(What::Dns, String::new(), thing);
    for View { name, ports, clients } in views {
        let ports: Vec<_> = ports.iter().map(|port| &config.port(*port).name).collect();
        each(What::View, text(name), live([("ports", list(&ports)), ("clients", list(clients))]));
    }
    for zone in zones {
        let Zone { name, view: _, soa, ttl, cold_ttl, records, file } = zone;
        let view = view_of(dns, zone);
        // Every view may have its zone of a name.
        let seen = view.map_or(String::new(), |view| format!(" in view {view}"));
        let mut thing = live([]);
        if let Some(Soa { primary, contact, serial, refresh, retry, expire, minimum_ttl }) = soa {
            thing = thing.and([
                ("soa.primary", text(primary)),
                ("soa.contact", text(contact)),
                ("soa.serial", text(serial)),
                ("soa.refresh_seconds", text(refresh.as_secs())),
                ("soa.retry_seconds", text(retry.as_secs())),
                ("soa.expire_seconds", text(expire.as_secs())),
                ("soa.minimum_ttl_seconds", text(minimum_ttl.as_secs())),
            ]);
        }
        thing =
            thing.and([("ttl_seconds", text(ttl.as_secs())), ("cold_ttl_seconds", text(cold_ttl.as_secs()))]);
        if let Some(file) = file {
            thing = thing.and([("file", text(file.display()))]);
        }
        each(What::Zone, format!("{name}{seen}"), thing);
        let same = |other: &Dns| {
            let known =
                |one: &Zone| one.name == *name && view_of(other, one) == view && one.records == *records;
            other.zones.iter().any(known)
        };
        if other.is_some_and(same) {
            continue;
        }
        for Record { name, ttl, data } in records {
            let name = format!("{name} {}{seen}", data_of(data));
            each(What::Record, name, live([("ttl_seconds", text(ttl.as_secs()))]));
        }
    }
}

/// The name of the view that a zone is in.
fn view_of<'a>(dns: &'a Dns, zone: &Zone) -> Option<&'a Name> {
    Some(&dns.views.get(zone.view?.0)?.name)
}

/// Type and data, as in a zone file.
fn data_of(data: &RecordData) -> String {
    match data {
        RecordData::A(address) => format!("A {address}"),
        RecordData::Aaaa(address) => format!("AAAA {address}"),
        RecordData::Ns(name) => format!("NS {name}"),
        RecordData::Cname(name) => format!("CNAME {name}"),
        RecordData::Txt(strings) => {
            let strings = strings.iter().map(|text| format!("\"{}\"", text.escape_ascii()));
            format!("TXT {}", strings.collect::<Vec<_>>().join(" "))
        }
        // As any type can be written (RFC 3597 section 5).
        RecordData::Other { type_number, data } => {
            let hex: String = data.iter().map(|byte| format!("{byte:02x}")).collect();
            format!("{} \\# {} {hex}", Rtype::from_int(*type_number), data.len())
        }
    }
}

fn function_of(function: &Function, each: &mut dyn FnMut(What, String, Thing)) {
    let Function { name, component, lifecycle, memory_mib, deadline, instances, placement } = function;
    let Instances { min, max } = instances;
    let facts = [
        ("component", text(component.display())),
        ("lifecycle", text(lifecycle)),
        ("memory_mib", text(memory_mib)),
        ("deadline_ms", text(deadline.as_millis())),
        ("instances.min", text(min)),
        ("instances.max", text(max)),
        ("placement", text(placement)),
    ];
    each(What::Function, text(name), live(facts));
}

fn service_of(config: &Config, service: &Service) -> Thing {
    let Service { name: _, names, address, ports, forwarding, source, target, health, quic } = service;
    let mut thing = live([
        ("names", list(names)),
        ("address", list(address)),
        ("ports", list(ports)),
        ("forwarding", text(forwarding)),
        ("source", text(source)),
    ]);
    if let Some(Quic { server_id_bytes, current, previous }) = quic {
        let QuicLayout { rotation, nonce_bytes, key } = current;
        thing = thing.and([
            ("quic.rotation", text(rotation)),
            ("quic.server_id_bytes", text(server_id_bytes)),
            ("quic.nonce_bytes", text(nonce_bytes)),
        ]);
        if let Some(key) = key {
            thing = thing.and([("quic.key", text(key))]);
        }
        if let Some(QuicLayout { rotation, nonce_bytes, key }) = previous {
            thing = thing.and([
                ("quic.previous.rotation", text(rotation)),
                ("quic.previous.nonce_bytes", text(nonce_bytes)),
            ]);
            if let Some(key) = key {
                thing = thing.and([("quic.previous.key", text(key))]);
            }
        }
    }
    let backends = match target {
        Target::Backends(backends) => backends,
        Target::Function(on_demand) => {
            let OnDemand {
                function,
                trigger,
                first_packet,
                verify,
                dns_answer,
                hold: Hold { packets, deadline, overflow },
                idle_reap,
                fallback,
            } = on_demand;
            let triggers = [Trigger::Dns, Trigger::Syn, Trigger::Flow];
            let triggers = triggers.into_iter().filter(|which| trigger.contains(*which));
            thing = thing.and([
                ("function", text(&config.function(*function).name)),
                ("trigger", list(&triggers.collect::<Vec<_>>())),
                ("first_packet", text(first_packet)),
                ("verify_before_wake", text(verify)),
                ("dns_answer", text(dns_answer)),
                ("hold.packets", text(packets)),
                ("hold.deadline_ms", text(deadline.as_millis())),
                ("hold.overflow", text(overflow)),
                ("idle_reap_seconds", text(idle_reap.as_secs())),
            ]);
            fallback
        }
    };
    let backend = |Backend { address, weight, drain, server_id }: &Backend| {
        let id = server_id.map_or(String::new(), |id| format!(" server_id {id}"));
        format!("{address} weight {weight}{}{id}", if *drain { " drain" } else { "" })
    };
    if !backends.is_empty() {
        thing = thing.and([("backends", list(&backends.iter().map(backend).collect::<Vec<_>>()))]);
    }
    match health {
        Some(health) => health_of(health, service.on_demand().is_none(), thing),
        None => thing,
    }
}

fn health_of(health: &Health, fixed: bool, mut thing: Thing) -> Thing {
    let Health { check, passive, overflow } = health;
    if let Some(Check { kind, port, interval, timeout, down_after, up_after }) = check {
        thing = match kind {
            CheckKind::Tcp => thing.and([("health.kind", "tcp".to_owned())]),
            CheckKind::Http { path, status } => thing.and([
                ("health.kind", "http".to_owned()),
                ("health.path", text(path)),
                ("health.status", text(status)),
            ]),
        };
        if let Some(port) = port {
            thing = thing.and([("health.port", text(port))]);
        }
        thing = thing.and([
            ("health.interval_ms", text(interval.as_millis())),
            ("health.timeout_ms", text(timeout.as_millis())),
            ("health.down_after", text(down_after)),
            ("health.up_after", text(up_after)),
        ]);
    }
    if let Some(Passive { failures, window, eject, share_percent }) = passive {
        thing = thing.and([
            ("health.passive.failures", text(failures)),
            ("health.passive.window_ms", text(window.as_millis())),
            ("health.passive.eject_ms", text(eject.as_millis())),
            ("health.passive.share_percent", text(share_percent)),
        ]);
    }
    if fixed { thing.and([("health.overflow", text(overflow))]) } else { thing }
}

fn limits_of(limits: Limits) -> Thing {
    let Limits {
        flows_per_worker,
        holds_per_worker,
        holds_per_prefix,
        wakes_per_second,
        wakes_burst,
        neighbours_max,
    } = limits;
    live([
        ("holds_per_prefix", text(holds_per_prefix)),
        ("wakes_per_second", text(wakes_per_second)),
        ("wakes_burst", text(wakes_burst)),
        ("neighbours_max", text(neighbours_max)),
    ])
    // A worker takes its memory at its start.
    .fixed([("flows_per_worker", text(flows_per_worker)), ("holds_per_worker", text(holds_per_worker))])
}

fn orchestrator_of(orchestrator: &Orchestrator, each: &mut dyn FnMut(What, String, Thing)) {
    let Orchestrator { kind, security } = orchestrator;
    let mut thing = live([]);
    match kind {
        OrchestratorKind::Embedded { listen, nodes } => {
            thing = thing.fixed([("kind", "embedded".to_owned()), ("listen", text(listen))]);
            for Node { name, address, kind } in nodes {
                let node = live([]).fixed([("address", text(address)), ("kind", text(kind))]);
                // One that is gone may still have instances, and nobody would be left to stop them.
                each(What::Node, text(name), Thing { remove_restarts: true, ..node });
            }
        }
        OrchestratorKind::Grpc { endpoint } => {
            thing = thing.fixed([("kind", "grpc".to_owned()), ("endpoint", text(endpoint))]);
        }
    }
    thing = match security {
        Security::Plaintext => thing.fixed([("tls", "off".to_owned())]),
        Security::Tls(Tls { cert, key, ca }) => {
            thing.fixed([("tls.cert", text(cert)), ("tls.key", text(key)), ("tls.ca", text(ca))])
        }
    };
    each(What::Orchestrator, String::new(), thing);
}

fn telemetry_of(telemetry: &Telemetry) -> Thing {
    let Telemetry { metrics_listen, control_socket, log } = telemetry;
    live([]).fixed([
        ("metrics_listen", metrics_listen.map_or("none".to_owned(), text)),
        ("control_socket", text(control_socket.display())),
        ("log", text(log)),
    ])
}

type Facts<const N: usize> = [(&'static str, String); N];

/// A thing that can come, go and change while the appliance runs.
fn live<const N: usize>(facts: Facts<N>) -> Thing {
    Thing { facts: Vec::new(), add_restarts: false, remove_restarts: false }.and(facts)
}

impl Thing {
    /// Adds keys that can change while the appliance runs.
    fn and<const N: usize>(mut self, facts: Facts<N>) -> Self {
        self.facts.extend(facts.map(|(key, value)| Fact { key, value, restarts: false }));
        self
    }

    /// Adds keys that can't.
    fn fixed<const N: usize>(mut self, facts: Facts<N>) -> Self {
        self.facts.extend(facts.map(|(key, value)| Fact { key, value, restarts: true }));
        self
    }
}

fn text(value: impl Display) -> String {
    value.to_string()
}

fn list<T: Display>(values: &[T]) -> String {
    let values: Vec<String> = values.iter().map(ToString::to_string).collect();
    format!("[{}]", values.join(", "))
}
