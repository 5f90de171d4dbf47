//! What zones say, written down plainly: lists of labels, linear searches, no table.

use std::collections::BTreeSet;

use millrace_fastpath::dns::{Readiness, Role};
use millrace_fastpath::tables::names::{RecordData, WireName, Zone};
use millrace_fastpath::tables::services::ServiceId;

use super::fixture::readiness;
use super::oracle::Rr;

/// What a query of class IN without oddities comes to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Expected {
    NotOurs,
    Deferred(ServiceId),
    Reply {
        rcode: u16,
        authoritative: bool,
        answers: BTreeSet<Rr>,
        authorities: BTreeSet<Rr>,
        wakes: Option<ServiceId>,
    },
}

fn labels(wire: &[u8]) -> Vec<Vec<u8>> {
    let mut labels = Vec::new();
    let mut rest = wire;
    while rest[0] != 0 {
        let (label, after) = rest[1..].split_at(usize::from(rest[0]));
        labels.push(label.to_ascii_lowercase());
        rest = after;
    }
    labels
}

fn ends_with(name: &WireName, suffix: &[Vec<u8>]) -> bool {
    labels(name.as_bytes()).ends_with(suffix)
}

fn wire(labels: &[Vec<u8>]) -> Vec<u8> {
    [labels.iter().flat_map(|l| [&[l.len() as u8], &l[..]].concat()).collect(), vec![0]].concat()
}

/// A record without its owner: type, TTL, data.
type Data = (u16, u32, Vec<u8>);

/// What one name has, before aliases are followed.
enum Has<'a> {
    /// It is in none of the zones.
    Foreign,
    /// It doesn't exist in this zone.
    Nothing(&'a Zone),
    /// It exists, or a wildcard does in its place.
    Records { zone: &'a Zone, all: Vec<Data>, wildcard: bool, service: Option<ServiceId> },
}

fn soa_data(zone: &Zone) -> Vec<u8> {
    let soa = &zone.soa;
    [
        soa.primary.as_bytes(),
        soa.contact.as_bytes(),
        &soa.serial.to_be_bytes(),
        &soa.refresh_seconds.to_be_bytes(),
        &soa.retry_seconds.to_be_bytes(),
        &soa.expire_seconds.to_be_bytes(),
        &soa.minimum_ttl_seconds.to_be_bytes(),
    ]
    .concat()
}

fn zone_of<'a>(zones: &'a [Zone], name: &[Vec<u8>]) -> Option<&'a Zone> {
    let around = zones.iter().filter(|zone| name.ends_with(&labels(zone.apex.as_bytes())));
    around.max_by_key(|zone| zone.apex.as_bytes().len())
}

fn exists(zones: &[Zone], name: &[Vec<u8>]) -> bool {
    zones.iter().any(|zone| {
        ends_with(&zone.apex, name)
            || zone.records.iter().any(|record| ends_with(&record.owner, name))
            || zone.bindings.iter().any(|binding| ends_with(&binding.name, name))
    })
}

fn records_at(zone: &Zone, name: &[Vec<u8>]) -> (Vec<Data>, Option<ServiceId>) {
    let folded = wire(name);
    let mut all: Vec<Data> = Vec::new();
    for record in zone.records.iter().filter(|record| record.owner.as_bytes() == folded) {
        let (kind, data) = match &record.data {
            RecordData::A(addr) => (1, addr.octets().to_vec()),
            RecordData::Ns(name) => (2, name.as_bytes().to_vec()),
            RecordData::Cname(name) => (5, name.as_bytes().to_vec()),
            RecordData::Txt(strings) => {
                (16, strings.iter().flat_map(|s| [&[s.len() as u8], &s[..]].concat()).collect())
            }
            RecordData::Aaaa(addr) => (28, addr.octets().to_vec()),
            RecordData::Other { kind, data } => (kind.0, data.clone()),
        };
        all.push((kind, record.ttl_seconds, data));
    }
    if zone.apex.as_bytes() == folded {
        all.push((6, zone.ttl_seconds, soa_data(zone)));
    }
    let binding = zone.bindings.iter().find(|binding| binding.name.as_bytes() == folded);
    if let Some(binding) = binding {
        let cold = readiness(binding.service) == Readiness::Cold;
        let ttl = if cold { zone.cold_ttl_seconds } else { zone.ttl_seconds };
        all.extend(binding.v4.iter().map(|addr| (1, ttl, addr.octets().to_vec())));
        all.extend(binding.v6.iter().map(|addr| (28, ttl, addr.octets().to_vec())));
    }
    (all, binding.map(|binding| binding.service))
}

fn look_up<'a>(zones: &'a [Zone], name: &[Vec<u8>]) -> Has<'a> {
    let Some(zone) = zone_of(zones, name) else { return Has::Foreign };
    if exists(zones, name) {
        let (all, service) = records_at(zone, name);
        return Has::Records { zone, all, wildcard: false, service };
    }
    // RFC 4592 section 3.3.1: the closest encloser, and the asterisk label below it.
    let encloser = (1..name.len()).map(|skip| &name[skip..]).find(|parent| exists(zones, parent));
    let source = [&[b"*".to_vec()], encloser.expect("the apex exists")].concat();
    match exists(zones, &source) {
        true => Has::Records { zone, all: records_at(zone, &source).0, wildcard: true, service: None },
        false => Has::Nothing(zone),
    }
}

/// What `zones` say to a query for `name` and `kind`.
pub(crate) fn expect(zones: &[Zone], name: &[u8], kind: u16, role: Role) -> Expected {
    let transit = role == Role::Intercept;
    let mut asked = labels(name);
    let mut answers: BTreeSet<Rr> = BTreeSet::new();
    let mut any_wildcard = false;
    let reply = |rcode, answers, authorities, wakes| Expected::Reply {
        rcode,
        authoritative: !transit && rcode != 5,
        answers,
        authorities,
        wakes,
    };
    let negative = |zone: &Zone| {
        let ttl = zone.ttl_seconds.min(zone.soa.minimum_ttl_seconds);
        BTreeSet::from([(zone.apex.as_bytes().to_vec(), 6, ttl, soa_data(zone))])
    };
    loop {
        let (zone, all, wildcard, service) = match look_up(zones, &asked) {
            Has::Foreign | Has::Nothing(_) if transit => return Expected::NotOurs,
            Has::Foreign if answers.is_empty() => return reply(5, answers, BTreeSet::new(), None),
            Has::Foreign => return reply(0, answers, BTreeSet::new(), None),
            Has::Nothing(zone) => return reply(3, answers, negative(zone), None),
            Has::Records { zone, all, wildcard, service } => (zone, all, wildcard, service),
        };
        any_wildcard |= wildcard;
        if transit && (any_wildcard || all.is_empty()) {
            return Expected::NotOurs;
        }
        let owner = wire(&asked);
        let alias = all.iter().find(|(of, ..)| *of == 5).filter(|_| ![5, 255].contains(&kind));
        if let Some((_, ttl, target)) = alias {
            answers.insert((owner, 5, *ttl, target.clone()));
            asked = labels(target);
            continue;
        }
        let wakes = service.filter(|_| [1, 28, 64, 65].contains(&kind));
        let lowest = all.iter().filter(|(of, _, _)| *of == kind).map(|(_, ttl, _)| *ttl).min();
        let found: BTreeSet<Rr> = match kind {
            255 if !all.is_empty() => [(owner, 13, zone.ttl_seconds, b"\x07RFC8482\x00".to_vec())].into(),
            _ => all
                .iter()
                .filter(|(of, _, _)| *of == kind)
                .map(|(_, _, data)| (owner.clone(), kind, lowest.unwrap_or(0), data.clone()))
                .collect(),
        };
        let addresses = [1, 28].contains(&kind) && !found.is_empty();
        let defers = wakes.filter(|service| addresses && readiness(*service) == Readiness::Defer);
        let authorities = if found.is_empty() { negative(zone) } else { BTreeSet::new() };
        match defers {
            Some(service) if !any_wildcard => return Expected::Deferred(service),
            // Nobody waits for what a wildcard leads to: it counts as cold.
            Some(_) => answers.extend(
                found.into_iter().map(|(owner, kind, _, data)| (owner, kind, zone.cold_ttl_seconds, data)),
            ),
            None => answers.extend(found),
        }
        return reply(0, answers, authorities, wakes.filter(|_| !any_wildcard));
    }
}
