//! Zones and their records.

use std::collections::BTreeMap;

use super::{Checker, all, items};
use crate::limits::TXT_BYTES_MAX;
use crate::model::{
    Cookies, Dns, DnsName, PortIndex, RateLimit, Record, RecordData, Roles, Soa, View, ViewIndex, Zone,
};
use crate::raw::{self, RecordType};
use crate::read::At;
use crate::report::{Code, Diagnostic};
use crate::value::ValueError;
use crate::zonefile::record_data;

impl Checker {
    /// `Some(None)` if the file has no `[dns]`.
    pub(super) fn dns(&mut self, raw: &raw::File) -> Option<Option<Dns>> {
        let Some(dns) = &raw.dns else {
            return self.sound("dns").then_some(None);
        };
        let listen = items(&dns.value.listen);
        self.unique("the address", listen.iter().map(|at| (at.value.0, at.span.clone())));
        let intercept = dns.value.intercept.as_ref().map(|at| at.value);
        if intercept == Some(false) && listen.is_empty() && self.sound("dns") {
            self.note(
                Diagnostic::new(Code::Conflict, dns.span.clone(), "nobody could ask these names")
                    .label("neither listens nor intercepts")
                    .help("give an address to `listen` on, or write `intercept = true`"),
            );
        }
        let zones = items(&dns.value.zones);
        let names = zones.iter().filter_map(|zone| Some((&zone.value, zone.value.name.as_ref()?)));
        self.unique(
            "the zone",
            names.map(|(zone, name)| match &zone.view {
                Some(view) => (format!("{}` of the view `{}", name.value, view.value), name.span.clone()),
                None => (name.value.to_string(), name.span.clone()),
            }),
        );
        let views = self.views(raw, &dns.value);
        let zones = all(zones.iter().map(|zone| self.zone(zone, &dns.value)));
        let cookies = self.cookies(&dns.value);
        let rate_limit = dns.value.rate_limit.as_ref().map(|at| rate_limit(&at.value));
        Some(Some(Dns {
            listen: listen.iter().map(|at| at.value.0).collect(),
            intercept: intercept?,
            cookies: cookies?,
            rate_limit: match rate_limit {
                Some(limit) => Some(limit?),
                None => None,
            },
            views: views?,
            zones: zones?,
        }))
    }

    /// `Some(None)` if cookies aren't answered.
    fn cookies(&mut self, raw: &raw::Dns) -> Option<Option<Cookies>> {
        let on = raw.cookies.as_ref()?.value;
        match &raw.cookie_secrets {
            Some(secrets) if on => Some(Some(Cookies::Shared(secrets.value.clone()))),
            Some(secrets) => {
                self.note(
                    Diagnostic::new(
                        Code::Conflict,
                        secrets.span.clone(),
                        "no cookie is made with these secrets",
                    )
                    .label("cookies are off")
                    .help("write `cookies = true` beside it, or take it out"),
                );
                None
            }
            None => Some(on.then_some(Cookies::Own)),
        }
    }

    fn views(&mut self, file: &raw::File, raw: &raw::Dns) -> Option<Vec<View>> {
        let views = items(&raw.views);
        let names = views.iter().filter_map(|view| view.value.name.as_ref());
        self.unique("the view", names.map(|name| (name.value.clone(), name.span.clone())));
        let ports: Vec<_> = items(&file.ports).iter().map(|port| port.value.name.as_ref()).collect();
        all(views.iter().map(|view| {
            let name = view.value.name.as_ref()?;
            if view.sound && view.value.ports.is_none() && view.value.clients.is_none() {
                self.note(
                    Diagnostic::new(Code::Conflict, view.span.clone(), "everybody would be in this view")
                        .label("neither `ports` nor `clients`")
                        .help("say whose view it is, or take it out and `view` out of its zones"),
                );
            }
            let in_use =
                |zone: &At<raw::Zone>| zone.value.view.as_ref().is_some_and(|of| of.value == name.value);
            if self.sound("dns") && !items(&raw.zones).iter().any(in_use) {
                self.note(
                    Diagnostic::new(Code::Conflict, name.span.clone(), "nothing would differ in this view")
                        .label("no zone is in it")
                        .help(format!("write `view = \"{}\"` in a zone, or take the view out", name.value)),
                );
            }
            let on = all(items(&view.value.ports).iter().map(|at| {
                let found = ports.iter().position(|port| port.is_some_and(|port| port.value == at.value));
                if found.is_none() && ports.iter().all(Option::is_some) {
                    let known = ports.iter().flatten().map(|port| port.value.as_str());
                    self.unknown("port", at.value.as_str(), &at.span, known);
                }
                found.map(PortIndex)
            }));
            Some(View {
                name: name.value.clone(),
                ports: on?,
                clients: items(&view.value.clients).iter().map(|at| at.value).collect(),
            })
        }))
    }

    fn view_of(&mut self, zone: &raw::Zone, dns: &raw::Dns) -> Option<Option<ViewIndex>> {
        let Some(view) = &zone.view else { return Some(None) };
        let known: Vec<_> = items(&dns.views).iter().map(|view| view.value.name.as_ref()).collect();
        let found = known.iter().position(|name| name.is_some_and(|name| name.value == view.value));
        if found.is_none() && known.iter().all(Option::is_some) {
            let names = known.iter().flatten().map(|name| name.value.as_str());
            self.unknown("view", view.value.as_str(), &view.span, names);
        }
        found.map(|index| Some(ViewIndex(index)))
    }

    fn zone(&mut self, at: &At<raw::Zone>, dns: &raw::Dns) -> Option<Zone> {
        let raw = &at.value;
        let view = self.view_of(raw, dns);
        if raw.soa.is_none() && raw.file.is_none() && at.sound {
            self.note(
                Diagnostic::new(Code::MissingKey, at.span.clone(), "`dns.zone.soa` is missing")
                    .label("should be in here")
                    .help("`soa`: start of authority; only a zone's `file` could have one instead"),
            );
        }
        let name = &raw.name.as_ref()?.value;
        let ttl = raw.ttl_seconds.as_ref().map(|at| at.value.seconds());
        let mut seen = BTreeMap::new();
        let records = all(items(&raw.records).iter().map(|at| {
            let mut record = self.record(&at.value, name)?;
            record.ttl = at.value.ttl_seconds.as_ref().map(|at| at.value.seconds()).or(ttl)?;
            let key = format!("{} {:?}", record.name, record.data);
            match seen.get(&key) {
                Some(first) => {
                    let message = format!("the zone has this record of `{}` twice", record.name);
                    self.duplicate(message, at.span.clone(), Clone::clone(first));
                }
                None => {
                    seen.insert(key, at.span.clone());
                }
            }
            Some(record)
        }));
        Some(Zone {
            name: name.clone(),
            view: view?,
            soa: match &raw.soa {
                Some(at) => Some(soa(&at.value)?),
                None => None,
            },
            ttl: ttl?,
            cold_ttl: raw.cold_ttl_seconds.as_ref()?.value.seconds(),
            records: records?,
            file: raw.file.as_ref().map(|at| at.value.0.clone()),
        })
    }

    /// Reads a record; its time to live is left to the zone.
    fn record(&mut self, raw: &raw::Record, zone: &DnsName) -> Option<Record> {
        let name = raw.name.as_ref().and_then(|at| {
            let name = self.usable("dns.zone.records.name", at, DnsName::parse_in(&at.value, zone))?;
            if !name.is_in(zone) {
                let message = format!("`{name}` isn't in the zone `{zone}`");
                self.note(
                    Diagnostic::new(Code::OutsideZone, at.span.clone(), message)
                        .label("outside the zone")
                        .help("leave out the final dot to write a name relative to the zone"),
                );
                return None;
            }
            Some(name)
        });
        let kind = raw.kind.as_ref()?;
        let data = raw.data.as_ref()?;
        let parsed = data_of(kind.value, &data.value, zone);
        let parsed = self.usable("dns.zone.records.data", data, parsed);
        let name = name?;
        if kind.value == RecordType::Ns && name != *zone {
            self.note(
                Diagnostic::new(
                    Code::NotBuilt,
                    kind.span.clone(),
                    format!("a delegation of `{name}` isn't built yet"),
                )
                .label("below the zone's apex")
                .help("NS records may only belong to the zone itself: `name = \"@\"`"),
            );
            return None;
        }
        Some(Record { name, ttl: Default::default(), data: parsed? })
    }

    fn usable<T>(&mut self, key: &str, at: &At<String>, parsed: Result<T, ValueError>) -> Option<T> {
        match parsed {
            Ok(value) => Some(value),
            Err(error) => {
                let message = format!("`{key}` has a value that can't be used");
                self.note(
                    Diagnostic::new(Code::BadValue, at.span.clone(), message)
                        .label(error.problem)
                        .help(error.hint),
                );
                None
            }
        }
    }

    pub(super) fn roles(&mut self, raw: &raw::File) -> Option<Roles> {
        let roles = &raw.roles.as_ref()?.value;
        if let Some(dns) = &roles.dns
            && dns.value
            && raw.dns.is_none()
            && self.sound("dns")
        {
            self.note(
                Diagnostic::new(Code::Conflict, dns.span.clone(), "the role `dns` needs names to answer for")
                    .label("there is no `[dns]`")
                    .help("add a `[dns]` with a zone, or take the role out"),
            );
        }
        Some(Roles {
            dns: roles.dns.as_ref().map_or(raw.dns.is_some(), |at| at.value),
            balancer: roles.balancer.as_ref().map_or(!items(&raw.services).is_empty(), |at| at.value),
        })
    }
}

fn soa(raw: &raw::Soa) -> Option<Soa> {
    Some(Soa {
        primary: raw.primary.as_ref()?.value.clone(),
        contact: raw.contact.as_ref()?.value.clone(),
        serial: raw.serial.as_ref()?.value.get(),
        refresh: raw.refresh_seconds.as_ref()?.value.seconds(),
        retry: raw.retry_seconds.as_ref()?.value.seconds(),
        expire: raw.expire_seconds.as_ref()?.value.seconds(),
        minimum_ttl: raw.minimum_ttl_seconds.as_ref()?.value.seconds(),
    })
}

fn data_of(kind: RecordType, data: &str, zone: &DnsName) -> Result<RecordData, ValueError> {
    Ok(match kind {
        RecordType::A => RecordData::A(data.parse().map_err(|_| {
            ValueError::new("not an IPv4 address", "an A record holds one, as in `192.0.2.1`")
        })?),
        RecordType::Aaaa => RecordData::Aaaa(data.parse().map_err(|_| {
            ValueError::new("not an IPv6 address", "an AAAA record holds one, as in `2001:db8::1`")
        })?),
        RecordType::Ns => RecordData::Ns(DnsName::parse_in(data, zone)?),
        RecordType::Txt => {
            if data.is_empty() || data.len() > TXT_BYTES_MAX {
                return Err(ValueError::new(
                    "the text is empty or too long",
                    format!("a TXT record holds 1 to {TXT_BYTES_MAX} bytes"),
                ));
            }
            // One character string holds 255 bytes (RFC 1035 section 3.3); readers join them again.
            RecordData::Txt(data.as_bytes().chunks(255).map(<[u8]>::to_vec).collect())
        }
        RecordType::Cname => RecordData::Cname(DnsName::parse_in(data, zone)?),
        RecordType::Caa
        | RecordType::Https
        | RecordType::Mx
        | RecordType::Ptr
        | RecordType::Srv
        | RecordType::Svcb => {
            let record = record_data(data, kind.as_str(), zone).map_err(|problem| {
                ValueError::new(
                    format!("not the data of such a record: {problem}"),
                    format!("write what a zone file has behind `{kind}`"),
                )
            })?;
            RecordData::Other { type_number: record.type_number, data: record.data.into() }
        }
    })
}

fn rate_limit(raw: &raw::RateLimit) -> Option<RateLimit> {
    let prefix = &raw.per_prefix.as_ref()?.value;
    Some(RateLimit {
        responses_per_second: raw.responses_per_second.as_ref()?.value.get(),
        prefix_v4: prefix.v4.as_ref()?.value.get() as u8,
        prefix_v6: prefix.v6.as_ref()?.value.get() as u8,
        slip: raw.slip.as_ref()?.value.get() as u8,
    })
}
