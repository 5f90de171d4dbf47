//! BIER: all of it can change while the appliance runs.

use std::collections::BTreeMap;

use super::{Thing, interface_of, list, live, text};
use crate::diff::What;
use crate::model::*;

pub(super) fn bier_of(config: &Config, bier: &Bier, each: &mut dyn FnMut(What, String, Thing)) {
    let Bier {
        bfr_prefix,
        count_receivers,
        accept_from,
        ipv6_next_header,
        subdomains,
        overlays,
        listeners,
        queriers,
    } = bier;
    each(
        What::Bier,
        String::new(),
        live([
            ("bfr_prefix", text(bfr_prefix)),
            ("count_receivers", text(count_receivers)),
            ("accept_from", list(accept_from)),
            ("ipv6_next_header", text(ipv6_next_header)),
        ]),
    );
    subdomains.iter().for_each(|subdomain| subdomain_of(config, subdomain, each));
    for Overlay { source, group, subdomain, receivers } in overlays {
        let receivers = match receivers {
            Some(receivers) => ("receivers", text(receivers)),
            None => ("learn", text(if group.is_ipv4() { Learn::Igmp } else { Learn::Mld })),
        };
        each(What::Overlay, format!("{source} {group}"), live([("subdomain", text(subdomain.0)), receivers]));
    }
    for Listener { group, ports, next_hops } in listeners {
        let mut thing = live([("ports", networks(config, ports))]);
        if !next_hops.is_empty() {
            let hops: Vec<_> = next_hops.iter().map(|(hop, _)| text(hop)).collect();
            thing = thing.and([("next_hops", list(&hops))]);
        }
        each(What::Listener, text(group), thing);
    }
    for Querier { ports, robustness, query_interval_seconds, response_ms, last_member_ms } in queriers {
        for port in ports {
            let facts = [
                ("robustness", text(robustness)),
                ("query_interval_seconds", text(query_interval_seconds)),
                ("response_ms", text(response_ms)),
                ("last_member_ms", text(last_member_ms)),
            ];
            each(What::Querier, interface_of(config, *port), live(facts));
        }
    }
}

fn networks(config: &Config, ports: &[Interface]) -> String {
    list(&ports.iter().map(|port| interface_of(config, *port)).collect::<Vec<_>>())
}

fn subdomain_of(config: &Config, subdomain: &Subdomain, each: &mut dyn FnMut(What, String, Thing)) {
    let Subdomain {
        id,
        kind,
        bsl,
        bfr_id,
        ecmp_tables,
        encapsulation,
        tunnel,
        bift_ids,
        ttl,
        mtu_bytes,
        report_to,
        report_interval_seconds,
        replies_by,
        ethernet_ports,
        labels,
        neighbours,
        rows,
        topology,
        protection,
        remote_backups,
        adjacencies,
    } = subdomain;
    let mut thing = live([
        ("kind", text(kind)),
        ("bitstring_bits", text(bsl)),
        ("ecmp_tables", text(ecmp_tables)),
        ("encapsulation", text(encapsulation)),
        ("tunnel", text(tunnel)),
        ("bift_id", form(bift_ids)),
        ("ttl", text(ttl)),
        ("report_interval_seconds", text(report_interval_seconds)),
    ]);
    if let Some(report_to) = report_to {
        thing = thing.and([("report_to", text(report_to))]);
    }
    if let Some(replies_by) = replies_by {
        thing = thing.and([("replies_by", text(replies_by.0))]);
    }
    if let Some(mtu_bytes) = mtu_bytes {
        thing = thing.and([("mtu_bytes", text(mtu_bytes))]);
    }
    if !ethernet_ports.is_empty() {
        thing = thing.and([("ethernet_ports", networks(config, ethernet_ports))]);
    }
    if !labels.is_empty() {
        let label = |BierLabel { label, bfir_id }: &BierLabel| match bfir_id {
            Some(bfir_id) => format!("{label} of {bfir_id}"),
            None => text(label),
        };
        thing = thing.and([("labels", list(&labels.iter().map(label).collect::<Vec<_>>()))]);
    }
    if let Some(bfr_id) = bfr_id {
        thing = thing.and([("bfr_id", text(bfr_id))]);
    }
    if let Some(Topology { file, router }) = topology {
        let facts = [
            ("topology", text(file.display())),
            ("router", text(router)),
            ("protection", text(protection)),
            ("remote_backups", text(remote_backups)),
        ];
        thing = thing.and(facts);
    }
    each(What::Subdomain, text(id.0), thing);
    adjacencies_of(config, id.0, adjacencies, each);
    for (at, BierNeighbour { name, address, path, bift_ids }) in neighbours.iter().enumerate() {
        let own = rows.iter().filter(|row| usize::from(row.neighbour.0) == at);
        let row = |row: &millrace_bier::bift::given::Row| {
            let ids = BfrIds::from_iter(row.bfr_ids.iter().copied());
            match row.backup.and_then(|backup| neighbours.get(usize::from(backup.0))) {
                Some(backup) => format!("{ids} backup {}", backup.name),
                None => text(ids),
            }
        };
        let mut thing = live([]);
        if let Some(address) = address {
            thing = thing.and([("address", text(address))]);
        }
        if let Some(interface) = path.interface() {
            thing = thing.and([("port", interface_of(config, interface))]);
        }
        thing = thing.and([("encapsulation", text(path.encapsulation()))]);
        if address.is_some() {
            thing = thing.and([("bift_id", form(bift_ids))]);
        }
        let thing = thing.and([("bfr_ids", list(&own.map(row).collect::<Vec<_>>()))]);
        each(What::BierNeighbour, format!("{} {name}", id.0), thing);
    }
}

/// One thing for each bit.
fn adjacencies_of(
    config: &Config,
    id: u8,
    adjacencies: &[Adjacency],
    each: &mut dyn FnMut(What, String, Thing),
) {
    let mut bits: BTreeMap<_, Vec<&Adjacency>> = BTreeMap::new();
    for one in adjacencies {
        bits.entry((one.si, one.bit)).or_default().push(one);
    }
    for ((si, bit), list) in bits {
        let to = |one: &&Adjacency| match &one.to {
            AdjacencyTo::Connected { address, interface, path, bift_ids, do_not_clear } => {
                let keep = if *do_not_clear { " do_not_clear" } else { "" };
                format!(
                    "connected {address} {} {}{keep} bift_id {}",
                    interface_of(config, *interface),
                    path.encapsulation(),
                    form(bift_ids)
                )
            }
            AdjacencyTo::Routed { address, path, bift_ids } => {
                format!("routed {address} {} bift_id {}", path.encapsulation(), form(bift_ids))
            }
            AdjacencyTo::Decap => "decap".to_owned(),
        };
        let mut thing = live([("adjacencies", super::list(&list.iter().map(to).collect::<Vec<_>>()))]);
        if let Some(seed) = list.first().and_then(|one| one.ecmp_seed) {
            thing = thing.and([("ecmp_seed", text(seed))]);
        }
        each(What::BierAdjacency, format!("{id} si {} bit {}", si.0, bit.number()), thing);
    }
}

fn form(ids: &BiftIdForm) -> String {
    match ids {
        BiftIdForm::Static => "static".to_owned(),
        BiftIdForm::Map(ids) => {
            list(&ids.iter().map(|(si, id)| format!("si {} = {id}", si.0)).collect::<Vec<_>>())
        }
    }
}
