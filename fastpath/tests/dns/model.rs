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

/// What `zones` say to a query for `name` and `kind`.
pub(crate) fn expect(zones: &[Zone], name: &[u8], kind: u16, role: Role) -> Expected {
    let transit = role == Role::Intercept;
    let asked = labels(name);
    let folded = [asked.iter().flat_map(|l| [&[l.len() as u8], &l[..]].concat()).collect(), vec![0]].concat();
    let around = zones
        .iter()
        .filter(|zone| asked.ends_with(&labels(zone.apex.as_bytes())))
        .max_by_key(|zone| zone.apex.as_bytes().len());
    let Some(zone) = around else {
        let nothing = Expected::Reply {
            rcode: 5,
            authoritative: false,
            answers: BTreeSet::new(),
            authorities: BTreeSet::new(),
            wakes: None,
        };
        return if transit { Expected::NotOurs } else { nothing };
    };
    let apex = zone.apex.as_bytes().to_vec();
    let soa = &zone.soa;
    let soa_data = [
        soa.primary.as_bytes(),
        soa.contact.as_bytes(),
        &soa.serial.to_be_bytes(),
        &soa.refresh_seconds.to_be_bytes(),
        &soa.retry_seconds.to_be_bytes(),
        &soa.expire_seconds.to_be_bytes(),
        &soa.minimum_ttl_seconds.to_be_bytes(),
    ]
    .concat();

    // All that the name has, of any type.
    let mut all: Vec<(u16, u32, Vec<u8>)> = Vec::new();
    for record in zone.records.iter().filter(|record| record.owner.as_bytes() == folded) {
        let (kind, data) = match &record.data {
            RecordData::A(addr) => (1, addr.octets().to_vec()),
            RecordData::Ns(name) => (2, name.as_bytes().to_vec()),
            RecordData::Txt(strings) => {
                (16, strings.iter().flat_map(|s| [&[s.len() as u8], &s[..]].concat()).collect())
            }
            RecordData::Aaaa(addr) => (28, addr.octets().to_vec()),
        };
        all.push((kind, record.ttl_seconds, data));
    }
    if apex == folded {
        all.push((6, zone.ttl_seconds, soa_data.clone()));
    }
    let binding = zone.bindings.iter().find(|binding| binding.name.as_bytes() == folded);
    if let Some(binding) = binding {
        let ttl = if readiness(binding.service) == Readiness::Cold {
            zone.cold_ttl_seconds
        } else {
            zone.ttl_seconds
        };
        all.extend(binding.v4.iter().map(|addr| (1, ttl, addr.octets().to_vec())));
        all.extend(binding.v6.iter().map(|addr| (28, ttl, addr.octets().to_vec())));
    }
    let below = zones.iter().any(|zone| {
        ends_with(&zone.apex, &asked)
            || zone.records.iter().any(|record| ends_with(&record.owner, &asked))
            || zone.bindings.iter().any(|binding| ends_with(&binding.name, &asked))
    });
    let wakes = binding.filter(|_| [1, 28, 64, 65].contains(&kind)).map(|binding| binding.service);
    let lowest = all.iter().filter(|(of, _, _)| *of == kind).map(|(_, ttl, _)| *ttl).min();
    let answers: BTreeSet<Rr> = match kind {
        255 if !all.is_empty() => [(folded, 13, zone.ttl_seconds, b"\x07RFC8482\x00".to_vec())].into(),
        _ => all
            .iter()
            .filter(|(of, _, _)| *of == kind)
            .map(|(_, _, data)| (folded.clone(), kind, lowest.unwrap_or(0), data.clone()))
            .collect(),
    };
    if transit && all.is_empty() {
        return Expected::NotOurs;
    }
    if let Some(service) =
        wakes.filter(|service| !answers.is_empty() && readiness(*service) == Readiness::Defer)
    {
        return Expected::Deferred(service);
    }
    let negative = (apex, 6, zone.ttl_seconds.min(soa.minimum_ttl_seconds), soa_data);
    Expected::Reply {
        rcode: if below { 0 } else { 3 },
        authoritative: !transit,
        authorities: if answers.is_empty() { [negative].into() } else { BTreeSet::new() },
        answers,
        wakes,
    }
}
