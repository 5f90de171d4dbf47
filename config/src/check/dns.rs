//! Zones and their records.

use std::collections::BTreeMap;

use super::{Checker, all, items};
use crate::limits::TXT_BYTES_MAX;
use crate::model::{Dns, DnsName, Record, RecordData, Roles, Soa, Zone};
use crate::raw::{self, RecordType};
use crate::read::At;
use crate::report::{Code, Diagnostic};
use crate::value::ValueError;

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
        let names = zones.iter().filter_map(|zone| zone.value.name.as_ref());
        self.unique("the zone", names.map(|name| (name.value.clone(), name.span.clone())));
        let zones = all(zones.iter().map(|zone| self.zone(&zone.value)));
        dns.value.cookies.as_ref()?;
        Some(Some(Dns {
            listen: listen.iter().map(|at| at.value.0).collect(),
            intercept: intercept?,
            zones: zones?,
        }))
    }

    fn zone(&mut self, raw: &raw::Zone) -> Option<Zone> {
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
            soa: soa(&raw.soa.as_ref()?.value)?,
            ttl: ttl?,
            cold_ttl: raw.cold_ttl_seconds.as_ref()?.value.seconds(),
            records: records?,
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
    })
}
