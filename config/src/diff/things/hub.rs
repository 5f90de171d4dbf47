//! The content hub: sessions, store and threads are made at the start, so that all of it needs a restart.

use super::{Thing, interface_of, list, live, text};
use crate::diff::What;
use crate::model::*;

pub(super) fn hub_of(config: &Config, other: &Config, hub: &Hub, each: &mut dyn FnMut(What, String, Thing)) {
    let Hub {
        id,
        store_path,
        budget_bytes,
        reserve_bytes,
        late_join,
        http_listen,
        trusted_keys,
        signing_key,
        accept,
        sites,
    } = hub;
    let mut thing = live([]).fixed([
        ("id", text(id)),
        ("store_path", text(store_path.display())),
        ("budget_bytes", text(budget_bytes)),
        ("reserve_bytes", text(reserve_bytes)),
        ("late_join_seconds", text(late_join.as_secs())),
        ("trusted_keys", list(trusted_keys)),
    ]);
    if let Some(listen) = http_listen {
        thing = thing.fixed([("http_listen", text(listen))]);
    }
    if let Some(key) = signing_key {
        thing = thing.fixed([("signing_key", text(key))]);
    }
    each(What::Hub, String::new(), at_start(thing));
    accept.iter().for_each(|accept| accept_of(config, other, accept, each));
    sites.iter().for_each(|site| site_of(config, other, site, each));
}

fn accept_of(config: &Config, other: &Config, accept: &HubAccept, each: &mut dyn FnMut(What, String, Thing)) {
    let HubAccept { by, group, source, profile, sender, tsi } = accept;
    let mut name = text(group);
    if let Some(source) = source {
        name += &format!(" from {source}");
    }
    if let Some(session) = sender.or(*tsi) {
        name += &format!(" {session}");
    }
    let thing = live([]).fixed([("profile", text(profile))]);
    let thing = match by {
        HubIntake::Bier(subdomain) => thing.fixed([("subdomain", text(subdomain.0))]),
        HubIntake::Multicast(interface) => network(thing, config, other, *interface),
    };
    each(What::HubAccept, name, at_start(thing));
}

fn site_of(config: &Config, other: &Config, site: &HubSite, each: &mut dyn FnMut(What, String, Thing)) {
    let HubSite {
        name,
        flute,
        carriage,
        group,
        source,
        ttl,
        rate_bits_per_second,
        straggler_bits_per_second,
        nodes,
    } = site;
    let thing = live([]);
    let (word, thing) = match carriage {
        HubCarriage::Ethernet(interface) => {
            (CarriageWord::Ethernet, network(thing, config, other, *interface))
        }
        HubCarriage::IpMulticast(interface) => {
            (CarriageWord::IpMulticast, network(thing, config, other, *interface))
        }
        HubCarriage::Bier(subdomain) => (CarriageWord::Bier, thing.fixed([("subdomain", text(subdomain.0))])),
    };
    let profile = if flute.is_some() { HubProfile::Flute } else { HubProfile::Norm };
    let facts = [
        ("profile", text(profile)),
        ("carriage", text(word)),
        ("group", text(group.ip())),
        ("udp_port", text(group.port())),
        ("address", text(source.ip())),
        ("feedback_port", text(source.port())),
        ("ttl", text(ttl)),
        ("rate_bits_per_second", text(rate_bits_per_second)),
    ];
    let mut thing = thing.fixed(facts);
    match flute {
        None => {
            let straggler = text(straggler_bits_per_second);
            thing = thing.fixed([("straggler_bits_per_second", straggler)]);
        }
        Some(HubFlute { tsi, passes, overhead_percent }) => {
            let code = if overhead_percent.is_some() { HubCode::RaptorQ } else { HubCode::None };
            let facts = [("tsi", text(tsi)), ("code", text(code)), ("passes", text(passes))];
            thing = thing.fixed(facts);
            if let Some(overhead) = overhead_percent {
                thing = thing.fixed([("overhead_percent", text(overhead))]);
            }
        }
    }
    each(What::HubSite, text(name), at_start(thing));
    for HubNode { id, address, bfr_id, mac, groups } in nodes {
        let mut node = live([]).fixed([("address", text(address)), ("groups", list(groups))]);
        if let Some(bfr_id) = bfr_id {
            node = node.fixed([("bfr_id", text(bfr_id))]);
        }
        if let Some(mac) = mac {
            node = node.fixed([("mac", text(mac))]);
        }
        each(What::HubNode, format!("{name} {id}"), at_start(node));
    }
}

/// Adds a network, which stays the same one when its port is called something else.
fn network(thing: Thing, config: &Config, other: &Config, interface: Interface) -> Thing {
    let port = config.port(interface.port);
    let renamed = other.ports.iter().any(|known| known.device == port.device && known.name != port.name);
    let fact = [("port", interface_of(config, interface))];
    if renamed { thing.and(fact) } else { thing.fixed(fact) }
}

/// It neither comes nor goes while the appliance runs.
fn at_start(thing: Thing) -> Thing {
    Thing { add_restarts: true, remove_restarts: true, ..thing }
}
